"""Let a person decide a conflict between our database and another system.

What becomes of each side belongs to ``gatte_pipelines.sync`` and the domain of the system.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any
from uuid import UUID

from prefect import State, flow, task

from flows._reporting import RETRIES, RETRY_DELAYS_SECONDS, end_state, is_retryable, run_operation
from gatte_pipelines.run_report import RunReport


class Keep(StrEnum):
    """Qual lado fica valendo."""

    OURS = "ours"
    THEIRS = "theirs"


# Shown to ops above the form; without it Prefect shows the whole docstring.
DESCRIPTION = (
    "Decide um conflito entre o nosso banco e o Pipedrive: um campo que os dois lados mudaram, um "
    "lead apagado lá, dois leads reunidos em um. Os conflitos abertos, com o id de cada um, estão "
    "em `gatte conflicts list` no terminal, e os dois valores em `gatte conflicts list --values`. "
    "Nada é enviado na hora: a próxima sincronização leva a decisão ao Pipedrive."
)


@task(
    retries=RETRIES,
    retry_delay_seconds=RETRY_DELAYS_SECONDS,
    retry_condition_fn=is_retryable,
    persist_result=False,
)
def decide_conflict(conflict_id: UUID, keep: Keep) -> RunReport:
    """Decide um conflito."""
    return run_operation(
        "resolve_conflict", as_of="", conflict_id=str(conflict_id), keep=keep.value
    )


@flow(
    name="resolve_conflict",
    description=DESCRIPTION,
)
def resolve_conflict(conflict_id: UUID, keep: Keep) -> State[Any]:
    """Decide um conflito entre o nosso banco e o Pipedrive.

    Args:
        conflict_id: Id do conflito, um UUID como 3f2b8c1e-0a4d-4b6f-9c2e-7d1a5e8f9b30; está em
            `gatte conflicts list`.
        keep: `ours`: manter o nosso valor. `theirs`: manter o do Pipedrive. Para um lead apagado
            lá, `ours` o cria de novo e `theirs` o deixa apagado; para leads reunidos, `ours` os
            separa de novo (até 30 dias depois) e `theirs` os deixa reunidos. Se o valor mudou desde
            então, nada é feito.
    """
    return end_state(decide_conflict(conflict_id, keep))
