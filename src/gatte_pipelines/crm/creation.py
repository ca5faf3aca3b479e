"""Leads that are linked for the first time: made there, met there, or born there.

What both sides then hold differently is carried over by ``exchange``.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from uuid import UUID, uuid4

from gatte_pipelines.crm import mapping
from gatte_pipelines.crm import models as m
from gatte_pipelines.crm.company import SYSTEM
from gatte_pipelines.crm.exchange import Direction, Exchange, Outcome
from gatte_pipelines.crm.failures import RefusedError
from gatte_pipelines.crm.links import KnownLead
from gatte_pipelines.crm.mapping import LocalLead
from gatte_pipelines.crm.outgoing import (
    Outgoing,
    UnavailableError,
    WaitingError,
    link_case,
)
from gatte_pipelines.crm.pull import Changes
from gatte_pipelines.crm.session import Session
from gatte_pipelines.sync import conflicts, outbox
from gatte_pipelines.sync.merge import Side

if TYPE_CHECKING:
    import psycopg

CREATED = "created"
"""Reason of an outcome: a lead was made, there or here."""

_TAKEN = "same_crm_id"
_MAX_INTEREST = 200
_DEAL_ID = re.compile(r"[1-9][0-9]{0,17}")


class Creation:
    """Links leads that are not linked yet.

    Args:
        session: Of the run.
        exchange: Carries over what differs.
    """

    def __init__(self, session: Session, exchange: Exchange) -> None:
        self._session = session
        self._exchange = exchange
        self.outgoing = Outgoing(session)

    def push(self, lead_id: UUID) -> Outcome:
        """Make a lead of ours there: its organization, its person, then itself.

        Raises:
            WaitingError: The end of an earlier or of this call is not known.
            UnavailableError: It is anonymised or gone.
            RefusedError: Pipedrive does not take it.
        """
        session = self._session
        with session.links.transaction() as cursor:
            known = session.links.lock(cursor, lead_id)
            if known is None or known.is_anonymized:
                raise UnavailableError
            session.links.begin(cursor, lead_id)
            known = session.links.lock(cursor, lead_id)
            assert known is not None and known.link is not None  # noqa: S101, PT018 - just made
        changes = Changes()
        record = self._make(known, changes)
        if isinstance(record, m.Deal):
            changes.deals[lead_id] = record
        else:
            changes.leads[lead_id] = record
        self._settle(lead_id, changes)
        return Outcome(reason=CREATED)

    def _make(self, known: KnownLead, changes: Changes) -> m.Lead | m.Deal:
        session, lead_id = self._session, known.local.lead_id
        link = known.link
        assert link is not None  # noqa: S101 - begun by the caller
        organization_id, person_id = link.organization_id, link.person_id
        company = mapping.ours_of(known.local)["company"]
        if company is not None and organization_id is None:
            organization = self.outgoing.organization_of(known, company)
            changes.organizations[organization.id] = organization
            organization_id = organization.id
        try:
            if person_id is None:
                person = self.outgoing.person_of(known, org_id=organization_id)
                changes.persons[person.id] = person
                person_id = person.id
            return self.outgoing.lead_of(
                known, person_id=person_id, organization_id=organization_id
            )
        except RefusedError:
            # What was found or made by an earlier run may have been deleted there since.
            if not self._forget_missing(lead_id, person_id, organization_id):
                raise
        session.tell("made_again")
        raise WaitingError

    def _forget_missing(
        self, lead_id: UUID, person_id: int | None, organization_id: int | None
    ) -> bool:
        session = self._session
        is_person_gone = is_organization_gone = False
        if person_id is not None:
            person = session.client.get_person(person_id)
            is_person_gone = person is None or person.is_deleted
        if organization_id is not None:
            organization = session.client.get_organization(organization_id)
            is_organization_gone = organization is None or organization.is_deleted
        with session.links.transaction() as cursor:
            if is_person_gone:
                session.links.set_person(cursor, lead_id, None, is_ours=False)
            if is_organization_gone:
                session.links.set_organization(cursor, lead_id, None, is_ours=False)
        return is_person_gone or is_organization_gone

    def adopt(self, lead_id: UUID, record: m.Lead | m.Deal) -> Outcome:
        """Link a lead of ours with a record there that names it.

        One that is linked with another record keeps that, unless that is gone.
        """
        session = self._session
        with session.links.transaction() as cursor:
            known = session.links.read(cursor, [lead_id]).get(lead_id)
        if known is None or known.is_anonymized:
            raise UnavailableError
        if known.link is not None and known.link.state == "merged":
            return Outcome(reason="changed")
        if known.link is not None and known.link.state == "linked":
            remote = self._exchange.read(known, Changes())
            if not remote.gone:
                session.tell("copy_there")
                return Outcome(reason="copy_there")
        with session.links.transaction() as cursor:
            locked = session.links.lock(cursor, lead_id)
            if locked is None or locked.is_anonymized:
                raise UnavailableError
            if self._is_taken(cursor, lead_id, record):
                session.tell(_TAKEN)
                return Outcome(reason=_TAKEN)
            session.links.begin(cursor, lead_id)
            link_case(session, cursor, lead_id, record)
            session.links.set_person(cursor, lead_id, record.person_id, is_ours=False)
            # What a creation that was begun made is this record.
            outbox.settle(cursor, SYSTEM, lead_id, "create_lead")
        session.intents_of(lead_id).pop("create_lead", None)
        if record.is_archived:
            return Outcome(reason="archived")
        changes = Changes()
        if isinstance(record, m.Deal):
            changes.deals[lead_id] = record
        else:
            changes.leads[lead_id] = record
        self._settle(lead_id, changes)
        is_first = known.link is None or known.link.state == "pending"
        return Outcome(reason=CREATED if is_first else None, there=frozenset({"link"}))

    def adopt_by_crm_id(self, lead_id: UUID, crm_id: str) -> Outcome:
        """Link a lead that somebody else gave its ``crm_id``: of a lead or a deal there."""
        client, session = self._session.client, self._session
        remote_id = _parse_crm_id(crm_id)
        record: m.Lead | m.Deal | None = None
        if isinstance(remote_id, UUID):
            record = client.get_lead(remote_id)
        elif remote_id is not None:
            record = client.get_deal(remote_id)
        is_pending = record is not None and (
            record.id in session.pending.lead_ids or record.id in session.pending.deal_ids
        )
        if is_pending:
            return Outcome(reason="erasure_pending")
        if record is None or (isinstance(record, m.Deal) and record.is_deleted):
            self._note_unknown(lead_id, remote_id)
            return Outcome(reason="deleted_there")
        outcome = self.adopt(lead_id, record)
        if outcome.reason == _TAKEN:
            with session.links.transaction() as cursor:
                session.note_done(cursor, "adopt", lead_id)  # no run meets it again
        return outcome

    def take_in(self, lead: m.Lead, known_person: m.Person | None = None) -> Outcome:
        """Insert a lead that was born there.

        Returns:
            Why not, where it lacks what a lead of ours must have.
        """
        session = self._session
        client, policy = session.client, session.policy
        person = known_person
        if lead.person_id is not None and person is None:
            person = client.get_person(lead.person_id)
        if person is None or person.is_deleted:
            return Outcome(reason="no_person")
        if person.id in session.pending.person_ids:
            return Outcome(reason="erasure_pending")
        theirs, left_alone = mapping.contacts_of(person, ours={}, agreed=None)
        name, phone = theirs["name"], theirs["phone"]
        if phone is None:
            return Outcome(reason="no_phone")
        if name is None:
            return Outcome(reason=left_alone.get("name", "no_name"))
        company = None
        if lead.organization_id is not None:
            organization = client.get_organization(lead.organization_id)
            company = mapping.company_of(None if organization is None else organization.name)[0]
        title = mapping.company_of(lead.title)[0]
        local = LocalLead(
            lead_id=uuid4(),
            name=name,
            phone=phone,
            email=theirs["email"],
            company=company,
            interest=None if title is None else title[:_MAX_INTEREST],
            stage=mapping.stage_of_lead(lead, session.account, policy.stages),
            source="pipedrive",
            notes=None,
            created_at=lead.add_time,
        )
        with session.links.transaction() as cursor:
            if session.links.of_remote_leads(cursor, [lead.id]):
                return Outcome(reason="changed")
            session.links.insert_lead(cursor, local, str(lead.id))
            session.note_done(cursor, "import", lead.id)
            session.links.begin(cursor, local.lead_id)
            link_case(session, cursor, local.lead_id, lead)
            session.links.set_person(
                cursor, local.lead_id, person.id, is_ours=False, phone=local.phone
            )
            session.links.set_organization(
                cursor, local.lead_id, lead.organization_id, is_ours=False
            )
            agreed = {name: getattr(local, name) for name in mapping.ours_of(local)}
            session.links.set_agreed(cursor, local.lead_id, agreed, is_whole=True)
            session.store_tokens(cursor)
        return Outcome(reason=CREATED)

    # --- parts

    def _settle(self, lead_id: UUID, changes: Changes) -> None:
        """Carry over what differs, with what was just read or made in hand."""
        session = self._session
        with session.links.transaction() as cursor:
            known = session.links.read(cursor, [lead_id]).get(lead_id)
        if known is None or known.is_anonymized or known.link is None:
            raise UnavailableError
        remote = self._exchange.read(known, changes, is_fresh=True)
        self._exchange.apply(lead_id, remote)
        if self._exchange.direction is Direction.PULL:
            return
        with session.links.transaction() as cursor:
            known = session.links.read(cursor, [lead_id]).get(lead_id)
        if known is not None and not known.is_anonymized:
            self.outgoing.note_of(known)

    def _is_taken(self, cursor: psycopg.Cursor, lead_id: UUID, record: m.Lead | m.Deal) -> bool:
        links = self._session.links
        if isinstance(record, m.Deal):
            found = links.of_deals(cursor, [record.id], [])[0].get(record.id)
        else:
            found = links.of_remote_leads(cursor, [record.id]).get(record.id)
        return found is not None and found[0] != lead_id

    def _note_unknown(self, lead_id: UUID, remote_id: UUID | int | None) -> None:
        session = self._session
        with session.links.transaction() as cursor:
            known = session.links.lock(cursor, lead_id)
            if known is None or known.is_anonymized:
                raise UnavailableError
            session.note_done(cursor, "adopt", lead_id)
            session.links.begin(cursor, lead_id)
            if remote_id is not None:
                session.links.set_case(
                    cursor,
                    lead_id,
                    remote_lead_id=remote_id if isinstance(remote_id, UUID) else None,
                    deal_id=None if isinstance(remote_id, UUID) else remote_id,
                )
            session.links.set_deleted(cursor, lead_id)
            conflicts.record(
                cursor,
                system=SYSTEM,
                table_name="leads",
                local_id=lead_id,
                kind="deleted",
                field=None,
                winner=Side.THEIRS,
                our_value=None,
                their_value=None,
                run_id=session.run_id,
                at=session.clock(),
            )


def _parse_crm_id(text: str) -> UUID | int | None:
    """The lead or deal that a ``crm_id`` names; None where it is no id of Pipedrive."""
    if _DEAL_ID.fullmatch(text):
        return int(text)
    try:
        return UUID(text)
    except ValueError:
        return None
