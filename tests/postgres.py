"""A PostgreSQL for tests: one server a session, one database a test, copied from a migrated one.

The embedded PostgreSQL 18 by default; with GATTE_TEST_PG=15 Debian's. A folder of tests gets
these fixtures by importing their names into its conftest; what only some tests need belongs there.
"""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import psycopg
import pytest
from psycopg import sql
from sqlalchemy import URL, Connection, Engine

from gatte_pipelines.database import embedded, migrate, roles
from gatte_pipelines.database.engine import DRIVER, connect, make_engine
from gatte_pipelines.settings import Settings

__all__ = [
    "ID_KEY",
    "PostgresServer",
    "TestDatabase",
    "database",
    "make_database",
    "new_database",
    "postgres_server",
]

ID_KEY = b"obviously-no-production-key-" * 2

SUPERUSER = "postgres"
# Owns the databases without being a superuser, as at most hosts: what needs more must say so.
OWNER = "gatte_owner"
TEMPLATE = "gatte_template"

# What a crash of the machine may cost is no concern of a test's database.
_FAST = ("fsync", "synchronous_commit", "full_page_writes")


@dataclass(frozen=True)
class PostgresServer:
    """A running server with the three roles and a migrated database to copy."""

    socket_folder: str
    version: int

    def url(self, user: str, database: str) -> URL:
        """The URL under which ``user`` logs in (trusted, by unix socket)."""
        return URL.create(
            DRIVER, username=user, database=database, query={"host": self.socket_folder}
        )

    def program(self, name: str) -> str:
        """The path of a program of its version: a newer pg_restore says what it refuses."""
        if self.version == 18:
            return str(embedded._binaries() / name)
        return f"/usr/lib/postgresql/{self.version}/bin/{name}"

    def execute(self, statement: sql.Composed | sql.SQL, database: str = "postgres") -> None:
        """Run one statement as the superuser, outside a transaction."""
        with psycopg.connect(
            host=self.socket_folder, user=SUPERUSER, dbname=database, autocommit=True
        ) as connection:
            connection.execute(statement)


@dataclass(frozen=True)
class TestDatabase:
    """A database of a test's own, and how to log in as each role."""

    __test__: ClassVar[bool] = False

    name: str
    server: PostgresServer = field(repr=False)
    home: Path

    def url(self, role: str = "pipeline") -> URL:
        """The URL of ``owner``, ``pipeline``, ``reporting``, ``reader`` or any other user."""
        return self.server.url(_USERS.get(role, role), self.name)

    @property
    def url_owner(self) -> URL:
        """Logs in as the owner."""
        return self.url("owner")

    @property
    def url_pipeline(self) -> URL:
        """Logs in as gatte_pipeline."""
        return self.url("pipeline")

    @property
    def url_reporting(self) -> URL:
        """Logs in as gatte_reporting."""
        return self.url("reporting")

    @property
    def url_reader(self) -> URL:
        """Logs in as gatte_reader."""
        return self.url("reader")

    def engine(self, role: str = "pipeline") -> Engine:
        """An engine (without a pool, so nothing is left open) of a role."""
        return make_engine(self.url(role))

    def connect(self, role: str = "pipeline") -> AbstractContextManager[Connection]:
        """One connection of a role."""
        return connect(self.engine(role))

    def settings(self, **changes: Any) -> Settings:
        """Settings that point at this database and at a home of the test's own."""
        values: dict[str, Any] = {
            "home": self.home,
            "id_key": ID_KEY,
            "database_url": _text(self.url_pipeline),
            "migration_database_url": _text(self.url_owner),
            "reporting_database_url": _text(self.url_reporting),
        }
        return Settings(**(values | changes))


_USERS = {
    "superuser": SUPERUSER,
    "owner": OWNER,
    "pipeline": roles.PIPELINE,
    "reporting": roles.REPORTING,
    "reader": roles.READER,
}

_numbers = itertools.count(1)


def _text(url: URL) -> str:
    return url.render_as_string(hide_password=False)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """The server of this test session, stopped at its end."""
    version = int(os.environ.get("GATTE_TEST_PG") or 18)
    # Short, since a socket's path may have some 100 characters; pytest's own folders are too deep.
    folder = Path(tempfile.mkdtemp(prefix="gt-"))
    with ExitStack() as cleanup:
        cleanup.callback(shutil.rmtree, folder, ignore_errors=True)
        if version == 18:
            socket_folder = cleanup.enter_context(embedded.start(folder)).socket_folder
        else:
            socket_folder = cleanup.enter_context(_debian(version, folder))
        server = PostgresServer(socket_folder, version)
        for name in _FAST:
            server.execute(sql.SQL("alter system set {} = off").format(sql.Identifier(name)))
        server.execute(sql.SQL("select pg_reload_conf()"))
        _make_template(server)
        yield server


@contextmanager
def _debian(version: int, folder: Path) -> Iterator[str]:
    """A cluster of Debian's PostgreSQL; it refuses to run as root, so root becomes postgres."""
    binaries = Path(f"/usr/lib/postgresql/{version}/bin")
    if not binaries.is_dir():
        pytest.exit(f"GATTE_TEST_PG={version}: install the package postgresql-{version}", 4)
    user = SUPERUSER if os.geteuid() == 0 else None
    if user:
        shutil.chown(folder, user)
    data = folder / "data"

    def run(program: str, *arguments: str) -> None:
        # No pipes: the server would inherit them and keep this process waiting for their end.
        with (folder.with_suffix(".out")).open("w") as output:
            finished = subprocess.run(
                [binaries / program, *arguments],
                user=user,
                cwd="/",
                check=False,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        if finished.returncode:
            pytest.exit(f"{program} failed:\n{folder.with_suffix('.out').read_text()}", 4)

    try:
        run("initdb", "-D", str(data), "-U", SUPERUSER, "-A", "trust", "-E", "utf8", "--no-sync")
        with (data / "postgresql.conf").open("a") as configuration:
            configuration.write(
                f"listen_addresses = ''\nunix_socket_directories = '{folder}'\n"
                "shared_buffers = 128MB\n"
            )
        run("pg_ctl", "-D", str(data), "-l", str(data / "log"), "-w", "start")
        try:
            yield str(folder)
        finally:
            run("pg_ctl", "-D", str(data), "-m", "immediate", "-w", "stop")
    finally:
        folder.with_suffix(".out").unlink(missing_ok=True)


def _make_template(server: PostgresServer) -> None:
    server.execute(sql.SQL("create role {} login").format(sql.Identifier(OWNER)))
    with connect(make_engine(server.url(SUPERUSER, "postgres"))) as connection:
        roles.create(connection)
    server.execute(
        sql.SQL("grant {} to {}").format(sql.Identifier(roles.REPORTING), sql.Identifier(OWNER))
    )
    server.execute(
        sql.SQL("create database {} owner {} template template0").format(
            sql.Identifier(TEMPLATE), sql.Identifier(OWNER)
        )
    )
    with connect(make_engine(server.url(OWNER, TEMPLATE))) as connection:
        migrate.migrate(connection)


@contextmanager
def new_database(
    server: PostgresServer, homes: Path, template: str = TEMPLATE
) -> Iterator[TestDatabase]:
    """Make one database and drop it; for a fixture of a module, else take ``make_database``."""
    name = f"gatte_test_{os.getpid()}_{next(_numbers)}"
    server.execute(
        sql.SQL("create database {} owner {} template {} strategy file_copy").format(
            sql.Identifier(name), sql.Identifier(OWNER), sql.Identifier(template)
        )
    )
    try:
        yield TestDatabase(name, server, homes / f"home_{name}")
    finally:
        server.execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(name)))


@pytest.fixture
def make_database(
    postgres_server: PostgresServer, tmp_path: Path
) -> Callable[..., AbstractContextManager[TestDatabase]]:
    """A context manager that makes one database and drops it.

    ``template="template0"`` gives an empty one; the default is a copy of the migrated one.
    """
    return partial(new_database, postgres_server, tmp_path)


@pytest.fixture
def database(
    make_database: Callable[..., AbstractContextManager[TestDatabase]],
) -> Iterator[TestDatabase]:
    """A fresh, migrated database, dropped afterwards."""
    with make_database() as made:
        yield made
