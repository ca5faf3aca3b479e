"""Calls to another system that were begun, so that a call whose end nobody knows is not made twice.

Begun before the call in a transaction of its own; settled in the one that writes its confirmed
result. How to find out what became of a call belongs to the domain that made it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

from psycopg.rows import class_row

from gatte_pipelines.database.statements import read_statements

if TYPE_CHECKING:
    import psycopg

_SQL = read_statements(Path(__file__).with_name("outbox.sql"))


@dataclass(frozen=True, kw_only=True)
class Intent:
    """A call that was begun.

    Attributes:
        system: The other system, such as ``pipedrive``.
        local_id: The row of ours that it is about.
        action: What the call does, in the words of the domain.
        begun_at: When it was first begun.
        attempts: How often it was, this time included.
    """

    system: str
    local_id: UUID
    action: str
    begun_at: datetime
    attempts: int

    @property
    def is_new(self) -> bool:
        """Whether it was never begun before: nothing can be there yet."""
        return self.attempts == 1


def begin(
    cursor: psycopg.Cursor[Any], system: str, local_id: UUID, action: str, *, now: datetime
) -> Intent:
    """Note that a call is about to be made; commit before it is.

    One that stands there already keeps its ``begun_at`` and counts one attempt more.

    Args:
        cursor: In a transaction of the caller.
        system: The other system.
        local_id: The row of ours.
        action: What the call does.
        now: The instant by the clock.
    """
    values = {
        "sync_system": system,
        "local_id": local_id,
        "sync_action": action,
        "instant": now,
    }
    with cursor.connection.cursor(row_factory=class_row(Intent)) as own:
        (intent,) = own.execute(_SQL["begin"], values).fetchall()
    return intent


def settle(cursor: psycopg.Cursor[Any], system: str, local_id: UUID, action: str) -> None:
    """Forget a call whose result is confirmed; in the transaction that writes the result."""
    cursor.execute(
        _SQL["settle"], {"sync_system": system, "local_id": local_id, "sync_action": action}
    )


def read_open(cursor: psycopg.Cursor[Any], system: str) -> list[Intent]:
    """The calls to a system whose end is not known, the oldest first."""
    with cursor.connection.cursor(row_factory=class_row(Intent)) as own:
        return own.execute(_SQL["read_open"], {"sync_system": system}).fetchall()
