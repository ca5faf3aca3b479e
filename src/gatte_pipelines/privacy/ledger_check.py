"""Whether anybody changed the privacy ledger, here or outside: both copies against each other.

Reads both in order and keeps neither, so its memory does not grow with the ledger. Nothing is
repaired here.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from psycopg.rows import tuple_row

from gatte_pipelines.database.statements import read_statements
from gatte_pipelines.errors import PermanentError
from gatte_pipelines.privacy.entries import GENESIS, Entry, parse_line
from gatte_pipelines.privacy.outside_copy import OutsideCopy

if TYPE_CHECKING:
    import psycopg

_SQL = read_statements(Path(__file__).with_name("ledger.sql"))

DATABASE, OUTSIDE = "Banco", "Cópia externa"
MAX_PROBLEMS = 100
"""More are counted; by then the officer compares with a backup anyway."""

PATIENCE_SECONDS = 5.0
"""An outcome reaches the outside copy with the next entry of its run, a second or so later."""

_POLL_SECONDS = 0.1
_ROWS_AT_A_TIME = 1_000

# What is wrong with one entry, with several in a row.
_MISSING = "falta a entrada {}", "faltam as entradas {} a {}"
_MISSING_AT_END = (
    "falta a entrada {}, que o banco tem: foi cortada, ou uma execução não terminou de gravar",
    "faltam as entradas {} a {}, que o banco tem: foram cortadas, ou uma execução não terminou de "
    "gravar",
)
_CHANGED = "a entrada {} foi alterada", "as entradas {} a {} foram alteradas"
_UNCHAINED = (
    "a entrada {} não continua a anterior: a cadeia se rompe ali",
    "as entradas {} a {} não continuam as anteriores: a cadeia se rompe ali",
)
_SURPLUS = "a entrada {} não pertence à cadeia", "as entradas {} a {} não pertencem à cadeia"
_DIFFERENT = (
    "a entrada {} não é a mesma no banco e na cópia externa",
    "as entradas {} a {} não são as mesmas no banco e na cópia externa",
)
_UNREADABLE = "a linha {} não pode ser lida", "as linhas {} a {} não podem ser lidas"
_HALF = "a linha {} está pela metade", "as linhas {} a {} estão pela metade"
_OUT_OF_ORDER = (
    "a entrada {} está repetida ou fora de ordem",
    "as entradas {} a {} estão repetidas ou fora de ordem",
)


@dataclass(frozen=True, kw_only=True)
class Verification:
    """What a check of the ledger found.

    Attributes:
        entries: Entries in the database.
        outside_entries: Lines of the outside copy.
        head_hash: Hash of the last entry in the database; all before it follow from it.
        problems: One sentence in Portuguese each, with numbers of entries and lines only.
    """

    entries: int
    outside_entries: int
    head_hash: str
    problems: tuple[str, ...]


def verify(
    connection: psycopg.Connection[Any],
    outside: OutsideCopy,
    *,
    patience_seconds: float = PATIENCE_SECONDS,
) -> Verification:
    """Check every entry, the chain of each copy, and one copy against the other.

    Args:
        connection: Outside a transaction.
        outside: The copy outside the database.
        patience_seconds: How long a run that goes on now may take to write outside what it has
            already committed, before that counts as missing.

    Raises:
        PermanentError: The outside copy cannot be read at all.
    """
    seq, head_hash, size = _wait_for_outside(connection, outside, patience_seconds)
    if seq == 0 and not outside.is_there():
        return Verification(entries=0, outside_entries=0, head_hash=head_hash, problems=())
    findings = _Findings()
    lines = _OutsideLines(outside, findings, seq, size)
    here, there = _Chain(DATABASE, findings), _Chain(OUTSIDE, findings)
    with connection.transaction(), connection.cursor("ledger", row_factory=tuple_row) as cursor:
        cursor.itersize = _ROWS_AT_A_TIME
        cursor.execute(_SQL["read_until"], {"ledger_seq": seq})
        rows = (Entry(*row) for row in cursor)
        entries = 0
        for row, line in _pair(rows, iter(lines)):
            entries += row is not None
            is_good = here.check(row) if row else False
            is_good_there = there.check(line) if line else False
            if row and line and is_good and is_good_there and row != line:
                findings.add(None, _DIFFERENT, row.seq)
    there.end(seq)
    here.end(there.last_seq)
    return Verification(
        entries=entries,
        outside_entries=lines.count,
        head_hash=head_hash,
        problems=findings.sentences(),
    )


def _wait_for_outside(
    connection: psycopg.Connection[Any], outside: OutsideCopy, patience_seconds: float
) -> tuple[int, str, int]:
    """Where the database ends, and how long the outside copy was before that was asked.

    What stands within that length was committed before, so the database must have it.
    """
    deadline = time.monotonic() + patience_seconds
    while True:
        size = outside.size_bytes() if outside.is_there() else 0
        with connection.transaction(), connection.cursor(row_factory=tuple_row) as cursor:
            seq, head_hash = cursor.execute(_SQL["read_tail"]).fetchone() or (0, GENESIS)
        if seq == 0 or _reaches(outside, seq) or time.monotonic() >= deadline:
            return seq, head_hash, size
        time.sleep(_POLL_SECONDS)


def _reaches(outside: OutsideCopy, seq: int) -> bool:
    try:
        return outside.head()[0] >= seq
    except PermanentError:
        if not outside.is_there():
            raise
        return True  # a broken last line: no waiting mends it


class _Findings:
    """Problems in the order they are met; the same one of consecutive entries is one sentence."""

    def __init__(self) -> None:
        self._found: list[tuple[str | None, tuple[str, str], int, int]] = []
        self._newest: dict[tuple[str | None, tuple[str, str]], int] = {}
        self._left_out = 0

    def add(self, where: str | None, what: tuple[str, str], first: int, last: int = 0) -> None:
        last = last or first
        key = where, what
        index = self._newest.get(key)
        if index is not None and self._found[index][3] == first - 1:
            self._found[index] = where, what, self._found[index][2], last
        elif len(self._found) < MAX_PROBLEMS:
            self._newest[key] = len(self._found)
            self._found.append((where, what, first, last))
        else:
            self._left_out += 1

    def sentences(self) -> tuple[str, ...]:
        sentences = []
        for where, (one, several), first, last in self._found:
            said = one.format(first) if first == last else several.format(first, last)
            sentences.append(f"{where}: {said}." if where else f"{said[0].upper()}{said[1:]}.")
        if self._left_out:
            sentences.append(f"E mais {self._left_out} problemas.")
        return tuple(sentences)


class _Chain:
    """One copy, entry by entry with rising numbers."""

    def __init__(self, name: str, findings: _Findings) -> None:
        self._name = name
        self._findings = findings
        self.last_seq = 0
        self._last_hash: str = GENESIS
        self._is_last_good = True

    def check(self, entry: Entry) -> bool:
        """Whether the entry is whole; what is wrong with it, and missing before, is noted."""
        if entry.seq < 1:
            self._findings.add(self._name, _SURPLUS, entry.seq)
            return False
        follows = entry.seq == self.last_seq + 1
        if not follows:
            self._findings.add(self._name, _MISSING, self.last_seq + 1, entry.seq - 1)
        is_good = entry.is_whole
        if not is_good:
            self._findings.add(self._name, _CHANGED, entry.seq)
        elif follows and self._is_last_good and entry.previous_hash != self._last_hash:
            self._findings.add(self._name, _UNCHAINED, entry.seq)
        self.last_seq, self._last_hash, self._is_last_good = entry.seq, entry.hash, is_good
        return is_good

    def end(self, other_end: int) -> None:
        """Note what only the other copy has at its end."""
        if other_end > self.last_seq:
            what = _MISSING_AT_END if self._name == OUTSIDE else _MISSING
            self._findings.add(self._name, what, self.last_seq + 1, other_end)


class _OutsideLines:
    """Entries of the outside copy with rising numbers; every other line is noted.

    Lines written after the check began, of entries newer than what it looks at, are left alone.
    """

    def __init__(self, outside: OutsideCopy, findings: _Findings, seq: int, size: int) -> None:
        self._outside = outside
        self._findings = findings
        self._seq = seq
        self._size = size
        self.count = 0

    def __iter__(self) -> Iterator[Entry]:
        last = 0
        for number, offset, line in self._outside.lines():
            if not line.endswith(b"\n"):
                if offset < self._size:
                    self._findings.add(OUTSIDE, _HALF, number)
                continue
            entry = parse_line(line[:-1])
            if offset >= self._size and (entry is None or entry.seq > self._seq):
                return
            self.count += 1
            if entry is None:
                self._findings.add(OUTSIDE, _UNREADABLE, number)
            elif entry.seq <= last:
                self._findings.add(OUTSIDE, _OUT_OF_ORDER, entry.seq)
            else:
                last = entry.seq
                yield entry


def _pair(
    here: Iterator[Entry], there: Iterator[Entry]
) -> Iterator[tuple[Entry | None, Entry | None]]:
    """Both copies side by side, by number; None where one has not got it."""
    row, line = next(here, None), next(there, None)
    while row or line:
        if row and line and row.seq == line.seq:
            yield row, line
            row, line = next(here, None), next(there, None)
        elif line is None or (row and row.seq < line.seq):
            yield row, None
            row = next(here, None)
        else:
            yield None, line
            line = next(there, None)
