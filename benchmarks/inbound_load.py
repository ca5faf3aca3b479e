"""Inbound load ÷ COPY of the rows it leaves: how near the loader comes to PostgreSQL itself.

One run generates the reference load W (arguments and SHA-256 below), loads it end to end into an
empty database (first byte read to last commit, fsync and synchronous_commit on, balance checked),
then copies every row the load left in ``public`` and ``pipeline``, in the order written, into an
equal empty database in one transaction. The ratio is COPY's time over the load's: at least 0.4,
and as far towards 0.6 as it goes. Run: ``.venv/bin/python benchmarks/inbound_load.py``; with
``--chatbot-pct 30`` the input is W30, the same messages with the chatbot's events between them.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql
from sqlalchemy import text

from gatte_pipelines.database import embedded, engine, migrate, roles
from gatte_pipelines.database.runs import run_recorded
from gatte_pipelines.inbound import merge
from gatte_pipelines.inbound.ids import MessageIds
from gatte_pipelines.inbound.load import CHUNK_UNITS, Loader
from gatte_pipelines.landing import LandingZone
from gatte_pipelines.run_report import RunReport
from gatte_pipelines.sandbox.traffic import TrafficPlan, write_traffic

TARGET = 0.4
# The reference load W of the issue.
W: dict[str, Any] = {
    "messages": 200_000,
    "users": 20_000,
    "seed": 7,
    "as_of": datetime(2026, 11, 22, 12, tzinfo=UTC),
    "concurrent_clients": 200,
    "redelivered_pct": 5.0,
    "late_pct": 2.0,
    "bad_pct": 0.5,
}
W_SHA256 = "2f711cd1aa62df684ae67d3ea262279348fa28bae63485aac5a95b1ed214c3bd"
W30 = W | {"chatbot_pct": 30.0}
W30_SHA256 = "a7e2be4152e6bd22dbcfef1d1cac334dc7e1528758955e78f132b5ac03a88db8"
REFERENCES = {TrafficPlan(**W): ("W", W_SHA256), TrafficPlan(**W30): ("W30", W30_SHA256)}
ID_KEY = b"benchmark-key-never-in-production"
BLOCK = 1 << 20


def load(
    server: embedded.EmbeddedServer, database: str, file: Path, as_of: datetime, chunk_units: int
) -> RunReport:
    """Load a file as the command does; the report carries the seconds."""
    role = engine.make_engine(server.url(roles.PIPELINE, database))
    with engine.connect(role) as connection, engine.connect(role) as side:
        loader = Loader(
            connection=connection,
            side=side,
            ids=MessageIds(ID_KEY),
            idle=timedelta(hours=24),
            context_messages=20,
            chunk_units=chunk_units,
        )
        zone = LandingZone(str(file.parent))
        return run_recorded(
            connection,
            pipeline="inbound_messages",
            as_of=as_of,
            body=lambda report: loader.load_paths(zone, [str(file)], report),
        )


def copy_out(connection: psycopg.Connection, folder: Path) -> list[tuple[str, str, Path, int]]:
    """Every non-empty table of public and pipeline as COPY text, rows in the order written."""
    tables = connection.execute(
        "select n.nspname, c.relname from pg_class as c join pg_namespace as n "
        "on n.oid = c.relnamespace where n.nspname in ('public', 'pipeline') "
        "and c.relkind = 'r' and c.relname not in ('alembic_version', 'staff') "
        "order by array_position(array['users', 'conversations', 'messages'], c.relname::text)"
    ).fetchall()
    written = []
    for schema, name in tables:
        path = folder / f"{schema}.{name}"
        rows = 0
        with path.open("wb") as out, connection.cursor() as cursor:
            query = sql.SQL("copy (select * from {} order by ctid) to stdout").format(
                sql.Identifier(schema, name)
            )
            with cursor.copy(query) as copy:
                for block in copy:
                    out.write(block)
            rows = cursor.rowcount
        if rows:
            written.append((schema, name, path, rows))
    return written


def copy_in(connection: psycopg.Connection, files: list[tuple[str, str, Path, int]]) -> float:
    """COPY all files in one transaction; seconds from first byte to commit."""
    started = time.perf_counter()
    with connection.transaction(), connection.cursor() as cursor:
        for schema, name, path, rows in files:
            statement = sql.SQL("copy {} from stdin").format(sql.Identifier(schema, name))
            with path.open("rb") as source, cursor.copy(statement) as copy:
                while block := source.read(BLOCK):
                    copy.write(block)
            if cursor.rowcount != rows:
                raise SystemExit(f"COPY of {schema}.{name} lost rows")
    return time.perf_counter() - started


def fresh(server: embedded.EmbeddedServer, name: str, template: str = embedded.DATABASE) -> None:
    """A database as a copy of the template: an empty migrated one, or a filled one."""
    engine_of_owner = engine.make_engine(server.url(embedded.SUPERUSER, "postgres"))
    with engine_of_owner.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        connection.execute(text(f"drop database if exists {name}"))
        # The default way writes the whole template to the log, which is much where it is full.
        strategy = "" if template == embedded.DATABASE else " strategy file_copy"
        connection.execute(text(f"create database {name} template {template}{strategy}"))
        connection.execute(text("checkpoint"))


def profile() -> dict[str, list[float]]:
    """Time every named statement of the merge; for finding what to make faster."""
    spent: dict[str, list[float]] = defaultdict(list)
    names = {body: name for name, body in merge._SQL.items()}  # a profiler looks in
    execute = psycopg.Cursor.execute

    def timed(self: Any, query: Any, *args: Any, **kwargs: Any) -> Any:
        started = time.perf_counter()
        try:
            return execute(self, query, *args, **kwargs)
        finally:
            spent[names.get(str(query), str(query)[:40])].append(time.perf_counter() - started)

    psycopg.Cursor.execute = timed  # type: ignore[method-assign]
    return spent


def main() -> int:
    """Run the benchmark and print its table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--messages", type=int, default=W["messages"])
    parser.add_argument("--users", type=int, default=W["users"])
    parser.add_argument("--chatbot-pct", type=float, default=0.0, help="30 is W30")
    parser.add_argument("--chunk-units", type=int, default=CHUNK_UNITS)
    parser.add_argument("--profile", action="store_true", help="time each statement of the merge")
    arguments = parser.parse_args()
    plan = TrafficPlan(
        **W
        | {
            "messages": arguments.messages,
            "users": arguments.users,
            "chatbot_pct": arguments.chatbot_pct,
        }
    )
    spent = profile() if arguments.profile else {}
    with tempfile.TemporaryDirectory(prefix="gb-") as folder_name:
        folder = Path(folder_name)
        file = folder / "w" / "w.jsonl"
        file.parent.mkdir()
        with file.open("wb") as out:
            counts = write_traffic(plan, out)
        print(
            f"input: {counts.lines:,} lines, {counts.updates:,} units, of them "
            f"{counts.chatbot_events:,} of the chatbot, sha256 {counts.sha256}"
        )
        name, digest = REFERENCES.get(plan, ("a load like W", counts.sha256))
        if counts.sha256 != digest:
            print(
                f"the input is not the reference load {name}: its SHA-256 differs", file=sys.stderr
            )
            return 1
        ratios = []
        with embedded.start(folder) as server:
            with engine.connect(engine.make_engine(server.url(embedded.SUPERUSER))) as owner:
                roles.create(owner)
                migrate.migrate(owner)
            for number in range(1, arguments.rounds + 1):
                fresh(server, "loaded")
                report = load(server, "loaded", file, plan.as_of, arguments.chunk_units)
                if report.received != counts.updates or not report.inserted:
                    print("the load lost units", file=sys.stderr)
                    return 1
                with psycopg.connect(
                    host=server.socket_folder, user=embedded.SUPERUSER, dbname="loaded"
                ) as connection:
                    files = copy_out(connection, folder)
                fresh(server, "copied")
                with psycopg.connect(
                    host=server.socket_folder,
                    user=embedded.SUPERUSER,
                    dbname="copied",
                    options=f"-c gatte.writer={engine.WRITER}",
                ) as connection:
                    seconds = copy_in(connection, files)
                ratios.append(seconds / report.seconds)
                rows = sum(count for _, _, _, count in files)
                print(
                    f"round {number}: load {report.seconds:.2f} s "
                    f"({plan.messages / report.seconds:,.0f} messages/s, "
                    f"{report.received / report.seconds:,.0f} units/s), "
                    f"COPY of {rows:,} rows {seconds:.2f} s, ratio {ratios[-1]:.3f}"
                )
    for statement, times in sorted(spent.items(), key=lambda item: -sum(item[1]))[:25]:
        print(f"  {sum(times):7.3f} s {len(times):5d} x  {statement}")
    median = statistics.median(ratios)
    print(f"inbound load ÷ COPY, {name}: ratio {median:.3f} (target at least {TARGET})")
    return 0 if median >= TARGET else 1


if __name__ == "__main__":
    raise SystemExit(main())
