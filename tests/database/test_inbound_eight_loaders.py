"""Loaders of the same clients at the same time: the rows of one clean run, and no deadlock."""

from __future__ import annotations

import io
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from psycopg import sql
from sqlalchemy import Connection, text

from gatte_pipelines.database.engine import psycopg_connection
from gatte_pipelines.inbound.chunk import Chunk
from gatte_pipelines.inbound.ids import MessageIds
from gatte_pipelines.inbound.merge import MergeRules, create_temporary_tables, merge_chunk
from gatte_pipelines.inbound.units import Message, Sender, Source
from gatte_pipelines.sandbox.traffic import WHOLE_SHARES, TrafficPlan, write_traffic
from gatte_pipelines.wiring import Wiring
from tests.database.canonical import assert_same_dump, canonical_dump
from tests.database.loader_process import LoaderProcess
from tests.postgres import ID_KEY, TestDatabase

AS_OF = datetime(2026, 3, 2, 15, tzinfo=UTC)
LONGEST_WAIT_SECONDS = 120
LOADERS = 8
FILES = 16
CHUNK_UNITS = 400

MakeDatabase = Callable[..., AbstractContextManager[TestDatabase]]


def make_files(folder: Path, messages: int, chance: random.Random) -> list[Path]:
    """Traffic whose bodies are dealt to the files at random, so that all share all clients."""
    plan = TrafficPlan(
        messages=messages,
        users=messages // 8,
        seed=11,
        as_of=AS_OF,
        concurrent_clients=40,
        **(WHOLE_SHARES | {"bsuid_only_pct": 5, "number_change_pct": 5}),
    )
    out = io.BytesIO()
    write_traffic(plan, out)
    bodies = out.getvalue().splitlines(keepends=True)
    chance.shuffle(bodies)
    paths = []
    for number in range(FILES):
        path = folder / f"inbound-{number:02}.jsonl"
        path.write_bytes(b"".join(bodies[number::FILES]))
        paths.append(path)
    return paths


def clean_dump(make_database: MakeDatabase, paths: list[Path]) -> str:
    with make_database() as database:
        with Wiring.from_settings(database.settings()) as wiring:
            wiring.run("inbound_messages", as_of=AS_OF, paths=[str(path) for path in paths])
        with database.connect("owner") as owner:
            return canonical_dump(owner)


class ServerLog:
    """What the server writes from now on about errors and deadlocks of one database."""

    def __init__(self, database: TestDatabase) -> None:
        self._database = database
        name = sql.Identifier(database.name)
        for setting, value in (("log_min_messages", "error"), ("log_lock_waits", "on")):
            database.server.execute(
                sql.SQL("alter database {} set {} = {}").format(
                    name, sql.Identifier(setting), sql.Literal(value)
                )
            )
        self._path = Path(self._scalar("show data_directory")) / "log"
        self._begin = self._path.stat().st_size

    def assert_no_deadlock(self) -> None:
        written = self._path.read_bytes()[self._begin :].decode(errors="replace")
        assert "deadlock" not in written.lower()
        # Retried ones too: sessions that have ended are all counted.
        counted = "select deadlocks from pg_stat_database where datname = current_database()"
        assert self._scalar(counted) == 0

    def _scalar(self, statement: str) -> Any:
        with self._database.connect("superuser") as connection:
            return connection.scalar(text(statement))


@contextmanager
def eight_loaders(
    database: TestDatabase, paths: list[Path], chance: random.Random
) -> Iterator[list[LoaderProcess]]:
    """Eight, each with an order of its own, that meet at their first file and go on at once."""
    with ExitStack() as stack, database.connect("owner") as gate:
        gate.execute(text("lock table pipeline.inbound_batches in exclusive mode"))
        loaders = []
        for _ in range(LOADERS):
            order = chance.sample(paths, len(paths))
            loader = LoaderProcess(database, order, AS_OF, chunk_units=CHUNK_UNITS)
            loaders.append(stack.enter_context(loader))
        waiting = (
            "select count(*) = :loaders from pg_locks "
            "where not granted and relation = 'pipeline.inbound_batches'::regclass"
        )
        _wait_until(gate, waiting, "the loaders did not begin", loaders=LOADERS)
        gate.rollback()
        yield loaders


def _wait_until(connection: Connection, condition: str, otherwise: str, **values: Any) -> None:
    deadline = time.monotonic() + LONGEST_WAIT_SECONDS
    while not connection.scalar(text(condition), values):
        assert time.monotonic() < deadline, otherwise
        time.sleep(0.01)


def assert_same_as_clean(
    make_database: MakeDatabase, database: TestDatabase, paths: list[Path]
) -> None:
    with database.connect("owner") as owner:
        assert_same_dump(canonical_dump(owner), clean_dump(make_database, paths))


@pytest.mark.long
def test_eight_loaders_of_the_same_files_end_as_one_clean_run(
    make_database: MakeDatabase, database: TestDatabase, tmp_path: Path
) -> None:
    chance = random.Random(8)  # noqa: S311 - orders of files
    paths = make_files(tmp_path, 2_000, chance)
    log = ServerLog(database)
    with eight_loaders(database, paths, chance) as loaders:
        reports = [loader.finish() for loader in loaders]
    print([(report.received, report.inserted) for report in reports])  # noqa: T201 - pytest -s
    assert sum(report.inserted > 0 for report in reports) > 1, "they did not work side by side"
    log.assert_no_deadlock()
    assert_same_as_clean(make_database, database, paths)


@pytest.mark.long
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("seed", range(3))
def test_loaders_killed_among_eight_leave_no_trace(
    make_database: MakeDatabase, database: TestDatabase, tmp_path: Path, seed: int
) -> None:
    chance = random.Random(seed)  # noqa: S311 - orders of files, moments of kills
    paths = make_files(tmp_path, 10_000, chance)
    log = ServerLog(database)
    with eight_loaders(database, paths, chance) as loaders:
        with (
            database.connect("owner") as owner,
            owner.execution_options(isolation_level="AUTOCOMMIT"),
        ):
            begun = "select count(*) >= 3 from pipeline.inbound_batches where lines_done > 0"
            _wait_until(owner, begun, "the loaders committed nothing")
        killed = chance.sample(loaders, 4)
        for loader in killed:
            time.sleep(chance.uniform(0, 0.4))
            assert loader.is_running, "it ended before it could be killed"
            loader.kill()
        for loader in loaders:
            if loader not in killed:
                loader.finish()
    # What only killed ones had begun is finished by the next.
    LoaderProcess(database, paths, AS_OF, chunk_units=CHUNK_UNITS).finish()
    log.assert_no_deadlock()
    assert_same_as_clean(make_database, database, paths)


PHONE, BSUID, BOTH = ("5511960000001", None), (None, "BR.1"), ("5511960000001", "BR.1")
SHORT_PHONE = ("551160000001", None)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (PHONE, PHONE),
        (PHONE, SHORT_PHONE),
        (PHONE, BOTH),
        (BOTH, PHONE),
        (BSUID, BSUID),
        (BSUID, BOTH),
        (BOTH, BSUID),
        (BOTH, BOTH),
    ],
)
def test_two_loaders_that_meet_a_new_client_at_once_make_one_user(
    database: TestDatabase,
    first: tuple[str | None, str | None],
    second: tuple[str | None, str | None],
) -> None:
    rules = MergeRules(as_of=AS_OF, idle=timedelta(hours=24), context_messages=20)
    with database.connect() as one, database.connect() as other, database.connect() as watching:
        drivers = [psycopg_connection(connection) for connection in (one, other)]
        for driver in drivers:
            create_temporary_tables(driver)

        def merge_second() -> None:
            with drivers[1].transaction(), drivers[1].cursor() as cursor:
                merge_chunk(cursor, _chunk_of(2, *second), rules, alone=False)

        thread = threading.Thread(target=merge_second)
        with drivers[0].transaction(), drivers[0].cursor() as cursor:
            merge_chunk(cursor, _chunk_of(1, *first), rules, alone=False)
            thread.start()
            blocked = "select cardinality(pg_blocking_pids(:pid)) > 0"
            _wait_until(watching, blocked, "it did not wait", pid=drivers[1].info.backend_pid)
        thread.join()
        users = watching.execute(
            text("select phone, (select count(*) from messages) from users")
        ).all()
        owners = watching.scalar(
            text("select count(distinct user_id) from pipeline.user_identities")
        )
    assert len(users) == owners == 1
    phone, messages = users[0]
    assert messages == 2
    assert phone.startswith("+") == any(known[0] for known in (first, second))


def _chunk_of(number: int, wa_id: str | None, bsuid: str | None) -> Chunk:
    chunk = Chunk(MessageIds(ID_KEY), "00000000000080008000000000000000", "exemplo.jsonl")
    sender = Sender(wa_id=wa_id or "", bsuid=bsuid or "")
    sent_us = (int(AS_OF.timestamp()) - 60 + number) * 1_000_000
    key = f"wamid:wamid.{number}"
    chunk.add(Message(key, Source.PROVIDER, sent_us, sender, "user", "texto", "client"), 1)
    return chunk.close(1, 1)
