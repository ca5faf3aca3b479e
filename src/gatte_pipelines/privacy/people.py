"""Anonymise people: users and leads, with everything in the database that leads back to them.

One way for retention and for requests. When somebody is due belongs to ``retention``, who asked to
be forgotten to ``subjects``; files belong to their stores.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

from gatte_pipelines.database.statements import read_statements
from gatte_pipelines.phones import anonymised_placeholder

if TYPE_CHECKING:
    import psycopg

_SQL = read_statements(Path(__file__).with_name("people.sql"))

# In this order: what says which senders and keys are theirs is read before it goes.
_FORGET = (
    "find_leaving_keys",
    "find_leaving_senders",
    "spare_shared_senders",
    "forget_senders_of_messages",
    "insert_blank_sender",
    "forget_senders_of_events",
    "forget_senders_of_opt_outs",
    "delete_senders",
    "delete_identity_changes",
    "delete_identities",
    "delete_undo_records",
)
# What became part of these leads goes with them: the ids of both.
_FORGET_LEADS = ("delete_links", "delete_intents", "delete_conflicts", "delete_lead_undo_records")
_CLEAR = {
    "delete_contexts": "session_context",
    "clear_messages": "messages",
    "clear_reactions": "message_reactions",
    "clear_buttons": "button_replies",
    "clear_changes": "message_changes",
    "close_conversations": "conversations",
    "clear_appointments": "appointments",
    "clear_services": "services",
}


@dataclass(frozen=True, kw_only=True)
class PeopleCounts:
    """What an anonymisation changed: rows by table, and the leads that went with their users."""

    users: int
    leads: int
    rows: dict[str, int]
    lead_ids: tuple[UUID, ...]


def anonymize_users(
    cursor: psycopg.Cursor[Any], user_ids: Sequence[UUID], *, rule: str
) -> PeopleCounts:
    """Anonymise users and the leads linked to them; their UUIDs and tickets stay as they are.

    Args:
        cursor: In a transaction that holds the exclusive client lock and has ``gatte.as_of`` set.
            Without the lock a loader that already knows the number would write to the row.
        user_ids: ``users.id``; who is anonymised already stays as it is.
        rule: What ``pipeline.anonymized_rows`` says it was done for.

    Returns:
        The rows changed by table; 0 where there was nothing.
    """
    users = sorted(set(user_ids))
    parameters = {"users": users, "rule": rule}
    cursor.execute(_SQL["create_leaving"])
    cursor.execute(_SQL["lock_users"], parameters)
    lead_ids = find_linked_leads(cursor, users)
    leads = anonymize_leads(cursor, lead_ids, rule=rule)
    for name in _FORGET:
        cursor.execute(_SQL[name], parameters)
    rows = {}
    for name, table in _CLEAR.items():
        cursor.execute(_SQL[name], parameters)
        rows[table] = cursor.rowcount
    cursor.execute(_SQL["anonymize_users"], parameters | {"phones": _placeholders(users)})
    changed = cursor.rowcount
    cursor.execute(_SQL["note_anonymized_users"], parameters)
    return PeopleCounts(users=changed, leads=leads, rows=rows, lead_ids=tuple(lead_ids))


def anonymize_leads(cursor: psycopg.Cursor[Any], lead_ids: Sequence[UUID], *, rule: str) -> int:
    """Anonymise leads; how many. What a sync remembers of them goes, and of leads merged into them.

    Args:
        cursor: In a transaction that has ``gatte.as_of`` set. A sync that writes of a lead locks
            its row first and asks whether it is anonymised, so that nothing comes back afterwards.
        lead_ids: ``leads.id``; what is anonymised already stays as it is.
        rule: What ``pipeline.anonymized_rows`` says it was done for.
    """
    leads = sorted(set(lead_ids))
    if not leads:
        return 0
    parameters = {"leads": leads, "rule": rule}
    cursor.execute(_SQL["lock_leads"], parameters)
    known = {"leads": [*leads, *find_merged_leads(cursor, leads)]}
    cursor.execute(_SQL["keep_requests"], parameters)
    for name in _FORGET_LEADS:
        cursor.execute(_SQL[name], known)
    cursor.execute(_SQL["anonymize_leads"], parameters | {"phones": _placeholders(leads)})
    changed = cursor.rowcount
    cursor.execute(_SQL["note_anonymized_leads"], parameters)
    return changed


def find_linked_leads(cursor: psycopg.Cursor[Any], user_ids: Sequence[UUID]) -> list[UUID]:
    """The leads of these users, by ``leads.user_id``."""
    cursor.execute(_SQL["find_linked_leads"], {"users": list(user_ids)})
    return [row[0] for row in cursor.fetchall()]


def find_merged_leads(cursor: psycopg.Cursor[Any], lead_ids: Sequence[UUID]) -> list[UUID]:
    """Leads that became part of one of these, whose rows are gone."""
    cursor.execute(_SQL["find_merged_leads"], {"leads": list(lead_ids)})
    return [row[0] for row in cursor.fetchall()]


def read_old_values(
    cursor: psycopg.Cursor[Any], user_ids: Sequence[UUID], lead_ids: Sequence[UUID]
) -> list[str]:
    """What is written of these people now and must be gone afterwards. Personal: never to be told.

    Numbers come without "+", so that any form of writing holds them.
    """
    cursor.execute(_SQL["read_old_values"], {"users": list(user_ids), "leads": list(lead_ids)})
    return [row[0] for row in cursor.fetchall()]


def probe_old_values(
    cursor: psycopg.Cursor[Any],
    values: Sequence[str],
    user_ids: Sequence[UUID],
    lead_ids: Sequence[UUID],
) -> list[str]:
    """The tables in which one of these values still stands in a row of these people.

    Args:
        cursor: In the transaction that anonymised them.
        values: What ``read_old_values`` gave before.
        user_ids: ``users.id``.
        lead_ids: ``leads.id``, linked or not.

    Returns:
        Names of tables, never a value; empty is the proof.
    """
    if not values:
        return []
    cursor.execute(
        _SQL["probe_old_values"],
        {"values": list(values), "users": list(user_ids), "leads": list(lead_ids)},
    )
    return [row[0] for row in cursor.fetchall()]


def _placeholders(ids: Sequence[UUID]) -> list[str]:
    return [anonymised_placeholder() for _ in ids]
