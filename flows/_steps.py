"""The steps of one night: each a task of the same run, in order, and how the run ends.

A step that fails, or that a gate, a person or a plan keeps from its work, stops what needs it and
nothing else. What a step does belongs to its operation, which steps there are to ``nightly``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from prefect.artifacts import create_markdown_artifact
from prefect.states import Completed, Failed

from flows._reporting import artifact_key, state_message
from gatte_pipelines.run_report import Outcome, RunReport, pipeline_pt

if TYPE_CHECKING:
    from prefect.client.schemas.objects import State


@dataclass(frozen=True)
class Step:
    """One step.

    Attributes:
        pipeline: What it runs.
        run: Calls its task with ``as_of`` and gives the task's final state.
        needs: Pipelines of earlier steps without whose work it makes no sense.
    """

    pipeline: str
    run: Callable[[str], State[RunReport]]
    needs: tuple[str, ...] = ()


@dataclass(frozen=True)
class StepEnd:
    """How a step ended.

    Attributes:
        pipeline: What it ran.
        report: Of its operation; None where it failed or was not begun.
        failure: What its task's state says where it failed.
        waits_for: The pipelines that were not done, where it was not begun.
    """

    pipeline: str
    report: RunReport | None = None
    failure: str = ""
    waits_for: tuple[str, ...] = ()

    @property
    def has_failed(self) -> bool:
        """Whether its task failed."""
        return self.report is None and not self.waits_for

    @property
    def is_done(self) -> bool:
        """Whether what needs this step may begin: it did its work, or there was none."""
        report = self.report
        return report is not None and (
            report.outcome is Outcome.COMPLETED or report.reason == "nothing_to_do"
        )

    def describe(self) -> str:
        """One line in Portuguese."""
        name = pipeline_pt(self.pipeline)
        if self.report is not None:
            return f"{name} – {state_message(self.report)}"
        if self.waits_for:
            needed = ", ".join(map(pipeline_pt, self.waits_for))
            return f"{name} – não iniciado, depende de {needed}"
        return f"{name} – falhou: {self.failure}"


def run_steps(steps: Sequence[Step], as_of: str) -> list[StepEnd]:
    """Run steps one after the other, but for those that need one that was not done.

    Args:
        steps: In an order in which every step comes after those it needs.
        as_of: Handed to each.
    """
    ends: dict[str, StepEnd] = {}
    for step in steps:
        undone = tuple(name for name in step.needs if not ends[name].is_done)
        if undone:
            ends[step.pipeline] = StepEnd(step.pipeline, waits_for=undone)
            continue
        state = step.run(as_of)
        ends[step.pipeline] = (
            StepEnd(step.pipeline, report=state.result())
            if state.is_completed()
            else StepEnd(step.pipeline, failure=state.message or state.name or "")
        )
    return list(ends.values())


def end_of_steps(pipeline: str, ends: Sequence[StepEnd]) -> State[Any]:
    """Write the end card of the run and give the state in which it ends.

    Failed where a step failed; otherwise as the one that most needs a person: a step that waits
    for approval, one that was not done, all that had nothing to do.

    Args:
        pipeline: Name of the flow.
        ends: Of its steps.
    """
    # What failed first: the interface shows the beginning of a long message.
    told = sorted(ends, key=lambda end: (not end.has_failed, end.is_done))
    message = "; ".join(end.describe() for end in told)
    outcomes = {end.report.outcome for end in ends if end.report is not None}
    state: State[Any]
    if any(end.has_failed for end in ends):
        state, word = Failed(message=message), "falhou"
    elif Outcome.NEEDS_APPROVAL in outcomes:
        state, word = Completed(name="NeedsApproval", message=message), "aguarda aprovação"
    elif outcomes == {Outcome.SKIPPED}:
        state, word = Completed(name="Skipped", message=message), "nada feito"
    else:
        state, word = Completed(message=message), "concluída"
    lines = [f"### {pipeline_pt(pipeline)}: {word}", "", *(f"- {end.describe()}" for end in ends)]
    create_markdown_artifact(
        key=artifact_key(pipeline), markdown="\n".join(lines), description="Passos da execução"
    )
    return state
