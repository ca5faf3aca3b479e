"""The client of Google Calendar against its stand-in, and every exchange against the document."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from gatte_pipelines.errors import ConfigurationError
from gatte_pipelines.google_calendar.answers import SCOPE, Meaning, judge
from gatte_pipelines.google_calendar.client import GoogleCalendarClient
from gatte_pipelines.google_calendar.credentials import ServiceAccount
from gatte_pipelines.google_calendar.failures import (
    AccessRefusedError,
    BlockedError,
    CalendarMissingError,
    EventChangedError,
    EventExistsError,
    EventMissingError,
    PagingError,
    RefusedError,
    SyncTokenExpiredError,
    UnreadableAnswerError,
)
from gatte_pipelines.google_calendar.models import (
    CANCELLED,
    CONFIRMED,
    TENTATIVE,
    Event,
    EventChanges,
    EventTime,
    NewEvent,
    read_events,
)
from gatte_pipelines.http import AmbiguousError, RetryableHttpError, RetryPolicy
from gatte_pipelines.json_records import UnreadableError
from gatte_pipelines.sandbox.google_calendar import (
    EXCHANGE_TEMPLATE,
    GoogleCalendarStandIn,
    GoogleFault,
)
from tests.google_specs import (
    ARE_MISSING,
    GAPS,
    WHY_MISSING,
    errors_of,
    global_parameters,
    method_of,
    query_parameters,
)

QUICK = RetryPolicy(max_attempts=3, base_delay_seconds=0.01, max_delay_seconds=0.01)
START = datetime(2026, 3, 10, 11, 30, tzinfo=UTC)
SAO_PAULO = "America/Sao_Paulo"
OURS, OTHER = "adf210800e1011eb879b05d71fb426ec", "f08b42a04e7511ea964303698ef1cfd6"
TITLE = "Demonstração · GATTE · K7Q2M"
SUBJECT = "agenda@example.com"
SAMPLES = Path(__file__).resolve().parents[3] / "shared" / "samples" / "google"
LIST, EVENT = "calendars/{calendarId}/events", "calendars/{calendarId}/events/{eventId}"

needs_document = pytest.mark.skipif(ARE_MISSING, reason=WHY_MISSING)
needs_samples = pytest.mark.skipif(
    not SAMPLES.is_dir(), reason="the sample bodies of ../shared are not there"
)


class Clock:
    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def stand_in(clock: Clock) -> Iterator[GoogleCalendarStandIn]:
    with GoogleCalendarStandIn(now=clock) as started:
        yield started


@pytest.fixture
def client(stand_in: GoogleCalendarStandIn, tmp_path: Path) -> Iterator[GoogleCalendarClient]:
    with opened(stand_in, tmp_path) as it:
        yield it


def opened(
    stand_in: GoogleCalendarStandIn,
    folder: Path,
    *,
    calendar_id: str = "",
    subject: str | None = None,
    key: dict[str, Any] | None = None,
    **options: Any,
) -> GoogleCalendarClient:
    account = ServiceAccount.from_file(
        stand_in.write_credentials(folder / "key.json", **(key or {})),
        subject=subject,
        token_url=stand_in.token_url,
        timeout_seconds=0.3,
        repeats=QUICK,
    )
    options = {"timeout_seconds": 0.3, "repeats": QUICK, "sleep": lambda _: None} | options
    return GoogleCalendarClient(
        stand_in.url, calendar_id or stand_in.calendar_id, account, **options
    )


def at(hour: int, day: int = 12) -> EventTime:
    local = datetime(2026, 3, day, hour, tzinfo=ZoneInfo(SAO_PAULO))
    return EventTime.at(local, SAO_PAULO)


def new(event_id: str = OURS, **changes: Any) -> NewEvent:
    values: dict[str, Any] = {
        "id": event_id,
        "status": TENTATIVE,
        "summary": TITLE,
        "description": "https://crm.example.com/deal/17",
        "start": at(10),
        "end": at(11),
        "private": {"gatte_appointment_id": "17"},
    }
    return NewEvent(**(values | changes))


def etag_of(event: Event) -> str:
    assert event.etag is not None
    return event.etag


def found(client: GoogleCalendarClient, event_id: str = OURS) -> Event:
    event = client.get_event(event_id)
    assert event is not None
    return event


def call_everything(client: GoogleCalendarClient, stand_in: GoogleCalendarStandIn) -> None:
    """Make every call that the client has, each with all that it takes."""
    stand_in.add_event(START + timedelta(days=1), organizer="colega@example.com")
    first = client.iter_events(time_min=START - timedelta(days=30))
    assert len(list(first)) == 1
    assert len(list(client.iter_events())) == 1

    event = client.insert_event(new())
    assert (event.status, event.summary, event.start) == (TENTATIVE, TITLE, at(10))
    assert event.private == {"gatte_appointment_id": "17"}
    assert found(client) == event
    with pytest.raises(EventExistsError):
        client.insert_event(new())

    moved = client.patch_event(
        OURS,
        EventChanges(
            status=CONFIRMED,
            summary=f"{TITLE} 2",
            description=None,
            start=at(14),
            end=at(15),
            private={"gatte_appointment_id": None, "gatte_generation": "2"},
        ),
        etag=etag_of(event),
    )
    assert (moved.status, moved.start, moved.end) == (CONFIRMED, at(14), at(15))
    assert moved.private == {"gatte_generation": "2"}
    assert moved.etag != event.etag
    with pytest.raises(EventChangedError):
        client.patch_event(OURS, EventChanges(summary="x"), etag=etag_of(event))
    with pytest.raises(EventChangedError):
        client.delete_event(OURS, etag=etag_of(event))

    day = EventTime.on(date(2026, 3, 20))
    whole = client.patch_event(
        OURS, EventChanges(start=day, end=EventTime.on(date(2026, 3, 21))), etag=etag_of(moved)
    )
    assert (whole.start, whole.end) == (day, EventTime.on(date(2026, 3, 21)))
    back = client.patch_event(OURS, EventChanges(start=at(9), end=at(10)), etag=etag_of(whole))
    assert back.start == at(9)

    changed = client.iter_events(sync_token=first.next_sync_token)
    assert [one.id for one in changed] == [OURS]
    assert client.delete_event(OURS, etag=etag_of(back)) is True
    assert client.delete_event(OURS) is False
    assert found(client).is_cancelled
    with pytest.raises(EventExistsError):
        client.insert_event(new())
    again = client.iter_events(sync_token=changed.next_sync_token)
    assert [(one.id, one.status) for one in again] == [(OURS, CANCELLED)]

    assert client.get_event(OTHER) is None
    assert client.delete_event(OTHER, etag='"1"') is False
    with pytest.raises(EventMissingError):
        client.patch_event(OTHER, EventChanges(summary="x"), etag='"1"')
    stand_in.expire_access_tokens()
    stand_in.expire_sync_tokens()
    with pytest.raises(SyncTokenExpiredError):
        list(client.iter_events(sync_token=again.next_sync_token))


# --- the document -------------------------------------------------------------------------------


def test_every_call_is_made_within_what_the_stand_in_knows(
    client: GoogleCalendarClient, stand_in: GoogleCalendarStandIn
) -> None:
    call_everything(client, stand_in)
    assert {(one.method, one.template) for one in stand_in.exchanges} == {
        ("POST", EXCHANGE_TEMPLATE),
        ("GET", LIST),
        ("GET", EVENT),
        ("POST", LIST),
        ("PATCH", EVENT),
        ("DELETE", EVENT),
    }
    assert stand_in.unknown_parameters == []
    assert stand_in.invitations == []
    # One token at the beginning, and one after the first was over.
    assert [one.template for one in stand_in.exchanges].count(EXCHANGE_TEMPLATE) == 2
    writes = [one for one in stand_in.exchanges if one.method in {"PATCH", "DELETE"}]
    assert {dict(one.query)["sendUpdates"] for one in writes} == {"none"}
    assert all(one.if_match for one in writes if one.method == "PATCH")


@needs_document
def test_every_request_and_answer_is_valid_against_the_discovery_document(
    client: GoogleCalendarClient, stand_in: GoogleCalendarStandIn
) -> None:
    call_everything(client, stand_in)
    assert len(stand_in.exchanges) > 20
    assert [error for one in stand_in.exchanges for error in errors_of(one)] == []


@needs_document
def test_null_in_a_patch_is_the_one_thing_sent_that_the_document_does_not_know(
    client: GoogleCalendarClient, stand_in: GoogleCalendarStandIn
) -> None:
    call_everything(client, stand_in)
    needed = {
        gap.name
        for gap in GAPS
        for one in stand_in.exchanges
        if any(": request" in error for error in errors_of(one, without=gap.name))
    }
    assert needed == {"null in a patch"}


@needs_document
def test_a_request_that_the_document_does_not_allow_would_be_noticed(
    client: GoogleCalendarClient, stand_in: GoogleCalendarStandIn
) -> None:
    event = client.insert_event(new())
    stand_in.forget_exchanges()
    calls: list[Callable[[], object]] = [
        lambda: client.patch_event(OURS, EventChanges(status="done"), etag=etag_of(event)),
        lambda: client.insert_event(new(OTHER, summary=7)),
        lambda: client._call("GET", client._events, {"maxResults": "0"}),
        lambda: client._call("GET", client._events, {"singleEvents": "True"}),
    ]
    for call in calls:
        with pytest.raises(RefusedError):
            call()
    client._call("GET", client._events, {"max_results": "1"})
    sent = [one for one in stand_in.exchanges if any("request" in e for e in errors_of(one))]
    assert sent == stand_in.exchanges
    assert len(sent) == len(calls) + 1


@needs_document
def test_every_parameter_is_one_of_the_documents(
    client: GoogleCalendarClient, stand_in: GoogleCalendarStandIn
) -> None:
    call_everything(client, stand_in)
    for one in stand_in.exchanges:
        described = method_of(one.method, one.template or "")
        if described is not None:
            known = query_parameters(described).keys() | global_parameters()
            assert {name for name, _ in one.query} <= known
            assert SCOPE in described["scopes"]


@needs_samples
@pytest.mark.parametrize(
    ("name", "status", "meaning"),
    [
        ("error_400_timeRangeEmpty", 400, Meaning.REFUSED),
        ("error_401_authError", 401, Meaning.TOKEN),
        ("error_403_forbiddenForNonOrganizer", 403, Meaning.FORBIDDEN),
        ("error_403_rateLimitExceeded", 403, Meaning.THROTTLED),
        ("error_403_userRateLimitExceeded", 403, Meaning.THROTTLED),
        ("error_404_notFound", 404, Meaning.MISSING),
        ("error_409_duplicate", 409, Meaning.EXISTS),
        ("error_410_deleted", 410, Meaning.GONE),
        ("error_410_fullSyncRequired", 410, Meaning.GONE),
        ("error_412_conditionNotMet", 412, Meaning.CHANGED),
        ("error_429_rateLimitExceeded", 429, Meaning.THROTTLED),
        ("error_500_backendError", 500, Meaning.PASSING),
    ],
)
def test_the_vendors_sample_errors_have_their_meaning(
    name: str, status: int, meaning: Meaning
) -> None:
    assert judge(status, {}, (SAMPLES / f"{name}.json").read_bytes()).meaning is meaning
    assert name.endswith(judge(status, {}, (SAMPLES / f"{name}.json").read_bytes()).code or "?")


@needs_samples
def test_the_sample_list_is_read_where_it_is_a_list_of_googles() -> None:
    """Its live event was written by hand: every one of Google's has an etag and was updated."""
    sample = SAMPLES / "events_list_incremental_cancelled_fixture.json"
    tree = json.loads(sample.read_text("utf-8"))
    with pytest.raises(UnreadableError, match=r"^items\[1\]\.etag is missing$"):
        read_events(tree["items"])
    tree["items"][1] |= {"etag": '"1"', "updated": "2026-03-01T00:00:00Z"}
    exception, live, deleted = read_events(tree["items"])
    assert (exception.is_cancelled, exception.recurring_event_id) == (True, "staff01")
    assert live.start is not None
    assert live.start.instant == datetime(2026, 9, 19, 2, tzinfo=UTC)
    assert deleted == Event(id="gone01", status=CANCELLED)


# --- lists --------------------------------------------------------------------------------------


def test_all_events_come_once_whatever_the_pages(
    stand_in: GoogleCalendarStandIn, tmp_path: Path
) -> None:
    ids = [stand_in.add_event(START + timedelta(hours=number)) for number in range(7)]
    stand_in.rules.empty_pages = 2
    with opened(stand_in, tmp_path, page_size=3) as client:
        events = client.iter_events()
        assert sorted(one.id for one in events) == sorted(ids)
        assert len(stand_in.calls) == 2 + 3
        stand_in.rules.empty_pages = 0
        stand_in.forget_exchanges()
        assert list(client.iter_events(sync_token=events.next_sync_token)) == []
        # Where nothing changed, one call is all.
        assert len(stand_in.exchanges) == 1


def test_what_changes_while_pages_are_read_is_in_the_next_list(
    stand_in: GoogleCalendarStandIn, tmp_path: Path, clock: Clock
) -> None:
    ids = [stand_in.add_event(START + timedelta(hours=number)) for number in range(6)]
    with opened(stand_in, tmp_path, page_size=2) as client:
        first = client.iter_events()
        seen = []
        for event in first:
            seen.append(event.id)
            if len(seen) == 2:
                clock.now += timedelta(seconds=1)
                late = stand_in.add_event(START)
                stand_in.cancel_event(ids[0])
                stand_in.cancel_event(ids[5])
        changed = {
            one.id: one.status for one in client.iter_events(sync_token=first.next_sync_token)
        }
    assert changed == {late: CONFIRMED, ids[0]: CANCELLED, ids[5]: CANCELLED}


def test_a_list_of_changes_knows_no_window(
    stand_in: GoogleCalendarStandIn, client: GoogleCalendarClient
) -> None:
    inside, outside = (stand_in.add_event(START - timedelta(days=days)) for days in (10, 40))
    first = client.iter_events(time_min=START - timedelta(days=30))
    assert [one.id for one in first] == [inside]
    stand_in.move_event(inside, START - timedelta(days=90))
    stand_in.retitle_event(outside, "x")
    changed = client.iter_events(sync_token=first.next_sync_token)
    assert {one.id for one in changed} == {inside, outside}


def test_a_page_that_names_itself_does_not_hold_the_client(
    stand_in: GoogleCalendarStandIn, client: GoogleCalendarClient
) -> None:
    stand_in.add_event(START)
    stand_in.fail(GoogleFault.STUCK_PAGES, times=9)
    with pytest.raises(PagingError):
        list(client.iter_events())
    assert len(stand_in.calls) <= 3


def test_a_sync_token_is_bound_to_the_parameters_of_its_list(
    stand_in: GoogleCalendarStandIn, client: GoogleCalendarClient, tmp_path: Path
) -> None:
    events = client.iter_events()
    list(events)
    with opened(stand_in, tmp_path, page_size=7) as other:
        assert other.parameter_set != client.parameter_set
        with pytest.raises(RefusedError):
            list(other.iter_events(sync_token=events.next_sync_token))


def test_after_a_token_ran_out_everything_is_read_and_the_deleted_are_not_in_it(
    stand_in: GoogleCalendarStandIn, client: GoogleCalendarClient
) -> None:
    client.insert_event(new())
    client.insert_event(new(OTHER))
    events = client.iter_events()
    list(events)
    stand_in.cancel_event(OTHER)
    stand_in.purge_deleted()
    stand_in.expire_sync_tokens()
    with pytest.raises(SyncTokenExpiredError):
        list(client.iter_events(sync_token=events.next_sync_token))
    assert [one.id for one in client.iter_events()] == [OURS]
    # What is missing from the list is asked for by its id.
    assert client.get_event(OTHER) is None


def test_many_events_are_read_in_few_calls(stand_in: GoogleCalendarStandIn, tmp_path: Path) -> None:
    for number in range(2600):
        stand_in.add_event(START + timedelta(minutes=number))
    with opened(stand_in, tmp_path, timeout_seconds=30) as client:
        assert len(list(client.iter_events())) == 2600
    assert len(stand_in.calls) == 2


# --- a person at the calendar -------------------------------------------------------------------


def test_what_a_person_does_is_read(
    stand_in: GoogleCalendarStandIn, client: GoogleCalendarClient
) -> None:
    event = client.insert_event(new())
    stand_in.move_event(OURS, datetime(2026, 3, 13, 9, tzinfo=UTC), zone="Europe/Lisbon")
    moved = found(client)
    assert moved.start is not None
    assert moved.start.instant == datetime(2026, 3, 13, 9, tzinfo=UTC)
    assert moved.etag != event.etag
    stand_in.make_all_day(OURS, date(2026, 3, 14), days=40)
    whole = found(client)
    assert (whole.start, whole.end) == (
        EventTime.on(date(2026, 3, 14)),
        EventTime.on(date(2026, 4, 23)),
    )
    stand_in.cancel_event(OURS)
    assert found(client).is_cancelled
    stand_in.restore_event(OURS)
    assert found(client).status == CONFIRMED


def test_an_event_of_no_duration_is_read(
    stand_in: GoogleCalendarStandIn, client: GoogleCalendarClient
) -> None:
    event = found(client, stand_in.add_event(START, START))
    assert event.start is not None
    assert event.end is not None
    assert event.start.instant == event.end.instant == START


def test_a_series_is_one_event_and_keeps_our_id(
    stand_in: GoogleCalendarStandIn, client: GoogleCalendarClient
) -> None:
    client.insert_event(new())
    events = client.iter_events()
    list(events)
    second, *_ = stand_in.make_series(OURS)[1:]
    (series,) = client.iter_events(sync_token=events.next_sync_token)
    assert (series.id, series.is_series) == (OURS, True)
    stand_in.cancel_event(second)
    by_id = {one.id: one for one in client.iter_events()}
    assert by_id.keys() == {OURS, second}
    assert by_id[second].is_cancelled
    assert by_id[second].recurring_event_id == OURS
    assert by_id[second].original_start_time is not None
    assert by_id[second].original_start_time.instant == datetime(2026, 3, 19, 13, tzinfo=UTC)
    assert found(client, second).is_cancelled


def test_an_event_of_a_stranger_has_nothing_of_ours(
    stand_in: GoogleCalendarStandIn, client: GoogleCalendarClient
) -> None:
    event_id = stand_in.add_event(START, organizer="colega@example.com", summary="Reunião")
    event = found(client, event_id)
    assert event.private == {}
    with pytest.raises(RefusedError) as refused:
        client.patch_event(event_id, EventChanges(start=at(9), end=at(10)), etag=etag_of(event))
    assert refused.value.meaning is Meaning.FORBIDDEN


# --- ids, tombstones, etags ---------------------------------------------------------------------


def test_a_deleted_event_is_revived_under_its_id(
    stand_in: GoogleCalendarStandIn, client: GoogleCalendarClient
) -> None:
    client.insert_event(new())
    stand_in.cancel_event(OURS)
    with pytest.raises(EventExistsError):
        client.insert_event(new())
    dead = found(client)
    changes = EventChanges(status=CONFIRMED, summary=TITLE, start=at(16), end=at(17))
    alive = client.patch_event(OURS, changes, etag=etag_of(dead))
    assert (alive.status, alive.start) == (CONFIRMED, at(16))
    assert [one["id"] for one in stand_in.events] == [OURS]


@pytest.mark.parametrize("status", [200, 404, 410])
def test_a_deleted_event_is_cancelled_or_not_there(
    stand_in: GoogleCalendarStandIn, client: GoogleCalendarClient, status: int
) -> None:
    client.insert_event(new())
    stand_in.cancel_event(OURS)
    stand_in.rules.deleted_status = status
    event = client.get_event(OURS)
    assert event is None if status != 200 else event is not None and event.is_cancelled
    assert client.delete_event(OURS) is False


def test_a_change_by_a_person_in_between_is_not_overwritten(
    stand_in: GoogleCalendarStandIn, client: GoogleCalendarClient
) -> None:
    event = client.insert_event(new())
    stand_in.move_event(OURS, datetime(2026, 3, 13, 9, tzinfo=UTC))
    changes = EventChanges(start=at(16), end=at(17))
    with pytest.raises(EventChangedError):
        client.patch_event(OURS, changes, etag=etag_of(event))
    with pytest.raises(EventChangedError):
        client.delete_event(OURS, etag=etag_of(event))
    assert client.patch_event(OURS, changes, etag=etag_of(found(client))).start == at(16)


# --- faults -------------------------------------------------------------------------------------

WITH_EFFECT = [
    GoogleFault.TIMEOUT_AFTER,
    GoogleFault.SERVER_ERROR_AFTER,
    GoogleFault.UNAVAILABLE_AFTER,
    GoogleFault.BROKEN_OFF,
]
WITHOUT_EFFECT = [
    GoogleFault.TIMEOUT_BEFORE,
    GoogleFault.SERVER_ERROR,
    GoogleFault.UNAVAILABLE,
    GoogleFault.BAD_GATEWAY,
    GoogleFault.TOO_MANY,
    GoogleFault.RATE_LIMIT,
    GoogleFault.USER_RATE_LIMIT,
]


@pytest.mark.parametrize("fault", WITHOUT_EFFECT)
def test_every_call_outlives_a_fault(
    stand_in: GoogleCalendarStandIn, client: GoogleCalendarClient, fault: GoogleFault
) -> None:
    stand_in.fail(fault)
    event = client.insert_event(new())
    stand_in.fail(fault)
    event = client.patch_event(OURS, EventChanges(status=CONFIRMED), etag=etag_of(event))
    stand_in.fail(fault)
    assert found(client) == event
    stand_in.fail(fault)
    assert list(client.iter_events()) == [event]
    stand_in.fail(fault)
    assert client.delete_event(OURS, etag=etag_of(event)) is True
    assert len(stand_in.calls) == 2 * 5


@pytest.mark.parametrize("fault", WITH_EFFECT)
def test_a_write_whose_answer_was_lost_is_done_once_and_found_by_a_read(
    stand_in: GoogleCalendarStandIn, client: GoogleCalendarClient, fault: GoogleFault
) -> None:
    stand_in.fail(fault)
    with pytest.raises(EventExistsError):
        client.insert_event(new())
    event = found(client)
    assert [one["id"] for one in stand_in.events] == [OURS]
    assert event.start == at(10)

    stand_in.fail(fault)
    with pytest.raises(EventChangedError):
        client.patch_event(OURS, EventChanges(start=at(16), end=at(17)), etag=etag_of(event))
    event = found(client)
    assert event.start == at(16)

    stand_in.fail(fault)
    # The answer to a deletion has no body that could break off.
    is_told = fault is GoogleFault.BROKEN_OFF
    assert client.delete_event(OURS, etag=etag_of(event)) is is_told
    assert stand_in.events == []


@pytest.mark.parametrize("fault", [GoogleFault.UNAVAILABLE, GoogleFault.TIMEOUT_AFTER])
def test_a_fault_that_lasts_leaves_the_write_for_a_later_run(
    stand_in: GoogleCalendarStandIn, client: GoogleCalendarClient, fault: GoogleFault
) -> None:
    event = client.insert_event(new())
    stand_in.fail(fault, times=3, method="PATCH")
    changes = EventChanges(start=at(16), end=at(17))
    with pytest.raises((RetryableHttpError, EventChangedError)):
        client.patch_event(OURS, changes, etag=etag_of(event))
    event = found(client)
    assert client.patch_event(OURS, changes, etag=etag_of(event)).start == at(16)


def test_an_answer_that_is_html_is_no_event(
    stand_in: GoogleCalendarStandIn, client: GoogleCalendarClient
) -> None:
    stand_in.fail(GoogleFault.HTML)
    with pytest.raises(AmbiguousError, match="HTML where JSON was due"):
        client.insert_event(new())
    stand_in.fail(GoogleFault.HTML)
    with pytest.raises(UnreadableAnswerError, match="HTML where JSON was due"):
        client.get_event(OURS)
    stand_in.fail(GoogleFault.HTML)
    with pytest.raises(AmbiguousError):
        client.delete_event(OURS)
    assert client.delete_event(OURS) is False


def test_a_field_that_is_missing_is_named(
    stand_in: GoogleCalendarStandIn, client: GoogleCalendarClient
) -> None:
    stand_in.omit("etag", method="POST")
    with pytest.raises(AmbiguousError, match=r"event\.etag is missing; it may have taken effect"):
        client.insert_event(new())
    stand_in.omit("items.start")
    with pytest.raises(UnreadableAnswerError, match=r"items\[0\]\.start is missing"):
        list(client.iter_events())
    stand_in.alter("updated", "soon")
    with pytest.raises(UnreadableAnswerError, match=r"event\.updated: Invalid RFC3339"):
        client.get_event(OURS)
    stand_in.omit("nextSyncToken")
    with pytest.raises(UnreadableAnswerError, match="nextSyncToken are missing"):
        list(client.iter_events())
    stand_in.omit("items")
    assert list(client.iter_events()) == []
    stand_in.omit("start.timeZone")
    assert found(client).start == EventTime(date_time=at(10).date_time)


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (GoogleFault.QUOTA, BlockedError),
        (GoogleFault.DAILY_LIMIT, BlockedError),
        (GoogleFault.SCOPE, AccessRefusedError),
        (GoogleFault.READER, AccessRefusedError),
        (GoogleFault.API_IS_OFF, AccessRefusedError),
    ],
)
def test_after_such_a_refusal_nothing_more_is_attempted(
    stand_in: GoogleCalendarStandIn,
    client: GoogleCalendarClient,
    fault: GoogleFault,
    error: type[Exception],
) -> None:
    stand_in.fail(fault)
    for _ in range(3):
        with pytest.raises(error):
            client.insert_event(new())
    assert len(stand_in.calls) == 1
    assert stand_in.events == []


@pytest.mark.parametrize(
    ("fault", "meaning"),
    [
        (GoogleFault.BAD_REQUEST, Meaning.REFUSED),
        (GoogleFault.NOT_ORGANIZER, Meaning.FORBIDDEN),
        (GoogleFault.SERVICE_ACCOUNT, Meaning.FORBIDDEN),
        (GoogleFault.UNKNOWN_REASON, Meaning.FORBIDDEN),
    ],
)
def test_a_refusal_of_one_write_is_not_one_of_the_next(
    stand_in: GoogleCalendarStandIn,
    client: GoogleCalendarClient,
    fault: GoogleFault,
    meaning: Meaning,
) -> None:
    stand_in.fail(fault)
    with pytest.raises(RefusedError) as refused:
        client.insert_event(new())
    assert refused.value.meaning is meaning
    assert client.insert_event(new()).id == OURS


# --- who may ask --------------------------------------------------------------------------------


def test_a_token_that_is_over_is_renewed_and_one_refused_twice_ends_all(
    stand_in: GoogleCalendarStandIn, client: GoogleCalendarClient
) -> None:
    list(client.iter_events())
    stand_in.expire_access_tokens()
    assert client.insert_event(new()).id == OURS
    stand_in.forget_exchanges()
    stand_in.fail(GoogleFault.UNAUTHORIZED)
    assert found(client).id == OURS
    stand_in.fail(GoogleFault.UNAUTHORIZED, times=2)
    for _ in range(3):
        with pytest.raises(AccessRefusedError, match="401"):
            client.get_event(OURS)
    assert len(stand_in.calls) == 2 + 2


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (GoogleFault.INVALID_GRANT, "GATTE_GOOGLE_CREDENTIALS_FILE"),
        (GoogleFault.INVALID_SCOPE, "Admin console"),
        (GoogleFault.UNAUTHORIZED_CLIENT, "GATTE_GOOGLE_SUBJECT"),
    ],
)
def test_no_token_ends_all(
    stand_in: GoogleCalendarStandIn, client: GoogleCalendarClient, fault: GoogleFault, words: str
) -> None:
    stand_in.fail(fault)
    with pytest.raises(AccessRefusedError, match=words):
        list(client.iter_events())
    with pytest.raises(AccessRefusedError, match="not sent"):
        client.insert_event(new())
    assert (len(stand_in.exchanges), stand_in.calls) == (1, [])


def test_a_key_that_was_taken_back_gives_no_token(
    stand_in: GoogleCalendarStandIn, tmp_path: Path
) -> None:
    with (
        opened(stand_in, tmp_path, key={"is_foreign": True}) as client,
        pytest.raises(AccessRefusedError, match="invalid_grant"),
    ):
        list(client.iter_events())


@pytest.mark.parametrize(
    "changes", [{"private_key": None}, {"type": "authorized_user"}, {"client_email": ""}]
)
def test_a_file_that_is_spoilt_is_refused_before_anything_is_sent(
    stand_in: GoogleCalendarStandIn, tmp_path: Path, changes: dict[str, Any]
) -> None:
    with pytest.raises(ConfigurationError, match="GATTE_GOOGLE_CREDENTIALS_FILE"):
        opened(stand_in, tmp_path, key=changes)
    assert stand_in.exchanges == []


def test_a_user_is_acted_for_where_the_domain_allows_it(
    stand_in: GoogleCalendarStandIn, tmp_path: Path
) -> None:
    with (
        opened(stand_in, tmp_path, subject=SUBJECT) as client,
        pytest.raises(AccessRefusedError, match="GATTE_GOOGLE_SUBJECT"),
    ):
        client.insert_event(new())
    stand_in.account.delegated = frozenset({SCOPE})
    with opened(stand_in, tmp_path, subject=SUBJECT) as client:
        client.insert_event(new())
    assert stand_in.event(OURS)["creator"]["email"] == SUBJECT


def test_a_token_of_another_scope_ends_all_at_the_first_write(
    stand_in: GoogleCalendarStandIn, client: GoogleCalendarClient
) -> None:
    stand_in.account.granted_scopes = frozenset({f"{SCOPE}.readonly"})
    assert list(client.iter_events()) == []
    with pytest.raises(AccessRefusedError, match="insufficientPermissions"):
        client.insert_event(new())
    with pytest.raises(AccessRefusedError, match="not sent"):
        list(client.iter_events())


def test_a_calendar_that_is_not_shared_cancels_nothing(
    stand_in: GoogleCalendarStandIn, tmp_path: Path
) -> None:
    with opened(stand_in, tmp_path) as client:
        client.insert_event(new())
    stand_in.role = None
    calls: list[Callable[[GoogleCalendarClient], object]] = [
        lambda client: list(client.iter_events()),
        lambda client: client.get_event(OURS),
        lambda client: client.delete_event(OURS),
        lambda client: client.patch_event(OURS, EventChanges(status=CONFIRMED), etag='"1"'),
        lambda client: client.insert_event(new(OTHER)),
    ]
    for call in calls:
        with (
            opened(stand_in, tmp_path) as client,
            pytest.raises(CalendarMissingError, match="GATTE_GOOGLE_CALENDAR_ID"),
        ):
            call(client)
    with (
        opened(stand_in, tmp_path, calendar_id="outra@example.com") as client,
        pytest.raises(CalendarMissingError),
    ):
        list(client.iter_events())


def test_a_calendar_that_is_shared_for_reading_is_read_and_not_written(
    stand_in: GoogleCalendarStandIn, client: GoogleCalendarClient
) -> None:
    event_id = stand_in.add_event(START)
    stand_in.role = "reader"
    assert [one.id for one in client.iter_events()] == [event_id]
    with pytest.raises(AccessRefusedError, match="the calendar may only be read"):
        client.insert_event(new())


def test_a_stand_in_that_has_stopped_is_a_matter_of_later(tmp_path: Path) -> None:
    with GoogleCalendarStandIn() as other:
        client = opened(other, tmp_path)
    with client, pytest.raises(RetryableHttpError, match="nothing was sent"):
        client.insert_event(new())
