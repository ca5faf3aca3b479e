"""A connection that fails says what to change, and holds no secret."""

from __future__ import annotations

import socket
import traceback
from pathlib import Path

import psycopg
import pytest
from psycopg import sql
from sqlalchemy import URL, text
from sqlalchemy.exc import IntegrityError

from gatte_pipelines.database.engine import (
    DRIVER,
    connect,
    describe,
    make_engine,
    parse_url,
    psycopg_connection,
)
from gatte_pipelines.errors import ConfigurationError, GatteError, RetryableError
from tests.postgres import PostgresServer, TestDatabase

SECRET = "not-for-your-eyes"  # noqa: S105 - the word that must not show up
RIGHT = "the-right-one"


def _error(url: str | URL) -> GatteError:
    with pytest.raises(GatteError) as caught, connect(make_engine(url)):
        pytest.fail("this login should have failed")
    whole = "".join(traceback.format_exception(caught.value)) + repr(caught.value)
    assert SECRET not in whole
    return caught.value


@pytest.fixture(scope="session")
def password_login(postgres_server: PostgresServer) -> str:
    """A user who must give a password, by a rule of the server that stands before the others."""
    user = "gatte_test_password"
    postgres_server.execute(
        sql.SQL("create role {} login password {}").format(sql.Identifier(user), sql.Literal(RIGHT))
    )
    with psycopg.connect(
        host=postgres_server.socket_folder, user="postgres", dbname="postgres", autocommit=True
    ) as connection:
        row = connection.execute("show hba_file").fetchone()
        assert row is not None
        rules = Path(row[0])
        rules.write_text(f"local all {user} scram-sha-256\n" + rules.read_text())
        connection.execute("select pg_reload_conf()")
    return user


def test_a_wrong_password_is_named_and_not_shown(
    database: TestDatabase, password_login: str
) -> None:
    error = _error(database.url(password_login).set(password=SECRET))
    assert isinstance(error, ConfigurationError)
    assert "the password is wrong" in error.message
    assert password_login in error.message
    with connect(make_engine(database.url(password_login).set(password=RIGHT))) as good:
        assert good.scalar(text("select 1")) == 1


def test_a_missing_password_is_named(database: TestDatabase, password_login: str) -> None:
    error = _error(database.url(password_login))
    assert isinstance(error, ConfigurationError)
    assert "no password" in error.message


def test_a_database_that_does_not_exist_is_named(database: TestDatabase) -> None:
    error = _error(database.url_pipeline.set(database="nowhere", password=SECRET))
    assert isinstance(error, ConfigurationError)
    assert "the server has no such database" in error.message
    assert "nowhere" in error.message


def test_a_user_who_does_not_exist_is_named(database: TestDatabase) -> None:
    error = _error(database.url_pipeline.set(username="nobody", password=SECRET))
    assert isinstance(error, ConfigurationError)
    assert "the server has no such user" in error.message


def test_a_role_that_may_not_log_in_is_named(
    database: TestDatabase, postgres_server: PostgresServer
) -> None:
    postgres_server.execute(sql.SQL("create role gatte_test_group nologin"))
    try:
        error = _error(database.url("gatte_test_group"))
    finally:
        postgres_server.execute(sql.SQL("drop role gatte_test_group"))
    assert isinstance(error, ConfigurationError)
    assert "may not log in" in error.message


def test_a_host_that_does_not_exist_is_named() -> None:
    error = _error(f"postgresql://user:{SECRET}@no-such-host.invalid:5432/gatte")
    assert isinstance(error, ConfigurationError)
    assert "no-such-host.invalid" in error.message


def test_a_server_that_does_not_answer_may_answer_later() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    error = _error(f"postgresql://user:{SECRET}@127.0.0.1:{port}/gatte")
    assert isinstance(error, RetryableError)
    assert "is the server running" in error.message


def test_a_socket_that_is_not_there_may_come(tmp_path: Path) -> None:
    error = _error(URL.create(DRIVER, "user", SECRET, database="g", query={"host": str(tmp_path)}))
    assert isinstance(error, RetryableError)


@pytest.mark.parametrize(
    "url",
    [
        f"mysql://user:{SECRET}@host/gatte",
        f"postgresql://user:{SECRET}@host:{SECRET}/gatte",
        SECRET,
        "://",
        "",
    ],
)
def test_a_url_that_cannot_be_read_is_refused_without_showing_it(url: str) -> None:
    assert isinstance(_error(url), ConfigurationError)


def test_a_parameter_that_libpq_does_not_know_is_refused(database: TestDatabase) -> None:
    url = database.url_pipeline.update_query_dict({"colour": SECRET})
    assert isinstance(_error(url), ConfigurationError)


@pytest.mark.parametrize("prefix", ["postgresql", "postgres", "postgresql+psycopg"])
def test_the_usual_ways_to_write_a_url_all_work(database: TestDatabase, prefix: str) -> None:
    url = database.url_pipeline.set(drivername=prefix)
    if prefix == "postgres":
        assert parse_url(str(url)).drivername == DRIVER
    with connect(make_engine(url.render_as_string(hide_password=False))) as connection:
        assert connection.scalar(text("select current_user")) == "gatte_pipeline"


def test_sessions_run_in_utc_under_our_name(database: TestDatabase) -> None:
    with database.connect() as connection:
        row = connection.execute(
            text(
                "select current_setting('timezone'), current_setting('gatte.writer'), "
                "current_setting('application_name')"
            )
        ).one()
        assert isinstance(psycopg_connection(connection), psycopg.Connection)
    assert tuple(row) == ("UTC", "gatte_pipelines", "gatte_pipelines")


def test_the_parameters_of_a_failed_statement_are_hidden(database: TestDatabase) -> None:
    with database.connect() as connection, pytest.raises(IntegrityError) as caught:
        connection.execute(text("insert into users (id, name) values (null, :n)"), {"n": SECRET})
    assert "SQL parameters hidden" in str(caught.value)


def test_a_description_names_the_place_only() -> None:
    url = parse_url(f"postgresql://user:{SECRET}@db.example.com/gatte")
    assert describe(url) == "database gatte on db.example.com"


def test_an_older_server_is_refused(
    database: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gatte_pipelines.database.engine.MIN_SERVER_VERSION", 990000)
    with (
        pytest.raises(ConfigurationError, match="PostgreSQL 15 or later is needed"),
        database.connect(),
    ):
        pytest.fail("this server should have been refused")
