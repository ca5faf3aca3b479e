"""A rule means the same to the library that judges and to our SQL that lists the rows."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import psycopg
from psycopg import sql

from gatte_pipelines.database.engine import psycopg_connection
from gatte_pipelines.quality.expectations import judge
from gatte_pipelines.quality.failing import MAX_KEYS, find_failing
from gatte_pipelines.quality.suite import Check, Kind, Rule, Severity, Suite
from tests.postgres import TestDatabase

AS_OF = datetime(2026, 3, 2, 15, tzinfo=UTC)
WORDS = ("open", "it's", "a:b", "100 percent", "back\\slash")
PATTERN = r"^[a-z' :\\]+$"

Holds = Callable[[Any], bool]
RULES: list[tuple[Rule, Holds]] = [
    (Rule("word", Kind.NOT_NULL), lambda value: value is not None),
    (Rule("word", Kind.IN_SET, values=WORDS), lambda value: value is None or value in WORDS),
    (
        Rule("word", Kind.MATCHES, pattern=PATTERN),
        lambda value: value is None or re.fullmatch(PATTERN[1:-1], value) is not None,
    ),
    (Rule("number", Kind.BETWEEN, low=0), lambda value: value is None or value >= 0),
    (Rule("number", Kind.BETWEEN, high=300), lambda value: value is None or value <= 300),
    (Rule("number", Kind.BETWEEN, low=-1, high=0), lambda value: value is None or -1 <= value <= 0),
    (Rule("number", Kind.NOT_NULL), lambda value: value is not None),
    # Called like a word of SQL that is somebody's name.
    (Rule("user", Kind.IS_TRUE), lambda value: value is not False),
    (Rule("user", Kind.NOT_NULL), lambda value: value is not None),
]

ROWS: list[tuple[str | None, Decimal | None, bool | None]] = [
    (None, None, None),
    ("open", Decimal(0), True),
    ("OPEN", Decimal(-1), False),
    ("it's", Decimal(300), True),
    ("a:b", Decimal("300.01"), True),
    ("100 percent", Decimal("-0.01"), True),
    ("back\\slash", Decimal(-2), True),
    ("", Decimal(1), True),
    ("two\nlines", Decimal(1), None),
    (" open", Decimal(10**12), True),
    ("ação", Decimal(1), False),
]


def suite_of(name: str) -> Suite:
    checks = tuple(
        Check(f"{name}.rule_{number}", name, Severity.WARNING, "Algo.", "Vendas", rule)
        for number, (rule, _) in enumerate(RULES)
    )
    return Suite(name, name, f"{name}.yaml", "", "", checks)


def rows_of(
    connection: psycopg.Connection, rows: list[tuple[UUID, str | None, Decimal | None, bool | None]]
) -> str:
    """SQL that gives these rows, and none where there are none."""
    template = 'select v.id, v.word, v.number, v."user" from (values {}) as v '
    template += '(id, word, number, "user") where v.id is not null'
    rows_sql = [
        sql.SQL("({}::uuid, {}::text, {}::numeric, {}::boolean)").format(*map(sql.Literal, row))
        for row in rows or [(None, None, None, None)]
    ]
    return sql.SQL(template).format(sql.SQL(", ").join(rows_sql)).as_string(connection)


def test_verdicts_and_listed_rows_agree_for_every_kind_and_value(database: TestDatabase) -> None:
    whole = [(UUID(int=number), *row) for number, row in enumerate(ROWS)]
    cases = [[row] for row in whole] + [whole, []]
    with database.connect() as connection:
        driver = psycopg_connection(connection)
        suites = [
            (suite_of(f"case_{number}"), rows_of(driver, rows)) for number, rows in enumerate(cases)
        ]
        verdicts = judge(database.url_pipeline, suites, as_of=AS_OF)
        assert verdicts.broken == {}
        for (suite, text), rows in zip(suites, cases, strict=True):
            for (check, rule), (_, holds) in zip(suite.rules, RULES, strict=True):
                column = {"word": 1, "number": 2, "user": 3}[rule.column]
                expected = [row[0] for row in rows if not holds(row[column])]
                found = find_failing(driver, text, rule)
                assert list(found.keys) == expected, (check.name, rule)
                assert found.rows == len(expected)
                assert verdicts.holds[check.name] is (not expected), (check.name, rule, rows)


def test_of_many_failing_rows_all_are_counted_and_the_first_listed(database: TestDatabase) -> None:
    rows = [(UUID(int=number), None, Decimal(-5), None) for number in range(1, 251)]
    excused = [row[0] for row in rows[:30]] + [UUID(int=999)]
    rule = Rule("number", Kind.BETWEEN, low=0)
    with database.connect() as connection:
        driver = psycopg_connection(connection)
        text = rows_of(driver, rows)
        found = find_failing(driver, text, rule)
        assert (found.rows, found.excused, len(found.keys)) == (250, 0, MAX_KEYS)
        assert list(found.keys) == [row[0] for row in rows[:MAX_KEYS]]
        # Those that may fail come last: what somebody has to look into is listed first.
        found = find_failing(driver, text, rule, but=excused)
        assert (found.rows, found.excused) == (250, 30)
        assert list(found.keys) == [row[0] for row in rows[30 : 30 + MAX_KEYS]]


def test_a_rule_that_does_not_fit_its_column_is_no_verdict(database: TestDatabase) -> None:
    """Words for numbers, truth of a text: the server refuses, and nobody takes that for good."""
    row = (UUID(int=1), "open", Decimal(1), True)
    for rule in (
        Rule("number", Kind.MATCHES, pattern="^1$"),
        Rule("word", Kind.IS_TRUE),
        Rule("user", Kind.BETWEEN, low=0),
    ):
        check = Check("case.rule", "case", Severity.WARNING, "Algo.", "Vendas", rule)
        suite = Suite("case", "case", "case.yaml", "", "", (check,))
        with database.connect() as connection:
            text = rows_of(psycopg_connection(connection), [row])
        verdicts = judge(database.url_pipeline, [(suite, text)], as_of=AS_OF)
        assert verdicts.holds == {}, rule
        assert set(verdicts.broken) == {"case"}
        assert verdicts.pages == {}
