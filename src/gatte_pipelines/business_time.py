"""Business dates of GATTE, in São Paulo's calendar. No clock is read here."""

from __future__ import annotations

from datetime import date, datetime
from zoneinfo import ZoneInfo

ZONE = ZoneInfo("America/Sao_Paulo")
"""The zone of every business date; SQL says the same in ``pipeline.business_date``."""


def business_date(instant: datetime) -> date:
    """The date in São Paulo at an instant.

    Args:
        instant: With a time zone.
    """
    return instant.astimezone(ZONE).date()
