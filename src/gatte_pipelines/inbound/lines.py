"""One line of an inbound file to its units: a webhook notification or an event of the chatbot.

Pure. Reading files belongs to ``load``.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

from gatte_pipelines.inbound import chatbot_events, envelope
from gatte_pipelines.inbound.units import Horizon, Unit
from gatte_pipelines.inbound.usual import read_usual

# An event from later than this after as_of is not a clock that is a little off (design §2).
FUTURE_TOLERANCE = timedelta(minutes=10)
RETENTION = timedelta(days=90)
"""DOC 01 §4: the content of messages is removed after 90 days; older records create nothing."""


def horizon(as_of: datetime, cutover_us: int = 0) -> Horizon:
    """The instants between which records create something, for a run of ``as_of``."""
    return Horizon(
        latest_us=_us(as_of + FUTURE_TOLERANCE),
        earliest_us=_us(as_of - RETENTION),
        cutover_us=cutover_us,
    )


def iter_units(line: bytes, within: Horizon) -> Iterator[Unit]:
    """Every unit of one line, in order.

    Args:
        line: One body, without its line end.
        within: The instants between which a record may lie.
    """
    # First: to search each notification for the chatbot's mark would cost a tenth more.
    units = read_usual(line, within)
    if units is not None:
        return iter(units)
    if chatbot_events.is_chatbot_event(line):
        return chatbot_events.iter_events(line, within)
    return envelope.iter_units(line, within)


def _us(instant: datetime) -> int:
    return int(instant.timestamp()) * 1_000_000 + instant.microsecond
