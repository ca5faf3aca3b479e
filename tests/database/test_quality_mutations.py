"""The suites are silent on good data, and name what is wrong with bad data and nothing else.

Each corruption is what a hostile or buggy writer with every right could do: triggers, foreign keys
and guards do not stop them. How the verdicts are stored and told is tested elsewhere.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, suppress
from typing import Any
from uuid import UUID

import psycopg
import pytest

from gatte_pipelines.business_time import business_date
from gatte_pipelines.database.names import NINE
from gatte_pipelines.errors import ConfigurationError, PermanentError
from gatte_pipelines.quality.failing import MAX_KEYS
from gatte_pipelines.quality.results import State
from gatte_pipelines.quality.suite_file import WHOLE_TABLE, read_suites
from gatte_pipelines.wiring import Wiring
from tests.database.rows import insert
from tests.postgres import SUPERUSER, PostgresServer, TestDatabase, new_database
from tests.quality import AS_OF, DAY, HOUR, Gatte, alarms, judge
from tests.quality_corruptions import CORRUPTIONS, PICKED, Corruption
from tests.webhooks import number_change, text_message

MakeDatabase = Callable[..., AbstractContextManager[TestDatabase]]


@pytest.fixture(scope="module")
def seeded(
    postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[TestDatabase]:
    """Ten weeks of good data: making them takes seconds, copying them a fraction. Only copy it."""
    with new_database(postgres_server, tmp_path_factory.mktemp("gatte")) as made:
        Gatte(made).fill(1)
        yield made


@pytest.fixture
def gatte(make_database: MakeDatabase, seeded: TestDatabase) -> Iterator[Gatte]:
    """A test's own copy of the good data."""
    with make_database(template=seeded.name) as made:
        # What stands outside the database must agree with what stands in it.
        shutil.copytree(seeded.home / "ledger", made.home / "ledger")
        yield Gatte(made)


# -- good data


def test_nothing_alarms_on_good_data(gatte: Gatte) -> None:
    verdicts = judge(gatte.database)
    assert set(verdicts) == {check.name for suite in read_suites() for check in suite.checks}
    # Nothing is silent for want of history either: all of it is judged.
    assert {verdict.state for verdict in verdicts.values()} == {State.PASSED}, alarms(verdicts)


def test_good_data_has_what_the_checks_are_about(gatte: Gatte) -> None:
    """Else they would be silent about nothing."""
    for query in (
        *(
            f"select count(*) > {5 if table == 'session_context' else 50} from {table}"  # noqa: S608
            for table in NINE
        ),
        "select count(distinct source) = 5 from leads",
        "select count(distinct state) = 4 from pipeline.crm_links",
        "select count(*) > 20 from pipeline.crm_links where state = 'linked'",
        "select count(*) > 3 from pipeline.renewal_leads",
        "select count(*) >= 7 from pipeline.anonymized_rows",
        "select count(distinct status) = 4 from conversations",
        "select count(distinct status) = 4 from certificates",
        "select max(marked) = 20 from (select count(*) filter (where is_in_context) as marked "
        "from messages group by conversation_id) as m",
        "select count(*) = 1 from messages where content <> '' "
        "and created_at < cast(:as_of as timestamptz) - interval '91 days 2 hours'",
        "select count(*) = 1 from messages where content <> '' and created_at between "
        "cast(:as_of as timestamptz) - interval '91 days 2 hours' "
        "and cast(:as_of as timestamptz) - interval '90 days'",
        "select count(*) > 5 from users where phone like '~b%'",
        "select count(*) > 0 from pipeline.user_merges",
    ):
        given = {"as_of": AS_OF} if ":as_of" in query else {}
        assert gatte.one(query, **given) == (True,), query


def test_nothing_alarms_after_retention(gatte: Gatte) -> None:
    report = gatte.run("lgpd_retention", AS_OF, execute=True)
    assert report.updated
    assert not alarms(judge(gatte.database))


def test_nothing_alarms_on_either_side_of_midnight(gatte: Gatte) -> None:
    """Certificates are refreshed at two in the morning, and others are written meanwhile."""
    late, early = AS_OF + 11 * HOUR, AS_OF + 13 * HOUR
    assert not alarms(judge(gatte.database, "certificates", as_of=late))
    with gatte.writing(early) as connection:
        ((service, user),) = gatte.rows("select id, user_id from services order by id limit 1")
        insert(
            connection,
            "certificates",
            service_id=service,
            user_id=user,
            issued_at=early,
            expires_at=early + 365 * DAY,
        )
    assert not alarms(judge(gatte.database, "certificates", as_of=early))
    gatte.run("certificate_state", early + 2 * HOUR)
    assert not alarms(judge(gatte.database, "certificates", as_of=early + 2 * HOUR))


def test_nothing_alarms_on_an_empty_new_database(database: TestDatabase) -> None:
    verdicts = judge(database)
    assert not alarms(verdicts)
    waiting = {name for name, one in verdicts.items() if one.state is State.NOT_JUDGED}
    assert {name.partition(".")[2] for name in waiting} == {"volume", "freshness"}


@pytest.mark.long
@pytest.mark.parametrize("seed", [2, 3, 4])
def test_nothing_alarms_on_other_good_data(database: TestDatabase, seed: int) -> None:
    Gatte(database).fill(seed)
    assert not alarms(judge(database))


def test_what_a_hold_let_go_since_the_last_night_is_no_violation_yet(gatte: Gatte) -> None:
    for change in ("released_at = :at, ends_at = null", "released_at = null, ends_at = :at"):
        for hours, fails in ((1, set()), (25, set()), (27, {"messages.emptied_in_time"})):
            gatte.execute(
                f"update pipeline.retention_holds set {change}",  # noqa: S608 - of this test
                at=AS_OF - hours * HOUR,
            )
            assert set(alarms(judge(gatte.database, "messages"))) == fails


def test_what_a_merged_client_held_is_held_still(gatte: Gatte) -> None:
    """The hold names the client who became part of the one who has the message now."""
    gatte.execute(
        "with gone as (insert into pipeline.user_merges select gen_random_uuid(), c.user_id, :at "
        "from pipeline.retention_holds as h inner join messages as m on h.row_id = m.id "
        "inner join conversations as c on m.conversation_id = c.id returning from_user_id) "
        "update pipeline.retention_holds set table_name = 'users', row_id = from_user_id from gone",
        at=AS_OF - DAY,
    )
    assert not alarms(judge(gatte.database, "messages"))


def test_a_certificate_may_wait_for_its_day(gatte: Gatte) -> None:
    gatte.execute(
        "update certificates set status = 'pending', issued_at = :at where id = "
        "(select id from certificates where expires_at > :later order by id limit 1)",
        at=AS_OF + 7 * DAY,
        later=AS_OF + 30 * DAY,
    )
    assert not alarms(judge(gatte.database, "certificates"))


def test_a_ticket_follows_its_conversation_to_another_client(database: TestDatabase) -> None:
    """A number changed hands, and nobody knew when its new holder's ticket was opened."""
    gatte = Gatte(database)
    old, new = "5511900000101", "5511900000102"
    changed_at = AS_OF - 10 * HOUR
    gatte.say(text_message("w1", AS_OF - 5 * DAY, sender=old), as_of=AS_OF - 4 * DAY)
    gatte.say(text_message("w2", AS_OF - 9 * HOUR, sender=old), as_of=AS_OF)
    ((talk, holder),) = gatte.rows(
        "select id, user_id from conversations where started_at > :at", at=changed_at
    )
    with gatte.writing() as connection:
        insert(
            connection,
            "tickets",
            user_id=holder,
            conversation_id=talk,
            created_at=AS_OF - 8 * HOUR,
        )
    gatte.say(number_change("w3", changed_at, old, new), as_of=AS_OF)
    assert gatte.one(
        "select user_id = :holder from conversations where id = :talk", holder=holder, talk=talk
    ) == (False,)
    assert not alarms(judge(database))


def test_a_look_ahead_leaves_no_counts_behind(gatte: Gatte) -> None:
    """They would be those of days that are not over, and no later run counts a day again."""
    ahead = AS_OF + 21 * DAY
    with Wiring(gatte.settings) as wiring, suppress(PermanentError):
        wiring.run("data_quality", as_of=ahead, tables=["leads"])
    assert gatte.one("select count(*) from pipeline.table_volumes") == (0,)
    judge(gatte.database, "leads")
    assert gatte.one("select max(day) from pipeline.table_volumes") == (business_date(AS_OF - DAY),)


def test_rows_that_a_policy_hides_are_not_taken_for_good(gatte: Gatte) -> None:
    gatte.execute("alter table leads enable row level security")
    with pytest.raises(ConfigurationError, match=r"may not read the whole of leads"):
        judge(gatte.database, "leads", "users")


def test_checks_of_a_table_whose_column_is_gone_do_not_pass(gatte: Gatte) -> None:
    """None of them is forgotten, and none of another table is touched."""
    gatte.execute("alter table leads rename interest to interesse")
    found = alarms(judge(gatte.database, "leads", "users"))
    (suite,) = (one for one in read_suites() if one.table == "leads")
    assert {name: one.state for name, one in found.items()} == {"leads.schema": State.FAILED} | {
        check.name: State.NOT_RUN for check, _ in suite.rules
    }


# -- corruptions

NEVER_FAILS: dict[str, str] = {}
"""Checks that nothing can make fail on PostgreSQL, each with the reason; none today."""


def _corrupt(database: TestDatabase, corruption: Corruption) -> dict[str, set[UUID]]:
    """Do it, past triggers and foreign keys; the ids of what was done to, by table."""
    with psycopg.connect(
        host=database.server.socket_folder, user=SUPERUSER, dbname=database.name, autocommit=True
    ) as connection:
        connection.execute("set session_replication_role = replica")
        connection.execute("select set_config('gatte.as_of', %s, false)", [AS_OF.isoformat()])
        picked = {name: connection.execute(query).fetchone()[0] for name, query in PICKED.items()}
        *before, last = corruption.sql.split("; ")
        for statement in before:
            connection.execute(statement, picked)
        cursor = connection.execute(last, picked)
        if cursor.description is None:
            return {}
        rows: list[tuple[Any, ...]] = cursor.fetchall()
        names = [column.name for column in cursor.description]
    assert rows, "nothing was corrupted"
    return {
        name: {row[place] for row in rows if row[place] is not None}
        for place, name in enumerate(names)
    }


@pytest.mark.parametrize(
    "corruption",
    [
        pytest.param(
            one,
            id=f"{one.table}: {one.what}",
            marks=[] if one.is_quick else [pytest.mark.long],
        )
        for one in CORRUPTIONS
    ],
)
def test_a_corruption_is_named_and_nothing_else(gatte: Gatte, corruption: Corruption) -> None:
    ids = _corrupt(gatte.database, corruption)
    verdicts = judge(gatte.database, *corruption.tables)
    found = alarms(verdicts)
    assert {name: one.state for name, one in found.items()} == dict.fromkeys(
        corruption.names, State.FAILED
    ), found
    for name, verdict in found.items():
        table, _, what = name.partition(".")
        if what not in WHOLE_TABLE:
            assert ids[table], "the corruption does not say which rows it is about"
            assert verdict.rows == len(ids[table]), name
            assert verdict.keys <= ids[table], name
            assert len(verdict.keys) == min(len(ids[table]), MAX_KEYS)


def test_every_check_is_tried() -> None:
    known = {check.name for suite in read_suites() for check in suite.checks}
    tried = {name for corruption in CORRUPTIONS for name in corruption.names}
    assert tried <= known
    assert NEVER_FAILS.keys() <= known
    assert not tried & NEVER_FAILS.keys()
    assert known - tried - NEVER_FAILS.keys() == set()


def test_many_corruptions_are_tried_in_every_run() -> None:
    assert len(CORRUPTIONS) >= 45
    assert len({(one.table, one.what) for one in CORRUPTIONS}) == len(CORRUPTIONS)
    assert {one.table for one in CORRUPTIONS if one.is_quick} == set(NINE)
