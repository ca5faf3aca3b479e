"""A lead of ours and what Pipedrive holds of it, each as the other sees it. Pure.

Which value counts belongs to ``policy`` and ``sync.merge``; calls and tables to the sync.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Final
from uuid import UUID

from msgspec import UNSET, UnsetType

from gatte_pipelines.crm import models as m
from gatte_pipelines.crm.contacts import (
    MAX_EMAIL,
    email_key_of,
    phone_key_of,
    usable_email,
    usable_phone,
)
from gatte_pipelines.phones import forms, phone_key

if TYPE_CHECKING:
    from gatte_pipelines.crm.company import Account
    from gatte_pipelines.crm.policy import StagePolicy
    from gatte_pipelines.sync.merge import Value

__all__ = [
    "INVALID_EMAIL",
    "INVALID_PHONE",
    "NUL_CHARACTER",
    "TOO_LONG",
    "UNKNOWN_CONTACT",
    "LocalLead",
    "can_be_told",
    "company_of",
    "contacts_of",
    "has_email",
    "has_phone",
    "label_ids_for",
    "label_ids_of_new",
    "left_alone_here",
    "names_our_lead",
    "new_person",
    "ours_of",
    "person_changes",
    "phone_key_of",
    "search_forms",
    "stage_of_deal",
    "stage_of_lead",
    "title_of",
    "usable_email",
    "usable_phone",
]

INVALID_PHONE: Final = "invalid_phone"
INVALID_EMAIL: Final = "invalid_email"
TOO_LONG: Final = "too_long"
NUL_CHARACTER: Final = "nul_character"

UNKNOWN_CONTACT: Final = "Contato pelo WhatsApp"
"""Title or name of whom we know neither interest nor name of."""

_MAX_NAME, _MAX_COMPANY, _MAX_TITLE = 150, 200, 255
_NUL = "\x00"
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)


@dataclass(frozen=True, repr=False)
class LocalLead:
    """A row of ``leads`` as far as the sync reads it. Its repr shows the id only."""

    lead_id: UUID
    name: str
    phone: str
    email: str | None
    company: str | None
    interest: str | None
    stage: str
    source: str
    notes: str | None
    created_at: datetime

    def __repr__(self) -> str:
        return f"<LocalLead {self.lead_id}>"


@dataclass(frozen=True, kw_only=True)
class _Channel:
    """How entries of one kind are read."""

    field: str
    usable: Callable[[str | None], str | None]
    key_of: Callable[[str | None], str | None]
    invalid: str
    label: str


_PHONE = _Channel(
    field="phone",
    usable=usable_phone,
    key_of=phone_key_of,
    invalid=INVALID_PHONE,
    label="mobile",
)
_EMAIL = _Channel(
    field="email",
    usable=usable_email,
    key_of=email_key_of,
    invalid=INVALID_EMAIL,
    label="work",
)


# --- to values ------------------------------------------------------------------------------------


def ours_of(lead: LocalLead) -> dict[str, Value]:
    """Our values by field; a phone or e-mail that cannot be used is None (``left_alone_here``)."""
    return {
        "name": _plain(lead.name),
        "phone": usable_phone(lead.phone),
        "email": usable_email(lead.email),
        "company": _plain(lead.company),
        "stage": lead.stage,
    }


def left_alone_here(lead: LocalLead) -> dict[str, str]:
    """Fields of ours that say something of no use, with a reason code.

    For them ``ours_of`` has None, which must not pass for a value that somebody emptied.
    """
    found = {}
    for channel, text in ((_PHONE, lead.phone), (_EMAIL, lead.email)):
        if _plain(text) is not None and channel.usable(text) is None:
            found[channel.field] = channel.invalid
    return found


def contacts_of(
    person: m.Person, *, ours: Mapping[str, Value], agreed: Mapping[str, Value] | None
) -> tuple[dict[str, Value], dict[str, str]]:
    """Their name, phone and e-mail.

    Of several phones the one that is ours counts, else the agreed one, else the primary or first
    one that can be used; of e-mail addresses likewise.

    Args:
        person: As it was read.
        ours: Our values.
        agreed: Those on which both last agreed; None where they never did.

    Returns:
        Values by field, and the fields to leave alone with a reason code: what stands there cannot
        be taken, so the agreed value is given as if nobody had changed it.
    """
    known = agreed or {}
    values: dict[str, Value] = {}
    left_alone: dict[str, str] = {}
    values["name"], reason = _fitting(person.name, _MAX_NAME)
    if reason is not None:
        values["name"], left_alone["name"] = known.get("name"), reason
    for channel, entries in ((_PHONE, person.phones), (_EMAIL, person.emails)):
        name = channel.field
        filled = _filled(entries)
        usable = [entry for entry in filled if channel.key_of(entry.value) is not None]
        if usable:
            entry = (
                _same(channel, usable, ours.get(name))
                or _same(channel, usable, known.get(name))
                or _first(usable)
            )
            values[name] = channel.usable(entry.value)
        elif filled:
            values[name] = known.get(name)
            left_alone[name] = _why_unusable(channel, _first(filled).value)
        else:
            values[name] = None
    return values, left_alone


def company_of(name: str | None) -> tuple[Value, str | None]:
    """The company as ``leads`` can hold it.

    Args:
        name: Of the organization; None where there is none.

    Returns:
        The value and None; or None and a reason code where it is to be left alone.
    """
    return _fitting(name, _MAX_COMPANY)


def stage_of_lead(lead: m.Lead, account: Account, stages: StagePolicy) -> str:
    """Our stage for a lead that is not converted; the latest in the list of its labels counts."""
    names = {account.labels.get(label_id) for label_id in lead.label_ids}
    stage = stages.no_label
    for label in stages.labels:
        if label.name in names:
            stage = label.stage
    return stage


def stage_of_deal(deal: m.Deal, account: Account, stages: StagePolicy) -> str | None:
    """Our stage for a deal; None where the configuration names none for it."""
    if deal.status == "won":
        return stages.won
    if deal.status == "lost":
        return stages.lost
    if deal.status != "open":
        return None
    names = account.stages.get(deal.stage_id)
    for one in stages.deal_stages:
        if (one.pipeline, one.name) == names:
            return one.stage
    return None


def can_be_told(stage: str, stages: StagePolicy) -> bool:
    """Whether a lead there can show a stage: by a label, or by having none."""
    return stage == stages.no_label or any(label.stage == stage for label in stages.labels)


def names_our_lead(remote: m.Lead | m.Deal, account: Account) -> UUID | None:
    """The lead of ours that a record says it is, by the custom field or what created it.

    Args:
        remote: A lead or deal.
        account: Names the custom field.
    """
    key = account.external_key
    for value in (None if key is None else remote.custom_fields.get(key), remote.origin_id):
        if isinstance(value, str) and _UUID.fullmatch(value.strip()):
            return UUID(value.strip())
    return None


# --- to records -----------------------------------------------------------------------------------


def label_ids_for(
    lead: m.Lead, stage: str, account: Account, stages: StagePolicy
) -> list[UUID] | None:
    """The labels that give a lead a stage; those that the configuration does not name stay.

    Returns:
        Ids of labels; None where no label stands for the stage.
    """
    if stage_of_lead(lead, account, stages) == stage:
        return list(lead.label_ids)
    mapped = {label.name for label in stages.labels}
    kept = [one for one in lead.label_ids if account.labels.get(one) not in mapped]
    if stage == stages.no_label:
        return kept
    label_id = _label_id(stage, account, stages)
    return None if label_id is None else [*kept, label_id]


def label_ids_of_new(stage: str, account: Account, stages: StagePolicy) -> list[UUID]:
    """The labels of a lead that is created; none where no label stands for its stage."""
    label_id = None if stage == stages.no_label else _label_id(stage, account, stages)
    return [] if label_id is None else [label_id]


def new_person(values: Mapping[str, Value], *, org_id: int | None) -> m.NewPerson:
    """A person to create.

    Args:
        values: Name, phone and e-mail.
        org_id: Its organization.
    """
    return m.NewPerson(
        name=values.get("name") or UNKNOWN_CONTACT,
        org_id=org_id,
        phones=_new_entries(_PHONE, values),
        emails=_new_entries(_EMAIL, values),
    )


def person_changes(
    person: m.Person, values: Mapping[str, Value], *, agreed: Mapping[str, Value] | None
) -> m.PersonChanges:
    """What to change of a person so that it has our values; every other entry stays.

    A phone or e-mail takes the place of the agreed one, with its label; where that is not there, it
    comes first. None takes the agreed one out. A name is never emptied: Pipedrive asks for one.

    Args:
        person: As it was read.
        values: Of the fields to write; others are left alone.
        agreed: Those on which both last agreed; None where they never did.

    Returns:
        The changes; with nothing in them where the person is so already.
    """
    name = values.get("name")
    known = agreed or {}
    return m.PersonChanges(
        name=name if name is not None and name != person.name else UNSET,
        phones=_new_list(_PHONE, person.phones, values, known),
        emails=_new_list(_EMAIL, person.emails, values, known),
    )


def title_of(lead: LocalLead) -> str:
    """Title of the lead there: what it is about, and who asks."""
    about = " ".join((lead.interest or "").split()) or UNKNOWN_CONTACT
    name = " ".join(lead.name.split())
    return (f"{about} – {name}" if name else about)[:_MAX_TITLE].rstrip()


def search_forms(phone: str) -> tuple[str, ...]:
    """The forms under which to search for a number, in digits, the likelier first."""
    return forms(phone_key(phone))


def has_phone(person: m.Person, phone: str) -> bool:
    """Whether a person has a number, in whichever form."""
    return _same(_PHONE, person.phones, phone) is not None


def has_email(person: m.Person, email: str) -> bool:
    """Whether a person has an address."""
    return _same(_EMAIL, person.emails, email) is not None


# --- entries --------------------------------------------------------------------------------------


def _filled(entries: Sequence[m.Contact]) -> list[m.Contact]:
    return [entry for entry in entries if entry.value.strip()]


def _first(entries: Sequence[m.Contact]) -> m.Contact:
    return next((entry for entry in entries if entry.primary), entries[0])


def _same(channel: _Channel, entries: Sequence[m.Contact], value: Value) -> m.Contact | None:
    """The entry that is a value, the primary one of several; None where there is none."""
    key = channel.key_of(value)
    same = [entry for entry in entries if key is not None and channel.key_of(entry.value) == key]
    return _first(same) if same else None


def _why_unusable(channel: _Channel, text: str) -> str:
    if _NUL in text:
        return NUL_CHARACTER
    return TOO_LONG if channel is _EMAIL and len(text.strip()) > MAX_EMAIL else channel.invalid


def _new_entries(channel: _Channel, values: Mapping[str, Value]) -> list[m.Contact]:
    value = values.get(channel.field)
    return [] if value is None else [m.Contact(value=value, primary=True, label=channel.label)]


def _new_list(
    channel: _Channel,
    entries: Sequence[m.Contact],
    values: Mapping[str, Value],
    agreed: Mapping[str, Value],
) -> list[m.Contact] | UnsetType:
    """The whole list as it is to be, since a write replaces it; unset where it is so already."""
    if channel.field not in values:
        return UNSET
    value = values[channel.field]
    old = agreed.get(channel.field)
    filled = _filled(entries)
    if value is None:
        key = channel.key_of(old)
        # Every form of it: one that stayed would come back as a change of theirs.
        kept = [one for one in filled if key is None or channel.key_of(one.value) != key]
        return UNSET if len(kept) == len(filled) else _with_primary(kept)
    if _same(channel, filled, value) is not None:
        return UNSET
    replaced = _same(channel, filled, old)
    if replaced is not None:
        return _with_primary([_renewed(one, value) if one is replaced else one for one in filled])
    others = [m.Contact(value=one.value, primary=False, label=one.label) for one in filled]
    return [m.Contact(value=value, primary=True, label=channel.label), *others]


def _renewed(entry: m.Contact, value: str) -> m.Contact:
    return m.Contact(value=value, primary=entry.primary, label=entry.label)


def _with_primary(entries: list[m.Contact]) -> list[m.Contact]:
    """The entries, the first one as primary where none is."""
    if not entries or any(entry.primary for entry in entries):
        return entries
    first = entries[0]
    return [m.Contact(value=first.value, primary=True, label=first.label), *entries[1:]]


# --- texts and labels -----------------------------------------------------------------------------


def _plain(text: str | None) -> Value:
    return (unicodedata.normalize("NFC", text).strip() or None) if text is not None else None


def _fitting(text: str | None, longest: int) -> tuple[Value, str | None]:
    value = _plain(text)
    if value is None:
        return None, None
    if _NUL in value:
        return None, NUL_CHARACTER
    return (None, TOO_LONG) if len(value) > longest else (value, None)


def _label_id(stage: str, account: Account, stages: StagePolicy) -> UUID | None:
    """The id of the first label that stands for a stage."""
    for label in stages.labels:
        if label.stage == stage:
            return next((one for one, name in account.labels.items() if name == label.name), None)
    return None
