"""Webhooks of Pipedrive in the landing zone: of them only merges are read.

Every other change is told by the lists, whether its webhook came or not. What was read is removed:
an event holds a person's data, and nobody needs it again.
Source: Pipedrive, "Guide for webhooks v2", as of 2026-07-28.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec

from gatte_pipelines.crm.company import SYSTEM
from gatte_pipelines.crm.joining import Entity, Merge

if TYPE_CHECKING:
    from gatte_pipelines.landing import LandingZone

# A record with all its custom fields has some kilobytes.
MAX_BYTES = 1 << 20


class _Meta(msgspec.Struct):
    action: str = ""
    entity: str = ""
    entity_id: str | int = ""
    merged_to_id: str | int | None = None


class _Event(msgspec.Struct):
    meta: _Meta


_decoder = msgspec.json.Decoder(_Event)


@dataclass(kw_only=True)
class Events:
    """What webhooks told.

    Attributes:
        merges: In the order of their files' names.
        paths: Of all that was read, to be removed once it is carried over.
        unreadable: How many are no events.
    """

    merges: list[Merge] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    unreadable: int = 0


def parse_merge(content: bytes) -> Merge | None:
    """The merge that an event tells of; None for any other event.

    Raises:
        msgspec.MsgspecError: It is not an event.
        ValueError: Its ids are no numbers.
    """
    meta = _decoder.decode(content).meta
    if meta.action != "delete" or meta.merged_to_id is None or meta.entity not in set(Entity):
        return None
    return Merge(
        entity=Entity(meta.entity), lost_id=int(meta.entity_id), kept_id=int(meta.merged_to_id)
    )


def read_events(zone: LandingZone) -> Events:
    """Read all webhooks that wait in the landing zone.

    Raises:
        ConfigurationError: The zone cannot be listed.
    """
    events = Events()
    for file in zone.list_webhooks(SYSTEM):
        events.paths.append(file.path)
        if file.size_bytes > MAX_BYTES:
            events.unreadable += 1
            continue
        try:
            merge = parse_merge(zone.read(file))
        except FileNotFoundError:
            continue  # an erasure removed it since it was listed
        except (msgspec.MsgspecError, ValueError, RecursionError):
            events.unreadable += 1
            continue
        if merge is not None:
            events.merges.append(merge)
    return events
