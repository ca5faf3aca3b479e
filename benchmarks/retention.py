"""Retention ÷ one bare UPDATE of the same rows, and what a run costs that finds nothing.

One run fills a database with 2 million messages, 500,000 of them past their time, copies it and
clears them twice: by ``gatte lgpd retention --execute`` and by one UPDATE of the same rows. The
ratio is at most 2.0, the longest step at most 1 s, the peak memory of the process at most 200 MB.
Then 5 million messages and 18,000 payloads of buttons, none of them due: at most 100 ms of database
time for an executed run.
Run: ``.venv/bin/python benchmarks/retention.py``.
"""

from __future__ import annotations

import argparse
import re
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
from sqlalchemy import text

from gatte_pipelines.database import embedded, engine, migrate, roles
from gatte_pipelines.settings import Settings
from gatte_pipelines.wiring import Wiring

MAX_RATIO, MAX_STEP_SECONDS, MAX_MEMORY_MB, MAX_NOTHING_MS = 2.0, 1.0, 200, 100
NOW = datetime.now(UTC)
MESSAGES_A_USER = 20
# What stands in 5 million messages of 90 days where three in a thousand are presses of a button.
PAYLOADS = 18_000

_FILL = """
insert into users (id, phone, name, is_client, created_at, updated_at)
select
    gen_random_uuid(), '+55119' || lpad(n::text, 8, '0'), 'Cliente ' || n, false,
    now() - interval '200 days', now()
from generate_series(1, %(users)s) as n;

insert into pipeline.user_activity (user_id, last_at)
select id, now() - random() * interval '80 days' from users;

insert into conversations (id, user_id, status, mode, started_at, closed_at, total_messages)
select
    gen_random_uuid(), u.id, 'closed', 'ai_free',
    now() - interval '1 day' * case
        when row_number() over () <= %(due_users)s then 95 + random() * 60 else random() * 80
    end,
    now(), %(each)s
from users as u;

insert into messages (
    id, conversation_id, role, content, tokens_used, is_in_context, intent_detected, created_at
)
select
    gen_random_uuid(), c.id, case when n %% 2 = 0 then 'user' else 'assistant' end::message_role,
    repeat('Bom dia, preciso renovar o certificado. ', 3) || n, n, false, 'renewal',
    c.started_at + n * interval '1 minute'
from conversations as c cross join generate_series(1, %(each)s) as n;

insert into pipeline.message_facts (message_id, author, mode)
select id, case when role = 'user' then 'client' else 'bot' end, 'ai_free' from messages;

insert into pipeline.button_replies (message_id, payload, pressed_at)
select id, 'renew', created_at from messages
where created_at > now() - interval '81 days' and role = 'user' limit %(payloads)s;
"""


def fill(
    server: embedded.EmbeddedServer, database: str, messages: int, due: int, payloads: int = 0
) -> None:
    """A migrated database with so many messages, of which so many are past 90 days.

    The payloads of buttons are all of messages that are not.
    """
    admin = engine.make_engine(server.url(embedded.SUPERUSER, "postgres"))
    with admin.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        connection.execute(text(f"create database {database} template {embedded.DATABASE}"))
    with psycopg.connect(
        host=server.socket_folder, user=embedded.SUPERUSER, dbname=database
    ) as connection:
        connection.execute("set gatte.writer = 'gatte_pipelines'")
        parameters = {
            "users": messages // MESSAGES_A_USER,
            "due_users": due // MESSAGES_A_USER,
            "each": MESSAGES_A_USER,
            "payloads": payloads,
        }
        for statement in _FILL.split(";\n"):
            if statement.strip():
                connection.execute(statement, parameters)  # type: ignore[arg-type]
        connection.commit()
        connection.autocommit = True
        connection.execute("vacuum (analyze)")
        connection.execute("checkpoint")


def copy(server: embedded.EmbeddedServer, template: str, database: str) -> None:
    """The same database once more."""
    admin = engine.make_engine(server.url(embedded.SUPERUSER, "postgres"))
    with admin.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        connection.execute(
            text(f"create database {database} template {template} strategy file_copy")
        )
        connection.execute(text("checkpoint"))


def settings(server: embedded.EmbeddedServer, database: str, home: Path) -> Settings:
    """Settings of a run over one database."""

    def url(role: str) -> str:
        return server.url(role, database).render_as_string(hide_password=False)

    return Settings(
        home=home,
        id_key=b"benchmark-key-never-in-production",
        database_url=url(roles.PIPELINE),
        migration_database_url=url(embedded.SUPERUSER),
        config=Path(__file__).resolve().parents[1] / "config",
    )


@contextmanager
def database_time() -> Iterator[list[float]]:
    """Seconds spent in statements, as the client sees them."""
    spent: list[float] = []
    execute = psycopg.Cursor.execute

    def timed(self: Any, *arguments: Any, **options: Any) -> Any:
        started = time.perf_counter()
        try:
            return execute(self, *arguments, **options)
        finally:
            spent.append(time.perf_counter() - started)

    psycopg.Cursor.execute = timed  # type: ignore[method-assign]
    try:
        yield spent
    finally:
        psycopg.Cursor.execute = execute  # type: ignore[method-assign]


def retain(of: Settings) -> tuple[float, float, int]:
    """Seconds of a run without its vacuum, of its longest step, and the rows it cleared."""
    with Wiring(of) as wiring:
        wiring.vacuum = lambda _tables: None  # type: ignore[method-assign]
        started = time.perf_counter()
        report = wiring.run("lgpd_retention", as_of=NOW, execute=True)
        seconds = time.perf_counter() - started
        if report.outcome.value == "needs_approval":
            plan = re.search(r"plano ([0-9a-f-]{36})", " ".join(report.notes))
            if plan is None:
                raise SystemExit("the run names no plan")
            started = time.perf_counter()
            report = wiring.run("lgpd_retention", as_of=NOW, approve=plan[1])
            seconds = time.perf_counter() - started
    longest = re.search(r"mais longa levou ([\d,]+) s", " ".join(report.notes))
    return seconds, float(longest[1].replace(",", ".")) if longest else 0.0, report.updated


def update_bare(server: embedded.EmbeddedServer, database: str) -> tuple[float, int]:
    """Seconds of one UPDATE of the same rows, committed, and how many."""
    with psycopg.connect(
        host=server.socket_folder, user=embedded.SUPERUSER, dbname=database
    ) as connection:
        started = time.perf_counter()
        cursor = connection.execute(
            "update messages set content = '', is_in_context = false "
            "where content <> '' and created_at < %s - interval '90 days'",
            [NOW],
        )
        connection.commit()
        return time.perf_counter() - started, cursor.rowcount


def check(said: str, *, is_met: bool, tell: Callable[[str], None] = print) -> bool:
    """Print a figure beside its target."""
    tell(f"{said}: {'met' if is_met else 'MISSED'}")
    return is_met


def main() -> int:
    """Run the benchmark and print its figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--messages", type=int, default=2_000_000)
    parser.add_argument("--due", type=int, default=500_000)
    parser.add_argument("--stored", type=int, default=5_000_000)
    arguments = parser.parse_args()
    ratios: list[float] = []
    longest = 0.0
    with tempfile.TemporaryDirectory(prefix="gr-") as name, embedded.start(Path(name)) as server:
        folder = Path(name)
        with engine.connect(engine.make_engine(server.url(embedded.SUPERUSER))) as owner:
            roles.create(owner)
            migrate.migrate(owner)
        fill(server, "filled", arguments.messages, arguments.due)
        for number in range(1, arguments.rounds + 1):
            copy(server, "filled", f"bare{number}")
            bare, rows = update_bare(server, f"bare{number}")
            copy(server, "filled", f"retained{number}")
            seconds, step, done = retain(
                settings(server, f"retained{number}", folder / f"home{number}")
            )
            if done != rows:
                raise SystemExit(f"retention cleared {done} rows, the UPDATE {rows}")
            ratios.append(seconds / bare)
            longest = max(longest, step)
            print(
                f"round {number}: retention of {done:,} rows {seconds:.2f} s (longest step "
                f"{step:.2f} s), one UPDATE {bare:.2f} s, ratio {ratios[-1]:.2f}"
            )
            admin = engine.make_engine(server.url(embedded.SUPERUSER, "postgres"))
            with admin.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
                for used in (f"bare{number}", f"retained{number}"):
                    connection.execute(text(f"drop database {used}"))
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        fill(server, "young", arguments.stored, 0, PAYLOADS)
        of = settings(server, "young", folder / "young")
        retain(of)  # the first run also writes the policy into the ledger
        with database_time() as spent:
            retain(of)
        nothing = sum(spent) * 1000
    ratio = sorted(ratios)[len(ratios) // 2]
    return int(
        not all(
            [
                check(
                    f"retention ÷ one UPDATE: {ratio:.2f} (at most {MAX_RATIO})",
                    is_met=ratio <= MAX_RATIO,
                ),
                check(
                    f"longest step: {longest:.2f} s (at most {MAX_STEP_SECONDS})",
                    is_met=longest <= MAX_STEP_SECONDS,
                ),
                check(
                    f"peak memory: {memory:.0f} MB (at most {MAX_MEMORY_MB})",
                    is_met=memory <= MAX_MEMORY_MB,
                ),
                check(
                    f"nothing due among {arguments.stored:,} messages and {PAYLOADS:,} payloads of "
                    f"buttons: {nothing:.0f} ms in "
                    f"{len(spent)} statements (at most {MAX_NOTHING_MS})",
                    is_met=nothing <= MAX_NOTHING_MS,
                ),
            ]
        )
    )


if __name__ == "__main__":
    raise SystemExit(main())
