"""Judge the nine tables, and stop what depends on those that cannot be trusted.

What must hold, and what a failure means, belongs to ``gatte_pipelines.quality``.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from prefect import State, flow, task

from flows._reporting import RETRIES, RETRY_DELAYS_SECONDS, end_state, is_retryable, run_operation
from gatte_pipelines.run_report import RunReport

# Shown to ops above the form; without it Prefect shows the whole docstring.
DESCRIPTION = (
    "Verifica a qualidade das nove tabelas e diz em quais se pode confiar. Nada é alterado nelas. "
    "**Uma falha crítica termina em vermelho** e para o que depende da tabela (os avisos de "
    "vencimento, os relatórios) até a próxima execução boa, ou até alguém registrar uma tolerância "
    "em config/quality_waivers.yaml. A rotina da noite já executa isto todos os dias."
)


class Table(StrEnum):
    """Uma das nove tabelas."""

    USERS = "users"
    CONVERSATIONS = "conversations"
    MESSAGES = "messages"
    SESSION_CONTEXT = "session_context"
    TICKETS = "tickets"
    LEADS = "leads"
    APPOINTMENTS = "appointments"
    SERVICES = "services"
    CERTIFICATES = "certificates"


class Mode(StrEnum):
    """Se o que não mudou também é verificado."""

    AUTO = "auto"
    FULL = "full"
    INCREMENTAL = "incremental"


@task(
    retries=RETRIES,
    retry_delay_seconds=RETRY_DELAYS_SECONDS,
    retry_condition_fn=is_retryable,
    persist_result=False,
)
def check_quality(as_of: str, tables: list[Table], mode: Mode) -> RunReport:
    """Verifica a qualidade das tabelas."""
    return run_operation(
        "data_quality",
        as_of=as_of,
        tables=[table.value for table in tables],
        mode=mode.value,
    )


@flow(
    name="data_quality",
    description=DESCRIPTION,
)
def data_quality(
    tables: list[Table] = [],  # noqa: B006 - drawn by the form
    mode: Mode = Mode.AUTO,
    as_of: str = "",
) -> State[Any]:
    """Verifica a qualidade das nove tabelas.

    Args:
        tables: Quais tabelas verificar. Vazio: todas as nove.
        mode: `auto`: de conversas e mensagens só o que mudou, e tudo uma vez por semana; `full`:
            tudo agora; `incremental`: só o que mudou, mesmo que faça mais de uma semana. As outras
            tabelas são sempre verificadas por inteiro.
        as_of: Instante de referência em ISO 8601 com fuso, por exemplo 2026-11-22T10:00:00-03:00.
            Vazio significa agora. Com um instante de outro dia, nenhum bloqueio muda.
    """
    return end_state(check_quality(as_of=as_of, tables=tables, mode=mode))
