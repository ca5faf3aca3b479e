"""The morning's page: lights, words and ids, and nothing that could be somebody's."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, date, datetime
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatte_pipelines.quality.expectations import Verdicts, render_index
from gatte_pipelines.quality.page import (
    FILE,
    KEYS_SHOWN,
    Light,
    Overview,
    describe,
    light,
    save,
    to_html,
    to_rows,
)
from gatte_pipelines.quality.results import Found, Result, State
from gatte_pipelines.quality.suite import Check, Kind, Rule, Severity, Suite
from gatte_pipelines.quality.suite_file import read_suites
from gatte_pipelines.quality.waivers import Waiver

AS_OF = datetime(2026, 11, 24, 5, 30, tzinfo=UTC)
RUN, BAD_RUN = UUID(int=7), UUID(int=8)
SAYS = "Há telefones fora do padrão."
STATES_PT = {
    State.PASSED: "aprovada",
    State.FAILED: "reprovada",
    State.WAIVED: "tolerada",
    State.NOT_JUDGED: "não avaliada",
    State.NOT_RUN: "não executada",
}


def check_of(what: str, severity: Severity = Severity.CRITICAL, **values: Any) -> Check:
    known = {"says": SAYS, "acts": "Equipe do chatbot", "rule": Rule(what, Kind.IS_TRUE)}
    return Check(f"users.{what}", "users", severity, **(known | values))


def result(
    state: State, severity: Severity = Severity.CRITICAL, what: str = "phone_format", **found: Any
) -> Result:
    check = found.pop("check", None) or check_of(what, severity)
    if state is State.FAILED:
        found = {"rows": 3, "keys": (UUID(int=1), UUID(int=2), UUID(int=3))} | found
    return Result(found=Found(check=check, **found), state=state)


def overview(*results: Result, **values: Any) -> Overview:
    suite = Suite(
        "users", "Clientes", "users.yaml", "", "", tuple(one.found.check for one in results)
    )
    known = {"suites": (suite,), "results": results, "waivers": ()}
    return Overview(as_of=AS_OF, run_id=RUN, **(known | values))


class Page(HTMLParser):
    """What a browser would take from a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.attributes: list[str] = []
        self.tagged: list[tuple[str, str]] = []
        self.text = ""
        self.ids: list[str] = []
        self.policy = ""
        self._class = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self.tags.append(tag)
        self.attributes += values
        self.links += [values[name] for name in ("href", "src", "action") if name in values]
        self.ids += [values["id"]] if "id" in values else []
        self._class = values.get("class", self._class)
        if values.get("http-equiv") == "Content-Security-Policy":
            self.policy = values["content"]

    def handle_data(self, data: str) -> None:
        self.text += data
        if self._class and data.strip():
            self.tagged.append((self._class, data.strip()))
            self._class = ""


def assert_loads_nothing(text: str) -> Page:
    page = Page(text)
    assert page.policy == "default-src 'none'; style-src 'unsafe-inline'"
    assert not {"script", "img", "iframe", "link", "object", "form"} & set(page.tags)
    assert not [name for name in page.attributes if name.startswith("on")]
    assert "http://" not in text
    assert "https://" not in text
    assert "url(" not in text
    assert "@import" not in text
    for link in page.links:
        assert re.fullmatch(r"#[a-z_]+|[a-z_]+(/[a-z_]+)?\.html", link), link
        if link.startswith("#"):
            assert link[1:] in page.ids
    return page


# --- lights ---------------------------------------------------------------------------------------

CRITICAL, WARNING, INFO = Severity.CRITICAL, Severity.WARNING, Severity.INFO


@pytest.mark.parametrize(
    ("results", "colour"),
    [
        ([], Light.GREY),
        ([(State.NOT_JUDGED, CRITICAL)], Light.GREY),
        ([(State.PASSED, CRITICAL)], Light.GREEN),
        ([(State.PASSED, CRITICAL), (State.NOT_JUDGED, CRITICAL)], Light.GREEN),
        ([(State.WAIVED, CRITICAL)], Light.GREEN),
        ([(State.FAILED, INFO), (State.PASSED, CRITICAL)], Light.GREEN),
        ([(State.FAILED, WARNING), (State.PASSED, CRITICAL)], Light.YELLOW),
        ([(State.NOT_RUN, WARNING)], Light.YELLOW),
        ([(State.NOT_RUN, INFO), (State.PASSED, CRITICAL)], Light.YELLOW),
        ([(State.FAILED, CRITICAL), (State.FAILED, WARNING)], Light.RED),
        ([(State.NOT_RUN, CRITICAL), (State.PASSED, CRITICAL)], Light.RED),
    ],
)
def test_a_table_has_the_colour_of_its_worst_check(
    results: list[tuple[State, Severity]], colour: Light
) -> None:
    found = [
        result(state, severity, f"check_{number}")
        for number, (state, severity) in enumerate(results)
    ]
    assert light(found) is colour
    page = assert_loads_nothing(to_html(overview(*found)))
    (tag,) = [tag for tag, text in page.tagged if text == "Clientes" and "light" in tag]
    assert tag == f"light {colour}"


@given(st.lists(st.tuples(st.sampled_from(State), st.sampled_from(Severity)), max_size=6))
def test_a_table_is_red_where_a_gate_is_closed_and_green_only_where_all_ran(
    results: list[tuple[State, Severity]],
) -> None:
    found = [result(state, severity) for state, severity in results]
    colour = light(found)
    assert (colour is Light.RED) == any(one.closes_the_gate for one in found)
    if colour is Light.GREEN:
        assert State.NOT_RUN not in {one.state for one in found}


def test_the_first_line_says_whether_something_stands_still() -> None:
    critical = to_html(overview(result(State.FAILED), result(State.NOT_RUN, what="x_y")))
    assert "2 falhas críticas; parte dos dados não é confiável." in critical
    assert "1 falha crítica; parte" in to_html(overview(result(State.FAILED)))
    warned = to_html(overview(result(State.FAILED, WARNING), result(State.PASSED)))
    assert "1 aviso a resolver; nada está parado." in warned
    assert "Tudo o que foi verificado está certo." in to_html(overview(result(State.PASSED)))


# --- what is told of a check ----------------------------------------------------------------------


@pytest.mark.parametrize("state", [State.FAILED, State.WAIVED, State.NOT_RUN])
@pytest.mark.parametrize(
    ("severity", "word"), [(CRITICAL, "crítica"), (WARNING, "aviso"), (INFO, "informação")]
)
def test_what_did_not_pass_has_a_card_in_portuguese(
    state: State, severity: Severity, word: str
) -> None:
    page = Page(to_html(overview(result(state, severity))))
    assert (f"tag {state}", STATES_PT[state]) in page.tagged
    assert ("tag", word) in page.tagged
    for told in (SAYS, "users.phone_format", "Quem age", "Equipe do chatbot"):
        assert told in page.text


def test_every_state_has_its_word() -> None:
    assert set(STATES_PT) == set(State)


def test_what_was_not_judged_says_why_and_what_passed_is_named() -> None:
    text = to_html(
        overview(
            result(State.NOT_JUDGED, what="volume", detail="só há 2 domingos para comparar"),
            result(State.NOT_JUDGED, what="freshness", detail="só houve linhas em 1 dia"),
            result(State.PASSED, what="phone_there"),
            result(State.PASSED, what="name_length"),
        )
    )
    assert "o volume do dia (só há 2 domingos para comparar)" in text
    assert "o atraso (só houve linhas em 1 dia)" in text
    assert "2 verificações aprovadas" in text
    assert "phone_there e name_length" in text
    assert "Confiável: 2 de 4 aprovadas" in text


def test_only_the_first_keys_are_shown_and_all_rows_are_counted() -> None:
    keys = tuple(UUID(int=number) for number in range(100, 200))
    text = to_html(overview(result(State.FAILED, rows=12_345, keys=keys)))
    assert "<dd>12.345</dd>" in text
    assert f"{KEYS_SHOWN} identificadores" in text
    assert str(keys[KEYS_SHOWN - 1]) in text
    assert str(keys[KEYS_SHOWN]) not in text


def test_rows_that_are_tolerated_beside_others_are_told() -> None:
    failed = result(State.FAILED, rows=5, excused=2)
    assert "5, 2 delas toleradas" in to_html(overview(failed))
    assert "5 linhas, 2 delas toleradas" in describe(failed)
    assert "1 delas tolerada" not in to_html(overview(result(State.WAIVED, rows=1, excused=1)))


def test_a_run_that_looked_at_what_changed_says_so() -> None:
    text = to_html(overview(result(State.FAILED, is_full=False)))
    assert "entre as que mudaram ou já falhavam" in text
    assert "entre as que mudaram" not in to_html(overview(result(State.FAILED)))


def test_since_when_it_fails_and_who_wrote_since_then() -> None:
    failed = replace(
        result(State.FAILED),
        first_bad_run_id=BAD_RUN,
        first_bad_at=datetime(2026, 11, 23, 5, tzinfo=UTC),
        last_good_at=datetime(2026, 11, 22, 5, tzinfo=UTC),
        suspects=(f"inbound_messages {UUID(int=9)}",),
    )
    text = to_html(overview(failed))
    # 5 h in UTC are 2 h in São Paulo.
    assert f"23/11/2026 02:00, execução {BAD_RUN}; estava certo em 22/11/2026 02:00" in text
    assert f"escreveram nesta tabela: inbound_messages {UUID(int=9)}" in text
    alone = to_html(overview(replace(failed, suspects=())))
    assert "nenhum fluxo nosso escreveu nesta tabela entre as duas" in alone
    never_good = to_html(overview(replace(failed, last_good_at=None)))
    assert "estava certo" not in never_good


def test_what_needs_a_person_first_stands_first() -> None:
    text = to_html(
        overview(
            result(State.WAIVED, what="waived_one"),
            result(State.FAILED, INFO, "info_one"),
            result(State.FAILED, CRITICAL, "critical_one"),
            result(State.NOT_RUN, INFO, "unread_one"),
        )
    )
    order = [
        text.index(f"users.{name}")
        for name in ("unread_one", "critical_one", "info_one", "waived_one")
    ]
    assert order == sorted(order)


# --- waivers --------------------------------------------------------------------------------------


def waiver(until: date, *keys: UUID, reason: str = "Cadastros antigos.") -> Waiver:
    return Waiver("users.phone_format", keys, reason, "Vendas", until)


@pytest.mark.parametrize(
    ("until", "tag", "word"),
    [
        (date(2026, 11, 24), "waived", "em vigor"),
        (date(2026, 11, 23), "over", "vencida"),
    ],
)
def test_a_waiver_that_is_over_is_shown_red(until: date, tag: str, word: str) -> None:
    of = waiver(until, UUID(int=1), UUID(int=2))
    text = to_html(overview(result(State.PASSED), waivers=(of,)))
    page = Page(text)
    assert (f"tag {tag}", word) in page.tagged
    assert f"2 linhas, até {until:%d/%m/%Y}, por Vendas: Cadastros antigos." in page.text
    # Red is the colour of failures, and of this word.
    assert re.search(r"\.tag\.failed,[^{]*\.tag\.over\{background:#f6d5d2", text)


def test_the_day_of_a_waiver_is_that_of_sao_paulo() -> None:
    of = waiver(date(2026, 11, 23))
    at_night = replace(
        overview(result(State.PASSED), waivers=(of,)),
        as_of=datetime(2026, 11, 24, 2, 59, tzinfo=UTC),
    )
    assert "em vigor" in to_html(at_night)
    assert "vencida" in to_html(replace(at_night, as_of=datetime(2026, 11, 24, 3, tzinfo=UTC)))


def test_without_waivers_nothing_is_told_of_them() -> None:
    assert "Tolerâncias" not in to_html(overview(result(State.PASSED)))


def test_the_card_of_a_tolerated_failure_says_by_whom() -> None:
    of = waiver(date(2026, 12, 31))
    text = to_html(overview(replace(result(State.WAIVED, rows=4), waiver=of)))
    assert "todas as linhas, até 31/12/2026, por Vendas: Cadastros antigos." in text


# --- what must not be there -----------------------------------------------------------------------

BAD_TEXT = "<script src=https://example.com/x.js></script><img src=x onerror=alert(1)>&\"'"


def test_every_text_is_escaped() -> None:
    check = check_of("phone_format", says=BAD_TEXT, acts=BAD_TEXT)
    failed = replace(
        result(State.FAILED, check=check, detail=BAD_TEXT),
        waiver=waiver(date(2026, 12, 31), reason=BAD_TEXT),
        first_bad_at=AS_OF,
        last_good_at=AS_OF,
        suspects=(BAD_TEXT,),
    )
    grey = result(State.NOT_JUDGED, what="volume", detail=BAD_TEXT)
    whole = overview(failed, grey, waivers=(waiver(date(2026, 1, 1), reason=BAD_TEXT),))
    suite = replace(whole.suites[0], title=BAD_TEXT)
    page = Page(to_html(replace(whole, suites=(suite,))))
    assert not {"script", "img"} & set(page.tags)
    assert page.text.count(BAD_TEXT) >= 7


def test_the_page_of_all_nine_loads_nothing_and_links_within_itself() -> None:
    suites = read_suites()
    states = list(State)
    results = [
        result(states[number % len(states)], check=check)
        for number, check in enumerate(check for suite in suites for check in suite.checks)
    ]
    page = assert_loads_nothing(to_html(overview(*results, suites=suites)))
    for suite in suites:
        assert f"#{suite.table}" in page.links
        assert suite.title in page.text
    assert "data_docs/index.html" in page.links
    assert "gatte quarantine list" in page.text
    assert str(RUN) in page.text


def test_the_index_of_data_docs_loads_nothing_and_names_what_was_not_judged() -> None:
    suites = read_suites()
    first = suites[0]
    verdicts = Verdicts(
        holds={check.name: True for check, _ in first.rules},
        broken={suites[1].table: "<b>ProgrammingError</b>"},
        pages={first.table: "…"},
    )
    text = render_index(verdicts, suites, AS_OF)
    page = assert_loads_nothing(text)
    assert page.links == [f"{first.table}.html"]
    assert f"{len(first.rules)} of {len(first.rules)} expectations of rows hold" in page.text
    assert "not judged (<b>ProgrammingError</b>)" in page.text
    assert "b" not in page.tags


# --- the table of the artifact and the notes ------------------------------------------------------


def test_the_table_has_a_row_a_table_and_one_for_each_check_that_did_not_pass() -> None:
    rows = to_rows(
        overview(
            result(State.PASSED, what="passed_one"),
            result(State.NOT_JUDGED, what="volume", detail="x"),
            result(State.FAILED, WARNING, "failed_one", rows=1234),
            result(State.NOT_RUN, INFO, "unread_one", detail="a tabela não existe"),
            result(State.WAIVED, what="waived_one", rows=2),
        )
    )
    assert [list(row.values()) for row in rows] == [
        ["users", "Use com cuidado: 1 de 5 aprovadas", "", "", "", ""],
        ["users", "unread_one", "informação", "não executada", "", "Equipe do chatbot"],
        ["users", "failed_one", "aviso", "reprovada", "1.234", "Equipe do chatbot"],
        ["users", "waived_one", "crítica", "tolerada", "2", "Equipe do chatbot"],
    ]
    assert all(set(row) == set(rows[0]) for row in rows)


def test_neither_the_table_nor_the_notes_hold_an_id_or_a_value() -> None:
    failed = result(State.FAILED)
    told = f"{to_rows(overview(failed))} {describe(failed)}"
    assert str(UUID(int=1)) not in told
    assert describe(failed) == f"users.phone_format (crítica) – 3 linhas – {SAYS}"


def test_a_check_that_did_not_run_says_why() -> None:
    unread = result(State.NOT_RUN, detail="o banco recusou a consulta (55P03)")
    assert describe(unread) == (
        "users.phone_format (crítica) – não executada: o banco recusou a consulta (55P03)"
    )
    assert "não executada: sem detalhe" in describe(result(State.NOT_RUN))


# --- the file -------------------------------------------------------------------------------------


def test_the_page_appears_whole_under_its_name(tmp_path: Path) -> None:
    folder = tmp_path / "home" / "quality"
    path = save(overview(result(State.PASSED)), folder)
    assert path == folder / FILE
    assert path.read_text("utf-8") == to_html(overview(result(State.PASSED)))
    assert [one.name for one in folder.iterdir()] == [FILE]
    # And is replaced by the next one.
    save(overview(result(State.FAILED)), folder)
    assert "reprovada" in path.read_text("utf-8")
