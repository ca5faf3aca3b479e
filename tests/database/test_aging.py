"""What waits in vain is dropped at its time and counted; what has found its place stays."""

from __future__ import annotations

from datetime import timedelta

import pytest

from gatte_pipelines.inbound import idle
from gatte_pipelines.run_report import Outcome, RunReport
from tests.inbound import AS_OF, NOW, Inbound
from tests.postgres import TestDatabase
from tests.webhooks import (
    BRUNO,
    change,
    edit,
    line,
    number_change,
    revoke,
    text_message,
    texts,
)

SECOND = timedelta(seconds=1)
MONTH = timedelta(days=30)
QUARTER = timedelta(days=90)
BRUNOS_NEXT = "5511900000012"


@pytest.fixture
def inbound(database: TestDatabase) -> Inbound:
    return Inbound(database)


def expire(inbound: Inbound, after: timedelta) -> RunReport:
    return inbound.run("session_context_expiry", as_of=AS_OF + after)


def count(inbound: Inbound, table: str) -> int:
    return int(inbound.one(f"select count(*) from pipeline.{table}")[0])  # noqa: S608


def test_an_edit_waits_thirty_days_for_its_message_and_not_a_second_longer(
    inbound: Inbound,
) -> None:
    inbound.send(texts(edit("e1", NOW, "w1", "novo")), texts(revoke("r1", NOW, "w2")))
    report = expire(inbound, MONTH)
    assert (report.outcome, report.received) == (Outcome.SKIPPED, 0)
    report = expire(inbound, MONTH + SECOND)
    assert (report.received, report.updated) == (2, 2)
    assert report.notes == ["2 edições ou remoções descartadas, pois a mensagem não veio"]
    assert count(inbound, "message_changes") == 0
    assert expire(inbound, MONTH + SECOND).outcome is Outcome.SKIPPED


def test_a_message_that_came_keeps_its_changes_however_old_also_those_of_changes(
    inbound: Inbound,
) -> None:
    inbound.say(text_message("w1", NOW), text_message("w2", NOW))
    inbound.send(
        texts(edit("e2", NOW + 2, "e1", "segunda")),
        texts(edit("e1", NOW + 1, "w1", "primeira")),
        texts(revoke("r1", NOW + 3, "w2")),
    )
    expire(inbound, MONTH + timedelta(days=3))
    assert count(inbound, "message_changes") == 3


def test_changes_of_each_other_that_lead_to_no_message_do_not_stay_for_ever(
    inbound: Inbound,
) -> None:
    inbound.send(texts(edit("e1", NOW, "e2", "a")), texts(edit("e2", NOW, "e1", "b")))
    assert expire(inbound, MONTH + SECOND).received == 2


def test_one_change_is_said_in_the_singular_beside_what_else_ended(inbound: Inbound) -> None:
    inbound.send(texts(text_message("w1", NOW)), texts(edit("e1", NOW, "w9", "novo")))
    report = expire(inbound, MONTH + SECOND)
    assert (report.received, report.updated) == (3, 3)
    assert report.notes == [
        "contextos expirados: 1; conversas encerradas: 1",
        "1 edição ou remoção descartada, pois a mensagem não veio",
    ]


def test_a_change_that_was_dropped_leaves_a_late_message_as_it_was_sent(
    inbound: Inbound,
) -> None:
    inbound.send(texts(edit("e1", NOW, "w1", "novo")))
    expire(inbound, MONTH + SECOND)
    inbound.say(text_message("w1", NOW - 1, body="antigo"), as_of=AS_OF + MONTH + SECOND)
    assert inbound.one("select content from messages") == ("antigo",)


def test_an_undo_record_ends_at_the_instant_it_names(inbound: Inbound) -> None:
    inbound.execute(
        "insert into pipeline.undo_records "
        "(kind, kept_id, removed_id, record, made_at, expires_at) "
        "select 'users', gen_random_uuid(), gen_random_uuid(), '{}', :at, "
        "cast(:at as timestamptz) + n * interval '1 day' "
        "from generate_series(1, 3) as n",
        at=AS_OF,
    )
    report = expire(inbound, timedelta(days=2))
    assert (report.received, report.updated) == (2, 2)
    assert report.notes == ["2 registros de desfazer vencidos"]
    assert count(inbound, "undo_records") == 1


def test_a_number_change_of_nobody_known_is_kept_as_long_as_a_message_could_come(
    inbound: Inbound,
) -> None:
    inbound.send(texts(number_change("s1", NOW, BRUNO, BRUNOS_NEXT)))
    assert expire(inbound, QUARTER).outcome is Outcome.SKIPPED
    report = expire(inbound, QUARTER + SECOND)
    assert (report.received, report.notes) == (1, ["1 troca de número de desconhecido descartada"])
    assert count(inbound, "identity_changes") == 0


@pytest.mark.parametrize("known", [BRUNO, BRUNOS_NEXT])
@pytest.mark.parametrize("at", [NOW - 60, NOW + 60])
def test_a_number_change_of_a_client_stays(inbound: Inbound, known: str, at: int) -> None:
    inbound.send(
        texts(number_change("s1", NOW, BRUNO, BRUNOS_NEXT)),
        texts(text_message("w1", at, sender=known)),
    )
    expire(inbound, QUARTER + timedelta(days=1))
    assert count(inbound, "identity_changes") == 1


def test_a_number_change_known_by_a_former_identity_only_stays(inbound: Inbound) -> None:
    inbound.send(texts(number_change("s1", NOW, BRUNO, BRUNOS_NEXT)))
    user = inbound.insert_user("+5511900000099")
    inbound.execute(
        "insert into pipeline.user_identities (kind, value, user_id, valid_from, valid_to) "
        "select 'phone_key', new_phone_key, :user, :at, :at from pipeline.identity_changes",
        user=user,
        at=AS_OF,
    )
    assert expire(inbound, QUARTER + SECOND).outcome is Outcome.SKIPPED


def test_many_are_dropped_in_several_transactions(
    inbound: Inbound, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(idle, "_ROWS_PER_CHUNK", 2)
    inbound.send(
        line(change(*(edit(f"e{number}", NOW, f"w{number}", "novo") for number in range(5))))
    )
    assert expire(inbound, MONTH + SECOND).updated == 5
    assert count(inbound, "message_changes") == 0


def test_what_a_loader_is_working_on_is_left_to_the_next_run(inbound: Inbound) -> None:
    inbound.send(texts(edit("e1", NOW, "w1", "novo")), texts(edit("e2", NOW, "w2", "novo")))
    with inbound.database.engine("owner").connect() as other, other.begin():
        other.exec_driver_sql(
            "select from pipeline.message_changes order by change_id limit 1 for update"
        )
        assert expire(inbound, MONTH + SECOND).updated == 1
    assert expire(inbound, MONTH + SECOND).updated == 1
