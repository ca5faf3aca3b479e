"""The privacy ledger: what was destroyed and why, in the database and outside of it.

An intent is committed in the database and written with fsync to a folder that no restore of the
database brings back in time; only then may its caller destroy anything. What an entry may say
belongs to ``entries``, comparing the two copies to ``ledger_check``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from psycopg.errors import LockNotAvailable
from psycopg.pq import TransactionStatus
from psycopg.rows import tuple_row

from gatte_pipelines.database.statements import read_statements
from gatte_pipelines.errors import PermanentError, RetryableError
from gatte_pipelines.privacy.entries import ANNOUNCEMENTS, GENESIS, INTENT, Entry, next_entry
from gatte_pipelines.privacy.ledger_check import Verification, verify
from gatte_pipelines.privacy.outside_copy import OutsideCopy

if TYPE_CHECKING:
    import psycopg

    AnyConnection = psycopg.Connection[Any]
    AnyCursor = psycopg.Cursor[Any]

__all__ = [
    "Entry",
    "Ledger",
    "OutsideCopy",
    "Verification",
    "import_missing",
    "read_missing",
    "verify",
]

_SQL = read_statements(Path(__file__).with_name("ledger.sql"))

WAIT_SECONDS = 60.0
"""A chunk holds the chain for about a second, an import after a restore for longer."""

# In such a state a "commit" would only end a savepoint.
_BUSY = (TransactionStatus.ACTIVE, TransactionStatus.INTRANS, TransactionStatus.INERROR)
# Entries carried outside with one fsync.
_PAGE = 1_000


class Ledger:
    """Continues the chain, in the database first and outside right after.

    Args:
        connection: One of its own, outside a transaction: what `append` writes must stand whatever
            becomes of the caller's transaction.
        outside: The copy outside the database.
        wait_seconds: How long another process may hold the chain before ours gives up.
    """

    def __init__(
        self, connection: AnyConnection, outside: OutsideCopy, *, wait_seconds: float = WAIT_SECONDS
    ) -> None:
        self._connection = connection
        self._outside = outside
        self._lock_timeout = f"{wait_seconds * 1000:.0f}ms"
        self._alive: int | None = None

    def append(self, kind: str, body: Mapping[str, Any], *, at: datetime) -> int:
        """Add one entry, committed here and safely written outside, with older ones it lacks.

        Returns:
            Its place in the chain, with which an outcome names its intent.

        Raises:
            BadInputError: The body says what the ledger may not hold (`entries.check_body`).
            PermanentError: The outside copy cannot be written, is ahead of this database or does
                not fit it. The caller must then destroy nothing.
            RetryableError: Another process held the ledger for too long.
        """
        with _nothing_destroyed():
            with self._transaction("lock_chain") as cursor:
                self._let_go(cursor)
                seq = self._insert(cursor, kind, body, at)
                if kind == INTENT:
                    cursor.execute(_SQL["keep_alive"], {"ledger_seq": seq})
                    self._alive = seq
            self._carry_out()
        return seq

    def append_within(
        self, cursor: AnyCursor, kind: str, body: Mapping[str, Any], *, at: datetime
    ) -> int:
        """Add one entry that stands or falls with the caller's transaction.

        Outside it arrives with the next `append` or `catch_up`. The chain is locked until the
        transaction ends: call it last, and not `append` of this process before that end.

        Returns:
            Its place in the chain.

        Raises:
            BadInputError: As `append`; also for an announcement, which must stand before.
            PermanentError: The outside copy cannot be read, is ahead of this database or does not
                fit it. The caller must then roll back.
        """
        if kind in ANNOUNCEMENTS:
            raise PermanentError(f"an entry of kind {kind} must be committed before what it says")
        if (
            cursor.connection.autocommit
            and cursor.connection.info.transaction_status == TransactionStatus.IDLE
        ):
            raise RuntimeError("append_within was called outside a transaction")
        with _nothing_destroyed(), cursor.connection.cursor(row_factory=tuple_row) as own:
            own.execute(_SQL["lock_chain"])
            return self._insert(own, kind, body, at)

    def catch_up(self) -> int:
        """Write outside what is committed here and missing there; how many entries.

        Raises:
            PermanentError: As `append`.
            RetryableError: As `append`.
        """
        return self._carry_out()

    def close_interrupted(self, *, at: datetime) -> int:
        """Mark the intents that have no outcome and whose process is gone; how many.

        Nothing was destroyed under them: an outcome commits together with what it says.

        Raises:
            PermanentError: As `append`.
            RetryableError: As `append`.
        """
        with self._transaction("lock_chain") as cursor:
            self._let_go(cursor)
            found = cursor.execute(_SQL["find_open_intents"]).fetchall()
            interrupted = [seq for seq, is_interrupted in found if is_interrupted]
            alive = [seq for seq, is_interrupted in found if not is_interrupted]
            for seq in interrupted:
                self._insert(cursor, "interrupted", {"intent": seq}, at)
            closed_to = min(alive) - 1 if alive else self._tail(cursor)[0]
            cursor.execute(_SQL["note_closed"], {"ledger_seq": closed_to})
        self._carry_out()
        return len(interrupted)

    def _insert(self, cursor: AnyCursor, kind: str, body: Mapping[str, Any], at: datetime) -> int:
        """Add an entry to the chain, which the caller has locked."""
        seq, previous = self._tail(cursor)
        # Checked before anything is added: an entry beside those that a restore took away would
        # part the two copies for good.
        self._assert_outside_fits(cursor, seq, previous)
        entry = next_entry(seq + 1, previous, kind, body, at)
        _insert_entry(cursor, entry)
        return entry.seq

    def _carry_out(self) -> int:
        with self._transaction("lock_outside") as cursor:
            seq, previous = self._tail(cursor)
            done = self._assert_outside_fits(cursor, seq, previous)
            carried = 0
            while True:
                rows = cursor.execute(
                    _SQL["read_after"], {"ledger_seq": done, "page_size": _PAGE}
                ).fetchall()
                entries = [Entry(*row) for row in rows]
                # Also without entries: they may have been written by a process that was killed
                # before it waited for the disk.
                self._outside.append(entries)
                carried += len(entries)
                if len(entries) < _PAGE:
                    return carried
                done = entries[-1].seq

    def _tail(self, cursor: AnyCursor) -> tuple[int, str]:
        return cursor.execute(_SQL["read_tail"]).fetchone() or (0, GENESIS)

    def _assert_outside_fits(self, cursor: AnyCursor, seq: int, previous: str) -> int:
        """The outside copy must be a beginning of the chain here; where it ends."""
        if seq == 0:
            self._outside.create()
        outside_seq, outside_hash = self._outside.head()
        _assert_continues(cursor, (seq, previous), (outside_seq, outside_hash))
        return outside_seq

    def _let_go(self, cursor: AnyCursor) -> None:
        """The intent before this call has its outcome by now, or never gets one."""
        if self._alive is not None:
            cursor.execute(_SQL["let_go"], {"ledger_seq": self._alive})
            self._alive = None

    @contextmanager
    def _transaction(self, lock: str) -> Iterator[AnyCursor]:
        if self._connection.info.transaction_status in _BUSY:
            raise RuntimeError("the ledger's connection is inside a transaction")
        try:
            with (
                self._connection.transaction(),
                self._connection.cursor(row_factory=tuple_row) as cursor,
            ):
                cursor.execute(_SQL["bound_waiting"], {"lock_timeout": self._lock_timeout})
                cursor.execute(_SQL[lock])
                yield cursor
        except LockNotAvailable:
            raise RetryableError("another run holds the privacy ledger") from None


def read_missing(connection: AnyConnection, outside: OutsideCopy) -> list[Entry]:
    """Entries that the outside copy has and the database lacks: a backup was restored.

    Raises:
        PermanentError: The outside copy cannot be read, its chain is broken, or it does not
            continue what the database has.
    """
    with connection.transaction(), connection.cursor(row_factory=tuple_row) as cursor:
        return _read_missing(cursor, outside)


def import_missing(connection: AnyConnection, outside: OutsideCopy) -> list[Entry]:
    """Write the entries that only the outside copy has into the database, all or none.

    Args:
        connection: Outside a transaction.
        outside: The copy outside the database.

    Returns:
        The entries, in their order.

    Raises:
        PermanentError: As `read_missing`.
    """
    with connection.transaction(), connection.cursor(row_factory=tuple_row) as cursor:
        cursor.execute(_SQL["lock_chain"])
        missing = _read_missing(cursor, outside)
        for entry in missing:
            _insert_entry(cursor, entry)
    return missing


def _assert_continues(cursor: AnyCursor, here: tuple[int, str], outside: tuple[int, str]) -> None:
    """Refuse an outside copy that is no beginning of the chain in the database.

    Args:
        cursor: To the database.
        here: Place and hash of the last entry in the database.
        outside: The same of the outside copy.

    Raises:
        PermanentError: It is ahead, or says something else.
    """
    (seq, last_hash), (outside_seq, outside_hash) = here, outside
    if outside_seq > seq:
        raise PermanentError(
            f"the ledger outside the database (GATTE_LEDGER_URL) has entries up to {outside_seq}, "
            f"the database up to {seq}: a backup was restored; run gatte lgpd restore-replay "
            "before anything else"
        )
    known = last_hash if outside_seq == seq else _read_hash(cursor, outside_seq)
    if known != outside_hash:
        raise _forked(outside_seq)


def _read_missing(cursor: AnyCursor, outside: OutsideCopy) -> list[Entry]:
    seq, previous = cursor.execute(_SQL["read_tail"]).fetchone() or (0, GENESIS)
    outside_seq, outside_hash = outside.head()
    if outside_seq <= seq:
        _assert_continues(cursor, (seq, previous), (outside_seq, outside_hash))
        return []
    missing: list[Entry] = []
    for entry in outside.read():
        if entry.seq < seq:
            continue
        if entry.seq == seq:
            if entry.hash != previous:
                raise _forked(seq)
            continue
        if entry.seq != seq + len(missing) + 1 or entry.previous_hash != (
            missing[-1].hash if missing else previous
        ):
            raise _forked(entry.seq)
        if not entry.is_known:
            raise PermanentError(
                f"entry {entry.seq} of the ledger outside the database (GATTE_LEDGER_URL) was "
                "changed; run gatte lgpd ledger verify"
            )
        missing.append(entry)
    return missing


def _insert_entry(cursor: AnyCursor, entry: Entry) -> None:
    cursor.execute(
        _SQL["insert_entry"],
        {
            "ledger_seq": entry.seq,
            "ledger_text": entry.text,
            "ledger_previous_hash": entry.previous_hash,
            "ledger_hash": entry.hash,
        },
    )


def _read_hash(cursor: AnyCursor, seq: int) -> str | None:
    if seq == 0:
        return GENESIS
    row = cursor.execute(_SQL["read_hash"], {"ledger_seq": seq}).fetchone()
    return None if row is None else str(row[0])


def _forked(seq: int) -> PermanentError:
    return PermanentError(
        f"the ledger outside the database (GATTE_LEDGER_URL) does not fit the database at entry "
        f"{seq}: run gatte lgpd ledger verify to see where they part; if a backup was restored, "
        "gatte lgpd restore-replay comes before anything else"
    )


@contextmanager
def _nothing_destroyed() -> Iterator[None]:
    """Add to an error what its reader asks first."""
    try:
        yield
    except PermanentError as error:
        if type(error) is not PermanentError:  # bad input says itself what is wrong
            raise
        raise PermanentError(f"{error.message}; nothing was destroyed") from None
