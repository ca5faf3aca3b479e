"""What the LGPD officer needs to know, counted: the report of retention, and the incident kit.

Counts, instants, ids and codes, never a personal value. How they read and where they are written
belongs to ``officer_page``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

from psycopg.rows import tuple_row

from gatte_pipelines.business_time import business_date
from gatte_pipelines.database.engine import psycopg_connection
from gatte_pipelines.database.statements import read_statements
from gatte_pipelines.errors import BadInputError, PermanentError
from gatte_pipelines.privacy import tickets
from gatte_pipelines.privacy.entries import GENESIS
from gatte_pipelines.privacy.ledger import OutsideCopy, verify
from gatte_pipelines.privacy.policy import Policy, Rule
from gatte_pipelines.privacy.rescan import (
    NIGHTLY_GRACE,
    Leftover,
    PastRows,
    examine_rules,
    is_rescanned,
    rescan_people,
)

if TYPE_CHECKING:
    import psycopg
    from sqlalchemy import Connection

_SQL = read_statements(Path(__file__).with_name("officer.sql"))

REPORTED_DAYS = 31
"""A report is of the month before it unless its caller says otherwise."""

MAX_TICKETS_LISTED = 500
"""More are counted: the officer decides about them by protocol year, not one by one."""

NOTICE_BUSINESS_DAYS = 3
"""Res. CD/ANPD 15/2024, art. 6 and 9: notice to the ANPD and to the subjects."""
SMALL_AGENT_BUSINESS_DAYS = 6
"""Res. CD/ANPD 15/2024, art. 6 § 7: twice as long for small agents (Res. CD/ANPD 2/2022)."""
RECORD_YEARS = 5
"""Res. CD/ANPD 15/2024, art. 10: how long the record of an incident is kept."""

_PIPELINES = (
    "lgpd_retention",
    "lgpd_subject_request",
    "session_context_expiry",
)
_RUNS = 10
_UNREADABLE = "A cópia externa do registro não pôde ser lida; a cadeia não foi conferida."


@dataclass(frozen=True, kw_only=True)
class Exempt:
    """Rows that are past their time and stay, by the bases that keep them (codes)."""

    bases: tuple[str, ...]
    rows: int


@dataclass(frozen=True, kw_only=True)
class RuleLine:
    """One rule of the policy and how it was kept.

    Attributes:
        rule: As the policy has it.
        is_counted: Whether the database shows what the rule did; else it follows another rule or
            is of files, or nothing is removed.
        done: Rows treated in the period, by the ledger.
        exempt: Rows kept on a basis.
        held: Rows kept by a hold.
        overdue: Rows that should be gone for more than 26 hours.
        oldest: The oldest row in which the data stands, by the rule's clock.
    """

    rule: Rule
    is_counted: bool
    done: int
    exempt: tuple[Exempt, ...]
    held: int
    overdue: int
    oldest: datetime | None

    @property
    def due(self) -> int:
        """Rows whose time was over: those treated and those that still stand."""
        return self.done + self.held + self.overdue + sum(one.rows for one in self.exempt)


@dataclass(frozen=True, kw_only=True)
class HeldRows:
    """Holds in force on one table."""

    table: str
    holds: int
    without_end: int
    first_end: datetime | None
    last_end: datetime | None


@dataclass(frozen=True, kw_only=True)
class OldTickets:
    """Tickets past their five years: whole, and listed for the officer to decide about."""

    tickets: int
    protocols: int
    oldest: datetime | None
    ids: tuple[UUID, ...]


@dataclass(frozen=True, kw_only=True)
class OpenRequest:
    """A request of a subject that is not done; ``days_left`` is negative when it is late."""

    request_id: UUID
    kind: str
    state: str
    received_at: datetime
    due_at: datetime
    days_left: int


@dataclass(frozen=True, kw_only=True)
class OpenTasks:
    """Erasures that another system has not confirmed; ``missing`` names the settings it lacks."""

    system: str
    tasks: int
    oldest: datetime
    days: int
    attempts: int
    missing: str = ""


@dataclass(frozen=True, kw_only=True)
class RecordedRun:
    """One run, without what it wrote down."""

    run_id: UUID
    pipeline: str
    as_of: datetime
    started_at: datetime
    outcome: str | None
    reason: str | None


@dataclass(frozen=True, kw_only=True)
class ChainCheck:
    """The privacy ledger, checked now in both copies."""

    entries: int
    outside_entries: int
    head_hash: str
    problems: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Words:
    """How many removed texts and emptied users are pseudonymised, and how many anonymised."""

    pseudonymised_messages: int
    anonymised_messages: int
    pseudonymised_users: int
    anonymised_users: int


@dataclass(frozen=True, kw_only=True)
class OfficerReport:
    """Everything the officer's report says. No personal value."""

    as_of: datetime
    since: datetime
    approved_on: date
    approved_by: str
    policy_digest: str
    rules: tuple[RuleLine, ...]
    leftovers: tuple[Leftover, ...]
    erased_on_request: int
    holds: tuple[HeldRows, ...]
    old_tickets: OldTickets
    tampered_tickets: tuple[tickets.TamperedTicket, ...]
    requests: tuple[OpenRequest, ...]
    tasks: tuple[OpenTasks, ...]
    chain: ChainCheck
    runs: tuple[RecordedRun, ...]
    words: Words

    @property
    def overdue(self) -> int:
        """Rows past their time by any rule, and columns left of anonymised people."""
        return sum(line.overdue for line in self.rules) + sum(
            leftover.count for leftover in self.leftovers
        )


@dataclass(frozen=True, kw_only=True)
class Category:
    """One category of data: persons, and records that hold it."""

    name: str
    subjects: int
    records: int


@dataclass(frozen=True, kw_only=True)
class Gone:
    """What one rule had removed before the incident, and what it removed since."""

    rule: str
    before: int
    since: int


@dataclass(frozen=True, kw_only=True)
class IncidentKit:
    """What a notice of an incident must count (Res. CD/ANPD 15/2024, art. 6 § 2).

    Attributes:
        as_of: When it was counted.
        incident_at: When the incident happened; what came later is not counted.
        known_at: When it was known that personal data were affected: the period begins.
        notice_due: Last business day for the notice. Holidays are not left out: never too late.
        small_agent_due: The same for a small agent.
        keep_until: The record of the incident is kept at least so long.
        categories: Data standing now that were there at the incident.
        subjects: Persons over all categories, staff included.
        quarantined: Records in quarantine, whose persons cannot be counted.
        gone: Rows removed by retention, by rule.
        anonymised_before: Users and leads that were anonymised before, by table.
        anonymised_since: The same from the incident on: exposed, and gone now.
        erased_before: Subjects erased on request before.
        erased_since: The same from the incident on.
        chain: The ledger that proves what was gone.
    """

    as_of: datetime
    incident_at: datetime
    known_at: datetime
    notice_due: date
    small_agent_due: date
    keep_until: date
    categories: tuple[Category, ...]
    subjects: int
    quarantined: int
    gone: tuple[Gone, ...]
    anonymised_before: Mapping[str, int]
    anonymised_since: Mapping[str, int]
    erased_before: int
    erased_since: int
    chain: ChainCheck


def build_report(
    connection: Connection,
    policy: Policy,
    outside: OutsideCopy,
    *,
    as_of: datetime,
    since: datetime | None = None,
    missing: Mapping[str, str] | None = None,
) -> OfficerReport:
    """Count what the officer's report says.

    Args:
        connection: Outside a transaction.
        policy: The policy in force.
        outside: The ledger outside the database.
        as_of: The instant of the report.
        since: Beginning of the period of which removed rows are counted; None: a month before.
        missing: Names of settings without which a system cannot be asked, by system.

    Raises:
        ConfigurationError: The policy has a rule that the re-scan does not look at.
    """
    since = since if since is not None else as_of - timedelta(days=REPORTED_DAYS)
    driver = psycopg_connection(connection)
    past = examine_rules(connection, policy, as_of=as_of, grace=NIGHTLY_GRACE)
    leftovers = tuple(rescan_people(connection))
    chain = _check_chain(driver, outside)
    tampered = tuple(tickets.verify(driver))
    with _cursor(driver) as cursor:
        times = {"instant": as_of, "since": since}
        oldest = dict(_run(cursor, "oldest_rows", times))
        done = {rule: count for rule, _, count in _run(cursor, "count_done", times)}
        ((_, erased),) = _run(cursor, "count_erased", times)
        return OfficerReport(
            as_of=as_of,
            since=since,
            approved_on=policy.approved_on,
            approved_by=policy.approved_by,
            policy_digest=policy.digest,
            rules=tuple(_rule_line(rule, past, done, oldest, as_of) for rule in policy.rules),
            leftovers=leftovers,
            erased_on_request=erased,
            holds=tuple(
                HeldRows(
                    table=table, holds=holds, without_end=endless, first_end=first, last_end=last
                )
                for table, holds, endless, first, last in _run(cursor, "count_holds", times)
            ),
            old_tickets=_read_old_tickets(cursor, policy, as_of),
            tampered_tickets=tampered,
            requests=tuple(
                OpenRequest(
                    request_id=request_id,
                    kind=kind,
                    state=state,
                    received_at=received_at,
                    due_at=due_at,
                    days_left=(business_date(due_at) - business_date(as_of)).days,
                )
                for request_id, kind, state, received_at, due_at in _run(
                    cursor, "open_requests", times
                )
            ),
            tasks=tuple(
                OpenTasks(
                    system=system,
                    tasks=count,
                    oldest=first,
                    days=(as_of - first).days,
                    attempts=attempts,
                    missing=(missing or {}).get(system, ""),
                )
                for system, count, first, attempts in _run(cursor, "open_tasks", times)
            ),
            chain=chain,
            runs=tuple(
                RecordedRun(
                    run_id=run_id,
                    pipeline=pipeline,
                    as_of=run_as_of,
                    started_at=started_at,
                    outcome=outcome,
                    reason=reason,
                )
                for run_id, pipeline, run_as_of, started_at, outcome, reason in _run(
                    cursor, "last_runs", times | {"pipelines": list(_PIPELINES), "limit": _RUNS}
                )
            ),
            words=_count_words(cursor, policy, as_of),
        )


def build_incident_kit(
    connection: Connection,
    outside: OutsideCopy,
    *,
    incident_at: datetime,
    known_at: datetime,
    as_of: datetime,
) -> IncidentKit:
    """Count whose data an incident may have reached, and what was already gone.

    The whole database is taken as affected: the numbers are the most that can be.

    Args:
        connection: Outside a transaction.
        outside: The ledger outside the database.
        incident_at: When it happened.
        known_at: When it was known that personal data were affected.
        as_of: Now.

    Raises:
        BadInputError: It was known before it happened, or lies in the future.
    """
    if not incident_at <= known_at <= as_of:
        raise BadInputError(
            "incident", None, "known_at", "must lie between the incident and the date of the kit"
        )
    driver = psycopg_connection(connection)
    chain = _check_chain(driver, outside)
    with _cursor(driver) as cursor:
        times = {"instant": as_of, "since": incident_at}
        counted = {
            name: (subjects, records)
            for name, subjects, records in _run(cursor, "count_subjects", times)
        }
        anonymized = _run(cursor, "count_anonymized", times)
        ((erased_before, erased_since),) = _run(cursor, "count_erased", times)
        ((quarantined,),) = _run(cursor, "count_quarantine", times)
        gone = tuple(
            Gone(rule=rule, before=before, since=since)
            for rule, before, since in _run(cursor, "count_done", times)
        )
    known_on = business_date(known_at)
    return IncidentKit(
        as_of=as_of,
        incident_at=incident_at,
        known_at=known_at,
        notice_due=add_business_days(known_on, NOTICE_BUSINESS_DAYS),
        small_agent_due=add_business_days(known_on, SMALL_AGENT_BUSINESS_DAYS),
        keep_until=_add_years(business_date(as_of), RECORD_YEARS),
        categories=tuple(
            Category(
                name=name,
                subjects=counted.get(name, (0, 0))[0],
                records=counted.get(name, (0, 0))[1],
            )
            for name in CATEGORIES
        ),
        subjects=counted[None][0],
        quarantined=quarantined,
        gone=gone,
        anonymised_before={table: before for table, before, _ in anonymized},
        anonymised_since={table: since for table, _, since in anonymized},
        erased_before=erased_before,
        erased_since=erased_since,
        chain=chain,
    )


CATEGORIES = (
    "name",
    "contact",
    "company",
    "credential",
    "whatsapp",
    "messages",
    "context",
    "tickets",
    "leads",
    "appointments",
    "services",
    "certificates",
    "staff",
)
"""Categories of data of the incident kit, in its order."""


def add_business_days(start: date, days: int) -> date:
    """The date that many business days (Monday to Friday) after ``start``, which is not counted."""
    day = start
    while days:
        day += timedelta(days=1)
        days -= day.weekday() < 5
    return day


def _add_years(day: date, years: int) -> date:
    try:
        return day.replace(year=day.year + years)
    except ValueError:  # 29 February
        return day.replace(year=day.year + years, month=3, day=1)


def _rule_line(
    rule: Rule,
    past: list[PastRows],
    done: Mapping[str, int],
    oldest: Mapping[str, datetime | None],
    as_of: datetime,
) -> RuleLine:
    at = oldest.get(rule.name)
    rows = {
        found.basis: found.count for found in past if found.rule == rule.name and not found.column
    }
    return RuleLine(
        rule=rule,
        is_counted=is_rescanned(rule),
        done=done.get(rule.name, 0),
        exempt=tuple(
            Exempt(bases=tuple(basis.split("+")), rows=rows[basis])
            for basis in sorted(basis for basis in rows if basis not in (None, "hold") and basis)
        ),
        held=rows.get("hold", 0),
        overdue=rows.get(None, 0),
        oldest=at if at is not None and at <= as_of else None,  # else it has not begun to age
    )


def _read_old_tickets(cursor: psycopg.Cursor[Any], policy: Policy, as_of: datetime) -> OldTickets:
    period = policy.rule("tickets_kept").period
    parameters = {
        "instant": as_of,
        "period": period.interval if period else "5 years",
        "limit": MAX_TICKETS_LISTED,
    }
    ((count, protocols, oldest),) = _run(cursor, "count_old_tickets", parameters)
    ids = tuple(row[0] for row in _run(cursor, "list_old_tickets", parameters))
    return OldTickets(tickets=count, protocols=protocols, oldest=oldest, ids=ids)


def _count_words(cursor: psycopg.Cursor[Any], policy: Policy, as_of: datetime) -> Words:
    period = policy.rule("messages_content").period
    parameters = {"instant": as_of, "period": period.interval if period else "90 days"}
    ((pseudonymised, anonymised, users, gone),) = _run(cursor, "count_words", parameters)
    return Words(
        pseudonymised_messages=pseudonymised,
        anonymised_messages=anonymised,
        pseudonymised_users=users,
        anonymised_users=gone,
    )


def _check_chain(driver: psycopg.Connection[Any], outside: OutsideCopy) -> ChainCheck:
    """The ledger as it is now. A copy that cannot be read is a finding, not the end of a report."""
    try:
        found = verify(driver, outside)
    except PermanentError:
        return ChainCheck(entries=0, outside_entries=0, head_hash=GENESIS, problems=(_UNREADABLE,))
    return ChainCheck(
        entries=found.entries,
        outside_entries=found.outside_entries,
        head_hash=found.head_hash,
        problems=found.problems,
    )


@contextmanager
def _cursor(driver: psycopg.Connection[Any]) -> Iterator[psycopg.Cursor[Any]]:
    with driver.transaction(), driver.cursor(row_factory=tuple_row) as cursor:
        yield cursor


def _run(
    cursor: psycopg.Cursor[Any], name: str, parameters: Mapping[str, Any]
) -> list[tuple[Any, ...]]:
    return cursor.execute(_SQL[name], parameters, prepare=False).fetchall()
