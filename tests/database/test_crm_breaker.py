"""The sync with Pipedrive asks before it changes unusually much (S11), and then does just that."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from gatte_pipelines.crm.exchange import Direction
from gatte_pipelines.crm.failures import AccessRefusedError
from gatte_pipelines.errors import ConfigurationError
from gatte_pipelines.run_report import DRY_RUN, Outcome, RunReport
from gatte_pipelines.sandbox.pipedrive import PipedriveFault
from tests.crm import CrmDesk, open_desk
from tests.crm_checks import (
    assert_at_rest,
    assert_valid_requests,
    both_states,
    calls_of,
    writes_of,
)
from tests.postgres import TestDatabase

# One more than may be changed without asking, where they are more than a fifth.
MANY, FEW = 26, 25


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


def plan_of(report: RunReport) -> UUID:
    """The plan that a run asks to be approved, by its note."""
    (note,) = [note for note in report.notes if note.startswith("plano ")]
    return UUID(note.removeprefix("plano ").partition(":")[0])


def plans(desk: CrmDesk) -> list[dict[str, Any]]:
    return desk.rows("select * from pipeline.plans order by made_at")


def linked(desk: CrmDesk, count: int, **values: Any) -> list[UUID]:
    """Leads that both sides have, made by as many runs as that takes without asking."""
    leads: list[UUID] = []
    while len(leads) < count:
        some = [desk.add_lead(**values) for _ in range(min(FEW, count - len(leads)))]
        assert desk.sync().inserted == len(some)
        leads += some
    desk.sync()
    return leads


def relabel(desk: CrmDesk, leads: list[UUID], label: str = "Hot") -> None:
    for lead_id in leads:
        desk.crm.label_lead(str(desk.link(lead_id)["remote_lead_id"]), label)


# --- each way of changing much ----------------------------------------------------------------


def much_to_push(desk: CrmDesk) -> None:
    for _ in range(MANY):
        desk.add_lead(email=f"{uuid4()}@example.com", notes="Nota")


def much_to_pull(desk: CrmDesk) -> None:
    relabel(desk, linked(desk, MANY))


def much_missing(desk: CrmDesk) -> None:
    for lead_id in linked(desk, MANY):
        desk.crm.delete_lead(str(desk.link(lead_id)["remote_lead_id"]))
    desk.clock.pass_by(hours=24)


def much_to_import(desk: CrmDesk) -> None:
    desk.imports = True
    for number in range(MANY):
        person_id = desk.crm.add_person(name=f"Ana {number}", phones=[f"11 90000-{number:04}"])
        desk.crm.add_lead(title="Lead", person_id=person_id)


def much_to_join(desk: CrmDesk) -> None:
    leads = linked(desk, 2 * MANY)
    for kept, lost in zip(leads[:MANY], leads[MANY:], strict=True):
        desk.crm.merge_persons(desk.link(kept)["person_id"], desk.link(lost)["person_id"])


def much_to_adopt(desk: CrmDesk) -> None:
    for number in range(MANY):
        person_id = desk.crm.add_person(name=f"Ana {number}", phones=[f"11 90000-{number:04}"])
        there = desk.crm.add_lead(title="Lead", person_id=person_id)
        desk.add_lead(name=f"Ana {number}", phone=f"+551190000{number:04}", crm_id=there)


MUCH: dict[str, tuple[Callable[[CrmDesk], None], str]] = {
    "push": (much_to_push, "leads novos no Pipedrive: 26"),
    "pull": (much_to_pull, "leads mudados aqui: 26"),
    "delete": (much_missing, "leads não encontrados no Pipedrive: 26"),
    "import": (much_to_import, "leads novos aqui: 26"),
    "join": (much_to_join, "leads reunidos a outro: 26"),
    "adopt": (much_to_adopt, "leads ligados ao registro que já têm no Pipedrive: 26"),
}


@pytest.mark.parametrize("way", MUCH)
def test_a_mass_change_waits_for_approval_and_then_is_what_was_approved(
    desk: CrmDesk, way: str
) -> None:
    prepare, says = MUCH[way]
    prepare(desk)
    before = both_states(desk)
    documents: dict[str, Any] = {}
    calls = calls_of(desk, lambda: desk.sync(documents=documents))
    report = desk.reports[-1]
    assert (report.outcome, report.reason) == (Outcome.NEEDS_APPROVAL, "many_changes")
    assert set(report.skipped) == {"many_changes"}
    # Nothing is changed on either side, but our field there is made with the first account.
    assert set(writes_of(calls)) <= {"POST /api/v2/dealFields"}
    here, there = both_states(desk)
    assert here == before[0]
    assert {**there, "fields": []} == {**before[1], "fields": []}
    (note,) = [note for note in report.notes if note.startswith("plano ")]
    assert says in note
    (plan,) = plans(desk)
    assert plan["plan_id"] == plan_of(report)
    assert plan["contents"][way]["count"] == MANY
    assert documents["diferencas"][1]
    # A second run asks again, and still does nothing.
    assert desk.sync().outcome is Outcome.NEEDS_APPROVAL
    assert both_states(desk) == (here, there)

    done = desk.sync(approve=plan["plan_id"])
    assert done.outcome is Outcome.COMPLETED
    assert done.inserted + done.updated + done.duplicate + sum(done.skipped.values()) >= MANY
    assert (done.skipped.keys() & {"many_changes", "waiting", "refused"}) == set()
    assert [row["executed_at"] is not None for row in plans(desk)] == [True, False]
    if way == "join":
        assert len(desk.rows("select id from leads")) == MANY
    elif way == "delete":
        assert {row["kind"] for row in desk.conflicts} == {"deleted"}
        assert len(desk.conflicts) == MANY
    else:
        assert len(desk.rows("select id from leads")) == len(desk.crm.leads) == MANY
    with pytest.raises(ConfigurationError, match="carried out already"):
        desk.sync(approve=plan["plan_id"])
    desk.sync()
    desk.sync()
    assert_at_rest(desk)


def test_merges_that_webhooks_tell_wait_for_approval_with_their_webhooks(
    database: TestDatabase, tmp_path: Path
) -> None:
    with open_desk(database, tmp_path) as desk:
        desk.crm.account.rules.merge_touches_leads = False  # then no list shows them
        much_to_join(desk)
        told = [path for path in tmp_path.rglob("pipedrive-*") if b"merged_to" in path.read_bytes()]
        before = both_states(desk)
        report = desk.sync()
        assert report.outcome is Outcome.NEEDS_APPROVAL
        assert both_states(desk) == before
        assert [path for path in told if not path.exists()] == []
        desk.sync(approve=plan_of(report))
        assert len(desk.rows("select id from leads")) == MANY
        assert [path for path in told if path.exists()] == []
        desk.sync()
        desk.sync()
        assert_at_rest(desk)
        assert_valid_requests(desk.crm)


def test_as_many_as_a_person_changes_in_a_morning_go_through(desk: CrmDesk) -> None:
    leads = linked(desk, FEW)
    assert desk.reports[0].inserted == FEW
    relabel(desk, leads)
    assert desk.sync().updated == FEW
    assert plans(desk) == []


def test_many_that_are_few_among_all_go_through(desk: CrmDesk) -> None:
    leads = linked(desk, 5 * MANY)
    relabel(desk, leads[:MANY])
    assert desk.sync().updated == MANY
    assert plans(desk) == []


def test_what_would_change_nothing_here_is_no_mass_change(desk: CrmDesk) -> None:
    leads = linked(desk, MANY)
    relabel(desk, leads, "Cold")  # a label that means nothing to us
    for lead_id in leads:
        desk.edit_lead(lead_id, company="Padaria Sol")
    assert desk.sync().updated == MANY
    assert plans(desk) == []


# --- approval -------------------------------------------------------------------------------------


def test_what_else_is_to_be_done_is_of_the_plan_too(desk: CrmDesk) -> None:
    (other,) = linked(desk, 1)
    relabel(desk, [other])
    much_to_push(desk)
    report = desk.sync()
    assert report.outcome is Outcome.NEEDS_APPROVAL
    assert plans(desk)[-1]["contents"]["pull"]["count"] == 1
    done = desk.sync(approve=plan_of(report))
    assert (done.inserted, done.updated) == (MANY, 1)
    assert desk.lead(other)["stage"] == "qualified"


@pytest.mark.parametrize("other", ["one more here", "one less", "one more there"])
def test_a_plan_whose_rows_changed_is_refused(desk: CrmDesk, other: str) -> None:
    (first,) = linked(desk, 1)
    leads = [desk.add_lead() for _ in range(MANY)]
    report = desk.sync()
    if other == "one more here":
        desk.add_lead()
    elif other == "one less":
        desk.execute("delete from leads where id = %(id)s", {"id": leads[0]})
    else:
        relabel(desk, [first])
    before = both_states(desk)
    with pytest.raises(ConfigurationError, match="changed since"):
        desk.sync(approve=plan_of(report))
    assert both_states(desk) == before
    report = desk.sync()
    if report.outcome is Outcome.NEEDS_APPROVAL:
        report = desk.sync(approve=plan_of(report))
    assert (report.outcome, report.inserted >= FEW) == (Outcome.COMPLETED, True)


def test_a_plan_that_is_unknown_expired_or_of_another_pipeline_is_refused(desk: CrmDesk) -> None:
    much_to_push(desk)
    plan_id = plan_of(desk.sync())
    with pytest.raises(ConfigurationError, match="there is no plan"):
        desk.sync(approve=uuid4())
    desk.execute("update pipeline.plans set pipeline = 'lgpd_retention'")
    with pytest.raises(ConfigurationError, match="is of lgpd_retention"):
        desk.sync(approve=plan_id)
    desk.execute("update pipeline.plans set pipeline = 'crm_sync'")
    with pytest.raises(ConfigurationError, match="expired"):
        desk.sync(approve=plan_id, after_minutes=8 * 24 * 60)
    assert desk.crm.leads == []


def test_a_plan_to_push_only_is_carried_out_as_that_and_marked(desk: CrmDesk) -> None:
    much_to_push(desk)
    report = desk.sync(direction=Direction.PUSH)
    done = desk.sync(direction=Direction.PUSH, approve=plan_of(report))
    assert done.inserted == MANY
    assert plans(desk)[0]["executed_at"] is not None


# What ends a run in the middle of an approved plan: a token withdrawn after so many answers.
KILLS = {
    "push": ("POST", ("/persons$", "/leads$", "/notes$")),
    "pull": (None, ("/leads", "/persons")),
    "delete": ("GET", ("/leads/[0-9a-f]", "/deals$")),
    "import": ("GET", ("/persons/[0-9]",)),
    "adopt": ("GET", ("/leads/[0-9a-f]", "/persons/[0-9]")),
}


@pytest.mark.long
@pytest.mark.parametrize(
    ("way", "path"), [(way, path) for way, (_, paths) in KILLS.items() for path in paths]
)
def test_an_approved_run_that_was_killed_goes_on_under_its_id(
    desk: CrmDesk, way: str, path: str
) -> None:
    if way == "pull":
        # Both ways, so that there is a call for each lead in the middle.
        leads = linked(desk, MANY)
        relabel(desk, leads)
        for lead_id in leads:
            desk.edit_lead(lead_id, name=f"Nome {lead_id.hex[:6]}")
    else:
        MUCH[way][0](desk)
    plan_id = plan_of(desk.sync())
    kills = 0
    for skip in (3, 5, 0, 4):
        method = KILLS[way][0] or ("PATCH" if path == "/persons" else "GET")
        desk.crm.fail(PipedriveFault.UNAUTHORIZED, method=method, path=path, skip=skip)
        try:
            report = desk.sync(approve=plan_id)
        except AccessRefusedError:
            kills += 1
        else:
            break
    else:
        report = desk.sync(approve=plan_id)
    assert kills >= 1
    assert report.outcome is Outcome.COMPLETED
    assert plans(desk)[0]["executed_at"] is not None
    for _ in range(3):
        assert desk.sync().outcome is not Outcome.NEEDS_APPROVAL
    if way == "delete":
        assert len(desk.conflicts) == MANY
    else:
        leads_here = desk.rows("select id from leads")
        assert len(leads_here) == len(desk.crm.leads) == len(desk.crm.persons) == MANY
        assert {desk.link(row["id"])["state"] for row in leads_here} == {"linked"}
    assert_at_rest(desk)


def test_an_approved_run_that_meets_the_end_of_the_budget_goes_on_the_next_day(
    desk: CrmDesk,
) -> None:
    desk.crm.limits.daily_budget = 1_500
    much_to_push(desk)
    plan_id = plan_of(desk.sync())
    report = desk.sync(approve=plan_id)
    assert (report.outcome, report.reason) == (Outcome.SKIPPED, "budget")
    assert 0 < report.inserted < MANY
    for _ in range(3):
        if plans(desk)[0]["executed_at"] is None:
            desk.sync(approve=plan_id, after_minutes=24 * 60)
    assert plans(desk)[0]["executed_at"] is not None
    assert len(desk.crm.leads) == MANY


# --- a dry run ------------------------------------------------------------------------------------

VALUES = ("Zulmira", "Quixadense", "90000", "zulmirex", "Xerofila", "Brunegunda")


def test_a_dry_run_changes_nothing_on_either_side_and_tells_no_value(desk: CrmDesk) -> None:
    documents: dict[str, Any] = {}
    desk.imports = True
    first = desk.add_lead(
        name="Zulmira Quixadense",
        phone="+5511900007654",
        email="zulmirex@example.com",
        company="Padaria Xerofila",
        notes="Brunegunda",
    )
    before = both_states(desk)
    calls = calls_of(desk, lambda: desk.sync(dry_run=True, documents=documents))
    assert writes_of(calls) == [], "not even our field"
    assert both_states(desk) == before
    assert desk.reports[-1].skipped == {DRY_RUN: 1}
    desk.sync()
    second, third = desk.add_lead(), desk.add_lead(name="Bia")
    desk.sync()
    person_id = desk.link(first)["person_id"]
    desk.crm.edit_person(person_id, name="Quixadense", emails=["outra.zulmirex@example.com"])
    desk.edit_lead(first, name="Zulmira", company="Xerofila")
    desk.crm.delete_lead(str(desk.link(second)["remote_lead_id"]))
    relabel(desk, [third])
    born = desk.crm.add_person(name="Brunegunda", phones=["11 90000-4321"])
    desk.crm.add_lead(title="Brunegunda", person_id=born)
    desk.add_lead(name="Quixadense Novo")
    desk.clock.pass_by(hours=24)
    before = both_states(desk)
    calls = calls_of(desk, lambda: desk.sync(dry_run=True, documents=documents))
    report = desk.reports[-1]
    assert writes_of(calls) == []
    assert both_states(desk) == before
    assert (report.outcome, report.reason) == (Outcome.COMPLETED, DRY_RUN)
    assert report.skipped == {DRY_RUN: report.received}
    title, rows = documents["diferencas"]
    table = {row["campo"]: row for row in rows}
    assert title == "O que mudaria"
    assert table["nome"] == {"campo": "nome", "aqui": 0, "no Pipedrive": 1, "conflitos": 1}
    assert table["e-mail"]["aqui"] == 1
    assert table["etapa"]["aqui"] == 1
    assert table["empresa"]["no Pipedrive"] == 1
    assert table["leads novos no Pipedrive"]["no Pipedrive"] == 1
    assert table["leads novos aqui"]["aqui"] == 1
    assert table["leads não encontrados no Pipedrive"]["conflitos"] == 1
    told = f"{documents} {report.to_json().decode()} {report.summary_pt()} {plans(desk)}"
    assert [value for value in VALUES if value in told] == []
    # What it said is what is then done, by its plan or without.
    done = desk.sync(approve=plan_of(report))
    assert (done.inserted, done.updated, done.skipped) == (2, 2, {"deleted_there": 1})


def test_a_dry_run_of_nothing_asks_for_nothing(desk: CrmDesk) -> None:
    linked(desk, 1)
    desk.clock.pass_by(hours=2)
    desk.sync()
    report = desk.sync(dry_run=True, after_minutes=60)
    assert (report.received, report.reason) == (0, DRY_RUN)
    assert plans(desk) == []


def test_a_dry_run_holds_no_watermark_back(desk: CrmDesk) -> None:
    (lead_id,) = linked(desk, 1)
    relabel(desk, [lead_id])
    desk.sync(dry_run=True)
    desk.clock.pass_by(hours=3)
    assert desk.sync().updated == 1
    assert desk.lead(lead_id)["stage"] == "qualified"
    assert desk.clock() > desk.reports[0].as_of + timedelta(hours=3)
