"""What clients are told of their certificates: WhatsApp templates and one e-mail, in Portuguese.

Whom to tell, when and by which channel belongs to ``policy``; how mails are drawn to ``mail_page``.
A change of a template's body needs a new version, approved by Meta: docs/whatsapp_templates.md.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from uuid import UUID

from gatte_pipelines import portuguese
from gatte_pipelines.certificates import mail_page
from gatte_pipelines.certificates.mail_page import Piece, Tone

NAMELESS = "cliente"
"""How a client without a usable name is addressed."""

MAX_TEMPLATE_LINES = 5
"""Certificates that a template lists; of more, it says how many."""

# Together below what Meta allows a rendered body; a test adds them up.
MAX_BODY_CHARACTERS = 1024
_MAX_NAME = 40
_MAX_TYPE = 20
_MAX_SERVICE = 60

_TITLES = frozenset({"dr", "dra", "sr", "sra", "srta", "prof", "profa"})
_IN_A_NAME = frozenset("'’-")
# Letters with more marks than this are written to cover other lines.
_MAX_MARKS = 2


@dataclass(frozen=True, kw_only=True)
class Line:
    """One certificate as a message tells it.

    Attributes:
        certificate_id: ``certificates.id``.
        type: As in the database: ``e-CPF``, ``e-CNPJ``, ``e-NFe``, ``e-CT``.
        service: Name of the service it belongs to; may be empty.
        expires_on: Business date of its expiry.
        days: From the business date of the message to ``expires_on``; negative once expired.
        monthly_value: Of the service, in reais; no client is told it.
        maybe_renewed: It may have a successor, which could not be told; no client is told it.
    """

    certificate_id: UUID
    type: str
    service: str
    expires_on: date
    days: int
    monthly_value: Decimal | None = None
    maybe_renewed: bool = False


@dataclass(frozen=True, kw_only=True)
class MailText:
    """A mail as it reads; to whom it goes is not known here."""

    subject: str = field(repr=False)
    text: str = field(repr=False)
    html: str = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class Template:
    """A WhatsApp template as Meta approves it.

    Attributes:
        suffix: Ends its name: the number of certificates it lists, or ``mais``.
        body: With ``{{1}}`` for the first name, then one variable a certificate, then, in
            ``mais``, how many more there are.
    """

    suffix: str
    body: str

    @property
    def parameters(self) -> int:
        """How many variables the body has."""
        return len(_VARIABLE.findall(self.body))


@dataclass(frozen=True, kw_only=True)
class Button:
    """An answer that a client gives by one press."""

    answer: str
    text: str


@dataclass(frozen=True, kw_only=True)
class ButtonReply:
    """What a press of a button of an alert says: ``answer`` is a value of ``policy.Answer``."""

    answer: str
    attempt_id: UUID


BUTTONS = (
    Button(answer="renew", text="Quero renovar"),
    Button(answer="renewed", text="Já renovei"),
    Button(answer="later", text="Lembrar depois"),
)
"""In the order of the template."""

_VARIABLE = re.compile(r"\{\{(\d+)\}\}")
_ONE = (
    "Olá, {{1}}! Este é um aviso da GATTE sobre o vencimento do seu certificado digital.\n\n"
    "• Certificado: {{2}}\n\n"
    "Depois do vencimento, o certificado deixa de funcionar. Para renovar sem interrupção, ou nos "
    "contar que já renovou, responda por um dos botões abaixo."
)
_SEVERAL = (
    "Olá, {{1}}! Este é um aviso da GATTE sobre o vencimento dos seus certificados digitais.\n\n",
    "\n\nDepois do vencimento, um certificado deixa de funcionar. Para renovar sem interrupção, ou "
    "nos contar que já renovou, responda por um dos botões abaixo.",
)


def _several(lines: int, more: str = "") -> str:
    start, end = _SEVERAL
    # A variable alone in its line is refused: it could say anything.
    listed = [f"• Certificado {n}: {{{{{n + 1}}}}}" for n in range(1, lines + 1)]
    return start + "\n".join(listed) + more + end


TEMPLATES = (
    Template(suffix="1", body=_ONE),
    *(Template(suffix=str(n), body=_several(n)) for n in range(2, MAX_TEMPLATE_LINES + 1)),
    Template(
        suffix="mais",
        body=_several(MAX_TEMPLATE_LINES, "\n\nAlém destes, há mais {{7}} na mesma situação."),
    ),
)
"""All templates of a version."""

_PAYLOAD = re.compile(
    r"certificate_alert:(renew|renewed|later):"
    r"([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})"
)


# --- WhatsApp -------------------------------------------------------------------------------------


def template_name(base: str, version: int, suffix: str) -> str:
    """The name under which Meta knows a template: ``gatte_certificados_v1_mais``."""
    return f"{base}_v{version}_{suffix}"


def template_of(base: str, version: int, lines: Sequence[Line]) -> str:
    """The name of the template for these certificates.

    Args:
        base: The policy's ``template``: ``gatte_certificados``.
        version: The policy's ``template_version``.
        lines: At least one.
    """
    return template_name(base, version, _suffix(len(lines)))


def template_parameters(name: str | None, lines: Sequence[Line]) -> tuple[str, ...]:
    """What stands for the variables of the body, in their order.

    None holds a newline, a tab or several spaces in a row, which Meta refuses, and all together
    fit into what a body may have.

    Args:
        name: Of the client, as it is stored.
        lines: At least one, in any order; the most urgent are listed.
    """
    shown = most_urgent_first(lines)[:MAX_TEMPLATE_LINES]
    parameters = (first_name(name), *(describe(line) for line in shown))
    more = len(lines) - len(shown)
    return (*parameters, portuguese.count(more, "certificado")) if more else parameters


def template_text(lines: Sequence[Line], parameters: Sequence[str]) -> str:
    """The message as WhatsApp shows it: the body with its parameters."""
    (template,) = [one for one in TEMPLATES if one.suffix == _suffix(len(lines))]
    return _VARIABLE.sub(lambda found: parameters[int(found[1]) - 1], template.body)


def button_payloads(attempt_id: UUID) -> tuple[str, ...]:
    """What comes back when a button is pressed, in the order of ``BUTTONS``."""
    return tuple(f"certificate_alert:{button.answer}:{attempt_id}" for button in BUTTONS)


def parse_payload(payload: str | None) -> ButtonReply | None:
    """Read what ``button_payloads`` wrote; None for everything else, whoever wrote it."""
    found = _PAYLOAD.fullmatch(payload or "")
    return ButtonReply(answer=found[1], attempt_id=UUID(found[2])) if found else None


def _suffix(lines: int) -> str:
    return str(lines) if lines <= MAX_TEMPLATE_LINES else "mais"


# --- E-mail ---------------------------------------------------------------------------------------

# More do not read well as one list.
_MAX_UNGROUPED = 7
URGENT_DAYS = 7
SOON_DAYS = 30


def client_email(name: str | None, lines: Sequence[Line]) -> MailText:
    """The mail to a client about all their certificates, as text and as HTML.

    Args:
        name: Of the client, as it is stored.
        lines: At least one, in any order; all are listed.
    """
    lines = most_urgent_first(lines)
    who = first_name(name)
    parts = _Parts(
        greeting="Olá!" if who == NAMELESS else f"Olá, {who}!",
        intro=_intro(lines),
        groups=_grouped(lines),
        after=_after(lines),
        answers=[(button.text, meaning) for button, meaning in _meanings(lines)],
        which=[_ONLY_SOME] if len(lines) > 1 else [],
    )
    subject = email_subject(lines)
    return MailText(
        subject=subject,
        text=_as_text(parts),
        html=mail_page.mail_page(
            title=subject, preview=parts.intro, body=_as_html(parts), footer=_SMALL_PRINT
        ),
    )


@dataclass(frozen=True, kw_only=True)
class _Parts:
    """What a mail says, before it is drawn. A long list has titles and stands last."""

    greeting: str
    intro: str
    groups: list[tuple[str, list[Line]]]
    after: str
    answers: list[tuple[str, str]]
    which: list[str]

    @property
    def is_long(self) -> bool:
        return bool(self.groups[0][0])


def _as_text(parts: _Parts) -> str:
    listed: list[str] = []
    for title, group in parts.groups:
        listed += [*([f"{title}:"] if title else []), *(f"- {describe(line)}" for line in group)]
        listed.append("")
    answer = [
        parts.after,
        "",
        "Como responder",
        _HOW_TO_ANSWER,
        *(f"- {word}: {meaning}" for word, meaning in parts.answers),
        *parts.which,
        "",
    ]
    body = [*answer, *listed] if parts.is_long else [*listed, *answer]
    lines = [parts.greeting, "", parts.intro, "", *body, *_SIGNATURE, "", "--", *_SMALL_PRINT]
    return "\n".join(lines) + "\n"


def _as_html(parts: _Parts) -> str:
    listed: list[str] = []
    for title, group in parts.groups:
        listed += [mail_page.heading(title)] if title else []
        listed.append(mail_page.listing(("Certificado", "Vencimento"), map(_row, group)))
    answer = [
        mail_page.paragraph(parts.after),
        mail_page.heading("Como responder"),
        mail_page.paragraph(_HOW_TO_ANSWER),
        mail_page.explained(parts.answers),
        *(mail_page.paragraph(sentence) for sentence in parts.which),
    ]
    body = [*answer, *listed] if parts.is_long else [*listed, *answer]
    return "".join(
        [
            mail_page.paragraph(parts.greeting),
            mail_page.paragraph(parts.intro),
            *body,
            mail_page.paragraph(*_SIGNATURE),
        ]
    )


_HOW_TO_ANSWER = "Responda a este e-mail, ou chame a gente no WhatsApp, com uma destas frases:"
_ONLY_SOME = "Se a resposta vale só para alguns dos certificados, diga quais."
_SIGNATURE = ("Um abraço,", "Equipe GATTE Tecnologia")
_SMALL_PRINT = (
    "Nunca envie a senha do seu certificado por e-mail ou WhatsApp.",
    "Não quer mais receber estes avisos? Escreva SAIR no nosso WhatsApp ou em resposta a este "
    "e-mail.",
)


def email_subject(lines: Sequence[Line]) -> str:
    """The subject: what expires first, without the client's name."""
    lines = most_urgent_first(lines)
    first = lines[0]
    if len(lines) == 1:
        verb = "vence" if first.days >= 0 else "venceu"
        kind = shortened(first.type, _MAX_TYPE)
        day = portuguese.day(first.expires_on)
        return f"Seu {kind} {verb} {distance(first.days)} ({day})"
    expired = sum(line.days < 0 for line in lines)
    if expired == len(lines):
        return f"Seus {portuguese.number(expired)} certificados digitais venceram"
    if expired:
        coming = len(lines) - expired
        return (
            f"Seus certificados digitais: {portuguese.count(expired, 'vencido')} e "
            f"{portuguese.number(coming)} a vencer"
        )
    return (
        f"{portuguese.number(len(lines))} certificados digitais: o primeiro vence "
        f"{distance(first.days)}"
    )


def _intro(lines: Sequence[Line]) -> str:
    expired = sum(line.days < 0 for line in lines)
    if len(lines) == 1:
        return (
            "O seu certificado digital venceu:"
            if expired
            else "O vencimento do seu certificado digital está chegando:"
        )
    if expired == len(lines):
        how = "que já venceram"
    elif expired:
        how = "que já venceram ou vencem em breve"
    else:
        how = "que vencem em breve"
    if len(lines) > _MAX_UNGROUPED:
        return (
            f"Você tem {portuguese.number(len(lines))} certificados digitais {how}. A lista "
            "completa está no fim desta mensagem."
        )
    return f"Estes são os seus certificados digitais {how}:"


def _after(lines: Sequence[Line]) -> str:
    if all(line.days < 0 for line in lines):
        return "Um certificado vencido não funciona mais. Podemos ajudar você a emitir um novo."
    return (
        "Depois do vencimento, um certificado deixa de funcionar. Renovando antes, você não fica "
        "sem ele."
    )


def _meanings(lines: Sequence[Line]) -> list[tuple[Button, str]]:
    is_one = len(lines) == 1
    later = (
        "avisamos de novo mais perto do vencimento."
        if any(line.days > 0 for line in lines)
        else "tudo bem; é só nos chamar quando quiser."
    )
    return list(
        zip(
            BUTTONS,
            (
                "entramos em contato para cuidar da renovação.",
                "conferimos a renovação e encerramos "
                + ("os avisos deste vencimento." if is_one else "os avisos destes vencimentos."),
                later,
            ),
            strict=True,
        )
    )


def _grouped(lines: Sequence[Line]) -> list[tuple[str, list[Line]]]:
    """Few certificates as one list without a title, many by urgency."""
    if len(lines) <= _MAX_UNGROUPED:
        return [("", list(lines))]
    groups: dict[str, list[Line]] = {}
    for line in lines:
        groups.setdefault(_urgency(line.days), []).append(line)
    return [
        (f"{title} ({portuguese.number(len(group))})", group) for title, group in groups.items()
    ]


def _urgency(days: int) -> str:
    if days < 0:
        return "Vencidos"
    if days <= URGENT_DAYS:
        return "Vencem em até 7 dias"
    return "Vencem em até 30 dias" if days <= SOON_DAYS else "Vencem mais adiante"


def _row(line: Line) -> mail_page.Row:
    service = service_of(line)
    return mail_page.Row(
        left=(
            Piece(text=shortened(line.type, _MAX_TYPE), is_strong=True),
            *([Piece(text=service, tone=Tone.QUIET)] if service else ()),
        ),
        right=when_pieces(line),
    )


def when_pieces(line: Line) -> tuple[Piece, ...]:
    """Date and distance of an expiry, as urgent as it is."""
    tone = Tone.LATE if line.days < 0 else Tone.SOON if line.days <= URGENT_DAYS else Tone.PLAIN
    return (
        Piece(text=portuguese.day(line.expires_on)),
        Piece(text=distance(line.days), tone=tone, is_strong=True),
    )


# --- Words ----------------------------------------------------------------------------------------


def most_urgent_first(lines: Sequence[Line]) -> list[Line]:
    """Certificates by expiry; the same order whatever the order they come in."""
    return sorted(lines, key=lambda line: (line.days, line.type, line.service, line.certificate_id))


def describe(line: Line) -> str:
    """One certificate: ``e-CNPJ (LC Web) vence em 15/12/2026, em 7 dias``."""
    return f"{what(line)} {when(line)}"


def what(line: Line) -> str:
    """Which certificate: ``e-CNPJ (LC Web)``."""
    service = service_of(line)
    kind = shortened(line.type, _MAX_TYPE)
    return f"{kind} ({service})" if service else kind


def service_of(line: Line) -> str:
    """The name of its service, short enough for a line."""
    return shortened(line.service, _MAX_SERVICE)


def when(line: Line) -> str:
    """When it expires or expired: ``vence em 15/12/2026, em 7 dias``."""
    day = portuguese.day(line.expires_on)
    if line.days in _NEAR:
        return f"{_NEAR[line.days]}, {day}"
    return f"{'vence' if line.days > 0 else 'venceu'} em {day}, {distance(line.days)}"


def distance(days: int) -> str:
    """How far an expiry is: ``em 7 dias``, ``amanhã``, ``há 3 dias``."""
    if days in _NEAR:
        return _NEAR[days].partition(" ")[2]
    return f"{'em' if days > 0 else 'há'} {portuguese.count(abs(days), 'dia')}"


_NEAR = {1: "vence amanhã", 0: "vence hoje", -1: "venceu ontem"}


def first_name(name: str | None) -> str:
    """How a client is addressed: the first word of the name that can be a name.

    A link, an address or markup in its place would be our words to the reader, and mail programs
    make links of them; so only letters, hyphens and apostrophes stand in a name.
    """
    for word in plain(name or "").split():
        name_in_it = word.strip("".join({sign for sign in word if not sign.isalpha()}))
        if not name_in_it or name_in_it.lower() in _TITLES:
            continue
        if all(_is_of_a_name(sign) for sign in name_in_it):
            return shortened(name_in_it, _MAX_NAME)
    return NAMELESS


def _is_of_a_name(sign: str) -> bool:
    return unicodedata.category(sign)[0] in "LM" or sign in _IN_A_NAME


def plain(text: str) -> str:
    """Text in one line, without what is not seen: controls, direction marks, piles of marks."""
    kept: list[str] = []
    marks = 0
    for sign in unicodedata.normalize("NFC", text):
        category = unicodedata.category(sign)
        marks = marks + 1 if category[0] == "M" else 0
        if marks > _MAX_MARKS or (category[0] == "C" and not sign.isspace()):
            continue
        kept.append(sign)
    return " ".join("".join(kept).split())


def shortened(text: str, longest: int) -> str:
    """Text in one line and at most so long; what was cut ends with an ellipsis."""
    text = plain(text)
    return text if len(text) <= longest else f"{text[: longest - 1].rstrip()}…"
