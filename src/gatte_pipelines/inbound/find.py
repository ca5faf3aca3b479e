"""Why is this message not there? One id through tables, quarantine and files, read only.

Answers received → decision → row → reason. Nothing personal leaves this module: ids of rows,
instants, states and reasons only. What an id is in a line belongs to ``find_lines``, the
words for people to ``find_words``.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeVar, cast
from uuid import UUID

from psycopg.rows import class_row

from gatte_pipelines.business_time import business_date
from gatte_pipelines.database.engine import psycopg_connection
from gatte_pipelines.database.statements import read_statements
from gatte_pipelines.errors import ConfigurationError
from gatte_pipelines.inbound import lines
from gatte_pipelines.inbound.chunk import Chunk
from gatte_pipelines.inbound.find_lines import (
    Occurrence,
    Role,
    SoughtId,
    decide,
    find_in_line,
)
from gatte_pipelines.inbound.ids import FINGERPRINT_SETTING, MessageIds, as_uuid8
from gatte_pipelines.inbound.load import CUTOVER_SETTING, MAX_LINE_BYTES
from gatte_pipelines.inbound.merge import read_known_users
from gatte_pipelines.inbound.units import (
    ConversationEvent,
    IdentityChange,
    Message,
    MessageChange,
    Reaction,
    Rejected,
    Skipped,
    Unit,
)
from gatte_pipelines.redaction import redact

if TYPE_CHECKING:
    import psycopg
    from sqlalchemy import Connection

    from gatte_pipelines.landing import LandingFile, LandingZone

_SQL = read_statements(Path(__file__).with_name("find.sql"))
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_BLOCK_BYTES = 1024 * 1024
# Of an id that many records quote, the first ones say enough.
_MAX_RECEPTIONS = 20
# A client's clock may be a little ahead of the day on which the file came.
_CLOCKS_APART = timedelta(days=1)

ShowSearch = Callable[[int, int], None]
"""Called with the files looked through and how many there are."""


class Verdict(StrEnum):
    """The answer in one word."""

    LOADED = "loaded"
    CHANGE = "change"
    REACTION = "reaction"
    IDENTITY_CHANGE = "identity_change"
    CONVERSATION_EVENT = "conversation_event"
    QUARANTINED = "quarantined"
    NOT_LOADED_YET = "not_loaded_yet"
    SKIPPED = "skipped"
    REJECTED_BEFORE = "rejected_before"
    OUTDONE = "outdone"
    GONE = "gone"
    STATUSES_ONLY = "statuses_only"
    MENTIONED_ONLY = "mentioned_only"
    NOT_FOUND = "not_found"


NOT_FOUND = frozenset({Verdict.MENTIONED_ONLY, Verdict.NOT_FOUND})
"""Verdicts that say that the record itself was found nowhere."""


@dataclass(frozen=True, kw_only=True)
class MessageRow:
    """The row of ``messages``, without its content, and what stands beside it.

    The facts are None where the row is older than this project.
    """

    id: UUID
    conversation_id: UUID
    conversation_status: str
    user_id: UUID
    role: str
    created_at: datetime
    is_removed: bool
    is_in_context: bool
    author: str | None
    mode: str | None
    current_flow: str | None
    is_told_by_webhook: bool | None
    told_by_chatbot_at: datetime | None


@dataclass(frozen=True, kw_only=True)
class Status:
    """A delivery status; ``is_reached`` marks the one that counts."""

    status: str
    at: datetime
    error_code: int | None
    is_reached: bool


@dataclass(frozen=True, kw_only=True)
class Changes:
    """Edits and revokes of the message."""

    edits: int
    revokes: int
    last_at: datetime


@dataclass(frozen=True, kw_only=True)
class OwnChange:
    """The id is an edit's or a revoke's: of the row ``target_id``, once that is there."""

    is_revoke: bool
    at: datetime
    target_id: UUID
    is_applied: bool


@dataclass(frozen=True, kw_only=True)
class ReactionTo:
    """The newest reaction to the message."""

    at: datetime
    is_taken_back: bool


@dataclass(frozen=True, kw_only=True)
class OwnReaction(ReactionTo):
    """The id is a reaction's, to the row ``target_id``."""

    target_id: UUID


@dataclass(frozen=True, kw_only=True)
class Button:
    """The message is the press of a button of the row ``context_id``."""

    context_id: UUID | None


@dataclass(frozen=True, kw_only=True)
class Choice:
    """The message opts out, or in again."""

    at: datetime
    category: str
    is_opted_out: bool
    user_id: UUID


@dataclass(frozen=True, kw_only=True)
class OwnIdentityChange:
    """The id is a number change's; ``user_ids`` have the new number or user id."""

    at: datetime
    moves_number: bool
    user_ids: list[UUID] | None


@dataclass(frozen=True, kw_only=True)
class OwnConversationEvent:
    """The id is that of a chatbot's conversation event."""

    at: datetime
    status: str
    user_id: UUID


@dataclass(frozen=True, kw_only=True)
class Quarantined:
    """A record in quarantine that is this one, or a line that holds its id and is no JSON."""

    id: UUID
    reason: str
    field: str | None
    kind: str
    file: str
    line: int
    quarantined_at: datetime
    attempts: int
    last_attempt_at: datetime | None


@dataclass(frozen=True, kw_only=True)
class Reception:
    """A line of a file that holds the id.

    Attributes:
        file: Its name.
        line: From 1.
        archived_on: The day of its arrival; None while it waits in the landing zone.
        role: ``record``, ``unreadable``, ``status`` or ``mention``.
        state: ``waiting``, ``loading`` or ``done``; ``unknown`` where it was archived by others.
        loaded_at: When its load ended.
        decision: ``load``, ``skip`` or ``quarantine``; None for a mention.
        kind: What it is to the decoder, such as ``Message``.
        reason: Why it was skipped or put into quarantine.
        field: Which field is wrong.
    """

    file: str
    line: int
    archived_on: date | None
    role: Role
    state: str
    loaded_at: datetime | None = None
    decision: str | None = None
    kind: str | None = None
    reason: str | None = None
    field: str | None = None


@dataclass(frozen=True, kw_only=True)
class Known:
    """What the tables hold under one id."""

    message: MessageRow | None
    merged_user_ids: list[UUID]
    statuses: list[Status]
    changes: Changes | None
    reaction: ReactionTo | None
    button: Button | None
    opt_out: Choice | None
    own_change: OwnChange | None
    own_reaction: OwnReaction | None
    own_identity_change: OwnIdentityChange | None
    own_conversation_event: OwnConversationEvent | None
    quarantined: list[Quarantined]


@dataclass(kw_only=True)
class Searched:
    """Where was looked. ``problems`` are sentences in Portuguese."""

    since: date
    waiting_files: int = 0
    archived_files: int = 0
    problems: list[str] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Finding:
    """The whole answer. ``id`` is that of the message, whether or not it is there."""

    id: UUID
    kind: str
    verdict: Verdict
    reason: str | None
    known: Known
    receptions: list[Reception]
    searched: Searched


@dataclass(frozen=True, kw_only=True)
class Finder:
    """Looks for one id.

    Args:
        connection: To the database, outside a transaction.
        ids: Mints ids with ``GATTE_ID_KEY``.
        zone: Where files wait and are archived.
        as_of: The instant to look back from.
        days: How many days of the archive are looked through; 0 leaves it out.
    """

    connection: Connection
    ids: MessageIds
    zone: LandingZone
    as_of: datetime
    days: int

    def find(self, sought: SoughtId, show: ShowSearch | None = None) -> Finding:
        """Say what became of an id.

        Args:
            sought: The id.
            show: Is told how far the search of the files is.

        Raises:
            ConfigurationError: The database was loaded with another ``GATTE_ID_KEY``.
        """
        since = business_date(self.as_of) - timedelta(days=self.days)
        with self._reading() as cursor:
            known = self._read(cursor, sought)
        if known.message is not None:
            written = min(
                filter(None, (known.message.created_at, known.message.told_by_chatbot_at))
            )
            since = max(since, business_date(written - _CLOCKS_APART))
        searched = Searched(since=since)
        hits = list(self._search(sought, searched, show))
        with self._reading() as cursor:
            # Again: a file may have been loaded meanwhile.
            known = self._read(cursor, sought)
            judged = [self._judge(cursor, hit) for hit in hits]
        receptions = [reception for reception, _ in judged]
        events = [event for _, event in judged if event is not None]
        known = replace(known, own_conversation_event=events[0] if events else None)
        verdict, reason = _conclude(known, receptions)
        return Finding(
            id=UUID(self.ids.of_key(sought.key)),
            kind=sought.kind,
            verdict=verdict,
            reason=reason,
            known=known,
            receptions=receptions,
            searched=searched,
        )

    # --- Tables ----------------------------------------------------------------------------------

    @contextmanager
    def _reading(self) -> Iterator[psycopg.Cursor[Any]]:
        driver = psycopg_connection(self.connection)
        with driver.transaction(), driver.cursor() as cursor:
            cursor.execute("set transaction isolation level repeatable read, read only")
            yield cursor

    def _read(self, cursor: psycopg.Cursor[Any], sought: SoughtId) -> Known:
        self._assert_id_key(cursor)
        parameters = {
            "sought_id": self.ids.of_key(sought.key),
            "sought_identity_id": self.ids.of_bytes("identity", sought.key.encode()),
        }

        def one(row: type[_Row], name: str) -> _Row | None:
            found = _rows(cursor, row, name, parameters)
            return found[0] if found else None

        message = one(MessageRow, "read_message")
        merged: list[UUID] = []
        if message is not None:
            cursor.execute(_SQL["read_merged_users"], {"sought_id": message.user_id})
            merged = [row[0] for row in cursor]
        return Known(
            message=message,
            merged_user_ids=merged,
            statuses=_rows(cursor, Status, "read_statuses", parameters),
            changes=one(Changes, "read_changes"),
            reaction=one(ReactionTo, "read_reaction_to"),
            button=one(Button, "read_button"),
            opt_out=one(Choice, "read_opt_out"),
            own_change=one(OwnChange, "read_change"),
            own_reaction=one(OwnReaction, "read_reaction"),
            own_identity_change=one(OwnIdentityChange, "read_identity_change"),
            own_conversation_event=None,  # found by what it says: see _judge
            quarantined=list(_read_quarantined(cursor, sought)),
        )

    def _assert_id_key(self, cursor: psycopg.Cursor[Any]) -> None:
        fingerprint = _read_settings(cursor).get(FINGERPRINT_SETTING)
        if fingerprint is not None and fingerprint != self.ids.fingerprint():
            raise ConfigurationError(
                "GATTE_ID_KEY is not the key this database was loaded with, so no message could "
                "be found. Restore the former key."
            )

    # --- Files -----------------------------------------------------------------------------------

    def _search(
        self, sought: SoughtId, searched: Searched, show: ShowSearch | None
    ) -> Iterator[_Hit]:
        """Lines that hold the id, newest file first, until a file holds the record itself."""
        found = 0
        for done, total, day, file in self._iter_files(searched):
            if show is not None:
                show(done, total)
            is_found = False
            try:
                for hit in self._search_file(sought, file, day):
                    is_found |= hit.role is not Role.MENTION and hit.role is not Role.STATUS
                    found += 1
                    if found <= _MAX_RECEPTIONS or is_found:
                        yield hit
            except FileNotFoundError:
                pass  # loaded and archived meanwhile: it comes again below
            except (EOFError, zlib.error, gzip.BadGzipFile):
                searched.problems.append(f"{redact(file.name)}: gzip que não se lê até o fim")
            except OSError as error:
                searched.problems.append(
                    f"{redact(file.name)}: não pode ser lido ({type(error).__name__})"
                )
            if is_found:
                return

    def _iter_files(
        self, searched: Searched
    ) -> Iterator[tuple[int, int, date | None, LandingFile]]:
        done = 0
        try:
            waiting = self.zone.list_ready()[0][::-1]
            for file in waiting:
                searched.waiting_files += 1
                yield done, len(waiting), None, file
                done += 1
            if not self.days:
                return
            # Listed only now: what was archived since stands in it.
            archived = self.zone.list_archived(searched.since)
        except ConfigurationError:
            searched.problems.append(
                "área de chegada: não pode ser listada; confira GATTE_INBOUND_URL e as permissões"
            )
            return
        for day, file in archived:
            searched.archived_files += 1
            yield done, len(waiting) + len(archived), day, file
            done += 1

    def _search_file(self, sought: SoughtId, file: LandingFile, day: date | None) -> Iterator[_Hit]:
        batch_id = None
        with self.zone.open(file) as stream:
            for number, line in _iter_candidates(stream, file, sought):
                body = line.removeprefix(_BYTE_ORDER_MARK).strip()
                is_whole = len(line) <= MAX_LINE_BYTES
                found = find_in_line(body, sought) if is_whole else None
                if is_whole and found is None:
                    continue
                if batch_id is None:
                    batch_id = self._digest(file)
                role = Role.UNREADABLE if found is None else found.role
                piece = b"" if found is None else found.piece
                yield _Hit(file, day, number, role, body, piece, batch_id)

    def _digest(self, file: LandingFile) -> str:
        digest = self.ids.digest("batch")
        with self.zone.open(file) as stream:
            while block := stream.read(_BLOCK_BYTES):
                digest.update(block)
        return as_uuid8(digest.hexdigest())

    # --- What was decided ------------------------------------------------------------------------

    def _judge(
        self, cursor: psycopg.Cursor[Any], hit: _Hit
    ) -> tuple[Reception, OwnConversationEvent | None]:
        """What was decided of a line, and the row of the conversation event that it is."""
        cursor.execute(_SQL["read_batch"], {"sought_id": hit.batch_id})
        batch = cursor.fetchone()
        state, as_of, loaded_at = "waiting" if hit.day is None else "unknown", self.as_of, None
        if batch is not None:
            state, lines_done, loaded_at, run_as_of = batch
            state = "done" if state == "loading" and hit.line <= lines_done else state
            as_of = run_as_of or as_of
        told = Reception(
            file=redact(hit.file.name),
            line=hit.line,
            archived_on=hit.day,
            role=hit.role,
            state=state,
            loaded_at=loaded_at,
        )
        if hit.role is Role.MENTION:
            return told, None
        if not hit.piece:
            told = replace(told, decision="quarantine", kind="file", reason="line_too_long")
            return told, None
        within = lines.horizon(as_of, _read_cutover(cursor))
        units = decide(Occurrence(hit.role, hit.piece), hit.body, within)
        unit = _most_telling(units)
        event = self._read_event(cursor, unit) if isinstance(unit, ConversationEvent) else None
        return _decided(told, unit, cursor, self.ids), event

    def _read_event(
        self, cursor: psycopg.Cursor[Any], event: ConversationEvent
    ) -> OwnConversationEvent | None:
        # Its id is minted of all that it says, so only the loader's own code can name it.
        chunk = Chunk(self.ids, "", "")
        chunk.add(event, 1)
        row = chunk.seal().rows["events"]
        if not row:
            return None  # known by users.id alone
        parameters = {"sought_event_id": row.partition(b"\t")[0].decode()}
        found = _rows(cursor, OwnConversationEvent, "read_conversation_event", parameters)
        return found[0] if found else None


_Row = TypeVar("_Row")


@dataclass(frozen=True)
class _Hit:
    """A line that holds the id. ``piece`` is empty where the line is longer than is read."""

    file: LandingFile
    day: date | None
    line: int
    role: Role
    body: bytes
    piece: bytes
    batch_id: str


def _rows(
    cursor: psycopg.Cursor[Any], row: type[_Row], name: str, parameters: dict[str, Any]
) -> list[_Row]:
    with cursor.connection.cursor(row_factory=class_row(row)) as typed:
        return typed.execute(_SQL[name], parameters).fetchall()


def _read_settings(cursor: psycopg.Cursor[Any]) -> dict[str, str]:
    cursor.execute(_SQL["read_settings"], {"names": [FINGERPRINT_SETTING, CUTOVER_SETTING]})
    return dict(cursor.fetchall())


def _read_cutover(cursor: psycopg.Cursor[Any]) -> int:
    adopted_at = _read_settings(cursor).get(CUTOVER_SETTING)
    if adopted_at is None:
        return 0
    cursor.execute("select (extract(epoch from %s::timestamptz) * 1000000)::bigint", [adopted_at])
    row = cursor.fetchone()
    return int(row[0]) if row else 0


def _read_quarantined(cursor: psycopg.Cursor[Any], sought: SoughtId) -> Iterator[Quarantined]:
    for entry in _rows(cursor, Quarantined, "find_quarantined", {"core": sought.core}):
        cursor.execute(_SQL["read_payload"], {"sought_id": entry.id})
        row = cursor.fetchone()
        found = find_in_line(bytes(row[0]), sought) if row else None
        if found is not None and found.role is not Role.MENTION:
            yield replace(entry, file=redact(entry.file))


def _iter_candidates(
    stream: IO[bytes], file: LandingFile, sought: SoughtId
) -> Iterator[tuple[int, bytes]]:
    """Lines that may hold the id, numbered as the loader does; a longer one than it takes is cut.

    Raises:
        EOFError: The gzip ends too early, or as ``zlib.error`` and ``BadGzipFile``: it is none.
    """
    core, source = sought.core, stream
    if file.is_compressed:
        source = cast("IO[bytes]", gzip.GzipFile(fileobj=stream))
    if file.is_document:
        body = source.read(MAX_LINE_BYTES + 1)
        is_cut = len(body) > MAX_LINE_BYTES
        if sought.is_written_in(body) if is_cut else core in body:
            yield 1, body
        return
    longest = max(map(len, sought.written_forms))
    number, rest = 1, b""
    is_long = is_told = False
    while block := source.read(_BLOCK_BYTES):
        rest += block
        end = rest.rfind(b"\n") + 1
        if end:
            whole, rest = rest[:end], rest[end:]
            if core in whole:
                for offset, line in enumerate(whole.split(b"\n")[:-1]):
                    if core in line and not (is_long and offset == 0):
                        yield number + offset, line
            number += whole.count(b"\n")
            is_long = is_told = False
        elif len(rest) > MAX_LINE_BYTES:
            if not is_told and sought.is_written_in(rest):
                is_told = True
                yield number, rest
            # Over the seam may stand the id.
            is_long, rest = True, rest[-longest:]
    if rest and core in rest and not is_long:
        yield number, rest


def _most_telling(units: list[Unit]) -> Unit:
    """Of the units of a change that cannot be taken apart, one that was not loaded."""
    for unit in units:
        if isinstance(unit, Rejected):
            return unit
    return units[0]


def _keys(unit: Unit) -> list[str]:
    """What the ids of a record and of its message are minted of, where one may be erased."""
    if isinstance(unit, Message):
        return [unit.key]
    if isinstance(unit, MessageChange | Reaction):
        return [f"wamid:{unit.wamid}", f"wamid:{unit.target_wamid}"]
    return []


def _is_erased(cursor: psycopg.Cursor[Any], ids: list[str]) -> bool:
    cursor.execute(_SQL["count_erased"], {"ids": ids})
    row = cursor.fetchone()
    return bool(row and row[0])


def _decided(
    told: Reception, unit: Unit, cursor: psycopg.Cursor[Any], ids: MessageIds
) -> Reception:
    if isinstance(unit, Skipped):
        return replace(told, decision="skip", reason=unit.reason)
    if isinstance(unit, Rejected):
        return replace(
            told, decision="quarantine", kind=unit.kind, reason=unit.reason, field=unit.field
        )
    kind = type(unit).__name__
    user_id = unit.sender.user_id if isinstance(unit, Message | ConversationEvent) else ""
    if user_id:
        is_anonymized = read_known_users(cursor, {user_id}).get(user_id)
        if is_anonymized is None:
            return replace(
                told, decision="quarantine", kind=kind, reason="unknown_user", field="user_id"
            )
        if is_anonymized:
            return replace(told, decision="skip", kind=kind, reason="erased")
    if _is_erased(cursor, [ids.of_key(key) for key in _keys(unit)]):
        return replace(told, decision="skip", kind=kind, reason="erased")
    return replace(told, decision="load", kind=kind)


_KINDS_OUTDONE = frozenset({Reaction.__name__})
_KINDS_AGED = frozenset({MessageChange.__name__, IdentityChange.__name__})


def _conclude(known: Known, receptions: list[Reception]) -> tuple[Verdict, str | None]:
    """The verdict, and the reason where something was not loaded."""
    for verdict, row in (
        (Verdict.LOADED, known.message),
        (Verdict.CHANGE, known.own_change),
        (Verdict.REACTION, known.own_reaction),
        (Verdict.IDENTITY_CHANGE, known.own_identity_change),
        (Verdict.CONVERSATION_EVENT, known.own_conversation_event),
    ):
        if row is not None:
            return verdict, None
    if known.quarantined:
        return Verdict.QUARANTINED, known.quarantined[0].reason
    for reception in receptions:
        if reception.role in {Role.RECORD, Role.UNREADABLE}:
            return _conclude_reception(reception)
    if known.statuses or any(item.role is Role.STATUS for item in receptions):
        return Verdict.STATUSES_ONLY, None
    return (Verdict.MENTIONED_ONLY if receptions else Verdict.NOT_FOUND), None


def _conclude_reception(reception: Reception) -> tuple[Verdict, str | None]:
    if reception.state != "done":
        return Verdict.NOT_LOADED_YET, reception.reason
    if reception.decision == "skip":
        return Verdict.SKIPPED, reception.reason
    if reception.decision == "quarantine":
        return Verdict.REJECTED_BEFORE, reception.reason
    if reception.kind in _KINDS_OUTDONE:
        return Verdict.OUTDONE, None
    return Verdict.GONE, "aged_out" if reception.kind in _KINDS_AGED else None
