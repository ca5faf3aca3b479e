"""The ledger of alerts: steps, the messages that carry them, and what clients answered.

Every method is a few statements of one transaction of the caller's. What is due belongs to
``evaluation``, what to do next to ``sequence``, calls to ``sending``.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

from psycopg.rows import namedtuple_row

from gatte_pipelines.certificates.policy import AlertPolicy, Answer, answered
from gatte_pipelines.certificates.sequence import Attempt
from gatte_pipelines.certificates.texts import parse_payload
from gatte_pipelines.database.statements import read_statements
from gatte_pipelines.messaging.channels import Outcome, SendResult
from gatte_pipelines.messaging.whatsapp_errors import NOT_DELIVERED, classify

if TYPE_CHECKING:
    import psycopg

_SQL = read_statements(Path(__file__).with_name("ledger.sql"))

# What a transaction may wait for a lock; the rows are met again by the next run.
LOCK_TIMEOUT = "5s"

_STATE_OF = {
    Outcome.ACCEPTED: "accepted",
    Outcome.FAILED: "failed",
    Outcome.DEFERRED: "deferred",
    Outcome.UNKNOWN: "unknown",
}


@dataclass(frozen=True, kw_only=True)
class OpenStep:
    """A step that is due, with its certificate.

    Attributes:
        step_id: Of the ledger.
        certificate_id: Whose.
        expires_at: The expiry it is about.
        threshold: Days before the expiry; negative after it.
        audience: Who is to be told.
        reason: ``maybe_renewed`` where another certificate may have replaced it; else None.
        type: Of the certificate.
        user_id: Its client.
        service: Name of the service.
        monthly_value: Of the service, in R$; None where it has none or was cancelled.
        answer: What the client answered last to alerts of this expiry; None without an answer.
        told_at: When the client was last told of this expiry; None where never.
    """

    step_id: UUID
    certificate_id: UUID
    expires_at: datetime
    threshold: int
    audience: str
    reason: str | None
    type: str
    user_id: UUID
    service: str
    monthly_value: Decimal | None
    answer: str | None
    told_at: datetime | None


@dataclass(frozen=True, kw_only=True)
class Recipient:
    """A client at the instant of sending. Its repr shows no personal value."""

    user_id: UUID
    name: str | None = field(repr=False)
    phone: str = field(repr=False)
    email: str | None = field(repr=False)
    bsuid: str | None = field(repr=False)
    is_anonymized: bool
    is_opted_out: bool

    @property
    def refusal(self) -> str:
        """Why nothing may be sent, on no channel; empty where something may."""
        if self.is_anonymized:
            return "anonymized"
        return "opted_out" if self.is_opted_out else ""


@dataclass(frozen=True, kw_only=True)
class Followed:
    """What statuses and answers changed.

    Attributes:
        settled: Messages of which more is known now.
        reopened: Steps that are due again, since their message failed.
        answers: Presses of buttons.
        answered_steps: Steps that these made needless.
        attempts: The messages settled.
    """

    settled: int = 0
    reopened: int = 0
    answers: int = 0
    answered_steps: int = 0
    attempts: tuple[UUID, ...] = ()


@contextmanager
def open_transaction(
    driver: psycopg.Connection, as_of: datetime, *, rehearses: bool = False
) -> Iterator[psycopg.Cursor[Any]]:
    """A transaction at ``as_of``; rows as named tuples. One that rehearses is rolled back."""
    with (
        driver.transaction(force_rollback=rehearses),
        driver.cursor(row_factory=namedtuple_row) as cursor,
    ):
        driver.execute(
            "select set_config('gatte.as_of', %s, true), "
            "set_config('lock_timeout', %s, true), set_config('jit', 'off', true)",
            [as_of.isoformat(), LOCK_TIMEOUT],
        )
        yield cursor


def follow(cursor: psycopg.Cursor[Any], policy: AlertPolicy) -> Followed:
    """Settle what statuses and answers tell of messages that were sent before."""
    settled: list[UUID] = []
    reopened = 0
    cursor.execute(_SQL["find_followed"])
    for row in cursor.fetchall():
        state, result = _judge_statuses(row)
        if state == row.state:
            continue
        settled.append(row.attempt_id)
        _settle_message(
            cursor,
            row.attempt_id,
            state,
            result=result,
            message_id=row.message_id,
            delivered_at=row.delivered_at,
        )
        if state != "failed":
            cursor.execute(_SQL["tell_steps"], {"attempt_id": row.attempt_id})
        elif result is not None and result.opted_out:
            cursor.execute(
                _SQL["skip_steps_of_message"],
                {"attempt_id": row.attempt_id, "reason": "opted_out"},
            )
        else:
            cursor.execute(_SQL["reopen_steps"], {"attempt_id": row.attempt_id})
            reopened += cursor.rowcount
    cursor.execute(_SQL["give_up_following"])
    settle_alert_sent(cursor, find_certificates(cursor, settled))
    answers = _take_answers(cursor)
    return Followed(
        settled=len(settled),
        attempts=tuple(settled),
        reopened=reopened,
        answers=answers,
        answered_steps=settle_answered(cursor, policy),
    )


def _judge_statuses(row: Any) -> tuple[str, SendResult | None]:
    if row.delivered_at is not None:
        return ("read" if row.is_read else "delivered"), None
    if row.has_failed:
        code = NOT_DELIVERED if row.error_code is None else row.error_code
        return "failed", classify(code, http_status=None)
    return "accepted", None


def _take_answers(cursor: psycopg.Cursor[Any]) -> int:
    """Write the answers of new presses of our buttons; how many there were."""
    cursor.execute(_SQL["find_new_replies"])
    taken = 0
    for row in cursor.fetchall():
        pressed = parse_payload(row.payload)
        if pressed is None:
            continue
        cursor.execute(
            _SQL["write_answer"],
            {
                "answer": pressed.answer,
                "answered_at": row.pressed_at,
                "reply_id": row.message_id,
                "attempt_id": pressed.attempt_id,
                "subject_id": row.user_id,
            },
        )
        taken += cursor.rowcount > 0
    return taken


def settle_answered(cursor: psycopg.Cursor[Any], policy: AlertPolicy) -> int:
    """Settle open steps that an answer makes needless; how many."""
    cursor.execute(_SQL["find_answers_of_open_steps"])
    needless = [
        row.step_id
        for row in cursor.fetchall()
        if answered(policy, row.audience, row.threshold, [Answer(each) for each in row.answers])
    ]
    return settle_steps(cursor, needless, "answered", None)


def settle_steps(
    cursor: psycopg.Cursor[Any], step_ids: Sequence[UUID], state: str, reason: str | None
) -> int:
    """End steps that are due; how many were."""
    if not step_ids:
        return 0
    cursor.execute(
        _SQL["settle_steps"], {"ids": list(step_ids), "step_state": state, "reason": reason}
    )
    return cursor.rowcount


def find_open(
    cursor: psycopg.Cursor[Any],
) -> tuple[list[OpenStep], Mapping[UUID, dict[str, Attempt]]]:
    """The steps that are due, and their attempts by step and channel."""
    cursor.execute(_SQL["find_open_steps"])
    steps = [OpenStep(**row._asdict()) for row in cursor.fetchall()]
    attempts: dict[UUID, dict[str, Attempt]] = defaultdict(dict)
    cursor.execute(_SQL["find_open_attempts"])
    for row in cursor.fetchall():
        attempts[row.step_id][row.channel] = Attempt(
            attempt_id=row.attempt_id,
            channel=row.channel,
            state=row.state,
            reason=row.reason,
            intended_at=row.intended_at,
        )
    return steps, attempts


def read_recipient(cursor: psycopg.Cursor[Any], user_id: UUID) -> Recipient | None:
    """A client as it is now; None where it became part of another."""
    cursor.execute(_SQL["find_recipient"], {"subject_id": user_id})
    row = cursor.fetchone()
    return None if row is None else Recipient(user_id=user_id, **row._asdict())


def lock_steps(
    cursor: psycopg.Cursor[Any], steps: Collection[OpenStep], user_id: UUID
) -> set[UUID]:
    """Those steps of one client that still stand; locked until the transaction ends."""
    cursor.execute(
        _SQL["lock_steps"], {"ids": [step.step_id for step in steps], "subject_id": user_id}
    )
    return {row.step_id for row in cursor.fetchall()}


def intend(
    cursor: psycopg.Cursor[Any],
    attempt_id: UUID,
    step_ids: Sequence[UUID],
    *,
    audience: str,
    channel: str,
    template: str | None,
) -> None:
    """Write that a message is about to be sent; commit before it is."""
    _unlink_deferred(cursor, channel, step_ids)
    _write_message(
        cursor, attempt_id, audience=audience, channel=channel, template=template, state="intended"
    )
    _link(cursor, attempt_id, channel, step_ids)


def fail_unsent(
    cursor: psycopg.Cursor[Any],
    attempt_id: UUID,
    step_ids: Sequence[UUID],
    *,
    audience: str,
    channel: str,
    reason: str,
) -> None:
    """Write that a channel could not even be tried, and why."""
    _unlink_deferred(cursor, channel, step_ids)
    _write_message(
        cursor,
        attempt_id,
        audience=audience,
        channel=channel,
        template=None,
        state="failed",
        reason=reason,
    )
    _link(cursor, attempt_id, channel, step_ids)


def drop_regrouped(cursor: psycopg.Cursor[Any], attempt_ids: Collection[UUID]) -> None:
    """End deferred messages whose steps went on with another."""
    if attempt_ids:
        cursor.execute(_SQL["drop_regrouped"], {"ids": sorted(attempt_ids)})


def record_result(
    cursor: psycopg.Cursor[Any], attempt_id: UUID, result: SendResult, message_id: UUID | None
) -> None:
    """Write how a call ended, and settle the steps that it settles."""
    _settle_message(
        cursor, attempt_id, _STATE_OF[result.outcome], result=result, message_id=message_id
    )
    if result.outcome is Outcome.ACCEPTED:
        cursor.execute(_SQL["tell_steps"], {"attempt_id": attempt_id})
    elif result.opted_out:
        cursor.execute(
            _SQL["skip_steps_of_message"], {"attempt_id": attempt_id, "reason": "opted_out"}
        )


def has_client_messages(cursor: psycopg.Cursor[Any]) -> bool:
    """Whether any client was ever written to from this database."""
    cursor.execute(_SQL["has_client_messages"])
    row = cursor.fetchone()
    return bool(row and row.has_any)


def settle_alert_sent(cursor: psycopg.Cursor[Any], certificate_ids: Collection[UUID]) -> None:
    """Bring ``certificates.alert_sent`` in line with the ledger; only rows that differ."""
    if certificate_ids:
        cursor.execute(_SQL["settle_alert_sent"], {"ids": sorted(certificate_ids)})


def find_certificates(cursor: psycopg.Cursor[Any], attempt_ids: Collection[UUID]) -> set[UUID]:
    """The certificates that messages told of."""
    if not attempt_ids:
        return set()
    cursor.execute(_SQL["certificates_of_message"], {"ids": sorted(attempt_ids)})
    return {row.certificate_id for row in cursor.fetchall()}


def name_plan(cursor: psycopg.Cursor[Any], plan_id: UUID, step_ids: Sequence[UUID]) -> None:
    """Write by which plan steps are carried out."""
    cursor.execute(_SQL["name_plan"], {"plan_id": plan_id, "ids": list(step_ids)})


def find_steps_of_plan(
    cursor: psycopg.Cursor[Any], plan_id: UUID
) -> set[tuple[UUID, datetime, int]]:
    """What a plan did already: certificate, expiry and threshold of each step."""
    cursor.execute(_SQL["find_steps_of_plan"], {"plan_id": plan_id})
    return {(row.certificate_id, row.expires_at, row.threshold) for row in cursor.fetchall()}


def make_renewal_leads(
    cursor: psycopg.Cursor[Any], certificate_ids: Collection[UUID], lead_days: int
) -> tuple[int, int]:
    """Leads for what this transaction found to expire soon: leads made, certificates in leads."""
    cursor.execute(
        _SQL["make_renewal_leads"], {"ids": sorted(certificate_ids), "lead_days": lead_days}
    )
    row = cursor.fetchone()
    return (row.leads, row.certificates) if row is not None else (0, 0)


@dataclass(frozen=True, kw_only=True)
class Untold:
    """What a staff digest tells once, as rows of the statements of the same names.

    Attributes:
        steps: Of ``find_unreported``.
        answers: Of ``find_unreported_answers``.
        at_risk: Of ``sum_at_risk``, one a horizon.
    """

    steps: tuple[Any, ...]
    answers: tuple[Any, ...]
    at_risk: tuple[Any, ...]


def find_untold(cursor: psycopg.Cursor[Any]) -> Untold:
    """What staff were not told of yet, and the monthly value at risk."""
    found = {}
    for name in ("find_unreported", "find_unreported_answers", "sum_at_risk"):
        cursor.execute(_SQL[name])
        found[name] = tuple(cursor.fetchall())
    return Untold(
        steps=found["find_unreported"],
        answers=found["find_unreported_answers"],
        at_risk=found["sum_at_risk"],
    )


def find_leads_made(cursor: psycopg.Cursor[Any], certificate_ids: Collection[UUID]) -> list[Any]:
    """Renewal leads that this run made or joined, among those of some certificates."""
    cursor.execute(_SQL["find_leads_made"], {"ids": sorted(certificate_ids)})
    return cursor.fetchall()


def mark_told(cursor: psycopg.Cursor[Any], untold: Untold) -> None:
    """Remember that staff were told."""
    if untold.steps:
        cursor.execute(_SQL["mark_reported"], {"ids": [row.step_id for row in untold.steps]})
    if untold.answers:
        newest = max(row.answered_at for row in untold.answers)
        cursor.execute(_SQL["mark_answers_reported"], {"instant": newest})


def _write_message(
    cursor: psycopg.Cursor[Any],
    attempt_id: UUID,
    *,
    audience: str,
    channel: str,
    template: str | None,
    state: str,
    reason: str | None = None,
) -> None:
    cursor.execute(
        _SQL["intend_message"],
        {
            "attempt_id": attempt_id,
            "audience": audience,
            "channel": channel,
            "template": template,
            "message_state": state,
            "reason": reason,
        },
    )


def _unlink_deferred(cursor: psycopg.Cursor[Any], channel: str, step_ids: Sequence[UUID]) -> None:
    cursor.execute(_SQL["unlink_deferred"], {"channel": channel, "ids": list(step_ids)})


def _link(
    cursor: psycopg.Cursor[Any], attempt_id: UUID, channel: str, step_ids: Sequence[UUID]
) -> None:
    """Note what a message tells; a step that stands on this channel already breaks the key."""
    cursor.execute(
        _SQL["link_steps"],
        {"attempt_id": attempt_id, "channel": channel, "ids": list(step_ids)},
    )


def _settle_message(
    cursor: psycopg.Cursor[Any],
    attempt_id: UUID,
    state: str,
    *,
    result: SendResult | None,
    message_id: UUID | None,
    delivered_at: datetime | None = None,
) -> None:
    cursor.execute(
        _SQL["settle_message"],
        {
            "attempt_id": attempt_id,
            "message_state": state,
            "reason": (result.reason or None) if result else None,
            "error_code": result.error_code if result else None,
            "message_id": message_id,
            "delivered_at": delivered_at,
        },
    )
