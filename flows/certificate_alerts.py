"""Tell clients and staff of certificates that are about to expire.

What is due, and how each alert ends, belongs to ``gatte_pipelines.certificates``.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from prefect import State, flow, task

from flows._reporting import RETRIES, RETRY_DELAYS_SECONDS, end_state, is_retryable, run_operation
from gatte_pipelines.run_report import RunReport

# Shown to ops above the form; without it Prefect shows the whole docstring.
DESCRIPTION = (
    "Avisa clientes e equipe dos certificados que estão para vencer (config/alerts.yaml). **Com "
    "`dry_run` ligado, é uma simulação**: mostra a quem se escreveria e o quê, e não envia nada. "
    "Cada aviso é enviado uma única vez, das 8h às 18h de dias úteis. A primeira execução em um "
    "banco, ou mais de 50 mensagens de uma vez, pede a aprovação de um plano."
)


class Channel(StrEnum):
    """Por onde se escreve ao cliente."""

    WHATSAPP = "whatsapp"
    EMAIL = "email"


@task(
    retries=RETRIES,
    retry_delay_seconds=RETRY_DELAYS_SECONDS,
    retry_condition_fn=is_retryable,
    persist_result=False,
)
def send_alerts(as_of: str, dry_run: bool, channels: list[Channel], approve: str) -> RunReport:
    """Avisa clientes e equipe."""
    return run_operation(
        "certificate_alerts",
        as_of=as_of,
        execute=not dry_run,
        channels=[channel.value for channel in channels],
        approve=approve.strip(),
    )


@task(
    retries=RETRIES,
    retry_delay_seconds=RETRY_DELAYS_SECONDS,
    retry_condition_fn=is_retryable,
    persist_result=False,
)
def refresh_certificates(as_of: str) -> RunReport:
    """Atualiza os dias restantes e a situação dos certificados."""
    return run_operation("certificate_state", as_of=as_of)


@flow(
    name="certificate_alerts",
    description=DESCRIPTION,
)
def certificate_alerts(
    dry_run: bool = True,
    channels: list[Channel] = [Channel.WHATSAPP, Channel.EMAIL],  # noqa: B006 - drawn by the form
    approve: str = "",
    as_of: str = "",
) -> State[Any]:
    """Avisa dos certificados que estão para vencer, ou mostra quem seria avisado.

    Args:
        dry_run: Ligado: simulação, nada é enviado; a prévia aparece como artefato, e os textos
            exatos ficam por 7 dias em um arquivo que só o dono pode ler. Desligado: envia.
        channels: Por onde se pode escrever nesta execução. Sem o WhatsApp, os avisos que ainda não
            foram tentados por ele esperam.
        approve: Id de um plano de até 7 dias atrás, como aparece no cartão da execução que pediu
            aprovação. Envia exatamente esse plano, mesmo com `dry_run` ligado; se os avisos mudaram
            desde então, é recusado. Vazio: nenhum plano.
        as_of: Instante de referência em ISO 8601 com fuso, por exemplo 2026-11-22T10:00:00-03:00.
            Vazio significa agora. Outro dia que não hoje só é aceito em simulação.
    """
    return end_state(send_alerts(as_of=as_of, dry_run=dry_run, channels=channels, approve=approve))
