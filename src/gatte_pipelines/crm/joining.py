"""Persons and organizations that were merged in Pipedrive, and the leads of ours that follow.

A merge is told by a webhook, or shown by a person that vanished while its lead now has another one.
How two leads become one row belongs to ``merging``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID

from gatte_pipelines.crm.merging import merge_leads
from gatte_pipelines.crm.session import Session


class Entity(StrEnum):
    """What can be merged there."""

    PERSON = "person"
    ORGANIZATION = "organization"
    DEAL = "deal"


@dataclass(frozen=True, kw_only=True)
class Merge:
    """One record there that became part of another.

    Attributes:
        entity: Of which kind.
        lost_id: The id that vanished.
        kept_id: The one that it became part of.
    """

    entity: Entity
    lost_id: int
    kept_id: int


def final_merges(merges: Iterable[Merge]) -> list[Merge]:
    """Merges with the record that is there now: what was merged twice went on.

    A circle, which no real sequence makes, is left out.
    """
    into: dict[tuple[Entity, int], int] = {}
    for merge in merges:
        into[merge.entity, merge.lost_id] = merge.kept_id
    found: list[Merge] = []
    for (entity, lost_id), kept_id in into.items():
        seen, last = {lost_id}, kept_id
        while (entity, last) in into and last not in seen:
            seen.add(last)
            last = into[entity, last]
        if last not in seen:
            found.append(Merge(entity=entity, lost_id=lost_id, kept_id=last))
    return found


def plan_joins(session: Session, merges: Sequence[Merge]) -> list[UUID]:
    """The leads of ours whose rows would go."""
    persons = [merge for merge in merges if merge.entity is Entity.PERSON]
    return [removed for merge in persons for _, removed in _pairs(session, merge)]


def follow(session: Session, merge: Merge) -> int:
    """Let the leads of ours follow one merge; how many rows became part of another."""
    if merge.entity is Entity.ORGANIZATION:
        with session.links.transaction() as cursor:
            session.links.repoint_organization(cursor, merge.lost_id, merge.kept_id)
        return 0
    if merge.entity is Entity.DEAL:
        with session.links.transaction() as cursor:
            session.links.repoint_deal(cursor, merge.lost_id, merge.kept_id)
        return 0
    joined = 0
    apart: list[UUID] = []
    for kept, removed in _pairs(session, merge):
        # Its first lock is that of clients, so it stands first in its transaction.
        with session.links.transaction() as cursor:
            is_joined = merge_leads(
                cursor, kept=kept, removed=removed, run_id=session.run_id, at=session.clock()
            )
            if is_joined:
                joined += 1
                session.note_done(cursor, "join", removed)
            else:
                apart.append(removed)
    # Last: a run that is killed before it finds the same pairs again.
    with session.links.transaction() as cursor:
        session.links.repoint_person(cursor, merge.lost_id, merge.kept_id)
        for lead_id in apart:
            session.note_done(cursor, "join", lead_id)
    return joined


def _pairs(session: Session, merge: Merge) -> list[tuple[UUID, UUID]]:
    """Which lead stays and which goes: the earliest of all stays, and those of the other person go.

    Several leads that one person had already are several opportunities, and stay several.
    """
    links = session.links
    with links.transaction() as cursor:
        ones = links.open_leads_of_person(cursor, merge.kept_id)
        others = links.open_leads_of_person(cursor, merge.lost_id)
        known = links.read(cursor, [*ones, *others])
    if not ones or not others:
        return []
    kept = min(known, key=lambda lead_id: (known[lead_id].local.created_at, lead_id))
    return [(kept, removed) for removed in (others if kept in ones else ones)]
