"""The operation ``certificate_alerts``: from what is due to who was told.

Follows what was sent before, evaluates what is due now, asks for approval where that is much,
tells clients and staff. Each part is its own module; here is their order, and what is committed
together.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

import psycopg

from gatte_pipelines.business_time import BusinessCalendar, business_date
from gatte_pipelines.certificates import ledger, state
from gatte_pipelines.certificates.channels import Channel, MailDeliverer
from gatte_pipelines.certificates.evaluation import Evaluated, evaluate, forget_changes
from gatte_pipelines.certificates.ledger import OpenStep, open_transaction
from gatte_pipelines.certificates.policy import AlertPolicy, Recipients, is_open
from gatte_pipelines.certificates.preview import (
    ClientPreview,
    preview_exact,
    preview_markdown,
)
from gatte_pipelines.certificates.sending import CLIENT, ClientSender, Group, Sent, line_of
from gatte_pipelines.certificates.sequence import Attempt
from gatte_pipelines.certificates.staff import News, StaffSender
from gatte_pipelines.database.engine import psycopg_connection
from gatte_pipelines.database.plans import Plan, mark_executed, read_plan, store_plan
from gatte_pipelines.errors import ConfigurationError
from gatte_pipelines.run_report import DRY_RUN, Outcome, RunReport, reason_pt

if TYPE_CHECKING:
    import psycopg
    from sqlalchemy import Connection

PIPELINE = "certificate_alerts"
STATE_PIPELINE = "certificate_state"

FIRST_RUN, MANY_MESSAGES = "first_run", "many_messages"
QUIET_HOURS = "quiet_hours"

_Key = tuple[UUID, datetime, int]


def refresh_state(connection: Connection, report: RunReport) -> None:
    """Bring ``days_to_expire`` and ``status`` to the business date of the report.

    Args:
        connection: To the database, outside a transaction.
        report: Is filled; ``received`` counts the rows that changed, all of them ``updated``.
    """
    refreshed = state.refresh(connection, as_of=report.as_of)
    report.received = report.updated = refreshed.days_changed + refreshed.expired
    if not report.received:
        report.outcome, report.reason = Outcome.SKIPPED, "nothing_to_do"


class _TooMuchError(Exception):
    """What is due needs a person's approval; ends the transaction that found it."""

    def __init__(self, groups: list[Group], reason: str) -> None:
        super().__init__(reason)
        self.groups, self.reason = groups, reason


@dataclass(frozen=True, kw_only=True)
class Found:
    """What is due after an evaluation.

    Attributes:
        evaluated: What the evaluation wrote.
        steps: All open steps.
        attempts: Theirs, by step and channel.
    """

    evaluated: Evaluated
    steps: tuple[OpenStep, ...]
    attempts: Mapping[UUID, Mapping[str, Attempt]]

    @property
    def of_clients(self) -> list[OpenStep]:
        """The steps whose audience is the client."""
        return [step for step in self.steps if step.audience == CLIENT]

    @property
    def of_staff(self) -> list[OpenStep]:
        """The steps of every other audience."""
        return [step for step in self.steps if step.audience != CLIENT]


class CertificateAlerts:
    """One run of the operation.

    Args:
        connection: To the database, outside a transaction.
        policy: When whom to tell.
        recipients: Who of staff is told.
        calendar: Of business days.
        channels: Ways of telling clients that this run may use, by name.
        mail: The mail client for staff; None where this run may not use e-mail.
        message_id_of: The keyed digest of a provider's id, as statuses have it.
        previews: Folder for the exact texts of a dry run.
        now: The instant by the clock; an ``as_of`` of another day is a dry run's.
    """

    def __init__(
        self,
        connection: Connection,
        *,
        policy: AlertPolicy,
        recipients: Recipients,
        calendar: BusinessCalendar,
        channels: Mapping[str, Channel],
        mail: MailDeliverer | None,
        message_id_of: Callable[[str], UUID],
        previews: Path,
        now: datetime,
    ) -> None:
        self._connection = connection
        self._driver = psycopg_connection(connection)
        self._policy = policy
        self._recipients = recipients
        self._calendar = calendar
        self._channels = channels
        self._mail = mail
        self._message_id_of = message_id_of
        self._previews = previews
        self._now = now

    def alert(
        self,
        report: RunReport,
        *,
        dry_run: bool,
        approve: UUID | None = None,
        documents: dict[str, str] | None = None,
    ) -> None:
        """Tell whom it is time to tell.

        Args:
            report: Is filled; the unit is one step.
            dry_run: Show what would be sent, and send nothing.
            approve: Carry out exactly this plan, whatever ``dry_run`` says.
            documents: Gets the preview of a dry run, as Markdown by name.

        Raises:
            ConfigurationError: ``as_of`` is of another day, or the plan cannot be carried out.
        """
        if approve is None and dry_run:
            self._rehearse(report, documents)
            return
        if business_date(report.as_of) != business_date(self._now):
            raise ConfigurationError(
                "as_of must lie on the current business date: clients cannot be told in the past "
                "or the future; a dry run may look at any date"
            )
        state.refresh(self._connection, as_of=report.as_of)
        with open_transaction(self._driver, report.as_of) as cursor:
            followed = ledger.follow(cursor, self._policy)
        if not is_open(self._policy, self._calendar, report.as_of):
            # Nothing is written down: what is told must be what this ledger says was found.
            with open_transaction(self._driver, report.as_of, rehearses=True) as cursor:
                waiting = len(self._evaluate(cursor, report).steps)
            report.received = waiting
            _leave(report, Counter({QUIET_HOURS: waiting}))
            report.outcome, report.reason = Outcome.SKIPPED, QUIET_HOURS
            return
        if approve is None:
            plan, found = None, self._evaluate_unless_much(report)
        else:
            plan, found = self._evaluate_for(report, approve)
        if found is None:
            return
        self._count(report, found, followed.answered_steps)
        self._tell(report, found, plan)
        if not report.received:
            report.outcome, report.reason = Outcome.SKIPPED, "nothing_to_do"

    # -- what is due

    def _evaluate(
        self, cursor: psycopg.Cursor[Any], report: RunReport, *, everything: bool = False
    ) -> Found:
        evaluated = evaluate(
            self._connection,
            policy=self._policy,
            calendar=self._calendar,
            as_of=report.as_of,
            everything=everything,
        )
        ledger.settle_answered(cursor, self._policy)
        ledger.settle_alert_sent(cursor, evaluated.touched)
        steps, attempts = ledger.find_open(cursor)
        return Found(evaluated=evaluated, steps=tuple(steps), attempts=attempts)

    def _evaluate_unless_much(self, report: RunReport) -> Found | None:
        """Evaluate and commit; None where that needs a person's approval, and nothing is kept."""
        try:
            with open_transaction(self._driver, report.as_of) as cursor:
                found = self._evaluate(cursor, report)
                groups = self._groups(report, found.of_clients, found.attempts)
                reason = self._much(cursor, groups)
                if reason:
                    raise _TooMuchError(groups, reason)
                self._make_leads(cursor, found)
                forget_changes(self._connection)
        except _TooMuchError as much:
            plan_id = self._store_plan(report, much.groups, much.reason)
            report.outcome, report.reason = Outcome.NEEDS_APPROVAL, much.reason
            report.received = sum(len(group.steps) for group in much.groups)
            _leave(report, Counter({DRY_RUN: report.received}))
            report.notes += self._plan_notes(plan_id, much.groups)
            return None
        return found

    def _evaluate_for(self, report: RunReport, approve: UUID) -> tuple[Plan, Found]:
        """Evaluate and commit; of the clients' steps only those of a plan."""
        with open_transaction(self._driver, report.as_of) as cursor:
            plan = read_plan(cursor, approve, pipeline=PIPELINE, now=self._now)
            found = self._evaluate(cursor, report)
            planned = {_parse_row(row) for row in plan.contents["rows"]}
            due = {_key(step): step for step in found.of_clients}
            # Of a plan that was carried out in part, what it did is not missing.
            missing = planned - due.keys() - ledger.find_steps_of_plan(cursor, approve)
            if missing:
                raise ConfigurationError(
                    f"plan {approve} cannot be carried out: {len(missing)} of its {len(planned)} "
                    "alerts are not due any more or changed; make a new one with a dry run"
                )
            mine = [step for key, step in due.items() if key in planned]
            ledger.name_plan(cursor, approve, [step.step_id for step in mine])
            self._make_leads(cursor, found)
            forget_changes(self._connection)
        return plan, Found(
            evaluated=found.evaluated,
            steps=(*mine, *found.of_staff),
            attempts=found.attempts,
        )

    def _make_leads(self, cursor: psycopg.Cursor[Any], found: Found) -> None:
        ledger.make_renewal_leads(cursor, found.evaluated.touched, self._policy.renewal_lead_days)

    # -- approval

    def _much(self, cursor: psycopg.Cursor[Any], groups: Sequence[Group]) -> str:
        """Why a person has to approve; empty where nobody has to."""
        if not groups:
            return ""
        if not ledger.has_client_messages(cursor):
            return FIRST_RUN
        return MANY_MESSAGES if len(groups) > self._policy.approval_messages else ""

    def _store_plan(self, report: RunReport, groups: Sequence[Group], reason: str | None) -> UUID:
        with open_transaction(self._driver, report.as_of) as cursor:
            return store_plan(
                cursor,
                pipeline=PIPELINE,
                as_of=report.as_of,
                now=self._now,
                parameters={"channels": sorted(self._channels)},
                contents={
                    "messages": len(groups),
                    "rows": sorted(_row(step) for group in groups for step in group.steps),
                },
                reason=reason,
            )

    def _plan_notes(self, plan_id: UUID, groups: Sequence[Group]) -> list[str]:
        messages = len(groups)
        steps = sum(len(group.steps) for group in groups)
        return [
            f"plano {plan_id}: {messages} {'mensagem' if messages == 1 else 'mensagens'} a "
            f"clientes, {steps} {'aviso' if steps == 1 else 'avisos'}; vale por 7 dias"
        ]

    # -- sending

    def _tell(self, report: RunReport, found: Found, plan: Plan | None) -> None:
        clients = self._client_sender(report)
        sent = clients.send(found.of_clients, found.attempts)
        with open_transaction(self._driver, report.as_of) as cursor:
            leads = ledger.find_leads_made(cursor, found.evaluated.touched)
            if plan is not None:
                mark_executed(cursor, plan.plan_id, self._now)
        staff = StaffSender(
            self._driver,
            policy=self._policy,
            recipients=self._recipients,
            mail=self._mail,
            silence=clients.silence,
            as_of=report.as_of,
        )
        told = staff.send(
            found.of_staff,
            found.attempts,
            News(sent=sent, lapsed_before=found.evaluated.lapsed_before, leads=leads),
        )
        report.updated = sent.told + told.told
        _leave(report, sent.left + told.left)
        report.notes += _notes(sent, told, len({row.lead_id for row in leads}))

    def _client_sender(self, report: RunReport) -> ClientSender:
        return ClientSender(
            self._driver,
            policy=self._policy,
            calendar=self._calendar,
            channels=self._channels,
            message_id_of=self._message_id_of,
            as_of=report.as_of,
        )

    def _groups(
        self,
        report: RunReport,
        steps: Iterable[OpenStep],
        attempts: Mapping[UUID, Mapping[str, Attempt]],
    ) -> list[Group]:
        groups, _ = self._client_sender(report).group(steps, attempts)
        return groups

    # -- dry run

    def _rehearse(self, report: RunReport, documents: dict[str, str] | None) -> None:
        """Evaluate, show what would be sent, and roll back."""
        is_today = business_date(report.as_of) == business_date(self._now)
        previews: list[ClientPreview] = []
        with open_transaction(self._driver, report.as_of, rehearses=True) as cursor:
            ledger.follow(cursor, self._policy)
            found = self._evaluate(cursor, report, everything=not is_today)
            groups = self._groups(report, found.of_clients, found.attempts)
            reason = self._much(cursor, groups)
            for group in groups:
                preview = self._preview(cursor, report, group)
                if preview is not None:
                    previews.append(preview)
        self._count(report, found, 0)
        _leave(report, Counter({DRY_RUN: len(found.steps)}))
        report.reason = DRY_RUN
        if not report.received:
            report.outcome, report.reason = Outcome.SKIPPED, "nothing_to_do"
            return
        if documents is not None:
            documents["previa"] = preview_markdown(previews)
        if previews:
            name = self._write_exact(report, previews)
            report.notes.append(f"textos exatos em {name}, legível só por você, por 7 dias")
        if groups and is_today:
            report.notes += self._plan_notes(self._store_plan(report, groups, None), groups)
        if reason:
            report.notes.append("a execução de verdade vai pedir aprovação")

    def _preview(
        self, cursor: psycopg.Cursor[Any], report: RunReport, group: Group
    ) -> ClientPreview | None:
        recipient = ledger.read_recipient(cursor, group.user_id)
        if recipient is None:
            return None
        on = business_date(report.as_of)
        obstacle = recipient.refusal or self._channels[group.channel].obstacle(recipient)
        return ClientPreview(
            user_id=group.user_id,
            channel=group.channel,
            template=self._channels[group.channel].template(
                [line_of(step, on) for step in group.steps]
            ),
            name=recipient.name,
            address=(recipient.email or "") if group.channel == "email" else recipient.phone,
            lines=tuple(line_of(step, on) for step in group.steps),
            obstacle=obstacle,
        )

    def _write_exact(self, report: RunReport, previews: Sequence[ClientPreview]) -> str:
        """Write the exact texts to a file that only its owner can read; its name."""
        self._previews.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self._previews / f"{report.run_id}.txt"
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as out:
            out.write(preview_exact(previews))
        return f"{self._previews.name}/{path.name}"

    # -- counting

    def _count(self, report: RunReport, found: Found, answered_steps: int) -> None:
        """What the evaluation settled by itself, and what is left to do."""
        settled = Counter(found.evaluated.settled)
        settled["answered"] += answered_steps
        report.received = len(found.steps) + settled.total()
        _leave(report, settled)


def _leave(report: RunReport, reasons: Counter[str]) -> None:
    for reason, count in reasons.items():
        if count:
            report.skipped[reason] = report.skipped.get(reason, 0) + count


def _notes(sent: Sent, told: Sent, leads: int) -> list[str]:
    """What a person wants to know beside the counts; no personal value."""
    notes = []
    words = {"whatsapp": "WhatsApp", "email": "e-mail"}
    for channel, word in words.items():
        messages = sum(count for (name, _), count in sent.messages.items() if name == channel)
        if messages:
            accepted = sent.messages[channel, "accepted"]
            notes.append(f"clientes por {word}: {messages} envios, {accepted} aceitos")
    digests = told.messages.total()
    if digests:
        accepted = told.messages["email", "accepted"]
        notes.append(f"resumos à equipe: {digests}, aceitos: {accepted}")
    if leads:
        notes.append(f"leads de renovação: {leads}")
    for (channel, reason, code), count in sorted(
        (sent.troubles + told.troubles).items(), key=lambda item: item[0][:2]
    ):
        number = f", código {code}" if code is not None else ""
        notes.append(f"{words[channel]} recusou {count}: {reason_pt(reason)}{number}")
    return notes


def _key(step: OpenStep) -> _Key:
    return (step.certificate_id, step.expires_at, step.threshold)


def _row(step: OpenStep) -> str:
    """A step as a plan names it."""
    return f"{step.certificate_id} {step.expires_at.isoformat()} {step.threshold}"


def _parse_row(row: str) -> _Key:
    certificate_id, expires_at, threshold = row.split(" ")
    return (UUID(certificate_id), datetime.fromisoformat(expires_at), int(threshold))
