"""The sync with Pipedrive, over real HTTP to the stand-in: what both sides hold in the end."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from gatte_pipelines.sandbox.pipedrive import PipedriveFault
from tests.crm import CrmDesk, open_desk
from tests.postgres import TestDatabase


@pytest.fixture
def desk(database: TestDatabase) -> Iterator[CrmDesk]:
    """Both sides, without webhooks."""
    with open_desk(database) as opened:
        yield opened


def test_a_new_lead_is_there_once_with_its_person_organization_and_note(desk: CrmDesk) -> None:
    lead_id = desk.add_lead(
        name="Ana Souza",
        phone="+5511900000071",
        email="ana@example.com",
        company="Padaria Sol",
        notes="Quer falar à tarde",
    )
    report = desk.sync()
    assert (report.received, report.inserted) == (1, 1)
    again = desk.sync()
    assert (again.received, again.outcome.value) == (1, "completed")
    (lead,) = desk.crm.leads
    assert lead["origin_id"] == str(lead_id)
    assert desk.lead(lead_id)["crm_id"] == lead["id"]
    assert desk.person(lead_id)["name"] == "Ana Souza"
    assert [one["name"] for one in desk.crm.organizations] == ["Padaria Sol"]
    assert [note["content"] for note in desk.crm.notes] == ["Quer falar à tarde"]
    third = desk.sync()
    assert third.duplicate == third.received
    assert len(desk.crm.leads) == len(desk.crm.persons) == len(desk.crm.notes) == 1


def test_edits_of_different_fields_both_survive(desk: CrmDesk) -> None:
    lead_id = desk.add_lead(name="Ana", email="ana@example.com")
    desk.sync()
    desk.edit_lead(lead_id, name="Ana Souza")
    desk.crm.edit_person(desk.link(lead_id)["person_id"], emails=["outra@example.com"])
    desk.crm.label_lead(str(desk.link(lead_id)["remote_lead_id"]), "Hot")
    report = desk.sync()
    assert report.updated == 1
    lead, person = desk.lead(lead_id), desk.person(lead_id)
    assert (lead["name"], lead["email"], lead["stage"]) == (
        "Ana Souza",
        "outra@example.com",
        "qualified",
    )
    assert person["name"] == "Ana Souza"
    assert desk.conflicts == []


def test_both_change_one_field_and_the_owner_wins_and_a_conflict_keeps_the_other(
    desk: CrmDesk,
) -> None:
    lead_id = desk.add_lead(name="Ana")
    desk.sync()
    desk.edit_lead(lead_id, name="Ana Souza")
    desk.crm.edit_person(desk.link(lead_id)["person_id"], name="Ana Maria")
    desk.sync()
    (conflict,) = desk.conflicts
    assert (conflict["kind"], conflict["field"], conflict["winner"]) == (
        "both_changed",
        "name",
        "ours",
    )
    assert (conflict["our_value"], conflict["their_value"]) == ("Ana Souza", "Ana Maria")
    assert desk.lead(lead_id)["name"] == desk.person(lead_id)["name"] == "Ana Souza"


def test_a_create_that_times_out_after_its_effect_makes_one_lead(desk: CrmDesk) -> None:
    for path in ("/leads", "/persons", "/organizations", "/notes"):
        desk.crm.fail(PipedriveFault.TIMEOUT_AFTER, method="POST", path=path)
    desk.crm.account.index.lag = timedelta(minutes=3)
    lead_id = desk.add_lead(email="ana@example.com", company="Padaria Sol", notes="Olá")
    for _ in range(4):
        desk.sync()
    assert len(desk.crm.leads) == len(desk.crm.persons) == 1
    assert len(desk.crm.organizations) == len(desk.crm.notes) == 1
    assert desk.lead(lead_id)["crm_id"] == desk.crm.leads[0]["id"]
    assert desk.rows("select * from pipeline.sync_outbox") == []


def test_a_create_that_times_out_before_its_effect_is_made_by_a_later_run(desk: CrmDesk) -> None:
    desk.crm.fail(PipedriveFault.TIMEOUT_BEFORE, method="POST", path="/leads")
    lead_id = desk.add_lead()
    assert desk.sync().skipped == {"waiting": 1}
    assert desk.sync().inserted == 1
    assert len(desk.crm.leads) == 1
    assert desk.lead(lead_id)["crm_id"] == desk.crm.leads[0]["id"]


def test_a_conversion_is_followed_and_the_deal_tells_the_stage(desk: CrmDesk) -> None:
    lead_id = desk.add_lead()
    desk.sync()
    deal_id = desk.crm.convert_lead(str(desk.link(lead_id)["remote_lead_id"]))
    assert deal_id is not None
    desk.sync()
    assert desk.lead(lead_id)["crm_id"] == str(deal_id)
    assert desk.link(lead_id)["deal_id"] == deal_id
    desk.crm.edit_deal(deal_id, status="won")
    desk.sync()
    assert desk.lead(lead_id)["stage"] == "converted"
    desk.edit_lead(lead_id, stage="lost")
    desk.sync()
    assert desk.lead(lead_id)["stage"] == "converted"
    (conflict,) = desk.conflicts
    assert (conflict["kind"], conflict["our_value"]) == ("kept", "lost")
    desk.edit_lead(lead_id, email="nova@example.com")
    desk.sync()
    assert [one["value"] for one in desk.person(lead_id)["emails"]] == ["nova@example.com"]


def test_an_archived_lead_is_left_alone_until_it_comes_back(desk: CrmDesk) -> None:
    lead_id = desk.add_lead(name="Ana")
    desk.sync()
    remote_id = str(desk.link(lead_id)["remote_lead_id"])
    desk.crm.archive_lead(remote_id)
    desk.edit_lead(lead_id, name="Ana Souza", stage="contacted")
    desk.crm.forget_exchanges()
    desk.sync()
    desk.sync()
    assert not [call for call in desk.calls() if not call.startswith("GET")]
    assert desk.link(lead_id)["is_archived"]
    desk.crm.archive_lead(remote_id, is_archived=False)
    desk.sync()
    assert not desk.link(lead_id)["is_archived"]
    assert desk.person(lead_id)["name"] == "Ana Souza"


def test_a_lead_deleted_there_stays_here_and_is_not_made_again(desk: CrmDesk) -> None:
    lead_id = desk.add_lead()
    desk.sync()
    desk.crm.delete_lead(str(desk.link(lead_id)["remote_lead_id"]))
    desk.edit_lead(lead_id, name="Outra")
    report = desk.sync()
    assert report.skipped == {"deleted_there": 1}
    assert desk.link(lead_id)["state"] == "deleted"
    assert [one["kind"] for one in desk.conflicts] == ["deleted"]
    desk.sync()
    assert desk.crm.leads == []


def test_a_deletion_is_found_by_the_daily_reconcile(desk: CrmDesk) -> None:
    lead_id = desk.add_lead()
    kept = desk.add_lead()
    desk.sync()
    desk.crm.delete_lead(str(desk.link(lead_id)["remote_lead_id"]))
    desk.sync(after_minutes=60)
    assert desk.sync(after_minutes=60).received == 0
    report = desk.sync(after_minutes=24 * 60)
    assert report.skipped == {"deleted_there": 1}
    assert desk.link(lead_id)["state"] == "deleted"
    assert desk.link(kept)["state"] == "linked"


@pytest.mark.parametrize("is_told_by_the_lead", [True, False])
def test_persons_merged_there_make_one_lead_here(
    desk: CrmDesk, *, is_told_by_the_lead: bool
) -> None:
    desk.crm.account.rules.merge_touches_leads = is_told_by_the_lead
    first = desk.add_lead(name="Ana", phone="+5511900000071")
    desk.clock.pass_by(minutes=1)
    second = desk.add_lead(name="Ana S", phone="+5511900000072", email="ana@example.com")
    desk.sync()
    persons = [desk.link(first)["person_id"], desk.link(second)["person_id"]]
    desk.crm.merge_persons(*persons)
    desk.sync()
    desk.sync(after_minutes=24 * 60)
    leads = desk.rows("select id, email from leads")
    assert [lead["id"] for lead in leads] == [first]
    assert leads[0]["email"] == "ana@example.com"
    assert desk.link(second)["state"] == "merged"
    assert desk.link(second)["merged_into"] == first


def test_two_leads_of_one_number_have_one_person(desk: CrmDesk) -> None:
    desk.crm.account.index.lag = timedelta(hours=1)
    first = desk.add_lead(phone="+5511900000071", name="Ana")
    second = desk.add_lead(phone="+551190000071", name="Ana")
    third = desk.add_lead(phone="(11) 90000-0071", name="Ana")
    desk.sync()
    persons = {desk.link(lead)["person_id"] for lead in (first, second, third)}
    assert len(persons) == len(desk.crm.persons) == 2


def test_our_own_writes_do_not_come_back_as_changes(desk: CrmDesk) -> None:
    lead_id = desk.add_lead(email="ana@example.com")
    desk.sync()
    desk.edit_lead(lead_id, name="Ana Souza", stage="contacted")
    assert desk.sync().updated == 1
    report = desk.sync()
    assert (report.updated, report.duplicate) == (0, 1)
    desk.sync(after_minutes=60)
    assert desk.sync().received == 0


def test_nothing_to_do_costs_three_calls(desk: CrmDesk) -> None:
    desk.add_lead()
    desk.sync()
    desk.sync(after_minutes=30)
    desk.crm.forget_exchanges()
    report = desk.sync(after_minutes=30)
    assert (report.outcome.value, report.reason) == ("skipped", "nothing_to_do")
    assert len(desk.calls()) == 3


def test_leads_born_there_come_only_where_they_are_wanted(desk: CrmDesk) -> None:
    desk.sync()
    person = desk.crm.add_person(name="Bia", phones=["(11) 90000-0072"])
    desk.crm.add_lead(title="LC Web", person_id=person)
    desk.sync()
    assert desk.rows("select * from leads") == []
    desk.imports = True
    desk.sync(since=desk.clock() - timedelta(hours=1))
    (lead,) = desk.rows("select * from leads")
    assert (lead["name"], lead["phone"], lead["source"]) == ("Bia", "+5511900000072", "pipedrive")
    assert desk.sync().inserted == 0


def test_a_dry_run_shows_fields_and_changes_nothing(desk: CrmDesk) -> None:
    lead_id = desk.add_lead(name="Ana")
    desk.sync()
    desk.edit_lead(lead_id, name="Ana Souza")
    desk.add_lead(name="Bia")
    desk.crm.forget_exchanges()
    documents: dict[str, Any] = {}
    report = desk.sync(dry_run=True, documents=documents)
    assert report.skipped == {"dry_run": 2}
    assert not [call for call in desk.calls() if not call.startswith("GET")]
    title, rows = documents["diferencas"]
    assert {"campo": "nome", "aqui": 0, "no Pipedrive": 1, "conflitos": 0} in rows
    assert "Ana" not in str((title, rows))
