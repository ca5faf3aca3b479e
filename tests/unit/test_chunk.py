"""A chunk groups its units by person and writes them as COPY text that PostgreSQL reads back."""

from __future__ import annotations

import re
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from gatte_pipelines.inbound.chunk import MAX_REJECTIONS_TOLD, Chunk
from gatte_pipelines.inbound.envelope import Empty, Rejected, StatusEvent, TextMessage
from gatte_pipelines.inbound.ids import MessageIds

IDS = MessageIds(b"obviously-no-production-key")
ANA, BRUNO = "5511900000001", "5511900000002"
MOBILE, MOBILE_OLD = "5511960001234", "551160001234"
NOW = 1_780_000_000


def message(wamid: str, at: int = NOW, **fields: Any) -> TextMessage:
    values: dict[str, Any] = {
        "wamid": wamid,
        "sent_at": at,
        "wa_id": ANA,
        "bsuid": None,
        "parent_bsuid": None,
        "name": None,
        "body": "olá",
    }
    return TextMessage(**(values | fields))


def sealed(*units: Any) -> Chunk:
    chunk = Chunk(IDS, "b" * 32, "lote.jsonl")
    for number, unit in enumerate(units, start=1):
        chunk.add(unit, number)
    return chunk.seal(len(units), 1000)


def read(rows: bytes) -> list[list[str | None]]:
    """COPY text as PostgreSQL reads it."""
    escapes = {"t": "\t", "n": "\n", "r": "\r", "\\": "\\"}
    lines = rows.decode().split("\n")
    assert lines.pop() == ""
    return [
        [
            None
            if field == r"\N"
            else re.sub(r"\\(.)", lambda match: escapes[match[1]], field, flags=re.DOTALL)
            for field in line.split("\t")
        ]
        for line in lines
    ]


def people(chunk: Chunk) -> list[list[str | None]]:
    return read(chunk.rows["people"])


def test_every_unit_counts_as_received_under_its_own_kind() -> None:
    chunk = sealed(
        message("a"),
        StatusEvent("w", "sent", NOW, None, None, None),
        Rejected("text", "future", "messages[].timestamp", b"{}"),
        Empty(),
    )
    counts = (
        chunk.message_count,
        chunk.status_count,
        chunk.quarantine_count,
        chunk.empty_count,
    )
    assert counts == (1, 1, 1, 1)
    assert chunk.received == 4


@given(st.text(alphabet=st.characters(codec="utf-8", exclude_characters="\0")))
def test_any_text_comes_back_as_it_was(body: str) -> None:
    chunk = sealed(message("a", body=body, name=body or None))
    assert read(chunk.rows["messages"])[0][-1] == body
    assert people(chunk)[0][6] == (body or None)


def test_the_twelve_and_the_thirteen_digit_form_of_a_mobile_are_one_person() -> None:
    chunk = sealed(message("a", wa_id=MOBILE), message("b", NOW + 1, wa_id=MOBILE_OLD))
    ((_, _, phone, forms, first, last, *_),) = people(chunk)
    assert (phone, first, last) == (f"+{MOBILE_OLD}", str(NOW), str(NOW + 1))
    assert forms == f"{{+{MOBILE},+{MOBILE_OLD}}}"


def test_the_form_of_the_latest_message_is_the_phone_whatever_comes_first() -> None:
    chunk = sealed(message("b", NOW + 1, wa_id=MOBILE_OLD), message("a", wa_id=MOBILE))
    assert people(chunk)[0][2] == f"+{MOBILE_OLD}"


def test_the_name_of_the_latest_message_that_has_one_wins() -> None:
    chunk = sealed(
        message("b", NOW + 1, name="Ana Nova"),
        message("a", name="Ana Velha"),
        message("c", NOW + 2),
    )
    assert people(chunk)[0][6:8] == ["Ana Nova", str(NOW + 1)]


def test_who_is_known_by_user_id_only_has_a_placeholder() -> None:
    ((_, _, phone, forms, *_, phone_at, _),) = people(
        sealed(message("a", wa_id=None, bsuid="BR.1"))
    )
    assert phone is not None
    assert re.fullmatch(r"~b[a-z2-7]{18}", phone)
    assert (forms, phone_at) == ("{}", None)


def test_a_message_with_phone_and_user_id_joins_those_who_wrote_with_one_of_them() -> None:
    chunk = sealed(
        message("a", NOW, wa_id=ANA, name="Ana"),
        message("b", NOW - 5, wa_id=None, bsuid="BR.1", name="Antes"),
        message("x", wa_id=BRUNO),
        message("c", NOW - 1, wa_id=ANA, bsuid="BR.1"),
        message("d", NOW + 9, wa_id=None, bsuid="BR.1"),
    )
    ana, bruno = people(chunk)
    assert (ana[2], ana[4], ana[5], ana[6]) == (f"+{ANA}", str(NOW - 5), str(NOW + 9), "Ana")
    assert bruno[2] == f"+{BRUNO}"
    persons = {row[1]: row[2] for row in read(chunk.rows["messages"])}
    assert {persons[IDS.of_wamid(wamid)] for wamid in "abcd"} == {ana[0]}
    assert {tuple(row) for row in read(chunk.rows["identities"]) if row[0] == ana[0]} == {
        (ana[0], "phone_key", ANA, str(NOW - 1)),
        (ana[0], "wa_id", ANA, str(NOW - 1)),
        (ana[0], "bsuid", "BR.1", str(NOW - 5)),
    }


def test_chained_joins_end_with_one_person() -> None:
    chunk = sealed(
        message("a", wa_id=ANA),
        message("b", wa_id=None, bsuid="BR.1"),
        message("c", wa_id=None, bsuid="BR.2", parent_bsuid="BR.ENT.9"),
        message("d", wa_id=None, bsuid="BR.1", parent_bsuid="BR.ENT.9"),
        message("e", wa_id=ANA, bsuid="BR.2"),
    )
    assert len(people(chunk)) == 1
    assert len({row[2] for row in read(chunk.rows["messages"])}) == 1


def test_two_phones_are_two_people_whatever_bsuid_is_seen_with_both() -> None:
    chunk = sealed(
        message("a", wa_id=ANA, bsuid="BR.1"),
        message("b", wa_id=BRUNO, bsuid="BR.1"),
        message("c", wa_id=BRUNO),
        message("d", wa_id=None, bsuid="BR.1"),
    )
    ana, bruno = people(chunk)
    persons = {row[1]: row[2] for row in read(chunk.rows["messages"])}
    assert [persons[IDS.of_wamid(wamid)] for wamid in "abcd"] == [
        ana[0],
        bruno[0],
        bruno[0],
        ana[0],
    ]


def test_a_rejected_unit_is_kept_whole_with_its_place() -> None:
    payload = b'{"a":"\t\n\\"}\xff'
    chunk = sealed(Empty(), Rejected("text", "future", None, payload))
    (row,) = read(chunk.rows["quarantine"])
    assert row[1:7] == ["b" * 32, "lote.jsonl", "2", "text", None, "future"]
    assert row[7] == "\\x" + payload.hex()


def test_only_the_first_rejections_are_told() -> None:
    many = [Rejected("text", "future", None, b"%d" % n) for n in range(MAX_REJECTIONS_TOLD + 3)]
    assert len(sealed(*many).rejections) == MAX_REJECTIONS_TOLD


def test_kinds_that_are_expected_are_not_told_one_by_one() -> None:
    expected = Rejected("image", "not_yet_supported", "messages[].type", b"{}")
    broken = Rejected("text", "future", None, b"{1}")
    chunk = sealed(*[expected] * 9, broken)
    assert chunk.rejections == [(10, broken)]
    assert chunk.quarantine_count == 10


def test_the_period_covers_messages_and_statuses() -> None:
    chunk = sealed(message("a", NOW), StatusEvent("w", "sent", NOW - 9, None, None, None))
    assert (chunk.first_event_at, chunk.last_event_at) == (NOW - 9, NOW)
