"""The landing zone lists what is whole, and archives it without losing a file."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import fsspec
import pytest

from gatte_pipelines.errors import ConfigurationError
from gatte_pipelines.landing import LandingZone, is_webhook, neutral_name, printable

DAY = date(2026, 3, 2)


@pytest.fixture
def zone(tmp_path: Path) -> LandingZone:
    return LandingZone(str(tmp_path))


@pytest.fixture
def memory() -> Iterator[LandingZone]:
    filesystem = fsspec.filesystem("memory")
    zone = LandingZone("memory://landing")
    zone.create()
    yield zone
    filesystem.rm("/landing", recursive=True)


def names(zone: LandingZone) -> list[str]:
    return [file.name for file in zone.list_ready()[0]]


def test_only_whole_files_of_ours_are_ready_oldest_name_first(
    zone: LandingZone, tmp_path: Path
) -> None:
    for name in ("b.jsonl", "c.jsonl.gz", "a.json", "d.jsonl.tmp", "e.json.part", ".f.json"):
        (tmp_path / name).write_bytes(b"{}")
    (tmp_path / "archive").mkdir()
    (tmp_path / "folder.json").mkdir()
    (tmp_path / "notes.txt").write_bytes(b"")
    ready, others = zone.list_ready()
    assert [file.name for file in ready] == ["a.json", "b.jsonl", "c.jsonl.gz"]
    assert others == ["folder.json", "notes.txt"]
    assert [(file.is_document, file.is_compressed) for file in ready] == [
        (True, False),
        (False, False),
        (False, True),
    ]


def test_webhooks_of_another_system_wait_apart(zone: LandingZone, tmp_path: Path) -> None:
    webhooks = ["pipedrive-00ff.json", "pipedrive-1.json"]
    messages = ["a.json", "pipedrive-export.jsonl", "pipedrive.json", "x-pipedrive-1.json"]
    for name in (*messages, *webhooks, "pipedrive-2.json.part", "pipedrive-3.txt"):
        (tmp_path / name).write_bytes(b'{"meta": {}}')
    ready, others = zone.list_ready()
    assert [file.name for file in ready] == messages
    assert others == ["pipedrive-3.txt"]
    for found in (zone.list_webhooks(), zone.list_webhooks("pipedrive")):
        assert [file.name for file in found] == webhooks
    assert zone.list_webhooks("other") == []
    for file in zone.list_webhooks("pipedrive"):
        assert zone.read(file) == b'{"meta": {}}'
        assert zone.remove(file.path)
        with pytest.raises(FileNotFoundError):
            zone.read(file)
    assert zone.list_webhooks() == []
    assert len(names(zone)) == len(messages)


def test_a_webhook_stays_one_when_its_name_is_hidden() -> None:
    hidden = neutral_name("pipedrive-5511900001234.json")
    assert is_webhook(hidden, "pipedrive")
    assert "9000" not in hidden
    assert not is_webhook(neutral_name("5511900001234.json"))


def test_webhooks_of_a_zone_that_does_not_exist_name_the_setting(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="GATTE_INBOUND_URL"):
        LandingZone(str(tmp_path / "absent")).list_webhooks()


def test_a_file_is_listed_from_its_rename_on(zone: LandingZone, tmp_path: Path) -> None:
    unfinished = tmp_path / "a.json.part"
    unfinished.write_bytes(b"{}")
    assert names(zone) == []
    unfinished.rename(tmp_path / "a.json")
    assert names(zone) == ["a.json"]


@pytest.mark.parametrize("kind", ["zone", "memory"])
def test_an_archived_file_stands_under_its_day_and_is_no_longer_ready(
    kind: str, request: pytest.FixtureRequest
) -> None:
    zone: LandingZone = request.getfixturevalue(kind)
    filesystem = zone._fs
    for name, content in (("a.json", b"one"), ("b.json", b"two")):
        filesystem.pipe_file(f"{zone.root}/{name}", content)
    first, second = zone.list_ready()[0]
    target = zone.archive(first, DAY, "0123456789abcdef")
    assert target == f"{zone.root}/archive/2026-03-02/a.json"
    assert filesystem.cat_file(target) == b"one"
    assert names(zone) == [second.name]


def test_another_body_under_the_same_name_keeps_its_own_place(
    zone: LandingZone, tmp_path: Path
) -> None:
    for content, batch in ((b"one", "a" * 32), (b"two", "b" * 32), (b"three", "c" * 32)):
        (tmp_path / "x.y.jsonl.gz").write_bytes(content)
        zone.archive(zone.list_ready()[0][0], DAY, batch)
    kept = {path.name: path.read_bytes() for path in (tmp_path / "archive" / str(DAY)).iterdir()}
    assert kept == {
        "x.y.jsonl.gz": b"one",
        "x-bbbbbbbb.y.jsonl.gz": b"two",
        "x-cccccccc.y.jsonl.gz": b"three",
    }


@pytest.mark.parametrize("name", ["a[1].json", "a*.json", "a?.json", "ação 😀.json"])
@pytest.mark.parametrize("kind", ["zone", "memory"])
def test_a_name_with_special_characters_moves_no_other_file(
    kind: str, name: str, request: pytest.FixtureRequest
) -> None:
    zone: LandingZone = request.getfixturevalue(kind)
    for each in (name, "a1.json"):
        zone._fs.pipe_file(f"{zone.root}/{each}", each.encode())
    file = next(file for file in zone.list_ready()[0] if file.name == name)
    target = zone.archive(file, DAY, "a" * 32)
    assert zone._fs.cat_file(target) == name.encode()
    assert names(zone) == ["a1.json"]


def test_a_name_that_is_not_utf8_can_be_shown_opened_and_archived(
    zone: LandingZone, tmp_path: Path
) -> None:
    path = os.fsencode(tmp_path) + b"/lote\xff\n.json"
    Path(os.fsdecode(path)).write_bytes(b"{}")
    (file,) = zone.list_ready()[0]
    assert file.name == r"lote\udcff\n.json"
    with zone.open(file) as stream:
        assert stream.read() == b"{}"
    zone.archive(file, DAY, "a" * 32)
    assert names(zone) == []


def test_printable_leaves_ordinary_names_as_they_are() -> None:
    assert printable("mensagens de março (1).jsonl.gz") == "mensagens de março (1).jsonl.gz"


def test_a_folder_is_no_file(zone: LandingZone, tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError):
        zone.file(str(tmp_path))
    with pytest.raises(FileNotFoundError):
        zone.file(str(tmp_path / "absent.json"))


def test_a_zone_that_does_not_exist_names_the_setting(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="GATTE_INBOUND_URL"):
        LandingZone(str(tmp_path / "absent")).list_ready()


@pytest.mark.parametrize("url", ["nonsense://bucket/x", "sftp2://host/x"])
def test_a_scheme_that_nobody_knows_names_the_setting(url: str) -> None:
    with pytest.raises(ConfigurationError, match="GATTE_INBOUND_URL"):
        LandingZone(url)


@pytest.mark.parametrize("kind", ["folder", "memory"])
def test_archived_files_are_listed_newest_day_first_from_a_day_on(
    kind: str, zone: LandingZone, memory: LandingZone, tmp_path: Path
) -> None:
    where = zone if kind == "folder" else memory
    assert where.list_archived(DAY) == []
    for name, day in (("a.json", 2), ("c.jsonl.gz", 2), ("b.jsonl", 3), ("d.jsonl", 1)):
        if kind == "folder":
            (tmp_path / name).write_bytes(b"{}")
        else:
            fsspec.filesystem("memory").pipe(f"/landing/{name}", b"{}")
        (file,) = where.list_ready()[0]
        where.archive(file, date(2026, 3, day), "0" * 32)
    if kind == "folder":
        (tmp_path / "archive" / "not-a-day").mkdir()
        (tmp_path / "archive" / "2026-03-03" / "notes.txt").write_bytes(b"")
    assert [(day.day, file.name) for day, file in where.list_archived(DAY)] == [
        (3, "b.jsonl"),
        (2, "c.jsonl.gz"),
        (2, "a.json"),
    ]


# --- What retention removes -----------------------------------------------------------------------

CUTOFF = datetime(2026, 3, 2, 5, tzinfo=UTC)


def _write(path: Path, at: datetime) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"{}")
    os.utime(path, (at.timestamp(), at.timestamp()))
    return path


def test_files_that_wait_are_past_their_time_by_when_they_were_written(
    zone: LandingZone, tmp_path: Path
) -> None:
    old, older = CUTOFF - timedelta(seconds=1), CUTOFF - timedelta(days=9)
    for name in ("b.jsonl", "c.json.part", ".d.jsonl.gz.tmp", "pipedrive-1.json"):
        _write(tmp_path / name, old)
    _write(tmp_path / "a[1].json", older)
    _write(tmp_path / "new.json", CUTOFF)
    assert zone.list_waiting_before(CUTOFF) == [
        (older, f"{zone.root}/a[1].json"),
        (old, f"{zone.root}/.d.jsonl.gz.tmp"),
        (old, f"{zone.root}/b.jsonl"),
        (old, f"{zone.root}/c.json.part"),
        (old, f"{zone.root}/pipedrive-1.json"),
    ]


def test_what_is_not_ours_is_never_past_its_time(zone: LandingZone, tmp_path: Path) -> None:
    old = CUTOFF - timedelta(days=9)
    for name in ("notes.txt", "Makefile", "x.part", "folder/a.json", "archive/2026-03-01/a.json"):
        _write(tmp_path / name, old)
    outside = _write(tmp_path.parent / f"{tmp_path.name}-outside.json", old)
    (tmp_path / "link.json").symlink_to(outside)
    (tmp_path / "dangling.json").symlink_to(tmp_path / "absent")
    assert zone.list_waiting_before(CUTOFF) == []


def test_a_zone_that_does_not_exist_has_nothing_past_its_time(tmp_path: Path) -> None:
    zone = LandingZone(str(tmp_path / "absent"))
    assert zone.list_waiting_before(CUTOFF) == []
    assert zone.list_archived_before(DAY) == []
    assert zone.remove_empty_days(DAY) == 0


@pytest.mark.parametrize("kind", ["zone", "memory"])
def test_archived_files_are_past_their_time_by_their_day_whatever_their_name(
    kind: str, request: pytest.FixtureRequest
) -> None:
    zone: LandingZone = request.getfixturevalue(kind)
    expected = []
    for place in ("2026-03-01/b.json", "2026-03-01/a.json.part", "2026-02-27/deep/er/c.txt"):
        path = f"{zone.root}/archive/{place}"
        zone._fs.makedirs(path.rsplit("/", 1)[0], exist_ok=True)
        zone._fs.pipe_file(path, b"{}")
        expected.append((date.fromisoformat(place[:10]), path))
    for place in ("2026-03-02/d.json", "2026-03-03/e.json"):
        zone._fs.makedirs(f"{zone.root}/archive/{place[:10]}", exist_ok=True)
        zone._fs.pipe_file(f"{zone.root}/archive/{place}", b"{}")
    assert zone.list_archived_before(DAY) == sorted(expected)


def test_archived_files_beside_the_day_folders_count_by_when_they_were_written(
    zone: LandingZone, tmp_path: Path
) -> None:
    # 02:30 UTC is still the day before in São Paulo.
    old = _write(tmp_path / "archive" / "old.json", datetime(2026, 3, 2, 2, 30, tzinfo=UTC))
    kept = _write(tmp_path / "archive" / "copy" / "new.json", datetime(2026, 3, 2, 3, tzinfo=UTC))
    assert zone.list_archived_before(DAY) == [(date(2026, 3, 1), str(old))]
    assert zone.list_archived_before(DAY + timedelta(days=1)) == [
        (date(2026, 3, 1), str(old)),
        (date(2026, 3, 2), str(kept)),
    ]


def test_links_in_the_archive_are_neither_followed_nor_listed(
    zone: LandingZone, tmp_path: Path
) -> None:
    outside = _write(tmp_path.parent / f"{tmp_path.name}-outside" / "a.json", CUTOFF)
    archive = tmp_path / "archive"
    (archive / "2026-02-01").mkdir(parents=True)
    (archive / "2026-02-01" / "link.json").symlink_to(outside)
    (archive / "2026-02-01" / "folder").symlink_to(outside.parent)
    (archive / "2026-02-02").symlink_to(outside.parent)
    assert zone.list_archived_before(DAY) == []
    assert zone.remove_empty_days(DAY) == 0
    assert outside.exists()


def test_a_file_is_removed_once(zone: LandingZone, tmp_path: Path) -> None:
    _write(tmp_path / "a*.json", CUTOFF)
    _write(tmp_path / "a1.json", CUTOFF)
    assert zone.remove(f"{zone.root}/a*.json")
    assert not zone.remove(f"{zone.root}/a*.json")
    assert names(zone) == ["a1.json"]


@pytest.mark.parametrize("kind", ["zone", "memory"])
def test_empty_folders_of_past_days_go_and_no_others(
    kind: str, request: pytest.FixtureRequest
) -> None:
    zone: LandingZone = request.getfixturevalue(kind)
    archive = f"{zone.root}/archive"
    for folder in ("2026-02-27/deep/er", "2026-03-01", "2026-03-02", "2026-02-28", "other"):
        zone._fs.makedirs(f"{archive}/{folder}", exist_ok=True)
    zone._fs.pipe_file(f"{archive}/2026-02-28/a.json", b"{}")
    assert zone.remove_empty_days(DAY) == 2
    left = {entry["name"].rsplit("/", 1)[1] for entry in zone._fs.ls(archive, detail=True)}
    assert left == {"2026-02-28", "2026-03-02", "other"}


def test_a_filesystem_that_tells_no_time_names_the_setting(
    zone: LandingZone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _write(tmp_path / "a.json", CUTOFF)
    # As fsspec's base class answers for filesystems that lack it.
    monkeypatch.setattr(type(zone._fs), "modified", fsspec.AbstractFileSystem.modified)
    with pytest.raises(ConfigurationError, match=r"GATTE_INBOUND_URL.*does not say when"):
        zone.list_waiting_before(CUTOFF)
