"""Usual webhook notifications, in one pass: texts and delivery statuses in which nothing is odd.

Nearly every notification is one. What has another shape is read by ``envelope``, which judges every
unit alone and knows why one is refused; it gives the same units of a usual notification. So nothing
is decided here: a check says only whether ``envelope`` has to look. No I/O.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from gatte_pipelines.inbound.content import MAX_WAMID_CHARACTERS, is_opt_out
from gatte_pipelines.inbound.envelope import (
    BSUID,
    EARLIEST_US,
    MAX_NAME_CHARACTERS,
    UUID,
)
from gatte_pipelines.inbound.units import (
    Horizon,
    Message,
    Sender,
    Skipped,
    Source,
    StatusEvent,
    Unit,
)
from gatte_pipelines.phones import is_possible_wa_id

# So few that not even the smallest records reach MAX_UNITS_OF_LINE, which is envelope's to check.
_MAX_BYTES: Final = 512 * 1024
# As Meta writes it, and what spares the chatbot's events the attempt.
_START: Final = b'{"object":'
# The clients who write at the same time; each is read once, not once for every message.
_REMEMBERED_SENDERS: Final = 1 << 12
_PROVIDER: Final = Source.PROVIDER
_EMPTY: Final = Skipped("empty_notification")

_Wamid = Annotated[str, Meta(min_length=1, max_length=MAX_WAMID_CHARACTERS)]
_Timestamp = Annotated[str, Meta(max_length=18)]
_Code = Annotated[int, Meta(ge=0, lt=2**31)]


# None as a type is a field that must not be there: what has it is not usual. JSON has no cycles
# for the garbage collector to find.
class _Profile(msgspec.Struct, gc=False):
    name: str | None = None


class _Contact(msgspec.Struct, gc=False):
    profile: _Profile | None = None
    wa_id: str | None = None
    user_id: str | None = None
    parent_user_id: str | None = None


class _Text(msgspec.Struct, gc=False):
    # A line of _MAX_BYTES holds none that is longer than a content may be.
    body: Annotated[str, Meta(min_length=1)]


class _Message(msgspec.Struct, gc=False, rename={"sender": "from"}):
    id: _Wamid
    timestamp: _Timestamp
    type: Literal["text"]
    text: _Text
    sender: str | None = None
    from_user_id: str | None = None
    from_parent_user_id: str | None = None
    group_id: None = None
    recipient_type: Literal["individual"] | None = None


class _Pricing(msgspec.Struct, gc=False):
    category: Literal["marketing", "utility", "authentication", "service"] | None = None


class _StatusError(msgspec.Struct, gc=False):
    code: _Code | None = None


class _Status(msgspec.Struct, gc=False):
    id: _Wamid
    status: Literal["sent", "delivered", "read", "played", "failed"]
    timestamp: _Timestamp
    group_id: None = None
    recipient_type: Literal["individual"] | None = None
    pricing: _Pricing | None = None
    errors: list[_StatusError] | None = None
    biz_opaque_callback_data: str | None = None


class _Value(msgspec.Struct, gc=False):
    contacts: list[_Contact] | None = None
    messages: list[_Message] | None = None
    statuses: list[_Status] | None = None
    errors: None = None


class _Change(msgspec.Struct, gc=False):
    field: Literal["messages"]
    value: _Value


class _Entry(msgspec.Struct, gc=False):
    changes: list[_Change]


class _Notification(msgspec.Struct, gc=False):
    object: Literal["whatsapp_business_account"]
    entry: list[_Entry]
    schema: None = None  # only the chatbot's events have one


class _UnusualError(Exception):
    """Something in the notification is for ``envelope`` to judge."""


_decode = msgspec.json.Decoder(_Notification).decode
_UNUSUAL = (
    _UnusualError,
    msgspec.DecodeError,
    UnicodeDecodeError,
    RecursionError,
)


def read_usual(line: bytes, horizon: Horizon) -> list[Unit] | None:
    """Every unit of a usual notification, in order; None where it is not one, or no notification.

    Args:
        line: One line of an inbound file.
        horizon: The instants between which a record creates something.
    """
    if not line.startswith(_START) or len(line) > _MAX_BYTES:
        return None
    units: list[Unit] = []
    try:
        for entry in _decode(line).entry:
            for change in entry.changes:
                value = change.value
                if value.messages:
                    _read_messages(value.messages, value.contacts or [], horizon, units)
                if value.statuses:
                    _read_statuses(value.statuses, horizon, units)
    except _UNUSUAL:
        return None
    return units or [_EMPTY]


# Both loops run for every unit of a load: what is written out in them is a call spared.


def _read_messages(
    messages: list[_Message], contacts: list[_Contact], horizon: Horizon, units: list[Unit]
) -> None:
    first_us, latest_us = _first_us(horizon), horizon.latest_us
    # Found by id, never by place (§3.2); of several contacts of one id the first counts.
    by_wa_id: dict[str | None, _Contact] = {}
    by_bsuid: dict[str | None, _Contact] = {}
    for contact in contacts:
        by_wa_id.setdefault(contact.wa_id, contact)
        by_bsuid.setdefault(contact.user_id, contact)
    for message in messages:
        timestamp, text = message.timestamp, message.text.body
        # int() alone also takes signs, spaces, underscores and the digits of other scripts.
        at_us = int(timestamp) * 1_000_000 if timestamp.isdigit() and timestamp.isascii() else 0
        if not first_us <= at_us <= latest_us:
            units.append(_skipped(at_us, horizon))
            continue
        wa_id, bsuid = message.sender, message.from_user_id
        parent_bsuid, name = message.from_parent_user_id, None
        if (wa_id is None and not bsuid) or "\0" in text:
            raise _UnusualError
        found = by_wa_id.get(wa_id) if wa_id is not None else None
        if found is None and bsuid is not None:
            found = by_bsuid.get(bsuid)
        if found is not None:
            bsuid = bsuid or found.user_id
            parent_bsuid = parent_bsuid or found.parent_user_id
            name = found.profile.name if found.profile is not None else None
        sender = _sender(wa_id, bsuid, parent_bsuid, name)
        key, opts_out = f"wamid:{message.id}", is_opt_out(text)
        units.append(
            Message(key, _PROVIDER, at_us, sender, "user", text, "client", None, None, opts_out)
        )


def _read_statuses(statuses: list[_Status], horizon: Horizon, units: list[Unit]) -> None:
    first_us, latest_us = _first_us(horizon), horizon.latest_us
    for status in statuses:
        timestamp = status.timestamp
        # As of a message.
        at = int(timestamp) if timestamp.isdigit() and timestamp.isascii() else 0
        if not first_us <= at * 1_000_000 <= latest_us:
            units.append(_skipped(at * 1_000_000, horizon))
            continue
        category = status.pricing.category if status.pricing is not None else None
        code = status.errors[0].code if status.errors else None
        attempt = status.biz_opaque_callback_data
        if attempt is not None and not UUID.fullmatch(attempt):
            attempt = None  # not one of ours: we only ever send the UUID of an attempt
        units.append(StatusEvent(status.id, status.status, at, code, category, attempt))


def _first_us(horizon: Horizon) -> int:
    """Whether an earlier record is skipped or refused is seen when there is one."""
    return max(horizon.earliest_us, horizon.cutover_us, EARLIEST_US)


def _skipped(at_us: int, horizon: Horizon) -> Skipped:
    """What becomes of a record outside the usual instants.

    Raises:
        _UnusualError: It is no time at all, or to come.
    """
    reason = horizon.skip_reason(at_us)
    if reason is None or not EARLIEST_US <= at_us <= horizon.latest_us:
        raise _UnusualError
    return Skipped(reason)


@lru_cache(maxsize=_REMEMBERED_SENDERS)
def _sender(
    wa_id: str | None, bsuid: str | None, parent_bsuid: str | None, name: str | None
) -> Sender:
    if wa_id is not None and not is_possible_wa_id(wa_id):
        raise _UnusualError
    for user_id in (bsuid, parent_bsuid):
        if user_id and not BSUID.fullmatch(user_id):
            raise _UnusualError
    name = (name or "").strip()
    if "\0" in name or len(name) > MAX_NAME_CHARACTERS:
        raise _UnusualError
    return Sender(wa_id=wa_id or "", bsuid=bsuid or "", parent_bsuid=parent_bsuid or "", name=name)
