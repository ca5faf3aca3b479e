"""`gatte db check` sees each kind of difference from DOC 01, and only those."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest
from sqlalchemy import Connection, event, text

from gatte_pipelines.database.drift import (
    ADDED_TRIGGERS,
    DOC01_INDEXES,
    Difference,
    Kind,
    compare_with_doc01,
)
from gatte_pipelines.database.names import NINE
from tests.postgres import TestDatabase


def _plant(database: TestDatabase, *statements: str) -> list[Difference]:
    with database.connect("owner") as connection:
        for statement in statements:
            connection.execute(text(statement))
        return compare_with_doc01(connection)


def test_a_migrated_database_differs_in_nothing(database: TestDatabase) -> None:
    assert _plant(database) == []


def test_every_role_that_logs_in_gets_the_same_answer(database: TestDatabase) -> None:
    with database.connect("reader") as connection:
        assert compare_with_doc01(connection) == []


def test_an_empty_database_lacks_all_nine_tables(
    make_database: Callable[..., AbstractContextManager[TestDatabase]],
) -> None:
    with make_database(template="template0") as empty:
        found = _plant(empty)
    assert found == [Difference(name, Kind.TABLE, "", "table", None) for name in NINE]


def test_the_baseline_alone_lacks_only_additions(database: TestDatabase) -> None:
    indexes = (
        "conversations_one_open_per_user_key",
        "messages_with_content_idx",
        "users_created_at_idx",
        "users_login_token_idx",
        "tickets_conversation_id_idx",
        "leads_user_id_idx",
        "appointments_user_id_idx",
        "services_user_id_idx",
        "certificates_service_id_idx",
        "certificates_user_id_idx",
    )
    triggers = [(table, name) for table, names in ADDED_TRIGGERS.items() for name in names]
    found = _plant(
        database,
        *(f"drop index {name}" for name in indexes),
        *(f"drop trigger {name} on {table}" for table, name in triggers),
    )
    assert {item.kind for item in found} == {Kind.ADDITION}
    assert not any(item.breaks_doc01 for item in found)
    assert len(found) == len(indexes) + len(triggers)
    assert (
        Difference(
            "conversations",
            Kind.ADDITION,
            "user_id",
            "unique index (user_id) where status <> 'closed'::conversation_status",
            None,
        )
        in found
    )


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        pytest.param(
            "drop table session_context cascade",
            Difference("session_context", Kind.TABLE, "", "table", None),
            id="missing table",
        ),
        pytest.param(
            "create table surveys (id int)",
            Difference("surveys", Kind.NOTE, "", None, "table"),
            id="table of someone else",
        ),
        pytest.param(
            "create view open_tickets as select id from tickets",
            Difference("open_tickets", Kind.NOTE, "", None, "view"),
            id="view of someone else",
        ),
        pytest.param(
            "alter table session_context set unlogged",
            Difference(
                "session_context",
                Kind.TABLE,
                "",
                "table",
                "unlogged table (emptied by a crash)",
            ),
            id="unlogged table",
        ),
        pytest.param(
            "alter table users enable row level security",
            Difference("users", Kind.NOTE, "", None, "row-level security hides rows"),
            id="row-level security",
        ),
        pytest.param(
            "alter table users drop column company cascade",
            Difference("users", Kind.COLUMN, "company", "character varying(200) null", None),
            id="missing column",
        ),
        pytest.param(
            "alter table users add cpf varchar(14) not null",
            Difference("users", Kind.COLUMN, "cpf", None, "character varying(14) not null"),
            id="extra column",
        ),
        pytest.param(
            "alter table users alter is_client type text",
            Difference("users", Kind.TYPE, "is_client", "boolean", "text"),
            id="other type",
        ),
        pytest.param(
            "alter table tickets alter title type varchar(200)",
            Difference(
                "tickets",
                Kind.TYPE,
                "title",
                "character varying(300)",
                "character varying(200)",
            ),
            id="other length",
        ),
        pytest.param(
            "alter table services alter contracted_at type timestamp",
            Difference(
                "services",
                Kind.TYPE,
                "contracted_at",
                "timestamp with time zone",
                "timestamp without time zone (plain: whoever wrote it knows the zone)",
            ),
            id="plain timestamp",
        ),
        pytest.param(
            "alter table users alter created_at type timestamptz(0)",
            Difference(
                "users",
                Kind.TYPE,
                "created_at",
                "timestamp with time zone",
                "timestamp(0) with time zone",
            ),
            id="instants without fractions",
        ),
        pytest.param(
            "alter table appointments alter type type text",
            Difference(
                "appointments",
                Kind.TYPE,
                "type",
                "appointment_type (demo | support | training | followup)",
                "text",
            ),
            id="text in place of an ENUM",
        ),
        pytest.param(
            "alter table messages alter content drop not null",
            Difference("messages", Kind.NULLABILITY, "content", "not null", "null"),
            id="nullable",
        ),
        pytest.param(
            "alter table leads alter email set not null",
            Difference("leads", Kind.NULLABILITY, "email", "null", "not null"),
            id="not nullable",
        ),
        pytest.param(
            "alter table conversations alter total_messages drop default",
            Difference("conversations", Kind.DEFAULT, "total_messages", "0", "no default"),
            id="missing default",
        ),
        pytest.param(
            "alter type ticket_priority add value 'urgent'",
            Difference(
                "tickets",
                Kind.ENUM,
                "priority",
                "low | medium | high | critical",
                "low | medium | high | critical | urgent",
            ),
            id="ENUM with one more value",
        ),
        pytest.param(
            "alter type lead_stage rename value 'lost' to 'gone'",
            Difference(
                "leads",
                Kind.ENUM,
                "stage",
                "new | contacted | qualified | lost | converted",
                "new | contacted | qualified | gone | converted",
            ),
            id="ENUM with another value",
        ),
        pytest.param(
            "alter type service_plan rename to plan",
            Difference("services", Kind.ADDITION, "plan", "type service_plan", "type plan"),
            id="ENUM under another name",
        ),
        pytest.param(
            "alter table certificates drop constraint certificates_pkey",
            Difference("certificates", Kind.KEY, "id", "PRIMARY KEY (id)", None),
            id="missing primary key",
        ),
        pytest.param(
            "alter table messages drop constraint messages_conversation_id_fkey",
            Difference(
                "messages",
                Kind.KEY,
                "conversation_id",
                "FOREIGN KEY (conversation_id) REFERENCES conversations(id)",
                None,
            ),
            id="missing foreign key",
        ),
        pytest.param(
            "alter table appointments drop constraint appointments_user_id_fkey, "
            "add foreign key (user_id) references users (id) on delete cascade",
            Difference(
                "appointments",
                Kind.KEY,
                "user_id",
                "FOREIGN KEY (user_id) REFERENCES users(id)",
                "FOREIGN KEY (user_id) REFERENCES users(id) ON DELETE CASCADE",
            ),
            id="foreign key that deletes along",
        ),
        pytest.param(
            "alter table leads add foreign key (id) references users (id)",
            Difference("leads", Kind.KEY, "id", None, "FOREIGN KEY (id) REFERENCES users(id)"),
            id="extra foreign key",
        ),
        pytest.param(
            "alter table session_context drop constraint session_context_conversation_id_key",
            Difference(
                "session_context",
                Kind.KEY,
                "conversation_id",
                "unique index (conversation_id)",
                None,
            ),
            id="missing unique key",
        ),
        pytest.param(
            "alter table users add constraint users_email_key unique (email)",
            Difference("users", Kind.KEY, "users_email_key", None, "unique index (email)"),
            id="unique key that DOC 01 does not have",
        ),
        pytest.param(
            "alter table users add constraint phone_length check (length(phone) > 5) not valid",
            Difference(
                "users",
                Kind.NOTE,
                "phone_length",
                None,
                "CHECK ((length((phone)::text) > 5)) NOT VALID",
            ),
            id="check of someone else",
        ),
        pytest.param(
            "drop index certificates_expires_at_status_idx",
            Difference(
                "certificates",
                Kind.INDEX,
                "expires_at, status",
                "index (expires_at, status)",
                None,
            ),
            id="missing index of DOC 01",
        ),
        pytest.param(
            "create index on leads (email)",
            Difference("leads", Kind.NOTE, "leads_email_idx", None, "index (email)"),
            id="index of someone else",
        ),
        pytest.param(
            "drop index messages_with_content_idx",
            Difference(
                "messages",
                Kind.ADDITION,
                "created_at",
                "index (created_at) where content <> ''::text",
                None,
            ),
            id="missing index of ours",
        ),
        pytest.param(
            "drop trigger keep_anonymized on leads",
            Difference("leads", Kind.ADDITION, "keep_anonymized", "trigger", None),
            id="missing trigger",
        ),
        pytest.param(
            "alter table users disable trigger keep_anonymized",
            Difference("users", Kind.ADDITION, "keep_anonymized", "trigger", "disabled trigger"),
            id="disabled trigger",
        ),
        pytest.param(
            "create trigger theirs before delete on users "
            "for each row execute function pipeline.refuse_ticket_deletion()",
            Difference("users", Kind.NOTE, "theirs", None, "trigger"),
            id="trigger of someone else",
        ),
    ],
)
def test_one_planted_difference_is_the_only_one_found(
    database: TestDatabase, statement: str, expected: Difference
) -> None:
    # A trigger that names the column would forbid some changes; these tests are about columns.
    prepare = {
        "alter table users drop column company cascade": (
            "drop trigger keep_anonymized on users",
            "create trigger keep_anonymized before update on users "
            "for each row execute function pipeline.keep_anonymized()",
        ),
    }.get(statement, ())
    assert _plant(database, *prepare, statement) == [expected]


def test_a_users_phone_that_is_indexed_but_not_unique_lacks_the_addition_only(
    database: TestDatabase,
) -> None:
    found = _plant(database, "drop index users_phone_key", "create index theirs on users (phone)")
    assert found == [Difference("users", Kind.ADDITION, "phone", "unique index (phone)", None)]


def test_without_any_index_on_phone_doc01_is_broken_too(database: TestDatabase) -> None:
    found = _plant(database, "drop index users_phone_key")
    assert [item.kind for item in found] == [Kind.INDEX, Kind.ADDITION]


def test_an_index_counts_by_its_columns_whatever_its_name(database: TestDatabase) -> None:
    found = _plant(
        database,
        "alter index tickets_protocol_idx rename to whatever",
        "alter index messages_with_content_idx rename to another",
    )
    assert found == []


def test_a_partial_index_of_the_same_columns_does_not_count(database: TestDatabase) -> None:
    found = _plant(
        database,
        "drop index tickets_protocol_idx",
        "create index tickets_protocol_idx on tickets (protocol) where status = 'open'",
    )
    assert {item.kind for item in found} == {Kind.INDEX, Kind.NOTE}


def test_an_index_of_another_method_does_not_count(database: TestDatabase) -> None:
    found = _plant(
        database,
        "drop index leads_user_id_idx",
        "create index leads_user_id_idx on leads using hash (user_id)",
    )
    assert found == [
        Difference("leads", Kind.ADDITION, "user_id", "index (user_id)", "index (user_id), hash")
    ]


def test_an_index_whose_making_failed_does_not_count(database: TestDatabase) -> None:
    with database.connect("superuser") as connection:
        connection.execute(
            text(
                "update pg_index set indisvalid = false "
                "where indexrelid = 'tickets_protocol_idx'::regclass"
            )
        )
        found = compare_with_doc01(connection)
    assert found == [
        Difference(
            "tickets", Kind.INDEX, "protocol", "index (protocol)", "index (protocol), invalid"
        )
    ]


def test_a_view_in_place_of_a_table_is_named(database: TestDatabase) -> None:
    found = _plant(
        database,
        "drop table certificates",
        "create view certificates as select null::uuid as id",
    )
    assert found[0] == Difference("certificates", Kind.TABLE, "", "table", "view")


def test_tables_outside_public_are_none_of_its_business(database: TestDatabase) -> None:
    assert _plant(database, "create schema other", "create table other.users (id int)") == []


def test_tables_of_an_extension_are_not_noted(database: TestDatabase) -> None:
    with database.connect("superuser") as connection:
        extension = connection.scalar(
            text(
                "select name from pg_available_extensions "
                "where name in ('pg_stat_statements', 'vector') order by name limit 1"
            )
        )
        assert extension
        connection.execute(text(f"create extension {extension}"))
        assert compare_with_doc01(connection) == []


def test_the_comparison_works_whatever_the_search_path(database: TestDatabase) -> None:
    with database.connect("owner") as connection:
        connection.execute(text("set search_path = pg_catalog"))
        assert compare_with_doc01(connection) == []


def test_the_comparison_costs_five_queries(database: TestDatabase) -> None:
    with database.connect("owner") as connection:
        statements = _count_statements(connection, lambda: compare_with_doc01(connection))
    assert statements == 5


def _count_statements(connection: Connection, work: Callable[[], object]) -> int:
    seen: list[str] = []

    def note(*arguments: object) -> None:
        seen.append(str(arguments[2]))

    event.listen(connection, "before_cursor_execute", note)
    work()
    event.remove(connection, "before_cursor_execute", note)
    return len(seen)


def test_a_difference_reads_as_a_sentence() -> None:
    assert str(Difference("tickets", Kind.TYPE, "title", "text", None)) == (
        "tickets.title (type): expected text, found nothing"
    )
    assert str(Difference("surveys", Kind.NOTE, "", None, "table")) == (
        "surveys (note): expected nothing, found table"
    )


def test_doc01_has_seven_indexes() -> None:
    assert len(DOC01_INDEXES) == 7
