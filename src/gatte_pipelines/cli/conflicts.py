"""`gatte conflicts`: where our database and another system disagree, for a person to decide."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from gatte_pipelines.cli.console import (
    AsJson,
    AsOf,
    console,
    parse_as_of,
    print_json,
    print_report,
    wired,
)
from gatte_pipelines.errors import ConfigurationError

if TYPE_CHECKING:
    from gatte_pipelines.sync.conflicts import Conflict

app = typer.Typer(no_args_is_help=True, help="Conflicts with other systems, such as Pipedrive.")


class Keep(StrEnum):
    """Whose side is to stand."""

    OURS = "ours"
    THEIRS = "theirs"


_KINDS_PT = {
    "both_changed": "os dois mudaram",
    "kept": "lado que não vale mudou",
    "deleted": "apagado lá",
    "merged": "reunido em outro",
}
_SIDES_PT = {Keep.OURS.value: "o nosso", Keep.THEIRS.value: "o deles"}


@app.command("list")
def list_open(
    include_resolved: Annotated[
        bool, typer.Option("--all", help="Those that were resolved too.")
    ] = False,
    values: Annotated[
        bool,
        typer.Option("--values", help="Both values too: personal data, on this terminal alone."),
    ] = False,
    limit: Annotated[int, typer.Option(min=1, help="How many to show, the newest.")] = 100,
    as_json: AsJson = False,
) -> None:
    """Show what waits for a decision; no value of either side unless --values asks for them."""
    from gatte_pipelines.database.engine import psycopg_connection  # noqa: PLC0415
    from gatte_pipelines.sync.conflicts import list_conflicts  # noqa: PLC0415

    if values and as_json:
        raise ConfigurationError("--values is for a person at a terminal; leave --json out")
    with wired() as wiring, wiring.migrated() as connection:
        driver = psycopg_connection(connection)
        with driver.transaction(), driver.cursor() as cursor:
            found = list_conflicts(cursor, include_resolved=include_resolved, limit=limit)
    if as_json:
        print_json({"conflicts": [_to_json(conflict) for conflict in found]})
        return
    if not found:
        console.print("nenhum conflito" if include_resolved else "nenhum conflito em aberto")
        return
    if values:
        _print_values(found)
    else:
        _print_table(found)
    console.print("para decidir: gatte conflicts resolve ID --keep ours|theirs")


@app.command("resolve")
def resolve(
    conflict_id: Annotated[str, typer.Argument(metavar="CONFLICT_ID", help="As the list says.")],
    keep: Annotated[Keep, typer.Option("--keep", help="Whose side is to stand.")],
    as_of: AsOf = "",
    as_json: AsJson = False,
) -> None:
    """Let one side of a conflict stand; the next run of the sync carries it over."""
    with wired() as wiring:
        report = wiring.run(
            "resolve_conflict",
            as_of=parse_as_of(as_of),
            conflict_id=conflict_id,
            keep=keep.value,
        )
    print_report(report, as_json=as_json)


def _print_table(found: list[Conflict]) -> None:
    table = Table(
        "id",
        "sistema",
        "tabela",
        "linha",
        "campo",
        "o que houve",
        "vale",
        "quando (UTC)",
        "decidido",
        box=None,
        pad_edge=False,
    )
    table.columns[0].no_wrap = table.columns[3].no_wrap = True
    for conflict in found:
        table.add_row(
            str(conflict.conflict_id),
            conflict.system,
            conflict.table_name,
            str(conflict.local_id),
            conflict.field or "",
            _KINDS_PT[conflict.kind],
            _SIDES_PT[conflict.winner],
            _instant(conflict.found_at),
            "" if conflict.resolution is None else _SIDES_PT[conflict.resolution],
        )
    console.print(table)


def _print_values(found: list[Conflict]) -> None:
    """One block a conflict: values are too long for a row."""
    for conflict in found:
        decided = (
            "" if conflict.resolution is None else "; decidido: " + (_SIDES_PT[conflict.resolution])
        )
        console.print(f"{conflict.conflict_id}")
        console.print(
            f"  {conflict.system}, {conflict.table_name} {conflict.local_id}"
            f"{f', {conflict.field}' if conflict.field else ''}: {_KINDS_PT[conflict.kind]}, "
            f"{_instant(conflict.found_at)} UTC"
        )
        console.print(f"  nosso: {_shown(conflict.our_value)}")
        console.print(f"  deles: {_shown(conflict.their_value)}")
        console.print(f"  vale: {_SIDES_PT[conflict.winner]}{decided}")
        console.print()


def _shown(value: str | None) -> str:
    """A value as text for a terminal, which obeys characters that do not print."""
    if value is None:
        return "(vazio)"
    return "".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in value)


def _instant(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M}"


def _to_json(conflict: Conflict) -> dict[str, Any]:
    """A conflict without its values."""
    return {
        "conflict_id": conflict.conflict_id,
        "system": conflict.system,
        "table": conflict.table_name,
        "local_id": conflict.local_id,
        "field": conflict.field,
        "kind": conflict.kind,
        "winner": conflict.winner.value,
        "found_at": conflict.found_at.isoformat(),
        "resolved_at": conflict.resolved_at and conflict.resolved_at.isoformat(),
        "resolution": conflict.resolution and conflict.resolution.value,
    }
