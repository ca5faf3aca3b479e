"""Who is whom: senders, number changes and claims in, clients out (decision 0006).

Pure; reading and writing belong to ``clients``. A client is a connected part of a graph. Its nodes
are senders and identities, each phone cut into parts at the instants at which it changed hands; a
sender of a cut phone is cut with it. All instants are microseconds since 1970.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple
from uuid import UUID

ALWAYS_FROM, ALWAYS_TO = -1, 2**63 - 1


class SenderNode(NamedTuple):
    """A row of ``pipeline.senders``; '' where it says nothing."""

    sender_id: int
    phone_key: str
    wa_id: str
    bsuid: str
    parent_bsuid: str


class NumberChange(NamedTuple):
    """A row of ``pipeline.identity_changes``."""

    changed_us: int
    moves_number: bool
    old_phone_key: str
    old_bsuid: str
    old_parent_bsuid: str
    new_phone_key: str
    new_wa_id: str
    new_bsuid: str
    new_parent_bsuid: str
    change_id: UUID | None = None
    is_settled: bool = False


class Seen(NamedTuple):
    """A sender was active within a part of its phone.

    Attributes:
        sender_id: Which.
        part: Number of cuts before.
        first_us: Earliest record in it.
        user_id: Whose it is in the database; None for records that are being loaded.
    """

    sender_id: int
    part: int
    first_us: int
    user_id: UUID | None


class Claim(NamedTuple):
    """A user is known by an identity, or by ``users.phone`` (then ``since_us`` is the latest)."""

    user_id: UUID
    kind: str
    value: str
    since_us: int
    until_us: int | None = None


class KnownUser(NamedTuple):
    """What decides which of several users stays."""

    user_id: UUID
    is_client: bool
    filled: int
    created_us: int


class Identity(NamedTuple):
    """A row of ``pipeline.user_identities`` to be; ``to_us`` None: still valid."""

    kind: str
    value: str
    from_us: int
    to_us: int | None


class Held(NamedTuple):
    """A sender belongs to a client after ``from_us``, until ``to_us`` inclusive."""

    sender_id: int
    from_us: int
    to_us: int


@dataclass
class Client:
    """One client.

    Attributes:
        user_id: The user that stays; None where there is none yet.
        merged: Users that become part of it.
        first_us: Earliest record.
        identities: How it is known.
        senders: What belongs to it.
        phones: (instant, wa_id) of its number changes.
        former: Users who hold some of it in the database.
        changes: The number changes that tell of it.
    """

    user_id: UUID | None = None
    merged: list[UUID] = field(default_factory=list)
    first_us: int = ALWAYS_TO
    identities: list[Identity] = field(default_factory=list)
    senders: list[Held] = field(default_factory=list)
    phones: list[tuple[int, str]] = field(default_factory=list)
    former: set[UUID] = field(default_factory=set)
    changes: set[UUID] = field(default_factory=set)


def find_cuts(changes: Iterable[NumberChange]) -> dict[str, list[int]]:
    """The instants at which each phone changed hands, by phone key, in order."""
    cuts: dict[str, set[int]] = defaultdict(set)
    for change in changes:
        if change.moves_number:
            for key in (change.old_phone_key, change.new_phone_key):
                if key:
                    cuts[key].add(change.changed_us)
    return {key: sorted(instants) for key, instants in cuts.items()}


_Label = tuple[str, str, int]


class _Graph:
    """Labels joined into parts (union by hand: no library for ten lines of union-find)."""

    def __init__(self) -> None:
        self._parent: dict[_Label, _Label] = {}

    def find(self, label: _Label) -> _Label:
        parent = self._parent.setdefault(label, label)
        while parent != self._parent[parent]:
            self._parent[parent] = self._parent[self._parent[parent]]
            parent = self._parent[parent]
        self._parent[label] = parent
        return parent

    def join(self, labels: Sequence[_Label]) -> None:
        for label in labels[1:]:
            self._parent[self.find(label)] = self.find(labels[0])


def divide(
    senders: Iterable[SenderNode],
    changes: Iterable[NumberChange],
    seen: Iterable[Seen],
    claims: Iterable[Claim],
    users: Iterable[KnownUser],
) -> list[Client]:
    """Divide what belongs together into clients, and say which users they are.

    Args:
        senders: All that share an identity with one another, directly or through others.
        changes: All number changes of their identities.
        seen: When they were active; a sender never seen is nobody.
        claims: The users who are known by these identities now.
        users: These users; a claim of any other one counts for nothing.

    Returns:
        The clients that were seen or are claimed. Each user stays with the client that has its
        earliest record, else its earliest identity; where several do, the one the chatbot knows
        most of stays.
    """
    changes = list(changes)
    cuts = find_cuts(changes)
    graph = _Graph()
    first: dict[_Label, int] = {}
    nodes = {sender.sender_id: sender for sender in senders}

    def meet(labels: Sequence[_Label], at_us: int) -> None:
        graph.join(labels)
        for label in labels:
            first[label] = min(at_us, first.get(label, ALWAYS_TO))

    seen = list(seen)
    wa_ids: dict[tuple[str, int], dict[str, int]] = defaultdict(dict)
    for record in seen:
        node = nodes[record.sender_id]
        labels = [("sender", str(record.sender_id), record.part), *_labels(node, record.part)]
        meet(labels, record.first_us)
        if node.wa_id:
            _note_first(wa_ids[node.phone_key, record.part], node.wa_id, record.first_us)
    said = dict(first)  # without the number changes: they alone are nobody's record
    told: list[tuple[NumberChange, _Label]] = []
    for change in changes:
        at_us, moves = change.changed_us, change.moves_number
        old_part = bisect_left(cuts.get(change.old_phone_key, ()), at_us)
        find = bisect_right if moves else bisect_left
        new_part = find(cuts.get(change.new_phone_key, ()), at_us)
        old = SenderNode(0, change.old_phone_key, "", change.old_bsuid, change.old_parent_bsuid)
        new = SenderNode(
            0, change.new_phone_key, change.new_wa_id, change.new_bsuid, change.new_parent_bsuid
        )
        labels = [*_labels(old, old_part), *_labels(new, new_part)]
        if not labels:
            continue
        meet(labels, at_us)
        told.append((change, labels[0]))
        if change.new_wa_id:
            _note_first(wa_ids[change.new_phone_key, new_part], change.new_wa_id, at_us)
    taken_in = find_cuts(change for change in changes if change.is_settled)
    claims_of: dict[UUID, list[tuple[int, str, str, _Label]]] = defaultdict(list)
    known = {user.user_id: user for user in users}
    for claim in claims:
        if claim.user_id in known:
            part = 0
            if claim.kind == "phone_key":
                # What begins at a cut that was known when it was written begins after it, unless
                # it ends there too.
                is_after = claim.until_us != claim.since_us and claim.since_us in taken_in.get(
                    claim.value, ()
                )
                find = bisect_right if is_after else bisect_left
                part = find(cuts.get(claim.value, ()), claim.since_us)
            label = (claim.kind, claim.value, part)
            graph.find(label)
            claims_of[claim.user_id].append((claim.since_us, claim.kind, claim.value, label))

    clients: dict[_Label, Client] = defaultdict(Client)
    for record in seen:
        client = clients[graph.find(("sender", str(record.sender_id), record.part))]
        instants = cuts.get(nodes[record.sender_id].phone_key, [])
        held = Held(
            record.sender_id,
            instants[record.part - 1] if record.part else ALWAYS_FROM,
            instants[record.part] if record.part < len(instants) else ALWAYS_TO,
        )
        if held not in client.senders:
            client.senders.append(held)
        if record.user_id is not None:
            client.former.add(record.user_id)
    # Who has records belongs where the earliest of them are. One whose user is not known is theirs
    # who claim its identity. Only who has none is known by claims: they begin with number changes
    # too, of a time that a later found change may give to somebody else, or to nobody.
    records_of: dict[UUID, list[tuple[int, str, str, _Label]]] = defaultdict(list)
    for record in seen:
        if record.user_id in claims_of:
            label = ("sender", str(record.sender_id), record.part)
            records_of[record.user_id].append((record.first_us, "", "", label))
    written = {graph.find(label) for label in first if label[0] == "sender"}
    homes: dict[_Label, list[KnownUser]] = defaultdict(list)
    for user_id, theirs in claims_of.items():
        alive = [claim for claim in theirs if graph.find(claim[3]) in written]
        heard = [(said[claim[3]], *claim[1:]) for claim in theirs if claim[3] in said]
        home = graph.find(min([*records_of[user_id], *heard] or alive or theirs)[3])
        homes[home].append(known[user_id])
        clients[home].former.add(user_id)
    for root, here in homes.items():
        here.sort(key=_who_stays)
        clients[root].user_id = here[0].user_id
        clients[root].merged = [user.user_id for user in here[1:]]
    _name_identities(graph, first, wa_ids, cuts, clients)
    for change, label in told:
        told_of = clients.get(graph.find(label))
        if told_of is not None:
            if change.change_id is not None:
                told_of.changes.add(change.change_id)
            if change.new_wa_id and change.moves_number:
                told_of.phones.append((change.changed_us, change.new_wa_id))
    return list(clients.values())


def _name_identities(
    graph: _Graph,
    first: dict[_Label, int],
    wa_ids: dict[tuple[str, int], dict[str, int]],
    cuts: dict[str, list[int]],
    clients: dict[_Label, Client],
) -> None:
    for label, from_us in sorted(first.items()):
        client = clients.get(graph.find(label))
        if client is None:
            continue  # a number change of somebody who never wrote
        kind, value, part = label
        if kind == "sender":
            client.first_us = min(client.first_us, from_us)
            continue
        to_us = None
        if kind == "phone_key":
            instants = cuts.get(value, [])
            to_us = instants[part] if part < len(instants) else None
            client.identities += [
                Identity("wa_id", wa_id, at_us, to_us)
                for wa_id, at_us in sorted(wa_ids.get((value, part), {}).items())
            ]
        client.identities.append(Identity(kind, value, from_us, to_us))


def _labels(node: SenderNode, part: int) -> list[_Label]:
    labels = []
    if node.phone_key:
        labels.append(("phone_key", node.phone_key, part))
    if node.bsuid:
        labels.append(("bsuid", node.bsuid, 0))
    if node.parent_bsuid:
        labels.append(("parent_bsuid", node.parent_bsuid, 0))
    return labels


def _note_first(known: dict[str, int], value: str, at_us: int) -> None:
    known[value] = min(at_us, known.get(value, ALWAYS_TO))


def _who_stays(user: KnownUser) -> tuple[bool, int, int, UUID]:
    """The user the chatbot knows most of comes first, then the earlier."""
    return (not user.is_client, -user.filled, user.created_us, user.user_id)
