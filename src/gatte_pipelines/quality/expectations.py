"""The verdicts: the checks of rows as expectations of Great Expectations.

One query a table, which counts the failing rows of every check at once (BOOLEAN_ONLY), on a
read-only connection of its own; no result and no page holds a value of a row. Which rows fail is
found out by ``failing``.
"""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import event

from gatte_pipelines.database.engine import parse_url
from gatte_pipelines.quality.suite import Check, Kind, Rule, Suite

if TYPE_CHECKING:
    from great_expectations.core import ExpectationSuiteValidationResult
    from great_expectations.datasource.fluent.sql_datasource import SQLDatasource
    from great_expectations.expectations.expectation import Expectation
    from sqlalchemy import URL, Engine

# Read only: whatever a suite says, it changes nothing. A context's table is no place for a lock.
_OPTIONS = "-c default_transaction_read_only=on -c lock_timeout=10s -c timezone=UTC"
_LOGGER = "great_expectations"
# To pages of a whole site of the library's, which this is not.
_DEAD_LINK = re.compile(r'<a href="\.\./[^"]*"\s*>(.*?)</a>', re.DOTALL)


@dataclass
class Verdicts:
    """What was found out of the rows of some tables.

    Attributes:
        holds: Whether a check holds, by its name; what is missing did not run.
        broken: Tables whose checks did not run, each with the class of what happened.
        pages: A page of Data Docs a table.
        statements: How many SQL statements it took.
    """

    holds: dict[str, bool] = field(default_factory=dict)
    broken: dict[str, str] = field(default_factory=dict)
    pages: dict[str, str] = field(default_factory=dict)
    statements: int = 0


def judge(
    url: str | URL,
    suites: Sequence[tuple[Suite, str]],
    *,
    as_of: datetime,
    progress: Callable[[str], None] = lambda _table: None,
) -> Verdicts:
    """Find out which checks of rows hold.

    Args:
        url: Of the database; the role needs to read what the suites name.
        suites: Each with the SQL whose rows are judged; its columns are known to be there.
        as_of: The instant of judging, printed on the pages.
        progress: Told of each table before it is read.
    """
    verdicts = Verdicts()
    if not suites:
        return verdicts
    with _quiet(), _source(url) as (source, engine):
        render = _renderer()
        bare = {sql for _, sql in suites}

        @event.listens_for(engine, "before_cursor_execute", retval=True)
        def only_columns(
            _connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any
        ) -> tuple[str, Any]:
            verdicts.statements += 1
            # To learn the columns of a query the library runs it and reads what it is called:
            # two million rows would come along.
            if statement.strip() in bare:
                statement = f"select * from ({statement}) as r limit 0"  # noqa: S608 - a suite's
            return statement, parameters

        for suite, sql in suites:
            progress(suite.table)
            try:
                result = _validate(source, suite, sql)
            except Exception as error:  # noqa: BLE001 - theirs are of many kinds; the rest goes on
                verdicts.broken[suite.table] = type(error).__name__
                continue
            by_name = {
                (found.expectation_config.meta or {}).get("check"): found
                for found in result.results
                if found.expectation_config is not None
            }
            for check, _ in suite.rules:
                found = by_name.get(check.name)
                if found is None or _has_raised(found.exception_info):
                    verdicts.broken.setdefault(suite.table, "ExpectationError")
                    continue
                verdicts.holds[check.name] = bool(found.success)
            if suite.table not in verdicts.broken:
                verdicts.pages[suite.table] = render(
                    result, f"{suite.table} · {as_of:%Y-%m-%d %H:%M} UTC"
                )
    return verdicts


def _validate(source: SQLDatasource, suite: Suite, sql: str) -> ExpectationSuiteValidationResult:
    import great_expectations as gx  # noqa: PLC0415 - takes seconds, and only where checks run

    batch = (
        source.add_query_asset(suite.table, query=sql)
        .add_batch_definition_whole_table(suite.table)
        .get_batch()
    )
    return batch.validate(
        gx.ExpectationSuite(
            name=suite.table,
            expectations=[_expectation(check, rule) for check, rule in suite.rules],
        ),
        result_format="BOOLEAN_ONLY",
    )


def _expectation(check: Check, rule: Rule) -> Expectation:
    from great_expectations.expectations.core.expect_column_values_to_be_between import (  # noqa: PLC0415
        ExpectColumnValuesToBeBetween,
    )
    from great_expectations.expectations.core.expect_column_values_to_be_in_set import (  # noqa: PLC0415
        ExpectColumnValuesToBeInSet,
    )
    from great_expectations.expectations.core.expect_column_values_to_match_regex import (  # noqa: PLC0415
        ExpectColumnValuesToMatchRegex,
    )
    from great_expectations.expectations.core.expect_column_values_to_not_be_null import (  # noqa: PLC0415
        ExpectColumnValuesToNotBeNull,
    )

    common: dict[str, Any] = {
        "column": rule.column,
        "severity": check.severity.value,
        "meta": {"check": check.name},
        # Shown instead of the library's words, which name neither the check nor how bad it is.
        "description": f"{check.name} ({check.severity}): {rule.describe()}",
    }
    if rule.kind is Kind.NOT_NULL:
        return ExpectColumnValuesToNotBeNull(**common)
    if rule.kind is Kind.IN_SET:
        return ExpectColumnValuesToBeInSet(value_set=list(rule.values), **common)
    if rule.kind is Kind.MATCHES:
        return ExpectColumnValuesToMatchRegex(regex=rule.pattern, **common)
    if rule.kind is Kind.BETWEEN:
        return ExpectColumnValuesToBeBetween(min_value=rule.low, max_value=rule.high, **common)
    return ExpectColumnValuesToBeInSet(value_set=[True], **common)


def _has_raised(info: Mapping[str, Any] | None) -> bool:
    """Whether an expectation raised; its own information, or one for each of its metrics."""
    if not info:
        return False
    if "raised_exception" in info:
        return bool(info["raised_exception"])
    return any(isinstance(one, Mapping) and _has_raised(one) for one in info.values())


@contextmanager
def _source(url: str | URL) -> Iterator[tuple[SQLDatasource, Engine]]:
    """A data source of this run alone, and the engine that it reads with."""
    import great_expectations as gx  # noqa: PLC0415
    from great_expectations.data_context.types.base import (  # noqa: PLC0415
        DataContextConfig,
        InMemoryStoreBackendDefaults,
        ProgressBarsConfig,
    )

    # Without our driver the library takes another one, which is not installed.
    named = parse_url(url) if isinstance(url, str) else url
    options = " ".join(filter(None, [str(named.query.get("options", "")), _OPTIONS]))
    context = gx.get_context(
        mode="ephemeral",
        project_config=DataContextConfig(
            analytics_enabled=False,
            progress_bars=ProgressBarsConfig(globally=False),
            store_backend_defaults=InMemoryStoreBackendDefaults(),
        ),
    )
    source = context.data_sources.add_sql(
        "gatte",
        connection_string=named.update_query_dict({"options": options}).render_as_string(
            hide_password=False
        ),
    )
    executing = source.get_execution_engine()
    try:
        yield source, executing.engine
    finally:
        executing.close()
        executing.engine.dispose()
        source.get_engine().dispose()


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep what the library logs and warns of to itself: both quote statements and values."""
    logger = logging.getLogger(_LOGGER)
    before = logger.disabled
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
        logger.disabled = before


# --- Data Docs ------------------------------------------------------------------------------------


def _renderer() -> Callable[[ExpectationSuiteValidationResult, str], str]:
    """Writes pages of Data Docs: the library's sections in a frame of ours that loads nothing."""
    from great_expectations.render.renderer.page_renderer import (  # noqa: PLC0415
        ValidationResultsPageRenderer,
    )
    from great_expectations.render.view.view import DefaultJinjaPageView  # noqa: PLC0415

    class OurPage(DefaultJinjaPageView):
        _template = "data_docs.j2"

    # One for all pages: each of them would compile every template of the library anew.
    view = OurPage(custom_views_directory=str(Path(__file__).parent))

    def render(result: ExpectationSuiteValidationResult, title: str) -> str:
        document = ValidationResultsPageRenderer(run_info_at_end=True).render(result)
        page: str = view.render(document, page_title=title)  # type: ignore[no-untyped-call]
        return _DEAD_LINK.sub(r"\1", page)

    return render


def render_index(verdicts: Verdicts, suites: Sequence[Suite], as_of: datetime) -> str:
    """The first page of the site: every table that was judged, with a link to its page.

    Args:
        verdicts: What was found out.
        suites: The suites that were asked for.
        as_of: The instant of judging.
    """
    rows = []
    for suite in suites:
        names = [check.name for check, _ in suite.rules if check.name in verdicts.holds]
        held = sum(verdicts.holds[name] for name in names)
        told = f"{held} of {len(names)} expectations of rows hold"
        link = (
            f'<a href="{suite.table}.html">{suite.table}</a>'
            if suite.table in verdicts.pages
            else f"{suite.table}"
        )
        if suite.table not in verdicts.pages:
            told = f"not judged ({escape(verdicts.broken.get(suite.table, 'not asked for'))})"
        rows.append(f"<tr><td>{link}</td><td>{told}</td></tr>")
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; '
        "style-src 'unsafe-inline'\"><title>Data Docs</title><style>"
        "body{font:16px/1.5 system-ui,sans-serif;max-width:50rem;margin:0 auto;padding:1rem;"
        "color:#1c2733;background:#f4f5f7}table{border-collapse:collapse;width:100%;"
        "background:#fff;border:1px solid #d9dee4}td{padding:.5rem .75rem;"
        "border-top:1px solid #e6eaee}a{color:#0b5c4b}</style></head><body>"
        f"<h1>Data Docs</h1><p>As of {as_of:%Y-%m-%d %H:%M} UTC. Schema, volume and freshness are "
        "judged apart: see the page in Portuguese beside this folder.</p>"
        f"<table>{''.join(rows)}</table></body></html>\n"
    )
