"""Pipedrive forgets a person (S2): over the stand-in, confirmed by a read, and never told twice."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Connection, text
from sqlalchemy.exc import ProgrammingError

from gatte_pipelines.crm import endpoints as ep
from gatte_pipelines.crm.budget import SHARE, SMALLEST_DAILY_BUDGET, TokenLedger
from gatte_pipelines.crm.client import PipedriveClient
from gatte_pipelines.crm.erasure import (
    ANONYMOUS_TITLE,
    PendingErasures,
    UnknownReferenceError,
    parse_reference,
    pending_references,
    plan_orphan,
    plan_references,
)
from gatte_pipelines.database.engine import psycopg_connection
from gatte_pipelines.errors import ConfigurationError
from gatte_pipelines.http import RetryPolicy
from gatte_pipelines.run_report import RunReport
from gatte_pipelines.sandbox.pipedrive import Kind, PipedriveFault, PipedriveStandIn
from gatte_pipelines.sandbox.pipedrive_rows import Source
from gatte_pipelines.wiring import Wiring
from tests.database.rows import insert
from tests.pipedrive_specs import ARE_MISSING, errors_of
from tests.postgres import TestDatabase

NOW = datetime.now(UTC).replace(microsecond=0)
YEAR = timedelta(days=366)
NAME, PHONE, EMAIL, NOTE = "Zulmira Exemplo", "+5511900001234", "zulmira@example.com", "zqrecado"
COMPANY = "Zulmira Padaria ME"


@pytest.fixture
def stand_in() -> Iterator[PipedriveStandIn]:
    """Every request that it gets must be one that the specs allow."""
    with PipedriveStandIn() as started:
        yield started
    if not ARE_MISSING:
        assert [error for one in started.exchanges for error in errors_of(one)] == []


class Crm:
    """Leads of ours with their records there, and the runs that make these go."""

    def __init__(self, database: TestDatabase, stand_in: PipedriveStandIn) -> None:
        self.database, self.remote = database, stand_in
        self.settings = database.settings(
            pipedrive_base_url=stand_in.url, pipedrive_api_token=stand_in.token
        )
        self.told: list[str] = []

    # -- what there is

    def rows(self, query: str, **parameters: Any) -> list[tuple[Any, ...]]:
        with self.database.connect("owner") as connection:
            return [tuple(row) for row in connection.execute(text(query), parameters)]

    def change(self, statement: str, **parameters: Any) -> None:
        with self.database.connect("owner") as connection, connection.begin():
            connection.execute(text(statement), parameters)

    def add(self, table: str, **values: Any) -> UUID:
        with self.database.connect("owner") as connection, connection.begin():
            return insert(connection, table, **values)

    def user(self) -> UUID:
        return self.add("users", name=NAME, email=EMAIL, created_at=NOW, updated_at=NOW)

    def lead(self, user_id: UUID | None = None, *, age: timedelta = timedelta(1)) -> UUID:
        return self.add(
            "leads", user_id=user_id, name=NAME, email=EMAIL, company=COMPANY, created_at=NOW - age
        )

    def link(self, lead_id: UUID, *, state: str = "linked", **values: Any) -> None:
        row = {"lead_id": lead_id, "state": state, "agreed_name": NAME, "agreed_at": NOW} | values
        row |= {"made_at": NOW, "changed_at": NOW}
        names, places = ", ".join(row), ", ".join(f":{name}" for name in row)
        self.change(f"insert into pipeline.crm_links ({names}) values ({places})", **row)  # noqa: S608

    def organization(self) -> int:
        return self.remote.add_organization(name=COMPANY)

    def person(self, org_id: int | None = None) -> int:
        return self.remote.add_person(name=NAME, phones=[PHONE], emails=[EMAIL], org_id=org_id)

    def remote_lead(self, person_id: int, **values: Any) -> UUID:
        return UUID(self.remote.add_lead(title=NAME, person_id=person_id, **values))

    def note(self, **values: Any) -> int:
        row = self.remote.account.create(Kind.NOTE, {"content": NOTE} | values, Source.APP)
        return int(row["id"])

    def linked(
        self, user_id: UUID | None = None, *, age: timedelta = timedelta(1), **shared: Any
    ) -> UUID:
        """A lead with person, organization of ours, lead and note there; ``shared`` ones given."""
        local = self.lead(user_id, age=age)
        organization = shared.get("organization_id") or self.organization()
        person = shared.get("person_id") or self.person(organization)
        lead = self.remote_lead(person, organization_id=organization, origin_id=str(local))
        self.link(
            local,
            remote_lead_id=lead,
            person_id=person,
            organization_id=organization,
            note_id=self.note(lead_id=str(lead)),
            organization_is_ours=True,
        )
        return local

    def deal(self, user_id: UUID | None = None) -> tuple[UUID, int]:
        """A lead that became a deal."""
        key = self.remote.add_field(Kind.DEAL, "ID do lead (GATTE)")
        self.change(
            "insert into pipeline.crm_account (system, contents, read_at) values "
            "('pipedrive', jsonb_build_object('external_key', cast(:key as text)), :at)",
            key=key,
            at=NOW,
        )
        local = self.lead(user_id)
        person = self.person()
        deal = self.remote.add_deal(
            title=NAME, person_id=person, value=1290.5, custom_fields={key: str(local)}
        )
        self.note(deal_id=deal)
        self.link(local, deal_id=deal, person_id=person)
        return local, deal

    def tasks(self) -> list[tuple[Any, ...]]:
        return self.rows(
            "select reference, state, attempts from pipeline.external_tasks "
            "where system = 'pipedrive' order by created_at, task_id"
        )

    def open_tasks(self) -> list[str]:
        return [reference for reference, state, _ in self.tasks() if state == "open"]

    # -- what runs

    def plan(self, *lead_ids: UUID, users: tuple[UUID, ...] = ()) -> list[str]:
        with self.database.connect() as connection:
            driver = psycopg_connection(connection)
            with driver.transaction(), driver.cursor() as cursor:
                return plan_references(cursor, users, lead_ids)

    def orphan(self, *references: str, lead_id: UUID) -> int:
        with self.database.connect() as connection:
            driver = psycopg_connection(connection)
            with driver.transaction(), driver.cursor() as cursor:
                return plan_orphan(cursor, references, lead_id=lead_id, at=NOW)

    def run(self, pipeline: str, **options: Any) -> RunReport:
        with Wiring(self.settings) as wiring:
            report = wiring.run(pipeline, as_of=NOW, execute=True, **options)
        self.told += [repr(report), *report.notes]
        return report

    def erase(self, user_id: UUID) -> RunReport:
        return self.run("lgpd_subject_request", kind="erase", user_id=user_id)

    def retain(self) -> RunReport:
        return self.run("lgpd_retention")

    def confirm(self, client: PipedriveClient | None = None) -> list[str]:
        with Wiring(self.settings) as wiring, wiring.migrated() as connection:
            notes = wiring.confirm_external_tasks(connection, as_of=NOW, client=client)
        self.told += notes
        return notes

    def impatient(self) -> PipedriveClient:
        """A client that waits 0.3 s and asks once."""
        return PipedriveClient(
            self.remote.url,
            self.remote.token,
            ledger=TokenLedger(),
            timeout_seconds=0.3,
            repeats=RetryPolicy(max_attempts=1),
        )

    def sent(self, method: str) -> list[str | None]:
        return [one.template for one in self.remote.exchanges if one.method == method]

    def is_empty_there(self) -> bool:
        account = self.remote
        return not (account.leads or account.persons or account.organizations or account.notes)


@pytest.fixture
def crm(
    database: TestDatabase, stand_in: PipedriveStandIn, caplog: pytest.LogCaptureFixture
) -> Iterator[Crm]:
    """No run may tell a personal value or the token, in its report, its rows or a log."""
    caplog.set_level("DEBUG")
    made = Crm(database, stand_in)
    yield made
    rows = made.rows("select coalesce(report::text, '') || coalesce(error, '') from pipeline.runs")
    told = "\n".join([caplog.text, *made.told, *(row[0] for row in rows)])
    for secret in (NAME, PHONE, EMAIL, COMPANY, NOTE, stand_in.token):
        assert secret not in told
        assert secret.removeprefix("+") not in told


# --- a person goes ------------------------------------------------------------------------------


def test_who_is_erased_on_request_is_gone_there_and_a_read_confirms_it(
    crm: Crm, stand_in: PipedriveStandIn
) -> None:
    user = crm.user()
    crm.linked(user)
    report = crm.erase(user)
    assert crm.is_empty_there()
    assert [(reference, state) for reference, state, _ in crm.tasks()] == [(None, "confirmed")] * 4
    assert crm.rows("select state from pipeline.subject_requests") == [("done",)]
    assert not [note for note in report.notes if note.startswith("pipedrive")]
    assert crm.rows("select spent from pipeline.crm_tokens") == [(stand_in.limits.spent,)]


def test_who_is_anonymised_by_retention_is_gone_there_after_the_next_sync(crm: Crm) -> None:
    lead = crm.linked(age=5 * YEAR)
    young = crm.linked()
    crm.retain()
    assert len(crm.open_tasks()) == 4
    assert crm.rows("select distinct user_id, request_id from pipeline.external_tasks") == [
        (lead, None)
    ]
    assert len(crm.remote.leads) == 2
    notes = crm.confirm()
    assert notes == ["eliminações em outros sistemas: 4 confirmadas, 0 em aberto"]
    assert [one["origin_id"] for one in crm.remote.leads] == [str(young)]
    assert len(crm.remote.persons) == len(crm.remote.organizations) == len(crm.remote.notes) == 1
    assert crm.confirm() == []


def test_what_only_those_share_who_go_together_goes_too(crm: Crm) -> None:
    organization = crm.organization()
    person = crm.person(organization)
    for _ in range(2):
        crm.linked(age=5 * YEAR, person_id=person, organization_id=organization)
    crm.retain()
    assert {f"person:{person}", f"organization:{organization}"} < set(crm.open_tasks())
    assert len(crm.open_tasks()) == 6
    crm.confirm()
    crm.confirm()
    assert crm.is_empty_there()
    assert crm.open_tasks() == []


def test_a_shared_person_stays_until_the_last_lead_goes(crm: Crm) -> None:
    users = [crm.user(), crm.user()]
    organization = crm.organization()
    person = crm.person(organization)
    for user in users:
        crm.linked(user, person_id=person, organization_id=organization)
    crm.erase(users[0])
    assert [one["id"] for one in crm.remote.persons] == [person]
    assert len(crm.remote.leads) == len(crm.remote.notes) == len(crm.remote.organizations) == 1
    crm.erase(users[1])
    assert crm.is_empty_there()


def test_nobody_who_has_no_link_is_looked_for_there(crm: Crm) -> None:
    user = crm.user()
    crm.lead(user)
    crm.link(crm.lead(user), state="pending")
    crm.linked(crm.user())
    crm.erase(user)
    assert crm.tasks() == []
    assert crm.remote.exchanges == []


# --- what is planned ----------------------------------------------------------------------------


def test_a_lead_that_was_merged_into_one_that_goes_is_planned_with_it(crm: Crm) -> None:
    first, second, third = crm.lead(), uuid4(), uuid4()
    remote = [uuid4() for _ in range(3)]
    crm.link(first, remote_lead_id=remote[0], person_id=7, organization_id=9)
    crm.link(second, state="merged", merged_into=first, remote_lead_id=remote[1], person_id=7)
    crm.link(third, state="merged", merged_into=second, remote_lead_id=remote[2], person_id=8)
    expected = [*sorted(f"lead:{one}" for one in remote), "person:7", "person:8"]
    assert crm.plan(first) == expected


def test_who_lives_on_in_another_lead_keeps_the_person(crm: Crm) -> None:
    going, staying, into = crm.lead(), crm.lead(), uuid4()
    crm.link(going, deal_id=3, person_id=7, organization_id=9, organization_is_ours=True)
    crm.link(uuid4(), state="merged", merged_into=into, person_id=7, organization_id=9)
    assert crm.plan(going) == ["deal:3", "person:7", "organization:9"]  # nobody lives on
    crm.link(into, state="merged", merged_into=staying)
    assert crm.plan(going) == ["deal:3"]
    assert crm.plan(going, staying) == ["deal:3", "person:7", "organization:9"]


def test_the_leads_of_a_user_and_those_deleted_there_are_planned(crm: Crm) -> None:
    user = crm.user()
    lead, remote = crm.lead(user), uuid4()
    crm.link(lead, state="deleted", remote_lead_id=remote, person_id=7, note_id=5)
    assert crm.plan(users=(user,)) == [f"lead:{remote}", "note:5", "person:7"]


def test_open_tasks_say_what_the_sync_leaves_alone(crm: Crm) -> None:
    lead, remote = crm.lead(), uuid4()
    references = [f"lead:{remote}", "deal:1", "person:2", "organization:3", "note:4", "deal:5"]
    assert crm.orphan(*references, lead_id=lead) == 6
    crm.change("update pipeline.external_tasks set reference = 'foo:1' where reference = 'note:4'")
    crm.change(
        "update pipeline.external_tasks set state = 'confirmed', reference = null, "
        "confirmed_at = :at where reference = 'deal:5'",
        at=NOW,
    )
    with crm.database.connect() as connection:
        driver = psycopg_connection(connection)
        with driver.transaction(), driver.cursor() as cursor:
            assert pending_references(cursor) == PendingErasures(
                lead_ids=frozenset({remote}),
                deal_ids=frozenset({1}),
                person_ids=frozenset({2}),
                organization_ids=frozenset({3}),
            )


def test_a_record_that_names_an_anonymised_lead_is_erased_once(crm: Crm) -> None:
    local = crm.lead()
    remote = crm.remote_lead(crm.person(), origin_id=str(local))
    assert [crm.orphan(f"lead:{remote}", lead_id=local) for _ in range(2)] == [1, 0]
    assert crm.rows("select user_id, request_id, system from pipeline.external_tasks") == [
        (local, None, "pipedrive")
    ]
    assert crm.confirm() == ["eliminações em outros sistemas: 1 confirmadas, 0 em aberto"]
    assert crm.remote.leads == []


@pytest.mark.parametrize(
    "reference",
    [
        "",
        "lead",
        "lead:17",
        "lead:8EDEFAC4-1650-43C1-B0D5-C7F1381A4ECA",
        "deal:3d02c072-f570-414e-9b94-f282842b6dbc",
        "deal:0",
        "deal:-1",
        "deal:1 ",
        "deal:1\n",
        "deal:٣",
        "deal:1234567890123456789",
        f"person:{PHONE}",
        f"pessoa:{NAME}",
    ],
)
def test_an_unknown_form_is_refused_without_its_value(crm: Crm, reference: str) -> None:
    with pytest.raises(UnknownReferenceError) as caught:
        parse_reference(reference)
    assert isinstance(caught.value, ConfigurationError)
    assert reference.strip() == "" or reference.strip() not in caught.value.message
    with pytest.raises(UnknownReferenceError):
        crm.orphan("deal:1", reference, lead_id=crm.lead())
    assert crm.tasks() == []


def test_an_unknown_form_does_not_stop_the_others(crm: Crm) -> None:
    lead = crm.lead()
    crm.orphan("deal:1", "deal:2", "deal:3", lead_id=lead)
    crm.change(
        "update pipeline.external_tasks set reference = :bad where reference = 'deal:2'",
        bad=f"pessoa:{NAME}",
    )
    notes = crm.confirm()
    assert notes[0] == "eliminações em outros sistemas: 2 confirmadas, 1 em aberto"
    assert notes[1].endswith("UnknownReferenceError (referência em formato desconhecido)")


# --- what becomes of each kind ------------------------------------------------------------------


def test_a_deal_stays_as_revenue_and_names_nobody(crm: Crm, stand_in: PipedriveStandIn) -> None:
    user = crm.user()
    _, deal = crm.deal(user)
    stand_in.edit_deal(deal, status="won")
    crm.erase(user)
    (left,) = stand_in.deals
    assert (left["title"], left["status"], left["value"]) == (ANONYMOUS_TITLE, "won", 1290.5)
    assert [value for value in left["custom_fields"].values() if value] == []
    assert stand_in.notes == stand_in.persons == []
    assert crm.open_tasks() == []


def test_a_deal_is_anonymised_where_our_field_is_gone(crm: Crm, stand_in: PipedriveStandIn) -> None:
    user = crm.user()
    crm.deal(user)
    stand_in.delete_field(
        Kind.DEAL, crm.rows("select contents ->> 'external_key' from pipeline.crm_account")[0][0]
    )
    crm.erase(user)
    assert [one["title"] for one in stand_in.deals] == [ANONYMOUS_TITLE]
    assert crm.open_tasks() == []


def test_an_archived_deal_stays_open_and_is_told_until_it_is_brought_back(
    crm: Crm, stand_in: PipedriveStandIn
) -> None:
    user = crm.user()
    _, deal = crm.deal(user)
    stand_in.edit_deal(deal, is_archived=True)
    notes = crm.erase(user).notes
    (told,) = [note for note in notes if note.startswith("pipedrive")]
    assert "RefusedError" in told
    assert "desarquivado" in told
    assert crm.open_tasks() == [f"deal:{deal}"]
    assert crm.rows("select state from pipeline.subject_requests") == [("waiting_external",)]
    assert crm.sent("PATCH") == []

    stand_in.edit_deal(deal, is_archived=False)
    notes = crm.confirm()
    assert [one["title"] for one in stand_in.deals] == [ANONYMOUS_TITLE]
    assert crm.rows("select state from pipeline.subject_requests") == [("done",)]
    assert any(note.startswith("pedido ") for note in notes)


def test_a_deal_that_was_deleted_there_needs_nothing(crm: Crm, stand_in: PipedriveStandIn) -> None:
    user = crm.user()
    _, deal = crm.deal(user)
    stand_in.delete_deal(deal)
    crm.erase(user)
    assert stand_in.notes == []
    assert crm.open_tasks() == []


def test_an_archived_lead_is_deleted(crm: Crm, stand_in: PipedriveStandIn) -> None:
    user = crm.user()
    crm.linked(user)
    stand_in.archive_lead(stand_in.leads[0]["id"])
    crm.erase(user)
    assert crm.is_empty_there()


def test_a_note_that_outlived_its_lead_or_person_is_deleted(
    crm: Crm, stand_in: PipedriveStandIn
) -> None:
    user = crm.user()
    crm.linked(user)
    (lead,), (person,) = stand_in.leads, stand_in.persons
    crm.note(lead_id=lead["id"])  # a salesperson's
    crm.note(person_id=person["id"])
    stand_in.delete_lead(lead["id"])
    stand_in.delete_person(person["id"])
    assert len(stand_in.notes) == 3
    crm.erase(user)
    assert stand_in.notes == []
    assert crm.open_tasks() == []


@pytest.mark.parametrize("holder", ["person", "deal", "archived deal", "lead", "archived lead"])
def test_an_organization_that_others_have_is_theirs(
    crm: Crm, stand_in: PipedriveStandIn, holder: str
) -> None:
    user = crm.user()
    crm.linked(user)
    (organization,) = (one["id"] for one in stand_in.organizations)
    if holder == "person":
        stand_in.add_person(name="Outra", org_id=organization)
    elif "deal" in holder:
        deal = stand_in.add_deal(title="Outro", org_id=organization)
        stand_in.edit_deal(deal, is_archived="archived" in holder)
    else:
        other = stand_in.add_lead(title="Outro", organization_id=organization)
        stand_in.archive_lead(other, is_archived="archived" in holder)
    crm.erase(user)
    assert [one["id"] for one in stand_in.organizations] == [organization]
    assert crm.open_tasks() == []


def test_an_organization_waits_for_who_goes_too(crm: Crm, stand_in: PipedriveStandIn) -> None:
    local, organization = crm.lead(), crm.organization()
    person = crm.person(organization)
    # In the wrong order, as of two subjects: whoever is left there is about to go.
    crm.orphan(f"organization:{organization}", lead_id=local)
    crm.orphan(f"person:{person}", lead_id=local)
    crm.change(
        "update pipeline.external_tasks set created_at = created_at - interval '1 s' "
        "where reference like 'organization%'"
    )
    notes = crm.confirm()
    assert notes[0] == "eliminações em outros sistemas: 1 confirmadas, 1 em aberto"
    assert "ainda consta" in notes[1]
    assert len(stand_in.organizations) == 1
    crm.confirm()
    assert stand_in.organizations == []
    assert crm.open_tasks() == []


# --- what goes wrong ----------------------------------------------------------------------------


def test_a_deletion_whose_answer_never_came_is_confirmed_by_the_next_round(
    crm: Crm, stand_in: PipedriveStandIn
) -> None:
    crm.linked(age=5 * YEAR)
    crm.retain()
    stand_in.fail(PipedriveFault.TIMEOUT_AFTER, method="DELETE", path="/leads/")
    with crm.impatient() as client:
        notes = crm.confirm(client)
    assert "RetryableHttpError" in notes[1]
    assert notes[2] == "pipedrive: sem resposta; tarefas adiadas: 3"
    assert len(crm.open_tasks()) == 4
    crm.confirm()
    assert crm.is_empty_there()
    assert crm.sent("DELETE").count(ep.DELETE_LEAD.path) == 1
    assert crm.open_tasks() == []


def test_a_change_whose_answer_never_came_is_confirmed_by_the_next_round(
    crm: Crm, stand_in: PipedriveStandIn
) -> None:
    local, deal = crm.deal()
    crm.orphan(f"deal:{deal}", lead_id=local)
    stand_in.fail(PipedriveFault.TIMEOUT_AFTER, method="PATCH")
    with crm.impatient() as client:
        notes = crm.confirm(client)
    assert "AmbiguousError" in notes[1]
    crm.confirm()
    assert len(crm.sent("PATCH")) == 1
    assert crm.open_tasks() == []


_CONFIRM = """
from datetime import UTC, datetime
from gatte_pipelines.settings import Settings
from gatte_pipelines.wiring import Wiring
with Wiring(Settings.from_environment()) as wiring, wiring.migrated() as connection:
    wiring.confirm_external_tasks(connection, as_of=datetime.now(UTC))
"""


@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_a_process_killed_between_a_call_and_its_answer_is_taken_up_by_the_next(
    crm: Crm, stand_in: PipedriveStandIn, method: str
) -> None:
    crm.linked(age=5 * YEAR)
    crm.retain()
    effect, killed = threading.Event(), threading.Event()

    def hold(asked: str, path: str) -> None:
        if asked == method and "/leads/" in path and not effect.is_set():
            effect.set()
            killed.wait(60)

    stand_in.after_effect = hold
    settings = crm.settings
    process = subprocess.Popen(
        [sys.executable, "-c", _CONFIRM],
        env={
            "PATH": os.environ["PATH"],
            "GATTE_HOME": str(settings.home),
            "GATTE_DATABASE_URL": settings.database_url or "",
            "GATTE_PIPEDRIVE_BASE_URL": stand_in.url,
            "GATTE_PIPEDRIVE_API_TOKEN": stand_in.token,
        },
    )
    try:
        assert effect.wait(60)
    finally:
        process.kill()
        process.wait(60)
        killed.set()
    assert [attempts for _, _, attempts in crm.tasks()] == [1, 0, 0, 0]
    crm.confirm()
    assert crm.is_empty_there()
    assert crm.sent("DELETE").count(ep.DELETE_LEAD.path) == 1
    assert [attempts for _, _, attempts in crm.tasks()] == [2, 1, 1, 1]


@pytest.mark.parametrize("name", ["pipedrive_api_token", "pipedrive_base_url"])
def test_without_a_setting_the_tasks_stay_and_the_officer_is_told(crm: Crm, name: str) -> None:
    whole = crm.settings
    changes = {"pipedrive_base_url": crm.remote.url, "pipedrive_api_token": crm.remote.token}
    crm.settings = crm.database.settings(**(changes | {name: None}))
    user = crm.user()
    crm.linked(user)
    notes = crm.erase(user).notes
    variable = f"GATTE_{name.upper()}"
    told = [note for note in notes if note.startswith("pipedrive")]
    assert "ConfigurationError" in told[0]
    assert variable in told[0]
    assert told[1] == "pipedrive: interrompido; tarefas adiadas: 3"
    assert len(crm.open_tasks()) == 4
    assert crm.remote.exchanges == []
    documents: dict[str, str] = {}
    crm.run("lgpd_retention", documents=documents)
    report = documents["relatorio-do-encarregado"].replace("\\", "")
    assert f"pipedrive: falta definir {variable}; nada pode ser eliminado lá." in report

    crm.settings = whole
    crm.confirm()
    assert crm.is_empty_there()


def test_the_client_names_who_needs_the_setting(crm: Crm) -> None:
    crm.settings = crm.database.settings()
    with (
        Wiring(crm.settings) as wiring,
        wiring.connect() as connection,
        pytest.raises(
            ConfigurationError, match="GATTE_PIPEDRIVE_API_TOKEN is not set; crm_sync needs it"
        ),
        wiring.pipedrive_client(connection, needed_by="crm_sync"),
    ):
        pass


def test_a_token_that_is_not_accepted_is_sent_once_a_round(
    crm: Crm, stand_in: PipedriveStandIn
) -> None:
    crm.linked(age=5 * YEAR)
    crm.retain()
    stand_in.fail(PipedriveFault.UNAUTHORIZED, times=9)
    notes = crm.confirm()
    assert "AccessRefusedError (o Pipedrive não aceita GATTE_PIPEDRIVE_API_TOKEN" in notes[1]
    assert notes[2] == "pipedrive: interrompido; tarefas adiadas: 3"
    assert len(stand_in.exchanges) == 1
    assert len(crm.open_tasks()) == 4


def test_a_day_without_tokens_leaves_the_tasks_for_the_next(
    crm: Crm, stand_in: PipedriveStandIn
) -> None:
    crm.linked(age=5 * YEAR)
    crm.retain()
    stand_in.fail(PipedriveFault.DAILY_BUDGET, skip=2)
    notes = crm.confirm()
    assert "DailyBudgetSpent (a cota de tokens do dia acabou" in notes[1]
    assert len(stand_in.exchanges) == 3
    assert len(crm.open_tasks()) == 4
    stand_in.limits.spend(-stand_in.limits.spent)  # midnight
    crm.confirm()
    assert crm.is_empty_there()


def test_where_our_share_is_used_up_nothing_is_sent(crm: Crm, stand_in: PipedriveStandIn) -> None:
    user = crm.user()
    crm.linked(user)
    share = int(SMALLEST_DAILY_BUDGET * SHARE)
    crm.change(
        "insert into pipeline.crm_tokens (day, spent, budget, noted_at) "
        "values (:day, :spent, :budget, :at)",
        day=datetime.now(UTC).date(),
        spent=share,
        budget=SMALLEST_DAILY_BUDGET,
        at=NOW,
    )
    notes = crm.erase(user).notes
    assert any("DailyBudgetSpent" in note for note in notes)
    assert stand_in.exchanges == []
    assert len(crm.open_tasks()) == 4
    crm.change("update pipeline.crm_tokens set day = day - 1")
    crm.confirm()
    assert crm.is_empty_there()
    spent = crm.rows("select spent from pipeline.crm_tokens order by day")
    assert spent == [(share,), (stand_in.limits.spent,)]


def test_what_was_spent_is_noted_where_the_work_failed(crm: Crm) -> None:
    def fail(connection: Connection, client: PipedriveClient) -> None:
        assert client.get_person(1) is None
        connection.execute(text("select nowhere"))  # leaves a transaction that is broken

    with (
        Wiring(crm.settings) as wiring,
        wiring.connect() as connection,
        pytest.raises(ProgrammingError),
        wiring.pipedrive_client(connection, needed_by="crm_sync") as client,
    ):
        fail(connection, client)
    assert crm.rows("select spent from pipeline.crm_tokens") == [(1,)]
