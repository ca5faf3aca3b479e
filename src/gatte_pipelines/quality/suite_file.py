"""Reads the suites from their files, one a table, with clear refusals."""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path

from gatte_pipelines.config_tree import Fields, Node, read_tree
from gatte_pipelines.database.names import NINE
from gatte_pipelines.errors import BadInputError
from gatte_pipelines.quality.suite import Check, Kind, Rule, Severity, Suite

FOLDER = Path(__file__).with_name("suites")
"""Where the suites of the nine stand."""

BY_DAY = ("volume", "freshness")
WHOLE_TABLE = ("schema", *BY_DAY)
"""Checks of a table as a whole, which have no column."""

_WORD = re.compile(r"[a-z][a-z0-9_]{1,60}")


@lru_cache(maxsize=1)
def read_suites() -> tuple[Suite, ...]:
    """The suites of the nine tables, in DOC 01's order.

    Raises:
        BadInputError: A file does not say what a suite must, named by line and field.
    """
    return tuple(read_suite(FOLDER / f"{table}.yaml") for table in NINE)


def read_suite(path: Path) -> Suite:
    """Read one suite.

    Args:
        path: Of the file, which is named after its table.

    Raises:
        BadInputError: It does not say what a suite must.
    """
    return parse_suite(path.read_text("utf-8"), path.name)


def parse_suite(text: str, file: str) -> Suite:
    """Read one suite from its text.

    Args:
        text: YAML.
        file: Its name, for errors.

    Raises:
        BadInputError: It does not say what a suite must.
    """
    root = read_tree(text, file)
    top = Fields.of(
        file,
        "",
        root.line,
        root,
        required=("table", "title", "acts", "rows", "checks"),
        optional=("counted_by",),
    )
    table = top.text("table", "the name of one of the nine tables")
    if table not in NINE:
        raise top.refuse("table", f"expected one of {', '.join(NINE)}")
    rows = top.entries["rows"][1].value
    if not isinstance(rows, str) or not rows.strip():
        raise top.refuse("rows", "expected SQL that selects id and the columns of the checks")
    if "%" in rows:
        raise top.refuse("rows", "expected no %: drivers take it for a parameter")
    checks: dict[str, Check] = {}
    listed = top.entries["checks"][1].value
    if not isinstance(listed, list) or not listed:
        raise top.refuse("checks", "expected a list of checks")
    for number, node in enumerate(listed):
        check = _parse_check(top, table, number, node)
        if check.name in checks:
            raise BadInputError(
                file, node.line, f"checks[{number}].name", "expected each check once: take one out"
            )
        if check.rule is None and check.what in BY_DAY and "counted_by" not in top:
            raise BadInputError(
                file,
                node.line,
                f"checks[{number}].name",
                "expected counted_by beside table: rows are counted by the day of that column",
            )
        checks[check.name] = check
    return Suite(
        table=table,
        title=top.text("title"),
        file=file,
        rows=rows.strip(),
        counted_by=top.text("counted_by", "a column of the table") if "counted_by" in top else "",
        checks=tuple(checks.values()),
    )


def _parse_check(top: Fields, table: str, number: int, node: Node) -> Check:
    fields = Fields.of(
        top.file,
        f"checks[{number}]",
        node.line,
        node,
        required=("name", "severity", "says"),
        optional=("column", "acts", *(kind.value for kind in Kind)),
    )
    what = fields.text("name", "a name, such as phone_format")
    if not _WORD.fullmatch(what):
        raise fields.refuse("name", "expected small letters, digits and _")
    severity = fields.text("severity")
    if severity not in set(Severity):
        raise fields.refuse("severity", f"expected {', '.join(Severity)}")
    return Check(
        name=f"{table}.{what}",
        table=table,
        severity=Severity(severity),
        says=fields.text("says", "a sentence in Portuguese"),
        acts=fields.text("acts") if "acts" in fields else top.text("acts", "who looks into it"),
        rule=_parse_rule(fields, what),
    )


def _parse_rule(fields: Fields, what: str) -> Rule | None:
    kinds = [kind for kind in Kind if kind.value in fields]
    if what in WHOLE_TABLE:
        if kinds or "column" in fields:
            raise fields.refuse("name", "this one is of the whole table: expected no column")
        return None
    if len(kinds) != 1 or "column" not in fields:
        raise fields.refuse(
            "name", f"expected a column and one of {', '.join(Kind)} beside this name"
        )
    (kind,) = kinds
    column = fields.text("column", "a column of rows")
    if not _WORD.fullmatch(column):
        raise fields.refuse("column", "expected the name of a column of rows")
    line = fields.entries["column"][1].line
    if kind in {Kind.NOT_NULL, Kind.IS_TRUE}:
        if fields.text(kind) != "true":
            raise fields.refuse(kind, "expected true")
        return Rule(column, kind, line=line)
    if kind is Kind.IN_SET:
        values = tuple(value for _, value in fields.items(kind, example="[open, closed]"))
        if not values:
            raise fields.refuse(kind, "expected at least one value")
        return Rule(column, kind, values=values, line=line)
    if kind is Kind.MATCHES:
        return Rule(column, kind, pattern=_parse_pattern(fields), line=line)
    bounds = fields.child(kind, optional=("low", "high"))
    low, high = (_parse_bound(bounds, name) for name in ("low", "high"))
    if low is None and high is None:
        raise fields.refuse(kind, "expected low, high or both")
    if low is not None and high is not None and low > high:
        raise bounds.refuse("low", "expected no more than high")
    return Rule(column, kind, low=low, high=high, line=line)


def _parse_pattern(fields: Fields) -> str:
    pattern = fields.text(Kind.MATCHES, "a regular expression")
    if not (pattern.startswith("^") and pattern.endswith("$")):
        raise fields.refuse(Kind.MATCHES, "expected ^ at its beginning and $ at its end")
    return pattern


def _parse_bound(bounds: Fields, name: str) -> int | None:
    if name not in bounds:
        return None
    text = bounds.text(name, "a whole number")
    if not re.fullmatch(r"-?[0-9]{1,9}", text):
        raise bounds.refuse(name, "expected a whole number")
    return int(text)
