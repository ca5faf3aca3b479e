"""The command line as a person and a script meet it: results, messages and exit codes."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from typer.testing import CliRunner

from gatte_pipelines.cli import app
from gatte_pipelines.database.single_flight import single_flight
from gatte_pipelines.errors import ConfigurationError
from gatte_pipelines.run_report import Outcome, RunReport
from gatte_pipelines.sandbox.pipedrive import PipedriveStandIn
from gatte_pipelines.settings import Settings
from gatte_pipelines.wiring import OPERATIONS, Wiring
from tests.command_line import HIDDEN, gatte
from tests.conflicts import Desk, opened
from tests.inbound import AS_OF, NOW, Inbound
from tests.postgres import ID_KEY, TestDatabase
from tests.webhooks import ANA, contact, jsonl, text_message, texts

MakeDatabase = Callable[..., AbstractContextManager[TestDatabase]]


@pytest.fixture
def inbound(database: TestDatabase) -> Inbound:
    return Inbound(database)


def test_the_registry_has_the_pipelines_of_this_project() -> None:
    assert set(OPERATIONS) == {
        "certificate_alerts",
        "certificate_state",
        "crm_sync",
        "data_quality",
        "inbound_messages",
        "lgpd_retention",
        "lgpd_subject_request",
        "quarantine_replay",
        "resolve_conflict",
        "session_context_expiry",
        "watchdog",
    }


def test_a_pipeline_that_does_not_exist_is_named(inbound: Inbound) -> None:
    with pytest.raises(ConfigurationError, match="no pipeline is called nonsense"):
        inbound.run("nonsense")


def test_the_key_of_an_embedded_database_is_made_once_for_its_owner_only(tmp_path: Path) -> None:
    made = [Wiring(Settings(home=tmp_path / "home")).message_ids.fingerprint() for _ in range(2)]
    other = Wiring(Settings(home=tmp_path / "other")).message_ids.fingerprint()
    assert made[0] == made[1] != other
    assert [path.name for path in (tmp_path / "home").iterdir()] == ["id_key"]
    assert (tmp_path / "home" / "id_key").stat().st_mode & 0o777 == 0o600


def test_a_given_key_wins_over_the_embedded_one(tmp_path: Path) -> None:
    given = Wiring(Settings(home=tmp_path / "home", id_key=ID_KEY)).message_ids
    assert given.fingerprint() != Wiring(Settings(home=tmp_path / "home")).message_ids.fingerprint()


def test_an_embedded_database_that_was_never_set_up_is_not_made_by_the_way(
    tmp_path: Path,
) -> None:
    with (
        Wiring(Settings(home=tmp_path / "home")) as wiring,
        pytest.raises(ConfigurationError, match="gatte db migrate"),
    ):
        wiring.run("inbound_messages")
    assert not (tmp_path / "home" / "postgres").exists()


def test_the_last_line_of_a_load_is_its_balanced_report(inbound: Inbound) -> None:
    body = texts(text_message("w1", NOW, body=HIDDEN), contacts=[contact(ANA, HIDDEN)])
    inbound.put("lote.jsonl", jsonl(body, b"{"))
    done = gatte(inbound, "inbound", "load", "--json", "--as-of", "2026-03-02T12:00:00-03:00")
    assert done.returncode == 0
    report = RunReport.from_json(done.stdout.splitlines()[-1])
    report.balance()
    assert (report.as_of, report.received, report.inserted) == (AS_OF, 2, 1)
    assert report.quarantined == {"malformed_json": 1}


def test_a_load_shows_a_card_in_portuguese(inbound: Inbound) -> None:
    inbound.put("lote[b].jsonl", jsonl(texts(text_message("w1", NOW)), b"{"))
    done = gatte(inbound, "inbound", "load")
    assert done.returncode == 0, "bad records are no failure of the run"
    for words in (
        "Entrada de mensagens: concluída",
        "lote[b].jsonl, linha 2: JSON malformado [malformed_json] (em quarentena)",
        "recebidos",
        "inseridos",
    ):
        assert words in done.stdout
    listed = gatte(inbound, "quarantine", "list")
    for words in ("JSON malformado", "malformed_json", "lote[b].jsonl", "gatte quarantine replay"):
        assert words in listed.stdout


def test_the_quarantine_can_be_listed_and_replayed_by_a_script(inbound: Inbound) -> None:
    inbound.send(texts(text_message("a", NOW + 3600, body=HIDDEN)), b"{")
    listed = json.loads(gatte(inbound, "quarantine", "list", "--json").stdout.splitlines()[-1])
    assert listed["counts"] == {"future": 1, "malformed_json": 1}
    assert {entry["line"] for entry in listed["entries"]} == {1, 2}
    later = (AS_OF + timedelta(hours=1)).isoformat()
    done = gatte(inbound, "quarantine", "replay", "--reason", "future", "--as-of", later, "--json")
    report = RunReport.from_json(done.stdout.splitlines()[-1])
    assert (done.returncode, report.inserted) == (0, 1)


def test_an_empty_quarantine_says_so(inbound: Inbound) -> None:
    assert "a quarentena está vazia" in gatte(inbound, "quarantine", "list").stdout


def test_nothing_to_do_is_said_and_is_no_failure(inbound: Inbound) -> None:
    done = gatte(inbound, "contexts", "expire", "--json")
    assert done.returncode == 0
    assert RunReport.from_json(done.stdout.splitlines()[-1]).outcome is Outcome.SKIPPED
    assert "nada a fazer" in gatte(inbound, "inbound", "load").stdout


@pytest.fixture
def desk(database: TestDatabase) -> Iterator[Desk]:
    with opened(database) as desk:
        yield desk


def test_no_conflicts_are_said_to_be_none(inbound: Inbound) -> None:
    assert gatte(inbound, "conflicts", "list").stdout == "nenhum conflito em aberto\n"
    assert gatte(inbound, "conflicts", "list", "--all").stdout == "nenhum conflito\n"


def test_conflicts_are_listed_without_values(inbound: Inbound, desk: Desk) -> None:
    lead = desk.linked()
    conflict_id = desk.record(lead, our_value=HIDDEN, their_value=f"{HIDDEN}-deles")
    shown = gatte(inbound, "conflicts", "list").stdout
    for words in (str(conflict_id), str(lead), "pipedrive", "leads", "company", "o deles"):
        assert words in shown
    assert "os dois mudaram" in shown
    assert "2026-03-02 15:00" in shown
    listed = json.loads(gatte(inbound, "conflicts", "list", "--json").stdout)
    assert listed == {
        "conflicts": [
            {
                "conflict_id": str(conflict_id),
                "system": "pipedrive",
                "table": "leads",
                "local_id": str(lead),
                "field": "company",
                "kind": "both_changed",
                "winner": "theirs",
                "found_at": "2026-03-02T15:00:00+00:00",
                "resolved_at": None,
                "resolution": None,
            }
        ]
    }


def test_both_values_are_shown_to_whoever_asks_for_them_and_obey_no_terminal(
    inbound: Inbound, desk: Desk
) -> None:
    desk.record(desk.linked(), our_value="Nossa [bold]", their_value="De\x1b[2Jles")
    shown = gatte(inbound, "conflicts", "list", "--values").stdout
    assert "nosso: Nossa [bold]\n" in shown
    assert "deles: De\N{REPLACEMENT CHARACTER}[2Jles\n" in shown
    refused = gatte(inbound, "conflicts", "list", "--values", "--json")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "leave --json out" in refused.stderr


def test_a_conflict_is_resolved_and_leaves_the_list(inbound: Inbound, desk: Desk) -> None:
    lead = desk.linked(company="Deles")
    conflict_id = str(desk.record(lead, our_value=HIDDEN))
    done = gatte(inbound, "conflicts", "resolve", conflict_id, "--keep", "ours")
    assert done.returncode == 0
    assert "Decisão sobre um conflito: concluída" in done.stdout
    assert "empresa: voltou a valer o nosso; a próxima sincronização o leva ao Pipedrive" in (
        done.stdout
    )
    assert desk.read_lead(lead)["company"] == HIDDEN
    run = desk.one("select * from pipeline.runs where pipeline = 'resolve_conflict'")
    assert (run["outcome"], run["report"]["updated"]) == ("completed", 1)
    assert HIDDEN not in json.dumps(run["report"])
    assert "em aberto" in gatte(inbound, "conflicts", "list").stdout
    assert "o nosso" in gatte(inbound, "conflicts", "list", "--all").stdout


def test_a_decision_that_cannot_be_carried_out_is_one_line_and_a_failed_run(
    inbound: Inbound, desk: Desk
) -> None:
    conflict_id = str(desk.record(desk.linked(company=HIDDEN), our_value=HIDDEN))
    done = gatte(inbound, "conflicts", "resolve", conflict_id, "--keep", "ours", "--json")
    assert (done.returncode, done.stdout) == (2, "")
    assert "changed since" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    outcomes = desk.rows("select outcome from pipeline.runs where pipeline = 'resolve_conflict'")
    assert outcomes == [{"outcome": "failed"}]
    kept = gatte(inbound, "conflicts", "resolve", conflict_id, "--keep", "theirs")
    assert "esse lado já valia: nada foi alterado" in kept.stdout


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"conflict_id": "abc", "keep": "ours"}, "conflict_id must be a UUID"),
        (
            {"conflict_id": "00000000-0000-4000-8000-000000000001", "keep": "both"},
            "keep must be ours or theirs",
        ),
        (
            {"conflict_id": "00000000-0000-4000-8000-000000000001", "keep": "ours"},
            "gatte conflicts list",
        ),
    ],
)
def test_a_decision_about_nothing_is_refused(
    inbound: Inbound, options: dict[str, str], words: str
) -> None:
    with pytest.raises(ConfigurationError, match=words):
        inbound.run("resolve_conflict", **options)


@pytest.mark.parametrize("text", ["2026-03-02T12:00:00", "ontem", "2026-03-02", "1700000000"])
def test_an_instant_without_offset_is_refused(text: str) -> None:
    result = CliRunner().invoke(app, ["inbound", "load", "--as-of", text])
    assert isinstance(result.exception, ConfigurationError)


def test_a_refused_instant_is_told_with_an_example(inbound: Inbound) -> None:
    done = gatte(inbound, "inbound", "load", "--as-of", "ontem")
    assert (done.returncode, done.stderr) == (
        2,
        "error: --as-of must be an ISO 8601 instant with offset, "
        "such as 2026-11-22T10:00:00-03:00\n",
    )


def test_a_file_that_is_not_there_is_one_line_and_a_failure(inbound: Inbound) -> None:
    done = gatte(inbound, "inbound", "load", "ausente.json")
    assert (done.returncode, done.stderr) == (1, "error: ausente.json: no such file\n")


def test_settings_that_cannot_work_exit_with_two_and_name_what_to_change(
    inbound: Inbound, tmp_path: Path
) -> None:
    inbound.say(text_message("w1", NOW))
    inbound.put("lote.jsonl", texts(text_message("w2", NOW)))
    url = (inbound.settings.database_url or "").replace(inbound.database.name, "ausente")
    for changes, words in (
        ({"GATTE_DATABASE_URL": url}, "no such database"),
        ({"GATTE_DATABASE_URL": HIDDEN}, "GATTE_DATABASE_URL"),
        ({"GATTE_ID_KEY": ""}, "GATTE_ID_KEY is not set"),
        ({"GATTE_ID_KEY": "another-key-than-the-first"}, "Restore the former key"),
        ({"GATTE_ID_KEY": "short"}, "GATTE_ID_KEY must have"),
        ({"GATTE_INBOUND_URL": str(tmp_path / "ausente")}, "GATTE_INBOUND_URL"),
    ):
        done = gatte(inbound, "inbound", "load", **changes)
        assert done.returncode == 2, changes
        assert words in done.stderr, changes
    assert inbound.load().inserted == 1, "the file waited"


def test_a_server_that_is_down_exits_as_a_temporary_failure(
    inbound: Inbound, tmp_path: Path
) -> None:
    url = f"postgresql://gatte_pipeline@/gatte?host={tmp_path}"
    done = gatte(inbound, "inbound", "load", GATTE_DATABASE_URL=url)
    assert done.returncode == 75
    assert "is the server running" in done.stderr


def test_a_check_of_a_migrated_database_finds_nothing(inbound: Inbound) -> None:
    done = gatte(inbound, "db", "check", "--json")
    assert (done.returncode, json.loads(done.stdout)) == (0, {"differences": []})


def test_a_check_that_finds_a_difference_exits_with_one_and_names_it(inbound: Inbound) -> None:
    inbound.execute("alter table users alter column is_client drop not null")
    done = gatte(inbound, "db", "check")
    assert done.returncode == 1
    assert "users" in done.stdout
    assert "is_client" in done.stdout


def test_migrating_brings_an_empty_database_to_work_and_again_does_nothing(
    make_database: MakeDatabase,
) -> None:
    with make_database(template="template0") as empty:
        inbound = Inbound(empty)
        inbound.put("a.jsonl", texts(text_message("w1", NOW)))
        refused = gatte(inbound, "inbound", "load")
        assert (refused.returncode, "gatte db migrate" in refused.stderr) == (2, True)
        first = json.loads(gatte(inbound, "db", "migrate", "--json").stdout)
        second = json.loads(gatte(inbound, "db", "migrate", "--json").stdout)
        assert first["migrations"]
        assert second == {"migrations": [], "missing_roles": []}
        assert inbound.load().inserted == 1


def test_a_missing_mail_setting_is_named(inbound: Inbound) -> None:
    done = gatte(inbound, "watchdog")
    assert (done.returncode, "GATTE_SMTP_URL" in done.stderr) == (2, True)


def test_a_command_that_does_not_exist_is_a_usage_error(inbound: Inbound) -> None:
    assert gatte(inbound, "nonsense").returncode == 2


# --- the sync with Pipedrive ---------------------------------------------------------------------


@pytest.fixture
def stand_in() -> Iterator[PipedriveStandIn]:
    with PipedriveStandIn() as started:
        yield started


def pipedrive(stand_in: PipedriveStandIn) -> dict[str, str]:
    return {
        "GATTE_PIPEDRIVE_BASE_URL": stand_in.url,
        "GATTE_PIPEDRIVE_API_TOKEN": stand_in.token,
    }


def insert_lead(inbound: Inbound, name: str = "Lead Exemplo") -> str:
    """A lead as the chatbot writes it; its id."""
    lead_id = str(uuid4())
    inbound.execute(
        "insert into leads (id, name, phone, stage, source, created_at) "
        "values (:id, :name, '+5511900001234', 'new', 'whatsapp_bot', now())",
        id=lead_id,
        name=name,
    )
    return lead_id


def report_of(done: Any) -> RunReport:
    assert done.returncode == 0, done.stderr
    report = RunReport.from_json(done.stdout.splitlines()[-1])
    report.balance()
    return report


def test_a_lead_is_shown_by_a_dry_run_and_created_by_a_sync_once(
    inbound: Inbound, stand_in: PipedriveStandIn
) -> None:
    lead_id = insert_lead(inbound, name=HIDDEN)
    shown = gatte(inbound, "crm", "sync", "--dry-run", **pipedrive(stand_in))
    assert shown.returncode == 0, shown.stderr
    for words in ("Sincronização com o CRM: simulação", "Nada foi alterado", "conflitos"):
        assert words in shown.stdout
    assert stand_in.leads == []

    first = report_of(gatte(inbound, "crm", "sync", "--json", **pipedrive(stand_in)))
    assert (first.received, first.inserted) == (1, 1)
    (there,) = stand_in.leads
    assert there["origin_id"] == lead_id
    assert inbound.one("select crm_id from leads") == (there["id"],)

    second = report_of(gatte(inbound, "crm", "sync", "--json", **pipedrive(stand_in)))
    assert (second.inserted, second.updated) == (0, 0)
    assert len(stand_in.leads) == 1


def test_neither_token_nor_names_are_printed(inbound: Inbound, stand_in: PipedriveStandIn) -> None:
    insert_lead(inbound, name=HIDDEN)
    for arguments in (("--dry-run",), (), ("--json",)):
        done = gatte(inbound, "crm", "sync", *arguments, **pipedrive(stand_in))
        assert stand_in.token not in done.stdout + done.stderr
        assert "90000" not in done.stdout + done.stderr


def test_what_a_salesperson_enters_comes_here_only_where_it_is_wanted(
    inbound: Inbound, stand_in: PipedriveStandIn
) -> None:
    person = stand_in.add_person(name="Pessoa Exemplo", phones=["+5511900005678"])
    stand_in.add_lead(title="Pessoa Exemplo", person_id=person)
    report_of(gatte(inbound, "crm", "sync", "--json", **pipedrive(stand_in)))
    assert inbound.one("select count(*) from leads") == (0,)
    wanted = pipedrive(stand_in) | {"GATTE_CRM_IMPORT": "true"}
    since = ("--since", "2026-01-01")
    done = report_of(gatte(inbound, "crm", "sync", *since, "--json", **wanted))
    assert done.inserted == 1
    assert inbound.one("select name, phone from leads") == ("Pessoa Exemplo", "+5511900005678")


def test_only_one_way_is_only_one_way(inbound: Inbound, stand_in: PipedriveStandIn) -> None:
    insert_lead(inbound)
    report_of(gatte(inbound, "crm", "sync", "--direction", "pull", "--json", **pipedrive(stand_in)))
    assert stand_in.leads == []


def test_a_closed_gate_of_leads_stops_the_sync_and_not_the_look_at_it(
    inbound: Inbound, stand_in: PipedriveStandIn
) -> None:
    insert_lead(inbound)
    inbound.execute(
        "insert into pipeline.gates (table_name, is_closed, reason, changed_at) "
        "values ('leads', true, 'leads.phone_is_there', now())"
    )
    stopped = report_of(gatte(inbound, "crm", "sync", "--json", **pipedrive(stand_in)))
    assert (stopped.outcome, stopped.reason) == (Outcome.SKIPPED, "gate_closed")
    assert stand_in.leads == []
    shown = gatte(inbound, "crm", "sync", "--dry-run", "--json", **pipedrive(stand_in))
    assert report_of(shown).received == 1


def test_erasures_that_are_owed_are_confirmed_by_a_sync_also_where_no_lead_changed(
    inbound: Inbound, stand_in: PipedriveStandIn
) -> None:
    person = stand_in.add_person(name="Pessoa Exemplo", phones=["+5511900005678"])
    inbound.execute(
        "insert into pipeline.external_tasks (task_id, user_id, system, reference, state, "
        "created_at) values (gen_random_uuid(), gen_random_uuid(), 'pipedrive', :reference, "
        "'open', now())",
        reference=f"person:{person}",
    )
    dry = gatte(inbound, "crm", "sync", "--dry-run", "--json", **pipedrive(stand_in))
    assert report_of(dry).outcome is not Outcome.FAILED
    assert len(stand_in.persons) == 1, "a dry run erases nobody"
    report_of(gatte(inbound, "crm", "sync", "--json", **pipedrive(stand_in)))
    assert stand_in.persons == []
    assert inbound.one("select state from pipeline.external_tasks") == ("confirmed",)


@pytest.mark.parametrize("missing", ["GATTE_PIPEDRIVE_BASE_URL", "GATTE_PIPEDRIVE_API_TOKEN"])
def test_a_sync_without_a_setting_names_it_and_asks_nobody(
    inbound: Inbound, stand_in: PipedriveStandIn, missing: str
) -> None:
    done = gatte(inbound, "crm", "sync", **pipedrive(stand_in) | {missing: ""})
    assert (done.returncode, done.stderr) == (
        2,
        f"error: {missing} is not set; crm_sync needs it\n",
    )
    assert stand_in.exchanges == []


def test_a_wrong_token_is_told_and_nothing_more_is_attempted(
    inbound: Inbound, stand_in: PipedriveStandIn
) -> None:
    insert_lead(inbound)
    environment = pipedrive(stand_in) | {"GATTE_PIPEDRIVE_API_TOKEN": HIDDEN}
    done = gatte(inbound, "crm", "sync", **environment)
    assert done.returncode == 2
    assert "401" in done.stderr
    assert len(stand_in.exchanges) == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--since", "ontem"), "since must be a date such as 2026-11-22"),
        (("--since", "2026-11-22T10:00:00"), "since must be a date such as 2026-11-22"),
        (("--since", "2999-01-01"), "since lies in the future"),
        (("--approve", "nonsense"), "approve must be a UUID"),
        (("--approve", str(UUID(int=1)), "--dry-run"), "give one of the two"),
    ],
)
def test_what_a_sync_is_asked_for_is_looked_at_before_anybody_is_asked(
    inbound: Inbound, stand_in: PipedriveStandIn, arguments: tuple[str, ...], words: str
) -> None:
    done = gatte(inbound, "crm", "sync", *arguments, **pipedrive(stand_in))
    assert (done.returncode, words in done.stderr) == (2, True), done.stderr
    assert stand_in.exchanges == []


def test_a_plan_that_does_not_exist_is_refused(
    inbound: Inbound, stand_in: PipedriveStandIn
) -> None:
    insert_lead(inbound)
    plan = str(UUID(int=1))
    done = gatte(inbound, "crm", "sync", "--approve", plan, **pipedrive(stand_in))
    assert (done.returncode, f"there is no plan {plan}" in done.stderr) == (2, True)
    assert stand_in.leads == []


def test_a_sync_that_another_one_is_at_is_skipped(
    inbound: Inbound, stand_in: PipedriveStandIn
) -> None:
    insert_lead(inbound)
    with inbound.database.connect() as connection, single_flight(connection, "crm_sync") as free:
        assert free
        done = report_of(gatte(inbound, "crm", "sync", "--json", **pipedrive(stand_in)))
    assert (done.outcome, done.reason) == (Outcome.SKIPPED, "already_running")
    assert stand_in.leads == []
