"""Nothing that the sync with Pipedrive tells, stores, logs or raises holds a personal value."""

from __future__ import annotations

import logging
import re
import traceback
from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from gatte_pipelines.errors import GatteError
from gatte_pipelines.logging_setup import (
    TALKATIVE_LOGGERS,
    install_log_redaction,
    remove_log_redaction,
)
from gatte_pipelines.run_report import Outcome
from gatte_pipelines.sandbox.pipedrive import PipedriveFault
from tests.crm import CrmDesk, open_desk
from tests.crm_checks import assert_valid_requests
from tests.postgres import TestDatabase

# Each is a word of its own, which no name of ours, no path and no id holds.
NAME, NAME_THERE = "Zulmira Quixadense", "Wandernilson Jaboti"
COMPANY, COMPANY_THERE = "Padaria Xerofila", "Farmacia Oriovalda"
EMAIL, EMAIL_THERE = "zulmirex@example.com", "gumercinda@example.com"
PHONE, PHONE_THERE = "+5511900007654", "11 90000-8765"
NOTES, INTEREST, TITLE = "prefere Brunegunda", "plano Fulgencio", "Negocio Ubiratania"
TOKEN = "70c4b1d5" * 5
VALUES = (
    *(NAME, NAME_THERE, COMPANY, COMPANY_THERE, EMAIL, EMAIL_THERE, PHONE, PHONE_THERE),
    *(NOTES, INTEREST, TITLE, TOKEN),
)
# Parts are as bad as wholes.
FORBIDDEN = re.compile(
    "zulmir|quixadense|wandernilson|jaboti|xerofila|oriovalda|gumercinda|90000-?7654|90000-?8765"
    "|brunegunda|fulgencio|ubiratania|70c4b1d5",
    re.IGNORECASE,
)
# Where values may stand: what both sides agreed on, the number by which persons are found again,
# and what lost in a conflict.
ALLOWED = {
    "crm_links": (
        "agreed_name",
        "agreed_phone",
        "agreed_email",
        "agreed_company",
        "agreed_stage",
        "phone_key",
    ),
    "sync_conflicts": ("our_value", "their_value"),
    # The row of a lead that became part of another one, to undo that.
    "undo_records": ("record",),
}
TABLES = (
    *("runs", "plans", "watermarks", "sync_outbox", "crm_account", "crm_tokens", "gates"),
    *("external_tasks", "crm_links", "sync_conflicts", "undo_records"),
)


def assert_clean(told: str, where: str) -> None:
    found = FORBIDDEN.search(told)
    assert found is None, f"{where}: …{told[max(0, found.start() - 80) : found.end() + 20]}…"


def test_every_value_is_recognised() -> None:
    assert [value for value in VALUES if not FORBIDDEN.search(value)] == []


@pytest.fixture
def desk(database: TestDatabase) -> Iterator[CrmDesk]:
    """Both sides, without webhooks, and with a token that is recognised."""
    with open_desk(database) as opened:
        opened.crm.token = TOKEN
        yield opened


@pytest.fixture(autouse=True)
def _valid_requests(request: pytest.FixtureRequest) -> Iterator[None]:
    """Whatever a test has the sync send is valid against the specs."""
    desk = request.getfixturevalue("desk") if "desk" in request.fixturenames else None
    yield
    if desk is not None:
        assert_valid_requests(desk.crm)


@pytest.fixture(params=["redacted", "bare"])
def logged(
    request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture
) -> Iterator[pytest.LogCaptureFixture]:
    """All that any logger says at any level, with the redaction of the project and without it."""
    for name in ("", *logging.root.manager.loggerDict):
        caplog.set_level(logging.DEBUG, logger=name or None)
    if request.param == "redacted":
        install_log_redaction()
    else:
        # Those that tell whole URLs are silenced wherever this project runs.
        for name in TALKATIVE_LOGGERS:
            caplog.set_level(logging.WARNING, logger=name)
    try:
        yield caplog
    finally:
        remove_log_redaction()


class Listener:
    """Runs a desk, and hears what each run says."""

    def __init__(self, desk: CrmDesk) -> None:
        self.desk = desk
        self.errors: list[str] = []

    def sync(self, **options: Any) -> None:
        """One run; whatever it says is clean."""
        documents: dict[str, Any] = {}
        try:
            report = self.desk.sync(documents=documents, **options)
        except GatteError as error:
            self.errors.append(type(error).__name__)
            shown = "".join(traceback.format_exception(error)) + repr(error) + error.message
            assert_clean(shown, "an error")
        else:
            assert_clean(report.to_json().decode(), "a report")
            assert_clean(report.summary_pt(), "the end card")
        assert_clean(str(documents), "documents")

    def assert_stored_nothing(self) -> None:
        """Beside the columns that are for values, no table of ours holds one."""
        for table in TABLES:
            left_out = list(ALLOWED.get(table, ()))
            rows = self.desk.rows(
                f"select (to_jsonb(t) - %(left_out)s::text[])::text as row from pipeline.{table} t",  # noqa: S608
                {"left_out": left_out},
            )
            for row in rows:
                assert_clean(row["row"], f"table {table}")


def assert_logged_nothing(logged: pytest.LogCaptureFixture) -> None:
    assert_clean(logged.text, "the log")
    for record in logged.records:
        # What a handler of somebody else may make of it.
        assert_clean(f"{record.__dict__!r} {record.exc_info!r}", f"a record of {record.name}")


def add_lead(desk: CrmDesk, **values: Any) -> UUID:
    """A lead that has something to hide in every field."""
    fields = {"name": NAME, "phone": PHONE, "email": EMAIL, "company": COMPANY}
    return desk.add_lead(**{**fields, "notes": NOTES, "interest": INTEREST, **values})


def edit_both(desk: CrmDesk, lead_id: UUID, number: int) -> None:
    """Both sides change every field to something else."""
    desk.edit_lead(
        lead_id,
        name=f"{NAME} {number}",
        company=f"{COMPANY} {number}",
        email=f"{number}{EMAIL}",
        stage=("contacted", "qualified")[number % 2],
    )
    link = desk.link(lead_id)
    if link["state"] != "linked":
        return
    desk.crm.edit_person(
        link["person_id"],
        name=f"{NAME_THERE} {number}",
        phones=[PHONE_THERE],
        emails=[f"{number}{EMAIL_THERE}"],
    )
    desk.crm.edit_organization(link["organization_id"], name=f"{COMPANY_THERE} {number}")
    desk.crm.edit_lead(str(link["remote_lead_id"]), title=TITLE)


@pytest.mark.parametrize("method", ["GET", "POST", "PATCH"])
def test_no_fault_brings_a_value_to_light(
    desk: CrmDesk,
    logged: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
    method: str,
) -> None:
    listener = Listener(desk)
    listener.sync()
    old = add_lead(desk)
    listener.sync()
    for number, fault in enumerate(PipedriveFault):
        edit_both(desk, old, number)
        add_lead(desk, phone=f"ramal {PHONE[-4:]}" if number % 3 == 0 else PHONE)
        desk.crm.fail(fault, method=method, skip=number % 4)
        if fault in {PipedriveFault.SERVER_ERROR, PipedriveFault.UNAVAILABLE}:
            desk.crm.fail(fault, method=method)  # beyond the repeats
        listener.sync(after_minutes=60)
        if fault is PipedriveFault.DAILY_BUDGET:
            assert desk.reports[-1].reason == "budget"
            desk.clock.pass_by(hours=24)
    listener.sync(after_minutes=24 * 60)
    assert listener.errors, "some ended the run"
    assert desk.conflicts, "and some had both sides differ"
    listener.assert_stored_nothing()
    assert_logged_nothing(logged)
    assert_clean("".join(capfd.readouterr()), "standard output and error")


# What stands where something else is due; the answer's own error texts among it.
ODD = (
    ("GET", "/leads$", "data.update_time"),
    ("GET", "/leads$", "data.label_ids"),
    ("GET", "/persons$", "data.phones"),
    ("GET", "/persons$", "data.name"),
    ("GET", "/deals$", "additional_data.next_cursor"),
    ("GET", "/persons/search", "data.items"),
    ("GET", "/persons/[0-9]", "data.emails"),
    ("GET", "/leads/[0-9a-f]", "data.person_id"),
    ("POST", "/persons$", "data.id"),
    ("POST", "/leads$", "data.id"),
    ("POST", "/notes$", "data"),
    ("PATCH", "/persons/", "data.update_time"),
    ("GET", "/users/me", "data.company_id"),
    ("GET", "/leadLabels", "data.name"),
    ("GET", "/dealFields", "data.field_type"),
)


def test_no_odd_answer_brings_a_value_to_light(
    desk: CrmDesk, logged: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    listener = Listener(desk)
    listener.sync()
    old = add_lead(desk)
    listener.sync()
    for number, (method, path, key) in enumerate(ODD):
        edit_both(desk, old, number)
        add_lead(desk)
        text = f"{NAME_THERE} {PHONE} {EMAIL}"
        odd = text if number % 2 or key.endswith("name") else {NAME: [PHONE_THERE]}
        desk.crm.alter(key, odd, method=method, path=path)
        listener.sync(after_minutes=24 * 60 if path in {"/users/me", "/leadLabels"} else 60)
        listener.sync(after_minutes=24 * 60)
    assert {"UnreadableAnswerError", "BadInputError"} <= set(listener.errors)
    listener.assert_stored_nothing()
    assert_logged_nothing(logged)
    assert_clean("".join(capfd.readouterr()), "standard output and error")


def test_nothing_that_is_refused_merged_deleted_or_taken_in_brings_a_value_to_light(
    desk: CrmDesk, logged: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    listener = Listener(desk)
    desk.imports = True
    first, second = add_lead(desk), add_lead(desk, phone="+5511900001111", email=None)
    gone = add_lead(desk, phone="+5511900002222", email=None, crm_id="sem registro")
    listener.sync()
    # Refused, with a text that repeats what was sent.
    hot = next(key for key, row in desk.crm.account.labels.items() if row["name"] == "Hot")
    label = desk.crm.account.labels.pop(hot)
    refused = add_lead(desk, stage="qualified")
    for _ in range(3):
        desk.crm.alter("error", f"{NAME} {EMAIL}", method="POST", path="/leads$")
        desk.crm.alter("error_info", f"{NAME} {EMAIL}", method="POST", path="/leads$")
    listener.sync()
    assert desk.link(refused)["state"] == "pending"
    desk.crm.account.labels[hot] = label
    # Merged, deleted, archived, converted, too long, of nobody.
    desk.crm.merge_persons(desk.link(first)["person_id"], desk.link(second)["person_id"])
    desk.crm.edit_person(desk.link(first)["person_id"], name=NAME_THERE * 9, phones=["ramal 7654"])
    person_id = desk.crm.add_person(name=NAME_THERE, phones=[PHONE_THERE], emails=[EMAIL_THERE])
    desk.crm.add_lead(title=TITLE, person_id=person_id)
    desk.crm.add_lead(title=TITLE, person_id=desk.crm.add_person(name=NAME_THERE))
    converted = add_lead(desk, phone="+5511900003333", email=None)
    listener.sync()
    desk.crm.convert_lead(str(desk.link(converted)["remote_lead_id"]))
    desk.crm.delete_lead(str(desk.link(first)["remote_lead_id"]))
    desk.edit_lead(first, name=NAME)
    listener.sync(dry_run=True)
    listener.sync(after_minutes=24 * 60)
    kinds = {conflict["kind"] for conflict in desk.conflicts}
    assert {"deleted", "merged"} <= kinds
    assert desk.link(gone)["state"] == "deleted"
    # Too much at once, with a plan and its table.
    for number in range(26):
        add_lead(
            desk, phone=f"{PHONE[:-4]}{number:04}", created_at=desk.clock() - timedelta(days=1)
        )
    listener.sync()
    assert desk.reports[-1].outcome is Outcome.NEEDS_APPROVAL
    listener.sync(token=f"{TOKEN}ff", after_minutes=24 * 60)
    assert "AccessRefusedError" in listener.errors
    assert len(desk.reports) == 5
    listener.assert_stored_nothing()
    assert_logged_nothing(logged)
    assert_clean("".join(capfd.readouterr()), "standard output and error")
