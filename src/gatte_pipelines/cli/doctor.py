"""`gatte doctor`: what stands in the way of the flows, and what to do about it."""

from __future__ import annotations

import typer
from rich.table import Table

from gatte_pipelines.cli.console import AsJson, console, print_json, wired
from gatte_pipelines.doctor.checkup import examine
from gatte_pipelines.health import State

_STYLES = {State.OK: "green", State.WARNING: "yellow", State.ERROR: "red"}


def doctor(as_json: AsJson = False) -> None:
    """Look at database, settings and Pipedrive and change nothing; exit 1 where one is broken."""
    with wired() as wiring:
        lines = list(examine(wiring.checks()))
    is_broken = any(line.finding.state is State.ERROR for line in lines)
    if as_json:
        findings = [
            {
                "check": line.check,
                "state": line.finding.state.value,
                "text": line.finding.text,
                "advice": line.finding.advice,
            }
            for line in lines
        ]
        print_json({"ok": not is_broken, "findings": findings})
    else:
        table = Table("", "verificação", "resultado", box=None, pad_edge=False)
        for line in lines:
            found = line.finding
            words = f"{found.text}\n→ {found.advice}" if found.advice else found.text
            table.add_row(found.state.value, line.check, words, style=_STYLES[found.state])
        console.print(table)
    if is_broken:
        raise typer.Exit(1)
