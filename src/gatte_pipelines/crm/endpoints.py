"""The endpoints of Pipedrive that this project calls: version, cost and known parameters. Pure.

Costs are ``x-token-cost`` of the official specs of 2026-08-18, flat per call; a test compares both.
Which call a change needs belongs to the sync.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

MAX_PAGE = 500
"""Records a page at most, on v1 and v2; a call costs the same however many it brings."""
MAX_SEARCH_PAGE = 100
"""Hits a page at most: the spec allows 500, but item search refuses more than 100."""
MAX_IDS = 100
"""Ids that one list call takes."""


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """One call that Pipedrive offers.

    Attributes:
        method: HTTP method.
        path: Below the host; ``{id}`` and the like stand for ids.
        cost: Tokens of the daily budget.
        parameters: Query parameters that it knows. Pipedrive ignores any other silently and
            answers 200 with the whole collection, so none but these is ever sent.
    """

    method: str
    path: str
    cost: int
    parameters: frozenset[str] = frozenset()

    @property
    def name(self) -> str:
        """Method and path, without a value of anybody."""
        return f"{self.method} {self.path}"

    @property
    def has_flat_leads(self) -> bool:
        """Whether it answers with leads as v1 has them: custom fields between the others."""
        return self.path.split("/")[1:4] == ["api", "v1", "leads"]


def _endpoint(method: str, path: str, cost: int, parameters: str = "") -> Endpoint:
    known = frozenset(parameters.split())
    return Endpoint(method=method, path=path, cost=cost, parameters=known)


_LEAD_FILTERS = "person_id organization_id sort start limit"
_CURSOR = "limit cursor"
_LIST = f"ids updated_since updated_until sort_by sort_direction {_CURSOR}"

LIST_LEADS = _endpoint("GET", "/api/v1/leads", 20, f"updated_since {_LEAD_FILTERS}")
LIST_ARCHIVED_LEADS = _endpoint("GET", "/api/v1/leads/archived", 40, _LEAD_FILTERS)
GET_LEAD = _endpoint("GET", "/api/v1/leads/{id}", 2)
CREATE_LEAD = _endpoint("POST", "/api/v1/leads", 10)
UPDATE_LEAD = _endpoint("PATCH", "/api/v1/leads/{id}", 10)
DELETE_LEAD = _endpoint("DELETE", "/api/v1/leads/{id}", 6)
LIST_LEAD_LABELS = _endpoint("GET", "/api/v1/leadLabels", 10)
CONVERT_LEAD = _endpoint("POST", "/api/v2/leads/{id}/convert/deal", 40)
GET_CONVERSION = _endpoint("GET", "/api/v2/leads/{id}/convert/status/{conversion_id}", 1)

LIST_NOTES = _endpoint("GET", "/api/v1/notes", 20, "lead_id deal_id person_id start limit")
GET_NOTE = _endpoint("GET", "/api/v1/notes/{id}", 2)
CREATE_NOTE = _endpoint("POST", "/api/v1/notes", 10)
DELETE_NOTE = _endpoint("DELETE", "/api/v1/notes/{id}", 6)

GET_ME = _endpoint("GET", "/api/v1/users/me", 2)

LIST_PERSONS = _endpoint("GET", "/api/v2/persons", 10, f"org_id {_LIST}")
GET_PERSON = _endpoint("GET", "/api/v2/persons/{id}", 1)
CREATE_PERSON = _endpoint("POST", "/api/v2/persons", 5)
UPDATE_PERSON = _endpoint("PATCH", "/api/v2/persons/{id}", 5)
DELETE_PERSON = _endpoint("DELETE", "/api/v2/persons/{id}", 3)
SEARCH_PERSONS = _endpoint(
    "GET", "/api/v2/persons/search", 20, f"term fields exact_match {_CURSOR}"
)

LIST_ORGANIZATIONS = _endpoint("GET", "/api/v2/organizations", 10, _LIST)
GET_ORGANIZATION = _endpoint("GET", "/api/v2/organizations/{id}", 1)
CREATE_ORGANIZATION = _endpoint("POST", "/api/v2/organizations", 5)
UPDATE_ORGANIZATION = _endpoint("PATCH", "/api/v2/organizations/{id}", 5)
DELETE_ORGANIZATION = _endpoint("DELETE", "/api/v2/organizations/{id}", 3)
SEARCH_ORGANIZATIONS = _endpoint(
    "GET", "/api/v2/organizations/search", 20, f"term fields exact_match {_CURSOR}"
)

LIST_DEALS = _endpoint(
    "GET", "/api/v2/deals", 10, f"person_id org_id status include_fields {_LIST}"
)
LIST_ARCHIVED_DEALS = _endpoint(
    "GET", "/api/v2/deals/archived", 20, f"person_id org_id include_fields {_CURSOR}"
)
GET_DEAL = _endpoint("GET", "/api/v2/deals/{id}", 1, "include_fields")
UPDATE_DEAL = _endpoint("PATCH", "/api/v2/deals/{id}", 5)
DELETE_DEAL = _endpoint("DELETE", "/api/v2/deals/{id}", 3)

SEARCH_FIELD = _endpoint(
    "GET", "/api/v2/itemSearch/field", 20, f"term entity_type match field {_CURSOR}"
)

LIST_DEAL_FIELDS = _endpoint("GET", "/api/v2/dealFields", 10, _CURSOR)
CREATE_DEAL_FIELD = _endpoint("POST", "/api/v2/dealFields", 5)
LIST_PERSON_FIELDS = _endpoint("GET", "/api/v2/personFields", 10, _CURSOR)
CREATE_PERSON_FIELD = _endpoint("POST", "/api/v2/personFields", 5)
LIST_PIPELINES = _endpoint("GET", "/api/v2/pipelines", 5, _CURSOR)
LIST_STAGES = _endpoint("GET", "/api/v2/stages", 5, f"pipeline_id {_CURSOR}")


def every_endpoint() -> Iterator[Endpoint]:
    """All of this table."""
    for value in globals().copy().values():
        if isinstance(value, Endpoint):
            yield value
