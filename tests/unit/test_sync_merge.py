"""The three-way merge: nobody's edit is lost in silence."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatte_pipelines.sync.merge import FieldRule, Merged, Side, Value, Why, merge, merge_field

OURS = FieldRule("phone", Side.OURS)
THEIRS = FieldRule("stage", Side.THEIRS)
VALUES = st.sampled_from([None, "", " ", "a", "b", "c", "A"])
RULES = st.builds(
    FieldRule,
    st.just("field"),
    st.sampled_from(Side),
    st.booleans(),
    st.sampled_from(
        [lambda one, other: one == other, lambda one, other: one.lower() == other.lower()]
    ),
)


@pytest.mark.parametrize(
    ("rule", "ours", "theirs", "agreed", "value", "here", "there", "why"),
    [
        (OURS, "a", "a", "a", "a", False, False, Why.SAME),
        (OURS, "b", "b", "a", "b", False, False, Why.SAME),
        (OURS, "b", "a", "a", "b", False, True, Why.ONE_CHANGED),
        (OURS, "a", "b", "a", "b", True, False, Why.ONE_CHANGED),
        (THEIRS, "b", "a", "a", "b", False, True, Why.ONE_CHANGED),
        (OURS, "b", "c", "a", "b", False, True, Why.OWNER),
        (THEIRS, "b", "c", "a", "c", True, False, Why.OWNER),
        # Emptied: only by whom the field belongs to.
        (OURS, None, "a", "a", None, False, True, Why.ONE_CHANGED),
        (OURS, "a", None, "a", "a", False, True, Why.NOT_EMPTIED),
        (THEIRS, "a", " ", "a", None, True, False, Why.ONE_CHANGED),
        (THEIRS, "", "a", "a", "a", True, False, Why.NOT_EMPTIED),
        # Emptied here, changed there: what says something stays.
        (OURS, None, "b", "a", "b", True, False, Why.NOT_EMPTIED),
    ],
)
def test_what_becomes_of_a_field(
    rule: FieldRule,
    ours: Value,
    theirs: Value,
    agreed: Value,
    value: Value,
    here: bool,
    there: bool,
    why: Why,
) -> None:
    found = merge_field(rule, ours, theirs, agreed)
    assert (found.value, found.is_written_here, found.is_written_there, found.why) == (
        value,
        here,
        there,
        why,
    )


def test_a_conflict_keeps_what_was_not_taken() -> None:
    found = merge_field(THEIRS, "contacted", "qualified", "new")
    assert (found.is_conflict, found.value, found.lost) == (True, "qualified", "contacted")


def test_who_never_agreed_is_asked_whose_field_it_is() -> None:
    found = merge_field(OURS, "b", "c", "c", is_agreed=False)
    assert (found.value, found.lost, found.is_conflict) == ("b", "c", True)
    only_theirs = merge_field(OURS, None, "c", None, is_agreed=False)
    assert (only_theirs.value, only_theirs.is_conflict) == ("c", False)


def test_two_forms_of_one_value_are_one() -> None:
    rule = FieldRule("email", Side.OURS, is_same=lambda one, other: one.lower() == other.lower())
    found = merge_field(rule, "Ana@example.com", "ana@example.com", None, is_agreed=False)
    assert (found.why, found.value) == (Why.SAME, "Ana@example.com")
    assert not found.is_written_there


def test_what_goes_one_way_takes_nothing_back() -> None:
    rule = FieldRule("title", Side.OURS, is_one_way=True)
    assert merge_field(rule, "a", "b", "a").value == "a"
    assert merge_field(rule, None, "b", "a").value is None


def test_edits_of_different_fields_both_survive() -> None:
    rules = (FieldRule("name", Side.OURS), FieldRule("stage", Side.THEIRS))
    agreed = {"name": "Ana", "stage": "new"}
    found = merge(
        rules, {"name": "Ana Lima", "stage": "new"}, {"name": "Ana", "stage": "won"}, agreed
    )
    assert {one.name: one.value for one in found} == {"name": "Ana Lima", "stage": "won"}
    assert [(one.is_written_here, one.is_written_there) for one in found] == [
        (False, True),
        (True, False),
    ]


def test_a_field_that_is_new_to_a_link_was_never_agreed_on() -> None:
    found = merge((OURS,), {"phone": "a"}, {"phone": "b"}, {"name": "x"})
    assert found[0].is_conflict


def carried_out(found: Merged, ours: Value, theirs: Value) -> tuple[Value, Value]:
    """Both sides once the merge is carried out."""
    return (
        found.value if found.is_written_here else ours,
        found.value if found.is_written_there else theirs,
    )


@given(RULES, VALUES, VALUES, VALUES, st.booleans())
def test_a_merge_that_is_carried_out_leaves_nothing_to_do(
    rule: FieldRule, ours: Value, theirs: Value, agreed: Value, is_agreed: bool
) -> None:
    found = merge_field(rule, ours, theirs, agreed, is_agreed=is_agreed)
    again = merge_field(rule, *carried_out(found, ours, theirs), found.value)
    assert again.why is Why.SAME
    assert not again.is_written_here
    assert not again.is_written_there


@given(RULES, VALUES, VALUES, VALUES, st.booleans())
def test_no_value_disappears_but_by_its_owner_or_with_a_word(
    rule: FieldRule, ours: Value, theirs: Value, agreed: Value, is_agreed: bool
) -> None:
    found = merge_field(rule, ours, theirs, agreed, is_agreed=is_agreed)
    for value, side in ((ours, Side.OURS), (theirs, Side.THEIRS)):
        if value is None or not value.strip() or rule.is_one_way:
            continue
        is_kept = found.value is not None and (
            value == found.value or rule.is_same(value, found.value)
        )
        is_old = is_agreed and agreed is not None and rule.is_same(value, agreed)
        assert is_kept or is_old or found.lost == value, side


@given(RULES, VALUES, VALUES, VALUES, st.booleans())
def test_sides_change_places_with_their_owner(
    rule: FieldRule, ours: Value, theirs: Value, agreed: Value, is_agreed: bool
) -> None:
    mirrored = FieldRule(
        rule.name,
        Side.THEIRS if rule.owner is Side.OURS else Side.OURS,
        rule.is_one_way,
        rule.is_same,
    )
    found = merge_field(rule, ours, theirs, agreed, is_agreed=is_agreed)
    other = merge_field(mirrored, theirs, ours, agreed, is_agreed=is_agreed)
    assert (found.value, found.is_written_here, found.is_written_there, found.why) == (
        other.value,
        other.is_written_there,
        other.is_written_here,
        other.why,
    )
