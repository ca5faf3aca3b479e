"""How a call to Pipedrive fails, classed by what may follow. Beside these stand those of ``http``.

None holds a body, a query or a header. What an answer means stands in ``answers``.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

from gatte_pipelines.crm.answers import Meaning, UnreadableError
from gatte_pipelines.errors import ConfigurationError
from gatte_pipelines.http import (
    AmbiguousError,
    HttpError,
    PermanentHttpError,
    request_id_of,
    safe_path,
)

if TYPE_CHECKING:
    import httpx

ErrorT = TypeVar("ErrorT", bound=HttpError)


class AccessRefusedError(HttpError, ConfigurationError):
    """The token is not accepted, or the account is closed; nothing more is attempted."""


class BlockedError(HttpError):
    """A firewall keeps us out; nothing more is attempted by this client.

    Not retryable: to come back at once would lengthen it. The next scheduled run may pass.
    """


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


class UnreadableAnswerError(PermanentHttpError):
    """An answer is not what the API promises; the message names the field."""


class PagingError(PermanentHttpError):
    """A list that does not come to an end."""


def error_from(kind: type[ErrorT], response: httpx.Response, message: str) -> ErrorT:
    """The error of a kind that tells of an answer what may be told."""
    return kind(
        message,
        method=response.request.method,
        path=safe_path(response.request.url),
        status=response.status_code,
        request_id=request_id_of(response.headers),
    )


def again(
    stopped_by: AccessRefusedError | BlockedError, method: str, path: str
) -> AccessRefusedError | BlockedError:
    """The same error for a call that is not sent because of it."""
    return type(stopped_by)(
        f"not sent, since an earlier request was answered {stopped_by.status}",
        method=method,
        path=path,
        status=stopped_by.status,
    )


@contextmanager
def reading(response: httpx.Response) -> Iterator[None]:
    """Let what is wrong with an answer end the call."""
    try:
        yield
    except UnreadableError as error:
        raise unreadable(response, str(error)) from None


def unreadable(response: httpx.Response, what: str) -> HttpError:
    """The error for an answer of success that cannot be read: a write may well have been done."""
    message = f"answered {response.status_code}, but {what}"
    if response.request.method == "GET":
        return error_from(UnreadableAnswerError, response, message)
    return error_from(AmbiguousError, response, f"{message}; it may have taken effect")
