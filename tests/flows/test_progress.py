"""The progress artifact of a long run, over recorded requests instead of a server."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest

from flows import _reporting
from flows._reporting import PROGRESS_AFTER_SECONDS, PROGRESS_EVERY_SECONDS, ProgressArtifact
from gatte_pipelines.inbound.load import Progress

pytestmark = pytest.mark.prefect


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class Server:
    """Takes the requests of an artifact, or is away."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.shown: list[float] = []
        self.is_away = False
        monkeypatch.setattr(_reporting, "create_progress_artifact", self.create)
        monkeypatch.setattr(_reporting, "update_progress_artifact", self.update)

    def create(self, *, progress: float, **_more: Any) -> Any:
        self.update(None, progress=progress)
        return uuid4()

    def update(self, _artifact_id: Any, *, progress: float) -> None:
        if self.is_away:
            raise ConnectionError("the server is away")
        self.shown.append(progress)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    return Server(monkeypatch)


def at(done: int) -> Progress:
    return Progress(done=done, total=200, units=done)


def test_progress_is_shown_once_the_run_takes_long_and_then_now_and_again(server: Server) -> None:
    clock = Clock()
    progress = ProgressArtifact("inbound-messages-progress", clock)
    progress(at(20))
    assert server.shown == []
    clock.now = PROGRESS_AFTER_SECONDS
    progress(at(50))
    progress(at(60))
    clock.now += PROGRESS_EVERY_SECONDS
    progress(at(100))
    progress.finish()
    assert server.shown == [25, 50, 100]


def test_a_short_run_leaves_no_progress(server: Server) -> None:
    progress = ProgressArtifact("inbound-messages-progress", Clock())
    progress(at(200))
    progress.finish()
    assert server.shown == []


def test_a_server_that_is_away_does_not_end_the_run(server: Server) -> None:
    clock = Clock()
    progress = ProgressArtifact("inbound-messages-progress", clock)
    server.is_away = True
    clock.now = PROGRESS_AFTER_SECONDS
    progress(at(50))
    server.is_away = False
    progress(at(60))
    assert server.shown == [], "it is not asked again at once"
    clock.now += PROGRESS_EVERY_SECONDS
    progress(at(100))
    server.is_away = True
    progress.finish()
    assert server.shown == [50]
