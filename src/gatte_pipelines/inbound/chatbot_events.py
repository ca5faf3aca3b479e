"""The chatbot's own events, from bytes to units: its messages and the states of conversations.

The format is ``chatbot_event.v1.schema.json``, told in docs/chatbot_events.md. One line is one
unit. No I/O here, and no decision that needs the database; webhook notifications are read by
``envelope``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from gatte_pipelines.inbound.content import is_opt_out
from gatte_pipelines.inbound.units import (
    ConversationEvent,
    Horizon,
    Message,
    Rejected,
    Sender,
    Skipped,
    Source,
    Told,
    Unit,
)
from gatte_pipelines.phones import is_possible_wa_id

SCHEMA = "gatte.chatbot_event/1"

_CHATBOT = Source.CHATBOT
_FAMILY = "gatte.chatbot_event/"
# Without the slash, which PHP writes as \/.
_MARK = b"gatte.chatbot_event"
_USUAL_STARTS = (b'{"schema":"gatte.chatbot_event/', b'{"schema": "gatte.chatbot_event/')
_START = re.compile(rb'\s*\{\s*"schema"\s*:\s*"gatte\.chatbot_event\\?/')

# As of a webhook's text (envelope): twenty of these still fit a jsonb context.
_MAX_CONTENT_BYTES = 8 * 1024 * 1024
# WhatsApp is of 2009; an earlier event time is no time at all.
_EARLIEST_US = 1_230_768_000_000_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

# ISO country, a dot, up to 128 alphanumerics; parents of managed businesses add "ENT.".
_BSUID = re.compile(r"[A-Z]{2}\.(?:ENT\.)?[A-Za-z0-9]{1,128}")
_UUID = re.compile(r"[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}")

_Label = Annotated[str, Meta(max_length=100)]
_Id = Annotated[str, Meta(min_length=1, max_length=200)]
_Wamid = Annotated[str, Meta(min_length=1, max_length=512)]
_Instant = Annotated[datetime, Meta(tz=True)]


class _Event(msgspec.Struct, gc=False, tag_field="type", kw_only=True):
    schema: str
    phone: str | None = None
    bsuid: str | None = None
    user_id: str | None = None


class _MessageEvent(_Event, gc=False, tag="message", kw_only=True):
    role: Literal["user", "assistant", "system"]
    content: Annotated[str, Meta(min_length=1)]
    sent_at: _Instant
    wamid: _Wamid | None = None
    external_id: _Id | None = None
    author: Literal["client", "bot", "human", "campaign"] | None = None
    tokens_used: Annotated[int, Meta(ge=0, le=2**31 - 1)] | None = None
    intent_detected: _Label | None = None
    model: _Label | None = None
    mode: Literal["menu", "ai_free", "human", "flow"] | None = None
    current_flow: _Label | None = None


class _ConversationStatus(_Event, gc=False, tag="conversation", kw_only=True):
    event_id: _Id
    status: Literal["open", "waiting", "transferred", "closed"]
    at: _Instant
    closed_at: _Instant | None = None
    transferred_to: _Label | None = None


class _Head(msgspec.Struct, gc=False):
    schema: Any = msgspec.UNSET
    type: Any = msgspec.UNSET


class _InvalidEventError(ValueError):
    """Why an event cannot be loaded; no value in it."""

    def __init__(self, reason: str, field: str) -> None:
        super().__init__(reason)
        self.reason, self.field = reason, field


_KINDS = {"message": "chatbot_message", "conversation": "chatbot_conversation"}
_UNKNOWN_KIND = "chatbot_event"

_decode = msgspec.json.Decoder(_MessageEvent | _ConversationStatus).decode
_decode_head = msgspec.json.Decoder(_Head).decode
# What msgspec raises of a line that is no JSON, or JSON with a string that is no text.
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def is_chatbot_event(line: bytes) -> bool:
    """Tell whether a line is the chatbot's; if not, it is read as a webhook notification.

    A webhook costs one search for the mark. Where its text quotes the mark, the top level decides.

    Args:
        line: One JSON object, which may be broken.
    """
    if line.startswith(_USUAL_STARTS):
        return True
    if _MARK not in line:
        return False
    try:
        schema = _decode_head(line).schema
    except msgspec.ValidationError:
        return False
    except _UNREADABLE:
        document = _read_leniently(line)
        if document is None:
            return _START.match(line) is not None
        schema = document.get("schema") if isinstance(document, dict) else None
    return isinstance(schema, str) and schema.startswith(_FAMILY)


def iter_events(line: bytes, horizon: Horizon) -> Iterator[Unit]:
    """The one unit of an event: a message, a conversation's state, or why it is neither.

    Args:
        line: One event, for which ``is_chatbot_event`` holds.
        horizon: What is too late and what too old.
    """
    return iter((_to_unit(line, horizon),))


def _to_unit(line: bytes, horizon: Horizon) -> Unit:
    try:
        event = _decode(line)
    except msgspec.ValidationError as error:
        return _refuse_shape(line, error)
    except _UNREADABLE:
        return _refuse_unreadable(line)
    if event.schema != SCHEMA:
        return Rejected(_UNKNOWN_KIND, "not_yet_supported", "schema", line)
    try:
        if b"\\u0000" in line:
            _check_no_nul(event)
        if isinstance(event, _MessageEvent):
            return _message(event, horizon)
        return _conversation_event(event, horizon)
    except _InvalidEventError as error:
        kind = "chatbot_message" if isinstance(event, _MessageEvent) else "chatbot_conversation"
        return Rejected(kind, error.reason, error.field, line)


def _message(event: _MessageEvent, horizon: Horizon) -> Message | Skipped:
    if event.wamid is not None:
        if event.external_id is not None:
            raise _InvalidEventError("wrong_type", "external_id")
        key = "wamid:" + event.wamid
    elif event.external_id is not None:
        key = "chatbot:" + event.external_id
    else:
        raise _InvalidEventError("missing_field", "wamid")
    sender = _sender(event)
    content, role = event.content, event.role
    # A character has up to four bytes.
    if len(content) > _MAX_CONTENT_BYTES // 4 and len(content.encode()) > _MAX_CONTENT_BYTES:
        raise _InvalidEventError("too_long", "content")
    current_flow = _label(event.current_flow)
    if current_flow is not None and event.mode is None:
        raise _InvalidEventError("missing_field", "mode")
    sent_us = _to_us(event.sent_at, "sent_at", horizon)
    if skip := horizon.skip_reason(sent_us):
        return Skipped(skip)
    author = event.author or ("client" if role == "user" else "bot")
    intent, model = _label(event.intent_detected), _label(event.model)
    told = Told(event.tokens_used, intent, author, model, event.mode, current_flow)
    opts_out = role == "user" and is_opt_out(content)
    return Message(key, _CHATBOT, sent_us, sender, role, content, author, told, None, opts_out)


def _conversation_event(
    event: _ConversationStatus, horizon: Horizon
) -> ConversationEvent | Skipped:
    sender = _sender(event)
    transferred_to = _label(event.transferred_to)
    if transferred_to is not None and event.status != "transferred":
        raise _InvalidEventError("wrong_type", "transferred_to")
    at_us = _to_us(event.at, "at", horizon)
    if event.closed_at is not None:
        if event.status != "closed":
            raise _InvalidEventError("wrong_type", "closed_at")
        at_us = _to_us(event.closed_at, "closed_at", horizon)
    if skip := horizon.skip_reason(at_us):
        return Skipped(skip)
    return ConversationEvent(
        "conversation:" + event.event_id, at_us, sender, event.status, transferred_to
    )


def _sender(event: _Event) -> Sender:
    phone, bsuid, user_id = event.phone, event.bsuid, event.user_id
    if phone is not None:
        phone = phone.removeprefix("+")
        if not is_possible_wa_id(phone):
            raise _InvalidEventError("invalid_phone", "phone")
    if bsuid is not None and not _BSUID.fullmatch(bsuid):
        raise _InvalidEventError("wrong_type", "bsuid")
    if user_id is not None:
        if not _UUID.fullmatch(user_id):
            raise _InvalidEventError("wrong_type", "user_id")
        if phone is None and bsuid is None:
            return Sender(user_id=user_id.replace("-", "").lower())
    elif phone is None and bsuid is None:
        raise _InvalidEventError("missing_field", "phone")
    return Sender(phone=phone or "", bsuid=bsuid or "")


def _to_us(instant: datetime, field: str, horizon: Horizon) -> int:
    """Whole microseconds since 1970, without the rounding of a float."""
    since = instant - _EPOCH
    at_us = (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds
    if at_us < _EARLIEST_US:
        raise _InvalidEventError("invalid_timestamp", field)
    if at_us > horizon.latest_us:
        raise _InvalidEventError("future", field)
    return at_us


def _label(text: str | None) -> str | None:
    """A name without the spaces around it; blank is absent, so that nothing groups under ''."""
    return None if text is None else text.strip() or None


def _check_no_nul(event: _Event) -> None:
    for field in event.__struct_fields__:
        value = getattr(event, field)
        if isinstance(value, str) and "\0" in value:
            raise _InvalidEventError("nul_character", field)


def _refuse_shape(line: bytes, error: msgspec.ValidationError) -> Rejected:
    """Say what is wrong with JSON that is no event of this version."""
    try:
        head = _decode_head(line)
    except msgspec.ValidationError:
        return Rejected(_UNKNOWN_KIND, "wrong_type", None, line)
    except _UNREADABLE:  # further on than where the decoder stopped
        return _refuse_unreadable(line)
    for field, value in (("schema", head.schema), ("type", head.type)):
        if not isinstance(value, str):
            reason = "missing_field" if value is msgspec.UNSET else "wrong_type"
            return Rejected(_UNKNOWN_KIND, reason, field, line)
    if head.schema != SCHEMA:
        return Rejected(_UNKNOWN_KIND, "not_yet_supported", "schema", line)
    if head.type not in _KINDS:
        return Rejected(_UNKNOWN_KIND, "not_yet_supported", "type", line)
    return Rejected(_KINDS[head.type], *_describe(error), line)


def _refuse_unreadable(line: bytes) -> Rejected:
    reason = "malformed_json" if _read_leniently(line) is None else "invalid_utf8"
    return Rejected(_UNKNOWN_KIND, reason, None, line)


def _read_leniently(line: bytes) -> Any:
    """The document of a line that is only wrong inside a string, as after a cut emoji; else None.

    The standard library takes unpaired surrogates and, this way, bytes that are not UTF-8.
    """
    try:
        return json.loads(line.decode("utf-8", "surrogateescape"), parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        return None


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


# msgspec names types, bounds and places; of a value it tells only where an enumeration is wrong,
# and that stands before the place, which is all that is taken.
_REASONS = (
    ("Object missing required field ", "missing_field"),
    ("Invalid RFC3339 encoded datetime", "invalid_timestamp"),
    ("Expected `datetime` with a timezone", "invalid_timestamp"),
    ("Expected `str` of length >= ", "missing_field"),
    ("Expected `str` of length <= ", "too_long"),
    ("Expected `int` <= ", "too_long"),
)
_MISSING = re.compile(r"Object missing required field `([a-z_]+)`")
_PLACE = re.compile(r" - at `\$\.([a-z_]+)`$")


def _describe(error: msgspec.ValidationError) -> tuple[str, str | None]:
    """Reason and field of a validation error, never the value."""
    text = str(error)
    place = _MISSING.match(text) or _PLACE.search(text)
    for start, reason in _REASONS:
        if text.startswith(start):
            return reason, place and place[1]
    return "wrong_type", place and place[1]
