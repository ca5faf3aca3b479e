"""Load inbound files: decode, merge chunk by chunk, resume where a killed run stopped.

The SQL belongs to ``merge``, decoding to ``envelope``. Nothing here knows who calls.
"""

from __future__ import annotations

import gzip
import queue
import sys
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import IO, TYPE_CHECKING, Any, NamedTuple, cast

import psycopg
from psycopg import errors as pg

from gatte_pipelines.business_time import business_date
from gatte_pipelines.database.engine import psycopg_connection
from gatte_pipelines.errors import (
    BadInputError,
    ConfigurationError,
    PermanentError,
    RetryableError,
)
from gatte_pipelines.inbound import lines
from gatte_pipelines.inbound.chunk import Chunk
from gatte_pipelines.inbound.ids import FINGERPRINT_SETTING, MessageIds, as_uuid8
from gatte_pipelines.inbound.merge import (
    ErasedMeanwhileError,
    MergeRules,
    MustRunAloneError,
    UserAppearedError,
    create_temporary_tables,
    merge_chunk,
    merge_statuses,
    read_erased,
    read_known_users,
)
from gatte_pipelines.inbound.units import Horizon, Rejected
from gatte_pipelines.landing import LandingFile, LandingZone, printable
from gatte_pipelines.redaction import redact
from gatte_pipelines.run_report import Counts, Outcome, RunReport, reason_pt
from gatte_pipelines.safe_errors import safe_error

if TYPE_CHECKING:
    from sqlalchemy import Connection

PIPELINE = "inbound_messages"

# One transaction. Larger chunks spare statements; smaller ones hold locks for less time and lose
# less to a kill. At 50,000 a chunk takes about a second.
CHUNK_UNITS = 50_000
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"  # some editors begin a file with it
# A chunk also ends here, so that long texts cannot fill the memory.
MAX_CHUNK_BYTES = 32 * 1024 * 1024
# Meta posts at most 3 MB; a longer line is not a webhook body and must not fill the memory.
MAX_LINE_BYTES = 16 * 1024 * 1024
# Chunks decoded ahead of the database: one in the making, one waiting.
_CHUNKS_AHEAD = 1
_MAX_ATTEMPTS = 8
_MAX_NOTES = 50
_BLOCK_BYTES = 1024 * 1024


@dataclass(frozen=True)
class Progress:
    """How far a load is: bytes of all files of this run, and units committed."""

    done: int
    total: int
    units: int


ShowProgress = Callable[[Progress], None]


@dataclass(frozen=True, kw_only=True)
class Loader:
    """Loads files over two connections.

    Args:
        connection: To the database, outside a transaction.
        side: Another one, over which the statuses go beside the messages.
        ids: Mints message ids with ``GATTE_ID_KEY``.
        idle: A longer silence ends a conversation.
        context_messages: How many messages the AI's context holds.
        chunk_units: Units of one transaction.
    """

    connection: Connection
    side: Connection
    ids: MessageIds
    idle: timedelta
    context_messages: int
    chunk_units: int = CHUNK_UNITS

    def load_landing(
        self, zone: LandingZone, report: RunReport, show: ShowProgress | None = None
    ) -> None:
        """Load all files that wait in the landing zone and archive each when it is loaded."""
        files, others = zone.list_ready()
        for name in others:
            _note(report, f"{name}: ignorado, não é um arquivo .json, .jsonl ou .jsonl.gz")
        if not files:
            report.outcome, report.reason = Outcome.SKIPPED, "nothing_to_do"
            return
        self._load(zone, files, report, show, archive=True)

    def load_paths(
        self,
        zone: LandingZone,
        paths: list[str],
        report: RunReport,
        show: ShowProgress | None = None,
    ) -> None:
        """Load files given by path, or all files of a folder, and leave them where they are.

        Raises:
            BadInputError: None of them could be read.
        """
        files: list[LandingFile] = []
        unreadable: BadInputError | None = None
        for path in paths:
            try:
                files.append(zone.file(path))
            except IsADirectoryError:
                files += LandingZone(path).list_ready()[0]
            except OSError as error:
                name = redact(printable(path))
                unreadable = BadInputError(name, None, None, _os_reason(error))
                _note(report, f"{name}: {_os_reason_pt(error)}")
        loaded = self._load(zone, files, report, show, archive=False) if files else 0
        if not loaded:
            named = ", ".join(file.name for file in files) or ", ".join(map(printable, paths))
            why = f" ({'; '.join(report.notes)})" if report.notes else ""
            reason = f"nothing that could be loaded{why}"
            raise unreadable or BadInputError(named, None, None, reason)

    def _load(
        self,
        zone: LandingZone,
        files: list[LandingFile],
        report: RunReport,
        show: ShowProgress | None,
        *,
        archive: bool,
    ) -> int:
        writer = ChunkWriter(self.connection, self.side, self.ids)
        problems: list[str] = []
        total = sum(file.size_bytes for file in files)
        done, loaded = 0, 0
        for file in files:
            before = done

            def tell(file_bytes: int, before: int = before) -> None:
                if show is not None:
                    show(Progress(before + file_bytes, total, report.received))

            try:
                with _quick_threads():
                    batch_id = self._load_file(writer, zone, file, report, tell)
            except FileNotFoundError:
                _note(report, f"{file.name}: sumiu antes de ser lido")
            except OSError as error:
                _note(report, f"{file.name}: {_os_reason_pt(error)}; continua onde está")
                problems.append(f"{redact(file.name)} {_os_reason(error)}")
            except (pg.DataError, pg.IntegrityError, pg.ProgramLimitExceeded) as error:
                # What no check foresaw in one file must not keep the files behind it waiting.
                reason = safe_error(error).message
                _note(report, f"{file.name}: recusado pelo banco ({reason}); continua onde está")
                problems.append(f"{redact(file.name)} was refused by the database: {reason}")
            else:
                if not archive or _archive(zone, file, report, batch_id):
                    loaded += 1
                else:
                    problems.append(f"{redact(file.name)} was loaded but cannot be archived")
            done += file.size_bytes
        if archive and problems and not loaded:
            # Every minute the same, and green would hide it for ever. The watchdog tells of it.
            raise PermanentError(f"no waiting file could be settled: {'; '.join(problems[:5])}")
        return loaded

    def _load_file(
        self,
        writer: ChunkWriter,
        zone: LandingZone,
        file: LandingFile,
        report: RunReport,
        tell: Callable[[int], None],
    ) -> str:
        digest = self.ids.digest("batch")
        with zone.open(file) as stream:
            while block := stream.read(_BLOCK_BYTES):
                digest.update(block)
        batch_id = as_uuid8(digest.hexdigest())
        if not file.size_bytes:
            _note(report, f"{file.name}: arquivo vazio")
        skip = _open_batch(writer.driver, batch_id, file, report)
        if skip:
            _note(report, f"{file.name}: retomado depois da linha {skip}")
        rules = MergeRules(
            as_of=report.as_of, idle=self.idle, context_messages=self.context_messages
        )
        told = attempt = 0
        while True:
            known = _Known(writer.horizon(report.as_of), writer.read_erased())
            try:
                with zone.open(file) as stream:
                    for chunk in _Decoder(self, file, batch_id, stream, skip, known).chunks():
                        report.add(writer.commit(chunk, rules, _record_progress))
                        skip, attempt = chunk.lines, 0
                        _extend_period(report, chunk)
                        tell(chunk.bytes_read)
                        for line, rejected in chunk.rejections:
                            if told < _TOLD_PER_FILE:
                                told += 1
                                _note(report, _describe(file, line, rejected))
                break
            except ErasedMeanwhileError:
                # What was decoded ahead did not know of it: again from the last line committed.
                attempt += 1
                if attempt == _MAX_ATTEMPTS:
                    raise RetryableError(
                        "subjects are being erased all the time; run again"
                    ) from None
        _close_batch(writer.driver, batch_id)
        return batch_id


@contextmanager
def _quick_threads() -> Iterator[None]:
    """Let the thread that talks to the database have its turn at once.

    Python lets the decoder compute for 5 ms before another thread gets in; with some eighty waits a
    chunk that was a quarter of the load's time.
    """
    before = sys.getswitchinterval()
    sys.setswitchinterval(0.0002)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


# A person sees what is wrong with a file from a few; all stand in the quarantine.
_TOLD_PER_FILE = 5


class _Known(NamedTuple):
    """What the decoder is told of the database; see ``Chunk`` for ``erased``."""

    horizon: Horizon
    erased: frozenset[str]


class _Decoder:
    """Decodes a file in a thread of its own, so that the database works meanwhile."""

    def __init__(
        self,
        loader: Loader,
        file: LandingFile,
        batch_id: str,
        stream: IO[bytes],
        skip: int,
        known: _Known,
    ) -> None:
        self._loader, self._file, self._batch_id = loader, file, batch_id
        self._stream, self._skip = stream, skip
        self._horizon, self._erased = known
        self._queue: queue.Queue[Chunk | BaseException | None] = queue.Queue(_CHUNKS_AHEAD)
        self._stop = threading.Event()

    def chunks(self) -> Iterator[Chunk]:
        """Yield the chunks of the file in order; lines never split over two.

        Raises:
            OSError: The file cannot be read further.
        """
        thread = threading.Thread(target=self._run, name="gatte-decoder", daemon=True)
        thread.start()
        try:
            while (item := self._queue.get()) is not None:
                if isinstance(item, BaseException):
                    raise item
                yield item
        finally:
            self._stop.set()
            while thread.is_alive():
                try:
                    self._queue.get(timeout=0.05)
                except queue.Empty:
                    continue
            thread.join()

    def _run(self) -> None:
        try:
            for chunk in self._decode():
                self._queue.put(chunk)
                if self._stop.is_set():
                    return
        except BaseException as error:  # noqa: BLE001 - handed to the thread that waits
            self._queue.put(error)
        else:
            self._queue.put(None)

    def _decode(self) -> Iterator[Chunk]:
        size = self._loader.chunk_units
        chunk = self._new_chunk()
        number = 0
        for number, line in enumerate(self._iter_lines(), start=1):
            if number <= self._skip:
                continue
            if isinstance(line, Rejected):
                chunk.add(line, number)
            elif body := line.removeprefix(_BYTE_ORDER_MARK).strip():
                # Without its line end: that must not tell a quarantined line from its copy.
                for unit in lines.iter_units(body, self._horizon):
                    chunk.add(unit, number, body)
                chunk.weight += len(line)
            if chunk.received >= size or chunk.weight >= MAX_CHUNK_BYTES:
                yield chunk.close(number, self._stream.tell())
                chunk = self._new_chunk()
        if chunk.received:
            yield chunk.close(number, self._stream.tell())

    def _iter_lines(self) -> Iterator[bytes | Rejected]:
        """Yield the lines of the file; what cannot be read as a line is a rejected unit."""
        source = self._stream
        if self._file.is_compressed:
            source = cast("IO[bytes]", gzip.GzipFile(fileobj=self._stream))
        reason = "not_gzip"
        try:
            if self._file.is_document:
                body = source.read(MAX_LINE_BYTES + 1)
                if len(body) > MAX_LINE_BYTES:
                    yield _too_long(body)
                elif body:
                    yield body
                return
            while line := source.readline(MAX_LINE_BYTES + 1):
                reason = "truncated_gzip"
                if len(line) > MAX_LINE_BYTES:
                    yield _too_long(line)
                    while line and not line.endswith(b"\n"):
                        line = source.readline(MAX_LINE_BYTES)
                else:
                    yield line
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            # What came before the break was yielded; the file itself stays in the archive, and
            # its batch tells this record from that of another broken file of the same name.
            if not isinstance(error, gzip.BadGzipFile):
                reason = "truncated_gzip"
            yield Rejected("file", reason, None, f"{reason}: {self._batch_id}".encode())

    def _new_chunk(self) -> Chunk:
        return Chunk(self._loader.ids, self._batch_id, self._file.name, self._erased)


def _too_long(line: bytes) -> Rejected:
    """A line past the limit: its beginning in quarantine, the whole in the archived file."""
    return Rejected("file", "line_too_long", None, line[:_KEPT_OF_LONG_LINE])


_KEPT_OF_LONG_LINE = 4096


class ChunkWriter:
    """Commits chunks: messages over one connection, statuses beside them over another.

    The statuses of a chunk are committed before the rest of it, which carries the progress of the
    file: after a kill between the two they are met again and count as duplicates.

    Args:
        connection: To the database, outside a transaction.
        side: Another one.
        ids: Its key is checked against the database's.

    Raises:
        ConfigurationError: Messages were loaded with another key.
    """

    def __init__(self, connection: Connection, side: Connection, ids: MessageIds) -> None:
        self.driver, self._side = psycopg_connection(connection), psycopg_connection(side)
        assert_id_key(self.driver, ids)
        create_temporary_tables(self.driver)
        create_temporary_tables(self._side)
        self._cutover_us = _read_cutover(self.driver)

    def horizon(self, as_of: datetime) -> Horizon:
        """The instants between which records create something, for a run of ``as_of``."""
        return lines.horizon(as_of, self._cutover_us)

    def read_known_users(self, references: set[str]) -> dict[str, bool]:
        """Which of these ``users.id`` are users, or were; and whether each was anonymised."""
        with self.driver.transaction(), self.driver.cursor() as cursor:
            return read_known_users(cursor, references)

    def read_erased(self) -> frozenset[str]:
        """The ids of erased subjects' records, for the chunks that are made from here on."""
        with self.driver.transaction(), self.driver.cursor() as cursor:
            return read_erased(cursor)

    def commit(
        self,
        chunk: Chunk,
        rules: MergeRules,
        record: Callable[[psycopg.Cursor[Any], Chunk, Counts], None],
    ) -> Counts:
        """Merge a chunk and what ``record`` notes of it, again after a deadlock.

        Raises:
            ErasedMeanwhileError: A subject was erased since the chunk was made; make it again.
            RetryableError: Other writers came first too often.
        """
        if chunk.references:
            chunk.settle_references(self.read_known_users(chunk.references))
            chunk.seal()
        with ThreadPoolExecutor(1, "gatte-statuses") as pool:
            statuses = pool.submit(self._commit_statuses, chunk) if chunk.status_count else None

            def merge(cursor: psycopg.Cursor[Any], *, alone: bool = False) -> Counts:
                counts = merge_chunk(cursor, chunk, rules, alone=alone)
                if statuses is not None:
                    counts.add(statuses.result())
                record(cursor, chunk, counts)
                counts.balance(f"the chunk up to line {chunk.lines}")
                return counts

            try:
                return _again(self.driver, merge)
            except MustRunAloneError:
                return _again(self.driver, partial(merge, alone=True))

    def _commit_statuses(self, chunk: Chunk) -> Counts:
        return _again(self._side, lambda cursor: merge_statuses(cursor, chunk))


def _again(driver: psycopg.Connection, merge: Callable[[psycopg.Cursor[Any]], Counts]) -> Counts:
    """Run ``merge`` in a transaction, again where another writer came first."""
    for attempt in range(1, _MAX_ATTEMPTS + 1):
        try:
            with driver.transaction(), driver.cursor() as cursor:
                return merge(cursor)
        except (pg.DeadlockDetected, pg.SerializationFailure, UserAppearedError):
            if attempt == _MAX_ATTEMPTS:
                raise RetryableError("a chunk met other writers too often; run again") from None
        except (pg.UniqueViolation, pg.ForeignKeyViolation) as error:
            # The chatbot or another loader wrote the same row between two of our statements.
            if attempt == _MAX_ATTEMPTS or error.diag.table_name not in _RACED_TABLES:
                raise
        time.sleep(0.05 * 2**attempt)
    raise AssertionError  # pragma: no cover - the loop returns or raises


def _record_progress(cursor: psycopg.Cursor[Any], chunk: Chunk, _counts: Counts) -> None:
    cursor.execute(
        "update pipeline.inbound_batches set lines_done = greatest(lines_done, %s), "
        "units_done = units_done + %s where batch_id = %s",
        [chunk.lines, chunk.received, chunk.batch_id],
    )


def _read_cutover(driver: psycopg.Connection) -> int:
    """When this database was adopted, in microseconds; 0 where it was made by us."""
    with driver.transaction(), driver.cursor() as cursor:
        cursor.execute(
            "select (extract(epoch from value::timestamptz) * 1000000)::bigint "
            "from pipeline.settings where name = %s",
            [CUTOVER_SETTING],
        )
        row = cursor.fetchone()
    return 0 if row is None else int(row[0])


CUTOVER_SETTING = "adopted_at"

_RACED_TABLES = frozenset({"users", "user_identities", "messages"})


def assert_id_key(driver: psycopg.Connection, ids: MessageIds) -> None:
    """Remember the key's fingerprint on first use and refuse another key after.

    Raises:
        ConfigurationError: Messages were loaded with another key.
    """
    with driver.transaction(), driver.cursor() as cursor:
        cursor.execute(
            "insert into pipeline.settings (name, value) values (%s, %s) "
            "on conflict (name) do nothing",
            [FINGERPRINT_SETTING, ids.fingerprint()],
        )
        cursor.execute("select value from pipeline.settings where name = %s", [FINGERPRINT_SETTING])
        row = cursor.fetchone()
    if row is None or row[0] != ids.fingerprint():
        raise ConfigurationError(
            "GATTE_ID_KEY is not the key this database was loaded with; every message would be "
            "loaded twice. Restore the former key."
        )


def _open_batch(
    driver: psycopg.Connection, batch_id: str, file: LandingFile, report: RunReport
) -> int:
    """Record the file; the number of its lines that a killed run has already committed."""
    with driver.transaction(), driver.cursor() as cursor:
        cursor.execute(
            "insert into pipeline.inbound_batches as b "
            "(batch_id, source_name, size_bytes, state, run_id, first_seen_at) "
            "values (%s, %s, %s, 'loading', %s, %s) on conflict (batch_id) do update set "
            "run_id = excluded.run_id, loads = b.loads + 1, "
            "lines_done = case b.state when 'done' then 0 else b.lines_done end, "
            "units_done = case b.state when 'done' then 0 else b.units_done end, "
            "state = 'loading' returning lines_done, loads, finished_at",
            [batch_id, file.name, file.size_bytes, report.run_id, report.as_of],
        )
        row = cursor.fetchone()
    assert row is not None  # noqa: S101 - an upsert returns its row
    lines_done, loads, finished_at = row
    if loads > 1 and finished_at is not None and not lines_done:
        _note(
            report,
            f"{file.name}: já carregado antes; relido, e o que já existe conta como repetido",
        )
    return int(lines_done)


def _close_batch(driver: psycopg.Connection, batch_id: str) -> None:
    with driver.transaction(), driver.cursor() as cursor:
        cursor.execute(
            "update pipeline.inbound_batches set state = 'done', finished_at = now() "
            "where batch_id = %s",
            [batch_id],
        )


def _archive(zone: LandingZone, file: LandingFile, report: RunReport, batch_id: str) -> bool:
    """Move a loaded file to the archive; False where it cannot be moved."""
    try:
        zone.archive(file, business_date(report.as_of), batch_id)
    except FileNotFoundError:
        _note(report, f"{file.name}: carregado, mas sumiu antes de ser arquivado")
    except OSError as error:
        # It is loaded; the next run meets it again and counts duplicates.
        _note(report, f"{file.name}: carregado, mas não arquivado ({type(error).__name__})")
        return False
    return True


def _extend_period(report: RunReport, chunk: Chunk) -> None:
    if chunk.period_us is None:
        return
    first, last = (
        datetime.fromtimestamp(us / 1_000_000, report.as_of.tzinfo) for us in chunk.period_us
    )
    report.period_from = min(report.period_from or first, first)
    report.period_to = max(report.period_to or last, last)


def _describe(file: LandingFile, line: int, rejected: Rejected) -> str:
    field = f", campo {rejected.field}" if rejected.field else ""
    return (
        f"{file.name}, linha {line}{field}: {reason_pt(rejected.reason)} "
        f"[{rejected.reason}] (em quarentena)"
    )


def _os_reason(error: OSError) -> str:
    if isinstance(error, FileNotFoundError):
        return "no such file"
    if isinstance(error, PermissionError):
        return "permission denied"
    if isinstance(error, IsADirectoryError):
        return "is a folder, not a file"
    return f"cannot be read ({type(error).__name__})"


def _os_reason_pt(error: OSError) -> str:
    if isinstance(error, FileNotFoundError):
        return "arquivo não encontrado"
    if isinstance(error, PermissionError):
        return "sem permissão de leitura"
    if isinstance(error, IsADirectoryError):
        return "é uma pasta, não um arquivo"
    return f"não pode ser lido ({type(error).__name__})"


def _note(report: RunReport, text: str) -> None:
    if len(report.notes) < _MAX_NOTES:
        # A file's name may hold a phone; the name itself stands in pipeline.inbound_batches.
        report.notes.append(redact(text))
    elif len(report.notes) == _MAX_NOTES:
        report.notes.append("outras observações foram omitidas")
