"""What a webhook of another system is about: which records there, which people.

Pure. Files belong to ``landing``; what a change there means for us belongs to the system's domain.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

# Fields of a row of Pipedrive that name another record, by the kind of that record.
_NAMING = {
    "lead": ("lead_id",),
    "deal": ("deal_id", "source_deal_id"),
    "person": ("person_id",),
    "organization": ("org_id", "organization_id"),
}
_MERGED = ("merged_to_id", "merged_from_id")
_CONTACTS = ("phones", "emails")


def name_records(event: Any) -> frozenset[str]:
    """The records that an event of Pipedrive is about, or that its row names.

    Args:
        event: A decoded document, whatever it is.

    Returns:
        Kind and id, such as ``person:5``; empty where it is no event of Pipedrive.
    """
    meta = _meta(event)
    if meta is None:
        return frozenset()
    entity = str(meta["entity"])
    own = [meta.get("entity_id"), *(meta.get(name) for name in _MERGED)]
    found = {f"{entity}:{one}" for one in own if _is_id(one)}
    for row in _rows(event):
        if _is_id(row.get("id")):
            found.add(f"{entity}:{row['id']}")
        for kind, names in _NAMING.items():
            found |= {f"{kind}:{row[name]}" for name in names if _is_id(row.get(name))}
    return frozenset(found)


def name_contacts(event: Any) -> frozenset[str]:
    """The phones and e-mail addresses of an event's person, as they were written there.

    Args:
        event: A decoded document, whatever it is.
    """
    if _meta(event) is None:
        return frozenset()
    return frozenset(
        item["value"]
        for row in _rows(event)
        for name in _CONTACTS
        if isinstance(items := row.get(name), list)
        for item in items
        if isinstance(item, Mapping) and isinstance(item.get("value"), str) and item["value"]
    )


def _meta(event: Any) -> Mapping[str, Any] | None:
    meta = event.get("meta") if isinstance(event, Mapping) else None
    if not isinstance(meta, Mapping) or not isinstance(meta.get("entity"), str):
        return None
    return meta


def _rows(event: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    for name in ("data", "previous"):
        row = event.get(name)
        if isinstance(row, Mapping):
            yield row


def _is_id(value: Any) -> bool:
    return isinstance(value, int | str) and not isinstance(value, bool) and value != ""
