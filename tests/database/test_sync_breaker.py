"""The breaker: what is much, and a plan that is carried out only as it was approved."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from gatte_pipelines.database.plans import PLAN_LIFETIME, mark_executed
from gatte_pipelines.errors import ConfigurationError
from gatte_pipelines.sync.breaker import Part, ask, assert_approved, is_mass_change, note_done
from tests.conflicts import AS_OF, Desk, opened
from tests.postgres import TestDatabase

IDS = [uuid4() for _ in range(9)]


@pytest.fixture
def desk(database: TestDatabase) -> Iterator[Desk]:
    with opened(database) as desk:
        yield desk


@pytest.mark.parametrize(
    ("changed", "population", "is_much"),
    [
        (0, 0, False),
        (25, 26, False),  # few, whatever their share
        (26, 26, True),
        (26, 129, True),
        (26, 130, False),  # exactly a fifth
        (200, 1000, False),
        (201, 1000, True),
        (26, 0, True),
    ],
)
def test_much_is_more_than_a_fifth_and_more_than_25_rows(
    changed: int, population: int, is_much: bool
) -> None:
    assert is_mass_change(changed, population) is is_much


def test_the_limits_can_be_others() -> None:
    assert is_mass_change(6, 100, rows=5, pct=5)
    assert not is_mass_change(6, 100, rows=5, pct=6)


def asked(desk: Desk, *parts: Part) -> UUID:
    with desk.cursor() as cursor:
        return ask(
            cursor,
            pipeline="crm_sync",
            as_of=AS_OF,
            now=AS_OF,
            parameters={"direction": "both"},
            parts=parts,
            reason="mass_change",
        )


def approve(desk: Desk, plan_id: UUID, *parts: Part, **changes: Any) -> Any:
    values = {"pipeline": "crm_sync", "now": AS_OF} | changes
    with desk.cursor() as cursor:
        return assert_approved(cursor, plan_id, parts=parts, **values)


def test_the_plan_is_approved_where_nothing_changed(desk: Desk) -> None:
    parts = Part.of("pull", IDS[:3]), Part.of("delete", IDS[3:4])
    plan_id = asked(desk, *parts)
    plan = approve(desk, plan_id, Part.of("delete", IDS[3:4]), Part.of("pull", reversed(IDS[:3])))
    assert (plan.plan_id, plan.parameters, plan.reason) == (
        plan_id,
        {"direction": "both"},
        "mass_change",
    )
    stored = desk.one("select contents::text as it from pipeline.plans")["it"]
    assert not any(str(each) in stored for each in IDS), "counts and checksums only"


@pytest.mark.parametrize(
    "now",
    [
        [Part.of("pull", IDS[:2])],
        [Part.of("pull", IDS[:4])],
        [Part.of("pull", IDS[1:4])],  # as many, but others
        [Part.of("push", IDS[:3])],
        [Part.of("pull", IDS[:3]), Part.of("delete", IDS[3:4])],
        [],
    ],
)
def test_a_plan_whose_rows_changed_is_refused(desk: Desk, now: list[Part]) -> None:
    plan_id = asked(desk, Part.of("pull", IDS[:3]))
    with pytest.raises(ConfigurationError, match=r"changed since .* nothing was done: make a new"):
        approve(desk, plan_id, *now)


def test_a_part_without_rows_is_no_change(desk: Desk) -> None:
    plan_id = asked(desk, Part.of("pull", IDS[:3]), Part.of("push", []))
    assert approve(desk, plan_id, Part.of("pull", IDS[:3]), Part.of("delete", []))


def test_what_was_done_of_a_plan_counts_as_in_it(desk: Desk) -> None:
    plan_id = asked(desk, Part.of("pull", IDS[:5]))
    for done in (IDS[:1], IDS[1:3]):
        with desk.cursor() as cursor:
            note_done(cursor, plan_id, Part.of("pull", done))
    assert approve(desk, plan_id, Part.of("pull", IDS[3:5]))
    with pytest.raises(ConfigurationError, match=r"changed since \(pull\)"):
        approve(desk, plan_id, Part.of("pull", IDS[2:5]))


def test_a_plan_is_refused_that_was_carried_out_expired_or_is_of_another(desk: Desk) -> None:
    part = Part.of("pull", IDS[:3])
    plan_id = asked(desk, part)
    with pytest.raises(ConfigurationError, match="is of crm_sync, not of"):
        approve(desk, plan_id, part, pipeline="calendar_sync")
    with pytest.raises(ConfigurationError, match="expired"):
        approve(desk, plan_id, part, now=AS_OF + PLAN_LIFETIME + timedelta(seconds=1))
    with pytest.raises(ConfigurationError, match="there is no plan"):
        approve(desk, uuid4(), part)
    with desk.cursor() as cursor:
        mark_executed(cursor, plan_id, AS_OF)
    with pytest.raises(ConfigurationError, match="carried out already"):
        approve(desk, plan_id, part)
