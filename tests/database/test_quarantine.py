"""What waits in quarantine is counted, shown without its content, and loads once it can."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from gatte_pipelines.inbound.quarantine import QuarantineEntry, read_counts, read_entries
from gatte_pipelines.run_report import Outcome, RunReport
from tests.inbound import AS_OF, NOW, Inbound
from tests.postgres import TestDatabase
from tests.webhooks import BRUNO, change, contact, line, status, text_message, texts

LATER = AS_OF + timedelta(hours=2)
SOON = NOW + 3600
HIDDEN = "valor-que-ninguem-pode-ver"


@pytest.fixture
def inbound(database: TestDatabase) -> Inbound:
    return Inbound(database)


def counts(inbound: Inbound) -> dict[str, int]:
    with inbound.database.connect() as connection:
        return read_counts(connection)


def entries(inbound: Inbound, **filters: Any) -> list[QuarantineEntry]:
    with inbound.database.connect() as connection:
        return read_entries(connection, **filters)


def replay(inbound: Inbound, **options: Any) -> RunReport:
    return inbound.run("quarantine_replay", **({"as_of": LATER} | options))


def messages(inbound: Inbound) -> int:
    return int(inbound.one("select count(*) from messages")[0])


def test_records_are_counted_by_reason_and_shown_without_their_content(inbound: Inbound) -> None:
    inbound.send(
        texts(text_message("a", SOON, body=HIDDEN), contacts=[contact(BRUNO, HIDDEN)]),
        texts(text_message("b", NOW, body=f"{HIDDEN}\0")),
        texts(text_message(HIDDEN, SOON)),
    )
    assert counts(inbound) == {"future": 2, "nul_character": 1}
    found = entries(inbound)
    assert {(e.reason, e.kind, e.field, e.line, e.attempts) for e in found} == {
        ("future", "text", "messages[].timestamp", 1, 0),
        ("nul_character", "text", "messages[].text.body", 2, 0),
        ("future", "text", "messages[].timestamp", 3, 0),
    }
    assert HIDDEN not in repr(found)


def test_the_list_takes_a_reason_and_a_limit_and_begins_with_the_newest(inbound: Inbound) -> None:
    inbound.send(texts(text_message("a", SOON)), b"{")
    inbound.send(texts(text_message("b", SOON + 1)), as_of=AS_OF + timedelta(minutes=1))
    assert [e.quarantined_at for e in entries(inbound, reason="future")] == [
        AS_OF + timedelta(minutes=1),
        AS_OF,
    ]
    assert len(entries(inbound, limit=2)) == 2
    assert entries(inbound, reason="unknown") == []


def test_the_same_record_again_is_one_record(inbound: Inbound) -> None:
    body = texts(text_message("a", SOON))
    first = inbound.send(body, body)
    second = inbound.send(b"  " + body)
    assert (first.quarantined, first.duplicate) == ({"future": 1}, 1)
    assert (second.quarantined, second.duplicate) == ({}, 1)
    assert counts(inbound) == {"future": 1}


def test_a_record_of_the_future_loads_when_its_time_has_come(inbound: Inbound) -> None:
    inbound.send(
        line(
            change(
                text_message("a", SOON, sender=BRUNO),
                contacts=[contact(BRUNO, "Bruno")],
                statuses=[status("s", "read", SOON)],
            )
        )
    )
    report = replay(inbound)
    assert (report.received, report.inserted, report.quarantined) == (2, 2, {})
    assert counts(inbound) == {}
    assert inbound.rows("select phone, name from users") == [(f"+{BRUNO}", "Bruno")]
    assert inbound.rows("select status from pipeline.message_statuses") == [("read",)]


def test_a_replay_again_doubles_nothing_and_says_so(inbound: Inbound) -> None:
    inbound.send(texts(text_message("a", SOON)))
    replay(inbound)
    again = replay(inbound)
    assert (again.outcome, again.reason) == (Outcome.SKIPPED, "nothing_to_do")
    assert messages(inbound) == 1


def test_a_record_that_was_loaded_meanwhile_counts_as_a_duplicate_and_goes(
    inbound: Inbound,
) -> None:
    body = texts(text_message("a", SOON))
    inbound.send(body)
    inbound.send(body, as_of=LATER)
    report = replay(inbound)
    assert (report.received, report.duplicate) == (1, 1)
    assert (counts(inbound), messages(inbound)) == ({}, 1)


def test_a_record_that_fails_again_stays_with_one_more_attempt(inbound: Inbound) -> None:
    inbound.send(b"{", texts(text_message("a", SOON)))
    for attempt in (1, 2):
        report = replay(inbound)
        assert report.quarantined == {"malformed_json": 1}
        (entry,) = entries(inbound)
        assert entry.attempts == attempt
    assert inbound.one("select last_attempt_at from pipeline.quarantine") == (LATER,)
    assert messages(inbound) == 1


def test_a_record_that_fails_for_another_reason_takes_it(inbound: Inbound) -> None:
    inbound.send(texts(text_message("a", SOON)))
    # What an older program called otherwise.
    inbound.execute("update pipeline.quarantine set reason = 'old_word', field = 'old', kind = 'x'")
    report = replay(inbound, as_of=AS_OF)
    assert report.quarantined == {"future": 1}
    (entry,) = entries(inbound)
    assert (entry.reason, entry.kind, entry.field) == ("future", "text", "messages[].timestamp")


def test_only_records_of_the_reason_are_tried(inbound: Inbound) -> None:
    inbound.send(b"{", texts(text_message("a", SOON)))
    report = replay(inbound, reason="future")
    assert (report.received, report.inserted) == (1, 1)
    assert [e.attempts for e in entries(inbound)] == [0]
    assert replay(inbound, reason="unknown").outcome is Outcome.SKIPPED


def test_no_more_than_the_limit_is_tried_oldest_first(inbound: Inbound) -> None:
    for number in range(3):
        inbound.send(
            texts(text_message(f"w{number}", SOON, body=str(number))),
            as_of=AS_OF + timedelta(minutes=number),
        )
    assert replay(inbound, limit=2).received == 2
    assert inbound.rows("select content from messages order by content") == [("0",), ("1",)]


def test_records_of_many_pages_are_each_tried_once(inbound: Inbound) -> None:
    inbound.send(
        *(texts(text_message(f"w{number}", SOON)) for number in range(600)),
        *(b"{%d" % number for number in range(600)),
    )
    report = replay(inbound)
    assert (report.received, report.inserted) == (1200, 600)
    assert {entry.attempts for entry in entries(inbound, limit=1000)} == {1}


def test_a_broken_file_is_not_tried_again(inbound: Inbound) -> None:
    inbound.put("lote.jsonl.gz", b"x")
    inbound.load()
    assert replay(inbound).outcome is Outcome.SKIPPED
    assert counts(inbound) == {"not_gzip": 1}


def test_a_body_that_now_splits_keeps_only_what_is_still_bad(inbound: Inbound) -> None:
    body = line(change(text_message("a", NOW), text_message("b", NOW, body="\0")))
    inbound.send(b"{")
    inbound.execute("update pipeline.quarantine set payload = :body, kind = 'x'", body=body)
    report = replay(inbound)
    assert (report.received, report.inserted) == (2, 1)
    assert report.quarantined == {"nul_character": 1}
    assert counts(inbound) == {"nul_character": 1}
    assert messages(inbound) == 1
