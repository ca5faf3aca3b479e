"""The endpoints of the stand-in for Google Calendar: paths, known parameters, scopes, who answers.

A contract test holds the table to the discovery document. Sockets, tokens and faults belong to
``google_calendar``, events to ``google_calendar_store``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from gatte_pipelines.sandbox.google_calendar_access import CLIENT_EMAIL, SCOPE_PREFIX
from gatte_pipelines.sandbox.google_calendar_events import Body, is_event_id
from gatte_pipelines.sandbox.google_calendar_faults import (
    GoogleFault,
    RefusedError,
    invalid,
    refusal_of,
)
from gatte_pipelines.sandbox.google_calendar_lists import CalendarLists, Query
from gatte_pipelines.sandbox.google_calendar_store import CalendarStore, Row

_NOT_MODIFIED = 304
_NO_CONTENT = 204


@dataclass(frozen=True, kw_only=True)
class Request:
    """A request as an endpoint sees it.

    Attributes:
        by: The e-mail of whoever writes.
        may_invite: Whether attendees may be named: only in the name of a user of the domain.
        is_stuck: Whether a page is to name itself as the next one.
    """

    event_id: str
    query: Query = field(repr=False)
    body: Any = field(repr=False, default=None)
    if_match: str | None = None
    if_none_match: str | None = None
    by: str = field(repr=False, default=CLIENT_EMAIL)
    may_invite: bool = False
    is_stuck: bool = False


@dataclass(frozen=True, kw_only=True)
class Reply:
    """A status, the body as JSON or none, and an etag where there is one."""

    status: int
    body: Body | None = field(repr=False, default=None)
    etag: str | None = None


class CalendarApi:
    """Answers requests about the events of one calendar.

    Attributes:
        invitations: Method and id of every write that asked Google to write to guests.
    """

    def __init__(self, store: CalendarStore) -> None:
        self.store = store
        self.lists = CalendarLists(store)
        self.invitations: list[tuple[str, str]] = []

    def list_events(self, request: Request) -> Reply:
        """A page of events."""
        return Reply(status=200, body=self.lists.answer(request.query, is_stuck=request.is_stuck))

    def get_event(self, request: Request) -> Reply:
        """One event, a cancelled one too."""
        row = self.store.row(request.event_id)
        if request.if_none_match is not None and _names(request.if_none_match, row):
            return Reply(status=_NOT_MODIFIED, etag=row.etag)
        return self._shown(request, row)

    def insert_event(self, request: Request) -> Reply:
        """A new event, with an id of the caller's if it likes."""
        body = self._body(request)
        event_id = body.get("id")
        if event_id is not None:
            if not is_event_id(event_id):
                raise invalid("Invalid resource id value.")
            if body.get("iCalUID") is not None:
                raise invalid("Either an id or an iCalUID, not both.")
        row = self.store.add(body, request.by, event_id=event_id)
        self._note("POST", request, row)
        return self._shown(request, row)

    def patch_event(self, request: Request) -> Reply:
        """Change what the body names."""
        body = self._body(request)
        row = self._unchanged(request)
        row = self.store.patch(row, body)
        self._note("PATCH", request, row)
        return self._shown(request, row)

    def update_event(self, request: Request) -> Reply:
        """Replace all that an event holds."""
        body = self._body(request)
        row = self._unchanged(request)
        row = self.store.put(row, body)
        self._note("PUT", request, row)
        return self._shown(request, row)

    def delete_event(self, request: Request) -> Reply:
        """Delete an event; a second time is one too many."""
        row = self.store.find(request.event_id)
        if row is None:
            raise refusal_of(GoogleFault.NOT_FOUND)
        if row.is_cancelled:
            raise refusal_of(GoogleFault.DELETED)
        self._unchanged(request)
        self.store.delete(row)
        self._note("DELETE", request, row)
        return Reply(status=_NO_CONTENT)

    def _unchanged(self, request: Request) -> Row:
        row = self.store.row(request.event_id)
        if request.if_match is not None and not _names(request.if_match, row):
            raise refusal_of(GoogleFault.CHANGED)
        return row

    def _body(self, request: Request) -> Body:
        if not isinstance(request.body, dict):
            raise RefusedError(400, "parseError", "Parse Error")
        body: Body = request.body
        if body.get("attendees") and not request.may_invite:
            raise refusal_of(GoogleFault.SERVICE_ACCOUNT)
        choice = request.query.text("sendUpdates")
        if choice not in {None, "none", "all", "externalOnly"}:
            raise invalid("Invalid value.", "sendUpdates")
        return body

    def _shown(self, request: Request, row: Row) -> Reply:
        body = self.store.shown(row, request.query.zone())
        return Reply(status=200, body=body, etag=row.etag)

    def _note(self, method: str, request: Request, row: Row) -> None:
        is_wanted = request.query.text("sendUpdates") in {"all", "externalOnly"}
        if is_wanted or request.query.flag("sendNotifications"):
            self.invitations.append((method, row.id))


def _names(header: str, row: Row) -> bool:
    """Whether a condition names the etag that an event has."""
    return header.strip() == "*" or row.etag in {part.strip() for part in header.split(",")}


@dataclass(frozen=True, kw_only=True)
class Route:
    """An endpoint: which query parameters it knows, which scopes open it, and who answers."""

    name: str
    method: str
    template: str
    answer: Callable[[CalendarApi, Request], Reply]
    parameters: frozenset[str]
    scopes: frozenset[str]

    @property
    def is_write(self) -> bool:
        """Whether it needs more than a calendar shared for reading."""
        return self.method != "GET"


def _scopes(*names: str) -> frozenset[str]:
    return frozenset(SCOPE_PREFIX + name for name in names)


EVENTS_SCOPE: Final = f"{SCOPE_PREFIX}calendar.events"
"""What is enough for everything here."""

_WRITE_SCOPES: Final = _scopes(
    "calendar", "calendar.app.created", "calendar.events", "calendar.events.owned"
)
_READ_SCOPES: Final = _WRITE_SCOPES | _scopes(
    "calendar.events.freebusy",
    "calendar.events.owned.readonly",
    "calendar.events.public.readonly",
    "calendar.events.readonly",
    "calendar.readonly",
)
_EVENTS = "calendars/{calendarId}/events"
_EVENT = "calendars/{calendarId}/events/{eventId}"
_NOTIFYING: Final = ("sendNotifications", "sendUpdates")
_WRITING: Final = (
    "conferenceDataVersion",
    "eventLabelVersion",
    "maxAttendees",
    "supportsAttachments",
    *_NOTIFYING,
)


def _route(
    name: str,
    method: str,
    template: str,
    answer: Callable[[CalendarApi, Request], Reply],
    parameters: Iterable[str],
    scopes: frozenset[str] = _WRITE_SCOPES,
) -> Route:
    return Route(
        name=name,
        method=method,
        template=template,
        answer=answer,
        parameters=frozenset(parameters),
        scopes=scopes,
    )


ROUTES: Final = (
    _route(
        "list",
        "GET",
        _EVENTS,
        CalendarApi.list_events,
        (
            "alwaysIncludeEmail",
            "eventTypes",
            "iCalUID",
            "maxAttendees",
            "maxResults",
            "orderBy",
            "pageToken",
            "privateExtendedProperty",
            "q",
            "sharedExtendedProperty",
            "showDeleted",
            "showHiddenInvitations",
            "singleEvents",
            "syncToken",
            "timeMax",
            "timeMin",
            "timeZone",
            "updatedMin",
        ),
        _READ_SCOPES,
    ),
    _route(
        "get",
        "GET",
        _EVENT,
        CalendarApi.get_event,
        ("alwaysIncludeEmail", "maxAttendees", "timeZone"),
        _READ_SCOPES,
    ),
    _route("insert", "POST", _EVENTS, CalendarApi.insert_event, _WRITING),
    _route("patch", "PATCH", _EVENT, CalendarApi.patch_event, (*_WRITING, "alwaysIncludeEmail")),
    _route("update", "PUT", _EVENT, CalendarApi.update_event, (*_WRITING, "alwaysIncludeEmail")),
    _route("delete", "DELETE", _EVENT, CalendarApi.delete_event, _NOTIFYING),
)


def find_route(method: str, segments: list[str]) -> tuple[Route, Mapping[str, str]] | None:
    """The endpoint of a path and the ids in it; None where there is no such endpoint.

    Args:
        method: Of HTTP.
        segments: Parts of the path below the base, already unquoted.
    """
    for route in ROUTES:
        names = route.template.split("/")
        if route.method != method or len(names) != len(segments) or not all(segments):
            continue
        pairs = list(zip(names, segments, strict=True))
        if all(name == part for name, part in pairs if not name.startswith("{")):
            return route, {name[1:-1]: part for name, part in pairs if name.startswith("{")}
    return None
