"""Close idle conversations and expire their session context.

When a conversation counts as idle belongs to ``gatte_pipelines.inbound``.
"""

from __future__ import annotations

from typing import Any

from prefect import State, flow, task

from flows._reporting import RETRIES, RETRY_DELAYS_SECONDS, end_state, is_retryable, run_operation
from gatte_pipelines.run_report import RunReport

# Shown to ops above the form; without it Prefect shows the whole docstring.
DESCRIPTION = (
    "Encerra conversas paradas e apaga os contextos de sessão vencidos. O prazo de "
    "inatividade vem da configuração GATTE_CONVERSATION_IDLE_HOURS."
)


@task(
    retries=RETRIES,
    retry_delay_seconds=RETRY_DELAYS_SECONDS,
    retry_condition_fn=is_retryable,
    persist_result=False,
)
def expire_session_context(as_of: str) -> RunReport:
    """Expira os contextos vencidos."""
    return run_operation("session_context_expiry", as_of=as_of)


@flow(
    name="session_context_expiry",
    description=DESCRIPTION,
)
def session_context_expiry(as_of: str = "") -> State[Any]:
    """Encerra conversas paradas e apaga os contextos de sessão vencidos.

    Args:
        as_of: Instante de referência em ISO 8601 com fuso, por exemplo 2026-11-22T10:00:00-03:00.
            Vazio significa agora.
    """
    return end_state(expire_session_context(as_of))
