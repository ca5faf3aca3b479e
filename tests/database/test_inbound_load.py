"""Who wrote, under which name and number, and what became of what we sent."""

from __future__ import annotations

import random
import re
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Connection, text

from gatte_pipelines.inbound.ids import MessageIds
from gatte_pipelines.run_report import Outcome
from tests.inbound import AS_OF, HOUR, NOW, Inbound
from tests.postgres import ID_KEY, TestDatabase
from tests.webhooks import ANA, BRUNO, change, contact, line, status, text_message, texts

MOBILE, MOBILE_OLD = "5511960001234", "551160001234"
LANDLINE = "551133330001"
BSUID = "BR.13491208655302741918"
IDS = MessageIds(ID_KEY)


@pytest.fixture
def inbound(database: TestDatabase) -> Inbound:
    return Inbound(database)


def users(inbound: Inbound) -> list[tuple[Any, ...]]:
    return inbound.rows("select phone, name from users order by phone")


def identities(inbound: Inbound) -> set[tuple[Any, ...]]:
    return set(
        inbound.rows(
            "select u.phone, i.kind, i.value from pipeline.user_identities as i "
            "inner join users as u on i.user_id = u.id where i.valid_to is null"
        )
    )


def test_a_message_is_stored_with_its_own_time_and_its_author(inbound: Inbound) -> None:
    report = inbound.send(
        texts(text_message("w1", NOW - 60, body="bom dia\n\t\\.😀"), contacts=[contact(ANA, "Ana")])
    )
    assert (report.outcome, report.received, report.inserted) == (Outcome.COMPLETED, 1, 1)
    assert (report.period_from, report.period_to) == (AS_OF - timedelta(minutes=1),) * 2
    assert users(inbound) == [(f"+{ANA}", "Ana")]
    assert inbound.one(
        "select replace(id::text, '-', ''), role, content, created_at from messages"
    ) == (
        IDS.of_wamid("w1"),
        "user",
        "bom dia\n\t\\.😀",
        AS_OF - timedelta(minutes=1),
    )
    assert inbound.one("select author from pipeline.message_facts") == ("client",)
    assert inbound.one("select last_at from pipeline.user_activity") == (
        AS_OF - timedelta(minutes=1),
    )
    kinds = {(kind, value) for _, kind, value in identities(inbound)}
    assert kinds == {("phone_key", ANA), ("wa_id", ANA)}


def test_a_run_is_recorded_with_its_report(inbound: Inbound) -> None:
    report = inbound.say(text_message("w1", NOW))
    assert inbound.one(
        "select run_id, pipeline, as_of, outcome, (report ->> 'inserted')::int from pipeline.runs"
    ) == (report.run_id, "inbound_messages", AS_OF, "completed", 1)


def test_the_same_message_again_is_a_duplicate_in_the_batch_and_after_it(inbound: Inbound) -> None:
    message = text_message("w1", NOW)
    first = inbound.say(message, message)
    second = inbound.say(message)
    assert (first.inserted, first.duplicate) == (1, 1)
    assert (second.inserted, second.duplicate) == (0, 1)
    assert inbound.one("select total_messages from conversations") == (1,)


def test_a_text_that_was_removed_does_not_come_back(inbound: Inbound) -> None:
    inbound.say(text_message("w1", NOW))
    inbound.execute("update messages set content = ''")
    assert inbound.say(text_message("w1", NOW)).duplicate == 1
    assert inbound.one("select content from messages") == ("",)
    assert inbound.rows("select * from pipeline.guard_refusals") == []


@pytest.mark.parametrize("first", [MOBILE, MOBILE_OLD])
def test_both_forms_of_a_mobile_are_one_user_reached_by_the_last_form(
    inbound: Inbound, first: str
) -> None:
    last = MOBILE_OLD if first == MOBILE else MOBILE
    inbound.say(text_message("w1", NOW - 60, sender=first))
    inbound.say(text_message("w2", NOW, sender=last))
    assert users(inbound) == [(f"+{last}", None)]
    assert inbound.one("select total_messages from conversations") == (2,)


def test_a_landline_is_nobody_elses_mobile(inbound: Inbound) -> None:
    inbound.say(
        text_message("w1", NOW, sender=LANDLINE),
        text_message("w2", NOW, sender=LANDLINE[:4] + "9" + LANDLINE[4:]),
    )
    assert len(users(inbound)) == 2


def test_name_and_form_of_the_phone_go_by_event_time_not_by_arrival(inbound: Inbound) -> None:
    inbound.send(
        texts(text_message("new", NOW, sender=MOBILE), contacts=[contact(MOBILE, "Nome Novo")])
    )
    inbound.send(
        texts(
            text_message("old", NOW - HOUR, sender=MOBILE_OLD),
            contacts=[contact(MOBILE_OLD, "Nome Velho")],
        )
    )
    assert users(inbound) == [(f"+{MOBILE}", "Nome Novo")]
    inbound.send(
        texts(text_message("newest", NOW + 1, sender=MOBILE), contacts=[contact(MOBILE, "Atual")])
    )
    assert users(inbound) == [(f"+{MOBILE}", "Atual")]


def test_a_late_message_without_a_profile_leaves_the_name(inbound: Inbound) -> None:
    inbound.send(texts(text_message("a", NOW - 9), contacts=[contact(ANA, "Ana")]))
    inbound.say(text_message("b", NOW))
    assert users(inbound) == [(f"+{ANA}", "Ana")]


def test_the_first_contact_of_a_user_is_their_earliest_message(inbound: Inbound) -> None:
    inbound.say(text_message("b", NOW))
    inbound.say(text_message("a", NOW - HOUR))
    assert inbound.one("select created_at from users") == (AS_OF - timedelta(hours=1),)


@pytest.mark.parametrize("sender", [MOBILE, MOBILE_OLD])
def test_a_user_of_the_chatbot_is_found_by_phone_and_keeps_the_name_given_there(
    inbound: Inbound, sender: str
) -> None:
    known = inbound.insert_user(f"+{MOBILE}", "Nome do Cadastro")
    for number in range(2):
        inbound.send(
            texts(
                text_message(f"w{number}", NOW + number, sender=sender),
                contacts=[contact(sender, "Apelido")],
            )
        )
    assert inbound.one("select id::text, phone, name from users") == (
        known,
        f"+{sender}",
        "Nome do Cadastro",
    )


def test_a_name_that_the_chatbot_writes_later_stays(inbound: Inbound, chatbot: Connection) -> None:
    inbound.send(texts(text_message("a", NOW - 9), contacts=[contact(ANA, "Apelido")]))
    chatbot.execute(text("update users set name = 'Nome do Cadastro'"))
    chatbot.commit()
    inbound.send(texts(text_message("b", NOW), contacts=[contact(ANA, "Outro Apelido")]))
    assert users(inbound) == [(f"+{ANA}", "Nome do Cadastro")]


def test_a_nameless_user_of_the_chatbot_takes_the_profile_name(inbound: Inbound) -> None:
    inbound.insert_user(f"+{ANA}")
    inbound.send(texts(text_message("a", NOW), contacts=[contact(ANA, "Ana")]))
    assert users(inbound) == [(f"+{ANA}", "Ana")]


@pytest.mark.parametrize("files", [[1, 1, 1, 1, 1, 1], [2, 2, 2], [2, 4], [6]])
def test_a_bsuid_seen_with_two_phones_is_one_client_in_any_split_into_files(
    inbound: Inbound, files: list[int]
) -> None:
    """A BSUID is one WhatsApp user of our portfolio, whatever numbers it writes with."""
    said = [
        texts(text_message("w1", NOW - 60, sender=ANA, body="Ana")),
        texts(text_message("w2", NOW - 50, sender=BRUNO, body="Bruno")),
        texts(text_message("w3", NOW - 40, sender=ANA, from_user_id=BSUID, body="Ana com X")),
        texts(text_message("w4", NOW - 30, sender=BRUNO, from_user_id=BSUID, body="Bruno com X")),
        texts(text_message("w5", NOW - 20, sender=ANA, from_user_id=BSUID, body="Ana de novo")),
        texts(text_message("w6", NOW - 10, sender=None, from_user_id=BSUID, body="só X")),
    ]
    known: set[Any] = set()
    for count in files:
        inbound.send(*said[:count])
        del said[:count]
        known |= {user_id for (user_id,) in inbound.rows("select id from users")}
    assert users(inbound) == [(f"+{ANA}", None)], "the phone of the last message that had one"
    assert inbound.rows(
        "select m.content from messages as m inner join conversations as c "
        "on m.conversation_id = c.id order by m.created_at"
    ) == [("Ana",), ("Bruno",), ("Ana com X",), ("Bruno com X",), ("Ana de novo",), ("só X",)]
    assert inbound.one("select status, total_messages from conversations") == ("open", 6)
    assert identities(inbound) == {
        (f"+{ANA}", kind, value)
        for kind, value in [
            ("bsuid", BSUID),
            *((kind, phone) for kind in ("phone_key", "wa_id") for phone in (ANA, BRUNO)),
        ]
    }
    ((stays,),) = inbound.rows("select id from users")
    gone = known - {stays}
    # In one file nobody had to go.
    assert len(gone) == (0 if files == [6] else 1)
    assert inbound.rows("select from_user_id, into_user_id from pipeline.user_merges") == [
        (user_id, stays) for user_id in gone
    ]
    assert inbound.rows(
        "select removed_id, kept_id, record -> 'user' ->> 'phone', "
        "jsonb_array_length(record -> 'conversations'), expires_at - made_at "
        "from pipeline.undo_records where kind = 'users'"
    ) == [(user_id, stays, f"+{BRUNO}", 1, timedelta(days=30)) for user_id in gone]


def test_a_client_without_phone_has_a_placeholder_until_the_phone_comes(inbound: Inbound) -> None:
    inbound.say(text_message("a", NOW - 60, sender=None, from_user_id=BSUID))
    ((phone, _),) = users(inbound)
    assert re.fullmatch(r"~b[a-z2-7]{18}", phone)
    inbound.say(text_message("b", NOW - 30, sender=None, from_user_id=BSUID))
    assert users(inbound) == [(phone, None)], "the placeholder stays as it was made"
    inbound.say(text_message("c", NOW, from_user_id=BSUID))
    assert users(inbound) == [(f"+{ANA}", None)]
    assert identities(inbound) == {
        (f"+{ANA}", "bsuid", BSUID),
        (f"+{ANA}", "phone_key", ANA),
        (f"+{ANA}", "wa_id", ANA),
    }
    inbound.say(text_message("d", NOW + 1, sender=None, from_user_id=BSUID))
    assert inbound.one("select total_messages from conversations") == (4,)


def test_a_user_id_that_stands_only_in_the_profile_counts(inbound: Inbound) -> None:
    inbound.send(texts(text_message("a", NOW), contacts=[contact(ANA, "Ana", BSUID)]))
    inbound.say(text_message("b", NOW, sender=None, from_user_id=BSUID))
    assert len(users(inbound)) == 1


def test_an_anonymised_user_is_not_written_and_the_run_goes_on(inbound: Inbound) -> None:
    inbound.say(text_message("a", NOW - HOUR))
    ((user_id,),) = inbound.rows("select id from users")
    inbound.execute("update users set phone = '~xaaaaaaaaaaaaaaaaaa', name = null")
    inbound.execute(
        "insert into pipeline.anonymized_rows (table_name, row_id, rule) "
        "values ('users', :id, 'test')",
        id=user_id,
    )
    before = inbound.one("select * from users")
    report = inbound.send(
        texts(
            text_message("b", NOW),
            text_message("c", NOW, sender=BRUNO),
            contacts=[contact(ANA, "Ana"), contact(BRUNO, "Bruno")],
        )
    )
    assert (report.outcome, report.inserted) == (Outcome.COMPLETED, 2)
    assert inbound.one("select * from users where id = :id", id=user_id) == before
    assert inbound.rows("select * from pipeline.guard_refusals") == []
    assert inbound.one("select name from users where phone = :phone", phone=f"+{BRUNO}") == (
        "Bruno",
    )


def statuses(inbound: Inbound) -> list[tuple[Any, ...]]:
    return inbound.rows(
        "select status, extract(epoch from status_at)::bigint - :now, error_code, "
        "pricing_category from pipeline.message_statuses order by status",
        now=NOW,
    )


def test_statuses_meet_the_message_by_id_and_need_no_order(inbound: Inbound) -> None:
    events = [
        status("w1", "sent", NOW, pricing={"category": "utility"}),
        status("w1", "delivered", NOW + 2),
        status("w1", "read", NOW + 3),
    ]
    for event in reversed(events):
        inbound.send(line(change(statuses=[event])))
    assert statuses(inbound) == [
        ("delivered", 2, None, None),
        ("read", 3, None, None),
        ("sent", 0, None, "utility"),
    ]
    ids = {row[0].hex for row in inbound.rows("select message_id from pipeline.message_statuses")}
    assert ids == {IDS.of_wamid("w1")}


def test_of_one_status_the_earliest_is_kept_whatever_the_order_and_split(
    make_database: Any,
) -> None:
    events = [
        status("w1", "failed", NOW, errors=[{"code": 131026}]),
        status("w1", "failed", NOW, errors=[{"code": 131047}]),
        status("w1", "failed", NOW + 5),
        status("w1", "sent", NOW + 9),
        status("w1", "sent", NOW + 1, pricing={"category": "marketing"}),
    ]
    order = random.Random(2)  # noqa: S311 - an order, not a secret
    for _ in range(3):
        order.shuffle(events)
        with make_database() as database:
            inbound = Inbound(database)
            reports = [
                inbound.send(line(change(statuses=events[:2]))),
                inbound.send(*(line(change(statuses=[event])) for event in events[2:])),
            ]
            assert statuses(inbound) == [
                ("failed", 0, 131026, None),
                ("sent", 1, None, "marketing"),
            ]
            assert sum(report.inserted for report in reports) == 2
            assert sum(report.updated + report.duplicate for report in reports) == 3


def test_a_status_again_is_a_duplicate(inbound: Inbound) -> None:
    event = line(change(statuses=[status("w1", "sent", NOW)] * 2))
    assert inbound.send(event).duplicate == 1
    report = inbound.send(event)
    assert (report.inserted, report.updated, report.duplicate) == (0, 0, 2)


def test_a_status_of_another_message_of_ours_keeps_its_attempt(inbound: Inbound) -> None:
    attempt = "00000000-0000-4000-8000-00000000000a"
    event = status("w1", "sent", NOW, biz_opaque_callback_data=attempt)
    inbound.send(line(change(statuses=[event])))
    assert str(inbound.one("select attempt_id from pipeline.message_statuses")[0]) == attempt


def test_a_landing_zone_without_files_is_nothing_to_do(inbound: Inbound) -> None:
    report = inbound.load()
    assert (report.outcome, report.reason) == (Outcome.SKIPPED, "nothing_to_do")


def test_a_loaded_file_leaves_the_landing_zone_for_the_archive(inbound: Inbound) -> None:
    inbound.put("a.jsonl", texts(text_message("w1", NOW)))
    inbound.load()
    kept = inbound.landing / "archive" / "2026-03-02" / "a.jsonl"
    assert [path.name for path in inbound.landing.iterdir()] == ["archive"]
    assert kept.read_bytes() == texts(text_message("w1", NOW))


def test_files_named_by_path_stay_where_they_are(inbound: Inbound) -> None:
    path = inbound.put("a.jsonl", texts(text_message("w1", NOW)))
    assert inbound.load(paths=[str(path)]).inserted == 1
    assert path.exists()


def test_no_value_that_came_in_stands_in_what_a_run_says_of_itself(inbound: Inbound) -> None:
    report = inbound.send(
        texts(
            text_message("wamid.ESCONDIDO", NOW, body="texto escondido"),
            text_message("wamid.ESCONDIDO2", NOW, body="escondido\0"),
            contacts=[contact(ANA, "Nome Escondido")],
        )
    )
    assert report.quarantined == {"nul_character": 1}
    told = report.to_json().decode() + report.summary_pt()
    told += str(inbound.rows("select * from pipeline.runs"))
    told += str(inbound.rows("select * from pipeline.inbound_batches"))
    assert "scondid" not in told.lower()
    assert ANA not in told
