"""How much the stand-in for Pipedrive lets through: tokens a day, requests in two seconds.

Costs are `x-token-cost` of the official specs; headers and the block by Cloudflare come from
field reports.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from datetime import date, datetime
from enum import Enum
from math import ceil
from typing import Final

WINDOW_SECONDS: Final = 2.0
SEARCHES_PER_WINDOW: Final = 10
_SHOWN_WITHOUT_LIMIT: Final = 120
# So many requests after a 429, each refused too, and Cloudflare answers instead of Pipedrive.
_HAMMERING: Final = 10


class Verdict(Enum):
    """What the limits say of a request."""

    GO = "go"
    BURST = "burst"
    DAY_IS_SPENT = "day is spent"
    BLOCKED = "blocked"


class Limits:
    """Counts what is spent.

    Attributes:
        daily_budget: Tokens of a day, which begins at midnight UTC.
        burst: Requests in two seconds; None for as many as come, searches too.
        has_daily_headers: Whether answers name the day's tokens; the real one leaves them out at
            times.

    Args:
        now: The clock of the day.
        monotonic: The clock of the window.
    """

    def __init__(
        self,
        now: Callable[[], datetime],
        *,
        daily_budget: int = 30_000,
        burst: int | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.daily_budget = daily_budget
        self.burst = burst
        self.has_daily_headers = True
        self._now = now
        self._monotonic = monotonic
        self._day: date | None = None
        self._spent = 0
        self._window: deque[float] = deque()
        self._searches: deque[float] = deque()
        self._refused: deque[float] = deque()

    @property
    def spent(self) -> int:
        """Tokens spent today, by whomever."""
        today = self._now().date()
        if today != self._day:
            self._day, self._spent = today, 0
        return self._spent

    def spend(self, tokens: int) -> None:
        """Spend tokens, as another integration of the company does."""
        self._spent = self.spent + tokens

    def admit(self, cost: int, *, is_search: bool) -> Verdict:
        """Judge a request and count it; one that is refused costs nothing."""
        tick = self._monotonic()
        for window in (self._window, self._searches, self._refused):
            while window and tick - window[0] >= WINDOW_SECONDS:
                window.popleft()
        if len(self._refused) >= _HAMMERING:
            self._refused.append(tick)
            return Verdict.BLOCKED
        if self.spent >= self.daily_budget:
            return Verdict.DAY_IS_SPENT
        if self.burst is not None and (
            len(self._window) >= self.burst
            or (is_search and len(self._searches) >= SEARCHES_PER_WINDOW)
        ):
            self._refused.append(tick)
            return Verdict.BURST
        self._window.append(tick)
        if is_search:
            self._searches.append(tick)
        self.spend(cost)
        return Verdict.GO

    def headers(self, *, is_write: bool) -> dict[str, str]:
        """The headers of an answer that tell what is left."""
        limit = self.burst if self.burst is not None else _SHOWN_WITHOUT_LIMIT
        oldest = self._window[0] if self._window else self._monotonic()
        told = {
            "x-ratelimit-limit": str(limit),
            "x-ratelimit-remaining": str(max(0, limit - len(self._window))),
            "x-ratelimit-reset": str(max(1, ceil(oldest + WINDOW_SECONDS - self._monotonic()))),
        }
        if self.has_daily_headers:
            told["x-daily-ratelimit-token-limit"] = str(self.daily_budget)
            told["x-daily-ratelimit-token-remaining"] = str(max(0, self.daily_budget - self.spent))
        if is_write:
            told["x-daily-requests-left"] = "10000"
        return told
