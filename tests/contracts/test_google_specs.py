"""The stand-in for Google Calendar against Google's own discovery document, over real HTTP."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from gatte_pipelines.sandbox.google_calendar import Exchange, GoogleCalendarStandIn, GoogleFault
from gatte_pipelines.sandbox.google_calendar_api import ROUTES, Route
from gatte_pipelines.sandbox.google_calendar_lists import (
    FORBIDDEN_WITH_SYNC_TOKEN,
    GLOBAL_PARAMETERS,
)
from tests import google_specs
from tests.google_accounts import ask_for_token, bearer, plain_client
from tests.google_specs import GAPS, Gap, errors_of, global_parameters, method_of, query_parameters

if TYPE_CHECKING:
    import httpx

pytestmark = pytest.mark.skipif(google_specs.ARE_MISSING, reason=google_specs.WHY_MISSING)

OURS = "0123456789abcdefghijklmnop"
BODY: dict[str, Any] = {
    "id": OURS,
    "summary": "Demonstração · GATTE · K7Q2M",
    "description": "https://crm.example.com/deal/17",
    "status": "tentative",
    "start": {"dateTime": "2026-03-12T10:00:00-03:00", "timeZone": "America/Sao_Paulo"},
    "end": {"dateTime": "2026-03-12T11:00:00-03:00", "timeZone": "America/Sao_Paulo"},
    "extendedProperties": {"private": {"gatte_appointment_id": "17"}},
    "reminders": {"useDefault": False, "overrides": [{"method": "popup", "minutes": 30}]},
}


@pytest.fixture(scope="module")
def stand_in() -> Iterator[GoogleCalendarStandIn]:
    with GoogleCalendarStandIn(now=lambda: datetime(2026, 3, 10, 11, 30, tzinfo=UTC)) as started:
        yield started


@pytest.fixture(scope="module")
def walk(
    stand_in: GoogleCalendarStandIn, tmp_path_factory: pytest.TempPathFactory
) -> list[Exchange]:
    """What was said on a walk through every endpoint."""
    folder = tmp_path_factory.mktemp("walk")
    with plain_client(headers=bearer(stand_in, folder)) as client:
        _walk(client, stand_in)
    return stand_in.exchanges


def _walk(client: httpx.Client, stand_in: GoogleCalendarStandIn) -> None:
    events = f"{stand_in.url}/calendars/{stand_in.calendar_id}/events"

    def ask(
        method: str, path: str = "", body: Any = None, etag: str = "", **query: Any
    ) -> dict[str, Any]:
        headers = {"if-match": etag} if etag else {}
        answer = client.request(method, events + path, json=body, params=query, headers=headers)
        assert answer.is_success, answer.text
        read: dict[str, Any] = answer.json() if answer.content else {}
        return read

    quiet = {"sendUpdates": "none"}
    own = ask("POST", body=BODY, **quiet)
    naive = {"dateTime": "2026-03-13T10:00:00", "timeZone": "America/Manaus"}
    ask("POST", body={"start": naive, "end": {**naive, "dateTime": "2026-03-13T11:00:00"}}, **quiet)
    ask("GET", f"/{OURS}", timeZone="UTC")
    stand_in.make_all_day(OURS, date(2026, 3, 20))
    etag = stand_in.event(OURS)["etag"]
    moved = {
        "start": {**BODY["start"], "date": None},
        "end": {**BODY["end"], "date": None},
        "description": None,
    }
    changed = ask("PATCH", f"/{OURS}", moved, etag, **quiet)
    assert changed["etag"] != own["etag"]
    ask("PUT", f"/{OURS}", {key: one for key, one in BODY.items() if key != "id"}, **quiet)
    series = stand_in.add_event(datetime(2026, 3, 16, 12, tzinfo=UTC), summary="Semanal")
    instances = stand_in.make_series(series)
    stand_in.cancel_event(instances[1])
    stand_in.retitle_event(instances[2], "Outra")
    stand_in.add_event(date(2026, 4, 1), organizer="outra@example.com", event_type="outOfOffice")
    whole = {"singleEvents": "true", "showDeleted": "true", "maxResults": 3}
    first = ask("GET", timeMin="2026-02-08T11:30:00Z", **whole)
    page = first
    while "nextPageToken" in page:
        token = page["nextPageToken"]
        page = ask("GET", timeMin="2026-02-08T11:30:00Z", pageToken=token, **whole)
    ask("DELETE", f"/{OURS}", etag=ask("GET", f"/{OURS}")["etag"], **quiet)
    delta = ask("GET", syncToken=page["nextSyncToken"], **whole)
    assert delta["items"] == [{"id": OURS, "status": "cancelled"}]
    ask("GET", privateExtendedProperty=["a=1", "b=2"], eventTypes=["default", "outOfOffice"])
    ask("GET", orderBy="updated", showDeleted="true")
    ask("GET", f"/{OURS}")
    fresh = client.get(
        f"{events}/{series}", headers={"if-none-match": stand_in.event(series)["etag"]}
    )
    assert fresh.status_code == 304


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.name)
def test_an_endpoint_knows_and_opens_to_what_the_document_says(route: Route) -> None:
    described = method_of(route.method, route.template)
    assert described is not None
    assert described["id"] == f"calendar.events.{route.name}"
    assert set(query_parameters(described)) == route.parameters
    assert set(described["scopes"]) == route.scopes


def test_the_parameters_of_all_endpoints_are_those_of_the_document() -> None:
    # A selection of fields is not served, and refused.
    assert global_parameters() - GLOBAL_PARAMETERS == {"fields"}
    assert google_specs._excluded_by_sync_token() == set(FORBIDDEN_WITH_SYNC_TOKEN)


def test_every_endpoint_answers_as_the_document_says(walk: list[Exchange]) -> None:
    taken = {(one.method, one.template) for one in walk if one.status in {200, 204}}
    assert {(one.method, one.template) for one in ROUTES} - taken == set()
    assert [error for one in walk for error in errors_of(one)] == []


def inserted(walk: list[Exchange], **changes: Any) -> Exchange:
    """The request that inserted our event, its body changed."""
    right = next(one for one in walk if one.method == "POST" and one.template != "token")
    body = {key: one for key, one in {**BODY, **changes}.items() if one is not None}
    return replace(right, request_body=json.dumps(body).encode())


def _wrong(walk: list[Exchange], gap: Gap) -> Exchange:
    """An exchange that only a stricter judge finds wrong."""
    listed = next(one for one in walk if "syncToken" in dict(one.query))
    token = next(one for one in walk if one.template == "token")
    got = next(one for one in walk if one.method == "GET" and one.status == 200)
    return {
        "errors": replace(got, status=500, body=b"oh no"),
        "the token endpoint": replace(token, request_body=b"grant_type=password"),
        "choices in words": inserted(walk, status="done"),
        "times in words": inserted(walk, start={"timeZone": "America/Sao_Paulo"}),
        "ids in words": inserted(walk, id="XYZ-17"),
        "companions of a sync token": replace(
            listed, query=(*listed.query, ("orderBy", "updated"))
        ),
        "read-only fields": inserted(walk, htmlLink="https://calendar.example.com/17"),
        "what an answer holds": replace(got, body=b'{"id": "abcde", "status": "confirmed"}'),
    }[gap.name]


@pytest.mark.parametrize("gap", GAPS, ids=lambda gap: gap.name)
def test_a_known_gap_of_the_document_is_still_one(walk: list[Exchange], gap: Gap) -> None:
    if not gap.is_stricter:
        assert [error for one in walk for error in errors_of(one, without=gap.name)]
        return
    wrong = _wrong(walk, gap)
    assert errors_of(wrong)
    assert errors_of(wrong, without=gap.name) == []


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        (
            {"start": {"datetime": "2026-03-12T10:00:00-03:00"}},
            "start: additionalProperties datetime",
        ),
        ({"extendedProperties": {"private": {"id": 17}}}, "extendedProperties.private.id: type"),
        ({"end": None}, "required"),
        ({"start": {**BODY["start"], "date": "2026-03-12"}}, "both a day and a moment"),
        ({"start": {"dateTime": "2026-03-12T10:00:00"}}, "neither an offset nor a zone"),
        ({"start": {"dateTime": "12/03/2026 10h"}}, "start.dateTime: pattern"),
        ({"start": {"date": "2026-02-30"}}, "start.date: format"),
        ({"title": "Demonstração"}, "additionalProperties title"),
        ({"sequence": "1"}, "sequence: type"),
        (
            {"recurrence": ["RRULE:FREQ=DAILY"], "start": {"dateTime": "2026-03-12T10:00:00Z"}},
            "zone",
        ),
    ],
)
def test_the_judge_finds_what_is_wrong_in_a_body(
    walk: list[Exchange], changes: dict[str, Any], error: str
) -> None:
    assert errors_of(inserted(walk)) == []
    errors = " ".join(errors_of(inserted(walk, **changes)))
    assert error in errors
    # An error names a place and a rule, never a value.
    assert "Demonstração" not in errors


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"request_headers": frozenset({"accept"})}, "no Authorization"),
        ({"query": (("updatedAfter", "x"),)}, "parameter updatedAfter"),
        ({"query": (("maxResults", "0"),)}, "value of parameter maxResults"),
        ({"query": (("maxResults", "2"), ("maxResults", "2"))}, "parameter maxResults twice"),
        ({"query": (("singleEvents", "True"),)}, "value of parameter singleEvents"),
        ({"query": (("timeMin", "2026-03-10T00:00:00"),)}, "value of parameter timeMin"),
        ({"query": (("orderBy", "id"),)}, "value of parameter orderBy"),
        ({"request_body": b"{}"}, "a body where none is taken"),
        ({"template": "calendars/{calendarId}"}, "no such endpoint"),
        ({"body": b'{"items": [{"id": 17}]}'}, "items.0.id: type"),
        ({"body": b'{"nextPageToken": "a", "nextSyncToken": "b"}'}, "both tokens"),
        ({"body": b"<html>"}, "not 200 with JSON"),
        ({"body": b'{"error": {"code": 403}}', "status": 404}, "no envelope"),
    ],
)
def test_the_judge_finds_what_is_wrong_around_a_list(
    walk: list[Exchange], changes: dict[str, Any], error: str
) -> None:
    right = next(one for one in walk if "timeMin" in dict(one.query))
    assert errors_of(right) == []
    assert error in " ".join(errors_of(replace(right, **changes)))


def test_an_endpoint_that_needs_no_answer_is_judged_by_its_request(walk: list[Exchange]) -> None:
    silent = replace(inserted(walk), status=None, body=b"")
    assert errors_of(silent) == []
    assert errors_of(replace(silent, content_type="text/plain"))


@pytest.mark.parametrize(
    "fault",
    [
        one
        for one in GoogleFault
        if one
        not in {
            GoogleFault.TIMEOUT_BEFORE,
            GoogleFault.TIMEOUT_AFTER,
            GoogleFault.BROKEN_OFF,
            GoogleFault.HTML,
            GoogleFault.BAD_GATEWAY,
        }
    ],
)
def test_failures_come_in_the_vendors_envelope(
    stand_in: GoogleCalendarStandIn, tmp_path: Path, fault: GoogleFault
) -> None:
    stand_in.forget_exchanges()
    stand_in.fail(fault)
    answer = ask_for_token(stand_in, tmp_path)
    if answer.is_success:
        headers = {"authorization": f"Bearer {answer.json()['access_token']}"}
        events = f"{stand_in.url}/calendars/{stand_in.calendar_id}/events"
        with plain_client(headers=headers) as client:
            client.get(events, params={"maxResults": 1})
    assert [error for one in stand_in.exchanges for error in errors_of(one)] == []
    if fault is not GoogleFault.STUCK_PAGES:
        assert (stand_in.exchanges[-1].status or 0) >= 400
