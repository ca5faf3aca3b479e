"""Carry out the retention policy, or show what it would do.

What is due, and how it ends, belongs to ``gatte_pipelines.privacy``.
"""

from __future__ import annotations

from typing import Any

from prefect import State, flow, task

from flows._prefect_retention import PrefectRuns
from flows._reporting import RETRIES, RETRY_DELAYS_SECONDS, end_state, is_retryable, run_operation
from gatte_pipelines.run_report import RunReport

# Shown to ops above the form; without it Prefect shows the whole docstring.
DESCRIPTION = (
    "Aplica a política de retenção da LGPD (config/retention.yaml): apaga ou anonimiza o que "
    "passou do prazo. **Sem ligar `execute`, é uma simulação**: conta o que venceu, diz o que "
    "fica e por quê, guarda um plano por 7 dias e não apaga nada. O que se apaga não volta. "
    "Chamados nunca são alterados. A rotina da noite já executa isto todos os dias."
)


@task(
    retries=RETRIES,
    retry_delay_seconds=RETRY_DELAYS_SECONDS,
    retry_condition_fn=is_retryable,
    persist_result=False,
)
def apply_retention(as_of: str, execute: bool, approve: str, force: bool) -> RunReport:
    """Aplica a política de retenção."""
    return run_operation(
        "lgpd_retention",
        as_of=as_of,
        execute=execute,
        approve=approve.strip(),
        force=force,
        prefect_runs=PrefectRuns(),
    )


@flow(
    name="lgpd_retention",
    description=DESCRIPTION,
)
def lgpd_retention(
    execute: bool = False, approve: str = "", as_of: str = "", force: bool = False
) -> State[Any]:
    """Aplica a política de retenção da LGPD, ou mostra o que ela faria.

    Args:
        execute: Desligado: simulação, nada é apagado. Ligado: apaga e anonimiza de verdade o que
            venceu. Se for muita coisa de uma vez, ou se a política mudou, a execução ainda assim
            para antes de apagar e pede a aprovação de um plano.
        approve: Id de um plano de até 7 dias atrás, como aparece no cartão da simulação. Executa
            exatamente esse plano, mesmo com `execute` desligado; se as linhas mudaram desde então,
            é recusado. Vazio: nenhum plano.
        as_of: Instante de referência em ISO 8601 com fuso, por exemplo 2026-11-22T10:00:00-03:00.
            Vazio significa agora. Com um plano em `approve`, vale o instante do plano.
        force: Aceita um `as_of` no futuro, que apaga o que ainda não venceu, ou anterior ao da
            última execução. Deixe desligado.
    """
    return end_state(apply_retention(execute=execute, approve=approve, as_of=as_of, force=force))
