"""The keys of the rows that fail a check, by SQL of our own that selects ids and nothing else.

The library's own lists of failing rows hold their values.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

import psycopg
from psycopg import sql

from gatte_pipelines.quality.suite import Rule

MAX_KEYS = 100
"""Keys that are kept of a check: enough to begin with, and a bound on what a result takes."""


@dataclass(frozen=True)
class Failing:
    """The rows that fail a check.

    Attributes:
        rows: How many.
        excused: How many of them may fail.
        keys: The ids of the first of them, at most `MAX_KEYS`: those that may not fail come first.
    """

    rows: int = 0
    excused: int = 0
    keys: tuple[UUID, ...] = ()


def find_failing(
    connection: psycopg.Connection, rows: str, rule: Rule, *, but: Sequence[UUID] = ()
) -> Failing:
    """Find the rows that fail a check.

    Args:
        connection: To the database.
        rows: SQL whose rows are judged.
        rule: What is asked of them.
        but: Ids of rows that may fail.
    """
    statement = sql.SQL(
        "select r.id, count(*) over (), count(*) filter (where r.id = any({but}::uuid[])) over () "
        "from ({rows}) as r where ({failing}) order by r.id = any({but}::uuid[]), r.id limit {most}"
    ).format(
        # Of a suite's file, which is as fixed as code.
        rows=sql.SQL(rows),
        failing=sql.SQL(rule.failing()),
        but=sql.Literal([str(one) for one in but]),
        most=sql.Literal(MAX_KEYS),
    )
    with connection.cursor() as cursor:
        # Without parameters nothing in the text is taken for one.
        found = cursor.execute(statement).fetchall()
    if not found:
        return Failing()
    _, rows_found, excused = found[0]
    return Failing(rows_found, excused, tuple(row[0] for row in found))
