"""Which channel a step takes next. Pure: what was attempted comes in, nothing is read here.

A channel is tried once. The next one is for a step whose channel failed, or of which nobody knew
for some business hours whether it worked.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID

OBSTACLES = frozenset({"no_phone", "no_email", "bad_email"})
"""Why a channel could not even be tried for a client."""


class Move(StrEnum):
    """What to do with a step now.

    ``SEND``: by the channel beside it. ``WAIT``: nothing in this run. ``GIVE_UP``: no channel is
    left.
    """

    SEND = "send"
    WAIT = "wait"
    GIVE_UP = "give_up"


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """One attempt as the ledger has it.

    Attributes:
        attempt_id: Of its message.
        channel: By which it went.
        state: Of its message, as in ``pipeline.alert_messages``.
        reason: Why it was not accepted, where it was not.
        intended_at: When it was about to be sent.
    """

    attempt_id: UUID
    channel: str
    state: str
    reason: str | None
    intended_at: datetime


@dataclass(frozen=True, kw_only=True)
class Next:
    """The next move of a step.

    Attributes:
        move: What to do.
        channel: By which; empty unless it is sent.
        again: The attempt that is made again, since a limit refused it; None for a new one.
        reason: Why it waits or is given up.
    """

    move: Move
    channel: str = ""
    again: UUID | None = None
    reason: str = ""


def next_move(
    order: Sequence[str],
    attempts: Mapping[str, Attempt],
    *,
    allowed: Collection[str],
    silence: Callable[[datetime], timedelta],
    patience: timedelta,
) -> Next:
    """Decide the next move of one step.

    Args:
        order: The channels of its audience, first choice first.
        attempts: Those made, by channel.
        allowed: Channels that may be used in this run; a step whose turn another one is waits.
        silence: Business time since an instant.
        patience: Business time after which nothing more is expected of an attempt whose end
            nobody knows.
    """
    last = "no_channel"
    for channel in order:
        attempt = attempts.get(channel)
        if attempt is None or attempt.state == "deferred":
            if channel not in allowed:
                return Next(move=Move.WAIT, reason="channel_off")
            again = attempt.attempt_id if attempt else None
            return Next(move=Move.SEND, channel=channel, again=again)
        if attempt.state in {"intended", "unknown"}:
            if silence(attempt.intended_at) < patience:
                return Next(move=Move.WAIT, reason="waiting")
            last = "unknown"
        elif attempt.state == "failed":
            # Where one channel refused, that says more than that there is no other.
            last = last if attempt.reason in OBSTACLES else attempt.reason or last
        else:
            return Next(move=Move.WAIT, reason="accepted")
    return Next(move=Move.GIVE_UP, reason=last)
