"""Bring a database to the newest migration and refresh the grants.

Creating the login roles belongs to ``roles``; comparing with DOC 01 belongs to ``drift``.
"""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Connection, text
from sqlalchemy.exc import ProgrammingError

from gatte_pipelines.database import roles
from gatte_pipelines.database.pipeline_tables import SCHEMA
from gatte_pipelines.errors import ConfigurationError

# The newest revision. Reading it from Alembic would cost every run the import; a test compares.
HEAD = "0002"

_FOLDER = Path(__file__).parent / "migrations"


def migrate(connection: Connection) -> list[str]:
    """Run the migrations still missing, then the grants, in one transaction.

    Args:
        connection: Logged in as the owner, outside a transaction.

    Returns:
        The revisions that were run, oldest first.
    """
    from alembic import command  # noqa: PLC0415 - only migrations need it
    from alembic.config import Config  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(_FOLDER))
    config.attributes["connection"] = connection
    with connection.begin():
        # Two migrations at once: the second waits, then finds nothing to do.
        connection.execute(text("select pg_advisory_xact_lock(hashtext('gatte_pipelines.migrate'))"))
        before = current_revision(connection)
        connection.execute(text(f"create schema if not exists {SCHEMA}"))
        command.upgrade(config, "head")
        roles.grant(connection)
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
        found = None
    connection.rollback()
    if found != HEAD:
        state = "was never migrated" if found is None else f"is at migration {found}, not {HEAD}"
        raise ConfigurationError(f"the database {state}; run: gatte db migrate")
