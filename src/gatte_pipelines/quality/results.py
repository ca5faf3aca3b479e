"""What became of each check in a run, since when, and how that is remembered."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

from psycopg.rows import dict_row

from gatte_pipelines.database.statements import read_statements
from gatte_pipelines.quality.suite import Check, Severity
from gatte_pipelines.quality.waivers import Waiver

if TYPE_CHECKING:
    import psycopg

_SQL = read_statements(Path(__file__).with_name("quality.sql"))


class State(StrEnum):
    """What became of a check. What could not be judged for want of history is no failure."""

    PASSED = "passed"
    FAILED = "failed"
    WAIVED = "waived"
    NOT_JUDGED = "not_judged"
    NOT_RUN = "not_run"


@dataclass(frozen=True, kw_only=True)
class Found:
    """What a run found of a check, before anything is excused.

    Attributes:
        check: Which.
        holds: Whether it holds; None where it could not be judged.
        has_run: Whether it could be carried out at all.
        is_full: Whether all rows were looked at.
        rows: How many rows fail; None for the whole table.
        excused: How many of them a waiver names.
        keys: The first of them: also those, so that they are met again once it is over.
        detail: In Portuguese, what was found where no rows are meant, or why it did not run.
    """

    check: Check
    holds: bool | None = None
    has_run: bool = True
    is_full: bool = True
    rows: int | None = None
    excused: int = 0
    keys: tuple[UUID, ...] = ()
    detail: str | None = None


@dataclass(frozen=True, kw_only=True)
class Result:
    """What became of a check in a run.

    Attributes:
        found: What the run found.
        state: What that means.
        waiver: The waiver of this check, also one that is over.
        first_bad_run_id: The run that found the failure first; None where there is none.
        first_bad_at: When that was.
        last_good_run_id: The last run before that which found none; None where there is none.
        last_good_at: When that was.
        suspects: Runs that wrote to the table between the two, as words.
    """

    found: Found
    state: State
    waiver: Waiver | None = None
    first_bad_run_id: UUID | None = None
    first_bad_at: datetime | None = None
    last_good_run_id: UUID | None = None
    last_good_at: datetime | None = None
    suspects: tuple[str, ...] = ()

    @property
    def check(self) -> Check:
        """Of which check."""
        return self.found.check

    @property
    def is_bad(self) -> bool:
        """Whether it counts against the table."""
        return self.state in {State.FAILED, State.NOT_RUN}

    @property
    def closes_the_gate(self) -> bool:
        """Whether what depends on the table must wait."""
        return self.is_bad and self.check.severity is Severity.CRITICAL

    def reason(self) -> str:
        """By what word the report counts it, where it did not pass."""
        if self.state is State.FAILED:
            return f"failed_{self.check.severity}"
        return str(self.state)


@dataclass(frozen=True, kw_only=True)
class Last:
    """The last result of a check that was judged, or was to be.

    Attributes:
        was_found: Whether the run that it blames first found a failure, and did not only fail to
            carry the check out.
    """

    state: State
    rows: int | None
    keys: tuple[UUID, ...]
    run_id: UUID
    checked_at: datetime
    first_bad_run_id: UUID | None
    first_bad_at: datetime | None
    last_good_run_id: UUID | None
    last_good_at: datetime | None
    was_found: bool = True

    @property
    def was_bad(self) -> bool:
        """Whether it failed, excused or not."""
        return self.first_bad_at is not None

    @property
    def knows_all_rows(self) -> bool:
        """Whether its keys are all that failed."""
        return self.state is not State.NOT_RUN and (self.rows or 0) <= len(self.keys)


def conclude(
    found: Found,
    *,
    waiver: Waiver | None,
    last: Last | None,
    run_id: UUID,
    checked_at: datetime,
    today: date,
) -> Result:
    """What a finding means.

    Args:
        found: What the run found.
        waiver: Of this check; one that names rows excuses it where no other row fails.
        last: The last result of the check.
        run_id: Of this run.
        checked_at: When it looks.
        today: The business date, for the waiver.
    """
    state = _state(found, waiver, today)
    if state in {State.PASSED, State.NOT_JUDGED}:
        return Result(found=found, state=state, waiver=waiver)
    since = Result(
        found=found,
        state=state,
        waiver=waiver,
        first_bad_run_id=run_id,
        first_bad_at=checked_at,
    )
    if last is None:
        return since
    if last.was_bad and not last.was_found and state is not State.NOT_RUN:
        # When the check did not run, nobody knew of a failure: it may have come after that.
        return replace(
            since, last_good_run_id=last.last_good_run_id, last_good_at=last.last_good_at
        )
    if last.was_bad:
        return replace(
            since,
            first_bad_run_id=last.first_bad_run_id,
            first_bad_at=last.first_bad_at,
            last_good_run_id=last.last_good_run_id,
            last_good_at=last.last_good_at,
        )
    return replace(since, last_good_run_id=last.run_id, last_good_at=last.checked_at)


def _state(found: Found, waiver: Waiver | None, today: date) -> State:
    if not found.has_run:
        return State.NOT_RUN
    if found.holds is None:
        return State.NOT_JUDGED
    if found.holds:
        return State.PASSED
    if waiver is None or not waiver.holds_on(today):
        return State.FAILED
    is_excused = not waiver.keys or found.excused == found.rows
    return State.WAIVED if is_excused else State.FAILED


def read_last(
    connection: psycopg.Connection, checks: Iterable[str], *, before: datetime
) -> dict[str, Last]:
    """The last results of checks, by name.

    Args:
        connection: To the database.
        checks: Their names.
        before: Those of a later instant, as a run for another day leaves them, are passed over.
    """
    with connection.cursor(row_factory=dict_row) as cursor:
        cursor.execute(_SQL["read_last"], {"checks": list(checks), "instant": before})
        return {
            row["check_name"]: Last(
                state=State(row["state"]),
                rows=row["failed_rows"],
                keys=tuple(row["failed_keys"]),
                run_id=row["run_id"],
                checked_at=row["checked_at"],
                first_bad_run_id=row["first_bad_run_id"],
                first_bad_at=row["first_bad_at"],
                last_good_run_id=row["last_good_run_id"],
                last_good_at=row["last_good_at"],
                was_found=row["was_found"],
            )
            for row in cursor.fetchall()
        }


def store(
    cursor: psycopg.Cursor[Any], results: Sequence[Result], *, run_id: UUID, checked_at: datetime
) -> None:
    """Remember what became of the checks of a run.

    Args:
        cursor: In a transaction.
        results: One a check.
        run_id: Of the run.
        checked_at: When it looked.
    """
    cursor.executemany(
        _SQL["store_results"],
        [
            {
                "run_id": run_id,
                "checked_at": checked_at,
                "check_name": one.check.name,
                "table_name": one.check.table,
                "severity": one.check.severity.value,
                "state": one.state.value,
                "is_full": one.found.is_full,
                "failed_rows": one.found.rows,
                "failed_keys": [str(key) for key in one.found.keys],
                "detail": one.found.detail,
                "first_bad_run_id": one.first_bad_run_id,
                "first_bad_at": one.first_bad_at,
                "last_good_run_id": one.last_good_run_id,
                "last_good_at": one.last_good_at,
            }
            for one in results
        ],
    )


def find_suspects(
    connection: psycopg.Connection, result: Result, writers: Sequence[str]
) -> tuple[str, ...]:
    """Runs that may have caused a failure, as ``pipeline run-id``.

    Args:
        connection: To the database.
        result: That failed.
        writers: The pipelines that write to its table.
    """
    with connection.cursor(row_factory=dict_row) as cursor:
        cursor.execute(
            _SQL["find_suspects"],
            {
                "writers": list(writers),
                "good_run_id": result.last_good_run_id,
                "bad_run_id": result.first_bad_run_id,
            },
        )
        return tuple(f"{row['pipeline']} {row['run_id']}" for row in cursor.fetchall())


def count_states(results: Iterable[Result]) -> Mapping[str, int]:
    """How many checks ended how, by the words of the report."""
    return Counter("passed" if one.state is State.PASSED else one.reason() for one in results)
