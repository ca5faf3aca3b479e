"""The endpoints of the stand-in for Pipedrive: paths, costs, known parameters, and who answers.

A contract test holds this table to the official specs.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from gatte_pipelines.sandbox.pipedrive_api import PipedriveApi
from gatte_pipelines.sandbox.pipedrive_bodies import RefusedError
from gatte_pipelines.sandbox.pipedrive_query import Reply, Request
from gatte_pipelines.sandbox.pipedrive_rows import NOTE_FIELDS, Kind


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
        {*_SEARCHES, "organization_id", "include_fields"},
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
        {*_SEARCHES, "person_id", "organization_id", "include_fields"},
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


def find_route(method: str, path: str) -> tuple[Route, dict[str, str]]:
    """The endpoint of a path, and the ids in it.

    Raises:
        RefusedError: There is none.
    """
    is_known = False
    for pattern, route in _COMPILED:
        match = pattern.fullmatch(path)
        if match is not None and route.method == method:
            return route, match.groupdict()
        is_known = is_known or match is not None
    raise RefusedError(405 if is_known else 404, "Unknown method or path")
