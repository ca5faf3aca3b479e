"""Pipedrive's records as this project reads and writes them. Pure.

Only the fields that the sync relies on; one that is missing fails the answer it should be in. What
a field means for a lead of ours belongs to the sync.

Names, phones and e-mail addresses are in here, so a repr shows kind and id and nothing else.
"""

from __future__ import annotations

import html
import re
from collections.abc import Mapping
from datetime import date
from typing import Any, TypeAlias
from uuid import UUID

import msgspec
from msgspec import UNSET, UnsetType

from gatte_pipelines.json_records import Hidden, Instant

CustomFields: TypeAlias = dict[str, object]
"""Values by the 40-character keys of an account."""

# v1 puts them between the ordinary fields, and parts of a value behind the key (``…_currency``).
_CUSTOM_KEY = re.compile(r"[0-9a-f]{40}(?:_[a-z_]{1,40})?")
_FIELD_KEY = re.compile(r"[0-9a-f]{40}")


# --- what is read -------------------------------------------------------------------------------


class Money(Hidden, frozen=True, kw_only=True):
    """An amount in a currency."""

    amount: float
    currency: str


class Contact(Hidden, frozen=True, kw_only=True, omit_defaults=True):
    """One phone or e-mail address of a person.

    Attributes:
        value: As it was typed; a phone has no fixed form.
        primary: The one that Pipedrive shows first.
        label: ``work``, ``home`` and so on.
    """

    value: str
    primary: bool
    label: str | None = None


class Lead(Hidden, frozen=True, kw_only=True):
    """A lead (v1).

    Attributes:
        origin_id: What its creator gave it; our lead's id in those that we created.
        is_archived: Pipedrive refuses to change it.
        custom_fields: Those that are set, by key; leads have the fields of deals.
    """

    id: UUID
    title: str
    owner_id: int
    person_id: int | None
    organization_id: int | None
    label_ids: list[UUID]
    origin_id: str | None
    is_archived: bool
    add_time: Instant
    update_time: Instant
    value: Money | None = None
    expected_close_date: date | None = None
    custom_fields: CustomFields = {}


class Person(Hidden, frozen=True, kw_only=True):
    """A person (v2)."""

    id: int
    name: str
    org_id: int | None
    emails: list[Contact]
    phones: list[Contact]
    is_deleted: bool
    add_time: Instant
    update_time: Instant | None
    custom_fields: CustomFields
    owner_id: int | None = None
    label_ids: list[int] = []


class Organization(Hidden, frozen=True, kw_only=True):
    """An organization (v2)."""

    id: int
    name: str
    is_deleted: bool
    add_time: Instant
    update_time: Instant | None
    custom_fields: CustomFields
    owner_id: int | None = None


class Deal(Hidden, frozen=True, kw_only=True):
    """A deal (v2).

    Attributes:
        status: ``open``, ``won``, ``lost`` or ``deleted``.
        source_lead_id: The lead that it was converted from.
    """

    id: int
    title: str
    status: str
    stage_id: int
    pipeline_id: int
    person_id: int | None
    org_id: int | None
    is_archived: bool
    is_deleted: bool
    add_time: Instant
    update_time: Instant | None
    custom_fields: CustomFields
    owner_id: int | None = None
    value: float | None = None
    currency: str | None = None
    lost_reason: str | None = None
    origin_id: str | None = None
    source_lead_id: UUID | None = None


class Note(Hidden, frozen=True, kw_only=True):
    """A note (v1); its content is HTML."""

    id: int
    content: str
    lead_id: UUID | None = None
    deal_id: int | None = None
    person_id: int | None = None
    active_flag: bool = True


class LeadLabel(Hidden, frozen=True, kw_only=True):
    """A label of leads: before a conversion, the stage."""

    id: UUID
    name: str
    color: str = ""


class Pipeline(Hidden, frozen=True, kw_only=True):
    """A pipeline of deals."""

    id: int
    name: str
    order_nr: int
    is_deleted: bool


class Stage(Hidden, frozen=True, kw_only=True):
    """A stage of a pipeline."""

    id: int
    name: str
    order_nr: int
    pipeline_id: int
    is_deleted: bool


class FieldOption(Hidden, frozen=True, kw_only=True):
    """One value of a field of type ``enum`` or ``set``."""

    id: int | str | bool
    label: str


class Field(Hidden, frozen=True, kw_only=True):
    """A field of deals (and so of leads) or of persons.

    Attributes:
        field_code: The key under which values stand; 40 characters for a custom field.
    """

    field_name: str
    field_code: str
    field_type: str
    is_custom_field: bool
    options: list[FieldOption] | None = None


class PersonHit(Hidden, frozen=True, kw_only=True):
    """A person that the search index names. It may be deleted, or no longer match."""

    id: int
    name: str
    phones: list[str]
    emails: list[str]


class OrganizationHit(Hidden, frozen=True, kw_only=True):
    """An organization that the search index names. It may be deleted, or no longer match."""

    id: int
    name: str


class FieldHit(Hidden, frozen=True, kw_only=True):
    """A record that the search index names for a value of one field."""

    id: int | str


class Conversion(Hidden, frozen=True, kw_only=True):
    """How far a conversion from lead to deal is.

    Attributes:
        status: ``not_started``, ``running``, ``completed``, ``failed`` or ``rejected``.
        deal_id: The deal, once completed.
    """

    conversion_id: UUID
    status: str
    deal_id: int | None = None


class Me(Hidden, frozen=True, kw_only=True):
    """The user of the token and the company."""

    id: int
    company_id: int
    company_domain: str
    timezone_name: str = ""


# --- what is written ----------------------------------------------------------------------------


class NewLead(Hidden, frozen=True, kw_only=True, omit_defaults=True):
    """A lead to create; it needs a person or an organization that exists."""

    title: str
    person_id: int | None = None
    organization_id: int | None = None
    label_ids: list[UUID] = []
    value: Money | None = None
    expected_close_date: date | None = None
    origin_id: str | None = None
    custom_fields: CustomFields = {}

    def __post_init__(self) -> None:
        """Refuse what the server refuses and its spec does not say.

        Raises:
            ValueError: No title, or neither person nor organization.
        """
        if not self.title.strip():
            raise ValueError("a lead needs a title")
        if self.person_id is None and self.organization_id is None:
            raise ValueError("a lead needs a person or an organization")


class LeadChanges(Hidden, frozen=True, kw_only=True, omit_defaults=True):
    """What to change of a lead; a field that is left alone stays, None clears it.

    ``origin_id`` can be set by the creation only.
    """

    title: str | UnsetType = UNSET
    person_id: int | UnsetType | None = UNSET
    organization_id: int | UnsetType | None = UNSET
    label_ids: list[UUID] | UnsetType = UNSET
    value: Money | UnsetType | None = UNSET
    expected_close_date: date | UnsetType | None = UNSET
    custom_fields: CustomFields = {}


class NewPerson(Hidden, frozen=True, kw_only=True, omit_defaults=True):
    """A person to create. The server asks for the name, though its spec does not."""

    name: str
    org_id: int | None = None
    emails: list[Contact] = []
    phones: list[Contact] = []
    custom_fields: CustomFields = {}

    def __post_init__(self) -> None:
        """Refuse what the server refuses.

        Raises:
            ValueError: There is no name.
        """
        if not self.name.strip():
            raise ValueError("a person needs a name")


class PersonChanges(Hidden, frozen=True, kw_only=True, omit_defaults=True):
    """What to change of a person.

    A list of e-mail addresses or phones replaces the whole list there: give the ones that were
    read with it, or they are lost.
    """

    name: str | UnsetType = UNSET
    org_id: int | UnsetType = UNSET
    emails: list[Contact] | UnsetType = UNSET
    phones: list[Contact] | UnsetType = UNSET
    custom_fields: CustomFields = {}


class OrganizationChanges(Hidden, frozen=True, kw_only=True, omit_defaults=True):
    """What to change of an organization."""

    name: str | UnsetType = UNSET
    custom_fields: CustomFields = {}


class DealChanges(Hidden, frozen=True, kw_only=True, omit_defaults=True):
    """What to change of a deal."""

    title: str | UnsetType = UNSET
    person_id: int | UnsetType = UNSET
    org_id: int | UnsetType = UNSET
    value: float | UnsetType = UNSET
    currency: str | UnsetType = UNSET
    expected_close_date: date | UnsetType = UNSET
    custom_fields: CustomFields = {}


def lead_tree(tree: object) -> object:
    """Leads of v1 with their custom fields in a place of their own.

    Args:
        tree: Decoded JSON, of one lead or a list; what is neither is given back as it is.
    """
    if isinstance(tree, list):
        return [lead_tree(item) for item in tree]
    if not isinstance(tree, dict):
        return tree
    custom = {
        key: value
        for key, value in tree.items()
        if isinstance(key, str) and _CUSTOM_KEY.fullmatch(key)
    }
    return {**tree, "custom_fields": custom}


def body_of(record: Hidden, *, is_flat: bool = False) -> dict[str, Any]:
    """The JSON body that creates or changes a record.

    Args:
        record: One of the structs that are written.
        is_flat: Custom fields stand between the ordinary ones, as v1 has them.

    Raises:
        ValueError: There is nothing in it, or a custom field's key is none.
    """
    body: dict[str, Any] = msgspec.to_builtins(record)
    custom: Mapping[str, object] = body.pop("custom_fields", {})
    keys = _CUSTOM_KEY if is_flat else _FIELD_KEY
    if not all(keys.fullmatch(key) for key in custom):
        raise ValueError("the key of a custom field is 40 hexadecimal characters")
    if is_flat:
        body.update(custom)
    elif custom:
        body["custom_fields"] = dict(custom)
    if not body:
        raise ValueError("there is nothing to write")
    return body


def note_html(text: str) -> str:
    """Plain text as the HTML that a note's content is."""
    return "<br>".join(html.escape(line, quote=False) for line in text.splitlines())
