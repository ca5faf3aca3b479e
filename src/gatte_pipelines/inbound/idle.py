"""End what the clock ends: contexts at their TTL, conversations that fell silent.

A conversation ended here has the same ``closed_at`` as one that a later message ends: its last
message. Events that end a conversation do not belong here.
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from gatte_pipelines.database.engine import psycopg_connection
from gatte_pipelines.database.statements import read_statements
from gatte_pipelines.inbound.merge import share_lock
from gatte_pipelines.run_report import Outcome, RunReport

if TYPE_CHECKING:
    from sqlalchemy import Connection

PIPELINE = "session_context_expiry"

# One transaction; small, since it holds the locks that the loaders of these users wait for.
_USERS_PER_CHUNK = 1_000

_SQL = read_statements(Path(__file__).with_name("idle.sql"))


def expire(connection: Connection, report: RunReport, *, idle: timedelta) -> None:
    """Delete expired contexts and close idle conversations, user by user in chunks.

    ``received`` counts contexts and conversations met as due, all of them ``updated``.

    Args:
        connection: To the database, outside a transaction.
        report: Is filled; ``as_of`` decides what is due.
        idle: A longer silence ends a conversation.
    """
    driver = psycopg_connection(connection)
    contexts = closed = 0
    while True:
        with driver.transaction(), driver.cursor() as cursor:
            cursor.execute("select set_config('gatte.as_of', %s, true)", [report.as_of.isoformat()])
            share_lock(cursor)
            cursor.execute(_SQL["due_users"], {"idle": idle, "page_size": _USERS_PER_CHUNK})
            users = [row[0] for row in cursor.fetchall()]
            if not users:
                break
            parameters = {"users": users, "idle": idle}
            cursor.execute(_SQL["lock_users"], parameters)
            cursor.execute(_SQL["close_conversations"], parameters)
            closed += cursor.rowcount
            cursor.execute(_SQL["expire_contexts"], parameters)
            row = cursor.fetchone()
            contexts += row[0] if row else 0
    report.received = report.updated = contexts + closed
    if not report.received:
        report.outcome, report.reason = Outcome.SKIPPED, "nothing_to_do"
        return
    report.notes.append(f"contextos expirados: {contexts}; conversas encerradas: {closed}")
