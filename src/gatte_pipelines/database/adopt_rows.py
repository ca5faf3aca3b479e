"""Rows of an existing database that contradict our additions to DOC 01, and their repair.

Our additions are: one user a phone, one conversation not closed a user. Structure belongs to
``adopt_structure``, running anything to ``adopt``.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql
from psycopg.rows import namedtuple_row
from psycopg.types.json import Jsonb

from gatte_pipelines.database.adopt_structure import MAX_IDS, Finding, Step, Structure
from gatte_pipelines.database.statements import read_statements
from gatte_pipelines.phones import USERS_PHONE_PATTERN, phone_key

SQL = read_statements(Path(__file__).with_suffix(".sql"))

# Those of the nine that name a user.
_OF_USERS = ("conversations", "tickets", "leads", "appointments", "services", "certificates")
_PHONE = re.compile(USERS_PHONE_PATTERN)
_PHONE_CHARACTERS = 20


@dataclass(frozen=True)
class Merge:
    """Two user rows that become one."""

    kept: str
    removed: str


@dataclass
class Rows:
    """What was planned; repairs stand in the order in which they must run."""

    blocks: list[Finding] = field(default_factory=list)
    repairs: list[Step] = field(default_factory=list)
    warnings: list[Finding] = field(default_factory=list)
    merges: list[Merge] = field(default_factory=list)


def plan_rows(
    connection: psycopg.Connection, structure: Structure, *, merge_duplicates: bool
) -> Rows:
    """Find users with one phone and conversations too many, and plan their repair.

    Args:
        connection: Inside a transaction; only read.
        structure: Tables and columns that it blocks are not looked at.
        merge_duplicates: Plan to merge users with one phone; otherwise they block.
    """
    plan = Rows()
    if structure.is_sound("users", *_USER_COLUMNS):
        _plan_users(connection, structure, plan, merge_duplicates=merge_duplicates)
    if structure.is_sound("conversations", "id", "user_id", "status", "started_at") and (
        structure.is_sound("messages", "conversation_id", "created_at")
    ):
        _plan_conversations(connection, plan)
    return plan


_USER_COLUMNS = ("id", "phone", "name", "email", "company", "is_client", "login_token")


def _plan_users(
    connection: psycopg.Connection, structure: Structure, plan: Rows, *, merge_duplicates: bool
) -> None:
    by_phone: dict[str, list[str]] = defaultdict(list)
    for row in _rows(connection, "phones"):
        if row.phone is not None:  # null blocks already
            by_phone[row.phone].append(row.id)
    # Texts that differ only in a missing "+" are one telephone number.
    by_number: dict[str, list[str]] = defaultdict(list)
    for phone in by_phone:
        by_number[_with_plus(phone)].append(phone)

    groups: list[list[str]] = []
    unmergeable: list[str] = []
    twins: list[str] = []
    unprefixed: list[str] = []
    odd: list[str] = []
    by_key: dict[str, list[str]] = defaultdict(list)
    for number, phones in by_number.items():
        ids = [user for phone in phones for user in by_phone[phone]]
        if not _PHONE.fullmatch(number):
            odd += ids
            if len(ids) > 1:
                unmergeable += ids
            continue
        by_key[phone_key(number[1:]) if number.startswith("+") else number] += ids
        if len(ids) > 1 and (merge_duplicates or len(phones) == 1):
            groups.append(ids)
        elif len(phones) > 1:
            twins += ids
            groups += [same for phone in phones if len(same := by_phone[phone]) > 1]
            continue
        unprefixed += [user for phone in phones if phone != number for user in by_phone[phone]]

    _note_phones(connection, plan, odd=odd, twins=twins, by_key=by_key, groups=groups)
    if unmergeable:
        plan.blocks.append(
            _finding(
                "same_text",
                "users",
                "several users have the same text as their phone, which is no telephone number; "
                "give each their own, by hand",
                unmergeable,
            )
        )
    _plan_merges(connection, structure, plan, groups, merge_duplicates=merge_duplicates)
    gone = {merge.removed for merge in plan.merges}
    ids = sorted(user for user in unprefixed if user not in gone)
    if ids:
        plan.repairs.append(
            Step(
                "users",
                f"{len(ids)} phones without '+' get it",
                _text(connection, "add_plus", ids=ids),
            )
        )


def _note_phones(
    connection: psycopg.Connection,
    plan: Rows,
    *,
    odd: list[str],
    twins: list[str],
    by_key: Mapping[str, list[str]],
    groups: Sequence[Sequence[str]],
) -> None:
    if odd:
        plan.warnings.append(
            _finding(
                "odd_phone",
                "users",
                "phones that are not '+' and 7 to 15 digits stay as they are; when such a client "
                "writes, a second user appears beside this one, until somebody corrects the phone",
                odd,
                _text(connection, "look_at_phones", ids=odd[:MAX_IDS]),
            )
        )
    if twins:
        plan.warnings.append(
            _finding(
                "twin_phone",
                "users",
                "phones that differ only in a missing '+' stay two users; "
                "--merge-duplicate-users makes them one",
                twins,
            )
        )
    group_of = {user: number for number, group in enumerate(groups) for user in group}
    apart = set(twins)
    alike = [
        user
        for ids in by_key.values()
        # Those of one group become one, or block; those told as twins are told.
        if len({group_of.get(user, user) for user in ids}) > 1
        for user in ids
        if user not in apart
    ]
    if alike:
        plan.warnings.append(
            _finding(
                "same_number",
                "users",
                "phones that are one number with and without the ninth digit stay two users here; "
                "loading joins them when that client writes, with an undo record",
                alike,
            )
        )


def _plan_merges(
    connection: psycopg.Connection,
    structure: Structure,
    plan: Rows,
    groups: Sequence[Sequence[str]],
    *,
    merge_duplicates: bool,
) -> None:
    if not groups:
        return
    if not all(structure.is_sound(table, "user_id") for table in _OF_USERS):
        return  # blocks already
    merges = []
    for group in groups:
        ids = [row.id for row in _rows(connection, "knowledge", ids=list(group))]
        merges += [Merge(ids[0], removed) for removed in ids[1:]]
    statements = _merge_statements(connection, merges)
    if not merge_duplicates:
        plan.blocks.append(
            _finding(
                "same_phone",
                "users",
                "several users have one phone; --merge-duplicate-users makes one of each group "
                "(the client, then the one with most fields, then the earliest), with an undo "
                "record of 30 days",
                [user for group in groups for user in group],
                *(step.statement for step in statements),
            )
        )
        return
    removed = [merge.removed for merge in merges]
    for row in _rows(connection, "references_to_users"):
        if (row.schema_name, row.column_name) == ("public", "user_id") and (
            row.table_name in _OF_USERS
        ):
            continue
        query = sql.SQL("select count(*) from {} where {} = any({}::uuid[])").format(
            sql.Identifier(row.schema_name, row.table_name),
            sql.Identifier(row.column_name),
            sql.Literal(removed),
        )
        found = connection.execute(query).fetchone()
        if found is not None and found[0]:
            plan.blocks.append(
                Finding(
                    "foreign_reference",
                    row.table_name,
                    f"{row.table_name}.{row.column_name} refers to users that would be merged into "
                    "others; repoint these rows first",
                    found[0],
                )
            )
    plan.merges = merges
    plan.repairs += statements


def _merge_statements(connection: psycopg.Connection, merges: Sequence[Merge]) -> list[Step]:
    removed = [merge.removed for merge in merges]
    kept = [merge.kept for merge in merges]
    repoint = sql.SQL(
        "update public.{} as t set user_id = m.kept "
        "from unnest({}::uuid[], {}::uuid[]) as m (removed, kept) where t.user_id = m.removed"
    )
    steps = [
        Step(
            table,
            f"{table} of merged users are repointed",
            repoint.format(
                sql.Identifier(table), sql.Literal(removed), sql.Literal(kept)
            ).as_string(connection),
        )
        for table in _OF_USERS
    ]
    steps.append(
        Step(
            "users",
            "name, e-mail and company that only the merged ones have are kept, and the "
            "earliest contact",
            _text(connection, "fill_kept", removed=removed, kept=kept),
        )
    )
    steps.append(
        Step(
            "users",
            f"{len(merges)} users merged into others are removed",
            _text(connection, "remove_merged", removed=removed),
        )
    )
    return steps


def _plan_conversations(connection: psycopg.Connection, plan: Rows) -> None:
    ids = [
        row.id
        for row in _rows(
            connection,
            "surplus_conversations",
            removed=[merge.removed for merge in plan.merges],
            kept=[merge.kept for merge in plan.merges],
        )
    ]
    if ids:
        plan.repairs.append(
            Step(
                "conversations",
                f"of users with several conversations not closed, all but the latest ({len(ids)}) "
                "are closed at their last message",
                _text(connection, "close_conversations", ids=ids),
            )
        )


def read_undo_records(
    connection: psycopg.Connection, merges: Sequence[Merge]
) -> list[dict[str, Any]]:
    """What the merges can be undone from; read before they run."""
    if not merges:
        return []
    rows = _rows(
        connection,
        "undo_records",
        removed=[merge.removed for merge in merges],
        kept=[merge.kept for merge in merges],
    )
    return [{"removed": row.removed, "kept": row.kept, "record": Jsonb(row.record)} for row in rows]


def store_undo_records(
    connection: psycopg.Connection, records: Sequence[Mapping[str, Any]]
) -> None:
    """Keep them for 30 days, and lead references to a removed user on to the kept one."""
    with connection.cursor() as cursor:
        for record in records:
            cursor.execute(SQL["store_undo_record"], record)
            cursor.execute(SQL["store_merge"], record)


def _with_plus(phone: str) -> str:
    if _PHONE.fullmatch(phone) or len(phone) >= _PHONE_CHARACTERS:
        return phone
    number = f"+{phone}"
    return number if _PHONE.fullmatch(number) else phone


def _rows(connection: psycopg.Connection, name: str, **values: object) -> list[Any]:
    with connection.cursor(row_factory=namedtuple_row) as cursor:
        return list(cursor.execute(SQL[name], values or None).fetchall())


def _text(connection: psycopg.Connection, name: str, **ids: Sequence[str]) -> str:
    """A statement with its ids in it, as a person reads it and PostgreSQL gets it."""
    return psycopg.ClientCursor(connection).mogrify(SQL[name].removesuffix(";"), ids)


def _finding(code: str, table: str, text: str, ids: Sequence[str], *statements: str) -> Finding:
    return Finding(code, table, text, len(ids), tuple(sorted(ids)[:MAX_IDS]), statements)
