"""Memory of one load: the most the loading process holds while it loads a million messages.

A process of its own loads one file shaped like the reference load W; PostgreSQL is not counted.
At most 400 MB. Run: ``.venv/bin/python benchmarks/inbound_memory.py``.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from inbound_load import W, fresh, load

from gatte_pipelines.database import embedded, engine, migrate, roles
from gatte_pipelines.inbound.load import CHUNK_UNITS
from gatte_pipelines.sandbox.traffic import TrafficPlan, write_traffic

TARGET_MB = 400
MESSAGES = 1_000_000
MESSAGES_PER_USER = 10


def peak_mb() -> float:
    """The most memory this process has had resident since its program began, in MB (10^6 bytes)."""
    status = Path("/proc/self/status")
    if status.exists():
        # getrusage would count what the parent held before this program replaced it.
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024 / 1e6
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def load_here(socket_folder: str, file: Path, as_of: datetime, chunk_units: int) -> None:
    """Load the file in this process and print what came of it as JSON."""
    before = peak_mb()
    server = embedded.EmbeddedServer(socket_folder)
    report = load(server, "loaded", file, as_of, chunk_units)
    print(
        json.dumps(
            {
                "before_mb": before,
                "peak_mb": peak_mb(),
                "seconds": report.seconds,
                "received": report.received,
            }
        )
    )


def main() -> int:
    """Run the benchmark and print its line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=MESSAGES)
    parser.add_argument("--chatbot-pct", type=float, default=0.0)
    parser.add_argument("--chunk-units", type=int, default=CHUNK_UNITS)
    parser.add_argument("--child", nargs=3, metavar=("SOCKET_FOLDER", "FILE", "AS_OF"))
    arguments = parser.parse_args()
    if arguments.child:
        socket_folder, file_name, as_of = arguments.child
        load_here(
            socket_folder, Path(file_name), datetime.fromisoformat(as_of), arguments.chunk_units
        )
        return 0
    plan = replace(
        TrafficPlan(**W),
        messages=arguments.messages,
        users=max(1, arguments.messages // MESSAGES_PER_USER),
        chatbot_pct=arguments.chatbot_pct,
    )
    with tempfile.TemporaryDirectory(prefix="gb-") as folder_name:
        folder = Path(folder_name)
        file = folder / "w" / "w.jsonl"
        file.parent.mkdir()
        with file.open("wb") as out:
            counts = write_traffic(plan, out)
        print(f"input: {counts.bytes_written / 1e6:,.0f} MB, {counts.updates:,} units")
        with embedded.start(folder) as server:
            with engine.connect(engine.make_engine(server.url(embedded.SUPERUSER))) as owner:
                roles.create(owner)
                migrate.migrate(owner)
            fresh(server, "loaded")
            child = subprocess.run(
                [
                    *(sys.executable, __file__, "--chunk-units", str(arguments.chunk_units)),
                    *("--child", server.socket_folder, str(file), plan.as_of.isoformat()),
                ],
                check=True,
                stdout=subprocess.PIPE,
                text=True,
            )
    told = json.loads(child.stdout.splitlines()[-1])
    if told["received"] != counts.updates:
        print("the load lost units", file=sys.stderr)
        return 1
    print(f"loaded in {told['seconds']:.1f} s, {told['before_mb']:.0f} MB before the first line")
    print(
        f"inbound load of {plan.messages:,} messages: {told['peak_mb']:.0f} MB at its peak "
        f"(target at most {TARGET_MB})"
    )
    return 0 if told["peak_mb"] <= TARGET_MB else 1


if __name__ == "__main__":
    raise SystemExit(main())
