"""What decision 0006 says, said a second time: from the set of records to the expected rows.

Naive and quadratic on purpose, and apart from the loader: of its code only ``phone_key`` is used.
Instants are microseconds since 1970, as in the units. Ids are whatever ``id_of`` makes of keys, or
of records that are known by all that they say, since rules that end with "then id" need the
loader's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from itertools import pairwise

from gatte_pipelines.phones import phone_key

DAY = 86_400_000_000
RETENTION = 90 * DAY
# Within one instant the client comes before whoever answers (design, section 2).
ROLES = ("user", "assistant", "system")
PLACEHOLDER = "~b"


@dataclass(frozen=True)
class Who:
    """The client's side of a record.

    ``phone`` is a form that WhatsApp delivers to where ``is_wa_id``.
    """

    phone: str = ""
    bsuid: str = ""
    parent_bsuid: str = ""
    name: str = ""
    is_wa_id: bool = True


@dataclass(frozen=True)
class Told:
    """The chatbot's part of a message."""

    tokens_used: int | None = None
    intent_detected: str | None = None
    author: str | None = None
    model: str | None = None
    mode: str | None = None
    current_flow: str | None = None


@dataclass(frozen=True)
class Said:
    """One record of a message; ``told`` is set where the chatbot is the witness."""

    key: str
    at: int
    who: Who
    role: str
    content: str
    author: str
    told: Told | None = None
    choice_key: str | None = None
    """Set where the text is SAIR or PARAR: what the id of the choice is minted of."""


@dataclass(frozen=True)
class Changed:
    """An edit, or with ``content`` None a revoke."""

    key: str
    at: int
    target: str
    content: str | None


@dataclass(frozen=True)
class Reacted:
    """A reaction; without ``emoji`` its removal."""

    key: str
    at: int
    target: str
    emoji: str | None


@dataclass(frozen=True)
class Moved:
    """One client under another number (``moves_number``) or user id."""

    key: str
    at: int
    old: Who
    new: Who
    moves_number: bool


@dataclass(frozen=True)
class Chose:
    """A choice about our messages."""

    key: str
    at: int
    who: Who
    category: str
    is_opted_out: bool


@dataclass(frozen=True)
class Stood:
    """How a conversation stands, by the chatbot."""

    key: str
    at: int
    who: Who
    status: str
    transferred_to: str | None = None


Record = Said | Changed | Reacted | Moved | Chose | Stood
IdOf = Callable[[str | Changed | Stood], str]


@dataclass(frozen=True)
class Message:
    """A row of ``messages`` with its author.

    Of ``told`` only tokens, intent and model: the rest is the author's, the conversation's and
    the client's matter.
    """

    created_at: int
    role: str
    content: str
    author: str
    told: Told = field(default_factory=Told)


@dataclass(frozen=True)
class Conversation:
    """A row of ``conversations`` with the ids of its messages."""

    messages: frozenset[str]
    started_at: int
    closed_at: int | None
    status: str
    transferred_to: str | None
    mode: str
    current_flow: str | None


@dataclass(frozen=True)
class Client:
    """A user: ``choices`` are the current ones, (category, is opted out)."""

    phone: str
    name: str | None
    created_at: int
    conversations: tuple[Conversation, ...]
    events: frozenset[str]
    choices: frozenset[tuple[str, bool]]


@dataclass(frozen=True)
class World:
    """All that the records mean."""

    clients: frozenset[Client]
    messages: dict[str, Message]
    reactions: dict[str, str | None]
    """The emoji that stands on a message; None where it was taken back."""


@dataclass(frozen=True)
class _Believed:
    """A message after all witnesses were heard; ``said`` is the record that counts.

    ``heard`` is the chatbot's, which tells of a client of its own where it names another.
    """

    said: Said
    author: str
    heard: Said | None
    is_echo: bool

    @property
    def told(self) -> Told | None:
        return None if self.heard is None else self.heard.told


class _Parts:
    """Connected parts of a graph, by merging sets."""

    def __init__(self) -> None:
        self._part: dict[object, set[object]] = {}

    def join(self, nodes: Iterable[object]) -> None:
        whole: set[object] = set()
        for node in nodes:
            whole |= self._part.get(node, {node})
        for node in whole:
            self._part[node] = whole

    def of(self, node: object) -> frozenset[object]:
        return frozenset(self._part.get(node, {node}))


def world(records: Iterable[Record], *, as_of: int, idle: int, id_of: IdOf) -> World:
    """What the set of records means.

    Args:
        records: In any order, any number of times.
        as_of: The clock, in microseconds.
        idle: A longer silence ends a conversation, in microseconds.
        id_of: From the key of a record to its id; changes and events are known by all they say.
    """
    kept = [record for record in set(records) if record.at >= as_of - RETENTION]
    said = [record for record in kept if isinstance(record, Said)]
    moves = [record for record in kept if isinstance(record, Moved)]
    stood = [record for record in kept if isinstance(record, Stood)]
    believed = {
        key: _believe([record for record in said if record.key == key])
        for key in {record.key for record in said}
    }
    chose = [record for record in kept if isinstance(record, Chose)] + [
        Chose(m.said.choice_key, m.said.at, m.said.who, "all", is_opted_out=True)
        for m in believed.values()
        if m.said.choice_key is not None
    ]
    changes = [record for record in kept if isinstance(record, Changed)]
    cuts = _cuts(moves)
    seen: list[Said | Chose | Stood] = [m.said for m in believed.values()]
    seen += [m.heard for m in believed.values() if m.heard is not None]
    seen += [*chose, *stood]
    parts = _connect(seen, moves, cuts)
    clients = frozenset(
        _client(part, believed, moves, [r for r in seen if r in part], cuts, as_of, idle, id_of)
        for part in {parts.of(record) for record in seen}
    )
    return World(
        clients,
        {
            id_of(key): Message(
                m.said.at,
                m.said.role,
                _content(m.said, changes, id_of),
                m.author,
                replace(m.told or Told(), author=None, mode=None, current_flow=None),
            )
            for key, m in believed.items()
        },
        _reactions([record for record in kept if isinstance(record, Reacted)], id_of),
    )


def _believe(records: list[Said]) -> _Believed:
    """The provider first; of one witness the least in (time, role, content)."""
    provider = [record for record in records if record.told is None]
    chatbot = [record for record in records if record.told is not None]
    chosen = min(provider or chatbot, key=lambda r: (r.at, r.role, r.content))
    heard = min(chatbot, key=lambda r: (r.at, _told_order(r.told))) if chatbot else None
    if provider:
        return _Believed(chosen, chosen.author, heard, is_echo=chosen.author == "human")
    author = heard.told.author if heard and heard.told else None
    return _Believed(chosen, author or chosen.author, heard, is_echo=False)


def _told_order(told: Told | None) -> tuple[tuple[bool, int, str], ...]:
    """What is not told comes last."""
    tokens = None if told is None else told.tokens_used
    texts = () if told is None else (told.intent_detected, told.model, told.current_flow)
    texts += () if told is None else (told.mode, told.author)
    return ((tokens is None, tokens or 0, ""), *((text is None, 0, text or "") for text in texts))


def _cuts(moves: list[Moved]) -> dict[str, set[int]]:
    """By phone key, the instants after which it may be another client's."""
    cuts: dict[str, set[int]] = {}
    for move in moves:
        if move.moves_number:
            for who in (move.old, move.new):
                if who.phone:
                    cuts.setdefault(phone_key(who.phone), set()).add(move.at)
    return cuts


def _time_of_phone(
    phone: str, at: int, cuts: dict[str, set[int]], *, after: bool = False
) -> object:
    """The node of a phone at an instant: between two cuts, the instant of a cut before it."""
    key = phone_key(phone)
    passed = [cut for cut in cuts.get(key, ()) if cut < at or (after and cut == at)]
    return ("phone", key, len(passed))


def _nodes(who: Who, at: int, cuts: dict[str, set[int]], *, after: bool = False) -> list[object]:
    nodes: list[object] = []
    if who.phone:
        nodes.append(_time_of_phone(who.phone, at, cuts, after=after))
    if who.bsuid:
        nodes.append(("bsuid", who.bsuid))
    if who.parent_bsuid:
        nodes.append(("parent_bsuid", who.parent_bsuid))
    return nodes


def _connect(
    records: list[Said | Chose | Stood], moves: list[Moved], cuts: dict[str, set[int]]
) -> _Parts:
    parts = _Parts()
    for record in records:
        parts.join([record, *_nodes(record.who, record.at, cuts)])
    for move in moves:
        parts.join(
            [
                move,
                *_nodes(move.old, move.at, cuts),
                *_nodes(move.new, move.at, cuts, after=move.moves_number),
            ]
        )
    return parts


def _client(
    part: frozenset[object],
    believed: dict[str, _Believed],
    all_moves: list[Moved],
    seen: list[Said | Chose | Stood],
    cuts: dict[str, set[int]],
    as_of: int,
    idle: int,
    id_of: IdOf,
) -> Client:
    messages = [m for m in believed.values() if m.said in part]
    stood = [record for record in seen if isinstance(record, Stood)]
    named = [m.said for m in messages if m.said.told is None and m.said.who.name]
    newest: dict[str, Chose] = {}
    chose = [record for record in seen if isinstance(record, Chose)]
    for choice in sorted(chose, key=lambda c: (c.at, id_of(c.key))):
        newest[choice.category] = choice
    return Client(
        phone=_phone(seen, [move for move in all_moves if move in part], cuts, id_of),
        name=max(named, key=lambda r: (r.at, id_of(r.key))).who.name if named else None,
        created_at=min(record.at for record in seen),
        conversations=tuple(_conversations(messages, stood, as_of, idle, id_of)),
        events=frozenset(id_of(event) for event in stood),
        choices=frozenset((name, choice.is_opted_out) for name, choice in newest.items()),
    )


def _phone(
    seen: list[Said | Chose | Stood],
    moves: list[Moved],
    cuts: dict[str, set[int]],
    id_of: IdOf,
) -> str:
    """The last form of a message or number change, of a number that is still this client's.

    Where there is none, the least number that anybody else told.
    """
    forms, numbers = [], []
    for record in seen:
        phone = record.who.phone
        if not phone or _is_over(phone, record.at, cuts):
            continue
        numbers.append(phone_key(phone))
        if isinstance(record, Said) and record.who.is_wa_id:
            forms.append(((record.at, 0, id_of(record.key)), phone))
    for move in moves:
        phone = move.new.phone
        if not phone or _is_over(phone, move.at, cuts, after=move.moves_number):
            continue
        numbers.append(phone_key(phone))
        if move.moves_number:
            forms.append(((move.at, 1, ""), phone))
    if forms:
        return "+" + max(forms)[1]
    return "+" + min(numbers) if numbers else PLACEHOLDER


def _is_over(phone: str, at: int, cuts: dict[str, set[int]], *, after: bool = False) -> bool:
    last = max(cuts.get(phone_key(phone), {0}))
    return last > at or (last == at and not after)


def _conversations(
    messages: list[_Believed],
    events: list[Stood],
    as_of: int,
    idle: int,
    id_of: IdOf,
) -> Iterable[Conversation]:
    closes = [event.at for event in events if event.status == "closed"]
    line = sorted(messages, key=lambda m: (m.said.at, ROLES.index(m.said.role), id_of(m.said.key)))
    stretches: list[list[_Believed]] = []
    for message in line:
        before = stretches[-1][-1].said.at if stretches else None
        if (
            before is None
            or message.said.at - before > idle
            or any(before <= close < message.said.at for close in closes)
        ):
            stretches.append([])
        stretches[-1].append(message)
    ends: list[int | None] = [later[0].said.at for _, later in pairwise(stretches)]
    for stretch, end in zip(stretches, [*ends, None], strict=False):
        began, last = stretch[0].said.at, stretch[-1].said.at
        within = sorted(
            (event for event in events if event.at >= began and (end is None or event.at < end)),
            key=lambda event: (event.at, id_of(event)),
        )
        status = "closed"
        if end is None:
            status = within[-1].status if within else "open"
            if status == "open" and last + idle < as_of:
                status = "closed"
        transfers = [event for event in within if event.status == "transferred"]
        modes = [
            ("human", None) if m.is_echo else (m.told.mode, m.told.current_flow)
            for m in stretch
            if m.is_echo or (m.told is not None and m.told.mode is not None)
        ]
        mode, flow = modes[-1] if modes else ("menu", None)
        yield Conversation(
            messages=frozenset(id_of(m.said.key) for m in stretch),
            started_at=began,
            closed_at=last if status == "closed" else None,
            status=status,
            transferred_to=transfers[-1].transferred_to if transfers else None,
            mode=mode or "menu",
            current_flow=flow,
        )


def _content(said: Said, changes: list[Changed], id_of: IdOf) -> str:
    """An edit of an edit is one of the first message; a revoke beats every edit."""
    reached = {said.key}
    for _ in changes:
        reached |= {change.key for change in changes if change.target in reached}
    mine = [change for change in changes if change.target in reached]
    if any(change.content is None for change in mine):
        return ""
    if not mine:
        return said.content
    last = max(mine, key=lambda change: (change.at, id_of(change)))
    return last.content or ""


def _reactions(records: list[Reacted], id_of: IdOf) -> dict[str, str | None]:
    found: dict[str, str | None] = {}
    for record in sorted(records, key=lambda r: (r.at, id_of(r.key))):
        found[id_of(record.target)] = record.emoji
    return found


def shifted(record: Record, by: int) -> Record:
    """The same record at another instant."""
    return replace(record, at=record.at + by)
