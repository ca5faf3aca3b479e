"""The reference model and the streams of the property of arrival, checked by themselves."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gatte_pipelines.inbound import units
from gatte_pipelines.inbound.chatbot_events import is_chatbot_event, iter_events
from gatte_pipelines.inbound.envelope import WHATSAPP_OBJECT, iter_units
from gatte_pipelines.inbound.units import Horizon
from tests.inbound import HOUR, NOW
from tests.inbound_model import (
    Changed,
    Chose,
    Client,
    Moved,
    Reacted,
    Record,
    Said,
    Stood,
    Told,
    Who,
    World,
    world,
)
from tests.inbound_streams import SECOND, Stream, Unit, sorted_once, streams, unit_lists

IDLE = 24 * HOUR * SECOND
T = (NOW - 40 * HOUR) * SECOND
ANA, BRUNO, CAIO = "5511960000000", "5511960000001", "5511960000002"


def meaning(*records: Record, idle: int = IDLE) -> World:
    return world(records, as_of=NOW * SECOND, idle=idle, id_of=str)


def said(key: str, at: int, phone: str = ANA, **changes: object) -> Said:
    """A message of a client, ``at`` microseconds after T."""
    message = Said(f"wamid:{key}", T + at, Who(phone=phone), "user", key, "client")
    return replace(message, **changes)  # type: ignore[arg-type]


def moved(at: int, old: str, new: str) -> Moved:
    return Moved(f"n{at}", T + at, Who(phone=old), Who(phone=new), moves_number=True)


def clients(*records: Record) -> set[str]:
    """The keys of each client's messages, one word a client."""
    return {
        "".join(sorted(key[-1] for c in client.conversations for key in c.messages))
        for client in meaning(*records).clients
    }


def only_client(*records: Record) -> Client:
    (client,) = meaning(*records).clients
    return client


def test_both_forms_of_a_mobile_are_one_client_and_a_landline_is_none_of_them() -> None:
    records = [said("a", 0, "553196000000"), said("b", 1, "5531996000000")]
    assert clients(*records) == {"ab"}
    assert clients(said("a", 0, "551133334444"), said("b", 1, "5511933334444")) == {"a", "b"}


def test_a_number_change_cuts_both_numbers_and_its_instant_is_before_it() -> None:
    records = [
        said("a", 9, ANA),
        said("b", 10, ANA),
        said("c", 11, ANA),
        said("d", 10, BRUNO),
        said("e", 11, BRUNO),
        moved(10, ANA, BRUNO),
    ]
    assert clients(*records) == {"abe", "c", "d"}


def test_a_number_that_comes_back_is_the_same_client_again() -> None:
    records = [
        said("a", 5, ANA),
        said("b", 15, BRUNO),
        said("c", 25, ANA),
        said("d", 15, ANA),
        moved(10, ANA, BRUNO),
        moved(20, BRUNO, ANA),
    ]
    assert clients(*records) == {"abc", "d"}


def test_two_numbers_that_are_swapped_at_one_instant_swap_their_clients() -> None:
    records = [
        said("a", 5, ANA),
        said("b", 5, BRUNO),
        said("c", 15, ANA),
        said("d", 15, BRUNO),
        replace(moved(10, ANA, BRUNO), key="x"),
        replace(moved(10, BRUNO, ANA), key="y"),
    ]
    assert clients(*records) == {"ad", "bc"}


def test_a_bsuid_joins_what_numbers_leave_apart() -> None:
    known = said("a", 0, who=Who(phone=ANA, bsuid="BR.1"))
    other = said("b", 1, who=Who(phone=BRUNO, bsuid="BR.1"))
    assert clients(known, other) == {"ab"}
    assert clients(known, other, moved(0, CAIO, ANA), said("c", 1, CAIO)) == {"ab", "c"}


def test_the_phone_is_the_last_form_of_a_number_that_is_still_the_clients() -> None:
    records = [said("a", 0, "551160000000"), said("b", 1, "5511960000000")]
    assert only_client(*records).phone == "+5511960000000"
    assert only_client(said("a", 0), moved(1, ANA, BRUNO)).phone == f"+{BRUNO}"
    assert {c.phone for c in meaning(said("a", 0, BRUNO), moved(1, ANA, BRUNO)).clients} == {"~b"}
    assert only_client(said("a", 0, who=Who(bsuid="BR.1"))).phone == "~b"


@pytest.mark.parametrize(
    ("gap", "closes", "expected"),
    [
        (IDLE, [], [2]),
        (IDLE + 1, [], [1, 1]),
        (10, [0], [1, 1]),
        (10, [9], [1, 1]),
        (10, [10], [2]),
        (10, [-1], [2]),
        (0, [0], [2]),
    ],
)
def test_silence_and_closes_divide_conversations(
    gap: int, closes: list[int], expected: list[int]
) -> None:
    events = [Stood(f"e{at}", T + at, Who(phone=ANA), "closed") for at in closes]
    client = only_client(said("a", 0), said("b", gap), *events)
    assert [len(c.messages) for c in client.conversations] == expected


def test_the_last_conversation_stands_as_its_newest_event_says() -> None:
    def status(*events: tuple[int, str]) -> tuple[str, int | None]:
        stood = [Stood(f"e{at}", T + at, Who(phone=ANA), name) for at, name in events]
        (conversation,) = only_client(said("a", 0), *stood).conversations
        closed_at = conversation.closed_at
        return conversation.status, None if closed_at is None else closed_at - T

    assert status() == ("closed", 0)  # by the clock
    assert status((-1, "waiting")) == ("closed", 0)
    assert status((0, "waiting")) == ("waiting", None)
    assert status((0, "waiting"), (1, "open")) == ("closed", 0)
    assert status((0, "waiting"), (1, "closed")) == ("closed", 0)
    assert status((1, "closed"), (2, "waiting")) == ("waiting", None)


def test_the_provider_is_believed_and_the_chatbot_adds() -> None:
    told = Told(mode="flow", current_flow="ticket_flow", author="bot", tokens_used=7)
    heard = said("a", -5, role="assistant", content="outro", author="bot", told=told)
    found = meaning(said("a", 0), heard)
    (message,) = found.messages.values()
    assert (message.created_at, message.role, message.content) == (T, "user", "a")
    assert (message.author, message.told.tokens_used) == ("client", 7)
    (client,) = found.clients
    assert [(c.mode, c.current_flow) for c in client.conversations] == [("flow", "ticket_flow")]


def test_the_last_edit_counts_also_of_an_edit_and_a_revoke_beats_all() -> None:
    first = Changed("wamid:e", T + 5, "wamid:a", "um")
    second = Changed("wamid:f", T + 6, "wamid:e", "dois")
    gone = Changed("wamid:g", T, "wamid:a", None)
    assert meaning(said("a", 0), first, second).messages["wamid:a"].content == "dois"
    assert meaning(said("a", 0), first, second, gone).messages["wamid:a"].content == ""
    assert meaning(said("a", 0), replace(second, target="wamid:f")).messages["wamid:a"].content
    assert meaning(first).clients == frozenset()


def test_the_last_choice_and_the_last_reaction_count() -> None:
    stop = Chose("s", T + 2, Who(phone=ANA), "marketing_messages", is_opted_out=True)
    resume = replace(stop, key="r", at=T + 1, is_opted_out=False)
    assert only_client(stop, resume).choices == {("marketing_messages", True)}
    likes = Reacted("wamid:r", T, "wamid:a", "👍")
    taken_back = Reacted("wamid:s", T + 1, "wamid:a", None)
    assert meaning(likes).reactions == {"wamid:a": "👍"}
    assert meaning(taken_back, likes).reactions == {"wamid:a": None}


def test_older_than_retention_creates_nothing() -> None:
    limit = NOW * SECOND - T - 90 * 24 * HOUR * SECOND
    assert len(meaning(said("a", limit)).messages) == 1
    assert meaning(said("a", limit - 1), moved(limit - 1, ANA, BRUNO)).messages == {}


@given(sent=unit_lists(24), data=st.data())
def test_the_order_of_records_and_repetitions_mean_nothing(
    sent: list[Unit], data: st.DataObject
) -> None:
    records = [record for unit in sent for record in unit.records]
    again = data.draw(st.permutations(records + records[:3]))
    assert meaning(*again) == meaning(*records)


@given(sent=unit_lists(2))
def test_every_message_stands_in_one_conversation_and_one_is_open_a_client(
    sent: list[Unit],
) -> None:
    found = meaning(*(record for unit in sent for record in unit.records))
    placed = Counter(
        key for client in found.clients for c in client.conversations for key in c.messages
    )
    assert set(placed.values()) <= {1}
    assert placed.keys() == found.messages.keys()
    for client in found.clients:
        assert all(c.status == "closed" for c in client.conversations[:-1])
        phones = [other.phone for other in found.clients if other.phone != "~b"]
        assert len(phones) == len(set(phones))


def test_streams_reach_what_they_are_for() -> None:
    seen: Counter[str] = Counter()
    total = 400

    @settings(max_examples=total, database=None)
    @given(stream=streams())
    def collect(stream: Stream) -> None:
        found = meaning(*stream.records, idle=stream.idle_hours * HOUR * SECOND)
        seen.update({name for name, holds in _reached(stream, found).items() if holds})

    collect()
    wanted = _reached(Stream([], sorted_once([]), 24), meaning())
    assert {name: seen[name] for name in wanted if seen[name] < total // 25} == {}


def _reached(stream: Stream, found: World) -> dict[str, bool]:
    records = stream.records
    said_of = Counter(record.key for record in records if isinstance(record, Said))
    witnesses = {
        (record.key, record.told is None) for record in records if isinstance(record, Said)
    }
    conversations = [c for client in found.clients for c in client.conversations]
    kinds = {type(record) for record in records}
    changed = [record for record in records if isinstance(record, Changed)]
    changed_keys = {record.key for record in changed}
    stood = [record for record in records if isinstance(record, Stood)]
    moves = [r for r in records if isinstance(r, Moved) and r.moves_number]
    return {
        "two clients": len(found.clients) > 1,
        "two conversations of one client": any(len(c.conversations) > 1 for c in found.clients),
        "a client without messages": any(not c.conversations for c in found.clients),
        "waiting or transferred": any(
            c.status in {"waiting", "transferred"} for c in conversations
        ),
        "an open conversation": any(c.status == "open" for c in conversations),
        "a mode": any(c.mode != "menu" for c in conversations),
        "a placeholder": any(c.phone == "~b" for c in found.clients),
        "two witnesses": any(
            (key, True) in witnesses and (key, False) in witnesses for key, _ in witnesses
        ),
        "a contradiction": any(count > 1 for count in said_of.values()),
        "an edit that counts": any(
            m.content.startswith(("ed", "Ed")) for m in found.messages.values()
        ),
        "a revoke that counts": any(m.content == "" for m in found.messages.values()),
        "a change of a change": any(record.target in changed_keys for record in changed),
        "a close at the instant of a message": any(
            event.status == "closed"
            and any(m.created_at == event.at for m in found.messages.values())
            for event in stood
        ),
        "two number changes": len(moves) > 1,
        "a number change that matters": any(
            len({type(r) for r in records if r.at > move.at} & {Said}) > 0 for move in moves
        ),
        "a choice": Chose in kinds,
        "a reaction": Reacted in kinds,
        "opted out by a word": any(("all", True) in c.choices for c in found.clients),
        "past retention": any(r.at < (NOW - 90 * 24 * HOUR) * SECOND for r in records),
    }


def _decoded(unit: Unit) -> list[object]:
    horizon = Horizon((NOW + 600) * SECOND, (NOW - 90 * 24 * HOUR) * SECOND)
    if unit.is_line:
        line = unit.text.encode()
        read = iter_events if is_chatbot_event(line) else iter_units
        return list(read(line, horizon))
    notification = f'{{"object":"{WHATSAPP_OBJECT}","entry":[{{"changes":[{unit.text}]}}]}}'
    return list(iter_units(notification.encode(), horizon))


def _as_decoded(record: Record) -> object:
    """What the decoder should make of the bytes of this record's unit."""
    if record.at < (NOW - 90 * 24 * HOUR) * SECOND:
        return units.Skipped("past_retention")
    if isinstance(record, Said):
        return units.Message(
            record.key,
            units.Source.PROVIDER if record.told is None else units.Source.CHATBOT,
            record.at,
            _sender(record.who),
            record.role,
            record.content,
            record.author,
            None if record.told is None else units.Told(**vars(record.told)),
            None,
            record.choice_key is not None,
        )
    if isinstance(record, Changed):
        wamids = (key.removeprefix("wamid:") for key in (record.key, record.target))
        return units.MessageChange(*wamids, record.at, record.content)
    if isinstance(record, Reacted):
        wamids = (key.removeprefix("wamid:") for key in (record.key, record.target))
        return units.Reaction(*wamids, record.at, record.emoji)
    if isinstance(record, Moved):
        key = record.key.removeprefix("identity:")
        sides = _sender(record.old), _sender(record.new)
        return units.IdentityChange(key, record.at, *sides, record.moves_number)
    if isinstance(record, Chose):
        return units.OptOut(
            record.key, record.at, _sender(record.who), record.category, record.is_opted_out
        )
    return units.ConversationEvent(
        record.key, record.at, _sender(record.who), record.status, record.transferred_to
    )


def _sender(who: Who) -> units.Sender:
    phone = {"wa_id" if who.is_wa_id else "phone": who.phone}
    return units.Sender(**phone, bsuid=who.bsuid, parent_bsuid=who.parent_bsuid, name=who.name)


@given(sent=unit_lists(24))
def test_the_decoder_reads_of_each_unit_what_the_stream_says_it_means(sent: list[Unit]) -> None:
    for unit in sent:
        (decoded,) = _decoded(unit)
        if unit.records:
            assert [decoded] == [_as_decoded(record) for record in unit.records]
        else:
            assert isinstance(decoded, (units.StatusEvent, units.Skipped, units.Rejected))
