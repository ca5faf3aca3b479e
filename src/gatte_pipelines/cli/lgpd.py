"""`gatte lgpd`: retention, holds, the ledger, and requests of subjects.

Whom a request is about is read from standard input, never from arguments.
"""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime
from typing import Annotated
from uuid import UUID

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
from gatte_pipelines.database.engine import psycopg_connection
from gatte_pipelines.errors import ConfigurationError

app = typer.Typer(no_args_is_help=True, help="Retention, anonymisation and their proof (LGPD).")
_hold = typer.Typer(no_args_is_help=True, help="What must be kept for now, whatever its age.")
_ledger = typer.Typer(no_args_is_help=True, help="The record of what was destroyed.")
app.add_typer(_hold, name="hold")
app.add_typer(_ledger, name="ledger")

Execute = Annotated[
    bool, typer.Option("--execute", help="Do it; without this nothing is destroyed.")
]


@app.command("retention")
def retention(
    execute: Execute = False,
    approve: Annotated[
        str, typer.Option("--approve", metavar="PLAN_ID", help="Carry out exactly this plan.")
    ] = "",
    force: Annotated[
        bool,
        typer.Option("--force", help="Accept an --as-of in the future or before the last run."),
    ] = False,
    as_of: AsOf = "",
    as_json: AsJson = False,
) -> None:
    """Show what is past its time; with --execute anonymise and delete it, and prove it."""
    with wired() as wiring:
        report = wiring.run(
            "lgpd_retention",
            as_of=parse_as_of(as_of),
            execute=execute,
            approve=approve,
            force=force,
        )
    print_report(report, as_json=as_json)


@app.command("pause")
def pause(
    reason: Annotated[str, typer.Option(help="A short reason, without personal data.")],
) -> None:
    """Set the kill switch: a run that goes on stops at its next step, and none begins."""
    from gatte_pipelines.privacy.retention import pause as set_switch  # noqa: PLC0415

    if not reason.strip():
        raise ConfigurationError("--reason must say something")
    with wired() as wiring, wiring.migrated() as connection:
        set_switch(connection, reason=reason.strip(), at=datetime.now(UTC))
    console.print("a retenção está pausada; para liberar: gatte lgpd resume")


@app.command("resume")
def resume() -> None:
    """Take the kill switch back."""
    from gatte_pipelines.privacy.retention import resume as take_back  # noqa: PLC0415

    with wired() as wiring, wiring.migrated() as connection:
        take_back(connection, at=datetime.now(UTC))
    console.print("a retenção está liberada; a próxima execução continua de onde parou")


@_hold.command("place")
def hold_place(
    table: Annotated[str, typer.Argument(help="One of the nine; users holds a whole subject.")],
    row_id: Annotated[UUID, typer.Argument(help="The id of the row.")],
    reason: Annotated[str, typer.Option(help="Why, for the officer.")],
    owner: Annotated[str, typer.Option(help="Who answers for it.")],
    until: Annotated[
        str, typer.Option(help="When it ends (ISO 8601 with offset); by release where empty.")
    ] = "",
    as_json: AsJson = False,
) -> None:
    """Keep a subject or a row until released."""
    from gatte_pipelines.privacy.holds import place_hold  # noqa: PLC0415

    with wired() as wiring, wiring.migrated() as connection, wiring.ledger() as ledger:
        hold_id = place_hold(
            psycopg_connection(connection),
            ledger,
            table=table,
            row_id=row_id,
            reason=reason,
            owner=owner,
            ends_at=parse_as_of(until, option="--until"),
            at=datetime.now(UTC),
        )
    if as_json:
        print_json({"hold_id": hold_id})
    else:
        console.print(f"retenção suspensa: {hold_id}; para liberar: gatte lgpd hold release ID")


@_hold.command("release")
def hold_release(
    hold_id: Annotated[UUID, typer.Argument(help="As hold place printed it.")],
) -> None:
    """End a hold; the next run meets what it kept."""
    from gatte_pipelines.privacy.holds import release_hold  # noqa: PLC0415

    with wired() as wiring, wiring.migrated() as connection, wiring.ledger() as ledger:
        release_hold(psycopg_connection(connection), ledger, hold_id=hold_id, at=datetime.now(UTC))
    console.print("liberada; a próxima execução da retenção trata o que venceu")


@_hold.command("list")
def hold_list(
    everything: Annotated[
        bool, typer.Option("--all", help="Also those that ended or were released.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show the holds in force."""
    from gatte_pipelines.privacy.holds import read_holds  # noqa: PLC0415

    with wired() as wiring, wiring.migrated() as connection:
        holds = read_holds(
            psycopg_connection(connection), in_force_at=None if everything else datetime.now(UTC)
        )
    if as_json:
        print_json([dataclasses.asdict(hold) for hold in holds])
        return
    if not holds:
        console.print("nenhuma suspensão em vigor")
        return
    table = Table("id", "tabela", "linha", "motivo", "responsável", "desde", "até", "liberada")
    for hold in holds:
        table.add_row(
            str(hold.hold_id),
            hold.table_name,
            str(hold.row_id),
            hold.reason,
            hold.owner,
            f"{hold.placed_at:%Y-%m-%d}",
            f"{hold.ends_at:%Y-%m-%d}" if hold.ends_at else "até liberar",
            f"{hold.released_at:%Y-%m-%d}" if hold.released_at else "",
        )
    console.print(table)


@_ledger.command("verify")
def ledger_verify(as_json: AsJson = False) -> None:
    """Check the chain of the ledger and compare it with the copy outside; exit 1 on any fault."""
    with wired() as wiring, wiring.migrated() as connection:
        found = wiring.verify_ledger(connection)
    if as_json:
        print_json(dataclasses.asdict(found))
    else:
        for problem in found.problems:
            console.print(f"✗ {problem}")
        if not found.problems:
            console.print(
                f"o livro-razão está íntegro: {found.entries} registros no banco, "
                f"{found.outside_entries} fora dele; último hash {found.head_hash}"
            )
    if found.problems:
        raise typer.Exit(1)
