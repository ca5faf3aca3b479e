"""Which steps are due: what a business date, a new certificate or a renewal changed.

Writes the ledger's steps in the caller's transaction, so that a dry run can roll them back. Costs
what is new since the last evaluation: dates whose step changed, and certificates that were written.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

from psycopg.rows import namedtuple_row

from gatte_pipelines.business_time import ZONE, BusinessCalendar, business_date
from gatte_pipelines.certificates.policy import (
    AlertPolicy,
    Issued,
    StepWindow,
    current_steps,
    higher_thresholds,
    pair_successors,
)
from gatte_pipelines.database.engine import psycopg_connection
from gatte_pipelines.database.statements import read_statements
from gatte_pipelines.errors import ConfigurationError

if TYPE_CHECKING:
    import psycopg
    from sqlalchemy import Connection

_SQL = read_statements(Path(__file__).with_name("evaluation.sql"))

LAPSED_LISTED = 500
"""Certificates long expired that the first evaluation lists one by one; the rest is counted."""


@dataclass(frozen=True, kw_only=True)
class Evaluated:
    """What one evaluation wrote.

    Attributes:
        recorded: Steps that became due.
        settled: Steps that ended, or were recorded as ended, by state.
        touched: Certificates whose steps or group changed.
        lapsed_before: Certificates past their last step before the first evaluation, unlisted.
    """

    recorded: int
    settled: Mapping[str, int]
    touched: frozenset[UUID]
    lapsed_before: int


def evaluate(
    connection: Connection,
    *,
    policy: AlertPolicy,
    calendar: BusinessCalendar,
    as_of: datetime,
    everything: bool = False,
    plan_id: UUID | None = None,
) -> Evaluated:
    """Write the steps that are due on a business date, and end those that stand no more.

    Args:
        connection: In a transaction of the caller's, with ``gatte.as_of`` set.
        policy: The thresholds.
        calendar: Of business days.
        as_of: The instant; its business date counts.
        everything: Look at every certificate whatever was evaluated before, and note nothing of
            it: for a rehearsal at another date.
        plan_id: Noted beside the steps.

    Raises:
        ConfigurationError: A later date was evaluated already.
    """
    on = business_date(as_of)
    # Another policy or calendar gives other steps to dates that were looked at before.
    digest = f"{policy.digest} {calendar.identity}"
    with psycopg_connection(connection).cursor(row_factory=namedtuple_row) as named:
        cursor: psycopg.Cursor[Any] = named  # a named tuple of any fields
        before = None if everything else _read_watermark(cursor, digest, on)
        if before == on and not _has_changes(cursor):
            # The steps of a date change with the date, the policy, what is written and what failed.
            return Evaluated(recorded=0, settled={}, touched=frozenset(), lapsed_before=0)
        lapsed_before = _find_candidates(cursor, policy, calendar, on, before, everything)
        replaced, maybe = _pair(cursor)
        parameters = {
            "replaced": sorted(replaced),
            "maybe": sorted(maybe),
            "last_days": policy.last_days,
            "plan_id": plan_id,
        }
        cursor.execute(_SQL["mark_maybe"], parameters)
        settled: Counter[str] = Counter()
        touched: set[UUID] = set()
        for name in ("settle_open", "record_due", "record_lapsed"):
            if name == "record_lapsed" and everything:
                continue
            cursor.execute(_SQL[name], parameters)
            for row in cursor.fetchall():
                settled[row.state] += 1
                touched.add(row.certificate_id)
        cursor.execute(_SQL["find_changed_certificates"])
        touched.update(row.certificate_id for row in cursor.fetchall())
        if not everything:
            value = json.dumps({"date": on.isoformat(), "digest": digest})
            cursor.execute(_SQL["write_watermark"], {"value": value})
    recorded = settled.pop("due", 0)
    return Evaluated(
        recorded=recorded,
        settled=dict(settled),
        touched=frozenset(touched),
        lapsed_before=lapsed_before,
    )


def forget_changes(connection: Connection) -> None:
    """Forget what this transaction evaluated; the last thing it does.

    The chatbot's statements lock a certificate first and its change then: whoever locks the changes
    before certificates would meet it head on.
    """
    with psycopg_connection(connection).cursor() as cursor:
        # Not there where the evaluation found nothing to look at.
        cursor.execute("select to_regclass('pg_temp.alert_changes') is not null")
        if (cursor.fetchone() or (False,))[0]:
            cursor.execute(_SQL["forget_changes"])


def _read_watermark(cursor: psycopg.Cursor[Any], digest: str, on: date) -> date | None:
    """The date of the last evaluation, where it was under the same policy and calendar."""
    cursor.execute(_SQL["read_watermark"])
    row = cursor.fetchone()
    if row is None:
        return None
    noted = json.loads(row.value)
    last = date.fromisoformat(noted["date"])
    if last > on:
        raise ConfigurationError(
            f"certificates were evaluated for {last} already; an earlier date can only be "
            "looked at in a dry run"
        )
    return last if noted["digest"] == digest else None


def _has_changes(cursor: psycopg.Cursor[Any]) -> bool:
    cursor.execute(_SQL["has_changes"])
    row = cursor.fetchone()
    return bool(row and row.has_any)


def _find_candidates(
    cursor: psycopg.Cursor[Any],
    policy: AlertPolicy,
    calendar: BusinessCalendar,
    on: date,
    before: date | None,
    everything: bool,
) -> int:
    """Fill the temporary tables; how many lapsed certificates are counted and not listed."""
    for name in ("create_windows", "create_candidates", "create_changes", "read_changes"):
        cursor.execute(_SQL[name])
    windows = current_steps(policy, calendar, on)
    known = frozenset() if before is None else current_steps(policy, calendar, before)
    _copy_windows(cursor, policy, sorted(windows), windows - known)
    cursor.execute(_SQL["find_in_windows"])
    ends_at = _start_of(on - timedelta(days=policy.last_days))
    lapsed_before = 0
    if before is not None:
        starts_at = _start_of(before - timedelta(days=policy.last_days))
        cursor.execute(_SQL["find_lapsing"], {"starts_at": starts_at, "ends_at": ends_at})
    elif not everything:
        cursor.execute(_SQL["find_newest_lapsed"], {"ends_at": ends_at, "page_size": LAPSED_LISTED})
        listed = cursor.rowcount
        if listed == LAPSED_LISTED:
            cursor.execute(_SQL["count_lapsed"], {"ends_at": ends_at})
            row = cursor.fetchone()
            lapsed_before = (row.lapsed if row else 0) - listed
    parameters = {"lapsed_before": ends_at if before is not None else None}
    cursor.execute(_SQL["find_changed"], parameters)
    cursor.execute("analyze alert_windows, alert_candidates, alert_changes")
    return lapsed_before


def _copy_windows(
    cursor: psycopg.Cursor[Any],
    policy: AlertPolicy,
    windows: Sequence[StepWindow],
    new: frozenset[StepWindow],
) -> None:
    with cursor.copy(
        "copy alert_windows (type, audience, expiry_date, threshold, higher, is_new) from stdin"
    ) as copy:
        for window in windows:
            higher = higher_thresholds(policy, window.type, window.audience, window.threshold)
            copy.write_row(
                (
                    window.type,
                    window.audience,
                    window.expiry_date,
                    window.threshold,
                    list(higher),
                    window in new,
                )
            )
    cursor.execute("analyze alert_windows")


def _pair(cursor: psycopg.Cursor[Any]) -> tuple[set[UUID], set[UUID]]:
    """Of all groups of the candidates: certificates that are replaced, and that may be."""
    replaced: set[UUID] = set()
    maybe: set[UUID] = set()
    cursor.execute(_SQL["find_groups"])
    for row in cursor.fetchall():
        pairing = pair_successors(
            [
                Issued(certificate_id=one, issued_at=issued, expires_at=expires, status=status)
                for one, issued, expires, status in zip(
                    row.ids, row.issued, row.expiries, row.statuses, strict=True
                )
            ]
        )
        replaced.update(pairing.replaced)
        maybe.update(pairing.maybe)
    return replaced, maybe


def _start_of(day: date) -> datetime:
    return datetime.combine(day, time(), ZONE)
