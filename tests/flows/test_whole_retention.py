"""After six years nothing personal is left anywhere: database, files, Prefect's database and logs.

tests/database/test_privacy_whole.py shows the first two without Prefect. Here the files are loaded,
and the policy is carried out, by real flow runs of a stack whose home is the one that is searched.
"""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing

import httpx
import pytest

from gatte_pipelines.sandbox.local_stack import EVENTS_KEPT, LocalStack
from gatte_pipelines.sandbox.local_stack_api import FlowRun
from tests.database.test_privacy_whole import (
    ANA,
    BIA,
    CAIO,
    HELD,
    IN_OPEN_TASK,
    IN_TICKETS,
    NOW,
    SIX_YEARS,
    WORDS,
    Everything,
    found_in,
)
from tests.flows.test_prefect_retention import Server
from tests.postgres import TestDatabase, database, make_database, postgres_server

__all__ = ["database", "make_database", "postgres_server"]

pytestmark = [pytest.mark.prefect, pytest.mark.long]

# The server deletes events hourly, and nobody else can: here it is asked to do it now.
_VACUUM_EVENTS = """
import asyncio
from prefect.server.database import provide_database_interface
from prefect.server.services.db_vacuum import vacuum_old_events
asyncio.run(vacuum_old_events(db=provide_database_interface()))
"""


class EverythingInFlows(Everything):
    """The same, loaded by a flow run, so that Prefect knows of it too."""

    def __init__(self, made: TestDatabase, stack: LocalStack) -> None:
        super().__init__(made)
        self.stack = stack

    def load_files(self) -> None:
        """Load the landing zone in a flow run; what it says stands in Prefect."""
        assert self.stack.run_flow("inbound_messages").state_type == "COMPLETED"

    def retain_in_a_flow(self) -> FlowRun:
        """Carry the policy out six years from now."""
        return self.stack.run_flow(
            "lgpd_retention",
            {"as_of": (NOW + SIX_YEARS).isoformat(), "force": True, "execute": True},
        )


@pytest.fixture
def everything(database: TestDatabase) -> Iterator[EverythingInFlows]:
    settings = Everything(database).settings
    with LocalStack(settings, print, schedules=False, poll_seconds=1.0) as stack:
        yield EverythingInFlows(database, stack)


@pytest.fixture
def server(everything: EverythingInFlows) -> Iterator[Server]:
    api = everything.stack.api
    with httpx.Client(base_url=f"{api.url}/", timeout=30, trust_env=False) as client:
        yield Server(client, everything.database.home / "prefect" / "prefect.db")


def plant_in_prefect(server: Server) -> dict[str, str]:
    """A word in each place of a run that a flow, or whoever wrote it, can fill; by place.

    Past the API where an event would tell of it for as long as events are kept.
    """
    run_id = server.plant_run(NOW)
    words = {
        name: f"zqp{number}{name.replace('_', '')}"
        for number, name in enumerate(
            ("run_name", "parameters", "state", "log", "task", "artifact", "description")
        )
    }
    statements = {
        "run_name": "update flow_run set name = :w where id = :r",
        "parameters": "update flow_run set parameters = json_object('nome', :w) where id = :r",
        "state": "update flow_run_state set message = :w where flow_run_id = :r",
        "log": "update log set message = :w where flow_run_id = :r",
        "task": "update task_run set name = :w where flow_run_id = :r",
        "artifact": "update artifact set data = json_quote(:w) where flow_run_id = :r",
        "description": "update artifact set description = :w where flow_run_id = :r",
    }
    with closing(sqlite3.connect(server.file, timeout=60)) as store, store:
        for name, statement in statements.items():
            changed = store.execute(statement, {"w": words[name], "r": str(run_id)}).rowcount
            assert changed >= 1, name
    return words


def let_events_end(everything: EverythingInFlows, server: Server) -> None:
    """Let the time pass for which events are kept, and the server delete them."""
    with closing(sqlite3.connect(server.file, timeout=60)) as store, store:
        for table in ("events", "event_resources"):
            store.execute(
                f"update {table} set occurred = datetime(occurred, :ago)",  # noqa: S608 - our names
                {"ago": f"-{EVENTS_KEPT.days + 1} days"},
            )
    subprocess.run(
        [sys.executable, "-c", _VACUUM_EVENTS],
        env=everything.stack.environment(),
        check=True,
        timeout=120,
    )


def test_after_six_years_nothing_is_left_in_database_files_logs_or_prefect(
    everything: EverythingInFlows, server: Server
) -> None:
    everything.fill()
    failed = everything.stack.run_flow("session_context_expiry", {"as_of": "zqpfailedasof"})
    assert failed.state_type == "FAILED"
    words = plant_in_prefect(server)
    needles = {*WORDS.values(), ANA, BIA, CAIO, *words.values(), "zqpfailedasof", server.text}

    before = server.dump()
    assert set(words.values()) | {"zqpfailedasof", server.text} <= {
        word for word in needles if word in before
    }
    # The run of the load names its file, and Prefect keeps that.
    assert WORDS["file_name"] in before

    let_events_end(everything, server)
    done = everything.retain_in_a_flow()
    assert (done.state_type, done.state_name) == ("COMPLETED", "Completed"), done.message

    dump = everything.dump()
    assert found_in(dump) == set()
    assert all(word in dump for word in (*IN_TICKETS, HELD, IN_OPEN_TASK))
    prefect = server.dump()
    # The dump is of everything: the run that did it stands in it.
    assert done.run_id in prefect
    assert {word for word in needles if word in prefect} == set()
    # Prefect's files and what the server and the runs logged among them, byte by byte.
    left = {
        (path.relative_to(everything.database.home).as_posix(), word)
        for path, content in everything.files()
        for word in needles
        if word.encode() in content
    }
    assert left == set()
