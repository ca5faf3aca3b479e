"""The ledger counts what calls cost, and stops at the share or at Pipedrive's word."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from gatte_pipelines.crm import endpoints as ep
from gatte_pipelines.crm.budget import (
    SMALLEST_DAILY_BUDGET,
    CallCost,
    DailyBudgetSpent,
    TokenLedger,
    is_budget_gone,
)
from gatte_pipelines.errors import PermanentError, RetryableError

LIMIT, REMAINING = "x-daily-ratelimit-token-limit", "x-daily-ratelimit-token-remaining"


class Clock:
    def __init__(self) -> None:
        self.now = datetime(2026, 3, 10, 11, 30, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_a_new_lead_costs_what_the_documentation_says(clock: Clock) -> None:
    ledger = TokenLedger(now=clock)
    for endpoint in (
        ep.SEARCH_PERSONS,
        ep.CREATE_PERSON,
        ep.LIST_LEADS,
        ep.CREATE_LEAD,
        ep.GET_LEAD,
    ):
        ledger.charge(endpoint)
    assert ledger.spent == 57


def test_the_calls_of_a_day_are_told_the_dearest_first(clock: Clock) -> None:
    ledger = TokenLedger(now=clock)
    for endpoint in (ep.GET_LEAD, ep.LIST_LEADS, ep.GET_LEAD):
        ledger.charge(endpoint)
    assert ledger.calls == [
        CallCost("GET /api/v1/leads", 1, 20),
        CallCost("GET /api/v1/leads/{id}", 2, 4),
    ]


def test_the_share_is_spent_to_the_last_token_and_not_beyond(clock: Clock) -> None:
    ledger = TokenLedger(budget=100, now=clock)
    for _ in range(3):
        ledger.charge(ep.LIST_LEADS)
    assert (ledger.spent, ledger.allowance) == (60, 60)
    with pytest.raises(DailyBudgetSpent) as refused:
        ledger.charge(ep.GET_PERSON)
    assert (refused.value.spent, refused.value.said_by_pipedrive) == (60, False)
    assert str(refused.value) == (
        "GET /api/v2/persons/{id} was not made: this sync's share of the day's tokens is used up"
        " (60 of 60 spent by it)"
    )
    assert ledger.spent == 60


def test_a_cheaper_call_still_fits(clock: Clock) -> None:
    ledger = TokenLedger(budget=100, spent=50, now=clock)
    with pytest.raises(DailyBudgetSpent):
        ledger.charge(ep.LIST_LEADS)
    ledger.charge(ep.GET_PERSON)
    assert ledger.spent == 51


def test_what_other_processes_spent_counts(clock: Clock) -> None:
    ledger = TokenLedger(spent=17_999, now=clock)
    assert ledger.allowance == SMALLEST_DAILY_BUDGET * 0.6
    ledger.charge(ep.GET_PERSON)
    with pytest.raises(DailyBudgetSpent):
        ledger.charge(ep.GET_PERSON)


def test_the_budget_is_the_one_that_pipedrive_names(clock: Clock) -> None:
    ledger = TokenLedger(spent=18_000, now=clock)
    ledger.observe({LIMIT: "150000", REMAINING: "100000"})
    assert (ledger.budget, ledger.allowance, ledger.remaining) == (150_000, 90_000, 100_000)
    ledger.charge(ep.LIST_LEADS)


def test_nothing_is_sent_that_costs_more_than_remains(clock: Clock) -> None:
    ledger = TokenLedger(now=clock)
    ledger.observe({REMAINING: "19"})
    with pytest.raises(DailyBudgetSpent) as refused:
        ledger.charge(ep.LIST_LEADS)
    assert refused.value.said_by_pipedrive
    assert "the company's tokens of the day are used up" in str(refused.value)
    ledger.charge(ep.CREATE_LEAD)


def test_a_refusal_by_pipedrive_holds_until_the_next_day(clock: Clock) -> None:
    ledger = TokenLedger(now=clock)
    ledger.refuse_until_tomorrow()
    clock.now += timedelta(hours=12)
    with pytest.raises(DailyBudgetSpent) as refused:
        ledger.charge(ep.GET_PERSON)
    assert refused.value.said_by_pipedrive
    clock.now += timedelta(hours=1)
    ledger.charge(ep.GET_PERSON)


def test_a_new_day_begins_with_nothing_spent(clock: Clock) -> None:
    ledger = TokenLedger(budget=100, spent=60, now=clock)
    ledger.observe({REMAINING: "0", LIMIT: "200"})
    clock.now = datetime(2026, 3, 10, 21, 0, tzinfo=timezone(timedelta(hours=-3)))
    assert (ledger.day.isoformat(), ledger.spent, ledger.remaining) == ("2026-03-11", 0, None)
    assert (ledger.calls, ledger.budget) == ([], 200)


def test_a_clock_that_goes_back_gives_no_second_budget(clock: Clock) -> None:
    ledger = TokenLedger(spent=10, now=clock)
    clock.now -= timedelta(days=1)
    assert (ledger.day.isoformat(), ledger.spent) == ("2026-03-10", 10)


def test_a_call_that_was_never_made_costs_nothing(clock: Clock) -> None:
    ledger = TokenLedger(now=clock)
    ledger.charge(ep.LIST_LEADS)
    ledger.give_back(ep.LIST_LEADS)
    assert (ledger.spent, ledger.calls) == (0, [CallCost("GET /api/v1/leads", 0, 0)])


def test_a_call_of_yesterday_is_not_given_back_today(clock: Clock) -> None:
    ledger = TokenLedger(now=clock)
    ledger.charge(ep.LIST_LEADS)
    clock.now += timedelta(days=1)
    ledger.give_back(ep.LIST_LEADS)
    assert ledger.spent == 0


@pytest.mark.parametrize("text", ["", " ", "many", "1.5", "²", "9" * 40, "1e3"])
def test_a_header_that_is_no_number_changes_nothing(clock: Clock, text: str) -> None:
    ledger = TokenLedger(now=clock)
    ledger.observe({LIMIT: text, REMAINING: text})
    assert (ledger.budget, ledger.remaining) == (SMALLEST_DAILY_BUDGET, None)
    assert not is_budget_gone({REMAINING: text})


def test_less_than_nothing_is_nothing(clock: Clock) -> None:
    ledger = TokenLedger(now=clock)
    ledger.observe({LIMIT: "0", REMAINING: "-20"})
    assert (ledger.budget, ledger.remaining) == (SMALLEST_DAILY_BUDGET, 0)
    assert is_budget_gone({REMAINING: "-20"})


def test_an_answer_without_figures_leaves_the_last_ones(clock: Clock) -> None:
    ledger = TokenLedger(now=clock)
    ledger.observe({REMAINING: "500"})
    ledger.observe({})
    assert ledger.remaining == 500


def test_no_rerun_of_a_run_is_asked_for() -> None:
    assert not issubclass(DailyBudgetSpent, RetryableError | PermanentError)


@pytest.mark.parametrize("wrong", [{"share": 0}, {"share": 1.1}, {"budget": 0}, {"spent": -1}])
def test_figures_that_mean_nothing_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="share"):
        TokenLedger(**wrong)  # type: ignore[arg-type]


def test_no_call_stands_twice_in_the_table() -> None:
    names = [endpoint.name for endpoint in ep.every_endpoint()]
    assert len(names) == len(set(names)) > 35
