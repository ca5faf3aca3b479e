"""What an event of the CRM is about is read from its shape, and nothing from any other document."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatte_pipelines.sync.webhooks import name_contacts, name_records

LEAD = "1275082f-93ba-4361-b040-7ce97283b113"


def event(entity: str, entity_id: str, data: Any = None, previous: Any = None, **meta: Any) -> Any:
    return {
        "meta": {"action": "change", "entity": entity, "entity_id": entity_id, **meta},
        "data": data,
        "previous": previous,
    }


@pytest.mark.parametrize(
    ("told", "named"),
    [
        (event("person", "5"), {"person:5"}),
        (event("person", "5", {"id": 5, "org_id": 7}), {"person:5", "organization:7"}),
        (event("person", "5", None, {"id": 5, "org_id": None}), {"person:5"}),
        (event("person", "5", merged_to_id="6"), {"person:5", "person:6"}),
        (
            event("lead", LEAD, {"id": LEAD, "person_id": 5, "organization_id": 7}),
            {f"lead:{LEAD}", "person:5", "organization:7"},
        ),
        (
            event("deal", "9", {"person_id": 5}, {"person_id": 4, "org_id": 3}),
            {"deal:9", "person:5", "person:4", "organization:3"},
        ),
        (
            event("note", "8", {"id": 8, "lead_id": LEAD, "deal_id": 9, "person_id": None}),
            {"note:8", f"lead:{LEAD}", "deal:9"},
        ),
    ],
)
def test_an_event_names_its_record_and_those_that_its_row_names(told: Any, named: set[str]) -> None:
    assert name_records(told) == named


def test_a_persons_event_says_how_the_person_is_reached_before_and_after() -> None:
    told = event(
        "person",
        "5",
        {"phones": [{"value": "+55 11 90000-1234"}, {"value": ""}, "x"], "emails": None},
        {"emails": [{"value": "ana@example.com", "primary": True}]},
    )
    assert name_contacts(told) == {"+55 11 90000-1234", "ana@example.com"}


@pytest.mark.parametrize(
    "document",
    [
        {"object": "whatsapp_business_account", "entry": []},
        {"meta": {"entity": 5}, "data": {"id": 5}},
        {"meta": "entity", "data": {"id": 5}},
        {"data": {"person_id": 5, "phones": [{"value": "1"}]}},
    ],
)
def test_another_document_names_nothing(document: Any) -> None:
    assert name_records(document) == name_contacts(document) == frozenset()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ("meta", "entity", "entity_id", "data", "previous", "id", "phones", "value")
            ),
            inner,
            max_size=5,
        )
    ),
    max_leaves=20,
)


@given(JSON)
def test_no_document_is_too_strange(document: Any) -> None:
    assert all(":" in record for record in name_records(document))
    assert all(name_contacts(document))
