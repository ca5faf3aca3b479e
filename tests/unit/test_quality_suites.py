"""A suite says what must hold of a table, or is refused with file, line and field."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatte_pipelines.database.names import NINE
from gatte_pipelines.errors import BadInputError
from gatte_pipelines.quality.suite import (
    FRAME_NAMES,
    WHOLE,
    Frame,
    Kind,
    Rule,
    Scope,
    Severity,
    Suite,
    assert_columns,
    rows_sql,
)
from gatte_pipelines.quality.suite_file import FOLDER, parse_suite, read_suites

FILE = "tickets.yaml"
GOOD = """\
table: tickets
title: Chamados
acts: Equipe do chatbot
counted_by: created_at
rows: |
  select t.id, t.status::text as status, length(t.title) as title_length,
      t.created_at <= :as_of as was_created_in_the_past, t.protocol
  from tickets as t
checks:
  - name: schema
    severity: critical
    says: A tabela mudou.
  - name: status_is_known
    column: status
    in_set: [open, closed]
    severity: critical
    says: Situação desconhecida.
  - name: title_length
    column: title_length
    between: {low: 1, high: 300}
    severity: warning
    says: Sem título.
    acts: Vendas
  - name: created_in_the_past
    column: was_created_in_the_past
    is_true: true
    severity: info
    says: No futuro.
  - name: protocol_format
    column: protocol
    matches: '^[A-Z]+$'
    severity: info
    says: Fora do padrão.
  - name: protocol_is_there
    column: protocol
    not_null: true
    severity: info
    says: Sem protocolo.
  - name: volume
    severity: info
    says: Muitos.
"""
FRAME = Frame(
    as_of=datetime(2026, 3, 2, 15, tzinfo=UTC),
    today=date(2026, 3, 2),
    content_kept_for="90 days",
    context_messages=20,
)


def change(old: str, new: str, text: str = GOOD) -> str:
    """The suite with one piece replaced; it must be there once."""
    assert text.count(old) == 1, old
    return text.replace(old, new)


def line_of(text: str, piece: str) -> int:
    """The line on which a piece of the text stands."""
    assert text.count(piece) == 1, piece
    return text.count("\n", 0, text.index(piece)) + 1


def refusal(text: str) -> BadInputError:
    with pytest.raises(BadInputError) as caught:
        parse_suite(text, FILE)
    error = caught.value
    assert error.message.startswith(f"{FILE}, line {error.line}, {error.field}: ")
    return error


# --- what is read ---------------------------------------------------------------------------------


def test_a_suite_is_read_as_it_is_written() -> None:
    suite = parse_suite(GOOD, FILE)
    assert (suite.table, suite.title, suite.counted_by) == ("tickets", "Chamados", "created_at")
    assert [check.what for check in suite.checks] == [
        "schema",
        "status_is_known",
        "title_length",
        "created_in_the_past",
        "protocol_format",
        "protocol_is_there",
        "volume",
    ]
    status = suite.checks[1]
    assert (status.name, status.severity) == ("tickets.status_is_known", Severity.CRITICAL)
    assert status.rule == Rule(
        "status", Kind.IN_SET, values=("open", "closed"), line=line_of(GOOD, "column: status")
    )
    # Who acts stands once for all, or beside a check.
    assert [check.acts for check in suite.checks[1:3]] == ["Equipe do chatbot", "Vendas"]
    assert [check.what for check, _ in suite.rules] == [
        check.what for check in suite.checks if check.what not in {"schema", "volume"}
    ]
    assert suite.find("volume") is suite.checks[-1]
    assert suite.find("freshness") is None
    # A check of rows is none of the table as a whole.
    assert suite.find("status_is_known") is None


def test_the_nine_suites_are_read_in_the_order_of_doc01() -> None:
    suites = read_suites()
    assert tuple(suite.table for suite in suites) == NINE
    names = [check.name for suite in suites for check in suite.checks]
    assert len(names) == len(set(names))
    for suite in suites:
        assert suite.find("schema") is not None
        assert suite.checks[0].severity is Severity.CRITICAL
        for check in suite.checks:
            assert check.says.endswith("."), check.name


# --- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "field", "reason"),
    [
        ("table: tickets", "table: ticket", "table", "expected one of users, conversations"),
        ("table: tickets", "table:", "table", "expected the name of one of the nine tables"),
        ("title: Chamados", "title: ~", "title", "expected a text"),
        ("acts: Equipe do chatbot", "acts: ''", "acts", "expected who looks into it"),
        ("acts: Equipe do chatbot", "acts: [a]", "acts", "expected who looks into it"),
        ("counted_by: created_at", "counted_by:", "counted_by", "a column of the table"),
        ("title: Chamados", "titel: Chamados", "titel", "no field of this name here"),
        ("      t.created_at <=", "      t.title like 'a%', t.created_at <=", "rows", "no %"),
        ("  - name: schema", "  - name: Schema", "checks[0].name", "small letters"),
        ("  - name: schema", "  - name: x", "checks[0].name", "small letters"),
        ("  - name: schema", "  - nome: schema", "checks[0].nome", "no field of this name"),
        (
            "says: Situação desconhecida.",
            "says: ''",
            "checks[1].says",
            "expected a sentence in Portuguese",
        ),
        (
            "    severity: warning\n",
            "    severity: bad\n",
            "checks[2].severity",
            "expected critical, warning, info",
        ),
        (
            "column: title_length",
            "column: title length",
            "checks[2].column",
            "expected the name of a column of rows",
        ),
        (
            "column: title_length",
            "column: '\"; drop table tickets'",
            "checks[2].column",
            "expected the name of a column of rows",
        ),
        ("acts: Vendas", "acts: ''", "checks[2].acts", "expected a text"),
        ("is_true: true", "is_true: false", "checks[3].is_true", "expected true"),
        ("is_true: true", "is_true: [true]", "checks[3].is_true", "expected"),
        ("not_null: true", "not_null: yes", "checks[5].not_null", "expected true"),
        ("[open, closed]", "[]", "checks[1].in_set", "at least one value"),
        ("[open, closed]", "open", "checks[1].in_set", "expected a list, such as [open, closed]"),
        ("[open, closed]", "[open, [closed]]", "checks[1].in_set[1]", "expected"),
        ("'^[A-Z]+$'", "'[A-Z]+$'", "checks[4].matches", "expected ^ at its beginning"),
        ("'^[A-Z]+$'", "'^[A-Z]+'", "checks[4].matches", "$ at its end"),
        ("'^[A-Z]+$'", "''", "checks[4].matches", "a regular expression"),
        ("{low: 1, high: 300}", "{}", "checks[2].between", "expected low, high or both"),
        ("{low: 1, high: 300}", "5", "checks[2].between", "expected"),
        ("{low: 1, high: 300}", "{low: 9, high: 3}", "checks[2].between.low", "no more than high"),
        ("{low: 1, high: 300}", "{low: 1.5}", "checks[2].between.low", "expected a whole number"),
        ("{low: 1, high: 300}", "{high: 1e3}", "checks[2].between.high", "expected a whole number"),
        (
            "{low: 1, high: 300}",
            "{high: 9999999999}",
            "checks[2].between.high",
            "expected a whole number",
        ),
        ("{low: 1, high: 300}", "{most: 3}", "checks[2].between.most", "no field of this name"),
    ],
)
def test_what_cannot_be_right_is_refused_where_it_stands(
    old: str, new: str, field: str, reason: str
) -> None:
    text = change(old, new)
    error = refusal(text)
    assert error.field == field
    assert reason in error.reason
    if field == "rows":
        # A block of several lines is known by its first.
        assert error.line == line_of(text, "rows: |")
    else:
        assert error.line == line_of(text, new.strip().partition("\n")[0])


@pytest.mark.parametrize("missing", ["title: Chamados\n", "counted_by: created_at\n"])
def test_a_missing_field_is_named(missing: str) -> None:
    error = refusal(change(missing, ""))
    if missing.startswith("counted_by"):
        # Of what has a volume: the check that needs it is named.
        assert (error.field, error.line) == ("checks[6].name", line_of(GOOD, "name: volume") - 1)
        assert "expected counted_by" in error.reason
    else:
        assert (error.field, error.line) == ("title", 1)
        assert "missing" in error.reason


def test_a_suite_without_volume_needs_nothing_to_count_by() -> None:
    text = change("counted_by: created_at\n", "")
    without = text[: text.index("  - name: volume")]
    assert parse_suite(without, FILE).counted_by == ""


def test_a_check_that_lacks_a_field_is_named_by_its_number() -> None:
    error = refusal(
        change("    severity: critical\n    says: A tabela mudou.\n", "    says: A tabela mudou.\n")
    )
    assert (error.field, error.line) == ("checks[0].severity", line_of(GOOD, "name: schema"))


@pytest.mark.parametrize(
    ("checks", "reason"), [("checks: []\n", "a list"), ("checks: all\n", "a list")]
)
def test_a_suite_without_checks_is_refused(checks: str, reason: str) -> None:
    text = GOOD[: GOOD.index("checks:")] + checks
    error = refusal(text)
    assert (error.field, error.line) == ("checks", line_of(text, "checks:"))
    assert reason in error.reason


@pytest.mark.parametrize("rows", ["rows: ''\n", "rows: [select]\n", "rows: {a: b}\n"])
def test_rows_that_are_no_sql_are_refused(rows: str) -> None:
    begin, end = GOOD.index("rows:"), GOOD.index("checks:")
    text = GOOD[:begin] + rows + GOOD[end:]
    error = refusal(text)
    assert (error.field, error.line) == ("rows", line_of(text, "rows:"))


def test_the_same_check_twice_is_refused() -> None:
    text = change("  - name: protocol_format", "  - name: title_length")
    at = text.rindex("- name: title_length")
    error = refusal(text)
    assert (error.field, error.line) == ("checks[4].name", text.count("\n", 0, at) + 1)


def test_a_check_that_is_no_mapping_is_refused() -> None:
    text = GOOD + "  - freshness\n"
    error = refusal(text)
    assert (error.field, error.line) == ("checks[7]", line_of(text, "- freshness"))


@pytest.mark.parametrize("extra", ["    column: status\n", "    is_true: true\n"])
@pytest.mark.parametrize("name", ["schema", "volume"])
def test_a_check_of_the_whole_table_has_no_column(name: str, extra: str) -> None:
    text = change(f"  - name: {name}\n", f"  - name: {name}\n{extra}")
    error = refusal(text)
    assert error.line == line_of(text, f"name: {name}")
    assert "of the whole table" in error.reason


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("    matches: '^[A-Z]+$'\n", "    matches: '^[A-Z]+$'\n    not_null: true\n"),
        ("    matches: '^[A-Z]+$'\n", ""),
        ("    column: protocol\n    matches", "    matches"),
        ("    column: protocol\n    matches: '^[A-Z]+$'\n", ""),
    ],
)
def test_a_check_of_rows_asks_one_thing_of_one_column(old: str, new: str) -> None:
    text = change(old, new)
    error = refusal(text)
    assert (error.field, error.line) == ("checks[4].name", line_of(text, "name: protocol_format"))
    assert "expected a column and one of not_null, in_set" in error.reason


@pytest.mark.parametrize(
    "text",
    ["", "[]", "tickets", "table: [", "a: &x 1\nb: *x", "\x00", "---\n---\n", "!!python/x {}"],
)
def test_what_is_no_suite_at_all_is_refused(text: str) -> None:
    with pytest.raises(BadInputError) as caught:
        parse_suite(text, FILE)
    assert caught.value.file == FILE
    assert caught.value.line is not None


@given(st.data())
def test_damaged_text_raises_nothing_but_bad_input(data: st.DataObject) -> None:
    """Pieces taken out, doubled, exchanged for odd characters: a suite, or a clear refusal."""
    text = data.draw(
        st.sampled_from([GOOD, *((FOLDER / f"{table}.yaml").read_text("utf-8") for table in NINE)])
    )
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(text)))
        size = data.draw(st.integers(0, 40))
        new = data.draw(st.sampled_from(["", ":", "- ", "\n", "  ", "{", "'", "\t", "é", "%", "|"]))
        text = text[:at] + new + text[at + size :]
    refused: BadInputError | None = None
    try:
        assert parse_suite(text, FILE).checks
    except BadInputError as error:
        refused = error
    if refused is not None:
        assert refused.file == FILE
        assert refused.line is not None
        assert 1 <= refused.line <= text.count("\n") + 1


@given(st.text(max_size=200))
def test_any_text_raises_nothing_but_bad_input(text: str) -> None:
    with pytest.raises(BadInputError):
        parse_suite(text, FILE)


# --- the columns that the database has ------------------------------------------------------------


def test_a_column_that_rows_do_not_have_is_named_by_file_line_and_field() -> None:
    suite = parse_suite(GOOD, FILE)
    columns = frozenset({"id", "status", "was_created_in_the_past", "protocol"})
    with pytest.raises(BadInputError) as caught:
        assert_columns(suite, columns)
    assert caught.value.message == (
        f"{FILE}, line {line_of(GOOD, 'column: title_length')}, checks[2].column: no column of "
        "this name in rows; expected one of protocol, status, was_created_in_the_past"
    )
    assert_columns(suite, columns | {"title_length"})


def test_rows_without_an_id_are_refused() -> None:
    with pytest.raises(BadInputError) as caught:
        assert_columns(parse_suite(GOOD, FILE), frozenset({"status"}))
    assert (caught.value.file, caught.value.field) == (FILE, "rows")


# --- the SQL of rows ------------------------------------------------------------------------------


def suite_of(rows: str) -> Suite:
    return Suite("messages", "Mensagens", FILE, rows, "", ())


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ("a <= :as_of", "a <= timestamptz '2026-03-02T15:00:00+00:00'"),
        ("a = :today", "a = date '2026-03-02'"),
        (
            "a < :content_until",
            "a < (timestamptz '2026-03-02T15:00:00+00:00' - interval '90 days' "
            "- interval '26 hours')",
        ),
        ("n <= :context_messages", "n <= 20"),
        # What only looks like a name of ours stays.
        ("a::today", "a::today"),
        ("x:as_of", "x:as_of"),
        (":as_of_yesterday", ":as_of_yesterday"),
        ("a::text", "a::text"),
        ("where :in_scope(m.conversation_id, m.id)", "where true"),
        ("where :in_scope(c.id)", "where true"),
    ],
)
def test_names_stand_for_values(rows: str, expected: str) -> None:
    assert rows_sql(suite_of(rows), FRAME) == expected


def test_the_scope_keeps_to_what_changed_and_to_what_failed() -> None:
    scope = Scope("select n.id from conversations as n", ("k1", "k2"))
    assert rows_sql(suite_of("where :in_scope(c.id)"), FRAME, scope) == (
        "select r.* from (with changed (id) as materialized (select n.id from conversations as n)\n"
        "where c.id = any(array(select changed.id from changed))) as r"
    )
    assert rows_sql(suite_of("where :in_scope(m.conversation_id, m.id)"), FRAME, scope) == (
        "select r.* from (with changed (id) as materialized (select n.id from conversations as n)\n"
        "where (m.conversation_id = any(array(select changed.id from changed)) "
        "or m.id = any(array['k1', 'k2']::uuid[]))) as r"
    )
    nothing_failed = Scope(scope.changed)
    assert "any(array[]::uuid[])" in rows_sql(
        suite_of("where :in_scope(m.conversation_id, m.id)"), FRAME, nothing_failed
    )


@pytest.mark.parametrize("scope", [WHOLE, Scope("select n.id from conversations as n", ("k",))])
def test_no_name_is_left_in_the_sql_of_the_nine(scope: Scope) -> None:
    for suite in read_suites():
        text = rows_sql(suite, FRAME, scope)
        assert not re.search(r"(?<![:\w]):[a-z]", text), suite.table
        assert not any(f":{name}" in text for name in FRAME_NAMES)


def test_only_the_large_tables_have_a_scope() -> None:
    scope = Scope("select n.id from conversations as n", ("k",))
    changed = {
        suite.table
        for suite in read_suites()
        if rows_sql(suite, FRAME, scope) != rows_sql(suite, FRAME)
    }
    assert changed == {"conversations", "messages"}


# --- what a rule means, to SQL and to the library -------------------------------------------------


@pytest.mark.parametrize(
    ("rule", "failing"),
    [
        (Rule("a_b", Kind.NOT_NULL), '"a_b" is null'),
        (Rule("a_b", Kind.IS_TRUE), 'not "a_b"'),
        (Rule("user", Kind.IS_TRUE), 'not "user"'),
        (Rule("a_b", Kind.IN_SET, values=("x", "it's")), """"a_b" not in ('x', 'it''s')"""),
        (Rule("a_b", Kind.MATCHES, pattern="^it's$"), """"a_b" !~ '^it''s$'"""),
        (Rule("a_b", Kind.BETWEEN, low=-3), '"a_b" < -3'),
        (Rule("a_b", Kind.BETWEEN, high=0), '"a_b" > 0'),
        (Rule("a_b", Kind.BETWEEN, low=0, high=0), '"a_b" < 0 or "a_b" > 0'),
    ],
)
def test_a_row_fails_where_the_rule_is_broken(rule: Rule, failing: str) -> None:
    assert rule.failing() == failing


def test_every_kind_is_described_in_words_of_its_own() -> None:
    rules = [
        Rule("a", Kind.NOT_NULL),
        Rule("a", Kind.IS_TRUE),
        Rule("a", Kind.IN_SET, values=("x",)),
        Rule("a", Kind.MATCHES, pattern="^x$"),
        Rule("a", Kind.BETWEEN, low=1, high=2),
    ]
    assert len({rule.describe() for rule in rules}) == len(Kind) == len(rules)
    for one, other in product(rules, rules):
        assert (one.failing() == other.failing()) == (one is other)
