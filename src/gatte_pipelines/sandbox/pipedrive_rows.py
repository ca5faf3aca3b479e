"""How rows of the stand-in for Pipedrive look: kinds, new rows, times, events. No state here."""

from __future__ import annotations

import copy
import secrets
from collections.abc import Mapping
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final
from uuid import uuid4

from gatte_pipelines.sandbox.pipedrive_bodies import CustomField, Row

API_USER = 1
SALESPERSON = 2
COMPANY_ID = 7_000_001
COMPANY_DOMAIN = "gatte-sandbox"


class Kind(StrEnum):
    """The kinds of rows, as Pipedrive's events and searches name them."""

    LEAD = "lead"
    PERSON = "person"
    ORGANIZATION = "organization"
    DEAL = "deal"
    NOTE = "note"


class Source(StrEnum):
    """Who changed a row, as Pipedrive's events say it."""

    API = "api"
    APP = "app"


# Numbers of one kind are never those of another, so that a client that mixes them up is found out.
FIRST_ID: Final[Mapping[Kind, int]] = {
    Kind.PERSON: 1001,
    Kind.ORGANIZATION: 200_001,
    Kind.DEAL: 300_001,
    Kind.NOTE: 400_001,
}
ORGANIZATION_FIELDS: Final[Mapping[Kind, str]] = {
    Kind.PERSON: "org_id",
    Kind.DEAL: "org_id",
    Kind.NOTE: "org_id",
    Kind.LEAD: "organization_id",
}
NOTE_FIELDS: Final[Mapping[Kind, str]] = {
    Kind.LEAD: "lead_id",
    Kind.DEAL: "deal_id",
    Kind.PERSON: "person_id",
    Kind.ORGANIZATION: "org_id",
}
BUILT_IN_FIELDS: Final[Mapping[Kind, tuple[tuple[str, str, str], ...]]] = {
    Kind.DEAL: (
        ("title", "Title", "varchar"),
        ("value", "Value", "monetary"),
        ("stage_id", "Stage", "stage"),
        ("status", "Status", "status"),
        ("person_id", "Contact person", "people"),
        ("org_id", "Organization", "org"),
        ("label_ids", "Label", "set"),
        ("expected_close_date", "Expected close date", "date"),
    ),
    Kind.PERSON: (
        ("name", "Name", "varchar"),
        ("phones", "Phone", "phone"),
        ("emails", "Email", "varchar"),
        ("org_id", "Organization", "org"),
    ),
    Kind.ORGANIZATION: (("name", "Name", "varchar"), ("address", "Address", "address")),
}
"""Code, name and type of a few of the fields that nobody has to create."""

CREATED_FIELD_TYPES: Final = frozenset(
    {
        "varchar",
        "text",
        "double",
        "phone",
        "date",
        "daterange",
        "time",
        "timerange",
        "set",
        "enum",
        "varchar_auto",
        "address",
        "monetary",
        "org",
        "people",
        "user",
    }
)
"""Types that a custom field may be created with."""


def new_row(kind: Kind, row_id: int | str, source: Source, at: datetime) -> Row:
    """A row in which nothing is filled yet but what Pipedrive fills itself."""
    user = API_USER if source is Source.API else SALESPERSON
    origin = "API" if source is Source.API else "ManuallyCreated"
    times: Row = {"add_time": at, "update_time": at}
    if kind is Kind.PERSON:
        return {
            "id": row_id,
            "name": None,
            "first_name": None,
            "last_name": None,
            "owner_id": user,
            "org_id": None,
            **times,
            "emails": [],
            "phones": [],
            "is_deleted": False,
            "visible_to": 3,
            "label_ids": [],
            "picture_id": None,
            "custom_fields": {},
        }
    if kind is Kind.ORGANIZATION:
        return {
            "id": row_id,
            "name": None,
            "owner_id": user,
            **times,
            "address": None,
            "is_deleted": False,
            "visible_to": 3,
            "label_ids": [],
            "website": None,
            "linkedin": None,
            "industry": None,
            "annual_revenue": None,
            "employee_count": None,
            "custom_fields": {},
        }
    if kind is Kind.DEAL:
        return {
            "id": row_id,
            "title": None,
            "creator_user_id": user,
            "owner_id": user,
            "value": 0,
            "person_id": None,
            "org_id": None,
            "stage_id": None,
            "pipeline_id": None,
            "currency": "BRL",
            "archive_time": None,
            **times,
            "stage_change_time": None,
            "status": "open",
            "is_archived": False,
            "is_deleted": False,
            "probability": None,
            "lost_reason": None,
            "visible_to": 3,
            "close_time": None,
            "won_time": None,
            "lost_time": None,
            "expected_close_date": None,
            "label_ids": [],
            "origin": origin,
            "origin_id": None,
            "channel": None,
            "channel_id": None,
            "source_lead_id": None,
            "arr": None,
            "mrr": None,
            "acv": None,
            "custom_fields": {},
        }
    if kind is Kind.NOTE:
        return {
            "id": row_id,
            "active_flag": True,
            **times,
            "content": None,
            **dict.fromkeys(NOTE_FIELDS.values()),
            "user_id": user,
            "last_update_user_id": None,
        }
    return {
        "id": row_id,
        "title": None,
        "owner_id": user,
        "creator_id": user,
        "label_ids": [],
        "person_id": None,
        "organization_id": None,
        "source_name": "API" if source is Source.API else "Manually created",
        "origin": origin,
        "origin_id": None,
        "channel": None,
        "channel_id": None,
        "source_deal_id": None,
        "is_archived": False,
        "was_seen": False,
        "value": None,
        "expected_close_date": None,
        "next_activity_id": None,
        **times,
        "visible_to": "3",
        "cc_email": f"{COMPANY_DOMAIN}+lead{secrets.token_hex(6)}@pipedrivemail.example.com",
        "custom_fields": {},
    }


def complete_person(row: Row) -> None:
    """Fill what follows from the rest of a person: parts of the name, one primary channel."""
    first, _, last = str(row["name"]).partition(" ")
    row |= {"first_name": first, "last_name": last or None}
    for channel in ("phones", "emails"):
        wanted = [at for at, one in enumerate(row[channel]) if one.get("primary")]
        primary = wanted[0] if wanted else 0
        row[channel] = [
            {"value": one["value"], "primary": at == primary, "label": one.get("label", "work")}
            for at, one in enumerate(row[channel])
        ]


def seconds(at: datetime) -> str:
    """RFC 3339 in whole seconds, as v2 writes an instant."""
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def milliseconds(at: datetime) -> str:
    """RFC 3339 with milliseconds, as leads and their labels write an instant."""
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def spaced(at: datetime) -> str:
    """An instant as the rest of v1 writes it: UTC, and no zone named."""
    return at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")


def event_of(
    action: str,
    kind: Kind,
    source: Source,
    at: datetime,
    *,
    row: Row | None,
    previous: Row | None,
    fields: Mapping[str, CustomField],
    meta: Mapping[str, str],
) -> Row:
    """A change as a webhook of version 2.0 tells it: ids are texts, a deletion has no data."""
    about = row if row is not None else previous
    if about is None:
        raise ValueError("an event is about a row")
    if action == "change" and row is not None and previous is not None:
        previous = {key: old for key, old in previous.items() if old != row.get(key)}
    return {
        "meta": {
            "action": action,
            "entity": str(kind),
            "company_id": str(COMPANY_ID),
            "correlation_id": str(uuid4()),
            "entity_id": str(about["id"]),
            "id": str(uuid4()),
            "is_bulk_edit": False,
            "timestamp": milliseconds(at),
            "type": "general",
            "user_id": str(API_USER if source is Source.API else SALESPERSON),
            "version": "2.0",
            "webhook_id": "1",
            "webhook_owner_id": str(API_USER),
            "change_source": str(source),
            "attempt": 1,
            "host": f"{COMPANY_DOMAIN}.pipedrive.com",
            "permitted_user_ids": [str(API_USER), str(SALESPERSON)],
            **meta,
        },
        "data": _in_event(row, fields),
        "previous": _in_event(previous, fields),
    }


def _in_event(row: Row | None, fields: Mapping[str, CustomField]) -> Row | None:
    """A row as events hold it: custom fields name their type, `visible_to` is a text."""
    if row is None:
        return None
    told: Row = {
        key: seconds(value) if isinstance(value, datetime) else value for key, value in row.items()
    }
    if "visible_to" in told:
        told["visible_to"] = str(told["visible_to"])
    if "custom_fields" in told:
        told["custom_fields"] = {
            key: _wrapped(fields[key].type, value)
            for key, value in told["custom_fields"].items()
            if key in fields
        }
    return copy.deepcopy(told)


def _wrapped(field_type: str, value: Any) -> Row | None:
    return None if value is None else {"type": field_type, "value": value}


def field_v1(one: CustomField, at: datetime) -> Row:
    """A field as v1 tells it."""
    return {
        "id": one.number,
        "key": one.code,
        "name": one.name,
        "order_nr": one.number,
        "field_type": one.type,
        "add_time": spaced(at),
        "update_time": spaced(at),
        "last_updated_by_user_id": None,
        "created_by_user_id": None,
        "active_flag": True,
        "edit_flag": one.is_custom,
        "index_visible_flag": True,
        "details_visible_flag": True,
        "add_visible_flag": False,
        "important_flag": False,
        "bulk_edit_allowed": True,
        "searchable_flag": False,
        "filtering_allowed": True,
        "sortable_flag": True,
        "mandatory_flag": False,
        "options": one.options or None,
    }


def field_v2(one: CustomField) -> Row:
    """A field as v2 tells it."""
    return {
        "field_name": one.name,
        "field_code": one.code,
        "description": "",
        "field_type": one.type,
        "options": one.options or None,
        "subfields": None,
        "is_custom_field": one.is_custom,
        "is_optional_response_field": False,
    }


def me() -> Row:
    """The user whose token it is."""
    return {
        "id": API_USER,
        "name": "API",
        "default_currency": "BRL",
        "locale": "pt_BR",
        "lang": 16,
        "email": "api@example.com",
        "phone": None,
        "activated": True,
        "last_login": "2026-01-05 12:00:00",
        "created": "2026-01-05 12:00:00",
        "modified": "2026-01-05 12:00:00",
        "has_created_company": False,
        "access": [{"app": "sales", "admin": False, "permission_set_id": "sandbox"}],
        "active_flag": True,
        "timezone_name": "America/Sao_Paulo",
        "timezone_offset": "-03:00",
        "role_id": 1,
        "icon_url": None,
        "is_you": True,
        "is_deleted": False,
        "company_id": COMPANY_ID,
        "company_name": "GATTE sandbox",
        "company_domain": COMPANY_DOMAIN,
        "company_country": "BR",
        "company_industry": "IT Services",
        "language": {"language_code": "pt", "country_code": "BR"},
    }
