"""The stand-in for Pipedrive against the vendor's own OpenAPI files, over real HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import httpx
import pytest

from gatte_pipelines.sandbox.pipedrive import Exchange, Kind, PipedriveStandIn
from gatte_pipelines.sandbox.pipedrive_routes import ROUTES, Route
from tests import pipedrive_specs
from tests.pipedrive_specs import DEFECTS, Defect, errors_of, operation_of

pytestmark = pytest.mark.skipif(pipedrive_specs.ARE_MISSING, reason=pipedrive_specs.WHY_MISSING)

# Pins and the parts of Pipedrive that GATTE does not have; sent, they would be ignored here.
NOT_SERVED_OF_NOTES = {
    "project_id",
    "task_id",
    "start_date",
    "end_date",
    *(f"pinned_to_{name}_flag" for name in ("lead", "deal", "organization", "person")),
    "pinned_to_project_flag",
    "pinned_to_task_flag",
}


@pytest.fixture(scope="module")
def stand_in() -> Iterator[PipedriveStandIn]:
    with PipedriveStandIn() as started:
        yield started


@pytest.fixture(scope="module")
def walk(stand_in: PipedriveStandIn) -> list[Exchange]:
    """What was said on a walk through every endpoint."""
    headers = {"x-api-token": stand_in.token}
    with httpx.Client(base_url=stand_in.url, headers=headers) as client:
        _walk(client)
    return stand_in.exchanges


def _walk(client: httpx.Client) -> None:
    def ask(method: str, path: str, body: Any = None, **query: Any) -> Any:
        answer = client.request(method, f"/api{path}", json=body, params=query)
        assert answer.is_success, answer.text
        return answer.json()["data"]

    since = {"updated_since": "2020-01-01T00:00:00Z", "sort_by": "update_time", "limit": 1}
    ask("GET", "/v1/users/me")
    label = ask("GET", "/v1/leadLabels")[0]["id"]
    ask("GET", "/v2/pipelines", sort_by="id")
    stages = [one["id"] for one in ask("GET", "/v2/stages", pipeline_id=1)]
    keys = {}
    for kind in Kind.DEAL, Kind.PERSON, Kind.ORGANIZATION:
        body = {"field_name": "Nosso número", "field_type": "varchar"}
        keys[kind] = ask("POST", f"/v2/{kind}Fields", body)["field_code"]
        ask("GET", f"/v2/{kind}Fields", limit=2)
    ask("GET", "/v1/leadFields", start=0, limit=50)

    company = {"name": "Contábil Exemplo", "custom_fields": {keys[Kind.ORGANIZATION]: "17"}}
    organization = ask("POST", "/v2/organizations", company)["id"]
    ask("GET", f"/v2/organizations/{organization}")
    ask("PATCH", f"/v2/organizations/{organization}", {"address": {"value": "Rua Um, 1"}})
    ask("GET", "/v2/organizations", **since)
    ask("GET", "/v2/organizations/search", term="contábil", fields="name,notes")
    persons = []
    for name in ("Ana", "Bruno Exemplo"):
        body = {
            "name": name,
            "phones": [{"value": "+5511900001234", "primary": True, "label": "work"}],
            "emails": [{"value": "ana@example.com", "primary": True, "label": "work"}],
            "custom_fields": {keys[Kind.PERSON]: "17"},
        }
        persons.append(ask("POST", "/v2/persons", body)["id"])
    person = persons[0]
    ask("GET", f"/v2/persons/{person}", custom_fields=keys[Kind.PERSON])
    ask("GET", "/v2/persons", **since)
    ask("GET", "/v2/persons/search", term="11900001234", fields="phone,email")
    ask("PATCH", f"/v2/persons/{person}", {"org_id": organization})
    ask("GET", "/v2/persons", ids=f"{persons[0]},{persons[1]}")

    leads = []
    for title in ("Certificado", "Plano", "Outro"):
        body = {
            "title": title,
            "person_id": person,
            "organization_id": organization,
            "label_ids": [label],
            "value": {"amount": 250, "currency": "BRL"},
            "origin_id": "17",
            keys[Kind.DEAL]: "17",
        }
        leads.append(ask("POST", "/v1/leads", body)["id"])
    ask("GET", f"/v1/leads/{leads[0]}")
    ask("PATCH", f"/v1/leads/{leads[0]}", {"title": "Renovação", "value": None})
    query = {"person_id": person, "updated_since": since["updated_since"]}
    ask("GET", "/v1/leads", sort="update_time DESC", start=0, limit=2, **query)
    ask("GET", "/v2/leads/search", term="17", fields="custom_fields", person_id=person)
    ask("GET", "/v2/itemSearch/field", term="17", entity_type="lead", field=keys[Kind.DEAL])
    note = ask("POST", "/v1/notes", {"content": "Nota", "lead_id": leads[0]})["id"]
    ask("POST", "/v1/notes", {"content": "Nota", "person_id": person})
    ask("GET", f"/v1/notes/{note}")
    ask("GET", "/v1/notes", lead_id=leads[0])
    ask("DELETE", f"/v1/notes/{note}")
    ask("PATCH", f"/v1/leads/{leads[1]}", {"is_archived": True})
    ask("GET", "/v1/leads/archived", person_id=person, sort="add_time")
    ask("DELETE", f"/v1/leads/{leads[1]}")

    path = f"/v2/leads/{leads[0]}/convert"
    conversion = ask("POST", f"{path}/deal", {"stage_id": stages[0]})["conversion_id"]
    deal = ask("GET", f"{path}/status/{conversion}")["deal_id"]
    ask("GET", f"/v2/deals/{deal}", include_fields="source_lead_id")
    ask("PATCH", f"/v2/deals/{deal}", {"stage_id": stages[1], "status": "won"})
    other = ask("POST", "/v2/deals", {"title": "Plano", "person_id": person})["id"]
    ask("PATCH", f"/v2/deals/{other}", {"is_archived": True})
    ask("GET", "/v2/deals/archived", status="open,won")
    bare = ask("POST", "/v2/deals", {"title": "De ninguém"})["id"]
    ask("GET", "/v2/deals", status="open,won", person_id=person, stage_id=stages[1])
    ask("GET", "/v2/deals", **since)
    ask("DELETE", f"/v2/deals/{bare}")
    ask("GET", "/v2/deals", status="deleted")
    ask("DELETE", f"/v2/persons/{person}")
    ask("DELETE", f"/v2/organizations/{organization}")


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method} {route.template}")
def test_an_endpoint_costs_and_knows_what_the_specs_say(route: Route) -> None:
    operation = operation_of(route.method, route.template)
    assert operation is not None
    named = {one["name"] for one in operation.get("parameters", ()) if one["in"] == "query"}
    if route.template == "/api/v1/notes":
        named -= NOT_SERVED_OF_NOTES
    assert (operation["x-token-cost"], named) == (route.cost, set(route.parameters))


def test_every_endpoint_answers_as_the_specs_say(walk: list[Exchange]) -> None:
    taken = {(one.method, one.template) for one in walk if one.status in {200, 201}}
    assert {(one.method, one.template) for one in ROUTES} - taken == set()
    assert [error for one in walk for error in errors_of(one)] == []


def test_an_answer_shows_every_field_that_the_vendor_shows(walk: list[Exchange]) -> None:
    """But for what is asked for by name, or needs contact sync or projects."""
    visibility = {"ui_visibility", "important_fields", "required_fields"}
    left_out = {
        "deals": {"source_lead_id"},
        **dict.fromkeys(("dealFields", "personFields", "organizationFields"), visibility),
        # Neither does the sample body of the spec show these.
        "leadFields": {"options_deleted", "is_subfield", "subfields"},
        # The schema speaks of another answer than its own example and the text, id and name.
        "itemSearch": {"result_score", "item"},
        "notes": {"project_id", "project", "task_id", "task"},
        "persons": {"postal_address", "notes", "im", "birthday", "job_title"},
    }
    missing = {
        (one.template, name)
        for one in walk
        for name in pipedrive_specs.missing_fields_of(one)
        if name not in left_out.get((one.template or "").split("/")[3], ())
    }
    assert missing == set()


@pytest.mark.parametrize("number", range(len(DEFECTS)), ids=lambda number: DEFECTS[number].names[0])
def test_a_known_defect_of_the_specs_is_still_one(walk: list[Exchange], number: int) -> None:
    defect = DEFECTS[number]
    concerned = [one for one in walk if _concerns(defect, one)]
    assert [error for one in concerned for error in errors_of(one, without=number)]


def _concerns(defect: Defect, exchange: Exchange) -> bool:
    _, _, version, path = (exchange.template or "").split("/", 3)
    return version == defect.version and bool(defect.paths.fullmatch(f"/{path}"))


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"request_headers": frozenset({"accept"})}, "SecurityValidationError"),
        ({"unknown_parameters": ("updated_after",)}, "parameter updated_after"),
        ({"request_body": b'{"title": "x", "person_id": 1, "stage": 1}'}, "body has stage"),
        ({"request_body": b'{"title": "x"}'}, "neither person_id nor organization_id"),
        ({"request_body": b'{"title": "x", "person_id": "1"}'}, "InvalidRequestBody"),
        ({"request_body": b'{"person_id": 1}'}, "InvalidRequestBody"),
        ({"body": b'{"success": true, "data": {"id": 17}}'}, "data.id: type"),
        ({"body": b"<html>", "status": 200}, "answer 200"),
        ({"body": b'{"oh": "no"}', "status": 500}, "answer 500 is in no envelope"),
    ],
)
def test_the_judge_finds_what_is_wrong(
    walk: list[Exchange], changes: dict[str, Any], error: str
) -> None:
    right = next(one for one in walk if (one.method, one.template) == ("POST", "/api/v1/leads"))
    assert errors_of(right) == []
    errors = errors_of(replace(right, **changes))
    assert error in " ".join(errors)
    # An error names a place and a rule, never a value.
    assert "Certificado" not in " ".join(errors)


def test_failures_come_in_the_vendors_envelope(stand_in: PipedriveStandIn) -> None:
    headers = {"x-api-token": stand_in.token}
    stand_in.forget_exchanges()
    for path in ("/api/v1/leads/adf21080-0e10-11eb-879b-05d71fb426ec", "/api/v2/persons/7"):
        httpx.get(f"{stand_in.url}{path}", headers=headers)
    httpx.get(f"{stand_in.url}/api/v2/persons", params={"limit": 501}, headers=headers)
    httpx.get(f"{stand_in.url}/api/v1/users/me", headers={"x-api-token": "wrong"})
    statuses = [one.status for one in stand_in.exchanges]
    assert statuses == [404, 404, 400, 401]
    assert [error for one in stand_in.exchanges for error in errors_of(one)] == []
