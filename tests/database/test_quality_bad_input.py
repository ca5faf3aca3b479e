"""What is missing, hidden, locked or written wrongly costs its own checks, and is said plainly."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import text

from gatte_pipelines.business_time import business_date
from gatte_pipelines.database.names import NINE
from gatte_pipelines.database.runs import run_recorded
from gatte_pipelines.errors import BadInputError, ConfigurationError, GatteError, PermanentError
from gatte_pipelines.quality import check
from gatte_pipelines.quality.check import PIPELINE, Options
from gatte_pipelines.quality.suite import Suite
from gatte_pipelines.quality.suite_file import FOLDER, parse_suite, read_suites
from gatte_pipelines.quality.waivers import WAIVERS, Waiver
from gatte_pipelines.wiring import Wiring
from tests.certificates import REPOSITORY
from tests.database.rows import insert
from tests.inbound import AS_OF, NOW, Inbound
from tests.postgres import TestDatabase
from tests.webhooks import text_message

LARGE = ("conversations", "messages")
DAY, HOUR = timedelta(days=1), timedelta(hours=1)
TODAY = business_date(AS_OF)


@pytest.fixture
def inbound(database: TestDatabase) -> Inbound:
    """Thirty clients with a conversation each, and two leads."""
    made = Inbound(database)
    made.say(
        *(
            text_message(f"wamid.m{number}", NOW - 6 * 3600, sender=f"55119000{number:05}")
            for number in range(30)
        )
    )
    with database.connect("owner") as connection, connection.begin():
        for number in range(2):
            insert(connection, "leads", phone=f"+551190000123{number}")
    return made


def run(
    inbound: Inbound,
    as_of: datetime = AS_OF,
    *,
    now: datetime | None = None,
    waivers: Sequence[Waiver] = (),
    suites: Sequence[Suite] | None = None,
    **options: Any,
) -> str:
    """One run, on the day of the data unless told otherwise; the error it ends with, or nothing."""
    with Wiring(inbound.settings) as wiring, wiring.migrated() as connection:
        operation = wiring.data_quality(connection, now=now or as_of)
        operation.waivers = waivers
        operation.suites = suites or operation.suites
        try:
            run_recorded(
                connection,
                pipeline=PIPELINE,
                as_of=as_of,
                body=lambda report: operation.check(report, Options(**options)),
                lock=PIPELINE,
            )
        except PermanentError as error:
            return error.message
    return ""


def states(inbound: Inbound) -> dict[str, str]:
    """What became of each check in the last run."""
    return dict(
        inbound.rows(
            "select check_name, state from pipeline.quality_results "
            "where run_id = (select run_id from pipeline.quality_results "
            "order by result_id desc limit 1)"
        )
    )


def detail(inbound: Inbound, name: str) -> str:
    """What the last run told of a check."""
    return str(
        inbound.one(
            "select detail from pipeline.quality_results where check_name = :name "
            "order by result_id desc limit 1",
            name=name,
        )[0]
    )


def closed(inbound: Inbound) -> dict[str, str]:
    return dict(inbound.rows("select table_name, reason from pipeline.gates where is_closed"))


def unread(found: dict[str, str]) -> set[str]:
    """The tables of which a check did not run."""
    return {name.partition(".")[0] for name, state in found.items() if state == "not_run"}


def looked_at_what_changed(inbound: Inbound) -> bool:
    """Whether the last run passed over the conversations that did not change."""
    (is_full,) = inbound.one(
        "select is_full from pipeline.quality_results where check_name = 'conversations.has_user' "
        "order by result_id desc limit 1"
    )
    return not is_full


def page(inbound: Inbound) -> str:
    return (inbound.settings.home / "quality" / "qualidade.html").read_text("utf-8")


@contextmanager
def replicating(inbound: Inbound) -> Iterator[Any]:
    """A transaction whose writes no rule of the database stops."""
    with inbound.database.connect("superuser") as connection, connection.begin():
        connection.execute(text("set local session_replication_role = replica"))
        yield connection


def corrupt(inbound: Inbound, statement: str) -> None:
    with replicating(inbound) as connection:
        connection.execute(text(statement))


def break_phones(inbound: Inbound, rows: int) -> list[UUID]:
    """Give some users another phone than the format knows; their ids."""
    with replicating(inbound) as connection:
        ids = list(
            connection.scalars(text("select id from users order by id limit :n"), {"n": rows})
        )
        connection.execute(
            text("update users set phone = 'nenhum ' || left(id::text, 8) where id = any(:ids)"),
            {"ids": ids},
        )
    return ids


# --- tables ---------------------------------------------------------------------------------------


def test_a_missing_table_stops_its_own_checks_and_no_others(inbound: Inbound) -> None:
    inbound.execute("drop table leads cascade")
    error = run(inbound)
    found = states(inbound)
    assert set(found) == {one.name for suite in read_suites() for one in suite.checks}
    assert {state for name, state in found.items() if name.startswith("leads.")} == {
        "failed",
        "not_run",
    }
    assert [name for name, state in found.items() if state == "failed"] == ["leads.schema"]
    assert unread(found) == {"leads"}
    assert detail(inbound, "leads.schema") == "a tabela não existe"
    assert detail(inbound, "leads.phone_format") == "a tabela não existe"
    assert set(closed(inbound)) == {"leads"}
    assert "on leads" in error
    assert "leads.schema" in error
    assert "a tabela não existe" in page(inbound)


def test_checks_that_look_into_a_missing_table_do_not_run_either(inbound: Inbound) -> None:
    assert run(inbound) == ""
    # The next run would look only at what changed, and this table tells it.
    inbound.execute("drop table session_context cascade")
    assert "session_context" in run(inbound)
    found = states(inbound)
    assert unread(found) == {"session_context", "messages"}
    assert detail(inbound, "messages.role_is_known") == "o banco recusou a consulta (42P01)"
    assert found["conversations.total_messages_agrees"] == "passed"
    assert set(closed(inbound)) == {"session_context", "messages"}


def test_an_empty_database_raises_no_alarm(database: TestDatabase) -> None:
    empty = Inbound(database)
    assert run(empty) == ""
    found = states(empty)
    assert set(found.values()) == {"passed", "not_judged"}
    assert {name.partition(".")[2] for name, state in found.items() if state == "not_judged"} == {
        "volume",
        "freshness",
    }
    assert closed(empty) == {}
    assert all(f'href="#{table}"' in page(empty) for table in NINE)


def test_a_database_that_was_not_migrated_is_named(
    make_database: Callable[..., AbstractContextManager[TestDatabase]],
) -> None:
    with make_database(template="template0") as bare, Wiring(bare.settings()) as wiring:
        with pytest.raises(ConfigurationError, match="gatte db migrate") as caught:
            wiring.run("data_quality")
        assert caught.value.exit_code == 2


def test_a_column_that_was_dropped_is_named_and_the_other_tables_judged(inbound: Inbound) -> None:
    inbound.execute("alter table leads drop column email cascade")
    assert "leads" in run(inbound)
    found = states(inbound)
    assert found["leads.schema"] == "failed"
    assert "leads.email (column)" in detail(inbound, "leads.schema")
    assert unread(found) == {"leads"}
    assert detail(inbound, "leads.phone_is_there") == "o banco recusou a consulta (42703)"
    # Rows are counted all the same.
    assert found["leads.volume"] == "not_judged"
    assert set(closed(inbound)) == {"leads"}


def test_an_unknown_table_is_refused_before_anything_is_judged(inbound: Inbound) -> None:
    with Wiring(inbound.settings) as wiring:
        with pytest.raises(ConfigurationError, match="1 unknown; expected some of users") as caught:
            wiring.run("data_quality", tables=["users", "clientes"])
        assert "clientes" not in caught.value.message
    assert inbound.rows("select 1 from pipeline.quality_results") == []


# --- roles, and what is hidden or locked ----------------------------------------------------------


@pytest.mark.parametrize("role", ["reporting", "reader"])
def test_another_role_is_told_which_setting_is_wrong(inbound: Inbound, role: str) -> None:
    url = inbound.database.url(role).render_as_string(hide_password=False)
    with Wiring(inbound.database.settings(database_url=url)) as wiring:
        with pytest.raises(ConfigurationError, match="GATTE_DATABASE_URL") as caught:
            wiring.run("data_quality")
        assert caught.value.exit_code == 2
    assert inbound.rows("select 1 from pipeline.quality_results") == []


def test_a_table_that_may_not_be_read_is_named(inbound: Inbound) -> None:
    inbound.execute("revoke select on users, leads from gatte_pipeline")
    inbound.execute("grant select (id, phone) on users to gatte_pipeline")
    with Wiring(inbound.settings) as wiring:
        with pytest.raises(ConfigurationError, match="may not read the whole of") as caught:
            wiring.run("data_quality")
        assert all(table in caught.value.message for table in ("users", "leads"))


def test_rows_that_are_hidden_from_the_role_are_no_rows_that_hold(inbound: Inbound) -> None:
    corrupt(inbound, "update leads set phone = 'nenhum'")
    inbound.execute("alter table leads enable row level security")
    with (
        Wiring(inbound.settings) as wiring,
        pytest.raises(ConfigurationError, match="may not read the whole of leads"),
    ):
        wiring.run("data_quality")
    assert inbound.rows("select 1 from pipeline.quality_results") == []


def test_a_table_that_somebody_alters_is_not_waited_for(
    inbound: Inbound, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(check, "_LOCK_TIMEOUT", "200ms")
    assert run(inbound) == ""
    with inbound.database.connect("owner") as other, other.begin():
        other.execute(text("lock table leads in access exclusive mode"))
        assert "on leads" in run(inbound)
    found = states(inbound)
    assert unread(found) == {"leads"}
    assert {state for name, state in found.items() if name.startswith("leads.")} == {"not_run"}
    assert {state for name, state in found.items() if not name.startswith("leads.")} == {
        "passed",
        "not_judged",
    }
    assert detail(inbound, "leads.schema") == "o banco recusou a consulta (55P03)"
    assert set(closed(inbound)) == {"leads"}
    # And the next run, which can read it, opens it.
    assert run(inbound) == ""
    assert closed(inbound) == {}


def test_where_what_changed_cannot_be_told_everything_is_judged(
    inbound: Inbound, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(check, "_LOCK_TIMEOUT", "200ms")
    assert run(inbound, tables=LARGE) == ""
    corrupt(inbound, "update messages set tokens_used = -1")
    with inbound.database.connect("owner") as other, other.begin():
        other.execute(text("lock table session_context in access exclusive mode"))
        assert "messages" in run(inbound, tables=LARGE)
    found = states(inbound)
    assert unread(found) == {"messages"}
    assert found["conversations.total_messages_agrees"] == "passed"
    # What was not read then is read now, though no row has changed since.
    run(inbound, tables=LARGE)
    assert states(inbound)["messages.tokens_range"] == "failed"


def test_a_database_is_read_by_whatever_url_the_settings_allow(inbound: Inbound) -> None:
    url = inbound.database.url_pipeline.render_as_string(hide_password=False)
    for scheme in ("postgresql://", "postgres://", "postgresql+psycopg://"):
        of = inbound.database.settings(
            database_url=url.replace("postgresql+psycopg://", scheme), home=inbound.settings.home
        )
        with Wiring(of) as wiring:
            assert wiring.run("data_quality", tables=["users"]).outcome == "completed"


def test_what_was_found_is_remembered_where_no_page_can_be_written(inbound: Inbound) -> None:
    break_phones(inbound, 1)
    inbound.settings.home.mkdir(parents=True, exist_ok=True)
    (inbound.settings.home / "quality").write_text("a file, and no folder")
    with Wiring(inbound.settings) as wiring, pytest.raises(GatteError):
        wiring.run("data_quality", tables=["users"])
    assert states(inbound)["users.phone_format"] == "failed"
    assert closed(inbound) == {"users": "users.phone_format"}


# --- suites ---------------------------------------------------------------------------------------


def with_changed(table: str, old: str, new: str) -> list[Suite]:
    """The suites of the nine with a piece of one replaced."""
    source = (FOLDER / f"{table}.yaml").read_text("utf-8")
    assert source.count(old) == 1, old
    changed = parse_suite(source.replace(old, new), f"{table}.yaml")
    return [changed if suite.table == table else suite for suite in read_suites()]


def test_a_suite_that_names_a_column_that_is_none_is_named_by_file_line_and_field(
    inbound: Inbound,
) -> None:
    suites = with_changed("leads", "    column: email\n", "    column: e_mail\n")
    lines = (FOLDER / "leads.yaml").read_text("utf-8").splitlines()
    assert "on leads" in run(inbound, suites=suites)
    found = states(inbound)
    assert unread(found) == {"leads"}
    told = detail(inbound, "leads.email_format")
    line = lines.index("    column: email") + 1
    assert told.startswith(f"leads.yaml, line {line}, checks[3].column: no column of this name")
    assert "email" in told
    assert found["leads.schema"] == "passed"
    assert {state for name, state in found.items() if not name.startswith("leads.")} == {
        "passed",
        "not_judged",
    }
    assert set(closed(inbound)) == {"leads"}


@pytest.mark.parametrize(
    ("new", "code"),
    [
        ("      l.fone,\n", "42703"),
        ("      l.phone,,\n", "42601"),
        ("      1 / (length(l.phone) - length(l.phone)) = 1 as has_phone,\n", None),
        ("      l.phone::uuid is not null as has_phone,\n", None),
    ],
)
def test_sql_that_the_server_refuses_costs_its_own_table(
    inbound: Inbound, new: str, code: str | None
) -> None:
    old = "      l.id is null or l.phone is not null as has_phone,\n"
    suites = with_changed("leads", old, new)
    assert "on leads" in run(inbound, suites=suites, tables=["users", "leads"])
    found = states(inbound)
    assert unread(found) == {"leads"}
    assert {state for name, state in found.items() if name.startswith("users.")} == {
        "passed",
        "not_judged",
    }
    told = detail(inbound, "leads.phone_is_there")
    if code is not None:
        assert told == f"o banco recusou a consulta ({code})"
    else:
        assert told.isidentifier(), "the class of an error, which quotes nothing"


def test_a_column_to_count_by_that_is_none_is_told(inbound: Inbound) -> None:
    suites = with_changed("leads", "counted_by: created_at\n", "counted_by: criado_em\n")
    assert "leads.volume" in run(inbound, suites=suites, tables=["leads"])
    assert detail(inbound, "leads.volume") == "o banco recusou a consulta (42703)"
    assert states(inbound)["leads.phone_format"] == "passed"
    # None of these is critical: the run ends red, and nothing waits.
    assert closed(inbound) == {}


def test_a_suite_writes_nothing(inbound: Inbound) -> None:
    """Whatever its SQL says: it reads on a connection that may not write."""
    inbound.execute(
        "create function public.erase() returns text language plpgsql as "
        "$$ begin update public.users set name = 'x'; return 'a'; end $$"
    )
    suites = with_changed("leads", "      l.phone,\n", "      public.erase() as phone,\n")
    run(inbound, suites=suites, tables=["leads"])
    assert unread(states(inbound)) == {"leads"}
    assert inbound.rows("select 1 from users where name = 'x'") == []


def test_a_new_check_of_a_large_table_looks_at_all_rows(inbound: Inbound) -> None:
    corrupt(inbound, "update messages set intent_detected = ' '")
    *others, last = read_suites()
    assert last.table != "messages"
    before = [
        replace(suite, checks=tuple(one for one in suite.checks if one.what != "intent_length"))
        if suite.table == "messages"
        else suite
        for suite in (*others, last)
    ]
    assert run(inbound, suites=before, tables=LARGE) == ""
    assert run(inbound, suites=before, tables=LARGE) == ""
    assert run(inbound, tables=LARGE) == "", "an observation stops nothing"
    assert states(inbound)["messages.intent_length"] == "failed"


# --- waivers --------------------------------------------------------------------------------------


def test_a_waiver_for_an_unknown_check_is_refused_before_any_work(
    inbound: Inbound, tmp_path: Path
) -> None:
    folder = tmp_path / "config"
    shutil.copytree(REPOSITORY / "config", folder)
    (folder / WAIVERS).write_text(
        "waivers:\n"
        "  - check: users.fone\n"
        "    scope: all\n"
        "    reason: Cadastros antigos.\n"
        "    owner: Vendas\n"
        "    until: 2026-12-31\n",
        "utf-8",
    )
    with Wiring(inbound.database.settings(config=folder)) as wiring:
        with pytest.raises(BadInputError) as caught:
            wiring.run("data_quality")
        error = caught.value
        assert (error.file, error.line, error.field) == (WAIVERS, 2, "waivers[0].check")
        assert "users.phone_format" in error.reason
    assert inbound.rows("select 1 from pipeline.quality_results") == []
    assert inbound.rows("select 1 from pipeline.runs where pipeline = 'data_quality'") == []


def waiver(*keys: UUID, until: date = TODAY, of: str = "users.phone_format") -> Waiver:
    return Waiver(of, keys, "Cadastros antigos.", "Vendas", until)


def test_a_waiver_opens_the_gate_while_it_holds_and_no_longer(inbound: Inbound) -> None:
    ids = break_phones(inbound, 2)
    others = {"tables": ["users"]}
    assert "users.phone_format" in run(inbound, **others)
    assert closed(inbound) == {"users": "users.phone_format"}
    first = inbound.one(
        "select run_id from pipeline.quality_results where state = 'failed' limit 1"
    )

    # All rows,
    assert run(inbound, waivers=[waiver()], **others) == ""
    assert states(inbound)["users.phone_format"] == "waived"
    assert closed(inbound) == {}
    assert "tolerada" in page(inbound)
    assert "todas as linhas, até 02/03/2026, por Vendas" in page(inbound)

    # those that fail, by name,
    assert run(inbound, waivers=[waiver(*ids)], **others) == ""
    assert states(inbound)["users.phone_format"] == "waived"
    assert closed(inbound) == {}

    # not all of those that fail,
    error = run(inbound, waivers=[waiver(ids[0])], **others)
    assert "users.phone_format" in error
    assert states(inbound)["users.phone_format"] == "failed"
    assert closed(inbound) == {"users": "users.phone_format"}
    assert "2, 1 delas tolerada" in page(inbound)

    # or until yesterday.
    run(inbound, waivers=[waiver(until=TODAY - DAY)], **others)
    assert states(inbound)["users.phone_format"] == "failed"
    assert set(closed(inbound)) == {"users"}
    assert '<span class="tag over">vencida</span>' in page(inbound)
    notes = inbound.one(
        "select report ->> 'notes' from pipeline.runs order by started_at desc limit 1"
    )[0]
    assert "users.phone_format: a tolerância venceu em 01/03/2026" in notes

    # All the time it is the failure that the first run found.
    assert set(
        inbound.rows(
            "select distinct first_bad_run_id from pipeline.quality_results "
            "where check_name = 'users.phone_format'"
        )
    ) == {first}


def test_a_waiver_of_one_check_excuses_no_other(inbound: Inbound) -> None:
    break_phones(inbound, 1)
    of_another = waiver(of="users.phone_is_there")
    assert "users.phone_format" in run(inbound, waivers=[of_another], tables=["users"])


def test_what_did_not_run_is_not_excused(inbound: Inbound) -> None:
    inbound.execute("drop table leads cascade")
    excused = [waiver(of=check.name) for suite in read_suites() for check in suite.checks]
    assert "leads" in run(inbound, waivers=excused, tables=["leads"])
    assert set(closed(inbound)) == {"leads"}


@pytest.mark.parametrize("is_taken_out", [True, False])
def test_rows_of_a_large_table_are_met_again_when_their_waiver_is_over(
    inbound: Inbound, is_taken_out: bool
) -> None:
    corrupt(
        inbound,
        "update conversations set total_messages = 7 "
        "where id = (select id from conversations order by id limit 1)",
    )
    (id_,) = inbound.one("select id from conversations where total_messages = 7")
    of = waiver(id_, of="conversations.total_messages_agrees")
    for _ in range(2):
        assert run(inbound, waivers=[of], tables=LARGE) == ""
        assert states(inbound)[of.check] == "waived"
    over = [] if is_taken_out else [replace(of, until=TODAY - DAY)]
    for _ in range(2):
        # Nothing was written since: the run looks only at what changed, and at what it knows.
        assert of.check in run(inbound, waivers=over, tables=LARGE)
        assert states(inbound)[of.check] == "failed"
        assert set(closed(inbound)) == {"conversations"}
    assert looked_at_what_changed(inbound)


# --- instants -------------------------------------------------------------------------------------


def test_a_run_for_a_day_to_come_counts_nothing(inbound: Inbound) -> None:
    run(inbound, AS_OF + 30 * DAY, now=AS_OF, tables=["users"])
    assert inbound.rows("select 1 from pipeline.table_volumes") == []
    run(inbound, tables=["users"])
    (days, last) = inbound.one("select count(*), max(day) from pipeline.table_volumes")
    assert (days, last) == (57, TODAY - DAY)


ODD = pytest.mark.parametrize(
    "odd", [timedelta(days=30), timedelta(days=-3), timedelta(hours=-2)], ids=str
)


@ODD
@pytest.mark.parametrize("is_found_by_it", [True, False])
def test_no_other_instant_hides_a_failure_from_runs_that_look_at_what_changed(
    inbound: Inbound, odd: timedelta, is_found_by_it: bool
) -> None:
    def judge(at: datetime) -> str:
        return run(inbound, at, now=AS_OF, tables=LARGE)

    assert judge(AS_OF - HOUR) == ""
    if not is_found_by_it:
        judge(AS_OF + odd)
    corrupt(
        inbound,
        "update conversations set total_messages = 7 "
        "where id = (select id from conversations order by id limit 1)",
    )
    if is_found_by_it:
        assert "total_messages_agrees" in judge(AS_OF + odd)
    for minutes in (0, 5, 10):
        assert "total_messages_agrees" in judge(AS_OF + timedelta(minutes=minutes)), minutes
        assert set(closed(inbound)) == {"conversations"}
    assert looked_at_what_changed(inbound)


def test_a_failure_is_not_blamed_on_a_run_that_could_not_look(inbound: Inbound) -> None:
    broken = with_changed("users", "      u.email,\n", "      u.e_mail as email,\n")
    assert run(inbound, AS_OF - 3 * HOUR, tables=["users"]) == ""
    for hours in (2, 1):
        run(inbound, AS_OF - hours * HOUR, tables=["users"], suites=broken)
    break_phones(inbound, 1)
    run(inbound, tables=["users"])
    rows = inbound.rows(
        "select state, first_bad_at, last_good_at from pipeline.quality_results "
        "where check_name = 'users.phone_format' order by result_id"
    )
    good = AS_OF - 3 * HOUR
    assert rows == [
        ("passed", None, None),
        ("not_run", AS_OF - 2 * HOUR, good),
        ("not_run", AS_OF - 2 * HOUR, good),
        ("failed", AS_OF, good),
    ]
