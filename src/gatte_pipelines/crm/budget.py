"""What the calls to Pipedrive cost, and when the day's share of it is used up. Pure.

Pipedrive gives a company a number of tokens a day for all its integrations together. This one
stops at its share, so that the others and the people who work with them can go on. Keeping the
figures between two runs belongs to the caller.
Source: Pipedrive, "Rate limiting", as of 2026-09-17; the headers of the day from field reports.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime

from gatte_pipelines.crm.endpoints import Endpoint
from gatte_pipelines.errors import GatteError

SMALLEST_DAILY_BUDGET = 30_000
"""Tokens of one seat of the smallest plan: what is assumed until Pipedrive names the number."""
SHARE = 0.6
"""Of the day's budget. Higher, and the company's other integrations stand still in the evening."""

# Not in the documentation, but sent; they may be absent after some time without a call.
LIMIT_HEADER = "x-daily-ratelimit-token-limit"
REMAINING_HEADER = "x-daily-ratelimit-token-remaining"
# Documented, for writes with a token.
REQUESTS_LEFT_HEADER = "x-daily-requests-left"
_MAX_DIGITS = 12


class DailyBudgetSpent(GatteError):  # noqa: N818 - a run that ends with it is skipped, not failed
    """No further call is made today: the share is used up, or Pipedrive says that all is.

    Neither retryable nor permanent: the next day has a budget of its own.

    Attributes:
        spent: Tokens that this project spent today.
        allowance: Tokens that it may spend today.
        said_by_pipedrive: Pipedrive refused, or said that nothing remains.
    """

    def __init__(self, *, call: str, spent: int, allowance: int, said_by_pipedrive: bool) -> None:
        self.spent, self.allowance = spent, allowance
        self.said_by_pipedrive = said_by_pipedrive
        reason = (
            "the company's tokens of the day are used up"
            if said_by_pipedrive
            else "this sync's share of the day's tokens is used up"
        )
        super().__init__(f"{call} was not made: {reason} ({spent} of {allowance} spent by it)")


@dataclass(frozen=True)
class CallCost:
    """What one kind of call came to today.

    Attributes:
        call: Method and path.
        count: How often it was sent, repeats included.
        tokens: Their cost together.
    """

    call: str
    count: int
    tokens: int


class TokenLedger:
    """Counts the tokens of a day and refuses the call that would exceed the share.

    The day ends at midnight of Pipedrive's server, whose zone it does not name: UTC is assumed
    here, and where that is wrong the headers of the answers still stop at nothing left.

    Args:
        spent: Tokens that this project spent today before, in other processes.
        budget: Tokens of the company's day; a header that names them replaces it.
        share: Of that budget, for this project.
        now: The present instant.
    """

    def __init__(
        self,
        *,
        spent: int = 0,
        budget: int = SMALLEST_DAILY_BUDGET,
        share: float = SHARE,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        if not 0 < share <= 1 or budget <= 0 or spent < 0:
            raise ValueError("a share is above 0 and at most 1; tokens are not negative")
        self._now = now
        self._share = share
        self._budget = budget
        self._day = self._today()
        self._spent = spent
        self._remaining: int | None = None
        self._refused = False
        self._calls: dict[str, CallCost] = {}

    @property
    def day(self) -> date:
        """The day that is counted."""
        self._turn_the_day()
        return self._day

    @property
    def spent(self) -> int:
        """Tokens that this project spent today."""
        self._turn_the_day()
        return self._spent

    @property
    def budget(self) -> int:
        """Tokens of the company's day."""
        return self._budget

    @property
    def allowance(self) -> int:
        """Tokens that this project may spend in a day."""
        return int(self._budget * self._share)

    @property
    def remaining(self) -> int | None:
        """Tokens that the company has left today by Pipedrive's last word, or None."""
        self._turn_the_day()
        return self._remaining

    @property
    def calls(self) -> list[CallCost]:
        """What was called today through this ledger, the dearest first."""
        self._turn_the_day()
        return sorted(self._calls.values(), key=lambda line: (-line.tokens, line.call))

    def charge(self, endpoint: Endpoint) -> None:
        """Count a call that is about to be sent.

        Raises:
            DailyBudgetSpent: It must not be sent; nothing is counted.
        """
        self._turn_the_day()
        # With less left than a call costs, Pipedrive answers 429 and later blocks the sender.
        is_gone = self._remaining is not None and self._remaining < endpoint.cost
        if self._refused or is_gone:
            raise self.refusal(endpoint, said_by_pipedrive=True)
        if self._spent + endpoint.cost > self.allowance:
            raise self.refusal(endpoint, said_by_pipedrive=False)
        self._count(endpoint, 1)

    def give_back(self, endpoint: Endpoint) -> None:
        """Uncount a call that was charged and cost nothing: never sent, or refused unread."""
        self._turn_the_day()
        if endpoint.name in self._calls:  # else the day has turned since
            self._count(endpoint, -1)

    def observe(self, headers: Mapping[str, str]) -> None:
        """Learn the company's budget and what is left of it from an answer."""
        self._turn_the_day()
        limit, remaining = _number(headers, LIMIT_HEADER), _number(headers, REMAINING_HEADER)
        if limit:
            self._budget = limit
        if remaining is not None:
            self._remaining = remaining

    def refuse_until_tomorrow(self) -> None:
        """Send nothing more today: Pipedrive said that the budget is gone."""
        self._turn_the_day()
        self._refused = True

    def refusal(self, endpoint: Endpoint, *, said_by_pipedrive: bool) -> DailyBudgetSpent:
        """The error that stands for a call that is not made."""
        return DailyBudgetSpent(
            call=endpoint.name,
            spent=self._spent,
            allowance=self.allowance,
            said_by_pipedrive=said_by_pipedrive,
        )

    def _count(self, endpoint: Endpoint, times: int) -> None:
        before = self._calls.get(endpoint.name, CallCost(endpoint.name, 0, 0))
        tokens = endpoint.cost * times
        self._spent += tokens
        self._calls[endpoint.name] = CallCost(
            endpoint.name, before.count + times, before.tokens + tokens
        )

    def _turn_the_day(self) -> None:
        today = self._today()
        if today > self._day:
            self._day, self._spent, self._remaining = today, 0, None
            self._refused = False
            self._calls.clear()

    def _today(self) -> date:
        return self._now().astimezone(UTC).date()


def is_budget_gone(headers: Mapping[str, str]) -> bool:
    """Whether an answer of 429 means the day's budget and not the two seconds' window."""
    left = (_number(headers, REMAINING_HEADER), _number(headers, REQUESTS_LEFT_HEADER))
    return 0 in left


def _number(headers: Mapping[str, str], name: str) -> int | None:
    text = headers.get(name, "").strip()
    if not text.isascii() or not text.removeprefix("-").isdecimal() or len(text) > _MAX_DIGITS:
        return None
    return max(int(text), 0)
