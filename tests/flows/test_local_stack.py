"""Starting and stopping server, worker and runs; what a kill leaves; what remains running."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from gatte_pipelines.errors import ConfigurationError, RetryableError
from gatte_pipelines.sandbox import local_stack
from gatte_pipelines.sandbox.local_stack import (
    LocalStack,
    down,
    free_port,
    print_contents,
    run_once,
    up,
)
from gatte_pipelines.sandbox.local_stack_api import FlowRun, PrefectApi
from gatte_pipelines.sandbox.local_stack_processes import (
    RECORD,
    ProcessRecord,
    StackRecord,
    clear_leftovers,
    is_group_alive,
    only_one,
)
from gatte_pipelines.sandbox.local_stack_setup import (
    SAMPLE_KEPT,
    prepared,
    read_contents,
    sample_parameters,
    sample_plan,
)
from gatte_pipelines.settings import Settings
from gatte_pipelines.wiring import Wiring

pytestmark = pytest.mark.prefect

LEADS_OF_THE_SAMPLE = 8


def processes_of(home: Path) -> dict[int, str]:
    """Every process whose environment or command names a home, but for this one."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            environment = (folder / "environ").read_bytes().decode(errors="replace")
            if str(home) in command + environment and int(folder.name) != os.getpid():
                found[int(folder.name)] = command
    return found


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "home"
    down(Settings(home=tmp_path / "home"), print)


def wait_for(what: str, is_so: object, seconds: float) -> None:
    assert callable(is_so)
    ends_at = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < ends_at, f"not within {seconds:.0f} s: {what}"
        time.sleep(0.2)


def test_the_sample_stays_the_same_for_weeks_and_is_made_anew_before_it_is_too_old(
    tmp_path: Path,
) -> None:
    now = datetime(2026, 11, 20, 18, 30, tzinfo=UTC)
    first = sample_plan(tmp_path, now)
    assert first.as_of == datetime(2026, 11, 20, 17, tzinfo=UTC)
    assert first.chatbot_pct
    assert sample_plan(tmp_path, now + SAMPLE_KEPT - timedelta(hours=2)) == first
    later = sample_plan(tmp_path, now + SAMPLE_KEPT)
    assert (later.seed, later.as_of) != (first.seed, first.as_of)
    assert sample_plan(tmp_path, now + SAMPLE_KEPT) == later
    assert sample_plan(tmp_path, now).as_of == first.as_of, "a clock that was ahead"


def test_the_contents_are_printed_two_kinds_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    print_contents({"mensagens": 5000, "edições": 7, "remoções": 0})
    printed = capsys.readouterr().out
    assert "5.000" in printed
    assert any("mensagens" in line and "remoções" in line for line in printed.splitlines())


def test_a_second_stack_under_the_same_home_is_refused(stack: LocalStack) -> None:
    with pytest.raises(ConfigurationError, match="already running"):
        LocalStack(stack.settings, print).start()


def test_a_port_that_is_taken_is_not_given_again() -> None:
    with contextlib.closing(local_stack.socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
        assert free_port(port) != port


def test_a_server_that_does_not_start_is_reported_with_the_end_of_its_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Prefect keeps its database in this folder; a file in its place stops the server.
    (tmp_path / "prefect").mkdir()
    (tmp_path / "prefect" / "prefect.db").mkdir()
    failing = LocalStack(Settings(home=tmp_path), print)
    with pytest.raises(RetryableError, match=r"(?s)ended while starting.*unable to open"), failing:
        pass
    assert processes_of(tmp_path) == {}


def test_a_record_of_another_boot_ends_nobody(tmp_path: Path) -> None:
    innocent = ProcessRecord.of(os.getppid())
    stranger = ProcessRecord(innocent.pid, innocent.started, "another-boot")
    record = StackRecord(supervisor=stranger, processes={"server": stranger, "worker": stranger})
    record.write(tmp_path / RECORD)
    clear_leftovers(tmp_path, 0, print)
    assert innocent.is_alive
    assert not (tmp_path / RECORD).exists()


def test_the_lock_of_a_stack_is_free_again_when_its_holder_ends(tmp_path: Path) -> None:
    with only_one(tmp_path), pytest.raises(ConfigurationError), only_one(tmp_path):
        pass
    with only_one(tmp_path):
        pass


def test_a_stack_started_in_the_background_survives_kills_and_leaves_nothing_when_stopped(
    home: Path,
) -> None:
    """Kill server, worker and run together: the next scheduled run starts by itself."""
    lines: list[str] = []
    settings = Settings(home=home)
    assert up(settings, lines.append) == 0
    assert any("http://127.0.0.1:" in line for line in lines)
    assert up(settings, lines.append) == 0, "a second `up` finds the first"
    record = StackRecord.read(home / RECORD)
    assert record is not None

    with PrefectApi(record.api_url) as api, Wiring(Settings(home=home)) as wiring:
        with wiring.connect("owner") as connection:
            # A run that wants to note its start waits for this lock, so the kill meets it at work.
            driver = connection.connection.driver_connection
            assert driver is not None
            driver.execute("lock table pipeline.runs in access exclusive mode")
            wait_for("a scheduled run is at work", lambda: list(running(api)), 100)
            victim = next(running(api))
            groups = [item.pid for item in record.processes.values()]
            for group in groups:
                os.killpg(group, signal.SIGKILL)
            wait_for("all are dead", lambda: not any(map(is_group_alive, groups)), 10)

        wait_for("server and worker are back", lambda: restarted(home, record), 90)
        wait_for(
            "a scheduled run ends well",
            lambda: any(run.ended_well for run in later(api, victim)),
            120,
        )
        assert api.read_run(victim.run_id).state_type == "CRASHED"

    assert down(settings, lines.append) == 0
    assert processes_of(home) == {}
    assert not (home / RECORD).exists()


def running(api: PrefectApi) -> Iterator[FlowRun]:
    return api.iter_runs("inbound_messages", "RUNNING")


def later(api: PrefectApi, victim: FlowRun) -> Iterator[FlowRun]:
    for run in api.iter_runs("inbound_messages"):
        if run.expected_at > victim.expected_at and run.created_by_schedule:
            yield run


def restarted(home: Path, before: StackRecord) -> bool:
    now = StackRecord.read(home / RECORD)
    return (
        now is not None
        and now.processes.keys() == before.processes.keys()
        and all(
            process.is_alive and process != before.processes[name]
            for name, process in now.processes.items()
        )
    )


def test_nobodys_crm_and_nobodys_database_is_written_to_by_a_trial(tmp_path: Path) -> None:
    ours = Settings(home=tmp_path)
    with_token = Settings(home=tmp_path, pipedrive_api_token="t" * 40)
    with_database = Settings(home=tmp_path, database_url="postgresql://u@h/d")
    with_both = Settings(
        home=tmp_path, database_url="postgresql://u@h/d", pipedrive_api_token="t" * 40
    )
    assert sample_parameters("crm_sync", ours, ours) == {}
    assert sample_parameters("crm_sync", with_token, with_token) == {"dry_run": True}
    assert sample_parameters("crm_sync", with_both, with_both) == {"dry_run": True}
    assert sample_parameters("crm_sync", with_database, with_database) is None


def test_only_the_embedded_database_gets_a_stand_in_for_the_crm(tmp_path: Path) -> None:
    """Its made-up ids would stay in a database of one's own."""
    given = Settings(
        home=tmp_path,
        database_url="postgresql://u@h/d",
        smtp_url="smtp://127.0.0.1:1",
        whatsapp_token="t" * 40,
    )
    with prepared(given, print) as settings:
        assert settings == given
    with_token = Settings(home=tmp_path, pipedrive_api_token="t" * 40)
    with prepared(with_token, print) as settings:
        assert settings.pipedrive_api_token == with_token.pipedrive_api_token
        assert settings.pipedrive_base_url is None


@pytest.mark.long
@pytest.mark.timeout(900)
def test_every_flow_once_ends_well_and_leaves_nothing_running(home: Path) -> None:
    """What `make run` does."""
    lines: list[str] = []
    assert run_once(Settings(home=home), lines.append) == 0, lines
    assert processes_of(home) == {}
    assert any(line == "running crm_sync" for line in lines)
    # Those of the sample, and by day renewals of certificates.
    leads = read_leads_in_pipedrive(home)
    assert leads >= LEADS_OF_THE_SAMPLE
    # Again: the stand-in for the CRM still has what the database says is there.
    assert run_once(Settings(home=home), lines.append) == 0, lines
    assert processes_of(home) == {}
    assert read_leads_in_pipedrive(home) == leads


def read_leads_in_pipedrive(home: Path) -> int:
    with Wiring(Settings(home=home)) as wiring:
        url = wiring.url("gatte_pipeline")
        assert not isinstance(url, str)
        settings = Settings(home=home, database_url=url.render_as_string(hide_password=False))
        return read_contents(settings)["leads no Pipedrive"]


@pytest.mark.long
@pytest.mark.timeout(900)
def test_without_anybody_to_clear_up_the_slot_of_a_killed_run_comes_free_with_its_lease(
    home: Path,
) -> None:
    """What happens where server and worker are restarted by the system, not by our supervisor."""
    settings = Settings(home=home)
    with (
        LocalStack(settings, print) as first,
        Wiring(first.settings) as wiring,
        wiring.connect("owner") as connection,
    ):
        driver = connection.connection.driver_connection
        assert driver is not None
        driver.execute("lock table pipeline.runs in access exclusive mode")
        wait_for("a scheduled run is at work", lambda: list(running(first.api)), 100)
        victim = next(running(first.api))
        for group in first.processes.values():
            os.killpg(group, signal.SIGKILL)
    with LocalStack(settings, print, recover=False) as second:
        wait_for(
            "a scheduled run ends well",
            lambda: any(run.ended_well for run in later(second.api, victim)),
            600,
        )
    assert processes_of(home) == {}
