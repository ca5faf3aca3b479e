"""The account that was read, kept in the database."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import psycopg
from psycopg.rows import namedtuple_row

from gatte_pipelines.crm.account import Account, load_account, store_account
from gatte_pipelines.database.engine import psycopg_connection
from tests.postgres import TestDatabase

ACCOUNT = Account(
    labels={UUID(int=1): "Morno", UUID(int=2): "Quente"},
    stages={11: ("Pipeline", "Qualified"), 12: ("Renovações", 'Com "aspas"')},
    external_key="a" * 40,
    company_id=7_000_001,
    policy_fingerprint="f" * 64,
    read_at=datetime(2026, 3, 10, 11, 30, 0, 250_000, UTC),
    access_mark="0123456789abcdef",
)


def test_an_account_is_loaded_as_it_was_stored_and_the_last_one_counts(
    database: TestDatabase,
) -> None:
    with database.connect() as connection:
        driver = psycopg_connection(connection)
        with driver.cursor() as cursor:
            assert load_account(cursor) is None
            store_account(cursor, ACCOUNT)
            assert load_account(cursor) == ACCOUNT
        driver.commit()
    later = replace(
        ACCOUNT,
        labels={},
        stages={},
        external_key=None,
        read_at=ACCOUNT.read_at + timedelta(days=1),
    )
    with database.connect() as connection:
        driver = psycopg_connection(connection)
        with driver.cursor(row_factory=namedtuple_row) as cursor:
            assert load_account(cursor) == ACCOUNT
            store_account(cursor, later)
            assert load_account(cursor) == later
            # The engine of the sync holds its transaction: nothing is committed here.
            assert driver.info.transaction_status is psycopg.pq.TransactionStatus.INTRANS
        driver.rollback()
        with driver.cursor() as cursor:
            assert load_account(cursor) == ACCOUNT
