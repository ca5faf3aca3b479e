"""How the stand-in for Pipedrive fails on request."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

from gatte_pipelines.sandbox.pipedrive_bodies import RefusedError


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
