"""A refresh killed in the middle, as by the machine, is finished by the next."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from datetime import date
from pathlib import Path

import pytest

from gatte_pipelines.certificates import state
from tests.certificates import AlertWorld, at
from tests.postgres import TestDatabase

TODAY = date(2026, 3, 10)
CERTIFICATES = 40_000
REPOSITORY = Path(__file__).resolve().parents[2]

# Small chunks, so that there is a middle to be killed in.
_REFRESH = """
import sys
from datetime import datetime
from gatte_pipelines.certificates import state
from gatte_pipelines.database.engine import connect, make_engine
state.ROWS_PER_CHUNK = 500
with connect(make_engine(sys.argv[1])) as connection:
    state.refresh(connection, as_of=datetime.fromisoformat(sys.argv[2]))
"""

_FILL = """
insert into certificates (
    id, service_id, user_id, type, issued_at, expires_at, days_to_expire, status, alert_sent
)
select
    gen_random_uuid(), :service, :ana, 'e-CPF',
    cast(:at as timestamptz) + n * interval '10 minutes' - interval '1 year',
    cast(:at as timestamptz) + n * interval '10 minutes', 0, 'valid', false
from generate_series(-5000, :count - 5001) as n
"""


def stale(world: AlertWorld) -> int:
    """Certificates whose days or status are not those of the date."""
    ((count,),) = world.rows(
        "select count(*) from certificates as f, "
        "lateral (select pipeline.business_date(f.expires_at) - cast(:today as date) as days) as d "
        "where f.days_to_expire <> greatest(d.days, -30) "
        "or f.status <> (case when d.days < 0 then 'expired' else 'valid' end)"
        "::certificate_status",
        today=TODAY,
    )
    return int(count)


@pytest.mark.long
@pytest.mark.timeout(300)
def test_a_killed_refresh_is_finished_by_the_next(database: TestDatabase) -> None:
    world = AlertWorld(database)
    ana = world.client()
    service = world.service(ana)
    world.execute(_FILL, service=service, ana=ana, at=at(TODAY, "12:00"), count=CERTIFICATES)
    world.execute("alter table certificates disable trigger set_days_to_expire_update")
    world.execute("update certificates set days_to_expire = 999")
    world.execute("alter table certificates enable trigger set_days_to_expire_update")
    url = database.url_pipeline.render_as_string(hide_password=False)
    left = [stale(world)]
    for _ in range(3):
        run = subprocess.Popen(
            [sys.executable, "-c", _REFRESH, url, at(TODAY, "02:00").isoformat()],
            cwd=REPOSITORY,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY / "src")},
        )
        while stale(world) == left[-1] and run.poll() is None:
            time.sleep(0.02)
        run.send_signal(signal.SIGKILL)
        assert run.wait(timeout=30) == -signal.SIGKILL
        left.append(stale(world))
        assert world.rows("select 1 from pipeline.watermarks") == []
    assert left == sorted(left, reverse=True)
    assert 0 < left[-1] < left[0]
    with database.connect() as connection:
        refreshed = state.refresh(connection, as_of=at(TODAY, "02:00"))
    assert (refreshed.was_done, refreshed.locked, stale(world)) == (False, 0, 0)
