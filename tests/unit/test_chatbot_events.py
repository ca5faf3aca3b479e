"""What one of the chatbot's events becomes: exactly one unit, and never another's."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatte_pipelines.inbound.chatbot_events import is_chatbot_event, iter_events
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
from tests.webhooks import ANA, change, contact, line, text_message

SENT_AT = "2026-05-28T17:26:40-03:00"
SENT_US = 1_780_000_000_000_000
DAY_US = 86_400_000_000
HORIZON = Horizon(latest_us=SENT_US + 600_000_000, earliest_us=SENT_US - 90 * DAY_US)
HIDDEN = "valor-que-ninguem-pode-ver"
USER_ID = "00000000-0000-4000-8000-00000000ABCD"


def message(**fields: Any) -> dict[str, Any]:
    """A message event with these properties; a property that is ``...`` is left out."""
    event = {
        "schema": "gatte.chatbot_event/1",
        "type": "message",
        "external_id": "m-1",
        "phone": f"+{ANA}",
        "role": "assistant",
        "content": "olá",
        "sent_at": SENT_AT,
    } | fields
    return {name: value for name, value in event.items() if value is not ...}


def conversation(**fields: Any) -> dict[str, Any]:
    """A conversation event with these properties; a property that is ``...`` is left out."""
    event = {
        "schema": "gatte.chatbot_event/1",
        "type": "conversation",
        "event_id": "e-1",
        "phone": f"+{ANA}",
        "status": "waiting",
        "at": SENT_AT,
    } | fields
    return {name: value for name, value in event.items() if value is not ...}


def unit(event: dict[str, Any] | bytes, horizon: Horizon = HORIZON) -> Unit:
    body = event if isinstance(event, bytes) else json.dumps(event).encode()
    (found,) = iter_events(body, horizon)
    return found


def loaded(event: dict[str, Any]) -> Message:
    found = unit(event)
    assert isinstance(found, Message), found
    return found


def refused(event: dict[str, Any] | bytes) -> tuple[str, str, str | None]:
    found = unit(event)
    assert isinstance(found, Rejected), found
    assert found.payload == (event if isinstance(event, bytes) else json.dumps(event).encode())
    assert HIDDEN not in f"{found.kind} {found.reason} {found.field}"
    return found.kind, found.reason, found.field


def test_a_message_keeps_all_that_the_chatbot_tells() -> None:
    event = message(
        wamid="wamid.1",
        external_id=...,
        bsuid="BR.10000000000000000001",
        author="human",
        tokens_used=2**31 - 1,
        intent_detected=" ticket_open ",
        model="modelo-exemplo",
        mode="flow",
        current_flow="ticket_flow",
        a_property_of_tomorrow={"any": [1, None]},
    )
    told = Told(2**31 - 1, "ticket_open", "human", "modelo-exemplo", "flow", "ticket_flow")
    sender = Sender(phone=ANA, bsuid="BR.10000000000000000001")
    assert unit(event) == Message(
        "wamid:wamid.1", Source.CHATBOT, SENT_US, sender, "assistant", "olá", "human", told
    )


def test_a_conversation_event_keeps_all_that_the_chatbot_tells() -> None:
    event = conversation(status="transferred", transferred_to=" Atendente Exemplo ")
    assert unit(event) == ConversationEvent(
        "conversation:e-1", SENT_US, Sender(phone=ANA), "transferred", "Atendente Exemplo"
    )


def test_a_message_that_never_went_to_whatsapp_has_the_key_of_the_chatbot() -> None:
    assert loaded(message(external_id="wamid.1")).key == "chatbot:wamid.1"


@pytest.mark.parametrize(
    ("role", "author"), [("user", "client"), ("assistant", "bot"), ("system", "bot")]
)
def test_the_author_follows_from_the_role_where_none_is_given(role: str, author: str) -> None:
    found = loaded(message(role=role, author=None))
    assert found.told is not None
    assert found.author == found.told.author == author


@pytest.mark.parametrize(
    "fields",
    [
        {"tokens_used": None, "intent_detected": None, "model": None, "mode": None},
        {"intent_detected": "", "model": " \t\n", "current_flow": "  "},
        {"bsuid": None, "user_id": None, "wamid": None, "author": None, "current_flow": None},
    ],
)
def test_null_and_blank_are_absent(fields: dict[str, Any]) -> None:
    assert loaded(message(**fields)) == loaded(message())


@pytest.mark.parametrize(
    ("fields", "sender"),
    [
        ({"phone": ANA}, Sender(phone=ANA)),
        ({"phone": ..., "bsuid": "US.ENT.7"}, Sender(bsuid="US.ENT.7")),
        ({"phone": ..., "user_id": USER_ID}, Sender(user_id="0000000000004000800000000000abcd")),
        ({"user_id": USER_ID}, Sender(phone=ANA)),
        ({"phone": None, "bsuid": "BR.1", "user_id": USER_ID}, Sender(bsuid="BR.1")),
    ],
)
def test_the_client_is_named_by_phone_or_bsuid_and_else_by_user_id(
    fields: dict[str, Any], sender: Sender
) -> None:
    assert loaded(message(**fields)).sender == sender
    found = unit(conversation(**fields))
    assert isinstance(found, ConversationEvent)
    assert found.sender == sender


def test_a_close_has_the_time_of_closed_at_where_it_is_given() -> None:
    early = "2026-05-28T20:26:39.999999Z"
    for fields, at_us in (({}, SENT_US), ({"closed_at": early}, SENT_US - 1)):
        found = unit(conversation(status="closed", **fields))
        assert isinstance(found, ConversationEvent)
        assert found.at_us == at_us


@pytest.mark.parametrize(
    ("role", "content", "opts_out"),
    [
        ("user", "SAIR", True),
        ("user", " parar\n", True),
        ("user", "*Saír!*", True),
        ("user", "sai\u0301r", True),
        ("user", "sairá", False),
        ("user", "quero sair", False),
        ("assistant", "SAIR", False),
    ],
)
def test_only_the_clients_own_word_opts_out(role: str, content: str, opts_out: bool) -> None:
    assert loaded(message(role=role, content=content)).opts_out is opts_out


# --- time ---------------------------------------------------------------------------------------


@given(
    at=st.datetimes(datetime(2009, 1, 2), datetime(2100, 1, 1)),  # noqa: DTZ001 - offset below
    offset_minutes=st.integers(-23 * 60 - 59, 23 * 60 + 59),
)
def test_no_microsecond_is_lost(at: datetime, offset_minutes: int) -> None:
    instant = at.replace(tzinfo=timezone(timedelta(minutes=offset_minutes)))
    event = message(sent_at=instant.isoformat())
    found = unit(event, Horizon(latest_us=2**62, earliest_us=0))
    assert isinstance(found, Message)
    expected = (instant - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
    assert found.sent_us == expected


@pytest.mark.parametrize(
    ("sent_at", "sent_us"),
    [
        ("2026-05-28T20:26:40Z", SENT_US),
        ("2026-05-28t20:26:40.000001z", SENT_US + 1),
        ("2026-05-28 20:26:40.1-00:00", SENT_US + 100_000),
        ("2026-05-28T17:26:40-0300", SENT_US),
        ("2026-05-28T20:26:40.0000014Z", SENT_US + 1),
        ("2026-05-28T20:26:40.0000016Z", SENT_US + 2),
        ("2026-05-28T20:36:40Z", HORIZON.latest_us),
    ],
)
def test_an_instant_may_be_written_in_every_way_of_rfc_3339(sent_at: str, sent_us: int) -> None:
    assert loaded(message(sent_at=sent_at)).sent_us == sent_us


@pytest.mark.parametrize(
    "sent_at",
    [
        "2026-05-28T20:26:40",
        "2026-05-28",
        "28/05/2026 17:26",
        "1780000000",
        "2026-02-30T00:00:00Z",
        "2026-05-28T20:26:40+24:00",
        "2008-12-31T23:59:59.999999Z",
        "0001-01-01T00:00:00+23:59",
        "",
    ],
)
def test_a_time_without_offset_or_sense_is_refused(sent_at: str) -> None:
    reason = "invalid_timestamp"
    assert refused(message(sent_at=sent_at)) == ("chatbot_message", reason, "sent_at")
    assert refused(conversation(at=sent_at)) == ("chatbot_conversation", reason, "at")
    event = conversation(status="closed", closed_at=sent_at)
    assert refused(event) == ("chatbot_conversation", reason, "closed_at")


def test_what_lies_in_the_future_waits_in_quarantine() -> None:
    late = "2026-05-28T20:36:40.000001Z"
    assert refused(message(sent_at=late)) == ("chatbot_message", "future", "sent_at")
    assert refused(conversation(at=late)) == ("chatbot_conversation", "future", "at")
    event = conversation(status="closed", closed_at=late)
    assert refused(event) == ("chatbot_conversation", "future", "closed_at")
    assert refused(message(sent_at="9999-12-31T23:59:59-23:59"))[1] == "future"


def test_what_is_too_old_is_skipped_with_its_reason() -> None:
    cut = Horizon(HORIZON.latest_us, earliest_us=SENT_US - 5, cutover_us=SENT_US)
    old, older = "2026-05-28T20:26:39.999999Z", "2026-05-28T20:26:39.999994Z"
    assert isinstance(unit(message(), cut), Message)
    assert unit(message(sent_at=old), cut) == Skipped("before_cutover")
    assert unit(message(sent_at=older), cut) == Skipped("past_retention")
    assert unit(conversation(at=older), cut) == Skipped("past_retention")
    close = conversation(status="closed", closed_at=old)
    assert unit(close, cut) == Skipped("before_cutover")


# --- what is refused ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "reason", "field"),
    [
        ({"external_id": ...}, "missing_field", "wamid"),
        ({"external_id": None}, "missing_field", "wamid"),
        ({"external_id": ""}, "missing_field", "external_id"),
        ({"external_id": "x" * 201}, "too_long", "external_id"),
        ({"wamid": "wamid.1"}, "wrong_type", "external_id"),
        ({"wamid": "w" * 513, "external_id": ...}, "too_long", "wamid"),
        ({"wamid": "", "external_id": ...}, "missing_field", "wamid"),
        ({"phone": ...}, "missing_field", "phone"),
        ({"phone": None}, "missing_field", "phone"),
        ({"phone": ""}, "invalid_phone", "phone"),
        ({"phone": "++" + ANA}, "invalid_phone", "phone"),
        ({"phone": "+55 11 " + HIDDEN}, "invalid_phone", "phone"),
        ({"phone": "~baaaaaaaaaaaaaaaaaa"}, "invalid_phone", "phone"),
        ({"phone": int(ANA)}, "wrong_type", "phone"),
        ({"bsuid": HIDDEN}, "wrong_type", "bsuid"),
        ({"bsuid": ""}, "wrong_type", "bsuid"),
        ({"user_id": HIDDEN}, "wrong_type", "user_id"),
        ({"user_id": USER_ID.replace("-", "")}, "wrong_type", "user_id"),
        ({"role": ...}, "missing_field", "role"),
        ({"role": HIDDEN}, "wrong_type", "role"),
        ({"role": f"{HIDDEN}' - at `$.{HIDDEN}`"}, "wrong_type", "role"),
        ({"content": ...}, "missing_field", "content"),
        ({"content": ""}, "missing_field", "content"),
        ({"content": None}, "wrong_type", "content"),
        ({"content": "ab\0c"}, "nul_character", "content"),
        ({"content": "é" * (4 * 1024 * 1024 + 1)}, "too_long", "content"),
        ({"sent_at": ...}, "missing_field", "sent_at"),
        ({"sent_at": 1_780_000_000}, "wrong_type", "sent_at"),
        ({"sent_at": None}, "wrong_type", "sent_at"),
        ({"author": HIDDEN}, "wrong_type", "author"),
        ({"tokens_used": -1}, "wrong_type", "tokens_used"),
        ({"tokens_used": 2**31}, "too_long", "tokens_used"),
        ({"tokens_used": 10**30}, "too_long", "tokens_used"),
        ({"tokens_used": True}, "wrong_type", "tokens_used"),
        ({"tokens_used": "12"}, "wrong_type", "tokens_used"),
        ({"intent_detected": "x" * 101}, "too_long", "intent_detected"),
        ({"intent_detected": "x\0"}, "nul_character", "intent_detected"),
        ({"model": "x" * 101}, "too_long", "model"),
        ({"mode": HIDDEN}, "wrong_type", "mode"),
        ({"mode": " "}, "wrong_type", "mode"),
        ({"mode": "flow", "current_flow": "x" * 101}, "too_long", "current_flow"),
        ({"current_flow": "ticket_flow"}, "missing_field", "mode"),
    ],
)
def test_a_message_that_cannot_be_loaded_names_its_field(
    fields: dict[str, Any], reason: str, field: str
) -> None:
    assert refused(message(**fields)) == ("chatbot_message", reason, field)


@pytest.mark.parametrize(
    ("fields", "reason", "field"),
    [
        ({"event_id": ...}, "missing_field", "event_id"),
        ({"event_id": ""}, "missing_field", "event_id"),
        ({"event_id": "x" * 201}, "too_long", "event_id"),
        ({"event_id": "x\0"}, "nul_character", "event_id"),
        ({"phone": ...}, "missing_field", "phone"),
        ({"status": HIDDEN}, "wrong_type", "status"),
        ({"status": "open", "closed_at": SENT_AT}, "wrong_type", "closed_at"),
        ({"status": "closed", "transferred_to": "Exemplo"}, "wrong_type", "transferred_to"),
        ({"status": "transferred", "transferred_to": "x" * 101}, "too_long", "transferred_to"),
        ({"at": ...}, "missing_field", "at"),
        ({"status": "closed", "at": ..., "closed_at": SENT_AT}, "missing_field", "at"),
    ],
)
def test_a_conversation_event_that_cannot_be_loaded_names_its_field(
    fields: dict[str, Any], reason: str, field: str
) -> None:
    assert refused(conversation(**fields)) == ("chatbot_conversation", reason, field)


@pytest.mark.parametrize(
    ("fields", "reason", "field"),
    [
        ({"schema": "gatte.chatbot_event/2"}, "not_yet_supported", "schema"),
        ({"schema": "gatte.chatbot_event/2", "content": 5}, "not_yet_supported", "schema"),
        ({"schema": "gatte.chatbot_event/2", "type": HIDDEN}, "not_yet_supported", "schema"),
        ({"schema": 1}, "wrong_type", "schema"),
        ({"schema": ...}, "missing_field", "schema"),
        ({"type": HIDDEN}, "not_yet_supported", "type"),
        ({"type": None}, "wrong_type", "type"),
        ({"type": ...}, "missing_field", "type"),
    ],
)
def test_another_version_or_type_waits_until_it_is_known(
    fields: dict[str, Any], reason: str, field: str
) -> None:
    assert refused(message(**fields)) == ("chatbot_event", reason, field)


def broken(content: bytes) -> bytes:
    return json.dumps(message(content="@")).encode().replace(b"@", content)


@pytest.mark.parametrize(
    "content",
    [b"\xff", b"\xed\xa0\x80", rb"\ud800", rb"\ude00\ud83d", rb"corte \ud83d."],
)
def test_text_that_is_not_utf_8_keeps_its_line(content: bytes) -> None:
    body = broken(content)
    assert is_chatbot_event(body)
    assert refused(body) == ("chatbot_event", "invalid_utf8", None)


@pytest.mark.parametrize(
    "body",
    [
        broken(b"ab")[:-20],
        broken(b"\xff")[:-20],
        broken(rb"\ud800")[:-20],
        broken(b"ab") + b"}",
        broken(b'ab", "x": NaN, "y": "'),
        broken(b"tab\tulador"),
        broken(b'ab", "x": ' + b"[" * 100_000 + b"]" * 100_000 + b', "y": "'),
    ],
    ids=["cut", "cut bytes", "cut surrogate", "trailing", "NaN", "control character", "deep"],
)
def test_a_line_that_is_no_json_keeps_its_bytes(body: bytes) -> None:
    assert is_chatbot_event(body)
    assert refused(body) == ("chatbot_event", "malformed_json", None)


def test_a_written_out_backslash_is_no_nul() -> None:
    assert loaded(message(content=r"C:\u0000")).content == r"C:\u0000"


def test_a_document_that_is_no_object_is_refused() -> None:
    assert refused(b"[]") == ("chatbot_event", "wrong_type", None)


@given(st.binary(max_size=60) | st.text(max_size=60).map(str.encode), st.integers(0, 400))
def test_no_bytes_raise_or_get_lost(noise: bytes, place: int) -> None:
    whole = json.dumps(message()).encode()
    for body in (noise, whole[:place] + noise + whole[place:], whole[:place] + noise):
        is_chatbot_event(body)
        found = unit(body)
        assert isinstance(found, Message | Skipped) or found.payload == body


# --- whose line it is ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        b'{"schema":"gatte.chatbot_event/1","type":"message"}',
        b'{"schema": "gatte.chatbot_event/2", "type": "of tomorrow"}',
        rb'{"schema":"gatte.chatbot_event\/1"}',
        b'{"type":"message",\n  "schema" : "gatte.chatbot_event/1"}',
        b' { "schema" :"gatte.chatbot_event/1"',
        rb'{"type":"message","content":"\ud800","schema":"gatte.chatbot_event/1"}',
        b'{"type":"message","content":"\xff","schema":"gatte.chatbot_event/1"}',
    ],
)
def test_a_line_whose_top_level_names_the_format_is_the_chatbots(body: bytes) -> None:
    assert is_chatbot_event(body)


QUOTES = [
    '{"schema":"gatte.chatbot_event/1"}',
    '"schema":"gatte.chatbot_event/1"',
    "gatte.chatbot_event/1",
    '{"schema": "gatte.chatbot_event\\/1", "type": "message"}',
]


@pytest.mark.parametrize("quote", QUOTES)
def test_a_webhook_that_quotes_the_format_stays_a_webhook(quote: str) -> None:
    for body in (
        line(change(text_message("wamid.1", 1_780_000_000, body=quote))),
        line(change(text_message("wamid.1", 1_780_000_000), contacts=[contact(ANA, quote)])),
        line(change(text_message("wamid.1", 1_780_000_000, schema="gatte.chatbot_event/1"))),
        line(change(text_message("wamid.1", 1_780_000_000, body=f"{quote}@"))).replace(
            b"@", rb"\ud800"
        ),
        line(change(text_message("wamid.1", 1_780_000_000, body=quote)))[:-9],
    ):
        assert not is_chatbot_event(body)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b'[{"schema":"gatte.chatbot_event/1"}]',
        b'"gatte.chatbot_event/1"',
        b'{"schema":"gatte.chatbot_events/1"}',
        b'{"schema":{"schema":"gatte.chatbot_event/1"}}',
        b'{"data":{"schema":"gatte.chatbot_event/1"}}',
        rb'["gatte.chatbot_event/1", "\ud800"]',
    ],
)
def test_other_lines_are_not_the_chatbots(body: bytes) -> None:
    assert not is_chatbot_event(body)
