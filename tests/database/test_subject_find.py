"""A phone or an e-mail leads to the right people, and tells nothing of them but ids and dates."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID, uuid4

import pytest

from gatte_pipelines.database.engine import psycopg_connection
from gatte_pipelines.errors import BadInputError
from gatte_pipelines.privacy.subjects import (
    Subject,
    SubjectMatches,
    UnknownSubjectError,
    describe_matches,
    find_subjects,
    read_keys,
    read_subject,
)
from tests.inbound import AS_OF, NOW
from tests.postgres import TestDatabase
from tests.subjects import Subjects
from tests.webhooks import ANA, BRUNO, contact, number_change, text_message, texts

SHARED = "contato@empresa.example"


@pytest.fixture
def subjects(database: TestDatabase) -> Subjects:
    return Subjects(database)


def find(subjects: Subjects, text: str) -> SubjectMatches:
    with subjects.database.connect() as connection:
        return find_subjects(connection, text)


def who(subjects: Subjects, subject_id: UUID) -> Subject:
    with subjects.database.connect() as connection:
        driver = psycopg_connection(connection)
        with driver.transaction(), driver.cursor() as cursor:
            return read_subject(cursor, subject_id)


@pytest.mark.parametrize(
    "written",
    [
        "5511900000001",
        "+55 11 90000-0001",
        "(11) 90000-0001",
        "011 90000.0001",
        "0055 11 90000 0001",
        " 11900000001\n",
    ],
)
def test_a_phone_is_found_however_it_is_written(subjects: Subjects, written: str) -> None:
    subjects.say(text_message("wamid.a", NOW - 60))
    (user,) = find(subjects, written).users
    assert user.user_id == subjects.user()
    assert (user.conversations, user.tickets, user.matched_by) == (1, 0, ("phone",))
    assert not find(subjects, written).has_changed_hands


@pytest.mark.parametrize("written", ["11 96000-1234", "11 6000-1234", "551160001234"])
def test_the_ninth_digit_makes_no_difference(subjects: Subjects, written: str) -> None:
    subjects.say(text_message("wamid.a", NOW - 60, sender="551160001234"))
    assert len(find(subjects, written).users) == 1


def test_an_email_is_compared_without_regard_to_case(with_ana: Subjects) -> None:
    user = with_ana.user()
    (found,) = find(with_ana, "ANA@Cliente.Example ").users
    assert (found.user_id, found.matched_by) == (user, ("email",))
    (by_lead,) = find(with_ana, "ana.lead@cliente.example").users
    assert (by_lead.user_id, by_lead.matched_by) == (user, ("lead",))


def test_who_the_chatbot_made_is_found_before_the_first_record(subjects: Subjects) -> None:
    user = subjects.insert_user(f"+{ANA}")
    (found,) = find(subjects, ANA).users
    assert (str(found.user_id), found.owned_until) == (user, None)


def test_a_number_that_changed_hands_says_who_had_it_when(subjects: Subjects) -> None:
    subjects.send(
        texts(text_message("wamid.a1", NOW - 5000)),
        texts(number_change("wamid.sys", NOW - 4000, ANA, BRUNO)),
        texts(text_message("wamid.b1", NOW - 3000), contacts=[contact(ANA, "Novo Dono")]),
        texts(text_message("wamid.a2", NOW - 2000, sender=BRUNO)),
    )
    ana, owner = subjects.user(BRUNO), subjects.user(ANA)
    found = find(subjects, ANA)
    assert found.has_changed_hands
    assert {user.user_id: (user.is_former_owner, user.owned_until) for user in found.users} == {
        ana: (True, AS_OF - timedelta(seconds=4000)),
        owner: (False, None),
    }
    assert any("mudou de mãos" in line for line in describe_matches(found))
    # The other number is Ana's alone, though it was nobody's before.
    assert [user.user_id for user in find(subjects, BRUNO).users] == [ana]


def test_a_merged_user_leads_to_the_one_that_stayed(subjects: Subjects) -> None:
    subjects.say(text_message("wamid.a", NOW - 60))
    gone = uuid4()
    subjects.execute(
        "insert into pipeline.user_merges values (:g, :u, :at)", g=gone, u=subjects.user(), at=AS_OF
    )
    (user,) = find(subjects, ANA).users
    assert [one.user_id for one in user.merged] == [gone]
    assert who(subjects, gone) == who(subjects, subjects.user())
    assert set(who(subjects, gone).user_ids) == {gone, subjects.user()}


def test_a_merged_lead_leads_to_the_one_that_stayed(subjects: Subjects) -> None:
    lead, merged, earlier = subjects.add("leads"), uuid4(), uuid4()
    for gone, into in ((earlier, merged), (merged, lead)):
        subjects.execute(
            "insert into pipeline.crm_links (lead_id, state, merged_into, agreed_phone, "
            "agreed_email, made_at, changed_at) values (:gone, 'merged', :into, "
            "'(11) 90000-0077', 'Antes@Cliente.example', now(), now())",
            gone=gone,
            into=into,
        )
    expected = who(subjects, lead)
    assert expected.subject_id == lead
    assert set(expected.lead_ids) == {lead, merged, earlier}
    assert who(subjects, earlier) == who(subjects, merged) == expected
    with subjects.database.connect() as connection:
        driver = psycopg_connection(connection)
        with driver.transaction(), driver.cursor() as cursor:
            keys = read_keys(cursor, expected).keys
    assert "5511900000077" in keys.phones
    assert "antes@cliente.example" in keys.emails


def test_leads_without_a_user_are_found_by_phone_and_email(subjects: Subjects) -> None:
    by_phone = subjects.add("leads", phone="(11) 90000-0001")
    by_email = subjects.add("leads", email="Ana@Cliente.example")
    subjects.add("leads", phone="+5511900000009", email="outra@cliente.example")
    assert [lead.lead_id for lead in find(subjects, ANA).leads] == [by_phone]
    assert [lead.lead_id for lead in find(subjects, "ana@cliente.example").leads] == [by_email]
    assert who(subjects, by_phone).lead_ids == (by_phone,)


def test_a_lead_is_whose_the_number_was_when_it_was_written(subjects: Subjects) -> None:
    subjects.send(
        texts(text_message("wamid.a1", NOW - 5000)),
        texts(number_change("wamid.sys", NOW - 4000, ANA, BRUNO)),
        texts(text_message("wamid.b1", NOW - 3000), contacts=[contact(ANA, "Novo Dono")]),
        texts(text_message("wamid.a2", NOW - 2000, sender=BRUNO)),
    )
    ana, owner = subjects.user(BRUNO), subjects.user(ANA)
    early, of_ana, of_owner = (
        subjects.add("leads", phone=f"+{ANA}", created_at=AS_OF - timedelta(seconds=ago))
        for ago in (90_000, 4500, 1000)
    )
    assert {lead.lead_id: lead.user_id for lead in find(subjects, ANA).leads} == {
        early: ana,
        of_ana: ana,
        of_owner: owner,
    }
    assert set(who(subjects, ana).lead_ids) == {early, of_ana}
    assert who(subjects, owner).lead_ids == (of_owner,)
    assert who(subjects, of_owner) == who(subjects, owner)


def test_an_email_that_two_people_share_decides_nothing(subjects: Subjects) -> None:
    subjects.say(text_message("wamid.a", NOW - 60), text_message("wamid.b", NOW - 50, sender=BRUNO))
    subjects.execute("update users set email = :e", e=SHARED)
    lead = subjects.add("leads", phone="+5511900000009", email=SHARED)
    assert len(find(subjects, SHARED).users) == 2
    (found,) = find(subjects, SHARED).leads
    assert found.is_disputed
    ana = who(subjects, subjects.user())
    assert (ana.lead_ids, ana.disputed_lead_ids) == ((), (lead,))


def test_what_is_shared_is_no_key_to_files(subjects: Subjects) -> None:
    subjects.say(text_message("wamid.a", NOW - 60), text_message("wamid.b", NOW - 50, sender=BRUNO))
    subjects.execute("update users set email = :e", e=SHARED)
    with subjects.database.connect() as connection:
        driver = psycopg_connection(connection)
        with driver.transaction(), driver.cursor() as cursor:
            known = read_keys(cursor, read_subject(cursor, subjects.user()))
    assert (known.keys.emails, known.shared) == (frozenset(), 1)
    assert known.keys.phones == {ANA}
    assert len(known.keys.message_ids) == 1


@pytest.mark.parametrize("text", ["", "ana", "@", "a b@x.example", "12345"])
def test_what_is_neither_phone_nor_email_is_refused_unseen(subjects: Subjects, text: str) -> None:
    with pytest.raises(BadInputError) as error:
        find(subjects, text)
    assert not text.strip() or text not in str(error.value).replace("an e-mail", "")


def test_an_unknown_id_says_so(subjects: Subjects) -> None:
    unknown = uuid4()
    with pytest.raises(UnknownSubjectError, match=str(unknown)):
        who(subjects, unknown)


def test_what_is_told_of_matches_holds_nothing_personal(with_ana: Subjects) -> None:
    with_ana.add("leads", phone=f"+{ANA}", email="x@cliente.example", name="Ana Lead")
    matches = find(with_ana, ANA)
    told = repr(matches) + "\n".join(describe_matches(matches))
    for value in ("ana", ANA[2:], "cliente.example", "empresa"):
        assert value not in told
    assert find(with_ana, "5511900000007") == SubjectMatches(kind="phone", users=(), leads=())
    assert "Ninguém" in describe_matches(find(with_ana, "5511900000007"))[0]
