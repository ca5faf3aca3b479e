"""Vacuum by the owner; a table that the server skips is an error and no warning."""

from __future__ import annotations

import pytest
from sqlalchemy import text

from gatte_pipelines.database.vacuum import vacuum
from gatte_pipelines.errors import PermanentError
from tests.database.rows import insert
from tests.postgres import TestDatabase


def test_the_owner_vacuums_and_may_go_on_with_the_connection(database: TestDatabase) -> None:
    with database.connect("owner") as connection:
        insert(connection, "users")
        connection.execute(text("delete from users"))
        connection.commit()
        vacuum(connection, ["public.users", "pipeline.quarantine"])
        with connection.begin():
            insert(connection, "users")
        assert connection.scalar(text("select count(*) from users")) == 1


def test_a_skipped_table_fails_and_is_named(database: TestDatabase) -> None:
    with (
        database.connect("pipeline") as connection,
        pytest.raises(PermanentError, match=r"public\.users.*GATTE_MIGRATION_DATABASE_URL"),
    ):
        vacuum(connection, ["public.users"])
