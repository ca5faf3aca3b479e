"""What Google Calendar takes in the body of an event, how a patch is merged, how a time is shown.

Nothing is kept here. An error repeats no value.
Source: the discovery document of calendar v3 and its descriptions.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from typing import Any, Final
from zoneinfo import ZoneInfo

from gatte_pipelines.sandbox.google_calendar_faults import RefusedError, invalid

Body = dict[str, Any]

# base32hex in lower case; the id of an instance, which nobody may give, has a _ in it.
_EVENT_ID = re.compile(r"[a-v0-9]{5,1024}")
_RFC3339 = re.compile(
    r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d{1,9})?(Z|[+-]\d{2}:\d{2})?", re.IGNORECASE
)
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")
_ZONE = re.compile(r"[A-Za-z][A-Za-z0-9+_-]*(/[A-Za-z0-9+_-]+)*")
_MAX_PROPERTY_NAME = 44
_MAX_PROPERTY_VALUE = 1024
_MAX_PROPERTIES = 300
_MAX_PROPERTIES_BYTES = 32 * 1024

_CHOICES: Final[Mapping[str, tuple[str, ...]]] = {
    "status": ("confirmed", "tentative", "cancelled"),
    "visibility": ("default", "public", "private", "confidential"),
    "transparency": ("opaque", "transparent"),
}
_TEXTS: Final = ("summary", "description", "location", "colorId")
_OBJECTS: Final = ("start", "end", "reminders", "extendedProperties", "source")
_LISTS: Final = ("recurrence", "attendees")
_FLAGS: Final = ("guestsCanInviteOthers", "guestsCanModify", "guestsCanSeeOtherGuests")
KEPT: Final = frozenset({*_CHOICES, *_TEXTS, *_OBJECTS, *_LISTS, *_FLAGS})
"""Taken from a body and kept; the rest is dropped without a word, as the real one does."""

_TIME_KEYS: Final = ("date", "dateTime", "timeZone")

# What only the organizer may change; private properties, reminders and the own copy are one's own.
SHARED: Final = (
    "summary",
    "description",
    "location",
    "start",
    "end",
    "recurrence",
    *_FLAGS,
)


@dataclass(frozen=True, kw_only=True)
class Times:
    """When an event begins and ends, as instants; a whole day in the calendar's zone."""

    start_at: datetime
    end_at: datetime


def is_event_id(event_id: object) -> bool:
    """Whether an event may be given this id."""
    return isinstance(event_id, str) and bool(_EVENT_ID.fullmatch(event_id))


def kept_of(body: Body) -> Body:
    """What is taken from a body, nulls left out."""
    return {key: value for key, value in body.items() if key in KEPT and value is not None}


def merged(old: Body, patch: Body) -> Body:
    """Apply a patch: objects key by key, lists as a whole, and null takes a key away."""
    result = dict(old)
    for key, value in patch.items():
        if isinstance(value, dict):
            before = old.get(key)
            value = merged(before if isinstance(before, dict) else {}, value) or None  # noqa: PLW2901
        if value is None:
            result.pop(key, None)
        else:
            result[key] = value
    return result


def checked(values: Body) -> Body:
    """Check the types of what an event holds, and cut its properties as Google cuts them.

    Raises:
        RefusedError: A value is of another type, or not one of the choices.
    """
    for keys, kind in ((_TEXTS, str), (_OBJECTS, dict), (_LISTS, list), (_FLAGS, bool)):
        for key in keys:
            if key in values and not isinstance(values[key], kind):
                raise invalid(f"Invalid value for: {key}")
    for key, choices in _CHOICES.items():
        if key in values and values[key] not in choices:
            raise invalid(f"Invalid value for: {key}")
    result = dict(values)
    if "extendedProperties" in values:
        result["extendedProperties"] = _properties(values["extendedProperties"])
    if not values.get("recurrence", True):
        del result["recurrence"]
    for key in ("start", "end"):
        if key in values:
            result[key] = {one: values[key][one] for one in _TIME_KEYS if one in values[key]}
    return result


def _properties(given: Body) -> Body:
    result: Body = {}
    for group in ("private", "shared"):
        pairs = given.get(group, {})
        if not isinstance(pairs, dict) or not all(isinstance(one, str) for one in pairs.values()):
            raise invalid("Invalid value for: extendedProperties")
        kept = {
            key: value[:_MAX_PROPERTY_VALUE]
            for key, value in pairs.items()
            if len(key) <= _MAX_PROPERTY_NAME
        }
        size = sum(len(key.encode()) + len(value.encode()) for key, value in kept.items())
        if len(kept) > _MAX_PROPERTIES or size > _MAX_PROPERTIES_BYTES:
            raise invalid("Too many extended properties")
        if kept:
            result[group] = kept
    return result


def times_of(values: Body, zone: tzinfo) -> Times:
    """Read when an event begins and ends.

    Args:
        values: What the event holds.
        zone: Of the calendar: where its whole days begin.

    Raises:
        RefusedError: A time is missing, of another form, of no zone, or the end comes first.
    """
    for key in ("start", "end"):
        if key not in values:
            raise RefusedError(400, "required", f"Missing {key} time.")
    start, end = (_moment(values[key], key, zone) for key in ("start", "end"))
    if ("date" in values["start"]) is not ("date" in values["end"]):
        raise invalid("Start and end times must either both be date or both be dateTime.")
    # An event of no duration is taken; one that ends before it begins is not.
    if end < start:
        raise RefusedError(
            400, "timeRangeEmpty", "The specified time range is empty.", domain="calendar"
        )
    is_timed = "dateTime" in values["start"]
    if values.get("recurrence") and is_timed and "timeZone" not in values["start"]:
        raise RefusedError(400, "required", "Missing time zone definition for start time.")
    return Times(start_at=start, end_at=end)


def _moment(given: Body, name: str, zone: tzinfo) -> datetime:
    if "timeZone" in given and zone_of(given["timeZone"]) is None:
        raise invalid(f"Invalid time zone definition for {name} time.")
    day, moment = given.get("date"), given.get("dateTime")
    wrong = invalid(f"Invalid {name} time.")
    if (day is None) is (moment is None):
        raise wrong
    try:
        if day is not None:
            if not isinstance(day, str) or not _DATE.fullmatch(day):
                raise wrong
            return datetime.combine(date.fromisoformat(day), time(), zone).astimezone(UTC)
        if not isinstance(moment, str) or not _RFC3339.fullmatch(moment):
            raise wrong
        read = datetime.fromisoformat(moment)
        own = zone_of(given.get("timeZone"))
        if read.tzinfo is None:
            if own is None:
                raise RefusedError(
                    400, "required", f"Missing time zone definition for {name} time."
                )
            read = read.replace(tzinfo=own)
        return read.astimezone(UTC)
    except (ValueError, OverflowError):
        raise wrong from None


def zone_of(name: object) -> ZoneInfo | None:
    """The zone of a name; None where there is none such."""
    if not isinstance(name, str) or not _ZONE.fullmatch(name):
        return None
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        return None


def shown_time(given: Body, at: datetime, zone: tzinfo) -> Body:
    """A time as answers show it: in the zone asked for, beside the name of the one it was given."""
    if "date" in given:
        return dict(given)
    shown: Body = {"dateTime": _rfc3339(at.astimezone(zone))}
    if "timeZone" in given:
        shown["timeZone"] = given["timeZone"]
    return shown


def stamp(at: datetime) -> str:
    """An instant as `created` and `updated` show it."""
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _rfc3339(at: datetime) -> str:
    return at.isoformat(timespec="seconds").replace("+00:00", "Z")


def as_time(when: datetime | date, zone: str | None) -> Body:
    """A moment or a day as a body holds it, in a zone that is named.

    Raises:
        ValueError: The moment has no zone of its own.
    """
    if not isinstance(when, datetime):
        return {"date": when.isoformat()}
    if when.tzinfo is None:
        raise ValueError("a moment needs a zone")
    named = zone_of(zone)
    if named is None:
        return {"dateTime": _rfc3339(when)}
    return {"dateTime": _rfc3339(when.astimezone(named)), "timeZone": zone}


# -- series

_PARTS: Final = frozenset({"FREQ", "COUNT", "UNTIL", "INTERVAL", "BYDAY", "WKST"})
_WEEKDAYS: Final = ("MO", "TU", "WE", "TH", "FR", "SA", "SU")


def occurrences(values: Body, until: datetime) -> list[datetime | date]:
    """When the instances of a series begin, in its own zone: the first is where the series begins.

    Args:
        values: What the series holds, its times already read once.
        until: No instance begins later.

    Raises:
        RefusedError: The recurrence is none, or one that this stand-in does not know.
    """
    rule, excluded = _lines_of(values["recurrence"])
    start = values["start"]
    if "date" in start:
        first = date.fromisoformat(start["date"])
        begins: Callable[[date], datetime | date] = lambda day: day  # noqa: E731
    else:
        zone = zone_of(start["timeZone"])
        if zone is None:
            raise _not_served()
        read = datetime.fromisoformat(start["dateTime"])
        wall = (read if read.tzinfo is None else read.astimezone(zone)).replace(tzinfo=None)
        first = wall.date()
        begins = lambda day: datetime.combine(day, wall.time(), zone)  # noqa: E731
    count = int(rule["COUNT"]) if "COUNT" in rule else None
    last = _until_of(rule)
    found: list[datetime | date] = []
    number, day = 0, first
    while day <= until.date() and (count is None or number < count):
        if day == first or _is_met(rule, first, day):
            at = begins(day)
            if last is not None and _compact(at) > last:
                break
            number += 1
            if _compact(at) not in excluded:
                found.append(at)
        day += timedelta(days=1)
    return found


def _not_served() -> RefusedError:
    """Said plainly, so that nobody believes in a series that is another one at Google's."""
    return RefusedError(501, "notImplemented", "The stand-in knows no such recurrence.")


def _lines_of(lines: list[Any]) -> tuple[dict[str, str], set[str]]:
    rules: list[dict[str, str]] = []
    excluded: set[str] = set()
    for line in lines:
        name, _, text = str(line).partition(":")
        kind, _, parameters = name.partition(";")
        if kind == "RRULE":
            rules.append(dict(part.split("=", 1) for part in text.split(";") if "=" in part))
        elif kind == "EXDATE":
            zone = zone_of(parameters.removeprefix("TZID="))
            excluded |= {_in_utc(one, zone) for one in text.split(",")}
        else:
            raise _not_served()
    if len(rules) != 1:
        raise _not_served()
    rule = rules[0]
    days = set(filter(None, rule.get("BYDAY", "").split(",")))
    if (
        rule.keys() - _PARTS
        or rule.get("FREQ") not in {"DAILY", "WEEKLY", "MONTHLY", "YEARLY"}
        or (days and (rule["FREQ"] not in {"DAILY", "WEEKLY"} or days - set(_WEEKDAYS)))
        or not all(rule.get(name, "1").isdecimal() for name in ("COUNT", "INTERVAL"))
    ):
        raise _not_served()
    return rule, excluded


def _is_met(rule: Mapping[str, str], first: date, day: date) -> bool:
    every = int(rule.get("INTERVAL", "1"))
    days = rule.get("BYDAY")
    is_day = days is None or _WEEKDAYS[day.weekday()] in days.split(",")
    if rule["FREQ"] == "DAILY":
        return is_day and (day - first).days % every == 0
    if rule["FREQ"] == "WEEKLY":
        if days is None:
            is_day = day.weekday() == first.weekday()
        monday = first - timedelta(days=first.weekday())
        return is_day and (day - monday).days // 7 % every == 0
    months = (day.year - first.year) * 12 + day.month - first.month
    if rule["FREQ"] == "YEARLY":
        every *= 12
    return day.day == first.day and months % every == 0


def _until_of(rule: Mapping[str, str]) -> str | None:
    """A day counts to its end."""
    text = rule.get("UNTIL")
    return f"{text}T999999Z" if text is not None and "T" not in text else text


def _in_utc(text: str, zone: ZoneInfo | None) -> str:
    if zone is None or "T" not in text or text.endswith("Z"):
        return text
    return _compact(datetime.strptime(text, "%Y%m%dT%H%M%S").replace(tzinfo=zone))


def _compact(at: datetime | date) -> str:
    if isinstance(at, datetime):
        return at.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")
    return at.strftime("%Y%m%d")


def instance_id(series_id: str, original: datetime | date) -> str:
    """The id of an instance: that of the series, and when it was to begin."""
    return f"{series_id}_{_compact(original)}"


def times_of_instance(values: Body, times: Times, original: datetime | date) -> Body:
    """Start and end of an instance, as the bodies of events hold them."""
    if isinstance(original, datetime):
        zone = values["start"]["timeZone"]
        end = original.astimezone(UTC) + (times.end_at - times.start_at)
        return {"start": as_time(original, zone), "end": as_time(end, zone)}
    days = date.fromisoformat(values["end"]["date"]) - date.fromisoformat(values["start"]["date"])
    return {"start": as_time(original, None), "end": as_time(original + days, None)}
