"""The client of Pipedrive over real sockets, against a server that answers as it is told."""

from __future__ import annotations

import json
import logging
import re
import socket
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import UUID

import pytest

from gatte_pipelines.crm import endpoints as ep
from gatte_pipelines.crm.answers import Meaning
from gatte_pipelines.crm.budget import DailyBudgetSpent, TokenLedger
from gatte_pipelines.crm.client import MAX_SEARCH_PAGES, PipedriveClient
from gatte_pipelines.crm.failures import (
    AccessRefusedError,
    BlockedError,
    PagingError,
    RecordMissingError,
    RefusedError,
    UnreadableAnswerError,
)
from gatte_pipelines.crm.models import Contact, DealChanges, LeadChanges, NewLead, NewPerson
from gatte_pipelines.errors import ConfigurationError, GatteError
from gatte_pipelines.http import AmbiguousError, RetryableHttpError, RetryPolicy
from gatte_pipelines.redaction import redact
from gatte_pipelines.settings import Settings
from gatte_pipelines.wiring import Wiring

TOKEN = "obviously-no-token-" + "0" * 21
QUICK = RetryPolicy(max_attempts=3, base_delay_seconds=0.01, max_delay_seconds=0.01)
LEAD_ID = UUID("adf21080-0e10-11eb-879b-05d71fb426ec")
KEY = "0123456789abcdef" * 2 + "01234567"
SINCE = datetime(2026, 3, 10, 8, 30, 0, 999_000, timezone(timedelta(hours=-3)))
NAME, PHONE, EMAIL = "Nome Distinto", "+5511900001234", "nome.distinto@example.com"


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
    """Answers on the loopback with the next reply; the last one again and again."""

    def __init__(self) -> None:
        self.replies: list[Reply] = []
        self.requests: list[Request] = []
        self.times: list[float] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _answer(self) -> None:
                length = int(self.headers.get("content-length") or 0)
                body = self.rfile.read(length)
                url = urlsplit(self.path)
                outer.times.append(time.monotonic())
                outer.requests.append(
                    Request(
                        self.command,
                        url.path,
                        {k: v for k, (v,) in parse_qs(url.query, keep_blank_values=True).items()},
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
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Server:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join(5)
        self._server.server_close()


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        yield running


@pytest.fixture
def ledger() -> TokenLedger:
    return TokenLedger()


@pytest.fixture
def client(server: Server, ledger: TokenLedger) -> Iterator[PipedriveClient]:
    with opened(server, ledger) as it:
        yield it


def opened(server: Server, ledger: TokenLedger, **options: Any) -> PipedriveClient:
    options = {"timeout_seconds": 0.3, "repeats": QUICK} | options
    return PipedriveClient(server.url, TOKEN, ledger=ledger, **options)


def done(data: object, status: int = 200, /, **additional: object) -> Reply:
    body = {"success": True, "data": data, "additional_data": additional or None}
    return Reply(status, json.dumps(body).encode(), {"content-type": "application/json"})


def failed(status: int, headers: dict[str, str] | None = None, **more: object) -> Reply:
    body = {"success": False, "error": NAME, "error_info": PHONE, "data": None, **more}
    return Reply(status, json.dumps(body).encode(), {"x-correlation-id": "c-1"} | (headers or {}))


def page_of_html(status: int) -> Reply:
    return Reply(status, f"<!DOCTYPE html><p>{NAME}".encode(), {"content-type": "text/html"})


def lead(lead_id: UUID = LEAD_ID, **changes: object) -> dict[str, object]:
    return {
        "id": str(lead_id),
        "title": NAME,
        "owner_id": 1,
        "person_id": 7,
        "organization_id": None,
        "label_ids": [],
        "origin_id": None,
        "is_archived": False,
        "add_time": "2026-03-01T11:30:36.551Z",
        "update_time": "2026-03-01T11:30:36.551Z",
        **changes,
    }


def person(person_id: int = 7, **changes: object) -> dict[str, object]:
    return {
        "id": person_id,
        "name": NAME,
        "org_id": None,
        "emails": [{"value": EMAIL, "primary": True, "label": "work"}],
        "phones": [{"value": PHONE, "primary": True, "label": "work"}],
        "is_deleted": False,
        "add_time": "2026-03-01T11:30:36Z",
        "update_time": "2026-03-01T11:30:36Z",
        "custom_fields": {},
        **changes,
    }


def deal(deal_id: int = 9, **changes: object) -> dict[str, object]:
    return {
        "id": deal_id,
        "title": NAME,
        "status": "open",
        "stage_id": 3,
        "pipeline_id": 1,
        "person_id": 7,
        "org_id": None,
        "is_archived": False,
        "is_deleted": False,
        "add_time": "2026-03-01T11:30:36Z",
        "update_time": "2026-03-01T11:30:36Z",
        "custom_fields": {},
        "source_lead_id": str(LEAD_ID),
        **changes,
    }


# --- what is sent -------------------------------------------------------------------------------


def test_the_token_stands_in_its_header_and_nowhere_else(
    server: Server, client: PipedriveClient
) -> None:
    server.replies = [done(lead())]
    client.get_lead(LEAD_ID)
    (request,) = server.requests
    assert request.headers["x-api-token"] == TOKEN
    assert (request.method, request.path) == ("GET", f"/api/v1/leads/{LEAD_ID}")
    others = {k: v for k, v in request.headers.items() if k != "x-api-token"}
    assert TOKEN not in repr((others, request.query, request.path))
    assert "authorization" not in request.headers


def test_changed_leads_are_asked_for_the_last_one_first(
    server: Server, client: PipedriveClient
) -> None:
    server.replies = [done([lead()], more_items_in_collection=False)]
    (found,) = client.iter_leads(updated_since=SINCE)
    assert found.id == LEAD_ID
    assert server.requests[0].query == {
        "updated_since": "2026-03-10T11:30:00Z",
        "sort": "update_time DESC",
        "start": "0",
        "limit": "500",
    }


def test_leads_of_a_person_are_asked_for_by_his_id(server: Server, client: PipedriveClient) -> None:
    server.replies = [done(None, pagination={"more_items_in_collection": False})]
    assert list(client.iter_leads(person_id=7)) == []
    assert list(client.iter_archived_leads(organization_id=8)) == []
    first, second = server.requests
    assert first.query == {"person_id": "7", "start": "0", "limit": "500"}
    assert second.path == "/api/v1/leads/archived"
    assert second.query == {"organization_id": "8", "start": "0", "limit": "500"}


def test_a_lead_is_created_with_our_id_in_both_places(
    server: Server, client: PipedriveClient
) -> None:
    server.replies = [done(lead(origin_id="b5", **{KEY: "b5"}), 201)]
    new = NewLead(title=NAME, person_id=7, origin_id="b5", custom_fields={KEY: "b5"})
    created = client.create_lead(new)
    assert (created.origin_id, created.custom_fields) == ("b5", {KEY: "b5"})
    (request,) = server.requests
    assert (request.method, request.path) == ("POST", "/api/v1/leads")
    assert request.body == {"title": NAME, "person_id": 7, "origin_id": "b5", KEY: "b5"}


def test_many_ids_are_asked_for_a_hundred_at_a_time_and_none_not_at_all(
    server: Server, client: PipedriveClient
) -> None:
    server.replies = [done([], next_cursor=None)]
    assert list(client.iter_persons(ids=[])) == []
    assert server.requests == []
    list(client.iter_persons(ids=[*range(1, 151), 1]))
    sizes = [len(request.query["ids"].split(",")) for request in server.requests]
    assert sizes == [100, 50]


def test_deals_come_with_the_lead_they_were(server: Server, client: PipedriveClient) -> None:
    server.replies = [done([deal()], next_cursor=None), done(deal()), done(deal(title="x"))]
    (found,) = client.iter_deals(updated_since=SINCE, status="deleted")
    assert found.source_lead_id == LEAD_ID
    assert server.requests[0].query == {
        "status": "deleted",
        "include_fields": "source_lead_id",
        "updated_since": "2026-03-10T11:30:00Z",
        "sort_by": "update_time",
        "sort_direction": "asc",
        "limit": "500",
    }
    assert client.get_deal(9) == found
    assert client.update_deal(9, DealChanges(title="x", custom_fields={KEY: "b5"})).title == "x"
    assert server.requests[2].body == {"title": "x", "custom_fields": {KEY: "b5"}}


def test_a_search_is_exact_and_small(server: Server, client: PipedriveClient) -> None:
    item = {"id": 7, "name": NAME, "phones": [PHONE], "emails": [], "type": "person"}
    server.replies = [done({"items": [{"result_score": 0.5, "item": item}]}, next_cursor=None)]
    (hit,) = client.find_persons(PHONE, field="phone")
    assert (hit.id, hit.phones) == (7, [PHONE])
    assert server.requests[0].query == {
        "term": PHONE,
        "fields": "phone",
        "exact_match": "true",
        "limit": "100",
    }


def test_an_empty_page_of_a_search_is_not_its_end(server: Server, client: PipedriveClient) -> None:
    item = {"item": {"id": 8, "name": NAME}}
    server.replies = [
        done({"items": []}, next_cursor="a"),
        done({"items": [item]}, next_cursor=None),
    ]
    assert [hit.id for hit in client.find_organizations(NAME)] == [8]
    assert server.requests[1].query["cursor"] == "a"


@pytest.mark.parametrize(
    "hits", [[{"id": str(LEAD_ID), "name": NAME}], [{"result_score": 1, "item": {"id": "L"}}]]
)
def test_a_search_by_field_is_read_in_both_shapes_that_the_spec_has(
    server: Server, client: PipedriveClient, hits: list[dict[str, object]]
) -> None:
    server.replies = [done(hits, next_cursor=None)]
    (hit,) = client.find_by_field("lead", KEY, "b5")
    assert hit.id in {str(LEAD_ID), "L"}
    assert server.requests[0].query["match"] == "exact"


def test_a_note_is_plain_text_and_belongs_to_one(server: Server, client: PipedriveClient) -> None:
    server.replies = [done({"id": 5, "content": "", "lead_id": str(LEAD_ID)})]
    assert client.create_note("a < b\nc", lead_id=LEAD_ID).id == 5
    assert server.requests[0].body == {"content": "a &lt; b<br>c", "lead_id": str(LEAD_ID)}
    with pytest.raises(ValueError, match="one lead"):
        client.create_note("x")
    with pytest.raises(ValueError, match="one lead"):
        client.iter_notes(lead_id=LEAD_ID, person_id=7)
    assert len(server.requests) == 1


def test_a_conversion_is_followed_until_it_is_forgotten(
    server: Server, client: PipedriveClient
) -> None:
    conversion = UUID(int=9)
    server.replies = [
        done({"conversion_id": str(conversion)}),
        done({"conversion_id": str(conversion), "status": "completed", "deal_id": 9}),
        failed(404),
    ]
    assert client.convert_lead(LEAD_ID, stage_id=3) == conversion
    assert server.requests[0].body == {"stage_id": 3}
    state = client.read_conversion(LEAD_ID, conversion)
    assert state is not None
    assert (state.status, state.deal_id) == ("completed", 9)
    assert client.read_conversion(LEAD_ID, conversion) is None


def test_an_instant_without_a_zone_is_refused(client: PipedriveClient) -> None:
    with pytest.raises(ValueError, match="zone"):
        client.iter_leads(updated_since=SINCE.replace(tzinfo=None))


def test_a_parameter_that_pipedrive_would_ignore_is_never_sent(
    server: Server, client: PipedriveClient
) -> None:
    with pytest.raises(ValueError, match="GET /api/v1/leads/archived knows no parameter updated"):
        client._call(ep.LIST_ARCHIVED_LEADS, {"updated_since": "2026-03-10T11:30:00Z"})
    assert server.requests == []


def test_a_term_of_blanks_is_not_searched_for(server: Server, client: PipedriveClient) -> None:
    with pytest.raises(ValueError, match="term"):
        client.find_persons(" ", field="email")
    assert server.requests == []


# --- pages --------------------------------------------------------------------------------------


def test_pages_of_leads_are_followed_to_the_end(server: Server, ledger: TokenLedger) -> None:
    ids = [UUID(int=number) for number in range(5)]
    server.replies = [
        done([lead(ids[0]), lead(ids[1])], start=0, limit=2, more_items_in_collection=True),
        done(
            [lead(ids[2]), lead(ids[3])],
            pagination={"next_start": 4, "more_items_in_collection": True},
        ),
        done([lead(ids[4])], pagination={"more_items_in_collection": False}),
    ]
    with opened(server, ledger, page_size=2) as client:
        assert [found.id for found in client.iter_leads()] == ids
    assert [request.query["start"] for request in server.requests] == ["0", "2", "4"]
    assert ledger.spent == 60


def test_leads_without_figures_are_followed_to_an_empty_page(
    server: Server, client: PipedriveClient
) -> None:
    server.replies = [done([lead()]), done([])]
    assert len(list(client.iter_leads())) == 1
    assert server.requests[1].query["start"] == "1"


def test_pages_by_cursor_are_followed_to_the_end(server: Server, client: PipedriveClient) -> None:
    server.replies = [
        done([person(1)], next_cursor="a"),
        done([], next_cursor="b"),
        done([person(2)], next_cursor=None),
    ]
    assert [found.id for found in client.iter_persons()] == [1, 2]
    assert [request.query.get("cursor") for request in server.requests] == [None, "a", "b"]


@pytest.mark.parametrize(
    ("replies", "words"),
    [
        # A server that does not know the cursor's parameter answers with the first page for ever.
        (
            [done([person(1)], next_cursor="a"), done([person(1)], next_cursor="b")],
            "the same page comes again and again",
        ),
        (
            [done([person(1)], next_cursor="a"), done([person(2)], next_cursor="a")],
            "a cursor came twice",
        ),
        (
            [
                done([person(1)], next_cursor="a"),
                done([person(2)], next_cursor="b"),
                done([person(3)], next_cursor="a"),
            ],
            "a cursor came twice",
        ),
        ([done([], next_cursor="a"), done([], next_cursor="a")], "a cursor came twice"),
    ],
)
def test_pages_that_go_round_in_circles_end_in_an_error(
    server: Server, client: PipedriveClient, replies: list[Reply], words: str
) -> None:
    server.replies = replies
    with pytest.raises(PagingError, match=rf"^GET /api/v2/persons: {words}$"):
        list(client.iter_persons())
    assert len(server.requests) == len(replies)


def test_an_offset_that_does_not_move_ends_in_an_error(
    server: Server, client: PipedriveClient
) -> None:
    server.replies = [done([lead()], next_start=0, more_items_in_collection=True)]
    with pytest.raises(PagingError, match="does not begin after"):
        list(client.iter_leads())
    server.replies = [done([lead()])]
    server.requests.clear()
    with pytest.raises(PagingError, match="again and again"):
        list(client.iter_leads())
    assert len(server.requests) == 3


def test_a_list_without_end_stops_at_the_ceiling(server: Server, ledger: TokenLedger) -> None:
    server.replies = [done([person(number)], next_cursor=str(number)) for number in range(9)]
    with opened(server, ledger, max_pages=3) as client:
        with pytest.raises(PagingError, match="more than 3 pages"):
            list(client.iter_persons())
        assert len(server.requests) == 3
        server.requests.clear()
        server.replies = [
            done({"items": [{"item": {"id": n, "name": NAME}}]}, next_cursor=str(n))
            for n in range(9)
        ]
        with pytest.raises(PagingError, match="pages"):
            client.find_organizations(NAME)
    assert len(server.requests) == MAX_SEARCH_PAGES


def test_records_are_handed_out_while_pages_are_still_to_come(
    server: Server, client: PipedriveClient
) -> None:
    server.replies = [done([person(1)], next_cursor="a"), done([], next_cursor=None)]
    persons = client.iter_persons()
    assert server.requests == []
    next(persons)
    assert len(server.requests) == 1


# --- answers ------------------------------------------------------------------------------------


def test_what_is_not_there_is_none_and_cannot_be_changed(
    server: Server, client: PipedriveClient
) -> None:
    server.replies = [failed(404)]
    assert client.get_lead(LEAD_ID) is None
    assert client.get_person(7) is None
    assert client.delete_lead(LEAD_ID) is False
    with pytest.raises(RecordMissingError) as missing:
        client.update_lead(LEAD_ID, LeadChanges(title="x"))
    assert str(missing.value) == (
        f"PATCH /api/v1/leads/{LEAD_ID}: answered 404: there is no such record (request id c-1)"
    )


def test_a_host_that_is_not_pipedrives_deletes_nothing(
    server: Server, client: PipedriveClient
) -> None:
    for reply in (page_of_html(404), Reply(404), Reply(404, b'{"error": "?"}'), failed(410)):
        server.replies = [reply]
        with pytest.raises(RefusedError) as refused:
            client.get_lead(LEAD_ID)
        assert refused.value.meaning in {Meaning.FOREIGN, Meaning.NO_SUCH_CALL}


def test_what_is_deleted_twice_is_deleted(server: Server, client: PipedriveClient) -> None:
    server.replies = [Reply(503), done({"id": 7}), failed(404)]
    assert client.delete_person(7) is True
    assert client.delete_person(7) is False


def test_after_a_401_nothing_more_is_attempted(
    server: Server, client: PipedriveClient, ledger: TokenLedger
) -> None:
    server.replies = [failed(401)]
    with pytest.raises(AccessRefusedError, match="GATTE_PIPEDRIVE_API_TOKEN is not accepted"):
        client.read_me()
    for call in (
        client.read_me,
        lambda: list(client.iter_leads()),
        lambda: client.get_lead(LEAD_ID),
    ):
        with pytest.raises(AccessRefusedError, match="not sent, since an earlier request") as again:
            call()
        assert isinstance(again.value, ConfigurationError)
    assert len(server.requests) == 1
    assert ledger.spent == 0


def test_after_the_firewall_nothing_more_is_attempted(
    server: Server, client: PipedriveClient
) -> None:
    server.replies = [page_of_html(403)]
    new = NewPerson(name=NAME)
    for words in ("answered 403: a firewall answered in Pipedrive's place", "not sent"):
        with pytest.raises(BlockedError, match=words):
            client.create_person(new)
    assert len(server.requests) == 1


def test_a_closed_account_stops_all(server: Server, client: PipedriveClient) -> None:
    server.replies = [failed(402)]
    for _ in range(2):
        with pytest.raises(AccessRefusedError):
            client.read_me()
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("reply", "meaning", "words"),
    [
        (failed(400), Meaning.REFUSED, "answered 400: Pipedrive refuses the request"),
        (failed(403), Meaning.FORBIDDEN, "answered 403: the user of the token may not do this"),
        (
            failed(403, code="feature_capping_deals_limit"),
            Meaning.PLAN_LIMIT,
            "a limit of the Pipedrive plan is reached (feature_capping_deals_limit)",
        ),
        (failed(415), Meaning.FEATURE_OFF, "this feature is switched off"),
        (failed(200), Meaning.REFUSED, "answered 200: Pipedrive refuses the request"),
        (Reply(301, headers={"location": "https://other.example.com/"}), Meaning.FOREIGN, "301"),
    ],
)
def test_a_refusal_says_why_and_is_not_repeated(
    server: Server, client: PipedriveClient, reply: Reply, meaning: Meaning, words: str
) -> None:
    server.replies = [reply]
    with pytest.raises(RefusedError, match=re.escape(words)) as refused:
        client.create_deal_field("gatte_lead_id")
    assert refused.value.meaning is meaning
    assert len(server.requests) == 1
    # The next call is a matter of its own.
    server.replies = [done(person())]
    assert client.get_person(7) is not None


def test_a_field_that_is_missing_from_an_answer_is_named(
    server: Server, client: PipedriveClient
) -> None:
    without = {key: value for key, value in lead().items() if key != "update_time"}
    server.replies = [done([lead(), without], more_items_in_collection=False)]
    with pytest.raises(UnreadableAnswerError, match=r"data\[1\]\.update_time is missing"):
        list(client.iter_leads())
    server.replies = [done([person()])]
    with pytest.raises(UnreadableAnswerError, match=r"additional_data\.next_cursor is missing"):
        list(client.iter_persons())
    server.replies = [done(None)]
    with pytest.raises(UnreadableAnswerError, match="data is missing"):
        client.get_person(7)
    server.replies = [done({"results": []}, next_cursor=None)]
    with pytest.raises(UnreadableAnswerError, match="data is missing"):
        client.find_organizations(NAME)
    server.replies = [done({"items": [NAME]}, next_cursor=None)]
    with pytest.raises(UnreadableAnswerError, match=r"data\[0\]: Expected `object`, got `str`"):
        client.find_organizations(NAME)


def test_html_where_json_was_due_is_named(server: Server, client: PipedriveClient) -> None:
    server.replies = [page_of_html(200)]
    with pytest.raises(UnreadableAnswerError, match="HTML where JSON was due"):
        client.get_lead(LEAD_ID)


@pytest.mark.parametrize(
    "reply", [page_of_html(200), done({"title": NAME}), done(None), Reply(204), Reply(None)]
)
def test_a_write_whose_answer_cannot_be_read_is_ambiguous_and_sent_once(
    server: Server, client: PipedriveClient, reply: Reply
) -> None:
    server.replies = [reply]
    with pytest.raises(AmbiguousError, match="it may have taken effect"):
        client.create_lead(NewLead(title=NAME, person_id=7))
    assert len(server.requests) == 1
    with pytest.raises(AmbiguousError, match="it may have taken effect"):
        client.update_lead(LEAD_ID, LeadChanges(title=NAME))
    assert len(server.requests) == 2


@pytest.mark.parametrize("status", [500, 502, 503, 504])
def test_a_write_that_meets_a_fault_is_ambiguous_and_sent_once(
    server: Server, client: PipedriveClient, status: int
) -> None:
    server.replies = [failed(status)]
    with pytest.raises(AmbiguousError):
        client.create_person(NewPerson(name=NAME))
    assert len(server.requests) == 1


def test_a_read_outlives_a_fault_and_a_silence_and_each_attempt_is_charged(
    server: Server, client: PipedriveClient, ledger: TokenLedger
) -> None:
    server.replies = [page_of_html(502), Reply(None), done(lead())]
    assert client.get_lead(LEAD_ID) is not None
    assert ledger.spent == 3 * 2


def test_no_connection_costs_nothing(ledger: TokenLedger) -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
    with (
        PipedriveClient(url, TOKEN, ledger=ledger, repeats=QUICK) as client,
        pytest.raises(RetryableHttpError, match="nothing was sent"),
    ):
        client.create_person(NewPerson(name=NAME))
    assert ledger.spent == 0


# --- limits -------------------------------------------------------------------------------------


@pytest.mark.parametrize("headers", [{}, {"retry-after": "0", "x-ratelimit-reset": "1"}])
def test_too_many_at_once_waits_for_a_whole_window_and_sends_the_write_again(
    server: Server, client: PipedriveClient, ledger: TokenLedger, headers: dict[str, str]
) -> None:
    server.replies = [failed(429, headers), done(person())]
    client.create_person(NewPerson(name=NAME))
    assert 2 <= server.times[1] - server.times[0] < 3
    assert ledger.spent == 5


def test_a_window_of_a_minute_and_more_is_not_waited_for(
    server: Server, client: PipedriveClient
) -> None:
    server.replies = [failed(429, {"retry-after": "90"})]
    with pytest.raises(RetryableHttpError) as refused:
        client.get_person(7)
    assert refused.value.retry_after_seconds == 90
    assert len(server.requests) == 1


def test_a_window_that_is_used_up_is_waited_for_before_it_is_exceeded(
    server: Server, ledger: TokenLedger
) -> None:
    waits: list[float] = []
    used_up = done(person())
    used_up.headers |= {"x-ratelimit-remaining": "0", "x-ratelimit-reset": "2"}
    server.replies = [used_up, done(person())]
    with opened(server, ledger, clock=lambda: 100.0, sleep=waits.append) as client:
        for _ in range(3):
            client.get_person(7)
    assert waits == [2.0]


@pytest.mark.parametrize("reset", ["", "soon", "3600", "1773142200"])
def test_a_window_that_says_nothing_of_use_has_its_usual_length(
    server: Server, ledger: TokenLedger, reset: str
) -> None:
    waits: list[float] = []
    used_up = done(person())
    used_up.headers |= {"x-ratelimit-remaining": "0", "x-ratelimit-reset": reset}
    server.replies = [used_up]
    with opened(server, ledger, clock=lambda: 100.0, sleep=waits.append) as client:
        client.get_person(7)
        client.get_person(7)
    assert waits == [2.0]


@pytest.mark.parametrize(
    "gone", [{"x-daily-ratelimit-token-remaining": "0"}, {"x-daily-requests-left": "0"}]
)
def test_the_days_budget_that_is_gone_stops_all_without_a_repeat(
    server: Server, client: PipedriveClient, ledger: TokenLedger, gone: dict[str, str]
) -> None:
    server.replies = [failed(429, {"retry-after": "3", **gone})]
    for call in (client.read_me, client.read_stages, client.read_me):
        with pytest.raises(DailyBudgetSpent) as refused:
            call()
        assert refused.value.said_by_pipedrive
    assert len(server.requests) == 1
    assert ledger.spent == 0


def test_the_share_that_is_used_up_stops_a_list_in_its_middle(server: Server) -> None:
    ledger = TokenLedger(budget=50)
    server.replies = [done([person(number)], next_cursor=str(number)) for number in range(9)]
    with opened(server, ledger) as client:
        with pytest.raises(DailyBudgetSpent) as refused:
            list(client.iter_persons())
        assert not refused.value.said_by_pipedrive
        assert (len(server.requests), ledger.spent) == (3, 30)


def test_a_repeat_is_not_sent_where_the_share_has_no_room_for_it(server: Server) -> None:
    ledger = TokenLedger(budget=50)
    server.replies = [failed(503)]
    with opened(server, ledger) as client, pytest.raises(DailyBudgetSpent):
        list(client.iter_leads())
    assert len(server.requests) == 1


def test_the_budget_is_learned_from_the_answers(
    server: Server, client: PipedriveClient, ledger: TokenLedger
) -> None:
    answer = done(person())
    answer.headers |= {
        "X-Daily-RateLimit-Token-Limit": "60000",
        "X-Daily-RateLimit-Token-Remaining": "4",
    }
    server.replies = [answer]
    client.get_person(7)
    assert (ledger.budget, ledger.remaining) == (60_000, 4)
    with pytest.raises(DailyBudgetSpent):
        client.read_stages()
    assert len(server.requests) == 1


# --- settings and secrets -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "company.pipedrive.com",
        "https://",
        "https://company.pipedrive.com:port",
        "https://company.pipedrive.com/api/v1",
        "https://company.pipedrive.com?api_token=x",
        "https://user:password@company.example.com",
        "ftp://company.pipedrive.com",
        "http://company.pipedrive.com",
    ],
)
def test_an_address_that_cannot_be_used_is_refused(url: str, ledger: TokenLedger) -> None:
    with pytest.raises(ConfigurationError, match="GATTE_PIPEDRIVE_BASE_URL"):
        PipedriveClient(url, TOKEN, ledger=ledger)


def test_an_address_may_end_in_a_slash(server: Server, ledger: TokenLedger) -> None:
    server.replies = [done(person())]
    with PipedriveClient(server.url + "/", TOKEN, ledger=ledger) as client:
        client.get_person(7)
    assert server.requests[0].path == "/api/v2/persons/7"


@pytest.mark.parametrize("token", ["", "segredo-ç", "segredo\n", "seg redo"])
def test_a_token_that_no_header_can_hold_is_refused_without_being_shown(
    token: str, ledger: TokenLedger
) -> None:
    with pytest.raises(ConfigurationError) as refused:
        PipedriveClient("https://company.pipedrive.com", token, ledger=ledger)
    assert str(refused.value) == "GATTE_PIPEDRIVE_API_TOKEN must be ASCII without spaces"
    assert refused.value.__context__ is None


def test_the_token_is_a_secret_wherever_it_is_first_seen(ledger: TokenLedger) -> None:
    first, second = "first-token-of-nobody", "second-token-of-nobody"
    assert redact(f"{first} {second}") == f"{first} {second}"
    with PipedriveClient("https://company.example.com", first, ledger=ledger) as client:
        assert first not in repr(client)
    with Wiring(Settings(pipedrive_api_token=second)):
        assert redact(f"{first} {second}") == "<secret> <secret>"


def test_no_error_and_no_log_holds_the_token_or_a_personal_value(
    server: Server, client: PipedriveClient, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, logger="gatte_pipelines")
    contact = [Contact(value=EMAIL, primary=True)]
    calls: list[Callable[[], object]] = [
        lambda: client.find_persons(PHONE, field="phone"),
        lambda: client.find_persons(EMAIL, field="email"),
        lambda: client.create_person(NewPerson(name=NAME, emails=contact)),
        lambda: client.create_lead(NewLead(title=NAME, person_id=7)),
        lambda: client.create_note(NAME, person_id=7),
    ]
    replies = [failed(400), failed(500), page_of_html(200), done(NAME), done([{"id": NAME}])]
    replies += [failed(404), failed(403), failed(429, {"retry-after": "90"}), Reply(None)]
    shown = []
    for reply in replies:
        server.replies = [reply]
        for call in calls:
            try:
                call()
            except GatteError as error:
                shown += [str(error), repr(error), "".join(traceback.format_exception(error))]
    assert len(shown) == 3 * len(replies) * len(calls)
    shown += [caplog.text, repr(client), repr(client.ledger.calls)]
    for secret in (TOKEN, NAME, PHONE, PHONE[1:], EMAIL, "nome.distinto"):
        assert not any(secret in text for text in shown), secret


def test_a_moment_that_has_passed_is_waited_for_as_the_usual_window(
    server: Server, client: PipedriveClient
) -> None:
    server.replies = [
        failed(429, {"retry-after": "Tue, 10 Mar 2026 12:00:03 GMT"}),
        done(person()),
    ]
    client.get_person(7)
    assert 2 <= server.times[1] - server.times[0] < 3
