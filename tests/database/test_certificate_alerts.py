"""Certificate alerts over a real database: who is told, once, by what, and what stops it."""

from __future__ import annotations

from datetime import date, timedelta

import pytest

from gatte_pipelines.errors import ConfigurationError
from gatte_pipelines.messaging.channels import Outcome, SendResult
from tests.certificates import AlertWorld, at
from tests.postgres import TestDatabase

# A Tuesday without a holiday near it.
TODAY = date(2026, 3, 10)
FAILED = SendResult(outcome=Outcome.FAILED, reason="undeliverable", error_code=131026)
UNKNOWN = SendResult(outcome=Outcome.UNKNOWN, reason="unknown")
DEFERRED = SendResult(outcome=Outcome.DEFERRED, reason="rate_limited", error_code=130429)
DOWN = SendResult(outcome=Outcome.FAILED, reason="token", error_code=190, stops_channel=True)


@pytest.fixture
def world(database: TestDatabase) -> AlertWorld:
    made = AlertWorld(database)
    made.open_for_business()
    return made


def in_days(days: int) -> date:
    return TODAY + timedelta(days=days)


def test_what_is_due_is_told_once(world: AlertWorld) -> None:
    ana = world.client()
    due, later = world.certificate(ana, in_days(15)), world.certificate(ana, in_days(75))
    report = world.run(TODAY)
    assert report.outcome == "completed"
    assert world.told(due) == ["whatsapp"]
    assert world.told(later) == []
    assert world.steps(due) == {60: "superseded", 30: "superseded", 15: "told"}
    assert world.run(TODAY, "09:30").reason == "nothing_to_do"
    assert world.run(in_days(1)).reason == "nothing_to_do"
    assert world.told(due) == ["whatsapp"]


def test_down_three_days_across_two_thresholds_is_one_message(world: AlertWorld) -> None:
    due = world.certificate(world.client(), in_days(8))
    world.run(TODAY)
    assert world.told(due) == ["whatsapp"]
    world.run(in_days(7))
    assert world.told(due) == ["whatsapp"] * 2
    assert world.steps(due) == {
        60: "superseded",
        30: "superseded",
        15: "told",
        7: "superseded",
        1: "told",
    }


def test_one_message_tells_a_client_of_all_that_is_due(world: AlertWorld) -> None:
    ana = world.client()
    certificates = {world.certificate(ana, in_days(days)) for days in (7, 7, 15, 30, 59)}
    world.run(TODAY)
    (call,) = world.calls
    assert call.certificates == certificates


def test_the_next_channel_is_for_what_failed(world: AlertWorld) -> None:
    world.whatsapp.answer = lambda _call: FAILED
    due = world.certificate(world.client(email="ana@example.com"), in_days(7))
    world.run(TODAY)
    assert world.told(due) == ["whatsapp", "email"]
    assert world.steps(due)[7] == "told"


def test_unknown_goes_to_the_next_channel_after_four_business_hours(world: AlertWorld) -> None:
    world.whatsapp.answer = lambda _call: UNKNOWN
    due = world.certificate(world.client(email="ana@example.com"), in_days(7))
    world.run(TODAY)
    world.run(TODAY, "12:29")
    assert world.told(due) == ["whatsapp"]
    world.run(TODAY, "12:30")
    assert world.told(due) == ["whatsapp", "email"]
    assert "Exemplo" not in "".join(mail.html or "" for mail in world.mailbox.mails)
    assert any("e-mail" in mail.text for mail in world.mailbox.mails)


def test_a_status_tells_the_end_of_an_unknown(world: AlertWorld) -> None:
    world.whatsapp.answer = lambda _call: UNKNOWN
    due = world.certificate(world.client(email="ana@example.com"), in_days(7))
    world.run(TODAY)
    world.status(world.calls[0], "delivered", at(TODAY, "08:31"))
    world.run(TODAY, "13:00")
    assert world.told(due) == ["whatsapp"]
    assert world.steps(due)[7] == "told"
    ((sent,),) = world.rows("select alert_sent from certificates")
    assert sent


def test_what_failed_after_it_was_accepted_goes_on_by_the_next_channel(world: AlertWorld) -> None:
    due = world.certificate(world.client(email="ana@example.com"), in_days(7))
    world.run(TODAY)
    world.status(world.calls[0], "failed", at(TODAY, "08:31"), code=131026)
    world.run(TODAY, "13:00")
    assert world.told(due) == ["whatsapp", "email"]


def test_a_client_whom_no_channel_reaches_stands_in_the_digest(world: AlertWorld) -> None:
    world.whatsapp.answer = lambda _call: FAILED
    due = world.certificate(world.client(), in_days(7))
    report = world.run(TODAY)
    assert world.steps(due)[7] == "unreachable"
    assert report.skipped["unreachable"] == 1
    (digest,) = [
        mail for mail in world.mailbox.mails if mail.text.startswith("Certificados a vencer")
    ]
    assert "o destinatário não pode receber por este canal" in digest.text
    world.run(TODAY, "13:00")
    assert len(world.mailbox.mails) == 2  # staff and owner, once


def test_a_limit_is_tried_again_by_the_next_run(world: AlertWorld) -> None:
    world.whatsapp.answer = lambda _call: DEFERRED
    due = world.certificate(world.client(email="ana@example.com"), in_days(7))
    world.run(TODAY)
    assert world.steps(due)[7] == "due"
    world.whatsapp.answer = lambda _call: SendResult(outcome=Outcome.ACCEPTED)
    world.run(TODAY, "13:00")
    assert world.told(due) == ["whatsapp", "whatsapp"]
    assert world.calls[0].attempt_id == world.calls[1].attempt_id
    assert world.steps(due)[7] == "told"


def test_a_rejected_token_stops_the_channel_and_only_what_is_urgent_goes_on(
    world: AlertWorld,
) -> None:
    world.whatsapp.answer = lambda _call: DOWN
    urgent = [
        world.certificate(world.client(email=f"c{n}@example.com"), in_days(7)) for n in range(3)
    ]
    later = world.certificate(world.client(email="d@example.com"), in_days(30))
    report = world.run(TODAY)
    assert len(world.whatsapp.calls) == 1
    assert [world.told(each)[-1] for each in urgent] == ["email"] * 3
    assert world.told(later) == []
    assert world.steps(later)[30] == "due"
    assert report.skipped["channel_down"] == 1


def test_renewal_is_silence_and_the_four_siblings_are_still_told(world: AlertWorld) -> None:
    ana = world.client()
    service = world.service(ana)
    old = [world.certificate(ana, in_days(15), service_id=service) for _ in range(5)]
    world.certificate(ana, in_days(380), service_id=service, issued_on=in_days(-1))
    world.run(TODAY)
    assert sum(bool(world.told(each)) for each in old) == 4


def test_a_moved_expiry_ends_the_open_step(world: AlertWorld) -> None:
    world.whatsapp.answer = lambda _call: DEFERRED
    due = world.certificate(world.client(), in_days(7))
    world.run(TODAY)
    world.execute(
        "update certificates set expires_at = expires_at + interval '365 days' where id = :id",
        id=due,
    )
    world.run(in_days(1))
    assert world.steps(due)[7] == "renewed"
    assert len(world.calls) == 1


def test_who_opted_out_or_is_anonymised_is_told_nothing(world: AlertWorld) -> None:
    gone, out = (world.client(email=f"c{n}@example.com") for n in range(2))
    certificates = [world.certificate(user, in_days(7)) for user in (gone, out)]
    world.execute(
        "insert into pipeline.anonymized_rows (table_name, row_id, rule) "
        "values ('users', :id, 'a_rule')",
        id=gone,
    )
    world.execute(
        "insert into pipeline.opt_outs (choice_id, user_id, sender_id, chosen_at, category, "
        "is_opted_out) values (gen_random_uuid(), :id, 1, now(), 'marketing_messages', true)",
        id=out,
    )
    report = world.run(TODAY)
    assert world.calls == []
    assert (report.skipped["anonymized"], report.skipped["opted_out"]) == (1, 1)
    assert [world.steps(each)[7] for each in certificates] == ["skipped"] * 2


def test_nobody_is_written_to_outside_business_hours(world: AlertWorld) -> None:
    due = world.certificate(world.client(), "2026-11-28")
    assert world.run("2026-11-20").reason == "quiet_hours"  # a holiday
    assert world.run("2026-11-21").reason == "quiet_hours"  # a Saturday
    assert world.run("2026-11-23", "07:59").reason == "quiet_hours"
    assert world.run("2026-11-23", "18:00").reason == "quiet_hours"
    assert world.calls == []
    world.run("2026-11-23")
    assert world.told(due) == ["whatsapp"]


def test_what_is_urgent_goes_before_the_weekend(world: AlertWorld) -> None:
    sunday = world.certificate(world.client(), "2026-03-15")
    world.run("2026-03-12")
    world.run("2026-03-13")  # Friday: the steps of Saturday and Sunday
    assert world.steps(sunday) == {
        60: "superseded",
        30: "superseded",
        15: "superseded",
        7: "told",
        1: "superseded",
        0: "told",
    }


def test_the_first_run_and_many_messages_need_a_plan(database: TestDatabase) -> None:
    world = AlertWorld(database)
    due = world.certificate(world.client(), in_days(7))
    report = world.run(TODAY)
    assert (report.outcome, report.reason) == ("needs_approval", "first_run")
    assert world.calls == []
    assert world.steps(due) == {}
    world.run(TODAY, approve=world.plan_id())
    assert world.told(due) == ["whatsapp"]
    for _ in range(51):
        world.certificate(world.client(), in_days(8))
    report = world.run(in_days(1))
    assert (report.outcome, report.reason) == ("needs_approval", "many_messages")
    world.run(in_days(1), approve=world.plan_id())
    assert len(world.calls) == 52


def test_a_plan_whose_alerts_changed_is_refused(database: TestDatabase) -> None:
    world = AlertWorld(database)
    due = world.certificate(world.client(), in_days(7))
    world.run(TODAY)
    plan = world.plan_id()
    world.execute(
        "update certificates set expires_at = expires_at + interval '1 year' where id = :id",
        id=due,
    )
    with pytest.raises(ConfigurationError, match="not due any more or changed"):
        world.run(TODAY, approve=plan)
    assert world.calls == []


def test_a_plan_that_was_killed_half_way_is_carried_on(database: TestDatabase) -> None:
    world = AlertWorld(database)
    certificates = [world.certificate(world.client(), in_days(7)) for _ in range(4)]
    world.run(TODAY)
    plan = world.plan_id()

    def killed(_call: object) -> SendResult:
        if len(world.calls) == 3:
            raise SystemExit
        return SendResult(outcome=Outcome.ACCEPTED)

    world.whatsapp.answer = killed
    with pytest.raises(SystemExit):
        world.run(TODAY, approve=plan)
    world.whatsapp.answer = lambda _call: SendResult(outcome=Outcome.ACCEPTED)
    late = world.certificate(world.client(), in_days(7))
    world.run(TODAY, "08:40", approve=plan)
    # The third attempt's end is unknown: it is not made again.
    assert sorted(len(world.told(each)) for each in certificates) == [1, 1, 1, 1]
    assert world.told(late) == []


def test_killed_between_intent_and_result_neither_doubles_nor_loses(world: AlertWorld) -> None:
    due = world.certificate(world.client(email="ana@example.com"), in_days(7))

    def killed(_call: object) -> SendResult:
        raise SystemExit

    world.whatsapp.answer = killed
    with pytest.raises(SystemExit):
        world.run(TODAY)
    world.run(TODAY, "09:00")
    assert world.told(due) == ["whatsapp"]
    world.run(TODAY, "13:00")
    assert world.told(due) == ["whatsapp", "email"]
    assert world.steps(due)[7] == "told"


def test_answers_stop_what_they_make_needless(world: AlertWorld) -> None:
    renews, renewed, later = (world.client() for _ in range(3))
    certificates = {
        answer: world.certificate(user, in_days(30))
        for answer, user in (("renew", renews), ("renewed", renewed), ("later", later))
    }
    world.run(TODAY)
    calls = {call.user_id: call for call in world.calls}
    for answer, user in (("renew", renews), ("renewed", renewed), ("later", later)):
        world.press(calls[user], answer, at(TODAY, "10:00"))
    world.run(in_days(15))
    world.run(in_days(23))
    assert len(world.told(certificates["renew"])) == 2  # at 30 and at 7
    assert len(world.told(certificates["renewed"])) == 1
    assert len(world.told(certificates["later"])) == 3
    assert world.steps(certificates["renew"])[15] == "answered"
    assert world.steps(certificates["later"], "owner") == {7: "answered"}


def test_an_answer_of_somebody_else_is_none(world: AlertWorld) -> None:
    due = world.certificate(world.client(), in_days(30))
    world.run(TODAY)
    world.press(world.calls[0], "renewed", at(TODAY, "10:00"), user_id=world.client())
    world.run(in_days(15))
    assert len(world.told(due)) == 2


def test_a_renewal_lead_is_made_once_for_a_client(world: AlertWorld) -> None:
    ana = world.client(name=None)
    for days in (30, 29, 45):
        world.certificate(ana, in_days(days))
    world.run(TODAY)
    world.run(in_days(15))
    leads = world.rows("select name, source, stage, interest, user_id from leads")
    assert [(row.name, row.source, row.stage, row.user_id) for row in leads] == [
        ("Cliente sem nome", "certificado_vencendo", "new", ana)
    ]
    assert len(world.rows("select 1 from pipeline.renewal_leads")) == 3


def test_a_dry_run_shows_and_changes_nothing(world: AlertWorld) -> None:
    ana = world.client(email="ana@example.com")
    world.certificate(ana, in_days(7))
    before = world.rows("select count(*) from pipeline.certificate_changes")
    report = world.run(TODAY, dry_run=True)
    assert report.reason == "dry_run"
    assert world.calls == []
    assert world.mailbox.mails == []
    assert world.rows("select 1 from pipeline.certificate_steps") == []
    assert world.rows("select count(*) from pipeline.certificate_changes") == before
    assert "[nome]" in world.documents["previa"]
    assert "Ana" not in world.documents["previa"]
    assert str(ana) in world.documents["previa"]
    (exact,) = (world.database.home / "alert_previews").iterdir()
    assert "Ana" in exact.read_text("utf-8")
    assert exact.stat().st_mode & 0o777 == 0o600


def test_only_a_dry_run_may_look_at_another_day(world: AlertWorld) -> None:
    world.certificate(world.client(), in_days(7))
    with pytest.raises(ConfigurationError, match="current business date"):
        world.run(TODAY, now=at(in_days(1)))
    report = world.run(TODAY, dry_run=True, now=at(in_days(300)))
    assert report.reason == "dry_run"


def test_staff_are_told_of_their_steps_and_of_the_value_at_risk(world: AlertWorld) -> None:
    world.certificate(world.client(), in_days(7))
    world.run(TODAY)
    texts = [mail.text.replace("\xa0", " ") for mail in world.mailbox.mails]
    assert len(texts) == 2  # staff and owner
    assert all("R$ 100,00" in each for each in texts)
    world.run(TODAY, "13:00")
    assert len(world.mailbox.mails) == 2


def test_long_expired_certificates_are_listed_once_and_never_messaged(world: AlertWorld) -> None:
    old = world.certificate(world.client(), in_days(-40))
    crossing = world.certificate(world.client(), in_days(-30))
    world.run(TODAY)
    assert world.told(old) == []
    assert world.steps(old, "staff") == {-31: "lapsed"}
    assert len(world.told(crossing)) == 1
    world.run(in_days(1))
    assert world.steps(crossing, "staff")[-31] == "lapsed"
    mails = len(world.mailbox.mails)
    world.run(in_days(2))
    assert len(world.mailbox.mails) == mails


def test_two_hundred_certificates_of_a_client_are_one_message(world: AlertWorld) -> None:
    ana = world.client()
    service = world.service(ana)
    for number in range(200):
        world.certificate(ana, in_days(7 + number % 3), service_id=service)
    world.run(TODAY)
    (call,) = world.calls
    assert len(call.lines) == 200


def test_an_expiry_before_the_issue_is_skipped_and_told_to_staff(world: AlertWorld) -> None:
    bad = world.certificate(world.client(), in_days(7), issued_on=in_days(30))
    world.run(TODAY)
    assert world.calls == []
    assert world.steps(bad)[7] == "skipped"
    assert len(world.mailbox.mails) == 1


def test_dates_that_cannot_be_silence_no_sibling(world: AlertWorld) -> None:
    ana = world.client()
    service = world.service(ana)
    due = world.certificate(ana, in_days(7), service_id=service)
    world.certificate(ana, in_days(12), service_id=service, issued_on=in_days(30))
    world.run(TODAY)
    assert world.told(due) == ["whatsapp"]


@pytest.mark.parametrize("hour", ["08:30", "13:00"])
def test_a_failure_after_a_renewal_writes_to_nobody_again(world: AlertWorld, hour: str) -> None:
    client = world.client(email="ana@example.com")
    service = world.service(client)
    old = world.certificate(client, "2026-03-25", service_id=service)
    world.run("2026-03-10")
    world.certificate(client, "2027-03-20", service_id=service, issued_on="2026-03-10")
    world.run("2026-03-11")
    if hour != "08:30":
        world.run("2026-03-12")
    world.status(world.whatsapp.calls[0], "failed", at("2026-03-12", "08:00"), code=131026)
    world.run("2026-03-12", hour)
    assert world.told(old) == ["whatsapp"]
    assert world.steps(old)[15] == "renewed"


def test_a_failure_of_a_step_that_was_overtaken_today_is_told_no_more(world: AlertWorld) -> None:
    client = world.client(email="ana@example.com")
    certificate = world.certificate(client, "2026-03-25")
    world.run("2026-03-09")  # 16 days before: the step of 30
    world.run("2026-03-10")
    assert world.told(certificate) == ["whatsapp", "whatsapp"]
    world.status(world.whatsapp.calls[0], "failed", at("2026-03-10", "12:00"), code=131026)
    world.run("2026-03-10", "13:00")
    assert world.told(certificate) == ["whatsapp", "whatsapp"]
    assert world.steps(certificate)[30] == "superseded"


def test_a_run_in_quiet_hours_leaves_everything_to_the_next(database: TestDatabase) -> None:
    world = AlertWorld(database)
    world.certificate(world.client(), "2026-11-28")
    assert world.run("2026-11-20").reason == "quiet_hours"
    for table in ("certificate_steps", "renewal_leads", "plans"):
        assert world.rows(f"select 1 from pipeline.{table}") == []  # noqa: S608 - names of ours
    assert world.run("2026-11-23").reason == "first_run"
    world.run("2026-11-23", approve=world.plan_id())
    (digest,) = [
        mail.text for mail in world.mailbox.mails if mail.text.startswith("Certificados a vencer")
    ]
    assert "Leads de renovação" in digest or "leads de renovação" in digest.lower()
