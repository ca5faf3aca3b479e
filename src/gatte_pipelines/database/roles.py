"""The three login roles and what each may do, column by column (design §2).

Roles log in under their own names; nobody switches roles inside a session. Creating roles needs
rights an owner may not have, so it is a command of its own; migrations only grant.
"""

from __future__ import annotations

from collections.abc import Iterator

from psycopg import sql
from sqlalchemy import Connection, text

from gatte_pipelines.database.engine import psycopg_connection
from gatte_pipelines.database.pipeline_tables import SCHEMA
from gatte_pipelines.database.tables import NINE
from gatte_pipelines.personal_data import CATALOGUE, is_reportable

PIPELINE, REPORTING, READER = "gatte_pipeline", "gatte_reporting", "gatte_reader"
ROLES = (PIPELINE, REPORTING, READER)
DBT_SCHEMAS = ("staging", "intermediate", "marts")

# Who writes what: the ownership table of design §2. user_id and conversation_id are there for
# merges of identities and conversations, started_at for a late message that comes first.
UPDATES: dict[str, tuple[str, ...]] = {
    "users": ("phone", "name", "email", "company", "login_token", "updated_at"),
    "conversations": (
        "user_id",
        "status",
        "mode",
        "current_flow",
        "transferred_to",
        "started_at",
        "closed_at",
        "total_messages",
    ),
    "messages": ("conversation_id", "content", "is_in_context"),
    "session_context": ("conversation_id", "messages_json", "ttl_expires_at", "updated_at"),
    "tickets": ("user_id", "conversation_id"),
    "leads": (
        "user_id",
        "name",
        "company",
        "phone",
        "email",
        "stage",
        "notes",
        "crm_id",
    ),
    "appointments": (
        "user_id",
        "scheduled_at",
        "duration_min",
        "status",
        "calendar_event_id",
    ),
    "services": (),
    "certificates": ("days_to_expire", "status", "alert_sent"),
}
INSERTS = ("users", "conversations", "messages", "session_context", "leads")
DELETES = ("conversations", "session_context")

# Written by triggers as their owner; our role may read them and, but for the history, trim them.
_TRIGGER_WRITTEN = ("row_history", "guard_refusals")
_READ_ONLY = ("alembic_version",)


def creation_sql() -> str:
    """The statements with which a DBA creates the roles; passwords are theirs to set."""
    return "\n".join(f"create role {role} login;" for role in ROLES) + "\n"


def missing(connection: Connection) -> list[str]:
    """Those of our roles that the server does not have."""
    found = set(
        connection.scalars(
            text("select rolname from pg_roles where rolname = any(:names)"),
            {"names": list(ROLES)},
        )
    )
    return [role for role in ROLES if role not in found]


def create(connection: Connection) -> list[str]:
    """Create the roles that are missing and grant them their rights.

    Returns:
        The roles created.
    """
    with connection.begin():
        connection.execute(text("select pg_advisory_xact_lock(hashtext('gatte_pipelines.migrate'))"))
        created = missing(connection)
        for role in created:
            connection.execute(text(f"create role {role} login"))
        if connection.scalar(text("select to_regclass('pipeline.alembic_version')")) is not None:
            grant(connection)
    return created


def grant(connection: Connection) -> None:
    """Give each existing role exactly its rights; inside the caller's transaction.

    Rights that stood there before are taken back first, so that a migration can also narrow them.
    """
    absent = set(missing(connection))
    cursor = psycopg_connection(connection).cursor()
    for role in ROLES:
        if role not in absent:
            for statement in _grants(connection, role):
                cursor.execute(statement)


def _grants(connection: Connection, role: str) -> Iterator[sql.Composed]:
    name = sql.Identifier(role)
    for schema in ("public", SCHEMA):
        yield sql.SQL("revoke all on all tables in schema {} from {}").format(
            sql.Identifier(schema), name
        )
        yield sql.SQL("revoke all on schema {} from {}").format(sql.Identifier(schema), name)
        # REVOKE on a table does not take back column grants.
        for table, columns in _columns(connection, schema).items():
            yield sql.SQL("revoke all ({}) on {} from {}").format(
                _list(columns), sql.Identifier(schema, table), name
            )
    if role == PIPELINE:
        yield from _pipeline_grants(connection, name)
    elif role == REPORTING:
        yield from _reporting_grants(connection, name)
    else:
        yield from _reader_grants(name)


def _pipeline_grants(connection: Connection, name: sql.Identifier) -> Iterator[sql.Composed]:
    yield sql.SQL("grant usage on schema public, {} to {}").format(sql.Identifier(SCHEMA), name)
    for table in NINE:
        target = sql.Identifier("public", table)
        yield sql.SQL("grant select on {} to {}").format(target, name)
        if table in INSERTS:
            yield sql.SQL("grant insert on {} to {}").format(target, name)
        if table in DELETES:
            yield sql.SQL("grant delete on {} to {}").format(target, name)
        if UPDATES[table]:
            yield sql.SQL("grant update ({}) on {} to {}").format(
                _list(UPDATES[table]), target, name
            )
    for table in _columns(connection, SCHEMA):
        rights = "select, insert, update, delete"
        if table in _TRIGGER_WRITTEN:
            rights = "select, delete"
        elif table in _READ_ONLY:
            rights = "select"
        yield sql.SQL("grant {} on {} to {}").format(
            sql.SQL(rights), sql.Identifier(SCHEMA, table), name
        )
    yield sql.SQL("grant usage on all sequences in schema {} to {}").format(
        sql.Identifier(SCHEMA), name
    )


def _reporting_grants(connection: Connection, name: sql.Identifier) -> Iterator[sql.Composed]:
    yield sql.SQL("grant usage on schema public, {} to {}").format(sql.Identifier(SCHEMA), name)
    for schema in ("public", SCHEMA):
        for table, columns in _columns(connection, schema).items():
            qualified = f"{schema}.{table}"
            if qualified not in CATALOGUE:
                continue
            readable = [column for column in columns if is_reportable(qualified, column)]
            if readable:
                yield sql.SQL("grant select ({}) on {} to {}").format(
                    _list(readable), sql.Identifier(schema, table), name
                )
    for schema in DBT_SCHEMAS:
        yield sql.SQL("create schema if not exists {}").format(sql.Identifier(schema))
        yield sql.SQL("alter schema {} owner to {}").format(sql.Identifier(schema), name)


def _reader_grants(name: sql.Identifier) -> Iterator[sql.Composed]:
    marts = sql.Identifier("marts")
    yield sql.SQL("create schema if not exists {}").format(marts)
    yield sql.SQL("grant usage on schema {} to {}").format(marts, name)
    yield sql.SQL("grant select on all tables in schema {} to {}").format(marts, name)
    yield sql.SQL(
        "alter default privileges for role {} in schema {} grant select on tables to {}"
    ).format(sql.Identifier(REPORTING), marts, name)


def _columns(connection: Connection, schema: str) -> dict[str, list[str]]:
    rows = connection.execute(
        text(
            "select c.relname, a.attname from pg_class as c "
            "join pg_attribute as a on a.attrelid = c.oid "
            "where c.relnamespace = to_regnamespace(:schema) and c.relkind in ('r', 'p') "
            "and a.attnum > 0 and not a.attisdropped order by c.relname, a.attnum"
        ),
        {"schema": schema},
    )
    found: dict[str, list[str]] = {}
    for table, column in rows:
        found.setdefault(table, []).append(column)
    return found


def _list(columns: list[str] | tuple[str, ...]) -> sql.Composed:
    return sql.SQL(", ").join(map(sql.Identifier, columns))
