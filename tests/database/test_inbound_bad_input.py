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
from tests.database.canonical import assert_same_dump, canonical_dump
from tests.inbound import AS_OF, NOW, Inbound
from tests.postgres import TestDatabase
from tests.webhooks import (
    ANA,
    BRUNO,
    change,
    chatbot_conversation,
    chatbot_message,
    contact,
    edit,
    jsonl,
    line,
    number_change,
    reaction,
    revoke,
    rfc3339,
    status,
    text_message,
    texts,
    user_preference,
)

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
    "an event whose role is none": (
        chatbot_message(NOW, wamid="bad", phone=ANA, role=HIDDEN),
        "wrong_type",
        "role",
    ),
    "an event without its client": (chatbot_message(NOW, wamid="bad"), "missing_field", "phone"),
    "an event without its message": (chatbot_message(NOW, phone=ANA), "missing_field", "wamid"),
    "an event of an impossible phone": (
        chatbot_message(NOW, wamid="bad", phone=HIDDEN),
        "invalid_phone",
        "phone",
    ),
    "an event with tokens that are text": (
        chatbot_message(NOW, wamid="bad", phone=ANA, tokens_used=HIDDEN),
        "wrong_type",
        "tokens_used",
    ),
    "an event with more tokens than fit": (
        chatbot_message(NOW, wamid="bad", phone=ANA, tokens_used=2**31),
        "too_long",
        "tokens_used",
    ),
    "an event without a time zone": (
        chatbot_message(NOW, wamid="bad", phone=ANA, sent_at="2026-03-02T12:00:00"),
        "invalid_timestamp",
        "sent_at",
    ),
    "an event of the future": (
        chatbot_message(NOW + 601, wamid="bad", phone=ANA),
        "future",
        "sent_at",
    ),
    "an event with a NUL": (
        chatbot_message(NOW, wamid="bad", phone=ANA, content=f"{HIDDEN}\0"),
        "nul_character",
        "content",
    ),
    "an event cut off": (
        chatbot_message(NOW, wamid="bad", phone=ANA, content=HIDDEN)[:-2],
        "malformed_json",
        None,
    ),
    "an event with a flow and no mode": (
        chatbot_message(NOW, wamid="bad", phone=ANA, current_flow=HIDDEN),
        "missing_field",
        "mode",
    ),
    "a state that is none": (
        chatbot_conversation("bad", NOW, HIDDEN, phone=ANA),
        "wrong_type",
        "status",
    ),
    "a state given to somebody and not transferred": (
        chatbot_conversation("bad", NOW, "closed", phone=ANA, transferred_to=HIDDEN),
        "wrong_type",
        "transferred_to",
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


def test_webhooks_of_the_crm_are_neither_loaded_nor_told_nor_moved(inbound: Inbound) -> None:
    webhook = b'{"meta": {"entity": "person"}, "data": {"name": "Ana"}}'
    inbound.put("pipedrive-00ff.json", webhook)
    report = inbound.load()
    assert (report.outcome, report.reason, report.notes) == (
        Outcome.SKIPPED,
        "nothing_to_do",
        [],
    )
    inbound.put("z.jsonl", good(1))
    report = inbound.load()
    assert (report.inserted, report.received, report.notes) == (1, 1, [])
    assert (inbound.landing / "pipedrive-00ff.json").read_bytes() == webhook
    assert inbound.rows("select * from pipeline.quarantine") == []
    assert inbound.one("select count(*) from pipeline.inbound_batches") == (1,)


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


# Records that are each well-formed, and mean nothing good together or too early.

CARLA = "5511900000003"
NOBODY = "00000000-0000-4000-8000-00000000000b"
BY_PHONE = {"phone": f"+{ANA}"}


def said(wamid: str, at: int = NOW, sender: str | None = ANA, **more: Any) -> bytes:
    return texts(text_message(wamid, at, sender=sender, body=wamid, **more))


def one_line(record: dict[str, Any]) -> bytes:
    return line(change(record))


def load_each(make_database: MakeDatabase, files: list[list[bytes]]) -> str:
    """The canonical dump after these files, one load each, in a database of their own."""
    with make_database() as database:
        inbound = Inbound(database)
        for lines in files:
            inbound.send(*lines)
        with database.connect("owner") as owner:
            return canonical_dump(owner)


def assert_order_leaves_no_trace(make_database: MakeDatabase, records: list[bytes]) -> None:
    """In one file, in one backwards, one by one, one by one backwards: the same rows."""
    backwards = records[::-1]
    expected = load_each(make_database, [records])
    for files in ([backwards], [[item] for item in records], [[item] for item in backwards]):
        assert_same_dump(load_each(make_database, files), expected)


def test_an_event_of_a_user_that_does_not_exist_waits_and_loads_once_it_does(
    inbound: Inbound,
) -> None:
    inbound.put(
        "lote.jsonl",
        jsonl(
            good(1),
            chatbot_message(NOW - 9, wamid="a", user_id=NOBODY, content=HIDDEN),
            chatbot_conversation("e", NOW - 5, "waiting", user_id=NOBODY.upper()),
        ),
    )
    report = inbound.load()
    assert (report.received, report.inserted) == (3, 1)
    assert report.quarantined == {"unknown_user": 2}
    assert_told(report, "lote.jsonl", "linha 2", "user_id", "[unknown_user]")
    assert inbound.rows("select kind, line from pipeline.quarantine order by line") == [
        ("chatbot_message", 2),
        ("chatbot_conversation", 3),
    ]
    replay = inbound.run("quarantine_replay")
    assert (replay.received, sum(replay.quarantined.values()) + replay.duplicate) == (2, 2)
    assert inbound.one("select count(*) from pipeline.quarantine") == (2,), "still nobody"

    inbound.execute(
        "insert into users (id, phone, is_client, created_at, updated_at) "
        "values (:id, :phone, false, :at, :at)",
        id=NOBODY,
        phone=f"+{BRUNO}",
        at=AS_OF,
    )
    replay = inbound.run("quarantine_replay")
    assert (replay.received, replay.inserted, replay.quarantined) == (2, 2, {})
    assert inbound.one("select count(*) from pipeline.quarantine") == (0,)
    assert inbound.one(
        "select c.status, m.content, m.role from conversations as c "
        "inner join messages as m on c.id = m.conversation_id where c.user_id = :user_id",
        user_id=NOBODY,
    ) == ("waiting", HIDDEN, "assistant")


def test_a_record_that_still_names_nobody_counts_an_attempt(inbound: Inbound) -> None:
    inbound.send(chatbot_message(NOW, wamid="a", user_id=NOBODY))
    for attempt in (1, 2):
        assert inbound.run("quarantine_replay").quarantined == {"unknown_user": 1}
        assert inbound.one("select attempts from pipeline.quarantine") == (attempt,)


def test_who_was_merged_into_another_is_still_found_by_the_old_id(inbound: Inbound) -> None:
    gone = inbound.insert_user(f"+{BRUNO}")
    inbound.send(said("a", NOW - 90, sender=ANA))
    inbound.execute("update users set is_client = true where phone = :phone", phone=f"+{ANA}")
    inbound.send(
        said("b", NOW - 60, sender=ANA, from_user_id="BR.1"),
        said("c", NOW - 50, sender=BRUNO, from_user_id="BR.1"),
    )
    report = inbound.send(chatbot_message(NOW, wamid="d", user_id=gone))
    assert (report.inserted, report.quarantined) == (1, {})
    assert inbound.one("select total_messages from conversations") == (4,)


CONTRADICTIONS: dict[str, list[bytes]] = {
    "two states of one conversation at one instant": [
        said("a", NOW - 60),
        chatbot_conversation("e1", NOW, "waiting", **BY_PHONE),
        chatbot_conversation("e2", NOW, "transferred", transferred_to="Ana Exemplo", **BY_PHONE),
        chatbot_conversation("e3", NOW, "open", **BY_PHONE),
    ],
    "closed and open at one instant, and a message": [
        said("a", NOW - 60),
        chatbot_conversation("e1", NOW - 30, "closed", **BY_PHONE),
        chatbot_conversation("e2", NOW - 30, "open", **BY_PHONE),
        said("b", NOW - 30),
    ],
    "one event id with two states": [
        said("a", NOW - 60),
        chatbot_conversation("e1", NOW - 30, "waiting", **BY_PHONE),
        chatbot_conversation("e1", NOW - 30, "closed", **BY_PHONE),
    ],
    "one event id with two instants": [
        said("a", NOW - 60),
        chatbot_conversation("e1", NOW - 30, "closed", **BY_PHONE),
        said("b", NOW - 25),
        chatbot_conversation("e1", NOW - 20, "closed", **BY_PHONE),
    ],
    "one event id of two clients": [
        said("a", NOW - 60),
        said("b", NOW - 60, sender=BRUNO),
        chatbot_conversation("e1", NOW - 30, "waiting", phone=f"+{ANA}"),
        chatbot_conversation("e1", NOW - 20, "waiting", phone=f"+{BRUNO}"),
    ],
    "one message told twice by the chatbot, otherwise": [
        chatbot_message(NOW - 9, wamid="a", content="x", mode="menu", tokens_used=3, **BY_PHONE),
        chatbot_message(NOW - 9, wamid="a", content="y", mode="flow", tokens_used=2, **BY_PHONE),
        chatbot_message(NOW - 9, wamid="a", content="x", role="user", mode="human", **BY_PHONE),
    ],
    "one message of two clients": [
        said("a", NOW - 9, sender=BRUNO),
        chatbot_message(NOW - 20, wamid="a", role="user", content="x", phone=f"+{ANA}"),
        said("b", NOW - 5, sender=ANA),
    ],
    "one message id with two texts": [
        texts(text_message("a", NOW, body="x")),
        texts(text_message("a", NOW, body="y")),
        texts(text_message("a", NOW + 1, body="0")),
    ],
    "words that only the chatbot calls an opt-out": [
        texts(text_message("a", NOW, body="sair do plano")),
        chatbot_message(NOW - 1, wamid="a", role="user", content="SAIR", **BY_PHONE),
    ],
    "stop and resume at one instant": [
        line(user_preference(NOW, "stop")),
        line(user_preference(NOW, "resume")),
    ],
    "two edits and a revoke of one instant": [
        said("a", NOW - 60),
        one_line(edit("e1", NOW, "a", "x")),
        one_line(edit("e2", NOW, "a", "y")),
        one_line(revoke("e3", NOW, "a")),
        said("b", NOW - 50),
        one_line(edit("e4", NOW, "b", "x")),
        one_line(edit("e5", NOW, "b", "y")),
    ],
    "two reactions of one instant": [
        said("a", NOW - 60),
        one_line(reaction("r1", NOW, "a", "👍")),
        one_line(reaction("r2", NOW, "a", None)),
        one_line(reaction("r3", NOW, "a", "🙏")),
    ],
    "one number to two at one instant": [
        said("a", NOW - 60, sender=ANA),
        one_line(number_change("n1", NOW - 30, ANA, BRUNO)),
        one_line(number_change("n2", NOW - 30, ANA, CARLA)),
        said("b", NOW - 20, sender=BRUNO),
        said("c", NOW - 10, sender=CARLA),
        said("d", NOW, sender=ANA),
    ],
    "two numbers to one at one instant": [
        said("a", NOW - 60, sender=ANA),
        said("b", NOW - 60, sender=BRUNO),
        one_line(number_change("n1", NOW - 30, ANA, CARLA)),
        one_line(number_change("n2", NOW - 30, BRUNO, CARLA)),
        said("c", NOW - 10, sender=CARLA),
    ],
    "two clients who exchange their numbers": [
        said("a", NOW - 60, sender=ANA),
        said("b", NOW - 60, sender=BRUNO),
        one_line(number_change("n1", NOW - 30, ANA, BRUNO)),
        one_line(number_change("n2", NOW - 30, BRUNO, ANA)),
        said("c", NOW - 10, sender=ANA),
        said("d", NOW - 10, sender=BRUNO),
    ],
    "a number that goes, comes back, and goes in a circle": [
        said("a", NOW - 60, sender=ANA),
        one_line(number_change("n1", NOW - 50, ANA, BRUNO)),
        said("b", NOW - 40, sender=BRUNO),
        said("x", NOW - 40, sender=ANA),
        one_line(number_change("n2", NOW - 30, BRUNO, CARLA)),
        said("c", NOW - 20, sender=CARLA),
        one_line(number_change("n3", NOW - 10, CARLA, ANA)),
        said("d", NOW, sender=ANA),
    ],
    "a number that changes to itself": [
        said("a", NOW - 60, sender=ANA),
        one_line(number_change("n1", NOW - 30, ANA, ANA)),
        said("b", NOW, sender=ANA),
    ],
    "an edit of an edit of an edit": [
        said("a", NOW - 60),
        one_line(edit("e1", NOW - 50, "a", "um")),
        one_line(edit("e2", NOW - 40, "e1", "dois")),
        one_line(edit("e3", NOW - 30, "e2", "três")),
    ],
    "edits in a circle, and one of itself": [
        said("a", NOW - 60),
        one_line(edit("e1", NOW - 50, "e2", "um")),
        one_line(edit("e2", NOW - 40, "e1", "dois")),
        one_line(edit("e3", NOW - 30, "e3", "três")),
        one_line(edit("e4", NOW - 20, "a", "quatro")),
    ],
    "an edit with the id of the message it changes": [
        said("a", NOW - 60),
        one_line(edit("a", NOW - 50, "a", "corrigido")),
    ],
    "one edit id with two texts": [
        said("a", NOW - 60),
        one_line(edit("e1", NOW - 50, "a", "x")),
        one_line(edit("e1", NOW - 50, "a", "y")),
    ],
}


@pytest.mark.parametrize("name", sorted(CONTRADICTIONS))
def test_of_records_that_contradict_each_other_the_order_decides_nothing(
    make_database: MakeDatabase, name: str
) -> None:
    assert_order_leaves_no_trace(make_database, CONTRADICTIONS[name])


def clients(inbound: Inbound) -> list[tuple[str, str]]:
    """The texts of each client, by phone."""
    return [
        (str(phone), str(contents))
        for phone, contents in inbound.rows(
            "select u.phone, string_agg(m.content, ' ' order by m.created_at, m.id) "
            "from users as u inner join conversations as c on u.id = c.user_id "
            "inner join messages as m on c.id = m.conversation_id "
            "group by u.id order by min(m.created_at), min(m.content)"
        )
    ]


def test_a_circle_of_number_changes_ends_with_who_began_it(inbound: Inbound) -> None:
    inbound.send(*CONTRADICTIONS["a number that goes, comes back, and goes in a circle"])
    # Whoever had the number in between keeps what was said, and not the number.
    first, other = clients(inbound)
    assert first == (f"+{ANA}", "a b c d")
    assert other[1] == "x"
    assert other[0] != f"+{ANA}"


def test_a_number_that_went_to_somebody_else_is_no_longer_of_who_had_it(inbound: Inbound) -> None:
    inbound.send(
        said("a", NOW - 40, sender=ANA),
        one_line(number_change("n", NOW - 10, CARLA, ANA)),
        said("b", NOW, sender=ANA),
    )
    (_, former), (phone, latter) = clients(inbound)
    assert (former, latter, phone) == ("a", "b", f"+{ANA}")


def test_numbers_that_turn_out_to_be_exchanged_leave_one_open_conversation_each(
    inbound: Inbound,
) -> None:
    for record in (
        said("d", NOW - 10, sender=BRUNO),
        said("c", NOW - 10, sender=ANA),
        one_line(number_change("n2", NOW - 30, BRUNO, ANA)),
        one_line(number_change("n1", NOW - 30, ANA, BRUNO)),
        said("a", NOW - 60, sender=ANA),
    ):
        inbound.send(record)
    assert sorted(clients(inbound)) == [(f"+{ANA}", "c"), (f"+{BRUNO}", "a d")]


def test_clients_who_exchange_numbers_take_what_they_said_with_them(inbound: Inbound) -> None:
    for record in CONTRADICTIONS["two clients who exchange their numbers"]:
        inbound.send(record)
    assert clients(inbound) == [(f"+{BRUNO}", "a d"), (f"+{ANA}", "b c")]


def contents(inbound: Inbound) -> list[str]:
    return [row[0] for row in inbound.rows("select content from messages order by created_at")]


def test_an_edit_of_an_edit_is_an_edit_of_the_message(inbound: Inbound) -> None:
    for record in CONTRADICTIONS["an edit of an edit of an edit"][::-1]:
        inbound.send(record)
    assert contents(inbound) == ["três"]


def test_edits_in_a_circle_change_nothing_and_stop_nothing(inbound: Inbound) -> None:
    report = inbound.send(*CONTRADICTIONS["edits in a circle, and one of itself"])
    assert (report.received, report.inserted, report.quarantined) == (5, 5, {})
    assert contents(inbound) == ["quatro"]


def test_a_chain_of_edits_of_any_length_ends_with_the_last(inbound: Inbound) -> None:
    chain = [f"e{number}" for number in range(200)]
    records = [
        one_line(edit(wamid, NOW - 300 + place, of, wamid))
        for place, (wamid, of) in enumerate(zip(chain, ["a", *chain], strict=False))
    ]
    inbound.send(said("a", NOW - 400), *records)
    assert contents(inbound) == [chain[-1]]


def test_a_change_of_a_message_that_never_came_waits_alone_in_its_file(inbound: Inbound) -> None:
    for record in (edit("e1", NOW - 60, "a", "editado"), revoke("e2", NOW - 50, "b")):
        assert inbound.send(one_line(record)).inserted == 1
        assert inbound.send(one_line(record)).duplicate == 1
    assert bodies(inbound) == 0
    inbound.send(said("a", NOW - 90), said("b", NOW - 80))
    assert contents(inbound) == ["editado", ""]


def test_a_conversation_event_before_any_message_waits_for_them(inbound: Inbound) -> None:
    report = inbound.send(chatbot_conversation("e", NOW - 30, "waiting", **BY_PHONE))
    assert (report.received, report.inserted) == (1, 1)
    assert inbound.rows("select phone from users") == [(f"+{ANA}",)]
    assert inbound.rows("select id from conversations") == []
    inbound.send(said("a", NOW - 60))
    assert inbound.one("select status, total_messages from conversations") == ("waiting", 1)


def test_an_event_of_before_the_first_message_says_nothing_of_it(inbound: Inbound) -> None:
    inbound.send(chatbot_conversation("e", NOW - 30, "waiting", **BY_PHONE))
    inbound.send(said("a", NOW))
    assert inbound.one("select status, total_messages from conversations") == ("open", 1)


# Seconds; far above what it takes, far below what grows with the square.
LONGEST_SECONDS = 60
MANY = 2_000


def of_parent(number: int, at: int, **more: Any) -> bytes:
    bsuid = f"BR.{number:08}"
    return texts(
        text_message(f"p{at}-{number}", at, sender=f"55119{number:08}", from_user_id=bsuid, **more)
    )


@pytest.mark.parametrize("are_known", [False, True])
def test_very_many_senders_of_one_parent_are_one_client_in_time(
    inbound: Inbound, are_known: bool
) -> None:
    numbers = range(1, MANY + 1)
    if are_known:
        inbound.send(*(of_parent(number, NOW - 60) for number in numbers))
        assert inbound.one("select count(*) from users") == (MANY,)
    report = inbound.send(
        *(of_parent(number, NOW, from_parent_user_id="BR.ENT.1") for number in numbers)
    )
    assert report.inserted == MANY
    assert report.seconds < LONGEST_SECONDS
    assert inbound.one("select count(*) from users") == (1,)
    total = MANY * (1 + are_known)
    assert inbound.rows("select total_messages from conversations") == [(total,)]
    assert inbound.one("select count(*) from pipeline.user_merges") == ((MANY - 1) * are_known,)
    # One more costs no more than a second, however many there are.
    again = inbound.send(of_parent(7, NOW + 1, from_parent_user_id="BR.ENT.1"))
    assert again.seconds < LONGEST_SECONDS / 10


@pytest.mark.parametrize("field", ["schema", "type"])
def test_an_event_of_a_later_program_waits_in_quarantine_for_ours(
    inbound: Inbound, field: str
) -> None:
    event = chatbot_message(NOW, wamid="a", phone=ANA, content=HIDDEN)
    later = event.replace(*((b"event/1", b"event/2") if field == "schema" else (b"message", b"x")))
    report = inbound.send(later, good(1))
    assert (report.inserted, report.quarantined) == (1, {"not_yet_supported": 1})
    assert inbound.one("select kind, field from pipeline.quarantine") == ("chatbot_event", field)
    assert HIDDEN not in report.to_json().decode()


def test_what_is_understood_and_not_wanted_is_skipped_with_its_reason(inbound: Inbound) -> None:
    inbound.execute(
        "insert into pipeline.settings (name, value) values ('adopted_at', :at)",
        at=rfc3339(NOW - 3600),
    )
    of_system = {"type": "customer_identity_changed", "body": "código mudou"}
    report = inbound.send(
        texts(text_message("g", NOW, group_id="grupo-exemplo")),
        line(change(errors=[{"code": 130429}])),
        line({"field": "account_update", "value": {"event": "VERIFIED_ACCOUNT"}}),
        one_line(
            {"id": "s", "timestamp": str(NOW), "from": ANA, "type": "system"}
            | {"system": of_system}
        ),
        said("old", NOW - 91 * 86_400),
        said("before", NOW - 3601),
        line(change()),
        said("a", NOW),
    )
    assert report.skipped == {
        "group": 1,
        "service_error": 1,
        "account_event": 1,
        "security_code": 1,
        "past_retention": 1,
        "before_cutover": 1,
        "empty_notification": 1,
    }
    assert (report.received, report.inserted) == (8, 1)
    assert contents(inbound) == ["a"]
    assert inbound.one("select count(*) from users") == (1,)


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
