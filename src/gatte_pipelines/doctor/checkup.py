"""Carry out checks, whatever becomes of each.

What is looked at belongs to the checks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from gatte_pipelines.health import Finding, State
from gatte_pipelines.safe_errors import safe_error


@dataclass(frozen=True)
class Check:
    """One thing to look at.

    Attributes:
        name: For people, in Portuguese.
        look: Yields what it found; raises where it cannot go on.
    """

    name: str
    look: Callable[[], Iterable[Finding]]


@dataclass(frozen=True)
class Line:
    """A finding with the name of its check."""

    check: str
    finding: Finding


def examine(checks: Iterable[Check]) -> Iterator[Line]:
    """Yield what each check finds; one that raises ends as an error and keeps no other back.

    Args:
        checks: In the order of the lines.
    """
    for check in checks:
        try:
            for finding in check.look():
                yield Line(check.name, finding)
        except Exception as error:  # noqa: BLE001 - the others are looked at all the same
            yield Line(check.name, Finding(State.ERROR, safe_error(error).message))
