"""Load the inbound batches that arrived since the last run.

How a batch is decoded, deduplicated and merged belongs to ``gatte_pipelines.inbound``.
"""

from __future__ import annotations

from typing import Any

from prefect import State, flow, task

from flows._reporting import RETRIES, RETRY_DELAYS_SECONDS, end_state, is_retryable, run_operation
from gatte_pipelines.run_report import RunReport

# Shown to ops above the form; without it Prefect shows the whole docstring.
DESCRIPTION = (
    "Carrega nas tabelas as mensagens e os status que chegaram à pasta de entrada. Cada "
    "mensagem entra uma única vez, mesmo que o arquivo seja reenviado. Registros com "
    "problema vão para a quarentena; os demais são carregados."
)


@task(
    retries=RETRIES,
    retry_delay_seconds=RETRY_DELAYS_SECONDS,
    retry_condition_fn=is_retryable,
    persist_result=False,
)
def load_inbound_messages(as_of: str) -> RunReport:
    """Carrega os arquivos da pasta de entrada."""
    return run_operation("inbound_messages", as_of=as_of)


@flow(
    name="inbound_messages",
    description=DESCRIPTION,
)
def inbound_messages(as_of: str = "") -> State[Any]:
    """Carrega nas tabelas as mensagens e os status que chegaram à pasta de entrada.

    Args:
        as_of: Instante de referência em ISO 8601 com fuso, por exemplo 2026-11-22T10:00:00-03:00.
            Vazio significa agora.
    """
    return end_state(load_inbound_messages(as_of))
