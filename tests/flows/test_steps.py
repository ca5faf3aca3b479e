"""A night's steps: what stops what, and how the run ends."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
from prefect.states import Completed, Failed

from flows import _steps
from flows._steps import Step, end_of_steps, run_steps
from gatte_pipelines.run_report import Outcome, RunReport

if TYPE_CHECKING:
    from prefect.client.schemas.objects import State

pytestmark = pytest.mark.prefect

AS_OF = "2026-11-22T02:00:00-03:00"


class Night:
    """Steps that note when they are run, and the card that the run leaves."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.begun: list[tuple[str, str]] = []
        self.card = ""
        monkeypatch.setattr(_steps, "create_markdown_artifact", self._keep)

    def _keep(self, *, key: str, markdown: str, description: str) -> None:
        assert (key, description) == ("nightly", "Passos da execução")
        self.card = markdown

    def step(self, pipeline: str, state: State[Any], *needs: str) -> Step:
        def run(as_of: str) -> State[Any]:
            self.begun.append((pipeline, as_of))
            return state

        return Step(pipeline, run, needs)

    def end(self, *steps: Step) -> State[Any]:
        return end_of_steps("nightly", run_steps(steps, AS_OF))


@pytest.fixture
def night(monkeypatch: pytest.MonkeyPatch) -> Night:
    return Night(monkeypatch)


def ended(outcome: Outcome = Outcome.COMPLETED, **values: Any) -> State[Any]:
    report = RunReport(
        pipeline="lgpd_retention",
        run_id=uuid4(),
        as_of=datetime(2026, 11, 22, 5, tzinfo=UTC),
        outcome=outcome,
        **values,
    )
    return Completed(data=report)


DONE: Callable[[], State[Any]] = lambda: ended(received=3, updated=3)  # noqa: E731
BROKEN: Callable[[], State[Any]] = lambda: Failed(message="o banco não respondeu")  # noqa: E731


def test_steps_run_in_their_order_with_the_instant_of_the_night(night: Night) -> None:
    state = night.end(
        night.step("lgpd_retention", DONE()), night.step("watchdog", DONE(), "lgpd_retention")
    )
    assert night.begun == [("lgpd_retention", AS_OF), ("watchdog", AS_OF)]
    assert (state.type.value, state.name) == ("COMPLETED", "Completed")
    assert night.card.startswith("### Rotina da noite: concluída\n\n- Retenção LGPD – 3 vencidos")


def test_a_failed_step_stops_what_needs_it_and_nothing_else(night: Night) -> None:
    state = night.end(
        night.step("lgpd_retention", BROKEN()),
        night.step("quality", DONE(), "lgpd_retention"),
        night.step("portal", DONE(), "quality"),
        night.step("certificates", DONE()),
    )
    assert [name for name, _ in night.begun] == ["lgpd_retention", "certificates"]
    assert state.type.value == "FAILED"
    assert state.message is not None
    assert state.message.startswith("Retenção LGPD – falhou: o banco não respondeu; ")
    assert "quality – não iniciado, depende de Retenção LGPD" in state.message
    assert "portal – não iniciado, depende de quality" in state.message
    assert "certificates – 3 vencidos" in state.message


@pytest.mark.parametrize(
    ("outcome", "reason", "name"),
    [
        (Outcome.NEEDS_APPROVAL, "mass_change", "NeedsApproval"),
        (Outcome.SKIPPED, "paused", "Completed"),
        (Outcome.SKIPPED, "already_running", "Completed"),
    ],
)
def test_a_step_that_was_kept_from_its_work_stops_what_needs_it(
    night: Night, outcome: Outcome, reason: str, name: str
) -> None:
    state = night.end(
        night.step("lgpd_retention", ended(outcome, reason=reason)),
        night.step("quality", DONE(), "lgpd_retention"),
        night.step("certificates", DONE()),
    )
    assert [step for step, _ in night.begun] == ["lgpd_retention", "certificates"]
    assert (state.type.value, state.name) == ("COMPLETED", name)


def test_a_step_with_nothing_to_do_stops_nothing(night: Night) -> None:
    state = night.end(
        night.step("lgpd_retention", ended(Outcome.SKIPPED, reason="nothing_to_do")),
        night.step("quality", DONE(), "lgpd_retention"),
    )
    assert len(night.begun) == 2
    assert state.name == "Completed"


def test_a_night_without_any_work_is_skipped(night: Night) -> None:
    state = night.end(night.step("lgpd_retention", ended(Outcome.SKIPPED, reason="nothing_to_do")))
    assert (state.type.value, state.name) == ("COMPLETED", "Skipped")
    assert state.message == "Retenção LGPD – nada a fazer"


def test_a_failure_counts_more_than_a_plan_that_waits(night: Night) -> None:
    state = night.end(
        night.step("quality", ended(Outcome.NEEDS_APPROVAL, reason="mass_change")),
        night.step("lgpd_retention", BROKEN()),
    )
    assert state.type.value == "FAILED"
    assert night.card.startswith("### Rotina da noite: falhou")
