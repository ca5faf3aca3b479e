"""What a person decided about a conflict with Pipedrive, carried out on our side.

The other side follows with the next run of the sync; nothing is called here. Which side wins at
first belongs to ``sync.merge``.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from psycopg import sql
from psycopg.rows import dict_row

from gatte_pipelines.crm.merging import part_leads
from gatte_pipelines.database.statements import read_statements
from gatte_pipelines.errors import ConfigurationError
from gatte_pipelines.phones import is_possible_wa_id, phone_key
from gatte_pipelines.sync.conflicts import Conflict
from gatte_pipelines.sync.merge import Side

if TYPE_CHECKING:
    from collections.abc import Mapping

    import psycopg

_SQL = read_statements(Path(__file__).with_name("resolution.sql"))

# The fields that are synced, and how many characters their columns take (DOC 01, leads).
_COLUMN_CHARACTERS = {"name": 150, "phone": 20, "email": 200, "company": 200, "stage": 20}
_NEVER_EMPTY = ("name", "phone", "stage")


def resolve_conflict(cursor: psycopg.Cursor[Any], conflict: Conflict, keep: Side) -> None:
    """Carry out a decision: a `gatte_pipelines.sync.conflicts.Resolver`.

    Where the side that won is chosen, nothing is changed. Else a field gets the other side's value,
    a lead deleted there is made anew by the next run, and leads that were joined are parted.

    Args:
        cursor: In a transaction that holds the shared client lock and has ``gatte.as_of`` set.
        conflict: As it stands, locked.
        keep: Whose side is to stand.

    Raises:
        ConfigurationError: It cannot be carried out any more; says what to do.
    """
    if keep is conflict.winner:
        return
    if conflict.kind == "merged":
        part_leads(cursor, conflict.local_id)
    elif conflict.kind == "deleted":
        _make_again(cursor, conflict)
    else:
        _write_field(cursor, conflict, keep)


def _make_again(cursor: psycopg.Cursor[Any], conflict: Conflict) -> None:
    """Let the next run create what was deleted there."""
    _, link = _lock(cursor, conflict)
    if link is None or link["state"] != "deleted":
        raise _refusal(conflict, "the lead is linked again")
    values = {"lead_id": conflict.local_id}
    cursor.execute(_SQL["delete_link"], values)
    cursor.execute(_SQL["forget_crm_id"], values)


def _write_field(cursor: psycopg.Cursor[Any], conflict: Conflict, keep: Side) -> None:
    """Write the chosen side's value where the lead still has the one that won."""
    field = conflict.field
    if field not in _COLUMN_CHARACTERS:
        raise _refusal(conflict, "no field of a lead is called so; nothing can be written")
    lead, link = _lock(cursor, conflict)
    if keep is Side.OURS and conflict.kind == "kept":
        raise _refusal(conflict, f"only Pipedrive's value counts for {field}: change it there")
    if keep is Side.OURS and field == "stage" and link is not None and link["deal_id"] is not None:
        raise _refusal(
            conflict, "the lead is a deal by now, whose stage counts: change it in Pipedrive"
        )
    value = conflict.value_of(keep)
    value = value.strip() if value is not None else None
    if not _is_same(field, lead[field], conflict.value_of(conflict.winner)):
        raise _refusal(
            conflict,
            f"the value of {field} changed since; look at the lead, and keep "
            f"{conflict.winner.value} to close this conflict",
        )
    if not _fits(field, value, keep, lead["stages"]):
        raise _refusal(
            conflict,
            f"the value of {field} is empty or cannot stand in leads; correct it by hand on either "
            f"side, and keep {conflict.winner.value} to close this conflict",
        )
    cursor.execute(
        sql.SQL("update leads set {} = %s where id = %s").format(sql.Identifier(field)),
        [value or None, conflict.local_id],
    )


def _lock(
    cursor: psycopg.Cursor[Any], conflict: Conflict
) -> tuple[Mapping[str, Any], Mapping[str, Any] | None]:
    """The lead and its link, locked.

    Raises:
        ConfigurationError: It is gone or anonymised.
    """
    values = {"lead_id": conflict.local_id}
    with cursor.connection.cursor(row_factory=dict_row) as own:
        lead = own.execute(_SQL["lock_lead"], values).fetchone()
        if lead is None:
            raise _refusal(
                conflict,
                f"lead {conflict.local_id} is gone; where it became part of another, resolve that "
                "conflict first",
            )
        if lead["is_anonymized"]:
            raise _refusal(conflict, "the lead is anonymised and stays so")
        return lead, own.execute(_SQL["lock_link"], values).fetchone()


def _is_same(field: str, one: str | None, other: str | None) -> bool:
    one, other = (one or "").strip(), (other or "").strip()
    if field == "phone":
        return phone_key(one) == phone_key(other)
    return one == other


def _fits(field: str, value: str | None, keep: Side, stages: list[str]) -> bool:
    if not value:
        return field not in _NEVER_EMPTY
    if field == "stage":
        return value in stages
    # Our own value stood there before, whatever it looked like.
    if field == "phone" and keep is Side.THEIRS and not is_possible_wa_id(phone_key(value)):
        return False
    return len(value) <= _COLUMN_CHARACTERS[field]


def _refusal(conflict: Conflict, reason: str) -> ConfigurationError:
    return ConfigurationError(f"conflict {conflict.conflict_id}: {reason}; nothing was done")
