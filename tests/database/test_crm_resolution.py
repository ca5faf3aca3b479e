"""What a person decides about a conflict with Pipedrive, and what can no longer be carried out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from uuid import UUID, uuid4

import pytest

from gatte_pipelines.crm.merging import merge_leads
from gatte_pipelines.crm.resolution import resolve_conflict
from gatte_pipelines.errors import ConfigurationError
from gatte_pipelines.sync import conflicts
from gatte_pipelines.sync.merge import Side
from tests.conflicts import AS_OF, RUN, Desk, opened
from tests.postgres import TestDatabase

OURS, THEIRS = Side.OURS, Side.THEIRS
RESOLVERS = {"pipedrive": resolve_conflict}


@pytest.fixture
def desk(database: TestDatabase) -> Iterator[Desk]:
    with opened(database) as desk:
        yield desk


def decide(desk: Desk, conflict_id: UUID, keep: Side) -> None:
    conflicts.resolve(desk.driver, conflict_id, keep, RESOLVERS, as_of=AS_OF)


def is_open(desk: Desk, conflict_id: UUID) -> bool:
    row = desk.one(
        "select resolved_at is null as it from pipeline.sync_conflicts where conflict_id = :id",
        id=conflict_id,
    )
    return bool(row["it"])


def assert_refused(desk: Desk, conflict_id: UUID, keep: Side, words: str) -> None:
    before = desk.rows("select * from leads order by id")
    links = desk.rows("select * from pipeline.crm_links order by lead_id")
    with pytest.raises(ConfigurationError, match=words) as caught:
        decide(desk, conflict_id, keep)
    assert "@" not in caught.value.message, "no value in an error"
    assert "+55" not in caught.value.message, "no value in an error"
    assert desk.rows("select * from leads order by id") == before
    assert desk.rows("select * from pipeline.crm_links order by lead_id") == links
    assert is_open(desk, conflict_id)


FIELDS = {
    "name": ("Nosso Exemplo", "Deles Exemplo"),
    "phone": ("+5511900001234", "+5511900005678"),
    "email": ("nosso@example.com", "deles@example.com"),
    "company": ("Nossa", "Deles"),
    "stage": ("contacted", "qualified"),
}


@pytest.mark.parametrize("winner", Side)
@pytest.mark.parametrize("field", FIELDS)
def test_the_other_sides_value_is_written_and_what_was_agreed_stays(
    desk: Desk, field: str, winner: Side
) -> None:
    ours, theirs = FIELDS[field]
    won, lost = (ours, theirs) if winner is OURS else (theirs, ours)
    lead = desk.linked(**{field: won})
    link = desk.read_link(lead)
    conflict_id = desk.record(lead, field=field, winner=winner, our_value=ours, their_value=theirs)
    before = desk.read_lead(lead)
    decide(desk, conflict_id, THEIRS if winner is OURS else OURS)
    assert desk.read_lead(lead) == before | {field: lost}
    assert desk.read_link(lead) == link, "the next run carries it over"
    assert not is_open(desk, conflict_id)


@pytest.mark.parametrize("kind", ["both_changed", "kept", "deleted", "merged"])
@pytest.mark.parametrize("winner", Side)
def test_the_side_that_won_is_only_marked(desk: Desk, kind: str, winner: Side) -> None:
    lead = desk.linked(company="Algo de depois")
    conflict_id = desk.record(lead, kind, winner=winner)
    before = desk.read_lead(lead), desk.read_link(lead)
    decide(desk, conflict_id, winner)
    assert (desk.read_lead(lead), desk.read_link(lead)) == before
    assert not is_open(desk, conflict_id)


def test_a_value_that_changed_since_is_not_overwritten(desk: Desk) -> None:
    lead = desk.linked(company="De depois")
    conflict_id = desk.record(lead)
    assert_refused(desk, conflict_id, OURS, "the value of company changed since; look at the lead")


def test_the_same_phone_in_another_form_did_not_change(desk: Desk) -> None:
    lead = desk.linked(phone="+551190005678")  # of before the ninth digit
    conflict_id = desk.record(
        lead, field="phone", our_value="+5511900001234", their_value="+55 11 9 9000-5678"
    )
    decide(desk, conflict_id, OURS)
    assert desk.read_lead(lead)["phone"] == "+5511900001234"


def test_an_empty_value_empties_what_may_be_empty(desk: Desk) -> None:
    lead = desk.linked(company="Deles")
    decide(desk, desk.record(lead, "kept", winner=THEIRS, our_value=None), THEIRS)
    desk.execute("update leads set company = 'Nossa'")
    conflict_id = desk.record(lead, "kept", winner=OURS, their_value="  ")
    decide(desk, conflict_id, THEIRS)
    assert desk.read_lead(lead)["company"] is None


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", None),
        ("name", "  "),
        ("name", "n" * 151),
        ("phone", None),
        ("phone", "ramal"),
        ("phone", "+5511900001234567890"),
        ("email", "a" * 201),
        ("stage", "Proposta enviada"),
        ("stage", None),
    ],
)
def test_a_value_that_cannot_stand_in_leads_is_refused(
    desk: Desk, field: str, value: str | None
) -> None:
    ours = FIELDS[field][0]
    lead = desk.linked(**{field: ours})
    conflict_id = desk.record(lead, field=field, winner=OURS, our_value=ours, their_value=value)
    assert_refused(desk, conflict_id, THEIRS, f"the value of {field} is empty or cannot stand")


def test_our_stage_of_a_deal_is_changed_in_pipedrive_alone(desk: Desk) -> None:
    lead = desk.lead(stage="converted")
    desk.link(lead, deal_id=5)
    conflict_id = desk.record(lead, field="stage", our_value="qualified", their_value="converted")
    assert_refused(desk, conflict_id, OURS, "a deal by now.*change it in Pipedrive")
    decide(desk, conflict_id, THEIRS)


def test_a_field_of_which_only_theirs_counts_is_changed_there(desk: Desk) -> None:
    conflict_id = desk.record(desk.linked(company="Deles"), "kept")
    assert_refused(desk, conflict_id, OURS, "only Pipedrive's value counts for company")


def test_a_field_that_no_lead_has_is_refused(desk: Desk) -> None:
    conflict_id = desk.record(desk.linked(), field="crm_id")
    assert_refused(desk, conflict_id, OURS, "no field of a lead is called so")


def test_an_anonymised_lead_stays_so(desk: Desk) -> None:
    lead = desk.linked(company="Deles")
    desk.anonymize(lead)
    assert_refused(desk, desk.record(lead), OURS, "anonymised and stays so")
    assert_refused(desk, desk.record(lead, "deleted"), OURS, "anonymised and stays so")


def test_a_lead_that_is_gone_is_told(desk: Desk) -> None:
    assert_refused(desk, desk.record(uuid4()), OURS, "is gone")
    assert_refused(desk, desk.record(uuid4(), "deleted"), OURS, "is gone")


def test_what_was_deleted_there_is_made_again_by_the_next_run(desk: Desk) -> None:
    lead = desk.lead(crm_id="antigo")
    desk.link(lead, state="deleted", remote_lead_id=None)
    other = desk.linked(crm_id="outro")
    decide(desk, desk.record(lead, "deleted"), OURS)
    assert desk.read_lead(lead)["crm_id"] is None
    assert [row["lead_id"] for row in desk.rows("select lead_id from pipeline.crm_links")] == [
        other
    ]
    assert desk.read_lead(other)["crm_id"] == "outro"


def test_what_is_linked_again_is_not_made_twice(desk: Desk) -> None:
    conflict_id = desk.record(desk.linked(), "deleted")
    assert_refused(desk, conflict_id, OURS, "linked again")


def joined(desk: Desk) -> tuple[UUID, UUID, UUID]:
    kept, removed = desk.linked(), desk.linked(email="a@example.com")
    with desk.cursor() as cursor:
        assert merge_leads(cursor, kept=kept, removed=removed, run_id=RUN, at=AS_OF)
    found: dict[str, Any] = desk.one("select conflict_id from pipeline.sync_conflicts")
    return kept, removed, found["conflict_id"]


def test_leads_that_were_joined_are_parted(desk: Desk) -> None:
    kept, removed, conflict_id = joined(desk)
    decide(desk, conflict_id, OURS)
    assert desk.read_lead(removed)["email"] == "a@example.com"
    assert desk.read_lead(kept)["email"] is None
    assert desk.read_link(removed)["state"] == "linked"


def test_leads_that_cannot_be_parted_any_more_stay_one(desk: Desk) -> None:
    _, _, conflict_id = joined(desk)
    desk.execute("delete from pipeline.undo_records")
    assert_refused(desk, conflict_id, OURS, "expired or was erased")
    decide(desk, conflict_id, THEIRS)
