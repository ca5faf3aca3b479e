"""Appends to the privacy ledger in a process of its own, for tests that run two or kill one.

Run as ``python -m tests.database.ledger_process URL FOLDER COUNT STOP``: COUNT intents, each with
its outcome. STOP names where the process stands still, once, for ever.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn

from tests.postgres import TestDatabase

REPOSITORY = Path(__file__).resolve().parents[2]
AT = datetime(2026, 3, 2, 12, tzinfo=UTC)
RUN_ID = "0b0e0a5e-0000-4000-8000-000000000001"
BEFORE_OUTSIDE, IN_THE_LINE, BEFORE_FSYNC, AFTER_INTENT, NOWHERE = (
    "before_outside",
    "in_the_line",
    "before_fsync",
    "after_intent",
    "nowhere",
)
_READY = "stands still"


def intent(**changes: Any) -> dict[str, Any]:
    """The body of an intent."""
    body = {
        "rule": "messages_content",
        "as_of": AT,
        "from": AT,
        "to": AT,
        "count": 5,
        "run_id": RUN_ID,
    }
    return body | changes


class LedgerProcess:
    """A running process that appends."""

    def __init__(
        self, database: TestDatabase, folder: Path, *, count: int = 1, stop: str = NOWHERE
    ) -> None:
        url = database.url_pipeline.render_as_string(hide_password=False)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.database.ledger_process", url, folder, str(count), stop],
            env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> LedgerProcess:
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        """Leave nothing running behind a test that fails."""
        self.kill()

    def wait_until_it_stands_still(self) -> None:
        assert self._process.stdout is not None
        assert self._process.stdout.readline().strip() == _READY

    def kill(self) -> None:
        """SIGKILL: nothing of the process runs any more, not even a ``finally``."""
        self._process.kill()
        if self._process.stdout and not self._process.stdout.closed:
            self._process.communicate()

    def finish(self) -> None:
        self._process.communicate(timeout=120)
        assert self._process.returncode == 0


def _stand_still(*_arguments: Any) -> NoReturn:
    sys.stdout.write(f"{_READY}\n")
    sys.stdout.flush()
    threading.Event().wait()
    raise AssertionError


def _write_half(file: int, data: Any) -> int:
    os.pwrite(file, bytes(data)[: len(data) // 2], os.fstat(file).st_size)
    _stand_still()


def main(url: str, folder: str, count: str, stop: str) -> None:
    """Append, and stand still where the test wants it."""
    from gatte_pipelines.database.engine import connect, make_engine, psycopg_connection
    from gatte_pipelines.privacy.ledger import Ledger, OutsideCopy

    system: Any = os
    copy: Any = OutsideCopy
    if stop == BEFORE_OUTSIDE:
        copy.append = _stand_still
    elif stop == IN_THE_LINE:
        system.write = _write_half
    elif stop == BEFORE_FSYNC:
        system.fsync = _stand_still
    engine = make_engine(url)
    with connect(engine) as connection, connect(engine) as work:
        ledger = Ledger(psycopg_connection(connection), OutsideCopy(folder))
        for _ in range(int(count)):
            seq = ledger.append("intent", intent(), at=AT)
            if stop == AFTER_INTENT:
                _stand_still()
            driver = psycopg_connection(work)
            with driver.transaction(), driver.cursor() as cursor:
                ledger.append_within(cursor, "outcome", {"intent": seq, "done": 5}, at=AT)
        ledger.catch_up()


if __name__ == "__main__":
    main(*sys.argv[1:])
