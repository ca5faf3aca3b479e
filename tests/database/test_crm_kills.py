"""Runs of the CRM sync that are killed: the next ones finish the work and double nothing.

Killed with SIGKILL at a request of the stand-in's choosing: once it had its effect and was not
answered, or some milliseconds after the answer, when the run writes to the database.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.crm import CrmDesk, open_desk
from tests.postgres import TestDatabase

REPOSITORY = Path(__file__).resolve().parents[2]
_MINUTES = 15
_BACKLOG = 6


@pytest.fixture
def desk(database: TestDatabase) -> Iterator[CrmDesk]:
    """Both sides; the search lags behind, so that only what is ours finds what was just made."""
    with open_desk(database) as opened:
        opened.crm.limits.daily_budget = 1_000_000
        yield opened


def run_and_kill(desk: CrmDesk, at_request: int, delay: float | None) -> bool:
    """Run once and kill it at its so-many-th request; whether the kill hit.

    Args:
        desk: Both sides.
        at_request: Counted from 1.
        delay: Seconds after the answer; None for before it.
    """
    desk.clock.pass_by(minutes=_MINUTES)
    environment = {name: text for name, text in os.environ.items() if "GATTE_" not in name}
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.database.crm_process"],
        cwd=REPOSITORY,
        env={
            **environment,
            "PYTHONPATH": str(REPOSITORY),
            "TEST_NOW": desk.clock().isoformat(),
            "TEST_DATABASE_URL": str(desk.database.settings().database_url),
            "TEST_CRM_URL": desk.crm.url,
            "TEST_CRM_TOKEN": desk.crm.token,
        },
        stdin=subprocess.DEVNULL,
    )
    seen = 0
    done = threading.Event()

    def kill() -> None:
        process.send_signal(signal.SIGKILL)
        done.set()

    def watch(_method: str, _path: str) -> None:
        nonlocal seen
        seen += 1
        if seen != at_request:
            return
        if delay is None:
            kill()
            process.wait(timeout=30)  # dead before anybody could answer
        else:
            threading.Timer(delay, kill).start()

    desk.crm.after_effect = watch
    try:
        code = process.wait(timeout=60)
        if code == 0:
            return False
        assert code == -signal.SIGKILL
        assert done.wait(timeout=5)
        return True
    finally:
        desk.crm.after_effect = None
        await_nobody(desk)


def await_nobody(desk: CrmDesk) -> None:
    """Until the server noticed that the killed run is gone, its lock is taken."""
    ends_at = time.monotonic() + 20
    sql = (
        "select 1 from pg_stat_activity where usename = 'gatte_pipeline' "
        "and datname = current_database()"
    )
    while desk.rows(sql):
        assert time.monotonic() < ends_at
        time.sleep(0.02)


def add_work(desk: CrmDesk, number: int) -> None:
    """A new lead with everything, one that shares its number, and edits on both sides."""
    waiting = desk.rows("select 1 from leads where crm_id is null")
    if len(waiting) > _BACKLOG:
        return  # more at once would ask for approval
    desk.add_lead(
        name=f"Ana {number}",
        phone=f"+55119000000{number:02}",
        email=f"ana{number}@example.com",
        company=f"Padaria {number}",
        notes=f"Recado {number}",
    )
    desk.add_lead(name=f"Ana {number}", phone=f"(11) 90000-00{number:02}", notes="Outra vez")
    linked = desk.rows("select lead_id, person_id from pipeline.crm_links where state = 'linked'")
    for row in linked[-2:]:
        desk.edit_lead(row["lead_id"], name=f"Bia {number}", stage="contacted")
    for row in linked[:1]:
        desk.crm.edit_person(row["person_id"], emails=[f"nova{number}@example.com"])


def assert_whole(desk: CrmDesk) -> None:
    """Everything is there once, linked, and agreed on."""
    for _ in range(8):
        report = desk.sync(after_minutes=_MINUTES)
        if report.outcome.value == "skipped" and report.reason == "nothing_to_do":
            break
    else:
        pytest.fail(f"does not come to rest: {desk.reports}")
    leads = desk.rows("select * from leads")
    links = {row["lead_id"]: row for row in desk.rows("select * from pipeline.crm_links")}
    assert desk.rows("select * from pipeline.sync_outbox") == []
    assert len(desk.crm.leads) == len(leads) == len(links)
    named = Counter(row["origin_id"] for row in desk.crm.leads)
    assert named == Counter(str(lead["id"]) for lead in leads)
    for lead in leads:
        link = links[lead["id"]]
        assert link["state"] == "linked"
        assert lead["crm_id"] == str(link["remote_lead_id"])
        person = desk.person(lead["id"])
        assert person["name"] == lead["name"] == link["agreed_name"]
        if lead["email"]:
            assert lead["email"] in [one["value"] for one in person["emails"]]
    phones = Counter(one["value"] for row in desk.crm.persons for one in row["phones"])
    assert set(phones.values()) == {1}
    companies = Counter(row["name"] for row in desk.crm.organizations)
    assert set(companies.values()) == {1}
    notes = Counter((row["lead_id"], row["content"]) for row in desk.crm.notes)
    assert set(notes.values()) == {1}
    assert len(desk.crm.notes) == len([lead for lead in leads if lead["notes"]])


@pytest.mark.parametrize("delay", [None, 0.004])
def test_a_killed_run_is_finished_by_the_next_ones(desk: CrmDesk, delay: float | None) -> None:
    add_work(desk, 1)
    hits = [run_and_kill(desk, at_request, delay) for at_request in (8, 10)]
    assert all(hits)
    assert_whole(desk)


@pytest.mark.long
@pytest.mark.parametrize("delay", [None, 0.001, 0.004, 0.012])
def test_twenty_kills_at_any_request_double_nothing_and_lose_nothing(
    desk: CrmDesk, delay: float | None
) -> None:
    hits = 0
    for number in range(1, 60):
        add_work(desk, number)
        # Ever later in the run: what was done before is not done again.
        hits += run_and_kill(desk, 1 + (number * 7) % 23, delay)
        if hits == 20:
            break
    assert hits == 20
    assert_whole(desk)
