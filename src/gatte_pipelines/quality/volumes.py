"""How many rows come a day, and whether that is usual: a pure policy over counts by day.

A day is compared with the same days of the week before it, never with itself; a holiday is neither
judged nor compared with. Counting belongs to ``counts``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import pairwise
from math import ceil, floor
from statistics import median
from typing import Protocol

from gatte_pipelines.portuguese import count, day, number

WEEKS = 8
"""How many weeks back a day is compared."""

LEAST_DAYS = 4
"""Days to compare with below which nothing is judged."""

SPREADS = 6.0
"""How many times the usual spread a day may be away from the median.

The spread of eight days is itself a guess: at three one good day in fifteen would alarm, at six
one in a hundred."""

# That of a normal distribution is so many times the median absolute deviation.
_SPREAD_OF_MAD = 1.4826
LEAST_SHARE, LEAST_ROWS = 0.10, 5
"""A day may always be away by so much of the median, and by so many rows."""

LOST_SHARE = 0.75
"""Share of the median that may be missing at most, whatever the spread."""

LEAST_PAUSE = 2
"""Business days without a row that are no news anywhere."""

PAUSES_AN_INCIDENT = 20
"""Of so many pauses between days with rows the longest is left out: it may be an incident's."""

_DAY = timedelta(days=1)
_WEEKDAYS = (
    ("segunda-feira", "segundas-feiras"),
    ("terça-feira", "terças-feiras"),
    ("quarta-feira", "quartas-feiras"),
    ("quinta-feira", "quintas-feiras"),
    ("sexta-feira", "sextas-feiras"),
    ("sábado", "sábados"),
    ("domingo", "domingos"),
)


class Calendar(Protocol):
    """Which days people work on; ``business_time.BusinessCalendar``."""

    def is_business_day(self, day: date, /) -> bool:
        """Whether people work on a day."""


@dataclass(frozen=True)
class Judgement:
    """What was made of the counts of a table.

    Attributes:
        holds: Whether all is as usual; None where there is too little to tell.
        detail: In Portuguese, what was counted and what is usual.
    """

    holds: bool | None
    detail: str


def judge_volume(counts: Mapping[date, int], on: date, calendar: Calendar) -> Judgement:
    """Whether as many rows came on a day as usual.

    Args:
        counts: Rows by business date; a day without any may be missing.
        on: The day, which is over.
        calendar: Which days are holidays.
    """
    if _is_holiday(on, calendar):
        return Judgement(None, f"{day(on)} foi feriado")
    began = min((one for one, rows in counts.items() if rows), default=on)
    before = [on - timedelta(weeks=week) for week in range(1, WEEKS + 1)]
    usual = [
        counts.get(one, 0) for one in before if one >= began and not _is_holiday(one, calendar)
    ]
    if len(usual) < LEAST_DAYS:
        one, several = _WEEKDAYS[on.weekday()]
        return Judgement(None, f"só há {count(len(usual), one, several)} para comparar")
    middle = median(usual)
    deviation = median(abs(rows - middle) for rows in usual)
    away = max(SPREADS * _SPREAD_OF_MAD * deviation, LEAST_SHARE * middle, LEAST_ROWS)
    # However uneven the days are: with hardly any rows something is wrong.
    least = min(away, max(LOST_SHARE * middle, LEAST_ROWS))
    rows = counts.get(on, 0)
    low, high = max(0, ceil(middle - least)), floor(middle + away)
    return Judgement(
        low <= rows <= high,
        f"{count(rows, 'linha')} em {day(on)}; o usual é de {number(low)} a {number(high)}",
    )


def judge_freshness(counts: Mapping[date, int], today: date, calendar: Calendar) -> Judgement:
    """Whether the last row is as recent as usual.

    Args:
        counts: Rows by business date, today's included.
        today: The business date.
        calendar: Which days people work on.
    """
    began = today - timedelta(weeks=WEEKS)
    days = sorted(one for one, rows in counts.items() if rows and began <= one <= today)
    if len(days) < LEAST_DAYS:
        told = count(len(days), "dia", "dias")
        return Judgement(None, f"só houve linhas em {told} das últimas {WEEKS} semanas")
    pauses = sorted(_business_days(one, other, calendar) for one, other in pairwise(days))
    # A past incident among many days is no measure of what is usual.
    usual = pauses[-1 - len(pauses) // PAUSES_AN_INCIDENT]
    longest = max(LEAST_PAUSE, 2 * usual)
    pause = _business_days(days[-1], today, calendar)
    word = ("dia útil", "dias úteis")
    return Judgement(
        pause <= longest,
        f"a última linha é de {day(days[-1])}, há {count(pause, *word)}; "
        f"até {count(longest, *word)} é usual",
    )


def _business_days(one: date, other: date, calendar: Calendar) -> int:
    """Business days after one day up to another."""
    return sum(
        calendar.is_business_day(one + _DAY * number) for number in range(1, (other - one).days + 1)
    )


def _is_holiday(one: date, calendar: Calendar) -> bool:
    return one.weekday() < 5 and not calendar.is_business_day(one)
