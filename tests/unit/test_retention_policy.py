"""A policy that cannot be right is refused with file, line, field and what is expected."""

from __future__ import annotations

import re
import time
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatte_pipelines.config_tree import MAX_CHARACTERS
from gatte_pipelines.errors import BadInputError, ConfigurationError
from gatte_pipelines.personal_data import personal_columns
from gatte_pipelines.privacy.policy import (
    RULE_NAMES,
    Action,
    Direction,
    Period,
    Policy,
    PolicyChange,
    compare_limits,
    parse_policy,
    shorten,
)
from gatte_pipelines.privacy.policy_file import read_policy
from gatte_pipelines.sandbox.local_stack import RUNS_KEPT

FILE = "retention.yaml"
REAL = (Path(__file__).parents[2] / "config" / FILE).read_text("utf-8")


@pytest.fixture(scope="module")
def policy() -> Policy:
    return parse_policy(REAL, FILE)


def line_of(text: str, *path: str) -> int:
    """The line on which the last of these names begins, each looked for after the one before."""
    at = 0
    for name in path:
        match = re.compile(rf"^ *{name}:", re.MULTILINE).search(text, at)
        assert match, name
        at = match.end()
    return text.count("\n", 0, at) + 1


def change(rule: str, old: str, new: str, text: str = REAL) -> str:
    """The policy with a piece of one rule replaced; it must be there."""
    begin = re.search(rf"^  {rule}:$", text, re.MULTILINE)
    assert begin, rule
    after = re.search(r"^  [a-z_]+:$", text[begin.end() :], re.MULTILINE)
    end = begin.end() + after.start() if after else len(text)
    body = text[begin.end() : end]
    assert old in body, old
    return text[: begin.end()] + body.replace(old, new, 1) + text[end:]


def refusal(text: str) -> BadInputError:
    with pytest.raises(BadInputError) as caught:
        parse_policy(text, FILE)
    error = caught.value
    assert error.message.startswith(f"{FILE}, line {error.line}, {error.field}: ")
    assert "expected" in error.reason
    return error


def assert_refused(text: str, field: str, line: int, reason: str) -> None:
    error = refusal(text)
    assert (error.field, error.line) == (field, line)
    assert reason in error.reason


# --- What the real policy says --------------------------------------------------------------------


def test_the_real_policy_has_every_rule_once(policy: Policy) -> None:
    assert sorted(rule.name for rule in policy.rules) == sorted(RULE_NAMES)


@pytest.mark.parametrize(
    ("rule", "store", "columns", "clock", "period", "action"),
    [
        ("messages_content", "public.messages", "content", "created_at", "90 days", "clear"),
        (
            "session_context_ttl",
            "public.session_context",
            "messages_json summary",
            "ttl_expires_at",
            "0 hours",
            "delete",
        ),
        (
            "leads_inactive",
            "public.leads",
            "name company phone email notes crm_id",
            "last_activity",
            "2 years",
            "anonymize",
        ),
        (
            "users_inactive",
            "public.users",
            "phone name email company login_token",
            "last_activity",
            "5 years",
            "anonymize",
        ),
        (
            "tickets_kept",
            "public.tickets",
            "title description assigned_to",
            "created_at",
            "5 years",
            "keep",
        ),
    ],
)
def test_what_doc01_gives_is_what_the_policy_says(
    policy: Policy, rule: str, store: str, columns: str, clock: str, period: str, action: str
) -> None:
    said = policy.rule(rule)
    assert (said.store, said.columns, said.clock) == (store, tuple(columns.split()), clock)
    assert said.period is not None
    assert (said.period.interval, said.action) == (period, action)


def test_leads_end_four_years_after_they_were_captured(policy: Policy) -> None:
    assert policy.rule("leads_inactive").ceiling == Period(4, "years")


def test_users_and_tickets_stand_as_long_as_consumers_may_claim(policy: Policy) -> None:
    for name in ("users_inactive", "tickets_kept"):
        assert policy.rule(name).floor == Period(5, "years")


def test_every_personal_and_secret_column_is_covered_by_a_rule(policy: Policy) -> None:
    covered = {(rule.store, column) for rule in policy.rules for column in rule.columns}
    assert set(personal_columns()) - covered == set()


def test_what_is_normally_a_small_share_is_checked_for_mass_changes(policy: Policy) -> None:
    assert {rule.name for rule in policy.rules if rule.is_mass_checked} == {
        "messages_content",
        "leads_inactive",
        "users_inactive",
        "login_tokens_unused",
        "appointments_details",
        "services_notes",
    }
    assert (policy.mass_rows, policy.mass_pct) == (25, 20.0)


def test_reasons_and_bases_are_one_line_each(policy: Policy) -> None:
    for rule in policy.rules:
        assert "\n" not in rule.reason + rule.legal_basis
        assert len(rule.reason) > 30, rule.name
        assert "art." in rule.legal_basis, rule.name


def test_the_approval_is_read(policy: Policy) -> None:
    assert policy.approved_on == date(2026, 11, 24)
    assert policy.approved_by.startswith("Encarregado")


# --- Unknown, missing, twice ----------------------------------------------------------------------


def test_an_unknown_column_is_refused_with_those_of_the_store() -> None:
    text = change("messages_content", "[content]", "[contents]")
    line = line_of(text, "messages_content", "columns")
    assert_refused(
        text,
        "rules.messages_content.columns[0]",
        line,
        "no such column of public.messages; expected content, intent_detected",
    )


def test_a_column_on_a_line_of_its_own_is_refused_by_that_line() -> None:
    text = change(
        "users_inactive",
        "columns: [phone, name, email, company, login_token]",
        "columns:\n      - phone\n      - cpf\n      - name",
    )
    line = line_of(text, "users_inactive", "columns") + 2
    assert_refused(text, "rules.users_inactive.columns[1]", line, "no such column of public.users")


def test_a_column_that_is_no_name_is_refused() -> None:
    text = change("messages_content", "[content]", "[[content]]")
    line = line_of(text, "messages_content", "columns")
    assert_refused(text, "rules.messages_content.columns[0]", line, "expected the name of a column")


def test_columns_that_are_no_list_are_refused() -> None:
    text = change("messages_content", "[content]", "content")
    line = line_of(text, "messages_content", "columns")
    assert_refused(text, "rules.messages_content.columns", line, "expected a list")


def test_a_column_named_twice_in_one_rule_is_refused() -> None:
    text = change("messages_content", "[content]", "[content, content]")
    line = line_of(text, "messages_content", "columns")
    assert_refused(text, "rules.messages_content.columns[1]", line, "each column once")


def test_a_column_that_the_rule_does_not_reach_is_refused() -> None:
    text = change("messages_content", "[content]", "[content, intent_detected]")
    line = line_of(text, "messages_content", "columns")
    assert_refused(
        text, "rules.messages_content.columns[1]", line, "does not reach this column; expected con"
    )


def test_a_column_that_the_rule_reaches_may_not_be_left_out() -> None:
    text = change("leads_inactive", ", notes, crm_id]", "]")
    line = line_of(text, "leads_inactive", "columns")
    assert_refused(text, "rules.leads_inactive.columns", line, "expected also notes, crm_id")


def test_a_store_without_text_has_no_columns_to_name() -> None:
    text = change("certificates_kept", "action:", "columns: [holder]\n    action:")
    line = line_of(text, "certificates_kept", "columns")
    assert_refused(text, "rules.certificates_kept.columns[0]", line, "expected none")


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ("public.mensagens", "no store of this name is known; expected public.messages"),
        ("public.users", "the store of this rule is fixed; expected public.messages"),
    ],
)
def test_an_unknown_or_wrong_table_is_refused(given: str, reason: str) -> None:
    text = change("messages_content", "public.messages", given)
    line = line_of(text, "messages_content", "store")
    assert_refused(text, "rules.messages_content.store", line, reason)


@pytest.mark.parametrize(
    ("field", "old", "new", "reason"),
    [
        ("clock", "created_at", "criado_em", "no clock of this name is known; expected created_at"),
        ("clock", "created_at", "reacted_at", "the clock of this rule is fixed"),
        ("action", "clear", "apagar", "no action of this name is known; expected clear"),
        ("action", "clear", "keep", "the action of this rule is fixed; expected clear"),
        ("action", "clear", "[clear]", "expected clear"),
    ],
)
def test_an_unknown_or_wrong_clock_or_action_is_refused(
    field: str, old: str, new: str, reason: str
) -> None:
    text = change("messages_content", f"{field}: {old}", f"{field}: {new}")
    line = line_of(text, "messages_content", field)
    assert_refused(text, f"rules.messages_content.{field}", line, reason)


def test_an_unknown_rule_is_refused_with_the_nearest_one() -> None:
    text = REAL.replace("  messages_content:", "  message_content:")
    line = line_of(text, "message_content")
    assert_refused(text, "rules.message_content", line, "such as messages_content")


def test_a_rule_of_an_odd_name_is_refused_without_repeating_it() -> None:
    text = REAL.replace("  messages_content:", '  "fulano de tal":')
    error = refusal(text)
    assert error.field == "rules.?"
    assert "fulano" not in error.message


@pytest.mark.parametrize("name", RULE_NAMES)
def test_a_missing_rule_is_refused_whichever_it_is(name: str) -> None:
    begin = REAL.index(f"  {name}:\n")
    end = REAL.find("\n\n", begin)
    text = REAL[:begin] + (REAL[end:] if end > 0 else "")
    assert_refused(text, f"rules.{name}", line_of(text, "rules"), "this rule is missing")


@pytest.mark.parametrize(
    "field", ["store", "columns", "clock", "period", "ceiling", "action", "legal_basis", "reason"]
)
def test_a_missing_field_of_a_rule_is_refused(field: str) -> None:
    text = change("messages_content", f"    {field}:", f"    # {field}:")
    if field == "reason":
        text = re.sub(r"# reason: >-\n(?:      .*\n)+", "\n", text, count=1)
    line = line_of(text, "messages_content")
    assert_refused(text, f"rules.messages_content.{field}", line, "this field is missing")


def test_a_bound_that_the_law_gives_may_not_be_left_out() -> None:
    text = change("users_inactive", "floor: 5 years\n", "\n")
    line = line_of(text, "users_inactive")
    assert_refused(text, "rules.users_inactive.floor", line, "this field is missing")


@pytest.mark.parametrize("field", ["approved_on", "approved_by", "mass_change", "rules"])
def test_a_missing_field_of_the_policy_is_refused(field: str) -> None:
    text = re.sub(rf"^{field}:.*\n((  .*)?\n)*", "", REAL, count=1, flags=re.MULTILINE)
    assert refusal(text).field == field


@pytest.mark.parametrize("name", ["retencao", "is_mass_checked"])
def test_an_unknown_field_is_refused_with_those_there_are(name: str) -> None:
    text = change("messages_content", "action:", f"{name}: false\n    action:")
    line = line_of(text, "messages_content", name)
    assert_refused(
        text,
        f"rules.messages_content.{name}",
        line,
        "expected store, columns, clock, period, action, legal_basis, reason, ceiling, floor",
    )


@pytest.mark.parametrize("field", ["period: 1 years", "floor: 1 years", "clock: created_at"])
def test_a_rule_without_a_clock_has_no_period(field: str) -> None:
    text = change("certificates_kept", "action:", f"{field}\n    action:")
    name = field.partition(":")[0]
    line = line_of(text, "certificates_kept", name)
    assert_refused(text, f"rules.certificates_kept.{name}", line, "no field of this name here")


@pytest.mark.parametrize(
    ("text", "field", "line"),
    [
        (REAL + "\nrules: {}\n", "rules", REAL.count("\n") + 2),
        (
            change("messages_content", "action: clear", "action: clear\n    action: keep"),
            "rules.messages_content.action",
            line_of(REAL, "messages_content", "action") + 1,
        ),
        (
            REAL.replace("  session_context_ttl:", "  messages_content:"),
            "rules.messages_content",
            line_of(REAL, "session_context_ttl"),
        ),
    ],
)
def test_a_name_that_stands_twice_is_refused_by_the_second(
    text: str, field: str, line: int
) -> None:
    assert_refused(text, field, line, "stands on line")


# --- Rules against each other ---------------------------------------------------------------------


def test_a_column_in_two_rules_overlaps() -> None:
    text = change("conversations_kept", "action:", "columns: [transferred_to]\n    action:")
    line = line_of(text, "conversations_staff", "columns")
    kept = line_of(text, "conversations_kept")
    assert_refused(
        text,
        "rules.conversations_staff.columns[0]",
        line,
        f"overlaps with rule conversations_kept (line {kept}), which says keep of the same column",
    )


def test_two_rules_that_clear_one_column_overlap() -> None:
    text = change("login_tokens_unused", "[login_token]", "[login_token, phone]")
    # Two columns of users stand in both; the login token may, by its shorter period.
    text = change("login_tokens_unused", "period: 30 days", "period: 80 days", text)
    assert refusal(text).field == "rules.login_tokens_unused.columns[1]"


@pytest.mark.parametrize("period", ["5 years", "60 months", "6 years"])
def test_what_is_anonymised_sooner_cannot_be_cleared_later(period: str) -> None:
    text = change("login_tokens_unused", "period: 30 days", f"period: {period}")
    text = change("login_tokens_unused", "    ceiling: 90 days\n", "", text)
    line = line_of(text, "login_tokens_unused", "period")
    assert_refused(
        text,
        "rules.login_tokens_unused.period",
        line,
        "contradicts rule users_inactive, which anonymises login_token sooner; expected less than "
        "5 years",
    )


def test_rules_that_divide_the_rows_of_a_table_do_not_overlap(policy: Policy) -> None:
    unknown = policy.rule("identity_changes_unknown")
    settled = policy.rule("identity_changes_settled")
    assert (unknown.store, unknown.columns) == (settled.store, settled.columns)


@pytest.mark.parametrize(
    "copy", ["quarantine", "message_reactions_emoji", "button_replies_payload", "landing"]
)
def test_copies_of_messages_may_not_outlive_them(copy: str) -> None:
    copies = ("quarantine", "message_reactions_emoji", "button_replies_payload", "landing")
    text = change("messages_content", "period: 90 days", "period: 60 days")
    for name in copies:
        if name != copy:
            text = change(name, "period: 90 days", "period: 60 days", text)
    line = line_of(text, copy, "period")
    assert_refused(text, f"rules.{copy}.period", line, "expected at most 60 days")
    assert parse_policy(change(copy, "period: 90 days", "period: 60 days", text), FILE)


# --- Periods --------------------------------------------------------------------------------------


@pytest.mark.parametrize("period", ["4 years", "59 months", "1826 days", "1 hours"])
def test_a_period_under_its_floor_is_refused(period: str) -> None:
    text = change("users_inactive", "period: 5 years", f"period: {period}")
    line = line_of(text, "users_inactive", "period")
    assert_refused(text, "rules.users_inactive.period", line, "expected at least 5 years")


@pytest.mark.parametrize("period", ["91 days", "2161 hours", "3 months", "1 year"])
def test_a_period_over_its_ceiling_is_refused(period: str) -> None:
    text = change("messages_content", "period: 90 days", f"period: {period}")
    line = line_of(text, "messages_content", "period")
    assert_refused(text, "rules.messages_content.period", line, "expected at most 90 days")


@pytest.mark.parametrize("period", ["60 months", "1827 days", "10 years"])
def test_a_period_at_or_over_its_floor_is_taken(period: str) -> None:
    text = change("users_inactive", "period: 5 years", f"period: {period}")
    said = parse_policy(text, FILE).rule("users_inactive").period
    assert said is not None
    assert said.interval == period


def test_a_floor_over_the_ceiling_is_refused() -> None:
    text = change("users_inactive", "floor: 5 years", "floor: 5 years\n    ceiling: 4 years")
    line = line_of(text, "users_inactive", "floor")
    assert_refused(text, "rules.users_inactive.floor", line, "no more than the ceiling, 4 years")


@pytest.mark.parametrize(
    "period",
    [
        *("90", "days", "90 weeks", "90 dias", "noventa days", "-90 days", "+90 days", "1.5 years"),
        *("90  hours 1", "09 days", "90days", "1000000 days", "[90 days]", "null", "~", "''"),
        "٩ days",
    ],
)
def test_a_period_of_another_form_is_refused(period: str) -> None:
    text = change("messages_content", "period: 90 days", f"period: {period}")
    line = line_of(text, "messages_content", "period")
    assert_refused(
        text,
        "rules.messages_content.period",
        line,
        "expected a whole number and hours, days, months or years, such as 90 days",
    )


def test_a_period_of_more_than_a_century_is_refused() -> None:
    text = change("officer_reports", "period: 5 years", "period: 101 years")
    line = line_of(text, "officer_reports", "period")
    assert_refused(text, "rules.officer_reports.period", line, "expected at most 100 years")


@pytest.mark.parametrize("name", ["messages_content", "leads_inactive", "landing_archive"])
@pytest.mark.parametrize("period", ["0 days", "0 hours", "0 years"])
def test_a_period_of_zero_is_refused_where_the_clock_is_no_end(name: str, period: str) -> None:
    old = re.search(rf"^  {name}:\n(?:    .*\n)*?    (period: .*)", REAL, re.MULTILINE)
    assert old
    text = change(name, old[1], f"period: {period}")
    line = line_of(text, name, "period")
    assert_refused(text, f"rules.{name}.period", line, "expected more than 0")


@pytest.mark.parametrize("bound", ["floor: 5 years", "period: 5 years"])
def test_a_floor_of_zero_is_refused(bound: str) -> None:
    name = bound.partition(":")[0]
    text = change("users_inactive", bound, f"{name}: 0 days")
    assert "expected more than 0" in refusal(text).reason


@pytest.mark.parametrize("unit", ["hour", "day", "month", "year"])
def test_one_of_a_unit_may_be_written_as_people_do(unit: str) -> None:
    assert Period.parse(f"1 {unit}") == Period.parse(f"1 {unit}s") == Period(1, f"{unit}s")


def test_months_and_years_meet() -> None:
    assert Period(12, "months").seconds == Period(1, "years").seconds
    assert Period(24, "hours").approximate_days == 1
    assert round(Period(1, "years").approximate_days, 2) == 365.24


@pytest.mark.parametrize(
    ("period", "instant", "before"),
    [
        ("90 days", "2026-03-31T05:00:00", "2025-12-31T05:00:00"),
        ("36 hours", "2026-03-01T00:00:00", "2026-02-27T12:00:00"),
        ("1 months", "2026-03-31T05:00:00", "2026-02-28T05:00:00"),
        ("3 months", "2026-03-31T05:00:00", "2025-12-31T05:00:00"),
        ("5 years", "2028-02-29T05:00:00", "2023-02-28T05:00:00"),
        ("0 hours", "2026-03-31T05:00:00", "2026-03-31T05:00:00"),
    ],
)
def test_a_period_is_subtracted_by_the_calendar(period: str, instant: str, before: str) -> None:
    at = datetime.fromisoformat(instant).replace(tzinfo=UTC)
    expected = datetime.fromisoformat(before).replace(tzinfo=UTC)
    assert Period.parse(period).before(at) == expected


# --- Texts and numbers ----------------------------------------------------------------------------


@pytest.mark.parametrize("basis", ["''", '"  "', "null", "~", "", "[]", "{a: b}", '"a\\u200bb"'])
def test_a_legal_basis_that_says_nothing_is_refused(basis: str) -> None:
    text = change(
        "messages_content",
        'legal_basis: "DOC 01 §4; LGPD, art. 6º, III, art. 15, I, e art. 16"',
        f"legal_basis: {basis}",
    )
    line = line_of(text, "messages_content", "legal_basis")
    assert_refused(text, "rules.messages_content.legal_basis", line, "expected the articles")


def test_a_reason_that_says_nothing_is_refused() -> None:
    text = re.sub(r"reason: >-\n(?:      .*\n)+", "reason: ' '\n", REAL, count=1)
    line = line_of(text, "messages_content", "reason")
    assert_refused(text, "rules.messages_content.reason", line, "expected why, in Portuguese")


@pytest.mark.parametrize("day", ["ontem", "2026-13-01", "20261124", "2026-11-24T00:00:00", "''"])
def test_a_day_of_approval_that_is_none_is_refused(day: str) -> None:
    text = REAL.replace("approved_on: 2026-11-24", f"approved_on: {day}")
    assert_refused(text, "approved_on", line_of(text, "approved_on"), "expected a date, such as")


@pytest.mark.parametrize(
    ("field", "old", "value"),
    [
        *(("rows", "25", value) for value in ("0", "-1", "2.5", "muitas", "100001", "9" * 5000)),
        *(("pct", "20", value) for value in ("0", "0.0", "100", "-1", "20 %", "nan", "1e1")),
        ("pct", "20", "9" * 5000),
    ],
)
def test_a_mass_change_that_would_never_or_always_stop_a_run_is_refused(
    field: str, old: str, value: str
) -> None:
    text = REAL.replace(f"  {field}: {old}\n", f"  {field}: {value}\n")
    line = line_of(text, "mass_change", field)
    assert_refused(text, f"mass_change.{field}", line, "expected a")


def test_a_share_may_have_decimals() -> None:
    assert parse_policy(REAL.replace("pct: 20\n", "pct: 2.5\n"), FILE).mass_pct == 2.5


@pytest.mark.parametrize("part", ["mass_change", "rules"])
def test_a_part_that_is_no_mapping_is_refused(part: str) -> None:
    text = re.sub(rf"^{part}:\n((  .*)?\n)+", f"{part}: 5\n", REAL, count=1, flags=re.MULTILINE)
    assert_refused(text, part, line_of(text, part), "expected")


def test_a_rule_that_is_no_mapping_is_refused() -> None:
    body = re.compile(r"^  messages_content:\n(    .*\n)+", re.MULTILINE)
    text = body.sub("  messages_content: 90 days\n", REAL, count=1)
    line = line_of(text, "messages_content")
    assert_refused(text, "rules.messages_content", line, "expected store, columns, clock, period")


# --- What is not YAML, or is more than it ---------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a: b: c", 1),
        ("approved_on: 2026-11-24\n\tapproved_by: x", 2),
        ('a: 1\nb: "', 2),
        ("a: [1, 2\nb: 3\n", 2),
        ("a: 1\n- b\n", 2),
        ('a: "\\UFFFFFFFF"', 1),
        ("%YAML 1." + "9" * 5000 + "\n---\na: 1", 1),
        ("%\n", 1),
        ("a: @x", 1),
    ],
)
def test_what_is_not_yaml_is_refused_where_it_breaks(text: str, line: int) -> None:
    error = refusal(text)
    assert error.reason.startswith("this is not YAML")
    assert (error.field, error.line) == ("policy", line)


@pytest.mark.parametrize("text", ["", "\n\n", "# nada\n", "---\n", "90 days", "[]", "- rules", "~"])
def test_a_document_of_another_kind_is_refused(text: str) -> None:
    error = refusal(text)
    assert error.reason == "expected approved_on, approved_by, mass_change, rules"
    assert error.field == "policy"


@pytest.mark.parametrize("character", ["\x00", "\x1b", "\ud800", "\ufffe"])
def test_a_control_character_is_refused_by_its_line(character: str) -> None:
    assert_refused(f"a: 1\nb: {character}\n", "policy", 2, "without control characters")


def test_anchors_and_aliases_are_refused_before_they_are_followed() -> None:
    bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 30)
    )
    started = time.monotonic()
    assert_refused(bomb, "a0", 1, "without anchors (&) and aliases (*)")
    assert time.monotonic() - started < 1
    assert_refused("a: 1\nb: *a\n", "b", 2, "without anchors (&) and aliases (*)")
    text = change("messages_content", "period: 90 days", "period: &p 90 days")
    line = line_of(text, "messages_content", "period")
    assert_refused(text, "rules.messages_content.period", line, "without anchors")


@pytest.mark.parametrize("tag", ["!!python/object/apply:os.system [ls]", "!!int 3", "! x", "!x y"])
def test_tags_are_refused(tag: str) -> None:
    assert_refused(f"a: 1\nb: {tag}\n", "b", 2, "without tags")


@pytest.mark.parametrize("opening", ["[", "{a: ", "- "])
def test_a_deep_document_is_refused_without_following_it(opening: str) -> None:
    started = time.monotonic()
    error = refusal((opening * 30_000)[:MAX_CHARACTERS])
    assert "expected at most 8 levels" in error.reason
    assert time.monotonic() - started < 10


def test_a_long_document_is_refused_unread() -> None:
    started = time.monotonic()
    assert_refused("#" * (MAX_CHARACTERS + 1), "policy", 1, "expected at most 200000 characters")
    assert time.monotonic() - started < 1


def test_two_documents_are_refused() -> None:
    assert_refused(f"{REAL}\n---\na: 1\n", "policy", REAL.count("\n") + 2, "expected one document")


def test_a_list_for_a_name_is_refused() -> None:
    assert_refused("? [a]\n: 1\n", "policy", 1, "expected a name before the colon")


def test_a_very_long_name_costs_no_time() -> None:
    started = time.monotonic()
    error = refusal(REAL.replace("  messages_content:", f"  ? {'m' * 100_000}\n  :"))
    assert error.field == "rules.?"
    assert time.monotonic() - started < 5


def test_layout_and_comments_do_not_change_the_digest(policy: Policy) -> None:
    bare = re.sub(r"^ *#.*\n", "", REAL, flags=re.MULTILINE)
    bare = bare.replace("columns: [content]", "columns:\n      - content")
    assert bare != REAL
    assert parse_policy(bare, "other.yaml").digest == policy.digest
    begin = bare.index("  messages_content:\n")
    end = bare.index("\n\n", begin) + 2
    moved = bare[:begin] + bare[end:].rstrip("\n") + "\n\n" + bare[begin:end]
    assert parse_policy(moved, FILE).digest == policy.digest


@pytest.mark.parametrize(
    ("rule", "old", "new"),
    [
        ("messages_content", "period: 90 days", "period: 89 days\n"),
        ("leads_inactive", "ceiling: 4 years", "ceiling: 3 years"),
        ("tickets_kept", "O chamado", "Um chamado"),
        ("tickets_kept", "CDC, art. 27", "CDC, art. 26"),
    ],
)
def test_whatever_the_policy_says_changes_its_digest(
    policy: Policy, rule: str, old: str, new: str
) -> None:
    text = change(rule, old, new)
    for copy in ("quarantine", "message_reactions_emoji", "button_replies_payload", "landing"):
        text = change(copy, "period: 90 days", "period: 80 days", text) if "89" in new else text
    assert parse_policy(text, FILE).digest != policy.digest


# Built of the pieces of a policy, so that more than the first line is reached.
_PIECES = st.sampled_from(
    [
        *("rules:", "  messages_content:", "    period: ", "90 days", "approved_on: 2026-11-24\n"),
        *("\n", "- ", "[", "]", "{", "}", ": ", "? ", "&a ", "*a", "!!str ", "|", ">", "'", '"'),
        *("\\U00110000", "%TAG ! x", "---", "...", "#", "\t", "\ufeff", "\x85"),
        "mass_change: {rows: 25, pct: 20}\n",
    ]
)


@given(st.one_of(st.text(), st.lists(_PIECES | st.text(max_size=3)).map("".join)))
def test_arbitrary_text_raises_nothing_but_bad_input(text: str) -> None:
    error = refusal(text)
    assert error.line is not None
    assert 1 <= error.line <= len(text) + 1
    assert error.field


@given(st.integers(0, len(REAL) - 1), st.integers(0, 20), st.text(max_size=5) | _PIECES)
def test_a_damaged_policy_raises_nothing_but_bad_input(at: int, gone: int, put: str) -> None:
    text = REAL[:at] + put + REAL[at + gone :]
    try:
        rules = parse_policy(text, FILE).rules
    except BadInputError:
        refusal(text)
    else:
        assert len(rules) == len(RULE_NAMES)


# --- The file -------------------------------------------------------------------------------------


def test_the_policy_is_read_from_its_file(policy: Policy, repository: Path) -> None:
    assert read_policy(repository / "config" / FILE) == policy


def test_a_policy_that_is_not_there_names_the_setting(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="GATTE_CONFIG"):
        read_policy(tmp_path / FILE)
    with pytest.raises(ConfigurationError, match=r"\(IsADirectoryError\).*GATTE_CONFIG"):
        read_policy(tmp_path)


def test_a_policy_that_is_no_utf8_is_refused_by_the_line(tmp_path: Path) -> None:
    path = tmp_path / FILE
    path.write_bytes(b"approved_on: 2026-11-24\napproved_by: Respons\xe1vel\n")
    with pytest.raises(BadInputError, match=f"{FILE}, line 2, policy: expected text in UTF-8"):
        read_policy(path)


# --- Settings that shorten ------------------------------------------------------------------------


def test_a_setting_shortens_its_rule_and_no_other(policy: Policy) -> None:
    shorter = shorten(policy, "landing_archive", 7, "GATTE_INBOUND_ARCHIVE_DAYS")
    assert shorter.periods() == policy.periods() | {"landing_archive": "7 days"}
    assert shorter.digest != policy.digest


def test_without_a_setting_the_policy_stays_as_it_is(policy: Policy) -> None:
    assert shorten(policy, "backups", None, "GATTE_BACKUP_DAYS") is policy
    assert shorten(policy, "backups", 30, "GATTE_BACKUP_DAYS") == policy


def test_a_setting_may_not_lengthen_what_the_policy_says(policy: Policy) -> None:
    with pytest.raises(
        ConfigurationError, match=r"GATTE_BACKUP_DAYS may only shorten.*backups.*at most 30 days"
    ):
        shorten(policy, "backups", 31, "GATTE_BACKUP_DAYS")


def test_the_local_prefect_server_keeps_runs_as_long_as_the_policy_says(policy: Policy) -> None:
    period = policy.rule("prefect_runs").period
    assert period is not None
    assert period.before(datetime(2031, 3, 10, tzinfo=UTC)) + RUNS_KEPT == datetime(
        2031, 3, 10, tzinfo=UTC
    )


def test_a_setting_may_not_go_under_a_floor(policy: Policy) -> None:
    with pytest.raises(ConfigurationError, match=r"GATTE_X.*officer_reports.*at least 5 years"):
        shorten(policy, "officer_reports", 30, "GATTE_X")


# --- Changes --------------------------------------------------------------------------------------


def _with(policy: Policy, name: str, period: Period | None) -> Policy:
    rules = (replace(r, period=period) if r.name == name else r for r in policy.rules)
    return replace(policy, rules=tuple(rules))


def test_the_same_policy_has_no_changes(policy: Policy) -> None:
    assert compare_limits(policy.limits(), policy) == ()


@pytest.mark.parametrize(
    ("period", "direction"),
    [
        (Period(30, "days"), Direction.SHORTER),
        (Period(1, "years"), Direction.LONGER),
        (None, Direction.LONGER),
    ],
)
def test_a_change_says_in_which_direction(
    policy: Policy, period: Period | None, direction: Direction
) -> None:
    (found,) = compare_limits(policy.limits(), _with(policy, "messages_content", period))
    after = period.interval if period else ""
    assert found == PolicyChange(
        limit="messages_content", before="90 days", after=after, direction=direction
    )


def test_a_ceiling_that_ends_a_period_is_a_change_and_one_that_only_bounds_it_is_none(
    policy: Policy,
) -> None:
    def lowered(name: str, ceiling: Period | None) -> Policy:
        rules = (replace(r, ceiling=ceiling) if r.name == name else r for r in policy.rules)
        return replace(policy, rules=tuple(rules))

    limit = "leads_inactive_ceiling"
    assert compare_limits(policy.limits(), lowered("leads_inactive", Period(3, "years"))) == (
        PolicyChange(limit=limit, before="4 years", after="3 years", direction=Direction.SHORTER),
    )
    assert compare_limits(policy.limits(), lowered("leads_inactive", None)) == (
        PolicyChange(limit=limit, before="4 years", after="", direction=Direction.LONGER),
    )
    # The period is the same, so the same rows go.
    assert compare_limits(policy.limits(), lowered("login_tokens_unused", None)) == ()


def test_the_same_length_in_other_words_is_no_change(policy: Policy) -> None:
    assert compare_limits(policy.limits() | {"users_inactive": "60 months"}, policy) == ()


def test_rules_that_came_and_went_are_changes(policy: Policy) -> None:
    before = policy.limits() | {"gone": "1 days"}
    del before["mail"]
    assert compare_limits(before, policy) == (
        PolicyChange(limit="gone", before="1 days", after=None, direction=Direction.REMOVED),
        PolicyChange(limit="mail", before=None, after="30 days", direction=Direction.ADDED),
    )


def test_a_limit_where_there_was_none_is_shorter(policy: Policy) -> None:
    before = policy.limits() | {"mail": ""}
    (found,) = compare_limits(before, policy)
    assert found.direction is Direction.SHORTER


def test_a_rule_that_the_vocabulary_lacks_is_a_mistake_of_the_caller(policy: Policy) -> None:
    with pytest.raises(KeyError):
        policy.rule("mensagens")


def test_what_is_kept_says_so(policy: Policy) -> None:
    kept = {rule.name for rule in policy.rules if rule.action is Action.KEEP}
    assert {"tickets_kept", "certificates_kept", "privacy_ledger_kept", "ledger"} <= kept
    assert policy.periods()["certificates_kept"] == ""
