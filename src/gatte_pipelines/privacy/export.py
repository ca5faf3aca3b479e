"""Write everything about a person into two files: JSON for machines, a page for the person.

What is read stands in ``export.sql``, how it looks in ``export_page``. Rows are streamed: a long
history passes through without being held.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast
from uuid import UUID

import msgspec
from psycopg.rows import dict_row

from gatte_pipelines.database.engine import psycopg_connection
from gatte_pipelines.database.statements import read_statements
from gatte_pipelines.errors import PermanentError
from gatte_pipelines.privacy.export_page import (
    SECTIONS,
    KeptFor,
    Recipient,
    Section,
    end_export,
    end_section,
    render_row,
    start_export,
    start_section,
)
from gatte_pipelines.privacy.subject_requests import (
    RequestKind,
    RequestState,
    close_request,
    read_request,
    transaction_at,
)
from gatte_pipelines.privacy.subject_stores import FoundRecord, SubjectFiles
from gatte_pipelines.privacy.subjects import (
    KnownBy,
    Subject,
    read_keys,
    read_subject,
    written_phone_keys,
)
from gatte_pipelines.sync.webhooks import name_contacts, name_records

if TYPE_CHECKING:
    import psycopg
    from sqlalchemy import Connection

_SQL = read_statements(Path(__file__).with_name("export.sql"))

SCHEMA = "gatte.subject_export"
SCHEMA_VERSION = 1
JSON_NAME, PAGE_NAME = "dados.json", "dados.html"
_FOLDER_MODE, _FILE_MODE = 0o700, 0o600
# A message may hold 64 kB; a page of rows must fit the memory whatever they hold.
_ROWS_PER_FETCH = 200


@dataclass(frozen=True, kw_only=True)
class Export:
    """Where a person's data was written, and how much. ``counts`` are rows by section."""

    request_id: UUID
    json_path: Path
    page_path: Path
    counts: dict[str, int]


@dataclass
class _Seen:
    """What tells who else got data."""

    models: set[str] = field(default_factory=set)
    has_crm: bool = False
    has_calendar: bool = False
    has_messages: bool = False

    def note(self, section: Section, row: Mapping[str, Any]) -> None:
        if section.name == "messages":
            self.has_messages = True
            if row["model"]:
                self.models.add(row["model"])
        elif section.name == "leads":
            self.has_crm |= row["crm_id"] is not None
        elif section.name == "crm_links":
            self.has_crm = True
        elif section.name == "appointments":
            self.has_calendar |= row["calendar_event_id"] is not None

    def recipients(self) -> Iterator[Recipient]:
        if self.has_messages:
            yield Recipient(
                name="Meta (WhatsApp)", purpose="Transporta as mensagens que trocamos com você."
            )
        if self.models:
            yield Recipient(
                name="Fornecedor do assistente de IA",
                purpose="Redige respostas a partir das suas mensagens. Modelos usados: "
                f"{', '.join(sorted(self.models))}.",
            )
        if self.has_crm:
            yield Recipient(name="Pipedrive", purpose="Acompanhamento comercial do seu interesse.")
        if self.has_calendar:
            yield Recipient(name="Google Agenda", purpose="Agenda dos compromissos marcados.")
        yield Recipient(
            name="Equipe da GATTE",
            purpose="Atende as conversas transferidas, os chamados e os compromissos.",
        )


def export_subject(
    connection: Connection,
    *,
    request_id: UUID,
    files: SubjectFiles,
    folder: Path,
    periods: Sequence[KeptFor],
    as_of: datetime,
) -> Export:
    """Write what we hold of the person of a request, and close the request.

    Asked again for the same request, it writes the files anew.

    Args:
        connection: To the database, outside a transaction.
        request_id: An open or closed request for an export.
        files: Landing files, archive and quarantine.
        folder: Of all exports; the files lie in one named after the request, for its owner only.
        periods: How long what is kept (`export_page.describe_periods`).
        as_of: Now.

    Raises:
        PermanentError: No such request, or one of another kind.
        UnknownSubjectError: The person of the request is gone.
    """
    driver = psycopg_connection(connection)
    target = folder / str(request_id)
    counts: dict[str, int] = {}
    with driver.transaction(), driver.cursor() as cursor:
        cursor.execute("set transaction isolation level repeatable read, read only")
        request = read_request(cursor, request_id)
        if request.kind != RequestKind.EXPORT:
            raise PermanentError(f"the request {request_id} does not ask for an export")
        subject = read_subject(cursor, request.user_id)
        known = read_keys(cursor, subject)
        make_folder(folder)
        make_folder(target)
        with ExitStack() as stack:
            data = stack.enter_context(written_atomically(target / JSON_NAME))
            page = stack.enter_context(written_atomically(target / PAGE_NAME))
            _write(
                _Writers(data, page),
                _iter_sections(driver, cursor, subject, known, files),
                request_id=request_id,
                subject=subject,
                shared=known.shared,
                periods=periods,
                as_of=as_of,
                counts=counts,
            )
    if request.state != RequestState.DONE:
        with transaction_at(connection, as_of) as closing:
            close_request(closing, request_id)
    return Export(
        request_id=request_id,
        json_path=target / JSON_NAME,
        page_path=target / PAGE_NAME,
        counts=counts,
    )


@dataclass(frozen=True)
class _Writers:
    data: IO[bytes]
    page: IO[bytes]


_Rows = Iterator[Mapping[str, Any]]


def _iter_sections(
    driver: psycopg.Connection[Any],
    cursor: psycopg.Cursor[Any],
    subject: Subject,
    known: KnownBy,
    files: SubjectFiles,
) -> Iterator[tuple[Section, _Rows]]:
    for section in SECTIONS:
        if section.name == "quarantine":
            yield section, _iter_records(files.find_quarantine(cursor, known.keys), known)
        elif section.name == "files":
            yield section, _iter_records(files.find(known.keys), known)
        else:
            yield section, _iter_rows(driver, section.name, subject)


def _iter_rows(driver: psycopg.Connection[Any], name: str, subject: Subject) -> _Rows:
    with driver.cursor(name=f"export_{name}", row_factory=dict_row) as rows:
        rows.itersize = _ROWS_PER_FETCH
        rows.execute(_SQL[name], subject.parameters())
        yield from rows


# What says whose a record is: in webhooks who sent it or whom it went to, in the chatbot's events
# the client.
_PEOPLE = frozenset(
    {
        "from",
        "from_user_id",
        "from_parent_user_id",
        "wa_id",
        "user_id",
        "parent_user_id",
        "to",
        "recipient_id",
        "recipient_user_id",
        "recipient_parent_user_id",
        "phone",
        "bsuid",
    }
)
_UUID = re.compile(rb"[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}")
# A member of staff in an event of the chatbot.
_STAFF = "transferred_to"


def _iter_records(records: Iterator[FoundRecord], known: KnownBy) -> _Rows:
    """What the files hold of this person: a record of somebody else that names them stays out.

    So does the text of one that cannot be read: whose it is nobody can say, but that it is there.
    """
    for one in records:
        try:
            content = msgspec.json.decode(one.record, type=dict[str, Any])
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            yield {"place": one.place, "line": one.line, "record": None}
            continue
        people = {
            _plain(value)
            for name in _PEOPLE & content.keys()
            if isinstance(value := content[name], str) and value
        }
        people |= _read_event(content, one.record)
        if people and people.isdisjoint(known.own):
            continue
        content.pop(_STAFF, None)
        yield {"place": one.place, "line": one.line, "record": content}


def _read_event(content: Mapping[str, Any], record: bytes) -> set[str]:
    """Whom a webhook of the CRM says that it is about; nobody where it is none."""
    people = set(name_records(content))
    if people:
        for contact in name_contacts(content):
            people |= {contact.lower(), *written_phone_keys(contact)[:1]}
        # Ours, wherever a field of theirs holds it.
        people |= {_plain(found.decode().lower()) for found in _UUID.findall(record)}
    return people


def _plain(value: str) -> str:
    """A number by its digits, a ``users.id`` by its hexadecimal ones."""
    return value.replace("-", "").removeprefix("+")


def _write(
    writers: _Writers,
    sections: Iterator[tuple[Section, _Rows]],
    *,
    request_id: UUID,
    subject: Subject,
    shared: int,
    periods: Sequence[KeptFor],
    as_of: datetime,
    counts: dict[str, int],
) -> None:
    encode = msgspec.json.Encoder(decimal_format="number").encode
    head = {
        "schema": SCHEMA,
        "version": SCHEMA_VERSION,
        "made_at": as_of,
        "request_id": request_id,
        "subject": {
            "id": subject.subject_id,
            "user_ids": subject.user_ids,
            "lead_ids": subject.lead_ids,
            "shared_identifiers": shared,
        },
    }
    writers.data.write(encode(head)[:-1] + b',"sections":{')
    writers.page.write(start_export(request_id=request_id, made_at=as_of).encode())
    seen = _Seen()
    for place, (section, rows) in enumerate(sections):
        writers.data.write(b",\n" if place else b"\n")
        writers.data.write(encode(section.name) + b":[")
        writers.page.write(start_section(section).encode())
        count, previous = 0, None
        for row in rows:
            writers.data.write(b",\n" if count else b"\n")
            writers.data.write(encode(row))
            # A text may hold half of a surrogate pair, which no file takes.
            writers.page.write(
                render_row(section, row, previous).encode("utf-8", "backslashreplace")
            )
            seen.note(section, row)
            count, previous = count + 1, row
        counts[section.name] = count
        writers.data.write(b"]")
        writers.page.write(end_section(section, count).encode())
    recipients = list(seen.recipients())
    tail = {
        "recipients": [{"name": one.name, "purpose": one.purpose} for one in recipients],
        "periods": [{"what": one.what, "how_long": one.how_long} for one in periods],
    }
    writers.data.write(b"},\n" + encode(tail)[1:] + b"\n")
    writers.page.write(end_export(recipients, periods).encode())


# --- Files for their owner only -------------------------------------------------------------------


def make_folder(folder: Path) -> None:
    """Make a folder for its owner only; the one above it may be of others and stays as it is."""
    folder.mkdir(parents=True, exist_ok=True, mode=_FOLDER_MODE)
    folder.chmod(_FOLDER_MODE)


@contextmanager
def written_atomically(path: Path) -> Iterator[IO[bytes]]:
    """Open a file that appears whole under its name, or not at all; for its owner only."""
    unfinished = path.with_name(f".{path.name}.part")
    unfinished.unlink(missing_ok=True)  # of a run that was killed
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _FILE_MODE)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            os.fchmod(stream.fileno(), _FILE_MODE)
            yield cast("IO[bytes]", stream)
            stream.flush()
            os.fsync(stream.fileno())
        unfinished.replace(path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise


def remove_exports(folder: Path, request_ids: Sequence[UUID]) -> int:
    """Remove what was exported for these requests; how many folders went."""
    removed = 0
    for request_id in request_ids:
        target = folder / str(request_id)
        if target.is_dir():
            shutil.rmtree(target)
            removed += 1
    return removed
