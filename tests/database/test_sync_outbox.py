"""The outbox: what was begun is known until its result is confirmed, also after a crash."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from uuid import uuid4

import pytest

from gatte_pipelines.sync.outbox import Intent, begin, read_open, settle
from tests.conflicts import AS_OF, Desk, opened
from tests.postgres import TestDatabase

LEAD, OTHER = uuid4(), uuid4()
MINUTE = timedelta(minutes=1)


@pytest.fixture
def desk(database: TestDatabase) -> Iterator[Desk]:
    with opened(database) as desk:
        yield desk


def test_what_was_begun_is_open_and_new(desk: Desk) -> None:
    with desk.cursor() as cursor:
        intent = begin(cursor, "pipedrive", LEAD, "create_lead", now=AS_OF)
    assert intent == Intent(
        system="pipedrive", local_id=LEAD, action="create_lead", begun_at=AS_OF, attempts=1
    )
    assert intent.is_new
    with desk.cursor() as cursor:
        assert read_open(cursor, "pipedrive") == [intent]


def test_a_repeat_keeps_the_first_instant_and_counts_the_attempts(desk: Desk) -> None:
    with desk.cursor() as cursor:
        begin(cursor, "pipedrive", LEAD, "create_lead", now=AS_OF)
    for attempt in (2, 3):
        with desk.cursor() as cursor:
            again = begin(cursor, "pipedrive", LEAD, "create_lead", now=AS_OF + attempt * MINUTE)
        assert (again.begun_at, again.attempts, again.is_new) == (AS_OF, attempt, False)


def test_each_action_of_each_row_and_system_stands_for_itself(desk: Desk) -> None:
    with desk.cursor() as cursor:
        begin(cursor, "pipedrive", LEAD, "create_person", now=AS_OF + MINUTE)
        begin(cursor, "pipedrive", LEAD, "create_lead", now=AS_OF)
        begin(cursor, "pipedrive", OTHER, "create_lead", now=AS_OF + 2 * MINUTE)
        begin(cursor, "google", LEAD, "create_lead", now=AS_OF)
        settle(cursor, "pipedrive", LEAD, "create_lead")
        left = [(each.local_id, each.action) for each in read_open(cursor, "pipedrive")]
        assert left == [(LEAD, "create_person"), (OTHER, "create_lead")], "the oldest first"
        assert len(read_open(cursor, "google")) == 1


def test_what_is_settled_may_be_begun_anew(desk: Desk) -> None:
    with desk.cursor() as cursor:
        begin(cursor, "pipedrive", LEAD, "create_note", now=AS_OF)
        settle(cursor, "pipedrive", LEAD, "create_note")
        settle(cursor, "pipedrive", LEAD, "create_note")
        assert read_open(cursor, "pipedrive") == []
        assert begin(cursor, "pipedrive", LEAD, "create_note", now=AS_OF + MINUTE).is_new


def test_a_result_that_is_rolled_back_leaves_the_call_open(desk: Desk) -> None:
    with desk.cursor() as cursor:
        begin(cursor, "pipedrive", LEAD, "create_lead", now=AS_OF)
    with desk.cursor() as cursor, desk.driver.transaction(force_rollback=True):
        settle(cursor, "pipedrive", LEAD, "create_lead")
    with desk.cursor() as cursor:
        assert len(read_open(cursor, "pipedrive")) == 1
