"""Holds: the officer keeps a subject or a row, whatever its age, until a date or a release.

What a hold stops belongs to the rules of ``retention`` and ``subjects``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

from psycopg import sql
from psycopg.rows import class_row

from gatte_pipelines.database.names import NINE
from gatte_pipelines.database.statements import read_statements
from gatte_pipelines.errors import BadInputError, PermanentError
from gatte_pipelines.privacy.ledger import Ledger

if TYPE_CHECKING:
    import psycopg

_SQL = read_statements(Path(__file__).with_name("holds.sql"))


@dataclass(frozen=True, kw_only=True)
class Hold:
    """One hold. Reason and owner are free text of people: shown to the officer, never logged."""

    hold_id: UUID
    table_name: str
    row_id: UUID
    reason: str = field(repr=False)
    owner: str = field(repr=False)
    placed_at: datetime
    ends_at: datetime | None
    released_at: datetime | None


def place_hold(
    connection: psycopg.Connection[Any],
    ledger: Ledger,
    *,
    table: str,
    row_id: UUID,
    reason: str,
    owner: str,
    ends_at: datetime | None,
    at: datetime,
) -> UUID:
    """Hold a row of one of the nine tables; on ``users`` everything of the subject.

    It waits for a chunk of retention that has the row, and stands before the next one begins. A
    user that was merged into another is held as that one.

    Args:
        connection: Outside a transaction; not the ledger's.
        ledger: Gets an entry with ids only.
        table: One of the nine.
        row_id: Its id.
        reason: Why; not blank.
        owner: Who answers for it; not blank.
        ends_at: When it ends by itself; None: by release only.
        at: Now.

    Returns:
        The id by which it is released.

    Raises:
        BadInputError: No such table or row, no reason, no owner, or an end that is over.
        PermanentError: The ledger outside the database could not be written or does not fit; the
            message says whether the hold stands.
    """
    if table not in NINE:
        raise _refusal("table", "is none of the nine tables")
    for name, text in (("reason", reason), ("owner", owner)):
        if not any(character.isalnum() for character in text):
            raise _refusal(name, "must say something")
        if "\0" in text:
            raise _refusal(name, "holds a NUL character")
    if ends_at is not None and ends_at <= at:
        raise _refusal("ends_at", "must lie in the future")
    hold_id = uuid4()
    with connection.transaction(), connection.cursor() as cursor:
        held_id = _lock_row(cursor, table, row_id)
        values = {
            "hold_id": hold_id,
            "held_table": table,
            "row_id": held_id,
            "hold_reason": reason.strip(),
            "hold_owner": owner.strip(),
            "placed_at": at,
            "ends_at": ends_at,
        }
        cursor.execute(_SQL["insert_hold"], values)
        body = {"hold_id": hold_id, "table": table, "row_id": held_id, "ends_at": ends_at}
        ledger.append_within(cursor, "hold", body, at=at)
    _carry_out(ledger, f"hold {hold_id} stands")
    return hold_id


def release_hold(
    connection: psycopg.Connection[Any], ledger: Ledger, *, hold_id: UUID, at: datetime
) -> None:
    """End a hold now; the next run meets what it kept.

    Args:
        connection: Outside a transaction; not the ledger's.
        ledger: Gets an entry with the id only.
        hold_id: As `place_hold` returned it.
        at: Now.

    Raises:
        BadInputError: There is no such hold, or it was released before.
        PermanentError: As `place_hold`.
    """
    with connection.transaction(), connection.cursor() as cursor:
        cursor.execute(_SQL["release_hold"], {"hold_id": hold_id, "released_at": at})
        if cursor.fetchone() is None:
            raise _refusal("hold_id", "there is no such hold, or it was released before")
        ledger.append_within(cursor, "release", {"hold_id": hold_id}, at=at)
    _carry_out(ledger, f"hold {hold_id} is released")


def read_holds(
    connection: psycopg.Connection[Any], *, in_force_at: datetime | None = None
) -> list[Hold]:
    """Holds, oldest first.

    Args:
        connection: To the database.
        in_force_at: Only those that hold something at this instant; None: all that ever were.
    """
    with connection.transaction(), connection.cursor(row_factory=class_row(Hold)) as cursor:
        cursor.execute(_SQL["read_holds"], {"in_force_at": in_force_at})
        return cursor.fetchall()


def _lock_row(cursor: psycopg.Cursor[Any], table: str, row_id: UUID) -> UUID:
    """The id of the row that is there, locked against a chunk that would change it."""
    for held_id in (row_id, _find_survivor(cursor, table, row_id)):
        statement = sql.SQL("select id from {} where id = %s for no key update").format(
            sql.Identifier("public", table)
        )
        if held_id and cursor.execute(statement, (held_id,)).fetchone():
            return held_id
    raise _refusal("row_id", f"there is no such row in {table}")


def _find_survivor(cursor: psycopg.Cursor[Any], table: str, row_id: UUID) -> UUID | None:
    if table != "users":
        return None
    row = cursor.execute(_SQL["find_survivor"], {"row_id": row_id}).fetchone()
    return None if row is None else UUID(str(row[0]))


def _carry_out(ledger: Ledger, done: str) -> None:
    try:
        ledger.catch_up()
    except PermanentError as error:
        raise PermanentError(
            f"{done}, and its entry waits to be written outside: {error.message}"
        ) from None


def _refusal(field_name: str, reason: str) -> BadInputError:
    return BadInputError("hold", None, field_name, reason)
