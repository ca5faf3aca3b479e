"""End what the clock ends: contexts at their TTL, silent conversations, and what waited in vain.

A conversation ended here has the same ``closed_at`` as one that a later message ends: its last
message. Events that end a conversation do not belong here.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, astuple, dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gatte_pipelines.database.client_locks import share_lock
from gatte_pipelines.database.engine import psycopg_connection
from gatte_pipelines.database.statements import read_statements
from gatte_pipelines.run_report import Outcome, RunReport

if TYPE_CHECKING:
    import psycopg
    from sqlalchemy import Connection

PIPELINE = "session_context_expiry"

# One transaction; small, since it holds the locks that the loaders of these users wait for.
_USERS_PER_CHUNK = 1_000
# Records that nobody waits for.
_ROWS_PER_CHUNK = 5_000


@dataclass(frozen=True, kw_only=True)
class Periods:
    """How long what waits for nobody is kept; intervals as PostgreSQL reads them (``30 days``).

    The retention policy states them; these are the ones that decision 0006 gives.

    Attributes:
        contexts: A context, after its ``ttl_expires_at``.
        waiting_changes: An edit or a revoke without its message, from its own instant.
        unknown_identities: A number change of somebody unknown: an older message creates nothing.
        undo_records: An undo record, after its ``expires_at``.
    """

    contexts: str = "0 hours"
    waiting_changes: str = "30 days"
    unknown_identities: str = "90 days"
    undo_records: str = "0 hours"


DEFAULT_PERIODS = Periods()

# What went, as a person reads it: one, several.
_AGED_PT = {
    "waiting_changes": (
        "edição ou remoção descartada, pois a mensagem não veio",
        "edições ou remoções descartadas, pois a mensagem não veio",
    ),
    "undo_records": ("registro de desfazer vencido", "registros de desfazer vencidos"),
    "unknown_identities": (
        "troca de número de desconhecido descartada",
        "trocas de número de desconhecidos descartadas",
    ),
}

_SQL = read_statements(Path(__file__).with_name("idle.sql"))


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How many of each were ended."""

    contexts: int
    conversations: int
    waiting_changes: int
    undo_records: int
    unknown_identities: int


def end_by_clock(
    connection: Connection,
    *,
    as_of: datetime,
    idle: timedelta,
    periods: Periods = DEFAULT_PERIODS,
) -> Ended:
    """End and delete what is due, in chunks: users first, then records that wait for nobody.

    Contexts past their TTL, conversations that fell silent, edits and revokes whose message did not
    come, undo records past their time, number changes of nobody known.

    Args:
        connection: To the database, outside a transaction.
        as_of: Decides what is due.
        idle: A longer silence ends a conversation.
        periods: How long the rest is kept.
    """
    driver = psycopg_connection(connection)
    due = {"idle": idle} | asdict(periods)
    contexts, conversations = _end_silence(driver, as_of, due)
    return Ended(
        contexts=contexts,
        conversations=conversations,
        waiting_changes=_drop(driver, as_of, "drop_waiting_changes", due),
        undo_records=_drop(driver, as_of, "drop_undo_records", due),
        unknown_identities=_drop(driver, as_of, "drop_unknown_identity_changes", due),
    )


def expire(
    connection: Connection,
    report: RunReport,
    *,
    idle: timedelta,
    periods: Periods = DEFAULT_PERIODS,
) -> None:
    """End what ``end_by_clock`` ends, and tell: ``received`` counts it, all of it ``updated``.

    Args:
        connection: To the database, outside a transaction.
        report: Is filled; ``as_of`` decides what is due.
        idle: A longer silence ends a conversation.
        periods: How long the rest is kept.
    """
    ended = end_by_clock(connection, as_of=report.as_of, idle=idle, periods=periods)
    report.received = report.updated = sum(astuple(ended))
    if not report.received:
        report.outcome, report.reason = Outcome.SKIPPED, "nothing_to_do"
        return
    if ended.contexts or ended.conversations:
        report.notes.append(
            f"contextos expirados: {ended.contexts}; conversas encerradas: {ended.conversations}"
        )
    for name, (one, several) in _AGED_PT.items():
        if count := getattr(ended, name):
            report.notes.append(f"{count} {one if count == 1 else several}")


def _end_silence(
    driver: psycopg.Connection, as_of: datetime, due: dict[str, Any]
) -> tuple[int, int]:
    """Expire contexts and close conversations, user by user; how many of each."""
    contexts = closed = 0
    while True:
        with _transaction(driver, as_of) as cursor:
            cursor.execute(_SQL["due_users"], due | {"page_size": _USERS_PER_CHUNK})
            users = [row[0] for row in cursor.fetchall()]
            if not users:
                return contexts, closed
            parameters = due | {"users": users}
            cursor.execute(_SQL["lock_users"], parameters)
            cursor.execute(_SQL["close_conversations"], parameters)
            closed += cursor.rowcount
            cursor.execute(_SQL["expire_contexts"], parameters)
            row = cursor.fetchone()
            contexts += row[0] if row else 0


def _drop(driver: psycopg.Connection, as_of: datetime, statement: str, due: dict[str, Any]) -> int:
    """Run a deletion chunk by chunk until nothing more is due; how many rows went."""
    dropped = 0
    while True:
        with _transaction(driver, as_of) as cursor:
            cursor.execute(_SQL[statement], due | {"page_size": _ROWS_PER_CHUNK})
            dropped += cursor.rowcount
            if cursor.rowcount < _ROWS_PER_CHUNK:
                return dropped


@contextmanager
def _transaction(driver: psycopg.Connection, as_of: datetime) -> Iterator[psycopg.Cursor[Any]]:
    with driver.transaction(), driver.cursor() as cursor:
        cursor.execute("select set_config('gatte.as_of', %s, true)", [as_of.isoformat()])
        share_lock(cursor)
        yield cursor
