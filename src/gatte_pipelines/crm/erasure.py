"""What Pipedrive must forget of a person, and whether it did (S2).

Plain functions, of which ``wiring`` makes the hook of ``privacy``: tasks, requests and their time
limits are kept there. A reference is ``lead:<uuid>``, or ``deal:``, ``person:``, ``organization:``
or ``note:`` with a number.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from gatte_pipelines.crm import models as m
from gatte_pipelines.crm.budget import DailyBudgetSpent
from gatte_pipelines.crm.company import SYSTEM
from gatte_pipelines.crm.failures import AccessRefusedError, BlockedError, RefusedError
from gatte_pipelines.database.statements import read_statements
from gatte_pipelines.errors import ConfigurationError, GatteError, RetryableError

if TYPE_CHECKING:
    import psycopg

    from gatte_pipelines.crm.client import PipedriveClient

_SQL = read_statements(Path(__file__).with_name("erasure.sql"))

ANONYMOUS_TITLE = "Negócio anonimizado"
"""What a deal is called whose person was erased: the deal is revenue of GATTE's and stays."""

_LEAD_FORM = re.compile(r"lead:([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})")
# Eighteen digits always fit a bigint.
_NUMBER_FORM = re.compile(r"(deal|person|organization|note):([1-9][0-9]{0,17})")
_SETTING = re.compile(r"GATTE_[A-Z_]+")


class UnknownReferenceError(ConfigurationError):
    """A task names something in a form that is not known here."""


@dataclass(frozen=True, kw_only=True)
class PendingErasures:
    """Records that open tasks name: whoever syncs leaves them alone.

    Attributes:
        lead_ids: Pipedrive's ids of leads.
        deal_ids: Of deals.
        person_ids: Of persons.
        organization_ids: Of organizations.
    """

    lead_ids: frozenset[UUID] = frozenset()
    deal_ids: frozenset[int] = frozenset()
    person_ids: frozenset[int] = frozenset()
    organization_ids: frozenset[int] = frozenset()


@dataclass(frozen=True, kw_only=True)
class Known:
    """What our tables know that a call there needs.

    Attributes:
        external_key: Of the custom field with our lead's id; None where it is not known.
        pending: What open tasks name.
    """

    external_key: str | None = None
    pending: PendingErasures = PendingErasures()


# --- in our tables ------------------------------------------------------------------------------


def plan_references(
    cursor: psycopg.Cursor[Any], user_ids: Sequence[UUID], lead_ids: Sequence[UUID]
) -> list[str]:
    """The references of people who are about to go, in the order in which they are best erased.

    An organization comes last: it goes only once nobody there has it.

    Args:
        cursor: In the transaction that clears the links, before it does; rows as tuples.
        user_ids: ``users.id``; their leads go too.
        lead_ids: ``leads.id``.
    """
    people = {"users": list(user_ids), "leads": list(lead_ids)}
    return [row[0] for row in cursor.execute(_SQL["plan_references"], people)]


def plan_orphan(
    cursor: psycopg.Cursor[Any], references: Sequence[str], *, lead_id: UUID, at: datetime
) -> int:
    """Write tasks for records there that name an anonymised lead of ours; how many are new.

    Args:
        cursor: In a transaction.
        references: Of the records.
        lead_id: Our lead, which stands for the person.
        at: Now.

    Raises:
        UnknownReferenceError: A reference has another form.
    """
    for reference in references:
        parse_reference(reference)
    cursor.execute(
        _SQL["insert_orphans"],
        {
            "subject_id": lead_id,
            "external_system": SYSTEM,
            "references": list(references),
            "instant": at,
        },
    )
    return cursor.rowcount


def pending_references(cursor: psycopg.Cursor[Any]) -> PendingErasures:
    """What open tasks name. A form that is not known names nothing; its task says so."""
    ids: dict[str, set[Any]] = {}
    for (reference,) in cursor.execute(_SQL["read_pending"], {"external_system": SYSTEM}):
        try:
            kind, record_id = parse_reference(reference)
        except UnknownReferenceError:
            continue
        ids.setdefault(kind, set()).add(record_id)
    return PendingErasures(
        lead_ids=frozenset(ids.get("lead", ())),
        deal_ids=frozenset(ids.get("deal", ())),
        person_ids=frozenset(ids.get("person", ())),
        organization_ids=frozenset(ids.get("organization", ())),
    )


def read_known(cursor: psycopg.Cursor[Any]) -> Known:
    """What ``erase`` and ``is_erased`` need of our tables."""
    row = cursor.execute(_SQL["read_external_key"], {"external_system": SYSTEM}).fetchone()
    return Known(
        external_key=None if row is None else row[0],
        pending=pending_references(cursor),
    )


def parse_reference(reference: str) -> tuple[str, UUID | int]:
    """Kind and id.

    Raises:
        UnknownReferenceError: It has another form; it is not repeated.
    """
    if (lead := _LEAD_FORM.fullmatch(reference)) is not None:
        return "lead", UUID(lead[1])
    if (other := _NUMBER_FORM.fullmatch(reference)) is not None:
        return other[1], int(other[2])
    raise UnknownReferenceError("an erasure task of pipedrive names a record in an unknown form")


# --- there --------------------------------------------------------------------------------------


def erase(client: PipedriveClient, reference: str, known: Known) -> None:
    """Erase one record there; again, where an earlier call took effect, does no harm.

    An organization that somebody still has is left as it is. Of a deal go title, notes and our id.

    Raises:
        UnknownReferenceError: The reference has another form.
        RefusedError: Pipedrive does not do it; a deal that is archived cannot be changed.
        GatteError: What the client raises.
    """
    kind, record_id = parse_reference(reference)
    if isinstance(record_id, UUID):
        _delete_notes(client, client.iter_notes(lead_id=record_id))
        client.delete_lead(record_id)
    else:
        _ERASE[kind](client, record_id, known)


def is_erased(client: PipedriveClient, reference: str, known: Known) -> bool:
    """Read whether a record is gone there, or holds nothing of the person any more.

    An organization that others have is theirs by now, and counts as gone.

    Raises:
        UnknownReferenceError: The reference has another form.
        GatteError: What the client raises.
    """
    kind, record_id = parse_reference(reference)
    if isinstance(record_id, UUID):
        # A note survives its lead.
        return client.get_lead(record_id) is None and not _has_notes(
            client.iter_notes(lead_id=record_id)
        )
    return _IS_ERASED[kind](client, record_id, known)


def _erase_deal(client: PipedriveClient, deal_id: int, known: Known) -> None:
    deal = client.get_deal(deal_id)
    if deal is not None and deal.is_archived and not deal.is_deleted:
        raise RefusedError(
            "not sent: the deal is archived, and an archived one cannot be changed",
            method="PATCH",
            path=f"/api/v2/deals/{deal_id}",
        )
    _delete_notes(client, client.iter_notes(deal_id=deal_id))
    if deal is None or deal.is_deleted:
        return
    key = known.external_key
    # A key that the account does not have, as after the field was deleted, would be refused.
    has_ours = key is not None and deal.custom_fields.get(key) is not None
    custom: m.CustomFields = {key: None} if key is not None and has_ours else {}
    client.update_deal(deal_id, m.DealChanges(title=ANONYMOUS_TITLE, custom_fields=custom))


def _is_deal_erased(client: PipedriveClient, deal_id: int, _known: Known) -> bool:
    deal = client.get_deal(deal_id)
    if deal is not None and not deal.is_deleted and deal.title != ANONYMOUS_TITLE:
        return False
    return not _has_notes(client.iter_notes(deal_id=deal_id))


def _erase_person(client: PipedriveClient, person_id: int, _known: Known) -> None:
    _delete_notes(client, client.iter_notes(person_id=person_id))
    client.delete_person(person_id)


def _is_person_erased(client: PipedriveClient, person_id: int, _known: Known) -> bool:
    person = client.get_person(person_id)
    if person is not None and not person.is_deleted:
        return False
    return not _has_notes(client.iter_notes(person_id=person_id))


def _erase_organization(client: PipedriveClient, organization_id: int, _known: Known) -> None:
    # Who has it and is to be erased too goes first; then this task's turn comes again.
    if next(_iter_who_has(client, organization_id), None) is None:
        client.delete_organization(organization_id)


def _is_organization_erased(client: PipedriveClient, organization_id: int, known: Known) -> bool:
    organization = client.get_organization(organization_id)
    if organization is None or organization.is_deleted:
        return True
    going = known.pending.lead_ids | known.pending.person_ids
    return any(holder not in going for holder in _iter_who_has(client, organization_id))


def _iter_who_has(client: PipedriveClient, organization_id: int) -> Iterator[UUID | int | None]:
    """Ids of persons and leads that have an organization, None for a deal; the cheapest first.

    A deal is never one that goes: it stays, and with it the organization.
    """
    for person in client.iter_persons(org_id=organization_id):
        if not person.is_deleted:
            yield person.id
    for deal in client.iter_deals(org_id=organization_id):
        if not deal.is_deleted:
            yield None
    for lead in client.iter_leads(organization_id=organization_id):
        yield lead.id
    for _ in client.iter_archived_deals(org_id=organization_id):
        yield None
    for lead in client.iter_archived_leads(organization_id=organization_id):
        yield lead.id


def _erase_note(client: PipedriveClient, note_id: int, _known: Known) -> None:
    client.delete_note(note_id)


def _is_note_erased(client: PipedriveClient, note_id: int, _known: Known) -> bool:
    note = client.get_note(note_id)
    return note is None or not note.active_flag


_ERASE: Final[dict[str, Callable[[PipedriveClient, int, Known], None]]] = {
    "deal": _erase_deal,
    "person": _erase_person,
    "organization": _erase_organization,
    "note": _erase_note,
}
_IS_ERASED: Final[dict[str, Callable[[PipedriveClient, int, Known], bool]]] = {
    "deal": _is_deal_erased,
    "person": _is_person_erased,
    "organization": _is_organization_erased,
    "note": _is_note_erased,
}


def _delete_notes(client: PipedriveClient, notes: Iterator[m.Note]) -> None:
    # The whole list first: what is deleted while its pages are read moves the others up.
    for note in list(notes):
        if note.active_flag:
            client.delete_note(note.id)


def _has_notes(notes: Iterator[m.Note]) -> bool:
    return any(note.active_flag for note in notes)


# --- what goes wrong ----------------------------------------------------------------------------


def ends_round(error: GatteError) -> bool:
    """Whether every other task would fail alike for now, so that none is worth a call."""
    if isinstance(error, ConfigurationError):
        return not isinstance(error, UnknownReferenceError)
    return isinstance(error, (RetryableError, BlockedError, DailyBudgetSpent))


def explain(error: GatteError) -> str:
    """What stands in the way, in Portuguese and without the reference; empty for what passes."""
    if isinstance(error, AccessRefusedError):
        return "o Pipedrive não aceita GATTE_PIPEDRIVE_API_TOKEN, ou a conta está fechada"
    if isinstance(error, UnknownReferenceError):
        return "referência em formato desconhecido"
    if isinstance(error, ConfigurationError):
        names = sorted(set(_SETTING.findall(error.message)))
        return f"confira {', '.join(names)}" if names else ""
    if isinstance(error, DailyBudgetSpent):
        return "a cota de tokens do dia acabou; continua no próximo dia"
    if isinstance(error, BlockedError):
        return "um firewall do Pipedrive bloqueou o acesso"
    if isinstance(error, RefusedError):
        return "o Pipedrive recusou; um registro arquivado tem de ser desarquivado antes"
    return ""
