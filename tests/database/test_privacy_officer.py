"""The officer's report and the incident kit count rightly, say it twice alike, and name nobody."""

from __future__ import annotations

import os
import re
import stat
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Connection, text

from gatte_pipelines.database.engine import connect, make_engine, psycopg_connection
from gatte_pipelines.errors import BadInputError
from gatte_pipelines.personal_data import CATALOGUE, personal_columns
from gatte_pipelines.phones import anonymised_placeholder
from gatte_pipelines.privacy import tickets
from gatte_pipelines.privacy.ledger import Ledger, OutsideCopy
from gatte_pipelines.privacy.officer import (
    CATEGORIES,
    Exempt,
    IncidentKit,
    OfficerReport,
    add_business_days,
    build_incident_kit,
    build_report,
)
from gatte_pipelines.privacy.officer_page import (
    CATEGORIES_PT,
    RULE_TITLES_PT,
    save_document,
    to_html,
    to_markdown,
)
from gatte_pipelines.privacy.rescan import is_rescanned
from tests.database.rows import insert
from tests.postgres import TestDatabase
from tests.privacy_rows import (
    AS_OF,
    DAY,
    LONG_AGO,
    RECENT,
    YEAR,
    Client,
    put,
    put_client,
    read_test_policy,
    switch_guards_off,
)

POLICY = read_test_policy()
LATELY = AS_OF - 5 * DAY
EARLIER = AS_OF - 60 * DAY


class Office:
    """A database with the ledger beside it, and what the officer asks of both."""

    def __init__(self, database: TestDatabase, owner: Connection, folder: Path) -> None:
        self.database, self.owner = database, owner
        self.outside = OutsideCopy(str(folder / "ledger"))
        with owner.begin():
            switch_guards_off(owner)

    def client(self, *, at: datetime, is_anonymized: bool = False) -> Client:
        with self.owner.begin():
            return put_client(self.owner, at=at, is_anonymized=is_anonymized)

    def execute(self, statement: str, **values: Any) -> None:
        with self.owner.begin():
            self.owner.execute(text(statement), values)

    def put(self, table: str, **values: Any) -> None:
        with self.owner.begin():
            put(self.owner, table, **values)

    def done(self, rule: str, count: int, at: datetime) -> None:
        """Write intent and outcome as the engine does."""
        with self.database.connect("pipeline") as connection:
            ledger = Ledger(psycopg_connection(connection), self.outside)
            intent = ledger.append(
                "intent",
                {
                    "rule": rule,
                    "as_of": at,
                    "from": None,
                    "to": None,
                    "count": count,
                    "run_id": uuid4(),
                },
                at=at,
            )
            ledger.append("outcome", {"intent": intent, "done": count}, at=at)

    def erased(self, users: list[UUID], at: datetime) -> None:
        with self.database.connect("pipeline") as connection:
            ledger = Ledger(psycopg_connection(connection), self.outside)
            body = {"request_id": uuid4(), "user_ids": users, "lead_ids": []}
            erasure = ledger.append("erasure", body, at=at)
            ledger.append("erased", {"erasure": erasure, "user_ids": users, "lead_ids": []}, at=at)

    def report(self, **options: Any) -> OfficerReport:
        # As our own role: the officer's report needs no right that a run does not have.
        with self.database.connect("pipeline") as connection:
            report = build_report(connection, POLICY, self.outside, as_of=AS_OF, **options)
            assert not connection.in_transaction()
            return report

    def kit(self, incident_at: datetime = LATELY, known_at: datetime = RECENT) -> IncidentKit:
        with self.database.connect("pipeline") as connection:
            return build_incident_kit(
                connection, self.outside, incident_at=incident_at, known_at=known_at, as_of=AS_OF
            )


@pytest.fixture
def office(database: TestDatabase, owner: Connection, tmp_path: Path) -> Office:
    return Office(database, owner, tmp_path)


def line(report: OfficerReport, rule: str) -> Any:
    (found,) = [one for one in report.rules if one.rule.name == rule]
    return found


# --- The report -----------------------------------------------------------------------------------


def test_an_empty_database_has_nothing_overdue_and_every_rule_is_there(office: Office) -> None:
    report = office.report()
    assert report.overdue == 0
    assert [one.rule for one in report.rules] == list(POLICY.rules)
    assert all(one.due == 0 for one in report.rules)
    assert report.chain.problems == ()
    assert (report.policy_digest, report.approved_on) == (POLICY.digest, POLICY.approved_on)


def test_a_row_past_its_time_is_overdue_only_after_the_nightly_run_missed_it(
    office: Office,
) -> None:
    client = office.client(at=RECENT)
    late = AS_OF - timedelta(days=90)
    office.execute("update messages set created_at = :at", at=late - timedelta(hours=25))
    assert office.report().overdue == 0
    office.execute("update messages set created_at = :at", at=late - timedelta(hours=27))
    report = office.report()
    assert (report.overdue, line(report, "messages_content").overdue) == (1, 1)
    assert line(report, "messages_content").oldest == late - timedelta(hours=27)
    assert client


def test_what_is_exempt_or_held_is_told_with_its_reason_and_is_not_overdue(
    office: Office,
) -> None:
    exempt, held = office.client(at=LONG_AGO), office.client(at=LONG_AGO)
    office.execute("update services set status = 'active' where id = :id", id=exempt["services"])
    office.execute("update tickets set status = 'open' where id = :id", id=exempt["tickets"])
    office.execute("update messages set content = ''")
    office.execute(
        "update leads set name = :x, phone = :x where id = :id",
        x=anonymised_placeholder(),
        id=exempt["leads"],
    )
    ends_at = AS_OF + 30 * DAY
    for end in (ends_at, None):
        office.put(
            "pipeline.retention_holds",
            hold_id=uuid4(),
            table_name="users",
            row_id=held["users"],
            reason="processo",
            owner="jurídico",
            placed_at=LATELY,
            ends_at=end,
        )
    office.done("users_inactive", 7, LATELY)
    report = office.report()
    users = line(report, "users_inactive")
    assert users.exempt == (Exempt(bases=("active_service", "open_ticket"), rows=1),)
    assert (users.held, users.overdue, users.done, users.due) == (1, 0, 7, 9)
    assert line(report, "leads_inactive").held == 1
    assert report.overdue == 0
    (hold,) = report.holds
    assert (hold.table, hold.holds, hold.without_end) == ("users", 2, 1)
    assert (hold.first_end, hold.last_end) == (ends_at, ends_at)
    page = to_html(report)
    assert "1 (serviço ativo e chamado aberto)" in page


def test_rows_treated_are_counted_by_rule_within_the_period_only(office: Office) -> None:
    office.done("messages_content", 500, EARLIER)
    office.done("messages_content", 40, LATELY)
    office.done("messages_content", 2, RECENT)
    office.done("leads_inactive", 3, RECENT)
    report = office.report()
    assert (line(report, "messages_content").done, line(report, "leads_inactive").done) == (42, 3)
    assert line(office.report(since=EARLIER - DAY), "messages_content").done == 542


def test_a_leftover_of_an_anonymised_person_counts_as_overdue(office: Office) -> None:
    client = office.client(at=LONG_AGO, is_anonymized=True)
    assert office.report().overdue == 0
    office.execute("update users set email = 'x@example.com' where id = :id", id=client["users"])
    report = office.report()
    assert [(left.table, left.column) for left in report.leftovers] == [("public.users", "email")]
    # The rule of users finds the same row.
    assert report.overdue == 2
    assert "há dados além do prazo" in to_markdown(report)


def test_a_message_is_anonymised_only_where_nothing_leads_back(office: Office) -> None:
    living = office.client(at=LONG_AGO)
    with_ticket = office.client(at=LONG_AGO, is_anonymized=True)
    with_task, alone = (office.client(at=LONG_AGO, is_anonymized=True) for _ in range(2))
    office.execute("update messages set content = ''")
    for client in (with_task, alone):
        office.execute("delete from tickets where id = :id", id=client["tickets"])
    office.execute(
        "update pipeline.external_tasks set state = 'open', reference = 'deal' where user_id = :id",
        id=with_task["users"],
    )
    words = office.report().words
    assert (words.pseudonymised_messages, words.anonymised_messages) == (3, 1)
    assert (words.pseudonymised_users, words.anonymised_users) == (2, 1)
    assert living["users"] != with_ticket["users"]


def test_tickets_past_five_years_are_listed_and_changed_ones_named(office: Office) -> None:
    old, changed = office.client(at=AS_OF - 6 * YEAR), office.client(at=RECENT)
    with connect(make_engine(office.database.url_pipeline)) as connection:
        tickets.seal_closed(psycopg_connection(connection), LATELY)
    office.execute("update tickets set description = 'outra' where id = :id", id=changed["tickets"])
    report = office.report()
    assert (report.old_tickets.tickets, report.old_tickets.protocols) == (1, 1)
    assert report.old_tickets.ids == (old["tickets"],)
    assert [one.ticket_id for one in report.tampered_tickets] == [changed["tickets"]]
    for page in (to_html(report), to_markdown(report)):
        assert str(old["tickets"]) in page
        assert str(changed["tickets"]) in page
        assert "chamados alterados depois do fechamento" in page


def test_open_requests_show_the_days_left_of_fifteen(office: Office) -> None:
    received = {3: "open", 15: "waiting_external", 20: "open", 30: "done"}
    for days, state in received.items():
        office.put(
            "pipeline.subject_requests",
            request_id=uuid4(),
            user_id=uuid4(),
            kind="erase",
            state=state,
            received_at=AS_OF - days * DAY,
            due_at=AS_OF + (15 - days) * DAY,
        )
    report = office.report()
    assert [request.days_left for request in report.requests] == [-5, 0, 12]
    page = to_html(report)
    assert "atrasado há 5 dias" in page
    assert "pedidos de titulares fora do prazo" in page


def test_open_tasks_show_their_age_by_system(office: Office) -> None:
    for days, system, state in (
        (3, "pipedrive", "open"),
        (9, "pipedrive", "open"),
        (50, "agenda", "confirmed"),
    ):
        office.put(
            "pipeline.external_tasks",
            task_id=uuid4(),
            user_id=uuid4(),
            system=system,
            state=state,
            attempts=days,
            created_at=AS_OF - days * DAY,
            confirmed_at=AS_OF if state == "confirmed" else None,
        )
    (task,) = office.report().tasks
    assert (task.system, task.tasks, task.days, task.attempts) == ("pipedrive", 2, 9, 9)


def test_a_changed_ledger_is_a_finding_and_the_report_is_still_written(office: Office) -> None:
    office.done("messages_content", 5, RECENT)
    good = office.report().chain
    assert (good.entries, good.outside_entries, good.problems) == (2, 2, ())
    assert good.head_hash in to_markdown(office.report())
    office.execute(
        "update pipeline.privacy_ledger set entry = replace(entry, :was, :is_now)",
        was='"done":5',
        is_now='"done":4',
    )
    changed = office.report()
    assert changed.chain.problems
    assert "o registro encadeado tem falhas" in to_html(changed)


def test_a_ledger_folder_that_is_gone_is_a_finding(office: Office, tmp_path: Path) -> None:
    office.done("messages_content", 5, RECENT)
    (tmp_path / "ledger").rename(tmp_path / "elsewhere")
    assert office.report().chain.problems


def test_the_last_runs_of_retention_are_shown_and_others_are_not(office: Office) -> None:
    for hours, pipeline, outcome, reason in (
        (1, "lgpd_retention", "completed", None),
        (2, "lgpd_retention", "skipped", "already_running"),
        (3, "inbound_messages", "completed", None),
    ):
        office.put(
            "pipeline.runs",
            run_id=uuid4(),
            pipeline=pipeline,
            as_of=AS_OF - timedelta(hours=hours),
            started_at=AS_OF - timedelta(hours=hours),
            outcome=outcome,
            reason=reason,
        )
    report = office.report()
    assert [run.outcome for run in report.runs] == ["completed", "skipped"]
    assert "outra execução ainda está em andamento" in to_html(report)


def test_every_counted_rule_and_category_has_its_portuguese_words() -> None:
    counted = {rule.name for rule in POLICY.rules if is_rescanned(rule)}
    assert set(RULE_TITLES_PT) == counted
    assert set(CATEGORIES_PT) == set(CATEGORIES)


# --- The incident kit -----------------------------------------------------------------------------


def counts(kit: IncidentKit) -> dict[str, tuple[int, int]]:
    return {one.name: (one.subjects, one.records) for one in kit.categories if one.subjects}


def test_subjects_are_counted_once_a_category_and_once_in_the_total(office: Office) -> None:
    before = LATELY - DAY
    client = office.client(at=before)
    office.client(at=before)
    office.client(at=before, is_anonymized=True)  # only its ticket tells of anybody
    office.client(at=RECENT)  # came after the incident
    with office.owner.begin():
        for _ in range(2):
            insert(
                office.owner,
                "messages",
                conversation_id=client["conversations"],
                created_at=before,
            )
        insert(office.owner, "leads", created_at=before)  # of nobody we know
        put(office.owner, "pipeline.staff", name="Atendente", first_seen_at=before)
    assert counts(office.kit()) == {
        "name": (2, 2),
        "contact": (2, 2),
        "company": (2, 2),
        "whatsapp": (2, 2),
        "messages": (2, 4),
        "tickets": (3, 3),
        "leads": (3, 3),
        "appointments": (2, 2),
        "services": (2, 2),
        "certificates": (2, 2),
        "staff": (1, 1),
    }
    # Three clients, one lead, one colleague.
    assert office.kit().subjects == 5


def test_an_empty_database_affects_nobody(office: Office) -> None:
    kit = office.kit()
    assert (kit.subjects, counts(kit), kit.quarantined) == (0, {}, 0)


def test_what_was_gone_before_the_incident_is_told_apart_from_what_went_since(
    office: Office,
) -> None:
    office.done("messages_content", 500, EARLIER)
    office.done("messages_content", 40, RECENT)
    office.erased([uuid4(), uuid4()], EARLIER)
    office.erased([uuid4()], RECENT)
    for at, table in (
        (EARLIER, "users"),
        (EARLIER, "users"),
        (RECENT, "users"),
        (EARLIER, "leads"),
    ):
        office.put(
            "pipeline.anonymized_rows",
            table_name=table,
            row_id=uuid4(),
            rule="users_inactive",
            anonymized_at=at,
        )
    kit = office.kit()
    assert [(gone.rule, gone.before, gone.since) for gone in kit.gone] == [
        ("messages_content", 500, 40)
    ]
    assert (kit.erased_before, kit.erased_since) == (2, 1)
    assert kit.anonymised_before == {"users": 2, "leads": 1}
    assert kit.anonymised_since == {"users": 1, "leads": 0}
    assert "| Texto das mensagens | 500 | 40 |" in to_markdown(kit)


@pytest.mark.parametrize(
    ("known_on", "due", "small_agent_due"),
    [
        (date(2026, 3, 2), date(2026, 3, 5), date(2026, 3, 10)),  # a Monday
        (date(2026, 3, 5), date(2026, 3, 10), date(2026, 3, 13)),  # a Thursday
        (date(2026, 3, 7), date(2026, 3, 11), date(2026, 3, 16)),  # a Saturday
    ],
)
def test_the_notice_is_due_three_business_days_after_it_was_known(
    known_on: date, due: date, small_agent_due: date
) -> None:
    assert add_business_days(known_on, 3) == due
    assert add_business_days(known_on, 6) == small_agent_due


def test_the_day_on_which_it_was_known_is_that_of_sao_paulo(office: Office) -> None:
    # 01:00 in UTC on Tuesday, still Monday evening there.
    known_at = datetime(2031, 3, 4, 1, tzinfo=UTC)
    kit = office.kit(incident_at=known_at - DAY, known_at=known_at)
    assert kit.notice_due == date(2031, 3, 6)
    assert kit.keep_until == date(2036, 3, 10)
    assert "06/03/2031" in to_html(kit)


@pytest.mark.parametrize(("incident_at", "known_at"), [(RECENT, LATELY), (LATELY, AS_OF + DAY)])
def test_an_incident_known_before_it_happened_or_in_the_future_is_refused(
    office: Office, incident_at: datetime, known_at: datetime
) -> None:
    with pytest.raises(BadInputError):
        office.kit(incident_at, known_at)


# --- Pages and files ------------------------------------------------------------------------------


def seed_everything(office: Office) -> list[str]:
    """Write a word of its own into every personal column that has a row; the words."""
    words: list[str] = []
    client = office.client(at=RECENT)
    with office.owner.begin():
        insert(
            office.owner,
            "session_context",
            conversation_id=client["conversations"],
            summary="x",
            messages_json="[]",
            ttl_expires_at=AS_OF,
        )
        put(
            office.owner,
            "pipeline.retention_holds",
            hold_id=uuid4(),
            table_name="tickets",
            row_id=client["tickets"],
            reason="x",
            owner="x",
            placed_at=RECENT,
        )
        put(
            office.owner,
            "pipeline.runs",
            run_id=uuid4(),
            pipeline="lgpd_retention",
            as_of=RECENT,
            started_at=RECENT,
            outcome="failed",
            error="x",
        )
        put(office.owner, "pipeline.staff", name="x", first_seen_at=RECENT)
        put(
            office.owner,
            "pipeline.quarantine",
            id=uuid4(),
            batch_id=uuid4(),
            source_name="x",
            line=1,
            kind="text",
            reason="too_long",
            payload=b"x",
            quarantined_at=RECENT,
        )
        put(
            office.owner,
            "pipeline.inbound_batches",
            batch_id=uuid4(),
            source_name="x",
            size_bytes=1,
            state="done",
            run_id=uuid4(),
            first_seen_at=RECENT,
        )
        put(
            office.owner,
            "pipeline.undo_records",
            kind="users",
            kept_id=client["users"],
            removed_id=uuid4(),
            record="{}",
            expires_at=AS_OF,
        )
        put(
            office.owner,
            "pipeline.identity_changes",
            change_id=uuid4(),
            changed_at=RECENT,
            moves_number=True,
            **dict.fromkeys(CATALOGUE["pipeline.identity_changes"], ""),
        )
        put(
            office.owner,
            "pipeline.ticket_digests",
            ticket_id=client["tickets"],
            digest="x",
            sealed_at=RECENT,
        )
        put(
            office.owner,
            "pipeline.crm_links",
            lead_id=client["leads"],
            state="pending",
            made_at=RECENT,
            changed_at=RECENT,
        )
        put(
            office.owner,
            "pipeline.sync_conflicts",
            conflict_id=uuid4(),
            system="pipedrive",
            table_name="leads",
            local_id=client["leads"],
            kind="both_changed",
            winner="ours",
            run_id=uuid4(),
            found_at=RECENT,
        )
        for table, column in personal_columns():
            word = f"Zq{len(words):02}Xw"
            if column == "remote_lead_id":
                word = str(uuid4())
            elif column in {"deal_id", "person_id", "organization_id", "note_id"}:
                word = str(900_000_000_000 + len(words))
            value = {"payload": word.encode(), "report": f'{{"notes": ["{word}"]}}'}.get(
                column if table in ("pipeline.quarantine", "pipeline.runs") else "", word
            )
            if column in ("messages_json", "record"):
                value = f'["{word}"]'
            changed = office.owner.execute(
                text(f"update {table} set {column} = :value"),  # noqa: S608 - the catalogue
                {"value": value},
            )
            assert changed.rowcount >= 1, (table, column)
            words.append(word)
    return words


def test_no_personal_value_of_any_column_stands_in_report_or_kit(office: Office) -> None:
    words = seed_everything(office)
    assert len(words) == len(personal_columns())
    # Also where nearly everything is overdue, tampered with or held.
    far = AS_OF + 20 * YEAR
    documents: list[OfficerReport | IncidentKit] = [office.report(), office.kit(RECENT)]
    with office.database.connect("pipeline") as connection:
        documents.append(build_report(connection, POLICY, office.outside, as_of=far))
    assert documents[2].overdue > 10
    assert len(documents[2].tampered_tickets) == 1
    for document in documents:
        for page in (to_html(document), to_markdown(document), repr(document)):
            assert [word for word in words if word in page] == []


def test_a_page_loads_nothing_and_says_the_same_as_its_markdown(office: Office) -> None:
    office.client(at=LONG_AGO)
    for document in (office.report(), office.kit(LATELY)):
        page, markdown = to_html(document), to_markdown(document)
        assert not re.search(
            r"<(?:script|img|link|iframe|object|embed)|url\(|@import|https?:", page
        )
        assert "default-src 'none'" in page
        parser = _Texts()
        parser.feed(page)
        assert parser.open == []
        said = {re.sub(r"\s+", " ", cell) for cell in parser.cells}
        plain = markdown.replace("\\", "")
        assert [cell for cell in said if cell not in plain] == []
        assert len(said) > 20


class _Texts(HTMLParser):
    """Cells and headings of a page, and what was not closed."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.cells: list[str] = []

    def handle_starttag(self, tag: str, attrs: Any) -> None:  # noqa: ARG002 - html.parser's
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in {"td", "th", "h1", "h2", "p", "li"}:
            self.cells.append(data.strip())


def test_what_others_wrote_cannot_break_out_of_the_page(office: Office) -> None:
    policy = replace(POLICY, approved_by="<script>alert(1)</script> | *x* [y](z)")
    with office.database.connect("pipeline") as connection:
        report = build_report(connection, policy, office.outside, as_of=AS_OF)
    assert "<script>" not in to_html(report)
    assert "\\<script\\>alert(1)\\</script\\> \\| \\*x\\* \\[y\\](z)" in to_markdown(report)


def test_both_files_are_for_their_owner_only_whatever_the_umask(
    office: Office, tmp_path: Path
) -> None:
    folder = tmp_path / "home" / "officer_reports"
    folder.parent.mkdir()
    folder.parent.chmod(0o711)
    before = os.umask(0)
    try:
        paths = [*save_document(office.report(), folder), *save_document(office.kit(), folder)]
    finally:
        os.umask(before)
    assert [path.name for path in paths] == [
        "relatorio-lgpd-2031-03-10-090000.md",
        "relatorio-lgpd-2031-03-10-090000.html",
        "incidente-lgpd-2031-03-10-090000.md",
        "incidente-lgpd-2031-03-10-090000.html",
    ]
    assert {stat.S_IMODE(path.stat().st_mode) for path in paths} == {0o600}
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    # Others have their files there too: the embedded PostgreSQL runs as a user of its own.
    assert stat.S_IMODE(folder.parent.stat().st_mode) == 0o711
    assert sorted(path.name for path in folder.iterdir()) == sorted(path.name for path in paths)
    assert paths[0].read_text("utf-8") == to_markdown(office.report())


def test_a_report_of_the_same_instant_replaces_the_one_before(
    office: Office, tmp_path: Path
) -> None:
    folder = tmp_path / "officer_reports"
    (path, _) = save_document(office.report(), folder)
    path.write_text("broken")
    (again, _) = save_document(office.report(), folder)
    assert again == path
    assert again.read_text("utf-8").startswith("# Relatório do encarregado")
