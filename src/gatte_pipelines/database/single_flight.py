"""Single flight: one run of a pipeline at a time, by a session advisory lock.

The lock dies with the process that holds it, so a killed run never blocks the next one.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

# "gatt" in ASCII: keeps our locks apart from those of other programs on the same database.
_CLASS = 0x67617474


@contextmanager
def single_flight(connection: Connection, pipeline: str) -> Iterator[bool]:
    """Try to take the lock of ``pipeline`` on this session; True where it was free.

    The connection must stay open for as long as the lock is needed and be outside a transaction.
    """
    key = zlib.crc32(pipeline.encode()) - 2**31
    taken = bool(
        connection.scalar(
            text("select pg_try_advisory_lock(:class, :key)"), {"class": _CLASS, "key": key}
        )
    )
    connection.commit()
    try:
        yield taken
    finally:
        if taken and not connection.closed and not connection.invalidated:
            try:
                connection.rollback()
                connection.execute(
                    text("select pg_advisory_unlock(:class, :key)"), {"class": _CLASS, "key": key}
                )
                connection.commit()
            except DBAPIError:  # the session is gone, and the lock with it
                connection.invalidate()
