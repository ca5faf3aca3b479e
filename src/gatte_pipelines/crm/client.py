"""Pipedrive's API: named calls that return typed records, within the day's budget of tokens.

What an answer means stands in ``answers``, what a call costs in ``endpoints`` and ``budget``. When
to write what, and what to do about an end that nobody knows, belongs to the sync. No error holds a
body, a query or a header.
Source: Pipedrive's specs of v1 and v2, 2026-08-18. Leads, labels, notes and users exist on v1
only; all else is v2, whose v1 forms are out of support.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Literal, NoReturn, Self, TypeAlias, TypeVar
from uuid import UUID

import httpx

from gatte_pipelines.crm import endpoints as ep
from gatte_pipelines.crm import models as m
from gatte_pipelines.crm.answers import Answer, Meaning, judge, next_cursor, next_start, read
from gatte_pipelines.crm.budget import TokenLedger
from gatte_pipelines.crm.endpoints import Endpoint
from gatte_pipelines.crm.failures import (
    AccessRefusedError,
    BlockedError,
    RecordMissingError,
    RefusedError,
    again,
    error_from,
    reading,
    unreadable,
)
from gatte_pipelines.crm.meter import ENDPOINT_EXTENSION, Meter, is_throttled
from gatte_pipelines.errors import ConfigurationError
from gatte_pipelines.http import RetryPolicy, build_client, error_of, parse_base_url
from gatte_pipelines.json_records import Hidden
from gatte_pipelines.paging import PageGuard
from gatte_pipelines.redaction import register_secret

T = TypeVar("T")
Query: TypeAlias = Mapping[str, str | int | None]

MAX_PAGES = 2_000
"""Pages of one list: a million records. More is a list that never ends."""
MAX_SEARCH_PAGES = 5
"""Pages of one search; each costs 20 tokens, and five hundred hits identify nobody."""

_TOKEN = re.compile(r"[!-~]+")
_REPEATS = RetryPolicy(max_attempts=4, max_total_seconds=90.0, base_delay_seconds=1.0)


class PipedriveClient:
    """Calls one company's Pipedrive; a context manager.

    Besides the errors that a method names, every one of them may raise

    - ``DailyBudgetSpent``: nothing more is sent today;
    - ``AccessRefusedError``, ``BlockedError``: nothing more is sent by this client;
    - ``RetryableHttpError``: nothing was done, and a later run may succeed;
    - ``UnreadableAnswerError``: a read that cannot be used;
    - ``AmbiguousError``: a write whose end nobody knows. Look for its effect before another one.

    Attributes:
        ledger: Counts the tokens of the day.
        access_mark: Tells one token from another, and nothing of either.

    Args:
        base_url: The host: ``https://company.pipedrive.com``. Plain ``http`` only to this machine
            itself, since the token goes along.
        token: API token; registered as a secret. Its user should see all records: what it does
            not see is missing from every list and search without a word.
        ledger: Counts the tokens of the day.
        clock: Monotonic seconds.
        sleep: Waits for seconds, where the window of requests is used up.
        timeout_seconds: Without a byte from the server.
        repeats: Bounds of the repeats.
        page_size: Records of a page.
        max_pages: Pages of a list, after which it counts as endless.

    Raises:
        ConfigurationError: The address or the token cannot be used.
    """

    def __init__(
        self,
        base_url: str,
        token: str,
        *,
        ledger: TokenLedger,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        timeout_seconds: float = 30.0,
        repeats: RetryPolicy = _REPEATS,
        page_size: int = ep.MAX_PAGE,
        max_pages: int = MAX_PAGES,
    ) -> None:
        _assert_usable(base_url, token)
        if not 1 <= page_size <= ep.MAX_PAGE or max_pages < 1:
            raise ValueError(f"a page has 1 to {ep.MAX_PAGE} records")
        register_secret(token)
        self.access_mark = hashlib.sha256(token.encode()).hexdigest()[:16]
        self.ledger = ledger
        self._page_size = page_size
        self._max_pages = max_pages
        # What ended this client: later calls repeat it instead of being sent.
        self._stopped_by: AccessRefusedError | BlockedError | None = None
        self._client = build_client(
            base_url.rstrip("/"),
            headers={"x-api-token": token, "accept": "application/json"},
            timeout=timeout_seconds,
            policy=RetryPolicy(
                max_attempts=repeats.max_attempts,
                max_total_seconds=repeats.max_total_seconds,
                base_delay_seconds=repeats.base_delay_seconds,
                max_delay_seconds=repeats.max_delay_seconds,
                max_retry_after_seconds=repeats.max_retry_after_seconds,
                throttled=is_throttled,
            ),
            transport=Meter(httpx.HTTPTransport(), ledger, clock=clock, sleep=sleep),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give back the connections."""
        self._client.close()

    # --- leads ----------------------------------------------------------------------------------

    def iter_leads(
        self,
        *,
        person_id: int | None = None,
        organization_id: int | None = None,
        updated_since: datetime | None = None,
    ) -> Iterator[m.Lead]:
        """Leads that are not archived; 20 tokens a page.

        With ``updated_since`` the last changed come first: a lead that is changed meanwhile then
        comes twice, where in any other order it would push another one off the page. Leads that
        are deleted meanwhile can still hide one: read with an overlap, and by id.

        Args:
            person_id: Only those of this person.
            organization_id: Only those of this organization.
            updated_since: Only those changed at this second or later.
        """
        query = {"person_id": person_id, "organization_id": organization_id}
        if updated_since is not None:
            changes = {"updated_since": _instant(updated_since), "sort": "update_time DESC"}
            return self._iter_offset(ep.LIST_LEADS, m.Lead, {**query, **changes})
        return self._iter_offset(ep.LIST_LEADS, m.Lead, query)

    def iter_archived_leads(
        self, *, person_id: int | None = None, organization_id: int | None = None
    ) -> Iterator[m.Lead]:
        """Archived leads, which no other list has; 40 tokens a page."""
        query = {"person_id": person_id, "organization_id": organization_id}
        return self._iter_offset(ep.LIST_ARCHIVED_LEADS, m.Lead, query)

    def get_lead(self, lead_id: UUID) -> m.Lead | None:
        """One lead, archived or not; None where there is none any more."""
        return self._get(ep.GET_LEAD, m.Lead, id=lead_id)

    def create_lead(self, new: m.NewLead) -> m.Lead:
        """Create a lead.

        Raises:
            RefusedError: Pipedrive does not take it.
        """
        return self._write(ep.CREATE_LEAD, m.Lead, m.body_of(new, is_flat=True))

    def update_lead(self, lead_id: UUID, changes: m.LeadChanges) -> m.Lead:
        """Change a lead that is not archived.

        Raises:
            RecordMissingError: There is none.
            RefusedError: It is archived, or Pipedrive does not take the change.
        """
        return self._write(ep.UPDATE_LEAD, m.Lead, m.body_of(changes, is_flat=True), id=lead_id)

    def delete_lead(self, lead_id: UUID) -> bool:
        """Delete a lead; False where there is none any more."""
        return self._delete(ep.DELETE_LEAD, id=lead_id)

    def read_lead_labels(self) -> list[m.LeadLabel]:
        """All labels of leads."""
        response, answer = self._call(ep.LIST_LEAD_LABELS)
        with reading(response):
            return read(answer.data, list[m.LeadLabel])

    def convert_lead(self, lead_id: UUID, *, stage_id: int) -> UUID:
        """Begin to make a deal of a lead.

        Returns:
            The id of the conversion, for ``read_conversion``.

        Raises:
            RecordMissingError: There is no such lead.
        """
        body = {"stage_id": stage_id}
        return self._write(ep.CONVERT_LEAD, _ConversionBegun, body, id=lead_id).conversion_id

    def read_conversion(self, lead_id: UUID, conversion_id: UUID) -> m.Conversion | None:
        """How far a conversion is; None after a few days, when Pipedrive has forgotten it."""
        return self._get(ep.GET_CONVERSION, m.Conversion, id=lead_id, conversion_id=conversion_id)

    # --- notes ----------------------------------------------------------------------------------

    def iter_notes(
        self,
        *,
        lead_id: UUID | None = None,
        deal_id: int | None = None,
        person_id: int | None = None,
    ) -> Iterator[m.Note]:
        """The notes of one lead, deal or person; 20 tokens a page."""
        _assert_one(lead_id, deal_id, person_id)
        lead = None if lead_id is None else str(lead_id)
        query = {"lead_id": lead, "deal_id": deal_id, "person_id": person_id}
        return self._iter_offset(ep.LIST_NOTES, m.Note, query)

    def get_note(self, note_id: int) -> m.Note | None:
        """One note, perhaps with no ``active_flag``; None where there is none any more."""
        return self._get(ep.GET_NOTE, m.Note, id=note_id)

    def create_note(
        self,
        text: str,
        *,
        lead_id: UUID | None = None,
        deal_id: int | None = None,
        person_id: int | None = None,
    ) -> m.Note:
        """Attach a note to one lead, deal or person.

        Args:
            text: Plain; what looks like HTML is escaped.
            lead_id: The lead.
            deal_id: The deal.
            person_id: The person.

        Raises:
            RefusedError: Pipedrive does not take it.
        """
        _assert_one(lead_id, deal_id, person_id)
        lead = None if lead_id is None else str(lead_id)
        owner = {"lead_id": lead, "deal_id": deal_id, "person_id": person_id}
        body = {name: value for name, value in owner.items() if value is not None}
        return self._write(ep.CREATE_NOTE, m.Note, {"content": m.note_html(text), **body})

    def delete_note(self, note_id: int) -> bool:
        """Delete a note; False where there is none any more."""
        return self._delete(ep.DELETE_NOTE, id=note_id)

    # --- persons --------------------------------------------------------------------------------

    def iter_persons(
        self,
        *,
        org_id: int | None = None,
        ids: Iterable[int] | None = None,
        updated_since: datetime | None = None,
    ) -> Iterator[m.Person]:
        """Persons; 10 tokens a page.

        Args:
            org_id: Only those of this organization.
            ids: Only these; what is not there any more is left out.
            updated_since: Only those changed at this second or later, the first changed first.
        """
        query = {"org_id": org_id, **_changed(updated_since)}
        return self._iter_by_ids(ep.LIST_PERSONS, m.Person, query, ids)

    def get_person(self, person_id: int) -> m.Person | None:
        """One person; None where there is none any more, as after a merge into another.

        A deleted one may still be answered for 30 days, with ``is_deleted``.
        """
        return self._get(ep.GET_PERSON, m.Person, id=person_id)

    def find_persons(
        self, term: str, *, field: Literal["phone", "email", "name", "custom_fields"]
    ) -> list[m.PersonHit]:
        """Persons that the index has for the whole of a term; 20 tokens a page.

        The index lags, keeps deleted persons and does not tell upper from lower case: verify each.
        """
        query = {"fields": field, "exact_match": "true"}
        return self._search(ep.SEARCH_PERSONS, m.PersonHit, term, query)

    def create_person(self, new: m.NewPerson) -> m.Person:
        """Create a person.

        Raises:
            RefusedError: Pipedrive does not take it.
        """
        return self._write(ep.CREATE_PERSON, m.Person, m.body_of(new))

    def update_person(self, person_id: int, changes: m.PersonChanges) -> m.Person:
        """Change a person.

        Raises:
            RecordMissingError: There is none.
            RefusedError: Pipedrive does not take the change.
        """
        return self._write(ep.UPDATE_PERSON, m.Person, m.body_of(changes), id=person_id)

    def delete_person(self, person_id: int) -> bool:
        """Delete a person; False where there is none any more."""
        return self._delete(ep.DELETE_PERSON, id=person_id)

    # --- organizations --------------------------------------------------------------------------

    def iter_organizations(
        self, *, ids: Iterable[int] | None = None, updated_since: datetime | None = None
    ) -> Iterator[m.Organization]:
        """Organizations; 10 tokens a page. Arguments as of ``iter_persons``."""
        query = _changed(updated_since)
        return self._iter_by_ids(ep.LIST_ORGANIZATIONS, m.Organization, query, ids)

    def get_organization(self, organization_id: int) -> m.Organization | None:
        """One organization, perhaps with ``is_deleted``; None where there is none any more."""
        return self._get(ep.GET_ORGANIZATION, m.Organization, id=organization_id)

    def find_organizations(self, name: str) -> list[m.OrganizationHit]:
        """Organizations that the index has under a name; 20 tokens a page.

        The index lags and keeps deleted organizations for ever: verify each.
        """
        query = {"fields": "name", "exact_match": "true"}
        return self._search(ep.SEARCH_ORGANIZATIONS, m.OrganizationHit, name, query)

    def create_organization(self, name: str) -> m.Organization:
        """Create an organization.

        Raises:
            RefusedError: Pipedrive does not take it.
        """
        if not name.strip():
            raise ValueError("an organization needs a name")
        return self._write(ep.CREATE_ORGANIZATION, m.Organization, {"name": name})

    def update_organization(
        self, organization_id: int, changes: m.OrganizationChanges
    ) -> m.Organization:
        """Change an organization.

        Raises:
            RecordMissingError: There is none.
            RefusedError: Pipedrive does not take the change.
        """
        body = m.body_of(changes)
        return self._write(ep.UPDATE_ORGANIZATION, m.Organization, body, id=organization_id)

    def delete_organization(self, organization_id: int) -> bool:
        """Delete an organization; False where there is none any more."""
        return self._delete(ep.DELETE_ORGANIZATION, id=organization_id)

    # --- deals ----------------------------------------------------------------------------------

    def iter_deals(
        self,
        *,
        person_id: int | None = None,
        org_id: int | None = None,
        ids: Iterable[int] | None = None,
        updated_since: datetime | None = None,
        status: Literal["open", "won", "lost", "deleted"] | None = None,
    ) -> Iterator[m.Deal]:
        """Deals that are not archived; 10 tokens a page.

        Args:
            person_id: Only those of this person.
            org_id: Only those of this organization.
            ids: Only these; what is not there any more is left out.
            updated_since: Only those changed at this second or later, the first changed first.
            status: Only these; ``deleted`` are those of the last 30 days, which no other list has.
        """
        query = {
            "person_id": person_id,
            "org_id": org_id,
            "status": status,
            "include_fields": "source_lead_id",
            **_changed(updated_since),
        }
        return self._iter_by_ids(ep.LIST_DEALS, m.Deal, query, ids)

    def iter_archived_deals(
        self, *, person_id: int | None = None, org_id: int | None = None
    ) -> Iterator[m.Deal]:
        """Archived deals, which no other list has; 20 tokens a page.

        Args:
            person_id: Only those of this person.
            org_id: Only those of this organization.
        """
        query = {"person_id": person_id, "org_id": org_id, "include_fields": "source_lead_id"}
        return self._iter_cursor(ep.LIST_ARCHIVED_DEALS, m.Deal, query)

    def get_deal(self, deal_id: int) -> m.Deal | None:
        """One deal, perhaps with ``is_deleted`` or archived; None where there is none any more."""
        return self._get(ep.GET_DEAL, m.Deal, {"include_fields": "source_lead_id"}, id=deal_id)

    def update_deal(self, deal_id: int, changes: m.DealChanges) -> m.Deal:
        """Change a deal that is not archived.

        Raises:
            RecordMissingError: There is none.
            RefusedError: It is archived, or Pipedrive does not take the change.
        """
        return self._write(ep.UPDATE_DEAL, m.Deal, m.body_of(changes), id=deal_id)

    def delete_deal(self, deal_id: int) -> bool:
        """Delete a deal; False where there is none any more."""
        return self._delete(ep.DELETE_DEAL, id=deal_id)

    # --- fields, stages, the account ------------------------------------------------------------

    def find_by_field(
        self, entity: Literal["lead", "deal", "person", "organization"], field: str, term: str
    ) -> list[m.FieldHit]:
        """Records whose field has exactly a value, in upper and lower case; 20 tokens a page.

        Args:
            entity: Kind of record.
            field: Key of a searchable field (``varchar`` and the like).
            term: The value.
        """
        query = {"entity_type": entity, "field": field, "match": "exact"}
        return self._search(ep.SEARCH_FIELD, m.FieldHit, term, query)

    def read_deal_fields(self) -> list[m.Field]:
        """All fields of deals, which are those of leads too; 10 tokens a page."""
        return list(self._iter_cursor(ep.LIST_DEAL_FIELDS, m.Field, {}))

    def create_deal_field(self, name: str, *, field_type: str = "varchar") -> m.Field:
        """Create a custom field of deals and leads.

        Raises:
            RefusedError: The user of the token may not, or the plan's number is reached.
        """
        body = {"field_name": name, "field_type": field_type}
        return self._write(ep.CREATE_DEAL_FIELD, m.Field, body)

    def read_person_fields(self) -> list[m.Field]:
        """All fields of persons; 10 tokens a page."""
        return list(self._iter_cursor(ep.LIST_PERSON_FIELDS, m.Field, {}))

    def create_person_field(self, name: str, *, field_type: str = "varchar") -> m.Field:
        """Create a custom field of persons.

        Raises:
            RefusedError: The user of the token may not, or the plan's number is reached.
        """
        body = {"field_name": name, "field_type": field_type}
        return self._write(ep.CREATE_PERSON_FIELD, m.Field, body)

    def read_pipelines(self) -> list[m.Pipeline]:
        """All pipelines of deals; 5 tokens a page."""
        return list(self._iter_cursor(ep.LIST_PIPELINES, m.Pipeline, {}))

    def read_stages(self, *, pipeline_id: int | None = None) -> list[m.Stage]:
        """All stages, or those of one pipeline; 5 tokens a page."""
        query = {"pipeline_id": pipeline_id}
        return list(self._iter_cursor(ep.LIST_STAGES, m.Stage, query))

    def read_me(self) -> m.Me:
        """The user of the token and the company; 2 tokens, the cheapest proof of a token."""
        response, answer = self._call(ep.GET_ME)
        with reading(response):
            return read(answer.data, m.Me)

    # --- pages ----------------------------------------------------------------------------------

    def _iter_offset(self, endpoint: Endpoint, kind: type[T], query: Query) -> Iterator[T]:
        guard = PageGuard(endpoint.method, endpoint.path, self._max_pages)
        start: int | None = 0
        while start is not None:
            response, answer = self._call(
                endpoint, {**query, "start": start, "limit": self._page_size}
            )
            # v1 says null for a collection with nothing in it.
            tree = [] if answer.data is None else answer.data
            with reading(response):
                records = read(tree, list[kind])  # type: ignore[valid-type]
                following = next_start(answer.additional_data, start, len(records))
            guard.check(tree, start, following)
            yield from records
            start = following

    def _iter_cursor(
        self,
        endpoint: Endpoint,
        kind: type[T],
        query: Query,
        *,
        limit: int | None = None,
        max_pages: int | None = None,
        items_of: Callable[[object], object] = lambda tree: tree,
    ) -> Iterator[T]:
        guard = PageGuard(endpoint.method, endpoint.path, max_pages or self._max_pages)
        cursor: str | None = None
        is_last = False
        while not is_last:
            response, answer = self._call(
                endpoint, {**query, "limit": limit or self._page_size, "cursor": cursor}
            )
            tree = items_of(answer.data)
            with reading(response):
                records = read(tree, list[kind])  # type: ignore[valid-type]
                following = next_cursor(answer.additional_data)
            guard.check(tree, cursor, following)
            yield from records
            cursor, is_last = following, following is None

    def _iter_by_ids(
        self, endpoint: Endpoint, kind: type[T], query: Query, ids: Iterable[int] | None
    ) -> Iterator[T]:
        if ids is None:
            yield from self._iter_cursor(endpoint, kind, query)
            return
        wanted = sorted(set(ids))
        # No ids are no filter to Pipedrive: it would answer with everything.
        for first in range(0, len(wanted), ep.MAX_IDS):
            some = ",".join(map(str, wanted[first : first + ep.MAX_IDS]))
            yield from self._iter_cursor(endpoint, kind, {**query, "ids": some})

    def _search(self, endpoint: Endpoint, kind: type[T], term: str, query: Query) -> list[T]:
        if not term.strip():
            raise ValueError("a search needs a term")
        return list(
            self._iter_cursor(
                endpoint,
                kind,
                {**query, "term": term},
                limit=min(self._page_size, ep.MAX_SEARCH_PAGE),
                max_pages=MAX_SEARCH_PAGES,
                items_of=_items_of,
            )
        )

    # --- one call -------------------------------------------------------------------------------

    def _get(
        self, endpoint: Endpoint, kind: type[T], query: Query | None = None, /, **ids: UUID | int
    ) -> T | None:
        try:
            response, answer = self._call(endpoint, query, ids=ids)
        except RecordMissingError:
            return None
        with reading(response):
            return read(answer.data, kind)

    def _write(
        self, endpoint: Endpoint, kind: type[T], body: Mapping[str, Any], /, **ids: UUID | int
    ) -> T:
        response, answer = self._call(endpoint, body=body, ids=ids)
        with reading(response):
            return read(answer.data, kind)

    def _delete(self, endpoint: Endpoint, /, **ids: UUID | int) -> bool:
        try:
            self._call(endpoint, ids=ids)
        except RecordMissingError:
            return False
        return True

    def _call(
        self,
        endpoint: Endpoint,
        query: Query | None = None,
        *,
        body: Mapping[str, Any] | None = None,
        ids: Mapping[str, UUID | int] | None = None,
    ) -> tuple[httpx.Response, Answer]:
        path = endpoint.path.format(**(ids or {}))
        if self._stopped_by is not None:
            raise again(self._stopped_by, endpoint.method, path)
        parameters = {name: value for name, value in (query or {}).items() if value is not None}
        unknown = parameters.keys() - endpoint.parameters
        if unknown:
            # The server would ignore it, and answer with everything.
            raise ValueError(f"{endpoint.name} knows no parameter {', '.join(sorted(unknown))}")
        response = self._client.request(
            endpoint.method,
            path,
            params=parameters or None,
            json=body,
            extensions={ENDPOINT_EXTENSION: endpoint},
        )
        answer = judge(response.status_code, response.headers, response.content)
        if answer.meaning is not Meaning.DONE:
            self._raise(endpoint, response, answer)
        if endpoint.has_flat_leads:
            answer = replace(answer, data=m.lead_tree(answer.data))
        return response, answer

    def _raise(self, endpoint: Endpoint, response: httpx.Response, answer: Answer) -> NoReturn:
        meaning = answer.meaning
        if meaning is Meaning.BUDGET:
            self.ledger.refuse_until_tomorrow()
            raise self.ledger.refusal(endpoint, said_by_pipedrive=True)
        if meaning in {Meaning.PASSING, Meaning.THROTTLED}:
            error = error_of(response, throttled=is_throttled)
            assert error is not None  # noqa: S101 - neither is a success
            raise error
        if meaning is Meaning.FOREIGN and response.is_success:
            raise unreadable(response, answer.explanation)
        message = f"answered {response.status_code}: {answer.explanation}"
        if meaning in {Meaning.TOKEN, Meaning.ACCOUNT}:
            self._stopped_by = error_from(AccessRefusedError, response, message)
            raise self._stopped_by
        if meaning is Meaning.BLOCKED:
            self._stopped_by = error_from(BlockedError, response, message)
            raise self._stopped_by
        kind = RecordMissingError if meaning is Meaning.MISSING else RefusedError
        refused = error_from(kind, response, message)
        refused.meaning, refused.code = meaning, answer.code
        raise refused


class _ConversionBegun(Hidden, frozen=True, kw_only=True):
    conversion_id: UUID


def _items_of(tree: object) -> object:
    """The records of a search, which stand as ``item`` beside a score, under ``items`` or not.

    Of a search by field the spec has two shapes, one in its schema and another in its example.
    """
    hits = tree.get("items") if isinstance(tree, dict) else tree
    if not isinstance(hits, list):
        return hits
    return [hit["item"] if isinstance(hit, dict) and "item" in hit else hit for hit in hits]


def _changed(since: datetime | None) -> dict[str, str | int | None]:
    if since is None:
        return {}
    # In this order a record that changes meanwhile comes again, and pushes none aside.
    return {
        "updated_since": _instant(since),
        "sort_by": "update_time",
        "sort_direction": "asc",
    }


def _instant(moment: datetime) -> str:
    """RFC 3339 in UTC, cut to the second before: the limits are inclusive."""
    if moment.tzinfo is None:
        raise ValueError("an instant needs its zone")
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _assert_one(*owners: UUID | int | None) -> None:
    if sum(owner is not None for owner in owners) != 1:
        raise ValueError("a note belongs to one lead, deal or person")


def _assert_usable(base_url: str, token: str) -> None:
    url = parse_base_url(
        base_url, setting="GATTE_PIPEDRIVE_BASE_URL", example="https://company.pipedrive.com"
    )
    if url.path not in {"", "/"}:
        raise ConfigurationError(
            "GATTE_PIPEDRIVE_BASE_URL must be a host, like https://company.pipedrive.com"
        )
    # httpx would refuse it with an error that repeats the whole header.
    if not _TOKEN.fullmatch(token):
        raise ConfigurationError("GATTE_PIPEDRIVE_API_TOKEN must be ASCII without spaces")
