"""How the stand-in for Pipedrive reads a query and writes an answer: strictly, as v2 does.

No row and no endpoint belongs here.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from gatte_pipelines.sandbox.pipedrive_bodies import RefusedError, Row

_DEFAULT_LIMIT = 100
_MAX_LIMIT = 500
# The specs say 500 for scoped searches too; a field report saw more than 100 refused.
MAX_SEARCH_LIMIT = 100
_MAX_IDS = 100
_MAX_CUSTOM_KEYS = 15
# Parameters of the specs that this stand-in does not serve: refused, so that nobody believes in an
# answer that left them out.
_NOT_SERVED: Final = frozenset({"filter_id", "include_option_labels", "include_labels"})


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


class Query:
    """The query of a request, read strictly."""

    def __init__(self, given: Mapping[str, str], *, max_limit: int = _MAX_LIMIT) -> None:
        if not_served := given.keys() & _NOT_SERVED:
            raise RefusedError(501, f"the stand-in does not serve {', '.join(sorted(not_served))}")
        self._given = given
        self._max_limit = max_limit

    def number(self, name: str) -> int | None:
        """A whole number; None where it is not given."""
        text = self._given.get(name)
        if text is None:
            return None
        if not re.fullmatch(r"[0-9]{1,15}", text):
            raise RefusedError(400, f"{name}: {text!r} is not a number")
        return int(text)

    def numbers(self, name: str) -> frozenset[int] | None:
        """Whole numbers between commas."""
        if name not in self._given:
            return None
        parts = self._given[name].split(",")
        if len(parts) > _MAX_IDS or not all(re.fullmatch(r"[0-9]{1,15}", one) for one in parts):
            raise RefusedError(400, f"{name} is not valid")
        return frozenset(int(one) for one in parts)

    def words(self, name: str) -> frozenset[str]:
        """Words between commas."""
        return frozenset(filter(None, self._given.get(name, "").split(",")))

    def keys(self, name: str) -> frozenset[str] | None:
        """Keys of custom fields between commas; None for all."""
        keys = self.words(name)
        if len(keys) > _MAX_CUSTOM_KEYS:
            raise RefusedError(400, f"{name}: more than {_MAX_CUSTOM_KEYS} keys")
        return keys or None

    def flag(self, name: str) -> bool:
        """True or false, and false where it is not given."""
        text = self._given.get(name, "false")
        if text not in {"true", "false", "1", "0"}:
            raise RefusedError(400, f"{name}: {text!r} is not a boolean")
        return text in {"true", "1"}

    def term(self, *, is_exact: bool) -> str:
        """What is searched."""
        term = self._given.get("term", "")
        if len(term) < (1 if is_exact else 2):
            raise RefusedError(400, f"term: {term!r} is too short")
        return term

    def instant(self, name: str) -> datetime | None:
        """An instant with its zone."""
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
        """Where a page of v1 begins."""
        return self.number("start") or 0

    @property
    def limit_v1(self) -> int:
        """How long a page of v1 is; what is too much is cut in silence."""
        return min(self.number("limit") or _DEFAULT_LIMIT, _MAX_LIMIT)

    @property
    def limit(self) -> int:
        """How long a page of v2 is; what is too much is refused."""
        limit = self.number("limit")
        if limit is not None and not 1 <= limit <= self._max_limit:
            raise RefusedError(400, f"limit: {limit} is not between 1 and {self._max_limit}")
        return limit or _DEFAULT_LIMIT

    def cut(self, rows: Sequence[Row]) -> Sequence[Row]:
        """The page of v1 out of all rows."""
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
        """The field to sort by, and whether downwards."""
        name = self._given.get("sort_by", "id")
        direction = self._given.get("sort_direction", "asc")
        if name not in known or direction not in {"asc", "desc"}:
            raise RefusedError(400, f"sort_by: {name!r}, sort_direction: {direction!r}")
        return name, direction == "desc"

    @property
    def given_cursor(self) -> str | None:
        """The cursor as it came."""
        return self._given.get("cursor")

    def cursor(self) -> Any:
        """What the cursor stands for; None on the first page."""
        text = self.given_cursor
        if text is None:
            return None
        try:
            return json.loads(base64.urlsafe_b64decode(text.encode()))["after"]
        except (ValueError, KeyError, TypeError):
            raise RefusedError(400, f"cursor: {text!r} is not valid") from None


def cursor_of(after: Any) -> str:
    """A cursor that nobody but this stand-in reads."""
    return base64.urlsafe_b64encode(json.dumps({"after": after}).encode()).decode()


def data_reply(data: Any, status: int = 200, **more: Any) -> Reply:
    """A success in the envelope of every answer."""
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


def row_id_of(request: Request) -> int:
    """The number in a path."""
    text = request.ids["id"]
    if not re.fullmatch(r"[0-9]{1,15}", text):
        raise RefusedError(400, f"id: {text!r} is not a number")
    return int(text)
