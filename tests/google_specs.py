"""Google's discovery document of calendar v3 as a judge of requests and answers.

Read from ../shared beside the checkout; nothing of it is in this project. What it leaves out or has
wrong stands in `GAPS`, each with its reason. What is judged belongs to the tests.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from jsonschema import Draft202012Validator, FormatChecker

from gatte_pipelines.sandbox.google_calendar import EXCHANGE_TEMPLATE, Exchange
from gatte_pipelines.sandbox.google_calendar_access import GRANT_TYPE

CONTRACTS = Path(__file__).resolve().parents[2] / "shared" / "contracts"
_DOCUMENT = CONTRACTS / "google-calendar-v3.json"
ARE_MISSING = not _DOCUMENT.is_file()
WHY_MISSING = "Google's discovery document of ../shared is not beside this checkout"


@dataclass(frozen=True, kw_only=True)
class Gap:
    """Where the document is silent or wrong.

    Attributes:
        name: Of the gap.
        reason: How it is known.
        is_stricter: Whether more is refused than the document refuses; else less.
    """

    name: str
    reason: str
    is_stricter: bool


GAPS = (
    Gap(
        name="a time without an offset",
        reason="said to be a date-time, which has one; its description: none is needed beside a"
        " timeZone",
        is_stricter=False,
    ),
    Gap(
        name="null in a patch",
        reason="no type is nullable; the guide on performance: null takes a field away",
        is_stricter=False,
    ),
    Gap(
        name="the answer to a deletion",
        reason="no answer is declared: 204 without a body, by field reports",
        is_stricter=False,
    ),
    Gap(
        name="errors",
        reason="no error is declared: the envelope of the guide on errors is asked for",
        is_stricter=True,
    ),
    Gap(
        name="the token endpoint",
        reason="not part of the document: judged by RFC 7523 and Google's text",
        is_stricter=True,
    ),
    Gap(
        name="choices in words",
        reason="status, visibility and transparency name their values in descriptions only",
        is_stricter=True,
    ),
    Gap(
        name="times in words",
        reason="descriptions only: a day or a moment, and never both; an offset or a zone",
        is_stricter=True,
    ),
    Gap(
        name="ids in words",
        reason="which characters an id may have, and that it excludes an iCalUID, stands in"
        " descriptions only",
        is_stricter=True,
    ),
    Gap(
        name="companions of a sync token",
        reason="which parameters it excludes stands in its description only",
        is_stricter=True,
    ),
    Gap(
        name="read-only fields",
        reason="one schema serves both ways; descriptions say what is read-only",
        is_stricter=True,
    ),
    Gap(
        name="what an answer holds",
        reason="nothing is required of an answer; the description of status says what is promised",
        is_stricter=True,
    ),
)

_CHOICES = {
    "status": ("confirmed", "tentative", "cancelled"),
    "visibility": ("default", "public", "private", "confidential"),
    "transparency": ("opaque", "transparent"),
}
_EXCLUDED_BY_SYNC_TOKEN = re.compile(r"These are: (.*?) All other", re.DOTALL)
_MOMENT = r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d+)?([Zz]|[+-]\d{2}:\d{2})?$"
_PROMISED = ("kind", "etag", "id", "status", "start", "end", "updated", "iCalUID")
_TOKEN_ERRORS = {
    "invalid_grant",
    "invalid_scope",
    "invalid_request",
    "unauthorized_client",
    "unsupported_grant_type",
}
_INT32 = 1 << 31


@cache
def _document() -> dict[str, Any]:
    read: dict[str, Any] = json.loads(_DOCUMENT.read_text("utf-8"))
    return read


@cache
def _methods() -> dict[tuple[str, str], dict[str, Any]]:
    methods = _document()["resources"]["events"]["methods"].values()
    return {(one["httpMethod"], one["path"]): one for one in methods}


def method_of(method: str, template: str) -> dict[str, Any] | None:
    """What the document says of an endpoint of events."""
    return _methods().get((method, template))


def global_parameters() -> set[str]:
    """Parameters of the query that every endpoint has."""
    return set(_document()["parameters"])


def query_parameters(described: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Parameters of the query that an endpoint has of its own, by their names."""
    own = described.get("parameters", {})
    return {name: one for name, one in own.items() if one["location"] == "query"}


# -- schemas


def _is_read_only(node: Mapping[str, Any]) -> bool:
    # The organizer is "Read-only, except when importing an event", which nobody here does.
    return bool(re.search(r"\bread-only\b", node.get("description", ""), re.IGNORECASE))


def _converted(node: Any, *, method: str | None, without: str | None) -> dict[str, Any]:
    """A schema of the document as JSON schema.

    Args:
        node: The schema.
        method: Id of the method whose request it is; None for an answer.
        without: A gap that is left open.
    """
    made: dict[str, Any] = {}
    if "$ref" in node:
        made["$ref"] = f"#/$defs/{node['$ref']}"
    elif node.get("type") == "any":
        pass
    else:
        made["type"] = node["type"]
    if "enum" in node:
        made["enum"] = node["enum"]
    if node.get("format") in {"date-time", "date"}:
        made["format"] = node["format"]
    elif node.get("format") in {"int64", "uint64"}:
        made["pattern"] = r"^-?\d{1,19}$"
    elif node.get("format") == "int32":
        made |= {"minimum": -_INT32, "maximum": _INT32 - 1}
    if "items" in node:
        made["items"] = _converted(node["items"], method=method, without=without)
    if node.get("type") == "object":
        fields = {
            name: _converted(one, method=method, without=without)
            for name, one in node.get("properties", {}).items()
            if method is None or without == "read-only fields" or not _is_read_only(one)
        }
        made["properties"] = fields
        more = node.get("additionalProperties")
        made["additionalProperties"] = (
            False if more is None else _converted(more, method=method, without=without)
        )
        made["required"] = [
            name
            for name, one in node.get("properties", {}).items()
            if method in one.get("annotations", {}).get("required", ())
        ]
    if method is not None and method.endswith(".patch") and without != "null in a patch":
        return {"anyOf": [made, {"type": "null"}]}
    return made


@cache
def _validator(name: str, method: str | None, without: str | None) -> Draft202012Validator:
    defs = {
        key: _converted(node, method=method, without=without)
        for key, node in _document()["schemas"].items()
    }
    moment = _schema_of(defs["EventDateTime"])["properties"]["dateTime"]
    if without != "a time without an offset":
        plain = _schema_of(moment)
        plain.pop("format")
        plain["pattern"] = _MOMENT
    if without != "choices in words":
        for key, choices in _CHOICES.items():
            _schema_of(_schema_of(defs["Event"])["properties"][key])["enum"] = list(choices)
    schema = {"$ref": f"#/$defs/{name}", "$defs": defs}
    return Draft202012Validator(schema, format_checker=FormatChecker())


def _schema_of(made: dict[str, Any]) -> dict[str, Any]:
    """A schema without the null beside it."""
    inner: dict[str, Any] = made["anyOf"][0] if "anyOf" in made else made
    return inner


# -- judging


def errors_of(exchange: Exchange, *, without: str | None = None) -> list[str]:
    """Say what in a request and its answer the document does not allow, in words without a value.

    Args:
        exchange: What was said.
        without: Name of a gap that is to be left open, to see whether it is one.
    """
    where = f"{exchange.method} {exchange.template or 'an unknown path'}"
    if exchange.template == EXCHANGE_TEMPLATE:
        if without == "the token endpoint":
            return []
        return [f"{where}: {error}" for error in _token_errors(exchange)]
    described = method_of(exchange.method, exchange.template or "")
    if described is None:
        return [f"{where}: there is no such endpoint"]
    found = [
        *(f"request, {one}" for one in _request_errors(exchange, described, without)),
        *(
            f"answer {exchange.status}, {one}"
            for one in _answer_errors(exchange, described, without)
        ),
    ]
    return [f"{where}: {one}" for one in found]


def _request_errors(
    exchange: Exchange, described: dict[str, Any], without: str | None
) -> Iterator[str]:
    if "authorization" not in exchange.request_headers:
        yield "no Authorization"
    yield from _query_errors(exchange, described)
    names = {name for name, _ in exchange.query}
    if "syncToken" in names and without != "companions of a sync token":
        yield from (
            f"{name} beside syncToken" for name in sorted(names & _excluded_by_sync_token())
        )
    if "request" not in described:
        if exchange.request_body:
            yield "a body where none is taken"
        return
    if not exchange.content_type.startswith("application/json"):
        yield "no JSON"
        return
    body = _json_of(exchange.request_body)
    if not isinstance(body, dict):
        yield "no JSON"
        return
    name = described["request"]["$ref"]
    yield from _schema_errors(_validator(name, described["id"], without), body)
    if without != "times in words":
        yield from _time_errors(body, is_patch=exchange.method == "PATCH")
    if without != "ids in words" and not _is_id_fit(body):
        yield "id: characters or an iCalUID beside it"


def _query_errors(exchange: Exchange, described: dict[str, Any]) -> Iterator[str]:
    known = _document()["parameters"] | query_parameters(described)
    seen = set()
    for name, value in exchange.query:
        node = known.get(name)
        if node is None:
            yield f"parameter {name}"
            continue
        if name in seen and not node.get("repeated"):
            yield f"parameter {name} twice"
        seen.add(name)
        if not _is_value(node, value):
            yield f"value of parameter {name}"


def _is_value(node: dict[str, Any], value: str) -> bool:
    if "enum" in node:
        return value in node["enum"]
    if node["type"] == "boolean":
        return value in {"true", "false"}
    if node["type"] == "integer":
        low, high = int(node.get("minimum", -_INT32)), int(node.get("maximum", _INT32 - 1))
        return bool(re.fullmatch(r"-?\d{1,10}", value)) and low <= int(value) <= high
    if node.get("format") == "date-time":
        return FormatChecker().conforms(value, "date-time")
    return True


@cache
def _excluded_by_sync_token() -> set[str]:
    described = method_of("GET", "calendars/{calendarId}/events")
    assert described is not None
    told = _EXCLUDED_BY_SYNC_TOKEN.search(described["parameters"]["syncToken"]["description"])
    assert told is not None
    return set(re.findall(r"\w+", told[1]))


def _answer_errors(
    exchange: Exchange, described: dict[str, Any], without: str | None
) -> Iterator[str]:
    if exchange.status is None:
        return
    if exchange.status == 304:
        if exchange.body or "if-none-match" not in exchange.request_headers:
            yield "a body, or nothing was asked"
        return
    if exchange.status >= 400:
        if without != "errors" and not _is_envelope(exchange):
            yield "no envelope"
        return
    if "response" not in described:
        if without == "the answer to a deletion":
            yield "none is declared"
        elif (exchange.status, exchange.body) != (204, b""):
            yield "not 204 without a body"
        return
    body = _json_of(exchange.body)
    is_json = exchange.headers.get("content-type", "").startswith("application/json")
    if exchange.status != 200 or not is_json or not isinstance(body, dict):
        yield "not 200 with JSON"
        return
    name = described["response"]["$ref"]
    yield from _schema_errors(_validator(name, None, without), body)
    if without == "what an answer holds":
        return
    for event in body.get("items", []) if name == "Events" else [body]:
        promised = ("id",) if event.get("status") == "cancelled" else _PROMISED
        yield from (f"{one} is missing" for one in promised if one not in event)
    if name == "Events" and ("nextPageToken" in body) and ("nextSyncToken" in body):
        yield "both tokens"


def _time_errors(body: dict[str, Any], *, is_patch: bool) -> Iterator[str]:
    for name in ("start", "end"):
        given = body.get(name)
        if not isinstance(given, dict):
            continue
        day, moment = given.get("date"), given.get("dateTime")
        if day is not None and moment is not None:
            yield f"{name}: both a day and a moment"
        elif day is None and moment is None and not is_patch:
            yield f"{name}: neither a day nor a moment"
        elif (
            isinstance(moment, str)
            and not FormatChecker().conforms(moment, "date-time")
            and given.get("timeZone") is None
        ):
            yield f"{name}: neither an offset nor a zone"
        if moment is not None and body.get("recurrence") and given.get("timeZone") is None:
            yield f"{name}: a series without a zone"


def _is_id_fit(body: dict[str, Any]) -> bool:
    event_id = body.get("id")
    if event_id is None:
        return True
    is_fit = isinstance(event_id, str) and bool(re.fullmatch(r"[a-v0-9]{5,1024}", event_id))
    return is_fit and body.get("iCalUID") is None


def _schema_errors(validator: Draft202012Validator, body: Any) -> Iterator[str]:
    for error in validator.iter_errors(body):
        for inner in _leaves(error):
            place = ".".join(str(part) for part in inner.absolute_path)
            named = "" if inner.validator != "additionalProperties" else _unknown_in(inner)
            yield f"{place}: {inner.validator}{named}"


def _leaves(error: Any) -> Iterator[Any]:
    """What is really wrong, below the choice between a value and null."""
    if not error.context:
        yield error
    for inner in error.context:
        if inner.validator_value != "null":
            yield from _leaves(inner)


def _unknown_in(error: Any) -> str:
    known = error.schema.get("properties", {})
    return f" {', '.join(sorted(error.instance.keys() - known.keys()))}"


def _is_envelope(exchange: Exchange) -> bool:
    body = _json_of(exchange.body)
    error = body.get("error") if isinstance(body, dict) else None
    if not isinstance(error, dict) or error.get("code") != exchange.status:
        return False
    errors = error.get("errors")
    return (
        isinstance(error.get("message"), str)
        and isinstance(errors, list)
        and bool(errors)
        and all({"domain", "reason", "message"} <= one.keys() for one in errors)
    )


def _token_errors(exchange: Exchange) -> Iterator[str]:
    form = dict(parse_qsl(exchange.request_body.decode("ascii", "replace")))
    if exchange.method != "POST" or exchange.query:
        yield "not a POST without a query"
    if not exchange.content_type.startswith("application/x-www-form-urlencoded"):
        yield "not a form"
    if form.keys() != {"grant_type", "assertion"} or form["grant_type"] != GRANT_TYPE:
        yield "not the grant of RFC 7523"
    elif not re.fullmatch(r"[\w-]+\.[\w-]+\.[\w-]+", form["assertion"]):
        yield "the assertion is no JWT"
    if exchange.status is None:
        return
    body = _json_of(exchange.body)
    if not isinstance(body, dict):
        yield f"answer {exchange.status}, no JSON"
    elif exchange.status == 200:
        if not (isinstance(body.get("access_token"), str) and body.get("token_type") == "Bearer"):
            yield "answer 200, no token"
    elif exchange.status in {400, 401}:
        if body.get("error") not in _TOKEN_ERRORS:
            yield f"answer {exchange.status}, no error that is known"
    elif not _is_envelope(exchange):
        yield f"answer {exchange.status}, no envelope"


def _json_of(content: bytes) -> Any:
    try:
        return json.loads(content)
    except ValueError:
        return None
