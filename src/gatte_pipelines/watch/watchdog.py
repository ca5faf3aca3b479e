"""Read the record of runs and mail staff what they were not told yet.

What is worth telling belongs to ``policy``; asking the orchestrator belongs to the flow.
"""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta

from sqlalchemy import Connection, func, or_, select, update
from sqlalchemy.dialects.postgresql import insert

from gatte_pipelines.database.pipeline_tables import Run, StaffNotice, SubjectRequest
from gatte_pipelines.messaging.email import Email, EmailSender
from gatte_pipelines.run_report import DRY_RUN, Outcome, RunReport
from gatte_pipelines.watch.policy import (
    INTERRUPTED_AFTER,
    REQUEST_DUE_SOON,
    STALE_AFTER,
    Notice,
    OpenRequest,
    OrchestratorFailure,
    RecordedRun,
    compose,
    find_notices,
    find_request_notices,
)

PIPELINE = "watchdog"

# Older trouble was told, or is past helping; also bounds what one run reads.
LOOK_BACK = timedelta(hours=24)
# One e-mail stays readable; the rest follows with the next run.
MAX_NOTICES = 50


def watch(
    connection: Connection,
    report: RunReport,
    *,
    sender: EmailSender,
    to: tuple[str, ...],
    orchestrator: list[OrchestratorFailure],
) -> None:
    """Tell staff what is new, in one e-mail.

    The notices are committed before the e-mail and marked after it: a kill between the two tells
    them again under the same Message-ID, never not at all.

    Args:
        connection: To the database, outside a transaction.
        report: ``received`` counts what is worth telling, ``inserted`` what was told now.
        sender: Sends the e-mail.
        to: Addresses of staff.
        orchestrator: What the orchestrator knows to have gone wrong.

    Raises:
        RetryableError: The e-mail could not be sent now; the notices wait for the next run.
    """
    with connection.begin():
        notices = _read_notices(connection, report.as_of, orchestrator)
        keys = [notice.key for notice in notices]
        if notices:
            connection.execute(
                insert(StaffNotice)
                .values(
                    [
                        {"notice_key": n.key, "kind": n.kind, "first_seen_at": report.as_of}
                        for n in notices
                    ]
                )
                .on_conflict_do_nothing()
            )
        told = set(
            connection.scalars(
                select(StaffNotice.notice_key).where(
                    StaffNotice.notice_key.in_(keys), StaffNotice.sent_at.is_not(None)
                )
            )
        )
    new = [notice for notice in notices if notice.key not in told][:MAX_NOTICES]
    if not new:
        report.received = report.duplicate = len(notices)
        report.outcome, report.reason = Outcome.SKIPPED, "nothing_to_do"
        return
    subject, text = compose(new)
    sender.send(Email(to=to, subject=subject, text=text, message_id=_message_id(new)))
    with connection.begin():
        sent = connection.execute(
            update(StaffNotice)
            .where(StaffNotice.notice_key.in_([notice.key for notice in new]))
            .values(sent_at=func.now(), attempts=StaffNotice.attempts + 1)
        ).rowcount
    waiting = len(notices) - len(told) - len(new)
    report.received, report.inserted, report.duplicate = len(notices), sent, len(told)
    if waiting:
        report.skipped["next_email"] = waiting
    report.notes.append(f"avisos enviados por e-mail: {sent}")


def _read_notices(
    connection: Connection, as_of: datetime, orchestrator: list[OrchestratorFailure]
) -> list[Notice]:
    rows = connection.execute(
        select(Run.run_id, Run.pipeline, Run.started_at, Run.outcome, Run.reason, Run.error)
        .where(
            Run.started_at > as_of - LOOK_BACK,
            Run.pipeline != PIPELINE,
            or_(
                Run.outcome.in_(["failed", "needs_approval"]),
                Run.outcome.is_(None) & (Run.started_at < as_of - INTERRUPTED_AFTER),
            ),
        )
        .order_by(Run.started_at)
    )
    runs = [
        RecordedRun(
            run_id=str(row.run_id),
            pipeline=row.pipeline,
            started_at=row.started_at,
            outcome=row.outcome,
            reason=row.reason,
            error=row.error,
        )
        for row in rows
    ]
    last_good = {
        row.pipeline: row.started_at
        for row in connection.execute(
            select(Run.pipeline, func.max(Run.started_at).label("started_at"))
            .where(
                Run.pipeline.in_(list(STALE_AFTER)),
                # Not "already_running": behind a run that hangs nothing gets done; nor a dry run,
                # which did nothing.
                ((Run.outcome == "completed") & (func.coalesce(Run.reason, "") != DRY_RUN))
                | Run.reason.in_(["nothing_to_do", "quiet_hours"]),
            )
            .group_by(Run.pipeline)
        )
    }
    first_run_at = connection.scalar(select(func.min(Run.started_at)))
    requests = [
        OpenRequest(request_id=str(row.request_id), kind=row.kind, due_at=row.due_at)
        for row in connection.execute(
            select(SubjectRequest.request_id, SubjectRequest.kind, SubjectRequest.due_at)
            .where(
                SubjectRequest.state != "done", SubjectRequest.due_at <= as_of + REQUEST_DUE_SOON
            )
            .order_by(SubjectRequest.due_at)
        )
    ]
    return find_notices(
        as_of=as_of,
        runs=runs,
        last_good=last_good,
        first_run_at=first_run_at,
        orchestrator=orchestrator,
    ) + find_request_notices(requests, as_of)


def _message_id(notices: list[Notice]) -> str:
    """The same for the same notices, so that a mail program sees a repeat as one."""
    digest = hashlib.sha256("\n".join(sorted(n.key for n in notices)).encode())
    return f"watchdog-{digest.hexdigest()[:32]}"
