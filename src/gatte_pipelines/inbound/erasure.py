"""A subject's records in inbound files and in quarantine: found, cut out, and proven to be gone.

What of a line is the subject's is decided by ``erasure_lines``. Rows of tables belong to privacy,
which is handed this by ``wiring``. Nothing personal leaves this module but in a ``FoundRecord``.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple, cast
from uuid import UUID

from gatte_pipelines.database.statements import read_statements
from gatte_pipelines.errors import PermanentError
from gatte_pipelines.inbound.erasure_lines import Subject
from gatte_pipelines.inbound.ids import MessageIds
from gatte_pipelines.inbound.load import MAX_LINE_BYTES
from gatte_pipelines.landing import ARCHIVE, LandingFile, LandingZone, neutral_name
from gatte_pipelines.personal_data import SubjectKeys
from gatte_pipelines.redaction import redact

if TYPE_CHECKING:
    import psycopg

_SQL = read_statements(Path(__file__).with_name("erasure.sql"))

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_GZIP_MAGIC = b"\x1f\x8b"
# Of a line that is longer than the loader takes, this much is in memory at a time.
_BLOCK_BYTES = 1024 * 1024
# Longer than any key and than any way to write one: a key over a seam of two blocks is not missed.
_SEAM_BYTES = 4096
# Payloads may have 16 MB each.
_PAGE_BYTES = 4 * 1024 * 1024
_PAGE_ROWS = 1000

_BROKEN_GZIP = (EOFError, zlib.error, gzip.BadGzipFile)


@dataclass(frozen=True, kw_only=True)
class FilesRewritten:
    """What a rewrite did, or would do.

    Attributes:
        files: Files with at least one record of the subject.
        records: These records.
        unreadable: Files of which only a part can be read (a gzip that is cut off): what stands in
            the rest, nobody can say. They go when the archive's time is over.
        renamed: Files whose name held the subject, those among them that are left with nothing too.
    """

    files: int
    records: int
    unreadable: int = 0
    renamed: int = 0


@dataclass(frozen=True, kw_only=True)
class FoundRecord:
    """One record of the subject. Personal.

    Attributes:
        place: ``landing/NAME``, ``archive/DAY/NAME`` (numbers in a name are masked), or
            ``quarantine``.
        line: From 1.
        record: A message, a status, a contact, or what else is told of one person, as it came; a
            whole line where it cannot be taken apart, and of a very long one the beginning.
    """

    place: str
    line: int
    record: bytes = field(repr=False)


@dataclass(frozen=True)
class SubjectFiles:
    """Whatever inbound keeps of a subject outside of its tables' columns.

    Whoever rewrites holds the single flight of ``inbound_messages``: a loader that is reading a
    waiting file would load what is being cut out of it.

    Args:
        zone: Where files wait and are archived.
        ids: Mints message ids with ``GATTE_ID_KEY``.
    """

    zone: LandingZone
    ids: MessageIds

    def rewrite(self, keys: SubjectKeys, *, execute: bool) -> FilesRewritten:
        """Cut the subject out of all waiting and archived files; other people's records stay.

        A file keeps its day, and its name unless that holds the subject; where nothing else stood
        in it it is removed. Each is replaced by a rename, so it may be killed at any moment; run
        again it finishes the work.
        A file of which only a part can be read keeps of that part what is not the subject's, and
        of the rest nothing, once the subject was found in it.

        Args:
            keys: What the subject is known by.
            execute: Without it nothing is changed.

        Raises:
            ConfigurationError: The zone cannot be listed.
            PermanentError: A file cannot be read or written.
        """
        subject = Subject(keys, self.ids)
        files = records = unreadable = renamed = 0
        if execute:
            with _named_without_path("the drafts of a former run cannot be removed"):
                self.zone.remove_drafts()
        for _, file in self._iter_files():
            with _named_without_path("a file cannot be read or rewritten"):
                search = _Search(subject)
                try:
                    with self.zone.open(file) as stream:
                        found = sum(1 for _ in search.iter_records(stream, file))
                    if found and execute:
                        self._rewrite_file(subject, file, search)
                    is_in_name = subject.is_in_name(file.name)
                    renamed += is_in_name
                    if is_in_name and execute:
                        self._hide_name(file)
                except FileNotFoundError:
                    continue  # archived meanwhile, and met again there; or past its time and gone
                files += bool(found)
                records += found
                unreadable += search.is_broken
        return FilesRewritten(files=files, records=records, unreadable=unreadable, renamed=renamed)

    def find(self, keys: SubjectKeys) -> Iterator[FoundRecord]:
        """Every record of the subject in waiting and archived files.

        Raises:
            ConfigurationError: The zone cannot be listed.
            PermanentError: A file cannot be read.
        """
        subject = Subject(keys, self.ids)
        for place, file in self._iter_files():
            with _named_without_path("a file cannot be read"):
                try:
                    with self.zone.open(file) as stream:
                        for line, record in _Search(subject).iter_records(stream, file):
                            yield FoundRecord(place=place, line=line, record=record)
                except FileNotFoundError:
                    continue

    def holds(self, keys: SubjectKeys) -> int:
        """How many records of the subject stand in files or in their names: 0 is the proof."""
        subject = Subject(keys, self.ids)
        names = sum(subject.is_in_name(file.name) for _, file in self._iter_files())
        return names + sum(1 for _ in self.find(keys))

    def find_quarantine(
        self, cursor: psycopg.Cursor[Any], keys: SubjectKeys
    ) -> Iterator[FoundRecord]:
        """Every record of the subject in quarantine.

        Args:
            cursor: In a transaction; not to be used for anything else meanwhile.
            keys: What the subject is known by.
        """
        subject = Subject(keys, self.ids)
        for _, line, payload in _iter_quarantine(cursor):
            cut = subject.cut(payload)
            for record in cut.removed if cut is not None else ():
                yield FoundRecord(place="quarantine", line=line, record=record)

    def erase_quarantine(self, cursor: psycopg.Cursor[Any], keys: SubjectKeys) -> int:
        """Delete every row of the quarantine with a record of the subject; how many there were.

        Args:
            cursor: In a transaction that holds the exclusive lock of clients; the caller commits.
            keys: What the subject is known by.
        """
        subject = Subject(keys, self.ids)
        theirs = [row_id for row_id, _, payload in _iter_quarantine(cursor) if subject.cut(payload)]
        cursor.execute(_SQL["delete_quarantined"], {"ids": theirs})
        return cursor.rowcount

    def count_names(self, cursor: psycopg.Cursor[Any], keys: SubjectKeys) -> int:
        """How many rows tell of a file whose name holds the subject.

        Args:
            cursor: In a transaction.
            keys: What the subject is known by.
        """
        names = self._find_names(cursor, keys)
        cursor.execute(_SQL["count_named"], {"old_names": names})
        ((count,),) = cursor.fetchall()
        return int(count)

    def erase_names(self, cursor: psycopg.Cursor[Any], keys: SubjectKeys) -> int:
        """Give the files of these rows names that hold nobody; how many rows there were.

        Args:
            cursor: In a transaction; the caller commits.
            keys: What the subject is known by.
        """
        names = self._find_names(cursor, keys)
        renamed = {"old_names": names, "new_names": [neutral_name(name) for name in names]}
        done = 0
        for statement in ("rename_batches", "rename_quarantined"):
            cursor.execute(_SQL[statement], renamed)
            done += cursor.rowcount
        return done

    def _find_names(self, cursor: psycopg.Cursor[Any], keys: SubjectKeys) -> list[str]:
        subject = Subject(keys, self.ids)
        cursor.execute(
            _SQL["read_names"], {"digits": [f"%{core}%" for core in subject.phone_cores]}
        )
        return sorted(name for (name,) in cursor.fetchall() if subject.is_in_name(name))

    # --- Files -----------------------------------------------------------------------------------

    def _iter_files(self) -> Iterator[tuple[str, LandingFile]]:
        for file in (*self.zone.list_ready()[0], *self.zone.list_webhooks()):
            yield f"landing/{redact(file.name)}", file
        # Listed only now: what was archived since stands in it.
        for day, file in self.zone.list_archived(date.min):
            yield f"{ARCHIVE}/{day.isoformat()}/{redact(file.name)}", file

    def _hide_name(self, file: LandingFile) -> None:
        with suppress(FileNotFoundError):  # nothing else stood in it
            self.zone.hide_name(file)

    def _rewrite_file(self, subject: Subject, file: LandingFile, search: _Search) -> None:
        with self.zone.open(file) as stream:
            is_blank = all(not piece.strip() for piece in _iter_kept(subject, stream, file, search))
        if is_blank:
            self.zone.remove(file.path)
            return
        with self.zone.open(file) as stream, self.zone.replace(file) as target:
            is_gzip = _is_gzip(stream)
            # Without name and time: nothing but the lines is in it.
            packed = gzip.GzipFile("", "wb", fileobj=target, mtime=0) if is_gzip else None
            for piece in _iter_kept(subject, stream, file, search):
                (packed or target).write(piece)
            if packed is not None:
                packed.close()


class _Piece(NamedTuple):
    """A line; or, where it is longer than the loader takes, a part of one."""

    line: int
    text: bytes
    is_whole: bool


class _Search:
    """One pass over a file. ``long_lines`` are those with the subject that came in parts."""

    def __init__(self, subject: Subject) -> None:
        self._subject = subject
        self.long_lines: set[int] = set()
        self.is_broken = False

    def iter_records(self, stream: IO[bytes], file: LandingFile) -> Iterator[tuple[int, bytes]]:
        """The subject's records with their lines."""
        line, seam = 0, b""
        try:
            for piece in _iter_pieces(stream, file):
                if piece.is_whole:
                    cut = self._subject.cut(_body(piece.text))
                    for record in cut.removed if cut is not None else ():
                        yield piece.line, record
                elif piece.line not in self.long_lines:
                    before = seam if piece.line == line else b""
                    if self._subject.is_named_in(before + piece.text):
                        self.long_lines.add(piece.line)
                        yield piece.line, piece.text[:_SEAM_BYTES]
                    line, seam = piece.line, piece.text[-_SEAM_BYTES:]
        except _BROKEN_GZIP:
            self.is_broken = True


def _iter_kept(
    subject: Subject, stream: IO[bytes], file: LandingFile, search: _Search
) -> Iterator[bytes]:
    """The file without the subject; lines in which they are not, byte by byte."""
    try:
        for piece in _iter_pieces(stream, file):
            if not piece.is_whole:
                if piece.line not in search.long_lines:
                    yield piece.text
                continue
            body = _body(piece.text)
            cut = subject.cut(body)
            if cut is None:
                yield piece.text
            elif cut.kept is not None:
                # What stands around it, a byte order mark and the line end, stays.
                before, _, after = piece.text.partition(body)
                yield before + cut.kept + after
    except _BROKEN_GZIP:
        return


def _body(line: bytes) -> bytes:
    """A line as the loader reads it."""
    return line.removeprefix(_BYTE_ORDER_MARK).strip()


def _is_gzip(stream: IO[bytes]) -> bool:
    """Whether the bytes are a gzip, whatever the name says; the stream is at its beginning then."""
    magic = stream.read(len(_GZIP_MAGIC))
    stream.seek(0)
    return magic == _GZIP_MAGIC


def _iter_pieces(stream: IO[bytes], file: LandingFile) -> Iterator[_Piece]:
    """The lines of a file, a document as one line; bounded in memory."""
    source = stream
    if _is_gzip(stream):
        source = cast("IO[bytes]", gzip.GzipFile(fileobj=stream))
    is_document = file.is_document
    read = source.read if is_document else source.readline
    number = 0
    while text := read(MAX_LINE_BYTES + 1):
        number += 1
        if len(text) <= MAX_LINE_BYTES:
            yield _Piece(number, text, is_whole=True)
            continue
        while text:
            yield _Piece(number, text, is_whole=False)
            if text.endswith(b"\n") and not is_document:
                break
            text = read(_BLOCK_BYTES)


@contextmanager
def _named_without_path(what: str) -> Iterator[None]:
    """Say what went wrong with a file, but not its name, in which a phone may stand."""
    try:
        yield
    except OSError as error:
        raise PermanentError(
            f"landing zone: {what} ({type(error).__name__}); check its permissions and the free "
            "space, then run again: what was done is kept"
        ) from None


# --- Quarantine ----------------------------------------------------------------------------------


def _iter_quarantine(cursor: psycopg.Cursor[Any]) -> Iterator[tuple[UUID, int, bytes]]:
    """Id, line and payload of every row, a page at a time."""
    after = UUID(int=0)
    while True:
        cursor.execute(_SQL["read_sizes"], {"after_id": after, "page_size": _PAGE_ROWS})
        sizes: list[tuple[UUID, int]] = cursor.fetchall()
        if not sizes:
            return
        after = sizes[-1][0]
        for page in _iter_pages(sizes):
            cursor.execute(_SQL["read_payloads"], {"ids": page})
            for row_id, line, payload in cursor.fetchall():
                yield row_id, line, bytes(payload)


def _iter_pages(sizes: list[tuple[UUID, int]]) -> Iterator[list[UUID]]:
    page: list[UUID] = []
    weight = 0
    for row_id, size in sizes:
        if page and weight + size > _PAGE_BYTES:
            yield page
            page, weight = [], 0
        page.append(row_id)
        weight += size
    yield page
