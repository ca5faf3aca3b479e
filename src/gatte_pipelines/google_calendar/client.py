"""Google Calendar's API: named calls on the events of one calendar that return typed records.

What an answer means stands in ``answers``. When to write what, and what an event means for an
appointment, belongs to the sync. No error holds a body, a query or a header.

Every call may be repeated: an event is created under an id of ours, and changed or deleted only as
long as nobody else changed it. So a write that a fault met is sent again, and where the first one
did take effect after all, the second is told so: `EventExistsError`, `EventChangedError`, or False
of a deletion. The caller reads the event and finds what it wanted.
Source: the discovery document of calendar:v3, revision 20261030, and Google's guides, 2026-04.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, NoReturn, Self
from urllib.parse import quote

import httpx

from gatte_pipelines.errors import ConfigurationError
from gatte_pipelines.google_calendar.answers import Answer, Meaning, judge
from gatte_pipelines.google_calendar.credentials import ServiceAccount
from gatte_pipelines.google_calendar.failures import (
    AccessRefusedError,
    BlockedError,
    CalendarMissingError,
    EventChangedError,
    EventExistsError,
    EventMissingError,
    RefusedError,
    SyncTokenExpiredError,
    again,
    error_from,
    reading,
    unreadable,
)
from gatte_pipelines.google_calendar.models import (
    Event,
    EventChanges,
    NewEvent,
    body_of,
    read_event,
)
from gatte_pipelines.google_calendar.pages import EventList, Page, read_page
from gatte_pipelines.http import (
    HARMLESS_EXTENSION,
    RetryPolicy,
    build_client,
    error_of,
    parse_base_url,
    safe_path,
)
from gatte_pipelines.paging import PageGuard

BASE_URL = "https://www.googleapis.com/calendar/v3"
MAX_PAGE = 2_500
"""Events a page at most."""
MAX_PAGES = 1_000
"""Pages of one list: two million events. More is a list that never ends."""

_REPEATS = RetryPolicy(max_attempts=5, max_total_seconds=90.0, base_delay_seconds=1.0)
# Google's advice for a 404 is to wait; what rests on it is that an appointment is cancelled.
_SECOND_LOOK_SECONDS = 1.0
_OWN_CALENDAR = "primary"
_NO_UPDATES = {"sendUpdates": "none"}
_ETAG = re.compile(r'(?:W/)?"[!#-~]*"')


class GoogleCalendarClient:
    """Calls one calendar; a context manager.

    Besides the errors that a method names, every one of them may raise

    - ``AccessRefusedError`` (also ``CalendarMissingError``), ``BlockedError``: nothing more is sent
      by this client;
    - ``RetryableHttpError``: a later run may succeed, and cannot do the work twice;
    - ``UnreadableAnswerError``: a read that cannot be used;
    - ``AmbiguousError``: a write whose answer cannot be used. It may be sent again.

    Args:
        base_url: As the discovery document has it. Plain ``http`` only to this machine itself,
            since the token goes along.
        calendar_id: The team's calendar.
        credentials: Gives tokens; closed with the client.
        timeout_seconds: Without a byte from the server.
        repeats: Bounds of the repeats.
        page_size: Events of a page. A token of another page size is not good for a list.
        max_pages: Pages of a list, after which it counts as endless.
        sleep: Waits for seconds, before what is not there is looked for again.

    Raises:
        ConfigurationError: The address or the calendar cannot be used.
    """

    def __init__(
        self,
        base_url: str,
        calendar_id: str,
        credentials: ServiceAccount,
        *,
        timeout_seconds: float = 30.0,
        repeats: RetryPolicy = _REPEATS,
        page_size: int = MAX_PAGE,
        max_pages: int = MAX_PAGES,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        parse_base_url(base_url, setting="GATTE_GOOGLE_CALENDAR_BASE_URL", example=BASE_URL)
        _assert_calendar(calendar_id, credentials)
        if not 1 <= page_size <= MAX_PAGE or max_pages < 1:
            raise ValueError(f"a page has 1 to {MAX_PAGE} events")
        self._events = f"/calendars/{quote(calendar_id, safe='')}/events"
        self._credentials = credentials
        self._max_pages = max_pages
        self._sleep = sleep
        # Not expanded: a series of ours keeps its id, and one of a stranger is one event.
        self._list = {
            "maxResults": str(page_size),
            "showDeleted": "true",
            "singleEvents": "false",
        }
        # Whether Google knows the calendar: without that, a 404 says nothing of an event.
        self._is_calendar_known = False
        # What ended this client: later calls repeat it instead of being sent.
        self._stopped_by: AccessRefusedError | BlockedError | None = None
        self._client = build_client(
            base_url.rstrip("/"),
            headers={"accept": "application/json"},
            timeout=timeout_seconds,
            policy=replace(repeats, throttled=_is_throttled),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give back the connections."""
        self._client.close()
        self._credentials.close()

    @property
    def parameter_set(self) -> str:
        """With what the lists of this client are asked for; a sync token is good for no other."""
        return "&".join(f"{name}={value}" for name, value in sorted(self._list.items()))

    # --- read -----------------------------------------------------------------------------------

    def iter_events(
        self, *, time_min: datetime | None = None, sync_token: str | None = None
    ) -> EventList:
        """Events of the calendar, deleted ones too.

        Without arguments everything. What changes while pages are read is in the next list.

        Args:
            time_min: Only those that end later; a series, where any of its times does.
            sync_token: Only what changed since the list that gave it; not with ``time_min``, and
                regardless of the one it began with.

        Raises:
            SyncTokenExpiredError: While it is read: what changed can no longer be told.
        """
        if time_min is not None and sync_token is not None:
            raise ValueError("a sync token goes with no time")
        query = dict(self._list)
        if time_min is not None:
            query["timeMin"] = _instant(time_min)
        if sync_token is not None:
            query["syncToken"] = sync_token

        def fetch(page_token: str | None) -> Page:
            paged = query if page_token is None else {**query, "pageToken": page_token}
            response, answer = self._call("GET", self._events, paged)
            with reading(response):
                return read_page(answer.data)

        path = safe_path(httpx.URL(self._events))
        return EventList(fetch, PageGuard("GET", path, self._max_pages))

    def get_event(self, event_id: str) -> Event | None:
        """One event, perhaps cancelled; None where there is none, or none any more.

        An event that is not there is looked for twice, a second apart.
        """
        path = self._path(event_id)
        try:
            return self._get(path)
        except EventMissingError as missing:
            if missing.meaning is Meaning.GONE:
                return None
        self._sleep(_SECOND_LOOK_SECONDS)
        try:
            return self._get(path)
        except EventMissingError:
            return None

    # --- write ----------------------------------------------------------------------------------

    def insert_event(self, new: NewEvent) -> Event:
        """Create an event under its id; nobody is told.

        Raises:
            EventExistsError: The id is taken, by a live or a deleted event; perhaps by this very
                call, whose first answer was lost.
            RefusedError: Google does not take it.
        """
        response, answer = self._call("POST", self._events, _NO_UPDATES, body=body_of(new))
        with reading(response):
            return read_event(answer.data)

    def patch_event(self, event_id: str, changes: EventChanges, *, etag: str) -> Event:
        """Change an event that is still as it was read; nobody is told.

        A deleted one comes back with a ``status`` of ``confirmed``.

        Raises:
            EventChangedError: Somebody changed it; perhaps this very call, whose first answer was
                lost.
            EventMissingError: There is none.
            RefusedError: Google does not take the change.
        """
        response, answer = self._call(
            "PATCH", self._path(event_id), _NO_UPDATES, body=body_of(changes), etag=etag
        )
        with reading(response):
            return read_event(answer.data)

    def delete_event(self, event_id: str, *, etag: str | None = None) -> bool:
        """Delete an event; False where there is none any more. Nobody is told.

        Args:
            event_id: Its id.
            etag: To delete it only as long as it is as it was read.

        Raises:
            EventChangedError: Somebody changed it.
        """
        try:
            self._call("DELETE", self._path(event_id), _NO_UPDATES, etag=etag)
        except EventMissingError:
            return False
        return True

    # --- one call -------------------------------------------------------------------------------

    def _path(self, event_id: str) -> str:
        # Without an id it would be the calendar's list; dots would lead elsewhere.
        if not event_id.strip("."):
            raise ValueError("an event needs an id")
        return f"{self._events}/{quote(event_id, safe='')}"

    def _get(self, path: str) -> Event:
        response, answer = self._call("GET", path)
        with reading(response):
            return read_event(answer.data)

    def _call(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        *,
        body: Mapping[str, Any] | None = None,
        etag: str | None = None,
    ) -> tuple[httpx.Response, Answer]:
        if etag is not None and not _ETAG.fullmatch(etag):
            raise ValueError("an etag has its quotes")
        if self._stopped_by is not None:
            raise again(self._stopped_by, method, safe_path(httpx.URL(path)))
        headers = {} if etag is None else {"if-match": etag}
        response = self._send(method, path, query, body, headers)
        answer = _judged(response)
        if answer.meaning is Meaning.TOKEN:
            self._credentials.forget_token()
            response = self._send(method, path, query, body, headers)
            answer = _judged(response)
        if answer.meaning is not Meaning.DONE:
            self._raise(response, answer, path, query or {})
        self._is_calendar_known = True
        return response, answer

    def _send(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None,
        body: Mapping[str, Any] | None,
        headers: Mapping[str, str],
    ) -> httpx.Response:
        try:
            token = self._credentials.token()
        except AccessRefusedError as refused:
            self._stopped_by = refused
            raise
        return self._client.request(
            method,
            path,
            params=query,
            json=body,
            headers={**headers, "authorization": f"Bearer {token}"},
            extensions={HARMLESS_EXTENSION: True},
        )

    def _raise(
        self, response: httpx.Response, answer: Answer, path: str, query: Mapping[str, str]
    ) -> NoReturn:
        meaning = answer.meaning
        if answer.is_repeated:
            error = error_of(response, throttled=_is_throttled)
            assert error is not None  # noqa: S101 - neither is a success
            raise error
        if meaning is Meaning.FOREIGN and response.is_success:
            raise unreadable(response, answer.explanation)
        message = f"answered {response.status_code}: {answer.explanation}"
        if meaning in {Meaning.TOKEN, Meaning.SCOPE, Meaning.ACCESS, Meaning.API_OFF}:
            self._stopped_by = error_from(AccessRefusedError, response, message)
            raise self._stopped_by
        if meaning in {Meaning.QUOTA, Meaning.BLOCKED}:
            self._stopped_by = error_from(BlockedError, response, message)
            raise self._stopped_by
        is_event = path != self._events
        if meaning is Meaning.MISSING:
            self._assert_calendar_is_there(response, is_event=is_event)
        elif meaning in {Meaning.EXISTS, Meaning.GONE, Meaning.CHANGED}:
            self._is_calendar_known = True
        kind = _kind_of(response, meaning, query, is_event=is_event)
        refused = error_from(kind, response, message)
        refused.meaning, refused.code = meaning, answer.code
        raise refused

    def _assert_calendar_is_there(self, response: httpx.Response, *, is_event: bool) -> None:
        """Tell an event that is not there from a calendar that is not; Google says 404 of both.

        Raises:
            CalendarMissingError: The calendar is not there, or not shared with us.
        """
        if is_event and self._is_calendar_known:
            return
        if is_event:
            # Raises itself where the calendar is not there.
            self._call("GET", self._events, {"maxResults": "1"})
            return
        self._stopped_by = error_from(
            CalendarMissingError,
            response,
            "answered 404: there is no such calendar, or it is not shared with us; see "
            "GATTE_GOOGLE_CALENDAR_ID, and share the calendar with the service account, or with "
            "GATTE_GOOGLE_SUBJECT, with the right to change events",
        )
        raise self._stopped_by


def _kind_of(
    response: httpx.Response, meaning: Meaning, query: Mapping[str, str], *, is_event: bool
) -> type[RefusedError]:
    method = response.request.method
    if is_event and meaning in {Meaning.MISSING, Meaning.GONE}:
        return EventMissingError
    if is_event and meaning is Meaning.CHANGED:
        return EventChangedError
    if method == "POST" and meaning is Meaning.EXISTS:
        return EventExistsError
    if meaning is Meaning.GONE and "syncToken" in query:
        return SyncTokenExpiredError
    return RefusedError


def _judged(response: httpx.Response) -> Answer:
    return judge(response.status_code, response.headers, response.content)


def _is_throttled(response: httpx.Response) -> bool:
    return _judged(response).meaning is Meaning.THROTTLED


def _instant(moment: datetime) -> str:
    if moment.tzinfo is None:
        raise ValueError("an instant needs its zone")
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _assert_calendar(calendar_id: str, credentials: ServiceAccount) -> None:
    if not calendar_id.strip(".") or not re.fullmatch(r"[!-~]{1,1024}", calendar_id):
        raise ConfigurationError("GATTE_GOOGLE_CALENDAR_ID must be ASCII without spaces")
    if calendar_id == _OWN_CALENDAR and credentials.subject is None:
        raise ConfigurationError(
            "GATTE_GOOGLE_CALENDAR_ID is primary, which is the service account's own and empty; "
            "give the id of the team's calendar"
        )
