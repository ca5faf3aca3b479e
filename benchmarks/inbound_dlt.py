"""Inbound load against dlt: our messages a second over dlt's, at least 1.5.

dlt (PyPI ``dlt[postgres]``) reads the same bodies (but for the bad records, which would stop it),
takes the messages out of them and merges id, phone, instant and text on the id into one flat table.
We load the whole file W: statuses, bad records, identities, conversations, contexts, balance. With
``--flat`` dlt is handed one ready JSON line a message instead, made before the clock starts.

dlt lives in a virtual environment of its own under ``GATTE_HOME``/benchmark, made once by this
script, and sends no telemetry. Timed are its ``pipeline.run`` and our load, each into a database of
its own in one embedded server, in turns. Run: ``.venv/bin/python benchmarks/inbound_dlt.py``.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
from inbound_load import W, fresh, load

from gatte_pipelines.database import embedded, engine, migrate, roles
from gatte_pipelines.inbound.load import CHUNK_UNITS
from gatte_pipelines.sandbox.traffic import TrafficPlan, write_traffic
from gatte_pipelines.settings import Settings

TARGET = 1.5
DLT = "dlt[postgres]==1.31.0"
# What runs under dlt's own Python; the arguments are a folder, a database URL and a file format.
DLT_SCRIPT = """
import json
import sys
import time
from pathlib import Path

import dlt
from dlt.sources.filesystem import filesystem, read_jsonl

folder, url, file_format = sys.argv[1:]


@dlt.transformer(name="messages")
def messages_of(bodies):
    for body in bodies:
        for entry in body["entry"]:
            for change in entry["changes"]:
                for message in change["value"].get("messages", ()):
                    yield {
                        "id": message["id"],
                        "phone": message["from"],
                        "sent_at": int(message["timestamp"]),
                        "body": message["text"]["body"],
                    }


lines = filesystem(bucket_url=f"file://{folder}", file_glob="*.jsonl") | read_jsonl()
is_flat = Path(folder, "messages.jsonl").exists()
messages = lines.with_name("messages") if is_flat else lines | messages_of
messages.apply_hints(write_disposition="merge", primary_key="id")
pipeline = dlt.pipeline(
    pipeline_name="benchmark",
    pipelines_dir=f"{folder}/pipelines",
    destination=dlt.destinations.postgres(credentials=url),
    dataset_name="dlt_messages",
)
started = time.perf_counter()
pipeline.run(messages, loader_file_format=file_format).raise_on_failed_jobs()
print(json.dumps({"seconds": time.perf_counter() - started}))
"""


def dlt_python(home: Path) -> Path:
    """The Python of dlt's virtual environment; made where it is not there yet."""
    folder = home / "benchmark" / DLT.replace("[", "-").replace("]==", "-")
    python = folder / "bin" / "python"
    if not (folder / "ready").exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.parent.mkdir(parents=True, exist_ok=True)
        print(f"installing {DLT} in {folder}", flush=True)
        uv = [sys.executable, "-m", "uv"]
        for arguments in (
            ["venv", "--quiet", "--python", sys.executable, str(folder)],
            ["pip", "install", "--quiet", "--python", str(python), DLT],
        ):
            subprocess.run([*uv, *arguments], check=True)
        (folder / "ready").touch()
    return python.absolute()


def prepare(source: Path, folder: Path, latest: int, *, is_flat: bool) -> int:
    """Write what dlt reads: the same bodies without their bad records, or flat messages.

    Args:
        source: Webhook bodies, one a line.
        folder: Where to.
        latest: Unix seconds; later messages are bad.
        is_flat: One JSON line a message instead of the bodies.

    Returns:
        The messages written, redeliveries too.
    """
    written = 0
    out = folder / ("messages.jsonl" if is_flat else "bodies.jsonl")
    with source.open("rb") as lines, out.open("w", encoding="utf-8") as target:
        for line in lines:
            try:
                body = json.loads(line)
            except ValueError:
                continue
            for entry in body["entry"]:
                for change in entry["changes"]:
                    value = change["value"]
                    contacts = value.get("contacts", ())
                    rows = [
                        (message, flat(message, contacts, latest))
                        for message in value.get("messages", ())
                    ]
                    good = [(message, row) for message, row in rows if row is not None]
                    written += len(good)
                    if is_flat:
                        for _, row in good:
                            target.write(json.dumps(row, ensure_ascii=False) + "\n")
                    elif rows:
                        value["messages"] = [message for message, _ in good]
            if not is_flat:
                target.write(json.dumps(body, ensure_ascii=False, separators=(",", ":")) + "\n")
    return written


def flat(message: dict[str, Any], contacts: list[dict[str, Any]], latest: int) -> Any:
    """One message as a flat row; None where it is one of the bad records of W."""
    text, instant, phone = message.get("text"), message["timestamp"], message["from"]
    if "id" not in message or text is None or not isinstance(text["body"], str):
        return None
    if not instant.isdecimal() or int(instant) > latest or "\x00" in text["body"]:
        return None
    if not phone.isdecimal() or len(phone) > 15:
        return None
    if any(len(contact["profile"]["name"]) > 150 for contact in contacts):
        return None
    return {"id": message["id"], "phone": phone, "sent_at": int(instant), "body": text["body"]}


def run_dlt(python: Path, server: embedded.EmbeddedServer, folder: Path, file_format: str) -> float:
    """Seconds of dlt's own run into the database ``dlt``."""
    shutil.rmtree(folder / "pipelines", ignore_errors=True)
    # libpq takes the folder of the socket from the query; the host before it only has to be there.
    url = f"postgresql://{embedded.SUPERUSER}:unused@localhost/dlt?host={server.socket_folder}"
    run = subprocess.run(
        [python, "-c", DLT_SCRIPT, str(folder), url, file_format],
        env={
            **{name: text for name, text in os.environ.items() if name != "PYTHONPATH"},
            "RUNTIME__DLTHUB_TELEMETRY": "false",
            "RUNTIME__LOG_LEVEL": "CRITICAL",
            "DLT_DATA_DIR": str(folder / "pipelines"),
            "DLT_PROJECT_DIR": str(folder),
        },
        cwd=folder,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    return float(json.loads(run.stdout.splitlines()[-1])["seconds"])


def main() -> int:
    """Run the benchmark and print its table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--messages", type=int, default=W["messages"])
    parser.add_argument("--users", type=int, default=W["users"])
    parser.add_argument("--chunk-units", type=int, default=CHUNK_UNITS)
    parser.add_argument(
        "--file-format",
        choices=("insert_values", "csv"),
        default="insert_values",
        help="how dlt writes to PostgreSQL: its default, or COPY",
    )
    parser.add_argument("--flat", action="store_true", help="hand dlt ready flat messages")
    arguments = parser.parse_args()
    plan = replace(TrafficPlan(**W), messages=arguments.messages, users=arguments.users)
    python = dlt_python(Settings.from_environment().home)
    ours: list[float] = []
    theirs: list[float] = []
    with tempfile.TemporaryDirectory(prefix="gb-") as folder_name:
        folder = Path(folder_name)
        file, dlt_folder = folder / "w" / "w.jsonl", folder / "dlt"
        file.parent.mkdir()
        dlt_folder.mkdir()
        with file.open("wb") as out:
            counts = write_traffic(plan, out)
        lines = prepare(file, dlt_folder, int(plan.as_of.timestamp()), is_flat=arguments.flat)
        print(f"input: {counts.updates:,} units for us, {lines:,} messages for dlt", flush=True)
        if lines != counts.messages + counts.redeliveries:
            print("what dlt reads are not the messages of the file", file=sys.stderr)
            return 1
        with embedded.start(folder) as server:
            with engine.connect(engine.make_engine(server.url(embedded.SUPERUSER))) as owner:
                roles.create(owner)
                migrate.migrate(owner)
            for number in range(1, arguments.rounds + 1):
                fresh(server, "loaded")
                report = load(server, "loaded", file, plan.as_of, arguments.chunk_units)
                if report.received != counts.updates:
                    print("the load lost units", file=sys.stderr)
                    return 1
                ours.append(plan.messages / report.seconds)
                fresh(server, "dlt", "template0")
                theirs.append(
                    plan.messages / run_dlt(python, server, dlt_folder, arguments.file_format)
                )
                with psycopg.connect(
                    host=server.socket_folder, user=embedded.SUPERUSER, dbname="dlt"
                ) as connection:
                    row = connection.execute("select count(*) from dlt_messages.messages")
                    if row.fetchone() != (plan.messages,):
                        print("dlt did not load every message once", file=sys.stderr)
                        return 1
                print(
                    f"round {number}: ours {ours[-1]:,.0f} messages/s, dlt {theirs[-1]:,.0f}",
                    flush=True,
                )
    ratio = statistics.median(ours) / statistics.median(theirs)
    reads = "flat messages" if arguments.flat else "the same bodies"
    print(
        f"inbound load ÷ {DLT} ({reads}, {arguments.file_format}), messages a second: {ratio:.2f} "
        f"(target at least {TARGET})"
    )
    return 0 if ratio >= TARGET else 1


if __name__ == "__main__":
    raise SystemExit(main())
