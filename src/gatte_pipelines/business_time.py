"""Business dates, days and hours of GATTE, in São Paulo's calendar. No clock is read here."""

from __future__ import annotations

from datetime import date, datetime, time, timedelta
from importlib.metadata import version
from zoneinfo import ZoneInfo

from gatte_pipelines.errors import ConfigurationError

ZONE = ZoneInfo("America/Sao_Paulo")
"""The zone of every business date; SQL says the same in ``pipeline.business_date``."""

_SATURDAY = 5
_STATE_LETTERS = 2
_DAY = timedelta(days=1)
# Optional by law, and closed in practice: Carnival, Corpus Christi, the eves. Civil servants alone
# have this one.
_CIVIL_SERVANTS_DAY = (10, 28)


def business_date(instant: datetime) -> date:
    """The date in São Paulo at an instant.

    Args:
        instant: With a time zone.
    """
    return instant.astimezone(ZONE).date()


class BusinessCalendar:
    """Which days are business days: no weekend, no holiday of Brazil or of one state.

    Args:
        state: Two letters, such as ``SP``.

    Raises:
        ConfigurationError: There is no such state.
    """

    def __init__(self, state: str) -> None:
        import holidays  # noqa: PLC0415 - half a second, for those who need a calendar

        refusal = ConfigurationError(
            "GATTE_HOLIDAY_STATE must be a Brazilian state in two capital letters, such as SP"
        )
        if len(state) != _STATE_LETTERS:  # the library also knows names
            raise refusal
        try:
            self._holidays = holidays.country_holidays(
                "BR", subdiv=state, categories=("public", "optional")
            )
        except NotImplementedError:  # how the library refuses a state it does not know
            raise refusal from None
        self.identity = f"{state} {version('holidays')}"
        """Which calendar this is: another one may have other days."""

    def is_business_day(self, day: date) -> bool:
        """Whether people work on a day."""
        if day.weekday() >= _SATURDAY:
            return False
        return day not in self._holidays or (day.month, day.day) == _CIVIL_SERVANTS_DAY

    def next_business_day(self, day: date) -> date:
        """The first business day from a day on, that day itself included."""
        while not self.is_business_day(day):
            day += _DAY
        return day

    def previous_business_day(self, day: date) -> date:
        """The last business day up to a day, that day itself included."""
        while not self.is_business_day(day):
            day -= _DAY
        return day

    def business_hours_between(
        self, start: datetime, end: datetime, opens_at: time, closes_at: time
    ) -> timedelta:
        """How much business time lies between two instants.

        Args:
            start: With a time zone.
            end: With a time zone; before ``start`` gives none.
            opens_at: When a business day begins, in São Paulo.
            closes_at: When it ends, later on the same day.
        """
        total = timedelta()
        day, last = business_date(start), business_date(end)
        while day <= last:
            if self.is_business_day(day):
                opens = datetime.combine(day, opens_at, ZONE)
                closes = datetime.combine(day, closes_at, ZONE)
                total += max(min(end, closes) - max(start, opens), timedelta())
            day += _DAY
        return total
