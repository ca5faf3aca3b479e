"""Adopt a database that the chatbot's own people made after DOC 01: plan, repair, convert, stamp.

What the structure needs belongs to ``adopt_structure``, what the rows need to ``adopt_rows``, what
is added after DOC 01 to the migrations. docs/decisions/0007 has the reasons.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql
from psycopg.rows import namedtuple_row
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from gatte_pipelines.database import migrate, roles
from gatte_pipelines.database.adopt_rows import plan_rows, read_undo_records, store_undo_records
from gatte_pipelines.database.adopt_structure import (
    MAX_IDS,
    Finding,
    Step,
    Structure,
    StructurePlanner,
)
from gatte_pipelines.database.drift import Difference, Kind, compare_with_doc01
from gatte_pipelines.database.engine import psycopg_connection
from gatte_pipelines.database.names import NINE, SCHEMA
from gatte_pipelines.database.statements import read_statements
from gatte_pipelines.errors import ConfigurationError, GatteError, PermanentError, RetryableError
from gatte_pipelines.safe_errors import safe_error

SQL = read_statements(Path(__file__).with_suffix(".sql"))

BASELINE = "0001"
"""The revision that is DOC 01; an adopted database is stamped with it, the rest is run."""

CUTOVER_SETTING = "adopted_at"
"""Setting with the cut-over time: events before it are ``skipped{before_cutover}``."""

# The chatbot waits behind our lock requests as well: longer, and its clients notice.
LOCK_TIMEOUT = "3s"

# Clocks of two machines differ; a message this far ahead of the cut-over says nothing of zones.
_CLOCK_SKEW = timedelta(minutes=10)


EXIT_CODES = {"question": 2, "blocked": 1}
"""What a state means for a script; the others are 0."""

# Ids of a statement shown to a person; --json has all.
_SHOWN_IDS = 10
_ID_LIST = re.compile(rf"('{{(?:[0-9a-f-]{{36}},){{{_SHOWN_IDS - 1}}}[0-9a-f-]{{36}}),[0-9a-f,-]+")


@dataclass
class Adoption:
    """The plan, and whether it was carried out.

    ``state``: ``planned`` (dry run), ``question`` (the zone of plain timestamps is missing),
    ``blocked``, ``adopted`` or ``already`` (nothing to adopt). Holds counts and row ids only.
    """

    state: str
    question: str | None = None
    blocks: list[Finding] = field(default_factory=list)
    conversions: list[Step] = field(default_factory=list)
    repairs: list[Step] = field(default_factory=list)
    additions: list[Step] = field(default_factory=list)
    by_migrations: list[str] = field(default_factory=list)
    warnings: list[Finding] = field(default_factory=list)
    left_alone: list[str] = field(default_factory=list)
    revisions: list[str] = field(default_factory=list)
    missing_roles: list[str] = field(default_factory=list)
    cutover: str | None = None


def adopt(
    connection: Connection,
    *,
    zone: str | None = None,
    merge_duplicates: bool = False,
    cutover: datetime | None = None,
    execute: bool = False,
    show: Callable[[str], None] = lambda _line: None,
) -> Adoption:
    """Plan the adoption of a database and, with ``execute``, carry it out in one transaction.

    Args:
        connection: Logged in as the owner of the nine tables, outside a transaction.
        zone: IANA name of the zone in which plain timestamps were written.
        merge_duplicates: Make one of users that have the same phone.
        cutover: Instant from which inbound events count; now where None.
        execute: Without it nothing is changed.
        show: Called with one line before each step that is carried out.

    Returns:
        The plan; ``state`` says whether it was carried out.

    Raises:
        ConfigurationError: No such zone, an empty database, or not the owner's login.
        RetryableError: Somebody holds a table longer than ``LOCK_TIMEOUT``. Nothing was changed.
        PermanentError: PostgreSQL refused a step. Nothing was changed.
    """
    driver = psycopg_connection(connection)
    try:
        with connection.begin():
            already = _assert_adoptable(connection, driver, zone)
            if already is not None:
                return already
            if not execute:
                connection.execute(text("set transaction read only"))
            adoption = _plan(connection, driver, zone, cutover, merge_duplicates=merge_duplicates)[
                0
            ]
            if not execute or adoption.state != "planned":
                return adoption
            _lock(driver)
            already = _assert_adoptable(connection, driver, zone)
            if already is not None:
                return already
            # Again, now that nobody writes any more: what is planned is what is done.
            adoption, merges, left_alone = _plan(
                connection, driver, zone, cutover, merge_duplicates=merge_duplicates
            )
            if adoption.state == "planned":
                _carry_out(connection, driver, adoption, merges, left_alone, show)
            return adoption
    except (DBAPIError, psycopg.Error) as error:
        raise _adoption_error(error, "the adoption") from None


def _assert_adoptable(
    connection: Connection, driver: psycopg.Connection, zone: str | None
) -> Adoption | None:
    if zone is not None and not _value(driver, "is_zone", zone=zone):
        raise ConfigurationError(
            "--timestamps-are must be a time zone's name as in America/Sao_Paulo or UTC; "
            "an abbreviation or an offset is none"
        )
    revision = migrate.current_revision(connection)
    if revision is not None:
        return Adoption("already", revisions=[revision])
    found = connection.scalar(
        text(
            "select count(*) from pg_class where relnamespace = 'public'::regnamespace "
            "and relname = any(:nine)"
        ),
        {"nine": list(NINE)},
    )
    if not found:
        raise ConfigurationError(
            "this database has none of DOC 01's nine tables, so there is nothing to adopt; "
            "run: gatte db migrate"
        )
    return None


def _plan(
    connection: Connection,
    driver: psycopg.Connection,
    zone: str | None,
    cutover: datetime | None,
    *,
    merge_duplicates: bool,
) -> tuple[Adoption, list[Any], list[Difference]]:
    structure = StructurePlanner(driver, zone).plan(compare_with_doc01(connection))
    rows = plan_rows(driver, structure, merge_duplicates=merge_duplicates)
    blocks = structure.blocks + rows.blocks
    warnings = structure.warnings + rows.warnings
    question = None
    if structure.plain_columns and zone is None:
        question = _zone_question(driver, structure)
    elif zone is not None and structure.plain_columns:
        warnings.append(_session_zone_warning(driver, zone))
    at = cutover or datetime.now(UTC)
    if question is None and structure.is_sound("messages", "id", "created_at"):
        blocks += _late_messages(driver, structure, zone, at)
    adoption = Adoption(
        state="blocked" if blocks else "question" if question else "planned",
        question=question,
        blocks=blocks,
        conversions=structure.conversions,
        repairs=rows.repairs,
        additions=structure.additions,
        by_migrations=structure.by_migrations,
        warnings=warnings,
        left_alone=[str(item) for item in structure.left_alone],
        revisions=migrate.revisions(),
        missing_roles=roles.missing(connection),
        cutover=at.astimezone(UTC).isoformat(),
    )
    return adoption, rows.merges, structure.left_alone


def _lock(driver: psycopg.Connection) -> None:
    driver.execute(
        sql.SQL("select set_config('lock_timeout', {}, true)").format(sql.Literal(LOCK_TIMEOUT))
    )
    try:
        # Two at once: the second waits, then finds the database adopted.
        driver.execute("select pg_advisory_xact_lock(hashtext('gatte_pipelines.migrate'))")
        for table in NINE:
            driver.execute(
                sql.SQL("lock table {} in access exclusive mode").format(
                    sql.Identifier("public", table)
                )
            )
    except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected):
        raise RetryableError(
            f"somebody uses the nine tables (waited {LOCK_TIMEOUT} for a lock); nothing was "
            "changed. Stop the chatbot's writers and its panels, then try again"
        ) from None
    # Foreign keys checked at the end would keep the tables from being altered.
    driver.execute("set constraints all immediate")


def _carry_out(
    connection: Connection,
    driver: psycopg.Connection,
    adoption: Adoption,
    merges: Sequence[Any],
    left_alone: Sequence[Difference],
    show: Callable[[str], None],
) -> None:
    _run(driver, adoption.conversions, show)
    # After the conversion, so that the instants in them have their zone.
    records = read_undo_records(driver, merges)
    _run(driver, adoption.repairs, show)
    _run(driver, adoption.additions, show)
    show(f"migrations {', '.join(adoption.revisions)}, grants")
    try:
        _migrate(connection)
    except (DBAPIError, psycopg.Error) as error:
        raise _adoption_error(error, "the migration") from None
    store_undo_records(driver, records)
    driver.execute(SQL["register_staff"])
    driver.execute(SQL["note_chatbot_names"])
    driver.execute(SQL["record_cutover"], {"cutover": adoption.cutover})
    _assert_as_planned(connection, left_alone)
    adoption.state = "adopted"


def _run(driver: psycopg.Connection, steps: Sequence[Step], show: Callable[[str], None]) -> None:
    for step in steps:
        show(step.text)
        try:
            # The planner quoted every name and value.
            driver.execute(step.statement)
        except psycopg.Error as error:
            raise _adoption_error(error, step.text) from None


def _migrate(connection: Connection) -> None:
    from alembic import command  # noqa: PLC0415 - only migrations need it
    from alembic.config import Config  # noqa: PLC0415

    config = Config()
    folder = Path(migrate.__file__).with_name("migrations")
    config.set_main_option("script_location", str(folder).replace("%", "%%"))
    config.attributes["connection"] = connection
    connection.execute(text(f"create schema if not exists {SCHEMA}"))
    command.stamp(config, BASELINE)
    command.upgrade(config, "head")
    roles.grant(connection)


def _assert_as_planned(connection: Connection, left_alone: Sequence[Difference]) -> None:
    unplanned = [
        item
        for item in compare_with_doc01(connection)
        if item.kind is not Kind.NOTE and item not in left_alone
    ]
    if unplanned:
        raise PermanentError(
            f"after all steps this would still differ from DOC 01: {unplanned[0]}; nothing was "
            "changed, and this is a defect: report it with what gatte db check prints"
        )


def _zone_question(driver: psycopg.Connection, structure: Structure) -> str:
    names = [f"{table}.{column}" for table, column in structure.plain_columns]
    question = (
        f"{len(names)} columns are plain timestamps ({', '.join(names[:3])}"
        f"{', …' if len(names) > 3 else ''}): in which zone did the chatbot write them? "
        "Nobody but its people knows. Most likely America/Sao_Paulo (its server's clock) or UTC "
        "(cloud servers, Prisma, most ORMs). To find out, send the chatbot a message and look at "
        "the newest created_at in messages: a time as on a watch in Brasília is "
        "America/Sao_Paulo, three hours ahead of it is UTC."
    )
    if ("messages", "created_at") in structure.plain_columns:
        with driver.cursor(row_factory=namedtuple_row) as cursor:
            row: Any = cursor.execute(SQL["newest_plain_message"]).fetchone()
        if row is not None and row.age_utc is not None:
            question += (
                f" The newest message here is {_age(row.age_sao_paulo)} old read as "
                f"America/Sao_Paulo, {_age(row.age_utc)} old read as UTC."
            )
    return question + " Then say --timestamps-are ZONE."


def _age(age: timedelta) -> str:
    minutes = int(age.total_seconds() // 60)
    sign = "-" if minutes < 0 else ""
    days, rest = divmod(abs(minutes), 24 * 60)
    hours = f"{rest // 60:02}:{rest % 60:02} h"
    return f"{sign}{days} days {hours}" if days else f"{sign}{hours}"


def _session_zone_warning(driver: psycopg.Connection, zone: str) -> Finding:
    statement = sql.SQL("alter role {} set timezone = {};").format(
        sql.Identifier("THE_CHATBOTS_ROLE"), sql.Literal(zone)
    )
    return Finding(
        "session_zone",
        "",
        "a time that the chatbot writes without an offset is from then on read in the zone of its "
        f"session; before it starts again, make that {zone}",
        statements=(statement.as_string(driver),),
    )


def _late_messages(
    driver: psycopg.Connection, structure: Structure, zone: str | None, cutover: datetime
) -> list[Finding]:
    """Messages after the cut-over: inbound would load them a second time, or the zone is wrong."""
    is_plain = ("messages", "created_at") in structure.plain_columns
    instant = (
        sql.SQL("created_at at time zone {}").format(sql.Literal(zone))
        if is_plain
        else sql.SQL("created_at")
    )
    query = sql.SQL(
        "select id::text as id, count(*) over () as total from public.messages "
        "where {} > {} order by id limit {}"
    ).format(instant, sql.Literal(cutover + _CLOCK_SKEW), sql.Literal(MAX_IDS))
    with driver.cursor(row_factory=namedtuple_row) as cursor:
        rows: list[Any] = list(cursor.execute(query).fetchall())
    if not rows:
        return []
    why = (
        f"read as {zone}, these messages are later than the cut-over: another zone, or a later "
        "--cutover?"
        if is_plain
        else "these messages are later than the cut-over; say a later --cutover or correct them"
    )
    return [Finding("after_cutover", "messages", why, rows[0].total, tuple(row.id for row in rows))]


def _value(driver: psycopg.Connection, name: str, **values: object) -> Any:
    row = driver.execute(SQL[name], values).fetchone()
    return None if row is None else row[0]


def _adoption_error(error: DBAPIError | psycopg.Error, what: str) -> GatteError:
    cause = error.orig if isinstance(error, DBAPIError) else error
    if isinstance(cause, psycopg.errors.InsufficientPrivilege):
        return ConfigurationError(
            "this user may not change the database's structure; nothing was changed. Set "
            "GATTE_MIGRATION_DATABASE_URL to the URL of the owner of the nine tables"
        )
    safe = safe_error(error)
    kind = RetryableError if isinstance(safe, RetryableError) else PermanentError
    return kind(f"PostgreSQL did not carry out: {what} ({safe.message}); nothing was changed")


def describe(adoption: Adoption) -> Iterator[str]:
    """The plan in plain language, then what to do next."""
    if adoption.state == "already":
        (revision,) = adoption.revisions
        yield f"nothing to adopt: the database is at migration {revision}"
        if revision != migrate.HEAD:
            yield "run: gatte db migrate"
        return
    yield from _describe_findings("BLOCKS ADOPTION", adoption.blocks)
    done = adoption.state == "adopted"
    yield from _describe_steps("converted" if done else "would be converted", adoption.conversions)
    yield from _describe_steps("repaired" if done else "would be repaired", adoption.repairs)
    yield from _describe_steps("added" if done else "would be added", adoption.additions)
    after = [revision for revision in adoption.revisions if revision > BASELINE]
    yield (
        f"{'stamped' if done else 'would be stamped'} as {BASELINE} (DOC 01); migrations "
        f"{', '.join(after)} add the schema {SCHEMA} and on the nine tables:"
    )
    for table in NINE:
        own = [line for line in adoption.by_migrations if line.startswith(f"{table}: ")]
        if own:
            yield f"  {table}: {', '.join(line.partition(': ')[2] for line in own)}"
    yield from _describe_findings("to know", adoption.warnings)
    if adoption.left_alone:
        yield "left alone, and no business of ours (privacy rules do not reach them):"
        yield from (f"  {line}" for line in adoption.left_alone)
    if adoption.question:
        yield f"QUESTION: {adoption.question}"
    yield from _describe_next(adoption)


def _describe_findings(title: str, findings: Sequence[Finding]) -> Iterator[str]:
    if findings:
        yield f"{title}:"
    for item in findings:
        rows = f" ({item.count} rows)" if item.count else ""
        yield f"  {item.text}{rows}"
        if item.ids:
            more = item.count - _SHOWN_IDS
            tail = f", and {more} more" if more > 0 else ""
            yield f"    ids: {', '.join(item.ids[:_SHOWN_IDS])}{tail}"
        yield from (f"    SQL: {_shorten(statement)}" for statement in item.statements)


def _describe_steps(title: str, steps: Sequence[Step]) -> Iterator[str]:
    if steps:
        yield f"{title}:"
    for step in steps:
        rows = "" if step.rows is None else f" (about {step.rows:,} rows)"
        yield f"  {step.text}{rows}"
        yield f"    SQL: {_shorten(step.statement)}"


def _describe_next(adoption: Adoption) -> Iterator[str]:
    if adoption.state == "adopted":
        yield f"adopted; events before {adoption.cutover} are skipped as before_cutover"
        if adoption.missing_roles:
            yield (
                f"roles still missing: {', '.join(adoption.missing_roles)}; create them with: "
                "gatte db roles"
            )
        yield "next: gatte db check"
        return
    yield "nothing was changed"
    if adoption.state == "blocked":
        yield "next: mend what blocks, then run gatte db adopt again"
    elif adoption.state == "question":
        yield "next: run it again with --timestamps-are"
    else:
        yield "next: make a backup, stop the chatbot, and run the same with --execute"


def _shorten(statement: str) -> str:
    """One line, with the first ids of a list."""
    line = " ".join(statement.split())
    return _ID_LIST.sub(lambda found: f"{found[1]},…", line)
