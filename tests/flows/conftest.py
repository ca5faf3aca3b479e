"""One real Prefect server and worker for the whole folder: starting them takes half a minute."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from gatte_pipelines.sandbox.local_stack import LocalStack
from gatte_pipelines.settings import Settings


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStack]:
    """A running stack without schedules, so that a test sees only its own runs."""
    home = tmp_path_factory.mktemp("stack")
    with LocalStack(Settings(home=home), print, schedules=False, poll_seconds=1.0) as running:
        yield running
