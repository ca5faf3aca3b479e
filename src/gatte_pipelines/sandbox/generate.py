"""Write generated traffic to a file that appears by rename, as real batches do.

What is generated belongs to ``traffic``.
"""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, cast

from gatte_pipelines.errors import BadInputError
from gatte_pipelines.sandbox.traffic import TrafficCounts, TrafficPlan, write_traffic


def generate(
    plan: TrafficPlan, out: Path, on_messages: Callable[[int], None] | None = None
) -> TrafficCounts:
    """Write the traffic of a plan to ``out``, compressed where its name ends in ``.gz``.

    Raises:
        BadInputError: The file cannot be written.
    """
    partial = out.with_name(f"{out.name}.part")
    try:
        with partial.open("wb") as raw:
            if out.suffix == ".gz":
                # No name and no time in the header: the same plan gives the same bytes.
                with gzip.GzipFile("", "wb", fileobj=raw, mtime=0) as compressed:
                    counts = write_traffic(
                        plan, cast("BinaryIO", compressed), on_messages=on_messages
                    )
            else:
                counts = write_traffic(plan, raw, on_messages=on_messages)
        partial.rename(out)
    except OSError as error:
        raise BadInputError(
            str(out), None, None, f"cannot be written ({type(error).__name__})"
        ) from None
    return counts
