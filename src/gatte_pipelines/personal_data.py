"""The catalogue of every text column, and of ids of other systems: personal or not (S3, S5).

One list decides what the reporting role may read, what retention must reach, and what no report
may show. A test compares it with the database and fails on a column that is not listed. Patterns
for text in logs belong to ``redaction``.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """What a column holds.

    ``PERSONAL``: about or leading back to a person, staff names and free text included.
    ``SECRET``: lets its holder in; never leaves the database.
    ``PLAIN``: codes, names of products and states.
    """

    PERSONAL = "personal"
    SECRET = "secret"  # noqa: S105 - a kind of column, not a secret
    PLAIN = "plain"


_PERSONAL, _SECRET, _PLAIN = Kind.PERSONAL, Kind.SECRET, Kind.PLAIN

CATALOGUE: dict[str, dict[str, Kind]] = {
    "public.users": {
        "phone": _PERSONAL,
        "name": _PERSONAL,
        "email": _PERSONAL,
        "company": _PERSONAL,  # a sole trader's company is a person
        "login_token": _SECRET,
    },
    "public.conversations": {
        "current_flow": _PLAIN,
        "transferred_to": _PERSONAL,  # a member of staff
    },
    "public.messages": {
        "content": _PERSONAL,
        "intent_detected": _PLAIN,
    },
    "public.session_context": {
        "messages_json": _PERSONAL,
        "summary": _PERSONAL,
    },
    "public.tickets": {
        "protocol": _PLAIN,
        "title": _PERSONAL,  # free text: names, phones and CPF stand in it
        "description": _PERSONAL,
        "category": _PLAIN,
        "assigned_to": _PERSONAL,
    },
    "public.leads": {
        "name": _PERSONAL,
        "company": _PERSONAL,
        "phone": _PERSONAL,
        "email": _PERSONAL,
        "interest": _PLAIN,
        "source": _PLAIN,
        "notes": _PERSONAL,
        "crm_id": _PERSONAL,  # leads back to the person in the CRM
    },
    "public.appointments": {
        "assigned_to": _PERSONAL,
        "notes": _PERSONAL,
        "calendar_event_id": _PERSONAL,  # leads back to the event and its guests
    },
    "public.services": {
        "name": _PLAIN,
        "notes": _PERSONAL,
    },
    "public.certificates": {},
    "pipeline.alembic_version": {"version_num": _PLAIN},
    "pipeline.settings": {"name": _PLAIN, "value": _PLAIN},
    "pipeline.runs": {
        "pipeline": _PLAIN,
        "outcome": _PLAIN,
        "reason": _PLAIN,
        "report": _PERSONAL,  # its notes name files, and whoever names one may name a person
        "error": _PERSONAL,
    },
    "pipeline.watermarks": {"pipeline": _PLAIN, "name": _PLAIN, "value": _PLAIN},
    "pipeline.gates": {"table_name": _PLAIN, "reason": _PLAIN},
    "pipeline.inbound_batches": {
        "source_name": _PERSONAL,  # whoever names a file may put a phone into the name
        "state": _PLAIN,
    },
    "pipeline.quarantine": {
        "source_name": _PERSONAL,
        "kind": _PLAIN,
        "field": _PLAIN,
        "reason": _PLAIN,
        "payload": _PERSONAL,
    },
    "pipeline.user_identities": {"kind": _PLAIN, "value": _PERSONAL},
    "pipeline.user_activity": {},
    "pipeline.message_facts": {
        "author": _PLAIN,
        "mode": _PLAIN,
        "current_flow": _PLAIN,
        "model": _PLAIN,
    },
    "pipeline.message_statuses": {"status": _PLAIN, "pricing_category": _PLAIN},
    "pipeline.row_history": {
        "table_name": _PLAIN,
        "column_name": _PLAIN,
        "old_value": _PLAIN,  # the trigger records non-personal columns only
        "new_value": _PLAIN,
    },
    "pipeline.staff": {"name": _PERSONAL},
    "pipeline.senders": {
        "phone_key": _PERSONAL,
        "bsuid": _PERSONAL,
        "wa_id": _PERSONAL,
        "name": _PERSONAL,
        "parent_bsuid": _PERSONAL,
        "user_ref": _PLAIN,  # users.id
    },
    "pipeline.message_changes": {"content": _PERSONAL},
    "pipeline.message_reactions": {"emoji": _PERSONAL},
    "pipeline.button_replies": {"payload": _PERSONAL},  # ours, but a hostile text comes as well
    "pipeline.identity_changes": {
        "old_phone_key": _PERSONAL,
        "old_bsuid": _PERSONAL,
        "old_parent_bsuid": _PERSONAL,
        "new_phone_key": _PERSONAL,
        "new_wa_id": _PERSONAL,
        "new_bsuid": _PERSONAL,
        "new_parent_bsuid": _PERSONAL,
    },
    "pipeline.conversation_events": {"status": _PLAIN, "transferred_to": _PERSONAL},
    "pipeline.opt_outs": {"category": _PLAIN},
    "pipeline.current_opt_outs": {"category": _PLAIN},
    "pipeline.message_delivery": {"status": _PLAIN, "pricing_category": _PLAIN},
    "pipeline.live_session_contexts": {"messages_json": _PERSONAL, "summary": _PERSONAL},
    "pipeline.user_merges": {},
    "pipeline.undo_records": {"kind": _PLAIN, "record": _PERSONAL},
    "pipeline.anonymized_rows": {"table_name": _PLAIN, "rule": _PLAIN},
    "pipeline.guard_refusals": {
        "table_name": _PLAIN,
        "column_name": _PLAIN,
        "refused_role": _PLAIN,
    },
    "pipeline.staff_notices": {"notice_key": _PLAIN, "kind": _PLAIN},
    "pipeline.plans": {
        "pipeline": _PLAIN,
        "parameters": _PLAIN,  # enumerations, instants and ids
        "contents": _PLAIN,  # counts and checksums of ids
        "reason": _PLAIN,
        "progress": _PLAIN,
    },
    "pipeline.privacy_ledger": {"entry": _PLAIN, "previous_hash": _PLAIN, "hash": _PLAIN},
    "pipeline.retention_holds": {
        "table_name": _PLAIN,
        "reason": _PERSONAL,  # free text of the officer
        "owner": _PERSONAL,
    },
    "pipeline.retention_exemptions": {"rule": _PLAIN, "table_name": _PLAIN, "basis": _PLAIN},
    "pipeline.subject_requests": {"kind": _PLAIN, "state": _PLAIN},
    "pipeline.external_tasks": {
        "system": _PLAIN,
        "reference": _PERSONAL,  # leads back to the person in the other system
        "state": _PLAIN,
    },
    "pipeline.erased_messages": {},
    "pipeline.ticket_digests": {"digest": _PERSONAL},  # of free text: a short one can be guessed
    "pipeline.certificate_steps": {"audience": _PLAIN, "state": _PLAIN, "reason": _PLAIN},
    "pipeline.alert_messages": {
        "audience": _PLAIN,
        "channel": _PLAIN,
        "template": _PLAIN,
        "state": _PLAIN,
        "reason": _PLAIN,
    },
    "pipeline.certificate_attempts": {"channel": _PLAIN},
    "pipeline.certificate_answers": {"answer": _PLAIN},
    "pipeline.renewal_leads": {},
    "pipeline.certificate_changes": {"type": _PLAIN},
    "pipeline.quality_results": {
        "check_name": _PLAIN,
        "table_name": _PLAIN,
        "severity": _PLAIN,
        "state": _PLAIN,
        "failed_keys": _PLAIN,  # ids of rows
        "detail": _PLAIN,  # counts, and names of columns and types
    },
    "pipeline.table_volumes": {"table_name": _PLAIN},
    "pipeline.crm_links": {
        "state": _PLAIN,
        # No text, but whoever has one opens the person's records in the CRM with it.
        "remote_lead_id": _PERSONAL,
        "deal_id": _PERSONAL,
        "person_id": _PERSONAL,
        "organization_id": _PERSONAL,
        "note_id": _PERSONAL,
        "phone_key": _PERSONAL,
        "agreed_name": _PERSONAL,
        "agreed_phone": _PERSONAL,
        "agreed_email": _PERSONAL,
        "agreed_company": _PERSONAL,
        "agreed_stage": _PLAIN,
    },
    "pipeline.sync_outbox": {"system": _PLAIN, "action": _PLAIN},
    "pipeline.sync_conflicts": {
        "system": _PLAIN,
        "table_name": _PLAIN,
        "kind": _PLAIN,
        "field": _PLAIN,
        "winner": _PLAIN,
        "our_value": _PERSONAL,
        "their_value": _PERSONAL,
        "resolution": _PLAIN,
    },
    "pipeline.crm_account": {"system": _PLAIN, "contents": _PLAIN},  # labels, stages, a field's key
    "pipeline.crm_tokens": {},
}
"""Kind of each text, varchar, json and bytea column, by ``schema.table`` and column.

A column of another type stands here only where it is personal: an id of a record elsewhere.
"""


VIEWS = {
    "pipeline.current_opt_outs": "pipeline.opt_outs",
    "pipeline.message_delivery": "pipeline.message_statuses",
    "pipeline.live_session_contexts": "public.session_context",
}
"""Of each view of the catalogue the table whose rows it shows; what stands there stands once."""


def personal_columns() -> list[tuple[str, str]]:
    """Table and column of everything in the catalogue that is personal or secret, without views."""
    return [
        (table, column)
        for table, columns in CATALOGUE.items()
        if table not in VIEWS
        for column, kind in columns.items()
        if kind is not Kind.PLAIN
    ]


def is_reportable(table: str, column: str) -> bool:
    """Whether reports may read a column of ``schema.table``.

    What is not catalogued (our own ids, instants, numbers, ENUMs) may be read.
    """
    return CATALOGUE[table].get(column, Kind.PLAIN) is Kind.PLAIN


# No repr: what is printed, logged or raised with these must not show them.
@dataclass(frozen=True, kw_only=True, repr=False)
class SubjectKeys:
    """What a person is known by in files and payloads.

    Attributes:
        phones: Digits only, every form (with and without the ninth digit).
        bsuids: Business-scoped user ids, the parents' included.
        emails: As they were written.
        message_ids: ``messages.id`` as 32 hexadecimal digits.
        user_ids: ``users.id`` as 32 hexadecimal digits, those merged into the user included.
        lead_ids: ``leads.id`` likewise, those merged into one of the leads included.
        crm_records: What is theirs alone in the CRM, such as ``person:5``.
    """

    phones: frozenset[str]
    bsuids: frozenset[str]
    emails: frozenset[str]
    message_ids: frozenset[str]
    user_ids: frozenset[str]
    lead_ids: frozenset[str] = frozenset()
    crm_records: frozenset[str] = frozenset()
