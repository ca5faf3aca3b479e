"""Conflicts: where both sides had changed one thing, or one side lost it; for a person to decide.

What wins at first belongs to ``merge``. How the decision of a person is carried out belongs to the
domain of the system, which registers a `Resolver`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

from psycopg.rows import dict_row

from gatte_pipelines.database.client_locks import share_lock
from gatte_pipelines.database.statements import read_statements
from gatte_pipelines.errors import ConfigurationError
from gatte_pipelines.sync.merge import Side

if TYPE_CHECKING:
    import psycopg

    from gatte_pipelines.run_report import RunReport

_SQL = read_statements(Path(__file__).with_name("conflicts.sql"))

PIPELINE = "resolve_conflict"
KINDS = ("both_changed", "kept", "deleted", "merged")

# Both values are part of one entry of an index, which PostgreSQL limits to 2704 bytes: more than
# 300 characters of four bytes each would make the insert fail. No column that is synced takes more
# than 200, so nothing that could be written back is cut.
MAX_VALUE_CHARACTERS = 300

# What a transaction may wait for a row that a run of the sync is just changing.
_LOCK_TIMEOUT = "10s"


@dataclass(frozen=True, kw_only=True)
class Conflict:
    """One conflict. Its repr shows no value.

    Attributes:
        conflict_id: By which a person names it.
        system: The other system, such as ``pipedrive``.
        table_name: Ours, such as ``leads``.
        local_id: The row of ours.
        kind: ``both_changed``, ``kept``, ``deleted`` or ``merged``.
        field: Of the row; None where the row as a whole is meant.
        winner: Whose value stands now.
        our_value: Ours when it was found.
        their_value: Theirs then.
        run_id: Of the run that found it.
        found_at: When.
        resolved_at: When a person decided; None while it is open.
        resolution: Whose value the person chose.
    """

    conflict_id: UUID
    system: str
    table_name: str
    local_id: UUID
    kind: str
    field: str | None
    winner: Side
    our_value: str | None = dataclasses.field(repr=False)
    their_value: str | None = dataclasses.field(repr=False)
    run_id: UUID
    found_at: datetime
    resolved_at: datetime | None
    resolution: Side | None

    def value_of(self, side: Side) -> str | None:
        """The value that a side had."""
        return self.our_value if side is Side.OURS else self.their_value


Resolver = Callable[["psycopg.Cursor[Any]", Conflict, Side], None]
"""Carries a decision out in the transaction of the cursor: keep which side of the conflict.

The conflict's row is locked, and the shared client lock is held. It raises ConfigurationError,
saying what to do, where that cannot be done; nothing is changed then.
"""


@dataclass(frozen=True, kw_only=True)
class Resolution:
    """What a person decided.

    Attributes:
        conflict: As it stood before.
        keep: Whose side was chosen.
    """

    conflict: Conflict
    keep: Side

    @property
    def is_reversed(self) -> bool:
        """Whether the other side than the one that had won was chosen."""
        return self.keep is not self.conflict.winner


def record(
    cursor: psycopg.Cursor[Any],
    *,
    system: str,
    table_name: str,
    local_id: UUID,
    kind: str,
    field: str | None,
    winner: Side,
    our_value: str | None,
    their_value: str | None,
    run_id: UUID,
    at: datetime,
) -> bool:
    """Note a conflict, in the transaction that lets one side win; whether it is a new one.

    Args:
        cursor: In a transaction of the caller.
        system: The other system.
        table_name: Ours.
        local_id: The row of ours.
        kind: One of ``KINDS``.
        field: Of the row; None where the row as a whole is meant.
        winner: Whose value stands from now on.
        our_value: Ours before.
        their_value: Theirs before.
        run_id: Of the run.
        at: When it was found.

    Returns:
        False where the same one stands open already.
    """
    cursor.execute(
        _SQL["record"],
        {
            "conflict_id": uuid4(),
            "sync_system": system,
            "table": table_name,
            "local_id": local_id,
            "conflict_kind": kind,
            "conflict_field": field,
            "winner": winner.value,
            "our_value": _cut(our_value),
            "their_value": _cut(their_value),
            "run_id": run_id,
            "instant": at,
        },
    )
    return cursor.rowcount > 0


def list_conflicts(
    cursor: psycopg.Cursor[Any], *, include_resolved: bool = False, limit: int = 100
) -> list[Conflict]:
    """Conflicts, the newest first; only open ones unless asked for all."""
    values = {"only_open": not include_resolved, "limit": limit}
    with cursor.connection.cursor(row_factory=dict_row) as own:
        return [_to_conflict(row) for row in own.execute(_SQL["list_conflicts"], values)]


def read_conflict(cursor: psycopg.Cursor[Any], conflict_id: UUID) -> Conflict:
    """One conflict, locked until the caller's transaction ends.

    Raises:
        ConfigurationError: There is none of this id.
    """
    with cursor.connection.cursor(row_factory=dict_row) as own:
        row = own.execute(_SQL["read_conflict"], {"conflict_id": conflict_id}).fetchone()
    if row is None:
        raise ConfigurationError(
            f"there is no conflict {conflict_id}; see those open with gatte conflicts list"
        )
    return _to_conflict(row)


def resolve(
    connection: psycopg.Connection[Any],
    conflict_id: UUID,
    keep: Side,
    resolvers: Mapping[str, Resolver],
    *,
    as_of: datetime,
) -> Resolution:
    """Carry out what a person decided, and mark the conflict as resolved; both or neither.

    Args:
        connection: Outside a transaction.
        conflict_id: Which.
        keep: Whose side is to stand.
        resolvers: By system.
        as_of: When it is decided.

    Raises:
        ConfigurationError: There is no such conflict, it was resolved before, nobody resolves
            those of its system, or the decision cannot be carried out any more.
    """
    with connection.transaction(), connection.cursor() as cursor:
        cursor.execute(
            "select set_config('gatte.as_of', %s, true), set_config('lock_timeout', %s, true)",
            [as_of.isoformat(), _LOCK_TIMEOUT],
        )
        share_lock(cursor)  # before any lock on a row, since a resolver may need it
        conflict = read_conflict(cursor, conflict_id)
        if conflict.resolution is not None:
            raise ConfigurationError(
                f"conflict {conflict_id} was resolved before, in favour of "
                f"{conflict.resolution.value}; nothing was done"
            )
        resolver = resolvers.get(conflict.system)
        if resolver is None:
            raise ConfigurationError(
                f"conflict {conflict_id} is of {conflict.system}, which is not set up here"
            )
        resolver(cursor, conflict, keep)
        cursor.execute(
            _SQL["mark_resolved"],
            {"conflict_id": conflict_id, "resolution": keep.value, "instant": as_of},
        )
    return Resolution(conflict=conflict, keep=keep)


def report_resolution(report: RunReport, resolution: Resolution) -> None:
    """Tell ops in Portuguese what a decision did; no value."""
    report.received = report.updated = 1
    report.notes.append(_describe(resolution))


def _describe(resolution: Resolution) -> str:
    conflict = resolution.conflict
    theirs = _SYSTEMS_PT.get(conflict.system, "outro sistema")
    if not resolution.is_reversed:
        return "esse lado já valia: nada foi alterado, e o conflito saiu da lista"
    if conflict.kind == "deleted":
        return f"a próxima sincronização cria o registro de novo no {theirs}"
    if conflict.kind == "merged":
        return "os registros que tinham sido reunidos são dois outra vez"
    name = _FIELDS_PT.get(conflict.field or "", conflict.field)
    if resolution.keep is Side.OURS:
        return f"{name}: voltou a valer o nosso; a próxima sincronização o leva ao {theirs}"
    return f"{name}: passou a valer o do {theirs}"


_SYSTEMS_PT = {"pipedrive": "Pipedrive"}
_FIELDS_PT = {
    "name": "nome",
    "phone": "telefone",
    "email": "e-mail",
    "company": "empresa",
    "stage": "etapa",
}


def _to_conflict(row: dict[str, Any]) -> Conflict:
    chosen = row["resolution"]
    return Conflict(
        **{
            **row,
            "winner": Side(row["winner"]),
            "resolution": None if chosen is None else Side(chosen),
        }
    )


def _cut(value: str | None) -> str | None:
    return None if value is None else value[:MAX_VALUE_CHARACTERS]
