"""Leads of ours and their records in Pipedrive: every statement of the sync about our own tables.

Each method is one or a few statements of a transaction of the caller's. What to do about a lead
belongs to ``exchange`` and ``creation``; agreed values are the texts as they stood in ``leads``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

from psycopg.rows import dict_row

from gatte_pipelines.crm.mapping import LocalLead, phone_key_of
from gatte_pipelines.database.client_locks import share_lock
from gatte_pipelines.database.statements import read_statements

if TYPE_CHECKING:
    import psycopg

FIELDS = ("name", "phone", "email", "company", "stage")
"""What both systems hold of a lead."""

CLOCK_SKEW = timedelta(minutes=10)
"""By so much the clock of Pipedrive may differ from ours."""

# What a transaction may wait for the row of a lead; the next run meets it again.
LOCK_TIMEOUT = "5s"

_SQL = read_statements(Path(__file__).with_name("links.sql"))


@dataclass(frozen=True, kw_only=True, repr=False)
class Link:
    """Which records there are one lead of ours.

    Attributes:
        state: ``pending`` until there is a lead there, ``linked``, ``deleted`` there, ``merged``.
        remote_lead_id: Of the lead there; stays after a conversion.
        deal_id: Of the deal that it was converted to.
        person_id: Of the person.
        organization_id: Of the organization.
        note_id: Of the note that was made of ours.
        is_archived: The record there is archived: nothing is read from it or written to it.
        person_is_ours: Whether this sync made the person.
        organization_is_ours: Whether this sync made the organization.
        agreed: By field the last agreed text; None where both never agreed.
    """

    state: str
    remote_lead_id: UUID | None
    deal_id: int | None
    person_id: int | None
    organization_id: int | None
    note_id: int | None
    is_archived: bool
    person_is_ours: bool
    organization_is_ours: bool
    agreed: Mapping[str, str | None] | None

    def agreed_text(self, name: str) -> str | None:
        """The last agreed text of a field; None also where there is none."""
        return None if self.agreed is None else self.agreed[name]


@dataclass(frozen=True, kw_only=True, repr=False)
class KnownLead:
    """A lead of ours with its link."""

    local: LocalLead
    crm_id: str | None
    is_anonymized: bool
    link: Link | None


class Links:
    """The statements, at one instant.

    Args:
        driver: Outside a transaction.
        now: The instant by the clock.
    """

    def __init__(self, driver: psycopg.Connection[Any], now: datetime) -> None:
        self._driver = driver
        self._now = now

    @contextmanager
    def transaction(self) -> Iterator[psycopg.Cursor[Any]]:
        """One transaction, in which ``pipeline.clock()`` tells the run's instant.

        It shares the lock of clients: an erasure, which holds it alone, plans what other systems
        must forget from these tables and then clears them; an id that was written in between would
        be forgotten by nobody.
        """
        with self._driver.transaction(), self._driver.cursor() as cursor:
            cursor.execute(
                "select set_config('gatte.as_of', %s, true), set_config('lock_timeout', %s, true)",
                [self._now.isoformat(), LOCK_TIMEOUT],
            )
            share_lock(cursor)
            yield cursor

    # --- what there is to do

    def find_changed_here(self, cursor: psycopg.Cursor[Any]) -> list[UUID]:
        """Linked leads that differ from what was agreed."""
        return _ids(cursor.execute(_SQL["find_changed_here"]))

    def find_new(self, cursor: psycopg.Cursor[Any]) -> list[UUID]:
        """Leads that are not in Pipedrive yet."""
        return _ids(cursor.execute(_SQL["find_new"]))

    def find_unlinked(self, cursor: psycopg.Cursor[Any], batch: int) -> list[tuple[UUID, str]]:
        """Leads that somebody else linked, with their ``crm_id``."""
        return cursor.execute(_SQL["find_unlinked"], {"batch": batch}).fetchall()

    def count_linked(self, cursor: psycopg.Cursor[Any]) -> int:
        """How many leads are linked."""
        return _number(cursor.execute(_SQL["count_linked"]))

    def count_leads(self, cursor: psycopg.Cursor[Any]) -> int:
        """How many leads are not anonymised."""
        return _number(cursor.execute(_SQL["count_leads"]))

    def read(self, cursor: psycopg.Cursor[Any], lead_ids: Sequence[UUID]) -> dict[UUID, KnownLead]:
        """Leads with their links, by id; one that is not there is left out."""
        with cursor.connection.cursor(row_factory=dict_row) as rows:
            rows.execute(_SQL["read_leads"], {"leads": list(lead_ids)})
            return {row["lead_id"]: _known(row) for row in rows}

    def lock(self, cursor: psycopg.Cursor[Any], lead_id: UUID) -> KnownLead | None:
        """One lead with its link, locked against any other writer; None where there is none."""
        cursor.execute(_SQL["lock_lead"], {"lead_id": lead_id})
        return self.read(cursor, [lead_id]).get(lead_id)

    def read_links(self, cursor: psycopg.Cursor[Any]) -> list[dict[str, Any]]:
        """Every linked lead with its ids there, for the reconcile."""
        with cursor.connection.cursor(row_factory=dict_row) as rows:
            return rows.execute(_SQL["find_links_of_case"]).fetchall()

    # --- whose a record there is

    def of_remote_leads(
        self, cursor: psycopg.Cursor[Any], remote_ids: Iterable[UUID]
    ) -> dict[UUID, tuple[UUID, str]]:
        """By the id of a lead there, the lead of ours and the state of its link."""
        cursor.execute(_SQL["find_by_remote_leads"], {"remote_ids": list(remote_ids)})
        return {row[0]: (row[1], row[2]) for row in cursor}

    def of_deals(
        self, cursor: psycopg.Cursor[Any], deals: Iterable[int], remote_ids: Iterable[UUID]
    ) -> tuple[dict[int, tuple[UUID, str]], dict[UUID, tuple[UUID, str]]]:
        """The lead of ours and its link's state, by deal and by the lead it was made of."""
        values = {"deals": list(deals), "remote_ids": list(remote_ids)}
        rows = cursor.execute(_SQL["find_by_deals"], values).fetchall()
        by_deal = {row[0]: (row[2], row[3]) for row in rows if row[0] is not None}
        by_lead = {row[1]: (row[2], row[3]) for row in rows if row[1] is not None}
        return by_deal, by_lead

    def of_persons(
        self, cursor: psycopg.Cursor[Any], persons: Iterable[int]
    ) -> dict[int, list[UUID]]:
        """The leads of each person."""
        cursor.execute(_SQL["find_by_persons"], {"persons": list(persons)})
        return _grouped(cursor)

    def of_organizations(
        self, cursor: psycopg.Cursor[Any], organizations: Iterable[int]
    ) -> dict[int, list[UUID]]:
        """The leads of each organization."""
        cursor.execute(_SQL["find_by_organizations"], {"organizations": list(organizations)})
        return _grouped(cursor)

    def persons_of_number(
        self, cursor: psycopg.Cursor[Any], phone_key: str, lead_id: UUID
    ) -> list[int]:
        """Persons of other leads with this number, the first linked first."""
        values = {"phone_key": phone_key, "lead_id": lead_id}
        return _ids(cursor.execute(_SQL["find_person_of_number"], values))

    def organizations_of_company(
        self, cursor: psycopg.Cursor[Any], company: str, lead_id: UUID
    ) -> list[int]:
        """Organizations of other leads of this company, the first linked first."""
        values = {"company": company, "lead_id": lead_id}
        return _ids(cursor.execute(_SQL["find_organization_of_company"], values))

    def open_leads_of_person(self, cursor: psycopg.Cursor[Any], person_id: int) -> list[UUID]:
        """Linked leads of a person that are no deal yet, the earliest first."""
        values = {"person_id": person_id}
        return _ids(cursor.execute(_SQL["find_other_leads_of_person"], values))

    # --- what changes

    def begin(self, cursor: psycopg.Cursor[Any], lead_id: UUID) -> None:
        """Note that a lead is on its way to Pipedrive."""
        cursor.execute(_SQL["insert_link"], {"lead_id": lead_id, "at": self._now})

    def set_person(
        self,
        cursor: psycopg.Cursor[Any],
        lead_id: UUID,
        person_id: int | None,
        *,
        is_ours: bool,
        phone: str | None = None,
    ) -> None:
        """Note the person of a lead; with a phone also the number it is found by from now on."""
        values = {
            "lead_id": lead_id,
            "person_id": person_id,
            "is_ours": is_ours,
            "phone_key": phone_key_of(phone),
            "at": self._now,
        }
        cursor.execute(_SQL["set_person"], values)

    def set_organization(
        self,
        cursor: psycopg.Cursor[Any],
        lead_id: UUID,
        organization_id: int | None,
        *,
        is_ours: bool,
    ) -> None:
        """Note the organization of a lead."""
        values = {
            "lead_id": lead_id,
            "organization_id": organization_id,
            "is_ours": is_ours,
            "at": self._now,
        }
        cursor.execute(_SQL["set_organization"], values)

    def set_case(
        self,
        cursor: psycopg.Cursor[Any],
        lead_id: UUID,
        *,
        remote_lead_id: UUID | None,
        deal_id: int | None,
        is_archived: bool = False,
    ) -> None:
        """Link a lead with its lead or deal there, and save ``crm_id``."""
        values = {
            "lead_id": lead_id,
            "remote_lead_id": remote_lead_id,
            "deal_id": deal_id,
            "is_archived": is_archived,
            "at": self._now,
        }
        cursor.execute(_SQL["set_case"], values)
        crm_id = str(deal_id) if deal_id is not None else str(remote_lead_id)
        cursor.execute(_SQL["set_crm_id"], {"lead_id": lead_id, "crm_id": crm_id})

    def set_archived(
        self, cursor: psycopg.Cursor[Any], lead_id: UUID, *, is_archived: bool
    ) -> None:
        """Note that the record there was archived, or came back."""
        values = {"lead_id": lead_id, "is_archived": is_archived, "at": self._now}
        cursor.execute(_SQL["set_archived"], values)

    def set_note(self, cursor: psycopg.Cursor[Any], lead_id: UUID, note_id: int) -> None:
        """Note which note was made of ours."""
        values = {"lead_id": lead_id, "note_id": note_id, "at": self._now}
        cursor.execute(_SQL["set_note"], values)

    def set_deleted(self, cursor: psycopg.Cursor[Any], lead_id: UUID) -> None:
        """Note that the record there is gone."""
        cursor.execute(_SQL["set_deleted"], {"lead_id": lead_id, "at": self._now})

    def set_agreed(
        self,
        cursor: psycopg.Cursor[Any],
        lead_id: UUID,
        values: Mapping[str, str | None],
        *,
        is_whole: bool,
    ) -> None:
        """Save agreed values.

        Args:
            cursor: In a transaction.
            lead_id: The lead.
            values: By field the text as it stands in ``leads``; a field that is missing stays.
            is_whole: Whether all fields are agreed on now, or were before.
        """
        parameters: dict[str, Any] = {name: values.get(name) for name in FIELDS}
        parameters |= {f"is_{name}": name in values for name in FIELDS}
        parameters |= {
            "phone_key": phone_key_of(values.get("phone")),
            "is_whole": is_whole,
            "lead_id": lead_id,
            "at": self._now,
        }
        cursor.execute(_SQL["set_agreed"], parameters)

    def write_lead(
        self, cursor: psycopg.Cursor[Any], local: LocalLead, changes: Mapping[str, str | None]
    ) -> None:
        """Change fields of a lead of ours, whose row is locked."""
        values = {name: changes.get(name, getattr(local, name)) for name in FIELDS}
        cursor.execute(_SQL["update_lead"], {**values, "lead_id": local.lead_id})

    def insert_lead(self, cursor: psycopg.Cursor[Any], local: LocalLead, crm_id: str) -> None:
        """Insert a lead that was born in Pipedrive."""
        values = {name: getattr(local, name) for name in (*FIELDS, "interest", "created_at")}
        cursor.execute(_SQL["insert_lead"], {**values, "lead_id": local.lead_id, "crm_id": crm_id})

    def repoint_person(self, cursor: psycopg.Cursor[Any], old_id: int, new_id: int) -> int:
        """Let the leads of one person have another one; how many."""
        values = {"old_id": old_id, "new_id": new_id, "at": self._now}
        return cursor.execute(_SQL["repoint_person"], values).rowcount

    def repoint_organization(self, cursor: psycopg.Cursor[Any], old_id: int, new_id: int) -> int:
        """Let the leads of one organization have another one; how many."""
        values = {"old_id": old_id, "new_id": new_id, "at": self._now}
        return cursor.execute(_SQL["repoint_organization"], values).rowcount

    def repoint_deal(self, cursor: psycopg.Cursor[Any], old_id: int, new_id: int) -> int:
        """Let the lead of one deal have another one, unless that is another lead's; how many."""
        values = {"old_id": old_id, "new_id": new_id, "at": self._now}
        moved = cursor.execute(_SQL["repoint_deal"], values).fetchall()
        for (lead_id,) in moved:
            cursor.execute(_SQL["set_crm_id"], {"lead_id": lead_id, "crm_id": str(new_id)})
        return len(moved)

    # --- how far the pull came

    def read_watermark(self, cursor: psycopg.Cursor[Any], name: str) -> str | None:
        """A watermark of this sync."""
        row = cursor.execute(_SQL["read_watermark"], {"watermark": name}).fetchone()
        return None if row is None else row[0]

    def write_watermark(self, cursor: psycopg.Cursor[Any], name: str, value: str) -> None:
        """Save a watermark, in the transaction of the last rows that it covers (S9)."""
        values = {"watermark": name, "value": value, "at": self._now}
        cursor.execute(_SQL["write_watermark"], values)


def _known(row: Mapping[str, Any]) -> KnownLead:
    local = LocalLead(
        lead_id=row["lead_id"],
        name=row["name"],
        phone=row["phone"],
        email=row["email"],
        company=row["company"],
        interest=row["interest"],
        stage=row["stage"],
        source=row["source"],
        notes=row["notes"],
        created_at=row["created_at"],
    )
    link = None
    if row["state"] is not None:
        agreed = None
        if row["agreed_at"] is not None:
            agreed = {name: row[f"agreed_{name}"] for name in FIELDS}
        link = Link(
            state=row["state"],
            remote_lead_id=row["remote_lead_id"],
            deal_id=row["deal_id"],
            person_id=row["person_id"],
            organization_id=row["organization_id"],
            note_id=row["note_id"],
            is_archived=row["is_archived"],
            person_is_ours=row["person_is_ours"],
            organization_is_ours=row["organization_is_ours"],
            agreed=agreed,
        )
    return KnownLead(
        local=local, crm_id=row["crm_id"], is_anonymized=row["is_anonymized"], link=link
    )


def _ids(cursor: psycopg.Cursor[Any]) -> list[Any]:
    return [row[0] for row in cursor.fetchall()]


def _number(cursor: psycopg.Cursor[Any]) -> int:
    ((number,),) = cursor.fetchall()
    return int(number)


def _grouped(cursor: psycopg.Cursor[Any]) -> dict[int, list[UUID]]:
    found: dict[int, list[UUID]] = {}
    for key, lead_id in cursor:
        found.setdefault(key, []).append(lead_id)
    return found
