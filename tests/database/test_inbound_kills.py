"""A loader killed at any moment: the next run finishes the work, and nothing is doubled."""

from __future__ import annotations

import io
import random
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, text

from gatte_pipelines.sandbox.traffic import (
    WHOLE_SHARES,
    TrafficCounts,
    TrafficPlan,
    write_traffic,
)
from gatte_pipelines.wiring import Wiring
from tests.database.canonical import assert_same_dump, canonical_dump
from tests.database.loader_process import LoaderProcess
from tests.postgres import TestDatabase

AS_OF = datetime(2026, 3, 2, 15, tzinfo=UTC)
LONGEST_START_SECONDS = 60.0
POLL_SECONDS = 0.004
WHOLE = 20_000

MakeDatabase = Callable[..., AbstractContextManager[TestDatabase]]


@dataclass(frozen=True)
class Kill:
    """One kill: what the run had committed by itself, and what its sessions were doing."""

    lines_before: int
    lines_done: int
    state: str
    statements: str


@dataclass(frozen=True)
class Batch:
    lines_done: int
    state: str


def make_traffic(path: Path, messages: int, users: int) -> TrafficCounts:
    plan = TrafficPlan(
        messages=messages,
        users=users,
        seed=7,
        as_of=AS_OF,
        concurrent_clients=30,
        **(WHOLE_SHARES | {"bsuid_only_pct": 5, "number_change_pct": 5}),
    )
    out = io.BytesIO()
    counts = write_traffic(plan, out)
    path.write_bytes(out.getvalue())
    return counts


def clean_dump(make_database: MakeDatabase, path: Path) -> str:
    """What one run without any kill leaves, in a database of its own."""
    with make_database() as database:
        with Wiring.from_settings(database.settings()) as wiring:
            wiring.run("inbound_messages", as_of=AS_OF, paths=[str(path)]).balance()
        with database.connect("owner") as owner:
            return canonical_dump(owner)


class Killer:
    """Starts loaders of one file and kills each within its work.

    Args:
        database: Theirs.
        owner: A connection to look with.
        path: The file.
        chunk_units: Units of a transaction, small so that one file lasts for many kills.
        seed: Of the moments.
    """

    def __init__(
        self, database: TestDatabase, owner: Connection, path: Path, *, chunk_units: int, seed: int
    ) -> None:
        self._database, self._owner, self._path = database, owner, path
        self._chunk_units = chunk_units
        self._random = random.Random(seed)  # noqa: S311 - moments of kills

    def start(self, chunk_units: int) -> LoaderProcess:
        return LoaderProcess(self._database, [self._path], AS_OF, chunk_units=chunk_units)

    def batch(self) -> Batch:
        rows = self._read("select lines_done, state from pipeline.inbound_batches")
        return Batch(*rows[0]) if rows else Batch(0, "new")

    def kill_one(self) -> Kill:
        """Kill a run at some moment after its first commit, wherever that finds it."""
        before = self.batch().lines_done
        # A chunk takes some 50 ms: anywhere in the second or third.
        delay = self._random.uniform(0, 0.12)
        with self.start(self._chunk_units) as process:
            self._wait_for_progress(process, before)
            time.sleep(delay)
            statements = self._statements()
            process.kill()
        self._wait_for_end_of_sessions()
        after = self.batch()
        return Kill(before, after.lines_done, after.state, statements)

    def _wait_for_progress(self, process: LoaderProcess, before: int) -> None:
        deadline = time.monotonic() + LONGEST_START_SECONDS
        while self.batch().lines_done <= before:
            assert process.is_running, process.finish()
            assert time.monotonic() < deadline, "the loader committed nothing"
            time.sleep(POLL_SECONDS)

    def _statements(self) -> str:
        """What the loader's sessions run or ran last, to tell kills apart."""
        rows = self._read(
            "select state, query from pg_stat_activity "
            "where datname = current_database() and usename = 'gatte_pipeline' "
            "and backend_type = 'client backend' order by backend_start, pid"
        )
        return " | ".join(f"{state}: {_name_of(query)}" for state, query in rows)

    def _wait_for_end_of_sessions(self) -> None:
        """The server ends the statement it is in, then finds nobody there and rolls back."""
        deadline = time.monotonic() + LONGEST_START_SECONDS
        while self._statements():
            assert time.monotonic() < deadline, "the session of a killed loader stays"
            time.sleep(POLL_SECONDS)

    def _read(self, statement: str) -> list[tuple[Any, ...]]:
        rows = self._owner.execute(text(statement)).all()
        self._owner.rollback()
        return [tuple(row) for row in rows]


def _name_of(query: str) -> str:
    """A statement without its comments, cut short."""
    lines = (line.strip() for line in query.splitlines() if not line.startswith("--"))
    return " ".join(lines)[:40]


@pytest.fixture
def watching(database: TestDatabase) -> Iterator[Connection]:
    """Sees everybody's statements."""
    with database.connect("superuser") as connection:
        yield connection


def assert_kills_leave_no_trace(
    make_database: MakeDatabase,
    database: TestDatabase,
    watching: Connection,
    path: Path,
    *,
    kills: int,
    messages: int,
    chunk_units: int,
) -> list[Kill]:
    counts = make_traffic(path, messages, users=messages // 8)
    # Nothing that comes in is missing from what is killed.
    assert min(counts.chatbot_messages, counts.chatbot_repeats, counts.conversation_events) > 0
    assert {"edit", "user_changed_number", "user_id_update"} <= counts.others.keys(), counts
    killer = Killer(database, watching, path, chunk_units=chunk_units, seed=kills)
    made = [killer.kill_one() for _ in range(kills)]
    for number, kill in enumerate(made, 1):
        print(f"kill {number}: {kill}")  # noqa: T201 - the proof; pytest -s shows it
        # Each hit a run that had committed, and was not at its end.
        assert kill.lines_done > kill.lines_before
        assert kill.state == "loading"
    report = killer.start(WHOLE).finish()
    assert killer.batch() == Batch(counts.lines, "done")
    assert f"{path.name}: retomado depois da linha {made[-1].lines_done}" in report.notes
    assert 0 < report.received < counts.updates
    assert_same_dump(canonical_dump(watching), clean_dump(make_database, path))
    # Once more, whole: there is nothing that was left out, and nothing comes twice.
    again = killer.start(WHOLE).finish()
    assert again.received == counts.updates
    assert again.duplicate == counts.updates - sum(again.skipped.values())
    return made


def test_killed_loads_end_as_one_clean_run(
    make_database: MakeDatabase, database: TestDatabase, watching: Connection, tmp_path: Path
) -> None:
    assert_kills_leave_no_trace(
        make_database,
        database,
        watching,
        tmp_path / "inbound.jsonl",
        kills=4,
        messages=1_500,
        chunk_units=100,
    )


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_more_than_twenty_killed_loads_end_as_one_clean_run(
    make_database: MakeDatabase, database: TestDatabase, watching: Connection, tmp_path: Path
) -> None:
    kills = assert_kills_leave_no_trace(
        make_database,
        database,
        watching,
        tmp_path / "inbound.jsonl",
        kills=24,
        messages=10_000,
        chunk_units=150,
    )
    assert len({kill.statements for kill in kills}) >= 8, "the kills all hit the same moment"


def test_load_killed_before_the_archive_is_archived_by_the_next_as_duplicates(
    make_database: MakeDatabase, database: TestDatabase, watching: Connection, tmp_path: Path
) -> None:
    landing = database.settings().home / "landing"
    landing.mkdir(parents=True)
    path = landing / "inbound.jsonl"
    counts = make_traffic(path, messages=300, users=40)
    expected = clean_dump(make_database, path)
    with LoaderProcess(database, [], AS_OF, chunk_units=100, stop_before_archive=True) as process:
        process.wait_until_ready_to_archive()
        process.kill()
    assert path.exists()
    killer = Killer(database, watching, path, chunk_units=100, seed=1)
    assert killer.batch().state == "done"
    assert_same_dump(canonical_dump(watching), expected)

    report = LoaderProcess(database, [], AS_OF, chunk_units=100).finish()
    assert report.received == counts.updates
    assert report.duplicate == counts.updates - sum(report.skipped.values())
    assert [file.name for file in landing.iterdir()] == ["archive"]
    assert [file.name for file in landing.glob("archive/*/*")] == [path.name]
    assert_same_dump(canonical_dump(watching), expected)
