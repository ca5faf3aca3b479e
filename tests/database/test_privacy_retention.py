"""The retention engine: what is due goes, what is not or is kept stays, and nothing goes unseen."""

from __future__ import annotations

import re
import shutil
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Connection, text

from gatte_pipelines.errors import ConfigurationError, GatteError, PermanentError, RetryableError
from gatte_pipelines.privacy import retention
from gatte_pipelines.privacy.external import ErasureHook
from gatte_pipelines.privacy.stores import FileStore
from gatte_pipelines.run_report import Outcome, RunReport
from gatte_pipelines.wiring import Wiring
from tests.database.rows import insert, whole_client
from tests.postgres import TestDatabase

NOW = datetime.now(UTC).replace(microsecond=0)
DAY, YEAR = timedelta(days=1), timedelta(days=366)
PLACEHOLDER = re.compile(r"~x[a-z2-7]{18}")


class Officer:
    """Runs retention as the flow does, over a database of the test's own."""

    def __init__(self, database: TestDatabase, **settings: Any) -> None:
        self.database = database
        self.settings = database.settings(**settings)

    def run(self, *, as_of: datetime = NOW, execute: bool = True, **options: Any) -> RunReport:
        with Wiring(self.settings) as wiring:
            report = wiring.run("lgpd_retention", as_of=as_of, execute=execute, **options)
        report.balance()
        return report

    def rows(self, query: str, **parameters: Any) -> list[tuple[Any, ...]]:
        with self.database.connect("owner") as connection:
            return [tuple(row) for row in connection.execute(text(query), parameters)]

    def one(self, query: str, **parameters: Any) -> Any:
        ((value,),) = self.rows(query, **parameters)
        return value

    def change(self, *statements: str, **parameters: Any) -> None:
        with self.database.connect("owner") as connection, connection.begin():
            for statement in statements:
                connection.execute(text(statement), parameters)


@pytest.fixture
def officer(database: TestDatabase) -> Officer:
    return Officer(database)


def add(officer: Officer, table: str, **values: Any) -> UUID:
    with officer.database.connect("owner") as connection, connection.begin():
        return insert(connection, table, **values)


def conversation(officer: Officer, **values: Any) -> UUID:
    user = add(officer, "users", created_at=NOW - DAY, updated_at=NOW - DAY)
    return add(officer, "conversations", user_id=user, **values)


def messages(officer: Officer, *days: float) -> list[UUID]:
    """Messages of one conversation, so many days old."""
    of = conversation(officer)
    return [
        add(officer, "messages", conversation_id=of, created_at=NOW - timedelta(days=age))
        for age in days
    ]


# --- Dry runs ----------------------------------------------------------------------------------


def test_a_dry_run_tells_and_changes_nothing(officer: Officer) -> None:
    messages(officer, 91, 95, 2)
    report = officer.run(execute=False)
    assert report.received == 2
    assert report.skipped == {"dry_run": 2}
    assert officer.one("select count(*) from messages where content = ''") == 0
    assert officer.one("select count(*) from pipeline.privacy_ledger") == 0
    plan_id, contents = officer.rows("select plan_id::text, contents from pipeline.plans")[0]
    assert contents["messages_content"]["count"] == 2
    assert any(plan_id in note for note in report.notes)
    assert any(f"{NOW - timedelta(days=95):%Y-%m-%d}" in note for note in report.notes)


def test_the_officer_gets_a_report_of_each_run_and_of_one_that_failed(
    officer: Officer, monkeypatch: pytest.MonkeyPatch
) -> None:
    messages(officer, 95)
    documents: dict[str, str] = {}
    officer.run(documents=documents)
    assert documents["relatorio-do-encarregado"].startswith("# Relatório do encarregado")
    pages = list((officer.settings.home / "officer_reports").glob("*.html"))
    assert len(pages) == 1

    messages(officer, 95)
    officer.change(
        "create function forget_nothing() returns trigger language plpgsql as "
        "$$ begin new.content := old.content; return new; end $$",
        "create trigger forget_nothing before update on messages for each row "
        "execute function forget_nothing()",
    )
    failed: dict[str, str] = {}
    monkeypatch.setattr(retention, "MAX_STEP_ROWS", 2)
    with pytest.raises(PermanentError, match=r"messages_content: the same rows are due again"):
        officer.run(documents=failed)
    assert failed["relatorio-do-encarregado"].startswith("# Relatório do encarregado")


def test_nothing_due_is_told_as_such(officer: Officer) -> None:
    messages(officer, 3)
    officer.run()
    report = officer.run()
    assert (report.outcome, report.reason) == (Outcome.SKIPPED, "nothing_to_do")


# --- Rules -------------------------------------------------------------------------------------


def test_a_text_goes_after_90_days_and_its_metadata_stay(officer: Officer) -> None:
    old, young = messages(officer, 90.01, 89.99)
    metadata = (
        "select id, conversation_id, role, tokens_used, intent_detected, created_at "
        "from messages order by id"
    )
    before = officer.rows(metadata)
    report = officer.run()
    assert report.updated == 1
    assert dict(officer.rows("select id, content from messages")) == {
        old: "",
        young: "texto de exemplo",
    }
    assert officer.rows(metadata) == before
    assert officer.one("select is_in_context from messages where id = :id", id=old) is False


@pytest.mark.parametrize(
    ("created", "wrote", "staged", "is_gone"),
    [
        (2.1, None, None, True),
        (1.9, None, None, False),
        (3.0, 1.9, None, False),
        (3.0, 2.1, None, True),
        (3.0, None, 1.9, False),
        (3.9, 0.1, 0.1, False),
        (4.1, 0.1, 0.1, True),
    ],
)
def test_a_lead_goes_two_years_after_its_last_activity_and_four_after_it_came(
    officer: Officer,
    created: float,
    wrote: float | None,
    staged: float | None,
    is_gone: bool,
) -> None:
    user = add(officer, "users", created_at=NOW - 4.5 * YEAR, updated_at=NOW)
    if wrote is not None:
        officer.change(
            "insert into pipeline.user_activity (user_id, last_at) values (:u, :at)",
            u=user,
            at=NOW - wrote * YEAR,
        )
    lead = add(
        officer,
        "leads",
        user_id=user,
        created_at=NOW - created * YEAR,
        email="l@example.com",
        notes="nota",
        crm_id="17",
        company="Empresa",
    )
    if staged is not None:
        officer.change(
            "insert into pipeline.row_history (table_name, row_id, column_name, changed_at) "
            "values ('leads', :id, 'stage', :at)",
            id=lead,
            at=NOW - staged * YEAR,
        )
    officer.run()
    (row,) = officer.rows("select phone, name, email, company, notes, crm_id from leads")
    if is_gone:
        assert PLACEHOLDER.fullmatch(row[0])
        assert PLACEHOLDER.fullmatch(row[1])
        assert row[2:] == (None, None, None, None)
    else:
        assert "~" not in row[0]
        assert row[5] == "17"


def old_user(officer: Officer, years: float = 5.1) -> UUID:
    user = add(
        officer,
        "users",
        created_at=NOW - 7 * YEAR,
        updated_at=NOW - years * YEAR,
        name="Nome",
        email="u@example.com",
    )
    officer.change(
        "insert into pipeline.user_activity (user_id, last_at) values (:u, :at)",
        u=user,
        at=NOW - years * YEAR,
    )
    return user


def test_a_user_goes_five_years_after_the_last_activity(officer: Officer) -> None:
    old, young = old_user(officer, 5.01), old_user(officer, 4.9)
    officer.run()
    names = dict(officer.rows("select id, name from users"))
    assert names == {old: None, young: "Nome"}
    assert officer.rows("select row_id, rule from pipeline.anonymized_rows") == [
        (old, "users_inactive")
    ]


def _service(officer: Officer, user: UUID, **values: Any) -> UUID:
    return add(officer, "services", user_id=user, contracted_at=NOW - 6 * YEAR, **values)


BLOCKS: dict[str, tuple[Callable[[Officer, UUID], UUID], str]] = {
    "active_service": (
        _service,
        "update services set status = 'cancelled'",
    ),
    "valid_certificate": (
        lambda officer, user: add(
            officer,
            "certificates",
            user_id=user,
            service_id=_service(officer, user, status="cancelled"),
            expires_at=NOW + DAY,
        ),
        "update certificates set status = 'revoked'",
    ),
    "open_ticket": (
        lambda officer, user: add(
            officer,
            "tickets",
            user_id=user,
            conversation_id=add(
                officer,
                "conversations",
                user_id=user,
                started_at=NOW - 6 * YEAR,
                status="closed",
                closed_at=NOW - 6 * YEAR,
            ),
            status="in_progress",
        ),
        "update tickets set status = 'closed', resolved_at = now()",
    ),
    "future_appointment": (
        lambda officer, user: add(officer, "appointments", user_id=user, scheduled_at=NOW + DAY),
        "update appointments set status = 'cancelled'",
    ),
    "lead_in_period": (
        lambda officer, user: add(officer, "leads", user_id=user, created_at=NOW - YEAR),
        "update leads set created_at = now() - interval '5 years'",
    ),
    "hold": (
        lambda officer, user: _hold(officer, "users", user),
        "update pipeline.retention_holds set released_at = now()",
    ),
}


def _hold(officer: Officer, table: str, row: UUID, ends_at: datetime | None = None) -> UUID:
    hold = uuid4()
    officer.change(
        "insert into pipeline.retention_holds (hold_id, table_name, row_id, reason, owner, "
        "placed_at, ends_at) values (:h, :t, :r, 'processo', 'jurídico', now(), :e)",
        h=hold,
        t=table,
        r=row,
        e=ends_at,
    )
    return hold


@pytest.mark.parametrize("basis", BLOCKS)
def test_what_keeps_a_user_is_told_per_row_and_ends_with_it(officer: Officer, basis: str) -> None:
    block, end = BLOCKS[basis]
    user = old_user(officer)
    block(officer, user)
    report = officer.run()
    assert report.skipped == {basis: 1}
    assert officer.one("select name from users where id = :u", u=user) == "Nome"
    assert officer.rows(
        "select rule, table_name, row_id, basis from pipeline.retention_exemptions"
    ) == [("users_inactive", "users", user, basis)]
    officer.change(end)
    report = officer.run()
    assert not report.skipped
    assert officer.one("select name from users where id = :u", u=user) is None
    assert officer.one("select count(*) from pipeline.retention_exemptions") == 0


@pytest.mark.parametrize(
    ("status", "is_gone"),
    [("active", False), ("suspended", False), ("trial", False), ("cancelled", True)],
)
def test_only_a_cancelled_service_lets_its_client_go(
    officer: Officer, status: str, is_gone: bool
) -> None:
    user = old_user(officer)
    # Past its expiry: nobody has ended it all the same.
    _service(officer, user, status=status, expires_at=NOW - 5 * YEAR)
    report = officer.run()
    assert report.skipped == ({} if is_gone else {"active_service": 1})
    assert (officer.one("select name from users where id = :u", u=user) is None) is is_gone


TOKEN = {"login_token": "t"}


def test_a_token_not_used_for_30_days_goes(officer: Officer) -> None:
    old = add(officer, "users", **TOKEN, created_at=NOW - YEAR, updated_at=NOW - 31 * DAY)
    used = add(officer, "users", **TOKEN, created_at=NOW - YEAR, updated_at=NOW - 29 * DAY)
    wrote = add(officer, "users", **TOKEN, created_at=NOW - YEAR, updated_at=NOW - YEAR)
    officer.change(
        "insert into pipeline.user_activity (user_id, last_at) values (:u, :at)",
        u=wrote,
        at=NOW - DAY,
    )
    officer.run()
    assert dict(officer.rows("select id, login_token from users")) == {
        old: None,
        used: "t",
        wrote: "t",
    }


def test_notes_of_past_appointments_and_ended_services_go(officer: Officer) -> None:
    user = add(officer, "users", created_at=NOW - DAY, updated_at=NOW)
    for years, status in ((2.1, "done"), (1.9, "done")):
        add(
            officer,
            "appointments",
            user_id=user,
            scheduled_at=NOW - years * YEAR,
            status=status,
            notes="nota",
            calendar_event_id="evento",
        )
    for years, status in ((5.1, "cancelled"), (4.9, "cancelled"), (5.1, "active")):  # no expiry
        add(
            officer,
            "services",
            user_id=user,
            contracted_at=NOW - years * YEAR,
            status=status,
            notes="nota",
        )
    officer.run()
    assert officer.rows(
        "select notes, calendar_event_id from appointments order by scheduled_at"
    ) == [(None, None), ("nota", "evento")]
    assert officer.rows(
        "select status::text, notes from services order by contracted_at, status"
    ) == [("active", "nota"), ("cancelled", None), ("cancelled", "nota")]


def test_a_colleague_gone_for_five_years_becomes_the_same_placeholder_everywhere(
    officer: Officer,
) -> None:
    user = add(officer, "users", created_at=NOW - DAY, updated_at=NOW)
    old = {"user_id": user, "started_at": NOW - 6 * YEAR}
    closed = {"status": "closed", "closed_at": NOW - 6 * YEAR}
    ids = [
        add(officer, "conversations", transferred_to=name, **old, **closed)
        for name in ("Saiu Faz Tempo", "Ainda Aqui", "Num Chamado")
    ]
    add(
        officer,
        "appointments",
        user_id=user,
        assigned_to="Saiu Faz Tempo",
        scheduled_at=NOW - 6 * YEAR,
        created_at=NOW - 6 * YEAR,
    )
    add(officer, "appointments", user_id=user, assigned_to="Ainda Aqui", scheduled_at=NOW - DAY)
    add(officer, "tickets", user_id=user, conversation_id=ids[2], assigned_to="Num Chamado")
    officer.change("update pipeline.staff set first_seen_at = now() - interval '6 years'")
    before = dict(officer.rows("select name, staff_id from pipeline.staff"))
    officer.run()
    after = {
        staff_id: name
        for name, staff_id in officer.rows("select name, staff_id from pipeline.staff")
    }
    gone = after[before["Saiu Faz Tempo"]]
    assert re.fullmatch(r"~s[a-z2-7]{18}", gone)
    assert after[before["Ainda Aqui"]] == "Ainda Aqui"
    assert after[before["Num Chamado"]] == "Num Chamado"
    assert dict(officer.rows("select id, transferred_to from conversations")) == {
        ids[0]: gone,
        ids[1]: "Ainda Aqui",
        ids[2]: "Num Chamado",
    }
    assert gone in [name for (name,) in officer.rows("select assigned_to from appointments")]


def test_our_own_records_go_at_their_time(officer: Officer) -> None:
    old, young = NOW - 91 * DAY, NOW - 89 * DAY
    for at in (old, young):
        officer.change(
            "insert into pipeline.quarantine (id, batch_id, source_name, line, kind, reason, "
            "payload, quarantined_at) values (gen_random_uuid(), gen_random_uuid(), 'f', 1, "
            "'text', 'future', 'x', :at)",
            "insert into pipeline.inbound_batches (batch_id, source_name, size_bytes, state, "
            "run_id, first_seen_at) values (gen_random_uuid(), 'f', 1, 'done', "
            "gen_random_uuid(), :at)",
            "insert into pipeline.runs (run_id, pipeline, as_of, started_at, outcome, report, "
            "error) values (gen_random_uuid(), 'watchdog', :at, :at, 'failed', "
            """cast('{"notes": ["arquivo-de-alguem"], "received": 3}' as jsonb), 'erro')""",
            "insert into pipeline.undo_records (kind, kept_id, removed_id, record, made_at, "
            "expires_at) values ('users', gen_random_uuid(), gen_random_uuid(), "
            "cast('{}' as jsonb), :at, :at + interval '90 days')",
            "insert into pipeline.message_reactions (message_id, reacted_at, reaction_id, emoji) "
            "values (gen_random_uuid(), :at, gen_random_uuid(), 'x')",
            "insert into pipeline.button_replies (message_id, payload, pressed_at) "
            "values (gen_random_uuid(), 'x', :at)",
            "insert into pipeline.sync_conflicts (conflict_id, system, table_name, local_id, kind, "
            "field, winner, our_value, run_id, found_at) values (gen_random_uuid(), 'pipedrive', "
            "'leads', gen_random_uuid(), 'both_changed', 'name', 'theirs', 'x', "
            "gen_random_uuid(), :at)",
            at=at,
        )
    officer.run()
    for table in ("quarantine", "inbound_batches", "undo_records", "sync_conflicts"):
        assert officer.one(f"select count(*) from pipeline.{table}") == 1, table  # noqa: S608
    assert officer.rows(
        "select report, error from pipeline.runs where pipeline = 'watchdog' order by started_at"
    ) == [
        ({"notes": [], "received": 3}, None),
        ({"notes": ["arquivo-de-alguem"], "received": 3}, "erro"),
    ]
    assert officer.rows("select emoji from pipeline.message_reactions order by 1") == [
        ("x",),
        (None,),
    ]
    assert officer.rows("select payload from pipeline.button_replies order by pressed_at") == [
        (None,),
        ("x",),
    ]


def test_conflicts_of_a_held_lead_stay_and_go_once_released(officer: Officer) -> None:
    leads = [add(officer, "leads", user_id=old_user(officer, 1)) for _ in range(2)]
    before = uuid4()
    for lead in (*leads, before):
        officer.change(
            "insert into pipeline.sync_conflicts (conflict_id, system, table_name, local_id, kind, "
            "field, winner, our_value, run_id, found_at) values (gen_random_uuid(), 'pipedrive', "
            "'leads', :lead, 'both_changed', 'name', 'theirs', 'x', gen_random_uuid(), :at)",
            lead=lead,
            at=NOW - 91 * DAY,
        )
    officer.change(
        "insert into pipeline.crm_links (lead_id, state, merged_into, made_at, changed_at) "
        "values (:before, 'merged', :into, now(), now())",
        before=before,
        into=leads[0],
    )
    _hold(officer, "leads", before)  # and so the one that it became part of
    _hold(officer, "users", officer.one("select user_id from leads where id = :l", l=leads[1]))
    officer.run()
    assert officer.one("select count(*) from pipeline.sync_conflicts") == 3
    officer.change("update pipeline.retention_holds set released_at = now()")
    officer.run()
    assert officer.one("select count(*) from pipeline.sync_conflicts") == 0


def test_tickets_are_never_touched(officer: Officer) -> None:
    user = old_user(officer)
    talk = add(
        officer,
        "conversations",
        user_id=user,
        started_at=NOW - 6 * YEAR,
        status="closed",
        closed_at=NOW - 6 * YEAR,
    )
    add(
        officer,
        "tickets",
        user_id=user,
        conversation_id=talk,
        status="closed",
        created_at=NOW - 6 * YEAR,
        assigned_to="Técnica",
        resolved_at=NOW - 6 * YEAR,
    )
    before = officer.rows("select row_to_json(t)::text from tickets as t")
    officer.run()
    assert officer.one("select name from users where id = :u", u=user) is None
    assert officer.rows("select row_to_json(t)::text from tickets as t") == before


# --- Holds -------------------------------------------------------------------------------------


@pytest.mark.parametrize("table", ["users", "conversations", "messages"])
def test_a_held_text_stays_and_goes_once_released(officer: Officer, table: str) -> None:
    (message,) = messages(officer, 100)
    held = {
        "users": "select user_id from conversations",
        "conversations": "select id from conversations",
        "messages": "select id from messages",
    }
    _hold(officer, table, officer.one(held[table]))
    officer.run()
    assert officer.one("select content from messages") == "texto de exemplo"
    officer.change("update pipeline.retention_holds set released_at = now()")
    officer.run()
    assert officer.one("select content from messages where id = :m", m=message) == ""


def test_a_hold_ends_by_its_date(officer: Officer) -> None:
    messages(officer, 100)
    user = officer.one("select user_id from conversations")
    _hold(officer, "users", user, ends_at=NOW - timedelta(minutes=1))
    officer.run()
    assert officer.one("select content from messages") == ""


# --- Approval ----------------------------------------------------------------------------------


def test_a_mass_change_changes_nothing_and_asks(officer: Officer) -> None:
    messages(officer, *[100] * 26, *[1] * 20)
    report = officer.run()
    assert (report.outcome, report.reason) == (Outcome.NEEDS_APPROVAL, "mass_change")
    assert officer.one("select count(*) from messages where content = ''") == 0
    plan = officer.one("select plan_id from pipeline.plans")
    report = officer.run(approve=str(plan))
    assert report.outcome is Outcome.COMPLETED
    assert officer.one("select count(*) from messages where content = ''") == 26


@pytest.mark.parametrize(("due", "others"), [(25, 5), (26, 105)])
def test_few_rows_or_a_small_share_need_nobody(officer: Officer, due: int, others: int) -> None:
    messages(officer, *[100] * due, *[1] * others)
    assert officer.run().outcome is Outcome.COMPLETED
    assert officer.one("select count(*) from messages where content = ''") == due


def test_a_plan_whose_rows_changed_is_refused(officer: Officer) -> None:
    (message, _) = messages(officer, 100, 100)
    officer.run(execute=False)
    plan = officer.one("select plan_id from pipeline.plans")
    _hold(officer, "messages", message)
    with pytest.raises(ConfigurationError, match=r"stale.*messages_content"):
        officer.run(approve=str(plan))
    assert officer.one("select count(*) from messages where content = ''") == 0


def test_a_plan_is_carried_out_once_and_for_seven_days(officer: Officer) -> None:
    messages(officer, 100)
    officer.run(execute=False)
    plan = str(officer.one("select plan_id from pipeline.plans"))
    officer.run(approve=plan)
    with pytest.raises(ConfigurationError, match="carried out already"):
        officer.run(approve=plan)
    officer.change(
        "update pipeline.plans set executed_at = null, expires_at = now() - interval '1 second'"
    )
    with pytest.raises(ConfigurationError, match="expired"):
        officer.run(approve=plan)
    with pytest.raises(ConfigurationError, match="there is no plan"):
        officer.run(approve=str(uuid4()))


def test_another_policy_shows_its_impact_before_it_acts(
    officer: Officer, tmp_path: Path, repository: Path
) -> None:
    user = add(officer, "users", created_at=NOW - DAY, updated_at=NOW)
    for years in (1.2, 1.1, 0.9):
        add(
            officer,
            "appointments",
            user_id=user,
            scheduled_at=NOW - years * YEAR,
            status="done",
            notes="nota",
        )
    officer.run()
    config = tmp_path / "config"
    shutil.copytree(repository / "config", config)
    policy = config / "retention.yaml"
    before = policy.read_text("utf-8")
    shorter = re.sub(
        r"(appointments_details:\n(?:.*\n)*?\s+period: )2 years", r"\g<1>1 years", before
    )
    assert shorter != before
    policy.write_text(shorter, "utf-8")
    changed = Officer(officer.database, config=config)
    report = changed.run()
    assert (report.outcome, report.reason) == (Outcome.NEEDS_APPROVAL, "policy_changed")
    told = "política alterada em appointments_details: 2 years → 1 years: +2 linhas vencidas"
    assert told in report.notes
    gone = "select count(*) from appointments where notes is null"
    assert officer.one(gone) == 0
    changed.run(approve=str(officer.one("select plan_id from pipeline.plans")))
    assert officer.one(gone) == 2
    assert changed.run().reason == "nothing_to_do"


def test_a_lower_ceiling_of_leads_shows_its_impact_before_it_acts(
    officer: Officer, tmp_path: Path, repository: Path
) -> None:
    user = add(officer, "users", created_at=NOW - 4 * YEAR, updated_at=NOW)
    officer.change(
        "insert into pipeline.user_activity (user_id, last_at) values (:u, now())", u=user
    )
    # Alive by what the client wrote: only the ceiling ends them.
    for years in (3.5, 3.2, 2.5):
        add(officer, "leads", user_id=user, created_at=NOW - years * YEAR)
    officer.run()
    config = tmp_path / "config"
    shutil.copytree(repository / "config", config)
    policy = config / "retention.yaml"
    text_before = policy.read_text("utf-8")
    policy.write_text(text_before.replace("ceiling: 4 years", "ceiling: 3 years", 1), "utf-8")
    changed = Officer(officer.database, config=config)
    report = changed.run()
    assert (report.outcome, report.reason) == (Outcome.NEEDS_APPROVAL, "policy_changed")
    told = "política alterada em leads_inactive_ceiling: 4 years → 3 years: +2 linhas vencidas"
    assert told in report.notes
    gone = "select count(*) from leads where phone like '~x%'"
    assert officer.one(gone) == 0
    changed.run(approve=str(officer.one("select plan_id from pipeline.plans")))
    assert officer.one(gone) == 2
    assert changed.run().outcome is not Outcome.NEEDS_APPROVAL


# --- Instants ----------------------------------------------------------------------------------


def test_an_instant_before_the_last_run_or_in_the_future_needs_force(officer: Officer) -> None:
    officer.run(as_of=NOW - DAY)
    with pytest.raises(ConfigurationError, match="before that of the last executed run"):
        officer.run(as_of=NOW - 2 * DAY)
    with pytest.raises(ConfigurationError, match="future"):
        officer.run(as_of=NOW + DAY)
    messages(officer, 85)
    officer.run(as_of=NOW + 10 * DAY, force=True)
    assert officer.one("select content from messages") == ""
    # A run that was ahead does not keep the nightly ones from running.
    officer.run(as_of=datetime.now(UTC))


# --- Steps, stops and kills ----------------------------------------------------------------------


def test_the_kill_switch_keeps_a_run_from_beginning(officer: Officer) -> None:
    messages(officer, 100)
    with officer.database.connect() as connection:
        retention.pause(connection, reason="auditoria", at=NOW)
    report = officer.run()
    assert (report.outcome, report.reason) == (Outcome.SKIPPED, "paused")
    assert officer.one("select content from messages") == "texto de exemplo"
    with officer.database.connect() as connection:
        retention.resume(connection, at=NOW)
    officer.run()
    assert officer.one("select content from messages") == ""


def test_the_kill_switch_stops_a_run_at_its_next_step(
    officer: Officer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "FIRST_STEP_ROWS", 2)
    monkeypatch.setattr(retention, "MAX_STEP_ROWS", 2)
    messages(officer, *range(100, 110))
    with pytest.raises(retention.StoppedError, match="kill switch"):
        _run_stopping(
            officer, 2, lambda connection: retention.pause(connection, reason="pare", at=NOW)
        )
    assert officer.one("select count(*) from messages where content = ''") == 4


def _run_stopping(
    officer: Officer, steps: int, act: Callable[[Connection], None], **options: Any
) -> RunReport:
    """Run, and act from another session after so many steps."""
    seen = [0]

    def after() -> None:
        seen[0] += 1
        if seen[0] == steps:
            with officer.database.connect() as connection:
                act(connection)
                connection.commit()

    return officer.run(after_step=after, **options)


class _KilledError(BaseException):
    """Ends the run where it is, as a killed process does."""


@pytest.mark.parametrize("steps", [1, 2, 3, 5])
def test_a_run_that_ends_anywhere_is_finished_by_the_next_and_doubles_nothing(
    officer: Officer, monkeypatch: pytest.MonkeyPatch, steps: int
) -> None:
    monkeypatch.setattr(retention, "FIRST_STEP_ROWS", 3)
    monkeypatch.setattr(retention, "MAX_STEP_ROWS", 3)
    messages(officer, *range(100, 120))

    def kill(_connection: Connection) -> None:
        raise _KilledError

    with pytest.raises(_KilledError):
        _run_stopping(officer, steps, kill)
    officer.run()
    assert officer.one("select count(*) from messages where content <> ''") == 0
    done = officer.one(
        "select sum((entry::jsonb -> 'body' ->> 'done')::int) from pipeline.privacy_ledger "
        "where entry::jsonb ->> 'kind' = 'outcome'"
    )
    assert done == 20
    assert_ledger_is_whole(officer)


def assert_ledger_is_whole(officer: Officer) -> None:
    with Wiring(officer.settings) as wiring, wiring.migrated() as connection:
        verification = wiring.verify_ledger(connection)
    assert verification.problems == ()
    assert verification.entries == verification.outside_entries > 0


def _kill(_connection: Connection) -> None:
    raise _KilledError


def _stopped_plan(officer: Officer, steps: int, **options: Any) -> str:
    """A plan of which a run did so many steps before it was killed; its id."""
    report = officer.run()
    assert report.outcome is Outcome.NEEDS_APPROVAL
    plan = str(officer.one("select plan_id from pipeline.plans"))
    with pytest.raises(_KilledError):
        _run_stopping(officer, steps, _kill, approve=plan, **options)
    return plan


@pytest.mark.parametrize(("steps", "texts", "people"), [(4, 16, 0), (10, 30, 20)])
def test_an_approved_plan_that_was_killed_is_carried_on_under_its_id(
    officer: Officer, monkeypatch: pytest.MonkeyPatch, steps: int, texts: int, people: int
) -> None:
    monkeypatch.setattr(retention, "FIRST_STEP_ROWS", 4)
    monkeypatch.setattr(retention, "MAX_STEP_ROWS", 4)
    monkeypatch.setattr(retention, "PEOPLE_STEP", 20)
    messages(officer, *range(100, 130), *[1] * 5)
    for _ in range(46):
        old_user(officer)
    plan = _stopped_plan(officer, steps)
    gone = "select count(*) from messages where content = ''"
    anonymized = "select count(*) from pipeline.anonymized_rows"
    assert (officer.one(gone), officer.one(anonymized)) == (texts, people)
    # Without the id it is a mass change like any other.
    assert officer.run().outcome is Outcome.NEEDS_APPROVAL
    report = officer.run(approve=plan)
    assert report.outcome is Outcome.COMPLETED
    assert (officer.one(gone), officer.one(anonymized)) == (30, 46)
    assert_ledger_is_whole(officer)
    with pytest.raises(ConfigurationError, match="carried out already"):
        officer.run(approve=plan)


def _one_more_message(officer: Officer) -> None:
    messages(officer, 101)


def _one_goes_one_comes(officer: Officer) -> None:
    officer.change(
        "update messages set created_at = now() where id = "
        "(select id from messages where content <> '' and created_at < now() - interval '90 days' "
        "limit 1)"
    )
    messages(officer, 101)


def _one_back(officer: Officer) -> None:
    """Cleared by the plan, then restored: done and due at once."""
    with officer.database.connect("owner") as connection, connection.begin():
        connection.execute(text("alter table messages disable trigger user"))
        connection.execute(
            text(
                "update messages set content = 'x' where id = "
                "(select id from messages where content = '' limit 1)"
            )
        )


def _one_more_person(officer: Officer) -> None:
    old_user(officer)


@pytest.mark.parametrize(
    "act", [_one_more_message, _one_goes_one_comes, _one_back, _one_more_person]
)
def test_what_was_not_approved_is_refused_also_when_a_plan_is_carried_on(
    officer: Officer, monkeypatch: pytest.MonkeyPatch, act: Callable[[Officer], None]
) -> None:
    monkeypatch.setattr(retention, "FIRST_STEP_ROWS", 4)
    monkeypatch.setattr(retention, "MAX_STEP_ROWS", 4)
    messages(officer, *range(100, 130))
    plan = _stopped_plan(officer, 2)
    before = officer.one("select count(*) from messages where content = ''")
    act(officer)
    after = officer.one("select count(*) from messages where content = ''")
    with pytest.raises(ConfigurationError, match=r"stale"):
        officer.run(approve=plan)
    assert before == 8
    assert officer.one("select count(*) from messages where content = ''") == after
    assert officer.one("select count(*) from pipeline.anonymized_rows") == 0


def test_a_plan_whose_rows_were_locked_is_carried_on_too(
    officer: Officer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "PASS_PAUSE_SECONDS", 0.01)
    first, *_ = messages(officer, *range(100, 130))
    officer.run()
    plan = str(officer.one("select plan_id from pipeline.plans"))
    with officer.database.connect() as holder:
        holder.execute(text("select from messages where id = :m for update"), {"m": first})
        with pytest.raises(RetryableError, match="1 rows were locked"):
            officer.run(approve=plan)
    assert officer.run(approve=plan).updated == 1
    assert officer.one("select count(*) from messages where content = ''") == 30


def test_locked_rows_are_met_by_the_next_run_and_the_rest_is_done(
    officer: Officer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "PASS_PAUSE_SECONDS", 0.01)
    first, *_ = messages(officer, 100, 101, 102)
    with officer.database.connect() as holder:
        holder.execute(text("select from messages where id = :m for update"), {"m": first})
        with pytest.raises(RetryableError, match="1 rows were locked"):
            officer.run()
        assert officer.one("select count(*) from messages where content = ''") == 2
    officer.run()
    assert officer.one("select count(*) from messages where content = ''") == 3


def test_a_locked_user_is_met_by_the_next_run(
    officer: Officer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "PASS_PAUSE_SECONDS", 0.01)
    locked, free = old_user(officer), old_user(officer)
    with officer.database.connect() as holder:
        holder.execute(text("select from users where id = :u for update"), {"u": locked})
        with pytest.raises(RetryableError, match="locked"):
            officer.run()
    assert officer.one("select name from users where id = :u", u=free) is None
    officer.run()
    assert officer.one("select name from users where id = :u", u=locked) is None


def test_a_client_who_writes_meanwhile_is_not_forgotten(officer: Officer) -> None:
    """Found due, then active before its turn: judged again under the lock."""
    user = old_user(officer)
    messages(officer, 100)

    def write(connection: Connection) -> None:
        connection.execute(
            text("update pipeline.user_activity set last_at = now() where user_id = :u"),
            {"u": user},
        )

    report = _run_stopping(officer, 1, write)
    assert officer.one("select name from users where id = :u", u=user) == "Nome"
    assert report.skipped == {"no_longer_due": 1}


def test_without_the_ledger_nothing_is_destroyed(officer: Officer) -> None:
    messages(officer, 100)
    ledger = Path(officer.settings.outside_ledger_url)
    ledger.parent.mkdir(parents=True, exist_ok=True)
    ledger.write_text("a file where the folder should be")
    with pytest.raises(GatteError, match="GATTE_LEDGER_URL"):
        officer.run()
    assert officer.one("select content from messages") == "texto de exemplo"


def test_a_second_run_at_once_is_skipped(officer: Officer) -> None:
    messages(officer, 100, 101)
    other: list[RunReport] = []

    def run_beside(_connection: Connection) -> None:
        thread = threading.Thread(target=lambda: other.append(officer.run()))
        thread.start()
        thread.join()

    _run_stopping(officer, 1, run_beside)
    assert [(report.outcome, report.reason) for report in other] == [
        (Outcome.SKIPPED, "already_running")
    ]


def test_a_lost_connection_fails_the_run_and_the_next_one_finishes(
    officer: Officer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "FIRST_STEP_ROWS", 2)
    monkeypatch.setattr(retention, "MAX_STEP_ROWS", 2)
    messages(officer, *range(100, 110))

    def end_sessions(_connection: Connection) -> None:
        officer.rows(
            "select pg_terminate_backend(pid) from pg_stat_activity "
            "where usename = 'gatte_pipeline' and datname = current_database() "
            "and application_name = 'gatte_pipelines' and pid <> pg_backend_pid()"
        )

    with pytest.raises(GatteError):
        _run_stopping(officer, 2, end_sessions)
    assert officer.one("select count(*) from messages where content = ''") == 4
    officer.run()
    assert officer.one("select count(*) from messages where content = ''") == 10
    assert_ledger_is_whole(officer)


def test_a_table_whose_vacuum_is_skipped_fails_the_run(officer: Officer) -> None:
    messages(officer, 100)
    settings = officer.database.settings()
    not_owner = Officer(officer.database, migration_database_url=settings.database_url)
    with pytest.raises(PermanentError, match=r"vacuum of public\.messages"):
        not_owner.run()


def test_a_second_run_has_nothing_to_do(officer: Officer) -> None:
    with officer.database.connect("owner") as connection, connection.begin():
        whole_client(connection)
    officer.run()
    report = officer.run()
    assert report.updated == 0


def test_other_systems_are_told_of_whom_time_anonymises(
    officer: Officer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reference is read while it still stands, and one task a person waits for that system."""

    def read(cursor: Any, users: Any, leads: Any) -> list[str]:
        cursor.execute(
            "select crm_id from leads where id = any(%s) and crm_id is not null", [list(leads)]
        )
        return [row[0] for row in cursor.fetchall()] + [f"user {user}" for user in users]

    hook = ErasureHook(
        system="crm", plan=read, erase=lambda _ref: None, is_erased=lambda _ref: True
    )
    monkeypatch.setattr(Wiring, "erasure_hooks", {"crm": hook})
    user = old_user(officer)
    lead = add(officer, "leads", created_at=NOW - 3 * YEAR, crm_id="771")
    officer.run()
    assert officer.rows(
        "select user_id, reference, state from pipeline.external_tasks order by reference"
    ) == [(lead, "771", "open"), (user, f"user {user}", "open")]


def test_a_file_that_stays_although_it_was_removed_fails_the_run(
    officer: Officer, monkeypatch: pytest.MonkeyPatch
) -> None:
    stubborn = FileStore("logs", lambda _cutoff: (1, NOW - DAY), lambda _cutoff: 1)
    monkeypatch.setattr(Wiring, "file_stores", lambda _wiring: [stubborn])
    with pytest.raises(PermanentError, match="logs: 1 files past their time are still there"):
        officer.run()


@pytest.mark.parametrize("execute", [False, True])
def test_what_is_past_its_time_and_not_over_is_told_and_stays(
    officer: Officer, monkeypatch: pytest.MonkeyPatch, execute: bool
) -> None:
    running = FileStore(
        "prefect_runs", lambda _cutoff: (0, None), lambda _cutoff: 0, lambda _cutoff: 2
    )
    monkeypatch.setattr(Wiring, "file_stores", lambda _wiring: [running])
    notes = officer.run(execute=execute).notes
    (told,) = [note for note in notes if note.startswith("prefect_runs")]
    assert told.endswith("2 além do prazo mantidos, porque não terminaram")
