"""What the stand-in of WhatsApp writes is loaded as what Meta sends; sample certificates."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import uuid4

import pytest

from gatte_pipelines.messaging.whatsapp import TemplateMessage, WhatsAppSender
from gatte_pipelines.sandbox.local_stack_setup import lay_sample_certificates
from gatte_pipelines.sandbox.whatsapp import PHONE_NUMBER_ID, WhatsAppFault, WhatsAppStandIn
from tests.inbound import AS_OF, Inbound
from tests.postgres import TestDatabase

ANA, USER_ID = "+5511960000001", "BR.1349abc"


@pytest.fixture
def inbound(database: TestDatabase) -> Inbound:
    return Inbound(database)


@pytest.fixture
def stand_in(inbound: Inbound) -> Iterator[WhatsAppStandIn]:
    with WhatsAppStandIn(inbound.landing, now=lambda: AS_OF, has_read=True) as started:
        yield started


@pytest.fixture
def sender(stand_in: WhatsAppStandIn) -> Iterator[WhatsAppSender]:
    with WhatsAppSender(stand_in.url, PHONE_NUMBER_ID, stand_in.token) as opened:
        yield opened


def message(to: str | None, recipient: str | None = None) -> TemplateMessage:
    attempt_id = uuid4()
    return TemplateMessage(
        attempt_id=attempt_id,
        template="nome",
        to=to,
        recipient=recipient,
        body=("Ana",),
        buttons=(f"certificate_alert:renew:{attempt_id}",),
    )


def statuses(inbound: Inbound, sent: TemplateMessage) -> list[tuple[object, ...]]:
    return inbound.rows(
        "select status, error_code, pricing_category from pipeline.message_statuses "
        "where attempt_id = :attempt order by status_at",
        attempt=sent.attempt_id,
    )


@pytest.mark.parametrize(("to", "recipient"), [(ANA, None), (None, USER_ID)])
def test_statuses_are_loaded_with_the_attempt_that_they_are_of(
    inbound: Inbound,
    stand_in: WhatsAppStandIn,
    sender: WhatsAppSender,
    to: str | None,
    recipient: str | None,
) -> None:
    told, failed, silent = (message(to, recipient) for _ in range(3))
    sender.send(told)
    stand_in.fail_later(131026)
    sender.send(failed)
    stand_in.fail(WhatsAppFault.SILENT)
    sender.send(silent)
    inbound.load()
    assert statuses(inbound, told) == [
        ("sent", None, "utility"),
        ("delivered", None, "utility"),
        ("read", None, None),
    ]
    assert statuses(inbound, failed) == [("sent", None, "utility"), ("failed", 131026, None)]
    assert statuses(inbound, silent) == []
    assert inbound.rows("select reason from pipeline.quarantine") == []


@pytest.mark.parametrize(("to", "recipient"), [(ANA, None), (None, USER_ID)])
def test_a_pressed_button_is_loaded_as_an_answer_of_its_client(
    inbound: Inbound,
    stand_in: WhatsAppStandIn,
    sender: WhatsAppSender,
    to: str | None,
    recipient: str | None,
) -> None:
    told = message(to, recipient)
    sender.send(told)
    stand_in.press(str(told.attempt_id), 0)
    inbound.load()
    assert inbound.rows("select payload from pipeline.button_replies") == [(told.buttons[0],)]
    assert inbound.rows("select count(*) from users") == [(1,)]
    assert inbound.rows("select reason from pipeline.quarantine") == []


def test_sample_certificates_are_laid_once_and_only_where_there_are_clients(
    inbound: Inbound,
) -> None:
    told: list[str] = []
    lay_sample_certificates(inbound.settings, told.append)
    assert told == ["no sample certificates: there are no clients yet"]
    for number in range(20):
        inbound.insert_user(f"+55119600000{number:02}")
    for _ in range(2):
        lay_sample_certificates(inbound.settings, told.append)
    assert len(told) == 2
    counts = inbound.rows(
        "select count(*) from certificates group by user_id order by count(*) desc limit 3"
    )
    assert counts == [(7,), (2,), (1,)]
    assert inbound.one(
        "select count(distinct user_id) filter (where email is null) > 0, "
        "count(distinct user_id) filter (where email is not null) > 0, "
        "bool_or(expires_at < now()), bool_or(expires_at > now() + interval '61 days') "
        "from certificates join users on users.id = user_id"
    ) == (True, True, True, True)
