"""The official OpenAPI files of Pipedrive as a judge of requests and answers.

Read from ../shared beside the checkout; nothing of them is in this project. Where they are known to
be wrong stands in `DEFECTS`, each with its reason. What is judged belongs to the tests.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from openapi_core import Config, OpenAPI
from openapi_core.exceptions import OpenAPIError
from openapi_core.templating.responses.exceptions import ResponseNotFound
from openapi_core.testing import MockRequest, MockResponse

from gatte_pipelines.sandbox.pipedrive import Exchange

CONTRACTS = Path(__file__).resolve().parents[2] / "shared" / "contracts"
ARE_MISSING = not (CONTRACTS / "pipedrive-v2.yaml").is_file()
WHY_MISSING = "the official specs of ../shared are not beside this checkout"

_HOST = "https://api.pipedrive.com"
# Prefixes of paths by version: as the project calls them, and as the specs' servers name them.
_PREFIXES = {"v1": ("/api/v1", "/v1"), "v2": ("/api/v2", "/api/v2")}
_CUSTOM_KEY = re.compile(r"[0-9a-f]{40}(_(currency|until|timezone_id))?")
# Parts of the specs that nobody here calls: without them a judge is ready in half the time.
_TAKEN = re.compile(
    r"/(leads|leadLabels|leadFields|notes|users/me|persons|organizations|deals|itemSearch/field"
    r"|(deal|person|organization)Fields|pipelines|stages)(/|$)"
)


@dataclass(frozen=True, kw_only=True)
class Defect:
    """Where a spec is wrong, and what is read in its place.

    Attributes:
        version: v1 or v2.
        paths: Templates of the paths it concerns.
        names: Properties of answers that may be null, or query parameters that are wrong.
        reason: How it is known.
        pattern: For a parameter: what it may be in place of one of an enumeration.
        is_text: For a property: it has not the format that is said, rather than may be null.
    """

    version: str
    paths: re.Pattern[str]
    names: tuple[str, ...]
    reason: str
    pattern: str = ""
    is_text: bool = False


def _words(*words: str) -> str:
    one = f"({'|'.join(words)})"
    return f"^{one}(,{one})*$"


_LEAD_SORTS = _words(
    *(
        f"{name}( (ASC|DESC))?"
        for name in (
            "id",
            "title",
            "owner_id",
            "creator_id",
            "was_seen",
            "expected_close_date",
            "next_activity_id",
            "add_time",
            "update_time",
        )
    )
)

DEFECTS = (
    Defect(
        version="v2",
        paths=re.compile(r"/(persons|organizations|deals|leads|itemSearch|pipelines|stages).*"),
        names=("next_cursor",),
        reason="the vendor's text: null on the last page; only /dealFields and its like say so",
    ),
    Defect(
        version="v2",
        paths=re.compile(r"/persons(/\{id\})?"),
        names=("org_id", "last_name", "picture_id"),
        reason="a person need not have an organization, a second name or a picture",
    ),
    Defect(
        version="v2",
        paths=re.compile(r"/organizations(/\{id\})?"),
        names=("address",),
        reason="an organization need not have an address; v1 answered null",
    ),
    Defect(
        version="v2",
        paths=re.compile(r"/deals(/archived|/\{id\})?"),
        names=(
            "person_id",
            "org_id",
            "stage_change_time",
            "won_time",
            "lost_time",
            "expected_close_date",
            "archive_time",
        ),
        reason="an open deal was neither won nor lost, and may belong to nobody",
    ),
    Defect(
        version="v2",
        paths=re.compile(r"/(persons|organizations|leads)/search"),
        names=("organization", "person", "address"),
        reason="an item need not have one; the sample body itself has an address of null",
    ),
    Defect(
        version="v1",
        paths=re.compile(r"/notes(/\{id\})?"),
        names=(
            "deal",
            "lead_id",
            "deal_id",
            "last_update_user_id",
            "org_id",
            "organization",
            "person",
            "person_id",
            "icon_url",
        ),
        reason="a note belongs to one of them",
    ),
    Defect(
        version="v1",
        paths=re.compile(r"/leadFields"),
        names=("add_time", "update_time"),
        reason="the sample body of the spec has a space and no zone, as the rest of v1",
        is_text=True,
    ),
    Defect(
        version="v2",
        paths=re.compile(r"/deals(/archived)?"),
        names=("status",),
        reason="the text of the parameter: several may be given, between commas",
        pattern=_words("open", "won", "lost", "deleted"),
    ),
    Defect(
        version="v2",
        paths=re.compile(r"/persons/search"),
        names=("fields",),
        reason="the text of the parameter: several may be given, between commas",
        pattern=_words("custom_fields", "email", "notes", "phone", "name"),
    ),
    Defect(
        version="v2",
        paths=re.compile(r"/organizations/search"),
        names=("fields",),
        reason="the text of the parameter: several may be given, between commas",
        pattern=_words("address", "custom_fields", "notes", "name"),
    ),
    Defect(
        version="v1",
        paths=re.compile(r"/leads(/archived)?"),
        names=("sort",),
        reason="the text of the parameter: a direction may follow, `update_time DESC`",
        pattern=_LEAD_SORTS,
    ),
)


@cache
def _loaded(version: str) -> dict[str, Any]:
    text = (CONTRACTS / f"pipedrive-{version}.yaml").read_bytes()
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    spec: dict[str, Any] = yaml.load(text, loader)  # noqa: S506 - a safe loader, written in C
    spec["paths"] = {path: node for path, node in spec["paths"].items() if _TAKEN.match(path)}
    return spec


@cache
def spec_of(version: str, *, without: int | None = None) -> dict[str, Any]:
    """A spec with the known defects mended, all but one if asked."""
    spec: dict[str, Any] = json.loads(json.dumps(_loaded(version), default=str))
    for node in spec["paths"].values():
        for operation in node.values():
            if isinstance(operation, dict) and "responses" in operation:
                # The judge knows no OAuth, and would let pass whoever brings no token at all.
                operation["security"] = [{"api_key": []}]
    for number, defect in enumerate(DEFECTS):
        if defect.version == version and number != without:
            for path, node in spec["paths"].items():
                if defect.paths.fullmatch(path):
                    _mend(node, defect)
    return spec


def _mend(node: dict[str, Any], defect: Defect) -> None:
    for operation in node.values():
        if not isinstance(operation, dict):
            continue
        if not defect.pattern:
            for schema in _properties(operation.get("responses"), defect.names):
                schema["nullable"] = True
                if defect.is_text:
                    schema.pop("format", None)
            continue
        for parameter in operation.get("parameters", ()):
            if parameter["name"] in defect.names and parameter["in"] == "query":
                parameter["schema"] = {"type": "string", "pattern": defect.pattern}


def _properties(node: Any, names: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    if isinstance(node, list):
        for one in node:
            yield from _properties(one, names)
    elif isinstance(node, dict):
        for name, schema in node.get("properties", {}).items():
            if name in names and isinstance(schema, dict):
                yield schema
        for one in node.values():
            yield from _properties(one, names)


@cache
def _judge(version: str, without: int | None = None) -> OpenAPI:
    # The specs are not judged themselves: that takes longer than all the rest.
    return OpenAPI.from_dict(
        spec_of(version, without=without),  # type: ignore[arg-type]
        config=Config(spec_validator_cls=None),  # type: ignore[arg-type]
    )


def operation_of(method: str, template: str) -> dict[str, Any] | None:
    """What the specs say of an endpoint, a template as the project calls it."""
    version, path = _split(template)
    node = spec_of(version)["paths"].get(path, {})
    found: dict[str, Any] | None = node.get(method.lower())
    return found


def _split(path: str) -> tuple[str, str]:
    version = "v1" if path.startswith(_PREFIXES["v1"][0] + "/") else "v2"
    return version, path.removeprefix(_PREFIXES[version][0])


def errors_of(exchange: Exchange, *, without: int | None = None) -> list[str]:
    """Say what in a request and its answer the specs do not allow, in words without a value.

    Beyond the specs a request is held to what they leave open: only parameters and fields of a body
    that they name, and a lead with a person or an organization.
    """
    version, path = _split(exchange.path)
    request = MockRequest(
        _HOST,
        exchange.method,
        _PREFIXES[version][1] + path,
        args=dict(exchange.query),
        headers=dict.fromkeys(exchange.request_headers, "x"),
        data=exchange.request_body,
        content_type=exchange.content_type,
    )
    where = f"{exchange.method} {exchange.template or exchange.path}"
    errors = [f"{where}: parameter {name}" for name in exchange.unknown_parameters]
    errors += [f"{where}: body has {name}" for name in _unknown_fields(exchange)]
    judge = _judge(version, without)
    try:
        judge.validate_request(request)
    except OpenAPIError as error:
        errors.append(f"{where}: request, {_words_of(error)}")
    if exchange.status is None:
        return errors
    response = MockResponse(
        exchange.body,
        exchange.status,
        headers=dict(exchange.headers),
        content_type=exchange.headers.get("content-type", ""),
    )
    try:
        judge.validate_response(request, response)
    except ResponseNotFound:
        # The specs declare no failure but a few: the vendor's text tells of the envelope.
        if not _is_envelope(exchange.body):
            errors.append(f"{where}: answer {exchange.status} is in no envelope")
    except OpenAPIError as error:
        errors.append(f"{where}: answer {exchange.status}, {_words_of(error)}")
    return errors


def _is_envelope(content: bytes) -> bool:
    try:
        body = json.loads(content)
    except ValueError:
        return False
    return (
        isinstance(body, dict)
        and body.get("success") is False
        and isinstance(body.get("error"), str)
    )


def _unknown_fields(exchange: Exchange) -> list[str]:
    if not exchange.request_body or exchange.template is None:
        return []
    operation = operation_of(exchange.method, exchange.template)
    body = json.loads(exchange.request_body)
    if operation is None or "requestBody" not in operation:
        return ["what no body may have"]
    schema = operation["requestBody"]["content"]["application/json"]["schema"]
    known = set(_names(schema))
    is_lead = exchange.template.startswith("/api/v1/leads")
    unknown = [
        name for name in body if name not in known and not (is_lead and _CUSTOM_KEY.fullmatch(name))
    ]
    if exchange.template == "/api/v1/leads" and not body.keys() & {"person_id", "organization_id"}:
        unknown.append("neither person_id nor organization_id")
    return unknown


def _names(schema: dict[str, Any]) -> Iterator[str]:
    yield from schema.get("properties", ())
    for part in schema.get("allOf", ()):
        yield from _names(part)


def _words_of(error: BaseException) -> str:
    """The kind of an error and where it lies; what it says of values stays out."""
    inner = getattr(error, "schema_errors", None) or getattr(error.__cause__, "schema_errors", ())
    places = [
        f"{'.'.join(str(part) for part in one.absolute_path)}: {one.validator}" for one in inner
    ]
    return f"{type(error).__name__} {'; '.join(places)}".rstrip()


def missing_fields_of(exchange: Exchange) -> set[str]:
    """Fields of `data` that the spec of a success names and the answer leaves out."""
    operation = operation_of(exchange.method, exchange.template or "")
    if operation is None or exchange.status not in {200, 201}:
        return set()
    schema = operation["responses"][str(exchange.status)]["content"]["application/json"]["schema"]
    data = json.loads(exchange.body).get("data")
    rows = data if isinstance(data, list) else [data]
    named = set(_row_fields(schema))
    return {name for row in rows if isinstance(row, dict) for name in named - row.keys()}


def _row_fields(schema: dict[str, Any]) -> Iterator[str]:
    for part in [schema, *schema.get("allOf", ())]:
        row = part.get("properties", {}).get("data", {})
        for one in [row.get("items", row), *row.get("items", row).get("allOf", ())]:
            yield from _names(one)
