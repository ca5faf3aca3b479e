"""How the stand-in for Google Calendar fails on request, and how Google words a refusal.

Reasons and messages are those of Google's guide on errors; the ones of the token endpoint come from
field reports.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Final


class RefusedError(Exception):
    """An answer that is no success.

    Args:
        status: Of HTTP.
        reason: As Google names it.
        message: For a person.
        domain: Whose reason it is: global, calendar or usageLimits.
        location: What is wrong: a parameter or header, by the type of location it is.
    """

    def __init__(
        self,
        status: int,
        reason: str,
        message: str,
        *,
        domain: str = "global",
        location: tuple[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.detail: dict[str, Any] = {"domain": domain, "reason": reason, "message": message}
        if location is not None:
            self.detail |= {"locationType": location[0], "location": location[1]}

    @property
    def body(self) -> dict[str, Any]:
        """The envelope of every error."""
        error = {
            "errors": [self.detail],
            "code": self.status,
            "message": self.detail["message"],
        }
        return {"error": error}


def invalid(message: str, parameter: str | None = None) -> RefusedError:
    """A value that is refused, in a body or in a parameter of the query."""
    location = None if parameter is None else ("parameter", parameter)
    return RefusedError(400, "invalid", message, location=location)


class TokenRefusedError(Exception):
    """An answer of the token endpoint that holds no token."""

    def __init__(self, status: int, error: str, description: str) -> None:
        super().__init__(description)
        self.status = status
        self.body = {"error": error, "error_description": description}


class GoogleFault(StrEnum):
    """How the stand-in fails on request; nothing was done but where it says so."""

    BAD_REQUEST = "bad_request"
    """400 badRequest."""
    UNAUTHORIZED = "unauthorized"
    """401, whatever the access token."""
    RATE_LIMIT = "rate_limit"
    """403 rateLimitExceeded: the same as 429, and to be tried again."""
    USER_RATE_LIMIT = "user_rate_limit"
    """403 userRateLimitExceeded: to be tried again."""
    QUOTA = "quota"
    """403 quotaExceeded: the calendar's use limits, for hours."""
    DAILY_LIMIT = "daily_limit"
    """403 dailyLimitExceeded: the project's day is over."""
    NOT_ORGANIZER = "not_organizer"
    """403 forbiddenForNonOrganizer."""
    SERVICE_ACCOUNT = "service_account"
    """403 forbiddenForServiceAccounts."""
    SCOPE = "scope"
    """403 insufficientPermissions: the access token has not the scope."""
    READER = "reader"
    """403 requiredAccessLevel: the calendar is shared for reading only."""
    API_IS_OFF = "api_is_off"
    """403 accessNotConfigured: the API is not enabled in the project."""
    UNKNOWN_REASON = "unknown_reason"
    """403 of a reason that no guide names."""
    NOT_FOUND = "not_found"
    """404 notFound."""
    DUPLICATE = "duplicate"
    """409 duplicate."""
    DELETED = "deleted"
    """410 deleted."""
    FULL_SYNC = "full_sync"
    """410 fullSyncRequired."""
    CHANGED = "changed"
    """412 conditionNotMet."""
    TOO_MANY = "too_many"
    """429 rateLimitExceeded."""
    SERVER_ERROR = "server_error"
    """500 backendError."""
    UNAVAILABLE = "unavailable"
    """503 backendError."""
    BAD_GATEWAY = "bad_gateway"
    """502 with a page of HTML, as from whatever stands before Google."""
    TIMEOUT_BEFORE = "timeout_before"
    """Never answers."""
    TIMEOUT_AFTER = "timeout_after"
    """Never answers, and it was done."""
    SERVER_ERROR_AFTER = "server_error_after"
    """500, and it was done all the same."""
    UNAVAILABLE_AFTER = "unavailable_after"
    """503, and it was done all the same."""
    BROKEN_OFF = "broken_off"
    """The connection ends within the answer, and it was done."""
    HTML = "html"
    """200 with HTML where JSON is due, and it was done."""
    STUCK_PAGES = "stuck_pages"
    """A page that names itself as the next one."""

    INVALID_GRANT = "invalid_grant"
    """400 of the token endpoint: the assertion is not believed."""
    INVALID_SCOPE = "invalid_scope"
    """400 of the token endpoint: no such scope."""
    UNAUTHORIZED_CLIENT = "unauthorized_client"
    """401 of the token endpoint: the domain's administrator did not allow it."""


_GLOBAL, _CALENDAR, _USAGE = "global", "calendar", "usageLimits"
_HEADER, _PARAMETER = "header", "parameter"

_Words = tuple[int, str, str, str, tuple[str, str] | None]

_INSTEAD: Final[Mapping[GoogleFault, _Words]] = {
    GoogleFault.BAD_REQUEST: (400, "badRequest", "Bad Request", _GLOBAL, None),
    GoogleFault.UNAUTHORIZED: (
        401,
        "authError",
        "Invalid Credentials",
        _GLOBAL,
        (_HEADER, "Authorization"),
    ),
    GoogleFault.RATE_LIMIT: (403, "rateLimitExceeded", "Rate Limit Exceeded", _USAGE, None),
    GoogleFault.USER_RATE_LIMIT: (
        403,
        "userRateLimitExceeded",
        "User Rate Limit Exceeded",
        _USAGE,
        None,
    ),
    GoogleFault.QUOTA: (403, "quotaExceeded", "Calendar usage limits exceeded.", _USAGE, None),
    GoogleFault.DAILY_LIMIT: (403, "dailyLimitExceeded", "Daily Limit Exceeded", _USAGE, None),
    GoogleFault.NOT_ORGANIZER: (
        403,
        "forbiddenForNonOrganizer",
        "Shared properties can only be changed by the organizer of the event.",
        _CALENDAR,
        None,
    ),
    GoogleFault.SERVICE_ACCOUNT: (
        403,
        "forbiddenForServiceAccounts",
        "Service accounts cannot invite attendees without Domain-Wide Delegation of Authority.",
        _CALENDAR,
        None,
    ),
    GoogleFault.SCOPE: (
        403,
        "insufficientPermissions",
        "Request had insufficient authentication scopes.",
        _GLOBAL,
        None,
    ),
    GoogleFault.READER: (
        403,
        "requiredAccessLevel",
        "You need to have writer access to this calendar.",
        _CALENDAR,
        None,
    ),
    GoogleFault.API_IS_OFF: (
        403,
        "accessNotConfigured",
        "Google Calendar API has not been used in this project before or it is disabled.",
        _USAGE,
        None,
    ),
    GoogleFault.UNKNOWN_REASON: (403, "somethingNew", "Forbidden", _GLOBAL, None),
    GoogleFault.NOT_FOUND: (404, "notFound", "Not Found", _GLOBAL, None),
    GoogleFault.DUPLICATE: (
        409,
        "duplicate",
        "The requested identifier already exists.",
        _GLOBAL,
        None,
    ),
    GoogleFault.DELETED: (410, "deleted", "Resource has been deleted", _GLOBAL, None),
    GoogleFault.FULL_SYNC: (
        410,
        "fullSyncRequired",
        "Sync token is no longer valid, a full sync is required.",
        _CALENDAR,
        (_PARAMETER, "syncToken"),
    ),
    GoogleFault.CHANGED: (
        412,
        "conditionNotMet",
        "Precondition Failed",
        _GLOBAL,
        (_HEADER, "If-Match"),
    ),
    GoogleFault.TOO_MANY: (429, "rateLimitExceeded", "Rate Limit Exceeded", _USAGE, None),
    GoogleFault.SERVER_ERROR: (500, "backendError", "Backend Error", _GLOBAL, None),
    GoogleFault.UNAVAILABLE: (503, "backendError", "Backend Error", _GLOBAL, None),
}

AFTER: Final[Mapping[GoogleFault, GoogleFault]] = {
    GoogleFault.SERVER_ERROR_AFTER: GoogleFault.SERVER_ERROR,
    GoogleFault.UNAVAILABLE_AFTER: GoogleFault.UNAVAILABLE,
}
"""What is answered although the request had its effect."""

_OF_TOKENS: Final[Mapping[GoogleFault, tuple[int, str, str]]] = {
    GoogleFault.INVALID_GRANT: (400, "invalid_grant", "Invalid JWT Signature."),
    GoogleFault.INVALID_SCOPE: (
        400,
        "invalid_scope",
        "Invalid OAuth scope or ID token audience provided.",
    ),
    GoogleFault.UNAUTHORIZED_CLIENT: (
        401,
        "unauthorized_client",
        "Client is unauthorized to retrieve access tokens using this method, or client not"
        " authorized for any of the scopes requested.",
    ),
}


def is_refusal(fault: GoogleFault) -> bool:
    """Whether a fault is an error that stands in the place of the real answer."""
    return fault in _INSTEAD


def refusal_of(fault: GoogleFault) -> RefusedError:
    """The error that a fault stands for, in Google's words; a new one each time."""
    status, reason, message, domain, location = _INSTEAD[fault]
    return RefusedError(status, reason, message, domain=domain, location=location)


def is_token_refusal(fault: GoogleFault) -> bool:
    """Whether only the token endpoint fails so."""
    return fault in _OF_TOKENS


def token_refusal_of(fault: GoogleFault) -> TokenRefusedError:
    """The error of the token endpoint that a fault stands for."""
    return TokenRefusedError(*_OF_TOKENS[fault])
