"""The sync with Pipedrive, over real HTTP to the stand-in: what both sides hold in the end."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

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
