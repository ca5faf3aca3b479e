"""The reasons that the code can give to a record or a run, read from its source.

A reason is a word in a fixed place: what an error or a unit is made with, or what a variable or
attribute called ``reason`` is set to.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

_WORD = re.compile(r"[a-z][a-z0-9_]+")
# Where each class or method takes the reason.
_QUARANTINED = {
    "InvalidFieldError": 0,
    "_InvalidContactError": 0,
    "_InvalidEventError": 0,
    "Rejected": 1,
    "reject": 1,
}
_SKIPPED = {"Skipped": 0, "_UnwantedUnitError": 0}
# Of the sync with the CRM; of a lead the reason is a keyword of its outcome.
_SKIPPED_LEADS = {"_skip": 0, "leave_the_rest": 0}


@dataclass
class Reasons:
    """The reasons found: of skipped units, of quarantined ones, of files as a whole, of runs."""

    skipped: set[str] = field(default_factory=set)
    quarantined: set[str] = field(default_factory=set)
    of_files: set[str] = field(default_factory=set)
    of_runs: set[str] = field(default_factory=set)

    @property
    def all(self) -> set[str]:
        """Every reason that a person may read."""
        return self.skipped | self.quarantined | self.of_files | self.of_runs


def read_reasons(package: Path) -> Reasons:
    """The reasons in the modules of a package."""
    found = Reasons()
    for path in sorted(package.rglob("*.py")):
        tree = ast.parse(path.read_text("utf-8"))
        # The loader itself only judges files; the decoders judge what stands in them.
        loose = found.of_files if path.name == "load.py" else found.quarantined
        is_inbound = path.parent.name == "inbound"
        skipped = _SKIPPED | (_SKIPPED_LEADS if path.parent.name == "crm" else {})
        for node in ast.walk(tree):
            if isinstance(node, ast.Call):
                _read_call(node, found, skipped)
            elif isinstance(node, ast.Assign):
                for target, value in _pairs(node):
                    if isinstance(target, ast.Attribute) and target.attr == "reason":
                        found.of_runs |= set(_words(value))
                    elif isinstance(target, ast.Name) and is_inbound:
                        if target.id == "reason":
                            loose |= set(_words(value))
                        elif target.id == "_REASONS":
                            found.quarantined |= _second_words(value)
                    elif _is_skipped(target) and isinstance(target, ast.Subscript):
                        found.skipped |= set(_words(target.slice))
            elif isinstance(node, ast.FunctionDef) and is_inbound:
                _read_function(node, found)
    return found


def _read_call(call: ast.Call, found: Reasons, skipped: dict[str, int]) -> None:
    name = getattr(call.func, "id", None) or getattr(call.func, "attr", "")
    for places, reasons in ((_QUARANTINED, found.quarantined), (skipped, found.skipped)):
        if name in places and len(call.args) > places[name]:
            of_file = name == "Rejected" and list(_words(call.args[0])) == ["file"]
            (found.of_files if of_file else reasons).update(_words(call.args[places[name]]))
    for keyword in call.keywords if name == "Outcome" else ():
        if keyword.arg == "reason":
            found.skipped.update(_words(keyword.value))


def _read_function(function: ast.FunctionDef, found: Reasons) -> None:
    """``_describe`` gives a reason with a field, ``skip_reason`` a reason alone."""
    for node in ast.walk(function):
        if not isinstance(node, ast.Return) or node.value is None:
            continue
        if function.name == "skip_reason":
            found.skipped |= set(_words(node.value))
        elif function.name == "_describe" and isinstance(node.value, ast.Tuple):
            found.quarantined |= set(_words(node.value.elts[0]))


def _pairs(assign: ast.Assign) -> Iterator[tuple[ast.expr, ast.expr]]:
    for target in assign.targets:
        if isinstance(target, ast.Tuple) and isinstance(assign.value, ast.Tuple):
            yield from zip(target.elts, assign.value.elts, strict=True)
        else:
            yield target, assign.value


def _words(value: ast.expr) -> Iterator[str]:
    if isinstance(value, ast.IfExp):
        yield from _words(value.body)
        yield from _words(value.orelse)
    elif isinstance(value, ast.Constant) and _WORD.fullmatch(str(value.value)):
        yield str(value.value)


def _second_words(value: ast.expr) -> set[str]:
    rows = value.elts if isinstance(value, ast.Tuple) else []
    return {word for row in rows if isinstance(row, ast.Tuple) for word in _words(row.elts[1])}


def _is_skipped(target: ast.expr) -> bool:
    return (
        isinstance(target, ast.Subscript)
        and isinstance(target.value, ast.Attribute)
        and target.value.attr == "skipped"
    )
