"""Try quarantined records again, on demand.

What becomes of each record belongs to ``gatte_pipelines.inbound``.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

from prefect import State, flow, task
from pydantic import Field

from flows._reporting import RETRIES, RETRY_DELAYS_SECONDS, end_state, is_retryable, run_operation
from gatte_pipelines.run_report import RunReport

# One run stays under some minutes; the next one takes the next records.
MAX_RECORDS = 1_000_000


class QuarantineReason(StrEnum):
    """Why a record went to quarantine, as on the command line; ``all`` stands for every reason.

    What tells of a whole file (a broken gzip) cannot be tried again and is not offered.
    """

    ALL = "all"
    NOT_YET_SUPPORTED = "not_yet_supported"
    MALFORMED_JSON = "malformed_json"
    INVALID_UTF8 = "invalid_utf8"
    WRONG_TYPE = "wrong_type"
    MISSING_FIELD = "missing_field"
    NUL_CHARACTER = "nul_character"
    TOO_LONG = "too_long"
    INVALID_TIMESTAMP = "invalid_timestamp"
    FUTURE = "future"
    INVALID_PHONE = "invalid_phone"
    UNKNOWN_USER = "unknown_user"
    LINE_TOO_LONG = "line_too_long"


# Shown to ops above the form; without it Prefect shows the whole docstring.
DESCRIPTION = (
    "Tenta de novo carregar os registros que estão em quarentena. O que for carregado sai "
    "da quarentena; o que continuar com problema fica. Nada entra em duplicidade e nenhuma "
    "mensagem é enviada a clientes."
)


@task(
    retries=RETRIES,
    retry_delay_seconds=RETRY_DELAYS_SECONDS,
    retry_condition_fn=is_retryable,
    persist_result=False,
)
def replay_quarantine(reason: QuarantineReason, limit: int, as_of: str) -> RunReport:
    """Reprocessa os registros em quarentena."""
    chosen = None if reason is QuarantineReason.ALL else reason.value
    return run_operation("quarantine_replay", as_of=as_of, reason=chosen, limit=limit)


@flow(
    name="quarantine_replay",
    description=DESCRIPTION,
)
def quarantine_replay(
    reason: QuarantineReason = QuarantineReason.ALL,
    limit: Annotated[int, Field(ge=1, le=MAX_RECORDS)] = 10_000,
    as_of: str = "",
) -> State[Any]:
    """Tenta de novo carregar os registros que estão em quarentena.

    Args:
        reason: Somente os registros postos em quarentena por este motivo; `all` são todos.
        limit: Quantos registros tentar no máximo nesta execução, dos mais antigos aos mais novos.
        as_of: Instante de referência em ISO 8601 com fuso, por exemplo 2026-11-22T10:00:00-03:00.
            Vazio significa agora.
    """
    return end_state(replay_quarantine(reason, limit, as_of))
