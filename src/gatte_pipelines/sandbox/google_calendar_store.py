"""What one calendar holds in the stand-in for Google Calendar, and what a write does: no HTTP here.

Events, tombstones, series with their instances and exceptions; the API and people write by the
same methods, so that whatever one does the other finds. How lists are cut into pages and deltas
belongs to ``google_calendar_lists``.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, time, timedelta
from datetime import date as Date  # noqa: N812 - a field has the name of the type
from typing import Final
from zoneinfo import ZoneInfo

from gatte_pipelines.sandbox.google_calendar_events import (
    KEPT,
    SHARED,
    Body,
    as_time,
    checked,
    instance_id,
    kept_of,
    merged,
    occurrences,
    shown_time,
    stamp,
    times_of,
    times_of_instance,
)
from gatte_pipelines.sandbox.google_calendar_faults import GoogleFault, invalid, refusal_of

PERSON: Final = "pessoa@example.com"
"""Who edits the calendar by hand."""

CANCELLED: Final = "cancelled"

# Etags of the real one are numbers of this size; nobody may read anything into them.
_FIRST_ETAG = 3_400_000_000_000_000
# What a write of these alone does not count as a change of the event's main data.
_ASIDE: Final = frozenset({"reminders"})
# A change of these is a new sequence number, as in iCalendar.
_RESCHEDULING: Final = frozenset({"start", "end", "recurrence", "status"})


@dataclass(kw_only=True)
class CalendarRules:
    """Where Google's texts leave a doubt, what the stand-in does; a test may choose.

    Attributes:
        page_limit: Most items of a page, whatever is asked for.
        empty_pages: How many pages without items come before the first one with some.
        deltas_keep_window: Whether a delta leaves out what is outside the first list's window;
            else it tells of every change.
        lists_show_deleted: Whether a list shows all of a deleted event; else its id and status.
        deleted_status: What `get` answers for a deleted event: 200 with all of it, 404 or 410.
        sync_token_lifetime: When sync tokens end; None for never.
        expands: How far from now series are expanded.
    """

    page_limit: int = 2500
    empty_pages: int = 0
    deltas_keep_window: bool = False
    lists_show_deleted: bool = False
    deleted_status: int = 200
    sync_token_lifetime: timedelta | None = None
    expands: timedelta = timedelta(days=365)


@dataclass(kw_only=True)
class Row:
    """An event, a series, or an instance of one.

    Attributes:
        values: What it holds of all that may be written.
        revision: Number of the last write, over the whole calendar.
        series_id: For an instance.
        original: When it was to begin, for an instance.
        is_purged: Deleted so long ago that it is seen nowhere; its id stays taken.
        is_virtual: An instance that nobody touched: not kept, but read off its series.
        fell_with_series: Cancelled because its series was.
        gone: Former instances of a series by their ids, with their revisions.
    """

    id: str
    values: Body = field(repr=False)
    revision: int
    created: datetime
    updated: datetime
    start_at: datetime
    end_at: datetime
    creator: str = field(repr=False)
    organizer: str = field(repr=False)
    ical_uid: str
    sequence: int = 0
    event_type: str = "default"
    series_id: str | None = None
    original: datetime | Date | None = None
    is_purged: bool = False
    is_virtual: bool = False
    fell_with_series: bool = False
    gone: dict[str, tuple[datetime | Date, int]] = field(default_factory=dict, repr=False)

    @property
    def etag(self) -> str:
        """With its quotes, which belong to it."""
        return f'"{_FIRST_ETAG + 2 * self.revision}"'

    @property
    def is_cancelled(self) -> bool:
        """Deleted, or an instance that does not take place."""
        return bool(self.values["status"] == CANCELLED)

    @property
    def is_series(self) -> bool:
        """The event that instances belong to."""
        return "recurrence" in self.values


class CalendarStore:
    """The events of one calendar.

    Every method locks; what calls several holds `lock` itself.

    Args:
        calendar_id: Its id, which organizes what is written here.
        zone: Of the calendar, by name.
        now: The clock of `created` and `updated`.
        rules: Where there is a doubt.
        title: Of the calendar.
    """

    def __init__(
        self,
        calendar_id: str,
        zone: str,
        now: Callable[[], datetime],
        rules: CalendarRules,
        title: str = "Agenda",
    ) -> None:
        self.lock = threading.RLock()
        self.id, self.title, self.rules = calendar_id, title, rules
        self.zone_name, self.zone = zone, ZoneInfo(zone)
        self.now = now
        self.revision = 0
        self.changed_at = now()
        self.rows: dict[str, Row] = {}
        self._expanded: dict[str, tuple[tuple[int, Date], dict[str, datetime | Date]]] = {}

    # -- reading

    def find(self, event_id: str) -> Row | None:
        """An event by its id, an instance that nobody touched too; None where there is none."""
        with self.lock:
            found = self.rows.get(event_id)
            if found is not None:
                return None if found.is_purged else found
            series = self.rows.get(event_id.rpartition("_")[0])
            if series is None or series.is_purged:
                return None
            if event_id in series.gone:
                original, revision = series.gone[event_id]
                row = self._instance(series, event_id, original, is_gone=True)
                row.revision, row.values["status"] = revision, CANCELLED
                return row
            original_of = self.instances(series)
            if event_id not in original_of:
                return None
            return self._instance(series, event_id, original_of[event_id])

    def row(self, event_id: str) -> Row:
        """An event by its id.

        Raises:
            RefusedError: 404; or what the rules say of a deleted one.
        """
        found = self.find(event_id)
        if found is None:
            raise refusal_of(GoogleFault.NOT_FOUND)
        if found.is_cancelled and found.series_id is None and self.rules.deleted_status != 200:
            is_gone = self.rules.deleted_status == 410
            raise refusal_of(GoogleFault.DELETED if is_gone else GoogleFault.NOT_FOUND)
        return found

    def instances(self, series: Row) -> Mapping[str, datetime | Date]:
        """When each instance of a series was to begin, by its id."""
        if not series.is_series:
            return {}
        until = self.now() + self.rules.expands
        key = (series.revision, until.date())
        known = self._expanded.get(series.id)
        if known is None or known[0] != key:
            found = {instance_id(series.id, at): at for at in occurrences(series.values, until)}
            known = self._expanded[series.id] = (key, found)
        return known[1]

    def each(self, *, is_expanded: bool) -> Iterator[Row]:
        """Everything that lists may tell of, cancelled ones too.

        Args:
            is_expanded: Whether in place of a series come its instances, and the former ones.
        """
        for row in list(self.rows.values()):
            if row.is_purged:
                continue
            if not is_expanded:
                yield row
                continue
            for event_id, original in self.instances(row).items():
                if event_id not in self.rows:
                    yield self._instance(row, event_id, original)
            for event_id in row.gone:
                if event_id not in self.rows and (one := self.find(event_id)) is not None:
                    yield one
            if not row.is_series:
                yield row

    def is_within(self, row: Row, low: datetime | None, high: datetime | None) -> bool:
        """Whether an event ends after one instant and begins before another.

        A series that is not expanded does where any of its instances does.
        """
        starts = [row.start_at]
        if row.is_series:
            starts = [_instant(at, self.zone) for at in self.instances(row).values()] or starts
        length = row.end_at - row.start_at
        return any(
            (low is None or at + length > low) and (high is None or at < high) for at in starts
        )

    def _instance(
        self, series: Row, event_id: str, original: datetime | Date, *, is_gone: bool = False
    ) -> Row:
        values = {key: one for key, one in series.values.items() if key != "recurrence"}
        if is_gone:
            # How long it was the series no longer tells.
            zone = values["start"].get("timeZone")
            values |= {key: as_time(original, zone) for key in ("start", "end")}
        else:
            times = times_of(series.values, self.zone)
            values |= times_of_instance(series.values, times, original)
        own = times_of(values, self.zone)
        return replace(
            series,
            id=event_id,
            values=values,
            start_at=own.start_at,
            end_at=own.end_at,
            series_id=series.id,
            original=original,
            is_virtual=True,
            gone={},
        )

    def shown(self, row: Row, zone: ZoneInfo | None = None) -> Body:
        """An event with all that it holds."""
        zone = zone or self.zone
        values = row.values
        body: Body = {
            "kind": "calendar#event",
            "etag": row.etag,
            "id": row.id,
            "status": values["status"],
            "htmlLink": f"https://calendar.example.com/event?eid={row.id}",
            "created": stamp(row.created),
            "updated": stamp(row.updated),
            **{key: one for key, one in values.items() if key not in {"start", "end", "status"}},
            "creator": {"email": row.creator},
            "organizer": self._organizer(row),
            "start": shown_time(values["start"], row.start_at, zone),
            "end": shown_time(values["end"], row.end_at, zone),
            "iCalUID": row.ical_uid,
            "sequence": row.sequence,
            "reminders": values.get("reminders", {"useDefault": True}),
            "eventType": row.event_type,
        }
        return body | self._shown_series(row, zone)

    def shown_cancelled(self, row: Row, zone: ZoneInfo | None = None) -> Body:
        """A cancelled event with no more than Google promises of it: its id, and its status."""
        body: Body = {"id": row.id, "status": CANCELLED}
        series = self.rows.get(row.series_id) if row.series_id is not None else None
        if series is None or series.is_cancelled:
            return body
        return body | self._shown_series(row, zone or self.zone)

    def _organizer(self, row: Row) -> Body:
        if row.organizer == self.id:
            return {"email": self.id, "displayName": self.title, "self": True}
        return {"email": row.organizer}

    def _shown_series(self, row: Row, zone: ZoneInfo) -> Body:
        if row.series_id is None or row.original is None:
            return {}
        series = self.rows[row.series_id]
        name = series.values["start"].get("timeZone")
        given = as_time(row.original, name)
        at = row.original if isinstance(row.original, datetime) else row.start_at
        return {
            "recurringEventId": row.series_id,
            "originalStartTime": shown_time(given, at, zone),
        }

    # -- writing

    def add(
        self,
        body: Body,
        by: str,
        *,
        event_id: str | None = None,
        organizer: str | None = None,
        event_type: str = "default",
    ) -> Row:
        """Add an event.

        Args:
            body: What it holds.
            by: Who writes.
            event_id: Its id; a random one where none is given.
            organizer: Whose event it is; this calendar's where nobody is given.
            event_type: As Google names the kinds of events.

        Raises:
            RefusedError: The body is not one of an event, or the id is taken, by a deleted event
                too.
        """
        with self.lock:
            values = {"status": "confirmed", **checked(kept_of(body))}
            times = times_of(values, self.zone)
            if "recurrence" in values:
                occurrences(values, times.start_at)
            event_id = event_id or secrets.token_hex(13)
            if event_id in self.rows:
                raise refusal_of(GoogleFault.DUPLICATE)
            at = self._tick()
            row = Row(
                id=event_id,
                values=values,
                revision=self.revision,
                created=at,
                updated=at,
                start_at=times.start_at,
                end_at=times.end_at,
                creator=by,
                organizer=organizer or self.id,
                ical_uid=str(body.get("iCalUID") or f"{event_id}@calendar.example.com"),
                event_type=event_type,
            )
            self.rows[event_id] = row
            return row

    def patch(self, row: Row, body: Body, *, is_person: bool = False) -> Row:
        """Change what a body names; null takes away.

        Args:
            row: As `find` gave it.
            body: The patch.
            is_person: Whether somebody does this by hand, who may do what the API may not.

        Raises:
            RefusedError: What comes out is not an event, or is not ours to change.
        """
        known = {key: one for key, one in body.items() if key in KEPT}
        return self._write(row, merged(row.values, known), body, is_person=is_person)

    def put(self, row: Row, body: Body) -> Row:
        """Replace all that an event holds.

        Raises:
            RefusedError: As in `patch`.
        """
        return self._write(row, {"status": "confirmed", **kept_of(body)}, body, is_person=False)

    def delete(self, row: Row) -> None:
        """Delete an event, a series with all its instances, or one instance.

        Raises:
            RefusedError: 410, it is deleted already.
        """
        if row.is_cancelled:
            raise refusal_of(GoogleFault.DELETED)
        self._write(row, {**row.values, "status": CANCELLED}, {}, is_person=True)

    def purge(self) -> None:
        """Let what is deleted be seen nowhere any more; the ids stay taken."""
        with self.lock:
            for row in self.rows.values():
                series = self.rows[row.series_id] if row.series_id is not None else row
                row.is_purged = row.is_purged or series.is_cancelled

    def _write(self, row: Row, values: Body, body: Body, *, is_person: bool) -> Row:
        with self.lock:
            values = checked(values)
            values.setdefault("status", "confirmed")
            if (
                not is_person
                and row.organizer != self.id
                and _shared(values) != _shared(row.values)
            ):
                raise refusal_of(GoogleFault.NOT_ORGANIZER)
            times = times_of(values, self.zone)
            if "recurrence" in values:
                if row.series_id is not None:
                    raise invalid("An instance has no recurrence")
                occurrences(values, times.start_at)
            sequence = body.get("sequence")
            sequence = row.sequence if sequence is None else sequence
            if not isinstance(sequence, int) or sequence < row.sequence:
                raise invalid("Invalid sequence value.")
            before = dict(self.instances(row))
            at = self._tick()
            changed = {
                key
                for key in row.values.keys() | values.keys()
                if row.values.get(key) != values.get(key)
            }
            if row.is_virtual:
                row = replace(row, is_virtual=False)
                self.rows[row.id] = row
            row.revision, row.values = self.revision, values
            row.start_at, row.end_at = times.start_at, times.end_at
            row.sequence = max(sequence, row.sequence + bool(changed & _RESCHEDULING))
            # Google: a change of the reminders is none of `updated`.
            if not changed or changed - _ASIDE:
                row.updated = at
            if row.series_id is None and (before or row.is_series):
                self._follow(row, before)
            return row

    def _follow(self, series: Row, before: Mapping[str, datetime | Date]) -> None:
        """Let instances follow their series: those that are no more, and a deletion of it all."""
        now = self.instances(series)
        for event_id, original in before.items():
            if event_id not in now:
                series.gone[event_id] = (original, self.revision)
        for event_id in now:
            series.gone.pop(event_id, None)
        for row in self.rows.values():
            if row.series_id != series.id:
                continue
            falls = series.is_cancelled or row.id not in now
            if falls and not row.is_cancelled:
                row.values = {**row.values, "status": CANCELLED}
                row.revision, row.updated, row.fell_with_series = (
                    self.revision,
                    series.updated,
                    True,
                )
            elif not falls and row.fell_with_series:
                row.values = {**row.values, "status": "confirmed"}
                row.revision, row.updated, row.fell_with_series = (
                    self.revision,
                    series.updated,
                    False,
                )

    def _tick(self) -> datetime:
        self.revision += 1
        self.changed_at = self.now().astimezone(UTC)
        return self.changed_at


def _instant(at: datetime | Date, zone: ZoneInfo) -> datetime:
    if not isinstance(at, datetime):
        at = datetime.combine(at, time(), zone)
    return at.astimezone(UTC)


def _shared(values: Body) -> Body:
    shared = {key: values.get(key) for key in SHARED}
    shared["shared"] = values.get("extendedProperties", {}).get("shared")
    return shared
