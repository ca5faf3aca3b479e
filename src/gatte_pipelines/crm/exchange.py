"""One linked lead: what both sides changed is merged and carried over.

Read first, without any lock; then, in one transaction with the lead's row locked, merged: conflicts
and what changes here are written; then what changes there is called, and each confirmed call makes
its values the agreed ones. A run that is killed in between finds the same difference again.

Records that do not exist there yet belong to ``creation`` and ``outgoing``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING
from uuid import UUID

from msgspec import UNSET

from gatte_pipelines.crm import mapping
from gatte_pipelines.crm import models as m
from gatte_pipelines.crm.company import SYSTEM
from gatte_pipelines.crm.failures import RecordMissingError
from gatte_pipelines.crm.links import FIELDS, KnownLead, Link
from gatte_pipelines.crm.outgoing import Outgoing, WaitingError, link_case
from gatte_pipelines.crm.pull import Changes
from gatte_pipelines.crm.session import Session
from gatte_pipelines.http import AmbiguousError
from gatte_pipelines.sync import conflicts
from gatte_pipelines.sync.merge import FieldRule, Merged, Side, Value, Why, merge

if TYPE_CHECKING:
    import psycopg

CONTACTS = ("name", "phone", "email")
"""What stands in the person; company and stage stand in the lead or deal."""

# Columns of `leads` that may not be empty.
_REQUIRED = ("name", "phone", "stage")


class Direction(StrEnum):
    """Which way changes are carried."""

    BOTH = "both"
    PUSH = "push"
    PULL = "pull"


@dataclass(kw_only=True)
class Remote:
    """What was read of Pipedrive about one lead of ours.

    Attributes:
        case: Its lead or deal; None where neither was read: it has not changed.
        person: Its person, where that was read and is there.
        theirs: By field their value; a field that was not read is missing.
        left_alone: Fields that are not merged this time, and why.
        moved_from: The person that the case no longer has and that is gone: it was merged.
        person_id: Of the person that the case has now.
        organization_id: Likewise.
        gone: There is no such lead or deal any more.
    """

    case: m.Lead | m.Deal | None = None
    person: m.Person | None = None
    theirs: dict[str, Value] = field(default_factory=dict)
    left_alone: dict[str, str] = field(default_factory=dict)
    moved_from: int | None = None
    person_id: int | None = None
    organization_id: int | None = None
    gone: bool = False


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of one lead.

    Attributes:
        reason: Why nothing was done; None where it was looked at.
        here: Fields that changed here.
        there: Fields that changed there.
        conflicts: Fields that both had changed.
    """

    reason: str | None = None
    here: frozenset[str] = frozenset()
    there: frozenset[str] = frozenset()
    conflicts: frozenset[str] = frozenset()


@dataclass(frozen=True, kw_only=True, repr=False)
class Decision:
    """The merge of one lead, decided under the lock of its row or foreseen without it.

    Attributes:
        items: What becomes of each field.
        here: By field the text that is to stand in ``leads``.
        there: By field the value that is to stand there.
        lost: Conflicts: kind, field, who wins, our and their value.
        settled: By field the text of ``leads`` that both agree on without a call.
        is_complete: Whether no field waits for a run in the other direction.
    """

    items: tuple[Merged, ...]
    here: Mapping[str, str | None]
    there: Mapping[str, Value]
    lost: tuple[tuple[str, str, Side, Value, Value], ...]
    settled: Mapping[str, str | None]
    is_complete: bool


class Exchange:
    """Reads, merges and carries over, lead by lead.

    Args:
        session: Of the run.
        direction: Which way changes are carried.
    """

    def __init__(self, session: Session, direction: Direction = Direction.BOTH) -> None:
        self._session = session
        self.direction = direction
        self._outgoing = Outgoing(session)

    # --- read

    def read(
        self,
        known: KnownLead,
        changes: Changes,
        *,
        is_fresh: bool = False,
        is_anew: bool = False,
    ) -> Remote:
        """Read what is needed of a linked lead and is not among the changes already.

        Of what is to be written there the changes are not enough: a list can be minutes old, and
        nothing shows that a salesperson wrote in between.

        Args:
            known: A lead with its link.
            changes: What the pull read.
            is_fresh: The changes were read or made just now.
            is_anew: Read lead and person whatever the changes have of them.
        """
        link, lead_id = _link_of(known), known.local.lead_id
        remote = Remote(person_id=link.person_id, organization_id=link.organization_id)
        is_changed_here = differs(known)
        is_usable = is_fresh or not (is_changed_here or is_anew)
        if is_usable:
            remote.case = changes.deals.get(lead_id) or changes.leads.get(lead_id)
        if isinstance(remote.case, m.Lead) and link.deal_id is not None:
            remote.case = None  # a list can still show the lead that a deal was made of
        is_needed = is_anew or is_changed_here or lead_id not in changes.touched
        if remote.case is None and is_needed:
            remote.case = self._read_case(known, changes.deals.get(lead_id))
        if remote.case is None:
            remote.gone = is_needed
        elif isinstance(remote.case, m.Deal) and _is_gone(remote.case):
            remote.gone = True
        if remote.gone or (remote.case is not None and remote.case.is_archived):
            return remote
        if remote.case is not None:
            self._read_case_fields(known, remote, changes)
        elif link.organization_id in changes.organizations:
            self._take_company(remote, changes.organizations[link.organization_id].name)
        # While it was archived, what its person became was not read.
        is_needed = is_anew or is_changed_here or (remote.case is not None and link.is_archived)
        self._read_person(known, remote, changes if is_usable else Changes(), is_needed=is_needed)
        return remote

    def _read_case(self, known: KnownLead, converted: m.Deal | None) -> m.Lead | m.Deal | None:
        client, link = self._session.client, _link_of(known)
        deal_id = link.deal_id
        if deal_id is None and converted is not None:
            deal_id = converted.id
        if deal_id is not None:
            return client.get_deal(deal_id)
        assert link.remote_lead_id is not None  # noqa: S101 - a linked lead has one of both
        lead = client.get_lead(link.remote_lead_id)
        return lead if lead is not None else self._find_deal(known.local.lead_id, link)

    def _find_deal(self, lead_id: UUID, link: Link) -> m.Deal | None:
        """The deal that a lead was made to: a conversion takes the lead away, the deal names it.

        Looked for where its person was, then by our id, since the person can be another by now.
        """
        client, key = self._session.client, self._session.account.external_key
        if link.person_id is not None:
            for deals in (client.iter_deals, client.iter_archived_deals):
                for deal in deals(person_id=link.person_id):
                    if deal.source_lead_id == link.remote_lead_id:
                        return deal
        if key is not None:
            for hit in client.find_by_field("deal", key, str(lead_id)):
                found = client.get_deal(int(hit.id))
                if found is not None and found.source_lead_id == link.remote_lead_id:
                    return found
        return None

    def _read_case_fields(self, known: KnownLead, remote: Remote, changes: Changes) -> None:
        case, link = remote.case, _link_of(known)
        account, stages = self._session.account, self._session.policy.stages
        if isinstance(case, m.Deal):
            stage = mapping.stage_of_deal(case, account, stages)
            if stage is None:
                remote.left_alone["stage"] = "unknown_stage"
            else:
                remote.theirs["stage"] = stage
            remote.person_id, remote.organization_id = case.person_id, case.org_id
        else:
            assert case is not None  # noqa: S101 - the caller looked
            remote.theirs["stage"] = mapping.stage_of_lead(case, account, stages)
            remote.person_id, remote.organization_id = case.person_id, case.organization_id
        organization_id = remote.organization_id
        is_known = (
            organization_id == link.organization_id
            and link.agreed is not None
            # What ours is to take the place of is read: somebody may have renamed it.
            and known.local.company == link.agreed["company"]
            and not link.is_archived
        )
        if organization_id is None:
            remote.theirs["company"] = None
        elif is_known and organization_id not in changes.organizations:
            assert link.agreed is not None  # noqa: S101 - is_known
            remote.theirs["company"] = link.agreed["company"]
        else:
            organization = changes.organizations.get(organization_id)
            if organization is None:
                organization = self._session.client.get_organization(organization_id)
            is_there = organization is not None and not organization.is_deleted
            self._take_company(remote, organization.name if organization and is_there else None)

    @staticmethod
    def _take_company(remote: Remote, name: str | None) -> None:
        value, reason = mapping.company_of(name)
        if reason is None:
            remote.theirs["company"] = value
        else:
            remote.left_alone["company"] = reason

    def _read_person(
        self, known: KnownLead, remote: Remote, changes: Changes, *, is_needed: bool
    ) -> None:
        link, client = _link_of(known), self._session.client
        person_id = remote.person_id
        if person_id is None:
            remote.left_alone |= dict.fromkeys(CONTACTS, "no_person")
            return
        has_moved = person_id != link.person_id
        if has_moved and link.person_id is not None:
            before = client.get_person(link.person_id)
            if before is None or before.is_deleted:
                remote.moved_from = link.person_id
        person = changes.persons.get(person_id)
        if person is None and (is_needed or has_moved or link.agreed is None):
            person = client.get_person(person_id)
            if person is None or person.is_deleted or person.id in self._session.pending.person_ids:
                remote.left_alone |= dict.fromkeys(CONTACTS, "no_person")
                return
        if person is None:
            return
        remote.person = person
        theirs, left_alone = mapping.contacts_of(
            person, ours=mapping.ours_of(known.local), agreed=_agreed_values(known) or {}
        )
        remote.theirs |= theirs
        remote.left_alone |= left_alone

    # --- decide

    def decide(self, known: KnownLead, remote: Remote) -> Decision:
        """Merge what was read with what stands here. Nothing is read or written."""
        agreed = _agreed_values(known)
        ours = mapping.ours_of(known.local)
        for name in mapping.left_alone_here(known.local):
            # Not emptied, but of no use: as if unchanged, so that nothing is emptied there.
            ours[name] = (agreed or {}).get(name)
        left_alone = set(remote.left_alone)
        if self._says_nothing_of_stage(known, remote):
            left_alone.add("stage")
        rules = [
            self._rule(rule, known, remote)
            for rule in self._session.policy.rules
            if rule.name in remote.theirs
            and rule.name not in left_alone
            and not (
                rule.name in _REQUIRED
                and rule.owner is Side.THEIRS
                and remote.theirs[rule.name] is None
            )
        ]
        items = merge(rules, ours, remote.theirs, agreed)
        is_complete = all(map(self._is_carried, items))
        carried = [item for item in items if self._is_carried(item)]
        here = {item.name: item.value for item in carried if item.is_written_here}
        # The organization of a deal cannot be taken away, only replaced; nor that of a lead without
        # a person.
        case = remote.case
        is_fixed = isinstance(case, m.Deal) or (case is not None and case.person_id is None)
        there = {
            item.name: item.value
            for item in carried
            if item.is_written_there
            and not (item.name == "company" and item.value is None and is_fixed)
        }
        raw = {name: getattr(known.local, name) for name in FIELDS}
        settled = {
            item.name: here.get(item.name, raw[item.name])
            for item in carried
            if item.name not in there
        }
        # What cannot be merged now is no difference to be met in every run: when it can be, theirs
        # will differ from what stands here now.
        settled |= {name: raw[name] for name in left_alone}
        # What waits for a call, or for the other direction, must still be a difference where the
        # call fails: their list will not show it again.
        settled |= {
            item.name: remote.theirs[item.name]
            for item in items
            if item.is_written_there
            and agreed is not None
            and raw[item.name] == _link_of(known).agreed_text(item.name)
        }
        return Decision(
            items=tuple(carried),
            here=here,
            there=there,
            lost=tuple(self._lost(known, carried, here, agreed)),
            settled=settled,
            is_complete=is_complete,
        )

    def _rule(self, rule: FieldRule, known: KnownLead, remote: Remote) -> FieldRule:
        if rule.name != "stage" or rule.is_one_way:
            return rule
        # The stage of a deal is a salesperson's alone; and a stage without a label cannot be told.
        case = remote.case
        account, stages = self._session.account, self._session.policy.stages
        can_be_told = isinstance(case, m.Lead) and (
            mapping.label_ids_for(case, known.local.stage, account, stages) is not None
        )
        return rule if can_be_told else replace(rule, owner=Side.THEIRS, is_one_way=True)

    def _says_nothing_of_stage(self, known: KnownLead, remote: Remote) -> bool:
        """Whether ours is a stage that no label stands for, and the lead there has no label.

        Nobody could write it there, so that there is none is not a salesperson's word.
        """
        stages = self._session.policy.stages
        return (
            isinstance(remote.case, m.Lead)
            and remote.theirs.get("stage") == stages.no_label
            and not mapping.can_be_told(known.local.stage, stages)
        )

    def _is_carried(self, item: Merged) -> bool:
        if self.direction is Direction.PUSH:
            return not item.is_written_here
        if self.direction is Direction.PULL:
            return not item.is_written_there
        return True

    def _lost(
        self,
        known: KnownLead,
        items: list[Merged],
        here: Mapping[str, Value],
        agreed: Mapping[str, Value] | None,
    ) -> list[tuple[str, str, Side, Value, Value]]:
        lost: list[tuple[str, str, Side, Value, Value]] = []
        ours = mapping.ours_of(known.local)
        useless = mapping.left_alone_here(known.local)
        for item in items:
            raw = getattr(known.local, item.name)
            if item.is_conflict:
                winner = Side.THEIRS if item.is_written_here else Side.OURS
                our, their = (raw, item.value) if item.is_written_here else (raw, item.lost)
                lost.append(("both_changed", item.name, winner, our, their))
            elif item.name in here and (
                item.name in useless or self._was_nowhere_there(known, item.name)
            ):
                # Ours could not be used as what it should be, or had no person to stand in; nobody
                # else has it.
                lost.append(("both_changed", item.name, Side.THEIRS, raw, item.value))
            elif item.why is Why.KEPT and item.is_written_here:
                is_told = item.name != "stage" or _link_of(known).deal_id is not None
                stages = self._session.policy.stages
                was_never_there = not is_told and not mapping.can_be_told(raw, stages)
                if was_never_there or (agreed is not None and ours[item.name] != agreed[item.name]):
                    lost.append(("kept", item.name, Side.THEIRS, raw, item.value))
        return lost

    @staticmethod
    def _was_nowhere_there(known: KnownLead, name: str) -> bool:
        """Whether a contact of ours may have been written while the lead there had no person."""
        has_text = bool((getattr(known.local, name) or "").strip())
        return name in CONTACTS and has_text and _link_of(known).person_id is None

    # --- carry over

    def apply(self, lead_id: UUID, remote: Remote) -> Outcome:
        """Merge under the lock of the lead's row, and carry over what both did not have.

        Raises:
            WaitingError: The end of an earlier or of this call is not known.
        """
        session = self._session
        with session.links.transaction() as cursor:
            known = session.links.lock(cursor, lead_id)
            if known is None or known.is_anonymized:
                return Outcome(reason="anonymized")
            if known.link is None or known.link.state != "linked":
                return Outcome(reason="changed")
            if remote.gone:
                return self._note_deleted(cursor, known)
            case = remote.case
            if case is not None and case.is_archived:
                if isinstance(case, m.Deal) and known.link.deal_id is None:
                    link_case(session, cursor, lead_id, case)
                session.links.set_archived(cursor, lead_id, is_archived=True)
                return Outcome(reason="archived")
            decision = self.decide(known, remote)
            for reason in remote.left_alone.values():
                session.tell(f"left_{reason}")
            self._write_here(cursor, known, remote, decision)
        carried = self._write_there(known, remote, decision)
        return Outcome(
            here=frozenset(decision.here),
            there=frozenset(carried),
            conflicts=frozenset(name for _, name, *_ in decision.lost),
        )

    def _write_here(
        self, cursor: psycopg.Cursor, known: KnownLead, remote: Remote, decision: Decision
    ) -> None:
        session, link, lead_id = self._session, _link_of(known), known.local.lead_id
        for kind, name, winner, our_value, their_value in decision.lost:
            conflicts.record(
                cursor,
                system=SYSTEM,
                table_name="leads",
                local_id=lead_id,
                kind=kind,
                field=name,
                winner=winner,
                our_value=our_value,
                their_value=their_value,
                run_id=session.run_id,
                at=session.clock(),
            )
        if decision.here:
            session.links.write_lead(cursor, known.local, decision.here)
            session.note_done(cursor, "pull", lead_id)
        case = remote.case
        if isinstance(case, m.Deal) and link.deal_id is None:
            link_case(session, cursor, lead_id, case)
        elif case is not None and link.is_archived:
            session.links.set_archived(cursor, lead_id, is_archived=False)
        if remote.person_id != link.person_id and self.direction is not Direction.PUSH:
            session.links.set_person(cursor, lead_id, remote.person_id, is_ours=False)
        if (
            remote.organization_id != link.organization_id
            and "company" not in decision.there
            and self.direction is not Direction.PUSH
        ):
            session.links.set_organization(cursor, lead_id, remote.organization_id, is_ours=False)
        is_whole = decision.is_complete and not decision.there
        is_new = link.agreed is None or any(
            text != link.agreed[name] for name, text in decision.settled.items()
        )
        # What both agreed on already is not written again: a list shows the same change for long.
        if decision.settled and is_new:
            session.links.set_agreed(cursor, lead_id, decision.settled, is_whole=is_whole)

    def _write_there(
        self, known: KnownLead, remote: Remote, decision: Decision
    ) -> Mapping[str, Value]:
        there = decision.there
        try:
            contacts = {name: there[name] for name in CONTACTS if name in there}
            if contacts and remote.person is not None:
                changes = mapping.person_changes(
                    remote.person, contacts, agreed=_agreed_values(known) or {}
                )
                if changes != m.PersonChanges():
                    written = self._session.client.update_person(remote.person.id, changes)
                    self._session.written[written.id] = written
                self._agree(known, decision, contacts, is_last=contacts.keys() == there.keys())
            rest = {name: there[name] for name in ("company", "stage") if name in there}
            if rest and remote.case is not None:
                self._write_case(known, remote.case, rest)
                self._agree(known, decision, rest, is_last=True)
        except (AmbiguousError, RecordMissingError):
            # Of the first nobody knows the end; of the second the next run reads what became of it.
            raise WaitingError from None
        return there

    def _write_case(
        self, known: KnownLead, case: m.Lead | m.Deal, values: Mapping[str, Value]
    ) -> None:
        client, session = self._session.client, self._session
        organization_id: int | None = None
        if values.get("company") is not None:
            company = str(values["company"])
            organization_id = self._outgoing.organization_of(known, company).id
        if isinstance(case, m.Deal):
            if organization_id is not None:
                client.update_deal(case.id, m.DealChanges(org_id=organization_id))
            return
        labels = None
        if "stage" in values:
            stage = str(values["stage"])
            labels = mapping.label_ids_for(case, stage, session.account, session.policy.stages)
        client.update_lead(
            case.id,
            m.LeadChanges(
                organization_id=organization_id if "company" in values else UNSET,
                label_ids=UNSET if labels is None else labels,
            ),
        )
        if "company" in values and organization_id is None:
            with session.links.transaction() as cursor:
                session.links.set_organization(cursor, known.local.lead_id, None, is_ours=False)

    def _agree(
        self, known: KnownLead, decision: Decision, names: Mapping[str, Value], *, is_last: bool
    ) -> None:
        """A confirmed call makes its values the agreed ones: the texts as they stood then."""
        session = self._session
        raw = {name: decision.here.get(name, getattr(known.local, name)) for name in names}
        with session.links.transaction() as cursor:
            session.links.set_agreed(
                cursor, known.local.lead_id, raw, is_whole=is_last and decision.is_complete
            )
            session.store_tokens(cursor)

    # --- what cannot be carried over

    def _note_deleted(self, cursor: psycopg.Cursor, known: KnownLead) -> Outcome:
        session, lead_id = self._session, known.local.lead_id
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
        session.links.set_deleted(cursor, lead_id)
        session.note_done(cursor, "delete", lead_id)
        return Outcome(reason="deleted_there")


def differs(known: KnownLead) -> bool:
    """Whether a lead is not as both sides last agreed."""
    agreed = _link_of(known).agreed
    if agreed is None:
        return True
    return any(getattr(known.local, name) != agreed[name] for name in FIELDS)


def _agreed_values(known: KnownLead) -> dict[str, Value] | None:
    """The agreed values in the form in which they are compared; None where there are none."""
    agreed = _link_of(known).agreed
    if agreed is None:
        return None
    texts = {name: agreed[name] for name in FIELDS}
    # `name` and `phone` may not be missing in a lead; both were agreed on with one.
    local = replace(
        known.local,
        name=texts["name"] or "",
        phone=texts["phone"] or "",
        email=texts["email"],
        company=texts["company"],
        stage=texts["stage"] or known.local.stage,
    )
    return mapping.ours_of(local)


def _link_of(known: KnownLead) -> Link:
    assert known.link is not None  # noqa: S101 - only linked leads come here
    return known.link


def _is_gone(deal: m.Deal) -> bool:
    return deal.is_deleted or deal.status == "deleted"
