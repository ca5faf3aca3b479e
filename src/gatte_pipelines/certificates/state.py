"""Days to expire and status of certificates, once a business date.

Only rows that change, in chunks; a date is noted as done once nothing is left. What is due to be
told belongs to ``evaluation``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from psycopg.errors import DeadlockDetected, LockNotAvailable
from psycopg.rows import namedtuple_row

from gatte_pipelines.business_time import ZONE, business_date
from gatte_pipelines.database.engine import psycopg_connection
from gatte_pipelines.database.statements import read_statements

if TYPE_CHECKING:
    import psycopg
    from sqlalchemy import Connection

_SQL = read_statements(Path(__file__).with_name("state.sql"))

# Below a second each, so that the chatbot never waits long for a certificate.
ROWS_PER_CHUNK = 20_000
LOCK_TIMEOUT = "1s"
PASSES = 3
# How a statement ends that met a writer's lock: on a certificate, or on what triggers note of it.
_HELD = (LockNotAvailable, DeadlockDetected)
# days_to_expire stops changing 30 days after the expiry; a day more, since its date is over then.
_CHANGES_FOR = timedelta(days=31)


@dataclass(frozen=True, kw_only=True)
class Refreshed:
    """What one refresh did.

    Attributes:
        days_changed: Certificates with another ``days_to_expire``.
        expired: Certificates that were valid and are expired.
        locked: Rows that somebody held through every pass; the next run meets them.
        was_done: Whether this business date had been done before.
    """

    days_changed: int = 0
    expired: int = 0
    locked: int = 0
    was_done: bool = False


def refresh(connection: Connection, *, as_of: datetime) -> Refreshed:
    """Bring every certificate to the business date of an instant; a date before the last is none.

    Args:
        connection: To the database, outside a transaction.
        as_of: The instant.
    """
    driver = psycopg_connection(connection)
    on = business_date(as_of)
    with _transaction(driver, as_of) as cursor:
        cursor.execute(_SQL["read_date"])
        row = cursor.fetchone()
        last: date | None = row.business_date if row else None
        if last is not None and last >= on:
            was_done, is_today = True, last == on
        else:
            was_done = is_today = False
    if was_done:
        expired, locked = _expire_changed(driver, as_of) if is_today else (0, 0)
        return Refreshed(expired=expired, locked=locked, was_done=True)
    starts_at = None if last is None else _start_of(last - _CHANGES_FOR)
    days_changed = expired = locked = 0
    for _ in range(PASSES):
        changed, left = _refresh_days(driver, as_of, starts_at)
        days_changed += changed
        ended, unexpired = _expire(driver, as_of, starts_at)
        expired += ended
        locked = left + unexpired
        if not locked:
            break
    ended, left = _expire_changed(driver, as_of)
    expired += ended
    locked = max(locked, left)
    if not locked:
        with _transaction(driver, as_of) as cursor:
            cursor.execute(_SQL["write_date"])
    return Refreshed(days_changed=days_changed, expired=expired, locked=locked)


def _refresh_days(
    driver: psycopg.Connection, as_of: datetime, starts_at: datetime | None
) -> tuple[int, int]:
    """One pass over what may have changed: rows changed, and rows that somebody held."""
    changed = held = 0
    begins: datetime | str = "-infinity" if starts_at is None else starts_at
    # Boundaries stay text: a certificate may expire in a year that Python has not.
    while True:
        with _transaction(driver, as_of) as cursor:
            cursor.execute(
                _SQL["next_boundary"], {"starts_at": begins, "page_size": ROWS_PER_CHUNK}
            )
            row = cursor.fetchone()
        ends: str = row.boundary if row and row.boundary else "infinity"
        span = {"starts_at": begins, "ends_at": ends}
        try:
            with _transaction(driver, as_of) as cursor:
                cursor.execute(_SQL["refresh_days"], span)
                changed += cursor.rowcount
        except _HELD:
            with _transaction(driver, as_of) as cursor:
                cursor.execute(_SQL["refresh_unlocked_days"], span)
                changed += cursor.rowcount
                cursor.execute(_SQL["count_stale_days"], span)
                row = cursor.fetchone()
                held += row.stale if row else 0
        if ends == "infinity":
            return changed, held
        begins = ends


def _expire(
    driver: psycopg.Connection, as_of: datetime, starts_at: datetime | None
) -> tuple[int, int]:
    """One pass over valid certificates whose last day is over: those ended, and those held."""
    expired = 0
    span = {
        "starts_at": "-infinity" if starts_at is None else starts_at,
        "page_size": ROWS_PER_CHUNK,
    }
    ended = ROWS_PER_CHUNK
    while ended == ROWS_PER_CHUNK:
        try:
            with _transaction(driver, as_of) as cursor:
                cursor.execute(_SQL["expire"], span)
                ended = cursor.rowcount
        except _HELD:
            break
        expired += ended
    return expired, _count_unexpired(driver, as_of, span)


def _expire_changed(driver: psycopg.Connection, as_of: datetime) -> tuple[int, int]:
    """Those written since the last run whose last day is over: those ended, and those held."""
    try:
        with _transaction(driver, as_of) as cursor:
            cursor.execute(_SQL["expire_changed"])
            return cursor.rowcount, 0
    except _HELD:
        return 0, _count_unexpired(driver, as_of, {"starts_at": "-infinity"})


def _count_unexpired(driver: psycopg.Connection, as_of: datetime, span: Mapping[str, Any]) -> int:
    with _transaction(driver, as_of) as cursor:
        cursor.execute(_SQL["count_unexpired"], span)
        row = cursor.fetchone()
        return row.stale if row else 0


def _start_of(day: date) -> datetime:
    return datetime.combine(day, time(), ZONE)


@contextmanager
def _transaction(driver: psycopg.Connection, as_of: datetime) -> Iterator[psycopg.Cursor[Any]]:
    with driver.transaction(), driver.cursor(row_factory=namedtuple_row) as cursor:
        driver.execute(
            "select set_config('gatte.as_of', %s, true), "
            "set_config('lock_timeout', %s, true), set_config('jit', 'off', true)",
            [as_of.isoformat(), LOCK_TIMEOUT],
        )
        yield cursor
