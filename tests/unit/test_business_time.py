"""Business days and hours, against a calendar on the wall."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatte_pipelines.business_time import ZONE, BusinessCalendar, business_date
from gatte_pipelines.errors import ConfigurationError

CALENDAR = BusinessCalendar("SP")
OPENS, CLOSES = time(8), time(18)
DAYS = st.dates(date(2020, 1, 1), date(2035, 12, 31))
INSTANTS = st.datetimes(datetime(2025, 1, 1), datetime(2026, 12, 31), timezones=st.just(UTC))  # noqa: DTZ001 - the strategy adds the zone


@pytest.mark.parametrize(
    ("day", "works"),
    [
        ("2026-03-10", True),  # a Tuesday
        ("2026-03-14", False),  # a Saturday
        ("2026-03-15", False),
        ("2026-01-01", False),
        ("2026-02-16", False),  # Carnival: optional by law, closed in practice
        ("2026-02-17", False),
        ("2026-04-03", False),  # Good Friday
        ("2026-06-04", False),  # Corpus Christi
        ("2026-07-09", False),  # of the state of São Paulo
        ("2026-10-28", True),  # of civil servants alone
        ("2026-11-20", False),
        ("2026-12-24", False),
        ("2026-12-25", False),
    ],
)
def test_a_day_is_a_business_day_or_not(day: str, works: bool) -> None:
    assert CALENDAR.is_business_day(date.fromisoformat(day)) is works


def test_another_state_has_other_holidays() -> None:
    assert BusinessCalendar("RJ").is_business_day(date(2026, 7, 9))


@pytest.mark.parametrize("state", ["XX", "sp", "", "São Paulo"])
def test_a_state_that_is_none_is_refused_by_the_name_of_its_setting(state: str) -> None:
    with pytest.raises(ConfigurationError, match="GATTE_HOLIDAY_STATE"):
        BusinessCalendar(state)


@given(DAYS)
def test_the_business_days_around_a_day_are_the_nearest(day: date) -> None:
    following, earlier = CALENDAR.next_business_day(day), CALENDAR.previous_business_day(day)
    assert CALENDAR.is_business_day(following)
    assert CALENDAR.is_business_day(earlier)
    between = [earlier + timedelta(days=n) for n in range(1, (following - earlier).days)]
    assert not any(CALENDAR.is_business_day(one) for one in between)
    assert earlier <= day <= following


@given(INSTANTS, st.integers(0, 12 * 24 * 60))
def test_business_hours_are_the_open_minutes_in_between(start: datetime, minutes: int) -> None:
    start = start.replace(second=0, microsecond=0)
    found = CALENDAR.business_hours_between(
        start, start + timedelta(minutes=minutes), OPENS, CLOSES
    )
    quarters = [start + timedelta(minutes=n) for n in range(minutes)]
    is_open = [
        CALENDAR.is_business_day(business_date(one))
        and OPENS <= one.astimezone(ZONE).time() < CLOSES
        for one in quarters
    ]
    assert found == timedelta(minutes=sum(is_open))


def test_an_end_before_its_start_is_no_time() -> None:
    at = datetime(2026, 3, 10, 15, tzinfo=UTC)
    assert CALENDAR.business_hours_between(at, at - timedelta(days=2), OPENS, CLOSES) == timedelta()
