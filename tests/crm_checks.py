"""What tests of the sync with Pipedrive look at: whole states, calls, and requests by the specs."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

from gatte_pipelines.database.engine import psycopg_connection
from gatte_pipelines.sandbox.pipedrive import Exchange, Kind
from gatte_pipelines.sandbox.pipedrive_rows import Source
from tests.pipedrive_specs import ARE_MISSING, errors_of

if TYPE_CHECKING:
    from gatte_pipelines.sandbox.pipedrive import PipedriveStandIn
    from tests.crm import CrmDesk

# What a person would call the state of our side. Runs, plans, tokens and the account as it was read
# are told apart from it.
_OURS = (
    "leads",
    "users",
    "pipeline.crm_links",
    "pipeline.sync_conflicts",
    "pipeline.sync_outbox",
    "pipeline.watermarks",
    "pipeline.external_tasks",
    "pipeline.undo_records",
)


def state_here(desk: CrmDesk) -> dict[str, list[str]]:
    """Every row of ours that a sync may change, by table."""
    return {
        table: sorted(
            row["row"]
            for row in desk.rows(f"select to_jsonb(t)::text as row from {table} as t")  # noqa: S608
        )
        for table in _OURS
    }


def state_there(desk: CrmDesk) -> dict[str, list[str]]:
    """Every record there, and the custom fields."""
    account = desk.crm.account
    with account.lock:
        account.settle()
        state = {
            kind.value: [
                json.dumps(row, default=str, sort_keys=True) for row in account.rows[kind].values()
            ]
            for kind in Kind
        }
        state["fields"] = sorted(account.fields_of(Kind.DEAL))
    return state


def both_states(desk: CrmDesk) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """Both sides as they stand."""
    return state_here(desk), state_there(desk)


def assert_at_rest(desk: CrmDesk) -> None:
    """A further run changes neither side, and calls no more than the lists of changes."""
    here, there = both_states(desk)
    calls = calls_of(desk, desk.sync)
    here_now, there_now = both_states(desk)
    for state in (here, here_now):
        del state["pipeline.watermarks"]  # they go with the clock
    assert (here_now, there_now) == (here, there)
    assert len(calls) == 3


def calls_of(desk: CrmDesk, work: Callable[[], object]) -> list[Exchange]:
    """What was sent during some work."""
    before = len(desk.crm.exchanges)
    work()
    return desk.crm.exchanges[before:]


def names_of(calls: list[Exchange]) -> Counter[str]:
    """How often each endpoint was called."""
    return Counter(f"{call.method} {call.template}" for call in calls)


def writes_of(calls: list[Exchange]) -> list[str]:
    """Everything but reads, with its path."""
    return [f"{call.method} {call.path}" for call in calls if call.method != "GET"]


def assert_valid_requests(crm: PipedriveStandIn) -> None:
    """No request that the specs do not allow, and no parameter that would be ignored."""
    assert crm.unknown_parameters == []
    if ARE_MISSING:
        return
    seen: set[tuple[object, ...]] = set()
    for exchange in crm.exchanges:
        shape = (exchange.method, exchange.template, exchange.query, exchange.request_body)
        if exchange.template is None or shape in seen:
            continue
        seen.add(shape)
        # Answers are held to the specs elsewhere; here faults are among them.
        assert errors_of(replace(exchange, status=None)) == []


def anonymize(desk: CrmDesk, lead_id: UUID) -> None:
    """What retention leaves of a lead, with the sync's own rows gone as the law's hook does it."""
    values = {"id": lead_id}
    desk.execute(
        "update leads set name = 'Anonimizado', phone = '+00000000000', email = null, "
        "company = null, notes = null, crm_id = null where id = %(id)s",
        values,
    )
    desk.execute(
        "insert into pipeline.anonymized_rows (table_name, row_id, rule) "
        "values ('leads', %(id)s, 'test')",
        values,
    )
    for table, column in (
        ("pipeline.crm_links", "lead_id"),
        ("pipeline.sync_outbox", "local_id"),
        ("pipeline.sync_conflicts", "local_id"),
    ):
        desk.execute(f"delete from {table} where {column} = %(id)s", values)  # noqa: S608


def open_task(desk: CrmDesk, reference: str) -> None:
    """A task of an erasure that is not confirmed yet."""
    desk.execute(
        "insert into pipeline.external_tasks "
        "(task_id, user_id, system, reference, state, created_at) values "
        "(gen_random_uuid(), gen_random_uuid(), 'pipedrive', %(reference)s, 'open', now())",
        {"reference": reference},
    )


def tasks(desk: CrmDesk) -> list[str]:
    """References of open erasure tasks."""
    rows = desk.rows(
        "select reference from pipeline.external_tasks where state = 'open' order by reference"
    )
    return [row["reference"] for row in rows]


def last_run(desk: CrmDesk) -> dict[str, Any]:
    """The row of the last run."""
    (row,) = desk.rows(
        "select * from pipeline.runs where pipeline = 'crm_sync' order by started_at desc limit 1"
    )
    return row


def fill(desk: CrmDesk, count: int, *, per_company: int = 10) -> list[UUID]:
    """So many leads that both sides have and agree on, for a long time by now; their ids here."""
    account, now = desk.crm.account, desk.clock.at
    at = now - timedelta(days=30)
    desk.clock.at = at
    told, account.tell = account.tell, lambda _: None
    leads = [uuid4() for _ in range(count)]
    rows = []
    for number, lead_id in enumerate(leads):
        if number % per_company == 0:
            company = f"Firma {number}"
            organization = account.create(Kind.ORGANIZATION, {"name": company}, Source.API)
        name, phone = f"Cliente {number}", f"+551190{number:07}"
        contact = {"value": phone, "primary": True, "label": "mobile"}
        values = {"name": name, "phones": [contact], "org_id": organization["id"]}
        person = account.create(Kind.PERSON, values, Source.API)
        values = {
            "title": name,
            "person_id": person["id"],
            "organization_id": organization["id"],
            "origin_id": str(lead_id),
        }
        there = account.create(Kind.LEAD, values, Source.API)
        ids = (there["id"], person["id"], organization["id"])
        rows.append((lead_id, name, phone, company, *ids, at))
    account.tell, desk.clock.at = told, now
    with desk.database.connect("owner") as connection:
        driver = psycopg_connection(connection)
        with driver.transaction(), driver.cursor() as cursor:
            cursor.executemany(
                "insert into leads (id, name, phone, company, stage, source, crm_id, created_at) "
                "values (%s, %s, %s, %s, 'new', 'site', %s, %s)",
                [(*row[:5], row[7]) for row in rows],
            )
            cursor.executemany(
                "insert into pipeline.crm_links (lead_id, agreed_name, agreed_phone, "
                "agreed_company, remote_lead_id, person_id, organization_id, made_at, state, "
                "phone_key, agreed_stage, agreed_at, changed_at) values (%s, %s, %s, %s, %s, %s, "
                "%s, %s, 'linked', substr(%s, 2), 'new', %s, %s)",
                [(*row, row[2], row[7], row[7]) for row in rows],
            )
    return leads
