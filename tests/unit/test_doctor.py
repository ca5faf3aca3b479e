"""Checks that go on whatever becomes of one, and settings that are set by half."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from gatte_pipelines.doctor.checkup import Check, examine
from gatte_pipelines.doctor.needs import Need, check_needs
from gatte_pipelines.errors import ConfigurationError
from gatte_pipelines.health import Finding, State

PHONE = "+5511900001234"


def need(*are_set: bool, is_optional: bool = True) -> Need:
    names = ("GATTE_ONE", "GATTE_TWO")
    settings = dict(zip(names, are_set, strict=False))
    return Need("Sistema", pipelines=("a_flow",), settings=settings, is_optional=is_optional)


def test_a_check_that_fails_keeps_what_it_found_and_the_checks_after_it() -> None:
    def fails() -> Iterator[Finding]:
        yield Finding(State.OK, "antes")
        raise ConfigurationError("what to do")

    lines = list(
        examine([Check("um", fails), Check("dois", lambda: [Finding(State.WARNING, "depois")])])
    )
    assert [(line.check, line.finding.state, line.finding.text) for line in lines] == [
        ("um", State.OK, "antes"),
        ("um", State.ERROR, "what to do"),
        ("dois", State.WARNING, "depois"),
    ]


def test_an_error_that_nobody_foresaw_is_told_without_its_values() -> None:
    def breaks() -> list[Finding]:
        raise RuntimeError(PHONE)

    (line,) = examine([Check("um", breaks)])
    assert line.finding.state is State.ERROR
    assert PHONE not in line.finding.text


@pytest.mark.parametrize(
    ("given", "state"),
    [
        (need(True, True), State.OK),
        (need(False, False), State.WARNING),
        (need(True, False), State.ERROR),
        (need(False, is_optional=False), State.ERROR),
        (need(True, is_optional=False), State.OK),
    ],
)
def test_what_is_not_used_is_a_warning_and_what_is_set_by_half_an_error(
    given: Need, state: State
) -> None:
    (finding,) = check_needs([given])
    assert finding.state is state
    assert "a_flow" in finding.text
    assert bool(finding.advice) is (state is not State.OK)


def test_only_what_is_missing_is_named() -> None:
    (finding,) = check_needs([need(True, False)])
    assert "falta GATTE_TWO" in finding.text
    assert "GATTE_ONE" not in finding.text
