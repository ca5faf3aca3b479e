"""Which rows of the large tables are judged: what changed since the last run, or all of them.

Every writer is met, also one that keeps no record of it: PostgreSQL notes on each row by which
transaction it was written. Conversations are looked through for it, messages through theirs.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from gatte_pipelines.database.statements import read_statements
from gatte_pipelines.quality.results import Last
from gatte_pipelines.quality.suite import WHOLE, Scope, quoted

_SQL = read_statements(Path(__file__).with_name("quality.sql"))

LARGE = ("conversations", "messages")
"""Tables of which a run may look only at what changed."""

FULL_AFTER = timedelta(days=6, hours=12)
"""How old the last whole look may be: nightly that is once a week."""

MOST_CHANGED = 0.2
"""Share of the conversations from which on all are judged: the whole is cheaper then."""

# Ids of transactions are compared within two thousand million of each other.
_FAR = 2**30


class Mode(StrEnum):
    """What a person may ask for."""

    AUTO = "auto"
    FULL = "full"
    INCREMENTAL = "incremental"


@dataclass(frozen=True)
class Reach:
    """Which rows of a run's tables are judged.

    Attributes:
        scopes: By table; what is missing is judged whole.
        watermarks: What is remembered for the next run, once this one has judged, by name.
    """

    scopes: Mapping[str, Scope]
    watermarks: Mapping[str, str]

    def of(self, table: str) -> Scope:
        """Which rows of a table."""
        return self.scopes.get(table, WHOLE)


def find_reach(
    connection: psycopg.Connection,
    checks: Mapping[str, Collection[str]],
    mode: Mode,
    last: Mapping[str, Last],
    *,
    as_of: datetime,
) -> Reach:
    """Decide which rows are judged.

    Args:
        connection: To the database.
        checks: The names of the run's checks of rows, by table; a check that never ran is to look
            at all rows.
        mode: What was asked for.
        last: The last results of the checks, by name.
        as_of: The instant of judging.
    """
    with connection.cursor() as cursor:
        first_unseen, database = cursor.execute(_SQL["read_snapshot"]).fetchone() or ("0", "")
        known: dict[str, str] = dict(cursor.execute(_SQL["read_watermarks"]).fetchall())
    scopes: dict[str, Scope] = {}
    watermarks: dict[str, str] = {}
    is_much: dict[str, bool] = {}
    for table in LARGE:
        if table not in checks:
            continue
        mine = [last[name] for name in checks[table] if name in last]
        since = None if mode is Mode.FULL else _since(known.get(table, ""), first_unseen, database)
        if since is not None and mode is Mode.AUTO and _is_old(known, table, as_of):
            since = None
        is_known = len(mine) == len(checks[table]) and all(one.knows_all_rows for one in mine)
        if since is not None and is_known:
            keys = tuple(sorted({str(key) for one in mine for key in one.keys}))
            if since not in is_much:
                is_much[since] = _is_much(connection, _changed_since(since))
            if not is_much[since]:
                scopes[table] = _scope(since, table, keys)
        watermarks[table] = f"{database} {first_unseen}"
        if table not in scopes:
            watermarks[f"{table}_full_at"] = as_of.isoformat()
    return Reach(scopes, watermarks)


def _since(remembered: str, first_unseen: str, database: str) -> str | None:
    """The first transaction that the last run may not have seen; None where nobody can tell."""
    its_database, _, transaction = remembered.partition(" ")
    if its_database != database or not transaction.isdigit():
        return None  # another cluster counts on its own: a restored backup
    passed = int(first_unseen) - int(transaction)
    return transaction if 0 <= passed < _FAR else None


def _is_old(known: Mapping[str, str], table: str, as_of: datetime) -> bool:
    at = known.get(f"{table}_full_at", "")
    return not at or as_of - datetime.fromisoformat(at) > FULL_AFTER


def _scope(since: str, table: str, keys: tuple[str, ...]) -> Scope:
    changed = _changed_since(since)
    if table == "messages":
        return Scope(changed, keys)
    if keys:
        changed += f" union select unnest(array[{', '.join(map(quoted, keys))}]::uuid[])"
    return Scope(changed)


def _changed_since(since: str) -> str:
    """SQL that selects the conversations that changed since a transaction."""
    is_new = f"age(n.xmin) <= age({quoted(since)}::xid8::xid)"
    return (
        f"select n.id from conversations as n where {is_new} "  # noqa: S608 - a number of ours
        f"union select n.conversation_id from session_context as n where {is_new} "
        "union select m.conversation_id from pipeline.message_changes as n "
        f"inner join messages as m on n.target_id = m.id where {is_new}"
    )


def _is_much(connection: psycopg.Connection, changed: str) -> bool:
    """Whether so much changed; also where a table that tells it cannot be read."""
    try:
        with connection.transaction(), connection.cursor() as cursor:
            row: tuple[Any, ...] | None = cursor.execute(
                sql.SQL(
                    "select (select count(*) from ({changed}) as x), "
                    "(select count(*) from conversations)"
                ).format(changed=sql.SQL(changed))
            ).fetchone()
    except psycopg.Error:
        return True
    many, of_all = row or (0, 0)
    return bool(many > of_all * MOST_CHANGED)
