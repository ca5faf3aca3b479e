"""What an answer of Google's means: of Calendar v3, and of the endpoint that gives tokens. Pure.

Texts of the vendor change and may repeat what was sent, so none is shown: a meaning of ours stands
for each, with the vendor's machine code where it gives one. The status decides; a reason is asked
only where one status means several things (403, 429).
Source: Google, "Handle API errors" of Calendar and "Using OAuth 2.0 for server to server", 2026-04;
the codes in capitals are those of its newer services, which stand under ``details``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from gatte_pipelines.json_records import decode_object, what_came_instead

SCOPE = "https://www.googleapis.com/auth/calendar.events"
"""The one scope that is asked for: events, and neither calendars nor who may see them."""

_FIRST_REDIRECT, _FIRST_CLIENT_ERROR, _FIRST_SERVER_ERROR = 300, 400, 500
_FORBIDDEN, _TOO_MANY = 403, 429
_CODE = re.compile(r"[A-Za-z0-9_]{1,64}")
_TOKEN = re.compile(r"[!-~]+")
_SECONDS = re.compile(r"[0-9]{1,7}")


class Meaning(StrEnum):
    """What an answer says."""

    DONE = "done"
    TOKEN = "token"  # noqa: S105 - no secret: the token is not accepted
    KEY = "key"
    DELEGATION = "delegation"
    SCOPE = "scope"
    ACCESS = "access"
    API_OFF = "api_off"
    FORBIDDEN = "forbidden"
    MISSING = "missing"
    EXISTS = "exists"
    GONE = "gone"
    CHANGED = "changed"
    REFUSED = "refused"
    QUOTA = "quota"
    BLOCKED = "blocked"
    THROTTLED = "throttled"
    PASSING = "passing"
    FOREIGN = "foreign"


MEANINGS = {
    Meaning.TOKEN: (
        "the token is not accepted, and a new one neither; see whether the key of "
        "GATTE_GOOGLE_CREDENTIALS_FILE was deleted or its account disabled"
    ),
    Meaning.KEY: (
        "no token is given; the key of GATTE_GOOGLE_CREDENTIALS_FILE was deleted or its account "
        "disabled, or GATTE_GOOGLE_SUBJECT is no user, or the clock of this machine is wrong"
    ),
    Meaning.DELEGATION: (
        "no token is given for GATTE_GOOGLE_SUBJECT; in Google's Admin console, allow the client "
        f"id of the service account the scope {SCOPE}, or leave that setting empty and share the "
        "calendar with the account"
    ),
    Meaning.SCOPE: (
        "the token is not good for events of calendars; in Google's Admin console, allow the "
        f"client id of the service account the scope {SCOPE}"
    ),
    Meaning.ACCESS: (
        "the calendar may only be read; share it with the service account, or with "
        "GATTE_GOOGLE_SUBJECT, with the right to change events"
    ),
    Meaning.API_OFF: (
        "the Google Calendar API is switched off in the project of the service account; enable it "
        "in the Google Cloud console"
    ),
    Meaning.FORBIDDEN: "the service account may not do this",
    Meaning.MISSING: "there is no such event, or no such calendar for this account",
    Meaning.EXISTS: "the id is taken, perhaps by a deleted event",
    Meaning.GONE: "it was deleted, or is no longer valid",
    Meaning.CHANGED: "the event was changed since it was read",
    Meaning.REFUSED: "Google refuses the request",
    Meaning.QUOTA: "a quota of Google's is used up for hours",
    Meaning.BLOCKED: "something else answered in Calendar's place and keeps us out",
    Meaning.FOREIGN: "the answer is not one of Google's",
}
"""Every meaning that ends a call for good, in words."""

_BY_STATUS = {
    401: Meaning.TOKEN,
    408: Meaning.PASSING,
    425: Meaning.PASSING,
    501: Meaning.REFUSED,
    505: Meaning.REFUSED,
}
# Only in Google's own envelope: what knows nothing of our events would delete them with a 404.
_BY_STATUS_OF_GOOGLE = {
    404: Meaning.MISSING,
    409: Meaning.EXISTS,
    410: Meaning.GONE,
    412: Meaning.CHANGED,
}
_BY_REASON = {
    "rateLimitExceeded": Meaning.THROTTLED,
    "userRateLimitExceeded": Meaning.THROTTLED,
    "RATE_LIMIT_EXCEEDED": Meaning.THROTTLED,
    "quotaExceeded": Meaning.QUOTA,
    "dailyLimitExceeded": Meaning.QUOTA,
    "insufficientPermissions": Meaning.SCOPE,
    "ACCESS_TOKEN_SCOPE_INSUFFICIENT": Meaning.SCOPE,
    "requiredAccessLevel": Meaning.ACCESS,
    "accessNotConfigured": Meaning.API_OFF,
    "SERVICE_DISABLED": Meaning.API_OFF,
}
_BY_TOKEN_ERROR = {
    "unauthorized_client": Meaning.DELEGATION,
    "access_denied": Meaning.DELEGATION,
    "invalid_scope": Meaning.SCOPE,
    # As RFC 6749 §4.1.2.1 has them: a fault, though the status is that of a refusal.
    "internal_failure": Meaning.PASSING,
    "server_error": Meaning.PASSING,
    "temporarily_unavailable": Meaning.PASSING,
}


@dataclass(frozen=True, kw_only=True)
class Answer:
    """An answer, judged.

    Attributes:
        meaning: What it says.
        code: The vendor's machine code, or None.
        what: Where it is no answer of Google's: what it is instead.
        data: The JSON object of a success; None where there is no body.
    """

    meaning: Meaning
    code: str | None = None
    what: str = ""
    data: dict[str, Any] | None = field(default=None, repr=False)

    @property
    def is_repeated(self) -> bool:
        """Whether the same request may do better after a wait."""
        return self.meaning in {Meaning.THROTTLED, Meaning.PASSING}

    @property
    def explanation(self) -> str:
        """The meaning in words, with the vendor's code and what came instead."""
        details = ", ".join(part for part in (self.code, self.what) if part)
        words = MEANINGS.get(self.meaning, self.meaning.value)
        return f"{words} ({details})" if details else words


def judge(status: int, headers: Mapping[str, str], body: bytes) -> Answer:
    """Judge an answer of Calendar.

    Args:
        status: HTTP status.
        headers: Headers, found by their names in lower case.
        body: The whole body.
    """
    content = decode_object(body)
    if status < _FIRST_REDIRECT:
        # A deletion has nothing to say; what says something else did not come from there.
        if content is None and body.strip():
            return _foreign(headers, body)
        if content is not None and "error" in content:
            return Answer(meaning=Meaning.FOREIGN, what="an error that says it is a success")
        return Answer(meaning=Meaning.DONE, data=content)
    error = content.get("error") if content is not None else None
    envelope: dict[str, Any] | None = error if isinstance(error, dict) else None
    codes = [] if envelope is None else list(_reasons_of(envelope))
    meaning = _meaning_of(status, envelope, codes)
    what = ""
    if envelope is None:
        what = what_came_instead(headers, body) if content is None else "no error in it"
    return Answer(meaning=meaning, code=codes[0] if codes else None, what=what)


def judge_token(status: int, headers: Mapping[str, str], body: bytes) -> Answer:
    """Judge an answer of the endpoint that gives tokens; arguments as of ``judge``."""
    content = decode_object(body)
    if status < _FIRST_REDIRECT:
        if content is None:
            return _foreign(headers, body)
        token, seconds = content.get("access_token"), content.get("expires_in")
        if not isinstance(token, str) or not _TOKEN.fullmatch(token):
            return Answer(meaning=Meaning.FOREIGN, what="no access_token that a header can hold")
        if seconds is not None and not _SECONDS.fullmatch(str(seconds)):
            return Answer(meaning=Meaning.FOREIGN, what="expires_in is no number of seconds")
        return Answer(meaning=Meaning.DONE, data=content)
    code = _code_of(content.get("error") if content is not None else None)
    if status >= _FIRST_SERVER_ERROR or _BY_STATUS.get(status) is Meaning.PASSING:
        return Answer(meaning=_BY_STATUS.get(status, Meaning.PASSING), code=code)
    if status == _TOO_MANY:
        return Answer(meaning=Meaning.THROTTLED, code=code)
    if code is None:
        no_error = Answer(meaning=Meaning.FOREIGN, what="no error in it")
        return _foreign(headers, body) if content is None else no_error
    return Answer(meaning=_BY_TOKEN_ERROR.get(code, Meaning.KEY), code=code)


def _meaning_of(status: int, envelope: dict[str, Any] | None, codes: list[str]) -> Meaning:
    if status in _BY_STATUS:
        return _BY_STATUS[status]
    if status >= _FIRST_SERVER_ERROR:
        return Meaning.PASSING
    by_reason = next((_BY_REASON[code] for code in codes if code in _BY_REASON), None)
    if status == _TOO_MANY:
        return Meaning.QUOTA if by_reason is Meaning.QUOTA else Meaning.THROTTLED
    if status == _FORBIDDEN:
        return Meaning.BLOCKED if envelope is None else by_reason or Meaning.FORBIDDEN
    if envelope is None or status < _FIRST_CLIENT_ERROR:
        return Meaning.FOREIGN
    return _BY_STATUS_OF_GOOGLE.get(status, Meaning.REFUSED)


def _foreign(headers: Mapping[str, str], body: bytes) -> Answer:
    return Answer(meaning=Meaning.FOREIGN, what=what_came_instead(headers, body))


def _reasons_of(envelope: dict[str, Any]) -> Iterator[str]:
    """The machine codes of an error, under ``errors`` or ``details``."""
    for name in ("errors", "details"):
        entries = envelope.get(name)
        for entry in entries if isinstance(entries, list) else []:
            code = _code_of(entry.get("reason") if isinstance(entry, dict) else None)
            if code is not None:
                yield code


def _code_of(value: object) -> str | None:
    return value if isinstance(value, str) and _CODE.fullmatch(value) else None
