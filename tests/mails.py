"""Certificates, digests and previews to draw mails from, for tests of texts and of their look."""

from __future__ import annotations

from datetime import date, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from gatte_pipelines.certificates.digest import (
    Affected,
    AtRisk,
    ChannelTrouble,
    ClientAnswer,
    Digest,
    DigestEntry,
    InDoubt,
    NewLead,
    Undelivered,
)
from gatte_pipelines.certificates.texts import Line

TODAY = date(2026, 12, 8)
TYPES = ("e-CNPJ", "e-CPF", "e-NFe", "e-CT")
LONG_WORD = "ServiçoDeNomeCompridoSemEspaços" * 6


def uuid(number: int) -> UUID:
    """A made-up id."""
    return UUID(int=number, version=4)


def line(days: int, number: int = 1, **values: Any) -> Line:
    """A certificate that expires so many days after ``TODAY``."""
    given: dict[str, Any] = {
        "certificate_id": uuid(number),
        "type": "e-CNPJ",
        "service": "LC Web Profissional",
        "expires_on": TODAY + timedelta(days=days),
        "days": days,
    }
    return Line(**(given | values))


def lines(count: int, **values: Any) -> list[Line]:
    """Certificates of every type, some expired, none in order."""
    return [
        line(number * 7 % 75 - 14, number, type=TYPES[number % 4], **values)
        for number in range(count)
    ]


def digest(count: int, **values: Any) -> Digest:
    """A digest with so many entries of every kind."""
    each = [(one, uuid(5000 + number)) for number, one in enumerate(lines(count, **values))]
    answers = ("renew", "renewed", "later")
    return Digest(
        audience="staff",
        on=TODAY,
        due=tuple(
            DigestEntry(
                line=one,
                user_id=user,
                threshold=7 if one.days > 1 else -7,
                told_on=TODAY,
                answer=answers[number % 3],
            )
            for number, (one, user) in enumerate(each)
        ),
        at_risk=(
            AtRisk(
                days=30,
                certificates=40,
                services=32,
                monthly_value=Decimal("12345678.5"),
                without_value=3,
            ),
            AtRisk(days=60, certificates=80, services=64, monthly_value=Decimal("12345678.50")),
        ),
        undelivered=tuple(
            Undelivered(
                line=one,
                user_id=user,
                audience="client" if number % 2 else "owner",
                reason="opted_out" if number % 3 else "no_channel",
            )
            for number, (one, user) in enumerate(each)
        ),
        in_doubt=tuple(
            InDoubt(
                line=one,
                user_id=user,
                channel="whatsapp",
                next_channel="email" if number % 2 else None,
            )
            for number, (one, user) in enumerate(each)
        ),
        answers=tuple(
            ClientAnswer(line=one, user_id=user, answer=answers[number % 3], answered_on=TODAY)
            for number, (one, user) in enumerate(each)
        ),
        leads=tuple(
            NewLead(line=one, user_id=user, lead_id=uuid(9000 + number))
            for number, (one, user) in enumerate(each)
        ),
        lapsed=tuple(Affected(line=one, user_id=user) for one, user in each),
        lapsed_before=1234,
        channels=(
            ChannelTrouble(channel="whatsapp", reason="token", error_code=190, messages=12),
            ChannelTrouble(channel="whatsapp", reason="template_missing", error_code=132001),
        ),
    )
