"""Fixtures of the database tests; the machinery stands in tests/postgres.py for other folders."""

from __future__ import annotations

from tests.postgres import database, make_database, postgres_server

__all__ = ["database", "make_database", "postgres_server"]
