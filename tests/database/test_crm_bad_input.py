"""The sync with Pipedrive where a side holds, or answers, what it should not: nothing is lost."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from gatte_pipelines.crm.exchange import Direction
from gatte_pipelines.crm.failures import AccessRefusedError, BlockedError, UnreadableAnswerError
from gatte_pipelines.crm.policy_text import parse_crm_policy
from gatte_pipelines.crm.resolution import resolve_conflict
from gatte_pipelines.database.engine import psycopg_connection
from gatte_pipelines.errors import BadInputError, ConfigurationError
from gatte_pipelines.http import RetryableHttpError
from gatte_pipelines.run_report import Outcome, RunReport
from gatte_pipelines.sandbox.pipedrive import Kind, PipedriveFault
from gatte_pipelines.sandbox.pipedrive_rows import Source
from gatte_pipelines.sync.conflicts import resolve
from gatte_pipelines.sync.merge import Side
from tests.crm import CONFIG, CrmDesk, open_desk
from tests.crm_checks import (
    anonymize,
    assert_at_rest,
    assert_valid_requests,
    both_states,
    calls_of,
    last_run,
    open_task,
    state_here,
    state_there,
    tasks,
    writes_of,
)
from tests.postgres import TestDatabase

PHONE = "+5511900001234"
FIELDS = (CONFIG / "crm_fields.yaml").read_text("utf-8")
STAGES = (CONFIG / "crm_stages.yaml").read_text("utf-8")


@pytest.fixture
def desk(database: TestDatabase) -> Iterator[CrmDesk]:
    """Both sides, without webhooks."""
    with open_desk(database) as opened:
        yield opened


@pytest.fixture(autouse=True)
def _valid_requests(desk: CrmDesk) -> Iterator[None]:
    """Whatever a test has the sync send is valid against the specs."""
    yield
    assert_valid_requests(desk.crm)


def remote_id(desk: CrmDesk, lead_id: UUID) -> str:
    return str(desk.link(lead_id)["remote_lead_id"])


def tell(report: RunReport) -> str:
    return "\n".join(report.notes)


def decide(desk: CrmDesk, keep: Side) -> None:
    """What a person decides about the only conflict."""
    (conflict,) = desk.conflicts
    with desk.database.connect("gatte_pipeline") as connection:
        resolve(
            psycopg_connection(connection),
            conflict["conflict_id"],
            keep,
            {"pipedrive": resolve_conflict},
            as_of=desk.clock(),
        )


# --- values that cannot be used ---------------------------------------------------------------


@pytest.mark.parametrize("phone", ["ramal 12", "+55 11 9", "1234/12", "x"])
def test_a_lead_with_an_unusable_phone_is_pushed_without_it(desk: CrmDesk, phone: str) -> None:
    lead_id = desk.add_lead(name="Ana", phone=phone, email="ana@example.com")
    assert desk.sync().inserted == 1
    person = desk.person(lead_id)
    assert (person["name"], person["phones"]) == ("Ana", [])
    assert [mail["value"] for mail in person["emails"]] == ["ana@example.com"]
    assert desk.lead(lead_id)["phone"] == phone
    desk.sync()
    assert_at_rest(desk)


def test_an_unusable_phone_empties_nothing_there(desk: CrmDesk) -> None:
    lead_id = desk.add_lead(name="Ana", phone=PHONE, email="ana@example.com")
    desk.sync()
    desk.edit_lead(lead_id, phone="ligar depois", name="Ana Souza")
    desk.sync()
    person = desk.person(lead_id)
    assert person["name"] == "Ana Souza"
    assert [one["value"] for one in person["phones"]] == [PHONE]
    assert desk.lead(lead_id)["phone"] == "ligar depois"
    # What a salesperson writes afterwards counts; ours, of no use, is kept in the conflicts.
    desk.crm.edit_person(person["id"], phones=["11 90000-4321"])
    desk.sync()
    assert desk.lead(lead_id)["phone"] == "+5511900004321"
    (conflict,) = desk.conflicts
    assert (conflict["field"], conflict["our_value"]) == ("phone", "ligar depois")
    desk.sync()
    assert_at_rest(desk)


def test_a_person_without_phone_and_email_is_made_once(desk: CrmDesk) -> None:
    lead_id = desk.add_lead(name="Só nome", phone="sem telefone")
    desk.crm.fail(PipedriveFault.TIMEOUT_AFTER, method="POST", path="/persons")
    desk.sync()
    desk.sync()
    assert [person["id"] for person in desk.crm.persons] == [desk.link(lead_id)["person_id"]]
    assert len(desk.crm.leads) == 1


@pytest.mark.parametrize("name", ["N" * 151, "com\x00nulo"])
def test_a_name_there_that_leads_cannot_hold_is_left_alone(desk: CrmDesk, name: str) -> None:
    lead_id = desk.add_lead(name="Ana", email="ana@example.com")
    desk.sync()
    person_id = desk.link(lead_id)["person_id"]
    desk.crm.edit_person(person_id, name=name, emails=["nova@example.com"])
    desk.sync()
    lead = desk.lead(lead_id)
    assert (lead["name"], lead["email"]) == ("Ana", "nova@example.com")
    assert desk.person(lead_id)["name"] == name
    desk.sync()
    assert_at_rest(desk)
    # What is edited here goes there all the same, and what is mended there comes.
    desk.edit_lead(lead_id, email="outra@example.com")
    desk.sync()
    assert [mail["value"] for mail in desk.person(lead_id)["emails"]] == ["outra@example.com"]
    assert desk.person(lead_id)["name"] == name
    desk.crm.edit_person(person_id, name="Ana Souza")
    desk.sync()
    assert desk.lead(lead_id)["name"] == "Ana Souza"


@pytest.mark.parametrize("name", ["C" * 201, "com\x00nulo"])
def test_a_company_there_that_leads_cannot_hold_is_left_alone(desk: CrmDesk, name: str) -> None:
    lead_id = desk.add_lead(company="Padaria Sol")
    desk.sync()
    organization_id = desk.link(lead_id)["organization_id"]
    desk.crm.edit_organization(organization_id, name=name)
    desk.sync(after_minutes=24 * 60)  # names of organizations come with the daily reconcile
    assert desk.lead(lead_id)["company"] == "Padaria Sol"
    assert [one["name"] for one in desk.crm.organizations] == [name]
    desk.sync()
    assert_at_rest(desk)


def test_a_lead_born_there_with_values_too_long_is_taken_as_far_as_it_fits(desk: CrmDesk) -> None:
    desk.imports = True
    long = desk.crm.add_person(name="N" * 151, phones=["11 90000-0001"])
    desk.crm.add_lead(title="Lead", person_id=long)
    firm = desk.crm.add_organization(name="C" * 201)
    fine = desk.crm.add_person(name="Bia", phones=["11 90000-0002"])
    desk.crm.add_lead(title="T" * 255, person_id=fine, organization_id=firm)
    report = desk.sync()
    assert (report.inserted, report.skipped) == (1, {"too_long": 1})
    (lead,) = desk.rows("select name, company from leads")
    assert (lead["name"], lead["company"]) == ("Bia", None)


# --- names of the configuration and of the account ------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("  Warm: contacted", "  Warm: morno", "labels"),
        ("no_label: new", "no_label: novo", "no_label"),
        ("  won: converted", "  won: ganho", "won"),
    ],
)
def test_a_stage_of_ours_that_does_not_exist_is_refused_with_its_line(
    old: str, new: str, says: str
) -> None:
    text = STAGES.replace(old, new)
    line = text.splitlines().index(new) + 1
    with pytest.raises(BadInputError, match=f"crm_stages.yaml, line {line}.*{says}"):
        parse_crm_policy(FIELDS, text, fields_file="crm_fields.yaml", stages_file="crm_stages.yaml")


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("  Hot: qualified", "  Quente: qualified", "labels"),
        ("      Contact Made: qualified", "      Contrato: qualified", "deals.stages"),
        ("    Pipeline:", "    Funil:", "deals.stages"),
    ],
)
def test_a_name_that_the_account_does_not_have_stops_the_run(
    desk: CrmDesk, old: str, new: str, says: str
) -> None:
    desk.add_lead()
    text = STAGES.replace(old, new)
    line = text.splitlines().index(new) + 1 + ("Funil" in new)
    desk.policy = parse_crm_policy(
        FIELDS, text, fields_file="crm_fields.yaml", stages_file="crm_stages.yaml"
    )
    before = both_states(desk)
    with pytest.raises(BadInputError, match=f"crm_stages.yaml, line {line}.*{says}"):
        desk.sync()
    assert both_states(desk) == before
    run = last_run(desk)
    assert (run["outcome"], f"line {line}" in run["error"]) == ("failed", True)
    desk.policy = parse_crm_policy(
        FIELDS, STAGES, fields_file="crm_fields.yaml", stages_file="crm_stages.yaml"
    )
    assert desk.sync().inserted == 1


def test_a_label_renamed_there_stops_the_run_a_day_later_and_moves_nobody(desk: CrmDesk) -> None:
    lead_id = desk.add_lead()
    desk.sync()
    desk.crm.label_lead(remote_id(desk, lead_id), "Hot")
    desk.sync()
    assert desk.lead(lead_id)["stage"] == "qualified"
    for label in desk.crm.account.labels.values():
        label["name"] = {"Hot": "Quente"}.get(label["name"], label["name"])
    desk.sync()
    with pytest.raises(BadInputError, match="labels"):
        desk.sync(after_minutes=24 * 60)
    assert desk.lead(lead_id)["stage"] == "qualified"


def test_a_stage_of_a_deal_that_the_configuration_does_not_know_is_left_alone_and_told(
    desk: CrmDesk,
) -> None:
    lead_id = desk.add_lead(stage="contacted")
    desk.sync()
    desk.crm.account.add_pipeline("Outro funil", ["Conversa"])
    stage_id = max(desk.crm.account.stages)
    deal_id = desk.crm.convert_lead(remote_id(desk, lead_id), stage_id)
    report = desk.sync()
    lead = desk.lead(lead_id)
    assert (lead["stage"], lead["crm_id"]) == ("contacted", str(deal_id))
    assert "etapa que config/crm_stages.yaml não conhece" in tell(report)
    desk.edit_lead(lead_id, name="Outro nome")
    desk.sync()
    assert desk.person(lead_id)["name"] == "Outro nome"
    assert desk.lead(lead_id)["stage"] == "contacted"
    desk.crm.edit_deal(deal_id, status="won")
    desk.sync()
    assert desk.lead(lead_id)["stage"] == "converted"


def test_a_label_that_the_configuration_does_not_know_is_never_touched(desk: CrmDesk) -> None:
    lead_id = desk.add_lead()
    desk.sync()
    desk.crm.label_lead(remote_id(desk, lead_id), "Cold")
    desk.sync()
    assert desk.lead(lead_id)["stage"] == "new"
    desk.edit_lead(lead_id, stage="qualified")
    desk.sync()
    labels = {row["id"]: row["name"] for row in desk.crm.account.labels.values()}
    names = {labels[label_id] for label_id in desk.remote_lead(lead_id)["label_ids"]}
    assert names == {"Cold", "Hot"}


# --- our custom field -------------------------------------------------------------------------


def our_fields(desk: CrmDesk) -> list[str]:
    fields = desk.crm.account.fields_of(Kind.DEAL).items()
    return [key for key, one in fields if one.name == desk.policy.external_field]


def test_a_custom_field_deleted_there_is_made_again_with_the_next_lead(desk: CrmDesk) -> None:
    desk.add_lead()
    desk.sync()
    (first,) = our_fields(desk)
    desk.crm.delete_field(Kind.DEAL, first)
    lead_id = desk.add_lead()
    assert desk.sync().inserted == 1
    (second,) = our_fields(desk)
    assert second != first
    assert desk.remote_lead(lead_id)["custom_fields"][second] == str(lead_id)
    assert len(desk.crm.leads) == 2
    desk.sync()
    assert_at_rest(desk)


def test_a_custom_field_that_is_gone_and_may_not_be_made_is_done_without(desk: CrmDesk) -> None:
    desk.sync()
    (first,) = our_fields(desk)
    desk.crm.delete_field(Kind.DEAL, first)
    desk.crm.fail(PipedriveFault.PLAN_LIMIT, times=9, method="POST", path="/dealFields")
    lead_id = desk.add_lead()
    report = desk.sync()
    assert report.inserted == 1
    assert our_fields(desk) == []
    assert desk.remote_lead(lead_id)["origin_id"] == str(lead_id)
    assert "só por origin_id" in tell(report)
    # By origin_id alone one lead stays one.
    other = desk.add_lead()
    desk.crm.fail(PipedriveFault.TIMEOUT_AFTER, method="POST", path="/leads$")
    desk.sync()
    desk.sync()
    assert [lead["origin_id"] for lead in desk.crm.leads] == [str(lead_id), str(other)]


def test_a_field_that_may_not_be_created_is_told_and_done_without(desk: CrmDesk) -> None:
    desk.crm.fail(PipedriveFault.PLAN_LIMIT, times=9, method="POST", path="/dealFields")
    lead_id = desk.add_lead()
    report = desk.sync()
    assert report.inserted == 1
    assert "não pôde ser criado" in tell(report)
    assert desk.remote_lead(lead_id)["origin_id"] == str(lead_id)
    assert our_fields(desk) == []


def test_two_custom_fields_of_our_name_stop_the_run(desk: CrmDesk) -> None:
    desk.add_lead()
    for _ in range(2):
        desk.crm.add_field(Kind.DEAL, desk.policy.external_field)
    before = both_states(desk)
    with pytest.raises(ConfigurationError, match="two custom fields"):
        desk.sync()
    assert both_states(desk) == before


# --- the token --------------------------------------------------------------------------------


@pytest.mark.parametrize("known", [False, True])
def test_with_a_wrong_token_one_request_is_sent(desk: CrmDesk, known: bool) -> None:
    if known:
        desk.sync()
    desk.add_lead()
    before = both_states(desk)

    def attempt() -> None:
        with pytest.raises(AccessRefusedError, match="GATTE_PIPEDRIVE_API_TOKEN is not accepted"):
            desk.sync(token="f" * 40)

    assert len(calls_of(desk, attempt)) == 1
    assert both_states(desk) == before
    assert last_run(desk)["outcome"] == "failed"
    assert desk.sync().inserted == 1


def test_a_token_withdrawn_in_the_middle_ends_the_run_and_the_next_goes_on(desk: CrmDesk) -> None:
    for _ in range(3):
        desk.add_lead()
    desk.sync(direction=Direction.PULL)
    desk.crm.fail(PipedriveFault.UNAUTHORIZED, method="POST", path="/persons", skip=1)

    def attempt() -> None:
        with pytest.raises(AccessRefusedError):
            desk.sync()

    calls = calls_of(desk, attempt)
    assert calls[-1].status == 401
    assert [call.status for call in calls].count(401) == 1
    assert desk.sync().inserted == 2
    assert len(desk.crm.leads) == len(desk.crm.persons) == 3


@pytest.mark.parametrize("hours", [0.25, 25])
def test_the_token_of_another_company_changes_nothing(desk: CrmDesk, hours: float) -> None:
    lead_id = desk.add_lead(name="Ana")
    desk.sync()
    desk.edit_lead(lead_id, name="Ana Souza")
    desk.add_lead()
    # Another company: it has none of our records, and a token of its own.
    with open_other(desk) as other:
        before = state_here(desk), state_there(desk), state_there(other)
        with pytest.raises(ConfigurationError, match="of another company"):
            other.sync(after_minutes=hours * 60)
        assert (state_here(desk), state_there(desk), state_there(other)) == before
        assert writes_of(other.crm.exchanges) == []
        assert_valid_requests(other.crm)
    assert desk.sync().inserted == 1


@contextmanager
def open_other(desk: CrmDesk) -> Iterator[CrmDesk]:
    """The same database beside the account of another company, which has a token of its own."""
    with open_desk(desk.database) as other:
        other.clock.at = desk.clock.at
        other.crm.alter("data.company_id", 7_000_002, times=99, path="/users/me")
        yield other
        desk.clock.at = other.clock.at


# --- answers ------------------------------------------------------------------------------------

LISTS = ("/leads$", "/persons$", "/deals$")


@pytest.mark.parametrize("path", LISTS)
def test_html_in_place_of_a_list_fails_the_run_and_loses_nothing(desk: CrmDesk, path: str) -> None:
    lead_id = desk.add_lead(name="Ana")
    desk.sync()
    desk.crm.edit_person(desk.link(lead_id)["person_id"], name="Ana Souza")
    desk.add_lead()
    before = both_states(desk)
    desk.crm.fail(PipedriveFault.HTML, method="GET", path=path)
    with pytest.raises(UnreadableAnswerError, match="HTML where JSON was due"):
        desk.sync()
    assert both_states(desk) == before
    report = desk.sync()
    assert (report.inserted, report.updated) == (1, 1)
    assert desk.lead(lead_id)["name"] == "Ana Souza"


@pytest.mark.parametrize(
    ("path", "key"),
    [("/leads$", "data.person_id"), ("/persons$", "data.phones"), ("/deals$", "additional_data")],
)
def test_a_field_missing_in_a_list_fails_the_run_and_loses_nothing(
    desk: CrmDesk, path: str, key: str
) -> None:
    lead_id = desk.add_lead(name="Ana")
    desk.sync()
    desk.crm.edit_person(desk.link(lead_id)["person_id"], name="Ana Souza")
    before = both_states(desk)
    desk.crm.omit(key, method="GET", path=path)
    with pytest.raises(UnreadableAnswerError, match="missing"):
        desk.sync()
    assert both_states(desk) == before
    assert desk.sync().updated == 1
    assert desk.lead(lead_id)["name"] == "Ana Souza"


def test_a_field_missing_in_one_person_leaves_that_lead_and_no_other(desk: CrmDesk) -> None:
    first, second = desk.add_lead(name="Ana"), desk.add_lead(name="Bia")
    desk.sync()
    # Somebody else's change, so that the lists do not show these two any more.
    desk.clock.pass_by(hours=1)
    desk.crm.add_lead(title="Outro", person_id=desk.crm.add_person(name="Outro"))
    desk.sync()
    desk.edit_lead(first, name="Ana Souza")
    desk.edit_lead(second, name="Bia Lima")
    person = desk.link(first)["person_id"]
    desk.crm.omit("data.phones", method="GET", path=f"/persons/{person}$")
    report = desk.sync(after_minutes=60)
    assert report.skipped == {"unreadable": 1}
    assert f"lead {first}" in tell(report)
    assert (desk.person(first)["name"], desk.person(second)["name"]) == ("Ana", "Bia Lima")
    desk.sync()
    assert desk.person(first)["name"] == "Ana Souza"


FAULTS = [
    PipedriveFault.HTML,
    PipedriveFault.SERVER_ERROR,
    PipedriveFault.SERVER_ERROR_AFTER,
    PipedriveFault.UNAVAILABLE,
    PipedriveFault.BROKEN_OFF,
    PipedriveFault.TIMEOUT_BEFORE,
    PipedriveFault.TIMEOUT_AFTER,
    None,
]


def spoil(desk: CrmDesk, fault: PipedriveFault | None, method: str, path: str) -> None:
    """Let one call meet a fault, or be answered without the id."""
    if fault is None:
        desk.crm.omit("data.id", method=method, path=path)
    else:
        desk.crm.fail(fault, method=method, path=path)


@pytest.mark.parametrize("fault", FAULTS)
def test_whatever_each_creation_is_answered_there_is_one_of_each_in_the_end(
    desk: CrmDesk, fault: PipedriveFault | None
) -> None:
    lead_id = desk.add_lead(
        name="Ana", email="ana@example.com", company="Padaria Sol", notes="À tarde"
    )
    for path in ("/organizations$", "/persons$", "/leads$", "/notes$"):
        spoil(desk, fault, "POST", path)
    for _ in range(5):  # each may have to wait for a run
        desk.sync()
    link = desk.link(lead_id)
    assert link["state"] == "linked"
    assert [lead["id"] for lead in desk.crm.leads] == [desk.lead(lead_id)["crm_id"]]
    for kind, records in (
        ("person", desk.crm.persons),
        ("organization", desk.crm.organizations),
        ("note", desk.crm.notes),
    ):
        assert [record["id"] for record in records] == [link[f"{kind}_id"]]
    assert desk.rows("select * from pipeline.sync_outbox") == []
    assert_at_rest(desk)


@pytest.mark.parametrize("fault", FAULTS)
def test_whatever_each_change_is_answered_it_stands_there_in_the_end(
    desk: CrmDesk, fault: PipedriveFault | None
) -> None:
    lead_id = desk.add_lead(name="Ana", company="Padaria Sol")
    desk.sync()
    desk.edit_lead(lead_id, name="Ana Souza", company="Padaria Lua", stage="qualified")
    for path in ("/persons/", "/leads/"):
        spoil(desk, fault, "PATCH", path)
    assert desk.sync().skipped == {"waiting": 1}
    desk.sync()
    desk.sync()
    lead = desk.lead(lead_id)
    assert (lead["name"], lead["company"], lead["stage"]) == (
        "Ana Souza",
        "Padaria Lua",
        "qualified",
    )
    assert desk.person(lead_id)["name"] == "Ana Souza"
    names = {one["id"]: one["name"] for one in desk.crm.organizations}
    assert names[desk.remote_lead(lead_id)["organization_id"]] == "Padaria Lua"
    labels = {row["id"]: row["name"] for row in desk.crm.account.labels.values()}
    assert [labels[one] for one in desk.remote_lead(lead_id)["label_ids"]] == ["Hot"]
    assert desk.conflicts == []
    desk.sync()
    assert_at_rest(desk)


@pytest.mark.parametrize("fault", [PipedriveFault.SERVER_ERROR, PipedriveFault.UNAVAILABLE])
@pytest.mark.parametrize("path", [*LISTS, "/users/me"])
def test_a_server_error_of_what_all_need_passes_or_fails_the_run(
    desk: CrmDesk, path: str, fault: PipedriveFault
) -> None:
    lead_id = desk.add_lead()
    desk.crm.fail(fault, method="GET", path=path)
    assert desk.sync().inserted == 1, "a read is repeated once here"
    desk.edit_lead(lead_id, name="Outro")
    desk.add_lead()
    desk.crm.fail(fault, method="GET", path=path, times=2)
    if path == "/users/me":
        desk.clock.pass_by(hours=24)
    with pytest.raises(RetryableHttpError, match="answered 50"):
        desk.sync()
    assert desk.sync().inserted == 1
    assert desk.person(lead_id)["name"] == "Outro"
    assert len(desk.crm.leads) == len(desk.crm.persons) == 2


def test_a_server_error_of_a_read_for_one_lead_leaves_that_lead_and_no_other(
    desk: CrmDesk,
) -> None:
    first = desk.add_lead(created_at=desk.clock() - timedelta(days=1))
    second = desk.add_lead()
    desk.crm.fail(PipedriveFault.SERVER_ERROR, method="GET", path="/persons/search", times=2)
    report = desk.sync()
    assert (report.inserted, report.skipped) == (1, {"unreadable": 1})
    assert f"lead {first}" in tell(report)
    assert desk.link(second)["state"] == "linked"
    assert desk.sync().inserted == 1
    assert len(desk.crm.leads) == len(desk.crm.persons) == 2


# --- limits ---------------------------------------------------------------------------------------


def test_too_many_requests_in_the_window_are_waited_out(desk: CrmDesk) -> None:
    desk.add_lead()
    desk.crm.fail(PipedriveFault.BURST, method="POST", path="/persons")
    desk.crm.fail(PipedriveFault.BURST, method="GET", path="/leads$")
    calls = calls_of(desk, desk.sync)
    assert [call.status for call in calls].count(429) == 2
    assert len(desk.crm.leads) == len(desk.crm.persons) == 1
    assert desk.reports[-1].inserted == 1
    spent = desk.rows("select spent from pipeline.crm_tokens")[0]["spent"]
    assert spent == desk.crm.limits.spent, "what was refused costs nothing"


@pytest.mark.parametrize("skip", [0, 5, 9, 13, 17, 24])
def test_a_day_budget_that_ends_anywhere_loses_nothing(desk: CrmDesk, skip: int) -> None:
    leads = [
        desk.add_lead(email=f"c{number}@example.com", company=f"Firma {number}", notes="Nota")
        for number in range(3)
    ]
    desk.crm.fail(PipedriveFault.DAILY_BUDGET, skip=skip)
    calls = calls_of(desk, desk.sync)
    report = desk.reports[-1]
    assert (report.outcome, report.reason) == (Outcome.SKIPPED, "budget")
    assert calls[-1].status == 429, "nothing is sent after it"
    assert report.inserted + report.skipped.get("budget", 0) == report.received
    assert len(calls_of(desk, desk.sync)) <= 1, "a run of the same day asks once"
    assert desk.reports[-1].reason == "budget"
    desk.clock.pass_by(hours=24)
    desk.sync()
    desk.sync()
    for kind in (desk.crm.leads, desk.crm.persons, desk.crm.organizations, desk.crm.notes):
        assert len(kind) == 3
    assert {desk.link(lead_id)["state"] for lead_id in leads} == {"linked"}
    assert_at_rest(desk)


def test_the_share_of_the_day_ends_the_run_and_the_rest_is_done_the_next_day(
    desk: CrmDesk,
) -> None:
    desk.crm.limits.daily_budget = 500  # of which three hundred are ours
    leads = [desk.add_lead(email=f"c{number}@example.com") for number in range(8)]
    report = desk.sync()
    assert (report.outcome, report.reason) == (Outcome.SKIPPED, "budget")
    assert 0 < report.inserted < 8
    assert report.skipped == {"budget": 8 - report.inserted}
    assert desk.crm.limits.spent <= 300
    for _ in range(4):
        desk.sync(after_minutes=24 * 60)
    assert {desk.link(lead_id)["state"] for lead_id in leads} == {"linked"}
    assert len(desk.crm.leads) == len(desk.crm.persons) == 8
    assert desk.reports[-1].reason == "nothing_to_do"


def test_what_was_changed_there_before_the_budget_ended_is_taken_the_next_day(
    desk: CrmDesk,
) -> None:
    lead_id = desk.add_lead(name="Ana")
    desk.sync()
    desk.crm.edit_person(desk.link(lead_id)["person_id"], name="Ana Souza")
    desk.crm.label_lead(remote_id(desk, lead_id), "Hot")
    desk.crm.fail(PipedriveFault.DAILY_BUDGET, method="GET", path="/deals$")
    assert desk.sync().reason == "budget"
    desk.sync(after_minutes=24 * 60)
    assert (desk.lead(lead_id)["name"], desk.lead(lead_id)["stage"]) == ("Ana Souza", "qualified")


@pytest.mark.parametrize("path", ["/leads$", "/persons/search", "/persons$"])
def test_the_page_of_a_firewall_ends_the_run_at_once(desk: CrmDesk, path: str) -> None:
    desk.add_lead()
    desk.crm.fail(PipedriveFault.CLOUDFLARE, path=path)

    def attempt() -> None:
        with pytest.raises(BlockedError, match="firewall"):
            desk.sync()

    calls = calls_of(desk, attempt)
    assert calls[-1].status == 403
    assert desk.sync().inserted == 1
    assert len(desk.crm.persons) == 1


# --- gone there -----------------------------------------------------------------------------------


def test_a_lead_deleted_there_while_edited_here_is_told_and_not_made_again(desk: CrmDesk) -> None:
    lead_id = desk.add_lead(name="Ana", notes="À tarde")
    desk.sync()
    desk.crm.delete_lead(remote_id(desk, lead_id))
    desk.edit_lead(lead_id, name="Ana Souza")
    report = desk.sync()
    assert report.skipped == {"deleted_there": 1}
    assert desk.lead(lead_id)["name"] == "Ana Souza"
    assert desk.link(lead_id)["state"] == "deleted"
    (conflict,) = desk.conflicts
    assert (conflict["kind"], conflict["winner"]) == ("deleted", "theirs")
    desk.edit_lead(lead_id, stage="qualified")
    desk.sync(after_minutes=24 * 60)
    assert desk.crm.leads == []
    assert desk.link(lead_id)["state"] == "deleted"
    assert len(desk.conflicts) == 1
    decide(desk, Side.OURS)
    assert desk.sync().inserted == 1
    (made,) = desk.crm.leads
    assert desk.lead(lead_id)["crm_id"] == made["id"]
    assert made["origin_id"] == str(lead_id)
    (person,) = desk.crm.persons
    assert (made["person_id"], person["name"]) == (person["id"], "Ana Souza")
    desk.sync()
    assert_at_rest(desk)


def test_a_lead_deleted_there_is_found_by_the_daily_reconcile_and_may_stay_so(
    desk: CrmDesk,
) -> None:
    lead_id = desk.add_lead()
    desk.sync()
    desk.crm.delete_lead(remote_id(desk, lead_id))
    desk.sync()
    assert desk.conflicts == [], "no list tells of it"
    assert desk.sync(after_minutes=24 * 60).skipped == {"deleted_there": 1}
    decide(desk, Side.THEIRS)
    desk.edit_lead(lead_id, name="Outro nome")
    desk.sync(after_minutes=24 * 60)
    assert desk.crm.leads == []
    assert desk.link(lead_id)["state"] == "deleted"


def test_a_person_deleted_between_search_and_creation_is_made_anew(desk: CrmDesk) -> None:
    lead_id = desk.add_lead(name="Ana", phone=PHONE)
    person_id = desk.crm.add_person(name="Ana", phones=[PHONE])

    def delete_it(method: str, path: str) -> None:
        if (method, path) == ("GET", f"/api/v2/persons/{person_id}"):
            desk.crm.after_effect = None
            desk.crm.delete_person(person_id)

    desk.crm.after_effect = delete_it
    report = desk.sync()
    assert report.skipped == {"waiting": 1}
    assert "será" in tell(report) or "serão refeitos" in tell(report)
    assert desk.sync().inserted == 1
    (person,) = desk.crm.persons
    assert person["id"] != person_id
    assert desk.remote_lead(lead_id)["person_id"] == person["id"]
    desk.sync()
    assert_at_rest(desk)


def test_an_organization_deleted_between_search_and_creation_is_made_anew(desk: CrmDesk) -> None:
    lead_id = desk.add_lead(name="Ana", company="Padaria Sol")
    organization_id = desk.crm.add_organization(name="Padaria Sol")

    def delete_it(method: str, path: str) -> None:
        if (method, path) == ("GET", f"/api/v2/organizations/{organization_id}"):
            desk.crm.after_effect = None
            desk.crm.delete_organization(organization_id)

    desk.crm.after_effect = delete_it
    for _ in range(3):
        desk.sync()
    (organization,) = desk.crm.organizations
    assert organization["id"] != organization_id
    assert desk.remote_lead(lead_id)["organization_id"] == organization["id"]
    assert len(desk.crm.persons) == len(desk.crm.leads) == 1
    assert_at_rest(desk)


def test_a_person_deleted_there_leaves_the_contact_here_as_it_is(desk: CrmDesk) -> None:
    lead_id = desk.add_lead(name="Ana", email="ana@example.com", company="Padaria Sol")
    desk.sync()
    desk.crm.delete_person(desk.link(lead_id)["person_id"])
    desk.crm.label_lead(remote_id(desk, lead_id), "Hot")
    desk.sync(after_minutes=24 * 60)
    lead = desk.lead(lead_id)
    assert (lead["name"], lead["email"], lead["stage"]) == ("Ana", "ana@example.com", "qualified")
    desk.edit_lead(lead_id, name="Ana Souza", stage="contacted")
    desk.sync()
    assert desk.lead(lead_id)["name"] == "Ana Souza"
    desk.sync()
    assert_at_rest(desk)


def test_an_organization_deleted_there_empties_nothing_here(desk: CrmDesk) -> None:
    lead_id = desk.add_lead(company="Padaria Sol")
    desk.sync()
    desk.crm.delete_organization(desk.link(lead_id)["organization_id"])
    desk.sync(after_minutes=24 * 60)
    assert desk.lead(lead_id)["company"] == "Padaria Sol"
    desk.sync()
    # The company is ours to say: it is there again.
    assert [one["name"] for one in desk.crm.organizations] == ["Padaria Sol"]
    assert_at_rest(desk)


# --- one phone, one id, one of two --------------------------------------------------------------


@pytest.mark.parametrize("forms", [(PHONE, PHONE), ("+551160001234", "+5511960001234")])
def test_two_leads_with_one_phone_are_two_leads_of_one_person(
    desk: CrmDesk, forms: tuple[str, str]
) -> None:
    first, second = (desk.add_lead(name="Ana", phone=phone) for phone in forms)
    desk.crm.account.index.lag = timedelta(hours=1)
    assert desk.sync().inserted == 2
    (person,) = desk.crm.persons
    assert {lead["person_id"] for lead in desk.crm.leads} == {person["id"]}
    assert {lead["origin_id"] for lead in desk.crm.leads} == {str(first), str(second)}
    desk.sync()
    assert len(desk.rows("select id from leads")) == 2
    assert_at_rest(desk)


def test_what_a_salesperson_writes_of_one_person_comes_to_both_its_leads(desk: CrmDesk) -> None:
    first, second = (desk.add_lead(name="Ana", phone=PHONE) for _ in range(2))
    desk.sync()
    desk.crm.edit_person(desk.link(first)["person_id"], name="Ana Souza")
    assert desk.sync().updated == 2
    assert {desk.lead(each)["name"] for each in (first, second)} == {"Ana Souza"}
    desk.sync()
    assert_at_rest(desk)


def test_a_crm_id_of_before_this_sync_is_adopted(desk: CrmDesk) -> None:
    person_id = desk.crm.add_person(name="Ana", phones=["11 90000-1234"])
    there = desk.crm.add_lead(title="Lead", person_id=person_id)
    desk.crm.label_lead(there, "Hot")
    deal_id = desk.crm.add_deal(title="Negócio", person_id=person_id)
    lead_id = desk.add_lead(name="Ana", phone=PHONE, crm_id=there)
    of_deal = desk.add_lead(name="Ana", phone=PHONE, crm_id=str(deal_id))
    report = desk.sync()
    assert report.inserted == 2
    assert desk.lead(lead_id)["stage"] == "qualified"
    assert desk.link(lead_id)["person_id"] == person_id
    assert desk.link(of_deal)["deal_id"] == deal_id
    assert (len(desk.crm.leads), len(desk.crm.persons), len(desk.crm.deals)) == (1, 1, 1)
    desk.sync()
    assert_at_rest(desk)


@pytest.mark.parametrize(
    "crm_id", ["0d7b1a58-0000-4000-8000-000000000000", "987654", "nenhum", "12 34", "0", "-5"]
)
def test_a_crm_id_that_nothing_there_has_is_told_once(desk: CrmDesk, crm_id: str) -> None:
    lead_id = desk.add_lead(crm_id=crm_id)
    report = desk.sync()
    assert report.skipped == {"deleted_there": 1}
    assert [conflict["kind"] for conflict in desk.conflicts] == ["deleted"]
    assert desk.crm.leads == []
    assert desk.lead(lead_id)["crm_id"] == crm_id
    assert_at_rest(desk)
    decide(desk, Side.OURS)
    assert desk.sync().inserted == 1
    assert desk.lead(lead_id)["crm_id"] == desk.crm.leads[0]["id"]


def test_of_two_leads_with_one_crm_id_the_older_is_linked_and_the_other_told(
    desk: CrmDesk,
) -> None:
    there = desk.crm.add_lead(title="Lead", person_id=desk.crm.add_person(name="Ana"))
    older = desk.add_lead(name="Ana", crm_id=there, created_at=desk.clock() - timedelta(days=2))
    newer = desk.add_lead(name="Ana Souza", crm_id=there)
    report = desk.sync()
    assert (report.inserted, report.skipped) == (1, {"same_crm_id": 1})
    assert "crm_id de outro lead" in tell(report)
    assert desk.link(older)["state"] == "linked"
    assert desk.rows("select * from pipeline.crm_links where lead_id = %(id)s", {"id": newer}) == []
    assert len(desk.crm.leads) == 1
    desk.sync()
    assert_at_rest(desk)


# --- archived -------------------------------------------------------------------------------------


def test_an_archived_lead_is_untouched_and_what_was_edited_waits(desk: CrmDesk) -> None:
    lead_id = desk.add_lead(name="Ana", company="Padaria Sol")
    desk.sync()
    there = remote_id(desk, lead_id)
    desk.crm.archive_lead(there)
    before = state_there(desk)
    desk.edit_lead(lead_id, name="Ana Souza", stage="qualified", notes="Nota nova", company="Lua")
    calls = calls_of(desk, lambda: (desk.sync(), desk.sync(), desk.sync(after_minutes=24 * 60)))
    assert writes_of(calls) == []
    assert state_there(desk) == before
    assert desk.link(lead_id)["is_archived"]
    assert desk.lead(lead_id)["name"] == "Ana Souza"
    desk.crm.archive_lead(there, is_archived=False)
    desk.sync()
    assert desk.person(lead_id)["name"] == "Ana Souza"
    assert [one["name"] for one in desk.crm.organizations] == ["Padaria Sol", "Lua"]
    assert [note["content"] for note in desk.crm.notes] == ["Nota nova"]
    labels = {row["id"]: row["name"] for row in desk.crm.account.labels.values()}
    assert [labels[one] for one in desk.remote_lead(lead_id)["label_ids"]] == ["Hot"]
    desk.sync()
    assert_at_rest(desk)


def test_what_a_salesperson_writes_of_an_archived_lead_waits_too(desk: CrmDesk) -> None:
    lead_id = desk.add_lead(name="Ana")
    desk.sync()
    there = remote_id(desk, lead_id)
    desk.crm.label_lead(there, "Hot")
    desk.crm.archive_lead(there)
    desk.sync(after_minutes=24 * 60)
    desk.crm.edit_person(desk.link(lead_id)["person_id"], name="Ana Souza")
    desk.sync()
    assert (desk.lead(lead_id)["name"], desk.lead(lead_id)["stage"]) == ("Ana", "new")
    desk.crm.archive_lead(there, is_archived=False)
    desk.sync(after_minutes=24 * 60)
    assert (desk.lead(lead_id)["name"], desk.lead(lead_id)["stage"]) == ("Ana Souza", "qualified")


def test_an_archived_deal_is_untouched(desk: CrmDesk) -> None:
    lead_id = desk.add_lead(name="Ana")
    desk.sync()
    deal_id = desk.crm.convert_lead(remote_id(desk, lead_id))
    desk.sync()
    desk.crm.edit_deal(deal_id, is_archived=True)
    desk.edit_lead(lead_id, name="Ana Souza", company="Padaria Sol")
    calls = calls_of(desk, lambda: (desk.sync(), desk.sync(after_minutes=24 * 60)))
    assert writes_of(calls) == []
    assert desk.link(lead_id)["state"] == "linked"
    desk.crm.edit_deal(deal_id, is_archived=False)
    desk.sync()
    assert desk.person(lead_id)["name"] == "Ana Souza"
    assert [one["name"] for one in desk.crm.organizations] == ["Padaria Sol"]


# --- anonymised -----------------------------------------------------------------------------------


def test_an_anonymised_lead_is_not_pushed(desk: CrmDesk) -> None:
    lead_id = desk.add_lead()
    anonymize(desk, lead_id)
    report = desk.sync()
    assert report.received == 0
    assert desk.crm.leads == desk.crm.persons == []


@pytest.mark.parametrize("imports", [False, True])
@pytest.mark.parametrize("by_field", [True, False])
def test_an_anonymised_lead_is_not_taken_in_again(
    desk: CrmDesk, imports: bool, by_field: bool
) -> None:
    desk.imports = imports
    if not by_field:
        desk.crm.fail(PipedriveFault.PLAN_LIMIT, times=9, method="POST", path="/dealFields")
    lead_id = desk.add_lead(name="Ana")
    desk.sync()
    there, person_id = remote_id(desk, lead_id), desk.link(lead_id)["person_id"]
    anonymize(desk, lead_id)
    desk.crm.edit_person(person_id, name="Ana Souza")
    desk.crm.label_lead(there, "Hot")
    report = desk.sync()
    assert "a eliminação foi pedida" in tell(report)
    assert tasks(desk) == [f"lead:{there}", f"person:{person_id}"]
    # From here on nobody touches them, until the erasure is confirmed.
    desk.crm.label_lead(there, "Warm")
    report = desk.sync()
    assert report.skipped.get("erasure_pending", 0) >= 1
    desk.sync(after_minutes=24 * 60)
    (row,) = desk.rows("select name, crm_id, stage::text from leads")
    assert (row["name"], row["crm_id"], row["stage"]) == ("Anonimizado", None, "new")
    assert desk.rows("select * from pipeline.crm_links") == []
    assert len(tasks(desk)) == 2


def test_an_anonymised_lead_whose_deal_still_names_it_is_asked_to_be_erased(desk: CrmDesk) -> None:
    lead_id = desk.add_lead()
    desk.sync()
    deal_id = desk.crm.convert_lead(remote_id(desk, lead_id))
    desk.sync()
    person_id = desk.link(lead_id)["person_id"]
    anonymize(desk, lead_id)
    desk.crm.edit_deal(deal_id, status="won")
    desk.imports = True
    desk.sync()
    assert tasks(desk) == [f"deal:{deal_id}", f"person:{person_id}"]


def test_a_lead_anonymised_while_it_is_made_there_is_erased_again(desk: CrmDesk) -> None:
    lead_id = desk.add_lead()

    def anonymize_it(method: str, path: str) -> None:
        if (method, path) == ("POST", "/api/v2/persons"):
            desk.crm.after_effect = None
            anonymize(desk, lead_id)

    desk.crm.after_effect = anonymize_it
    report = desk.sync()
    assert report.skipped == {"anonymized": 1}
    assert desk.crm.leads == []
    (person,) = desk.crm.persons
    assert tasks(desk) == [f"person:{person['id']}"]
    assert desk.rows("select * from pipeline.sync_outbox") == []


# --- born there -----------------------------------------------------------------------------------


def test_leads_born_there_are_only_taken_in_where_that_is_wanted(desk: CrmDesk) -> None:
    person_id = desk.crm.add_person(name="Ana", phones=["11 90000-1234"])
    there = desk.crm.add_lead(title="Lead", person_id=person_id)
    desk.sync()
    assert desk.rows("select * from leads") == []
    desk.imports = True
    desk.crm.label_lead(there, "Hot")
    assert desk.sync().inserted == 1
    (lead,) = desk.rows("select *, stage::text as stage from leads")
    assert (lead["name"], lead["phone"], lead["stage"]) == ("Ana", PHONE, "qualified")
    assert (lead["source"], lead["crm_id"]) == ("pipedrive", there)
    desk.sync()
    assert_at_rest(desk)
    assert len(desk.crm.leads) == 1


def test_what_a_lead_of_ours_must_have_is_asked_of_one_born_there(desk: CrmDesk) -> None:
    desk.imports = True
    firm = desk.crm.add_organization(name="Padaria Sol")
    desk.crm.add_lead(title="Sem pessoa", organization_id=firm)
    desk.crm.add_lead(title="Sem fone", person_id=desk.crm.add_person(name="Bia"))
    bad = desk.crm.add_person(name="Caio", phones=["ramal 12"])
    desk.crm.add_lead(title="Fone ruim", person_id=bad)
    gone = desk.crm.add_person(name="Davi", phones=["11 90000-0004"])
    desk.crm.add_lead(title="Pessoa apagada", person_id=gone, organization_id=firm)
    desk.crm.delete_person(gone)
    report = desk.sync()
    assert report.inserted == 0
    assert report.skipped == {"no_person": 2, "no_phone": 2}
    assert desk.rows("select * from leads") == []
    # Once the phone is there it is taken in, though the lead itself did not change.
    desk.crm.edit_person(bad, phones=["11 90000-0003"])


def test_a_lead_that_gets_its_phone_later_is_taken_in_then(desk: CrmDesk) -> None:
    desk.imports = True
    person_id = desk.crm.add_person(name="Bia")
    there = desk.crm.add_lead(title="Sem fone", person_id=person_id)
    assert desk.sync().skipped == {"no_phone": 1}
    desk.crm.edit_person(person_id, phones=["11 90000-0003"])
    desk.crm.edit_lead(there, title="Com fone")
    assert desk.sync().inserted == 1


def test_what_is_being_erased_is_not_taken_in(desk: CrmDesk) -> None:
    desk.imports = True
    person_id = desk.crm.add_person(name="Ana", phones=["11 90000-1234"])
    there = desk.crm.add_lead(title="Lead", person_id=person_id)
    other = desk.crm.add_person(name="Bia", phones=["11 90000-4321"])
    desk.crm.add_lead(title="Lead", person_id=other)
    open_task(desk, f"lead:{there}")
    open_task(desk, f"person:{other}")
    report = desk.sync()
    assert report.skipped == {"erasure_pending": 2}
    assert desk.rows("select * from leads") == []


def test_a_person_that_is_being_erased_is_not_used_for_a_new_lead(desk: CrmDesk) -> None:
    going = desk.crm.add_person(name="Ana", phones=[PHONE])
    open_task(desk, f"person:{going}")
    lead_id = desk.add_lead(name="Ana", phone=PHONE)
    desk.sync()
    assert desk.link(lead_id)["person_id"] != going


def test_a_crm_id_that_is_being_erased_is_left(desk: CrmDesk) -> None:
    there = desk.crm.add_lead(title="Lead", person_id=desk.crm.add_person(name="Ana"))
    lead_id = desk.add_lead(crm_id=there)
    open_task(desk, f"lead:{there}")
    report = desk.sync()
    # Once as a change there, once by the id that is here.
    assert set(report.skipped) == {"erasure_pending"}
    assert desk.lead(lead_id)["crm_id"] == there
    assert desk.conflicts == []


def test_a_record_there_that_names_a_lead_that_nobody_knows_is_told(desk: CrmDesk) -> None:
    desk.imports = True
    person_id = desk.crm.add_person(name="Ana", phones=[PHONE])
    desk.crm.account.create(
        Kind.LEAD,
        {"title": "Lead", "person_id": person_id, "origin_id": str(uuid4())},
        Source.APP,
    )
    report = desk.sync()
    assert "id de um lead que não existe aqui" in tell(report)
    assert desk.rows("select * from leads") == []


# --- webhooks -------------------------------------------------------------------------------------


def test_webhooks_that_are_none_are_told_and_dropped(
    database: TestDatabase, tmp_path: Path
) -> None:
    with open_desk(database, tmp_path) as desk:
        lead_id = desk.add_lead(name="Ana")
        desk.sync()
        desk.sync(after_minutes=60)
        person_id = desk.link(lead_id)["person_id"]
        merge = {"action": "delete", "entity": "person", "entity_id": "x", "merged_to_id": "1"}
        for number, content in enumerate(
            (
                b"",
                b"<html>",
                b"[]",
                b'{"meta": []}',
                b"[" * 100_000,
                b'{"meta": {}}' + b" " * (1 << 20),
                json.dumps({"meta": merge}).encode(),
                # These are events, of which nothing is to be done.
                b'{"meta": {"action": "change", "entity": "person"}}',
                json.dumps({"meta": merge | {"entity": "pipeline"}}).encode(),
                json.dumps({"meta": merge | {"entity_id": 987, "merged_to_id": 988}}).encode(),
            )
        ):
            name = f"pipedrive-{number:016x}.json"
            (tmp_path / name).write_bytes(content)
        before = both_states(desk)
        report = desk.sync(after_minutes=60)
        assert "7" in next(note for note in report.notes if "avisos do Pipedrive" in note)
        assert list(tmp_path.rglob("pipedrive-*")) == []
        here, there = both_states(desk)
        for state in (here, before[0]):
            del state["pipeline.watermarks"]
        assert (here, there) == before
        assert desk.link(lead_id)["person_id"] == person_id
        assert_valid_requests(desk.crm)
