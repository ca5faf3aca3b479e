"""What a dry run would send: an artifact without personal data, and the exact texts for a file.

Which messages these are is found by whoever sends them; the words belong to ``texts``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from uuid import UUID

from gatte_pipelines.certificates.digest import Digest
from gatte_pipelines.certificates.digest_page import AUDIENCES_PT, CHANNELS_PT, digest_email
from gatte_pipelines.certificates.texts import (
    Line,
    client_email,
    email_subject,
    template_parameters,
    template_text,
)
from gatte_pipelines.markdown import escape_markdown, markdown_table
from gatte_pipelines.portuguese import count, number
from gatte_pipelines.run_report import reason_pt

MAX_CLIENTS = 50
"""Clients shown in an artifact, whose whole text a browser must draw."""

NAME_PLACE = "[nome]"
"""Stands for the name in an artifact."""

_RULE = "=" * 72


@dataclass(frozen=True, kw_only=True)
class ClientPreview:
    """One message to one client by one channel.

    Attributes:
        user_id: ``users.id`` of the client.
        channel: ``whatsapp`` or ``email``.
        lines: All certificates it tells, at least one.
        template: The WhatsApp template; None for an e-mail.
        name: Of the client, as it is stored.
        address: Number or e-mail address.
        obstacle: A code of why this client would not be told so; empty where they would.
    """

    user_id: UUID
    channel: str
    lines: tuple[Line, ...]
    template: str | None = None
    name: str | None = field(default=None, repr=False)
    address: str = field(default="", repr=False)
    obstacle: str = ""


def preview_markdown(previews: Sequence[ClientPreview], digests: Sequence[Digest] = ()) -> str:
    """What would be sent, without a name, number or address: for a Prefect artifact.

    Args:
        previews: Messages to clients; the first clients are shown, the counts are of all.
        digests: Mails to staff.
    """
    blocks = ["# Avisos de vencimento: simulação", "**Nada foi enviado.**"]
    if previews:
        clients = _by_client(previews)
        blocks.append(f"## Mensagens a clientes ({number(len(previews))})")
        blocks.append(_totals(previews))
        for user_id in list(clients)[:MAX_CLIENTS]:
            blocks.append(f"### Cliente `{user_id}`")
            blocks += [_shown(preview) for preview in clients[user_id]]
        if (hidden := len(clients) - MAX_CLIENTS) > 0:
            blocks.append(
                f"… e mais {count(hidden, 'cliente')}. Os textos exatos de todos estão no arquivo "
                "da simulação."
            )
    else:
        blocks.append("Nenhuma mensagem a clientes.")
    if digests:
        blocks.append(f"## Resumos por e-mail ({number(len(digests))})")
        blocks.append(
            "\n".join(
                f"- {AUDIENCES_PT.get(digest.audience, digest.audience)}: "
                f"{escape_markdown(digest_email(digest).subject)}"
                for digest in digests
            )
        )
    return "\n\n".join(blocks) + "\n"


def preview_exact(previews: Sequence[ClientPreview], digests: Sequence[Digest] = ()) -> str:
    """What would be sent, word by word and to whom. Personal: only for a file of mode 0600.

    Args:
        previews: Messages to clients, all of them shown.
        digests: Mails to staff.
    """
    blocks = [
        "Avisos de vencimento: textos exatos da simulação. Nada foi enviado.\n"
        "Este arquivo contém dados pessoais."
    ]
    blocks += [_exact(preview) for preview in previews]
    for digest in digests:
        mail = digest_email(digest)
        audience = AUDIENCES_PT.get(digest.audience, digest.audience)
        blocks.append(f"Resumo por e-mail: {audience}\nAssunto: {mail.subject}\n\n{mail.text}")
    return f"\n{_RULE}\n".join(block.rstrip("\n") + "\n" for block in blocks)


def _by_client(previews: Sequence[ClientPreview]) -> dict[UUID, list[ClientPreview]]:
    """In the order in which clients come first."""
    clients: dict[UUID, list[ClientPreview]] = {}
    for preview in previews:
        clients.setdefault(preview.user_id, []).append(preview)
    return clients


def _totals(previews: Sequence[ClientPreview]) -> str:
    messages: Counter[tuple[str, str, str]] = Counter()
    certificates: Counter[tuple[str, str, str]] = Counter()
    for preview in previews:
        kind = (_channel(preview), preview.template or "–", preview.obstacle)
        messages[kind] += 1
        certificates[kind] += len(preview.lines)
    return markdown_table(
        ("Canal", "Modelo", "Situação", "Mensagens", "Certificados"),
        [
            (
                channel,
                template,
                f"não: {reason_pt(obstacle)}" if obstacle else "seria enviada",
                number(messages[channel, template, obstacle]),
                number(certificates[channel, template, obstacle]),
            )
            for channel, template, obstacle in sorted(messages)
        ],
        numbers={3, 4},
    )


def _channel(preview: ClientPreview) -> str:
    return CHANNELS_PT.get(preview.channel, preview.channel)


def _obstacle(preview: ClientPreview) -> list[str]:
    return [f"Não seria enviada: {reason_pt(preview.obstacle)}."] if preview.obstacle else []


def _shown(preview: ClientPreview) -> str:
    certificates = count(len(preview.lines), "certificado")
    blocks = [*_obstacle(preview)]
    if preview.template is None:
        subject = escape_markdown(email_subject(preview.lines))
        blocks.append(f"E-mail, {certificates}. Assunto: {subject}")
    else:
        # The name is never even read here: what stands first is its place.
        told = (NAME_PLACE, *template_parameters(None, preview.lines)[1:])
        blocks.append(f"WhatsApp, {certificates}, modelo {_code(preview.template)}:")
        blocks.append("\n".join(f"{place}. {_code(text)}" for place, text in enumerate(told, 1)))
    return "\n\n".join(blocks)


def _code(text: str) -> str:
    return f"`{text.replace('`', chr(39))}`"


def _exact(preview: ClientPreview) -> str:
    head = [
        f"Cliente {preview.user_id}",
        f"Para: {preview.address} ({_channel(preview)})",
        *_obstacle(preview),
    ]
    if preview.template is None:
        mail = client_email(preview.name, preview.lines)
        head.append(f"Assunto: {mail.subject}")
        text = mail.text
    else:
        head.append(f"Modelo: {preview.template}")
        text = template_text(preview.lines, template_parameters(preview.name, preview.lines))
    return "\n".join([*head, "", text])
