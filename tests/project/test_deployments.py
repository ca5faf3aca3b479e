"""What is deployed, when it runs and what its form asks for. Change this file with prefect.yaml."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from prefect import Flow
from prefect.utilities.callables import parameter_schema

from flows import nightly
from flows.quarantine_replay import QuarantineReason
from gatte_pipelines.run_report import reason_pt
from gatte_pipelines.sandbox.local_stack import BACKFILL_QUEUE, FLOWS, LIVE_QUEUE, POOL
from gatte_pipelines.wiring import OPERATIONS
from tests.reasons import read_reasons

# Has no default: the form does not start without it.
REQUIRED = object()
# Runs other operations as its steps.
COMPOSED = {"nightly"}

# name: (entrypoint, queue, schedules in São Paulo, parameters with defaults, runs at a time)
DEPLOYMENTS = {
    "inbound_messages": (
        "flows/inbound_messages.py:inbound_messages",
        "live",
        ["* * * * *"],
        {"as_of": ""},
        (1, "CANCEL_NEW"),
    ),
    "session_context_expiry": (
        "flows/session_context_expiry.py:session_context_expiry",
        "live",
        ["*/15 * * * *"],
        {"as_of": ""},
        (1, "CANCEL_NEW"),
    ),
    "watchdog": (
        "flows/watchdog.py:watchdog",
        "live",
        ["*/5 * * * *"],
        {"as_of": ""},
        (1, "CANCEL_NEW"),
    ),
    "nightly": (
        "flows/nightly.py:nightly",
        "live",
        ["0 2 * * *"],
        {"as_of": ""},
        (1, "CANCEL_NEW"),
    ),
    "certificate_alerts": (
        "flows/certificate_alerts.py:certificate_alerts",
        "live",
        ["30 8 * * 1-5", "0 13 * * 1-5"],
        {"dry_run": True, "channels": ["whatsapp", "email"], "approve": "", "as_of": ""},
        None,
    ),
    "crm_sync": (
        "flows/crm_sync.py:crm_sync",
        "live",
        ["*/15 * * * *"],
        {"direction": "both", "since": "", "dry_run": False, "approve": ""},
        None,
    ),
    "lgpd_retention": (
        "flows/lgpd_retention.py:lgpd_retention",
        "live",
        [],
        {"execute": False, "approve": "", "as_of": "", "force": False},
        None,
    ),
    "lgpd_subject_request": (
        "flows/lgpd_subject_request.py:lgpd_subject_request",
        "live",
        [],
        {"kind": REQUIRED, "user_id": REQUIRED, "execute": False},
        None,
    ),
    "data_quality": (
        "flows/data_quality.py:data_quality",
        "live",
        [],
        {"tables": [], "mode": "auto", "as_of": ""},
        None,
    ),
    "resolve_conflict": (
        "flows/resolve_conflict.py:resolve_conflict",
        "live",
        [],
        {"conflict_id": REQUIRED, "keep": REQUIRED},
        None,
    ),
    "quarantine_replay": (
        "flows/quarantine_replay.py:quarantine_replay",
        "backfill",
        [],
        {"reason": "all", "limit": 10_000, "as_of": ""},
        None,
    ),
}

# Why a run or a record is skipped rather than quarantined.
# Parameters stand in clear in Prefect's database and interface, for everyone who may open it.
PERSONAL_WORDS = re.compile(
    r"phone|telefone|celular|wa_?id|name|nome|mail|cpf|cnpj|wamid|text|content|contact|address",
    re.I,
)


def read_deployments(repository: Path) -> list[dict[str, Any]]:
    return list(yaml.safe_load((repository / "prefect.yaml").read_text("utf-8"))["deployments"])


def load_flow(name: str) -> Flow[..., Any]:
    flow = getattr(importlib.import_module(f"flows.{name}"), name)
    assert isinstance(flow, Flow)
    return flow


def schema_of(name: str) -> dict[str, Any]:
    return parameter_schema(load_flow(name)).model_dump()["properties"]


def test_deployments_are_these(repository: Path) -> None:
    found = {}
    for item in read_deployments(repository):
        schedules = item["schedules"]
        limit = item.get("concurrency_limit")
        assert all(schedule["timezone"] == "America/Sao_Paulo" for schedule in schedules)
        found[item["name"]] = (
            item["entrypoint"],
            item["work_pool"]["work_queue_name"],
            [schedule["cron"] for schedule in schedules],
            {
                name: field.get("default", REQUIRED)
                for name, field in schema_of(item["name"]).items()
            },
            (limit["limit"], limit["collision_strategy"]) if limit else None,
        )
    assert found == DEPLOYMENTS


def test_alerts_are_sent_by_the_schedule_and_shown_by_the_form(repository: Path) -> None:
    (alerts,) = [
        item for item in read_deployments(repository) if item["name"] == "certificate_alerts"
    ]
    assert [each["parameters"] for each in alerts["schedules"]] == [{"dry_run": False}] * 2
    assert len({each["slug"] for each in alerts["schedules"]}) == 2


def test_pool_and_queues_are_those_that_the_local_stack_makes(repository: Path) -> None:
    for item in read_deployments(repository):
        assert item["work_pool"]["name"] == POOL
        assert item["work_pool"]["work_queue_name"] in {LIVE_QUEUE, BACKFILL_QUEUE}


def test_every_file_of_flows_is_deployed_under_its_own_name(repository: Path) -> None:
    files = {
        path.stem for path in (repository / "flows").glob("*.py") if not path.stem.startswith("_")
    }
    assert files == {item["name"] for item in read_deployments(repository)}


def test_every_deployed_flow_is_an_operation_and_part_of_make_run() -> None:
    assert set(DEPLOYMENTS) == set(FLOWS)
    of_the_night = {step.pipeline for step in nightly.STEPS}
    assert (set(DEPLOYMENTS) - COMPOSED) | of_the_night == set(OPERATIONS)


def test_every_step_of_the_night_is_an_operation_that_comes_after_those_it_needs() -> None:
    known: set[str] = set()
    for step in nightly.STEPS:
        assert step.pipeline in OPERATIONS
        assert known.issuperset(step.needs)
        known.add(step.pipeline)


@pytest.mark.parametrize("name", ["lgpd_retention", "lgpd_subject_request"])
def test_what_destroys_does_so_only_where_the_form_says_it(name: str) -> None:
    assert schema_of(name)["execute"]["default"] is False
    assert "simulação" in (load_flow(name).description or "")


def test_a_subject_is_named_by_uuid_and_nothing_else() -> None:
    assert schema_of("lgpd_subject_request")["user_id"]["format"] == "uuid"


def test_a_conflict_is_named_by_uuid_and_the_form_asks_which_side_stays() -> None:
    schema = parameter_schema(load_flow("resolve_conflict")).model_dump()
    assert schema["properties"]["conflict_id"]["format"] == "uuid"
    assert schema["definitions"]["Keep"]["enum"] == ["ours", "theirs"]


@pytest.mark.parametrize("name", DEPLOYMENTS)
def test_an_entrypoint_is_a_flow_called_like_its_file(name: str) -> None:
    flow = load_flow(name)
    assert (flow.name, flow.fn.__name__) == (name, name)
    assert flow.description, "ops reads it above the form"


@pytest.mark.parametrize("name", DEPLOYMENTS)
def test_the_form_explains_every_parameter_and_asks_for_nothing_personal(name: str) -> None:
    schema = parameter_schema(load_flow(name)).model_dump()
    for parameter, field in schema["properties"].items():
        is_enum = "$ref" in field or [set(part) for part in field.get("allOf", [])] == [{"$ref"}]
        is_list_of_enums = field.get("type") == "array" and "$ref" in field["items"]
        plain = field.get("type") in {"string", "integer", "boolean"}
        draws = is_enum or is_list_of_enums or plain
        assert draws, f"{parameter}: without one plain type the form shows a type toggle"
        assert field.get("description"), f"{parameter}: no help text"
        assert not PERSONAL_WORDS.search(parameter), f"{parameter}: looks like personal data"


def test_the_words_for_personal_parameters_are_noticed() -> None:
    assert all(map(PERSONAL_WORDS.search, ("client_phone", "telefone", "waid", "user_name")))


def test_every_reason_of_the_form_has_words_in_portuguese() -> None:
    for reason in QuarantineReason:
        assert reason is QuarantineReason.ALL or reason_pt(reason.value) != reason.value


def test_the_form_offers_exactly_the_reasons_whose_records_can_be_tried_again(
    repository: Path,
) -> None:
    found = read_reasons(repository / "src" / "gatte_pipelines")
    offered = {reason.value for reason in QuarantineReason} - {"all"}
    assert offered == found.quarantined
