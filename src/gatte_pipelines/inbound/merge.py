"""Merge one chunk into the tables, in one transaction, in one lock order.

The SQL stands in ``merge.sql``; who is whom where that is in doubt belongs to ``clients``; what a
chunk holds belongs to ``chunk``; files and progress belong to ``load``.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gatte_pipelines.database.client_locks import exclusive_lock, share_lock
from gatte_pipelines.database.statements import read_statements
from gatte_pipelines.errors import PermanentError
from gatte_pipelines.inbound import clients
from gatte_pipelines.inbound.chunk import Chunk
from gatte_pipelines.run_report import Counts

if TYPE_CHECKING:
    import psycopg

CONTEXT_TTL = timedelta(hours=4)
"""DOC 01: session_context.ttl_expires_at is +4 hours."""

_SQL = read_statements(Path(__file__).with_name("merge.sql"))


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


class ErasedMeanwhileError(Exception):
    """A subject of this chunk was erased since it was made; make it again of its lines."""


class MustRunAloneError(Exception):
    """This chunk joins or divides clients: roll back and begin it again with ``alone``."""


def create_temporary_tables(connection: psycopg.Connection) -> None:
    """Tune this session for the merge and make its temporary tables."""
    connection.execute(_SQL["tune_session"])
    connection.execute(_SQL["create_incoming"])
    connection.commit()


def read_known_users(cursor: psycopg.Cursor[Any], references: set[str]) -> dict[str, bool]:
    """Which of these ``users.id`` (32 hexadecimal digits) are users, or were before a merge.

    Returns:
        By id, whether that user, or the one it became part of, was anonymised.
    """
    cursor.execute(_SQL["read_known_users"], {"ids": sorted(references)})
    return {user_id.hex: is_anonymized for user_id, is_anonymized in cursor}


def read_erased(cursor: psycopg.Cursor[Any]) -> frozenset[str]:
    """Ids (32 hexadecimal digits) of the records of erased subjects that may still come again.

    Some dozens to some thousands: what the subjects erased of late wrote within the retention.
    """
    cursor.execute("select message_id from pipeline.erased_messages")
    return frozenset(row[0].hex for row in cursor)


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
    sent = _copy(cursor, "statuses", chunk)
    _take(counts, sent, *_fetch(cursor, "merge_statuses"))
    return counts


def merge_chunk(
    cursor: psycopg.Cursor[Any], chunk: Chunk, rules: MergeRules, *, alone: bool
) -> Counts:
    """Merge all of a chunk but its statuses inside the caller's transaction; the caller commits.

    Args:
        cursor: In a transaction of its own.
        chunk: Sealed.
        rules: What the merge needs to know of time.
        alone: Keep every other chunk waiting; only then clients are joined and divided.

    Returns:
        The counts of these units; ``received`` as the decoder counted, the parts as SQL did.

    Raises:
        ErasedMeanwhileError: Roll back and make the chunk again.
        UserAppearedError: Roll back and try again.
        MustRunAloneError: Roll back and try again with ``alone``.
        PermanentError: A guard refused a write of ours.
        psycopg.Error: 40P01 and 40001 mean: roll back and try again.
    """
    if not alone and (chunk.rows["changes"] or chunk.rows["identity_changes"]):
        # An edit must not pass its message, which another chunk may just be inserting.
        raise MustRunAloneError
    counts = Counts(received=chunk.received - chunk.status_count, skipped=dict(chunk.skipped))
    cursor.execute("select set_config('gatte.as_of', %s, true)", [rules.as_of.isoformat()])
    if alone:
        exclusive_lock(cursor)
    else:
        share_lock(cursor)
    _Merge(cursor, chunk, rules, counts, alone=alone).run()
    if chunk.rows["quarantine"]:
        sent = _copy(cursor, "quarantine", chunk)
        cursor.execute(_SQL["insert_quarantine"])
        counts.quarantined = dict(cursor.fetchall())
        counts.duplicate += sent - sum(counts.quarantined.values())
    if _fetch(cursor, "count_refusals")[0]:
        raise PermanentError(
            "a guard refused to bring back anonymised data; see pipeline.guard_refusals"
        )
    return counts


class _Merge:
    """The statements of one chunk in their order; each part runs only where it has rows."""

    def __init__(
        self,
        cursor: psycopg.Cursor[Any],
        chunk: Chunk,
        rules: MergeRules,
        counts: Counts,
        *,
        alone: bool,
    ) -> None:
        self._cursor, self._chunk, self._counts = cursor, chunk, counts
        self._parameters = rules.parameters()
        self._alone = alone
        self._sent: dict[str, int] = {}

    def run(self) -> None:
        rows = self._chunk.rows
        sent = self._sent = {name: self._copy(name) for name in _COPIED if rows[name]}
        if self._one("select exists (select from pipeline.erased_messages)"):
            self._check_erased()
        for name in ("changes", "reactions"):
            if rows[name]:
                self._skip(name, f"skip_anonymized_{name}")
        if rows["identity_changes"]:
            self._take_inserted("identity_changes", sent)
        settled = self._resolve() if rows["senders"] or rows["identity_changes"] else False
        if rows["messages"] or rows["events"] or rows["changes"] or settled:
            self._merge_messages(sent)
        if settled:
            clients.derive_users(self._cursor)
        if rows["messages"] and self._one(_HAS_BETTER):
            self._execute("withdraw_worded_opt_outs")
        if rows["worded_opt_outs"]:
            self._execute("insert_worded_opt_outs")  # counted as the message that says so
        if rows["opt_outs"]:
            self._take_inserted("opt_outs", sent)
        if rows["reactions"]:
            self._execute("insert_reactions")
            _take(self._counts, sent["reactions"], *_row(self._cursor))

    # --- Whom this project forgot ----------------------------------------------------------------

    def _check_erased(self) -> None:
        """See that the chunk knew of all that was erased, and that no edit of it stays behind."""
        if self._count("count_erased"):
            raise ErasedMeanwhileError
        if edits := self._chunk.erased_edits:
            self._parameters |= {"ids": list(edits), "targets": list(edits.values())}
            self._execute("note_erased_edits")
            self._execute("drop_waiting_edits")
            self._skip("changes", "skip_erased_changes")

    def _skip(self, table: str, statement: str) -> None:
        """Take rows that came for nothing out of what was sent."""
        count = self._execute(statement)
        if count:
            self._sent[table] -= count
            self._counts.skipped["erased"] = self._counts.skipped.get("erased", 0) + count

    # --- Who wrote -------------------------------------------------------------------------------

    def _resolve(self) -> bool:
        """Find or make the user of every sender; True where clients were settled anew."""
        self._execute("find_known_by_phone")
        in_doubt = self._count("count_in_doubt")
        settled = False
        if self._alone:
            self._find_senders()
            settled = clients.settle(self._cursor)
        elif in_doubt:
            raise MustRunAloneError
        self._cursor.execute(
            "analyze incoming_people (person), incoming_identities (person, kind, value), "
            "incoming_messages (unit, id, sender, is_best), "
            "incoming_senders (sender, person, phone_key, bsuid)"
        )
        known = self._execute("find_identities") + self._execute("insert_identities")
        if known < self._one("select count(*) from incoming_identities"):
            self._execute("find_identities_of_others")
        self._execute("resolve_people")
        if self._count("count_disputed"):
            if self._alone:
                raise PermanentError("a client has two users although clients were settled")
            raise MustRunAloneError
        if self._one("select exists (select from resolved_people where lost)"):
            self._execute("settle_identities")
        if self._one("select exists (select from incoming_senders where user_ref <> '')"):
            if self._count("count_anonymized_references"):
                raise ErasedMeanwhileError
            self._execute("resolve_references")
        if not self._alone:
            self._find_senders()
        self._cursor.execute("analyze resolved_people (person)")
        self._execute("resolve_senders")
        self._cursor.execute("analyze resolved_senders (sender, user_id)")
        self._execute("touch_users")
        self._cursor.execute("analyze touched_users (user_id)")
        self._execute("insert_users")
        if self._count("count_missing_users"):
            raise UserAppearedError
        self._execute("lock_users")
        if self._one("select exists (select from known_identities where is_earlier)"):
            self._execute("lower_valid_from")
        for name in ("note_older_names", "update_users", "upsert_activity"):
            self._execute(name)
        return settled

    def _find_senders(self) -> None:
        if self._execute("find_senders") < self._sent.get("senders", 0):
            self._execute("insert_senders")
            self._execute("find_new_senders")

    # --- What they wrote, and their conversations ------------------------------------------------

    def _merge_messages(self, sent: dict[str, int]) -> None:
        rows, counts = self._chunk.rows, self._counts
        inserted = updated = 0
        if rows["messages"]:
            if self._execute("find_arrivals") != self._one(
                "select count(*) from incoming_messages where is_best"
            ):
                raise PermanentError("a message has no client; nothing of its chunk was loaded")
            self._cursor.execute("analyze arrivals (id, unit, user_id, old_conversation_id)")
            updated = self._judge_repeated()
        if rows["events"]:
            self._take_inserted("events", sent)
            self._execute("disturb_closed")
        self._execute("disturb_settled")
        has_changes = bool(rows["changes"])
        if has_changes:
            self._take_inserted("changes", sent)
        if self._one(_HAS_WORK):
            inserted = self._derive_conversations()
        if has_changes or (inserted and self._one(_HAS_WAITING_CHANGES)):
            self._execute("find_change_tree")
            self._cursor.execute("analyze change_tree")
            self._execute("apply_changes")
            self._execute("empty_applied")
        self._execute("expire_contexts")
        self._execute("build_contexts")
        self._execute("mark_context")
        counts.inserted += inserted
        counts.updated += updated
        counts.duplicate += sent.get("messages", 0) - inserted - updated

    def _judge_repeated(self) -> int:
        """Where a record knows better than the row that stands there, take it over."""
        repeated = self._one(
            "select exists (select from arrivals where old_conversation_id is not null)"
        )
        if not repeated:
            return 0
        updated = self._execute("judge_repeated")
        if not updated:
            return 0
        if not self._alone and self._count("count_taken_from_others"):
            raise MustRunAloneError
        self._cursor.execute("analyze arrivals (id, unit, user_id, old_user_id)")
        self._execute("update_messages")
        self._execute("note_changed")
        self._execute("update_facts")
        self._execute("disturb_moved")
        return updated

    def _derive_conversations(self) -> int:
        self._execute("find_reached")
        self._cursor.execute("analyze reached (conversation_id, user_id, is_opened)")
        self._execute("lay_line")
        is_opened = self._one("select exists (select from reached where is_opened)")
        if is_opened:
            self._execute("lay_opened")
        self._cursor.execute("analyze line (user_id)")
        self._execute("find_spans")
        self._cursor.execute("analyze spans (user_id, island, unit, of_conversation)")
        self._execute("find_islands")
        self._cursor.execute("analyze islands (user_id, island, conversation_id, absorbed)")
        is_joined = self._one("select exists (select from islands where absorbed <> '{}')")
        if is_joined:
            self._execute("record_joined")
            self._execute("retire_joined")
        if is_opened:
            self._execute("retire_moved")
        for name in ("close_conversations", "extend_conversations", "insert_conversations"):
            self._execute(name)
        inserted = self._execute("insert_messages")
        self._execute("insert_facts")
        if self._chunk.rows["buttons"]:
            self._execute("insert_buttons")
        if self._one("select exists (select from islands where has_events)"):
            self._execute("trim_transfers")
        if is_joined or is_opened:
            for name in _MOVE:
                self._execute(name)
        if self._one("select exists (select from islands where needs_mode)"):
            self._execute("derive_modes")
        if self._one("select exists (select from arrivals where old_user_id is not null)"):
            self._execute("derive_modes_told_again")
        return inserted

    # --- Statements ------------------------------------------------------------------------------

    def _copy(self, table: str) -> int:
        return _copy(self._cursor, table, self._chunk)

    def _execute(self, name: str) -> int:
        self._cursor.execute(_SQL[name], self._parameters if "%(" in _SQL[name] else None)
        return self._cursor.rowcount

    def _count(self, name: str) -> int:
        self._execute(name)
        return int(_row(self._cursor)[0])

    def _one(self, query: str) -> int:
        self._cursor.execute(query.encode())
        return int(_row(self._cursor)[0])

    def _take_inserted(self, table: str, sent: dict[str, int]) -> None:
        _take(self._counts, sent[table], self._execute(f"insert_{table}"), 0)


_COPIED = (
    "senders",
    "people",
    "identities",
    "messages",
    "facts",
    "changes",
    "reactions",
    "buttons",
    "opt_outs",
    "worded_opt_outs",
    "events",
    "identity_changes",
)
_COPY = {
    name: f"copy incoming_{name} from stdin".encode()
    for name in (*_COPIED, "statuses", "quarantine")
}
_HAS_WORK = (
    "select exists (select from arrivals where old_conversation_id is null) "
    "or exists (select from disturbed) or exists (select from new_events) "
    "or exists (select from arrivals where old_user_id is not null)"
)
_HAS_WAITING_CHANGES = (
    "select exists (select from pipeline.message_changes as h inner join arrivals as a "
    "on h.target_id = a.id where not h.is_applied)"
)
_HAS_BETTER = "select exists (select from arrivals where old_user_id is not null and takes_body)"
_MOVE = (
    "move_tickets",
    "move_joined_messages",
    "move_opened_messages",
    "unmark_closed",
    "drop_earlier_contexts",
    "move_contexts",
    "drop_joined_contexts",
    "delete_joined",
)


def _take(counts: Counts, sent: int, inserted: int, updated: int) -> None:
    counts.inserted += inserted
    counts.updated += updated
    counts.duplicate += sent - inserted - updated


def _copy(cursor: psycopg.Cursor[Any], table: str, chunk: Chunk) -> int:
    """Send rows by COPY; the number that the server counted."""
    with cursor.copy(_COPY[table]) as copy:
        copy.write(chunk.rows[table])
    return cursor.rowcount


def _fetch(cursor: psycopg.Cursor[Any], name: str) -> tuple[Any, ...]:
    cursor.execute(_SQL[name])
    return _row(cursor)


def _row(cursor: psycopg.Cursor[Any]) -> tuple[Any, ...]:
    row = cursor.fetchone()
    assert row is not None  # noqa: S101 - each of these statements gives one row
    return tuple(row)
