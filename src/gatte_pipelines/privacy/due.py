"""What is due under the retention policy: counted, named by checksum, and what is kept and why.

Reads only. Destroying belongs to ``retention``, the independent proof to ``rescan``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

from gatte_pipelines.database.plans import sum_keys
from gatte_pipelines.database.statements import read_statements
from gatte_pipelines.privacy.policy import MAX_PERIOD_YEARS, Policy, Rule, ceiling_key

if TYPE_CHECKING:
    import psycopg

    from gatte_pipelines.privacy.stores import FileStore

# What a step may wait for a lock; then it leaves the rows to the next pass.
LOCK_TIMEOUT = "3s"

SQL = read_statements(Path(__file__).with_name("retention.sql"))

# Rules whose rows are found, locked and changed by due_, take_ and apply_ statements.
SIMPLE_RULES = (
    "messages_content",
    "message_reactions_emoji",
    "button_replies_payload",
    "login_tokens_unused",
    "appointments_details",
    "services_notes",
    "inbound_batches",
    "quarantine",
    "sync_conflicts",
    "runs_text",
    "plans_expired",
    "erased_messages",
    "holds_text",
)
STAFF_RULE = "staff_names"
# Leads first: a lead past its time no longer keeps its user.
PEOPLE_RULES = {"leads_inactive": "leads", "users_inactive": "users"}
# What ends by the clock all day long belongs to its own operation, which is handed in.
SWEPT_RULES = {
    "session_context_ttl": "count_due_contexts",
    "message_changes_waiting": "count_due_changes",
    "undo_records": "count_due_undo_records",
    "identity_changes_unknown": "count_due_identity_changes",
}
COUNTED_RULES = (*SIMPLE_RULES, STAFF_RULE, *SWEPT_RULES, *PEOPLE_RULES)
"""The rules of the database, in the order in which they are carried out."""


@dataclass(kw_only=True)
class Due:
    """What one rule found: rows due, the oldest instant, and what is kept all the same.

    ``checksum`` is over the keys, so that a plan whose rows changed is noticed. ``exempt`` maps a
    basis to row ids (``users`` and ``leads`` only); ``unfinished`` counts what is past its time in
    a store and stays, since it is not over.
    """

    rule: str
    count: int = 0
    oldest: datetime | None = None
    checksum: int = 0
    exempt: dict[str, list[UUID]] = field(default_factory=dict)
    unfinished: int = 0

    @property
    def exempt_rows(self) -> int:
        """Rows with at least one basis."""
        return len({row for rows in self.exempt.values() for row in rows})

    def to_contents(self) -> dict[str, Any]:
        """As a plan stores it."""
        return {
            "count": self.count,
            "oldest": self.oldest.isoformat() if self.oldest else None,
            "checksum": self.checksum,
            "exempt": {basis: len(rows) for basis, rows in sorted(self.exempt.items())},
        }


@dataclass(frozen=True, kw_only=True)
class DueFinder:
    """Finds what is due at the instant of a transaction.

    Args:
        policy: What is kept for how long.
        files: The file stores of the policy.
        limits: Other limits than the policy's, by name; to tell what a change of it means.
    """

    policy: Policy
    files: Sequence[FileStore]
    limits: Mapping[str, str] = field(default_factory=dict)

    def find(self, cursor: psycopg.Cursor[Any]) -> dict[str, Due]:
        """What every rule finds, leads before users: a lead past its time keeps nobody."""
        found = {name: self.count(cursor, name) for name in COUNTED_RULES}
        for store in self.files:
            rule = self.rule_of(store)
            if rule is not None:
                cutoff = self.cutoff(cursor, rule)
                count, oldest = store.count_due(cutoff)
                unfinished = store.count_kept(cutoff)
                found[rule.name] = Due(
                    rule=rule.name, count=count, oldest=oldest, unfinished=unfinished
                )
        return found

    def count(self, cursor: psycopg.Cursor[Any], name: str) -> Due:
        """What one rule finds in the database."""
        if name in PEOPLE_RULES:
            return self._count_people(cursor, name)
        statement = SWEPT_RULES.get(name, f"due_{name}")
        cursor.execute(SQL[statement], {"period": self.period(name)})
        count, oldest, checksum = fetch_one(cursor)
        return Due(rule=name, count=count, oldest=oldest, checksum=checksum)

    def judge(
        self, cursor: psycopg.Cursor[Any], name: str, ids: Sequence[UUID] | None = None
    ) -> Iterator[tuple[UUID, datetime, list[str]]]:
        """Who of ``users`` or ``leads`` is past the time, since when, and what keeps each.

        Args:
            cursor: In a step.
            name: Of ``PEOPLE_RULES``.
            ids: Only these; None for all.
        """
        ceiling = self.ceiling("leads_inactive")
        cursor.execute(
            SQL[f"judge_{PEOPLE_RULES[name]}"],
            {
                "period": self.period(name),
                "ceiling": ceiling,
                "leads_period": self.period("leads_inactive"),
                "leads_ceiling": ceiling,
                "ids": None if ids is None else list(ids),
            },
        )
        yield from cursor.fetchall()

    def count_population(self, cursor: psycopg.Cursor[Any], name: str) -> int:
        """How many rows a rule could ever mean, for the share of a mass change."""
        cursor.execute(SQL[f"population_{name}"])
        return int(fetch_one(cursor)[0])

    def period(self, name: str) -> str:
        """The period of a rule, as PostgreSQL takes it."""
        if name in self.limits:
            return self.limits[name]
        period = self.policy.rule(name).period
        assert period is not None  # noqa: S101 - the policy's parser sees to it
        return period.interval

    def ceiling(self, name: str) -> str:
        """The ceiling of a rule that one ends, as PostgreSQL takes it."""
        ceiling = self.policy.rule(name).ceiling
        found = ceiling.interval if ceiling else ""
        return self.limits.get(ceiling_key(name), found) or f"{MAX_PERIOD_YEARS} years"

    def cutoff(self, cursor: psycopg.Cursor[Any], rule: Rule) -> datetime:
        """The instant before which a rule's rows are past their time."""
        cursor.execute("select pipeline.clock() - %s::interval", [self.period(rule.name)])
        instant: datetime = fetch_one(cursor)[0]
        return instant

    def rule_of(self, store: FileStore) -> Rule | None:
        """The rule of a file store; None where its files are kept."""
        for rule in self.policy.rules:
            if rule.name == store.name and rule.period is not None:
                return rule
        return None

    def _count_people(self, cursor: psycopg.Cursor[Any], name: str) -> Due:
        due = Due(rule=name)
        for row_id, at, bases in self.judge(cursor, name):
            if not bases:
                due.count += 1
                due.checksum ^= sum_keys([row_id])
                due.oldest = at if due.oldest is None else min(at, due.oldest)
            for basis in bases:
                due.exempt.setdefault(basis, []).append(row_id)
        return due


@contextmanager
def open_step(driver: psycopg.Connection, as_of: datetime) -> Iterator[psycopg.Cursor[Any]]:
    """A transaction at ``as_of`` that knows what is held."""
    with driver.transaction(), driver.cursor() as cursor:
        cursor.execute(
            "select set_config('gatte.as_of', %s, true), "
            "set_config('lock_timeout', %s, true), set_config('jit', 'off', true)",
            [as_of.isoformat(), LOCK_TIMEOUT],
        )
        cursor.execute(SQL["create_held"])
        cursor.execute(SQL["find_held"])
        yield cursor


def fetch_one(cursor: psycopg.Cursor[Any]) -> tuple[Any, ...]:
    """The row of a statement that always gives one."""
    row = cursor.fetchone()
    assert row is not None  # noqa: S101 - each of these statements gives one row
    return tuple(row)
