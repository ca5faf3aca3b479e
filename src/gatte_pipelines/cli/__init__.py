"""`gatte`: the operations of this project without Prefect.

Each command reads the settings, builds from ``wiring``, calls one function and prints its result.
Rules of any kind belong below.
"""

from __future__ import annotations

import dataclasses
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from gatte_pipelines.cli import certificates, conflicts, crm, lgpd, quality
from gatte_pipelines.cli.console import (
    AsJson,
    AsOf,
    bars,
    console,
    error_console,
    parse_as_of,
    print_json,
    print_report,
    wired,
)
from gatte_pipelines.cli.doctor import doctor
from gatte_pipelines.errors import ConfigurationError
from gatte_pipelines.logging_setup import install_log_redaction
from gatte_pipelines.run_report import reason_pt
from gatte_pipelines.safe_errors import safe_error
from gatte_pipelines.settings import Settings

if TYPE_CHECKING:
    from gatte_pipelines.inbound.load import Progress

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,  # they print local variables, which hold personal data
    add_completion=False,
    help="Pipelines around the database of GATTE's WhatsApp chatbot.",
)
_db = typer.Typer(no_args_is_help=True, help="Migrations, login roles, comparison with DOC 01.")
_inbound = typer.Typer(no_args_is_help=True, help="WhatsApp webhook notification files.")
_quarantine = typer.Typer(no_args_is_help=True, help="Records that could not be loaded.")
_contexts = typer.Typer(no_args_is_help=True, help="The AI's session contexts.")
_sandbox = typer.Typer(no_args_is_help=True, help="A local Prefect, stand-ins, made-up traffic.")
app.add_typer(_db, name="db")
app.add_typer(_inbound, name="inbound")
app.add_typer(_quarantine, name="quarantine")
app.add_typer(_contexts, name="contexts")
app.add_typer(lgpd.app, name="lgpd")
app.add_typer(certificates.app, name="certificates")
app.add_typer(quality.app, name="quality")
app.add_typer(conflicts.app, name="conflicts")
app.add_typer(crm.app, name="crm")
app.command("doctor")(doctor)
app.add_typer(_sandbox, name="sandbox")


def main() -> None:
    """Run the command line; errors end in one line and an exit code, never in a traceback."""
    install_log_redaction()
    try:
        app()
    except Exception as error:  # noqa: BLE001 - the last one to catch; what it prints is made safe
        safe = safe_error(error)
        error_console.print(f"error: {safe.message}", style="red")
        sys.exit(safe.exit_code)


@_db.command("migrate")
def db_migrate(as_json: AsJson = False) -> None:
    """Bring the database to the newest migration and refresh the grants."""
    from gatte_pipelines.database import migrate, roles  # noqa: PLC0415

    with wired() as wiring:
        wiring.set_up_embedded()
        with wiring.connect("owner") as connection:
            done = migrate.migrate(connection)
            absent = roles.missing(connection)
    if as_json:
        print_json({"migrations": done, "missing_roles": absent})
        return
    console.print(f"migrations run: {', '.join(done) or 'none, the database is up to date'}")
    if absent:
        console.print(f"roles still missing: {', '.join(absent)}; create them with: gatte db roles")


@_db.command("roles")
def db_roles(
    print_sql: Annotated[
        bool, typer.Option("--sql", help="Print the statements for a DBA instead.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Create the three login roles and grant them their rights, column by column."""
    from gatte_pipelines.database import roles  # noqa: PLC0415

    if print_sql:
        sys.stdout.write(roles.creation_sql())
        return
    with wired() as wiring, wiring.connect("owner") as connection:
        created = roles.create(connection)
    if as_json:
        print_json({"created": created})
        return
    console.print(f"roles created: {', '.join(created) or 'none, all three were there'}")
    if created:
        console.print("set their passwords before anyone logs in over the network")


@_db.command("check")
def db_check(as_json: AsJson = False) -> None:
    """Compare the nine tables of the database with DOC 01; exit 1 where they differ."""
    from gatte_pipelines.database.drift import compare_with_doc01  # noqa: PLC0415

    with wired() as wiring, wiring.connect("owner") as connection:
        differences = compare_with_doc01(connection)
    if as_json:
        print_json({"differences": [dataclasses.asdict(item) for item in differences]})
    elif not differences:
        console.print("the nine tables are as DOC 01 and our additions say")
    else:
        table = Table("table", "what", "name", "expected", "found")
        for item in differences:
            table.add_row(
                item.table, str(item.kind), item.name, item.expected or "", item.found or ""
            )
        console.print(table)
    if differences:
        raise typer.Exit(1)


@_db.command("adopt")
def db_adopt(
    timestamps_are: Annotated[
        str,
        typer.Option(
            "--timestamps-are",
            metavar="ZONE",
            help="Zone in which plain timestamps were written, such as America/Sao_Paulo or UTC.",
        ),
    ] = "",
    merge_duplicate_users: Annotated[
        bool,
        typer.Option("--merge-duplicate-users", help="Make one of users with the same phone."),
    ] = False,
    cutover: Annotated[
        str,
        typer.Option(
            "--cutover",
            help="Events before this instant (ISO 8601 with offset) are skipped; now where empty.",
        ),
    ] = "",
    execute: Annotated[
        bool, typer.Option("--execute", help="Carry the plan out; without it nothing changes.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Take over a database that the chatbot's people made after DOC 01; a dry run by default."""
    from gatte_pipelines.database import adopt  # noqa: PLC0415

    with wired() as wiring, wiring.connect("owner") as connection:
        adoption = adopt.adopt(
            connection,
            zone=timestamps_are or None,
            merge_duplicates=merge_duplicate_users,
            cutover=parse_as_of(cutover, option="--cutover"),
            execute=execute,
            show=(lambda _line: None) if as_json else lambda line: error_console.print(f"… {line}"),
        )
    if as_json:
        print_json(dataclasses.asdict(adoption))
    else:
        for line in adopt.describe(adoption):
            console.print(line)
    if code := adopt.EXIT_CODES.get(adoption.state):
        raise typer.Exit(code)


@_inbound.command("load")
def inbound_load(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(help="Files to load; the landing zone where none is given."),
    ] = None,
    as_of: AsOf = "",
    as_json: AsJson = False,
) -> None:
    """Load webhook notification files (.json, .jsonl, .jsonl.gz) into the nine tables."""
    options: dict[str, Any] = {"paths": [str(path) for path in paths]} if paths else {}
    with wired() as wiring, bars("{task.fields[done]} records", enabled=not as_json) as update:

        def show(progress: Progress) -> None:
            update(
                completed=progress.done,
                total=progress.total,
                done=f"{progress.units:,}",
            )

        report = wiring.run("inbound_messages", as_of=parse_as_of(as_of), progress=show, **options)
    print_report(report, as_json=as_json)


@_inbound.command("find")
def inbound_find(
    days: Annotated[
        int, typer.Option(min=0, max=3650, help="Days of the archive to look through; 0: none.")
    ] = 30,
    as_of: AsOf = "",
    as_json: AsJson = False,
) -> None:
    """Say why a message is there, or is not; reads its wamid (or chatbot:ID) from standard input.

    Exit code 1 where it was found nowhere. No content, phone, name or wamid is printed.
    """
    from gatte_pipelines.inbound.find import NOT_FOUND, Finder  # noqa: PLC0415
    from gatte_pipelines.inbound.find_lines import MAX_INPUT_BYTES, parse_id  # noqa: PLC0415
    from gatte_pipelines.inbound.find_words import describe  # noqa: PLC0415
    from gatte_pipelines.landing import LandingZone  # noqa: PLC0415

    if sys.stdin.isatty():
        error_console.print("wamid (ou chatbot:ID): ", end="")
        given = sys.stdin.buffer.readline(MAX_INPUT_BYTES + 1)
    else:
        given = sys.stdin.buffer.read(MAX_INPUT_BYTES + 1)
    sought = parse_id(given)
    with (
        wired() as wiring,
        bars("{task.fields[done]}", enabled=not as_json) as update,
        wiring.migrated() as connection,
    ):
        finder = Finder(
            connection=connection,
            ids=wiring.message_ids,
            zone=LandingZone(wiring.settings.landing_url),
            as_of=parse_as_of(as_of) or datetime.now(UTC),
            days=days,
        )
        finding = finder.find(
            sought,
            lambda done, total: update(completed=done, total=total, done=f"{done}/{total}"),
        )
    if as_json:
        print_json(dataclasses.asdict(finding))
    else:
        answer = describe(finding)
        console.print(answer.headline)
        table = Table(box=None, show_header=False, pad_edge=False)
        for label, text in answer.rows:
            table.add_row(label, text)
        console.print(table)
        for line in answer.advice:
            console.print(f"→ {line}")
    if finding.verdict in NOT_FOUND:
        raise typer.Exit(1)


@_quarantine.command("list")
def quarantine_list(
    reason: Annotated[str, typer.Option(help="Only records of this reason.")] = "",
    limit: Annotated[int, typer.Option(min=1, help="How many records to show.")] = 50,
    as_json: AsJson = False,
) -> None:
    """Show how many records wait in quarantine and the newest ones, never their content."""
    from gatte_pipelines.inbound import quarantine  # noqa: PLC0415

    with wired() as wiring, wiring.migrated() as connection:
        counts = quarantine.read_counts(connection)
        entries = quarantine.read_entries(connection, reason=reason or None, limit=limit)
    if as_json:
        print_json({"counts": counts, "entries": [dataclasses.asdict(item) for item in entries]})
        return
    if not counts:
        console.print("a quarentena está vazia")
        return
    totals = Table("motivo", "código", "registros", title="Quarentena")
    for code, count in counts.items():
        totals.add_row(reason_pt(code), code, str(count))
    console.print(totals)
    newest = Table("quando (UTC)", "código", "tipo", "arquivo", "linha", "campo", "tentativas")
    for item in entries:
        newest.add_row(
            f"{item.quarantined_at:%Y-%m-%d %H:%M}",
            item.reason,
            item.kind,
            item.source_name,
            str(item.line),
            item.field or "",
            str(item.attempts),
        )
    console.print(newest)
    console.print("para tentar de novo: gatte quarantine replay [--reason CÓDIGO]")


@_quarantine.command("replay")
def quarantine_replay(
    reason: Annotated[str, typer.Option(help="Only records of this reason.")] = "",
    limit: Annotated[int, typer.Option(min=1, help="How many records to try at most.")] = 10_000,
    as_of: AsOf = "",
    as_json: AsJson = False,
) -> None:
    """Try quarantined records again; what loads leaves the quarantine."""
    with wired() as wiring:
        report = wiring.run(
            "quarantine_replay", as_of=parse_as_of(as_of), reason=reason or None, limit=limit
        )
    print_report(report, as_json=as_json)


@_contexts.command("expire")
def contexts_expire(as_of: AsOf = "", as_json: AsJson = False) -> None:
    """Delete contexts past their TTL and close conversations that fell silent."""
    with wired() as wiring:
        report = wiring.run("session_context_expiry", as_of=parse_as_of(as_of))
    print_report(report, as_json=as_json)


@app.command("watchdog")
def watchdog(as_of: AsOf = "", as_json: AsJson = False) -> None:
    """Mail staff about failed, stale and waiting runs (those that reached the database)."""
    with wired() as wiring:
        report = wiring.run("watchdog", as_of=parse_as_of(as_of))
    print_report(report, as_json=as_json)


@_sandbox.command("generate")
def sandbox_generate(
    out: Annotated[Path, typer.Option(help="File to write; .gz compresses.")],
    messages: Annotated[int, typer.Option(min=1)] = 1_000,
    users: Annotated[int, typer.Option(min=1)] = 100,
    seed: Annotated[int, typer.Option(min=0)] = 1,
    as_of: Annotated[
        str, typer.Option("--as-of", help="Event times end here (ISO 8601 with offset).")
    ] = "2026-11-20T18:00:00+00:00",
    clients: Annotated[int, typer.Option(min=1, help="Clients talking at a time.")] = 200,
    other_kinds_pct: Annotated[
        float, typer.Option(min=0, max=100, help="Messages that are not text.")
    ] = 0.0,
    chatbot_pct: Annotated[
        float, typer.Option(min=0, max=90, help="Chatbot events, of messages and these together.")
    ] = 0.0,
    edit_pct: Annotated[
        float, typer.Option(min=0, max=100, help="Edits, on top of the messages.")
    ] = 0.0,
    revoke_pct: Annotated[
        float, typer.Option(min=0, max=100, help="Removals, on top of the messages.")
    ] = 0.0,
    echo_pct: Annotated[
        float, typer.Option(min=0, max=100, help="Answers of the staff, on top of the messages.")
    ] = 0.0,
    group_pct: Annotated[
        float, typer.Option(min=0, max=100, help="Messages of groups, on top of the messages.")
    ] = 0.0,
    number_change_pct: Annotated[
        float, typer.Option(min=0, max=100, help="Clients who change their number.")
    ] = 0.0,
    opt_out_pct: Annotated[
        float, typer.Option(min=0, max=100, help="Clients who stop marketing messages.")
    ] = 0.0,
    bsuid_first_pct: Annotated[
        float,
        typer.Option(min=0, max=100, help="Clients known by user id before their number."),
    ] = 0.0,
    as_json: AsJson = False,
) -> None:
    """Write made-up WhatsApp traffic; the same arguments give the same bytes."""
    from gatte_pipelines.sandbox.generate import generate  # noqa: PLC0415
    from gatte_pipelines.sandbox.traffic import TrafficPlan  # noqa: PLC0415

    instant = parse_as_of(as_of)
    if instant is None:
        raise ConfigurationError("--as-of must be given, or left at its default")
    plan = TrafficPlan(
        messages=messages,
        users=users,
        seed=seed,
        as_of=instant,
        concurrent_clients=clients,
        other_kinds_pct=other_kinds_pct,
        chatbot_pct=chatbot_pct,
        edit_pct=edit_pct,
        revoke_pct=revoke_pct,
        echo_pct=echo_pct,
        group_pct=group_pct,
        number_change_pct=number_change_pct,
        opt_out_pct=opt_out_pct,
        bsuid_first_pct=bsuid_first_pct,
    )
    with bars("{task.fields[done]} messages", enabled=not as_json) as update:
        counts = generate(
            plan, out, lambda done: update(completed=done, total=messages, done=f"{done:,}")
        )
    if as_json:
        print_json(dataclasses.asdict(counts))
        return
    console.print(
        f"{out}: {counts.lines:,} lines, {counts.messages:,} messages, "
        f"{counts.statuses:,} statuses, {counts.redeliveries + counts.status_redeliveries:,} "
        f"redeliveries, {counts.chatbot_events:,} chatbot events, "
        f"{sum(counts.others.values()):,} others, {sum(counts.bad.values()):,} bad; "
        f"sha256 {counts.sha256}"
    )


@_sandbox.command("run")
def sandbox_run() -> None:
    """Run every flow once as a real Prefect flow run, print a table, leave nothing running."""
    from gatte_pipelines.sandbox.local_stack import run_once  # noqa: PLC0415

    raise typer.Exit(run_once(Settings.from_environment(), _echo))


@_sandbox.command("up")
def sandbox_up() -> None:
    """Start Prefect, a worker, the schedules and the stand-ins in the background."""
    from gatte_pipelines.sandbox.local_stack import up  # noqa: PLC0415

    raise typer.Exit(up(Settings.from_environment(), _echo))


@_sandbox.command("down")
def sandbox_down() -> None:
    """Stop what `gatte sandbox up` started."""
    from gatte_pipelines.sandbox.local_stack import down  # noqa: PLC0415

    raise typer.Exit(down(Settings.from_environment(), _echo))


def _echo(line: str) -> None:
    console.print(line)
