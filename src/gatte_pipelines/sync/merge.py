"""Three-way merge of the fields that two systems hold of one thing. Pure.

Compared is each side with the value on which both last agreed, never one clock with another. Where
the agreed values are kept, and how a change is carried over, belongs to ``links`` and ``outbox``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

Value = str | None
"""A field as text; None is empty, and so is a text of blanks."""


class Side(StrEnum):
    """Of the two systems, which one."""

    OURS = "ours"
    THEIRS = "theirs"


class Why(StrEnum):
    """Why a value was chosen."""

    SAME = "same"
    ONE_CHANGED = "one_changed"
    OWNER = "owner"
    NOT_EMPTIED = "not_emptied"
    KEPT = "kept"


def _is_same_text(one: str, other: str) -> bool:
    return one == other


@dataclass(frozen=True)
class FieldRule:
    """How a field is merged.

    Attributes:
        name: Of the field.
        owner: Whose value counts where both changed it, or where they never agreed.
        is_one_way: The owner's value always counts, and nothing of the other side's is taken.
        is_same: Whether two values, neither empty, say the same: a phone in two forms.
    """

    name: str
    owner: Side
    is_one_way: bool = False
    is_same: Callable[[str, str], bool] = _is_same_text


@dataclass(frozen=True)
class Merged:
    """What becomes of a field.

    Attributes:
        name: Of the field.
        value: On which both agree from now on.
        is_written_here: Whether our side must be changed to it.
        is_written_there: Whether theirs must be.
        why: Why this one.
        lost: The other side's value, where both had one of their own and one was not taken: a
            person may want it back.
    """

    name: str
    value: Value
    is_written_here: bool
    is_written_there: bool
    why: Why
    lost: Value = None

    @property
    def is_conflict(self) -> bool:
        """Whether both sides had changed it, to different values."""
        return self.why is Why.OWNER


def merge_field(
    rule: FieldRule, ours: Value, theirs: Value, agreed: Value, *, is_agreed: bool = True
) -> Merged:
    """Decide on one field.

    Args:
        rule: How it is merged.
        ours: Our value now.
        theirs: Their value now.
        agreed: The value on which both last agreed.
        is_agreed: Whether they ever did; without, ``agreed`` means nothing.
    """
    ours, theirs, agreed = _plain(ours), _plain(theirs), _plain(agreed)
    owners, others = (ours, theirs) if rule.owner is Side.OURS else (theirs, ours)
    if _same(rule, ours, theirs):
        return Merged(
            rule.name, owners, is_written_here=False, is_written_there=False, why=Why.SAME
        )
    if rule.is_one_way:
        return _take(rule, owners, ours, theirs, Why.KEPT)
    if is_agreed:
        ours_changed = not _same(rule, ours, agreed)
        theirs_changed = not _same(rule, theirs, agreed)
        if ours_changed and not theirs_changed:
            return _take_changed(rule, Side.OURS, ours, theirs)
        if theirs_changed and not ours_changed:
            return _take_changed(rule, Side.THEIRS, ours, theirs)
    # Both changed it, or nobody knows who did: what is empty says nothing beside what is not.
    if owners is None or others is None:
        return _take(rule, owners if owners is not None else others, ours, theirs, Why.NOT_EMPTIED)
    return _take(rule, owners, ours, theirs, Why.OWNER, lost=others)


def merge(
    rules: Sequence[FieldRule],
    ours: Mapping[str, Value],
    theirs: Mapping[str, Value],
    agreed: Mapping[str, Value] | None,
) -> list[Merged]:
    """Decide on all fields of one thing.

    Args:
        rules: One a field.
        ours: Our values by field; what is missing is empty.
        theirs: Theirs.
        agreed: Those on which both last agreed; None where they never did. A field that is missing
            in it was never agreed on.
    """
    known = agreed or {}
    return [
        merge_field(
            rule,
            ours.get(rule.name),
            theirs.get(rule.name),
            known.get(rule.name),
            is_agreed=rule.name in known,
        )
        for rule in rules
    ]


def _take_changed(rule: FieldRule, side: Side, ours: Value, theirs: Value) -> Merged:
    """The value of the only side that changed; emptied only by the field's owner."""
    changed, other = (ours, theirs) if side is Side.OURS else (theirs, ours)
    if changed is None and rule.owner is not side:
        return _take(rule, other, ours, theirs, Why.NOT_EMPTIED)
    return _take(rule, changed, ours, theirs, Why.ONE_CHANGED)


def _take(
    rule: FieldRule, value: Value, ours: Value, theirs: Value, why: Why, lost: Value = None
) -> Merged:
    return Merged(
        rule.name,
        value,
        is_written_here=not _same(rule, value, ours),
        is_written_there=not _same(rule, value, theirs),
        why=why,
        lost=lost,
    )


def _same(rule: FieldRule, one: Value, other: Value) -> bool:
    if one is None or other is None:
        return one is other
    return one == other or rule.is_same(one, other)


def _plain(value: Value) -> Value:
    return None if value is None or not value.strip() else value
