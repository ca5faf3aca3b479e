"""Who was erased or anonymised is brought back by no inbound record, and every load balances."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest
from sqlalchemy import Connection, text

from gatte_pipelines.database.client_locks import exclusive_lock, share_lock
from gatte_pipelines.database.engine import psycopg_connection
from gatte_pipelines.inbound import idle
from gatte_pipelines.inbound.erasure import FilesRewritten, SubjectFiles
from gatte_pipelines.inbound.ids import MessageIds
from gatte_pipelines.inbound.load import Loader, Progress
from gatte_pipelines.landing import LandingZone
from gatte_pipelines.personal_data import SubjectKeys
from gatte_pipelines.run_report import Outcome, RunReport
from tests.inbound import AS_OF, HOUR, NOW, Inbound
from tests.postgres import ID_KEY, TestDatabase
from tests.webhooks import (
    ANA,
    BRUNO,
    change,
    chatbot_conversation,
    chatbot_message,
    contact,
    echo,
    echo_change,
    edit,
    jsonl,
    line,
    number_change,
    reaction,
    revoke,
    status,
    text_message,
    texts,
    user_id_update,
    user_preference,
)

if TYPE_CHECKING:
    import psycopg

IDS = MessageIds(ID_KEY)
CAIO = "5511900000003"
DAY = timedelta(days=1)
EARLIER = NOW - HOUR


@pytest.fixture
def inbound(database: TestDatabase) -> Inbound:
    return Inbound(database)


def erase(inbound: Inbound, *ids: str) -> None:
    """Remember records as an erasure does; ``ids`` as minted."""
    for message_id in ids:
        inbound.execute(
            "insert into pipeline.erased_messages values (:id, :until)",
            id=message_id,
            until=AS_OF + 90 * DAY,
        )


def anonymize(inbound: Inbound, user: str) -> None:
    """What anonymising a user leaves behind, in plain SQL."""
    with inbound.database.connect("owner") as connection, connection.begin():
        for statement in ANONYMIZE.split(";"):
            connection.execute(text(statement), {"user": user})


ANONYMIZE = """
update users set phone = '~x' || substr(translate(md5(id::text), '0189', 'abcd'), 1, 18),
    name = null, email = null, company = null, login_token = null where id = :user;
delete from session_context where conversation_id in (
    select id from conversations where user_id = :user);
update messages set content = '', is_in_context = false where conversation_id in (
    select id from conversations where user_id = :user);
update conversations set status = 'closed', closed_at = coalesce(closed_at, started_at)
    where user_id = :user and status <> 'closed';
insert into pipeline.senders (phone_key, bsuid, wa_id, name, parent_bsuid, user_ref)
    values ('', '', '', '', '', '') on conflict do nothing;
update pipeline.conversation_events set transferred_to = null, sender_id = (
    select sender_id from pipeline.senders where (phone_key, bsuid, user_ref) = ('', '', ''))
    where user_id = :user;
update pipeline.opt_outs set sender_id = (
    select sender_id from pipeline.senders where (phone_key, bsuid, user_ref) = ('', '', ''))
    where user_id = :user;
delete from pipeline.senders where sender_id in (
    select unnest(array[f.sender_id, f.told_sender_id]) from pipeline.message_facts as f
    inner join messages as m on f.message_id = m.id
    inner join conversations as c on m.conversation_id = c.id where c.user_id = :user);
update pipeline.message_facts set sender_id = null, told_sender_id = null where message_id in (
    select m.id from messages as m inner join conversations as c on m.conversation_id = c.id
    where c.user_id = :user);
delete from pipeline.user_identities where user_id = :user;
insert into pipeline.anonymized_rows (table_name, row_id, rule) values ('users', :user, 'test')
"""


def user_of(inbound: Inbound, phone: str) -> str:
    (user,) = inbound.one("select id::text from users where phone = :phone", phone=f"+{phone}")
    return str(user)


TABLES = (
    "users",
    "conversations",
    "messages",
    "session_context",
    "pipeline.senders",
    "pipeline.user_identities",
    "pipeline.user_activity",
    "pipeline.message_facts",
    "pipeline.message_changes",
    "pipeline.message_reactions",
    "pipeline.button_replies",
    "pipeline.opt_outs",
    "pipeline.conversation_events",
    "pipeline.identity_changes",
    "pipeline.quarantine",
)
NOTHING = dict.fromkeys(TABLES, 0)


def personal_rows(inbound: Inbound) -> dict[str, int]:
    """How many rows each table has that a record could have left a person in."""
    return {
        table: inbound.one(f"select count(*) from {table}")[0]  # noqa: S608 - names of ours
        for table in TABLES
    }


WAMID = IDS.of_wamid("w1")
BUTTON = {"type": "button", "button": {"text": "Sim", "payload": "yes"}, "context": {"id": "w0"}}


def minted(inbound: Inbound, table: str, column: str) -> str:
    return str(inbound.one(f"select {column}::text from {table}")[0])  # noqa: S608


# --- Erased records ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "record",
    [
        texts(text_message("w1", EARLIER), contacts=[contact(ANA, "Ana Exemplo")]),
        texts(text_message("w1", EARLIER, body="SAIR")),
        texts(text_message("w1", EARLIER, **BUTTON)),
        line(echo_change(echo("w1", EARLIER))),
        chatbot_message(EARLIER, wamid="w1", phone=ANA, model="modelo", mode="menu"),
        texts(edit("w2", EARLIER, "w1", "texto novo")),
        texts(edit("w1", EARLIER, "w2", "texto novo")),
        texts(revoke("w2", EARLIER, "w1")),
        texts(reaction("w2", EARLIER, "w1", "👍")),
        texts(reaction("w1", EARLIER, "w2", "👍")),
    ],
)
def test_an_erased_message_and_what_refers_to_it_create_nothing(
    inbound: Inbound, record: bytes
) -> None:
    erase(inbound, WAMID)
    report = inbound.send(record)
    assert (report.received, report.skipped) == (1, {"erased": 1})
    assert personal_rows(inbound) == NOTHING
    assert "ignorados: de titular cujos dados foram eliminados" in str(report.table_rows())


def test_the_chatbots_own_message_is_known_by_its_own_id(inbound: Inbound) -> None:
    erase(inbound, IDS.of_key("chatbot:e1"))
    report = inbound.send(chatbot_message(EARLIER, external_id="e1", phone=ANA))
    assert report.skipped == {"erased": 1}
    assert personal_rows(inbound) == NOTHING


@pytest.mark.parametrize(
    ("record", "table", "column"),
    [
        (line(user_preference(EARLIER, "stop")), "pipeline.opt_outs", "choice_id"),
        (
            chatbot_conversation("c1", EARLIER, "closed", phone=ANA),
            "pipeline.conversation_events",
            "event_id",
        ),
        (
            texts(number_change("w1", EARLIER, ANA, BRUNO)),
            "pipeline.identity_changes",
            "change_id",
        ),
        (
            line(user_id_update(EARLIER, "BR.1", "BR.2")),
            "pipeline.identity_changes",
            "change_id",
        ),
    ],
)
def test_any_record_is_erased_by_the_id_of_its_row(
    make_database: Any, inbound: Inbound, record: bytes, table: str, column: str
) -> None:
    inbound.send(record)
    own_id = minted(inbound, table, column)
    with make_database() as other:
        again = Inbound(other)
        erase(again, own_id)
        assert again.send(record).skipped == {"erased": 1}
        assert personal_rows(again) == NOTHING


def test_a_status_of_an_erased_message_stays_since_it_holds_nobody(inbound: Inbound) -> None:
    erase(inbound, WAMID)
    report = inbound.send(line(change(statuses=[status("w1", "read", EARLIER)])))
    assert (report.inserted, report.skipped) == (1, {})


def test_a_later_message_of_the_phone_makes_a_new_user_of_that_message_alone(
    inbound: Inbound,
) -> None:
    """Both in one file: nothing of the erased one, not its instant nor its name, is the user's."""
    erase(inbound, WAMID, IDS.of_wamid("w9"))
    report = inbound.send(
        texts(text_message("w1", EARLIER), contacts=[contact(ANA, "Nome Antigo")]),
        texts(text_message("w2", NOW - 60), contacts=[contact(ANA, "Nome Novo")]),
        texts(text_message("w9", NOW), contacts=[contact(ANA, "Nome Antigo")]),
    )
    assert (report.received, report.inserted, report.skipped) == (3, 1, {"erased": 2})
    assert inbound.one(
        "select u.phone, u.name, u.created_at, a.last_at from users as u "
        "inner join pipeline.user_activity as a on u.id = a.user_id"
    ) == (f"+{ANA}", "Nome Novo", AS_OF - timedelta(seconds=60), AS_OF - timedelta(seconds=60))
    assert inbound.rows("select name from pipeline.senders") == [("Nome Novo",)]
    assert inbound.one("select count(*), max(total_messages) from conversations") == (1, 1)


def test_others_in_the_same_chunk_are_loaded_as_ever(inbound: Inbound) -> None:
    erase(inbound, WAMID)
    report = inbound.say(
        text_message("w1", EARLIER), text_message("w2", EARLIER, sender=BRUNO, body="oi")
    )
    assert (report.inserted, report.skipped) == (1, {"erased": 1})
    assert inbound.rows("select phone from users") == [(f"+{BRUNO}",)]
    assert inbound.rows("select content from messages") == [("oi",)]


def test_a_button_of_an_erased_message_is_not_kept_but_its_press_is(inbound: Inbound) -> None:
    erase(inbound, IDS.of_wamid("w0"))
    assert inbound.say(text_message("w1", EARLIER, **BUTTON)).inserted == 1
    assert inbound.rows("select content from messages") == [("Sim",)]
    assert inbound.rows("select payload from pipeline.button_replies") == []


EDITS = [
    edit("e1", EARLIER + 1, "w1", "um"),
    edit("e2", EARLIER + 2, "e1", "dois"),
    edit("e3", EARLIER + 3, "e2", "três"),
]


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 0, 2), (2, 0, 1)])
@pytest.mark.parametrize("is_one_file", [True, False])
def test_an_edit_of_an_edit_of_an_erased_message_keeps_no_text_in_any_order(
    inbound: Inbound, order: tuple[int, ...], is_one_file: bool
) -> None:
    erase(inbound, WAMID)
    edits = [EDITS[index] for index in order]
    reports = [inbound.say(*edits)] if is_one_file else [inbound.say(one) for one in edits]
    assert sum(report.received for report in reports) == 3
    assert inbound.rows("select content from pipeline.message_changes") == []
    assert personal_rows(inbound) == NOTHING
    # Each of them now and whatever refers to it, for as long as the message.
    assert inbound.one("select count(*), min(forget_at) from pipeline.erased_messages") == (
        4,
        AS_OF + 90 * DAY,
    )
    assert inbound.say(edit("e4", EARLIER + 4, "e3", "quatro")).skipped == {"erased": 1}


def test_an_edit_of_somebody_elses_message_waits_as_ever(inbound: Inbound) -> None:
    erase(inbound, WAMID)
    inbound.say(edit("e9", EARLIER, "w9", "de outro", sender=BRUNO), EDITS[0])
    assert inbound.rows("select content from pipeline.message_changes") == [("de outro",)]


def test_a_quarantined_record_that_is_erased_leaves_the_quarantine_at_its_replay(
    inbound: Inbound,
) -> None:
    late = text_message("w1", NOW + 2 * HOUR)
    assert inbound.say(late).quarantined == {"future": 1}
    erase(inbound, WAMID)
    report = inbound.run("quarantine_replay", AS_OF + timedelta(hours=3))
    assert report.skipped == {"erased": 1}
    assert personal_rows(inbound) == NOTHING


# --- Erased while a load runs --------------------------------------------------------------------


@contextmanager
def waiting(
    inbound: Inbound, owner: Connection, pipeline: str, **options: Any
) -> Iterator[Future[RunReport]]:
    """A run that has decoded its chunk and waits for an erasure, which commits at the end."""
    with owner.begin(), ThreadPoolExecutor(1) as pool:
        with psycopg_connection(owner).cursor() as cursor:
            exclusive_lock(cursor)
        run = pool.submit(inbound.run, pipeline, **options)
        # Its owner may not see what other roles' sessions do, but the locks.
        while not inbound.rows(
            "select from pg_locks as l inner join pg_database as d on l.database = d.oid "
            "where l.locktype = 'advisory' and not l.granted and d.datname = current_database()"
        ):
            assert not run.done(), run.result()
            time.sleep(0.01)
        yield run
        owner.commit()
        run.result(timeout=60)


def test_what_is_erased_while_a_chunk_waits_is_not_loaded_by_it(
    inbound: Inbound, owner: Connection
) -> None:
    bodies = [texts(text_message(f"w{n}", EARLIER, sender=phone)) for n, phone in PEOPLE]
    inbound.put("a.jsonl", jsonl(*bodies, line(change(statuses=[status("w1", "read", NOW)]))))
    with waiting(inbound, owner, "inbound_messages") as run:
        owner.execute(
            text("insert into pipeline.erased_messages values (:id, :until)"),
            {"id": WAMID, "until": AS_OF + 90 * DAY},
        )
    report = run.result()
    # The statuses were committed beside it, and are met again.
    assert (report.received, report.inserted, report.duplicate) == (3, 1, 1)
    assert report.skipped == {"erased": 1}
    assert inbound.rows("select phone from users") == [(f"+{BRUNO}",)]


PEOPLE = ((1, ANA), (2, BRUNO))


def test_a_user_who_is_anonymised_while_a_chunk_waits_gets_nothing_of_it(
    inbound: Inbound, owner: Connection
) -> None:
    user = inbound.insert_user(f"+{ANA}", "Ana Exemplo")
    inbound.put("a.jsonl", jsonl(chatbot_message(EARLIER, external_id="e1", user_id=user)))
    with waiting(inbound, owner, "inbound_messages") as run:
        for statement in ANONYMIZE.split(";"):
            owner.execute(text(statement), {"user": user})
    assert run.result().skipped == {"erased": 1}
    assert inbound.rows("select from messages") == []


def test_a_row_that_is_erased_while_it_is_replayed_is_not_loaded(
    inbound: Inbound, owner: Connection
) -> None:
    for wamid, phone in (("w1", ANA), ("w2", BRUNO)):
        inbound.say(text_message(wamid, NOW + 2 * HOUR, sender=phone))
    late = AS_OF + timedelta(hours=3)
    with (
        waiting(inbound, owner, "quarantine_replay", as_of=late) as run,
        psycopg_connection(owner).cursor() as cursor,
    ):
        assert files(inbound).erase_quarantine(cursor, KEYS) == 1
    assert (run.result().received, run.result().inserted) == (1, 1)
    assert inbound.rows("select phone from users") == [(f"+{BRUNO}",)]


def test_a_load_goes_on_from_the_last_line_it_committed(inbound: Inbound) -> None:
    """What was decoded ahead of an erasure is decoded again, and each line is counted once."""
    bodies = [texts(text_message(f"w{n}", EARLIER + n)) for n in range(6)]
    inbound.put("a.jsonl", jsonl(*bodies))
    report = RunReport(pipeline="inbound_messages", run_id=UUID(int=1), as_of=AS_OF)

    def show(progress: Progress) -> None:
        if progress.units == 2:
            erase(inbound, *(IDS.of_wamid(f"w{n}") for n in (0, 3, 4)))

    with inbound.database.connect() as connection, inbound.database.connect() as side:
        Loader(
            connection=connection,
            side=side,
            ids=IDS,
            idle=DAY,
            context_messages=20,
            chunk_units=1,
        ).load_landing(LandingZone(str(inbound.landing)), report, show)
    report.balance()
    assert (report.received, report.inserted, report.skipped) == (6, 4, {"erased": 2})
    assert inbound.one("select lines_done, units_done, state from pipeline.inbound_batches") == (
        6,
        6,
        "done",
    )


def test_only_who_must_run_alone_waits_for_who_shares_the_lock(database: TestDatabase) -> None:
    with database.connect() as first, database.connect() as second, database.connect() as third:
        cursors = [psycopg_connection(one).cursor() for one in (first, second, third)]
        share_lock(cursors[0])
        share_lock(cursors[1])
        cursors[2].execute("set local lock_timeout = '50ms'")
        with pytest.raises(Exception, match="lock timeout"):
            exclusive_lock(cursors[2])


# --- Anonymised users ----------------------------------------------------------------------------


@pytest.fixture
def anonymized(inbound: Inbound) -> str:
    """Ana, who wrote, was answered, reacted and opted out, and whom the clock then anonymised."""
    inbound.send(
        texts(text_message("w1", EARLIER), contacts=[contact(ANA, "Ana Exemplo")]),
        texts(text_message("w2", EARLIER + 1, body="SAIR")),
        chatbot_message(EARLIER + 2, wamid="w3", phone=ANA, model="modelo", mode="menu"),
        chatbot_conversation("c1", EARLIER + 3, "waiting", phone=ANA),
    )
    user = user_of(inbound, ANA)
    anonymize(inbound, user)
    return user


def still(inbound: Inbound, user: str) -> None:
    """The anonymised user has its messages, nothing personal, and no way back to anybody."""
    (phone, name), *_ = inbound.rows("select phone, name from users where id = :user", user=user)
    assert (phone[:2], name) == ("~x", None)
    rows = inbound.rows(
        "select m.id, m.content, f.sender_id, f.told_sender_id, f.author, f.mode, f.model "
        "from messages as m inner join conversations as c on m.conversation_id = c.id "
        "inner join pipeline.message_facts as f on m.id = f.message_id "
        "where c.user_id = :user order by m.created_at",
        user=user,
    )
    assert rows == [
        (UUID(IDS.of_wamid("w1")), "", None, None, "client", None, None),
        (UUID(IDS.of_wamid("w2")), "", None, None, "client", None, None),
        (UUID(IDS.of_wamid("w3")), "", None, None, "bot", "menu", "modelo"),
    ]
    for table in (
        "session_context as s inner join conversations as c on s.conversation_id = c.id",
        "pipeline.user_identities as c",
    ):
        query = f"select from {table} where c.user_id = :user"
        assert inbound.rows(query, user=user) == []
    assert inbound.rows("select from pipeline.guard_refusals") == []


def test_an_old_message_that_comes_again_stays_with_nobody(
    inbound: Inbound, anonymized: str
) -> None:
    report = inbound.send(
        texts(text_message("w1", EARLIER), contacts=[contact(ANA, "Ana Exemplo")]),
        # The webhook of what only the chatbot told of: elsewhere it would be believed.
        line(echo_change(echo("w3", EARLIER - 5))),
        chatbot_message(EARLIER - 9, wamid="w1", phone=ANA, model="outro", mode="human"),
    )
    assert (report.received, report.duplicate) == (3, 3)
    still(inbound, anonymized)


def test_what_refers_to_an_old_message_keeps_nothing(inbound: Inbound, anonymized: str) -> None:
    before = personal_rows(inbound)
    report = inbound.send(
        texts(
            edit("e1", NOW, "w1", "texto novo"),
            revoke("e2", NOW, "w2"),
            reaction("r1", NOW, "w3", "👍"),
        ),
        line(change(statuses=[status("w3", "read", NOW)])),
    )
    assert (report.inserted, report.skipped) == (1, {"erased": 3})
    assert personal_rows(inbound) == before
    still(inbound, anonymized)


@pytest.mark.parametrize("is_merged", [False, True])
def test_a_chatbots_event_by_users_id_creates_nothing_and_is_not_kept(
    inbound: Inbound, anonymized: str, is_merged: bool
) -> None:
    user = anonymized
    if is_merged:
        user = str(UUID(int=7))
        inbound.execute(
            "insert into pipeline.user_merges values (:gone, :into, :at)",
            gone=user,
            into=anonymized,
            at=AS_OF,
        )
    before = personal_rows(inbound)
    report = inbound.send(
        chatbot_message(NOW, external_id="e1", user_id=user, content="texto"),
        chatbot_conversation("c2", NOW, "transferred", user_id=user, transferred_to="Alguém"),
        chatbot_message(NOW, external_id="e2", user_id=str(UUID(int=9))),
    )
    assert (report.skipped, report.quarantined) == ({"erased": 2}, {"unknown_user": 1})
    assert personal_rows(inbound) == before | {"pipeline.quarantine": 1}
    still(inbound, anonymized)


def test_such_an_event_that_waits_in_quarantine_leaves_it_at_its_replay(
    inbound: Inbound,
) -> None:
    user = inbound.insert_user(f"+{ANA}")
    inbound.send(chatbot_message(NOW + 2 * HOUR, external_id="e1", user_id=user))
    anonymize(inbound, user)
    report = inbound.run("quarantine_replay", AS_OF + timedelta(hours=3))
    assert report.skipped == {"erased": 1}
    assert inbound.rows("select from pipeline.quarantine") == []


def test_a_new_message_of_the_same_number_is_a_new_client(
    inbound: Inbound, anonymized: str
) -> None:
    inbound.send(texts(text_message("w9", NOW), contacts=[contact(ANA, "Ana de Novo")]))
    assert inbound.one(
        "select u.id::text <> :old, u.created_at, u.name from users as u where u.phone = :phone",
        old=anonymized,
        phone=f"+{ANA}",
    ) == (True, AS_OF, "Ana de Novo")
    still(inbound, anonymized)


@pytest.mark.parametrize("order", ["before", "after", "never"])
def test_a_late_number_change_moves_nothing_of_theirs(
    inbound: Inbound, anonymized: str, order: str
) -> None:
    """Old number or new, whoever has it now: the anonymised messages are nobody's."""
    writes = [text_message("w8", NOW, sender=CAIO), text_message("w9", NOW)]
    if order == "before":
        inbound.say(*writes)
    report = inbound.say(number_change("n1", EARLIER + 60, ANA, CAIO))
    assert report.inserted == 1
    if order == "after":
        inbound.say(*writes)
    still(inbound, anonymized)
    users = 1 if order == "never" else 3
    assert inbound.one("select count(*) from users") == (users,)
    # And one that came to their number.
    inbound.say(number_change("n2", EARLIER - 60, BRUNO, ANA))
    still(inbound, anonymized)


def test_a_new_user_of_the_number_can_be_joined_without_them(
    inbound: Inbound, anonymized: str
) -> None:
    inbound.say(text_message("w8", NOW), text_message("w9", NOW, sender=None, from_user_id="BR.1"))
    report = inbound.say(text_message("w10", NOW, from_user_id="BR.1"))
    assert report.inserted == 1
    assert inbound.one("select count(*) from users") == (2,)
    assert inbound.one("select count(*) from pipeline.user_merges") == (1,)
    still(inbound, anonymized)


def test_the_clock_finds_nothing_of_theirs(inbound: Inbound, anonymized: str) -> None:
    report = inbound.run("session_context_expiry", AS_OF + 2 * DAY)
    assert report.outcome is Outcome.SKIPPED
    still(inbound, anonymized)


def test_the_periods_of_the_policy_decide_what_the_clock_ends(inbound: Inbound) -> None:
    inbound.say(
        text_message("w1", NOW),
        edit("e1", NOW, "w7", "espera"),
        number_change("n1", NOW, BRUNO, CAIO),
    )

    def expire(after: timedelta, **periods: str) -> int:
        report = RunReport(pipeline=idle.PIPELINE, run_id=UUID(int=1), as_of=AS_OF + after)
        with inbound.database.connect() as connection:
            idle.expire(connection, report, idle=900 * DAY, periods=idle.Periods(**periods))
        report.balance()
        return report.received

    assert expire(timedelta(hours=4), contexts="1 hour") == 0
    assert expire(timedelta(hours=5), contexts="1 hour") == 1
    assert expire(31 * DAY, waiting_changes="2 months") == 0
    assert expire(91 * DAY, waiting_changes="1 year", unknown_identities="1 year") == 0
    assert expire(31 * DAY) == 1
    assert expire(91 * DAY) == 1


# --- Files and quarantine ------------------------------------------------------------------------

KEYS = SubjectKeys(
    phones=frozenset({ANA}),
    bsuids=frozenset(),
    emails=frozenset(),
    message_ids=frozenset({WAMID}),
    user_ids=frozenset(),
)


def files(inbound: Inbound) -> SubjectFiles:
    return SubjectFiles(LandingZone(str(inbound.landing)), IDS)


def test_a_rewritten_archive_loads_and_balances_without_the_subject(
    make_database: Any, inbound: Inbound
) -> None:
    both = (text_message("w1", EARLIER), text_message("w2", EARLIER, sender=BRUNO))
    inbound.send(
        texts(*both, contacts=[contact(ANA, "Ana"), contact(BRUNO, "Bruno")]),
        line(change(statuses=[status("w1", "read", NOW, recipient_id=BRUNO)])),
        b'{"object":"whatsapp_business_account","entry":[{"from":"' + ANA.encode(),
        b"nada disto se entende",
    )
    assert files(inbound).rewrite(KEYS, execute=True) == FilesRewritten(files=1, records=4)
    (archived,) = inbound.landing.glob("archive/*/*.jsonl")
    with make_database() as other:
        again = Inbound(other)
        again.put("a.jsonl", archived.read_bytes())
        report = again.load()
        assert (report.received, report.inserted) == (2, 1)
        assert report.quarantined == {"malformed_json": 1}
        assert again.rows("select phone, name from users") == [(f"+{BRUNO}", "Bruno")]
    # In the same database everything is a repetition.
    inbound.put("b.jsonl", archived.read_bytes())
    assert inbound.load().duplicate == 2


def test_a_waiting_file_of_a_killed_run_is_rewritten_and_loaded_from_its_beginning(
    inbound: Inbound,
) -> None:
    bodies = [texts(text_message(f"w{n}", EARLIER, sender=phone)) for n, phone in PEOPLE]
    inbound.put("a.jsonl", jsonl(*bodies))
    report = RunReport(pipeline="inbound_messages", run_id=UUID(int=1), as_of=AS_OF)

    class KilledError(Exception):
        pass

    def kill(_progress: Progress) -> None:
        raise KilledError

    with inbound.database.connect() as connection, inbound.database.connect() as side:
        loader = Loader(
            connection=connection, side=side, ids=IDS, idle=DAY, context_messages=20, chunk_units=1
        )
        with pytest.raises(KilledError):
            loader.load_landing(LandingZone(str(inbound.landing)), report, kill)
    assert files(inbound).rewrite(KEYS, execute=True).records == 1
    report = inbound.load()
    assert (report.received, report.inserted) == (1, 1)


@contextmanager
def quarantine_cursor(inbound: Inbound) -> Iterator[psycopg.Cursor[Any]]:
    with (
        inbound.database.connect() as connection,
        connection.begin(),
        psycopg_connection(connection).cursor() as cursor,
    ):
        yield cursor


def test_rows_of_the_quarantine_with_the_subject_go_and_no_others(inbound: Inbound) -> None:
    future = NOW + 2 * HOUR
    inbound.send(
        texts(text_message("w7", future)),
        texts(text_message("w8", future, sender=BRUNO)),
        texts(text_message("w9", future, sender=BRUNO, context={"id": "w1"})),
        chatbot_message(future, external_id="e1", phone=f"+{ANA}"),
        b"isto nao se le: +55 11 90000-0001",
        b"nem isto",
    )
    with quarantine_cursor(inbound) as cursor:
        found = list(files(inbound).find_quarantine(cursor, KEYS))
        assert {item.place for item in found} == {"quarantine"}
        assert sorted(item.line for item in found) == [1, 3, 4, 5]
        assert files(inbound).erase_quarantine(cursor, KEYS) == 4
        assert list(files(inbound).find_quarantine(cursor, KEYS)) == []
        assert files(inbound).erase_quarantine(cursor, KEYS) == 0
    assert inbound.rows("select line from pipeline.quarantine order by line") == [(2,), (6,)]


def test_every_page_of_the_quarantine_is_looked_through(inbound: Inbound) -> None:
    long = "x" * 1_500_000
    inbound.send(
        *(texts(text_message(f"w{n + 10}", NOW + 2 * HOUR, sender=BRUNO)) for n in range(1200)),
        *(
            texts(text_message(f"v{n}", NOW + 2 * HOUR, sender=phone, body=long))
            for n, phone in enumerate((ANA, BRUNO) * 4)
        ),
    )
    with quarantine_cursor(inbound) as cursor:
        assert files(inbound).erase_quarantine(cursor, KEYS) == 4
    assert inbound.one("select count(*) from pipeline.quarantine") == (1204,)
