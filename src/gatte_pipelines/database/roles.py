"""The three login roles and what each may do, column by column (design §2).

Roles log in under their own names; nobody switches roles inside a session. Creating roles needs
rights an owner may not have, so it is a command of its own; migrations only grant.
"""

from __future__ import annotations

from collections.abc import Iterator

from psycopg import sql
from psycopg.errors import InsufficientPrivilege
from sqlalchemy import Connection, text
from sqlalchemy.exc import ProgrammingError

from gatte_pipelines.database.engine import psycopg_connection
from gatte_pipelines.database.names import NINE, SCHEMA
from gatte_pipelines.errors import ConfigurationError
from gatte_pipelines.personal_data import CATALOGUE, VIEWS, is_reportable

PIPELINE, REPORTING, READER = "gatte_pipeline", "gatte_reporting", "gatte_reader"
ROLES = (PIPELINE, REPORTING, READER)
POSTGRES_16 = 160000
DBT_SCHEMAS = ("staging", "intermediate", "marts")

# Who writes what: the ownership table of design §2. user_id and conversation_id are there for
# merges of identities and conversations, started_at for a late message that comes first.
UPDATES: dict[str, tuple[str, ...]] = {
    "users": (
        "phone",
        "name",
        "email",
        "company",
        "login_token",
        "created_at",  # the first contact: a late message may be an earlier one
        "updated_at",
    ),
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
    "messages": (
        "conversation_id",
        "role",  # of what the chatbot told before the webhook came
        "content",
        "tokens_used",
        "is_in_context",
        "intent_detected",
        "created_at",  # the provider's clock replaces the chatbot's
    ),
    "session_context": ("conversation_id", "messages_json", "ttl_expires_at", "updated_at"),
    "tickets": ("user_id", "conversation_id"),
    "leads": (
        "user_id",
        "name",
        "company",
        "phone",
        "email",
        "interest",  # of a lead that became part of another
        "stage",
        "notes",
        "crm_id",
    ),
    "appointments": (
        "user_id",
        "scheduled_at",
        "duration_min",
        "status",
        "assigned_to",  # a colleague who left long ago: a placeholder
        "notes",
        "calendar_event_id",
    ),
    "services": ("user_id", "notes"),
    "certificates": ("user_id", "days_to_expire", "status", "alert_sent"),
}
INSERTS = ("users", "conversations", "messages", "session_context", "leads")
# A user or a lead is deleted only when it became part of another (S8).
DELETES = ("users", "conversations", "session_context", "leads")

# Written by triggers as their owner: our role may read both, and trim the refusals only.
_TRIGGER_WRITTEN = ("guard_refusals",)
_READ_ONLY = (
    "alembic_version",
    "row_history",
    *(view.removeprefix(f"{SCHEMA}.") for view in VIEWS),
)
# Added to by a trigger as its owner; a name that is past its time becomes a placeholder.
_RENAMED_ONLY = ("staff",)
# What was written there stays: who is anonymised (S1), which key this database was loaded with,
# what was destroyed, and how closed tickets looked.
_ADD_ONLY = ("anonymized_rows", "settings", "privacy_ledger", "ticket_digests")

_LOCK = text("select pg_advisory_xact_lock(hashtext('gatte_pipelines.migrate'))")


def creation_sql(owner: str | None = None) -> str:
    """The statements with which a DBA creates the roles; passwords are theirs to set.

    Args:
        owner: The role that migrates. Unless it is a superuser it must be a member of
            gatte_reporting, in whose name it makes the schemas of dbt.
    """
    statements = [f"create role {role} login;" for role in ROLES]
    member = "OWNER_OF_THE_DATABASE" if owner is None else _quoted(owner)
    statements.append(f"grant {REPORTING} to {member};")
    return "\n".join(statements) + "\n"


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

    Raises:
        ConfigurationError: This user may not create roles.
    """
    with connection.begin():
        connection.execute(_LOCK)
        created = missing(connection)
        try:
            for role in created:
                connection.execute(text(f"create role {role} login"))
            if REPORTING in created and not _is_superuser(connection):
                connection.execute(text(f"grant {REPORTING} to current_user"))
        except ProgrammingError as error:
            if not isinstance(error.orig, InsufficientPrivilege):
                raise
            raise ConfigurationError(
                "this user may not create roles; ask a DBA to run what gatte db roles --sql prints"
            ) from None
        if connection.scalar(text("select to_regclass('pipeline.alembic_version')")) is not None:
            grant(connection)
    return created


def grant(connection: Connection) -> None:
    """Give each existing role exactly its rights; inside the caller's transaction.

    Rights that stood there before are taken back first, so that a migration can also narrow them.

    Raises:
        ConfigurationError: The owner may not act for gatte_reporting.
    """
    absent = set(missing(connection))
    if REPORTING not in absent:
        _assert_owner_acts_for_reporting(connection)
    cursor = psycopg_connection(connection).cursor()
    for role in ROLES:
        if role not in absent:
            for statement in _grants(connection, role):
                cursor.execute(statement)


def _grants(connection: Connection, role: str) -> Iterator[sql.Composed]:
    name = sql.Identifier(role)
    for schema in ("public", SCHEMA):
        identifier = sql.Identifier(schema)
        # Both, since REVOKE on a table does not take back grants on its columns.
        for table, columns in _columns(connection, schema).items():
            target = sql.Identifier(schema, table)
            yield sql.SQL("revoke all on {} from {}").format(target, name)
            yield sql.SQL("revoke all ({}) on {} from {}").format(_list(columns), target, name)
        yield sql.SQL("revoke all on schema {} from {}").format(identifier, name)
        yield sql.SQL("alter default privileges in schema {} revoke all on tables from {}").format(
            identifier, name
        )
    for kind in ("sequences", "routines"):
        yield sql.SQL("revoke all on all {} in schema {} from {}").format(
            sql.SQL(kind), sql.Identifier(SCHEMA), name
        )
    yield sql.SQL("revoke create on database {} from {}").format(
        sql.Identifier(connection.scalar(text("select current_database()"))), name
    )
    if role == PIPELINE:
        yield from _pipeline_grants(connection, name)
    elif role == REPORTING:
        yield from _reporting_grants(connection, name)
    elif _exists(connection, REPORTING):
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
        elif table in _RENAMED_ONLY:
            rights = "select, update"
        elif table in _ADD_ONLY:
            rights = "select, insert"
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
    for schema in DBT_SCHEMAS:
        yield sql.SQL("revoke all on all tables in schema {} from {}").format(
            sql.Identifier(schema), name
        )
        yield sql.SQL("revoke all on schema {} from {}").format(sql.Identifier(schema), name)
    marts = sql.Identifier("marts")
    yield sql.SQL("grant usage on schema {} to {}").format(marts, name)
    yield sql.SQL("grant select on all tables in schema {} to {}").format(marts, name)
    yield sql.SQL(
        "alter default privileges for role {} in schema {} grant select on tables to {}"
    ).format(sql.Identifier(REPORTING), marts, name)


def _exists(connection: Connection, role: str) -> bool:
    return role not in missing(connection)


def _is_superuser(connection: Connection) -> bool:
    return bool(
        connection.scalar(text("select rolsuper from pg_roles where rolname = current_user"))
    )


def _assert_owner_acts_for_reporting(connection: Connection) -> None:
    version = psycopg_connection(connection).info.server_version
    # From 16 on, being a member does not yet mean that one may give objects to the role.
    right = "SET" if version >= POSTGRES_16 else "MEMBER"
    allowed = connection.execute(
        text("select pg_has_role(:role, :right) and pg_has_role(:role, 'USAGE'), current_user"),
        {"role": REPORTING, "right": right},
    ).one()
    if not allowed[0]:
        raise ConfigurationError(
            f"the schemas of dbt belong to {REPORTING}, and {allowed[1]} may not act for it; "
            f"ask a DBA to run: grant {REPORTING} to {_quoted(allowed[1])}"
        )


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _columns(connection: Connection, schema: str) -> dict[str, list[str]]:
    """Columns by table: the nine of public and all that is ours of pipeline, nobody else's."""
    rows = connection.execute(
        text(
            "select c.relname, a.attname from pg_class as c "
            "join pg_attribute as a on a.attrelid = c.oid "
            "where c.relnamespace = to_regnamespace(:schema) and c.relkind in ('r', 'p', 'v') "
            "and case :schema when 'public' then c.relname = any(:nine) "
            "else pg_has_role(c.relowner, 'USAGE') end "
            "and a.attnum > 0 and not a.attisdropped order by c.relname, a.attnum"
        ),
        {"schema": schema, "nine": list(NINE)},
    )
    found: dict[str, list[str]] = {}
    for table, column in rows:
        found.setdefault(table, []).append(column)
    return found


def _list(columns: list[str] | tuple[str, ...]) -> sql.Composed:
    return sql.SQL(", ").join(map(sql.Identifier, columns))
