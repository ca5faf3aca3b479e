"""After a backup was restored: erased stays erased (S1).

The outside copy of the ledger remembers what the restored database forgot. Its entries come back,
holds stand again, and who was erased is erased again. What went by time is due again and goes with
the next retention run; requests that are still open belong to ``erasure``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

from gatte_pipelines.database.client_locks import exclusive_lock
from gatte_pipelines.database.engine import psycopg_connection
from gatte_pipelines.database.statements import read_statements
from gatte_pipelines.errors import PermanentError
from gatte_pipelines.privacy.erasure import RULE, remember_messages
from gatte_pipelines.privacy.ledger import Ledger, import_missing, read_missing
from gatte_pipelines.privacy.people import (
    anonymize_leads,
    anonymize_users,
    find_linked_leads,
    probe_old_values,
    read_old_values,
)
from gatte_pipelines.privacy.subject_requests import transaction_at
from gatte_pipelines.privacy.subjects import Subject, read_keys

if TYPE_CHECKING:
    import psycopg
    from sqlalchemy import Connection

    from gatte_pipelines.privacy.entries import Entry
    from gatte_pipelines.privacy.outside_copy import OutsideCopy
    from gatte_pipelines.privacy.subject_stores import SubjectFiles

_SQL = read_statements(Path(__file__).with_name("restore.sql"))


@dataclass(frozen=True, kw_only=True)
class Replay:
    """What a replay did, or would do.

    Attributes:
        entries: Entries of the ledger that the database lacked.
        users: Users that stood there again and were erased (would be, in a dry run).
        leads: Leads likewise, those linked to the users included.
        holds: Holds that stand again.
        is_executed: Whether it was done.
    """

    entries: int
    users: int
    leads: int
    holds: int
    is_executed: bool


def restore_replay(
    connection: Connection,
    *,
    ledger: Ledger,
    outside: OutsideCopy,
    files: SubjectFiles,
    as_of: datetime,
    execute: bool = False,
) -> Replay:
    """Bring a restored database to what the outside ledger says was erased and held.

    Safe to repeat, and to be killed anywhere: entries are imported first, and whoever is named by
    an erasure and not anonymised is erased, whenever that was.

    Args:
        connection: To the database, outside a transaction; not the ledger's.
        ledger: Gets an ``erased`` entry for each erasure repeated.
        outside: Its copy outside the database.
        files: Landing files, archive and quarantine.
        as_of: Now.
        execute: Without it nothing changes.

    Raises:
        PermanentError: The outside copy cannot be read, is broken or does not continue the chain;
            or an old value was still found, and that erasure was rolled back.
    """
    driver = psycopg_connection(connection)
    missing = import_missing(driver, outside) if execute else read_missing(driver, outside)
    holds = [entry for entry in missing if entry.kind == "hold"]
    if execute:
        with transaction_at(connection, as_of) as cursor:
            for entry in missing:
                _restore_hold(cursor, entry)
    users = leads = 0
    # Of all entries, not only of the missing: a replay that was killed has imported them already.
    for entry in _read_erasures(outside):
        erased = _erase_again(connection, ledger, files, entry, as_of, execute=execute)
        users += erased[0]
        leads += erased[1]
    if execute:
        ledger.catch_up()
    return Replay(
        entries=len(missing), users=users, leads=leads, holds=len(holds), is_executed=execute
    )


def _read_erasures(outside: OutsideCopy) -> list[Entry]:
    return [entry for entry in outside.read() if entry.kind == "erasure"]


def _restore_hold(cursor: psycopg.Cursor[Any], entry: Entry) -> None:
    body = entry.body
    if entry.kind == "hold":
        cursor.execute(
            _SQL["restore_hold"],
            {
                "hold_id": body["hold_id"],
                "held_table": body["table"],
                "row_id": body["row_id"],
                "placed_at": entry.at,
                "ends_at": body["ends_at"],
            },
        )
    elif entry.kind == "release":
        cursor.execute(
            _SQL["release_restored_hold"], {"hold_id": body["hold_id"], "released_at": entry.at}
        )


def _erase_again(
    connection: Connection,
    ledger: Ledger,
    files: SubjectFiles,
    entry: Entry,
    as_of: datetime,
    *,
    execute: bool,
) -> tuple[int, int]:
    """Erase who is named by one entry and stands there again: how many users and leads."""
    with transaction_at(connection, as_of) as cursor:
        if execute:
            exclusive_lock(cursor)
        users = _find(cursor, "find_living", "users", entry.body["user_ids"])
        leads = _find(cursor, "find_living_leads", "leads", entry.body["lead_ids"])
        leads = sorted({*leads, *find_linked_leads(cursor, users)})
        if not execute or not (users or leads):
            return len(users), len(leads)
        subject = Subject(
            subject_id=(users or leads)[0],
            user_ids=tuple(users),
            lead_ids=tuple(leads),
            disputed_lead_ids=(),
        )
        keys = read_keys(cursor, subject).keys
        values = read_old_values(cursor, users, leads)
        remember_messages(cursor, subject)
        anonymize_users(cursor, users, rule=RULE)
        anonymize_leads(cursor, leads, rule=RULE)
        files.erase_quarantine(cursor, keys)
        files.erase_names(cursor, keys)
        left = probe_old_values(cursor, values, users, leads)
        if left:
            raise PermanentError(
                f"an old value is left in {', '.join(left)}: this erasure was rolled back"
            )
        ledger.append_within(
            cursor,
            "erased",
            {"erasure": entry.seq, "user_ids": _texts(users), "lead_ids": _texts(leads)},
            at=as_of,
        )
    # The archive is no part of the database's backup, but somebody may have restored it as well.
    files.rewrite(keys, execute=True)
    if files.holds(keys):
        raise PermanentError("records of an erased person are still in the files; run it again")
    return len(users), len(leads)


def _find(cursor: psycopg.Cursor[Any], statement: str, name: str, ids: Sequence[str]) -> list[UUID]:
    cursor.execute(_SQL[statement], {name: [UUID(item) for item in ids]})
    return [row[0] for row in cursor.fetchall()]


def _texts(ids: Sequence[UUID]) -> list[str]:
    return [str(item) for item in ids]
