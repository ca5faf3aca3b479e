"""A subject is found however their keys are written, and cut out without their neighbours."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatte_pipelines.inbound import lines
from gatte_pipelines.inbound.erasure_lines import Cut, Subject
from gatte_pipelines.inbound.ids import MessageIds
from gatte_pipelines.inbound.units import Skipped
from gatte_pipelines.personal_data import SubjectKeys
from tests.inbound import AS_OF, HOUR, NOW
from tests.webhooks import (
    ANA,
    BRUNO,
    METADATA,
    change,
    chatbot_conversation,
    chatbot_message,
    contact,
    echo,
    echo_change,
    edit,
    line,
    number_change,
    reaction,
    revoke,
    status,
    text_message,
    texts,
    user_id_update,
    user_preference,
)

IDS = MessageIds(b"obviously-no-production-key")
BSUID = "BR.90000000000000000001"
PARENT = "BR.ENT.90000000000000000002"
EMAIL = "ana.exemplo@example.com"
USER_ID = "0123456789ab4def8123456789abcdef"
HYPHENED = "01234567-89ab-4def-8123-456789abcdef"
AT = NOW - HOUR


def keys(**changes: Any) -> SubjectKeys:
    values: dict[str, Any] = {
        # With and without the ninth digit.
        "phones": frozenset({ANA, "551100000001"}),
        "bsuids": frozenset({BSUID, PARENT}),
        "emails": frozenset({EMAIL}),
        "message_ids": frozenset({IDS.of_wamid("w-ana"), IDS.of_key("chatbot:e-ana")}),
        "user_ids": frozenset({USER_ID}),
    }
    return SubjectKeys(**(values | changes))


SUBJECT = Subject(keys(), IDS)
LEAD_ID = "fedcba98-7654-4210-8fed-cba987654321"
REMOTE_LEAD = "1275082f-93ba-4361-b040-7ce97283b113"
IN_CRM = Subject(
    keys(
        lead_ids=frozenset({LEAD_ID.replace("-", "")}),
        crm_records=frozenset({"person:1001", f"lead:{REMOTE_LEAD}", "deal:12"}),
    ),
    IDS,
)


def crm_event(entity: str, entity_id: str, **data: Any) -> bytes:
    meta = {"action": "change", "entity": entity, "entity_id": entity_id, "user_id": "1001"}
    return json.dumps({"meta": meta, "data": data, "previous": None}).encode()


def wamid(phone: str, *, before: bytes = b"\x1c\x18\x0d", after: bytes = b"\x15\x02\x00") -> str:
    return "wamid." + base64.b64encode(before + phone.encode() + after).decode()


def bruno(body: str = "oi", **more: Any) -> dict[str, Any]:
    return text_message("w-bruno", AT, sender=BRUNO, body=body, **more)


def cut(text: bytes, subject: Subject = SUBJECT) -> Cut:
    found = subject.cut(text)
    assert found is not None
    return found


def kept(text: bytes) -> Any:
    remains = cut(text).kept
    assert remains is not None
    return json.loads(remains)


# --- Webhooks of the CRM -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "event",
    [
        crm_event("person", "77", name="Ana", phones=[{"value": "+55 11 90000-0001"}]),
        crm_event("person", "77", name="Ana", emails=[{"value": EMAIL}]),
        crm_event("lead", "x", title="Ana", origin_id=LEAD_ID),
        crm_event(
            "deal", "9", title="Ana", custom_fields={"k": {"type": "varchar", "value": LEAD_ID}}
        ),
        crm_event("person", "1001"),
        crm_event("lead", REMOTE_LEAD, title="Ana"),
        crm_event("deal", "9", title="Ana", person_id=1001),
        crm_event("note", "9", content="sobre Ana", deal_id=12),
    ],
)
def test_a_webhook_of_the_crm_about_the_subject_goes_as_a_whole(event: bytes) -> None:
    assert cut(event, IN_CRM) == Cut(None, [event])


@pytest.mark.parametrize(
    "event",
    [
        crm_event("person", "1002", name="Bruno", owner_id=1001),
        crm_event("deal", "1001", title="Bruno", person_id=1002),
        crm_event("person", "12", name="Bruno"),
        b'{"meta": {"entity": "person", "entity_id": "1001"',
        json.dumps({"id": 1001, "text": '"entity": "person", "entity_id": "1001"'}).encode(),
    ],
)
def test_a_webhook_of_the_crm_about_somebody_else_stays(event: bytes) -> None:
    assert IN_CRM.cut(event) is None


# --- How a key may be written --------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "5511900000001",
        "+5511900000001",
        "551100000001",
        "+55 11 90000-0001",
        "+55 (11) 9 0000-0001",
        "005511900000001",
        "(11) 90000-0001",
        "11900000001",
        "011 90000 0001",
        "11 0000-0001",
        "+55\u00a011\u00a090000\u20110001",
        "https://wa.me/5511900000001?text=oi",
        "TEL;waid=5511900000001:+55 11 90000-0001",
        BSUID,
        PARENT,
        EMAIL,
        "Ana.Exemplo@EXAMPLE.com",
        USER_ID,
        HYPHENED.upper(),
        wamid(ANA),
        wamid("551100000001", before=b"\x1c\x18\x0c"),
        wamid(ANA, before=b"x"),
        wamid(ANA, before=b"xy"),
        "wamid.x/" + wamid(ANA)[6:],
    ],
)
@pytest.mark.parametrize("ascii_only", [True, False])
def test_a_key_is_found_however_it_is_written(text: str, ascii_only: bool) -> None:
    assert SUBJECT.is_named_in(json.dumps({"a": text}, ensure_ascii=ascii_only).encode())
    assert SUBJECT.is_named_in(f"x {text}, e mais".encode())


@pytest.mark.parametrize("text", [ANA, f"+{ANA}", EMAIL, BSUID, wamid(ANA), HYPHENED])
def test_a_key_is_found_when_every_character_is_escaped(text: str) -> None:
    escaped = "".join(f"\\u{ord(character):04x}" for character in text)
    assert SUBJECT.is_named_in(f'{{"a":"{escaped}"}}'.encode())
    assert SUBJECT.is_named_in(json.dumps(text).replace("/", "\\/").encode())


@pytest.mark.parametrize(
    "text",
    [
        BRUNO,
        "15511900000001",
        "55119000000012",
        "1234551190000000199",
        "5511 90000-000",
        "mariana.exemplo@example.com",
        "xana.exemplo@example.com",
        "ana.exemplo@example.com" + ".br",
        BSUID + "1",
        USER_ID[:-1],
        wamid(BRUNO),
        # Without its ninth digit the number is the beginning of somebody else's.
        wamid("5511000000012"),
        # As an area code and eight digits: an instant.
        "1100000001",
        "",
    ],
)
def test_somebody_elses_key_is_not_the_subjects(text: str) -> None:
    assert not SUBJECT.is_named_in(json.dumps({"a": text, "timestamp": "1772463600"}).encode())


@pytest.mark.parametrize("name", ["id", "message_id", "original_message_id", "wamid"])
def test_a_message_is_known_by_its_id_wherever_it_is_named(name: str) -> None:
    assert SUBJECT.is_named_in(json.dumps({"context": {name: "w-ana"}}).encode())
    assert SUBJECT.is_named_in(f'{{"{name}" : "w-\\u0061na"}}'.encode())
    assert SUBJECT.is_named_in(f'{{"\\u{ord(name[0]):04x}{name[1:]}":"w-ana"}}'.encode())
    assert not SUBJECT.is_named_in(json.dumps({name: "w-bruno"}).encode())


def test_the_chatbots_own_id_is_not_mistaken_for_a_wamid() -> None:
    assert SUBJECT.is_named_in(b'{"external_id":"e-ana"}')
    assert not SUBJECT.is_named_in(b'{"external_id":"w-ana","wamid":"e-ana"}')


def test_without_keys_nobody_is_found() -> None:
    nobody = Subject(
        keys(
            phones=frozenset(),
            bsuids=frozenset({""}),
            emails=frozenset(),
            message_ids=frozenset(),
            user_ids=frozenset(),
        ),
        IDS,
    )
    assert nobody.cut(texts(text_message("w-ana", AT, body=EMAIL))) is None


def test_keys_do_not_show_what_they_hold() -> None:
    assert not any(value in repr(keys()) + str(keys()) for value in (ANA, EMAIL, BSUID))


@given(
    separators=st.lists(
        st.sampled_from(["", " ", "-", ".", "(", ") ", "/", "\u00a0"]), min_size=12, max_size=12
    ),
    before=st.text(alphabet='abc:+ "{,', max_size=3),
    after=st.text(alphabet='abc: "},', max_size=3),
)
def test_any_separators_may_stand_between_the_digits(
    separators: list[str], before: str, after: str
) -> None:
    written = "".join(a + b for a, b in zip(ANA, [*separators, ""], strict=True))
    assert SUBJECT.is_named_in(json.dumps(before + written + after).encode())


@given(st.binary(max_size=80))
def test_bytes_that_are_no_text_hide_nothing(noise: bytes) -> None:
    assert SUBJECT.is_named_in(noise + b'"' + ANA.encode() + b'"' + noise)


# --- What is cut ---------------------------------------------------------------------------------

FROM_ANA = text_message("w1", AT)
REMOVED: dict[str, tuple[list[dict[str, Any]], int]] = {
    "message": ([change(FROM_ANA)], 1),
    "message by bsuid": ([change(text_message("w1", AT, sender=None, from_user_id=BSUID))], 1),
    "message by its id alone": ([change(text_message("w-ana", AT, sender=None))], 1),
    "status": ([change(statuses=[status("w2", "read", AT)])], 1),
    "status by id": ([change(statuses=[status("w-ana", "read", AT, recipient_id=BRUNO)])], 1),
    "edit": ([change(edit("w3", AT, "w-ana", "outro", sender=BRUNO))], 1),
    "revoke": ([change(revoke("w3", AT, "w-ana", sender=BRUNO))], 1),
    "reaction": ([change(reaction("w3", AT, "w-ana", "👍", sender=BRUNO))], 1),
    "context": ([change(bruno(context={"id": "w-ana"}))], 1),
    "echo": ([echo_change(echo("w4", AT))], 1),
    "number change from": ([change(number_change("w5", AT, ANA, BRUNO))], 1),
    "number change to": ([change(number_change("w5", AT, BRUNO, ANA))], 1),
    "user id update": ([user_id_update(AT, BSUID, "BR.1")], 1),
    "preference": ([user_preference(AT, "stop")], 1),
    "contact": ([change(FROM_ANA, contacts=[contact(ANA, "Ana Exemplo")])], 2),
    "account field": ([{"field": "account_update", "value": {"note": f"+{ANA}"}}], 1),
    "unknown field": ([{"field": "history", "value": {"history": [{"threads": [ANA]}]}}], 1),
    "value that is no object": ([{"field": "messages", "value": ANA}], 1),
    "vcard": (
        [
            change(
                bruno(
                    type="contacts",
                    contacts=[{"vcard": "BEGIN:VCARD\nTEL:+55 11 90000-0001\nEND:VCARD"}],
                )
            )
        ],
        1,
    ),
}


@pytest.mark.parametrize("name", REMOVED)
def test_what_is_the_subjects_goes_with_its_line(name: str) -> None:
    changes, count = REMOVED[name]
    found = cut(line(*changes))
    assert (found.kept, len(found.removed)) == (None, count)


@pytest.mark.parametrize("name", REMOVED)
def test_what_others_said_stays_byte_by_byte(name: str) -> None:
    changes, count = REMOVED[name]
    # Escapes and spaces that no encoder of ours would write.
    theirs = b'{ "id":"w\\u002dbruno", "timestamp":"%d","type":"text",' % AT
    theirs += b'"from":"' + BRUNO.encode() + b'","text":{"body":"ol\\u00e1 \\/ \xf0\x9f\x98\x80"}}'
    whole = line(*changes, change(bruno()))
    whole = whole.replace(json.dumps(bruno(), ensure_ascii=False).encode(), theirs)
    assert theirs in whole
    found = cut(whole)
    assert found.kept is not None
    assert theirs in found.kept
    assert len(found.removed) == count
    assert SUBJECT.cut(found.kept) is None
    units = list(lines.iter_units(found.kept, lines.horizon(AS_OF)))
    assert [getattr(unit, "key", None) for unit in units] == ["wamid:w-bruno"]


def test_of_one_list_only_the_subjects_records_go() -> None:
    found = kept(
        line(
            change(
                FROM_ANA,
                bruno(),
                contacts=[contact(ANA, "Ana"), contact(BRUNO, "Bruno")],
                statuses=[
                    status("w-ana", "sent", AT),
                    status("w9", "sent", AT, recipient_id=BRUNO),
                ],
                errors=[{"code": 1}],
            )
        )
    )
    assert found == json.loads(
        line(
            change(
                bruno(),
                contacts=[contact(BRUNO, "Bruno")],
                statuses=[status("w9", "sent", AT, recipient_id=BRUNO)],
                errors=[{"code": 1}],
            )
        )
    )


def test_a_change_and_an_entry_left_with_nothing_go() -> None:
    two = json.loads(line(change(FROM_ANA), change(bruno())))
    two["entry"].append({"id": "2", "changes": [change(FROM_ANA)]})
    assert kept(json.dumps(two).encode()) == json.loads(line(change(bruno())))


def test_a_profile_is_not_left_behind_beside_no_message() -> None:
    found = cut(line(change(FROM_ANA, contacts=[contact(BRUNO, "Bruno Exemplo")])))
    assert found.kept is None


def test_who_is_named_by_another_id_beside_them_goes_too() -> None:
    """A contact that says which user id the number has; a message that has only that user id."""
    message = text_message("w1", AT, sender=None, from_user_id="BR.77")
    found = cut(line(change(message, bruno(), contacts=[contact(ANA, "Ana", "BR.77")])))
    assert len(found.removed) == 2
    assert json.loads(found.kept or b"") == json.loads(line(change(bruno())))
    # And the other way round: the name is in a contact that has no number.
    message = text_message("w1", AT, from_user_id="BR.77")
    found = cut(line(change(message, bruno(), contacts=[contact(None, "Ana", "BR.77")])))
    assert b"Ana" not in (found.kept or b"")


def test_who_only_speaks_of_the_subject_loses_that_record_and_no_other() -> None:
    about = text_message("w7", AT, sender=BRUNO, body=f"o número da Ana é {ANA}")
    found = cut(line(change(about, bruno(), contacts=[contact(BRUNO, "Bruno")])))
    assert len(found.removed) == 1
    assert json.loads(found.kept or b"") == json.loads(
        line(change(bruno(), contacts=[contact(BRUNO, "Bruno")]))
    )


def test_an_echo_to_the_subject_leaves_those_to_others() -> None:
    others = echo("w8", AT, to=BRUNO)
    assert kept(line(echo_change(echo("w4", AT), others))) == json.loads(line(echo_change(others)))


@pytest.mark.parametrize(
    "event",
    [
        chatbot_message(AT, wamid="w1", phone=f"+{ANA}"),
        chatbot_message(AT, wamid="w-ana", bsuid="BR.1"),
        chatbot_message(AT, external_id="e-ana", bsuid="BR.1"),
        chatbot_message(AT, external_id="e1", user_id=HYPHENED),
        chatbot_message(AT, external_id="e1", bsuid=BSUID),
        chatbot_message(AT, external_id="e1", phone=BRUNO, content=f"escreva para {EMAIL}"),
        chatbot_conversation("c1", AT, "closed", phone=ANA),
    ],
)
def test_a_chatbots_event_goes_whole(event: bytes) -> None:
    assert cut(event) == Cut(None, [event])


@pytest.mark.parametrize(
    "text",
    [
        b'{"object":"whatsapp_business_account","entry":[{"changes":[{"from":"' + ANA.encode(),
        ANA.encode(),
        b'["+55 11 90000-0001"]',
        b"\xff\xfe " + EMAIL.encode(),
        b'{"entry":"' + ANA.encode() + b'"}',
        b"[" * 3000 + ANA.encode(),
    ],
)
def test_a_line_that_cannot_be_taken_apart_goes_whole(text: bytes) -> None:
    assert cut(text) == Cut(None, [text])


def test_a_line_that_is_only_wrong_inside_a_string_is_taken_apart() -> None:
    broken = texts(bruno("corte"), FROM_ANA).replace(b"corte", b"corte \xff\\ud83d")
    found = cut(broken)
    assert len(found.removed) == 1
    assert b"w-bruno" in (found.kept or b"")


def test_our_own_number_is_nobodys() -> None:
    ours = Subject(keys(phones=frozenset({METADATA["display_phone_number"]})), IDS)
    assert ours.cut(texts(bruno())) is None


def test_a_notification_without_the_subject_is_left_alone() -> None:
    assert SUBJECT.cut(texts(bruno(), contacts=[contact(BRUNO, "Bruno")])) is None


@given(
    who=st.lists(st.sampled_from([ANA, BRUNO]), min_size=1, max_size=8),
    breaks=st.lists(st.booleans(), min_size=8, max_size=8),
)
def test_what_is_cut_and_what_is_kept_are_the_whole(who: list[str], breaks: list[bool]) -> None:
    messages = [text_message(f"w{n}", AT, sender=phone) for n, phone in enumerate(who)]
    changes: list[list[dict[str, Any]]] = [[]]
    for message, is_new in zip(messages, breaks, strict=False):
        if is_new:
            changes.append([])
        changes[-1].append(message)
    whole = line(*(change(*part) for part in changes if part))
    found = SUBJECT.cut(whole) or Cut(whole, [])
    assert [json.loads(raw) for raw in found.removed] == [m for m in messages if m["from"] == ANA]
    units = list(lines.iter_units(found.kept, lines.horizon(AS_OF))) if found.kept else []
    assert not any(isinstance(unit, Skipped) for unit in units)
    expected = [f"wamid:{m['id']}" for m in messages if m["from"] == BRUNO]
    assert [getattr(unit, "key", "") for unit in units] == expected
