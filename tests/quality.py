"""Ten weeks of GATTE in all nine tables, judging them, and what corrupts them.

WhatsApp traffic comes in by the real loader, holds, retention and the state of certificates by the
real operations; the rows that the chatbot and the sales staff write are inserted as their owner
does. Everything is drawn from a seed and ends at `AS_OF`.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import Connection, text

from gatte_pipelines.business_time import ZONE
from gatte_pipelines.database.engine import psycopg_connection
from gatte_pipelines.database.runs import run_recorded
from gatte_pipelines.errors import PermanentError
from gatte_pipelines.privacy.holds import place_hold
from gatte_pipelines.quality.check import PIPELINE, Options
from gatte_pipelines.quality.results import State
from gatte_pipelines.quality.scope import Mode
from gatte_pipelines.sandbox.generate import generate
from gatte_pipelines.sandbox.traffic import WHOLE_SHARES, TrafficPlan
from gatte_pipelines.wiring import Wiring
from tests.database.rows import insert
from tests.inbound import Inbound
from tests.postgres import TestDatabase
from tests.webhooks import chatbot_conversation, text_message, texts

AS_OF = datetime(2026, 6, 10, 15, tzinfo=UTC)
"""Noon of a Wednesday. Of the eight Tuesdays before yesterday one is a holiday (Tiradentes)."""

WEEKS = 10
DAY = timedelta(days=1)
HOUR = timedelta(hours=1)
NINETY_DAYS = 90 * DAY

HELD = "5511900005001"
GRACE = "5511900005002"
TALKING = ("5511900005003", "5511900005004", "5511900005005")
AHEAD = "5511900005006"
ERASED = "5511900005007"
JOINED = "5511900005008"

STAFF = ("Técnica Exemplo", "Técnico Exemplo", None)


class Gatte(Inbound):
    """One database with everything in it."""

    def fill(self, seed: int) -> None:
        """Ten weeks up to `AS_OF`, drawn from a seed."""
        self._talk_long_ago()
        with self.writing() as connection:
            _Rows(connection, seed).insert_forgotten()
        # Those of long ago are anonymised, as any night does.
        self.run("lgpd_retention", AS_OF - 2 * DAY, execute=True)
        self._talk_since(seed)
        with self.writing() as connection:
            rows = _Rows(connection, seed)
            rows.insert_all()
            rows.insert_of_erased(f"+{ERASED}")
        self.run("certificate_state", AS_OF - 10 * HOUR)
        ((erased,),) = self.rows("select id from users where phone = :p", p=f"+{ERASED}")
        self.run("lgpd_subject_request", AS_OF, kind="erase", user_id=str(erased), execute=True)

    @contextmanager
    def writing(self, at: datetime = AS_OF) -> Iterator[Connection]:
        """A transaction of the chatbot's owner, at an instant."""
        with self.database.engine("owner").begin() as connection:
            connection.execute(
                text("select set_config('gatte.as_of', :at, true)"), {"at": at.isoformat()}
            )
            yield connection

    def _talk_long_ago(self) -> None:
        """Past their 90 days: one message under a hold, one within the hours of grace."""
        at = AS_OF - 100 * DAY
        self.say(
            text_message("wamid.held", at - HOUR, sender=HELD, body="é a prova"),
            text_message("wamid.gone", at - HOUR / 2, sender=HELD, body="não é"),
            as_of=at,
        )
        ((held,),) = self.rows("select id from messages where content = 'é a prova'")
        with (
            Wiring(self.settings) as wiring,
            self.database.connect() as connection,
            wiring.ledger() as ledger,
        ):
            place_hold(
                psycopg_connection(connection),
                ledger,
                table="messages",
                row_id=held,
                reason="processo",
                owner="juridico",
                ends_at=None,
                at=at,
            )
        at = AS_OF - NINETY_DAYS - 12 * HOUR
        self.say(text_message("wamid.grace", at, sender=GRACE, body="quase"), as_of=at + HOUR)

    def _talk_since(self, seed: int) -> None:
        # The generator's clients talk on three days of four; together they talk every day alike.
        for more in range(4):
            plan = TrafficPlan(
                messages=1_250,
                users=150,
                seed=4 * seed + more,
                as_of=AS_OF,
                days=7 * WEEKS + more,
                concurrent_clients=2,
                **WHOLE_SHARES,
            )
            generate(plan, self.landing / f"traffic-{more}.jsonl")
        self.load(AS_OF)
        # Contexts that live at noon: one longer than a context holds, two with people at work; and
        # somebody whose clock is as much ahead as the loader puts up with.
        waiting, transferred, long = TALKING
        # Somebody known twice, until a message tells that they are one.
        at = AS_OF - 3 * DAY
        self.say(
            text_message("wamid.j1", at, sender=JOINED),
            text_message("wamid.j2", at, sender=None, from_user_id="BR.juntos"),
            as_of=AS_OF,
        )
        self.say(
            text_message("wamid.j3", at + HOUR, sender=JOINED, from_user_id="BR.juntos"),
            as_of=AS_OF,
        )
        self.send(
            texts(text_message("wamid.w", AS_OF - HOUR, sender=waiting, body="alguém aí?")),
            chatbot_conversation("e-w", AS_OF - HOUR / 2, "waiting", phone=f"+{waiting}"),
            texts(text_message("wamid.t", AS_OF - HOUR, sender=transferred, body="quero falar")),
            chatbot_conversation(
                "e-t",
                AS_OF - HOUR / 2,
                "transferred",
                phone=f"+{transferred}",
                transferred_to="Técnica Exemplo",
            ),
            *(
                texts(
                    text_message(
                        f"wamid.l{n}", AS_OF - HOUR + n * HOUR / 60, sender=long, body=f"linha {n}"
                    )
                )
                for n in range(30)
            ),
            texts(text_message("wamid.a", AS_OF + HOUR / 7, sender=AHEAD, body="já é tarde")),
            texts(text_message("wamid.e", AS_OF - HOUR, sender=ERASED, body="esqueçam-me")),
            as_of=AS_OF,
        )


class _Rows:
    """The rows that the chatbot, the site and the sales staff write."""

    def __init__(self, connection: Connection, seed: int) -> None:
        self._connection = connection
        self._draw = random.Random(seed)  # noqa: S311 - made-up rows
        # Apart, so that what the CRM knows changes nothing of the rest.
        self._drawn_there = random.Random(seed)  # noqa: S311 - made-up rows
        self._numbers = count(1)
        self._users: list[UUID] = []

    def insert_forgotten(self) -> None:
        """Two clients and four leads whose time is long over, with what leads back to them."""
        long_ago = AS_OF - 6 * 366 * DAY
        for number in range(2):
            at = long_ago - number * DAY
            user = self._insert(
                "users",
                name="Cliente Exemplo",
                email="antigo@example.com",
                company="Empresa Exemplo",
                phone=f"+55119000061{number:02}",
                created_at=at,
                updated_at=at,
            )
            talk = self._insert(
                "conversations",
                user_id=user,
                status="closed",
                started_at=at,
                closed_at=at + HOUR,
                total_messages=2,
            )
            for minutes in (0, 60):
                self._insert(
                    "messages",
                    conversation_id=talk,
                    content="texto de exemplo",
                    is_in_context=False,
                    created_at=at + minutes * HOUR / 60,
                )
            self._insert(
                "tickets",
                protocol=f"A-{number:04}",
                user_id=user,
                conversation_id=talk,
                status="closed",
                resolved_at=at + DAY,
                created_at=at,
            )
            service = self._insert(
                "services", user_id=user, status="cancelled", contracted_at=at, notes="contrato"
            )
            self._insert(
                "certificates",
                user_id=user,
                service_id=service,
                issued_at=at,
                expires_at=at + 365 * DAY,
                status="expired",
            )
            self._insert(
                "appointments", user_id=user, status="done", scheduled_at=at, created_at=at - DAY
            )
            self._lead(at, user_id=user)
            self._lead(at + DAY, email="lead@example.com", crm_id=self._crm_id())

    def insert_all(self) -> None:
        """Everything else, up to `AS_OF`."""
        self._know_clients()
        self._tickets()
        self._leads()
        self._appointments()
        self._services()

    def insert_of_erased(self, phone: str) -> None:
        """What the client with this phone leaves behind."""
        user = self._connection.scalar(
            text("select id from users where phone = :phone"), {"phone": phone}
        )
        self._lead(AS_OF - DAY, user_id=user, email="lead@example.com", crm_id=self._crm_id())
        self._insert(
            "appointments",
            user_id=user,
            status="cancelled",
            scheduled_at=AS_OF + DAY,
            created_at=AS_OF - DAY,
            notes="prefere a tarde",
            calendar_event_id="evento-apagado",
        )
        self._insert(
            "services",
            user_id=user,
            status="cancelled",
            contracted_at=AS_OF - 400 * DAY,
            notes="contrato",
        )

    def _know_clients(self) -> None:
        """The chatbot asked for names; some clients came by the site and never wrote."""
        users = self._connection.scalars(
            text("select id from users where phone not like '~x%' order by created_at, phone")
        ).all()
        self._users = [UUID(str(user)) for user in users]
        for number, user in enumerate(self._users):
            if not self._chance(0.6):
                continue
            self._connection.execute(
                text(
                    "update users set name = :name, email = :email, company = :company, "
                    "is_client = :is_client, login_token = :token, updated_at = :at where id = :id"
                ),
                {
                    "id": user,
                    "name": f"Cliente Exemplo {number}",
                    "email": f"cliente.{number}@example.com" if self._chance(0.7) else None,
                    "company": "Empresa Exemplo" if self._chance(0.4) else None,
                    "is_client": self._chance(0.5),
                    "token": "acesso" if self._chance(0.02) else None,
                    "at": AS_OF,
                },
            )
        for day in self._days():
            if self._chance(0.2):
                at = self._during(day)
                self._users.append(
                    self._insert(
                        "users",
                        phone=f"+55119000071{next(self._numbers):02}",
                        created_at=at,
                        updated_at=at,
                    )
                )

    def _tickets(self) -> None:
        talks = self._connection.execute(
            text("select id, user_id, started_at from conversations where started_at >= :since"),
            {"since": AS_OF - WEEKS * 7 * DAY},
        ).all()
        talks = sorted(talks, key=lambda talk: (talk.started_at, talk.id))
        for number, talk in enumerate(talks):
            if not self._chance(0.25):
                continue
            age = AS_OF - talk.started_at
            is_over = age > 2 * HOUR and self._chance(0.8)
            self._insert(
                "tickets",
                protocol=f"GT-2026-{number:05}",
                user_id=talk.user_id,
                conversation_id=talk.id,
                status=self._one("resolved", "closed")
                if is_over
                else self._one("open", "in_progress"),
                resolved_at=talk.started_at + age * self._draw.random() if is_over else None,
                priority=self._one("low", "medium", "high", "critical"),
                category=self._one("certificado", "nota fiscal", None),
                assigned_to=self._one(*STAFF),
                created_at=talk.started_at,
            )

    def _leads(self) -> None:
        for day in self._days():
            for _ in range(self._draw.randrange(1, 5)):
                self._lead(
                    self._during(day),
                    user_id=self._one(*self._users, None),
                    source=self._one("whatsapp_bot", "site", "indicacao"),
                    stage=self._one("new", "contacted", "qualified", "lost", "converted"),
                    company=self._one("Empresa Exemplo", None),
                    email=self._one("lead@example.com", None),
                    interest=self._one("LC Web", "e-CNPJ A1", None),
                    crm_id=self._crm_id() if self._chance(0.4) else None,
                )

    def _lead(self, at: datetime, **values: Any) -> UUID:
        phone = f"+55119000080{next(self._numbers) % 100:02}"
        crm_id, chance = values.get("crm_id"), self._drawn_there.random()
        if crm_id is not None and chance < 0.2:
            values["source"] = "pipedrive"
        lead = self._insert("leads", **{"phone": phone, "created_at": at} | values)
        if crm_id is not None or chance < 0.1:
            self._link(lead, crm_id, at)
        return lead

    def _crm_id(self) -> str:
        """A deal's, or a lead's of the CRM."""
        deal_id = 10_000 + next(self._numbers)
        return str(self._drawn_there.choice((deal_id, uuid4())))

    def _link(self, lead: UUID, crm_id: str | None, at: datetime) -> None:
        """As the sync leaves it: also of a lead that is about to be sent, and of a merged one."""
        draw = self._drawn_there
        is_deal = crm_id is not None and crm_id.isdecimal()
        link = {
            "lead_id": lead,
            "state": draw.choice(("linked", "linked", "deleted")) if crm_id else "pending",
            # A deal that was a lead there keeps that lead's id.
            "remote_lead_id": draw.choice((uuid4(), None)) if is_deal else crm_id,
            "deal_id": crm_id if is_deal else None,
            "merged_into": None,
            "agreed_name": "Lead Exemplo",
            "at": at,
        }
        insert = text(
            "insert into pipeline.crm_links (lead_id, state, remote_lead_id, deal_id, merged_into, "
            "agreed_name, made_at, changed_at) values (:lead_id, :state, :remote_lead_id, "
            ":deal_id, :merged_into, :agreed_name, :at, :at)"
        )
        self._connection.execute(insert, link)
        if draw.random() < 0.1:
            merged = dict.fromkeys(("remote_lead_id", "deal_id", "agreed_name"))
            self._connection.execute(
                insert, link | merged | {"lead_id": uuid4(), "state": "merged", "merged_into": lead}
            )

    def _appointments(self) -> None:
        for day in self._days():
            if day.weekday() >= 5:
                continue
            for _ in range(self._draw.randrange(1, 4)):
                created_at = self._during(day)
                scheduled_at = created_at + self._draw.randrange(1, 14) * DAY
                is_over = scheduled_at < AS_OF
                self._insert(
                    "appointments",
                    user_id=self._one(*self._users),
                    type=self._one("demo", "support", "training", "followup"),
                    status=self._one("done", "cancelled", "confirmed")
                    if is_over
                    else self._one("pending", "confirmed", "cancelled"),
                    scheduled_at=scheduled_at,
                    duration_min=self._one(30, 60, 90),
                    assigned_to=self._one(*STAFF),
                    calendar_event_id=(
                        f"evento{next(self._numbers)}" if self._chance(0.5) else None
                    ),
                    created_at=created_at,
                )

    def _services(self) -> None:
        """Contracts of three years, half of them of the last weeks, each with certificates."""
        for number in range(160):
            user = self._one(*self._users)
            # Every other within the last two months, one after the other: sales are no lottery.
            place = (number + self._draw.random()) / 160
            contracted_at = AS_OF - place * (3 * 365 if number % 2 else 60) * DAY
            status = self._one("active", "active", "active", "suspended", "cancelled", "trial")
            has_value = status == "active" or self._chance(0.5)
            service = self._insert(
                "services",
                user_id=user,
                plan=self._one("essencial", "profissional", "enterprise"),
                status=status,
                contracted_at=contracted_at,
                expires_at=self._one(
                    None,
                    AS_OF + self._draw.random() * 365 * DAY
                    if status == "active"
                    else contracted_at + self._draw.random() * 365 * DAY,
                ),
                monthly_value=self._draw.randrange(0, 90_000) / 100 if has_value else None,
            )
            for _ in range(self._draw.randrange(1, 3)):
                self._certificate(user, service, contracted_at)

    def _certificate(self, user: UUID, service: UUID, since: datetime) -> None:
        issued_at = since + min(AS_OF - since, 3 * DAY) * self._draw.random()
        expires_at = issued_at + self._one(365, 3 * 365) * DAY
        # Also valid ones that are over: the nightly refresh ends them.
        certificate = self._insert(
            "certificates",
            user_id=user,
            service_id=service,
            type=self._one("e-CPF", "e-CNPJ", "e-NFe", "e-CT"),
            issued_at=issued_at,
            expires_at=expires_at,
            status=self._one("valid", "valid", "valid", "revoked", "pending"),
            alert_sent=self._chance(0.2),
        )
        if abs(expires_at - AS_OF) < 60 * DAY:
            made_at = AS_OF - self._draw.random() * 60 * DAY
            lead = self._lead(made_at, user_id=user, source="certificado_vencendo")
            self._connection.execute(
                text("insert into pipeline.renewal_leads values (:id, :at, :lead, :made)"),
                {"id": certificate, "at": expires_at, "lead": lead, "made": made_at},
            )

    # -- what is drawn

    def _days(self) -> Iterator[datetime]:
        """Midnight of each day of the ten weeks."""
        today = AS_OF.astimezone(ZONE).replace(hour=0)
        for days in range(WEEKS * 7, -1, -1):
            yield today - days * DAY

    def _during(self, day: datetime) -> datetime:
        return min(day + (8 + 10 * self._draw.random()) * HOUR, AS_OF)

    def _chance(self, share: float) -> bool:
        return self._draw.random() < share

    def _one(self, *values: Any) -> Any:
        return values[self._draw.randrange(len(values))]

    def _insert(self, table: str, **values: Any) -> UUID:
        return insert(
            self._connection, table, **{"id": UUID(int=self._draw.getrandbits(128))} | values
        )


# -- judging


@dataclass(frozen=True)
class Verdict:
    """What a run stored of a check."""

    state: State
    keys: frozenset[UUID] = frozenset()
    rows: int | None = None
    detail: str | None = None


def judge(
    database: TestDatabase, *tables: str, as_of: datetime = AS_OF, mode: Mode = Mode.FULL
) -> dict[str, Verdict]:
    """Judge tables (all nine where none is named) as a flow would at that instant."""
    with Wiring(database.settings()) as wiring, wiring.migrated() as connection:
        operation = wiring.data_quality(connection, now=as_of)
        runs: list[UUID] = []

        def body(report: Any) -> None:
            runs.append(report.run_id)
            operation.check(report, Options(tables=tables, mode=mode))

        # Where a critical check failed: what was found is stored all the same.
        with suppress(PermanentError):
            run_recorded(connection, pipeline=PIPELINE, as_of=as_of, body=body, lock=PIPELINE)
        driver = psycopg_connection(connection)
        with driver.transaction():
            rows = driver.execute(
                "select check_name, state, failed_keys, failed_rows, detail "
                "from pipeline.quality_results where run_id = %s",
                [runs[0]],
            ).fetchall()
    return {row[0]: Verdict(State(row[1]), frozenset(row[2]), row[3], row[4]) for row in rows}


def alarms(verdicts: dict[str, Verdict]) -> dict[str, Verdict]:
    """What failed or did not run."""
    return {
        name: verdict
        for name, verdict in verdicts.items()
        if verdict.state in {State.FAILED, State.NOT_RUN}
    }
