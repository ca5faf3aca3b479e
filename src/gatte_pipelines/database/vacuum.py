"""Vacuum tables as their owner, so that what was removed does not lie in dead rows for long.

PostgreSQL only warns where a table is skipped, which would leave the old bytes unseen; here the
warning is an error.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from psycopg import sql

from gatte_pipelines.database.engine import psycopg_connection
from gatte_pipelines.errors import PermanentError

if TYPE_CHECKING:
    from psycopg.errors import Diagnostic
    from sqlalchemy import Connection


def vacuum(connection: Connection, tables: Sequence[str]) -> None:
    """Vacuum and analyze each table.

    Args:
        connection: Logged in as the owner of the tables, outside a transaction.
        tables: ``schema.table``.

    Raises:
        PermanentError: The server skipped one, because this user does not own it.
    """
    driver = psycopg_connection(connection)
    connection.rollback()
    warnings: list[str] = []

    def note(diagnostic: Diagnostic) -> None:
        if diagnostic.severity_nonlocalized == "WARNING":
            warnings.append(diagnostic.sqlstate or "")

    was_autocommit = driver.autocommit
    driver.autocommit = True
    driver.add_notice_handler(note)
    skipped = []
    try:
        for table in tables:
            warnings.clear()
            driver.execute(
                sql.SQL("vacuum (analyze) {}").format(sql.Identifier(*table.split(".", 1)))
            )
            if warnings:
                skipped.append(table)
    finally:
        driver.remove_notice_handler(note)
        driver.autocommit = was_autocommit
    if skipped:
        raise PermanentError(
            f"the server skipped the vacuum of {', '.join(skipped)}: set "
            "GATTE_MIGRATION_DATABASE_URL to the URL of the tables' owner; what was removed still "
            "stands in dead rows"
        )
