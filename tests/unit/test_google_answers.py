"""Every answer of Google's has its meaning: of Calendar, and of the endpoint that gives tokens."""

from __future__ import annotations

import json

import pytest

from gatte_pipelines.google_calendar.answers import (
    MEANINGS,
    SCOPE,
    Meaning,
    judge,
    judge_token,
)

JSON, HTML = {"content-type": "application/json"}, {"content-type": "text/html; charset=UTF-8"}
PAGE = "<!DOCTYPE html><html><title>Error 404 (Not Found)!!1</title></html>"
EVENT = '{"kind": "calendar#event", "id": "abcde"}'
M = Meaning


def error(status: int, /, *reasons: str, **more: object) -> str:
    entries = [{"domain": "global", "reason": reason, "message": "Ana"} for reason in reasons]
    return json.dumps({"error": {"errors": entries, "code": status, "message": "Ana", **more}})


def detailed(status: int, reason: str) -> str:
    """As Google's newer services say it."""
    details = [{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": reason}]
    return error(status, details=details, status="PERMISSION_DENIED")


# what it is, status, headers, body, meaning, the vendor's code, whether it is sent again
TABLE = [
    ("an event", 200, JSON, EVENT, M.DONE, None, False),
    ("an event that was deleted", 204, {}, "", M.DONE, None, False),
    ("blanks for a deletion", 200, {}, " \n", M.DONE, None, False),
    ("HTML with 200", 200, HTML, PAGE, M.FOREIGN, None, False),
    ("HTML that calls itself JSON", 200, JSON, PAGE, M.FOREIGN, None, False),
    ("a list with 200", 200, JSON, "[]", M.FOREIGN, None, False),
    ("an error with 200", 200, JSON, error(200, "notFound"), M.FOREIGN, None, False),
    ("JSON cut off", 200, JSON, EVENT[:-3], M.FOREIGN, None, False),
    ("bytes that are no text", 200, JSON, '{"id": "\udcff"}', M.FOREIGN, None, False),
    ("a tower of brackets", 200, JSON, "[" * 100_000, M.FOREIGN, None, False),
    ("a redirect", 302, {"location": "https://other.example.com"}, "", M.FOREIGN, None, False),
    ("a redirect with an error", 307, JSON, error(307, "notFound"), M.FOREIGN, "notFound", False),
    ("not modified", 304, {}, "", M.FOREIGN, None, False),
    # §2.6: what is not repeated.
    ("a bad request", 400, JSON, error(400, "invalid"), M.REFUSED, "invalid", False),
    ("a time range", 400, JSON, error(400, "timeRangeEmpty"), M.REFUSED, "timeRangeEmpty", False),
    ("a bad request of another host", 400, HTML, PAGE, M.FOREIGN, None, False),
    ("a wrong token", 401, JSON, error(401, "authError"), M.TOKEN, "authError", False),
    ("a wrong token, from a gateway", 401, HTML, PAGE, M.TOKEN, None, False),
    (
        "a quota for hours",
        403,
        JSON,
        error(403, "quotaExceeded"),
        M.QUOTA,
        "quotaExceeded",
        False,
    ),
    (
        "the day's limit",
        403,
        JSON,
        error(403, "dailyLimitExceeded"),
        M.QUOTA,
        "dailyLimitExceeded",
        False,
    ),
    (
        "not the organizer",
        403,
        JSON,
        error(403, "forbiddenForNonOrganizer"),
        M.FORBIDDEN,
        "forbiddenForNonOrganizer",
        False,
    ),
    (
        "guests without delegation",
        403,
        JSON,
        error(403, "forbiddenForServiceAccounts"),
        M.FORBIDDEN,
        "forbiddenForServiceAccounts",
        False,
    ),
    ("a reason of tomorrow", 403, JSON, error(403, "brandNew"), M.FORBIDDEN, "brandNew", False),
    ("no reason", 403, JSON, error(403), M.FORBIDDEN, None, False),
    (
        "another scope",
        403,
        JSON,
        error(403, "insufficientPermissions"),
        M.SCOPE,
        "insufficientPermissions",
        False,
    ),
    (
        "another scope, as new services say it",
        403,
        JSON,
        detailed(403, "ACCESS_TOKEN_SCOPE_INSUFFICIENT"),
        M.SCOPE,
        "ACCESS_TOKEN_SCOPE_INSUFFICIENT",
        False,
    ),
    (
        "a calendar that is only read",
        403,
        JSON,
        error(403, "requiredAccessLevel"),
        M.ACCESS,
        "requiredAccessLevel",
        False,
    ),
    (
        "an API that is off",
        403,
        JSON,
        error(403, "accessNotConfigured"),
        M.API_OFF,
        "accessNotConfigured",
        False,
    ),
    (
        "an API that is off, as new services say it",
        403,
        JSON,
        detailed(403, "SERVICE_DISABLED"),
        M.API_OFF,
        "SERVICE_DISABLED",
        False,
    ),
    ("a page that keeps us out", 403, HTML, PAGE, M.BLOCKED, None, False),
    ("a bare refusal", 403, {}, "", M.BLOCKED, None, False),
    ("no such event", 404, JSON, error(404, "notFound"), M.MISSING, "notFound", False),
    # What knows nothing of our events must not look as if they had been deleted.
    ("another host", 404, HTML, PAGE, M.FOREIGN, None, False),
    ("another API", 404, JSON, '{"error": "not found"}', M.FOREIGN, None, False),
    ("an id that is taken", 409, JSON, error(409, "duplicate"), M.EXISTS, "duplicate", False),
    ("a conflict of another host", 409, {}, "", M.FOREIGN, None, False),
    ("a deleted event", 410, JSON, error(410, "deleted"), M.GONE, "deleted", False),
    (
        "a token that ran out",
        410,
        JSON,
        error(410, "fullSyncRequired"),
        M.GONE,
        "fullSyncRequired",
        False,
    ),
    (
        "a token that ran out, in other words",
        410,
        JSON,
        error(410, "updatedMinTooLongAgo"),
        M.GONE,
        "updatedMinTooLongAgo",
        False,
    ),
    ("gone, without a reason", 410, JSON, error(410), M.GONE, None, False),
    ("gone at another host", 410, HTML, PAGE, M.FOREIGN, None, False),
    (
        "an event that changed",
        412,
        JSON,
        error(412, "conditionNotMet"),
        M.CHANGED,
        "conditionNotMet",
        False,
    ),
    (
        "a method that is not known",
        405,
        JSON,
        error(405, "httpMethod"),
        M.REFUSED,
        "httpMethod",
        False,
    ),
    ("never built", 501, JSON, error(501), M.REFUSED, None, False),
    ("another HTTP", 505, {}, "", M.REFUSED, None, False),
    # §2.6: what is repeated.
    (
        "too many",
        403,
        JSON,
        error(403, "rateLimitExceeded"),
        M.THROTTLED,
        "rateLimitExceeded",
        True,
    ),
    (
        "too many of one user",
        403,
        JSON,
        error(403, "userRateLimitExceeded"),
        M.THROTTLED,
        "userRateLimitExceeded",
        True,
    ),
    (
        "too many, as new services say it",
        403,
        JSON,
        detailed(403, "RATE_LIMIT_EXCEEDED"),
        M.THROTTLED,
        "RATE_LIMIT_EXCEEDED",
        True,
    ),
    (
        "too many, with 429",
        429,
        JSON,
        error(429, "rateLimitExceeded"),
        M.THROTTLED,
        "rateLimitExceeded",
        True,
    ),
    ("too many, of a gateway", 429, {}, "", M.THROTTLED, None, True),
    (
        "a quota, with 429",
        429,
        JSON,
        error(429, "quotaExceeded"),
        M.QUOTA,
        "quotaExceeded",
        False,
    ),
    ("a fault", 500, JSON, error(500, "backendError"), M.PASSING, "backendError", True),
    ("a gateway", 502, HTML, PAGE, M.PASSING, None, True),
    ("maintenance", 503, JSON, error(503, "backendError"), M.PASSING, "backendError", True),
    ("a gateway that waits no longer", 504, {}, "", M.PASSING, None, True),
    ("a request that took too long", 408, {}, "", M.PASSING, None, True),
    ("too early", 425, {}, "", M.PASSING, None, True),
]


@pytest.mark.parametrize(
    ("status", "headers", "body", "meaning", "code", "is_repeated"),
    [row[1:] for row in TABLE],
    ids=[row[0] for row in TABLE],
)
def test_an_answer_means(
    status: int,
    headers: dict[str, str],
    body: str,
    meaning: Meaning,
    code: str | None,
    is_repeated: bool,
) -> None:
    answer = judge(status, headers, body.encode(errors="surrogateescape"))
    assert (answer.meaning, answer.code, answer.is_repeated) == (meaning, code, is_repeated)


TOKEN = '{"access_token": "ya29.nobody", "expires_in": 3599, "token_type": "Bearer"}'  # noqa: S105


def refused(code: object) -> str:
    return json.dumps({"error": code, "error_description": "Ana"})


TOKEN_TABLE = [
    ("a token", 200, JSON, TOKEN, M.DONE, None),
    ("a token without an end", 200, JSON, '{"access_token": "x"}', M.DONE, None),
    ("seconds in quotes", 200, JSON, '{"access_token": "x", "expires_in": "60"}', M.DONE, None),
    ("an end that is none", 200, JSON, '{"access_token": "x", "expires_in": 1e9}', M.FOREIGN, None),
    ("no token", 200, JSON, '{"id_token": "x"}', M.FOREIGN, None),
    ("an empty token", 200, JSON, '{"access_token": ""}', M.FOREIGN, None),
    ("a token of two lines", 200, JSON, '{"access_token": "x\\ny"}', M.FOREIGN, None),
    ("HTML with 200", 200, HTML, PAGE, M.FOREIGN, None),
    ("another address", 404, HTML, PAGE, M.FOREIGN, None),
    ("another API", 400, JSON, '{"error": {"code": 400}}', M.FOREIGN, None),
    ("a key that was deleted", 400, JSON, refused("invalid_grant"), M.KEY, "invalid_grant"),
    ("an account that is unknown", 401, JSON, refused("invalid_client"), M.KEY, "invalid_client"),
    (
        "no delegation",
        401,
        JSON,
        refused("unauthorized_client"),
        M.DELEGATION,
        "unauthorized_client",
    ),
    ("no delegation, older", 403, JSON, refused("access_denied"), M.DELEGATION, "access_denied"),
    ("another scope", 400, JSON, refused("invalid_scope"), M.SCOPE, "invalid_scope"),
    ("a fault called a refusal", 400, JSON, refused("server_error"), M.PASSING, "server_error"),
    ("too many", 429, {}, "", M.THROTTLED, None),
    ("a fault", 500, JSON, refused("internal_failure"), M.PASSING, "internal_failure"),
    ("maintenance", 503, HTML, PAGE, M.PASSING, None),
    ("never built", 501, {}, "", M.REFUSED, None),
]


@pytest.mark.parametrize(
    ("status", "headers", "body", "meaning", "code"),
    [row[1:] for row in TOKEN_TABLE],
    ids=[row[0] for row in TOKEN_TABLE],
)
def test_an_answer_about_a_token_means(
    status: int, headers: dict[str, str], body: str, meaning: Meaning, code: str | None
) -> None:
    answer = judge_token(status, headers, body.encode())
    assert (answer.meaning, answer.code) == (meaning, code)


def test_every_meaning_that_ends_a_call_has_words() -> None:
    assert set(MEANINGS) == set(Meaning) - {M.DONE, M.THROTTLED, M.PASSING}
    assert {row[4] for row in (*TABLE, *TOKEN_TABLE)} == set(Meaning)


def test_what_someone_can_set_right_is_said_with_its_setting() -> None:
    for meaning in (M.TOKEN, M.KEY):
        assert "GATTE_GOOGLE_CREDENTIALS_FILE" in MEANINGS[meaning]
    assert "GATTE_GOOGLE_SUBJECT" in MEANINGS[M.DELEGATION]
    assert SCOPE in MEANINGS[M.DELEGATION]
    assert SCOPE in MEANINGS[M.SCOPE]


@pytest.mark.parametrize(
    ("headers", "body", "what"),
    [
        (HTML, PAGE, "HTML where JSON was due"),
        ({}, "  <HTML>", "HTML where JSON was due"),
        (JSON, "Ana Souza", "no JSON object"),
        (JSON, '{"error": {}}', "an error that says it is a success"),
    ],
)
def test_what_came_instead_is_named_and_not_shown(
    headers: dict[str, str], body: str, what: str
) -> None:
    answer = judge(200, headers, body.encode())
    assert answer.explanation == f"the answer is not one of Google's ({what})"


def test_nothing_of_the_vendors_texts_is_shown() -> None:
    answer = judge(400, JSON, error(400, "invalid", status="Ana").encode())
    assert answer.explanation == "Google refuses the request (invalid)"
    assert "Ana" not in repr(answer)
    for reason in ("Ana Souza", "", "a" * 65, 7, None, ["x"]):
        body = json.dumps({"error": {"errors": [{"reason": reason}, "Ana", None], "details": 7}})
        assert judge(400, JSON, body.encode()).explanation == "Google refuses the request"
    assert "Ana" not in repr(judge_token(400, JSON, refused("Ana Souza").encode()))


def test_a_decoded_answer_shows_no_data() -> None:
    answer = judge(200, JSON, b'{"summary": "Ana"}')
    assert answer.data == {"summary": "Ana"}
    assert "Ana" not in repr(answer)
    assert "ya29" not in repr(judge_token(200, JSON, TOKEN.encode()))
