"""Google Calendar's API on this machine: the stand-in for the team's calendar, with a person in it.

The token endpoint of a service account, lists with sync tokens, and writes with etags over HTTP;
what a person does to the calendar as methods; faults on request. Syncing belongs to
``google_calendar`` among the domains.
Sources: the discovery document, Google's guides, and field reports where both are silent.
"""

from __future__ import annotations

import copy
import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qsl, unquote, urlsplit

from gatte_pipelines.sandbox.faults import MISSING, FaultPlan, alter
from gatte_pipelines.sandbox.google_calendar_access import Grant, ServiceAccount
from gatte_pipelines.sandbox.google_calendar_api import (
    CalendarApi,
    Reply,
    Request,
    Route,
    find_route,
)
from gatte_pipelines.sandbox.google_calendar_events import Body, as_time
from gatte_pipelines.sandbox.google_calendar_faults import (
    AFTER,
    GoogleFault,
    RefusedError,
    TokenRefusedError,
    is_refusal,
    is_token_refusal,
    refusal_of,
    token_refusal_of,
)
from gatte_pipelines.sandbox.google_calendar_lists import GLOBAL_PARAMETERS, Query
from gatte_pipelines.sandbox.google_calendar_store import (
    PERSON,
    CalendarRules,
    CalendarStore,
    Row,
)
from gatte_pipelines.sandbox.loopback import LoopbackServer
from gatte_pipelines.sandbox.wire import Answer, handler_of

__all__ = ["CalendarRules", "Exchange", "GoogleCalendarStandIn", "GoogleFault"]

CALENDAR_ID: Final = "agenda-gatte@example.com"
EXCHANGE_TEMPLATE: Final = "token"

_BASE = "/calendar/v3"
_EXCHANGE = "/token"
_ZONE = "America/Sao_Paulo"
_HANG_SECONDS = 60.0
_JSON_TYPE = "application/json; charset=UTF-8"
_HTML_TYPE = "text/html; charset=UTF-8"
_NOT_FOUND_PAGE = b"<!DOCTYPE html><html lang=en><title>Error 404 (Not Found)!!1</title></html>"
_GATEWAY_PAGE = b"<html><head><title>502 Bad Gateway</title></head><body></body></html>"


@dataclass(frozen=True, kw_only=True)
class Exchange:
    """A request and what was answered. Its repr shows neither ids, query nor bodies.

    Attributes:
        path: Percent-encoded as it came, without the query.
        request_headers: Names of the request's headers in lower case; of no value more is kept
            than of the three that follow.
        status: None where no answer went out.
        template: The path as the discovery document writes it, `token` for the token endpoint;
            None where there is no such endpoint.
        unknown_parameters: Names in the query that the endpoint does not know and ignores.
    """

    method: str
    path: str = field(repr=False)
    query: tuple[tuple[str, str], ...] = field(repr=False)
    request_headers: frozenset[str] = field(repr=False)
    content_type: str = field(repr=False)
    if_match: str | None = field(repr=False)
    if_none_match: str | None = field(repr=False)
    request_body: bytes = field(repr=False)
    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: bytes = field(default=b"", repr=False)
    template: str | None = None
    unknown_parameters: tuple[str, ...] = ()


@dataclass(kw_only=True)
class _Answer(Answer):
    """An answer on its way out, and what is noted of it."""

    template: str | None = None
    unknown: tuple[str, ...] = ()


class GoogleCalendarStandIn(LoopbackServer):
    """Google Calendar on a loopback port, with one calendar of the team.

    Attributes:
        calendar_id: The id of the team's calendar.
        account: The service account: its tokens and what it may ask for.
        rules: Where Google's texts leave a doubt, what the stand-in does.
        role: What the calendar is shared with the service account for: writer, reader; None where
            it is not shared, and therefore not found.
        after_effect: Called once a request for events had its effect and before it is answered,
            with method and path: the moment to kill a client that does not know yet.

    Args:
        port: Port, or 0 for any free one.
        calendar_id: Of the team's calendar.
        zone: Of the team's calendar.
        now: The clock of events and sync tokens.
        token_now: The clock of assertions and access tokens: Google's library takes the real one.
    """

    def __init__(
        self,
        port: int = 0,
        *,
        calendar_id: str = CALENDAR_ID,
        zone: str = _ZONE,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        token_now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        super().__init__("google-calendar-stand-in", port, handler_of(self.answer))
        self.calendar_id = calendar_id
        self.account = ServiceAccount(now=token_now)
        self.rules = CalendarRules()
        self.role: str | None = "writer"
        self.after_effect: Callable[[str, str], None] | None = None
        self._now = now
        self._zone = zone
        self._api = self._new_api(calendar_id)
        # Calendars of their own: the service account's, and those of users it acts for.
        self._own: dict[str, CalendarApi] = {}
        self._lock = threading.Lock()
        self._exchanges: list[Exchange] = []
        self._faults: FaultPlan[GoogleFault] = FaultPlan()

    def _new_api(self, calendar_id: str) -> CalendarApi:
        return CalendarApi(CalendarStore(calendar_id, self._zone, self._now, self.rules))

    @property
    def url(self) -> str:
        """The base for ``GATTE_GOOGLE_CALENDAR_BASE_URL``."""
        return self.origin + _BASE

    @property
    def token_url(self) -> str:
        """The address for ``GATTE_GOOGLE_TOKEN_URL``."""
        return self.origin + _EXCHANGE

    def write_credentials(self, path: Path, *, is_foreign: bool = False, **changes: Any) -> Path:
        """Write the file of the service account's key, for its owner only.

        Args:
            path: Where.
            is_foreign: With a key that is not the account's, as after it was taken back.
            changes: Other values of its fields; None leaves a field out.

        Returns:
            The path.
        """
        made = self.account.credentials(self.token_url, is_foreign=is_foreign) | changes
        path.touch(mode=0o600)
        path.write_text(json.dumps({key: one for key, one in made.items() if one is not None}))
        return path

    # -- what a test looks at

    @property
    def exchanges(self) -> list[Exchange]:
        """Every request so far with its answer, those for tokens too, oldest first."""
        with self._lock:
            return list(self._exchanges)

    @property
    def calls(self) -> list[tuple[str, str]]:
        """Method and template of every request so far, those for tokens left out."""
        return [
            (one.method, one.template or one.path)
            for one in self.exchanges
            if one.template != EXCHANGE_TEMPLATE
        ]

    def forget_exchanges(self) -> None:
        """Begin to count anew."""
        with self._lock:
            self._exchanges.clear()

    @property
    def unknown_parameters(self) -> list[tuple[str, str, str]]:
        """Method, endpoint and name of every query parameter that was ignored."""
        return [
            (one.method, one.template or one.path, name)
            for one in self.exchanges
            for name in one.unknown_parameters
        ]

    @property
    def events(self) -> list[Body]:
        """What takes place: events, series and exceptions that are not cancelled."""
        return [self._shown(row) for row in self._rows() if not row.is_cancelled]

    @property
    def cancelled_ids(self) -> list[str]:
        """Ids of what was deleted, or does not take place."""
        return [row.id for row in self._rows() if row.is_cancelled]

    @property
    def own_events(self) -> list[Body]:
        """Events in calendars that nobody of the team sees, such as `primary`."""
        return [
            api.store.shown(row)
            for api in self._own.values()
            for row in api.store.each(is_expanded=False)
        ]

    @property
    def invitations(self) -> list[tuple[str, str]]:
        """Method and id of every write that asked Google to write to guests."""
        return list(self._api.invitations)

    def event(self, event_id: str) -> Body:
        """An event as `get` shows it, an instance or a cancelled one too.

        Raises:
            KeyError: There is none.
        """
        return self._shown(self._row(event_id))

    def instance_ids(self, series_id: str) -> list[str]:
        """Ids of the instances of a series, the cancelled ones too, in their order."""
        with self._api.store.lock:
            return list(self._api.store.instances(self._row(series_id)))

    def _rows(self) -> list[Row]:
        with self._api.store.lock:
            return list(self._api.store.each(is_expanded=False))

    def _row(self, event_id: str) -> Row:
        found = self._api.store.find(event_id)
        if found is None:
            raise KeyError(event_id)
        return found

    def _shown(self, row: Row) -> Body:
        return copy.deepcopy(self._api.store.shown(row))

    # -- faults

    def fail(
        self,
        fault: GoogleFault,
        *,
        times: int = 1,
        skip: int = 0,
        method: str | None = None,
        path: str | None = None,
    ) -> None:
        """Fail requests to come: of the token endpoint only where the path or the fault says so.

        Args:
            fault: How.
            times: How many of them.
            skip: How many that would meet it pass before.
            method: Only those of this method.
            path: Only those where this pattern is found in the path; `/token` is the token's.
        """
        self._faults.add(fault, times, skip, method, path or _where(fault))

    def alter(
        self,
        key: str,
        value: Any = MISSING,
        *,
        times: int = 1,
        skip: int = 0,
        method: str | None = None,
        path: str | None = None,
    ) -> None:
        """Answer with another value under a key, or without the key where no value is given.

        Args:
            key: Such as `items.start.dateTime`; in a list every item is altered.
            value: What stands there instead.
            times: As in `fail`, which also tells of the others.
            skip: As in `fail`.
            method: As in `fail`.
            path: As in `fail`.
        """
        self._faults.add((key, value), times, skip, method, path or _where(None))

    def omit(self, key: str, **which: Any) -> None:
        """Answer without a key; `which` as in `fail`."""
        self.alter(key, **which)

    def expire_sync_tokens(self) -> None:
        """Let every sync token so far be over: 410 fullSyncRequired."""
        self._api.lists.expire()

    def expire_access_tokens(self) -> None:
        """Let every access token so far be over: 401."""
        self.account.expire_tokens()

    def purge_deleted(self) -> None:
        """Let deleted events be seen nowhere any more; their ids stay taken."""
        self._api.store.purge()

    # -- a person at the calendar

    def add_event(
        self,
        start: datetime | date,
        end: datetime | date | None = None,
        *,
        zone: str | None = _ZONE,
        organizer: str | None = None,
        event_type: str = "default",
        **values: Any,
    ) -> str:
        """Add an event of somebody's own, or an invitation of another organizer.

        Args:
            start: A moment with a zone, or a day.
            end: An hour or a day later where it is not given.
            zone: Named beside the times; None for none.
            organizer: Whose event it is; the calendar's own where nobody is given.
            event_type: As Google names the kinds of events.
            values: Of the fields of an event, as the API names them.

        Returns:
            Its id.
        """
        body = {"summary": "Reunião", **_span(start, end, zone), **values}
        store = self._api.store
        return store.add(body, PERSON, organizer=organizer, event_type=event_type).id

    def edit_event(self, event_id: str, **values: Any) -> None:
        """Change fields of an event; None takes a field away."""
        with self._api.store.lock:
            self._api.store.patch(self._row(event_id), values, is_person=True)

    def retitle_event(self, event_id: str, title: str) -> None:
        """Give an event another title."""
        self.edit_event(event_id, summary=title)

    def move_event(
        self,
        event_id: str,
        start: datetime | date,
        end: datetime | date | None = None,
        *,
        zone: str | None = _ZONE,
    ) -> None:
        """Move an event, a series or one instance; it stays as long as it was if no end is given.

        Args:
            event_id: Which.
            start: A moment with a zone, or a day.
            end: Its end.
            zone: Named beside the times; None for none.
        """
        with self._api.store.lock:
            row = self._row(event_id)
            if end is None and isinstance(start, datetime) and "dateTime" in row.values["start"]:
                end = start + (row.end_at - row.start_at)
            span = _span(start, end, zone)
            # A time that was a day, or the other way round, is another time as a whole.
            body = {key: {**_EMPTY_TIME, **one} for key, one in span.items()}
            self._api.store.patch(row, body, is_person=True)

    def make_all_day(self, event_id: str, on: date, days: int = 1) -> None:
        """Turn an event into one of whole days."""
        self.move_event(event_id, on, on + timedelta(days=days))

    def make_series(self, event_id: str, rule: str = "RRULE:FREQ=WEEKLY;COUNT=4") -> list[str]:
        """Let an event come again, and give the ids of its instances."""
        zone = self.event(event_id)["start"].get("timeZone", self._zone)
        start = self._row(event_id).values["start"]
        named = {} if "date" in start else {"start": {"timeZone": zone}, "end": {"timeZone": zone}}
        self.edit_event(event_id, recurrence=[rule], **named)
        return self.instance_ids(event_id)

    def cancel_event(self, event_id: str) -> None:
        """Delete an event, a series with all its instances, or one instance."""
        with self._api.store.lock:
            self._api.store.delete(self._row(event_id))

    def restore_event(self, event_id: str) -> None:
        """Take a deleted event out of the bin."""
        self.edit_event(event_id, status="confirmed")

    def touch_event(self, event_id: str) -> None:
        """Write an event without any change: it has another etag then."""
        self.edit_event(event_id)

    def copy_event(self, event_id: str) -> str:
        """Copy an event, its private properties too, and give the id of the copy."""
        with self._api.store.lock:
            values = {**self._row(event_id).values, "status": "confirmed"}
            return self._api.store.add(copy.deepcopy(values), PERSON).id

    # -- answering

    def answer(
        self, method: str, target: str, headers: Mapping[str, str], content: bytes
    ) -> _Answer:
        """Answer one request and record both."""
        parts = urlsplit(target)
        query = tuple(parse_qsl(parts.query, keep_blank_values=True))
        fault, altered = self._faults.take(method, parts.path)
        if fault is GoogleFault.TIMEOUT_BEFORE:
            made = _Answer(status=0, body=b"", headers={}, is_silent=True)
        elif fault is GoogleFault.BAD_GATEWAY:
            made = _page(502, _GATEWAY_PAGE)
        elif parts.path == _EXCHANGE:
            made = self._make_token(method, content, fault, altered)
        else:
            made = self._make(method, parts.path, query, headers, content, fault, altered)
        self._spoil(made, fault)
        exchange = Exchange(
            method=method,
            path=parts.path,
            query=query,
            request_headers=frozenset(headers),
            content_type=headers.get("content-type", ""),
            if_match=headers.get("if-match"),
            if_none_match=headers.get("if-none-match"),
            request_body=content,
            status=None if made.is_silent else made.status,
            headers=dict(made.headers),
            body=b"" if made.is_silent else made.body,
            template=_template_of(method, parts.path),
            unknown_parameters=made.unknown,
        )
        with self._lock:
            self._exchanges.append(exchange)
        if made.is_silent:
            self._ended.wait(_HANG_SECONDS)
        return made

    def _make_token(
        self,
        method: str,
        content: bytes,
        fault: GoogleFault | None,
        altered: list[tuple[str, Any]],
    ) -> _Answer:
        try:
            if method != "POST":
                return _page(404, _NOT_FOUND_PAGE)
            if fault is not None and is_token_refusal(fault):
                raise token_refusal_of(fault)
            if fault is not None and is_refusal(fault):
                raise refusal_of(fault)
            form = dict(parse_qsl(content.decode("ascii", "replace")))
            body = self.account.exchange(form)
        except (TokenRefusedError, RefusedError) as refused:
            return _json(refused.status, refused.body)
        for key, value in altered:
            alter(body, key.split("."), value)
        return _json(200, body)

    def _make(
        self,
        method: str,
        path: str,
        pairs: tuple[tuple[str, str], ...],
        headers: Mapping[str, str],
        content: bytes,
        fault: GoogleFault | None,
        altered: list[tuple[str, Any]],
    ) -> _Answer:
        found = find_route(method, _segments(path))
        if found is None:
            return _page(404, _NOT_FOUND_PAGE)
        route, ids = found
        known = route.parameters | GLOBAL_PARAMETERS
        unknown = tuple(name for name, _ in pairs if name not in known)
        try:
            if fault is not None and is_refusal(fault):
                raise refusal_of(fault)
            grant = self.account.grant_of(headers.get("authorization", ""))
            if grant is None:
                raise refusal_of(GoogleFault.UNAUTHORIZED)
            api = self._admitted(route, ids["calendarId"], grant)
            if "fields" in dict(pairs):
                # Refused, so that nobody believes in an answer that left it out.
                raise RefusedError(501, "notImplemented", "The stand-in does not serve fields.")
            request = Request(
                event_id=ids.get("eventId", ""),
                query=Query([pair for pair in pairs if pair[0] in known]),
                body=_parsed(headers, content),
                if_match=headers.get("if-match"),
                if_none_match=headers.get("if-none-match"),
                by=grant.subject or self.account.client_email,
                may_invite=grant.subject is not None,
                is_stuck=fault is GoogleFault.STUCK_PAGES,
            )
            with api.store.lock:
                reply = route.answer(api, request)
        except RefusedError as refused:
            reply = Reply(status=refused.status, body=refused.body)
        if self.after_effect is not None:
            self.after_effect(method, path)
        body = copy.deepcopy(reply.body) if altered else reply.body
        for key, value in altered:
            alter(body, key.split("."), value)
        made = _json(reply.status, body)
        if reply.etag is not None:
            made.headers["etag"] = reply.etag
        made.unknown = unknown
        return made

    def _admitted(self, route: Route, calendar_id: str, grant: Grant) -> CalendarApi:
        """The calendar that is asked for, where the token and the sharing allow it.

        Raises:
            RefusedError: They do not.
        """
        if not grant.scopes & route.scopes:
            raise refusal_of(GoogleFault.SCOPE)
        own_id = grant.subject or self.account.client_email
        if calendar_id in {"primary", own_id}:
            with self._lock:
                if own_id not in self._own:
                    self._own[own_id] = self._new_api(own_id)
                    self._own[own_id].lists.role = "owner"
                return self._own[own_id]
        if calendar_id != self.calendar_id or self.role is None:
            raise refusal_of(GoogleFault.NOT_FOUND)
        if route.is_write and self.role not in {"writer", "owner"}:
            raise refusal_of(GoogleFault.READER)
        self._api.lists.role = self.role
        return self._api

    def _spoil(self, made: _Answer, fault: GoogleFault | None) -> None:
        """Spoil an answer whose request had its effect."""
        if fault is GoogleFault.TIMEOUT_AFTER:
            made.is_silent = True
        elif fault is GoogleFault.BROKEN_OFF:
            made.is_cut = True
        elif fault is GoogleFault.HTML:
            made.status, made.body = 200, b"<html>"
            made.headers["content-type"] = _HTML_TYPE
        elif fault is not None and fault in AFTER:
            failed = refusal_of(AFTER[fault])
            made.status, made.body = failed.status, json.dumps(failed.body).encode()
            made.headers["content-type"] = _JSON_TYPE


_EMPTY_TIME: Final[Body] = {"date": None, "dateTime": None, "timeZone": None}


def _span(start: datetime | date, end: datetime | date | None, zone: str | None) -> Body:
    """Start and end as bodies hold them."""
    if end is None:
        length = timedelta(hours=1) if isinstance(start, datetime) else timedelta(days=1)
        end = start + length
    return {"start": as_time(start, zone), "end": as_time(end, zone)}


def _where(fault: GoogleFault | None) -> str:
    """Which paths a fault meets that names none."""
    return f"^{_EXCHANGE}$" if fault is not None and is_token_refusal(fault) else f"^{_BASE}/"


def _segments(path: str) -> list[str]:
    """Parts of a path below the base, unquoted; none where it lies elsewhere."""
    if not path.startswith(f"{_BASE}/"):
        return []
    return [unquote(part) for part in path.removeprefix(f"{_BASE}/").split("/")]


def _template_of(method: str, path: str) -> str | None:
    if path == _EXCHANGE:
        return EXCHANGE_TEMPLATE
    found = find_route(method, _segments(path))
    return None if found is None else found[0].template


def _parsed(headers: Mapping[str, str], content: bytes) -> Any:
    """The body as JSON; None where there is none.

    Raises:
        RefusedError: It is something else.
    """
    if not content:
        return None
    try:
        if not headers.get("content-type", "").startswith("application/json"):
            raise ValueError("another type")
        return json.loads(content)
    except ValueError:
        raise RefusedError(400, "parseError", "Parse Error") from None


def _json(status: int, body: Body | None) -> _Answer:
    if body is None:
        return _Answer(status=status, body=b"", headers={})
    content = json.dumps(body, ensure_ascii=False).encode()
    return _Answer(status=status, body=content, headers={"content-type": _JSON_TYPE})


def _page(status: int, content: bytes) -> _Answer:
    return _Answer(status=status, body=content, headers={"content-type": _HTML_TYPE})
