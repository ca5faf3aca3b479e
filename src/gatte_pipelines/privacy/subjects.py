"""Find people by phone or e-mail, and say who a person is: users, merged users, leads, keys.

No personal value leaves `find_subjects`: ids, instants and counts only. What a person may ask for
belongs to ``subject_requests``; what is done about it to ``export`` and ``erasure``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

from psycopg.rows import dict_row

from gatte_pipelines.business_time import ZONE
from gatte_pipelines.database.engine import psycopg_connection
from gatte_pipelines.database.statements import read_statements
from gatte_pipelines.errors import BadInputError, PermanentError
from gatte_pipelines.personal_data import SubjectKeys
from gatte_pipelines.phones import BRAZILIAN_AREA_CODES, forms, is_possible_wa_id, phone_key
from gatte_pipelines.privacy.people import find_merged_leads

if TYPE_CHECKING:
    import psycopg
    from sqlalchemy import Connection

_SQL = read_statements(Path(__file__).with_name("subjects.sql"))

PHONE, EMAIL, LEAD = "phone", "email", "lead"
_BRAZIL = "55"
# Area code and eight or nine digits: a number as it is written inside Brazil.
_NATIONAL_LENGTHS = (10, 11)
_EMAIL = re.compile(r"[^@\s]{1,64}@[^@\s]{1,190}")


class UnknownSubjectError(PermanentError):
    """Nobody has this id: no user, no user merged into another, no lead."""

    def __init__(self, subject_id: UUID) -> None:
        super().__init__(
            f"no user and no lead has the id {subject_id}; find the person with "
            "gatte lgpd subject find"
        )


@dataclass(frozen=True, kw_only=True)
class MergedUser:
    """A user that became part of another one."""

    user_id: UUID
    merged_at: datetime


@dataclass(frozen=True, kw_only=True)
class MatchedUser:
    """A user whom a phone or an e-mail leads to.

    Attributes:
        user_id: ``users.id``.
        matched_by: ``phone``, ``email`` or ``lead`` (a lead of theirs has it).
        owned_from: Since when the number was theirs; None where only the chatbot tells it, or
            where they were not found by their number.
        owned_until: Until when; None while it still is theirs.
        is_former_owner: The number went to somebody else, or was given up.
        client_since: ``users.created_at``.
        is_client: As the chatbot has it.
        conversations: How many.
        tickets: How many.
        leads: How many are linked.
        merged: Users that became part of this one.
    """

    user_id: UUID
    matched_by: tuple[str, ...]
    owned_from: datetime | None
    owned_until: datetime | None
    is_former_owner: bool
    client_since: datetime
    is_client: bool
    conversations: int
    tickets: int
    leads: int
    merged: tuple[MergedUser, ...]


@dataclass(frozen=True, kw_only=True)
class MatchedLead:
    """A lead without a user, found by its phone or e-mail.

    Attributes:
        lead_id: ``leads.id``.
        matched_by: ``phone``, ``email``.
        created_at: When it was written.
        user_id: Whose it is by number or e-mail; None where it is nobody's who wrote to us.
        is_disputed: Several people share what it is found by; nobody's until a person decides.
    """

    lead_id: UUID
    matched_by: tuple[str, ...]
    created_at: datetime
    user_id: UUID | None
    is_disputed: bool


@dataclass(frozen=True, kw_only=True)
class SubjectMatches:
    """Everybody whom a phone or an e-mail leads to. ``kind`` says which of the two was given."""

    kind: str
    users: tuple[MatchedUser, ...]
    leads: tuple[MatchedLead, ...]

    @property
    def has_changed_hands(self) -> bool:
        """Whether the number was somebody's before it became another one's."""
        return sum(PHONE in user.matched_by for user in self.users) > 1 or any(
            user.is_former_owner for user in self.users
        )


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A person as our tables know them.

    Attributes:
        subject_id: ``users.id`` that is theirs now; of somebody who never wrote, ``leads.id``.
        user_ids: That user and those merged into it; empty where the person is a lead only.
        lead_ids: Leads linked to the user, unlinked ones that are theirs by phone or e-mail, and
            those that became part of one of them, whose rows are gone.
        disputed_lead_ids: Unlinked leads that may be somebody else's: left alone.
    """

    subject_id: UUID
    user_ids: tuple[UUID, ...]
    lead_ids: tuple[UUID, ...]
    disputed_lead_ids: tuple[UUID, ...]

    def parameters(self) -> dict[str, Any]:
        """For SQL: ``users`` and ``leads``."""
        return {"users": list(self.user_ids), "leads": list(self.lead_ids)}


# --- Finding --------------------------------------------------------------------------------------


def find_subjects(connection: Connection, text: str) -> SubjectMatches:
    """Find everybody whom a phone or an e-mail leads to.

    Args:
        connection: To the database, outside a transaction.
        text: A phone in any written form (with or without country, ninth digit, punctuation), or
            an e-mail, compared without regard to case. Read from standard input, never from an
            argument.

    Raises:
        BadInputError: The text is neither a phone nor an e-mail.
    """
    keys, emails = _parse_sought(text)
    driver = psycopg_connection(connection)
    with driver.transaction(), driver.cursor(row_factory=dict_row) as cursor:
        cursor.execute("set transaction isolation level repeatable read, read only")
        return _find(cursor, keys, emails)


def _parse_sought(text: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    sought = text.strip()
    if "@" in sought:
        if _EMAIL.fullmatch(sought):
            return (), (sought.lower(),)
    elif keys := written_phone_keys(sought):
        return keys, ()
    raise BadInputError(
        "standard input",
        1,
        None,
        "neither a phone (with its area code) nor an e-mail address",
    )


def _find(
    cursor: psycopg.Cursor[dict[str, Any]], keys: Sequence[str], emails: Sequence[str]
) -> SubjectMatches:
    owners = _read_owners(cursor, keys)
    matched: dict[UUID, set[str]] = {}
    for owner in owners:
        matched.setdefault(owner.user_id, set()).add(PHONE)
    for row in _rows(cursor, "find_users_by_email", {"emails": list(emails)}):
        matched.setdefault(row["user_id"], set()).add(EMAIL)
    leads = _read_leads(cursor, keys, emails)
    for lead in leads:
        if lead.user_id is not None:
            matched.setdefault(lead.user_id, set()).add(LEAD)
    users = {"users": list(matched)}
    merged: dict[UUID, list[MergedUser]] = {}
    for row in _rows(cursor, "read_merged_users", users):
        merged.setdefault(row["into_user_id"], []).append(
            MergedUser(user_id=row["user_id"], merged_at=row["merged_at"])
        )
    found = []
    for row in _rows(cursor, "describe_users", users):
        periods = [owner for owner in owners if owner.user_id == row["user_id"]]
        untils = [owner.until for owner in periods]
        ends = [until for until in untils if until is not None]
        until = max(ends) if ends and len(ends) == len(untils) else None
        found.append(
            MatchedUser(
                **row,
                matched_by=tuple(sorted(matched[row["user_id"]])),
                owned_from=min((owner.since for owner in periods), default=None),
                owned_until=until,
                is_former_owner=until is not None,
                merged=tuple(merged.get(row["user_id"], ())),
            )
        )
    unlinked = [lead for lead in leads if lead.user_id is None]
    judged = _judge(cursor, unlinked)
    return SubjectMatches(
        kind=EMAIL if emails else PHONE,
        users=tuple(found),
        leads=tuple(
            MatchedLead(
                lead_id=lead.lead_id,
                matched_by=tuple(
                    name
                    for name, is_so in (
                        (EMAIL, lead.email in emails),
                        (PHONE, lead.phone_key in keys),
                    )
                    if is_so
                ),
                created_at=lead.created_at,
                user_id=judged[lead.lead_id].user_id,
                is_disputed=judged[lead.lead_id].is_disputed,
            )
            for lead in unlinked
        ),
    )


def describe_matches(matches: SubjectMatches) -> list[str]:
    """What was found, in Portuguese, a line each; ids, dates and counts only."""
    what = "e-mail" if matches.kind == EMAIL else "telefone"
    if not matches.users and not matches.leads:
        return [f"Ninguém foi encontrado por este {what}."]
    lines = []
    if matches.has_changed_hands:
        lines.append("Este número mudou de mãos: confira as datas antes de escolher a pessoa.")
    for user in matches.users:
        facts = [
            f"desde {_day(user.client_since)}",
            "cliente" if user.is_client else "ainda não é cliente",
            f"conversas: {user.conversations}",
            f"chamados: {user.tickets}",
            f"leads: {user.leads}",
        ]
        if user.owned_from is not None and PHONE in user.matched_by:
            since = f"teve o número de {_day(user.owned_from)}"
            facts.append(
                f"tem o número desde {_day(user.owned_from)}"
                if user.owned_until is None
                else f"{since} até {_day(user.owned_until)}"
            )
        if user.matched_by == (LEAD,):
            facts.append("encontrado por um lead seu")
        facts += [f"reúne {old.user_id} desde {_day(old.merged_at)}" for old in user.merged]
        lines.append(f"usuário {user.user_id}: {'; '.join(facts)}")
    for lead in matches.leads:
        if lead.is_disputed:
            whose = "pode ser de mais de uma pessoa: decida antes de agir"
        elif lead.user_id is None:
            whose = "sem usuário"
        else:
            whose = f"pertence ao usuário {lead.user_id}"
        lines.append(f"lead {lead.lead_id}: de {_day(lead.created_at)}; {whose}")
    return lines


def _day(at: datetime) -> str:
    return at.astimezone(ZONE).strftime("%d/%m/%Y")


# --- Phones as people write them ------------------------------------------------------------------


def written_phone_keys(text: str) -> tuple[str, ...]:
    """Keys of the numbers that a text can mean, the likeliest first; empty where it is none.

    Eleven digits without "+" may be a mobile of Brazil and a number of another country: both.
    """
    digits = re.sub(r"[^0-9]+", "", text)
    if text.strip().startswith("+"):
        written = [digits]
    elif digits.startswith("00"):
        written = [digits[2:]]
    else:
        national = digits.removeprefix("0")
        written = [national]
        if len(national) in _NATIONAL_LENGTHS and national[:2] in BRAZILIAN_AREA_CODES:
            written.insert(0, _BRAZIL + national)
    return tuple(dict.fromkeys(phone_key(one) for one in written if is_possible_wa_id(one)))


def written_digits(keys: Iterable[str]) -> list[str]:
    """Every run of digits under which a number with one of these keys may be written."""
    found: dict[str, None] = {}
    for key in keys:
        for form in forms(key):
            found[form] = found["00" + form] = None
            national = form.removeprefix(_BRAZIL)
            if national != form and len(national) in _NATIONAL_LENGTHS:
                found[national] = found["0" + national] = None
    return list(found)


# --- Whose number, whose lead ---------------------------------------------------------------------


@dataclass(frozen=True)
class _Owner:
    key: str
    user_id: UUID
    since: datetime
    until: datetime | None


@dataclass(frozen=True)
class _Lead:
    lead_id: UUID
    user_id: UUID | None
    phone_key: str
    email: str | None
    created_at: datetime


@dataclass(frozen=True)
class _Judgement:
    user_id: UUID | None
    is_disputed: bool = False


def _read_owners(cursor: psycopg.Cursor[dict[str, Any]], keys: Iterable[str]) -> list[_Owner]:
    sought = sorted({key for key in keys if key})
    if not sought:
        return []
    owners = [
        _Owner(row["phone_key"], row["user_id"], row["valid_from"], row["valid_to"])
        for row in _rows(cursor, "find_number_owners", {"phone_keys": sought})
    ]
    known = {(owner.key, owner.user_id) for owner in owners}
    digits = [form for key in sought for form in forms(key)]
    for row in _rows(cursor, "find_users_by_phone", {"digits": digits}):
        key = phone_key(row["digits"])
        if (key, row["user_id"]) not in known:
            owners.append(_Owner(key, row["user_id"], row["created_at"], None))
    return owners


def _read_leads(
    cursor: psycopg.Cursor[dict[str, Any]], keys: Iterable[str], emails: Iterable[str]
) -> list[_Lead]:
    sought, addresses = set(keys), set(emails)
    found = _rows(
        cursor, "find_leads", {"digits": written_digits(sought), "emails": sorted(addresses)}
    )
    leads = [_to_lead(row) for row in found]
    # Digits that can be read as two numbers are the likelier one.
    return [lead for lead in leads if lead.phone_key in sought or lead.email in addresses]


def _to_lead(row: Mapping[str, Any]) -> _Lead:
    keys = written_phone_keys(row["phone"])
    return _Lead(
        row["lead_id"], row["user_id"], keys[0] if keys else "", row["email"], row["created_at"]
    )


def _judge(
    cursor: psycopg.Cursor[dict[str, Any]], leads: Sequence[_Lead]
) -> dict[UUID, _Judgement]:
    """Whose each unlinked lead is: by its number at its time, else by its e-mail."""
    owners = _read_owners(cursor, [lead.phone_key for lead in leads])
    emails: dict[str, set[UUID]] = {}
    addresses = sorted({lead.email for lead in leads if lead.email})
    for row in _rows(cursor, "find_users_by_email", {"emails": addresses}):
        emails.setdefault(row["email"], set()).add(row["user_id"])
    judged = {}
    for lead in leads:
        of_number = [owner for owner in owners if owner.key == lead.phone_key]
        of_email = emails.get(lead.email or "", set())
        if of_number:
            judged[lead.lead_id] = _Judgement(_owner_at(of_number, lead.created_at).user_id)
        elif len(of_email) > 1:
            judged[lead.lead_id] = _Judgement(None, is_disputed=True)
        else:
            judged[lead.lead_id] = _Judgement(next(iter(of_email), None))
    return judged


def _owner_at(owners: Sequence[_Owner], at: datetime) -> _Owner:
    """Whose the number was then; else whose it became next; else whose it was last.

    Somebody fills in a form before they first write. At the instant of a change the number still
    is the former owner's, as everywhere (decision 0006).
    """
    then = [o for o in owners if o.since <= at and (o.until is None or at <= o.until)]
    if then:
        return min(then, key=lambda owner: owner.since)
    later = [owner for owner in owners if owner.since > at]
    if later:
        return min(later, key=lambda owner: owner.since)
    return max(owners, key=lambda owner: owner.until or owner.since)


# --- One person -----------------------------------------------------------------------------------


def read_subject(cursor: psycopg.Cursor[Any], subject_id: UUID) -> Subject:
    """Say who a person is.

    Args:
        cursor: In a transaction.
        subject_id: ``users.id`` or ``leads.id``, also of one merged into another; a lead leads to
            its user where it has one.

    Raises:
        UnknownSubjectError: Nobody has this id.
    """
    with cursor.connection.cursor(row_factory=dict_row) as own:
        user = _rows(own, "read_current_user", {"sought_id": subject_id})
        if user:
            return _read_user(own, user[0]["user_id"])
        found = _rows(own, "read_lead", {"sought_id": subject_id})
        if not found:
            raise UnknownSubjectError(subject_id)
        lead = _to_lead(found[0])
        user_id = lead.user_id or _judge(own, [lead])[lead.lead_id].user_id
        return _read_lead(own, lead) if user_id is None else _read_user(own, user_id)


def _read_user(cursor: psycopg.Cursor[dict[str, Any]], user_id: UUID) -> Subject:
    merged = _rows(cursor, "read_merged_users", {"users": [user_id]})
    users = (user_id, *(row["user_id"] for row in merged))
    phones, emails, _ = _read_contacts(cursor, {"users": list(users), "leads": []})
    leads = _read_leads(cursor, phones, emails)
    linked = _read_linked(cursor, users)
    unlinked = [lead for lead in leads if lead.user_id is None and lead.lead_id not in linked]
    judged = _judge(cursor, unlinked)
    own = [lead.lead_id for lead in unlinked if judged[lead.lead_id].user_id in users]
    disputed = [lead.lead_id for lead in unlinked if judged[lead.lead_id].is_disputed]
    return Subject(
        subject_id=user_id,
        user_ids=users,
        lead_ids=_with_merged(cursor, {*linked, *own}),
        disputed_lead_ids=tuple(disputed),
    )


def _read_lead(cursor: psycopg.Cursor[dict[str, Any]], lead: _Lead) -> Subject:
    """Somebody who never wrote: the leads with this number; with the e-mail alone, perhaps."""
    leads = _read_leads(cursor, filter(None, [lead.phone_key]), filter(None, [lead.email]))
    judged = _judge(cursor, leads)
    free = [one for one in leads if one.user_id is None and judged[one.lead_id].user_id is None]
    own = {one.lead_id for one in free if one.phone_key and one.phone_key == lead.phone_key}
    own.add(lead.lead_id)
    return Subject(
        subject_id=lead.lead_id,
        user_ids=(),
        lead_ids=_with_merged(cursor, own),
        disputed_lead_ids=tuple(one.lead_id for one in free if one.lead_id not in own),
    )


def _with_merged(cursor: psycopg.Cursor[dict[str, Any]], leads: set[UUID]) -> tuple[UUID, ...]:
    with cursor.connection.cursor() as plain:
        return tuple(sorted({*leads, *find_merged_leads(plain, list(leads))}))


def _read_linked(cursor: psycopg.Cursor[dict[str, Any]], users: Sequence[UUID]) -> set[UUID]:
    cursor.execute("select id from leads where user_id = any(%s)", [list(users)])
    return {row["id"] for row in cursor}


def _read_contacts(
    cursor: psycopg.Cursor[dict[str, Any]], parameters: Mapping[str, Any]
) -> tuple[set[str], set[str], set[str]]:
    """Keys of phones, e-mails, and BSUIDs of every kind."""
    phones: set[str] = set()
    emails: set[str] = set()
    bsuids: set[str] = set()
    for row in _rows(cursor, "read_contacts", parameters):
        kind, value = row["kind"], row["value"]
        if kind == "email":
            emails.add(value)
        elif kind in {"bsuid", "parent_bsuid"}:
            bsuids.add(value)
        elif kind == "lead_phone":
            phones.update(written_phone_keys(value)[:1])
        else:
            phones.add(phone_key(value))
    return phones, emails, bsuids


@dataclass(frozen=True, kw_only=True)
class KnownBy:
    """What a person is known by, and how much of it is somebody else's too.

    Attributes:
        keys: For files and payloads; what is shared is left out, since a file does not say whose
            number it was: messages are then met by their ids alone.
        shared: How many numbers, user ids and e-mails were left out.
        own: Everything, shared or not, as one writes it to say whose a record is: digits of
            numbers, BSUIDs, e-mails in lower case, ids of users and leads as hexadecimal digits,
            records of the CRM.
    """

    keys: SubjectKeys
    own: frozenset[str]
    shared: int


def read_keys(cursor: psycopg.Cursor[Any], subject: Subject) -> KnownBy:
    """Read what a person is known by in files and payloads. Personal: never to be shown.

    Args:
        cursor: In a transaction.
        subject: Who.
    """
    users = list(subject.user_ids)
    with cursor.connection.cursor(row_factory=dict_row) as own:
        phones, emails, bsuids = _read_contacts(own, subject.parameters())
        owners = _read_owners(own, phones)
        others = {owner.key for owner in owners if owner.user_id not in subject.user_ids}
        values = {"users": users, "identity_values": sorted(bsuids)}
        others |= {row["value"] for row in _rows(own, "find_identities_of_others", values)}
        others |= {
            row["email"]
            for row in _rows(own, "find_users_by_email", {"emails": sorted(emails)})
            if row["user_id"] not in subject.user_ids
        }
    with cursor.connection.cursor() as plain:
        plain.execute(_SQL["read_message_ids"], {"users": users})
        message_ids = frozenset(row[0] for row in plain)
        plain.execute(_SQL["read_crm_records"], {"leads": list(subject.lead_ids)})
        crm_records = frozenset(row[0] for row in plain)
    user_ids = frozenset(user_id.hex for user_id in users)
    lead_ids = frozenset(lead_id.hex for lead_id in subject.lead_ids)
    return KnownBy(
        keys=SubjectKeys(
            phones=frozenset(form for key in phones - others for form in forms(key)),
            bsuids=frozenset(bsuids - others),
            emails=frozenset(emails - others),
            message_ids=message_ids,
            user_ids=user_ids,
            lead_ids=lead_ids,
            crm_records=crm_records,
        ),
        own=frozenset(
            {form for key in phones for form in forms(key)}
            | bsuids
            | emails
            | user_ids
            | lead_ids
            | crm_records
        ),
        shared=len((phones | bsuids | emails) & others),
    )


def _rows(
    cursor: psycopg.Cursor[dict[str, Any]], name: str, parameters: Mapping[str, Any]
) -> list[dict[str, Any]]:
    return cursor.execute(_SQL[name], parameters).fetchall()
