"""Which step is current when, what replaces what, and what a wrong configuration is told."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from itertools import permutations
from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatte_pipelines.certificates.policy import (
    AUDIENCES,
    TYPES,
    Answer,
    Issued,
    answered,
    current_steps,
    higher_thresholds,
    is_open,
    new_steps,
    pair_successors,
)
from gatte_pipelines.certificates.policy_text import parse_alert_policy, parse_recipients
from gatte_pipelines.certificates.sequence import Attempt, Move, next_move
from gatte_pipelines.errors import BadInputError
from tests.certificates import CALENDAR, POLICY, REPOSITORY, at

ALERTS = (REPOSITORY / "config" / "alerts.yaml").read_text("utf-8")
RECIPIENTS = (REPOSITORY / "config" / "recipients.yaml").read_text("utf-8")
DEFAULT = ("equipe@example.com",)
DAYS = st.dates(date(2025, 1, 1), date(2027, 12, 31))


def naive_current(audience: str, expiry: date, on: date) -> int | None:
    """The current step, read day by day from the rule as people say it."""
    current = None
    for threshold in POLICY.thresholds["e-CPF", audience]:
        day = expiry - timedelta(days=threshold)
        step = timedelta(days=-1 if threshold <= 7 else 1)
        while not CALENDAR.is_business_day(day):
            day += step
        if day <= on:
            current = threshold if current is None else min(current, threshold)
    return current if (expiry - on).days >= -30 else None


@given(DAYS, st.integers(-40, 90), st.sampled_from(AUDIENCES))
def test_the_current_step_is_the_one_that_a_person_would_read_off(
    on: date, days: int, audience: str
) -> None:
    expiry = on + timedelta(days=days)
    found = [
        window.threshold
        for window in current_steps(POLICY, CALENDAR, on)
        if (window.type, window.audience, window.expiry_date) == ("e-CPF", audience, expiry)
    ]
    expected = naive_current(audience, expiry, on)
    assert found == ([] if expected is None else [expected])


@given(DAYS, st.integers(1, 12))
def test_days_that_were_missed_lose_no_step(before: date, missed: int) -> None:
    on = before + timedelta(days=missed)
    assert new_steps(POLICY, CALENDAR, before, on) | (
        current_steps(POLICY, CALENDAR, before) & current_steps(POLICY, CALENDAR, on)
    ) == current_steps(POLICY, CALENDAR, on)


def test_a_step_overtakes_those_with_more_days() -> None:
    assert higher_thresholds(POLICY, "e-CT", "client", 15) == (60, 30)
    assert higher_thresholds(POLICY, "e-CT", "client", 60) == ()


@pytest.mark.parametrize(
    ("hour", "is_it"), [("07:59", False), ("08:00", True), ("17:59", True), ("18:00", False)]
)
def test_clients_are_written_to_in_business_hours(hour: str, is_it: bool) -> None:
    assert is_open(POLICY, CALENDAR, at("2026-03-10", hour)) is is_it
    assert not is_open(POLICY, CALENDAR, at("2026-03-14", hour))


@pytest.mark.parametrize(
    ("audience", "threshold", "answers", "needless"),
    [
        ("client", 15, {Answer.RENEW}, True),
        ("client", 7, {Answer.RENEW}, False),
        ("client", 0, {Answer.RENEWED}, True),
        ("client", 15, {Answer.LATER}, False),
        ("client", 7, {Answer.RENEW, Answer.RENEWED}, True),
        ("client", 15, set(), False),
        ("owner", 7, {Answer.LATER}, True),
        ("owner", 7, set(), False),
        ("manager", 1, {Answer.RENEW}, True),
        ("staff", 7, set(Answer), False),
    ],
)
def test_an_answer_makes_needless_what_it_answers(
    audience: str, threshold: int, answers: set[Answer], needless: bool
) -> None:
    assert answered(POLICY, audience, threshold, answers) is needless


# --- What replaces what ---------------------------------------------------------------------------

START = datetime(2026, 1, 1, tzinfo=UTC)


def issued(number: int, issued_day: int, expires_day: int, status: str = "valid") -> Issued:
    return Issued(
        certificate_id=UUID(int=number),
        issued_at=START + timedelta(days=issued_day),
        expires_at=START + timedelta(days=expires_day),
        status=status,
    )


def test_one_renewal_replaces_one_of_five_siblings() -> None:
    old = [issued(n, 0, 365) for n in range(1, 6)]
    pairing = pair_successors([*old, issued(9, 350, 715)])
    assert len(pairing.replaced) == 1
    assert set(pairing.replaced.values()) == {UUID(int=9)}
    assert len(pairing.maybe) == 4


def test_a_chain_of_renewals_replaces_all_but_the_last() -> None:
    chain = [issued(n, 360 * n, 360 * n + 365) for n in range(4)]
    assert set(pair_successors(chain).replaced) == {one.certificate_id for one in chain[:3]}


@pytest.mark.parametrize(
    ("issued_day", "replaces"), [(274, False), (275, True), (425, True), (426, False)]
)
def test_a_successor_is_issued_around_the_expiry(issued_day: int, replaces: bool) -> None:
    pairing = pair_successors([issued(1, 0, 365), issued(2, issued_day, 900)])
    assert bool(pairing.replaced) is replaces


@pytest.mark.parametrize("status", ["revoked", "pending"])
def test_what_is_revoked_or_pending_replaces_nothing(status: str) -> None:
    assert pair_successors([issued(1, 0, 365), issued(2, 350, 715, status)]).replaced == {}


@given(st.lists(st.tuples(st.integers(0, 800), st.integers(1, 500)), max_size=6), st.randoms())
def test_pairing_is_one_to_one_and_whatever_the_order(
    spans: list[tuple[int, int]], random: object
) -> None:
    group = [issued(n, first, first + length) for n, (first, length) in enumerate(spans)]
    pairing = pair_successors(group)
    assert len(set(pairing.replaced.values())) == len(pairing.replaced)
    assert not pairing.maybe & pairing.replaced.keys()
    by_id = {one.certificate_id: one for one in group}
    for old, new in pairing.replaced.items():
        assert by_id[new].issued_at > by_id[old].issued_at
        assert by_id[new].expires_at > by_id[old].expires_at
    for order in list(permutations(group))[:6]:
        assert pair_successors(order) == pairing


# --- The next channel -----------------------------------------------------------------------------

NOW = at("2026-03-10", "12:30")
ORDER = ("whatsapp", "email")


def attempt(channel: str, state: str, hours: float = 4, reason: str | None = None) -> Attempt:
    return Attempt(
        attempt_id=UUID(int=1),
        channel=channel,
        state=state,
        reason=reason,
        intended_at=NOW - timedelta(hours=hours),
    )


@pytest.mark.parametrize(
    ("attempts", "allowed", "move", "channel", "reason"),
    [
        ([], ORDER, Move.SEND, "whatsapp", ""),
        ([], ("email",), Move.WAIT, "", "channel_off"),
        ([attempt("whatsapp", "failed")], ORDER, Move.SEND, "email", ""),
        ([attempt("whatsapp", "unknown", 3.9)], ORDER, Move.WAIT, "", "waiting"),
        ([attempt("whatsapp", "intended", 3.9)], ORDER, Move.WAIT, "", "waiting"),
        ([attempt("whatsapp", "unknown")], ORDER, Move.SEND, "email", ""),
        ([attempt("whatsapp", "deferred")], ORDER, Move.SEND, "whatsapp", ""),
        ([attempt("whatsapp", "accepted")], ORDER, Move.WAIT, "", "accepted"),
        (
            [
                attempt("whatsapp", "failed", reason="undeliverable"),
                attempt("email", "failed", reason="no_email"),
            ],
            ORDER,
            Move.GIVE_UP,
            "",
            "undeliverable",
        ),
        (
            [
                attempt("whatsapp", "failed", reason="no_phone"),
                attempt("email", "failed", reason="no_email"),
            ],
            ORDER,
            Move.GIVE_UP,
            "",
            "no_channel",
        ),
        (
            [attempt("whatsapp", "failed"), attempt("email", "unknown", 9)],
            ORDER,
            Move.GIVE_UP,
            "",
            "unknown",
        ),
    ],
)
def test_the_next_move_of_a_step(
    attempts: list[Attempt], allowed: tuple[str, ...], move: Move, channel: str, reason: str
) -> None:
    found = next_move(
        ORDER,
        {one.channel: one for one in attempts},
        allowed=allowed,
        silence=lambda since: NOW - since,
        patience=timedelta(hours=4),
    )
    assert (found.move, found.channel, found.reason) == (move, channel, reason)


# --- The files ------------------------------------------------------------------------------------


def test_the_shipped_policy_says_what_was_agreed() -> None:
    policy = parse_alert_policy(ALERTS, "alerts.yaml")
    for type_ in TYPES:
        assert policy.thresholds[type_, "client"] == (60, 30, 15, 7, 1, 0)
        assert policy.thresholds[type_, "staff"] == (7, 1, 0, -7)
    assert (policy.last_days, policy.urgent_days, policy.unknown_hours) == (30, 7, 4)
    assert policy.approval_messages == 50
    assert policy.channels["client"] == ("whatsapp", "email")


def test_a_type_may_have_its_own_steps() -> None:
    text = ALERTS.replace("last_step_days:", "  e-CT:\n    client: [20]\nlast_step_days:", 1)
    policy = parse_alert_policy(text, "alerts.yaml")
    assert policy.thresholds["e-CT", "client"] == (20,)
    assert policy.thresholds["e-CT", "staff"] == (7, 1, 0, -7)
    assert policy.thresholds["e-CPF", "client"] == (60, 30, 15, 7, 1, 0)
    assert policy.digest != POLICY.digest


@pytest.mark.parametrize(
    ("written", "instead", "field"),
    [
        ("client: [60, 30, 15, 7, 1, 0]", "client: [60, 60]", "steps.all.client[1]"),
        ("client: [60, 30, 15, 7, 1, 0]", "client: [7, 30]", "steps.all.client[1]"),
        ("client: [60, 30, 15, 7, 1, 0]", "client: [1000]", "steps.all.client[0]"),
        ("client: [60, 30, 15, 7, 1, 0]", "client: []", "steps.all.client"),
        ("client: [60, 30, 15, 7, 1, 0]", "client: 60", "steps.all.client"),
        ("staff: [7, 1, 0, -7]", "staff: [7, -31]", "steps.all.staff[1]"),
        ("manager: [1]", "boss: [1]", "steps.all.boss"),
        ("  all:\n    client", "  e-XYZ:\n    client", "steps.e-XYZ"),
        ("last_step_days: 30", "last_step_days: 0", "last_step_days"),
        ("urgent_days: 7", "urgent_days: sete", "urgent_days"),
        ('to: "18:00"', 'to: "08:00"', "contact_hours.to"),
        ('from: "08:00"', 'from: "8h"', "contact_hours.from"),
        ("unknown_hours: 4", "unknown_hours: 0", "unknown_hours"),
        ("client_messages: 50", "client_messages: 0", "approval.client_messages"),
        ("client: [whatsapp, email]", "client: [pombo]", "channels.client[0]"),
        ("client: [whatsapp, email]", "client: [email, email]", "channels.client[1]"),
        ("staff: [email]", "staff: [whatsapp]", "channels.staff[0]"),
        ("renew: 7", "renew: talvez", "client_is_told_again_at.renew"),
        ("name: gatte_certificados", "name: Gatte-Certificados", "template.name"),
        ("version: 1", "version: 0", "template.version"),
        ("renewal_lead_days: 30", "surprise: 30", "surprise"),
    ],
)
def test_a_mistake_in_the_policy_is_named_by_line_and_field(
    written: str, instead: str, field: str
) -> None:
    text = ALERTS.replace(written, instead, 1)
    assert text != ALERTS
    with pytest.raises(BadInputError) as refusal:
        parse_alert_policy(text, "alerts.yaml")
    assert refusal.value.file == "alerts.yaml"
    assert (refusal.value.field or "").replace("?", "e-XYZ") == field
    changed = next(
        n
        for n, (was, is_now) in enumerate(
            zip(ALERTS.splitlines(), text.splitlines(), strict=True), start=1
        )
        if was != is_now
    )
    assert refusal.value.line is not None
    assert abs(refusal.value.line - changed) <= 1


def test_recipients_fall_back_to_the_default_and_a_type_may_have_its_own() -> None:
    shipped = parse_recipients(RECIPIENTS, "recipients.yaml", DEFAULT)
    assert shipped.to("staff", TYPES) == DEFAULT
    own = parse_recipients(
        RECIPIENTS.replace(
            "owner:\n  all: default", "owner:\n  all: [a@example.com]\n  e-CT: [b@example.com]"
        ),
        "recipients.yaml",
        DEFAULT,
    )
    assert own.to("owner", {"e-CPF"}) == ("a@example.com",)
    assert own.to("owner", {"e-CT"}) == ("b@example.com",)
    assert own.to("owner", {"e-CPF", "e-CT"}) == ("a@example.com", "b@example.com")
    assert own.to("manager", {"e-CT"}) == DEFAULT
    assert "example.com" not in repr(own)


@pytest.mark.parametrize("address", ["quem@", "a b@example.com", "x@exam ple.com", "@example.com"])
def test_an_address_that_is_none_is_refused_unseen(address: str) -> None:
    text = RECIPIENTS.replace("owner:\n  all: default", f'owner:\n  all: ["{address}"]')
    with pytest.raises(BadInputError) as refusal:
        parse_recipients(text, "recipients.yaml", DEFAULT)
    assert refusal.value.field == "owner.all[0]"
    assert address not in str(refusal.value)


def test_an_audience_that_is_missing_is_named() -> None:
    with pytest.raises(BadInputError) as refusal:
        parse_recipients("staff:\n  all: default\n", "recipients.yaml", DEFAULT)
    assert refusal.value.field == "owner"


def test_the_configuration_is_read_from_its_folder(tmp_path: Path) -> None:
    assert parse_alert_policy(ALERTS, "alerts.yaml") == POLICY
