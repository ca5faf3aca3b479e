"""Random work of two sides on the same leads, and what must hold when it comes to rest.

An operation is four numbers, so that any part of a sequence is a sequence: what it is about is
found among what is there when its turn comes. What the sides hold is compared by ``crm.mapping``.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, LiteralString, TypeAlias
from uuid import NAMESPACE_OID, UUID, uuid5

import psycopg
from psycopg.rows import dict_row

from gatte_pipelines.crm import mapping
from gatte_pipelines.crm import models as m
from gatte_pipelines.crm.erasure import plan_orphan, plan_references
from gatte_pipelines.crm.exchange import Direction
from gatte_pipelines.crm.mapping import LocalLead
from gatte_pipelines.database.engine import psycopg_connection
from gatte_pipelines.errors import GatteError
from gatte_pipelines.http import RetryPolicy
from gatte_pipelines.privacy.people import anonymize_leads
from gatte_pipelines.run_report import RunReport
from gatte_pipelines.sandbox.pipedrive import Exchange, Kind, PipedriveFault
from gatte_pipelines.sandbox.pipedrive_bodies import RefusedError
from gatte_pipelines.sync.merge import Value
from tests.crm import CrmDesk

Op: TypeAlias = tuple[str, int, int, int]
"""What is done, and three numbers that say about whom and how."""

CONTACTS = ("name", "phone", "email")
MOST_RUNS = 6
"""So many runs may two sides take to come to rest."""
_LARGEST = 1_000_000

_COMPANIES = ("Empresa Um", "Empresa Dois", "empresa um", "Empresa Três")
_STAGES = ("new", "contacted", "qualified", "lost", "converted")
_LABELS = ((), ("Warm",), ("Hot",), ("Cold",), ("Warm", "Hot"), ("Cold", "Warm"))
_JUNK_PHONES = ("ligar depois", "123", "+55 11")
_FAULTS = (
    PipedriveFault.SERVER_ERROR,
    PipedriveFault.SERVER_ERROR_AFTER,
    PipedriveFault.BROKEN_OFF,
    PipedriveFault.UNAVAILABLE,
    PipedriveFault.HTML,
    PipedriveFault.BURST,
    PipedriveFault.TIMEOUT_BEFORE,
    PipedriveFault.TIMEOUT_AFTER,
)
_METHODS = (None, "POST", "PATCH", "GET", "POST", "PATCH")
_DIRECTIONS = (
    Direction.BOTH,
    Direction.BOTH,
    Direction.BOTH,
    Direction.PUSH,
    Direction.PULL,
)

# How often, of all operations.
WEIGHTS = {
    "our_lead": 8,
    "our_edit": 22,
    "our_empty": 3,
    "our_anonymize": 1,
    "their_name": 8,
    "their_phone": 8,
    "their_email": 6,
    "their_empty": 3,
    "their_company": 4,
    "their_rename": 2,
    "their_labels": 6,
    "their_archive": 3,
    "their_conversion": 3,
    "their_deal": 4,
    "their_deletion": 2,
    "their_merge": 1,
    "their_move": 2,
    "their_stranger": 2,
    "their_copy": 1,
    "fault": 6,
    "lag": 1,
    "later": 3,
    "sync": 18,
}
OURS_AND_THEIRS = tuple(name for name in WEIGHTS if name.startswith(("our_", "their_")))


def seeded_ops(seed: int, count: int) -> list[Op]:
    """A sequence in which so many operations are a person's, on either side."""
    numbers = random.Random(seed)  # noqa: S311 - the same again for whoever looks
    names, weights = list(WEIGHTS), list(WEIGHTS.values())
    ops: list[Op] = []
    done = 0
    while done < count:
        (name,) = numbers.choices(names, weights)
        a, b, c = (numbers.randrange(_LARGEST) for _ in range(3))
        ops.append((name, a, b, c))
        done += name in OURS_AND_THEIRS
    return ops


@dataclass(frozen=True)
class Edit:
    """A value that somebody set by hand, and that nobody who saw it has set anew.

    Attributes:
        side: Ours or theirs.
        holder: What it was set on: kind and id.
        field: Of a lead.
        value: As it is compared.
    """

    side: str
    holder: tuple[str, Any]
    field: str
    value: str


class World:
    """Both sides, who edits them, and what became of every edit.

    Attributes:
        problems: What does not hold.
        log: What was done, for whoever looks for the cause.
        requests: All that were sent.

    Args:
        desk: Fresh.
        imports: Whether leads born there are taken in.
    """

    def __init__(self, desk: CrmDesk, *, imports: bool = False) -> None:
        self.desk, self.crm = desk, desk.crm
        desk.imports = imports
        desk.timeout_seconds = 0.5
        desk.repeats = RetryPolicy(
            max_attempts=2,
            max_total_seconds=2.0,
            base_delay_seconds=0.001,
            max_retry_after_seconds=0.5,
        )
        self.problems: list[str] = []
        self.requests: list[Exchange] = []
        self.log: list[str] = []
        self.live: list[Edit] = []
        self.done: Counter[str] = Counter()
        self.failed_runs = 0
        self._numbers = iter(range(1, _LARGEST))
        self._copies: set[str] = set()
        self._forgotten: dict[UUID, set[str]] = {}
        self._erased_conflicts: list[dict[str, Any]] = []
        self._awaiting: list[tuple[int, Op]] = []
        self._lists = 0
        self._rules = {rule.name: rule for rule in desk.policy.rules}
        self.crm.after_effect = self._after_effect
        self._driver = psycopg.connect(
            host=desk.database.server.socket_folder,
            user=str(desk.database.url_owner.username),
            dbname=desk.database.name,
            autocommit=True,
            row_factory=dict_row,
        )

    def close(self) -> None:
        """Give the connection back."""
        self._driver.close()

    def rows(self, statement: LiteralString, values: dict[str, Any] | None = None) -> list[Any]:
        """What a statement of the owner gives; many are asked for."""
        return self._driver.execute(statement, values).fetchall()

    def states(self) -> dict[str, int]:
        """How many links are in which state."""
        return dict(
            Counter(
                f"{row['state']}{' archived' * row['is_archived']}{' deal' * row['has_deal']}"
                for row in self.rows(
                    "select state, is_archived, deal_id is not null as has_deal "
                    "from pipeline.crm_links"
                )
            )
        )

    # --- what stands where

    def leads(self) -> list[dict[str, Any]]:
        """Leads of ours that are not anonymised, the earliest first."""
        rows = self.rows(
            "select l.*, k.state, k.remote_lead_id, k.deal_id, k.person_id, k.organization_id, "
            "k.is_archived, k.agreed_name, k.agreed_phone, k.agreed_email, k.agreed_company, "
            "k.agreed_stage, k.agreed_at from leads as l "
            "left join pipeline.crm_links as k on l.id = k.lead_id order by l.created_at, l.id"
        )
        return [row for row in rows if row["id"] not in self._forgotten]

    def case_of(self, row: dict[str, Any]) -> tuple[str, dict[str, Any]] | None:
        """The lead or deal there; None where there is none."""
        if row["state"] not in {"linked", "deleted"}:
            return None
        with self.crm.account.lock:
            if row["deal_id"] is not None:
                found = self.crm.account.find(Kind.DEAL, row["deal_id"])
                if found is None or found["is_deleted"]:
                    return None
                return "deal", found
            if row["remote_lead_id"] is None:
                return None
            remote_id = str(row["remote_lead_id"])
            found = self.crm.account.find(Kind.LEAD, remote_id)
            if found is not None:
                return "lead", found
            for deal in self.crm.account.rows[Kind.DEAL].values():
                if deal["source_lead_id"] == remote_id and not deal["is_deleted"]:
                    return "deal", deal
        return None

    def shown_there(self, row: dict[str, Any]) -> dict[str, Value]:
        """What a salesperson sees of a lead, by field; a field of nobody is missing."""
        case = self.case_of(row)
        if case is None:
            return {}
        kind, record = case
        shown: dict[str, Value] = {}
        person = self._person(record["person_id"])
        if person is not None:
            agreed = {name: row[f"agreed_{name}"] for name in CONTACTS}
            values, left_alone = mapping.contacts_of(
                person, ours=mapping.ours_of(_local(row)), agreed=agreed
            )
            shown |= {name: value for name, value in values.items() if name not in left_alone}
        organization = record["org_id"] if kind == "deal" else record["organization_id"]
        shown["company"] = self._company(organization)
        stage = self._stage(kind, record)
        if stage is not None:
            shown["stage"] = stage
        return shown

    def _person(self, person_id: int | None) -> m.Person | None:
        if person_id is None:
            return None
        found = self.crm.account.find(Kind.PERSON, person_id)
        if found is None or found["is_deleted"]:
            return None
        contacts = {
            name: [m.Contact(**one) for one in found[name]] for name in ("phones", "emails")
        }
        return m.Person(
            id=found["id"],
            name=found["name"],
            org_id=None,
            is_deleted=False,
            add_time=found["add_time"],
            update_time=None,
            custom_fields={},
            phones=contacts["phones"],
            emails=contacts["emails"],
        )

    def _company(self, organization_id: int | None) -> Value:
        if organization_id is None:
            return None
        found = self.crm.account.find(Kind.ORGANIZATION, organization_id)
        return None if found is None or found["is_deleted"] else str(found["name"])

    def _stage(self, kind: str, record: dict[str, Any]) -> str | None:
        stages = self.desk.policy.stages
        if kind == "deal":
            known = {"won": stages.won, "lost": stages.lost}
            if record["status"] in known:
                return known[record["status"]]
            name = self.crm.account.stages[record["stage_id"]]["name"]
            return next((one.stage for one in stages.deal_stages if one.name == name), None)
        names = {self.crm.account.labels[one]["name"] for one in record["label_ids"]}
        found = stages.no_label
        for label in stages.labels:
            if label.name in names:
                found = label.stage
        return found

    def same(self, field: str, one: Value, other: Value) -> bool:
        """Whether two values say the same."""
        if one is None or other is None or not one.strip() or not other.strip():
            return not (one or "").strip() and not (other or "").strip()
        return one.strip() == other.strip() or self._rules[field].is_same(one, other)

    # --- operations

    def perform(self, ops: Sequence[Op]) -> None:
        """Do them all."""
        for op in ops:
            self.do(op)

    def do(self, op: Op) -> None:
        """One of them; nothing where there is nobody whom it could be about."""
        name, _, _, c = op
        self.desk.clock.pass_by(seconds=c % 40 if c % 3 else 0)
        # A salesperson is refused an edit of a lead that has lost its person and organization.
        with suppress(RefusedError):
            getattr(self, f"_{name}")(*op[1:])
        self.done[name] += 1

    def _note(self, text: str) -> None:
        self.log.append(f"{self.desk.clock():%d %H:%M:%S} {text}")

    def _pick(self, number: int) -> dict[str, Any] | None:
        leads = self.leads()
        return leads[number % len(leads)] if leads else None

    def _new_phone(self) -> str:
        return f"+55119{60_000_000 + next(self._numbers)}"

    def _a_phone(self, number: int) -> str:
        """A number of its own, or that of another lead in one of its forms."""
        other = self._pick(number // 8)
        if other is None or number % 8 > 2 or mapping.usable_phone(other["phone"]) is None:
            return self._new_phone()
        forms = mapping.search_forms(other["phone"])
        return f"+{forms[number // 3 % len(forms)]}"

    def _an_email(self, number: int) -> str:
        other = self._pick(number // 8)
        if number % 8 > 1 or other is None or other["email"] is None:
            return f"pessoa{next(self._numbers)}@example.com"
        return str(other["email"])

    def _a_company(self, number: int) -> str:
        if number % 2:
            return f"Empresa {next(self._numbers)}"
        return _COMPANIES[number // 2 % len(_COMPANIES)]

    def _our_lead(self, a: int, b: int, c: int) -> None:
        values: dict[str, Any] = {
            "id": uuid5(NAMESPACE_OID, str(next(self._numbers))),
            "name": f"Cliente {next(self._numbers)}",
            "phone": self._a_phone(a),
            "created_at": self.desk.clock(),
        }
        if a % 11 == 0:
            values["phone"] = _JUNK_PHONES[b % len(_JUNK_PHONES)]
        if b % 2:
            values["email"] = self._an_email(c)
        if c % 2:
            values["company"] = self._a_company(b)
        if b % 3 == 0:
            values["notes"] = f"Nota {next(self._numbers)}"
        lead_id = self.desk.add_lead(**values)
        self._note(f"our lead {_short(lead_id)} {values}")
        for field in ("name", "phone", "email", "company"):
            if values.get(field):
                self._add(Edit("ours", ("lead", lead_id), field, values[field]))

    def _our_edit(self, a: int, b: int, c: int) -> None:
        row = self._pick(a)
        if row is None:
            return
        field = ("name", "phone", "email", "company", "stage", "name", "phone")[b % 7]
        value = {
            "name": lambda: f"Cliente {next(self._numbers)}",
            "phone": lambda: (
                _JUNK_PHONES[c % len(_JUNK_PHONES)] if c % 11 == 0 else self._a_phone(c)
            ),
            "email": lambda: self._an_email(c),
            "company": lambda: self._a_company(c),
            "stage": lambda: _STAGES[c % len(_STAGES)],
        }[field]()
        if self.same(field, row[field], value):
            return
        self._set_here(row, field, value)

    def _our_empty(self, a: int, b: int, _c: int) -> None:
        row = self._pick(a)
        if row is not None:
            self._set_here(row, ("email", "company")[b % 2], None)

    def _set_here(self, row: dict[str, Any], field: str, value: Value) -> None:
        self._note(f"our {field} of {_short(row['id'])}: {row[field]} -> {value}")
        holder = ("lead", row["id"])
        self._supersede(row["id"], field, row[field])
        self.live = [
            one for one in self.live if (one.side, one.holder, one.field) != ("ours", holder, field)
        ]
        self.desk.edit_lead(row["id"], **{field: value})
        # Back to what both agree on is no edit: nobody could tell it from one that never was.
        if value is not None and not self.same(field, value, row[f"agreed_{field}"]):
            self._add(Edit("ours", holder, field, value))

    def _our_anonymize(self, a: int, _b: int, _c: int) -> None:
        """As an erasure does it; its hook stands in the same transaction."""
        row = self._pick(a)
        if row is None:
            return
        lead_id = row["id"]
        self._note(f"our anonymisation of {_short(lead_id)}")
        self._erased_conflicts += [one for one in self.desk.conflicts if one["local_id"] == lead_id]
        with self.desk.database.connect("gatte_pipeline") as connection:
            driver = psycopg_connection(connection)
            with driver.transaction(), driver.cursor() as cursor:
                at = self.desk.clock()
                cursor.execute("select set_config('gatte.as_of', %s, true)", [at.isoformat()])
                references = plan_references(cursor, [], [lead_id])
                anonymize_leads(cursor, [lead_id], rule="test")
                plan_orphan(cursor, references, lead_id=lead_id, at=at)
        self.desk.execute(
            "delete from pipeline.crm_links where lead_id = %(id)s or merged_into = %(id)s",
            {"id": lead_id},
        )
        self._erased_conflicts += [one for one in self.desk.conflicts if one["local_id"] == lead_id]
        for table in ("sync_conflicts", "sync_outbox"):
            self.desk.execute(
                f"delete from pipeline.{table} where local_id = %(id)s",  # noqa: S608
                {"id": lead_id},
            )
        self._forgotten[lead_id] = {
            str(record["id"])
            for kind in (Kind.LEAD, Kind.DEAL)
            for record in self.crm.account.rows[kind].values()
            if record["origin_id"] == str(lead_id)
        } | {str(one) for one in (row["remote_lead_id"], row["deal_id"]) if one is not None}
        self.live = [one for one in self.live if one.holder != ("lead", lead_id)]

    # a salesperson

    def _their_name(self, a: int, _b: int, _c: int) -> None:
        if (person := self._a_person(a)) is not None:
            self._set_person(person, "name", name=f"Pessoa {next(self._numbers)}")

    def _their_phone(self, a: int, b: int, _c: int) -> None:
        person = self._a_person(a)
        if person is None:
            return
        held = [one["value"] for one in person["phones"]]
        new = self._new_phone()
        typed = (new, f"({new[3:5]}) {new[5:10]}-{new[10:]}", f"{new[3:5]} {new[5:]}")[b % 3]
        if b % 5 == 0:
            phones = [*held, typed]
        elif b % 5 == 1:
            phones = [typed, *held]
        elif b % 31 == 2:
            phones = ["a combinar"]
        else:
            phones = [typed, *held[1:]]
        self._set_person(person, "phone", phones=phones)

    def _their_email(self, a: int, b: int, _c: int) -> None:
        person = self._a_person(a)
        if person is None:
            return
        held = [one["value"] for one in person["emails"]]
        new = f"Outra{next(self._numbers)}@example.com"
        emails = [*held, new] if b % 4 == 0 else [new, *held[1:]]
        self._set_person(person, "email", emails=emails)

    def _their_empty(self, a: int, b: int, _c: int) -> None:
        person = self._a_person(a)
        if person is not None:
            field, key = (("phone", "phones"), ("email", "emails"))[b % 2]
            self._set_person(person, field, **{key: []})

    def _a_person(self, number: int) -> dict[str, Any] | None:
        """Mostly one that a lead of ours has."""
        with self.crm.account.lock:
            rows = self.crm.persons
        if number % 9 and rows:
            ours = {row["person_id"] for row in self.leads()}
            rows = [row for row in rows if row["id"] in ours] or rows
        return rows[number // 9 % len(rows)] if rows else None

    def _set_person(self, person: dict[str, Any], field: str, **values: Any) -> None:
        self._note(f"their {field} of person {person['id']}: {values}")
        holder = ("person", person["id"])
        with self._watching(lambda case: case["person_id"] == person["id"], (field,), holder):
            self.crm.edit_person(person["id"], **values)
        # What they took out themselves is theirs to lose, whoever of ours could see it.
        self.live = [
            one
            for one in self.live
            if one.holder != holder or one.field != field or self._has(person["id"], one)
        ]

    def _has(self, person_id: int, edit: Edit) -> bool:
        person = self._person(person_id)
        if person is None or edit.field == "name":
            return person is None or person.name == edit.value
        has = mapping.has_phone if edit.field == "phone" else mapping.has_email
        return has(person, edit.value)

    def _their_company(self, a: int, b: int, c: int) -> None:
        """The lead or deal is moved to another organization."""
        row = self._pick(a)
        case = self.case_of(row) if row is not None else None
        if row is None or case is None or case[1].get("is_archived"):
            return
        organizations = self.crm.organizations
        if b % 2 or not organizations:
            wanted = self.crm.add_organization(name=f"Empresa {next(self._numbers)}")
        else:
            wanted = organizations[c % len(organizations)]["id"]
        kind, record = case
        self._note(f"their organization of {kind} {record['id']}: {wanted}")
        record_id = record["id"]
        with self._watching(lambda case: case["id"] == record_id, ("company",), (kind, record_id)):
            if kind == "deal":
                self.crm.edit_deal(record_id, org_id=wanted)
            elif b % 6 == 0 and record["person_id"] is not None:
                self.crm.edit_lead(record_id, organization_id=None)
            else:
                self.crm.edit_lead(record_id, organization_id=wanted)

    def _their_rename(self, a: int, _b: int, _c: int) -> None:
        rows = self.crm.organizations
        if not rows:
            return
        found = rows[a % len(rows)]
        name = f"Empresa {next(self._numbers)}"
        self._note(f"their name of organization {found['id']}: {name}")

        def has(case: dict[str, Any]) -> bool:
            return found["id"] in (case.get("org_id"), case.get("organization_id"))

        with self._watching(has, ("company",), ("organization", found["id"])):
            self.crm.edit_organization(found["id"], name=name)

    def _their_labels(self, a: int, b: int, _c: int) -> None:
        lead = self._an_open_lead(a)
        if lead is None:
            return
        labels = _LABELS[b % len(_LABELS)]
        self._note(f"their labels of lead {_short(lead['id'])}: {labels}")
        with self._watching(
            lambda case: case["id"] == lead["id"], ("stage",), ("lead", lead["id"])
        ):
            self.crm.label_lead(lead["id"], *labels)

    def _an_open_lead(self, number: int) -> dict[str, Any] | None:
        rows = [row for row in self.crm.leads if not row["is_archived"]]
        return rows[number % len(rows)] if rows else None

    def _their_archive(self, a: int, b: int, _c: int) -> None:
        rows = self.crm.leads
        if not rows:
            return
        archived = [row for row in rows if row["is_archived"]]
        lead = archived[a % len(archived)] if archived and b % 2 else rows[a % len(rows)]
        self._note(f"their archive of lead {_short(lead['id'])}: {not lead['is_archived']}")
        self.crm.archive_lead(lead["id"], is_archived=not lead["is_archived"])

    def _their_conversion(self, a: int, b: int, _c: int) -> None:
        lead = self._an_open_lead(a)
        if lead is None:
            return
        stages = list(self.crm.account.stages)
        self._note(f"their conversion of lead {_short(lead['id'])}")
        deal_ids: list[int] = []

        def has(case: dict[str, Any]) -> bool:
            return lead["id"] in (case["id"], case.get("source_lead_id"))

        with self._watching(has, ("stage",), ("conversion", lead["id"])):
            deal_id = self.crm.convert_lead(lead["id"], stages[b % len(stages)])
            deal_ids += [] if deal_id is None else [deal_id]
        # What the labels said, they have seen; what the deal says now is of the deal.
        self.live = [
            replace(one, holder=("deal", deal_ids[0])) if one.holder[0] == "conversion" else one
            for one in self.live
            if one.holder != ("lead", lead["id"]) or one.field != "stage"
        ]

    def _their_deal(self, a: int, b: int, c: int) -> None:
        rows = [row for row in self.crm.deals if not row["is_archived"]]
        if not rows:
            return
        deal = rows[a % len(rows)]
        stages = list(self.crm.account.stages)
        values = (
            {"status": "won"},
            {"status": "lost"},
            {"status": "open", "stage_id": stages[c % len(stages)]},
            {"is_archived": True},
        )[b % 4 if c % 3 else b % 3]
        self._note(f"their deal {deal['id']}: {values}")
        with self._watching(
            lambda case: case["id"] == deal["id"], ("stage",), ("deal", deal["id"])
        ):
            self.crm.edit_deal(deal["id"], **values)

    def _their_deletion(self, a: int, b: int, _c: int) -> None:
        kind = ("lead", "person", "organization", "deal", "lead")[b % 5]
        rows = getattr(self.crm, f"{kind}s")
        if not rows:
            return
        gone = rows[a % len(rows)]["id"]
        self._note(f"their deletion of {kind} {gone}")

        def has(case: dict[str, Any]) -> bool:
            if kind == "person":
                return bool(case["person_id"] == gone)
            if kind == "organization":
                return gone in (case.get("org_id"), case.get("organization_id"))
            return bool(case["id"] == gone)

        fields = {"person": CONTACTS, "organization": ("company",)}.get(kind, (*CONTACTS, "stage"))
        with self._watching(has, fields, None):
            getattr(self.crm, f"delete_{kind}")(gone)
        self.live = [one for one in self.live if one.holder != (kind, gone)]

    def _their_merge(self, a: int, b: int, _c: int) -> None:
        rows = self.crm.persons
        if len(rows) < 2:
            return
        kept = rows[a % len(rows)]["id"]
        lost = rows[b % len(rows)]["id"]
        if kept == lost:
            return
        self._note(f"their merge of person {lost} into {kept}")
        with self._watching(lambda case: case["person_id"] in {kept, lost}, CONTACTS, None):
            self.crm.merge_persons(kept, lost)
        self.live = [one for one in self.live if one.holder != ("person", lost)]

    def _their_move(self, a: int, b: int, _c: int) -> None:
        lead = self._an_open_lead(a)
        rows = self.crm.persons
        if lead is None or not rows:
            return
        if b % 3 == 0:
            wanted = self.crm.add_person(
                name=f"Pessoa {next(self._numbers)}", phones=[self._new_phone()]
            )
        else:
            wanted = rows[b % len(rows)]["id"]
        self._note(f"their move of lead {_short(lead['id'])} to person {wanted}")
        with self._watching(lambda case: case["id"] == lead["id"], CONTACTS, None):
            self.crm.edit_lead(lead["id"], person_id=wanted)

    def _their_stranger(self, a: int, b: int, c: int) -> None:
        values: dict[str, Any] = {"name": f"Pessoa {next(self._numbers)}"}
        values["phones"] = [self._a_phone(a)] if b % 4 else []
        if c % 2:
            values["emails"] = [self._an_email(c)]
        person = self.crm.add_person(**values)
        self._note(f"their stranger {person}: {values}")
        if b % 2:
            lead = self.crm.add_lead(title=f"Assunto {next(self._numbers)}", person_id=person)
            self._note(f"their lead {_short(lead)} of {person}")

    def _their_copy(self, a: int, _b: int, _c: int) -> None:
        """A copy that somebody makes there has our id too, in the custom field."""
        lead = self._an_open_lead(a)
        if lead is None or not any(lead["custom_fields"].values()):
            return
        copy = (
            self.crm.add_lead(
                title=lead["title"],
                person_id=lead["person_id"],
                custom_fields=lead["custom_fields"],
            )
            if lead["person_id"] is not None
            else None
        )
        if copy is not None:
            self._copies.add(copy)
            self._note(f"their copy {_short(copy)} of lead {_short(lead['id'])}")

    # the network and time

    def _fault(self, a: int, b: int, c: int) -> None:
        fault = _FAULTS[a % len(_FAULTS)]
        method = _METHODS[b % len(_METHODS)]
        if fault is PipedriveFault.HTML and method is None:
            method = "POST"
        self._note(f"fault {fault} {method} after {c % 7}")
        self.crm.fail(fault, method=method, skip=c % 7, times=1 + (a // 8 % 3 == 0))

    def _lag(self, a: int, _b: int, _c: int) -> None:
        self.crm.account.index.lag = timedelta(seconds=(0, 20, 120, 240)[a % 4])

    def _later(self, a: int, b: int, c: int) -> None:
        """Somebody works there while the next run reads its lists."""
        names = [name for name in WEIGHTS if name.startswith("their_")]
        self._awaiting.append((c % 3, (names[a % len(names)], b, c, a)))

    def _after_effect(self, method: str, path: str) -> None:
        if method == "POST" and path.endswith("/persons"):
            self._look_for_a_second_person()
        if method != "GET" or path.rsplit("/", 1)[-1] not in {"leads", "persons", "deals"}:
            return
        self._lists += 1
        waiting = [op for skip, op in self._awaiting if skip <= self._lists - 1]
        self._awaiting = [one for one in self._awaiting if one[0] > self._lists - 1]
        for name, *numbers in waiting:
            self.desk.clock.pass_by(seconds=1)
            self._note("meanwhile:")
            with suppress(RefusedError):
                getattr(self, f"_{name}")(*numbers)

    def _look_for_a_second_person(self) -> None:
        persons = self.crm.persons
        new = persons[-1]
        keys = {mapping.phone_key_of(one["value"]) for one in new["phones"]}
        pending = self._pending("person")
        # Known as somebody's with this number: no search is needed to find them.
        known = {
            (row["person_id"], row["phone_key"])
            for row in self.rows("select person_id, phone_key from pipeline.crm_links")
        }
        for other in persons[:-1]:
            others = {mapping.phone_key_of(one["value"]) for one in other["phones"]}
            is_known = any((other["id"], key) in known for key in keys & others)
            if is_known and str(other["id"]) not in pending:
                self._problem(f"a second person {new['id']} beside {other['id']} for {keys}")

    def _pending(self, kind: str) -> set[str]:
        rows = self.rows("select reference from pipeline.external_tasks where state = 'open'")
        return {
            row["reference"].split(":")[1]
            for row in rows
            if row["reference"].startswith(f"{kind}:")
        }

    def _sync(self, a: int, b: int, c: int) -> None:
        direction = _DIRECTIONS[a % len(_DIRECTIONS)]
        is_dry = b % 12 == 0
        self.run(direction=direction, dry_run=is_dry, after_minutes=1 + c % 20)

    def run(self, **options: Any) -> RunReport | None:
        """One run; None where it failed."""
        self._lists = 0
        self._note(f"--- sync {options}")
        before = self._dump() if options.get("dry_run") else None
        writes = [one for one in self.crm.exchanges if one.method != "GET"]
        report: RunReport | None = None
        try:
            report = self.desk.sync(**options)
        except GatteError as error:
            self.failed_runs += 1
            self._note(f"    failed: {error}")
        else:
            counts = (report.received, report.inserted, report.updated, report.duplicate)
            self._note(f"    {counts} {report.skipped} {report.notes[:-1]}")
        if before is not None and self._awaiting == []:
            now = [one for one in self.crm.exchanges if one.method != "GET"]
            if len(now) != len(writes):
                self._problem(f"a dry run wrote there: {now[-1].method} {now[-1].path}")
            if self._dump()[0] != before[0]:
                self._problem("a dry run wrote here")
        return report

    # --- edits

    def _add(self, edit: Edit) -> None:
        self.live.append(edit)

    def _supersede(self, lead_id: UUID, field: str, value: Value) -> None:
        """Whoever changed what stood there has seen it."""
        if value is None:
            return
        self.live = [
            one
            for one in self.live
            if not (
                one.field == field
                and self.same(field, one.value, value)
                and (field in CONTACTS or self._is_about(one, lead_id))
            )
        ]

    def _is_about(self, edit: Edit, lead_id: UUID) -> bool:
        if edit.holder[0] == "lead" and edit.holder[1] == lead_id:
            return True
        row = next((row for row in self.leads() if row["id"] == lead_id), None)
        case = self.case_of(row) if row is not None else None
        return case is not None and edit.holder[1] == case[1]["id"]

    def _watching(
        self,
        has: Callable[[dict[str, Any]], bool],
        fields: Sequence[str],
        holder: tuple[str, Any] | None,
    ) -> _Watch:
        return _Watch(self, has, fields, holder)

    def shown_of(
        self, has: Callable[[dict[str, Any]], bool], fields: Sequence[str]
    ) -> dict[UUID, dict[str, Value]]:
        """By lead of ours what its record there shows of some fields."""
        found: dict[UUID, dict[str, Value]] = {}
        for row in self.leads():
            case = self.case_of(row)
            if case is not None and has(case[1]):
                shown = self.shown_there(row)
                found[row["id"]] = {name: shown[name] for name in fields if name in shown}
        return found

    # --- the end

    def come_to_rest(self) -> None:
        """End the faults and let time pass until a run changes nothing, and see what is then."""
        self.crm.stop_failing()
        self._awaiting.clear()
        self.desk.timeout_seconds = 10.0
        self.crm.account.index.lag = timedelta(0)
        minutes = 24.0 * 60
        for _ in range(MOST_RUNS):
            before = self._dump()
            report = self.run(after_minutes=minutes)
            minutes = 15
            if report is not None and self._dump() == before:
                break
        else:
            self._problem(f"no rest after {MOST_RUNS} runs")
        before = self._dump()
        self.requests += self.crm.exchanges
        self.crm.forget_exchanges()
        self.run(after_minutes=15)
        calls = [f"{one.method} {one.template}" for one in self.crm.exchanges]
        wanted = ["GET /api/v1/leads", "GET /api/v2/persons", "GET /api/v2/deals"]
        if calls != wanted:
            self._problem(f"an idle run made {calls}")
        if self._dump() != before:
            self._problem("an idle run changed something")
        self.requests += self.crm.exchanges
        self._check_links()
        self._check_duplicates()
        self._check_edits()
        self._check_forgotten()

    def _problem(self, text: str) -> None:
        self._note(f"PROBLEM {text}")
        self.problems.append(text)

    def _dump(self) -> tuple[Any, ...]:
        here = (
            self.rows("select * from leads order by id"),
            self.rows(
                "select lead_id, state, remote_lead_id, deal_id, person_id, organization_id, "
                "note_id, is_archived, agreed_name, agreed_phone, agreed_email, agreed_company, "
                "agreed_stage, agreed_at is null as is_open from pipeline.crm_links order by 1"
            ),
            self.rows("select * from pipeline.sync_conflicts order by conflict_id"),
            self.rows("select * from pipeline.sync_outbox order by local_id, action"),
        )
        there = (
            self.crm.leads,
            self.crm.persons,
            self.crm.organizations,
            self.crm.deals,
            self.crm.notes,
        )
        return here, there

    def _check_links(self) -> None:
        for row in self.rows(
            "select o.* from pipeline.sync_outbox as o "
            "left join pipeline.crm_links as k on o.local_id = k.lead_id "
            "where not coalesce(k.is_archived, false)"
        ):
            self._problem(f"outbox: {row['action']} of {_short(row['local_id'])}")
        for row in self.leads():
            name = f"lead {_short(row['id'])}"
            if row["state"] in {None, "pending"}:
                self._problem(f"{name} is not linked: {row['state']}")
                continue
            if row["state"] == "merged":
                self._problem(f"{name} is there, and merged")
                continue
            case = self.case_of(row)
            if row["state"] == "deleted":
                if case is not None:
                    self._problem(f"{name} is called deleted, but {case[1]['id']} is there")
                continue
            wanted = str(row["deal_id"] or row["remote_lead_id"])
            if row["crm_id"] != wanted:
                self._problem(f"{name} has crm_id {row['crm_id']} in place of {wanted}")
            if case is None and row["deal_id"] is not None and row["is_archived"]:
                continue  # no list shows archived deals by their ids: nobody looks for them
            if case is None:
                self._problem(f"{name} is called linked, but there is none")
                continue
            if (case[0] == "deal") != (row["deal_id"] is not None):
                self._problem(f"{name} is linked with what was converted")
                continue
            if case[1]["is_archived"] != row["is_archived"]:
                self._problem(f"{name}: archived there {case[1]['is_archived']}")
            if not case[1]["is_archived"]:
                self._check_agreement(name, row, case)

    def _check_agreement(
        self, name: str, row: dict[str, Any], case: tuple[str, dict[str, Any]]
    ) -> None:
        kind, record = case
        if record["person_id"] != row["person_id"]:
            self._problem(f"{name}: person {row['person_id']}, there {record['person_id']}")
        ours = {**mapping.ours_of(_local(row)), "company": row["company"]}
        useless = mapping.left_alone_here(_local(row))
        is_going = str(record["person_id"]) in self._pending("person")
        for field, theirs in self.shown_there(row).items():
            if field in useless or (field in CONTACTS and is_going):
                continue
            is_untold = not mapping.can_be_told(row["stage"], self.desk.policy.stages)
            if field == "stage" and kind == "lead" and is_untold:
                continue  # no label stands for it: told nowhere
            is_fixed = kind == "deal" or record["person_id"] is None
            if field == "company" and is_fixed and ours[field] is None:
                continue  # an organization that can only be replaced
            if not self.same(field, ours[field], theirs):
                self._problem(f"{name}: {field} is {ours[field]!r} here, {theirs!r} there")

    def _check_duplicates(self) -> None:
        made: Counter[str] = Counter()
        for event in self.crm.events:
            meta, data = event["meta"], event["data"]
            is_made = meta["action"] == "create" and meta["change_source"] == "api"
            if is_made and meta["entity"] == "lead":
                made[data["origin_id"]] += 1
        for lead_id, count in made.items():
            if count > 1:
                self._problem(f"lead {_short(lead_id)} was made {count} times")
        # Once a lead: the one that another became part of has its note from then on.
        notes = Counter(
            (note["content"], note["lead_id"], note["deal_id"]) for note in self.crm.notes
        )
        for (text, *_), count in notes.items():
            if count > 1:
                self._problem(f"note {text} is there {count} times")

    def _check_edits(self) -> None:
        rows = {row["id"]: row for row in self.leads()}
        # What lost against a lead that was anonymised since went with it.
        conflicts = self.desk.conflicts + self._erased_conflicts
        for edit in self.live:
            held = [
                one
                for one in conflicts
                if one["field"] == edit.field
                and any(
                    one[key] is not None and self.same(edit.field, one[key], edit.value)
                    for key in ("our_value", "their_value")
                )
            ]
            if not held and not self._still_stands(edit, rows):
                self._problem(
                    f"lost: {edit.side} {edit.field} {edit.value!r} of {edit.holder[0]} "
                    f"{_short(edit.holder[1])}"
                )

    def _still_stands(self, edit: Edit, rows: dict[UUID, dict[str, Any]]) -> bool:
        kind, holder = edit.holder
        if edit.side == "ours":
            row = rows.get(holder)
            return row is None or self.same(edit.field, row[edit.field], edit.value)
        cases = [case[1] for row in rows.values() if (case := self.case_of(row)) is not None]
        if kind == "person":
            if all(case["person_id"] != holder for case in cases):
                return True  # nobody of ours has it any more
            return self._has(holder, edit)
        if kind == "organization":
            found = self._company(holder)
            is_nobodys = all(
                holder not in (case.get("org_id"), case.get("organization_id")) for case in cases
            )
            return is_nobodys or found is None or self.same("company", found, edit.value)
        for row in rows.values():
            case = self.case_of(row)
            if case is not None and case[1]["id"] == holder and row["state"] == "linked":
                if case[1]["is_archived"]:
                    return True
                shown = self.shown_there(row).get(edit.field)
                return self.same(edit.field, shown, edit.value)
        return True

    def _check_forgotten(self) -> None:
        rows = {row["id"]: row for row in self.rows("select * from leads")}
        links = self.rows("select lead_id from pipeline.crm_links")
        for lead_id, known in self._forgotten.items():
            row = rows[lead_id]
            if not row["name"].startswith("~x") or row["crm_id"] is not None:
                self._problem(f"anonymised {_short(lead_id)} was written")
            if lead_id in {link["lead_id"] for link in links}:
                self._problem(f"anonymised {_short(lead_id)} is linked")
            pending = self._pending("lead") | self._pending("deal")
            for kind in (Kind.LEAD, Kind.DEAL):
                for record in self.crm.account.rows[kind].values():
                    is_ours = record["origin_id"] == str(lead_id)
                    is_known = {str(record["id"]), str(record.get("source_lead_id"))} & known
                    if is_ours and not is_known and str(record["id"]) not in pending:
                        self._problem(f"anonymised {_short(lead_id)} was pushed")
            imported = [one for one in rows.values() if one["crm_id"] in known]
            if imported:
                self._problem(f"anonymised {_short(lead_id)} was imported again")


class _Watch:
    """Sees what an edit there changes of what a salesperson is shown of leads of ours."""

    def __init__(
        self,
        world: World,
        has: Callable[[dict[str, Any]], bool],
        fields: Sequence[str],
        holder: tuple[str, Any] | None,
    ) -> None:
        self._world, self._has, self._fields, self._holder = world, has, fields, holder

    def __enter__(self) -> None:
        self._before = self._world.shown_of(self._has, self._fields)

    def __exit__(self, kind: type[BaseException] | None, *_error: object) -> None:
        if kind is not None:
            return
        world, holder = self._world, self._holder
        after = world.shown_of(self._has, self._fields)
        agreed = {row["id"]: row for row in world.leads()}
        for lead_id, shown in self._before.items():
            for field, value in shown.items():
                now = after.get(lead_id, {}).get(field)
                if world.same(field, value, now):
                    continue
                world._supersede(lead_id, field, value)
                if holder is not None:
                    world.live = [
                        one
                        for one in world.live
                        if (one.side, one.holder, one.field) != ("theirs", holder, field)
                    ]
        for lead_id, shown in after.items():
            for field, value in shown.items():
                before = self._before.get(lead_id, {}).get(field)
                if holder is None or value is None or world.same(field, before, value):
                    continue
                if world.same(field, value, agreed[lead_id][f"agreed_{field}"]):
                    continue
                edit = Edit("theirs", holder, field, value)
                if edit not in world.live:
                    world._add(edit)


def _local(row: dict[str, Any]) -> LocalLead:
    return LocalLead(
        lead_id=row["id"],
        **{
            name: row[name]
            for name in (
                "name",
                "phone",
                "email",
                "company",
                "interest",
                "stage",
                "source",
                "notes",
                "created_at",
            )
        },
    )


def _short(one: Any) -> str:
    return str(one)[:8]
