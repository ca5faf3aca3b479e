"""A chunk groups its senders by person and writes its units as COPY text PostgreSQL reads back."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatte_pipelines.inbound.chunk import MAX_REJECTIONS_TOLD, Chunk
from gatte_pipelines.inbound.ids import MessageIds
from gatte_pipelines.inbound.units import (
    ButtonReply,
    ConversationEvent,
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
    Told,
    Unit,
)

IDS = MessageIds(b"obviously-no-production-key")
ANA, BRUNO = "5511900000001", "5511900000002"
MOBILE, MOBILE_OLD = "5511960001234", "551160001234"
SECOND = 1_000_000
NOW = 1_780_000_000 * SECOND
KNOWN, UNKNOWN = "0" * 31 + "a", "0" * 31 + "b"
BODY = b'{"schema":"gatte.chatbot_event/1"}'

_TEXT = st.text(alphabet=st.characters(codec="utf-8", exclude_characters="\0"))
_COLUMNS = {
    "senders": "sender person phone_key bsuid wa_id name parent_bsuid user_ref first_us client_us "
    "said_us said_id",
    "people": "person new_user_id placeholder phone_forms",
    "identities": "person kind value first_us",
    "messages": "unit id sender source is_best sent_us role author content",
    "facts": "id sender told_us tokens_used intent_detected model current_flow mode author",
    "statuses": "message_id status status_at error_code pricing_category attempt_id",
    "changes": "change_id edit_id target_id changed_us is_revoke content",
    "reactions": "message_id reacted_us reaction_id emoji",
    "buttons": "message_id context_id payload pressed_us",
    "opt_outs": "choice_id sender chosen_us category is_opted_out",
    "worded_opt_outs": "message_id",
    "events": "event_id sender at_us status transferred_to",
    "identity_changes": "change_id changed_us moves_number old_phone_key old_bsuid "
    "old_parent_bsuid new_phone_key new_wa_id new_bsuid new_parent_bsuid",
    "quarantine": "id batch_id source_name line kind field reason payload",
}


def message(wamid: str, at_us: int = NOW, **fields: Any) -> Message:
    """A text of Ana's webhook; ``fields`` replace its fields, those of the sender by name."""
    of_sender = {"wa_id": ANA} | {name: fields.pop(name) for name in Sender._fields & fields.keys()}
    values: dict[str, Any] = {
        "key": f"wamid:{wamid}",
        "source": Source.PROVIDER,
        "sent_us": at_us,
        "sender": Sender(**of_sender),
        "role": "user",
        "content": "olá",
        "author": "client",
    }
    return Message(**(values | fields))


def told(wamid: str, at_us: int = NOW, facts: Told | None = None, **fields: Any) -> Message:
    """The chatbot's event of a message."""
    values = {"wa_id": "", "phone": ANA, "source": Source.CHATBOT, "author": "bot"} | fields
    return message(wamid, at_us, told=facts or Told(), **values)


def unsealed(*units: Unit) -> Chunk:
    chunk = Chunk(IDS, "b" * 32, "lote.jsonl")
    for number, unit in enumerate(units, start=1):
        chunk.add(unit, number, BODY)
    return chunk


def sealed(*units: Unit) -> Chunk:
    return unsealed(*units).close(len(units), 1000)


def read(chunk: Chunk, table: str) -> list[dict[str, str | None]]:
    """The rows of a table by column, as PostgreSQL reads COPY text."""
    escapes = {"t": "\t", "n": "\n", "r": "\r", "\\": "\\"}
    lines = chunk.rows[table].decode().split("\n")
    assert lines.pop() == ""
    values = [
        [
            None
            if field == r"\N"
            else re.sub(r"\\(.)", lambda match: escapes[match[1]], field, flags=re.DOTALL)
            for field in line.split("\t")
        ]
        for line in lines
    ]
    return [dict(zip(_COLUMNS[table].split(), row, strict=True)) for row in values]


def one(chunk: Chunk, table: str) -> dict[str, str | None]:
    (row,) = read(chunk, table)
    return row


def people(chunk: Chunk) -> list[set[str]]:
    """What each person's senders wrote, by wamid."""
    wamids = {IDS.of_wamid(wamid): wamid for wamid in "abcdefgh"}
    person_of = {row["sender"]: row["person"] for row in read(chunk, "senders")}
    wrote: dict[Any, set[str]] = {}
    for row in read(chunk, "messages"):
        wrote.setdefault(person_of[row["sender"]], set()).add(wamids[str(row["id"])])
    return sorted(wrote.values(), key=sorted)


ONE_OF_EACH: dict[str, Unit] = {
    "messages": message("a"),
    "statuses": StatusEvent("w", "sent", NOW // SECOND, None, None, None),
    "changes": MessageChange("e", "a", NOW, "corrigido"),
    "reactions": Reaction("r", "a", NOW, "👍"),
    "identity_changes": IdentityChange("wamid:s", NOW, Sender(ANA), Sender(BRUNO), True),
    "opt_outs": OptOut("k", NOW, Sender(ANA), "marketing_messages", True),
    "events": ConversationEvent("conversation:k", NOW, Sender(phone=ANA), "closed", None),
    "quarantine": Rejected("text", "future", "messages[].timestamp", b"{}"),
}


@pytest.mark.parametrize("table", sorted(ONE_OF_EACH))
def test_a_unit_is_one_received_and_one_row_of_its_own_table(table: str) -> None:
    chunk = sealed(ONE_OF_EACH[table])
    assert chunk.received == 1
    assert len(read(chunk, table)) == 1
    others = ONE_OF_EACH.keys() - {table}
    assert {other: chunk.rows[other] for other in others} == dict.fromkeys(others, b"")


def test_every_unit_counts_as_received_also_one_that_has_no_row() -> None:
    chunk = sealed(*ONE_OF_EACH.values(), Skipped("group"), Skipped("group"), Skipped("security"))
    assert chunk.received == len(ONE_OF_EACH) + 3
    assert (chunk.message_count, chunk.status_count) == (1, 1)
    assert chunk.skipped == {"group": 2, "security": 1}


@given(_TEXT)
def test_any_text_comes_back_as_it_was(text: str) -> None:
    chunk = sealed(
        message("a", content=text, name=text, button=ButtonReply("w", text)),
        told("b", facts=Told(0, text, "bot", text, "flow", text)),
        MessageChange("e", "a", NOW, text),
        Reaction("r", "a", NOW, text),
        ConversationEvent("k", NOW, Sender(ANA), "transferred", text),
        OptOut("k", NOW, Sender(ANA), text, False),
    )
    assert read(chunk, "messages")[0]["content"] == text
    assert read(chunk, "senders")[0]["name"] == text
    assert one(chunk, "buttons")["payload"] == text
    facts = one(chunk, "facts")
    assert [facts[name] for name in ("intent_detected", "model", "current_flow")] == [text] * 3
    assert one(chunk, "changes")["content"] == text
    assert one(chunk, "reactions")["emoji"] == text
    assert one(chunk, "events")["transferred_to"] == text
    assert one(chunk, "opt_outs")["category"] == text


# --- Who wrote ---------------------------------------------------------------------------------


def test_equal_senders_are_one_row_with_first_and_last_time() -> None:
    chunk = sealed(
        message("b", NOW + 1, name="Ana"),
        message("a", NOW - 5, name="Ana"),
        message("c", NOW + 9, name="Ana", role="assistant"),
    )
    assert one(chunk, "senders") == {
        "sender": "0",
        "person": "0",
        "phone_key": ANA,
        "bsuid": "",
        "wa_id": ANA,
        "name": "Ana",
        "parent_bsuid": "",
        "user_ref": "",
        "first_us": str(NOW - 5),
        "client_us": str(NOW + 1),
        "said_us": str(NOW + 9),
        "said_id": IDS.of_wamid("c"),
    }


def test_what_was_said_last_at_one_instant_is_of_the_greater_id() -> None:
    chunk = sealed(*(message(wamid) for wamid in "abcd"))
    assert one(chunk, "senders")["said_id"] == max(IDS.of_wamid(wamid) for wamid in "abcd")


def test_only_a_webhook_says_which_form_and_name_a_client_has_now() -> None:
    senders = read(sealed(told("a"), told("b", role="assistant")), "senders")
    assert [(row["said_us"], row["said_id"]) for row in senders] == [(None, None)]


def test_the_twelve_and_the_thirteen_digit_form_of_a_mobile_are_one_person() -> None:
    chunk = sealed(message("a", wa_id=MOBILE), message("b", NOW + 1, wa_id=MOBILE_OLD))
    assert people(chunk) == [{"a", "b"}]
    person = one(chunk, "people")
    assert person["placeholder"] is None
    assert person["phone_forms"] == f"{{+{MOBILE},+{MOBILE_OLD}}}"
    assert [row["wa_id"] for row in read(chunk, "senders")] == [MOBILE, MOBILE_OLD]
    assert {(row["kind"], row["value"], row["first_us"]) for row in read(chunk, "identities")} == {
        ("phone_key", MOBILE, str(NOW)),
        ("wa_id", MOBILE, str(NOW)),
        ("wa_id", MOBILE_OLD, str(NOW + 1)),
    }


def test_the_chatbots_form_of_a_number_is_the_same_person_but_no_form_to_reply_to() -> None:
    chunk = sealed(message("a", wa_id=MOBILE_OLD), told("b", phone=MOBILE))
    assert people(chunk) == [{"a", "b"}]
    assert {row["value"] for row in read(chunk, "identities") if row["kind"] == "wa_id"} == {
        MOBILE_OLD
    }


def test_who_is_known_by_user_id_only_has_a_placeholder() -> None:
    person = one(sealed(message("a", wa_id="", bsuid="BR.1")), "people")
    assert re.fullmatch(r"~b[a-z2-7]{18}", str(person["placeholder"]))
    assert person["phone_forms"] == "{}"


def test_a_message_with_phone_and_user_id_joins_those_who_wrote_with_one_of_them() -> None:
    chunk = sealed(
        message("a", NOW, wa_id=ANA, name="Ana"),
        message("b", NOW - 5, wa_id="", bsuid="BR.1", name="Antes"),
        message("h", wa_id=BRUNO),
        message("c", NOW - 1, wa_id=ANA, bsuid="BR.1"),
        message("d", NOW + 9, wa_id="", bsuid="BR.1"),
    )
    assert people(chunk) == [{"a", "b", "c", "d"}, {"h"}]
    person = read(chunk, "senders")[0]["person"]
    found = {tuple(row.values()) for row in read(chunk, "identities") if row["person"] == person}
    assert found == {
        (person, "phone_key", ANA, str(NOW - 1)),
        (person, "wa_id", ANA, str(NOW - 1)),
        (person, "bsuid", "BR.1", str(NOW - 5)),
    }


def test_two_phones_under_one_user_id_are_one_person() -> None:
    chunk = sealed(
        message("a", wa_id=ANA, bsuid="BR.1"),
        message("b", wa_id=BRUNO, bsuid="BR.1"),
        message("c", wa_id=BRUNO),
        message("d", wa_id="", bsuid="BR.1"),
    )
    assert people(chunk) == [{"a", "b", "c", "d"}]
    assert one(chunk, "people")["phone_forms"] == f"{{+{ANA},+{BRUNO}}}"


CHAIN = [
    message("a", wa_id=ANA),
    message("b", wa_id="", bsuid="BR.1"),
    message("c", wa_id="", bsuid="BR.2", parent_bsuid="BR.ENT.9"),
    message("d", wa_id="", bsuid="BR.1", parent_bsuid="BR.ENT.9"),
    message("e", wa_id=ANA, bsuid="BR.2"),
]


def test_chained_joins_end_with_one_person_in_every_order() -> None:
    for order in itertools.permutations(CHAIN):
        chunk = sealed(message("h", wa_id=BRUNO), *order)
        assert people(chunk) == [set("abcde"), {"h"}]
        assert len(read(chunk, "people")) == 2


def test_who_chose_or_whose_conversation_stands_is_a_person_without_a_message() -> None:
    chunk = sealed(
        OptOut("k", NOW - 3, Sender(ANA), "all", True),
        ConversationEvent("e", NOW - 9, Sender(phone=ANA), "open", None),
    )
    assert len(read(chunk, "people")) == 1
    firsts = {row["wa_id"]: row["first_us"] for row in read(chunk, "senders")}
    assert firsts == {ANA: str(NOW - 3), "": str(NOW - 9)}


# --- Of several records of one message ---------------------------------------------------------

# From the one that counts to the one that counts least; roles compare as texts.
RANKED = [
    message("a", NOW + 5, content="b"),
    message("a", NOW + 5, content="c"),
    message("a", NOW + 6, content="a"),
    told("a", NOW - 9, content="z", role="assistant"),
    told("a", NOW - 9, content="a", role="user"),
    told("a", NOW - 8, content="0"),
]


@pytest.mark.parametrize("swapped", [False, True])
def test_the_provider_is_believed_first_then_the_least_counts(swapped: bool) -> None:
    for expected, other in itertools.combinations(RANKED, 2):
        chunk = sealed(*((other, expected) if swapped else (expected, other)))
        best = [row for row in read(chunk, "messages") if row["is_best"] == "t"]
        assert [(row["sent_us"], row["role"], row["content"]) for row in best] == [
            (str(expected.sent_us), expected.role, expected.content)
        ]


# The same: by time, tokens, intent, model, flow, mode, author; what is absent is greater.
FACTS = [
    (NOW, Told(1, "b", "bot", "m", "menu", None)),
    (NOW, Told(2, "a", "bot", "m", "menu", None)),
    (NOW, Told(None, "a", "bot", "m", "menu", None)),
    (NOW, Told(None, "a", "campaign", "m", "menu", None)),
    (NOW, Told(None, "a", "bot", "m", None, None)),
    (NOW, Told(None, "a", "bot", None, None, None)),
    (NOW, Told(None, None, "bot", "m", "menu", None)),
    (NOW + 1, Told(0, "a", "bot", "a", "menu", "a")),
]


@pytest.mark.parametrize("swapped", [False, True])
def test_of_several_events_of_one_message_the_least_counts_as_a_whole(swapped: bool) -> None:
    for (at_us, expected), (other_us, other) in itertools.combinations(FACTS, 2):
        events = [told("a", at_us, expected), told("a", other_us, other)]
        facts = one(sealed(*(reversed(events) if swapped else events)), "facts")
        assert facts == {"id": IDS.of_wamid("a"), "sender": "0", "told_us": str(at_us)} | {
            name: None if value is None else str(value)
            for name, value in expected._asdict().items()
        }


def test_a_webhook_brings_no_facts_and_takes_none_from_the_chatbots_event() -> None:
    chunk = sealed(told("a", facts=Told(7)), message("a", NOW + 1))
    assert one(chunk, "facts")["tokens_used"] == "7"
    assert [row["is_best"] for row in read(chunk, "messages")] == ["f", "t"]


def test_a_message_that_never_went_to_whatsapp_has_the_id_of_its_own_key() -> None:
    chunk = sealed(told("a", key="chatbot:a"), told("a"))
    ids = [row["id"] for row in read(chunk, "messages")]
    assert ids == [IDS.of_key("chatbot:a"), IDS.of_wamid("a")]
    assert [row["is_best"] for row in read(chunk, "messages")] == ["t", "t"]


# --- What belongs to a message -----------------------------------------------------------------


def test_a_worded_opt_out_is_a_message_and_a_choice_of_one_unit() -> None:
    chunk = sealed(message("a", content="SAIR", opts_out=True), message("b"))
    assert chunk.received == len(read(chunk, "messages")) == 2
    assert read(chunk, "worded_opt_outs") == [{"message_id": IDS.of_wamid("a")}]
    assert read(chunk, "opt_outs") == []


def test_a_button_names_the_message_that_showed_it() -> None:
    chunk = sealed(
        message("a", button=ButtonReply("shown", "p")), message("b", button=ButtonReply(None, None))
    )
    assert [tuple(row.values()) for row in read(chunk, "buttons")] == [
        (IDS.of_wamid("a"), IDS.of_wamid("shown"), "p", str(NOW)),
        (IDS.of_wamid("b"), None, None, str(NOW)),
    ]


def test_changes_and_reactions_name_what_they_change() -> None:
    chunk = sealed(
        MessageChange("e", "a", NOW, "corrigido"),
        MessageChange("v", "a", NOW + 1, None),
        Reaction("r", "a", NOW, None),
    )
    a = IDS.of_wamid("a")
    assert [tuple(row.values())[1:] for row in read(chunk, "changes")] == [
        (IDS.of_wamid("e"), a, str(NOW), "f", "corrigido"),
        (IDS.of_wamid("v"), a, str(NOW + 1), "t", None),
    ]
    assert [tuple(row.values()) for row in read(chunk, "reactions")] == [
        (a, str(NOW), IDS.of_wamid("r"), None)
    ]


def test_a_number_change_is_told_by_key_and_makes_no_person_of_its_own() -> None:
    old = Sender(wa_id=MOBILE_OLD, bsuid="BR.1", parent_bsuid="BR.ENT.1")
    new = Sender(wa_id=ANA, bsuid="BR.2", parent_bsuid="BR.ENT.2")
    chunk = sealed(IdentityChange("wamid:s", NOW, old, new, True))
    assert list(one(chunk, "identity_changes").values())[1:] == [
        str(NOW),
        "t",
        MOBILE,
        "BR.1",
        "BR.ENT.1",
        ANA,
        ANA,
        "BR.2",
        "BR.ENT.2",
    ]
    assert chunk.rows["senders"] == chunk.rows["people"] == b""


def test_what_contradicts_itself_under_one_id_is_two_records() -> None:
    edit, event = (
        MessageChange("e", "a", NOW, "corrigido"),
        ConversationEvent("k", NOW, Sender(ANA), "open", None),
    )
    others: list[Unit] = [
        MessageChange("e", "a", NOW, "Corrigido"),
        MessageChange("e", "b", NOW, "corrigido"),
        MessageChange("e", "a", NOW + 1, "corrigido"),
        MessageChange("e", "a", NOW, None),
        ConversationEvent("k", NOW + 1, Sender(ANA), "open", None),
        ConversationEvent("k", NOW, Sender(BRUNO), "open", None),
        ConversationEvent("k", NOW, Sender(ANA), "closed", None),
        ConversationEvent("k", NOW, Sender(ANA), "open", "Pessoa Exemplo"),
    ]
    chunk = sealed(edit, event, *others, edit, event)
    for name, column in (("changes", "change_id"), ("events", "event_id")):
        assert [len({row[column] for row in read(chunk, name)}), chunk.rows[name].count(b"\n")] == [
            5,
            6,
        ]


def test_the_same_key_of_another_kind_is_another_id() -> None:
    chunk = sealed(
        OptOut("k", NOW, Sender(ANA), "all", True),
        ConversationEvent("k", NOW, Sender(ANA), "open", None),
        IdentityChange("k", NOW, Sender(ANA), Sender(BRUNO), True),
    )
    ids = {next(iter(one(chunk, name).values())) for name in ("opt_outs", "events")}
    assert len(ids | {one(chunk, "identity_changes")["change_id"]}) == 3


def test_the_period_covers_every_kind_that_has_a_time() -> None:
    kinds: list[Callable[[int], Unit]] = [
        lambda at_us: message("a", at_us),
        lambda at_us: StatusEvent("w", "sent", at_us // SECOND, None, None, None),
        lambda at_us: MessageChange("e", "a", at_us, None),
        lambda at_us: Reaction("r", "a", at_us, None),
        lambda at_us: IdentityChange("k", at_us, Sender(ANA), Sender(BRUNO), True),
        lambda at_us: OptOut("k", at_us, Sender(ANA), "all", True),
        lambda at_us: ConversationEvent("k", at_us, Sender(ANA), "open", None),
    ]
    for make in kinds:
        chunk = sealed(make(NOW), make(NOW - 9 * SECOND), Skipped("group"))
        assert chunk.period_us == (NOW - 9 * SECOND, NOW)
    assert sealed(Skipped("group")).period_us is None


# --- Who is named by users.id ------------------------------------------------------------------


def referring(user_id: str, key: str = "chatbot:x") -> Message:
    return told("x", key=key, phone="", user_id=user_id)


def referring_event(user_id: str) -> ConversationEvent:
    return ConversationEvent("conversation:k", NOW, Sender(user_id=user_id), "closed", None)


def test_a_chunk_with_references_is_sealed_only_when_they_are_settled() -> None:
    chunk = unsealed(referring(KNOWN), referring_event(KNOWN), message("a"))
    assert chunk.references == {KNOWN}
    assert chunk.close(3, 99).rows == {}
    assert (chunk.lines, chunk.bytes_read) == (3, 99)
    chunk.settle_references({KNOWN: False})
    chunk.seal()
    assert len(read(chunk, "messages")) == 2
    assert len(read(chunk, "events")) == 1
    assert sorted(str(row["user_ref"]) for row in read(chunk, "senders")) == ["", KNOWN]
    assert (chunk.received, chunk.message_count) == (3, 2)


def test_a_reference_to_nobody_goes_to_quarantine_whole() -> None:
    chunk = unsealed(message("a"), referring(UNKNOWN), referring_event(UNKNOWN), referring(KNOWN))
    chunk.settle_references({KNOWN: False})
    chunk.close(4, 99)
    rows = read(chunk, "quarantine")
    assert [(row["line"], row["kind"], row["reason"], row["field"]) for row in rows] == [
        ("2", "chatbot_message", "unknown_user", "user_id"),
        ("3", "chatbot_conversation", "unknown_user", "user_id"),
    ]
    assert {row["payload"] for row in rows} == {"\\x" + BODY.hex()}
    assert [line for line, _ in chunk.rejections] == [2, 3]
    assert (chunk.received, len(read(chunk, "messages")), len(read(chunk, "events"))) == (4, 2, 0)


def test_who_has_a_phone_beside_the_users_id_needs_no_looking_up() -> None:
    chunk = unsealed(told("a", user_id=UNKNOWN))
    assert chunk.references == set()
    assert one(chunk.close(1, 1), "senders")["user_ref"] == ""


# --- What was rejected -------------------------------------------------------------------------


def test_a_rejected_unit_is_kept_whole_with_its_place() -> None:
    payload = b'{"a":"\t\n\\"}\xff'
    row = one(sealed(Skipped("group"), Rejected("text", "future", None, payload)), "quarantine")
    assert list(row.values())[1:] == [
        "b" * 32,
        "lote.jsonl",
        "2",
        "text",
        None,
        "future",
        "\\x" + payload.hex(),
    ]


def test_the_same_payload_has_the_same_id() -> None:
    rejected = [Rejected("text", "future", None, payload) for payload in (b"1", b"2", b"1")]
    first, second, again = read(sealed(*rejected), "quarantine")
    assert first["id"] == again["id"] != second["id"]


def test_only_the_first_rejections_are_told() -> None:
    many = [Rejected("text", "future", None, b"%d" % n) for n in range(MAX_REJECTIONS_TOLD + 3)]
    chunk = sealed(*many)
    assert len(chunk.rejections) == MAX_REJECTIONS_TOLD
    assert len(read(chunk, "quarantine")) == len(many)


def test_kinds_that_are_expected_are_not_told_one_by_one() -> None:
    expected = Rejected("image", "not_yet_supported", "messages[].type", b"{}")
    broken = Rejected("text", "future", None, b"{1}")
    chunk = sealed(*[expected] * 9, broken)
    assert chunk.rejections == [(10, broken)]
    assert len(read(chunk, "quarantine")) == 10
