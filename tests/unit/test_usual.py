"""What is read in one pass is what the careful decoder reads; anything odd is left to that one."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatte_pipelines.inbound import envelope, lines
from gatte_pipelines.inbound.units import Horizon, Message, Sender, Skipped, StatusEvent
from gatte_pipelines.inbound.usual import read_usual
from gatte_pipelines.sandbox.traffic import WHOLE_SHARES, TrafficPlan, iter_bodies

AS_OF = datetime(2026, 11, 22, 12, tzinfo=UTC)
NOW = int(AS_OF.timestamp())
DAY = 24 * 3600
HORIZON = lines.horizon(AS_OF)
ANA, BRUNO = "5511960000001", "5511960000002"
ANAS_BSUID = "BR.1000000000000001"


def text(**fields: Any) -> dict[str, Any]:
    values = {"id": "wamid.1", "from": ANA, "timestamp": str(NOW), "type": "text"}
    return values | {"text": {"body": "Bom dia"}} | fields


def status(**fields: Any) -> dict[str, Any]:
    return {"id": "wamid.2", "status": "read", "timestamp": str(NOW)} | fields


def notification(*values: dict[str, Any], **fields: Any) -> bytes:
    changes = [{"field": "messages", "value": value} for value in values]
    body = {"object": envelope.WHATSAPP_OBJECT, "entry": [{"id": "1", "changes": changes}]}
    return json.dumps(body | fields, separators=(",", ":")).encode()


def judged(line: bytes, horizon: Horizon = HORIZON) -> list[Any]:
    return list(envelope.iter_units(line, horizon))


@pytest.mark.parametrize("cutover_us", [0, (NOW - 7 * DAY) * 1_000_000 + 1])
def test_traffic_of_every_kind_has_the_units_that_the_careful_decoder_finds(
    cutover_us: int,
) -> None:
    horizon = lines.horizon(AS_OF, cutover_us)
    plan = TrafficPlan(messages=2_000, users=300, seed=5, as_of=AS_OF, **WHOLE_SHARES)
    bodies = list(iter_bodies(plan))
    read = [(body, units) for body in bodies if (units := read_usual(body, horizon)) is not None]
    assert all(units == judged(body, horizon) for body, units in read)
    assert len(read) > len(bodies) / 2


def test_a_usual_notification_is_read_in_order() -> None:
    contact = {"wa_id": ANA, "user_id": ANAS_BSUID, "profile": {"name": " Ana Exemplo "}}
    line = notification(
        {"contacts": [contact], "messages": [text()], "statuses": [status()]},
        {"statuses": [status(status="failed", errors=[{"code": 131026}, {}])]},
    )
    message, read, failed = read_usual(line, HORIZON) or []
    assert isinstance(message, Message)
    assert message.sender == Sender(wa_id=ANA, bsuid=ANAS_BSUID, name="Ana Exemplo")
    assert read == StatusEvent("wamid.2", "read", NOW, None, None, None)
    assert failed == StatusEvent("wamid.2", "failed", NOW, 131026, None, None)
    assert [message, read, failed] == judged(line)


@pytest.mark.parametrize(
    "line",
    [
        notification(),
        notification({}),
        notification({"messages": [], "statuses": None, "errors": None}),
        notification({"statuses": [status(timestamp=str(NOW - 91 * DAY))]}),
        notification({"messages": [text(timestamp=str(NOW - 91 * DAY), **{"from": "x"})]}),
        notification({"messages": [text(**{"from": None}, from_user_id=ANAS_BSUID)]}),
        notification({"statuses": [status(biz_opaque_callback_data="not an attempt")]}),
        notification({"statuses": [status(pricing={"category": "utility"})]}),
        notification({"messages": [text(text={"body": "SAIR"})]}),
    ],
)
def test_what_is_usual_is_read_as_the_careful_decoder_reads_it(line: bytes) -> None:
    assert read_usual(line, HORIZON) == judged(line)


def test_of_two_contacts_of_one_id_the_first_names_the_sender() -> None:
    names = [{"wa_id": ANA, "profile": {"name": name}} for name in ("Um", "Outro")]
    line = notification({"contacts": names, "messages": [text()]})
    (message,) = read_usual(line, HORIZON) or []
    assert isinstance(message, Message)
    assert message.sender.name == "Um"


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"{}",
        b'{"object":',
        b' {"object":"whatsapp_business_account","entry":[]}',
        notification()[:-1],
        notification(schema="gatte.chatbot_event/1"),
        notification(object="page"),
        notification({"errors": [{"code": 1}]}),
        notification({"messages": [text(type="image")]}),
        notification({"messages": [text(group_id="g")]}),
        notification({"messages": [text(recipient_type="group")]}),
        notification({"messages": [text(id="")]}),
        notification({"messages": [text(id="w" * 513)]}),
        notification({"messages": [text(text={"body": ""})]}),
        notification({"messages": [text(text={"body": "a\0b"})]}),
        notification({"messages": [text(**{"from": None})]}),
        notification({"messages": [text(**{"from": "12"})]}),
        notification({"messages": [text(from_user_id="br.1")]}),
        notification({"messages": [text()], "contacts": [{"wa_id": 1}]}),
        notification(
            {"messages": [text()], "contacts": [{"wa_id": ANA, "profile": {"name": "n" * 151}}]}
        ),
        notification({"statuses": [status(status="pending")]}),
        notification({"statuses": [status(pricing={"category": "other"})]}),
        notification({"statuses": [status(errors=[{"code": 2**31}])]}),
        notification({"statuses": [status(timestamp=str(NOW + 601))]}),
        notification({"statuses": [status(timestamp="1")]}),
        notification({"statuses": [status(timestamp=f"+{NOW}")]}),
        notification({"statuses": [status(timestamp=f" {NOW}")]}),
        notification({"statuses": [status(timestamp="1_780_000_000")]}),
        notification(
            {
                "statuses": [
                    status(timestamp="".join("٠١٢٣٤٥٦٧٨٩"[int(digit)] for digit in str(NOW)))
                ]
            }
        ),
        notification({"statuses": [status(timestamp="9" * 19)]}),
        notification({"statuses": [status()] * 20_000}),
    ],
)
def test_what_is_odd_is_left_to_the_careful_decoder(line: bytes) -> None:
    assert read_usual(line, HORIZON) is None


_VALUES = st.sampled_from(
    [
        *("", "x", ANA, BRUNO, ANAS_BSUID, str(NOW), str(NOW - 100 * DAY), "group", "SAIR", "a\0"),
        *(None, 0, [], {}, {"body": "Oi"}, {"name": "Ana"}, {"category": "service"}),
        [{"code": 7}],
    ]
)


def _damaged(usual: Callable[..., dict[str, Any]], *names: str) -> st.SearchStrategy[Any]:
    return st.dictionaries(st.sampled_from(names), _VALUES, max_size=2).map(lambda f: usual(**f))


_MESSAGES = _damaged(text, *text(), "from_user_id", "from_parent_user_id", "recipient_type")
_STATUSES = _damaged(status, *status(), "pricing", "errors", "biz_opaque_callback_data", "group_id")
_CONTACTS = _damaged(dict, "wa_id", "user_id", "parent_user_id", "profile")


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "contacts": st.lists(_CONTACTS, max_size=3),
            "messages": st.lists(_MESSAGES, max_size=3),
            "statuses": st.lists(_STATUSES, max_size=3),
        },
    )
)
def test_whatever_is_in_a_notification_both_decoders_agree(value: dict[str, Any]) -> None:
    line = notification(value)
    units = read_usual(line, HORIZON)
    assert units is None or units == judged(line)


def test_a_record_of_before_the_cutover_is_skipped() -> None:
    line = notification({"messages": [text()], "statuses": [status()]})
    cutover = lines.horizon(AS_OF, NOW * 1_000_000 + 1)
    assert read_usual(line, cutover) == [Skipped("before_cutover")] * 2
