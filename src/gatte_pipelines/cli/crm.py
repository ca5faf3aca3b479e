"""`gatte crm`: keep leads and Pipedrive in step."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

import typer
from rich.table import Table

from gatte_pipelines.cli.console import AsJson, bars, console, print_report, wired

app = typer.Typer(no_args_is_help=True, help="Leads and Pipedrive.")


class Direction(StrEnum):
    """Which way changes may go."""

    BOTH = "both"
    PUSH = "push"
    PULL = "pull"


@app.command("sync")
def sync(
    direction: Annotated[
        Direction, typer.Option("--direction", help="push: only to Pipedrive; pull: only from it.")
    ] = Direction.BOTH,
    since: Annotated[
        str,
        typer.Option(
            "--since",
            help="Read again what changed there since this date, or ISO 8601 instant with offset; "
            "since the last run where empty.",
        ),
    ] = "",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would change; nothing does.")
    ] = False,
    approve: Annotated[
        str, typer.Option("--approve", metavar="PLAN_ID", help="Carry out exactly this plan.")
    ] = "",
    as_json: AsJson = False,
) -> None:
    """Carry over what changed since the last run, both ways; new leads are created there once."""
    documents: dict[str, Any] = {}
    with wired() as wiring, bars("{task.fields[done]}", enabled=not as_json) as show:
        report = wiring.run(
            "crm_sync",
            progress=lambda progress: show(
                completed=progress.done, total=progress.total, done=f"{progress.done:,}"
            ),
            direction=direction.value,
            since=since,
            dry_run=dry_run,
            approve=approve,
            documents=documents,
        )
    if not as_json:
        for title, rows in documents.values():
            _print_rows(title, rows)
    print_report(report, as_json=as_json)


def _print_rows(title: str, rows: list[dict[str, Any]]) -> None:
    if not rows:
        return
    table = Table(*rows[0], title=title, box=None, pad_edge=False, title_justify="left")
    for row in rows:
        table.add_row(*map(str, row.values()))
    console.print(table)
