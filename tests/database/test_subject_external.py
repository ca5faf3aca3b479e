"""Other systems forget a person; only a read there confirms it, over real sockets."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from uuid import UUID

import pytest

from gatte_pipelines.errors import ConfigurationError
from gatte_pipelines.http import RetryPolicy, build_client, raise_for_error
from gatte_pipelines.privacy.external import (
    ErasureHook,
    ExternalReport,
    confirm_external_tasks,
    index_hooks,
    plan_external_tasks,
)
from gatte_pipelines.privacy.subject_requests import (
    RequestKind,
    close_request,
    read_requests,
    transaction_at,
)
from tests.inbound import AS_OF, NOW
from tests.postgres import TestDatabase
from tests.subjects import Subjects
from tests.webhooks import text_message

POLICY = RetryPolicy(max_attempts=1)


class Vendor:
    """A stand-in that holds people, and may fall silent after it did what was asked."""

    def __init__(self) -> None:
        self.people: set[str] = set()
        self.requests: list[str] = []
        self.is_silent = False
        self.status: int | None = None
        self._released = threading.Event()
        vendor = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                vendor.requests.append("GET")
                known = self.path.removeprefix("/people/") in vendor.people
                self._answer(vendor.status or (200 if known else 404))

            def do_POST(self) -> None:
                vendor.requests.append("POST")
                if vendor.status is None:
                    vendor.people.discard(self.path.removeprefix("/erase/"))
                if vendor.is_silent:
                    vendor._released.wait(10)
                    return
                self._answer(vendor.status or 200)

            def _answer(self, status: int) -> None:
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def __enter__(self) -> Vendor:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._released.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)

    def hook(self, system: str) -> ErasureHook:
        url = f"http://127.0.0.1:{self._server.server_address[1]}"

        def erase(reference: str) -> None:
            with build_client(url, timeout=0.3, policy=POLICY) as client:
                raise_for_error(client.post(f"/erase/{reference}"))

        def is_erased(reference: str) -> bool:
            with build_client(url, timeout=0.3, policy=POLICY) as client:
                answer = client.get(f"/people/{reference}")
            if answer.status_code == 404:
                return True
            raise_for_error(answer)
            return False

        return ErasureHook(
            system=system,
            plan=lambda _cursor, _users, _leads: sorted(self.people),
            erase=erase,
            is_erased=is_erased,
        )


@pytest.fixture
def vendor() -> Iterator[Vendor]:
    with Vendor() as running:
        running.people = {"pessoa-1"}
        yield running


@pytest.fixture
def other() -> Iterator[Vendor]:
    with Vendor() as running:
        running.people = {"evento-1"}
        yield running


@pytest.fixture
def subjects(database: TestDatabase) -> Subjects:
    made = Subjects(database)
    made.say(text_message("wamid.a", NOW - 60))
    return made


def plan(subjects: Subjects, *hooks: ErasureHook) -> UUID:
    """A request that waits for these systems."""
    request = subjects.open(RequestKind.ERASE, subjects.user())
    with subjects.database.connect() as connection, transaction_at(connection, AS_OF) as cursor:
        for _ in range(2):  # planned twice is planned once
            plan_external_tasks(
                cursor,
                index_hooks(hooks),
                subject_id=request.user_id,
                user_ids=[request.user_id],
                lead_ids=[],
                request_id=request.request_id,
            )
        close_request(cursor, request.request_id)
    return request.request_id


def confirm(subjects: Subjects, *hooks: ErasureHook) -> ExternalReport:
    with subjects.database.connect() as connection:
        return confirm_external_tasks(connection, index_hooks(hooks), as_of=AS_OF)


def tasks(subjects: Subjects) -> list[tuple[Any, ...]]:
    return subjects.rows(
        "select system, reference, state, attempts from pipeline.external_tasks order by system"
    )


def state(subjects: Subjects) -> str:
    with subjects.database.connect() as connection:
        return read_requests(connection)[0].state


def test_what_a_system_erased_is_confirmed_by_a_read_and_its_reference_emptied(
    subjects: Subjects, vendor: Vendor
) -> None:
    request = plan(subjects, vendor.hook("crm"))
    assert tasks(subjects) == [("crm", "pessoa-1", "open", 0)]
    assert state(subjects) == "waiting_external"
    report = confirm(subjects, vendor.hook("crm"))
    assert vendor.requests == ["GET", "POST", "GET"]
    assert (report.tried, report.confirmed, report.waiting, report.problems) == (1, 1, 0, [])
    assert report.closed_requests == (request,)
    assert tasks(subjects) == [("crm", None, "confirmed", 1)]
    assert state(subjects) == "done"
    assert confirm(subjects, vendor.hook("crm")).tried == 0


def test_a_time_out_after_the_effect_is_confirmed_by_the_next_read(
    subjects: Subjects, vendor: Vendor
) -> None:
    plan(subjects, vendor.hook("crm"))
    vendor.is_silent = True
    report = confirm(subjects, vendor.hook("crm"))
    assert (report.confirmed, report.waiting) == (0, 1)
    assert "AmbiguousError" in report.problems[0]
    assert "pessoa-1" not in report.problems[0]
    assert tasks(subjects) == [("crm", "pessoa-1", "open", 1)]
    assert state(subjects) == "waiting_external"

    vendor.requests.clear()
    report = confirm(subjects, vendor.hook("crm"))
    assert vendor.requests == ["GET"]  # nothing was asked to be erased a second time
    assert report.confirmed == 1
    assert tasks(subjects) == [("crm", None, "confirmed", 2)]


def test_one_system_that_fails_does_not_stop_the_others(
    subjects: Subjects, vendor: Vendor, other: Vendor
) -> None:
    hooks = vendor.hook("a_crm"), other.hook("b_calendar")
    plan(subjects, *hooks)
    vendor.status = 503
    report = confirm(subjects, *hooks)
    assert (report.tried, report.confirmed, report.waiting) == (2, 1, 1)
    assert [(row[0], row[2]) for row in tasks(subjects)] == [
        ("a_crm", "open"),
        ("b_calendar", "confirmed"),
    ]
    assert state(subjects) == "waiting_external"
    vendor.status = None
    assert confirm(subjects, *hooks).confirmed == 1
    assert state(subjects) == "done"


def test_a_system_that_is_down_is_asked_once_a_round(subjects: Subjects, vendor: Vendor) -> None:
    vendor.people = {"pessoa-1", "pessoa-2", "pessoa-3"}
    plan(subjects, vendor.hook("crm"))
    vendor.status = 503
    report = confirm(subjects, vendor.hook("crm"))
    assert vendor.requests == ["GET"]
    assert (report.tried, report.waiting) == (1, 3)
    assert "tarefas adiadas: 2" in report.problems[-1]


def test_a_word_without_effect_confirms_nothing(subjects: Subjects, vendor: Vendor) -> None:
    hook = vendor.hook("crm")
    plan(subjects, hook)
    polite = ErasureHook(
        system="crm", plan=hook.plan, erase=lambda _reference: None, is_erased=hook.is_erased
    )
    report = confirm(subjects, polite)
    assert (report.confirmed, report.waiting) == (0, 1)
    assert "ainda consta" in report.problems[0]
    assert tasks(subjects) == [("crm", "pessoa-1", "open", 1)]


def test_a_task_without_a_hook_stays_and_is_told(subjects: Subjects, vendor: Vendor) -> None:
    plan(subjects, vendor.hook("crm"))
    report = confirm(subjects)
    assert (report.tried, report.waiting) == (0, 1)
    assert "nenhum conector" in report.problems[0]
    assert state(subjects) == "waiting_external"


def test_two_hooks_of_one_system_are_refused(vendor: Vendor) -> None:
    with pytest.raises(ConfigurationError, match="crm"):
        index_hooks([vendor.hook("crm"), vendor.hook("crm")])
    with pytest.raises(ConfigurationError, match="landing_files"):
        index_hooks([vendor.hook("landing_files")])
