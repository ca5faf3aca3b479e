"""`gatte quality`: whether the nine tables can be trusted."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.table import Table

from gatte_pipelines.cli.console import (
    AsJson,
    AsOf,
    bars,
    console,
    parse_as_of,
    print_json,
    print_markdown,
    print_report,
    wired,
)
from gatte_pipelines.quality.check import Progress
from gatte_pipelines.quality.scope import Mode
from gatte_pipelines.quality.suite_file import read_suites

app = typer.Typer(no_args_is_help=True, help="Quality of the nine tables.")


@app.command("check")
def check(
    table: Annotated[
        list[str] | None,
        typer.Option("--table", help="Judge only this table; may be given several times."),
    ] = None,
    mode: Annotated[
        Mode,
        typer.Option(
            "--mode", help="auto: of conversations and messages what changed, weekly everything."
        ),
    ] = Mode.AUTO,
    as_of: AsOf = "",
    as_json: AsJson = False,
) -> None:
    """Judge the tables; exit 1 where a critical check fails or one could not be carried out."""
    with wired() as wiring, bars("{task.fields[done]}", enabled=not as_json) as show:

        def tell(progress: Progress) -> None:
            show(completed=progress.done, total=progress.total, done=progress.table)

        documents: dict[str, Any] = {}
        try:
            report = wiring.run(
                "data_quality",
                as_of=parse_as_of(as_of),
                progress=tell,
                tables=table or [],
                mode=mode.value,
                documents=documents,
            )
        finally:
            # Also of a run that ends red: what failed, what it means and who acts.
            if not as_json and "resumo" in documents:
                print_markdown(documents["resumo"])
    print_report(report, as_json=as_json)


@app.command("list")
def list_checks(as_json: AsJson = False) -> None:
    """List every check: its name, how bad its failure is, what it means and who acts."""
    checks = [check for suite in read_suites() for check in suite.checks]
    if as_json:
        print_json(
            [
                {"check": one.name, "severity": one.severity, "says": one.says, "acts": one.acts}
                for one in checks
            ]
        )
        return
    table = Table("check", "severity", "what its failure means", "who acts", box=None)
    for one in checks:
        table.add_row(one.name, one.severity.value, one.says, one.acts)
    console.print(table)
