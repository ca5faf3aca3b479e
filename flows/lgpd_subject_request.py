"""Answer what a person may ask for under Art. 18: a copy of their data, or its erasure.

What is collected, erased and kept belongs to ``gatte_pipelines.privacy``.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any
from uuid import UUID

from prefect import State, flow, task

from flows._reporting import RETRIES, RETRY_DELAYS_SECONDS, end_state, is_retryable, run_operation
from gatte_pipelines.run_report import RunReport


class RequestKind(StrEnum):
    """What the person asks for, as on the command line."""

    EXPORT = "export"
    ERASE = "erase"


# Shown to ops above the form; without it Prefect shows the whole docstring.
DESCRIPTION = (
    "Atende o pedido de um titular (LGPD, art. 18). `export` reúne tudo o que há sobre a pessoa em "
    "arquivos no servidor; `erase` elimina. **Sem ligar `execute`, `erase` é só uma simulação**: "
    "diz o que iria e o que fica, e não apaga nada. O titular é informado só pelo id: para achá-lo "
    "pelo telefone ou e-mail, use `gatte lgpd subject find` no terminal. Nunca escreva aqui "
    "telefone, nome ou e-mail."
)


@task(
    retries=RETRIES,
    retry_delay_seconds=RETRY_DELAYS_SECONDS,
    retry_condition_fn=is_retryable,
    persist_result=False,
)
def answer_request(kind: RequestKind, user_id: UUID, execute: bool) -> RunReport:
    """Atende o pedido de um titular."""
    return run_operation(
        "lgpd_subject_request",
        as_of="",
        kind=kind.value,
        user_id=str(user_id),
        execute=execute,
    )


@flow(
    name="lgpd_subject_request",
    description=DESCRIPTION,
)
def lgpd_subject_request(kind: RequestKind, user_id: UUID, execute: bool = False) -> State[Any]:
    """Atende o pedido de um titular de dados (LGPD, art. 18).

    Args:
        kind: `export` grava tudo o que há sobre a pessoa em arquivos que só o servidor guarda, por
            30 dias. `erase` apaga e anonimiza a pessoa em todos os lugares, menos os chamados, que
            ficam intactos; com a retenção suspensa, o pedido inteiro é recusado.
        user_id: Id do titular, um UUID como 3f2b8c1e-0a4d-4b6f-9c2e-7d1a5e8f9b30: o de `users` ou,
            de quem só tem lead, o de `leads`. Nunca telefone, nome ou e-mail; o id se acha com
            `gatte lgpd subject find`.
        execute: Só para `erase`. Desligado: simulação, nada é apagado. Ligado: elimina de verdade,
            e o que se apaga não volta.
    """
    return end_state(answer_request(kind, user_id, execute))
