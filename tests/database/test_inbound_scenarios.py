"""What single stories of inbound records leave behind, with the rows written out by hand.

Every order of arrival is the subject of test_inbound_orders.py; here a few that people can follow.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from itertools import permutations
from typing import Any

import pytest

from tests.database.rows import insert
from tests.inbound import AS_OF, HOUR, NOW, Inbound
from tests.postgres import TestDatabase
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
    line,
    number_change,
    reaction,
    revoke,
    rfc3339,
    status,
    text_message,
    texts,
    user_id_update,
    user_preference,
)

IDLE = 24 * HOUR
MINUTE = 60
SINCE = NOW - 3 * HOUR
DAY = 24 * HOUR
# Obviously invented; the chatbot writes a plus, WhatsApp does not.
CARLA = "5511900000003"
OF_ANA, OF_BRUNO = {"phone": f"+{ANA}"}, {"phone": f"+{BRUNO}"}


@pytest.fixture
def inbound(database: TestDatabase) -> Inbound:
    return Inbound(database)


def said(text: str, at: int, sender: str | None = ANA, **more: Any) -> bytes:
    """A message whose id is its text."""
    return texts(text_message(f"wamid.{text}", at, sender=sender, body=text, **more))


def moved(at: int, old: str = ANA, new: str = BRUNO, **more: Any) -> bytes:
    return line(change(number_change(f"wamid.{old}-{new}-{at}", at, old, new, **more)))


def stories(inbound: Inbound) -> dict[str, list[tuple[str, str]]]:
    """By phone, each conversation's status and texts in the order of time."""
    found: dict[str, list[tuple[str, str]]] = {}
    for phone, conversation_status, contents in inbound.rows(
        "select case when starts_with(u.phone, '~b') then '~b' else u.phone end, "
        "c.status::text, string_agg(m.content, ' ' order by m.created_at, m.role, m.id) "
        "from users as u "
        "left join conversations as c on u.id = c.user_id "
        "left join messages as m on c.id = m.conversation_id "
        "group by u.id, c.id order by min(m.created_at)"
    ):
        of_user = found.setdefault(phone, [])
        if conversation_status is not None:
            of_user.append((conversation_status, contents))
    return found


def at(seconds: int) -> datetime:
    return AS_OF + timedelta(seconds=seconds - NOW)


def ids_of_users(inbound: Inbound) -> dict[str, Any]:
    return dict(inbound.rows("select phone, id from users"))  # type: ignore[arg-type]


# --- Numbers --------------------------------------------------------------------------------------


def test_a_landline_never_meets_the_mobile_that_a_nine_would_make_of_it(inbound: Inbound) -> None:
    inbound.send(said("fixo", SINCE, "551133334444"), said("celular", SINCE, "5511933334444"))
    assert stories(inbound) == {
        "+551133334444": [("open", "fixo")],
        "+5511933334444": [("open", "celular")],
    }


@pytest.mark.parametrize("forms", list(permutations(["553190000001", "5531990000001"])))
def test_a_mobile_with_and_without_the_nine_is_one_client(
    inbound: Inbound, forms: tuple[str, str]
) -> None:
    inbound.send(said("antes", SINCE, forms[0]))
    inbound.send(said("depois", SINCE + 1, forms[1]))
    assert stories(inbound) == {f"+{forms[1]}": [("open", "antes depois")]}


def test_who_was_known_by_a_bsuid_alone_stays_when_the_phone_comes(inbound: Inbound) -> None:
    inbound.send(said("sem número", SINCE, None, from_user_id="BR.1"))
    assert stories(inbound) == {"~b": [("open", "sem número")]}
    (known,) = ids_of_users(inbound).values()
    inbound.send(said("com número", SINCE + 1, ANA, from_user_id="BR.1"))
    inbound.send(said("só número", SINCE + 2, ANA))
    assert stories(inbound) == {f"+{ANA}": [("open", "sem número com número só número")]}
    assert ids_of_users(inbound) == {f"+{ANA}": known}
    assert inbound.rows("select * from pipeline.undo_records") == []


def test_two_users_who_turn_out_to_be_one_become_one_with_an_undo_record(inbound: Inbound) -> None:
    inbound.send(said("número", SINCE, ANA))
    inbound.send(said("nome de usuário", SINCE + 1, None, from_user_id="BR.1"))
    assert len(ids_of_users(inbound)) == 2
    gone = inbound.one("select id from users where starts_with(phone, '~b')")[0]
    kept = ids_of_users(inbound)[f"+{ANA}"]
    inbound.send(said("ambos", SINCE + 2, ANA, from_user_id="BR.1"))
    assert stories(inbound) == {f"+{ANA}": [("open", "número nome de usuário ambos")]}
    assert inbound.rows("select from_user_id, into_user_id from pipeline.user_merges") == [
        (gone, kept)
    ]
    assert inbound.rows(
        "select kept_id, removed_id, expires_at from pipeline.undo_records where kind = 'users'"
    ) == [(kept, gone, AS_OF + timedelta(days=30))]


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_a_bsuid_that_follows_another_is_the_same_client(
    inbound: Inbound, order: tuple[int, ...]
) -> None:
    lines = [
        said("antes", SINCE, None, from_user_id="BR.1"),
        line(user_id_update(SINCE + 1, "BR.1", "BR.2")),
        said("depois", SINCE + 2, None, from_user_id="BR.2"),
    ]
    for number in order:
        inbound.send(lines[number])
    assert stories(inbound) == {"~b": [("open", "antes depois")]}


def test_a_late_number_change_moves_everything_to_the_client_of_before(
    inbound: Inbound, database: TestDatabase
) -> None:
    inbound.send(said("do velho", SINCE, ANA), said("do novo", SINCE + 10, BRUNO))
    before = ids_of_users(inbound)
    ana, bruno = before[f"+{ANA}"], before[f"+{BRUNO}"]
    conversations = dict(inbound.rows("select user_id, id from conversations"))  # type: ignore[arg-type]
    with database.connect("owner") as owner, owner.begin():
        for user in (ana, bruno):
            talk = conversations[user]
            insert(owner, "tickets", user_id=user, conversation_id=talk, protocol=f"P-{talk}"[:20])
            insert(owner, "leads", user_id=user)
            insert(owner, "appointments", user_id=user)
            service = insert(owner, "services", user_id=user)
            insert(owner, "certificates", user_id=user, service_id=service)
        # The chatbot knows more of the old number, so that one stays.
        insert(owner, "appointments", user_id=ana)
    inbound.send(moved(SINCE + 5))
    assert stories(inbound) == {f"+{BRUNO}": [("open", "do velho do novo")]}
    assert ids_of_users(inbound) == {f"+{BRUNO}": ana}
    for table, count in {
        "tickets": 2,
        "leads": 2,
        "appointments": 3,
        "services": 2,
        "certificates": 2,
    }.items():
        query = f"select user_id, count(*) from {table} group by user_id"  # noqa: S608 - names of ours
        assert inbound.rows(query) == [(ana, count)]
    (conversation,) = inbound.rows("select id, total_messages from conversations")
    assert conversation == (conversations[ana], 2)
    assert inbound.rows("select distinct conversation_id from tickets") == [(conversation[0],)]
    assert inbound.rows("select from_user_id, into_user_id from pipeline.user_merges") == [
        (bruno, ana)
    ]
    assert inbound.rows(
        "select kept_id, removed_id, expires_at from pipeline.undo_records where kind = 'users'"
    ) == [(ana, bruno, AS_OF + timedelta(days=30))]


def recycled() -> dict[str, bytes]:
    return {
        "before": said("titular", SINCE, ANA),
        "change": moved(SINCE + 5),
        "after": said("outra pessoa", SINCE + 10, ANA),
        "new": said("titular de novo", SINCE + 10, BRUNO),
        "former": said("dono anterior", SINCE + 1, BRUNO),
    }


@pytest.mark.parametrize(
    "order",
    [
        ("before", "former", "change", "after", "new"),
        ("before", "former", "after", "new", "change"),
        ("change", "new", "after", "former", "before"),
        ("after", "new", "change", "before", "former"),
    ],
)
def test_a_number_that_was_given_up_belongs_to_somebody_else_then(
    inbound: Inbound, order: tuple[str, ...]
) -> None:
    lines = recycled()
    for name in order:
        inbound.send(lines[name])
    assert stories(inbound) == {
        f"+{BRUNO}": [("open", "titular titular de novo")],
        f"+{ANA}": [("open", "outra pessoa")],
        "~b": [("open", "dono anterior")],
    }


@pytest.mark.parametrize("is_backwards", [False, True])
def test_a_number_that_goes_and_comes_back_is_the_same_client(
    inbound: Inbound, is_backwards: bool
) -> None:
    lines = [
        said("um", SINCE, ANA),
        moved(SINCE + 5, ANA, BRUNO),
        said("dois", SINCE + 10, BRUNO),
        said("estranho", SINCE + 11, ANA),
        moved(SINCE + 15, BRUNO, ANA),
        said("três", SINCE + 20, ANA),
    ]
    for item in reversed(lines) if is_backwards else lines:
        inbound.send(item)
    assert stories(inbound) == {
        f"+{ANA}": [("open", "um dois três")],
        "~b": [("open", "estranho")],
    }


WITH_NINE, WITHOUT_NINE = "5531990000001", "553190000001"


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_a_client_stays_with_its_messages_though_changes_from_before_them_go_to_another(
    inbound: Inbound, order: tuple[int, ...]
) -> None:
    lines = [
        moved(SINCE, WITH_NINE, WITHOUT_NINE),  # the same number, of whoever has it then
        moved(SINCE + 2, WITH_NINE, BRUNO),
        said("oi", SINCE + 3, WITH_NINE),
    ]
    for number in order:
        inbound.send(lines[number])
    # Whoever left the number never wrote, so there is no such client, and both changes wait.
    assert stories(inbound) == {f"+{WITH_NINE}": [("open", "oi")]}
    assert inbound.rows("select distinct is_settled from pipeline.identity_changes") == [(False,)]
    assert inbound.rows(
        "select kind, value, valid_from, valid_to from pipeline.user_identities order by kind"
    ) == [
        ("phone_key", WITH_NINE, at(SINCE + 3), None),
        ("wa_id", WITH_NINE, at(SINCE + 3), None),
    ]
    inbound.send(said("mudei", SINCE + 5, BRUNO))
    assert stories(inbound) == {
        f"+{WITH_NINE}": [("open", "oi")],
        f"+{BRUNO}": [("open", "mudei")],
    }


@pytest.mark.parametrize("parts", [[[0], [1], [2, 3]], [[0, 1, 2, 3]], [[3], [2], [1], [0]]])
def test_each_clients_first_contact_is_its_own_after_a_late_number_change(
    inbound: Inbound, parts: list[list[int]]
) -> None:
    lines = [
        said("oi", SINCE + 3, WITH_NINE),
        moved(SINCE, WITH_NINE, WITHOUT_NINE),
        moved(SINCE + 2, WITH_NINE, BRUNO),
        said("mudei", SINCE + 5, BRUNO),
    ]
    for part in parts:
        inbound.send(*(lines[number] for number in part))
    assert inbound.rows("select phone, created_at from users order by created_at") == [
        (f"+{WITH_NINE}", at(SINCE + 3)),
        (f"+{BRUNO}", at(SINCE + 5)),
    ]


def test_the_instant_of_a_number_change_is_of_the_time_before(inbound: Inbound) -> None:
    inbound.send(said("a", SINCE, ANA), said("b", SINCE, BRUNO), moved(SINCE))
    inbound.send(said("c", SINCE + 1, BRUNO))
    assert stories(inbound) == {f"+{BRUNO}": [("open", "a c")], "~b": [("open", "b")]}


# --- Conversations --------------------------------------------------------------------------------


def test_a_late_message_between_two_conversations_joins_them(
    inbound: Inbound, database: TestDatabase
) -> None:
    first, last = NOW - 2 * IDLE + 2, NOW - HOUR
    inbound.send(said("primeira", first), said("última", last))
    rows = inbound.rows("select id, user_id from conversations order by started_at")
    (kept, user), (gone, _) = rows
    with database.connect("owner") as owner, owner.begin():
        insert(owner, "tickets", user_id=user, conversation_id=gone, created_at=at(last))
    inbound.send(said("meio", NOW - IDLE))
    assert stories(inbound) == {f"+{ANA}": [("open", "primeira meio última")]}
    assert inbound.rows("select id, started_at, closed_at, total_messages from conversations") == [
        (kept, at(first), None, 3)
    ]
    assert inbound.rows("select conversation_id from tickets") == [(kept,)]
    assert inbound.rows(
        "select conversation_id, jsonb_array_length(messages_json) from session_context"
    ) == [(kept, 3)]
    assert inbound.rows(
        "select kind, kept_id, removed_id, expires_at from pipeline.undo_records"
    ) == [("conversations", kept, gone, AS_OF + timedelta(days=30))]


def test_a_late_close_divides_a_conversation_and_the_first_part_keeps_the_row(
    inbound: Inbound, database: TestDatabase
) -> None:
    inbound.send(said("um", SINCE), said("dois", SINCE + 10), said("três", SINCE + 20))
    kept, user = inbound.one("select id, user_id from conversations")
    with database.connect("owner") as owner, owner.begin():
        for number, created_at in enumerate([at(SINCE + 5), at(SINCE + 25)]):
            insert(
                owner,
                "tickets",
                user_id=user,
                conversation_id=kept,
                protocol=f"P-{number}",
                created_at=created_at,
            )
    inbound.send(chatbot_conversation("e1", at(SINCE + 15), "closed", **OF_ANA))
    assert stories(inbound) == {f"+{ANA}": [("closed", "um dois"), ("open", "três")]}
    (first, second) = inbound.rows(
        "select id, closed_at, total_messages from conversations order by started_at"
    )
    assert first == (kept, at(SINCE + 10), 2)
    assert second[1:] == (None, 1)
    assert inbound.rows("select protocol, conversation_id from tickets order by protocol") == [
        ("P-0", kept),
        ("P-1", second[0]),
    ]
    assert inbound.rows("select conversation_id from session_context") == [(second[0],)]
    assert inbound.rows("select count(*) from messages where is_in_context") == [(1,)]


@pytest.mark.parametrize(
    ("closed_at", "expected"),
    [
        (SINCE - 1, [("open", "um dois")]),
        (SINCE, [("closed", "um"), ("open", "dois")]),
        (SINCE + 5, [("closed", "um"), ("open", "dois")]),
        (SINCE + 10, [("closed", "um dois")]),
        (SINCE + 11, [("closed", "um dois")]),
    ],
)
@pytest.mark.parametrize("is_close_first", [False, True])
def test_a_close_ends_what_was_said_until_then(
    inbound: Inbound, closed_at: int, expected: list[tuple[str, str]], is_close_first: bool
) -> None:
    talk = [said("um", SINCE), said("dois", SINCE + 10)]
    close = chatbot_conversation(
        "e1", at(NOW), "closed", closed_at=rfc3339(at(closed_at)), **OF_ANA
    )
    for item in [close, *talk] if is_close_first else [*talk, close]:
        inbound.send(item)
    assert stories(inbound) == {f"+{ANA}": expected}
    # How long people wrote to each other does not depend on when somebody pressed a button.
    ends = {"um": at(SINCE), "um dois": at(SINCE + 10)}
    assert inbound.rows(
        "select closed_at from conversations where status = 'closed' order by closed_at"
    ) == [(ends[texts],) for state, texts in expected if state == "closed"]


@pytest.mark.parametrize("is_later_first", [False, True])
def test_a_press_told_twice_counts_from_the_earlier_instant_as_its_message_does(
    inbound: Inbound, is_later_first: bool
) -> None:
    button = {"type": "button", "button": {"text": "Sim", "payload": "yes"}}
    told = [text_message("w1", SINCE + second, **button) for second in (0, 10)]
    for message in told[::-1] if is_later_first else told:
        inbound.say(message)
    assert inbound.rows(
        "select m.created_at, b.pressed_at from messages as m "
        "inner join pipeline.button_replies as b on m.id = b.message_id"
    ) == [(at(SINCE), at(SINCE))]


def test_the_newest_event_says_how_the_last_conversation_stands(inbound: Inbound) -> None:
    def send(event_id: str, when: int, name: str, **more: str) -> list[tuple[Any, ...]]:
        inbound.send(chatbot_conversation(event_id, at(when), name, **OF_ANA, **more))
        return inbound.rows("select status::text, transferred_to from conversations")

    assert send("e0", SINCE - 1, "waiting") == []
    inbound.send(said("um", SINCE))
    assert inbound.rows("select status::text from conversations") == [("open",)]
    assert send("e2", SINCE + 20, "transferred", transferred_to="Pessoa Exemplo") == [
        ("transferred", "Pessoa Exemplo")
    ]
    assert send("e1", SINCE + 10, "waiting") == [("transferred", "Pessoa Exemplo")]
    assert send("e3", SINCE + 30, "waiting") == [("waiting", "Pessoa Exemplo")]
    assert send("e4", SINCE + 40, "open") == [("open", "Pessoa Exemplo")]
    assert send("e5", SINCE + 50, "closed") == [("closed", "Pessoa Exemplo")]
    assert inbound.rows("select closed_at from conversations") == [(at(SINCE),)]


def test_who_waits_is_not_closed_by_the_clock(inbound: Inbound) -> None:
    long_ago = NOW - 5 * IDLE
    inbound.send(said("um", long_ago), said("outro", long_ago, BRUNO))
    inbound.send(chatbot_conversation("e1", at(long_ago), "waiting", **OF_ANA))
    inbound.send(chatbot_conversation("e2", at(long_ago), "open", **OF_BRUNO))
    assert stories(inbound) == {
        f"+{ANA}": [("waiting", "um")],
        f"+{BRUNO}": [("closed", "outro")],
    }


def test_mode_and_flow_are_the_newest_that_the_chatbot_told_and_an_echo_is_a_person(
    inbound: Inbound,
) -> None:
    def state() -> tuple[Any, ...]:
        return inbound.one("select mode::text, current_flow from conversations")

    inbound.send(said("um", SINCE))
    assert state() == ("menu", None)
    told = {"mode": "flow", "current_flow": "ticket_flow", **OF_ANA}
    inbound.send(chatbot_message(at(SINCE + 10), wamid="wamid.dois", **told))
    assert state() == ("flow", "ticket_flow")
    inbound.send(
        chatbot_message(at(SINCE + 5), wamid="wamid.antes", mode="ai_free", **OF_ANA),
        chatbot_message(at(SINCE + 15), wamid="wamid.sem", **OF_ANA),
    )
    assert state() == ("flow", "ticket_flow")
    inbound.send(line(echo_change(echo("wamid.eco", SINCE + 20, to=ANA, body="sou eu"))))
    assert state() == ("human", None)
    assert inbound.rows(
        "select m.role::text, f.author from messages as m "
        "inner join pipeline.message_facts as f on m.id = f.message_id where m.content = 'sou eu'"
    ) == [("assistant", "human")]


# --- Messages -------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_the_last_edit_counts_in_every_order_also_that_of_an_edit(
    inbound: Inbound, order: tuple[int, ...]
) -> None:
    lines = [
        said("original", SINCE),
        line(change(edit("wamid.e1", SINCE + 1, "wamid.original", "uma vez"))),
        line(change(edit("wamid.e2", SINCE + 2, "wamid.e1", "duas vezes"))),
    ]
    for number in order:
        inbound.send(lines[number])
    assert stories(inbound) == {f"+{ANA}": [("open", "duas vezes")]}
    (context,) = inbound.one("select messages_json -> 0 ->> 'content' from session_context")
    assert context == "duas vezes"


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_a_revoke_beats_every_edit_in_every_order(inbound: Inbound, order: tuple[int, ...]) -> None:
    lines = [
        said("original", SINCE),
        line(change(revoke("wamid.r1", SINCE + 1, "wamid.original"))),
        line(change(edit("wamid.e1", SINCE + 2, "wamid.original", "editado"))),
    ]
    for number in order:
        inbound.send(lines[number])
    assert inbound.rows("select content from messages") == [("",)]
    assert inbound.rows("select content from pipeline.message_changes where content <> ''") == []


@pytest.mark.parametrize("is_status_first", [False, True])
def test_a_status_waits_for_its_message(inbound: Inbound, is_status_first: bool) -> None:
    lines = [
        chatbot_message(at(SINCE), wamid="wamid.nosso", **OF_ANA),
        line(change(statuses=[status("wamid.nosso", "delivered", SINCE + 5)])),
    ]
    for item in reversed(lines) if is_status_first else lines:
        inbound.send(item)
    assert inbound.rows(
        "select d.status, d.status_at from pipeline.message_delivery as d "
        "inner join messages as m on d.message_id = m.id"
    ) == [("delivered", at(SINCE + 5))]


@pytest.mark.parametrize("is_chatbot_first", [False, True])
def test_the_providers_clock_and_words_count_and_the_chatbot_adds_what_it_knows(
    inbound: Inbound, is_chatbot_first: bool
) -> None:
    heard = chatbot_message(
        at(SINCE - 40),
        content="Ouvido de outro modo",
        wamid="wamid.dito",
        role="assistant",
        tokens_used=7,
        intent_detected="suporte",
        model="modelo-1",
        **OF_ANA,
    )
    lines = [said("dito", SINCE), heard]
    for item in reversed(lines) if is_chatbot_first else lines:
        inbound.send(item)
    assert inbound.rows(
        "select m.created_at, m.role::text, m.content, m.tokens_used, m.intent_detected, "
        "f.author, f.model from messages as m "
        "inner join pipeline.message_facts as f on m.id = f.message_id"
    ) == [(at(SINCE), "user", "dito", 7, "suporte", "client", "modelo-1")]
    assert inbound.rows("select started_at, total_messages from conversations") == [(at(SINCE), 1)]


def test_what_never_went_to_whatsapp_is_known_by_the_chatbots_own_id(inbound: Inbound) -> None:
    note = chatbot_message(
        at(SINCE + 1), content="anotado", external_id="nota-1", role="system", **OF_ANA
    )
    inbound.send(note)
    assert inbound.send(note).duplicate == 1
    inbound.send(said("oi", SINCE))
    assert stories(inbound) == {f"+{ANA}": [("open", "oi anotado")]}
    assert inbound.rows("select author from pipeline.message_facts order by author") == [
        ("bot",),
        ("client",),
    ]


@pytest.mark.parametrize("order", list(permutations(range(2))))
def test_of_two_events_of_one_instant_the_least_counts(
    inbound: Inbound, order: tuple[int, ...]
) -> None:
    lines = [
        chatbot_message(at(SINCE), content=content, wamid="wamid.x", tokens_used=tokens, **OF_ANA)
        for content, tokens in (("b", 9), ("a", 10))
    ]
    for number in order:
        inbound.send(lines[number])
    assert inbound.rows("select content, tokens_used from messages") == [("a", 9)]


def test_within_a_second_the_client_comes_before_the_answer(inbound: Inbound) -> None:
    inbound.send(
        chatbot_message(at(SINCE), content="resposta", wamid="wamid.0", **OF_ANA),
        said("pergunta", SINCE),
        said("outra", SINCE + 1),
    )
    assert inbound.rows(
        "select e ->> 'content' from session_context as s, "
        "jsonb_array_elements(s.messages_json) with ordinality as j (e, n) order by n"
    ) == [("pergunta",), ("resposta",), ("outra",)]


def test_reactions_stand_until_they_are_taken_back(inbound: Inbound) -> None:
    def react(number: int, when: int, emoji: str | None) -> list[tuple[Any, ...]]:
        inbound.send(line(change(reaction(f"wamid.r{number}", when, "wamid.oi", emoji))))
        return inbound.rows("select emoji from pipeline.message_reactions")

    assert react(1, SINCE + 1, "👍") == [("👍",)]
    inbound.send(said("oi", SINCE))
    assert react(2, SINCE + 3, None) == [(None,)]
    assert react(3, SINCE + 2, "🎉") == [(None,)]
    assert inbound.rows("select count(*) from messages") == [(1,)]


def test_the_last_word_about_our_messages_counts(inbound: Inbound) -> None:
    def choices() -> list[tuple[Any, ...]]:
        return inbound.rows(
            "select u.phone, o.category, o.is_opted_out from pipeline.current_opt_outs as o "
            "inner join users as u on o.user_id = u.id order by u.phone, o.category"
        )

    inbound.send(line(user_preference(SINCE, "stop", wa_id=BRUNO)))
    assert stories(inbound) == {f"+{BRUNO}": []}
    inbound.send(said(" Sair. ", SINCE), said("quero sair daqui", SINCE, CARLA))
    inbound.send(line(user_preference(SINCE + 2, "stop", wa_id=ANA)))
    inbound.send(line(user_preference(SINCE + 1, "resume", wa_id=ANA)))
    inbound.send(line(user_preference(SINCE + 1, "resume", wa_id=BRUNO)))
    assert choices() == [
        (f"+{ANA}", "all", True),
        (f"+{ANA}", "marketing_messages", True),
        (f"+{BRUNO}", "marketing_messages", False),
    ]


def test_groups_and_what_is_past_retention_create_nothing(inbound: Inbound) -> None:
    old = NOW - 90 * DAY
    report = inbound.send(
        said("grupo", SINCE, ANA, group_id="g1"),
        said("velho", old - 1),
        chatbot_conversation("e1", at(old - 1), "closed", **OF_ANA),
        moved(old - 1),
        said("no limite", old),
    )
    assert report.skipped == {"group": 1, "past_retention": 3}
    assert stories(inbound) == {f"+{ANA}": [("closed", "no limite")]}
    assert inbound.rows("select * from pipeline.identity_changes") == []


def test_a_name_is_the_last_of_the_profile(inbound: Inbound) -> None:
    for number, name in ((2, "Nome Novo"), (1, "Nome Velho")):
        message = text_message(f"wamid.{number}", SINCE + number)
        inbound.send(texts(message, contacts=[contact(ANA, name)]))
    assert inbound.rows("select name from users") == [("Nome Novo",)]


def test_ten_thousand_messages_of_one_client_in_one_file(inbound: Inbound) -> None:
    messages = [said(f"texto {n}", NOW - 20_000 + 2 * n) for n in range(10_000)]
    report = inbound.send(*messages)
    assert (report.received, report.inserted) == (10_000, 10_000)
    assert inbound.rows("select status::text, total_messages from conversations") == [
        ("open", 10_000)
    ]
    assert inbound.rows("select count(*) from messages where is_in_context") == [(20,)]
    assert inbound.send(*messages, said("mais uma", NOW)).duplicate == 10_000
    assert inbound.rows("select total_messages from conversations") == [(10_001,)]
