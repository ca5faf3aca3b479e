"""Which failures are put up with is said plainly, or refused with file, line and field."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatte_pipelines.errors import BadInputError, ConfigurationError
from gatte_pipelines.quality.results import Found, Last, Result, State, conclude
from gatte_pipelines.quality.suite import Check, Severity
from gatte_pipelines.quality.suite_file import read_suites
from gatte_pipelines.quality.waivers import WAIVERS, Waiver, parse_waivers, read_waivers

KNOWN = tuple(check.name for suite in read_suites() for check in suite.checks)
ONE, OTHER = UUID(int=1), UUID(int=2)
GOOD = f"""\
waivers:
  - check: tickets.protocol_format
    scope: all
    reason: Protocolos antigos, de antes da troca do sistema.
    owner: Equipe do chatbot
    until: 2026-12-31
  - check: users.phone_format
    scope:
      - {ONE}
      - {OTHER}
    reason: Dois cadastros de teste.
    owner: Engenharia de dados
    until: 2026-11-30
"""


def change(old: str, new: str) -> str:
    """The waivers with one piece replaced; it must be there once."""
    assert GOOD.count(old) == 1, old
    return GOOD.replace(old, new)


def refusal(text: str) -> BadInputError:
    with pytest.raises(BadInputError) as caught:
        parse_waivers(text, WAIVERS, KNOWN)
    assert caught.value.file == WAIVERS
    assert caught.value.line is not None
    return caught.value


# --- what is read ---------------------------------------------------------------------------------


def test_waivers_are_read_as_they_are_written() -> None:
    protocols, phones = parse_waivers(GOOD, WAIVERS, KNOWN)
    assert protocols == Waiver(
        "tickets.protocol_format",
        (),
        "Protocolos antigos, de antes da troca do sistema.",
        "Equipe do chatbot",
        date(2026, 12, 31),
    )
    assert phones.keys == (ONE, OTHER)


def test_nothing_is_put_up_with_by_default(repository: Path) -> None:
    assert parse_waivers("waivers: []", WAIVERS, KNOWN) == ()
    assert read_waivers(repository / "config" / WAIVERS, KNOWN) == ()


def test_a_waiver_holds_on_its_last_day_and_not_on_the_next() -> None:
    waiver = parse_waivers(GOOD, WAIVERS, KNOWN)[1]
    assert waiver.holds_on(date(2026, 11, 30))
    assert not waiver.holds_on(date(2026, 12, 1))


def test_one_that_is_over_is_still_read_so_that_it_can_be_shown() -> None:
    text = change("until: 2026-12-31", "until: 2001-01-01")
    assert parse_waivers(text, WAIVERS, KNOWN)[0].until == date(2001, 1, 1)


# --- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "field", "line", "reason"),
    [
        (
            "tickets.protocol_format",
            "tickets.protocol",
            "waivers[0].check",
            2,
            "expected one of tickets.assigned_to_length",
        ),
        ("tickets.protocol_format", "clientes.phone", "waivers[0].check", 2, "gatte quality list"),
        ("tickets.protocol_format", "[a]", "waivers[0].check", 2, "the name of a check"),
        ("check: tickets.protocol_format", "check:", "waivers[0].check", 2, "the name of a check"),
        ("scope: all", "scope: some", "waivers[0].scope", 3, "expected a list, such as"),
        ("scope: all", "scope: []", "waivers[0].scope", 3, "expected ids of rows, or the word all"),
        ("scope: all", "scope: ALL", "waivers[0].scope", 3, "expected a list"),
        ("scope: all", "scope: {a: b}", "waivers[0].scope", 3, "expected a list"),
        (str(OTHER), "P-0001", "waivers[1].scope[1]", 10, "expected an id of a row"),
        (str(ONE), "[a]", "waivers[1].scope[0]", 9, "expected an id of a row"),
        ("until: 2026-12-31", "until: 31/12/2026", "waivers[0].until", 6, "such as 2026-12-31"),
        ("until: 2026-12-31", "until: 2026-02-30", "waivers[0].until", 6, "such as 2026-12-31"),
        ("until: 2026-12-31", "until: 20261231", "waivers[0].until", 6, "such as 2026-12-31"),
        ("until: 2026-12-31", "until: amanhã", "waivers[0].until", 6, "such as 2026-12-31"),
        ("until: 2026-12-31", "until:", "waivers[0].until", 6, "such as 2026-12-31"),
        ("    owner: Equipe do chatbot\n", "", "waivers[0].owner", 2, "missing"),
        ("owner: Equipe do chatbot", "owner: ''", "waivers[0].owner", 5, "a role, not a name"),
        (
            "reason: Dois cadastros de teste.",
            "reason: ~",
            "waivers[1].reason",
            11,
            "why, in Portuguese",
        ),
        ("    owner: Equipe", "    dono: Equipe", "waivers[0].dono", 5, "no field of this name"),
        ("waivers:", "waiver:", "waiver", 1, "no field of this name"),
    ],
)
def test_what_cannot_be_right_is_refused_where_it_stands(
    old: str, new: str, field: str, line: int, reason: str
) -> None:
    error = refusal(change(old, new))
    assert (error.field, error.line) == (field, line)
    assert reason in error.reason


def test_the_same_check_twice_is_refused() -> None:
    error = refusal(change("users.phone_format", "tickets.protocol_format"))
    assert (error.field, error.line) == ("waivers[1].check", 7)
    assert "join them" in error.reason


@pytest.mark.parametrize(
    "text", ["", "waivers", "waivers: all", "waivers: {}", "waivers: [", "- check: x", "\x07", "%"]
)
def test_what_is_no_list_of_waivers_is_refused(text: str) -> None:
    refusal(text)


def test_a_refusal_does_not_repeat_what_was_written() -> None:
    for old in (str(OTHER), "tickets.protocol_format", "2026-12-31"):
        assert "Zulmira" not in refusal(change(old, "Zulmira")).message


def test_a_file_that_is_missing_is_named_with_the_setting(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="GATTE_CONFIG"):
        read_waivers(tmp_path / WAIVERS, KNOWN)


@given(st.data())
def test_damaged_text_raises_nothing_but_bad_input(data: st.DataObject) -> None:
    text = GOOD
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(text)))
        size = data.draw(st.integers(0, 30))
        new = data.draw(st.sampled_from(["", ":", "- ", "\n", "  ", "{", "'", "\t", "é", "0", "|"]))
        text = text[:at] + new + text[at + size :]
    found: tuple[Waiver, ...] = ()
    try:
        found = parse_waivers(text, WAIVERS, KNOWN)
    except BadInputError as error:
        assert error.line is not None  # noqa: PT017 - whether it raises depends on the example
    assert {one.check for one in found} <= set(KNOWN)
    assert len({one.check for one in found}) == len(found)


# --- what a waiver does ---------------------------------------------------------------------------

CHECK = Check("users.phone_format", "users", Severity.CRITICAL, "Telefones.", "Vendas")
TODAY = date(2026, 11, 24)
NOW = datetime(2026, 11, 24, 5, tzinfo=UTC)
RUN, LAST_RUN = uuid4(), uuid4()


def waiver(*keys: UUID, until: date = TODAY) -> Waiver:
    return Waiver(CHECK.name, keys, "Razão.", "Vendas", until)


def found(rows: int, excused: int = 0) -> Found:
    return Found(check=CHECK, holds=rows == 0, rows=rows, excused=excused)


def concluded(finding: Found, of: Waiver | None, last: Last | None = None) -> Result:
    return conclude(finding, waiver=of, last=last, run_id=RUN, checked_at=NOW, today=TODAY)


@pytest.mark.parametrize(
    ("finding", "of", "state"),
    [
        (found(0), None, State.PASSED),
        (found(0), waiver(), State.PASSED),
        (found(3), None, State.FAILED),
        (found(3), waiver(), State.WAIVED),
        (found(3), waiver(until=date(2026, 11, 23)), State.FAILED),
        (found(2, excused=2), waiver(ONE, OTHER), State.WAIVED),
        (found(3, excused=2), waiver(ONE, OTHER), State.FAILED),
        (found(2), waiver(ONE, OTHER, until=date(2026, 11, 23)), State.FAILED),
        # What did not run is no known failure, and nothing is put up with unseen.
        (Found(check=CHECK, has_run=False), waiver(), State.NOT_RUN),
        (Found(check=CHECK), waiver(), State.NOT_JUDGED),
        # A failure of the whole table has no rows that could be named.
        (Found(check=CHECK, holds=False), waiver(), State.WAIVED),
        (Found(check=CHECK, holds=False), waiver(ONE), State.FAILED),
    ],
)
def test_a_failure_is_put_up_with_while_the_waiver_holds(
    finding: Found, of: Waiver | None, state: State
) -> None:
    result = concluded(finding, of)
    assert result.state is state
    assert result.closes_the_gate == (state in {State.FAILED, State.NOT_RUN})


def last(**values: object) -> Last:
    known: dict[str, object] = {
        "state": State.PASSED,
        "rows": 0,
        "keys": (),
        "run_id": LAST_RUN,
        "checked_at": datetime(2026, 11, 23, 5, tzinfo=UTC),
        "first_bad_run_id": None,
        "first_bad_at": None,
        "last_good_run_id": None,
        "last_good_at": None,
    }
    return Last(**(known | values))  # type: ignore[arg-type]


BAD_SINCE = datetime(2026, 11, 20, 5, tzinfo=UTC)
GOOD_ON = datetime(2026, 11, 19, 5, tzinfo=UTC)
EARLIER, GOOD_RUN = uuid4(), uuid4()
BAD = {
    "first_bad_run_id": EARLIER,
    "first_bad_at": BAD_SINCE,
    "last_good_run_id": GOOD_RUN,
    "last_good_at": GOOD_ON,
}


def blamed(result: Result) -> tuple[object, ...]:
    return (
        result.first_bad_run_id,
        result.first_bad_at,
        result.last_good_run_id,
        result.last_good_at,
    )


@pytest.mark.parametrize(
    ("before", "since"),
    [
        (None, (RUN, NOW, None, None)),
        (last(), (RUN, NOW, LAST_RUN, datetime(2026, 11, 23, 5, tzinfo=UTC))),
        (last(state=State.FAILED, rows=2, **BAD), tuple(BAD.values())),
        (last(state=State.WAIVED, rows=2, **BAD), tuple(BAD.values())),
        # It failed, then did not run, and fails: the same failure still.
        (last(state=State.NOT_RUN, rows=None, **BAD), tuple(BAD.values())),
        # It did not run since it was good: whether it failed then, nobody knows.
        (
            last(state=State.NOT_RUN, rows=None, was_found=False, **BAD),
            (RUN, NOW, GOOD_RUN, GOOD_ON),
        ),
    ],
)
def test_a_failure_is_dated_from_the_run_that_found_it_first(
    before: Last | None, since: tuple[object, ...]
) -> None:
    for finding, of in ((found(2), None), (found(2), waiver())):
        result = concluded(finding, of, before)
        assert blamed(result) == since


def test_checks_that_do_not_run_are_dated_from_the_first_such_run() -> None:
    before = last(state=State.NOT_RUN, rows=None, was_found=False, **BAD)
    result = concluded(Found(check=CHECK, has_run=False), None, before)
    assert blamed(result) == tuple(BAD.values())


def test_a_good_run_ends_a_failure() -> None:
    result = concluded(found(0), None, last(state=State.FAILED, rows=2, **BAD))
    assert blamed(result) == (None,) * 4


@pytest.mark.parametrize(
    ("before", "knows"),
    [
        (last(), True),
        (last(state=State.FAILED, rows=2, keys=(ONE, OTHER), **BAD), True),
        (last(state=State.FAILED, rows=3, keys=(ONE, OTHER), **BAD), False),
        (last(state=State.NOT_RUN, rows=None, **BAD), False),
    ],
)
def test_only_a_run_that_listed_all_that_failed_can_be_built_upon(
    before: Last, knows: bool
) -> None:
    assert before.knows_all_rows is knows
