"""Random work of both sides, with faults in between, ends in agreement; nothing is lost on the way.

What is done and what must hold stands in ``tests/crm_random.py``.
"""

from __future__ import annotations

import pytest

from tests.crm import open_desk
from tests.crm_random import World, seeded_ops
from tests.postgres import TestDatabase


def problems_of(database: TestDatabase, seed: int, count: int, *, imports: bool) -> list[str]:
    """What does not hold after a seeded sequence came to rest."""
    with open_desk(database) as desk:
        world = World(desk, imports=imports)
        try:
            world.perform(seeded_ops(seed, count))
            world.come_to_rest()
        finally:
            world.close()
        assert desk.crm.unknown_parameters == []
        return list(world.problems)


@pytest.mark.parametrize(("seed", "imports"), [(1, False), (2, True)])
def test_random_work_of_both_sides_ends_in_agreement(
    database: TestDatabase, seed: int, *, imports: bool
) -> None:
    assert problems_of(database, seed, 70, imports=imports) == []


@pytest.mark.long
@pytest.mark.parametrize("seed", [1001, 1002])
def test_five_hundred_operations_end_in_agreement(database: TestDatabase, seed: int) -> None:
    assert problems_of(database, seed, 500, imports=False) == []


@pytest.mark.long
@pytest.mark.parametrize("imports", [False, True])
@pytest.mark.parametrize("seed", range(2001, 2021))
def test_many_shorter_sequences_end_in_agreement(
    database: TestDatabase, seed: int, *, imports: bool
) -> None:
    assert problems_of(database, seed, 80, imports=imports) == []
