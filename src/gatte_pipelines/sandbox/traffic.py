"""Made-up WhatsApp traffic: the same plan gives the same bytes on every machine.

Webhook bodies, and on wish the chatbot's events between them. Sending them anywhere, signing and
loading them do not belong here.

Reproducible means: integers and `random.Random.random`/`getrandbits` only (no logarithms, whose
last digit differs between C libraries), no set iterated, no clock, no environment.

What the newer knobs add draws from random numbers of its own: the messages and their times stay
those of the plan without it.

Sources: Meta's webhook reference (shape, batching, pricing, statuses, BSUID, edits, echoes, number
changes), decoded official message ids (`wamid`), the chatbot's event format `CHATBOT_SCHEMA`, and
the sessions of a pt-BR support desk for certificates and LC Web plans.
"""

from __future__ import annotations

import hashlib
import random
import re
from array import array
from binascii import b2a_base64
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from heapq import heapify, heapreplace
from math import gcd
from operator import attrgetter
from typing import Any, BinaryIO, Final, NamedTuple

import msgspec
from msgspec import UNSET, UnsetType

from gatte_pipelines.errors import ConfigurationError
from gatte_pipelines.phones import BRAZILIAN_AREA_CODES, phone_key

BUSINESS_PHONE: Final = "5511900000000"
"""The fictitious number that every generated message was sent to."""

BAD_KINDS: Final = (
    "malformed_json",
    "text_is_number",
    "timestamp_is_text",
    "invalid_utf8",
    "nul_in_text",
    "timestamp_in_future",
    "name_too_long",
    "id_missing",
    "phone_with_letters",
    "timestamp_negative",
    "unknown_type",
    "phone_too_long",
)
"""The kinds of bad record, in the order in which they take turns."""

UNREADABLE_BAD_KINDS: Final = ("malformed_json", "invalid_utf8")
"""The bad kinds that spoil a whole line; the line holds nothing but the bad record."""

OTHER_KINDS: Final = (
    "image",
    "audio",
    "interactive",
    "reaction",
    "document",
    "button",
    "location",
    "sticker",
    "contacts",
    "video",
    "unsupported",
)
"""The message types besides text, in the order in which they take turns."""

CHATBOT_SCHEMA: Final = "gatte.chatbot_event/1"

WHOLE_SHARES: Final[dict[str, float]] = {
    "other_kinds_pct": 3.0,
    "bsuid_only_pct": 2.0,
    "chatbot_pct": 30.0,
    "edit_pct": 1.0,
    "revoke_pct": 0.5,
    "echo_pct": 1.0,
    "group_pct": 0.2,
    "number_change_pct": 1.0,
    "opt_out_pct": 1.0,
    "bsuid_first_pct": 2.0,
}
"""Shares of a plan with every kind of record: ``TrafficPlan(..., **WHOLE_SHARES)``."""

MAX_USERS: Final = 5_000_000
MAX_CHATBOT_PCT: Final = 90.0
MAX_TEXT_CHARS: Final = 1_500

_SECOND_MS: Final = 1_000
_MINUTE_MS: Final = 60_000
_HOUR_MS: Final = 3_600_000
_DAY_MS: Final = 86_400_000

_MIN_SESSION_MESSAGES: Final = 4
_MAX_SESSION_MESSAGES: Final = 20
_USUAL_SESSION_MESSAGES: Final = 7.3
# Below this mean a session is hardly a conversation; it limits how often a client comes back.
_SHORTEST_MEAN_SESSION: Final = 5.5
_SESSIONS_PER_USER: Final = 1.75
# Mean gap between two messages of a client (see _GAPS_MS) and between two clients of one place.
_MEAN_GAP_MS: Final = 76_000
_MEAN_PAUSE_MS: Final = 15_000
# A day's busy time must leave the night before the next one, or two days would mix.
_LONGEST_WINDOW_MS: Final = 18 * _HOUR_MS
# One POST never waits longer than this for its last update; a redelivery comes later than that.
_POST_SPAN_MS: Final = 30_000
_REDELIVERY_MIN_MS: Final = 45_000
_LATE_MIN_MS: Final = 3 * _MINUTE_MS
_CHUNK_BYTES: Final = 1 << 20


@dataclass(frozen=True)
class TrafficPlan:
    """What to generate; equal plans give equal bytes.

    Attributes:
        messages: Distinct valid messages of clients; redeliveries and bad records come on top.
        users: Clients who write (fewer appear when there are under four messages for each).
        seed: Any integer from 0.
        as_of: Aware end of all event times (but for the bad kind `timestamp_in_future`).
        concurrent_clients: Clients who talk at a time during each day's busy time.
        days: Days over which the clients come back.
        redelivered_pct: Messages, and statuses, that come once more in a later POST.
        late_pct: Messages that come three minutes to two days after they were written.
        bad_pct: Bad records, as a share of `messages`.
        other_kinds_pct: Messages that are not text, as a share of `messages`.
        twelve_digit_pct: Brazilian mobiles written without the ninth digit.
        landline_pct: Clients with a landline.
        foreign_pct: Clients with a foreign number.
        user_id_pct: Clients who have a business-scoped user id.
        bsuid_only_pct: Clients known only by it, with neither `from` nor `wa_id`.
        reply_pct: Messages that quote an earlier answer.
        answered_pct: Messages that the bot answers, each answer with its statuses.
        chatbot_pct: Chatbot events, as a share of these events and `messages` together (30: three
            events for seven messages): mostly answers under the ids of their statuses, then
            repeats of clients' messages under the chatbot's clock, a few per cent about the state
            of a conversation.
        edit_pct: Edits by clients, as a share of `messages`; some come before their message.
        revoke_pct: Removals by clients, as a share of `messages`; some come before their message.
        echo_pct: Answers of the staff from the WhatsApp Business app, as a share of `messages`.
        group_pct: Messages of groups, on top of `messages` and as a share of them.
        number_change_pct: Clients who change to a new number, and so to a new user id, in or right
            after their first conversation; what tells of it comes at times after messages from the
            new number. Clients without a number change their user id alone.
        opt_out_pct: Clients who stop marketing messages; a third of them allow them again.
        bsuid_first_pct: Clients who are at first known by their user id only, then with a number.
    """

    messages: int
    users: int
    seed: int
    as_of: datetime
    concurrent_clients: int = 200
    days: int = 30
    redelivered_pct: float = 5.0
    late_pct: float = 2.0
    bad_pct: float = 0.5
    other_kinds_pct: float = 0.0
    twelve_digit_pct: float = 30.0
    landline_pct: float = 3.0
    foreign_pct: float = 2.0
    user_id_pct: float = 90.0
    bsuid_only_pct: float = 0.0
    reply_pct: float = 1.0
    answered_pct: float = 95.0
    chatbot_pct: float = 0.0
    edit_pct: float = 0.0
    revoke_pct: float = 0.0
    echo_pct: float = 0.0
    group_pct: float = 0.0
    number_change_pct: float = 0.0
    opt_out_pct: float = 0.0
    bsuid_first_pct: float = 0.0

    def __post_init__(self) -> None:
        """Refuse what cannot be generated.

        Raises:
            ConfigurationError: A number out of its range, or `as_of` without a time zone.
        """
        for name in ("messages", "users", "concurrent_clients", "days"):
            if getattr(self, name) < 1:
                raise ConfigurationError(f"traffic plan: {name} must be at least 1")
        if self.users > MAX_USERS:
            raise ConfigurationError(f"traffic plan: users must be at most {MAX_USERS}")
        if self.seed < 0:
            raise ConfigurationError("traffic plan: seed must not be negative")
        if self.as_of.utcoffset() is None:
            raise ConfigurationError("traffic plan: as_of must have a time zone")
        for name, value in vars(self).items():
            if name.endswith("_pct") and not 0 <= value <= 100:
                raise ConfigurationError(f"traffic plan: {name} must be between 0 and 100")
        if self.landline_pct + self.foreign_pct > 100:
            raise ConfigurationError("traffic plan: landline_pct + foreign_pct is over 100")
        if self.chatbot_pct > MAX_CHATBOT_PCT:
            raise ConfigurationError(f"traffic plan: chatbot_pct must be at most {MAX_CHATBOT_PCT}")


@dataclass(frozen=True)
class TrafficCounts:
    """What was written.

    Attributes:
        lines: POST bodies and chatbot events, one a line.
        bytes_written: Size of the output with its line ends.
        messages: Distinct valid messages, late ones included.
        statuses: Distinct statuses.
        redeliveries: Messages that came again.
        status_redeliveries: Statuses that came again.
        late: Messages that came at least three minutes late (at the end of the traffic: as late
            as `as_of` lets them be).
        users: Clients who wrote.
        sessions: Conversations with gaps of at most 15 minutes.
        kinds: Distinct valid messages by type.
        bad: Bad records by kind of `BAD_KINDS`.
        sha256: Hexadecimal digest of the output.
        chatbot_messages: The chatbot's events with a message of our side.
        chatbot_repeats: The chatbot's events with a client's message of a webhook.
        conversation_events: The chatbot's events about the state of a conversation.
        others: Further webhook records by kind: `edit`, `revoke`, `echo`, `group`,
            `user_changed_number`, `user_id_update`, `opt_out`, `opt_in`.
    """

    lines: int
    bytes_written: int
    messages: int
    statuses: int
    redeliveries: int
    status_redeliveries: int
    late: int
    users: int
    sessions: int
    kinds: dict[str, int]
    bad: dict[str, int]
    sha256: str
    chatbot_messages: int = 0
    chatbot_repeats: int = 0
    conversation_events: int = 0
    others: dict[str, int] = field(default_factory=dict)

    @property
    def chatbot_events(self) -> int:
        """Lines that the chatbot wrote."""
        return self.chatbot_messages + self.chatbot_repeats + self.conversation_events

    @property
    def updates(self) -> int:
        """Units a loader must count as received: every message, status, event and bad record."""
        return (
            self.messages
            + self.statuses
            + self.redeliveries
            + self.status_redeliveries
            + sum(self.bad.values())
            + self.chatbot_events
            + sum(self.others.values())
        )


def write_traffic(
    plan: TrafficPlan,
    out: BinaryIO,
    *,
    on_messages: Callable[[int], None] | None = None,
) -> TrafficCounts:
    """Write the traffic of a plan as JSON lines, one POST body or chatbot event a line.

    Args:
        plan: What to generate.
        out: Where to; written in pieces of about one MB.
        on_messages: Called after each piece with the messages generated so far (for a bar).

    Returns:
        What was written, with the SHA-256 of the bytes.
    """
    tally = _Tally()
    digest = hashlib.sha256()
    pieces: list[bytes] = []
    lines = size = pending = 0

    def flush() -> None:
        nonlocal size, pending
        if pieces:
            chunk = b"\n".join(pieces) + b"\n"
            pieces.clear()
            pending = 0
            size += len(chunk)
            digest.update(chunk)
            out.write(chunk)
        if on_messages is not None:
            on_messages(tally.messages)

    for body in _generate(plan, tally):
        pieces.append(body)
        lines += 1
        pending += len(body)
        if pending >= _CHUNK_BYTES:
            flush()
    flush()
    return TrafficCounts(
        lines=lines,
        bytes_written=size,
        messages=tally.messages,
        statuses=tally.statuses,
        redeliveries=tally.redeliveries,
        status_redeliveries=tally.status_redeliveries,
        late=tally.late,
        users=tally.users,
        sessions=tally.sessions,
        kinds=dict(sorted(tally.kinds.items())),
        bad=dict(sorted(tally.bad.items())),
        sha256=digest.hexdigest(),
        chatbot_messages=tally.chatbot_messages,
        chatbot_repeats=tally.chatbot_repeats,
        conversation_events=tally.conversation_events,
        others=dict(sorted(tally.others.items())),
    )


def iter_bodies(plan: TrafficPlan) -> Iterator[bytes]:
    """Generate the lines of a plan in the order of their delivery, without line ends.

    Args:
        plan: What to generate.

    Yields:
        Bodies as Meta would send them, and chatbot events; none holds a line end.
    """
    return _generate(plan, _Tally())


@dataclass
class _Tally:
    messages: int = 0
    statuses: int = 0
    redeliveries: int = 0
    status_redeliveries: int = 0
    late: int = 0
    users: int = 0
    sessions: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    bad: Counter[str] = field(default_factory=Counter)
    chatbot_messages: int = 0
    chatbot_repeats: int = 0
    conversation_events: int = 0
    others: Counter[str] = field(default_factory=Counter)


# --- Wire shapes: fields in the order of Meta's samples; UNSET fields are absent. -----------------


class _Profile(msgspec.Struct, gc=False):
    name: str


class _Contact(msgspec.Struct, gc=False):
    profile: _Profile
    wa_id: str | UnsetType
    user_id: str | UnsetType


class _Text(msgspec.Struct, gc=False):
    body: str


class _Context(msgspec.Struct, gc=False):
    from_: str = msgspec.field(name="from")
    id: str


class _Message(msgspec.Struct, gc=False):
    context: _Context | UnsetType
    from_: str | UnsetType = msgspec.field(name="from")
    from_user_id: str | UnsetType
    id: str
    timestamp: str
    text: _Text
    type: str


class _Pricing(msgspec.Struct, gc=False):
    billable: bool
    pricing_model: str
    type: str
    category: str


class _ErrorData(msgspec.Struct, gc=False):
    details: str


class _Error(msgspec.Struct, gc=False):
    code: int
    title: str
    message: str
    error_data: _ErrorData
    href: str


class _Status(msgspec.Struct, gc=False):
    id: str
    status: str
    timestamp: str
    recipient_id: str | UnsetType
    recipient_user_id: str | UnsetType
    pricing: _Pricing | UnsetType
    errors: list[_Error] | UnsetType


class _Metadata(msgspec.Struct, gc=False):
    display_phone_number: str
    phone_number_id: str


class _Value(msgspec.Struct, gc=False):
    messaging_product: str
    metadata: _Metadata
    contacts: list[_Contact] | UnsetType
    messages: list[Any] | UnsetType
    statuses: list[_Status] | UnsetType


class _Change(msgspec.Struct, gc=False):
    value: _Value | dict[str, Any]
    field: str


class _Entry(msgspec.Struct, gc=False):
    id: str
    changes: list[_Change]


class _Body(msgspec.Struct, gc=False):
    object: str
    entry: list[_Entry]


_METADATA: Final = _Metadata(BUSINESS_PHONE, "100000000000001")
_BUSINESS_ACCOUNT: Final = "200000000000002"
_FREE: Final = _Pricing(False, "PMP", "free_customer_service", "service")
_UTILITY: Final = _Pricing(True, "PMP", "regular", "utility")
_ERRORS_URL: Final = "https://developers.facebook.com/docs/whatsapp/cloud-api/support/error-codes/"
_FAILURES: Final = tuple(
    [_Error(code, title, title, _ErrorData(details), _ERRORS_URL)]
    for code, title, details in (
        (131026, "Message undeliverable", "Message Undeliverable."),
        (
            131047,
            "Re-engagement message",
            "More than 24 hours have passed since the customer last replied to this number.",
        ),
        (131000, "Something went wrong", "Something went wrong."),
        (
            130472,
            "User's number is part of an experiment",
            "Failed to send message because this user's phone number is part of an experiment",
        ),
    )
)


class _Unit(msgspec.Struct, gc=False):
    """One update on its way.

    Not a tuple: millions of objects that the garbage collector tracks cost a third of the time.
    """

    deliver_ms: int
    contact: _Contact | None
    # A message, a status, the fields of an odd message, a record of another field than "messages",
    # or the bytes of a whole line.
    update: Any


class _OtherField(msgspec.Struct, gc=False):
    """A record that comes under another ``field`` of a change than ``messages``."""

    field: str
    record: dict[str, Any]


# Where the records of a field stand in its value.
_PLACES: Final = {
    "smb_message_echoes": "message_echoes",
    "user_id_update": "user_id_update",
    "user_preferences": "user_preferences",
}


class _ChatbotMessage(msgspec.Struct, gc=False):
    schema: str
    type: str
    wamid: str | UnsetType
    external_id: str | UnsetType
    phone: str | UnsetType
    bsuid: str | UnsetType
    role: str
    content: str
    sent_at: str
    author: str
    tokens_used: int | UnsetType
    intent_detected: str | UnsetType
    model: str | UnsetType
    mode: str
    current_flow: str | UnsetType


class _ChatbotConversation(msgspec.Struct, gc=False):
    schema: str
    type: str
    event_id: str
    phone: str | UnsetType
    bsuid: str | UnsetType
    status: str
    at: str
    closed_at: str | UnsetType
    transferred_to: str | UnsetType


_DELIVERY: Final = attrgetter("deliver_ms")


# --- Clients ------------------------------------------------------------------------------------

_MASK: Final = (1 << 64) - 1


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split("|"))


_GIVEN_NAMES: Final = _words(
    "Ana|Maria|João|José|Antônio|Francisco|Carlos|Paulo|Pedro|Lucas|Luiz|Marcos|Luís|Gabriel|"
    "Rafael|Daniel|Marcelo|Bruno|Eduardo|Felipe|Rodrigo|Fernanda|Patrícia|Aline|Sandra|Camila|"
    "Amanda|Bruna|Jéssica|Letícia|Júlia|Luciana|Vanessa|Mariana|Gabriela|Vera|Vitória|Larissa|"
    "Cláudia|Beatriz|Rita|Luana|Sônia|Renata|Eliane|Josefa|Simone|Natália|Cristiane|Carla|Débora|"
    "Rosângela|Rosa|Márcia|Juliana|Tereza|Raimundo|Sebastião|Thiago|Leonardo|Fábio|César|Vinícius|"
    "Gustavo|Mateus|Leandro|Ricardo|Sérgio|Roberto|Adriano|Márcio|Ângela|Raquel|Íris|Inês|Caio|"
    "Henrique|Murilo|Otávio|Heitor|Davi|Miguel|Arthur|Helena|Alice|Laura|Sofia|Valentina|Lívia"
)
_SURNAMES: Final = _words(
    "Silva|Santos|Oliveira|Souza|Rodrigues|Ferreira|Alves|Pereira|Lima|Gomes|Costa|Ribeiro|Martins|"
    "Carvalho|Almeida|Lopes|Soares|Fernandes|Vieira|Barbosa|Rocha|Dias|Nascimento|Andrade|Moreira|"
    "Nunes|Marques|Machado|Mendes|Freitas|Cardoso|Ramos|Gonçalves|Santana|Teixeira|Araújo|Brandão|"
    "Conceição|Magalhães|Simões|Guimarães|Assunção|Galvão|Falcão|Sant'Anna|da Silva|dos Santos|"
    "de Oliveira|de Souza|do Nascimento|da Conceição|de Jesus|de Araújo|da Cruz|e Silva|Batista|"
    "Campos|Duarte|Farias|Moura|Correia|Azevedo|Cavalcanti|Monteiro|Pinto|Reis|Castro|Borges"
)
_TRADES: Final = _words(
    "Contabilidade|Padaria|Advocacia|Transportes|Clínica|Papelaria|Mecânica|Restaurante|Farmácia|"
    "Construções|Salão|Pet Shop|Informática|Mercado|Consultoria|Confecções"
)
_NAME_EMOJIS: Final = ("✨", "🙏", "❤️", "🌻", "⚽", "🇧🇷", "🚚", "📚", "👩‍💼", "🐶")
# Country, calling code and what stands before seven made-up digits: possible lengths, no real line.
_FOREIGN: Final = (
    ("PT", "351", "90"),
    ("AR", "54", "9110"),
    ("US", "1", "555"),
    ("ES", "34", "60"),
    ("PY", "595", "90"),
)


# What befalls a share of the clients; below the bits that an index is shifted to.
_NUMBER_CHANGE: Final = 1
_BSUID_FIRST: Final = 2
_OPT_OUT: Final = 3


class _Client(NamedTuple):
    sender: str | UnsetType
    user_id: str | UnsetType
    contact: _Contact
    inbound_id_head: bytes
    outbound_id_head: bytes
    writes_plainly: bool


def _mix(value: int) -> int:
    """Scatter an integer over 64 bits (splitmix64), the same everywhere."""
    value = (value + 0x9E3779B97F4A7C15) & _MASK
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK
    return value ^ (value >> 31)


class _Clients:
    """Gives client number n its name, number and ids; computed when asked, so none is held."""

    def __init__(self, plan: TrafficPlan) -> None:
        areas = len(BRAZILIAN_AREA_CODES)
        self._plan = plan
        self._salt = _mix(plan.seed)
        # A permutation of 0..numbers-1, so that neighbours in time are not neighbours in number.
        self._numbers = areas * max(10_000, -(-plan.users // areas))
        self._step = 7_368_787
        while gcd(self._step, self._numbers) != 1:
            self._step += 2

    def client(self, index: int, session_draw: float) -> _Client:
        """Describe a client for one session.

        Args:
            index: Number of the client from 0.
            session_draw: Uniform draw; a few clients change the form of their number by it.
        """
        plan = self._plan
        bits = _mix(self._salt ^ (index << 20))
        more = _mix(bits)
        serial, area = divmod(
            (index * self._step + self._salt) % self._numbers, len(BRAZILIAN_AREA_CODES)
        )
        wa_id, country = self._number(bits, BRAZILIAN_AREA_CODES[area], serial, session_draw)
        user_id: str | UnsetType = UNSET
        bsuid_only = (more & 0xFFFF) * 100 < plan.bsuid_only_pct * 65_536
        if (
            bsuid_only
            or (more >> 16 & 0xFFFF) * 100 < plan.user_id_pct * 65_536
            or (plan.bsuid_first_pct and self.happens(index, _BSUID_FIRST, plan.bsuid_first_pct))
        ):
            user_id = _user_id(country, bits)
        sender: str | UnsetType = UNSET if bsuid_only else wa_id
        head = b"\x1c\x18%c%b\x15\x02\x00" % (len(wa_id), wa_id.encode("ascii"))
        return _Client(
            sender,
            user_id,
            _Contact(_Profile(_name(more >> 32)), sender, user_id),
            head + b"\x12\x18\x14",
            head + b"\x11\x18\x12",
            more >> 60 < 3,
        )

    def happens(self, index: int, what: int, percent: float) -> bool:
        """Whether something that befalls a share of the clients befalls this one."""
        return (_mix(self._salt ^ (index << 20) ^ what) & 0xFFFF) * 100 < percent * 65_536

    def without_number(self, client: _Client) -> _Client:
        """A client as long as only the user id is known."""
        return client._replace(
            sender=UNSET, contact=_Contact(client.contact.profile, UNSET, client.user_id)
        )

    def moved(self, index: int, client: _Client) -> _Client:
        """A client under a new number (none where none is known) and a new user id."""
        serial, area = divmod(
            (index * self._step + self._salt) % self._numbers, len(BRAZILIAN_AREA_CODES)
        )
        # No mobile begins with 91 and no client's first number does.
        wa_id = f"55{BRAZILIAN_AREA_CODES[area]}91{serial:07d}"
        sender = UNSET if client.sender is UNSET else wa_id
        user_id: str | UnsetType = UNSET
        if client.user_id is not UNSET:
            user_id = _user_id("BR", _mix(self._salt ^ (index << 20) ^ _NUMBER_CHANGE))
        head = b"\x1c\x18%c%b\x15\x02\x00" % (len(wa_id), wa_id.encode("ascii"))
        return client._replace(
            sender=sender,
            user_id=user_id,
            contact=_Contact(client.contact.profile, sender, user_id),
            inbound_id_head=head + b"\x12\x18\x14",
            outbound_id_head=head + b"\x11\x18\x12",
        )

    def _number(
        self, bits: int, area_code: str, serial: int, session_draw: float
    ) -> tuple[str, str]:
        plan = self._plan
        percent = (bits & 0xFFFF) * 100 / 65_536
        if percent < plan.foreign_pct:
            country, calling_code, head = _FOREIGN[(bits >> 16) % len(_FOREIGN)]
            # Area and serial together, or clients of two areas would share a foreign number.
            unique = serial * 100 + int(area_code)
            return f"{calling_code}{head}{unique:07d}", country
        if percent < plan.foreign_pct + plan.landline_pct:
            return f"55{area_code}3{serial:07d}", "BR"
        form = (bits >> 24 & 0xFFFF) * 100 / 65_536
        changes_form = (bits >> 40 & 0xFF) < 8
        if form >= plan.twelve_digit_pct and not changes_form:
            # No mobile begins with 90, so these numbers belong to nobody.
            return f"55{area_code}90{serial:07d}", "BR"
        # Only numbers that begin with 6 to 9 have a form without the ninth digit.
        local = f"{6 + (bits >> 48) % 4}{serial:07d}"
        short = form < plan.twelve_digit_pct
        if changes_form and session_draw < 0.2:
            short = not short and plan.twelve_digit_pct > 0
        return (f"55{area_code}{local}" if short else f"55{area_code}9{local}"), "BR"


def _user_id(country: str, bits: int) -> str:
    return f"{country}.{1_000_000_000_000_000 + bits % 9_000_000_000_000_000}"


def _name(bits: int) -> str:
    """Pick a profile name as people write them: full, first only, a trade, with an emoji."""
    given = _GIVEN_NAMES[bits % len(_GIVEN_NAMES)]
    surname = _SURNAMES[(bits >> 7) % len(_SURNAMES)]
    manner = (bits >> 14) % 20
    if manner < 10:
        return f"{given} {surname}"
    if manner < 13:
        return f"{given} {_SURNAMES[(bits >> 19) % len(_SURNAMES)]} {surname}"
    if manner < 16:
        return given
    if manner == 16:
        return f"{_TRADES[(bits >> 19) % len(_TRADES)]} {surname}"
    if manner == 17:
        return f"{given} {surname[0]}. {_NAME_EMOJIS[(bits >> 19) % len(_NAME_EMOJIS)]}"
    if manner == 18:
        return f"{given} {surname}".lower()
    return f"{given} | {_TRADES[(bits >> 19) % len(_TRADES)]}"


# --- What clients write -------------------------------------------------------------------------

_SLOTS: Final[dict[str, tuple[str, ...]]] = {
    "oi": (
        "Oi",
        "Olá",
        "Bom dia",
        "Boa tarde",
        "Boa noite",
        "Opa, boa tarde",
        "Oiii",
        "Oi gente",
        "Olá, pessoal da GATTE",
    ),
    "saudacao": (
        "Oi, tudo bem?",
        "Olá, bom dia!",
        "Bom dia, tudo certo?",
        "Boa tarde! Tudo bem com vocês?",
        "Oi, com quem eu falo?",
        "Boa noite, ainda tem alguém aí?",
        "Bom dia ☀️",
    ),
    "certificado": (
        "e-CPF",
        "e-CNPJ",
        "e-NFe",
        "e-CT",
        "e-CPF A1",
        "e-CPF A3",
        "e-CNPJ A1",
        "e-CNPJ A3",
        "certificado digital",
        "certificado A1",
        "certificado A3 em token",
        "e-CNPJ na nuvem",
    ),
    "plano": (
        "LC Web",
        "LC Web básico",
        "LC Web profissional",
        "LC Web empresarial",
        "plano básico",
        "plano profissional",
        "plano anual",
        "plano mensal",
    ),
    "validade": ("1 ano", "2 anos", "3 anos", "12 meses", "18 meses", "36 meses"),
    "dia": (
        "hoje",
        "amanhã",
        "depois de amanhã",
        "segunda",
        "terça-feira",
        "quarta",
        "quinta-feira",
        "sexta",
        "semana que vem",
        "dia 5",
        "dia 10",
        "dia 15",
        "dia 20",
        "sábado de manhã",
    ),
    "hora": (
        "às 9h",
        "às 10h",
        "às 11h30",
        "às 14h",
        "às 15h30",
        "às 16h",
        "lá pelas 17h",
        "depois do almoço",
        "de manhã cedo",
        "no fim da tarde",
        "às 8h30",
    ),
    "pagamento": (
        "PIX",
        "boleto",
        "cartão",
        "cartão em 3x",
        "cartão de crédito",
        "transferência",
        "boleto para 28 dias",
    ),
    "empresa": (
        "minha empresa",
        "a padaria",
        "o escritório",
        "meu sócio",
        "minha MEI",
        "a transportadora",
        "a clínica",
        "minha contadora",
        "o meu pai",
        "a loja nova",
        "o condomínio",
        "a associação",
    ),
    "sistema": (
        "o e-CAC",
        "o site da Receita",
        "o emissor de notas",
        "o eSocial",
        "o LC Web",
        "o portal da prefeitura",
        "o SPED",
        "o Conectividade Social",
        "o PJe",
        "o CT-e",
    ),
    "defeito": (
        "dá erro de senha",
        "não abre de jeito nenhum",
        "pede um certificado que não aparece",
        "fica carregando e não sai disso",
        "diz que a cadeia de certificação é inválida",
        "mostra uma tela em branco",
        "trava na hora de assinar",
        "diz que o certificado expirou",
        "não reconhece o token",
        "aparece “acesso negado”",
    ),
    "aparelho": (
        "no Windows 11",
        "no Windows 10",
        "no Mac",
        "no notebook novo",
        "no computador do escritório",
        "no celular",
        "no Chrome",
        "no Firefox",
        "no Edge",
        "em outro navegador também",
    ),
    "documento": (
        "CNH",
        "RG",
        "contrato social",
        "comprovante de endereço",
        "cartão do CNPJ",
        "última alteração contratual",
        "requerimento de empresário",
        "procuração",
    ),
    "cidade": (
        "São Paulo",
        "Belo Horizonte",
        "Goiânia",
        "Ribeirão Preto",
        "Maringá",
        "Florianópolis",
        "Maceió",
        "São Luís",
        "Brasília",
        "Cuiabá",
        "Niterói",
        "Jundiaí",
        "Uberlândia",
        "Santarém",
        "Vitória da Conquista",
    ),
    "motivo": (
        "para emitir nota",
        "para o imposto de renda",
        "para assinar contrato",
        "para participar de uma licitação",
        "para o eSocial",
        "porque o meu venceu",
        "porque troquei de contador",
        "pra abrir a empresa",
    ),
    "n": tuple(str(number) for number in range(2, 61)),
    "valor": tuple(
        f"{reais},{centavos}" for reais in range(89, 590, 7) for centavos in ("00", "90")
    ),
    "protocolo": tuple(f"2026{number * 7919 % 1_000_000:06d}" for number in range(400)),
    "vcs": ("vocês", "vcs", "vcs aí", "vocês aí"),
    "urgente": (
        "É urgente.",
        "Tenho pressa.",
        "Preciso disso até o fim do dia.",
        "Sem pressa.",
        "Quando puder, por favor.",
        "O prazo da Receita acaba amanhã!",
        "",
    ),
}

_GREETINGS: Final = (
    "{oi}",
    "{saudacao}",
    "{saudacao} É sobre o meu {certificado}",
    "{oi}! Preciso de ajuda com o meu {certificado}",
    "{oi}, vi o anúncio do {plano} e queria saber mais",
    "{oi}, {vcs} atendem em {cidade}?",
    "{oi}! Quero renovar o {certificado} da empresa",
    "{oi}, sou de {cidade} e preciso de um {certificado} {motivo}",
    "{oi}! Me indicaram {vcs}, quero um orçamento",
    "{oi}, já sou cliente do {plano} e estou com um problema",
)

_TOPICS: Final = (
    (  # preços e planos
        "Quanto custa o {plano}?",
        "Qual o valor do {plano} no {pagamento}?",
        "O {plano} tem fidelidade ou posso cancelar quando quiser?",
        "No {plano} eu consigo cadastrar {n} usuários?",
        "Hoje pago R$ {valor} em outro sistema, {vcs} conseguem cobrir?",
        "Tem desconto se eu fechar {validade}?",
        "Qual a diferença entre o {plano} e o {plano}?",
        "Dá pra pagar no {pagamento}?",
        "Somos {n} funcionários, qual plano {vcs} indicam para {empresa}?",
        "Se eu pagar à vista fica por R$ {valor}?",
        "Posso testar o {plano} antes de assinar? {urgente}",
        "O {plano} já emite nota de serviço e CT-e ou é à parte?",
        "Vou conversar com {empresa} e retorno {dia}",
        "Achei R$ {valor} um pouco caro, não dá pra melhorar? 😅",
        "Pode me mandar a proposta por aqui mesmo? É para {empresa}, somos de {cidade}",
    ),
    (  # certificados
        "Preciso emitir um {certificado} {motivo}. {urgente}",
        "O meu {certificado} vence {dia}, como faço pra renovar?",
        "Quais documentos precisa para o {certificado}?",
        "Tenho {documento} e {documento}, falta mais alguma coisa?",
        "O {certificado} de {validade} sai por quanto?",
        "A validação é por videoconferência ou tenho que ir até {cidade}?",
        "Quanto tempo demora pra sair o {certificado}?",
        "Prefiro o A1 ou o A3? É {motivo}",
        "Dá pra instalar o mesmo {certificado} em {n} computadores?",
        "Já mandei {documento}, {vcs} receberam?",
        "Meu {certificado} foi emitido com o nome errado, e agora? {urgente}",
        "A {documento} pode ser a digital ou tem que ser a física?",
        "Perdi a senha do {certificado}, consigo recuperar ou tenho que comprar outro?",
        "Preciso de um {certificado} pra mim e outro para {empresa}",
        "O protocolo é {protocolo}, consegue ver em que pé está?",
    ),
    (  # suporte
        "Quando tento entrar n{sistema} {defeito}",
        "{sistema} {defeito} {aparelho}",
        "Já reiniciei {n} vezes e continua do mesmo jeito",
        "Funcionava até ontem, depois da atualização {defeito} 😩",
        "Instalei o {certificado} {aparelho} e {sistema} {defeito}",
        "Alguém consegue acessar meu computador remotamente? {urgente}",
        "Abri o chamado {protocolo} e ninguém me respondeu ainda",
        "Fiz tudo o que está no manual e {defeito}",
        "É {aparelho}, precisa de mais alguma informação?",
        "Preciso emitir {n} notas ainda {dia}, por favor me ajudem!",
        "Atualizei o navegador e agora {sistema} {defeito}. {urgente}",
        "Com o certificado da minha sócia funciona, só com o meu que {defeito}",
        "Apareceu a mensagem de novo: “código {n}”",
        "Deu certo {aparelho}, mas {aparelho} {defeito}",
    ),
    (  # agendamento
        "Quero agendar a validação do {certificado} para {dia} {hora}",
        "Tem horário {dia} {hora}?",
        "{dia} {hora} não consigo, pode ser {dia}?",
        "Preciso remarcar o meu horário de {dia} para {dia} {hora}",
        "A videoconferência é por qual aplicativo?",
        "Posso fazer a validação junto com {empresa}?",
        "Quanto tempo dura o atendimento? Tenho uma reunião {hora}",
        "Vou precisar levar {documento}?",
        "Confirma pra mim então: {dia} {hora}, certo?",
        "Me atrasei {n} minutos, ainda dá tempo?",
        "Pode marcar para mim e para {empresa} no mesmo horário, por favor",
        "Se tiver um encaixe {dia} {hora} eu aceito! {urgente}",
    ),
)

_CLOSINGS: Final = (
    "Obrigado!",
    "Obrigada, viu? 🙏",
    "Muito obrigado pela atenção!",
    "Perfeito, era isso mesmo. Obrigada!",
    "Deu certo aqui, valeu demais! 👏",
    "Ok, fico no aguardo então",
    "Combinado, até {dia}!",
    "Vou pensar e falo com {vcs} {dia}",
    "Pode emitir, vou pagar no {pagamento}",
    "Show, resolveu! 😊",
    "Tá bom, depois eu vejo isso",
    "Fechado! Me manda o {pagamento}, por favor",
)

_SHORT: Final = (
    "Certo!",
    "Beleza",
    "Isso mesmo",
    "Sim, pode ser",
    "Não, ainda não",
    "Ok 👍",
    "Entendi",
    "Como assim?",
    "Pode sim",
    "Já fiz isso",
    "Um minuto",
    "Tá bom",
    "Aham, isso",
    "Quanto?",
    "Show 🚀",
    "Não entendi 🤔",
    "Feito ✅",
    "kkkkk tudo bem",
    "Opção {n}",
    "Alô?",
)

_TAILS: Final = (
    " 🙏",
    " 😊",
    " 👍",
    " 😅",
    "!!",
    " rs",
    " ❤️",
    " 🙏🏽",
    ", por favor",
    ", por gentileza",
    " kkk",
    "…",
    " 😢",
    " 🤝",
    " 🇧🇷",
    ", tá?",
)

_ENDS: Final = frozenset(".!?…😅😩")
_WITHOUT_ACCENTS: Final = str.maketrans("áàâãéêíóôõúüçÁÀÂÃÉÊÍÓÔÕÚÇ", "aaaaeeiooouucAAAAEEIOOOUC")


class _Phrase(NamedTuple):
    pattern: str
    slots: tuple[tuple[str, ...], ...]


def _phrases(texts: tuple[str, ...]) -> tuple[_Phrase, ...]:
    """Turn "{slot}" texts into %-patterns and what may fill them."""
    return tuple(
        _Phrase(
            re.sub(r"\{\w+\}", "%s", text.replace("%", "%%")),
            tuple(_SLOTS[name] for name in re.findall(r"\{(\w+)\}", text)),
        )
        for text in texts
    )


_GREETING_PHRASES: Final = _phrases(_GREETINGS)
_TOPIC_PHRASES: Final = tuple(_phrases(topic) for topic in _TOPICS)
_CLOSING_PHRASES: Final = _phrases(_CLOSINGS)
_SHORT_PHRASES: Final = _phrases(_SHORT)


def _say(uniform: Callable[[], float], phrases: tuple[_Phrase, ...]) -> str:
    pattern, slots = phrases[int(uniform() * len(phrases))]
    if not slots:
        return pattern
    return (pattern % tuple([slot[int(uniform() * len(slot))] for slot in slots])).rstrip()


def _text(
    uniform: Callable[[], float],
    topic: tuple[_Phrase, ...],
    first: bool,
    last: bool,
    plainly: bool,
) -> str:
    """Write one message of a client: mostly one sentence, at times two, seldom a long story."""
    draw = uniform()
    if first:
        text = _say(uniform, _GREETING_PHRASES)
    elif last and draw < 0.6:
        text = _say(uniform, _CLOSING_PHRASES)
    elif draw < 0.15:
        text = _say(uniform, _SHORT_PHRASES)
    else:
        text = _say(uniform, topic)
        if draw > 0.84:
            text += (" " if text[-1] in _ENDS else ". ") + _say(uniform, topic)
            if draw > 0.99:
                more = [_say(uniform, topic) for _ in range(4 + int(uniform() * 16))]
                text = "\n".join([text, *more])[: MAX_TEXT_CHARS - 20].rstrip()
    if uniform() < 0.2:
        tail = _TAILS[int(uniform() * len(_TAILS))]
        if tail[0] == " " or text[-1] not in _ENDS:
            text += tail
    if plainly:
        text = text.translate(_WITHOUT_ACCENTS).lower()
    return text if len(text) >= 5 else text + ", tudo bem?"


# --- When clients write --------------------------------------------------------------------------

# (share below which the row holds, shortest, spread): seconds to minutes, as people type.
_GAPS_MS: Final = (
    (0.45, 4_000, 16_000),
    (0.80, 20_000, 70_000),
    (0.97, 90_000, 210_000),
    (1.00, 300_000, 600_000),
)


class _Session(NamedTuple):
    start_ms: int
    user: int
    messages: int
    first_time: int


class _Diary:
    """Decides who talks when: busy times spread over the days, each with its sessions."""

    def __init__(self, plan: TrafficPlan) -> None:
        uniform = random.Random(plan.seed * 2 + 1).random  # noqa: S311 - made-up traffic
        self._uniform = uniform
        self._plan = plan
        messages, users = plan.messages, plan.users
        sessions = max(
            messages / _USUAL_SESSION_MESSAGES,
            min(users * _SESSIONS_PER_USER, messages / _SHORTEST_MEAN_SESSION),
            min(users, messages / _MIN_SESSION_MESSAGES),
        )
        fewest = -(-messages // _MAX_SESSION_MESSAGES)
        self.sessions = max(1, min(max(int(sessions), fewest), messages // _MIN_SESSION_MESSAGES))
        places = max(1, min(plan.concurrent_clients, users, self.sessions))
        self.windows = max(1, min(plan.days, self.sessions, max(3, self.sessions // places)))
        self._spacing_ms = plan.days * _DAY_MS // self.windows
        # Where the days are too few for so many messages, more clients talk at a time.
        session_ms = (messages / self.sessions - 1) * _MEAN_GAP_MS + _MEAN_PAUSE_MS
        needed = int(self.sessions / self.windows * session_ms / _LONGEST_WINDOW_MS) + 1
        self._places = max(places, min(users, needed))
        self._window_ms = int((self.sessions / self.windows / self._places + 4) * session_ms)
        self._sessions_left = self.sessions
        self._extra_left = messages - _MIN_SESSION_MESSAGES * self.sessions
        self.seen = 0
        self._comes_back = -1
        self._last_window = array("i", bytes(4 * users))
        self._last_end = array("q", bytes(8 * users))

    def window(self, number: int) -> tuple[list[_Session], array[int]]:
        """Lay out one busy time.

        Args:
            number: From 0; windows are asked for in order.

        Returns:
            Sessions by start, and the times (milliseconds since 1970) that they point into.
        """
        uniform = self._uniform
        size = -(-self._sessions_left // (self.windows - number))
        busy = min(self._places, size)
        stagger = min(4 * _MINUTE_MS, busy * 2 * _SECOND_MS)
        free = [int(uniform() * stagger) for _ in range(busy)]
        heapify(free)
        sessions: list[_Session] = []
        times: array[int] = array("q")
        latest = 0
        for _ in range(size):
            user, start = self._next_user(number, free[0])
            length = self._next_length()
            sessions.append(_Session(start, user, length, len(times)))
            now = start
            times.append(now)
            for _ in range(length - 1):
                draw = uniform()
                for share, shortest, spread in _GAPS_MS:
                    if draw < share:
                        now += shortest + int(uniform() * spread)
                        break
                times.append(now)
            self._last_window[user] = number
            self._last_end[user] = now
            latest = max(latest, now)
            heapreplace(free, now + int(uniform() * 2 * _MEAN_PAUSE_MS))
        shift = self._end_ms(number) - latest
        sessions = [session._replace(start_ms=session.start_ms + shift) for session in sessions]
        sessions.sort()
        return sessions, array("q", [time + shift for time in times])

    def _end_ms(self, number: int) -> int:
        """The last event of a window: just before `as_of`, or about whole days before."""
        end = int(self._plan.as_of.timestamp()) * _SECOND_MS - 2 * _SECOND_MS
        windows_after = self.windows - 1 - number
        if windows_after:
            end -= windows_after * self._spacing_ms + int(self._uniform() * _HOUR_MS)
            if number % 4 == 1:
                # Every fourth busy time is the morning before the next one's afternoon, so that
                # some clients come back within 24 hours.
                end += max(0, self._spacing_ms - 2 * self._window_ms - 4 * _HOUR_MS)
        return end

    def _next_length(self) -> int:
        """Draw a session's messages, 4 to 20, such that all sessions add up to the plan."""
        left = self._sessions_left - 1
        self._sessions_left = left
        most = _MAX_SESSION_MESSAGES - _MIN_SESSION_MESSAGES
        # The fourth power of a uniform draw has mean 1/5: many short sessions, a few long ones.
        extra = int(5 * self._extra_left / (left + 1) * self._uniform() ** 4 + 0.5)
        extra = max(min(extra, most, self._extra_left), self._extra_left - left * most)
        self._extra_left -= extra
        return _MIN_SESSION_MESSAGES + extra

    def _next_user(self, window: int, start: int) -> tuple[int, int]:
        """Choose a client who is not talking: a new one, or one who comes back.

        Returns:
            The client's number and when the session may start.
        """
        uniform, seen, plan = self._uniform, self.seen, self._plan
        new_left = plan.users - seen
        if new_left and uniform() * self._sessions_left < new_left:
            self.seen = seen + 1
            return seen, start
        for attempt in range(24 if seen else 0):
            if attempt < 4 and uniform() < 0.7:
                # Everybody comes back in turn ...
                user = self._comes_back = (self._comes_back + 1) % seen
            else:
                # ... and some often: the product of two draws favours those who came first.
                user = int(uniform() * (uniform() if attempt < 16 else 1.0) * seen)
            apart = window - self._last_window[user]
            if apart >= 2 or (apart and self._spacing_ms > _DAY_MS * 1.5):
                return user, start
            if apart and uniform() < 0.25:
                return user, start
            idle = start - self._last_end[user]
            if not apart and idle > 20 * _MINUTE_MS and (attempt >= 16 or uniform() < 0.04):
                return user, start
        if new_left:
            self.seen = seen + 1
            return seen, start
        user = min(range(seen), key=lambda one: (self._last_window[one], self._last_end[one]))
        if self._last_window[user] < window:
            return user, start
        return user, max(start, self._last_end[user] + 20 * _MINUTE_MS)


# --- What is sent ---------------------------------------------------------------------------------


def _generate(plan: TrafficPlan, tally: _Tally) -> Iterator[bytes]:
    """Make the updates session by session and post them as soon as none can come before."""
    diary = _Diary(plan)
    maker = _Maker(plan, tally)
    postman = _Postman(plan)
    pending = maker.pending
    beside = maker.beside
    flush_at = 4_000
    for number in range(diary.windows):
        sessions, times = diary.window(number)
        for session in sessions:
            if len(pending) > flush_at:
                pending.sort(key=_DELIVERY)
                ready = bisect_left(pending, session.start_ms, key=_DELIVERY)
                posted = postman.post(pending[:ready])
                if beside:
                    yield from _interleave(
                        postman, posted, beside.take_chatbot_lines(session.start_ms)
                    )
                else:
                    yield from posted
                del pending[:ready]
                # Sorting what stays behind again must not outweigh what is new.
                flush_at = 4_000 + 2 * len(pending)
            maker.add_session(
                session.user, times[session.first_time : session.first_time + session.messages]
            )
    pending.sort(key=_DELIVERY)
    posted = postman.post(pending)
    if beside:
        yield from _interleave(postman, posted, beside.take_chatbot_lines(None))
    else:
        yield from posted
    tally.sessions = diary.sessions
    texts = tally.messages - tally.kinds.total()
    if texts:
        tally.kinds["text"] = texts
    tally.users = diary.seen


def _interleave(postman: _Postman, bodies: Iterator[bytes], lines: list[_Unit]) -> Iterator[bytes]:
    """Put the chatbot's lines between the POST bodies, by time."""
    done = 0
    for body in bodies:
        while done < len(lines) and lines[done].deliver_ms <= postman.posted_ms:
            yield lines[done].update
            done += 1
        yield body
    for line in lines[done:]:
        yield line.update


class _Maker:
    """Turns sessions into updates with their moment of delivery."""

    def __init__(self, plan: TrafficPlan, tally: _Tally) -> None:
        self.pending: list[_Unit] = []
        self._plan = plan
        self._tally = tally
        self._random = random.Random(plan.seed * 2)  # noqa: S311 - made-up traffic
        self._clients = _Clients(plan)
        self._as_of_ms = int(plan.as_of.timestamp()) * _SECOND_MS
        self._left = plan.messages
        self._late_left = round(plan.messages * plan.late_pct / 100)
        self._redelivered_left = round(plan.messages * plan.redelivered_pct / 100)
        self._bad_left = round(plan.messages * plan.bad_pct / 100)
        self._special_left = self._late_left + self._redelivered_left + self._bad_left
        self._other_left = round(plan.messages * plan.other_kinds_pct / 100)
        self._redelivered_share = plan.redelivered_pct / 100
        self._bad_made = 0
        self._other_made = 0
        self.beside = _Beside(plan, tally, self._clients, self.pending) if _has_more(plan) else None

    def add_session(self, user: int, times: array[int]) -> None:
        """Add a session's messages, their answers' statuses, redeliveries and bad records.

        Args:
            user: Number of the client.
            times: When the client writes, milliseconds since 1970, ascending.
        """
        uniform, bits = self._random.random, self._random.getrandbits
        pending, beside = self.pending, self.beside
        client = self._clients.client(user, uniform())
        phases = beside.begin_session(user, client, times) if beside else None
        sender, user_id, contact, inbound_head, outbound_head, plainly = client
        topic = _TOPIC_PHRASES[int(uniform() * len(_TOPIC_PHRASES))]
        reply_share = self._plan.reply_pct / 100
        answered_share = self._plan.answered_pct / 100
        last = len(times) - 1
        answer_id = ""
        message: Any
        for place, event_ms in enumerate(times):
            if phases and place in phases:
                client = phases[place]
                sender, user_id, contact, inbound_head, outbound_head, plainly = client
            # Neighbours overtake each other: deliveries run in parallel at Meta's side.
            deliver_ms = event_ms + 300 + int(uniform() * uniform() * 5_000)
            message_id = _wamid(inbound_head, b"3A%018X" % bits(72))
            if self._other_left and uniform() * self._left < self._other_left:
                message = self._other(client, message_id, event_ms, answer_id)
            else:
                message = _Message(
                    _Context(BUSINESS_PHONE, answer_id)
                    if answer_id and uniform() < reply_share
                    else UNSET,
                    sender,
                    user_id,
                    message_id,
                    str(event_ms // 1_000),
                    _Text(_text(uniform, topic, not place, place == last, plainly)),
                    "text",
                )
            # One draw finds the few messages with which something happens; see _add_special.
            on_its_way = None
            if uniform() * self._left < self._special_left:
                deliver_ms = self._add_special(client, event_ms, deliver_ms, message)
            else:
                on_its_way = _Unit(deliver_ms, contact, message)
                pending.append(on_its_way)
            self._left -= 1
            if beside:
                deliver_ms = beside.add_records(message, event_ms, deliver_ms, on_its_way)
            is_answered = uniform() < answered_share
            if is_answered:
                answer_id = _wamid(outbound_head, b"%018X" % bits(72))
                self._add_statuses(client, answer_id, deliver_ms)
            if beside:
                beside.add_chatbot_events(
                    message, event_ms, deliver_ms, answer_id if is_answered else "", place == last
                )
        if beside:
            beside.end_session()
        self._tally.messages += len(times)

    def _add_special(self, client: _Client, event_ms: int, deliver_ms: int, message: Any) -> int:
        """Add a message that comes late or twice, or beside a bad record.

        Selection sampling: with n messages left, one of the k still wanted is taken with the
        chance k / n, which gives exactly the wanted number; this is the second half of the draw.

        Returns:
            When the message is delivered.
        """
        uniform = self._random.random
        among = min(self._special_left, self._left)
        is_late = uniform() * among < self._late_left
        comes_again = uniform() * among < self._redelivered_left
        has_bad = uniform() * among < self._bad_left
        self._special_left -= is_late + comes_again + has_bad
        if is_late:
            self._late_left -= 1
            self._tally.late += 1
            late_ms = min(deliver_ms + self._late_delay(), self._as_of_ms)
            deliver_ms = max(deliver_ms, late_ms)
        self.pending.append(_Unit(deliver_ms, client.contact, message))
        if comes_again:
            self._redelivered_left -= 1
            self._tally.redeliveries += 1
            again_ms = self._again_ms(deliver_ms)
            self.pending.append(_Unit(again_ms, client.contact, message))
        if has_bad:
            self._bad_left -= 1
            self._add_bad(client, event_ms, deliver_ms)
        return deliver_ms

    def _late_delay(self) -> int:
        """Three minutes to two days, mostly under an hour (the client's telephone was off)."""
        uniform = self._random.random
        longest = _HOUR_MS if uniform() < 0.6 else 2 * _DAY_MS
        return _LATE_MIN_MS + int(uniform() * (longest - _LATE_MIN_MS))

    def _again_ms(self, deliver_ms: int) -> int:
        """When the same update comes again: mostly within minutes, at times after days."""
        uniform = self._random.random
        draw = uniform()
        longest = 10 * _MINUTE_MS if draw < 0.7 else 6 * _HOUR_MS if draw < 0.95 else 3 * _DAY_MS
        again = deliver_ms + _REDELIVERY_MIN_MS + int(uniform() * longest)
        # At the end of the file it comes after everything else, still in a POST of its own.
        return max(min(again, self._as_of_ms), deliver_ms + _REDELIVERY_MIN_MS)

    def _add_statuses(self, client: _Client, answer_id: str, received_ms: int) -> None:
        """Add what becomes of one answer, as far as it has happened by `as_of`."""
        uniform, pending, as_of_ms = self._random.random, self.pending, self._as_of_ms
        sender, user_id, contact, _, _, _ = client
        for name, event_ms, pricing, errors in _fate(uniform, received_ms):
            if event_ms > as_of_ms:
                break
            status = _Status(
                answer_id, name, str(event_ms // 1_000), sender, user_id, pricing, errors
            )
            draw = uniform()
            # Meta adds contacts to statuses of clients with a user id, but not to failed ones.
            shown = contact if user_id is not UNSET and errors is UNSET else None
            deliver_ms = event_ms + 200 + int(draw * 2_000)
            pending.append(_Unit(deliver_ms, shown, status))
            self._tally.statuses += 1
            if draw < self._redelivered_share:
                pending.append(_Unit(self._again_ms(deliver_ms), shown, status))
                self._tally.status_redeliveries += 1

    def _other(
        self, client: _Client, message_id: str, event_ms: int, answer_id: str
    ) -> dict[str, Any]:
        """Make a message that is not text, of the kind whose turn it is."""
        kind = OTHER_KINDS[self._other_made % len(OTHER_KINDS)]
        self._other_made += 1
        self._other_left -= 1
        self._tally.kinds[kind] += 1
        uniform, bits = self._random.random, self._random.getrandbits
        message = _fields(client, message_id, str(event_ms // 1_000))
        answered = {
            "from": BUSINESS_PHONE,
            "id": answer_id or _wamid(client.outbound_id_head, b"%018X" % bits(72)),
        }
        message.update(_other_content(kind, uniform, bits, answered))
        if kind in {"interactive", "button"}:
            message = {"context": answered, **message}
        message["type"] = kind
        return message

    def _add_bad(self, client: _Client, event_ms: int, deliver_ms: int) -> None:
        """Add a bad record, of the kind whose turn it is, beside the client's good ones."""
        kind = BAD_KINDS[self._bad_made % len(BAD_KINDS)]
        self._bad_made += 1
        self._tally.bad[kind] += 1
        contact, update = _bad_update(
            kind,
            client,
            _wamid(client.inbound_id_head, b"3A%018X" % self._random.getrandbits(72)),
            event_ms // 1_000,
            self._as_of_ms // 1_000,
        )
        self.pending.append(_Unit(deliver_ms + 400, contact, update))


# --- What comes beside the messages ---------------------------------------------------------------

_ANSWERS: Final = _phrases(
    (
        "Olá! Sou o assistente virtual da GATTE. Como posso ajudar?",
        "Claro! Para o {certificado} preciso de: {documento} e {documento}.",
        "O {plano} sai por R$ {valor}, com {validade} de validade.",
        "Tenho horário {dia} {hora}. Posso confirmar?",
        "Seu protocolo é {protocolo}. Guarde este número, por favor.",
        "Entendi: {sistema} {defeito}. Já tentou {aparelho}?",
        "A validação é por videoconferência e dura uns {n} minutos.",
        "O pagamento pode ser por {pagamento}. Qual você prefere?",
        "Vou transferir você para um atendente. Um momento, por favor.",
        "Pronto! Mais alguma coisa em que eu possa ajudar?",
        "Não entendi bem. É sobre certificado, {plano} ou suporte?",
        "Recebi o documento, obrigado! Retornamos {dia} {hora}.",
        "1️⃣ Certificados\n2️⃣ Planos LC Web\n3️⃣ Suporte\n4️⃣ Falar com atendente",
        "Para renovar o {certificado} basta responder RENOVAR.",
        "Instale o {certificado} {aparelho} e reinicie o navegador.",
        "Em {cidade} atendemos {dia}, {hora}.",
        "Agendado para {dia} {hora}. Até lá! 😊",
    )
)
_STAFF_ANSWERS: Final = _phrases(
    (
        "Oi! Aqui é do suporte, vi o seu chamado {protocolo}. Vou acessar e já retorno.",
        "Bom dia! Conferi aqui e o {certificado} já foi emitido 👍",
        "Pode me mandar a {documento} por aqui mesmo?",
        "Consegui um encaixe {dia} {hora}, serve?",
        "Fechamos por R$ {valor} no {pagamento}, pode ser?",
    )
)
_EDIT_PHRASES: Final = _phrases(
    (
        "{dia} {hora}",
        "o certo é {certificado}",
        "quis dizer {plano}",
        "R$ {valor}",
        "digitei errado",
    )
)
_INTENTS: Final = (
    "ticket_open",
    "price_question",
    "certificate_renewal",
    "appointment_request",
    "smalltalk",
    "human_request",
)
_FLOWS: Final = ("ticket_flow", "appointment_flow", "renewal_flow")
_MODELS: Final = ("modelo-exemplo-1", "modelo-exemplo-2")
# Of the chatbot's events: above the first share a client's message is repeated; conversation
# events come mostly at the end of a session, and are four in a hundred of all.
_REPEATED_FROM: Final = 0.74
_CONVERSATION_EVENT_WITHIN: Final = 0.015
_CONVERSATION_EVENT_AT_END: Final = 0.20
_NEVER_SENT: Final = 0.02
_CHANGE_BEFORE_MESSAGE: Final = 0.25
_EDIT_WINDOW_MS: Final = 14 * _MINUTE_MS
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

_SEEN: Final = 1
_MOVED: Final = 2
_STOPPED: Final = 4
_RESUMED: Final = 8


def _has_more(plan: TrafficPlan) -> bool:
    """Whether anything comes beside messages, statuses and bad records."""
    return any(
        (
            plan.chatbot_pct,
            plan.edit_pct,
            plan.revoke_pct,
            plan.echo_pct,
            plan.group_pct,
            plan.number_change_pct,
            plan.opt_out_pct,
            plan.bsuid_first_pct,
        )
    )


def _instant(ms: int) -> str:
    """RFC 3339 in UTC with milliseconds."""
    return (_EPOCH + timedelta(milliseconds=ms)).isoformat(timespec="milliseconds")[:-6] + "Z"


class _Beside:
    """Adds the chatbot's events and the rarer webhook records to the messages of a session."""

    def __init__(
        self, plan: TrafficPlan, tally: _Tally, clients: _Clients, pending: list[_Unit]
    ) -> None:
        self._plan = plan
        self._tally = tally
        self._clients = clients
        self._pending = pending
        self._lines: list[_Unit] = []
        self._random = random.Random((plan.seed * 2 + 1) << 80)  # noqa: S311 - made-up traffic
        self._as_of_ms = int(plan.as_of.timestamp()) * _SECOND_MS
        self._left = plan.messages
        self._edits_left = round(plan.messages * plan.edit_pct / 100)
        self._revokes_left = round(plan.messages * plan.revoke_pct / 100)
        self._echoes_left = round(plan.messages * plan.echo_pct / 100)
        self._groups_left = round(plan.messages * plan.group_pct / 100)
        self._chatbot_left = round(plan.messages * plan.chatbot_pct / (100 - plan.chatbot_pct))
        self._clients_differ = any((plan.number_change_pct, plan.opt_out_pct, plan.bsuid_first_pct))
        self._states = bytearray(plan.users if self._clients_differ else 0)
        # The client of the session at hand, as known from each moment on.
        self._known: list[tuple[int, _Client]] = []
        self._user = 0
        self._end_ms = 0
        self._mode = ""
        self._flow: str | UnsetType = UNSET

    def take_chatbot_lines(self, before_ms: int | None) -> list[_Unit]:
        """Hand over the chatbot's lines of before a moment (None: all that are left), sorted."""
        self._lines.sort(key=_DELIVERY)
        ready = (
            len(self._lines)
            if before_ms is None
            else bisect_left(self._lines, before_ms, key=_DELIVERY)
        )
        taken = self._lines[:ready]
        del self._lines[:ready]
        return taken

    def begin_session(
        self, user: int, client: _Client, times: array[int]
    ) -> dict[int, _Client] | None:
        """Decide how the client is known during a session.

        Args:
            user: Number of the client.
            client: As the plan without changes has it.
            times: When the client writes, milliseconds since 1970, ascending.

        Returns:
            The client by the place of the first message from which on it is so; None where it
            stays as it is.
        """
        uniform = self._random.random
        draw = uniform()
        self._mode = "ai_free" if draw < 0.65 else "flow" if draw < 0.85 else "menu"
        self._flow = UNSET
        if self._mode == "flow":
            self._flow = _FLOWS[int(uniform() * len(_FLOWS))]
        self._user, self._end_ms = user, times[-1]
        self._known = [(0, client)]
        if not self._clients_differ:
            return None
        plan, clients = self._plan, self._clients
        is_first = not self._states[user] & _SEEN
        self._states[user] |= _SEEN
        phases: dict[int, _Client] = {}
        if self._states[user] & _MOVED:
            client = clients.moved(user, client)
            phases[0] = client
            self._known = [(0, client)]
        elif is_first:
            place = 1
            if client.sender is not UNSET and clients.happens(
                user, _BSUID_FIRST, plan.bsuid_first_pct
            ):
                place = max(1, len(times) // 2)
                phases[0] = clients.without_number(client)
                self._known = [(0, phases[0])]
                if place < len(times):
                    phases[place] = client
                    self._known.append((times[place], client))
            if clients.happens(user, _NUMBER_CHANGE, plan.number_change_pct) and (
                client.sender is not UNSET or client.user_id is not UNSET
            ):
                place = min(place + 1 + int(uniform() * (len(times) - place)), len(times))
                new = clients.moved(user, client)
                changed_at = self._change_second(times, place)
                self._known.append((changed_at * _SECOND_MS + 1, new))
                if place < len(times):
                    phases[place] = new
                self._states[user] |= _MOVED
                self._add_number_change(client, new, changed_at)
        return phases or None

    def _change_second(self, times: array[int], place: int) -> int:
        """When the number changes: after the message before the place, before the one at it."""
        if place < len(times):
            return times[place - 1] // _SECOND_MS + 1
        later = times[-1] + 5 * _SECOND_MS + int(self._random.random() * 10 * _MINUTE_MS)
        return min(later, self._as_of_ms) // _SECOND_MS

    def _who(self, at_ms: int) -> _Client:
        """The client as known at a moment."""
        for since_ms, client in reversed(self._known):
            if at_ms >= since_ms:
                return client
        return self._known[0][1]

    def _add_number_change(self, old: _Client, new: _Client, changed_at: int) -> None:
        name = old.contact.profile.name
        draw = self._random.random()
        if old.sender is not UNSET:
            system: dict[str, Any] = {
                "body": f"User {name} changed from {old.sender} to {new.sender}",
                "wa_id": new.sender,
            }
            if new.user_id is not UNSET:
                system["user_id"] = new.user_id
            system["type"] = "user_changed_number"
            record = {
                "from": old.sender,
                "id": self._message_id(old),
                "timestamp": str(changed_at),
                "system": system,
                "type": "system",
            }
            # A system message has no contacts.
            self._post("user_changed_number", changed_at, None, record, slow=draw < 0.3)
        if old.user_id is not UNSET:
            update: dict[str, Any] = {} if new.sender is UNSET else {"wa_id": new.sender}
            update["detail"] = f"User id for {name} has been updated."
            update["user_id"] = {"previous": old.user_id, "current": new.user_id}
            update["timestamp"] = str(changed_at)
            contact = _Contact(new.contact.profile, new.sender, UNSET)
            self._post(
                "user_id_update",
                changed_at,
                contact if new.sender is not UNSET else None,
                _OtherField("user_id_update", update),
                slow=0.15 < draw < 0.45,
            )

    def _post(
        self, kind: str, at_seconds: int, contact: _Contact | None, update: Any, *, slow: bool
    ) -> int:
        """Put a record on its way: within seconds, or after up to an hour.

        Returns:
            When it is delivered.
        """
        draw = self._random.random()
        deliver_ms = at_seconds * _SECOND_MS + 1_300 + int(draw * (_HOUR_MS if slow else 3_000))
        self._pending.append(_Unit(deliver_ms, contact, update))
        self._tally.others[kind] += 1
        return deliver_ms

    def _message_id(self, client: _Client) -> str:
        return _wamid(client.inbound_id_head, b"3A%018X" % self._random.getrandbits(72))

    def add_records(
        self, message: Any, event_ms: int, deliver_ms: int, on_its_way: _Unit | None
    ) -> int:
        """Add an edit or a removal of a message, a message of a group, an answer of the staff.

        Args:
            message: The client's message.
            event_ms: When it was written.
            deliver_ms: When it is delivered.
            on_its_way: The message, where it may still be put off until after its change.

        Returns:
            When the message is now delivered.
        """
        uniform, left = self._random.random, self._left
        if self._edits_left and uniform() * left < self._edits_left and type(message) is _Message:
            deliver_ms = self._add_edit(message, event_ms, deliver_ms, on_its_way)
            on_its_way = None  # put off once at most, or it would count as late
        if self._revokes_left and uniform() * left < self._revokes_left:
            self._revokes_left -= 1
            message_id = message.id if type(message) is _Message else message["id"]
            longest = _MINUTE_MS if uniform() < 0.6 else 2 * _HOUR_MS
            fields = {"revoke": {"original_message_id": message_id}, "type": "revoke"}
            moment = event_ms + 5_000 + int(uniform() * longest)
            deliver_ms = self._add_change("revoke", fields, moment, deliver_ms, on_its_way)[1]
        if self._groups_left and uniform() * left < self._groups_left:
            self._groups_left -= 1
            client = self._who(event_ms)
            group: dict[str, Any] = {"group_id": f"grupo-exemplo-{int(uniform() * 20)}"}
            group |= _fields(client, self._message_id(client), str(event_ms // 1_000))
            group |= {"text": {"body": "Pessoal, alguém já renovou?"}, "type": "text"}
            self._post("group", event_ms // _SECOND_MS, client.contact, group, slow=False)
        if self._echoes_left and uniform() * left < self._echoes_left:
            self._add_echo(event_ms)
        return deliver_ms

    def _add_edit(
        self, message: _Message, event_ms: int, deliver_ms: int, on_its_way: _Unit | None
    ) -> int:
        """Add an edit of a text, at times with a second one."""
        uniform = self._random.random
        moment, target = event_ms, message.id
        for _ in range(2 if uniform() < 0.15 and self._edits_left > 1 else 1):
            self._edits_left -= 1
            longest = _MINUTE_MS if uniform() < 0.7 else _EDIT_WINDOW_MS // 2
            moment = min(moment + 3_000 + int(uniform() * longest), self._as_of_ms)
            body = f"{message.text.body} ({_say(uniform, _EDIT_PHRASES)})"
            edited = {"type": "text", "text": {"body": body}, "context": {"id": "M0"}}
            fields = {"edit": {"original_message_id": target, "message": edited}, "type": "edit"}
            edit_id, deliver_ms = self._add_change("edit", fields, moment, deliver_ms, on_its_way)
            on_its_way = None
            # The second edit names the message, or the edit before it.
            target = edit_id if uniform() < 0.5 else message.id
        return deliver_ms

    def _add_change(
        self,
        kind: str,
        fields: dict[str, Any],
        moment: int,
        deliver_ms: int,
        on_its_way: _Unit | None,
    ) -> tuple[str, int]:
        """Add an edit or removal; at times the message itself is put off until after it.

        Returns:
            The id of the change, and when the message is now delivered.
        """
        uniform = self._random.random
        at_seconds = min(moment, self._as_of_ms) // _SECOND_MS
        client = self._who(at_seconds * _SECOND_MS)
        change_id = self._message_id(client)
        record = _fields(client, change_id, str(at_seconds)) | fields
        changed_ms = self._post(kind, at_seconds, client.contact, record, slow=False)
        if (
            on_its_way is not None
            and uniform() < _CHANGE_BEFORE_MESSAGE
            # Not so late that it would count as late, nor after the end.
            and changed_ms - deliver_ms < 2 * _MINUTE_MS
            and changed_ms + 40_000 < self._as_of_ms
        ):
            deliver_ms = max(deliver_ms, changed_ms + 500 + int(uniform() * 30_000))
            on_its_way.deliver_ms = deliver_ms
        return change_id, deliver_ms

    def _add_echo(self, event_ms: int) -> None:
        uniform, bits = self._random.random, self._random.getrandbits
        moment = min(event_ms + 5_000 + int(uniform() * _MINUTE_MS), self._as_of_ms)
        at_seconds = moment // _SECOND_MS
        client = self._who(at_seconds * _SECOND_MS)
        if client.sender is UNSET:
            return
        self._echoes_left -= 1
        record = {
            "from": BUSINESS_PHONE,
            "to": client.sender,
            "id": _wamid(client.outbound_id_head, b"%018X" % bits(72)),
            "timestamp": str(at_seconds),
            "type": "text",
            "text": {"body": _say(uniform, _STAFF_ANSWERS)},
        }
        self._post("echo", at_seconds, None, _OtherField("smb_message_echoes", record), slow=False)

    def end_session(self) -> None:
        """Add the client's choice about marketing messages, where one is made."""
        if not self._plan.opt_out_pct or not self._clients.happens(
            self._user, _OPT_OUT, self._plan.opt_out_pct
        ):
            return
        uniform, state = self._random.random, self._states[self._user]
        if not state & _STOPPED:
            self._states[self._user] |= _STOPPED
            value = "stop"
        elif not state & _RESUMED:
            self._states[self._user] |= _RESUMED
            if uniform() > 1 / 3:
                return
            value = "resume"
        else:
            return
        at_ms = min(self._end_ms + 20_000 + int(uniform() * 5 * _MINUTE_MS), self._as_of_ms)
        at_seconds = at_ms // _SECOND_MS
        client = self._who(at_seconds * _SECOND_MS)
        record: dict[str, Any] = (
            {"user_id": client.user_id} if client.sender is UNSET else {"wa_id": client.sender}
        )
        record |= {
            "detail": f"User requested to {value} marketing messages",
            "category": "marketing_messages",
            "value": value,
            "timestamp": at_seconds,
        }
        self._post(
            "opt_out" if value == "stop" else "opt_in",
            at_seconds,
            client.contact,
            _OtherField("user_preferences", record),
            slow=uniform() < 0.1,
        )

    def add_chatbot_events(
        self, message: Any, event_ms: int, deliver_ms: int, answer_id: str, is_last: bool
    ) -> None:
        """Add what the chatbot tells of a message and of its answer.

        Args:
            message: The client's message.
            event_ms: When it was written.
            deliver_ms: When it was delivered.
            answer_id: The answer's wamid; '' where there is none.
            is_last: Whether it is the last of the session.
        """
        uniform = self._random.random
        # Selection sampling, see _Maker._add_special; here also more than one for each message.
        share = self._chatbot_left / self._left
        self._left -= 1
        events = int(share)
        events += uniform() < share - events
        self._chatbot_left -= events
        conversation_share = _CONVERSATION_EVENT_AT_END if is_last else _CONVERSATION_EVENT_WITHIN
        is_repeated = False
        for _ in range(events):
            draw = uniform()
            if draw < conversation_share:
                self._tell_conversation(deliver_ms, is_last)
            elif not is_repeated and (draw > _REPEATED_FROM or not answer_id):
                is_repeated = True
                self._repeat(message, event_ms, deliver_ms)
            else:
                self._tell_answer(answer_id, deliver_ms)
                answer_id = ""

    def _write(self, at_ms: int, event: _ChatbotMessage | _ChatbotConversation) -> None:
        # The chatbot writes its events within seconds.
        deliver_ms = at_ms + 50 + int(self._random.random() * 2_000)
        self._lines.append(_Unit(deliver_ms, None, _ENCODE(event)))

    def _address(self, at_ms: int) -> tuple[str | UnsetType, str | UnsetType]:
        """The client as the chatbot names it: by the number in its full form, else by user id."""
        client = self._who(at_ms)
        if client.sender is UNSET:
            return UNSET, client.user_id
        return f"+{phone_key(client.sender)}", UNSET

    def _tell_answer(self, answer_id: str, received_ms: int) -> None:
        """Tell of the answer under its wamid; of one that never went to WhatsApp by our own id."""
        uniform, bits = self._random.random, self._random.getrandbits
        self._tally.chatbot_messages += 1
        # Before Meta's "sent", which comes a second after the receipt at the earliest.
        sent_ms = min(received_ms + 200 + int(uniform() * 700), self._as_of_ms)
        phone, bsuid = self._address(sent_ms)
        by_staff = self._mode == "human"
        by_model = self._mode == "ai_free"
        is_sent = bool(answer_id) and uniform() > _NEVER_SENT
        event = _ChatbotMessage(
            CHATBOT_SCHEMA,
            "message",
            answer_id if is_sent else UNSET,
            UNSET if is_sent else f"cb-{bits(96):024x}",
            phone,
            bsuid,
            "assistant",
            _say(uniform, _STAFF_ANSWERS if by_staff else _ANSWERS),
            _instant(sent_ms),
            "human" if by_staff else "bot",
            40 + int(uniform() * 900) if by_model else UNSET,
            _INTENTS[int(uniform() * len(_INTENTS))] if uniform() < 0.5 else UNSET,
            _MODELS[int(uniform() * len(_MODELS))] if by_model else UNSET,
            self._mode,
            self._flow,
        )
        self._write(sent_ms, event)

    def _repeat(self, message: Any, event_ms: int, deliver_ms: int) -> None:
        """Tell of a client's message again, by the chatbot's own clock."""
        uniform = self._random.random
        self._tally.chatbot_repeats += 1
        # The chatbot receives it about when we do, so it is as often the first to tell.
        received_ms = max(event_ms + 300, deliver_ms - 1_500) + int(uniform() * 3_000)
        received_ms = min(received_ms, self._as_of_ms)
        phone, bsuid = self._address(received_ms)
        if type(message) is _Message:
            message_id, content = message.id, message.text.body
        else:
            message_id, content = message["id"], f"[{message['type']}]"
        event = _ChatbotMessage(
            CHATBOT_SCHEMA,
            "message",
            message_id,
            UNSET,
            phone,
            bsuid,
            "user",
            content,
            _instant(received_ms),
            "client",
            5 + int(uniform() * 60) if self._mode == "ai_free" else UNSET,
            _INTENTS[int(uniform() * len(_INTENTS))],
            UNSET,
            self._mode,
            self._flow,
        )
        self._write(received_ms, event)

    def _tell_conversation(self, received_ms: int, is_last: bool) -> None:
        """Tell how the conversation stands; after a transfer a person answers."""
        uniform = self._random.random
        self._tally.conversation_events += 1
        draw = uniform()
        if is_last:
            status = "closed" if draw < 0.6 else "transferred" if draw < 0.8 else "waiting"
        else:
            status = "open" if draw < 0.4 else "transferred" if draw < 0.7 else "waiting"
        longest = 10 * _MINUTE_MS if status == "closed" else 5_000
        at_ms = min(received_ms + 1_500 + int(uniform() * longest), self._as_of_ms)
        phone, bsuid = self._address(at_ms)
        to_staff: str | UnsetType = UNSET
        if status == "transferred":
            to_staff = f"Atendente {1 + int(uniform() * 12)}"
            self._mode, self._flow = "human", UNSET
        event = _ChatbotConversation(
            CHATBOT_SCHEMA,
            "conversation",
            f"evt-{self._random.getrandbits(96):024x}",
            phone,
            bsuid,
            status,
            _instant(at_ms),
            _instant(at_ms) if status == "closed" else UNSET,
            to_staff,
        )
        self._write(at_ms, event)


_Fate = list[tuple[str, int, _Pricing | UnsetType, list[_Error] | UnsetType]]


def _fate(uniform: Callable[[], float], received_ms: int) -> _Fate:
    """Draw what becomes of one answer: sent, delivered (at times skipped), read; or failed.

    Returns:
        Statuses in the order of their events: name, moment (ms), pricing, errors.
    """
    sent_ms = received_ms + 1_000 + int(uniform() * 4_000)
    draw = uniform()
    pricing = _UTILITY if draw > 0.97 else _FREE
    sent: _Fate = [("sent", sent_ms, pricing, UNSET)]
    if draw < 0.015:
        errors = _FAILURES[int(uniform() * len(_FAILURES))]
        failed: _Fate = [("failed", sent_ms + 2_000, UNSET, errors)]
        return sent + failed if draw < 0.008 else failed
    draw = uniform()
    # Seven clients in a hundred are away for up to an hour and do not read at once.
    delivered_ms = sent_ms + 300 + int(uniform() * (_HOUR_MS if draw > 0.93 else 2_500))
    if draw < 0.04:
        # "Read" implies "delivered", which Meta may leave out; then the price comes here.
        sent.append(("read", delivered_ms + 900, pricing, UNSET))
        return sent
    sent.append(("delivered", delivered_ms, pricing, UNSET))
    if draw < 0.73:
        longest = 6 * _HOUR_MS if draw > 0.70 else 20_000
        sent.append(("read", delivered_ms + 700 + int(uniform() * longest), UNSET, UNSET))
    return sent


def _wamid(head: bytes, hexadecimal: bytes) -> str:
    """Write a message id as Meta does: base64 of number, direction and a hexadecimal id."""
    return "wamid." + b2a_base64(head + hexadecimal + b"\x00", newline=False).decode("ascii")


def _fields(client: _Client, message_id: str, timestamp: str) -> dict[str, Any]:
    """The fields that messages of every type share."""
    message: dict[str, Any] = {}
    if client.sender is not UNSET:
        message["from"] = client.sender
    if client.user_id is not UNSET:
        message["from_user_id"] = client.user_id
    message["id"] = message_id
    message["timestamp"] = timestamp
    return message


_MEDIA: Final = {
    "image": ("image/jpeg", "Segue a foto do documento"),
    "video": ("video/mp4", "Olha o erro que aparece"),
    "document": ("application/pdf", "Contrato social assinado"),
    "audio": ("audio/ogg; codecs=opus", None),
    "sticker": ("image/webp", None),
}
_REACTIONS: Final = ("👍", "❤️", "🙏", "😂", "")


def _other_content(
    kind: str,
    uniform: Callable[[], float],
    bits: Callable[[int], int],
    answered: dict[str, str],
) -> dict[str, Any]:
    """The payload of a message that is not text."""
    if kind in _MEDIA:
        mime_type, caption = _MEDIA[kind]
        digest = b2a_base64(bits(256).to_bytes(32, "big"), newline=False).decode("ascii")
        media: dict[str, Any] = {
            "mime_type": mime_type,
            "sha256": digest,
            "id": str(10**15 + bits(48)),
        }
        if caption and uniform() < 0.5:
            media["caption"] = caption
        if kind == "document":
            media["filename"] = f"documento_{1 + int(uniform() * 99)}.pdf"
        if kind == "audio":
            media["voice"] = uniform() < 0.9
        if kind == "sticker":
            media["animated"] = uniform() < 0.3
        return {kind: media}
    if kind == "interactive":
        if uniform() < 0.6:
            wants, title = ("renovar", "Renovar") if uniform() < 0.5 else ("humano", "Atendente")
            reply: dict[str, Any] = {"id": wants, "title": title}
            return {kind: {"type": "button_reply", "button_reply": reply}}
        reply = {"id": "e_cnpj_a1", "title": "e-CNPJ A1", "description": "Validade de 1 ano"}
        return {kind: {"type": "list_reply", "list_reply": reply}}
    if kind == "button":
        return {kind: {"payload": "QUERO_RENOVAR", "text": "Quero renovar"}}
    if kind == "reaction":
        reaction = {"message_id": answered["id"]}
        emoji = _REACTIONS[int(uniform() * len(_REACTIONS))]
        # A removed reaction has no emoji, or an empty one.
        if emoji or uniform() < 0.5:
            reaction["emoji"] = emoji
        return {kind: reaction}
    if kind == "location":
        return {
            kind: {
                "latitude": round(-30 + uniform() * 25, 6),
                "longitude": round(-55 + uniform() * 15, 6),
                "name": "Escritório",
            }
        }
    if kind == "contacts":
        serial = f"{int(uniform() * 10_000):04d}"
        phone = {"phone": f"+55 11 90000-{serial}", "wa_id": f"55119000{serial}0", "type": "CELL"}
        name = {"formatted_name": "Contador de Exemplo", "first_name": "Contador"}
        return {kind: [{"name": name, "phones": [phone]}]}
    error = {
        "code": 131051,
        "title": "Message type unknown",
        "message": "Message type unknown",
        "error_data": {"details": "Message type is currently not supported."},
    }
    return {"errors": [error], kind: {"type": "poll"}}


def _bad_update(
    kind: str, client: _Client, message_id: str, event_seconds: int, as_of_seconds: int
) -> tuple[_Contact | None, Any]:
    """Make a bad record: a message for a POST among others, or the bytes of a POST of its own."""
    message = _fields(client, message_id, str(event_seconds))
    message["text"] = {"body": "Não consigo emitir a nota, podem ajudar?"}
    message["type"] = "text"
    contact = client.contact
    if kind == "text_is_number":
        message["text"] = {"body": 12345}
    elif kind == "timestamp_is_text":
        message["timestamp"] = "ontem"
    elif kind == "timestamp_negative":
        message["timestamp"] = str(-event_seconds)
    elif kind == "timestamp_in_future":
        message["timestamp"] = str(as_of_seconds + 86_400)
    elif kind == "nul_in_text":
        message["text"] = {"body": "Segue o \x00 arquivo"}
    elif kind == "id_missing":
        del message["id"]
    elif kind == "unknown_type":
        message["type"] = "hologram"
        message["hologram"] = message.pop("text")
    else:
        if kind == "phone_with_letters":
            message["from"] = "55119OOOO-12E4"
            contact = _Contact(contact.profile, message["from"], UNSET)
            message.pop("from_user_id", None)
        elif kind == "phone_too_long":
            message["from"] = "5511900001234567890"
            contact = _Contact(contact.profile, message["from"], UNSET)
            message.pop("from_user_id", None)
        elif kind == "name_too_long":
            contact = _Contact(
                _Profile(" ".join([contact.profile.name] * 40)[:400].ljust(151, "o")),
                contact.wa_id,
                contact.user_id,
            )
        # A contact of its own, or the whole line spoiled: these never share a POST.
        body = _encode([_change([contact], [message], UNSET)])
        if kind == "malformed_json":
            body = body[: len(body) * 7 // 10]
        elif kind == "invalid_utf8":
            body = body.replace("Não".encode(), "Não".encode("latin-1"))
        return None, body
    return contact, message


_ENCODE: Final = msgspec.json.Encoder().encode


def _change(
    contacts: list[_Contact] | UnsetType,
    messages: list[Any] | UnsetType,
    statuses: list[_Status] | UnsetType,
) -> _Change:
    return _Change(_Value("whatsapp", _METADATA, contacts, messages, statuses), "messages")


def _other_change(contact: _Contact | None, update: _OtherField) -> _Change:
    value: dict[str, Any] = {"messaging_product": "whatsapp", "metadata": _METADATA}
    if contact is not None:
        value["contacts"] = [contact]
    value[_PLACES[update.field]] = [update.record]
    return _Change(value, update.field)


def _encode(changes: list[_Change], *, as_entries: bool = False) -> bytes:
    entries = (
        [_Entry(_BUSINESS_ACCOUNT, [change]) for change in changes]
        if as_entries
        else [_Entry(_BUSINESS_ACCOUNT, changes)]
    )
    return _ENCODE(_Body("whatsapp_business_account", entries))


class _Postman:
    """Puts updates into POST bodies: mostly one, under load up to a hundred."""

    def __init__(self, plan: TrafficPlan) -> None:
        self._uniform = random.Random((plan.seed * 2 + 1) << 40).random  # noqa: S311 - made-up
        self.posted_ms = 0
        """Delivery of the last update of the body just given."""

    def post(self, units: list[_Unit]) -> Iterator[bytes]:
        """Pack updates in the order of their delivery.

        Args:
            units: Sorted updates.

        Yields:
            Bodies.
        """
        uniform = self._uniform
        position, size = 0, len(units)
        while position < size:
            draw = uniform()
            first = units[position]
            self.posted_ms = first.deliver_ms
            contact, update = first.contact, first.update
            if update.__class__ is bytes:
                position += 1
                yield update
                continue
            if draw < 0.60:
                position += 1
                contacts = UNSET if contact is None else [contact]
                if update.__class__ is _Status:
                    yield _encode([_change(contacts, UNSET, [update])])
                elif update.__class__ is _OtherField:
                    yield _encode(_changes_of([first]))
                else:
                    yield _encode([_change(contacts, [update], UNSET)])
                continue
            if draw < 0.85:
                most = 2 + int(uniform() * 4)
            elif draw < 0.97:
                most = 6 + int(uniform() * 15)
            else:
                most = 21 + int(uniform() * 80)
            latest_ms = first.deliver_ms + _POST_SPAN_MS
            posted: list[_Unit] = []
            for unit in units[position : position + most]:
                if unit.deliver_ms > latest_ms or unit.update.__class__ is bytes:
                    break
                posted.append(unit)
            position += len(posted)
            self.posted_ms = posted[-1].deliver_ms
            if len(posted) >= 4 and uniform() < 0.12:
                middle = len(posted) // 2
                changes = _changes_of(posted[:middle]) + _changes_of(posted[middle:])
            else:
                changes = _changes_of(posted)
            yield _encode(changes, as_entries=len(changes) > 1 and uniform() < 0.3)


def _changes_of(units: list[_Unit]) -> list[_Change]:
    """Split updates into a change with the messages, one with the statuses, and single others."""
    messages: list[Any] = []
    statuses: list[_Status] = []
    # By identity: a client's contact is one object all through a session.
    message_contacts: dict[int, _Contact] = {}
    status_contacts: dict[int, _Contact] = {}
    others: list[_Change] = []
    for unit in units:
        contact, update = unit.contact, unit.update
        if update.__class__ is _Status:
            statuses.append(update)
            if contact is not None:
                status_contacts[id(contact)] = contact
        elif update.__class__ is _OtherField:
            others.append(_other_change(contact, update))
        else:
            messages.append(update)
            if contact is not None:
                message_contacts[id(contact)] = contact
    changes = []
    if messages:
        changes.append(_change(list(message_contacts.values()) or UNSET, messages, UNSET))
    if statuses:
        changes.append(_change(list(status_contacts.values()) or UNSET, UNSET, statuses))
    return changes + others
