"""The page on which a person reads what we hold of them: pt-BR, one HTML file, no other resource.

What stands in the sections is read by ``export``; everything a row says is escaped here.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from html import escape
from typing import Any
from uuid import UUID

from gatte_pipelines.business_time import ZONE
from gatte_pipelines.html_page import page_end, page_start

Row = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Section:
    """One part of the export, in the file by ``name``, on the page under ``title``.

    Attributes:
        name: Key in the JSON file and name of the statement.
        title: Heading, in Portuguese.
        intro: What it is, in a sentence.
        empty: What stands there when there is nothing.
        labels: Field to label, in the order shown; what is not listed is in the file only.
        layout: ``cards``, ``messages`` or ``records``.
        group: The first section of a group carries its heading.
    """

    name: str
    title: str
    intro: str
    empty: str = "Nada consta."
    labels: Mapping[str, str]
    layout: str = "cards"
    group: str = ""


@dataclass(frozen=True, kw_only=True)
class Recipient:
    """Somebody else who got data of this person, and why."""

    name: str
    purpose: str


@dataclass(frozen=True, kw_only=True)
class KeptFor:
    """How long something is kept."""

    what: str
    how_long: str


SECTIONS: tuple[Section, ...] = (
    Section(
        name="users",
        title="Seu cadastro",
        intro="O que o atendimento pelo WhatsApp registrou sobre você.",
        labels={
            "name": "Nome",
            "phone": "Telefone",
            "email": "E-mail",
            "company": "Empresa",
            "is_client": "É cliente",
            "created_at": "Primeiro contato",
            "last_at": "Última atividade",
            "updated_at": "Cadastro alterado",
            "anonymized_at": "Anonimizado",
            "user_id": "Código do cadastro",
        },
    ),
    Section(
        name="identities",
        title="Seus números e identificadores",
        intro="Por onde o WhatsApp nos diz que uma mensagem é sua, e desde quando.",
        labels={
            "kind": "Tipo",
            "value": "Valor",
            "valid_from": "Desde",
            "valid_to": "Até",
        },
    ),
    Section(
        name="senders",
        title="Como você apareceu no WhatsApp",
        intro="Número, identificadores e nome do perfil que vieram com as suas mensagens.",
        labels={
            "name": "Nome do perfil",
            "phone_key": "Telefone",
            "wa_id": "Número no WhatsApp",
            "bsuid": "Identificador",
            "parent_bsuid": "Identificador da conta principal",
        },
    ),
    Section(
        name="merged_users",
        title="Cadastros reunidos ao seu",
        intro="Cadastros que eram seus e foram reunidos em um só.",
        labels={"user_id": "Código do cadastro anterior", "merged_at": "Reunido"},
    ),
    Section(
        name="conversations",
        title="Suas conversas",
        intro="Cada conversa que tivemos, sem o texto, que vem a seguir.",
        labels={
            "started_at": "Início",
            "closed_at": "Fim",
            "status": "Situação",
            "mode": "Atendida por",
            "current_flow": "Assunto do menu",
            "is_transferred": "Transferida a uma pessoa da equipe",
            "total_messages": "Mensagens",
        },
        group="Conversas",
    ),
    Section(
        name="messages",
        title="Suas mensagens",
        intro="O texto é apagado depois do prazo; data e hora permanecem.",
        labels={},
        layout="messages",
    ),
    Section(
        name="contexts",
        title="Memória curta da conversa",
        intro="O que o assistente usa para lembrar do assunto; vence em horas.",
        labels={
            "updated_at": "Atualizada",
            "ttl_expires_at": "Vence",
            "summary": "Resumo",
            "messages_json": "Mensagens lembradas",
        },
    ),
    Section(
        name="conversation_events",
        title="Andamento das conversas",
        intro="Quando uma conversa foi aberta, transferida ou encerrada.",
        labels={
            "at": "Quando",
            "status": "Situação",
            "is_transferred": "Transferida a uma pessoa da equipe",
        },
    ),
    Section(
        name="opt_outs",
        title="Suas escolhas sobre nossas mensagens",
        intro="Quando você pediu para parar ou voltar a receber mensagens.",
        labels={"chosen_at": "Quando", "category": "Assunto", "is_opted_out": "Pediu para parar"},
    ),
    Section(
        name="tickets",
        title="Chamados",
        intro="Pedidos de suporte. São guardados inteiros pelo prazo legal.",
        labels={
            "protocol": "Protocolo",
            "title": "Título",
            "description": "Descrição",
            "status": "Situação",
            "priority": "Prioridade",
            "category": "Categoria",
            "is_assigned": "Com uma pessoa da equipe",
            "created_at": "Aberto",
            "resolved_at": "Resolvido",
            "digest": "Selo de integridade",
        },
        group="Negócios",
    ),
    Section(
        name="leads",
        title="Interesse comercial",
        intro="O que foi anotado quando você demonstrou interesse em um serviço.",
        labels={
            "name": "Nome",
            "company": "Empresa",
            "phone": "Telefone",
            "email": "E-mail",
            "interest": "Interesse",
            "stage": "Etapa",
            "source": "Origem",
            "notes": "Anotações",
            "crm_id": "Código no sistema comercial",
            "created_at": "Criado",
            "anonymized_at": "Anonimizado",
        },
    ),
    Section(
        name="crm_links",
        title="No sistema comercial",
        intro="Os registros de lá que são o seu interesse comercial, e o que os dois lados dizem.",
        labels={
            "agreed_name": "Nome",
            "agreed_company": "Empresa",
            "agreed_phone": "Telefone",
            "agreed_email": "E-mail",
            "agreed_stage": "Etapa",
            "agreed_at": "Igual nos dois lados desde",
            "state": "Situação",
            "is_archived": "Arquivado lá",
            "phone_key": "Telefone, como o comparamos",
            "remote_lead_id": "Código do lead lá",
            "deal_id": "Código do negócio lá",
            "person_id": "Código da pessoa lá",
            "organization_id": "Código da empresa lá",
            "note_id": "Código da nota lá",
            "lead_id": "Código do interesse comercial aqui",
            "merged_into": "Reunido ao de código",
        },
    ),
    Section(
        name="sync_conflicts",
        title="Diferenças com outros sistemas",
        intro="Quando um dado seu mudou aqui e lá: os dois valores, por prazo curto.",
        labels={
            "found_at": "Quando",
            "system": "Sistema",
            "kind": "O que houve",
            "field": "Dado",
            "our_value": "Aqui",
            "their_value": "Lá",
            "winner": "Ficou",
            "resolution": "Escolhido por uma pessoa",
        },
    ),
    Section(
        name="appointments",
        title="Agendamentos",
        intro="Demonstrações, treinamentos e outros compromissos marcados.",
        labels={
            "type": "Tipo",
            "scheduled_at": "Marcado para",
            "duration_min": "Duração (minutos)",
            "status": "Situação",
            "is_assigned": "Com uma pessoa da equipe",
            "notes": "Anotações",
            "calendar_event_id": "Código na agenda",
            "created_at": "Criado",
        },
    ),
    Section(
        name="services",
        title="Serviços contratados",
        intro="Planos e serviços em seu nome.",
        labels={
            "name": "Serviço",
            "plan": "Plano",
            "status": "Situação",
            "contracted_at": "Contratado",
            "expires_at": "Vence",
            "monthly_value": "Valor mensal (R$)",
            "notes": "Anotações",
        },
    ),
    Section(
        name="certificates",
        title="Certificados digitais",
        intro="Os certificados que emitimos ou acompanhamos.",
        labels={
            "type": "Tipo",
            "issued_at": "Emitido",
            "expires_at": "Vence",
            "status": "Situação",
            "alert_sent": "Aviso de vencimento enviado",
        },
    ),
    Section(
        name="certificate_alerts",
        title="Avisos de vencimento",
        intro="Os avisos que enviamos sobre os seus certificados, e o que você respondeu.",
        labels={
            "type": "Tipo",
            "expires_at": "Vencimento",
            "channel": "Canal",
            "state": "Situação",
            "intended_at": "Enviado",
            "delivered_at": "Entregue",
            "answer": "Sua resposta",
        },
    ),
    Section(
        name="requests",
        title="Seus pedidos sobre dados pessoais",
        intro="Pedidos pela LGPD, com prazo de quinze dias.",
        labels={
            "kind": "Pedido",
            "state": "Situação",
            "received_at": "Recebido",
            "due_at": "Prazo",
            "closed_at": "Concluído",
        },
        group="Seus direitos e a guarda dos dados",
    ),
    Section(
        name="external_tasks",
        title="Eliminação em outros sistemas",
        intro="O que pedimos que outros sistemas apagassem.",
        labels={
            "system": "Sistema",
            "reference": "Código lá",
            "state": "Situação",
            "created_at": "Pedido",
            "confirmed_at": "Confirmado",
        },
    ),
    Section(
        name="holds",
        title="Dados guardados por obrigação",
        intro="O que não pode ser apagado por ora, e até quando.",
        labels={
            "table_name": "Onde",
            "placed_at": "Desde",
            "ends_at": "Até",
            "released_at": "Liberado",
        },
    ),
    Section(
        name="exemptions",
        title="Por que algo continua guardado",
        intro="O prazo passou, e há um motivo para guardar.",
        labels={
            "table_name": "Onde",
            "basis": "Motivo",
            "first_seen_at": "Desde",
            "last_seen_at": "Conferido",
        },
    ),
    Section(
        name="identity_changes",
        title="Trocas de número",
        intro="O WhatsApp avisou que você mudou de número ou de identificador.",
        labels={
            "changed_at": "Quando",
            "old_phone_key": "Número anterior",
            "new_phone_key": "Número novo",
            "new_wa_id": "Número novo no WhatsApp",
            "old_bsuid": "Identificador anterior",
            "new_bsuid": "Identificador novo",
            "old_parent_bsuid": "Identificador anterior da conta principal",
            "new_parent_bsuid": "Identificador novo da conta principal",
        },
        group="Registros técnicos",
    ),
    Section(
        name="undo_records",
        title="Cópias para desfazer uma reunião de registros",
        intro="Ficam por trinta dias, para corrigir um engano.",
        labels={
            "made_at": "Feita",
            "expires_at": "Vence",
            "kind": "O que foi reunido",
            "record": "Conteúdo",
        },
    ),
    Section(
        name="history",
        title="Mudanças de situação",
        intro="Como conversas, chamados e serviços mudaram de situação.",
        labels={
            "changed_at": "Quando",
            "table_name": "Onde",
            "column_name": "O quê",
            "old_value": "Antes",
            "new_value": "Depois",
        },
    ),
    Section(
        name="quarantine",
        title="Registros que não puderam ser lidos",
        intro="Chegaram com defeito e esperam, por prazo curto, uma nova tentativa.",
        labels={"place": "Onde", "line": "Linha", "record": "Conteúdo"},
        layout="records",
    ),
    Section(
        name="files",
        title="Arquivos recebidos",
        intro="Os registros originais das suas mensagens e os avisos do sistema comercial ainda "
        "não lidos, guardados por prazo curto.",
        labels={"place": "Arquivo", "line": "Linha", "record": "Conteúdo"},
        layout="records",
    ),
)

RIGHTS = (
    "Confirmar se tratamos dados seus e ter acesso a eles (art. 18, I e II).",
    "Corrigir o que estiver incompleto, errado ou desatualizado (art. 18, III).",
    "Pedir anonimização, bloqueio ou eliminação do que for desnecessário, excessivo ou tratado em "
    "desacordo com a lei (art. 18, IV).",
    "Levar os seus dados a outro fornecedor: o arquivo dados.json é legível por máquina "
    "(art. 18, V).",
    "Pedir a eliminação do que foi tratado com o seu consentimento, salvo o que a lei manda "
    "guardar (art. 18, VI, e art. 16).",
    "Saber com quem os seus dados foram compartilhados (art. 18, VII).",
    "Recusar ou revogar o consentimento, e saber o que acontece então (art. 18, VIII e IX).",
    "Reclamar à Autoridade Nacional de Proteção de Dados, ANPD (art. 18, § 1º).",
)

NOT_SHOWN = (
    "Códigos que dão acesso ao sistema (quem os tem entra sem senha).",
    "Nomes de pessoas da nossa equipe: são dados pessoais delas.",
    "Dados de outras pessoas, também de quem teve o seu número antes ou depois de você.",
    "Cópias de segurança: guardam o mesmo que está aqui e vencem pelo prazo delas.",
)

_WORDS = {
    "open": "aberta",
    "closed": "encerrada",
    "transferred": "transferida",
    "waiting": "em espera",
    "menu": "menu",
    "ai_free": "assistente de IA",
    "human": "pessoa da equipe",
    "flow": "roteiro automático",
    "in_progress": "em andamento",
    "resolved": "resolvido",
    "low": "baixa",
    "medium": "média",
    "high": "alta",
    "critical": "crítica",
    "new": "novo",
    "contacted": "contatado",
    "qualified": "qualificado",
    "lost": "perdido",
    "converted": "convertido",
    "demo": "demonstração",
    "support": "suporte",
    "training": "treinamento",
    "followup": "acompanhamento",
    "pending": "pendente",
    "confirmed": "confirmado",
    "done": "concluído",
    "cancelled": "cancelado",
    "essencial": "essencial",
    "profissional": "profissional",
    "enterprise": "enterprise",
    "active": "ativo",
    "suspended": "suspenso",
    "trial": "em teste",
    "valid": "válido",
    "expired": "vencido",
    "revoked": "revogado",
    "export": "cópia dos dados",
    "erase": "eliminação dos dados",
    "waiting_external": "esperando outro sistema",
    "wa_id": "número no WhatsApp",
    "phone_key": "telefone",
    "bsuid": "identificador do WhatsApp",
    "parent_bsuid": "identificador da conta principal",
    "users": "cadastro",
    "conversations": "conversas",
    "messages": "mensagens",
    "session_context": "memória da conversa",
    "tickets": "chamados",
    "leads": "interesse comercial",
    "appointments": "agendamentos",
    "services": "serviços",
    "certificates": "certificados",
    "status": "situação",
    "mode": "forma de atendimento",
    "priority": "prioridade",
    "stage": "etapa",
    "scheduled_at": "data marcada",
    "duration_min": "duração",
    "plan": "plano",
    "monthly_value": "valor mensal",
    "expires_at": "vencimento",
    "active_service": "serviço ativo",
    "valid_certificate": "certificado válido",
    "open_ticket": "chamado aberto",
    "future_appointment": "agendamento futuro",
    "lead_in_period": "interesse comercial dentro do prazo",
    "hold": "guarda determinada pelo encarregado",
    "all": "todas as mensagens",
    "marketing_messages": "promoções",
    "whatsapp": "WhatsApp",
    "email": "e-mail",
    "intended": "sem confirmação",
    "deferred": "adiado",
    "unknown": "sem confirmação",
    "accepted": "enviado",
    "delivered": "entregue",
    "read": "lido",
    "failed": "não entregue",
    "renew": "quero renovar",
    "renewed": "já renovei",
    "later": "lembrar depois",
    "linked": "ligado",
    "deleted": "excluído lá",
    "merged": "reunido a outro",
    "both_changed": "mudou nos dois lados",
    "kept": "mudou lá, onde não vale",
    "ours": "o nosso",
    "theirs": "o do outro sistema",
    "name": "nome",
    "phone": "telefone",
    "company": "empresa",
    "pipedrive": "Pipedrive",
    "google_calendar": "Google Agenda",
}
# Fields whose values are codes of ours; all others are shown as they were written.
_CODES = frozenset(
    {
        "kind",
        "status",
        "mode",
        "priority",
        "stage",
        "type",
        "plan",
        "state",
        "table_name",
        "column_name",
        "basis",
        "category",
        "system",
        "channel",
        "answer",
        "agreed_stage",
        "field",
        "winner",
        "resolution",
    }
)
_HISTORY_CODES = _CODES | {"old_value", "new_value"}
_STAGE_CODES = _CODES | {"our_value", "their_value"}
_AUTHORS = {
    "client": "Você",
    "bot": "Assistente",
    "human": "Equipe GATTE",
    "campaign": "Aviso da GATTE",
}
_ROLES = {"user": "Você", "assistant": "GATTE", "system": "Sistema"}
_DELIVERY = {
    "sent": "enviada",
    "delivered": "entregue",
    "read": "lida",
    "played": "ouvida",
    "failed": "não entregue",
}
_UNITS = {
    "hours": ("hora", "horas"),
    "days": ("dia", "dias"),
    "months": ("mês", "meses"),
    "years": ("ano", "anos"),
}
_STORES = {
    "messages_content": "Texto das mensagens",
    "session_context_ttl": "Memória curta da conversa, depois de vencida",
    "leads_inactive": "Interesse comercial, desde a última atividade",
    "users_inactive": "Cadastro, desde a última atividade",
    "login_tokens_unused": "Código de acesso sem uso",
    "tickets_kept": "Chamados, no mínimo",
    "appointments_details": "Anotações de agendamentos",
    "services_notes": "Anotações de serviços encerrados",
    "quarantine": "Registros que não puderam ser lidos",
    "sync_conflicts": "Diferenças com outros sistemas",
    "undo_records": "Cópias para desfazer, depois de vencidas",
    "landing_archive": "Arquivos recebidos do WhatsApp",
    "exports": "Esta cópia dos seus dados, do nosso lado",
    "backups": "Cópias de segurança",
}


def describe_periods(periods: Mapping[str, str]) -> list[KeptFor]:
    """Say the periods of the policy for the person they are about.

    Args:
        periods: Interval (``90 days``) by rule, as ``Policy.periods()`` gives them. Rules that say
            nothing to a person are left out.
    """
    found = []
    for rule, what in _STORES.items():
        if rule in periods:
            found.append(KeptFor(what=what, how_long=_period(periods[rule])))
    return found


def _period(interval: str) -> str:
    if not interval:
        return "enquanto houver obrigação de guardar"
    amount, _, unit = interval.partition(" ")
    if amount == "0":
        return "apagado em seguida"
    one, several = _UNITS[unit]
    return f"{amount} {one if amount == '1' else several}"


# --- Pieces of the page ---------------------------------------------------------------------------


def start_export(*, request_id: UUID, made_at: datetime) -> str:
    """Head, title and list of contents."""
    groups: list[tuple[str, list[Section]]] = []
    for section in SECTIONS:
        if section.group or not groups:
            groups.append((section.group or "Você", []))
        groups[-1][1].append(section)
    contents = "".join(
        f"<strong>{escape(group)}</strong><ul>"
        + "".join(f'<li><a href="#{one.name}">{escape(one.title)}</a></li>' for one in sections)
        + "</ul>"
        for group, sections in groups
    )
    return (
        page_start("Seus dados pessoais na GATTE Tecnologia")
        + "<header>\n<h1>Seus dados pessoais na GATTE Tecnologia</h1>\n"
        f"<p>Cópia feita em {_instant(made_at)} (horário de São Paulo).</p>\n"
        f"<p>Pedido {request_id}. Lei Geral de Proteção de Dados (Lei 13.709/2018), arts. 18 e "
        "19.</p>\n</header>\n"
        f'<nav aria-label="Conteúdo">{contents}<strong>Informações</strong><ul>'
        '<li><a href="#recipients">Com quem compartilhamos</a></li>'
        '<li><a href="#periods">Por quanto tempo guardamos</a></li>'
        '<li><a href="#rights">Seus direitos</a></li>'
        '<li><a href="#not-shown">O que não está aqui</a></li></ul></nav>\n'
        "<h2>Você</h2>\n"
    )


def start_section(section: Section) -> str:
    """The heading of a section, and of its group where it is the first one."""
    group = f"<h2>{escape(section.group)}</h2>\n" if section.group else ""
    return (
        f'{group}<section id="{section.name}">\n<h3>{escape(section.title)}</h3>\n'
        f'<p class="intro">{escape(section.intro)}</p>\n'
    )


def end_section(section: Section, count: int) -> str:
    """What closes a section of ``count`` rows."""
    empty = "" if count else f'<p class="empty">{escape(section.empty)}</p>\n'
    return f"{empty}</section>\n"


def render_row(section: Section, row: Row, previous: Row | None) -> str:
    """One row of a section; ``previous`` is the one before it in the same section."""
    return _LAYOUTS[section.layout](section, row, previous)


def end_export(recipients: Iterable[Recipient], periods: Sequence[KeptFor]) -> str:
    """Who else got the data, how long it is kept, rights; and the end of the page."""
    shared = "".join(
        f'<div class="card"><dl><dt>{escape(one.name)}</dt>'
        f"<dd>{escape(one.purpose)}</dd></dl></div>\n"
        for one in recipients
    )
    kept = "".join(
        f"<tr><td>{escape(one.what)}</td><td>{escape(one.how_long)}</td></tr>" for one in periods
    )
    table = (
        f"<table><thead><tr><th>O quê</th><th>Por quanto tempo</th></tr></thead><tbody>{kept}"
        "</tbody></table>\n"
        if periods
        else '<p class="empty">Consulte a política de retenção.</p>\n'
    )
    return (
        '<h2 id="recipients">Com quem compartilhamos</h2>\n'
        '<p class="intro">Quem mais recebeu ou guarda dados seus, e para quê.</p>\n'
        f"{shared}"
        '<h2 id="periods">Por quanto tempo guardamos</h2>\n'
        '<p class="intro">Depois do prazo, o dado é apagado ou deixa de levar a você. Chamados são '
        "guardados por obrigação legal (art. 16, I).</p>\n"
        f"{table}"
        f'<h2 id="rights">Seus direitos</h2>\n{_list(RIGHTS)}'
        f'<h2 id="not-shown">O que não está aqui</h2>\n{_list(NOT_SHOWN)}'
        "<footer><p>O arquivo dados.json, ao lado desta página, traz o mesmo em formato legível "
        "por máquina. Guarde os dois em lugar seguro: contêm os seus dados pessoais.</p></footer>\n"
        f"{page_end()}"
    )


def _list(texts: Iterable[str]) -> str:
    return '<ul class="notes">' + "".join(f"<li>{escape(one)}</li>" for one in texts) + "</ul>\n"


def _card(section: Section, row: Row, _previous: Row | None) -> str:
    codes = _CODES
    if section.name == "history":
        codes = _HISTORY_CODES
    elif section.name == "sync_conflicts" and row["field"] == "stage":
        codes = _STAGE_CODES
    parts = []
    for field, label in section.labels.items():
        value = row.get(field)
        if value is None or value == "":
            continue
        parts.append(f"<dt>{escape(label)}</dt><dd>{_value(field, value, codes)}</dd>")
    return f'<div class="card"><dl>{"".join(parts)}</dl></div>\n'


def _value(field: str, value: Any, codes: frozenset[str]) -> str:
    if field == "messages_json" and (remembered := _remembered(value)):
        return remembered
    if isinstance(value, bool):
        return "sim" if value else "não"
    if isinstance(value, datetime):
        return _instant(value)
    if isinstance(value, Decimal):
        return escape(f"{value:.2f}".replace(".", ","))
    if isinstance(value, dict | list):
        return f"<pre>{escape(json.dumps(value, ensure_ascii=False, indent=1, default=str))}</pre>"
    text = str(value)
    return escape(_WORDS.get(text, text) if field in codes else text)


def _remembered(items: Any) -> str:
    """The assistant's memory as lines; empty where it is not as this project writes it."""
    lines = []
    for item in items if isinstance(items, list) else ():
        try:
            at, who = datetime.fromisoformat(item["at"]), _ROLES[item["role"]]
            lines.append(f"<li>{_instant(at)}, {escape(who)}: {escape(item['content'])}</li>")
        except (KeyError, TypeError, ValueError, AttributeError):
            return ""
    return f'<ul class="notes">{"".join(lines)}</ul>' if lines else ""


def _message(_section: Section, row: Row, previous: Row | None) -> str:
    parts = []
    if previous is None or previous["conversation_id"] != row["conversation_id"]:
        parts.append(f"<h4>Conversa de {_day(row['created_at'])}</h4>\n")
    mine = row["role"] == "user"
    who = _AUTHORS.get(row["author"] or "", _ROLES[row["role"]])
    content = row["content"]
    text = (
        f"<p>{escape(content)}</p>"
        if content
        else '<p class="gone">texto apagado depois do prazo</p>'
    )
    notes = [f"{escape(who)} · {_instant(row['created_at'])}"]
    if row["statuses"]:
        reached = [_DELIVERY.get(one["status"], one["status"]) for one in row["statuses"]]
        notes.append(escape(", ".join(reached)))
    if row["intent_detected"]:
        notes.append(f"assunto entendido: {escape(row['intent_detected'])}")
    if row["button_payload"]:
        notes.append(f"botão: {escape(row['button_payload'])}")
    if row["reaction"]:
        notes.append(f"reação: {escape(row['reaction'])}")
    for change in row["changes"] or ():
        at = _instant(datetime.fromisoformat(change["changed_at"]))
        if change["is_revoke"]:
            notes.append(f"apagada em {at}")
        elif change["content"]:
            notes.append(f"editada em {at}: {escape(change['content'])}")
        else:
            notes.append(f"editada em {at}")
    small = "".join(f"<small>{note}</small>" for note in notes)
    parts.append(f'<div class="msg{" mine" if mine else ""}">{text}{small}</div>\n')
    return "".join(parts)


def _record(section: Section, row: Row, _previous: Row | None) -> str:
    place = f"{row['place']}, linha {row['line']}"
    if row["record"] is None:
        content = '<p class="empty">cita você, mas não pode ser lido por inteiro</p>'
    else:
        text = json.dumps(row["record"], ensure_ascii=False, indent=1)
        content = f"<pre>{escape(text)}</pre>"
    return (
        f'<div class="card"><dl><dt>{escape(section.labels["place"])}</dt><dd>{escape(place)}</dd>'
        f"</dl>{content}</div>\n"
    )


_LAYOUTS: dict[str, Callable[[Section, Row, Row | None], str]] = {
    "cards": _card,
    "messages": _message,
    "records": _record,
}


def _instant(at: datetime) -> str:
    return at.astimezone(ZONE).strftime("%d/%m/%Y às %H:%M")


def _day(at: datetime) -> str:
    return at.astimezone(ZONE).strftime("%d/%m/%Y")
