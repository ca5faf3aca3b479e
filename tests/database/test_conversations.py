"""Conversations and contexts are a function of the messages and the clock, never of arrival."""

from __future__ import annotations

import itertools
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.database.rows import insert
from tests.inbound import AS_OF, HOUR, NOW, Inbound
from tests.postgres import TestDatabase
from tests.webhooks import ANA, chatbot_conversation, chatbot_message, text_message

IDLE = 24 * HOUR
TTL = timedelta(hours=4)


@pytest.fixture
def inbound(database: TestDatabase) -> Inbound:
    return Inbound(database, context_messages=3)


def message(at: int, sender: str = ANA) -> dict[str, Any]:
    """A message ``at`` seconds from now, whose text and id say when."""
    return text_message(f"w{sender}{at}", NOW + at, sender=sender, body=f"t{at}")


def conversations(inbound: Inbound) -> list[tuple[Any, ...]]:
    """Status, start, end and number of messages, by start, in seconds from now."""
    return inbound.rows(
        "select status, extract(epoch from started_at)::bigint - :now, "
        "extract(epoch from closed_at)::bigint - :now, total_messages "
        "from conversations order by started_at",
        now=NOW,
    )


def assert_consistent(inbound: Inbound, as_of: datetime = AS_OF) -> None:
    """What must hold after every load and every sweep."""
    assert (
        inbound.rows(
            "select c.id from conversations as c where total_messages <> "
            "(select count(*) from messages as m where m.conversation_id = c.id)"
        )
        == []
    )
    assert (
        inbound.rows(
            "select user_id from conversations where status <> 'closed' "
            "group by user_id having count(*) > 1"
        )
        == []
    )
    assert (
        inbound.rows(
            "select id from conversations where (status = 'closed') <> (closed_at is not null)"
        )
        == []
    )
    for context, marked in inbound.rows(
        "select (select array_agg(e ->> 'content') "
        "from session_context as s, jsonb_array_elements(s.messages_json) as e "
        "where s.conversation_id = c.id), "
        "(select array_agg(m.content order by m.created_at, m.id) from messages as m "
        "where m.conversation_id = c.id and m.is_in_context) from conversations as c"
    ):
        assert context == marked
    assert (
        inbound.rows(
            "select s.id from session_context as s "
            "inner join conversations as c on s.conversation_id = c.id where c.status = 'closed'"
        )
        == []
    )
    assert (
        inbound.rows(
            "select s.id from session_context as s where s.ttl_expires_at <> "
            "(select max(created_at) + interval '4 hours' from messages as m "
            "where m.conversation_id = s.conversation_id)"
        )
        == []
    )


@pytest.mark.parametrize(("gap", "count"), [(IDLE - 1, 1), (IDLE, 1), (IDLE + 1, 2)])
@pytest.mark.parametrize("is_late", [False, True])
def test_only_a_silence_longer_than_the_limit_ends_a_conversation(
    inbound: Inbound, gap: int, count: int, is_late: bool
) -> None:
    first, second = message(-gap), message(0)
    for item in [second, first] if is_late else [first, second]:
        inbound.say(item)
    assert len(conversations(inbound)) == count
    assert_consistent(inbound)


def test_the_limit_is_a_setting(database: TestDatabase) -> None:
    inbound = Inbound(database, conversation_idle_hours=1)
    inbound.say(message(-2 * HOUR), message(-HOUR), message(1))
    assert [row[0] for row in conversations(inbound)] == ["closed", "open"]


def test_a_conversation_ends_with_its_last_message_when_a_new_one_begins(inbound: Inbound) -> None:
    inbound.say(message(-2 * IDLE), message(-2 * IDLE + 60))
    inbound.say(message(0))
    assert conversations(inbound) == [
        ("closed", -2 * IDLE, -2 * IDLE + 60, 2),
        ("open", 0, None, 1),
    ]


def test_old_messages_make_a_closed_conversation(inbound: Inbound) -> None:
    inbound.say(message(-3 * IDLE))
    assert conversations(inbound) == [("closed", -3 * IDLE, -3 * IDLE, 1)]
    assert inbound.rows("select * from session_context") == []


def test_an_earlier_message_moves_the_start(inbound: Inbound) -> None:
    inbound.say(message(0))
    inbound.say(message(-HOUR))
    assert conversations(inbound) == [("open", -HOUR, None, 2)]


def test_a_late_message_of_long_ago_is_a_conversation_of_its_own(inbound: Inbound) -> None:
    inbound.say(message(0))
    inbound.say(message(-5 * IDLE))
    assert conversations(inbound) == [
        ("closed", -5 * IDLE, -5 * IDLE, 1),
        ("open", 0, None, 1),
    ]


def test_a_late_message_joins_two_conversations_with_all_that_belongs_to_them(
    inbound: Inbound,
) -> None:
    start = -IDLE - HOUR
    inbound.say(message(start), message(start + 1))
    inbound.say(message(0))
    with inbound.database.connect("owner") as connection, connection.begin():
        for conversation, user in inbound.rows("select id, user_id from conversations"):
            insert(
                connection,
                "tickets",
                user_id=user,
                conversation_id=conversation,
                protocol=str(conversation)[:8],
            )
    assert len(conversations(inbound)) == 2
    inbound.say(message(start + 2 * HOUR))
    assert conversations(inbound) == [("open", start, None, 4)]
    assert inbound.one(
        "select count(distinct c.id), count(distinct t.id), count(distinct m.id) "
        "from conversations as c inner join tickets as t on c.id = t.conversation_id "
        "inner join messages as m on c.id = m.conversation_id"
    ) == (1, 2, 4)
    assert contents(inbound) == [f"t{start + 1}", f"t{start + 2 * HOUR}", "t0"]
    assert_consistent(inbound)


def test_joined_conversations_keep_the_row_of_the_earliest_and_the_summary_of_the_latest(
    inbound: Inbound,
) -> None:
    start = -IDLE - HOUR
    inbound.say(message(start))
    earliest = inbound.one("select id from conversations")
    inbound.say(message(0))
    inbound.execute("update session_context set summary = 'resumo da conversa de hoje'")
    inbound.say(message(start + 2 * HOUR))
    assert inbound.one("select id from conversations") == earliest
    assert inbound.one("select conversation_id, summary from session_context") == (
        *earliest,
        "resumo da conversa de hoje",
    )


@pytest.mark.parametrize("status", ["waiting", "transferred"])
def test_a_joined_conversation_stays_with_the_person_it_was_given_to(
    inbound: Inbound, status: str
) -> None:
    start = -IDLE - HOUR
    inbound.say(message(start))
    inbound.say(message(0))
    more = {"transferred_to": "Atendente Exemplo"} if status == "transferred" else {}
    inbound.send(
        chatbot_conversation("e1", NOW + 2, status, phone=ANA, **more),
        chatbot_message(NOW + 1, wamid="answer", phone=ANA, mode="human"),
    )
    given = (status, "human", more.get("transferred_to"))
    stands = "select status, mode, transferred_to from conversations where closed_at is null"
    assert inbound.one(stands) == given
    inbound.say(message(start + 2 * HOUR))
    assert inbound.one("select status, mode, transferred_to from conversations") == given
    assert conversations(inbound) == [(status, start, None, 4)]
    assert_consistent(inbound)


def test_mode_and_flow_are_the_chatbots_word_and_no_longer_what_stood_in_the_table(
    inbound: Inbound,
) -> None:
    inbound.say(message(-HOUR))
    inbound.send(
        chatbot_message(NOW - 60, wamid="a", phone=ANA, mode="flow", current_flow="segunda_via"),
        chatbot_message(NOW - 30, wamid="b", phone=ANA),
    )
    state = "select mode, current_flow from conversations"
    assert inbound.one(state) == ("flow", "segunda_via"), "the last that told one"
    inbound.execute("update conversations set mode = 'human', current_flow = 'outro'")
    inbound.say(message(-30))
    assert inbound.one(state) == ("human", "outro"), "nothing of the chatbot's came"
    inbound.send(chatbot_message(NOW - 90, wamid="c", phone=ANA, mode="menu"))
    assert inbound.one(state) == ("flow", "segunda_via"), "derived, and the late one is not last"


def test_a_late_message_that_keeps_a_closed_conversation_alive_reopens_it(
    inbound: Inbound,
) -> None:
    inbound.say(message(-IDLE - HOUR))
    assert conversations(inbound)[0][0] == "closed"
    inbound.say(message(-HOUR))
    assert conversations(inbound) == [("open", -IDLE - HOUR, None, 2)]


def test_a_late_message_that_keeps_nothing_alive_leaves_it_closed(inbound: Inbound) -> None:
    inbound.say(message(-3 * IDLE))
    inbound.say(message(-2 * IDLE - HOUR))
    assert conversations(inbound) == [("closed", -3 * IDLE, -2 * IDLE - HOUR, 2)]


@pytest.mark.parametrize("is_told", [False, True])
@pytest.mark.parametrize("status", ["waiting", "transferred"])
def test_a_conversation_that_a_person_has_is_not_ended_by_the_clock(
    inbound: Inbound, status: str, is_told: bool
) -> None:
    """Whether the chatbot's event says so, or a row from before there were any."""
    inbound.say(message(0))
    if is_told:
        inbound.send(chatbot_conversation("e1", NOW, status, phone=ANA))
    else:
        inbound.execute(f"update conversations set status = '{status}'")  # noqa: S608 - ours
    later = AS_OF + timedelta(days=9)
    inbound.run("session_context_expiry", as_of=later)
    assert conversations(inbound) == [(status, 0, None, 1)]
    inbound.say(message(1), as_of=later)
    assert conversations(inbound) == [(status, 0, None, 2)]
    inbound.say(message(9 * IDLE), as_of=later)
    assert [row[0] for row in conversations(inbound)] == ["closed", "open"]
    assert_consistent(inbound)


def test_clients_do_not_touch_each_others_conversations(inbound: Inbound) -> None:
    senders = [f"55119000000{n:02}" for n in range(10, 20)]
    inbound.say(*(message(-IDLE - HOUR, sender) for sender in senders))
    inbound.say(*(message(0, sender) for sender in senders[::2]))
    inbound.say(message(-2 * HOUR, senders[0]))
    assert len(conversations(inbound)) == 14
    assert_consistent(inbound)


def contents(inbound: Inbound) -> list[str]:
    """What the AI's context holds, in its order."""
    return [
        item["content"]
        for (items,) in inbound.rows("select messages_json from session_context")
        for item in items
    ]


def test_a_context_holds_the_last_messages_in_their_order_until_four_hours_after(
    inbound: Inbound,
) -> None:
    inbound.say(*(message(at) for at in (-30, -50, -10, -40, -20)))
    assert contents(inbound) == ["t-30", "t-20", "t-10"]
    assert inbound.one("select ttl_expires_at, updated_at from session_context") == (
        AS_OF - timedelta(seconds=10) + TTL,
        AS_OF,
    )
    ((items,),) = inbound.rows("select messages_json from session_context")
    assert set(items[0]) == {"role", "content", "at"}
    assert items[0]["role"] == "user"
    assert_consistent(inbound)


def test_a_late_message_enters_the_context_only_in_its_place(inbound: Inbound) -> None:
    inbound.say(*(message(at) for at in (-30, -20, -10)))
    inbound.say(message(-40))
    assert contents(inbound) == ["t-30", "t-20", "t-10"]
    inbound.say(message(-15))
    assert contents(inbound) == ["t-20", "t-15", "t-10"]
    assert_consistent(inbound)


def test_a_context_that_holds_fewer_messages_than_before_marks_no_others(
    inbound: Inbound, database: TestDatabase
) -> None:
    Inbound(database, context_messages=20).say(*(message(at) for at in range(-100, -80)))
    inbound.say(message(-10))
    assert contents(inbound) == ["t-82", "t-81", "t-10"]
    assert_consistent(inbound)


@pytest.mark.parametrize(("age", "count"), [(4 * HOUR - 1, 1), (4 * HOUR, 0), (5 * HOUR, 0)])
def test_no_context_is_made_past_its_time(inbound: Inbound, age: int, count: int) -> None:
    inbound.say(message(-age))
    assert len(contents(inbound)) == count
    assert conversations(inbound)[0][0] == "open"
    assert_consistent(inbound)


def test_a_late_message_does_not_bring_an_expired_context_back(inbound: Inbound) -> None:
    inbound.say(message(0))
    later = AS_OF + timedelta(hours=5)
    inbound.run("session_context_expiry", as_of=later)
    inbound.say(message(-60), as_of=later)
    assert contents(inbound) == []
    assert_consistent(inbound)


def test_a_conversation_that_was_joined_past_its_context_marks_no_message(
    inbound: Inbound,
) -> None:
    start = -IDLE - HOUR
    inbound.say(message(start))
    inbound.say(message(0))
    later = AS_OF + timedelta(hours=5)  # the context is past its time, and not swept yet
    inbound.say(message(start + 2 * HOUR), as_of=later)
    inbound.run("session_context_expiry", as_of=later)
    assert contents(inbound) == []
    assert_consistent(inbound, later)


def test_messages_leave_the_context_with_the_conversation_that_ends(inbound: Inbound) -> None:
    inbound.say(message(-10))
    inbound.say(message(IDLE), as_of=AS_OF + timedelta(days=1))
    assert contents(inbound) == [f"t{IDLE}"]
    assert_consistent(inbound)


# Minutes before now, on both sides of every limit.
_MINUTES = st.sampled_from([0, 1, 60, 239, 240, 241, 719, 1439, 1440, 1441, 2880, 2881, 4320])


@settings(
    max_examples=12,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    st.lists(_MINUTES, min_size=2, max_size=7, unique=True).flatmap(
        lambda times: st.tuples(st.just(times), st.permutations(times), st.integers(1, 3))
    )
)
def test_any_order_and_split_of_the_same_messages_gives_the_same_conversations(
    inbound: Inbound, drawn: tuple[list[int], list[int], int]
) -> None:
    times, order, size = drawn
    senders = itertools.count(next(_serial) * 100)
    expected, found = f"55119{next(senders):08}", f"55119{next(senders):08}"
    inbound.say(*(message(-60 * at, expected) for at in sorted(times, reverse=True)))
    for place in range(0, len(order), size):
        inbound.say(*(message(-60 * at, found) for at in order[place : place + size]))
    query = (
        "select c.status, c.started_at, c.closed_at, c.total_messages, "
        "s.messages_json, s.ttl_expires_at, "
        "(select array_agg((m.content, m.is_in_context)::text order by m.created_at) "
        "from messages as m where m.conversation_id = c.id) "
        "from users as u inner join conversations as c on u.id = c.user_id "
        "left join session_context as s on c.id = s.conversation_id "
        "where u.phone = :phone order by c.started_at"
    )
    assert inbound.rows(query, phone=f"+{found}") == inbound.rows(query, phone=f"+{expected}")
    assert_consistent(inbound)


_serial = itertools.count(1)
