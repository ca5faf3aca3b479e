"""A client with a row in every store, alive or anonymised, and one leftover planted at a time.

Rows are written as the owner, with our guards switched off, so that a test can break what the
database would not let anybody break.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

from sqlalchemy import Connection, text

from gatte_pipelines.phones import anonymised_placeholder
from gatte_pipelines.privacy.policy import Policy, parse_policy
from tests.database.rows import insert

AS_OF = datetime(2031, 3, 10, 12, tzinfo=UTC)
DAY = timedelta(days=1)
YEAR = timedelta(days=366)
RECENT = AS_OF - timedelta(hours=1)
LONG_AGO = AS_OF - 10 * YEAR

VALUE = "Zulmira90000"
"""What is planted; short enough for every column, and nobody's."""


def read_test_policy() -> Policy:
    """The policy that stands in config/."""
    path = Path(__file__).parents[1] / "config" / "retention.yaml"
    return parse_policy(path.read_text("utf-8"), path.name)


@dataclass(frozen=True)
class Client:
    """Ids of one client's rows, by table."""

    ids: dict[str, Any]

    def __getitem__(self, table: str) -> Any:
        return self.ids[table]


def put(connection: Connection, table: str, **values: Any) -> None:
    """Insert one row of a table of ours."""
    names = ", ".join(values)
    places = ", ".join(f":{name}" for name in values)
    connection.execute(
        text(f"insert into {table} ({names}) values ({places})"),  # noqa: S608 - names of ours
        values,
    )


def one(connection: Connection, statement: str, **values: Any) -> Any:
    """The one value that a statement gives."""
    return connection.execute(text(statement), values).scalar_one()


def switch_guards_off(connection: Connection) -> None:
    """No trigger of ours fires in this database any more."""
    for table in (
        *("users", "conversations", "messages", "tickets", "leads", "appointments", "services"),
        "certificates",
        "pipeline.privacy_ledger",
    ):
        connection.execute(text(f"alter table {table} disable trigger user"))


def put_client(connection: Connection, *, at: datetime, is_anonymized: bool) -> Client:
    """A client with a row in every table, everything of the instant ``at``.

    Nothing keeps them: the service is cancelled, the certificate expired, the ticket closed. The
    anonymised one holds nothing personal but in the ticket.
    """
    gone = is_anonymized

    def personal(value: str = "Cliente Exemplo") -> str | None:
        return None if gone else value

    user = insert(
        connection,
        "users",
        **({"phone": anonymised_placeholder()} if gone else {}),
        name=personal(),
        email=personal("cliente@example.com"),
        company=personal(),
        created_at=at,
        updated_at=at,
    )
    put(connection, "pipeline.user_activity", user_id=user, last_at=at)
    conversation = insert(
        connection,
        "conversations",
        user_id=user,
        status="closed",
        current_flow="ticket_flow",
        started_at=at,
        closed_at=at,
    )
    message = insert(
        connection,
        "messages",
        conversation_id=conversation,
        content="" if gone else "oi",
        intent_detected="ticket_open",
        created_at=at,
    )
    sender = one(
        connection,
        "insert into pipeline.senders (phone_key, bsuid, wa_id, name, parent_bsuid, user_ref) "
        "values (:key, '', :key, '', '', '') "
        # The anonymised share the blank one.
        "on conflict (phone_key, bsuid, wa_id, name, parent_bsuid, user_ref) "
        "do update set wa_id = excluded.wa_id returning sender_id",
        key=(phone := "" if gone else f"55119{user.int % 10**8:08}"),
    )
    if not gone:
        put(
            connection,
            "pipeline.user_identities",
            kind="phone_key",
            value=phone,
            user_id=user,
            valid_from=at,
        )
    put(
        connection,
        "pipeline.message_facts",
        message_id=message,
        author="client",
        mode="menu",
        current_flow="ticket_flow",
        model="modelo-1",
        sender_id=None if gone else sender,
    )
    put(
        connection,
        "pipeline.message_statuses",
        message_id=message,
        status="read",
        status_at=at,
        pricing_category="utility",
    )
    put(
        connection,
        "pipeline.message_changes",
        change_id=(change := uuid4()),
        edit_id=(edit := uuid4()),
        target_id=message,
        changed_at=at,
        is_revoke=False,
        is_applied=True,
    )
    put(
        connection,
        "pipeline.message_reactions",
        message_id=message,
        reacted_at=at,
        reaction_id=uuid4(),
    )
    put(connection, "pipeline.button_replies", message_id=message, pressed_at=at)
    put(
        connection,
        "pipeline.conversation_events",
        event_id=uuid4(),
        user_id=user,
        sender_id=sender,
        at=at,
        status="closed",
    )
    put(
        connection,
        "pipeline.opt_outs",
        choice_id=uuid4(),
        user_id=user,
        sender_id=sender,
        chosen_at=at,
        category="marketing",
        is_opted_out=True,
    )
    ticket = insert(
        connection,
        "tickets",
        user_id=user,
        conversation_id=conversation,
        status="closed",
        title="Chamado de Zulmira",
        description="Telefone +55 11 90000-1234, zulmira@example.com",
        created_at=at,
    )
    lead = insert(
        connection,
        "leads",
        user_id=user,
        **({"phone": anonymised_placeholder()} if gone else {}),
        name=anonymised_placeholder() if gone else "Cliente Exemplo",
        interest="LC Web",
        created_at=at,
    )
    appointment = insert(
        connection, "appointments", user_id=user, status="done", scheduled_at=at, created_at=at
    )
    service = insert(
        connection,
        "services",
        user_id=user,
        status="cancelled",
        contracted_at=at,
        expires_at=at,
    )
    certificate = insert(
        connection,
        "certificates",
        user_id=user,
        service_id=service,
        issued_at=at,
        expires_at=at,
        status="expired",
    )
    put(
        connection,
        "pipeline.row_history",
        table_name="appointments",
        row_id=appointment,
        column_name="scheduled_at",
        old_value=at.isoformat(),
        new_value="2026-03-02 12:00:00+00",
        changed_at=at,
    )
    put(
        connection,
        "pipeline.external_tasks",
        task_id=(task := uuid4()),
        user_id=user,
        system="pipedrive",
        state="confirmed",
        created_at=at,
        confirmed_at=at,
    )
    if gone:
        for table, row_id, rule in (
            ("users", user, "users_inactive"),
            ("leads", lead, "leads_inactive"),
        ):
            put(
                connection,
                "pipeline.anonymized_rows",
                table_name=table,
                row_id=row_id,
                rule=rule,
                anonymized_at=at,
            )
            put(
                connection,
                "pipeline.retention_exemptions",
                rule=rule,
                table_name=table,
                row_id=row_id,
                basis="open_ticket",
                first_seen_at=at,
                last_seen_at=at,
            )
        put(
            connection,
            "pipeline.guard_refusals",
            table_name="users",
            row_id=user,
            column_name="phone",
            refused_role="gatte_test_chatbot",
        )
    return Client(
        {
            "users": user,
            "conversations": conversation,
            "messages": message,
            "tickets": ticket,
            "leads": lead,
            "appointments": appointment,
            "services": service,
            "certificates": certificate,
            "sender": sender,
            "change": change,
            "edit": edit,
            "task": task,
        }
    )
