"""`gatte lgpd`: retention, holds, the ledger, and requests of subjects.

Whom a request is about is read from standard input, never from arguments.
"""

from __future__ import annotations

import dataclasses
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated
from uuid import UUID

import typer
from rich.table import Table

from gatte_pipelines.cli.console import (
    AsJson,
    AsOf,
    console,
    error_console,
    parse_as_of,
    print_json,
    print_report,
    wired,
)
from gatte_pipelines.database.engine import psycopg_connection
from gatte_pipelines.errors import ConfigurationError

app = typer.Typer(no_args_is_help=True, help="Retention, anonymisation and their proof (LGPD).")
_hold = typer.Typer(no_args_is_help=True, help="What must be kept for now, whatever its age.")
_subject = typer.Typer(no_args_is_help=True, help="Requests of subjects (LGPD art. 18).")
_ledger = typer.Typer(no_args_is_help=True, help="The record of what was destroyed.")
app.add_typer(_hold, name="hold")
app.add_typer(_subject, name="subject")
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


@app.command("report")
def report(as_of: AsOf = "", as_json: AsJson = False) -> None:
    """Write the officer's report in Portuguese, as a page and as Markdown."""
    with wired() as wiring, wiring.migrated() as connection:
        paths = wiring.report_to_officer(connection, as_of=parse_as_of(as_of) or datetime.now(UTC))
    _print_paths(paths, as_json=as_json)


@app.command("incident")
def incident(
    happened_at: Annotated[
        str, typer.Option("--happened-at", help="When it happened (ISO 8601 with offset).")
    ],
    known_at: Annotated[
        str, typer.Option("--known-at", help="When you knew that personal data were affected.")
    ],
    as_json: AsJson = False,
) -> None:
    """Write the incident kit: how many subjects by category, and what was already gone."""
    from gatte_pipelines.privacy import officer, officer_page  # noqa: PLC0415

    happened = parse_as_of(happened_at, option="--happened-at")
    known = parse_as_of(known_at, option="--known-at")
    if happened is None or known is None:
        raise ConfigurationError("--happened-at and --known-at must be given")
    with wired() as wiring, wiring.migrated() as connection:
        kit = officer.build_incident_kit(
            connection,
            wiring.outside_ledger,
            incident_at=happened,
            known_at=known,
            as_of=datetime.now(UTC),
        )
        paths = officer_page.save_document(kit, wiring.officer_reports)
    _print_paths(paths, as_json=as_json)


def _print_paths(paths: tuple[Path, Path], *, as_json: bool) -> None:
    if as_json:
        print_json({"markdown": paths[0], "html": paths[1]})
    else:
        console.print(f"página: {paths[1].resolve().as_uri()}")
        console.print(f"Markdown: {paths[0]}")


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


@app.command("restore-replay")
def restore_replay(execute: Execute = False, as_of: AsOf = "", as_json: AsJson = False) -> None:
    """After a backup was restored: erase again who was erased since, from the ledger outside."""
    from gatte_pipelines.privacy.restore import restore_replay as replay  # noqa: PLC0415

    with (
        wired() as wiring,
        wiring.migrated() as connection,
        wiring.ledger() as ledger,
        wiring.inbound_at_rest(),
    ):
        done = replay(
            connection,
            ledger=ledger,
            outside=wiring.outside_ledger,
            files=wiring.subject_files,
            as_of=parse_as_of(as_of) or datetime.now(UTC),
            execute=execute,
        )
    if as_json:
        print_json(dataclasses.asdict(done))
        return
    if not execute:
        console.print("simulação: nada foi alterado; para fazer: --execute")
    console.print(
        f"registros do livro-razão que faltavam: {done.entries}; usuários eliminados de novo: "
        f"{done.users}; leads: {done.leads}; suspensões recuperadas: {done.holds}"
    )
    if execute:
        console.print("agora: gatte lgpd retention --execute")


@_subject.command("find")
def subject_find(as_json: AsJson = False) -> None:
    """Find who has a phone or an e-mail, which is read from standard input."""
    from gatte_pipelines.privacy.subjects import describe_matches, find_subjects  # noqa: PLC0415

    if sys.stdin.isatty():
        error_console.print("telefone ou e-mail: ", end="")
    sought = sys.stdin.readline(_MAX_SOUGHT)
    with wired() as wiring, wiring.migrated() as connection:
        matches = find_subjects(connection, sought)
    if as_json:
        print_json(dataclasses.asdict(matches))
    else:
        for line in describe_matches(matches):
            console.print(line)
    if not matches.users and not matches.leads:
        raise typer.Exit(1)


SubjectId = Annotated[UUID, typer.Argument(help="users.id (or leads.id), as subject find says.")]
ReceivedAt = Annotated[
    str,
    typer.Option("--received-at", help="When the person asked (ISO 8601); now where empty."),
]


@_subject.command("export")
def subject_export(
    user_id: SubjectId, received_at: ReceivedAt = "", as_json: AsJson = False
) -> None:
    """Write everything about a person: JSON and a page in Portuguese, for 30 days."""
    _run_request("export", user_id, received_at, execute=True, as_json=as_json)


@_subject.command("erase")
def subject_erase(
    user_id: SubjectId,
    execute: Execute = False,
    received_at: ReceivedAt = "",
    as_json: AsJson = False,
) -> None:
    """Show what would go of a person; with --execute erase it everywhere, with a receipt."""
    _run_request("erase", user_id, received_at, execute=execute, as_json=as_json)


@_subject.command("list")
def subject_list(
    everything: Annotated[bool, typer.Option("--all", help="Also those that are done.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show open requests, the one due first at the top; exit 1 where one is overdue."""
    from gatte_pipelines.privacy.subject_requests import (  # noqa: PLC0415
        find_due,
        read_requests,
    )

    now = datetime.now(UTC)
    with wired() as wiring, wiring.migrated() as connection:
        requests = read_requests(connection, only_open=not everything)
    overdue = find_due(requests, as_of=now).overdue
    if as_json:
        print_json([dataclasses.asdict(request) for request in requests])
    elif not requests:
        console.print("nenhum pedido aberto")
    else:
        table = Table("pedido", "titular", "tipo", "situação", "recebido", "prazo", "dias")
        for request in requests:
            table.add_row(
                str(request.request_id),
                str(request.user_id),
                request.kind,
                request.state,
                f"{request.received_at:%Y-%m-%d}",
                f"{request.due_at:%Y-%m-%d}",
                str((request.due_at - now).days),
            )
        console.print(table)
    if overdue:
        raise typer.Exit(1)


def _run_request(
    kind: str, user_id: UUID, received_at: str, *, execute: bool, as_json: bool
) -> None:
    with wired() as wiring:
        report = wiring.run(
            "lgpd_subject_request",
            kind=kind,
            user_id=str(user_id),
            execute=execute,
            received_at=parse_as_of(received_at, option="--received-at"),
        )
    print_report(report, as_json=as_json)


# A phone or an e-mail; more than this is neither.
_MAX_SOUGHT = 1_000
