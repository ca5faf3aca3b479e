"""Files lose a subject and nothing else: their days, names and other lines stay."""

from __future__ import annotations

import gzip
import os
import re
import signal
import sys
import tracemalloc
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import fsspec
import pytest

from gatte_pipelines.errors import PermanentError
from gatte_pipelines.inbound import erasure
from gatte_pipelines.inbound.erasure import FilesRewritten, SubjectFiles
from gatte_pipelines.inbound.ids import MessageIds
from gatte_pipelines.inbound.load import MAX_LINE_BYTES
from gatte_pipelines.landing import LandingZone
from gatte_pipelines.personal_data import SubjectKeys
from tests.inbound import NOW
from tests.webhooks import ANA, BRUNO, chatbot_message, jsonl, text_message, texts

IDS = MessageIds(b"obviously-no-production-key")
KEYS = SubjectKeys(
    phones=frozenset({ANA}),
    bsuids=frozenset(),
    emails=frozenset(),
    message_ids=frozenset(),
    user_ids=frozenset(),
)
OF_ANA = texts(text_message("w1", NOW))
OF_BRUNO = texts(text_message("w2", NOW, sender=BRUNO))
OF_BOTH = texts(text_message("w3", NOW), text_message("w4", NOW, sender=BRUNO))
DAY = "2026-03-01"


@pytest.fixture
def zone(tmp_path: Path) -> LandingZone:
    (tmp_path / "archive" / DAY).mkdir(parents=True)
    return LandingZone(str(tmp_path))


@pytest.fixture
def files(zone: LandingZone) -> SubjectFiles:
    return SubjectFiles(zone, IDS)


def archived(tmp_path: Path, name: str) -> Path:
    return tmp_path / "archive" / DAY / name


def names(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def rewrite(files: SubjectFiles) -> FilesRewritten:
    done = files.rewrite(KEYS, execute=True)
    assert files.holds(KEYS) == 0
    return done


def test_waiting_and_archived_files_of_every_kind_lose_the_subject(
    files: SubjectFiles, tmp_path: Path
) -> None:
    (tmp_path / "a.json").write_bytes(OF_BOTH)
    (tmp_path / "b.jsonl").write_bytes(jsonl(OF_BRUNO, OF_ANA, b"", OF_BRUNO))
    archived(tmp_path, "c.jsonl.gz").write_bytes(gzip.compress(jsonl(OF_ANA, OF_BRUNO)))
    archived(tmp_path, "d.jsonl").write_bytes(jsonl(OF_BRUNO))
    assert files.holds(KEYS) == 3
    assert files.rewrite(KEYS, execute=False) == FilesRewritten(files=3, records=3)
    assert files.holds(KEYS) == 3
    assert rewrite(files) == FilesRewritten(files=3, records=3)
    assert (tmp_path / "b.jsonl").read_bytes() == jsonl(OF_BRUNO, b"", OF_BRUNO)
    assert gzip.decompress(archived(tmp_path, "c.jsonl.gz").read_bytes()) == jsonl(OF_BRUNO)
    assert b"w4" in (tmp_path / "a.json").read_bytes()
    expected = ["a.json", f"archive/{DAY}/c.jsonl.gz", f"archive/{DAY}/d.jsonl", "b.jsonl"]
    assert names(tmp_path) == expected


def test_a_waiting_webhook_of_the_crm_about_the_subject_is_removed(
    files: SubjectFiles, tmp_path: Path
) -> None:
    for name, phone in (("pipedrive-a.json", ANA), ("pipedrive-b.json", BRUNO)):
        (tmp_path / name).write_bytes(
            b'{"meta": {"entity": "person"}, "data": {"phones": [{"value": "+%s"}]}}'
            % phone.encode()
        )
    (found,) = files.find(KEYS)
    assert found.place == "landing/pipedrive-a.json"
    assert rewrite(files) == FilesRewritten(files=1, records=1)
    assert names(tmp_path) == ["pipedrive-b.json"]


def test_a_second_rewrite_changes_nothing(files: SubjectFiles, tmp_path: Path) -> None:
    path = archived(tmp_path, "a.jsonl.gz")
    path.write_bytes(gzip.compress(jsonl(OF_BOTH)))
    rewrite(files)
    before = path.read_bytes(), path.stat()
    assert rewrite(files) == FilesRewritten(files=0, records=0)
    assert (path.read_bytes(), path.stat()) == before


@pytest.mark.parametrize("name", ["a.json", "a.jsonl", "a.jsonl.gz"])
def test_a_file_left_with_nothing_is_removed(
    files: SubjectFiles, tmp_path: Path, name: str
) -> None:
    body = OF_ANA if name == "a.json" else jsonl(OF_ANA, b"  ", OF_ANA)
    path = archived(tmp_path, name)
    path.write_bytes(gzip.compress(body) if name.endswith(".gz") else body)
    rewrite(files)
    assert names(tmp_path) == []


NAMES_OF_ANA = (
    f"{ANA}.jsonl",
    f"conversa_{ANA[:2]}_{ANA[2:4]}_{ANA[4:9]}_{ANA[9:]}-1.jsonl.gz",
    f"+{ANA[:2]} ({ANA[2:4]}) {ANA[4:9]}-{ANA[9:]}.json",
    f"x{ANA[2:]}y.jsonl",
    f"20261124{ANA}0001.jsonl",
)


@pytest.mark.parametrize("name", NAMES_OF_ANA)
def test_a_file_that_is_called_by_the_subjects_number_gets_a_name_of_nobody(
    files: SubjectFiles, tmp_path: Path, name: str
) -> None:
    body = OF_BRUNO if name.endswith(".json") else jsonl(OF_BRUNO)
    written = gzip.compress(body) if name.endswith(".gz") else body
    for path in (tmp_path / name, archived(tmp_path, name)):
        path.write_bytes(written)
        os.utime(path, (1_700_000_000, 1_700_000_000))
    others = archived(tmp_path, f"{BRUNO}.jsonl")
    others.write_bytes(jsonl(OF_BRUNO))
    planned = files.rewrite(KEYS, execute=False)
    assert planned == FilesRewritten(files=0, records=0, renamed=2)
    assert files.holds(KEYS) == 2
    assert rewrite(files) == planned
    assert others.exists()
    hidden = [path for path in tmp_path.rglob("erased-*") if path.is_file()]
    assert len(hidden) == 2
    suffix = name[name.rindex(".json") :]
    for path in hidden:
        assert re.fullmatch(rf"erased-[a-z]{{16}}{re.escape(suffix)}", path.name)
        assert (path.read_bytes(), path.stat().st_mtime) == (written, 1_700_000_000)
    assert {path.parent for path in hidden} == {tmp_path, others.parent}
    assert rewrite(files) == FilesRewritten(files=0, records=0)


def test_a_file_of_the_subject_and_called_so_loses_both_or_is_removed(
    files: SubjectFiles, tmp_path: Path
) -> None:
    archived(tmp_path, f"a-{ANA}.jsonl").write_bytes(jsonl(OF_BOTH))
    archived(tmp_path, f"b-{ANA}.jsonl").write_bytes(jsonl(OF_ANA))
    planned = files.rewrite(KEYS, execute=False)
    assert rewrite(files) == planned == FilesRewritten(files=2, records=2, renamed=2)
    (left,) = names(tmp_path)
    assert left.startswith(f"archive/{DAY}/erased-")


def test_time_and_mode_of_a_file_stay(files: SubjectFiles, tmp_path: Path) -> None:
    """Retention counts from the time of a waiting file; nobody else may read it either."""
    path = tmp_path / "a.jsonl"
    path.write_bytes(jsonl(OF_BOTH))
    path.chmod(0o600)
    os.utime(path, (1_700_000_000, 1_700_000_000))
    rewrite(files)
    assert (path.stat().st_mtime, path.stat().st_mode & 0o777) == (1_700_000_000, 0o600)


def test_line_ends_and_byte_order_mark_stay(files: SubjectFiles, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + OF_BOTH + b"\r\n" + OF_ANA + b"\r\n  " + OF_BRUNO)
    rewrite(files)
    rest = path.read_bytes()
    assert rest.startswith(b'\xef\xbb\xbf{"object"')
    assert rest.endswith(b"}\r\n  " + OF_BRUNO)


def test_what_is_found_tells_place_and_line_and_holds_nobody_else(
    files: SubjectFiles, tmp_path: Path
) -> None:
    event = chatbot_message(NOW, external_id="x", phone=ANA)
    (tmp_path / "a.jsonl").write_bytes(jsonl(OF_BRUNO, b"", OF_BOTH))
    archived(tmp_path, f"{ANA}.jsonl").write_bytes(jsonl(event))
    waiting, kept = files.find(KEYS)
    assert (waiting.place, waiting.line) == ("landing/a.jsonl", 3)
    assert (kept.line, kept.record) == (1, event)
    assert kept.place.startswith(f"archive/{DAY}/")
    assert ANA not in kept.place
    assert BRUNO.encode() not in waiting.record
    assert ANA not in repr([waiting, kept])


def test_a_name_that_says_gzip_hides_no_text(files: SubjectFiles, tmp_path: Path) -> None:
    archived(tmp_path, "a.jsonl.gz").write_bytes(jsonl(OF_ANA, OF_BRUNO))
    archived(tmp_path, "b.jsonl").write_bytes(gzip.compress(jsonl(OF_ANA, OF_BRUNO)))
    assert rewrite(files).records == 2
    assert archived(tmp_path, "a.jsonl.gz").read_bytes() == jsonl(OF_BRUNO)
    assert gzip.decompress(archived(tmp_path, "b.jsonl").read_bytes()) == jsonl(OF_BRUNO)


def test_a_gzip_that_is_cut_off_keeps_what_can_be_read(files: SubjectFiles, tmp_path: Path) -> None:
    noise = b'{"object":"x","noise":"' + os.urandom(200_000).hex().encode() + b'"}'
    path = archived(tmp_path, "a.jsonl.gz")
    path.write_bytes(gzip.compress(jsonl(OF_ANA, OF_BRUNO, noise))[:100_000])
    assert files.rewrite(KEYS, execute=True) == FilesRewritten(files=1, records=1, unreadable=1)
    assert gzip.decompress(path.read_bytes()).startswith(jsonl(OF_BRUNO))
    assert files.rewrite(KEYS, execute=True) == FilesRewritten(files=0, records=0)


def test_one_that_is_cut_off_and_without_the_subject_is_told_and_left(
    files: SubjectFiles, tmp_path: Path
) -> None:
    path = archived(tmp_path, "a.jsonl.gz")
    path.write_bytes(gzip.compress(jsonl(OF_BRUNO))[:-9])
    before = path.read_bytes()
    assert files.rewrite(KEYS, execute=True) == FilesRewritten(files=0, records=0, unreadable=1)
    assert path.read_bytes() == before


@pytest.mark.parametrize("at", [0, MAX_LINE_BYTES + 1 - 6, MAX_LINE_BYTES + erasure._BLOCK_BYTES])
def test_a_line_longer_than_the_loader_takes_goes_whole(
    files: SubjectFiles, tmp_path: Path, at: int
) -> None:
    """Also where the number lies over the seam of two parts."""
    long = b"x" * at + ANA.encode() + b"x" * (MAX_LINE_BYTES + 2_000_000 - at)
    other = b"y" * (MAX_LINE_BYTES + 2_000_000)
    path = tmp_path / "a.jsonl"
    path.write_bytes(jsonl(other, long, OF_BRUNO))
    (found,) = files.find(KEYS)
    assert (found.line, len(found.record)) == (2, 4096)
    assert rewrite(files).records == 1
    assert path.read_bytes() == jsonl(other, OF_BRUNO)


def test_a_document_longer_than_the_loader_takes_goes_whole(
    files: SubjectFiles, tmp_path: Path
) -> None:
    filler = b"x\n" * (MAX_LINE_BYTES // 2) + b"y\n"
    for name, body in (("a.json", filler + ANA.encode()), ("b.json", filler + BRUNO.encode())):
        (tmp_path / name).write_bytes(body)
    assert rewrite(files).records == 1
    assert names(tmp_path) == ["b.json"]


def test_a_file_larger_than_the_memory_is_rewritten(files: SubjectFiles, tmp_path: Path) -> None:
    path = archived(tmp_path, "a.jsonl.gz")
    with gzip.open(path, "wb", compresslevel=1) as stream:
        for _ in range(10):
            stream.write(jsonl(OF_BOTH, *[OF_BRUNO] * 3000))
    size = 10 * len(jsonl(OF_BOTH, *[OF_BRUNO] * 3000))
    tracemalloc.start()
    rewrite(files)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert size > 8_000_000
    assert peak < 2_000_000


def test_what_a_killed_run_left_is_removed_by_the_next(files: SubjectFiles, tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "archive" / DAY):
        (folder / ".rewriting-0123456789abcdef.tmp").write_bytes(OF_BRUNO)
    (tmp_path / "b.jsonl.part").write_bytes(OF_BRUNO)
    assert files.rewrite(KEYS, execute=False).files == 0
    assert len(names(tmp_path)) == 3
    rewrite(files)
    assert names(tmp_path) == ["b.jsonl.part"]


def test_an_unwritable_folder_is_told_without_the_files_name(
    files: SubjectFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = archived(tmp_path, f"{ANA}.jsonl")
    path.write_bytes(jsonl(OF_BOTH))

    def refuse(*_arguments: object) -> None:
        raise PermissionError(13, "denied", str(path))

    # A folder without write permission stops everybody but root, who runs the tests in containers.
    monkeypatch.setattr(files.zone._fs, "mv", refuse)
    with pytest.raises(PermanentError, match="PermissionError") as raised:
        files.rewrite(KEYS, execute=True)
    assert ANA not in str(raised.value)
    assert raised.value.__suppress_context__
    assert path.read_bytes() == jsonl(OF_BOTH)
    assert len(names(tmp_path)) == 1


CHANGES = {"os.rename", "os.remove", "shutil.copystat"}


def rewrite_until(files: SubjectFiles, kill_at: int) -> bool:
    """Rewrite in a process of its own that is killed before its nth change; whether it was."""
    child = os.fork()
    if not child:
        count = 0

        def audit(event: str, arguments: tuple[object, ...]) -> None:
            nonlocal count
            is_creation = event == "open" and bool(int(str(arguments[2])) & os.O_CREAT)
            if event in CHANGES or is_creation:
                count += 1
                if count == kill_at:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(audit)
        try:
            files.rewrite(KEYS, execute=True)
        finally:
            os._exit(0)
    return os.waitpid(child, 0)[1] == signal.SIGKILL


def test_a_run_killed_at_any_moment_loses_nobodys_lines(
    files: SubjectFiles, tmp_path: Path
) -> None:
    kills = 0
    while True:
        (tmp_path / "a.jsonl").write_bytes(jsonl(OF_BRUNO, OF_ANA))
        (tmp_path / "b.jsonl").write_bytes(jsonl(OF_ANA))
        archived(tmp_path, "c.jsonl.gz").write_bytes(gzip.compress(jsonl(OF_ANA, OF_BRUNO)))
        was_killed = rewrite_until(files, kills + 1)
        whole = jsonl(OF_BRUNO, OF_ANA), jsonl(OF_BRUNO)
        assert (tmp_path / "a.jsonl").read_bytes() in whole
        packed = gzip.decompress(archived(tmp_path, "c.jsonl.gz").read_bytes())
        assert packed in (jsonl(OF_ANA, OF_BRUNO), jsonl(OF_BRUNO))
        rewrite(files)
        assert names(tmp_path) == ["a.jsonl", f"archive/{DAY}/c.jsonl.gz"]
        assert (tmp_path / "a.jsonl").read_bytes() == jsonl(OF_BRUNO)
        if not was_killed:
            break
        kills += 1
    # Two files are written, moved; one is removed.
    assert kills >= 5


@pytest.fixture
def store() -> Iterator[LandingZone]:
    filesystem = fsspec.filesystem("memory")
    zone = LandingZone("memory://subjects")
    zone.create()
    yield zone
    filesystem.rm("/subjects", recursive=True)


def test_an_object_store_is_rewritten_alike(store: LandingZone) -> None:
    filesystem = fsspec.filesystem("memory")
    filesystem.pipe("/subjects/a[1]*.jsonl", jsonl(OF_ANA, OF_BRUNO))
    filesystem.pipe("/subjects/b.jsonl", jsonl(OF_ANA))
    filesystem.pipe(f"/subjects/archive/{DAY}/c.jsonl.gz", gzip.compress(jsonl(OF_BOTH, OF_BRUNO)))
    filesystem.pipe("/subjects/.rewriting-0.tmp", OF_BRUNO)
    files = SubjectFiles(store, IDS)
    assert rewrite(files).files == 3
    assert filesystem.cat_file("/subjects/a[1]*.jsonl") == jsonl(OF_BRUNO)
    assert sorted(filesystem.find("/subjects")) == [
        "/subjects/a[1]*.jsonl",
        f"/subjects/archive/{DAY}/c.jsonl.gz",
    ]
    assert [day for day, _ in store.list_archived(date.min)] == [date.fromisoformat(DAY)]
