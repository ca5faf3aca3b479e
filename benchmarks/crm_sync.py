"""What keeping 10,000 leads in step with Pipedrive costs: calls, tokens, local work and memory.

The stand-in for Pipedrive and PostgreSQL run beside; each run of the sync is a process of its own,
which tells its calls, the time outside of them, and the most memory it held. Targets: 3 calls where
nothing changed; at most 4 more for a bare new lead, 7 with e-mail and company; 50 changed leads
among 10,000 in at most 2 s of local work, and with as many calls and as much memory as among 1,000.
The median of the rounds counts. Run: ``.venv/bin/python benchmarks/crm_sync.py``.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import psycopg
from inbound_memory import peak_mb

from gatte_pipelines import http
from gatte_pipelines.crm.client import PipedriveClient
from gatte_pipelines.crm.policy_file import read_crm_policy
from gatte_pipelines.crm.sync import PIPELINE, CrmSync
from gatte_pipelines.crm.tokens import load_ledger
from gatte_pipelines.database import embedded, engine, migrate, roles
from gatte_pipelines.database.runs import run_recorded
from gatte_pipelines.sandbox.pipedrive import Kind, PipedriveStandIn
from gatte_pipelines.sandbox.pipedrive_rows import Source

IDLE_CALLS, BARE_CALLS, FULL_CALLS = 3, 4, 7
MAX_LOCAL_SECONDS, MAX_MEMORY_RATIO = 2.0, 1.2
LINKS, FEWER_LINKS, CHANGED = 10_000, 1_000, 50
CONFIG = Path(__file__).resolve().parents[1] / "config"
START = datetime(2026, 3, 2, 15, 0, tzinfo=UTC)
# Everybody's organization has so many leads.
_PER_COMPANY = 10

_INSERT_LEAD = """
insert into leads (id, name, phone, email, company, stage, source, crm_id, created_at)
values (%s, %s, %s, %s, %s, 'new', 'site', %s, %s)
"""
_INSERT_LINK = """
insert into pipeline.crm_links (
    lead_id, state, remote_lead_id, person_id, organization_id, phone_key, agreed_name,
    agreed_phone, agreed_company, agreed_stage, agreed_at, made_at, changed_at
)
select
    l.id, 'linked', l.crm_id::uuid, %s, %s, substr(l.phone, 2), l.name,
    l.phone, l.company, 'new', l.created_at, l.created_at, l.created_at
from leads as l
where l.id = %s
"""


@dataclass
class Desk:
    """Both sides, with one clock.

    Attributes:
        leads: Our id and the ids there of lead and person.
    """

    server: embedded.EmbeddedServer
    database: str
    crm: PipedriveStandIn
    now: datetime
    leads: list[tuple[UUID, str, int]]

    def connect(self) -> psycopg.Connection:
        """A connection of the superuser outside a transaction."""
        return psycopg.connect(
            host=self.server.socket_folder,
            user=embedded.SUPERUSER,
            dbname=self.database,
            autocommit=True,
        )

    def fill(self, links: int) -> None:
        """So many leads that both sides agree on since a month."""
        account, now = self.crm.account, self.now
        self.now = now - timedelta(days=30)
        account.tell = lambda _: None
        leads, ids = [], []
        for number in range(links):
            lead_id, name, phone = uuid4(), f"Cliente {number}", f"+551190{number:07}"
            if number % _PER_COMPANY == 0:
                company = f"Firma {number}"
                firm = account.create(Kind.ORGANIZATION, {"name": company}, Source.API)["id"]
            phones = [{"value": phone, "primary": True, "label": "mobile"}]
            values: dict[str, Any] = {"name": name, "phones": phones, "org_id": firm}
            person = account.create(Kind.PERSON, values, Source.API)["id"]
            values = {"title": name, "person_id": person, "organization_id": firm}
            values |= {"origin_id": str(lead_id)}
            there = account.create(Kind.LEAD, values, Source.API)["id"]
            leads.append((lead_id, name, phone, None, company, there, self.now))
            ids.append((person, firm, lead_id))
            self.leads.append((lead_id, there, person))
        with self.connect() as connection, connection.transaction():
            cursor = connection.cursor()
            cursor.executemany(_INSERT_LEAD, leads)
            cursor.executemany(_INSERT_LINK, ids)
        with self.connect() as connection:
            connection.execute("vacuum (analyze)")
        self.now = now

    def change_there(self, number: int) -> None:
        """Salespeople change some leads: half of them in the person."""
        step = len(self.leads) // CHANGED
        for position, (_, there, person) in enumerate(self.leads[::step][:CHANGED]):
            if position % 2:
                self.crm.edit_person(person, name=f"Outro nome {number}")
            else:
                self.crm.label_lead(there, ("Hot", "Warm")[number % 2])

    def add_lead(self, phone: str, email: str | None = None, company: str | None = None) -> None:
        """A new lead of ours."""
        row = (uuid4(), "Ana Souza", phone, email, company, None, self.now)
        with self.connect() as connection:
            connection.execute(_INSERT_LEAD, row)

    def sync(self, after: timedelta = timedelta(hours=1)) -> dict[str, Any]:
        """One run in a process of its own; what it told."""
        self.now += after
        before = len(self.crm.exchanges)
        child = subprocess.run(
            [
                *(sys.executable, __file__, "--child", self.server.socket_folder, self.database),
                *(self.crm.url, self.crm.token, self.now.isoformat()),
            ],
            check=True,
            stdout=subprocess.PIPE,
            text=True,
        )
        told: dict[str, Any] = json.loads(child.stdout.splitlines()[-1])
        sent = self.crm.exchanges[before:]
        return told | {"calls": len(sent), "tokens": sum(one.cost for one in sent)}


def sync_here(socket_folder: str, database: str, url: str, token: str, now: datetime) -> None:
    """Run the sync once in this process and print what it took as JSON."""
    waited = 0.0
    send = http.RetryingTransport._send

    def timed(self: Any, *arguments: Any) -> Any:
        nonlocal waited
        started = time.perf_counter()
        try:
            return send(self, *arguments)
        finally:
            waited += time.perf_counter() - started

    http.RetryingTransport._send = timed  # type: ignore[method-assign]
    server = embedded.EmbeddedServer(socket_folder)
    policy = read_crm_policy(CONFIG / "crm_fields.yaml", CONFIG / "crm_stages.yaml")
    with engine.connect(engine.make_engine(server.url(roles.PIPELINE, database))) as connection:
        driver = engine.psycopg_connection(connection)
        with driver.transaction(), driver.cursor() as cursor:
            ledger = load_ledger(cursor, now=lambda: now)
        connection.commit()
        with PipedriveClient(url, token, ledger=ledger, sleep=lambda _: None) as client:
            operation = CrmSync(
                connection, client=client, policy=policy, webhooks=None, imports=False, now=now
            )
            started = time.perf_counter()
            report = run_recorded(
                connection, pipeline=PIPELINE, as_of=now, body=operation.sync, lock=PIPELINE
            )
            seconds = time.perf_counter() - started
    print(
        json.dumps(
            {
                "local": seconds - waited,
                "peak_mb": peak_mb(),
                "updated": report.updated,
                "inserted": report.inserted,
            }
        )
    )


def measure(server: embedded.EmbeddedServer, links: int, rounds: int) -> dict[str, Any]:
    """The figures for so many links."""
    database = f"links_{links}"
    with psycopg.connect(
        host=server.socket_folder, user=embedded.SUPERUSER, dbname="postgres", autocommit=True
    ) as connection:
        connection.execute(f"create database {database} template {embedded.DATABASE}")  # type: ignore[arg-type]
    # The clock is the desk's, which is made with the stand-in.
    desks: list[Desk] = []
    with PipedriveStandIn(
        now=lambda: desks[0].now if desks else START, daily_budget=1_000_000
    ) as crm:
        desk = Desk(server, database, crm, START, [])
        desks.append(desk)
        desk.fill(links)
        desk.sync()  # reads the account, and learns the budget
        days, changes = [], []
        for number in range(1, rounds + 1):
            days.append(desk.sync(timedelta(days=1)))
            desk.change_there(number)
            changes.append(desk.sync(timedelta(minutes=15)))
            if changes[-1]["updated"] != CHANGED:
                raise SystemExit(f"{changes[-1]['updated']} of {CHANGED} changes came")
        idle = desk.sync(timedelta(hours=2))
        desk.add_lead("+5511960000001")
        bare = desk.sync()
        desk.add_lead("+5511960000002", "ana@example.com", "Padaria Sol")
        full = desk.sync()
        if (bare["inserted"], full["inserted"]) != (1, 1):
            raise SystemExit("a new lead was not made")
    runs = {"idle": idle, "bare": bare, "full": full, "day": days[0], "changed": changes[0]}
    return {
        **{name: (run["calls"], run["tokens"]) for name, run in runs.items()},
        "local": statistics.median(run["local"] for run in changes),
        "local_of_day": statistics.median(run["local"] for run in days),
        "peak_mb": statistics.median(run["peak_mb"] for run in changes),
        "peak_mb_of_day": statistics.median(run["peak_mb"] for run in days),
    }


def main() -> int:
    """Measure, print, and say by the exit code whether the targets were met."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--links", type=int, default=LINKS)
    parser.add_argument(
        "--child", nargs=5, metavar=("SOCKET_FOLDER", "DATABASE", "URL", "TOKEN", "NOW")
    )
    given = parser.parse_args()
    if given.child:
        *where, now = given.child
        sync_here(*where, now=datetime.fromisoformat(now))
        return 0
    with (
        tempfile.TemporaryDirectory(prefix="gb-") as folder,
        embedded.start(Path(folder)) as server,
    ):
        with engine.connect(engine.make_engine(server.url(embedded.SUPERUSER))) as connection:
            roles.create(connection)
            migrate.migrate(connection)
        few = measure(server, FEWER_LINKS, given.rounds)
        many = measure(server, given.links, given.rounds)
    for links, found in ((FEWER_LINKS, few), (given.links, many)):
        calls = "; ".join(
            f"{name} {found[key][0]} calls, {found[key][1]:,} tokens"
            for name, key in (
                ("nothing changed", "idle"),
                ("a bare new lead", "bare"),
                ("with e-mail and company", "full"),
                (f"{CHANGED} changed there", "changed"),
                ("the daily reconcile and the account", "day"),
            )
        )
        print(f"{links:,} links: {calls}")
        print(
            f"{links:,} links: local work with {CHANGED} changed {found['local']:.2f} s, "
            f"{found['peak_mb']:.1f} MB; of a daily reconcile {found['local_of_day']:.2f} s, "
            f"{found['peak_mb_of_day']:.1f} MB"
        )
    figures = (
        ("calls, nothing changed", many["idle"][0], IDLE_CALLS),
        ("calls of a bare new lead beside those", many["bare"][0] - many["idle"][0], BARE_CALLS),
        ("the same with e-mail and company", many["full"][0] - many["idle"][0], FULL_CALLS),
        (f"calls, {CHANGED} changed ÷ the same with fewer links", ratio(many, few, 0), 1.0),
        (f"local seconds, {CHANGED} of {given.links:,} changed", many["local"], MAX_LOCAL_SECONDS),
        ("local seconds of a daily reconcile", many["local_of_day"], MAX_LOCAL_SECONDS),
        (
            "peak memory ÷ that with fewer links",
            many["peak_mb"] / few["peak_mb"],
            MAX_MEMORY_RATIO,
        ),
        (
            "the same of a daily reconcile",
            many["peak_mb_of_day"] / few["peak_mb_of_day"],
            MAX_MEMORY_RATIO,
        ),
    )
    for what, value, most in figures:
        print(f"{what}: {value:.2f} (at most {most}): {'met' if value <= most else 'MISSED'}")
    return int(any(value > most for _, value, most in figures))


def ratio(many: dict[str, Any], few: dict[str, Any], position: int) -> float:
    """Calls or tokens of the runs with some changed, of many links ÷ of few."""
    return float(many["changed"][position] / few["changed"][position])


if __name__ == "__main__":
    raise SystemExit(main())
