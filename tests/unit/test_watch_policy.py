"""What is worth an e-mail to staff, and what it says."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from gatte_pipelines.watch.policy import (
    INTERRUPTED_AFTER,
    STALE_AFTER,
    Notice,
    OrchestratorFailure,
    RecordedRun,
    compose,
    find_notices,
)

AS_OF = datetime(2026, 3, 2, 15, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def run(**fields: Any) -> RecordedRun:
    values: dict[str, Any] = {
        "run_id": "r1",
        "pipeline": "inbound_messages",
        "started_at": AS_OF - 5 * MINUTE,
        "outcome": "completed",
        "reason": None,
        "error": None,
    }
    return RecordedRun(**(values | fields))


def notices(**changes: Any) -> list[Notice]:
    values: dict[str, Any] = {
        "as_of": AS_OF,
        "runs": [],
        "last_good": dict.fromkeys(STALE_AFTER, AS_OF),
        "first_run_at": AS_OF - timedelta(days=9),
        "orchestrator": [],
    }
    return find_notices(**(values | changes))


@pytest.mark.parametrize("outcome", ["completed", "skipped"])
def test_a_good_run_is_not_worth_an_email(outcome: str) -> None:
    assert notices(runs=[run(outcome=outcome)]) == []


def test_a_failed_run_is_told_with_its_error() -> None:
    failed = run(outcome="failed", reason="RetryableError", error="the database is away")
    (notice,) = notices(runs=[failed])
    key = "failed:inbound_messages:RetryableError:2026-03-02"
    assert (notice.key, notice.kind) == (key, "failed")
    assert notice.text == ("inbound_messages: falhou em 02/03/2026 14:55 UTC: the database is away")


def test_a_failed_run_without_error_says_so() -> None:
    (notice,) = notices(runs=[run(outcome="failed")])
    assert notice.text.endswith("sem detalhe")


@pytest.mark.parametrize(
    ("reason", "end"), [("26 linhas mudariam", ": 26 linhas mudariam"), (None, "14:55 UTC")]
)
def test_a_run_that_waits_for_approval_is_told(reason: str | None, end: str) -> None:
    (notice,) = notices(runs=[run(outcome="needs_approval", reason=reason)])
    assert (notice.key, notice.kind) == ("needs_approval:r1", "needs_approval")
    assert notice.text.endswith(end)


@pytest.mark.parametrize(("late", "count"), [(timedelta(0), 0), (timedelta(seconds=1), 1)])
def test_a_run_that_never_ended_is_told_after_its_time(late: timedelta, count: int) -> None:
    found = notices(runs=[run(outcome=None, started_at=AS_OF - INTERRUPTED_AFTER - late)])
    assert [notice.kind for notice in found] == ["interrupted"] * count


@pytest.mark.parametrize("pipeline", sorted(STALE_AFTER))
@pytest.mark.parametrize(("late", "count"), [(timedelta(0), 0), (timedelta(seconds=1), 1)])
def test_a_pipeline_is_stale_past_its_limit(pipeline: str, late: timedelta, count: int) -> None:
    since = AS_OF - STALE_AFTER[pipeline] - late
    found = notices(last_good=dict.fromkeys(STALE_AFTER, AS_OF) | {pipeline: since})
    assert [(n.kind, n.key) for n in found] == [
        ("stale", f"stale:{pipeline}:{since.isoformat()}")
    ] * count


def test_a_plan_that_waits_is_told_with_its_reason_in_portuguese() -> None:
    (notice,) = notices(
        runs=[run(pipeline="lgpd_retention", outcome="needs_approval", reason="policy_changed")]
    )
    assert notice.text.endswith("UTC: a política de retenção mudou desde a última execução")


def test_a_pipeline_that_asks_every_quarter_of_an_hour_is_told_once_a_day() -> None:
    asking = [
        run(run_id=f"r{n}", pipeline="crm_sync", outcome="needs_approval", reason="many_changes")
        for n in range(3)
    ]
    (notice,) = notices(runs=asking)
    assert notice.key == "needs_approval:crm_sync:many_changes:2026-03-02"
    assert "são mudanças demais" in notice.text
    next_day = run(
        pipeline="crm_sync", outcome="needs_approval", started_at=AS_OF + timedelta(days=1)
    )
    assert len(notices(runs=[*asking, next_day])) == 2


def test_staleness_is_one_notice_for_as_long_as_no_run_succeeds() -> None:
    since = AS_OF - timedelta(hours=3)
    times = [AS_OF, AS_OF + timedelta(hours=1)]
    good = dict.fromkeys(STALE_AFTER, since)
    assert len({n.key for at in times for n in notices(as_of=at, last_good=good)}) == 3


def test_a_pipeline_that_never_ran_is_stale_since_the_first_run_of_all() -> None:
    found = notices(last_good={}, first_run_at=AS_OF - max(STALE_AFTER.values()) - MINUTE)
    assert {notice.kind for notice in found} == {"stale"}
    assert len(found) == len(STALE_AFTER)
    assert notices(last_good={}, first_run_at=AS_OF - MINUTE) == []


def test_a_new_database_is_not_stale() -> None:
    assert notices(last_good={}, first_run_at=None) == []


def test_what_only_the_orchestrator_knows_is_told_and_nothing_twice() -> None:
    failures = [
        OrchestratorFailure(
            flow="inbound_messages", run_id=state, state=state, at="2026-03-02T14:56:00+00:00"
        )
        for state in ("Failed", "Crashed")
    ]
    found = notices(runs=[run(outcome="failed")], orchestrator=failures)
    assert [notice.key for notice in found] == [
        "failed:inbound_messages:unknown:2026-03-02",
        "orchestrator:inbound_messages:Crashed:2026-03-02",
    ]


def test_what_fails_the_same_way_every_minute_is_told_once_a_day() -> None:
    runs = [
        run(run_id=f"r{n}", outcome="failed", reason=reason, started_at=AS_OF - n * MINUTE)
        for n, reason in enumerate(["RetryableError", "RetryableError", "BadInputError"])
    ]
    assert len(notices(runs=runs)) == 2
    yesterday = run(run_id="r9", outcome="failed", started_at=AS_OF - timedelta(days=1))
    assert len(notices(runs=[run(outcome="failed"), yesterday])) == 2


@pytest.mark.parametrize(("count", "words"), [(1, "1 aviso sobre"), (2, "2 avisos sobre")])
def test_the_email_lists_every_notice_in_portuguese(count: int, words: str) -> None:
    told = [Notice(key=str(n), kind="failed", text=f"texto {n}") for n in range(count)]
    subject, text = compose(told)
    assert words in subject
    assert [line for line in text.splitlines() if line.startswith("- ")] == [
        f"- texto {n}" for n in range(count)
    ]
    assert "Cada aviso é enviado uma só vez; falhas iguais, uma vez por dia." in text
