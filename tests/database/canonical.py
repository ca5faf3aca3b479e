"""Read and compare canonical dumps; empty what inbound loading fills. No loading here."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, LiteralString, cast

from psycopg import sql

from gatte_pipelines.database.engine import psycopg_connection

if TYPE_CHECKING:
    from sqlalchemy import Connection

_DUMP = cast("LiteralString", Path(__file__).with_name("canonical_dump.sql").read_text("utf-8"))
_SHOWN = 6

# By foreign key from the referring to the referred; DELETE is a tenth of the cost of TRUNCATE here.
_FILLED = (
    "session_context",
    "messages",
    "conversations",
    "pipeline.user_activity",
    "pipeline.user_identities",
    "pipeline.conversation_events",
    "pipeline.opt_outs",
    "users",
    "pipeline.user_merges",
    "pipeline.undo_records",
    "pipeline.senders",
    "pipeline.identity_changes",
    "pipeline.message_changes",
    "pipeline.message_reactions",
    "pipeline.button_replies",
    "pipeline.message_facts",
    "pipeline.message_statuses",
    "pipeline.quarantine",
    "pipeline.inbound_batches",
    "pipeline.row_history",
    "pipeline.runs",
)


def canonical_dump(connection: Connection) -> str:
    """All that the inbound tables say, one line a row; equal texts mean equal content.

    ``connection`` must read every table (the owner's) and be in UTC, as our engines are.
    """
    driver = psycopg_connection(connection)
    with driver.transaction():
        return "".join(f"{line}\n" for (line,) in driver.execute(_DUMP))


def empty_tables(connection: Connection) -> None:
    """Delete all rows that inbound loading made; ``connection`` is the owner's."""
    driver = psycopg_connection(connection)
    with driver.transaction():
        for table in _FILLED:
            driver.execute(sql.SQL("delete from {}").format(sql.Identifier(*table.split("."))))


def assert_same_dump(actual: str, expected: str) -> None:
    """Fail with the rows that only one of two canonical dumps has, the first ones in full."""
    if actual == expected:
        return
    here, there = Counter(actual.splitlines()), Counter(expected.splitlines())
    # Counters keep the order of the dump, so the first difference comes first.
    extra, missing = list((here - there).elements()), list((there - here).elements())
    raise AssertionError(
        "the canonical dumps differ\n"
        + _excerpt(f"{len(extra)} rows only in what was loaded here:", extra)
        + _excerpt(f"{len(missing)} rows only in the expected dump:", missing)
    )


def _excerpt(title: str, lines: list[str]) -> str:
    shown = [f"  {line}\n" for line in lines[:_SHOWN]]
    return f"{title}\n{''.join(shown)}" + ("  …\n" if len(lines) > _SHOWN else "")
