"""Alerts from the database to the outside and back: real HTTP and SMTP, real webhooks loaded."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest

from gatte_pipelines.certificates.alerts import PIPELINE
from gatte_pipelines.database.runs import run_recorded
from gatte_pipelines.errors import BadInputError, ConfigurationError
from gatte_pipelines.run_report import RunReport
from gatte_pipelines.sandbox.smtp import SmtpFault, SmtpStandIn
from gatte_pipelines.sandbox.whatsapp import PHONE_NUMBER_ID, WhatsAppFault, WhatsAppStandIn
from gatte_pipelines.wiring import Wiring
from tests.certificates import REPOSITORY, STAFF, AlertWorld, at
from tests.inbound import Inbound
from tests.postgres import TestDatabase

TODAY = date(2026, 3, 10)
ANA, BRUNO = "+5511960000001", "+5511960000002"
# What must stand nowhere but in the messages themselves.
NAME, EMAIL = "Quitéria", "quiteria@example.com"


@pytest.fixture
def world(database: TestDatabase) -> AlertWorld:
    made = AlertWorld(database)
    made.open_for_business()
    return made


@pytest.fixture
def whatsapp(database: TestDatabase) -> Iterator[WhatsAppStandIn]:
    with WhatsAppStandIn(database.home / "landing", now=lambda: at(TODAY, "08:31")) as started:
        yield started


@pytest.fixture
def smtp(database: TestDatabase) -> Iterator[SmtpStandIn]:
    with SmtpStandIn(database.home / "mail") as started:
        yield started


@pytest.fixture
def inbound(database: TestDatabase, whatsapp: WhatsAppStandIn, smtp: SmtpStandIn) -> Inbound:
    return Inbound(
        database,
        whatsapp_base_url=whatsapp.url,
        whatsapp_phone_number_id=PHONE_NUMBER_ID,
        whatsapp_token=whatsapp.token,
        smtp_url=smtp.url,
        staff_email=STAFF,
        config=REPOSITORY / "config",
    )


def alert(inbound: Inbound, day: date = TODAY, hour: str = "08:30", **options: Any) -> RunReport:
    as_of = at(day, hour)
    with (
        Wiring(inbound.settings) as wiring,
        wiring.migrated() as connection,
        wiring.certificate_alerts(connection, channels=(), now=as_of) as operation,
    ):
        return run_recorded(
            connection,
            pipeline=PIPELINE,
            as_of=as_of,
            body=lambda report: operation.alert(report, **{"dry_run": False} | options),
            lock=PIPELINE,
        )


def text_of(smtp: SmtpStandIn, to: str) -> list[str]:
    return [
        str(mail.get_body(("plain",)).get_content())  # type: ignore[union-attr]
        for mail in smtp.messages
        if to in str(mail["To"])
    ]


def test_a_client_is_told_on_whatsapp_and_its_statuses_and_answer_come_back(
    world: AlertWorld,
    whatsapp: WhatsAppStandIn,
    smtp: SmtpStandIn,
    inbound: Inbound,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    ana = world.client(name=f"{NAME} Exemplo", email=EMAIL)
    world.execute("update users set phone = :phone where id = :id", phone=ANA, id=ana)
    for days in (7, 15, 30):
        world.certificate(ana, TODAY + timedelta(days=days), type="e-CPF")
    report = alert(inbound)
    (message,) = whatsapp.messages
    assert (message.to, message.template) == (ANA, "gatte_certificados_v1_3")
    assert message.body[0] == NAME
    assert "vence em 17/03/2026, em 7 dias" in message.body[1]
    assert text_of(smtp, EMAIL) == []
    assert inbound.load(at(TODAY, "08:35")).inserted > 0
    whatsapp.press(message.attempt_id, 0)
    inbound.load(at(TODAY, "08:40"))
    alert(inbound, hour="13:00")
    assert inbound.rows("select state from pipeline.alert_messages where channel = 'whatsapp'") == [
        ("delivered",)
    ]
    assert {row[0] for row in inbound.rows("select answer from pipeline.certificate_answers")} == {
        "renew"
    }
    digests = "\n".join(text_of(smtp, STAFF))
    assert "quer renovar" in digests
    records = "\n".join(str(row) for row in inbound.rows("select * from pipeline.runs"))
    told = [report.to_json().decode(), report.summary_pt(), digests, records, caplog.text]
    for personal in (NAME, EMAIL, ANA[1:], "wamid."):
        assert not any(personal in text for text in told), personal
    assert not any(whatsapp.token in text for text in told)


def test_a_lost_answer_is_found_again_by_its_statuses(
    world: AlertWorld, whatsapp: WhatsAppStandIn, smtp: SmtpStandIn, inbound: Inbound
) -> None:
    ana = world.client(email=EMAIL)
    world.execute("update users set phone = :phone where id = :id", phone=ANA, id=ana)
    due = world.certificate(ana, TODAY + timedelta(days=7))
    whatsapp.fail(WhatsAppFault.GARBAGE)
    alert(inbound)
    assert world.steps(due)[7] == "due"
    inbound.load(at(TODAY, "08:35"))
    alert(inbound, hour="13:00")
    assert world.steps(due)[7] == "told"
    assert len(whatsapp.messages) == 1
    assert text_of(smtp, EMAIL) == []


def test_a_number_that_is_not_on_whatsapp_is_tried_in_its_other_form_once(
    world: AlertWorld, whatsapp: WhatsAppStandIn, inbound: Inbound
) -> None:
    ana = world.client()
    world.execute("update users set phone = :phone where id = :id", phone=ANA, id=ana)
    due = world.certificate(ana, TODAY + timedelta(days=7))
    whatsapp.refuse(131026, to=ANA)
    alert(inbound)
    assert [message.to for message in whatsapp.messages] == ["+551160000001"]
    assert world.steps(due)[7] == "told"


def test_a_missing_template_goes_on_by_mail_and_staff_are_told(
    world: AlertWorld, whatsapp: WhatsAppStandIn, smtp: SmtpStandIn, inbound: Inbound
) -> None:
    world.certificate(world.client(email=EMAIL), TODAY + timedelta(days=7))
    whatsapp.refuse(132001)
    alert(inbound)
    (mail,) = text_of(smtp, EMAIL)
    assert "vence em 17/03/2026" in mail
    assert any("não existe ou não foi aprovado" in digest for digest in text_of(smtp, STAFF))


def test_a_rejected_token_crashes_nothing_and_stands_in_the_digest(
    world: AlertWorld, smtp: SmtpStandIn, inbound: Inbound
) -> None:
    inbound.settings = inbound.database.settings(
        **{
            name: getattr(inbound.settings, name)
            for name in (
                "whatsapp_base_url",
                "whatsapp_phone_number_id",
                "smtp_url",
                "staff_email",
                "config",
            )
        },
        whatsapp_token="w" * 30,
    )
    due = world.certificate(world.client(email=EMAIL), TODAY + timedelta(days=7))
    alert(inbound)
    assert world.steps(due)[7] == "told"
    assert len(text_of(smtp, EMAIL)) == 1
    assert any("o token de acesso foi recusado" in digest for digest in text_of(smtp, STAFF))


def test_a_mailbox_that_does_not_answer_leaves_nothing_silent(
    world: AlertWorld, whatsapp: WhatsAppStandIn, smtp: SmtpStandIn, inbound: Inbound
) -> None:
    due = world.certificate(world.client(email=EMAIL), TODAY + timedelta(days=7))
    whatsapp.refuse(131047)
    smtp.fail(SmtpFault.RECIPIENT)
    alert(inbound)
    assert world.steps(due)[7] == "unreachable"
    assert any("recusou o destinatário" in digest for digest in text_of(smtp, STAFF))


@pytest.mark.parametrize(
    ("missing", "named"),
    [
        ({"whatsapp_token": None}, "GATTE_WHATSAPP_TOKEN"),
        ({"smtp_url": None}, "GATTE_SMTP_URL"),
        ({"staff_email": None}, "GATTE_STAFF_EMAIL"),
        ({"holiday_state": "XX"}, "GATTE_HOLIDAY_STATE"),
    ],
)
def test_a_missing_setting_is_named_before_any_work_starts(
    database: TestDatabase, missing: dict[str, Any], named: str
) -> None:
    values: dict[str, Any] = {
        "whatsapp_phone_number_id": PHONE_NUMBER_ID,
        "whatsapp_token": "w" * 30,
        "smtp_url": "smtp://127.0.0.1:9",
        "staff_email": STAFF,
        "config": REPOSITORY / "config",
    }
    with (
        Wiring(database.settings(**values | missing)) as wiring,
        pytest.raises(ConfigurationError, match=named),
    ):
        wiring.run("certificate_alerts", execute=True)


def test_a_wrong_configuration_is_named_by_file_line_and_field(
    database: TestDatabase, tmp_path: Path
) -> None:
    folder = tmp_path / "config"
    folder.mkdir()
    for path in (REPOSITORY / "config").iterdir():
        content = path.read_text("utf-8").replace("[60, 30, 15, 7, 1, 0]", "[60, 30, 30]")
        (folder / path.name).write_text(content, "utf-8")
    settings = database.settings(
        whatsapp_phone_number_id=PHONE_NUMBER_ID,
        whatsapp_token="w" * 30,
        smtp_url="smtp://127.0.0.1:9",
        staff_email=STAFF,
        config=folder,
    )
    with Wiring(settings) as wiring, pytest.raises(BadInputError) as refusal:
        wiring.run("certificate_alerts")
    assert str(refusal.value).startswith("alerts.yaml, line ")
    assert refusal.value.field == "steps.all.client[2]"
