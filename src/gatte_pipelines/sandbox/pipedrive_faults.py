"""How the stand-in for Pipedrive fails on request: which request, how often, and how."""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from gatte_pipelines.sandbox.pipedrive_bodies import RefusedError

MISSING: Final = object()
"""Stands for a key that an answer leaves out."""


class PipedriveFault(StrEnum):
    """How the stand-in fails on request."""

    BURST = "burst"
    """429 with Retry-After, as for too many requests in two seconds."""
    DAILY_BUDGET = "daily_budget"
    """429 as for a day's tokens spent: Retry-After is there, and useless."""
    CLOUDFLARE = "cloudflare"
    """403 with a page of HTML: who went on after 429 is blocked."""
    PLAN_LIMIT = "plan_limit"
    """403 with JSON and a code: the plan allows no more of these."""
    UNAUTHORIZED = "unauthorized"
    """401, whatever the token."""
    ACCOUNT_CLOSED = "account_closed"
    """402: the company has not paid."""
    SERVER_ERROR = "server_error"
    """500; nothing was done."""
    UNAVAILABLE = "unavailable"
    """503; nothing was done."""
    TIMEOUT_BEFORE = "timeout_before"
    """Never answers, and nothing was done."""
    TIMEOUT_AFTER = "timeout_after"
    """Never answers, and it was done."""
    SERVER_ERROR_AFTER = "server_error_after"
    """500, and it was done all the same."""
    BROKEN_OFF = "broken_off"
    """The connection ends within the answer, and it was done."""
    HTML = "html"
    """200 with HTML where JSON is due, and it was done."""
    STUCK_PAGES = "stuck_pages"
    """A page that names itself as the next one."""


INSTEAD: Final[Mapping[PipedriveFault, RefusedError]] = {
    PipedriveFault.BURST: RefusedError(429, "request over limit"),
    PipedriveFault.DAILY_BUDGET: RefusedError(429, "request over limit"),
    PipedriveFault.PLAN_LIMIT: RefusedError(
        403, "Limit reached.", code="feature_capping_deals_limit"
    ),
    PipedriveFault.ACCOUNT_CLOSED: RefusedError(402, "Company account is not open"),
    PipedriveFault.SERVER_ERROR: RefusedError(500, "Internal Server Error", code="ERR_UNKNOWN"),
    PipedriveFault.UNAVAILABLE: RefusedError(503, "Requested service is not available"),
}


@dataclass
class _Planned:
    """A fault that is still to come; None stands for any method or path."""

    act: PipedriveFault | tuple[str, Any]
    times: int
    skip: int
    method: str | None
    path: re.Pattern[str] | None

    def meets(self, method: str, path: str) -> bool:
        return self.method in {None, method} and (self.path is None or bool(self.path.search(path)))


class FaultPlan:
    """Faults that are still to come."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._planned: list[_Planned] = []

    def add(
        self,
        act: PipedriveFault | tuple[str, Any],
        times: int,
        skip: int,
        method: str | None,
        path: str | None,
    ) -> None:
        """Plan a fault, or a key and the value that stands in its place."""
        pattern = re.compile(path) if path is not None else None
        with self._lock:
            self._planned.append(_Planned(act, times, skip, method, pattern))

    def take(self, method: str, path: str) -> tuple[PipedriveFault | None, list[tuple[str, Any]]]:
        """The next fault that is meant for a request, and how its answer is altered."""
        fault: PipedriveFault | None = None
        altered: list[tuple[str, Any]] = []
        with self._lock:
            for one in self._planned:
                is_fault = isinstance(one.act, PipedriveFault)
                if not one.meets(method, path) or (is_fault and fault is not None):
                    continue
                if one.skip:
                    one.skip -= 1
                    continue
                one.times -= 1
                if isinstance(one.act, PipedriveFault):
                    fault = one.act
                else:
                    altered.append(one.act)
            self._planned = [one for one in self._planned if one.times > 0]
        return fault, altered


def alter(body: Any, keys: list[str], value: Any) -> None:
    """Put a value in the place of a key, in every row of a list."""
    for one in body if isinstance(body, list) else [body]:
        if not isinstance(one, dict):
            continue
        if len(keys) > 1:
            alter(one.get(keys[0]), keys[1:], value)
        elif value is MISSING:
            one.pop(keys[0], None)
        else:
            one[keys[0]] = value
