"""`gatte db adopt` takes over what the chatbot's own people made, or says why not."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Connection, event, text
from typer.testing import CliRunner

from gatte_pipelines.cli import app
from gatte_pipelines.database import migrate
from gatte_pipelines.database.adopt import Adoption, adopt, describe
from gatte_pipelines.database.drift import compare_with_doc01
from gatte_pipelines.database.names import NINE
from gatte_pipelines.errors import (
    ConfigurationError,
    GatteError,
    PermanentError,
    RetryableError,
)
from tests.database.rows import insert, whole_client
from tests.postgres import TestDatabase

MakeDatabase = Callable[..., AbstractContextManager[TestDatabase]]

SAO_PAULO = "America/Sao_Paulo"
PHONE = "+5511900000001"
NAME = "Cliente Exemplo"

# DOC 01 as somebody else would write it: plain timestamps, their names of types and keys, the seven
# indexes, defaults of an ORM.
CHATBOT_DDL = """
create type conversationstatus as enum ('open', 'closed', 'transferred', 'waiting');
create type "ConversationMode" as enum ('menu', 'ai_free', 'human', 'flow');
create type message_role as enum ('user', 'assistant', 'system');
create type ticket_status as enum ('open', 'in_progress', 'resolved', 'closed');
create type ticket_priority as enum ('low', 'medium', 'high', 'critical');
create type lead_stage as enum ('new', 'contacted', 'qualified', 'lost', 'converted');
create type appointment_type as enum ('demo', 'support', 'training', 'followup');
create type appointment_status as enum ('pending', 'confirmed', 'done', 'cancelled');
create type service_plan as enum ('essencial', 'profissional', 'enterprise');
create type service_status as enum ('active', 'suspended', 'cancelled', 'trial');
create type certificate_type as enum ('e-CPF', 'e-CNPJ', 'e-NFe', 'e-CT');
create type certificate_status as enum ('valid', 'expired', 'revoked', 'pending');
create table users (
    id uuid constraint pk_users primary key default gen_random_uuid(),
    phone varchar(20) not null,
    name varchar(150), email varchar(200), company varchar(200),
    is_client boolean not null default false,
    login_token varchar(512),
    created_at timestamp not null default now(),
    updated_at timestamp not null default (now() at time zone 'utc')
);
create index ix_users_phone on users (phone);
create table conversations (
    id uuid primary key,
    user_id uuid not null constraint fk_conversations_user references users (id),
    status conversationstatus not null default 'open',
    mode "ConversationMode" not null,
    current_flow varchar(100), transferred_to varchar(100),
    started_at timestamp(3) not null default current_timestamp(3),
    closed_at timestamp(3),
    total_messages integer not null default 0
);
create index ix_conversations on conversations (user_id, status);
create table messages (
    id uuid primary key,
    conversation_id uuid not null references conversations (id),
    role message_role not null,
    content text not null,
    tokens_used integer, is_in_context boolean not null, intent_detected varchar(100),
    created_at timestamp not null
);
create index ix_messages on messages (conversation_id, created_at);
create table session_context (
    id uuid primary key,
    conversation_id uuid not null unique references conversations (id),
    messages_json jsonb not null, summary text,
    ttl_expires_at timestamp not null, updated_at timestamp not null
);
create index ix_session_context on session_context (ttl_expires_at);
create table tickets (
    id uuid primary key,
    protocol varchar(20) not null,
    user_id uuid not null references users (id),
    conversation_id uuid not null references conversations (id),
    title varchar(300) not null, description text not null,
    status ticket_status not null, priority ticket_priority not null,
    category varchar(100), assigned_to varchar(150),
    resolved_at timestamp, created_at timestamp not null
);
create index ix_tickets_protocol on tickets (protocol);
create index ix_tickets_user on tickets (user_id, status);
create table leads (
    id uuid primary key, user_id uuid references users (id),
    name varchar(150) not null, company varchar(200), phone varchar(20) not null,
    email varchar(200), interest varchar(200), stage lead_stage not null,
    source varchar(100) not null, notes text, crm_id varchar(100), created_at timestamp not null
);
create table appointments (
    id uuid primary key, user_id uuid not null references users (id),
    type appointment_type not null, scheduled_at timestamp not null, duration_min integer not null,
    assigned_to varchar(150), status appointment_status not null, notes text,
    calendar_event_id varchar(200), created_at timestamp not null
);
create table services (
    id uuid primary key, user_id uuid not null references users (id),
    name varchar(200) not null, plan service_plan not null, status service_status not null,
    contracted_at timestamp not null, expires_at timestamp, monthly_value numeric(10, 2), notes text
);
create table certificates (
    id uuid primary key, service_id uuid not null references services (id),
    user_id uuid not null references users (id), type certificate_type not null,
    issued_at timestamp not null, expires_at timestamp not null, days_to_expire integer not null,
    status certificate_status not null, alert_sent boolean not null
);
create index ix_certificates on certificates (expires_at, status);
"""


@pytest.fixture
def theirs(make_database: MakeDatabase) -> Iterator[TestDatabase]:
    """A database of the chatbot's people, empty of rows."""
    with make_database(template="template0") as made:
        _run(made, CHATBOT_DDL)
        yield made


def _run(database: TestDatabase, *statements: str) -> None:
    with database.connect("owner") as connection, connection.begin():
        for statement in statements:
            connection.exec_driver_sql(statement)


def _client(connection: Connection, **values: Any) -> UUID:
    moment = {"created_at": "2026-03-02 09:00:00", "updated_at": "2026-03-02 09:00:00"}
    return insert(connection, "users", **({"name": NAME} | moment | values))


def _conversation(connection: Connection, user: UUID, *message_times: str, **values: Any) -> UUID:
    made = insert(
        connection,
        "conversations",
        user_id=user,
        **({"started_at": "2026-03-02 09:00:00"} | values),
    )
    for at in message_times:
        insert(connection, "messages", conversation_id=made, created_at=at)
    return made


def _adopt(database: TestDatabase, **options: Any) -> Adoption:
    with database.connect("owner") as connection:
        return adopt(connection, **options)


def _differences(database: TestDatabase) -> list[Any]:
    with database.connect("owner") as connection:
        return compare_with_doc01(connection)


def _value(database: TestDatabase, query: str, **values: Any) -> Any:
    with database.connect("owner") as connection:
        return connection.scalar(text(query), values)


def _everything(database: TestDatabase) -> list[Any]:
    """Structure and rows, to see that nothing changed."""
    with database.connect("owner") as connection:
        found: list[Any] = [str(item) for item in compare_with_doc01(connection)]
        found += connection.scalars(text("select nspname::text from pg_namespace order by 1")).all()
        found += connection.scalars(
            text(
                "select relname::text from pg_class where relnamespace = 'public'::regnamespace "
                "order by 1"
            )
        ).all()
        for table in NINE:
            query = f"select to_jsonb(t)::text from {table} as t order by 1"  # noqa: S608
            found += connection.scalars(text(query)).all()
    return found


def _codes(adoption: Adoption) -> dict[str, Any]:
    return {item.code: item for item in adoption.blocks}


def _printed(adoption: Adoption) -> str:
    return "\n".join(describe(adoption))


# --- the whole way -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("zone", "expected"),
    [
        pytest.param(SAO_PAULO, datetime(2026, 3, 2, 12, tzinfo=UTC), id="São Paulo"),
        pytest.param("UTC", datetime(2026, 3, 2, 9, tzinfo=UTC), id="UTC"),
    ],
)
def test_an_adopted_database_is_doc01_and_its_instants_are_right(
    theirs: TestDatabase, zone: str, expected: datetime
) -> None:
    with theirs.connect("owner") as connection, connection.begin():
        ids = whole_client(connection)
        connection.execute(text("update users set created_at = '2026-03-02 09:00:00'"))
        connection.execute(text("update messages set created_at = '2026-03-02 09:00:00'"))
        # Daylight saving time still was then: two hours to UTC instead of three.
        connection.execute(text("update services set contracted_at = '2018-12-24 09:00:00'"))
    adoption = _adopt(theirs, zone=zone, execute=True)
    assert adoption.state == "adopted"
    assert _differences(theirs) == []
    with theirs.connect("owner") as connection:
        assert migrate.current_revision(connection) == migrate.HEAD
        migrate.assert_migrated(connection)
    assert _value(theirs, "select created_at from users") == expected
    assert _value(theirs, "select created_at from messages") == expected
    summer = timedelta(hours=2) if zone == SAO_PAULO else timedelta(0)
    contracted = _value(theirs, "select contracted_at from services")
    assert contracted == datetime(2018, 12, 24, 9, tzinfo=UTC) + summer
    for table, row_id in ids.items():
        assert _value(theirs, f"select id from {table}") == row_id  # noqa: S608


def test_defaults_that_mean_now_still_mean_now(theirs: TestDatabase) -> None:
    _adopt(theirs, zone=SAO_PAULO, execute=True)
    with theirs.connect("owner") as connection, connection.begin():
        connection.execute(text("set local timezone = 'Asia/Tokyo'"))
        connection.execute(text("insert into users (phone) values (:phone)"), {"phone": PHONE})
        age = connection.execute(
            text("select now() - created_at, now() - updated_at from users")
        ).one()
    assert tuple(age) == (timedelta(0), timedelta(0))
    assert _value(
        theirs,
        "select column_default from information_schema.columns "
        "where table_name = 'conversations' and column_name = 'status'",
    ) == ("'open'::conversation_status")


def test_every_role_logs_in_and_reads_after_adoption(theirs: TestDatabase) -> None:
    with theirs.connect("owner") as connection, connection.begin():
        whole_client(connection)
    _adopt(theirs, zone="UTC", execute=True)
    with theirs.connect("pipeline") as connection:
        assert connection.scalar(text("select count(*) from messages")) == 1
    with theirs.connect("reporting") as connection:
        assert connection.scalar(text("select count(status) from conversations")) == 1
    with theirs.connect("reader") as connection:
        assert connection.scalar(text("select current_user")) == "gatte_reader"


def test_the_cutover_is_recorded_and_given_or_now(
    theirs: TestDatabase, make_database: MakeDatabase
) -> None:
    before = datetime.now(UTC)
    _adopt(theirs, zone="UTC", execute=True)
    query = "select value from pipeline.settings where name = 'adopted_at'"
    assert before <= datetime.fromisoformat(_value(theirs, query)) <= datetime.now(UTC)

    given = datetime.fromisoformat("2026-11-01T00:00:00-03:00")
    with make_database(template="template0") as other:
        _run(other, CHATBOT_DDL)
        _adopt(other, zone="UTC", cutover=given, execute=True)
        assert _value(other, query) == "2026-11-01T03:00:00+00:00"


def test_names_and_staff_that_stand_there_are_known_afterwards(theirs: TestDatabase) -> None:
    with theirs.connect("owner") as connection, connection.begin():
        named = _client(connection)
        _client(connection, name=None)
        _conversation(connection, named, transferred_to="Atendente Exemplo")
    _adopt(theirs, zone="UTC", execute=True)
    assert _value(theirs, "select name from pipeline.staff") == "Atendente Exemplo"
    noted = "select array_agg(user_id) from pipeline.user_activity where chatbot_named_at < now()"
    assert _value(theirs, noted) == [named]


def test_a_second_run_says_there_is_nothing_to_do(theirs: TestDatabase) -> None:
    _adopt(theirs, zone="UTC", execute=True)
    before = _everything(theirs)
    again = _adopt(theirs, zone="UTC", execute=True)
    assert again.state == "already"
    assert f"nothing to adopt: the database is at migration {migrate.HEAD}" in _printed(again)
    assert _everything(theirs) == before


def test_a_migrated_database_has_nothing_to_adopt(database: TestDatabase) -> None:
    assert _adopt(database, execute=True).state == "already"


def test_an_older_migrated_database_is_sent_to_migrate(database: TestDatabase) -> None:
    _run(database, "update pipeline.alembic_version set version_num = '0001'")
    assert "run: gatte db migrate" in _printed(_adopt(database, execute=True))


def test_an_empty_database_is_sent_to_migrate(make_database: MakeDatabase) -> None:
    with (
        make_database(template="template0") as empty,
        pytest.raises(ConfigurationError, match="run: gatte db migrate"),
    ):
        _adopt(empty, execute=True)


def test_migrate_names_adoption_where_the_tables_stand_already(theirs: TestDatabase) -> None:
    with (
        theirs.connect("owner") as connection,
        pytest.raises(ConfigurationError, match="gatte db adopt"),
    ):
        migrate.migrate(connection)


# --- the zone ------------------------------------------------------------------------------------


@pytest.mark.parametrize("execute", [False, True])
def test_plain_timestamps_without_a_zone_are_refused_with_the_question(
    theirs: TestDatabase, execute: bool
) -> None:
    with theirs.connect("owner") as connection, connection.begin():
        now = datetime.now(UTC).replace(tzinfo=None)
        _conversation(connection, _client(connection), str(now - timedelta(hours=5)))
    before = _everything(theirs)
    adoption = _adopt(theirs, execute=execute)
    assert adoption.state == "question"
    assert _everything(theirs) == before
    assert adoption.question is not None
    assert "16 columns are plain timestamps" in adoption.question
    assert "America/Sao_Paulo" in adoption.question
    assert "--timestamps-are" in adoption.question
    # A message of five hours ago in UTC, of two where it was São Paulo's clock.
    assert "02:00 h old read as America/Sao_Paulo, 05:00 h old read as UTC" in adoption.question


@pytest.mark.parametrize("zone", ["BRT", "-03:00", "America/Sao_Pauloo", "'; drop table users"])
def test_what_is_no_zones_name_is_refused(theirs: TestDatabase, zone: str) -> None:
    with pytest.raises(ConfigurationError, match="time zone's name"):
        _adopt(theirs, zone=zone, execute=True)


def test_instants_need_no_zone(theirs: TestDatabase) -> None:
    _adopt(theirs, zone="UTC", execute=True)
    _run(theirs, "drop schema pipeline cascade")
    assert _adopt(theirs).question is None


def test_a_zone_in_which_messages_lie_in_the_future_is_refused(theirs: TestDatabase) -> None:
    with theirs.connect("owner") as connection, connection.begin():
        now = datetime.now(UTC).replace(tzinfo=None)
        _conversation(connection, _client(connection), str(now - timedelta(minutes=1)))
    assert _adopt(theirs, zone="UTC").state == "planned"
    late = _codes(_adopt(theirs, zone=SAO_PAULO, execute=True))["after_cutover"]
    assert late.count == 1
    assert "another zone" in late.text


def test_a_cutover_before_messages_that_stand_there_is_refused(theirs: TestDatabase) -> None:
    with theirs.connect("owner") as connection, connection.begin():
        _conversation(connection, _client(connection), "2026-03-02 09:00:00")
    early = datetime(2026, 3, 1, tzinfo=UTC)
    assert "after_cutover" in _codes(_adopt(theirs, zone="UTC", cutover=early, execute=True))


# --- dry run -------------------------------------------------------------------------------------


def test_a_dry_run_changes_nothing_and_prints_what_execute_would_run(
    theirs: TestDatabase,
) -> None:
    with theirs.connect("owner") as connection, connection.begin():
        user = _client(connection, phone=PHONE.removeprefix("+"))
        _conversation(connection, user, "2026-03-02 09:00:00")
        _conversation(connection, user, "2026-03-02 10:00:00")
    before = _everything(theirs)
    plan = _adopt(theirs, zone=SAO_PAULO)
    assert _everything(theirs) == before
    assert plan.state == "planned"
    printed = _printed(plan)
    assert "nothing was changed" in printed
    assert "next: make a backup" in printed
    assert "at time zone 'America/Sao_Paulo'" in printed

    done: list[str] = []
    result = _adopt(theirs, zone=SAO_PAULO, execute=True, show=done.append)
    planned = [*plan.conversions, *plan.repairs, *plan.additions]
    assert [*result.conversions, *result.repairs, *result.additions] == planned
    assert done[: len(planned)] == [step.text for step in planned]


def test_row_counts_of_conversions_are_told(theirs: TestDatabase) -> None:
    with theirs.connect("owner") as connection, connection.begin():
        for _ in range(3):
            _client(connection)
    plan = _adopt(theirs, zone="UTC")
    counts = {step.table: step.rows for step in plan.conversions if "timestamptz" in step.text}
    assert counts["users"] == 3
    assert set(counts) == set(NINE)


# --- what adoption repairs -----------------------------------------------------------------------


def test_of_several_live_conversations_the_one_with_the_last_message_stays(
    theirs: TestDatabase,
) -> None:
    with theirs.connect("owner") as connection, connection.begin():
        user = _client(connection)
        old = _conversation(connection, user, "2026-03-01 09:00:00", "2026-03-02 10:00:00")
        latest = _conversation(
            connection, user, "2026-03-05 10:00:00", started_at="2026-02-01 00:00:00"
        )
        silent = _conversation(connection, user, started_at="2026-03-04 08:00:00", status="waiting")
        closed = _conversation(connection, user, "2026-03-09 10:00:00", status="closed")
        alone = _conversation(connection, _client(connection))
    _adopt(theirs, zone="UTC", execute=True)
    with theirs.connect("owner") as connection:
        rows = {
            row.id: (row.status, row.closed_at)
            for row in connection.execute(text("select id, status, closed_at from conversations"))
        }
    assert rows == {
        old: ("closed", datetime(2026, 3, 2, 10, tzinfo=UTC)),
        latest: ("open", None),
        silent: ("closed", datetime(2026, 3, 4, 8, tzinfo=UTC)),
        closed: ("closed", None),
        alone: ("open", None),
    }


def test_a_phone_without_plus_gets_it_and_others_are_told(theirs: TestDatabase) -> None:
    with theirs.connect("owner") as connection, connection.begin():
        bare = _client(connection, phone="5511900000001")
        odd = _client(connection, phone="(11) 90000-0002")
        short = _client(connection, phone="551190000002")
        long = _client(connection, phone="5511990000002")
        twins = {
            _client(connection, phone="5511900000003"),
            _client(connection, phone="+5511900000003"),
        }
    adoption = _adopt(theirs, zone="UTC", execute=True)
    assert adoption.state == "adopted"
    told = {item.code: set(item.ids) for item in adoption.warnings}
    assert told["odd_phone"] == {str(odd)}
    assert told["same_number"] == {str(short), str(long)}
    assert told["twin_phone"] == {str(twin) for twin in twins}
    with theirs.connect("owner") as connection:
        phones = dict(connection.execute(text("select id, phone from users")).tuples().all())
    assert phones[bare] == "+5511900000001"
    assert phones[odd] == "(11) 90000-0002"
    assert phones[short] == "+551190000002"
    assert {phones[twin] for twin in twins} == {"5511900000003", "+5511900000003"}


def test_users_with_one_phone_block_and_nothing_personal_is_shown(theirs: TestDatabase) -> None:
    with theirs.connect("owner") as connection, connection.begin():
        users = {_client(connection, phone=PHONE) for _ in range(2)}
    before = _everything(theirs)
    adoption = _adopt(theirs, zone="UTC", execute=True)
    assert adoption.state == "blocked"
    assert _everything(theirs) == before
    block = _codes(adoption)["same_phone"]
    assert (block.count, set(block.ids)) == (2, {str(user) for user in users})
    assert "--merge-duplicate-users" in block.text
    assert any(statement.startswith("delete from public.users") for statement in block.statements)
    shown = _printed(adoption)
    assert PHONE not in shown
    assert NAME not in shown


def test_merged_users_become_the_one_the_chatbot_knows_most_of(theirs: TestDatabase) -> None:
    with theirs.connect("owner") as connection, connection.begin():
        ids = whole_client(connection)
        removed = ids["users"]
        connection.execute(
            text(
                "update users set phone = :phone, name = null, company = 'Empresa Exemplo', "
                "is_client = false, created_at = '2026-01-01 09:00:00' where id = :id"
            ),
            {"phone": PHONE, "id": removed},
        )
        kept = _client(connection, phone=PHONE.removeprefix("+"), is_client=True)
        other = _client(connection, phone=PHONE, name=NAME, email="a@example.com", is_client=False)
        _conversation(connection, kept, "2026-03-09 10:00:00")
    adoption = _adopt(theirs, zone=SAO_PAULO, merge_duplicates=True, execute=True)
    assert adoption.state == "adopted", _printed(adoption)
    with theirs.connect("owner") as connection:
        user = connection.execute(text("select * from users")).one()
        for table in ("conversations", "tickets", "leads", "appointments", "services"):
            owners = connection.scalars(text(f"select distinct user_id from {table}"))  # noqa: S608
            assert owners.all() == [kept]
        assert connection.scalar(text("select user_id from certificates")) == kept
        live = connection.scalars(text("select id from conversations where status <> 'closed'"))
        assert len(live.all()) == 1
        undo = {
            row.removed_id: row
            for row in connection.execute(text("select * from pipeline.undo_records"))
        }
        led_on = connection.execute(
            text("select from_user_id, into_user_id from pipeline.user_merges")
        )
        assert {tuple(row) for row in led_on} == {(removed, kept), (other, kept)}
    assert (user.id, user.phone, user.name) == (kept, PHONE, NAME)
    assert (user.email, user.company) == ("a@example.com", "Empresa Exemplo")
    assert user.created_at == datetime(2026, 1, 1, 12, tzinfo=UTC)
    assert set(undo) == {removed, other}
    row = undo[removed]
    assert (row.kind, row.kept_id) == ("users", kept)
    assert timedelta(days=29) < row.expires_at - datetime.now(UTC) <= timedelta(days=30)
    assert row.record["removed"]["created_at"] == "2026-01-01T12:00:00+00:00"
    assert row.record["repointed"]["tickets"] == [str(ids["tickets"])]
    assert row.record["repointed"]["certificates"] == [str(ids["certificates"])]
    assert row.record["kept_before"]["company"] is None


def test_users_that_share_a_text_that_is_no_number_are_never_merged(theirs: TestDatabase) -> None:
    with theirs.connect("owner") as connection, connection.begin():
        for _ in range(2):
            _client(connection, phone="sem telefone")
    adoption = _adopt(theirs, zone="UTC", merge_duplicates=True, execute=True)
    assert _codes(adoption)["same_text"].count == 2


def test_a_table_of_somebody_that_refers_to_a_merged_user_blocks(theirs: TestDatabase) -> None:
    _run(theirs, "create table surveys (id int primary key, of_user uuid references users (id))")
    with theirs.connect("owner") as connection, connection.begin():
        _client(connection, phone=PHONE)
        removed = _client(connection, phone=PHONE, name=None)
        connection.execute(text("insert into surveys values (1, :id)"), {"id": removed})
    adoption = _adopt(theirs, zone="UTC", merge_duplicates=True, execute=True)
    assert _codes(adoption)["foreign_reference"].count == 1


# --- what adoption converts ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        pytest.param("alter table users alter name type varchar(80)", id="shorter text"),
        pytest.param("alter table users alter name type text", id="text that fits"),
        pytest.param("alter table messages alter content type varchar(4000)", id="text with limit"),
        pytest.param("alter table messages alter tokens_used type bigint", id="wider integer"),
        pytest.param("alter table messages alter tokens_used type smallint", id="small integer"),
        pytest.param("alter table services alter monthly_value type numeric", id="any precision"),
        pytest.param("alter table services alter monthly_value type integer", id="whole reais"),
        pytest.param("alter table session_context alter messages_json type json", id="json"),
        pytest.param("alter table tickets alter title drop not null", id="nullable"),
        pytest.param(
            "alter table users alter name set not null, alter name set default ''",
            id="not nullable",
        ),
        pytest.param("alter table conversations alter total_messages drop default", id="default"),
        pytest.param("alter table leads drop column interest", id="missing nullable column"),
        pytest.param("alter table tickets alter status type text", id="text for an ENUM"),
        pytest.param(
            "alter table tickets alter priority type varchar(20); "
            "alter table tickets alter priority set default 'low'; drop type ticket_priority",
            id="text for an ENUM that does not exist",
        ),
        pytest.param(
            "drop table certificates; drop type certificate_status; "
            "create type certificate_status as enum ('expired', 'valid'); "
            "create table certificates ("
            " id uuid primary key, service_id uuid not null references services (id),"
            " user_id uuid not null references users (id), type certificate_type not null,"
            " issued_at timestamp not null, expires_at timestamp not null,"
            " days_to_expire integer not null,"
            " status certificate_status not null default 'valid', alert_sent boolean not null);"
            "create index on certificates (expires_at, status)",
            id="ENUM with fewer values in another order",
        ),
        pytest.param("drop index ix_certificates", id="missing index"),
        pytest.param("drop index ix_users_phone", id="phone without index"),
        pytest.param(
            "drop index ix_users_phone; alter table users add unique (phone)", id="unique phone"
        ),
        pytest.param("create index users_phone_key on users (phone)", id="our name is taken"),
        pytest.param(
            "create index leads_user_id_idx on leads (user_id)", id="our index stands there"
        ),
        pytest.param(
            "create index leads_user_id_idx on leads (email)", id="another index is called so"
        ),
        pytest.param(
            "alter table session_context drop constraint session_context_conversation_id_key",
            id="missing unique key",
        ),
        pytest.param(
            "alter table certificates drop constraint certificates_pkey", id="missing primary key"
        ),
        pytest.param(
            "alter table messages drop constraint messages_conversation_id_fkey",
            id="missing foreign key",
        ),
        pytest.param(
            "alter table conversations drop constraint fk_conversations_user; alter table "
            "conversations add constraint c foreign key (user_id) references users (id) "
            "on update cascade on delete restrict",
            id="foreign key as Prisma writes it",
        ),
        pytest.param(
            "alter table conversations drop constraint fk_conversations_user; alter table "
            "conversations add constraint c foreign key (user_id) references users (id) "
            "deferrable initially deferred",
            id="foreign key as Django writes it",
        ),
        pytest.param(
            "alter table conversations drop constraint fk_conversations_user; alter table "
            "conversations add constraint c foreign key (user_id) references users (id) not valid",
            id="foreign key that was never checked",
        ),
    ],
)
def test_what_loses_nothing_is_made_as_doc01_has_it(theirs: TestDatabase, change: str) -> None:
    with theirs.connect("owner") as connection, connection.begin():
        ids = whole_client(connection)
        connection.execute(text("update users set phone = '5511900000001'"))
    _run(theirs, change)
    adoption = _adopt(theirs, zone="UTC", execute=True)
    assert adoption.state == "adopted", _printed(adoption)
    assert [item for item in _differences(theirs) if str(item.kind) != "note"] == []
    assert _value(theirs, "select id from users") == ids["users"]


def test_what_is_theirs_alone_is_left_alone_and_listed(theirs: TestDatabase) -> None:
    _run(
        theirs,
        "create table surveys (id int)",
        "alter table users add cpf varchar(14)",
        "alter table users add visits int not null default 0",
        "create unique index on users (email)",
        "create index on leads (email)",
        "alter table users add constraint phone_length check (length(phone) > 5)",
    )
    adoption = _adopt(theirs, zone="UTC", execute=True)
    assert adoption.state == "adopted", _printed(adoption)
    listed = "\n".join(adoption.left_alone)
    for name in ("surveys", "cpf", "visits", "users_email_idx", "leads_email_idx", "phone_length"):
        assert name in listed
    assert {f"{item}" for item in _differences(theirs)} == set(adoption.left_alone)


# --- what blocks ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "words", "count"),
    [
        pytest.param("drop table certificates", "certificates is missing", 0, id="table"),
        pytest.param(
            "drop table certificates; create view certificates as select 1 as id",
            "certificates is a view",
            0,
            id="view",
        ),
        pytest.param(
            "alter table tickets drop column title", "tickets.title is missing", 0, id="column"
        ),
        pytest.param(
            "alter table users add cpf text not null default ''; "
            "alter table users alter cpf drop default",
            "users.cpf is not DOC 01's",
            0,
            id="required column of theirs",
        ),
        pytest.param(
            "alter table users alter is_client type text",
            "users.is_client: it is text",
            0,
            id="type",
        ),
        pytest.param(
            "alter table users alter created_at drop default; "
            "alter table users alter created_at type date",
            "users.created_at: it is date",
            0,
            id="date",
        ),
        pytest.param(
            "alter table users alter created_at set default '2020-01-01'",
            "users.created_at: its default",
            0,
            id="default that is not now",
        ),
        pytest.param(
            "alter table users alter name type text; update users set name = repeat('x', 151)",
            "users.name holds values that do not fit varchar(150)",
            1,
            id="too long",
        ),
        pytest.param(
            "alter table messages alter tokens_used type bigint; "
            "update messages set tokens_used = 3000000000",
            "messages.tokens_used holds values",
            1,
            id="too large",
        ),
        pytest.param(
            "alter table services alter monthly_value type numeric; "
            "update services set monthly_value = 9.999",
            "services.monthly_value holds values",
            1,
            id="too precise",
        ),
        pytest.param(
            "alter table tickets alter title drop not null; update tickets set title = null",
            "tickets.title is null",
            1,
            id="null",
        ),
        pytest.param(
            "alter type ticket_priority add value 'urgent'",
            "tickets.priority allows urgent",
            0,
            id="ENUM value that nobody uses yet",
        ),
        pytest.param(
            "alter table tickets alter status type text; update tickets set status = 'novo'",
            "tickets.status holds values",
            1,
            id="text that is no value of the ENUM",
        ),
        pytest.param(
            "alter table tickets alter status type text; alter table tickets "
            "add constraint known check (status in ('open', 'closed'))",
            "check known depends on it",
            0,
            id="check on a text for an ENUM",
        ),
        pytest.param(
            "create view recent as select created_at from messages",
            "rule _RETURN on view recent depends",
            0,
            id="view on a column to convert",
        ),
        pytest.param(
            "alter table messages drop constraint messages_conversation_id_fkey; "
            "update messages set conversation_id = gen_random_uuid()",
            "messages.conversation_id names rows of conversations",
            1,
            id="orphan",
        ),
        pytest.param(
            "alter table session_context drop constraint session_context_conversation_id_key; "
            "insert into session_context select gen_random_uuid(), conversation_id, "
            "messages_json, summary, ttl_expires_at, updated_at from session_context",
            "session_context.conversation_id must be unique",
            2,
            id="two contexts of a conversation",
        ),
        pytest.param(
            "create unique index only_one on conversations (user_id)",
            "only_one refuses rows",
            0,
            id="unique key that refuses what we insert",
        ),
        pytest.param(
            "create table messages_with_content_idx (id int)",
            "messages_with_content_idx must be free",
            0,
            id="name taken by a table",
        ),
    ],
)
def test_each_blocker_is_listed_without_personal_data(
    theirs: TestDatabase, change: str, words: str, count: int
) -> None:
    with theirs.connect("owner") as connection, connection.begin():
        whole_client(connection)
        connection.execute(text("update users set phone = :phone"), {"phone": PHONE})
    _run(theirs, change)
    before = _everything(theirs) if "certificates" not in change else []
    adoption = _adopt(theirs, zone="UTC", execute=True)
    assert adoption.state == "blocked"
    block = next(item for item in adoption.blocks if words in item.text)
    assert (block.count, len(block.ids)) == (count, count)
    shown = _printed(adoption) + repr(adoption)
    assert "BLOCKS ADOPTION" in shown
    for personal in (PHONE, NAME, "xxxx", "texto de exemplo"):
        assert personal not in shown
    if before:
        assert _everything(theirs) == before


def test_a_login_that_does_not_own_the_tables_is_told_so(theirs: TestDatabase) -> None:
    with (
        theirs.connect("pipeline") as connection,
        pytest.raises(ConfigurationError, match="GATTE_MIGRATION_DATABASE_URL"),
    ):
        adopt(connection, zone="UTC")
    _run(theirs, "grant select on all tables in schema public to gatte_pipeline")
    with theirs.connect("pipeline") as connection:
        adoption = adopt(connection, zone="UTC")
    assert "certificates: owned by gatte_owner" in _codes(adoption)["owner"].text


# --- kills and locks -----------------------------------------------------------------------------


def test_a_step_that_fails_at_the_end_leaves_the_database_as_it_was(
    theirs: TestDatabase,
) -> None:
    with theirs.connect("owner") as connection, connection.begin():
        whole_client(connection)
    # The last migration of all meets a table of the same name, after every conversion.
    _run(theirs, "create schema pipeline", "create table pipeline.undo_records (id int)")
    before = _everything(theirs)
    with pytest.raises(PermanentError, match="nothing was changed"):
        _adopt(theirs, zone="UTC", execute=True)
    assert _everything(theirs) == before


def test_a_kill_in_the_middle_leaves_the_database_as_it_was(theirs: TestDatabase) -> None:
    with theirs.connect("owner") as connection, connection.begin():
        whole_client(connection)
    before = _everything(theirs)
    engine = theirs.engine("owner")
    killed: list[str] = []

    def kill(_connection: Any, cursor: Any, statement: str, *_rest: Any) -> None:
        if "create schema if not exists" in statement:
            killed.append(statement)
            with theirs.connect("superuser") as other:
                other.execute(
                    text("select pg_terminate_backend(:pid)"),
                    {"pid": cursor.connection.info.backend_pid},
                )

    event.listen(engine, "before_cursor_execute", kill)
    with engine.connect() as connection, pytest.raises(GatteError):
        adopt(connection, zone="UTC", execute=True)
    assert len(killed) == 1
    assert _everything(theirs) == before
    assert _adopt(theirs, zone="UTC", execute=True).state == "adopted"


def test_adoption_does_not_queue_behind_the_chatbot_for_ever(
    theirs: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gatte_pipelines.database.adopt.LOCK_TIMEOUT", "50ms")
    with theirs.connect("owner") as chatbot, chatbot.begin():
        _client(chatbot)
        with pytest.raises(RetryableError, match="Stop the chatbot's writers"):
            _adopt(theirs, zone="UTC", execute=True)
    assert _adopt(theirs, zone="UTC", execute=True).state == "adopted"


# --- the command ---------------------------------------------------------------------------------


def _gatte(
    database: TestDatabase, monkeypatch: pytest.MonkeyPatch, *arguments: str
) -> tuple[int, str]:
    settings = database.settings()
    monkeypatch.setenv("GATTE_HOME", str(settings.home))
    monkeypatch.setenv("GATTE_DATABASE_URL", settings.database_url or "")
    monkeypatch.setenv("GATTE_MIGRATION_DATABASE_URL", settings.migration_database_url or "")
    done = CliRunner().invoke(app, ["db", "adopt", *arguments])
    return done.exit_code, done.output


def test_the_command_asks_plans_and_adopts(
    theirs: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, shown = _gatte(theirs, monkeypatch)
    assert (code, "QUESTION" in shown) == (2, True)
    code, shown = _gatte(theirs, monkeypatch, "--timestamps-are", "UTC")
    assert (code, "nothing was changed" in shown) == (0, True)
    _run(theirs, "alter type ticket_priority add value 'urgent'")
    code, shown = _gatte(theirs, monkeypatch, "--timestamps-are", "UTC", "--execute")
    assert (code, "BLOCKS ADOPTION" in shown) == (1, True)


def test_the_commands_last_line_is_json(
    theirs: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ("--timestamps-are", "UTC", "--cutover", "2026-11-01T00:00:00-03:00", "--json")
    code, shown = _gatte(theirs, monkeypatch, *arguments)
    plan = json.loads(shown.splitlines()[-1])
    assert (code, plan["state"], plan["cutover"]) == (0, "planned", "2026-11-01T03:00:00+00:00")
    assert all(step["statement"] for step in plan["conversions"])
    code, shown = _gatte(theirs, monkeypatch, *arguments, "--execute")
    assert (code, json.loads(shown.splitlines()[-1])["state"]) == (0, "adopted")


def test_long_lists_of_ids_are_cut_for_people_and_whole_in_json(theirs: TestDatabase) -> None:
    with theirs.connect("owner") as connection, connection.begin():
        users = [_client(connection, phone=f"55119000{n:05}") for n in range(30)]
    plan = _adopt(theirs, zone="UTC")
    printed = _printed(plan)
    assert sum(str(user) in printed for user in users) == 10
    assert sum(str(user) in plan.repairs[0].statement for user in users) == 30
