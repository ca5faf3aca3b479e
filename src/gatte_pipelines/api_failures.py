"""How a call to a vendor's API fails, whoever the vendor. Beside these stand those of ``http``.

None holds a body, a query or a header. What a vendor's answer means belongs to its client.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

from gatte_pipelines.errors import ConfigurationError
from gatte_pipelines.http import (
    AmbiguousError,
    HttpError,
    PermanentHttpError,
    request_id_of,
    safe_path,
)
from gatte_pipelines.json_records import UnreadableError

if TYPE_CHECKING:
    import httpx

ErrorT = TypeVar("ErrorT", bound=HttpError)


class AccessRefusedError(HttpError, ConfigurationError):
    """We are not let in until someone changes a setting or a grant; nothing more is attempted."""


class BlockedError(HttpError):
    """We are kept out for being too many; nothing more is attempted by this client.

    Not retryable: to come back at once would lengthen it. The next scheduled run may pass.
    """


class UnreadableAnswerError(PermanentHttpError):
    """An answer is not what the API promises; the message names the field."""


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
