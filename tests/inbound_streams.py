"""Streams of inbound records and their deliveries, for properties; each unit says what it means.

Pools are small, so that clients, numbers and instants collide. How a stream is loaded and compared
belongs to the test.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import strategies as st

from gatte_pipelines.phones import phone_key
from tests import webhooks
from tests.inbound import HOUR, NOW
from tests.inbound_model import Changed, Chose, Moved, Reacted, Record, Said, Stood, Told, Who

SECOND = 1_000_000
DAY = 24 * HOUR
EVERYTHING_AT_ONCE = 100_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

# What a client is known by, message by message: each entry is (phone?, BSUID?). A phone and a
# BSUID that were both seen alone before one message joins them need the merge of two users.
KNOWN_BY = (
    ((True, False),),
    ((True, True),),
    ((False, True),),
    ((False, True), (True, True)),
    ((True, False), (True, True)),
    ((True, False), (False, True), (True, True)),
)
STAFF = ("Pessoa Exemplo", "Outra Pessoa")
TEXTS = ("Bom dia", "bom dia", "É isso", "sair", " PARAR ", "linha 1\nlinha 2\t\\ ✨", "Zero")
OPT_OUT_TEXTS = frozenset({"sair", " PARAR "})


@dataclass(frozen=True)
class Unit:
    """One unit of traffic; its bytes alone make it the same unit.

    Attributes:
        at: Seconds, only to sort by.
        text: A change of a notification, or a line of its own.
        is_line: Whether it is one (the chatbot's, and what is no JSON).
        records: What it means; nothing where it is skipped, rejected or not modelled.
    """

    at: float
    text: str
    is_line: bool = False
    records: tuple[Record, ...] = field(default=(), repr=False)


@dataclass(frozen=True)
class Delivery:
    """How a stream arrives: files of lines of numbers of units, and the size of a chunk."""

    files: list[list[list[int]]]
    chunk_units: int
    ends_with_newline: bool
    is_compressed: bool


@dataclass(frozen=True)
class Stream:
    """What was sent, how it arrives, and the silence that ends a conversation."""

    units: list[Unit]
    delivery: Delivery
    idle_hours: int

    @property
    def records(self) -> list[Record]:
        """All that the units mean."""
        return [record for unit in self.units for record in unit.records]

    @property
    def has_disputed_roles(self) -> bool:
        """Whether records of one message say otherwise who wrote it."""
        said = {(r.key, r.role) for r in self.records if isinstance(r, Said)}
        return len({key for key, _ in said}) < len(said)


@dataclass(frozen=True)
class _Setting:
    """What the units of one stream draw from."""

    idle: int
    instants: list[int]
    known_by: list[tuple[tuple[bool, bool], ...]]
    is_tangled: bool

    @property
    def clients(self) -> range:
        return range(len(self.known_by))


def of_change(at: int, change: dict[str, Any], *records: Record) -> Unit:
    """A unit of a webhook."""
    return Unit(at, json.dumps(change, ensure_ascii=False), False, records)


def of_line(at: int, line: bytes, *records: Record) -> Unit:
    """A unit that is a line; ``at`` in microseconds."""
    return Unit(at / SECOND, line.decode(), True, records)


def wamid(number: int | str) -> str:
    """The id of a message, an edit (``e1``) or another event."""
    return f"wamid.exemplo-{number}"


def wa_id(number: int, form: int = 1) -> str:
    """The fourth is a landline with one form, the others are mobiles with two."""
    if number == 3:
        return "551130000003"
    return ("55119" if form else "5511") + f"6000000{number}"


def bsuid(number: int) -> str:
    """The id of client ``number``; from 10 on those given after a change."""
    return f"BR.{number}"


def when(at: int) -> datetime:
    """The instant of so many microseconds."""
    return _EPOCH + timedelta(microseconds=at)


# --- Who ------------------------------------------------------------------------------------------


@st.composite
def _phone(draw: st.DrawFn, setting: _Setting, client: int) -> str:
    pool = [client, client, client, 3]
    if setting.is_tangled:
        pool += [*setting.clients]
    return wa_id(draw(st.sampled_from(pool)), draw(st.sampled_from([1, 1, 0])))


@st.composite
def _bsuid(draw: st.DrawFn, setting: _Setting, client: int) -> str:
    pool = [client, client, client, client + 10]
    if setting.is_tangled:
        pool += [*setting.clients]
    return bsuid(draw(st.sampled_from(pool)))


@st.composite
def _who(draw: st.DrawFn, setting: _Setting, client: int) -> Who:
    has_phone, has_bsuid = draw(st.sampled_from(setting.known_by[client]))
    return Who(
        phone=draw(_phone(setting, client)) if has_phone else "",
        bsuid=draw(_bsuid(setting, client)) if has_bsuid else "",
        parent_bsuid=draw(st.sampled_from(["", "", "", "BR.ENT.1"])) if has_bsuid else "",
    )


def _of_chatbot(who: Who) -> tuple[Who, dict[str, str]]:
    told = {"phone": f"+{who.phone}"} if who.phone else {}
    if who.bsuid:
        told["bsuid"] = who.bsuid
    return Who(phone=who.phone, bsuid=who.bsuid, is_wa_id=False), told


# --- Messages -------------------------------------------------------------------------------------


@st.composite
def _webhooks(draw: st.DrawFn, number: int, at: int, who: Who, *texts: str) -> list[Unit]:
    """A client's message by the provider; with several texts it comes again with another."""
    contact: dict[str, Any] = {}
    name = draw(st.sampled_from(["", "Cliente Exemplo", "Loja Exemplo", " "]))
    if name:
        contact["profile"] = {"name": name}
    more: dict[str, Any] = {}
    if who.phone:
        contact["wa_id"] = who.phone
    if who.bsuid:
        contact["user_id"] = who.bsuid
        if not (who.phone and draw(st.booleans())):  # else the contact alone tells it
            more["from_user_id"] = who.bsuid
    if who.parent_bsuid:
        more["from_parent_user_id"] = who.parent_bsuid
    key = f"wamid:{wamid(number)}"
    known_as = Who(who.phone, who.bsuid, who.parent_bsuid, name.strip())

    def unit(text: str) -> Unit:
        sender = who.phone or None
        message = webhooks.text_message(wamid(number), at, sender=sender, body=text, **more)
        choice_key = key if text in OPT_OUT_TEXTS else None
        said = Said(key, at * SECOND, known_as, "user", text, "client", choice_key=choice_key)
        return of_change(at, webhooks.change(message, contacts=[contact]), said)

    return [unit(text) for text in texts]


@st.composite
def _told_by_chatbot(
    draw: st.DrawFn, key: str, at: int, who: Who, role: str, text: str
) -> list[Unit]:
    """The chatbot's event of a message, sometimes with another that contradicts it."""
    fields: dict[str, Any] = {"role": role, "content": text}
    fields |= draw(
        st.sampled_from(
            [
                {},
                {"mode": "menu"},
                {"mode": "ai_free", "model": "modelo-1", "tokens_used": 9},
                {"mode": "flow", "current_flow": "ticket_flow", "intent_detected": "suporte"},
                {"mode": "human", "author": "human"},
                {"author": "campaign"},
            ]
        )
    )
    kind, _, value = key.partition(":")
    known_as, sender = _of_chatbot(who)
    sender |= {"wamid": value} if kind == "wamid" else {"external_id": value}

    def unit(fields: dict[str, Any]) -> Unit:
        told = {name: fields.get(name) for name in Told.__dataclass_fields__}
        author = fields.get("author") or ("client" if fields["role"] == "user" else "bot")
        opts_out = fields["role"] == "user" and fields["content"] in OPT_OUT_TEXTS
        said = Said(
            key,
            at,
            known_as,
            fields["role"],
            fields["content"],
            author,
            Told(**(told | {"author": author})),
            key if opts_out else None,
        )
        return of_line(at, webhooks.chatbot_message(when(at), **sender, **fields), said)

    units = [unit(fields)]
    if draw(st.sampled_from([False, False, True])):
        other = draw(
            st.sampled_from(
                [
                    {"content": "Outro texto"},
                    {"role": "assistant"},
                    {"tokens_used": 10},
                    {"mode": "ai_free", "current_flow": None},
                    {"intent_detected": "vendas"},
                ]
            )
        )
        units.append(unit(fields | other))
    return units


@st.composite
def _messages(draw: st.DrawFn, setting: _Setting, number: int) -> list[Unit]:
    """The records of one message: of one witness or both, once or contradicting."""
    client = draw(st.sampled_from(setting.clients))
    at = draw(st.sampled_from(setting.instants))
    # Past two thirds of a stream's messages would be opt-outs of short texts otherwise.
    text = draw(st.sampled_from([f"texto {number}", f"texto {number}", *TEXTS]))
    key = f"wamid:{wamid(number)}"
    kind = draw(
        st.sampled_from(["webhook", "webhook", "both", "chatbot", "own", "echo", "twice", "group"])
    )
    who = draw(_who(setting, client))
    clock = draw(st.sampled_from([0, 500_000, -500_000, 30 * SECOND, -30 * SECOND]))
    told_at = at * SECOND + clock
    if kind == "webhook":
        return draw(_webhooks(number, at, who, text))
    if kind == "both":
        heard = draw(st.sampled_from([text, text, "Ouvido de outro modo"]))
        role = draw(st.sampled_from(["user", "user", "assistant"]))
        return [
            *draw(_webhooks(number, at, who, text)),
            *draw(_told_by_chatbot(key, told_at, who, role, heard)),
        ]
    if kind == "chatbot":
        return draw(_told_by_chatbot(key, told_at, who, "assistant", text))
    if kind == "own":
        role = draw(st.sampled_from(["assistant", "user", "system"]))
        return draw(_told_by_chatbot(f"chatbot:{number}", told_at, who, role, text))
    if kind == "echo":
        to = draw(_phone(setting, client))
        echo = webhooks.echo(wamid(number), at, to=to, body=text)
        said = Said(key, at * SECOND, Who(phone=to, is_wa_id=False), "assistant", text, "human")
        units = [of_change(at, webhooks.echo_change(echo), said)]
        if draw(st.booleans()):
            units += draw(_told_by_chatbot(key, told_at, said.who, "assistant", text))
        return units
    if kind == "twice":
        # All that the provider may say otherwise (decision 0006).
        return draw(_webhooks(number, at, who, f"texto {number}", f"Texto {number}"))
    message = webhooks.text_message(wamid(number), at, sender=wa_id(client), group_id="g-1")
    return [of_change(at, webhooks.change(message))]


# --- What happens to messages and clients ---------------------------------------------------------


@st.composite
def _others(draw: st.DrawFn, setting: _Setting, number: int) -> Unit:
    reader = draw(st.sampled_from(_READERS))
    return draw(reader(setting, number))


@st.composite
def _changes(draw: st.DrawFn, setting: _Setting, number: int) -> Unit:
    """An edit or a revoke, of a message that may never come, or of another change."""
    at = draw(st.sampled_from(setting.instants))
    target = wamid(draw(st.sampled_from([0, 0, 1, 2, "e0", "e1", "e2"])))
    own = wamid(f"e{draw(st.sampled_from([number, number, 1]))}")  # at times one id says two things
    content = draw(st.sampled_from([f"editado {number}", f"Editado {number}", None, None]))
    if content is None:
        message = webhooks.revoke(own, at, target)
    else:
        message = webhooks.edit(own, at, target, content)
    record = Changed(f"wamid:{own}", at * SECOND, f"wamid:{target}", content)
    return of_change(at, webhooks.change(message), record)


@st.composite
def _reactions(draw: st.DrawFn, setting: _Setting, number: int) -> Unit:
    at = draw(st.sampled_from(setting.instants))
    target, own = wamid(draw(st.integers(0, 2))), wamid(f"r{number}")
    emoji = draw(st.sampled_from(["👍", "🎉", "", None]))
    record = Reacted(f"wamid:{own}", at * SECOND, f"wamid:{target}", emoji or None)
    return of_change(at, webhooks.change(webhooks.reaction(own, at, target, emoji)), record)


@st.composite
def _number_changes(draw: st.DrawFn, setting: _Setting, number: int) -> Unit:
    at = draw(st.sampled_from(setting.instants))
    client = draw(st.sampled_from(setting.clients))
    # A cycle now and then, a number of somebody else, or the other form of the same.
    old, new = draw(st.sampled_from([(client, 3), (3, client), (client, (client + 1) % 3)]))
    old, new = wa_id(old), wa_id(draw(st.sampled_from([new] * 7 + [old])), 0)
    ids = draw(
        st.sampled_from([(None, None), (None, None), (None, client + 10), (client, client + 10)])
    )
    old_bsuid, new_bsuid = (None if n is None else bsuid(n) for n in ids)
    own = wamid(f"n{number}")
    message = webhooks.number_change(own, at, old, new, old_bsuid=old_bsuid, new_bsuid=new_bsuid)
    record = Moved(
        f"identity:wamid:{own}",
        at * SECOND,
        Who(phone=old, bsuid=old_bsuid or ""),
        Who(phone=new, bsuid=new_bsuid or ""),
        # The other form of the same number was given up by nobody.
        moves_number=old[-8:] != new[-8:],
    )
    return of_change(at, webhooks.change(message), record)


@st.composite
def _id_updates(draw: st.DrawFn, setting: _Setting, number: int) -> Unit:
    at = draw(st.sampled_from(setting.instants))
    client = draw(st.sampled_from(setting.clients))
    old, new = bsuid(client), bsuid(client + 10)
    # The phone follows from what makes the key: two updates of one key say the same.
    phone = wa_id(client) if at % 2 else ""
    record = Moved(
        f"identity:user_id_update:{old}:{new}:{at}",
        at * SECOND,
        Who(bsuid=old),
        Who(phone=phone, bsuid=new),
        moves_number=False,
    )
    return of_change(at, webhooks.user_id_update(at, old, new, wa_id=phone or None), record)


@st.composite
def _preferences(draw: st.DrawFn, setting: _Setting, number: int) -> Unit:
    at = draw(st.sampled_from(setting.instants))
    client = draw(st.sampled_from(setting.clients))
    is_by_phone = draw(st.booleans())
    who = Who(phone=wa_id(client)) if is_by_phone else Who(bsuid=bsuid(client))
    value = draw(st.sampled_from(["stop", "resume"]))
    change = webhooks.user_preference(at, value, wa_id=who.phone or None, user_id=who.bsuid or None)
    key = f"user_preferences:{who.phone or who.bsuid}:marketing_messages:{at}:{value}"
    record = Chose(key, at * SECOND, who, "marketing_messages", value == "stop")
    return of_change(at, change, record)


@st.composite
def _conversation(draw: st.DrawFn, setting: _Setting, number: int) -> Unit:
    """How a conversation stands: often at the very instant of a message."""
    client = draw(st.sampled_from(setting.clients))
    clock = draw(st.sampled_from([0, 0, 0, 500_000, -500_000, SECOND, -SECOND]))
    at = draw(st.sampled_from(setting.instants)) * SECOND + clock
    status = draw(st.sampled_from(["closed", "closed", "waiting", "transferred", "open"]))
    who, sender = _of_chatbot(draw(_who(setting, client)))
    more: dict[str, Any] = {}
    if status == "transferred" and (staff := draw(st.sampled_from([None, *STAFF]))):
        more["transferred_to"] = staff
    told_at = at
    if status == "closed" and draw(st.booleans()):
        told_at, more["closed_at"] = at + SECOND, webhooks.rfc3339(when(at))
    event_id = f"evento-{draw(st.sampled_from([number, number, number, 1]))}"
    line = webhooks.chatbot_conversation(event_id, when(told_at), status, **sender, **more)
    record = Stood(f"conversation:{event_id}", at, who, status, more.get("transferred_to"))
    return of_line(at, line, record)


@st.composite
def _statuses(draw: st.DrawFn, setting: _Setting, number: int) -> Unit:
    """A status of one message; the same one may come with other times and other details."""
    at = NOW - draw(st.integers(0, 3))
    status: dict[str, Any] = {}
    if category := draw(st.sampled_from([None, "service", "utility"])):
        status["pricing"] = {"category": category}
    if code := draw(st.sampled_from([None, 131026, 131047])):
        status["errors"] = [{"code": code}]
    name = draw(st.sampled_from(["delivered", "failed"]))
    return of_change(at, webhooks.change(statuses=[webhooks.status(wamid(0), name, at, **status)]))


@st.composite
def _bad_records(draw: st.DrawFn, setting: _Setting, number: int) -> Unit:
    """Units for the quarantine; a line that is no JSON, a kind nobody knows, tomorrow's."""
    kind = draw(st.integers(0, 2))
    if kind == 0:
        return Unit(NOW, f"{{broken {number % 2}", is_line=True)
    message = webhooks.text_message(wamid(f"b{number % 2}"), NOW + kind * 900)
    if kind == 1:
        message = message | {"timestamp": str(NOW), "type": "never_heard_of"}
    return of_change(NOW, webhooks.change(message))


_READERS = (
    _conversation,
    _conversation,
    _conversation,
    _changes,
    _changes,
    _changes,
    _reactions,
    _id_updates,
    _preferences,
    _statuses,
    _bad_records,
)


# --- Streams and deliveries -----------------------------------------------------------------------


@st.composite
def deliveries(draw: st.DrawFn, units: Sequence[Unit]) -> Delivery:
    """Every unit at least once, in any order, split anyhow."""
    numbers = range(len(units))
    again = draw(st.lists(st.sampled_from(numbers), max_size=4))
    order = draw(st.permutations([*numbers, *again]))
    files: list[list[list[int]]] = [[]]
    for number in order:
        kind = draw(st.integers(0, 5))
        if kind == 0 and files[-1]:
            files.append([])
        lines = files[-1]
        if kind > 2 and lines and not units[number].is_line and not units[lines[-1][0]].is_line:
            lines[-1].append(number)
        else:
            lines.append([number])
    if draw(st.booleans()):
        files.append(files[0])
    return Delivery(
        files,
        chunk_units=draw(st.sampled_from([1, 2, 3, 5, EVERYTHING_AT_ONCE])),
        ends_with_newline=draw(st.booleans()),
        is_compressed=draw(st.booleans()),
    )


@st.composite
def unit_lists(draw: st.DrawFn, idle_hours: int) -> list[Unit]:
    """What is sent: each unit once."""
    idle = idle_hours * HOUR
    last_gap = st.sampled_from([0, 1, -300, 4 * HOUR - 1, 4 * HOUR, idle, idle + 1, 30 * idle])
    gap = st.sampled_from([1, 600, idle // 2, idle - 1, idle, idle + 1, 3 * idle, 40 * DAY])
    instants = [NOW - draw(last_gap)]
    for _ in range(draw(st.integers(0, 5))):
        instants.append(instants[-1] - draw(gap))
    if draw(st.sampled_from([False, False, False, True])):
        instants.append(NOW - 90 * DAY - draw(st.integers(0, 1)))
    setting = _Setting(
        idle,
        instants,
        draw(st.lists(st.sampled_from(KNOWN_BY), min_size=1, max_size=3)),
        is_tangled=draw(st.sampled_from([False, False, True])),
    )
    units: list[Unit] = []
    for number in range(draw(st.integers(1, 8))):
        units += draw(_messages(setting, number))
    for number in range(draw(st.sampled_from([0, 0, 1, 2, 3]))):
        units.append(draw(_number_changes(setting, number)))
    for number in range(draw(st.integers(0, 8))):
        units.append(draw(_others(setting, number)))
    return _on_one_side(list({(unit.text, unit.is_line): unit for unit in units}.values()))


def _on_one_side(units: list[Unit]) -> list[Unit]:
    """Without what the chatbot tells of a message from beyond a number change.

    By its clock the number would be another client's than by the provider's: a known limit.
    """
    records = [record for unit in units for record in unit.records]
    sent = {r.key: r.at for r in records if isinstance(r, Said) and r.told is None}
    cuts = {
        (phone_key(who.phone), record.at)
        for record in records
        if isinstance(record, Moved) and record.moves_number
        for who in (record.old, record.new)
    }

    def is_beyond(record: Record) -> bool:
        if not (isinstance(record, Said) and record.key in sent and record.who.phone):
            return False
        first, last = sorted((record.at, sent[record.key]))
        key = phone_key(record.who.phone)
        return any(first <= at < last for phone, at in cuts if phone == key)

    return [unit for unit in units if not any(map(is_beyond, unit.records))]


@st.composite
def streams(draw: st.DrawFn) -> Stream:
    """A stream and one delivery of it."""
    idle_hours = draw(st.sampled_from([24, 24, 2]))
    units = draw(unit_lists(idle_hours))
    return Stream(units, draw(deliveries(units)), idle_hours)


def sorted_once(units: Sequence[Unit]) -> Delivery:
    """Everything once, in the order of event time, one unit a line, in one file and chunk."""
    order = sorted(range(len(units)), key=lambda number: units[number].at)
    return Delivery([[[number] for number in order]], EVERYTHING_AT_ONCE, True, False)
