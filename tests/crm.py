"""A database and the stand-in for Pipedrive side by side, with one clock: for tests of the sync."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from psycopg import sql
from psycopg.rows import dict_row

from gatte_pipelines.crm.budget import TokenLedger
from gatte_pipelines.crm.client import PipedriveClient
from gatte_pipelines.crm.exchange import Direction
from gatte_pipelines.crm.policy import CrmPolicy
from gatte_pipelines.crm.policy_file import read_crm_policy
from gatte_pipelines.crm.sync import PIPELINE, CrmSync
from gatte_pipelines.crm.tokens import load_ledger
from gatte_pipelines.database.engine import psycopg_connection
from gatte_pipelines.database.runs import run_recorded
from gatte_pipelines.http import RetryPolicy
from gatte_pipelines.landing import LandingZone
from gatte_pipelines.run_report import RunReport
from gatte_pipelines.sandbox.pipedrive import PipedriveStandIn
from tests.postgres import TestDatabase

CONFIG = Path(__file__).parent.parent / "config"
# Past and whole: nothing of a test depends on the time of day.
START = datetime(2026, 3, 2, 15, 0, tzinfo=UTC)
_NO_REPEATS = RetryPolicy(max_attempts=2, max_total_seconds=5.0, base_delay_seconds=0.01)


class Clock:
    """The present of both sides; it moves when a test says so, and a second with every look."""

    def __init__(self, at: datetime = START) -> None:
        self.at = at

    def __call__(self) -> datetime:
        return self.at

    def pass_by(self, **time: float) -> None:
        """Let time go by."""
        self.at += timedelta(**time)


class CrmDesk:
    """Both sides, as a test moves them.

    Attributes:
        crm: The stand-in.
        clock: Of both.
        database: The test's own.
        imports: Whether leads born there are taken in.
        reports: Of all runs so far.
        repeats: How often the client repeats a call.
        timeout_seconds: Of a call.
    """

    def __init__(
        self, database: TestDatabase, crm: PipedriveStandIn, clock: Clock, zone: LandingZone | None
    ) -> None:
        self.database, self.crm, self.clock, self.zone = database, crm, clock, zone
        self.imports = False
        self.policy: CrmPolicy = read_crm_policy(
            CONFIG / "crm_fields.yaml", CONFIG / "crm_stages.yaml"
        )
        self.reports: list[RunReport] = []
        self.repeats, self.timeout_seconds = _NO_REPEATS, 2.0
        self._numbers = iter(range(1, 10_000))

    # --- our side

    def add_lead(self, **values: Any) -> UUID:
        """Insert a lead as the chatbot does; a number of its own unless one is given."""
        number = next(self._numbers)
        row = {
            "id": uuid4(),
            "name": f"Cliente {number}",
            "phone": f"+55119{number:08}",
            "email": None,
            "company": None,
            "interest": "LC Web Profissional",
            "stage": "new",
            "source": "whatsapp_bot",
            "notes": None,
            "crm_id": None,
            "user_id": None,
            "created_at": self.clock(),
            **values,
        }
        statement = sql.SQL("insert into leads ({}) values ({})").format(
            sql.SQL(", ").join(map(sql.Identifier, row)),
            sql.SQL(", ").join(map(sql.Placeholder, row)),
        )
        self.execute(statement, row)
        return UUID(str(row["id"]))

    def edit_lead(self, lead_id: UUID, **values: Any) -> None:
        """Change a lead as somebody here would."""
        changes = [
            sql.SQL("{} = {}").format(sql.Identifier(name), sql.Placeholder(name))
            for name in values
        ]
        statement = sql.SQL("update leads set {} where id = %(id)s").format(
            sql.SQL(", ").join(changes)
        )
        self.execute(statement, {**values, "id": lead_id})

    def lead(self, lead_id: UUID) -> dict[str, Any]:
        """A lead as it stands here."""
        (row,) = self.rows("select * from leads where id = %(id)s", {"id": lead_id})
        return row

    def link(self, lead_id: UUID) -> dict[str, Any]:
        """A lead's link."""
        statement = "select * from pipeline.crm_links where lead_id = %(id)s"
        (row,) = self.rows(statement, {"id": lead_id})
        return row

    @property
    def conflicts(self) -> list[dict[str, Any]]:
        """All conflicts, the earliest first."""
        return self.rows("select * from pipeline.sync_conflicts order by found_at, field")

    def rows(self, statement: Any, values: dict[str, Any] | None = None) -> list[dict[str, Any]]:
        """What a statement of the owner gives."""
        with self.database.connect("owner") as connection:
            driver = psycopg_connection(connection)
            with driver.cursor(row_factory=dict_row) as cursor:
                return cursor.execute(statement, values or {}).fetchall()

    def execute(self, statement: Any, values: dict[str, Any] | None = None) -> None:
        """Run a statement of the owner."""
        with self.database.connect("owner") as connection:
            driver = psycopg_connection(connection)
            with driver.transaction():
                driver.execute(statement, values or {})

    # --- their side

    def remote_lead(self, lead_id: UUID) -> dict[str, Any]:
        """The lead there that a lead of ours is linked with."""
        wanted = str(self.link(lead_id)["remote_lead_id"])
        (row,) = [row for row in self.crm.leads if row["id"] == wanted]
        return row

    def person(self, lead_id: UUID) -> dict[str, Any]:
        """The person there that a lead of ours is linked with."""
        wanted = self.link(lead_id)["person_id"]
        (row,) = [row for row in self.crm.persons if row["id"] == wanted]
        return row

    # --- the sync

    def sync(
        self,
        *,
        direction: Direction = Direction.BOTH,
        since: datetime | None = None,
        dry_run: bool = False,
        approve: UUID | None = None,
        documents: dict[str, Any] | None = None,
        token: str | None = None,
        after_minutes: float = 15,
    ) -> RunReport:
        """One run, as the operation makes it, some minutes after the last."""
        self.clock.pass_by(minutes=after_minutes)
        with self.database.connect("gatte_pipeline") as connection:
            driver = psycopg_connection(connection)
            with driver.transaction(), driver.cursor() as cursor:
                ledger = load_ledger(cursor, now=self.clock)
            connection.commit()
            with self.client(ledger, token=token) as client:
                operation = CrmSync(
                    connection,
                    client=client,
                    policy=self.policy,
                    webhooks=self.zone,
                    imports=self.imports,
                    now=self.clock(),
                )
                report = run_recorded(
                    connection,
                    pipeline=PIPELINE,
                    as_of=self.clock(),
                    body=lambda report: operation.sync(
                        report,
                        direction=direction,
                        since=since,
                        dry_run=dry_run,
                        approve=approve,
                        documents=documents,
                    ),
                    lock=PIPELINE,
                )
        self.reports.append(report)
        return report

    def client(
        self, ledger: TokenLedger | None = None, token: str | None = None
    ) -> PipedriveClient:
        """A client of the stand-in that never waits."""
        return PipedriveClient(
            self.crm.url,
            token or self.crm.token,
            ledger=ledger or TokenLedger(now=self.clock),
            sleep=lambda _: None,
            timeout_seconds=self.timeout_seconds,
            repeats=self.repeats,
        )

    def calls(self) -> list[str]:
        """Method and endpoint of every request since the last `crm.forget_exchanges()`."""
        return [f"{one.method} {one.template}" for one in self.crm.exchanges]


@contextmanager
def open_desk(database: TestDatabase, landing: Path | None = None) -> Iterator[CrmDesk]:
    """Both sides of a test.

    Args:
        database: Of the test.
        landing: Where webhooks arrive; None for no webhooks.
    """
    clock = Clock()
    zone = None
    if landing is not None:
        zone = LandingZone(str(landing))
        zone.create()
    with PipedriveStandIn(landing, now=clock) as crm:
        yield CrmDesk(database, crm, clock, zone)
