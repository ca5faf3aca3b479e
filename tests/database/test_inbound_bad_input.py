"""Bad input: named by file, line, field and reason, kept whole, and no neighbour lost with it."""

from __future__ import annotations

import gzip
import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.implementations.local import LocalFileSystem

from gatte_pipelines.errors import (
    BadInputError,
    ConfigurationError,
    GatteError,
    PermanentError,
    RetryableError,
)
from gatte_pipelines.inbound.load import MAX_LINE_BYTES, Progress
from gatte_pipelines.run_report import Outcome, RunReport
from tests.inbound import AS_OF, NOW, Inbound
from tests.postgres import TestDatabase
from tests.webhooks import ANA, change, contact, jsonl, line, status, text_message, texts

HIDDEN = "valor-que-ninguem-pode-ver"
MakeDatabase = Callable[..., AbstractContextManager[TestDatabase]]


@pytest.fixture
def inbound(database: TestDatabase) -> Inbound:
    return Inbound(database)


def good(number: int) -> bytes:
    return texts(text_message(f"good{number}", NOW))


def bodies(inbound: Inbound) -> int:
    return int(inbound.one("select count(*) from messages")[0])


def assert_told(report: RunReport, *words: str) -> None:
    """One note says all these words, and nothing told holds a value that came in."""
    assert any(all(word in note for word in words) for note in report.notes), report.notes
    assert HIDDEN not in report.to_json().decode() + report.summary_pt()


def of_message(**fields: Any) -> bytes:
    message = text_message("bad", NOW) | fields
    return line(change({key: value for key, value in message.items() if value is not None}))


BAD_LINES = {
    "malformed JSON": (f'{{"object":"{HIDDEN}'.encode(), "malformed_json", None),
    "text after the end": (good(9) + HIDDEN.encode(), "malformed_json", None),
    "no notification": (f'["{HIDDEN}"]'.encode(), "wrong_type", None),
    "another object": (f'{{"object":"{HIDDEN}","entry":[]}}'.encode(), "wrong_type", "object"),
    "an id that is a number": (of_message(id=7), "wrong_type", "messages[].id"),
    "a text that is a list": (of_message(text=[HIDDEN]), "wrong_type", "messages[].text"),
    "a sender that is an object": (of_message(**{"from": {}}), "wrong_type", "messages[].from"),
    "invalid UTF-8": (
        of_message(text={"body": HIDDEN}).replace(HIDDEN.encode(), HIDDEN.encode() + b"\xff"),
        "invalid_utf8",
        "messages[]",
    ),
    "a NUL in a text": (
        of_message(text={"body": f"{HIDDEN}\0"}),
        "nul_character",
        "messages[].text.body",
    ),
    "a NUL in a name": (
        texts(text_message("bad", NOW), contacts=[contact(ANA, f"{HIDDEN}\0")]),
        "nul_character",
        "contacts[].profile.name",
    ),
    "a name longer than its column": (
        texts(text_message("bad", NOW), contacts=[contact(ANA, HIDDEN * 10)]),
        "too_long",
        "contacts[].profile.name",
    ),
    "an id longer than any": (of_message(id=HIDDEN * 30), "too_long", "messages[].id"),
    "a sender longer than its column": (
        of_message(**{"from": "5" * 40}),
        "invalid_phone",
        "messages[].from",
    ),
    "a timestamp that is text": (
        of_message(timestamp=HIDDEN),
        "invalid_timestamp",
        "messages[].timestamp",
    ),
    "a timestamp that is a number": (
        of_message(timestamp=NOW),
        "wrong_type",
        "messages[].timestamp",
    ),
    "a negative timestamp": (
        of_message(timestamp="-1"),
        "invalid_timestamp",
        "messages[].timestamp",
    ),
    "a timestamp in the future": (
        of_message(timestamp=str(NOW + 601)),
        "future",
        "messages[].timestamp",
    ),
    "a timestamp past all calendars": (
        of_message(timestamp="9" * 18),
        "future",
        "messages[].timestamp",
    ),
    "an error code past its column": (
        line(change(statuses=[status("w", "failed", NOW, errors=[{"code": 2**40}])])),
        "too_long",
        "statuses[].errors[].code",
    ),
}


@pytest.mark.parametrize("name", sorted(BAD_LINES))
def test_a_bad_line_is_named_and_kept_and_the_rest_is_loaded(inbound: Inbound, name: str) -> None:
    bad, reason, field = BAD_LINES[name]
    inbound.put("lote.jsonl", jsonl(good(1), bad, good(2)))
    report = inbound.load()
    assert report.outcome is Outcome.COMPLETED
    assert (report.received, report.inserted, report.quarantined) == (3, 2, {reason: 1})
    assert bodies(inbound) == 2
    assert_told(report, "lote.jsonl", "linha 2", f"[{reason}]", field or "")
    source, at, stored, where, payload = inbound.one(
        "select source_name, line, reason, field, payload from pipeline.quarantine"
    )
    assert (source, at, stored, where) == ("lote.jsonl", 2, reason, field)
    assert HIDDEN.encode() in payload or HIDDEN.encode() not in bad


def test_bad_units_of_one_body_leave_the_good_ones_of_it_alone(inbound: Inbound) -> None:
    body = line(
        change(
            text_message("a", NOW),
            text_message("b", NOW, body="\0"),
            {"id": HIDDEN},
            text_message("c", NOW),
            statuses=[status("w", "read", NOW), status("w", "sent", NOW) | {"timestamp": "x"}],
        )
    )
    report = inbound.send(body)
    assert (report.received, report.inserted) == (6, 3)
    assert report.quarantined == {
        "nul_character": 1,
        "missing_field": 1,
        "invalid_timestamp": 1,
    }


def test_a_body_of_a_document_is_judged_like_a_line(inbound: Inbound) -> None:
    inbound.put("a.json", good(1))
    inbound.put("b.json", b'{"object":')
    report = inbound.load()
    assert (report.inserted, report.quarantined) == (1, {"malformed_json": 1})
    assert_told(report, "b.json", "linha 1")


def test_an_empty_file_is_told_and_archived(inbound: Inbound) -> None:
    for name in ("a.json", "b.jsonl", "c.jsonl.gz"):
        inbound.put(name, b"")
    report = inbound.load()
    assert (report.outcome, report.received) == (Outcome.COMPLETED, 0)
    assert_told(report, "a.json", "arquivo vazio")
    assert [path.name for path in inbound.landing.iterdir()] == ["archive"]


def test_blank_lines_are_nothing(inbound: Inbound) -> None:
    inbound.put("a.jsonl", b"\n  \r\n" + good(1) + b"\r\n\n" + good(2))
    assert inbound.load().received == 2


def test_a_truncated_gzip_loads_all_whole_lines_before_the_break(inbound: Inbound) -> None:
    noise = [texts(text_message(f"w{n}", NOW, body=os.urandom(400).hex())) for n in range(400)]
    whole = gzip.compress(jsonl(*noise))
    for name in ("lote.jsonl.gz", "outro.jsonl.gz"):
        inbound.put(name, whole[: len(whole) // 2])
    inbound.put("z.jsonl", good(1))
    report = inbound.load()
    assert_told(report, "lote.jsonl.gz", "[truncated_gzip]")
    assert report.quarantined == {"truncated_gzip": 1}, "the same bytes twice are one record"
    assert 100 < bodies(inbound) < 400
    assert report.inserted == bodies(inbound)
    kept = inbound.landing / "archive" / "2026-03-02" / "lote.jsonl.gz"
    assert kept.read_bytes() == whole[: len(whole) // 2]


def test_two_broken_files_of_one_name_are_two_records(inbound: Inbound) -> None:
    for end in (-1, -2):
        inbound.put("lote.jsonl.gz", gzip.compress(jsonl(good(1)))[:end])
        assert inbound.load().quarantined == {"truncated_gzip": 1}


def test_a_file_that_is_not_gzip_in_spite_of_its_name_is_told(inbound: Inbound) -> None:
    inbound.put("lote.jsonl.gz", jsonl(good(1)))
    inbound.put("z.jsonl", good(2))
    report = inbound.load()
    assert (report.inserted, report.quarantined) == (1, {"not_gzip": 1})
    assert_told(report, "lote.jsonl.gz", "[not_gzip]")


def test_a_gzip_of_several_members_is_one_file(inbound: Inbound) -> None:
    parts = gzip.compress(jsonl(good(1))) + gzip.compress(jsonl(good(2)))
    inbound.put("lote.jsonl.gz", parts)
    assert inbound.load().inserted == 2


def test_a_gzip_with_a_wrong_checksum_is_told(inbound: Inbound) -> None:
    whole = bytearray(gzip.compress(jsonl(good(1), good(2))))
    whole[-8] ^= 1
    inbound.put("lote.jsonl.gz", bytes(whole))
    report = inbound.load()
    assert sum(report.quarantined.values()) == 1
    assert_told(report, "lote.jsonl.gz")


def test_a_file_still_being_written_is_left_alone_until_its_rename(inbound: Inbound) -> None:
    for name in ("a.jsonl.tmp", "b.jsonl.part", ".c.jsonl"):
        (inbound.landing / name).write_bytes(good(1))
    report = inbound.load()
    assert (report.outcome, report.notes) == (Outcome.SKIPPED, [])
    (inbound.landing / "a.jsonl.tmp").rename(inbound.landing / "a.jsonl")
    assert inbound.load().inserted == 1


def test_files_of_other_kinds_and_folders_are_told_and_left(inbound: Inbound) -> None:
    inbound.put("notas.txt", b"x")
    (inbound.landing / "pasta.json").mkdir()
    inbound.put("z.jsonl", good(1))
    report = inbound.load()
    assert report.inserted == 1
    assert_told(report, "notas.txt", "ignorado")
    assert_told(report, "pasta.json", "ignorado")
    assert (inbound.landing / "notas.txt").exists()


def test_a_file_that_vanishes_after_it_was_listed_is_told(inbound: Inbound) -> None:
    inbound.put("a.jsonl", good(1))
    second = inbound.put("b.jsonl", good(2))
    inbound.put("c.jsonl", good(3))

    def remove(_progress: Progress) -> None:
        second.unlink(missing_ok=True)

    report = inbound.load(progress=remove)
    assert (report.outcome, report.inserted) == (Outcome.COMPLETED, 2)
    assert_told(report, "b.jsonl", "sumiu")


def test_a_file_that_vanishes_before_it_is_archived_is_loaded_and_told(inbound: Inbound) -> None:
    only = inbound.put("a.jsonl", good(1))
    report = inbound.load(progress=lambda _progress: only.unlink())
    assert report.inserted == 1
    assert_told(report, "a.jsonl", "sumiu antes de ser arquivado")


class _Refusing(LocalFileSystem):
    """A file system that refuses to open one file, as permissions do to who is not root."""

    protocol = "refusing"

    def open(self, path: str, mode: str = "rb", **options: Any) -> Any:
        if path.endswith("proibido.jsonl"):
            raise PermissionError(13, "Permission denied", path)
        return super().open(path, mode, **options)


@pytest.fixture
def _refusing() -> None:
    fsspec.register_implementation("refusing", _Refusing, clobber=True)


@pytest.mark.usefixtures("_refusing")
def test_a_file_that_may_not_be_read_stays_and_is_told(database: TestDatabase) -> None:
    inbound = Inbound(database)
    inbound = Inbound(database, inbound_url=f"refusing://{inbound.landing}")
    inbound.put("proibido.jsonl", good(1))
    inbound.put("z.jsonl", good(2))
    report = inbound.load()
    assert (report.outcome, report.inserted) == (Outcome.COMPLETED, 1)
    assert_told(report, "proibido.jsonl", "sem permissão", "continua onde está")
    assert (inbound.landing / "proibido.jsonl").exists()


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="needs a file that fails to read")
def test_named_files_none_of_which_can_be_read_fail_the_run(inbound: Inbound) -> None:
    with pytest.raises(BadInputError, match=r"mem: nothing .*mem: não pode ser lido \(OSError\)"):
        inbound.load(paths=["/proc/self/mem"])
    assert inbound.one("select outcome from pipeline.runs") == ("failed",)


def test_a_named_file_that_is_absent_fails_only_a_run_without_any_other(inbound: Inbound) -> None:
    path = inbound.put("a.jsonl", good(1))
    report = inbound.load(paths=["ausente.json", str(path)])
    assert report.inserted == 1
    assert_told(report, "ausente.json", "não encontrado")
    with pytest.raises(BadInputError, match=r"ausente\.json: no such file") as caught:
        inbound.load(paths=["ausente.json"])
    assert caught.value.exit_code == 1


def test_a_named_folder_without_files_fails_the_run(inbound: Inbound, tmp_path: Path) -> None:
    (tmp_path / "vazia").mkdir()
    with pytest.raises(GatteError, match="vazia"):
        inbound.load(paths=[str(tmp_path / "vazia")])


def test_a_line_of_three_megabytes_is_loaded(inbound: Inbound) -> None:
    body = "á" * (3 * 1024 * 1024 // 2)
    report = inbound.send(texts(text_message("big", NOW, body=body)), good(1))
    assert report.inserted == 2
    assert inbound.one("select max(length(content)) from messages") == (len(body),)


@pytest.mark.parametrize("name", ["lote.jsonl", "lote.jsonl.gz", "lote.json"])
def test_a_line_past_the_limit_is_told_and_the_rest_loaded(inbound: Inbound, name: str) -> None:
    long = texts(text_message("big", NOW, body=HIDDEN + "x" * (MAX_LINE_BYTES + 1024 * 1024)))
    content = long if name.endswith(".json") else jsonl(good(1), long, good(2))
    inbound.put(name, gzip.compress(content, 1) if name.endswith(".gz") else content)
    inbound.put("z.jsonl", good(3))
    report = inbound.load()
    assert report.inserted == (1 if name.endswith(".json") else 3)
    assert report.quarantined == {"line_too_long": 1}
    assert_told(report, name, "linha longa demais")
    assert inbound.one("select length(payload) <= 4096 from pipeline.quarantine") == (True,)


def test_a_body_loaded_before_changes_no_row_and_is_told(inbound: Inbound) -> None:
    content = jsonl(
        texts(text_message("a", NOW), contacts=[contact(ANA, "Ana")]),
        line(change(statuses=[status("w", "read", NOW)])),
        b"{",
    )
    inbound.put("a.jsonl", content)
    first = inbound.load()
    tables = ("users", "conversations", "messages", "session_context")
    ours = ("message_statuses", "quarantine", "user_identities", "user_activity", "message_facts")
    queries = [
        f"select * from {table} order by 1, 2"  # noqa: S608 - names of ours
        for table in (*tables, *(f"pipeline.{name}" for name in ours))
    ]
    before = [inbound.rows(query) for query in queries]
    inbound.put("again.jsonl", content)
    second = inbound.load()
    assert (first.inserted, first.duplicate) == (2, 0)
    assert (second.received, second.duplicate) == (3, 3)
    assert_told(second, "again.jsonl", "já carregado antes")
    assert [inbound.rows(query) for query in queries] == before


def test_another_body_under_the_name_of_an_archived_one_is_loaded_and_kept(
    inbound: Inbound,
) -> None:
    for number in (1, 2):
        inbound.put("lote.jsonl", good(number))
        assert inbound.load().inserted == 1
    kept = sorted((inbound.landing / "archive" / "2026-03-02").iterdir())
    assert sorted(path.read_bytes() for path in kept) == [good(1), good(2)]


def test_a_file_name_of_any_bytes_is_loaded_and_told(inbound: Inbound) -> None:
    name = os.fsdecode(b"lote\xff[b]\n\t.jsonl")
    inbound.put(name, jsonl(good(1), b"{"))
    report = inbound.load()
    assert (report.inserted, report.quarantined) == (1, {"malformed_json": 1})
    assert_told(report, r"lote\udcff[b]\n\t.jsonl")
    assert [path.name for path in inbound.landing.iterdir()] == ["archive"]


def test_a_nul_in_any_field_stops_no_run(inbound: Inbound) -> None:
    nul = "x\0y"
    statuses = [
        status(nul, "sent", NOW),
        status("w", nul, NOW),
        status("w", "sent", NOW, recipient_id=nul, biz_opaque_callback_data=nul),
        status("w", "read", NOW, pricing={"category": nul}),
    ]
    message = text_message("a", NOW)
    fields = ("id", "from", "type", "timestamp", "from_user_id", "from_parent_user_id")
    messages = [message | {field: nul} for field in fields]
    others = [{"field": nul, "value": {nul: nul}}, {"field": "account_update", "value": nul}]
    report = inbound.send(line(change(*messages, statuses=statuses), *others), b"\0", b"\0{}")
    assert report.received == len(statuses) + len(messages) + len(others) + 2
    assert report.outcome is Outcome.COMPLETED


def test_what_stopped_a_run_is_recorded_without_the_value(inbound: Inbound) -> None:
    with pytest.raises(GatteError):
        inbound.load(paths=["ausente.json"])
    assert inbound.one("select outcome, error from pipeline.runs") == (
        "failed",
        "ausente.json: no such file",
    )


# The run as a whole cannot do its work: these fail, with what to do.


def with_settings(inbound: Inbound, **changes: Any) -> Inbound:
    return Inbound(inbound.database, **changes)


def test_an_absent_landing_zone_names_the_setting(database: TestDatabase) -> None:
    inbound = Inbound(database, inbound_url=str(database.home / "ausente"))
    with pytest.raises(ConfigurationError, match="GATTE_INBOUND_URL"):
        inbound.load()


def test_a_database_that_does_not_exist_is_named(inbound: Inbound) -> None:
    url = inbound.settings.database_url or ""
    wrong = with_settings(inbound, database_url=url.replace(inbound.database.name, "ausente"))
    with pytest.raises(ConfigurationError, match="database ausente on"):
        wrong.load()


def test_a_server_that_is_not_there_may_be_there_later(inbound: Inbound, tmp_path: Path) -> None:
    wrong = with_settings(
        inbound, database_url=f"postgresql://gatte_pipeline@/gatte?host={tmp_path}"
    )
    with pytest.raises(RetryableError, match="is the server running"):
        wrong.load()


@pytest.mark.parametrize("url", ["postgresql://x:y@h:nonsense/db", "mysql://h/db", "texto"])
def test_a_url_that_is_none_is_refused_without_being_repeated(inbound: Inbound, url: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        with_settings(inbound, database_url=url).load()
    assert url not in caught.value.message


def test_a_database_that_was_not_migrated_says_what_to_run(make_database: MakeDatabase) -> None:
    with make_database(template="template0") as empty:
        inbound = Inbound(empty)
        inbound.put("a.jsonl", good(1))
        with pytest.raises(ConfigurationError, match="gatte db migrate"):
            inbound.load()
        assert (inbound.landing / "a.jsonl").exists()


def test_a_missing_key_is_named_and_nothing_is_loaded(inbound: Inbound) -> None:
    inbound.put("a.jsonl", good(1))
    with pytest.raises(ConfigurationError, match="GATTE_ID_KEY is not set"):
        with_settings(inbound, id_key=None).load()
    assert bodies(inbound) == 0
    assert (inbound.landing / "a.jsonl").exists()


def test_a_different_key_is_refused_and_nothing_is_loaded_twice(inbound: Inbound) -> None:
    inbound.put("a.jsonl", good(1))
    inbound.load()
    inbound.put("a.jsonl", good(1))
    other = with_settings(inbound, id_key=b"another-key-than-the-first-one")
    with pytest.raises(ConfigurationError, match="GATTE_ID_KEY is not the key"):
        other.load()
    with pytest.raises(ConfigurationError, match="GATTE_ID_KEY is not the key"):
        other.run("quarantine_replay")
    assert bodies(inbound) == 1
    assert inbound.load(as_of=AS_OF).duplicate == 1


def test_a_text_that_no_context_could_hold_is_too_long(inbound: Inbound) -> None:
    body = HIDDEN + "x" * (9 * 1024 * 1024)
    report = inbound.send(texts(text_message("big", NOW, body=body)), good(1))
    assert (report.inserted, report.quarantined) == (1, {"too_long": 1})
    assert HIDDEN not in report.to_json().decode()


def test_a_file_that_the_database_refuses_does_not_hold_up_the_files_behind_it(
    inbound: Inbound,
) -> None:
    inbound.execute("alter table messages add constraint no_poison check (content <> 'veneno')")
    inbound.put("a.jsonl", jsonl(texts(text_message("bad", NOW, body="veneno"))))
    inbound.put("b.jsonl", jsonl(good(1)))
    report = inbound.load()
    assert report.inserted == 1
    assert any("recusado pelo banco" in note for note in report.notes)
    with pytest.raises(PermanentError, match="refused by the database"):
        inbound.load()
