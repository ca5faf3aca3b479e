"""History is recorded for the listed non-personal columns, and for real changes only."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

import pytest
from sqlalchemy import Connection, text

from gatte_pipelines.database.engine import set_as_of
from gatte_pipelines.database.names import NINE
from gatte_pipelines.database.tables import Base
from gatte_pipelines.personal_data import CATALOGUE, Kind
from tests.database.rows import whole_client
from tests.postgres import TestDatabase

AS_OF = datetime(2026, 3, 2, 12, tzinfo=UTC)

# design §2, with a new value for each.
RECORDED = {
    ("conversations", "status"): "transferred",
    ("conversations", "mode"): "human",
    ("tickets", "status"): "in_progress",
    ("tickets", "priority"): "critical",
    ("leads", "stage"): "qualified",
    ("appointments", "status"): "confirmed",
    ("appointments", "scheduled_at"): "2026-05-04T10:00:00-03:00",
    ("appointments", "duration_min"): "45",
    ("services", "plan"): "enterprise",
    ("services", "status"): "suspended",
    ("services", "monthly_value"): "199.90",
    ("services", "expires_at"): "2026-06-01T00:00:00-03:00",
    ("certificates", "status"): "revoked",
    ("certificates", "expires_at"): "2026-07-01T00:00:00-03:00",
}
# A value that differs from what tests/database/rows.py inserts, for every other column.
_OTHER_VALUES = {
    "character varying": "'outro'",
    "text": "'outro'",
    "uuid": None,
    "boolean": "not {}",
    "integer": "{} + 1",
    "timestamp with time zone": "timestamptz '2026-01-01 00:00+00'",
    "jsonb": "'[1]'",
}


def _history(connection: Connection) -> list[tuple[object, ...]]:
    rows = connection.execute(
        text(
            "select table_name, row_id, column_name, old_value, new_value, changed_at "
            "from pipeline.row_history order by history_id"
        )
    )
    return [tuple(row) for row in rows]


@pytest.fixture
def client(owner: Connection) -> dict[str, UUID]:
    """One row in each of the nine, nothing in the history."""
    ids = whole_client(owner)
    owner.commit()
    assert _history(owner) == []
    owner.commit()
    return ids


@pytest.mark.parametrize(("table", "column"), RECORDED)
def test_a_change_of_a_listed_column_is_recorded(
    owner: Connection, chatbot: Connection, client: dict[str, UUID], table: str, column: str
) -> None:
    set_as_of(chatbot, AS_OF)
    cast = "timestamptz" if column.endswith("_at") else ""
    chatbot.execute(
        text(f"update {table} set {column} = {cast} '{RECORDED[table, column]}'")  # noqa: S608
    )
    chatbot.commit()
    ((found_table, row_id, found_column, old, new, changed_at),) = _history(owner)
    assert (found_table, row_id, found_column) == (table, client[table], column)
    assert changed_at == AS_OF
    expected = RECORDED[table, column]
    if cast:
        # In UTC, though the chatbot's session is in São Paulo.
        assert str(new).endswith("+00:00")
        assert datetime.fromisoformat(str(new)) == datetime.fromisoformat(expected)
    else:
        assert new == expected
    assert old != new


@pytest.mark.parametrize("table", NINE)
def test_a_change_of_any_other_column_is_not_recorded(
    owner: Connection, client: dict[str, UUID], table: str
) -> None:
    for column in Base.metadata.tables[table].columns:
        if (table, column.name) in RECORDED:
            continue
        kind = owner.scalar(
            text(
                "select data_type from information_schema.columns "
                "where table_schema = 'public' and table_name = :table and column_name = :column"
            ),
            {"table": table, "column": column.name},
        )
        value = _OTHER_VALUES.get(str(kind))
        if value is not None:
            changed = value.format(column.name)
            owner.execute(text(f"update {table} set {column.name} = {changed}"))  # noqa: S608
    assert _history(owner) == []


@pytest.mark.parametrize(("table", "column"), RECORDED)
def test_an_update_that_changes_nothing_is_not_recorded(
    owner: Connection, client: dict[str, UUID], table: str, column: str
) -> None:
    owner.execute(text(f"update {table} set {column} = {column}"))  # noqa: S608
    assert _history(owner) == []


@pytest.mark.parametrize(("table", "column"), RECORDED)
def test_no_personal_column_is_recorded(table: str, column: str) -> None:
    assert CATALOGUE[f"public.{table}"].get(column, Kind.PLAIN) is Kind.PLAIN


def test_several_changes_of_one_statement_are_several_rows(
    owner: Connection, client: dict[str, UUID]
) -> None:
    owner.execute(text("update tickets set status = 'closed', priority = 'high'"))
    changes = {(row[2], row[3], row[4]) for row in _history(owner)}
    assert changes == {("status", "open", "closed"), ("priority", "low", "high")}


def test_of_several_columns_written_only_the_changed_one_is_recorded(
    owner: Connection, client: dict[str, UUID]
) -> None:
    owner.execute(text("update tickets set status = 'open', priority = 'high'"))
    assert [row[2] for row in _history(owner)] == ["priority"]


def test_a_value_set_and_taken_away_is_recorded_as_null(
    owner: Connection, client: dict[str, UUID]
) -> None:
    owner.execute(text("update services set monthly_value = 10"))
    owner.execute(text("update services set monthly_value = null"))
    assert [row[3:5] for row in _history(owner)] == [(None, "10.00"), ("10.00", None)]


def test_without_as_of_the_time_is_that_of_the_transaction(
    owner: Connection, client: dict[str, UUID]
) -> None:
    owner.execute(text("update leads set stage = 'lost'"))
    assert owner.scalar(text("select changed_at = now() from pipeline.row_history"))


def test_inserts_and_deletes_are_no_changes(
    owner: Connection, client: dict[str, UUID], database: TestDatabase
) -> None:
    with database.connect("pipeline") as connection, connection.begin():
        connection.execute(text("delete from session_context"))
    assert _history(owner) == []


def test_a_change_that_is_rolled_back_leaves_no_history(
    owner: Connection, client: dict[str, UUID]
) -> None:
    owner.execute(text("update leads set stage = 'lost'"))
    owner.rollback()
    assert _history(owner) == []
