"""Conflicts: noted once, listed without values in their repr, decided once, both or nothing."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import pytest

from gatte_pipelines.errors import ConfigurationError
from gatte_pipelines.sync import conflicts
from gatte_pipelines.sync.conflicts import MAX_VALUE_CHARACTERS, Conflict
from gatte_pipelines.sync.merge import Side
from tests.conflicts import AS_OF, RUN, Desk, opened
from tests.postgres import TestDatabase

if TYPE_CHECKING:
    import psycopg

HIDDEN = "valor-que-ninguem-pode-ver"
LATER = AS_OF + timedelta(hours=1)


@pytest.fixture
def desk(database: TestDatabase) -> Iterator[Desk]:
    with opened(database) as desk:
        yield desk


def note(cursor: psycopg.Cursor[Any], local_id: UUID, **values: Any) -> bool:
    given: dict[str, Any] = {
        "system": "pipedrive",
        "table_name": "leads",
        "kind": "both_changed",
        "field": "company",
        "winner": Side.OURS,
        "our_value": "Nossa",
        "their_value": "Deles",
        "run_id": RUN,
        "at": AS_OF,
    } | values
    return conflicts.record(cursor, local_id=local_id, **given)


def read(desk: Desk, **options: Any) -> list[Conflict]:
    with desk.cursor() as cursor:
        return conflicts.list_conflicts(cursor, **options)


def test_the_same_conflict_is_noted_once_while_it_is_open(desk: Desk) -> None:
    lead = uuid4()
    with desk.cursor() as cursor:
        assert note(cursor, lead)
        assert not note(cursor, lead, run_id=uuid4(), at=LATER), "a killed run comes again"
        assert note(cursor, lead, their_value="Outra")
        assert note(cursor, lead, kind="deleted", field=None, our_value=None, their_value=None)
        assert not note(cursor, lead, kind="deleted", field=None, our_value=None, their_value=None)
    assert len(read(desk)) == 3


def test_a_resolved_conflict_may_come_back(desk: Desk) -> None:
    lead = uuid4()
    with desk.cursor() as cursor:
        note(cursor, lead)
    (found,) = read(desk)
    conflicts.resolve(
        desk.driver, found.conflict_id, Side.OURS, {"pipedrive": noted([])}, as_of=AS_OF
    )
    with desk.cursor() as cursor:
        assert note(cursor, lead)
    assert len(read(desk)) == 1
    assert len(read(desk, include_resolved=True)) == 2


def test_a_conflict_is_read_as_it_was_noted_and_its_repr_has_no_value(desk: Desk) -> None:
    lead = uuid4()
    with desk.cursor() as cursor:
        note(cursor, lead, our_value=HIDDEN, their_value=f"{HIDDEN}-2")
    (found,) = read(desk)
    assert (found.system, found.table_name, found.local_id) == ("pipedrive", "leads", lead)
    assert (found.kind, found.field, found.winner) == ("both_changed", "company", Side.OURS)
    assert found.value_of(Side.OURS) == HIDDEN
    assert found.value_of(Side.THEIRS) == f"{HIDDEN}-2"
    assert (found.run_id, found.found_at) == (RUN, AS_OF)
    assert (found.resolved_at, found.resolution) == (None, None)
    assert HIDDEN not in repr(found)
    with desk.cursor() as cursor:
        assert conflicts.read_conflict(cursor, found.conflict_id) == found


def test_conflicts_are_listed_the_newest_first_and_no_more_than_asked_for(desk: Desk) -> None:
    with desk.cursor() as cursor:
        for number in range(5):
            note(cursor, uuid4(), at=AS_OF + timedelta(minutes=number))
    found = read(desk, limit=3)
    assert [each.found_at.minute for each in found] == [4, 3, 2]


def test_a_value_longer_than_any_column_is_cut_and_does_not_fail(desk: Desk) -> None:
    # Different characters of four bytes each, so that compression does not help.
    long = "".join(chr(0x20000 + number) for number in range(2 * MAX_VALUE_CHARACTERS))
    with desk.cursor() as cursor:
        assert note(cursor, uuid4(), our_value=long, their_value=long[::-1])
    (found,) = read(desk)
    assert found.our_value == long[:MAX_VALUE_CHARACTERS]


def noted(calls: list[tuple[UUID, Side]]) -> conflicts.Resolver:
    def resolver(cursor: psycopg.Cursor[Any], conflict: Conflict, keep: Side) -> None:
        calls.append((conflict.local_id, keep))

    return resolver


def test_a_decision_is_carried_out_once_and_marked(desk: Desk) -> None:
    lead, calls = uuid4(), []
    conflict_id = desk.record(lead, winner=Side.THEIRS)
    resolvers = {"pipedrive": noted(calls)}
    done = conflicts.resolve(desk.driver, conflict_id, Side.OURS, resolvers, as_of=LATER)
    assert (done.conflict.conflict_id, done.keep, done.is_reversed) == (
        conflict_id,
        Side.OURS,
        True,
    )
    (marked,) = read(desk, include_resolved=True)
    assert (marked.resolved_at, marked.resolution) == (LATER, Side.OURS)
    with pytest.raises(ConfigurationError, match=r"resolved before, in favour of ours"):
        conflicts.resolve(desk.driver, conflict_id, Side.THEIRS, resolvers, as_of=LATER)
    assert calls == [(lead, Side.OURS)]


def test_what_a_resolver_refuses_changes_nothing(desk: Desk) -> None:
    lead = desk.lead(company="Antes")
    conflict_id = desk.record(lead)

    def refuse(cursor: psycopg.Cursor[Any], conflict: Conflict, keep: Side) -> None:
        cursor.execute("update leads set company = 'Depois'")
        raise ConfigurationError("cannot be done")

    with pytest.raises(ConfigurationError, match="cannot be done"):
        conflicts.resolve(desk.driver, conflict_id, Side.OURS, {"pipedrive": refuse}, as_of=AS_OF)
    assert desk.read_lead(lead)["company"] == "Antes"
    assert len(read(desk)) == 1


def test_a_conflict_that_does_not_exist_is_named(desk: Desk) -> None:
    with pytest.raises(ConfigurationError, match="gatte conflicts list"):
        conflicts.resolve(desk.driver, uuid4(), Side.OURS, {}, as_of=AS_OF)


def test_a_system_that_nobody_resolves_is_named(desk: Desk) -> None:
    conflict_id = desk.record(uuid4(), system="google")
    with pytest.raises(ConfigurationError, match="is of google, which is not set up here"):
        conflicts.resolve(
            desk.driver, conflict_id, Side.OURS, {"pipedrive": noted([])}, as_of=AS_OF
        )


def test_of_two_people_who_decide_at_once_one_is_told(desk: Desk, database: TestDatabase) -> None:
    conflict_id, calls = desk.record(uuid4()), []
    meet = threading.Barrier(2)
    ends: list[str] = []

    def decide(keep: Side) -> None:
        with opened(database) as own:
            meet.wait()
            try:
                conflicts.resolve(
                    own.driver, conflict_id, keep, {"pipedrive": noted(calls)}, as_of=AS_OF
                )
                ends.append("done")
            except ConfigurationError:
                ends.append("told")

    threads = [threading.Thread(target=decide, args=[side]) for side in Side]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(ends) == ["done", "told"]
    assert len(calls) == 1
