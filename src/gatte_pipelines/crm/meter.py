"""Below the repeats: each attempt is charged to the ledger and kept within the window of requests.

Source: Pipedrive, "Rate limiting", as of 2026-09-17.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime

import httpx

from gatte_pipelines.crm.budget import TokenLedger, is_budget_gone
from gatte_pipelines.crm.endpoints import Endpoint
from gatte_pipelines.http import TOO_MANY_REQUESTS, retry_after_seconds

ENDPOINT_EXTENSION = "gatte_pipedrive_endpoint"
"""The httpx extension under which a request says which endpoint it calls."""

_UNAUTHORIZED = 401
# The window in which Pipedrive counts requests. To ask again sooner is to hammer, which its
# firewall answers with a block.
_WINDOW_SECONDS = 2.0
_LONGEST_WINDOW_SECONDS = 60.0
_SECONDS = re.compile(r"[0-9]{1,6}(?:\.[0-9]{1,6})?")


class Meter(httpx.BaseTransport):
    """Charges every attempt to the ledger and keeps within the window of requests.

    Args:
        inner: What really sends.
        ledger: Counts the tokens, and refuses where nothing is left.
        clock: Monotonic seconds.
        sleep: Waits for seconds.
    """

    def __init__(
        self,
        inner: httpx.BaseTransport,
        ledger: TokenLedger,
        *,
        clock: Callable[[], float],
        sleep: Callable[[float], None],
    ) -> None:
        self._inner = inner
        self._ledger = ledger
        self._clock = clock
        self._sleep = sleep
        self._opens_at: float | None = None

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send one attempt.

        Raises:
            DailyBudgetSpent: It is not sent.
        """
        endpoint: Endpoint = request.extensions[ENDPOINT_EXTENSION]
        self._ledger.charge(endpoint)
        self._wait_for_the_window()
        try:
            response = self._inner.handle_request(request)
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout):
            self._ledger.give_back(endpoint)
            raise
        self._ledger.observe(response.headers)
        if response.status_code in {TOO_MANY_REQUESTS, _UNAUTHORIZED}:
            self._ledger.give_back(endpoint)
        window = _seconds(response.headers, "x-ratelimit-reset")
        if window is None or window > _LONGEST_WINDOW_SECONDS:
            window = _WINDOW_SECONDS
        if response.status_code == TOO_MANY_REQUESTS:
            # In the words of RFC 9110, which the repeats understand: the longest that is asked for.
            asked = retry_after_seconds(response.headers, datetime.now(UTC)) or 0.0
            wait = max(asked, window, _WINDOW_SECONDS)
            response.headers["retry-after"] = f"{wait:.3f}"
        elif _seconds(response.headers, "x-ratelimit-remaining") == 0:
            self._opens_at = self._clock() + window
        return response

    def close(self) -> None:
        """Close what really sends."""
        self._inner.close()

    def _wait_for_the_window(self) -> None:
        if self._opens_at is None:
            return
        wait = self._opens_at - self._clock()
        self._opens_at = None
        if wait > 0:
            self._sleep(wait)


def is_throttled(response: httpx.Response) -> bool:
    """Too many in the window; with the day's budget gone, a repeat would be hammering."""
    is_refused = response.status_code == TOO_MANY_REQUESTS
    return is_refused and not is_budget_gone(response.headers)


def _seconds(headers: Mapping[str, str], name: str) -> float | None:
    text = headers.get(name, "").strip()
    return float(text) if _SECONDS.fullmatch(text) else None
