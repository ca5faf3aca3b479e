"""How the digest of staff reads: one mail in Portuguese, as text and as HTML, from the same parts.

Lists are cut so that a mail stays readable and below the size at which mail programs cut it; counts
and amounts are of everything. What stands in it belongs to ``digest``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from gatte_pipelines.certificates import mail_page
from gatte_pipelines.certificates.digest import (
    Affected,
    AtRisk,
    ChannelTrouble,
    ClientAnswer,
    Digest,
    DigestEntry,
    InDoubt,
    NewLead,
    Undelivered,
)
from gatte_pipelines.certificates.mail_page import Piece, Row, Tile, Tone
from gatte_pipelines.certificates.texts import (
    SOON_DAYS,
    URGENT_DAYS,
    Line,
    MailText,
    describe,
    service_of,
    shortened,
    what,
    when_pieces,
)
from gatte_pipelines.portuguese import count, day, joined, money, number
from gatte_pipelines.run_report import reason_pt

MAX_LISTED = 12
"""Entries shown of one group; Gmail cuts a mail of more than 102 KB."""
_MAX_IN_SUBJECT = 3

AUDIENCES_PT = {
    "client": "cliente",
    "staff": "equipe",
    "owner": "responsável",
    "manager": "gerência",
}
CHANNELS_PT = {"whatsapp": "WhatsApp", "email": "e-mail"}
ANSWERS_PT = {
    "renew": "quer renovar",
    "renewed": "diz que já renovou",
    "later": "pediu para lembrar depois",
}
MAYBE_RENEWED = "renovado?"

A = TypeVar("A", bound=Affected)


@dataclass(frozen=True, kw_only=True)
class _Item:
    """One entry: its certificate, whose it is, and what is to be said of it."""

    line: Line
    user: str
    notes: tuple[str, ...] = ()
    answer: str = ""


@dataclass(frozen=True, kw_only=True)
class _Group:
    """Entries under a title of their own; '' where the part's is enough."""

    title: str
    items: tuple[_Item, ...]
    hidden: int
    tone: Tone = Tone.PLAIN


@dataclass(frozen=True, kw_only=True)
class _Part:
    title: str
    intro: str = ""
    bullets: tuple[str, ...] = ()
    groups: tuple[_Group, ...] = ()


def digest_email(digest: Digest) -> MailText:
    """The mail of a digest; a part without entries does not appear."""
    title = f"{_TITLES_PT[digest.audience]}: {day(digest.on)}"
    parts = [part for part in _parts(digest) if part is not None]
    return MailText(
        subject=_subject(digest),
        text=_text(digest, title, parts),
        html=mail_page.mail_page(
            title=title,
            preview=_headline(digest),
            body=_html(digest, parts),
            footer=_FOOTER,
        ),
    )


_TITLES_PT = {
    "staff": "Certificados a vencer",
    "owner": "Certificados sem resposta do cliente",
    "manager": "Certificados sem resposta, para a gerência",
}
_INTROS_PT = {
    "staff": "O que vence, o que já venceu e o que pede a sua atenção.",
    "owner": "O vencimento está perto e o cliente ainda não respondeu. Vale um contato direto.",
    "manager": "O vencimento é iminente e o cliente ainda não respondeu. Vale um contato direto.",
}
_FOOTER = (
    "Os clientes aparecem pelo código do cadastro: este e-mail não traz dados pessoais.",
    "Cada etapa de cada vencimento é informada uma só vez.",
)


def _subject(digest: Digest) -> str:
    title = "Certificados" if digest.audience == "staff" else _TITLES_PT[digest.audience]
    return f"[GATTE] {title}: {_headline(digest)}"


def _headline(digest: Digest) -> str:
    """The digest in one line, what matters most first."""
    expired = sum(entry.line.days < 0 for entry in digest.due)
    counts = (
        (len(digest.due) - expired, "a vencer", "a vencer"),
        (expired, "vencido", "vencidos"),
        (len(digest.channels), "problema nos canais", "problemas nos canais"),
        (len(digest.undelivered), "aviso não entregue", "avisos não entregues"),
        (len(digest.answers), "resposta", "respostas"),
        (len(digest.lapsed), "vencido há mais de 30 dias", "vencidos há mais de 30 dias"),
        (len(digest.leads), "lead de renovação", "leads de renovação"),
    )
    told = [count(value, one, several) for value, one, several in counts if value]
    return joined(told[:_MAX_IN_SUBJECT]) or "nada de novo"


# --- What it says ---------------------------------------------------------------------------------


def _parts(digest: Digest) -> Iterable[_Part | None]:
    yield _channels_part(digest.channels)
    yield _due_part(digest.due)
    yield _answers_part(digest.answers)
    yield _undelivered_part(digest.undelivered)
    yield _doubt_part(digest.in_doubt)
    yield _leads_part(digest.leads)
    yield _lapsed_part(digest)


def _channels_part(channels: Sequence[ChannelTrouble]) -> _Part | None:
    if not channels:
        return None
    return _Part(
        title="Problemas nos canais",
        intro="Precisam de alguém: enquanto durarem, o canal não entrega os avisos.",
        bullets=tuple(_trouble(one) for one in channels),
    )


def _trouble(trouble: ChannelTrouble) -> str:
    channel = CHANNELS_PT.get(trouble.channel, trouble.channel)
    code = f" (código {trouble.error_code})" if trouble.error_code is not None else ""
    lost = (
        f"; {count(trouble.messages, 'mensagem não enviada', 'mensagens não enviadas')}"
        if trouble.messages
        else ""
    )
    return f"{channel}: {reason_pt(trouble.reason)}{code}{lost}"


def _due_part(due: Sequence[DigestEntry]) -> _Part | None:
    if not due:
        return None
    groups: dict[str, list[DigestEntry]] = {}
    tones: dict[str, Tone] = {}
    for entry in _most_urgent_first(due):
        title, tone = _urgency(entry.line.days)
        groups.setdefault(title, []).append(entry)
        tones[title] = tone
    return _Part(
        title=f"Vencimentos ({number(len(due))})",
        intro=_steps(due),
        groups=tuple(
            _group(entries, _due_item, title=f"{title} ({number(len(entries))})", tone=tones[title])
            for title, entries in groups.items()
        ),
    )


def _steps(due: Sequence[DigestEntry]) -> str:
    """How many entries are due at which step, where there are several steps."""
    steps = Counter(entry.threshold for entry in due)
    if len(steps) < 2:
        return ""
    told = [f"{_step(one)} ({number(steps[one])})" for one in sorted(steps, reverse=True)]
    return f"Por etapa: {joined(told)}."


def _step(threshold: int) -> str:
    if threshold == 0:
        return "no dia"
    return f"{count(abs(threshold), 'dia')} {'antes' if threshold > 0 else 'depois'}"


def _urgency(days: int) -> tuple[str, Tone]:
    if days < 0:
        return "Vencidos", Tone.LATE
    if days <= 1:
        return "Vencem hoje ou amanhã", Tone.LATE
    if days <= URGENT_DAYS:
        return "Vencem em até 7 dias", Tone.SOON
    return ("Vencem em até 30 dias" if days <= SOON_DAYS else "Vencem mais adiante"), Tone.PLAIN


def _due_item(entry: DigestEntry) -> _Item:
    told = (
        f"cliente avisado em {day(entry.told_on)}"
        if entry.told_on is not None
        else "cliente ainda não avisado"
    )
    return _item(entry, f"etapa: {_step(entry.threshold)}", told, answer=entry.answer)


def _answers_part(answers: Sequence[ClientAnswer]) -> _Part | None:
    if not answers:
        return None
    return _Part(
        title=f"O que os clientes responderam ({number(len(answers))})",
        bullets=_counted(answers, lambda one: ANSWERS_PT.get(one.answer, one.answer)),
        groups=(
            _group(
                answers,
                lambda one: _item(one, f"respondido em {day(one.answered_on)}", answer=one.answer),
            ),
        ),
    )


def _undelivered_part(undelivered: Sequence[Undelivered]) -> _Part | None:
    if not undelivered:
        return None
    return _Part(
        title=f"Avisos não entregues ({number(len(undelivered))})",
        intro="Estes avisos não chegaram a ninguém por nenhum canal.",
        bullets=_counted(undelivered, lambda one: reason_pt(one.reason)),
        groups=(_group(undelivered, _undelivered_item),),
    )


def _undelivered_item(one: Undelivered) -> _Item:
    audience = AUDIENCES_PT.get(one.audience, one.audience)
    whom = () if one.audience == "client" else (f"para: {audience}",)
    return _item(one, f"motivo: {reason_pt(one.reason)}", *whom)


def _doubt_part(in_doubt: Sequence[InDoubt]) -> _Part | None:
    if not in_doubt:
        return None
    return _Part(
        title=f"Sem confirmação do canal ({number(len(in_doubt))})",
        intro="O canal não confirmou o envio no prazo. Onde havia outro canal, o aviso seguiu por "
        "ele, e o cliente pode ter recebido os dois.",
        groups=(_group(in_doubt, _doubt_item),),
    )


def _doubt_item(one: InDoubt) -> _Item:
    channel = CHANNELS_PT.get(one.channel, one.channel)
    if one.next_channel is None:
        return _item(one, f"{channel} não confirmou; não há outro canal")
    then = CHANNELS_PT.get(one.next_channel, one.next_channel)
    return _item(one, f"{channel} não confirmou; o aviso seguiu por {then}")


def _leads_part(leads: Sequence[NewLead]) -> _Part | None:
    if not leads:
        return None
    return _Part(
        title=f"Leads de renovação criados ({number(len(leads))})",
        groups=(_group(leads, lambda one: _item(one, f"lead {one.lead_id}")),),
    )


def _lapsed_part(digest: Digest) -> _Part | None:
    if not digest.lapsed and not digest.lapsed_before:
        return None
    before = digest.lapsed_before
    return _Part(
        title=f"Vencidos há mais de 30 dias ({number(len(digest.lapsed) + before)})",
        intro="Estes certificados não geram mais avisos e aparecem aqui uma única vez.",
        bullets=(
            (
                f"{count(before, 'mais antigo', 'mais antigos')}, de antes da primeira execução: "
                "só a contagem",
            )
            if before
            else ()
        ),
        groups=(_group(digest.lapsed, _item),) if digest.lapsed else (),
    )


def _counted(entries: Sequence[A], of: Callable[[A], str]) -> tuple[str, ...]:
    """One line a kind, the most frequent first."""
    kinds = Counter(of(entry) for entry in entries)
    ordered = sorted(kinds.items(), key=lambda kind: (-kind[1], kind[0]))
    return tuple(f"{kind}: {number(amount)}" for kind, amount in ordered)


def _group(
    entries: Sequence[A],
    item: Callable[[A], _Item],
    *,
    title: str = "",
    tone: Tone = Tone.PLAIN,
) -> _Group:
    shown = _most_urgent_first(entries)[:MAX_LISTED]
    return _Group(
        title=title,
        items=tuple(item(entry) for entry in shown),
        hidden=len(entries) - len(shown),
        tone=tone,
    )


def _most_urgent_first(entries: Sequence[A]) -> list[A]:
    return sorted(entries, key=lambda one: (one.line.days, one.user_id, one.line.certificate_id))


def _item(entry: Affected, *notes: str, answer: str | None = None) -> _Item:
    said = [ANSWERS_PT.get(answer, answer)] if answer is not None else []
    said += [MAYBE_RENEWED] if entry.line.maybe_renewed or answer == "renewed" else []
    return _Item(line=entry.line, user=str(entry.user_id), notes=notes, answer="; ".join(said))


# --- How it looks ---------------------------------------------------------------------------------


def _more(hidden: int) -> str:
    return f"… e mais {number(hidden)}"


def _risk_notes(risks: Sequence[AtRisk]) -> list[str]:
    return [
        f"Nos próximos {risk.days} dias: {money(risk.monthly_value)} por mês, de "
        f"{count(risk.services, 'serviço')} com {count(risk.certificates, 'certificado')} a vencer"
        + (f" ({number(risk.without_value)} sem valor cadastrado)" if risk.without_value else "")
        for risk in risks
    ]


def _text(digest: Digest, title: str, parts: Sequence[_Part]) -> str:
    lines = [title, "", _INTROS_PT[digest.audience]]
    if digest.at_risk:
        lines += ["", "RECEITA EM RISCO", *(f"- {note}" for note in _risk_notes(digest.at_risk))]
    for part in parts:
        lines += ["", part.title.upper(), *([part.intro] if part.intro else [])]
        lines += [f"- {bullet}" for bullet in part.bullets]
        for group in part.groups:
            lines += ["", *([group.title] if group.title else [])]
            lines += [_text_item(item) for item in group.items]
            lines += [_more(group.hidden)] if group.hidden else []
    return "\n".join([*lines, "", "--", *_FOOTER]) + "\n"


def _text_item(item: _Item) -> str:
    value = item.line.monthly_value
    notes = [
        describe(item.line),
        *([item.answer] if item.answer else []),
        *item.notes,
        *([f"{money(value)}/mês"] if value is not None else []),
        f"cliente {item.user}",
    ]
    return f"- {' · '.join(notes)}"


def _html(digest: Digest, parts: Sequence[_Part]) -> str:
    pieces = [mail_page.paragraph(_INTROS_PT[digest.audience])]
    if figures := _tiles(digest):
        pieces.append(mail_page.tiles(figures))
    if digest.at_risk:
        pieces += [
            mail_page.heading("Receita em risco"),
            mail_page.bullets(_risk_notes(digest.at_risk)),
        ]
    for part in parts:
        pieces.append(mail_page.heading(part.title))
        pieces += [mail_page.paragraph(part.intro)] if part.intro else []
        pieces += [mail_page.bullets(part.bullets)] if part.bullets else []
        for group in part.groups:
            pieces += [mail_page.subheading(group.title, group.tone)] if group.title else []
            pieces.append(
                mail_page.listing(("Certificado e cliente", "Vencimento"), map(_row, group.items))
            )
            pieces += [mail_page.paragraph(_more(group.hidden))] if group.hidden else []
    return "".join(pieces)


def _tiles(digest: Digest) -> list[Tile]:
    """The figures that are not 0."""
    expired = sum(entry.line.days < 0 for entry in digest.due)
    counts = (
        (len(digest.due) - expired, "a vencer", Tone.PLAIN),
        (expired, "já vencidos", Tone.LATE),
        (len(digest.undelivered), "avisos não entregues", Tone.LATE),
        (len(digest.answers), "respostas de clientes", Tone.GOOD),
    )
    figures = [
        Tile(value=number(amount), label=label, tone=tone)
        for amount, label, tone in counts
        if amount
    ]
    risks = [
        Tile(value=money(risk.monthly_value), label=f"por mês em risco em {risk.days} dias")
        for risk in digest.at_risk
    ]
    return [*risks, *figures]


def _row(item: _Item) -> Row:
    line = item.line
    service = service_of(line)
    value = line.monthly_value
    kind = shortened(what(line) if service else line.type, _MAX_WHAT)
    return Row(
        left=(
            Piece(text=kind, is_strong=True),
            Piece(text=item.user, tone=Tone.QUIET, is_code=True),
            *([Piece(text=item.answer, tone=Tone.GOOD, is_strong=True)] if item.answer else ()),
            *([Piece(text="; ".join(item.notes), tone=Tone.QUIET)] if item.notes else ()),
        ),
        right=(
            *when_pieces(line),
            *([Piece(text=f"{money(value)}/mês", tone=Tone.QUIET)] if value is not None else ()),
        ),
    )


_MAX_WHAT = 90
