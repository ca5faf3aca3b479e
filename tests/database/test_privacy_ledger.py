"""The ledger of what was destroyed: one chain, here and outside, whatever is killed or changed."""

from __future__ import annotations

import os
import shutil
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql

from gatte_pipelines.database.engine import psycopg_connection
from gatte_pipelines.errors import BadInputError, PermanentError, RetryableError
from gatte_pipelines.privacy.entries import GENESIS, Entry, canonical, hash_of, next_entry
from gatte_pipelines.privacy.ledger import (
    Ledger,
    OutsideCopy,
    Verification,
    import_missing,
    read_missing,
    verify,
)
from gatte_pipelines.privacy.outside_copy import FILE_NAME
from tests.database.ledger_process import (
    AFTER_INTENT,
    AT,
    BEFORE_FSYNC,
    BEFORE_OUTSIDE,
    IN_THE_LINE,
    LedgerProcess,
    intent,
)
from tests.postgres import TestDatabase

Connection = psycopg.Connection[Any]


@dataclass
class Book:
    """A ledger with its two copies, and a second connection for transactions of the work."""

    database: TestDatabase
    folder: Path
    ledger: Ledger
    work: Connection

    @property
    def outside(self) -> OutsideCopy:
        return OutsideCopy(str(self.folder))

    @property
    def file(self) -> Path:
        return self.folder / FILE_NAME

    def do_chunk(self) -> int:
        """An intent and its outcome, as retention writes them."""
        seq = self.ledger.append("intent", intent(), at=AT)
        with self.work.transaction(), self.work.cursor() as cursor:
            self.ledger.append_within(cursor, "outcome", {"intent": seq, "done": 5}, at=AT)
        return seq

    def fill(self, chunks: int) -> None:
        for _ in range(chunks):
            self.do_chunk()
        self.ledger.catch_up()

    def rows(self) -> list[Entry]:
        with self.work.transaction():
            rows = self.work.execute(
                "select seq, entry, previous_hash, hash from pipeline.privacy_ledger order by seq"
            )
            return [Entry(*row) for row in rows]

    def kinds(self) -> list[str]:
        return [entry.kind for entry in self.rows()]

    def verify(self) -> Verification:
        return verify(self.work, self.outside, patience_seconds=0)

    def assert_whole(self, entries: int) -> None:
        """Both copies hold the same chain."""
        found = self.verify()
        assert found.problems == ()
        assert (found.entries, found.outside_entries) == (entries, entries)
        assert list(self.outside.read()) == self.rows()

    def tamper(self, statement: str) -> None:
        """What the superuser can do who switches the triggers off."""
        with psycopg.connect(
            host=self.database.server.socket_folder, user="postgres", dbname=self.database.name
        ) as connection:
            connection.execute("set session_replication_role = replica")
            connection.execute(sql.SQL(statement))  # type: ignore[arg-type]

    def lines(self) -> list[bytes]:
        return self.file.read_bytes().splitlines(keepends=True)

    def write_lines(self, lines: list[bytes]) -> None:
        self.file.write_bytes(b"".join(lines))


@contextmanager
def open_book(database: TestDatabase, folder: Path) -> Iterator[Book]:
    with database.connect() as own, database.connect() as work:
        ledger = Ledger(psycopg_connection(own), OutsideCopy(str(folder)))
        yield Book(database, folder, ledger, psycopg_connection(work))


@pytest.fixture
def book(database: TestDatabase, tmp_path: Path) -> Iterator[Book]:
    with open_book(database, tmp_path / "ledger") as opened:
        yield opened


# --- appending -----------------------------------------------------------------------------------


def test_an_intent_stands_in_the_database_and_outside_when_append_returns(book: Book) -> None:
    assert book.ledger.append("intent", intent(), at=AT) == 1
    (entry,) = book.rows()
    assert (entry.kind, entry.at, entry.previous_hash) == ("intent", AT, GENESIS)
    assert list(book.outside.read()) == [entry]


def test_an_outcome_stands_or_falls_with_the_transaction_of_the_work(book: Book) -> None:
    seq = book.ledger.append("intent", intent(), at=AT)
    with book.work.transaction() as work, book.work.cursor() as cursor:
        book.ledger.append_within(cursor, "outcome", {"intent": seq, "done": 5}, at=AT)
        raise psycopg.Rollback(work)
    assert book.kinds() == ["intent"]
    with book.work.transaction(), book.work.cursor() as cursor:
        assert book.ledger.append_within(cursor, "outcome", {"intent": 1, "done": 5}, at=AT) == 2
    assert book.outside.head()[0] == 1
    assert book.ledger.catch_up() == 1
    assert book.ledger.catch_up() == 0
    book.assert_whole(2)


def test_the_next_intent_takes_older_entries_outside_first(book: Book) -> None:
    book.do_chunk()
    book.ledger.append("intent", intent(), at=AT)
    book.assert_whole(3)


def test_an_announcement_cannot_wait_for_a_transaction(book: Book) -> None:
    body = {"request_id": uuid4(), "user_ids": [uuid4()], "lead_ids": []}
    for kind, announced in (("intent", intent()), ("erasure", body)):
        with (
            pytest.raises(PermanentError, match="committed before"),
            book.work.transaction(),
            book.work.cursor() as cursor,
        ):
            book.ledger.append_within(cursor, kind, announced, at=AT)
    assert book.rows() == []


def test_append_is_refused_where_it_could_not_commit(database: TestDatabase, book: Book) -> None:
    with database.connect() as connection:
        driver = psycopg_connection(connection)
        driver.execute("select 1")
        with pytest.raises(RuntimeError, match="inside a transaction"):
            Ledger(driver, book.outside).append("intent", intent(), at=AT)
    with database.connect() as connection:
        driver = psycopg_connection(connection)
        driver.autocommit = True
        with driver.cursor() as cursor, pytest.raises(RuntimeError, match="outside a transaction"):
            book.ledger.append_within(cursor, "outcome", {"intent": 1, "done": 0}, at=AT)
    assert book.rows() == []


@pytest.mark.parametrize("value", ["+5511900001234", "cliente@example.com", "Cliente Exemplo"])
def test_what_may_be_of_a_person_reaches_neither_copy(book: Book, value: str) -> None:
    with pytest.raises(BadInputError) as error:
        book.ledger.append("intent", intent(rule=value), at=AT)
    assert value not in error.value.message
    assert book.rows() == []
    assert list(book.outside.read()) == []


def test_a_ledger_that_somebody_holds_is_waited_for_only_so_long(
    database: TestDatabase, book: Book
) -> None:
    with database.connect() as connection:
        short = Ledger(psycopg_connection(connection), book.outside, wait_seconds=0.02)
        with book.work.transaction(), book.work.cursor() as cursor:
            book.ledger.append_within(cursor, "release", {"hold_id": uuid4()}, at=AT)
            with pytest.raises(RetryableError):
                short.append("intent", intent(), at=AT)
        assert short.append("intent", intent(), at=AT) == 2


def test_two_processes_make_one_chain(database: TestDatabase, book: Book) -> None:
    processes = [LedgerProcess(database, book.folder, count=60) for _ in range(2)]
    with processes[0], processes[1]:
        book.fill(30)
        for process in processes:
            process.finish()
    book.assert_whole(300)


# --- kills ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("stop", [BEFORE_OUTSIDE, IN_THE_LINE, BEFORE_FSYNC])
@pytest.mark.parametrize("is_first", [True, False])
def test_a_kill_before_the_entry_is_safe_outside_is_healed_by_the_next(
    database: TestDatabase, book: Book, stop: str, is_first: bool
) -> None:
    before = 0 if is_first else 4
    book.fill(before // 2)
    with LedgerProcess(database, book.folder, stop=stop) as process:
        process.wait_until_it_stands_still()
        process.kill()
    assert book.kinds() == ["intent", "outcome"] * (before // 2) + ["intent"]
    if stop != BEFORE_FSYNC:  # there the line is whole, and only perhaps on the disk
        assert book.outside.head()[0] == before
    if stop == IN_THE_LINE:
        assert not book.file.read_bytes().endswith(b"\n")
    book.ledger.append("intent", intent(), at=AT)
    book.assert_whole(before + 2)


def test_catching_up_heals_a_kill_too(database: TestDatabase, book: Book) -> None:
    with LedgerProcess(database, book.folder, stop=IN_THE_LINE) as process:
        process.wait_until_it_stands_still()
        process.kill()
    assert book.ledger.catch_up() == 1
    book.assert_whole(1)


def test_an_intent_whose_process_was_killed_is_closed(database: TestDatabase, book: Book) -> None:
    book.fill(2)
    with LedgerProcess(database, book.folder, stop=AFTER_INTENT) as process:
        process.wait_until_it_stands_still()
        assert book.ledger.close_interrupted(at=AT) == 0, "its process lives"
        process.kill()
    book.do_chunk()
    _wait_for_end_of_others(book)
    assert book.ledger.close_interrupted(at=AT) == 1
    assert book.ledger.close_interrupted(at=AT) == 0
    assert book.rows()[-1].kind == "interrupted"
    assert book.rows()[-1].body == {"intent": 5}
    book.assert_whole(8)


def _wait_for_end_of_others(book: Book) -> None:
    """A killed client's session ends when the server notices."""
    for _ in range(200):
        with book.work.transaction():
            row = book.work.execute(
                "select count(*), pg_sleep(0.05) from pg_stat_activity "
                "where datname = current_database() and backend_type = 'client backend'"
            ).fetchone()
        assert row is not None
        if row[0] == 2:
            return
    pytest.fail("the killed process still has a session")


def test_an_intent_that_failed_is_closed_by_the_same_process(book: Book) -> None:
    book.ledger.append("intent", intent(), at=AT)
    book.do_chunk()
    assert book.ledger.close_interrupted(at=AT) == 1
    assert book.rows()[-1].body == {"intent": 1}


def test_closing_looks_only_at_what_came_since(book: Book) -> None:
    book.fill(3)
    assert book.ledger.close_interrupted(at=AT) == 0
    # If it looked at this again it could not read it.
    book.tamper("update pipeline.privacy_ledger set entry = 'no json' where seq = 3")
    book.do_chunk()
    assert book.ledger.close_interrupted(at=AT) == 0


# --- an outside copy that cannot be written ------------------------------------------------------


def test_a_full_disk_stops_before_anything_is_destroyed(book: Book) -> None:
    book.folder.mkdir()
    book.file.symlink_to("/dev/full")
    with pytest.raises(
        PermanentError, match=r"No space left.*GATTE_LEDGER_URL.*nothing was destroyed"
    ):
        book.ledger.append("intent", intent(), at=AT)
    book.file.unlink()
    assert book.ledger.catch_up() == 1
    book.assert_whole(1)


def test_a_disk_that_fills_up_in_a_line_stops_and_is_healed(
    book: Book, monkeypatch: pytest.MonkeyPatch
) -> None:
    book.fill(2)

    def fail(_file: int, _data: Any) -> int:
        raise OSError(28, os.strerror(28))

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", fail)
        with pytest.raises(PermanentError, match=r"GATTE_LEDGER_URL.*nothing was destroyed"):
            book.ledger.append("intent", intent(), at=AT)
    book.do_chunk()
    book.ledger.catch_up()
    book.assert_whole(7)


def test_a_folder_that_is_gone_stops_before_an_intent_is_even_committed(book: Book) -> None:
    book.fill(2)
    gone = book.folder.rename(book.folder.with_name("elsewhere"))
    with pytest.raises(PermanentError, match=r"GATTE_LEDGER_URL.*nothing was destroyed"):
        book.ledger.append("intent", intent(), at=AT)
    with (
        pytest.raises(PermanentError, match=r"GATTE_LEDGER_URL.*nothing was destroyed"),
        book.work.transaction(),
        book.work.cursor() as cursor,
    ):
        book.ledger.append_within(cursor, "release", {"hold_id": uuid4()}, at=AT)
    with pytest.raises(PermanentError, match="GATTE_LEDGER_URL"):
        book.verify()
    assert not book.folder.exists(), "a new folder would hide that the disk is not there"
    gone.rename(book.folder)
    book.assert_whole(4)


def test_an_empty_folder_gets_the_whole_ledger_again(book: Book) -> None:
    book.fill(2)
    book.file.unlink()
    assert book.verify().problems == (
        "Cópia externa: faltam as entradas 1 a 4, que o banco tem: foram cortadas, ou uma execução "
        "não terminou de gravar.",
    )
    assert book.ledger.catch_up() == 4
    book.assert_whole(4)


# --- a database that is behind, or another one ---------------------------------------------------


@contextmanager
def restored(book: Book, make_database: Callable[..., Any], *, until: int) -> Iterator[Book]:
    """The database as a backup had it after the entry ``until``, beside today's outside copy."""
    with make_database() as database, open_book(database, book.folder) as old:
        for entry in book.rows()[:until]:
            _insert(old, entry)
        yield old


def _insert(book: Book, entry: Entry) -> None:
    with book.work.transaction():
        book.work.execute(
            "insert into pipeline.privacy_ledger (seq, entry, previous_hash, hash) "
            "values (%s, %s, %s, %s)",
            (entry.seq, entry.text, entry.previous_hash, entry.hash),
        )


@pytest.mark.parametrize("until", [0, 1, 5])
def test_a_restored_database_adds_nothing_before_it_was_replayed(
    book: Book, make_database: Callable[..., Any], until: int
) -> None:
    book.fill(3)
    with restored(book, make_database, until=until) as old:
        with pytest.raises(PermanentError, match=r"restore-replay.*nothing was destroyed"):
            old.ledger.append("intent", intent(), at=AT)
        with (
            pytest.raises(PermanentError, match="restore-replay"),
            old.work.transaction(),
            old.work.cursor() as cursor,
        ):
            old.ledger.append_within(cursor, "release", {"hold_id": uuid4()}, at=AT)
        with pytest.raises(PermanentError, match="restore-replay"):
            old.ledger.catch_up()
        assert len(old.rows()) == until

        expected = book.rows()[until:]
        assert read_missing(old.work, old.outside) == expected
        assert len(old.rows()) == until
        assert import_missing(old.work, old.outside) == expected
        assert import_missing(old.work, old.outside) == []
        old.assert_whole(6)
        old.do_chunk()
        old.ledger.catch_up()
        old.assert_whole(8)


def test_nothing_is_missing_where_the_database_is_ahead(book: Book) -> None:
    book.do_chunk()
    assert book.outside.head()[0] == 1
    assert read_missing(book.work, book.outside) == []


@pytest.mark.parametrize("length", [1, 2, 4])
def test_another_chain_outside_is_refused_with_the_next_step(
    book: Book, make_database: Callable[..., Any], tmp_path: Path, length: int
) -> None:
    book.fill(1)
    with make_database() as database, open_book(database, tmp_path / "other") as other:
        other.ledger.append("release", {"hold_id": uuid4()}, at=AT)
        for _ in range(length - 1):
            other.ledger.append("release", {"hold_id": uuid4()}, at=AT)
        shutil.copy(other.file, book.file)
    with pytest.raises(PermanentError, match="restore-replay"):
        book.ledger.append("intent", intent(), at=AT)
    with pytest.raises(PermanentError, match="ledger verify"):
        import_missing(book.work, book.outside)
    assert len(book.rows()) == 2
    assert any(
        "não é a mesma" in said or "são as mesmas" in said for said in book.verify().problems
    )


def test_a_broken_chain_outside_is_not_imported(
    book: Book, make_database: Callable[..., Any]
) -> None:
    book.fill(3)
    lines = book.lines()
    for changed in (
        lines[:3] + lines[4:],
        [*lines[:4], lines[4].replace(b'count\\":5', b'count\\":6'), lines[5]],
        [*lines[:3], lines[4], lines[3], lines[5]],
    ):
        book.write_lines(changed)
        with restored(book, make_database, until=2) as old:
            with pytest.raises(PermanentError, match="ledger verify"):
                import_missing(old.work, old.outside)
            assert len(old.rows()) == 2


def test_a_foreign_entry_that_continues_the_chain_is_not_imported(
    book: Book, make_database: Callable[..., Any]
) -> None:
    book.fill(1)
    last = book.rows()[-1]
    text = canonical({"at": AT.isoformat(), "body": {"name": "x"}, "kind": "note", "seq": 3})
    forged = Entry(3, text, last.hash, hash_of(last.hash, text))
    book.write_lines([*book.lines(), forged.to_line()])
    with restored(book, make_database, until=2) as old:
        with pytest.raises(PermanentError, match=r"entry 3 .*was changed"):
            import_missing(old.work, old.outside)
        assert len(old.rows()) == 2


# --- verification --------------------------------------------------------------------------------


def test_a_ledger_without_entries_is_whole_before_its_folder_exists(book: Book) -> None:
    found = book.verify()
    assert (found.entries, found.problems, found.head_hash) == (0, (), GENESIS)


def test_verification_names_the_head_from_which_all_follows(book: Book) -> None:
    book.fill(2)
    assert book.verify().head_hash == book.rows()[-1].hash


CHANGE_DATABASE = {
    "changed": (
        "update pipeline.privacy_ledger "
        "set entry = replace(entry, '\"count\":5', '\"count\":6') where seq = 3",
        ["Banco: a entrada 3 foi alterada."],
    ),
    "changed hash": (
        "update pipeline.privacy_ledger set hash = repeat('0', 64) where seq = 3",
        ["Banco: a entrada 3 foi alterada."],
    ),
    "changed previous hash": (
        "update pipeline.privacy_ledger set previous_hash = repeat('0', 64) where seq = 3",
        ["Banco: a entrada 3 foi alterada."],
    ),
    "several changed": (
        "update pipeline.privacy_ledger set entry = 'x' where seq between 3 and 5",
        ["Banco: as entradas 3 a 5 foram alteradas."],
    ),
    "changed with its hash": (
        "update pipeline.privacy_ledger as l set entry = c.entry, hash = encode(sha256("
        "convert_to(l.previous_hash || chr(10) || c.entry, 'UTF8')), 'hex') from ("
        "select seq, replace(entry, '\"count\":5', '\"count\":6') as entry "
        "from pipeline.privacy_ledger) as c where c.seq = l.seq and l.seq = 3",
        [
            "A entrada 3 não é a mesma no banco e na cópia externa.",
            "Banco: a entrada 4 não continua a anterior: a cadeia se rompe ali.",
        ],
    ),
    "deleted first": (
        "delete from pipeline.privacy_ledger where seq = 1",
        ["Banco: falta a entrada 1."],
    ),
    "deleted in the middle": (
        "delete from pipeline.privacy_ledger where seq in (3, 4)",
        ["Banco: faltam as entradas 3 a 4."],
    ),
    "deleted tail": (
        "delete from pipeline.privacy_ledger where seq > 4",
        ["Banco: faltam as entradas 5 a 6."],
    ),
    "all deleted": (
        "delete from pipeline.privacy_ledger",
        ["Banco: faltam as entradas 1 a 6."],
    ),
    "deleted and closed up": (
        "delete from pipeline.privacy_ledger where seq = 3; "
        "update pipeline.privacy_ledger set seq = seq + 100 where seq > 3; "
        "update pipeline.privacy_ledger set seq = seq - 101 where seq > 100",
        [
            "Banco: as entradas 3 a 5 foram alteradas.",
            "Banco: falta a entrada 6.",
        ],
    ),
    "swapped": (
        "update pipeline.privacy_ledger set seq = 100 where seq = 3; "
        "update pipeline.privacy_ledger set seq = 3 where seq = 4; "
        "update pipeline.privacy_ledger set seq = 4 where seq = 100",
        ["Banco: as entradas 3 a 4 foram alteradas."],
    ),
    "inserted before the first": (
        "insert into pipeline.privacy_ledger values (0, '{}', '', '')",
        ["Banco: a entrada 0 não pertence à cadeia."],
    ),
    "inserted at the end": (
        "insert into pipeline.privacy_ledger "
        "select 7, entry, hash, hash from pipeline.privacy_ledger where seq = 6",
        [
            "Banco: a entrada 7 foi alterada.",
            "Cópia externa: falta a entrada 7, que o banco tem: foi cortada, ou uma execução não "
            "terminou de gravar.",
        ],
    ),
}


@pytest.mark.parametrize("name", CHANGE_DATABASE)
def test_a_change_in_the_database_is_found_and_named(book: Book, name: str) -> None:
    statement, problems = CHANGE_DATABASE[name]
    book.fill(3)
    book.tamper(statement)
    found = book.verify()
    assert list(found.problems) == problems
    with book.work.transaction():
        row = book.work.execute("select count(*) from pipeline.privacy_ledger").fetchone()
    assert row == (found.entries,)


def test_a_chain_written_anew_in_the_database_is_found(book: Book) -> None:
    book.fill(3)
    previous = book.rows()[1].hash
    book.tamper("delete from pipeline.privacy_ledger where seq > 2")
    for seq in range(3, 7):
        entry = next_entry(seq, previous, "intent", intent(count=1), AT)
        _insert(book, entry)
        previous = entry.hash
    assert book.verify().problems == (
        "As entradas 3 a 6 não são as mesmas no banco e na cópia externa.",
    )


def _swap(lines: list[bytes]) -> list[bytes]:
    return [*lines[:2], lines[3], lines[2], *lines[4:]]


CHANGE_OUTSIDE: dict[str, tuple[Callable[[list[bytes]], list[bytes]], list[str]]] = {
    "changed": (
        lambda lines: [*lines[:2], lines[2].replace(b'count\\":5', b'count\\":6'), *lines[3:]],
        ["Cópia externa: a entrada 3 foi alterada."],
    ),
    "changed last": (
        lambda lines: [*lines[:5], lines[5].replace(b'done\\":5', b'done\\":6')],
        ["Cópia externa: a entrada 6 foi alterada."],
    ),
    "one byte of the form": (
        lambda lines: [*lines[:2], lines[2].replace(b',"hash"', b', "hash"'), *lines[3:]],
        ["Cópia externa: a linha 3 não pode ser lida.", "Cópia externa: falta a entrada 3."],
    ),
    "deleted first": (lambda lines: lines[1:], ["Cópia externa: falta a entrada 1."]),
    "deleted in the middle": (
        lambda lines: lines[:2] + lines[4:],
        ["Cópia externa: faltam as entradas 3 a 4."],
    ),
    "truncated": (
        lambda lines: lines[:4],
        [
            "Cópia externa: faltam as entradas 5 a 6, que o banco tem: foram cortadas, ou uma "
            "execução não terminou de gravar."
        ],
    ),
    "truncated in a line": (
        lambda lines: [*lines[:5], lines[5][:20]],
        [
            "Cópia externa: a linha 6 está pela metade.",
            "Cópia externa: falta a entrada 6, que o banco tem: foi cortada, ou uma execução não "
            "terminou de gravar.",
        ],
    ),
    "emptied": (
        lambda _: [],
        [
            "Cópia externa: faltam as entradas 1 a 6, que o banco tem: foram cortadas, ou uma "
            "execução não terminou de gravar."
        ],
    ),
    "reordered": (
        _swap,
        [
            "Cópia externa: falta a entrada 3.",
            "Cópia externa: a entrada 3 está repetida ou fora de ordem.",
        ],
    ),
    "repeated": (
        lambda lines: [*lines[:3], lines[2], *lines[3:]],
        ["Cópia externa: a entrada 3 está repetida ou fora de ordem."],
    ),
    "repeated at the end": (
        lambda lines: [*lines, lines[0]],
        ["Cópia externa: a entrada 1 está repetida ou fora de ordem."],
    ),
    "inserted words": (
        lambda lines: [*lines[:3], b"\n", *lines[3:]],
        ["Cópia externa: a linha 4 não pode ser lida."],
    ),
    "half a line at the end": (
        lambda lines: [*lines, b"{"],
        ["Cópia externa: a linha 7 está pela metade."],
    ),
}


@pytest.mark.parametrize("name", CHANGE_OUTSIDE)
def test_a_change_outside_is_found_and_named(book: Book, name: str) -> None:
    change, problems = CHANGE_OUTSIDE[name]
    book.fill(3)
    assert book.verify().problems == ()
    book.write_lines(change(book.lines()))
    assert sorted(book.verify().problems) == sorted(problems)


def test_a_forged_entry_outside_that_continues_the_chain_is_found(book: Book) -> None:
    book.fill(2)
    rows = book.rows()
    inserted = next_entry(3, rows[1].hash, "intent", intent(count=1), AT)
    book.write_lines([*book.lines()[:2], inserted.to_line(), *book.lines()[2:]])
    assert book.verify().problems == (
        "A entrada 3 não é a mesma no banco e na cópia externa.",
        "Cópia externa: a entrada 3 está repetida ou fora de ordem.",
        "Cópia externa: a entrada 4 não continua a anterior: a cadeia se rompe ali.",
    )
    added = next_entry(5, rows[-1].hash, "intent", intent(count=1), AT)
    book.write_lines([*[row.to_line() for row in rows], added.to_line()])
    assert book.verify().problems == ("Banco: falta a entrada 5.",)


def test_a_change_of_the_same_entry_in_both_copies_is_found(book: Book) -> None:
    book.fill(3)
    book.tamper(CHANGE_DATABASE["changed with its hash"][0])
    changed = book.rows()[2]
    book.write_lines([*book.lines()[:2], changed.to_line(), *book.lines()[3:]])
    assert book.verify().problems == (
        "Banco: a entrada 4 não continua a anterior: a cadeia se rompe ali.",
        "Cópia externa: a entrada 4 não continua a anterior: a cadeia se rompe ali.",
    )


def test_very_many_problems_are_counted_rather_than_kept(book: Book) -> None:
    book.fill(130)
    book.tamper("update pipeline.privacy_ledger set entry = 'x' where seq % 2 = 0")
    problems = book.verify().problems
    assert len(problems) == 101
    assert problems[-1] == "E mais 30 problemas."


def test_verification_while_others_append_finds_nothing(database: TestDatabase, book: Book) -> None:
    book.fill(1)
    with LedgerProcess(database, book.folder, count=400) as process:
        seen = set()
        while book.outside.head()[0] < 600:
            found = verify(book.work, book.outside)
            assert found.problems == ()
            seen.add(found.entries)
        process.finish()
    assert len(seen) > 3
    book.assert_whole(802)


def test_verification_keeps_neither_copy_in_memory(book: Book) -> None:
    count = 20_000
    previous, lines, rows = GENESIS, [], []
    for seq in range(1, count + 1):
        entry = next_entry(seq, previous, "intent", intent(), AT)
        rows.append((entry.seq, entry.text, entry.previous_hash, entry.hash))
        lines.append(entry.to_line())
        previous = entry.hash
    with (
        book.work.transaction(),
        book.work.cursor() as cursor,
        cursor.copy(
            "copy pipeline.privacy_ledger (seq, entry, previous_hash, hash) from stdin"
        ) as copy,
    ):
        for row in rows:
            copy.write_row(row)
    book.folder.mkdir()
    book.write_lines(lines)
    size = sum(map(len, lines))
    del lines, rows
    tracemalloc.start()
    try:
        found = book.verify()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (found.entries, found.problems) == (count, ())
    assert size > 8_000_000
    assert peak < size / 3


# --- rights --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "statement",
    [
        "update pipeline.privacy_ledger set entry = '{}' where seq = 1",
        "delete from pipeline.privacy_ledger",
        "truncate pipeline.privacy_ledger",
        "alter table pipeline.privacy_ledger disable trigger all",
        "drop trigger refuse_ledger_change on pipeline.privacy_ledger",
        "set session_replication_role = replica",
    ],
)
def test_our_role_adds_to_the_ledger_and_changes_nothing(book: Book, statement: str) -> None:
    book.fill(1)
    with (
        pytest.raises(psycopg.errors.InsufficientPrivilege),
        book.work.transaction(),
    ):
        book.work.execute(sql.SQL(statement))  # type: ignore[arg-type]
    book.assert_whole(2)


@pytest.mark.parametrize(
    "statement",
    [
        "update pipeline.privacy_ledger set entry = '{}'",
        "delete from pipeline.privacy_ledger",
        "truncate pipeline.privacy_ledger",
    ],
)
def test_even_the_owner_changes_nothing_by_mistake(book: Book, owner: Any, statement: str) -> None:
    book.fill(1)
    with pytest.raises(psycopg.errors.RestrictViolation):
        psycopg_connection(owner).execute(sql.SQL(statement))  # type: ignore[arg-type]
    owner.rollback()
    book.assert_whole(2)
