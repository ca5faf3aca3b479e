"""What a run did, in numbers that must balance (rule S10), and how people read them.

Storing a report belongs to ``database.runs``; drawing it in Prefect belongs to ``flows``.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

import msgspec

from gatte_pipelines.errors import ImbalanceError
from gatte_pipelines.portuguese import count, number


class Outcome(StrEnum):
    """How a run ended. A run that raised is ``failed`` and has no balance to check."""

    COMPLETED = "completed"
    SKIPPED = "skipped"
    NEEDS_APPROVAL = "needs_approval"
    FAILED = "failed"


PIPELINE_NAMES_PT = {
    "inbound_messages": "Entrada de mensagens",
    "quarantine_replay": "Reprocessamento da quarentena",
    "session_context_expiry": "Expiração de contextos",
    "watchdog": "Vigia das execuções",
    "lgpd_retention": "Retenção LGPD",
    "lgpd_subject_request": "Pedido de titular (LGPD)",
    "certificate_alerts": "Avisos de vencimento",
    "certificate_state": "Situação dos certificados",
    "data_quality": "Qualidade dos dados",
    "resolve_conflict": "Decisão sobre um conflito",
    "crm_sync": "Sincronização com o CRM",
    "nightly": "Rotina da noite",
}

DRY_RUN = "dry_run"
"""Reason of a run that only showed what it would do, and of the units it would have changed."""

_OUTCOME_PT = {
    Outcome.COMPLETED: "concluída",
    Outcome.SKIPPED: "nada a fazer",
    Outcome.NEEDS_APPROVAL: "aguarda aprovação",
    Outcome.FAILED: "falhou",
}


class _Words(msgspec.Struct, frozen=True):
    """What the counts of a pipeline are called, in the singular; an "s" makes the plural.

    ``would`` says what a dry run would do with one and with several. ``is_short`` leaves out what
    is 0, and tells apart among the skipped what is ``kept`` for a reason and what is ``aside``.
    """

    received: str = "recebido"
    inserted: str = "inserido"
    updated: str = "atualizado"
    duplicate: str = "repetido"
    would: tuple[str, str] = ("seria alterado", "seriam alterados")
    is_short: bool = False
    kept: str = "mantido"
    aside: str = "não tratado"


_PLAIN_WORDS = _Words()
_WORDS_PT = {
    "lgpd_retention": _Words(
        received="vencido",
        updated="tratado",
        would=("seria tratado", "seriam tratados"),
        is_short=True,
    ),
    "lgpd_subject_request": _Words(
        received="registro",
        inserted="reunido",
        updated="eliminado",
        would=("seria tratado", "seriam tratados"),
        is_short=True,
    ),
    "certificate_alerts": _Words(
        received="aviso",
        updated="enviado",
        would=("seria enviado", "seriam enviados"),
        is_short=True,
        kept="não enviado",
        aside="não enviado",
    ),
    "data_quality": _Words(
        received="regra",
        inserted="aprovada",
        is_short=True,
        kept="não aprovada",
        aside="não aprovada",
    ),
    "resolve_conflict": _Words(received="conflito", updated="resolvido", is_short=True),
    "crm_sync": _Words(
        received="lead",
        inserted="criado",
        updated="atualizado",
        duplicate="inalterado",
        would=("seria atualizado", "seriam atualizados"),
        is_short=True,
        kept="não sincronizado",
        aside="não sincronizado",
    ),
    "certificate_state": _Words(
        received="certificado",
        updated="atualizado",
        would=("seria atualizado", "seriam atualizados"),
        is_short=True,
    ),
}

# What is neither done nor kept for a reason.
_ASIDE_PT = {
    "locked": ("bloqueado", "bloqueados"),
    "no_longer_due": ("deixou de estar vencido", "deixaram de estar vencidos"),
    "answered": ("já respondido", "já respondidos"),
    "renewed": ("já renovado", "já renovados"),
    "superseded": ("trocado por um mais urgente", "trocados por um mais urgente"),
    "lapsed": ("vencido há muito tempo", "vencidos há muito tempo"),
    "quiet_hours": ("fora do horário", "fora do horário"),
    "waiting": ("aguarda confirmação", "aguardam confirmação"),
    "deferred": ("adiado", "adiados"),
    "not_run": ("não executada", "não executadas"),
    "failed_critical": ("falha crítica", "falhas críticas"),
    "failed_warning": ("aviso", "avisos"),
    "failed_info": ("observação", "observações"),
    "waived": ("tolerada", "toleradas"),
    "not_judged": ("não avaliada", "não avaliadas"),
}

# What a run that changed nothing says of how to go on.
_NOTHING_DONE_PT = {
    "lgpd_retention": (
        "**Nada foi apagado.** Para executar exatamente este plano, rode o fluxo *lgpd_retention* "
        "com o id do plano no campo `approve`."
    ),
    "lgpd_subject_request": (
        "**Nada foi apagado.** Para eliminar, rode o fluxo *lgpd_subject_request* de novo com "
        "`execute` ligado."
    ),
    "certificate_alerts": (
        "**Nenhum aviso foi enviado.** Para enviar, rode o fluxo *certificate_alerts* com "
        "`dry_run` desligado."
    ),
    "crm_sync": (
        "**Nada foi alterado, nem aqui nem no Pipedrive.** O que mudaria está na tabela "
        "*diferencas*. Para sincronizar, rode o fluxo *crm_sync* com `dry_run` desligado."
    ),
}
# The same where a plan waits to be approved, if that reads otherwise.
_PLAN_WAITS_PT = {
    "certificate_alerts": (
        "**Nenhum aviso foi enviado.** Para enviar exatamente este plano, rode o fluxo "
        "*certificate_alerts* com o id do plano no campo `approve`."
    ),
    "crm_sync": (
        "**Nada foi alterado, nem aqui nem no Pipedrive.** O que mudaria está na tabela "
        "*diferencas*. Para executar exatamente este plano, rode o fluxo *crm_sync* com o id do "
        "plano no campo `approve`; até lá nenhum lead é sincronizado."
    ),
}


class Counts(msgspec.Struct, kw_only=True):
    """The parts of a balance: of a run, or of a part of one.

    ``received = inserted + updated + duplicate + sum(skipped) + sum(quarantined)``, where the unit
    is one message, status, contact event or malformed line. ``received`` is counted by the decoder
    before anything is decided, the parts come from SQL row counts.
    """

    received: int = 0
    inserted: int = 0
    updated: int = 0
    duplicate: int = 0
    skipped: dict[str, int] = {}
    quarantined: dict[str, int] = {}

    @property
    def accounted(self) -> int:
        """The sum of all parts, which must equal ``received``."""
        return (
            self.inserted
            + self.updated
            + self.duplicate
            + sum(self.skipped.values())
            + sum(self.quarantined.values())
        )

    def balance(self, of: str = "a part of a run") -> None:
        """Check rule S10.

        Args:
            of: What these counts are of, for the error.

        Raises:
            ImbalanceError: The parts do not add up to ``received``.
        """
        if self.accounted != self.received:
            raise ImbalanceError(
                f"{of}: received {self.received}, accounted for {self.accounted} "
                f"(inserted {self.inserted}, updated {self.updated}, duplicate {self.duplicate}, "
                f"skipped {sum(self.skipped.values())}, "
                f"quarantined {sum(self.quarantined.values())})"
            )

    def add(self, other: Counts) -> None:
        """Add the counts of ``other``, a part of this."""
        self.received += other.received
        self.inserted += other.inserted
        self.updated += other.updated
        self.duplicate += other.duplicate
        for mine, theirs in (
            (self.skipped, other.skipped),
            (self.quarantined, other.quarantined),
        ):
            for reason, amount in theirs.items():
                mine[reason] = mine.get(reason, 0) + amount


class RunReport(Counts, kw_only=True, rename={"period_from": "from", "period_to": "to"}):
    """The result of one run: its counts, and what a reader needs to know beside them.

    ``seconds`` is wall time; ``notes`` are short sentences without personal values.
    """

    pipeline: str
    run_id: UUID
    as_of: datetime
    period_from: datetime | None = None
    period_to: datetime | None = None
    watermark: str | None = None
    seconds: float = 0.0
    notes: list[str] = []
    outcome: Outcome = Outcome.COMPLETED
    reason: str | None = None

    def to_json(self) -> bytes:
        """The report as one line of JSON."""
        return msgspec.json.encode(self)

    @classmethod
    def from_json(cls, data: bytes | str) -> RunReport:
        """Read what :meth:`to_json` wrote."""
        return msgspec.json.decode(data, type=cls)

    def table_rows(self) -> list[dict[str, Any]]:
        """One row a part of the balance sheet: ``item`` (pt-BR) and ``quantidade``."""
        words = self._words
        rows: list[dict[str, Any]] = [
            {"item": f"{word}s", "quantidade": count}
            for word, count in (
                (words.received, self.received),
                (words.inserted, self.inserted),
                (words.updated, self.updated),
                (words.duplicate, self.duplicate),
            )
            if count or word == words.received or not words.is_short
        ]
        rows += [
            {"item": self._skipped_pt(reason), "quantidade": count}
            for reason, count in sorted(self.skipped.items())
        ]
        rows += [
            {"item": f"em quarentena: {reason_pt(reason, self.pipeline)}", "quantidade": count}
            for reason, count in sorted(self.quarantined.items())
        ]
        return rows

    def counts_pt(self) -> str:
        """The counts in one line, in Portuguese."""
        return f"{count(self.received, self._words.received)}: {', '.join(self._parts_pt())}"

    @property
    def _words(self) -> _Words:
        return _WORDS_PT.get(self.pipeline, _PLAIN_WORDS)

    def _skipped_pt(self, reason: str) -> str:
        if not self._words.is_short:
            return f"ignorados: {reason_pt(reason, self.pipeline)}"
        if reason == DRY_RUN:
            return self._words.would[1]
        words = self._words
        kind = words.aside if reason in _ASIDE_PT else words.kept
        return f"{kind}s: {reason_pt(reason, self.pipeline)}"

    def _parts_pt(self) -> list[str]:
        """What became of the units, part by part."""
        words = self._words
        done = (
            (self.inserted, words.inserted),
            (self.updated, words.updated),
            (self.duplicate, words.duplicate),
        )
        if not words.is_short:
            return [
                *(count(amount, word) for amount, word in done),
                count(sum(self.skipped.values()), "ignorado"),
                f"{number(sum(self.quarantined.values()))} em quarentena",
            ]
        would = self.skipped.get(DRY_RUN, 0)
        aside = {reason: self.skipped.get(reason, 0) for reason in _ASIDE_PT}
        kept = sum(self.skipped.values()) - would - sum(aside.values())
        parts = [count(amount, word) for amount, word in done if amount]
        if would:
            parts.append(f"{number(would)} {words.would[would != 1]}")
        if not parts:
            parts.append(f"nenhum {words.updated}")
        if kept:
            parts.append(count(kept, words.kept))
        parts += [
            f"{number(amount)} {_ASIDE_PT[reason][amount != 1]}"
            for reason, amount in aside.items()
            if amount
        ]
        return parts

    def _ended_pt(self) -> str:
        if self.reason in {"already_running", "paused"}:
            return "não executada"
        if self.outcome is Outcome.COMPLETED and self.reason == DRY_RUN:
            return "simulação"
        if self.reason == "budget":
            return "interrompida"
        return _OUTCOME_PT[self.outcome]

    def _undone_pt(self) -> str:
        """How to go on from a run that changed nothing; '' for any other."""
        if self.outcome is Outcome.NEEDS_APPROVAL and self.pipeline in _PLAN_WAITS_PT:
            return _PLAN_WAITS_PT[self.pipeline]
        if self.outcome is Outcome.NEEDS_APPROVAL or self.reason == DRY_RUN:
            return _NOTHING_DONE_PT.get(self.pipeline, "")
        return ""

    def summary_pt(self) -> str:
        """A short end card in Markdown for ops, in Portuguese."""
        parts = [f"### {pipeline_pt(self.pipeline)}: {self._ended_pt()}"]
        if self.reason and self.reason not in {"nothing_to_do", DRY_RUN}:
            parts.append(f"Motivo: {reason_pt(self.reason, self.pipeline)}.")
        if undone := self._undone_pt():
            parts.append(undone)
        if self.received:
            parts.append(
                f"**{count(self.received, self._words.received)}** em {_seconds(self.seconds)}: "
                f"{', '.join(self._parts_pt())}."
            )
        if self.quarantined:
            parts.append(
                "Para ver a quarentena: `gatte quarantine list`. "
                "Para tentar de novo: execute o fluxo *quarantine_replay*."
            )
        if self.notes:
            shown = [f"- {note}" for note in self.notes[:MAX_NOTES_SHOWN]]
            hidden = len(self.notes) - MAX_NOTES_SHOWN
            if hidden > 0:
                word = "observação" if hidden == 1 else "observações"
                shown.append(f"- … e mais {number(hidden)} {word} no relatório completo.")
            parts.append("\n".join(shown))
        parts.append(f"Referência: {self.as_of:%Y-%m-%d %H:%M:%S} UTC · execução `{self.run_id}`")
        return "\n\n".join(parts)


# A card is read on a phone; the whole list stands in pipeline.runs.
MAX_NOTES_SHOWN = 12

_REASONS_PT = {
    "already_running": "outra execução ainda está em andamento",
    "nothing_to_do": "nada a fazer",
    "not_yet_supported": "tipo desconhecido",
    "malformed_json": "JSON malformado",
    "invalid_utf8": "texto que não é UTF-8",
    "wrong_type": "tipo de campo errado",
    "missing_field": "campo obrigatório ausente",
    "nul_character": "caractere nulo no texto",
    "too_long": "campo maior que a coluna",
    "invalid_timestamp": "data e hora inválidas",
    "future": "data e hora no futuro",
    "invalid_phone": "telefone impossível",
    "empty_notification": "notificação sem eventos",
    "line_too_long": "linha longa demais",
    "not_gzip": "não é gzip, apesar do nome",
    "truncated_gzip": "gzip truncado; o que veio antes foi carregado",
    "unknown_user": "usuário que não existe",
    "before_cutover": "anterior à adoção do banco",
    "past_retention": "mais antigo que os 90 dias da retenção",
    "group": "mensagem de grupo",
    "erased": "de titular cujos dados foram eliminados",
    "security_code": "troca do código de segurança",
    "service_error": "erro informado pelo WhatsApp",
    "account_event": "aviso sobre a conta",
    "next_email": "fica para o próximo e-mail",
    # Of privacy: how a run ended or did not begin,
    DRY_RUN: "simulação: nada foi alterado",
    "paused": "a retenção está pausada (`gatte lgpd resume` a libera)",
    "policy_changed": "a política de retenção mudou desde a última execução",
    "mass_change": "são linhas demais para apagar de uma vez sem aprovação",
    # what was not due any more, or could not be had,
    "locked": "em uso por outra transação; ficam para a próxima execução",
    "no_longer_due": "deixaram de estar vencidos durante a execução",
    # and on what basis a person is kept.
    "active_service": "serviço ativo",
    "valid_certificate": "certificado válido",
    "open_ticket": "chamado aberto",
    "future_appointment": "agendamento futuro",
    "lead_in_period": "lead ainda dentro do prazo",
    "hold": "retenção suspensa",
    # Of quality: why a run did nothing, and what did not pass.
    "gate_closed": "uma tabela de que isto depende não é confiável agora",
    "not_run": "não foi possível verificar",
    "failed_critical": "reprovadas, e param o que depende da tabela",
    "failed_warning": "reprovadas: avisos",
    "failed_info": "reprovadas: observações",
    "waived": "reprovadas e toleradas",
    "not_judged": "sem histórico para avaliar",
    # Of certificate alerts: why a run waits for approval,
    "first_run": "primeira execução neste banco",
    "many_messages": "são mensagens demais para enviar de uma vez sem aprovação",
    # why nobody is told, for good,
    "opted_out": "o cliente pediu para não receber avisos",
    "anonymized": "o cadastro foi anonimizado",
    "merged": "o cadastro foi reunido a outro",
    "no_channel": "sem canal para falar com o cliente",
    "no_phone": "sem número de WhatsApp",
    "no_email": "sem e-mail no cadastro",
    "bad_email": "o e-mail do cadastro é inválido",
    "no_recipient": "nenhum destinatário configurado",
    "unreachable": "nenhum canal alcançou o destinatário",
    "superseded": "trocado por um aviso mais urgente",
    "answered": "o cliente já respondeu",
    "renewed": "o certificado já foi renovado",
    "maybe_renewed": "talvez já renovado; confira",
    "lapsed": "vencido há mais de 30 dias",
    "revoked": "o certificado foi revogado",
    "deleted": "o certificado não existe mais",
    "changed": "o vencimento mudou",
    "bad_dates": "o vencimento é anterior à emissão",
    # or not now,
    "quiet_hours": "fora do horário de contato",
    "waiting": "aguarda confirmação do envio",
    "deferred": "adiado para a próxima execução",
    "unknown": "o canal não confirmou o envio",
    "no_status": "o canal não confirmou o envio no prazo",
    "regrouped": "reunido em outra mensagem",
    # and what a channel answers.
    "channel_down": "o canal está fora do ar ou recusou todos os envios",
    "token": "o token de acesso foi recusado",
    "permission": "falta permissão para enviar",
    "account": "a conta do WhatsApp está bloqueada ou restrita",
    "payment": "há um problema de pagamento na conta do WhatsApp",
    "not_registered": "o número da GATTE não está registrado no WhatsApp",
    "maintenance": "o WhatsApp está em manutenção por um instante",
    "not_before_24h": "o WhatsApp não entrega outra mensagem a este cliente hoje",
    "outside_window": "fora da janela de 24 horas da conversa",
    "recipient_refused": "o servidor de e-mail recusou o destinatário",
    "channel_unreachable": "o servidor do canal não respondeu",
    "rate_limited": "o limite de envios foi atingido",
    "spam_limited": "o WhatsApp limitou os envios por qualidade",
    "undeliverable": "o destinatário não pode receber por este canal",
    "not_delivered": "o WhatsApp decidiu não entregar",
    "in_experiment": "o destinatário está em um teste do WhatsApp",
    "template_missing": "o modelo de mensagem não existe ou não foi aprovado",
    "template_paused": "o modelo de mensagem está pausado ou desativado",
    "template_mismatch": "os parâmetros não servem para o modelo de mensagem",
    "bad_request": "o pedido foi recusado como inválido",
    "refused": "o servidor recusou a mensagem",
}

# What a reason means in one pipeline, where that is not what it means in the others.
_REASONS_OF_PT = {
    "crm_sync": {
        "many_changes": "são mudanças demais para fazer de uma vez sem aprovação",
        "budget": (
            "acabou a parte desta sincronização nos tokens que o Pipedrive dá por dia; "
            "ela continua quando o dia virar lá"
        ),
        "archived": "arquivado no Pipedrive, onde não pode ser alterado",
        "erasure_pending": "a eliminação no Pipedrive ainda não foi confirmada",
        "anonymized": "o lead foi anonimizado",
        "waiting": "não se sabe ainda se uma gravação no Pipedrive teve efeito",
        "changed": "mudou durante a execução; fica para a próxima",
        "no_phone": "sem telefone",
        "no_name": "sem nome",
        "no_person": "sem pessoa no Pipedrive",
        "too_long": "um valor do Pipedrive não cabe na coluna",
        "deleted_there": "foi excluído no Pipedrive",
        "gone_here": "não existe mais aqui",
        "merged": "é agora parte de outro lead",
        "refused": "o Pipedrive não aceita a gravação",
        "unreadable": "o Pipedrive respondeu o que não se entende; fica para a próxima",
        "copy_there": "é cópia, no Pipedrive, de um lead já ligado",
        "same_crm_id": "tem o crm_id de outro lead",
    },
}


def pipeline_pt(pipeline: str) -> str:
    """The Portuguese name of a pipeline; its own where there is none."""
    return PIPELINE_NAMES_PT.get(pipeline, pipeline)


def reason_pt(reason: str, pipeline: str = "") -> str:
    """The Portuguese words for a reason code; the code itself where there are none.

    Args:
        reason: The code.
        pipeline: Whose run it is; the same code may mean another thing there.
    """
    of_pipeline = _REASONS_OF_PT.get(pipeline, {})
    return of_pipeline.get(reason) or _REASONS_PT.get(reason, reason)


def _seconds(seconds: float) -> str:
    """Seconds with a Portuguese decimal comma."""
    return f"{seconds:.1f} s".replace(".", ",")
