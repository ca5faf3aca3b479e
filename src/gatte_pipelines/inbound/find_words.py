"""What became of a message, as a person reads it: in Portuguese, line by line.

Looking for it belongs to ``find``.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import NamedTuple

from gatte_pipelines.inbound.find import Finding, Quarantined, Reception, Verdict
from gatte_pipelines.inbound.find_lines import Role
from gatte_pipelines.run_report import reason_pt


class Answer(NamedTuple):
    """The answer for a person.

    Attributes:
        headline: The answer in one sentence.
        rows: What was found: label and text.
        advice: What to check next.
    """

    headline: str
    rows: list[tuple[str, str]]
    advice: list[str]


_HEADLINES = {
    Verdict.LOADED: "A mensagem está no banco.",
    Verdict.CHANGE: "Este id não é de uma mensagem: altera outra.",
    Verdict.REACTION: "Este id não é de uma mensagem: é de uma reação a outra.",
    Verdict.IDENTITY_CHANGE: "Este id não é de uma mensagem: avisa de uma troca de número.",
    Verdict.CONVERSATION_EVENT: "Este id é de um evento de conversa do chatbot.",
    Verdict.QUARANTINED: "Foi recebida e está em quarentena",
    Verdict.NOT_LOADED_YET: "Foi recebida, mas o arquivo ainda não foi carregado.",
    Verdict.SKIPPED: "Foi recebida e ignorada",
    Verdict.REJECTED_BEFORE: "Foi recebida e recusada, e já não está em quarentena",
    Verdict.OUTDONE: "Foi recebida: é uma reação a que outra, mais nova, sucedeu.",
    Verdict.GONE: "Foi recebida e carregada, mas a linha já não existe.",
    Verdict.STATUSES_ONLY: "Só se conhecem situações de entrega; ninguém contou da mensagem.",
    Verdict.MENTIONED_ONLY: "Não foi encontrada: outros registros só citam este id.",
    Verdict.NOT_FOUND: "Não foi encontrada em lugar nenhum.",
}

_ADVICE = {
    Verdict.QUARANTINED: [
        "corrigida a causa (versão nova, hora, usuário): gatte quarantine replay",
    ],
    Verdict.NOT_LOADED_YET: [
        "o fluxo inbound_messages carrega a cada minuto; veja a última execução dele",
    ],
    Verdict.REJECTED_BEFORE: [
        "o registro saiu da quarentena sem ser carregado; o arquivo recebido ainda o tem",
    ],
    Verdict.GONE: [
        "edições, remoções e trocas de número saem quando o prazo delas passa sem mensagem",
        "se era uma mensagem: foi apagada por outro programa, ou este banco é uma cópia antiga",
    ],
    Verdict.STATUSES_ONLY: [
        "mensagens nossas só têm linha com o evento do chatbot ou o eco do aplicativo: "
        "o chatbot mandou o evento com este wamid?",
    ],
}
_ADVICE[Verdict.NOT_FOUND] = _ADVICE[Verdict.MENTIONED_ONLY] = [
    "o id está completo, sem espaço nem corte no fim?",
    "é do número de WhatsApp cujos arquivos chegam aqui?",
    "quem recebe o webhook gravou o arquivo na área de chegada? (nome final .json ou .jsonl; "
    ".part e .tmp não são lidos)",
    "mais antiga? procure em mais dias do arquivo morto: --days 90",
]

_ROLES = {
    "user": "cliente (user)",
    "assistant": "chatbot ou atendente (assistant)",
    "system": "sistema (system)",
}
_AUTHORS = {
    "client": "cliente",
    "bot": "chatbot",
    "human": "atendente",
    "campaign": "campanha",
}
_MODES = {
    "menu": "menu",
    "ai_free": "IA livre",
    "human": "atendente humano",
    "flow": "fluxo guiado",
}
_CONVERSATIONS = {
    "open": "aberta",
    "closed": "encerrada",
    "transferred": "transferida",
    "waiting": "em espera",
}
_DELIVERY = {
    "sent": "enviada",
    "delivered": "entregue",
    "read": "lida",
    "played": "ouvida",
    "failed": "falhou",
}
_STATES = {
    "waiting": "espera na área de chegada",
    "loading": "carga em andamento ou interrompida",
    "done": "carregado",
    "unknown": "arquivado sem registro de carga",
}
_MENTIONS = {
    Role.STATUS: "situação de entrega",
    Role.MENTION: "só citada",
}


def describe(finding: Finding) -> Answer:
    """The answer in words. Ids of rows, instants and states only, as the finding has them."""
    headline = _HEADLINES[finding.verdict]
    if not headline.endswith("."):
        words = reason_pt(finding.reason) if finding.reason else "motivo desconhecido"
        headline = f"{headline}: {words}."
    rows = [("id (resumo)", str(finding.id))]
    rows += _describe_own(finding)
    rows += _describe_message(finding)
    rows += _describe_beside(finding)
    rows += [("em quarentena", _quarantined(item)) for item in finding.known.quarantined]
    rows += [("recebida em", _reception(item)) for item in finding.receptions]
    rows.append(("procurada em", _searched(finding)))
    rows += [("não procurada em", problem) for problem in finding.searched.problems]
    return Answer(headline, rows, _ADVICE.get(finding.verdict, []))


def _describe_own(finding: Finding) -> Iterator[tuple[str, str]]:
    """What the id itself is, where it is no message's."""
    known = finding.known
    if (change := known.own_change) is not None:
        what = "remoção" if change.is_revoke else "edição"
        state = "aplicada à" if change.is_applied else "aguarda a"
        yield what, f"de {_at(change.at)}, {state} mensagem {change.target_id}"
    if (reaction := known.own_reaction) is not None:
        taken = ", retirada" if reaction.is_taken_back else ""
        yield "reação", f"de {_at(reaction.at)} à mensagem {reaction.target_id}{taken}"
    if (moved := known.own_identity_change) is not None:
        what = "troca de número" if moved.moves_number else "troca de id de usuário"
        users = ", ".join(map(str, moved.user_ids or [])) or "ninguém que se conheça"
        yield what, f"de {_at(moved.at)}; agora é de: {users}"
    if (event := known.own_conversation_event) is not None:
        status = _CONVERSATIONS[event.status]
        yield "evento", f"conversa {status} em {_at(event.at)}, cliente {event.user_id}"


def _describe_message(finding: Finding) -> Iterator[tuple[str, str]]:
    row = finding.known.message
    if row is None:
        return
    yield "linha em messages", str(row.id)
    status = _CONVERSATIONS[row.conversation_status]
    yield "conversa", f"{row.conversation_id} ({status})"
    yield "cliente", f"{row.user_id} (users.id)"
    if merged := finding.known.merged_user_ids:
        yield "antes da junção", ", ".join(map(str, merged))
    yield "papel", _ROLES[row.role]
    yield "criada em", _at(row.created_at)
    changes = finding.known.changes
    if not row.is_removed:
        content = "presente"
    elif changes is not None and changes.revokes:
        content = "removido por quem escreveu"
    else:
        content = "removido (retenção ou exclusão)"
    yield "conteúdo", f"{content}{', no contexto da IA' if row.is_in_context else ''}"
    yield "contada por", _witnesses(row.is_told_by_webhook, row.told_by_chatbot_at)
    if row.author is not None:
        yield "autor", _AUTHORS[row.author]
    if row.mode is not None:
        flow = f", fluxo {row.current_flow}" if row.current_flow else ""
        yield "modo", f"{_MODES[row.mode]}{flow}"


def _witnesses(by_webhook: bool | None, by_chatbot_at: datetime | None) -> str:
    told = []
    if by_webhook:
        told.append("webhook")
    if by_chatbot_at is not None:
        told.append(f"chatbot (evento de {_at(by_chatbot_at)})")
    return " e ".join(told) or "o próprio chatbot, antes deste projeto"


def _describe_beside(finding: Finding) -> Iterator[tuple[str, str]]:
    """What other records say of the message."""
    known = finding.known
    if known.statuses:
        (reached,) = (item for item in known.statuses if item.is_reached)
        told = ", ".join(f"{_DELIVERY[item.status]} {_at(item.at)}" for item in known.statuses)
        code = "" if reached.error_code is None else f" (erro {reached.error_code})"
        yield "entrega", f"{_DELIVERY[reached.status]}{code}; recebidas: {told}"
    if (changes := known.changes) is not None:
        parts = [_of(changes.edits, "edição", "edições")] if changes.edits else []
        parts += [_of(changes.revokes, "remoção", "remoções")] if changes.revokes else []
        state = "aplicadas" if known.message is not None else "aguardam a mensagem"
        yield "alterações", f"{' e '.join(parts)}, a última em {_at(changes.last_at)}; {state}"
    if (reaction := known.reaction) is not None:
        what = "retirada" if reaction.is_taken_back else "recebida"
        yield "reação do cliente", f"{what} em {_at(reaction.at)}"
    if (button := known.button) is not None:
        of = f"da mensagem {button.context_id}" if button.context_id else "de mensagem não citada"
        yield "botão", f"resposta a um botão {of}"
    if (choice := known.opt_out) is not None:
        what = "não quer mais" if choice.is_opted_out else "quer de novo"
        yield "descadastro", f"{what} ({choice.category}), em {_at(choice.at)}"


def _quarantined(item: Quarantined) -> str:
    place = f"{item.file}, linha {item.line}"
    which = f", campo {item.field}" if item.field else ""
    tries = _of(item.attempts, "nova tentativa", "novas tentativas")
    since = _at(item.quarantined_at)
    return f"{place}{which}: {reason_pt(item.reason)} [{item.reason}], desde {since}, {tries}"


def _reception(item: Reception) -> str:
    place = f"{item.file}, linha {item.line}"
    where = _STATES[item.state]
    if item.archived_on is not None:
        where += f", arquivo morto de {item.archived_on:%Y-%m-%d}"
    if item.role in _MENTIONS:
        return f"{place} ({where}): {_MENTIONS[item.role]}"
    verb = "seria" if item.state == "waiting" else "foi"
    decisions = {
        "load": f"{verb} aceita",
        "skip": f"{verb} ignorada",
        "quarantine": f"{verb} para a quarentena" if verb == "foi" else "iria para a quarentena",
    }
    decision = decisions[item.decision or "load"]
    which = f", campo {item.field}" if item.field else ""
    why = f": {reason_pt(item.reason)} [{item.reason}]{which}" if item.reason else ""
    return f"{place} ({where}): {decision}{why}"


def _searched(finding: Finding) -> str:
    searched = finding.searched
    waiting = _of(searched.waiting_files, "arquivo que espera", "arquivos que esperam")
    archived = _of(searched.archived_files, "arquivado", "arquivados")
    return f"tabelas, quarentena, {waiting}, {archived} desde {searched.since:%Y-%m-%d}"


def _at(instant: datetime) -> str:
    return f"{instant.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def _of(number: int, one: str, several: str) -> str:
    return f"{number} {one if number == 1 else several}"
