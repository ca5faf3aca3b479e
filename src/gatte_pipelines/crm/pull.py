"""What changed in Pipedrive since the last run, as far as it is about leads of ours.

Three lists, each read from its watermark with an overlap: leads, persons, deals. What becomes of a
change belongs to ``exchange``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import islice
from typing import TypeVar
from uuid import UUID

from gatte_pipelines.crm import mapping
from gatte_pipelines.crm import models as m
from gatte_pipelines.crm.erasure import ANONYMOUS_TITLE
from gatte_pipelines.crm.links import CLOCK_SKEW, KnownLead
from gatte_pipelines.crm.session import Session

T = TypeVar("T")
CaseT = TypeVar("CaseT", m.Lead, m.Deal)

OVERLAP = timedelta(minutes=10)
"""So far behind its watermark a list begins: offsets over a moving list can skip a row."""
FIRST_LOOK_BACK = timedelta(days=1)
"""How far the first run of a database looks back that imports nothing: what carries an id of ours
can only be there since somebody used this sync."""
# Records whose links are looked up together.
_BATCH = 500

LEADS, PERSONS, DEALS = "leads", "persons", "deals"


@dataclass(kw_only=True)
class Changes:
    """Records there that changed and are about leads of ours.

    Attributes:
        leads: By the id of ours.
        deals: By the id of ours.
        persons: By their id there.
        organizations: By their id there.
        persons_of: The leads of ours that a changed person has.
        adopted: Leads there that name one of ours which is not linked with them, by its id.
        born_there: Leads there that are nobody's here.
        orphans: Leads of ours that are anonymised and records there that still name them.
        pending: Records that are being erased.
        archived: Links whose record there is archived.
        watermarks: How far each list came.
    """

    leads: dict[UUID, m.Lead] = field(default_factory=dict)
    deals: dict[UUID, m.Deal] = field(default_factory=dict)
    persons: dict[int, m.Person] = field(default_factory=dict)
    organizations: dict[int, m.Organization] = field(default_factory=dict)
    touched: set[UUID] = field(default_factory=set)
    adopted: dict[UUID, m.Lead | m.Deal] = field(default_factory=dict)
    born_there: list[m.Lead] = field(default_factory=list)
    orphans: list[tuple[UUID, str]] = field(default_factory=list)
    pending: int = 0
    watermarks: dict[str, str] = field(default_factory=dict)

    @property
    def lead_ids(self) -> set[UUID]:
        """The linked leads of ours that something there changed for."""
        return self.touched | self.leads.keys() | self.deals.keys()

    def is_about(self, lead_id: UUID) -> bool:
        """Whether a linked lead is one of them."""
        return lead_id in self.touched or lead_id in self.leads or lead_id in self.deals


def read_changes(session: Session, *, since: datetime | None, imports: bool) -> Changes:
    """Read what changed there; three calls where nothing did.

    Args:
        session: Of the run.
        since: Read from there on; None for the watermarks.
        imports: Whether leads that were born there are of interest.
    """
    changes = Changes()
    leads_since, persons_since, deals_since = (
        _begin(session, name, since, imports=imports) for name in (LEADS, PERSONS, DEALS)
    )
    marks = _Marks(session, changes, since)
    client = session.client
    leads = marks.watch(LEADS, client.iter_leads(updated_since=leads_since))
    for some_leads in _batches(leads):
        _take_leads(session, changes, some_leads, imports=imports)
    persons = marks.watch(PERSONS, client.iter_persons(updated_since=persons_since))
    for some_persons in _batches(persons):
        take_persons(session, changes, some_persons)
    deals = marks.watch(DEALS, client.iter_deals(updated_since=deals_since))
    for some_deals in _batches(deals):
        take_deals(session, changes, some_deals)
    marks.close()
    return changes


def take_persons(session: Session, changes: Changes, persons: Iterable[m.Person]) -> None:
    """Keep those that a linked lead of ours has."""
    found = {person.id: person for person in persons}
    with session.links.transaction() as cursor:
        leads_of = session.links.of_persons(cursor, found)
    for person_id, lead_ids in leads_of.items():
        if person_id in session.pending.person_ids:
            changes.pending += 1
        else:
            changes.persons[person_id] = found[person_id]
            changes.touched.update(lead_ids)


def take_organizations(
    session: Session, changes: Changes, organizations: Iterable[m.Organization]
) -> None:
    """Keep those that a linked lead of ours has."""
    found = {organization.id: organization for organization in organizations}
    with session.links.transaction() as cursor:
        leads_of = session.links.of_organizations(cursor, found)
    for organization_id, lead_ids in leads_of.items():
        changes.organizations[organization_id] = found[organization_id]
        changes.touched.update(lead_ids)


def take_deals(session: Session, changes: Changes, deals: Iterable[m.Deal]) -> None:
    """Keep those that are a lead of ours, or were made of one."""
    found = {deal.id: deal for deal in deals}
    sources = {deal.source_lead_id for deal in found.values() if deal.source_lead_id is not None}
    with session.links.transaction() as cursor:
        by_deal, by_lead = session.links.of_deals(cursor, found, sources)
    strangers: list[m.Deal] = []
    for deal in found.values():
        link = by_deal.get(deal.id)
        if link is None and deal.source_lead_id is not None:
            link = by_lead.get(deal.source_lead_id)
        if deal.id in session.pending.deal_ids:
            changes.pending += 1
        elif link is None:
            strangers.append(deal)
        elif link[1] == "linked":
            changes.deals[link[0]] = deal
        elif link[1] == "deleted":
            changes.adopted[link[0]] = deal
    _take_strangers(session, changes, strangers)


def _take_leads(
    session: Session, changes: Changes, leads: Iterable[m.Lead], *, imports: bool
) -> None:
    found = {lead.id: lead for lead in leads}
    with session.links.transaction() as cursor:
        known = session.links.of_remote_leads(cursor, found)
    strangers: list[m.Lead] = []
    for lead in found.values():
        link = known.get(lead.id)
        if lead.id in session.pending.lead_ids:
            changes.pending += 1
        elif link is None:
            strangers.append(lead)
        elif link[1] == "linked":
            changes.leads[link[0]] = lead
        elif link[1] == "deleted":
            changes.adopted[link[0]] = lead
    nobodys = _take_strangers(session, changes, strangers)
    if imports:
        changes.born_there += nobodys


def _take_strangers(session: Session, changes: Changes, records: Iterable[CaseT]) -> list[CaseT]:
    """Those that carry the id of a lead of ours without being linked; the others come back.

    A call that timed out made them, or a person made a copy of one.
    """
    naming: dict[UUID, list[CaseT]] = {}
    nobodys: list[CaseT] = []
    for record in records:
        ours = mapping.names_our_lead(record, session.account)
        if ours is None:
            nobodys.append(record)
        else:
            naming.setdefault(ours, []).append(record)
    if not naming:
        return nobodys
    with session.links.transaction() as cursor:
        known = session.links.read(cursor, list(naming))
    for lead_id, named in naming.items():
        lead = known.get(lead_id)
        for record in named:
            _judge_stranger(session, changes, lead_id, lead, record)
    return nobodys


def _judge_stranger(
    session: Session,
    changes: Changes,
    lead_id: UUID,
    lead: KnownLead | None,
    record: m.Lead | m.Deal,
) -> None:
    if lead is None:
        session.tell("unknown_lead")
    elif lead.is_anonymized:
        if isinstance(record, m.Deal) and record.title == ANONYMOUS_TITLE:
            return  # cleaned already; what its creator gave it cannot be taken away
        kind = "deal" if isinstance(record, m.Deal) else "lead"
        changes.orphans.append((lead_id, f"{kind}:{record.id}"))
        if record.person_id is not None:
            changes.orphans.append((lead_id, f"person:{record.person_id}"))
    elif lead.link is None or lead.link.state == "pending":
        changes.adopted.setdefault(lead_id, record)
    else:
        # A copy that somebody made there; or what a deal was turned back into, which the deal's
        # absence shows.
        changes.adopted.setdefault(lead_id, record)


class _Marks:
    """The last change that each list showed, which the next run begins at."""

    def __init__(self, session: Session, changes: Changes, since: datetime | None) -> None:
        self._session = session
        self._changes = changes
        self._since = since
        self._latest: dict[str, datetime] = {}

    def watch(self, name: str, records: Iterator[T]) -> Iterator[T]:
        """The records themselves, each looked at for its time of change."""
        for record in records:
            at: datetime | None = getattr(record, "update_time", None)
            if at is not None and (name not in self._latest or at > self._latest[name]):
                self._latest[name] = at
            yield record

    def close(self) -> None:
        """What to save, also where nothing came.

        A list that was read at our instant shows everything that Pipedrive's clock, which may
        differ from ours by so much, had by then.
        """
        with self._session.links.transaction() as cursor:
            for name in (LEADS, PERSONS, DEALS):
                before = self._session.links.read_watermark(cursor, name)
                marks = [self._session.now - CLOCK_SKEW]
                if before is not None:
                    marks.append(datetime.fromisoformat(before))
                    if self._since is not None and self._since > marks[-1]:
                        # What lies between was not read, and is left to the next run.
                        self._changes.watermarks[name] = before
                        continue
                if name in self._latest:
                    marks.append(self._latest[name])
                self._changes.watermarks[name] = max(marks).isoformat()


def _begin(
    session: Session, name: str, since: datetime | None, *, imports: bool
) -> datetime | None:
    if since is not None:
        return since
    with session.links.transaction() as cursor:
        mark = session.links.read_watermark(cursor, name)
    if mark is not None:
        return datetime.fromisoformat(mark) - OVERLAP
    return None if imports else session.now - FIRST_LOOK_BACK


def _batches(records: Iterator[T]) -> Iterator[list[T]]:
    while batch := list(islice(records, _BATCH)):
        yield batch
