"""Requests of subjects are noted once, counted against fifteen days, and closed in the end."""

from __future__ import annotations

from datetime import datetime, timedelta
from uuid import uuid4

import pytest

from gatte_pipelines.errors import PermanentError
from gatte_pipelines.privacy.subject_requests import (
    RequestKind,
    RequestState,
    SubjectRequest,
    close_request,
    find_due,
    read_requests,
    transaction_at,
)
from gatte_pipelines.privacy.subjects import UnknownSubjectError
from tests.inbound import AS_OF, NOW
from tests.postgres import TestDatabase
from tests.subjects import Subjects
from tests.webhooks import text_message

DAY = timedelta(days=1)


@pytest.fixture
def subjects(database: TestDatabase) -> Subjects:
    made = Subjects(database)
    made.say(text_message("wamid.a", NOW - 60))
    return made


def test_a_request_is_due_fifteen_days_after_it_was_received(subjects: Subjects) -> None:
    request = subjects.open(RequestKind.EXPORT, subjects.user(), AS_OF - 2 * DAY)
    assert request.due_at == AS_OF + 13 * DAY
    with subjects.database.connect() as connection:
        assert read_requests(connection) == [request]


def test_the_same_request_again_is_that_request(subjects: Subjects) -> None:
    user = subjects.user()
    first = subjects.open(RequestKind.ERASE, user, AS_OF - 2 * DAY)
    assert subjects.open(RequestKind.ERASE, user) == first
    assert subjects.open(RequestKind.EXPORT, user) != first
    with subjects.database.connect() as connection:
        assert len(read_requests(connection)) == 2


def test_a_request_of_a_merged_user_is_that_of_the_one_that_stayed(subjects: Subjects) -> None:
    gone = uuid4()
    subjects.execute(
        "insert into pipeline.user_merges values (:g, :u, :at)", g=gone, u=subjects.user(), at=AS_OF
    )
    assert subjects.open(RequestKind.ERASE, gone).user_id == subjects.user()


def test_an_unknown_person_has_no_request(subjects: Subjects) -> None:
    unknown = uuid4()
    with pytest.raises(UnknownSubjectError, match=str(unknown)):
        subjects.open(RequestKind.EXPORT, unknown)
    with subjects.database.connect() as connection:
        assert read_requests(connection) == []


def test_a_request_of_the_future_is_refused(subjects: Subjects) -> None:
    with pytest.raises(PermanentError, match="future"):
        subjects.open(RequestKind.EXPORT, subjects.user(), AS_OF + DAY)


def test_a_request_waits_until_every_external_task_is_confirmed(subjects: Subjects) -> None:
    request = subjects.open(RequestKind.ERASE, subjects.user())
    subjects.execute(
        "insert into pipeline.external_tasks (task_id, request_id, user_id, system, reference, "
        "state, created_at) values (gen_random_uuid(), :r, :u, 'crm', 'x', 'open', :at)",
        r=request.request_id,
        u=request.user_id,
        at=AS_OF,
    )

    def close() -> RequestState:
        with (
            subjects.database.connect() as connection,
            transaction_at(connection, AS_OF + DAY) as cursor,
        ):
            return close_request(cursor, request.request_id)

    assert close() is RequestState.WAITING_EXTERNAL
    subjects.execute("update pipeline.external_tasks set state = 'confirmed'")
    assert close() is RequestState.DONE
    with subjects.database.connect() as connection:
        assert [one.closed_at for one in read_requests(connection)] == [AS_OF + DAY]
        assert read_requests(connection, only_open=True) == []
    # Closed it stays as it was closed.
    assert close() is RequestState.DONE


def made(due_at: datetime, state: RequestState = RequestState.OPEN) -> SubjectRequest:
    return SubjectRequest(
        request_id=uuid4(),
        user_id=uuid4(),
        kind=RequestKind.EXPORT,
        state=state,
        received_at=due_at - 15 * DAY,
        due_at=due_at,
        closed_at=None,
    )


def test_reminders_name_what_is_late_and_what_soon_will_be_the_most_urgent_first() -> None:
    later, soon, now = made(AS_OF + 6 * DAY), made(AS_OF + 5 * DAY), made(AS_OF)
    late, later_still = made(AS_OF - DAY, RequestState.WAITING_EXTERNAL), made(AS_OF - 2 * DAY)
    done = made(AS_OF - 3 * DAY, RequestState.DONE)
    due = find_due([later, soon, now, late, later_still, done], as_of=AS_OF)
    assert due.overdue == (later_still, late)
    assert due.due_soon == (now, soon)
    assert find_due([soon], as_of=AS_OF, soon=4 * DAY).due_soon == ()
