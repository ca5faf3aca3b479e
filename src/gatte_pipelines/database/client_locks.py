"""The lock of who is whom: shared by what only adds to clients, exclusive to what rearranges them.

An advisory lock of the transaction, the first that one takes; locks on rows come after it.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from gatte_pipelines.database.statements import read_statements

if TYPE_CHECKING:
    import psycopg

_SQL = read_statements(Path(__file__).with_name("client_locks.sql"))


def share_lock(cursor: psycopg.Cursor[Any]) -> None:
    """Keep what must run alone waiting until this transaction ends.

    Args:
        cursor: In a transaction, before any lock on a row.
    """
    cursor.execute(_SQL["share"])


def exclusive_lock(cursor: psycopg.Cursor[Any]) -> None:
    """Wait for all who share, and keep them waiting until this transaction ends.

    For what joins, divides or anonymises clients, or changes messages that another transaction may
    just be inserting.

    Args:
        cursor: In a transaction, before any lock on a row.
    """
    cursor.execute(_SQL["exclude"])
