"""Merge one chunk into the tables, in one transaction, in one lock order.

The SQL stands in ``merge.sql``; what a chunk holds belongs to ``chunk``; files and progress belong
to ``load``.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gatte_pipelines.database.statements import read_statements
from gatte_pipelines.errors import PermanentError
from gatte_pipelines.inbound.chunk import Chunk
from gatte_pipelines.run_report import Counts

if TYPE_CHECKING:
    import psycopg

CONTEXT_TTL = timedelta(hours=4)
"""DOC 01: session_context.ttl_expires_at is +4 hours."""

_SQL = read_statements(Path(__file__).with_name("merge.sql"))

_PEOPLE = "copy incoming_people from stdin"
_IDENTITIES = "copy incoming_identities from stdin"
_MESSAGES = "copy incoming_messages from stdin"
_STATUSES = "copy incoming_statuses from stdin"
_QUARANTINE = "copy incoming_quarantine from stdin"

_TO_PEOPLE = ("lock_identities", "resolve_people", "settle_identities", "touch_users")
_JOIN = (
    "absorb_marks",
    "absorb_messages",
    "absorb_tickets",
    "absorb_earlier_contexts",
    "absorb_context",
    "absorb_state",
    "absorb_conversations",
)


@dataclass(frozen=True, kw_only=True)
class MergeRules:
    """What the merge needs to know of time.

    Args:
        as_of: What ``pipeline.clock()`` answers in each transaction.
        idle: A longer silence ends a conversation.
        context_messages: How many messages the AI's context holds.
    """

    as_of: datetime
    idle: timedelta
    context_messages: int

    def parameters(self) -> dict[str, Any]:
        """The parameters of the statements."""
        return {
            "idle": self.idle,
            "context_ttl": CONTEXT_TTL,
            "context_messages": self.context_messages,
        }


class UserAppearedError(Exception):
    """The chatbot inserted a user of this chunk between two statements; try the chunk again."""


def create_temporary_tables(connection: psycopg.Connection) -> None:
    """Tune this session for the merge and make its temporary tables."""
    connection.execute(_SQL["tune_session"])
    connection.execute(_SQL["create_incoming"])
    connection.commit()


def merge_statuses(cursor: psycopg.Cursor[Any], chunk: Chunk) -> Counts:
    """Merge the statuses of a chunk inside the caller's transaction; the caller commits.

    They meet nothing else of the chunk: a status knows its message's id only, and its row stands
    there before or after the message.

    Returns:
        The counts of the statuses; ``received`` as the decoder counted, the parts as SQL did.

    Raises:
        psycopg.Error: 40P01 and 40001 mean: roll back and try again.
    """
    counts = Counts(received=chunk.status_count)
    sent = _copy(cursor, _STATUSES, chunk.rows["statuses"])
    cursor.execute(_SQL["merge_statuses"])
    counts.inserted, counts.updated = _row(cursor)
    counts.duplicate = sent - counts.inserted - counts.updated
    return counts


def merge_chunk(cursor: psycopg.Cursor[Any], chunk: Chunk, rules: MergeRules) -> Counts:
    """Merge all of a chunk but its statuses inside the caller's transaction; the caller commits.

    Returns:
        The counts of these units; ``received`` as the decoder counted, the parts as SQL did.

    Raises:
        UserAppearedError: Roll back and try again.
        PermanentError: A guard refused a write of ours.
        psycopg.Error: 40P01 and 40001 mean: roll back and try again.
    """
    counts = Counts(received=chunk.received - chunk.status_count)
    if chunk.empty_count:
        counts.skipped["empty_notification"] = chunk.empty_count
    cursor.execute("select set_config('gatte.as_of', %s, true)", [rules.as_of.isoformat()])
    if chunk.message_count:
        _merge_messages(cursor, chunk, rules, counts)
    if chunk.quarantine_count:
        sent = _copy(cursor, _QUARANTINE, chunk.rows["quarantine"])
        cursor.execute(_SQL["insert_quarantine"])
        counts.quarantined = dict(cursor.fetchall())
        counts.duplicate += sent - sum(counts.quarantined.values())
    cursor.execute(_SQL["count_refusals"])
    if _row(cursor)[0]:
        raise PermanentError(
            "a guard refused to bring back anonymised data; see pipeline.guard_refusals"
        )
    return counts


def _merge_messages(
    cursor: psycopg.Cursor[Any], chunk: Chunk, rules: MergeRules, counts: Counts
) -> None:
    parameters = rules.parameters()
    _copy(cursor, _PEOPLE, chunk.rows["people"])
    _copy(cursor, _IDENTITIES, chunk.rows["identities"])
    sent = _copy(cursor, _MESSAGES, chunk.rows["messages"])
    cursor.execute("analyze incoming_people, incoming_identities, incoming_messages")
    for name in _TO_PEOPLE:
        cursor.execute(_SQL[name])
    cursor.execute("analyze resolved_people, touched_users")
    cursor.execute(_SQL["insert_users"])
    cursor.execute(_SQL["count_missing_users"])
    if _row(cursor)[0]:
        raise UserAppearedError
    cursor.execute(_SQL["lock_users"])
    cursor.execute(_SQL["note_older_names"])
    cursor.execute(_SQL["update_users"])
    cursor.execute(_SQL["upsert_activity"])
    cursor.execute(_SQL["find_new_messages"])
    found = cursor.rowcount
    inserted = 0
    if found:
        cursor.execute("analyze new_messages")
        cursor.execute(_SQL["find_spans"], parameters)
        cursor.execute("analyze spans")
        cursor.execute(_SQL["find_islands"], parameters)
        cursor.execute("analyze islands")
        cursor.execute("select exists (select from islands where absorbed <> '{}')")
        if _row(cursor)[0]:
            for name in _JOIN:
                cursor.execute(_SQL[name])
        cursor.execute(_SQL["close_conversations"])
        cursor.execute(_SQL["extend_conversations"])
        cursor.execute(_SQL["insert_conversations"])
        cursor.execute(_SQL["insert_messages"])
        inserted = cursor.rowcount
        cursor.execute(_SQL["insert_message_facts"])
        cursor.execute(_SQL["expire_contexts"])
        cursor.execute(_SQL["build_contexts"], parameters)
        cursor.execute(_SQL["mark_context"], parameters)
    counts.inserted += inserted
    counts.duplicate += sent - inserted


def _copy(cursor: psycopg.Cursor[Any], statement: str, rows: bytes) -> int:
    """Send rows by COPY; the number that the server counted."""
    with cursor.copy(statement.encode()) as copy:
        copy.write(rows)
    return cursor.rowcount


def _row(cursor: psycopg.Cursor[Any]) -> tuple[Any, ...]:
    row = cursor.fetchone()
    assert row is not None  # noqa: S101 - each of these statements gives one row
    return tuple(row)
