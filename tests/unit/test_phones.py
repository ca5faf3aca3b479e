"""What the telephone rules promise; identities in tables are tested with the inbound load."""

from __future__ import annotations

import re
import time

import phonenumbers
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatte_pipelines import phones

area_codes = st.sampled_from(phones.BRAZILIAN_AREA_CODES)
digits = st.text(alphabet="0123456789", min_size=0, max_size=16)


def test_there_are_sixty_seven_area_codes_and_each_is_listed_once() -> None:
    assert len(phones.BRAZILIAN_AREA_CODES) == 67
    assert len(set(phones.BRAZILIAN_AREA_CODES)) == 67


@pytest.mark.parametrize(
    ("received", "key"),
    [
        ("553160001234", "5531960001234"),
        ("5531960001234", "5531960001234"),
        ("+55 (31) 6000-1234", "5531960001234"),
        ("551160001234", "5511960001234"),
        ("551133334444", "551133334444"),
        ("551123334444", "551123334444"),
        ("551153334444", "551153334444"),
        ("5511933334444", "5511933334444"),
        ("552099990000", "552099990000"),
        ("550800123456", "550800123456"),
        ("08001234567", "08001234567"),
        ("28282", "28282"),
        ("351900001234", "351900001234"),
        ("16505551234", "16505551234"),
        ("", ""),
    ],
)
def test_a_number_has_the_key_of_its_kind(received: str, key: str) -> None:
    assert phones.phone_key(received) == key


def test_a_landline_never_meets_the_mobile_that_has_its_digits() -> None:
    assert phones.phone_key("551133334444") != phones.phone_key("5511933334444")
    assert phones.forms("5511933334444") == ("5511933334444",)
    assert phones.forms("551133334444") == ("551133334444",)


def test_a_brazilian_mobile_has_two_forms_and_the_key_comes_first() -> None:
    assert phones.forms("5531960001234") == ("5531960001234", "553160001234")
    assert phones.forms("553160001234") == ("5531960001234", "553160001234")


@given(st.one_of(digits, st.text(max_size=20), st.builds("55{}".format, digits)))
def test_a_key_is_its_own_key_and_holds_only_ascii_digits(received: str) -> None:
    key = phones.phone_key(received)
    assert phones.phone_key(key) == key
    assert re.fullmatch("[0-9]*", key)


@given(area_codes, st.sampled_from("2345"), st.text("0123456789", min_size=7, max_size=7))
def test_no_landline_gets_a_ninth_digit(area_code: str, first: str, rest: str) -> None:
    landline = f"55{area_code}{first}{rest}"
    assert phones.phone_key(landline) == landline
    assert landline not in phones.forms(f"55{area_code}9{first}{rest}")


@given(area_codes, st.sampled_from("6789"), st.text("0123456789", min_size=7, max_size=7))
def test_both_forms_of_a_mobile_meet_in_one_key(area_code: str, first: str, rest: str) -> None:
    short, long = f"55{area_code}{first}{rest}", f"55{area_code}9{first}{rest}"
    assert phones.phone_key(short) == phones.phone_key(long) == long
    assert set(phones.forms(long)) == {short, long}


@given(st.builds("55{}".format, digits))
def test_every_form_of_a_key_leads_back_to_it(received: str) -> None:
    key = phones.phone_key(received)
    assert {phones.phone_key(form) for form in phones.forms(key)} == {key}


@pytest.mark.parametrize(
    "text", ["553160001234", "5531960001234", "551133334444", "16505551234", "351900001234"]
)
def test_a_number_that_whatsapp_sends_is_possible(text: str) -> None:
    assert phones.is_possible_wa_id(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "123456",
        "0551199990000",
        "1234567890123456",
        "55119abc0000",
        "+5511900001234",
        "5511900001234\n",
        "５５１１９００００１２３４",
        "٥٥١١٩٠٠٠٠١٢٣٤",
        "999123456789",
        "55119000012345",
    ],
)
def test_what_is_no_number_is_not_possible(text: str) -> None:
    assert not phones.is_possible_wa_id(text)


@given(area_codes, st.text("0123456789", min_size=8, max_size=9))
def test_the_short_cut_for_brazil_says_what_phonenumbers_says(area_code: str, rest: str) -> None:
    text = f"55{area_code}{rest}"
    assert phones.is_possible_wa_id(text) == phonenumbers.is_possible_number(
        phonenumbers.parse("+" + text)
    )


def test_twenty_thousand_new_brazilian_numbers_cost_less_than_a_quarter_second() -> None:
    numbers = [f"55119{number:08d}" for number in range(20_000)]
    started = time.process_time()
    for number in numbers:
        phones.is_possible_wa_id(number)
        phones.phone_key(number)
    assert time.process_time() - started < 0.25


def test_a_known_number_is_answered_from_memory() -> None:
    phones.phone_key("551160009876")
    hits = phones.phone_key.cache_info().hits
    phones.phone_key("551160009876")
    assert phones.phone_key.cache_info().hits == hits + 1


@given(st.from_regex(r"[1-9][0-9]{6,14}", fullmatch=True))
def test_the_phone_of_a_wa_id_keeps_its_digits_and_fits_the_column(wa_id: str) -> None:
    assert phones.to_phone(wa_id) == f"+{wa_id}"
    assert re.fullmatch(phones.USERS_PHONE_PATTERN, phones.to_phone(wa_id))


def test_placeholders_fit_the_column_and_differ_every_time() -> None:
    bsuid = {phones.bsuid_placeholder() for _ in range(200)}
    anonymised = {phones.anonymised_placeholder() for _ in range(200)}
    assert len(bsuid) == len(anonymised) == 200
    assert all(re.fullmatch(phones.USERS_PHONE_PATTERN, text) for text in bsuid | anonymised)
    assert all(text.startswith("~b") for text in bsuid)
    assert all(text.startswith("~x") for text in anonymised)
