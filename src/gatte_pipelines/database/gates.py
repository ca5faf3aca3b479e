"""Gates: what depends on a table waits while a critical failure of its quality stands.

Who closes them belongs to ``quality``; the switch that pauses retention stands in the same table
under the name of its pipeline, and is that one's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING
from uuid import UUID

if TYPE_CHECKING:
    import psycopg

GATE_CLOSED = "gate_closed"
"""Reason of a run that did nothing because a table it depends on is not to be trusted."""


@dataclass(frozen=True)
class ClosedGate:
    """A table that is not to be trusted now.

    Attributes:
        table: Its name.
        reason: The checks that failed.
        changed_at: Since when.
    """

    table: str
    reason: str
    changed_at: datetime


def read_closed(connection: psycopg.Connection, tables: Sequence[str]) -> list[ClosedGate]:
    """Those of some tables that are not to be trusted now.

    Args:
        connection: To the database.
        tables: What a run depends on.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            "select table_name, coalesce(reason, ''), changed_at from pipeline.gates "
            "where is_closed and table_name = any(%s) order by table_name",
            [list(tables)],
        )
        return [ClosedGate(*row) for row in cursor.fetchall()]


def set_gates(
    cursor: psycopg.Cursor, closed: Mapping[str, str | None], *, run_id: UUID, at: datetime
) -> None:
    """Close and open gates; one that stands so already keeps its instant.

    Args:
        cursor: In a transaction.
        closed: By table, why it is closed; None opens it.
        run_id: Of the run that found it.
        at: When.
    """
    for table, reason in sorted(closed.items()):
        cursor.execute(
            "insert into pipeline.gates as g (table_name, is_closed, reason, run_id, changed_at) "
            "values (%(table)s, %(is_closed)s, %(reason)s, %(run_id)s, %(at)s) "
            "on conflict (table_name) do update set is_closed = excluded.is_closed, "
            "reason = excluded.reason, run_id = excluded.run_id, changed_at = case "
            "when g.is_closed = excluded.is_closed then g.changed_at else excluded.changed_at end",
            {
                "table": table,
                "is_closed": reason is not None,
                "reason": reason,
                "run_id": run_id,
                "at": at,
            },
        )
