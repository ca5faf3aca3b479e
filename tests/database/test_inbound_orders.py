"""Any order, duplication and split into files and chunks gives the same canonical dump."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, text

from gatte_pipelines.inbound.ids import MessageIds
from gatte_pipelines.inbound.load import Loader
from gatte_pipelines.landing import LandingZone
from gatte_pipelines.run_report import RunReport
from tests.database.canonical import assert_same_dump, canonical_dump, empty_tables
from tests.postgres import ID_KEY, TestDatabase

AS_OF = datetime(2026, 3, 2, 15, tzinfo=UTC)
NOW = int(AS_OF.timestamp())
HOUR = 3600
CONTEXT_MESSAGES = 3
EVERYTHING_AT_ONCE = 100_000

# What a client is known by, message by message: each entry is (phone?, BSUID?). A phone and a
# BSUID that were both seen alone before one message joins them need the merge of two users.
KNOWN_BY = {
    "phone": [(True, False)],
    "both": [(True, True)],
    "bsuid": [(False, True)],
    "bsuid, later also phone": [(False, True), (True, True)],
    "phone, later also bsuid": [(True, False), (True, True)],
}


@dataclass(frozen=True)
class Sent:
    """One unit of traffic: what makes it the same unit is its bytes alone."""

    at: int
    change: str

    @classmethod
    def of(cls, at: int, **value: Any) -> Sent:
        metadata = {"display_phone_number": "5511900000000", "phone_number_id": "1"}
        change = {"field": "messages", "value": {"metadata": metadata, **value}}
        return cls(at, json.dumps(change))


@dataclass(frozen=True)
class Delivery:
    """How a stream arrives: files of bodies of numbers of units, and the size of a chunk."""

    files: list[list[list[int]]]
    chunk_units: int
    ends_with_newline: bool
    is_compressed: bool


@dataclass(frozen=True)
class Stream:
    """What was sent, how it arrives, and the silence that ends a conversation."""

    units: list[Sent]
    times_of_clients: list[list[int]]
    delivery: Delivery
    idle_hours: int


def wamid(client: int, number: int) -> str:
    return f"wamid.cliente-{client}-mensagem-{number}"


def wa_id(client: int, form: int) -> str:
    """A mobile in its two forms for an even client, a landline in its only one for an odd."""
    if client % 2:
        return f"55113000000{client}"
    return ("55119" if form else "5511") + f"6000000{client}"


@st.composite
def client_messages(draw: st.DrawFn, client: int, idle: int) -> list[Sent]:
    """Messages of one client, from the newest back."""
    known_by = KNOWN_BY[draw(st.sampled_from(sorted(KNOWN_BY)))]
    last_gap = st.sampled_from([-300, 0, 1, 4 * HOUR - 1, 4 * HOUR, idle, idle + 1, 30 * idle])
    gap = st.sampled_from([0, 0, 1, 600, idle // 2, idle - 1, idle, idle + 1, 3 * idle])
    at = NOW - draw(last_gap)
    sent = []
    for number in range(draw(st.integers(1, 7))):
        has_phone, has_bsuid = draw(st.sampled_from(known_by))
        phone = {"from": wa_id(client, draw(st.integers(0, 1)))} if has_phone else {}
        bsuid = {"from_user_id": f"BR.{client}"} if has_bsuid else {}
        contact: dict[str, Any] = {}
        if name := draw(st.sampled_from([None, "Cliente Exemplo", "Loja Exemplo", " "])):
            contact["profile"] = {"name": name}
        if phone:
            contact["wa_id"] = phone["from"]
        if bsuid:
            contact["user_id"] = bsuid["from_user_id"]
            if phone and draw(st.booleans()):
                bsuid = {}  # the contact alone tells it
        message = {"id": wamid(client, number), "timestamp": str(at)} | phone | bsuid
        message |= {"type": "text", "text": {"body": f"texto {number} \\ \t\n✨"}}
        sent.append(Sent.of(at, contacts=[contact], messages=[message]))
        at -= draw(gap)
    return sent


@st.composite
def statuses(draw: st.DrawFn) -> Sent:
    """A status of one message; the same one may come with other times and other details."""
    at = NOW - draw(st.integers(0, 3))
    status: dict[str, Any] = {
        "id": wamid(9, 0),
        "status": draw(st.sampled_from(["delivered", "failed"])),
        "timestamp": str(at),
    }
    if category := draw(st.sampled_from([None, "service", "utility"])):
        status["pricing"] = {"category": category}
    if code := draw(st.sampled_from([None, 131026, 131047])):
        status["errors"] = [{"code": code}]
    return Sent.of(at, statuses=[status])


@st.composite
def bad_records(draw: st.DrawFn) -> Sent:
    """Units for the quarantine; the whole line is spoiled where the change is no JSON."""
    number = draw(st.integers(0, 1))
    if draw(st.booleans()):
        return Sent(NOW, f"{{broken {number}")
    message = {"id": wamid(8, number), "from": wa_id(8, 1), "timestamp": str(NOW), "type": "image"}
    return Sent.of(NOW, messages=[message])


@st.composite
def deliveries(draw: st.DrawFn, units: Sequence[Sent]) -> Delivery:
    """Every unit at least once, in any order, split anyhow."""
    numbers = range(len(units))
    again = draw(st.lists(st.sampled_from(numbers), max_size=4))
    order = draw(st.permutations([*numbers, *again]))
    # A spoiled line holds nothing else, since all of it is lost together.
    alone = {number for number in numbers if units[number].change.startswith("{broken")}
    files: list[list[list[int]]] = [[]]
    for number in order:
        kind = draw(st.integers(0, 5))
        if kind == 0 and files[-1]:
            files.append([])
        bodies = files[-1]
        if kind > 2 and bodies and number not in alone and not alone & set(bodies[-1]):
            bodies[-1].append(number)
        else:
            bodies.append([number])
    if draw(st.booleans()):
        files.append(files[0])
    return Delivery(
        files,
        chunk_units=draw(st.sampled_from([1, 2, 3, 5, EVERYTHING_AT_ONCE])),
        ends_with_newline=draw(st.booleans()),
        is_compressed=draw(st.booleans()),
    )


@st.composite
def streams(draw: st.DrawFn) -> Stream:
    idle_hours = draw(st.sampled_from([24, 24, 2]))
    clients = [
        draw(client_messages(client, idle_hours * HOUR))
        for client in range(draw(st.integers(1, 3)))
    ]
    units = [unit for messages in clients for unit in messages]
    units += draw(st.lists(statuses(), max_size=4)) + draw(st.lists(bad_records(), max_size=2))
    units = list(dict.fromkeys(units))
    times = [sorted(unit.at for unit in messages) for messages in clients]
    return Stream(units, times, draw(deliveries(units)), idle_hours)


class Loading:
    """Loads deliveries into one database and reads what is there then."""

    def __init__(
        self, connection: Connection, side: Connection, owner: Connection, folder: Path
    ) -> None:
        self.connection, self.side = connection, side
        self.owner, self.folder = owner, folder

    def dump_of(self, stream: Stream, delivery: Delivery) -> str:
        """Empty the database, load, check the balance of each run and dump."""
        empty_tables(self.owner)
        loader = Loader(
            connection=self.connection,
            side=self.side,
            ids=MessageIds(ID_KEY),
            idle=timedelta(hours=stream.idle_hours),
            context_messages=CONTEXT_MESSAGES,
            chunk_units=delivery.chunk_units,
        )
        for path in self._write(stream.units, delivery):
            report = RunReport(pipeline="inbound_messages", run_id=uuid4(), as_of=AS_OF)
            loader.load_paths(LandingZone(str(self.folder)), [str(path)], report)
            report.balance()
        return canonical_dump(self.owner)

    def conversations(self) -> list[tuple[Any, ...]]:
        """Begin, end, status and number of messages of each conversation."""
        rows = self.owner.execute(
            text(
                "select c.started_at, c.closed_at, c.status::text, c.total_messages, count(m.id) "
                "from conversations as c left join messages as m on c.id = m.conversation_id "
                "group by c.id"
            )
        ).all()
        self.owner.rollback()
        return sorted((tuple(row) for row in rows), key=_by_time)

    def _write(self, units: Sequence[Sent], delivery: Delivery) -> Iterator[Path]:
        for number, bodies in enumerate(delivery.files):
            lines = []
            for body in bodies:
                changes = ",".join(units[unit].change for unit in body)
                entry = f'{{"id":"1","changes":[{changes}]}}'
                lines.append(f'{{"object":"whatsapp_business_account","entry":[{entry}]}}')
            content = "\n".join(lines) + ("\n" if delivery.ends_with_newline else "")
            data = content.encode()
            path = self.folder / f"{number}.jsonl"
            if delivery.is_compressed:
                path, data = path.with_suffix(".jsonl.gz"), gzip.compress(data)
            path.write_bytes(data)
            yield path


@pytest.fixture
def loading(database: TestDatabase, tmp_path: Path) -> Iterator[Loading]:
    with (
        database.connect() as connection,
        database.connect() as side,
        database.connect("owner") as reader,
    ):
        yield Loading(connection, side, reader, tmp_path)


def expected_conversations(stream: Stream) -> list[tuple[Any, ...]]:
    """What the rule says, by another way than the merge: one pass over each client's times."""
    idle = stream.idle_hours * HOUR
    found = []
    for times in stream.times_of_clients:
        breaks = [0, *(n for n, (a, b) in enumerate(pairwise(times), 1) if b - a > idle)]
        for begin, end in pairwise([*breaks, len(times)]):
            is_open = end == len(times) and times[-1] + idle >= NOW
            closed_at = None if is_open else datetime.fromtimestamp(times[end - 1], UTC)
            status = "open" if is_open else "closed"
            size = end - begin
            found.append((datetime.fromtimestamp(times[begin], UTC), closed_at, status, size, size))
    return sorted(found, key=_by_time)


def _by_time(row: tuple[Any, ...]) -> tuple[Any, ...]:
    started_at, closed_at, *rest = row
    return (started_at, closed_at or datetime.max.replace(tzinfo=UTC), *rest)


def sorted_once(units: Sequence[Sent]) -> Delivery:
    """Everything once, in the order of event time, one unit a body, in one file and chunk."""
    order = sorted(range(len(units)), key=lambda number: units[number].at)
    return Delivery([[[number] for number in order]], EVERYTHING_AT_ONCE, True, False)


def assert_same_however_it_arrives(loading: Loading, stream: Stream) -> None:
    expected = loading.dump_of(stream, sorted_once(stream.units))
    assert loading.conversations() == expected_conversations(stream)
    assert_same_dump(loading.dump_of(stream, stream.delivery), expected)


# The database is emptied before each load, so one for all examples is as good as one for each.
_one_database = settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


@given(stream=streams())
@settings(_one_database, max_examples=60)
def test_order_duplicates_and_split_leave_no_trace(loading: Loading, stream: Stream) -> None:
    assert_same_however_it_arrives(loading, stream)


@pytest.mark.long
@pytest.mark.timeout(3600)
@given(stream=streams())
@settings(_one_database)
def test_order_duplicates_and_split_leave_no_trace_in_many_streams(
    loading: Loading, stream: Stream
) -> None:
    assert_same_however_it_arrives(loading, stream)
