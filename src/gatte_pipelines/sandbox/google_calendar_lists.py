"""How the stand-in for Google Calendar lists events: filters, pages, deltas by a sync token.

A run of pages keeps which events it tells of from its first page on; each is shown as it is when
its page is asked for, and the sync token of the last page stands for the moment of the first: what
changes between pages may be told twice, and is never missed.
Source: the discovery document and Google's guide on synchronisation.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from gatte_pipelines.sandbox.google_calendar_events import Body, stamp, zone_of
from gatte_pipelines.sandbox.google_calendar_faults import (
    GoogleFault,
    RefusedError,
    invalid,
    refusal_of,
)
from gatte_pipelines.sandbox.google_calendar_store import CalendarStore, Row

GLOBAL_PARAMETERS: Final = frozenset(
    {"alt", "key", "oauth_token", "prettyPrint", "quotaUser", "userIp"}
)
"""What every endpoint takes and nothing here is changed by."""

FORBIDDEN_WITH_SYNC_TOKEN: Final = (
    "iCalUID",
    "orderBy",
    "privateExtendedProperty",
    "q",
    "sharedExtendedProperty",
    "timeMin",
    "timeMax",
    "updatedMin",
)
# Not part of what a sync token is bound to: a delta tells of deletions always.
_UNBOUND: Final = frozenset(
    {"syncToken", "pageToken", "showDeleted", *FORBIDDEN_WITH_SYNC_TOKEN, *GLOBAL_PARAMETERS}
)
_REPEATED: Final = frozenset({"eventTypes", "privateExtendedProperty", "sharedExtendedProperty"})
_DEFAULT_PAGE = 250
_TOO_LONG_AGO = timedelta(days=28)

Pairs = Sequence[tuple[str, str]]


class Query:
    """The query of a request, read strictly."""

    def __init__(self, pairs: Pairs) -> None:
        self.pairs = tuple(pairs)
        self._last = dict(pairs)
        for name in self._last:
            if name not in _REPEATED and len(self.all(name)) > 1:
                raise invalid("Given more than once.", name)

    def text(self, name: str) -> str | None:
        """A text; None where it is not given."""
        return self._last.get(name)

    def all(self, name: str) -> tuple[str, ...]:
        """Every value of a parameter that may be repeated."""
        return tuple(value for key, value in self.pairs if key == name)

    def flag(self, name: str) -> bool:
        """True or false, and false where it is not given."""
        text = self._last.get(name, "false")
        if text not in {"true", "false"}:
            raise invalid("Invalid boolean value.", name)
        return text == "true"

    def number(self, name: str) -> int | None:
        """A number from 1; None where it is not given."""
        text = self._last.get(name)
        if text is None:
            return None
        if not text.isdecimal() or not 1 <= int(text) < 1 << 31:
            raise invalid("Invalid integer value.", name)
        return int(text)

    def instant(self, name: str) -> datetime | None:
        """An instant with its offset; None where it is not given."""
        text = self._last.get(name)
        if text is None:
            return None
        try:
            at = datetime.fromisoformat(text)
        except ValueError:
            at = datetime.min  # noqa: DTZ901 - refused below like one without an offset
        if at.tzinfo is None:
            raise refusal_of(GoogleFault.BAD_REQUEST)
        return at.astimezone(UTC)

    def zone(self) -> ZoneInfo | None:
        """The zone that times are asked for in."""
        name = self._last.get("timeZone")
        found = zone_of(name)
        if name is not None and found is None:
            raise invalid("Invalid time zone.", "timeZone")
        return found

    def properties(self, name: str) -> dict[str, str]:
        """Properties that events must have, all of them."""
        pairs = [one.partition("=") for one in self.all(name)]
        if not all(sign for _, sign, _ in pairs):
            raise invalid("Not a name and a value.", name)
        return {key: value for key, _, value in pairs}


@dataclass(frozen=True, kw_only=True)
class _SyncPoint:
    """What a sync token stands for."""

    revision: int
    bound: frozenset[tuple[str, str]]
    window: tuple[datetime | None, datetime | None]
    issued_at: datetime


@dataclass(frozen=True, kw_only=True)
class _Page:
    """What a page token stands for: the rest of a run, and the query that it belongs to."""

    query: frozenset[tuple[str, str]]
    ids: tuple[str, ...]
    empty_pages: int
    after: _SyncPoint | None


class CalendarLists:
    """Lists of one calendar, with the tokens that it gave out.

    Attributes:
        role: What the calendar is shared for, as lists tell it.
    """

    def __init__(self, store: CalendarStore) -> None:
        self.store = store
        self.role = "writer"
        self._points: dict[str, _SyncPoint] = {}
        self._pages: dict[str, _Page] = {}

    def expire(self) -> None:
        """Let every sync token so far be over."""
        with self.store.lock:
            self._points.clear()

    def answer(self, query: Query, *, is_stuck: bool = False) -> Body:
        """Answer one page.

        Args:
            query: What was asked for.
            is_stuck: Name the page itself as the next one.

        Raises:
            RefusedError: A parameter is wrong, or a token is over.
        """
        with self.store.lock:
            token = query.text("pageToken")
            page = self._first(query) if token is None else self._next(query, token)
            body = self._head()
            limit = min(query.number("maxResults") or _DEFAULT_PAGE, self.store.rules.page_limit)
            if page.empty_pages:
                limit = 0
            rest = _Page(
                query=page.query,
                ids=page.ids[limit:],
                empty_pages=max(0, page.empty_pages - 1),
                after=page.after,
            )
            body["items"] = self._items(query, page.ids[:limit])
            if is_stuck:
                body["nextPageToken"] = token if token is not None else self._keep(page)
            elif rest.ids or page.empty_pages:
                body["nextPageToken"] = self._keep(rest)
            elif page.after is not None:
                body["nextSyncToken"] = self._mint(page.after)
            return body

    def _head(self) -> Body:
        store = self.store
        return {
            "kind": "calendar#events",
            "etag": f'"p{store.revision:020d}"',
            "summary": store.title,
            "updated": stamp(store.changed_at),
            "timeZone": store.zone_name,
            "accessRole": self.role,
            "defaultReminders": [],
        }

    def _first(self, query: Query) -> _Page:
        revision = self.store.revision
        token = query.text("syncToken")
        since = None if token is None else self._point(query, token)
        is_wanted = self._filter(query, since)
        is_expanded = query.flag("singleEvents")
        rows = [row for row in self.store.each(is_expanded=is_expanded) if is_wanted(row)]
        order = query.text("orderBy")
        if order == "startTime":
            rows.sort(key=lambda row: row.start_at)
        elif order == "updated":
            rows.sort(key=lambda row: (row.updated, row.revision))
        after = _SyncPoint(
            revision=revision,
            bound=_bound(query),
            window=_window(query) if since is None else since.window,
            issued_at=self.store.now(),
        )
        return _Page(
            query=_without_page(query),
            ids=tuple(row.id for row in rows),
            empty_pages=self.store.rules.empty_pages,
            # Field reports: whoever asks for an order gets no sync token.
            after=None if order is not None else after,
        )

    def _next(self, query: Query, token: str) -> _Page:
        page = self._pages.get(token)
        if page is None or page.query != _without_page(query):
            raise invalid("Invalid page token value.", "pageToken")
        return page

    def _point(self, query: Query, token: str) -> _SyncPoint:
        for name in FORBIDDEN_WITH_SYNC_TOKEN:
            if query.text(name) is not None:
                raise _restricted(name)
        if query.text("showDeleted") == "false":
            raise _restricted("showDeleted")
        point = self._points.get(token)
        lifetime = self.store.rules.sync_token_lifetime
        if point is None or (
            lifetime is not None and self.store.now() - point.issued_at > lifetime
        ):
            raise refusal_of(GoogleFault.FULL_SYNC)
        # Google only calls this undefined; here a client that does it is found out.
        if point.bound != _bound(query):
            raise _restricted("syncToken")
        return point

    def _filter(self, query: Query, since: _SyncPoint | None) -> Callable[[Row], bool]:
        is_expanded, order = query.flag("singleEvents"), query.text("orderBy")
        if order not in {None, "startTime", "updated"} or (
            order == "startTime" and not is_expanded
        ):
            raise invalid("Invalid order.", "orderBy")
        window = _window(query)
        updated_min = query.instant("updatedMin")
        if updated_min is not None and self.store.now() - updated_min > _TOO_LONG_AGO:
            raise RefusedError(
                410,
                "updatedMinTooLongAgo",
                "The requested minimum modification time lies too far in the past.",
                domain="calendar",
                location=("parameter", "updatedMin"),
            )
        shows_deleted = _shows_deleted(query)
        private = query.properties("privateExtendedProperty")
        shared = query.properties("sharedExtendedProperty")
        types, uid = set(query.all("eventTypes")), query.text("iCalUID")
        term = (query.text("q") or "").casefold()
        if since is not None and self.store.rules.deltas_keep_window:
            window = since.window

        def is_wanted(row: Row) -> bool:
            if since is not None and row.revision <= since.revision:
                return False
            if row.is_cancelled:
                # An instance that does not take place tells something of its series.
                if not shows_deleted and (is_expanded or not self._is_exception(row)):
                    return False
                if since is not None:
                    return True
            return (
                self.store.is_within(row, *window)
                and (updated_min is None or row.updated >= updated_min)
                and _has(row, "private", private)
                and _has(row, "shared", shared)
                and (not types or row.event_type in types)
                and uid in {None, row.ical_uid}
                and term in _text_of(row)
            )

        return is_wanted

    def _is_exception(self, row: Row) -> bool:
        series = self.store.rows.get(row.series_id) if row.series_id is not None else None
        return series is not None and not series.is_cancelled

    def _items(self, query: Query, ids: Sequence[str]) -> list[Body]:
        zone = query.zone()
        shows_deleted = _shows_deleted(query)
        items = []
        for event_id in ids:
            row = self.store.find(event_id)
            if row is None:
                continue
            if not row.is_cancelled or self.store.rules.lists_show_deleted:
                items.append(self.store.shown(row, zone))
            elif shows_deleted or self._is_exception(row):
                items.append(self.store.shown_cancelled(row, zone))
        return items

    def _keep(self, page: _Page) -> str:
        token = secrets.token_urlsafe(18)
        self._pages[token] = page
        return token

    def _mint(self, point: _SyncPoint) -> str:
        # With the signs of base64, which a query must not hold as they are.
        token = f"CP+/{secrets.token_urlsafe(18)}=="
        self._points[token] = point
        return token


def _shows_deleted(query: Query) -> bool:
    """Asked for, or a list of changes, which holds deletions always."""
    is_of_changes = {"syncToken", "updatedMin"} & {name for name, _ in query.pairs}
    return query.flag("showDeleted") or bool(is_of_changes)


def _bound(query: Query) -> frozenset[tuple[str, str]]:
    return frozenset(pair for pair in query.pairs if pair[0] not in _UNBOUND)


def _without_page(query: Query) -> frozenset[tuple[str, str]]:
    return frozenset(pair for pair in query.pairs if pair[0] != "pageToken")


def _window(query: Query) -> tuple[datetime | None, datetime | None]:
    """Bounds of the end and of the start of events, both left out themselves."""
    low, high = query.instant("timeMin"), query.instant("timeMax")
    if low is not None and high is not None and low >= high:
        raise RefusedError(
            400,
            "timeRangeEmpty",
            "The specified time range is empty.",
            domain="calendar",
            location=("parameter", "timeMax"),
        )
    return low, high


def _has(row: Row, group: str, wanted: Mapping[str, str]) -> bool:
    held = row.values.get("extendedProperties", {}).get(group, {})
    return all(held.get(key) == value for key, value in wanted.items())


def _text_of(row: Row) -> str:
    parts = (row.values.get(key, "") for key in ("summary", "description", "location"))
    return "\n".join(parts).casefold()


def _restricted(name: str) -> RefusedError:
    return invalid("Sync token cannot be used with other request restrictions.", name)
