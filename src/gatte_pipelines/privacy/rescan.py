"""The proof by re-scan (S12): what stands where nothing may stand any more.

Written apart from the engine, from DOC 01 §4 and the policy alone: nothing that removes data may
be imported here, and no statement is shared. What becomes of a leftover belongs to the operation.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

from psycopg.rows import tuple_row

from gatte_pipelines.database.engine import psycopg_connection
from gatte_pipelines.database.statements import read_statements
from gatte_pipelines.errors import ConfigurationError
from gatte_pipelines.personal_data import CATALOGUE, Kind
from gatte_pipelines.privacy.policy import Action, Policy, Rule

if TYPE_CHECKING:
    import psycopg
    from sqlalchemy import Connection

_SQL = read_statements(Path(__file__).with_name("rescan.sql"))

NIGHTLY_GRACE = timedelta(hours=26)
"""What is due since the last nightly run is no leftover yet: a day, and two hours for the run."""

MAX_IDS = 20
"""Ids named of each leftover; the count says how many there are."""

# One statement's subjects: their messages are read by index, some 50 each.
_SUBJECTS_AT_A_TIME = 2_000

# CPF, CNPJ, e-mail, ids of the provider, and runs of digits as phones are written in Brazil and
# abroad. Not: dates, times, decimals, UUIDs and digests, whose digits stand between other signs.
_PERSONAL_TEXT = (
    r"(^|[^0-9])[0-9]{3}\.[0-9]{3}\.[0-9]{3}-?[0-9]{2}($|[^0-9])"
    r"|(^|[^0-9A-Z])[0-9A-Z]{2}\.[0-9A-Z]{3}\.[0-9A-Z]{3}/[0-9A-Z]{4}-?[0-9]{2}($|[^0-9])"
    r"|[[:alnum:]][[:alnum:]._%+-]*@[[:alnum:]-]+\.[[:alpha:]]{2,}"
    r"|wamid\.|(^|[^A-Za-z])[A-Z]{2}\.(ENT\.)?[A-Za-z0-9]{10,}"
    r"|(^|[^0-9A-Za-z.,:~-])\+?[0-9]{10,15}($|[^0-9A-Za-z.,:-])"
    r"|(^|[^0-9A-Za-z.,:~-])(\+?55[ -]?)?\(?[1-9][0-9]\)?[ -]?9?[0-9]{4}[ -]?[0-9]{4}"
    r"($|[^0-9A-Za-z-])"
    r"|\+[1-9]([ ().-]{0,2}[0-9]){7,14}($|[^0-9A-Za-z])"
)

SUBJECT_COLUMNS: dict[str, dict[str, str]] = {
    "public.users": dict.fromkeys(
        ("phone", "name", "email", "company", "login_token"), "subject_users"
    ),
    "public.messages": {"content": "subject_messages"},
    "public.session_context": dict.fromkeys(("messages_json", "summary"), "subject_contexts"),
    "public.leads": dict.fromkeys(
        ("name", "company", "phone", "email", "notes", "crm_id"), "subject_leads"
    ),
    "public.appointments": dict.fromkeys(("notes", "calendar_event_id"), "subject_appointments"),
    "public.services": {"notes": "subject_services"},
    "pipeline.user_identities": {"value": "subject_identities"},
    "pipeline.senders": dict.fromkeys(
        ("phone_key", "bsuid", "wa_id", "name", "parent_bsuid"), "subject_senders"
    ),
    "pipeline.message_changes": {"content": "subject_changes"},
    "pipeline.message_reactions": {"emoji": "subject_reactions"},
    "pipeline.button_replies": {"payload": "subject_buttons"},
    "pipeline.identity_changes": dict.fromkeys(
        (
            "old_phone_key",
            "old_bsuid",
            "old_parent_bsuid",
            "new_phone_key",
            "new_wa_id",
            "new_bsuid",
            "new_parent_bsuid",
        ),
        "changes_of_nobody",
    ),
    "pipeline.undo_records": {"record": "subject_undo_records"},
    "pipeline.external_tasks": {"reference": "subject_tasks"},
    "pipeline.crm_links": dict.fromkeys(
        (
            "remote_lead_id",
            "deal_id",
            "person_id",
            "organization_id",
            "note_id",
            "phone_key",
            "agreed_name",
            "agreed_phone",
            "agreed_email",
            "agreed_company",
        ),
        "subject_links",
    ),
    "pipeline.sync_conflicts": dict.fromkeys(("our_value", "their_value"), "subject_conflicts"),
}
"""The statement of rescan.sql that finds a personal column in rows of a subject."""

_STAFF = "a colleague's name: rule staff_names, not the subject"
_TICKET = "tickets are kept whole for audit (DOC 01 §4)"
_NO_SUBJECT = "names no subject by id; its rule of time reaches it"
_WHILE_KNOWN = "read by an erasure while the phone is still known; then by its rule of time"
NOBODYS_COLUMNS: dict[str, dict[str, str]] = {
    "public.conversations": {"transferred_to": _STAFF},
    "public.appointments": {"assigned_to": _STAFF},
    "pipeline.conversation_events": {"transferred_to": _STAFF},
    "pipeline.staff": {"name": _STAFF},
    "public.tickets": dict.fromkeys(("title", "description", "assigned_to"), _TICKET),
    "pipeline.ticket_digests": {"digest": "seals a ticket, which is kept whole"},
    "pipeline.runs": dict.fromkeys(("report", "error"), _NO_SUBJECT),
    "pipeline.inbound_batches": {"source_name": _WHILE_KNOWN},
    "pipeline.quarantine": {"source_name": _WHILE_KNOWN, "payload": _WHILE_KNOWN},
    "pipeline.retention_holds": dict.fromkeys(
        ("reason", "owner"), "the officer's own record of a hold, kept five years after its end"
    ),
}
"""Personal columns that belong to no subject who is anonymised, and why."""

# Text that is plain by the catalogue, in rows of subjects that stay: searched for patterns only.
# Calls that were begun for a lead may not stay at all.
_PATTERN_STATEMENTS = (
    "subject_conversations",
    "subject_facts",
    "subject_statuses",
    "subject_opt_outs",
    "subject_history",
    "subject_codes",
    "subject_intents",
)
# Looked at once, whoever is asked for: they are of somebody who cannot be named any more.
_NOBODYS_STATEMENTS = ("senders_of_nobody", "changes_of_nobody")

_UNCHECKED_CLOCKS = {"with_user", "with_lead", "with_staff_names"}
# These follow another rule's clock and are still checked by a statement of their own.
_CHECKED_WITH_OTHERS = {"external_tasks_reference"}


@dataclass(frozen=True, kw_only=True)
class Leftover:
    """A column in which something stands that should be gone. Never its value.

    Attributes:
        check: The rule of the policy; of a subject ``subject``, or ``pattern`` for text that looks
            personal in a column that should not hold any.
        table: ``schema.table``.
        column: Its name.
        count: Rows.
        oldest: The oldest row's instant by the rule's clock, or None where it has none.
        ids: Primary keys of the first rows, at most `MAX_IDS`.
    """

    check: str
    table: str
    column: str
    count: int
    oldest: datetime | None
    ids: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class PastRows:
    """Rows past the window of a rule, by what excuses them.

    Attributes:
        rule: The rule's name.
        basis: Codes joined by ``+`` (``hold``, ``active_service`` …); None: nothing excuses them.
        column: ``schema.table.column``; None on the line that counts rows over all columns.
        count: Rows.
        oldest: The oldest row's instant by the rule's clock.
        ids: Primary keys of the first rows.
    """

    rule: str
    basis: str | None
    column: str | None
    count: int
    oldest: datetime | None
    ids: tuple[str, ...]


def is_rescanned(rule: Rule) -> bool:
    """Whether the database alone can show that a rule was kept.

    Not: what is kept or erased by others, files and Prefect's records, and what goes with its user
    or lead (`rescan_people`) or with the colleague's name (``staff_names``).
    """
    if rule.name in _CHECKED_WITH_OTHERS:
        return True
    return (
        rule.action not in (Action.KEEP, Action.EXTERNAL)
        and rule.clock not in _UNCHECKED_CLOCKS
        and rule.store.partition(".")[0] in ("public", "pipeline")
    )


def rescan_rules(
    connection: Connection,
    policy: Policy,
    *,
    as_of: datetime,
    grace: timedelta = timedelta(0),
) -> list[Leftover]:
    """Rows past the window of their rule that are neither held nor exempt; none is the proof.

    Bases and holds are found anew, as they stood at ``as_of`` less ``grace``.

    Args:
        connection: Any role that reads both schemas.
        policy: The policy in force.
        as_of: The instant that the data is judged by.
        grace: How long a row may have been due; `NIGHTLY_GRACE` between nightly runs.

    Raises:
        ConfigurationError: The policy has a rule of the database that is not looked at here.
    """
    return [
        _leftover(found.rule, found.column, found.count, found.oldest, found.ids)
        for found in examine_rules(connection, policy, as_of=as_of, grace=grace)
        if found.basis is None and found.column is not None
    ]


def examine_rules(
    connection: Connection,
    policy: Policy,
    *,
    as_of: datetime,
    grace: timedelta = timedelta(0),
) -> list[PastRows]:
    """All rows past the window of their rule, those with a basis to stay included.

    Args:
        connection: As `rescan_rules`.
        policy: As `rescan_rules`.
        as_of: As `rescan_rules`.
        grace: As `rescan_rules`.

    Raises:
        ConfigurationError: As `rescan_rules`.
    """
    found: list[PastRows] = []
    with _cursor(connection) as cursor:
        parameters = _read_holds(cursor, as_of - grace) | {"sample": MAX_IDS}
        ((parameters["oldest_user"],),) = _run(cursor, "read_oldest_user", {})
        leads = policy.rule("leads_inactive")
        parameters["lead_period"] = _interval(leads)
        parameters["lead_ceiling"] = leads.ceiling.interval if leads.ceiling else "1000 years"
        for rule in policy.rules:
            if not is_rescanned(rule):
                continue
            if rule.name not in _SQL:
                raise ConfigurationError(
                    f"rule {rule.name} of the retention policy is not proven by the re-scan"
                )
            parameters["period"] = _interval(rule)
            parameters["ceiling"] = rule.ceiling.interval if rule.ceiling else "1000 years"
            for column, basis, count, oldest, ids in _run(cursor, rule.name, parameters):
                found.append(
                    PastRows(
                        rule=rule.name,
                        basis=basis,
                        column=column,
                        count=count,
                        oldest=oldest,
                        ids=tuple(ids),
                    )
                )
    return found


def rescan_people(
    connection: Connection,
    *,
    user_ids: Sequence[UUID] | None = None,
    lead_ids: Sequence[UUID] | None = None,
) -> list[Leftover]:
    """What still stands of people who are anonymised; none is the proof.

    Every personal column of the catalogue in every row that belongs to them, and patterns (CPF,
    CNPJ, phone, e-mail, ids of the provider) in the other text of these rows. Not tickets, which
    are kept whole, nor names of colleagues. Also rows that nobody owns any more though only an
    erased person can have left them.

    Args:
        connection: Any role that reads both schemas.
        user_ids: Whose; without ``lead_ids`` too, everybody in ``pipeline.anonymized_rows``.
        lead_ids: Leads beside those linked to these users.
    """
    found: dict[tuple[str, str], Leftover] = {}
    with _cursor(connection) as cursor:
        if user_ids is None and lead_ids is None:
            anonymized = _run(cursor, "read_anonymized", {})
            user_ids = [row_id for table, row_id in anonymized if table == "users"]
            lead_ids = [row_id for table, row_id in anonymized if table == "leads"]
        statements = {name for columns in SUBJECT_COLUMNS.values() for name in columns.values()}
        statements |= set(_PATTERN_STATEMENTS)
        for name in sorted(statements - set(_NOBODYS_STATEMENTS)):
            for users, leads in _chunks(user_ids or (), lead_ids or ()):
                _add(found, _run(cursor, name, _subjects(users, leads)))
        for name in _NOBODYS_STATEMENTS:
            _add(found, _run(cursor, name, _subjects((), ())))
    return [found[key] for key in sorted(found)]


def _add(found: dict[tuple[str, str], Leftover], rows: Sequence[Sequence[Any]]) -> None:
    """Add what a statement found to what others found of the same column."""
    for place, count, oldest, ids in rows:
        table, _, column = place.rpartition(".")
        kind = CATALOGUE[table].get(column)
        check = "pattern" if kind is Kind.PLAIN else "subject"
        more = _leftover(check, place, count, oldest, ids)
        before = found.get((table, column))
        if before is not None:
            new = [one for one in more.ids if one not in before.ids]
            # Two ways of finding one row count it once, as far as ids are named.
            more = replace(
                more,
                count=before.count + max(more.count - (len(more.ids) - len(new)), 0),
                oldest=min(
                    (at for at in (before.oldest, more.oldest) if at is not None), default=None
                ),
                ids=(*before.ids, *new)[:MAX_IDS],
            )
        found[table, column] = more


def _leftover(
    check: str, place: str | None, count: int, oldest: datetime | None, ids: Sequence[str]
) -> Leftover:
    table, _, column = (place or "").rpartition(".")
    return Leftover(
        check=check, table=table, column=column, count=count, oldest=oldest, ids=tuple(ids)
    )


def _subjects(users: Sequence[UUID], leads: Sequence[UUID]) -> dict[str, Any]:
    return {
        "users": list(users),
        "leads": list(leads),
        "personal_text": _PERSONAL_TEXT,
        "sample": MAX_IDS,
    }


def _chunks(
    users: Sequence[UUID], leads: Sequence[UUID]
) -> Iterator[tuple[Sequence[UUID], Sequence[UUID]]]:
    size = _SUBJECTS_AT_A_TIME
    yield from zip_longest(
        (users[start : start + size] for start in range(0, len(users), size)),
        (leads[start : start + size] for start in range(0, len(leads), size)),
        fillvalue=(),
    )


def _read_holds(cursor: psycopg.Cursor[Any], instant: datetime) -> dict[str, Any]:
    """Parameters of the statements of rules: the instant, and what is held then."""
    held = _run(cursor, "read_holds", {"instant": instant})
    return {
        "instant": instant,
        "held_rows": sorted({row_id for _, row_id, _ in held}),
        "held_users": sorted({u for table, _, u in held if table == "users" and u}),
        "users_with_holds": sorted({u for _, _, u in held if u}),
    }


def _interval(rule: Rule) -> str:
    return rule.period.interval if rule.period is not None else "0 hours"


def _run(
    cursor: psycopg.Cursor[Any], name: str, parameters: Mapping[str, Any]
) -> list[tuple[Any, ...]]:
    # Never prepared: a plan made without the values cannot know that nothing is due.
    return cursor.execute(_SQL[name], parameters, prepare=False).fetchall()


@contextmanager
def _cursor(connection: Connection) -> Iterator[psycopg.Cursor[Any]]:
    """A transaction for statements that seldom meet a row: to compile or divide them costs more."""
    driver = psycopg_connection(connection)
    with driver.transaction(), driver.cursor(row_factory=tuple_row) as cursor:
        cursor.execute(
            "select set_config('jit', 'off', true), "
            "set_config('max_parallel_workers_per_gather', '0', true)"
        )
        yield cursor
