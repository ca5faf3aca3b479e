"""The migrations, the models, DOC 01 and the catalogue of personal columns say the same."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from threading import Barrier, Thread
from typing import Any
from uuid import uuid4

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text

from gatte_pipelines.database import migrate, roles
from gatte_pipelines.database.drift import ADDED_TRIGGERS
from gatte_pipelines.database.engine import connect, make_engine
from gatte_pipelines.database.names import NINE
from gatte_pipelines.database.pipeline_tables import PipelineBase
from gatte_pipelines.database.tables import ENUMS, Base
from gatte_pipelines.errors import ConfigurationError
from gatte_pipelines.personal_data import CATALOGUE, VIEWS, is_reportable, personal_columns
from tests.database.rows import WHEN, whole_client
from tests.postgres import PostgresServer, TestDatabase

MakeDatabase = Callable[..., AbstractContextManager[TestDatabase]]


def _scripts() -> ScriptDirectory:
    config = Config()
    config.set_main_option("script_location", str(migrate._FOLDER))
    return ScriptDirectory.from_config(config)


def _text_columns(connection: Connection) -> set[tuple[str, str]]:
    rows = connection.execute(
        text(
            "select table_schema || '.' || table_name, column_name "
            "from information_schema.columns where table_schema in ('public', 'pipeline') "
            "and data_type in ('text', 'character varying', 'character', 'json', 'jsonb', "
            "'bytea', 'ARRAY', 'xml')"
        )
    )
    return {(table, column) for table, column in rows}


def test_head_is_the_newest_migration() -> None:
    assert _scripts().get_current_head() == migrate.HEAD


def test_the_migrations_form_one_line() -> None:
    assert [script.revision for script in _scripts().walk_revisions()][::-1] == migrate.revisions()


def test_the_models_equal_the_migrated_database(database: TestDatabase) -> None:
    def is_ours(_: object, name: str | None, kind: str, *__: object) -> bool:
        return not (kind == "table" and name == "alembic_version")

    def name_is_ours(name: str | None, kind: str, _: object) -> bool:
        return kind != "schema" or name in {None, "pipeline"}

    with database.connect("owner") as connection:
        context = MigrationContext.configure(
            connection,
            opts={
                "include_schemas": True,
                "include_object": is_ours,
                "include_name": name_is_ours,
                "compare_server_default": True,
            },
        )
        assert compare_metadata(context, [Base.metadata, PipelineBase.metadata]) == []  # type: ignore[arg-type]


def test_alembic_would_see_a_planted_difference(database: TestDatabase) -> None:
    with database.connect("owner") as connection:
        connection.execute(text("alter table pipeline.runs add planted text"))
        context = MigrationContext.configure(connection, opts={"include_schemas": True})
        found: list[Any] = compare_metadata(context, [Base.metadata, PipelineBase.metadata])  # type: ignore[arg-type]
    assert any("planted" in str(difference) for difference in found)


def test_public_holds_the_nine_tables_and_nothing_else(database: TestDatabase) -> None:
    with database.connect("owner") as connection:
        tables = connection.scalars(
            text(
                "select relname from pg_class where relnamespace = 'public'::regnamespace "
                "and relkind in ('r', 'v', 'm', 'S', 'f', 'p')"
            )
        )
        assert set(tables) == set(NINE) == set(Base.metadata.tables)
        functions = connection.scalar(
            text("select count(*) from pg_proc where pronamespace = 'public'::regnamespace")
        )
        assert functions == 0


def test_every_enum_has_the_values_of_doc01_in_its_order(database: TestDatabase) -> None:
    with database.connect("owner") as connection:
        rows = connection.execute(
            text(
                "select t.typname, array_agg(e.enumlabel::text order by e.enumsortorder) "
                "from pg_type t join pg_enum e on e.enumtypid = t.oid group by t.typname"
            )
        )
        assert {name: tuple(labels) for name, labels in rows} == ENUMS


def test_the_triggers_on_the_nine_are_the_listed_ones(database: TestDatabase) -> None:
    with database.connect("owner") as connection:
        rows = connection.execute(
            text(
                "select c.relname, t.tgname from pg_trigger as t "
                "join pg_class as c on c.oid = t.tgrelid "
                "where not t.tgisinternal and c.relnamespace = 'public'::regnamespace"
            )
        )
        found: dict[str, set[str]] = {name: set() for name in NINE}
        for table, name in rows:
            found[table].add(name)
    assert found == {table: set(names) for table, names in ADDED_TRIGGERS.items()}


def test_messages_pay_for_no_trigger_on_insert(database: TestDatabase) -> None:
    with database.connect("owner") as connection:
        # Bit 4 of tgtype is INSERT.
        on_insert = connection.scalar(
            text(
                "select count(*) from pg_trigger where tgrelid = 'messages'::regclass "
                "and not tgisinternal and tgtype & 4 <> 0"
            )
        )
    assert on_insert == 0


def test_definer_functions_look_into_pg_temp_last(database: TestDatabase) -> None:
    with database.connect("owner") as connection:
        paths = connection.execute(
            text(
                "select proname, array_to_string(proconfig, ' ') from pg_proc "
                "where pronamespace = 'pipeline'::regnamespace and prosecdef"
            )
        ).all()
    assert paths
    for name, configuration in paths:
        assert "search_path=pg_catalog, pipeline, pg_temp" in (configuration or ""), name


# Ids of records of the CRM, which lead to the person there.
IDS_ELSEWHERE = {
    ("pipeline.crm_links", column)
    for column in ("remote_lead_id", "deal_id", "person_id", "organization_id", "note_id")
}


def test_every_text_column_is_catalogued(database: TestDatabase) -> None:
    listed = {(table, column) for table, columns in CATALOGUE.items() for column in columns}
    with database.connect("owner") as connection:
        assert _text_columns(connection) == listed - IDS_ELSEWHERE


def test_an_id_that_leads_to_a_person_elsewhere_is_catalogued_as_personal() -> None:
    assert set(personal_columns()) >= IDS_ELSEWHERE


@pytest.mark.parametrize("kind", ["text", "varchar(10)", "jsonb", "json", "bytea", "text[]"])
def test_an_unlisted_column_would_be_found(database: TestDatabase, kind: str) -> None:
    listed = {(table, column) for table, columns in CATALOGUE.items() for column in columns}
    with database.connect("owner") as connection:
        connection.execute(text(f"alter table pipeline.runs add planted {kind}"))
        assert _text_columns(connection) - listed == {("pipeline.runs", "planted")}


def test_the_catalogue_names_every_table_of_both_schemas() -> None:
    tables = {f"public.{name}" for name in Base.metadata.tables}
    tables |= set(PipelineBase.metadata.tables)
    assert set(CATALOGUE) == tables | set(VIEWS) | {"pipeline.alembic_version"}


def test_the_views_are_those_of_the_catalogue(database: TestDatabase) -> None:
    with database.connect("owner") as connection:
        views = connection.scalars(
            text("select 'pipeline.' || viewname from pg_views where schemaname = 'pipeline'")
        )
        assert set(views) == set(VIEWS)


def test_a_column_is_reportable_unless_it_is_personal_or_secret() -> None:
    assert is_reportable("public.messages", "intent_detected")
    assert is_reportable("public.messages", "created_at")
    assert not is_reportable("public.messages", "content")
    assert not is_reportable("public.users", "login_token")
    assert not is_reportable("pipeline.crm_links", "person_id")
    assert is_reportable("pipeline.crm_links", "lead_id")


def test_migrating_again_does_nothing(database: TestDatabase) -> None:
    with database.connect("owner") as connection:
        assert migrate.migrate(connection) == []
        migrate.assert_migrated(connection)


def test_migrating_reports_what_it_ran(make_database: MakeDatabase) -> None:
    with make_database(template="template0") as empty, empty.connect("owner") as connection:
        assert migrate.migrate(connection) == migrate.revisions()
        assert migrate.current_revision(connection) == migrate.HEAD


def test_presses_of_before_get_the_instant_of_their_message(make_database: MakeDatabase) -> None:
    with make_database(template="template0") as empty, empty.connect("owner") as connection:
        config = Config()
        config.set_main_option("script_location", str(migrate._FOLDER))
        config.attributes["connection"] = connection
        with connection.begin():
            connection.execute(text("create schema pipeline"))
            command.upgrade(config, "0005")
            ids = whole_client(connection)
            connection.execute(
                text("insert into pipeline.button_replies (message_id) values (:known), (:gone)"),
                {"known": ids["messages"], "gone": uuid4()},
            )
        assert migrate.migrate(connection) == ["0006", "0007", "0008"]
        rows = connection.execute(
            text(
                "select b.pressed_at, m.created_at from pipeline.button_replies as b "
                "left join messages as m on b.message_id = m.id order by b.pressed_at"
            )
        ).all()
    when = datetime.fromisoformat(WHEN)
    assert [tuple(row) for row in rows] == [(datetime.fromtimestamp(0, UTC), None), (when, when)]


def test_two_migrations_at_once_run_each_step_once(make_database: MakeDatabase) -> None:
    with make_database(template="template0") as empty:
        barrier, ran = Barrier(2), []

        def run() -> None:
            with empty.connect("owner") as connection:
                barrier.wait()
                ran.append(migrate.migrate(connection))

        threads = [Thread(target=run) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(ran) == [[], migrate.revisions()]


def test_a_migration_that_fails_changes_nothing(
    make_database: MakeDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: Connection) -> None:
        raise ZeroDivisionError

    with make_database(template="template0") as empty, empty.connect("owner") as connection:
        monkeypatch.setattr(roles, "grant", fail)
        with pytest.raises(ZeroDivisionError):
            migrate.migrate(connection)
        assert migrate.current_revision(connection) is None
        assert connection.scalar(text("select to_regclass('public.users')")) is None


@pytest.mark.parametrize("role", ["owner", "pipeline"])
def test_a_database_that_was_never_migrated_is_refused(
    make_database: MakeDatabase, role: str
) -> None:
    with (
        make_database(template="template0") as empty,
        empty.connect(role) as connection,
        pytest.raises(ConfigurationError, match=r"never migrated; run: gatte db migrate"),
    ):
        migrate.assert_migrated(connection)


@pytest.mark.parametrize(
    ("found", "message"),
    [
        ("0001", r"is at migration 0001, not \d{4}; run: gatte db migrate"),
        ("9999", r"is at migration 9999, .* install the newer version"),
    ],
)
def test_another_revision_is_refused_by_what_to_do(
    database: TestDatabase, found: str, message: str
) -> None:
    with database.connect("owner") as connection:
        with connection.begin():
            connection.execute(
                text("update pipeline.alembic_version set version_num = :found"), {"found": found}
            )
        with pytest.raises(ConfigurationError, match=message):
            migrate.assert_migrated(connection)


def test_a_newer_database_is_not_migrated_back(database: TestDatabase) -> None:
    with database.connect("owner") as connection:
        with connection.begin():
            connection.execute(text("update pipeline.alembic_version set version_num = '9999'"))
        with pytest.raises(ConfigurationError, match="newer version"):
            migrate.migrate(connection)


def test_a_role_that_may_not_look_is_told_so(database: TestDatabase) -> None:
    with (
        database.connect("reader") as connection,
        pytest.raises(ConfigurationError, match="may not read the schema pipeline"),
    ):
        migrate.assert_migrated(connection)


def test_assert_migrated_leaves_no_transaction_open(database: TestDatabase) -> None:
    with database.connect("pipeline") as connection:
        migrate.assert_migrated(connection)
        assert not connection.in_transaction()


def test_a_user_without_rights_cannot_migrate_and_learns_why(make_database: MakeDatabase) -> None:
    with (
        make_database(template="template0") as empty,
        empty.connect("pipeline") as connection,
        pytest.raises(ConfigurationError, match="GATTE_MIGRATION_DATABASE_URL"),
    ):
        migrate.migrate(connection)


def test_tables_that_stand_there_already_are_not_touched(make_database: MakeDatabase) -> None:
    with make_database(template="template0") as theirs, theirs.connect("owner") as connection:
        with connection.begin():
            connection.execute(text("create table users (id int)"))
        with pytest.raises(ConfigurationError, match="gatte db check"):
            migrate.migrate(connection)
        assert migrate.current_revision(connection) is None


def test_there_is_no_way_down() -> None:
    for script in _scripts().walk_revisions():
        with pytest.raises(NotImplementedError, match="restore a backup"):
            script.module.downgrade()


def test_a_superuser_may_own_everything(
    make_database: MakeDatabase, postgres_server: PostgresServer
) -> None:
    with make_database(template="template0") as empty:
        engine = make_engine(postgres_server.url("postgres", empty.name))
        with connect(engine) as connection:
            assert migrate.migrate(connection) == migrate.revisions()
