"""What must hold of a table: suites and their checks, as plain values. Pure.

Files are read by ``suite_file``; whether a check holds is found out by ``expectations`` (the
verdicts, with Great Expectations) and ``failing`` (the keys of the rows, by our own SQL).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum

from gatte_pipelines.errors import BadInputError

GRACE = "26 hours"
"""What rules about time allow beside their period: a night's run, and two hours."""


class Severity(StrEnum):
    """How bad it is where a check fails: a critical failure stops what depends on the table."""

    CRITICAL = "critical"
    WARNING = "warning"
    INFO = "info"


class Kind(StrEnum):
    """What a check asks of every value of its column; NOT_NULL alone judges a missing one."""

    NOT_NULL = "not_null"
    IN_SET = "in_set"
    MATCHES = "matches"
    BETWEEN = "between"
    IS_TRUE = "is_true"


@dataclass(frozen=True)
class Rule:
    """A check of every row.

    Attributes:
        column: Of the suite's ``rows``.
        kind: What is asked.
        values: The set of IN_SET.
        pattern: The regular expression (POSIX) of MATCHES.
        low: The least value of BETWEEN; None for any.
        high: The greatest value of BETWEEN; None for any.
        line: Where the column is named in the suite's file.
    """

    column: str
    kind: Kind
    values: tuple[str, ...] = ()
    pattern: str = ""
    low: int | None = None
    high: int | None = None
    line: int = 0

    def failing(self) -> str:
        """The SQL condition of a row that fails; null where the row is not judged."""
        # Quoted: a column may be called like a word of SQL, as user is.
        column = f'"{self.column}"'
        if self.kind is Kind.NOT_NULL:
            return f"{column} is null"
        if self.kind is Kind.IN_SET:
            return f"{column} not in ({', '.join(map(quoted, self.values))})"
        if self.kind is Kind.MATCHES:
            return f"{column} !~ {quoted(self.pattern)}"
        if self.kind is Kind.BETWEEN:
            bounds = []
            if self.low is not None:
                bounds.append(f"{column} < {self.low}")
            if self.high is not None:
                bounds.append(f"{column} > {self.high}")
            return " or ".join(bounds)
        return f"not {column}"

    def describe(self) -> str:
        """What is asked, in English: for Data Docs."""
        if self.kind is Kind.NOT_NULL:
            return f"{self.column} is there"
        if self.kind is Kind.IN_SET:
            return f"{self.column} is one of {', '.join(self.values)}"
        if self.kind is Kind.MATCHES:
            return f"{self.column} matches {self.pattern}"
        if self.kind is Kind.BETWEEN:
            bounds = [
                f"{word} {bound}"
                for word, bound in (("at least", self.low), ("at most", self.high))
                if bound is not None
            ]
            return f"{self.column} is {' and '.join(bounds)}"
        return f"{self.column} is true"


@dataclass(frozen=True)
class Check:
    """One thing that must hold.

    Attributes:
        name: ``table.what``; unique, and the word by which waivers and results mean it.
        table: Whose.
        severity: How bad it is where it fails.
        says: What it means for the business where it fails: a sentence in Portuguese.
        acts: Who looks into it, in Portuguese.
        rule: What is asked of every row; None where the table as a whole is judged
            (``schema``, ``volume``, ``freshness``).
    """

    name: str
    table: str
    severity: Severity
    says: str
    acts: str
    rule: Rule | None = None

    @property
    def what(self) -> str:
        """The name without its table."""
        return self.name.partition(".")[2]


@dataclass(frozen=True)
class Suite:
    """The checks of one table.

    Attributes:
        table: Of the nine.
        title: What the table is called in Portuguese.
        file: The suite's file, for errors.
        rows: SQL whose rows are judged: ``id`` and the columns of the checks. ``:as_of`` and the
            other names of `Frame` stand for values, ``:in_scope(COLUMN)`` for the condition that
            keeps to what changed.
        counted_by: The column whose business date is the day of a row, for volume and freshness;
            empty where rows do not come by the day.
        checks: In the file's order.
    """

    table: str
    title: str
    file: str
    rows: str
    counted_by: str
    checks: tuple[Check, ...]

    @property
    def rules(self) -> tuple[tuple[Check, Rule], ...]:
        """The checks of rows, each with what it asks."""
        return tuple((check, check.rule) for check in self.checks if check.rule is not None)

    def find(self, what: str) -> Check | None:
        """The check of the whole table that is called ``table.what``."""
        return next((c for c in self.checks if c.rule is None and c.what == what), None)


@dataclass(frozen=True, kw_only=True)
class Frame:
    """The values that stand in a suite's SQL.

    Attributes:
        as_of: The instant of judging.
        today: Its business date.
        content_kept_for: How long messages may have their content, as an interval of PostgreSQL;
            ``:content_until`` is the instant before which they must have none.
        context_messages: How many messages a context holds at most.
    """

    as_of: datetime
    today: date
    content_kept_for: str
    context_messages: int

    def literals(self) -> dict[str, str]:
        """Each name with its value as SQL."""
        as_of = f"timestamptz '{self.as_of.isoformat()}'"
        kept_for = f"interval {quoted(self.content_kept_for)}"
        return {
            "as_of": as_of,
            "today": f"date '{self.today.isoformat()}'",
            "content_until": f"({as_of} - {kept_for} - interval '{GRACE}')",
            "context_messages": str(self.context_messages),
        }


@dataclass(frozen=True)
class Scope:
    """Which rows of a suite are judged.

    Attributes:
        changed: SQL that selects the ids of the conversations that changed; empty for all rows.
        keys: Rows that failed before and are judged again whether they changed or not.
    """

    changed: str = ""
    keys: tuple[str, ...] = ()


WHOLE = Scope()
"""Every row."""

FRAME_NAMES = ("as_of", "today", "content_until", "context_messages")
_NAME = re.compile(rf"(?<![:\w]):({'|'.join(FRAME_NAMES)})\b")
_IN_SCOPE = re.compile(r"(?<![:\w]):in_scope\(([a-z_]+\.[a-z_]+)(?:, ([a-z_]+\.[a-z_]+))?\)")


def rows_sql(suite: Suite, frame: Frame, scope: Scope = WHOLE) -> str:
    """The SQL whose rows are judged.

    Args:
        suite: Whose.
        frame: The values that stand in it.
        scope: Which rows.
    """
    literals = frame.literals()
    text = _NAME.sub(lambda found: literals[found[1]], suite.rows)
    if not scope.changed:
        return _IN_SCOPE.sub("true", text)
    # Only ids of ours, which are UUIDs, come in here.
    keys = f"array[{', '.join(map(quoted, scope.keys))}]::uuid[]"

    def condition(found: re.Match[str]) -> str:
        # An array, so that the planner looks them up by index instead of joining all there is.
        part = f"{found[1]} = any(array(select changed.id from changed))"  # noqa: S608
        return f"({part} or {found[2]} = any({keys}))" if found[2] else part

    limited = _IN_SCOPE.sub(condition, text)
    if limited == text:
        return text
    # Found once, however often it is asked for; the library knows a query by its first word.
    return (
        f"select r.* from (with changed (id) as materialized ({scope.changed})\n"  # noqa: S608
        f"{limited}) as r"
    )


def quoted(text: str) -> str:
    """A text as an SQL literal."""
    return "'" + text.replace("'", "''") + "'"


def assert_columns(suite: Suite, found: frozenset[str]) -> None:
    """Refuse a suite that names a column its rows do not have.

    Args:
        suite: Whose.
        found: The columns of its rows, as the database knows them.

    Raises:
        BadInputError: Named by file, line and field.
    """
    if "id" not in found:
        raise BadInputError(
            suite.file, None, "rows", "expected a column id: failing rows are listed by it"
        )
    for number, check in enumerate(suite.checks):
        if check.rule is not None and check.rule.column not in found:
            raise BadInputError(
                suite.file,
                check.rule.line,
                f"checks[{number}].column",
                "no column of this name in rows; expected one of "
                f"{', '.join(sorted(found - {'id'}))}",
            )
