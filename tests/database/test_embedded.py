"""The embedded server: started by whoever comes first, stopped by whoever goes last."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from sqlalchemy import text

from gatte_pipelines.database import embedded
from gatte_pipelines.database.engine import connect, make_engine
from gatte_pipelines.errors import ConfigurationError, RetryableError

# Starts the server, says so, and goes on until its standard input ends.
_USER = """
import pathlib, sys
from gatte_pipelines.database import embedded
from gatte_pipelines.database.engine import connect, make_engine
from sqlalchemy import text
with embedded.start(pathlib.Path(sys.argv[1])) as server:
    with connect(make_engine(server.url("postgres"))) as connection:
        print(connection.scalar(text("select current_database()")), flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def home() -> Iterator[Path]:
    """An empty home with a short path; nothing runs in it afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="gt-"))
    yield folder
    left = _servers(folder)
    for process in left:
        process.kill()
    shutil.rmtree(folder, ignore_errors=True)
    assert left == [], "a server was left running"


def _servers(home: Path) -> list[psutil.Process]:
    """The running servers whose data stand under ``home``."""
    found = []
    for process in psutil.process_iter():
        try:
            # A dead one that nobody waited for has no command line any more.
            if process.name() == "postgres" and str(home) in " ".join(process.cmdline()):
                found.append(process)
        except psutil.Error:
            continue
    return found


def _another(home: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", _USER, str(home)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def _is_ready(process: subprocess.Popen[str]) -> bool:
    assert process.stdout is not None
    return process.stdout.readline().strip() == embedded.DATABASE


def _end(process: subprocess.Popen[str]) -> int:
    process.communicate(timeout=60)
    return process.returncode


def test_two_processes_that_meet_an_empty_home_share_one_server(home: Path) -> None:
    processes = [_another(home), _another(home)]
    assert [_is_ready(process) for process in processes] == [True, True]
    assert len(_servers(home)) == 1
    assert _end(processes[0]) == 0
    assert len(_servers(home)) == 1
    assert _end(processes[1]) == 0
    assert _servers(home) == []


def test_a_killed_process_leaves_no_trouble_for_the_next(home: Path) -> None:
    killed = _another(home)
    assert _is_ready(killed)
    os.kill(killed.pid, signal.SIGKILL)
    killed.communicate()
    with embedded.start(home) as server, connect(make_engine(server.url("postgres"))) as there:
        assert there.scalar(text("select 1")) == 1
    assert _servers(home) == []


def test_a_killed_process_does_not_take_the_server_from_others(home: Path) -> None:
    with embedded.start(home) as server:
        killed = _another(home)
        assert _is_ready(killed)
        os.kill(killed.pid, signal.SIGKILL)
        killed.communicate()
        with connect(make_engine(server.url("postgres"))) as connection:
            assert connection.scalar(text("select 1")) == 1
    assert _servers(home) == []


def test_a_killed_server_recovers_what_was_committed(home: Path) -> None:
    with embedded.start(home) as server:
        with connect(make_engine(server.url("postgres"))) as connection, connection.begin():
            connection.execute(text("create table kept as select 42 as answer"))
        (postmaster,) = _servers(home)
        # Its other processes end by themselves when it is gone.
        postmaster.kill()
        psutil.wait_procs([postmaster], timeout=10)
    with embedded.start(home) as server, connect(make_engine(server.url("postgres"))) as again:
        assert again.scalar(text("select answer from kept")) == 42


def test_a_lock_file_whose_number_belongs_to_another_program_is_no_hindrance(home: Path) -> None:
    with embedded.start(home):
        pass
    # As after a restart of the machine: the number lives, and is not PostgreSQL.
    lines = [os.getpid(), home / "postgres", 1, 5432, home / "postgres", "", "0 0", "ready"]
    (home / "postgres" / "postmaster.pid").write_text("\n".join(map(str, lines)) + "\n")
    with embedded.start(home) as server, connect(make_engine(server.url("postgres"))) as there:
        assert there.scalar(text("select 1")) == 1


def test_a_half_made_cluster_is_made_anew(home: Path) -> None:
    left_over = home / "postgres.new-interrupted"
    left_over.mkdir()
    (left_over / "PG_VERSION").write_text("18\n")
    with embedded.start(home):
        assert not left_over.exists()


def test_a_folder_that_holds_something_else_is_left_alone(home: Path) -> None:
    (home / "postgres").mkdir()
    (home / "postgres" / "letter.txt").write_text("dear")
    with pytest.raises(ConfigurationError, match="move the folder away"), embedded.start(home):
        pytest.fail("this is no cluster")
    assert (home / "postgres" / "letter.txt").read_text() == "dear"


def test_a_home_too_deep_for_a_socket_works(home: Path) -> None:
    deep = home / ("d" * 60) / ("e" * 60)
    with embedded.start(deep) as server, connect(make_engine(server.url("postgres"))) as there:
        assert there.scalar(text("select 1")) == 1
        assert len(server.socket_folder) < embedded.MAX_SOCKET_FOLDER_BYTES
        assert Path(server.socket_folder).stat().st_mode & 0o077 == 0
    shutil.rmtree(server.socket_folder)


def test_a_home_with_blanks_and_an_apostrophe_works(home: Path) -> None:
    odd = home / "minha pasta d'água"
    with embedded.start(odd) as server, connect(make_engine(server.url("postgres"))) as there:
        assert there.scalar(text("select 1")) == 1


def test_the_server_is_durable_reachable_by_socket_only_and_logs_no_rows(home: Path) -> None:
    with embedded.start(home) as server:
        assert Path(server.socket_folder).stat().st_mode & 0o077 == 0
        with connect(make_engine(server.url("postgres"))) as connection:
            names = ("fsync", "synchronous_commit", "full_page_writes", "listen_addresses")
            found = [connection.scalar(text(f"show {name}")) for name in names]
            assert found == ["on", "on", "on", ""]
            assert connection.scalar(text("show server_encoding")) == "UTF8"
            with pytest.raises(Exception, match="division by zero"):
                connection.execute(text('select 1 / 0 as "900001234"'))
            connection.rollback()
            with pytest.raises(Exception, match="invalid input"):
                connection.execute(text("select 'segredo-900001234'::int"))
    assert "900001234" not in (home / "postgres" / "log").read_text()


def test_a_home_that_was_closed_meanwhile_keeps_no_server_running(home: Path) -> None:
    """A server that runs as another user is stopped by it, through the folders above its data."""
    with embedded.start(home):
        home.chmod(0o700)
    assert _servers(home) == []


def test_a_server_that_does_not_stop_is_told(home: Path) -> None:
    with embedded.start(home):
        without_programs = embedded._Cluster(
            (home / "postgres").resolve(), home / "nothing" / "bin"
        )
        with pytest.raises(RetryableError, match="did not stop"):
            without_programs.stop()
    assert _servers(home) == []


def test_a_nested_start_of_the_same_home_shares_the_server(home: Path) -> None:
    with embedded.start(home) as outer:
        with embedded.start(home) as inner:
            assert inner == outer
        with connect(make_engine(outer.url("postgres"))) as connection:
            assert connection.scalar(text("select 1")) == 1
    assert _servers(home) == []
