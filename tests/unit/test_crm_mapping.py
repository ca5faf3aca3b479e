"""A lead of ours and the records of Pipedrive, each as the other sees it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET, structs

from gatte_pipelines.crm import models as m
from gatte_pipelines.crm.company import Account
from gatte_pipelines.crm.mapping import (
    UNKNOWN_CONTACT,
    LocalLead,
    company_of,
    contacts_of,
    has_email,
    has_phone,
    label_ids_for,
    label_ids_of_new,
    left_alone_here,
    names_our_lead,
    new_person,
    ours_of,
    person_changes,
    phone_key_of,
    search_forms,
    stage_of_deal,
    stage_of_lead,
    title_of,
    usable_email,
    usable_phone,
)
from gatte_pipelines.crm.policy import (
    STAGES,
    DealStage,
    LabelStage,
    StagePolicy,
    is_same_email,
    is_same_phone,
    is_same_text,
)
from gatte_pipelines.phones import BRAZILIAN_AREA_CODES, USERS_PHONE_PATTERN
from gatte_pipelines.sync.merge import FieldRule, Side, Value, merge

AT = datetime(2026, 3, 10, 11, 30, tzinfo=UTC)
LEAD_ID = UUID("00000000-0000-4000-8000-0000000000a1")
NAME, PHONE, EMAIL = "Nome Distinto", "+5511900001234", "nome.distinto@example.com"
WARM, HOT, COLD, OTHER = (UUID(int=number) for number in (1, 2, 3, 4))
KEY = "a" * 40

POLICY = StagePolicy(
    labels=(LabelStage("Warm", "contacted", 2), LabelStage("Hot", "qualified", 3)),
    no_label="new",
    won="converted",
    lost="lost",
    deal_stages=(
        DealStage("Pipeline", "Qualified", "qualified", 10),
        DealStage("Renovações", "Qualified", "contacted", 12),
    ),
    file="crm_stages.yaml",
)
ACCOUNT = Account(
    labels={WARM: "Warm", HOT: "Hot", COLD: "Cold"},
    stages={
        11: ("Pipeline", "Qualified"),
        12: ("Pipeline", "Other"),
        21: ("Renovações", "Qualified"),
    },
    external_key=KEY,
    company_id=7,
    policy_fingerprint="",
    read_at=AT,
)


def lead_of(**values: Any) -> LocalLead:
    given_values: dict[str, Any] = {
        "lead_id": LEAD_ID,
        "name": NAME,
        "phone": PHONE,
        "email": EMAIL,
        "company": "Padaria Modelo",
        "interest": "e-CPF A1",
        "stage": "new",
        "source": "whatsapp",
        "notes": "uma nota",
        "created_at": AT,
    }
    return LocalLead(**given_values | values)


def entry(value: str, *, primary: bool = False, label: str | None = "home") -> m.Contact:
    return m.Contact(value=value, primary=primary, label=label)


def person_of(
    *,
    name: str = NAME,
    phones: list[m.Contact] | None = None,
    emails: list[m.Contact] | None = None,
) -> m.Person:
    return m.Person(
        id=1001,
        name=name,
        org_id=None,
        emails=emails or [],
        phones=phones or [],
        is_deleted=False,
        add_time=AT,
        update_time=AT,
        custom_fields={},
    )


def remote_lead(*label_ids: UUID, **values: Any) -> m.Lead:
    given_values: dict[str, Any] = {
        "id": UUID(int=9),
        "title": NAME,
        "owner_id": 1,
        "person_id": 1001,
        "organization_id": None,
        "label_ids": list(label_ids),
        "origin_id": None,
        "is_archived": False,
        "add_time": AT,
        "update_time": AT,
    }
    return m.Lead(**given_values | values)


def deal_of(**values: Any) -> m.Deal:
    given_values: dict[str, Any] = {
        "id": 300_001,
        "title": NAME,
        "status": "open",
        "stage_id": 11,
        "pipeline_id": 1,
        "person_id": 1001,
        "org_id": None,
        "is_archived": False,
        "is_deleted": False,
        "add_time": AT,
        "update_time": AT,
        "custom_fields": {},
    }
    return m.Deal(**given_values | values)


def changed(person: m.Person, changes: m.PersonChanges) -> m.Person:
    """The person after a change, as Pipedrive makes it: a list replaces the whole list."""
    given_values = {
        name: value
        for name in ("name", "phones", "emails")
        if (value := getattr(changes, name)) is not UNSET
    }
    return structs.replace(person, **given_values)


# --- Telephone numbers and addresses --------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "phone"),
    [
        ("+5511900001234", "+5511900001234"),
        ("+55 (11) 90000-1234", "+5511900001234"),
        ("(11) 90000-1234", "+5511900001234"),
        ("011 90000-1234", "+5511900001234"),
        ("(011) 90000 1234", "+5511900001234"),
        ("11.90000.1234", "+5511900001234"),
        ("5511900001234", "+5511900001234"),
        ("(+55) 11 90000-1234", "+5511900001234"),
        ("+55 (0)11 90000-1234", "+5511900001234"),
        ("0055 11 90000-1234", "+5511900001234"),
        ("0 15 11 90000-1234", "+5511900001234"),
        # Pasted: marks that nobody sees, a dash that does not break, digits of full width.
        ("\u202a+55 11 90000\u20111234\u202c", "+5511900001234"),
        ("11\u00a090000\u22121234", "+5511900001234"),
        ("１１ ９００００１２３４", "+5511900001234"),
        # Without the ninth digit, as WhatsApp sends it: no digit is added.
        ("+551190001234", "+551190001234"),
        ("(11) 9000-1234", "+551190001234"),
        ("(11) 3333-4444", "+551133334444"),
        ("(55) 90000-1234", "+5555900001234"),
        ("0800 000 1234", "+558000001234"),
        ("+1 212 000 0100", "+12120000100"),
        ("+351 910 000 012", "+351910000012"),
        # No number, or not the whole of one.
        (None, None),
        ("", None),
        ("  ", None),
        ("+", None),
        ("-", None),
        ("90000-1234", None),
        ("3333-4444", None),
        ("190", None),
        ("não tem", None),
        ("+55 11 90000-12345", None),
        ("+999 0000123", None),
        ("++5511900001234", None),
        ("55+11900001234", None),
        ("~babcdefghijklmnopqr", None),
        # A foreign one without its plus could be anybody's.
        ("12120000100", None),
        ("351910000012", None),
        ("00 15 351 910 000 012", None),
        # With an extension, or two of them.
        ("(11) 3333-4444 ramal 12", None),
        ("(11) 3333-4444 x12", None),
        ("(11) 3333-4444#12", None),
        ("(11) 90000-1234 / 90000-1235", None),
        ("(11) 90000-1234, (11) 90000-1235", None),
        ("(11) 90000-1234 (11) 90000-1235", None),
        ("(11) 90000-1234\n(11) 90000-1235", None),
        ("(11) 90000-1234\x00", None),
        ("(11) 90000-1234" + " " * 60, None),
    ],
)
def test_a_number_is_taken_in_the_forms_that_people_type(
    text: str | None, phone: str | None
) -> None:
    assert usable_phone(text) == phone


@given(st.text(max_size=30) | st.from_regex(r"\+?[0-9 ().-]{1,24}", fullmatch=True))
def test_a_usable_number_is_one_that_leads_can_hold_and_stays_itself(text: str) -> None:
    phone = usable_phone(text)
    if phone is None:
        assert phone_key_of(text) is None
        return
    assert re.fullmatch(USERS_PHONE_PATTERN, phone)
    assert len(phone) <= 20
    assert usable_phone(phone) == phone
    assert phone_key_of(phone) == phone_key_of(text)


@given(st.sampled_from(BRAZILIAN_AREA_CODES), st.integers(0, 9999))
def test_every_form_of_a_mobile_has_one_key(area: str, number: int) -> None:
    local = f"{number:04}"
    typed = [
        f"+55{area}900000{local[1:]}"[:14],
        f"({area}) 90000-0{local[1:]}",
        f"0{area} 90000 0{local[1:]}",
        f"55{area}900000{local[1:]}",
    ]
    assert len({phone_key_of(text) for text in typed}) == 1
    assert phone_key_of(typed[0]) is not None
    old, new = f"+55{area}9000{local}", f"({area}) 9 9000-{local}"
    assert phone_key_of(old) == phone_key_of(new)
    assert is_same_phone(old, new)


@pytest.mark.parametrize(
    ("text", "email"),
    [
        (" Nome.Distinto@Example.com ", "Nome.Distinto@Example.com"),
        ("a@b.example.com", "a@b.example.com"),
        ("jose\u0301@example.com", "josé@example.com"),
        (f"{'a' * 188}@example.com", f"{'a' * 188}@example.com"),
        (f"{'a' * 189}@example.com", None),
        (None, None),
        ("", None),
        ("nome", None),
        ("nome@", None),
        ("@example.com", None),
        ("nome@example", None),
        ("nome@.com", None),
        ("nome@example.", None),
        ("nome@example..com", None),
        ("nome distinto@example.com", None),
        ("nome@example.com outro@example.com", None),
        ("nome@example.com,outro@example.com", None),
        ("nome@example.com;", None),
        ("Nome <nome@example.com>", None),
        ("<nome@example.com>", None),
        ("nome@outro@example.com", None),
        ("nome\x00@example.com", None),
    ],
)
def test_an_address_is_taken_where_it_is_one(text: str | None, email: str | None) -> None:
    assert usable_email(text) == email


# --- Our values -----------------------------------------------------------------------------------


def test_our_values_are_those_that_can_be_used() -> None:
    assert ours_of(lead_of()) == {
        "name": NAME,
        "phone": PHONE,
        "email": EMAIL,
        "company": "Padaria Modelo",
        "stage": "new",
    }
    assert left_alone_here(lead_of()) == {}
    empty = lead_of(name="  ", phone="", email=None, company=" ")
    assert set(ours_of(empty).values()) == {None, "new"}
    assert left_alone_here(empty) == {}


def test_what_cannot_be_used_here_is_told_apart_from_what_is_empty() -> None:
    odd = lead_of(name=" Jose\u0301 ", phone="~bxxxxxxxxxxxxxxxxxx", email="nenhum")
    assert ours_of(odd)["name"] == "José"
    assert (ours_of(odd)["phone"], ours_of(odd)["email"]) == (None, None)
    assert left_alone_here(odd) == {"phone": "invalid_phone", "email": "invalid_email"}


def test_no_value_of_a_person_is_in_a_repr() -> None:
    lead = lead_of()
    shown = f"{lead!r} {[lead]} {person_of(phones=[entry(PHONE)])!r}"
    for value in (NAME, PHONE, EMAIL, "Padaria", "nota"):
        assert value not in shown
    assert str(LEAD_ID) in shown


@pytest.mark.parametrize(
    ("interest", "name", "title"),
    [
        ("e-CPF A1", NAME, f"e-CPF A1 – {NAME}"),
        (None, NAME, f"{UNKNOWN_CONTACT} – {NAME}"),
        ("  ", f" {NAME}\n", f"{UNKNOWN_CONTACT} – {NAME}"),
        ("e-CNPJ", " ", "e-CNPJ"),
        (None, "", UNKNOWN_CONTACT),
        ("x" * 200, "y" * 150, "x" * 200 + " – " + "y" * 52),
        ("x" * 200, "y" * 51 + " z", "x" * 200 + " – " + "y" * 51),
    ],
)
def test_a_title_says_what_it_is_about_and_who_asks(
    interest: str | None, name: str, title: str
) -> None:
    assert title_of(lead_of(interest=interest, name=name)) == title


# --- Their values ---------------------------------------------------------------------------------

OLD, NEW, THIRD = "+5511900000001", "+5511900000002", "+5511900000003"
OLD_AS_TYPED = "(11) 90000-0001"


@pytest.mark.parametrize(
    ("phones", "ours", "agreed", "phone", "reason"),
    [
        ([], OLD, OLD, None, None),
        ([entry(" "), entry("")], OLD, OLD, None, None),
        # The one that is ours, wherever it stands and however it is written.
        ([entry(NEW, primary=True), entry(OLD_AS_TYPED)], OLD, NEW, OLD, None),
        # Else the agreed one.
        ([entry(THIRD, primary=True), entry(OLD)], NEW, OLD, OLD, None),
        # Else the primary one, else the first that can be used.
        ([entry(NEW), entry(THIRD, primary=True)], OLD, OLD, THIRD, None),
        ([entry(NEW), entry(THIRD)], OLD, OLD, NEW, None),
        ([entry("ramal 2", primary=True), entry(THIRD)], OLD, OLD, THIRD, None),
        ([entry(NEW), entry(THIRD, primary=True)], None, None, THIRD, None),
        # None that can be used: as if it were unchanged.
        ([entry("ramal 2", primary=True), entry("x")], NEW, OLD, OLD, "invalid_phone"),
        ([entry("ramal 2")], NEW, None, None, "invalid_phone"),
        ([entry("\x00")], NEW, OLD, OLD, "nul_character"),
        ([entry(f"{OLD} / {NEW}")], THIRD, OLD, OLD, "invalid_phone"),
    ],
)
def test_of_their_numbers_one_counts(
    phones: list[m.Contact], ours: Value, agreed: Value, phone: Value, reason: str | None
) -> None:
    values, left_alone = contacts_of(
        person_of(phones=phones), ours={"phone": ours}, agreed={"phone": agreed}
    )
    assert (values["phone"], left_alone.get("phone")) == (phone, reason)


@pytest.mark.parametrize(
    ("emails", "ours", "agreed", "email", "reason"),
    [
        ([], EMAIL, EMAIL, None, None),
        (
            [entry("a@example.com", primary=True), entry(EMAIL.upper())],
            EMAIL,
            None,
            EMAIL.upper(),
            None,
        ),
        ([entry("a@example.com", primary=True), entry(EMAIL)], None, EMAIL, EMAIL, None),
        (
            [entry("nenhum", primary=True), entry("a@example.com")],
            None,
            None,
            "a@example.com",
            None,
        ),
        ([entry("nenhum")], None, EMAIL, EMAIL, "invalid_email"),
        ([entry(f"{'a' * 200}@example.com")], None, EMAIL, EMAIL, "too_long"),
        ([entry("a\x00@example.com")], None, EMAIL, EMAIL, "nul_character"),
    ],
)
def test_of_their_addresses_one_counts(
    emails: list[m.Contact], ours: Value, agreed: Value, email: Value, reason: str | None
) -> None:
    values, left_alone = contacts_of(
        person_of(emails=emails), ours={"email": ours}, agreed={"email": agreed}
    )
    assert (values["email"], left_alone.get("email")) == (email, reason)


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        (f"  {NAME} ", NAME, None),
        ("Jose\u0301", "José", None),
        ("x" * 150, "x" * 150, None),
        ("x" * 151, "agreed", "too_long"),
        ("x\x00", "agreed", "nul_character"),
        (" ", None, None),
    ],
)
def test_a_name_that_leads_cannot_hold_is_left_alone(
    name: str, value: Value, reason: str | None
) -> None:
    values, left_alone = contacts_of(person_of(name=name), ours={}, agreed={"name": "agreed"})
    assert (values["name"], left_alone.get("name")) == (value, reason)


def test_where_nothing_was_agreed_there_is_nothing_to_keep() -> None:
    person = person_of(name="x" * 151, phones=[entry("x")], emails=[entry("x")])
    values, left_alone = contacts_of(person, ours=ours_of(lead_of()), agreed=None)
    assert values == {"name": None, "phone": None, "email": None}
    assert left_alone.keys() == values.keys()


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        (None, None, None),
        (" ", None, None),
        (" Padaria Modelo ", "Padaria Modelo", None),
        ("x" * 200, "x" * 200, None),
        ("x" * 201, None, "too_long"),
        ("x\x00", None, "nul_character"),
    ],
)
def test_a_company_that_leads_cannot_hold_is_left_alone(
    name: str | None, value: Value, reason: str | None
) -> None:
    assert company_of(name) == (value, reason)


# --- A person as it is written --------------------------------------------------------------------


def test_a_new_person_has_what_we_know() -> None:
    made = new_person({"name": NAME, "phone": PHONE, "email": EMAIL, "stage": "new"}, org_id=5)
    assert m.body_of(made) == {
        "name": NAME,
        "org_id": 5,
        "phones": [{"value": PHONE, "primary": True, "label": "mobile"}],
        "emails": [{"value": EMAIL, "primary": True, "label": "work"}],
    }
    bare = new_person({"name": None, "phone": None}, org_id=None)
    assert m.body_of(bare) == {"name": UNKNOWN_CONTACT}


def test_the_agreed_entry_is_replaced_and_keeps_its_label_and_rank() -> None:
    person = person_of(phones=[entry(THIRD, primary=True), entry(OLD_AS_TYPED, label="mobile")])
    changes = person_changes(person, {"phone": NEW}, agreed={"phone": OLD})
    assert changes.phones == [entry(THIRD, primary=True), entry(NEW, label="mobile")]
    assert (changes.name, changes.emails) == (UNSET, UNSET)


def test_without_an_agreed_entry_ours_comes_first() -> None:
    person = person_of(emails=[entry("nenhum", primary=True), entry("a@example.com", label=None)])
    for agreed in (None, {}, {"email": None}, {"email": "b@example.com"}):
        changes = person_changes(person, {"email": EMAIL}, agreed=agreed)
        assert changes.emails == [
            entry(EMAIL, primary=True, label="work"),
            entry("nenhum"),
            entry("a@example.com", label=None),
        ]


def test_emptied_here_takes_the_agreed_entry_out_in_every_form_of_it() -> None:
    others = [entry(NEW), entry("ramal 2")]
    person = person_of(phones=[entry(OLD, primary=True), *others, entry(OLD_AS_TYPED)])
    changes = person_changes(person, {"phone": None}, agreed={"phone": OLD})
    assert changes.phones == [entry(NEW, primary=True), entry("ramal 2")]
    nothing = person_changes(person, {"phone": None}, agreed={"phone": THIRD})
    assert nothing == m.PersonChanges()
    last = person_of(emails=[entry(EMAIL)])
    assert person_changes(last, {"email": None}, agreed={"email": EMAIL}).emails == []


def test_what_is_there_already_is_not_written() -> None:
    person = person_of(phones=[entry(THIRD, primary=True), entry(OLD_AS_TYPED)])
    values = {"name": NAME, "phone": OLD, "company": "x", "stage": "lost"}
    assert person_changes(person, values, agreed={"phone": THIRD}) == m.PersonChanges()
    assert person_changes(person, {}, agreed={"phone": OLD}) == m.PersonChanges()


def test_a_name_is_written_and_never_emptied() -> None:
    assert person_changes(person_of(), {"name": "Outro"}, agreed=None).name == "Outro"
    assert person_changes(person_of(), {"name": None}, agreed={"name": NAME}).name is UNSET


PHONES = st.sampled_from([OLD, NEW, THIRD, "+551133334444", "+12120000100"])
EMAILS = st.sampled_from([f"{letter}@example.com" for letter in "abcd"])
TYPED_PHONES = PHONES | st.sampled_from(
    [OLD_AS_TYPED, "011 90000-0002", "ramal 2", "", " ", "x\x00", f"{OLD}/{NEW}"]
)
TYPED_EMAILS = EMAILS | st.sampled_from(["A@EXAMPLE.COM", "nenhum", "", "a@b@example.com"])


def entries(values: st.SearchStrategy[str]) -> st.SearchStrategy[list[m.Contact]]:
    labels = st.sampled_from(["work", "home", None])
    one = st.builds(m.Contact, value=values, primary=st.booleans(), label=labels)
    return st.lists(one, max_size=5)


PERSONS = st.builds(
    lambda phones, emails: person_of(phones=phones, emails=emails),
    entries(TYPED_PHONES),
    entries(TYPED_EMAILS),
)
VALUES = st.fixed_dictionaries(
    {}, optional={"name": st.just("Outro Nome"), "phone": PHONES, "email": EMAILS}
)
AGREED = st.none() | st.fixed_dictionaries(
    {}, optional={"phone": st.none() | PHONES, "email": st.none() | EMAILS}
)
SAME = {"name": str.__eq__, "phone": is_same_phone, "email": is_same_email}


@given(PERSONS, VALUES, AGREED)
def test_what_was_written_is_what_is_then_read(
    person: m.Person, values: dict[str, Value], agreed: Mapping[str, Value] | None
) -> None:
    after = changed(person, person_changes(person, values, agreed=agreed))
    for ours, known in ((values, values), (values, agreed), ({}, values)):
        read, left_alone = contacts_of(after, ours=ours, agreed=known)
        for name, value in values.items():
            assert name not in left_alone
            there = read[name]
            assert there is not None
            assert value is not None
            assert SAME[name](there, value)
    # Written again, it is no change any more.
    assert person_changes(after, values, agreed=values) == m.PersonChanges()


@given(
    PERSONS,
    st.fixed_dictionaries({}, optional={"phone": st.none() | PHONES, "email": st.none() | EMAILS}),
    AGREED,
)
def test_no_other_entry_is_ever_lost(
    person: m.Person, values: dict[str, Value], agreed: Mapping[str, Value] | None
) -> None:
    after = changed(person, person_changes(person, values, agreed=agreed))
    for before, now, name, same in (
        (person.phones, after.phones, "phone", is_same_phone),
        (person.emails, after.emails, "email", is_same_email),
    ):
        old = (agreed or {}).get(name)
        for one in before:
            if one.value.strip() and not (old is not None and same(one.value, old)):
                assert (one.value, one.label) in [(it.value, it.label) for it in now]
        if name not in values:
            assert now == before
        if now != before:
            assert not now or any(one.primary for one in now)
            assert len(now) <= len(before) + 1


@given(PERSONS, AGREED)
def test_emptied_here_the_agreed_one_is_gone_there(
    person: m.Person, agreed: Mapping[str, Value] | None
) -> None:
    emptied: dict[str, Value] = {"phone": None, "email": None}
    after = changed(person, person_changes(person, emptied, agreed=agreed))
    known = agreed or {}
    if (phone := known.get("phone")) is not None:
        assert not has_phone(after, phone)
    if (email := known.get("email")) is not None:
        assert not has_email(after, email)


RULES = [
    FieldRule("name", Side.OURS, is_same=is_same_text),
    FieldRule("phone", Side.OURS, is_same=is_same_phone),
    FieldRule("email", Side.OURS, is_same=is_same_email),
]


def one_round(
    ours: dict[str, Value], person: m.Person, agreed: dict[str, Value] | None
) -> tuple[dict[str, Value], m.Person, dict[str, Value], bool]:
    """What a run makes of both sides, and whether it wrote anything."""
    theirs, _ = contacts_of(person, ours=ours, agreed=agreed)
    merged = merge(RULES, ours, theirs, agreed)
    here = {one.name: one.value for one in merged if one.is_written_here}
    there = {one.name: one.value for one in merged if one.is_written_there}
    after = changed(person, person_changes(person, there, agreed=agreed))
    return ours | here, after, {one.name: one.value for one in merged}, bool(here or there)


@given(
    st.fixed_dictionaries(
        {"name": st.just(NAME), "phone": st.none() | PHONES, "email": st.none() | EMAILS}
    ),
    PERSONS,
    AGREED,
)
def test_both_sides_come_to_rest(
    ours: dict[str, Value], person: m.Person, agreed: dict[str, Value] | None
) -> None:
    ours, person, agreed, _ = one_round(ours, person, agreed)
    # Where ours was emptied, the second run takes the next one that they have.
    ours, person, agreed, _ = one_round(ours, person, agreed)
    _, _, _, has_written = one_round(ours, person, agreed)
    assert not has_written


# --- Stages ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("labels", "stage"),
    [
        ((), "new"),
        ((WARM,), "contacted"),
        ((HOT,), "qualified"),
        ((HOT, WARM), "qualified"),
        ((WARM, HOT), "qualified"),
        ((COLD,), "new"),
        ((OTHER, WARM), "contacted"),
    ],
)
def test_the_stage_of_a_lead_is_the_latest_of_its_labels(
    labels: tuple[UUID, ...], stage: str
) -> None:
    assert stage_of_lead(remote_lead(*labels), ACCOUNT, POLICY) == stage


@pytest.mark.parametrize(
    ("values", "stage"),
    [
        ({"status": "won"}, "converted"),
        ({"status": "lost"}, "lost"),
        ({"status": "lost", "stage_id": 12}, "lost"),
        ({}, "qualified"),
        ({"stage_id": 21}, "contacted"),
        ({"stage_id": 12}, None),
        ({"stage_id": 99}, None),
        ({"status": "deleted"}, None),
        ({"status": "unheard of"}, None),
    ],
)
def test_the_stage_of_a_deal_is_its_status_or_where_it_stands(
    values: dict[str, Any], stage: str | None
) -> None:
    assert stage_of_deal(deal_of(**values), ACCOUNT, POLICY) == stage


@pytest.mark.parametrize(
    ("labels", "stage", "ids"),
    [
        ((), "new", []),
        ((), "contacted", [WARM]),
        ((COLD, WARM, OTHER), "qualified", [COLD, OTHER, HOT]),
        ((WARM, HOT), "contacted", [WARM]),
        ((COLD, WARM, HOT), "new", [COLD]),
        ((HOT, WARM), "qualified", [HOT, WARM]),
        ((WARM,), "lost", None),
        ((), "converted", None),
    ],
)
def test_the_labels_for_a_stage_leave_every_other_label(
    labels: tuple[UUID, ...], stage: str, ids: list[UUID] | None
) -> None:
    assert label_ids_for(remote_lead(*labels), stage, ACCOUNT, POLICY) == ids


@given(st.lists(st.sampled_from([WARM, HOT, COLD, OTHER]), unique=True), st.sampled_from(STAGES))
def test_labels_that_were_written_are_read_as_their_stage(labels: list[UUID], stage: str) -> None:
    ids = label_ids_for(remote_lead(*labels), stage, ACCOUNT, POLICY)
    if ids is None:
        assert label_ids_of_new(stage, ACCOUNT, POLICY) == []
        return
    assert stage_of_lead(remote_lead(*ids), ACCOUNT, POLICY) == stage
    assert {COLD, OTHER} & set(ids) == {COLD, OTHER} & set(labels)
    new = label_ids_of_new(stage, ACCOUNT, POLICY)
    assert stage_of_lead(remote_lead(*new), ACCOUNT, POLICY) == stage


def test_the_first_label_with_a_stage_is_the_one_that_is_written() -> None:
    policy = replace(POLICY, labels=(*POLICY.labels, LabelStage("Cold", "contacted", 4)))
    assert label_ids_of_new("contacted", ACCOUNT, policy) == [WARM]
    assert label_ids_for(remote_lead(HOT), "contacted", ACCOUNT, policy) == [WARM]
    # It has the stage by the other label already.
    assert label_ids_for(remote_lead(COLD), "contacted", ACCOUNT, policy) == [COLD]
    gone = replace(ACCOUNT, labels={COLD: "Cold"})
    assert label_ids_for(remote_lead(), "contacted", gone, policy) is None


# --- Who is who -----------------------------------------------------------------------------------


def test_a_person_is_found_by_any_form_of_a_number_or_address() -> None:
    person = person_of(phones=[entry("x"), entry("(11) 9000-1234")], emails=[entry(EMAIL.upper())])
    assert has_phone(person, "+5511990001234")
    assert not has_phone(person, "+5511990001235")
    assert not has_phone(person, "x")
    assert has_email(person, EMAIL)
    assert not has_email(person, "nome@example.com")
    assert not has_email(person_of(emails=[entry("nenhum")]), "nenhum")


def test_a_number_is_searched_for_in_each_of_its_forms() -> None:
    assert search_forms("+551190001234") == ("5511990001234", "551190001234")
    assert search_forms("+5511990001234") == ("5511990001234", "551190001234")
    assert search_forms("+551133334444") == ("551133334444",)


@pytest.mark.parametrize(
    ("custom", "origin", "found"),
    [
        ({KEY: str(LEAD_ID)}, None, LEAD_ID),
        ({KEY: f" {str(LEAD_ID).upper()} "}, str(UUID(int=5)), LEAD_ID),
        ({KEY: "cleared"}, str(LEAD_ID), LEAD_ID),
        ({KEY: None}, str(LEAD_ID), LEAD_ID),
        ({KEY: 5}, None, None),
        ({"b" * 40: str(LEAD_ID)}, None, None),
        ({}, str(LEAD_ID), LEAD_ID),
        ({}, "form-17", None),
        ({}, LEAD_ID.hex, None),
        ({}, "", None),
        ({}, None, None),
    ],
)
def test_a_record_names_our_lead_by_the_custom_field_or_by_what_created_it(
    custom: dict[str, object], origin: str | None, found: UUID | None
) -> None:
    for remote in (
        remote_lead(custom_fields=custom, origin_id=origin),
        deal_of(custom_fields=custom, origin_id=origin),
    ):
        assert names_our_lead(remote, ACCOUNT) == found


def test_without_the_custom_field_what_created_it_still_names_our_lead() -> None:
    account = replace(ACCOUNT, external_key=None)
    remote = remote_lead(custom_fields={KEY: str(UUID(int=5))}, origin_id=str(LEAD_ID))
    assert names_our_lead(remote, account) == LEAD_ID
