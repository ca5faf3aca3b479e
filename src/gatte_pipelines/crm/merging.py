"""Two leads of one person become one, with an undo record; and the way back.

When two leads are of one person belongs to the sync: here they are joined and parted in the
transaction of the caller.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

from psycopg.rows import dict_row

from gatte_pipelines.crm.company import SYSTEM
from gatte_pipelines.database.client_locks import share_lock
from gatte_pipelines.database.statements import read_statements
from gatte_pipelines.errors import ConfigurationError
from gatte_pipelines.sync import conflicts
from gatte_pipelines.sync.merge import Side

if TYPE_CHECKING:
    import psycopg

_SQL = read_statements(Path(__file__).with_name("merging.sql"))

UNDO_DAYS = 30
"""For how long a merge can be undone (design: as merges of users)."""

# What both leads may have; the contact by which the lead is known (name, phone) is never blank.
_FILLED = ("user_id", "email", "company", "interest", "notes")
_CLOSED_STAGES = ("lost", "converted")


def merge_leads(
    cursor: psycopg.Cursor[Any],
    *,
    kept: UUID,
    removed: UUID,
    run_id: UUID,
    at: datetime,
    undo_days: int = UNDO_DAYS,
) -> bool:
    """Make one lead of two, where nothing speaks against it; whether it was done.

    Blanks of the kept lead are filled from the other, whose row goes; its link stays as ``merged``,
    so that its records in the CRM stay known as ours.

    Args:
        cursor: In a transaction of the caller that holds no lock on a row yet.
        kept: ``leads.id`` of the one that stays: the older one.
        removed: Of the one that becomes part of it.
        run_id: Of the run.
        at: When.
        undo_days: For how long it can be undone.

    Returns:
        False, and nothing is changed, where one of them is gone, anonymised, closed, not linked,
        archived or a deal; where the law keeps them as they are (a hold, an open request); or
        where a person parted these two before.
    """
    if kept == removed:
        return False
    names: dict[str, Any] = {
        "kept": kept,
        "removed": removed,
        "ids": [kept, removed],
        "instant": at,
        "undo_days": undo_days,
        "sync_system": SYSTEM,
    }
    share_lock(cursor)
    with cursor.connection.cursor(row_factory=dict_row) as own:
        leads = {row["id"]: row for row in own.execute(_SQL["lock_leads"], names)}
        links = own.execute(_SQL["lock_links"], names).fetchall()
        (apart,) = own.execute(_SQL["is_kept_apart"], names).fetchall()
        if (
            len(leads) + len(links) != 4
            or any(lead["stage"] in _CLOSED_STAGES for lead in leads.values())
            or not all(_is_open(link) for link in links)
            or apart["is_kept_apart"]
        ):
            return False
        values, filled = _fill(leads[kept], leads[removed])
        own.execute(_SQL["record_merge"], names | {"filled": json.dumps(filled, default=str)})
        if filled:
            own.execute(_SQL["fill_lead"], names | values)
        for name in (
            "repoint_renewals",
            "repoint_merged",
            "mark_merged",
            "forget_outbox",
            "delete_lead",
        ):
            own.execute(_SQL[name], names)
    conflicts.record(
        cursor,
        system=SYSTEM,
        table_name="leads",
        local_id=removed,
        kind="merged",
        field=None,
        winner=Side.THEIRS,
        our_value=None,
        their_value=str(kept),  # where the lead is now
        run_id=run_id,
        at=at,
    )
    return True


def part_leads(cursor: psycopg.Cursor[Any], removed: UUID) -> None:
    """Undo a merge: the lead comes back as it was, and what was filled is emptied again.

    What was filled and changed since stays. Records in the CRM belong to both again.

    Args:
        cursor: In a transaction of the caller that has ``gatte.as_of`` set and holds the shared
            client lock, or no lock on a row yet.
        removed: ``leads.id`` of the one whose row went.

    Raises:
        ConfigurationError: The undo record is gone or expired, one of the leads was anonymised, or
            the kept one became part of another since. Nothing is changed then.
    """
    share_lock(cursor)
    with cursor.connection.cursor(row_factory=dict_row) as own:
        undo = own.execute(_SQL["lock_undo_record"], {"removed": removed}).fetchone()
        if undo is None or undo["is_expired"]:
            raise ConfigurationError(
                f"lead {removed} cannot be parted any more: its undo record expired or was erased; "
                "make a new lead by hand where one is needed"
            )
        record = undo["record"]
        names = {"kept": undo["kept_id"], "removed": removed}
        row = dict(record["lead"])
        kept = own.execute(_SQL["lock_leads"], {"ids": list(names.values())}).fetchall()
        if [lead["id"] for lead in kept] != [undo["kept_id"]]:
            raise ConfigurationError(
                f"lead {removed} cannot be parted from {undo['kept_id']}: that one is gone, or "
                f"{removed} is there already; where it became part of another lead, resolve that "
                "conflict first"
            )
        (anonymized,) = own.execute(
            _SQL["is_anonymized"], names | {"user_id": row["user_id"]}
        ).fetchall()
        if anonymized["is_anonymized"]:
            raise ConfigurationError(
                f"lead {removed} cannot be parted: the person was anonymised since"
            )
        row["user_id"] = _find_user(own, row["user_id"])
        own.execute(_SQL["insert_lead"], {"contents": json.dumps(row)})
        _empty_filled(own, kept[0], record["filled"])
        own.execute(
            _SQL["repoint_renewals_back"], names | {"contents": json.dumps(record["renewal_leads"])}
        )
        own.execute(
            _SQL["repoint_merged_back"],
            names | {"ids": [UUID(each) for each in record["merged_before"]]},
        )
        own.execute(_SQL["part_link"], names)
        own.execute(_SQL["delete_undo_record"], {"undo_id": undo["undo_id"]})


def _is_open(link: Mapping[str, Any]) -> bool:
    """Whether the records there are a lead that can still become part of another."""
    return link["state"] == "linked" and link["deal_id"] is None and not link["is_archived"]


def _fill(
    kept: Mapping[str, Any], removed: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, list[Any]]]:
    """The values of the kept lead from now on, and by field what was filled: before and after."""
    values = {name: kept[name] for name in _FILLED}
    for name in _FILLED:
        if _is_blank(kept[name]) and not _is_blank(removed[name]):
            values[name] = removed[name]
    both = (kept["notes"], removed["notes"])
    if not any(_is_blank(each) for each in both) and both[1].strip() not in both[0]:
        values["notes"] = "\n\n".join(both)
    filled = {name: [kept[name], values[name]] for name in _FILLED if values[name] != kept[name]}
    return values, filled


def _empty_filled(
    cursor: psycopg.Cursor[dict[str, Any]],
    kept: Mapping[str, Any],
    filled: Mapping[str, list[Any]],
) -> None:
    """Give the kept lead back what stood there, where it still holds what was filled."""
    values = {name: kept[name] for name in _FILLED}
    for name, (before, after) in filled.items():
        if name == "user_id":
            after = _find_user(cursor, after)  # noqa: PLW2901 - the same user today
        if str(kept[name]) == str(after):
            values[name] = before
    cursor.execute(_SQL["fill_lead"], values | {"kept": kept["id"]})


def _find_user(cursor: psycopg.Cursor[dict[str, Any]], user_id: str | None) -> str | None:
    if user_id is None:
        return None
    (row,) = cursor.execute(_SQL["find_user"], {"user_id": UUID(user_id)}).fetchall()
    return str(row["user_id"])


def _is_blank(value: Any) -> bool:
    return value is None or not str(value).strip()
