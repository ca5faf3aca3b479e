"""What the endpoints of the stand-in for Pipedrive do: a request in, a status and a body out.

Paths and costs stand in `pipedrive_routes`, how a query is read in `pipedrive_query`. Sockets,
tokens and faults belong to `pipedrive`, rows to `pipedrive_account`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from gatte_pipelines.sandbox.pipedrive_account import Account
from gatte_pipelines.sandbox.pipedrive_bodies import (
    RefusedError,
    Row,
    flat_custom_fields,
    is_uuid,
    read_body,
)
from gatte_pipelines.sandbox.pipedrive_query import (
    MAX_SEARCH_LIMIT,
    Query,
    Reply,
    Request,
    cursor_of,
    data_reply,
    row_id_of,
)
from gatte_pipelines.sandbox.pipedrive_rows import (
    CREATED_FIELD_TYPES,
    NOTE_FIELDS,
    Kind,
    Source,
    field_v1,
    field_v2,
    me,
    milliseconds,
    seconds,
    spaced,
)

_MAX_NOTE = 100_000

_SEARCH_GROUPS: Final[Mapping[Kind, tuple[str, ...]]] = {
    Kind.PERSON: ("custom_fields", "email", "notes", "phone", "name"),
    Kind.ORGANIZATION: ("address", "custom_fields", "notes", "name"),
    Kind.LEAD: ("custom_fields", "notes", "title"),
    Kind.DEAL: ("custom_fields", "notes", "title"),
}


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

    # -- leads, v1

    def list_leads(self, request: Request) -> Reply:
        """Leads that are not archived."""
        return self._page_of_leads(request, is_archived=False)

    def list_archived_leads(self, request: Request) -> Reply:
        """Leads that are; there is no `updated_since` here."""
        return self._page_of_leads(request, is_archived=True)

    def _page_of_leads(self, request: Request, *, is_archived: bool) -> Reply:
        query = Query(request.query)
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
        return data_reply(self._lead(self._lead_row(request)))

    def add_lead(self, request: Request) -> Reply:
        """A new lead."""
        fields = self.account.fields_of(Kind.LEAD)
        values = read_body("lead", request.body, fields, is_create=True)
        return data_reply(self._lead(self.account.create(Kind.LEAD, values, Source.API)), 201)

    def change_lead(self, request: Request) -> Reply:
        """Change a lead, or archive it."""
        row = self._lead_row(request)
        fields = self.account.fields_of(Kind.LEAD)
        values = read_body("lead", request.body, fields, is_create=False)
        return data_reply(self._lead(self.account.change(Kind.LEAD, row["id"], values, Source.API)))

    def delete_lead(self, request: Request) -> Reply:
        """Delete a lead, an archived one too."""
        row = self._lead_row(request)
        self.account.delete(Kind.LEAD, row["id"], Source.API)
        return data_reply({"id": row["id"]})

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
        return data_reply([_timed(row, milliseconds) for row in self.account.labels.values()])

    def list_lead_fields(self, request: Request) -> Reply:
        """Fields of leads, as v1 writes fields: those of deals, but for where a deal stands."""
        query = Query(request.query)
        rows = [
            field_v1(one, self.account.now())
            for one in self.account.fields_of(Kind.LEAD).values()
            if one.code not in {"stage_id", "status"}
        ]
        return self._offset_page(query, query.cut(rows), len(rows))

    # -- notes and the user, v1

    def list_notes(self, request: Request) -> Reply:
        """Notes, of one lead, deal, person or organization if asked."""
        query = Query(request.query)
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
        return data_reply(self._note(self.account.row(Kind.NOTE, row_id_of(request))))

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
        return data_reply(self._note(self.account.create(Kind.NOTE, values, Source.API)))

    def delete_note(self, request: Request) -> Reply:
        """Delete a note."""
        self.account.delete(Kind.NOTE, row_id_of(request), Source.API)
        return data_reply(True)

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
        return data_reply(me())

    # -- persons, organizations, deals, v2

    def list_rows(self, kind: Kind, request: Request, *, is_archived: bool = False) -> Reply:
        """Rows that are not deleted, deals by status also those that are."""
        query = Query(request.query)
        if "deal_id" in request.query:
            raise RefusedError(501, "the stand-in does not serve deal_id")
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

    def _listed(self, kind: Kind, query: Query, *, is_archived: bool) -> list[Row]:
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
        query = Query(request.query)
        keys, more = query.keys("custom_fields"), query.words("include_fields")
        row = self.account.find(kind, row_id_of(request))
        if row is None or (row["is_deleted"] and not self.account.rules.shows_deleted):
            raise RefusedError(404, f"{kind.capitalize()} not found", code="ERR_NOT_FOUND")
        return data_reply(self._row(kind, row, keys, more))

    def add_row(self, kind: Kind, request: Request) -> Reply:
        """A new row."""
        fields = self.account.fields_of(kind)
        values = read_body(str(kind), request.body, fields, is_create=True)
        row = self.account.create(kind, values, Source.API)
        return data_reply(self._row(kind, row, None, frozenset()))

    def change_row(self, kind: Kind, request: Request) -> Reply:
        """Change a row; a list of telephones or addresses is replaced as a whole."""
        row_id = row_id_of(request)
        self.account.row(kind, row_id)
        fields = self.account.fields_of(kind)
        values = read_body(str(kind), request.body, fields, is_create=False)
        row = self.account.change(kind, row_id, values, Source.API)
        return data_reply(self._row(kind, row, None, frozenset()))

    def delete_row(self, kind: Kind, request: Request) -> Reply:
        """Mark a row as deleted."""
        row_id = row_id_of(request)
        self.account.delete(kind, row_id, Source.API)
        return data_reply({"id": row_id})

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
        query = Query(request.query, max_limit=MAX_SEARCH_LIMIT)
        if query.words("include_fields"):
            raise RefusedError(501, "the stand-in does not serve include_fields")
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
        return data_reply({"items": page}, additional_data=more)

    def search_field(self, request: Request) -> Reply:
        """Ids and names of rows by the value of one field."""
        query = Query(request.query, max_limit=MAX_SEARCH_LIMIT)
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
        return data_reply(page, additional_data=more)

    # -- fields, pipelines, stages, conversions, v2

    def list_fields(self, kind: Kind, request: Request) -> Reply:
        """Fields, Pipedrive's own and custom ones."""
        query = Query(request.query)
        if query.words("include_fields"):
            raise RefusedError(501, "the stand-in does not serve include_fields")
        rows = [field_v2(one) for one in self.account.fields_of(kind).values()]
        page, more = self._number_page(query, rows)
        return data_reply(page, additional_data=more)

    def add_field(self, kind: Kind, request: Request) -> Reply:
        """A new custom field."""
        body = request.body if isinstance(request.body, dict) else {}
        name, field_type = body.get("field_name"), body.get("field_type")
        if not isinstance(name, str) or not 1 <= len(name) <= 255:
            raise RefusedError(400, "field_name is required")
        if field_type not in CREATED_FIELD_TYPES:
            raise RefusedError(400, f"field_type: {field_type!r}")
        options = [str(one["label"]) for one in body.get("options", ())]
        if (field_type in {"enum", "set"}) is not bool(options):
            raise RefusedError(400, "options go with enum and set")
        return data_reply(field_v2(self.account.add_field(kind, name, str(field_type), options)))

    def list_pipelines(self, request: Request) -> Reply:
        """Pipelines."""
        query = Query(request.query)
        return self._cursor_page(
            query,
            self.account.pipelines.values(),
            ("id", "update_time", "add_time"),
            lambda row: _timed(row, seconds),
        )

    def list_stages(self, request: Request) -> Reply:
        """Stages, of one pipeline if asked."""
        query = Query(request.query)
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
        return data_reply({"conversion_id": started.id}, additional_data=None)

    def get_conversion(self, request: Request) -> Reply:
        """How far a conversion is."""
        self.account.settle()
        found = self.account.conversions.get(request.ids["conversion_id"])
        if found is None or found.lead_id != request.ids["id"]:
            raise RefusedError(404, "Conversion not found")
        told: Row = {
            "lead_id": found.lead_id,
            "conversion_id": found.id,
            "status": found.status,
        }
        if found.deal_id is not None:
            told["deal_id"] = found.deal_id
        return data_reply(told, additional_data=None)

    # -- pages

    def _offset_page(self, query: Query, page: Sequence[Row], total: int) -> Reply:
        start, limit = query.start, query.limit_v1
        has_more = start + len(page) < total or self.has_stuck_pages
        ends: Row = {"start": start, "limit": limit, "more_items_in_collection": has_more}
        if has_more:
            ends["next_start"] = start if self.has_stuck_pages else start + limit
        return data_reply(
            list(page),
            additional_data={"pagination": ends} if self.has_nested_pagination else ends,
        )

    def _cursor_page(
        self,
        query: Query,
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
        cursor = cursor_of(key(page[-1])) if len(ordered) > len(page) else None
        if self.has_stuck_pages:
            cursor = query.given_cursor or (cursor_of(key(page[-1])) if page else "stuck")
        return data_reply([write(row) for row in page], additional_data={"next_cursor": cursor})

    def _number_page(self, query: Query, rows: Sequence[Row]) -> tuple[list[Row], Row]:
        start = query.cursor() or 0
        if not isinstance(start, int):
            raise RefusedError(400, "cursor is not valid")
        page = list(rows[start : start + query.limit])
        end = start + len(page)
        cursor = cursor_of(end) if end < len(rows) else None
        if self.has_stuck_pages:
            cursor = query.given_cursor or cursor_of(end)
        return page, {"next_cursor": cursor}


def _whole(at: datetime) -> datetime:
    """What v2 compares: it knows no parts of a second."""
    return at.astimezone(UTC).replace(microsecond=0)


def _timed(row: Row, write: Callable[[datetime], str]) -> Row:
    return {
        key: write(value) if isinstance(value, datetime) else value for key, value in row.items()
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
