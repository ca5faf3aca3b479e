"""When whom to tell of a certificate that expires. Pure: dates and facts come in, steps come out.

A step is a threshold of one audience: days before the expiry, negative after it. It is current
from its day until the next is reached, so that a run that did not happen is made up by the next.
Reading ``config/alerts.yaml`` belongs to ``policy_text``, what stands in the database to
``evaluation``.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from enum import StrEnum
from functools import cached_property
from uuid import UUID

from gatte_pipelines.business_time import ZONE, BusinessCalendar

AUDIENCES = ("client", "staff", "owner", "manager")
TYPES = ("e-CPF", "e-CNPJ", "e-NFe", "e-CT")
CHANNELS = ("whatsapp", "email")
ESCALATIONS = frozenset({"owner", "manager"})
"""Audiences that are told because the client did not answer; any answer stops them."""

REPLACES_FROM = timedelta(days=90)
REPLACES_UNTIL = timedelta(days=60)
"""How long before and after an expiry a certificate is issued that replaces the expiring one."""

# Longer than any run of days on which nobody works.
_LONGEST_CLOSURE_DAYS = 14


class Answer(StrEnum):
    """What a client answers by a button."""

    RENEW = "renew"
    RENEWED = "renewed"
    LATER = "later"


@dataclass(frozen=True, kw_only=True)
class AlertPolicy:
    """When whom to tell, and how.

    Attributes:
        thresholds: Days before the expiry by type and audience, descending; negative after it.
        last_days: Days after the expiry until which the last step is current.
        urgent_days: Thresholds up to this go before a weekend or holiday, others after it.
        opens_at: From when clients are written to on business days, in São Paulo.
        closes_at: Until when.
        unknown_hours: Business hours after which an attempt of unknown end is given up.
        approval_messages: More client messages in one run need a person's approval.
        channels: By audience, the first choice first.
        renewal_lead_days: From which threshold on a renewal lead is made.
        resumes_at: By answer: the client's steps above this threshold are needless; None: all.
        template: Base of the names of the WhatsApp templates.
        template_version: Their version.
    """

    thresholds: Mapping[tuple[str, str], tuple[int, ...]]
    last_days: int
    urgent_days: int
    opens_at: time
    closes_at: time
    unknown_hours: int
    approval_messages: int
    channels: Mapping[str, tuple[str, ...]]
    renewal_lead_days: int
    resumes_at: Mapping[Answer, int | None]
    template: str
    template_version: int

    @cached_property
    def digest(self) -> str:
        """Of what decides which steps there are; another one makes the next run look at all."""
        decides = {
            "thresholds": sorted((*key, *days) for key, days in self.thresholds.items()),
            "last_days": self.last_days,
            "urgent_days": self.urgent_days,
        }
        return hashlib.sha256(json.dumps(decides, default=str).encode()).hexdigest()[:32]


@dataclass(frozen=True, kw_only=True, order=True)
class StepWindow:
    """The current step of every certificate of a type that expires on a date."""

    type: str
    audience: str
    expiry_date: date
    threshold: int


def current_steps(
    policy: AlertPolicy, calendar: BusinessCalendar, on: date
) -> frozenset[StepWindow]:
    """The current step by type, audience and expiry date.

    Args:
        policy: The thresholds.
        calendar: Of business days.
        on: The business date.
    """
    found = set()
    for (type_, audience), thresholds in policy.thresholds.items():
        if not thresholds:
            continue
        # Before a long weekend a step may be reached some days early.
        farthest = max(thresholds) + _LONGEST_CLOSURE_DAYS
        for days in range(-policy.last_days, farthest + 1):
            expiry_date = on + timedelta(days=days)
            reached = [
                threshold
                for threshold in thresholds
                if on >= reached_on(policy, calendar, expiry_date, threshold)
            ]
            if reached:
                found.add(
                    StepWindow(
                        type=type_,
                        audience=audience,
                        expiry_date=expiry_date,
                        threshold=min(reached),
                    )
                )
    return frozenset(found)


def reached_on(
    policy: AlertPolicy, calendar: BusinessCalendar, expiry_date: date, threshold: int
) -> date:
    """The business day from which a step is current.

    An urgent one goes on the last business day before a weekend or holiday, others on the next.
    """
    day = expiry_date - timedelta(days=threshold)
    if threshold <= policy.urgent_days:
        return calendar.previous_business_day(day)
    return calendar.next_business_day(day)


def new_steps(
    policy: AlertPolicy, calendar: BusinessCalendar, before: date | None, on: date
) -> frozenset[StepWindow]:
    """The steps that are current on a date and were not on an earlier one.

    Args:
        policy: The thresholds.
        calendar: Of business days.
        before: The date of the last evaluation; None where there was none.
        on: The business date.
    """
    steps = current_steps(policy, calendar, on)
    return steps if before is None else steps - current_steps(policy, calendar, before)


def higher_thresholds(
    policy: AlertPolicy, type_: str, audience: str, threshold: int
) -> tuple[int, ...]:
    """The steps that a current one supersedes."""
    return tuple(days for days in policy.thresholds[type_, audience] if days > threshold)


def answered(
    policy: AlertPolicy, audience: str, threshold: int, answers: Collection[Answer]
) -> bool:
    """Whether what a client answered makes a step needless.

    Args:
        policy: From which threshold on the client is told again.
        audience: Of the step.
        threshold: Of the step.
        answers: To alerts of the same expiry.
    """
    if audience in ESCALATIONS:
        return bool(answers)
    if audience != "client":
        return False
    for answer in answers:
        if answer in policy.resumes_at:
            resumes_at = policy.resumes_at[answer]
            if resumes_at is None or threshold > resumes_at:
                return True
    return False


def is_open(policy: AlertPolicy, calendar: BusinessCalendar, instant: datetime) -> bool:
    """Whether clients may be written to at an instant."""
    local = instant.astimezone(ZONE)
    return (
        calendar.is_business_day(local.date())
        and policy.opens_at <= local.time() < policy.closes_at
    )


@dataclass(frozen=True, kw_only=True)
class Issued:
    """A certificate as far as it decides what replaces what."""

    certificate_id: UUID
    issued_at: datetime
    expires_at: datetime
    status: str


@dataclass(frozen=True, kw_only=True)
class Pairing:
    """What replaces what among certificates of one service, client and type.

    Attributes:
        replaced: The successor of each replaced certificate.
        maybe: Certificates that have none, though one was issued that could have been theirs.
    """

    replaced: Mapping[UUID, UUID]
    maybe: frozenset[UUID]


def pair_successors(group: Sequence[Issued]) -> Pairing:
    """Pair certificates with their successors, one to one, the oldest expiry first.

    Args:
        group: Certificates of one service, client and type.
    """
    stands = [
        one
        for one in group
        # Dates that cannot be are nobody's successor, and are shown to staff in any case.
        if one.status not in {"revoked", "pending"} and one.expires_at >= one.issued_at
    ]
    stands.sort(key=lambda one: (one.expires_at, one.issued_at, one.certificate_id))
    newer = sorted(stands, key=lambda one: (one.issued_at, one.expires_at, one.certificate_id))
    taken: set[UUID] = set()
    replaced: dict[UUID, UUID] = {}
    maybe = set()
    for old in stands:
        fitting = [one for one in newer if _may_replace(one, old)]
        free = [one for one in fitting if one.certificate_id not in taken]
        if free:
            replaced[old.certificate_id] = free[0].certificate_id
            taken.add(free[0].certificate_id)
        elif fitting:
            maybe.add(old.certificate_id)
    return Pairing(replaced=replaced, maybe=frozenset(maybe))


def _may_replace(new: Issued, old: Issued) -> bool:
    return (
        new.issued_at > old.issued_at
        and new.expires_at > old.expires_at
        and old.expires_at - REPLACES_FROM <= new.issued_at <= old.expires_at + REPLACES_UNTIL
    )


@dataclass(frozen=True, kw_only=True)
class Recipients:
    """Who of staff is told. Its repr shows no address.

    Attributes:
        addresses: By audience and type; the type may be empty for all types.
        default: Where nothing else is said.
    """

    addresses: Mapping[tuple[str, str], tuple[str, ...]]
    default: tuple[str, ...]

    def __repr__(self) -> str:
        return f"Recipients({len(self.addresses)} entries)"

    def to(self, audience: str, types: Collection[str]) -> tuple[str, ...]:
        """The addresses for certificates of some types, each once, in the order of the file.

        Args:
            audience: Of the step.
            types: Of the certificates; empty for what is of no type.
        """
        general = self.addresses.get((audience, ""), self.default)
        found: dict[str, None] = {}
        for type_ in sorted(types) or [""]:
            found |= dict.fromkeys(self.addresses.get((audience, type_), general))
        return tuple(found)
