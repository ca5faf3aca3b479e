"""The re-scan finds one leftover planted in each store in turn, and nothing where none is left."""

from __future__ import annotations

import ast
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from sqlalchemy import Connection, NullPool, create_engine, text

from gatte_pipelines.database.engine import psycopg_connection
from gatte_pipelines.errors import ConfigurationError
from gatte_pipelines.personal_data import CATALOGUE, Kind, personal_columns
from gatte_pipelines.phones import anonymised_placeholder
from gatte_pipelines.privacy import rescan
from gatte_pipelines.privacy.people import anonymize_users
from gatte_pipelines.privacy.rescan import (
    MAX_IDS,
    NIGHTLY_GRACE,
    NOBODYS_COLUMNS,
    SUBJECT_COLUMNS,
    Leftover,
    examine_rules,
    is_rescanned,
    rescan_people,
    rescan_rules,
)
from tests.database.rows import insert
from tests.database.test_inbound_orders import Loading
from tests.inbound_streams import Stream, sorted_once, streams
from tests.postgres import PostgresServer, TestDatabase, new_database
from tests.privacy_rows import (
    AS_OF,
    DAY,
    LONG_AGO,
    RECENT,
    VALUE,
    YEAR,
    Client,
    one,
    put,
    put_client,
    read_test_policy,
    switch_guards_off,
)

POLICY = read_test_policy()
HOUR = timedelta(hours=1)

# A row of each rule with a value in the column, at an instant of the rule's clock; its id as text.
Plant = Callable[[Connection, str, datetime], Any]


def plant_message(connection: Connection, column: str, at: datetime) -> Any:
    return insert(
        connection,
        "messages",
        conversation_id=put_conversation(connection, at),
        content=VALUE,
        created_at=at,
    )


def put_conversation(connection: Connection, at: datetime, **values: Any) -> UUID:
    # Of a user who wrote lately, so that only the planted row is past its time.
    user = insert(connection, "users", created_at=RECENT, updated_at=RECENT)
    return insert(
        connection,
        "conversations",
        user_id=user,
        status="closed",
        started_at=at,
        closed_at=at,
        **values,
    )


def plant_reaction(connection: Connection, column: str, at: datetime) -> Any:
    message = uuid4()
    put(
        connection,
        "pipeline.message_reactions",
        message_id=message,
        reacted_at=at,
        reaction_id=uuid4(),
        emoji=VALUE,
    )
    return message


def plant_button(connection: Connection, column: str, at: datetime) -> Any:
    message = insert(
        connection,
        "messages",
        conversation_id=put_conversation(connection, at),
        content="",
        created_at=at,
    )
    put(
        connection,
        "pipeline.button_replies",
        message_id=message,
        payload=VALUE,
        pressed_at=at,
    )
    return message


def plant_change(connection: Connection, column: str, at: datetime) -> Any:
    put(
        connection,
        "pipeline.message_changes",
        change_id=(change := uuid4()),
        edit_id=uuid4(),
        target_id=uuid4(),
        changed_at=at,
        is_revoke=False,
        content=VALUE,
    )
    return change


def plant_context(connection: Connection, column: str, at: datetime) -> Any:
    return insert(
        connection,
        "session_context",
        conversation_id=put_conversation(connection, at),
        ttl_expires_at=at,
        **{"messages_json": "[]", "summary": None, column: json.dumps([VALUE])},
    )


def plant_lead(connection: Connection, column: str, at: datetime) -> Any:
    values = {"name": anonymised_placeholder(), "phone": anonymised_placeholder(), column: VALUE}
    return insert(connection, "leads", created_at=at, **values)


def plant_user(connection: Connection, column: str, at: datetime) -> Any:
    user = insert(
        connection,
        "users",
        **{"phone": anonymised_placeholder(), column: VALUE},
        created_at=at,
        updated_at=RECENT,  # no activity, and keeps login_tokens_unused out of it
    )
    put(connection, "pipeline.user_activity", user_id=user, last_at=at)
    return user


def plant_token(connection: Connection, column: str, at: datetime) -> Any:
    # Younger than users_inactive, so that this rule alone is broken.
    return insert(connection, "users", login_token=VALUE, created_at=at, updated_at=at)


def plant_appointment(connection: Connection, column: str, at: datetime) -> Any:
    user = insert(connection, "users", created_at=RECENT, updated_at=RECENT)
    return insert(
        connection, "appointments", user_id=user, scheduled_at=at, created_at=at, **{column: VALUE}
    )


def plant_service(connection: Connection, column: str, at: datetime) -> Any:
    user = insert(connection, "users", created_at=RECENT, updated_at=RECENT)
    return insert(
        connection,
        "services",
        user_id=user,
        status="cancelled",
        contracted_at=at,
        expires_at=at,
        notes=VALUE,
    )


def plant_staff(connection: Connection, column: str, at: datetime) -> Any:
    return one(
        connection,
        "insert into pipeline.staff (name, first_seen_at) values (:name, :at) returning staff_id",
        name=VALUE,
        at=at,
    )


def plant_batch(connection: Connection, column: str, at: datetime) -> Any:
    put(
        connection,
        "pipeline.inbound_batches",
        batch_id=(batch := uuid4()),
        source_name=VALUE,
        size_bytes=1,
        state="done",
        run_id=uuid4(),
        first_seen_at=at,
    )
    return batch


def plant_quarantine(connection: Connection, column: str, at: datetime) -> Any:
    put(
        connection,
        "pipeline.quarantine",
        id=(row := uuid4()),
        batch_id=uuid4(),
        source_name=VALUE,
        line=1,
        kind="text",
        reason="too_long",
        payload=VALUE.encode(),
        quarantined_at=at,
    )
    return row


def plant_conflict(connection: Connection, column: str, at: datetime) -> Any:
    put(
        connection,
        "pipeline.sync_conflicts",
        conflict_id=(conflict := uuid4()),
        system="pipedrive",
        table_name="leads",
        local_id=uuid4(),
        kind="both_changed",
        field="name",
        winner="ours",
        run_id=uuid4(),
        found_at=at,
        **{column: VALUE},
    )
    return conflict


def plant_identity_change(connection: Connection, column: str, at: datetime) -> Any:
    columns = [name for name in CATALOGUE["pipeline.identity_changes"] if name != column]
    put(
        connection,
        "pipeline.identity_changes",
        change_id=(change := uuid4()),
        changed_at=at,
        moves_number=True,
        **dict.fromkeys(columns, ""),
        **{column: VALUE},
    )
    return change


def plant_undo(connection: Connection, column: str, at: datetime) -> Any:
    return one(
        connection,
        "insert into pipeline.undo_records (kind, kept_id, removed_id, record, expires_at) "
        "values ('users', :kept, :removed, :record, :at) returning undo_id",
        kept=uuid4(),
        removed=uuid4(),
        record=json.dumps({"name": VALUE}),
        at=at,
    )


def plant_run(connection: Connection, column: str, at: datetime) -> Any:
    values = {"error": VALUE} if column == "error" else {"report": json.dumps({"notes": [VALUE]})}
    put(
        connection,
        "pipeline.runs",
        run_id=(run := uuid4()),
        pipeline="inbound_messages",
        as_of=at,
        started_at=at,
        **values,
    )
    return run


def plant_plan(connection: Connection, column: str, at: datetime) -> Any:
    put(
        connection,
        "pipeline.plans",
        plan_id=(plan := uuid4()),
        pipeline="lgpd_retention",
        as_of=at,
        parameters="{}",
        contents="{}",
        expires_at=at,
    )
    return plan


def plant_erased_message(connection: Connection, column: str, at: datetime) -> Any:
    put(connection, "pipeline.erased_messages", message_id=(message := uuid4()), forget_at=at)
    return message


def plant_hold(connection: Connection, column: str, at: datetime) -> Any:
    put(
        connection,
        "pipeline.retention_holds",
        hold_id=(hold := uuid4()),
        table_name="users",
        row_id=uuid4(),
        placed_at=at,
        released_at=at,
        **{"reason": "", "owner": "", column: VALUE},
    )
    return hold


def plant_task(connection: Connection, column: str, at: datetime) -> Any:
    put(
        connection,
        "pipeline.external_tasks",
        task_id=(task := uuid4()),
        user_id=uuid4(),
        system="pipedrive",
        reference=VALUE,
        state="confirmed",
        created_at=at,
        confirmed_at=at,
    )
    return task


PLANTS: dict[str, Plant] = {
    "messages_content": plant_message,
    "message_reactions_emoji": plant_reaction,
    "button_replies_payload": plant_button,
    "message_changes_waiting": plant_change,
    "session_context_ttl": plant_context,
    "leads_inactive": plant_lead,
    "users_inactive": plant_user,
    "login_tokens_unused": plant_token,
    "appointments_details": plant_appointment,
    "services_notes": plant_service,
    "staff_names": plant_staff,
    "inbound_batches": plant_batch,
    "quarantine": plant_quarantine,
    "sync_conflicts": plant_conflict,
    "identity_changes_unknown": plant_identity_change,
    "undo_records": plant_undo,
    "runs_text": plant_run,
    "plans_expired": plant_plan,
    "erased_messages": plant_erased_message,
    "holds_text": plant_hold,
    "external_tasks_reference": plant_task,
}
# Rules that delete rows without a personal column.
_PLAIN_ROWS = {"plans_expired": ("contents",), "erased_messages": ("message_id",)}

RULE_COLUMNS = [
    (rule.name, rule.store, column)
    for rule in POLICY.rules
    if is_rescanned(rule)
    for column in (rule.columns or _PLAIN_ROWS[rule.name])
]

SUBJECTS = [
    (table, column, statement)
    for table, columns in SUBJECT_COLUMNS.items()
    for column, statement in columns.items()
]


@pytest.fixture(scope="module")
def shared(
    postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Connection]:
    """The owner's connection to a database whose guards are switched off."""
    with (
        new_database(postgres_server, tmp_path_factory.mktemp("homes")) as made,
        create_engine(made.url_owner, poolclass=NullPool).connect() as connection,
    ):
        with connection.begin():
            switch_guards_off(connection)
        yield connection


@pytest.fixture
def free(shared: Connection) -> Iterator[Connection]:
    """Such a connection in a transaction of the test's own, which leaves nothing."""
    with shared.begin() as transaction:
        yield shared
        transaction.rollback()


@pytest.fixture
def loading(database: TestDatabase, tmp_path: Path) -> Iterator[Loading]:
    """Loads streams of inbound records."""
    with (
        database.connect() as connection,
        database.connect() as side,
        database.connect("owner") as owner,
    ):
        yield Loading(connection, side, owner, tmp_path)


def due_at(rule_name: str) -> datetime:
    """An instant a day past the window of a rule."""
    period = POLICY.rule(rule_name).period
    if period is None:
        return AS_OF - DAY
    if period.unit == "years":
        return AS_OF.replace(year=AS_OF.year - period.amount) - DAY
    assert period.unit in {"hours", "days"}
    return AS_OF - timedelta(**{period.unit: period.amount}) - DAY


def rules(connection: Connection, **options: Any) -> list[Leftover]:
    return rescan_rules(connection, POLICY, as_of=AS_OF, **options)


def places(leftovers: list[Leftover]) -> set[tuple[str, str, str, tuple[str, ...]]]:
    return {(found.check, found.table, found.column, found.ids) for found in leftovers}


# --- By rule --------------------------------------------------------------------------------------


def test_every_rule_of_the_database_is_planted_here() -> None:
    assert set(PLANTS) == {rule.name for rule in POLICY.rules if is_rescanned(rule)}


@pytest.mark.parametrize(("rule", "table", "column"), RULE_COLUMNS)
def test_a_row_past_its_window_is_named_without_its_value(
    free: Connection, rule: str, table: str, column: str
) -> None:
    planted = PLANTS[rule](free, column, due_at(rule))
    found = rules(free)
    assert (rule, table, column, (str(planted),)) in places(found)
    assert {leftover.check for leftover in found} == {rule}
    assert VALUE not in repr(found)


@pytest.mark.parametrize("rule", sorted(PLANTS))
def test_a_row_within_its_window_is_no_leftover(free: Connection, rule: str) -> None:
    for column in POLICY.rule(rule).columns or ("",):
        PLANTS[rule](free, column, due_at(rule) + 2 * DAY)
    assert rules(free) == []


@pytest.mark.parametrize("rule", sorted(PLANTS))
def test_the_grace_of_the_nightly_run_covers_what_came_due_since(
    free: Connection, rule: str
) -> None:
    column = (POLICY.rule(rule).columns or ("",))[0]
    PLANTS[rule](free, column, due_at(rule))
    assert checks(rules(free)) == {rule}
    assert rules(free, grace=NIGHTLY_GRACE) == []


@pytest.mark.parametrize(
    ("staff_table", "column"),
    [
        ("public.conversations", "transferred_to"),
        ("public.appointments", "assigned_to"),
        ("pipeline.conversation_events", "transferred_to"),
    ],
)
def test_an_old_name_of_a_colleague_is_found_where_it_stands(
    free: Connection, staff_table: str, column: str
) -> None:
    put_client(free, at=LONG_AGO, is_anonymized=True)
    if staff_table == "public.conversations":
        planted = put_conversation(free, LONG_AGO, transferred_to=VALUE)
    elif staff_table == "public.appointments":
        planted = plant_appointment(free, column, LONG_AGO)
    else:
        planted = uuid4()
        put(
            free,
            "pipeline.conversation_events",
            event_id=planted,
            user_id=one(free, "select id from users limit 1"),
            sender_id=0,
            at=LONG_AGO,
            status="transferred",
            transferred_to=VALUE,
        )
    assert places(rules(free)) == {("staff_names", staff_table, column, (str(planted),))}


def test_a_colleague_who_was_met_lately_or_stands_in_a_ticket_keeps_the_name(
    free: Connection,
) -> None:
    plant_staff(free, "name", LONG_AGO)
    put_conversation(free, RECENT, transferred_to=VALUE)
    assert rules(free) == []
    free.execute(
        text("update conversations set started_at = :at, closed_at = :at"), {"at": LONG_AGO}
    )
    assert {found.column for found in rules(free)} == {"name", "transferred_to"}
    client = put_client(free, at=RECENT, is_anonymized=False)
    free.execute(
        text("update tickets set assigned_to = :name where id = :id"),
        {"name": VALUE, "id": client["tickets"]},
    )
    assert rules(free) == []


def test_a_lead_is_due_four_years_after_its_capture_whatever_happened_since(
    free: Connection,
) -> None:
    lead = plant_lead(free, "email", AS_OF - 3 * YEAR)
    put(
        free,
        "pipeline.row_history",
        table_name="leads",
        row_id=lead,
        column_name="stage",
        new_value="contacted",
        changed_at=RECENT,
    )
    assert rules(free) == []
    free.execute(text("update leads set created_at = :at"), {"at": AS_OF - 4 * YEAR - DAY})
    assert places(rules(free)) == {("leads_inactive", "public.leads", "email", (str(lead),))}


def test_a_message_of_the_linked_user_keeps_a_lead_in_its_period(free: Connection) -> None:
    lead = plant_lead(free, "email", AS_OF - 3 * YEAR)
    user = insert(free, "users", created_at=RECENT, updated_at=RECENT)
    put(free, "pipeline.user_activity", user_id=user, last_at=RECENT)
    assert len(rules(free)) == 1
    free.execute(text("update leads set user_id = :user"), {"user": user})
    assert rules(free) == []
    assert lead


def test_a_message_within_the_period_keeps_a_user_who_came_long_ago(free: Connection) -> None:
    user = plant_user(free, "email", LONG_AGO)
    free.execute(text("update pipeline.user_activity set last_at = :at"), {"at": RECENT})
    assert rules(free) == []
    free.execute(text("delete from pipeline.user_activity"))
    assert [found.ids for found in rules(free)] == [(str(user),)]


BASES: dict[str, tuple[str, dict[str, Any]]] = {
    "active_service": ("services", {"status": "active"}),
    "valid_certificate": ("certificates", {"status": "valid", "expires_at": AS_OF + DAY}),
    "open_ticket": ("tickets", {"status": "in_progress"}),
    "future_appointment": (
        "appointments",
        {"status": "confirmed", "scheduled_at": AS_OF + DAY},
    ),
    "lead_in_period": ("leads", {"created_at": RECENT}),
}


@pytest.fixture
def dormant(free: Connection) -> Client:
    """A client who is due but for nothing."""
    client = put_client(free, at=LONG_AGO, is_anonymized=False)
    free.execute(text("update messages set content = ''"))
    free.execute(text("update leads set name = :x, phone = :x"), {"x": anonymised_placeholder()})
    return client


def set_row(connection: Connection, table: str, row_id: Any, values: dict[str, Any]) -> None:
    for column, value in values.items():
        connection.execute(
            text(f"update {table} set {column} = :value where id = :id"),  # noqa: S608 - our names
            {"value": value, "id": row_id},
        )


@pytest.mark.parametrize("basis", BASES)
def test_a_blocking_basis_exempts_a_dormant_user_and_is_told(
    free: Connection, dormant: Client, basis: str
) -> None:
    assert {found.check for found in rules(free)} == {"users_inactive"}
    table, values = BASES[basis]
    set_row(free, table, dormant[table], values)
    if basis == "lead_in_period":
        set_row(free, table, dormant[table], {"phone": "+5511900001234"})
    assert rules(free) == []
    exempt = [found for found in examine_rules(free, POLICY, as_of=AS_OF) if not found.column]
    assert [(found.rule, found.basis, found.count) for found in exempt] == [
        ("users_inactive", basis, 1)
    ]


@pytest.mark.parametrize(
    ("status", "is_exempt"),
    [("active", True), ("suspended", True), ("trial", True), ("cancelled", False)],
)
def test_a_client_of_a_contract_that_runs_is_exempt(
    free: Connection, dormant: Client, status: str, is_exempt: bool
) -> None:
    set_row(free, "services", dormant["services"], {"status": status})
    assert {found.check for found in rules(free)} == (set() if is_exempt else {"users_inactive"})


@pytest.mark.parametrize(
    ("table", "values"),
    [
        ("certificates", {"status": "revoked", "expires_at": AS_OF + DAY}),
        ("certificates", {"status": "valid", "expires_at": AS_OF - DAY}),
        ("tickets", {"status": "closed"}),
        ("appointments", {"status": "cancelled", "scheduled_at": AS_OF + DAY}),
        ("services", {"status": "cancelled", "expires_at": AS_OF + DAY}),
        # An anonymised lead is nobody's.
        ("leads", {"created_at": RECENT}),
    ],
)
def test_what_only_looks_like_a_basis_exempts_nobody(
    free: Connection, dormant: Client, table: str, values: dict[str, Any]
) -> None:
    set_row(free, table, dormant[table], values)
    assert {found.check for found in rules(free)} == {"users_inactive"}


def test_an_exemption_that_only_stands_in_the_table_of_exemptions_counts_for_nothing(
    free: Connection, dormant: Client
) -> None:
    put(
        free,
        "pipeline.retention_exemptions",
        rule="users_inactive",
        table_name="users",
        row_id=dormant["users"],
        basis="active_service",
        first_seen_at=RECENT,
        last_seen_at=AS_OF,
    )
    assert {found.ids for found in rules(free)} == {(str(dormant["users"]),)}


def test_a_basis_that_ended_within_the_grace_still_exempts(
    free: Connection, dormant: Client
) -> None:
    put(
        free,
        "pipeline.row_history",
        table_name="tickets",
        row_id=dormant["tickets"],
        column_name="status",
        old_value="open",
        new_value="closed",
        changed_at=RECENT,
    )
    assert rules(free, grace=NIGHTLY_GRACE) == []
    assert {found.check for found in rules(free)} == {"users_inactive"}


def hold(connection: Connection, table: str, row_id: Any, **values: Any) -> None:
    put(
        connection,
        "pipeline.retention_holds",
        hold_id=uuid4(),
        table_name=table,
        row_id=row_id,
        reason="processo",
        owner="jurídico",
        placed_at=RECENT,
        **values,
    )


@pytest.fixture
def overdue(free: Connection) -> Client:
    """A client of whom everything is past its time."""
    client = put_client(free, at=LONG_AGO, is_anonymized=False)
    values: dict[str, dict[str, Any]] = {
        "users": {"login_token": VALUE},
        "appointments": {"notes": VALUE},
        "services": {"notes": VALUE},
    }
    for table, columns in values.items():
        set_row(free, table, client[table], columns)
    insert(
        free, "session_context", conversation_id=client["conversations"], ttl_expires_at=LONG_AGO
    )
    free.execute(text("update pipeline.message_reactions set emoji = 'x'"))
    free.execute(text("update pipeline.button_replies set payload = 'x'"))
    plant_conflict(free, "our_value", LONG_AGO)
    free.execute(
        text("update pipeline.sync_conflicts set local_id = :lead"), {"lead": client["leads"]}
    )
    return client


def checks(leftovers: list[Leftover]) -> set[str]:
    return {found.check for found in leftovers}


OF_SUBJECT = {
    "messages_content",
    "message_reactions_emoji",
    "button_replies_payload",
    "session_context_ttl",
    "leads_inactive",
    "users_inactive",
    "login_tokens_unused",
    "appointments_details",
    "services_notes",
    "sync_conflicts",
}


def test_a_hold_on_a_user_covers_everything_of_the_subject(
    free: Connection, overdue: Client
) -> None:
    assert checks(rules(free)) == OF_SUBJECT
    hold(free, "users", overdue["users"])
    assert rules(free) == []


def test_a_hold_follows_a_user_who_became_part_of_another(
    free: Connection, overdue: Client
) -> None:
    hold(free, "users", before := uuid4())
    put(
        free,
        "pipeline.user_merges",
        from_user_id=before,
        into_user_id=overdue["users"],
        merged_at=RECENT,
    )
    assert rules(free) == []


@pytest.mark.parametrize(
    ("table", "covered"),
    [
        ("messages", {"messages_content", "message_reactions_emoji", "button_replies_payload"}),
        ("leads", {"leads_inactive", "sync_conflicts"}),
        ("appointments", {"appointments_details"}),
        ("services", {"services_notes"}),
        ("tickets", set()),
        ("certificates", set()),
        (
            "conversations",  # with what was said in it
            {"messages_content", "message_reactions_emoji", "button_replies_payload"},
        ),
    ],
)
def test_a_hold_on_a_row_covers_that_row_and_blocks_its_user(
    free: Connection, overdue: Client, table: str, covered: set[str]
) -> None:
    hold(free, table, overdue[table])
    assert checks(rules(free)) == OF_SUBJECT - covered - {"users_inactive"}


def test_a_hold_follows_a_lead_that_became_part_of_another(
    free: Connection, overdue: Client
) -> None:
    hold(free, "leads", before := uuid4())
    put_link(free, before, state="merged", merged_into=overdue["leads"])
    assert checks(rules(free)) == OF_SUBJECT - {
        "leads_inactive",
        "sync_conflicts",
        "users_inactive",
    }


@pytest.mark.parametrize("ended", ["ends_at", "released_at"])
def test_a_hold_that_ended_covers_nothing_but_what_the_grace_does(
    free: Connection, overdue: Client, ended: str
) -> None:
    hold(free, "users", overdue["users"], **{ended: RECENT})
    assert checks(rules(free)) == OF_SUBJECT
    assert rules(free, grace=NIGHTLY_GRACE) == []


def test_many_leftovers_are_counted_and_the_oldest_named(free: Connection) -> None:
    conversation = put_conversation(free, LONG_AGO)
    planted = [
        insert(
            free,
            "messages",
            conversation_id=conversation,
            content=VALUE,
            created_at=LONG_AGO + number * DAY,
        )
        for number in range(MAX_IDS + 5)
    ]
    (found,) = rules(free)
    assert (found.count, found.oldest) == (MAX_IDS + 5, LONG_AGO)
    assert found.ids == tuple(str(one_id) for one_id in planted[:MAX_IDS])


# --- By subject -----------------------------------------------------------------------------------


def test_every_personal_column_has_a_link_or_a_reason_why_it_is_nobodys() -> None:
    personal = set(personal_columns())
    linked = {(table, column) for table, column, _ in SUBJECTS}
    reasoned = {(table, column) for table, cs in NOBODYS_COLUMNS.items() for column in cs}
    assert linked & reasoned == set()
    assert linked | reasoned == personal
    assert all(reason for columns in NOBODYS_COLUMNS.values() for reason in columns.values())


def plant_in_subject(connection: Connection, client: Client, table: str, column: str) -> Any:
    """Write ``VALUE`` into a column of the client, in a row of theirs or a new one; its id."""
    name = table.partition(".")[2]
    if table == "public.session_context":
        return plant_row(
            connection,
            table,
            id=uuid4(),
            conversation_id=client["conversations"],
            ttl_expires_at=RECENT,
            updated_at=RECENT,
            **{"messages_json": "[]", column: json.dumps([VALUE])},
        )
    if table.startswith("public."):
        set_row(connection, name, client[name], {column: VALUE})
        return client[name]
    if table == "pipeline.user_identities":
        return plant_row(
            connection,
            table,
            kind="bsuid",
            value=VALUE,
            user_id=client["users"],
            valid_from=RECENT,
        )
    if table == "pipeline.undo_records":
        return plant_row(
            connection,
            table,
            kind="users",
            kept_id=client["users"],
            removed_id=uuid4(),
            record=json.dumps({"name": VALUE}),
            expires_at=AS_OF + DAY,
        )
    if table == "pipeline.crm_links":
        value = {"remote_lead_id": uuid4()}.get(column, 900_001 if column in REMOTE_IDS else VALUE)
        put_link(connection, client["leads"], **{column: value})
        return client["leads"]
    if table == "pipeline.sync_conflicts":
        conflict = plant_conflict(connection, column, RECENT)
        connection.execute(
            text("update pipeline.sync_conflicts set local_id = :lead"), {"lead": client["leads"]}
        )
        return conflict
    if table == "pipeline.identity_changes":
        change = plant_identity_change(connection, column, RECENT)
        connection.execute(text("update pipeline.identity_changes set is_settled = true"))
        return change
    key, row_id = {
        "pipeline.senders": ("sender_id", client["sender"]),
        "pipeline.message_changes": ("change_id", client["change"]),
        "pipeline.message_reactions": ("message_id", client["messages"]),
        "pipeline.button_replies": ("message_id", client["messages"]),
        "pipeline.external_tasks": ("task_id", client["task"]),
        "pipeline.message_facts": ("message_id", client["messages"]),
        "pipeline.message_statuses": ("message_id", client["messages"]),
        "pipeline.opt_outs": ("user_id", client["users"]),
        "pipeline.row_history": ("row_id", client["appointments"]),
        "pipeline.anonymized_rows": ("row_id", client["users"]),
        "pipeline.retention_exemptions": ("row_id", client["users"]),
        "pipeline.guard_refusals": ("row_id", client["users"]),
    }[table]
    return connection.execute(
        text(
            f"update {table} set {column} = :value where {key} = :id "  # noqa: S608 - our names
            f"returning {_KEYS.get(table, key)}"
        ),
        {"value": VALUE if (table, column) not in PATTERN_COLUMNS else PATTERN, "id": row_id},
    ).scalar_one()


_KEYS = {"pipeline.opt_outs": "choice_id", "pipeline.row_history": "history_id"}


REMOTE_IDS = {"deal_id", "person_id", "organization_id", "note_id"}


def put_link(connection: Connection, lead_id: Any, **values: Any) -> None:
    made = {"lead_id": lead_id, "state": "pending", "made_at": RECENT, "changed_at": RECENT}
    put(connection, "pipeline.crm_links", **(made | values))


def plant_row(connection: Connection, table: str, **values: Any) -> Any:
    put(connection, table, **values)
    newest = {
        "pipeline.user_identities": "select max(identity_id) from pipeline.user_identities",
        "pipeline.undo_records": "select max(undo_id) from pipeline.undo_records",
    }
    return one(connection, newest[table]) if table in newest else values["id"]


@pytest.fixture
def anonymized(free: Connection) -> Client:
    """Two anonymised clients and a living one; the first is looked at."""
    client = put_client(free, at=LONG_AGO, is_anonymized=True)
    put_client(free, at=LONG_AGO, is_anonymized=True)
    put_client(free, at=RECENT, is_anonymized=False)
    return client


def test_a_clean_anonymised_database_gives_nothing(free: Connection, anonymized: Client) -> None:
    assert rescan_people(free) == []
    assert rules(free) == []


@pytest.mark.parametrize(("table", "column", "statement"), SUBJECTS)
def test_a_leftover_of_a_subject_is_named_without_its_value(
    free: Connection, anonymized: Client, table: str, column: str, statement: str
) -> None:
    planted = plant_in_subject(free, anonymized, table, column)
    for found in (
        rescan_people(free),
        rescan_people(free, user_ids=[anonymized["users"]], lead_ids=[anonymized["leads"]]),
        rescan_people(free, user_ids=[anonymized["users"]]),
    ):
        assert places(found) == {("subject", table, column, (str(planted),))}
        assert [leftover.count for leftover in found] == [1]
        assert VALUE not in repr(found)


PATTERN = "55 11 90000-1234"
PATTERN_COLUMNS = {
    ("public.conversations", "current_flow"),
    ("public.messages", "intent_detected"),
    ("public.leads", "interest"),
    ("public.leads", "source"),
    ("public.services", "name"),
    ("pipeline.message_facts", "mode"),
    ("pipeline.message_facts", "current_flow"),
    ("pipeline.message_facts", "model"),
    ("pipeline.message_statuses", "pricing_category"),
    ("pipeline.opt_outs", "category"),
    ("pipeline.external_tasks", "system"),
    ("pipeline.row_history", "old_value"),
    ("pipeline.row_history", "new_value"),
    ("pipeline.anonymized_rows", "rule"),
    ("pipeline.retention_exemptions", "rule"),
    ("pipeline.retention_exemptions", "table_name"),
    ("pipeline.retention_exemptions", "basis"),
    ("pipeline.guard_refusals", "table_name"),
    ("pipeline.guard_refusals", "column_name"),
    ("pipeline.guard_refusals", "refused_role"),
}
# Plain text of rows of subjects in which nothing personal can stand: a name of a table by which the
# row itself is found, users.id, and what the erasure of a sender takes with it. Or of rows that may
# not stand at all.
FOUND_BY = {
    ("pipeline.row_history", "table_name"),
    ("pipeline.row_history", "column_name"),
    ("pipeline.anonymized_rows", "table_name"),
    ("pipeline.senders", "user_ref"),
    ("pipeline.user_identities", "kind"),
    ("pipeline.undo_records", "kind"),
    ("pipeline.crm_links", "agreed_stage"),
    ("pipeline.sync_conflicts", "system"),
    ("pipeline.sync_conflicts", "table_name"),
    ("pipeline.sync_conflicts", "field"),
}


def test_what_a_sync_remembers_of_a_subject_may_not_stand_even_without_a_value(
    free: Connection, anonymized: Client
) -> None:
    put_link(free, anonymized["leads"], agreed_stage="new")
    put_link(free, merged := uuid4(), state="merged", merged_into=anonymized["leads"])
    put_link(free, earlier := uuid4(), state="merged", merged_into=merged, agreed_name=VALUE)
    conflict = plant_conflict(free, "our_value", RECENT)
    put(
        free,
        "pipeline.sync_outbox",
        system="pipedrive",
        local_id=merged,
        action="create_lead",
        begun_at=RECENT,
    )
    free.execute(
        text("update pipeline.sync_conflicts set local_id = :lead, our_value = null"),
        {"lead": merged},
    )
    assert {
        (found.check, found.table, found.column, found.count) for found in rescan_people(free)
    } == {
        ("subject", "pipeline.crm_links", "lead_id", 2),
        ("subject", "pipeline.crm_links", "agreed_name", 1),
        ("subject", "pipeline.sync_conflicts", "local_id", 1),
        ("subject", "pipeline.sync_outbox", "local_id", 1),
    }
    assert {one_id for found in rescan_people(free) for one_id in found.ids} == {
        str(one_id) for one_id in (anonymized["leads"], merged, earlier, conflict)
    }


def test_a_merge_of_users_that_names_a_lead_of_before_is_no_leftover_of_it(
    free: Connection, anonymized: Client
) -> None:
    record = json.dumps({"leads": [str(anonymized["leads"])], "user": {"name": VALUE}})
    undo = {"removed_id": uuid4(), "record": record, "expires_at": AS_OF + DAY}
    put(free, "pipeline.undo_records", kind="users", kept_id=uuid4(), **undo)
    assert rescan_people(free) == []
    free.execute(text("update pipeline.undo_records set kind = 'leads'"))
    assert [found.column for found in rescan_people(free)] == ["record"]


def test_every_other_text_of_a_subjects_rows_is_searched_for_patterns(
    free: Connection,
) -> None:
    tables = set(SUBJECT_COLUMNS) | {table for table, _ in PATTERN_COLUMNS}
    tables |= {"pipeline.conversation_events", "pipeline.subject_requests"}
    constrained = {
        tuple(row)
        for row in free.execute(
            text(
                "select n.nspname || '.' || c.relname, a.attname from pg_constraint as k "
                "join pg_class as c on c.oid = k.conrelid "
                "join pg_namespace as n on n.oid = c.relnamespace "
                "join pg_attribute as a on a.attrelid = c.oid and a.attnum = any(k.conkey) "
                "where k.contype = 'c'"
            )
        )
    }
    plain = {
        (table, column)
        for table in tables
        for column, kind in CATALOGUE[table].items()
        if kind is Kind.PLAIN
    }
    assert plain - constrained - FOUND_BY == PATTERN_COLUMNS


@pytest.mark.parametrize(("table", "column"), sorted(PATTERN_COLUMNS))
def test_a_phone_in_any_other_text_of_a_subject_is_named_without_its_value(
    free: Connection, anonymized: Client, table: str, column: str
) -> None:
    if table.startswith("public."):
        name = table.partition(".")[2]
        set_row(free, name, planted := anonymized[name], {column: PATTERN})
    else:
        planted = plant_in_subject(free, anonymized, table, column)
    (found,) = rescan_people(free)
    assert (found.check, found.table, found.column) == ("pattern", table, column)
    key = anonymized["users"] if table in _NAMED_BY_USER else planted
    assert found.ids == (str(key),)
    assert PATTERN not in repr(found)


_NAMED_BY_USER = {
    "pipeline.anonymized_rows",
    "pipeline.retention_exemptions",
    "pipeline.guard_refusals",
}


@pytest.mark.parametrize(
    "personal",
    [
        "123.456.789-00",
        "123.456.78900",
        "12.345.678/0001-00",
        "zulmira@example.com",
        "fale com zulmira.s+1@mail.example.com.",
        "+55 11 90000-1234",
        "(11) 90000-1234",
        "5511900001234",
        "11900001234",
        "1133330000",
        "+1 202 555 0100",
        "BR.1234567890abcdef",
        "wamid.HBgM",
    ],
)
def test_what_leads_to_a_person_is_recognised(
    free: Connection, anonymized: Client, personal: str
) -> None:
    set_row(free, "leads", anonymized["leads"], {"interest": f"LC Web, {personal}"})
    assert [found.column for found in rescan_people(free)] == ["interest"]


@pytest.mark.parametrize(
    "harmless",
    [
        "LC Web Profissional 2031",
        "2026-03-02 12:00:00.123456+00",
        "2026-03-02T12:00:00+00:00",
        "11876543-2100-4000-8000-119000012345",
        "1199.90",
        "12345678.90",
        "e-CNPJ A1 12 meses",
        "v21.0",
        "00:15:30",
    ],
)
def test_dates_amounts_and_ids_are_not_taken_for_a_person(
    free: Connection, anonymized: Client, harmless: str
) -> None:
    set_row(free, "leads", anonymized["leads"], {"interest": harmless})
    assert rescan_people(free) == []


def test_a_row_that_nothing_keeps_anonymised_is_a_leftover(
    free: Connection, anonymized: Client
) -> None:
    free.execute(
        text("delete from pipeline.anonymized_rows where row_id = :id"),
        {"id": anonymized["users"]},
    )
    found = rescan_people(free, user_ids=[anonymized["users"]])
    assert places(found) == {
        ("subject", "pipeline.anonymized_rows", "row_id", (str(anonymized["users"]),))
    }


@pytest.mark.parametrize("way", ["fact", "told", "opt_out", "event", "user_ref", "nobody"])
def test_a_sender_is_found_by_every_way_that_leads_to_it(
    free: Connection, anonymized: Client, way: str
) -> None:
    sender = one(
        free,
        "insert into pipeline.senders (phone_key, bsuid, wa_id, name, parent_bsuid, user_ref) "
        "values ('', '', '', :name, '', :ref) returning sender_id",
        name=VALUE,
        ref=str(anonymized["users"]) if way == "user_ref" else "",
    )
    statement = {
        "fact": "update pipeline.message_facts set sender_id = :sender where message_id = :message",
        "told": "update pipeline.message_facts set told_sender_id = :sender "
        "where message_id = :message",
        "opt_out": "update pipeline.opt_outs set sender_id = :sender where user_id = :user",
        "event": "update pipeline.conversation_events set sender_id = :sender "
        "where user_id = :user",
    }.get(way)
    if statement:
        free.execute(
            text(statement),
            {
                "sender": sender,
                "message": anonymized["messages"],
                "user": anonymized["users"],
            },
        )
    found = rescan_people(free)
    assert places(found) == {("subject", "pipeline.senders", "name", (str(sender),))}
    assert found[0].count == 1


def test_an_edit_of_an_edit_belongs_to_the_subject_of_the_message(
    free: Connection, anonymized: Client
) -> None:
    planted = uuid4()
    put(
        free,
        "pipeline.message_changes",
        change_id=planted,
        edit_id=uuid4(),
        target_id=anonymized["edit"],
        changed_at=RECENT,
        is_revoke=False,
        content=VALUE,
    )
    assert places(rescan_people(free)) == {
        ("subject", "pipeline.message_changes", "content", (str(planted),))
    }


def test_an_undo_record_that_only_names_the_subject_inside_is_found(
    free: Connection, anonymized: Client
) -> None:
    plant_row(
        free,
        "pipeline.undo_records",
        kind="conversations",
        kept_id=uuid4(),
        removed_id=uuid4(),
        record=json.dumps({"rows": [{"user_id": str(anonymized["users"]), "name": VALUE}]}),
        expires_at=AS_OF,
    )
    (found,) = rescan_people(free)
    assert (found.table, found.column) == ("pipeline.undo_records", "record")


def test_the_reference_of_an_open_task_is_how_the_person_is_erased_elsewhere(
    free: Connection, anonymized: Client
) -> None:
    free.execute(
        text("update pipeline.external_tasks set state = 'open', reference = :value"),
        {"value": VALUE},
    )
    assert rescan_people(free) == []


def test_names_of_colleagues_and_tickets_are_no_leftovers(
    free: Connection, anonymized: Client
) -> None:
    free.execute(text("update conversations set transferred_to = 'Atendente'"))
    free.execute(text("update appointments set assigned_to = 'Atendente'"))
    free.execute(text("update tickets set category = :value"), {"value": PATTERN})
    assert rescan_people(free) == []


def test_a_living_client_is_no_leftover_of_others(free: Connection) -> None:
    put_client(free, at=RECENT, is_anonymized=False)
    assert rescan_people(free) == []
    assert rescan_people(free, user_ids=[]) == []


def test_a_lead_without_a_user_is_looked_at_by_its_own_id(free: Connection) -> None:
    lead = plant_lead(free, "email", RECENT)
    put(free, "pipeline.anonymized_rows", table_name="leads", row_id=lead, rule="leads_inactive")
    expected = {("subject", "public.leads", "email", (str(lead),))}
    assert places(rescan_people(free)) == expected
    assert places(rescan_people(free, lead_ids=[lead])) == expected


def test_more_subjects_than_one_statement_takes_are_added_up(
    free: Connection, anonymized: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rescan, "_SUBJECTS_AT_A_TIME", 1)
    free.execute(
        text(
            "update users set email = :value "
            "where id in (select row_id from pipeline.anonymized_rows)"
        ),
        {"value": VALUE},
    )
    (found,) = rescan_people(free)
    assert (found.column, found.count, len(found.ids)) == ("email", 2, 2)
    assert found.oldest == LONG_AGO


@settings(
    max_examples=12,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(stream=streams())
def test_no_stream_of_records_leaves_anything_of_nobody_also_when_half_its_clients_went(
    loading: Loading, stream: Stream
) -> None:
    loading.dump_of(stream, sorted_once(stream.units))
    assert rescan_people(loading.connection) == []
    with loading.owner.begin():
        loading.owner.execute(text("truncate pipeline.anonymized_rows"))
        users = list(loading.owner.scalars(text("select id from users order by id")))[::2]
    driver = psycopg_connection(loading.connection)
    with driver.transaction(), driver.cursor() as cursor:
        cursor.execute("select set_config('gatte.as_of', %s, true)", [RECENT.isoformat()])
        anonymize_users(cursor, users, rule="users_inactive")
    assert rescan_people(loading.connection) == []


# --- Apart from the engine ------------------------------------------------------------------------


def test_nothing_that_removes_data_is_imported_by_the_proof() -> None:
    source = Path(rescan.__file__).read_text("utf-8")
    imported = {
        node.module
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("gatte_pipelines")
    }
    assert imported == {
        "gatte_pipelines.database.engine",
        "gatte_pipelines.database.statements",
        "gatte_pipelines.errors",
        "gatte_pipelines.personal_data",
        "gatte_pipelines.privacy.policy",
    }


def test_our_own_role_may_run_the_proof(database: TestDatabase) -> None:
    with database.connect("pipeline") as connection:
        assert rescan_rules(connection, POLICY, as_of=AS_OF) == []
        assert rescan_people(connection) == []
        assert not connection.in_transaction()


def test_a_rule_that_is_not_looked_at_is_refused(database: TestDatabase) -> None:
    unknown = replace(POLICY.rule("quarantine"), name="parked_events")
    policy = replace(POLICY, rules=(*POLICY.rules, unknown))
    with database.connect("pipeline") as connection, pytest.raises(ConfigurationError) as error:
        rescan_rules(connection, policy, as_of=AS_OF)
    assert "parked_events" in error.value.message
