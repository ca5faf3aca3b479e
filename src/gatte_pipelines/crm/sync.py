"""One run of the sync: what changed there, what changed here, what is new, each lead by itself.

Every lead is carried over in transactions of its own, so a run that is killed leaves whole leads
and leads that the next run meets again; the watermarks are saved after the last. What becomes of a
lead belongs to ``exchange`` and ``creation``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any
from uuid import UUID

import psycopg

from gatte_pipelines.crm.budget import DailyBudgetSpent
from gatte_pipelines.crm.client import PipedriveClient
from gatte_pipelines.crm.creation import CREATED, Creation
from gatte_pipelines.crm.erasure import plan_orphan
from gatte_pipelines.crm.exchange import Direction, Exchange, Outcome, Remote, differs
from gatte_pipelines.crm.failures import RefusedError, UnreadableAnswerError
from gatte_pipelines.crm.joining import Entity, Merge, final_merges, follow, plan_joins
from gatte_pipelines.crm.links import FIELDS, KnownLead, Links
from gatte_pipelines.crm.outgoing import UnavailableError, WaitingError
from gatte_pipelines.crm.policy import CrmPolicy
from gatte_pipelines.crm.pull import Changes, read_changes
from gatte_pipelines.crm.reconcile import RECONCILED, Reconciled, is_due, reconcile
from gatte_pipelines.crm.session import REFUSED, Session
from gatte_pipelines.crm.webhooks import Events, read_events
from gatte_pipelines.database.engine import psycopg_connection
from gatte_pipelines.database.plans import mark_executed
from gatte_pipelines.http import RetryableHttpError
from gatte_pipelines.portuguese import number
from gatte_pipelines.run_report import DRY_RUN, RunReport
from gatte_pipelines.run_report import Outcome as RunOutcome
from gatte_pipelines.sync.breaker import Approved, Part, ask, assert_approved, is_mass_change

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from gatte_pipelines.landing import LandingZone

PIPELINE = "crm_sync"

DOCUMENT = "diferencas"
"""Name of the table of differences among the documents of a run; it holds no value."""

# As often as that a change that Pipedrive refused is sent again.
REFUSED_WAITS = timedelta(hours=6)
# Leads that somebody else linked are looked up so many a run: each is a call.
ADOPTED_A_RUN = 200
# Up to so many leads nothing can be a mass change (S11), and none need be foreseen.
_FEW = 25

# So many leads that fail one after the other mean that Pipedrive is down.
_FAILURES_IN_A_ROW = 3
# Leads that are read together.
_BATCH = 200

_PARTS_PT = {
    "pull": "leads mudados aqui",
    "push": "leads novos no Pipedrive",
    "import": "leads novos aqui",
    "delete": "leads não encontrados no Pipedrive",
    "join": "leads reunidos a outro",
    "adopt": "leads ligados ao registro que já têm no Pipedrive",
}
_LABELS_PT = {
    "name": "nome",
    "phone": "telefone",
    "email": "e-mail",
    "company": "empresa",
    "stage": "etapa",
}
_SENTENCES_PT = {
    "ambiguous_person": "pessoas com o mesmo telefone ou e-mail no Pipedrive; usada a mais antiga",
    "left_unknown_stage": (
        "negócios em uma etapa que config/crm_stages.yaml não conhece; etapa mantida"
    ),
    "left_no_person": "campos de contato de leads sem pessoa no Pipedrive; mantidos aqui",
    "left_invalid_phone": "telefones no Pipedrive que não servem; mantidos como estão",
    "left_invalid_email": "e-mails no Pipedrive que não servem; mantidos como estão",
    "left_too_long": "valores do Pipedrive que não cabem na coluna; mantidos como estão",
    "left_nul_character": "valores do Pipedrive com um caractere nulo; mantidos como estão",
    "unknown_lead": "registros no Pipedrive com o id de um lead que não existe aqui",
    "copy_there": "cópias de um lead no Pipedrive; mantida a ligação com o original",
    "same_crm_id": "leads com o crm_id de outro lead; não foram ligados",
    "made_again": "leads cuja pessoa ou empresa foi apagada no Pipedrive; serão refeitos",
    "orphans": "registros de leads anonimizados ainda no Pipedrive; a eliminação foi pedida",
    "bad_webhook": "avisos do Pipedrive que não puderam ser lidos; descartados",
    "joined": "leads reunidos a outro, porque as pessoas foram reunidas no Pipedrive",
}


@dataclass(kw_only=True)
class _Work:
    """What a run has to do, and what it knows of it already.

    Attributes:
        changes: Of the other side.
        events: Merges that webhooks told.
        reconciled: What the daily reconcile found; None where none was due.
        exchanged: Linked leads to be compared, in their order.
        found_here: Linked leads that differ here.
        new: Leads to be made there.
        unlinked: Leads that somebody else linked, with their ``crm_id``.
        read: What was read of a lead already.
    """

    changes: Changes
    events: Events
    reconciled: Reconciled | None = None
    exchanged: list[UUID] = field(default_factory=list)
    found_here: frozenset[UUID] = frozenset()
    new: list[UUID] = field(default_factory=list)
    unlinked: list[tuple[UUID, str]] = field(default_factory=list)
    read: dict[UUID, Remote] = field(default_factory=dict)

    @property
    def total(self) -> int:
        """How many leads."""
        return (
            len(self.exchanged)
            + len(self.new)
            + len(self.unlinked)
            + len(self.changes.adopted)
            + len(self.changes.born_there)
        )


@dataclass
class CrmProgress:
    """How far a run is."""

    done: int = 0
    total: int = 0


class CrmSync:
    """Keeps leads in step with Pipedrive.

    Args:
        connection: Of gatte_pipeline, outside a transaction.
        client: Of Pipedrive; its ledger counts the day's tokens.
        policy: Who owns what, and which label or stage means what.
        webhooks: Where webhooks of Pipedrive arrive; None where they are not read.
        imports: Whether leads that were born in Pipedrive become leads here.
        now: The instant by the clock.
    """

    def __init__(
        self,
        connection: Connection,
        *,
        client: PipedriveClient,
        policy: CrmPolicy,
        webhooks: LandingZone | None,
        imports: bool,
        now: datetime,
    ) -> None:
        self._client = client
        self._policy = policy
        self.webhooks = webhooks
        self.imports = imports
        self._now = now
        self._links = Links(psycopg_connection(connection), now)

    def sync(
        self,
        report: RunReport,
        *,
        direction: Direction = Direction.BOTH,
        since: datetime | None = None,
        dry_run: bool = False,
        approve: UUID | None = None,
        documents: dict[str, Any] | None = None,
        progress: Callable[[CrmProgress], None] | None = None,
    ) -> None:
        """Carry over what one side has and the other has not.

        Args:
            report: Filled; its unit is a lead that was looked at.
            direction: Which way changes are carried.
            since: Read what changed there from this instant on; None from where the last run came.
            dry_run: Only show what would change.
            approve: Carry out exactly this plan.
            documents: Takes the table of differences, without any value.
            progress: Told how far the run is.

        Raises:
            BadInputError: The configuration names what is not in the account.
            ConfigurationError: The token is not accepted, or the plan may not be carried out.
            GatteError: What the client raises for a call without which nothing can go on.
        """
        session = Session(
            client=self._client,
            links=self._links,
            policy=self._policy,
            run_id=report.run_id,
            now=self._now,
        )
        run = _Run(self, session, report, direction, progress)
        spent = self._client.ledger.spent
        try:
            session.open(creates=not dry_run)
            work = run.find_work(since)
            run.carry_out(work, dry_run=dry_run, approve=approve, documents=documents)
        except DailyBudgetSpent:
            report.outcome, report.reason = RunOutcome.SKIPPED, "budget"
            run.leave_the_rest("budget")
        finally:
            with self._links.transaction() as cursor:
                session.store_tokens(cursor)
        run.tell(self._client.ledger.spent - spent)


class _Run:
    """One run; see ``CrmSync.sync``."""

    def __init__(
        self,
        sync: CrmSync,
        session: Session,
        report: RunReport,
        direction: Direction,
        progress: Callable[[CrmProgress], None] | None,
    ) -> None:
        self._sync = sync
        self._session = session
        self._report = report
        self._direction = direction
        self._exchange = Exchange(session, direction)
        self._creation = Creation(session, self._exchange)
        self._show = progress or (lambda _: None)
        self._progress = CrmProgress()
        self._left = 0
        self._failures = 0
        self._idle = 0
        self._holds_watermark = False
        self._foreseen: dict[str, Counter[str]] = {name: Counter() for name in FIELDS}
        self._done: dict[str, Counter[str]] = {name: Counter() for name in FIELDS}
        self._has_foreseen = False
        self._moved: list[Merge] = []
        self._reconciled: Reconciled | None = None

    # --- what there is to do

    def find_work(self, since: datetime | None) -> _Work:
        """Read what changed there, and find what changed here."""
        session, links = self._session, self._session.links
        events = Events()
        changes = Changes()
        reconciled = None
        if self._direction is not Direction.PUSH:
            if self._sync.webhooks is not None:
                events = read_events(self._sync.webhooks)
            imports = self._sync.imports
            changes = read_changes(session, since=since, imports=imports)
            if is_due(session):
                reconciled = self._reconciled = reconcile(session, changes)
        work = _Work(changes=changes, events=events, reconciled=reconciled)
        with links.transaction() as cursor:
            changed_here = links.find_changed_here(cursor)
            new = links.find_new(cursor)
            work.unlinked = links.find_unlinked(cursor, ADOPTED_A_RUN)
        adopted = changes.adopted.keys()
        there = changes.lead_ids | (reconciled.missing if reconciled else frozenset())
        if self._direction is not Direction.PULL:
            work.new = [lead_id for lead_id in new if lead_id not in adopted]
            there |= set(changed_here)
        work.found_here = frozenset(changed_here)
        unlinked = {lead_id for lead_id, _ in work.unlinked}
        # One that is linked and has a copy there is adopted only where the copy took its place.
        work.exchanged = sorted(there - unlinked - set(work.new))
        work.unlinked = [each for each in work.unlinked if each[0] not in adopted]
        return work

    # --- carrying it out

    def carry_out(
        self,
        work: _Work,
        *,
        dry_run: bool,
        approve: UUID | None,
        documents: dict[str, Any] | None,
    ) -> None:
        """Ask where it is too much, show where it is only to be shown, else do it."""
        session, report = self._session, self._report
        merges = final_merges(work.events.merges)
        parts = self._foresee(work, merges, everything=dry_run or approve is not None)
        report.received = work.total + work.changes.pending
        self._left = work.total
        self._skip("erasure_pending", work.changes.pending)
        if approve is not None:
            with session.links.transaction() as cursor:
                assert_approved(
                    cursor, approve, pipeline=PIPELINE, now=self._session.now, parts=parts
                )
            session.approved = Approved(approve, {part.name: part for part in parts})
        elif dry_run or self._is_too_much(parts):
            if not self._has_foreseen:
                # What is approved is held to everything that would be done.
                parts = self._foresee(work, merges, everything=True)
            self._ask(parts, dry_run=dry_run)
            report.duplicate += self._idle
            self._left -= self._idle
            self._skip(DRY_RUN if dry_run else "many_changes", self._left)
            self._left = 0
            if documents is not None:
                documents[DOCUMENT] = self._table(parts, is_foreseen=True)
            return
        self._progress.total = work.total
        self._join(merges)
        self._erase_orphans(work)
        for outcome in self._each(work):
            self._count(outcome)
            self._progress.done += 1
            self._show(self._progress)
        self._save_marks(work)
        if session.approved is not None:
            with session.links.transaction() as cursor:
                mark_executed(cursor, session.approved.plan_id, session.now)
        self._forget_events(work)
        if documents is not None and report.received:
            documents[DOCUMENT] = self._table(parts, is_foreseen=False)
        if not report.received and not any(session.notes.values()):
            report.outcome, report.reason = RunOutcome.SKIPPED, "nothing_to_do"

    def _forget_events(self, work: _Work) -> None:
        """Webhooks are read once; what they told is carried over by now."""
        self._session.notes["bad_webhook"] += work.events.unreadable
        zone = self._sync.webhooks
        if zone is not None:
            for path in work.events.paths:
                zone.remove(path)

    def _each(self, work: _Work) -> Iterator[Outcome]:
        creation = self._creation
        for lead_id, record in work.changes.adopted.items():
            yield self._guarded(lead_id, partial(creation.adopt, lead_id, record))
        for lead_id, crm_id in work.unlinked:
            step = partial(creation.adopt_by_crm_id, lead_id, crm_id)
            yield self._guarded(lead_id, step)
        for lead_id in work.exchanged:
            yield self._guarded(lead_id, partial(self._carry_over, work, lead_id))
        for lead_id in work.new:
            yield self._guarded(lead_id, partial(self._push, lead_id))
        for lead in work.changes.born_there:
            yield self._guarded(lead.id, partial(creation.take_in, lead))

    def _push(self, lead_id: UUID) -> Outcome:
        if self._is_refused(lead_id):
            return Outcome(reason="refused")
        return self._creation.push(lead_id)

    def _carry_over(self, work: _Work, lead_id: UUID) -> Outcome:
        """One linked lead."""
        session, exchange = self._session, self._exchange
        is_refused = self._is_refused(lead_id)
        is_of_theirs = work.changes.is_about(lead_id) or lead_id not in work.found_here
        if is_refused:
            if not is_of_theirs:
                return Outcome(reason="refused")
            # What was refused is sent again later; what changed there is taken now.
            exchange = Exchange(session, Direction.PULL)
        known = self._read(lead_id)
        if known is None or known.is_anonymized:
            return Outcome(reason="gone_here" if known is None else "anonymized")
        if known.link is None or known.link.state != "linked":
            return Outcome(reason="changed")
        remote = work.read.pop(lead_id, None)
        if remote is None or differs(known):
            remote = exchange.read(known, work.changes)
        if not differs(known) and exchange.decide(known, remote).there:
            remote = self._read_before_writing(known, remote, work)
        if remote.moved_from is not None and remote.person_id is not None:
            merge = Merge(entity=Entity.PERSON, lost_id=remote.moved_from, kept_id=remote.person_id)
            session.notes["joined"] += follow(session, merge)
            if self._read(lead_id) is None:
                return Outcome(reason="merged")
        try:
            outcome = exchange.apply(lead_id, remote)
        except WaitingError:
            # What was to be put right there may be no difference here: the lists show it again.
            self._holds_watermark = True
            raise
        if outcome.reason is None and exchange.direction is not Direction.PULL:
            fresh = self._read(lead_id)
            if fresh is not None and not fresh.is_anonymized:
                self._creation.outgoing.note_of(fresh)
            session.forget_intents(lead_id)
        elif outcome.reason == "deleted_there":
            session.forget_intents(lead_id)
        return outcome

    def _read_before_writing(self, known: KnownLead, remote: Remote, work: _Work) -> Remote:
        """What is to be put right there as it stands now: a list of numbers is written as a whole.

        Where this run wrote the person for another lead of ours, what a salesperson said of this
        lead is in the list; all else may be minutes old.
        """
        written = self._session.written.get(remote.person_id or 0)
        if written is None or remote.person is None:
            return self._exchange.read(known, work.changes, is_anew=True)
        return replace(remote, person=written)

    def _guarded(self, lead_id: UUID, step: Callable[[], Outcome]) -> Outcome:
        """One lead's fault must not stop the others."""
        session = self._session
        try:
            outcome = step()
        except WaitingError:
            return Outcome(reason="waiting")
        except UnavailableError:
            return Outcome(reason="anonymized")
        except RefusedError as error:
            session.note_refused(lead_id)
            session.sentences.append(f"lead {lead_id}: {error.message}")
            return Outcome(reason="refused")
        except UnreadableAnswerError as error:
            self._holds_watermark = True
            session.sentences.append(f"lead {lead_id}: {error.message}")
            return Outcome(reason="unreadable")
        except RetryableHttpError as error:
            # One record that Pipedrive cannot read is not all of Pipedrive: but three in a row are.
            self._failures += 1
            self._holds_watermark = True
            if self._failures >= _FAILURES_IN_A_ROW or error.status is None:
                raise
            session.sentences.append(f"lead {lead_id}: {error.message}")
            return Outcome(reason="unreadable")
        except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected):
            self._holds_watermark = True
            return Outcome(reason="locked")
        self._failures = 0
        return outcome

    def _is_refused(self, lead_id: UUID) -> bool:
        intent = self._session.intents_of(lead_id).get(REFUSED)
        return intent is not None and self._session.clock() < intent.begun_at + REFUSED_WAITS

    def _read(self, lead_id: UUID) -> KnownLead | None:
        with self._session.links.transaction() as cursor:
            return self._session.links.read(cursor, [lead_id]).get(lead_id)

    # --- beside the leads

    def _join(self, merges: list[Merge]) -> None:
        for merge in merges:
            self._session.notes["joined"] += follow(self._session, merge)

    def _erase_orphans(self, work: _Work) -> None:
        session = self._session
        for lead_id, reference in work.changes.orphans:
            with session.links.transaction() as cursor:
                new = plan_orphan(cursor, [reference], lead_id=lead_id, at=session.clock())
            session.notes["orphans"] += new

    def _save_marks(self, work: _Work) -> None:
        """How far the lists came, once everything that they showed is carried over (S9)."""
        if self._direction is Direction.PUSH or self._holds_watermark:
            return
        marks = dict(work.changes.watermarks)
        if work.reconciled is not None:
            marks[RECONCILED] = work.reconciled.mark
        with self._session.links.transaction() as cursor:
            for name, value in marks.items():
                self._session.links.write_watermark(cursor, name, value)

    # --- too much at once

    def _foresee(self, work: _Work, merges: list[Merge], *, everything: bool) -> list[Part]:
        """What would be done, by the way it is done; for few leads without reading them.

        What changed here alone is only read where everything is asked for: nothing of it is
        changed here, and before it is written there it is read anyway.
        """
        session = self._session
        pulled: set[UUID] = set()
        self._has_foreseen = everything
        self._idle = 0
        for counts in self._foreseen.values():
            counts.clear()
        wanted = work.exchanged
        if not everything:
            wanted = [lead_id for lead_id in wanted if work.changes.is_about(lead_id)]
        if everything or len(wanted) > _FEW:
            for first in range(0, len(wanted), _BATCH):
                some = wanted[first : first + _BATCH]
                with session.links.transaction() as cursor:
                    known = session.links.read(cursor, some)
                for lead_id in some:
                    if lead_id in known and self._foresee_lead(work, known[lead_id]):
                        pulled.add(lead_id)
        missing = work.reconciled.missing if work.reconciled else frozenset()
        # Merges that no webhook told are shown by leads that have another person now.
        joined = frozenset(plan_joins(session, final_merges([*merges, *self._moved])))
        return [
            Part.of("pull", pulled - joined),
            Part.of("push", work.new),
            Part.of("import", (lead.id for lead in work.changes.born_there)),
            Part.of("delete", missing),
            Part.of("join", joined),
            Part.of("adopt", [*work.changes.adopted, *(lead_id for lead_id, _ in work.unlinked)]),
        ]

    def _foresee_lead(self, work: _Work, known: KnownLead) -> bool:
        """Whether one linked lead would change here."""
        lead_id = known.local.lead_id
        if known.is_anonymized or known.link is None or known.link.state != "linked":
            return False
        if work.reconciled is not None and lead_id in work.reconciled.missing:
            return False  # to be confirmed by a read of its own, where that is approved
        try:
            remote = work.read.get(lead_id) or self._exchange.read(known, work.changes)
        except UnreadableAnswerError:
            return False  # told when it is met again
        work.read[lead_id] = remote
        if remote.moved_from is not None and remote.person_id is not None:
            self._moved.append(
                Merge(entity=Entity.PERSON, lost_id=remote.moved_from, kept_id=remote.person_id)
            )
        if remote.gone or (remote.case is not None and remote.case.is_archived):
            return False
        decision = self._exchange.decide(known, remote)
        for name in decision.here:
            self._foreseen[name]["here"] += 1
        for name in decision.there:
            self._foreseen[name]["there"] += 1
        for _, name, *_ in decision.lost:
            self._foreseen[name]["conflicts"] += 1
        if not decision.here and not decision.there:
            self._idle += 1
        return bool(decision.here)

    def _is_too_much(self, parts: list[Part]) -> bool:
        if all(part.count <= _FEW for part in parts):
            return False
        with self._session.links.transaction() as cursor:
            linked = self._session.links.count_linked(cursor)
            leads = self._session.links.count_leads(cursor)
        populations = {"push": leads, "import": leads, "adopt": leads}
        return any(is_mass_change(part.count, populations.get(part.name, linked)) for part in parts)

    def _ask(self, parts: list[Part], *, dry_run: bool) -> None:
        report = self._report
        if dry_run:
            report.reason = DRY_RUN
        else:
            report.outcome, report.reason = RunOutcome.NEEDS_APPROVAL, "many_changes"
        if not any(part.count for part in parts):
            return
        with self._session.links.transaction() as cursor:
            plan_id = ask(
                cursor,
                pipeline=PIPELINE,
                as_of=report.as_of,
                now=self._session.now,
                parameters={"direction": self._direction.value},
                parts=parts,
                reason=None if dry_run else report.reason,
            )
        counts = ", ".join(
            f"{_PARTS_PT[part.name]}: {number(part.count)}" for part in parts if part.count
        )
        report.notes.append(f"plano {plan_id}: {counts}")

    # --- what is told

    def _count(self, outcome: Outcome) -> None:
        report = self._report
        self._left -= 1
        if outcome.reason == CREATED:
            report.inserted += 1
        elif outcome.reason is not None:
            self._skip(outcome.reason, 1)
        elif outcome.here or outcome.there:
            report.updated += 1
        else:
            report.duplicate += 1
        for name in outcome.here & self._done.keys():
            self._done[name]["here"] += 1
        for name in outcome.there & self._done.keys():
            self._done[name]["there"] += 1
        for name in outcome.conflicts & self._done.keys():
            self._done[name]["conflicts"] += 1

    def _skip(self, reason: str, count: int) -> None:
        if count:
            self._report.skipped[reason] = self._report.skipped.get(reason, 0) + count

    def leave_the_rest(self, reason: str) -> None:
        """Count what was not come to."""
        self._skip(reason, self._left)
        self._left = 0

    def tell(self, tokens: int) -> None:
        """What the report says beside the counts: costs, and what somebody should look at."""
        session, report = self._session, self._report
        ledger = session.client.ledger
        report.notes += session.sentences
        report.notes += [
            f"{_SENTENCES_PT[code]}: {number(count)}"
            for code, count in sorted(session.notes.items())
            if count
        ]
        if self._reconciled is not None:
            report.notes.append(
                f"conferência diária: {number(self._reconciled.tokens)} tokens; não encontrados "
                f"no Pipedrive: {number(len(self._reconciled.missing))}"
            )
        calls = sum(call.count for call in ledger.calls)
        report.notes.append(
            f"{number(tokens)} tokens em {number(calls)} chamadas; hoje {number(ledger.spent)} de "
            f"{number(ledger.allowance)}"
        )

    def _table(self, parts: list[Part], *, is_foreseen: bool) -> tuple[str, list[dict[str, Any]]]:
        """By field how many values change where; no value of anybody."""
        counts = self._foreseen if is_foreseen else self._done
        rows: list[dict[str, Any]] = [
            {
                "campo": _LABELS_PT[name],
                "aqui": counts[name]["here"],
                "no Pipedrive": counts[name]["there"],
                "conflitos": counts[name]["conflicts"],
            }
            for name in FIELDS
        ]
        rows += [
            {
                "campo": _PARTS_PT[part.name],
                "aqui": part.count if part.name in {"import", "join", "adopt"} else 0,
                "no Pipedrive": part.count if part.name in {"push", "delete"} else 0,
                "conflitos": part.count if part.name in {"delete", "join"} else 0,
            }
            for part in parts
            if part.name != "pull" and part.count
        ]
        title = "O que mudaria" if is_foreseen else "O que mudou"
        return title, rows
