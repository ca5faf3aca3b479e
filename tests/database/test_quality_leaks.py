"""Nothing that quality tells, stores, logs or raises holds a value of a row that failed."""

from __future__ import annotations

import json
import logging
import os
import re
import socket
import subprocess
import sys
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from gatte_pipelines.database.names import NINE
from gatte_pipelines.database.runs import run_recorded
from gatte_pipelines.errors import GatteError
from gatte_pipelines.logging_setup import install_log_redaction, remove_log_redaction
from gatte_pipelines.quality import expectations
from gatte_pipelines.quality.check import PIPELINE, Options
from gatte_pipelines.quality.suite import Suite
from gatte_pipelines.quality.suite_file import FOLDER, parse_suite, read_suites
from gatte_pipelines.run_report import RunReport
from gatte_pipelines.wiring import Wiring
from tests.certificates import REPOSITORY
from tests.database.rows import insert
from tests.inbound import Inbound
from tests.postgres import TestDatabase

NOW = datetime.now(UTC).replace(microsecond=0)
DAY = timedelta(days=1)

# Each is a word of its own, which no name of ours and no path holds.
NAME = "Zulmira Quixadense"
COMPANY = "Padaria Xerofila"
EMAIL = "zulmirex(arroba)example.com"
PHONE = "11 90000-7654 ramal"
CPF = "777.777.777-91"
TITLE = "Fulgencio nao abre"
TEXT = "minha avo Brunegunda mora na rua Jaboticatubas"
NOTES = "prefere falar com Wandernilson"
TOKEN = "tokjqzx" * 9
INTENT = "perguntou-por-Oriovaldo"
SUMMARY = "cliente Gumercinda devendo"
VALUES = (NAME, COMPANY, EMAIL, PHONE, CPF, TITLE, TEXT, NOTES, TOKEN, INTENT, SUMMARY)
# Parts are as bad as wholes.
FORBIDDEN = re.compile(
    "zulmir|quixadense|xerofila|arroba|90000-?7654|777.?777.?777|fulgencio|brunegunda"
    "|jaboticatubas|wandernilson|tokjqzx|oriovaldo|gumercinda",
    re.IGNORECASE,
)


def assert_clean(told: str, where: str) -> None:
    found = FORBIDDEN.search(told)
    assert found is None, f"{where}: …{told[max(0, found.start() - 80) : found.end() + 20]}…"


@pytest.fixture
def world(database: TestDatabase) -> Inbound:
    """A person in all nine tables, in rows of which each fails a check of its table."""
    old = NOW - 120 * DAY
    with database.connect("superuser") as connection, connection.begin():
        # No rule of the database stops these.
        connection.execute(text("set local session_replication_role = replica"))
        user = insert(
            connection,
            "users",
            phone=PHONE,
            name=NAME,
            email=EMAIL,
            company=COMPANY,
            login_token=TOKEN,
            created_at=NOW + 40 * DAY,
            updated_at=old,
        )
        conversation = insert(
            connection,
            "conversations",
            user_id=user,
            started_at=NOW,
            status="transferred",
            transferred_to=NAME,
            current_flow=INTENT,
            total_messages=9,
        )
        insert(
            connection,
            "messages",
            conversation_id=conversation,
            content=TEXT,
            intent_detected=INTENT,
            tokens_used=-1,
            created_at=old,
        )
        insert(
            connection,
            "session_context",
            conversation_id=conversation,
            messages_json=json.dumps({"content": TEXT, "name": NAME}),
            summary=SUMMARY,
            ttl_expires_at=old,
            updated_at=NOW + DAY,
        )
        for _ in range(2):
            insert(
                connection,
                "tickets",
                user_id=user,
                conversation_id=conversation,
                protocol=f"CPF {CPF}",
                title=TITLE,
                description=TEXT,
                assigned_to=NAME,
                resolved_at=old,
                created_at=NOW,
            )
            insert(
                connection,
                "appointments",
                user_id=user,
                duration_min=-5,
                assigned_to=NAME,
                notes=NOTES,
                calendar_event_id=f"evento de {NAME}",
            )
            insert(
                connection,
                "leads",
                user_id=user,
                name=NAME,
                company=COMPANY,
                phone=PHONE,
                email=EMAIL,
                interest=INTENT,
                source=f"indicado por {NAME}"[:100],
                notes=NOTES,
                crm_id=f"negocio {CPF}",
            )
        service = insert(
            connection,
            "services",
            user_id=user,
            name=f"Servico de {NAME}",
            notes=NOTES,
            monthly_value=-1,
            contracted_at=NOW,
            expires_at=old,
        )
        insert(
            connection,
            "certificates",
            user_id=user,
            service_id=service,
            issued_at=NOW,
            expires_at=old,
        )
    return Inbound(database)


@dataclass
class Told:
    """What one run said to the process that ran it."""

    error: str
    documents: dict[str, Any]
    report: RunReport


def run(world: Inbound, suites: Sequence[Suite] | None = None) -> Told:
    documents: dict[str, Any] = {}
    reports: list[RunReport] = []
    error = ""
    with Wiring(world.settings) as wiring, wiring.migrated() as connection:
        operation = wiring.data_quality(connection, now=NOW)
        operation.suites = suites or operation.suites

        def body(report: RunReport) -> None:
            reports.append(report)
            operation.check(report, Options(documents=documents))

        try:
            run_recorded(connection, pipeline=PIPELINE, as_of=NOW, body=body, lock=PIPELINE)
        except GatteError as caught:
            error = "".join(traceback.format_exception(caught)) + repr(caught) + caught.message
    return Told(error, documents, reports[0])


def stored(world: Inbound) -> str:
    """All that the runs left in tables of ours."""
    tables = ("quality_results", "runs", "gates", "watermarks", "table_volumes")
    return "\n".join(
        str(row[0])
        for table in tables
        for row in world.rows(f"select to_jsonb(t)::text from pipeline.{table} as t")  # noqa: S608
    )


def pages(world: Inbound) -> dict[str, str]:
    """Every file under the home, by name."""
    return {
        str(path.relative_to(world.settings.home)): path.read_text("utf-8")
        for path in world.settings.home.rglob("*")
        if path.is_file()
    }


def failed(world: Inbound) -> dict[str, list[str]]:
    """What failed or did not run in the last run, by table."""
    rows = world.rows(
        "select table_name, check_name from pipeline.quality_results "
        "where state in ('failed', 'not_run') and run_id = (select run_id "
        "from pipeline.quality_results order by result_id desc limit 1)"
    )
    return {table: [name for of, name in rows if of == table] for table in NINE}


def assert_told_nothing(world: Inbound, told: Told) -> None:
    assert_clean(told.error, "the error")
    assert_clean(str(told.documents), "the artifacts")
    assert_clean(told.report.to_json().decode(), "the report")
    assert_clean(told.report.summary_pt(), "the end card")
    assert_clean(stored(world), "what is stored")
    for name, content in pages(world).items():
        assert_clean(content, name)


@pytest.fixture(params=["redacted", "bare"])
def logged(
    request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture
) -> Iterator[pytest.LogCaptureFixture]:
    """All that any logger says at any level, with the redaction of the project and without it."""
    with expectations._quiet():
        expectations._renderer()
    # The library's are there now, and are set as well: none keeps to itself by its level.
    for name in ("", "great_expectations", "sqlalchemy", *logging.root.manager.loggerDict):
        caplog.set_level(logging.DEBUG, logger=name or None)
    if request.param == "redacted":
        install_log_redaction()
    try:
        yield caplog
    finally:
        remove_log_redaction()


def assert_logged_nothing(logged: pytest.LogCaptureFixture) -> None:
    names = {record.name.partition(".")[0] for record in logged.records}
    assert {"sqlalchemy", "great_expectations"} <= names, "they said something"
    assert_clean(logged.text, "the log")
    for record in logged.records:
        # What a handler of somebody else may make of it.
        assert_clean(f"{record.__dict__!r} {record.exc_info!r}", f"a record of {record.name}")


# --- the seeds ------------------------------------------------------------------------------------


def test_every_value_is_recognised_and_stands_in_the_database(world: Inbound) -> None:
    everything = "".join(
        str(row[0])
        for table in NINE
        for row in world.rows(f"select to_jsonb(t)::text from {table} as t")  # noqa: S608
    )
    for value in VALUES:
        assert value in everything
        assert FORBIDDEN.search(value)


# --- runs -----------------------------------------------------------------------------------------


def test_a_run_in_which_every_table_fails_tells_no_value(
    world: Inbound, logged: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    told = run(world)
    assert all(failed(world).values()), failed(world)
    for name in (
        "users.phone_format",
        "users.email_format",
        "messages.emptied_in_time",
        "session_context.messages_are_a_list",
        "tickets.protocol_format",
        "leads.source_is_known",
        "appointments.calendar_event_is_unique",
    ):
        assert name in failed(world)[name.partition(".")[0]]
    assert "critical checks failed" in told.error
    assert_told_nothing(world, told)
    assert_logged_nothing(logged)
    assert_clean("".join(capfd.readouterr()), "standard output and error")
    # The pages are there, and name rows by id.
    written = pages(world)
    assert set(written) == {
        "quality/qualidade.html",
        "quality/data_docs/index.html",
        *(f"quality/data_docs/{table}.html" for table in NINE),
    }
    ((user,),) = world.rows("select id from users")
    assert str(user) in written["quality/qualidade.html"]


def with_rows(table: str, extra: str, *, rule: str = "") -> Suite:
    """The suite of a table with one column more, and a check of it."""
    source = (FOLDER / f"{table}.yaml").read_text("utf-8")
    source = re.sub(r"(rows: \|\n  select\n)", rf"\1      {extra} as added,\n", source, count=1)
    source = source.replace(
        "checks:\n",
        "checks:\n  - name: added_one\n    column: added\n"
        f"    {rule or 'not_null: true'}\n    severity: critical\n    says: Algo.\n",
        1,
    )
    return parse_suite(source, f"{table}.yaml")


# The server's message quotes the value that it could not cast.
CASTS = {
    "users": "(u.name || u.phone)::integer",
    "conversations": "c.transferred_to::date",
    "messages": "m.content::uuid",
    "session_context": "s.summary::jsonb",
    "tickets": "t.protocol::numeric",
    "leads": "l.notes::timestamptz",
    "appointments": "a.calendar_event_id::interval",
    "services": "s.notes::inet",
    "certificates": "1 / (f.days_to_expire - f.days_to_expire)",
}


def test_a_run_in_which_the_library_raises_tells_no_value(
    world: Inbound, logged: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    suites = [with_rows(table, CASTS[table]) for table in NINE]
    # The values are quoted: this is what must not come through.
    with pytest.raises(Exception, match="Zulmira"):
        world.rows("select (name || phone)::integer from users")
    told = run(world, suites)
    for table, names in failed(world).items():
        assert f"{table}.added_one" in names
    ((states,),) = world.rows(
        "select array_agg(distinct state) from pipeline.quality_results "
        "where check_name like '%.added_one'"
    )
    assert states == ["not_run"]
    assert_told_nothing(world, told)
    assert_logged_nothing(logged)
    assert_clean("".join(capfd.readouterr()), "standard output and error")


def test_a_run_in_which_rows_cannot_be_listed_tells_no_value(
    world: Inbound, logged: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    # The verdict comes by a connection that may not write: there it only fails, here it raises.
    raising = (
        "case when current_setting('transaction_read_only') = 'on' then false "
        "else (l.name || l.phone)::integer is null end"
    )
    changed = with_rows("leads", raising, rule="is_true: true")
    told = run(world, [changed if one.table == "leads" else one for one in read_suites()])
    assert world.rows(
        "select detail from pipeline.quality_results where check_name = 'leads.added_one'"
    ) == [("o banco recusou a consulta (22P02)",)]
    assert_told_nothing(world, told)
    assert_logged_nothing(logged)
    assert_clean("".join(capfd.readouterr()), "standard output and error")


def test_the_library_calls_nobody(world: Inbound, monkeypatch: pytest.MonkeyPatch) -> None:
    """The database is reached below Python's sockets: any of those would be for somebody else."""
    called: list[object] = []

    def refuse(*arguments: object, **_options: object) -> None:
        called.append(arguments[-1])
        raise OSError("no network in this test")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    run(world)
    assert called == []


# --- the pages of the library ---------------------------------------------------------------------


class Tags(HTMLParser):
    """The tags of a page, each with its attributes."""

    def __init__(self, content: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str]]] = []
        self.feed(content)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, {name: value or "" for name, value in attrs}))


def test_data_docs_load_nothing_and_lead_nowhere(world: Inbound) -> None:
    run(world)
    docs = {name: content for name, content in pages(world).items() if "data_docs" in name}
    assert len(docs) == 1 + len(NINE)
    for name, content in docs.items():
        tags = Tags(content).found
        policy = [at["content"] for tag, at in tags if at.get("http-equiv")]
        assert policy == ["default-src 'none'; style-src 'unsafe-inline'"], name
        loading = {"img", "link", "iframe", "object", "embed", "video", "audio", "form", "base"}
        assert not loading & {tag for tag, _ in tags}, name
        for tag, attributes in tags:
            assert "src" not in attributes, (name, tag)
            link = attributes.get("href", "#")
            assert re.fullmatch(r"#.*|[a-z_]+\.html", link), (name, link)
        assert "url(" not in content
        assert "@import" not in content
        # A page of a table names each of its checks, and says what is asked.
        table = Path(name).stem
        for suite in read_suites():
            if suite.table == table:
                assert all(check.name in content for check, _ in suite.rules), name


# --- the command line -----------------------------------------------------------------------------


def command(world: Inbound, role: str, *options: str) -> subprocess.CompletedProcess[str]:
    """`gatte quality check` as a person runs it, logged in as a role."""
    environ = {
        **{name: value for name, value in os.environ.items() if not name.startswith("GATTE_")},
        "GATTE_DATABASE_URL": world.database.url(role).render_as_string(hide_password=False),
        "GATTE_HOME": str(world.settings.home),
        "GATTE_CONFIG": str(REPOSITORY / "config"),
    }
    return subprocess.run(
        [sys.executable, "-m", "gatte_pipelines.cli", "quality", "check", *options],
        env=environ,
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
    )


@pytest.mark.parametrize("options", [[], ["--json"]], ids=["card", "json"])
def test_the_command_prints_no_value(world: Inbound, options: list[str]) -> None:
    finished = command(world, "pipeline", *options)
    assert finished.returncode == 1, finished.stderr
    assert "critical checks failed" in finished.stderr
    assert "Traceback" not in finished.stderr
    assert all(failed(world).values())
    assert_clean(finished.stdout, "standard output")
    assert_clean(finished.stderr, "standard error")
    assert_clean(stored(world), "what is stored")
    for name, content in pages(world).items():
        assert_clean(content, name)


def test_the_command_tells_another_role_what_is_wrong(world: Inbound) -> None:
    finished = command(world, "reporting")
    assert finished.returncode == 2
    assert "GATTE_DATABASE_URL" in finished.stderr
    assert finished.stderr.startswith("error: ")
