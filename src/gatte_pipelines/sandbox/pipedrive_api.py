"""The endpoints of the stand-in for Pipedrive: a request in, a status and a body out.

What they cost and which parameters they know stands in one table, `ROUTES`, as in the official
specs. Sockets, tokens and faults belong to `pipedrive`, rows to `pipedrive_account`.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from gatte_pipelines.sandbox.pipedrive_account import Account, Conversion
from gatte_pipelines.sandbox.pipedrive_bodies import (
    CustomField,
    RefusedError,
    Row,
    flat_custom_fields,
    is_uuid,
    read_body,
)
from gatte_pipelines.sandbox.pipedrive_rows import (
    API_USER,
    COMPANY_DOMAIN,
    COMPANY_ID,
    NOTE_FIELDS,
    Kind,
    Source,
    milliseconds,
    seconds,
    spaced,
)

_DEFAULT_LIMIT = 100
_MAX_LIMIT = 500
# The specs say 500 for scoped searches too; a field report saw more than 100 refused.
_MAX_SEARCH_LIMIT = 100
_MAX_IDS = 100
_MAX_CUSTOM_KEYS = 15
_MAX_NOTE = 100_000

# Parameters of the specs that this stand-in does not serve: refused, so that nobody believes in an
# answer that left them out.
_NOT_SERVED: Final = frozenset({"filter_id", "deal_id", "include_option_labels", "include_labels"})
_SEARCH_GROUPS: Final[Mapping[Kind, tuple[str, ...]]] = {
    Kind.PERSON: ("custom_fields", "email", "notes", "phone", "name"),
    Kind.ORGANIZATION: ("address", "custom_fields", "notes", "name"),
    Kind.LEAD: ("custom_fields", "notes", "title"),
    Kind.DEAL: ("custom_fields", "notes", "title"),
}


@dataclass(frozen=True, kw_only=True)
class Request:
    """A request as an endpoint sees it."""

    ids: Mapping[str, str] = field(repr=False)
    query: Mapping[str, str] = field(repr=False)
    body: Any = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class Reply:
    """A status and the body as JSON."""

    status: int
    body: Row = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class Route:
    """An endpoint: what it costs, which query parameters it knows, and who answers."""

    method: str
    template: str
    cost: int
    answer: Callable[[PipedriveApi, Request], Reply]
    parameters: frozenset[str] = frozenset()

    @property
    def pattern(self) -> re.Pattern[str]:
        """The path as a pattern, with a group for each id in it."""
        return re.compile(re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", self.template))

    @property
    def is_search(self) -> bool:
        """Whether the tighter burst limit of searches holds."""
        return "earch" in self.template


class PipedriveApi:
    """Answers requests from an account.

    Attributes:
        has_nested_pagination: Whether pages of leads say where they end under
            `additional_data.pagination`, as the vendor's text does; else beside it, as the spec.
        has_stuck_pages: Whether every page points to itself: what no client may follow for ever.
    """

    def __init__(self, account: Account) -> None:
        self.account = account
        self.has_nested_pagination = True
        self.has_stuck_pages = False

    def find_route(self, method: str, path: str) -> tuple[Route, dict[str, str]]:
        """The endpoint of a path.

        Raises:
            RefusedError: There is none.
        """
        others = False
        for pattern, route in _COMPILED:
            match = pattern.fullmatch(path)
            if match is None:
                continue
            if route.method == method:
                return route, match.groupdict()
            others = True
        raise RefusedError(405 if others else 404, "Unknown method ." if not others else "Method")

    # -- leads, v1

    def list_leads(self, request: Request) -> Reply:
        """Leads that are not archived."""
        return self._page_of_leads(request, is_archived=False)

    def list_archived_leads(self, request: Request) -> Reply:
        """Leads that are; there is no `updated_since` here."""
        return self._page_of_leads(request, is_archived=True)

    def _page_of_leads(self, request: Request, *, is_archived: bool) -> Reply:
        query = _Query(request.query)
        since = None if is_archived else query.instant("updated_since")
        wanted = {
            name: number
            for name in ("owner_id", "person_id", "organization_id")
            if (number := query.number(name)) is not None
        }
        self.account.settle()
        rows = [
            row
            for row in self.account.rows[Kind.LEAD].values()
            if row["is_archived"] is is_archived
            and all(row[name] == number for name, number in wanted.items())
            and (since is None or row["update_time"] >= since)
        ]
        rows.sort(key=lambda row: (row["add_time"], row["id"]))
        query.sort_v1(rows, _LEAD_SORTS)
        return self._offset_page(query, [self._lead(row) for row in query.cut(rows)], len(rows))

    def get_lead(self, request: Request) -> Reply:
        """One lead, archived ones too."""
        return _data(self._lead(self._lead_row(request)))

    def add_lead(self, request: Request) -> Reply:
        """A new lead."""
        fields = self.account.fields_of(Kind.LEAD)
        values = read_body("lead", request.body, fields, is_create=True)
        return _data(self._lead(self.account.create(Kind.LEAD, values, Source.API)), 201)

    def change_lead(self, request: Request) -> Reply:
        """Change a lead, or archive it."""
        row = self._lead_row(request)
        fields = self.account.fields_of(Kind.LEAD)
        values = read_body("lead", request.body, fields, is_create=False)
        return _data(self._lead(self.account.change(Kind.LEAD, row["id"], values, Source.API)))

    def delete_lead(self, request: Request) -> Reply:
        """Delete a lead, an archived one too."""
        row = self._lead_row(request)
        self.account.delete(Kind.LEAD, row["id"], Source.API)
        return _data({"id": row["id"]})

    def _lead_row(self, request: Request) -> Row:
        lead_id = request.ids["id"]
        if not is_uuid(lead_id):
            raise RefusedError(400, f"{lead_id} is not a valid lead id")
        found = self.account.find(Kind.LEAD, lead_id.lower())
        if found is None:
            raise RefusedError(404, "requested lead not found")
        return found

    def _lead(self, row: Row) -> Row:
        fields = self.account.fields_of(Kind.LEAD)
        custom = flat_custom_fields(row["custom_fields"], fields)
        plain = {key: value for key, value in row.items() if key != "custom_fields"}
        return {**_timed(plain, milliseconds), **custom}

    def list_lead_labels(self, _request: Request) -> Reply:
        """Labels of leads, all at once."""
        return _data([_timed(row, milliseconds) for row in self.account.labels.values()])

    def list_lead_fields(self, request: Request) -> Reply:
        """Fields of leads, which are those of deals, as v1 writes fields."""
        query = _Query(request.query)
        rows = [
            _field_v1(one, self.account.now()) for one in self.account.fields_of(Kind.LEAD).values()
        ]
        return self._offset_page(query, query.cut(rows), len(rows))

    # -- notes and the user, v1

    def list_notes(self, request: Request) -> Reply:
        """Notes, of one lead, deal, person or organization if asked."""
        query = _Query(request.query)
        wanted: Row = {
            name: query.number(name)
            for name in ("deal_id", "person_id", "org_id", "user_id")
            if name in request.query
        }
        if "lead_id" in request.query:
            wanted["lead_id"] = request.query["lead_id"]
        since = query.instant("updated_since")
        rows = [
            row
            for row in self.account.rows[Kind.NOTE].values()
            if all(row[name] == value for name, value in wanted.items())
            and (since is None or row["update_time"] >= since)
        ]
        query.sort_v1(rows, _NOTE_SORTS)
        return self._offset_page(query, [self._note(row) for row in query.cut(rows)], len(rows))

    def get_note(self, request: Request) -> Reply:
        """One note."""
        return _data(self._note(self.account.row(Kind.NOTE, _id(request))))

    def add_note(self, request: Request) -> Reply:
        """A new note, on a lead, deal, person or organization."""
        body = request.body
        if not isinstance(body, dict) or not isinstance(body.get("content"), str):
            raise RefusedError(400, "content is required")
        if not body["content"].strip() or len(body["content"]) > _MAX_NOTE:
            raise RefusedError(400, "content is empty or too long")
        values: Row = {"content": body["content"]}
        for kind, name in NOTE_FIELDS.items():
            owner = body.get(name)
            if owner is None:
                continue
            is_id = is_uuid(owner) if kind is Kind.LEAD else isinstance(owner, int)
            found = self.account.find(kind, owner) if is_id else None
            if found is None or found.get("is_deleted"):
                raise RefusedError(400, f"{name} {owner} not found")
            values[name] = owner
        if len(values) == 1:
            raise RefusedError(400, "A note needs a deal, lead, person or organization")
        return _data(self._note(self.account.create(Kind.NOTE, values, Source.API)))

    def delete_note(self, request: Request) -> Reply:
        """Delete a note."""
        self.account.delete(Kind.NOTE, _id(request), Source.API)
        return _data(True)

    def _note(self, row: Row) -> Row:
        named: Row = {}
        for kind, key, name in (
            (Kind.DEAL, "deal", "title"),
            (Kind.PERSON, "person", "name"),
            (Kind.ORGANIZATION, "organization", "name"),
        ):
            about = self.account.rows[kind].get(row[NOTE_FIELDS[kind]])
            named[key] = {name: about[name]} if about else None
        plain = {key: value for key, value in row.items() if key != "custom_fields"}
        pinned = {
            f"pinned_to_{name}_flag": False
            for name in ("lead", "deal", "organization", "person", "project", "task")
        }
        user = {"email": "api@example.com", "icon_url": None, "is_you": True, "name": "API"}
        return {**_timed(plain, spaced), **named, **pinned, "user": user}

    def get_me(self, _request: Request) -> Reply:
        """The user whose token it is."""
        return _data(
            {
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
        )

    # -- persons, organizations, deals, v2

    def list_rows(self, kind: Kind, request: Request, *, is_archived: bool = False) -> Reply:
        """Rows that are not deleted, deals by status also those that are."""
        query = _Query(request.query)
        rows: Iterable[Row] = self._listed(kind, query, is_archived=is_archived)
        for name in ("owner_id", "person_id", "org_id", "pipeline_id", "stage_id"):
            number = query.number(name)
            if number is not None:
                rows = [row for row in rows if row[name] == number]
        ids = query.numbers("ids")
        if ids is not None:
            rows = [row for row in rows if row["id"] in ids]
        since, until = query.instant("updated_since"), query.instant("updated_until")
        rows = [
            row
            for row in rows
            if (since is None or _whole(row["update_time"]) >= since)
            and (until is None or _whole(row["update_time"]) < until)
        ]
        keys, more = query.keys("custom_fields"), query.words("include_fields")
        return self._cursor_page(
            query,
            rows,
            ("id", "update_time", "add_time"),
            lambda row: self._row(kind, row, keys, more),
        )

    def _listed(self, kind: Kind, query: _Query, *, is_archived: bool) -> list[Row]:
        self.account.settle()
        statuses = query.words("status")
        if not statuses <= {"open", "won", "lost", "deleted"}:
            raise RefusedError(400, f"status: {', '.join(sorted(statuses))} is not valid")
        kept = [self.account.find(kind, row_id) for row_id in tuple(self.account.rows[kind])]
        return [
            row
            for row in kept
            if row is not None
            and (row["status"] in statuses if statuses else not row["is_deleted"])
            and row.get("is_archived", False) is is_archived
        ]

    def get_row(self, kind: Kind, request: Request) -> Reply:
        """One row."""
        query = _Query(request.query)
        keys, more = query.keys("custom_fields"), query.words("include_fields")
        row = self.account.find(kind, _id(request))
        if row is None or (row["is_deleted"] and not self.account.rules.shows_deleted):
            raise RefusedError(404, f"{kind.capitalize()} not found", code="ERR_NOT_FOUND")
        return _data(self._row(kind, row, keys, more))

    def add_row(self, kind: Kind, request: Request) -> Reply:
        """A new row."""
        fields = self.account.fields_of(kind)
        values = read_body(str(kind), request.body, fields, is_create=True)
        row = self.account.create(kind, values, Source.API)
        return _data(self._row(kind, row, None, frozenset()))

    def change_row(self, kind: Kind, request: Request) -> Reply:
        """Change a row; a list of telephones or addresses is replaced as a whole."""
        row_id = _id(request)
        self.account.row(kind, row_id)
        fields = self.account.fields_of(kind)
        values = read_body(str(kind), request.body, fields, is_create=False)
        row = self.account.change(kind, row_id, values, Source.API)
        return _data(self._row(kind, row, None, frozenset()))

    def delete_row(self, kind: Kind, request: Request) -> Reply:
        """Mark a row as deleted."""
        row_id = _id(request)
        self.account.delete(kind, row_id, Source.API)
        return _data({"id": row_id})

    def _row(self, kind: Kind, row: Row, keys: frozenset[str] | None, more: frozenset[str]) -> Row:
        if more - {"source_lead_id"}:
            raise RefusedError(501, "the stand-in does not serve these include_fields")
        told = _timed(row, seconds)
        told["custom_fields"] = {
            key: told["custom_fields"].get(key)
            for key, one in self.account.fields_of(kind).items()
            if one.is_custom and (keys is None or key in keys)
        }
        if kind is Kind.DEAL and "source_lead_id" not in more:
            del told["source_lead_id"]
        return told

    # -- searches, v2

    def search(self, kind: Kind, request: Request) -> Reply:
        """Items by a term in their texts, some time after they were written."""
        query = _Query(request.query, max_limit=_MAX_SEARCH_LIMIT)
        is_exact = query.flag("exact_match")
        term = query.term(is_exact=is_exact)
        known = _SEARCH_GROUPS[kind]
        groups = query.words("fields") or frozenset(known)
        if not groups <= set(known):
            raise RefusedError(400, f"fields: {', '.join(sorted(groups - set(known)))}")
        found: Sequence[Mapping[str, Any]] = self.account.index.search(
            kind, self.account.now(), term=term, groups=sorted(groups), is_exact=is_exact
        )
        for name, part in (("person_id", "person"), ("organization_id", "organization")):
            number = query.number(name)
            if number is not None:
                found = [item for item in found if (item[part] or {}).get("id") == number]
        items = [{"result_score": 0.5, "item": dict(item)} for item in found]
        page, more = self._number_page(query, items)
        return _data({"items": page}, additional_data=more)

    def search_field(self, request: Request) -> Reply:
        """Ids and names of rows by the value of one field."""
        query = _Query(request.query, max_limit=_MAX_SEARCH_LIMIT)
        match = request.query.get("match", "exact")
        if match not in {"exact", "beginning", "middle"}:
            raise RefusedError(400, f"match: {match}")
        term = query.term(is_exact=match == "exact")
        entity_type, key = request.query.get("entity_type", ""), request.query.get("field", "")
        if entity_type not in set(_SEARCH_GROUPS):
            raise RefusedError(400, f"entity_type: {entity_type}")
        if key not in self.account.fields_of(Kind(entity_type)):
            raise RefusedError(400, f"field: {key}")
        found = self.account.index.search_field(
            entity_type, self.account.now(), term=term, key=key, match=match
        )
        rows = [
            {"id": row_id, "name": item.get("name", item.get("title"))} for row_id, item in found
        ]
        page, more = self._number_page(query, rows)
        return _data(page, additional_data=more)

    # -- fields, pipelines, stages, conversions, v2

    def list_fields(self, kind: Kind, request: Request) -> Reply:
        """Fields, Pipedrive's own and custom ones."""
        query = _Query(request.query)
        if query.words("include_fields"):
            raise RefusedError(501, "the stand-in does not serve include_fields")
        rows = [_field_v2(one) for one in self.account.fields_of(kind).values()]
        page, more = self._number_page(query, rows)
        return _data(page, additional_data=more)

    def add_field(self, kind: Kind, request: Request) -> Reply:
        """A new custom field."""
        body = request.body if isinstance(request.body, dict) else {}
        name, field_type = body.get("field_name"), body.get("field_type")
        if not isinstance(name, str) or not 1 <= len(name) <= 255:
            raise RefusedError(400, "field_name is required")
        if field_type not in _CREATED_TYPES:
            raise RefusedError(400, f"field_type: {field_type!r}")
        options = [str(one["label"]) for one in body.get("options", ())]
        if (field_type in {"enum", "set"}) is not bool(options):
            raise RefusedError(400, "options go with enum and set")
        return _data(_field_v2(self.account.add_field(kind, name, str(field_type), options)))

    def list_pipelines(self, request: Request) -> Reply:
        """Pipelines."""
        query = _Query(request.query)
        return self._cursor_page(
            query,
            self.account.pipelines.values(),
            ("id", "update_time", "add_time"),
            lambda row: _timed(row, seconds),
        )

    def list_stages(self, request: Request) -> Reply:
        """Stages, of one pipeline if asked."""
        query = _Query(request.query)
        pipeline = query.number("pipeline_id")
        return self._cursor_page(
            query,
            [row for row in self.account.stages.values() if pipeline in {None, row["pipeline_id"]}],
            ("id", "update_time", "add_time", "order_nr"),
            lambda row: _timed(row, seconds),
        )

    def convert_lead(self, request: Request) -> Reply:
        """Begin to make a deal of a lead."""
        row = self._lead_row(request)
        body = {} if request.body is None else request.body
        if not isinstance(body, dict) or body.keys() - {"stage_id", "pipeline_id"}:
            raise RefusedError(400, "Only stage_id or pipeline_id may be given")
        if len(body) > 1 or not all(isinstance(value, int) for value in body.values()):
            raise RefusedError(400, "One of stage_id and pipeline_id may be given")
        stage = body.get("stage_id")
        if "pipeline_id" in body:
            of_pipeline = [
                one["id"]
                for one in self.account.stages.values()
                if one["pipeline_id"] == body["pipeline_id"]
            ]
            if not of_pipeline:
                raise RefusedError(400, f"pipeline_id {body['pipeline_id']} not found")
            stage = of_pipeline[0]
        started = self.account.start_conversion(row["id"], stage)
        return _data({"conversion_id": started.id}, additional_data=None)

    def get_conversion(self, request: Request) -> Reply:
        """How far a conversion is."""
        self.account.settle()
        found: Conversion | None = self.account.conversions.get(request.ids["conversion_id"])
        if found is None or found.lead_id != request.ids["id"]:
            raise RefusedError(404, "Conversion not found")
        told: Row = {
            "lead_id": found.lead_id,
            "conversion_id": found.id,
            "status": found.status,
        }
        if found.deal_id is not None:
            told["deal_id"] = found.deal_id
        return _data(told, additional_data=None)

    # -- pages

    def _offset_page(self, query: _Query, page: Sequence[Row], total: int) -> Reply:
        start, limit = query.start, query.limit_v1
        has_more = start + len(page) < total or self.has_stuck_pages
        ends: Row = {"start": start, "limit": limit, "more_items_in_collection": has_more}
        if has_more:
            ends["next_start"] = start if self.has_stuck_pages else start + limit
        return _data(
            list(page),
            additional_data={"pagination": ends} if self.has_nested_pagination else ends,
        )

    def _cursor_page(
        self,
        query: _Query,
        rows: Iterable[Row],
        sorts: Sequence[str],
        write: Callable[[Row], Row],
    ) -> Reply:
        """A page by key: it begins after the last row of the page before, not at a number."""
        sort_by, is_descending = query.sort_v2(sorts)

        def key(row: Row) -> list[Any]:
            value = row[sort_by]
            return [seconds(value) if isinstance(value, datetime) else value, row["id"]]

        after = query.cursor()
        ordered = sorted(rows, key=key, reverse=is_descending)
        if isinstance(after, list):
            ordered = [
                row for row in ordered if (key(row) < after if is_descending else key(row) > after)
            ]
        page = ordered[: query.limit]
        cursor = _cursor_of(key(page[-1])) if len(ordered) > len(page) else None
        if self.has_stuck_pages and page:
            cursor = query.given_cursor or _cursor_of(key(page[-1]))
        return _data([write(row) for row in page], additional_data={"next_cursor": cursor})

    def _number_page(self, query: _Query, rows: Sequence[Row]) -> tuple[list[Row], Row]:
        start = query.cursor() or 0
        if not isinstance(start, int):
            raise RefusedError(400, "cursor is not valid")
        page = list(rows[start : start + query.limit])
        end = start + len(page)
        cursor = _cursor_of(end) if end < len(rows) else None
        if self.has_stuck_pages:
            cursor = query.given_cursor or _cursor_of(end)
        return page, {"next_cursor": cursor}


class _Query:
    """The query of a request, read strictly."""

    def __init__(self, given: Mapping[str, str], *, max_limit: int = _MAX_LIMIT) -> None:
        if not_served := given.keys() & _NOT_SERVED:
            raise RefusedError(501, f"the stand-in does not serve {', '.join(sorted(not_served))}")
        self._given = given
        self._max_limit = max_limit

    def number(self, name: str) -> int | None:
        text = self._given.get(name)
        if text is None:
            return None
        if not re.fullmatch(r"[0-9]{1,15}", text):
            raise RefusedError(400, f"{name}: {text!r} is not a number")
        return int(text)

    def numbers(self, name: str) -> frozenset[int] | None:
        if name not in self._given:
            return None
        parts = self._given[name].split(",")
        if len(parts) > _MAX_IDS or not all(re.fullmatch(r"[0-9]{1,15}", one) for one in parts):
            raise RefusedError(400, f"{name} is not valid")
        return frozenset(int(one) for one in parts)

    def words(self, name: str) -> frozenset[str]:
        return frozenset(filter(None, self._given.get(name, "").split(",")))

    def keys(self, name: str) -> frozenset[str] | None:
        keys = self.words(name)
        if len(keys) > _MAX_CUSTOM_KEYS:
            raise RefusedError(400, f"{name}: more than {_MAX_CUSTOM_KEYS} keys")
        return keys or None

    def flag(self, name: str) -> bool:
        text = self._given.get(name, "false")
        if text not in {"true", "false", "1", "0"}:
            raise RefusedError(400, f"{name}: {text!r} is not a boolean")
        return text in {"true", "1"}

    def term(self, *, is_exact: bool) -> str:
        term = self._given.get("term", "")
        if len(term) < (1 if is_exact else 2):
            raise RefusedError(400, f"term: {term!r} is too short")
        return term

    def instant(self, name: str) -> datetime | None:
        text = self._given.get(name)
        if text is None:
            return None
        try:
            at = datetime.fromisoformat(text)
        except ValueError:
            raise RefusedError(400, f"{name}: {text!r} is not RFC 3339") from None
        if at.tzinfo is None:
            raise RefusedError(400, f"{name}: {text!r} names no zone")
        return at.astimezone(UTC)

    @property
    def start(self) -> int:
        return self.number("start") or 0

    @property
    def limit_v1(self) -> int:
        return min(self.number("limit") or _DEFAULT_LIMIT, _MAX_LIMIT)

    @property
    def limit(self) -> int:
        limit = self.number("limit")
        if limit is not None and not 1 <= limit <= self._max_limit:
            raise RefusedError(400, f"limit: {limit} is not between 1 and {self._max_limit}")
        return limit or _DEFAULT_LIMIT

    def cut(self, rows: Sequence[Row]) -> Sequence[Row]:
        return rows[self.start : self.start + self.limit_v1]

    def sort_v1(self, rows: list[Row], known: frozenset[str]) -> None:
        """Sort by `name ASC,name DESC`, the last one first, so that the first one counts most."""
        for part in reversed(self._given.get("sort", "").split(",")):
            if not part.strip():
                continue
            name, _, direction = part.strip().partition(" ")
            if name not in known or direction.upper() not in {"", "ASC", "DESC"}:
                raise RefusedError(400, f"sort: {part!r}")
            rows.sort(
                key=lambda row, name=name: (row[name] is not None, row[name]),  # type: ignore[misc]
                reverse=direction.upper() == "DESC",
            )

    def sort_v2(self, known: Sequence[str]) -> tuple[str, bool]:
        name = self._given.get("sort_by", "id")
        direction = self._given.get("sort_direction", "asc")
        if name not in known or direction not in {"asc", "desc"}:
            raise RefusedError(400, f"sort_by: {name!r}, sort_direction: {direction!r}")
        return name, direction == "desc"

    @property
    def given_cursor(self) -> str | None:
        return self._given.get("cursor")

    def cursor(self) -> Any:
        text = self.given_cursor
        if text is None:
            return None
        try:
            return json.loads(base64.urlsafe_b64decode(text.encode()))["after"]
        except (ValueError, KeyError, TypeError):
            raise RefusedError(400, f"cursor: {text!r} is not valid") from None


def _cursor_of(after: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps({"after": after}).encode()).decode()


def _data(data: Any, status: int = 200, **more: Any) -> Reply:
    return Reply(status=status, body={"success": True, "data": data, **more})


def error_reply(refused: RefusedError) -> Reply:
    """An error in the envelope that the vendor documents."""
    body: Row = {
        "success": False,
        "error": refused.error,
        "error_info": "Please check developers.pipedrive.com",
        "data": None,
        "additional_data": None,
    }
    if refused.code is not None:
        body["code"] = refused.code
    return Reply(status=refused.status, body=body)


def _id(request: Request) -> int:
    text = request.ids["id"]
    if not re.fullmatch(r"[0-9]{1,15}", text):
        raise RefusedError(400, f"id: {text!r} is not a number")
    return int(text)


def _whole(at: datetime) -> datetime:
    """What v2 compares: it knows no parts of a second."""
    return at.astimezone(UTC).replace(microsecond=0)


def _timed(row: Row, write: Callable[[datetime], str]) -> Row:
    return {
        key: write(value) if isinstance(value, datetime) else value for key, value in row.items()
    }


def _field_v1(one: CustomField, at: datetime) -> Row:
    return {
        "id": one.number,
        "key": one.code,
        "name": one.name,
        "order_nr": one.number,
        "field_type": one.type,
        "add_time": spaced(at),
        "update_time": spaced(at),
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


def _field_v2(one: CustomField) -> Row:
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


_LEAD_SORTS: Final = frozenset(
    {
        "id",
        "title",
        "owner_id",
        "creator_id",
        "was_seen",
        "expected_close_date",
        "next_activity_id",
        "add_time",
        "update_time",
    }
)
_NOTE_SORTS: Final = frozenset(
    {"id", "user_id", "deal_id", "person_id", "org_id", "content", "add_time", "update_time"}
)
_CREATED_TYPES: Final = frozenset(
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

_PAGES_V1: Final = {"start", "limit"}
_PAGES_V2: Final = {"cursor", "limit"}
_LISTS_V2: Final = {
    *_PAGES_V2,
    "filter_id",
    "ids",
    "owner_id",
    "updated_since",
    "updated_until",
    "sort_by",
    "sort_direction",
    "include_fields",
    "custom_fields",
}
_LABELLED: Final = {"include_option_labels", "include_labels"}
_READS_V2: Final = {"include_fields", "custom_fields", *_LABELLED}
_LEAD_LISTS: Final = {
    *_PAGES_V1,
    "owner_id",
    "person_id",
    "organization_id",
    "filter_id",
    "sort",
}
_DEAL_LISTS: Final = {*_LISTS_V2, "person_id", "org_id", "pipeline_id", "stage_id", "status"}
_SEARCHES: Final = {*_PAGES_V2, "term", "fields", "exact_match"}


def _route(
    method: str,
    template: str,
    cost: int,
    answer: Callable[[PipedriveApi, Request], Reply],
    parameters: Iterable[str] = (),
) -> Route:
    return Route(
        method=method,
        template=template,
        cost=cost,
        answer=answer,
        parameters=frozenset(parameters),
    )


def _rows_of(kind: Kind, plural: str, lists: Iterable[str]) -> tuple[Route, ...]:
    path = f"/api/v2/{plural}"
    one = f"{path}/{{id}}"
    return (
        _route("GET", path, 10, lambda api, request: api.list_rows(kind, request), lists),
        _route("POST", path, 5, lambda api, request: api.add_row(kind, request)),
        _route("GET", one, 1, lambda api, request: api.get_row(kind, request), _READS_V2),
        _route("PATCH", one, 5, lambda api, request: api.change_row(kind, request)),
        _route("DELETE", one, 3, lambda api, request: api.delete_row(kind, request)),
    )


def _fields_of(kind: Kind) -> tuple[Route, ...]:
    path = f"/api/v2/{kind}Fields"
    parameters = {*_PAGES_V2, "include_fields"}
    return (
        _route("GET", path, 10, lambda api, request: api.list_fields(kind, request), parameters),
        _route("POST", path, 5, lambda api, request: api.add_field(kind, request)),
    )


# Fixed paths stand before those with an id in the same place.
ROUTES: Final[tuple[Route, ...]] = (
    _route("GET", "/api/v1/leads", 20, PipedriveApi.list_leads, {*_LEAD_LISTS, "updated_since"}),
    _route("POST", "/api/v1/leads", 10, PipedriveApi.add_lead),
    _route("GET", "/api/v1/leads/archived", 40, PipedriveApi.list_archived_leads, _LEAD_LISTS),
    _route("GET", "/api/v1/leads/{id}", 2, PipedriveApi.get_lead),
    _route("PATCH", "/api/v1/leads/{id}", 10, PipedriveApi.change_lead),
    _route("DELETE", "/api/v1/leads/{id}", 6, PipedriveApi.delete_lead),
    _route("GET", "/api/v1/leadLabels", 10, PipedriveApi.list_lead_labels),
    _route("GET", "/api/v1/leadFields", 20, PipedriveApi.list_lead_fields, _PAGES_V1),
    _route(
        "GET",
        "/api/v1/notes",
        20,
        PipedriveApi.list_notes,
        {*_PAGES_V1, *NOTE_FIELDS.values(), "user_id", "sort", "updated_since"},
    ),
    _route("POST", "/api/v1/notes", 10, PipedriveApi.add_note),
    _route("GET", "/api/v1/notes/{id}", 2, PipedriveApi.get_note),
    _route("DELETE", "/api/v1/notes/{id}", 6, PipedriveApi.delete_note),
    _route("GET", "/api/v1/users/me", 2, PipedriveApi.get_me),
    _route(
        "GET",
        "/api/v2/persons/search",
        20,
        lambda api, request: api.search(Kind.PERSON, request),
        {*_SEARCHES, "organization_id"},
    ),
    _route(
        "GET",
        "/api/v2/organizations/search",
        20,
        lambda api, request: api.search(Kind.ORGANIZATION, request),
        _SEARCHES,
    ),
    _route(
        "GET",
        "/api/v2/leads/search",
        20,
        lambda api, request: api.search(Kind.LEAD, request),
        {*_SEARCHES, "person_id", "organization_id"},
    ),
    _route(
        "GET",
        "/api/v2/itemSearch/field",
        20,
        PipedriveApi.search_field,
        {*_PAGES_V2, "term", "entity_type", "match", "field"},
    ),
    _route(
        "GET",
        "/api/v2/deals/archived",
        20,
        lambda api, request: api.list_rows(Kind.DEAL, request, is_archived=True),
        _DEAL_LISTS,
    ),
    *_rows_of(Kind.PERSON, "persons", {*_LISTS_V2, *_LABELLED, "org_id", "deal_id"}),
    *_rows_of(Kind.ORGANIZATION, "organizations", {*_LISTS_V2, *_LABELLED}),
    *_rows_of(Kind.DEAL, "deals", {*_DEAL_LISTS, *_LABELLED}),
    *_fields_of(Kind.DEAL),
    *_fields_of(Kind.PERSON),
    *_fields_of(Kind.ORGANIZATION),
    _route(
        "GET",
        "/api/v2/pipelines",
        5,
        PipedriveApi.list_pipelines,
        {*_PAGES_V2, "sort_by", "sort_direction"},
    ),
    _route(
        "GET",
        "/api/v2/stages",
        5,
        PipedriveApi.list_stages,
        {*_PAGES_V2, "pipeline_id", "sort_by", "sort_direction"},
    ),
    _route("POST", "/api/v2/leads/{id}/convert/deal", 40, PipedriveApi.convert_lead),
    _route(
        "GET",
        "/api/v2/leads/{id}/convert/status/{conversion_id}",
        1,
        PipedriveApi.get_conversion,
    ),
)
_COMPILED: Final = tuple((route.pattern, route) for route in ROUTES)
