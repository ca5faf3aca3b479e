"""Which steps an evaluation writes and ends: renewals, merges, writers beside it, hostile dates."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import date, timedelta
from typing import Any

import pytest
from sqlalchemy import Connection, text

from gatte_pipelines.certificates import state
from gatte_pipelines.certificates.evaluation import (
    LAPSED_LISTED,
    Evaluated,
    evaluate,
    forget_changes,
)
from gatte_pipelines.certificates.ledger import open_transaction
from gatte_pipelines.certificates.policy import AlertPolicy
from gatte_pipelines.database.engine import psycopg_connection
from gatte_pipelines.errors import ConfigurationError
from tests.certificates import CALENDAR, POLICY, AlertWorld, at
from tests.postgres import TestDatabase

# A Tuesday without a holiday near it.
TODAY = date(2026, 3, 10)


@pytest.fixture
def world(database: TestDatabase) -> AlertWorld:
    return AlertWorld(database)


def in_days(days: int) -> date:
    return TODAY + timedelta(days=days)


def evaluate_on(
    world: AlertWorld,
    day: date,
    *,
    hour: str = "08:30",
    policy: AlertPolicy = POLICY,
    everything: bool = False,
    meanwhile: Callable[[], None] | None = None,
    rolls_back: bool = False,
) -> Evaluated:
    """One evaluation as the operation does it; ``meanwhile`` happens before it commits."""
    as_of = at(day, hour)
    with world.database.connect() as connection:
        driver = psycopg_connection(connection)
        with open_transaction(driver, as_of, rehearses=rolls_back):
            evaluated = evaluate(
                connection, policy=policy, calendar=CALENDAR, as_of=as_of, everything=everything
            )
            if meanwhile is not None:
                meanwhile()
            forget_changes(connection)
    return evaluated


def refresh_on(world: AlertWorld, day: date) -> state.Refreshed:
    with world.database.connect() as connection:
        return state.refresh(connection, as_of=at(day))


def all_steps(world: AlertWorld) -> list[Any]:
    return world.rows(
        "select certificate_id, expires_at, audience, threshold, state, reason, recorded_at "
        "from pipeline.certificate_steps order by 1, 2, 3, 4"
    )


def tell(world: AlertWorld) -> None:
    """What sending leaves behind."""
    world.execute(
        "update pipeline.certificate_steps set state = 'told', settled_at = recorded_at "
        "where state = 'due'"
    )


def watermark(world: AlertWorld) -> str:
    ((value,),) = world.rows(
        "select value from pipeline.watermarks where pipeline = 'certificate_alerts'"
    )
    return str(value)


# --- What is written ------------------------------------------------------------------------------


def test_evaluating_twice_records_nothing_twice(world: AlertWorld) -> None:
    due = world.certificate(world.client(), in_days(7))
    first = evaluate_on(world, TODAY)
    before = all_steps(world)
    second = evaluate_on(world, TODAY, hour="13:00")
    assert (first.recorded, second.recorded, dict(second.settled)) == (3, 0, {})
    assert first.touched == {due}
    assert second.touched == frozenset()
    assert all_steps(world) == before


def test_superseded_steps_count_as_settled(world: AlertWorld) -> None:
    world.certificate(world.client(), in_days(7))
    assert evaluate_on(world, TODAY).settled == {"superseded": 3}


def test_what_the_caller_rolls_back_is_due_again(world: AlertWorld) -> None:
    due = world.certificate(world.client(), in_days(7))
    assert evaluate_on(world, TODAY, rolls_back=True).recorded == 3
    assert all_steps(world) == []
    assert world.rows("select 1 from pipeline.watermarks") == []
    assert evaluate_on(world, TODAY).recorded == 3
    assert world.steps(due)[7] == "due"


def test_a_step_that_ended_otherwise_is_not_opened_again(world: AlertWorld) -> None:
    ended = {}
    for name in ("told", "unreachable", "skipped"):
        ended[name] = world.certificate(world.client(), in_days(7))
    evaluate_on(world, TODAY)
    for name, one in ended.items():
        world.execute(
            "update pipeline.certificate_steps set state = :state, settled_at = recorded_at "
            "where certificate_id = :id and state = 'due'",
            state=name,
            id=one,
        )
        world.execute("update certificates set status = 'expired' where id = :id", id=one)
    assert evaluate_on(world, in_days(1)).recorded == 0
    assert {name: world.steps(one)[7] for name, one in ended.items()} == {n: n for n in ended}


# --- Renewals -------------------------------------------------------------------------------------


def test_a_successor_ends_the_open_steps_of_one_of_five_siblings(world: AlertWorld) -> None:
    ana = world.client()
    service = world.service(ana)
    old = [world.certificate(ana, in_days(7), service_id=service) for _ in range(5)]
    evaluate_on(world, TODAY)
    world.certificate(ana, in_days(372), service_id=service, issued_on=TODAY)
    settled = evaluate_on(world, TODAY, hour="13:00").settled
    assert settled == {"renewed": 3}
    assert sorted(world.steps(each)[7] for each in old) == ["due"] * 4 + ["renewed"]


def test_siblings_that_stay_due_say_that_they_may_be_renewed(world: AlertWorld) -> None:
    ana = world.client()
    service = world.service(ana)
    for _ in range(5):
        world.certificate(ana, in_days(7), service_id=service)
    evaluate_on(world, TODAY)
    world.certificate(ana, in_days(372), service_id=service, issued_on=TODAY)
    evaluate_on(world, TODAY, hour="13:00")
    reasons = [step.reason for step in all_steps(world) if step.state == "due"]
    assert reasons == ["maybe_renewed"] * 12


def test_revoking_the_successor_makes_the_old_one_due_again_at_the_same_step(
    world: AlertWorld,
) -> None:
    ana = world.client()
    service = world.service(ana)
    old = world.certificate(ana, in_days(7), service_id=service)
    evaluate_on(world, TODAY)
    new = world.certificate(ana, in_days(372), service_id=service, issued_on=TODAY)
    evaluate_on(world, TODAY, hour="09:00")
    assert world.steps(old)[7] == "renewed"
    world.execute("update certificates set status = 'revoked' where id = :id", id=new)
    again = evaluate_on(world, TODAY, hour="10:00")
    assert world.steps(old)[7] == "due"
    assert again.recorded == 3
    assert old in again.touched


def test_revoking_the_successor_opens_nothing_that_was_told(world: AlertWorld) -> None:
    ana = world.client()
    service = world.service(ana)
    old = world.certificate(ana, in_days(7), service_id=service)
    evaluate_on(world, TODAY)
    tell(world)
    new = world.certificate(ana, in_days(372), service_id=service, issued_on=TODAY)
    evaluate_on(world, TODAY, hour="09:00")
    world.execute("update certificates set status = 'revoked' where id = :id", id=new)
    assert evaluate_on(world, TODAY, hour="10:00").recorded == 0
    assert world.steps(old)[7] == "told"


def test_an_expiry_moved_there_and_back_is_due_again(world: AlertWorld) -> None:
    due = world.certificate(world.client(), in_days(7))
    evaluate_on(world, TODAY)
    move = "update certificates set expires_at = expires_at + :by * interval '1 day' where id = :id"
    world.execute(move, by=365, id=due)
    evaluate_on(world, TODAY, hour="09:00")
    assert world.steps(due)[7] == "renewed"
    world.execute(move, by=-365, id=due)
    evaluate_on(world, TODAY, hour="10:00")
    assert world.steps(due)[7] == "due"


def test_a_chain_of_successors_over_three_years_tells_of_the_last_alone(
    world: AlertWorld,
) -> None:
    ana = world.client()
    service = world.service(ana)
    chain = [
        world.certificate(
            ana,
            in_days(7 - 365 * years),
            service_id=service,
            issued_on=in_days(7 - 365 * (years + 1) - 10),
        )
        for years in (3, 2, 1, 0)
    ]
    evaluate_on(world, TODAY)
    assert [bool(world.steps(each, "staff")) for each in chain] == [False, False, False, True]
    assert {step.state for step in all_steps(world)} == {"due", "superseded"}


def test_a_merge_that_brings_a_successor_ends_the_old_ones_steps(world: AlertWorld) -> None:
    ana, anas_other_number = world.client(), world.client()
    service = world.service(ana)
    old = world.certificate(ana, in_days(7), service_id=service)
    evaluate_on(world, TODAY)
    new = world.certificate(anas_other_number, in_days(372), service_id=service, issued_on=TODAY)
    evaluate_on(world, TODAY, hour="09:00")
    assert world.steps(old)[7] == "due"
    world.execute("update certificates set user_id = :to where id = :id", to=ana, id=new)
    evaluate_on(world, TODAY, hour="10:00")
    assert world.steps(old)[7] == "renewed"


@pytest.mark.parametrize("status", ["revoked", "pending"])
def test_what_is_revoked_or_pending_has_no_open_step(world: AlertWorld, status: str) -> None:
    due = world.certificate(world.client(), in_days(7))
    evaluate_on(world, TODAY)
    world.execute(f"update certificates set status = '{status}' where id = :id", id=due)  # noqa: S608
    assert evaluate_on(world, TODAY, hour="09:00").settled == {"skipped": 3}
    assert world.steps(due)[7] == "skipped"


# --- Who writes meanwhile -------------------------------------------------------------------------


def test_what_is_written_while_it_evaluates_is_met_by_the_next(
    world: AlertWorld, chatbot: Connection
) -> None:
    ana = world.client()
    service = world.service(ana)
    old = world.certificate(ana, in_days(7), service_id=service)

    def renew() -> None:
        # A connection of its own commits beside the evaluation.
        world.certificate(ana, in_days(372), service_id=service, issued_on=TODAY)

    evaluate_on(world, TODAY, meanwhile=renew)
    assert world.steps(old)[7] == "due"
    assert len(world.rows("select 1 from pipeline.certificate_changes")) == 1
    evaluate_on(world, TODAY, hour="09:00")
    assert world.steps(old)[7] == "renewed"
    assert world.rows("select 1 from pipeline.certificate_changes") == []


def test_what_commits_after_it_is_met_by_the_next(world: AlertWorld, chatbot: Connection) -> None:
    due = world.certificate(world.client(), in_days(7))
    evaluate_on(world, TODAY)
    with chatbot.begin():
        chatbot.execute(
            text("update certificates set status = 'revoked' where id = :id"), {"id": due}
        )
        evaluate_on(world, TODAY, hour="09:00")
        assert world.steps(due)[7] == "due"
    evaluate_on(world, TODAY, hour="10:00")
    assert world.steps(due)[7] == "skipped"


# --- Dates and policies ---------------------------------------------------------------------------


def test_a_date_before_the_last_is_refused(world: AlertWorld) -> None:
    evaluate_on(world, TODAY)
    with pytest.raises(ConfigurationError, match="dry run"):
        evaluate_on(world, in_days(-1))


def with_thresholds(**by_audience: tuple[int, ...]) -> AlertPolicy:
    return replace(
        POLICY,
        thresholds={
            (type_, audience): by_audience.get(audience, days)
            for (type_, audience), days in POLICY.thresholds.items()
        },
    )


def test_a_date_before_the_last_is_refused_under_another_policy_too(world: AlertWorld) -> None:
    evaluate_on(world, TODAY)
    noted = watermark(world)
    with pytest.raises(ConfigurationError, match="dry run"):
        evaluate_on(world, in_days(-1), policy=with_thresholds(client=(20, 7)))
    assert watermark(world) == noted


@pytest.mark.parametrize(
    ("thresholds", "current"), [((45, 20), 20), ((45,), 45), ((10,), None), ((), None)]
)
def test_another_policy_leaves_one_open_step_at_most(
    world: AlertWorld, thresholds: tuple[int, ...], current: int | None
) -> None:
    due = world.certificate(world.client(), in_days(15))
    evaluate_on(world, TODAY)
    evaluate_on(world, TODAY, hour="09:00", policy=with_thresholds(client=thresholds))
    still = [threshold for threshold, each in world.steps(due).items() if each == "due"]
    assert still == ([] if current is None else [current])


def test_a_rehearsal_reads_and_writes_no_watermark(world: AlertWorld) -> None:
    world.certificate(world.client(), in_days(7))
    evaluate_on(world, TODAY)
    noted = watermark(world)
    evaluate_on(world, in_days(-3), everything=True, rolls_back=True)
    assert watermark(world) == noted


# --- What lapsed, what is hostile -----------------------------------------------------------------


def lapsed(world: AlertWorld, count: int, status: str) -> None:
    """Certificates whose last step is long over, of a client and service each."""
    world.execute(
        "with u as (insert into users (id, phone, is_client, created_at, updated_at) "
        "select gen_random_uuid(), '+55118' || lpad(n::text, 8, '0'), true, now(), now() "
        "from generate_series(1, :count) as n returning id), "
        "s as (insert into services (id, user_id, name, plan, status, contracted_at) "
        "select gen_random_uuid(), id, 'LC Web Profissional', 'profissional', 'active', now() "
        "from u returning id, user_id) "
        "insert into certificates (id, service_id, user_id, type, issued_at, expires_at, "
        "days_to_expire, status, alert_sent) "
        "select gen_random_uuid(), id, user_id, 'e-CPF', cast(:at as timestamptz) - interval "
        "'365 days', cast(:at as timestamptz), 0, cast(:status as certificate_status), false "
        "from s",
        count=count,
        at=at(in_days(-60)),
        status=status,
    )


@pytest.mark.parametrize("status", ["valid", "expired"])
def test_the_first_evaluation_lists_no_more_lapsed_ones_than_it_may(
    world: AlertWorld, status: str
) -> None:
    lapsed(world, LAPSED_LISTED + 20, status)
    refresh_on(world, TODAY)
    first = evaluate_on(world, TODAY)
    listed = len([step for step in all_steps(world) if step.state == "lapsed"])
    assert (listed, first.lapsed_before) == (LAPSED_LISTED, 20)
    evaluate_on(world, in_days(1))
    assert len([step for step in all_steps(world) if step.state == "lapsed"]) == LAPSED_LISTED


def test_what_lapsed_long_ago_is_not_listed_because_its_group_was_written(
    world: AlertWorld,
) -> None:
    ana = world.client()
    service = world.service(ana)
    old = world.certificate(ana, in_days(-400), service_id=service, status="expired")
    world.certificate(ana, in_days(200), service_id=service, issued_on=in_days(-165))
    evaluate_on(world, TODAY)
    world.certificate(ana, in_days(300), service_id=service, issued_on=in_days(-65))
    evaluate_on(world, in_days(1))
    assert world.steps(old, "staff") == {}


def test_what_lapses_after_days_without_a_run_is_listed_once(world: AlertWorld) -> None:
    crossing = world.certificate(world.client(), in_days(-29))
    evaluate_on(world, TODAY)
    tell(world)
    assert evaluate_on(world, in_days(10)).settled == {"lapsed": 1}
    assert evaluate_on(world, in_days(11)).settled == {}
    assert world.steps(crossing, "staff")[-31] == "lapsed"


@pytest.mark.parametrize(
    "expires_at", ["20000-01-01 12:00+00", "0044-03-15 12:00+00 BC"], ids=["far", "before-christ"]
)
def test_a_date_that_no_calendar_has_ends_no_run(world: AlertWorld, expires_at: str) -> None:
    ana = world.client()
    service = world.service(ana)
    odd = world.certificate(ana, in_days(7), service_id=service)
    due = world.certificate(ana, in_days(7), service_id=service)
    world.execute(
        "update certificates set expires_at = cast(:at as timestamptz) where id = :id",
        at=expires_at,
        id=odd,
    )
    refresh_on(world, TODAY)
    evaluate_on(world, TODAY)
    assert world.steps(due)[7] == "due"


def test_bad_dates_are_recorded_once_an_audience(world: AlertWorld) -> None:
    bad = world.certificate(world.client(), in_days(7), issued_on=in_days(30))
    evaluated = evaluate_on(world, TODAY)
    skipped = [step for step in all_steps(world) if step.state == "skipped"]
    assert evaluated.recorded == 0
    assert {(step.certificate_id, step.reason) for step in skipped} == {(bad, "bad_dates")}
    assert [(step.audience, step.threshold) for step in skipped] == [
        ("client", 7),
        ("owner", 7),
        ("staff", 7),
    ]


def test_two_hundred_certificates_of_one_client_are_all_due(world: AlertWorld) -> None:
    ana = world.client()
    service = world.service(ana)
    for number in range(200):
        world.certificate(ana, in_days(7 + number % 3), service_id=service)
    assert evaluate_on(world, TODAY).recorded == sum(
        3 if number % 3 == 0 else 1 for number in range(200)
    )
