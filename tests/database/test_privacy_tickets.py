"""A closed ticket that is changed or deleted afterwards is reported."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import psycopg
import pytest
from sqlalchemy import Connection, text

from gatte_pipelines.database.engine import psycopg_connection
from gatte_pipelines.privacy.tickets import TamperedTicket, seal_closed, verify
from tests.database.rows import WHEN, insert, whole_client
from tests.postgres import TestDatabase

AT = datetime(2026, 3, 2, 12, tzinfo=UTC)


@pytest.fixture
def client(owner: Connection) -> dict[str, UUID]:
    ids = whole_client(owner)
    owner.commit()
    return ids


def add(owner: Connection, client: dict[str, UUID], **values: Any) -> UUID:
    """A closed ticket."""
    keys = {"user_id": client["users"], "conversation_id": client["conversations"]}
    ticket = insert(owner, "tickets", **({"status": "closed"} | keys | values))
    owner.commit()
    return ticket


def seal(database: TestDatabase) -> int:
    with database.connect() as connection:
        return seal_closed(psycopg_connection(connection), AT)


def check(database: TestDatabase) -> list[TamperedTicket]:
    with database.connect() as connection:
        return verify(psycopg_connection(connection))


def change(owner: Connection, ticket: UUID, **values: Any) -> None:
    sets = ", ".join(f"{name} = :{name}" for name in values)
    owner.execute(text(f"update tickets set {sets} where id = :id"), {"id": ticket} | values)  # noqa: S608
    owner.commit()


def test_closed_tickets_are_sealed_once(
    database: TestDatabase, owner: Connection, client: dict[str, UUID]
) -> None:
    first = add(owner, client)
    assert seal(database) == 1
    second = add(owner, client)
    change(owner, client["tickets"], status="resolved")
    assert seal(database) == 1
    assert seal(database) == 0
    sealed = owner.execute(text("select ticket_id, sealed_at from pipeline.ticket_digests"))
    assert sorted(map(tuple, sealed)) == sorted([(first, AT), (second, AT)])
    assert check(database) == []


@pytest.mark.parametrize(
    "values",
    [
        {"protocol": "P-2"},
        {"title": "título trocado"},
        {"title": "título de exemplo "},
        {"description": "descrição trocada"},
        {"description": ""},
        {"created_at": "2026-03-02T12:00:00.000001+00:00"},
        {"protocol": "P-", "title": "1título de exemplo"},
        {"title": "título de exemplo|20|descrição", "description": " de exemplo"},
        {"status": "open", "title": "título trocado"},
    ],
)
def test_a_change_after_the_seal_is_reported(
    database: TestDatabase, owner: Connection, client: dict[str, UUID], values: dict[str, Any]
) -> None:
    ticket = add(owner, client)
    add(owner, client)
    seal(database)
    change(owner, ticket, **values)
    assert seal(database) == 0, "a changed ticket must not be sealed anew"
    assert check(database) == [
        TamperedTicket(
            ticket_id=ticket,
            what="protocolo, título, descrição ou data de abertura alterados depois do fechamento",
        )
    ]
    change(
        owner,
        ticket,
        protocol="P-1",
        title="título de exemplo",
        description="descrição de exemplo",
        created_at=WHEN,
    )
    assert check(database) == []


def test_texts_do_not_pass_from_one_field_to_the_next_unseen(
    database: TestDatabase, owner: Connection, client: dict[str, UUID]
) -> None:
    """Without the lengths these two would be one text."""
    ticket = add(owner, client, title="a|b", description="c")
    seal(database)
    change(owner, ticket, title="a", description="b|c")
    assert [found.ticket_id for found in check(database)] == [ticket]


def test_a_deleted_ticket_is_reported(
    database: TestDatabase, owner: Connection, client: dict[str, UUID]
) -> None:
    ticket = add(owner, client)
    seal(database)
    with psycopg.connect(
        host=database.server.socket_folder, user="postgres", dbname=database.name
    ) as superuser:
        superuser.execute("set session_replication_role = replica")
        superuser.execute("delete from tickets where id = %s", (ticket,))
    assert check(database) == [TamperedTicket(ticket_id=ticket, what="apagado")]


def test_what_merges_and_the_chatbot_may_change_is_no_tampering(
    database: TestDatabase, owner: Connection, client: dict[str, UUID]
) -> None:
    ticket = add(owner, client)
    seal(database)
    other = insert(owner, "users")
    conversation = insert(owner, "conversations", user_id=other)
    change(
        owner,
        ticket,
        user_id=other,
        conversation_id=conversation,
        status="open",
        priority="high",
        category="outra",
        assigned_to="Atendente Exemplo",
        resolved_at=AT,
    )
    assert check(database) == []


def test_the_digest_does_not_depend_on_the_zone_of_the_session(
    database: TestDatabase, owner: Connection, client: dict[str, UUID]
) -> None:
    add(owner, client)
    with database.connect() as connection:
        driver = psycopg_connection(connection)
        driver.execute("set time zone 'America/Sao_Paulo'")
        driver.commit()
        assert seal_closed(driver, AT) == 1
    assert check(database) == []


def test_our_role_cannot_seal_a_ticket_anew(
    database: TestDatabase, owner: Connection, client: dict[str, UUID]
) -> None:
    add(owner, client)
    seal(database)
    for statement in (
        "delete from pipeline.ticket_digests",
        "update pipeline.ticket_digests set digest = ''",
    ):
        with (
            database.connect() as connection,
            pytest.raises(psycopg.errors.InsufficientPrivilege),
        ):
            psycopg_connection(connection).execute(statement)
