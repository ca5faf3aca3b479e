"""Every webhook body that Meta and others published loads alone, and leaves what it tells."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from gatte_pipelines.run_report import Outcome, RunReport
from tests.inbound import Inbound
from tests.postgres import TestDatabase

# ../shared beside the checkout.
SAMPLES = Path(__file__).resolve().parents[3] / "shared" / "samples" / "whatsapp"

pytestmark = pytest.mark.skipif(
    not SAMPLES.is_dir(), reason="the sample bodies of ../shared are not beside this checkout"
)

MakeDatabase = Callable[..., AbstractContextManager[TestDatabase]]
# Where a body tells of nothing that has a time.
SOME_DAY = datetime(2025, 6, 16, tzinfo=UTC)

# What each message type leaves as its content; None where only the body knows (a text).
CONTENTS: dict[str, str | None] = {
    "meta_docs_2026-06_bsuid_only_text": None,
    "meta_docs_audio_1": "[mensagem de voz]",
    "meta_docs_button_1": "Unsubscribe",
    "meta_docs_contacts_1": "[contato] Barbara J. Johnson",
    "meta_docs_image_1": "[imagem] Taj Mahal",
    "meta_docs_interactive_1": "Priority Mail Express – Next Day to 2 Days",
    "meta_docs_interactive_2": "Cancel",
    "meta_docs_location_1": "[localização] Philz Coffee, 101 Forest Ave, Palo Alto, CA 94301",
    "meta_docs_order_1": "[pedido] 2 itens: Love these!",
    "meta_docs_text_2": None,
    "meta_docs_unsupported_1": "[mensagem não suportada] edit",
    "pywa_message_reply": None,
    "pywa_message_text": None,
    "pywa_message_unsupported_with_type": "[mensagem não suportada] pool",
}
BUTTONS = {
    "meta_docs_button_1": "Unsubscribe",
    "meta_docs_interactive_1": "priority_express",
    "meta_docs_interactive_2": "cancel-button",
}
STATUSES = (
    "meta_docs_business_scoped_user_ids_1",
    "meta_docs_business_scoped_user_ids_2",
    "meta_docs_status_1",
    "meta_docs_status_2",
    "pywa_message_status_failed",
    "pywa_message_status_sent",
)
REACTIONS = ("meta_docs_reaction_2", "pywa_message_unreaction_empty")
# When, and from whom to whom: whether a number moves, then phone and user id before and after.
IDENTITY_CHANGES = {
    "meta_docs_system_1": (1750269342, True, "16505551234", "", "12195555358", ""),
    "public_log_system_user_changed_number_with_user_id": (
        1700000001,
        True,
        "15551234567",
        "",
        "15557654321",
        "US.24817305912873645029",
    ),
    "public_log_user_id_update": (
        1700000003,
        False,
        "",
        "US.13491208655302741918",
        "15557654321",
        "US.24817305912873645029",
    ),
}
EDIT, ECHO, ERRORS = "meta_docs_edit_1", "meta_docs_smb_message_echoes_1", "meta_docs_errors_1"
TOLD = {*CONTENTS, *STATUSES, *REACTIONS, *IDENTITY_CHANGES, EDIT, ECHO, ERRORS}

# Every table that a body may leave something in, besides what all runs write.
TABLES = (
    "users",
    "conversations",
    "messages",
    "session_context",
    "pipeline.message_statuses",
    "pipeline.message_changes",
    "pipeline.message_reactions",
    "pipeline.button_replies",
    "pipeline.identity_changes",
    "pipeline.conversation_events",
    "pipeline.opt_outs",
    "pipeline.senders",
    "pipeline.quarantine",
    "pipeline.user_merges",
    "pipeline.undo_records",
)
OF_A_MESSAGE = {
    "users": 1,
    "conversations": 1,
    "messages": 1,
    "session_context": 1,
    "pipeline.senders": 1,
}


@pytest.fixture
def load(make_database: MakeDatabase) -> Iterator[Callable[[str], tuple[Inbound, RunReport]]]:
    """Loads one body into a database of its own, shortly after the time of its record."""
    with make_database() as database:

        def loaded(name: str) -> tuple[Inbound, RunReport]:
            inbound = Inbound(database)
            path = SAMPLES / f"{name}.json"
            report = inbound.load(as_of=as_of(name), paths=[str(path)])
            assert report.outcome is Outcome.COMPLETED
            return inbound, report

        yield loaded


def body(name: str) -> dict[str, Any]:
    """The value of the only change of a body."""
    whole = json.loads((SAMPLES / f"{name}.json").read_bytes())
    (value,) = [change["value"] for entry in whole["entry"] for change in entry["changes"]]
    assert isinstance(value, dict)
    return value


def record(name: str, kind: str) -> dict[str, Any]:
    (found,) = body(name)[kind]
    assert isinstance(found, dict)
    return found


def as_of(name: str) -> datetime:
    """A minute after the body's own time: neither past retention nor of the future."""
    times = re.findall(r'"timestamp": ?"(\d+)"', (SAMPLES / f"{name}.json").read_text("utf-8"))
    return datetime.fromtimestamp(int(times[0]), UTC) + timedelta(minutes=1) if times else SOME_DAY


def assert_leaves(inbound: Inbound, **expected: int) -> None:
    """That these tables have so many rows, and all others none."""
    found = {
        table: int(inbound.one(f"select count(*) from {table}")[0])  # noqa: S608 - names of ours
        for table in TABLES
    }
    named = {
        (name if name in TABLES else f"pipeline.{name}"): count for name, count in expected.items()
    }
    assert {table: count for table, count in found.items() if count} == named


def test_every_published_body_is_told_of_here() -> None:
    names = {path.stem for path in SAMPLES.glob("*.json")}
    assert len(names) >= 28
    assert names == TOLD


def test_bodies_past_retention_create_nothing(database: TestDatabase) -> None:
    inbound = Inbound(database)
    names = sorted(TOLD - {ERRORS})
    report = inbound.load(paths=[str(SAMPLES / f"{name}.json") for name in names])
    assert (report.received, report.skipped) == (len(names), {"past_retention": len(names)})
    assert_leaves(inbound)


@pytest.mark.parametrize("name", sorted(CONTENTS))
def test_a_message_of_a_client_is_stored_with_what_it_says(
    load: Callable[[str], tuple[Inbound, RunReport]], name: str
) -> None:
    inbound, report = load(name)
    assert (report.received, report.inserted) == (1, 1)
    message, contact = record(name, "messages"), record(name, "contacts")
    content = CONTENTS[name] or message["text"]["body"]
    assert inbound.one(
        "select m.role, m.content, extract(epoch from m.created_at)::bigint, m.is_in_context, "
        "f.author, c.status, u.name from messages as m "
        "inner join pipeline.message_facts as f on m.id = f.message_id "
        "inner join conversations as c on m.conversation_id = c.id "
        "inner join users as u on c.user_id = u.id"
    ) == (
        "user",
        content,
        int(message["timestamp"]),
        True,
        "client",
        "open",
        contact["profile"]["name"],
    )
    (phone,) = inbound.one("select phone from users")
    if "from" in message:
        assert phone == f"+{message['from']}"
    else:
        assert phone.startswith("~b")
    known = {value for (value,) in inbound.rows("select value from pipeline.user_identities")}
    assert known == {
        value
        for value in (message.get("from"), contact.get("user_id"), contact.get("parent_user_id"))
        if value is not None
    }
    of_button = {"button_replies": 1} if name in BUTTONS else {}
    assert_leaves(inbound, **OF_A_MESSAGE, **of_button)
    if name in BUTTONS:
        assert inbound.one(
            "select payload, pressed_at = (select created_at from messages) "
            "from pipeline.button_replies"
        ) == (BUTTONS[name], True)


@pytest.mark.parametrize("name", STATUSES)
def test_a_status_waits_for_its_message_and_makes_nobody(
    load: Callable[[str], tuple[Inbound, RunReport]], name: str
) -> None:
    inbound, report = load(name)
    assert (report.received, report.inserted) == (1, 1)
    status = record(name, "statuses")
    assert inbound.one(
        "select status, extract(epoch from status_at)::bigint, error_code, pricing_category "
        "from pipeline.message_statuses"
    ) == (
        status["status"],
        int(status["timestamp"]),
        status.get("errors", [{"code": None}])[0]["code"],
        status.get("pricing", {}).get("category"),
    )
    assert_leaves(inbound, message_statuses=1)


@pytest.mark.parametrize("name", REACTIONS)
def test_a_reaction_that_is_taken_back_stands_as_that(
    load: Callable[[str], tuple[Inbound, RunReport]], name: str
) -> None:
    inbound, report = load(name)
    assert (report.received, report.inserted) == (1, 1)
    assert inbound.one(
        "select emoji, extract(epoch from reacted_at)::bigint from pipeline.message_reactions"
    ) == (None, int(record(name, "messages")["timestamp"]))
    assert_leaves(inbound, message_reactions=1)


@pytest.mark.parametrize("name", sorted(IDENTITY_CHANGES))
def test_a_change_of_number_or_user_id_is_kept_and_makes_nobody(
    load: Callable[[str], tuple[Inbound, RunReport]], name: str
) -> None:
    inbound, report = load(name)
    assert (report.received, report.inserted) == (1, 1)
    assert (
        inbound.one(
            "select extract(epoch from changed_at)::bigint, moves_number, old_phone_key, "
            "old_bsuid, new_phone_key, new_bsuid from pipeline.identity_changes"
        )
        == IDENTITY_CHANGES[name]
    )
    assert_leaves(inbound, identity_changes=1)


def test_an_edit_waits_for_its_message(
    load: Callable[[str], tuple[Inbound, RunReport]],
) -> None:
    inbound, report = load(EDIT)
    assert (report.received, report.inserted) == (1, 1)
    assert inbound.one("select is_revoke, content from pipeline.message_changes") == (
        False,
        "[imagem] Updated image caption",
    )
    assert_leaves(inbound, message_changes=1)


def test_an_echo_is_what_a_person_of_ours_wrote_to_the_client(
    load: Callable[[str], tuple[Inbound, RunReport]],
) -> None:
    inbound, report = load(ECHO)
    assert (report.received, report.inserted) == (1, 1)
    echo = record(ECHO, "message_echoes")
    assert inbound.one(
        "select m.role, m.content, f.author, c.mode, u.phone from messages as m "
        "inner join pipeline.message_facts as f on m.id = f.message_id "
        "inner join conversations as c on m.conversation_id = c.id "
        "inner join users as u on c.user_id = u.id"
    ) == ("assistant", echo["text"]["body"], "human", "human", f"+{echo['to']}")
    assert_leaves(inbound, **OF_A_MESSAGE)


def test_an_error_of_the_service_creates_nothing(
    load: Callable[[str], tuple[Inbound, RunReport]],
) -> None:
    inbound, report = load(ERRORS)
    assert (report.received, report.skipped) == (1, {"service_error": 1})
    assert_leaves(inbound)
