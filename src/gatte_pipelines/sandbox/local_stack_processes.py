"""Processes that the local stack starts, and the record of them that outlives it.

What is started, and in which order, belongs to ``local_stack``.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from gatte_pipelines.errors import ConfigurationError

# Under home: which processes a running stack has, and the lock that its owner holds.
RECORD, LOCK = "stack.json", "stack.lock"
STOP_POLL_SECONDS = 0.1
# A killed process is gone at once, unless it waits for a disk.
KILL_SECONDS = 10.0
# A log larger than this is set aside when its process starts.
MAX_LOG_BYTES = 10_000_000


class ProcessRecord(msgspec.Struct, frozen=True):
    """A process, when it started and since which boot: its number may be another's by now."""

    pid: int
    started: str
    boot: str

    @classmethod
    def of(cls, pid: int) -> ProcessRecord:
        """The record of a process that runs now."""
        return cls(pid, start_mark(pid), boot_mark())

    @property
    def is_alive(self) -> bool:
        """Whether this very process still runs."""
        return (
            bool(self.started) and self.boot == boot_mark() and start_mark(self.pid) == self.started
        )


class StackRecord(msgspec.Struct, kw_only=True):
    """What stands in ``stack.json`` while a stack is up."""

    supervisor: ProcessRecord
    processes: dict[str, ProcessRecord] = {}
    api_url: str = ""
    ready: bool = False

    def write(self, path: Path) -> None:
        """Write by rename: a reader sees the old record or the new one."""
        partial = path.with_suffix(".part")
        partial.write_bytes(msgspec.json.encode(self))
        partial.replace(path)

    @classmethod
    def read(cls, path: Path) -> StackRecord | None:
        """The record, or None where there is none that can be read."""
        try:
            return msgspec.json.decode(path.read_bytes(), type=cls)
        except (OSError, msgspec.DecodeError):
            return None


@dataclass
class ManagedProcess:
    """A process at the head of a group of its own, writing to a log."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path

    @classmethod
    def start(
        cls, name: str, command: Sequence[str], *, env: Mapping[str, str], cwd: Path, log: Path
    ) -> ManagedProcess:
        """Start ``command`` in a session of its own, its output appended to ``log``."""
        log.parent.mkdir(parents=True, exist_ok=True)
        if log.exists() and log.stat().st_size > MAX_LOG_BYTES:
            log.replace(log.with_suffix(".log.1"))
        with log.open("ab") as output, _interruptible():
            process = subprocess.Popen(  # noqa: S603 - this project's own commands
                list(command),
                env=dict(env),
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return cls(name, process, log)

    @property
    def record(self) -> ProcessRecord:
        """What to remember of this process."""
        return ProcessRecord.of(self.process.pid)

    @property
    def is_alive(self) -> bool:
        """Whether the process itself runs; its children are another matter."""
        return self.process.poll() is None

    def stop(self, timeout_seconds: float) -> None:
        """Ask the process to end, wait, then kill whatever is left of its group."""
        if self.is_alive:
            self.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(timeout_seconds)
        kill_group(self.process.pid)
        self.process.wait()

    def log_tail(self, lines: int = 15) -> str:
        """The last lines of the log."""
        try:
            return "\n".join(self.log.read_text("utf-8", "replace").splitlines()[-lines:])
        except OSError:
            return ""


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """Start processes that an interrupt ends, also where a shell started us in the background.

    Such a shell lets its background processes ignore SIGINT, children inherit that, and Prefect's
    worker turns SIGTERM into SIGINT: it would not stop. A handler is not inherited, SIG_IGN is.
    """
    if (
        signal.getsignal(signal.SIGINT) is not signal.SIG_IGN
        or threading.current_thread() is not threading.main_thread()
    ):
        yield
        return
    signal.signal(signal.SIGINT, lambda *_: None)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)


def start_mark(pid: int) -> str:
    """When a process started, in the system's own words; empty where it does not run."""
    if Path("/proc/self/stat").exists():
        fields = _stat_fields(Path(f"/proc/{pid}/stat"))
        return fields[_START_TIME] if _is_running(fields) else ""
    answer = subprocess.run(  # noqa: S603 - a fixed command and a number
        ["/bin/ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False
    )
    return answer.stdout.strip()


# Fields of /proc/PID/stat behind the name, which stands in parentheses and may hold spaces.
_STATE, _GROUP, _START_TIME = 0, 2, 19


def _stat_fields(stat: Path) -> list[str]:
    try:
        return stat.read_text("utf-8", "replace").rpartition(")")[2].split()
    except OSError:
        return []


def _is_running(fields: list[str]) -> bool:
    """A zombie is over: only its parent has not looked yet, and some never do."""
    return bool(fields) and fields[_STATE] not in {"Z", "X"}


def boot_mark() -> str:
    """Which boot of the machine this is, where the system tells."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text("utf-8").strip()
    except OSError:
        return ""


def is_group_alive(group: int) -> bool:
    """Whether any process of a group runs."""
    if Path("/proc/self/stat").exists():
        return any(
            _is_running(fields) and fields[_GROUP] == str(group)
            for fields in map(_stat_fields, Path("/proc").glob("[0-9]*/stat"))
        )
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def kill_group(group: int) -> None:
    """Kill every process of a group at once and wait until they are gone.

    Who comes next may look at what they held: the embedded database stops with its last user.
    """
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)
    ends_at = time.monotonic() + KILL_SECONDS
    while is_group_alive(group) and time.monotonic() < ends_at:
        time.sleep(STOP_POLL_SECONDS)


def stop_recorded(record: ProcessRecord, timeout_seconds: float) -> None:
    """Stop a process that another one started, and its group, unless its number is another's now.

    A group outlives its head: where the head is gone, its number is given to no other process as
    long as a member of the group lives, within one boot.
    """
    if record.boot != boot_mark():
        return
    if record.is_alive:
        with contextlib.suppress(ProcessLookupError):
            os.kill(record.pid, signal.SIGTERM)
        ends_at = time.monotonic() + timeout_seconds
        while start_mark(record.pid) == record.started and time.monotonic() < ends_at:
            time.sleep(STOP_POLL_SECONDS)
    if record.is_alive or not start_mark(record.pid):
        kill_group(record.pid)


@contextlib.contextmanager
def only_one(home: Path) -> Iterator[None]:
    """Hold the lock of the stack under ``home``; it dies with this process.

    Raises:
        ConfigurationError: Another process holds it.
    """
    with (home / LOCK).open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigurationError(
                f"a stack is already running under {home}; stop it with: gatte sandbox down"
            ) from None
        yield


def clear_leftovers(home: Path, timeout_seconds: float, echo: Callable[[str], None]) -> None:
    """Stop what a killed stack left running; the caller holds the lock of :func:`only_one`."""
    record = StackRecord.read(home / RECORD)
    if record is None:
        return
    for name in ("worker", "server"):
        process = record.processes.get(name)
        if process is not None and (process.is_alive or is_group_alive(process.pid)):
            echo(f"stopping the {name} that a killed stack left behind")
            stop_recorded(process, timeout_seconds)
    (home / RECORD).unlink(missing_ok=True)
