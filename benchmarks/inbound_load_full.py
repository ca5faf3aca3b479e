"""Inbound load ÷ COPY with five million messages stored: full tables cost us no more than COPY.

The ratio of ``inbound_load`` (COPY's time over the load's, for the reference load W) is measured
into an empty database and into one that holds years of traffic, both COPYs of the same rows. The
ratio when full is at least 0.9 of the ratio when empty.

What is stored is made of one real load of all kinds of records, ten messages a user: its rows are
written many times over, each time under other ids, numbers and days, spread evenly over all index
pages. Run: ``.venv/bin/python benchmarks/inbound_load_full.py``; ``--stored`` makes
it smaller for trying. Needs about 30 GB of disk.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import psycopg
from inbound_load import W, copy_in, copy_out, fresh, load
from psycopg import sql

from gatte_pipelines.database import embedded, engine, migrate, roles
from gatte_pipelines.inbound.load import CHUNK_UNITS
from gatte_pipelines.sandbox.traffic import WHOLE_SHARES, TrafficPlan, write_traffic

TARGET = 0.9
STORED = 5_000_000
BASE_MESSAGES = 200_000
MESSAGES_PER_USER = 10
# The two digits of a number that tell the copies apart, see _COPIED_TEXT.
MAX_COPIES = 99
# Copies lie further and further back, within the retention of messages.
OLDEST_SHIFT_DAYS = 55
ID_STEP = 20_000_000
# What tells of runs and files, not of messages: COPY of the new rows would meet its own keys.
NOT_STORED = ("runs", "settings", "inbound_batches", "watermarks", "gates", "alembic_version")
# Rows without a key that a copy could change: the names of the staff are the same all the years.
STORED_ONCE = ("staff",)
# Numbers of the generator end in seven digits of which the first three are 0; user ids stay what
# they are and get longer; an id within the middle of a uuid keeps all of them evenly spread.
_COPIED_UUID = "overlay({column}::text placing to_hex({copy} + 256) from 5 for 3)::uuid"
_COPIED_TEXT = """case
    when {column} ~ '^[+]?55[0-9]{{10,11}}$'
    then overlay({column} placing lpad({copy}::text, 2, '0') from length({column}) - 6 for 2)
    when {column} ~ '^[A-Z][A-Z][.]' then {column} || {copy}::text
    when {column} ~ '^~[bx]' then overlay({column} placing chr(97 + {copy} / 26)
        || chr(97 + {copy} % 26) from 5 for 2)
    when {column} ~ '^[0-9a-f]{{32}}$'
    then overlay({column} placing to_hex({copy} + 256) from 5 for 3)
    else {column}
end"""
_COPIED_ID = "{column} + {copy}::bigint * {step}"
_COPIED_TIME = "{column} - make_interval(days => {days})"

COLUMNS = """
select
    a.attname,
    t.typname,
    a.attidentity <> '' or a.attname like '%%\\_id',
    exists (
        select from pg_index as i where i.indrelid = c.oid and a.attnum = any (i.indkey::int2 [])
    )
from pg_class as c
join pg_namespace as n on n.oid = c.relnamespace
join pg_attribute as a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
join pg_type as t on t.oid = a.atttypid
where n.nspname = %s and c.relname = %s and a.attgenerated = ''
order by a.attnum
"""


def copy_statement(
    connection: psycopg.Connection, schema: str, table: str, copy: int, days: int
) -> str:
    """The statement that writes all staged rows of a table once more, as the given copy."""
    columns = connection.execute(COLUMNS, (schema, table)).fetchall()
    values = []
    for name, kind, is_id, is_indexed in columns:
        form = f'"{name}"'
        if kind == "uuid":
            form = _COPIED_UUID.format(column=form, copy=copy)
        elif kind in {"text", "varchar"} and is_indexed:
            form = _COPIED_TEXT.format(column=form, copy=copy)
        elif kind in {"int4", "int8"} and is_id:
            form = _COPIED_ID.format(column=form, copy=copy, step=ID_STEP)
        elif kind == "timestamptz":
            form = _COPIED_TIME.format(column=form, days=days)
        values.append(form)
    names = ", ".join(f'"{name}"' for name, _, _, _ in columns)
    return (
        f'insert into {schema}."{table}" ({names}) overriding system value '  # noqa: S608 - catalog
        f'select {", ".join(values)} from stage."{schema}.{table}"'
    )


def fill(
    connection: psycopg.Connection, files: list[tuple[str, str, Path, int]], copies: int
) -> int:
    """Write a load's rows many times into the tables of a database.

    Args:
        connection: Of the superuser, in autocommit; triggers and foreign keys do not run.
        files: Tables with their rows as COPY text.
        copies: How often.

    Returns:
        The messages that are now stored.
    """
    connection.execute("set session_replication_role = replica")
    connection.execute("set synchronous_commit = off")
    connection.execute("create schema stage")
    stored = [(schema, name, path) for schema, name, path, _ in files if name not in NOT_STORED]
    for schema, name, path in stored:
        staged = sql.Identifier("stage", f"{schema}.{name}")
        connection.execute(
            sql.SQL("create unlogged table {} (like {})").format(
                staged, sql.Identifier(schema, name)
            )
        )
        statement = sql.SQL("copy {} from stdin").format(staged)
        with path.open("rb") as source, connection.cursor().copy(statement) as copy:
            while block := source.read(1 << 20):
                copy.write(block)
    # The oldest first, as they would have come.
    for number in range(copies, 0, -1):
        started = time.perf_counter()
        with connection.transaction():
            for schema, name, _ in stored:
                if name in STORED_ONCE and number < copies:
                    continue
                connection.execute(
                    copy_statement(  # type: ignore[arg-type]  # text of this file and the catalog
                        connection, schema, name, number, OLDEST_SHIFT_DAYS * number // copies
                    ).encode()
                )
        print(f"  copy {number}: {time.perf_counter() - started:.1f} s", flush=True)
    connection.execute("drop schema stage cascade")
    connection.execute("vacuum analyze")
    row = connection.execute("select count(*) from messages").fetchone()
    return int(row[0]) if row else 0


def main() -> int:
    """Run the benchmark and print its table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--stored", type=int, default=STORED, help="messages stored before")
    parser.add_argument("--messages", type=int, default=W["messages"], help="messages loaded")
    parser.add_argument("--users", type=int, default=W["users"])
    parser.add_argument("--chunk-units", type=int, default=CHUNK_UNITS)
    arguments = parser.parse_args()
    plan = replace(TrafficPlan(**W), messages=arguments.messages, users=arguments.users)
    base = min(BASE_MESSAGES, max(1_000, arguments.stored // 25))
    # Numbers of other countries have no free digits.
    base_plan = replace(
        TrafficPlan(**(W | WHOLE_SHARES)),
        messages=base,
        users=base // MESSAGES_PER_USER,
        seed=plan.seed + 1,
        foreign_pct=0.0,
    )
    copies = -(-arguments.stored // base)
    if copies > MAX_COPIES:
        parser.error(f"--stored may be at most {MAX_COPIES * BASE_MESSAGES}")
    with tempfile.TemporaryDirectory(prefix="gb-") as folder_name:
        folder = Path(folder_name)
        file, base_file = folder / "w" / "w.jsonl", folder / "base" / "base.jsonl"
        for path, each in ((file, plan), (base_file, base_plan)):
            path.parent.mkdir()
            with path.open("wb") as out:
                write_traffic(each, out)
        with embedded.start(folder) as server:
            with engine.connect(engine.make_engine(server.url(embedded.SUPERUSER))) as owner:
                roles.create(owner)
                migrate.migrate(owner)

            def connect(database: str) -> psycopg.Connection:
                return psycopg.connect(
                    host=server.socket_folder,
                    user=embedded.SUPERUSER,
                    dbname=database,
                    options=f"-c gatte.writer={engine.WRITER}",
                    autocommit=True,
                )

            fresh(server, "base")
            report = load(server, "base", base_file, base_plan.as_of, arguments.chunk_units)
            print(f"base: {report.received:,} units loaded in {report.seconds:.1f} s", flush=True)
            (folder / "rows").mkdir()
            with connect("base") as connection:
                files = copy_out(connection, folder / "rows")
            fresh(server, "stored")
            with connect("stored") as connection:
                stored = fill(connection, files, copies)
                size = connection.execute(
                    "select pg_size_pretty(pg_database_size(current_database()))"
                ).fetchone()
            print(f"stored: {stored:,} messages, {size[0] if size else '?'}", flush=True)
            ratios: dict[str, list[float]] = {"empty": [], "full": []}
            for number in range(1, arguments.rounds + 1):
                for state, template in (("empty", embedded.DATABASE), ("full", "stored")):
                    fresh(server, "loaded", template)
                    report = load(server, "loaded", file, plan.as_of, arguments.chunk_units)
                    if state == "empty":
                        with connect("loaded") as connection:
                            files = copy_out(connection, folder / "rows")
                    fresh(server, "copied", template)
                    with connect("copied") as connection:
                        seconds = copy_in(connection, files)
                    ratios[state].append(seconds / report.seconds)
                    print(
                        f"round {number}, {state}: load {report.seconds:.2f} s "
                        f"({plan.messages / report.seconds:,.0f} messages/s), "
                        f"COPY {seconds:.2f} s, ratio {ratios[state][-1]:.3f}",
                        flush=True,
                    )
                    if not report.inserted:
                        print("the load inserted nothing", file=sys.stderr)
                        return 1
    empty, full = (statistics.median(ratios[state]) for state in ("empty", "full"))
    print(
        f"inbound load ÷ COPY with {stored:,} messages stored: ratio {full:.3f}, when empty "
        f"{empty:.3f}: {full / empty:.3f} of it (target at least {TARGET})"
    )
    return 0 if full / empty >= TARGET else 1


if __name__ == "__main__":
    raise SystemExit(main())
