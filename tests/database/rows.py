"""Rows of the nine tables for database tests, made of obviously invented values."""

from __future__ import annotations

import itertools
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import Connection, text

WHEN = "2026-03-02T12:00:00+00:00"

_numbers = itertools.count(1)


def insert(connection: Connection, table: str, **values: Any) -> UUID:
    """Insert a row with ``values`` and whatever else the table asks for; its id."""
    row = {"id": uuid4()} | _REQUIRED[table] | values
    if table in {"users", "leads"}:
        row.setdefault("phone", f"+55119{next(_numbers):08}")
    names = ", ".join(row)
    places = ", ".join(f":{name}" for name in row)
    connection.execute(
        text(f"insert into {table} ({names}) values ({places})"),  # noqa: S608 - names of ours
        row,
    )
    return UUID(str(row["id"]))


def whole_client(connection: Connection) -> dict[str, UUID]:
    """One user with one row in each of the nine; ids by table."""
    ids = {"users": insert(connection, "users", name="Cliente Exemplo")}
    user = ids["users"]
    ids["conversations"] = insert(connection, "conversations", user_id=user)
    conversation = ids["conversations"]
    ids["messages"] = insert(connection, "messages", conversation_id=conversation)
    ids["session_context"] = insert(connection, "session_context", conversation_id=conversation)
    ids["tickets"] = insert(connection, "tickets", user_id=user, conversation_id=conversation)
    ids["leads"] = insert(connection, "leads", user_id=user)
    ids["appointments"] = insert(connection, "appointments", user_id=user)
    ids["services"] = insert(connection, "services", user_id=user)
    ids["certificates"] = insert(
        connection, "certificates", user_id=user, service_id=ids["services"]
    )
    return ids


_REQUIRED: dict[str, dict[str, Any]] = {
    "users": {"is_client": True, "created_at": WHEN, "updated_at": WHEN},
    "conversations": {"status": "open", "mode": "menu", "started_at": WHEN},
    "messages": {
        "role": "user",
        "content": "texto de exemplo",
        "is_in_context": True,
        "created_at": WHEN,
    },
    "session_context": {"messages_json": "[]", "ttl_expires_at": WHEN, "updated_at": WHEN},
    "tickets": {
        "protocol": "P-1",
        "title": "título de exemplo",
        "description": "descrição de exemplo",
        "status": "open",
        "priority": "low",
        "created_at": WHEN,
    },
    "leads": {
        "name": "Lead Exemplo",
        "stage": "new",
        "source": "whatsapp_bot",
        "created_at": WHEN,
    },
    "appointments": {
        "type": "demo",
        "scheduled_at": WHEN,
        "duration_min": 30,
        "status": "pending",
        "created_at": WHEN,
    },
    "services": {
        "name": "LC Web Profissional",
        "plan": "profissional",
        "status": "active",
        "contracted_at": WHEN,
    },
    "certificates": {
        "type": "e-CNPJ",
        "issued_at": WHEN,
        "expires_at": WHEN,
        "days_to_expire": 0,
        "status": "valid",
        "alert_sent": False,
    },
}
