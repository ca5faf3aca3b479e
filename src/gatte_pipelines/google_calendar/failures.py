"""How a call to Google Calendar fails, classed by what may follow. Beside these stand the shared.

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
from gatte_pipelines.google_calendar.answers import Meaning
from gatte_pipelines.http import PermanentHttpError
from gatte_pipelines.paging import PagingError

__all__ = [
    "AccessRefusedError",
    "BlockedError",
    "CalendarMissingError",
    "EventChangedError",
    "EventExistsError",
    "EventMissingError",
    "PagingError",
    "RefusedError",
    "SyncTokenExpiredError",
    "UnreadableAnswerError",
    "again",
    "error_from",
    "reading",
    "unreadable",
]


class CalendarMissingError(AccessRefusedError):
    """There is no such calendar, or it is not shared with us: Google says the same of both."""


class RefusedError(PermanentHttpError):
    """Google read the request and says no.

    Attributes:
        meaning: Why.
        code: The vendor's machine code, or None.
    """

    meaning = Meaning.REFUSED
    code: str | None = None


class EventExistsError(RefusedError):
    """The id of a new event is taken, by a live or a deleted one: read it, and decide."""


class EventChangedError(RefusedError):
    """Somebody changed the event since its etag was read: read it again, and decide anew."""


class EventMissingError(RefusedError):
    """The event that was to be changed is not there, or was deleted."""


class SyncTokenExpiredError(RefusedError):
    """Changes since the token can no longer be told: read everything, and look for what is gone."""
