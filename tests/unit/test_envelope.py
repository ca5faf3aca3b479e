"""What one webhook body becomes: units, each loaded or rejected on its own, none lost."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatte_pipelines.inbound.envelope import ACCOUNT_FIELDS, MAX_UNITS_OF_LINE, iter_units
from gatte_pipelines.inbound.units import (
    ButtonReply,
    Horizon,
    IdentityChange,
    Message,
    MessageChange,
    OptOut,
    Reaction,
    Rejected,
    Sender,
    Skipped,
    Source,
    StatusEvent,
    Unit,
)
from tests.webhooks import (
    ANA,
    BRUNO,
    METADATA,
    change,
    contact,
    line,
    notification,
    status,
    text_message,
)

NOW = 1_780_000_000
NOW_US = NOW * 1_000_000
LATEST = NOW + 600
HORIZON = Horizon(latest_us=LATEST * 1_000_000, earliest_us=0)
HIDDEN = "valor-que-ninguem-pode-ver"
BSUID = "BR.13491208655302741918"
NEW_BSUID = "BR.24817305912873645029"


def units(body: bytes | dict[str, Any]) -> list[Unit]:
    data = body if isinstance(body, bytes) else json.dumps(body, ensure_ascii=False).encode()
    return list(iter_units(data, HORIZON))


def only(body: bytes | dict[str, Any]) -> Unit:
    (unit,) = units(body)
    return unit


def rejected(body: bytes | dict[str, Any]) -> Rejected:
    unit = only(body)
    assert isinstance(unit, Rejected)
    return unit


def of_message(**fields: Any) -> bytes:
    """A body of one message with these fields; a field that is None is left out."""
    message = text_message("wamid.1", NOW) | fields
    return line(change({name: value for name, value in message.items() if value is not None}))


def test_every_message_and_status_of_all_entries_and_changes_is_a_unit() -> None:
    body = notification()
    body["entry"] = [
        {
            "id": str(entry),
            "changes": [
                change(
                    *(text_message(f"m{entry}{number}{n}", NOW) for n in range(3)),
                    statuses=[status(f"s{entry}{number}{n}", "read", NOW) for n in range(2)],
                )
                for number in range(3)
            ],
        }
        for entry in range(3)
    ]
    found = units(body)
    keys = [unit.key for unit in found if isinstance(unit, Message)]
    statuses = [unit.wamid for unit in found if isinstance(unit, StatusEvent)]
    assert keys == [f"wamid:m{e}{c}{n}" for e in range(3) for c in range(3) for n in range(3)]
    assert statuses == [f"s{e}{c}{n}" for e in range(3) for c in range(3) for n in range(2)]
    assert len(found) == 45


def test_a_text_message_keeps_all_that_is_loaded() -> None:
    message = text_message("wamid.1", NOW, from_user_id=BSUID, from_parent_user_id="BR.ENT.7")
    found = only(line(change(message, contacts=[contact(ANA, "  Ana Exemplo ")])))
    assert found == Message(
        key="wamid:wamid.1",
        source=Source.PROVIDER,
        sent_us=NOW_US,
        sender=Sender(ANA, "", BSUID, "BR.ENT.7", "Ana Exemplo"),
        role="user",
        content="olá",
        author="client",
    )


def test_the_sender_is_a_sender_and_not_only_as_long_as_one() -> None:
    found = only(of_message())
    assert isinstance(found, Message)
    assert type(found.sender) is Sender
    assert found.sender == Sender(wa_id=ANA)


def test_what_a_message_does_not_say_of_its_sender_the_contact_says() -> None:
    profile = contact(ANA, "Ana", BSUID) | {"parent_user_id": "BR.ENT.7"}
    found = only(line(change(text_message("a", NOW), contacts=[profile])))
    assert isinstance(found, Message)
    assert found.sender == Sender(ANA, "", BSUID, "BR.ENT.7", "Ana")


def test_contacts_are_matched_by_id_and_never_by_place() -> None:
    body = line(
        change(
            text_message("a", NOW, sender=ANA),
            text_message("b", NOW, sender=BRUNO),
            text_message("c", NOW, sender=None, from_user_id=BSUID),
            text_message("d", NOW, sender="5511900000009"),
            contacts=[
                contact(None, "Carla", BSUID),
                contact(BRUNO, "Bruno"),
                contact(ANA, "Ana", "BR.1"),
            ],
        )
    )
    found = [(u.sender.name, u.sender.bsuid) for u in units(body) if isinstance(u, Message)]
    assert found == [("Ana", "BR.1"), ("Bruno", ""), ("Carla", BSUID), ("", "")]


def test_a_status_keeps_time_error_category_and_our_attempt() -> None:
    attempt = "00000000-0000-4000-8000-00000000000a"
    body = line(
        change(
            statuses=[
                status(
                    "w",
                    "failed",
                    NOW,
                    errors=[{"code": 131026, "title": "x"}],
                    pricing={"category": "utility"},
                    biz_opaque_callback_data=attempt,
                ),
                status("w", "sent", NOW, biz_opaque_callback_data="of somebody else"),
            ]
        )
    )
    assert units(body) == [
        StatusEvent("w", "failed", NOW, 131026, "utility", attempt),
        StatusEvent("w", "sent", NOW, None, None, None),
    ]


def test_the_last_second_that_is_not_in_the_future_is_accepted() -> None:
    assert isinstance(only(of_message(timestamp=str(LATEST))), Message)
    assert rejected(of_message(timestamp=str(LATEST + 1))).reason == "future"


@pytest.mark.parametrize(
    ("fields", "reason", "field"),
    [
        ({"id": 7}, "wrong_type", "messages[].id"),
        ({"id": None}, "missing_field", "messages[].id"),
        ({"id": ""}, "missing_field", "messages[].id"),
        ({"id": HIDDEN * 30}, "too_long", "messages[].id"),
        ({"timestamp": NOW}, "wrong_type", "messages[].timestamp"),
        ({"timestamp": HIDDEN}, "invalid_timestamp", "messages[].timestamp"),
        ({"timestamp": "-5"}, "invalid_timestamp", "messages[].timestamp"),
        ({"timestamp": "0"}, "invalid_timestamp", "messages[].timestamp"),
        ({"timestamp": "1.5"}, "invalid_timestamp", "messages[].timestamp"),
        ({"timestamp": "9" * 400}, "invalid_timestamp", "messages[].timestamp"),
        ({"timestamp": "١٢٣"}, "invalid_timestamp", "messages[].timestamp"),
        ({"timestamp": "9" * 12}, "future", "messages[].timestamp"),
        ({"from": None}, "missing_field", "messages[].from"),
        ({"from": None, "from_user_id": ""}, "missing_field", "messages[].from"),
        ({"from": HIDDEN}, "invalid_phone", "messages[].from"),
        ({"from": "1"}, "invalid_phone", "messages[].from"),
        ({"from": ["x"]}, "wrong_type", "messages[].from"),
        ({"from_user_id": HIDDEN}, "wrong_type", "messages[].from_user_id"),
        ({"from_parent_user_id": HIDDEN}, "wrong_type", "messages[].from_parent_user_id"),
        ({"text": None}, "missing_field", "messages[].text.body"),
        ({"text": {}}, "missing_field", "messages[].text.body"),
        ({"text": {"body": ""}}, "missing_field", "messages[].text.body"),
        ({"text": {"body": [HIDDEN]}}, "wrong_type", "messages[].text.body"),
        ({"text": [HIDDEN]}, "wrong_type", "messages[].text"),
        ({"text": {"body": f"{HIDDEN}\0"}}, "nul_character", "messages[].text.body"),
        ({"type": HIDDEN}, "not_yet_supported", "messages[].type"),
        ({"type": None}, "missing_field", "messages[].type"),
        ({"group_id": 5}, "wrong_type", "messages[].group_id"),
    ],
)
def test_a_message_that_cannot_be_loaded_says_why_and_where_without_the_value(
    fields: dict[str, Any], reason: str, field: str
) -> None:
    found = rejected(of_message(**fields))
    assert (found.reason, found.field) == (reason, field)
    assert HIDDEN not in f"{found.kind} {found.reason} {found.field}"


@pytest.mark.parametrize(
    ("fields", "reason", "field"),
    [
        ({"id": ""}, "missing_field", "statuses[].id"),
        ({"id": "x" * 513}, "too_long", "statuses[].id"),
        ({"status": HIDDEN}, "not_yet_supported", "statuses[].status"),
        ({"timestamp": HIDDEN}, "invalid_timestamp", "statuses[].timestamp"),
        ({"timestamp": str(LATEST + 1)}, "future", "statuses[].timestamp"),
        ({"pricing": {"category": f"{HIDDEN}\0"}}, "wrong_type", "statuses[].pricing.category"),
        ({"errors": [{"code": 2**31}]}, "too_long", "statuses[].errors[].code"),
        ({"errors": [{"code": -1}]}, "too_long", "statuses[].errors[].code"),
        ({"errors": [{"code": HIDDEN}]}, "wrong_type", "statuses[].errors[].code"),
        ({"errors": {"code": 1}}, "wrong_type", "statuses[].errors"),
    ],
)
def test_a_status_that_cannot_be_loaded_says_why_and_where_without_the_value(
    fields: dict[str, Any], reason: str, field: str
) -> None:
    found = rejected(line(change(statuses=[status("w", "sent", NOW) | fields])))
    assert (found.kind, found.reason, found.field) == ("status", reason, field)


@pytest.mark.parametrize(
    ("of", "reason", "field"),
    [
        ({"profile": {"name": "n" * 151}}, "too_long", "contacts[].profile.name"),
        ({"profile": {"name": f"{HIDDEN}\0"}}, "nul_character", "contacts[].profile.name"),
        ({"profile": {"name": 5}}, "wrong_type", "contacts[].profile.name"),
        ({"profile": HIDDEN}, "wrong_type", "contacts[].profile"),
    ],
)
def test_a_sender_whose_profile_cannot_be_read_rejects_only_its_own_messages(
    of: dict[str, Any], reason: str, field: str
) -> None:
    body = line(
        change(
            text_message("a", NOW, sender=ANA),
            text_message("b", NOW, sender=BRUNO),
            contacts=[contact(ANA, "Ana") | of, contact(BRUNO, "Bruno")],
        )
    )
    bad, good = units(body)
    assert isinstance(bad, Rejected)
    assert isinstance(good, Message)
    assert (bad.reason, bad.field, good.sender.name) == (reason, field, "Bruno")
    assert b"Bruno" not in bad.payload, "another person's name waits in this quarantine"


@pytest.mark.parametrize("name", ["", "   ", None])
def test_an_empty_profile_name_is_no_name(name: str | None) -> None:
    profile = {"profile": {"name": name}, "wa_id": ANA}
    found = only(line(change(text_message("a", NOW), contacts=[profile])))
    assert isinstance(found, Message)
    assert found.sender.name == ""


GOOD = text_message("good", NOW)


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (b"7", "wrong_type"),
        (b"null", "wrong_type"),
        (b"[]", "wrong_type"),
        (b"{}", "missing_field"),
        (b'{"id":"b","timestamp":"1","type":"text","text":{"body":"\\ud800"}}', "invalid_utf8"),
        (b'{"id":"b","timestamp":"1","type":"text","text":{"body":"\\udcc3\\udca9"}}', "invalid_"),
        (b'{"id":"b","timestamp":"1","type":"text","text":{"body":"\xff\xfe"}}', "invalid_utf8"),
        (b'{"id":"b","timestamp":"1","type":"text","text":{"body":"\xc3"}}', "invalid_utf8"),
        (b'{"id":' + b"9" * 5000 + b"}", "wrong_type"),
        (b'{"id":1e999}', "wrong_type"),
        (b'{"id":"b","deep":' + b"[" * 200 + b"]" * 200 + b"}", "missing_field"),
        (b'{"id":"b","id":[],"timestamp":"1","type":"text"}', "wrong_type"),
    ],
)
def test_a_bad_message_leaves_its_neighbours_alone(bad: bytes, reason: str) -> None:
    before, after = text_message("before", NOW), text_message("after", NOW, body="é 😀")
    whole = line(change(before, {"X": 1}, after, statuses=[status("s", "read", NOW)]))
    first, second, third, fourth = units(whole.replace(b'{"X": 1}', bad))
    assert isinstance(first, Message)
    assert isinstance(second, Rejected)
    assert isinstance(third, Message)
    assert isinstance(fourth, StatusEvent)
    assert second.reason.startswith(reason)
    assert third.content == "é 😀"


def test_escaped_surrogates_never_turn_into_a_text_that_nobody_wrote() -> None:
    body = of_message(text={"body": "X"}).replace(b'"X"', rb'"\udcc3\udca9"')
    assert rejected(body).reason == "invalid_utf8"


def test_an_escaped_emoji_is_text() -> None:
    found = only(of_message(text={"body": "X"}).replace(b'"X"', rb'"\ud83d\ude00 \ud83d\udc80"'))
    assert isinstance(found, Message)
    assert found.content == "\U0001f600 \U0001f480"


@pytest.mark.parametrize(
    ("entry", "field"),
    [
        ({"id": "1"}, "entry[].changes"),
        ({"id": "1", "changes": None}, "entry[].changes"),
        ({"id": "1", "changes": {}}, "entry[].changes"),
        (None, "entry[].changes"),
        ("texto", "entry[].changes"),
        ({"id": "1", "changes": [{"value": {}}]}, "entry[].changes[].field"),
        ({"id": "1", "changes": [{"field": "messages"}]}, "entry[].changes[].value"),
        ({"id": "1", "changes": [{"field": 4, "value": {}}]}, "entry[].changes[].field"),
        ({"id": "1", "changes": [None]}, "entry[].changes[]"),
    ],
)
def test_a_bad_entry_or_change_leaves_the_other_entries_alone(entry: Any, field: str) -> None:
    body = notification(change(GOOD))
    body["entry"] = [entry, *body["entry"], entry]
    first, second, third = units(body)
    assert isinstance(second, Message)
    assert isinstance(first, Rejected)
    assert isinstance(third, Rejected)
    assert (first.field, first.payload) == (field, third.payload)


@pytest.mark.parametrize(
    "name",
    [b'"\x80messages"', rb'"\ud800messages"', rb'"\ud800\u0041"'],
    ids=["bytes", "half a pair", "a wrong pair"],
)
def test_a_change_whose_name_is_no_text_leaves_the_others_alone(name: bytes) -> None:
    bad = change(text_message("bad", NOW)) | {"field": "X"}
    body = notification(change(text_message("before", NOW)), bad)
    body["entry"] += notification(change(text_message("after", NOW)))["entry"]
    first, second, third = units(json.dumps(body).encode().replace(b'"X"', name))
    assert isinstance(first, Message)
    assert isinstance(second, Rejected)
    assert isinstance(third, Message)
    assert (second.kind, second.reason) == ("change", "invalid_utf8")
    assert second.field == "entry[].changes[]"
    assert b"before" not in second.payload
    assert units(second.payload) == [second], "tried again it is another record of quarantine"
    # What else is wrong in the line makes no other record of it.
    body["entry"].insert(0, [])
    beside = units(json.dumps(body).encode().replace(b'"X"', name))
    assert beside[1:] == [first, second, third]


def test_an_entry_with_a_field_that_is_no_text_is_read_like_any_other() -> None:
    body = notification(change(GOOD))
    body["entry"][0]["X"] = 1
    alone = only(json.dumps(body).encode().replace(b'"X"', b'"\x80"'))
    assert isinstance(alone, Message)
    body["entry"].append([])
    good, bad = units(json.dumps(body).encode().replace(b'"X"', b'"\x80"'))
    assert good == alone
    assert isinstance(bad, Rejected)
    assert units(bad.payload) == [bad]


@pytest.mark.parametrize("name", ["messages", "errors"])
@pytest.mark.parametrize("wrong", [{}, "texto", 5])
def test_a_list_of_the_wrong_type_leaves_the_other_lists_alone(name: str, wrong: Any) -> None:
    value = {"statuses": [status("s", "read", NOW)]} | {name: wrong}
    bad, good = units(line(change(**value)))
    assert isinstance(good, StatusEvent)
    assert isinstance(bad, Rejected)
    assert (bad.kind, bad.reason, bad.field) == ("change", "wrong_type", f"value.{name}")


def test_contacts_of_the_wrong_type_reject_the_messages_and_leave_the_statuses_alone() -> None:
    body = change(GOOD, GOOD | {"id": "two"}, statuses=[status("s", "read", NOW)])
    body["value"]["contacts"] = {"wa_id": ANA}
    first, second, third = units(line(body))
    assert isinstance(third, StatusEvent)
    for bad in (first, second):
        assert isinstance(bad, Rejected)
        assert (bad.kind, bad.field) == ("text", "value.contacts")


@pytest.mark.parametrize("name", ["contacts", "messages", "statuses", "errors"])
def test_null_where_a_list_is_expected_is_an_empty_list(name: str) -> None:
    body = change(GOOD, statuses=[status("s", "read", NOW)])
    body["value"][name] = None
    expected = {"messages": 1, "statuses": 1}.get(name, 2)
    assert len(units(line(body))) == expected
    assert not any(isinstance(unit, Rejected) for unit in units(line(body)))


@pytest.mark.parametrize(
    ("body", "reason", "field"),
    [
        (b"", "malformed_json", None),
        (b"\0", "malformed_json", None),
        (b'{"object"', "malformed_json", None),
        (b"\xff", "malformed_json", None),
        (b'{"object":' + b"[" * 100_000, "wrong_type", "object"),
        (b'{"entry":[' * 100_000, "malformed_json", None),
        (b"null", "wrong_type", None),
        (b"[]", "wrong_type", None),
        (b"{}", "missing_field", "object"),
        (b'{"object":"whatsapp_business_account"}', "missing_field", "entry"),
        (b'{"object":"whatsapp_business_account","entry":null}', "wrong_type", "entry"),
        (b'{"object":"page","entry":[]}', "wrong_type", "object"),
        (b'{"object":"page","entry":[{}]}', "missing_field", "entry[].changes"),
        (line(change(GOOD)) + b"x", "malformed_json", None),
    ],
)
def test_a_line_that_is_no_notification_is_one_unit(
    body: bytes, reason: str, field: str | None
) -> None:
    found = rejected(body)
    assert (found.kind, found.reason, found.field) == ("notification", reason, field)
    assert found.payload == body


@pytest.mark.parametrize("entries", [[], [{"id": "1", "changes": []}]])
def test_a_notification_without_events_is_one_unit(entries: list[Any]) -> None:
    assert units(notification() | {"entry": entries}) == [Skipped("empty_notification")]


def test_errors_of_our_account_are_skipped_one_by_one() -> None:
    found = units(line(change(errors=[{"code": 1}, {"code": 2}])))
    assert found == [Skipped("service_error")] * 2


@pytest.mark.parametrize(
    ("field", "value", "count"),
    [
        ("history", {"history": [{"threads": []}, {}]}, 1),
        ("calls", {"calls": [{}]}, 1),
        ("message_echoes", {"message_echoes": [{"id": "1"}, {"id": "2"}]}, 2),
        ("calls", [1, 2], 1),
        ("calls", None, 1),
    ],
)
def test_each_event_of_an_unknown_field_is_a_unit_kept_for_later(
    field: str, value: Any, count: int
) -> None:
    found = units(line({"field": field, "value": value}, change(GOOD)))
    assert isinstance(found.pop(), Message)
    assert [(u.kind, u.reason) for u in found if isinstance(u, Rejected)] == [
        (field, "not_yet_supported")
    ] * count


@pytest.mark.parametrize("field", sorted(ACCOUNT_FIELDS))
@pytest.mark.parametrize("value", [{"event": "APPROVED"}, [1], None])
def test_what_concerns_our_account_is_skipped_whatever_it_says(field: str, value: Any) -> None:
    found = units(line({"field": field, "value": value}, change(GOOD)))
    assert found[0] == Skipped("account_event")
    assert isinstance(found[1], Message)


def test_a_field_whose_name_is_no_name_is_not_repeated() -> None:
    assert rejected(line({"field": f"{HIDDEN}\n", "value": {}})).kind == "unknown"


def of_type(kind: str, part: Any = None, **more: Any) -> dict[str, Any]:
    """A message of another type than text."""
    message = text_message("wamid.1", NOW) | {"type": kind, kind: part} | more
    message.pop("text")
    return {name: value for name, value in message.items() if value is not None}


def field(name: str, list_name: str, *events: Any) -> dict[str, Any]:
    """A change of another field than ``messages``."""
    return {"field": name, "value": {"metadata": METADATA, list_name: list(events)}}


TARGET = "wamid.alvo"
ECHO = text_message("wamid.e", NOW, sender="551130000000", body="já envio") | {"to": ANA}
UPDATE = {
    "wa_id": BRUNO,
    "detail": HIDDEN,
    "user_id": {"previous": BSUID, "current": NEW_BSUID},
    "parent_user_id": {"previous": "BR.ENT.7", "current": "BR.ENT.8"},
    "timestamp": str(NOW),
}
PREFERENCE = {
    "wa_id": ANA,
    "detail": HIDDEN,
    "category": "marketing_messages",
    "value": "stop",
    "timestamp": NOW,
}
TEXT = {"type": "text", "text": {"body": "novo"}}
NEW_NUMBER = {"type": "user_changed_number", "body": HIDDEN, "wa_id": BRUNO, "user_id": NEW_BSUID}
OF_EVERY_TYPE = [
    of_type("image", {"id": "1", "caption": "foto"}),
    of_type("video", {"id": "1"}),
    of_type("sticker", {"id": "1"}),
    of_type("document", {"id": "1", "filename": "contrato.pdf"}),
    of_type("audio", {"id": "1", "voice": True}),
    of_type("location", {"latitude": -23.5, "name": "Escritório"}),
    of_type("contacts", [{"name": {"formatted_name": "Contador de Exemplo"}}]),
    of_type("interactive", {"type": "button_reply", "button_reply": {"id": "b", "title": "Sim"}}),
    of_type("button", {"text": "Quero", "payload": "P"}, context={"id": TARGET}),
    of_type("order", {"text": "oi", "product_items": [{}]}),
    of_type("unsupported", {"type": "poll"}),
    of_type("reaction", {"message_id": TARGET, "emoji": "👍"}),
    of_type("edit", {"original_message_id": TARGET, "message": TEXT}),
    of_type("revoke", {"original_message_id": TARGET}),
    of_type("system", NEW_NUMBER),
]


def test_a_message_of_another_type_than_text_is_a_message_of_the_client() -> None:
    message = of_type("image", {"id": HIDDEN, "sha256": HIDDEN, "caption": "Segue a foto"})
    found = only(line(change(message, contacts=[contact(ANA, "Ana", BSUID)])))
    assert found == Message(
        key="wamid:wamid.1",
        source=Source.PROVIDER,
        sent_us=NOW_US,
        sender=Sender(ANA, "", BSUID, "", "Ana"),
        role="user",
        content="[imagem] Segue a foto",
        author="client",
    )


def test_a_pressed_button_keeps_which_one_and_under_which_message() -> None:
    part = {"type": "button_reply", "button_reply": {"id": "renovar", "title": "Renovar"}}
    found = only(line(change(of_type("interactive", part, context={"id": TARGET}))))
    assert isinstance(found, Message)
    assert (found.content, found.button) == ("Renovar", ButtonReply(TARGET, "renovar"))


@pytest.mark.parametrize(
    "body",
    ["SAIR", "sair", "Parar", " párar! ", "*PARAR*", "«Sair»…", "SAI\u0301R.", "\u200bsair\n"],
)
def test_the_words_that_stop_our_messages_are_known_in_any_writing(body: str) -> None:
    found = only(of_message(text={"body": body}))
    assert isinstance(found, Message)
    assert found.opts_out
    assert found.content == body


@pytest.mark.parametrize("body", ["sair agora", "não quero parar", "SAIRA", "s.a.i.r", "pare", "!"])
def test_other_words_stop_nothing(body: str) -> None:
    found = only(of_message(text={"body": body}))
    assert isinstance(found, Message)
    assert not found.opts_out


def test_a_caption_and_an_echo_stop_nothing() -> None:
    caption = only(line(change(of_type("image", {"caption": "SAIR"}))))
    echo = only(
        line(field("smb_message_echoes", "message_echoes", ECHO | {"text": {"body": "SAIR"}}))
    )
    for found in (caption, echo):
        assert isinstance(found, Message)
        assert not found.opts_out


def test_of_an_advertisement_or_a_quoted_message_nothing_is_kept() -> None:
    referral = {"source_url": HIDDEN, "body": HIDDEN, "ctwa_clid": HIDDEN}
    found = only(of_message(referral=referral, context={"id": HIDDEN, "from": HIDDEN}))
    assert isinstance(found, Message)
    assert HIDDEN not in repr(found)


@pytest.mark.parametrize(
    ("part", "emoji"),
    [({"emoji": "❤️"}, "❤️"), ({"emoji": ""}, None), ({"emoji": None}, None), ({}, None)],
)
def test_a_reaction_without_an_emoji_takes_it_back(part: dict[str, Any], emoji: str | None) -> None:
    found = only(line(change(of_type("reaction", {"message_id": TARGET} | part))))
    assert found == Reaction("wamid.1", TARGET, NOW_US, emoji)


@pytest.mark.parametrize(
    ("inner", "content"),
    [
        ({"type": "text", "text": {"body": "novo"}}, "novo"),
        ({"type": "image", "image": {"caption": "nova"}, "context": {"id": "M0"}}, "[imagem] nova"),
        ({"type": "document"}, "[documento]"),
    ],
)
def test_an_edit_changes_its_message_to_what_it_says_now(
    inner: dict[str, Any], content: str
) -> None:
    part = {"original_message_id": TARGET, "message": inner}
    for body in (
        change(of_type("edit", part)),
        field("smb_message_echoes", "message_echoes", of_type("edit", part, to=ANA)),
    ):
        assert only(line(body)) == MessageChange("wamid.1", TARGET, NOW_US, content)


def test_a_revoke_removes_its_message() -> None:
    message = of_type("revoke", {"original_message_id": TARGET})
    for body in (change(message), field("smb_message_echoes", "message_echoes", message)):
        assert only(line(body)) == MessageChange("wamid.1", TARGET, NOW_US, None)


def test_an_echo_is_a_message_of_a_person_of_ours() -> None:
    assert only(line(field("smb_message_echoes", "message_echoes", ECHO))) == Message(
        key="wamid:wamid.e",
        source=Source.PROVIDER,
        sent_us=NOW_US,
        sender=Sender(phone=ANA),
        role="assistant",
        content="já envio",
        author="human",
    )


def test_an_echo_of_any_type_has_the_same_content_as_a_message_and_no_button() -> None:
    for message in OF_EVERY_TYPE[:11]:
        echo = only(line(field("smb_message_echoes", "message_echoes", message | {"to": ANA})))
        received = only(line(change(message)))
        assert isinstance(echo, Message)
        assert isinstance(received, Message)
        assert echo.content == received.content
        assert echo.button is None


def system(part: dict[str, Any], **more: Any) -> IdentityChange:
    found = only(line(change(of_type("system", part, **more))))
    assert isinstance(found, IdentityChange)
    return found


def test_a_changed_number_moves_from_the_old_to_the_new_one() -> None:
    assert system(NEW_NUMBER, from_user_id=BSUID) == IdentityChange(
        key="wamid:wamid.1",
        changed_us=NOW_US,
        old=Sender(wa_id=ANA, bsuid=BSUID),
        new=Sender(wa_id=BRUNO, bsuid=NEW_BSUID),
        moves_number=True,
    )


def test_of_a_client_known_by_user_id_the_number_moves_too() -> None:
    found = system(NEW_NUMBER, **{"from": None, "from_user_id": BSUID})
    assert (found.old, found.moves_number) == (Sender(bsuid=BSUID), True)


@pytest.mark.parametrize(
    ("part", "sender"),
    [
        ({"type": "user_changed_number", "user_id": NEW_BSUID}, ANA),
        ({"type": "user_changed_number", "wa_id": "551190000001"}, "5511990000001"),
        ({"type": "user_changed_number", "wa_id": ANA}, ANA),
        ({"type": "user_changed_user_id", "wa_id": BRUNO, "user_id": NEW_BSUID}, ANA),
    ],
)
def test_no_number_moves_where_the_new_one_is_unknown_the_same_or_only_the_user_id_changed(
    part: dict[str, Any], sender: str
) -> None:
    assert not system(part, **{"from": sender}).moves_number


def test_a_new_security_code_is_skipped() -> None:
    message = of_type("system", {"type": "customer_identity_changed", "body": HIDDEN})
    assert only(line(change(message))) == Skipped("security_code")


def test_a_new_user_id_is_a_change_of_identity_that_moves_no_number() -> None:
    assert only(line(field("user_id_update", "user_id_update", UPDATE))) == IdentityChange(
        key=f"user_id_update:{BSUID}:{NEW_BSUID}:{NOW}",
        changed_us=NOW_US,
        old=Sender(bsuid=BSUID, parent_bsuid="BR.ENT.7"),
        new=Sender(wa_id=BRUNO, bsuid=NEW_BSUID, parent_bsuid="BR.ENT.8"),
        moves_number=False,
    )


def test_a_new_user_id_needs_neither_a_number_nor_a_parent() -> None:
    update = {name: UPDATE[name] for name in ("user_id", "timestamp")}
    found = only(line(field("user_id_update", "user_id_update", update)))
    assert isinstance(found, IdentityChange)
    assert (found.old, found.new) == (Sender(bsuid=BSUID), Sender(bsuid=NEW_BSUID))


@pytest.mark.parametrize("at", [NOW, str(NOW), f"0{NOW}"])
@pytest.mark.parametrize(("value", "is_opted_out"), [("stop", True), ("resume", False)])
def test_a_choice_about_our_messages_is_the_same_whichever_way_its_time_is_written(
    at: int | str, value: str, is_opted_out: bool
) -> None:
    event = PREFERENCE | {"timestamp": at, "value": value, "user_id": BSUID}
    assert only(line(field("user_preferences", "user_preferences", event))) == OptOut(
        key=f"user_preferences:{ANA}:marketing_messages:{NOW}:{value}",
        chosen_us=NOW_US,
        sender=Sender(wa_id=ANA, bsuid=BSUID),
        category="marketing_messages",
        is_opted_out=is_opted_out,
    )


def test_a_choice_of_a_client_without_a_number_is_kept_under_the_user_id() -> None:
    event = PREFERENCE | {"wa_id": None, "user_id": BSUID}
    found = only(line(field("user_preferences", "user_preferences", event)))
    assert isinstance(found, OptOut)
    assert found.key.startswith(f"user_preferences:{BSUID}:")
    assert found.sender == Sender(bsuid=BSUID)


def test_what_happens_in_a_group_is_skipped() -> None:
    group = {"group_id": "g"}
    bodies = [
        *(change(message | group) for message in (GOOD, *OF_EVERY_TYPE, {**GOOD, "type": "x"})),
        change(GOOD | {"recipient_type": "group"}),
        change(statuses=[status("s", "sent", NOW, recipient_type="group")]),
        change(statuses=[status("s", "sent", NOW) | group]),
        field("smb_message_echoes", "message_echoes", ECHO | group),
    ]
    for body in bodies:
        assert only(line(body)) == Skipped("group")


def _all_at(at: int) -> list[bytes]:
    """One body for each way in which an instant can be told."""
    when = {"timestamp": str(at)}
    return [
        *(line(change(message | when)) for message in (GOOD, *OF_EVERY_TYPE)),
        line(change(GOOD | when | {"type": "hologram"})),
        line(change(statuses=[status("s", "sent", at)])),
        line(field("smb_message_echoes", "message_echoes", ECHO | when)),
        line(field("user_id_update", "user_id_update", UPDATE | when)),
        line(field("user_preferences", "user_preferences", PREFERENCE | {"timestamp": at})),
    ]


def test_a_record_of_any_kind_from_the_future_waits_and_one_of_the_past_is_skipped() -> None:
    horizon = Horizon(NOW_US, NOW_US - 2_000_000, NOW_US - 1_000_000)
    for body in _all_at(NOW + 1):
        (unit,) = iter_units(body, horizon)
        assert isinstance(unit, Rejected)
        assert unit.reason == "future"
        assert str(unit.field).endswith("[].timestamp")
    for seconds, reason in ((3, "past_retention"), (2, "before_cutover")):
        for body in _all_at(NOW - seconds):
            assert list(iter_units(body, horizon)) == [Skipped(reason)]
    for seconds in (0, 1):
        for body in _all_at(NOW - seconds):
            (unit,) = iter_units(body, horizon)
            assert not isinstance(unit, Skipped)


LONG = HIDDEN * 30
HUGE = HIDDEN * 350_000


@pytest.mark.parametrize(
    ("kind", "part", "reason", "field_of"),
    [
        ("image", HIDDEN, "wrong_type", "image"),
        ("image", {"caption": 5}, "wrong_type", "image.caption"),
        ("image", {"caption": f"{HIDDEN}\0"}, "nul_character", "image.caption"),
        ("image", {"caption": HUGE}, "too_long", "image.caption"),
        ("contacts", {HIDDEN: 1}, "wrong_type", "contacts"),
        ("interactive", {"type": HIDDEN}, "not_yet_supported", "interactive.type"),
        ("interactive", None, "missing_field", "interactive.type"),
        ("reaction", None, "missing_field", "reaction"),
        ("reaction", {"emoji": HIDDEN}, "missing_field", "reaction.message_id"),
        ("reaction", {"message_id": ""}, "missing_field", "reaction.message_id"),
        ("reaction", {"message_id": LONG}, "too_long", "reaction.message_id"),
        ("reaction", {"message_id": 5}, "wrong_type", "reaction.message_id"),
        ("reaction", {"message_id": "w", "emoji": "\0"}, "nul_character", "reaction.emoji"),
        ("reaction", {"message_id": "w", "emoji": LONG}, "too_long", "reaction.emoji"),
        ("edit", None, "missing_field", "edit"),
        ("edit", {"message": TEXT}, "missing_field", "edit.original_message_id"),
        (
            "edit",
            {"original_message_id": "", "message": TEXT},
            "missing_field",
            "edit.original_message_id",
        ),
        (
            "edit",
            {"original_message_id": LONG, "message": TEXT},
            "too_long",
            "edit.original_message_id",
        ),
        ("edit", {"original_message_id": "w"}, "missing_field", "edit.message"),
        ("edit", {"original_message_id": "w", "message": HIDDEN}, "wrong_type", "edit.message"),
        ("edit", {"original_message_id": "w", "message": {}}, "missing_field", "edit.message.type"),
        (
            "edit",
            {"original_message_id": "w", "message": {"type": "edit"}},
            "not_yet_supported",
            "edit.message.type",
        ),
        (
            "edit",
            {"original_message_id": "w", "message": {"type": "text", "text": {"body": ""}}},
            "missing_field",
            "edit.message.text.body",
        ),
        (
            "edit",
            {"original_message_id": "w", "message": {"type": "video", "video": {"caption": 1}}},
            "wrong_type",
            "edit.message.video.caption",
        ),
        ("revoke", {}, "missing_field", "revoke.original_message_id"),
        ("revoke", {"original_message_id": [HIDDEN]}, "wrong_type", "revoke.original_message_id"),
        ("revoke", {"original_message_id": LONG}, "too_long", "revoke.original_message_id"),
        ("system", None, "missing_field", "system"),
        ("system", {"body": HIDDEN}, "missing_field", "system.type"),
        ("system", {"type": HIDDEN}, "not_yet_supported", "system.type"),
        ("system", {"type": "user_changed_number"}, "missing_field", "system.wa_id"),
        ("system", NEW_NUMBER | {"wa_id": HIDDEN}, "invalid_phone", "system.wa_id"),
        ("system", NEW_NUMBER | {"user_id": HIDDEN}, "wrong_type", "system.user_id"),
    ],
)
def test_a_message_of_another_type_that_cannot_be_kept_says_why_and_where_without_the_value(
    kind: str, part: Any, reason: str, field_of: str
) -> None:
    found = rejected(line(change(of_type(kind, part))))
    assert (found.kind, found.reason, found.field) == (kind, reason, f"messages[].{field_of}")
    assert units(found.payload) == [found]


@pytest.mark.parametrize(
    ("sender", "reason", "field_of"),
    [
        ({"from": None}, "missing_field", "from"),
        ({"from": HIDDEN}, "invalid_phone", "from"),
        ({"from_user_id": HIDDEN}, "wrong_type", "from_user_id"),
    ],
)
def test_a_changed_number_of_nobody_is_kept_for_people_to_see(
    sender: dict[str, Any], reason: str, field_of: str
) -> None:
    found = rejected(line(change(of_type("system", NEW_NUMBER, **sender))))
    assert (found.reason, found.field) == (reason, f"messages[].{field_of}")


@pytest.mark.parametrize(
    ("event", "reason", "field_of"),
    [
        (HIDDEN, "wrong_type", None),
        (ECHO | {"to": None}, "missing_field", "to"),
        (ECHO | {"to": HIDDEN}, "invalid_phone", "to"),
        (ECHO | {"to": 5}, "wrong_type", "to"),
        (ECHO | {"id": ""}, "missing_field", "id"),
        (ECHO | {"id": LONG}, "too_long", "id"),
        (ECHO | {"timestamp": HIDDEN}, "invalid_timestamp", "timestamp"),
        (ECHO | {"text": {"body": "\0"}}, "nul_character", "text.body"),
        (ECHO | {"text": None}, "missing_field", "text.body"),
        (ECHO | {"type": HIDDEN}, "not_yet_supported", "type"),
        (ECHO | {"type": "reaction"}, "not_yet_supported", "type"),
        (ECHO | {"type": "system"}, "not_yet_supported", "type"),
        (ECHO | {"type": "revoke"}, "missing_field", "revoke"),
    ],
)
def test_an_echo_that_cannot_be_kept_says_why_and_where_without_the_value(
    event: Any, reason: str, field_of: str | None
) -> None:
    _assert_rejected("smb_message_echoes", "message_echoes", event, reason, field_of)


@pytest.mark.parametrize(
    ("event", "reason", "field_of"),
    [
        ({}, "missing_field", "user_id"),
        (UPDATE | {"user_id": BSUID}, "wrong_type", "user_id"),
        (UPDATE | {"user_id": {"current": BSUID}}, "missing_field", "user_id.previous"),
        (
            UPDATE | {"user_id": {"previous": BSUID, "current": ""}},
            "missing_field",
            "user_id.current",
        ),
        (
            UPDATE | {"user_id": {"previous": HIDDEN, "current": BSUID}},
            "wrong_type",
            "user_id.previous",
        ),
        (
            UPDATE | {"user_id": {"previous": BSUID, "current": HIDDEN}},
            "wrong_type",
            "user_id.current",
        ),
        (
            UPDATE | {"parent_user_id": {"previous": HIDDEN}},
            "wrong_type",
            "parent_user_id.previous",
        ),
        (UPDATE | {"parent_user_id": {"current": HIDDEN}}, "wrong_type", "parent_user_id.current"),
        (UPDATE | {"parent_user_id": HIDDEN}, "wrong_type", "parent_user_id"),
        (UPDATE | {"wa_id": HIDDEN}, "invalid_phone", "wa_id"),
        (UPDATE | {"timestamp": HIDDEN}, "invalid_timestamp", "timestamp"),
    ],
)
def test_a_new_user_id_that_cannot_be_kept_says_why_and_where_without_the_value(
    event: Any, reason: str, field_of: str | None
) -> None:
    _assert_rejected("user_id_update", "user_id_update", event, reason, field_of)


@pytest.mark.parametrize(
    ("event", "reason", "field_of"),
    [
        ({}, "missing_field", "category"),
        (PREFERENCE | {"wa_id": None}, "missing_field", "wa_id"),
        (PREFERENCE | {"wa_id": HIDDEN}, "invalid_phone", "wa_id"),
        (PREFERENCE | {"user_id": HIDDEN}, "wrong_type", "user_id"),
        (PREFERENCE | {"parent_user_id": HIDDEN}, "wrong_type", "parent_user_id"),
        (PREFERENCE | {"category": "\0"}, "wrong_type", "category"),
        (PREFERENCE | {"category": "x" * 65}, "wrong_type", "category"),
        (PREFERENCE | {"value": HIDDEN}, "not_yet_supported", "value"),
        (PREFERENCE | {"value": True}, "wrong_type", "value"),
        (PREFERENCE | {"timestamp": -5}, "invalid_timestamp", "timestamp"),
        (PREFERENCE | {"timestamp": 10**30}, "invalid_timestamp", "timestamp"),
        (PREFERENCE | {"timestamp": 1.5}, "wrong_type", "timestamp"),
        (PREFERENCE | {"timestamp": HIDDEN}, "invalid_timestamp", "timestamp"),
    ],
)
def test_a_choice_that_cannot_be_kept_says_why_and_where_without_the_value(
    event: Any, reason: str, field_of: str | None
) -> None:
    _assert_rejected("user_preferences", "user_preferences", event, reason, field_of)


def _assert_rejected(
    name: str, list_name: str, event: Any, reason: str, field_of: str | None
) -> None:
    place = f"{list_name}[].{field_of}" if field_of else f"{list_name}[]"
    body = field(name, list_name, event)
    # What is told of others must not wait in this quarantine.
    body["value"]["contacts"] = [contact(BRUNO, "Bruno")]
    found = rejected(line(body))
    assert (found.kind, found.reason, found.field) == (name, reason, place)
    assert b"Bruno" not in found.payload
    assert units(found.payload) == [found]


@pytest.mark.parametrize(
    ("name", "list_name"),
    [
        ("smb_message_echoes", "message_echoes"),
        ("user_id_update", "user_id_update"),
        ("user_preferences", "user_preferences"),
    ],
)
def test_a_field_without_its_list_of_events_is_one_unit(name: str, list_name: str) -> None:
    for value, reason, place in (
        ([], "wrong_type", "value"),
        (None, "wrong_type", "value"),
        ({}, "missing_field", f"value.{list_name}"),
        ({list_name: {}}, "wrong_type", f"value.{list_name}"),
        ({list_name: HIDDEN}, "wrong_type", f"value.{list_name}"),
    ):
        found = rejected(line({"field": name, "value": value}))
        assert (found.kind, found.reason, found.field) == (name, reason, place)
        assert units(found.payload) == [found]
    for nothing in ([], None):
        body = {"field": name, "value": {list_name: nothing}}
        assert units(line(body)) == [Skipped("empty_notification")]


def test_one_bad_unit_among_a_thousand_of_all_kinds_leaves_the_others_as_they_are() -> None:
    bad = of_type("reaction", {"emoji": HIDDEN})
    kinds = [GOOD, *OF_EVERY_TYPE]
    messages = [kinds[number % len(kinds)] for number in range(500)]
    statuses = [status(f"s{number}", "read", NOW) for number in range(300)]
    echoes = [ECHO] * 199
    alone = {json.dumps(message): only(line(change(message))) for message in kinds}
    expected = [alone[json.dumps(message)] for message in messages]
    for place in (0, 250, 500):
        mixed = [*messages[:place], bad, *messages[place:]]
        found = units(
            line(
                change(*mixed, statuses=statuses),
                field("smb_message_echoes", "message_echoes", *echoes),
            )
        )
        assert len(found) == 1_000
        refused = found.pop(place)
        assert isinstance(refused, Rejected)
        assert (refused.reason, refused.field) == (
            "missing_field",
            "messages[].reaction.message_id",
        )
        assert found[:500] == expected
        assert all(isinstance(unit, StatusEvent) for unit in found[500:800])
        assert all(isinstance(unit, Message) for unit in found[800:])


# Anything that JSON can say, with the words of a webhook among it, so that it comes near.
_WORDS = st.sampled_from(
    (
        "object entry changes field value messages statuses errors contacts id timestamp type from "
        "text body whatsapp_business_account sent message_echoes user_id_update wa_id profile name "
        "image caption interactive button_reply list_reply title context reaction emoji message_id "
        "edit revoke original_message_id message system user_changed_number user_id previous to "
        f"1700000000 {ANA}"
    ).split()
)
_LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | _WORDS
_ANY = st.recursive(
    _LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(_WORDS | st.text(max_size=4), inner, max_size=4)
    ),
    max_leaves=12,
)


def _mutations(value: Any) -> st.SearchStrategy[Any]:
    """The same document with some part of it replaced by anything."""
    if isinstance(value, dict) and value:
        return st.sampled_from(sorted(value)).flatmap(
            lambda key: _mutations(value[key]).map(lambda new: value | {key: new}) | _ANY
        )
    if isinstance(value, list) and value:
        return st.integers(0, len(value) - 1).flatmap(
            lambda place: (
                _mutations(value[place]).map(lambda new: [*value[:place], new, *value[place + 1 :]])
                | _ANY
            )
        )
    return _ANY


_WHOLE = notification(
    change(
        text_message("one", NOW),
        text_message("two", NOW, sender=BRUNO, from_user_id=BSUID),
        contacts=[contact(ANA, "Ana"), contact(BRUNO, "Bruno", BSUID)],
        statuses=[status("s", "failed", NOW, errors=[{"code": 1}], pricing={"category": "x"})],
        errors=[{"code": 1}],
    ),
    change(
        *(_message | {"id": f"wamid.{number}"} for number, _message in enumerate(OF_EVERY_TYPE)),
    ),
    field("smb_message_echoes", "message_echoes", ECHO),
    field("user_id_update", "user_id_update", UPDATE, {"wa_id": ANA}),
    field("user_preferences", "user_preferences", PREFERENCE, {}),
    field("account_update", "events", {}),
)
_WHOLE["entry"] *= 2
_BODIES = _mutations(_WHOLE) | _mutations(_WHOLE).flatmap(_mutations) | _ANY


def _assert_stable(body: bytes) -> None:
    found = units(body)
    assert found
    for unit in found:
        if isinstance(unit, Rejected):
            # What waits in quarantine gives the same single unit when it is tried again.
            assert units(unit.payload) == [unit]


@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_at_least_one_unit_that_stays_the_same_when_replayed(
    body: bytes,
) -> None:
    _assert_stable(body)


@given(_BODIES)
def test_arbitrary_json_is_at_least_one_unit_that_stays_the_same_when_replayed(body: Any) -> None:
    # Unpaired surrogates stay as escapes; Infinity and NaN are no JSON, and come from nobody less.
    _assert_stable(json.dumps(body).encode())


@given(_mutations(_WHOLE), st.integers(min_value=0), st.binary(max_size=3))
def test_a_body_with_broken_bytes_is_at_least_one_unit_that_stays_the_same_when_replayed(
    body: Any, place: int, broken: bytes
) -> None:
    data = json.dumps(body, ensure_ascii=False).encode("utf-8", "surrogatepass")
    place %= len(data) + 1
    _assert_stable(data[:place] + broken + data[place:])


@given(_mutations(_WHOLE["entry"][0]["changes"][0]["value"]["messages"][0]))
def test_whatever_a_message_is_its_neighbours_are_loaded(message: Any) -> None:
    body = notification(change(GOOD))
    body["entry"][0]["changes"][0]["value"]["messages"] = [GOOD, message, GOOD]
    found = units(json.dumps(body).encode())
    if _is_json(message):
        assert len(found) == 3
        assert isinstance(found[0], Message)
        assert isinstance(found[2], Message)


def _is_json(value: Any) -> bool:
    """Whether JSON can say it: a line with NaN or Infinity is none, as a whole."""
    try:
        json.dumps(value, allow_nan=False)
    except ValueError:
        return False
    return True


@pytest.mark.parametrize("wrong", [b"", b"[],"], ids=["", "an entry that is none"])
@pytest.mark.parametrize("name", [b"messages", b"\x80", rb"\ud800"])
@pytest.mark.parametrize("where", ["notification", "entry", "value", "message"])
def test_a_body_of_any_depth_stays_the_same_when_replayed(
    where: str, name: bytes, wrong: bytes
) -> None:
    # Python's decoder and msgspec's give up at depths near its recursion limit, each at another.
    for depth in range(900, 1_010):
        deep = dict.fromkeys(("notification", "entry", "value", "message"), b"1")
        deep[where] = b"[" * depth + b"]" * depth
        _assert_stable(
            b'{"object":"whatsapp_business_account","deep":%b,"entry":[%b{"deep":%b,"changes":[{'
            b'"field":"%b","value":{"deep":%b,"messages":[{"deep":%b}]}}]}]}'
            % (deep["notification"], wrong, deep["entry"], name, deep["value"], deep["message"])
        )


def test_a_body_of_more_units_than_fit_the_memory_is_one_unit() -> None:
    most = line(change(*[{}] * MAX_UNITS_OF_LINE))
    assert len(units(most)) == MAX_UNITS_OF_LINE
    more = line(change(*[{}] * (MAX_UNITS_OF_LINE + 1)))
    assert rejected(more) == Rejected("notification", "line_too_long", None, more)


@pytest.mark.parametrize("where", ["entry id", "contacts", "another field"])
def test_a_body_whose_copies_would_fill_the_memory_is_one_unit(where: str) -> None:
    long = "x" * 200_000
    body = notification(change(*[{}] * 300))
    entry = body["entry"][0]
    if where == "entry id":
        entry["id"] = long
    elif where == "contacts":
        entry["changes"][0]["value"]["contacts"] = long
    else:
        value = {"long": long, "user_preferences": [{}] * 300}
        entry["changes"] = [{"field": "anything", "value": value}]
    unit = rejected(body)
    assert (unit.kind, unit.reason) == ("notification", "line_too_long")


# ../shared beside the checkout.
SAMPLES = Path(__file__).resolve().parents[3] / "shared" / "samples" / "whatsapp"
_EXPECTED = {
    "audio": "[mensagem de voz]",
    "button": "Unsubscribe",
    "contacts": "[contato] Barbara J. Johnson",
    "image": "[imagem] Taj Mahal",
    "interactive_1": "Priority Mail Express – Next Day to 2 Days",
    "interactive_2": "Cancel",
    "location": "[localização] Philz Coffee, 101 Forest Ave, Palo Alto, CA 94301",
    "order": "[pedido] 2 itens: Love these!",
    "unsupported_1": "[mensagem não suportada] edit",
    "unsupported_with_type": "[mensagem não suportada] pool",
    "smb_message_echoes": "Here's the info you requested! https://www.meta.com/quest/quest-3/",
    "bsuid_only_text": "Does it come in another color?",
    "text_2": "Is this still available?",
    "message_reply": "replied text",
    "message_text": "Body Text",
    "edit": MessageChange,
    "errors": Skipped,
    "docs_reaction": Reaction,
    "message_unreaction": Reaction,
    "scoped_user_ids_1": StatusEvent,
    "scoped_user_ids_2": StatusEvent,
    "docs_status_1": StatusEvent,
    "docs_status_2": StatusEvent,
    "status_failed": StatusEvent,
    "status_sent": StatusEvent,
    "docs_system": IdentityChange,
    "log_system": IdentityChange,
    "user_id_update": IdentityChange,
}


@pytest.mark.skipif(
    not SAMPLES.is_dir(), reason="the sample bodies of ../shared are not beside this checkout"
)
def test_every_published_body_is_the_unit_that_it_should_be() -> None:
    paths = sorted(SAMPLES.glob("*.json"))
    assert len(paths) >= len(_EXPECTED)
    for path in paths:
        (expected,) = (value for name, value in _EXPECTED.items() if name in path.name)
        unit = only(json.loads(path.read_bytes()))
        if isinstance(expected, str):
            assert isinstance(unit, Message), path.name
            assert unit.content == expected, path.name
        else:
            assert type(unit) is expected, path.name
