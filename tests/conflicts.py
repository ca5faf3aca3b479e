"""Leads with their links to Pipedrive and conflicts about them, as a test wants them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

from sqlalchemy import text

from gatte_pipelines.crm.company import SYSTEM
from gatte_pipelines.database.engine import psycopg_connection
from gatte_pipelines.sync import conflicts
from gatte_pipelines.sync.merge import Side
from tests.database.rows import insert
from tests.postgres import TestDatabase

if TYPE_CHECKING:
    import psycopg

AS_OF = datetime(2026, 3, 2, 15, tzinfo=UTC)
RUN = UUID("00000000-0000-4000-8000-0000000000aa")


class Desk:
    """Leads, links and conflicts of one database; changes are made as gatte_pipeline."""

    def __init__(self, database: TestDatabase, driver: psycopg.Connection[Any]) -> None:
        self.database = database
        self.driver = driver

    def lead(self, **values: Any) -> UUID:
        """A lead, without a link."""
        with self.database.connect("owner") as connection, connection.begin():
            return insert(connection, "leads", **values)

    def user(self, **values: Any) -> UUID:
        """A user."""
        with self.database.connect("owner") as connection, connection.begin():
            return insert(connection, "users", **values)

    def link(self, lead_id: UUID, **values: Any) -> None:
        """A link of a lead."""
        row = {
            "lead_id": lead_id,
            "state": "linked",
            "remote_lead_id": uuid4(),
            "person_id": 7,
            "made_at": AS_OF,
            "changed_at": AS_OF,
        } | values
        names = ", ".join(row)
        places = ", ".join(f":{name}" for name in row)
        statement = f"insert into pipeline.crm_links ({names}) values ({places})"  # noqa: S608
        self.execute(statement, **row)

    def linked(self, **values: Any) -> UUID:
        """A lead that is linked."""
        lead_id = self.lead(**values)
        self.link(lead_id)
        return lead_id

    def anonymize(self, row_id: UUID, table: str = "leads") -> None:
        """Say that a row was anonymised, and nothing else."""
        self.execute(
            "insert into pipeline.anonymized_rows (table_name, row_id, anonymized_at, rule) "
            "values (:table_name, :row_id, :at, 'test')",
            table_name=table,
            row_id=row_id,
            at=AS_OF,
        )

    def record(self, local_id: UUID, kind: str = "both_changed", **values: Any) -> UUID:
        """A conflict, by default about the company, which theirs won; its id."""
        given = {
            "system": SYSTEM,
            "table_name": "leads",
            "field": "company" if kind in {"both_changed", "kept"} else None,
            "winner": Side.THEIRS,
            "our_value": "Nossa" if kind in {"both_changed", "kept"} else None,
            "their_value": "Deles" if kind in {"both_changed", "kept"} else None,
            "run_id": RUN,
            "at": AS_OF,
        } | values
        with self.cursor() as cursor:
            assert conflicts.record(cursor, local_id=local_id, kind=kind, **given)
        return UUID(
            str(
                self.one(
                    "select conflict_id from pipeline.sync_conflicts where local_id = :local_id "
                    "and resolved_at is null order by found_at desc limit 1",
                    local_id=local_id,
                )["conflict_id"]
            )
        )

    @contextmanager
    def cursor(self, as_of: datetime = AS_OF) -> Iterator[psycopg.Cursor[Any]]:
        """A cursor in a transaction at an instant."""
        with self.driver.transaction(), self.driver.cursor() as cursor:
            cursor.execute("select set_config('gatte.as_of', %s, true)", [as_of.isoformat()])
            yield cursor

    def execute(self, statement: str, **values: Any) -> None:
        """Change something as the owner."""
        with self.database.connect("owner") as connection, connection.begin():
            connection.execute(text(statement), values)

    def rows(self, query: str, **values: Any) -> list[dict[str, Any]]:
        """What a query gives, asked as the owner."""
        with self.database.connect("owner") as connection:
            return [dict(row._mapping) for row in connection.execute(text(query), values)]

    def one(self, query: str, **values: Any) -> dict[str, Any]:
        """The only row of a query."""
        (row,) = self.rows(query, **values)
        return row

    def read_lead(self, lead_id: UUID) -> dict[str, Any]:
        """The row of a lead."""
        return self.one("select * from leads where id = :id", id=lead_id)

    def read_link(self, lead_id: UUID) -> dict[str, Any]:
        """The link of a lead."""
        return self.one("select * from pipeline.crm_links where lead_id = :id", id=lead_id)


@contextmanager
def opened(database: TestDatabase) -> Iterator[Desk]:
    """A desk with its connection."""
    with database.connect() as connection:
        yield Desk(database, psycopg_connection(connection))
