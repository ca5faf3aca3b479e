"""The process that keeps the stack of ``make up`` running.

What it keeps running belongs to ``local_stack``.
"""

from __future__ import annotations

import sys

from gatte_pipelines.errors import GatteError
from gatte_pipelines.sandbox.local_stack import supervise
from gatte_pipelines.settings import Settings


def main() -> int:
    """Supervise until told to stop; lines of progress go to standard output, which is a log."""

    def echo(line: str) -> None:
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()

    try:
        supervise(Settings.from_environment(), echo)
    except GatteError as error:
        echo(f"error: {error}")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
