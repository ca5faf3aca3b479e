"""Any order, duplication and split into files and chunks gives the same canonical dump.

What the dump must say is told a second time by tests/inbound_model.py.
"""

from __future__ import annotations

import gzip
import re
from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from sqlalchemy import Connection, text

from gatte_pipelines.inbound.ids import MessageIds
from gatte_pipelines.inbound.load import Loader
from gatte_pipelines.landing import LandingZone
from gatte_pipelines.run_report import RunReport
from tests import inbound_model as model
from tests.database.canonical import assert_same_dump, canonical_dump, empty_tables
from tests.inbound import AS_OF, HOUR, NOW
from tests.inbound_streams import SECOND, Delivery, Stream, Unit, sorted_once, streams
from tests.postgres import ID_KEY, TestDatabase

CONTEXT_MESSAGES = 3

_IDS = MessageIds(ID_KEY)
# By the beginning of a key, what its id is minted for; all others are messages.
_PURPOSES = {"user_preferences": "choice", "identity": "identity"}
_NULL = r"\N"
_LAST_AT = re.compile(r'"last_at": (null|"[^"]*")')


def id_of(named: str | model.Changed | model.Stood) -> str:
    """The id that the loader mints of a key, or of all that a change or an event says."""
    if isinstance(named, model.Changed):
        ids = (_IDS.of_key(key) for key in (named.key, named.target))
        said = (*ids, str(named.at), "tf"[named.content is not None], named.content or _NULL)
        minted = _IDS.of_bytes("change", "\t".join(said).encode() + b"\n")
    elif isinstance(named, model.Stood):
        sender = ("", named.who.phone, named.who.bsuid, "", "", "")
        said = (named.key, *sender, str(named.at), named.status, named.transferred_to or _NULL)
        minted = _IDS.of_bytes("conversation", "\t".join(said).encode() + b"\n")
    else:
        kind, _, rest = named.partition(":")
        key = rest if kind == "identity" else named
        purpose = _PURPOSES.get(kind)
        minted = _IDS.of_bytes(purpose, key.encode()) if purpose else _IDS.of_key(key)
    return str(UUID(minted))


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
            ids=_IDS,
            idle=timedelta(hours=stream.idle_hours),
            context_messages=CONTEXT_MESSAGES,
            chunk_units=delivery.chunk_units,
        )
        for path in self._write(stream.units, delivery):
            report = RunReport(pipeline="inbound_messages", run_id=uuid4(), as_of=AS_OF)
            loader.load_paths(LandingZone(str(self.folder)), [str(path)], report)
            report.balance()
        dump = canonical_dump(self.owner)
        # A known limit: when a client last wrote counts records that are outdone by better ones,
        # until its clients are settled anew, which goes by what is stored.
        return _LAST_AT.sub('"last_at": ?', dump) if stream.has_disputed_roles else dump

    def world(self) -> model.World:
        """What the database says, in the words of the model."""
        messages = {
            str(row.id): model.Message(
                row.created_at,
                row.role,
                row.content,
                row.author,
                model.Told(row.tokens_used, row.intent_detected, model=row.model),
            )
            for row in self._rows(
                "select m.id, (extract(epoch from m.created_at) * 1e6)::bigint as created_at, "
                "m.role::text, m.content, f.author, m.tokens_used, m.intent_detected, f.model "
                "from messages as m "
                "left join pipeline.message_facts as f on m.id = f.message_id"
            )
        }
        conversations: dict[UUID, list[model.Conversation]] = {}
        for row in self._rows(
            "select c.*, array(select m.id::text from messages as m "
            "where m.conversation_id = c.id) as messages, "
            "(extract(epoch from c.started_at) * 1e6)::bigint as started, "
            "(extract(epoch from c.closed_at) * 1e6)::bigint as closed "
            "from conversations as c order by c.started_at"
        ):
            assert row.total_messages == len(row.messages)
            conversations.setdefault(row.user_id, []).append(
                model.Conversation(
                    frozenset(row.messages),
                    row.started,
                    row.closed,
                    row.status,
                    row.transferred_to,
                    row.mode,
                    row.current_flow,
                )
            )
        clients = [
            model.Client(
                model.PLACEHOLDER if row.phone.startswith(model.PLACEHOLDER) else row.phone,
                row.name,
                row.created,
                tuple(conversations.get(row.id, [])),
                frozenset(row.events),
                frozenset((category, value == "true") for category, value in row.choices),
            )
            for row in self._rows(
                "select u.*, (extract(epoch from u.created_at) * 1e6)::bigint as created, "
                "array(select e.event_id::text from pipeline.conversation_events as e "
                "where e.user_id = u.id) as events, "
                "array(select array[o.category, o.is_opted_out::text] "
                "from pipeline.current_opt_outs as o where o.user_id = u.id) as choices "
                "from users as u"
            )
        ]
        assert len(set(clients)) == len(clients)
        reactions = {
            str(row.message_id): row.emoji
            for row in self._rows("select message_id, emoji from pipeline.message_reactions")
        }
        return model.World(frozenset(clients), messages, reactions)

    def _rows(self, query: str) -> Sequence[Any]:
        rows = self.owner.execute(text(query)).all()
        self.owner.rollback()
        return rows

    def _write(self, units: Sequence[Unit], delivery: Delivery) -> Iterator[Path]:
        for number, bodies in enumerate(delivery.files):
            content = "\n".join(_line([units[unit] for unit in body]) for body in bodies)
            data = (content + ("\n" if delivery.ends_with_newline else "")).encode()
            path = self.folder / f"{number}.jsonl"
            if delivery.is_compressed:
                path, data = path.with_suffix(".jsonl.gz"), gzip.compress(data)
            path.write_bytes(data)
            yield path


def _line(units: Sequence[Unit]) -> str:
    if units[0].is_line:
        return units[0].text
    changes = ",".join(unit.text for unit in units)
    return f'{{"object":"whatsapp_business_account","entry":[{{"id":"1","changes":[{changes}]}}]}}'


@pytest.fixture
def loading(database: TestDatabase, tmp_path: Path) -> Iterator[Loading]:
    with (
        database.connect() as connection,
        database.connect() as side,
        database.connect("owner") as reader,
    ):
        yield Loading(connection, side, reader, tmp_path)


def expected_world(stream: Stream) -> model.World:
    """What the model makes of the stream."""
    return model.world(
        stream.records,
        as_of=NOW * SECOND,
        idle=stream.idle_hours * HOUR * SECOND,
        id_of=id_of,
    )


def assert_same_world(actual: model.World, expected: model.World) -> None:
    """Fail with what the database and the model say otherwise, field by field."""
    assert _fields(actual) == _fields(expected)


def _fields(world: model.World) -> dict[str, Any]:
    """A world as plain values, by what is said and of whom; ids of messages name clients."""
    found: dict[str, Any] = {}
    for key, message in world.messages.items():
        found |= {f"message {key} {name}": value for name, value in vars(message).items()}
    for key, emoji in world.reactions.items():
        found[f"reaction to {key}"] = emoji
    for client in world.clients:
        ids = {key for conversation in client.conversations for key in conversation.messages}
        called = f"client {sorted(ids | client.events) or (client.phone, client.created_at)}"
        assert f"{called} phone" not in found
        found |= {f"{called} {name}": value for name, value in vars(client).items()}
        del found[f"{called} conversations"]
        for conversation in client.conversations:
            part = f"conversation {sorted(conversation.messages)}"
            found |= {f"{part} {name}": value for name, value in vars(conversation).items()}
    return found


def assert_same_however_it_arrives(loading: Loading, stream: Stream) -> None:
    expected = loading.dump_of(stream, sorted_once(stream.units))
    assert_same_world(loading.world(), expected_world(stream))
    assert_same_dump(loading.dump_of(stream, stream.delivery), expected)


# The database is emptied before each load, so one for all examples is as good as one for each.
_one_database = settings(
    suppress_health_check=[
        HealthCheck.function_scoped_fixture,
        HealthCheck.too_slow,
        HealthCheck.data_too_large,
    ]
)


@given(stream=streams())
@settings(_one_database, max_examples=25)
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
