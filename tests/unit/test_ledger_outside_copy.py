"""The copy of the ledger outside the database: an append that is safe or did not happen."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from gatte_pipelines.errors import ConfigurationError, PermanentError
from gatte_pipelines.privacy.entries import GENESIS, Entry, next_entry
from gatte_pipelines.privacy.outside_copy import FILE_NAME, MAX_LINE_BYTES, OutsideCopy

AT = datetime(2026, 3, 2, 12, tzinfo=UTC)


def chain(count: int, *, ids: int = 1) -> list[Entry]:
    """Entries that continue one another."""
    entries: list[Entry] = []
    previous = GENESIS
    for seq in range(1, count + 1):
        body = {"erasure": 1, "user_ids": [uuid4() for _ in range(ids)], "lead_ids": []}
        entries.append(next_entry(seq, previous, "erased", body, AT))
        previous = entries[-1].hash
    return entries


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "ledger"
    made.mkdir()
    return made


@pytest.fixture
def outside(folder: Path) -> OutsideCopy:
    return OutsideCopy(str(folder))


def test_an_empty_folder_is_the_beginning_of_the_chain(outside: OutsideCopy) -> None:
    assert outside.head() == (0, GENESIS)
    assert list(outside.read()) == []


def test_what_was_appended_is_read_in_its_order(outside: OutsideCopy) -> None:
    entries = chain(5)
    outside.append(entries[:2])
    outside.append(entries[2:])
    assert list(outside.read()) == entries
    assert outside.head() == (5, entries[-1].hash)


def test_an_entry_longer_than_a_block_is_found_at_the_end(outside: OutsideCopy) -> None:
    entries = chain(3, ids=20_000)
    outside.append(entries)
    assert outside.head() == (3, entries[-1].hash)


def test_only_the_owner_reads_the_file(tmp_path: Path) -> None:
    outside = OutsideCopy(str(tmp_path / "new" / "ledger"))
    outside.create()
    outside.append(chain(1))
    assert stat.S_IMODE((tmp_path / "new" / "ledger").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "new" / "ledger" / FILE_NAME).stat().st_mode) == 0o600


def test_file_and_folder_are_on_the_disk_before_append_returns(
    outside: OutsideCopy, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced = record_syncs(monkeypatch)
    entries = chain(2)
    outside.append(entries[:1])
    assert synced == [folder / FILE_NAME, folder]
    outside.append(entries[1:])
    outside.append([])  # another process may have been killed between its write and its fsync
    assert synced == [folder / FILE_NAME, folder, folder / FILE_NAME, folder / FILE_NAME]


def record_syncs(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    synced: list[Path] = []
    fsync = os.fsync

    def record(file: int) -> None:
        synced.append(Path(f"/proc/self/fd/{file}").readlink())
        fsync(file)

    monkeypatch.setattr(os, "fsync", record)
    return synced


@pytest.mark.parametrize("share", [0.01, 0.5, 0.99])
def test_half_a_line_counts_as_none_and_is_replaced(
    outside: OutsideCopy, folder: Path, share: float
) -> None:
    entries = chain(3, ids=5_000)
    outside.append(entries[:2])
    line = entries[2].to_line()
    with (folder / FILE_NAME).open("ab") as file:
        file.write(line[: int(len(line) * share)])
    assert outside.head() == (2, entries[1].hash)
    assert list(outside.read()) == entries[:2]
    outside.append(entries[2:])
    assert list(outside.read()) == entries


def test_half_of_the_first_line_is_replaced(outside: OutsideCopy, folder: Path) -> None:
    entries = chain(1)
    (folder / FILE_NAME).write_bytes(entries[0].to_line()[:10])
    assert outside.head() == (0, GENESIS)
    outside.append(entries)
    assert list(outside.read()) == entries


def write_part(file: int, data: Any) -> int:
    return os.pwrite(file, bytes(data[:7]), os.fstat(file).st_size)


def test_a_disk_that_takes_parts_gets_the_whole(
    outside: OutsideCopy, monkeypatch: pytest.MonkeyPatch
) -> None:
    entries = chain(2)
    monkeypatch.setattr(os, "write", write_part)
    outside.append(entries)
    monkeypatch.undo()
    assert list(outside.read()) == entries


def _full_after_a_part() -> Callable[..., int]:
    calls: list[int] = []

    def write(file: int, data: Any) -> int:
        calls.append(file)
        if len(calls) > 1:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write_part(file, data)

    return write


def _fail(_file: int) -> None:
    raise OSError(errno.EIO, os.strerror(errno.EIO))


@pytest.mark.parametrize(
    ("function", "replacement", "words"),
    [
        ("write", _full_after_a_part(), "No space left"),
        ("fsync", _fail, "Input/output error"),
    ],
)
def test_an_append_that_fails_leaves_what_was_there(
    outside: OutsideCopy,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    function: str,
    replacement: Callable[..., Any],
    words: str,
) -> None:
    entries = chain(3)
    outside.append(entries[:1])
    before = (folder / FILE_NAME).read_bytes()
    with monkeypatch.context() as patched:
        patched.setattr(os, function, replacement)
        with pytest.raises(PermanentError, match=f"{words}.*GATTE_LEDGER_URL"):
            outside.append(entries[1:])
    assert (folder / FILE_NAME).read_bytes() == before
    outside.append(entries[1:])
    assert list(outside.read()) == entries


def test_a_full_disk_is_said(outside: OutsideCopy, folder: Path) -> None:
    (folder / FILE_NAME).symlink_to("/dev/full")
    with pytest.raises(PermanentError, match=r"No space left on device.*GATTE_LEDGER_URL"):
        outside.append(chain(1))


def test_a_folder_that_is_gone_is_said_and_not_made(outside: OutsideCopy, folder: Path) -> None:
    folder.rmdir()
    reads: list[Callable[[], object]] = [outside.head, outside.size_bytes]
    reads += [lambda: list(outside.read()), lambda: outside.append(chain(1))]
    for attempt in reads:
        with pytest.raises(PermanentError, match=r"No such file.*GATTE_LEDGER_URL"):
            attempt()
    assert not folder.exists()


def test_a_folder_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(PermanentError, match=r"cannot be made.*GATTE_LEDGER_URL"):
        OutsideCopy(str(tmp_path / "file" / "ledger")).create()


@pytest.mark.parametrize("last", [b"\n", b"{}\n", b"x" * 100 + b"\n"])
def test_a_changed_last_line_is_refused(outside: OutsideCopy, folder: Path, last: bytes) -> None:
    outside.append(chain(1))
    with (folder / FILE_NAME).open("ab") as file:
        file.write(last)
    with pytest.raises(PermanentError, match="ledger verify"):
        outside.head()
    with pytest.raises(PermanentError, match="line 2"):
        list(outside.read())


def test_a_last_line_whose_hash_does_not_fit_is_refused(outside: OutsideCopy, folder: Path) -> None:
    outside.append(chain(1))
    text = (folder / FILE_NAME).read_text()
    (folder / FILE_NAME).write_text(text.replace("2026-03-02T12", "2026-03-02T13"))
    with pytest.raises(PermanentError, match="ledger verify"):
        outside.head()


def test_a_line_without_an_end_is_read_in_pieces(outside: OutsideCopy, folder: Path) -> None:
    with (folder / FILE_NAME).open("wb") as file:
        file.truncate(5 * MAX_LINE_BYTES)
    assert max(len(line) for _, _, line in outside.lines()) == MAX_LINE_BYTES
    with pytest.raises(PermanentError, match="ledger verify"):
        outside.head()


@pytest.mark.parametrize("prefix", ["file://", "file://localhost"])
def test_a_file_url_is_the_same_folder(folder: Path, prefix: str) -> None:
    spaced = folder / "with space"
    spaced.mkdir()
    OutsideCopy(f"{prefix}{folder}/with%20space").append(chain(1))
    assert (spaced / FILE_NAME).exists()


@pytest.mark.parametrize(
    "url", ["s3://bucket/ledger", "memory://ledger", "file://another-host/ledger"]
)
def test_a_store_that_knows_no_fsync_is_refused(url: str) -> None:
    with pytest.raises(ConfigurationError, match="GATTE_LEDGER_URL"):
        OutsideCopy(url)
