"""What Pipedrive takes in the body of a write: fields, their types, custom fields in both forms.

v2 nests custom fields and takes no text for a number; v1 (leads) writes them beside the others.
An error repeats the value that it refuses, as the real one does: a client must not pass it on.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Any, Final
from uuid import UUID

Row = dict[str, Any]

# Extra fields of a person that only a company with contact sync has; 403 for everybody else.
_CONTACT_SYNC: Final = frozenset({"im", "postal_address", "notes", "birthday", "job_title"})
# Taken and dropped without a word where the company has no Campaigns.
_SILENTLY_IGNORED: Final = frozenset({"marketing_status"})

_KEY = re.compile(r"[0-9a-f]{40}")
_KEY_AND_PART = re.compile(r"([0-9a-f]{40})(?:_(currency|until|timezone_id))?")
_MAX_VARCHAR = 255
_ADDRESS_PARTS = frozenset(
    {
        "value",
        "country",
        "admin_area_level_1",
        "admin_area_level_2",
        "locality",
        "sublocality",
        "route",
        "street_number",
        "subpremise",
        "postal_code",
    }
)


class RefusedError(Exception):
    """An answer that is no success."""

    def __init__(self, status: int, error: str, *, code: str | None = None) -> None:
        super().__init__(error)
        self.status, self.error, self.code = status, error, code


@dataclass(kw_only=True)
class CustomField:
    """A field of deals (and leads), persons or organizations."""

    number: int
    code: str
    name: str
    type: str
    is_custom: bool = True
    options: list[Row] = field(default_factory=list)


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_flag(value: Any) -> bool:
    return isinstance(value, bool)


def is_uuid(value: Any) -> bool:
    """Whether a value is a UUID in its usual text."""
    try:
        return isinstance(value, str) and str(UUID(value)) == value.lower()
    except ValueError:
        return False


def _is_date(value: Any) -> bool:
    try:
        return isinstance(value, str) and date.fromisoformat(value).isoformat() == value
    except ValueError:
        return False


def _is_visibility(value: Any) -> bool:
    return _is_int(value) and value in {1, 3, 5, 7}


def _list_of(check: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, list) and all(check(one) for one in value)


def _is_channel(value: Any) -> bool:
    """Whether it is one of a person's telephones or addresses."""
    return (
        isinstance(value, dict)
        and value.keys() <= {"value", "primary", "label"}
        and isinstance(value.get("value"), str)
        and isinstance(value.get("primary", False), bool)
        and isinstance(value.get("label", ""), str)
    )


def _is_money(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and value.keys() == {"amount", "currency"}
        and _is_number(value["amount"])
        and isinstance(value["currency"], str)
    )


def _is_address(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and value.keys() <= _ADDRESS_PARTS
        and isinstance(value.get("value"), str)
    )


def _or_null(check: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: value is None or check(value)


Checks = Mapping[str, Callable[[Any], bool]]

_PERSON: Final[Checks] = {
    "name": _is_text,
    "owner_id": _is_int,
    "org_id": _or_null(_is_int),
    "add_time": _is_text,
    "emails": _list_of(_is_channel),
    "phones": _list_of(_is_channel),
    "visible_to": _is_visibility,
    "label_ids": _list_of(_is_int),
}
_ORGANIZATION: Final[Checks] = {
    "name": _is_text,
    "owner_id": _is_int,
    "add_time": _is_text,
    "visible_to": _is_visibility,
    "label_ids": _list_of(_is_int),
    "address": _or_null(_is_address),
    "website": _or_null(_is_text),
    "linkedin": _or_null(_is_text),
    "industry": _or_null(_is_int),
    "annual_revenue": _or_null(_is_int),
    "employee_count": _or_null(_is_int),
}
_DEAL: Final[Checks] = {
    "title": _is_text,
    "owner_id": _is_int,
    "person_id": _or_null(_is_int),
    "org_id": _or_null(_is_int),
    "pipeline_id": _is_int,
    "stage_id": _is_int,
    "value": _or_null(_is_number),
    "currency": _is_text,
    "status": lambda value: value in {"open", "won", "lost"},
    "is_archived": _is_flag,
    "probability": _or_null(_is_number),
    "lost_reason": _or_null(_is_text),
    "visible_to": _is_visibility,
    "expected_close_date": _or_null(_is_date),
    "label_ids": _list_of(_is_int),
}
_LEAD: Final[Checks] = {
    "title": _is_text,
    "owner_id": _is_int,
    "label_ids": _list_of(is_uuid),
    "person_id": _or_null(_is_int),
    "organization_id": _or_null(_is_int),
    "value": _or_null(_is_money),
    "expected_close_date": _or_null(_is_date),
    "visible_to": lambda value: value in {"1", "3", "5", "7"},
    "was_seen": _is_flag,
    "channel": _or_null(_is_int),
    "channel_id": _or_null(_is_text),
}
_OF_KIND: Final[Mapping[str, tuple[Checks, str]]] = {
    "person": (_PERSON, "name"),
    "organization": (_ORGANIZATION, "name"),
    "deal": (_DEAL, "title"),
    "lead": (_LEAD, "title"),
}


def read_body(kind: str, body: Any, fields: Mapping[str, CustomField], *, is_create: bool) -> Row:
    """Read the body of a create or change into values for the account.

    Args:
        kind: person, organization, deal or lead.
        body: What was sent, parsed.
        fields: The custom fields that the kind has.
        is_create: Whether it is a POST; what a PATCH leaves out stays.

    Returns:
        Values by field; custom ones under `custom_fields` as v2 writes them.

    Raises:
        RefusedError: Pipedrive would not take it.
    """
    if not isinstance(body, dict):
        raise RefusedError(400, "Request body is not a JSON object")
    checks, name = _OF_KIND[kind]
    if kind == "lead":
        extra: Checks = (
            {"origin_id": _or_null(_is_text)} if is_create else {"is_archived": _is_flag}
        )
        checks = {**checks, **extra}
    values: Row = {}
    flat: Row = {}
    for key, value in body.items():
        if kind == "person" and key in _CONTACT_SYNC:
            raise RefusedError(403, f"{key} needs contact sync", code="feature_not_enabled")
        if kind == "person" and key in _SILENTLY_IGNORED:
            continue
        if key == "custom_fields" and kind != "lead":
            values[key] = _read_nested(value, fields)
        elif kind == "lead" and _KEY_AND_PART.fullmatch(key):
            flat[key] = value
        elif key not in checks:
            raise _invalid(key, "is not allowed")
        elif not checks[key](value):
            raise _invalid(key, f"{value!r} is not valid")
        else:
            values[key] = value
    if flat:
        values["custom_fields"] = _read_flat(flat, fields)
    if (is_create or name in values) and not str(values.get(name, "")).strip():
        raise _invalid(name, "is required")
    return values


def _invalid(key: str, why: str) -> RefusedError:
    text = f"Validation failed: {key}: {why}"
    return RefusedError(400, text, code="ERR_SCHEMA_VALIDATION_FAILED")


def _read_nested(given: Any, fields: Mapping[str, CustomField]) -> Row:
    if not isinstance(given, dict):
        raise _invalid("custom_fields", "is not an object")
    return {key: _check_custom(key, value, fields) for key, value in given.items()}


def _read_flat(given: Row, fields: Mapping[str, CustomField]) -> Row:
    """Turn v1's keys into v2's values: money, choices and lists are written otherwise there."""
    values: Row = {}
    for key, value in given.items():
        if not _KEY.fullmatch(key):
            continue
        known = _known(key, fields)
        nested = value
        if value is not None and known.type == "monetary":
            nested = {"value": value, "currency": given.get(f"{key}_currency")}
        elif known.type == "enum" and isinstance(value, str) and value.isdecimal():
            nested = int(value)
        elif known.type == "set" and isinstance(value, str):
            nested = [int(part) for part in value.split(",") if part.isdecimal()]
        values[key] = _check_custom(key, nested, fields)
    return values


def _known(key: str, fields: Mapping[str, CustomField]) -> CustomField:
    known = fields.get(key)
    if known is None or not known.is_custom:
        raise _invalid(key, "is not allowed")
    return known


def _check_custom(key: str, value: Any, fields: Mapping[str, CustomField]) -> Any:
    known = _known(key, fields)
    if value is None:
        return None
    options = {option["id"] for option in known.options}
    is_right = {
        "varchar": lambda: _is_text(value) and len(value) <= _MAX_VARCHAR,
        "varchar_auto": lambda: _is_text(value) and len(value) <= _MAX_VARCHAR,
        "text": lambda: _is_text(value),
        "phone": lambda: _is_text(value),
        "double": lambda: _is_number(value),
        "date": lambda: _is_date(value),
        "enum": lambda: _is_int(value) and value in options,
        # To clear a list takes null; an empty one is an error.
        "set": lambda: isinstance(value, list) and bool(value) and set(value) <= options,
        "monetary": lambda: (
            isinstance(value, dict)
            and value.keys() == {"value", "currency"}
            and _is_number(value["value"])
            and _is_text(value["currency"])
        ),
    }.get(known.type, lambda: True)()
    if not is_right:
        raise _invalid(key, f"{value!r} is not valid")
    return value


def flat_custom_fields(custom: Mapping[str, Any], fields: Mapping[str, CustomField]) -> Row:
    """Write custom fields as v1 does, beside the others; what is unset is left out."""
    flat: Row = {}
    for key, value in custom.items():
        known = fields.get(key)
        if known is None or value is None:
            continue
        if known.type == "monetary":
            flat |= {key: value["value"], f"{key}_currency": value["currency"]}
        elif known.type == "enum":
            flat[key] = str(value)
        elif known.type == "set":
            flat[key] = ",".join(str(one) for one in value)
        else:
            flat[key] = value
    return flat
