"""Faults that a stand-in plays on request: which request, how often, and what its answer holds.

How a vendor's answer looks when it fails belongs to that vendor's stand-in.
"""

from __future__ import annotations

import re
import threading
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, Generic, TypeVar

MISSING: Final = object()
"""Stands for a key that an answer leaves out."""

Fault = TypeVar("Fault", bound=StrEnum)


@dataclass
class _Planned(Generic[Fault]):
    """A fault that is still to come; None stands for any method or path."""

    act: Fault | tuple[str, Any]
    times: int
    skip: int
    method: str | None
    path: re.Pattern[str] | None

    def meets(self, method: str, path: str) -> bool:
        return self.method in {None, method} and (self.path is None or bool(self.path.search(path)))


class FaultPlan(Generic[Fault]):
    """Faults that are still to come."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._planned: list[_Planned[Fault]] = []

    def add(
        self,
        act: Fault | tuple[str, Any],
        times: int,
        skip: int,
        method: str | None,
        path: str | None,
    ) -> None:
        """Plan a fault, or a key and the value that stands in its place."""
        pattern = re.compile(path) if path is not None else None
        with self._lock:
            self._planned.append(_Planned(act, times, skip, method, pattern))

    def take(self, method: str, path: str) -> tuple[Fault | None, list[tuple[str, Any]]]:
        """The next fault that is meant for a request, and how its answer is altered."""
        fault: Fault | None = None
        altered: list[tuple[str, Any]] = []
        with self._lock:
            for one in self._planned:
                is_fault = not isinstance(one.act, tuple)
                if not one.meets(method, path) or (is_fault and fault is not None):
                    continue
                if one.skip:
                    one.skip -= 1
                    continue
                one.times -= 1
                if isinstance(one.act, tuple):
                    altered.append(one.act)
                else:
                    fault = one.act
            self._planned = [one for one in self._planned if one.times > 0]
        return fault, altered


def alter(body: Any, keys: list[str], value: Any) -> None:
    """Put a value in the place of a key, in every row of a list."""
    for one in body if isinstance(body, list) else [body]:
        if not isinstance(one, dict):
            continue
        if len(keys) > 1:
            alter(one.get(keys[0]), keys[1:], value)
        elif value is MISSING:
            one.pop(keys[0], None)
        else:
            one[keys[0]] = value
