"""The breaker (rule S11): a sync that would change unusually much asks first, by a stored plan.

What a part of a plan does belongs to the domain; how plans are stored, to ``database.plans``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from gatte_pipelines.database.plans import Plan, note_progress, read_plan, store_plan, sum_keys
from gatte_pipelines.errors import ConfigurationError

if TYPE_CHECKING:
    import psycopg

# More than a fifth of what is linked, and more than a person would change by hand in a morning: a
# filter set wrong or a field emptied over there. Lower, and a usual Monday asks for approval.
MASS_ROWS, MASS_PCT = 25, 20


@dataclass(frozen=True)
class Part:
    """What a plan would do in one way.

    Attributes:
        name: Such as ``pull``, ``push`` or ``delete``.
        ids: Rows of ours that it is about, each once.
    """

    name: str
    ids: frozenset[UUID]

    @classmethod
    def of(cls, name: str, ids: Iterable[UUID]) -> Part:
        """A part of any ids."""
        return cls(name, frozenset(ids))

    @property
    def count(self) -> int:
        """How many rows."""
        return len(self.ids)

    @property
    def checksum(self) -> int:
        """Which rows, as a plan has it."""
        return sum_keys(self.ids)


@dataclass(frozen=True)
class Approved:
    """A plan that is being carried out.

    Attributes:
        plan_id: Which.
        parts: What of it is to be done by this run, by name.
    """

    plan_id: UUID
    parts: Mapping[str, Part]

    def note(self, cursor: psycopg.Cursor[Any], name: str, row_id: UUID) -> None:
        """Note that a row is done, where it is of the plan; in the transaction that does it.

        Then a run that is killed can be carried on under the plan's id.
        """
        part = self.parts.get(name)
        if part is not None and row_id in part.ids:
            note_done(cursor, self.plan_id, Part.of(name, [row_id]))


def is_mass_change(
    changed: int, population: int, *, rows: int = MASS_ROWS, pct: int = MASS_PCT
) -> bool:
    """Whether so many changes at once need a person's approval.

    Args:
        changed: Rows that would be changed.
        population: Rows that there are.
        rows: More than so many, and
        pct: more than so many percent of all.
    """
    return changed > rows and changed * 100 > population * pct


def ask(
    cursor: psycopg.Cursor[Any],
    *,
    pipeline: str,
    as_of: datetime,
    now: datetime,
    parameters: dict[str, Any],
    parts: Sequence[Part],
    reason: str | None,
) -> UUID:
    """Store a plan for a person to approve; its id.

    Args:
        cursor: In a transaction of the caller.
        pipeline: The operation that would carry it out.
        as_of: The instant it is for.
        now: From when its seven days count.
        parameters: Of the operation; nothing personal.
        parts: What would be done.
        reason: A code, where the run asks by itself; None for a dry run.
    """
    return store_plan(
        cursor,
        pipeline=pipeline,
        as_of=as_of,
        now=now,
        parameters=parameters,
        contents={part.name: {"count": part.count, "checksum": part.checksum} for part in parts},
        reason=reason,
    )


def assert_approved(
    cursor: psycopg.Cursor[Any],
    plan_id: UUID,
    *,
    pipeline: str,
    now: datetime,
    parts: Sequence[Part],
) -> Plan:
    """The plan, where what would be done now is exactly what was approved; it is locked.

    What earlier runs of the plan did (`note_done`) counts as being in it. End with
    ``database.plans.mark_executed``.

    Args:
        cursor: In a transaction of the caller.
        plan_id: Which.
        pipeline: The operation that carries it out.
        now: The instant by the clock.
        parts: What would be done now.

    Raises:
        ConfigurationError: There is none, it is of another pipeline, was carried out, expired, or
            what would be done differs from it.
    """
    plan = read_plan(cursor, plan_id, pipeline=pipeline, now=now)
    left = {part.name: part for part in parts}
    changed = sorted(
        name
        for name in plan.contents.keys() | left.keys()
        if not _is_what_is_left(plan, left.get(name, Part(name, frozenset())))
    )
    if changed:
        raise ConfigurationError(
            f"plan {plan_id} changed since ({', '.join(changed)}); nothing was done: make a new "
            "one with a dry run"
        )
    return plan


def note_done(cursor: psycopg.Cursor[Any], plan_id: UUID, part: Part) -> None:
    """Note what was done of a plan; in the transaction that does it.

    Args:
        cursor: In that transaction.
        plan_id: Which.
        part: Of the plan, with the ids done now; each id once a plan.
    """
    note_progress(cursor, plan_id, part.name, count=part.count, checksum=part.checksum)


def _is_what_is_left(plan: Plan, part: Part) -> bool:
    count, checksum = plan.done(part.name)
    asked = plan.contents.get(part.name, {})
    return (asked.get("count", 0), asked.get("checksum", 0)) == (
        part.count + count,
        part.checksum ^ checksum,
    )
