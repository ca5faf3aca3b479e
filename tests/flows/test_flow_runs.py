"""Each flow as a real flow run: server, worker, database and mailbox are the real ones."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from gatte_pipelines.crm.budget import TokenLedger
from gatte_pipelines.crm.client import PipedriveClient
from gatte_pipelines.crm.models import LeadChanges
from gatte_pipelines.database.engine import connect, make_engine
from gatte_pipelines.run_report import RunReport
from gatte_pipelines.sandbox.local_stack import LocalStack
from gatte_pipelines.sandbox.local_stack_api import Artifact, FlowRun
from gatte_pipelines.sandbox.local_stack_setup import (
    lay_sample_certificates,
    lay_sample_leads,
    read_contents,
)
from gatte_pipelines.sandbox.traffic import (
    WHOLE_SHARES,
    TrafficCounts,
    TrafficPlan,
    write_traffic,
)

pytestmark = pytest.mark.prefect

SHARES: dict[str, Any] = WHOLE_SHARES | {"number_change_pct": 5.0, "opt_out_pct": 5.0}
# Of yesterday: records of more than 90 days would create nothing.
PLAN = TrafficPlan(
    messages=300, users=40, seed=11, as_of=datetime.now(UTC) - timedelta(days=1), **SHARES
)


@pytest.fixture(scope="module")
def loaded(stack: LocalStack) -> tuple[FlowRun, TrafficCounts]:
    """The first inbound run of the session, which found one file."""
    counts = lay_batch(stack, PLAN)
    return stack.run_flow("inbound_messages"), counts


def lay_batch(stack: LocalStack, plan: TrafficPlan) -> TrafficCounts:
    """Put a file into the landing zone by rename."""
    landing = Path(stack.settings.landing_url)
    partial = landing / "batch.jsonl.part"
    with partial.open("wb") as out:
        counts = write_traffic(plan, out)
    partial.rename(landing / f"batch_{plan.seed}.jsonl")
    return counts


def cards(stack: LocalStack, run: FlowRun) -> dict[str, Artifact]:
    """The artifacts of a run by key."""
    return {artifact.key: artifact for artifact in stack.api.read_artifacts(run.run_id)}


def report_of(stack: LocalStack, run: FlowRun) -> RunReport:
    report = stack.api.read_report(run.run_id)
    assert report is not None, run.message
    return report


def test_an_inbound_run_completes_and_accounts_for_every_record(
    stack: LocalStack, loaded: tuple[FlowRun, TrafficCounts]
) -> None:
    run, counts = loaded
    assert (run.state_name, run.state_type) == ("Completed", "COMPLETED"), run.message
    report = report_of(stack, run)
    report.balance()
    assert report.received == counts.updates
    assert report.inserted > 0
    assert f"{counts.updates:,} recebidos".replace(",", ".") in run.message


def test_every_kind_of_record_leaves_its_rows(
    stack: LocalStack, loaded: tuple[FlowRun, TrafficCounts]
) -> None:
    _, counts = loaded
    contents = read_contents(stack.settings)
    assert contents["situações de entrega"] == counts.statuses
    assert contents["edições"] == counts.others["edit"]
    assert contents["remoções"] == counts.others["revoke"]
    assert contents["mensagens de clientes"] >= counts.messages - counts.kinds.get("reaction", 0)
    of_others = {"certificados", "avisos a clientes", "leads de renovação", "leads no Pipedrive"}
    empty = {name for name, count in contents.items() if not count}
    assert empty <= {"clientes que eram dois"} | of_others


def test_a_run_leaves_an_end_card_and_a_table_in_portuguese(
    stack: LocalStack, loaded: tuple[FlowRun, TrafficCounts]
) -> None:
    run, counts = loaded
    found = cards(stack, run)
    card = found["inbound-messages"]
    assert card.kind == "markdown"
    assert "Entrada de mensagens: concluída" in str(card.data)
    table = {
        row["item"]: row["quantidade"]
        for row in json.loads(str(found["inbound-messages-table"].data))
    }
    assert table["recebidos"] == counts.updates
    assert sum(table.values()) == 2 * counts.updates


def test_a_run_that_finds_nothing_ends_as_skipped(
    stack: LocalStack, loaded: tuple[FlowRun, TrafficCounts]
) -> None:
    run = stack.run_flow("inbound_messages")
    assert (run.state_name, run.state_type) == ("Skipped", "COMPLETED"), run.message
    assert run.message == "nada a fazer"
    assert set(cards(stack, run)) == {"inbound-messages"}


def test_idle_conversations_are_closed_as_of_the_instant_asked_for(
    stack: LocalStack, loaded: tuple[FlowRun, TrafficCounts]
) -> None:
    run = stack.run_flow("session_context_expiry", {"as_of": "2026-11-24T12:00:00-03:00"})
    assert run.state_type == "COMPLETED", run.message
    assert report_of(stack, run).as_of == datetime(2026, 11, 24, 15, tzinfo=UTC)


def test_a_replay_takes_only_records_of_the_reason_chosen_in_the_form(
    stack: LocalStack, loaded: tuple[FlowRun, TrafficCounts]
) -> None:
    of_load = report_of(stack, loaded[0]).quarantined
    reason, count = max(of_load.items(), key=lambda item: item[1])
    run = stack.run_flow("quarantine_replay", {"reason": reason, "limit": 1000})
    assert run.state_type == "COMPLETED", run.message
    report = report_of(stack, run)
    report.balance()
    assert report.received == count


def test_a_failed_run_names_what_is_wrong_without_the_secret_and_staff_get_a_mail(
    stack: LocalStack, loaded: tuple[FlowRun, TrafficCounts]
) -> None:
    secret = "a-password-nobody-may-see"  # noqa: S105 - it opens nothing
    failed = stack.run_flow(
        "inbound_messages",
        job_variables={
            "env": {
                "GATTE_DATABASE_URL": f"postgresql://nobody:{secret}@127.0.0.1:9/nothing",
                "GATTE_ID_KEY": "obviously-no-production-key",
            }
        },
    )
    assert failed.state_type == "FAILED"
    assert "database" in failed.message
    said = failed.message + stack.api.read_logs(failed.run_id)
    assert secret not in said

    mails = Path(stack.home / "mail")
    before = set(mails.glob("*.eml"))
    watched = stack.run_flow("watchdog")
    assert watched.state_name == "Completed", watched.message
    new = set(mails.glob("*.eml")) - before
    assert len(new) == 1
    assert secret not in new.pop().read_text()


def test_a_retention_run_from_the_form_is_a_dry_run_that_says_so(
    stack: LocalStack, loaded: tuple[FlowRun, TrafficCounts]
) -> None:
    # In a hundred days everything of the sample is past its time.
    later = (datetime.now(UTC) + timedelta(days=100)).isoformat()
    before = read_contents(stack.settings)
    run = stack.run_flow("lgpd_retention", {"as_of": later})
    assert (run.state_name, run.state_type) == ("Completed", "COMPLETED"), run.message
    assert run.message.startswith("simulação: nada foi alterado; ")
    report = report_of(stack, run)
    report.balance()
    assert (report.updated, report.reason) == (0, "dry_run")
    assert report.skipped["dry_run"] > 0
    assert read_contents(stack.settings) == before
    found = cards(stack, run)
    assert "### Retenção LGPD: simulação" in str(found["lgpd-retention"].data)
    assert "seriam tratados" in str(found["lgpd-retention-table"].data)


def test_alerts_from_the_form_are_a_dry_run_with_a_preview_that_names_nobody(
    stack: LocalStack, loaded: tuple[FlowRun, TrafficCounts]
) -> None:
    lay_sample_certificates(stack.settings, print)
    run = stack.run_flow("certificate_alerts", {"channels": ["whatsapp"]})
    assert (run.state_name, run.state_type) == ("Completed", "COMPLETED"), run.message
    report = report_of(stack, run)
    assert (report.updated, report.reason) == (0, "dry_run")
    found = cards(stack, run)
    assert "Nenhum aviso foi enviado" in str(found["certificate-alerts"].data)
    preview = str(found["certificate-alerts-previa"].data)
    assert "[nome]" in preview
    assert "gatte_certificados_v1_" in preview
    assert "+55" not in preview
    (exact,) = (stack.home / "alert_previews").iterdir()
    assert "+55" in exact.read_text("utf-8")


@pytest.fixture
def pipedrive(stack: LocalStack) -> Iterator[PipedriveClient]:
    """The stand-in lives in this process's stack; it is asked over its socket."""
    settings = stack.settings
    with PipedriveClient(
        settings.pipedrive_base_url or "", settings.pipedrive_api_token or "", ledger=TokenLedger()
    ) as client:
        yield client


def test_leads_reach_the_crm_by_a_flow_run_after_a_dry_run_that_names_nobody(
    stack: LocalStack, loaded: tuple[FlowRun, TrafficCounts], pipedrive: PipedriveClient
) -> None:
    lay_sample_leads(stack.settings, print)
    waiting = read(stack, "select id::text from leads where crm_id is null")
    assert waiting

    shown = stack.run_flow("crm_sync", {"dry_run": True})
    assert (shown.state_name, shown.state_type) == ("Completed", "COMPLETED"), shown.message
    assert shown.message.startswith("simulação: nada foi alterado; ")
    found = cards(stack, shown)
    assert "### Sincronização com o CRM: simulação" in str(found["crm-sync"].data)
    table = str(found["crm-sync-diferencas"].data)
    assert {"campo", "conflitos"} <= json.loads(table)[0].keys()
    assert "Exemplo" not in table
    assert "+55" not in table
    assert list(pipedrive.iter_leads()) == []

    run = stack.run_flow("crm_sync", {"direction": "push"})
    assert (run.state_name, run.state_type) == ("Completed", "COMPLETED"), run.message
    report = report_of(stack, run)
    report.balance()
    assert report.inserted == len(waiting)
    there = {str(lead.id): lead.origin_id for lead in pipedrive.iter_leads()}
    ours = dict(read(stack, "select crm_id, id::text from leads where crm_id is not null"))
    assert there == ours
    said = run.message + stack.api.read_logs(run.run_id)
    assert (stack.settings.pipedrive_api_token or "") not in said

    # What a salesperson changes there comes back.
    lead = next(lead for lead in pipedrive.iter_leads() if not lead.label_ids)
    label = next(label for label in pipedrive.read_lead_labels() if label.name == "Hot")
    pipedrive.update_lead(lead.id, LeadChanges(label_ids=[label.id]))
    back = stack.run_flow("crm_sync")
    assert back.state_type == "COMPLETED", back.message
    assert report_of(stack, back).updated == 1
    stages = dict(read(stack, "select crm_id, stage::text from leads"))
    assert stages[str(lead.id)] == "qualified"


def read(stack: LocalStack, query: str) -> list[tuple[Any, ...]]:
    """What a query gives, asked as the owner."""
    engine = make_engine(stack.settings.migration_database_url or "")
    with connect(engine) as connection:
        return [tuple(row) for row in connection.execute(text(query))]


def test_an_approved_plan_that_does_not_exist_fails_the_run(
    stack: LocalStack, loaded: tuple[FlowRun, TrafficCounts]
) -> None:
    run = stack.run_flow("lgpd_retention", {"approve": "00000000-0000-4000-8000-000000000000"})
    assert run.state_type == "FAILED"
    assert "ConfigurationError" in run.message


def test_a_night_ends_as_its_steps_did_and_leaves_their_cards(
    stack: LocalStack, loaded: tuple[FlowRun, TrafficCounts]
) -> None:
    run = stack.run_flow("nightly")
    assert run.state_type == "COMPLETED", run.message
    assert "Retenção LGPD – " in run.message
    assert "Situação dos certificados – " in run.message
    found = cards(stack, run)
    assert {"nightly", "certificate-state", "lgpd-retention", "data-quality"} <= set(found)
    report = found["lgpd-retention-relatorio-do-encarregado"]
    assert report.kind == "markdown"
    assert str(report.data).startswith("# ")


def test_quality_from_the_form_shows_what_did_not_pass(
    stack: LocalStack, loaded: tuple[FlowRun, TrafficCounts]
) -> None:
    run = stack.run_flow("data_quality", {"tables": ["users", "messages"], "mode": "full"})
    assert (run.state_name, run.state_type) == ("Completed", "COMPLETED"), run.message
    report = report_of(stack, run)
    report.balance()
    assert report.inserted > 15
    found = cards(stack, run)
    assert str(found["data-quality-resumo"].data).startswith("# Qualidade dos dados: tudo")
    tables = {row["tabela"] for row in json.loads(found["data-quality-verificacoes"].data)}
    assert tables == {"users", "messages"}


def test_a_night_with_a_critical_failure_stops_what_depends_on_it_and_only_that(
    stack: LocalStack, loaded: tuple[FlowRun, TrafficCounts]
) -> None:
    lay_sample_certificates(stack.settings, print)
    plant = "update certificates set issued_at = expires_at + interval '1 day' where id = ("
    mend = "update certificates set issued_at = expires_at - interval '1 year' where id = ("
    first = "select id from certificates order by id limit 1)"
    write(stack, plant + first)
    try:
        run = stack.run_flow("nightly")
        assert run.state_type == "FAILED"
        assert run.message.startswith("Qualidade dos dados – falhou: "), run.message
        assert "certificates.expires_after_issue" in run.message
        assert "Retenção LGPD – " in run.message
        assert "Retenção LGPD – falhou" not in run.message
        card = str(cards(stack, run)["data-quality-resumo"].data)
        assert "Há certificados que vencem antes de emitidos" in card
        # What depends on certificates waits; what does not goes on.
        alerts = stack.run_flow("certificate_alerts", {"dry_run": False})
        assert (alerts.state_name, alerts.state_type) == ("Skipped", "COMPLETED")
        assert "não é confiável" in alerts.message
        assert stack.run_flow("session_context_expiry").state_type == "COMPLETED"
        assert report_of(stack, stack.run_flow("lgpd_retention")).reason == "dry_run"
    finally:
        write(stack, mend + first)
    good = stack.run_flow("data_quality", {"tables": ["certificates"]})
    assert good.state_type == "COMPLETED", good.message
    alerts = stack.run_flow("certificate_alerts", {"dry_run": False})
    assert "não é confiável" not in alerts.message


def write(stack: LocalStack, statement: str) -> None:
    """Write as the owner, past every trigger."""
    engine = make_engine(stack.settings.migration_database_url or "")
    with connect(engine) as connection, connection.begin():
        connection.execute(text("set local session_replication_role = replica"))
        connection.execute(text(statement))


def test_a_night_whose_step_fails_is_red_and_names_the_step(
    stack: LocalStack, loaded: tuple[FlowRun, TrafficCounts]
) -> None:
    run = stack.run_flow("nightly", {"as_of": "2026-11-24 02:00"})
    assert run.state_type == "FAILED"
    assert run.message.startswith("Situação dos certificados – falhou: ")
    assert "Retenção LGPD – falhou: " in run.message
    assert "### Rotina da noite: falhou" in str(cards(stack, run)["nightly"].data)


def test_a_request_of_somebody_unknown_and_one_that_is_no_uuid_fail(
    stack: LocalStack, loaded: tuple[FlowRun, TrafficCounts]
) -> None:
    unknown = {"kind": "export", "user_id": "00000000-0000-4000-8000-000000000000"}
    failed = stack.run_flow("lgpd_subject_request", unknown)
    assert failed.state_type == "FAILED"
    refused = stack.run_flow("lgpd_subject_request", unknown | {"user_id": "not-a-uuid"})
    assert refused.state_type == "FAILED"
    assert "user_id" in refused.message
    assert "lgpd-subject-request" not in cards(stack, refused), "it never began"


CONFLICT = "00000000-0000-4000-8000-00000000c0f1"


def test_a_person_reverses_a_conflict_from_its_form(
    stack: LocalStack, loaded: tuple[FlowRun, TrafficCounts]
) -> None:
    write(
        stack,
        "insert into leads (id, name, company, phone, stage, source, created_at) "
        "values ('00000000-0000-4000-8000-00000000c0f2', 'Lead Exemplo', 'Deles', "
        "'+5511900001234', 'new', 'x', now()); "
        "insert into pipeline.sync_conflicts (conflict_id, system, table_name, local_id, kind, "
        "field, winner, our_value, their_value, run_id, found_at) "
        "values ('00000000-0000-4000-8000-00000000c0f1', 'pipedrive', 'leads', "
        "'00000000-0000-4000-8000-00000000c0f2', 'both_changed', 'company', 'theirs', 'Nossa', "
        "'Deles', gen_random_uuid(), now())",
    )
    run = stack.run_flow("resolve_conflict", {"conflict_id": CONFLICT, "keep": "ours"})
    assert (run.state_name, run.state_type) == ("Completed", "COMPLETED"), run.message
    assert run.message == "1 conflito: 1 resolvido"
    card = str(cards(stack, run)["resolve-conflict"].data)
    assert "empresa: voltou a valer o nosso" in card
    assert "Nossa" not in card
    again = stack.run_flow("resolve_conflict", {"conflict_id": CONFLICT, "keep": "theirs"})
    assert again.state_type == "FAILED"
    assert "resolved before" in again.message


def test_an_instant_without_offset_is_refused_with_an_example(stack: LocalStack) -> None:
    run = stack.run_flow("session_context_expiry", {"as_of": "2026-11-24 12:00"})
    assert run.state_type == "FAILED"
    assert "2026-11-22T10:00:00-03:00" in run.message
