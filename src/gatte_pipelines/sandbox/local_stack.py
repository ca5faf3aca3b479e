"""Prefect server, worker and database of one machine, started and stopped together.

For a fresh machine, development and tests. Drives the ``prefect`` command and the server's REST
API; importing Prefect belongs to flows/. What a flow does belongs to the operations.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from itertools import zip_longest
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import yaml

from gatte_pipelines.errors import ConfigurationError, GatteError, RetryableError
from gatte_pipelines.run_report import RunReport
from gatte_pipelines.sandbox.local_stack_api import ACTIVE, FlowRun, PrefectApi
from gatte_pipelines.sandbox.local_stack_processes import (
    RECORD,
    ManagedProcess,
    ProcessRecord,
    StackRecord,
    clear_leftovers,
    is_group_alive,
    only_one,
    stop_recorded,
)
from gatte_pipelines.sandbox.local_stack_setup import (
    lay_sample_certificates,
    lay_sample_input,
    lay_sample_leads,
    prepared,
    read_contents,
    read_waiting_plan,
    sample_parameters,
    settings_variables,
)
from gatte_pipelines.settings import PREFIX, Settings

Echo = Callable[[str], None]

POOL = "gatte"
LIVE_QUEUE, BACKFILL_QUEUE = "live", "backfill"
# Priority 1 is served first. One backfill at a time: on one machine two would starve live runs.
LIVE_PRIORITY, BACKFILL_PRIORITY, BACKFILL_LIMIT = 1, 2, 1

PREFECT = (sys.executable, "-m", "prefect")
HOST = "127.0.0.1"
# Where people expect Prefect; taken by `make up` when it is free.
USUAL_PORT = 4200

# The first start migrates Prefect's own database: 8 s warm, 13-30 s on two busy cores.
SERVER_START_SECONDS = 180.0
WORKER_START_SECONDS = 90.0
DEPLOY_SECONDS = 120.0
# Runs get this long to end by themselves when the stack stops; a minute's run takes seconds.
RUNS_GRACE_SECONDS = 30.0
STOP_SECONDS = 20.0
POLL_SECONDS = 0.2
# Runs at a time. On SQLite the server stands still for a minute when some fifteen change state at
# once (tried with sixty late runs), and each run is a process of 100 MB that imports for seconds.
WORKER_LIMIT = 5
# How far ahead scheduled runs are created; each of them is late at once when the server was down.
SCHEDULED_AHEAD = timedelta(minutes=10)
# How often the server says while starting that it still is.
PATIENCE_SECONDS = 10.0
# Runs and their artifacts are a store like any other (rule S3): what the policy's rule prefect_runs
# says. The server deletes by its own clock; flows/_prefect_retention.py proves it.
RUNS_KEPT = timedelta(days=90)
# Events repeat messages of states and the text of artifacts; only the server can delete them.
EVENTS_KEPT = timedelta(days=7)

SUPERVISION_SECONDS = 2.0
RUN_ONCE_SECONDS = 240.0
SUPERVISOR = "gatte_pipelines.sandbox.local_stack_supervisor"
# In the order of `make run`: what comes later shows what the earlier ones left.
FLOWS = (
    "inbound_messages",
    "session_context_expiry",
    "quarantine_replay",
    "certificate_alerts",
    "crm_sync",
    "lgpd_retention",
    "lgpd_subject_request",
    "data_quality",
    "resolve_conflict",
    "nightly",
    "watchdog",
)
COUNTS = ("received", "inserted", "updated", "duplicate")
SUMMARY_WIDTH = 120

_ORPHAN_MESSAGE = "O processo desta execução terminou junto com o servidor; a próxima continua."


class LocalStack:
    """A Prefect server and a worker on loopback, with the database and mailbox they need.

    A context manager. Only one stack runs under one ``home``; what a killed one left behind is
    cleared away first.

    Args:
        settings: Settings of the operations; a database URL of None means the embedded PostgreSQL,
            an SMTP URL of None the stand-in.
        echo: Called with lines of progress for a person.
        schedules: Whether scheduled runs are created.
        port: Port wanted for the server; a free one where it is taken or None.
        poll_seconds: How often the worker asks for runs.
        recover: Whether runs that a killed stack left behind are recorded as crashed at once;
            otherwise their slots come free when the lease ends, within about five minutes.
    """

    def __init__(
        self,
        settings: Settings,
        echo: Echo,
        *,
        schedules: bool = True,
        port: int | None = None,
        poll_seconds: float = 2.0,
        recover: bool = True,
    ) -> None:
        self.settings = dataclasses.replace(settings, home=settings.home.resolve())
        self.project = find_project()
        self._echo = echo
        self._schedules = schedules
        self._wanted_port = port
        self._poll_seconds = poll_seconds
        self._recover = recover
        self._resources = ExitStack()
        self._server: ManagedProcess | None = None
        self._worker: ManagedProcess | None = None
        self._record = StackRecord(supervisor=ProcessRecord.of(os.getpid()))
        self._api: PrefectApi | None = None
        self._env: dict[str, str] = {}
        self._port = 0

    # -- paths and links

    @property
    def home(self) -> Path:
        """The folder that everything of this stack is under."""
        return self.settings.home

    @property
    def logs(self) -> Path:
        """The folder of the logs of server, worker and supervisor."""
        return self.home / "logs"

    @property
    def api(self) -> PrefectApi:
        """The running server's API.

        Raises:
            ConfigurationError: The stack is not running.
        """
        if self._api is None:
            raise ConfigurationError("the local stack is not running")
        return self._api

    @property
    def processes(self) -> dict[str, int]:
        """Process ids, each also the number of its group, by name."""
        named = {"server": self._server, "worker": self._worker}
        return {name: item.process.pid for name, item in named.items() if item is not None}

    # -- life

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop(grace_seconds=0)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # Whoever leaves by Ctrl-C has waited long enough.
        self.stop(grace_seconds=RUNS_GRACE_SECONDS if kind is None else 0)

    def start(self) -> None:
        """Start database, mailbox, server and worker, and deploy every flow.

        Raises:
            ConfigurationError: A stack is already running under this home.
            RetryableError: Something did not start; the message has the end of its log.
        """
        self.home.mkdir(parents=True, exist_ok=True)
        self._resources.enter_context(only_one(self.home))
        clear_leftovers(self.home, STOP_SECONDS, self._echo)
        self.settings = self._resources.enter_context(prepared(self.settings, self._echo))
        if self._recover:
            # No run of an earlier stack lives, so nobody holds a lease.
            shutil.rmtree(self.home / "prefect" / "concurrency_leases", ignore_errors=True)
        self._start_server(self._wanted_port)
        self.api.ensure_work_pool(POOL)
        self.api.ensure_work_queue(POOL, LIVE_QUEUE, LIVE_PRIORITY, None)
        self.api.ensure_work_queue(POOL, BACKFILL_QUEUE, BACKFILL_PRIORITY, BACKFILL_LIMIT)
        if self._recover:
            self._crash_orphans()
            self.api.free_concurrency_slots()
            # What was due while nothing ran is covered by the next run, which goes on where the
            # last one stopped; dozens of late runs at once would only collide.
            self._pause_deployments(paused=True)
        # Both import Prefect for seconds; neither needs the other.
        deploying = self._start_deploying()
        worker = self._start_worker()
        self._await_deployed(deploying)
        self._await(worker, lambda: self.api.has_online_worker(POOL), WORKER_START_SECONDS)
        self._pause_deployments(paused=not self._schedules)
        self._record.ready = True
        self._write_record()

    def stop(self, *, grace_seconds: float = RUNS_GRACE_SECONDS) -> None:
        """Let runs end, then stop the worker, then the server, then what they stood on."""
        # A server that does not answer any more is stopped like one that does.
        answers = self._api is not None and self._api.is_healthy()
        with self._tolerated():
            if answers:
                self._stop_runs(grace_seconds)
        if self._worker is not None:
            self._worker.stop(STOP_SECONDS)
            self._worker = None
        with self._tolerated():
            if answers:
                self._crash_orphans()
        if self._api is not None:
            self._api.__exit__()
            self._api = None
        if self._server is not None:
            self._server.stop(STOP_SECONDS)
            self._server = None
            (self.home / RECORD).unlink(missing_ok=True)
        self._resources.close()

    def check(self) -> None:
        """Start again whatever died; the supervisor calls this every few seconds.

        Raises:
            RetryableError: It does not start any more.
        """
        if self._server is not None and not self._server.is_alive:
            self._echo(f"the Prefect server ended ({self._server.process.returncode}); restarting")
            self._server.stop(0)
            self._start_server(self._port)
        if self._worker is not None and not self._worker.is_alive:
            self._echo(f"the Prefect worker ended ({self._worker.process.returncode}); restarting")
            # Runs outlive their worker and report by themselves. Where none is left, whatever the
            # server believes to be running has lost its process.
            if not is_group_alive(self._worker.process.pid):
                self._crash_orphans()
            self._start_worker()

    # -- flow runs

    def run_flow(
        self,
        name: str,
        parameters: Mapping[str, Any] | None = None,
        timeout_seconds: float = 120,
        job_variables: Mapping[str, Any] | None = None,
    ) -> FlowRun:
        """Run a flow through its deployment and the worker, and wait for its end.

        Args:
            name: Name of the flow, which is the name of its deployment.
            parameters: Parameters that differ from the deployment's.
            timeout_seconds: How long to wait.
            job_variables: Of the worker's process; ``env`` adds to its environment.

        Raises:
            RetryableError: It did not end within ``timeout_seconds``.
        """
        created = self.api.create_run(name, dict(parameters or {}), dict(job_variables or {}))
        return self.api.wait_for_run(
            created.run_id,
            timeout_seconds,
            lambda: self._worker is not None and self._worker.is_alive,
        )

    # -- parts

    def environment(self) -> dict[str, str]:
        """Variables of server, worker and runs: this process's own but for Prefect's, and ours."""
        # Handed on whole to child processes. A profile or an API key of the developer's must not
        # lead a run to another server.
        inherited = {
            name: value
            for name, value in os.environ.items()  # noqa: TID251 - nothing of it is read here
            if not name.startswith(("PREFECT_", PREFIX))
        }
        bin_folder = str(Path(sys.executable).parent)
        return {
            **inherited,
            "PATH": os.pathsep.join([bin_folder, inherited.get("PATH", os.defpath)]),
            "DO_NOT_TRACK": "1",
            "NO_COLOR": "1",
            "PYTHONUNBUFFERED": "1",
            "PREFECT_HOME": str(self.home / "prefect"),
            "PREFECT_API_URL": f"http://{HOST}:{self._port}/api",
            "PREFECT_SERVER_API_HOST": HOST,
            "PREFECT_SERVER_API_PORT": str(self._port),
            # A page of another site, open in the same browser, must not read or start runs.
            "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": f"http://{HOST}:{self._port}",
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "PREFECT_SERVER_EPHEMERAL_ENABLED": "false",
            "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
            # Under home, not inside the installed package, which may be read-only.
            "PREFECT_SERVER_UI_STATIC_DIRECTORY": str(self.home / "prefect" / "ui"),
            # With the default, leases live in memory: after a kill of server, worker and run the
            # slot stays taken and every later run is Cancelled without a word. Kept in
            # PREFECT_HOME/concurrency_leases.
            "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": (
                "prefect.server.concurrency.lease_storage.filesystem"
            ),
            "PREFECT_SERVER_SERVICES_SCHEDULER_ENABLED": str(self._schedules).lower(),
            "PREFECT_SERVER_SERVICES_SCHEDULER_MIN_SCHEDULED_TIME": (
                f"PT{SCHEDULED_AHEAD.total_seconds():.0f}S"
            ),
            "PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED": "events,flow_runs",
            "PREFECT_SERVER_SERVICES_DB_VACUUM_RETENTION_PERIOD": (
                f"{RUNS_KEPT.total_seconds():.0f}"
            ),
            "PREFECT_SERVER_EVENTS_RETENTION_PERIOD": f"P{EVENTS_KEPT.days}D",
            "PREFECT_WORKER_QUERY_SECONDS": str(self._poll_seconds),
            "PREFECT_CLI_PROMPT": "false",
            "PREFECT_CLI_COLORS": "false",
            **settings_variables(self.settings),
        }

    def deployments(self) -> set[str]:
        """The names of the deployments in prefect.yaml."""
        content = yaml.safe_load((self.project / "prefect.yaml").read_text("utf-8"))
        return {item["name"] for item in content["deployments"]}

    def _start_server(self, port: int | None) -> None:
        self._port = free_port(port)
        self._env = self.environment()
        (self.home / "prefect").mkdir(parents=True, exist_ok=True)
        leases = self.home / "prefect" / "concurrency_leases"
        # Prefect's lock holds a process id. Of a killed server it may by now be another's, or even
        # the new server's own: that one would wait for itself, and no run would start any more.
        (leases / "expirations.lock").unlink(missing_ok=True)
        self._echo("starting the Prefect server")
        self._server = ManagedProcess.start(
            "Prefect server",
            [*PREFECT, "server", "start", "--host", HOST, "--port", str(self._port)],
            env=self._env,
            cwd=self.project,
            log=self.logs / "server.log",
        )
        self._write_record()
        if self._api is None or not self._api.url.endswith(f":{self._port}/api"):
            self._api = PrefectApi(f"http://{HOST}:{self._port}/api")
        self._await(self._server, self._api.is_healthy, SERVER_START_SECONDS)

    def _start_worker(self) -> ManagedProcess:
        self._worker = ManagedProcess.start(
            "Prefect worker",
            [*PREFECT, "worker", "start", *("--pool", POOL), *("--limit", str(WORKER_LIMIT))],
            env=self._env,
            cwd=self.project,
            log=self.logs / "worker.log",
        )
        self._write_record()
        return self._worker

    def _start_deploying(self) -> ManagedProcess:
        self._echo("deploying the flows")
        return ManagedProcess.start(
            "prefect deploy",
            [*PREFECT, "--no-prompt", "deploy", "--all", "--prefect-file", "prefect.yaml"],
            env=self._env,
            cwd=self.project,
            log=self.logs / "deploy.log",
        )

    def _await_deployed(self, deploying: ManagedProcess) -> None:
        ends_at = time.monotonic() + DEPLOY_SECONDS
        while deploying.is_alive and time.monotonic() < ends_at:
            time.sleep(POLL_SECONDS)
        code = deploying.process.poll()
        deploying.stop(0)
        # With --all, a flow that does not import is passed over and the exit code stays 0.
        missing = self.deployments() - self.api.read_deployments().keys() if code == 0 else set()
        if code != 0 or missing:
            raise RetryableError(
                f"prefect deploy ended with {code}, without {', '.join(sorted(missing)) or 'any'}; "
                f"the end of {deploying.log}:\n{deploying.log_tail(40)}"
            )

    def _await(
        self, process: ManagedProcess, is_ready: Callable[[], bool], timeout_seconds: float
    ) -> None:
        """Wait until a process is ready, and say so while it lasts."""
        started = said = time.monotonic()
        while not is_ready():
            now = time.monotonic()
            if not process.is_alive or now - started > timeout_seconds:
                state = "did not start in time" if process.is_alive else "ended while starting"
                raise RetryableError(
                    f"the {process.name} {state}; the end of {process.log}:\n{process.log_tail()}"
                )
            if now - said > PATIENCE_SECONDS:
                said = now
                self._echo(f"the {process.name} is still starting ({now - started:.0f} s)")
            time.sleep(POLL_SECONDS)

    @contextmanager
    def _tolerated(self) -> Iterator[None]:
        """Say what went wrong and go on: what follows must be stopped too."""
        try:
            yield
        except GatteError as error:
            self._echo(f"stopping: {error}")

    def _stop_runs(self, grace_seconds: float) -> None:
        """Let no further run start, and those that run end within ``grace_seconds``."""
        self.api.pause_work_pool(POOL, paused=True)
        ends_at = time.monotonic() + grace_seconds
        while (count := sum(1 for _ in self.api.iter_runs(None, *ACTIVE))) and (
            time.monotonic() < ends_at
        ):
            time.sleep(POLL_SECONDS)
        if count:
            self._echo(f"ending {count} flow runs that are still running")

    def _pause_deployments(self, *, paused: bool) -> None:
        for deployment_id in self.api.read_deployments().values():
            self.api.pause_deployment(deployment_id, paused=paused)

    def _crash_orphans(self) -> None:
        """Record runs without a process as crashed; no worker of this stack may be running."""
        for run in self.api.iter_runs(None, *ACTIVE):
            self.api.crash_run(run.run_id, _ORPHAN_MESSAGE)

    def _write_record(self) -> None:
        named = {"server": self._server, "worker": self._worker}
        self._record.processes = {
            name: item.record for name, item in named.items() if item is not None
        }
        self._record.api_url = f"http://{HOST}:{self._port}/api"
        self._record.write(self.home / RECORD)


def run_once(settings: Settings, echo: Echo) -> int:
    """Load the sample input by running every flow once, print one table, leave nothing running.

    Returns:
        An exit code: 0 where every flow ended well.
    """
    stack = LocalStack(settings, echo, schedules=False, poll_seconds=1.0)
    rows: list[tuple[FlowRun, RunReport | None, str]] = []
    with stack:
        lay_sample_input(settings, stack.project, echo)
        for name in FLOWS:
            parameters = sample_parameters(name, settings, stack.settings)
            if parameters is None:
                echo(f"{name} is not run: the database is yours, or there is nothing to ask for")
                continue
            echo(f"running {name}")
            run = stack.run_flow(name, parameters, timeout_seconds=RUN_ONCE_SECONDS)
            rows.append((run, stack.api.read_report(run.run_id), name))
            if name == "inbound_messages" and settings.is_embedded:
                lay_sample_certificates(stack.settings, echo)
                lay_sample_leads(stack.settings, echo)
            if run.state_name == "NeedsApproval" and settings.is_embedded:
                # The first run on a database asks; the person at this terminal says yes.
                echo(f"approving what {name} asks for")
                plan = {"approve": read_waiting_plan(stack.settings, name)}
                run = stack.run_flow(name, parameters | plan, timeout_seconds=RUN_ONCE_SECONDS)
                rows.append((run, stack.api.read_report(run.run_id), name))
        contents = read_contents(stack.settings)
    print_summary(rows)
    print_contents(contents)
    for run, _, name in rows:
        if not run.ended_well:
            echo(f"{name} ended as {run.state_name}: {run.message}")
    return 0 if all(run.ended_well for run, _, _ in rows) else 1


def print_summary(rows: list[tuple[FlowRun, RunReport | None, str]]) -> None:
    """Print how flow runs ended: one row a flow."""
    from rich.box import SIMPLE_HEAD  # noqa: PLC0415
    from rich.console import Console  # noqa: PLC0415 - only people who look at a table need it
    from rich.table import Table  # noqa: PLC0415

    table = Table(title="Every flow, run once", box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("flow", no_wrap=True)
    table.add_column("state", no_wrap=True)
    for heading in (*COUNTS, "skipped", "quarantined", "seconds"):
        table.add_column(heading, justify="right", no_wrap=True)
    for run, report, name in rows:
        counts = [""] * (len(COUNTS) + 2)
        if report is not None:
            counts = [f"{getattr(report, count)}" for count in COUNTS]
            counts += [f"{sum(part.values())}" for part in (report.skipped, report.quarantined)]
        table.add_row(name, run.state_name, *counts, f"{run.seconds:.1f}")
    Console(width=max(Console().width, SUMMARY_WIDTH)).print(table)


def print_contents(contents: Mapping[str, int]) -> None:
    """Print what the database holds: rows by kind, two kinds a line."""
    from rich.box import SIMPLE_HEAD  # noqa: PLC0415
    from rich.console import Console  # noqa: PLC0415 - only people who look at a table need it
    from rich.table import Table  # noqa: PLC0415

    table = Table(title="O que o banco tem agora", box=SIMPLE_HEAD, pad_edge=False)
    for _ in range(2):
        table.add_column("registro", no_wrap=True)
        table.add_column("linhas", justify="right", no_wrap=True)
    cells = [(name, f"{count:,}".replace(",", ".")) for name, count in contents.items()]
    half = (len(cells) + 1) // 2
    for left, right in zip_longest(cells[:half], cells[half:], fillvalue=("", "")):
        table.add_row(*left, *right)
    Console(width=max(Console().width, SUMMARY_WIDTH)).print(table)


def up(settings: Settings, echo: Echo) -> int:
    """Start everything in the background under a supervisor and print the links.

    Returns:
        An exit code: 0 once it is running.
    """
    home = settings.home.resolve()
    home.mkdir(parents=True, exist_ok=True)
    if (record := StackRecord.read(home / RECORD)) and record.supervisor.is_alive:
        echo("already running")
        _echo_links(settings, record.api_url, echo)
        return 0
    log = home / "logs" / "supervisor.log"
    log.parent.mkdir(exist_ok=True)
    with log.open("ab") as output:
        written = output.tell()
    pid = os.posix_spawn(
        sys.executable,
        [sys.executable, "-m", SUPERVISOR],
        # Handed on whole: the supervisor reads the same settings, in the same folder.
        {**os.environ, **settings_variables(settings)},  # noqa: TID251 - nothing of it is read here
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, str(log), os.O_WRONLY | os.O_APPEND, 0),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ],
        setsid=True,
    )
    supervisor = ProcessRecord.of(pid)
    with log.open(encoding="utf-8", errors="replace") as lines:
        lines.seek(written)
        while True:
            record = StackRecord.read(home / RECORD)
            ready = record is not None and record.ready and record.supervisor == supervisor
            for line in lines:
                echo(line.rstrip())
            if ready or not supervisor.is_alive:
                break
            time.sleep(POLL_SECONDS)
    if record is None or not ready:
        raise RetryableError(f"the local stack did not start; its log is {log}")
    _echo_links(settings, record.api_url, echo)
    return 0


def down(settings: Settings, echo: Echo) -> int:
    """Stop what :func:`up` started, and whatever a killed stack left behind.

    Returns:
        An exit code: 0 once nothing of it is running.
    """
    home = settings.home.resolve()
    record = StackRecord.read(home / RECORD)
    if record is None:
        echo("nothing is running")
        return 0
    if record.supervisor.is_alive and record.supervisor.pid != os.getpid():
        echo("stopping: runs, then the worker, then the server")
        stop_recorded(record.supervisor, RUNS_GRACE_SECONDS + 3 * STOP_SECONDS)
    with only_one(home):
        clear_leftovers(home, STOP_SECONDS, echo)
    echo("stopped")
    return 0


def supervise(settings: Settings, echo: Echo) -> None:
    """Run a stack with schedules until SIGTERM, starting again what dies; see :func:`up`."""
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    # The start waits for processes, and a stop asked for meanwhile comes after it.
    with LocalStack(settings, echo, port=USUAL_PORT, poll_seconds=5.0) as stack:
        while not stopping.wait(SUPERVISION_SECONDS):
            try:
                stack.check()
            except RetryableError as error:
                echo(f"{error}; trying again")
        echo("stopping")


def _echo_links(settings: Settings, api_url: str, echo: Echo) -> None:
    ui = api_url.removesuffix("/api")
    for label, link in (
        ("Prefect UI", f"{ui}/dashboard"),
        ("deployments", f"{ui}/deployments"),
        ("landing folder", Path(settings.landing_url).resolve()),
        ("logs", settings.home.resolve() / "logs"),
        ("to stop", "make down   (gatte sandbox down)"),
    ):
        echo(f"  {label:<16}{link}")


def find_project() -> Path:
    """The checkout, whose prefect.yaml and flows/ are deployed.

    Raises:
        ConfigurationError: This package was installed without them.
    """
    project = Path(__file__).resolve().parents[3]
    if not (project / "prefect.yaml").is_file():
        raise ConfigurationError(
            "prefect.yaml was not found beside src/; run this from a checkout (make run, make up)"
        )
    return project


def free_port(wanted: int | None) -> int:
    """A free port on loopback, ``wanted`` where it is free."""
    for port in (wanted, 0) if wanted else (0,):
        with socket.socket() as probe:
            # A port left by a server of ours a moment ago is free again.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise RetryableError("there is no free port on loopback")
