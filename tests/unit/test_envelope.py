"""What one webhook body becomes: units, each loaded or rejected on its own, none lost."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatte_pipelines.inbound.envelope import (
    MAX_UNITS_OF_LINE,
    Empty,
    Rejected,
    StatusEvent,
    TextMessage,
    Unit,
    iter_units,
)
from tests.webhooks import ANA, BRUNO, change, contact, line, notification, status, text_message

NOW = 1_780_000_000
LATEST = NOW + 600
HIDDEN = "valor-que-ninguem-pode-ver"
BSUID = "BR.13491208655302741918"


def units(body: bytes | dict[str, Any]) -> list[Unit]:
    data = body if isinstance(body, bytes) else json.dumps(body, ensure_ascii=False).encode()
    return list(iter_units(data, LATEST))


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
    wamids = [unit.wamid for unit in found if isinstance(unit, TextMessage)]
    statuses = [unit.wamid for unit in found if isinstance(unit, StatusEvent)]
    assert wamids == [f"m{e}{c}{n}" for e in range(3) for c in range(3) for n in range(3)]
    assert statuses == [f"s{e}{c}{n}" for e in range(3) for c in range(3) for n in range(2)]
    assert len(found) == 45


def test_a_text_message_keeps_all_that_is_loaded() -> None:
    message = text_message("wamid.1", NOW, from_user_id=BSUID, from_parent_user_id="BR.ENT.7")
    found = only(line(change(message, contacts=[contact(ANA, "  Ana Exemplo ")])))
    assert found == TextMessage("wamid.1", NOW, ANA, BSUID, "BR.ENT.7", "Ana Exemplo", "olá")


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
    found = [(u.name, u.bsuid) for u in units(body) if isinstance(u, TextMessage)]
    assert found == [("Ana", "BR.1"), ("Bruno", None), ("Carla", BSUID), (None, None)]


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
    assert isinstance(only(of_message(timestamp=str(LATEST))), TextMessage)
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
        ({"type": "image", "text": None}, "not_yet_supported", "messages[].type"),
        ({"type": HIDDEN}, "not_yet_supported", "messages[].type"),
        ({"type": None}, "missing_field", "messages[].type"),
        ({"group_id": "g"}, "not_yet_supported", "messages[].type"),
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
        ({"recipient_type": "group"}, "not_yet_supported", "statuses[].status"),
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
    assert isinstance(good, TextMessage)
    assert (bad.reason, bad.field, good.name) == (reason, field, "Bruno")
    assert b"Bruno" not in bad.payload, "another person's name waits in this quarantine"


@pytest.mark.parametrize("name", ["", "   ", None])
def test_an_empty_profile_name_is_no_name(name: str | None) -> None:
    profile = {"profile": {"name": name}, "wa_id": ANA}
    found = only(line(change(text_message("a", NOW), contacts=[profile])))
    assert isinstance(found, TextMessage)
    assert found.name is None


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
    assert isinstance(first, TextMessage)
    assert isinstance(second, Rejected)
    assert isinstance(third, TextMessage)
    assert isinstance(fourth, StatusEvent)
    assert second.reason.startswith(reason)
    assert third.body == "é 😀"


def test_escaped_surrogates_never_turn_into_a_text_that_nobody_wrote() -> None:
    body = of_message(text={"body": "X"}).replace(b'"X"', rb'"\udcc3\udca9"')
    assert rejected(body).reason == "invalid_utf8"


def test_an_escaped_emoji_is_text() -> None:
    found = only(of_message(text={"body": "X"}).replace(b'"X"', rb'"\ud83d\ude00 \ud83d\udc80"'))
    assert isinstance(found, TextMessage)
    assert found.body == "\U0001f600 \U0001f480"


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
    assert isinstance(second, TextMessage)
    assert isinstance(first, Rejected)
    assert isinstance(third, Rejected)
    assert (first.field, first.payload) == (field, third.payload)


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
    assert units(notification() | {"entry": entries}) == [Empty()]


def test_errors_of_a_change_are_units_kept_for_later() -> None:
    found = units(line(change(errors=[{"code": 1}, {"code": 2}])))
    assert [(u.kind, u.reason) for u in found if isinstance(u, Rejected)] == [
        ("errors", "not_yet_supported")
    ] * 2


@pytest.mark.parametrize(
    ("field", "value", "count"),
    [
        ("smb_message_echoes", {"message_echoes": [{"id": "1"}, {"id": "2"}]}, 2),
        ("user_id_update", {"user_id_update": [{"user_id": {}}, {}, {}]}, 3),
        ("user_preferences", {"user_preferences": [{"value": "stop"}]}, 1),
        ("account_update", {"event": "PARTNER_ADDED"}, 1),
        ("user_id_update", {"user_id_update": []}, 1),
        ("account_update", [1, 2], 1),
        ("account_update", None, 1),
    ],
)
def test_each_event_of_another_field_is_a_unit_kept_for_later(
    field: str, value: Any, count: int
) -> None:
    found = units(line({"field": field, "value": value}, change(GOOD)))
    assert isinstance(found.pop(), TextMessage)
    assert [(u.kind, u.reason) for u in found if isinstance(u, Rejected)] == [
        (field, "not_yet_supported")
    ] * count


def test_a_field_whose_name_is_no_name_is_not_repeated() -> None:
    assert rejected(line({"field": f"{HIDDEN}\n", "value": {}})).kind == "unknown"


# Anything that JSON can say, with the words of a webhook among it, so that it comes near.
_WORDS = st.sampled_from(
    (
        "object entry changes field value messages statuses errors contacts id timestamp type from "
        "text body whatsapp_business_account sent message_echoes user_id_update wa_id profile name "
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
    {"field": "user_id_update", "value": {"user_id_update": [{"wa_id": ANA}, {}]}},
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
    if json.loads(json.dumps(message)) == message:  # not so for what JSON cannot say: NaN
        assert len(found) == 3
        assert isinstance(found[0], TextMessage)
        assert isinstance(found[2], TextMessage)


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
        entry["changes"] = [{"field": "user_preferences", "value": value}]
    unit = rejected(body)
    assert (unit.kind, unit.reason) == ("notification", "line_too_long")
