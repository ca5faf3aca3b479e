"""The retention policy, the catalogue and the database name the same tables and columns (S3)."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import pytest
from sqlalchemy import Connection, text

from gatte_pipelines.personal_data import CATALOGUE, VIEWS, Kind
from gatte_pipelines.privacy.policy import Policy
from gatte_pipelines.privacy.policy_file import read_policy

# Kinds of columns that can hold what a person wrote or what leads to a person.
_OF_TEXT = ("text", "character varying", "character", "json", "jsonb", "bytea", "ARRAY", "xml")


@pytest.fixture
def policy(repository: Path) -> Policy:
    return read_policy(repository / "config" / "retention.yaml")


def find_gaps(connection: Connection, policy: Policy) -> list[str]:
    """Whatever the policy says of no table or column, and whatever it says of none that exists."""
    columns: dict[str, set[str]] = defaultdict(set)
    texts: dict[str, set[str]] = defaultdict(set)
    base_tables: set[str] = set()
    rows = connection.execute(
        text(
            "select t.table_schema || '.' || t.table_name, t.table_type, c.column_name, "
            "c.data_type from information_schema.tables as t "
            "left join information_schema.columns as c using (table_schema, table_name) "
            "where t.table_schema in ('public', 'pipeline')"
        )
    )
    for table, kind, column, data_type in rows:
        if kind == "BASE TABLE":
            base_tables.add(table)
        if column is not None:
            columns[table].add(column)
        if data_type in _OF_TEXT:
            texts[table].add(column)

    stores = {rule.store for rule in policy.rules}
    of_tables = {store for store in stores if store.startswith(("public.", "pipeline."))}
    covered = {(rule.store, column) for rule in policy.rules for column in rule.columns}
    gaps = [f"{table}: no rule" for table in base_tables - stores]
    gaps += [f"{table}: a rule, but no such table" for table in of_tables - base_tables]
    gaps += [
        f"{table}.{column}: a rule, but no such column"
        for table, column in covered
        if column not in columns[table]
    ]
    # Also of views: what one shows must be reached where it stands.
    for table, names in texts.items():
        for column in names:
            if column not in CATALOGUE.get(table, {}):
                gaps.append(f"{table}.{column}: not in the catalogue")
            elif (
                CATALOGUE[table][column] is not Kind.PLAIN
                and (VIEWS.get(table, table), column) not in covered
            ):
                gaps.append(f"{table}.{column}: no rule")
    return sorted(gaps)


def test_the_policy_covers_every_table_and_every_personal_column(
    owner: Connection, policy: Policy
) -> None:
    assert find_gaps(owner, policy) == []


@pytest.mark.parametrize(
    ("statement", "gaps"),
    [
        ("create table pipeline.planted (at timestamptz)", ["pipeline.planted: no rule"]),
        ("create table public.planted ()", ["public.planted: no rule"]),
        (
            "create table pipeline.planted (note text)",
            ["pipeline.planted.note: not in the catalogue", "pipeline.planted: no rule"],
        ),
        ("alter table users add cpf text", ["public.users.cpf: not in the catalogue"]),
        ("alter table users add papers jsonb", ["public.users.papers: not in the catalogue"]),
        ("alter table leads add photo bytea", ["public.leads.photo: not in the catalogue"]),
        (
            "create view pipeline.planted as select content from messages",
            ["pipeline.planted.content: not in the catalogue"],
        ),
        (
            "alter table services drop column notes",
            ["public.services.notes: a rule, but no such column"],
        ),
        (
            "drop table pipeline.erased_messages",
            ["pipeline.erased_messages: a rule, but no such table"],
        ),
    ],
)
def test_a_table_or_column_that_nobody_thought_of_is_noticed(
    owner: Connection, policy: Policy, statement: str, gaps: list[str]
) -> None:
    owner.execute(text(statement))
    assert find_gaps(owner, policy) == gaps


def test_a_personal_column_without_a_rule_is_noticed(
    owner: Connection, policy: Policy, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner.execute(text("alter table users add cpf text"))
    monkeypatch.setitem(CATALOGUE["public.users"], "cpf", Kind.PERSONAL)
    assert find_gaps(owner, policy) == ["public.users.cpf: no rule"]


def test_every_table_of_the_catalogue_has_a_rule_or_is_a_view(
    owner: Connection, policy: Policy
) -> None:
    views = set(
        owner.scalars(
            text(
                "select table_schema || '.' || table_name from information_schema.views "
                "where table_schema in ('public', 'pipeline')"
            )
        )
    )
    assert set(CATALOGUE) - views == {
        rule.store for rule in policy.rules if rule.store.startswith(("public.", "pipeline."))
    }
