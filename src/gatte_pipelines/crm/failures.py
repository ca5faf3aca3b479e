"""How a call to Pipedrive fails, classed by what may follow. Beside these stand those of ``http``.

None holds a body, a query or a header. What an answer means stands in ``answers``.
"""

from __future__ import annotations

from gatte_pipelines.api_failures import (
    AccessRefusedError,
    BlockedError,
    UnreadableAnswerError,
    again,
    error_from,
    reading,
    unreadable,
)
from gatte_pipelines.crm.answers import Meaning
from gatte_pipelines.http import PermanentHttpError
from gatte_pipelines.paging import PagingError

__all__ = [
    "AccessRefusedError",
    "BlockedError",
    "PagingError",
    "RecordMissingError",
    "RefusedError",
    "UnreadableAnswerError",
    "again",
    "error_from",
    "reading",
    "unreadable",
]


class RefusedError(PermanentHttpError):
    """Pipedrive read the request and says no.

    Attributes:
        meaning: Why.
        code: The vendor's machine code, or None.
    """

    meaning = Meaning.REFUSED
    code: str | None = None


class RecordMissingError(RefusedError):
    """The record that was to be changed is not there."""
