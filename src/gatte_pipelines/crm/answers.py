"""What an answer of Pipedrive means, and its records taken out of the envelope. Pure.

Texts of the vendor change and may repeat what was sent, so none is shown: a meaning of ours stands
for each, with the vendor's machine code where it gives one.
Source: Pipedrive, "HTTP status codes" (2025-10) and the official specs of 2026-08-18; an answer of
401 and of the budget as field reports saw them in 2026.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, TypeGuard

from gatte_pipelines.crm.budget import is_budget_gone
from gatte_pipelines.json_records import UnreadableError, decode_object, read, what_came_instead

__all__ = [
    "MEANINGS",
    "Answer",
    "Meaning",
    "UnreadableError",
    "judge",
    "next_cursor",
    "next_start",
    "read",
]

_FIRST_REDIRECT, _FIRST_CLIENT_ERROR, _FIRST_SERVER_ERROR = 300, 400, 500
_FORBIDDEN, _NOT_FOUND, _TOO_MANY = 403, 404, 429
_PLAN_LIMIT = "feature_capping"
_CODE = re.compile(r"[A-Za-z0-9_]{1,64}")


class Meaning(StrEnum):
    """What an answer says."""

    DONE = "done"
    TOKEN = "token"  # noqa: S105 - no secret: the token is not accepted
    ACCOUNT = "account"
    BLOCKED = "blocked"
    PLAN_LIMIT = "plan_limit"
    FORBIDDEN = "forbidden"
    MISSING = "missing"
    NO_SUCH_CALL = "no_such_call"
    FEATURE_OFF = "feature_off"
    REFUSED = "refused"
    BUDGET = "budget"
    THROTTLED = "throttled"
    PASSING = "passing"
    FOREIGN = "foreign"


MEANINGS = {
    Meaning.TOKEN: "GATTE_PIPEDRIVE_API_TOKEN is not accepted",
    Meaning.ACCOUNT: "the Pipedrive account is closed or unpaid",
    Meaning.BLOCKED: "a firewall answered in Pipedrive's place, after too many requests",
    Meaning.PLAN_LIMIT: "a limit of the Pipedrive plan is reached",
    Meaning.FORBIDDEN: "the user of the token may not do this",
    Meaning.MISSING: "there is no such record",
    Meaning.NO_SUCH_CALL: "Pipedrive no longer offers this call",
    Meaning.FEATURE_OFF: "this feature is switched off in Pipedrive",
    Meaning.REFUSED: "Pipedrive refuses the request",
    Meaning.FOREIGN: "the answer is not one of Pipedrive's",
}
"""Every meaning that ends a call for good, in words."""

_BY_STATUS = {
    401: Meaning.TOKEN,
    402: Meaning.ACCOUNT,
    # An endpoint that was taken away. Never "no such record": that would delete ours.
    405: Meaning.NO_SUCH_CALL,
    408: Meaning.PASSING,
    410: Meaning.NO_SUCH_CALL,
    415: Meaning.FEATURE_OFF,
    425: Meaning.PASSING,
    501: Meaning.NO_SUCH_CALL,
    505: Meaning.REFUSED,
}


@dataclass(frozen=True, kw_only=True)
class Answer:
    """An answer, judged.

    Attributes:
        meaning: What it says.
        code: The vendor's machine code, or None.
        what: Where it is no answer of Pipedrive's: what it is instead.
        data: The tree under ``data``.
        additional_data: The tree under ``additional_data``; empty where there is none.
    """

    meaning: Meaning
    code: str | None = None
    what: str = ""
    data: object = field(default=None, repr=False)
    additional_data: Mapping[str, object] = field(default_factory=dict, repr=False)

    @property
    def explanation(self) -> str:
        """The meaning in words, with the vendor's code and what came instead."""
        details = ", ".join(part for part in (self.code, self.what) if part)
        words = MEANINGS.get(self.meaning, self.meaning.value)
        return f"{words} ({details})" if details else words


def judge(status: int, headers: Mapping[str, str], body: bytes) -> Answer:
    """Judge an answer.

    Args:
        status: HTTP status.
        headers: Headers, found by their names in lower case.
        body: The whole body.
    """
    envelope = decode_object(body)
    code = _code_of(envelope)
    what = "" if envelope is not None else what_came_instead(headers, body)
    meaning = _meaning_of(status, headers, envelope, code)
    if meaning is not Meaning.DONE:
        return Answer(meaning=meaning, code=code, what=what)
    assert envelope is not None  # noqa: S101 - only an envelope is done
    additional = envelope.get("additional_data")
    return Answer(
        meaning=meaning,
        data=envelope.get("data"),
        additional_data=additional if isinstance(additional, dict) else {},
    )


def next_start(additional_data: Mapping[str, object], start: int, count: int) -> int | None:
    """Where the next page of a v1 list begins; None after the last.

    The documentation has the figures under ``pagination``, the spec of leads has them one level
    higher, and its sample has none: then only an empty page is known to be the last.

    Args:
        additional_data: Of this page.
        start: Offset of this page.
        count: Records on it.

    Raises:
        UnreadableError: A figure is of another type; it is named.
    """
    nested = additional_data.get("pagination")
    prefix = "additional_data.pagination" if isinstance(nested, dict) else "additional_data"
    figures: Mapping[str, object] = nested if isinstance(nested, dict) else additional_data
    more = figures.get("more_items_in_collection")
    if more is None:
        return start + count if count else None
    if not isinstance(more, bool):
        raise UnreadableError(f"{prefix}.more_items_in_collection is neither true nor false")
    if not more:
        return None
    following, limit = figures.get("next_start"), figures.get("limit")
    if following is None:
        # The server's own limit, which may be lower than what was asked for.
        following = start + (limit if _is_count(limit) and limit else count)
    if not _is_count(following):
        raise UnreadableError(f"{prefix}.next_start is not a whole number")
    return following


def next_cursor(additional_data: Mapping[str, object]) -> str | None:
    """The cursor of the next page of a v2 list; None after the last.

    Raises:
        UnreadableError: It is missing, or neither text nor null. A list that ends without saying
            so would look as if the rest had been deleted.
    """
    if "next_cursor" not in additional_data:
        raise UnreadableError("additional_data.next_cursor is missing")
    cursor = additional_data["next_cursor"]
    if cursor is None or cursor == "":
        return None
    if not isinstance(cursor, str):
        raise UnreadableError("additional_data.next_cursor is not text")
    return cursor


def _meaning_of(
    status: int, headers: Mapping[str, str], envelope: dict[str, Any] | None, code: str | None
) -> Meaning:
    if status in _BY_STATUS:
        return _BY_STATUS[status]
    if status < _FIRST_REDIRECT:
        return _meaning_of_success(envelope)
    if status < _FIRST_CLIENT_ERROR:
        return Meaning.FOREIGN
    if status >= _FIRST_SERVER_ERROR:
        return Meaning.PASSING
    if status == _TOO_MANY:
        return Meaning.BUDGET if is_budget_gone(headers) else Meaning.THROTTLED
    if status == _FORBIDDEN:
        if envelope is None:
            return Meaning.BLOCKED
        is_plan = code is not None and code.startswith(_PLAN_LIMIT)
        return Meaning.PLAN_LIMIT if is_plan else Meaning.FORBIDDEN
    if status == _NOT_FOUND:
        # A host that is not Pipedrive's knows none of our records either.
        is_ours = envelope is not None and envelope.get("success") is False
        return Meaning.MISSING if is_ours else Meaning.FOREIGN
    return Meaning.REFUSED


def _meaning_of_success(envelope: dict[str, Any] | None) -> Meaning:
    if envelope is None or not isinstance(envelope.get("success"), bool):
        return Meaning.FOREIGN
    return Meaning.DONE if envelope["success"] else Meaning.REFUSED


def _code_of(envelope: dict[str, Any] | None) -> str | None:
    code = envelope.get("code") if envelope is not None else None
    return code if isinstance(code, str) and _CODE.fullmatch(code) else None


def _is_count(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
