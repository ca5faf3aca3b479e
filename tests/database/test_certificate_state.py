"""Days to expire and status of certificates, once a business date; and what evaluations meet."""

from __future__ import annotations

from datetime import date, timedelta

import pytest
from sqlalchemy import text

from gatte_pipelines.business_time import BusinessCalendar
from gatte_pipelines.certificates import state
from gatte_pipelines.certificates.state import Refreshed, refresh
from gatte_pipelines.messaging.channels import Outcome, SendResult
from tests.certificates import AlertWorld, at
from tests.postgres import TestDatabase

TODAY = date(2026, 3, 10)


@pytest.fixture
def world(database: TestDatabase) -> AlertWorld:
    made = AlertWorld(database)
    made.open_for_business()
    return made


def in_days(days: int) -> date:
    return TODAY + timedelta(days=days)


def run_refresh(world: AlertWorld, day: date = TODAY, hour: str = "02:00") -> Refreshed:
    with world.database.connect() as connection:
        return refresh(connection, as_of=at(day, hour))


def days_of(world: AlertWorld) -> list[tuple[int, str]]:
    return [
        (row.days_to_expire, row.status)
        for row in world.rows("select days_to_expire, status from certificates order by expires_at")
    ]


def spoil(world: AlertWorld) -> None:
    """What days that nobody refreshed leave behind."""
    world.execute("alter table certificates disable trigger set_days_to_expire_update")
    world.execute("update certificates set days_to_expire = 999")
    world.execute("alter table certificates enable trigger set_days_to_expire_update")


def test_days_and_status_follow_the_business_date(world: AlertWorld) -> None:
    ana = world.client()
    for days in (-400, -30, -1, 0, 1, 500):
        world.certificate(ana, in_days(days))
    world.certificate(ana, in_days(-2), status="revoked")
    world.certificate(ana, in_days(-3), status="pending")
    spoil(world)
    refreshed = run_refresh(world)
    assert days_of(world) == [
        (-30, "expired"),
        (-30, "expired"),
        (-3, "pending"),
        (-2, "revoked"),
        (-1, "expired"),
        (0, "valid"),
        (1, "valid"),
        (500, "valid"),
    ]
    assert (refreshed.days_changed, refreshed.expired) == (8, 3)
    assert run_refresh(world, hour="08:30") == Refreshed(was_done=True)
    assert run_refresh(world, in_days(1)).days_changed == 6
    # Missed days are made up for; an earlier date writes nothing.
    run_refresh(world, in_days(40))
    assert [days for days, _ in days_of(world)] == [-30] * 7 + [460]
    assert run_refresh(world, in_days(2)) == Refreshed(was_done=True)


def test_only_rows_that_change_are_written(world: AlertWorld) -> None:
    world.certificate(world.client(), in_days(-100), status="expired")
    run_refresh(world)
    before = world.rows("select xmin::text from certificates")
    run_refresh(world, in_days(1))
    assert world.rows("select xmin::text from certificates") == before


def test_midnight_in_sao_paulo_ends_the_last_day(world: AlertWorld) -> None:
    world.certificate(world.client(), TODAY, expires_at=at(TODAY, "23:59"))
    run_refresh(world, TODAY, "23:58")
    assert days_of(world) == [(0, "valid")]
    run_refresh(world, in_days(1), "00:01")
    assert days_of(world) == [(-1, "expired")]


def test_a_written_certificate_has_its_days_whatever_the_writer_says(world: AlertWorld) -> None:
    world.certificate(world.client(), date(2090, 1, 1), days_to_expire=3)
    world.execute("update certificates set days_to_expire = 5")
    ((days, _),) = days_of(world)
    assert days > 20_000


def test_an_expired_one_that_is_written_later_expires_at_once(world: AlertWorld) -> None:
    run_refresh(world)
    world.certificate(world.client(), in_days(-900))
    run_refresh(world, hour="08:30")
    assert [status for _, status in days_of(world)] == ["expired"]


def test_chunks_cover_every_row_also_those_of_one_instant(
    world: AlertWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(state, "ROWS_PER_CHUNK", 3)
    ana = world.client()
    service = world.service(ana)
    for number in range(17):
        world.certificate(ana, in_days(10 + number // 7), service_id=service)
    spoil(world)
    assert run_refresh(world).days_changed == 17
    assert sorted(days for days, _ in days_of(world)) == [10] * 7 + [11] * 7 + [12] * 3


def test_what_somebody_holds_is_told_and_met_by_the_next_run(
    world: AlertWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(state, "LOCK_TIMEOUT", "50ms")
    held, free = (world.certificate(world.client(), in_days(days)) for days in (5, 6))
    spoil(world)
    with world.database.connect("owner") as holder, holder.begin():
        holder.execute(text("select 1 from certificates where id = :id for update"), {"id": held})
        refreshed = run_refresh(world)
        assert (refreshed.locked, refreshed.days_changed) == (1, 1)
    assert world.rows("select days_to_expire from certificates where id = :id", id=free)[0] == (6,)
    assert run_refresh(world).days_changed == 1
    assert run_refresh(world).was_done


def test_a_run_that_dies_between_chunks_is_finished_by_the_next(
    world: AlertWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(state, "ROWS_PER_CHUNK", 2)
    for days in range(6):
        world.certificate(world.client(), in_days(days))
    spoil(world)
    opened = 0
    transaction = state._transaction

    def dies(*arguments: object) -> object:
        nonlocal opened
        opened += 1
        if opened == 5:
            raise SystemExit
        return transaction(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(state, "_transaction", dies)
    with pytest.raises(SystemExit):
        run_refresh(world)
    monkeypatch.setattr(state, "_transaction", transaction)
    assert 0 < sum(days == 999 for days, _ in days_of(world)) < 6
    run_refresh(world)
    assert [days for days, _ in days_of(world)] == list(range(6))


def test_what_the_chatbot_writes_during_an_evaluation_is_met_by_the_next(
    world: AlertWorld,
) -> None:
    ana = world.client()
    service = world.service(ana)
    world.certificate(ana, in_days(15), service_id=service)
    world.run(TODAY)
    first = len(world.calls)
    with world.database.connect("owner") as chatbot, chatbot.begin():
        chatbot.execute(
            text(
                "insert into certificates (id, service_id, user_id, type, issued_at, expires_at, "
                "days_to_expire, status, alert_sent) values (gen_random_uuid(), :service, :ana, "
                "'e-CPF', cast(:at as timestamptz) - interval '1 year', :at, 0, 'valid', false)"
            ),
            {"service": service, "ana": ana, "at": at(in_days(8), "12:00")},
        )
        world.run(TODAY, "09:00")  # does not see it, and must not forget it
    assert len(world.calls) == first
    world.run(TODAY, "10:00")
    assert len(world.calls) == first + 1
    assert world.rows("select 1 from pipeline.certificate_changes") == []


def test_a_successor_that_is_revoked_later_makes_the_old_one_due_again(world: AlertWorld) -> None:
    ana = world.client()
    service = world.service(ana)
    old = world.certificate(ana, in_days(7), service_id=service)
    new = world.certificate(ana, in_days(372), service_id=service, issued_on=TODAY)
    world.run(TODAY)
    assert world.told(old) == []
    world.execute("update certificates set status = 'revoked' where id = :id", id=new)
    world.run(TODAY, "13:00")
    assert world.told(old) == ["whatsapp"]


def test_who_became_part_of_another_client_is_told_there(world: AlertWorld) -> None:
    ana, other = world.client(), world.client()
    due = world.certificate(other, in_days(7))
    world.execute("update services set user_id = :ana", ana=ana)
    world.execute("update certificates set user_id = :ana", ana=ana)
    world.execute("delete from users where id = :other", other=other)
    world.run(TODAY)
    (call,) = world.calls
    assert (call.user_id, call.certificates) == (ana, {due})


def test_another_policy_looks_at_every_certificate_again(world: AlertWorld) -> None:
    far = world.certificate(world.client(), in_days(88))
    world.run(TODAY)
    assert world.told(far) == []
    thresholds = {
        key: (90, *days) if key[1] == "client" else days
        for key, days in world.policy.thresholds.items()
    }
    world.policy = type(world.policy)(
        **{
            **{name: getattr(world.policy, name) for name in world.policy.__dataclass_fields__},
            "thresholds": thresholds,
        }
    )
    world.run(TODAY, "09:00")
    assert world.told(far) == ["whatsapp"]


def test_a_certificate_that_was_deleted_is_told_nobody(world: AlertWorld) -> None:
    world.whatsapp.answer = lambda _call: SendResult(outcome=Outcome.DEFERRED)
    due = world.certificate(world.client(), in_days(7))
    world.run(TODAY)
    world.execute("delete from certificates where id = :id", id=due)
    world.run(TODAY, "13:00")
    assert len(world.calls) == 1
    assert world.steps(due)[7] == "skipped"


def test_another_calendar_loses_no_step(world: AlertWorld) -> None:
    # Step 30 falls on 9 July: a holiday in São Paulo, a business day in Rio.
    due = world.certificate(world.client(), "2026-08-08")
    world.run("2026-07-09")
    assert world.told(due) == []
    world.calendar = BusinessCalendar("RJ")
    world.run("2026-07-10")
    assert world.told(due) == ["whatsapp"]
    assert world.steps(due)[30] == "told"
