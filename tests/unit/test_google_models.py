"""Events are read as far as they can be relied on, and written as the server takes them."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta, timezone

import pytest

from gatte_pipelines.google_calendar.models import (
    CANCELLED,
    CONFIRMED,
    Event,
    EventChanges,
    EventTime,
    NewEvent,
    body_of,
    read_event,
    read_events,
)
from gatte_pipelines.google_calendar.pages import EventList, Page, read_page
from gatte_pipelines.json_records import UnreadableError
from gatte_pipelines.paging import PageGuard, PagingError

NAME, EMAIL = "Ana Souza", "ana.souza@example.com"
ZONE = "America/Sao_Paulo"
EVENT = {
    "kind": "calendar#event",
    "etag": '"3181161784712000"',
    "id": "adf210800e1011eb879b05d71fb426ec",
    "status": "confirmed",
    "created": "2026-03-01T11:30:36.000Z",
    "updated": "2026-03-01T11:30:36.551Z",
    "summary": NAME,
    "description": NAME,
    "creator": {"email": EMAIL},
    "organizer": {"email": EMAIL, "self": True},
    "attendees": [{"email": EMAIL, "displayName": NAME}],
    "start": {"dateTime": "2026-03-10T09:00:00-03:00", "timeZone": ZONE},
    "end": {"dateTime": "2026-03-10T10:00:00-03:00", "timeZone": ZONE},
    "iCalUID": "adf21080@example.com",
    "sequence": 0,
    "extendedProperties": {"private": {"gatte": "b5"}, "shared": {"x": NAME}},
    "something_new": {"of": "theirs"},
}
NINE = EventTime.at(datetime(2026, 3, 10, 12, tzinfo=UTC), ZONE)
TEN = EventTime.at(datetime(2026, 3, 10, 13, tzinfo=UTC), ZONE)


# --- what is read -------------------------------------------------------------------------------


def test_an_event_is_read_without_the_people_in_it() -> None:
    event = read_event(EVENT)
    assert (event.id, event.status, event.etag) == (EVENT["id"], CONFIRMED, EVENT["etag"])
    assert event.updated == datetime(2026, 3, 1, 11, 30, 36, 551_000, UTC)
    assert (event.start, event.end) == (NINE, TEN)
    assert (event.summary, event.ical_uid) == (NAME, "adf21080@example.com")
    assert event.private == {"gatte": "b5"}
    assert not event.is_cancelled
    assert not event.is_series
    held = repr([getattr(event, name) for name in event.__struct_fields__ if name != "summary"])
    assert EMAIL not in held
    assert NAME not in held


def test_an_event_of_a_stranger_has_neither_title_nor_properties() -> None:
    bare = {key: EVENT[key] for key in ("id", "status", "etag", "updated", "start", "end")}
    event = read_event(bare)
    assert (event.summary, event.private, event.ical_uid) == ("", {}, None)
    assert read_event(bare | {"extendedProperties": {"shared": {}}}).private == {}


@pytest.mark.parametrize("name", ["id", "status", "etag", "updated", "start", "end"])
def test_a_field_that_is_missing_is_named_with_its_place(name: str) -> None:
    tree = {key: value for key, value in EVENT.items() if key != name}
    with pytest.raises(UnreadableError, match=rf"^items\[1\]\.{name} is missing$"):
        read_events([EVENT, tree])
    with pytest.raises(UnreadableError, match=rf"^event\.{name} is missing$"):
        read_event(tree)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"id": 7}, "event.id: Expected `str`, got `int`"),
        ({"id": ""}, "event: the id is empty"),
        (
            {"updated": "2026-03-01T11:30:36"},
            "event.updated: Expected `datetime` with a timezone component",
        ),
        ({"updated": NAME}, "event.updated: Invalid RFC3339 encoded datetime"),
        ({"start": {}}, "event.start: either date or dateTime must be there"),
        ({"start": {"date": NAME}}, "event.start.date: Invalid RFC3339 encoded date"),
        (
            {"end": {"date": "2026-03-10", "dateTime": "2026-03-10T10:00:00Z"}},
            "event.end: either date or dateTime must be there",
        ),
        ({"summary": 7}, "event.summary: Expected `str`, got `int`"),
        (
            {"extendedProperties": {"private": {"gatte": 7}}},
            "event.extendedProperties.private[...]: Expected `str`, got `int`",
        ),
    ],
)
def test_a_field_of_another_type_is_named_and_its_value_is_not(
    change: dict[str, object], words: str
) -> None:
    with pytest.raises(UnreadableError) as caught:
        read_event(EVENT | change)
    assert str(caught.value) == words
    assert caught.value.__suppress_context__


@pytest.mark.parametrize("tree", [None, [], NAME, 7, [None], {"status": CANCELLED}])
def test_what_is_no_event_is_refused(tree: object) -> None:
    with pytest.raises(UnreadableError, match=r"^event"):
        read_event(tree)


def test_of_a_cancelled_event_only_the_id_is_trusted() -> None:
    event = read_event(EVENT | {"status": CANCELLED})
    assert event == Event(
        id=str(EVENT["id"]), status=CANCELLED, etag=EVENT["etag"], ical_uid="adf21080@example.com"
    )
    for junk in (None, 7, {}, {"dateTime": NAME}, NAME):
        names = ("start", "end", "summary", "updated", "etag", "iCalUID", "recurringEventId")
        tree = {"id": "abcde", "status": CANCELLED, "originalStartTime": junk}
        event = read_event(tree | {name: junk for name in names if junk != NAME})
        assert event == Event(id="abcde", status=CANCELLED)
    assert read_event({"id": "abcde", "status": CANCELLED}).is_cancelled


def test_a_time_of_a_series_that_does_not_take_place_says_which() -> None:
    start = {"dateTime": "2026-04-02T09:00:00-07:00", "timeZone": "America/Los_Angeles"}
    event = read_event(
        {
            "id": "staff01_20260402T160000Z",
            "status": CANCELLED,
            "recurringEventId": "staff01",
            "originalStartTime": start,
        }
    )
    assert event.recurring_event_id == "staff01"
    assert event.original_start_time is not None
    assert event.original_start_time.instant == datetime(2026, 4, 2, 16, tzinfo=UTC)


def test_a_series_and_a_time_of_it_are_told_apart() -> None:
    assert read_event(EVENT | {"recurrence": ["RRULE:FREQ=WEEKLY"]}).is_series
    instance = read_event(EVENT | {"recurringEventId": "x", "originalStartTime": EVENT["start"]})
    assert not instance.is_series
    assert instance.original_start_time == NINE


def test_no_record_shows_what_it_holds() -> None:
    event = read_event(EVENT)
    assert repr(event) == f"<Event {EVENT['id']}>"
    assert event.__rich_repr__() == [("id", EVENT["id"])]
    new = NewEvent(id="abcde", status=CONFIRMED, summary=NAME, start=NINE, end=TEN)
    assert repr([new, EventChanges(summary=NAME), new.start]) == (
        "[<NewEvent abcde>, <EventChanges>, <EventTime>]"
    )
    page = read_page({"items": [EVENT], "nextSyncToken": NAME})
    assert NAME not in repr(page)


# --- times --------------------------------------------------------------------------------------


def moment(text: str, zone: str | None = None) -> datetime | None:
    tree = {"dateTime": text} | ({} if zone is None else {"timeZone": zone})
    start = read_event(EVENT | {"start": tree}).start
    assert start is not None
    assert not start.is_all_day
    return start.instant


def test_a_moment_is_known_by_its_offset_whatever_the_zone() -> None:
    noon = datetime(2026, 3, 10, 12, tzinfo=UTC)
    assert moment("2026-03-10T09:00:00-03:00") == noon
    assert moment("2026-03-10T09:00:00-03:00", "Mars/Olympus") == noon
    assert moment("2026-03-10T12:00:00Z", ZONE) == noon
    assert moment("2026-03-10T13:00:00.000+01:00", "Europe/Lisbon") == noon


def test_a_moment_without_offset_is_known_by_its_zone() -> None:
    assert moment("2026-03-10T09:00:00", ZONE) == datetime(2026, 3, 10, 12, tzinfo=UTC)
    # Brazil's last summer time ended at midnight on 2019-02-17.
    assert moment("2019-02-16T12:00:00", ZONE) == datetime(2019, 2, 16, 14, tzinfo=UTC)
    assert moment("2019-02-18T12:00:00", ZONE) == datetime(2019, 2, 18, 15, tzinfo=UTC)
    for zone in (None, "", "Mars/Olympus", "America", "../etc", "/etc/passwd", "a\0b"):
        assert moment("2026-03-10T09:00:00", zone) is None
    assert moment("0001-01-01T00:00:00+14:00") is None


def test_a_day_is_no_moment() -> None:
    event = read_event(EVENT | {"start": {"date": "2026-03-10"}, "end": {"date": "2026-03-11"}})
    assert event.start == EventTime.on(date(2026, 3, 10))
    assert event.start.is_all_day
    assert event.start.instant is None


def test_a_moment_is_written_as_the_clocks_of_the_zone_show_it() -> None:
    new = NewEvent(id="abcde", status=CONFIRMED, summary="x", start=NINE, end=TEN)
    assert body_of(new)["start"] == {"dateTime": "2026-03-10T09:00:00-03:00", "timeZone": ZONE}
    summer = EventTime.at(datetime(2018, 12, 1, 12, tzinfo=UTC), ZONE)
    body = body_of(EventChanges(start=summer, end=summer))
    assert body["start"]["dateTime"] == "2018-12-01T10:00:00-02:00"
    with pytest.raises(ValueError, match="offset"):
        EventTime.at(datetime(2026, 3, 10, 9), ZONE)  # noqa: DTZ001 - what is refused
    with pytest.raises(ValueError, match="zone"):
        EventTime.at(datetime(2026, 3, 10, 9, tzinfo=UTC), "Mars/Olympus")


# --- what is written ----------------------------------------------------------------------------


def test_a_new_event_is_written_whole() -> None:
    new = NewEvent(
        id="adf210800e1011eb879b05d71fb426ec",
        status="tentative",
        summary="Demonstração · GATTE · K7Q2M",
        description="x",
        start=NINE,
        end=TEN,
        private={"gatte": "b5"},
    )
    assert json.loads(json.dumps(body_of(new))) == {
        "id": "adf210800e1011eb879b05d71fb426ec",
        "status": "tentative",
        "summary": "Demonstração · GATTE · K7Q2M",
        "description": "x",
        "start": {"dateTime": "2026-03-10T09:00:00-03:00", "timeZone": ZONE},
        "end": {"dateTime": "2026-03-10T10:00:00-03:00", "timeZone": ZONE},
        "extendedProperties": {"private": {"gatte": "b5"}},
    }


def test_what_is_left_alone_is_not_written_and_none_clears() -> None:
    assert body_of(EventChanges(status=CONFIRMED)) == {"status": "confirmed"}
    assert body_of(EventChanges(description=None)) == {"description": None}
    assert body_of(EventChanges(private={"a": None, "b": "c"})) == {
        "extendedProperties": {"private": {"a": None, "b": "c"}}
    }
    with pytest.raises(ValueError, match="nothing to write"):
        body_of(EventChanges())


def test_a_moment_replaces_a_day_and_a_day_a_moment() -> None:
    day = EventTime.on(date(2026, 3, 10))
    assert body_of(EventChanges(start=NINE, end=TEN))["start"] == {
        "date": None,
        "dateTime": "2026-03-10T09:00:00-03:00",
        "timeZone": ZONE,
    }
    assert body_of(EventChanges(start=day, end=day))["end"] == {
        "date": "2026-03-10",
        "dateTime": None,
        "timeZone": None,
    }


@pytest.mark.parametrize(
    "event_id", ["", "abcd", "ABCDE", "abcde-f", "xyzzy", "a" * 1025, "abcde\n", "é" * 5]
)
def test_an_id_that_the_server_refuses_is_not_sent(event_id: str) -> None:
    with pytest.raises(ValueError, match="the id of an event"):
        NewEvent(id=event_id, status=CONFIRMED, summary="x", start=NINE, end=TEN)


def test_what_the_server_would_refuse_or_cut_is_not_sent() -> None:
    day = EventTime.on(date(2026, 3, 10))
    with pytest.raises(ValueError, match="two dates or two moments"):
        NewEvent(id="abcde", status=CONFIRMED, summary="x", start=NINE, end=day)
    with pytest.raises(ValueError, match="two dates or two moments"):
        EventChanges(start=day, end=TEN)
    with pytest.raises(ValueError, match="changed together"):
        EventChanges(start=NINE)
    for properties in ({"k" * 45: "v"}, {"k": "v" * 1025}, {"": "v"}):
        with pytest.raises(ValueError, match="property"):
            EventChanges(private=properties)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="at most 300"):
        EventChanges(private={str(number): None for number in range(301)})
    EventChanges(private={"k" * 44: "v" * 1024})


# --- pages --------------------------------------------------------------------------------------


def test_only_the_last_page_has_a_sync_token() -> None:
    page = read_page({"items": [EVENT], "nextPageToken": "p", "nextSyncToken": "s"})
    assert (len(page.events), page.next_page_token, page.next_sync_token) == (1, "p", None)
    page = read_page({"items": [], "nextSyncToken": "s"})
    assert (page.events, page.next_page_token, page.next_sync_token) == ([], None, "s")


def test_a_page_may_leave_out_an_empty_list_and_nothing_else() -> None:
    assert read_page({"kind": "calendar#events", "nextSyncToken": "s"}).events == []
    with pytest.raises(UnreadableError, match=r"^items is missing$"):
        read_page({"nextSyncToken": "s"})
    for tree in ({"items": []}, {"items": [], "nextPageToken": "", "nextSyncToken": None}):
        with pytest.raises(UnreadableError, match="nextPageToken and nextSyncToken are missing"):
            read_page(tree)
    with pytest.raises(UnreadableError, match="nextPageToken is not text"):
        read_page({"items": [], "nextPageToken": 7})
    with pytest.raises(UnreadableError, match="nextSyncToken is not text"):
        read_page({"items": [], "nextSyncToken": ["s"]})
    with pytest.raises(UnreadableError, match="the list is missing"):
        read_page(None)
    with pytest.raises(UnreadableError, match="items: Expected `array`"):
        read_page({"items": "x", "nextSyncToken": "s"})


def listed(*pages: dict[str, object], max_pages: int = 9) -> EventList:
    left = list(pages)

    def fetch(_: str | None) -> Page:
        return read_page(left.pop(0))

    return EventList(fetch, PageGuard("GET", "/events", max_pages))


def test_a_list_knows_where_the_next_begins_after_its_end_and_not_before() -> None:
    events = listed({"items": [EVENT], "nextPageToken": "p"}, {"items": [], "nextSyncToken": "s"})
    reading = iter(events)
    next(reading)
    with pytest.raises(ValueError, match="not read to its end"):
        _ = events.next_sync_token
    assert list(reading) == []
    assert events.next_sync_token == "s"  # noqa: S105
    with pytest.raises(ValueError, match="read once"):
        iter(events)


def test_pages_without_events_are_followed() -> None:
    empty = [{"items": [], "nextPageToken": f"p{number}"} for number in range(5)]
    events = listed(*empty, {"items": [EVENT], "nextSyncToken": "s"})
    assert len(list(events)) == 1


@pytest.mark.parametrize(
    ("tokens", "words"),
    [
        (["a", "a"], "a cursor came twice"),
        (["a", "b", "a"], "a cursor came twice"),
        (list("abcdefghij"), "more than 9 pages"),
    ],
)
def test_a_list_that_does_not_end_is_ended(tokens: list[str], words: str) -> None:
    events = listed(*[{"items": [], "nextPageToken": token} for token in tokens])
    with pytest.raises(PagingError, match=words):
        list(events)
    with pytest.raises(ValueError, match="not read to its end"):
        _ = events.next_sync_token


def test_a_page_that_comes_again_under_another_token_ends_the_list() -> None:
    events = listed(*[{"items": [EVENT], "nextPageToken": token} for token in "abc"])
    with pytest.raises(PagingError, match="again and again"):
        list(events)


def test_an_instant_of_another_offset_is_the_same_time() -> None:
    other = EventTime.at(datetime(2026, 3, 10, 13, tzinfo=timezone(timedelta(hours=1))), ZONE)
    assert other.instant == NINE.instant
