"""The nine operational tables exactly as DOC 01 gives them, as typed SQLAlchemy tables.

What this project adds around them (history, identities, triggers) belongs to ``pipeline_tables``
and the migrations; ``docs/decisions/0004`` lists every addition to these nine.
"""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import (
    Boolean,
    Enum,
    ForeignKey,
    Index,
    Integer,
    Numeric,
    String,
    Text,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB, TIMESTAMP
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

# DOC 01 writes TIMESTAMP; a server, a chatbot and a vendor in different zones need the instant.
Timestamp = TIMESTAMP(timezone=True)

ENUMS: dict[str, tuple[str, ...]] = {
    "conversation_status": ("open", "closed", "transferred", "waiting"),
    "conversation_mode": ("menu", "ai_free", "human", "flow"),
    "message_role": ("user", "assistant", "system"),
    "ticket_status": ("open", "in_progress", "resolved", "closed"),
    "ticket_priority": ("low", "medium", "high", "critical"),
    "lead_stage": ("new", "contacted", "qualified", "lost", "converted"),
    "appointment_type": ("demo", "support", "training", "followup"),
    "appointment_status": ("pending", "confirmed", "done", "cancelled"),
    "service_plan": ("essencial", "profissional", "enterprise"),
    "service_status": ("active", "suspended", "cancelled", "trial"),
    "certificate_type": ("e-CPF", "e-CNPJ", "e-NFe", "e-CT"),
    "certificate_status": ("valid", "expired", "revoked", "pending"),
}
"""ENUM types of DOC 01 by the name they have in the database."""


def _enum(name: str) -> Enum:
    return Enum(*ENUMS[name], name=name, create_type=False)


class Base(DeclarativeBase):
    """Declarative base of the nine."""


class User(Base):
    """One person who wrote to GATTE on WhatsApp (DOC 01, users)."""

    __tablename__ = "users"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    phone: Mapped[str] = mapped_column(String(20))
    name: Mapped[str | None] = mapped_column(String(150))
    email: Mapped[str | None] = mapped_column(String(200))
    company: Mapped[str | None] = mapped_column(String(200))
    is_client: Mapped[bool] = mapped_column(Boolean)
    login_token: Mapped[str | None] = mapped_column(String(512))
    created_at: Mapped[datetime] = mapped_column(Timestamp)
    updated_at: Mapped[datetime] = mapped_column(Timestamp)

    __table_args__ = (
        Index("users_phone_key", "phone", unique=True),
        Index("users_created_at_idx", "created_at"),
        Index(
            "users_login_token_idx",
            "updated_at",
            postgresql_where=text("login_token IS NOT NULL"),
        ),
    )


class Conversation(Base):
    """One conversation of a user (DOC 01, conversations)."""

    __tablename__ = "conversations"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id"))
    status: Mapped[str] = mapped_column(_enum("conversation_status"))
    mode: Mapped[str] = mapped_column(_enum("conversation_mode"))
    current_flow: Mapped[str | None] = mapped_column(String(100))
    transferred_to: Mapped[str | None] = mapped_column(String(100))
    started_at: Mapped[datetime] = mapped_column(Timestamp)
    closed_at: Mapped[datetime | None] = mapped_column(Timestamp)
    total_messages: Mapped[int] = mapped_column(Integer, server_default=text("0"))

    __table_args__ = (
        Index("conversations_user_id_status_idx", "user_id", "status"),
        Index(
            "conversations_one_open_per_user_key",
            "user_id",
            unique=True,
            postgresql_where=text("status <> 'closed'::conversation_status"),
        ),
    )


class Message(Base):
    """One message of a conversation (DOC 01, messages). ``content = ''`` means removed."""

    __tablename__ = "messages"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    conversation_id: Mapped[UUID] = mapped_column(ForeignKey("conversations.id"))
    role: Mapped[str] = mapped_column(_enum("message_role"))
    content: Mapped[str] = mapped_column(Text)
    tokens_used: Mapped[int | None] = mapped_column(Integer)
    is_in_context: Mapped[bool] = mapped_column(Boolean)
    intent_detected: Mapped[str | None] = mapped_column(String(100))
    created_at: Mapped[datetime] = mapped_column(Timestamp)

    __table_args__ = (
        Index("messages_conversation_id_created_at_idx", "conversation_id", "created_at"),
        Index(
            "messages_with_content_idx",
            "created_at",
            postgresql_where=text("content <> ''::text"),
        ),
    )


class SessionContext(Base):
    """The AI's memory of a live conversation (DOC 01, session_context)."""

    __tablename__ = "session_context"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    conversation_id: Mapped[UUID] = mapped_column(ForeignKey("conversations.id"), unique=True)
    messages_json: Mapped[list[dict[str, Any]]] = mapped_column(JSONB)
    summary: Mapped[str | None] = mapped_column(Text)
    ttl_expires_at: Mapped[datetime] = mapped_column(Timestamp)
    updated_at: Mapped[datetime] = mapped_column(Timestamp)

    __table_args__ = (Index("session_context_ttl_expires_at_idx", "ttl_expires_at"),)


class Ticket(Base):
    """One support ticket (DOC 01, tickets). Never deleted: audit."""

    __tablename__ = "tickets"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    protocol: Mapped[str] = mapped_column(String(20))
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id"))
    conversation_id: Mapped[UUID] = mapped_column(ForeignKey("conversations.id"))
    title: Mapped[str] = mapped_column(String(300))
    description: Mapped[str] = mapped_column(Text)
    status: Mapped[str] = mapped_column(_enum("ticket_status"))
    priority: Mapped[str] = mapped_column(_enum("ticket_priority"))
    category: Mapped[str | None] = mapped_column(String(100))
    assigned_to: Mapped[str | None] = mapped_column(String(150))
    resolved_at: Mapped[datetime | None] = mapped_column(Timestamp)
    created_at: Mapped[datetime] = mapped_column(Timestamp)

    __table_args__ = (
        Index("tickets_protocol_idx", "protocol"),
        Index("tickets_user_id_status_idx", "user_id", "status"),
        Index("tickets_conversation_id_idx", "conversation_id"),
    )


class Lead(Base):
    """One sales lead (DOC 01, leads)."""

    __tablename__ = "leads"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    user_id: Mapped[UUID | None] = mapped_column(ForeignKey("users.id"))
    name: Mapped[str] = mapped_column(String(150))
    company: Mapped[str | None] = mapped_column(String(200))
    phone: Mapped[str] = mapped_column(String(20))
    email: Mapped[str | None] = mapped_column(String(200))
    interest: Mapped[str | None] = mapped_column(String(200))
    stage: Mapped[str] = mapped_column(_enum("lead_stage"))
    source: Mapped[str] = mapped_column(String(100))
    notes: Mapped[str | None] = mapped_column(Text)
    crm_id: Mapped[str | None] = mapped_column(String(100))
    created_at: Mapped[datetime] = mapped_column(Timestamp)

    __table_args__ = (Index("leads_user_id_idx", "user_id"),)


class Appointment(Base):
    """One appointment with a client (DOC 01, appointments)."""

    __tablename__ = "appointments"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id"))
    type: Mapped[str] = mapped_column(_enum("appointment_type"))
    scheduled_at: Mapped[datetime] = mapped_column(Timestamp)
    duration_min: Mapped[int] = mapped_column(Integer)
    assigned_to: Mapped[str | None] = mapped_column(String(150))
    status: Mapped[str] = mapped_column(_enum("appointment_status"))
    notes: Mapped[str | None] = mapped_column(Text)
    calendar_event_id: Mapped[str | None] = mapped_column(String(200))
    created_at: Mapped[datetime] = mapped_column(Timestamp)

    __table_args__ = (Index("appointments_user_id_idx", "user_id"),)


class Service(Base):
    """One contracted service (DOC 01, services)."""

    __tablename__ = "services"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id"))
    name: Mapped[str] = mapped_column(String(200))
    plan: Mapped[str] = mapped_column(_enum("service_plan"))
    status: Mapped[str] = mapped_column(_enum("service_status"))
    contracted_at: Mapped[datetime] = mapped_column(Timestamp)
    expires_at: Mapped[datetime | None] = mapped_column(Timestamp)
    monthly_value: Mapped[Decimal | None] = mapped_column(Numeric(10, 2))
    notes: Mapped[str | None] = mapped_column(Text)

    __table_args__ = (Index("services_user_id_idx", "user_id"),)


class Certificate(Base):
    """One digital certificate of a service (DOC 01, certificates)."""

    __tablename__ = "certificates"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    service_id: Mapped[UUID] = mapped_column(ForeignKey("services.id"))
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id"))
    type: Mapped[str] = mapped_column(_enum("certificate_type"))
    issued_at: Mapped[datetime] = mapped_column(Timestamp)
    expires_at: Mapped[datetime] = mapped_column(Timestamp)
    days_to_expire: Mapped[int] = mapped_column(Integer)
    status: Mapped[str] = mapped_column(_enum("certificate_status"))
    alert_sent: Mapped[bool] = mapped_column(Boolean)

    __table_args__ = (
        Index("certificates_expires_at_status_idx", "expires_at", "status"),
        Index("certificates_service_id_idx", "service_id"),
        Index("certificates_user_id_idx", "user_id"),
    )
