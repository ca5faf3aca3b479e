"""Rows of a table by business date: each day is counted once, when it is over."""

from __future__ import annotations

from datetime import date, datetime, time, timedelta
from pathlib import Path

import psycopg
from psycopg import sql

from gatte_pipelines.business_time import ZONE
from gatte_pipelines.database.statements import read_statements
from gatte_pipelines.quality.suite import Suite
from gatte_pipelines.quality.volumes import WEEKS

_SQL = read_statements(Path(__file__).with_name("quality.sql"))
_DAY = timedelta(days=1)
# Removed messages are in no index by time; of the last weeks they are few.
_ONLY = {"messages": "content <> ''"}


def count_days(
    connection: psycopg.Connection,
    suite: Suite,
    *,
    today: date,
    counted_at: datetime,
    remember: bool = True,
) -> dict[date, int]:
    """Count what was not counted before; the counts of the last weeks, today's so far included.

    Args:
        connection: To the database, in a transaction.
        suite: Of a table whose rows come by the day.
        today: The business date.
        counted_at: The instant that is stored.
        remember: Store what is counted; of a day that only seems over nothing may be.
    """
    first = today - timedelta(weeks=WEEKS, days=1)
    with connection.cursor() as cursor:
        known = {
            row[0]: row[1]
            for row in cursor.execute(
                _SQL["read_volumes"], {"table": suite.table, "first": first, "today": today}
            )
        }
        missing = [day for day in _days(first, today) if day not in known]
        begins = missing[0] if missing else today
        found = {
            row[0]: row[1]
            for row in cursor.execute(
                sql.SQL(
                    "select pipeline.business_date({column}) as day, count(*) from {table} "
                    "where {column} >= {begins} and {column} < {ends} and {only} group by day"
                ).format(
                    column=sql.Identifier(suite.counted_by),
                    table=sql.Identifier("public", suite.table),
                    begins=sql.Literal(_start_of(begins)),
                    ends=sql.Literal(_start_of(today + _DAY)),
                    only=sql.SQL(_ONLY.get(suite.table, "true")),
                )
            )
        }
        if missing and remember:
            cursor.execute(
                _SQL["store_volumes"],
                {
                    "table": suite.table,
                    "days": missing,
                    "rows": [found.get(day, 0) for day in missing],
                    "counted_at": counted_at,
                },
            )
    return known | {day: found.get(day, 0) for day in (*missing, today)}


def _days(first: date, end: date) -> list[date]:
    return [first + _DAY * number for number in range((end - first).days)]


def _start_of(day: date) -> datetime:
    return datetime.combine(day, time(), ZONE)
