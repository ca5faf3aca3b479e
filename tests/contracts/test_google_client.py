"""The client of Google Calendar over real sockets, against a server that answers as it is told."""

from __future__ import annotations

import base64
import json
import logging
import re
import socket
import threading
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

from gatte_pipelines.errors import ConfigurationError, GatteError, RetryableError
from gatte_pipelines.google_calendar import failures
from gatte_pipelines.google_calendar.answers import SCOPE, Meaning
from gatte_pipelines.google_calendar.client import MAX_PAGE, GoogleCalendarClient
from gatte_pipelines.google_calendar.credentials import TOKEN_URL, ServiceAccount
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
    CONFIRMED,
    EventChanges,
    EventTime,
    NewEvent,
)
from gatte_pipelines.http import AmbiguousError, RetryableHttpError, RetryPolicy
from gatte_pipelines.redaction import redact
from gatte_pipelines.settings import Settings
from gatte_pipelines.wiring import Wiring
from tests.unit.test_google_answers import TABLE

QUICK = RetryPolicy(max_attempts=3, base_delay_seconds=0.01, max_delay_seconds=0.01)
ACCOUNT, CALENDAR = "sync@project.example.com", "equipe#1@example.com"
PATH = "/calendar/v3/calendars/equipe%231%40example.com/events"
SUBJECT = "agenda@example.com"
NAME, ZONE, ETAG = "Nome Distinto", "America/Sao_Paulo", '"3181161784712000"'
EVENT_ID = "adf210800e1011eb879b05d71fb426ec"
SINCE = datetime(2026, 3, 10, 8, 30, 0, 999_000, timezone(timedelta(hours=-3)))
NINE = EventTime.at(datetime(2026, 3, 10, 12, tzinfo=UTC), ZONE)
TEN = EventTime.at(datetime(2026, 3, 10, 13, tzinfo=UTC), ZONE)
NEW = NewEvent(id=EVENT_ID, status=CONFIRMED, summary=NAME, start=NINE, end=TEN)
CHANGES = EventChanges(start=NINE, end=TEN)


@dataclass
class Reply:
    """One answer of the server; without a status it says nothing until the client has gone."""

    status: int | None = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class Request:
    """One request that arrived."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: Any


class Server:
    """Answers on the loopback with the next reply; the last one again and again.

    At ``/token`` it gives one token after another, unless it is told otherwise.
    """

    def __init__(self) -> None:
        self.replies: list[Reply] = []
        self.requests: list[Request] = []
        self.tokens: list[Reply] = []
        self.grants: list[dict[str, str]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length") or 0))
                url = urlsplit(self.path)
                if url.path == "/token":
                    outer.grants.append({k: v for k, (v,) in parse_qs(body.decode()).items()})
                    number = len(outer.grants)
                    replies = outer.tokens or [token(f"ya29.token-of-nobody-{number}")]
                    reply = replies[min(number, len(replies)) - 1]
                else:
                    query = parse_qs(url.query, keep_blank_values=True)
                    outer.requests.append(
                        Request(
                            self.command,
                            url.path,
                            {k: v for k, (v,) in query.items()},
                            {name.lower(): value for name, value in self.headers.items()},
                            json.loads(body) if body else None,
                        )
                    )
                    reply = outer.replies[min(len(outer.requests), len(outer.replies)) - 1]
                if reply.status is None:
                    self.close_connection = True
                    self.connection.settimeout(5)
                    self.connection.recv(1)
                    return
                self.send_response(reply.status)
                for name, value in reply.headers.items():
                    self.send_header(name, value)
                if reply.status != 204:
                    self.send_header("content-length", str(len(reply.body)))
                self.end_headers()
                self.wfile.write(reply.body)

            def log_message(self, *_: object) -> None:
                pass

        for method in ("GET", "POST", "PATCH", "DELETE"):
            setattr(Handler, f"do_{method}", Handler._answer)
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    @property
    def url(self) -> str:
        return f"{self.origin}/calendar/v3"

    @property
    def token_url(self) -> str:
        return f"{self.origin}/token"

    def __enter__(self) -> Server:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join(5)
        self._server.server_close()


@pytest.fixture(scope="module")
def key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@pytest.fixture(scope="module")
def info(key: rsa.RSAPrivateKey) -> dict[str, object]:
    """What Google gives for download, with an address of its own that is not used."""
    return {
        "type": "service_account",
        "project_id": "project",
        "private_key_id": "k1",
        "private_key": pem(key),
        "client_email": ACCOUNT,
        "client_id": "1",
        "token_uri": "https://elsewhere.example.com/token",
        "universe_domain": "example.com",
    }


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        yield running


@pytest.fixture
def client(server: Server, info: dict[str, object]) -> Iterator[GoogleCalendarClient]:
    with opened(server, info) as it:
        yield it


def account(server: Server, info: dict[str, object], **options: Any) -> ServiceAccount:
    options = {"token_url": server.token_url, "repeats": QUICK, "timeout_seconds": 0.3} | options
    return ServiceAccount(info, **options)


def opened(
    server: Server, info: dict[str, object], subject: str | None = None, **options: Any
) -> GoogleCalendarClient:
    options = {"timeout_seconds": 0.3, "repeats": QUICK, "sleep": lambda _: None} | options
    credentials = account(server, info, subject=subject)
    return GoogleCalendarClient(server.url, CALENDAR, credentials, **options)


def pem(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey, secret: bytes = b"") -> str:
    encryption = (
        serialization.BestAvailableEncryption(secret) if secret else serialization.NoEncryption()
    )
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption
    ).decode()


def done(data: object, status: int = 200) -> Reply:
    return Reply(status, json.dumps(data).encode(), {"content-type": "application/json"})


def token(value: str, **more: object) -> Reply:
    return done({"access_token": value, "expires_in": 3599, "token_type": "Bearer", **more})


def failed(status: int, reason: str = "", headers: dict[str, str] | None = None) -> Reply:
    entries = [{"domain": "global", "reason": reason, "message": NAME}] if reason else []
    body = {"error": {"errors": entries, "code": status, "message": NAME}}
    return Reply(status, json.dumps(body).encode(), {"x-goog-request-id": "g-1"} | (headers or {}))


def refused(code: str, status: int = 400) -> Reply:
    return done({"error": code, "error_description": NAME}, status)


def page_of_html(status: int) -> Reply:
    return Reply(status, f"<!DOCTYPE html><p>{NAME}".encode(), {"content-type": "text/html"})


def event(event_id: str = EVENT_ID, **changes: object) -> dict[str, object]:
    return {
        "kind": "calendar#event",
        "id": event_id,
        "status": "confirmed",
        "etag": ETAG,
        "updated": "2026-03-01T11:30:36.551Z",
        "summary": NAME,
        "start": {"dateTime": "2026-03-10T09:00:00-03:00", "timeZone": ZONE},
        "end": {"dateTime": "2026-03-10T10:00:00-03:00", "timeZone": ZONE},
        **changes,
    }


def page(*events: dict[str, object], **more: object) -> Reply:
    tokens = more or {"nextSyncToken": "s1"}
    return done({"kind": "calendar#events", "items": list(events), **tokens})


EMPTY = page()
# Of wrong tokens there are tests of their own.
FAILURES = [row for row in TABLE if row[4] not in {Meaning.DONE, Meaning.TOKEN}]


# --- what is sent -------------------------------------------------------------------------------


def test_the_token_stands_in_its_header_and_nowhere_else(
    server: Server, client: GoogleCalendarClient
) -> None:
    server.replies = [done(event())]
    found = client.get_event(EVENT_ID)
    assert found is not None
    assert found.start == NINE
    (request,) = server.requests
    assert (request.method, request.path, request.query) == ("GET", f"{PATH}/{EVENT_ID}", {})
    assert request.headers["authorization"] == "Bearer ya29.token-of-nobody-1"
    others = {k: v for k, v in request.headers.items() if k != "authorization"}
    assert "ya29" not in repr((others, request.path))


def test_the_first_list_begins_at_a_time_and_the_next_where_it_ended(
    server: Server, client: GoogleCalendarClient
) -> None:
    server.replies = [page(event()), page(nextSyncToken="s2")]
    first = client.iter_events(time_min=SINCE)
    assert server.requests == []
    assert [one.id for one in first] == [EVENT_ID]
    following = client.iter_events(sync_token=first.next_sync_token)
    assert list(following) == []
    assert following.next_sync_token == "s2"  # noqa: S105
    same = {"maxResults": "2500", "showDeleted": "true", "singleEvents": "false"}
    assert server.requests[0].query == {**same, "timeMin": "2026-03-10T11:30:00Z"}
    assert server.requests[1].query == {**same, "syncToken": "s1"}
    assert client.parameter_set == "maxResults=2500&showDeleted=true&singleEvents=false"
    assert len(server.grants) == 1


def test_every_page_is_asked_for_with_the_same_parameters(
    server: Server, client: GoogleCalendarClient
) -> None:
    server.replies = [
        page(event("aaaaa"), nextPageToken="p1"),
        page(nextPageToken="p2"),
        page(event("bbbbb"), {"id": "ccccc", "status": "cancelled"}, nextSyncToken="s2"),
    ]
    events = client.iter_events(sync_token="s1")  # noqa: S106
    assert [one.id for one in events] == ["aaaaa", "bbbbb", "ccccc"]
    assert events.next_sync_token == "s2"  # noqa: S105
    assert [one.query.pop("pageToken", None) for one in server.requests] == [None, "p1", "p2"]
    assert server.requests[0].query == server.requests[1].query == server.requests[2].query


def test_a_time_goes_with_no_sync_token_and_not_without_its_zone(
    server: Server, client: GoogleCalendarClient
) -> None:
    with pytest.raises(ValueError, match="no time"):
        client.iter_events(time_min=SINCE, sync_token="s1")  # noqa: S106
    with pytest.raises(ValueError, match="zone"):
        client.iter_events(time_min=SINCE.replace(tzinfo=None))
    assert server.requests == []


def test_an_event_is_created_under_our_id_and_nobody_is_told(
    server: Server, client: GoogleCalendarClient
) -> None:
    server.replies = [done(event())]
    assert client.insert_event(NEW).etag == ETAG
    (request,) = server.requests
    assert (request.method, request.path) == ("POST", PATH)
    assert request.query == {"sendUpdates": "none"}
    assert request.headers["content-type"] == "application/json"
    assert "if-match" not in request.headers
    assert request.body["id"] == EVENT_ID
    assert request.body["start"] == {"dateTime": "2026-03-10T09:00:00-03:00", "timeZone": ZONE}


def test_an_event_is_changed_and_deleted_as_it_was_read(
    server: Server, client: GoogleCalendarClient
) -> None:
    server.replies = [done(event(etag='"2"')), Reply(204), Reply(204)]
    changed = client.patch_event(EVENT_ID, EventChanges(status=CONFIRMED), etag=ETAG)
    assert changed.etag == '"2"'
    assert client.delete_event(EVENT_ID, etag='"2"') is True
    assert client.delete_event("staff01_20260402T160000Z") is True
    patch, delete, other = server.requests
    assert (patch.method, patch.path) == ("PATCH", f"{PATH}/{EVENT_ID}")
    assert (patch.query, patch.body) == ({"sendUpdates": "none"}, {"status": "confirmed"})
    assert patch.headers["if-match"] == ETAG
    assert (delete.method, delete.query, delete.body) == ("DELETE", {"sendUpdates": "none"}, None)
    assert delete.headers["if-match"] == '"2"'
    assert other.path == f"{PATH}/staff01_20260402T160000Z"
    assert "if-match" not in other.headers


@pytest.mark.parametrize("event_id", ["", ".", ".."])
def test_what_is_no_id_is_not_sent(
    server: Server, client: GoogleCalendarClient, event_id: str
) -> None:
    for call in (client.get_event, client.delete_event):
        with pytest.raises(ValueError, match="needs an id"):
            call(event_id)
    assert server.requests == []


def test_an_id_cannot_lead_elsewhere(server: Server, client: GoogleCalendarClient) -> None:
    server.replies = [done(event())]
    client.get_event("../../x?y#z")
    assert server.requests[0].path == f"{PATH}/..%2F..%2Fx%3Fy%23z"


@pytest.mark.parametrize("etag", ["", "3181161784712000", '"a"b"', '"a\r\nx: y"', "*"])
def test_an_etag_that_is_none_is_not_sent(
    server: Server, client: GoogleCalendarClient, etag: str
) -> None:
    with pytest.raises(ValueError, match="quotes"):
        client.patch_event(EVENT_ID, CHANGES, etag=etag)
    assert server.requests == []


def test_a_page_is_as_large_as_asked_for(server: Server, info: dict[str, object]) -> None:
    server.replies = [EMPTY]
    with opened(server, info, page_size=7) as client:
        list(client.iter_events())
        assert client.parameter_set.startswith("maxResults=7&")
    assert server.requests[0].query["maxResults"] == "7"
    for size in (0, MAX_PAGE + 1):
        with pytest.raises(ValueError, match="1 to 2500"):
            opened(server, info, page_size=size)


# --- pages that do not end ----------------------------------------------------------------------


def test_a_page_token_that_comes_again_ends_the_list(
    server: Server, client: GoogleCalendarClient
) -> None:
    server.replies = [page(nextPageToken="p1")]
    events = client.iter_events()
    with pytest.raises(PagingError, match="a cursor came twice") as ended:
        list(events)
    assert len(server.requests) == 2
    assert CALENDAR not in str(ended.value)
    with pytest.raises(ValueError, match="not read to its end"):
        _ = events.next_sync_token


def test_a_list_of_too_many_pages_ends(server: Server, info: dict[str, object]) -> None:
    server.replies = [page(nextPageToken=str(number)) for number in range(9)]
    with opened(server, info, max_pages=4) as client, pytest.raises(PagingError, match="4 pages"):
        list(client.iter_events())
    assert len(server.requests) == 4


def test_a_list_that_ends_without_a_token_is_none(
    server: Server, client: GoogleCalendarClient
) -> None:
    server.replies = [done({"kind": "calendar#events", "items": [event()]})]
    with pytest.raises(UnreadableAnswerError, match="nextPageToken and nextSyncToken are missing"):
        list(client.iter_events())


def test_events_are_handed_out_while_pages_are_still_to_come(
    server: Server, client: GoogleCalendarClient
) -> None:
    server.replies = [page(event(), nextPageToken="p1"), EMPTY]
    next(iter(client.iter_events()))
    assert len(server.requests) == 1


# --- answers ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "headers", "body", "meaning", "code", "is_repeated"),
    [row[1:] for row in FAILURES],
    ids=[row[0] for row in FAILURES],
)
def test_an_answer_is_repeated_as_the_table_says(
    server: Server,
    client: GoogleCalendarClient,
    status: int,
    headers: dict[str, str],
    body: str,
    meaning: Meaning,
    code: str | None,
    is_repeated: bool,
) -> None:
    server.replies = [Reply(status, body.encode(errors="surrogateescape"), headers)]
    with pytest.raises(GatteError) as raised:
        client.insert_event(NEW)
    assert len(server.requests) == (3 if is_repeated else 1)
    assert isinstance(raised.value, RetryableError) is is_repeated


def test_what_is_not_there_is_none_and_cannot_be_changed(
    server: Server, info: dict[str, object]
) -> None:
    waits: list[float] = []
    with opened(server, info, sleep=waits.append) as client:
        server.replies = [EMPTY, failed(404, "notFound")]
        list(client.iter_events())
        assert client.get_event(EVENT_ID) is None
        # Google's advice for a 404 is to wait: an appointment would be cancelled for it.
        assert waits == [1.0]
        assert len(server.requests) == 3
        assert client.delete_event(EVENT_ID) is False
        with pytest.raises(EventMissingError, match="answered 404: there is no such event"):
            client.patch_event(EVENT_ID, CHANGES, etag=ETAG)
        assert len(server.requests) == 5
    server.replies = [failed(410, "deleted")]
    server.requests.clear()
    with opened(server, info, sleep=waits.append) as client:
        assert client.get_event(EVENT_ID) is None
        assert client.delete_event(EVENT_ID) is False
        with pytest.raises(EventMissingError, match="answered 410"):
            client.patch_event(EVENT_ID, CHANGES, etag=ETAG)
    assert len(server.requests) == 3
    assert waits == [1.0]


def test_an_event_that_is_there_at_the_second_look_is_there(
    server: Server, client: GoogleCalendarClient
) -> None:
    server.replies = [EMPTY, failed(404, "notFound"), done(event())]
    list(client.iter_events())
    assert client.get_event(EVENT_ID) is not None


def test_a_cancelled_event_comes_as_such(server: Server, client: GoogleCalendarClient) -> None:
    server.replies = [done({"id": EVENT_ID, "status": "cancelled", "etag": ETAG})]
    found = client.get_event(EVENT_ID)
    assert found is not None
    assert (found.is_cancelled, found.etag, found.start) == (True, ETAG, None)


@pytest.mark.parametrize("call", ["get_event", "delete_event"])
def test_a_calendar_that_is_not_shared_deletes_nothing(
    server: Server, client: GoogleCalendarClient, call: str
) -> None:
    """Google says 404 of an event and of a calendar alike."""
    server.replies = [failed(404, "notFound")]
    with pytest.raises(CalendarMissingError, match="GATTE_GOOGLE_CALENDAR_ID") as missing:
        getattr(client, call)(EVENT_ID)
    assert isinstance(missing.value, ConfigurationError)
    assert [(one.path, one.query) for one in server.requests] == [
        (f"{PATH}/{EVENT_ID}", {} if call == "get_event" else {"sendUpdates": "none"}),
        (PATH, {"maxResults": "1"}),
    ]
    with pytest.raises(CalendarMissingError, match="not sent"):
        client.insert_event(NEW)
    assert len(server.requests) == 2


def test_a_calendar_is_asked_for_once_where_nothing_else_shows_it(
    server: Server, client: GoogleCalendarClient
) -> None:
    server.replies = [failed(404, "notFound"), EMPTY, failed(404, "notFound")]
    assert client.delete_event(EVENT_ID) is False
    assert client.delete_event(EVENT_ID) is False
    assert [one.method for one in server.requests] == ["DELETE", "GET", "DELETE"]


@pytest.mark.parametrize("call", ["list", "insert"])
def test_a_calendar_that_is_not_there_ends_the_client(
    server: Server, client: GoogleCalendarClient, call: str
) -> None:
    server.replies = [failed(404, "notFound")]
    calls: dict[str, Callable[[], object]] = {
        "list": lambda: list(client.iter_events()),
        "insert": lambda: client.insert_event(NEW),
    }
    with pytest.raises(CalendarMissingError, match="share the calendar with the service account"):
        calls[call]()
    with pytest.raises(CalendarMissingError, match="not sent"):
        client.get_event(EVENT_ID)
    assert len(server.requests) == 1


def test_a_host_that_is_not_googles_deletes_nothing(
    server: Server, client: GoogleCalendarClient
) -> None:
    for reply in (page_of_html(404), Reply(404), done({"error": "?"}, 404), page_of_html(410)):
        for call in (client.get_event, client.delete_event):
            server.replies = [reply]
            with pytest.raises(RefusedError) as refusal:
                call(EVENT_ID)
            assert refusal.value.meaning is Meaning.FOREIGN
    server.replies = [page_of_html(200)]
    with pytest.raises(AmbiguousError, match="HTML where JSON was due"):
        client.delete_event(EVENT_ID)


def test_an_id_that_is_taken_is_told(server: Server, client: GoogleCalendarClient) -> None:
    server.replies = [failed(409, "duplicate")]
    with pytest.raises(EventExistsError, match="the id is taken") as taken:
        client.insert_event(NEW)
    assert (taken.value.meaning, taken.value.code) == (Meaning.EXISTS, "duplicate")
    assert len(server.requests) == 1
    with pytest.raises(RefusedError) as refusal:
        client.patch_event(EVENT_ID, CHANGES, etag=ETAG)
    assert not isinstance(refusal.value, EventExistsError)


def test_an_event_that_somebody_changed_is_told(
    server: Server, client: GoogleCalendarClient
) -> None:
    server.replies = [failed(412, "conditionNotMet")]
    with pytest.raises(EventChangedError, match="changed since it was read"):
        client.patch_event(EVENT_ID, CHANGES, etag=ETAG)
    with pytest.raises(EventChangedError):
        client.delete_event(EVENT_ID, etag=ETAG)
    assert len(server.requests) == 2


@pytest.mark.parametrize("reason", ["fullSyncRequired", "updatedMinTooLongAgo", "brandNew", ""])
def test_a_sync_token_that_ran_out_is_told_by_its_status(
    server: Server, client: GoogleCalendarClient, reason: str
) -> None:
    server.replies = [failed(410, reason)]
    with pytest.raises(SyncTokenExpiredError):
        list(client.iter_events(sync_token="s1"))  # noqa: S106
    with pytest.raises(RefusedError) as refusal:
        list(client.iter_events(time_min=SINCE))
    assert not isinstance(refusal.value, SyncTokenExpiredError)


def test_a_sync_token_may_run_out_between_two_pages(
    server: Server, client: GoogleCalendarClient
) -> None:
    server.replies = [page(event(), nextPageToken="p1"), failed(410, "fullSyncRequired")]
    events = client.iter_events(sync_token="s1")  # noqa: S106
    with pytest.raises(SyncTokenExpiredError):
        list(events)
    with pytest.raises(ValueError, match="not read to its end"):
        _ = events.next_sync_token


@pytest.mark.parametrize(
    ("reply", "meaning", "words"),
    [
        (failed(400, "timeRangeEmpty"), Meaning.REFUSED, "refuses the request (timeRangeEmpty)"),
        (
            failed(403, "forbiddenForServiceAccounts"),
            Meaning.FORBIDDEN,
            "may not do this (forbiddenForServiceAccounts)",
        ),
        (page_of_html(400), Meaning.FOREIGN, "HTML where JSON was due"),
        (Reply(301, headers={"location": "https://other.example.com/"}), Meaning.FOREIGN, "301"),
    ],
)
def test_a_refusal_says_why_and_the_next_call_is_a_matter_of_its_own(
    server: Server, client: GoogleCalendarClient, reply: Reply, meaning: Meaning, words: str
) -> None:
    server.replies = [reply]
    with pytest.raises(RefusedError, match=re.escape(words)) as refusal:
        client.insert_event(NEW)
    assert refusal.value.meaning is meaning
    assert len(server.requests) == 1
    server.replies = [done(event())]
    assert client.get_event(EVENT_ID) is not None


@pytest.mark.parametrize(
    ("reply", "error", "words"),
    [
        (failed(403, "insufficientPermissions"), AccessRefusedError, re.escape(SCOPE)),
        (failed(403, "requiredAccessLevel"), AccessRefusedError, "may only be read"),
        (failed(403, "accessNotConfigured"), AccessRefusedError, "switched off"),
        (failed(403, "quotaExceeded"), BlockedError, "used up for hours"),
        (failed(429, "dailyLimitExceeded"), BlockedError, "used up for hours"),
        (page_of_html(403), BlockedError, "something else answered"),
    ],
)
def test_after_such_a_refusal_nothing_more_is_attempted(
    server: Server,
    client: GoogleCalendarClient,
    reply: Reply,
    error: type[GatteError],
    words: str,
) -> None:
    server.replies = [reply]
    with pytest.raises(error, match=words):
        client.insert_event(NEW)
    calls: list[Callable[[], object]] = [
        lambda: list(client.iter_events()),
        lambda: client.get_event(EVENT_ID),
        lambda: client.delete_event(EVENT_ID),
    ]
    for call in calls:
        with pytest.raises(error, match="not sent, since an earlier request") as again:
            call()
        assert CALENDAR not in str(again.value)
    assert len(server.requests) == 1


# --- faults -------------------------------------------------------------------------------------


def test_a_read_outlives_a_fault_and_a_silence(
    server: Server, client: GoogleCalendarClient
) -> None:
    server.replies = [page_of_html(502), Reply(None), done(event())]
    assert client.get_event(EVENT_ID) is not None


def test_a_write_is_sent_again_and_says_what_the_first_one_did(
    server: Server, client: GoogleCalendarClient
) -> None:
    server.replies = [Reply(None), failed(409, "duplicate")]
    with pytest.raises(EventExistsError):
        client.insert_event(NEW)
    first, second = server.requests
    assert first.body == second.body
    server.requests.clear()
    server.replies = [failed(503, "backendError"), failed(412, "conditionNotMet")]
    with pytest.raises(EventChangedError):
        client.patch_event(EVENT_ID, CHANGES, etag=ETAG)
    assert [one.headers["if-match"] for one in server.requests] == [ETAG, ETAG]
    server.requests.clear()
    server.replies = [failed(503, "backendError"), failed(410, "deleted")]
    assert client.delete_event(EVENT_ID) is False


@pytest.mark.parametrize("reply", [failed(503, "backendError"), failed(500), Reply(None)])
def test_a_fault_that_lasts_leaves_a_write_for_a_later_run(
    server: Server, client: GoogleCalendarClient, reply: Reply
) -> None:
    server.replies = [reply]
    with pytest.raises(RetryableHttpError):
        client.patch_event(EVENT_ID, CHANGES, etag=ETAG)
    assert len(server.requests) == 3


def test_no_connection_is_a_matter_of_later(info: dict[str, object], server: Server) -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/calendar/v3"
    credentials = account(server, info)
    with (
        GoogleCalendarClient(url, CALENDAR, credentials, repeats=QUICK) as client,
        pytest.raises(RetryableHttpError, match="nothing was sent"),
    ):
        client.insert_event(NEW)


def test_too_many_are_waited_for_as_long_as_asked_and_not_longer_than_bearable(
    server: Server, client: GoogleCalendarClient
) -> None:
    server.replies = [failed(403, "userRateLimitExceeded"), done(event())]
    assert client.insert_event(NEW).id == EVENT_ID
    server.requests.clear()
    server.replies = [failed(429, "rateLimitExceeded", {"retry-after": "90"})]
    with pytest.raises(RetryableHttpError, match="too many requests, asks to wait 90 s"):
        client.insert_event(NEW)
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "reply", [page_of_html(200), Reply(204), done({"kind": "calendar#event"}), done(NAME)]
)
def test_an_answer_that_is_no_event_is_told(
    server: Server, client: GoogleCalendarClient, reply: Reply
) -> None:
    server.replies = [reply]
    with pytest.raises(UnreadableAnswerError):
        client.get_event(EVENT_ID)
    for call in (
        lambda: client.insert_event(NEW),
        lambda: client.patch_event(EVENT_ID, CHANGES, etag=ETAG),
    ):
        server.requests.clear()
        with pytest.raises(AmbiguousError, match="it may have taken effect"):
            call()
        assert len(server.requests) == 1


def test_a_field_that_is_missing_is_named(server: Server, client: GoogleCalendarClient) -> None:
    without = {key: value for key, value in event().items() if key != "etag"}
    server.replies = [page(event(), without), done(without)]
    with pytest.raises(UnreadableAnswerError, match=r"items\[1\]\.etag is missing"):
        list(client.iter_events())
    with pytest.raises(AmbiguousError, match=r"event\.etag is missing"):
        client.insert_event(NEW)


# --- tokens -------------------------------------------------------------------------------------


def claims_of(grant: dict[str, str], key: rsa.RSAPrivateKey) -> tuple[Any, Any]:
    """Header and claims of an assertion whose signature is right."""
    assert grant["grant_type"] == "urn:ietf:params:oauth:grant-type:jwt-bearer"
    head, body, signature = (
        base64.urlsafe_b64decode(part + "==") for part in grant["assertion"].split(".")
    )
    signed = grant["assertion"].rpartition(".")[0].encode()
    key.public_key().verify(signature, signed, padding.PKCS1v15(), hashes.SHA256())
    return json.loads(head), json.loads(body)


@pytest.mark.parametrize("subject", [None, SUBJECT])
def test_a_token_is_asked_for_events_and_nothing_else(
    server: Server, info: dict[str, object], key: rsa.RSAPrivateKey, subject: str | None
) -> None:
    server.replies = [done(event())]
    with opened(server, info, subject) as client:
        client.get_event(EVENT_ID)
        client.get_event(EVENT_ID)
    (grant,) = server.grants
    head, claims = claims_of(grant, key)
    assert (head["alg"], head["kid"]) == ("RS256", "k1")
    assert (claims["iss"], claims["scope"], claims["aud"]) == (ACCOUNT, SCOPE, TOKEN_URL)
    assert claims["exp"] - claims["iat"] == 3600
    assert claims.get("sub") == subject


def test_a_token_that_is_not_accepted_is_renewed_once(
    server: Server, client: GoogleCalendarClient
) -> None:
    server.replies = [failed(401, "authError"), done(event())]
    assert client.insert_event(NEW).id == EVENT_ID
    first, second = (one.headers["authorization"] for one in server.requests)
    assert first != second
    assert server.requests[0].body == server.requests[1].body
    # And again, where a later call meets the same.
    server.requests.clear()
    server.replies = [failed(401, "authError"), Reply(204)]
    assert client.delete_event(EVENT_ID) is True
    assert len(server.grants) == 3


def test_a_token_that_is_refused_twice_ends_the_client(
    server: Server, client: GoogleCalendarClient
) -> None:
    server.replies = [failed(401, "authError")]
    with pytest.raises(AccessRefusedError, match="GATTE_GOOGLE_CREDENTIALS_FILE") as ended:
        client.get_event(EVENT_ID)
    assert isinstance(ended.value, ConfigurationError)
    for _ in range(2):
        with pytest.raises(AccessRefusedError, match="not sent, since an earlier request"):
            list(client.iter_events())
    assert (len(server.requests), len(server.grants)) == (2, 2)


def test_a_token_about_to_run_out_is_not_used(server: Server, client: GoogleCalendarClient) -> None:
    server.tokens = [token("first", expires_in=60), token("second")]
    server.replies = [done(event())]
    for _ in range(3):
        client.get_event(EVENT_ID)
    used = [one.headers["authorization"] for one in server.requests]
    assert used == ["Bearer first", "Bearer second", "Bearer second"]


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (refused("invalid_grant"), "GATTE_GOOGLE_CREDENTIALS_FILE was deleted"),
        (refused("unauthorized_client", 401), "no token is given for GATTE_GOOGLE_SUBJECT"),
        (refused("invalid_scope"), re.escape(SCOPE)),
        (page_of_html(404), "GATTE_GOOGLE_TOKEN_URL is right"),
        (Reply(302, headers={"location": "https://other.example.com"}), "GATTE_GOOGLE_TOKEN_URL"),
    ],
)
def test_an_account_that_gets_no_token_ends_the_client(
    server: Server, client: GoogleCalendarClient, reply: Reply, words: str
) -> None:
    server.tokens = [reply]
    with pytest.raises(AccessRefusedError, match=words) as ended:
        client.get_event(EVENT_ID)
    assert isinstance(ended.value, ConfigurationError)
    assert str(ended.value).startswith(f"POST /token: answered {reply.status}")
    with pytest.raises(AccessRefusedError, match="not sent"):
        client.insert_event(NEW)
    assert (len(server.grants), server.requests) == (1, [])


def test_a_fault_where_tokens_are_given_is_outlived(
    server: Server, client: GoogleCalendarClient
) -> None:
    server.tokens = [page_of_html(503), Reply(None), token("third")]
    server.replies = [done(event())]
    assert client.get_event(EVENT_ID) is not None
    assert len(server.grants) == 3


@pytest.mark.parametrize(
    ("reply", "asked"),
    [(Reply(503), 3), (Reply(429), 3), (Reply(None), 3), (refused("internal_failure"), 1)],
)
def test_a_fault_where_tokens_are_given_is_a_matter_of_later(
    server: Server, client: GoogleCalendarClient, reply: Reply, asked: int
) -> None:
    server.tokens = [reply]
    with pytest.raises(RetryableHttpError, match="POST /token"):
        client.insert_event(NEW)
    assert (len(server.grants), server.requests) == (asked, [])
    server.tokens, server.replies = [], [done(event())]
    client.insert_event(NEW)


@pytest.mark.parametrize("reply", [page_of_html(200), done({}), token("a b"), token("")])
def test_a_token_that_is_none_is_told(
    server: Server, client: GoogleCalendarClient, reply: Reply
) -> None:
    server.tokens = [reply]
    with pytest.raises(UnreadableAnswerError, match="answered 200"):
        client.insert_event(NEW)
    assert server.requests == []


# --- the key ------------------------------------------------------------------------------------


@pytest.fixture
def file(tmp_path: Path, info: dict[str, object]) -> Path:
    path = tmp_path / "google.json"
    path.write_text(json.dumps(info), "utf-8")
    return path


def test_an_account_is_read_from_the_file_of_its_key(
    server: Server, file: Path, key: rsa.RSAPrivateKey
) -> None:
    it = ServiceAccount.from_file(file, token_url=server.token_url)
    assert it.token() == "ya29.token-of-nobody-1"
    assert claims_of(server.grants[0], key)[1]["iss"] == it.email == ACCOUNT
    assert repr(it) == "<ServiceAccount>"
    it.close()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is no JSON object"),
        (b"segredo", "is no JSON object"),
        (b"\xff\xfe", "is no JSON object"),
        (b"[]", "is no JSON object"),
        (b"{}", "is not the key of a service account"),
        (b'{"type": "authorized_user", "client_secret": "segredo"}', "is not the key of a service"),
        (b'{"installed": {"client_secret": "segredo"}}', "is not the key of a service account"),
        (b'{"type": "service_account", "private_key": "segredo"}', "has no client_email"),
        (b'{"type": "service_account", "client_email": "a@example.com"}', "has no private_key"),
        (
            b'{"type": "service_account", "client_email": "a@example.com", "private_key": 7}',
            "has no private_key",
        ),
    ],
)
def test_a_file_that_holds_no_such_key_is_refused(file: Path, content: bytes, words: str) -> None:
    file.write_bytes(content)
    with pytest.raises(ConfigurationError, match=words) as caught:
        ServiceAccount.from_file(file)
    assert caught.value.message.startswith("GATTE_GOOGLE_CREDENTIALS_FILE ")
    assert "create a key of type JSON" in caught.value.message
    assert_silent(caught.value, "segredo", file.name)


def test_a_file_that_is_not_there_is_named_by_its_setting(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="a file that is not there") as caught:
        ServiceAccount.from_file(tmp_path / "segredo.json")
    assert_silent(caught.value, "segredo")
    (tmp_path / "segredo").mkdir()
    with pytest.raises(ConfigurationError, match=r"cannot be read \(IsADirectoryError\)") as caught:
        ServiceAccount.from_file(tmp_path / "segredo")
    assert_silent(caught.value, "segredo")


def test_a_private_key_that_cannot_be_used_is_refused_without_being_shown(
    info: dict[str, object], key: rsa.RSAPrivateKey
) -> None:
    whole = pem(key)
    half = whole[: len(whole) // 2]
    keys = [
        "segredo",
        half,
        whole.replace("\n", "\\n"),
        whole.replace("PRIVATE KEY", "CERTIFICATE"),
        pem(ec.generate_private_key(ec.SECP256R1())),
        pem(key, b"segredo"),
        "é",
    ]
    for wrong in keys:
        with pytest.raises(ConfigurationError, match="a private_key that cannot be used") as caught:
            ServiceAccount({**info, "private_key": wrong})
        assert_silent(caught.value, wrong, wrong[40:80] or wrong, "segredo")


def assert_silent(error: BaseException, *secrets: str) -> None:
    shown = "".join(traceback.format_exception(error))
    # The lines of source are this file's own.
    shown = "\n".join(line for line in shown.splitlines() if not line.startswith("    "))
    for secret in secrets:
        assert secret not in shown


@pytest.mark.parametrize(
    "url",
    [
        "oauth2.googleapis.com/token",
        "https://",
        "http://oauth2.example.com/token",
        "https://user:segredo@example.com/token",
        "https://example.com/token?segredo",
    ],
)
def test_an_address_that_cannot_be_used_is_refused(
    server: Server, info: dict[str, object], url: str
) -> None:
    with pytest.raises(ConfigurationError, match="GATTE_GOOGLE_TOKEN_URL") as caught:
        ServiceAccount(info, token_url=url)
    assert "segredo" not in str(caught.value)
    with pytest.raises(ConfigurationError, match="GATTE_GOOGLE_CALENDAR_BASE_URL") as caught:
        GoogleCalendarClient(url, CALENDAR, account(server, info))
    assert "segredo" not in str(caught.value)


@pytest.mark.parametrize(
    "calendar_id", ["", " ", "..", "equipe com espaço", "a\nb", "é", "a" * 1025]
)
def test_a_calendar_that_is_none_is_refused(
    server: Server, info: dict[str, object], calendar_id: str
) -> None:
    with pytest.raises(ConfigurationError, match="GATTE_GOOGLE_CALENDAR_ID must be"):
        GoogleCalendarClient(server.url, calendar_id, account(server, info))


def test_the_accounts_own_calendar_is_refused_and_a_persons_is_not(
    server: Server, info: dict[str, object]
) -> None:
    with pytest.raises(ConfigurationError, match="GATTE_GOOGLE_CALENDAR_ID is primary"):
        GoogleCalendarClient(server.url, "primary", account(server, info))
    server.replies = [EMPTY]
    credentials = account(server, info, subject=SUBJECT)
    with GoogleCalendarClient(server.url + "/", "primary", credentials) as client:
        assert list(client.iter_events()) == []
    assert server.requests[0].path == "/calendar/v3/calendars/primary/events"


# --- settings and secrets -----------------------------------------------------------------------


def test_the_client_is_built_from_the_settings(server: Server, file: Path) -> None:
    server.replies = [EMPTY]
    settings = Settings(
        google_calendar_base_url=server.url,
        google_calendar_id=CALENDAR,
        google_credentials_file=file,
        google_token_url=server.token_url,
        google_subject=SUBJECT,
    )
    with Wiring(settings) as wiring, wiring.google_calendar("calendar_sync") as client:
        assert list(client.iter_events()) == []
    assert server.requests[0].path == PATH


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        (Settings(google_credentials_file=Path("x")), "GATTE_GOOGLE_CALENDAR_ID"),
        (Settings(google_calendar_id=CALENDAR), "GATTE_GOOGLE_CREDENTIALS_FILE"),
    ],
)
def test_a_setting_that_is_missing_is_named_with_who_needs_it(
    settings: Settings, name: str
) -> None:
    with (
        Wiring(settings) as wiring,
        pytest.raises(ConfigurationError, match=f"{name} is not set; calendar_sync needs it"),
        wiring.google_calendar("calendar_sync"),
    ):
        pass


def test_tokens_and_the_key_are_secrets(
    server: Server, info: dict[str, object], client: GoogleCalendarClient
) -> None:
    plain = "plain-token-without-a-form"
    server.tokens, server.replies = [token(plain)], [done(event())]
    client.get_event(EVENT_ID)
    assert redact(f"{plain} {info['private_key']}") == "<secret> <secret>"


def test_no_error_and_no_log_holds_a_secret_or_a_personal_value(
    server: Server, info: dict[str, object], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, logger="gatte_pipelines")
    caplog.set_level(logging.DEBUG, logger="google")
    replies = [failed(400, "x"), failed(500), page_of_html(200), done(NAME), done({"id": NAME})]
    replies += [failed(404), failed(403), failed(429, "", {"retry-after": "90"}), failed(401)]
    replies += [failed(409), failed(410), failed(412), Reply(None)]
    tokens = [refused("invalid_grant"), page_of_html(200), done(NAME), Reply(503), Reply(None)]
    shown = []
    sync_token = "sync-token-of-nobody"  # noqa: S105
    for is_token, reply in [*((False, one) for one in replies), *((True, one) for one in tokens)]:
        with opened(server, info, SUBJECT) as client:
            calls: list[Callable[[], object]] = [
                lambda client=client: client.insert_event(NEW),
                lambda client=client: client.patch_event(EVENT_ID, CHANGES, etag=ETAG),
                lambda client=client: list(client.iter_events(sync_token=sync_token)),
            ]
            server.tokens, server.replies = ([reply], [EMPTY]) if is_token else ([], [reply])
            for call in calls:
                try:
                    call()
                except GatteError as error:
                    shown += [str(error), repr(error), "".join(traceback.format_exception(error))]
            shown.append(repr(client))
    assert len(shown) > 3 * 3 * len(replies)
    shown.append(caplog.text)
    assertions = [grant["assertion"] for grant in server.grants]
    names = (NAME, CALENDAR, CALENDAR.replace("#", "%23"), SUBJECT, "ya29.token", *assertions)
    for hidden in (*names, str(info["private_key"])[60:90], sync_token):
        assert not [text for text in shown if hidden in text], hidden


def test_the_shared_errors_are_found_where_the_others_are() -> None:
    for name in failures.__all__:
        assert hasattr(failures, name)
