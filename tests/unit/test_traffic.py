"""What the traffic generator promises, checked by a decoder written apart from it."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import re
import subprocess
import sys
from collections import Counter, defaultdict
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import gatte_pipelines
from gatte_pipelines.errors import ConfigurationError
from gatte_pipelines.phones import is_possible_wa_id, phone_key
from gatte_pipelines.sandbox.traffic import (
    BAD_KINDS,
    BUSINESS_PHONE,
    CHATBOT_SCHEMA,
    OTHER_KINDS,
    UNREADABLE_BAD_KINDS,
    WHOLE_SHARES,
    TrafficCounts,
    TrafficPlan,
    iter_bodies,
    write_traffic,
)

AS_OF = datetime(2026, 11, 20, 18, 30, tzinfo=UTC)
AS_OF_SECONDS = int(AS_OF.timestamp())
PLAN = TrafficPlan(messages=12_000, users=600, seed=11, as_of=AS_OF, other_kinds_pct=3.0, days=20)
# A client's next message within a session comes at most this much later.
LONGEST_PAUSE_SECONDS = 15 * 60 + 2

HASH_IN_A_NEW_PROCESS = """
import io
from datetime import datetime
from gatte_pipelines.sandbox.traffic import TrafficPlan, write_traffic
plan = TrafficPlan(900, 80, 5, datetime.fromisoformat("2026-11-20T18:30:00+00:00"),
                   other_kinds_pct=4.0, bad_pct=3.0)
print(write_traffic(plan, io.BytesIO()).sha256)
"""


class RawValue(msgspec.Struct):
    messages: list[msgspec.Raw] = []


class RawChange(msgspec.Struct):
    value: RawValue


class RawEntry(msgspec.Struct):
    changes: list[RawChange]


class RawBody(msgspec.Struct):
    entry: list[RawEntry]


class Named(msgspec.Struct):
    id: str | None = None


@dataclass
class Found:
    """What an independent reading of the lines finds."""

    updates_a_line: list[int] = field(default_factory=list)
    bad: Counter[str] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)
    messages: dict[str, dict[str, Any]] = field(default_factory=dict)
    statuses: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    redeliveries: int = 0
    status_redeliveries: int = 0
    first_line_of: dict[str, int] = field(default_factory=dict)
    again: list[tuple[str, int]] = field(default_factory=list)
    arrival_seconds: list[int] = field(default_factory=list)
    several_changes: int = 0
    several_entries: int = 0


def bad_kind_of(message: dict[str, Any], names: list[str]) -> str | None:
    sender, timestamp = message.get("from", ""), message["timestamp"]
    if "id" not in message:
        return "id_missing"
    if message["type"] == "hologram":
        return "unknown_type"
    if not re.fullmatch(r"-?\d+", timestamp):
        return "timestamp_is_text"
    if int(timestamp) < 0:
        return "timestamp_negative"
    if int(timestamp) > AS_OF_SECONDS:
        return "timestamp_in_future"
    if sender and not sender.isdecimal():
        return "phone_with_letters"
    if len(sender) > 15:
        return "phone_too_long"
    if message["type"] == "text" and not isinstance(message["text"]["body"], str):
        return "text_is_number"
    if message["type"] == "text" and "\x00" in message["text"]["body"]:
        return "nul_in_text"
    if max(map(len, names), default=0) > 150:
        return "name_too_long"
    return None


def read(content: bytes) -> Found:
    found = Found()
    assert content.endswith(b"\n")
    for number, line in enumerate(content[:-1].split(b"\n")):
        try:
            body = json.loads(line.decode("utf-8"))
        except UnicodeDecodeError:
            found.bad["invalid_utf8"] += 1
            found.updates_a_line.append(1)
            continue
        except json.JSONDecodeError:
            found.bad["malformed_json"] += 1
            found.updates_a_line.append(1)
            continue
        assert body["object"] == "whatsapp_business_account"
        changes = [change for entry in body["entry"] for change in entry["changes"]]
        found.several_entries += len(body["entry"]) > 1
        found.several_changes += len(changes) > 1
        updates = 0
        for change in changes:
            assert change["field"] == "messages"
            value = change["value"]
            assert ("messages" in value) != ("statuses" in value)
            names = [contact["profile"]["name"] for contact in value.get("contacts", [])]
            for message in value.get("messages", []):
                updates += 1
                take_message(found, message, names, number)
            for status in value.get("statuses", []):
                updates += 1
                key = status["id"], status["status"]
                if key in found.statuses:
                    assert found.statuses[key] == status
                    found.status_redeliveries += 1
                found.statuses[key] = status
        found.updates_a_line.append(updates)
    return found


def take_message(found: Found, message: dict[str, Any], names: list[str], number: int) -> None:
    kind = bad_kind_of(message, names)
    if kind is not None:
        found.bad[kind] += 1
        return
    message_id = message["id"]
    if message_id in found.messages:
        assert found.messages[message_id] == message
        found.redeliveries += 1
        found.again.append((message_id, number))
        return
    found.messages[message_id] = message
    found.kinds[message["type"]] += 1
    found.first_line_of[message_id] = number
    found.arrival_seconds.append(int(message["timestamp"]))


def write(plan: TrafficPlan) -> tuple[bytes, TrafficCounts]:
    out = io.BytesIO()
    counts = write_traffic(plan, out)
    return out.getvalue(), counts


@pytest.fixture(scope="module")
def written() -> tuple[bytes, TrafficCounts]:
    return write(PLAN)


@pytest.fixture(scope="module")
def found(written: tuple[bytes, TrafficCounts]) -> Found:
    return read(written[0])


def sessions_by_client(found: Found) -> dict[str, list[list[int]]]:
    times: dict[str, list[int]] = defaultdict(list)
    for message in found.messages.values():
        times[phone_key(message["from"])].append(int(message["timestamp"]))
    sessions: dict[str, list[list[int]]] = {}
    for client, moments in times.items():
        moments.sort()
        sessions[client] = [[moments[0]]]
        for moment in moments[1:]:
            if moment - sessions[client][-1][-1] <= LONGEST_PAUSE_SECONDS:
                sessions[client][-1].append(moment)
            else:
                sessions[client].append([moment])
    return sessions


def test_the_same_plan_gives_the_same_bytes_whatever_the_hash_seed() -> None:
    source = str(Path(gatte_pipelines.__path__[0]).parent)
    digests = {
        subprocess.run(
            [sys.executable, "-c", HASH_IN_A_NEW_PROCESS],
            env={**os.environ, "PYTHONHASHSEED": hash_seed, "TZ": zone, "PYTHONPATH": source},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for hash_seed, zone in (("1", "UTC"), ("2", "America/Sao_Paulo"))
    }
    assert len(digests) == 1


DIGEST_OF_300_MESSAGES = "d3047079b87c691101a2c8b7cb83eeca4d60e40158465d2a0cb873694a36752a"


def test_the_bytes_stay_the_same_from_version_to_version() -> None:
    # Benchmarks name their input by this digest: change it only together with their figures.
    plan = TrafficPlan(messages=300, users=40, seed=1, as_of=AS_OF)
    assert write(plan)[1].sha256 == DIGEST_OF_300_MESSAGES


def test_another_seed_gives_other_bytes() -> None:
    plan = TrafficPlan(messages=100, users=10, seed=1, as_of=AS_OF)
    assert write(plan)[0] != write(replace(plan, seed=2))[0]


def test_bodies_are_the_lines_that_are_written(written: tuple[bytes, TrafficCounts]) -> None:
    assert b"".join(body + b"\n" for body in iter_bodies(PLAN)) == written[0]


def test_counts_are_those_of_an_independent_reading(
    written: tuple[bytes, TrafficCounts], found: Found
) -> None:
    content, counts = written
    assert counts == TrafficCounts(
        lines=content.count(b"\n"),
        bytes_written=len(content),
        messages=len(found.messages),
        statuses=len(found.statuses),
        redeliveries=found.redeliveries,
        status_redeliveries=found.status_redeliveries,
        late=counts.late,
        users=len(sessions_by_client(found)),
        sessions=sum(map(len, sessions_by_client(found).values())),
        kinds=dict(sorted(found.kinds.items())),
        bad=dict(sorted(found.bad.items())),
        sha256=hashlib.sha256(content).hexdigest(),
    )
    assert counts.updates == sum(found.updates_a_line)


def test_what_was_asked_for_is_what_comes(written: tuple[bytes, TrafficCounts]) -> None:
    counts = written[1]
    assert counts.messages == PLAN.messages
    assert counts.users == PLAN.users
    assert counts.redeliveries == round(PLAN.messages * 0.05)
    assert counts.late == round(PLAN.messages * 0.02)
    assert sum(counts.bad.values()) == round(PLAN.messages * 0.005)
    assert set(counts.bad) == set(BAD_KINDS)
    assert set(counts.kinds) == {"text", *OTHER_KINDS}
    assert PLAN.messages - counts.kinds["text"] == round(PLAN.messages * 0.03)
    assert 0.04 < counts.status_redeliveries / counts.statuses < 0.06
    assert 2.2 < counts.statuses / counts.messages < 2.8


@settings(max_examples=60, deadline=None)
@given(
    st.builds(
        TrafficPlan,
        messages=st.integers(1, 300),
        users=st.integers(1, 60),
        seed=st.integers(0, 2**40),
        as_of=st.just(AS_OF),
        concurrent_clients=st.integers(1, 50),
        days=st.integers(1, 40),
        redelivered_pct=st.sampled_from([0.0, 5.0, 100.0]),
        late_pct=st.sampled_from([0.0, 2.0, 100.0]),
        bad_pct=st.sampled_from([0.0, 0.5, 20.0]),
        other_kinds_pct=st.sampled_from([0.0, 3.0, 100.0]),
    )
)
def test_every_plan_gets_exactly_what_it_asks_for(plan: TrafficPlan) -> None:
    content, counts = write(plan)
    found = read(content)
    assert counts.messages == len(found.messages) == plan.messages
    assert counts.redeliveries == found.redeliveries
    assert counts.redeliveries == round(plan.messages * plan.redelivered_pct / 100)
    assert counts.late == round(plan.messages * plan.late_pct / 100)
    assert counts.bad == dict(sorted(found.bad.items()))
    assert sum(counts.bad.values()) == round(plan.messages * plan.bad_pct / 100)
    assert counts.kinds == dict(sorted(found.kinds.items()))
    assert counts.updates == sum(found.updates_a_line)
    assert counts.users == len(sessions_by_client(found)) <= plan.users


def test_nothing_but_the_bad_future_comes_after_as_of(found: Found) -> None:
    latest = max(int(message["timestamp"]) for message in found.messages.values())
    assert AS_OF_SECONDS - 10 <= latest <= AS_OF_SECONDS
    assert max(int(status["timestamp"]) for status in found.statuses.values()) <= AS_OF_SECONDS


def test_traffic_covers_the_days_asked_for(found: Found) -> None:
    days = {(AS_OF_SECONDS - int(one["timestamp"])) // 86_400 for one in found.messages.values()}
    assert max(days) <= PLAN.days
    assert max(days) >= PLAN.days * 3 // 5


def test_sessions_have_four_to_twenty_messages(found: Found) -> None:
    lengths = Counter(
        len(session) for each in sessions_by_client(found).values() for session in each
    )
    assert min(lengths) >= 4
    assert 12 <= max(lengths) <= 20


def test_clients_come_back_mostly_after_more_than_a_day(found: Found) -> None:
    sessions = sessions_by_client(found)
    gaps = [after[0] - before[-1] for each in sessions.values() for before, after in pairwise(each)]
    long_gaps = sum(gap > 86_400 for gap in gaps)
    assert sum(len(each) > 1 for each in sessions.values()) > 0.6 * len(sessions)
    assert long_gaps > 0.7 * len(gaps)
    assert long_gaps < 0.98 * len(gaps)


def test_many_clients_talk_at_a_time(found: Found) -> None:
    edges = sorted(
        edge
        for each in sessions_by_client(found).values()
        for session in each
        for edge in ((session[0], 1), (session[-1], -1))
    )
    talking = most = 0
    for _, step in edges:
        talking += step
        most = max(most, talking)
    assert PLAN.concurrent_clients * 0.5 < most <= PLAN.concurrent_clients * 1.05


def test_a_redelivery_is_the_same_bytes_in_a_later_post(
    written: tuple[bytes, TrafficCounts], found: Found
) -> None:
    assert found.again
    assert all(number > found.first_line_of[message_id] for message_id, number in found.again)

    forms: dict[str | None, set[bytes]] = defaultdict(set)
    for line in written[0].splitlines():
        try:
            body = msgspec.json.decode(line, type=RawBody)
        except (msgspec.DecodeError, UnicodeDecodeError):
            continue
        for entry in body.entry:
            for change in entry.changes:
                for raw in change.value.messages:
                    forms[msgspec.json.decode(raw, type=Named).id].add(bytes(raw))
    assert {len(forms[message_id]) for message_id, _ in found.again} == {1}


def test_late_messages_come_after_younger_ones(
    written: tuple[bytes, TrafficCounts], found: Found
) -> None:
    youngest = late = 0
    swapped = 0
    for moment in found.arrival_seconds:
        late += youngest - moment > 170
        swapped += youngest > moment
        youngest = max(youngest, moment)
    assert 0.6 * written[1].late < late <= 1.1 * written[1].late
    assert swapped > 4 * late


def test_posts_hold_mostly_one_update_and_at_most_a_hundred(found: Found) -> None:
    sizes = found.updates_a_line
    assert 0.5 < sum(size == 1 for size in sizes) / len(sizes) < 0.75
    assert 20 < max(sizes) <= 100
    assert found.several_changes > 0.05 * len(sizes)
    assert found.several_entries > 0.02 * len(sizes)


def test_numbers_are_possible_and_of_every_kind(found: Found) -> None:
    numbers = {message["from"] for message in found.messages.values()}
    assert all(is_possible_wa_id(number) for number in numbers)
    brazilian = {number for number in numbers if number.startswith("55")}
    landlines = {number for number in brazilian if number[4] == "3"}
    short = {number for number in brazilian - landlines if len(number) == 12}
    assert 0.22 < len(short) / len(brazilian - landlines) < 0.4
    assert landlines
    assert numbers - brazilian
    assert len({phone_key(number) for number in numbers}) == PLAN.users


def test_a_few_clients_appear_under_both_forms_of_their_number(found: Found) -> None:
    forms: dict[str, set[str]] = defaultdict(set)
    for message in found.messages.values():
        forms[phone_key(message["from"])].add(message["from"])
    assert 0 < sum(len(each) == 2 for each in forms.values()) < 0.1 * PLAN.users


def test_no_two_of_many_clients_share_a_number() -> None:
    plan = TrafficPlan(messages=20_000, users=5_000, seed=3, as_of=AS_OF, foreign_pct=40.0)
    found = read(write(plan)[0])
    numbers = {phone_key(message["from"]) for message in found.messages.values()}
    assert len(numbers) == 5_000
    assert all(map(is_possible_wa_id, numbers))


def test_texts_are_as_long_as_in_a_chat_and_have_accents_and_emojis(found: Found) -> None:
    texts = [one["text"]["body"] for one in found.messages.values() if one["type"] == "text"]
    lengths = sorted(map(len, texts))
    assert lengths[0] >= 5
    assert lengths[len(lengths) * 95 // 100] <= 200
    assert 800 < lengths[-1] <= 1_500
    assert sum(any(letter in text for letter in "ãçéêí") for text in texts) > 0.3 * len(texts)
    assert sum(any(ord(letter) > 0x1F000 for letter in text) for text in texts) > len(texts) / 20
    assert not [text for text in texts if "{" in text or "%s" in text]


def test_statuses_of_an_answer_come_in_their_order_with_their_price(found: Found) -> None:
    moments: dict[str, dict[str, int]] = defaultdict(dict)
    for (answer_id, name), status in found.statuses.items():
        moments[answer_id][name] = int(status["timestamp"])
        assert ("errors" in status) == (name == "failed")
    assert {name for each in moments.values() for name in each} == {
        "sent",
        "delivered",
        "read",
        "failed",
    }
    order = ("sent", "delivered", "read")
    for answer_id, each in moments.items():
        present = [each[name] for name in order if name in each]
        assert present == sorted(present)
        assert all(
            "pricing" in found.statuses[answer_id, name]
            for name in ("sent", "delivered")
            if name in each
        )
    assert any("read" in each and "delivered" not in each for each in moments.values())


def test_message_ids_have_the_structure_of_real_ones(found: Found) -> None:
    inbound = base64.b64decode(next(iter(found.messages)).removeprefix("wamid."))
    length = inbound[2]
    assert inbound[:2] == b"\x1c\x18"
    assert inbound[3 : 3 + length].isdigit()
    assert inbound[3 + length : 9 + length] == b"\x15\x02\x00\x12\x18\x14"
    assert re.fullmatch(rb"[0-9A-F]{20}\x00", inbound[9 + length :])
    outbound = base64.b64decode(next(iter(found.statuses))[0].removeprefix("wamid."))
    assert outbound[outbound[2] + 6] == 0x11


def test_replies_quote_an_answer_of_ours(found: Found) -> None:
    quoting = [one for one in found.messages.values() if one["type"] == "text" and "context" in one]
    answers = {answer_id for answer_id, _ in found.statuses}
    assert 0.003 < len(quoting) / len(found.messages) < 0.02
    assert sum(one["context"]["id"] in answers for one in quoting) > 0.9 * len(quoting)


def test_unreadable_records_stand_alone_on_their_line() -> None:
    plan = TrafficPlan(messages=240, users=30, seed=4, as_of=AS_OF, bad_pct=20.0)
    content, counts = write(plan)
    unreadable = 0
    for line in content.splitlines():
        try:
            json.loads(line)
        except (UnicodeDecodeError, json.JSONDecodeError):
            unreadable += 1
    assert unreadable == sum(counts.bad[kind] for kind in UNREADABLE_BAD_KINDS) == 8
    assert len(read(content).messages) == 240


def test_clients_known_only_by_their_user_id_have_no_number() -> None:
    plan = TrafficPlan(messages=60, users=8, seed=4, as_of=AS_OF, bsuid_only_pct=100.0, bad_pct=0)
    for body in iter_bodies(plan):
        for entry in json.loads(body)["entry"]:
            for change in entry["changes"]:
                value = change["value"]
                assert not [one for one in value.get("contacts", []) if "wa_id" in one]
                assert all(one["user_id"] for one in value.get("contacts", []))
                assert all("from" not in one for one in value.get("messages", []))
                assert all("recipient_id" not in one for one in value.get("statuses", []))


def test_a_million_messages_start_to_flow_before_they_are_all_made() -> None:
    plan = TrafficPlan(messages=1_000_000, users=50_000, seed=1, as_of=AS_OF, bad_pct=0.0)
    bodies = iter_bodies(plan)
    moments = [
        int(message["timestamp"])
        for _ in range(50)
        for entry in json.loads(next(bodies))["entry"]
        for change in entry["changes"]
        for message in change["value"].get("messages", [])
    ]
    assert max(moments) < AS_OF_SECONDS - 25 * 86_400


def test_progress_is_told_up_to_the_last_message() -> None:
    told: list[int] = []
    plan = TrafficPlan(messages=3_000, users=200, seed=1, as_of=AS_OF)
    write_traffic(plan, io.BytesIO(), on_messages=told.append)
    assert told == sorted(told)
    assert len(told) > 2
    assert told[-1] == 3_000


@pytest.mark.parametrize(
    "change",
    [
        {"messages": 0},
        {"users": 0},
        {"users": 5_000_001},
        {"days": 0},
        {"concurrent_clients": 0},
        {"seed": -1},
        {"as_of": AS_OF.replace(tzinfo=None)},
        {"bad_pct": -0.1},
        {"late_pct": 100.1},
        {"landline_pct": 60.0, "foreign_pct": 60.0},
        {"chatbot_pct": 90.1},
        {"edit_pct": 100.1},
    ],
    ids=",".join,
)
def test_a_plan_that_cannot_be_made_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match="traffic plan"):
        replace(PLAN, **change)


# --- Chatbot events and the rarer records ---------------------------------------------------------

WHOLE = replace(
    PLAN,
    messages=9_000,
    users=900,
    **(WHOLE_SHARES | {"number_change_pct": 8.0, "bsuid_first_pct": 6.0, "opt_out_pct": 6.0}),
)
BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "inbound_load.py"
W_AS_OF = datetime(2026, 11, 22, 12, tzinfo=UTC)

MESSAGE_FIELDS = {"schema", "type", "role", "content", "sent_at", "author", "mode"}
MESSAGE_OPTIONS = {"tokens_used", "intent_detected", "model", "current_flow"}


@dataclass
class Whole:
    """What an independent reading finds in traffic with every kind of record, in file order."""

    chatbot_messages: list[dict[str, Any]] = field(default_factory=list)
    conversation_events: list[dict[str, Any]] = field(default_factory=list)
    records: dict[str, list[dict[str, Any]]] = field(default_factory=lambda: defaultdict(list))
    messages: dict[str, dict[str, Any]] = field(default_factory=dict)
    answers: set[str] = field(default_factory=set)
    line_of: dict[str, int] = field(default_factory=dict)
    line_seconds: list[float] = field(default_factory=list)
    units: int = 0

    def client_messages(self, *names: Any) -> list[dict[str, Any]]:
        """Messages under any of these numbers or user ids, by their time."""
        mine = [
            one
            for one in self.messages.values()
            if one.get("from") in names or one.get("from_user_id") in names
        ]
        return sorted(mine, key=lambda one: int(one["timestamp"]))


def read_whole(content: bytes) -> Whole:
    whole = Whole()
    for number, line in enumerate(content.splitlines()):
        try:
            body = json.loads(line)
        except (UnicodeDecodeError, json.JSONDecodeError):
            whole.units += 1
            continue
        if "schema" in body:
            whole.units += 1
            assert body["schema"] == CHATBOT_SCHEMA
            told = whole.chatbot_messages if body["type"] == "message" else None
            (whole.conversation_events if told is None else told).append(body)
            whole.line_of.setdefault(f"chatbot {body.get('wamid')}", number)
            instant = body["sent_at"] if told is not None else body["at"]
            whole.line_seconds.append(datetime.fromisoformat(instant).timestamp())
            continue
        for entry in body["entry"]:
            for change in entry["changes"]:
                take_change(whole, change, number)
    return whole


def take_change(whole: Whole, change: dict[str, Any], number: int) -> None:
    value = change["value"]
    names = [contact["profile"]["name"] for contact in value.get("contacts", [])]
    if change["field"] != "messages":
        place = {"smb_message_echoes": "message_echoes"}.get(change["field"], change["field"])
        assert "messages" not in value
        assert "statuses" not in value
        for record in value[place]:
            whole.units += 1
            whole.records[change["field"]].append(record)
        return
    for status in value.get("statuses", []):
        whole.units += 1
        whole.answers.add(status["id"])
    for message in value.get("messages", []):
        whole.units += 1
        kind = message["type"]
        if kind in {"edit", "revoke", "system"}:
            whole.records[kind].append(message)
            whole.line_of[message["id"]] = number
            if kind == "system":
                assert "contacts" not in value or len(value["messages"]) > 1
        elif "group_id" in message:
            whole.records["group"].append(message)
        elif bad_kind_of(message, names) is None:
            whole.messages.setdefault(message["id"], message)
            whole.line_of.setdefault(message["id"], number)


@pytest.fixture(scope="module")
def whole_counts() -> tuple[Whole, TrafficCounts]:
    content, counts = write(WHOLE)
    return read_whole(content), counts


@pytest.fixture(scope="module")
def whole(whole_counts: tuple[Whole, TrafficCounts]) -> Whole:
    return whole_counts[0]


@pytest.mark.parametrize(
    ("name", "shares"), [("W_SHA256", {}), ("W30_SHA256", {"chatbot_pct": 30.0})], ids=str
)
def test_the_loads_of_the_benchmark_are_those_its_figures_are_of(
    name: str, shares: dict[str, float]
) -> None:
    known = dict(re.findall(r'^(\w+) = "([0-9a-f]{64})"$', BENCHMARK.read_text(), re.MULTILINE))
    plan = TrafficPlan(messages=200_000, users=20_000, seed=7, as_of=W_AS_OF, **shares)
    assert write(plan)[1].sha256 == known[name]


def test_chatbot_events_leave_every_webhook_body_as_it_was() -> None:
    plan = replace(PLAN, messages=2_000, users=200)
    with_events = list(iter_bodies(replace(plan, chatbot_pct=30.0)))
    assert [line for line in with_events if b'"schema":' not in line] == list(iter_bodies(plan))


def test_the_counts_with_every_kind_of_record_are_those_of_an_independent_reading(
    whole_counts: tuple[Whole, TrafficCounts],
) -> None:
    whole, counts = whole_counts
    assert counts.updates == whole.units
    assert counts.messages == len(whole.messages) == WHOLE.messages
    roles = Counter(one["role"] for one in whole.chatbot_messages)
    assert roles == {"assistant": counts.chatbot_messages, "user": counts.chatbot_repeats}
    assert counts.conversation_events == len(whole.conversation_events)
    choices = Counter(one["value"] for one in whole.records["user_preferences"])
    assert counts.others == {
        "edit": len(whole.records["edit"]),
        "revoke": len(whole.records["revoke"]),
        "echo": len(whole.records["smb_message_echoes"]),
        "group": len(whole.records["group"]),
        "user_changed_number": len(whole.records["system"]),
        "user_id_update": len(whole.records["user_id_update"]),
        "opt_out": choices["stop"],
        "opt_in": choices["resume"],
    }


def test_every_share_asked_for_is_the_share_that_comes(
    whole_counts: tuple[Whole, TrafficCounts],
) -> None:
    counts = whole_counts[1]
    assert counts.chatbot_events == round(WHOLE.messages * 30 / 70)
    assert counts.others["edit"] == round(WHOLE.messages * 0.01)
    assert counts.others["revoke"] == round(WHOLE.messages * 0.005)
    assert counts.others["echo"] == round(WHOLE.messages * 0.01)
    assert counts.others["group"] == round(WHOLE.messages * 0.002)
    assert 0.05 < counts.others["user_changed_number"] / WHOLE.users < 0.11
    assert 0.04 < counts.others["opt_out"] / WHOLE.users < 0.09
    assert 0 < counts.others["opt_in"] < counts.others["opt_out"]


@settings(max_examples=40, deadline=None)
@given(
    st.builds(
        TrafficPlan,
        messages=st.integers(1, 200),
        users=st.integers(1, 40),
        seed=st.integers(0, 2**40),
        as_of=st.just(AS_OF),
        late_pct=st.sampled_from([0.0, 100.0]),
        bad_pct=st.sampled_from([0.0, 20.0]),
        bsuid_only_pct=st.sampled_from([0.0, 50.0]),
        user_id_pct=st.sampled_from([0.0, 90.0]),
        chatbot_pct=st.sampled_from([0.0, 1.0, 30.0, 60.0, 90.0]),
        edit_pct=st.sampled_from([0.0, 10.0, 100.0]),
        revoke_pct=st.sampled_from([0.0, 10.0, 100.0]),
        echo_pct=st.sampled_from([0.0, 10.0, 100.0]),
        group_pct=st.sampled_from([0.0, 10.0]),
        number_change_pct=st.sampled_from([0.0, 50.0, 100.0]),
        opt_out_pct=st.sampled_from([0.0, 100.0]),
        bsuid_first_pct=st.sampled_from([0.0, 50.0, 100.0]),
    )
)
def test_every_plan_with_more_records_keeps_its_counts_and_its_end(plan: TrafficPlan) -> None:
    content, counts = write(plan)
    whole = read_whole(content)
    assert counts.updates == whole.units
    assert counts.messages == len(whole.messages) == plan.messages
    assert counts.chatbot_events == round(
        plan.messages * plan.chatbot_pct / (100 - plan.chatbot_pct)
    )
    assert all(second <= AS_OF_SECONDS for second in whole.line_seconds)
    moments = [int(one["timestamp"]) for each in whole.records.values() for one in each]
    assert all(moment <= AS_OF_SECONDS for moment in moments)


def test_chatbot_messages_have_the_fields_of_the_format(whole: Whole) -> None:
    for one in whole.chatbot_messages:
        fields = set(one)
        assert fields & {"wamid", "external_id"} in ({"wamid"}, {"external_id"})
        assert fields & {"phone", "bsuid"} in ({"phone"}, {"bsuid"})
        assert fields >= MESSAGE_FIELDS
        assert fields - MESSAGE_FIELDS - MESSAGE_OPTIONS <= {
            *("wamid", "external_id", "phone", "bsuid"),
        }
        assert one["content"]
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", one["sent_at"])
        assert one["mode"] in {"ai_free", "menu", "flow", "human"}
        assert ("current_flow" in one) == (one["mode"] == "flow")
        expected = "client" if one["role"] == "user" else None
        assert one["author"] == (expected or ("human" if one["mode"] == "human" else "bot"))
    present = Counter(name for one in whole.chatbot_messages for name in one)
    assert all(present[name] > 50 for name in MESSAGE_OPTIONS | {"bsuid"})
    assert 0 < present["external_id"] < 0.05 * len(whole.chatbot_messages)


def test_conversation_events_are_few_and_say_how_it_stands(whole: Whole) -> None:
    events = whole.conversation_events
    assert 0.02 < len(events) / len(whole.line_seconds) < 0.07
    assert len({one["event_id"] for one in events}) == len(events)
    assert {one["status"] for one in events} == {"open", "waiting", "transferred", "closed"}
    for one in events:
        assert ("phone" in one) != ("bsuid" in one)
        assert one.get("closed_at") == (one["at"] if one["status"] == "closed" else None)
        assert ("transferred_to" in one) == (one["status"] == "transferred")


def test_the_chatbot_tells_mostly_of_its_answers_and_repeats_what_clients_wrote(
    whole: Whole,
) -> None:
    answers = [one for one in whole.chatbot_messages if one["role"] == "assistant"]
    repeats = [one for one in whole.chatbot_messages if one["role"] == "user"]
    assert 0.55 < len(answers) / len(whole.line_seconds) < 0.75
    assert 0.2 < len(repeats) / len(whole.line_seconds) < 0.4
    told = [one["wamid"] for one in answers if "wamid" in one]
    assert len(told) == len(set(told))
    assert sum(one in whole.answers for one in told) > 0.99 * len(told)
    delays, first_told = [], 0
    for one in repeats:
        message = whole.messages[one["wamid"]]
        if message["type"] == "text":
            assert one["content"] == message["text"]["body"]
        sent = datetime.fromisoformat(one["sent_at"]).timestamp()
        delays.append(sent - int(message["timestamp"]))
        first_told += whole.line_of[f"chatbot {one['wamid']}"] < whole.line_of[one["wamid"]]
    delays.sort()
    assert delays[0] >= 0.3
    assert delays[len(delays) // 2] < 5
    assert len({delay % 1 for delay in delays}) > 0.3 * len(delays)
    assert 0.1 < first_told / len(repeats) < 0.9


def test_the_chatbot_names_numbers_in_their_full_form(whole: Whole) -> None:
    short = 0
    for one in whole.chatbot_messages:
        if one["role"] == "user" and "phone" in one:
            sender = whole.messages[one["wamid"]].get("from")
            if sender is None:
                continue  # known by the user id alone when it was written
            assert one["phone"].startswith("+")
            short += one["phone"][1:] != sender
            if one["phone"][5:7] != "91":  # a new number, taken meanwhile
                assert one["phone"] == f"+{phone_key(sender)}"
    assert short > 20


def test_chatbot_lines_stand_near_their_time(whole: Whole) -> None:
    # Late messages are told of when they arrive; only the state of the file's clock matters here.
    youngest = 0.0
    for second in whole.line_seconds:
        assert second > youngest - 60
        youngest = max(youngest, second)


def test_changes_name_a_message_of_the_same_client_and_come_after_it_in_time(whole: Whole) -> None:
    edits = {one["id"]: one for one in whole.records["edit"]}
    before = chained = 0
    for one in [*edits.values(), *whole.records["revoke"]]:
        target_id = one[one["type"]]["original_message_id"]
        chained += target_id in edits
        target = edits.get(target_id) or whole.messages[target_id]
        assert int(target["timestamp"]) <= int(one["timestamp"])
        before += whole.line_of[one["id"]] < whole.line_of[target_id]
        if one["type"] == "edit":
            assert one["edit"]["message"]["type"] == "text"
            assert one["edit"]["message"]["text"]["body"]
    assert chained > 1
    assert 0.1 < before / (len(edits) + len(whole.records["revoke"])) < 0.5


def test_a_client_who_changed_writes_from_the_new_number_and_user_id_alone(whole: Whole) -> None:
    updates = {
        one["wa_id"]: one["user_id"] for one in whole.records["user_id_update"] if "wa_id" in one
    }
    before_told = with_both = 0
    for one in whole.records["system"]:
        system = one["system"]
        assert system["type"] == "user_changed_number"
        keys = [phone_key(one["from"]), system["wa_id"]]
        moment = int(one["timestamp"])
        for message in whole.messages.values():
            if "from" in message and phone_key(message["from"]) in keys:
                is_new = message["from"] == system["wa_id"]
                assert is_new == (int(message["timestamp"]) > moment)
                before_told += is_new and whole.line_of[message["id"]] < whole.line_of[one["id"]]
        if "user_id" in system:
            update = updates[system["wa_id"]]
            assert update["current"] == system["user_id"]
            newer = whole.client_messages(update["current"])
            older = whole.client_messages(update["previous"])
            assert all(int(each["timestamp"]) <= moment for each in older)
            assert all(int(each["timestamp"]) > moment for each in newer)
            with_both += bool(newer) and bool(older)
    assert with_both > 10
    assert before_told > 5
    new_numbers = [one["system"]["wa_id"] for one in whole.records["system"]]
    assert all(map(is_possible_wa_id, new_numbers))
    assert len(set(new_numbers)) == len(new_numbers)


def test_some_clients_are_known_by_their_user_id_before_their_number(whole: Whole) -> None:
    moments: dict[str, dict[bool, list[int]]] = defaultdict(lambda: {False: [], True: []})
    for message in whole.messages.values():
        if "from_user_id" in message:
            moments[message["from_user_id"]]["from" in message].append(int(message["timestamp"]))
    both = [each for each in moments.values() if each[False] and each[True]]
    assert 0.03 < len(both) / WHOLE.users < 0.1
    assert all(max(each[False]) < min(each[True]) for each in both)


def test_who_stops_marketing_is_a_client_and_may_allow_it_again(whole: Whole) -> None:
    known = {one.get("from") for one in whole.messages.values()}
    known |= {one.get("from_user_id") for one in whole.messages.values()}
    known |= {one["system"]["wa_id"] for one in whole.records["system"]}
    for one in whole.records["user_preferences"]:
        assert one["category"] == "marketing_messages"
        assert isinstance(one["timestamp"], int)
        assert ("wa_id" in one) != ("user_id" in one)
        assert one.get("wa_id", one.get("user_id")) in known


def test_echoes_go_from_our_number_to_a_client(whole: Whole) -> None:
    for one in whole.records["smb_message_echoes"]:
        assert one["from"] == BUSINESS_PHONE
        assert is_possible_wa_id(one["to"])
        assert one["text"]["body"]
