"""Events of a calendar as this project reads and writes them. Pure.

Only the fields that the sync relies on; one that is missing fails the answer it should be in. Who
made an event, who is invited and what it describes is not read at all. What an event means for an
appointment of ours belongs to the sync.

A title may hold anybody's name, so a repr shows kind and id and nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, date, datetime
from typing import Any, TypeAlias
from zoneinfo import ZoneInfo

import msgspec
from msgspec import UNSET, UnsetType

from gatte_pipelines.json_records import Hidden, Instant, UnreadableError, read

Date: TypeAlias = date

CONFIRMED, TENTATIVE, CANCELLED = "confirmed", "tentative", "cancelled"

EVENT_ID = re.compile(r"[a-v0-9]{5,1024}")
"""An id that we may give: base32hex, without padding, in lower case."""
# The server drops a longer key and cuts a longer value, and says nothing.
MAX_KEY_CHARACTERS, MAX_VALUE_CHARACTERS, MAX_PROPERTIES = 44, 1024, 300

_REQUIRED = ("etag", "updated", "start", "end")


class EventTime(Hidden, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """The start or end of an event: a date for all day, or a moment.

    Attributes:
        date: All day; the end's is the day after the last.
        date_time: With its offset, unless ``time_zone`` says where it is.
        time_zone: IANA name, which the vendor may know and we not.
    """

    date: Date | None = None
    date_time: datetime | None = None
    time_zone: str | None = None

    def __post_init__(self) -> None:
        """Refuse what is no time.

        Raises:
            ValueError: Neither date nor moment, or both.
        """
        if (self.date is None) is (self.date_time is None):
            raise ValueError("either date or dateTime must be there")

    @classmethod
    def at(cls, moment: datetime, zone: str) -> EventTime:
        """A moment, as the clocks of a zone show it.

        Args:
            moment: With its offset.
            zone: IANA name.

        Raises:
            ValueError: The moment has no offset, or there is no such zone.
        """
        if moment.tzinfo is None:
            raise ValueError("a moment needs its offset")
        known = _zone_of(zone)
        if known is None:
            raise ValueError("there is no such time zone")
        return cls(date_time=moment.astimezone(known), time_zone=zone)

    @classmethod
    def on(cls, day: Date) -> EventTime:
        """A whole day."""
        return cls(date=day)

    @property
    def is_all_day(self) -> bool:
        """Whether it is a date."""
        return self.date is not None

    @property
    def instant(self) -> datetime | None:
        """The moment in UTC; None for a date, and where only an unknown zone says when it is."""
        moment = self.date_time
        if moment is None:
            return None
        if moment.tzinfo is None:
            zone = _zone_of(self.time_zone or "")
            if zone is None:
                return None
            moment = moment.replace(tzinfo=zone)
        try:
            return moment.astimezone(UTC)
        except OverflowError:  # at the ends of the calendar
            return None


class _ExtendedProperties(Hidden, frozen=True, kw_only=True):
    private: dict[str, str] = {}


class Event(Hidden, frozen=True, kw_only=True, rename="camel"):
    """An event; of a cancelled one nothing but the id can be relied on.

    Attributes:
        status: ``confirmed``, ``tentative`` or ``cancelled``.
        etag: With its quotes; None only where it is cancelled.
        updated: Of the last change by the vendor's clock; None only where it is cancelled.
        start: None only where it is cancelled.
        end: Not included; None only where it is cancelled.
        recurring_event_id: The series that this is one time of.
        original_start_time: Which time of the series it is, wherever it was moved to.
        recurrence: The rules of a series; empty for anything else.
        extended_properties: Use ``private``.
    """

    id: str
    status: str
    etag: str | None = None
    updated: Instant | None = None
    start: EventTime | None = None
    end: EventTime | None = None
    summary: str = ""
    recurring_event_id: str | None = None
    original_start_time: EventTime | None = None
    recurrence: list[str] = []
    ical_uid: str | None = msgspec.field(default=None, name="iCalUID")
    extended_properties: _ExtendedProperties | None = None

    def __post_init__(self) -> None:
        """Refuse a live event without what every one has.

        Raises:
            ValueError: A field is missing; named as ``read`` names it.
        """
        if not self.id:
            raise ValueError("the id is empty")
        for name in () if self.is_cancelled else _REQUIRED:
            if getattr(self, name) is None:
                raise ValueError(f"Object missing required field `{name}`")

    @property
    def is_cancelled(self) -> bool:
        """Whether it was deleted, or is a time of a series that does not take place."""
        return self.status == CANCELLED

    @property
    def is_series(self) -> bool:
        """Whether it recurs: its times come as events of their own only where they differ."""
        return bool(self.recurrence)

    @property
    def private(self) -> Mapping[str, str]:
        """The properties that only this calendar's copy has."""
        properties = self.extended_properties
        return {} if properties is None else properties.private


class NewEvent(Hidden, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """An event to create.

    Attributes:
        id: One that ``EVENT_ID`` matches, never used before on this calendar.
        private: Properties for this calendar's copy.
    """

    id: str
    status: str
    summary: str
    start: EventTime
    end: EventTime
    description: str | None = None
    private: dict[str, str] = {}

    def __post_init__(self) -> None:
        """Refuse what the server refuses, or changes silently.

        Raises:
            ValueError: The id, a property, or a date beside a moment.
        """
        if not EVENT_ID.fullmatch(self.id):
            raise ValueError("the id of an event is 5 to 1024 of a-v and 0-9")
        _assert_same_kind(self.start, self.end)
        _assert_properties(self.private)


class EventChanges(Hidden, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """What to change of an event; what is left alone stays. Start and end come together.

    Attributes:
        description: None clears it.
        private: Properties to set, or with None to remove; the others stay.
    """

    status: str | UnsetType = UNSET
    summary: str | UnsetType = UNSET
    description: str | UnsetType | None = UNSET
    start: EventTime | UnsetType = UNSET
    end: EventTime | UnsetType = UNSET
    private: dict[str, str | None] = {}

    def __post_init__(self) -> None:
        """Refuse what the server refuses, or changes silently.

        Raises:
            ValueError: A property, one time without the other, or a date beside a moment.
        """
        if isinstance(self.start, EventTime) is not isinstance(self.end, EventTime):
            raise ValueError("start and end are changed together")
        if isinstance(self.start, EventTime) and isinstance(self.end, EventTime):
            _assert_same_kind(self.start, self.end)
        _assert_properties(self.private)


def read_event(tree: object, where: str = "event") -> Event:
    """Take an event out of decoded JSON.

    Raises:
        UnreadableError: A field is missing or of another type; it is named.
    """
    return read(_trusted(tree), Event, where)


def read_events(trees: object, where: str = "items") -> list[Event]:
    """Take events out of decoded JSON.

    Raises:
        UnreadableError: A field is missing or of another type; it is named.
    """
    if isinstance(trees, list):
        trees = [_trusted(tree) for tree in trees]
    return read(trees, list[Event], where)


def body_of(record: NewEvent | EventChanges) -> dict[str, Any]:
    """The JSON body that creates or changes an event.

    Raises:
        ValueError: There is nothing in it.
    """
    body: dict[str, Any] = msgspec.to_builtins(record)
    if isinstance(record, EventChanges):
        # What is merged into an all-day event would leave both a date and a moment: Google's 400.
        blank = {"date": None, "dateTime": None, "timeZone": None}
        body |= {name: blank | body[name] for name in ("start", "end") if name in body}
    private = body.pop("private", {})
    if private:
        body["extendedProperties"] = {"private": private}
    if not body:
        raise ValueError("there is nothing to write")
    return body


def _trusted(tree: object) -> object:
    """An event's tree without what cannot be relied on: of a cancelled one, nearly everything."""
    if not isinstance(tree, dict) or tree.get("status") != CANCELLED:
        return tree
    kept: dict[str, object] = {"id": tree.get("id"), "status": CANCELLED}
    for name in ("etag", "recurringEventId", "iCalUID"):
        if isinstance(tree.get(name), str):
            kept[name] = tree[name]
    with suppress(UnreadableError):
        kept["originalStartTime"] = read(tree.get("originalStartTime"), EventTime)
    return kept


def _zone_of(name: str) -> ZoneInfo | None:
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):  # a folder of zones is an OSError
        return None


def _assert_same_kind(start: EventTime, end: EventTime) -> None:
    if start.is_all_day is not end.is_all_day:
        raise ValueError("an event has two dates or two moments")


def _assert_properties(properties: Mapping[str, str | None]) -> None:
    if len(properties) > MAX_PROPERTIES:
        raise ValueError(f"an event has at most {MAX_PROPERTIES} properties")
    for key, value in properties.items():
        if not 1 <= len(key) <= MAX_KEY_CHARACTERS or len(value or "") > MAX_VALUE_CHARACTERS:
            raise ValueError("a property's key or value is too long, or the key empty")
