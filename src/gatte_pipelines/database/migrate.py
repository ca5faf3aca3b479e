"""Bring a database to the newest migration and refresh the grants.

Creating the login roles belongs to ``roles``; comparing with DOC 01 belongs to ``drift``.
"""

from __future__ import annotations

from pathlib import Path

import psycopg
from sqlalchemy import Connection, text
from sqlalchemy.exc import ProgrammingError

from gatte_pipelines.database import roles
from gatte_pipelines.database.names import SCHEMA
from gatte_pipelines.errors import ConfigurationError

# The newest revision. Reading it from Alembic would cost every run the import; a test compares.
HEAD = "0008"

_FOLDER = Path(__file__).parent / "migrations"


def migrate(connection: Connection) -> list[str]:
    """Run the migrations still missing, then the grants, in one transaction.

    Args:
        connection: Logged in as the owner, outside a transaction.

    Returns:
        The revisions that were run, oldest first.

    Raises:
        ConfigurationError: This user may not, the tables of DOC 01 stand there already, or the
            database is newer than this program. Nothing was changed.
    """
    from alembic import command  # noqa: PLC0415 - only migrations need it
    from alembic.config import Config  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(_FOLDER).replace("%", "%%"))
    config.attributes["connection"] = connection
    try:
        with connection.begin():
            # Two migrations at once: the second waits, then finds nothing to do.
            connection.execute(
                text("select pg_advisory_xact_lock(hashtext('gatte_pipelines.migrate'))")
            )
            before = current_revision(connection)
            _assert_not_newer(before)
            connection.execute(text(f"create schema if not exists {SCHEMA}"))
            command.upgrade(config, "head")
            roles.grant(connection)
    except (ProgrammingError, psycopg.Error) as error:
        raise _migration_error(error) from None
    return [number for number in revisions() if before is None or number > before]


def revisions() -> list[str]:
    """The numbers of all migrations, oldest first."""
    return sorted(path.name[:4] for path in (_FOLDER / "versions").glob("[0-9]*.py"))


def current_revision(connection: Connection) -> str | None:
    """The revision of a database, or None where none was run."""
    if connection.scalar(text("select to_regclass('pipeline.alembic_version')")) is None:
        return None
    revision: str | None = connection.scalar(
        text("select version_num from pipeline.alembic_version")
    )
    return revision


def assert_migrated(connection: Connection) -> None:
    """Refuse to work on a database that lacks a migration.

    Raises:
        ConfigurationError: It does, or this role may not see it.
    """
    try:
        found = current_revision(connection)
    except ProgrammingError:
        raise ConfigurationError(
            "this user may not read the schema pipeline; "
            "check GATTE_DATABASE_URL, or run: gatte db roles"
        ) from None
    finally:
        connection.rollback()
    if found != HEAD:
        _assert_not_newer(found)
        state = "was never migrated" if found is None else f"is at migration {found}, not {HEAD}"
        raise ConfigurationError(f"the database {state}; run: gatte db migrate")


def _assert_not_newer(found: str | None) -> None:
    if found is not None and found > HEAD:
        raise ConfigurationError(
            f"the database is at migration {found}, and this program knows only {HEAD}; "
            "install the newer version of gatte_pipelines"
        )


def _migration_error(error: ProgrammingError | psycopg.Error) -> Exception:
    cause = error.orig if isinstance(error, ProgrammingError) else error
    if isinstance(cause, psycopg.errors.InsufficientPrivilege):
        return ConfigurationError(
            "this user may not change the database's structure; "
            "set GATTE_MIGRATION_DATABASE_URL to the URL of its owner"
        )
    if isinstance(cause, psycopg.errors.DuplicateTable | psycopg.errors.DuplicateObject):
        return ConfigurationError(
            "tables or types of DOC 01 stand in this database already, but it was never migrated; "
            "compare it with: gatte db check; take it over with: gatte db adopt (a dry run)"
        )
    return error
