"""The tokens of the day, kept between processes: ``budget.TokenLedger`` read and written.

What a call costs and when none is made belongs to ``budget``. Two processes at once each know what
the other had spent when they began; what they spend meanwhile is told by Pipedrive's headers only.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gatte_pipelines.crm.budget import SMALLEST_DAILY_BUDGET, TokenLedger
from gatte_pipelines.database.statements import read_statements

if TYPE_CHECKING:
    import psycopg

_SQL = read_statements(Path(__file__).with_name("tokens.sql"))

# A header may hold twelve digits; the columns are integers.
_MOST = 2**31 - 1


def load_ledger(
    cursor: psycopg.Cursor[Any], *, now: Callable[[], datetime] = lambda: datetime.now(UTC)
) -> TokenLedger:
    """The ledger of today with what this project spent before.

    The budget is the last one that Pipedrive named, on whatever day. What the company has left is
    not taken over: others spend too, and the first answer says it anew.

    Args:
        cursor: Rows as tuples.
        now: The present instant; the ledger asks it again, since a run may outlast its day.
    """
    row = cursor.execute(_SQL["read_day"], {"token_day": now().astimezone(UTC).date()}).fetchone()
    spent, budget = row or (0, None)
    return TokenLedger(spent=spent, budget=budget or SMALLEST_DAILY_BUDGET, now=now)


def store_ledger(cursor: psycopg.Cursor[Any], ledger: TokenLedger, *, at: datetime) -> None:
    """Write what was spent on the ledger's day; a smaller number never replaces a larger one."""
    remaining = ledger.remaining
    cursor.execute(
        _SQL["store_day"],
        {
            "token_day": ledger.day,
            "spent": min(ledger.spent, _MOST),
            "budget": min(ledger.budget, _MOST),
            "remaining": None if remaining is None else min(remaining, _MOST),
            "instant": at,
        },
    )
