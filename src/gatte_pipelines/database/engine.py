"""Connections: one way to reach PostgreSQL, with our session settings and clear errors.

Which URL is used belongs to ``wiring``; retrying a transaction belongs to its owner.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime

import psycopg
from sqlalchemy import URL, Connection, Engine, NullPool, create_engine, make_url, text
from sqlalchemy.exc import ArgumentError, OperationalError, ProgrammingError

from gatte_pipelines.errors import ConfigurationError, RetryableError

DRIVER = "postgresql+psycopg"
MIN_SERVER_VERSION = 150000
CONNECT_TIMEOUT_SECONDS = 10
# What our own transactions call themselves to triggers (see pipeline.note_chatbot_name).
WRITER = "gatte_pipelines"

# libpq gives a failed connection no SQLSTATE; these words of its messages, in the languages of our
# servers, are what a rerun cannot change. All others (refused, timed out, starting up) may pass.
_PERMANENT = (
    (r"password authentication failed|senha falhou", "the password is wrong"),
    (r"no password supplied", "the URL has no password"),
    (r'role ".*" (does not exist|não existe)', "the server has no such user"),
    (
        r'(database|banco de dados) ".*" (does not exist|não existe)',
        "the server has no such database",
    ),
    (
        r"could not translate host name|failed to resolve host|Name or service not known",
        "no such host",
    ),
    (r"pg_hba\.conf", "pg_hba.conf does not let this user in"),
    (r"not permitted to log in|permission denied for database", "this user may not log in"),
    (r"SSL was required|certificate verify failed", "the encrypted connection is refused"),
)


def parse_url(url: str) -> URL:
    """A SQLAlchemy URL for our driver.

    Raises:
        ConfigurationError: The text is not a PostgreSQL URL.
    """
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):  # a port that is no number, quoted in the message
        raise ConfigurationError("the database URL cannot be read") from None
    if not parsed.drivername.startswith("postgres"):
        raise ConfigurationError("the database URL must start with postgresql://")
    return parsed.set(drivername=DRIVER)


def make_engine(url: str | URL) -> Engine:
    """An engine without a pool: a run opens the few connections it needs and closes them."""
    parsed = parse_url(url) if isinstance(url, str) else url
    return create_engine(
        parsed,
        poolclass=NullPool,
        hide_parameters=True,  # parameters hold personal values; errors must not
        connect_args={
            "options": f"-c timezone=UTC -c gatte.writer={WRITER}",
            "connect_timeout": CONNECT_TIMEOUT_SECONDS,
            "application_name": "gatte_pipelines",
        },
    )


@contextmanager
def connect(engine: Engine) -> Iterator[Connection]:
    """Open one connection.

    Raises:
        ConfigurationError: The server refuses this user, password or database name, or is older
            than PostgreSQL 15.
        RetryableError: The server cannot be reached now.
    """
    try:
        connection = engine.connect()
    except OperationalError as error:
        raise _connection_error(engine.url, str(error.orig)) from None
    except ProgrammingError:  # libpq does not know a parameter of the URL
        raise ConfigurationError(
            "the database URL has a parameter that PostgreSQL does not know"
        ) from None
    with connection:
        version = psycopg_connection(connection).info.server_version
        if version < MIN_SERVER_VERSION:
            raise ConfigurationError(
                f"PostgreSQL 15 or later is needed; this server is {version // 10000}"
            )
        yield connection


def psycopg_connection(connection: Connection) -> psycopg.Connection:
    """The driver's connection below SQLAlchemy's, for COPY and SQL files."""
    driver = connection.connection.driver_connection
    if not isinstance(driver, psycopg.Connection):  # pragma: no cover - make_engine fixes it
        raise ConfigurationError("the engine does not use psycopg")
    return driver


def set_as_of(connection: Connection, as_of: datetime) -> None:
    """Let ``pipeline.clock()`` answer ``as_of`` until this transaction ends."""
    connection.execute(
        text("select set_config('gatte.as_of', :as_of, true)"), {"as_of": as_of.isoformat()}
    )


def describe(url: URL) -> str:
    """Where a URL points, without user name or password."""
    host = url.query.get("host") or url.host or "local socket"
    return f"database {url.database or '(default)'} on {host}"


def _connection_error(url: URL, detail: str) -> ConfigurationError | RetryableError:
    for pattern, reason in _PERMANENT:
        if re.search(pattern, detail):
            return ConfigurationError(
                f"cannot log in to {describe(url)} as {url.username or '(default user)'}: "
                f"{reason}; check the database URL"
            )
    return RetryableError(f"cannot reach {describe(url)}: is the server running and the URL right?")
