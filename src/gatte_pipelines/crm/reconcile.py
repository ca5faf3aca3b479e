"""Once a day: which linked leads are no longer there, and what no list of changes tells.

A deletion is in no list of changes, so the ids that are there are compared with those that are
linked; what is missing is confirmed by a read of its own, by ``exchange``.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from gatte_pipelines.business_time import business_date
from gatte_pipelines.crm import models as m
from gatte_pipelines.crm.pull import OVERLAP, Changes, take_organizations
from gatte_pipelines.crm.session import Session

RECONCILED = "reconciled"
"""Watermark: when the last reconcile began."""


@dataclass(frozen=True, kw_only=True)
class Reconciled:
    """What a reconcile found.

    Attributes:
        missing: Leads of ours whose record no list shows.
        tokens: What it cost.
        mark: To be saved with the rows.
    """

    missing: frozenset[UUID]
    tokens: int
    mark: str


def is_due(session: Session) -> bool:
    """Whether none was done on this business date yet."""
    with session.links.transaction() as cursor:
        mark = session.links.read_watermark(cursor, RECONCILED)
    if mark is None:
        return True
    return business_date(datetime.fromisoformat(mark)) < business_date(session.now)


def reconcile(session: Session, changes: Changes) -> Reconciled:
    """Compare all that is linked with all that is there.

    Args:
        session: Of the run.
        changes: What is found changed is added to these.
    """
    client = session.client
    spent = client.ledger.spent
    with session.links.transaction() as cursor:
        mark = session.links.read_watermark(cursor, RECONCILED)
        links = session.links.read_links(cursor)
    leads = {link["remote_lead_id"]: link for link in links if link["deal_id"] is None}
    deals = {link["deal_id"]: link for link in links if link["deal_id"] is not None}
    organizations = any(link["organization_id"] is not None for link in links)
    missing = {link["lead_id"] for link in leads.values()}
    if leads:
        for lead in client.iter_leads():
            if lead.id in leads:
                missing.discard(leads[lead.id]["lead_id"])
                _compare(session, changes, leads[lead.id], lead)
    if missing:
        for lead in client.iter_archived_leads():
            if lead.id in leads:
                missing.discard(leads[lead.id]["lead_id"])
                _compare(session, changes, leads[lead.id], lead)
    live = {deal_id for deal_id, link in deals.items() if not link["is_archived"]}
    there: set[int] = set()
    for deal in client.iter_deals(ids=live) if live else ():
        there.add(deal.id)
        link = deals[deal.id]
        # An organization that is deleted leaves its deals, and no list of changes says so.
        if (deal.person_id, deal.org_id) != (link["person_id"], link["organization_id"]):
            changes.deals.setdefault(link["lead_id"], deal)
    missing |= {deals[deal_id]["lead_id"] for deal_id in live - there}
    for deal_id in deals.keys() - live:
        # No list shows an archived deal by its id; a token each.
        archived, lead_id = client.get_deal(deal_id), deals[deal_id]["lead_id"]
        if archived is None or archived.is_deleted:
            missing.add(lead_id)
        elif not archived.is_archived:
            changes.deals.setdefault(lead_id, archived)
    if organizations:
        # Names of organizations are in no other list; the first time all of them.
        since = None if mark is None else datetime.fromisoformat(mark) - OVERLAP
        take_organizations(session, changes, client.iter_organizations(updated_since=since))
    missing -= changes.leads.keys() | changes.deals.keys() | changes.adopted.keys()
    # That its person is there says nothing of the lead: it is to be read.
    changes.touched -= missing
    return Reconciled(
        missing=frozenset(missing),
        tokens=client.ledger.spent - spent,
        mark=session.now.isoformat(),
    )


def _compare(session: Session, changes: Changes, link: dict[str, object], lead: m.Lead) -> None:
    """Add a lead whose link says otherwise: archived, brought back, or of another person."""
    lead_id = link["lead_id"]
    assert isinstance(lead_id, UUID)  # noqa: S101 - for the type checker
    is_other = (
        lead.is_archived != link["is_archived"]
        or lead.person_id != link["person_id"]
        or lead.organization_id != link["organization_id"]
    )
    if is_other and not (lead.is_archived and link["is_archived"]):
        if lead.id in session.pending.lead_ids:
            changes.pending += 1
        else:
            changes.leads.setdefault(lead_id, lead)
