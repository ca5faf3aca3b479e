"""What a look at an installation finds: a word a colleague understands, and what to do next.

Looking belongs to ``doctor`` and, where only a domain knows how, to that domain.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class State(StrEnum):
    """How good it is, as people read it."""

    OK = "ok"
    WARNING = "aviso"
    ERROR = "erro"


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at, without personal values.

    Attributes:
        state: How good it is.
        text: What was found, in Portuguese.
        advice: What to do next; empty where nothing is to be done.
    """

    state: State
    text: str
    advice: str = ""
