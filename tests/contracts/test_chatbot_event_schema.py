"""The published schema of the chatbot's events and the decoder say the same."""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatte_pipelines.inbound.chatbot_events import SCHEMA, is_chatbot_event, iter_events
from gatte_pipelines.inbound.units import ConversationEvent, Horizon, Message, Rejected

REPOSITORY = Path(__file__).resolve().parents[2]
EXAMPLES = (REPOSITORY / "examples" / "chatbot_events.jsonl").read_text("utf-8")
PUBLISHED = json.loads(
    resources.files("gatte_pipelines.inbound")
    .joinpath("chatbot_event.v1.schema.json")
    .read_text("utf-8")
)
VALIDATOR = jsonschema.Draft202012Validator(PUBLISHED)
ENDLESS = Horizon(latest_us=2**62, earliest_us=0)

PHONE, BSUID = "+5511900000001", "BR.10000000000000000001"
USER_ID = "00000000-0000-4000-8000-000000000001"
AT = "2026-11-19T09:00:00-03:00"
LEFT_OUT: Any = ...
MESSAGE = {
    "schema": SCHEMA,
    "type": "message",
    "wamid": "wamid.1",
    "phone": PHONE,
    "role": "user",
    "content": "olá",
    "sent_at": AT,
}
CONVERSATION = {
    "schema": SCHEMA,
    "type": "conversation",
    "event_id": "e-1",
    "phone": PHONE,
    "status": "open",
    "at": AT,
}

# Good and bad values of each property, alone; what they are together, schema and decoder decide.
TEXTS = [LEFT_OUT, None, "", " ", "\t", "x", "x" * 100, "x" * 101, "💥" * 100, "x\0", 5, []]
INSTANTS = [
    LEFT_OUT,
    None,
    AT,
    "2026-11-19T12:00:00.5Z",
    "2026-11-19 12:00:00.123456789z",
    "2026-11-19t12:00:00-0300",
    "2026-11-19T12:00:00",
    "2026-11-19T12:00:00.Z",
    "2026-11-19T12:00Z",
    "2026-11-19T12:00:60Z",
    "2026-11-19T24:00:00Z",
    "2026-13-19T12:00:00Z",
    "2026-11-19T12:00:00+24:00",
    "2026-11-19T12:00:00+05:60",
    "2026-11-19",
    "ontem",
    1_795_089_600,
]
IDS = [LEFT_OUT, None, "", "x", "x" * 200, "x" * 201, "x" * 512, "x" * 513, "x\0", 5]
CLIENT: dict[str, list[Any]] = {
    "schema": [LEFT_OUT, SCHEMA, "gatte.chatbot_event/2", "", 1, None],
    "type": [LEFT_OUT, "message", "conversation", "reaction", "", 1, None],
    "phone": [LEFT_OUT, None, PHONE, PHONE[1:], "", "++5511900000001", "+0511900000001", "~b", 5],
    "bsuid": [LEFT_OUT, None, BSUID, "US.ENT.7", "", "br.1", "BR.", "BR.1-2", "BR." + "9" * 129],
    "user_id": [LEFT_OUT, None, USER_ID, USER_ID.upper(), "", USER_ID.replace("-", ""), "x", 5],
    "a_property_of_tomorrow": [LEFT_OUT, None, {"wamid": 5}, "\0"],
}
OF_MESSAGE = CLIENT | {
    "wamid": IDS,
    "external_id": IDS,
    "role": [LEFT_OUT, None, "user", "assistant", "system", "tool", "", 5],
    "content": TEXTS,
    "sent_at": INSTANTS,
    "author": [LEFT_OUT, None, "client", "bot", "human", "campaign", "cliente", "", 5],
    "tokens_used": [LEFT_OUT, None, 0, 2**31 - 1, 2**31, -1, 10**30, 1.5, True, "1"],
    "intent_detected": TEXTS,
    "model": TEXTS,
    "mode": [LEFT_OUT, None, "menu", "ai_free", "human", "flow", "bot", "", " ", 5],
    "current_flow": TEXTS,
}
OF_CONVERSATION = CLIENT | {
    "event_id": IDS,
    "status": [LEFT_OUT, None, "open", "waiting", "transferred", "closed", "aberta", "", 5],
    "at": INSTANTS,
    "closed_at": INSTANTS,
    "transferred_to": TEXTS,
}


def is_taken(event: dict[str, Any]) -> bool:
    (unit,) = iter_events(json.dumps(event).encode(), ENDLESS)
    return not isinstance(unit, Rejected)


def with_fields(event: dict[str, Any], fields: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in (event | fields).items() if value is not LEFT_OUT}


def assert_agreement(event: dict[str, Any]) -> None:
    assert is_taken(event) == VALIDATOR.is_valid(event), event


def test_the_schema_is_a_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(PUBLISHED)
    assert PUBLISHED["properties"]["schema"]["const"] == SCHEMA


def properties_in(schema: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    yield from schema.get("properties", {}).items()
    for name, definition in schema.get("$defs", {}).items():
        yield name, definition
        yield from properties_in(definition)


def test_every_property_is_described() -> None:
    for name, definition in properties_in(PUBLISHED):
        assert definition["description"].endswith("."), name


def test_every_example_satisfies_the_schema_and_is_taken() -> None:
    found = []
    for line in EXAMPLES.splitlines():
        VALIDATOR.validate(json.loads(line))
        assert is_chatbot_event(line.encode())
        found += iter_events(line.encode(), ENDLESS)
    assert {type(unit) for unit in found} == {Message, ConversationEvent}
    assert len(found) == 6


def test_the_document_shows_the_examples_as_they_are() -> None:
    document = (REPOSITORY / "docs" / "chatbot_events.md").read_text("utf-8")
    assert f"```json\n{EXAMPLES}```" in document


def test_the_document_names_every_property() -> None:
    document = (REPOSITORY / "docs" / "chatbot_events.md").read_text("utf-8")
    shapes = [PUBLISHED, PUBLISHED["$defs"]["message"], PUBLISHED["$defs"]["conversation"]]
    for shape in shapes:
        for name in shape["properties"]:
            assert f"\n| `{name}` |" in document, name


@pytest.mark.parametrize(
    ("event", "values"), [(MESSAGE, OF_MESSAGE), (CONVERSATION, OF_CONVERSATION)]
)
def test_schema_and_decoder_agree_on_each_property(
    event: dict[str, Any], values: dict[str, list[Any]]
) -> None:
    verdicts = set()
    for name, candidates in values.items():
        for value in candidates:
            changed = with_fields(event, {name: value})
            assert_agreement(changed)
            verdicts.add(is_taken(changed))
    assert verdicts == {True, False}


@pytest.mark.parametrize(
    "fields",
    [
        {"external_id": "m-1"},
        {"wamid": None, "external_id": "m-1"},
        {"wamid": "", "external_id": "m-1"},
        {"mode": "flow", "current_flow": "ticket_flow"},
        {"mode": None, "current_flow": "ticket_flow"},
        {"phone": LEFT_OUT},
        {"phone": None, "bsuid": BSUID},
        {"phone": LEFT_OUT, "bsuid": None, "user_id": USER_ID},
        {"type": "conversation", "event_id": "e-1", "status": "closed", "at": AT, "closed_at": AT},
        {"type": "conversation", "event_id": "e-1", "status": "open", "at": AT, "closed_at": AT},
        {"type": "conversation", "event_id": "e-1", "status": "transferred", "at": AT}
        | {"transferred_to": "Atendente Exemplo"},
    ],
)
def test_schema_and_decoder_agree_on_properties_together(fields: dict[str, Any]) -> None:
    assert_agreement(with_fields(MESSAGE, fields))


def some_of(values: dict[str, list[Any]]) -> st.SearchStrategy[dict[str, Any]]:
    choices = {name: st.sampled_from(candidates) for name, candidates in values.items()}
    return st.fixed_dictionaries({}, optional=choices)


@given(some_of(OF_MESSAGE), some_of(OF_CONVERSATION))
def test_schema_and_decoder_agree_on_any_combination(
    message: dict[str, Any], conversation: dict[str, Any]
) -> None:
    assert_agreement(with_fields(MESSAGE, message))
    assert_agreement(with_fields(CONVERSATION, conversation))


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"phone": "+9990000"}, "invalid_phone"),
        ({"sent_at": "2026-02-30T00:00:00Z"}, "invalid_timestamp"),
        ({"sent_at": "2008-12-31T23:59:59Z"}, "invalid_timestamp"),
        ({"content": "é" * (4 * 1024 * 1024 + 1)}, "too_long"),
        ({"tokens_used": 12.0}, "wrong_type"),
        ({"content": "\ud800"}, "invalid_utf8"),
    ],
)
def test_the_decoder_refuses_what_no_schema_can_say(fields: dict[str, Any], reason: str) -> None:
    event = with_fields(MESSAGE, fields)
    assert VALIDATOR.is_valid(event)
    (unit,) = iter_events(json.dumps(event).encode(), ENDLESS)
    assert isinstance(unit, Rejected)
    assert unit.reason == reason
