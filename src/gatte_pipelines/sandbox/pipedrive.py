"""Pipedrive's API on this machine: the stand-in for the CRM, with a salesperson in it.

Leads, persons, organizations, deals and what belongs to them over HTTP; a salesperson's edits as
methods; budgets, a late search index and faults on request. Syncing belongs to ``crm``.
Sources: the official OpenAPI files, the vendor's texts, and field reports where both are silent.
"""

from __future__ import annotations

import copy
import json
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit
from uuid import uuid4

from gatte_pipelines.sandbox import pipedrive_memory
from gatte_pipelines.sandbox.faults import MISSING, FaultPlan, alter
from gatte_pipelines.sandbox.loopback import LoopbackServer
from gatte_pipelines.sandbox.pipedrive_account import (
    DEFAULT_LABELS,
    DEFAULT_PIPELINES,
    Account,
)
from gatte_pipelines.sandbox.pipedrive_api import PipedriveApi
from gatte_pipelines.sandbox.pipedrive_bodies import RefusedError, Row
from gatte_pipelines.sandbox.pipedrive_faults import INSTEAD, PipedriveFault
from gatte_pipelines.sandbox.pipedrive_limits import Limits, Verdict
from gatte_pipelines.sandbox.pipedrive_query import Reply, Request, error_reply
from gatte_pipelines.sandbox.pipedrive_routes import find_route
from gatte_pipelines.sandbox.pipedrive_rows import Kind, Source
from gatte_pipelines.sandbox.wire import Answer, handler_of

__all__ = ["Exchange", "Kind", "PipedriveFault", "PipedriveStandIn"]

_HANG_SECONDS = 60.0

_CLOUDFLARE_PAGE = b"<!DOCTYPE html><html><title>Attention Required! | Cloudflare</title></html>"


@dataclass(frozen=True, kw_only=True)
class Exchange:
    """A request and what was answered. Its repr shows neither query nor bodies.

    Attributes:
        path: With `/api/v1` or `/api/v2`, ids in it, and no query.
        request_headers: Names of the request's headers in lower case; no value is kept but the
            content type's.
        request_body: What was sent, as bytes.
        status: None where no answer went out.
        template: The path as the specs write it; None where there is no such endpoint.
        unknown_parameters: Names in the query that the endpoint does not know and ignores.
        cost: Tokens spent.
    """

    method: str
    path: str
    query: tuple[tuple[str, str], ...] = field(repr=False)
    request_headers: frozenset[str] = field(repr=False)
    content_type: str = field(repr=False)
    request_body: bytes = field(repr=False)
    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: bytes = field(default=b"", repr=False)
    template: str | None = None
    unknown_parameters: tuple[str, ...] = ()
    cost: int = 0


@dataclass(kw_only=True)
class _Answer(Answer):
    """An answer on its way out, and what is noted of it."""

    template: str | None = None
    unknown: tuple[str, ...] = ()
    cost: int = 0


class PipedriveStandIn(LoopbackServer):
    """Pipedrive on a loopback port, for one company.

    Attributes:
        account: What the company holds, and its rules where Pipedrive's texts leave a doubt.
        limits: Tokens of the day and the burst limit; off unless a test sets `limits.burst`.
        api: The endpoints.
        after_effect: Called once a request had its effect and before it is answered, with method
            and path: the moment to kill a client that does not know yet.

    Args:
        landing: Where events appear as webhooks do, by rename; None where none is wanted.
        port: Port, or 0 for any free one.
        token: The API token it asks for.
        now: The clock of rows, index, conversions and of the day's budget.
        monotonic: The clock of the burst limit.
        labels: Colours of lead labels by name.
        pipelines: Names of stages by the name of their pipeline.
        search_lag: How long it takes until a search finds what was written.
        daily_budget: Tokens of a day.
        memory: File in which what was written through the API outlives this process.
    """

    def __init__(
        self,
        landing: Path | None = None,
        port: int = 0,
        *,
        token: str = "",
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        monotonic: Callable[[], float] = time.monotonic,
        labels: Mapping[str, str] = DEFAULT_LABELS,
        pipelines: Mapping[str, Iterable[str]] = DEFAULT_PIPELINES,
        search_lag: timedelta = timedelta(0),
        daily_budget: int = 30_000,
        memory: Path | None = None,
    ) -> None:
        super().__init__("pipedrive-stand-in", port, handler_of(self.answer))
        self._landing = landing
        self.token = token or secrets.token_hex(20)
        self._now = now
        self.account = Account(now, labels=labels, pipelines=pipelines, search_lag=search_lag)
        self.account.tell = self._tell
        self._memory = memory
        if memory is not None:
            pipedrive_memory.load(self.account, memory)
        self.limits = Limits(now, daily_budget=daily_budget, monotonic=monotonic)
        self.api = PipedriveApi(self.account)
        self.after_effect: Callable[[str, str], None] | None = None
        self._lock = threading.Lock()
        self._exchanges: list[Exchange] = []
        self._faults: FaultPlan[PipedriveFault] = FaultPlan()

    @property
    def url(self) -> str:
        """The host for ``GATTE_PIPEDRIVE_BASE_URL``."""
        return self.origin

    # -- what a test looks at

    @property
    def exchanges(self) -> list[Exchange]:
        """Every request so far with its answer, oldest first."""
        with self._lock:
            return list(self._exchanges)

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
    def leads(self) -> list[Row]:
        """The leads, archived ones too, in the order of their making."""
        return self._copies(Kind.LEAD)

    @property
    def persons(self) -> list[Row]:
        """The persons that are not deleted."""
        return self._copies(Kind.PERSON)

    @property
    def organizations(self) -> list[Row]:
        """The organizations that are not deleted."""
        return self._copies(Kind.ORGANIZATION)

    @property
    def deals(self) -> list[Row]:
        """The deals that are not deleted."""
        return self._copies(Kind.DEAL)

    @property
    def notes(self) -> list[Row]:
        """The notes."""
        return self._copies(Kind.NOTE)

    @property
    def events(self) -> list[Row]:
        """Every change, as a webhook of version 2.0 tells it."""
        with self.account.lock:
            return list(self.account.events)

    def _copies(self, kind: Kind) -> list[Row]:
        with self.account.lock:
            self.account.settle()
            rows = self.account.rows[kind].values()
            return [copy.deepcopy(row) for row in rows if not row.get("is_deleted")]

    # -- faults

    def fail(
        self,
        fault: PipedriveFault,
        *,
        times: int = 1,
        skip: int = 0,
        method: str | None = None,
        path: str | None = None,
    ) -> None:
        """Fail requests to come.

        Args:
            fault: How.
            times: How many of them.
            skip: How many that would meet it pass before.
            method: Only those of this method.
            path: Only those where this pattern is found in the path.
        """
        self._faults.add(fault, times, skip, method, path)

    def stop_failing(self) -> None:
        """Forget every fault that is still to come."""
        self._faults = FaultPlan()

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
            key: Such as `data.update_time`; in a list every row is altered.
            value: What stands there instead.
            times: As in `fail`, which also tells of the others.
            skip: As in `fail`.
            method: As in `fail`.
            path: As in `fail`.
        """
        self._faults.add((key, value), times, skip, method, path)

    def omit(self, key: str, **which: Any) -> None:
        """Answer without a key; `which` as in `fail`."""
        self.alter(key, **which)

    # -- a salesperson

    def add_person(self, **values: Any) -> int:
        """Add a person and give its id; `phones` and `emails` may be plain texts."""
        row = self.account.create(Kind.PERSON, _with_channels(values), Source.APP)
        return int(row["id"])

    def add_organization(self, **values: Any) -> int:
        """Add an organization and give its id."""
        return int(self.account.create(Kind.ORGANIZATION, values, Source.APP)["id"])

    def add_lead(self, **values: Any) -> str:
        """Add a lead and give its id; custom fields under `custom_fields`, as v2 writes them."""
        return str(self.account.create(Kind.LEAD, values, Source.APP)["id"])

    def add_deal(self, **values: Any) -> int:
        """Add a deal and give its id."""
        return int(self.account.create(Kind.DEAL, values, Source.APP)["id"])

    def edit_person(self, person_id: int, **values: Any) -> None:
        """Change fields of a person."""
        self.account.change(Kind.PERSON, person_id, _with_channels(values), Source.APP)

    def edit_organization(self, organization_id: int, **values: Any) -> None:
        """Change fields of an organization."""
        self.account.change(Kind.ORGANIZATION, organization_id, values, Source.APP)

    def edit_lead(self, lead_id: str, **values: Any) -> None:
        """Change fields of a lead."""
        self.account.change(Kind.LEAD, lead_id, values, Source.APP)

    def edit_deal(self, deal_id: int, **values: Any) -> None:
        """Change fields of a deal: its stage, its status, or archive it."""
        self.account.change(Kind.DEAL, deal_id, values, Source.APP)

    def label_lead(self, lead_id: str, *names: str) -> None:
        """Give a lead exactly these labels."""
        ids = {row["name"]: row["id"] for row in self.account.labels.values()}
        self.edit_lead(lead_id, label_ids=[ids[name] for name in names])

    def archive_lead(self, lead_id: str, *, is_archived: bool = True) -> None:
        """Archive a lead, or bring it back."""
        self.account.archive_lead(lead_id, Source.APP, is_archived=is_archived)

    def merge_persons(self, kept_id: int, lost_id: int) -> None:
        """Merge one person into another, whose id stays."""
        self.account.merge_persons(kept_id, lost_id, Source.APP)

    def delete_person(self, person_id: int) -> None:
        """Delete a person."""
        self.account.delete(Kind.PERSON, person_id, Source.APP)

    def delete_organization(self, organization_id: int) -> None:
        """Delete an organization."""
        self.account.delete(Kind.ORGANIZATION, organization_id, Source.APP)

    def delete_lead(self, lead_id: str) -> None:
        """Delete a lead."""
        self.account.delete(Kind.LEAD, lead_id, Source.APP)

    def delete_deal(self, deal_id: int) -> None:
        """Delete a deal."""
        self.account.delete(Kind.DEAL, deal_id, Source.APP)

    def convert_lead(self, lead_id: str, stage_id: int | None = None) -> int | None:
        """Make a deal of a lead; its id where that is done at once."""
        with self.account.lock:
            started = self.account.start_conversion(lead_id, stage_id)
            self.account.settle()
            return started.deal_id

    def add_field(
        self, kind: Kind, name: str, field_type: str = "varchar", options: Iterable[str] = ()
    ) -> str:
        """Add a custom field and give its key."""
        return self.account.add_field(kind, name, field_type, options).code

    def delete_field(self, kind: Kind, key: str) -> None:
        """Take a custom field away, with all its values."""
        self.account.delete_field(kind, key)

    def index_now(self) -> None:
        """Let searches find everything that was written until now."""
        with self.account.lock:
            self.account.index.catch_up(self._now())

    # -- events

    def _tell(self, event: Row) -> None:
        self.account.events.append(event)
        if self._landing is None:
            return
        self._landing.mkdir(parents=True, exist_ok=True)
        name = f"pipedrive-{secrets.token_hex(8)}.json"
        partial = self._landing / f"{name}.part"
        partial.write_text(json.dumps(event), "utf-8")
        partial.rename(self._landing / name)

    def answer(
        self, method: str, target: str, headers: Mapping[str, str], content: bytes
    ) -> _Answer:
        """Answer one request and record both."""
        parts = urlsplit(target)
        path = unquote(parts.path)
        query = tuple(parse_qsl(parts.query, keep_blank_values=True))
        made = self._make(method, path, query, headers, content)
        if not made.is_silent and not made.is_cut:
            made.headers |= self.limits.headers(is_write=method in {"POST", "PUT"})
        exchange = Exchange(
            method=method,
            path=path,
            query=query,
            request_headers=frozenset(name.lower() for name in headers),
            content_type=headers.get("content-type", ""),
            request_body=content,
            status=None if made.is_silent else made.status,
            headers=dict(made.headers),
            body=b"" if made.is_silent else made.body,
            template=made.template,
            unknown_parameters=made.unknown,
            cost=made.cost,
        )
        with self._lock:
            self._exchanges.append(exchange)
        if made.is_silent:
            self._ended.wait(_HANG_SECONDS)
        return made

    def _make(
        self,
        method: str,
        path: str,
        query: tuple[tuple[str, str], ...],
        headers: Mapping[str, str],
        content: bytes,
    ) -> _Answer:
        fault, altered = self._faults.take(method, path)
        if fault is PipedriveFault.UNAUTHORIZED or headers.get("x-api-token") != self.token:
            return _unauthorized()
        if (instead := self._fail_before(fault)) is not None:
            return instead
        try:
            route, ids = find_route(method, path)
        except RefusedError as refused:
            return _json(error_reply(refused))
        unknown = tuple(name for name, _ in query if name not in route.parameters)
        with self.account.lock:
            verdict = self.limits.admit(route.cost, is_search=route.is_search)
            if verdict is not Verdict.GO:
                made = self._over(verdict)
                made.template, made.unknown = route.template, unknown
                return made
            try:
                known = {name: value for name, value in query if name in route.parameters}
                body = _parsed(method, headers, content)
                request = Request(ids=ids, query=known, body=body)
                self.api.has_stuck_pages = fault is PipedriveFault.STUCK_PAGES
                reply = route.answer(self.api, request)
                if self._memory is not None and method != "GET":
                    pipedrive_memory.save(self.account, self._memory)
            except RefusedError as refused:
                reply = error_reply(refused)
        if self.after_effect is not None:
            self.after_effect(method, path)
        for key, value in altered:
            alter(reply.body, key.split("."), value)
        made = _json(reply)
        made.template, made.unknown, made.cost = route.template, unknown, route.cost
        if fault is PipedriveFault.TIMEOUT_AFTER:
            made.is_silent = True
        elif fault is PipedriveFault.BROKEN_OFF:
            made.is_cut = True
        elif fault is PipedriveFault.SERVER_ERROR_AFTER:
            failed = _json(error_reply(INSTEAD[PipedriveFault.SERVER_ERROR]))
            made.status, made.body = failed.status, failed.body
        elif fault is PipedriveFault.HTML:
            made.status, made.body = 200, b"<html>"
            made.headers["content-type"] = "text/html"
        return made

    def _fail_before(self, fault: PipedriveFault | None) -> _Answer | None:
        """The answer of a fault that keeps a request from having any effect."""
        if fault is PipedriveFault.TIMEOUT_BEFORE:
            return _Answer(status=0, body=b"", headers={}, is_silent=True)
        if fault is PipedriveFault.CLOUDFLARE:
            return self._over(Verdict.BLOCKED)
        if fault is PipedriveFault.BURST:
            return self._over(Verdict.BURST)
        if fault is PipedriveFault.DAILY_BUDGET:
            self.limits.spend(self.limits.daily_budget)
            return self._over(Verdict.DAY_IS_SPENT)
        refused = INSTEAD.get(fault) if fault is not None else None
        return _json(error_reply(refused)) if refused is not None else None

    def _over(self, verdict: Verdict) -> _Answer:
        if verdict is Verdict.BLOCKED:
            return _Answer(
                status=403,
                body=_CLOUDFLARE_PAGE,
                headers={"content-type": "text/html; charset=UTF-8", "server": "cloudflare"},
            )
        made = _json(error_reply(INSTEAD[PipedriveFault.BURST]))
        made.headers["retry-after"] = "2" if verdict is Verdict.BURST else "3"
        return made


def _with_channels(values: Mapping[str, Any]) -> Row:
    """Write plain telephones and addresses as objects, as Pipedrive holds them."""
    return {
        key: [{"value": one} if isinstance(one, str) else one for one in value]
        if key in {"phones", "emails"}
        else value
        for key, value in values.items()
    }


def _parsed(method: str, headers: Mapping[str, str], content: bytes) -> Any:
    """The body as JSON; None where there is none.

    Raises:
        RefusedError: It is something else.
    """
    if not content:
        return None
    if method == "GET" or not headers.get("content-type", "").startswith("application/json"):
        raise RefusedError(400, "Only a JSON body is taken, and none by GET")
    try:
        return json.loads(content)
    except ValueError:
        raise RefusedError(400, "Invalid JSON") from None


def _json(reply: Reply) -> _Answer:
    return _Answer(
        status=reply.status,
        body=json.dumps(reply.body).encode(),
        headers={
            "content-type": "application/json; charset=utf-8",
            "x-correlation-id": str(uuid4()),
        },
    )


def _unauthorized() -> _Answer:
    """As the live API answered a wrong token."""
    body = {
        "success": False,
        "error": "unauthorized access",
        "errorCode": 401,
        "error_info": "Please check developers.pipedrive.com",
    }
    made = _json(Reply(status=401, body=body))
    made.headers["x-401-by-gw"] = "true"
    return made
