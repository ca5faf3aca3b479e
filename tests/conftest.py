"""What every test stands on: no settings of the developer, its own folder, no network in unit.

Database fixtures belong to tests/database, Prefect's to tests/flows.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest
from hypothesis.configuration import set_hypothesis_home_dir

from gatte_pipelines import redaction

REPOSITORY = Path(__file__).resolve().parents[1]
UNIT = REPOSITORY / "tests" / "unit"

# Derandomised, so that a red build is red again for whoever looks; `make test-long` explores.
hypothesis.settings.register_profile("fixed", derandomize=True, deadline=None, max_examples=50)
hypothesis.settings.register_profile("explore", deadline=None, max_examples=2000)


def pytest_configure(config: pytest.Config) -> None:
    """Forget the developer's settings, so that no test reaches a real database or mailbox."""
    for name in list(os.environ):
        if name.startswith("GATTE_") and not name.startswith("GATTE_TEST_"):
            del os.environ[name]
    set_hypothesis_home_dir(REPOSITORY / ".hypothesis")
    hypothesis.settings.load_profile(os.environ.get("GATTE_TEST_PROFILE", "fixed"))
    sys.addaudithook(_refuse_network)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tell pytest-xdist what stays together, and let what takes longest begin.

    All flow runs share one Prefect server, and a file its fixtures.
    """
    for item in items:
        folder, file = item.path.parent, item.path
        shared = folder if folder.name == "flows" else file
        item.add_marker(pytest.mark.xdist_group(str(shared.relative_to(REPOSITORY / "tests"))))
    items.sort(key=lambda item: item.path.parent.name != "flows")


# The unit test that runs now, if one does.
_guarded: list[str] = []


def _refuse_network(event: str, arguments: tuple[object, ...]) -> None:
    if not _guarded:
        return
    if event in {"socket.getaddrinfo", "socket.gethostbyname"}:
        pytest.fail("a unit test looked up a host name; it belongs to another folder of tests")
    if event in {"socket.connect", "socket.sendto"}:
        connection = arguments[0]
        if isinstance(connection, socket.socket) and connection.family != socket.AF_UNIX:
            pytest.fail("a unit test used the network; it belongs to another folder of tests")


@pytest.fixture(autouse=True)
def _no_network_in_unit_tests(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test of tests/unit at its first connection, whoever makes it.

    An audit hook sees every Python socket, and pytest's failure passes `except Exception`.
    """
    if request.path.is_relative_to(UNIT):
        _guarded.append(request.node.nodeid)
    yield
    _guarded.clear()


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run in an empty folder: no .env is read, and no .gatte is left in the checkout."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture(autouse=True)
def _own_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget after a test what it registered as secret: masks are one list a process."""
    for name in ("_secrets", "_secret_pattern"):
        monkeypatch.setattr(redaction, name, getattr(redaction, name))


@pytest.fixture(scope="session")
def repository() -> Path:
    """The checkout."""
    return REPOSITORY
