"""What staff are told of certificates in one mail: the data. Drawing it belongs to ``digest_page``.

Clients are known here by ``users.id`` only; no personal value has a place in these records.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from uuid import UUID

from gatte_pipelines.certificates.texts import Line


@dataclass(frozen=True, kw_only=True)
class Affected:
    """A certificate and whose it is.

    Attributes:
        line: The certificate.
        user_id: ``users.id`` of the client.
    """

    line: Line
    user_id: UUID


@dataclass(frozen=True, kw_only=True)
class DigestEntry(Affected):
    """A step of this audience that is due.

    Attributes:
        threshold: The step, in days before the expiry; negative after it.
        told_on: When the client was last told of this expiry; None where never.
        answer: The client's last answer (``renew``, ``renewed``, ``later``); None without one.
    """

    threshold: int
    told_on: date | None = None
    answer: str | None = None


@dataclass(frozen=True, kw_only=True)
class Undelivered(Affected):
    """A step that reached nobody by any channel.

    Attributes:
        audience: Whom it was for.
        reason: A code: ``no_channel``, ``opted_out``, ``undeliverable`` and so on.
    """

    audience: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class InDoubt(Affected):
    """A client who may have been told twice, since nobody knows what became of the first message.

    Attributes:
        channel: Whose answer was lost.
        next_channel: By which it was told again; None where there was no other.
    """

    channel: str
    next_channel: str | None


@dataclass(frozen=True, kw_only=True)
class ClientAnswer(Affected):
    """An answer that came since the last digest."""

    answer: str
    answered_on: date


@dataclass(frozen=True, kw_only=True)
class NewLead(Affected):
    """A renewal lead that was made since the last digest."""

    lead_id: UUID


@dataclass(frozen=True, kw_only=True)
class ChannelTrouble:
    """Why a channel took nothing, or not what it should.

    Attributes:
        channel: ``whatsapp`` or ``email``.
        reason: A code: ``token``, ``template_missing`` and so on.
        error_code: The vendor's number, or None.
        messages: How many it did not take for that.
    """

    channel: str
    reason: str
    error_code: int | None = None
    messages: int = 0


@dataclass(frozen=True, kw_only=True)
class AtRisk:
    """What the services are worth whose certificates expire soon without a successor.

    Attributes:
        days: Within how many days from now; 60 includes what 30 has.
        certificates: How many certificates.
        services: How many services; one with several such certificates is one.
        monthly_value: Of these services, in reais a month.
        without_value: Services among them of which no value is known.
    """

    days: int
    certificates: int
    services: int
    monthly_value: Decimal
    without_value: int = 0


@dataclass(frozen=True, kw_only=True)
class Digest:
    """One mail for one audience. Everything is given whole; what is too long is cut when drawn.

    Attributes:
        audience: ``staff``, ``owner`` or ``manager``.
        on: The business date.
        due: Steps that are due to this audience.
        at_risk: One a horizon, the nearest first.
        undelivered: What reached nobody.
        in_doubt: What went on to the next channel because of a lost answer.
        answers: What clients answered.
        leads: Renewal leads made.
        lapsed: Expired so long ago that nobody is told any more; each is listed once.
        lapsed_before: How many were so already before the first evaluation.
        channels: Trouble of whole channels.
    """

    audience: str
    on: date
    due: tuple[DigestEntry, ...] = ()
    at_risk: tuple[AtRisk, ...] = ()
    undelivered: tuple[Undelivered, ...] = ()
    in_doubt: tuple[InDoubt, ...] = ()
    answers: tuple[ClientAnswer, ...] = ()
    leads: tuple[NewLead, ...] = ()
    lapsed: tuple[Affected, ...] = ()
    lapsed_before: int = 0
    channels: tuple[ChannelTrouble, ...] = ()

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to tell; what is at risk is no news by itself."""
        return not (
            self.due
            or self.undelivered
            or self.in_doubt
            or self.answers
            or self.leads
            or self.lapsed
            or self.lapsed_before
            or self.channels
        )
