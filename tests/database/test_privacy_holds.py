"""Holds of the officer: placed with a reason, found, released, each with an entry of ids only."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from sqlalchemy import Connection, text

from gatte_pipelines.database.engine import psycopg_connection
from gatte_pipelines.database.names import NINE
from gatte_pipelines.errors import BadInputError, PermanentError
from gatte_pipelines.privacy.holds import place_hold, read_holds, release_hold
from gatte_pipelines.privacy.ledger import Ledger, OutsideCopy
from tests.database.rows import insert, whole_client
from tests.postgres import TestDatabase

AT = datetime(2026, 3, 2, 12, tzinfo=UTC)
DAY = timedelta(days=1)
REASON, OWNER = "processo de exemplo", "Encarregada Exemplo"


class Desk:
    """What the officer works with."""

    def __init__(self, work: psycopg.Connection[Any], ledger: Ledger, outside: OutsideCopy) -> None:
        self.work = work
        self.ledger = ledger
        self.outside = outside

    def hold(self, table: str, row_id: UUID, **changes: Any) -> UUID:
        values: dict[str, Any] = {"reason": REASON, "owner": OWNER, "ends_at": None, "at": AT}
        return place_hold(self.work, self.ledger, table=table, row_id=row_id, **(values | changes))

    def release(self, hold_id: UUID, at: datetime = AT + DAY) -> None:
        release_hold(self.work, self.ledger, hold_id=hold_id, at=at)

    def in_force(self, at: datetime) -> list[UUID]:
        return [hold.hold_id for hold in read_holds(self.work, in_force_at=at)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "ledger"


@pytest.fixture
def desk(database: TestDatabase, folder: Path) -> Iterator[Desk]:
    outside = OutsideCopy(str(folder))
    with database.connect() as own, database.connect() as work:
        yield Desk(psycopg_connection(work), Ledger(psycopg_connection(own), outside), outside)


@pytest.fixture
def client(owner: Connection) -> dict[str, UUID]:
    ids = whole_client(owner)
    owner.commit()
    return ids


@pytest.mark.parametrize("table", NINE)
def test_a_row_of_each_of_the_nine_can_be_held(
    desk: Desk, client: dict[str, UUID], table: str
) -> None:
    hold_id = desk.hold(table, client[table], ends_at=AT + DAY)
    (hold,) = read_holds(desk.work)
    assert (hold.hold_id, hold.table_name, hold.row_id) == (hold_id, table, client[table])
    assert (hold.reason, hold.owner) == (REASON, OWNER)
    assert (hold.placed_at, hold.ends_at, hold.released_at) == (AT, AT + DAY, None)


def test_placing_and_releasing_are_in_the_ledger_with_ids_only(
    desk: Desk, client: dict[str, UUID]
) -> None:
    hold_id = desk.hold("users", client["users"], ends_at=AT + DAY)
    desk.release(hold_id)
    placed, released = desk.outside.read()
    assert (placed.kind, placed.at) == ("hold", AT)
    assert placed.body == {
        "hold_id": str(hold_id),
        "table": "users",
        "row_id": str(client["users"]),
        "ends_at": "2026-03-03T12:00:00+00:00",
    }
    assert (released.kind, released.at) == ("release", AT + DAY)
    assert released.body == {"hold_id": str(hold_id)}


def test_a_hold_shows_reason_and_owner_only_to_who_asks_for_them(
    desk: Desk, client: dict[str, UUID]
) -> None:
    desk.hold("users", client["users"])
    shown = repr(read_holds(desk.work))
    assert REASON not in shown
    assert OWNER not in shown


def test_a_hold_is_in_force_until_its_end_or_release(desk: Desk, client: dict[str, UUID]) -> None:
    ends = desk.hold("leads", client["leads"], ends_at=AT + 2 * DAY)
    stays = desk.hold("tickets", client["tickets"], at=AT + DAY)
    desk.release(stays, AT + 3 * DAY)
    assert desk.in_force(AT - DAY) == []
    assert desk.in_force(AT) == [ends]
    assert desk.in_force(AT + DAY) == [ends, stays]
    assert desk.in_force(AT + 2 * DAY) == [stays]
    assert desk.in_force(AT + 3 * DAY) == []
    assert [hold.hold_id for hold in read_holds(desk.work)] == [ends, stays]


@pytest.mark.parametrize(
    ("field", "changes"),
    [
        ("reason", {"reason": ""}),
        ("reason", {"reason": " \t\n\u00a0\u200b"}),
        ("reason", {"reason": "…"}),
        ("reason", {"reason": "texto\0"}),
        ("owner", {"owner": "  "}),
        ("ends_at", {"ends_at": AT}),
        ("row_id", {"row_id": uuid4()}),
        ("table", {"table": "runs"}),
        ("table", {"table": "users; drop table users"}),
    ],
)
def test_a_hold_that_cannot_be_is_refused_by_field(
    desk: Desk, client: dict[str, UUID], field: str, changes: dict[str, Any]
) -> None:
    values = {"table": "users", "row_id": client["users"]} | changes
    with pytest.raises(BadInputError) as error:
        desk.hold(**values)
    assert error.value.field == field
    assert read_holds(desk.work) == []
    assert list(desk.outside.read()) == [] if desk.outside.is_there() else True


def test_the_id_of_a_row_of_another_table_is_unknown(desk: Desk, client: dict[str, UUID]) -> None:
    with pytest.raises(BadInputError, match="no such row in leads"):
        desk.hold("leads", client["users"])


def test_a_user_that_was_merged_is_held_as_the_one_that_stayed(
    desk: Desk, owner: Connection, client: dict[str, UUID]
) -> None:
    earlier = uuid4()
    owner.execute(
        text("insert into pipeline.user_merges values (:earlier, :user, :at)"),
        {"earlier": earlier, "user": client["users"], "at": AT},
    )
    owner.commit()
    desk.hold("users", earlier)
    assert [hold.row_id for hold in read_holds(desk.work)] == [client["users"]]
    assert next(desk.outside.read()).body["row_id"] == str(client["users"])


def test_a_release_is_given_once(desk: Desk, client: dict[str, UUID]) -> None:
    hold_id = desk.hold("users", client["users"])
    desk.release(hold_id)
    for unknown in (hold_id, uuid4()):
        with pytest.raises(BadInputError, match="no such hold, or it was released before"):
            desk.release(unknown, AT + 2 * DAY)
    assert [hold.released_at for hold in read_holds(desk.work)] == [AT + DAY]
    assert [entry.kind for entry in desk.outside.read()] == ["hold", "release"]


def test_a_hold_waits_for_who_changes_its_row_just_now(
    desk: Desk, owner: Connection, client: dict[str, UUID]
) -> None:
    owner.execute(text("update users set name = null where id = :id"), {"id": client["users"]})
    placing = threading.Thread(target=desk.hold, args=("users", client["users"]))
    placing.start()
    try:
        placing.join(0.3)
        assert placing.is_alive()
    finally:
        owner.commit()
        placing.join(30)
    assert len(read_holds(desk.work)) == 1


def test_a_hold_stands_although_its_entry_cannot_be_written_outside(
    desk: Desk, folder: Path, client: dict[str, UUID]
) -> None:
    folder.mkdir()
    (folder / "ledger.jsonl").symlink_to("/dev/full")
    with pytest.raises(PermanentError, match=r"hold .* stands.*No space left.*GATTE_LEDGER_URL"):
        desk.hold("users", client["users"])
    (hold,) = read_holds(desk.work, in_force_at=AT)
    with pytest.raises(PermanentError, match=r"hold .* is released.*GATTE_LEDGER_URL"):
        desk.release(hold.hold_id)
    assert desk.in_force(AT + DAY) == []
    (folder / "ledger.jsonl").unlink()
    assert desk.ledger.catch_up() == 2


def test_no_hold_is_placed_where_a_restored_database_waits_for_its_replay(
    desk: Desk, database: TestDatabase, folder: Path, client: dict[str, UUID]
) -> None:
    desk.hold("users", client["users"])
    line = (folder / "ledger.jsonl").read_bytes()
    with psycopg.connect(
        host=database.server.socket_folder, user="postgres", dbname=database.name
    ) as superuser:
        superuser.execute("set session_replication_role = replica")
        superuser.execute("delete from pipeline.privacy_ledger")
    with pytest.raises(PermanentError, match="restore-replay"):
        desk.hold("leads", client["leads"])
    assert [hold.table_name for hold in read_holds(desk.work)] == ["users"]
    assert (folder / "ledger.jsonl").read_bytes() == line


def test_a_planted_table_name_is_refused_by_the_database_too(owner: Connection) -> None:
    row_id = insert(owner, "users")
    with pytest.raises(psycopg.errors.CheckViolation):
        psycopg_connection(owner).execute(
            "insert into pipeline.retention_holds values (%s, 'runs', %s, 'x', 'x', %s)",
            (uuid4(), row_id, AT),
        )
