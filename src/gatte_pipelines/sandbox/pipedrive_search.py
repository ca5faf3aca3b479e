"""The search index of the stand-in for Pipedrive: late, and it remembers what is gone.

Field reports, not promises of the vendor: what was written seconds ago is not found; a deleted
organization stays for ever, a deleted person for a while, both unmarked; a deleted deal drops out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from gatte_pipelines.sandbox.pipedrive_bodies import CustomField, Row

SEARCHABLE_TYPES = frozenset(
    {"address", "varchar", "text", "varchar_auto", "double", "monetary", "phone"}
)
"""Types of custom fields that Pipedrive's search looks into; an enum or a date is not found."""

_NOT_A_DIGIT = re.compile(r"[^0-9]+")


@dataclass(frozen=True, kw_only=True)
class IndexEntry:
    """One version of what the index holds of one row.

    Attributes:
        item: The row as a search answers it; None says that it is gone.
        groups: The texts that a search looks into, by the name of its `fields` parameter.
        values: The same by key of field, for the search of one field.
    """

    at: datetime
    item: Mapping[str, Any] | None = field(repr=False)
    groups: Mapping[str, Sequence[str]] = field(default_factory=dict, repr=False)
    values: Mapping[str, Sequence[str]] = field(default_factory=dict, repr=False)


class SearchIndex:
    """Versions of rows, each visible from `lag` after it was written.

    Attributes:
        lag: How long a write takes to be found.
        deleted_persons_stay: How long a deleted person is still found.
        has_plain_phones: Whether a telephone is compared by its digits; else as it is written.
            Pipedrive does not say which.
    """

    def __init__(self, lag: timedelta) -> None:
        self.lag = lag
        self.deleted_persons_stay = timedelta(hours=1)
        self.has_plain_phones = True
        self._caught_up: datetime | None = None
        self._versions: dict[str, dict[int | str, list[IndexEntry]]] = {}

    def put(self, kind: str, row_id: int | str, entry: IndexEntry) -> None:
        """Note a version of a row."""
        self._versions.setdefault(kind, {}).setdefault(row_id, []).append(entry)

    def remove(self, kind: str, row_id: int | str, at: datetime) -> None:
        """Note that a row is gone; of an organization the index never hears."""
        if kind == "organization":
            return
        stays = self.deleted_persons_stay if kind == "person" else timedelta(0)
        self.put(kind, row_id, IndexEntry(at=at + stays, item=None))

    def catch_up(self, now: datetime) -> None:
        """Let everything that was written until now be found."""
        self._caught_up = now

    def visible(self, kind: str, now: datetime) -> Iterator[tuple[int | str, IndexEntry]]:
        """Yield what a search sees of a kind, in the order of first writing."""
        for row_id, versions in self._versions.get(kind, {}).items():
            seen = [one for one in versions if self._is_visible(one.at, now)]
            if seen and seen[-1].item is not None:
                yield row_id, seen[-1]

    def search(
        self, kind: str, now: datetime, *, term: str, groups: Sequence[str], is_exact: bool
    ) -> list[Mapping[str, Any]]:
        """Find items by a term in any of their texts. Upper and lower case are the same."""
        return [
            entry.item
            for _, entry in self.visible(kind, now)
            if entry.item is not None
            and any(
                self._matches(term, text, group, is_exact=is_exact)
                for group in groups
                for text in entry.groups.get(group, ())
            )
        ]

    def search_field(
        self, kind: str, now: datetime, *, term: str, key: str, match: str
    ) -> list[tuple[int | str, Mapping[str, Any]]]:
        """Find rows by the value of one field. Upper and lower case differ."""
        found: list[tuple[int | str, Mapping[str, Any]]] = []
        for row_id, entry in self.visible(kind, now):
            texts = entry.values.get(key, ())
            if entry.item is not None and any(
                text == term
                if match == "exact"
                else text.startswith(term)
                if match == "beginning"
                else term in text
                for text in texts
            ):
                found.append((row_id, entry.item))
        return found

    def _is_visible(self, at: datetime, now: datetime) -> bool:
        if self._caught_up is not None and at <= self._caught_up:
            return True
        return at + self.lag <= now

    def _matches(self, term: str, text: str, group: str, *, is_exact: bool) -> bool:
        if group == "phone" and self.has_plain_phones:
            term, text = _NOT_A_DIGIT.sub("", term), _NOT_A_DIGIT.sub("", text)
            if not term:
                return False
        term, text = term.casefold(), text.casefold()
        return term == text if is_exact else term in text


def entry_of(
    kind: str,
    row: Row,
    at: datetime,
    *,
    fields: Mapping[str, CustomField],
    notes: Sequence[str],
    organization: Row | None,
    person: Row | None,
) -> IndexEntry:
    """What the index holds of a row: the answer of a search, and the texts it is found by."""
    custom: dict[str, list[str]] = {}
    for key, value in row["custom_fields"].items():
        if value is not None and key in fields and fields[key].type in SEARCHABLE_TYPES:
            custom[key] = [str(value["value"] if isinstance(value, dict) else value)]
    name = "name" if "name" in row else "title"
    groups: dict[str, list[str]] = {
        name: [row[name]],
        "custom_fields": [text for texts in custom.values() for text in texts],
        "notes": list(notes),
    }
    values = {name: [row[name]], **custom}
    item: Row = {
        "id": row["id"],
        "type": str(kind),
        name: row[name],
        "visible_to": int(row["visible_to"]),
        "owner": {"id": row["owner_id"]},
        "custom_fields": groups["custom_fields"],
        "notes": groups["notes"],
    }
    for key, group in (("phones", "phone"), ("emails", "email")):
        if key in row:
            groups[group] = item[key] = values[key] = [one["value"] for one in row[key]]
    if kind == "organization":
        item["address"] = row["address"]["value"] if row["address"] else None
        groups["address"] = [item["address"]] if item["address"] else []
    else:
        item["organization"] = _named(organization, address=None)
    if "is_archived" in row:
        item |= {"person": _named(person), "is_archived": row["is_archived"]}
    return IndexEntry(at=at, item=item, groups=groups, values=values)


def _named(row: Row | None, **more: Any) -> Row | None:
    return {"id": row["id"], "name": row["name"], **more} if row else None
