"""`gatte inbound load` as a process of its own, with smaller chunks, for tests that kill it.

Run as ``python -m tests.database.loader_process CHUNK_UNITS [--stop-before-archive] ARGUMENT…``;
all but the size of a chunk is the real command.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from gatte_pipelines.run_report import RunReport
from tests.postgres import ID_KEY, TestDatabase

REPOSITORY = Path(__file__).resolve().parents[2]
STOP_BEFORE_ARCHIVE = "--stop-before-archive"
READY_TO_ARCHIVE = "ready to archive"


class LoaderProcess:
    """A running loader.

    Args:
        database: What it loads into.
        paths: Files to load; the landing zone of ``home`` where there are none.
        as_of: The instant of its run.
        chunk_units: Units of one transaction.
        stop_before_archive: Stand still for ever between the last commit and the archive.
    """

    def __init__(
        self,
        database: TestDatabase,
        paths: list[Path],
        as_of: datetime,
        *,
        chunk_units: int,
        stop_before_archive: bool = False,
    ) -> None:
        settings = database.settings()
        environment = {name: text for name, text in os.environ.items() if "GATTE_" not in name}
        environment |= {
            "GATTE_HOME": str(settings.home),
            "GATTE_DATABASE_URL": str(settings.database_url),
            "GATTE_ID_KEY": ID_KEY.decode(),
            "PYTHONPATH": str(REPOSITORY),
        }
        arguments = [str(chunk_units), *([STOP_BEFORE_ARCHIVE] if stop_before_archive else [])]
        arguments += ["inbound", "load", "--json", "--as-of", as_of.isoformat()]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.database.loader_process", *arguments, *map(str, paths)],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> LoaderProcess:
        return self

    def __exit__(self, *_error: object) -> None:
        """Leave nothing running behind a test that fails."""
        self.kill()

    @property
    def is_running(self) -> bool:
        return self._process.poll() is None

    def kill(self) -> None:
        """SIGKILL: nothing of the process runs any more, not even a ``finally``."""
        self._process.kill()
        if self._process.stdout and not self._process.stdout.closed:
            self._process.communicate()

    def wait_until_ready_to_archive(self) -> None:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line.strip() == READY_TO_ARCHIVE, line + self._process.communicate()[1]

    def finish(self, timeout: float = 240) -> RunReport:
        """Wait for a good end; its balanced report."""
        try:
            output, errors = self._process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            raise
        assert self._process.returncode == 0, errors
        assert not re.search("deadlock|error|warning", errors, re.IGNORECASE), errors
        report = RunReport.from_json(output.splitlines()[-1])
        report.balance()
        return report


def _stop_before_archive(*_arguments: Any) -> NoReturn:
    sys.stdout.write(f"{READY_TO_ARCHIVE}\n")
    sys.stdout.flush()
    threading.Event().wait()
    raise AssertionError


def main(arguments: list[str]) -> None:
    """Give the loader smaller chunks and run the command line."""
    from gatte_pipelines import cli
    from gatte_pipelines.inbound import load
    from gatte_pipelines.landing import LandingZone

    chunk_units, *rest = arguments
    loader: Any = load
    loader.Loader = partial(load.Loader, chunk_units=int(chunk_units))
    if rest[0] == STOP_BEFORE_ARCHIVE:
        zone: Any = LandingZone
        zone.archive = _stop_before_archive
        del rest[0]
    sys.argv = ["gatte", *rest]
    cli.main()


if __name__ == "__main__":
    main(sys.argv[1:])
