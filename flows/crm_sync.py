"""Keep leads and Pipedrive in step, both ways.

What is carried over, and who wins where both sides changed, belongs to ``gatte_pipelines.crm``.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from prefect import State, flow, task

from flows._reporting import RETRIES, RETRY_DELAYS_SECONDS, end_state, is_retryable, run_operation
from gatte_pipelines.run_report import RunReport

# Shown to ops above the form; without it Prefect shows the whole docstring.
DESCRIPTION = (
    "Mantém os leads e o Pipedrive iguais, nos dois sentidos, a cada 15 minutos: cria lá, uma só "
    "vez, o lead que o chatbot captou, e traz para cá o que vendas mudou. Onde os dois lados "
    "mudaram o mesmo campo vale a regra de config/crm_fields.yaml, e o outro valor fica guardado "
    "como conflito. **Com `dry_run` ligado, é uma simulação**: nada muda em lado nenhum. Mudanças "
    "demais de uma vez pedem a aprovação de um plano."
)


class Direction(StrEnum):
    """Em que sentido as mudanças podem ir."""

    BOTH = "both"
    PUSH = "push"
    PULL = "pull"


@task(
    retries=RETRIES,
    retry_delay_seconds=RETRY_DELAYS_SECONDS,
    retry_condition_fn=is_retryable,
    persist_result=False,
)
def sync_leads(direction: Direction, since: str, dry_run: bool, approve: str) -> RunReport:
    """Sincroniza os leads com o Pipedrive."""
    return run_operation(
        "crm_sync",
        as_of="",
        direction=direction.value,
        since=since,
        dry_run=dry_run,
        approve=approve.strip(),
    )


@flow(
    name="crm_sync",
    description=DESCRIPTION,
)
def crm_sync(
    direction: Direction = Direction.BOTH,
    since: str = "",
    dry_run: bool = False,
    approve: str = "",
) -> State[Any]:
    """Mantém os leads e o Pipedrive iguais, ou mostra o que mudaria.

    Args:
        direction: `both`: nos dois sentidos, como no agendamento; `push`: só daqui para o
            Pipedrive; `pull`: só do Pipedrive para cá.
        since: Lê de novo o que mudou no Pipedrive desde esta data, por exemplo 2026-11-22, ou
            instante em ISO 8601 com fuso, por exemplo 2026-11-22T10:00:00-03:00. Vazio: desde a
            última execução.
        dry_run: Ligado: simulação, nada muda aqui nem no Pipedrive; o que mudaria aparece como
            tabela, sem valores. Desligado: sincroniza.
        approve: Id de um plano de até 7 dias atrás, como aparece no cartão da execução que pediu
            aprovação. Executa exatamente esse plano; se os leads mudaram desde então, é recusado.
            Não combina com `dry_run`. Vazio: nenhum plano.
    """
    return end_state(sync_leads(direction=direction, since=since, dry_run=dry_run, approve=approve))
