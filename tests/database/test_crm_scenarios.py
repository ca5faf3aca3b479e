"""What random work of both sides brought to light, each told by itself (tests/crm_random.py)."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest

from gatte_pipelines.crm.exchange import Direction
from gatte_pipelines.sandbox.pipedrive import PipedriveFault
from tests.crm import CrmDesk, open_desk
from tests.postgres import TestDatabase

DAY = 24 * 60.0


@pytest.fixture
def desk(database: TestDatabase) -> Iterator[CrmDesk]:
    """Both sides, without webhooks."""
    with open_desk(database) as opened:
        yield opened


def emails_of(desk: CrmDesk, person_id: int) -> list[str]:
    """The addresses of a person there."""
    (row,) = [row for row in desk.crm.persons if row["id"] == person_id]
    return [one["value"] for one in row["emails"]]


def phones_of(desk: CrmDesk, person_id: int) -> list[str]:
    """The numbers of a person there."""
    (row,) = [row for row in desk.crm.persons if row["id"] == person_id]
    return [one["value"] for one in row["phones"]]


def outbox(desk: CrmDesk) -> list[str]:
    """What was begun and did not end."""
    return [row["action"] for row in desk.rows("select action from pipeline.sync_outbox")]


def test_an_organization_renamed_there_comes_with_the_daily_reconcile(desk: CrmDesk) -> None:
    lead_id = desk.add_lead(company="Padaria Sol")
    desk.sync()
    desk.sync()
    desk.crm.edit_organization(desk.link(lead_id)["organization_id"], name="Padaria Lua")
    desk.sync(after_minutes=DAY)
    assert desk.lead(lead_id)["company"] == "Padaria Lua"


def test_a_company_changed_here_tells_that_the_organization_was_renamed(desk: CrmDesk) -> None:
    lead_id = desk.add_lead(company="Padaria Sol")
    desk.sync()
    desk.crm.edit_organization(desk.link(lead_id)["organization_id"], name="Padaria Lua")
    desk.edit_lead(lead_id, company="Padaria Mar")
    desk.sync()
    assert desk.lead(lead_id)["company"] == "Padaria Mar"
    (conflict,) = desk.conflicts
    assert (conflict["our_value"], conflict["their_value"]) == ("Padaria Mar", "Padaria Lua")


def test_a_company_in_upper_case_is_the_same_and_costs_no_change(desk: CrmDesk) -> None:
    desk.add_lead(company="Padaria Sol")
    desk.sync()
    lead_id = desk.add_lead(company="PADARIA SOL")
    desk.crm.forget_exchanges()
    desk.sync()
    assert "PATCH /api/v1/leads/{id}" not in desk.calls()
    assert desk.conflicts == []
    assert desk.lead(lead_id)["company"] == "PADARIA SOL"


def test_what_a_pull_may_not_put_right_there_is_put_right_by_the_next_run_that_may(
    desk: CrmDesk,
) -> None:
    lead_id = desk.add_lead(email="ana@example.com")
    desk.sync()
    person_id = desk.link(lead_id)["person_id"]
    desk.crm.edit_person(person_id, emails=[])
    desk.sync(direction=Direction.PULL)
    assert emails_of(desk, person_id) == []
    for _ in range(4):
        desk.sync(direction=Direction.PULL)
    desk.sync()
    assert emails_of(desk, person_id) == ["ana@example.com"]
    assert desk.conflicts == []


@pytest.mark.parametrize("fault", [PipedriveFault.TIMEOUT_BEFORE, PipedriveFault.PLAN_LIMIT])
def test_what_could_not_be_put_right_there_is_put_right_though_nothing_differs_here(
    desk: CrmDesk, fault: PipedriveFault
) -> None:
    lead_id = desk.add_lead(email="ana@example.com")
    desk.sync()
    person_id = desk.link(lead_id)["person_id"]
    desk.crm.edit_person(person_id, emails=[])
    desk.crm.fail(fault, method="PATCH", path="/persons", times=2)
    desk.sync()
    desk.crm.stop_failing()
    assert emails_of(desk, person_id) == []
    for _ in range(30):
        desk.sync()
    assert emails_of(desk, person_id) == ["ana@example.com"]
    assert outbox(desk) == []


def test_an_edit_of_a_lead_is_taken_though_a_copy_of_it_changed_too(desk: CrmDesk) -> None:
    lead_id = desk.add_lead()
    desk.sync()
    original = desk.remote_lead(lead_id)
    desk.crm.label_lead(original["id"], "Hot")
    desk.crm.add_lead(
        title=original["title"],
        person_id=original["person_id"],
        custom_fields=original["custom_fields"],
    )
    report = desk.sync()
    assert desk.lead(lead_id)["stage"] == "qualified"
    assert desk.lead(lead_id)["crm_id"] == original["id"]
    assert report.skipped == {"copy_there": 1}


@pytest.mark.parametrize("stage", ["lost", "converted"])
def test_a_stage_that_no_label_stands_for_stays_here_until_somebody_says_another(
    desk: CrmDesk, stage: str
) -> None:
    lead_id = desk.add_lead(stage=stage)
    for _ in range(3):
        desk.sync()
    desk.crm.edit_lead(desk.remote_lead(lead_id)["id"], title="Outro título")
    desk.sync()
    assert desk.lead(lead_id)["stage"] == stage
    assert desk.conflicts == []
    desk.crm.label_lead(desk.remote_lead(lead_id)["id"], "Hot")
    desk.sync()
    assert desk.lead(lead_id)["stage"] == "qualified"
    (conflict,) = desk.conflicts
    assert (conflict["kind"], conflict["our_value"]) == ("kept", stage)


def test_a_lead_converted_and_archived_between_two_runs_is_not_called_deleted(
    desk: CrmDesk,
) -> None:
    lead_id = desk.add_lead()
    desk.sync()
    deal_id = desk.crm.convert_lead(desk.remote_lead(lead_id)["id"])
    assert deal_id is not None
    desk.crm.edit_deal(deal_id, is_archived=True)
    desk.sync(after_minutes=DAY)
    link = desk.link(lead_id)
    assert (link["state"], link["deal_id"], link["is_archived"]) == ("linked", deal_id, True)
    assert desk.conflicts == []


def test_a_deal_is_found_by_our_id_where_its_person_is_another_by_now(desk: CrmDesk) -> None:
    lead_id = desk.add_lead()
    desk.sync()
    other = desk.crm.add_person(name="Bia", phones=["+5511900009999"])
    deal_id = desk.crm.convert_lead(desk.remote_lead(lead_id)["id"])
    assert deal_id is not None
    desk.crm.edit_deal(deal_id, person_id=other, is_archived=True)
    desk.sync(after_minutes=DAY)
    assert (desk.link(lead_id)["state"], desk.link(lead_id)["deal_id"]) == ("linked", deal_id)


def test_numbers_emptied_there_come_back_for_both_leads_of_one_person(desk: CrmDesk) -> None:
    first = desk.add_lead(email="ana@example.com", phone="+5511900000071")
    desk.sync()
    second = desk.add_lead(email="ana@example.com", phone="+5511900000072")
    desk.sync()
    desk.sync()
    person_id = desk.link(first)["person_id"]
    assert desk.link(second)["person_id"] == person_id
    desk.crm.edit_person(person_id, phones=[])
    desk.sync()
    assert sorted(phones_of(desk, person_id)) == ["+5511900000071", "+5511900000072"]
    desk.sync()
    assert desk.lead(first)["phone"] == "+5511900000071"
    assert desk.lead(second)["phone"] == "+5511900000072"


def test_a_run_told_to_begin_late_leaves_what_lies_before_to_the_next(desk: CrmDesk) -> None:
    lead_id = desk.add_lead()
    desk.sync()
    desk.clock.pass_by(hours=2)
    desk.crm.edit_person(desk.link(lead_id)["person_id"], name="Ana Maria")
    desk.clock.pass_by(hours=2)
    desk.sync(since=desk.clock() - timedelta(minutes=5))
    assert desk.lead(lead_id)["name"] != "Ana Maria"
    desk.sync()
    assert desk.lead(lead_id)["name"] == "Ana Maria"


def test_the_organization_of_a_lead_without_person_is_not_taken_away_again_and_again(
    desk: CrmDesk,
) -> None:
    lead_id = desk.add_lead(company="Padaria Sol")
    desk.sync()
    desk.crm.delete_person(desk.link(lead_id)["person_id"])
    desk.edit_lead(lead_id, company=None)
    reports = [desk.sync() for _ in range(3)]
    assert "refused" not in reports[-1].skipped
    assert outbox(desk) == []


def test_an_organization_begun_for_a_company_that_was_taken_back_is_forgotten(
    desk: CrmDesk,
) -> None:
    lead_id = desk.add_lead(company="Padaria Sol")
    desk.sync()
    desk.crm.fail(PipedriveFault.TIMEOUT_BEFORE, method="POST", path="/organizations")
    desk.edit_lead(lead_id, company="Padaria Lua")
    desk.sync()
    assert outbox(desk) == ["create_organization"]
    desk.edit_lead(lead_id, company="Padaria Sol")
    desk.sync()
    assert outbox(desk) == []


def test_what_was_written_here_while_there_was_no_person_is_kept_in_a_conflict(
    desk: CrmDesk,
) -> None:
    lead_id = desk.add_lead(name="Ana", company="Padaria Sol")
    desk.sync()
    desk.crm.delete_person(desk.link(lead_id)["person_id"])
    desk.edit_lead(lead_id, name="Ana Souza")
    desk.sync()
    other = desk.crm.add_person(name="Bia", phones=[desk.lead(lead_id)["phone"]])
    desk.crm.edit_lead(desk.remote_lead(lead_id)["id"], person_id=other)
    desk.sync()
    assert desk.lead(lead_id)["name"] == "Bia"
    (conflict,) = desk.conflicts
    assert (conflict["our_value"], conflict["their_value"]) == ("Ana Souza", "Bia")
