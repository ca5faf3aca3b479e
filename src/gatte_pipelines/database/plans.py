"""Plans: what a run would change, stored for a person to approve (rule S11).

A plan names its rows by count and checksum, expires after seven days and is refused when they have
changed. One whose run was stopped is carried on under its id: what was done of it is noted in the
transaction that does it. What is in a plan belongs to its pipeline.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

from gatte_pipelines.errors import ConfigurationError

if TYPE_CHECKING:
    import psycopg

# Long enough for a weekend and an absent approver; after that the rows are others anyway.
PLAN_LIFETIME = timedelta(days=7)

_CHECKSUM_BITS = 2**63 - 1


@dataclass(frozen=True, kw_only=True)
class Plan:
    """One stored plan.

    ``contents`` says by part what would change, ``progress`` what was done of it already;
    ``parameters`` are those of the operation.
    """

    plan_id: UUID
    pipeline: str
    as_of: datetime
    parameters: dict[str, Any]
    contents: dict[str, Any]
    reason: str | None
    expires_at: datetime
    executed_at: datetime | None
    progress: dict[str, Any]

    def done(self, part: str) -> tuple[int, int]:
        """How many rows of a part were done by runs that did not end, and their checksum."""
        progress = self.progress.get(part, {})
        return progress.get("count", 0), progress.get("checksum", 0)


def sum_keys(ids: Iterable[UUID]) -> int:
    """The checksum of rows by their ids, as a plan has it: exclusive or, so parts can be undone."""
    checksum = 0
    for row_id in ids:
        checksum ^= row_id.int & _CHECKSUM_BITS
    return checksum


def store_plan(
    cursor: psycopg.Cursor[Any],
    *,
    pipeline: str,
    as_of: datetime,
    now: datetime,
    parameters: dict[str, Any],
    contents: dict[str, Any],
    reason: str | None = None,
) -> UUID:
    """Store a plan; its id. Counts, checksums and codes only: ops see it.

    Args:
        cursor: In a transaction of the caller.
        pipeline: The operation that would carry it out.
        as_of: The instant it is for.
        now: From when its seven days count.
        parameters: Of the operation.
        contents: By part: what would change.
        reason: A code, where the run asked for approval by itself.
    """
    plan_id = uuid4()
    cursor.execute(
        "insert into pipeline.plans (plan_id, pipeline, as_of, parameters, contents, reason, "
        "made_at, expires_at) values (%s, %s, %s, %s::jsonb, %s::jsonb, %s, %s, %s)",
        [
            plan_id,
            pipeline,
            as_of,
            json.dumps(parameters, sort_keys=True),
            json.dumps(contents, sort_keys=True),
            reason,
            now,
            now + PLAN_LIFETIME,
        ],
    )
    return plan_id


def read_plan(cursor: psycopg.Cursor[Any], plan_id: UUID, *, pipeline: str, now: datetime) -> Plan:
    """A plan that may still be carried out; locked until the caller's transaction ends.

    Raises:
        ConfigurationError: There is none, it is of another pipeline, was carried out or expired.
    """
    cursor.execute(
        "select plan_id, pipeline, as_of, parameters, contents, reason, expires_at, executed_at, "
        "progress from pipeline.plans where plan_id = %s for update",
        [plan_id],
    )
    row = cursor.fetchone()
    if row is None:
        raise ConfigurationError(f"there is no plan {plan_id}; make one with a dry run")
    names = [column.name for column in cursor.description or ()]
    plan = Plan(**dict(zip(names, row, strict=True)))
    if plan.pipeline != pipeline:
        raise ConfigurationError(f"plan {plan_id} is of {plan.pipeline}, not of {pipeline}")
    if plan.executed_at is not None:
        raise ConfigurationError(f"plan {plan_id} was carried out already; make a new one")
    if plan.expires_at <= now:
        raise ConfigurationError(f"plan {plan_id} expired; make a new one with a dry run")
    return plan


def note_progress(
    cursor: psycopg.Cursor[Any], plan_id: UUID, part: str, *, count: int, checksum: int
) -> None:
    """Add what a step does to what was done of the plan; in the step's own transaction.

    Args:
        cursor: In the transaction that changes the rows.
        plan_id: The plan.
        part: As in the plan's contents.
        count: Rows of this step.
        checksum: Exclusive or of their keys, made as that of the contents is.
    """
    cursor.execute("select progress from pipeline.plans where plan_id = %s for update", [plan_id])
    ((progress,),) = cursor.fetchall()
    before = progress.get(part, {"count": 0, "checksum": 0})
    progress[part] = {
        "count": before["count"] + count,
        "checksum": before["checksum"] ^ checksum,
    }
    cursor.execute(
        "update pipeline.plans set progress = %s::jsonb where plan_id = %s",
        [json.dumps(progress, sort_keys=True), plan_id],
    )


def mark_executed(cursor: psycopg.Cursor[Any], plan_id: UUID, at: datetime) -> None:
    """Note that a plan was carried out, so that nobody does it twice."""
    cursor.execute("update pipeline.plans set executed_at = %s where plan_id = %s", [at, plan_id])
