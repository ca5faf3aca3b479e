"""The watchdog mails staff each thing once, over a real SMTP conversation."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from gatte_pipelines.errors import ConfigurationError, RetryableError
from gatte_pipelines.run_report import Outcome
from gatte_pipelines.sandbox.smtp import SmtpFault, SmtpStandIn
from tests.inbound import Inbound
from tests.postgres import TestDatabase

STAFF = "ops@exemplo.invalid, plantao@exemplo.invalid"
FAILURE = {
    "flow": "inbound_messages",
    "run_id": "flow-run-1",
    "state": "Crashed",
    "at": "2026-03-02T15:00:00Z",
    "message": "o processo morreu",
}


@pytest.fixture
def smtp(tmp_path: Path) -> Iterator[SmtpStandIn]:
    with SmtpStandIn(tmp_path / "mail") as server:
        yield server


@pytest.fixture
def watched(database: TestDatabase, smtp: SmtpStandIn) -> Inbound:
    return Inbound(database, smtp_url=smtp.url, staff_email=STAFF)


# What must have run within the hour.
ALL_DAY = ("inbound_messages", "session_context_expiry", "crm_sync")


def now() -> datetime:
    return datetime.now(UTC)


def record(watched: Inbound, ago: timedelta = timedelta(0), **fields: Any) -> UUID:
    """A run as another process left it."""
    values = {
        "run_id": uuid4(),
        "pipeline": "inbound_messages",
        "outcome": "completed",
        "reason": None,
        "error": None,
        "at": now() - ago,
    } | fields
    watched.execute(
        "insert into pipeline.runs (run_id, pipeline, as_of, started_at, outcome, reason, error) "
        "values (:run_id, :pipeline, :at, :at, :outcome, :reason, :error)",
        **values,
    )
    return UUID(str(values["run_id"]))


def texts(smtp: SmtpStandIn) -> list[str]:
    return [str(mail.get_content()) for mail in smtp.messages]


def test_a_failed_run_is_mailed_to_all_staff_once(watched: Inbound, smtp: SmtpStandIn) -> None:
    record(watched, outcome="failed", error="o banco não respondeu")
    first = watched.run("watchdog", as_of=now())
    second = watched.run("watchdog", as_of=now())
    assert (first.received, first.inserted) == (1, 1)
    assert (second.outcome, second.reason, second.duplicate) == (
        Outcome.SKIPPED,
        "nothing_to_do",
        1,
    )
    (mail,) = smtp.messages
    assert mail["To"] == STAFF
    assert "1 aviso" in mail["Subject"]
    assert "falhou em" in texts(smtp)[0]
    assert "o banco não respondeu" in texts(smtp)[0]


def test_every_kind_of_trouble_is_in_one_email(watched: Inbound, smtp: SmtpStandIn) -> None:
    record(watched, timedelta(minutes=1), outcome="failed", error="erro")
    record(watched, timedelta(minutes=1), outcome="needs_approval", reason="26 linhas")
    record(watched, timedelta(hours=2), outcome=None)
    report = watched.run("watchdog", as_of=now(), orchestrator_failures=[FAILURE])
    kinds = {row[0] for row in watched.rows("select kind from pipeline.staff_notices")}
    assert kinds == {"failed", "needs_approval", "interrupted", "stale", "orchestrator"}
    assert report.inserted == 7, "all pipelines that run all day are stale"
    (text,) = texts(smtp)
    for words in (
        "aguarda aprovação",
        "interrompida",
        "nenhuma execução bem-sucedida",
        "o processo morreu",
    ):
        assert words in text


def test_good_runs_are_not_mailed(watched: Inbound, smtp: SmtpStandIn) -> None:
    for pipeline in ALL_DAY:
        record(watched, timedelta(hours=3), pipeline=pipeline)
        record(watched, pipeline=pipeline, outcome="skipped", reason="nothing_to_do")
    assert watched.run("watchdog", as_of=now()).outcome is Outcome.SKIPPED
    assert smtp.messages == []


def test_finding_another_run_going_on_is_no_good_run(watched: Inbound, smtp: SmtpStandIn) -> None:
    record(watched, timedelta(minutes=30))
    record(watched, outcome="skipped", reason="already_running")
    watched.run("watchdog", as_of=now())
    assert "inbound_messages: nenhuma execução bem-sucedida" in texts(smtp)[0]


def test_a_dry_run_of_the_retention_is_no_good_run(watched: Inbound, smtp: SmtpStandIn) -> None:
    record(watched, timedelta(hours=27), pipeline="lgpd_retention")
    record(watched, pipeline="lgpd_retention", reason="dry_run")
    for pipeline in ALL_DAY:
        record(watched, pipeline=pipeline)
    watched.run("watchdog", as_of=now())
    assert "lgpd_retention: nenhuma execução bem-sucedida" in texts(smtp)[0]
    assert "limite: 26 horas" in texts(smtp)[0]
    record(watched, pipeline="lgpd_retention")
    assert watched.run("watchdog", as_of=now()).outcome is Outcome.SKIPPED


def test_trouble_of_long_ago_is_not_told(watched: Inbound, smtp: SmtpStandIn) -> None:
    record(watched, timedelta(hours=25), outcome="failed", pipeline="quarantine_replay")
    for pipeline in ALL_DAY:
        record(watched, pipeline=pipeline)
    assert watched.run("watchdog", as_of=now()).outcome is Outcome.SKIPPED
    assert smtp.messages == []


@pytest.mark.parametrize("fault", [SmtpFault.REFUSE, SmtpFault.TEMPORARY])
def test_what_could_not_be_mailed_is_told_by_the_next_run(
    watched: Inbound, smtp: SmtpStandIn, fault: SmtpFault
) -> None:
    record(watched, outcome="failed", error="erro")
    smtp.fail(fault, times=5)
    with pytest.raises(RetryableError):
        watched.run("watchdog", as_of=now())
    assert watched.rows("select sent_at from pipeline.staff_notices") == [(None,)]
    smtp.fail(fault, times=0)
    assert watched.run("watchdog", as_of=now()).inserted == 1
    assert len(smtp.messages) == 1


def test_a_mail_server_that_is_down_fails_the_run_retryably(
    watched: Inbound, smtp: SmtpStandIn
) -> None:
    record(watched, outcome="failed")
    down = Inbound(watched.database, smtp_url="smtp://127.0.0.1:1", staff_email=STAFF)
    with pytest.raises(RetryableError):
        down.run("watchdog", as_of=now())
    assert watched.run("watchdog", as_of=now()).inserted == 1


def test_the_watchdog_does_not_tell_of_itself(watched: Inbound, smtp: SmtpStandIn) -> None:
    record(watched, outcome="failed", pipeline="watchdog")
    assert watched.run("watchdog", as_of=now()).outcome is Outcome.SKIPPED


def test_one_email_holds_no_more_than_fifty_and_the_rest_follows(
    watched: Inbound, smtp: SmtpStandIn
) -> None:
    for number in range(53):
        record(watched, outcome="failed", pipeline="quarantine_replay", reason=f"Error{number}")
    first = watched.run("watchdog", as_of=now())
    assert (first.inserted, first.skipped) == (50, {"next_email": 3})
    assert watched.run("watchdog", as_of=now()).inserted == 3


@pytest.mark.parametrize(
    ("absent", "name"), [("smtp_url", "GATTE_SMTP_URL"), ("staff_email", "GATTE_STAFF_EMAIL")]
)
def test_a_missing_setting_is_named(
    watched: Inbound, smtp: SmtpStandIn, absent: str, name: str
) -> None:
    values = {"smtp_url": smtp.url, "staff_email": STAFF} | {absent: None}
    with pytest.raises(ConfigurationError, match=name):
        Inbound(watched.database, **values).run("watchdog", as_of=now())


def test_a_subjects_request_near_its_deadline_is_reminded_once_and_again_when_overdue(
    watched: Inbound, smtp: SmtpStandIn
) -> None:
    received = now() - timedelta(days=12)
    for state, due_at in (
        ("open", received + timedelta(days=15)),
        ("open", received + timedelta(days=25)),
        ("done", received + timedelta(days=15)),
    ):
        watched.execute(
            "insert into pipeline.subject_requests "
            "(request_id, user_id, kind, state, received_at, due_at) "
            "values (gen_random_uuid(), gen_random_uuid(), 'erase', :state, :at, :due)",
            state=state,
            at=received,
            due=due_at,
        )
    watched.run("watchdog", as_of=now())
    watched.run("watchdog", as_of=now())
    watched.run("watchdog", as_of=now() + timedelta(days=4))
    reminded, overdue = texts(smtp)
    assert reminded.count("vence em") == 1
    assert "gatte lgpd subject list" in reminded
    assert overdue.count("venceu em") == 1
