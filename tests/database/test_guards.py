"""The triggers keep the rules whoever writes: S1, tickets, computed days, staff, names."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import psycopg
import pytest
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from gatte_pipelines.database.engine import set_as_of
from tests.database.conftest import CHATBOT
from tests.database.rows import insert, whole_client
from tests.postgres import TestDatabase

PLACEHOLDER = "~x" + "a" * 18
# Personal columns of each guarded table with a value that someone tries to write back.
PERSONAL = {
    "users": {
        "phone": "+5511900001234",
        "name": "Nome Devolvido",
        "email": "devolvido@example.com",
        "company": "Empresa Devolvida",
        "login_token": "token-devolvido",
    },
    "leads": {
        "name": "Nome Devolvido",
        "company": "Empresa Devolvida",
        "phone": "+5511900001234",
        "email": "devolvido@example.com",
        "notes": "observação devolvida",
        "crm_id": "4711",
    },
}


def _anonymize(connection: Connection, table: str) -> UUID:
    """A row that the retention rules have been through."""
    values: dict[str, Any] = {"phone": PLACEHOLDER}
    if table == "leads":
        values["name"] = ""
    row_id = insert(connection, table, **values)
    connection.execute(
        text(
            "insert into pipeline.anonymized_rows (table_name, row_id, rule) "
            "values (:table, :id, 'test')"
        ),
        {"table": table, "id": row_id},
    )
    connection.commit()
    return row_id


def _row(connection: Connection, table: str, row_id: UUID) -> dict[str, Any]:
    row = connection.execute(text(f"select * from {table} where id = :id"), {"id": row_id})  # noqa: S608
    return dict(row.mappings().one())


def _refusals(connection: Connection) -> list[tuple[str, UUID, str, str]]:
    rows = connection.execute(
        text(
            "select table_name, row_id, column_name, refused_role from pipeline.guard_refusals "
            "order by refusal_id"
        )
    )
    return [tuple(row) for row in rows]


# --- anonymised stays anonymised -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("table", "column"), [(table, column) for table in PERSONAL for column in PERSONAL[table]]
)
def test_no_personal_value_comes_back_into_an_anonymised_row(
    owner: Connection, chatbot: Connection, table: str, column: str
) -> None:
    row_id = _anonymize(owner, table)
    before = _row(owner, table, row_id)
    owner.commit()
    chatbot.execute(
        text(f"update {table} set {column} = :value where id = :id"),  # noqa: S608
        {"value": PERSONAL[table][column], "id": row_id},
    )
    chatbot.commit()
    assert _row(owner, table, row_id) == before
    assert _refusals(owner) == [(table, row_id, column, CHATBOT)]


def test_the_rest_of_the_statement_goes_through(owner: Connection, chatbot: Connection) -> None:
    user, lead = _anonymize(owner, "users"), _anonymize(owner, "leads")
    chatbot.execute(
        text("update users set name = 'De Volta', is_client = false where id = :id"), {"id": user}
    )
    chatbot.execute(
        text("update leads set email = 'volta@example.com', stage = 'lost' where id = :id"),
        {"id": lead},
    )
    chatbot.commit()
    assert _row(owner, "users", user)["is_client"] is False
    assert _row(owner, "users", user)["name"] is None
    assert _row(owner, "leads", lead)["stage"] == "lost"
    assert _row(owner, "leads", lead)["email"] is None
    history = owner.execute(text("select table_name, new_value from pipeline.row_history")).all()
    assert [tuple(row) for row in history] == [("leads", "lost")]


def test_other_rows_of_the_same_statement_change(owner: Connection) -> None:
    kept = _anonymize(owner, "users")
    other = insert(owner, "users")
    owner.execute(text("update users set name = 'Todos'"))
    assert _row(owner, "users", kept)["name"] is None
    assert _row(owner, "users", other)["name"] == "Todos"


def test_each_refused_column_is_counted(owner: Connection) -> None:
    user = _anonymize(owner, "users")
    owner.execute(text("update users set name = 'A', email = 'a@example.com', company = null"))
    assert [refusal[2] for refusal in _refusals(owner)] == ["name", "email"]
    assert _row(owner, "users", user)["phone"] == PLACEHOLDER


def test_no_refusal_holds_the_refused_value(owner: Connection) -> None:
    _anonymize(owner, "users")
    owner.execute(text("update users set name = 'Nome Devolvido'"))
    whole = owner.scalar(text("select string_agg(r::text, ' ') from pipeline.guard_refusals r"))
    assert "Devolvido" not in whole


def test_writing_the_same_values_again_is_no_refusal(owner: Connection) -> None:
    _anonymize(owner, "users")
    owner.execute(text("update users set phone = phone, name = name, updated_at = now()"))
    assert _refusals(owner) == []


def test_an_upsert_meets_the_guard_too(owner: Connection, database: TestDatabase) -> None:
    user = _anonymize(owner, "users")
    with database.connect("pipeline") as connection, connection.begin():
        connection.execute(
            text(
                "insert into users (id, phone, name, is_client, created_at, updated_at) "
                "values (gen_random_uuid(), :phone, 'De Volta', true, now(), now()) "
                "on conflict (phone) do update set name = excluded.name, "
                "updated_at = timestamptz '2030-01-01 00:00+00'"
            ),
            {"phone": PLACEHOLDER},
        )
    row = _row(owner, "users", user)
    assert row["name"] is None
    assert row["updated_at"] == datetime(2030, 1, 1, tzinfo=UTC)
    assert _refusals(owner) == [("users", user, "name", "gatte_pipeline")]


def test_rows_that_are_not_anonymised_change_freely(owner: Connection, chatbot: Connection) -> None:
    user, lead = insert(owner, "users"), insert(owner, "leads")
    owner.commit()
    for table, row_id in (("users", user), ("leads", lead)):
        for column, value in PERSONAL[table].items():
            chatbot.execute(
                text(f"update {table} set {column} = :value where id = :id"),  # noqa: S608
                {"value": value, "id": row_id},
            )
    chatbot.commit()
    assert _row(owner, "users", user) | PERSONAL["users"] == _row(owner, "users", user)
    assert _row(owner, "leads", lead) | PERSONAL["leads"] == _row(owner, "leads", lead)
    assert _refusals(owner) == []


def test_the_mark_of_a_lead_does_not_guard_a_user_of_the_same_id(owner: Connection) -> None:
    lead = _anonymize(owner, "leads")
    user = insert(owner, "users", id=lead)
    owner.execute(text("update users set name = 'Livre'"))
    assert _row(owner, "users", user)["name"] == "Livre"


def test_a_refusal_names_the_session_so_that_our_run_can_find_its_own(owner: Connection) -> None:
    _anonymize(owner, "users")
    owner.execute(text("update users set name = 'A'"))
    assert owner.scalar(
        text(
            "select backend_pid = pg_backend_pid() and refused_at = transaction_timestamp() "
            "from pipeline.guard_refusals"
        )
    )


# --- removed message texts -----------------------------------------------------------------------


@pytest.fixture
def removed(owner: Connection) -> UUID:
    """A message whose text was removed."""
    message = whole_client(owner)["messages"]
    owner.execute(text("update messages set content = ''"))
    owner.commit()
    return message


def test_a_removed_text_stays_removed(
    owner: Connection, chatbot: Connection, removed: UUID
) -> None:
    chatbot.execute(
        text("update messages set content = 'de volta', is_in_context = false where id = :id"),
        {"id": removed},
    )
    chatbot.commit()
    row = _row(owner, "messages", removed)
    assert (row["content"], row["is_in_context"]) == ("", False)
    assert _refusals(owner) == [("messages", removed, "content", CHATBOT)]


def test_an_upsert_brings_no_removed_text_back(
    owner: Connection, database: TestDatabase, removed: UUID
) -> None:
    with database.connect("pipeline") as connection, connection.begin():
        connection.execute(
            text(
                "insert into messages (id, conversation_id, role, content, is_in_context, "
                "created_at) select id, conversation_id, role, 'de volta', true, created_at "
                "from messages on conflict (id) do update set content = excluded.content"
            )
        )
    assert _row(owner, "messages", removed)["content"] == ""
    assert _refusals(owner) == [("messages", removed, "content", "gatte_pipeline")]


def test_a_text_can_be_edited_and_removed(owner: Connection) -> None:
    message = whole_client(owner)["messages"]
    owner.execute(text("update messages set content = 'corrigido'"))
    assert _row(owner, "messages", message)["content"] == "corrigido"
    owner.execute(text("update messages set content = ''"))
    owner.execute(text("update messages set content = ''"))
    assert _refusals(owner) == []


# --- tickets -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "statement",
    [
        "delete from tickets",
        "truncate tickets",
        "truncate users cascade",
        "truncate conversations, messages, session_context, tickets",
    ],
)
def test_tickets_are_never_deleted(owner: Connection, statement: str) -> None:
    whole_client(owner)
    owner.commit()
    with pytest.raises(DBAPIError) as caught:
        owner.execute(text(statement))
    assert isinstance(caught.value.orig, psycopg.errors.RestrictViolation)
    assert "never deleted" in str(caught.value.orig)
    owner.rollback()
    assert owner.scalar(text("select count(*) from tickets")) == 1


def test_the_chatbot_deletes_no_ticket_either(owner: Connection, chatbot: Connection) -> None:
    whole_client(owner)
    owner.commit()
    with pytest.raises(DBAPIError, match="never deleted"):
        chatbot.execute(text("delete from tickets"))


# --- days_to_expire ------------------------------------------------------------------------------

# 02:59 UTC is still the evening before in São Paulo (UTC-3, no summer time since 2019).
_DAYS = [
    ("2026-03-12T12:00:00+00:00", "2026-03-02T12:00:00+00:00", 10),
    ("2026-03-02T12:00:00+00:00", "2026-03-02T12:00:00+00:00", 0),
    ("2026-03-02T12:00:00+00:00", "2026-03-03T12:00:00+00:00", -1),
    ("2026-03-02T12:00:00+00:00", "2026-04-01T12:00:00+00:00", -30),
    ("2026-03-02T12:00:00+00:00", "2026-04-02T12:00:00+00:00", -30),
    ("2020-01-01T12:00:00+00:00", "2026-04-02T12:00:00+00:00", -30),
    ("2026-03-03T02:59:59+00:00", "2026-03-02T12:00:00+00:00", 0),
    ("2026-03-03T03:00:00+00:00", "2026-03-02T12:00:00+00:00", 1),
    ("2026-03-03T12:00:00+00:00", "2026-03-03T02:59:59+00:00", 1),
    ("2026-03-03T12:00:00+00:00", "2026-03-03T03:00:00+00:00", 0),
    ("2029-03-01T12:00:00+00:00", "2026-03-02T12:00:00+00:00", 1095),
]


@pytest.mark.parametrize(("expires_at", "as_of", "days"), _DAYS)
def test_days_to_expire_count_business_dates_down_to_thirty_ago(
    owner: Connection, expires_at: str, as_of: str, days: int
) -> None:
    certificate = whole_client(owner)["certificates"]
    set_as_of(owner, datetime.fromisoformat(as_of))
    owner.execute(
        text("update certificates set expires_at = :expires_at"), {"expires_at": expires_at}
    )
    assert _row(owner, "certificates", certificate)["days_to_expire"] == days


def test_days_to_expire_ignore_what_a_writer_claims(owner: Connection, chatbot: Connection) -> None:
    ids = whole_client(owner)
    owner.commit()
    now = datetime.now(UTC)
    inserted = insert(
        chatbot,
        "certificates",
        user_id=ids["users"],
        service_id=ids["services"],
        expires_at=now + timedelta(days=7),
        days_to_expire=9999,
    )
    assert _row(chatbot, "certificates", inserted)["days_to_expire"] in {6, 7, 8}
    chatbot.execute(text("update certificates set days_to_expire = 9999"))
    assert chatbot.scalar(text("select max(days_to_expire) from certificates")) in {6, 7, 8}


def test_days_to_expire_do_not_depend_on_the_session_zone(owner: Connection) -> None:
    certificate = whole_client(owner)["certificates"]
    for zone in ("UTC", "Asia/Tokyo", "America/Los_Angeles"):
        owner.execute(text(f"set local timezone = '{zone}'"))
        set_as_of(owner, datetime(2026, 3, 3, 2, 59, tzinfo=UTC))
        owner.execute(text("update certificates set expires_at = '2026-03-03T12:00:00+00:00'"))
        assert _row(owner, "certificates", certificate)["days_to_expire"] == 1


# --- the clock -----------------------------------------------------------------------------------


def test_the_clock_answers_as_of_until_the_transaction_ends(database: TestDatabase) -> None:
    as_of = datetime(2025, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
    with database.connect("pipeline") as connection:
        with connection.begin():
            set_as_of(connection, as_of)
            assert connection.scalar(text("select pipeline.clock()")) == as_of
        with connection.begin():
            assert connection.scalar(text("select pipeline.clock() = now()"))


def test_the_clock_forgets_as_of_with_a_rollback(database: TestDatabase) -> None:
    with database.connect("pipeline") as connection:
        set_as_of(connection, datetime(2025, 1, 2, tzinfo=UTC))
        connection.rollback()
        assert connection.scalar(text("select pipeline.clock() = now()"))


def test_the_clock_of_one_session_is_not_that_of_another(database: TestDatabase) -> None:
    with database.connect("pipeline") as one, database.connect("pipeline") as other:
        set_as_of(one, datetime(2025, 1, 2, tzinfo=UTC))
        assert other.scalar(text("select pipeline.clock() = now()"))


def test_defaults_of_our_records_follow_the_clock(database: TestDatabase) -> None:
    as_of = datetime(2025, 1, 2, tzinfo=UTC)
    with database.connect("pipeline") as connection:
        set_as_of(connection, as_of)
        connection.execute(text("insert into pipeline.settings (name, value) values ('n', 'v')"))
        assert connection.scalar(text("select updated_at from pipeline.settings")) == as_of


# --- staff ---------------------------------------------------------------------------------------


def _staff(connection: Connection) -> list[str]:
    return list(connection.scalars(text("select name from pipeline.staff order by name")))


def test_every_staff_name_gets_one_random_id(owner: Connection, chatbot: Connection) -> None:
    ids = whole_client(owner)
    owner.commit()
    user, conversation = ids["users"], ids["conversations"]
    chatbot.execute(text("update conversations set transferred_to = 'Atendente Um'"))
    chatbot.execute(text("update tickets set assigned_to = 'Atendente Dois'"))
    chatbot.execute(text("update appointments set assigned_to = 'Atendente Um'"))
    insert(chatbot, "tickets", user_id=user, conversation_id=conversation, assigned_to="Três")
    insert(chatbot, "appointments", user_id=user, assigned_to="Atendente Dois")
    insert(
        chatbot,
        "conversations",
        user_id=user,
        status="closed",
        transferred_to="Quatro",
    )
    chatbot.commit()
    assert _staff(owner) == ["Atendente Dois", "Atendente Um", "Quatro", "Três"]
    ids_found = set(owner.scalars(text("select staff_id from pipeline.staff")))
    assert len(ids_found) == 4


def test_no_staff_is_made_of_nothing(owner: Connection) -> None:
    whole_client(owner)
    owner.execute(text("update tickets set assigned_to = ''"))
    owner.execute(text("update tickets set assigned_to = null"))
    assert _staff(owner) == []


# --- names the chatbot wrote ---------------------------------------------------------------------


def _named_at(connection: Connection, user: UUID) -> datetime | None:
    named_at: datetime | None = connection.scalar(
        text("select chatbot_named_at from pipeline.user_activity where user_id = :id"),
        {"id": user},
    )
    return named_at


def test_a_name_that_the_chatbot_inserts_is_noted(owner: Connection, chatbot: Connection) -> None:
    user = insert(chatbot, "users", name="Nome Coletado")
    chatbot.commit()
    assert _named_at(owner, user) is not None


def test_a_name_that_the_chatbot_corrects_is_noted(
    owner: Connection, chatbot: Connection, database: TestDatabase
) -> None:
    with database.connect("pipeline") as connection, connection.begin():
        user = insert(connection, "users", name="nome do perfil")
        connection.execute(
            text("insert into pipeline.user_activity (user_id, last_at) values (:id, now())"),
            {"id": user},
        )
    assert _named_at(owner, user) is None
    owner.commit()
    chatbot.execute(text("update users set name = 'Nome Coletado'"))
    chatbot.commit()
    assert _named_at(owner, user) is not None
    assert owner.scalar(text("select last_at is not null from pipeline.user_activity"))


def test_a_name_that_this_project_writes_is_not_noted(
    owner: Connection, database: TestDatabase
) -> None:
    with database.connect("pipeline") as connection, connection.begin():
        user = insert(connection, "users", name="nome do perfil")
        connection.execute(text("update users set name = 'outro nome do perfil'"))
    assert _named_at(owner, user) is None


@pytest.mark.parametrize(
    "statement",
    ["update users set email = 'a@example.com'", "update users set name = name"],
)
def test_a_write_that_leaves_the_name_alone_is_not_noted(
    owner: Connection, chatbot: Connection, statement: str
) -> None:
    user = insert(owner, "users")
    owner.commit()
    chatbot.execute(text(statement))
    chatbot.commit()
    assert _named_at(owner, user) is None


def test_a_name_refused_by_the_guard_is_not_noted(owner: Connection, chatbot: Connection) -> None:
    user = _anonymize(owner, "users")
    chatbot.execute(text("update users set name = 'De Volta'"))
    chatbot.commit()
    assert _named_at(owner, user) is None


def test_the_chatbot_needs_and_has_no_right_on_our_schema(chatbot: Connection) -> None:
    assert not chatbot.scalar(text("select has_schema_privilege('pipeline', 'usage')"))


def test_nothing_in_pg_temp_misleads_a_guard(owner: Connection, chatbot: Connection) -> None:
    user = _anonymize(owner, "users")
    chatbot.execute(text("create domain pg_temp.jsonb as text"))
    chatbot.execute(text("create temp table anonymized_rows (table_name text, row_id uuid)"))
    chatbot.execute(text("update users set name = 'De Volta'"))
    chatbot.commit()
    assert _row(owner, "users", user)["name"] is None
