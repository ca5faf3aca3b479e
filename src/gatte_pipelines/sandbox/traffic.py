"""Made-up WhatsApp webhook traffic: the same plan gives the same bytes on every machine.

Sending it anywhere, signing it and loading it do not belong here.

Reproducible means: integers and `random.Random.random`/`getrandbits` only (no logarithms, whose
last digit differs between C libraries), no set iterated, no clock, no environment.

Sources: Meta's webhook reference (shape, batching, pricing, statuses, BSUID), decoded official
message ids (`wamid`), and the sessions of a pt-BR support desk for certificates and LC Web plans.
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
from datetime import datetime
from heapq import heapify, heapreplace
from math import gcd
from operator import attrgetter
from typing import Any, BinaryIO, Final, NamedTuple

import msgspec
from msgspec import UNSET, UnsetType

from gatte_pipelines.errors import ConfigurationError
from gatte_pipelines.phones import BRAZILIAN_AREA_CODES

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

MAX_USERS: Final = 5_000_000
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


@dataclass(frozen=True)
class TrafficCounts:
    """What was written.

    Attributes:
        lines: POST bodies, one a line.
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

    @property
    def updates(self) -> int:
        """Units a loader must count as received: every message, status and bad record."""
        return (
            self.messages
            + self.statuses
            + self.redeliveries
            + self.status_redeliveries
            + sum(self.bad.values())
        )


def write_traffic(
    plan: TrafficPlan,
    out: BinaryIO,
    *,
    on_messages: Callable[[int], None] | None = None,
) -> TrafficCounts:
    """Write the traffic of a plan as JSON lines, one POST body a line.

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
    )


def iter_bodies(plan: TrafficPlan) -> Iterator[bytes]:
    """Generate the POST bodies of a plan in the order of their delivery, without line ends.

    Args:
        plan: What to generate.

    Yields:
        Bodies as Meta would send them; none holds a line end.
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
    value: _Value
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
    # A message, a status, the fields of an odd message, or the bytes of a whole POST.
    update: Any


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
        if bsuid_only or (more >> 16 & 0xFFFF) * 100 < plan.user_id_pct * 65_536:
            user_id = f"{country}.{1_000_000_000_000_000 + bits % 9_000_000_000_000_000}"
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
    flush_at = 4_000
    for number in range(diary.windows):
        sessions, times = diary.window(number)
        for session in sessions:
            if len(pending) > flush_at:
                pending.sort(key=_DELIVERY)
                ready = bisect_left(pending, session.start_ms, key=_DELIVERY)
                yield from postman.post(pending[:ready])
                del pending[:ready]
                # Sorting what stays behind again must not outweigh what is new.
                flush_at = 4_000 + 2 * len(pending)
            maker.add_session(
                session.user, times[session.first_time : session.first_time + session.messages]
            )
    pending.sort(key=_DELIVERY)
    yield from postman.post(pending)
    tally.sessions = diary.sessions
    texts = tally.messages - tally.kinds.total()
    if texts:
        tally.kinds["text"] = texts
    tally.users = diary.seen


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

    def add_session(self, user: int, times: array[int]) -> None:
        """Add a session's messages, their answers' statuses, redeliveries and bad records.

        Args:
            user: Number of the client.
            times: When the client writes, milliseconds since 1970, ascending.
        """
        uniform, bits = self._random.random, self._random.getrandbits
        pending = self.pending
        client = self._clients.client(user, uniform())
        sender, user_id, contact, inbound_head, outbound_head, plainly = client
        topic = _TOPIC_PHRASES[int(uniform() * len(_TOPIC_PHRASES))]
        reply_share = self._plan.reply_pct / 100
        answered_share = self._plan.answered_pct / 100
        last = len(times) - 1
        answer_id = ""
        message: Any
        for place, event_ms in enumerate(times):
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
            if uniform() * self._left < self._special_left:
                deliver_ms = self._add_special(client, event_ms, deliver_ms, message)
            else:
                pending.append(_Unit(deliver_ms, contact, message))
            self._left -= 1
            if uniform() < answered_share:
                answer_id = _wamid(outbound_head, b"%018X" % bits(72))
                self._add_statuses(client, answer_id, deliver_ms)
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
            if len(posted) >= 4 and uniform() < 0.12:
                middle = len(posted) // 2
                changes = _changes_of(posted[:middle]) + _changes_of(posted[middle:])
            else:
                changes = _changes_of(posted)
            yield _encode(changes, as_entries=len(changes) > 1 and uniform() < 0.3)


def _changes_of(units: list[_Unit]) -> list[_Change]:
    """Split updates into a change with the messages and one with the statuses."""
    messages: list[Any] = []
    statuses: list[_Status] = []
    # By identity: a client's contact is one object all through a session.
    message_contacts: dict[int, _Contact] = {}
    status_contacts: dict[int, _Contact] = {}
    for unit in units:
        contact, update = unit.contact, unit.update
        if update.__class__ is _Status:
            statuses.append(update)
            if contact is not None:
                status_contacts[id(contact)] = contact
        else:
            messages.append(update)
            if contact is not None:
                message_contacts[id(contact)] = contact
    changes = []
    if messages:
        changes.append(_change(list(message_contacts.values()) or UNSET, messages, UNSET))
    if statuses:
        changes.append(_change(list(status_contacts.values()) or UNSET, UNSET, statuses))
    return changes
