"""The retention policy: read from YAML, with file, line and field of whatever cannot be right.

Pure. Which rules there are, and what each means, is fixed here, since each is SQL of the engine;
for how long, on what basis and why is GATTE's to say, in ``config/retention.yaml``. Opening that
file belongs to ``policy_file``, carrying it out to ``retention``.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import re
from calendar import monthrange
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import date, datetime, timedelta
from enum import StrEnum
from typing import Literal

from gatte_pipelines.config_tree import Fields, Node, read_tree
from gatte_pipelines.errors import ConfigurationError
from gatte_pipelines.personal_data import CATALOGUE

# PostgreSQL's timestamps begin 4713 BC: a longer period would fail in the middle of a run.
MAX_PERIOD_YEARS = 100
MAX_MASS_ROWS = 100_000

WITH_USER = "with_user"
"""Clock of what goes together with its user, in the same transaction."""
WITH_LEAD = "with_lead"
"""Clock of what goes together with its lead, in the same transaction."""
WITH_STAFF = "with_staff_names"
"""Clock of what changes together with the colleague's name in ``pipeline.staff``."""


ENDED_BY_CEILING = frozenset({"leads_inactive"})
"""Rules whose ceiling counts from ``created_at`` and ends the period whatever happened since."""


def ceiling_key(rule: str) -> str:
    """The name of a rule's ceiling among ``Policy.limits``."""
    return f"{rule}_ceiling"


class Action(StrEnum):
    """What becomes of the columns or the rows of a store when their time is over.

    ``CLEAR``: the columns are emptied, the row stays. ``ANONYMIZE``: a random placeholder or NULL
    stands where the person stood. ``DELETE``: the rows or files go. ``KEEP``: nothing is done.
    ``EXTERNAL``: somebody else deletes; we count and remind.
    """

    CLEAR = "clear"
    ANONYMIZE = "anonymize"
    DELETE = "delete"
    KEEP = "keep"
    EXTERNAL = "external"


_SECONDS = {
    # Mean Gregorian months and years, so that 12 months are a year and 60 months five.
    "hours": 3_600,
    "days": 86_400,
    "months": 2_629_746,
    "years": 31_556_952,
}
_PERIOD = re.compile(r"(0|[1-9][0-9]{0,5}) (hour|day|month|year)s?")
_PERIOD_FORM = "a whole number and hours, days, months or years, such as 90 days"


@dataclass(frozen=True, order=False)
class Period:
    """A length of time as people write it; months and years are the calendar's.

    Attributes:
        amount: From 0.
        unit: ``hours``, ``days``, ``months`` or ``years``.
    """

    amount: int
    unit: str

    @classmethod
    def parse(cls, text: str) -> Period:
        """Read ``90 days``.

        Raises:
            ValueError: It is nothing of the kind, or longer than a century.
        """
        match = _PERIOD.fullmatch(text)
        if match is None:
            raise ValueError(f"expected {_PERIOD_FORM}")
        period = cls(int(match[1]), f"{match[2]}s")
        if period.seconds > MAX_PERIOD_YEARS * _SECONDS["years"]:
            raise ValueError(f"expected at most {MAX_PERIOD_YEARS} years")
        return period

    @property
    def interval(self) -> str:
        """As PostgreSQL reads an interval: ``90 days``."""
        return f"{self.amount} {self.unit}"

    @property
    def seconds(self) -> int:
        """Its mean length, for comparing periods of different units."""
        return self.amount * _SECONDS[self.unit]

    @property
    def approximate_days(self) -> float:
        """Its mean length in days."""
        return self.seconds / _SECONDS["days"]

    def before(self, instant: datetime) -> datetime:
        """The instant this long before another, as PostgreSQL subtracts an interval."""
        if self.unit in {"hours", "days"}:
            return instant - timedelta(seconds=self.seconds)
        months = self.amount * (12 if self.unit == "years" else 1)
        year, month = divmod(instant.year * 12 + instant.month - 1 - months, 12)
        day = min(instant.day, monthrange(year, month + 1)[1])
        return instant.replace(year=year, month=month + 1, day=day)


@dataclass(frozen=True, kw_only=True)
class Rule:
    """One row of the policy.

    Attributes:
        name: Of the fixed vocabulary.
        store: ``schema.table``, ``files.…`` or ``prefect.…``.
        columns: What the rule clears or anonymises, or what it says is kept.
        clock: From which instant the period runs; '' where nothing runs.
        period: How long the data stands; None where it is kept, or goes with something else.
        floor: The period may not be shorter, by law.
        ceiling: The period may not be longer; of ``leads_inactive`` counted from ``created_at``.
        action: What then happens.
        legal_basis: Articles.
        reason: Why, in Portuguese, for the officer's report.
        is_mass_checked: Whether a run that would change too many of these rows waits for approval.
    """

    name: str
    store: str
    columns: tuple[str, ...]
    clock: str
    period: Period | None
    floor: Period | None
    ceiling: Period | None
    action: Action
    legal_basis: str
    reason: str
    is_mass_checked: bool


@dataclass(frozen=True, kw_only=True)
class Policy:
    """The whole policy, in the order of its file.

    Attributes:
        rules: Every rule of the vocabulary, once.
        approved_on: The day on which it was approved.
        approved_by: By whom: a role, not a name.
        mass_rows: A run that would change more rows than this, and a larger share than ``mass_pct``
            of those a rule is about, waits for approval (S11).
        mass_pct: Above 0, below 100.
    """

    rules: tuple[Rule, ...]
    approved_on: date
    approved_by: str
    mass_rows: int
    mass_pct: float

    @property
    def digest(self) -> str:
        """SHA-256 of all that it says, in hex; layout and comments of the file leave no trace."""
        said = asdict(self) | {"rules": sorted(map(asdict, self.rules), key=lambda r: r["name"])}
        canonical = json.dumps(said, default=str, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()

    def rule(self, name: str) -> Rule:
        """The rule of a name.

        Raises:
            KeyError: The vocabulary has none of this name.
        """
        for rule in self.rules:
            if rule.name == name:
                return rule
        raise KeyError(name)

    def periods(self) -> dict[str, str]:
        """The interval of each rule by name, '' where it has none."""
        return {rule.name: rule.period.interval if rule.period else "" for rule in self.rules}

    def limits(self) -> dict[str, str]:
        """All that decides when data goes: the periods, and the ceilings that end one.

        Other ceilings, and the floors, only bound what the file may say.
        """
        ceilings = {
            ceiling_key(rule.name): rule.ceiling.interval if rule.ceiling else ""
            for rule in self.rules
            if rule.name in ENDED_BY_CEILING
        }
        return self.periods() | ceilings


# --- The vocabulary -------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class _Kind:
    """What is fixed about a rule, since the engine's SQL says so.

    Attributes:
        store: The one it is about.
        action: The one it takes.
        columns: Those it treats; all must stand in the file, and no others.
        clock: '' where the rule has none.
        has_period: Whether the file must say how long.
        may_be_zero: The clock is an instant at which the row is over anyway.
        must_bound: Bounds that the file may not leave out.
        rows: Which part of a table's rows, where several rules divide them between them.
        copies_messages: What clients wrote may stand in it, so it may not outlive the messages.
        is_mass_checked: What is due is normally a small share of what there is.
    """

    store: str
    action: Action
    columns: tuple[str, ...] = ()
    clock: str = ""
    has_period: bool = False
    may_be_zero: bool = False
    must_bound: tuple[Literal["floor", "ceiling"], ...] = ()
    rows: str = ""
    copies_messages: bool = False
    is_mass_checked: bool = False


def _timed(
    store: str,
    clock: str,
    action: Action,
    *columns: str,
    may_be_zero: bool = False,
    must_bound: tuple[Literal["floor", "ceiling"], ...] = (),
    rows: str = "",
    copies_messages: bool = False,
    is_mass_checked: bool = False,
) -> _Kind:
    return _Kind(
        store=store,
        action=action,
        columns=columns,
        clock=clock,
        has_period=True,
        may_be_zero=may_be_zero,
        must_bound=must_bound,
        rows=rows,
        copies_messages=copies_messages,
        is_mass_checked=is_mass_checked,
    )


def _following(store: str, clock: str, action: Action, *columns: str, rows: str = "") -> _Kind:
    return _Kind(store=store, action=action, columns=columns, clock=clock, rows=rows)


def _kept(store: str, *columns: str) -> _Kind:
    return _Kind(store=store, action=Action.KEEP, columns=columns)


_IDENTITY_CHANGE = (
    "old_phone_key",
    "old_bsuid",
    "old_parent_bsuid",
    "new_phone_key",
    "new_wa_id",
    "new_bsuid",
    "new_parent_bsuid",
)

_KINDS: dict[str, _Kind] = {
    # The nine tables of DOC 01.
    "messages_content": _timed(
        "public.messages",
        "created_at",
        Action.CLEAR,
        "content",
        must_bound=("ceiling",),
        is_mass_checked=True,
    ),
    "session_context_ttl": _timed(
        "public.session_context",
        "ttl_expires_at",
        Action.DELETE,
        "messages_json",
        "summary",
        may_be_zero=True,
    ),
    "leads_inactive": _timed(
        "public.leads",
        "last_activity",
        Action.ANONYMIZE,
        "name",
        "company",
        "phone",
        "email",
        "notes",
        "crm_id",
        must_bound=("ceiling",),
        is_mass_checked=True,
    ),
    "users_inactive": _timed(
        "public.users",
        "last_activity",
        Action.ANONYMIZE,
        "phone",
        "name",
        "email",
        "company",
        "login_token",
        must_bound=("floor",),
        is_mass_checked=True,
    ),
    "login_tokens_unused": _timed(
        "public.users", "last_use", Action.CLEAR, "login_token", is_mass_checked=True
    ),
    "tickets_kept": _Kind(
        store="public.tickets",
        action=Action.KEEP,
        columns=("title", "description", "assigned_to"),
        clock="created_at",
        has_period=True,
        must_bound=("floor",),
    ),
    "conversations_kept": _kept("public.conversations"),
    "conversations_staff": _following(
        "public.conversations", WITH_STAFF, Action.ANONYMIZE, "transferred_to"
    ),
    "appointments_details": _timed(
        "public.appointments",
        "scheduled_at",
        Action.CLEAR,
        "notes",
        "calendar_event_id",
        is_mass_checked=True,
    ),
    "appointments_staff": _following(
        "public.appointments", WITH_STAFF, Action.ANONYMIZE, "assigned_to"
    ),
    "services_notes": _timed(
        "public.services", "ended_at", Action.CLEAR, "notes", is_mass_checked=True
    ),
    "certificates_kept": _kept("public.certificates"),
    # What came in, and what waits.
    "inbound_batches": _timed(
        "pipeline.inbound_batches", "first_seen_at", Action.DELETE, "source_name"
    ),
    "quarantine": _timed(
        "pipeline.quarantine",
        "quarantined_at",
        Action.DELETE,
        "source_name",
        "payload",
        copies_messages=True,
    ),
    "message_changes_waiting": _timed(
        "pipeline.message_changes", "changed_at", Action.DELETE, "content", copies_messages=True
    ),
    "message_reactions_emoji": _timed(
        "pipeline.message_reactions", "reacted_at", Action.CLEAR, "emoji", copies_messages=True
    ),
    "button_replies_payload": _timed(
        "pipeline.button_replies",
        "pressed_at",
        Action.CLEAR,
        "payload",
        copies_messages=True,
    ),
    "identity_changes_unknown": _timed(
        "pipeline.identity_changes",
        "changed_at",
        Action.DELETE,
        *_IDENTITY_CHANGE,
        rows="unsettled",
    ),
    "undo_records": _timed(
        "pipeline.undo_records", "expires_at", Action.DELETE, "record", may_be_zero=True
    ),
    "runs_text": _timed("pipeline.runs", "started_at", Action.CLEAR, "report", "error"),
    # What goes with the client, in the same transaction.
    "user_identities": _following("pipeline.user_identities", WITH_USER, Action.DELETE, "value"),
    "senders": _following(
        "pipeline.senders",
        WITH_USER,
        Action.DELETE,
        "phone_key",
        "bsuid",
        "wa_id",
        "name",
        "parent_bsuid",
    ),
    "identity_changes_settled": _following(
        "pipeline.identity_changes", WITH_USER, Action.DELETE, *_IDENTITY_CHANGE, rows="settled"
    ),
    "message_facts": _following(
        "pipeline.message_facts", WITH_USER, Action.ANONYMIZE, "sender_id", "told_sender_id"
    ),
    "conversation_events": _following(
        "pipeline.conversation_events", WITH_USER, Action.ANONYMIZE, "sender_id"
    ),
    "opt_outs": _following("pipeline.opt_outs", WITH_USER, Action.ANONYMIZE, "sender_id"),
    "external_tasks_reference": _following(
        "pipeline.external_tasks", WITH_USER, Action.CLEAR, "reference"
    ),
    # What goes with the lead, in the same transaction; conflicts sooner where their time is over.
    "crm_links": _following(
        "pipeline.crm_links",
        WITH_LEAD,
        Action.DELETE,
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
    "sync_conflicts": _timed(
        "pipeline.sync_conflicts",
        "found_at",
        Action.DELETE,
        "our_value",
        "their_value",
        must_bound=("ceiling",),
    ),
    # Our own people.
    "staff_names": _timed("pipeline.staff", "last_seen", Action.ANONYMIZE, "name"),
    "conversation_events_staff": _following(
        "pipeline.conversation_events", WITH_STAFF, Action.ANONYMIZE, "transferred_to"
    ),
    # Retention's own records, and those that hold ids and instants only.
    "plans_expired": _timed("pipeline.plans", "expires_at", Action.DELETE, may_be_zero=True),
    "erased_messages": _timed(
        "pipeline.erased_messages", "forget_at", Action.DELETE, may_be_zero=True
    ),
    "holds_text": _timed("pipeline.retention_holds", "ended_at", Action.CLEAR, "reason", "owner"),
    "ticket_digests": _kept("pipeline.ticket_digests", "digest"),
    "privacy_ledger_kept": _kept("pipeline.privacy_ledger"),
    "anonymized_rows_kept": _kept("pipeline.anonymized_rows"),
    "retention_exemptions_kept": _kept("pipeline.retention_exemptions"),
    "subject_requests_kept": _kept("pipeline.subject_requests"),
    "guard_refusals_kept": _kept("pipeline.guard_refusals"),
    "user_activity_kept": _kept("pipeline.user_activity"),
    "user_merges_kept": _kept("pipeline.user_merges"),
    "message_statuses_kept": _kept("pipeline.message_statuses"),
    "row_history_kept": _kept("pipeline.row_history"),
    "staff_notices_kept": _kept("pipeline.staff_notices"),
    "settings_kept": _kept("pipeline.settings"),
    "certificate_steps_kept": _kept("pipeline.certificate_steps"),
    "alert_messages_kept": _kept("pipeline.alert_messages"),
    "certificate_attempts_kept": _kept("pipeline.certificate_attempts"),
    "certificate_answers_kept": _kept("pipeline.certificate_answers"),
    "renewal_leads_kept": _kept("pipeline.renewal_leads"),
    "certificate_changes_kept": _kept("pipeline.certificate_changes"),
    "quality_results_kept": _kept("pipeline.quality_results"),
    "table_volumes_kept": _kept("pipeline.table_volumes"),
    "sync_outbox_kept": _kept("pipeline.sync_outbox"),
    "crm_account_kept": _kept("pipeline.crm_account"),
    "crm_tokens_kept": _kept("pipeline.crm_tokens"),
    "watermarks_kept": _kept("pipeline.watermarks"),
    "gates_kept": _kept("pipeline.gates"),
    "alembic_version_kept": _kept("pipeline.alembic_version"),
    # Outside the database.
    "landing": _timed("files.landing", "modified_at", Action.DELETE, copies_messages=True),
    "landing_archive": _timed(
        "files.landing_archive", "arrived_on", Action.DELETE, copies_messages=True
    ),
    "exports": _timed("files.exports", "modified_at", Action.DELETE),
    "logs": _timed("files.logs", "modified_at", Action.DELETE),
    "mail": _timed("files.mail", "modified_at", Action.DELETE),
    "alert_previews": _timed("files.alert_previews", "modified_at", Action.DELETE),
    "officer_reports": _timed("files.officer_reports", "modified_at", Action.DELETE),
    "quality": _timed("files.quality", "modified_at", Action.DELETE),
    "ledger": _kept("files.ledger"),
    "backups": _timed("files.backups", "made_at", Action.EXTERNAL),
    "prefect_runs": _timed("prefect.runs", "ended_at", Action.DELETE),
}

RULE_NAMES: tuple[str, ...] = tuple(_KINDS)
"""Every rule, each of which a policy must have."""


def _columns_by_store() -> dict[str, frozenset[str]]:
    known: dict[str, set[str]] = {}
    for kind in _KINDS.values():
        columns = known.setdefault(kind.store, set(CATALOGUE.get(kind.store, ())))
        columns.update(kind.columns)
    return {store: frozenset(columns) for store, columns in known.items()}


_COLUMNS = _columns_by_store()


# --- The policy -----------------------------------------------------------------------------------


def parse_policy(text: str, file: str) -> Policy:
    """Read a policy.

    Args:
        text: YAML; anchors, aliases and tags are refused.
        file: Its name, for errors.

    Raises:
        BadInputError: It is not YAML, does not say what a policy must, or contradicts itself.
    """
    root = read_tree(text, file)
    top = Fields.of(
        file, "", root.line, root, required=("approved_on", "approved_by", "mass_change", "rules")
    )
    approved_on = _parse_date(top, "approved_on")
    approved_by = top.text("approved_by", "who approved it: a role, not a name")
    mass_rows, mass_pct = _parse_mass_change(top)
    written = _parse_rules(top)
    _assert_no_overlap(written)
    for one in written:
        _assert_columns_are_those_treated(one)
    _assert_copies_do_not_outlive_messages(written)
    return Policy(
        rules=tuple(one.rule for one in written),
        approved_on=approved_on,
        approved_by=approved_by,
        mass_rows=mass_rows,
        mass_pct=mass_pct,
    )


@dataclass(frozen=True, slots=True)
class _Written:
    """A rule, what is fixed about it, and where its fields stand."""

    rule: Rule
    kind: _Kind
    fields: Fields
    column_lines: tuple[int, ...]


def _parse_date(fields: Fields, name: str) -> date:
    expected = "a date, such as 2026-11-24"
    text = fields.text(name, expected)
    try:
        if re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", text):
            return date.fromisoformat(text)
    except ValueError:
        pass  # 2026-13-01
    raise fields.refuse(name, f"expected {expected}")


def _read_period(fields: Fields, name: str) -> Period:
    text = fields.text(name, _PERIOD_FORM)
    try:
        return Period.parse(text)
    except ValueError as error:
        raise fields.refuse(name, str(error)) from None


def _parse_mass_change(top: Fields) -> tuple[int, float]:
    line, node = top.entries["mass_change"]
    fields = Fields.of(top.file, "mass_change", line, node, required=("rows", "pct"))
    expected = f"a whole number from 1 to {MAX_MASS_ROWS}"
    rows = fields.text("rows", expected)
    if not re.fullmatch(r"[0-9]{1,6}", rows) or not 1 <= int(rows) <= MAX_MASS_ROWS:
        raise fields.refuse("rows", f"expected {expected}")
    expected = "a number above 0 and below 100, such as 20"
    pct = fields.text("pct", expected)
    if not re.fullmatch(r"[0-9]{1,2}(\.[0-9]{1,3})?", pct) or not float(pct):
        raise fields.refuse("pct", f"expected {expected}")
    return int(rows), float(pct)


def _parse_rules(top: Fields) -> list[_Written]:
    line, node = top.entries["rules"]
    rules = Fields.of(top.file, "rules", line, node, is_open=True)
    for name, (at, _) in rules.entries.items():
        if name not in _KINDS:
            # Cut short, since comparing long words takes quadratic time.
            near = difflib.get_close_matches(name[:60], RULE_NAMES, n=1, cutoff=0.0)
            raise rules.refuse(
                name,
                f"no rule of this name; expected one of those of decision 0008, such as {near[0]}",
                at,
            )
    for name in RULE_NAMES:
        if name not in rules:
            raise rules.refuse(
                name, "this rule is missing; expected a row for every store", rules.line
            )
    return [
        _parse_rule(top.file, name, at, entry, _KINDS[name])
        for name, (at, entry) in rules.entries.items()
    ]


def _parse_rule(file: str, name: str, line: int, node: Node, kind: _Kind) -> _Written:
    required = [
        "store",
        *(["columns"] if kind.columns else []),
        *(["clock"] if kind.clock else []),
        *(["period"] if kind.has_period else []),
        "action",
        "legal_basis",
        "reason",
    ]
    optional = [
        *([] if kind.columns else ["columns"]),
        *(["floor", "ceiling"] if kind.has_period else []),
    ]
    required += kind.must_bound
    fields = Fields.of(
        file,
        f"rules.{name}",
        line,
        node,
        required=tuple(required),
        optional=tuple(bound for bound in optional if bound not in required),
    )
    _assert_is(fields, "store", kind.store, _COLUMNS)
    if kind.clock:
        _assert_is(fields, "clock", kind.clock, {one.clock for one in _KINDS.values()})
    _assert_is(fields, "action", kind.action, set(Action))
    columns = fields.items("columns") if "columns" in fields else []
    _assert_columns_exist(fields, columns, kind.store)
    period, floor, ceiling = _parse_periods(fields, kind)
    rule = Rule(
        name=name,
        store=kind.store,
        columns=tuple(column for _, column in columns),
        clock=kind.clock,
        period=period,
        floor=floor,
        ceiling=ceiling,
        action=kind.action,
        legal_basis=fields.text("legal_basis", "the articles it stands on, such as LGPD, art. 16"),
        reason=fields.text("reason", "why, in Portuguese, for the officer's report"),
        is_mass_checked=kind.is_mass_checked,
    )
    return _Written(rule, kind, fields, tuple(at for at, _ in columns))


def _assert_is(
    fields: Fields, name: str, expected: str, known: Mapping[str, object] | set[str] | set[Action]
) -> None:
    given = fields.text(name, expected)
    if given not in known:
        raise fields.refuse(name, f"no {name} of this name is known; expected {expected}")
    if given != expected:
        raise fields.refuse(name, f"the {name} of this rule is fixed; expected {expected}")


def _assert_columns_exist(fields: Fields, columns: list[tuple[int, str]], store: str) -> None:
    known = sorted(_COLUMNS[store])
    seen: set[str] = set()
    for number, (line, column) in enumerate(columns):
        if column not in known:
            expected = ", ".join(known) or "none"
            raise fields.refuse_item(
                "columns", number, line, f"no such column of {store}; expected {expected}"
            )
        if column in seen:
            raise fields.refuse_item(
                "columns", number, line, "stands in this list already; expected each column once"
            )
        seen.add(column)


def _parse_periods(
    fields: Fields, kind: _Kind
) -> tuple[Period | None, Period | None, Period | None]:
    if not kind.has_period:
        return None, None, None
    period = _read_period(fields, "period")
    if not period.amount and not kind.may_be_zero:
        raise fields.refuse("period", f"expected more than 0: {_PERIOD_FORM}")
    floor = _read_period(fields, "floor") if "floor" in fields else None
    ceiling = _read_period(fields, "ceiling") if "ceiling" in fields else None
    for name, bound in (("floor", floor), ("ceiling", ceiling)):
        if bound is not None and not bound.amount:
            raise fields.refuse(name, f"expected more than 0: {_PERIOD_FORM}")
    if floor is not None and ceiling is not None and floor.seconds > ceiling.seconds:
        raise fields.refuse("floor", f"expected no more than the ceiling, {ceiling.interval}")
    if floor is not None and period.seconds < floor.seconds:
        raise fields.refuse(
            "period", f"shorter than the floor of this rule; expected at least {floor.interval}"
        )
    if ceiling is not None and period.seconds > ceiling.seconds:
        raise fields.refuse(
            "period", f"longer than the ceiling of this rule; expected at most {ceiling.interval}"
        )
    return period, floor, ceiling


def _assert_no_overlap(written: list[_Written]) -> None:
    """A column stands in one rule, or in one that anonymises and one that clears it sooner."""
    owners: dict[tuple[str, str], list[_Written]] = {}
    for one in written:
        for number, column in enumerate(one.rule.columns):
            for other in owners.setdefault((one.rule.store, column), []):
                _assert_may_share(one, other, column, number)
            owners[one.rule.store, column].append(one)


def _assert_may_share(one: _Written, other: _Written, column: str, number: int) -> None:
    if one.kind.rows != other.kind.rows and one.kind.rows and other.kind.rows:
        return  # the two divide the rows between them
    by_action = {written.rule.action: written for written in (one, other)}
    clears, anonymizes = by_action.get(Action.CLEAR), by_action.get(Action.ANONYMIZE)
    if clears and anonymizes and clears.rule.period and anonymizes.rule.period:
        if clears.rule.period.seconds < anonymizes.rule.period.seconds:
            return
        raise clears.fields.refuse(
            "period",
            f"contradicts rule {anonymizes.rule.name}, which anonymises {column} sooner; "
            f"expected less than {anonymizes.rule.period.interval}",
        )
    raise one.fields.refuse_item(
        "columns",
        number,
        one.column_lines[number],
        f"overlaps with rule {other.rule.name} (line {other.fields.line}), which says "
        f"{other.rule.action} of the same column; expected each column in one rule",
    )


def _assert_columns_are_those_treated(one: _Written) -> None:
    """The file says what is done: no column less, no column more."""
    for number, column in enumerate(one.rule.columns):
        if column not in one.kind.columns:
            expected = ", ".join(one.kind.columns) or "none"
            raise one.fields.refuse_item(
                "columns",
                number,
                one.column_lines[number],
                f"this rule does not reach this column; expected {expected}",
            )
    missing = [column for column in one.kind.columns if column not in one.rule.columns]
    if missing:
        raise one.fields.refuse(
            "columns", f"this rule reaches more columns; expected also {', '.join(missing)}"
        )


def _assert_copies_do_not_outlive_messages(written: list[_Written]) -> None:
    """Where texts of messages stand a second time, they may not stand longer (S3)."""
    messages = next(one.rule for one in written if one.rule.name == "messages_content")
    for one in written:
        period = one.rule.period
        if (
            one.kind.copies_messages
            and period is not None
            and messages.period is not None
            and period.seconds > messages.period.seconds
        ):
            raise one.fields.refuse(
                "period",
                "what clients wrote stands here too, and may not outlive messages_content; "
                f"expected at most {messages.period.interval}",
            )


# --- Shorter by a setting, and compared with what held before -------------------------------------


def shorten(policy: Policy, name: str, days: int | None, setting: str) -> Policy:
    """The policy with the period of one rule shortened by a setting of this machine.

    Args:
        policy: As its file says.
        name: The rule.
        days: The setting; None leaves the policy as it is.
        setting: The variable's name, for the error.

    Raises:
        ConfigurationError: The setting is longer than the policy allows, or under the rule's floor.
    """
    if days is None:
        return policy
    rule = policy.rule(name)
    period = Period(days, "days")
    if rule.period is not None and period.seconds > rule.period.seconds:
        raise ConfigurationError(
            f"{setting} may only shorten the retention policy: rule {name} allows at most "
            f"{rule.period.interval}; a longer period is for the policy to allow"
        )
    if rule.floor is not None and period.seconds < rule.floor.seconds:
        raise ConfigurationError(
            f"{setting}: rule {name} of the retention policy asks for at least "
            f"{rule.floor.interval}"
        )
    shortened = replace(rule, period=period)
    return replace(policy, rules=tuple(shortened if one is rule else one for one in policy.rules))


class Direction(StrEnum):
    """What a change of a limit means for the data."""

    ADDED = "added"
    REMOVED = "removed"
    SHORTER = "shorter"
    LONGER = "longer"


@dataclass(frozen=True, kw_only=True)
class PolicyChange:
    """A limit as it was and as it is; None where there was or is no such rule.

    ``limit`` is the rule's name for its period, ``NAME_ceiling`` for a ceiling. '' is no limit, or
    one that follows another rule.
    """

    limit: str
    before: str | None
    after: str | None
    direction: Direction


def compare_limits(before: Mapping[str, str], after: Policy) -> tuple[PolicyChange, ...]:
    """What changed since the policy last carried out, by limit.

    The same length in other words (12 months, 1 year) is no change.

    Args:
        before: Intervals, as ``Policy.limits`` gave them then.
        after: The policy as it is now.
    """
    limits = after.limits()
    changes = []
    for limit in sorted(before.keys() | limits.keys()):
        old, new = before.get(limit), limits.get(limit)
        direction = _compare(old, new)
        if direction is not None:
            changes.append(PolicyChange(limit=limit, before=old, after=new, direction=direction))
    return tuple(changes)


def _compare(old: str | None, new: str | None) -> Direction | None:
    if old is None or new is None:
        return Direction.ADDED if old is None else Direction.REMOVED
    was, is_now = _length(old), _length(new)
    if was == is_now:
        return None
    return Direction.SHORTER if is_now < was else Direction.LONGER


def _length(interval: str) -> float:
    return float(Period.parse(interval).seconds) if interval else float("inf")
