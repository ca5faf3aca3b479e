"""The clock ends contexts at their TTL and conversations past the idle limit, both exactly."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Connection, text

from gatte_pipelines.run_report import Outcome, RunReport
from tests.database.conftest import CHATBOT
from tests.inbound import AS_OF, HOUR, NOW, Inbound
from tests.postgres import TestDatabase
from tests.webhooks import BRUNO, text_message

SECOND = timedelta(seconds=1)
TTL = timedelta(hours=4)
IDLE = timedelta(hours=24)


@pytest.fixture
def inbound(database: TestDatabase) -> Inbound:
    made = Inbound(database)
    made.say(text_message("w1", NOW - HOUR), text_message("w2", NOW))
    return made


def expire(inbound: Inbound, after: timedelta) -> RunReport:
    return inbound.run("session_context_expiry", as_of=AS_OF + after)


def state(inbound: Inbound) -> tuple[Any, ...]:
    return inbound.one(
        "select c.status, c.closed_at, (select count(*) from session_context), "
        "(select count(*) from messages where is_in_context) from conversations as c"
    )


def test_before_its_time_nothing_ends_and_the_run_says_so(inbound: Inbound) -> None:
    report = expire(inbound, TTL - SECOND)
    assert (report.outcome, report.reason) == (Outcome.SKIPPED, "nothing_to_do")
    assert state(inbound) == ("open", None, 1, 2)


def test_a_context_ends_exactly_at_its_time_with_the_marks_of_its_messages(
    inbound: Inbound,
) -> None:
    report = expire(inbound, TTL)
    assert (report.received, report.updated) == (1, 1)
    assert report.notes == ["contextos expirados: 1; conversas encerradas: 0"]
    assert state(inbound) == ("open", None, 0, 0)


@pytest.mark.parametrize(("after", "live"), [(TTL - SECOND, 1), (TTL, 0), (IDLE, 0)])
def test_a_context_that_expired_is_hidden_from_the_chatbot_before_it_is_removed(
    inbound: Inbound, chatbot: Connection, after: timedelta, live: int
) -> None:
    with inbound.database.connect("owner") as owner, owner.begin():
        # As docs/chatbot_events.md has it, and without any right on the table.
        owner.execute(text(f"revoke all on session_context from {CHATBOT}"))
        owner.execute(text(f"grant usage on schema pipeline to {CHATBOT}"))
        owner.execute(text(f"grant select on pipeline.live_session_contexts to {CHATBOT}"))
    chatbot.execute(
        text("select set_config('gatte.as_of', :at, true)"), {"at": (AS_OF + after).isoformat()}
    )
    rows = chatbot.execute(
        text("select messages_json, ttl_expires_at from pipeline.live_session_contexts")
    ).all()
    assert state(inbound)[2] == 1
    assert len(rows) == live
    if live:
        ((messages_json, ttl_expires_at),) = rows
        assert [(message["content"],) for message in messages_json] == inbound.rows(
            "select content from messages order by created_at"
        )
        assert ttl_expires_at == AS_OF + TTL


@pytest.mark.parametrize(("after", "status"), [(IDLE, "open"), (IDLE + SECOND, "closed")])
def test_a_conversation_ends_only_past_the_idle_limit_at_its_last_message(
    inbound: Inbound, after: timedelta, status: str
) -> None:
    expire(inbound, after)
    closed_at = AS_OF if status == "closed" else None
    assert state(inbound) == (status, closed_at, 0, 0)


def test_a_second_run_has_nothing_to_do(inbound: Inbound) -> None:
    assert expire(inbound, IDLE + SECOND).received == 2
    assert expire(inbound, IDLE + SECOND).outcome is Outcome.SKIPPED


def test_a_closed_conversation_has_no_context_also_with_a_limit_below_its_time(
    inbound: Inbound,
) -> None:
    short = Inbound(inbound.database, conversation_idle_hours=1)
    report = short.run("session_context_expiry", as_of=AS_OF + timedelta(hours=1) + SECOND)
    assert report.received == 2
    assert state(inbound) == ("closed", AS_OF, 0, 0)


def test_a_conversation_without_messages_counts_from_its_start(inbound: Inbound) -> None:
    user = inbound.insert_user(f"+{BRUNO}")
    inbound.execute(
        "insert into conversations (id, user_id, status, mode, started_at) "
        "values (gen_random_uuid(), :user, 'open', 'menu', :at)",
        user=user,
        at=AS_OF - timedelta(days=2),
    )
    assert expire(inbound, timedelta(0)).received == 1
    assert inbound.one("select closed_at from conversations where user_id = :user", user=user) == (
        AS_OF - timedelta(days=2),
    )


def test_the_end_is_recorded_in_the_history_at_the_time_of_the_run(inbound: Inbound) -> None:
    expire(inbound, IDLE + SECOND)
    assert inbound.rows(
        "select column_name, old_value, new_value, changed_at from pipeline.row_history"
    ) == [("status", "open", "closed", AS_OF + IDLE + SECOND)]
