"""The operation: judge tables, remember what was found, close and open gates, write the pages.

Who may excuse a failure belongs to ``waivers``, what a failure stops to ``database.gates``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

import psycopg
from psycopg import sql
from sqlalchemy.exc import DBAPIError

from gatte_pipelines.business_time import business_date
from gatte_pipelines.database.drift import Difference, compare_with_doc01
from gatte_pipelines.database.drift import Kind as DriftKind
from gatte_pipelines.database.engine import psycopg_connection
from gatte_pipelines.database.gates import set_gates
from gatte_pipelines.database.names import NINE
from gatte_pipelines.database.statements import read_statements
from gatte_pipelines.errors import BadInputError, ConfigurationError, PermanentError
from gatte_pipelines.portuguese import count
from gatte_pipelines.quality import expectations, page
from gatte_pipelines.quality.counts import count_days
from gatte_pipelines.quality.failing import find_failing
from gatte_pipelines.quality.results import (
    Found,
    Result,
    State,
    conclude,
    count_states,
    find_suspects,
    read_last,
    store,
)
from gatte_pipelines.quality.scope import Mode, Reach, find_reach
from gatte_pipelines.quality.suite import (
    Check,
    Frame,
    Rule,
    Suite,
    assert_columns,
    rows_sql,
)
from gatte_pipelines.quality.volumes import judge_freshness, judge_volume

if TYPE_CHECKING:
    from sqlalchemy import URL, Connection

    from gatte_pipelines.business_time import BusinessCalendar
    from gatte_pipelines.quality.waivers import Waiver
    from gatte_pipelines.run_report import RunReport

PIPELINE = "data_quality"

WRITERS: dict[str, tuple[str, ...]] = {
    "users": ("inbound_messages", "quarantine_replay", "lgpd_retention", "lgpd_subject_request"),
    "conversations": (
        "inbound_messages",
        "quarantine_replay",
        "session_context_expiry",
        "lgpd_retention",
        "lgpd_subject_request",
    ),
    "messages": (
        "inbound_messages",
        "quarantine_replay",
        "session_context_expiry",
        "lgpd_retention",
        "lgpd_subject_request",
    ),
    "session_context": ("inbound_messages", "quarantine_replay", "session_context_expiry"),
    "tickets": ("inbound_messages", "quarantine_replay"),
    "leads": ("certificate_alerts", "lgpd_retention", "lgpd_subject_request"),
    "appointments": ("lgpd_retention", "lgpd_subject_request"),
    "services": ("lgpd_retention", "lgpd_subject_request"),
    "certificates": ("certificate_state", "certificate_alerts"),
}
"""The pipelines that write to a table: where to look first for what a failure came from."""

_SQL = read_statements(Path(__file__).with_name("quality.sql"))
_MAX_DETAIL = 400
# Who alters a table for longer than this is not waited for: its checks did not run.
_LOCK_TIMEOUT = "10s"


@dataclass(frozen=True, kw_only=True)
class Options:
    """What a run may be asked for.

    Attributes:
        tables: Those to judge; empty for all nine.
        mode: Whether what did not change is judged too.
        documents: Takes the table of the checks, by the key of its artifact.
        progress: Told how far the run is before each table is read.
    """

    tables: Sequence[str] = ()
    mode: Mode = Mode.AUTO
    documents: dict[str, Any] | None = None
    progress: Callable[[Progress], None] | None = None


@dataclass(frozen=True)
class Progress:
    """How far a run is: tables judged, of how many; and which is next."""

    done: int
    total: int
    table: str


@dataclass(kw_only=True)
class DataQuality:
    """Judges the nine tables.

    Attributes:
        connection: Of gatte_pipeline, outside a transaction.
        url: Under which the library connects for itself, as the same role.
        suites: The checks.
        waivers: Failures that are put up with.
        calendar: Which days people work on.
        content_kept_for: How long messages may have their content, as an interval of PostgreSQL.
        context_messages: How many messages a context may hold.
        folder: Where the pages go.
        now: The instant by the clock: of another day than this nothing is remembered but the
            results.
    """

    connection: Connection
    url: str | URL
    suites: Sequence[Suite]
    waivers: Sequence[Waiver]
    calendar: BusinessCalendar
    content_kept_for: str
    context_messages: int
    folder: Path
    now: datetime
    statements: int = field(default=0, init=False)

    def check(self, report: RunReport, options: Options) -> None:
        """Judge, and remember what was found.

        Args:
            report: Takes a unit a check.
            options: What was asked for.

        Raises:
            ConfigurationError: The role may not read what is judged, or a table is none of ours.
            PermanentError: A critical check failed, or one could not be carried out; everything is
                stored and written all the same.
        """
        suites = self._chosen(options.tables)
        driver = psycopg_connection(self.connection)
        with driver.transaction():
            driver.execute("select set_config('lock_timeout', %s, false)", [_LOCK_TIMEOUT])
        present = self._assert_readable(driver, suites)
        frame = Frame(
            as_of=report.as_of,
            today=business_date(report.as_of),
            content_kept_for=self.content_kept_for,
            context_messages=self.context_messages,
        )
        names = [check.name for suite in suites for check in suite.checks]
        with driver.transaction():
            last = read_last(driver, names, before=report.as_of)
            reach = find_reach(
                driver,
                {
                    suite.table: [check.name for check, _ in suite.rules]
                    for suite in suites
                    if suite.table in present
                },
                options.mode,
                last,
                as_of=report.as_of,
            )
        of_rows, verdicts = self._judge_rows(driver, suites, present, frame, reach, options)
        found = [
            *self._judge_structure(suites, present),
            *of_rows,
            *self._judge_days(driver, suites, present, frame),
        ]
        order = {name: number for number, name in enumerate(names)}
        waivers = {waiver.check: waiver for waiver in self.waivers}
        results = [
            conclude(
                one,
                waiver=waivers.get(one.check.name),
                last=last.get(one.check.name),
                run_id=report.run_id,
                checked_at=report.as_of,
                today=frame.today,
            )
            for one in sorted(found, key=lambda one: order[one.check.name])
        ]
        self._remember(driver, report, results, reach)
        with driver.transaction():
            results = [
                replace(one, suspects=find_suspects(driver, one, WRITERS[one.check.table]))
                if one.last_good_run_id is not None
                else one
                for one in results
            ]
        self._write_docs(verdicts, suites, frame)
        self._tell(report, results, suites, options)

    # -- what is judged

    def _chosen(self, tables: Sequence[str]) -> list[Suite]:
        if unknown := set(tables) - set(NINE):
            raise ConfigurationError(
                f"tables: {len(unknown)} unknown; expected some of {', '.join(NINE)}"
            )
        return [suite for suite in self.suites if not tables or suite.table in tables]

    def _assert_readable(
        self, driver: psycopg.Connection, suites: Sequence[Suite]
    ) -> frozenset[str]:
        """The tables that are there; all of them may be read."""
        with driver.transaction(), driver.cursor() as cursor:
            rows = cursor.execute(
                _SQL["read_rights"], {"tables": [suite.table for suite in suites]}
            ).fetchall()
        refused = [table for table, is_there, may_read in rows if is_there and not may_read]
        if refused:
            raise ConfigurationError(
                f"this role may not read the whole of {', '.join(refused)}; data_quality logs in "
                "as gatte_pipeline, from whom no row-level security may hide rows: look at "
                "GATTE_DATABASE_URL"
            )
        return frozenset(table for table, is_there, _ in rows if is_there)

    def _judge_structure(self, suites: Sequence[Suite], present: frozenset[str]) -> list[Found]:
        differences, refused = self._compare_structure(
            [suite.table for suite in suites if suite.find("schema")]
        )
        found = []
        for suite in suites:
            check = suite.find("schema")
            if check is None:
                continue
            if suite.table in refused:
                found.append(Found(check=check, has_run=False, detail=refused[suite.table]))
                continue
            mine = [
                str(one) for one in differences if one.table == suite.table and _is_doubtful(one)
            ]
            detail = "; ".join(mine) if suite.table in present else "a tabela não existe"
            found.append(Found(check=check, holds=not mine, detail=detail[:_MAX_DETAIL] or None))
        return found

    def _compare_structure(self, tables: Sequence[str]) -> tuple[list[Difference], dict[str, str]]:
        """What differs from DOC 01, and why tables could not be compared."""
        differences: list[Difference] = []
        refused: dict[str, str] = {}
        try:
            with self.connection.begin():
                return compare_with_doc01(self.connection, tables), refused
        except DBAPIError as error:
            if len(tables) == 1:
                return [], {tables[0]: _refusal(error.orig)}
        # One of them is at fault, as where somebody alters it now.
        for table in tables:
            of_one, of_one_refused = self._compare_structure([table])
            differences += of_one
            refused |= of_one_refused
        return differences, refused

    def _judge_rows(
        self,
        driver: psycopg.Connection,
        suites: Sequence[Suite],
        present: frozenset[str],
        frame: Frame,
        reach: Reach,
        options: Options,
    ) -> tuple[list[Found], expectations.Verdicts]:
        texts: dict[str, str] = {}
        broken: dict[str, str] = {}
        for suite in suites:
            if suite.table not in present:
                broken[suite.table] = "a tabela não existe"
                continue
            texts[suite.table] = rows_sql(suite, frame, reach.of(suite.table))
            try:
                assert_columns(suite, _read_columns(driver, texts[suite.table]))
            except BadInputError as error:
                broken[suite.table] = error.message
            except psycopg.Error as error:
                broken[suite.table] = _refusal(error)
        judged = [(suite, texts[suite.table]) for suite in suites if suite.table not in broken]
        places = {suite.table: number for number, (suite, _) in enumerate(judged)}

        def show(table: str) -> None:
            if options.progress is not None:
                options.progress(Progress(places[table], len(judged), table))

        verdicts = expectations.judge(self.url, judged, as_of=frame.as_of, progress=show)
        broken |= verdicts.broken
        self.statements += verdicts.statements
        waived = {one.check: one.keys for one in self.waivers if one.holds_on(frame.today)}
        found = []
        for suite in suites:
            is_full = not reach.of(suite.table).changed
            for check, rule in suite.rules:
                holds = verdicts.holds.get(check.name)
                if holds is None:
                    why = broken.get(suite.table, "não foi executada")
                    found.append(Found(check=check, has_run=False, is_full=is_full, detail=why))
                elif holds:
                    found.append(Found(check=check, holds=True, is_full=is_full, rows=0))
                else:
                    text, but = texts[suite.table], waived.get(check.name, ())
                    found.append(self._find_rows(driver, check, rule, text, is_full, but))
        return found, verdicts

    def _find_rows(
        self,
        driver: psycopg.Connection,
        check: Check,
        rule: Rule,
        text: str,
        is_full: bool,
        waived: Sequence[UUID],
    ) -> Found:
        """Which rows fail; none any more where somebody has mended them meanwhile."""
        try:
            with driver.transaction():
                failing = find_failing(driver, text, rule, but=waived)
        except psycopg.Error as error:
            return Found(check=check, has_run=False, is_full=is_full, detail=_refusal(error))
        self.statements += 1
        return Found(
            check=check,
            holds=failing.rows == 0,
            is_full=is_full,
            rows=failing.rows,
            excused=failing.excused,
            keys=failing.keys,
        )

    def _judge_days(
        self,
        driver: psycopg.Connection,
        suites: Sequence[Suite],
        present: frozenset[str],
        frame: Frame,
    ) -> list[Found]:
        found = []
        for suite in suites:
            checks = [suite.find("volume"), suite.find("freshness")]
            if not suite.counted_by or not any(checks):
                continue
            why = "a tabela não existe"
            counts: Mapping[Any, int] | None = None
            if suite.table in present:
                try:
                    with driver.transaction():
                        counts = count_days(
                            driver,
                            suite,
                            today=frame.today,
                            counted_at=frame.as_of if self._is_of_today(frame.as_of) else None,
                        )
                except psycopg.Error as error:
                    why = _refusal(error)
            for check in checks:
                if check is None:
                    continue
                if counts is None:
                    found.append(Found(check=check, has_run=False, detail=why))
                    continue
                judged = (
                    judge_volume(counts, frame.today - timedelta(days=1), self.calendar)
                    if check.what == "volume"
                    else judge_freshness(counts, frame.today, self.calendar)
                )
                found.append(Found(check=check, holds=judged.holds, detail=judged.detail))
        return found

    # -- what is remembered and told

    def _is_of_today(self, as_of: datetime) -> bool:
        return business_date(as_of) == business_date(self.now)

    def _remember(
        self,
        driver: psycopg.Connection,
        report: RunReport,
        results: Sequence[Result],
        reach: Reach,
    ) -> None:
        unread = {one.check.table for one in results if one.state is State.NOT_RUN}
        gates: dict[str, str | None] = {}
        for one in results:
            gates.setdefault(one.check.table, None)
            if one.closes_the_gate:
                before = gates[one.check.table]
                gates[one.check.table] = f"{before}, {one.check.name}" if before else one.check.name
        with driver.transaction(), driver.cursor() as cursor:
            store(cursor, results, run_id=report.run_id, checked_at=report.as_of)
            if not self._is_of_today(report.as_of):
                report.notes.append("instante de outro dia: os bloqueios não mudaram")
                return
            set_gates(cursor, gates, run_id=report.run_id, at=report.as_of)
            # What was not read is still to be read.
            kept = {
                name: value
                for name, value in reach.watermarks.items()
                if name.removesuffix("_full_at") not in unread
            }
            cursor.execute(
                _SQL["store_watermarks"],
                {"names": list(kept), "values": list(kept.values()), "instant": report.as_of},
            )

    def _tell(
        self,
        report: RunReport,
        results: Sequence[Result],
        suites: Sequence[Suite],
        options: Options,
    ) -> None:
        states = dict(count_states(results))
        report.received = len(results)
        report.inserted = states.pop("passed", 0)
        report.skipped = states
        today = business_date(report.as_of)
        bad = [one for one in results if one.is_bad]
        report.notes += [page.describe(one) for one in _worst_first(bad)]
        report.notes += [
            f"{one.check}: a tolerância venceu em {one.until:%d/%m/%Y}; renove-a ou tire-a"
            for one in self.waivers
            if not one.holds_on(today)
        ]
        document = page.Overview(
            as_of=report.as_of,
            run_id=report.run_id,
            suites=tuple(suites),
            results=tuple(results),
            waivers=tuple(self.waivers),
        )
        path = page.save(document, self.folder)
        report.notes.append(f"página: {path}")
        if options.documents is not None:
            options.documents["resumo"] = page.to_markdown(document, path)
            options.documents["verificacoes"] = ("Tabela por tabela", page.to_rows(document))
        closing = [one for one in results if one.closes_the_gate]
        broken = [one for one in results if one.state is State.NOT_RUN]
        if closing or broken:
            tables = sorted({one.check.table for one in closing})
            raise PermanentError(
                f"{count(len(closing), 'critical check')} failed or did not run"
                f"{' on ' + ', '.join(tables) if tables else ''}"
                f"{f', {len(broken)} did not run' if broken else ''}: "
                f"{', '.join(one.check.name for one in _worst_first([*closing, *broken])[:5])}; "
                f"see {path}"
            )

    def _write_docs(
        self, verdicts: expectations.Verdicts, suites: Sequence[Suite], frame: Frame
    ) -> None:
        folder = self.folder / "data_docs"
        folder.mkdir(parents=True, exist_ok=True)
        for table, text in verdicts.pages.items():
            (folder / f"{table}.html").write_text(text, "utf-8")
        index = expectations.render_index(verdicts, suites, frame.as_of)
        (folder / "index.html").write_text(index, "utf-8")


def _is_doubtful(difference: Difference) -> bool:
    """Whether a table that differs so is not to be trusted; a missing index only makes it slow."""
    if difference.kind in {DriftKind.NOTE, DriftKind.INDEX}:
        return False
    expected = difference.expected or ""
    return difference.kind is not DriftKind.ADDITION or not expected.startswith("index ")


def _worst_first(results: Sequence[Result]) -> list[Result]:
    order = ("critical", "warning", "info")
    unique = {one.check.name: one for one in results}
    return sorted(unique.values(), key=lambda one: order.index(one.check.severity))


def _refusal(error: BaseException | None) -> str:
    """What the database refused, by its code alone: its message quotes values."""
    return f"o banco recusou a consulta ({getattr(error, 'sqlstate', None) or 'sem código'})"


def _read_columns(driver: psycopg.Connection, text: str) -> frozenset[str]:
    """What the columns of a query are called; none of its rows is read."""
    with driver.transaction(), driver.cursor() as cursor:
        cursor.execute(sql.SQL("select * from ({}) as r limit 0").format(sql.SQL(text)))
        return frozenset(column.name for column in cursor.description or ())
