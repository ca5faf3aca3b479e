"""Every webhook body that Meta and others published loads alone with a balanced report."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from gatte_pipelines.run_report import Outcome
from tests.inbound import Inbound
from tests.postgres import TestDatabase

# ../shared beside the checkout.
SAMPLES = Path(__file__).resolve().parents[3] / "shared" / "samples" / "whatsapp"

pytestmark = pytest.mark.skipif(
    not SAMPLES.is_dir(), reason="the sample bodies of ../shared are not beside this checkout"
)

MakeDatabase = Callable[..., AbstractContextManager[TestDatabase]]


def test_every_published_body_loads_into_an_empty_database_with_a_balanced_report(
    make_database: MakeDatabase,
) -> None:
    paths = sorted(SAMPLES.glob("*.json"))
    assert len(paths) >= 28
    for path in paths:
        # The documentation reuses ids, so each needs a database of its own.
        with make_database() as database:
            _assert_loaded(Inbound(database), path)


def _assert_loaded(inbound: Inbound, path: Path) -> None:
    body = json.loads(path.read_bytes())
    values = [change["value"] for entry in body["entry"] for change in entry["changes"]]
    messages = [message for value in values for message in value.get("messages", [])]
    texts = [message for message in messages if message["type"] == "text"]
    statuses = [status for value in values for status in value.get("statuses", [])]
    report = inbound.load(paths=[str(path)])
    assert report.outcome is Outcome.COMPLETED, path.name
    assert report.received >= 1, path.name
    assert report.inserted == len(texts) + len(statuses), path.name
    assert set(report.quarantined) <= {"not_yet_supported"}, path.name
    stored = inbound.rows(
        "select m.content, m.created_at, u.phone, m.is_in_context from messages as m "
        "inner join conversations as c on m.conversation_id = c.id "
        "inner join users as u on c.user_id = u.id"
    )
    assert [(content, int(at.timestamp())) for content, at, _, _ in stored] == [
        (message["text"]["body"], int(message["timestamp"])) for message in texts
    ], path.name
    for message, (_, _, phone, is_in_context) in zip(texts, stored, strict=True):
        if "from" in message:
            assert phone == f"+{message['from']}", path.name
        else:
            assert phone.startswith("~b"), path.name
        assert not is_in_context, "years old: its context is past its TTL"
    known = inbound.rows(
        "select status, extract(epoch from status_at)::bigint, error_code "
        "from pipeline.message_statuses"
    )
    assert sorted(known) == sorted(
        (item["status"], int(item["timestamp"]), item.get("errors", [{"code": None}])[0]["code"])
        for item in statuses
    ), path.name
    waiting = inbound.one("select count(*) from pipeline.quarantine")[0]
    assert waiting == report.received - report.inserted, path.name
