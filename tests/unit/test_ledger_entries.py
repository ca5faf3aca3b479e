"""What an entry of the ledger may say, and what it must not: anything of a person."""

from __future__ import annotations

import dataclasses
import hashlib
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from uuid import UUID

import pytest

from gatte_pipelines.errors import BadInputError
from gatte_pipelines.privacy.entries import (
    GENESIS,
    KINDS,
    MAX_ENTRY_BYTES,
    check_body,
    next_entry,
    parse_line,
)

AT = datetime(2026, 3, 2, 12, tzinfo=UTC)
ID = UUID("0b0e0a5e-0000-4000-8000-000000000001")
BODIES: dict[str, dict[str, Any]] = {
    "intent": {
        "rule": "messages_content",
        "as_of": AT,
        "from": AT,
        "to": None,
        "count": 5,
        "run_id": ID,
    },
    "outcome": {"intent": 1, "done": 5},
    "interrupted": {"intent": 1},
    "erasure": {"request_id": ID, "user_ids": [ID], "lead_ids": []},
    "erased": {"erasure": 4, "user_ids": (ID,), "lead_ids": []},
    "merge": {"from": ID, "into": ID, "at": AT},
    "hold": {"hold_id": ID, "table": "tickets", "row_id": ID, "ends_at": None},
    "release": {"hold_id": ID},
    "policy": {
        "digest": "a" * 64,
        "periods": {"messages_content": "90 days", "tickets_kept": "5 years", "landing": ""},
    },
}
PERSONAL = [
    "+5511900001234",
    "5511900001234",
    "cliente@example.com",
    "Cliente Exemplo",
    "Cliente",
    "josé",
    "12.345.678/0001-00",
    "000.000.000-00",
    "rua exemplo 12",
    5511900001234,
    11900001234,
    "",
    "2026-03-02",
    "2026-03-02T12:00:00",
    "{}",
    True,
    1.5,
    ["cliente@example.com"],
    {"name": "Cliente Exemplo"},
]


def test_every_kind_of_entry_takes_its_body() -> None:
    assert BODIES.keys() == KINDS
    for kind, body in BODIES.items():
        assert check_body(kind, body).keys() == body.keys()


@pytest.mark.parametrize(
    ("kind", "field"), [(kind, field) for kind, body in BODIES.items() for field in body]
)
def test_no_field_takes_what_may_be_of_a_person(kind: str, field: str) -> None:
    for value in PERSONAL:
        with pytest.raises(BadInputError) as error:
            check_body(kind, BODIES[kind] | {field: value})
        assert error.value.field == field
        if isinstance(value, str) and len(value) > 3:
            assert value not in error.value.message


@pytest.mark.parametrize(
    "periods",
    [{"Cliente Exemplo": "90 days"}, {"messages_content": "Cliente"}, {"5511900001234": ""}],
)
def test_a_policy_entry_holds_rules_and_periods_only(periods: dict[str, str]) -> None:
    with pytest.raises(BadInputError, match="periods"):
        check_body("policy", {"digest": "a" * 64, "periods": periods})


@pytest.mark.parametrize("kind", sorted(BODIES))
def test_a_field_that_the_kind_does_not_have_is_refused_without_naming_it(kind: str) -> None:
    with pytest.raises(BadInputError) as error:
        check_body(kind, BODIES[kind] | {"cliente@example.com": 1})
    assert "example.com" not in error.value.message


@pytest.mark.parametrize(
    ("kind", "field"), [(kind, field) for kind, body in BODIES.items() for field in body]
)
def test_a_field_that_is_missing_is_named(kind: str, field: str) -> None:
    body = {name: value for name, value in BODIES[kind].items() if name != field}
    with pytest.raises(BadInputError, match="is missing") as error:
        check_body(kind, body)
    assert error.value.field == field


def test_an_unknown_kind_is_refused_without_naming_it() -> None:
    with pytest.raises(BadInputError) as error:
        check_body("Cliente Exemplo", {})
    assert "Cliente" not in error.value.message


def test_an_instant_without_a_zone_is_refused() -> None:
    with pytest.raises(BadInputError, match="zone"):
        next_entry(1, GENESIS, "release", {"hold_id": ID}, AT.replace(tzinfo=None))


def test_an_entry_is_canonical_json_and_its_hash_continues_the_chain() -> None:
    in_brazil = AT.astimezone(timezone(timedelta(hours=-3)))
    first = next_entry(1, GENESIS, "outcome", {"intent": 1, "done": 5}, in_brazil)
    assert first.text == (
        '{"at":"2026-03-02T12:00:00+00:00","body":{"done":5,"intent":1},"kind":"outcome","seq":1}'
    )
    assert first.hash == hashlib.sha256(f"{GENESIS}\n{first.text}".encode()).hexdigest()
    second = next_entry(2, first.hash, "merge", BODIES["merge"], AT)
    assert second.hash == hashlib.sha256(f"{first.hash}\n{second.text}".encode()).hexdigest()
    assert (second.kind, second.at, second.body["from"]) == ("merge", AT, str(ID))
    assert second.is_known


def test_an_entry_longer_than_a_line_may_be_is_refused() -> None:
    ids = [ID] * (MAX_ENTRY_BYTES // 39 + 1)
    with pytest.raises(BadInputError, match="longer"):
        next_entry(1, GENESIS, "erased", {"erasure": 1, "user_ids": ids, "lead_ids": []}, AT)


def test_a_line_is_read_as_it_was_written() -> None:
    entry = next_entry(1, GENESIS, "intent", BODIES["intent"], AT)
    assert parse_line(entry.to_line().removesuffix(b"\n")) == entry


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b"\xff",
        b"[" * 100_000,
        b'{"entry":"{}","hash":"","previous_hash":""}',
        b'{"entry":"[]","hash":"","previous_hash":""}',
        b'{"entry":1,"hash":"","previous_hash":""}',
        b'{"entry":"{\\"seq\\":\\"1\\"}","hash":"","previous_hash":""}',
        b'{"entry":"{\\"at\\":1,\\"seq\\":0}","hash":"","previous_hash":""}',
    ],
)
def test_a_line_that_we_cannot_have_written_is_no_entry(line: bytes) -> None:
    assert parse_line(line) is None


def test_a_line_with_anything_more_is_no_entry() -> None:
    line = next_entry(1, GENESIS, "release", BODIES["release"], AT).to_line().removesuffix(b"\n")
    assert parse_line(b" " + line) is None
    assert parse_line(line[:-1] + b',"note":"x"}') is None
    assert parse_line(line.replace(b'","hash"', b'", "hash"')) is None


def test_an_entry_of_which_one_thing_was_changed_is_not_whole() -> None:
    entry = next_entry(1, GENESIS, "release", BODIES["release"], AT)
    assert entry.is_whole
    assert not dataclasses.replace(entry, text="x" * 40).is_known
    for change in (
        {"seq": 2},
        {"text": entry.text.replace("release", "hold")},
        {"previous_hash": "1" * 64},
        {"hash": "1" * 64},
    ):
        assert not dataclasses.replace(entry, **change).is_whole  # type: ignore[arg-type]
