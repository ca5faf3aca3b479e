"""`gatte certificates`: tell of certificates that are about to expire."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from gatte_pipelines.cli.console import AsJson, AsOf, console, parse_as_of, print_report, wired

app = typer.Typer(no_args_is_help=True, help="Certificates that are about to expire.")


class Channel(StrEnum):
    """A way of telling a client."""

    WHATSAPP = "whatsapp"
    EMAIL = "email"


@app.command("alert")
def alert(
    execute: Annotated[
        bool, typer.Option("--execute", help="Send; without this it is only shown.")
    ] = False,
    approve: Annotated[
        str, typer.Option("--approve", metavar="PLAN_ID", help="Carry out exactly this plan.")
    ] = "",
    channel: Annotated[
        list[Channel] | None,
        typer.Option("--channel", help="Use only this channel; may be given twice."),
    ] = None,
    as_of: AsOf = "",
    as_json: AsJson = False,
) -> None:
    """Show which alerts are due; with --execute tell clients and staff."""
    documents: dict[str, str] = {}
    with wired() as wiring:
        report = wiring.run(
            "certificate_alerts",
            as_of=parse_as_of(as_of),
            execute=execute,
            approve=approve,
            channels=[each.value for each in channel or ()],
            documents=documents,
        )
    if not as_json:
        for markdown in documents.values():
            console.print(markdown)
    print_report(report, as_json=as_json)


@app.command("refresh")
def refresh(as_of: AsOf = "", as_json: AsJson = False) -> None:
    """Bring days_to_expire and status of every certificate to the business date."""
    with wired() as wiring:
        report = wiring.run("certificate_state", as_of=parse_as_of(as_of))
    print_report(report, as_json=as_json)
