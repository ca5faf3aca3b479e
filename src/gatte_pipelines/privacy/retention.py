"""The retention engine: what is due under the policy is planned, destroyed in small steps, proven.

A step is one transaction under a second: lock the next rows still due, write the intent to the
ledger, destroy, write the outcome. Periods belong to the policy, how a person is anonymised to
``people``, the independent proof to ``rescan``.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

import psycopg
from psycopg import errors as pg

from gatte_pipelines.database.client_locks import exclusive_lock
from gatte_pipelines.database.engine import psycopg_connection
from gatte_pipelines.database.plans import (
    Plan,
    mark_executed,
    note_progress,
    read_plan,
    store_plan,
    sum_keys,
)
from gatte_pipelines.errors import ConfigurationError, PermanentError, RetryableError
from gatte_pipelines.privacy import tickets
from gatte_pipelines.privacy.due import (
    COUNTED_RULES,
    PEOPLE_RULES,
    SIMPLE_RULES,
    SQL,
    STAFF_RULE,
    SWEPT_RULES,
    Due,
    DueFinder,
    fetch_one,
    open_step,
)
from gatte_pipelines.privacy.external import (
    ErasureHook,
    Leaving,
    plan_external_tasks_of_all,
)
from gatte_pipelines.privacy.people import (
    anonymize_leads,
    anonymize_users,
    find_linked_leads,
    find_merged_leads,
    probe_old_values,
    read_old_values,
)
from gatte_pipelines.privacy.policy import Policy, PolicyChange, Rule, compare_limits
from gatte_pipelines.privacy.rescan import Leftover, rescan_people, rescan_rules
from gatte_pipelines.run_report import Outcome, RunReport

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from gatte_pipelines.privacy.ledger import Ledger
    from gatte_pipelines.privacy.stores import FileStore

PIPELINE = "lgpd_retention"

# A step holds row locks that the loader and the chatbot may wait for: under a second each.
FIRST_STEP_ROWS, MIN_STEP_ROWS, MAX_STEP_ROWS = 2_000, 50, 16_000
STEP_SECONDS = 0.4
# Anonymising a person touches all of a client's messages, and keeps the loaders waiting.
PEOPLE_STEP = 25
# Rows that somebody holds are left and tried again; what is still held then waits for the next run.
PASSES = 3
PASS_PAUSE_SECONDS = 0.5
FUTURE_TOLERANCE = timedelta(minutes=10)

_KNOWN_SINCE = "retention_policy"


@dataclass(kw_only=True)
class RuleResult:
    """What became of one rule in this run."""

    due: Due
    done: int = 0
    locked: int = 0


@dataclass(kw_only=True)
class RetentionResult:
    """All a run found and did; the report of the run says the same in counts."""

    plan_id: UUID | None = None
    rules: dict[str, RuleResult] = field(default_factory=dict)
    changes: tuple[PolicyChange, ...] = ()
    longest_step_seconds: float = 0.0
    steps: int = 0
    tampered: tuple[tickets.TamperedTicket, ...] = ()
    user_ids: list[UUID] = field(default_factory=list)
    lead_ids: list[UUID] = field(default_factory=list)


Sweep = Callable[[datetime], Mapping[str, int]]
"""Ends by the clock, at an instant, what belongs to ``SWEPT_RULES``; how many rows went by rule."""


class StoppedError(PermanentError):
    """The kill switch was set while the run was going on."""


@dataclass(frozen=True, kw_only=True)
class Retention:
    """Carries the policy out.

    Args:
        connection: To the database, outside a transaction.
        ledger: On a connection of its own.
        policy: What is kept for how long.
        sweep: The operation of another domain that ends contexts and what waits in vain.
        files: The file stores of the policy.
        hooks: Other systems that must forget whoever is anonymised here (S2).
        vacuum: Vacuums these tables as their owner and raises where the server skips one; None
            where there is nobody who may.
        now: The real instant, for what may not lie in the future.
    """

    connection: Connection
    ledger: Ledger
    policy: Policy
    sweep: Sweep
    files: Sequence[FileStore]
    hooks: Mapping[str, ErasureHook]
    vacuum: Callable[[Sequence[str]], None] | None
    now: datetime

    @property
    def finder(self) -> DueFinder:
        """Finds what is due."""
        return DueFinder(policy=self.policy, files=self.files)

    def retain(
        self,
        report: RunReport,
        *,
        execute: bool,
        approve: UUID | None = None,
        force: bool = False,
        after_step: Callable[[], None] | None = None,
    ) -> RetentionResult:
        """Plan, and where asked to carry out.

        Without ``execute`` nothing is destroyed: the plan is stored and told. A run that would
        change too much at once, or whose policy is not the one last carried out, stores its plan
        and ends as *needs approval*; ``approve`` carries out exactly that plan, and carries it on
        where a run of it was stopped.

        Args:
            report: Is filled; ``received`` counts due and exempt rows.
            execute: Destroy.
            approve: A stored plan to carry out.
            force: Accept an ``as_of`` in the future or before the last run.
            after_step: Called after every step, for tests that end the process there.

        Raises:
            ConfigurationError: The plan is none, stale or expired; ``as_of`` may not be used.
            PermanentError: The ledger cannot be written, the proof failed, or a person stopped
                the run; what was done stays done and the next run goes on.
            RetryableError: Rows were locked by others to the end; the next run meets them.
        """
        driver = psycopg_connection(self.connection)
        if self._stop_if_paused(driver, report):
            return RetentionResult()
        as_of = self._read_as_of(driver, report, approve)
        if execute or approve is not None:
            self._assert_usable(driver, as_of, force=force)
        with open_step(driver, as_of) as cursor:
            found = self.finder.find(cursor)
            changes = self._changes(cursor)
        result = RetentionResult(
            rules={name: RuleResult(due=due) for name, due in found.items()}, changes=changes
        )
        reason = None
        if approve is not None:
            self._assert_plan_holds(driver, approve, found)
            result.plan_id = approve
        elif execute:
            reason = self._needs_approval(driver, as_of, result)
        if reason is not None or not (execute or approve):
            self._store(driver, report, result, as_of, reason)
            return result
        self._execute(driver, report, result, as_of, after_step)
        return result

    # --- Before anything is destroyed --------------------------------------------------------

    def _stop_if_paused(self, driver: psycopg.Connection, report: RunReport) -> bool:
        with driver.transaction(), driver.cursor() as cursor:
            paused = _is_paused(cursor)
        if paused:
            report.outcome, report.reason = Outcome.SKIPPED, "paused"
        return paused

    def _read_as_of(
        self, driver: psycopg.Connection, report: RunReport, approve: UUID | None
    ) -> datetime:
        if approve is None:
            return report.as_of
        with driver.transaction(), driver.cursor() as cursor:
            plan = read_plan(cursor, approve, pipeline=PIPELINE, now=self.now)
        report.as_of = plan.as_of
        return plan.as_of

    def _assert_usable(self, driver: psycopg.Connection, as_of: datetime, *, force: bool) -> None:
        if force:
            return
        if as_of > self.now + FUTURE_TOLERANCE:
            raise ConfigurationError(
                "as_of lies in the future: what is not due yet would be destroyed; "
                "--force does it all the same"
            )
        with driver.transaction(), driver.cursor() as cursor:
            last = _read_watermark(cursor, "as_of")
        if last is not None and as_of < datetime.fromisoformat(last):
            raise ConfigurationError(
                f"as_of lies before that of the last executed run ({last}); "
                "--force does it all the same"
            )

    def _changes(self, cursor: psycopg.Cursor[Any]) -> tuple[PolicyChange, ...]:
        """How the limits differ from those last carried out; none before the first run."""
        known = _read_watermark(cursor, _KNOWN_SINCE)
        return () if known is None else compare_limits(json.loads(known), self.policy)

    def _needs_approval(
        self, driver: psycopg.Connection, as_of: datetime, result: RetentionResult
    ) -> str | None:
        if result.changes:
            return "policy_changed"
        for name, ruled in result.rules.items():
            due = ruled.due
            if due.count <= self.policy.mass_rows or not self.policy.rule(name).is_mass_checked:
                continue
            with open_step(driver, as_of) as cursor:
                population = self.finder.count_population(cursor, name)
            if due.count * 100 > population * self.policy.mass_pct:
                return "mass_change"
        return None

    def _assert_plan_holds(
        self, driver: psycopg.Connection, plan_id: UUID, found: Mapping[str, Due]
    ) -> None:
        with driver.transaction(), driver.cursor() as cursor:
            plan = read_plan(cursor, plan_id, pipeline=PIPELINE, now=self.now)
        if plan.parameters.get("policy") != self.policy.digest:
            raise ConfigurationError(
                f"plan {plan_id} was made under another policy; make a new one with a dry run"
            )
        for name, due in found.items():
            if not (_is_of_the_clock(name) or _is_what_is_left(plan, name, due)):
                raise ConfigurationError(
                    f"plan {plan_id} is stale: the rows of {name} have changed since; "
                    "make a new one with a dry run"
                )

    def _store(
        self,
        driver: psycopg.Connection,
        report: RunReport,
        result: RetentionResult,
        as_of: datetime,
        reason: str | None,
    ) -> None:
        """Store the plan and tell what it would do; nothing was changed."""
        with driver.transaction(), driver.cursor() as cursor:
            result.plan_id = store_plan(
                cursor,
                pipeline=PIPELINE,
                as_of=as_of,
                now=self.now,
                parameters={"policy": self.policy.digest},
                contents={name: ruled.due.to_contents() for name, ruled in result.rules.items()},
                reason=reason,
            )
        for ruled in result.rules.values():
            _add_exempt(report, ruled.due)
            if ruled.due.count:
                report.received += ruled.due.count
                report.skipped["dry_run"] = report.skipped.get("dry_run", 0) + ruled.due.count
        # In this order: a card shows the first notes only.
        report.notes.append(f"plano {result.plan_id}, válido por 7 dias")
        report.notes += [
            self._describe_change(driver, as_of, change, result.rules) for change in result.changes
        ]
        report.notes += [_describe_due(ruled.due) for ruled in result.rules.values() if _has(ruled)]
        if reason is not None:
            report.outcome, report.reason = Outcome.NEEDS_APPROVAL, reason
        else:
            report.reason = "dry_run"

    def _describe_change(
        self,
        driver: psycopg.Connection,
        as_of: datetime,
        change: PolicyChange,
        rules: Mapping[str, RuleResult],
    ) -> str:
        """What a changed limit means in rows, where the database can tell."""
        said = (
            f"política alterada em {change.limit}: {change.before or '–'} → {change.after or '–'}"
        )
        rule = change.limit.removesuffix("_ceiling")
        if rule not in rules or not change.before or rule not in COUNTED_RULES:
            return said
        finder = replace(self.finder, limits={change.limit: change.before})
        with open_step(driver, as_of) as cursor:
            before = finder.count(cursor, rule).count
        return f"{said}: {rules[rule].due.count - before:+d} linhas vencidas"

    # --- Destruction ---------------------------------------------------------------------------

    def _execute(
        self,
        driver: psycopg.Connection,
        report: RunReport,
        result: RetentionResult,
        as_of: datetime,
        after_step: Callable[[], None] | None,
    ) -> None:
        self.ledger.catch_up()
        self.ledger.close_interrupted(at=self.now)
        self._record_policy(driver)
        self._record_merges(driver, as_of)
        run = _Run(self, driver, report, result, as_of, after_step)
        run.sweep({name: result.rules[name] for name in SWEPT_RULES})
        for name, ruled in result.rules.items():
            if name not in SWEPT_RULES:
                run.carry_out(name, ruled)
        touched = {
            _table_of(self.policy.rule(name)) for name, ruled in result.rules.items() if ruled.done
        }
        with open_step(driver, as_of) as cursor:
            for name in PEOPLE_RULES:
                self._note_exempt(cursor, name, result.rules[name].due)
        tickets.seal_closed(driver, at=as_of)
        result.tampered = tuple(tickets.verify(driver))
        if self.vacuum is not None:
            self.vacuum(sorted(table for table in touched if table))
        self._prove(driver, result, as_of)
        with driver.transaction(), driver.cursor() as cursor:
            _write_watermark(cursor, "as_of", min(as_of, self.now).isoformat())
            # With rows that others held to the end it can be carried on like one that was stopped.
            if result.plan_id is not None and not any(r.locked for r in result.rules.values()):
                mark_executed(cursor, result.plan_id, self.now)
        self._tell(report, result)

    def _record_policy(self, driver: psycopg.Connection) -> None:
        """Remember the limits carried out, so that a change of them is seen before it acts."""
        limits = self.policy.limits()
        text = json.dumps(limits, sort_keys=True)
        with driver.transaction(), driver.cursor() as cursor:
            known = _read_watermark(cursor, _KNOWN_SINCE)
        if known == text:
            return
        self.ledger.append("policy", {"digest": self.policy.digest, "periods": limits}, at=self.now)
        with driver.transaction(), driver.cursor() as cursor:
            _write_watermark(cursor, _KNOWN_SINCE, text)

    def _record_merges(self, driver: psycopg.Connection, as_of: datetime) -> None:
        """Clients that became one since the last run: a restored database must know it again."""
        with open_step(driver, as_of) as cursor:
            cursor.execute(SQL["read_new_merges"])
            merges = cursor.fetchall()
        for from_id, into_id, at in merges:
            self.ledger.append(
                "merge",
                {"from": str(from_id), "into": str(into_id), "at": at.isoformat()},
                at=self.now,
            )
            with driver.transaction(), driver.cursor() as cursor:
                _write_watermark(cursor, "merges", at.isoformat())

    def _note_exempt(self, cursor: psycopg.Cursor[Any], name: str, due: Due) -> None:
        pairs = [(row, basis) for basis, rows in due.exempt.items() for row in rows]
        parameters = {
            "rule": name,
            "table": PEOPLE_RULES[name],
            "ids": [row for row, _ in pairs],
            "bases": [basis for _, basis in pairs],
        }
        cursor.execute(SQL["forget_exempt"], parameters)
        if pairs:
            cursor.execute(SQL["note_exempt"], parameters)

    def _prove(self, driver: psycopg.Connection, result: RetentionResult, as_of: datetime) -> None:
        """The independent proof; what is locked is known and told otherwise.

        Raises:
            PermanentError: Something is left that should have gone.
        """
        locked = {
            _table_of(self.policy.rule(name))
            for name, ruled in result.rules.items()
            if ruled.locked
        }
        left: list[Leftover] = [
            item
            for item in rescan_rules(self.connection, self.policy, as_of=as_of)
            if item.table not in locked
        ]
        if result.user_ids or result.lead_ids:
            left += rescan_people(
                self.connection, user_ids=result.user_ids, lead_ids=result.lead_ids
            )
        if driver.info.transaction_status != psycopg.pq.TransactionStatus.IDLE:
            self.connection.rollback()
        if left:
            places = ", ".join(sorted({f"{item.table} ({item.count})" for item in left})[:10])
            raise PermanentError(
                f"the proof failed: rows past their time, or personal data of anonymised people, "
                f"are left in {places}; see the officer's report"
            )

    def _tell(self, report: RunReport, result: RetentionResult) -> None:
        for name, ruled in result.rules.items():
            due, done, locked = ruled.due, ruled.done, ruled.locked
            report.received += max(due.count, done + locked)
            report.updated += done
            if locked:
                report.skipped["locked"] = report.skipped.get("locked", 0) + locked
            if due.count > done + locked:
                # Not due any more when its turn came: the client wrote, somebody placed a hold.
                report.skipped["no_longer_due"] = (
                    report.skipped.get("no_longer_due", 0) + due.count - done - locked
                )
            _add_exempt(report, due)
            if done or locked or due.exempt or due.unfinished:
                report.notes.append(_describe_done(name, ruled))
        report.notes.append(
            f"{result.steps} etapas; a mais longa levou "
            f"{result.longest_step_seconds:.2f} s".replace(".", ",")
        )
        if result.tampered:
            report.notes.append(
                f"ATENÇÃO: {len(result.tampered)} chamados encerrados foram alterados; "
                "veja o relatório do encarregado"
            )
        locked_rows = sum(ruled.locked for ruled in result.rules.values())
        if locked_rows:
            raise RetryableError(
                f"{locked_rows} rows were locked by others to the end; the next run meets them"
            )
        if not report.received:
            report.outcome, report.reason = Outcome.SKIPPED, "nothing_to_do"


class _Run:
    """One execution: its steps, the ledger's entries of each, and the time they took."""

    def __init__(
        self,
        retention: Retention,
        driver: psycopg.Connection,
        report: RunReport,
        result: RetentionResult,
        as_of: datetime,
        after_step: Callable[[], None] | None,
    ) -> None:
        self._retention, self._driver = retention, driver
        self._report, self._result, self._as_of = report, result, as_of
        self._after_step = after_step
        self._rows = FIRST_STEP_ROWS

    def carry_out(self, name: str, ruled: RuleResult) -> None:
        """Destroy what one rule found, step by step, in up to three passes."""
        if not ruled.due.count:
            return
        step = self._step_of(name)
        if step is None:
            self._trim(name, ruled)
            return
        self._rows = FIRST_STEP_ROWS
        for number in range(1, PASSES + 1):
            while done := step(name):
                ruled.done += done
                if ruled.done > 2 * ruled.due.count + MAX_STEP_ROWS:
                    raise PermanentError(
                        f"{name}: the same rows are due again and again; does a trigger bring back "
                        "what was cleared?"
                    )
            left = self._count_left(name)
            if not left:
                return
            ruled.locked = left
            if number < PASSES:
                time.sleep(PASS_PAUSE_SECONDS)
        # The last pass may have got what the one before had not.
        ruled.locked = self._count_left(name)

    def _step_of(self, name: str) -> Callable[[str], int] | None:
        if name in SIMPLE_RULES:
            return self._clear
        if name == STAFF_RULE:
            return self._rename_staff
        if name in PEOPLE_RULES:
            return self._anonymize
        return None

    def _count_left(self, name: str) -> int:
        with open_step(self._driver, self._as_of) as cursor:
            return self._retention.finder.count(cursor, name).count

    def _intend(self, rule: str, count: int, first: datetime, last: datetime) -> int:
        return self._retention.ledger.append(
            "intent",
            {
                "rule": rule,
                "as_of": self._as_of.isoformat(),
                "from": first.isoformat(),
                "to": last.isoformat(),
                "count": count,
                "run_id": str(self._report.run_id),
            },
            at=self._retention.now,
        )

    def _outcome(
        self, cursor: psycopg.Cursor[Any], intent: int, name: str, done: int, checksum: int
    ) -> None:
        """Say within the step what it did: to the ledger, and to the plan that it is part of."""
        self._retention.ledger.append_within(
            cursor, "outcome", {"intent": intent, "done": done}, at=self._retention.now
        )
        if self._result.plan_id is not None:
            note_progress(cursor, self._result.plan_id, name, count=done, checksum=checksum)

    @contextmanager
    def _timed_step(self) -> Iterator[psycopg.Cursor[Any]]:
        """A step that may destroy: stopped by the kill switch, measured, and then told outside."""
        started = time.monotonic()
        with open_step(self._driver, self._as_of) as cursor:
            if _is_paused(cursor):
                raise StoppedError(
                    "stopped by the kill switch; what was done stays done, and "
                    "gatte lgpd resume lets the next run go on"
                )
            yield cursor
        seconds = time.monotonic() - started
        result = self._result
        result.steps += 1
        result.longest_step_seconds = max(result.longest_step_seconds, seconds)
        if seconds > STEP_SECONDS:
            self._rows = max(MIN_STEP_ROWS, self._rows // 2)
        elif seconds < STEP_SECONDS / 3:
            self._rows = min(MAX_STEP_ROWS, self._rows * 2)
        self._retention.ledger.catch_up()
        if self._after_step is not None:
            self._after_step()

    def _clear(self, name: str) -> int:
        """One step of a rule that clears or deletes rows; how many went."""
        period = self._retention.finder.period(name)
        with self._timed_step() as cursor:
            cursor.execute(SQL[f"take_{name}"], {"period": period, "limit": self._rows})
            tids, count, first, last, checksum = fetch_one(cursor)
            if not count:
                return 0
            intent = self._intend(name, count, first, last)
            cursor.execute(SQL[f"apply_{name}"], {"tids": tids})
            if cursor.rowcount != count:
                raise PermanentError(
                    f"{name}: {count} rows were taken and {cursor.rowcount} changed"
                )
            self._outcome(cursor, intent, name, count, checksum)
            return int(count)

    def _rename_staff(self, name: str) -> int:
        period = self._retention.finder.period(name)
        with self._timed_step() as cursor:
            cursor.execute(SQL[f"take_{name}"], {"period": period, "limit": PEOPLE_STEP})
            ids, count, first, last, checksum = fetch_one(cursor)
            if not count:
                return 0
            intent = self._intend(name, count, first, last)
            cursor.execute(SQL["name_staff"], {"tids": ids})
            pairs = cursor.fetchall()
            cursor.execute(
                SQL["rename_staff"],
                {"old_names": [old for old, _ in pairs], "new_names": [new for _, new in pairs]},
            )
            self._outcome(cursor, intent, name, count, checksum)
            return int(count)

    def _anonymize(self, name: str) -> int:
        """One step of people: judged again under their locks, for they may have written since."""
        table = PEOPLE_RULES[name]
        # The step before may have taken these; what is skipped as locked comes last again.
        with open_step(self._driver, self._as_of) as cursor:
            waiting = [
                row_id
                for row_id, _, bases in self._retention.finder.judge(cursor, name, None)
                if not bases
            ]
        done = 0
        for start in range(0, len(waiting), PEOPLE_STEP):
            done += self._anonymize_some(name, table, waiting[start : start + PEOPLE_STEP])
        return done

    def _anonymize_some(self, name: str, table: str, some: Sequence[UUID]) -> int:
        result = self._result
        try:
            with self._timed_step() as cursor:
                exclusive_lock(cursor)
                cursor.execute(SQL[f"lock_{table}_due"], {"ids": list(some)})
                locked = [row[0] for row in cursor.fetchall()]
                cursor.execute(SQL["forget_held"])
                cursor.execute(SQL["find_held"])
                judged = [
                    (row_id, at)
                    for row_id, at, bases in self._retention.finder.judge(cursor, name, locked)
                    if not bases
                ]
                if not judged:
                    return 0
                ids = [row_id for row_id, _ in judged]
                instants = [at for _, at in judged]
                intent = self._intend(name, len(ids), min(instants), max(instants))
                self._plan_external(cursor, table, ids)
                if table == "users":
                    done, lead_ids = self._anonymize_users(cursor, name, ids)
                    result.user_ids += ids
                    result.lead_ids += lead_ids
                else:
                    values = read_old_values(cursor, [], ids)
                    done = anonymize_leads(cursor, ids, rule=name)
                    _assert_gone(probe_old_values(cursor, values, [], ids))
                    result.lead_ids += ids
                if done != len(ids):
                    raise PermanentError(f"{name}: {len(ids)} rows were taken and {done} changed")
                self._outcome(cursor, intent, name, done, sum_keys(ids))
                return done
        except (pg.LockNotAvailable, pg.DeadlockDetected):
            return 0  # a loader is at work; the next pass tries again

    def _plan_external(self, cursor: psycopg.Cursor[Any], table: str, ids: Sequence[UUID]) -> None:
        """Note what other systems must forget, while it is still known by which reference."""
        if not self._retention.hooks:
            return
        is_user = table == "users"
        leaving = []
        for row_id in ids:
            leads = find_linked_leads(cursor, [row_id]) if is_user else [row_id]
            leaving.append(
                Leaving(
                    subject_id=row_id,
                    user_ids=[row_id] if is_user else [],
                    lead_ids=[*leads, *find_merged_leads(cursor, leads)],
                )
            )
        plan_external_tasks_of_all(cursor, self._retention.hooks, leaving)

    def _anonymize_users(
        self, cursor: psycopg.Cursor[Any], name: str, ids: Sequence[UUID]
    ) -> tuple[int, list[UUID]]:
        values = read_old_values(cursor, ids, find_linked_leads(cursor, ids))
        counts = anonymize_users(cursor, ids, rule=name)
        _assert_gone(probe_old_values(cursor, values, ids, counts.lead_ids))
        return counts.users, list(counts.lead_ids)

    def sweep(self, swept: Mapping[str, RuleResult]) -> None:
        """Let the operation that ends these all day end them now; one entry a rule."""
        intents = {
            name: self._intend(name, ruled.due.count, ruled.due.oldest or self._as_of, self._as_of)
            for name, ruled in swept.items()
            if ruled.due.count
        }
        if not intents:
            return
        done = self._retention.sweep(self._as_of)
        for name, intent in intents.items():
            # What it ended meanwhile, or found besides, is its own run's to count.
            swept[name].done = min(done.get(name, 0), swept[name].due.count)
            self._note_outcome(intent, swept[name].done)

    def _trim(self, name: str, ruled: RuleResult) -> None:
        """Remove files past their time, in one go."""
        finder = self._retention.finder
        rule = self._retention.policy.rule(name)
        intent = self._intend(name, ruled.due.count, ruled.due.oldest or self._as_of, self._as_of)
        with open_step(self._driver, self._as_of) as cursor:
            cutoff = finder.cutoff(cursor, rule)
        left = 0
        for store in self._retention.files:
            if finder.rule_of(store) == rule:
                ruled.done += store.trim(cutoff)
                left += store.count_due(cutoff)[0]
        self._note_outcome(intent, ruled.done)
        if left:
            raise PermanentError(f"{name}: {left} files past their time are still there")

    def _note_outcome(self, intent: int, done: int) -> None:
        self._retention.ledger.append(
            "outcome", {"intent": intent, "done": done}, at=self._retention.now
        )


def pause(connection: Connection, *, reason: str, at: datetime) -> None:
    """Set the kill switch: a run that is going on stops at its next step, others do not begin.

    Args:
        connection: To the database, outside a transaction.
        reason: A short word or sentence without personal data.
        at: When.
    """
    _set_pause(connection, reason=reason, at=at, is_closed=True)


def resume(connection: Connection, *, at: datetime) -> None:
    """Take the kill switch back."""
    _set_pause(connection, reason=None, at=at, is_closed=False)


def _set_pause(
    connection: Connection, *, reason: str | None, at: datetime, is_closed: bool
) -> None:
    driver = psycopg_connection(connection)
    with driver.transaction(), driver.cursor() as cursor:
        cursor.execute(
            "insert into pipeline.gates as g (table_name, is_closed, reason, changed_at) "
            "values (%s, %s, %s, %s) on conflict (table_name) do update set "
            "is_closed = excluded.is_closed, reason = excluded.reason, "
            "changed_at = excluded.changed_at",
            [PIPELINE, is_closed, reason, at],
        )


def _is_paused(cursor: psycopg.Cursor[Any]) -> bool:
    cursor.execute(SQL["read_paused"])
    row = cursor.fetchone()
    return row is not None and bool(row[0])


def _is_what_is_left(plan: Plan, name: str, due: Due) -> bool:
    """Whether rows done and rows due together are the ones that were approved, and no others."""
    contents = due.to_contents()
    count, checksum = plan.done(name)
    if count:
        contents["count"] += count
        contents["checksum"] ^= checksum
        # The oldest went first; which rows are meant the checksum says.
        contents["oldest"] = plan.contents.get(name, {}).get("oldest")
    return bool(plan.contents.get(name) == contents)


def _is_of_the_clock(name: str) -> bool:
    """Whether other runs end these rows all day: a plan need not name them exactly."""
    return name in SWEPT_RULES or name not in COUNTED_RULES


def _assert_gone(places: Sequence[str]) -> None:
    if places:
        raise PermanentError(
            f"an old value is left in {', '.join(places)}; the step was rolled back"
        )


def _table_of(rule: Rule) -> str:
    """The table of a rule; '' where it is a file store."""
    return rule.store if rule.store.startswith(("public.", "pipeline.")) else ""


def _read_watermark(cursor: psycopg.Cursor[Any], name: str) -> str | None:
    cursor.execute(SQL["read_watermark"], {"name": name})
    row = cursor.fetchone()
    return None if row is None else str(row[0])


def _write_watermark(cursor: psycopg.Cursor[Any], name: str, value: str) -> None:
    cursor.execute(SQL["write_watermark"], {"name": name, "value": value})


# --- Words ----------------------------------------------------------------------------------------


def _add_exempt(report: RunReport, due: Due) -> None:
    """Count each exempt row once, under its first basis."""
    seen: Counter[str] = Counter()
    known: set[UUID] = set()
    for basis, rows in due.exempt.items():
        new = set(rows) - known
        known |= new
        seen[basis] += len(new)
    for basis, count in seen.items():
        if count:
            report.received += count
            report.skipped[basis] = report.skipped.get(basis, 0) + count


def _has(ruled: RuleResult) -> bool:
    return bool(ruled.due.count or ruled.due.exempt or ruled.due.unfinished)


def _describe_due(due: Due) -> str:
    since = f", o mais antigo de {due.oldest:%Y-%m-%d}" if due.oldest else ""
    kept = f"; {due.exempt_rows} mantidos" if due.exempt else ""
    running = f"; {_describe_unfinished(due)}" if due.unfinished else ""
    return f"{due.rule}: {due.count} vencidos{since}{kept}{running}"


def _describe_unfinished(due: Due) -> str:
    return f"{due.unfinished} além do prazo mantidos, porque não terminaram"


def _describe_done(name: str, ruled: RuleResult) -> str:
    parts = [f"{name}: {ruled.done} tratados"]
    if ruled.locked:
        parts.append(f"{ruled.locked} bloqueados por outra transação")
    if ruled.due.exempt:
        parts.append(f"{ruled.due.exempt_rows} mantidos")
    if ruled.due.unfinished:
        parts.append(_describe_unfinished(ruled.due))
    return ", ".join(parts)
