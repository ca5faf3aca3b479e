"""One run of a pipeline at a time, and a row for each run however it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import Connection, text
from sqlalchemy.exc import IntegrityError

from gatte_pipelines.database.runs import run_recorded
from gatte_pipelines.database.single_flight import single_flight
from gatte_pipelines.errors import (
    ConfigurationError,
    GatteError,
    ImbalanceError,
    RetryableError,
)
from gatte_pipelines.run_report import Outcome, RunReport
from tests.postgres import TestDatabase

AS_OF = datetime(2026, 3, 2, 12, tzinfo=UTC)

# Takes a lock as a run does, says so, and waits to be killed.
_HOLDER = """
import sys, time
from gatte_pipelines.database.engine import connect, make_engine
from gatte_pipelines.database.single_flight import single_flight
engine, pipeline = make_engine(sys.argv[1]), sys.argv[2]
with connect(engine) as connection, single_flight(connection, pipeline) as taken:
    print(taken, flush=True)
    time.sleep(120)
"""


def _runs(database: TestDatabase) -> list[dict[str, Any]]:
    with database.connect("pipeline") as connection:
        rows = connection.execute(text("select * from pipeline.runs order by started_at"))
        return [dict(row) for row in rows.mappings()]


def _run(
    connection: Connection, body: Callable[[RunReport], None], lock: str | None = None
) -> RunReport:
    return run_recorded(connection, pipeline="inbound_messages", as_of=AS_OF, body=body, lock=lock)


def _fill(report: RunReport) -> None:
    report.received, report.inserted = 3, 2
    report.skipped["already_loaded"] = 1


def _nothing(_: RunReport) -> None:
    return


# --- single flight -------------------------------------------------------------------------------


def test_a_second_session_does_not_get_the_lock(database: TestDatabase) -> None:
    with database.connect() as one, database.connect() as other:
        with single_flight(one, "inbound") as first, single_flight(other, "inbound") as second:
            assert (first, second) == (True, False)
        with single_flight(other, "inbound") as afterwards:
            assert afterwards is True


def test_locks_of_different_pipelines_do_not_meet(database: TestDatabase) -> None:
    with (
        database.connect() as one,
        database.connect() as other,
        single_flight(one, "inbound") as first,
        single_flight(other, "expiry") as second,
    ):
        assert (first, second) == (True, True)


def test_who_did_not_get_the_lock_does_not_free_it(database: TestDatabase) -> None:
    with (
        database.connect() as one,
        database.connect() as other,
        database.connect() as third,
        single_flight(one, "inbound"),
    ):
        with single_flight(other, "inbound"):
            pass
        with single_flight(third, "inbound") as taken:
            assert taken is False


def test_the_lock_is_freed_when_the_body_fails(database: TestDatabase) -> None:
    def fail(connection: Connection) -> None:
        with single_flight(connection, "inbound"):
            connection.execute(text("select 1"))  # leaves a transaction open
            raise ZeroDivisionError

    with database.connect() as one, database.connect() as other:
        with pytest.raises(ZeroDivisionError):
            fail(one)
        with single_flight(other, "inbound") as taken:
            assert taken is True


def test_the_lock_is_held_across_transactions_and_none_is_open(database: TestDatabase) -> None:
    with database.connect() as one, database.connect() as other, single_flight(one, "inbound"):
        assert not one.in_transaction()
        with one.begin():
            one.execute(text("select 1"))
        with single_flight(other, "inbound") as taken:
            assert taken is False


def test_the_lock_of_a_killed_process_is_free_at_once(database: TestDatabase) -> None:
    url = database.url_pipeline.render_as_string(hide_password=False)
    holder = subprocess.Popen(
        [sys.executable, "-c", _HOLDER, url, "inbound"], stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline().strip() == "True"
        with database.connect() as connection:
            with single_flight(connection, "inbound") as taken:
                assert taken is False
            os.kill(holder.pid, signal.SIGKILL)
            holder.wait()
            # The server notices the closed socket by itself.
            deadline = time.monotonic() + 10
            free = False
            while not free and time.monotonic() < deadline:
                with single_flight(connection, "inbound") as free:
                    pass
        assert free
    finally:
        holder.kill()
        holder.wait()
        if holder.stdout is not None:
            holder.stdout.close()


def test_a_session_that_the_server_ended_gives_its_own_error(database: TestDatabase) -> None:
    def fail(connection: Connection) -> None:
        with single_flight(connection, "inbound"):
            _end_session(database, connection)
            raise ZeroDivisionError

    with database.connect() as connection, pytest.raises(ZeroDivisionError):
        fail(connection)


def _end_session(database: TestDatabase, connection: Connection) -> None:
    pid = connection.scalar(text("select pg_backend_pid()"))
    connection.commit()
    with database.connect("superuser") as other:
        other.execute(text("select pg_terminate_backend(:pid, 5000)"), {"pid": pid})


# --- recorded runs -------------------------------------------------------------------------------


def test_a_run_is_recorded_with_its_report(database: TestDatabase) -> None:
    with database.connect() as connection:
        report = _run(connection, _fill)
    (row,) = _runs(database)
    assert row["run_id"] == report.run_id
    assert (row["pipeline"], row["as_of"]) == ("inbound_messages", AS_OF)
    assert (row["outcome"], row["reason"], row["error"]) == ("completed", None, None)
    assert row["started_at"] <= row["finished_at"]
    assert row["report"]["received"] == 3
    assert row["report"]["skipped"] == {"already_loaded": 1}
    assert report.outcome is Outcome.COMPLETED


def test_the_period_of_a_run_is_recorded(database: TestDatabase) -> None:
    def body(report: RunReport) -> None:
        report.period_from, report.period_to = datetime(2026, 3, 1, tzinfo=UTC), AS_OF

    with database.connect() as connection:
        _run(connection, body)
    (row,) = _runs(database)
    assert row["period_from"] == datetime(2026, 3, 1, tzinfo=UTC)
    assert row["period_to"] == AS_OF


def test_a_run_is_visible_while_it_goes_on(database: TestDatabase) -> None:
    seen: list[dict[str, Any]] = []

    with database.connect() as connection:
        _run(connection, lambda _: seen.extend(_runs(database)))
    assert [(row["outcome"], row["finished_at"]) for row in seen] == [(None, None)]


def test_a_run_that_does_not_balance_fails(database: TestDatabase) -> None:
    def body(report: RunReport) -> None:
        report.received = 2
        report.inserted = 1

    with database.connect() as connection, pytest.raises(ImbalanceError):
        _run(connection, body)
    (row,) = _runs(database)
    assert (row["outcome"], row["reason"]) == ("failed", "ImbalanceError")
    assert "received 2, accounted for 1" in row["error"]
    assert row["report"]["received"] == 2


def test_a_failure_is_recorded_with_the_counts_so_far(database: TestDatabase) -> None:
    def body(report: RunReport) -> None:
        _fill(report)
        raise RetryableError("the store did not answer")

    with database.connect() as connection, pytest.raises(RetryableError):
        _run(connection, body)
    (row,) = _runs(database)
    assert (row["outcome"], row["reason"]) == ("failed", "RetryableError")
    assert row["error"] == "the store did not answer"
    assert row["report"]["inserted"] == 2
    assert row["finished_at"] is not None


def test_a_foreign_error_leaves_no_personal_value_in_the_record(database: TestDatabase) -> None:
    def body(_: RunReport) -> None:
        connection.execute(
            text("insert into users (id, phone) values (gen_random_uuid(), '+5511900001234')")
        )

    with database.connect() as connection, pytest.raises(GatteError) as caught:
        _run(connection, body)
    (row,) = _runs(database)
    assert row["outcome"] == "failed"
    for words in (str(caught.value), repr(caught.value), str(row)):
        assert "900001234" not in words
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


def test_the_writes_of_a_failed_statement_are_undone_before_the_failure_is_recorded(
    database: TestDatabase,
) -> None:
    def body(_: RunReport) -> None:
        connection.execute(text("insert into pipeline.settings (name, value) values ('a', 'b')"))
        raise ConfigurationError("no")

    with database.connect() as connection:
        with pytest.raises(ConfigurationError):
            _run(connection, body)
        assert connection.scalar(text("select count(*) from pipeline.settings")) == 0


def test_a_body_that_forgets_to_commit_fails(database: TestDatabase) -> None:
    def body(_: RunReport) -> None:
        connection.execute(text("insert into pipeline.settings (name, value) values ('a', 'b')"))

    with database.connect() as connection, pytest.raises(GatteError, match="inside a transaction"):
        _run(connection, body)
    assert [row["outcome"] for row in _runs(database)] == ["failed"]


def test_an_interrupted_run_is_recorded_and_stays_interrupted(database: TestDatabase) -> None:
    def body(_: RunReport) -> None:
        raise KeyboardInterrupt

    with database.connect() as connection, pytest.raises(KeyboardInterrupt):
        _run(connection, body)
    (row,) = _runs(database)
    assert (row["outcome"], row["error"]) == ("failed", "KeyboardInterrupt")


def test_a_run_that_loses_its_connection_may_be_tried_again(database: TestDatabase) -> None:
    def body(_: RunReport) -> None:
        _end_session(database, connection)
        connection.execute(text("select 1"))

    with database.connect() as connection, pytest.raises(RetryableError):
        _run(connection, body, lock="inbound")
    (row,) = _runs(database)
    assert (row["outcome"], row["reason"]) == ("failed", "RetryableError")
    with database.connect() as connection, single_flight(connection, "inbound") as taken:
        assert taken


def test_a_run_that_finds_the_lock_taken_is_recorded_as_skipped(database: TestDatabase) -> None:
    def fail(_: RunReport) -> None:
        pytest.fail("the body ran although the lock was taken")

    with database.connect() as one, database.connect() as other, single_flight(one, "inbound"):
        report = _run(other, fail, lock="inbound")
    assert (report.outcome, report.reason) == (Outcome.SKIPPED, "already_running")
    (row,) = _runs(database)
    assert (row["outcome"], row["reason"]) == ("skipped", "already_running")
    assert row["finished_at"] is not None


def test_runs_without_a_lock_go_side_by_side(database: TestDatabase) -> None:
    with database.connect() as one, database.connect() as other:
        _run(one, lambda _: _run(other, _nothing) and None)
    assert [row["outcome"] for row in _runs(database)] == ["completed", "completed"]


def test_the_lock_is_free_after_a_run_whatever_its_end(database: TestDatabase) -> None:
    def body(_: RunReport) -> None:
        raise ConfigurationError("no")

    with database.connect() as one, database.connect() as other:
        with pytest.raises(ConfigurationError):
            _run(one, body, lock="inbound")
        assert _run(other, _nothing, lock="inbound").outcome is Outcome.COMPLETED


def test_no_other_outcome_can_be_stored(database: TestDatabase) -> None:
    with database.connect() as connection:
        _run(connection, _nothing)
        with pytest.raises(IntegrityError):
            connection.execute(text("update pipeline.runs set outcome = 'fine'"))
