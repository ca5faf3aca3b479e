"""Tell staff about runs that failed, are late, or wait for approval.

Whom to tell, and what was told already, belongs to ``gatte_pipelines.watch``.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from prefect import State, flow, task

from flows._reporting import (
    RETRIES,
    RETRY_DELAYS_SECONDS,
    end_state,
    is_retryable,
    parse_as_of,
    run_operation,
)
from gatte_pipelines.run_report import RunReport
from gatte_pipelines.safe_errors import safe_errors

if TYPE_CHECKING:
    from prefect.client.schemas.objects import FlowRun

# A day: a failure of the night is still told in the morning, when the mail server was down too.
LOOK_BACK = timedelta(hours=24)
# A run may legitimately take long, but none of this project's takes an hour; one that is still
# "Running" then has lost its process, which Prefect itself does not notice.
STUCK_AFTER = timedelta(hours=1)
PAGE = 200


# Shown to ops above the form; without it Prefect shows the whole docstring.
DESCRIPTION = (
    "Avisa a equipe por e-mail de execuções que falharam, atrasaram ou aguardam aprovação. "
    "Cada ocorrência é avisada uma vez."
)


@task(retries=RETRIES, retry_delay_seconds=RETRY_DELAYS_SECONDS, persist_result=False)
def read_orchestrator_failures(as_of: str) -> list[dict[str, str]]:
    """Lê no Prefect as execuções que falharam, atrasaram ou pararam nas últimas 24 horas."""
    return fetch_failures(parse_as_of(as_of) or datetime.now(UTC))


@task(
    retries=RETRIES,
    retry_delay_seconds=RETRY_DELAYS_SECONDS,
    retry_condition_fn=is_retryable,
    persist_result=False,
)
def watch_runs(as_of: str, orchestrator_failures: list[dict[str, str]]) -> RunReport:
    """Avisa a equipe do que precisa de atenção."""
    return run_operation("watchdog", as_of=as_of, orchestrator_failures=orchestrator_failures)


@flow(
    name="watchdog",
    description=DESCRIPTION,
)
def watchdog(as_of: str = "") -> State[Any]:
    """Avisa a equipe por e-mail de execuções que falharam, atrasaram ou aguardam aprovação.

    Args:
        as_of: Instante de referência em ISO 8601 com fuso, por exemplo 2026-11-22T10:00:00-03:00.
            Vazio significa agora.
    """
    return end_state(watch_runs(as_of, read_orchestrator_failures(as_of)))


@safe_errors()
def fetch_failures(at: datetime) -> list[dict[str, str]]:
    """The runs of the last day that need a look, oldest first, as plain data.

    Returns:
        One dict a run: ``run_id``, ``run_name``, ``flow``, ``state`` (Failed, TimedOut, Crashed,
        Late or Stuck), ``message`` and ``at``, an ISO 8601 instant.
    """
    from prefect.client.orchestration import get_client  # noqa: PLC0415
    from prefect.client.schemas import filters  # noqa: PLC0415
    from prefect.client.schemas.objects import StateType  # noqa: PLC0415
    from prefect.client.schemas.sorting import FlowRunSort  # noqa: PLC0415

    recent = filters.FlowRunFilterExpectedStartTime.model_validate(
        {"after_": at - LOOK_BACK, "before_": at}
    )
    failed = filters.FlowRunFilter(
        expected_start_time=recent,
        state=filters.FlowRunFilterState(
            type=filters.FlowRunFilterStateType(any_=[StateType.FAILED, StateType.CRASHED])
        ),
    )
    late = filters.FlowRunFilter(
        expected_start_time=recent,
        state=filters.FlowRunFilterState(name=filters.FlowRunFilterStateName(any_=["Late"])),
    )
    stuck = filters.FlowRunFilter(
        start_time=filters.FlowRunFilterStartTime.model_validate({"before_": at - STUCK_AFTER}),
        state=filters.FlowRunFilterState(
            type=filters.FlowRunFilterStateType(any_=[StateType.RUNNING, StateType.CANCELLING])
        ),
    )
    with get_client(sync_client=True) as client:
        flow_names = {item.id: item.name for item in client.read_flows()}
        found: list[dict[str, str]] = []
        for wanted, state_name in ((failed, ""), (late, ""), (stuck, "Stuck")):
            offset = 0
            while page := client.read_flow_runs(
                flow_run_filter=wanted,
                sort=FlowRunSort.EXPECTED_START_TIME_ASC,
                limit=PAGE,
                offset=offset,
            ):
                found += [
                    _to_dict(run, flow_names.get(run.flow_id, ""), state_name) for run in page
                ]
                offset += len(page)
    return sorted(found, key=lambda item: item["at"])


def _to_dict(run: FlowRun, flow_name: str, state_name: str) -> dict[str, str]:
    instant = run.end_time or run.start_time or run.expected_start_time
    return {
        "run_id": str(run.id),
        "run_name": run.name,
        "flow": flow_name,
        "state": state_name or run.state_name or "",
        "message": (run.state.message if run.state else None) or "",
        "at": instant.isoformat() if instant else "",
    }
