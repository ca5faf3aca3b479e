"""Erase a person on request (LGPD art. 18, VI), in steps that a kill may part anywhere.

The order: announced in the ledger, here and outside; erased in the tables in one transaction, with
its proof; erased in the files; closed when every other system has confirmed. The same request again
goes on where the one before ended. How rows are anonymised belongs to ``people``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

from psycopg.types.json import Jsonb

from gatte_pipelines.database.client_locks import exclusive_lock
from gatte_pipelines.database.statements import read_statements
from gatte_pipelines.errors import PermanentError, RetryableError
from gatte_pipelines.personal_data import SubjectKeys
from gatte_pipelines.privacy.export import remove_exports
from gatte_pipelines.privacy.external import (
    FILES,
    ErasureHook,
    begin_attempt,
    confirm_task,
    count_tasks,
    insert_tasks,
    plan_external_tasks,
    read_own_tasks,
)
from gatte_pipelines.privacy.people import (
    anonymize_leads,
    anonymize_users,
    probe_old_values,
    read_old_values,
)
from gatte_pipelines.privacy.subject_requests import (
    RequestKind,
    RequestState,
    SubjectRequest,
    close_request,
    read_request,
    transaction_at,
)
from gatte_pipelines.privacy.subject_stores import ErasureLedger, SubjectFiles
from gatte_pipelines.privacy.subjects import Subject, read_keys, read_subject

if TYPE_CHECKING:
    import psycopg
    from sqlalchemy import Connection

_SQL = read_statements(Path(__file__).with_name("erasure.sql"))

RULE = "subject_request"
"""What ``pipeline.anonymized_rows`` says these rows were anonymised for."""

# A merge of clients between the announcement and the lock names other users: announced again.
_MAX_ANNOUNCEMENTS = 3

STAYS_BECAUSE: Mapping[str, str] = {
    "tickets": "guardados inteiros: obrigação legal e auditoria (LGPD art. 16, I)",
    "conversations": "só datas e estados, que não levam a ninguém (art. 12)",
    "messages": "só data, hora e contagens, sem texto (art. 12)",
    "appointments": "só datas e estados, sem anotações nem código da agenda (art. 12)",
    "services": "contrato: plano, valores e datas, sem anotações (art. 16, I)",
    "certificates": "emissão e validade, sem dado que leve à pessoa (art. 16, I)",
    "opt_outs": "só data e assunto, sem número (art. 12)",
}
"""Why what an erasure leaves stays, by table, in Portuguese."""


class HeldError(PermanentError):
    """A hold covers the person or a row of theirs; the request stays open."""

    def __init__(self, request_id: UUID, hold_ids: list[UUID]) -> None:
        self.hold_ids = hold_ids
        names = ", ".join(map(str, hold_ids))
        super().__init__(
            f"request {request_id} cannot be carried out while held (hold {names}); nothing was "
            "erased and the request stays open"
        )


class Outcome(StrEnum):
    """What became of a call."""

    PLANNED = "planned"
    ERASED = "erased"
    NOTHING_LEFT = "nothing_left"
    ALREADY_DONE = "already_done"


@dataclass(frozen=True, kw_only=True)
class Erasure:
    """What would be erased, or was.

    Attributes:
        request_id: The request.
        subject: Whose.
        outcome: ``planned`` for a dry run.
        state: Of the request, after this call.
        going: Rows and records that go, by table or store; after an execution those that went.
        staying: Rows that stay, by table; why says `STAYS_BECAUSE`.
        external: Open references in other systems, by system.
        holds: What forbids it now.
        is_nothing_left: Nothing goes and no other system has a reference that it was not told of.
        shared_identifiers: Numbers and the like that are somebody else's too: files are then
            searched by the ids of messages alone.
    """

    request_id: UUID
    subject: Subject
    outcome: Outcome
    state: RequestState
    going: dict[str, int]
    staying: dict[str, int]
    external: dict[str, int]
    holds: tuple[UUID, ...] = ()
    is_nothing_left: bool = False
    shared_identifiers: int = 0

    @property
    def message(self) -> str:
        """One sentence in Portuguese, without personal data."""
        if self.outcome is Outcome.PLANNED:
            if self.holds:
                return "Há uma guarda em vigor: o pedido fica aberto e nada pode ser eliminado."
            if self.is_nothing_left:
                return "Nada resta a eliminar: os dados desta pessoa já foram eliminados."
            return "Simulação: nada foi eliminado."
        if self.outcome is Outcome.NOTHING_LEFT:
            return "Nada restava a eliminar: os dados desta pessoa já tinham sido eliminados."
        if self.outcome is Outcome.ALREADY_DONE:
            return "Este pedido já foi concluído; nada mais foi feito."
        if self.state is RequestState.DONE:
            return "Dados eliminados e conferidos; pedido concluído."
        return "Dados eliminados aqui; o pedido espera a confirmação de outros sistemas."


@dataclass(frozen=True)
class _Work:
    """What the steps of one request share."""

    connection: Connection
    request: SubjectRequest
    ledger: ErasureLedger
    files: SubjectFiles
    hooks: Mapping[str, ErasureHook]
    exports: Path
    as_of: datetime

    @property
    def request_id(self) -> UUID:
        return self.request.request_id


@dataclass
class _Announced:
    """What the ledger says of a request."""

    by_ids: dict[tuple[tuple[str, ...], tuple[str, ...]], int] = field(default_factory=dict)
    is_carried_out: bool = False


class _SubjectChangedError(Exception):
    """Clients were merged or leads came between the announcement and the lock."""


def erase_subject(
    connection: Connection,
    *,
    request_id: UUID,
    ledger: ErasureLedger,
    files: SubjectFiles,
    hooks: Mapping[str, ErasureHook],
    exports: Path,
    as_of: datetime,
    execute: bool = False,
) -> Erasure:
    """Erase the person of a request, or say what would go.

    Whoever executes holds the single flight of ``inbound_messages``, since files are rewritten.

    Args:
        connection: To the database, outside a transaction.
        request_id: An erasure request; a killed one is carried on by the same call.
        ledger: Written before anything is destroyed and together with it.
        files: Landing files, archive and quarantine.
        hooks: Other systems that hold data, by name (`external.index_hooks`).
        exports: Folder of the exports; those of this person go.
        as_of: Now.
        execute: Without it nothing changes.

    Raises:
        HeldError: A hold covers the person; nothing was erased.
        PermanentError: No such request or of another kind; the ledger cannot be written; an old
            value was still found after erasing, and all was rolled back; or a file still holds a
            record of the person. The request stays open.
        RetryableError: The person's users changed all the time.
        UnknownSubjectError: The person of the request is gone.
    """
    with transaction_at(connection, as_of) as cursor:
        request = read_request(cursor, request_id)
        if request.kind != RequestKind.ERASE:
            raise PermanentError(f"the request {request_id} does not ask for an erasure")
        work = _Work(connection, request, ledger, files, hooks, exports, as_of)
        planned = _plan(cursor, work)
        announced = _read_announced(cursor, request_id)
        unfinished = read_own_tasks(
            cursor, FILES, subject_id=planned.subject.subject_id, request_id=request_id
        )
    if not execute:
        return planned
    if request.state == RequestState.DONE:
        return _with(planned, Outcome.ALREADY_DONE, RequestState.DONE)
    outcome = Outcome.ERASED
    if announced.is_carried_out:
        ledger.catch_up()  # the run before may have been killed ahead of it
    elif planned.holds:
        raise HeldError(request_id, list(planned.holds))
    elif planned.is_nothing_left and not unfinished:
        outcome = Outcome.NOTHING_LEFT
    else:
        _erase_tables(work, announced)
    _erase_files(work, planned.subject)
    with transaction_at(connection, as_of) as cursor:
        removed = remove_exports(exports, _read_exports(cursor, planned.subject))
        if removed:
            _note_done(cursor, request_id, {"exports": removed})
        state = close_request(cursor, request_id)
        going = planned.going if outcome is Outcome.NOTHING_LEFT else read_done(cursor, request_id)
        tasks = count_tasks(cursor, subject_id=request.user_id, request_id=request_id)
    return Erasure(
        request_id=request_id,
        subject=planned.subject,
        outcome=outcome,
        state=state,
        going=going,
        staying=planned.staying,
        external={system: waiting for system, (waiting, _) in tasks.items() if waiting},
        shared_identifiers=planned.shared_identifiers,
    )


def _with(erasure: Erasure, outcome: Outcome, state: RequestState) -> Erasure:
    return Erasure(
        request_id=erasure.request_id,
        subject=erasure.subject,
        outcome=outcome,
        state=state,
        going={},
        staying=erasure.staying,
        external={},
    )


# --- What would go --------------------------------------------------------------------------------


def _plan(cursor: psycopg.Cursor[Any], work: _Work) -> Erasure:
    subject = read_subject(cursor, work.request.user_id)
    known = read_keys(cursor, subject)
    parameters = subject.parameters()
    going: dict[str, int] = dict(cursor.execute(_SQL["count_going"], parameters).fetchall())
    going["quarantine"] = sum(1 for _ in work.files.find_quarantine(cursor, known.keys))
    going["source_names"] = work.files.count_names(cursor, known.keys)
    files = work.files.rewrite(known.keys, execute=False)
    going |= {"files": files.records, "file_names": files.renamed}
    going["exports"] = sum(
        (work.exports / str(export)).is_dir() for export in _read_exports(cursor, subject)
    )
    external = {
        system: len(hook.plan(cursor, subject.user_ids, subject.lead_ids))
        for system, hook in work.hooks.items()
    }
    is_nothing_left = not any(going.values()) and not any(external.values())
    tasks = count_tasks(cursor, subject_id=subject.subject_id, request_id=work.request_id)
    for system, (waiting, _) in tasks.items():
        external[system] = max(waiting, external.get(system, 0))
    return Erasure(
        request_id=work.request_id,
        subject=subject,
        outcome=Outcome.PLANNED,
        state=RequestState(work.request.state),
        going=going,
        staying=dict(cursor.execute(_SQL["count_staying"], parameters).fetchall()),
        external={system: count for system, count in external.items() if count},
        holds=tuple(_find_holds(cursor, subject)),
        is_nothing_left=is_nothing_left,
        shared_identifiers=known.shared,
    )


def _find_holds(cursor: psycopg.Cursor[Any], subject: Subject) -> list[UUID]:
    return [row[0] for row in cursor.execute(_SQL["find_holds"], subject.parameters())]


def _read_exports(cursor: psycopg.Cursor[Any], subject: Subject) -> list[UUID]:
    return [row[0] for row in cursor.execute(_SQL["find_exports"], subject.parameters())]


# --- Step by step ---------------------------------------------------------------------------------


def _read_announced(cursor: psycopg.Cursor[Any], request_id: UUID) -> _Announced:
    announced = _Announced()
    for seq, user_ids, lead_ids, erased_seq in cursor.execute(
        _SQL["find_entries"], {"request_id": str(request_id)}
    ):
        announced.by_ids[tuple(sorted(user_ids)), tuple(sorted(lead_ids))] = seq
        announced.is_carried_out |= erased_seq is not None
    return announced


def _erase_tables(work: _Work, announced: _Announced) -> None:
    for _ in range(_MAX_ANNOUNCEMENTS):
        with transaction_at(work.connection, work.as_of) as cursor:
            subject = read_subject(cursor, work.request.user_id)
        users = sorted(map(str, subject.user_ids))
        leads = sorted(map(str, subject.lead_ids))
        seq = announced.by_ids.get((tuple(users), tuple(leads)))
        if seq is None:
            seq = work.ledger.append(
                "erasure",
                {"request_id": str(work.request_id), "user_ids": users, "lead_ids": leads},
                at=work.as_of,
            )
        try:
            with transaction_at(work.connection, work.as_of) as cursor:
                _erase_rows(cursor, work, subject, seq)
        except _SubjectChangedError:
            continue
        work.ledger.catch_up()
        return
    raise RetryableError("the users of this person are being merged; run the request again")


def _erase_rows(cursor: psycopg.Cursor[Any], work: _Work, announced: Subject, seq: int) -> None:
    """Everything in the tables, with its proof and the ledger's outcome: all of it or nothing."""
    exclusive_lock(cursor)
    cursor.execute(_SQL["lock_request"], {"request_id": work.request_id})
    if _read_announced(cursor, work.request_id).is_carried_out:
        return  # by another run that had the lock before
    subject = read_subject(cursor, work.request.user_id)
    if (subject.user_ids, subject.lead_ids) != (announced.user_ids, announced.lead_ids):
        raise _SubjectChangedError
    held = _find_holds(cursor, subject)
    if held:
        raise HeldError(work.request_id, held)
    parameters = subject.parameters()
    known = read_keys(cursor, subject)
    values = read_old_values(cursor, subject.user_ids, subject.lead_ids)
    done: dict[str, int] = dict(cursor.execute(_SQL["count_going"], parameters).fetchall())
    plan_external_tasks(
        cursor,
        work.hooks,
        subject_id=subject.subject_id,
        user_ids=subject.user_ids,
        lead_ids=subject.lead_ids,
        request_id=work.request_id,
    )
    # What the files are searched for goes from the tables now: it waits here until they are clean.
    insert_tasks(
        cursor,
        FILES,
        [_to_reference(known.keys)],
        subject_id=subject.subject_id,
        request_id=work.request_id,
    )
    remember_messages(cursor, subject)
    people = anonymize_users(cursor, subject.user_ids, rule=RULE)
    unlinked = anonymize_leads(cursor, subject.lead_ids, rule=RULE)
    done |= people.rows | {"users": people.users, "leads": people.leads + unlinked}
    done["quarantine"] = sum(1 for _ in work.files.find_quarantine(cursor, known.keys))
    work.files.erase_quarantine(cursor, known.keys)
    done["source_names"] = work.files.erase_names(cursor, known.keys)
    left = probe_old_values(cursor, values, subject.user_ids, subject.lead_ids)
    left += [place for place, count in cursor.execute(_SQL["count_going"], parameters) if count]
    if any(True for _ in work.files.find_quarantine(cursor, known.keys)):
        left.append("quarantine")
    if work.files.count_names(cursor, known.keys):
        left.append("source_names")
    if left:
        raise PermanentError(
            f"old values were still found in {', '.join(sorted(set(left)))}: nothing was erased "
            "and the request stays open"
        )
    _note_done(cursor, work.request_id, done)
    # Last: the chain is locked until the transaction ends.
    work.ledger.append_within(
        cursor,
        "erased",
        {
            "erasure": seq,
            "user_ids": sorted(map(str, subject.user_ids)),
            "lead_ids": sorted(map(str, subject.lead_ids)),
        },
        at=work.as_of,
    )


def remember_messages(cursor: psycopg.Cursor[Any], subject: Subject) -> None:
    """Note what the provider may still deliver again of a person: it will create nothing.

    Args:
        cursor: In the transaction that erases the person, before it does.
        subject: Who.
    """
    cursor.execute(_SQL["remember_messages"], subject.parameters())


def _erase_files(work: _Work, subject: Subject) -> None:
    """Take the person out of the files, and let go of what they were searched for."""
    with transaction_at(work.connection, work.as_of) as cursor:
        tasks = read_own_tasks(
            cursor, FILES, subject_id=subject.subject_id, request_id=work.request_id
        )
        message_ids = read_keys(cursor, subject).keys.message_ids
    for task_id, _ in tasks:
        with transaction_at(work.connection, work.as_of) as cursor:
            reference = begin_attempt(cursor, task_id)
        if reference is None:
            continue  # another run was there before
        keys = _to_keys(reference, message_ids)
        rewritten = work.files.rewrite(keys, execute=True)
        left = work.files.holds(keys)
        if left:
            raise PermanentError(
                f"{left} record(s) of the person are still in the files; the request stays open: "
                "run it again"
            )
        with transaction_at(work.connection, work.as_of) as cursor:
            confirm_task(cursor, task_id)
            _note_done(
                cursor,
                work.request_id,
                {"files": rewritten.records, "file_names": rewritten.renamed},
            )


def _to_reference(keys: SubjectKeys) -> str:
    """Keys as a task holds them: without the ids of messages, which stay in their table."""
    return json.dumps(
        {
            "phones": sorted(keys.phones),
            "bsuids": sorted(keys.bsuids),
            "emails": sorted(keys.emails),
            "user_ids": sorted(keys.user_ids),
            "lead_ids": sorted(keys.lead_ids),
            "crm_records": sorted(keys.crm_records),
        }
    )


def _to_keys(reference: str, message_ids: frozenset[str]) -> SubjectKeys:
    stored = json.loads(reference)
    return SubjectKeys(
        phones=frozenset(stored["phones"]),
        bsuids=frozenset(stored["bsuids"]),
        emails=frozenset(stored["emails"]),
        message_ids=message_ids,
        user_ids=frozenset(stored["user_ids"]),
        # A task of before the CRM was known has neither.
        lead_ids=frozenset(stored.get("lead_ids", ())),
        crm_records=frozenset(stored.get("crm_records", ())),
    )


def _note_done(cursor: psycopg.Cursor[Any], request_id: UUID, counts: Mapping[str, int]) -> None:
    cursor.execute(_SQL["note_done"], {"request_id": request_id, "contents": Jsonb(dict(counts))})


def read_done(cursor: psycopg.Cursor[Any], request_id: UUID) -> dict[str, int]:
    """What an erasure erased, by table or store; empty where it has not begun."""
    row = cursor.execute(_SQL["read_done"], {"request_id": request_id}).fetchone()
    return {} if row is None else {str(place): int(count) for place, count in row[0].items()}


def read_staying(cursor: psycopg.Cursor[Any], subject: Subject) -> dict[str, int]:
    """What an erasure leaves, by table."""
    return dict(cursor.execute(_SQL["count_staying"], subject.parameters()).fetchall())


def read_ledger_seqs(
    cursor: psycopg.Cursor[Any], request_id: UUID
) -> tuple[tuple[int, ...], tuple[UUID, ...]]:
    """Entries of the ledger about a request, and the leads that they name."""
    seqs: set[int] = set()
    leads: set[UUID] = set()
    for seq, _, lead_ids, erased_seq in cursor.execute(
        _SQL["find_entries"], {"request_id": str(request_id)}
    ):
        seqs |= {seq} if erased_seq is None else {seq, erased_seq}
        leads |= {UUID(lead_id) for lead_id in lead_ids} if erased_seq is not None else set()
    return tuple(sorted(seqs)), tuple(sorted(leads))
