"""Anonymising people: what goes, what stays, and who keeps a number that changed hands."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text

from gatte_pipelines.database.engine import psycopg_connection
from gatte_pipelines.privacy.people import (
    PeopleCounts,
    anonymize_leads,
    anonymize_users,
    probe_old_values,
    read_old_values,
)
from tests.database.rows import insert
from tests.inbound import AS_OF, NOW, Inbound
from tests.postgres import TestDatabase
from tests.webhooks import chatbot_message, contact, number_change, reaction, text_message, texts

ANA, BRUNO = "5511900000001", "5511900000002"
PLACEHOLDER = re.compile(r"~x[a-z2-7]{18}")
# Every text column of both schemas, as one text.
DUMP = """
select string_agg(row_to_json(t)::text, ' ')
from {} as t
"""


@pytest.fixture
def inbound(database: TestDatabase) -> Inbound:
    return Inbound(database)


def anonymize(
    database: TestDatabase, user_ids: Sequence[UUID], lead_ids: Sequence[UUID] = ()
) -> PeopleCounts:
    """Anonymise as the engine does; every old value must be gone inside the transaction."""
    with database.connect() as connection:
        driver = psycopg_connection(connection)
        with driver.transaction(), driver.cursor() as cursor:
            cursor.execute("select set_config('gatte.as_of', %s, true)", [AS_OF.isoformat()])
            values = read_old_values(cursor, user_ids, lead_ids)
            counts = anonymize_users(cursor, user_ids, rule="users_inactive")
            anonymize_leads(cursor, lead_ids, rule="leads_inactive")
            assert probe_old_values(cursor, values, user_ids, [*counts.lead_ids, *lead_ids]) == []
    return counts


def dump(database: TestDatabase) -> str:
    """All rows of all tables as text."""
    with database.connect("owner") as connection:
        tables = connection.scalars(
            text(
                "select format('%I.%I', schemaname, tablename) from pg_tables "
                "where schemaname in ('public', 'pipeline') order by 1"
            )
        ).all()
        return "\n".join(str(connection.scalar(text(DUMP.format(table))) or "") for table in tables)


def user_of(inbound: Inbound, phone: str) -> UUID:
    return UUID(str(inbound.one("select id from users where phone = :p", p=f"+{phone}")[0]))


def whole_person(inbound: Inbound) -> UUID:
    """A client who left something in every place that belongs to a client."""
    inbound.send(
        texts(
            text_message("wamid.a1", NOW - 60, body="segredo-mensagem"),
            text_message("wamid.a2", NOW - 50, body="segredo-dois"),
            reaction("wamid.r1", NOW - 40, "wamid.a1", "🦊"),
            {
                "id": "wamid.b1",
                "timestamp": str(NOW - 30),
                "type": "button",
                "from": ANA,
                "button": {"payload": "segredo-payload", "text": "segredo-botao"},
            },
            contacts=[contact(ANA, "Ana Segredo", "BR.segredo1")],
        )
    )
    user = user_of(inbound, ANA)
    conversation = UUID(str(inbound.one("select id from conversations")[0]))
    with inbound.database.connect("owner") as connection, connection.begin():
        connection.execute(
            text(
                "update users set email = 'ana@segredo.example', company = 'Segredo ME', "
                "login_token = 'segredo-token'"
            )
        )
        insert(
            connection,
            "tickets",
            user_id=user,
            conversation_id=conversation,
            title="chamado intacto",
            description="Ana Segredo, ana@segredo.example",
        )
        insert(
            connection,
            "leads",
            user_id=user,
            name="Ana Segredo",
            phone=f"+{ANA}",
            email="ana@segredo.example",
            notes="segredo-notas",
            crm_id="segredo-crm",
            company="Segredo ME",
        )
        insert(
            connection,
            "appointments",
            user_id=user,
            notes="segredo-agenda",
            calendar_event_id="segredo-evento",
        )
        insert(connection, "services", user_id=user, notes="segredo-contrato")
    return user


def test_nothing_personal_is_left_but_in_tickets(inbound: Inbound) -> None:
    user = whole_person(inbound)
    before = dump(inbound.database)
    assert all(word in before for word in ("segredo-mensagem", "BR.segredo1", "segredo-payload"))

    counts = anonymize(inbound.database, [user])

    assert (counts.users, counts.leads) == (1, 1)
    left = dump(inbound.database)
    intact = inbound.one("select row_to_json(t)::text from tickets as t")[0]
    left = left.replace(intact, "")
    for word in ("segredo", "Segredo", ANA, ANA[4:], "🦊"):
        assert word not in left, word
    assert "chamado intacto" in intact
    assert "ana@segredo.example" in intact


def put_sync(inbound: Inbound, lead: UUID, *, into: UUID | None = None, word: str) -> None:
    """What the sync with the CRM remembers of a lead, or of one that became part of another."""
    inbound.execute(
        "insert into pipeline.crm_links (lead_id, state, merged_into, person_id, phone_key, "
        "agreed_name, agreed_phone, agreed_email, agreed_company, made_at, changed_at) values "
        "(:lead, :state, :into, 77, :word || '-chave', :word || '-nome', :word || '-fone', "
        ":word || '-email', :word || '-empresa', now(), now())",
        lead=lead,
        state="merged" if into else "pending",
        into=into,
        word=word,
    )
    inbound.execute(
        "insert into pipeline.sync_outbox (system, local_id, action, begun_at) "
        "values ('pipedrive', :lead, 'create_lead', now())",
        lead=lead,
    )
    inbound.execute(
        "insert into pipeline.sync_conflicts (conflict_id, system, table_name, local_id, kind, "
        "field, winner, our_value, their_value, run_id, found_at) values (gen_random_uuid(), "
        "'pipedrive', 'leads', :lead, 'both_changed', 'name', 'ours', :word || '-nosso', "
        ":word || '-deles', gen_random_uuid(), now())",
        lead=lead,
        word=word,
    )


SYNC_TABLES = ("crm_links", "sync_outbox", "sync_conflicts")


def count_sync(inbound: Inbound) -> dict[str, int]:
    return {
        table: inbound.one(f"select count(*) from pipeline.{table}")[0]  # noqa: S608 - our names
        for table in SYNC_TABLES
    }


def add_lead(inbound: Inbound, **values: object) -> UUID:
    with inbound.database.connect("owner") as connection, connection.begin():
        return insert(connection, "leads", **values)


@pytest.mark.parametrize("by_user", [True, False])
def test_what_a_sync_remembers_of_a_lead_goes_with_it_also_of_merged_ones(
    inbound: Inbound, by_user: bool
) -> None:
    with inbound.database.connect("owner") as connection, connection.begin():
        user = insert(connection, "users")
    lead = add_lead(inbound, user_id=user, name="Ana Segredo")
    merged, earlier = uuid4(), uuid4()
    put_sync(inbound, lead, word="segredo")
    put_sync(inbound, merged, into=lead, word="segredo-reunido")
    put_sync(inbound, earlier, into=merged, word="segredo-antes")
    other = add_lead(inbound, name="Outro")
    put_sync(inbound, other, word="vizinho")
    for kind, kept, removed, record in (
        ("leads", uuid4(), earlier, "{}"),
        (
            "leads",
            uuid4(),
            uuid4(),
            f'{{"lead": {{"id": "{merged}", "name": "segredo-desfeito"}}}}',
        ),
        ("leads", other, uuid4(), '{"lead": {"name": "vizinho-desfeito"}}'),
        ("users", uuid4(), uuid4(), f'{{"leads": ["{lead}"]}}'),
    ):
        inbound.execute(
            "insert into pipeline.undo_records (kind, kept_id, removed_id, record, expires_at) "
            "values (:kind, :kept, :removed, cast(:record as jsonb), now())",
            kind=kind,
            kept=kept,
            removed=removed,
            record=record,
        )
    assert count_sync(inbound) == {
        "crm_links": 4,
        "sync_outbox": 4,
        "sync_conflicts": 4,
    }

    anonymize(inbound.database, *(([user], []) if by_user else ([], [lead])))

    left = dump(inbound.database)
    assert "segredo" not in left
    assert count_sync(inbound) == dict.fromkeys(SYNC_TABLES, 1)
    assert all(f"vizinho-{word}" in left for word in ("nome", "nosso", "deles", "desfeito"))
    assert inbound.rows(
        "select kind, kept_id = :other from pipeline.undo_records order by 1", other=other
    ) == [
        ("leads", True),
        ("users", False),
    ]
    # What a sync wrote all the same goes the next time.
    put_sync(inbound, lead, word="segredo")
    anonymize(inbound.database, *(([user], []) if by_user else ([], [lead])))
    assert count_sync(inbound) == dict.fromkeys(SYNC_TABLES, 1)


def test_a_lead_that_was_of_a_user_before_a_merge_is_forgotten_with_that_user(
    inbound: Inbound,
) -> None:
    user = whole_person(inbound)
    inbound.execute(
        "insert into pipeline.undo_records (kind, kept_id, removed_id, record, expires_at) values "
        "('leads', gen_random_uuid(), gen_random_uuid(), jsonb_build_object('lead', "
        "jsonb_build_object('user_id', cast(:u as text), 'name', 'segredo-reunido')), now())",
        u=user,
    )
    anonymize(inbound.database, [user])
    assert "segredo-reunido" not in dump(inbound.database)


def test_a_request_of_a_merged_lead_becomes_that_of_the_one_that_stayed(inbound: Inbound) -> None:
    lead, merged, earlier = add_lead(inbound), uuid4(), uuid4()
    put_sync(inbound, lead, word="a")
    put_sync(inbound, merged, into=lead, word="b")
    put_sync(inbound, earlier, into=merged, word="c")
    for number, subject in enumerate((merged, earlier, uuid4())):
        inbound.execute(
            "insert into pipeline.subject_requests (request_id, user_id, kind, state, received_at, "
            "due_at) values (gen_random_uuid(), :id, 'erase', 'open', now() + :n * interval '1 "
            "hour', now())",
            id=subject,
            n=number,
        )
    anonymize(inbound.database, [], [lead, merged, earlier])
    told = inbound.rows("select user_id from pipeline.subject_requests order by received_at")
    assert told == [(lead,), (lead,), (subject,)]


@pytest.mark.parametrize("table", ["crm_links", "sync_conflicts", "undo_records"])
def test_the_probe_looks_into_what_a_sync_remembers(inbound: Inbound, table: str) -> None:
    lead = add_lead(inbound)
    put_sync(inbound, lead, word="segredo")
    inbound.execute(
        "insert into pipeline.undo_records (kind, kept_id, removed_id, record, expires_at) values "
        "('leads', :lead, gen_random_uuid(), cast('[\"segredo-nosso\"]' as jsonb), now())",
        lead=lead,
    )
    for other in {"crm_links", "sync_conflicts", "undo_records"} - {table}:
        inbound.execute(f"delete from pipeline.{other}")  # noqa: S608 - names of ours
    with inbound.database.connect() as connection:
        driver = psycopg_connection(connection)
        with driver.transaction(force_rollback=True), driver.cursor() as cursor:
            values = read_old_values(cursor, [], [lead])
            expected = {
                "crm_links": {"segredo-chave", "segredo-nome", "segredo-fone"},
                "sync_conflicts": {"segredo-nosso", "segredo-deles"},
                "undo_records": set(),
            }[table]
            assert expected <= set(values)
            found = probe_old_values(cursor, ["segredo"], [], [lead])
            assert found == [table]


def test_the_uuid_and_the_numbers_of_reports_stay(inbound: Inbound) -> None:
    user = whole_person(inbound)
    numbers = (
        "select (select count(*) from messages), (select count(*) from conversations), "
        "(select sum(total_messages) from conversations), (select count(*) from leads), "
        "(select count(*) from pipeline.message_facts), (select count(*) from appointments)"
    )
    before = inbound.one(numbers)
    anonymize(inbound.database, [user])
    assert inbound.one(numbers) == before
    phone, name, email, token = inbound.one(
        "select phone, name, email, login_token from users where id = :u", u=user
    )
    assert PLACEHOLDER.fullmatch(phone)
    assert (name, email, token) == (None, None, None)
    assert inbound.one("select status::text, closed_at is not null from conversations") == (
        "closed",
        True,
    )
    assert PLACEHOLDER.fullmatch(inbound.one("select phone from leads")[0])


def test_a_second_time_changes_nothing_and_is_no_refusal(inbound: Inbound) -> None:
    user = whole_person(inbound)
    anonymize(inbound.database, [user])
    before = inbound.one("select phone, updated_at from users")
    counts = anonymize(inbound.database, [user])
    assert (counts.users, counts.leads) == (0, 0)
    assert inbound.one("select phone, updated_at from users") == before
    assert inbound.one("select count(*) from pipeline.guard_refusals") == (0,)


def test_the_same_number_makes_a_new_client_afterwards(inbound: Inbound) -> None:
    user = whole_person(inbound)
    anonymize(inbound.database, [user])
    later = AS_OF + timedelta(hours=1)
    inbound.send(
        texts(
            text_message("wamid.later", NOW + 600, body="voltei"),
            contacts=[contact(ANA, "Ana Nova", "BR.segredo1")],
        ),
        as_of=later,
    )
    new = user_of(inbound, ANA)
    assert new != user
    assert inbound.one("select count(*) from users") == (2,)
    assert inbound.one("select count(*) from pipeline.guard_refusals") == (0,)


def two_owners(inbound: Inbound) -> tuple[UUID, UUID]:
    """Ana leaves her number for another, and somebody else is given it: Ana, the new owner."""
    inbound.send(
        texts(
            text_message("wamid.a1", NOW - 5000, body="de Ana"),
            contacts=[contact(ANA, "Ana Segredo")],
        ),
        texts(number_change("wamid.sys", NOW - 4000, ANA, BRUNO)),
        texts(
            text_message("wamid.b1", NOW - 3000, body="do novo dono"),
            contacts=[contact(ANA, "Novo Dono")],
        ),
        texts(
            text_message("wamid.a2", NOW - 2000, sender=BRUNO, body="de Ana, novo número"),
            contacts=[contact(BRUNO, "Ana Segredo")],
        ),
    )
    ana, owner = user_of(inbound, BRUNO), user_of(inbound, ANA)
    assert ana != owner
    return ana, owner


def test_a_number_that_changed_hands_stays_its_new_owners(inbound: Inbound) -> None:
    ana, owner = two_owners(inbound)

    anonymize(inbound.database, [ana])

    left = dump(inbound.database)
    assert "Ana Segredo" not in left
    assert BRUNO not in left
    assert inbound.one("select name, phone from users where id = :u", u=owner) == (
        "Novo Dono",
        f"+{ANA}",
    )
    assert inbound.rows(
        "select kind, value from pipeline.user_identities where user_id = :u order by kind",
        u=owner,
    ) == [("phone_key", ANA), ("wa_id", ANA)]
    inbound.say(text_message("wamid.b2", NOW - 10, body="ainda eu"))
    assert inbound.one(
        "select count(*) from messages as m inner join conversations as c "
        "on m.conversation_id = c.id where c.user_id = :u",
        u=owner,
    ) == (2,)


def test_forgetting_the_new_owner_keeps_the_change_of_who_had_the_number_before(
    inbound: Inbound,
) -> None:
    ana, owner = two_owners(inbound)
    changes = "select old_phone_key, new_phone_key from pipeline.identity_changes"
    assert inbound.rows(changes) == [(ANA, BRUNO)]

    anonymize(inbound.database, [owner])
    assert "Novo Dono" not in dump(inbound.database)
    assert inbound.rows(changes) == [(ANA, BRUNO)]
    # Delivered again it finds its client, as it would have before.
    inbound.send(texts(number_change("wamid.sys", NOW - 4000, ANA, BRUNO)))
    assert user_of(inbound, BRUNO) == ana

    anonymize(inbound.database, [ana])
    left = dump(inbound.database)
    assert ANA not in left
    assert BRUNO not in left


@pytest.mark.parametrize("is_settled", [True, False])
def test_a_change_that_is_nobodys_by_its_time_goes_with_whoever_has_the_number(
    inbound: Inbound, is_settled: bool
) -> None:
    user = whole_person(inbound)
    put_change = (
        "insert into pipeline.identity_changes values (gen_random_uuid(), now() - interval "
        "'1 year', true, :ana, '', '', :bruno, :bruno, '', '', :settled)"
    )
    inbound.execute(put_change, ana=ANA, bruno=BRUNO, settled=is_settled)
    anonymize(inbound.database, [user])
    assert inbound.one("select count(*) from pipeline.identity_changes") == (0,)


def test_the_chatbots_own_facts_of_an_anonymised_client_name_nobody(inbound: Inbound) -> None:
    inbound.send(chatbot_message(NOW - 300, content="resposta", external_id="x1", phone=f"+{ANA}"))
    user = user_of(inbound, ANA)
    anonymize(inbound.database, [user])
    assert inbound.one("select sender_id, told_sender_id from pipeline.message_facts") == (
        None,
        None,
    )
    assert ANA not in dump(inbound.database)


def test_the_probe_finds_what_was_forgotten(inbound: Inbound) -> None:
    user = whole_person(inbound)
    with inbound.database.connect() as connection:
        driver = psycopg_connection(connection)
        with driver.transaction(force_rollback=True), driver.cursor() as cursor:
            values = read_old_values(cursor, [user], [])
            assert {"users", "leads", "messages", "senders", "user_identities"} <= set(
                probe_old_values(cursor, [*values, "segredo"], [user], [])
            )
