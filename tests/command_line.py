"""The command line over a test's database, as a person and a script meet it."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

from tests.inbound import Inbound
from tests.postgres import ID_KEY

HIDDEN = "valor-que-ninguem-pode-ver"


def gatte(inbound: Inbound, *arguments: str, **environment: str) -> Any:
    """Run the command line over the test's database; never a traceback."""
    settings = inbound.settings
    values = {
        "GATTE_HOME": str(settings.home),
        "GATTE_DATABASE_URL": settings.database_url or "",
        "GATTE_MIGRATION_DATABASE_URL": settings.migration_database_url or "",
        "GATTE_INBOUND_URL": settings.inbound_url,
        "GATTE_ID_KEY": ID_KEY.decode(),
    } | environment
    done = subprocess.run(
        [sys.executable, "-m", "gatte_pipelines.cli", *arguments],
        env=dict(os.environ) | values,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert "Traceback" not in done.stderr
    assert HIDDEN not in done.stdout + done.stderr
    return done
