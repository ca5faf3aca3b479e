"""What every flow shares: run an operation, show its report in Prefect, turn it into a state.

What a run decides belongs to the operations; branching has no place in a flow body.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING, Any, Protocol, cast
from uuid import UUID

from prefect.artifacts import (
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)
from prefect.states import Completed, Failed, get_state_exception

from gatte_pipelines.errors import ConfigurationError, RetryableError
from gatte_pipelines.logging_setup import install_log_redaction
from gatte_pipelines.run_report import Outcome, RunReport, reason_pt
from gatte_pipelines.safe_errors import safe_errors

if TYPE_CHECKING:
    from prefect.client.schemas.objects import State

# Every flow imports this module before it runs, so nothing is sent to Prefect unredacted.
install_log_redaction()

# The local stack reads what stands between these.
REPORT_OPENING, REPORT_CLOSING = "<!-- report: ", " -->"

# Work that is over sooner needs no progress artifact: a minute run stays two requests short.
PROGRESS_AFTER_SECONDS = 2.0
# Each update is a request to the Prefect server, which on SQLite writes one at a time.
PROGRESS_EVERY_SECONDS = 2.0

# Three attempts within a quarter of a minute: longer than a database needs to restart, shorter than
# the minute after which the next scheduled run is due anyway.
RETRIES = 2
RETRY_DELAYS_SECONDS = [3.0, 12.0]


Document = str | tuple[str, list[dict[str, Any]]]
"""Markdown, or a title and the rows of a table."""


@safe_errors()
def run_operation(pipeline: str, *, as_of: str, **options: Any) -> RunReport:
    """Build from the settings, run one operation and show its report.

    An operation that has more to show than counts writes it into the option ``documents``: by a
    name of lower case letters and dashes Markdown, or the rows of a table. Each becomes an
    artifact, also where the run fails.

    Args:
        pipeline: Name in the registry of ``wiring``.
        as_of: ISO 8601 instant with offset; empty for now.
        options: Handed on to the operation.

    Raises:
        GatteError: The operation failed; the message holds no personal value and no secret.
        UnexpectedError: Likewise, for any other exception.
    """
    # Imported here: SQLAlchemy costs a second that `prefect deploy` need not spend.
    from gatte_pipelines.settings import Settings  # noqa: PLC0415
    from gatte_pipelines.wiring import Wiring  # noqa: PLC0415

    instant = parse_as_of(as_of)
    progress = ProgressArtifact(artifact_key(pipeline, "progress"))
    documents: dict[str, Document] = {}
    try:
        with Wiring.from_settings(Settings.from_environment()) as wiring:
            report = wiring.run(
                pipeline, as_of=instant, progress=progress, documents=documents, **options
            )
    except BaseException:
        # A proof that failed is told in the document; nothing may hide the failure itself.
        with suppress(Exception):
            write_documents(pipeline, documents)
        raise
    progress.finish()
    write_artifacts(report)
    write_documents(pipeline, documents)
    return report


def parse_as_of(text: str) -> datetime | None:
    """The instant that a run is for, or None for now.

    Raises:
        ConfigurationError: Not ISO 8601, or without an offset.
    """
    if not text.strip():
        return None
    try:
        instant = datetime.fromisoformat(text.strip())
    except ValueError:
        instant = None
    if instant is None or instant.tzinfo is None:
        raise ConfigurationError(
            "as_of must be an ISO 8601 instant with offset, such as 2026-11-22T10:00:00-03:00"
        )
    return instant


def is_retryable(_task: object, _task_run: object, state: State[Any]) -> bool:
    """Whether a failed task may be tried again: only what a rerun may change."""
    return isinstance(get_state_exception(state), RetryableError)


def end_state(report: RunReport) -> State[Any]:
    """The state in which the flow run of ``report`` ends, with a message for ops."""
    message = state_message(report)
    match report.outcome:
        case Outcome.SKIPPED:
            return Completed(name="Skipped", message=message)
        case Outcome.NEEDS_APPROVAL:
            return Completed(name="NeedsApproval", message=message)
        case Outcome.FAILED:
            return Failed(message=message)
        case Outcome.COMPLETED:
            return Completed(message=message)


def state_message(report: RunReport) -> str:
    """What the state of a run says, in Portuguese: why, how much, or both."""
    reason = reason_pt(report.reason or "", report.pipeline)
    match report.outcome:
        case Outcome.SKIPPED if report.inserted or report.updated:
            return f"{reason}; {report.counts_pt()}"
        case Outcome.SKIPPED | Outcome.FAILED:
            return reason
        case Outcome.NEEDS_APPROVAL:
            return f"aguarda aprovação: {reason}; {report.counts_pt()}"
        case Outcome.COMPLETED:
            return "; ".join(part for part in (reason, report.counts_pt()) if part)


def write_artifacts(report: RunReport) -> None:
    """Write the end card, which carries the whole report unseen, and the table of counts.

    A run that found nothing leaves no table: there is nothing to count, and 1,440 minute runs a
    day would each store an empty one.
    """
    create_markdown_artifact(
        key=artifact_key(report.pipeline),
        markdown=f"{report.summary_pt()}\n\n{embed_report(report)}",
        description="Resultado da execução",
    )
    if report.outcome is not Outcome.SKIPPED:
        create_table_artifact(
            key=artifact_key(report.pipeline, "table"),
            table=report.table_rows(),
            description=f"Balanço da execução `{report.run_id}`",
        )


def write_documents(pipeline: str, documents: Mapping[str, Document]) -> None:
    """Write what an operation has to show besides its report, texts under their first line."""
    for name, markdown in documents.items():
        if not isinstance(markdown, str):
            title, rows = markdown
            create_table_artifact(key=artifact_key(pipeline, name), table=rows, description=title)
            continue
        title = markdown.lstrip().partition("\n")[0].lstrip("# ").strip()
        create_markdown_artifact(
            key=artifact_key(pipeline, name), markdown=markdown, description=title or name
        )


def embed_report(report: RunReport) -> str:
    """The report as a comment of Markdown, for programs that read the card through the API."""
    json = report.to_json().decode().replace(">", "\\u003e")
    return f"{REPORT_OPENING}{json}{REPORT_CLOSING}"


def artifact_key(pipeline: str, part: str = "") -> str:
    """The stable key of an artifact; Prefect allows lower case letters, digits and dashes."""
    return "-".join([*pipeline.split("_"), *([part] if part else [])])


class Progress(Protocol):
    """How far a run is, as its operation tells."""

    @property
    def done(self) -> int:
        """What is done and committed."""

    @property
    def total(self) -> int:
        """What there is to do."""


class ProgressArtifact:
    """The progress of one run, as an artifact that appears once the run takes long enough.

    Args:
        key: Key of the artifact.
        clock: Seconds that only grow.
    """

    def __init__(self, key: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._key = key
        self._clock = clock
        self._due_at = clock() + PROGRESS_AFTER_SECONDS
        self._artifact_id: UUID | None = None

    def __call__(self, progress: Progress) -> None:
        """Show how far the run is, where the last time is long enough ago."""
        if self._clock() < self._due_at or progress.total <= 0:
            return
        self._show(min(100.0, 100 * progress.done / progress.total))

    def finish(self) -> None:
        """Show 100 %, where there is something shown at all."""
        if self._artifact_id is not None:
            self._show(100.0)

    def _show(self, percent: float) -> None:
        # Called from the middle of the load: a server that is away for a moment must not end it.
        with suppress(Exception):
            self._send(percent)
        self._due_at = self._clock() + PROGRESS_EVERY_SECONDS

    def _send(self, percent: float) -> None:
        if self._artifact_id is None:
            # Called outside an event loop, so never a coroutine.
            self._artifact_id = cast(
                "UUID",
                create_progress_artifact(
                    progress=percent, key=self._key, description="Andamento da execução"
                ),
            )
        else:
            update_progress_artifact(self._artifact_id, progress=percent)
