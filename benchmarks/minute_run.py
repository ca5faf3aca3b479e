"""A minute's inbound run that finds nothing ÷ an empty Prefect flow run: at most 1.3.

Both are whole processes against one Prefect server and the embedded PostgreSQL: from starting
``python -m prefect.engine``, which the worker starts for each run, to its end. They alternate, so
that a busy machine is busy for both; the ratio is that of the medians.
Run: ``.venv/bin/python benchmarks/minute_run.py [PAIRS]``.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from gatte_pipelines.sandbox.local_stack import LocalStack
from gatte_pipelines.settings import Settings

TARGET = 1.3
PAIRS = 7
EMPTY_FLOW = '''
from prefect import flow


@flow(name="empty")
def empty() -> None:
    """Does nothing."""
'''
EMPTY_DEPLOYMENT = """
name: benchmark
deployments:
  - name: empty
    entrypoint: empty.py:empty
    work_pool:
      name: gatte
"""


def deploy_empty(stack: LocalStack, folder: Path) -> None:
    """Deploy the flow that is measured against."""
    (folder / "empty.py").write_text(EMPTY_FLOW)
    (folder / "prefect.yaml").write_text(EMPTY_DEPLOYMENT)
    subprocess.run(
        [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all"],
        cwd=folder,
        env=stack.environment(),
        check=True,
        capture_output=True,
    )


def measure(stack: LocalStack, name: str) -> float:
    """Seconds of one run's process."""
    run = stack.api.create_run(name, {})
    environment = {**stack.environment(), "PREFECT__FLOW_RUN_ID": run.run_id}
    started = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "prefect.engine"],
        cwd=stack.project,
        env=environment,
        check=True,
        capture_output=True,
    )
    seconds = time.perf_counter() - started
    ended = stack.api.read_run(run.run_id)
    if not ended.ended_well:
        raise SystemExit(f"{name} ended as {ended.state_name}: {ended.message}")
    return seconds


def main() -> int:
    """Measure and print the ratio beside its target."""
    pairs = int(sys.argv[1]) if len(sys.argv) > 1 else PAIRS
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(home=Path(folder) / "home")
        with LocalStack(settings, print, schedules=False) as stack:
            deploy_empty(stack, Path(folder))
            # The worker would take the runs; this program stands in its place.
            stack.api.pause_work_pool("gatte", paused=True)
            names = ("empty", "inbound_messages")
            for name in names:
                measure(stack, name)
            seconds = {name: [] for name in names}
            for _ in range(pairs):
                for name in names:
                    seconds[name].append(measure(stack, name))
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    ratio = medians["inbound_messages"] / medians["empty"]
    print(
        f"minute run that finds nothing ÷ empty flow run: {ratio:.2f} (target: at most {TARGET}); "
        f"medians of {pairs} alternating pairs: {medians['inbound_messages']:.2f} s ÷ "
        f"{medians['empty']:.2f} s"
    )
    return 0 if ratio <= TARGET else 1


if __name__ == "__main__":
    sys.exit(main())
