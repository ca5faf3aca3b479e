"""The record of runs: every run leaves a row with its report, also one that fails.

What a run does belongs to its pipeline; showing runs belongs to ``flows`` and ``cli``.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime
from uuid import uuid4

from psycopg.errors import InsufficientPrivilege
from sqlalchemy import Connection, text
from sqlalchemy.exc import ProgrammingError, SQLAlchemyError

from gatte_pipelines.database.single_flight import single_flight
from gatte_pipelines.errors import ConfigurationError
from gatte_pipelines.run_report import Outcome, RunReport
from gatte_pipelines.safe_errors import safe_error


def run_recorded(
    connection: Connection,
    *,
    pipeline: str,
    as_of: datetime,
    body: Callable[[RunReport], None],
    lock: str | None = None,
) -> RunReport:
    """Run ``body`` under single flight and record how it ended.

    Args:
        connection: Stays open and outside a transaction between the statements of ``body``.
        pipeline: Name of the pipeline in ``pipeline.runs``.
        as_of: The instant the run is for.
        body: Fills the report it is given; raises where the run as a whole failed.
        lock: Name of the single-flight lock; None where runs may go side by side.

    Returns:
        The balanced report. A run that found the lock taken is ``skipped``.

    Raises:
        ConfigurationError: This role may not record runs.
        GatteError: Whatever ``body`` raised, made safe, after the row was marked as failed.
    """
    report = RunReport(pipeline=pipeline, run_id=uuid4(), as_of=as_of)
    started = time.monotonic()
    if lock is None:
        return _run(connection, report, body, started)
    with single_flight(connection, lock) as taken:
        if not taken:
            report.outcome, report.reason = Outcome.SKIPPED, "already_running"
            _insert(connection, report, finished=True)
            return report
        return _run(connection, report, body, started)


def _run(
    connection: Connection,
    report: RunReport,
    body: Callable[[RunReport], None],
    started: float,
) -> RunReport:
    _insert(connection, report, finished=False)
    try:
        body(report)
        _assert_committed(connection, report)
        report.seconds = round(time.monotonic() - started, 3)
        report.balance(report.pipeline)
    except BaseException as error:
        report.seconds = round(time.monotonic() - started, 3)
        report.outcome = Outcome.FAILED
        if not isinstance(error, Exception):  # SystemExit, KeyboardInterrupt: record and let go
            _try_finish(connection, report, type(error).__name__)
            raise
        safe = safe_error(error)
        report.reason = type(safe).__name__
        _try_finish(connection, report, safe.message)
        raise safe from None
    _finish(connection, report, None)
    return report


def _assert_committed(connection: Connection, report: RunReport) -> None:
    if connection.in_transaction():  # its writes would be lost with the connection
        raise RuntimeError(f"{report.pipeline} ended inside a transaction")


def _insert(connection: Connection, report: RunReport, *, finished: bool) -> None:
    values = {
        "run_id": report.run_id,
        "pipeline": report.pipeline,
        "as_of": report.as_of,
        "finished": finished,
        "outcome": report.outcome.value,
        "reason": report.reason,
        "report": report.to_json().decode(),
    }
    try:
        with connection.begin():
            connection.execute(_INSERT, values)
    except ProgrammingError as error:
        if not isinstance(error.orig, InsufficientPrivilege):
            raise
        raise ConfigurationError(
            f"this user may not record runs; {report.pipeline} logs in as gatte_pipeline: "
            "check GATTE_DATABASE_URL"
        ) from None


def _finish(connection: Connection, report: RunReport, error: str | None) -> None:
    with connection.begin():
        connection.execute(
            _FINISH,
            {
                "run_id": report.run_id,
                "outcome": report.outcome.value,
                "reason": report.reason,
                "period_from": report.period_from,
                "period_to": report.period_to,
                "report": report.to_json().decode(),
                "error": error,
            },
        )


# Text, not the ORM's tables: every minute's run comes by here (see names.py).
_INSERT = text(
    """
    insert into pipeline.runs (
        run_id, pipeline, as_of, started_at, finished_at, outcome, reason, report
    )
    values (
        :run_id, :pipeline, :as_of, now(),
        case when :finished then now() end,
        case when :finished then cast(:outcome as text) end,
        cast(:reason as text),
        case when :finished then cast(:report as jsonb) end
    )
    """
)
_FINISH = text(
    """
    update pipeline.runs
    set
        finished_at = clock_timestamp(),
        outcome = :outcome,
        reason = :reason,
        period_from = :period_from,
        period_to = :period_to,
        report = cast(:report as jsonb),
        error = :error
    where run_id = :run_id
    """
)


def _try_finish(connection: Connection, report: RunReport, error: str) -> None:
    """Record a failure; where the database itself is gone the row stays open, which says so."""
    try:
        connection.rollback()
        _finish(connection, report, error)
    except SQLAlchemyError:
        connection.invalidate()
