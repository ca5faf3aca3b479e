"""Closed tickets stay as they are: a digest of each, taken once, shows any later change.

Nothing of ours changes a ticket's texts, so a difference is somebody's doing and is reported.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

from gatte_pipelines.database.statements import read_statements

if TYPE_CHECKING:
    import psycopg

_SQL = read_statements(Path(__file__).with_name("tickets.sql"))

_CHANGED = "protocolo, título, descrição ou data de abertura alterados depois do fechamento"
_GONE = "apagado"


@dataclass(frozen=True, kw_only=True)
class TamperedTicket:
    """A ticket that is not as it was when it was sealed; ``what`` is Portuguese."""

    ticket_id: UUID
    what: str


def seal_closed(connection: psycopg.Connection[Any], at: datetime) -> int:
    """Take the digest of each closed ticket that has none yet; how many.

    Args:
        connection: Outside a transaction.
        at: Now.
    """
    with connection.transaction(), connection.cursor() as cursor:
        return cursor.execute(_SQL["seal_closed"], {"sealed_at": at}).rowcount


def verify(connection: psycopg.Connection[Any]) -> list[TamperedTicket]:
    """Sealed tickets that were changed or deleted since, also those that were opened again."""
    with connection.transaction(), connection.cursor() as cursor:
        rows = cursor.execute(_SQL["find_tampered"]).fetchall()
    return [
        TamperedTicket(ticket_id=ticket_id, what=_GONE if is_gone else _CHANGED)
        for ticket_id, is_gone in rows
    ]
