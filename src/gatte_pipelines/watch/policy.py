"""What is worth an e-mail to staff: a pure policy over runs. No I/O here."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from gatte_pipelines.business_time import business_date
from gatte_pipelines.run_report import reason_pt

STALE_AFTER = {
    "inbound_messages": timedelta(minutes=15),
    "session_context_expiry": timedelta(hours=1),
    "crm_sync": timedelta(hours=1),
    "lgpd_retention": timedelta(hours=26),
    "certificate_state": timedelta(hours=26),
    "certificate_alerts": timedelta(hours=74),
    "data_quality": timedelta(hours=26),
}
"""Longest time without a good run, per scheduled pipeline.

Some runs of the schedule may be missed (a restart, a slow load) before a person is called; past
this, clients' messages or new leads wait, contexts outlive their TTL, or personal data outlive
theirs. Rules of days allow a night's run two hours beside its day. Alerts run on weekdays: from
Friday to Monday, and two hours beside; on a holiday they run too, and find it closed."""

ASKS_AGAIN = {"crm_sync"}
"""Pipelines that ask anew with every run until a plan is approved: told once a day, not each time.
"""

REQUEST_DUE_SOON = timedelta(days=5)
"""Left to answer a subject; shorter leaves no working days for what others must confirm."""

INTERRUPTED_AFTER = timedelta(hours=1)
"""A run that neither ended nor failed within this was killed; the next run finishes its work."""


@dataclass(frozen=True, kw_only=True)
class RecordedRun:
    """One row of ``pipeline.runs``. ``outcome`` is None where the run never ended."""

    run_id: str
    pipeline: str
    started_at: datetime
    outcome: str | None
    reason: str | None
    error: str | None


@dataclass(frozen=True, kw_only=True)
class OrchestratorFailure:
    """A flow run that failed, crashed or is late in the orchestrator's eyes.

    Attributes:
        flow: Name of the flow.
        run_id: Id of the flow run.
        state: Name of its state.
        at: When, ISO 8601.
        message: What the orchestrator says of it, already safe.
    """

    flow: str
    run_id: str
    state: str
    at: str
    message: str = ""


@dataclass(frozen=True, kw_only=True)
class OpenRequest:
    """A request of a subject (LGPD art. 18) without a complete answer yet, by ids only."""

    request_id: str
    kind: str
    due_at: datetime


@dataclass(frozen=True, kw_only=True)
class Notice:
    """One thing to tell. ``key`` is the same whenever the same thing is met again.

    A pipeline that fails every minute of a day in the same way is one thing.
    """

    key: str
    kind: str
    text: str


def find_notices(
    *,
    as_of: datetime,
    runs: list[RecordedRun],
    last_good: dict[str, datetime],
    first_run_at: datetime | None,
    orchestrator: list[OrchestratorFailure],
) -> list[Notice]:
    """What staff must know at ``as_of``, in Portuguese.

    Args:
        as_of: Now.
        runs: Runs of the last day that failed, need approval or never ended.
        last_good: Start of the last run of each pipeline that completed or had nothing to do.
        first_run_at: Start of the first run ever, None on a new database.
        orchestrator: Flow runs that ended badly, also those that never reached the database.
    """
    found: dict[str, Notice] = {}
    for run in runs:
        if (notice := _of_run(run, as_of)) is not None:
            found.setdefault(notice.key, notice)
    # The orchestrator's ids are not ours. A flow run that failed after its operation began stands
    # in both records; one of the same pipeline and day is enough.
    told = {(run.pipeline, f"{run.started_at:%Y-%m-%d}") for run in runs if run.outcome == "failed"}
    for failure in orchestrator:
        if failure.state == "Failed" and (failure.flow, failure.at[:10]) in told:
            continue
        notice = _of_failure(failure)
        found.setdefault(notice.key, notice)
    notices = list(found.values())
    if first_run_at is not None:
        for pipeline, limit in STALE_AFTER.items():
            since = last_good.get(pipeline, first_run_at)
            if as_of - since > limit:
                notices.append(
                    Notice(
                        key=f"stale:{pipeline}:{since.isoformat()}",
                        kind="stale",
                        text=f"{pipeline}: nenhuma execução bem-sucedida desde "
                        f"{since:%d/%m/%Y %H:%M} UTC (limite: {_length_pt(limit)})",
                    )
                )
    return notices


def find_request_notices(requests: list[OpenRequest], as_of: datetime) -> list[Notice]:
    """Requests of subjects near their deadline, and again once past it, in Portuguese.

    Args:
        requests: Those without a complete answer.
        as_of: Now.
    """
    notices = []
    for request in requests:
        due = f"{business_date(request.due_at):%d/%m/%Y}"
        what = f"pedido de titular {request.request_id} ({request.kind})"
        if request.due_at < as_of:
            text, stage = f"{what}: o prazo legal venceu em {due}", "overdue"
        elif request.due_at <= as_of + REQUEST_DUE_SOON:
            text, stage = f"{what}: o prazo legal de 15 dias vence em {due}", "due_soon"
        else:
            continue
        notices.append(
            Notice(
                key=f"subject_request:{stage}:{request.request_id}",
                kind="subject_request",
                text=f"{text}; veja gatte lgpd subject list",
            )
        )
    return notices


def _length_pt(limit: timedelta) -> str:
    minutes = int(limit.total_seconds() // 60)
    return f"{minutes} minutos" if minutes <= 60 else f"{minutes // 60} horas"


def _of_run(run: RecordedRun, as_of: datetime) -> Notice | None:
    when = f"{run.started_at:%d/%m/%Y %H:%M} UTC"
    if run.outcome == "failed":
        return Notice(
            key=f"failed:{run.pipeline}:{run.reason or 'unknown'}:{business_date(run.started_at)}",
            kind="failed",
            text=f"{run.pipeline}: falhou em {when}: {run.error or 'sem detalhe'}",
        )
    if run.outcome == "needs_approval":
        why = f": {reason_pt(run.reason, run.pipeline)}" if run.reason else ""
        once = run.run_id
        if run.pipeline in ASKS_AGAIN:
            once = f"{run.pipeline}:{run.reason or 'unknown'}:{business_date(run.started_at)}"
        return Notice(
            key=f"needs_approval:{once}",
            kind="needs_approval",
            text=f"{run.pipeline}: aguarda aprovação desde {when}{why}",
        )
    if run.outcome is None and as_of - run.started_at > INTERRUPTED_AFTER:
        return Notice(
            key=f"interrupted:{run.run_id}",
            kind="interrupted",
            text=f"{run.pipeline}: interrompida, começou em {when} e não terminou; "
            "a próxima execução continua o trabalho",
        )
    return None


def _of_failure(failure: OrchestratorFailure) -> Notice:
    text = f"{failure.flow}: execução {failure.run_id} em estado {failure.state} desde {failure.at}"
    return Notice(
        key=f"orchestrator:{failure.flow}:{failure.state}:{failure.at[:10]}",
        kind="orchestrator",
        text=f"{text}: {failure.message}" if failure.message else text,
    )


def compose(notices: list[Notice]) -> tuple[str, str]:
    """Subject and text of the e-mail that tells these notices."""
    count = len(notices)
    plural = "aviso" if count == 1 else "avisos"
    subject = f"[GATTE] {count} {plural} sobre as execuções"
    lines = ["Olá,", "", "o vigia das execuções encontrou:", ""]
    lines += [f"- {notice.text}" for notice in notices]
    lines += [
        "",
        "Detalhes: interface do Prefect (Runs) ou a tabela pipeline.runs.",
        "O que fazer em cada caso está em docs/runbook.md.",
        "Cada aviso é enviado uma só vez; falhas iguais, uma vez por dia.",
    ]
    return subject, "\n".join(lines) + "\n"
