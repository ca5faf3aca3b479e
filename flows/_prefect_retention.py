"""Prefect's own store under the policy's rule ``prefect_runs``: old flow runs and their remains.

The server deletes by itself, hourly (see ``local_stack.environment`` and the runbook), by its own
clock and after a period that somebody must have set. This is what the policy's run adds: it counts
what is past its time, deletes what the server left, and counts again. How long runs are kept
belongs to the policy, when to delete to the retention engine.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar
from urllib.parse import urlsplit
from uuid import UUID

import httpx
from prefect.client.orchestration import get_client
from prefect.client.schemas import filters
from prefect.client.schemas.actions import ArtifactUpdate
from prefect.client.schemas.objects import TERMINAL_STATES, FlowRun, StateType
from prefect.client.schemas.sorting import FlowRunSort
from prefect.exceptions import ObjectNotFound
from prefect.settings import get_current_settings
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from gatte_pipelines.errors import PermanentError, RetryableError
from gatte_pipelines.safe_errors import safe_errors

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

# The server deletes at most this many runs a request.
PAGE = 50
ARTIFACTS_PAGE = 200
# The server deletes the logs of a deleted run in the background, in a fraction of a second.
LOGS_GONE_SECONDS = 60.0
POLL_SECONDS = 0.2
# Writers of the same SQLite file are over sooner; Prefect itself waits for sixty.
SQLITE_WAIT_SECONDS = 60.0
CHECKPOINT_TRIES = 20
_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


class PrefectRuns:
    """The flow runs of the Prefect server whose time is over: a store of the retention policy.

    A run takes its task runs, states, logs and artifacts along. One that is in no final state is
    left, however old, and the report of the retention says how many there are. What else the server
    holds is not of runs (deployments, blocks, work queues) or is deleted by it alone: events, which
    repeat the messages of states and the text of artifacts, for seven days. A flow that raised
    leaves its exception as a file, whatever it says of persisting results.
    """

    name: ClassVar[str] = "prefect_runs"
    """That of the rule."""

    @safe_errors()
    def count_due(self, cutoff: datetime) -> tuple[int, datetime | None]:
        """How many runs ended before an instant (and files of results), and the first's instant.

        Raises:
            RetryableError: The server does not answer.
        """
        with _server() as client:
            ended = _ended_before(cutoff)
            count = client.count_flow_runs(flow_run_filter=ended)
            first = _read_page(client, ended, limit=1) if count else []
        instants: list[datetime | None] = [
            run.start_time or run.expected_start_time or run.end_time for run in first
        ]
        files = _find_results(cutoff)
        instants += [datetime.fromtimestamp(path.stat().st_mtime, UTC) for path in files[:1]]
        return count + len(files), min(filter(None, instants), default=None)

    @safe_errors()
    def count_kept(self, cutoff: datetime) -> int:
        """How many runs were due before an instant and are in no final state to this day.

        Raises:
            RetryableError: The server does not answer.
        """
        unfinished = filters.FlowRunFilter(
            expected_start_time=filters.FlowRunFilterExpectedStartTime.model_validate(
                {"before_": cutoff}
            ),
            state=filters.FlowRunFilterState(
                type=filters.FlowRunFilterStateType(any_=sorted(set(StateType) - TERMINAL_STATES))
            ),
        )
        with _server() as client:
            return client.count_flow_runs(flow_run_filter=unfinished)

    @safe_errors()
    def trim(self, cutoff: datetime) -> int:
        """Delete the runs that ended before an instant (and files of results); how many went.

        A kill leaves runs without their artifacts, which are still due and go with the next call.

        Raises:
            RetryableError: The server does not answer, or is slow with the logs.
            PermanentError: Runs are left that it does not delete.
        """
        deleted = 0
        with _server() as client:
            ended = _ended_before(cutoff)
            while page := _read_page(client, ended, limit=PAGE):
                ids = [run.id for run in page]
                # Artifacts first: without its run nobody would find them again.
                _delete_artifacts(client, ids)
                gone = _delete_runs(client, cutoff, ids)
                left = _ended_before(cutoff, ids)
                # Not deleted and not there any more: the server's own vacuum was first.
                if not gone and client.count_flow_runs(flow_run_filter=left):
                    raise PermanentError(
                        f"the Prefect server keeps {len(ids)} flow runs past their time"
                    )
                _await_no_logs(client, gone)
                deleted += len(gone)
        for path in _find_results(cutoff):
            path.unlink(missing_ok=True)
            deleted += 1
        # Also what the server deleted by itself.
        if (database := _local_database()) is not None:
            overwrite_deleted(database)
        return deleted


def overwrite_deleted(database: Path, *, is_overwriting: bool | None = None) -> None:
    """Let nothing of deleted rows stand in a SQLite file or in its write-ahead log.

    Where SQLite was built with ``SECURE_DELETE`` (Debian's is) deleted rows are overwritten with
    zeros in the file; elsewhere the file is written anew. The log keeps the pages from before until
    it is cut off.

    Args:
        database: The file, which a server may have open.
        is_overwriting: Whether whoever deleted overwrote; by default what this build does, which
            is the server's where both run the same Python.

    Raises:
        RetryableError: Somebody read or wrote all the time.
    """
    connection = sqlite3.connect(database, timeout=SQLITE_WAIT_SECONDS, isolation_level=None)
    with closing(connection):
        try:
            if is_overwriting is None:
                is_overwriting = bool(connection.execute("pragma secure_delete").fetchone()[0])
            if not is_overwriting:
                connection.execute("vacuum")
            for _ in range(CHECKPOINT_TRIES):
                is_busy, *_pages = connection.execute("pragma wal_checkpoint(truncate)").fetchone()
                if not is_busy:
                    return
                time.sleep(POLL_SECONDS)
        except sqlite3.OperationalError as error:
            raise RetryableError(f"Prefect's SQLite file is in use ({error})") from None
    raise RetryableError("Prefect's SQLite file is in use all the time; its log was not cut off")


def _find_results(cutoff: datetime) -> list[Path]:
    """The result files of this machine that were written before an instant, oldest first."""
    folder = get_current_settings().results.local_storage_path
    found: list[tuple[float, Path]] = []
    for path in folder.rglob("*") if folder.is_dir() else ():
        with suppress(FileNotFoundError):
            written = path.stat().st_mtime
            if path.is_file() and written < cutoff.timestamp():
                found.append((written, path))
    return [path for _, path in sorted(found)]


def _local_database() -> Path | None:
    """The server's SQLite file, where server and this process share a machine; None otherwise."""
    settings = get_current_settings()
    if urlsplit(settings.api.url or "").hostname not in _LOOPBACK:
        return None
    url = settings.server.database.connection_url
    with suppress(ArgumentError):
        parts = make_url(url.get_secret_value() if url is not None else "")
        if parts.get_backend_name() == "sqlite" and parts.database:
            path = Path(parts.database)
            return path if path.is_file() else None
    return None


@contextmanager
def _server() -> Iterator[SyncPrefectClient]:
    """A client whose failures say whether trying again helps."""
    try:
        with get_client(sync_client=True) as client:
            yield client
    except httpx.HTTPStatusError as error:
        status = error.response.status_code
        said = f"Prefect API: {error.request.method} {error.request.url.path} answered {status}"
        kind = RetryableError if error.response.is_server_error else PermanentError
        raise kind(said) from None
    except httpx.TransportError as error:
        raise RetryableError(f"the Prefect API does not answer ({type(error).__name__})") from None


def _ended_before(cutoff: datetime, ids: list[UUID] | None = None) -> filters.FlowRunFilter:
    return filters.FlowRunFilter(
        id=None if ids is None else filters.FlowRunFilterId(any_=ids),
        state=filters.FlowRunFilterState(
            type=filters.FlowRunFilterStateType(any_=sorted(TERMINAL_STATES))
        ),
        end_time=filters.FlowRunFilterEndTime.model_validate({"before_": cutoff}),
    )


def _read_page(
    client: SyncPrefectClient, wanted: filters.FlowRunFilter, limit: int
) -> list[FlowRun]:
    return client.read_flow_runs(
        flow_run_filter=wanted, sort=FlowRunSort.EXPECTED_START_TIME_ASC, limit=limit
    )


def _delete_artifacts(client: SyncPrefectClient, ids: list[UUID]) -> None:
    """Delete the artifacts of these runs, by the route that also lets go of the newest of its key.

    Emptied first: of the newest of a key that goes, and of the one that takes its place, the server
    repeats the text in an event of today.
    """
    wanted = filters.ArtifactFilter(flow_run_id=filters.ArtifactFilterFlowRunId(any_=ids))
    found: list[UUID] = []
    while page := client.read_artifacts(
        artifact_filter=wanted, limit=ARTIFACTS_PAGE, offset=len(found)
    ):
        found += [artifact.id for artifact in page]
    for artifact_id in found:
        with _gone_is_fine():
            client.update_artifact(artifact_id, ArtifactUpdate(data="", description=""))
    for artifact_id in found:
        with _gone_is_fine():
            client.delete_artifact(artifact_id)


@contextmanager
def _gone_is_fine() -> Iterator[None]:
    """Let the server's own vacuum be first."""
    try:
        yield
    except ObjectNotFound:
        return
    except httpx.HTTPStatusError as error:
        if error.response.status_code != httpx.codes.NOT_FOUND:
            raise


def _delete_runs(client: SyncPrefectClient, cutoff: datetime, ids: list[UUID]) -> list[UUID]:
    """Delete these runs where they are still over: one may have been tried again meanwhile."""
    wanted = _ended_before(cutoff, ids).model_dump(mode="json", exclude_none=True)
    response = client.request(
        "POST",
        # A route that the client does not list among those it knows.
        "/flow_runs/bulk_delete",  # type: ignore[arg-type]
        json={"flow_runs": wanted, "limit": len(ids)},
    )
    return [UUID(text) for text in response.json()["deleted"]]


def _await_no_logs(client: SyncPrefectClient, ids: list[UUID]) -> None:
    wanted = filters.LogFilter(flow_run_id=filters.LogFilterFlowRunId(any_=ids))
    ends_at = time.monotonic() + LOGS_GONE_SECONDS
    while client.read_logs(wanted, limit=1):
        if time.monotonic() > ends_at:
            raise RetryableError("the Prefect server has not deleted the logs of deleted runs yet")
        time.sleep(POLL_SECONDS)
