"""How the officer's report and the incident kit read: pt-BR, as Markdown and as one HTML file.

Both forms are drawn from the same parts, so that they say the same. Counting belongs to
``officer``; everything that is not ours to write is escaped here.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from html import escape
from pathlib import Path

from gatte_pipelines.business_time import ZONE
from gatte_pipelines.html_page import page_end, page_start
from gatte_pipelines.markdown import escape_markdown, markdown_table
from gatte_pipelines.portuguese import count, day, number
from gatte_pipelines.privacy.export import make_folder, written_atomically
from gatte_pipelines.privacy.officer import (
    MAX_TICKETS_LISTED,
    ChainCheck,
    IncidentKit,
    OfficerReport,
    RuleLine,
)
from gatte_pipelines.privacy.policy import WITH_LEAD, WITH_STAFF, WITH_USER, Action
from gatte_pipelines.run_report import PIPELINE_NAMES_PT, Outcome, reason_pt

Document = OfficerReport | IncidentKit


@dataclass(frozen=True, kw_only=True)
class _Table:
    """A table.

    Attributes:
        headers: One a column.
        rows: As many cells each.
        numbers: Columns that are written to the right.
        empty: What stands there when there is no row.
        has_total: The last row sums the others up.
        folded: What opens it on the page; '' for a table that stands open.
    """

    headers: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numbers: frozenset[int] = frozenset()
    empty: str = "Nenhum."
    has_total: bool = False
    folded: str = ""


@dataclass(frozen=True, kw_only=True)
class _Part:
    """One part of a page; ``listed`` is long and stands folded."""

    title: str
    intro: str
    table: _Table | None = None
    notes: tuple[str, ...] = ()
    listed: tuple[str, ...] = ()
    listed_title: str = ""


@dataclass(frozen=True, kw_only=True)
class _Tile:
    """One figure of the summary; ``is_good`` is None where it is neither good nor bad."""

    label: str
    value: str
    is_good: bool | None = None


@dataclass(frozen=True, kw_only=True)
class _Page:
    title: str
    lines: tuple[str, ...]
    is_good: bool | None
    verdict: str
    tiles: tuple[_Tile, ...]
    parts: tuple[_Part, ...]
    footer: str


def to_markdown(document: Document) -> str:
    """The document as Markdown: for a Prefect artifact, and to be kept beside the page."""
    page = _compose(document)
    blocks = [
        f"# {escape_markdown(page.title)}",
        "\n".join(f"{escape_markdown(line)}  " for line in page.lines),
    ]
    blocks.append(f"**{escape_markdown(page.verdict)}**")
    blocks.append(
        "\n".join(
            f"- {escape_markdown(tile.label)}: **{escape_markdown(tile.value)}**"
            for tile in page.tiles
        )
    )
    for part in page.parts:
        blocks.append(f"## {escape_markdown(part.title)}")
        blocks.append(escape_markdown(part.intro))
        if part.table is not None:
            blocks.append(_markdown_table(part.table))
        if part.notes:
            blocks.append("\n".join(f"- {escape_markdown(note)}" for note in part.notes))
        if part.listed:
            blocks.append(f"{escape_markdown(part.listed_title)}:")
            blocks.append("\n".join(f"- `{item}`" for item in part.listed))
    blocks.append(f"---\n\n{escape_markdown(page.footer)}")
    return "\n\n".join(block.rstrip() for block in blocks) + "\n"


def to_html(document: Document) -> str:
    """The document as one HTML page that loads nothing."""
    page = _compose(document)
    state = {None: "", True: " good", False: " bad"}
    tiles = "".join(
        f'<div class="tile{state[tile.is_good]}"><strong>{escape(tile.value)}</strong>'
        f"<span>{escape(tile.label)}</span></div>"
        for tile in page.tiles
    )
    return (
        page_start(page.title, _STYLE)
        + f"<header>\n<h1>{escape(page.title)}</h1>\n"
        + "".join(f"<p>{escape(line)}</p>\n" for line in page.lines)
        + f'</header>\n<p class="verdict{state[page.is_good]}">{escape(page.verdict)}</p>\n'
        + f'<div class="tiles">{tiles}</div>\n'
        + "".join(_html_part(part) for part in page.parts)
        + f"<footer><p>{escape(page.footer)}</p></footer>\n"
        + page_end()
    )


def save_document(document: Document, folder: Path) -> tuple[Path, Path]:
    """Write both forms into a folder, each whole or not at all and for its owner only.

    Args:
        document: The report or the kit.
        folder: Is made where it is missing; the policy's store ``officer_reports``.

    Returns:
        The Markdown file and the HTML file.
    """
    kind = "relatorio-lgpd" if isinstance(document, OfficerReport) else "incidente-lgpd"
    name = f"{kind}-{document.as_of.astimezone(ZONE):%Y-%m-%d-%H%M%S}"
    make_folder(folder)
    paths = folder / f"{name}.md", folder / f"{name}.html"
    for path, content in zip(paths, (to_markdown(document), to_html(document)), strict=True):
        with written_atomically(path) as stream:
            stream.write(content.encode("utf-8"))
    return paths


# --- The report -----------------------------------------------------------------------------------


def _compose(document: Document) -> _Page:
    if isinstance(document, OfficerReport):
        return _compose_report(document)
    return _compose_kit(document)


def _compose_report(report: OfficerReport) -> _Page:
    late = sum(request.days_left < 0 for request in report.requests)
    problems = []
    if report.overdue:
        problems.append("há dados além do prazo")
    if report.chain.problems:
        problems.append("o registro encadeado tem falhas")
    if report.tampered_tickets:
        problems.append("há chamados alterados depois do fechamento")
    if late:
        problems.append("há pedidos de titulares fora do prazo")
    return _Page(
        title="Relatório do encarregado: retenção e anonimização",
        lines=(
            f"Posição de {_instant(report.as_of)} (horário de São Paulo). Período: desde "
            f"{_instant(report.since)}.",
            f"Política aprovada em {day(report.approved_on)} por: {report.approved_by}. "
            f"Impressão digital: {report.policy_digest}.",
        ),
        is_good=not problems,
        verdict=(
            f"Atenção: {'; '.join(problems)}."
            if problems
            else "Nada foi mantido além do prazo sem fundamento, e nada de quem foi anonimizado "
            "está de volta."
        ),
        tiles=(
            _Tile(label="além do prazo", value=number(report.overdue), is_good=report.overdue == 0),
            _Tile(
                label="cadeia do registro",
                value="com falhas" if report.chain.problems else "íntegra",
                is_good=not report.chain.problems,
            ),
            _Tile(
                label="chamados alterados",
                value=number(len(report.tampered_tickets)),
                is_good=not report.tampered_tickets,
            ),
            _Tile(
                label="pedidos de titulares em aberto",
                value=number(len(report.requests)),
                is_good=False if late else None,
            ),
            _Tile(
                label="tarefas externas em aberto",
                value=number(sum(task.tasks for task in report.tasks)),
            ),
            _Tile(
                label="bloqueios legais em vigor", value=number(sum(h.holds for h in report.holds))
            ),
        ),
        parts=(
            _rules_part(report),
            _people_part(report),
            _words_part(report),
            _holds_part(report),
            _tickets_part(report),
            _requests_part(report),
            _tasks_part(report),
            _chain_part(report.chain),
            _runs_part(report),
            _other_rules_part(report),
        ),
        footer="Este relatório traz apenas contagens, instantes, códigos e identificadores; nenhum "
        "dado pessoal. As contagens de vencidos vêm de uma releitura do banco escrita à parte do "
        "programa que elimina.",
    )


def _rules_part(report: OfficerReport) -> _Part:
    rows = []
    for line in report.rules:
        if not line.is_counted:
            continue
        exempt = "; ".join(
            f"{number(one.rows)} ({' e '.join(_BASES_PT.get(b, b) for b in one.bases)})"
            for one in line.exempt
        )
        rows.append(
            (
                RULE_TITLES_PT.get(line.rule.name, line.rule.name),
                _period(line),
                number(line.due),
                number(line.done),
                exempt or "0",
                number(line.held),
                number(line.overdue),
                _instant(line.oldest) if line.oldest else "–",
            )
        )
    return _Part(
        title="Prazos por regra",
        intro="Vencidos: linhas cujo prazo terminou. Tratados: eliminados ou anonimizados no "
        "período, conforme o registro. Isentos: mantidos por um fundamento, que a política prevê. "
        "Atrasados: vencidos há mais de 26 horas e ainda presentes; devem ser zero. Mais antigo: "
        "a linha mais antiga que ainda tem o dado, pelo relógio da regra.",
        table=_Table(
            headers=(
                "Regra",
                "Prazo",
                "Vencidos",
                "Tratados",
                "Isentos e por quê",
                "Bloqueados",
                "Atrasados",
                "Mais antigo",
            ),
            rows=tuple(rows),
            numbers=frozenset({2, 3, 5, 6}),
        ),
    )


def _people_part(report: OfficerReport) -> _Part:
    return _Part(
        title="Pessoas anonimizadas, relidas",
        intro="Todas as colunas pessoais do catálogo, em todas as linhas de quem já foi "
        "anonimizado. Deve estar vazio; os chamados, mantidos íntegros, não entram.",
        table=_Table(
            headers=("Tabela", "Coluna", "Linhas", "Identificadores"),
            rows=tuple(
                (left.table, left.column, number(left.count), ", ".join(left.ids))
                for left in report.leftovers
            ),
            numbers=frozenset({2}),
            empty="Nada foi encontrado.",
        ),
        notes=(f"Titulares eliminados a pedido no período: {number(report.erased_on_request)}.",),
    )


def _words_part(report: OfficerReport) -> _Part:
    words = report.words
    return _Part(
        title="As palavras certas",
        intro="Pseudonimizado: o dado foi removido, mas a linha ainda leva à pessoa pelo cadastro, "
        "por um chamado ou por outro sistema (LGPD, art. 13, § 4º); continua sendo dado pessoal. "
        "Anonimizado: nada mais leva à pessoa (art. 12).",
        table=_Table(
            headers=("O quê", "Pseudonimizados", "Anonimizados"),
            rows=(
                (
                    "Mensagens com o texto removido",
                    number(words.pseudonymised_messages),
                    number(words.anonymised_messages),
                ),
                (
                    "Cadastros sem dados pessoais",
                    number(words.pseudonymised_users),
                    number(words.anonymised_users),
                ),
            ),
            numbers=frozenset({1, 2}),
        ),
        notes=(
            "Um cadastro anonimizado que tem chamado, ou tarefa externa em aberto, conta como "
            "pseudonimizado: o chamado é mantido íntegro e pode citar a pessoa.",
        ),
    )


def _holds_part(report: OfficerReport) -> _Part:
    return _Part(
        title="Bloqueios legais em vigor",
        intro="O que deve ser mantido por ora, qualquer que seja a idade. Motivo e responsável "
        "constam do comando gatte lgpd hold.",
        table=_Table(
            headers=("Tabela", "Bloqueios", "Sem data de fim", "Primeiro fim", "Último fim"),
            rows=tuple(
                (
                    TABLES_PT.get(held.table, held.table),
                    number(held.holds),
                    number(held.without_end),
                    _instant(held.first_end) if held.first_end else "–",
                    _instant(held.last_end) if held.last_end else "–",
                )
                for held in report.holds
            ),
            numbers=frozenset({1, 2}),
        ),
    )


def _tickets_part(report: OfficerReport) -> _Part:
    old = report.old_tickets
    (kept,) = [line for line in report.rules if line.rule.name == "tickets_kept"]
    past = f"Chamados com mais de {_period(kept)}"
    protocols = count(old.protocols, "protocolo")
    notes = [
        f"{past}: {number(old.tickets)} ({protocols})"
        + (f"; o mais antigo é de {_day_of(old.oldest)}." if old.oldest else ".")
    ]
    if old.tickets > len(old.ids):
        notes.append(
            f"São listados os {number(MAX_TICKETS_LISTED)} mais antigos; os demais constam do "
            "banco."
        )
    return _Part(
        title="Chamados",
        intro="Mantidos íntegros para auditoria (DOC 01, § 4). Os fechados são conferidos por um "
        "resumo criptográfico; um chamado que não confere foi alterado por alguém.",
        table=_Table(
            headers=("Chamado", "O que houve"),
            rows=tuple((str(one.ticket_id), one.what) for one in report.tampered_tickets),
            empty="Nenhum chamado foi alterado.",
        ),
        notes=tuple(notes),
        listed=tuple(str(ticket) for ticket in old.ids),
        listed_title=f"{past}, para decisão do encarregado",
    )


def _requests_part(report: OfficerReport) -> _Part:
    return _Part(
        title="Pedidos de titulares em aberto",
        intro="Prazo de 15 dias (LGPD, art. 19, II).",
        table=_Table(
            headers=("Pedido", "Tipo", "Situação", "Recebido em", "Prazo", "Restam"),
            rows=tuple(
                (
                    str(request.request_id),
                    {"export": "acesso", "erase": "eliminação"}.get(request.kind, request.kind),
                    {"open": "em aberto", "waiting_external": "aguarda outro sistema"}.get(
                        request.state, request.state
                    ),
                    _day_of(request.received_at),
                    _day_of(request.due_at),
                    _days_left(request.days_left),
                )
                for request in report.requests
            ),
        ),
    )


def _tasks_part(report: OfficerReport) -> _Part:
    return _Part(
        title="Tarefas externas em aberto",
        intro="Eliminações que outro sistema ainda não confirmou (LGPD, art. 18, § 6º).",
        table=_Table(
            headers=("Sistema", "Tarefas", "Mais antiga", "Idade", "Tentativas"),
            rows=tuple(
                (
                    task.system,
                    number(task.tasks),
                    _instant(task.oldest),
                    count(task.days, "dia"),
                    number(task.attempts),
                )
                for task in report.tasks
            ),
            numbers=frozenset({1, 4}),
            empty="Nenhuma.",
        ),
        notes=tuple(
            f"{task.system}: falta definir {task.missing}; nada pode ser eliminado lá."
            for task in report.tasks
            if task.missing
        ),
    )


def _chain_part(chain: ChainCheck) -> _Part:
    return _Part(
        title="Registro encadeado",
        intro="O que foi eliminado e por quê, em duas vias: no banco e fora dele. Conferido agora, "
        "entrada por entrada.",
        table=_Table(
            headers=("Problema",),
            rows=tuple((problem,) for problem in chain.problems),
            empty="Nenhum problema: a cadeia está íntegra e as duas vias dizem o mesmo.",
        ),
        notes=(
            f"Entradas no banco: {number(chain.entries)}; na cópia externa: "
            f"{number(chain.outside_entries)}.",
            f"Hash da última entrada: {chain.head_hash}",
        ),
    )


def _runs_part(report: OfficerReport) -> _Part:
    return _Part(
        title="Últimas execuções",
        intro="As mais recentes, de qualquer resultado.",
        table=_Table(
            headers=("Início", "O quê", "Resultado", "Motivo", "Referência"),
            rows=tuple(
                (
                    _instant(run.started_at),
                    PIPELINE_NAMES_PT.get(run.pipeline, run.pipeline),
                    _OUTCOMES_PT.get(run.outcome or "", "em andamento ou interrompida"),
                    reason_pt(run.reason) if run.reason else "–",
                    _instant(run.as_of),
                )
                for run in report.runs
            ),
            empty="Nenhuma.",
        ),
    )


def _other_rules_part(report: OfficerReport) -> _Part:
    return _Part(
        title="Demais regras da política",
        intro="Regras que acompanham outra, que valem para arquivos, ou que mantêm o dado.",
        table=_Table(
            headers=("Onde", "Prazo", "O que se faz", "Fundamento"),
            rows=tuple(
                (
                    line.rule.store
                    + (f" ({', '.join(line.rule.columns)})" if line.rule.columns else ""),
                    _period(line),
                    _ACTIONS_PT[line.rule.action],
                    line.rule.legal_basis,
                )
                for line in report.rules
                if not line.is_counted
            ),
            folded="Ver as regras",
        ),
    )


# --- The incident kit -----------------------------------------------------------------------------


def _compose_kit(kit: IncidentKit) -> _Page:
    return _Page(
        title="Incidente de segurança: levantamento para a comunicação",
        lines=(
            f"Incidente em {_instant(kit.incident_at)}; conhecido em {_instant(kit.known_at)}; "
            f"levantamento de {_instant(kit.as_of)} (horário de São Paulo).",
            "Resolução CD/ANPD nº 15/2024, arts. 6º, 9º e 10; LGPD, art. 48.",
        ),
        is_good=None,
        verdict=f"Comunicar à ANPD e aos titulares até {day(kit.notice_due)}: três dias úteis "
        "desde o conhecimento.",
        tiles=(
            _Tile(label="titulares, no máximo", value=number(kit.subjects)),
            _Tile(label="prazo da comunicação", value=day(kit.notice_due)),
            _Tile(label="prazo de agente de pequeno porte", value=day(kit.small_agent_due)),
            _Tile(label="guardar o registro até", value=day(kit.keep_until)),
        ),
        parts=(
            _subjects_part(kit),
            _gone_part(kit),
            _chain_part(kit.chain),
            _Part(
                title="O que este levantamento não diz",
                intro="A completar por quem conhece o incidente.",
                notes=(
                    "Supõe que todo o banco foi alcançado; o número real pode ser menor. "
                    "Arquivos, registros de execução e cópias de segurança não são contados.",
                    "Idade não é coletada: não é possível discriminar crianças, adolescentes ou "
                    "idosos (art. 6º, § 2º, II).",
                    "Feriados não foram descontados do prazo: a data indicada nunca é tardia.",
                    "O que foi eliminado entre o incidente e este levantamento já não está nas "
                    "contagens por categoria; consta da tabela do que foi eliminado.",
                    "Medidas de segurança, riscos, causa e providências (art. 6º, § 2º) não vêm do "
                    "banco.",
                ),
            ),
        ),
        footer="Este levantamento traz apenas contagens e instantes; nenhum dado pessoal.",
    )


def _subjects_part(kit: IncidentKit) -> _Part:
    rows = [
        (CATEGORIES_PT[one.name], number(one.subjects), number(one.records))
        for one in kit.categories
    ]
    rows.append(("Total, sem repetir titulares", number(kit.subjects), "–"))
    return _Part(
        title="Titulares por categoria de dado",
        intro="Dados presentes agora que já existiam no instante do incidente. Um titular conta em "
        "cada categoria, e uma só vez no total. Um lead sem cadastro é um titular à parte.",
        table=_Table(
            headers=("Categoria", "Titulares", "Registros"),
            rows=tuple(rows),
            numbers=frozenset({1, 2}),
            has_total=True,
        ),
        notes=(
            "Registros em quarentena, cujos titulares não se podem contar: "
            f"{number(kit.quarantined)}.",
        ),
    )


def _gone_part(kit: IncidentKit) -> _Part:
    rows = [
        (
            RULE_TITLES_PT.get(gone.rule, gone.rule),
            number(gone.before),
            number(gone.since),
        )
        for gone in kit.gone
    ]
    for table in sorted({*kit.anonymised_before, *kit.anonymised_since}):
        rows.append(
            (
                f"Anonimizados: {TABLES_PT.get(table, table)}",
                number(kit.anonymised_before.get(table, 0)),
                number(kit.anonymised_since.get(table, 0)),
            )
        )
    rows.append(
        ("Titulares eliminados a pedido", number(kit.erased_before), number(kit.erased_since))
    )
    return _Part(
        title="O que já tinha sido eliminado",
        intro="Conforme o registro encadeado. O que foi eliminado antes do incidente não podia ser "
        "alcançado; o que foi eliminado depois estava presente.",
        table=_Table(
            headers=("O quê", "Antes do incidente", "Desde o incidente"),
            rows=tuple(rows),
            numbers=frozenset({1, 2}),
        ),
    )


# --- Words ----------------------------------------------------------------------------------------

RULE_TITLES_PT = {
    "messages_content": "Texto das mensagens",
    "message_reactions_emoji": "Reações a mensagens",
    "button_replies_payload": "Códigos de botões",
    "message_changes_waiting": "Edições à espera da mensagem",
    "session_context_ttl": "Contexto da IA",
    "leads_inactive": "Leads sem atividade",
    "users_inactive": "Usuários sem atividade",
    "login_tokens_unused": "Tokens de acesso sem uso",
    "appointments_details": "Detalhes de agendamentos",
    "services_notes": "Observações de serviços",
    "staff_names": "Nomes de atendentes",
    "inbound_batches": "Nomes dos arquivos recebidos",
    "quarantine": "Quarentena",
    "sync_conflicts": "Diferenças com outros sistemas",
    "identity_changes_unknown": "Trocas de número de desconhecidos",
    "undo_records": "Registros de desfazer",
    "runs_text": "Notas e erros de execuções",
    "plans_expired": "Planos vencidos",
    "erased_messages": "Mensagens de titulares eliminados",
    "holds_text": "Motivos de bloqueios encerrados",
    "external_tasks_reference": "Referências em outros sistemas",
}
"""What the officer calls each rule that is counted."""

CATEGORIES_PT = {
    "name": "Nome",
    "contact": "Telefone e e-mail",
    "company": "Empresa",
    "credential": "Token de acesso",
    "whatsapp": "Identificadores do WhatsApp",
    "messages": "Texto de mensagens",
    "context": "Contexto da IA (últimas mensagens)",
    "tickets": "Chamados (título e descrição)",
    "leads": "Dados comerciais (leads)",
    "appointments": "Agendamentos",
    "services": "Serviços contratados",
    "certificates": "Certificados digitais (tipo e validade)",
    "staff": "Nomes de atendentes",
}
"""What the notice calls each category of data."""

TABLES_PT = {
    "users": "usuários",
    "conversations": "conversas",
    "messages": "mensagens",
    "session_context": "contextos da IA",
    "tickets": "chamados",
    "leads": "leads",
    "appointments": "agendamentos",
    "services": "serviços",
    "certificates": "certificados",
}

_BASES_PT = {
    "active_service": "serviço ativo",
    "valid_certificate": "certificado válido",
    "open_ticket": "chamado aberto",
    "future_appointment": "agendamento futuro",
    "lead_in_period": "lead no prazo",
    "named_by_ticket": "citado em chamado",
    "hold": "bloqueio legal",
}
_OUTCOMES_PT = {
    Outcome.COMPLETED.value: "concluída",
    Outcome.SKIPPED.value: "nada a fazer",
    Outcome.NEEDS_APPROVAL.value: "aguarda aprovação",
    Outcome.FAILED.value: "falhou",
}
_ACTIONS_PT = {
    Action.CLEAR: "esvaziar",
    Action.ANONYMIZE: "anonimizar",
    Action.DELETE: "apagar",
    Action.KEEP: "manter",
    Action.EXTERNAL: "apagado por outro sistema",
}
_UNITS_PT = {
    "hours": ("hora", "horas"),
    "days": ("dia", "dias"),
    "months": ("mês", "meses"),
    "years": ("ano", "anos"),
}


def _period(line: RuleLine) -> str:
    rule = line.rule
    if rule.name == "external_tasks_reference":
        return "na confirmação"
    if rule.period is None:
        if rule.clock == WITH_USER:
            return "com o usuário"
        if rule.clock == WITH_LEAD:
            return "com o lead"
        if rule.clock == WITH_STAFF:
            return "com o nome do atendente"
        return "sem prazo"
    if not rule.period.amount:
        return "no vencimento"
    one, several = _UNITS_PT[rule.period.unit]
    return count(rule.period.amount, one, several)


def _days_left(days: int) -> str:
    return count(days, "dia") if days >= 0 else f"atrasado há {count(-days, 'dia')}"


def _instant(at: datetime) -> str:
    return at.astimezone(ZONE).strftime("%d/%m/%Y %H:%M")


def _day_of(at: datetime) -> str:
    return day(at.astimezone(ZONE).date())


# --- Markdown and HTML ----------------------------------------------------------------------------


def _markdown_table(table: _Table) -> str:
    if not table.rows:
        return f"*{escape_markdown(table.empty)}*"
    return markdown_table(table.headers, table.rows, table.numbers)


def _html_part(part: _Part) -> str:
    pieces = [
        f'<section>\n<h2>{escape(part.title)}</h2>\n<p class="intro">{escape(part.intro)}</p>\n'
    ]
    if part.table is not None:
        pieces.append(_html_table(part.table))
    if part.notes:
        notes = "".join(f"<li>{escape(note)}</li>" for note in part.notes)
        pieces.append(f'<ul class="notes">{notes}</ul>\n')
    if part.listed:
        items = "".join(f"<li>{escape(item)}</li>" for item in part.listed)
        pieces.append(
            f"<details><summary>{escape(part.listed_title)} ({number(len(part.listed))})</summary>"
            f'<ul class="ids">{items}</ul></details>\n'
        )
    pieces.append("</section>\n")
    return "".join(pieces)


def _html_table(table: _Table) -> str:
    if not table.rows:
        return f'<p class="empty">{escape(table.empty)}</p>\n'
    head = "".join(
        f'<th{_numeric(table, i)} scope="col">{escape(header)}</th>'
        for i, header in enumerate(table.headers)
    )
    last = len(table.rows) - 1
    body = "".join(
        ('<tr class="total">' if table.has_total and place == last else "<tr>")
        + "".join(
            f'<td{_numeric(table, i)} data-label="{escape(table.headers[i])}">'
            f"<span>{escape(cell)}</span></td>"
            for i, cell in enumerate(row)
        )
        + "</tr>\n"
        for place, row in enumerate(table.rows)
    )
    kind = "wide" if len(table.headers) > _COLUMNS_ON_A_PHONE else "plain"
    drawn = (
        f'<table class="{kind}"><thead><tr>{head}</tr></thead>\n<tbody>\n{body}</tbody></table>\n'
    )
    if not table.folded:
        return drawn
    summary = f"{table.folded} ({number(len(table.rows))})"
    return f"<details><summary>{escape(summary)}</summary>\n{drawn}</details>\n"


def _numeric(table: _Table, place: int) -> str:
    return ' class="n"' if place in table.numbers else ""


# More columns do not fit beside each other on a phone.
_COLUMNS_ON_A_PHONE = 3

# Added to the style of all our pages. On a phone every row of a wide table is a card.
_STYLE = """
main{max-width:76rem}
.verdict{margin:1.25rem 0 1rem;padding:.8rem 1rem;border-radius:.5rem;font-weight:600;
background:#eef1f5;border-left:.35rem solid #6a7683}
.verdict.good{background:#e3f4ee;border-color:#0b6b57}
.verdict.bad{background:#fdeaea;border-color:#b3261e}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(9.5rem,1fr));gap:.6rem}
.tile{background:#fff;border:1px solid #d9dee4;border-radius:.5rem;padding:.7rem .9rem}
.tile strong{display:block;font-size:1.45rem;line-height:1.2}
.tile span{color:#4a5766;font-size:.9rem}
.tile.good strong{color:#0b6b57}.tile.bad{border-color:#b3261e}.tile.bad strong{color:#b3261e}
table{font-size:.93rem;font-variant-numeric:tabular-nums}
th,td{overflow-wrap:break-word}th{vertical-align:bottom}th.n{text-align:right}
.total td{font-weight:600;border-top:2px solid #9aa5b1}
.ids{columns:20rem;font:.82rem/1.6 ui-monospace,Consolas,monospace;padding-left:1.2rem}
details{margin:.5rem 0}summary{cursor:pointer;color:#0b5c4b;padding:.35rem 0}
header p,.notes li{overflow-wrap:anywhere}
@media(max-width:46rem){
.wide,.wide tbody,.wide td{display:block}
.wide{background:none;border:0}
.wide thead{position:absolute;left:-999rem}
.wide tr{display:grid;grid-template-columns:1fr 1fr;gap:.1rem 1.5rem;background:#fff;
border:1px solid #d9dee4;border-radius:.5rem;padding:.6rem .9rem;margin:0 0 .6rem}
.wide td,.wide td.n{border:0;padding:0;text-align:left;white-space:normal;min-width:0;
overflow-wrap:anywhere}
.wide td::before{content:attr(data-label) ": ";color:#4a5766}
.wide td:first-child{font-weight:600;grid-column:1/-1}
.wide td:first-child::before{content:none}
.tiles{grid-template-columns:1fr 1fr}
.tile{padding:.6rem .8rem;min-width:0}.tile strong{font-size:1.3rem}
.plain{font-size:.85rem}.plain th{font-size:.78rem}.plain th,.plain td{padding:.4rem .4rem}
}
"""
