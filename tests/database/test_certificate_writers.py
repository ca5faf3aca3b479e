"""Refresh and evaluation beside a chatbot that is in the middle of writing certificates."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from datetime import date, timedelta
from typing import Any
from uuid import UUID

import psycopg
import pytest
from sqlalchemy import Connection, text
from sqlalchemy.exc import OperationalError

from gatte_pipelines.certificates import ledger, state
from gatte_pipelines.certificates.evaluation import evaluate, forget_changes
from gatte_pipelines.certificates.ledger import open_transaction
from gatte_pipelines.database.engine import psycopg_connection
from tests.certificates import CALENDAR, POLICY, AlertWorld, at
from tests.postgres import TestDatabase

TODAY = date(2026, 3, 10)


@pytest.fixture
def world(database: TestDatabase) -> AlertWorld:
    return AlertWorld(database)


def in_days(days: int) -> date:
    return TODAY + timedelta(days=days)


def run_refresh(world: AlertWorld, day: date = TODAY) -> state.Refreshed:
    with world.database.connect() as connection:
        return state.refresh(connection, as_of=at(day, "02:00"))


def run_evaluation(world: AlertWorld, hour: str = "08:30") -> None:
    as_of = at(TODAY, hour)
    with (
        world.database.connect() as connection,
        open_transaction(psycopg_connection(connection), as_of),
    ):
        evaluate(connection, policy=POLICY, calendar=CALENDAR, as_of=as_of)
        forget_changes(connection)


def status_of(world: AlertWorld, certificate_id: UUID) -> str:
    return str(
        world.rows("select status from certificates where id = :id", id=certificate_id)[0][0]
    )


def revoke(connection: Connection, certificate_id: UUID) -> None:
    connection.execute(
        text("update certificates set status = 'revoked' where id = :id"), {"id": certificate_id}
    )


def test_a_group_that_the_chatbot_is_writing_ends_no_refresh(
    world: AlertWorld, chatbot: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(state, "LOCK_TIMEOUT", "50ms")
    ana = world.client()
    service = world.service(ana)
    over, sibling = (world.certificate(ana, in_days(n), service_id=service) for n in (-1, 40))
    world.execute("delete from pipeline.certificate_changes")
    with chatbot.begin():
        revoke(chatbot, sibling)
        # The sibling, whose row is held, and the one whose group is.
        assert run_refresh(world).locked == 2
    refreshed = run_refresh(world)
    assert (refreshed.locked, refreshed.expired, refreshed.was_done) == (0, 1, False)
    assert status_of(world, over) == "expired"


def test_a_group_that_the_chatbot_is_writing_ends_no_second_refresh_of_the_date(
    world: AlertWorld, chatbot: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(state, "LOCK_TIMEOUT", "50ms")
    ana = world.client()
    service = world.service(ana)
    run_refresh(world)
    over, sibling = (world.certificate(ana, in_days(n), service_id=service) for n in (-1, 40))
    with chatbot.begin():
        revoke(chatbot, sibling)
        assert run_refresh(world).was_done
    assert run_refresh(world).expired == 1
    assert status_of(world, over) == "expired"


def test_a_deadlock_with_the_chatbot_ends_no_refresh(
    world: AlertWorld, chatbot: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Longer than deadlock_timeout, so that the deadlock is found and not waited out.
    monkeypatch.setattr(state, "LOCK_TIMEOUT", "5s")
    first, second = (world.certificate(world.client(), in_days(n)) for n in (5, 6))
    done: list[Any] = []

    def refresh() -> None:
        try:
            done.append(run_refresh(world, in_days(1)))
        except psycopg.Error as error:
            done.append(error)

    run_refresh(world)
    write = text("update certificates set alert_sent = true where id = :id")
    # Whose wait the server looks at first is the one that it ends; either way the refresh goes on.
    with suppress(OperationalError), chatbot.begin():
        chatbot.execute(write, {"id": second})
        thread = threading.Thread(target=refresh)
        thread.start()
        wait_until_blocked(world)
        chatbot.execute(write, {"id": first})
    thread.join(timeout=60)
    assert isinstance(done[0], state.Refreshed), done[0]
    assert done[0].locked == 0
    assert [
        row.days_to_expire
        for row in world.rows("select days_to_expire from certificates order by expires_at")
    ] == [4, 5]


def wait_until_blocked(world: AlertWorld) -> None:
    for _ in range(200):
        if world.rows("select 1 from pg_locks where not granted and pid <> pg_backend_pid()"):
            return
        time.sleep(0.02)
    raise AssertionError("nobody waits for a lock")


def test_a_group_that_is_written_again_ends_no_evaluation(
    world: AlertWorld, chatbot: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger, "LOCK_TIMEOUT", "50ms")
    due = world.certificate(world.client(), in_days(7))
    with chatbot.begin():
        revoke(chatbot, due)
        run_evaluation(world)
        assert world.steps(due)[7] == "due"
    run_evaluation(world, "09:00")
    assert world.steps(due)[7] == "skipped"
    assert world.rows("select 1 from pipeline.certificate_changes") == []


@pytest.mark.parametrize("odd", ["20000-01-01 12:00+00", "0044-03-15 12:00+00 BC"])
def test_chunks_may_end_at_a_date_that_no_calendar_has(
    world: AlertWorld, monkeypatch: pytest.MonkeyPatch, odd: str
) -> None:
    monkeypatch.setattr(state, "ROWS_PER_CHUNK", 1)
    ana = world.client()
    service = world.service(ana)
    certificates = [world.certificate(ana, in_days(n), service_id=service) for n in (-50, 5, 6)]
    for number, one in enumerate(certificates[:2]):
        world.execute(
            "update certificates set expires_at = cast(:at as timestamptz) + :n * interval "
            "'1 day' where id = :id",
            at=odd,
            n=number,
            id=one,
        )
    run_refresh(world)
    run_refresh(world, in_days(1))
    ((days,),) = world.rows(
        "select days_to_expire from certificates where id = :id", id=certificates[2]
    )
    assert days == 5
