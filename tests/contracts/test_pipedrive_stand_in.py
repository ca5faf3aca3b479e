"""The stand-in for Pipedrive: what a client of the real one must be ready for, over real HTTP."""

from __future__ import annotations

import json
import socket
import struct
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest

from gatte_pipelines.sandbox.pipedrive import Kind, PipedriveFault, PipedriveStandIn

PHONE = "+5511900001234"
ANA = "Ana Exemplo"
START = datetime(2026, 3, 10, 11, 30, tzinfo=UTC)


class Clock:
    """The hour of the account, and seconds of the burst limit: both stand still until moved."""

    def __init__(self) -> None:
        self.now = START
        self.tick = 0.0

    def move(self, **by: float) -> None:
        self.now += timedelta(**by)
        self.tick += timedelta(**by).total_seconds()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def stand_in(clock: Clock, tmp_path: Path) -> Iterator[PipedriveStandIn]:
    with PipedriveStandIn(
        tmp_path / "landing", now=lambda: clock.now, monotonic=lambda: clock.tick
    ) as started:
        yield started


@pytest.fixture
def api(stand_in: PipedriveStandIn) -> Iterator[httpx.Client]:
    headers = {"x-api-token": stand_in.token}
    with httpx.Client(base_url=stand_in.url, headers=headers, timeout=0.5) as client:
        yield client


def data(answer: httpx.Response) -> Any:
    assert answer.is_success, answer.text
    return answer.json()["data"]


def add_person(api: httpx.Client, **more: Any) -> int:
    body = {"name": ANA, "phones": [{"value": PHONE}], **more}
    return int(data(api.post("/api/v2/persons", json=body))["id"])


def add_lead(api: httpx.Client, **more: Any) -> dict[str, Any]:
    body = {"title": "Certificado", **more}
    if not more.keys() & {"person_id", "organization_id"}:
        body["person_id"] = add_person(api)
    lead: dict[str, Any] = data(api.post("/api/v1/leads", json=body))
    return lead


def lead_ids(api: httpx.Client, **query: Any) -> list[str]:
    return [lead["id"] for lead in data(api.get("/api/v1/leads", params=query))]


def found(api: httpx.Client, kind: str, term: str, **query: Any) -> list[Any]:
    answer = api.get(f"/api/v2/{kind}/search", params={"term": term, **query})
    return [one["item"]["id"] for one in data(answer)["items"]]


# -- who may ask


@pytest.mark.parametrize("headers", [{}, {"x-api-token": "wrong"}, {"authorization": "Bearer x"}])
def test_a_wrong_token_is_refused_before_anything_is_done(
    stand_in: PipedriveStandIn, headers: dict[str, str]
) -> None:
    url = f"{stand_in.url}/api/v2/persons?api_token={stand_in.token}"
    answer = httpx.post(url, headers=headers, json={"name": ANA})
    assert (answer.status_code, answer.json()["errorCode"]) == (401, 401)
    assert answer.headers["x-401-by-gw"] == "true"
    assert (stand_in.persons, stand_in.limits.spent) == ([], 0)


def test_an_unknown_parameter_is_ignored_and_remembered(
    api: httpx.Client, stand_in: PipedriveStandIn
) -> None:
    add_lead(api)
    assert len(lead_ids(api, updated_after="2030-01-01T00:00:00Z")) == 1
    assert stand_in.unknown_parameters == [("GET", "/api/v1/leads", "updated_after")]


def test_a_parameter_that_it_cannot_serve_is_refused(api: httpx.Client) -> None:
    assert api.get("/api/v2/persons", params={"filter_id": 1}).status_code == 501


def test_every_exchange_is_remembered_and_shows_nothing_by_itself(
    api: httpx.Client, stand_in: PipedriveStandIn
) -> None:
    person_id = add_person(api)
    api.get(f"/api/v2/persons/{person_id}", params={"custom_fields": "a"})
    first, second = stand_in.exchanges
    assert (first.method, first.path, json.loads(first.request_body)["name"]) == (
        "POST",
        "/api/v2/persons",
        ANA,
    )
    assert (second.query, second.template) == (
        (("custom_fields", "a"),),
        "/api/v2/persons/{id}",
    )
    assert json.loads(second.body)["data"]["phones"][0]["value"] == PHONE
    shown = repr(stand_in.exchanges)
    assert not [text for text in (ANA, PHONE, stand_in.token) if text in shown]


# -- leads


def test_a_lead_is_read_as_it_was_written(api: httpx.Client, stand_in: PipedriveStandIn) -> None:
    label = data(api.get("/api/v1/leadLabels"))[0]["id"]
    key = stand_in.add_field(Kind.DEAL, "gatte_lead_id")
    money = stand_in.add_field(Kind.DEAL, "Mensalidade", "monetary")
    lead = add_lead(
        api,
        origin_id="ours",
        label_ids=[label],
        value={"amount": 250, "currency": "BRL"},
        **{key: "ours", money: 99.5, f"{money}_currency": "BRL"},
    )
    read = data(api.get(f"/api/v1/leads/{lead['id']}"))
    assert read == lead
    assert (read["source_name"], read["origin"], read["origin_id"]) == ("API", "API", "ours")
    assert (read[key], read[money], read[f"{money}_currency"]) == ("ours", 99.5, "BRL")
    assert read["update_time"] == "2026-03-10T11:30:00.000Z"


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"person_id": 1},
        {"person_id": "1001"},
        {"person_id": None},
        {"title": " "},
        {"value": {"amount": 1}},
        {"label_ids": [str(uuid4())]},
        {"visible_to": 3},
        {"expected_close_date": "10/03/2026"},
        {"is_archived": True},
        {"a" * 40: "no such field"},
        {"stage": "no such field"},
    ],
)
def test_a_wrong_lead_is_refused_in_the_vendors_envelope(
    api: httpx.Client, stand_in: PipedriveStandIn, wrong: dict[str, Any]
) -> None:
    right = {"title": "Certificado", "person_id": add_person(api)} if wrong else {"title": "X"}
    answer = api.post("/api/v1/leads", json={**right, **wrong})
    assert (answer.status_code, answer.json()["success"]) == (400, False)
    assert stand_in.leads == []


def test_only_what_is_named_changes_and_null_unsets(api: httpx.Client) -> None:
    lead = add_lead(api, value={"amount": 1, "currency": "BRL"})
    changed = data(api.patch(f"/api/v1/leads/{lead['id']}", json={"value": None}))
    assert changed == {**lead, "value": None}
    refused = api.patch(f"/api/v1/leads/{lead['id']}", json={"person_id": None})
    assert refused.status_code == 400
    assert api.patch(f"/api/v1/leads/{lead['id']}", json={"origin_id": "x"}).status_code == 400


def test_a_write_of_what_is_already_so_is_no_change(api: httpx.Client, clock: Clock) -> None:
    lead = add_lead(api)
    clock.move(minutes=1)
    again = data(api.patch(f"/api/v1/leads/{lead['id']}", json={"title": lead["title"]}))
    assert again["update_time"] == lead["update_time"]
    other = data(api.patch(f"/api/v1/leads/{lead['id']}", json={"title": "Outro"}))
    assert other["update_time"] == "2026-03-10T11:31:00.000Z"


def test_a_deleted_lead_is_gone(api: httpx.Client) -> None:
    path = f"/api/v1/leads/{add_lead(api)['id']}"
    assert data(api.delete(path))["id"] in path
    assert [api.get(path).status_code, api.delete(path).status_code] == [404, 404]
    assert api.get("/api/v1/leads/17").status_code == 400


def test_leads_are_listed_by_person_by_time_and_in_order(api: httpx.Client, clock: Clock) -> None:
    ids = []
    for _ in range(3):
        ids.append(add_lead(api)["id"])
        clock.move(minutes=1)
    person = data(api.get(f"/api/v1/leads/{ids[1]}"))["person_id"]
    assert lead_ids(api, person_id=person) == [ids[1]]
    assert lead_ids(api, organization_id=1) == []
    # Inclusive, and only as exact as what answers show.
    assert lead_ids(api, updated_since="2026-03-10T11:31:00Z") == ids[1:]
    assert lead_ids(api, updated_since="2026-03-10T08:31:00-03:00") == ids[1:]
    assert lead_ids(api, sort="update_time DESC") == ids[::-1]
    assert api.get("/api/v1/leads", params={"sort": "person.name"}).status_code == 400
    assert api.get("/api/v1/leads", params={"updated_since": "yesterday"}).status_code == 400


@pytest.mark.parametrize("is_nested", [True, False])
def test_pages_of_leads_end_as_text_or_spec_say(
    api: httpx.Client, stand_in: PipedriveStandIn, is_nested: bool
) -> None:
    stand_in.api.has_nested_pagination = is_nested
    person = add_person(api)
    ids = [add_lead(api, person_id=person)["id"] for _ in range(3)]
    first = api.get("/api/v1/leads", params={"limit": 2}).json()
    ends = first["additional_data"]
    ends = ends["pagination"] if is_nested else ends
    assert (ends["more_items_in_collection"], ends["next_start"]) == (True, 2)
    last = api.get("/api/v1/leads", params={"limit": 2, "start": 2}).json()
    ends = last["additional_data"]
    ends = ends["pagination"] if is_nested else ends
    assert ends == {"start": 2, "limit": 2, "more_items_in_collection": False}
    assert {lead["id"] for lead in first["data"] + last["data"]} == set(ids)


def test_an_archived_lead_is_read_only_and_elsewhere(
    api: httpx.Client, stand_in: PipedriveStandIn
) -> None:
    lead_id = add_lead(api)["id"]
    stand_in.archive_lead(lead_id)
    assert lead_ids(api) == []
    archived = data(api.get("/api/v1/leads/archived"))
    assert [(one["id"], one["is_archived"]) for one in archived] == [(lead_id, True)]
    assert data(api.get(f"/api/v1/leads/{lead_id}"))["is_archived"] is True
    for body in ({"title": "Outro"}, {"is_archived": False}):
        assert api.patch(f"/api/v1/leads/{lead_id}", json=body).status_code == 400
    assert api.post(f"/api/v2/leads/{lead_id}/convert/deal", json={}).status_code == 400
    stand_in.archive_lead(lead_id, is_archived=False)
    assert lead_ids(api) == [lead_id]


def test_an_archived_lead_can_be_deleted(api: httpx.Client) -> None:
    path = f"/api/v1/leads/{add_lead(api)['id']}"
    data(api.patch(path, json={"is_archived": True}))
    data(api.delete(path))
    assert api.get(path).status_code == 404


def test_updated_since_is_unknown_where_leads_are_archived(
    api: httpx.Client, stand_in: PipedriveStandIn
) -> None:
    api.get("/api/v1/leads/archived", params={"updated_since": "2030-01-01T00:00:00Z"})
    assert [name for *_, name in stand_in.unknown_parameters] == ["updated_since"]


# -- persons, organizations, deals


def test_a_list_of_telephones_is_replaced_as_a_whole(api: httpx.Client) -> None:
    path = f"/api/v2/persons/{add_person(api, emails=[{'value': 'ana@example.com'}])}"
    changed = data(api.patch(path, json={"phones": [{"value": "1"}, {"value": "2"}]}))
    assert [(one["value"], one["primary"]) for one in changed["phones"]] == [
        ("1", True),
        ("2", False),
    ]
    assert [one["value"] for one in changed["emails"]] == ["ana@example.com"]
    assert (changed["first_name"], changed["last_name"]) == ("Ana", "Exemplo")


@pytest.mark.parametrize(
    ("wrong", "status"),
    [
        ({"name": ""}, 400),
        ({"name": 7}, 400),
        ({"org_id": "7"}, 400),
        ({"org_id": 7}, 400),
        ({"phone": [{"value": PHONE}]}, 400),
        ({"phones": PHONE}, 400),
        ({"phones": [PHONE]}, 400),
        ({"visible_to": "3"}, 400),
        ({"label_ids": ["1"]}, 400),
        ({"custom_fields": {"a" * 40: "x"}}, 400),
        ({"job_title": "Contadora"}, 403),
    ],
)
def test_a_wrong_person_is_refused(
    api: httpx.Client, stand_in: PipedriveStandIn, wrong: dict[str, Any], status: int
) -> None:
    answer = api.post("/api/v2/persons", json={"name": ANA, **wrong})
    assert (answer.status_code, stand_in.persons) == (status, [])


def test_a_body_that_is_no_json_is_refused(api: httpx.Client, stand_in: PipedriveStandIn) -> None:
    assert api.post("/api/v2/persons", data={"name": ANA}).status_code == 400
    headers = {"content-type": "application/json"}
    assert api.post("/api/v2/persons", content=b"{", headers=headers).status_code == 400
    assert stand_in.persons == []


def test_what_needs_campaigns_is_dropped_without_a_word(api: httpx.Client) -> None:
    person = data(api.post("/api/v2/persons", json={"name": ANA, "marketing_status": "subscribed"}))
    assert "marketing_status" not in person


@pytest.mark.parametrize(
    ("field_type", "value", "wrong"),
    [
        ("varchar", "x" * 255, "x" * 256),
        ("text", "x" * 300, 7),
        ("double", 1.5, "1.5"),
        ("date", "2026-03-10", "2026-3-10"),
        ("monetary", {"value": 1, "currency": "BRL"}, 1),
    ],
)
def test_custom_fields_are_nested_and_typed(
    api: httpx.Client, stand_in: PipedriveStandIn, field_type: str, value: Any, wrong: Any
) -> None:
    key = stand_in.add_field(Kind.PERSON, "Campo", field_type)
    path = f"/api/v2/persons/{add_person(api, custom_fields={key: value})}"
    assert data(api.get(path))["custom_fields"] == {key: value}
    assert api.patch(path, json={"custom_fields": {key: wrong}}).status_code == 400
    assert data(api.patch(path, json={"custom_fields": {key: None}}))["custom_fields"] == {
        key: None
    }


def test_choices_are_numbers_in_v2_and_texts_in_v1(
    api: httpx.Client, stand_in: PipedriveStandIn
) -> None:
    one = stand_in.add_field(Kind.DEAL, "Plano", "enum", ["Básico", "Completo"])
    many = stand_in.add_field(Kind.DEAL, "Produtos", "set", ["e-CPF", "e-CNPJ"])
    options = {
        field["field_code"]: [option["id"] for option in field["options"] or ()]
        for field in data(api.get("/api/v2/dealFields"))
    }
    lead = add_lead(
        api,
        **{one: str(options[one][0]), many: ",".join(str(option) for option in options[many])},
    )
    assert lead[one] == str(options[one][0])
    assert lead[many] == ",".join(str(option) for option in options[many])
    deal_id = stand_in.convert_lead(lead["id"])
    deal = data(api.get(f"/api/v2/deals/{deal_id}"))
    assert deal["custom_fields"] == {one: options[one][0], many: options[many]}
    empty = {"custom_fields": {many: []}}
    assert api.patch(f"/api/v2/deals/{deal_id}", json=empty).status_code == 400


def test_a_field_that_was_taken_away_takes_its_values_along(
    api: httpx.Client, stand_in: PipedriveStandIn
) -> None:
    answer = api.post(
        "/api/v2/dealFields", json={"field_name": "gatte_lead_id", "field_type": "varchar"}
    )
    key = data(answer)["field_code"]
    lead = add_lead(api, **{key: "ours"})
    assert key in {field["key"] for field in data(api.get("/api/v1/leadFields"))}
    stand_in.delete_field(Kind.DEAL, key)
    assert key not in data(api.get(f"/api/v1/leads/{lead['id']}"))
    assert api.patch(f"/api/v1/leads/{lead['id']}", json={key: "ours"}).status_code == 400


def test_cursors_lead_to_every_row_once_whatever_is_added_meanwhile(api: httpx.Client) -> None:
    ids = [add_person(api) for _ in range(5)]
    seen: list[int] = []
    cursor: dict[str, str] = {}
    while True:
        answer = api.get("/api/v2/persons", params={"limit": 2, **cursor})
        seen += [one["id"] for one in data(answer)]
        following = answer.json()["additional_data"]["next_cursor"]
        if following is None:
            break
        cursor = {"cursor": following}
        if len(seen) == 2:
            data(api.delete(f"/api/v2/persons/{ids[0]}"))
    assert seen == ids
    assert api.get("/api/v2/persons", params={"cursor": "x"}).status_code == 400
    assert api.get("/api/v2/persons", params={"limit": 501}).status_code == 400


def test_rows_are_listed_from_a_time_inclusive_to_a_time_exclusive(
    api: httpx.Client, clock: Clock
) -> None:
    ids = []
    for _ in range(3):
        ids.append(add_person(api))
        clock.move(seconds=1.5)

    def listed(**query: Any) -> list[int]:
        return [one["id"] for one in data(api.get("/api/v2/persons", params=query))]

    assert listed(updated_since="2026-03-10T11:30:01Z") == ids[1:]
    assert listed(updated_until="2026-03-10T11:30:01Z") == ids[:1]
    assert listed(sort_by="update_time", sort_direction="desc") == ids[::-1]
    assert listed(ids=f"{ids[2]},{ids[0]},99") == [ids[0], ids[2]]
    assert api.get("/api/v2/persons", params={"ids": ",".join("1" * 101)}).status_code == 400
    assert api.get("/api/v2/persons", params={"sort_by": "name"}).status_code == 400


def test_a_deal_says_where_it_stands(
    api: httpx.Client, stand_in: PipedriveStandIn, clock: Clock
) -> None:
    stages = data(api.get("/api/v2/stages", params={"pipeline_id": 1}))
    deal = data(api.post("/api/v2/deals", json={"title": "Plano", "value": 250}))
    assert (deal["stage_id"], deal["pipeline_id"]) == (stages[0]["id"], 1)
    clock.move(minutes=1)
    stand_in.edit_deal(deal["id"], stage_id=stages[2]["id"])
    stand_in.edit_deal(deal["id"], status="won")
    read = data(api.get(f"/api/v2/deals/{deal['id']}"))
    assert (read["stage_id"], read["status"]) == (stages[2]["id"], "won")
    assert read["won_time"] == read["stage_change_time"] == "2026-03-10T11:31:00Z"
    assert data(api.get("/api/v2/deals", params={"status": "open"})) == []
    assert len(data(api.get("/api/v2/deals", params={"status": "won,lost"}))) == 1
    assert len(data(api.get("/api/v2/deals", params={"stage_id": stages[2]["id"]}))) == 1


def test_an_archived_deal_is_read_only_and_elsewhere(
    api: httpx.Client, stand_in: PipedriveStandIn
) -> None:
    deal_id = stand_in.add_deal(title="Plano")
    stand_in.edit_deal(deal_id, is_archived=True)
    assert data(api.get("/api/v2/deals")) == []
    assert [one["id"] for one in data(api.get("/api/v2/deals/archived"))] == [deal_id]
    assert api.patch(f"/api/v2/deals/{deal_id}", json={"title": "X"}).status_code == 400


@pytest.mark.parametrize("kind", ["persons", "organizations", "deals"])
def test_what_is_deleted_is_marked_for_thirty_days(
    api: httpx.Client, stand_in: PipedriveStandIn, clock: Clock, kind: str
) -> None:
    name = "title" if kind == "deals" else "name"
    row_id = data(api.post(f"/api/v2/{kind}", json={name: "Exemplo"}))["id"]
    path = f"/api/v2/{kind}/{row_id}"
    data(api.delete(path))
    assert data(api.get(f"/api/v2/{kind}")) == []
    assert data(api.get(path))["is_deleted"] is True
    assert api.patch(path, json={name: "Outro"}).status_code == 404
    stand_in.account.rules.shows_deleted = False
    assert api.get(path).status_code == 404
    stand_in.account.rules.shows_deleted = True
    clock.move(days=30)
    assert api.get(path).status_code == 404


def test_only_of_deals_the_deleted_ones_can_be_listed(api: httpx.Client, clock: Clock) -> None:
    deal_id = data(api.post("/api/v2/deals", json={"title": "Plano"}))["id"]
    clock.move(minutes=1)
    data(api.delete(f"/api/v2/deals/{deal_id}"))
    assert data(api.get("/api/v2/deals", params={"updated_since": "2026-03-10T11:31:00Z"})) == []
    listed = data(api.get("/api/v2/deals", params={"status": "deleted"}))
    assert [(one["id"], one["is_deleted"]) for one in listed] == [(deal_id, True)]


def test_a_lead_outlives_its_person_and_nobody_is_told(
    api: httpx.Client, stand_in: PipedriveStandIn, clock: Clock
) -> None:
    lead = add_lead(api)
    clock.move(minutes=1)
    stand_in.delete_person(lead["person_id"])
    assert data(api.get(f"/api/v1/leads/{lead['id']}")) == {**lead, "person_id": None}


def test_a_note_stands_with_its_lead_and_leaves_its_time_alone(
    api: httpx.Client, clock: Clock
) -> None:
    lead = add_lead(api)
    clock.move(minutes=1)
    body = {"content": "Quer um e-CNPJ", "lead_id": lead["id"]}
    note = data(api.post("/api/v1/notes", json=body))
    assert (note["add_time"], note["lead_id"]) == ("2026-03-10 11:31:00", lead["id"])
    listed = data(api.get("/api/v1/notes", params={"lead_id": lead["id"]}))
    assert [one["content"] for one in listed] == ["Quer um e-CNPJ"]
    assert data(api.get("/api/v1/notes", params={"lead_id": str(uuid4())})) == []
    assert data(api.get(f"/api/v1/leads/{lead['id']}")) == lead
    for wrong in ({"content": "x"}, {"lead_id": lead["id"]}, {**body, "lead_id": str(uuid4())}):
        assert api.post("/api/v1/notes", json=wrong).status_code == 400
    assert data(api.delete(f"/api/v1/notes/{note['id']}")) is True
    assert api.get(f"/api/v1/notes/{note['id']}").status_code == 404


# -- the index


def test_what_was_written_is_found_only_after_the_lag(
    api: httpx.Client, stand_in: PipedriveStandIn, clock: Clock
) -> None:
    stand_in.account.index.lag = timedelta(seconds=30)
    person_id = add_person(api)
    assert found(api, "persons", PHONE) == []
    # A list is no index.
    assert len(data(api.get("/api/v2/persons"))) == 1
    clock.move(seconds=30)
    assert found(api, "persons", PHONE, fields="phone", exact_match="true") == [person_id]
    stand_in.edit_person(person_id, phones=["+5511900005678"])
    assert found(api, "persons", PHONE) == [person_id]
    stand_in.index_now()
    assert found(api, "persons", PHONE) == []


def test_a_search_takes_groups_of_fields_and_forgives_upper_case(
    api: httpx.Client, stand_in: PipedriveStandIn
) -> None:
    person_id = add_person(api, emails=[{"value": "ana@example.com"}])
    assert found(api, "persons", "ANA@EXAMPLE.COM", exact_match="true") == [person_id]
    assert found(api, "persons", "example.com", exact_match="true") == []
    assert found(api, "persons", "example.com") == [person_id]
    assert found(api, "persons", "ana@example.com", fields="name,phone") == []
    assert found(api, "persons", "(11) 90000-1234", fields="phone") == [person_id]
    stand_in.account.index.has_plain_phones = False
    assert found(api, "persons", "(11) 90000-1234", fields="phone") == []
    assert found(api, "persons", PHONE, fields="phone", exact_match="true") == [person_id]
    for query in (
        {"term": "a"},
        {"term": "ana", "fields": "phones"},
        {"term": "ana", "limit": 101},
    ):
        assert api.get("/api/v2/persons/search", params=query).status_code == 400


def test_the_deleted_stay_in_the_index_organizations_for_ever(
    api: httpx.Client, stand_in: PipedriveStandIn, clock: Clock
) -> None:
    person_id = add_person(api)
    organization_id = stand_in.add_organization(name="Contábil Exemplo")
    deal_id = stand_in.add_deal(title="Plano")
    stand_in.delete_person(person_id)
    stand_in.delete_organization(organization_id)
    stand_in.delete_deal(deal_id)
    assert found(api, "persons", PHONE) == [person_id]
    query = {"entity_type": "deal", "field": "title", "term": "Plano"}
    assert data(api.get("/api/v2/itemSearch/field", params=query)) == []
    clock.move(days=365)
    assert found(api, "persons", PHONE) == []
    assert found(api, "organizations", "Contábil") == [organization_id]


def test_one_field_is_searched_with_upper_case_and_only_if_it_is_a_text(
    api: httpx.Client, stand_in: PipedriveStandIn
) -> None:
    key = stand_in.add_field(Kind.DEAL, "gatte_lead_id")
    day = stand_in.add_field(Kind.DEAL, "Dia", "date")
    lead = add_lead(api, **{key: "Nosso-17", day: "2026-03-10"})

    def ids(term: str, **query: str) -> list[Any]:
        params = {"entity_type": "lead", "field": key, "term": term, **query}
        return data(api.get("/api/v2/itemSearch/field", params=params))

    assert ids("Nosso-17") == [{"id": lead["id"], "name": lead["title"]}]
    assert ids("nosso-17") == []
    assert ids("Nosso") == []
    assert ids("Nosso", match="beginning") == ids("o-17", match="middle") == ids("Nosso-17")
    assert ids("2026-03-10", field=day) == []
    assert found(api, "leads", "nosso-17", fields="custom_fields") == [lead["id"]]
    assert found(api, "leads", "nosso-17", person_id=lead["person_id"]) == [lead["id"]]
    assert found(api, "leads", "nosso-17", person_id=1) == []


# -- merges and conversions


def test_the_id_of_a_merged_person_vanishes_and_its_leads_name_the_other(
    api: httpx.Client, stand_in: PipedriveStandIn, clock: Clock
) -> None:
    lead = add_lead(api)
    kept = stand_in.add_person(name="Ana E.", emails=["ana@example.com"])
    clock.move(minutes=1)
    stand_in.merge_persons(kept, lead["person_id"])
    assert api.get(f"/api/v2/persons/{lead['person_id']}").status_code == 404
    assert data(api.get(f"/api/v1/leads/{lead['id']}"))["person_id"] == kept
    assert lead_ids(api, updated_since="2026-03-10T11:31:00Z") == [lead["id"]]
    person = data(api.get(f"/api/v2/persons/{kept}"))
    assert [one["value"] for one in person["phones"] + person["emails"]] == [
        PHONE,
        "ana@example.com",
    ]
    gone, stayed = stand_in.events[-2:]
    assert (gone["meta"]["action"], gone["data"]) == ("delete", None)
    assert gone["meta"]["entity_id"] == str(lead["person_id"])
    assert gone["meta"]["merged_to_id"] == str(kept)
    assert (stayed["meta"]["action"], stayed["meta"]["entity_id"]) == ("change", str(kept))
    assert stayed["meta"]["merged_from_id"] == str(lead["person_id"])


def test_a_merge_may_leave_the_times_of_leads_alone(
    api: httpx.Client, stand_in: PipedriveStandIn, clock: Clock
) -> None:
    stand_in.account.rules.merge_touches_leads = False
    lead = add_lead(api)
    clock.move(minutes=1)
    stand_in.merge_persons(stand_in.add_person(name="Ana E."), lead["person_id"])
    assert lead_ids(api, updated_since="2026-03-10T11:31:00Z") == []


def test_a_lead_becomes_a_deal_after_a_while(
    api: httpx.Client, stand_in: PipedriveStandIn, clock: Clock
) -> None:
    stand_in.account.rules.conversion_takes = timedelta(seconds=10)
    key = stand_in.add_field(Kind.DEAL, "gatte_lead_id")
    lead = add_lead(api, origin_id="ours", **{key: "ours"})
    data(api.post("/api/v1/notes", json={"content": "Nota", "lead_id": lead["id"]}))
    stage = data(api.get("/api/v2/stages"))[1]["id"]
    path = f"/api/v2/leads/{lead['id']}/convert"
    conversion = data(api.post(f"{path}/deal", json={"stage_id": stage}))["conversion_id"]

    def status() -> dict[str, Any]:
        told: dict[str, Any] = data(api.get(f"{path}/status/{conversion}"))
        return told

    assert status()["status"] == "not_started"
    clock.move(seconds=5)
    assert (status()["status"], status().get("deal_id")) == ("running", None)
    assert lead_ids(api) == [lead["id"]]
    clock.move(seconds=5)
    done = status()
    assert done["status"] == "completed"
    assert api.get(f"/api/v1/leads/{lead['id']}").status_code == 404
    query = {"include_fields": "source_lead_id"}
    deal = data(api.get(f"/api/v2/deals/{done['deal_id']}", params=query))
    assert (deal["source_lead_id"], deal["stage_id"]) == (lead["id"], stage)
    assert (deal["person_id"], deal["custom_fields"]) == (lead["person_id"], {key: "ours"})
    assert "source_lead_id" not in data(api.get(f"/api/v2/deals/{done['deal_id']}"))
    notes = data(api.get("/api/v1/notes", params={"deal_id": done["deal_id"]}))
    assert [one["content"] for one in notes] == ["Nota"]


@pytest.mark.parametrize("ending", ["failed", "rejected"])
def test_a_conversion_that_fails_leaves_the_lead(
    api: httpx.Client, stand_in: PipedriveStandIn, ending: str
) -> None:
    stand_in.account.rules.conversion_ends_as = ending
    lead_id = add_lead(api)["id"]
    path = f"/api/v2/leads/{lead_id}/convert"
    conversion = data(api.post(f"{path}/deal", json={"pipeline_id": 1}))["conversion_id"]
    assert data(api.get(f"{path}/status/{conversion}"))["status"] == ending
    assert lead_ids(api) == [lead_id]
    assert api.get(f"{path}/status/{uuid4()}").status_code == 404
    for body in ({"stage_id": 99}, {"stage_id": 11, "pipeline_id": 1}, {"title": "x"}):
        assert api.post(f"{path}/deal", json=body).status_code == 400


# -- events


def test_events_appear_in_the_landing_zone_and_say_who_it_was(
    api: httpx.Client, stand_in: PipedriveStandIn, tmp_path: Path
) -> None:
    lead = add_lead(api)
    stand_in.edit_lead(lead["id"], title="Outro")
    landed = [json.loads(path.read_text()) for path in (tmp_path / "landing").iterdir()]
    assert sorted(one["meta"]["id"] for one in landed) == sorted(
        one["meta"]["id"] for one in stand_in.events
    )
    assert [
        (one["meta"]["entity"], one["meta"]["action"], one["meta"]["change_source"])
        for one in stand_in.events
    ] == [("person", "create", "api"), ("lead", "create", "api"), ("lead", "change", "app")]
    change = stand_in.events[-1]
    assert (change["previous"], change["data"]["title"]) == ({"title": lead["title"]}, "Outro")
    assert change["data"]["visible_to"] == "3"


def test_custom_fields_name_their_type_in_events(stand_in: PipedriveStandIn) -> None:
    key = stand_in.add_field(Kind.PERSON, "Nosso número", "double")
    person_id = stand_in.add_person(name=ANA)
    stand_in.edit_person(person_id, custom_fields={key: 978})
    change = stand_in.events[-1]
    assert change["data"]["custom_fields"] == {key: {"type": "double", "value": 978}}


# -- limits


def test_the_days_tokens_are_spent_and_come_back_at_midnight(
    api: httpx.Client, stand_in: PipedriveStandIn, clock: Clock
) -> None:
    stand_in.limits.daily_budget = 30
    first = api.get("/api/v1/leads")
    assert first.headers["x-daily-ratelimit-token-limit"] == "30"
    assert first.headers["x-daily-ratelimit-token-remaining"] == "10"
    stand_in.limits.spend(10)
    over = api.post("/api/v2/persons", json={"name": ANA})
    assert (over.status_code, over.headers["retry-after"]) == (429, "3")
    assert over.headers["x-daily-ratelimit-token-remaining"] == "0"
    assert (stand_in.persons, stand_in.limits.spent) == ([], 30)
    clock.move(hours=13)
    assert api.post("/api/v2/persons", json={"name": ANA}).status_code == 200
    stand_in.limits.has_daily_headers = False
    assert "x-daily-ratelimit-token-remaining" not in api.get("/api/v2/persons").headers


def test_too_many_requests_in_two_seconds_wait(
    api: httpx.Client, stand_in: PipedriveStandIn, clock: Clock
) -> None:
    stand_in.limits.burst = 3
    assert [api.get("/api/v1/users/me").status_code for _ in range(4)] == [200, 200, 200, 429]
    over = api.get("/api/v1/users/me")
    assert (over.headers["retry-after"], over.headers["x-ratelimit-remaining"]) == ("2", "0")
    assert over.headers["x-daily-ratelimit-token-remaining"] != "0"
    assert stand_in.limits.spent == 6
    clock.move(seconds=2)
    assert api.get("/api/v1/users/me").status_code == 200


def test_searches_have_a_tighter_limit(api: httpx.Client, stand_in: PipedriveStandIn) -> None:
    stand_in.limits.burst = 20
    add_person(api)
    path, query = "/api/v2/persons/search", {"term": PHONE}
    answers = [api.get(path, params=query).status_code for _ in range(11)]
    assert answers == [200] * 10 + [429]
    assert api.get("/api/v2/persons").status_code == 200


def test_who_goes_on_after_429_meets_cloudflare(
    api: httpx.Client, stand_in: PipedriveStandIn, clock: Clock
) -> None:
    stand_in.limits.burst = 1
    answers = [api.get("/api/v1/users/me") for _ in range(12)]
    assert [one.status_code for one in answers] == [200] + [429] * 10 + [403]
    assert answers[-1].headers["content-type"].startswith("text/html")
    clock.move(seconds=2)
    assert api.get("/api/v1/users/me").status_code == 200


# -- faults


@pytest.mark.parametrize(
    ("fault", "status"),
    [
        (PipedriveFault.BURST, 429),
        (PipedriveFault.DAILY_BUDGET, 429),
        (PipedriveFault.CLOUDFLARE, 403),
        (PipedriveFault.PLAN_LIMIT, 403),
        (PipedriveFault.UNAUTHORIZED, 401),
        (PipedriveFault.ACCOUNT_CLOSED, 402),
        (PipedriveFault.SERVER_ERROR, 500),
        (PipedriveFault.UNAVAILABLE, 503),
    ],
)
def test_a_refusal_has_no_effect(
    api: httpx.Client, stand_in: PipedriveStandIn, fault: PipedriveFault, status: int
) -> None:
    stand_in.fail(fault)
    answer = api.post("/api/v2/persons", json={"name": ANA})
    assert (answer.status_code, stand_in.persons) == (status, [])
    is_html = answer.headers["content-type"].startswith("text/html")
    assert is_html is (fault is PipedriveFault.CLOUDFLARE)
    assert ("retry-after" in answer.headers) is (status == 429)
    is_spent = answer.headers.get("x-daily-ratelimit-token-remaining") == "0"
    assert is_spent is (fault is PipedriveFault.DAILY_BUDGET)


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (PipedriveFault.TIMEOUT_AFTER, httpx.ReadTimeout),
        (PipedriveFault.BROKEN_OFF, httpx.RemoteProtocolError),
    ],
)
def test_an_answer_that_never_came_may_belong_to_what_was_done(
    api: httpx.Client,
    stand_in: PipedriveStandIn,
    fault: PipedriveFault,
    error: type[httpx.TransportError],
) -> None:
    stand_in.fail(fault)
    with pytest.raises(error):
        api.post("/api/v2/persons", json={"name": ANA})
    assert [one["name"] for one in stand_in.persons] == [ANA]
    assert stand_in.exchanges[0].template == "/api/v2/persons"


def test_a_timeout_may_come_before_anything_was_done(
    api: httpx.Client, stand_in: PipedriveStandIn
) -> None:
    stand_in.fail(PipedriveFault.TIMEOUT_BEFORE)
    with pytest.raises(httpx.ReadTimeout):
        api.post("/api/v2/persons", json={"name": ANA})
    assert (stand_in.persons, stand_in.exchanges[0].status) == ([], None)


@pytest.mark.parametrize(
    ("fault", "status"), [(PipedriveFault.SERVER_ERROR_AFTER, 500), (PipedriveFault.HTML, 200)]
)
def test_a_useless_answer_may_belong_to_what_was_done(
    api: httpx.Client, stand_in: PipedriveStandIn, fault: PipedriveFault, status: int
) -> None:
    stand_in.fail(fault)
    answer = api.post("/api/v2/persons", json={"name": ANA})
    assert (answer.status_code, len(stand_in.persons)) == (status, 1)


def test_a_fault_meets_the_requests_it_is_meant_for(
    api: httpx.Client, stand_in: PipedriveStandIn
) -> None:
    stand_in.fail(PipedriveFault.SERVER_ERROR, times=2, skip=1, method="GET", path=r"/leads$")
    add_lead(api)
    assert [api.get("/api/v1/leads").status_code for _ in range(4)] == [200, 500, 500, 200]
    assert api.get("/api/v1/leadLabels").status_code == 200


def test_a_key_is_left_out_or_altered_in_every_row(
    api: httpx.Client, stand_in: PipedriveStandIn
) -> None:
    add_person(api)
    add_person(api)
    stand_in.omit("data.update_time", path="/persons")
    stand_in.alter("data.id", "7", path="/persons")
    rows = data(api.get("/api/v2/persons"))
    assert [(one["id"], "update_time" in one) for one in rows] == [("7", False), ("7", False)]
    assert isinstance(data(api.get("/api/v2/persons"))[0]["id"], int)


def test_pages_may_lead_nowhere(api: httpx.Client, stand_in: PipedriveStandIn) -> None:
    person = add_person(api)
    add_lead(api, person_id=person)
    stand_in.fail(PipedriveFault.STUCK_PAGES, times=3)
    stuck = api.get("/api/v2/persons").json()["additional_data"]["next_cursor"]
    again = api.get("/api/v2/persons", params={"cursor": stuck}).json()
    assert again["additional_data"]["next_cursor"] == stuck
    ends = api.get("/api/v1/leads").json()["additional_data"]["pagination"]
    assert (ends["more_items_in_collection"], ends["next_start"]) == (True, 0)
    assert api.get("/api/v2/persons").json()["additional_data"]["next_cursor"] is None


def test_a_test_can_step_in_between_effect_and_answer(
    api: httpx.Client, stand_in: PipedriveStandIn
) -> None:
    seen: list[tuple[str, str, int]] = []
    stand_in.after_effect = lambda method, path: seen.append((method, path, len(stand_in.persons)))
    add_person(api)
    assert seen == [("POST", "/api/v2/persons", 1)]


def test_it_stops_at_once_while_somebody_waits_for_an_answer() -> None:
    with PipedriveStandIn() as started:
        started.fail(PipedriveFault.TIMEOUT_BEFORE)
        url = f"{started.url}/api/v1/users/me"
        failed: list[str] = []

        def ask() -> None:
            try:
                httpx.get(url, headers={"x-api-token": started.token}, timeout=30)
            except httpx.TransportError as error:
                failed.append(type(error).__name__)

        waiting = threading.Thread(target=ask)
        waiting.start()
        while not started.exchanges:
            time.sleep(0.01)
        began = time.monotonic()
    waiting.join(5)
    assert failed == ["RemoteProtocolError"]
    assert time.monotonic() - began < 5


def test_a_client_that_goes_away_leaves_what_it_asked_for_and_no_noise(
    stand_in: PipedriveStandIn, capfd: pytest.CaptureFixture[str]
) -> None:
    is_gone = threading.Event()
    is_over = threading.Event()

    def wait(_method: str, _path: str) -> None:
        is_gone.wait(5)
        is_over.set()

    stand_in.after_effect = wait
    head = f"POST /api/v2/persons HTTP/1.1\r\nhost: x\r\nx-api-token: {stand_in.token}\r\n"
    body = json.dumps({"name": ANA}).encode()
    head += f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    host, port = stand_in.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as connection:
        # Closed so, the next write to it is an error.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.sendall(head.encode() + body)
        while not stand_in.persons:
            time.sleep(0.01)
    is_gone.set()
    assert is_over.wait(5)
    while not stand_in.exchanges:
        time.sleep(0.01)
    time.sleep(0.05)
    assert [one["name"] for one in stand_in.persons] == [ANA]
    assert capfd.readouterr().err == ""


def test_unknown_paths_and_methods_are_errors(api: httpx.Client) -> None:
    # Gone since 2026-08-01, and never there: nobody is served by chance.
    assert api.get("/api/v1/persons").status_code == 404
    assert api.get("/v1/leads").status_code == 404
    assert api.put("/api/v2/persons/1001", json={}).status_code == 405
