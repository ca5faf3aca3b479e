"""What is usual for a table, by hand-worked examples; the holidays are those of São Paulo."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from statistics import median

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from gatte_pipelines.business_time import BusinessCalendar
from gatte_pipelines.quality.volumes import (
    LEAST_DAYS,
    WEEKS,
    Judgement,
    judge_freshness,
    judge_volume,
)

CALENDAR = BusinessCalendar("SP")
DAY, WEEK = timedelta(days=1), timedelta(weeks=1)
# None of the eight Wednesdays before it is a holiday.
WEDNESDAY = date(2026, 11, 18)


def weeks_before(day: date, rows: Sequence[int]) -> dict[date, int]:
    """Rows of the same weekdays before a day, the nearest first."""
    return {day - WEEK * number: count for number, count in enumerate(rows, start=1)}


def volume(rows: int, before: Sequence[int], on: date = WEDNESDAY) -> Judgement:
    return judge_volume({on: rows} | weeks_before(on, before), on, CALENDAR)


# --- volume ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "low", "high"),
    [
        # Median 100, deviations 0 0 0 2 5 5 10 10: 6 × 1.4826 × 3.5 = 31.13.
        ([90, 95, 100, 100, 105, 110, 100, 98], 69, 131),
        # No spread at all: a tenth of the median,
        ([100] * 8, 90, 110),
        ([70] * 8, 63, 77),
        # or five rows where that is more.
        ([20] * 8, 15, 25),
        ([2] * 8, 0, 7),
        ([0] * 7 + [1], 0, 5),
        # A median between two counts: 7.5, and five rows about it.
        ([7, 8] * 4, 3, 12),
        # Three incidents of eight move neither the median nor the spread,
        ([0, 0, 0, 100, 100, 100, 100, 100], 90, 110),
        # and neither does a campaign.
        ([100, 100, 5000, 100, 100, 100, 100, 100], 90, 110),
        # Four days are enough.
        ([100] * 4, 90, 110),
    ],
)
def test_a_day_is_usual_within_its_bounds_and_not_beyond(
    before: list[int], low: int, high: int
) -> None:
    assert [volume(rows, before).holds for rows in (low, high)] == [True, True]
    assert volume(high + 1, before).holds is False
    if low:
        assert volume(low - 1, before).holds is False
        assert volume(0, before).holds is False
    assert f"o usual é de {low} a {high}" in volume(high, before).detail


def test_a_day_is_compared_with_the_same_days_of_the_week_only() -> None:
    counts = {WEDNESDAY - DAY * number: 1000 for number in range(60)}
    counts |= weeks_before(WEDNESDAY, [10] * WEEKS)
    assert judge_volume(counts | {WEDNESDAY: 10}, WEDNESDAY, CALENDAR).holds is True
    assert judge_volume(counts, WEDNESDAY, CALENDAR).holds is False


def test_neither_the_day_itself_nor_a_later_one_is_what_is_usual() -> None:
    later = {WEDNESDAY + DAY * number: 9999 for number in range(1, 30)}
    counts = weeks_before(WEDNESDAY, [100] * WEEKS) | later
    for rows in (9999, 0):
        assert judge_volume(counts | {WEDNESDAY: rows}, WEDNESDAY, CALENDAR).holds is False
    assert judge_volume(counts | {WEDNESDAY: 100}, WEDNESDAY, CALENDAR).holds is True


def test_what_lies_further_back_than_eight_weeks_is_forgotten() -> None:
    counts = weeks_before(WEDNESDAY, [10] * WEEKS + [5000] * 20)
    assert judge_volume(counts | {WEDNESDAY: 10}, WEDNESDAY, CALENDAR).holds is True


def test_a_day_without_rows_counts_as_none() -> None:
    assert judge_volume(weeks_before(WEDNESDAY, [100] * 8), WEDNESDAY, CALENDAR).holds is False
    # And in what it is compared with: rows came on four of eight Wednesdays.
    counts = weeks_before(WEDNESDAY, [100, 0, 100, 0, 100, 0, 0, 100])
    assert judge_volume(counts | {WEDNESDAY: 50}, WEDNESDAY, CALENDAR).holds is True


@pytest.mark.parametrize(
    "holiday", [date(2026, 11, 20), date(2026, 11, 2), date(2026, 2, 16), date(2026, 6, 4)]
)
def test_a_holiday_is_not_judged(holiday: date) -> None:
    judged = volume(0, [100] * 8, on=holiday)
    assert judged.holds is None
    assert "feriado" in judged.detail


def test_holidays_are_not_compared_with() -> None:
    # Mondays: 2 November and 12 October are holidays, and nobody wrote.
    monday = date(2026, 11, 23)
    before = [100, 100, 0, 100, 100, 0, 100, 100]
    holidays = {monday - WEEK * 3, monday - WEEK * 6}
    assert not any(CALENDAR.is_business_day(day) for day in holidays)
    assert "de 90 a 110" in volume(100, before, on=monday).detail
    assert volume(80, before, on=monday).holds is False


def test_a_holiday_on_a_weekend_is_a_day_of_the_weekend() -> None:
    sunday = date(2026, 11, 15)  # Proclamação da República
    assert volume(5, [5] * 8, on=sunday).holds is True
    assert volume(500, [5] * 8, on=sunday).holds is False


def test_a_weekend_without_rows_is_usual_where_it_always_is() -> None:
    saturday = date(2026, 11, 14)
    counts = {saturday - DAY * number: 100 for number in range(60)}
    counts = {day: rows for day, rows in counts.items() if day.weekday() < 5}
    assert judge_volume(counts, saturday, CALENDAR).holds is True


@pytest.mark.parametrize("days", range(LEAST_DAYS))
def test_with_fewer_than_four_days_to_compare_nothing_is_judged(days: int) -> None:
    for rows in (0, 100, 10_000):
        judged = volume(rows, [100] * days)
        assert judged.holds is None
        assert "para comparar" in judged.detail


def test_days_before_the_first_row_are_no_history() -> None:
    # A database that is three weeks old: the five Wednesdays before it are not days without rows.
    counts = dict.fromkeys(weeks_before(WEDNESDAY, [0] * 8), 0) | weeks_before(WEDNESDAY, [100] * 3)
    assert judge_volume(counts | {WEDNESDAY: 100}, WEDNESDAY, CALENDAR).holds is None


def test_an_empty_table_is_not_judged() -> None:
    assert judge_volume({}, WEDNESDAY, CALENDAR).holds is None
    assert judge_volume({WEDNESDAY: 0}, WEDNESDAY, CALENDAR).holds is None
    assert judge_freshness({}, WEDNESDAY, CALENDAR).holds is None


# --- freshness ------------------------------------------------------------------------------------

TUESDAY = date(2026, 11, 24)


def business_days(until: date, *, but: Mapping[date, object] | None = None) -> dict[date, int]:
    """A row on each business day of the eight weeks up to a day, but for some."""
    days = [until - DAY * number for number in range(WEEKS * 7 + 1)]
    return {day: 1 for day in days if CALENDAR.is_business_day(day) and day not in (but or {})}


@pytest.mark.parametrize(
    ("last", "holds"),
    [
        (date(2026, 11, 24), True),
        (date(2026, 11, 23), True),
        # The 20th is a holiday, 21 and 22 a weekend: two business days, the 23rd and the 24th.
        (date(2026, 11, 19), True),
        (date(2026, 11, 18), False),
        (date(2026, 11, 2), False),
    ],
)
def test_rows_that_come_daily_are_late_after_two_business_days(last: date, holds: bool) -> None:
    counts = {day: rows for day, rows in business_days(TUESDAY).items() if day <= last}
    assert judge_freshness(counts, TUESDAY, CALENDAR).holds is holds


def test_a_weekend_is_no_pause() -> None:
    friday, monday = date(2026, 11, 13), date(2026, 11, 16)
    counts = business_days(friday)
    for day in (friday + DAY, friday + DAY * 2, monday):
        judged = judge_freshness(counts, day, CALENDAR)
        assert judged.holds is True
        assert "até 2 dias úteis" in judged.detail


def test_carnival_is_no_pause() -> None:
    friday = date(2026, 2, 13)
    counts = business_days(friday)
    # Monday to Wednesday are holidays.
    for days in range(7):
        assert judge_freshness(counts, friday + DAY * days, CALENDAR).holds is True
    assert judge_freshness(counts, date(2026, 2, 23), CALENDAR).holds is False


def test_what_comes_seldom_may_stay_away_twice_as_long_as_it_did() -> None:
    # Every other Tuesday, the last on 10 November: ten business days, but for the holidays.
    days = [date(2026, 11, 10) - WEEK * 2 * number for number in range(4)]
    counts = dict.fromkeys(days, 3)
    assert "até 20 dias úteis" in judge_freshness(counts, TUESDAY, CALENDAR).detail
    assert judge_freshness(counts, TUESDAY, CALENDAR).holds is True


def test_a_past_outage_does_not_make_the_next_one_usual() -> None:
    outage = {date(2026, 10, 19) + DAY * number: None for number in range(5)}
    counts = business_days(TUESDAY, but=outage)
    late = {day: rows for day, rows in counts.items() if day <= date(2026, 11, 18)}
    assert judge_freshness(late, TUESDAY, CALENDAR).holds is False
    assert judge_freshness(counts, TUESDAY, CALENDAR).holds is True


@pytest.mark.parametrize("days", range(LEAST_DAYS))
def test_rows_on_fewer_than_four_days_are_not_judged(days: int) -> None:
    counts = {TUESDAY - WEEK * number: 1 for number in range(days)}
    judged = judge_freshness(counts, TUESDAY, CALENDAR)
    assert judged.holds is None
    assert "só houve linhas" in judged.detail


def test_rows_of_the_future_are_not_recent() -> None:
    counts = {day: 1 for day in business_days(TUESDAY) if day <= date(2026, 11, 2)}
    later = {TUESDAY + DAY * number: 1 for number in range(1, 5)}
    assert judge_freshness(counts | later, TUESDAY, CALENDAR).holds is False


# --- properties -----------------------------------------------------------------------------------


class NoHolidays:
    """Only weekends are free."""

    def is_business_day(self, day: date, /) -> bool:
        """Whether people work on a day."""
        return day.weekday() < 5


PLAIN = NoHolidays()
COUNTS = st.lists(st.integers(0, 3000), min_size=60, max_size=60)
TODAY = st.dates(date(2020, 1, 1), date(2030, 1, 1))


def by_day(counts: list[int], today: date) -> dict[date, int]:
    return {today - DAY * number: rows for number, rows in enumerate(counts)}


@given(COUNTS, TODAY)
def test_a_day_equal_to_the_median_always_holds(counts: list[int], today: date) -> None:
    on = today - DAY
    known = by_day(counts, today)
    assume(known[on - WEEK * WEEKS] > 0)  # so that all eight are history
    usual = median(known[on - WEEK * number] for number in range(1, WEEKS + 1))
    for rows in {int(usual), int(usual + 0.5)}:
        assert judge_volume(known | {on: rows}, on, PLAIN).holds is True


@given(COUNTS, TODAY, st.integers(-200, 200))
def test_shifting_all_by_whole_weeks_changes_nothing(
    counts: list[int], today: date, weeks: int
) -> None:
    later = today + WEEK * weeks
    here, there = by_day(counts, today), by_day(counts, later)
    assert (
        judge_volume(here, today - DAY, PLAIN).holds
        is judge_volume(there, later - DAY, PLAIN).holds
    )
    assert judge_freshness(here, today, PLAIN).holds is judge_freshness(there, later, PLAIN).holds


@given(COUNTS, TODAY, st.integers(0, 10**6))
def test_what_came_so_far_today_changes_nothing_of_yesterday(
    counts: list[int], today: date, rows: int
) -> None:
    known = by_day(counts, today)
    assert judge_volume(known, today - DAY, CALENDAR) == judge_volume(
        known | {today: rows}, today - DAY, CALENDAR
    )


@given(COUNTS, TODAY)
def test_a_row_of_today_is_always_fresh(counts: list[int], today: date) -> None:
    known = by_day([1, *counts], today)
    assert judge_freshness(known, today, CALENDAR).holds is not False


@given(COUNTS, TODAY, st.integers(0, 6000))
def test_no_count_is_told_to_be_usual_and_held_to_be_unusual(
    counts: list[int], today: date, rows: int
) -> None:
    on = today - DAY
    judged = judge_volume(by_day(counts, today) | {on: rows}, on, PLAIN)
    assume(judged.holds is not None)
    low, _, high = judged.detail.rpartition("de ")[2].replace(".", "").partition(" a ")
    assert judged.holds is (int(low) <= rows <= int(high))
