"""What the steps of one run of the sync share: client, statements, the account, what is begun.

What a step does belongs to its own module.
"""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

from gatte_pipelines.crm.account import (
    Account,
    is_stale,
    load_account,
    read_account,
    store_account,
)
from gatte_pipelines.crm.client import PipedriveClient
from gatte_pipelines.crm.company import SYSTEM
from gatte_pipelines.crm.erasure import PendingErasures, pending_references
from gatte_pipelines.crm.links import Links
from gatte_pipelines.crm.policy import CrmPolicy
from gatte_pipelines.crm.tokens import store_ledger
from gatte_pipelines.sync import outbox
from gatte_pipelines.sync.breaker import Approved
from gatte_pipelines.sync.outbox import Intent

if TYPE_CHECKING:
    import psycopg

    from gatte_pipelines.crm import models as m

REFUSED = "refused"
"""Action of the outbox that no call is under way for: Pipedrive refused something."""


@dataclass(kw_only=True)
class Session:
    """One run's connections and what it learnt.

    Attributes:
        client: Of Pipedrive.
        links: Our tables.
        policy: Who owns what, and which label or stage means what.
        run_id: Of the run.
        now: When it began.
        notes: How often something worth telling happened, by its code.
        sentences: What else is to be told; no personal value.
        written: Persons by their id as this run left them.
        approved: The plan that is carried out, where a person approved one.
    """

    client: PipedriveClient
    links: Links
    policy: CrmPolicy
    run_id: UUID
    now: datetime
    notes: Counter[str] = field(default_factory=Counter)
    sentences: list[str] = field(default_factory=list)
    written: dict[int, m.Person] = field(default_factory=dict)
    approved: Approved | None = None

    def __post_init__(self) -> None:
        self._began_at = time.monotonic()
        self._account: Account | None = None
        self._has_reread = False
        self._intents: dict[UUID, dict[str, Intent]] = {}
        self.pending = PendingErasures()

    @property
    def account(self) -> Account:
        """The company's labels, stages and our field there."""
        assert self._account is not None  # noqa: S101 - opened first
        return self._account

    def clock(self) -> datetime:
        """The present instant: a run may last longer than what it waits for."""
        return self.now + timedelta(seconds=time.monotonic() - self._began_at)

    def open(self, *, creates: bool = True) -> None:
        """Read the account where it may have changed, what is begun, and what is being erased.

        Args:
            creates: Whether our custom field is made there where it is missing.

        Raises:
            BadInputError: The configuration names a label or stage that is not there.
            ConfigurationError: This database is linked with another company.
        """
        with self.links.transaction() as cursor:
            self._account = load_account(cursor)
            for intent in outbox.read_open(cursor, SYSTEM):
                self._intents.setdefault(intent.local_id, {})[intent.action] = intent
            self.pending = pending_references(cursor)
        mark = self.client.access_mark
        if is_stale(self._account, self.policy, self.now, access_mark=mark):
            self.reread_account(creates=creates)

    def reread_account(self, *, creates: bool = True) -> None:
        """Read the account again, and keep it for the runs to come."""
        known = None if self._account is None else self._account.company_id
        account, sentences = read_account(
            self.client, self.policy, now=self.now, known_company=known, creates=creates
        )
        if creates:  # else a field that is still to be made would count as refused for a day
            with self.links.transaction() as cursor:
                store_account(cursor, account)
                self.store_tokens(cursor)
        self._account = account
        self.sentences += [line for line in sentences if line not in self.sentences]

    def reread_once(self) -> bool:
        """Read the account again, at most once a run: 32 tokens; whether it was."""
        if self._has_reread:
            return False
        self._has_reread = True
        self.reread_account()
        return True

    def intents_of(self, lead_id: UUID) -> dict[str, Intent]:
        """Calls for a lead that were begun and whose end is not known, by action."""
        return self._intents.setdefault(lead_id, {})

    def note_refused(self, lead_id: UUID) -> None:
        """Pipedrive refused something about a lead: it is tried again later, not in every run."""
        with self.links.transaction() as cursor:
            self.intents_of(lead_id)[REFUSED] = outbox.begin(
                cursor, SYSTEM, lead_id, REFUSED, now=self.clock()
            )

    def forget_intents(self, lead_id: UUID) -> None:
        """Both sides agree, or nothing is left to agree on: what was begun is not needed."""
        intents = self.intents_of(lead_id)
        if intents:
            with self.links.transaction() as cursor:
                for action in intents:
                    outbox.settle(cursor, SYSTEM, lead_id, action)
            intents.clear()

    def note_done(self, cursor: psycopg.Cursor[Any], part: str, row_id: UUID) -> None:
        """Note that a row of an approved plan is done, in the transaction that does it."""
        if self.approved is not None:
            self.approved.note(cursor, part, row_id)

    def tell(self, code: str) -> None:
        """Count something that the report should mention."""
        self.notes[code] += 1

    def store_tokens(self, cursor: psycopg.Cursor[Any]) -> None:
        """Keep what the day has cost so far."""
        store_ledger(cursor, self.client.ledger, at=self.clock())
