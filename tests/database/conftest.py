"""Fixtures of the database tests; the machinery stands in tests/postgres.py for other folders."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from psycopg import sql
from sqlalchemy import Connection, NullPool, create_engine, text

from tests.postgres import PostgresServer, TestDatabase, database, make_database, postgres_server
from tests.subjects import seeded_with_ana, seeded_with_both, with_ana, with_both

__all__ = [
    "chatbot",
    "database",
    "make_database",
    "owner",
    "postgres_server",
    "seeded_with_ana",
    "seeded_with_both",
    "with_ana",
    "with_both",
]

CHATBOT = "gatte_test_chatbot"


@pytest.fixture
def owner(database: TestDatabase) -> Iterator[Connection]:
    """A connection of the owner, which does not say that it is this project."""
    engine = create_engine(database.url_owner, poolclass=NullPool)
    with engine.connect() as connection:
        yield connection


@pytest.fixture(scope="session")
def _chatbot_role(postgres_server: PostgresServer) -> None:
    postgres_server.execute(sql.SQL("create role {} login").format(sql.Identifier(CHATBOT)))


@pytest.fixture
def chatbot(database: TestDatabase, _chatbot_role: None) -> Iterator[Connection]:
    """A connection as the chatbot's: rights on public only, a zone and session of its own."""
    with database.connect("owner") as connection, connection.begin():
        connection.execute(
            text(
                f"grant select, insert, update, delete on all tables in schema public to {CHATBOT}"
            )
        )
    engine = create_engine(
        database.url(CHATBOT),
        poolclass=NullPool,
        connect_args={"options": "-c timezone=America/Sao_Paulo"},
    )
    with engine.connect() as connection:
        yield connection
