"""Old flow runs and all that hangs on them go from Prefect's store, and from its file."""

from __future__ import annotations

import json
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from prefect.settings import PREFECT_API_URL, PREFECT_HOME, temporary_settings

from flows._prefect_retention import PAGE, PrefectRuns, overwrite_deleted
from gatte_pipelines.errors import RetryableError
from gatte_pipelines.sandbox.local_stack import LocalStack

pytestmark = pytest.mark.prefect

# Long before any run of the session, so that a cutoff in between meets only what is planted here.
ENDED_AT = datetime(2001, 3, 2, 12, tzinfo=UTC)
CUTOFF = ENDED_AT + timedelta(days=1)
MARK = "a-mark-that-nobody-else-writes"


class Server:
    """What Prefect's API takes and gives, planted and read back without its client."""

    def __init__(self, client: httpx.Client, file: Path) -> None:
        self._client, self.file = client, file
        # A mark of its own: events tell of other tests' runs for days.
        self.text = f"mark-{uuid4()}"
        self.flow_id = self.send("flows/", {"name": f"planted-{uuid4()}"})["id"]

    def send(self, path: str, body: Any) -> Any:
        ends_at = time.monotonic() + 30
        while True:
            response = self._client.post(path, json=body)
            # On SQLite the server answers 503 while another of its parts writes.
            if response.status_code != httpx.codes.SERVICE_UNAVAILABLE or (
                time.monotonic() > ends_at
            ):
                response.raise_for_status()
                return response.json() if response.content else None
            time.sleep(0.2)

    def plant_run(self, at: datetime, state: str = "COMPLETED") -> UUID:
        """A run with a task run, a log line and an artifact, each with the mark in it."""
        # A key of its own, since a newer artifact of the same key lets an event repeat the older.
        run_id = self.plant_unmarked(at, state, key=f"planted-{uuid4()}")
        self.mark(run_id)
        return run_id

    def plant_unmarked(self, at: datetime, state: str, key: str) -> UUID:
        """The same, with no mark yet in what events would repeat."""
        run_id = self.send(
            "flow_runs/",
            {"flow_id": self.flow_id, "parameters": {"a": self.text}},
        )["id"]
        self.send(f"flow_runs/{run_id}/set_state", {"state": {"type": state}, "force": True})
        self.send(
            "task_runs/",
            {"flow_run_id": run_id, "task_key": "t", "dynamic_key": "0", "name": self.text},
        )
        self.send(
            "logs/",
            [
                {
                    "name": "planted",
                    "level": 20,
                    "message": self.text,
                    "timestamp": at.isoformat(),
                    "flow_run_id": run_id,
                }
            ],
        )
        self.send(
            "artifacts/",
            {"key": key, "type": "markdown", "data": "", "flow_run_id": run_id},
        )
        self.age(run_id, at)
        return UUID(run_id)

    def age(self, run_id: str | UUID, at: datetime) -> None:
        """Set a run back in time, which the API does for nobody."""
        with closing(sqlite3.connect(self.file, timeout=60)) as database, database:
            database.execute(
                "update flow_run set start_time = :at, expected_start_time = :at, "
                "end_time = iif(end_time is null, null, :at) where id = :run_id",
                {"at": at.strftime("%Y-%m-%d %H:%M:%S.%f"), "run_id": str(run_id)},
            )
            assert database.total_changes == 1

    def mark(self, run_id: UUID) -> None:
        """Write the mark into state and artifact past the API, so that no event tells of it."""
        with closing(sqlite3.connect(self.file, timeout=60)) as database, database:
            marks = {"mark": self.text, "text": json.dumps(self.text * 500), "run_id": str(run_id)}
            for statement in (
                "update flow_run_state set message = :mark where flow_run_id = :run_id",
                "update artifact set data = :text where flow_run_id = :run_id",
                "update artifact_collection set data = :text where flow_run_id = :run_id",
            ):
                database.execute(statement, marks)

    def runs(self) -> set[UUID]:
        found = self.send("flow_runs/filter", {"flows": {"id": {"any_": [self.flow_id]}}})
        return {UUID(item["id"]) for item in found}

    def dump(self) -> str:
        with closing(sqlite3.connect(self.file, timeout=60)) as database:
            return "\n".join(database.iterdump())

    def bytes_of_files(self) -> bytes:
        files = sorted(self.file.parent.glob(f"{self.file.name}*"))
        return b"".join(path.read_bytes() for path in files if path.suffix != ".db-shm")


@pytest.fixture
def server(stack: LocalStack) -> Iterator[Server]:
    with httpx.Client(base_url=f"{stack.api.url}/", timeout=30, trust_env=False) as client:
        yield Server(client, stack.home / "prefect" / "prefect.db")


@pytest.fixture
def store(stack: LocalStack) -> Iterator[PrefectRuns]:
    with temporary_settings({PREFECT_API_URL: stack.api.url, PREFECT_HOME: stack.home / "prefect"}):
        yield PrefectRuns()


def test_what_is_past_its_time_is_counted_and_stays_until_it_is_deleted(
    server: Server, store: PrefectRuns
) -> None:
    planted = server.plant_run(ENDED_AT)
    assert store.count_due(CUTOFF) == (1, ENDED_AT)
    assert store.count_due(ENDED_AT - timedelta(seconds=1)) == (0, None)
    assert planted in server.runs()
    assert store.trim(CUTOFF) == 1
    assert store.count_due(CUTOFF) == (0, None)


def test_nothing_of_a_deleted_run_is_left_in_the_dump_or_in_the_files(
    server: Server, store: PrefectRuns
) -> None:
    server.plant_run(ENDED_AT)
    before = server.dump()
    places = {line.split('"')[1] for line in before.splitlines() if server.text in line}
    assert places >= {
        "flow_run",
        "flow_run_state",
        "task_run",
        "log",
        "artifact",
        "artifact_collection",
    }
    assert server.text.encode() in server.bytes_of_files()
    store.trim(CUTOFF)
    assert server.text not in server.dump()
    assert server.text.encode() not in server.bytes_of_files()


def test_no_event_repeats_the_text_of_the_artifacts_that_go(
    server: Server, store: PrefectRuns
) -> None:
    runs = [
        server.plant_unmarked(ENDED_AT + timedelta(seconds=number), "COMPLETED", "planted-shared")
        for number in range(3)
    ]
    for run_id in runs:
        server.mark(run_id)
    assert store.trim(CUTOFF) == 3
    deleted = {"filter": {"event": {"prefix": ["prefect.artifact-collection.deleted"]}}}
    ends_at = time.monotonic() + 30
    while "planted-shared" not in json.dumps(server.send("events/filter", deleted)):
        assert time.monotonic() < ends_at, "the server tells of it within seconds"
        time.sleep(0.2)
    assert server.text not in server.dump()


def test_more_runs_than_fit_a_page_all_go(server: Server, store: PrefectRuns) -> None:
    for number in range(PAGE + 3):
        server.plant_run(ENDED_AT + timedelta(seconds=number))
    assert store.trim(CUTOFF) == PAGE + 3
    assert server.text not in server.dump()


@pytest.mark.parametrize("state", ["FAILED", "CRASHED", "CANCELLED"])
def test_a_run_goes_however_it_ended(server: Server, store: PrefectRuns, state: str) -> None:
    planted = server.plant_run(ENDED_AT, state)
    assert store.trim(CUTOFF) == 1
    assert planted not in server.runs()


@pytest.mark.parametrize("state", ["RUNNING", "PENDING", "SCHEDULED", "PAUSED"])
def test_a_run_that_is_not_over_stays_whatever_its_age(
    server: Server, store: PrefectRuns, state: str
) -> None:
    planted = server.plant_run(ENDED_AT, state)
    assert store.count_kept(ENDED_AT - timedelta(seconds=1)) == 0
    assert store.count_kept(CUTOFF) == 1
    assert store.trim(CUTOFF) == 0
    assert planted in server.runs()
    assert server.text in server.dump()
    server.send(
        f"flow_runs/{planted}/set_state",
        {"state": {"type": "CRASHED"}, "force": True},
    )
    server.age(planted, ENDED_AT)
    assert store.trim(CUTOFF) == 1
    assert store.count_kept(CUTOFF) == 0


def test_a_run_of_after_the_cutoff_keeps_its_logs_and_artifacts(
    server: Server, store: PrefectRuns, stack: LocalStack
) -> None:
    server.plant_run(ENDED_AT)
    kept = server.plant_run(CUTOFF + timedelta(days=1))
    assert store.trim(CUTOFF) == 1
    assert server.runs() == {kept}
    assert stack.api.read_logs(str(kept)) == server.text
    assert len(stack.api.read_artifacts(str(kept))) == 1
    assert store.trim(CUTOFF + timedelta(days=2)) == 1


def test_the_exception_that_a_failed_flow_left_as_a_file_goes_with_its_time(
    store: PrefectRuns, stack: LocalStack
) -> None:
    kept_before = set((stack.home / "prefect" / "storage").glob("*"))
    failed = stack.run_flow("session_context_expiry", {"as_of": MARK})
    assert failed.state_type == "FAILED"
    (file,) = set((stack.home / "prefect" / "storage").glob("*")) - kept_before
    store.trim(CUTOFF)
    assert file.exists()
    os.utime(file, (ENDED_AT.timestamp(), ENDED_AT.timestamp()))
    assert store.count_due(CUTOFF) == (1, ENDED_AT)
    assert store.trim(CUTOFF) == 1
    assert not file.exists()


def test_what_the_server_deleted_by_itself_does_not_stay_in_its_log_of_writes(
    server: Server, store: PrefectRuns
) -> None:
    planted = server.plant_run(ENDED_AT)
    with closing(sqlite3.connect(server.file, timeout=60)) as database, database:
        database.execute("delete from log where flow_run_id = ?", [str(planted)])
        database.execute("delete from artifact where flow_run_id = ?", [str(planted)])
        database.execute("delete from artifact_collection where key like 'planted-%'")
    with closing(sqlite3.connect(server.file, timeout=60)) as database, database:
        database.execute("pragma foreign_keys = on")
        database.execute("delete from flow_run where id = ?", [str(planted)])
    assert server.text not in server.dump()
    assert server.text.encode() in server.bytes_of_files()
    assert store.trim(CUTOFF) == 0
    assert server.text.encode() not in server.bytes_of_files()


def test_a_sqlite_built_without_secure_delete_leaves_nothing_either(tmp_path: Path) -> None:
    file = tmp_path / "some.db"
    with closing(sqlite3.connect(file, isolation_level=None)) as database:
        database.execute("pragma journal_mode = wal")
        database.execute("pragma secure_delete = off")
        database.execute("create table some (mark text)")
        database.executemany("insert into some values (?)", [(MARK * 500,)] * 50)
        database.execute("delete from some")
        database.execute("pragma wal_checkpoint(truncate)")
        assert MARK.encode() in file.read_bytes()
        overwrite_deleted(file, is_overwriting=False)
        assert MARK.encode() not in file.read_bytes()
        assert (tmp_path / "some.db-wal").stat().st_size == 0


def test_a_server_that_is_away_is_worth_another_try() -> None:
    with (
        temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}),
        pytest.raises(RetryableError, match="does not answer"),
    ):
        PrefectRuns().count_due(CUTOFF)
