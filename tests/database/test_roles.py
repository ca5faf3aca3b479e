"""Each role logs in under its own name and can do its work, and nothing else (design §2)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from uuid import UUID

import psycopg
import pytest
from psycopg import sql
from sqlalchemy import text
from sqlalchemy.exc import ProgrammingError

from gatte_pipelines.database import migrate, roles
from gatte_pipelines.database.engine import connect, make_engine
from gatte_pipelines.database.names import NINE
from gatte_pipelines.database.pipeline_tables import PipelineBase
from gatte_pipelines.database.tables import Base
from gatte_pipelines.errors import ConfigurationError
from gatte_pipelines.personal_data import CATALOGUE, Kind
from tests.database.rows import WHEN, insert, whole_client
from tests.postgres import PostgresServer, TestDatabase

MakeDatabase = Callable[..., AbstractContextManager[TestDatabase]]


@pytest.fixture
def client(database: TestDatabase) -> dict[str, UUID]:
    """One row in each of the nine, written by the owner as the chatbot would."""
    with database.connect("owner") as connection, connection.begin():
        return whole_client(connection)


@contextmanager
def _refused() -> Iterator[None]:
    with pytest.raises(ProgrammingError) as caught:
        yield
    assert isinstance(caught.value.orig, psycopg.errors.InsufficientPrivilege)


def _try(database: TestDatabase, role: str, statement: str) -> None:
    with database.connect(role) as connection, connection.begin():
        connection.execute(text(statement))


def _refuse(database: TestDatabase, role: str, statement: str) -> None:
    with _refused():
        _try(database, role, statement)


@pytest.mark.parametrize("role", ["pipeline", "reporting", "reader"])
def test_each_role_logs_in_under_its_own_name(database: TestDatabase, role: str) -> None:
    with database.connect(role) as connection:
        names = connection.execute(text("select session_user, current_user")).one()
    assert tuple(names) == (f"gatte_{role}", f"gatte_{role}")


# --- gatte_pipeline ------------------------------------------------------------------------------


@pytest.mark.parametrize("table", NINE)
def test_the_pipeline_role_updates_exactly_the_columns_of_the_ownership_table(
    database: TestDatabase, client: dict[str, UUID], table: str
) -> None:
    for column in Base.metadata.tables[table].columns.keys():  # noqa: SIM118 - a collection
        statement = f"update {table} set {column} = {column}"  # noqa: S608
        if column in roles.UPDATES[table]:
            _try(database, "pipeline", statement)
        else:
            _refuse(database, "pipeline", statement)


@pytest.mark.parametrize("table", NINE)
def test_the_pipeline_role_deletes_only_what_merges_and_expiry_delete(
    database: TestDatabase, client: dict[str, UUID], table: str
) -> None:
    statement = f"delete from {table} where false"  # noqa: S608
    if table in roles.DELETES:
        _try(database, "pipeline", statement)
    else:
        _refuse(database, "pipeline", statement)


def test_the_pipeline_role_inserts_what_it_brings_in(database: TestDatabase) -> None:
    with database.connect("pipeline") as connection, connection.begin():
        user = insert(connection, "users")
        conversation = insert(connection, "conversations", user_id=user)
        insert(connection, "messages", conversation_id=conversation)
        insert(connection, "session_context", conversation_id=conversation)
        insert(connection, "leads", user_id=user)


@pytest.mark.parametrize("table", ["tickets", "appointments", "services", "certificates"])
def test_the_pipeline_role_inserts_nothing_that_the_chatbot_owns(
    database: TestDatabase, client: dict[str, UUID], table: str
) -> None:
    keys = {"user_id": client["users"]}
    if table == "tickets":
        keys["conversation_id"] = client["conversations"]
    if table == "certificates":
        keys["service_id"] = client["services"]
    with database.connect("pipeline") as connection, _refused():
        insert(connection, table, **keys)


@pytest.mark.parametrize("name", sorted(PipelineBase.metadata.tables))
def test_the_pipeline_role_keeps_our_records(database: TestDatabase, name: str) -> None:
    column = next(iter(PipelineBase.metadata.tables[name].columns.keys()))
    _try(database, "pipeline", f"select * from {name}")  # noqa: S608
    insertion = f"insert into {name} select * from {name} where false"  # noqa: S608
    update = f"update {name} set {column} = {column} where false"  # noqa: S608
    deletion = f"delete from {name} where false"  # noqa: S608
    read_only = {"pipeline.row_history": (insertion, update, deletion)}
    # A trigger adds to it; a name past its time becomes a placeholder.
    read_only["pipeline.staff"] = (insertion, deletion)
    read_only["pipeline.guard_refusals"] = (insertion, update)
    # Who is anonymised, the key's fingerprint, what was destroyed, closed tickets: written once.
    for once in ("anonymized_rows", "settings", "privacy_ledger", "ticket_digests"):
        read_only[f"pipeline.{once}"] = (update, deletion)
    for statement in (insertion, update, deletion):
        if statement in read_only.get(name, ()):
            _refuse(database, "pipeline", statement)
        else:
            _try(database, "pipeline", statement)


@pytest.mark.parametrize(
    "statement",
    [
        "update pipeline.alembic_version set version_num = '0000'",
        "truncate users cascade",
        "truncate pipeline.runs",
        "create table public.planted (id int)",
        "create table pipeline.planted (id int)",
        "create schema planted",
        "alter table users disable trigger keep_anonymized",
        "alter table messages disable trigger all",
        "drop trigger keep_removed_content on messages",
        "drop table leads",
        "set session_replication_role = replica",
        "create or replace function pipeline.clock() returns timestamptz "
        "language sql as 'select now()'",
    ],
)
def test_the_pipeline_role_cannot_loosen_a_guard(database: TestDatabase, statement: str) -> None:
    _refuse(database, "pipeline", statement)


# --- gatte_reporting -----------------------------------------------------------------------------

_KINDS = [
    (table, column, kind)
    for table, columns in CATALOGUE.items()
    for column, kind in columns.items()
]


@pytest.mark.parametrize(("table", "column", "kind"), _KINDS)
def test_reporting_reads_a_catalogued_column_only_where_it_is_plain(
    database: TestDatabase, table: str, column: str, kind: Kind
) -> None:
    statement = f"select {column} from {table}"  # noqa: S608
    if kind is Kind.PLAIN:
        _try(database, "reporting", statement)
    else:
        _refuse(database, "reporting", statement)


@pytest.mark.parametrize("table", [*NINE, *sorted(PipelineBase.metadata.tables)])
def test_reporting_reads_every_id_instant_number_and_state(
    database: TestDatabase, table: str
) -> None:
    metadata = Base.metadata if table in NINE else PipelineBase.metadata
    qualified = f"public.{table}" if table in NINE else table
    columns = [
        column
        for column in metadata.tables[table].columns.keys()  # noqa: SIM118 - a collection
        if column not in CATALOGUE[qualified]
    ]
    _try(database, "reporting", f"select {', '.join(columns)} from {table}")  # noqa: S608


@pytest.mark.parametrize("table", ["users", "messages", "leads", "pipeline.staff"])
def test_reporting_cannot_select_star(database: TestDatabase, table: str) -> None:
    _refuse(database, "reporting", f"select * from {table}")  # noqa: S608
    _refuse(database, "reporting", f"select t from {table} as t")  # noqa: S608 - whole rows


def test_reporting_cannot_filter_by_what_it_may_not_read(database: TestDatabase) -> None:
    _refuse(database, "reporting", "select id from users where phone like '+55%'")


@pytest.mark.parametrize("schema", roles.DBT_SCHEMAS)
def test_reporting_owns_the_schemas_of_dbt(database: TestDatabase, schema: str) -> None:
    _try(database, "reporting", f"create table {schema}.t (id uuid)")
    _try(database, "reporting", f"create view {schema}.v as table {schema}.t")
    _try(database, "reporting", f"drop table {schema}.t cascade")


@pytest.mark.parametrize(
    "statement",
    [
        "create table public.planted (id int)",
        "create table pipeline.planted (id int)",
        "create view public.planted as select 1",
        "insert into users (id) values (gen_random_uuid())",
        "update conversations set status = 'closed'",
        "delete from pipeline.row_history",
        "truncate messages",
    ],
)
def test_reporting_writes_nothing_outside_its_schemas(
    database: TestDatabase, statement: str
) -> None:
    _refuse(database, "reporting", statement)


# --- gatte_reader --------------------------------------------------------------------------------


def test_the_reader_reads_marts_also_those_made_later(database: TestDatabase) -> None:
    _try(database, "reporting", "create table marts.rpt_later as select 1 as one")
    _try(database, "reporting", "create view marts.rpt_view as select 2 as two")
    _try(database, "reader", "select one, (select two from marts.rpt_view) from marts.rpt_later")


@pytest.mark.parametrize(
    "statement",
    [
        "select id from users",
        "select count(*) from messages",
        "select * from pipeline.runs",
        "select pipeline.clock()",
        "select * from staging.t",
        "select * from intermediate.t",
        "insert into marts.t values (1)",
        "delete from marts.t",
        "create table marts.planted (id int)",
        "create table public.planted (id int)",
    ],
)
def test_the_reader_does_nothing_else(database: TestDatabase, statement: str) -> None:
    for schema in roles.DBT_SCHEMAS:
        _try(database, "reporting", f"create table {schema}.t (one int)")
    _refuse(database, "reader", statement)


# --- nobody becomes somebody else ----------------------------------------------------------------


@pytest.mark.parametrize("role", ["pipeline", "reporting", "reader"])
@pytest.mark.parametrize(
    "other", ["gatte_pipeline", "gatte_reporting", "gatte_reader", "gatte_owner", "postgres"]
)
@pytest.mark.parametrize("command", ["set role {}", "set session authorization {}"])
def test_no_role_becomes_another(
    database: TestDatabase, role: str, other: str, command: str
) -> None:
    if other == f"gatte_{role}":
        return
    _refuse(database, role, command.format(other))


@pytest.mark.parametrize("role", ["pipeline", "reporting", "reader"])
@pytest.mark.parametrize(
    "command",
    ["reset role", "reset session authorization", "reset all", "discard all", "set role none"],
)
def test_resetting_the_session_undoes_nothing(
    database: TestDatabase, role: str, command: str
) -> None:
    engine = database.engine(role)
    with connect(engine) as connection:
        plain = connection.execution_options(isolation_level="AUTOCOMMIT")
        plain.execute(text(command))
        names = plain.execute(text("select session_user, current_user")).one()
        assert tuple(names) == (f"gatte_{role}", f"gatte_{role}")
        with _refused():
            plain.execute(text("update users set is_client = true"))


@pytest.mark.parametrize("role", roles.ROLES)
def test_our_roles_are_plain_users_of_no_group(postgres_server: PostgresServer, role: str) -> None:
    with psycopg.connect(
        host=postgres_server.socket_folder, user="postgres", dbname="postgres"
    ) as connection:
        row = connection.execute(
            "select rolsuper, rolcreaterole, rolcreatedb, rolbypassrls, rolreplication, "
            "(select count(*) from pg_auth_members m where m.member = r.oid) "
            "from pg_roles r where rolname = %s",
            [role],
        ).fetchone()
    assert row == (False, False, False, False, False, 0)


# --- granting ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("planted", "role", "statement"),
    [
        ("grant select on users to gatte_reporting", "reporting", "select * from users"),
        (
            "grant select (phone) on users to gatte_reporting",
            "reporting",
            "select phone from users",
        ),
        (
            "grant update on users to gatte_pipeline",
            "pipeline",
            "update users set is_client = true",
        ),
        (
            "grant update (title) on tickets to gatte_pipeline",
            "pipeline",
            "update tickets set title = ''",
        ),
        (
            "grant delete, truncate on messages to gatte_pipeline",
            "pipeline",
            "delete from messages",
        ),
        (
            "grant insert on pipeline.row_history to gatte_pipeline",
            "pipeline",
            "insert into pipeline.row_history select * from pipeline.row_history",
        ),
        ("grant create on schema public to gatte_reporting", "reporting", "create table t (i int)"),
        (
            "grant create on schema pipeline to gatte_pipeline",
            "pipeline",
            "create table pipeline.t (i int)",
        ),
        (
            "grant usage on schema pipeline to gatte_reader; "
            "grant select on pipeline.runs to gatte_reader",
            "reader",
            "select * from pipeline.runs",
        ),
        (
            "grant usage on schema staging to gatte_reader; "
            "create table staging.t (i int); grant select on staging.t to gatte_reader",
            "reader",
            "select * from staging.t",
        ),
    ],
)
def test_granting_again_takes_back_what_was_granted_too_much(
    database: TestDatabase, planted: str, role: str, statement: str
) -> None:
    with database.connect("owner") as connection:
        with connection.begin():
            connection.execute(text(planted))
        _try(database, role, statement)  # the planted right works
        with connection.begin():
            roles.grant(connection)
    if "create" in statement:
        statement = statement.replace(" t (", " u (").replace(".t (", ".u (")
    _refuse(database, role, statement)


def test_granting_again_narrows_a_default_privilege(database: TestDatabase) -> None:
    with database.connect("owner") as connection, connection.begin():
        connection.execute(
            text("alter default privileges in schema public grant select on tables to gatte_reader")
        )
        roles.grant(connection)
        connection.execute(text("create table later (id int)"))
    _refuse(database, "reader", "select * from later")


def test_granting_again_keeps_every_right(database: TestDatabase) -> None:
    query = text(
        "select relname, relacl::text[] from pg_class where relnamespace in "
        "('public'::regnamespace, 'pipeline'::regnamespace) and relkind in ('r', 'S') order by 1"
    )
    by_column = text(
        "select attrelid::regclass::text, attname, attacl::text from pg_attribute "
        "where attacl is not null and attrelid >= 16384 order by 1, 2"
    )
    with database.connect("owner") as connection, connection.begin():
        before = connection.execute(query).all(), connection.execute(by_column).all()
        roles.grant(connection)
        after = connection.execute(query).all(), connection.execute(by_column).all()
    assert before == after
    assert before[1]


def test_tables_of_someone_else_in_public_do_not_hinder_granting(database: TestDatabase) -> None:
    with database.connect("superuser") as connection, connection.begin():
        connection.execute(text("create table public.theirs (id int)"))
    with database.connect("owner") as connection:
        assert migrate.migrate(connection) == []


def test_an_owner_who_may_not_act_for_reporting_is_told_what_to_ask_for(
    make_database: MakeDatabase, postgres_server: PostgresServer
) -> None:
    postgres_server.execute(sql.SQL("create role gatte_other_owner login"))
    try:
        with make_database(template="template0") as empty:
            postgres_server.execute(
                sql.SQL("alter database {} owner to gatte_other_owner").format(
                    sql.Identifier(empty.name)
                )
            )
            with (
                empty.connect("gatte_other_owner") as connection,
                pytest.raises(ConfigurationError, match="grant gatte_reporting to"),
            ):
                migrate.migrate(connection)
    finally:
        postgres_server.execute(sql.SQL("drop role gatte_other_owner"))


@pytest.mark.parametrize("attribute", ["createrole", "nocreaterole"])
def test_roles_are_created_by_who_may_and_asked_for_otherwise(
    make_database: MakeDatabase,
    postgres_server: PostgresServer,
    monkeypatch: pytest.MonkeyPatch,
    attribute: str,
) -> None:
    # Roles belong to the whole server: other names, so that no other test notices.
    names = ("gatte_a_pipeline", "gatte_a_reporting", "gatte_a_reader")
    for attribute_name, name in zip(("PIPELINE", "REPORTING", "READER"), names, strict=True):
        monkeypatch.setattr(roles, attribute_name, name)
    monkeypatch.setattr(roles, "ROLES", names)
    creator = "gatte_creator"
    postgres_server.execute(sql.SQL(f"create role {creator} login {attribute}"))  # type: ignore[arg-type]
    try:
        with make_database(template="template0") as empty:
            postgres_server.execute(
                sql.SQL("alter database {} owner to {}").format(
                    sql.Identifier(empty.name), sql.Identifier(creator)
                )
            )
            with empty.connect(creator) as connection:
                if attribute == "nocreaterole":
                    with pytest.raises(ConfigurationError, match="may not create roles"):
                        roles.create(connection)
                    return
                assert migrate.migrate(connection) == migrate.revisions()
                assert roles.missing(connection) == list(names)
                connection.rollback()
                assert roles.create(connection) == list(names)
                assert roles.missing(connection) == []
                connection.rollback()
                assert roles.create(connection) == []
                assert migrate.migrate(connection) == []
            _try(empty, names[1], "create table marts.t as select id from users")
            _try(empty, names[2], "select * from marts.t")
            _try(empty, names[0], "update users set phone = phone")
    finally:
        for name in (*names, creator):
            postgres_server.execute(sql.SQL("drop role if exists {}").format(sql.Identifier(name)))


def test_the_sql_for_a_dba_creates_what_we_need() -> None:
    assert roles.creation_sql('own"er') == (
        "create role gatte_pipeline login;\n"
        "create role gatte_reporting login;\n"
        "create role gatte_reader login;\n"
        'grant gatte_reporting to "own""er";\n'
    )
    assert "create role gatte_pipeline login;" in roles.creation_sql()


def test_the_clock_of_a_role_is_its_own(database: TestDatabase) -> None:
    with database.connect("reporting") as connection:
        connection.execute(text("select set_config('gatte.as_of', :when, true)"), {"when": WHEN})
        assert connection.scalar(text("select pipeline.clock()")).isoformat() == WHEN
    with connect(make_engine(database.url_reporting)) as connection:
        assert connection.scalar(text("select pipeline.clock() = now()"))
