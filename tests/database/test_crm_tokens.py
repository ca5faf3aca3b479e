"""The tokens of the day, between two processes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from gatte_pipelines.crm.budget import LIMIT_HEADER, REMAINING_HEADER, SMALLEST_DAILY_BUDGET
from gatte_pipelines.crm.endpoints import GET_LEAD, LIST_LEADS
from gatte_pipelines.crm.tokens import load_ledger, store_ledger
from gatte_pipelines.database.engine import psycopg_connection
from tests.postgres import TestDatabase

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)


def test_the_next_process_goes_on_counting_where_this_one_ended(database: TestDatabase) -> None:
    with database.connect() as connection, psycopg_connection(connection).cursor() as cursor:
        ledger = load_ledger(cursor, now=lambda: NOON)
        assert (ledger.spent, ledger.budget) == (0, SMALLEST_DAILY_BUDGET)
        ledger.charge(LIST_LEADS)
        ledger.observe({LIMIT_HEADER: "90000", REMAINING_HEADER: "70000"})
        store_ledger(cursor, ledger, at=NOON)

        after = load_ledger(cursor, now=lambda: NOON + timedelta(hours=1))
        assert (after.spent, after.budget) == (LIST_LEADS.cost, 90_000)
        assert after.remaining is None  # others spent meanwhile


def test_a_new_day_begins_at_nothing_with_the_budget_last_named(database: TestDatabase) -> None:
    with database.connect() as connection, psycopg_connection(connection).cursor() as cursor:
        ledger = load_ledger(cursor, now=lambda: NOON)
        ledger.charge(LIST_LEADS)
        ledger.observe({LIMIT_HEADER: "90000"})
        store_ledger(cursor, ledger, at=NOON)
        after = load_ledger(cursor, now=lambda: NOON + timedelta(days=1))
        assert (after.spent, after.budget) == (0, 90_000)


def test_a_process_that_ends_later_does_not_lower_what_was_spent(database: TestDatabase) -> None:
    with database.connect() as connection, psycopg_connection(connection).cursor() as cursor:
        first, second = (load_ledger(cursor, now=lambda: NOON) for _ in range(2))
        first.charge(LIST_LEADS)
        second.charge(GET_LEAD)
        store_ledger(cursor, first, at=NOON)
        store_ledger(cursor, second, at=NOON)
        assert load_ledger(cursor, now=lambda: NOON).spent == LIST_LEADS.cost


def test_a_number_too_large_for_its_column_is_cut(database: TestDatabase) -> None:
    with database.connect() as connection, psycopg_connection(connection).cursor() as cursor:
        ledger = load_ledger(cursor, now=lambda: NOON)
        ledger.observe({LIMIT_HEADER: "999999999999", REMAINING_HEADER: "999999999998"})
        store_ledger(cursor, ledger, at=NOON)
        assert load_ledger(cursor, now=lambda: NOON).budget == 2**31 - 1
