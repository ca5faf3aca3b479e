"""Runs of data_quality: what they look at, what they remember, what they stop and let go on."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from gatte_pipelines.database.runs import run_recorded
from gatte_pipelines.errors import ConfigurationError, PermanentError
from gatte_pipelines.quality.check import PIPELINE, Options
from gatte_pipelines.quality.scope import Mode
from gatte_pipelines.run_report import RunReport
from gatte_pipelines.wiring import Wiring
from tests.certificates import AlertWorld
from tests.inbound import AS_OF, NOW, Inbound
from tests.postgres import TestDatabase
from tests.webhooks import text_message

LARGE = ["conversations", "messages"]


@pytest.fixture
def inbound(database: TestDatabase) -> Inbound:
    """Two clients with a conversation each."""
    made = Inbound(database)
    made.say(
        *(
            text_message(f"wamid.m{number}", NOW - 600, sender=f"55119000{number:05}")
            for number in range(30)
        )
    )
    return made


def run(
    inbound: Inbound, as_of: datetime = AS_OF, now: datetime | None = None, **options: Any
) -> RunReport:
    """One run, on the day of the data unless told otherwise."""
    with Wiring(inbound.settings) as wiring, wiring.migrated() as connection:
        operation = wiring.data_quality(connection, now=now or as_of)
        report = run_recorded(
            connection,
            pipeline=PIPELINE,
            as_of=as_of,
            body=lambda report: operation.check(report, Options(**options)),
            lock=PIPELINE,
        )
    report.balance()
    return report


def judge(inbound: Inbound, **options: Any) -> RunReport:
    """A run that may end red; its report."""
    try:
        return run(inbound, **options)
    except PermanentError:
        ((report,),) = inbound.rows(
            "select report::text from pipeline.runs where pipeline = 'data_quality' "
            "order by started_at desc limit 1"
        )
        return RunReport.from_json(report)


def failed(inbound: Inbound) -> dict[str, int | None]:
    """The checks that failed in the last run, each with how many rows."""
    found = inbound.rows(
        "select check_name, failed_rows from pipeline.quality_results where state = 'failed' "
        "and run_id = (select run_id from pipeline.quality_results "
        "order by result_id desc limit 1)"
    )
    return {name: rows for name, rows in found}  # noqa: C416 - each is a tuple of any length


def looked_at_all(inbound: Inbound) -> bool:
    ((found,),) = inbound.rows(
        "select bool_and(is_full) from pipeline.quality_results where check_name like '%.has_%' "
        "and table_name in ('messages', 'conversations') and run_id = ("
        "select run_id from pipeline.quality_results order by result_id desc limit 1)"
    )
    return bool(found)


def corrupt(inbound: Inbound, statement: str, **values: Any) -> None:
    """A write that no rule of the database stops."""
    with inbound.database.connect("superuser") as connection, connection.begin():
        connection.exec_driver_sql("set local session_replication_role = replica")
        connection.exec_driver_sql(statement, values or None)


def closed_gates(inbound: Inbound) -> dict[str, str]:
    return dict(inbound.rows("select table_name, reason from pipeline.gates where is_closed"))


def test_the_first_run_looks_at_everything_the_next_at_what_changed(inbound: Inbound) -> None:
    assert judge(inbound, tables=LARGE).outcome == "completed"
    assert looked_at_all(inbound)
    judge(inbound, tables=LARGE)
    assert not looked_at_all(inbound)
    judge(inbound, tables=LARGE, as_of=AS_OF + timedelta(days=6, hours=13))
    assert looked_at_all(inbound), "once a week"
    judge(inbound, tables=LARGE, mode=Mode.FULL)
    assert looked_at_all(inbound)


def test_whoever_wrote_what_changed_is_met(inbound: Inbound) -> None:
    judge(inbound, tables=LARGE)
    # By hand, on a row that no run of ours has touched since.
    corrupt(
        inbound,
        "update conversations set total_messages = 7 "
        "where id = (select id from conversations order by id limit 1)",
    )
    judge(inbound, tables=LARGE)
    assert not looked_at_all(inbound)
    assert failed(inbound) == {"conversations.total_messages_agrees": 1}


def test_a_message_of_a_conversation_that_changed_is_met(inbound: Inbound) -> None:
    judge(inbound, tables=LARGE)
    inbound.say(text_message("wamid.new", NOW - 60, sender="5511900000003"))
    corrupt(
        inbound,
        "update messages set tokens_used = -1 "
        "where created_at = (select max(created_at) from messages)",
    )
    judge(inbound, tables=LARGE)
    assert not looked_at_all(inbound)
    assert set(failed(inbound)) == {"messages.tokens_range"}


def test_what_fails_by_waiting_is_met_although_nobody_wrote(inbound: Inbound) -> None:
    corrupt(
        inbound,
        "update messages set created_at = created_at - interval '90 days' - interval '20 hours' "
        "where id = (select id from messages order by id limit 1)",
    )
    corrupt(inbound, "update conversations set started_at = started_at - interval '100 days'")
    judge(inbound, tables=LARGE)
    assert failed(inbound) == {}
    judge(inbound, tables=LARGE, as_of=AS_OF + timedelta(hours=7))
    assert not looked_at_all(inbound)
    assert "messages.emptied_in_time" in failed(inbound)


def test_what_failed_is_looked_at_until_it_is_mended(inbound: Inbound) -> None:
    corrupt(
        inbound,
        "update messages set tokens_used = -1 "
        "where id = (select id from messages order by id limit 1)",
    )
    judge(inbound, tables=LARGE)
    for _ in range(2):
        judge(inbound, tables=LARGE)
        assert not looked_at_all(inbound)
        assert failed(inbound) == {"messages.tokens_range": 1}
    corrupt(inbound, "update messages set tokens_used = 1 where tokens_used = -1")
    judge(inbound, tables=LARGE)
    assert failed(inbound) == {}


def test_more_failures_than_are_listed_are_all_looked_for_again(inbound: Inbound) -> None:
    inbound.say(
        *(text_message(f"wamid.x{n}", NOW - 60, sender="5511900000001") for n in range(120))
    )
    corrupt(inbound, "update messages set tokens_used = -1")
    judge(inbound, tables=LARGE)
    ((rows, keys),) = inbound.rows(
        "select failed_rows, cardinality(failed_keys) from pipeline.quality_results "
        "where check_name = 'messages.tokens_range' and state = 'failed'"
    )
    assert (rows, keys) == (150, 100)
    judge(inbound, tables=["messages"])
    assert looked_at_all(inbound)
    assert failed(inbound) == {"messages.tokens_range": 150}


@pytest.mark.parametrize(
    "damage",
    [
        "update pipeline.watermarks set value = 'another:1 ' || split_part(value, ' ', 2) "
        "where name in ('messages', 'conversations')",
        "update pipeline.watermarks set value = value || '99999' "
        "where name in ('messages', 'conversations')",
        "update pipeline.watermarks set value = 'what' where name in ('messages', 'conversations')",
    ],
    ids=["of another cluster", "of the future", "nonsense"],
)
def test_where_nobody_can_tell_what_changed_everything_is_looked_at(
    inbound: Inbound, damage: str
) -> None:
    judge(inbound, tables=LARGE)
    inbound.execute(damage)
    judge(inbound, tables=LARGE)
    assert looked_at_all(inbound)


def test_a_run_over_one_large_table_leaves_the_other_to_be_read(inbound: Inbound) -> None:
    judge(inbound, tables=["messages"])
    ((names,),) = inbound.rows(
        "select array_agg(name order by name) from pipeline.watermarks "
        "where pipeline = 'data_quality'"
    )
    assert names == ["messages", "messages_full_at"]


def test_a_failure_knows_since_when_and_who_wrote_meanwhile(inbound: Inbound) -> None:
    judge(inbound, tables=LARGE)
    loaded = inbound.say(text_message("wamid.later", NOW - 60, sender="5511900000001"))
    corrupt(inbound, "update conversations set total_messages = -1 where total_messages > 1")
    documents: dict[str, Any] = {}
    first = judge(inbound, tables=LARGE, documents=documents)
    second = judge(inbound, tables=LARGE)
    rows = inbound.rows(
        "select run_id, first_bad_run_id, first_bad_at, last_good_at is not null "
        "from pipeline.quality_results where check_name = 'conversations.total_messages_range' "
        "and state = 'failed' order by result_id"
    )
    assert [row[0] for row in rows] == [first.run_id, second.run_id]
    assert {row[1:] for row in rows} == {(first.run_id, first.as_of, True)}
    page = (inbound.settings.home / "quality" / "qualidade.html").read_text("utf-8")
    assert f"inbound_messages {loaded.run_id}" in page
    assert documents["verificacoes"]
    corrupt(inbound, "update conversations set total_messages = 2 where total_messages = -1")
    judge(inbound, tables=LARGE)
    corrupt(inbound, "update conversations set total_messages = -1 where total_messages = 2")
    third = judge(inbound, tables=LARGE)
    ((again,),) = inbound.rows(
        "select first_bad_run_id from pipeline.quality_results "
        "where check_name = 'conversations.total_messages_range' and run_id = :run",
        run=third.run_id,
    )
    assert again == third.run_id, "mended in between, so it is another failure"


def test_a_critical_failure_closes_the_gate_until_a_good_run(inbound: Inbound) -> None:
    corrupt(inbound, "update conversations set total_messages = 9")
    with pytest.raises(PermanentError, match=r"conversations\.total_messages_agrees"):
        run(inbound)
    assert closed_gates(inbound) == {"conversations": "conversations.total_messages_agrees"}
    with pytest.raises(PermanentError):
        run(inbound)
    corrupt(inbound, "update conversations set total_messages = 1")
    assert judge(inbound, tables=["users"]).outcome == "completed"
    assert set(closed_gates(inbound)) == {"conversations"}, "that run did not look at it"
    assert judge(inbound).outcome == "completed"
    assert closed_gates(inbound) == {}


def test_a_warning_stops_nothing(inbound: Inbound) -> None:
    corrupt(inbound, "update users set email = 'no address'")
    report = judge(inbound, tables=["users"])
    assert (report.outcome, report.skipped["failed_warning"]) == ("completed", 1)
    assert closed_gates(inbound) == {}


def test_an_instant_of_another_day_moves_no_gate_and_no_watermark(inbound: Inbound) -> None:
    corrupt(inbound, "update conversations set total_messages = 9")
    with pytest.raises(PermanentError):
        run(inbound, now=AS_OF + timedelta(days=1))
    assert closed_gates(inbound) == {}
    assert inbound.rows("select 1 from pipeline.watermarks where pipeline = 'data_quality'") == []
    assert inbound.rows("select 1 from pipeline.quality_results where state = 'failed'")


def test_the_same_run_twice_says_the_same(inbound: Inbound) -> None:
    corrupt(inbound, "update users set name = ' '")

    def said() -> list[tuple[Any, ...]]:
        judge(inbound, mode=Mode.FULL)
        return inbound.rows(
            "select check_name, state, failed_rows, failed_keys, detail "
            "from pipeline.quality_results where run_id = (select run_id "
            "from pipeline.quality_results order by result_id desc limit 1) order by check_name"
        )

    assert said() == said()


def test_alerts_wait_while_what_they_depend_on_cannot_be_trusted(database: TestDatabase) -> None:
    world = AlertWorld(database)
    inbound = Inbound(database)
    world.execute(
        "insert into pipeline.gates (table_name, is_closed, reason, changed_at) values "
        "('certificates', true, 'certificates.days_agree', now()), "
        "('tickets', true, 'tickets.has_user', now())"
    )
    settings = {
        "smtp_url": "smtp://127.0.0.1:1",
        "staff_email": "equipe@example.com",
        "whatsapp_phone_number_id": "1",
        "whatsapp_token": "obviously-no-token",
    }
    inbound = Inbound(database, **settings)
    gated = inbound.run("certificate_alerts", execute=True, channels=["email"])
    assert (gated.outcome, gated.reason) == ("skipped", "gate_closed")
    assert gated.notes == ["certificates: certificates.days_agree"]
    shown = inbound.run("certificate_alerts", channels=["email"])
    assert shown.reason != "gate_closed", "a dry run reaches nobody"
    world.execute("update pipeline.gates set is_closed = false where table_name = 'certificates'")
    with pytest.raises(ConfigurationError, match="as_of") as refused:
        inbound.run("certificate_alerts", execute=True, channels=["email"])
    assert "gate" not in str(refused.value), "a gate of a table it does not depend on"


def test_rows_are_named_by_id_alone(inbound: Inbound) -> None:
    corrupt(inbound, "update users set email = 'segredo sem arroba'")
    judge(inbound, tables=["users"])
    ((keys,),) = inbound.rows(
        "select failed_keys from pipeline.quality_results "
        "where check_name = 'users.email_format' and state = 'failed'"
    )
    known = {row[0] for row in inbound.rows("select id from users")}
    assert set(keys) <= known
    assert all(isinstance(key, UUID) for key in keys)
    page = (inbound.settings.home / "quality" / "qualidade.html").read_text("utf-8")
    assert "segredo" not in page
    assert re.search(r"[0-9a-f]{8}-[0-9a-f]{4}", page)
