"""The quarantine: what could not be loaded, listed without its content and tried again.

Each row is a notification of its own, so a replay runs the same code as a load.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

from sqlalchemy import Connection, func, select

from gatte_pipelines.database.pipeline_tables import QuarantinedRecord
from gatte_pipelines.errors import RetryableError
from gatte_pipelines.inbound import lines
from gatte_pipelines.inbound.chunk import Chunk, refers_to, reject_unknown
from gatte_pipelines.inbound.ids import MessageIds
from gatte_pipelines.inbound.load import ChunkWriter
from gatte_pipelines.inbound.merge import ErasedMeanwhileError, MergeRules
from gatte_pipelines.inbound.units import Rejected, Unit
from gatte_pipelines.run_report import Counts, Outcome, RunReport

if TYPE_CHECKING:
    import psycopg

PIPELINE = "quarantine_replay"

# Quarantined payloads may be whole bodies of up to 16 MB; a page of them must fit the memory.
_ROWS_PER_CHUNK = 500
_CHUNK_BYTES = 16 * 1024 * 1024
_MAX_ATTEMPTS = 8
# Rows of this kind tell of a file; their payload is no notification that could be read again.
_FILE_KIND = "file"


@dataclass(frozen=True, kw_only=True)
class QuarantineEntry:
    """One quarantined record as people may see it: never its content."""

    id: UUID
    reason: str
    kind: str
    field: str | None
    source_name: str
    line: int
    quarantined_at: datetime
    attempts: int


def read_counts(connection: Connection) -> dict[str, int]:
    """How many records wait, by reason."""
    rows = connection.execute(
        select(QuarantinedRecord.reason, func.count())
        .group_by(QuarantinedRecord.reason)
        .order_by(QuarantinedRecord.reason)
    )
    return {reason: count for reason, count in rows}  # noqa: C416 - rows are not pairs to mypy


def read_entries(
    connection: Connection, *, reason: str | None = None, limit: int = 50
) -> list[QuarantineEntry]:
    """The newest records, optionally of one reason."""
    query = select(
        QuarantinedRecord.id,
        QuarantinedRecord.reason,
        QuarantinedRecord.kind,
        QuarantinedRecord.field,
        QuarantinedRecord.source_name,
        QuarantinedRecord.line,
        QuarantinedRecord.quarantined_at,
        QuarantinedRecord.attempts,
    ).order_by(QuarantinedRecord.quarantined_at.desc(), QuarantinedRecord.id)
    if reason is not None:
        query = query.where(QuarantinedRecord.reason == reason)
    return [QuarantineEntry(**row._mapping) for row in connection.execute(query.limit(limit))]


@dataclass(frozen=True, kw_only=True)
class Replayer:
    """Tries quarantined records again.

    Args:
        connection: To the database, outside a transaction.
        side: Another one, over which the statuses go.
        ids: Mints message ids with ``GATTE_ID_KEY``.
        idle: A longer silence ends a conversation.
        context_messages: How many messages the AI's context holds.
    """

    connection: Connection
    side: Connection
    ids: MessageIds
    idle: timedelta
    context_messages: int

    def replay(self, report: RunReport, *, reason: str | None, limit: int) -> None:
        """Try up to ``limit`` records, oldest first; what loads leaves the quarantine.

        ``received`` counts the units tried. A record that fails again stays, with one more
        attempt, and counts as quarantined under its reason of today.
        """
        writer = ChunkWriter(self.connection, self.side, self.ids)
        rules = MergeRules(
            as_of=report.as_of, idle=self.idle, context_messages=self.context_messages
        )
        horizon = writer.horizon(report.as_of)
        for page in _iter_pages(writer.driver, reason, limit):
            read = [(row, list(lines.iter_units(bytes(row[4]), horizon))) for row in page]
            report.add(self._load_page(writer, read, rules))
        if not report.received:
            report.outcome, report.reason = Outcome.SKIPPED, "nothing_to_do"

    def _load_page(
        self, writer: ChunkWriter, read: list[tuple[_Row, list[Unit]]], rules: MergeRules
    ) -> Counts:
        """Load a page of rows, each with its units; what was erased meanwhile is left out."""
        references = {
            reference for _, units in read for unit in units if (reference := refers_to(unit))
        }
        for attempt in range(_MAX_ATTEMPTS):
            if attempt:
                waiting = _read_waiting(writer.driver, [row[0] for row, _ in read])
                read = [(row, units) for row, units in read if row[0] in waiting]
            if not read:
                return Counts()
            _, first_batch, first_name, *_ = read[0][0]
            chunk = Chunk(self.ids, first_batch.hex, first_name, writer.read_erased())
            loaded: list[UUID] = []
            again: list[tuple[UUID, Rejected]] = []
            known = writer.read_known_users(references) if references else {}
            unknown = references.difference(known)
            for (row_id, batch_id, source_name, line, payload), units in read:
                if len(units) == 1 and (rejected := _rejected(units[0], unknown)):
                    again.append((row_id, rejected))
                    continue
                chunk.batch_id, chunk.source_name = batch_id.hex, source_name
                for unit in units:
                    chunk.add(unit, line, bytes(payload))
                loaded.append(row_id)
            try:
                return writer.commit(chunk.close(0, 0), rules, _Recorder(loaded, again))
            except ErasedMeanwhileError:
                continue
        raise RetryableError("subjects are being erased all the time; run again")


def _rejected(unit: Unit, unknown: set[str]) -> Rejected | None:
    """Why the only unit of a record stays in quarantine."""
    if isinstance(unit, Rejected):
        return unit
    return reject_unknown(unit, b"") if refers_to(unit) in unknown else None


class _Recorder:
    """Takes loaded rows out of the quarantine and counts an attempt for the others."""

    def __init__(self, loaded: list[UUID], again: list[tuple[UUID, Rejected]]) -> None:
        self._loaded, self._again = loaded, again

    def __call__(self, cursor: psycopg.Cursor[Any], _chunk: Chunk, counts: Counts) -> None:
        cursor.execute("delete from pipeline.quarantine where id = any(%s)", [self._loaded])
        if cursor.rowcount < len(self._loaded):
            # Some are gone since they were read: loaded by another replay, or erased.
            raise ErasedMeanwhileError
        counts.received += len(self._again)
        for row_id, rejected in self._again:
            cursor.execute(
                "update pipeline.quarantine set attempts = attempts + 1, "
                "last_attempt_at = pipeline.clock(), reason = %s, field = %s, kind = %s "
                "where id = %s",
                [rejected.reason, rejected.field, rejected.kind, row_id],
            )
            if cursor.rowcount:
                reason = rejected.reason
                counts.quarantined[reason] = counts.quarantined.get(reason, 0) + 1
            else:
                # Loaded by another replay meanwhile.
                counts.duplicate += 1


_Row = tuple[UUID, UUID, str, int, bytes]


def _read_waiting(driver: psycopg.Connection, ids: list[UUID]) -> set[UUID]:
    """Which of these rows are still there."""
    with driver.transaction(), driver.cursor() as cursor:
        cursor.execute("select id from pipeline.quarantine where id = any(%s)", [ids])
        return {row[0] for row in cursor}


def _iter_pages(driver: psycopg.Connection, reason: str | None, limit: int) -> Iterator[list[_Row]]:
    """Pages of rows, oldest first; each page is read after the one before was committed.

    What to try is settled before the first page: a part that this run itself puts back into
    quarantine is not tried again.
    """
    with driver.transaction(), driver.cursor() as cursor:
        cursor.execute(
            "select id, octet_length(payload) from pipeline.quarantine where kind <> %(file)s "
            "and (%(reason)s::text is null or reason = %(reason)s) "
            "order by quarantined_at, id limit %(limit)s",
            {"file": _FILE_KIND, "reason": reason, "limit": limit},
        )
        waiting: deque[tuple[UUID, int]] = deque(cursor.fetchall())
    while waiting:
        page: list[UUID] = []
        page_bytes = 0
        while waiting and len(page) < _ROWS_PER_CHUNK and page_bytes < _CHUNK_BYTES:
            row_id, size = waiting.popleft()
            page.append(row_id)
            page_bytes += size
        with driver.transaction(), driver.cursor() as cursor:
            cursor.execute(
                "select id, batch_id, source_name, line, payload from pipeline.quarantine "
                "where id = any(%s) order by quarantined_at, id",
                [page],
            )
            rows: list[_Row] = cursor.fetchall()
        if rows:
            yield rows
