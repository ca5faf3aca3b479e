"""End what the clock ends: contexts at their TTL, silent conversations, and what waited in vain.

A conversation ended here has the same ``closed_at`` as one that a later message ends: its last
message. Events that end a conversation do not belong here.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gatte_pipelines.database.engine import psycopg_connection
from gatte_pipelines.database.statements import read_statements
from gatte_pipelines.inbound.merge import share_lock
from gatte_pipelines.run_report import Outcome, RunReport

if TYPE_CHECKING:
    import psycopg
    from sqlalchemy import Connection

PIPELINE = "session_context_expiry"

# One transaction; small, since it holds the locks that the loaders of these users wait for.
_USERS_PER_CHUNK = 1_000
# Records that nobody waits for.
_ROWS_PER_CHUNK = 5_000

WAITING_CHANGES = timedelta(days=30)
"""How long an edit or a revoke waits for its message (decision 0006), from its own instant."""
UNKNOWN_IDENTITIES = timedelta(days=90)
"""How long a number change of somebody unknown is kept: an older message creates nothing."""

# What went, as a person reads it: one, several.
_AGED_PT = {
    "drop_waiting_changes": (
        "edição ou remoção descartada, pois a mensagem não veio",
        "edições ou remoções descartadas, pois a mensagem não veio",
    ),
    "drop_undo_records": ("registro de desfazer vencido", "registros de desfazer vencidos"),
    "drop_unknown_identity_changes": (
        "troca de número de desconhecido descartada",
        "trocas de número de desconhecidos descartadas",
    ),
}

_SQL = read_statements(Path(__file__).with_name("idle.sql"))


def expire(connection: Connection, report: RunReport, *, idle: timedelta) -> None:
    """End and delete what is due, in chunks: users first, then records that wait for nobody.

    Contexts past their TTL, conversations that fell silent, edits and revokes whose message did not
    come, undo records past their time, number changes of nobody known. ``received`` counts what was
    met as due, all of it ``updated``.

    Args:
        connection: To the database, outside a transaction.
        report: Is filled; ``as_of`` decides what is due.
        idle: A longer silence ends a conversation.
    """
    driver = psycopg_connection(connection)
    contexts, closed = _end_silence(driver, report.as_of, idle)
    aged = {name: _drop(driver, report.as_of, name) for name in _AGED_PT}
    report.received = report.updated = contexts + closed + sum(aged.values())
    if not report.received:
        report.outcome, report.reason = Outcome.SKIPPED, "nothing_to_do"
        return
    if contexts or closed:
        report.notes.append(f"contextos expirados: {contexts}; conversas encerradas: {closed}")
    for name, count in aged.items():
        if count:
            one, several = _AGED_PT[name]
            report.notes.append(f"{count} {one if count == 1 else several}")


def _end_silence(driver: psycopg.Connection, as_of: datetime, idle: timedelta) -> tuple[int, int]:
    """Expire contexts and close conversations, user by user; how many of each."""
    contexts = closed = 0
    while True:
        with _transaction(driver, as_of) as cursor:
            cursor.execute(_SQL["due_users"], {"idle": idle, "page_size": _USERS_PER_CHUNK})
            users = [row[0] for row in cursor.fetchall()]
            if not users:
                return contexts, closed
            parameters = {"users": users, "idle": idle}
            cursor.execute(_SQL["lock_users"], parameters)
            cursor.execute(_SQL["close_conversations"], parameters)
            closed += cursor.rowcount
            cursor.execute(_SQL["expire_contexts"], parameters)
            row = cursor.fetchone()
            contexts += row[0] if row else 0


def _drop(driver: psycopg.Connection, as_of: datetime, statement: str) -> int:
    """Run a deletion chunk by chunk until nothing more is due; how many rows went."""
    dropped = 0
    while True:
        with _transaction(driver, as_of) as cursor:
            cursor.execute(
                _SQL[statement],
                {
                    "waiting": WAITING_CHANGES,
                    "unknown": UNKNOWN_IDENTITIES,
                    "page_size": _ROWS_PER_CHUNK,
                },
            )
            dropped += cursor.rowcount
            if cursor.rowcount < _ROWS_PER_CHUNK:
                return dropped


@contextmanager
def _transaction(driver: psycopg.Connection, as_of: datetime) -> Iterator[psycopg.Cursor[Any]]:
    with driver.transaction(), driver.cursor() as cursor:
        cursor.execute("select set_config('gatte.as_of', %s, true)", [as_of.isoformat()])
        share_lock(cursor)
        yield cursor
