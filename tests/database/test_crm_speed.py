"""What a run of the sync with Pipedrive costs: counted calls and tokens, no time."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from gatte_pipelines.run_report import Outcome
from gatte_pipelines.sandbox.pipedrive import Exchange
from tests.crm import CrmDesk, open_desk
from tests.crm_checks import assert_valid_requests, calls_of, fill, names_of, writes_of
from tests.postgres import TestDatabase

LISTS = {"GET /api/v1/leads": 1, "GET /api/v2/persons": 1, "GET /api/v2/deals": 1}
IDLE = 3
PHONE, TWO_FORMS = "+5511900001234", "+5511960001234"


@pytest.fixture
def desk(database: TestDatabase) -> Iterator[CrmDesk]:
    """Both sides, without webhooks; the account and the day's reconcile are read."""
    with open_desk(database) as opened:
        opened.sync()
        yield opened


@pytest.fixture(autouse=True)
def _valid_requests(desk: CrmDesk) -> Iterator[None]:
    """Whatever a test has the sync send is valid against the specs."""
    yield
    assert_valid_requests(desk.crm)


def told(desk: CrmDesk) -> tuple[int, int]:
    """Tokens and calls as the last report tells them."""
    (found,) = [
        match
        for note in desk.reports[-1].notes
        if (match := re.fullmatch(r"([\d.]+) tokens em ([\d.]+) chamadas; hoje .*", note))
    ]
    tokens, calls = (int(text.replace(".", "")) for text in found.groups())
    return tokens, calls


def reconciled(desk: CrmDesk) -> list[str]:
    return [note for note in desk.reports[-1].notes if note.startswith("conferência diária")]


def test_a_run_that_finds_nothing_makes_three_calls(desk: CrmDesk) -> None:
    desk.add_lead(email="ana@example.com", company="Padaria Sol", notes="Nota")
    desk.sync()
    for minutes in (15, 15, 60, 15):
        calls = calls_of(desk, lambda: desk.sync(after_minutes=minutes))  # noqa: B023 - called here
        assert names_of(calls) == LISTS
        assert told(desk) == (40, IDLE)
    assert desk.reports[-1].outcome is Outcome.SKIPPED
    assert desk.reports[-1].reason == "nothing_to_do"


@pytest.mark.parametrize(("phone", "most"), [(PHONE, 3), (TWO_FORMS, 4)])
def test_a_bare_new_lead_takes_at_most_four_calls_beside_the_lists(
    desk: CrmDesk, phone: str, most: int
) -> None:
    lead_id = desk.add_lead(phone=phone)
    calls = calls_of(desk, desk.sync)
    assert len(calls) == IDLE + most
    assert names_of(calls)["GET /api/v2/persons/search"] == most - 2, "one for each form"
    assert desk.link(lead_id)["state"] == "linked"
    assert told(desk) == (40 + 20 * (most - 2) + 5 + 10, len(calls))
    assert len(calls_of(desk, desk.sync)) == IDLE, "and none afterwards"


def test_a_new_lead_with_email_and_company_takes_at_most_seven(desk: CrmDesk) -> None:
    desk.add_lead(phone=TWO_FORMS, email="ana@example.com", company="Padaria Sol")
    calls = calls_of(desk, desk.sync)
    assert len(calls) == IDLE + 7
    assert told(desk) == (sum(call.cost for call in calls), len(calls))
    desk.add_lead(phone="+5511960009999", email="bia@example.com", company="Padaria Sol")
    calls = calls_of(desk, desk.sync)
    # The organization is known: a read proves that it is still the one.
    assert len(calls) == IDLE + 6
    assert names_of(calls)["GET /api/v2/organizations/search"] == 0


def test_a_note_takes_one_call_more(desk: CrmDesk) -> None:
    desk.add_lead(phone=PHONE, notes="À tarde")
    assert len(calls_of(desk, desk.sync)) == IDLE + 3 + 1


def test_a_person_who_is_there_is_found_verified_and_used(desk: CrmDesk) -> None:
    person_id = desk.crm.add_person(name="Ana", phones=[PHONE])
    desk.clock.pass_by(hours=2)
    lead_id = desk.add_lead(name="Ana", phone=PHONE)
    calls = calls_of(desk, desk.sync)
    assert names_of(calls) == {
        **LISTS,
        "GET /api/v2/persons/search": 1,
        "GET /api/v2/persons/{id}": 1,
        "POST /api/v1/leads": 1,
    }
    assert desk.link(lead_id)["person_id"] == person_id
    # The second lead of the same number needs no search.
    desk.add_lead(name="Ana", phone=PHONE)
    calls = calls_of(desk, desk.sync)
    assert names_of(calls)["GET /api/v2/persons/search"] == 0
    assert len(calls) == IDLE + 2


def test_a_change_here_takes_two_reads_and_one_write(desk: CrmDesk) -> None:
    lead_id = desk.add_lead(name="Ana")
    desk.sync()
    desk.edit_lead(lead_id, name="Ana Souza", email="ana@example.com")
    calls = calls_of(desk, lambda: desk.sync(after_minutes=60))
    assert len(calls) == IDLE + 3
    assert len(writes_of(calls)) == 1


def test_a_change_there_takes_no_call_but_the_lists(desk: CrmDesk) -> None:
    lead_id = desk.add_lead(name="Ana")
    desk.sync()
    desk.crm.edit_person(desk.link(lead_id)["person_id"], name="Ana Souza")
    desk.crm.label_lead(str(desk.link(lead_id)["remote_lead_id"]), "Hot")
    assert names_of(calls_of(desk, lambda: desk.sync(after_minutes=60))) == LISTS
    assert (desk.lead(lead_id)["name"], desk.lead(lead_id)["stage"]) == ("Ana Souza", "qualified")


def test_leads_that_cannot_be_taken_in_do_not_cost_a_call_in_every_run(desk: CrmDesk) -> None:
    desk.imports = True
    desk.crm.add_lead(title="Sem fone", person_id=desk.crm.add_person(name="Bia"))
    desk.sync()
    desk.sync(after_minutes=60)
    assert names_of(calls_of(desk, desk.sync)) == LISTS


def test_a_copy_that_somebody_made_there_does_not_cost_a_call_in_every_run(desk: CrmDesk) -> None:
    lead_id = desk.add_lead()
    desk.sync()
    there = desk.remote_lead(lead_id)
    desk.crm.add_lead(
        title="Cópia", person_id=there["person_id"], custom_fields=there["custom_fields"]
    )
    desk.sync()
    desk.sync(after_minutes=60)
    assert names_of(calls_of(desk, desk.sync)) == LISTS


def test_calls_go_with_what_changed_and_not_with_what_is_there(desk: CrmDesk) -> None:
    leads = fill(desk, 10_000)
    changed = leads[::200]
    assert len(changed) == 50

    # Half of them in the person, half in the lead.
    for lead_id in changed[:25]:
        desk.crm.edit_person(desk.link(lead_id)["person_id"], name="Outro nome")
    for lead_id in changed[25:]:
        desk.crm.label_lead(str(desk.link(lead_id)["remote_lead_id"]), "Hot")
    calls = calls_of(desk, desk.sync)
    assert desk.reports[-1].updated == 50
    assert names_of(calls) == LISTS, "fifty changes are one page of each list"

    desk.sync(after_minutes=120)
    desk.sync(after_minutes=120)  # no list shows them any more
    sent: dict[int, list[Exchange]] = {}
    for count in (10, 50):
        for lead_id in changed[:count]:
            desk.edit_lead(lead_id, name=f"Nome {count}")
        sent[count] = calls_of(desk, lambda: desk.sync(after_minutes=60))
        assert desk.reports[-1].updated == count
    assert [len(sent[count]) for count in (10, 50)] == [IDLE + 3 * 10, IDLE + 3 * 50]

    # Once a day everything is compared: so many pages, whatever changed, and what they cost.
    desk.clock.pass_by(hours=24)
    calls = calls_of(desk, desk.sync)
    counted = names_of(calls)
    assert counted["GET /api/v1/leads"] == 1 + 10_000 // 500
    assert counted["GET /api/v1/leads/archived"] == 0, "nothing was missing"
    assert len(calls) < 100
    (note,) = reconciled(desk)
    cost = re.search(r"conferência diária: ([\d.]+) tokens", note)
    assert cost is not None
    assert (
        int(cost[1].replace(".", ""))
        == 20 * 10_000 // 500 + 10 * counted["GET /api/v2/organizations"]
    )
    assert told(desk) == (sum(call.cost for call in calls), len(calls))
    assert names_of(calls_of(desk, desk.sync)) == LISTS
    assert reconciled(desk) == []
