"""Retention killed in the middle, as by the machine, is finished by the next run; nothing twice."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import text

from gatte_pipelines.settings import Settings
from gatte_pipelines.wiring import Wiring
from tests.database.rows import insert
from tests.postgres import TestDatabase

MESSAGES = 30_000
NOW = datetime.now(UTC)


def command(settings: Settings, *arguments: str) -> subprocess.Popen[str]:
    """Start the retention as a person does."""
    return subprocess.Popen(
        [sys.executable, "-m", "gatte_pipelines.cli", "lgpd", "retention", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={
            "PATH": os.environ["PATH"],
            "GATTE_HOME": str(settings.home),
            "GATTE_ID_KEY": (settings.id_key or b"").decode(),
            "GATTE_DATABASE_URL": settings.database_url or "",
            "GATTE_MIGRATION_DATABASE_URL": settings.migration_database_url or "",
        },
    )


def count(database: TestDatabase, query: str) -> int:
    with database.connect("owner") as connection:
        return int(connection.scalar(text(query)) or 0)


OUTCOMES = "select count(*) from pipeline.privacy_ledger where entry::jsonb ->> 'kind' = 'outcome'"
DONE = (
    "select sum((entry::jsonb -> 'body' ->> 'done')::int) from pipeline.privacy_ledger "
    "where entry::jsonb ->> 'kind' = 'outcome' and (entry::jsonb -> 'body' ->> 'intent')::int in "
    "(select seq from pipeline.privacy_ledger "
    "where entry::jsonb -> 'body' ->> 'rule' = 'messages_content')"
)
LEFT = "select count(*) from messages where content <> ''"


def approve(settings: Settings) -> subprocess.Popen[str]:
    """Make a plan and begin to carry it out: so many rows are nobody's daily share."""
    planned = command(settings, "--json")
    report = json.loads(planned.communicate(timeout=120)[0].splitlines()[-1])
    plan = next(note.split()[1].rstrip(",") for note in report["notes"] if "plano" in note)
    return command(settings, "--approve", plan)


@pytest.mark.long
@pytest.mark.timeout(900)
def test_a_killed_run_is_finished_by_the_next_each_row_once_and_the_chain_whole(
    database: TestDatabase, tmp_path: Path
) -> None:
    settings = database.settings()
    with database.connect("owner") as connection, connection.begin():
        user = insert(connection, "users", created_at=NOW - timedelta(days=400), updated_at=NOW)
        talk = insert(connection, "conversations", user_id=user)
        connection.execute(
            text(
                "insert into messages (id, conversation_id, role, content, is_in_context, "
                "created_at) select gen_random_uuid(), :c, 'user', 'texto ' || n, false, "
                "now() - interval '100 days' - n * interval '1 minute' "
                "from generate_series(1, :n) as n"
            ),
            {"c": talk, "n": MESSAGES},
        )
    kills = 0
    for steps in range(1, 8):
        before = count(database, OUTCOMES)
        run = approve(settings)
        deadline = time.monotonic() + 120
        while count(database, OUTCOMES) < before + steps % 3 + 1 and run.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.005)
        if run.poll() is not None:
            run.communicate()
            break
        run.send_signal(signal.SIGKILL)
        run.communicate()
        kills += 1
        assert count(database, DONE) == MESSAGES - count(database, LEFT)
    assert kills >= 2, "the run was over before it could be killed"
    last = approve(settings)
    _, told = last.communicate(timeout=300)
    assert last.returncode == 0, told
    assert count(database, LEFT) == 0
    assert count(database, DONE) == MESSAGES
    with Wiring(settings) as wiring, wiring.migrated() as migrated:
        assert wiring.verify_ledger(migrated).problems == ()
