"""Our own tables: everything the project must remember, in the schema ``pipeline``.

What DOC 01 owns belongs to ``tables``. Row triggers that fill some of these stand in the
migrations. No table here has a foreign key to ``messages``: a lookup for every inserted row costs
more than the insert (design §8), and rows are only ever written beside the message itself.
"""

from __future__ import annotations

from datetime import date, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Boolean,
    CheckConstraint,
    Date,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    String,
    Text,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from gatte_pipelines.database.names import SCHEMA
from gatte_pipelines.database.tables import Timestamp, User


class PipelineBase(DeclarativeBase):
    """Declarative base of our own tables."""

    metadata = MetaData(schema=SCHEMA)


def _now() -> Any:
    return text("pipeline.clock()")


class Setting(PipelineBase):
    """One fact about this database, such as the fingerprint of ``GATTE_ID_KEY``."""

    __tablename__ = "settings"

    name: Mapped[str] = mapped_column(Text, primary_key=True)
    value: Mapped[str] = mapped_column(Text)
    updated_at: Mapped[datetime] = mapped_column(Timestamp, server_default=_now())


class Run(PipelineBase):
    """One run of a pipeline, with its report. ``outcome`` is null while it is going on."""

    __tablename__ = "runs"

    run_id: Mapped[UUID] = mapped_column(primary_key=True)
    pipeline: Mapped[str] = mapped_column(Text)
    as_of: Mapped[datetime] = mapped_column(Timestamp)
    started_at: Mapped[datetime] = mapped_column(Timestamp)
    finished_at: Mapped[datetime | None] = mapped_column(Timestamp)
    outcome: Mapped[str | None] = mapped_column(Text)
    reason: Mapped[str | None] = mapped_column(Text)
    period_from: Mapped[datetime | None] = mapped_column(Timestamp)
    period_to: Mapped[datetime | None] = mapped_column(Timestamp)
    report: Mapped[dict[str, Any] | None] = mapped_column(JSONB)
    error: Mapped[str | None] = mapped_column(Text)

    __table_args__ = (
        CheckConstraint(
            "outcome in ('completed', 'skipped', 'needs_approval', 'failed')", name="runs_outcome"
        ),
        Index("runs_pipeline_started_at_idx", "pipeline", "started_at"),
        Index(
            "runs_with_text_idx",
            "started_at",
            postgresql_where=text("error is not null or report -> 'notes' <> '[]'::jsonb"),
        ),
    )


class Watermark(PipelineBase):
    """How far a pipeline has read a source; committed with the rows it covers (S9)."""

    __tablename__ = "watermarks"

    pipeline: Mapped[str] = mapped_column(Text, primary_key=True)
    name: Mapped[str] = mapped_column(Text, primary_key=True)
    value: Mapped[str] = mapped_column(Text)
    updated_at: Mapped[datetime] = mapped_column(Timestamp, server_default=_now())


class Gate(PipelineBase):
    """Whether what depends on a table may run."""

    __tablename__ = "gates"

    table_name: Mapped[str] = mapped_column(Text, primary_key=True)
    is_closed: Mapped[bool] = mapped_column(Boolean)
    reason: Mapped[str | None] = mapped_column(Text)
    run_id: Mapped[UUID | None] = mapped_column()
    changed_at: Mapped[datetime] = mapped_column(Timestamp, server_default=_now())


class InboundBatch(PipelineBase):
    """One inbound file by the keyed digest of its bytes, and how many lines are committed."""

    __tablename__ = "inbound_batches"

    batch_id: Mapped[UUID] = mapped_column(primary_key=True)
    source_name: Mapped[str] = mapped_column(Text)
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    state: Mapped[str] = mapped_column(Text)
    lines_done: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    units_done: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    loads: Mapped[int] = mapped_column(Integer, server_default=text("1"))
    run_id: Mapped[UUID] = mapped_column()
    first_seen_at: Mapped[datetime] = mapped_column(Timestamp)
    finished_at: Mapped[datetime | None] = mapped_column(Timestamp)

    __table_args__ = (
        CheckConstraint("state in ('loading', 'done')", name="inbound_batches_state"),
        Index("inbound_batches_first_seen_at_idx", "first_seen_at"),
    )


class QuarantinedRecord(PipelineBase):
    """One inbound record that could not be loaded, whole, so that it can be tried again.

    ``id`` is the keyed digest of the payload and the reason: the same record met again is the same
    row. ``payload`` is personal data on the clock of the messages.
    """

    __tablename__ = "quarantine"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    batch_id: Mapped[UUID] = mapped_column()
    source_name: Mapped[str] = mapped_column(Text)
    line: Mapped[int] = mapped_column(BigInteger)
    kind: Mapped[str] = mapped_column(Text)
    field: Mapped[str | None] = mapped_column(Text)
    reason: Mapped[str] = mapped_column(Text)
    payload: Mapped[bytes] = mapped_column(LargeBinary)
    quarantined_at: Mapped[datetime] = mapped_column(Timestamp)
    attempts: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    last_attempt_at: Mapped[datetime | None] = mapped_column(Timestamp)

    __table_args__ = (
        Index("quarantine_reason_idx", "reason", "quarantined_at"),
        Index("quarantine_quarantined_at_idx", "quarantined_at"),
    )


class UserIdentity(PipelineBase):
    """One way in which a user is known, and since when (event time).

    Kinds: ``wa_id`` (as received), ``phone_key`` (ninth-digit equivalence), ``bsuid``,
    ``parent_bsuid``. Only one user holds a value at a time.
    """

    __tablename__ = "user_identities"

    identity_id: Mapped[int] = mapped_column(BigInteger, Identity(always=False), primary_key=True)
    kind: Mapped[str] = mapped_column(Text)
    value: Mapped[str] = mapped_column(Text)
    user_id: Mapped[UUID] = mapped_column(
        ForeignKey(User.__table__.c.id, deferrable=True, initially="DEFERRED")
    )
    valid_from: Mapped[datetime] = mapped_column(Timestamp)
    valid_to: Mapped[datetime | None] = mapped_column(Timestamp)

    __table_args__ = (
        CheckConstraint(
            "kind in ('wa_id', 'phone_key', 'bsuid', 'parent_bsuid')", name="user_identities_kind"
        ),
        Index(
            "user_identities_current_key",
            "kind",
            "value",
            unique=True,
            postgresql_where=text("valid_to is null"),
        ),
        Index("user_identities_user_id_idx", "user_id"),
    )


class UserActivity(PipelineBase):
    """When a user last wrote, and which message set the name and the form of the phone.

    ``name_at`` and ``phone_at`` with their message ids make event time decide, never arrival.
    ``chatbot_named_at`` is set by a trigger when someone else than us writes ``users.name``:
    from then on the profile name of a webhook no longer replaces it.
    """

    __tablename__ = "user_activity"

    user_id: Mapped[UUID] = mapped_column(ForeignKey(User.__table__.c.id), primary_key=True)
    last_at: Mapped[datetime | None] = mapped_column(Timestamp)
    name_at: Mapped[datetime | None] = mapped_column(Timestamp)
    name_message_id: Mapped[UUID | None] = mapped_column()
    phone_at: Mapped[datetime | None] = mapped_column(Timestamp)
    phone_message_id: Mapped[UUID | None] = mapped_column()
    chatbot_named_at: Mapped[datetime | None] = mapped_column(Timestamp)


class MessageFact(PipelineBase):
    """What reports need to know of a message beyond DOC 01; written with the message.

    ``sender_id`` is who it came from or went to. ``is_told_by_chatbot``: no webhook told of it yet,
    so instant, role and content are the chatbot's. ``told_at`` is the instant of the chatbot's
    event of which mode, flow, model, tokens and intent are, ``told_sender_id`` whom that named;
    null where there was none.
    """

    __tablename__ = "message_facts"

    message_id: Mapped[UUID] = mapped_column(primary_key=True)
    author: Mapped[str] = mapped_column(Text)
    mode: Mapped[str | None] = mapped_column(Text)
    current_flow: Mapped[str | None] = mapped_column(String(100))
    model: Mapped[str | None] = mapped_column(String(100))
    sender_id: Mapped[int | None] = mapped_column(BigInteger)
    is_told_by_chatbot: Mapped[bool] = mapped_column(Boolean, server_default=text("false"))
    told_at: Mapped[datetime | None] = mapped_column(Timestamp)
    told_sender_id: Mapped[int | None] = mapped_column(BigInteger)

    __table_args__ = (
        CheckConstraint(
            "author in ('client', 'bot', 'human', 'campaign')", name="message_facts_author"
        ),
    )


class MessageStatus(PipelineBase):
    """When a message we sent reached a status. The current one is the highest rank reached.

    A row may stand here before its message: both meet by the id alone, in any order.
    """

    __tablename__ = "message_statuses"

    message_id: Mapped[UUID] = mapped_column(primary_key=True)
    status: Mapped[str] = mapped_column(Text, primary_key=True)
    status_at: Mapped[datetime] = mapped_column(Timestamp)
    error_code: Mapped[int | None] = mapped_column(Integer)
    pricing_category: Mapped[str | None] = mapped_column(Text)
    attempt_id: Mapped[UUID | None] = mapped_column()

    __table_args__ = (
        CheckConstraint(
            "status in ('sent', 'delivered', 'read', 'played', 'failed')",
            name="message_statuses_status",
        ),
        Index(
            "message_statuses_attempt_id_idx",
            "attempt_id",
            postgresql_where=text("attempt_id is not null"),
        ),
    )


class RowHistory(PipelineBase):
    """One change of a non-personal column of the nine, written by a trigger."""

    __tablename__ = "row_history"

    history_id: Mapped[int] = mapped_column(BigInteger, Identity(always=False), primary_key=True)
    table_name: Mapped[str] = mapped_column(Text)
    row_id: Mapped[UUID] = mapped_column()
    column_name: Mapped[str] = mapped_column(Text)
    old_value: Mapped[str | None] = mapped_column(Text)
    new_value: Mapped[str | None] = mapped_column(Text)
    changed_at: Mapped[datetime] = mapped_column(Timestamp)

    __table_args__ = (
        Index("row_history_row_idx", "table_name", "row_id", "column_name", "changed_at"),
    )


class Staff(PipelineBase):
    """A random id for each staff name met in assigned_to or transferred_to; reports see the id."""

    __tablename__ = "staff"

    staff_id: Mapped[UUID] = mapped_column(
        primary_key=True, server_default=text("gen_random_uuid()")
    )
    name: Mapped[str] = mapped_column(String(150), unique=True)
    first_seen_at: Mapped[datetime] = mapped_column(Timestamp, server_default=_now())


class AnonymizedRow(PipelineBase):
    """A row of users or leads that must stay anonymised (S1)."""

    __tablename__ = "anonymized_rows"

    table_name: Mapped[str] = mapped_column(Text, primary_key=True)
    row_id: Mapped[UUID] = mapped_column(primary_key=True)
    anonymized_at: Mapped[datetime] = mapped_column(Timestamp, server_default=_now())
    rule: Mapped[str] = mapped_column(Text)

    __table_args__ = (
        CheckConstraint("table_name in ('users', 'leads')", name="anonymized_rows_table_name"),
    )


class GuardRefusal(PipelineBase):
    """A personal value that someone tried to write back; the value itself is not kept (S1)."""

    __tablename__ = "guard_refusals"

    refusal_id: Mapped[int] = mapped_column(BigInteger, Identity(always=False), primary_key=True)
    table_name: Mapped[str] = mapped_column(Text)
    row_id: Mapped[UUID] = mapped_column()
    column_name: Mapped[str] = mapped_column(Text)
    refused_role: Mapped[str] = mapped_column(Text)
    backend_pid: Mapped[int] = mapped_column(Integer, server_default=text("pg_backend_pid()"))
    refused_at: Mapped[datetime] = mapped_column(
        Timestamp, server_default=text("transaction_timestamp()")
    )


class StaffNotice(PipelineBase):
    """One thing the watchdog told staff; the row keeps it from saying it twice."""

    __tablename__ = "staff_notices"

    notice_key: Mapped[str] = mapped_column(Text, primary_key=True)
    kind: Mapped[str] = mapped_column(Text)
    first_seen_at: Mapped[datetime] = mapped_column(Timestamp)
    sent_at: Mapped[datetime | None] = mapped_column(Timestamp)
    attempts: Mapped[int] = mapped_column(SmallInteger, server_default=text("0"))


class SenderRow(PipelineBase):
    """What one record says of a client; '' where it says nothing.

    The nodes of the graph whose connected parts are the clients (docs/decisions/0006).
    """

    __tablename__ = "senders"

    sender_id: Mapped[int] = mapped_column(BigInteger, Identity(always=False), primary_key=True)
    phone_key: Mapped[str] = mapped_column(Text)
    bsuid: Mapped[str] = mapped_column(Text)
    wa_id: Mapped[str] = mapped_column(Text)
    name: Mapped[str] = mapped_column(String(150))
    parent_bsuid: Mapped[str] = mapped_column(Text)
    user_ref: Mapped[str] = mapped_column(Text)

    __table_args__ = (
        Index(
            "senders_key",
            "phone_key",
            "bsuid",
            "wa_id",
            "name",
            "parent_bsuid",
            "user_ref",
            unique=True,
        ),
        Index("senders_bsuid_idx", "bsuid", postgresql_where=text("bsuid <> ''::text")),
        Index(
            "senders_parent_bsuid_idx",
            "parent_bsuid",
            postgresql_where=text("parent_bsuid <> ''::text"),
        ),
    )


class MessageChangeRow(PipelineBase):
    """An edit or a revoke; ``content`` only while it waits for its message.

    ``edit_id`` is of its own provider id, since it may be edited in turn; ``change_id`` is of all
    it says, so that two that contradict each other are two.
    """

    __tablename__ = "message_changes"

    change_id: Mapped[UUID] = mapped_column(primary_key=True)
    edit_id: Mapped[UUID] = mapped_column()
    target_id: Mapped[UUID] = mapped_column()
    changed_at: Mapped[datetime] = mapped_column(Timestamp)
    is_revoke: Mapped[bool] = mapped_column(Boolean)
    content: Mapped[str | None] = mapped_column(Text)
    is_applied: Mapped[bool] = mapped_column(Boolean, server_default=text("false"))

    __table_args__ = (
        Index("message_changes_edit_id_idx", "edit_id"),
        Index("message_changes_waiting_idx", "target_id", postgresql_where=text("not is_applied")),
        Index("message_changes_target_id_idx", "target_id"),
    )


class MessageReaction(PipelineBase):
    """The client's newest reaction to a message; ``emoji`` is null when it was taken back."""

    __tablename__ = "message_reactions"

    message_id: Mapped[UUID] = mapped_column(primary_key=True)
    reacted_at: Mapped[datetime] = mapped_column(Timestamp)
    reaction_id: Mapped[UUID] = mapped_column()
    emoji: Mapped[str | None] = mapped_column(Text)

    __table_args__ = (
        Index(
            "message_reactions_emoji_idx", "reacted_at", postgresql_where=text("emoji is not null")
        ),
    )


class ButtonReplyRow(PipelineBase):
    """The press of a button: of which message of ours (``context_id``), and what it stood for."""

    __tablename__ = "button_replies"

    message_id: Mapped[UUID] = mapped_column(primary_key=True)
    context_id: Mapped[UUID | None] = mapped_column()
    payload: Mapped[str | None] = mapped_column(Text)
    pressed_at: Mapped[datetime] = mapped_column(Timestamp)

    __table_args__ = (
        Index("button_replies_context_id_idx", "context_id"),
        Index(
            "button_replies_pressed_at_idx",
            "pressed_at",
            postgresql_where=text("payload is not null"),
        ),
        Index(
            "button_replies_of_alerts_idx",
            "message_id",
            postgresql_where=text("starts_with(payload, 'certificate_alert:'::text)"),
        ),
    )


class IdentityChangeRow(PipelineBase):
    """One client under another number or user id, as Meta told it.

    ``moves_number``: both phones belong to another client from ``changed_at`` on than before.
    ``is_settled``: the client is known, and all of these identities are in ``user_identities``.
    """

    __tablename__ = "identity_changes"

    change_id: Mapped[UUID] = mapped_column(primary_key=True)
    changed_at: Mapped[datetime] = mapped_column(Timestamp)
    moves_number: Mapped[bool] = mapped_column(Boolean)
    old_phone_key: Mapped[str] = mapped_column(Text)
    old_bsuid: Mapped[str] = mapped_column(Text)
    old_parent_bsuid: Mapped[str] = mapped_column(Text)
    new_phone_key: Mapped[str] = mapped_column(Text)
    new_wa_id: Mapped[str] = mapped_column(Text)
    new_bsuid: Mapped[str] = mapped_column(Text)
    new_parent_bsuid: Mapped[str] = mapped_column(Text)
    is_settled: Mapped[bool] = mapped_column(Boolean, server_default=text("false"))

    __table_args__ = (
        Index(
            "identity_changes_waiting_idx", "changed_at", postgresql_where=text("not is_settled")
        ),
        *(
            Index(f"identity_changes_{side}_{kind}_idx", f"{side}_{kind}")
            for side in ("old", "new")
            for kind in ("phone_key", "bsuid", "parent_bsuid")
        ),
    )


class ConversationEventRow(PipelineBase):
    """What the chatbot said of a client's conversation at an instant."""

    __tablename__ = "conversation_events"

    event_id: Mapped[UUID] = mapped_column(primary_key=True)
    user_id: Mapped[UUID] = mapped_column(ForeignKey(User.__table__.c.id))
    sender_id: Mapped[int] = mapped_column(BigInteger)
    at: Mapped[datetime] = mapped_column(Timestamp)
    status: Mapped[str] = mapped_column(Text)
    transferred_to: Mapped[str | None] = mapped_column(String(100))

    __table_args__ = (
        CheckConstraint(
            "status in ('open', 'waiting', 'transferred', 'closed')",
            name="conversation_events_status",
        ),
        Index("conversation_events_user_id_idx", "user_id", "at"),
    )


class OptOutRow(PipelineBase):
    """A choice of a client about our messages; the newest of a category counts."""

    __tablename__ = "opt_outs"

    choice_id: Mapped[UUID] = mapped_column(primary_key=True)
    user_id: Mapped[UUID] = mapped_column(ForeignKey(User.__table__.c.id))
    sender_id: Mapped[int] = mapped_column(BigInteger)
    chosen_at: Mapped[datetime] = mapped_column(Timestamp)
    category: Mapped[str] = mapped_column(Text)
    is_opted_out: Mapped[bool] = mapped_column(Boolean)

    __table_args__ = (Index("opt_outs_user_id_idx", "user_id", "category", "chosen_at"),)


class UserMerge(PipelineBase):
    """A user that became part of another; references to the former are led on by it."""

    __tablename__ = "user_merges"

    from_user_id: Mapped[UUID] = mapped_column(primary_key=True)
    into_user_id: Mapped[UUID] = mapped_column()
    merged_at: Mapped[datetime] = mapped_column(Timestamp)

    __table_args__ = (Index("user_merges_into_user_id_idx", "into_user_id"),)


class UndoRecord(PipelineBase):
    """What a merge of users, conversations or leads removed and moved, for 30 days (S8)."""

    __tablename__ = "undo_records"

    undo_id: Mapped[int] = mapped_column(BigInteger, Identity(always=False), primary_key=True)
    kind: Mapped[str] = mapped_column(Text)
    kept_id: Mapped[UUID] = mapped_column()
    removed_id: Mapped[UUID] = mapped_column()
    record: Mapped[dict[str, Any]] = mapped_column(JSONB)
    made_at: Mapped[datetime] = mapped_column(Timestamp, server_default=_now())
    expires_at: Mapped[datetime] = mapped_column(Timestamp)

    __table_args__ = (
        CheckConstraint("kind in ('users', 'conversations', 'leads')", name="undo_records_kind"),
        Index("undo_records_expires_at_idx", "expires_at"),
    )


class PlanRow(PipelineBase):
    """What a run would change, stored for a person to approve (S11).

    ``parameters`` are those of the operation; ``contents`` names the rows by rule: count, oldest
    instant and a checksum of the ids, so that a plan whose rows changed is refused. ``progress``
    says the same of what was done of it, where its run was stopped.
    """

    __tablename__ = "plans"

    plan_id: Mapped[UUID] = mapped_column(primary_key=True)
    pipeline: Mapped[str] = mapped_column(Text)
    as_of: Mapped[datetime] = mapped_column(Timestamp)
    parameters: Mapped[dict[str, Any]] = mapped_column(JSONB)
    contents: Mapped[dict[str, Any]] = mapped_column(JSONB)
    reason: Mapped[str | None] = mapped_column(Text)
    made_at: Mapped[datetime] = mapped_column(Timestamp, server_default=_now())
    expires_at: Mapped[datetime] = mapped_column(Timestamp)
    executed_at: Mapped[datetime | None] = mapped_column(Timestamp)
    progress: Mapped[dict[str, Any]] = mapped_column(JSONB, server_default=text("'{}'"))

    __table_args__ = (Index("plans_expires_at_idx", "expires_at"),)


class LedgerRow(PipelineBase):
    """One entry of the privacy ledger: canonical JSON, ids only, chained by SHA-256.

    ``hash`` is that of ``previous_hash`` and ``entry``. A trigger refuses every change.
    """

    __tablename__ = "privacy_ledger"

    seq: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    entry: Mapped[str] = mapped_column(Text)
    previous_hash: Mapped[str] = mapped_column(Text)
    hash: Mapped[str] = mapped_column(Text)


class RetentionHold(PipelineBase):
    """What must be kept for now: a whole subject (``users``) or a row; ends by date or release."""

    __tablename__ = "retention_holds"

    hold_id: Mapped[UUID] = mapped_column(primary_key=True)
    table_name: Mapped[str] = mapped_column(Text)
    row_id: Mapped[UUID] = mapped_column()
    reason: Mapped[str] = mapped_column(Text)
    owner: Mapped[str] = mapped_column(Text)
    placed_at: Mapped[datetime] = mapped_column(Timestamp)
    ends_at: Mapped[datetime | None] = mapped_column(Timestamp)
    released_at: Mapped[datetime | None] = mapped_column(Timestamp)

    __table_args__ = (
        CheckConstraint(
            "table_name in ('users', 'conversations', 'messages', 'session_context', 'tickets', "
            "'leads', 'appointments', 'services', 'certificates')",
            name="retention_holds_table_name",
        ),
        Index(
            "retention_holds_row_idx",
            "table_name",
            "row_id",
            postgresql_where=text("released_at is null"),
        ),
    )


class RetentionExemption(PipelineBase):
    """A row whose time has come and that is kept, and on what basis."""

    __tablename__ = "retention_exemptions"

    rule: Mapped[str] = mapped_column(Text, primary_key=True)
    table_name: Mapped[str] = mapped_column(Text)
    row_id: Mapped[UUID] = mapped_column(primary_key=True)
    basis: Mapped[str] = mapped_column(Text, primary_key=True)
    first_seen_at: Mapped[datetime] = mapped_column(Timestamp)
    last_seen_at: Mapped[datetime] = mapped_column(Timestamp)


class SubjectRequest(PipelineBase):
    """A request of a subject (LGPD art. 18) by ``users.id``; due 15 days after it was received."""

    __tablename__ = "subject_requests"

    request_id: Mapped[UUID] = mapped_column(primary_key=True)
    user_id: Mapped[UUID] = mapped_column()
    kind: Mapped[str] = mapped_column(Text)
    state: Mapped[str] = mapped_column(Text)
    received_at: Mapped[datetime] = mapped_column(Timestamp)
    due_at: Mapped[datetime] = mapped_column(Timestamp)
    closed_at: Mapped[datetime | None] = mapped_column(Timestamp)

    __table_args__ = (
        CheckConstraint("kind in ('export', 'erase')", name="subject_requests_kind"),
        CheckConstraint(
            "state in ('open', 'waiting_external', 'done')", name="subject_requests_state"
        ),
        Index("subject_requests_open_idx", "due_at", postgresql_where=text("state <> 'done'")),
        Index("subject_requests_user_id_idx", "user_id"),
    )


class ExternalTask(PipelineBase):
    """What another system must erase too (S2); open until a read there confirmed it."""

    __tablename__ = "external_tasks"

    task_id: Mapped[UUID] = mapped_column(primary_key=True)
    request_id: Mapped[UUID | None] = mapped_column()
    user_id: Mapped[UUID] = mapped_column()
    system: Mapped[str] = mapped_column(Text)
    reference: Mapped[str | None] = mapped_column(Text)
    state: Mapped[str] = mapped_column(Text)
    attempts: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    created_at: Mapped[datetime] = mapped_column(Timestamp)
    last_attempt_at: Mapped[datetime | None] = mapped_column(Timestamp)
    confirmed_at: Mapped[datetime | None] = mapped_column(Timestamp)

    __table_args__ = (
        CheckConstraint("state in ('open', 'confirmed')", name="external_tasks_state"),
        Index("external_tasks_open_idx", "system", postgresql_where=text("state = 'open'")),
        Index("external_tasks_user_id_idx", "user_id"),
    )


class ErasedMessage(PipelineBase):
    """A message of an erased subject that may be delivered again until ``forget_at``."""

    __tablename__ = "erased_messages"

    message_id: Mapped[UUID] = mapped_column(primary_key=True)
    forget_at: Mapped[datetime] = mapped_column(Timestamp)

    __table_args__ = (Index("erased_messages_forget_at_idx", "forget_at"),)


class TicketDigest(PipelineBase):
    """A closed ticket as it was: SHA-256 over protocol, title, description and created_at."""

    __tablename__ = "ticket_digests"

    ticket_id: Mapped[UUID] = mapped_column(primary_key=True)
    digest: Mapped[str] = mapped_column(Text)
    sealed_at: Mapped[datetime] = mapped_column(Timestamp)


class CertificateStep(PipelineBase):
    """One step of the alert of one certificate: a threshold of one audience, for one expiry.

    ``state``: ``due`` until it is settled; ``told`` once a channel took the message;
    ``unreachable`` where no channel did; ``skipped`` where nobody may be told (``reason``);
    ``superseded`` by a more urgent one; ``answered`` by the client; ``renewed``; ``lapsed`` long
    after the expiry.
    ``reported_at``: when a staff digest told of a step that did not reach its audience.
    """

    __tablename__ = "certificate_steps"

    step_id: Mapped[UUID] = mapped_column(primary_key=True)
    certificate_id: Mapped[UUID] = mapped_column()
    expires_at: Mapped[datetime] = mapped_column(Timestamp)
    threshold: Mapped[int] = mapped_column(SmallInteger)
    audience: Mapped[str] = mapped_column(Text)
    state: Mapped[str] = mapped_column(Text)
    reason: Mapped[str | None] = mapped_column(Text)
    due_on: Mapped[date] = mapped_column(Date)
    plan_id: Mapped[UUID | None] = mapped_column()
    recorded_at: Mapped[datetime] = mapped_column(Timestamp)
    settled_at: Mapped[datetime | None] = mapped_column(Timestamp)
    reported_at: Mapped[datetime | None] = mapped_column(Timestamp)

    __table_args__ = (
        CheckConstraint(
            "audience in ('client', 'staff', 'owner', 'manager')",
            name="certificate_steps_audience",
        ),
        CheckConstraint(
            "state in ('due', 'told', 'unreachable', 'skipped', 'superseded', 'answered', "
            "'renewed', 'lapsed')",
            name="certificate_steps_state",
        ),
        CheckConstraint("(state = 'due') = (settled_at is null)", name="certificate_steps_settled"),
        Index(
            "certificate_steps_key",
            "certificate_id",
            "expires_at",
            "audience",
            "threshold",
            unique=True,
        ),
        Index(
            "certificate_steps_plan_id_idx",
            "plan_id",
            postgresql_where=text("plan_id is not null"),
        ),
        Index("certificate_steps_open_idx", "due_on", postgresql_where=text("state = 'due'::text")),
        Index(
            "certificate_steps_unreported_idx",
            "recorded_at",
            postgresql_where=text(
                "reported_at is null and (state in "
                "('unreachable'::text, 'skipped'::text, 'lapsed'::text) "
                "or reason = 'other_channel'::text)"
            ),
        ),
    )


class AlertMessage(PipelineBase):
    """One call to a channel: one recipient, with all that is due to them.

    ``attempt_id`` travels with the message and comes back in its statuses; ``message_id`` is the
    keyed digest of the provider's id, the same as in ``message_statuses``. ``intended`` is
    committed before the call: where a later run meets it, nobody knows whether the message went.
    """

    __tablename__ = "alert_messages"

    attempt_id: Mapped[UUID] = mapped_column(primary_key=True)
    audience: Mapped[str] = mapped_column(Text)
    channel: Mapped[str] = mapped_column(Text)
    template: Mapped[str | None] = mapped_column(Text)
    state: Mapped[str] = mapped_column(Text)
    reason: Mapped[str | None] = mapped_column(Text)
    error_code: Mapped[int | None] = mapped_column(Integer)
    message_id: Mapped[UUID | None] = mapped_column()
    intended_at: Mapped[datetime] = mapped_column(Timestamp)
    result_at: Mapped[datetime | None] = mapped_column(Timestamp)
    delivered_at: Mapped[datetime | None] = mapped_column(Timestamp)

    __table_args__ = (
        CheckConstraint(
            "audience in ('client', 'staff', 'owner', 'manager')", name="alert_messages_audience"
        ),
        CheckConstraint("channel in ('whatsapp', 'email')", name="alert_messages_channel"),
        CheckConstraint(
            "state in ('intended', 'deferred', 'unknown', 'accepted', 'delivered', 'read', "
            "'failed')",
            name="alert_messages_state",
        ),
        Index(
            "alert_messages_message_id_key",
            "message_id",
            unique=True,
            postgresql_where=text("message_id is not null"),
        ),
        Index(
            "alert_messages_open_idx",
            "intended_at",
            postgresql_where=text(
                "state in ('intended'::text, 'deferred'::text, 'unknown'::text) "
                "or (state = 'accepted'::text and channel = 'whatsapp'::text)"
            ),
        ),
    )


class CertificateAttempt(PipelineBase):
    """That a step was attempted on a channel, by which message; at most once a channel."""

    __tablename__ = "certificate_attempts"

    step_id: Mapped[UUID] = mapped_column(
        ForeignKey(CertificateStep.__table__.c.step_id), primary_key=True
    )
    channel: Mapped[str] = mapped_column(Text, primary_key=True)
    attempt_id: Mapped[UUID] = mapped_column(ForeignKey(AlertMessage.__table__.c.attempt_id))

    __table_args__ = (
        CheckConstraint("channel in ('whatsapp', 'email')", name="certificate_attempts_channel"),
        Index("certificate_attempts_attempt_id_idx", "attempt_id"),
    )


class CertificateAnswer(PipelineBase):
    """What a client answered to an alert by a button; ``reply_id`` is the message of the press."""

    __tablename__ = "certificate_answers"

    certificate_id: Mapped[UUID] = mapped_column(primary_key=True)
    expires_at: Mapped[datetime] = mapped_column(Timestamp, primary_key=True)
    answer: Mapped[str] = mapped_column(Text)
    answered_at: Mapped[datetime] = mapped_column(Timestamp)
    reply_id: Mapped[UUID] = mapped_column(primary_key=True)
    reported_at: Mapped[datetime | None] = mapped_column(Timestamp)

    __table_args__ = (
        CheckConstraint(
            "answer in ('renew', 'renewed', 'later')", name="certificate_answers_answer"
        ),
        Index("certificate_answers_reply_id_idx", "reply_id"),
        Index(
            "certificate_answers_unreported_idx",
            "answered_at",
            postgresql_where=text("reported_at is null"),
        ),
    )


class RenewalLead(PipelineBase):
    """The lead that the coming expiry of a certificate made, once."""

    __tablename__ = "renewal_leads"

    certificate_id: Mapped[UUID] = mapped_column(primary_key=True)
    expires_at: Mapped[datetime] = mapped_column(Timestamp, primary_key=True)
    lead_id: Mapped[UUID] = mapped_column()
    made_at: Mapped[datetime] = mapped_column(Timestamp)

    __table_args__ = (Index("renewal_leads_lead_id_idx", "lead_id"),)


class CertificateChange(PipelineBase):
    """Certificates that may replace each other, one of which was written since the evaluation."""

    __tablename__ = "certificate_changes"

    service_id: Mapped[UUID] = mapped_column(primary_key=True)
    user_id: Mapped[UUID] = mapped_column(primary_key=True)
    type: Mapped[str] = mapped_column(Text, primary_key=True)
    changed_at: Mapped[datetime] = mapped_column(Timestamp, server_default=_now())


class QualityResult(PipelineBase):
    """What one run of ``data_quality`` found of one check; ids only, no value of any row.

    ``failed_keys`` are up to a hundred ids of failing rows. ``first_bad_run_id`` is the run that
    found the failure first; ``last_good_at`` the last one before it that found none.
    """

    __tablename__ = "quality_results"

    result_id: Mapped[int] = mapped_column(BigInteger, Identity(always=False), primary_key=True)
    run_id: Mapped[UUID] = mapped_column()
    checked_at: Mapped[datetime] = mapped_column(Timestamp)
    check_name: Mapped[str] = mapped_column(Text)
    table_name: Mapped[str] = mapped_column(Text)
    severity: Mapped[str] = mapped_column(Text)
    state: Mapped[str] = mapped_column(Text)
    is_full: Mapped[bool] = mapped_column(Boolean)
    failed_rows: Mapped[int | None] = mapped_column(BigInteger)
    failed_keys: Mapped[list[UUID]] = mapped_column(ARRAY(Uuid), server_default=text("'{}'"))
    detail: Mapped[str | None] = mapped_column(Text)
    first_bad_run_id: Mapped[UUID | None] = mapped_column()
    first_bad_at: Mapped[datetime | None] = mapped_column(Timestamp)
    last_good_run_id: Mapped[UUID | None] = mapped_column()
    last_good_at: Mapped[datetime | None] = mapped_column(Timestamp)

    __table_args__ = (
        CheckConstraint(
            "severity in ('critical', 'warning', 'info')", name="quality_results_severity"
        ),
        CheckConstraint(
            "state in ('passed', 'failed', 'waived', 'not_judged', 'not_run')",
            name="quality_results_state",
        ),
        Index("quality_results_check_name_idx", "check_name", "checked_at", "result_id"),
        Index("quality_results_run_id_idx", "run_id"),
    )


class TableVolume(PipelineBase):
    """How many rows of a table are of a business date, as they were counted on a later day."""

    __tablename__ = "table_volumes"

    table_name: Mapped[str] = mapped_column(Text, primary_key=True)
    day: Mapped[date] = mapped_column(Date, primary_key=True)
    row_count: Mapped[int] = mapped_column(BigInteger)
    counted_at: Mapped[datetime] = mapped_column(Timestamp)


class CrmLink(PipelineBase):
    """Which records of Pipedrive are one lead, and what both sides last agreed on (S9).

    ``agreed_at`` is null until they agreed once. ``phone_key`` is that of the agreed phone. Of a
    ``merged`` lead, whose row is gone, ``merged_into`` is the one that it became part of.
    """

    __tablename__ = "crm_links"

    lead_id: Mapped[UUID] = mapped_column(primary_key=True)
    state: Mapped[str] = mapped_column(Text)
    remote_lead_id: Mapped[UUID | None] = mapped_column()
    deal_id: Mapped[int | None] = mapped_column(BigInteger)
    person_id: Mapped[int | None] = mapped_column(BigInteger)
    organization_id: Mapped[int | None] = mapped_column(BigInteger)
    note_id: Mapped[int | None] = mapped_column(BigInteger)
    is_archived: Mapped[bool] = mapped_column(Boolean, server_default=text("false"))
    person_is_ours: Mapped[bool] = mapped_column(Boolean, server_default=text("false"))
    organization_is_ours: Mapped[bool] = mapped_column(Boolean, server_default=text("false"))
    phone_key: Mapped[str | None] = mapped_column(Text)
    agreed_name: Mapped[str | None] = mapped_column(Text)
    agreed_phone: Mapped[str | None] = mapped_column(Text)
    agreed_email: Mapped[str | None] = mapped_column(Text)
    agreed_company: Mapped[str | None] = mapped_column(Text)
    agreed_stage: Mapped[str | None] = mapped_column(Text)
    agreed_at: Mapped[datetime | None] = mapped_column(Timestamp)
    merged_into: Mapped[UUID | None] = mapped_column()
    made_at: Mapped[datetime] = mapped_column(Timestamp)
    changed_at: Mapped[datetime] = mapped_column(Timestamp)

    __table_args__ = (
        CheckConstraint(
            "state in ('pending', 'linked', 'deleted', 'merged')", name="crm_links_state"
        ),
        CheckConstraint("(state = 'merged') = (merged_into is not null)", name="crm_links_merged"),
        CheckConstraint(
            "state <> 'linked' or coalesce(remote_lead_id::text, deal_id::text) is not null",
            name="crm_links_linked",
        ),
        Index(
            "crm_links_remote_lead_id_key",
            "remote_lead_id",
            unique=True,
            postgresql_where=text("remote_lead_id is not null"),
        ),
        Index(
            "crm_links_deal_id_key",
            "deal_id",
            unique=True,
            postgresql_where=text("deal_id is not null"),
        ),
        Index(
            "crm_links_person_id_idx",
            "person_id",
            postgresql_where=text("person_id is not null"),
        ),
        Index(
            "crm_links_organization_id_idx",
            "organization_id",
            postgresql_where=text("organization_id is not null"),
        ),
        Index(
            "crm_links_phone_key_idx",
            "phone_key",
            postgresql_where=text("phone_key is not null"),
        ),
        Index(
            "crm_links_merged_into_idx",
            "merged_into",
            postgresql_where=text("merged_into is not null"),
        ),
    )


class OutboxRow(PipelineBase):
    """A call to another system that was begun and whose end is not known.

    Committed before the call; removed only by a confirmed result. ``begun_at`` is that of the
    first attempt.
    """

    __tablename__ = "sync_outbox"

    system: Mapped[str] = mapped_column(Text, primary_key=True)
    local_id: Mapped[UUID] = mapped_column(primary_key=True)
    action: Mapped[str] = mapped_column(Text, primary_key=True)
    begun_at: Mapped[datetime] = mapped_column(Timestamp)
    attempts: Mapped[int] = mapped_column(Integer, server_default=text("1"))


class SyncConflict(PipelineBase):
    """Where both sides had changed one thing, or one side lost it; which value won.

    ``kind``: ``both_changed`` (the owner's value won), ``kept`` (a field of which only the owner's
    value counts was changed by the other side), ``deleted`` (gone there), ``merged`` (two leads
    became one). ``resolution`` is the side that a person chose.
    """

    __tablename__ = "sync_conflicts"

    conflict_id: Mapped[UUID] = mapped_column(primary_key=True)
    system: Mapped[str] = mapped_column(Text)
    table_name: Mapped[str] = mapped_column(Text)
    local_id: Mapped[UUID] = mapped_column()
    kind: Mapped[str] = mapped_column(Text)
    field: Mapped[str | None] = mapped_column(Text)
    winner: Mapped[str] = mapped_column(Text)
    our_value: Mapped[str | None] = mapped_column(Text)
    their_value: Mapped[str | None] = mapped_column(Text)
    run_id: Mapped[UUID] = mapped_column()
    found_at: Mapped[datetime] = mapped_column(Timestamp)
    resolved_at: Mapped[datetime | None] = mapped_column(Timestamp)
    resolution: Mapped[str | None] = mapped_column(Text)

    __table_args__ = (
        CheckConstraint(
            "kind in ('both_changed', 'kept', 'deleted', 'merged')", name="sync_conflicts_kind"
        ),
        CheckConstraint("winner in ('ours', 'theirs')", name="sync_conflicts_winner"),
        CheckConstraint("resolution in ('ours', 'theirs')", name="sync_conflicts_resolution"),
        CheckConstraint(
            "(resolved_at is null) = (resolution is null)", name="sync_conflicts_resolved"
        ),
        Index(
            "sync_conflicts_open_key",
            "system",
            "local_id",
            "kind",
            text("coalesce(field, '')"),
            text("coalesce(our_value, '')"),
            text("coalesce(their_value, '')"),
            unique=True,
            postgresql_where=text("resolved_at is null"),
        ),
        Index("sync_conflicts_local_id_idx", "local_id"),
        Index("sync_conflicts_found_at_idx", "found_at"),
    )


class CrmAccount(PipelineBase):
    """The company's labels, stages and our custom field as last read; nobody's data."""

    __tablename__ = "crm_account"

    system: Mapped[str] = mapped_column(Text, primary_key=True)
    contents: Mapped[dict[str, Any]] = mapped_column(JSONB)
    read_at: Mapped[datetime] = mapped_column(Timestamp)


class CrmTokens(PipelineBase):
    """Tokens of the day's budget that this project spent."""

    __tablename__ = "crm_tokens"

    day: Mapped[date] = mapped_column(Date, primary_key=True)
    spent: Mapped[int] = mapped_column(Integer)
    budget: Mapped[int] = mapped_column(Integer)
    remaining: Mapped[int | None] = mapped_column(Integer)
    noted_at: Mapped[datetime] = mapped_column(Timestamp)
