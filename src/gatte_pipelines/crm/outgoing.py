"""Records that are made in Pipedrive, each once: person, organization, lead, note.

Pipedrive knows no key that would make a creation harmless to repeat. So the intent is committed
before the call, and removed only with its confirmed result; whoever meets an intent whose end
nobody knows looks for its effect before anything is made again: by a list, which is up to date, and
only after a while by the search, whose index lags.

What a record holds belongs to ``mapping``; when one is needed, to ``creation`` and ``exchange``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, TypeAlias, TypeVar
from uuid import UUID

from gatte_pipelines.crm import mapping
from gatte_pipelines.crm import models as m
from gatte_pipelines.crm.budget import DailyBudgetSpent
from gatte_pipelines.crm.company import SYSTEM
from gatte_pipelines.crm.erasure import plan_orphan
from gatte_pipelines.crm.failures import AccessRefusedError, BlockedError, RefusedError
from gatte_pipelines.crm.links import CLOCK_SKEW, KnownLead
from gatte_pipelines.errors import RetryableError
from gatte_pipelines.http import AmbiguousError
from gatte_pipelines.sync import outbox

if TYPE_CHECKING:
    import psycopg

    from gatte_pipelines.crm.session import Session

Record: TypeAlias = m.Person | m.Organization | m.Lead | m.Deal | m.Note
RecordT = TypeVar("RecordT", bound=Record)

# Pipedrive names no bound for its index; in the field it was seconds.
SEARCH_DELAY = timedelta(minutes=5)
"""So long after a call whose end nobody knows nothing is searched, and nothing is made again."""
# More persons with one number than that identify nobody.
_MAX_HITS = 5

_NOT_DONE = (RetryableError, DailyBudgetSpent, AccessRefusedError, BlockedError, RefusedError)


class WaitingError(Exception):
    """The end of an earlier call is not known yet; a later run meets this lead again."""


class UnavailableError(Exception):
    """The lead went, was anonymised or changed hands since it was read."""


class Outgoing:
    """Finds or makes what a lead of ours needs there.

    Args:
        session: Of the run.
    """

    def __init__(self, session: Session) -> None:
        self._session = session

    # --- person

    def person_of(self, known: KnownLead, *, org_id: int | None) -> m.Person:
        """The person with the lead's number or e-mail address, made where there is none.

        Raises:
            WaitingError: It may have been made already.
            RefusedError: Pipedrive does not take it.
        """
        local = known.local
        values = mapping.ours_of(local)
        phone, email = values["phone"], values["email"]

        def save(cursor: psycopg.Cursor, person: m.Person, *, is_ours: bool) -> None:
            self._session.links.set_person(
                cursor, local.lead_id, person.id, is_ours=is_ours, phone=local.phone
            )

        def look(begun_at: datetime) -> m.Person | None:
            since = begun_at - CLOCK_SKEW
            for person in self._session.client.iter_persons(updated_since=since):
                if person.id in self._session.pending.person_ids:
                    continue
                if phone and mapping.has_phone(person, phone):
                    return person
                if email and mapping.has_email(person, email):
                    return person
                is_nameless = phone is None and email is None
                if is_nameless and person.name == values["name"] and person.add_time >= since:
                    return person
            return None

        def search() -> m.Person | None:
            return self._search_person(phone, email)

        if "create_person" not in self._session.intents_of(local.lead_id):
            found = self._known_person(local.lead_id, phone) or search()
            if found is not None:
                with self._session.links.transaction() as cursor:
                    self._lock(cursor, local.lead_id)
                    save(cursor, found, is_ours=False)
                return found
        return self._make_once(
            known,
            "create_person",
            look=look,
            search=search,
            make=lambda: self._session.client.create_person(
                mapping.new_person(values, org_id=org_id)
            ),
            save=lambda cursor, person: save(cursor, person, is_ours=True),
        )

    def _known_person(self, lead_id: UUID, phone: str | None) -> m.Person | None:
        """That of another lead of ours with this number, which a search may not find yet."""
        key = mapping.phone_key_of(phone)
        if phone is None or key is None:
            return None
        with self._session.links.transaction() as cursor:
            candidates = self._session.links.persons_of_number(cursor, key, lead_id)
        return self._verified(candidates, lambda person: mapping.has_phone(person, phone))

    def _search_person(self, phone: str | None, email: str | None) -> m.Person | None:
        client = self._session.client
        if phone is not None:
            key = mapping.phone_key_of(phone)
            for form in mapping.search_forms(phone):
                hits = client.find_persons(form, field="phone")
                ids = [hit.id for hit in hits if key in map(mapping.phone_key_of, hit.phones)]
                found = self._verified(ids, lambda person: mapping.has_phone(person, phone))
                if found is not None:
                    return found
        if email is not None:
            hits = client.find_persons(email, field="email")
            return self._verified(
                [hit.id for hit in hits], lambda person: mapping.has_email(person, email)
            )
        return None

    def _verified(
        self, candidates: Iterable[int], is_it: Callable[[m.Person], bool]
    ) -> m.Person | None:
        """The earliest of some persons that is there and is the one; a hit alone proves nothing."""
        pending = self._session.pending.person_ids
        wanted = sorted(set(candidates) - pending)
        for person_id in wanted[:_MAX_HITS]:
            person = self._session.client.get_person(person_id)
            if person is not None and not person.is_deleted and is_it(person):
                if len(wanted) > 1:
                    self._session.tell("ambiguous_person")
                return person
        return None

    # --- organization

    def organization_of(self, known: KnownLead, company: str) -> m.Organization:
        """The organization of a name, made where there is none.

        Raises:
            WaitingError: It may have been made already.
            RefusedError: Pipedrive does not take it.
        """
        lead_id = known.local.lead_id
        wanted = _plain(company)

        def save(cursor: psycopg.Cursor, organization: m.Organization) -> None:
            self._session.links.set_organization(cursor, lead_id, organization.id, is_ours=True)

        def look(begun_at: datetime) -> m.Organization | None:
            since = begun_at - CLOCK_SKEW
            for organization in self._session.client.iter_organizations(updated_since=since):
                if _plain(organization.name) == wanted and self._is_usable(organization):
                    return organization
            return None

        def search() -> m.Organization | None:
            hits = self._session.client.find_organizations(company)
            return self._verified_organization(
                [hit.id for hit in hits if _plain(hit.name) == wanted], wanted
            )

        if "create_organization" not in self._session.intents_of(lead_id):
            with self._session.links.transaction() as cursor:
                candidates = self._session.links.organizations_of_company(cursor, company, lead_id)
            if known.link is not None and known.link.organization_id is not None:
                # Made by a run that could not go on; no search may find it yet.
                candidates.append(known.link.organization_id)
            found = self._verified_organization(candidates, wanted) or search()
            if found is not None:
                with self._session.links.transaction() as cursor:
                    self._lock(cursor, lead_id)
                    self._session.links.set_organization(cursor, lead_id, found.id, is_ours=False)
                return found
        return self._make_once(
            known,
            "create_organization",
            look=look,
            search=search,
            make=lambda: self._session.client.create_organization(company),
            save=save,
        )

    def _verified_organization(
        self, candidates: Iterable[int], wanted: str
    ) -> m.Organization | None:
        for organization_id in sorted(set(candidates))[:_MAX_HITS]:
            found = self._session.client.get_organization(organization_id)
            if found is not None and self._is_usable(found) and _plain(found.name) == wanted:
                return found
        return None

    def _is_usable(self, organization: m.Organization) -> bool:
        pending = self._session.pending.organization_ids
        return not organization.is_deleted and organization.id not in pending

    # --- lead and note

    def lead_of(
        self, known: KnownLead, *, person_id: int, organization_id: int | None
    ) -> m.Lead | m.Deal:
        """The lead there that stands for ours, made where there is none.

        Returns:
            A deal where it was converted before this sync knew of it.

        Raises:
            WaitingError: It may have been made already.
            RefusedError: Pipedrive does not take it.
        """
        local = known.local
        session = self._session

        def look(_begun_at: datetime) -> m.Lead | m.Deal | None:
            records: Iterator[m.Lead | m.Deal] = session.client.iter_leads(person_id=person_id)
            for record in records:
                if mapping.names_our_lead(record, session.account) == local.lead_id:
                    return record
            for deal in session.client.iter_deals(person_id=person_id):
                if mapping.names_our_lead(deal, session.account) == local.lead_id:
                    return deal
            return None

        def search() -> m.Lead | None:
            key = session.account.external_key
            if key is None:
                return None
            for hit in session.client.find_by_field("lead", key, str(local.lead_id)):
                found = session.client.get_lead(UUID(str(hit.id)))
                if found and mapping.names_our_lead(found, session.account) == local.lead_id:
                    return found
            return None

        def save(cursor: psycopg.Cursor, record: m.Lead | m.Deal) -> None:
            link_case(session, cursor, local.lead_id, record)

        def make() -> m.Lead | m.Deal:
            return self._create_lead(known, person_id, organization_id)

        return self._make_once(known, "create_lead", look=look, search=search, make=make, save=save)

    def _create_lead(self, known: KnownLead, person_id: int, organization_id: int | None) -> m.Lead:
        session = self._session
        key = session.account.external_key
        try:
            return session.client.create_lead(self._new_lead(known, person_id, organization_id))
        except RefusedError:
            # Somebody may have deleted our field, or a label, since the account was read.
            if not session.reread_once() or session.account.external_key == key:
                raise
            return session.client.create_lead(self._new_lead(known, person_id, organization_id))

    def _new_lead(self, known: KnownLead, person_id: int, organization_id: int | None) -> m.NewLead:
        session, local = self._session, known.local
        key = session.account.external_key
        return m.NewLead(
            title=mapping.title_of(local),
            person_id=person_id,
            organization_id=organization_id,
            label_ids=mapping.label_ids_of_new(local.stage, session.account, session.policy.stages),
            origin_id=str(local.lead_id),
            custom_fields={} if key is None else {key: str(local.lead_id)},
        )

    def note_of(self, known: KnownLead) -> None:
        """Attach the notes of a linked lead, once.

        Raises:
            WaitingError: The note may have been made already.
            RefusedError: Pipedrive does not take it.
        """
        local, link = known.local, known.link
        text = (local.notes or "").strip()
        if link is None or link.note_id is not None or not text:
            return
        client = self._session.client
        content = m.note_html(text)

        def look(_begun_at: datetime) -> m.Note | None:
            if link.deal_id is not None:
                notes = client.iter_notes(deal_id=link.deal_id)
            else:
                notes = client.iter_notes(lead_id=link.remote_lead_id)
            return next((note for note in notes if note.content == content), None)

        def make() -> m.Note:
            if link.deal_id is not None:
                return client.create_note(text, deal_id=link.deal_id)
            return client.create_note(text, lead_id=link.remote_lead_id)

        self._make_once(
            known,
            "create_note",
            look=look,
            search=lambda: None,
            make=make,
            save=lambda cursor, note: self._session.links.set_note(cursor, local.lead_id, note.id),
        )

    # --- once

    def _make_once(
        self,
        known: KnownLead,
        action: str,
        *,
        look: Callable[[datetime], RecordT | None],
        search: Callable[[], RecordT | None],
        make: Callable[[], RecordT],
        save: Callable[[psycopg.Cursor, RecordT], None],
    ) -> RecordT:
        """Make a record, or find the one that an earlier call made."""
        session, lead_id = self._session, known.local.lead_id
        earlier = session.intents_of(lead_id).get(action)
        if earlier is not None:
            made = look(earlier.begun_at)
            if made is None:
                if session.clock() < earlier.begun_at + SEARCH_DELAY:
                    raise WaitingError
                made = search()
            if made is not None:
                self._save(lead_id, action, made, save)
                return made
        with session.links.transaction() as cursor:
            self._lock(cursor, lead_id)
            intent = outbox.begin(cursor, SYSTEM, lead_id, action, now=session.clock())
        session.intents_of(lead_id)[action] = intent
        try:
            made = make()
        except AmbiguousError:
            found = look(intent.begun_at)
            if found is None:
                raise WaitingError from None
            made = found
        except _NOT_DONE:
            # A confirmed result as well: nothing was made. An older attempt of the same has been
            # looked for above.
            with session.links.transaction() as cursor:
                outbox.settle(cursor, SYSTEM, lead_id, action)
            del session.intents_of(lead_id)[action]
            raise
        self._save(lead_id, action, made, save)
        return made

    def _save(
        self,
        lead_id: UUID,
        action: str,
        made: RecordT,
        save: Callable[[psycopg.Cursor, RecordT], None],
    ) -> None:
        session = self._session
        with session.links.transaction() as cursor:
            known = session.links.lock(cursor, lead_id)
            is_there = known is not None and not known.is_anonymized and known.link is not None
            if is_there:
                save(cursor, made)
            else:
                # Anonymised since the intent was noted: what was just made is to be erased again.
                plan_orphan(cursor, [_reference(made)], lead_id=lead_id, at=session.clock())
            outbox.settle(cursor, SYSTEM, lead_id, action)
            session.store_tokens(cursor)
        session.intents_of(lead_id).pop(action, None)
        if not is_there:
            raise UnavailableError

    def _lock(self, cursor: psycopg.Cursor, lead_id: UUID) -> KnownLead:
        known = self._session.links.lock(cursor, lead_id)
        if known is None or known.is_anonymized:
            raise UnavailableError
        if known.link is None:
            self._session.links.begin(cursor, lead_id)
        return known


def link_case(
    session: Session, cursor: psycopg.Cursor, lead_id: UUID, record: m.Lead | m.Deal
) -> None:
    """Link a lead of ours with its lead or deal there; ``crm_id`` with it."""
    session.note_done(cursor, "push", lead_id)
    session.note_done(cursor, "adopt", lead_id)
    session.links.set_case(
        cursor,
        lead_id,
        remote_lead_id=record.source_lead_id if isinstance(record, m.Deal) else record.id,
        deal_id=record.id if isinstance(record, m.Deal) else None,
        is_archived=record.is_archived,
    )


def _reference(record: Record) -> str:
    """How a task of erasure names a record."""
    return f"{type(record).__name__.lower()}:{record.id}"


def _plain(text: str) -> str:
    return " ".join(text.split()).casefold()
