"""The few requests to Prefect's REST API that the local stack makes.

Starting and stopping the server belongs to ``local_stack``. Flows use Prefect's own client; here
it may not be imported, and would cost four seconds.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Self
from uuid import uuid4

import httpx

from gatte_pipelines.errors import PermanentError, RetryableError
from gatte_pipelines.run_report import RunReport

# How flows/_reporting.py hides the report in the end card.
_REPORT = re.compile(r"<!-- report: (\{.*\}) -->")

TERMINAL = frozenset({"COMPLETED", "FAILED", "CRASHED", "CANCELLED"})
ACTIVE = ("RUNNING", "PENDING", "CANCELLING")
POLL_SECONDS = 0.25
# The server's own limit for one page of a filter request.
PAGE = 200
REQUEST_TIMEOUT_SECONDS = 30.0
# On SQLite the server answers 503 while another of its parts writes, which is often after a start.
RETRY_SECONDS = 20.0
# A server that is there and has not answered within one time-out is busy: three more of them.
BUSY_SECONDS = 100.0


@dataclass(frozen=True, kw_only=True)
class Artifact:
    """An artifact as Prefect stored it: ``data`` is Markdown, a JSON table or a percentage."""

    key: str
    kind: str
    data: str | float
    description: str


@dataclass(frozen=True, kw_only=True)
class FlowRun:
    """A flow run as the API tells it. ``seconds`` is the time it was running."""

    run_id: str
    name: str
    deployment_id: str | None
    state_type: str
    state_name: str
    message: str
    seconds: float
    expected_at: str
    created_by_schedule: bool

    @property
    def is_over(self) -> bool:
        """Whether the run has ended, in whatever way."""
        return self.state_type in TERMINAL

    @property
    def ended_well(self) -> bool:
        """Whether the run did its work, had none, or asks for approval."""
        return self.state_type == "COMPLETED"


class PrefectApi:
    """A client of one Prefect server.

    Args:
        url: Address of the API, ending in ``/api``.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        # No proxy of the environment: the server listens on loopback.
        self._client = httpx.Client(
            base_url=f"{url}/", timeout=REQUEST_TIMEOUT_SECONDS, trust_env=False
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def is_healthy(self) -> bool:
        """Whether the server answers."""
        try:
            return self._client.get("health", timeout=5.0).is_success
        except httpx.TransportError:
            return False

    def ensure_work_pool(self, name: str) -> None:
        """Create a work pool of type process, or unpause it; its first worker fills in the rest."""
        created = self._send(
            "POST", "work_pools/", {"name": name, "type": "process"}, allowed={httpx.codes.CONFLICT}
        )
        if created.status_code == httpx.codes.CONFLICT:
            self.pause_work_pool(name, paused=False)

    def pause_work_pool(self, name: str, *, paused: bool) -> None:
        """Let workers of this pool start no more runs, or let them again."""
        self._send("PATCH", f"work_pools/{name}", {"is_paused": paused})

    def ensure_work_queue(self, pool: str, name: str, priority: int, limit: int | None) -> None:
        """Create a work queue, or set its priority (1 is served first) and its limit of runs."""
        wanted = {"name": name, "priority": priority, "concurrency_limit": limit}
        created = self._send(
            "POST", f"work_pools/{pool}/queues", wanted, allowed={httpx.codes.CONFLICT}
        )
        if created.status_code == httpx.codes.CONFLICT:
            self._send("PATCH", f"work_pools/{pool}/queues/{name}", wanted)

    def has_online_worker(self, pool: str) -> bool:
        """Whether a worker has reported to this pool lately."""
        workers = self._read("POST", f"work_pools/{pool}/workers/filter", {})
        return any(worker["status"] == "ONLINE" for worker in workers)

    def read_deployments(self) -> dict[str, str]:
        """The ids of all deployments by name."""
        found = self._read("POST", "deployments/filter", {"limit": PAGE})
        return {item["name"]: item["id"] for item in found}

    def pause_deployment(self, deployment_id: str, *, paused: bool) -> None:
        """Create no more scheduled runs and delete those not started yet, or schedule again."""
        action = "pause_deployment" if paused else "resume_deployment"
        self._send("POST", f"deployments/{deployment_id}/{action}")

    def create_run(
        self, name: str, parameters: dict[str, Any], job_variables: dict[str, Any] | None = None
    ) -> FlowRun:
        """Ask for a run of the deployment ``name`` of the flow ``name``.

        Raises:
            PermanentError: There is no such deployment, or it refuses the parameters.
        """
        deployment = self._read("GET", f"deployments/name/{name}/{name}")
        created = self._read(
            "POST",
            f"deployments/{deployment['id']}/create_flow_run",
            {
                "parameters": parameters,
                "job_variables": job_variables or {},
                "idempotency_key": str(uuid4()),
            },
        )
        return _to_run(created)

    def read_run(self, run_id: str) -> FlowRun:
        """One flow run."""
        return _to_run(self._read("GET", f"flow_runs/{run_id}"))

    def iter_runs(self, deployment: str | None = None, *types: str) -> Iterator[FlowRun]:
        """Flow runs, those expected first coming first.

        Args:
            deployment: Only runs of the deployment of this name.
            types: Only runs in states of these types.
        """
        wanted: dict[str, Any] = {"sort": "EXPECTED_START_TIME_ASC", "limit": PAGE, "offset": 0}
        if types:
            wanted["flow_runs"] = {"state": {"type": {"any_": list(types)}}}
        if deployment is not None:
            wanted["deployments"] = {"name": {"any_": [deployment]}}
        while page := self._read("POST", "flow_runs/filter", wanted):
            yield from map(_to_run, page)
            wanted["offset"] += len(page)

    def wait_for_run(
        self, run_id: str, timeout_seconds: float, is_alive: Callable[[], bool] = lambda: True
    ) -> FlowRun:
        """Wait until a flow run is over.

        Raises:
            RetryableError: It was not within ``timeout_seconds``, or the worker died.
        """
        ends_at = time.monotonic() + timeout_seconds
        while not (run := self.read_run(run_id)).is_over:
            if not is_alive():
                raise RetryableError("the Prefect worker died; see worker.log")
            if time.monotonic() > ends_at:
                raise RetryableError(
                    f"flow run {run.name} is still {run.state_name} after {timeout_seconds:.0f} s"
                )
            time.sleep(POLL_SECONDS)
        return run

    def free_concurrency_slots(self) -> None:
        """Mark the slots of every limit as free; no run may be active."""
        for limit in self._read("POST", "v2/concurrency_limits/filter", {"limit": PAGE}):
            if limit["active_slots"]:
                self._send("PATCH", f"v2/concurrency_limits/{limit['id']}", {"active_slots": 0})

    def crash_run(self, run_id: str, message: str) -> None:
        """Record that the process of a run is gone, which frees its concurrency slot."""
        state = {"type": "CRASHED", "name": "Crashed", "message": message}
        self._send("POST", f"flow_runs/{run_id}/set_state", {"state": state, "force": True})

    def cancel_run(self, run_id: str, message: str) -> None:
        """Take back a run that no worker has started."""
        state = {"type": "CANCELLED", "name": "Cancelled", "message": message}
        self._send("POST", f"flow_runs/{run_id}/set_state", {"state": state, "force": True})

    def read_artifacts(self, run_id: str) -> list[Artifact]:
        """The artifacts of a flow run, oldest first."""
        found = self._read(
            "POST",
            "artifacts/filter",
            {"artifacts": {"flow_run_id": {"any_": [run_id]}}, "sort": "CREATED_DESC"},
        )
        return [
            Artifact(
                key=item["key"] or "",
                kind=item["type"] or "",
                data=item["data"],
                description=item["description"] or "",
            )
            for item in reversed(found)
        ]

    def read_report(self, run_id: str) -> RunReport | None:
        """The report of a flow run, which its end card carries, or None where it left none."""
        for artifact in self.read_artifacts(run_id):
            match = _REPORT.search(str(artifact.data))
            if match is not None:
                return RunReport.from_json(match[1])
        return None

    def read_logs(self, run_id: str) -> str:
        """What a flow run logged, one message a line."""
        found = self._read(
            "POST", "logs/filter", {"logs": {"flow_run_id": {"any_": [run_id]}}, "limit": PAGE}
        )
        return "\n".join(item["message"] for item in found)

    def _read(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        return self._send(method, path, body).json()

    def _send(
        self,
        method: str,
        path: str,
        body: dict[str, Any] | None = None,
        allowed: set[int] | None = None,
    ) -> httpx.Response:
        began_at = time.monotonic()
        while True:
            patience = RETRY_SECONDS
            try:
                response = self._client.request(method, path, json=body)
            except httpx.TransportError as error:
                failure = type(error).__name__
                if isinstance(error, httpx.TimeoutException):
                    patience = BUSY_SECONDS
            else:
                if response.is_success or response.status_code in (allowed or ()):
                    return response
                failure = f"answered {response.status_code}"
                if not response.is_server_error:
                    raise PermanentError(f"Prefect API: {method} {path} {failure}")
            # Every request here may be repeated: the only creating one carries a key.
            if time.monotonic() - began_at > patience:
                raise RetryableError(f"Prefect API: {method} {path} {failure}; see server.log")
            time.sleep(POLL_SECONDS)


def _to_run(item: dict[str, Any]) -> FlowRun:
    state = item.get("state") or {}
    return FlowRun(
        run_id=item["id"],
        name=item["name"],
        deployment_id=item.get("deployment_id"),
        state_type=item.get("state_type") or "",
        state_name=item.get("state_name") or "",
        message=state.get("message") or "",
        seconds=float(item.get("total_run_time") or 0.0),
        expected_at=item.get("expected_start_time") or "",
        created_by_schedule=bool(item.get("auto_scheduled")),
    )
