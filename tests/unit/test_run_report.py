"""A report balances or fails the run, survives JSON, and reads well in Portuguese."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatte_pipelines.errors import ImbalanceError, PermanentError
from gatte_pipelines.run_report import (
    _REASONS_OF_PT,
    _REASONS_PT,
    MAX_NOTES_SHOWN,
    PIPELINE_NAMES_PT,
    Outcome,
    RunReport,
    reason_pt,
)
from tests.reasons import read_reasons

RUN_ID = UUID("00000000-0000-4000-8000-000000000001")
AS_OF = datetime(2026, 3, 2, 12, 30, 15, tzinfo=UTC)
PARTS = ("inserted", "updated", "duplicate")
# Given by statements of privacy (on what basis a person is kept) or returned, not set.
OF_PRIVACY = {
    "active_service",
    "dry_run",
    "erased",
    "future_appointment",
    "hold",
    "lead_in_period",
    "locked",
    "mass_change",
    "no_longer_due",
    "open_ticket",
    "paused",
    "policy_changed",
    "valid_certificate",
}

# Read from columns, given by policies and channels, or returned, not set.
OF_QUALITY = {
    "failed_critical",
    "failed_info",
    "failed_warning",
    "gate_closed",
    "not_judged",
    "not_run",
    "waived",
}
OF_CERTIFICATES = {
    "channel_unreachable",
    "maintenance",
    "not_before_24h",
    "outside_window",
    "recipient_refused",
    "account",
    "anonymized",
    "answered",
    "bad_dates",
    "bad_email",
    "bad_request",
    "changed",
    "channel_down",
    "deferred",
    "deleted",
    "first_run",
    "in_experiment",
    "lapsed",
    "many_messages",
    "maybe_renewed",
    "merged",
    "no_channel",
    "no_email",
    "no_phone",
    "no_recipient",
    "no_status",
    "not_delivered",
    "not_registered",
    "opted_out",
    "payment",
    "permission",
    "quiet_hours",
    "rate_limited",
    "refused",
    "regrouped",
    "renewed",
    "revoked",
    "spam_limited",
    "superseded",
    "template_mismatch",
    "template_missing",
    "template_paused",
    "token",
    "undeliverable",
    "unknown",
    "unreachable",
    "waiting",
}

# Given by the mapping of a value, or noted in a column.
OF_CRM = {"no_name", "same_crm_id", "too_long"}


def _report(**values: Any) -> RunReport:
    return RunReport(
        **({"pipeline": "inbound_messages", "run_id": RUN_ID, "as_of": AS_OF} | values)
    )


def _full() -> RunReport:
    return _report(
        period_from=datetime(2026, 3, 1, tzinfo=UTC),
        period_to=AS_OF,
        received=12345,
        inserted=12000,
        updated=40,
        duplicate=300,
        skipped={"before_cutover": 2, "group": 1},
        quarantined={"future": 1, "malformed_json": 1},
        watermark="arquivo-7",
        seconds=12.34,
        notes=["um arquivo ainda está sendo escrito"],
    )


# --- the balance ---------------------------------------------------------------------------------


def test_an_empty_report_balances() -> None:
    _report().balance()


def test_a_report_whose_parts_add_up_balances() -> None:
    _full().balance()


@pytest.mark.parametrize("part", ["received", *PARTS])
@pytest.mark.parametrize("difference", [1, -1])
def test_one_unit_too_many_or_too_few_fails(part: str, difference: int) -> None:
    report = _full()
    setattr(report, part, getattr(report, part) + difference)
    with pytest.raises(ImbalanceError):
        report.balance("inbound_messages")


@pytest.mark.parametrize("part", ["skipped", "quarantined"])
def test_one_unit_too_many_under_a_reason_fails(part: str) -> None:
    report = _full()
    getattr(report, part)["new_reason"] = 1
    with pytest.raises(ImbalanceError):
        report.balance("inbound_messages")


def test_an_imbalance_names_every_part_and_is_permanent() -> None:
    with pytest.raises(ImbalanceError) as caught:
        _report(received=10, inserted=1, updated=2, duplicate=3, skipped={"a": 1, "b": 1}).balance(
            "inbound_messages"
        )
    assert caught.value.message == (
        "inbound_messages: received 10, accounted for 8 "
        "(inserted 1, updated 2, duplicate 3, skipped 2, quarantined 0)"
    )
    assert isinstance(caught.value, PermanentError)


counts = st.integers(min_value=0, max_value=10**9)
reasons = st.dictionaries(st.text(max_size=10), counts, max_size=5)


@given(inserted=counts, updated=counts, duplicate=counts, skipped=reasons, quarantined=reasons)
def test_a_report_balances_exactly_when_received_is_the_sum(
    inserted: int,
    updated: int,
    duplicate: int,
    skipped: dict[str, int],
    quarantined: dict[str, int],
) -> None:
    total = inserted + updated + duplicate + sum(skipped.values()) + sum(quarantined.values())
    report = _report(
        received=total,
        inserted=inserted,
        updated=updated,
        duplicate=duplicate,
        skipped=skipped,
        quarantined=quarantined,
    )
    report.balance()
    report.received += 1
    with pytest.raises(ImbalanceError):
        report.balance()


def test_adding_parts_adds_every_count() -> None:
    report = _full()
    report.add(_full())
    report.balance()
    assert (report.received, report.inserted) == (24690, 24000)
    assert report.skipped == {"before_cutover": 4, "group": 2}
    assert report.quarantined == {"future": 2, "malformed_json": 2}


def test_adding_leaves_the_part_as_it_was() -> None:
    part = _full()
    _report().add(part)
    assert part == _full()


def test_reports_do_not_share_their_counts() -> None:
    one, other = _report(), _report()
    one.skipped["a"] = 1
    one.notes.append("x")
    assert (other.skipped, other.notes) == ({}, [])


# --- JSON ----------------------------------------------------------------------------------------


def test_a_report_survives_json() -> None:
    assert RunReport.from_json(_full().to_json()) == _full()
    assert RunReport.from_json(_full().to_json().decode()) == _full()


def test_the_json_is_one_line_with_the_names_of_the_design() -> None:
    written = _full().to_json()
    assert b"\n" not in written
    assert set(json.loads(written)) == {
        "pipeline",
        "run_id",
        "as_of",
        "from",
        "to",
        "received",
        "inserted",
        "updated",
        "duplicate",
        "skipped",
        "quarantined",
        "watermark",
        "seconds",
        "notes",
        "outcome",
        "reason",
    }
    assert json.loads(written)["as_of"] == "2026-03-02T12:30:15Z"
    assert json.loads(written)["outcome"] == "completed"


def test_json_of_another_shape_is_refused() -> None:
    with pytest.raises(msgspec.ValidationError):
        RunReport.from_json(b'{"pipeline": "x"}')


# --- what people read ----------------------------------------------------------------------------


def test_the_end_card_says_what_happened_in_portuguese() -> None:
    assert _full().summary_pt() == (
        "### Entrada de mensagens: concluída\n\n"
        "**12.345 recebidos** em 12,3 s: 12.000 inseridos, 40 atualizados, 300 repetidos, "
        "3 ignorados, 2 em quarentena.\n\n"
        "Para ver a quarentena: `gatte quarantine list`. "
        "Para tentar de novo: execute o fluxo *quarantine_replay*.\n\n"
        "- um arquivo ainda está sendo escrito\n\n"
        f"Referência: 2026-03-02 12:30:15 UTC · execução `{RUN_ID}`"
    )


@pytest.mark.parametrize(
    ("outcome", "words"),
    [
        (Outcome.COMPLETED, "concluída"),
        (Outcome.SKIPPED, "nada a fazer"),
        (Outcome.NEEDS_APPROVAL, "aguarda aprovação"),
        (Outcome.FAILED, "falhou"),
    ],
)
def test_the_end_card_names_each_outcome(outcome: Outcome, words: str) -> None:
    assert _report(outcome=outcome).summary_pt().startswith(f"### Entrada de mensagens: {words}")


def test_the_end_card_of_a_skipped_run_gives_the_reason() -> None:
    card = _report(outcome=Outcome.SKIPPED, reason="already_running").summary_pt()
    assert "Motivo: outra execução ainda está em andamento." in card
    assert "recebidos" not in card


def test_the_end_card_speaks_of_the_quarantine_only_where_something_is_in_it() -> None:
    assert "quarantine" not in _report(received=1, inserted=1).summary_pt()


def test_the_end_card_is_short_whatever_the_number_of_notes() -> None:
    notes = [f"observação {number}" for number in range(2000)]
    card = _report(notes=notes).summary_pt()
    assert card.count("- observação") == MAX_NOTES_SHOWN
    assert "e mais 1.988 observações" in card


def test_one_note_too_many_is_one_observation() -> None:
    card = _report(notes=["nota"] * (MAX_NOTES_SHOWN + 1)).summary_pt()
    assert "… e mais 1 observação no relatório completo." in card


def test_as_many_notes_as_fit_are_shown_without_a_remark() -> None:
    card = _report(notes=["nota"] * MAX_NOTES_SHOWN).summary_pt()
    assert card.count("- nota") == MAX_NOTES_SHOWN
    assert "e mais" not in card


def _retention(**values: Any) -> RunReport:
    return _report(**({"pipeline": "lgpd_retention", "seconds": 4.0} | values))


def test_the_card_of_a_retention_run_speaks_of_what_was_due_done_and_kept() -> None:
    report = _retention(
        received=1330,
        updated=1250,
        skipped={"active_service": 50, "hold": 1, "locked": 1, "no_longer_due": 28},
        notes=["messages_content: 1250 tratados"],
    )
    report.balance()
    assert report.summary_pt() == (
        "### Retenção LGPD: concluída\n\n"
        "**1.330 vencidos** em 4,0 s: 1.250 tratados, 51 mantidos, 1 bloqueado, "
        "28 deixaram de estar vencidos.\n\n"
        "- messages_content: 1250 tratados\n\n"
        f"Referência: 2026-03-02 12:30:15 UTC · execução `{RUN_ID}`"
    )
    assert report.table_rows() == [
        {"item": "vencidos", "quantidade": 1330},
        {"item": "tratados", "quantidade": 1250},
        {"item": "mantidos: serviço ativo", "quantidade": 50},
        {"item": "mantidos: retenção suspensa", "quantidade": 1},
        {
            "item": "não tratados: em uso por outra transação; ficam para a próxima execução",
            "quantidade": 1,
        },
        {"item": "não tratados: deixaram de estar vencidos durante a execução", "quantidade": 28},
    ]


def test_the_card_of_a_decision_counts_the_conflict() -> None:
    report = _report(pipeline="resolve_conflict", received=1, updated=1)
    assert report.counts_pt() == "1 conflito: 1 resolvido"
    assert report.summary_pt().startswith("### Decisão sobre um conflito: concluída")


def test_the_card_of_a_dry_run_says_first_that_nothing_was_erased_and_how_to_go_on() -> None:
    report = _retention(received=3, skipped={"dry_run": 1, "hold": 2}, reason="dry_run")
    card = report.summary_pt()
    assert card.startswith("### Retenção LGPD: simulação\n\n**Nada foi apagado.** Para executar")
    assert "`approve`" in card
    assert "**3 vencidos** em 4,0 s: 1 seria tratado, 2 mantidos." in card
    assert {"item": "seriam tratados", "quantidade": 1} in report.table_rows()


def test_the_card_of_a_plan_says_why_it_waits_and_how_to_approve_it() -> None:
    card = _retention(
        received=9000,
        skipped={"dry_run": 9000},
        outcome=Outcome.NEEDS_APPROVAL,
        reason="mass_change",
        notes=["plano 123, válido por 7 dias"],
    ).summary_pt()
    assert card.startswith("### Retenção LGPD: aguarda aprovação\n\nMotivo: são linhas demais")
    assert "**Nada foi apagado.**" in card
    assert "9.000 seriam tratados" in card
    assert "- plano 123" in card


def test_a_paused_retention_reads_as_not_run_and_names_the_command_that_lets_it_go_on() -> None:
    card = _retention(outcome=Outcome.SKIPPED, reason="paused").summary_pt()
    assert card.startswith("### Retenção LGPD: não executada\n\nMotivo: a retenção está pausada")
    assert "gatte lgpd resume" in card


def test_where_everybody_is_kept_the_card_says_that_nobody_was_touched() -> None:
    report = _retention(received=2, skipped={"open_ticket": 2})
    assert report.counts_pt() == "2 vencidos: nenhum tratado, 2 mantidos"


def test_an_erasure_that_only_shows_says_that_nothing_was_erased() -> None:
    report = _report(
        pipeline="lgpd_subject_request", received=5, skipped={"dry_run": 5}, reason="dry_run"
    )
    assert "**Nada foi apagado.** Para eliminar" in report.summary_pt()
    assert report.counts_pt() == "5 registros: 5 seriam tratados"


def _crm(**values: Any) -> RunReport:
    return _report(**({"pipeline": "crm_sync", "seconds": 4.1} | values))


def test_the_card_of_the_crm_speaks_of_leads_in_words_of_its_own() -> None:
    report = _crm(
        received=60,
        inserted=12,
        updated=40,
        duplicate=1,
        skipped={"archived": 3, "waiting": 1, "refused": 2, "invalid_phone": 1},
    )
    report.balance()
    assert report.summary_pt().startswith(
        "### Sincronização com o CRM: concluída\n\n"
        "**60 leads** em 4,1 s: 12 criados, 40 atualizados, 1 inalterado, 6 não sincronizados, "
        "1 aguarda confirmação."
    )
    assert report.table_rows() == [
        {"item": "leads", "quantidade": 60},
        {"item": "criados", "quantidade": 12},
        {"item": "atualizados", "quantidade": 40},
        {"item": "inalterados", "quantidade": 1},
        {
            "item": "não sincronizados: arquivado no Pipedrive, onde não pode ser alterado",
            "quantidade": 3,
        },
        {"item": "não sincronizados: telefone impossível", "quantidade": 1},
        {"item": "não sincronizados: o Pipedrive não aceita a gravação", "quantidade": 2},
        {
            "item": "não sincronizados: não se sabe ainda se uma gravação no Pipedrive teve efeito",
            "quantidade": 1,
        },
    ]


def test_a_dry_run_of_the_crm_changed_nothing_on_either_side_and_says_where_to_look() -> None:
    card = _crm(received=41, skipped={"dry_run": 41}, reason="dry_run").summary_pt()
    assert card.startswith("### Sincronização com o CRM: simulação\n\n**Nada foi alterado, nem")
    assert "*diferencas*" in card
    assert "`dry_run` desligado" in card
    assert "41 seriam atualizados" in card


def test_a_plan_of_the_crm_says_how_it_is_approved_and_that_everything_waits() -> None:
    card = _crm(
        received=900,
        skipped={"many_changes": 900},
        outcome=Outcome.NEEDS_APPROVAL,
        reason="many_changes",
        notes=["plano 123, válido por 7 dias"],
    ).summary_pt()
    assert "Motivo: são mudanças demais para fazer de uma vez sem aprovação." in card
    assert "`approve`; até lá nenhum lead é sincronizado" in card
    assert "apagar" not in card


def test_a_sync_that_ran_out_of_tokens_reads_as_interrupted_with_what_it_did() -> None:
    report = _crm(received=3, updated=3, outcome=Outcome.SKIPPED, reason="budget")
    card = report.summary_pt()
    assert card.startswith("### Sincronização com o CRM: interrompida\n\nMotivo: acabou a parte")
    assert "3 atualizados" in card


def test_a_reason_means_in_a_pipeline_what_it_means_there() -> None:
    assert reason_pt("refused") == "o servidor recusou a mensagem"
    assert reason_pt("refused", "certificate_alerts") == "o servidor recusou a mensagem"
    assert reason_pt("refused", "crm_sync") == "o Pipedrive não aceita a gravação"
    assert reason_pt("invalid_phone", "crm_sync") == "telefone impossível"


def _alerts(**values: Any) -> RunReport:
    return _report(**({"pipeline": "certificate_alerts", "seconds": 3.2} | values))


def test_the_card_of_alerts_speaks_of_what_was_sent_what_was_not_and_what_waits() -> None:
    report = _alerts(
        received=1110,
        updated=1001,
        skipped={
            "opted_out": 2,
            "no_channel": 1,
            "superseded": 5,
            "waiting": 1,
            "deferred": 50,
            "quiet_hours": 50,
        },
    )
    report.balance()
    assert report.summary_pt().startswith(
        "### Avisos de vencimento: concluída\n\n"
        "**1.110 avisos** em 3,2 s: 1.001 enviados, 3 não enviados, "
        "5 trocados por um mais urgente, 50 fora do horário, 1 aguarda confirmação, 50 adiados."
    )
    assert report.table_rows() == [
        {"item": "avisos", "quantidade": 1110},
        {"item": "enviados", "quantidade": 1001},
        {"item": "não enviados: adiado para a próxima execução", "quantidade": 50},
        {"item": "não enviados: sem canal para falar com o cliente", "quantidade": 1},
        {"item": "não enviados: o cliente pediu para não receber avisos", "quantidade": 2},
        {"item": "não enviados: fora do horário de contato", "quantidade": 50},
        {"item": "não enviados: trocado por um aviso mais urgente", "quantidade": 5},
        {"item": "não enviados: aguarda confirmação do envio", "quantidade": 1},
    ]


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        ("first_run", "Motivo: primeira execução neste banco."),
        ("many_messages", "Motivo: são mensagens demais para enviar de uma vez sem aprovação."),
    ],
)
def test_alerts_that_wait_for_approval_say_why_and_how_to_approve(reason: str, words: str) -> None:
    card = _alerts(
        received=51, skipped={"dry_run": 51}, outcome=Outcome.NEEDS_APPROVAL, reason=reason
    ).summary_pt()
    assert card.startswith(f"### Avisos de vencimento: aguarda aprovação\n\n{words}")
    assert "**Nenhum aviso foi enviado.**" in card
    assert "no campo `approve`" in card
    assert "51 seriam enviados" in card


def test_alerts_that_were_only_shown_say_how_to_send_them() -> None:
    card = _alerts(received=1, skipped={"dry_run": 1}, reason="dry_run").summary_pt()
    assert card.startswith("### Avisos de vencimento: simulação\n\n**Nenhum aviso foi enviado.**")
    assert "`dry_run` desligado" in card
    assert "approve" not in card
    assert "1 seria enviado." in card


def test_where_nothing_could_be_sent_the_card_says_so() -> None:
    report = _alerts(received=2, skipped={"no_channel": 2})
    assert report.counts_pt() == "2 avisos: nenhum enviado, 2 não enviados"


def test_the_card_of_the_state_speaks_of_certificates() -> None:
    report = _report(pipeline="certificate_state", received=3, updated=2, skipped={"locked": 1})
    assert report.summary_pt().startswith("### Situação dos certificados: concluída")
    assert report.counts_pt() == "3 certificados: 2 atualizados, 1 bloqueado"


def test_a_pipeline_without_a_portuguese_name_keeps_its_own() -> None:
    assert "### other: concluída" in _report(pipeline="other").summary_pt()


def test_the_pipelines_of_today_have_portuguese_names() -> None:
    assert set(PIPELINE_NAMES_PT) >= {
        "inbound_messages",
        "quarantine_replay",
        "session_context_expiry",
        "watchdog",
        "lgpd_retention",
        "lgpd_subject_request",
        "certificate_alerts",
        "certificate_state",
        "crm_sync",
        "data_quality",
        "nightly",
    }


def test_the_table_has_a_row_for_each_part_and_reason() -> None:
    rows = _full().table_rows()
    assert rows == [
        {"item": "recebidos", "quantidade": 12345},
        {"item": "inseridos", "quantidade": 12000},
        {"item": "atualizados", "quantidade": 40},
        {"item": "repetidos", "quantidade": 300},
        {"item": "ignorados: anterior à adoção do banco", "quantidade": 2},
        {"item": "ignorados: mensagem de grupo", "quantidade": 1},
        {"item": "em quarentena: data e hora no futuro", "quantidade": 1},
        {"item": "em quarentena: JSON malformado", "quantidade": 1},
    ]
    assert sum(row["quantidade"] for row in rows[1:]) == rows[0]["quantidade"]


def test_every_reason_that_the_code_can_give_has_words_in_portuguese_and_no_other(
    repository: Path,
) -> None:
    found = read_reasons(repository / "src" / "gatte_pipelines")
    assert {"group", "past_retention"} <= found.skipped
    assert {"unknown_user", "malformed_json", "too_long"} <= found.quarantined
    assert found.of_files == {"line_too_long", "not_gzip", "truncated_gzip"}
    of_one_pipeline = {reason for words in _REASONS_OF_PT.values() for reason in words}
    assert found.all <= set(_REASONS_PT) | of_one_pipeline
    assert _REASONS_OF_PT.keys() == {"crm_sync"}
    assert of_one_pipeline <= found.all | OF_CRM
    assert set(_REASONS_PT) - found.all <= OF_PRIVACY | OF_CERTIFICATES | OF_QUALITY


def test_a_reason_without_portuguese_words_is_shown_as_it_is() -> None:
    assert reason_pt("brand_new_reason") == "brand_new_reason"
