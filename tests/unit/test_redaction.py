"""Redaction masks personal values and secrets and leaves ordinary log lines alone."""

from __future__ import annotations

import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gatte_pipelines.redaction import forget_secrets, redact, register_secret

PHONE = "5511900001234"
A_UUID = "0192f7a0-1234-7abc-8def-123456789012"
WAMID = "wamid.HBgNNTUxMTkwMDAwMTIzNBUCABIYFDNBMDAwMDAwMDAwMDAwMDAwMDAwAA=="


@pytest.fixture(autouse=True)
def _no_registered_secrets(_own_secrets: None) -> None:
    forget_secrets()


@pytest.mark.parametrize(
    "line",
    [
        A_UUID,
        A_UUID.upper(),
        f"run {A_UUID}: completed",
        "2026-11-22T17:01:47.123Z",
        "2026-11-22 17:01:47,123 INFO started",
        "2026-11-22T17:01:47.123456+00:00",
        "from 2026-11-01 to 2026-11-30",
        "20261122T170147Z.jsonl.gz",
        "took 12:34:56.789",
        "loaded 200000 messages in 17.24 s",
        "17.244567891234567 s",
        "file 2026-11-22T17-01.jsonl.gz line 120345",
        "line 120345 2026-11-22",
        f"line 120345 {A_UUID}",
        "line 120345 17:01:47",
        "received 200000, inserted 190000, duplicate 10000",
        "{'received': 200000, 'not_yet_supported': 1234567}",
        "lines 200000-225000",
        "postgresql+psycopg:///gatte?host=/x/y",
        "chunk 12/25",
        "127.0.0.1:54321 and 192.168.100.200",
        "port 5432, pid 1234567",
        "http://127.0.0.1:4200/runs/flow-run/" + A_UUID,
        "commit 3f2b8a9012345678aa3f2b8a9012345678aa3f2b",
        "commit 3f2b8a9",
        "prefect 3.8.8, psycopg 3.3.12, PostgreSQL 18.4",
        "users.phone is now ~b2345672345672345ab",
        'constraint "users_phone_key" of table users, SQLSTATE 23505',
        "Expected `str`, got `int` - at `$.entry[0].changes[0].value.messages[0].from`",
        '  File "src/gatte_pipelines/inbound/load.py", line 120, in load',
    ],
)
def test_an_ordinary_line_stays_readable(line: str) -> None:
    assert redact(line) == line


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (PHONE, "<phone>"),
        (f"+{PHONE}", "<phone>"),
        ("from +55 11 90000-1234 to", "from <phone> to"),
        ("+55 (11) 90000-1234", "<phone>"),
        ("(11) 90000-1234", "<phone>"),
        ("(11)90000 - 1234", "<phone>"),
        ("11 9 0000 1234", "<phone>"),
        ("90000-1234", "<phone>"),
        ("11.90000.1234", "<phone>"),
        ("55 11 90000.1234", "<phone>"),
        ("11.900001234", "<phone>"),
        ("+55\u00a011\u00a090000\u20111234", "<phone>"),
        ("2026-11-22 1134-5678", "2026-11-22 <phone>"),
        (f"user{PHONE}.json", "user<phone>.json"),
        (f"find({PHONE})", "find(<phone>)"),
        (f"{PHONE} {A_UUID}", f"<phone> {A_UUID}"),
        ("%2B5511900001234", "%2B<phone>"),
        ("maria.silva+x@mail.example.com, pois", "<email>, pois"),
        ("mail:maria%40example.com/events", "mail:<email>/events"),
        (f"({PHONE}maria@example.com)", "(<email>)"),
        (f"status of {WAMID} unknown", "status of <wamid> unknown"),
        (WAMID.removeprefix("wamid."), "<wamid>"),
        ("US.13491208655302741918", "<bsuid>"),
        ("user_id=BR.1349abcDEF12 seen", "user_id=<bsuid> seen"),
        ("US.ENT.11815799212886844830", "<bsuid>"),
        ("123.456.789-01", "<cpf>"),
        ("line 35 123.456.789-01", "line 35 <cpf>"),
        ("line 35 1A.BCD.345/01DE-35", "line 35 <cnpj>"),
        ("line 35 11.90000.1234", "line 35 <phone>"),
        ("12.345.678/0001-95", "<cnpj>"),
        ("12.ABC.345/01DE-35", "<cnpj>"),
        ("12ABC34501DE35", "<cnpj>"),
        ("ABCDEF12345678", "ABCDEF<phone>"),
        ("Authorization: Bearer abc123def456", "Authorization: Bearer <secret>"),
        ("got Bearer abc123def456 back", "got Bearer <secret> back"),
        ("/v1/leads?api_token=abc&limit=5", "/v1/leads?api_token=<secret>&limit=5"),
        ('{"access_token": "a b"}', '{"access_token": <secret>}'),
        ("GATTE_ID_KEY=0f1e2d3c4b5a next", "GATTE_ID_KEY=<secret> next"),
        ("GATTE_WHATSAPP_APP_SECRET='x y' next", "GATTE_WHATSAPP_APP_SECRET=<secret> next"),
        ("GATTE_PIPEDRIVE_API_TOKEN=abc", "GATTE_PIPEDRIVE_API_TOKEN=<secret>"),
        ("postgresql://user:secret@host/db", "postgresql://user:<secret>@host/db"),
        ("smtps://a:p@ss:w/d@mail.example.com", "smtps://a:<secret>@mail.example.com"),
        ("GET https://example.com/find?term=Maria now", "GET https://example.com/find?<query> now"),
        ("EAA" + "x1Y2" * 10, "<secret>"),
        ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.abcdefgh", "<secret>"),
        ("-----BEGIN PRIVATE KEY-----\nMIIE\n-----END PRIVATE KEY-----\nafter", "<secret>\nafter"),
    ],
)
def test_a_personal_value_or_secret_is_masked(text: str, expected: str) -> None:
    assert redact(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            'violates unique constraint "users_phone_key"\n'
            "DETAIL:  Key (phone)=(Maria) already exists.\nHINT:  none",
            'violates unique constraint "users_phone_key"\nDETAIL:  <detail>\nHINT:  none',
        ),
        ("Key (name, email)=(Maria, x) already exists", "Key (name, email)=<detail>"),
        ("DETAIL:  Failing row contains (1, Maria\nSilva).", "DETAIL:  <detail>"),
        (
            'CONTEXT:  COPY incoming, line 3, column name: "Maria"',
            "CONTEXT:  COPY incoming, line 3, column name: <detail>",
        ),
        (
            'invalid input syntax for type integer: "Maria"',
            "invalid input syntax for type integer: <detail>",
        ),
        (
            "[SQL: INSERT INTO users]\n[parameters: ('Maria',)]\n(Background on",
            "[SQL: INSERT INTO users]\n[parameters: <detail>]\n(Background on",
        ),
        (
            "[type=int_parsing, input_value='Maria', input_type=str]",
            "[type=int_parsing, input_value=<detail>, input_type=str]",
        ),
        (
            "invalid literal for int() with base 10: 'Maria'",
            "invalid literal for int() with base 10: <detail>",
        ),
    ],
)
def test_what_a_library_quotes_from_the_data_is_masked(text: str, expected: str) -> None:
    assert redact(text) == expected


def test_a_registered_secret_is_masked_also_when_percent_encoded() -> None:
    register_secret("s3nha/forte")

    assert redact("uses s3nha/forte and s3nha%2Fforte") == "uses <secret> and <secret>"


def test_a_registered_secret_that_is_part_of_a_mask_does_not_break_masks() -> None:
    register_secret("secret")

    assert redact(redact("a secret, token=abc")) == "a <secret>, token=<secret>"


def test_a_secret_too_short_to_be_one_is_not_registered() -> None:
    register_secret("gatte")

    assert redact("gatte sandbox") == "gatte sandbox"


# Pieces that patterns begin, end or are kept apart with: glued together they find the seams.
PIECES = st.sampled_from(
    [
        *" \n\t-()+.@:/?=&\"'%,;<>{}[]\\0159aZ~_",
        "5511900001234", "11 90000-1234", "(11)", "+55 ", "2026-11-22", "T17:01", " 17:01:47",
        A_UUID, "3f2b8a9012345678aa3f2b8a9012345678aa3f2b", "maria@example.com", "x@y", ".com",
        "://", "http://", "https", "user:", "token=", "api_key: ", "Bearer ", "_KEY=", "wamid.",
        "HBgNNTUxMTkwMDAwMTIzNBUC", "BR.", "ENT.", "1349abcdef", "DETAIL: ", "Key (a)=(", "\nHINT:",
        "COPY t, line 1: ", "[parameters: ", "input_value=", ", input_type=", "eyJhbGciOiJI",
        "-----BEGIN PRIVATE KEY-----", "<phone>", "<secret>", "<email>", "123.456.789-01", "12.5",
        "12.ABC.345/01DE-35", "12ABC34501DE35", "200000-225000", "127.0.0.1",
        "~b2345672345672345ab",
    ]
)  # fmt: skip


@given(st.lists(PIECES, max_size=14).map("".join) | st.text())
@example("://u:+55 11 90000-1234@h")
def test_redacting_twice_changes_nothing_more(text: str) -> None:
    once = redact(text)

    assert redact(once) == once


@given(st.text(), st.text())
def test_a_phone_is_masked_whatever_stands_around_it(before: str, after: str) -> None:
    assert PHONE not in redact(f"{before} {PHONE} {after}")


@given(st.integers(10**7, 10**14), st.text("abcxyz :,;=", max_size=5))
def test_any_number_of_eight_to_fifteen_digits_is_masked(number: int, around: str) -> None:
    assert str(number) not in redact(f"{around}{number}{around}")


@pytest.mark.parametrize(
    "piece",
    [
        "a", "1", "1 ", "(1) ", "((((", "a@", "a@a.", "%20", "://a:", "http://", 'token="', "1.",
        "bearer ", "Key (a)=", "COPY a", "\n", "DETAIL:\n", "2026-11-2", "+1 ", "AB.", "US.ENT.a",
        "input_value=", "[parameters: ", "-----BEGIN PRIVATE KEY-----", "eyJ", "abcdef0123", "12-",
        "12345-", "1   ", "12:3", "\\n", "HBg", "wamid", "token", "1.2.", "A1B2",
    ],
)  # fmt: skip
def test_time_grows_no_faster_than_the_text(piece: str) -> None:
    def seconds(length: int) -> float:
        text = piece * (length // len(piece))
        began = time.process_time()
        redact(text)
        return time.process_time() - began

    # A quadratic pattern takes 256 times as long here; the 64 leaves room for a busy machine.
    assert seconds(160_000) < 64 * max(seconds(10_000), 0.005)
