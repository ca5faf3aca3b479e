"""File stores count and remove what is past its time, and nothing else, on real folders."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import fsspec
import pytest

from gatte_pipelines.errors import ConfigurationError
from gatte_pipelines.landing import LandingZone
from gatte_pipelines.privacy.policy_file import read_policy
from gatte_pipelines.privacy.stores import (
    LOCAL_FOLDERS,
    FileStore,
    archived_files,
    folder_files,
    local_stores,
    waiting_files,
)

# 02:00 in São Paulo.
CUTOFF = datetime(2026, 3, 2, 5, tzinfo=UTC)
OLD = CUTOFF - timedelta(seconds=1)
NOBODY = 65534


def write(path: Path, at: datetime = OLD) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"{}")
    os.utime(path, (at.timestamp(), at.timestamp()))
    return path


def files_in(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


@contextmanager
def as_nobody() -> Iterator[None]:
    """Rights count for nothing when root asks."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(user)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that anybody may enter; pytest's own are root's alone."""
    folder = Path(tempfile.mkdtemp(prefix="gt-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def assert_nothing_due(store: FileStore, cutoff: datetime = CUTOFF) -> None:
    assert store.count_due(cutoff) == (0, None)
    assert store.trim(cutoff) == 0


# --- Names ----------------------------------------------------------------------------------------


def test_every_file_store_is_one_of_the_policy(repository: Path, tmp_path: Path) -> None:
    policy = read_policy(repository / "config" / "retention.yaml")
    zone = LandingZone(str(tmp_path))
    for store in (waiting_files(zone), archived_files(zone), *local_stores(tmp_path)):
        rule = policy.rule(store.name)
        assert rule.store == f"files.{store.name}"
        assert rule.period is not None


def test_local_stores_are_the_folders_under_home(tmp_path: Path) -> None:
    for name in LOCAL_FOLDERS:
        write(tmp_path / name / "a")
    write(tmp_path / "postgres" / "a")
    write(tmp_path / "id_key")
    assert [(store.name, store.trim(CUTOFF)) for store in local_stores(tmp_path)] == [
        (name, 1) for name in LOCAL_FOLDERS
    ]
    assert files_in(tmp_path) == {"postgres/a", "id_key"}


# --- The landing zone -----------------------------------------------------------------------------


def test_files_that_wait_past_their_time_go(tmp_path: Path) -> None:
    store = waiting_files(LandingZone(str(tmp_path)))
    write(tmp_path / "a.json", OLD - timedelta(days=3))
    write(tmp_path / "b.jsonl.gz.part")
    write(tmp_path / "c.json", CUTOFF)
    write(tmp_path / "notes.txt")
    write(tmp_path / "archive" / "2026-01-01" / "d.json")
    assert store.count_due(CUTOFF) == (2, OLD - timedelta(days=3))
    assert store.trim(CUTOFF) == 2
    assert files_in(tmp_path) == {"c.json", "notes.txt", "archive/2026-01-01/d.json"}
    assert_nothing_due(store)


def test_archived_files_go_by_whole_days_and_take_their_folder_along(tmp_path: Path) -> None:
    store = archived_files(LandingZone(str(tmp_path)))
    archive = tmp_path / "archive"
    write(archive / "2026-02-28" / "a.json", CUTOFF + timedelta(days=9))
    write(archive / "2026-03-01" / "b.json.part")
    write(archive / "2026-03-02" / "c.json", OLD - timedelta(days=900))
    write(tmp_path / "waits.json")
    # The day begins at 03:00 UTC.
    assert store.count_due(CUTOFF) == (2, datetime(2026, 2, 28, 3, tzinfo=UTC))
    assert store.trim(CUTOFF) == 2
    assert files_in(tmp_path) == {"archive/2026-03-02/c.json", "waits.json"}
    assert [path.name for path in archive.iterdir()] == ["2026-03-02"]
    assert_nothing_due(store)


def test_a_day_of_the_archive_stays_until_it_is_over_in_sao_paulo(tmp_path: Path) -> None:
    store = archived_files(LandingZone(str(tmp_path)))
    write(tmp_path / "archive" / "2026-03-01" / "a.json")
    assert_nothing_due(store, datetime(2026, 3, 2, 2, 59, tzinfo=UTC))
    assert store.count_due(datetime(2026, 3, 2, 3, tzinfo=UTC))[0] == 1


def test_the_archive_of_an_object_store_is_trimmed_alike() -> None:
    filesystem = fsspec.filesystem("memory")
    zone = LandingZone("memory://trimmed")
    try:
        for day in ("2026-02-28", "2026-03-02"):
            filesystem.pipe_file(f"/trimmed/archive/{day}/a.json", b"{}")
        assert archived_files(zone).trim(CUTOFF) == 1
        assert filesystem.find("/trimmed") == ["/trimmed/archive/2026-03-02/a.json"]
        filesystem.pipe_file("/trimmed/b.json", b"{}")
        future = datetime.now(UTC) + timedelta(days=1)
        assert waiting_files(zone).count_due(future)[0] == 1
        assert waiting_files(zone).trim(future) == 1
    finally:
        filesystem.rm("/trimmed", recursive=True)


def test_one_file_that_cannot_be_removed_keeps_no_other(open_folder: Path) -> None:
    for day in ("2026-02-27", "2026-02-28"):
        write(open_folder / "archive" / day / "a.json")
        (open_folder / "archive" / day).chmod(0o777)
    stuck = open_folder / "archive" / "2026-02-27"
    stuck.chmod(0o555)
    store = archived_files(LandingZone(str(open_folder)))
    with as_nobody(), pytest.raises(ConfigurationError) as caught:
        store.trim(CUTOFF)
    stuck.chmod(0o777)
    assert caught.value.message.startswith(
        "landing_archive: 1 files past their time cannot be removed (PermissionError), 1 were"
    )
    assert "a.json" not in caught.value.message
    assert files_in(open_folder) == {"archive/2026-02-27/a.json"}


# --- Local folders --------------------------------------------------------------------------------


def test_local_files_past_their_time_go_and_newer_ones_stay(tmp_path: Path) -> None:
    store = folder_files("exports", tmp_path)
    write(tmp_path / "a.json", OLD - timedelta(days=2))
    write(tmp_path / "deep" / "er" / "b.html")
    write(tmp_path / "deep" / "c.html", CUTOFF)
    write(tmp_path / "d.json", CUTOFF + timedelta(days=1))
    assert store.count_due(CUTOFF) == (2, OLD - timedelta(days=2))
    assert store.trim(CUTOFF) == 2
    assert files_in(tmp_path) == {"deep/c.html", "d.json"}
    assert_nothing_due(store)


def test_a_folder_that_does_not_exist_holds_nothing(tmp_path: Path) -> None:
    assert_nothing_due(folder_files("exports", tmp_path / "absent"))


def test_links_are_neither_followed_nor_removed(tmp_path: Path) -> None:
    outside = write(tmp_path / "outside" / "kept.json")
    folder = tmp_path / "exports"
    folder.mkdir()
    (folder / "file").symlink_to(outside)
    (folder / "folder").symlink_to(outside.parent)
    (folder / "up").symlink_to("..")
    (folder / "dangling").symlink_to("absent")
    for link in folder.iterdir():
        os.utime(link, (0, 0), follow_symlinks=False)
    assert_nothing_due(folder_files("exports", folder))
    assert outside.exists()
    assert len(list(folder.iterdir())) == 4


def test_a_folder_that_is_a_link_is_refused_rather_than_passed_over(tmp_path: Path) -> None:
    kept = write(tmp_path / "elsewhere" / "kept.json")
    (tmp_path / "exports").symlink_to(kept.parent)
    store = folder_files("exports", tmp_path / "exports")
    for look in (store.count_due, store.trim):
        with pytest.raises(ConfigurationError, match="exports is no folder, or a symbolic link"):
            look(CUTOFF)
    assert kept.exists()


def test_a_file_in_the_place_of_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="exports is no folder"):
        folder_files("exports", write(tmp_path / "exports")).count_due(CUTOFF)


def test_a_home_that_is_a_link_is_followed(tmp_path: Path) -> None:
    write(tmp_path / "disk" / "exports" / "a.json")
    (tmp_path / "home").symlink_to(tmp_path / "disk")
    assert folder_files("exports", tmp_path / "home" / "exports").trim(CUTOFF) == 1


def test_what_is_no_regular_file_stays(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    os.utime(tmp_path / "pipe", (0, 0))
    (tmp_path / "folder").mkdir()
    os.utime(tmp_path / "folder", (0, 0))
    assert_nothing_due(folder_files("exports", tmp_path))
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)


def test_a_folder_swapped_for_a_link_while_it_is_trimmed_leads_nowhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outside = write(tmp_path / "outside" / "b.json")
    folder = tmp_path / "exports"
    write(folder / "a.json")
    write(folder / "sub" / "b.json")
    unlink = os.unlink

    def swap_then_unlink(name: str, *, dir_fd: int) -> None:
        # Between the look at what the folder holds and the removal, as an attacker would.
        if name == "b.json":
            (folder / "sub").rename(tmp_path / "moved")
            (folder / "sub").symlink_to(outside.parent)
        unlink(name, dir_fd=dir_fd)

    monkeypatch.setattr(os, "unlink", swap_then_unlink)
    assert folder_files("exports", folder).trim(CUTOFF) == 2
    assert (folder / "sub").is_symlink()
    assert outside.exists()
    assert files_in(tmp_path / "moved") == set()


@pytest.mark.parametrize("name", ["lote\udcff\n.json", "-rf *.json", "ação 😀.html"])
def test_files_of_odd_names_go_alone(tmp_path: Path, name: str) -> None:
    write(tmp_path / name)
    write(tmp_path / "kept.json", CUTOFF)
    assert folder_files("exports", tmp_path).trim(CUTOFF) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["kept.json"]


def test_a_local_file_that_cannot_be_removed_fails_the_store_without_its_name(
    open_folder: Path,
) -> None:
    folder = open_folder / "exports"
    write(folder / "fulano.json")
    write(folder / "open" / "other.json")
    (folder / "open").chmod(0o777)
    folder.chmod(0o555)
    with as_nobody(), pytest.raises(ConfigurationError) as caught:
        folder_files("exports", folder).trim(CUTOFF)
    assert "exports: 1 files past their time cannot be removed" in caught.value.message
    assert "fulano" not in caught.value.message
    assert files_in(folder) == {"fulano.json"}


def test_a_home_that_cannot_be_entered_fails_the_store(open_folder: Path) -> None:
    write(open_folder / "home" / "exports" / "a.json")
    (open_folder / "home").chmod(0)
    with as_nobody(), pytest.raises(ConfigurationError, match="exports cannot be listed"):
        folder_files("exports", open_folder / "home" / "exports").count_due(CUTOFF)
    (open_folder / "home").chmod(0o755)


def test_a_folder_that_cannot_be_listed_fails_the_store(open_folder: Path) -> None:
    folder = open_folder / "exports"
    write(folder / "closed" / "a.json")
    folder.chmod(0o755)
    (folder / "closed").chmod(0)
    try:
        with as_nobody(), pytest.raises(ConfigurationError, match="exports cannot be listed"):
            folder_files("exports", folder).count_due(CUTOFF)
    finally:
        (folder / "closed").chmod(0o755)
