"""The certificate alerts of a test: clients, a calendar, and an outside world that it scripts.

The operation and its database are the real ones; channels and mailbox are the outside, in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import Connection, text

from gatte_pipelines.business_time import ZONE, BusinessCalendar
from gatte_pipelines.certificates.alerts import PIPELINE, CertificateAlerts
from gatte_pipelines.certificates.ledger import Recipient
from gatte_pipelines.certificates.policy import AlertPolicy, Recipients
from gatte_pipelines.certificates.policy_file import read_alert_policy
from gatte_pipelines.certificates.texts import Line
from gatte_pipelines.database.runs import run_recorded
from gatte_pipelines.messaging.channels import Outcome, SendResult
from gatte_pipelines.messaging.email import Email
from gatte_pipelines.run_report import RunReport
from tests.database.rows import insert
from tests.postgres import TestDatabase

REPOSITORY = Path(__file__).resolve().parents[1]
POLICY = read_alert_policy(REPOSITORY / "config" / "alerts.yaml")
CALENDAR = BusinessCalendar("SP")
STAFF = "equipe@example.com"
ACCEPTED = SendResult(outcome=Outcome.ACCEPTED)


def at(day: date | str, hour: str = "08:30") -> datetime:
    """An instant in São Paulo."""
    if isinstance(day, str):
        day = date.fromisoformat(day)
    return datetime.combine(day, time.fromisoformat(hour), ZONE).astimezone(UTC)


@dataclass(kw_only=True)
class Call:
    """One message that reached the outside world."""

    channel: str
    attempt_id: UUID
    user_id: UUID
    certificates: frozenset[UUID]
    lines: tuple[Line, ...]


@dataclass
class FakeChannel:
    """A channel whose answers a test gives; by default it takes everything."""

    name: str
    calls: list[Call] = field(default_factory=list)
    answer: Callable[[Call], SendResult] = lambda _call: ACCEPTED

    def obstacle(self, recipient: Recipient) -> str:
        """As the real ones: a number for WhatsApp, an address for e-mail."""
        if self.name == "email":
            return "" if recipient.email else "no_email"
        return "" if recipient.phone.startswith("+") else "no_phone"

    def template(self, lines: Sequence[Line]) -> str | None:
        """A name that says how many."""
        return f"modelo_{len(lines)}" if self.name == "whatsapp" else None

    def send(self, attempt_id: UUID, recipient: Recipient, lines: Sequence[Line]) -> SendResult:
        """Take the message, and answer as the test says."""
        call = Call(
            channel=self.name,
            attempt_id=attempt_id,
            user_id=recipient.user_id,
            certificates=frozenset(line.certificate_id for line in lines),
            lines=tuple(lines),
        )
        self.calls.append(call)
        result = self.answer(call)
        if result.outcome is Outcome.ACCEPTED and result.provider_id is None:
            return replace(result, provider_id=f"wamid.{attempt_id}")
        return result


@dataclass
class FakeMailbox:
    """Takes the digests."""

    mails: list[Email] = field(default_factory=list)
    answer: Callable[[Email], SendResult] = lambda _mail: ACCEPTED

    def deliver(self, message: Email) -> SendResult:
        """Keep it, and answer as the test says."""
        self.mails.append(message)
        return self.answer(message)


class AlertWorld:
    """Clients, certificates and runs over one database.

    Args:
        database: A database of the test's own.
        policy: Other than the shipped one.
    """

    def __init__(self, database: TestDatabase, policy: AlertPolicy = POLICY) -> None:
        self.database = database
        self.policy = policy
        self.calendar = CALENDAR
        self.whatsapp = FakeChannel("whatsapp")
        self.email = FakeChannel("email")
        self.mailbox = FakeMailbox()
        self.documents: dict[str, str] = {}

    # -- rows, as the chatbot writes them

    def client(self, *, email: str | None = None, name: str | None = "Ana Exemplo") -> UUID:
        """A client with a number."""
        with self.owner() as connection:
            return insert(connection, "users", name=name, email=email)

    def service(self, user_id: UUID, **values: Any) -> UUID:
        """A service of a client."""
        with self.owner() as connection:
            return insert(
                connection, "services", **{"user_id": user_id, "monthly_value": 100} | values
            )

    def certificate(
        self,
        user_id: UUID,
        expires_on: date | str,
        *,
        service_id: UUID | None = None,
        issued_on: date | str | None = None,
        **values: Any,
    ) -> UUID:
        """A certificate of a client that expires at noon of a date."""
        expires_at = at(expires_on, "12:00")
        issued_at = at(issued_on) if issued_on else expires_at - timedelta(days=365)
        service = service_id or self.service(user_id)
        with self.owner() as connection:
            return insert(
                connection,
                "certificates",
                **{
                    "user_id": user_id,
                    "service_id": service,
                    "issued_at": issued_at,
                    "expires_at": expires_at,
                }
                | values,
            )

    def execute(self, statement: str, **values: Any) -> None:
        """Run a statement as the chatbot's owner would."""
        with self.owner() as connection:
            connection.execute(text(statement), values)

    def rows(self, query: str, **values: Any) -> list[Any]:
        """What a query finds."""
        with self.database.connect("owner") as connection:
            return list(connection.execute(text(query), values))

    def owner(self) -> Any:
        """A transaction of the owner."""
        return self.database.engine("owner").begin()

    # -- runs

    def run(
        self,
        day: date | str,
        hour: str = "08:30",
        *,
        dry_run: bool = False,
        approve: UUID | None = None,
        channels: Iterable[str] = ("whatsapp", "email"),
        now: datetime | None = None,
    ) -> RunReport:
        """One run at an hour of a day in São Paulo."""
        as_of = at(day, hour)
        usable = {one.name: one for one in (self.whatsapp, self.email) if one.name in channels}
        with self.database.connect() as connection:
            operation = self._operation(connection, usable, now or as_of)
            return run_recorded(
                connection,
                pipeline=PIPELINE,
                as_of=as_of,
                body=lambda report: operation.alert(
                    report, dry_run=dry_run, approve=approve, documents=self.documents
                ),
                lock=PIPELINE,
            )

    def run_approved(self, day: date | str, hour: str = "08:30") -> RunReport:
        """One run, and where it asks for approval, that too, as a person would give it."""
        report = self.run(day, hour)
        if report.outcome.value != "needs_approval":
            return report
        return self.run(day, hour, approve=self.plan_id())

    def plan_id(self) -> UUID:
        """The newest plan."""
        ((found,),) = self.rows(
            "select plan_id from pipeline.plans order by made_at desc, plan_id limit 1"
        )
        return UUID(str(found))

    def open_for_business(self) -> None:
        """Let a client have been written to once, so that no run is the first."""
        self.execute(
            "insert into pipeline.alert_messages (attempt_id, audience, channel, state, "
            "intended_at) values (gen_random_uuid(), 'client', 'email', 'failed', "
            "'2020-01-01T00:00:00Z')"
        )

    @property
    def calls(self) -> list[Call]:
        """All messages to clients so far."""
        return [*self.whatsapp.calls, *self.email.calls]

    def told(self, certificate_id: UUID) -> list[str]:
        """The channels by which a certificate was told, in the order of the calls."""
        return [call.channel for call in self.calls if certificate_id in call.certificates]

    def steps(self, certificate_id: UUID, audience: str = "client") -> dict[int, str]:
        """The states of a certificate's steps by threshold."""
        return {
            row.threshold: row.state
            for row in self.rows(
                "select threshold, state from pipeline.certificate_steps "
                "where certificate_id = :id and audience = :audience order by threshold desc",
                id=certificate_id,
                audience=audience,
            )
        }

    # -- what inbound would have written

    def status(self, call: Call, status: str, when: datetime, code: int | None = None) -> None:
        """A status of a message, as inbound loads it."""
        self.execute(
            "insert into pipeline.message_statuses (message_id, status, status_at, error_code, "
            "attempt_id) values (:message_id, :status, :at, :code, :attempt_id) "
            "on conflict do nothing",
            message_id=message_id_of(f"wamid.{call.attempt_id}"),
            status=status,
            at=when,
            code=code,
            attempt_id=call.attempt_id,
        )

    def press(
        self, call: Call, answer: str, when: datetime, *, user_id: UUID | None = None
    ) -> None:
        """The press of a button of a message, as inbound loads it."""
        with self.owner() as connection:
            conversation = insert(
                connection,
                "conversations",
                user_id=user_id or call.user_id,
                status="closed",
                started_at=when,
                closed_at=when,
            )
            message = insert(connection, "messages", conversation_id=conversation, created_at=when)
            connection.execute(
                text(
                    "insert into pipeline.button_replies (message_id, payload, pressed_at) "
                    "values (:message_id, :payload, :at)"
                ),
                {
                    "message_id": message,
                    "at": when,
                    "payload": f"certificate_alert:{answer}:{call.attempt_id}",
                },
            )

    def _operation(
        self, connection: Connection, channels: dict[str, FakeChannel], now: datetime
    ) -> CertificateAlerts:
        return CertificateAlerts(
            connection,
            policy=self.policy,
            recipients=Recipients(addresses={}, default=(STAFF,)),
            calendar=self.calendar,
            channels=channels,
            mail=self.mailbox if "email" in channels else None,
            message_id_of=message_id_of,
            previews=self.database.home / "alert_previews",
            now=now,
        )


def message_id_of(wamid: str) -> UUID:
    """Stands for the keyed digest of a provider's id: the attempt's id, the other way round."""
    return UUID(wamid.removeprefix("wamid.").replace("-", "")[::-1])


def new_id() -> UUID:
    """An id of nobody."""
    return uuid4()
