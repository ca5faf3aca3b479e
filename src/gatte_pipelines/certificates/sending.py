"""Tells clients what is due: intent, call, result, and the next channel where one failed.

An intent is committed before its call and the result after it, so that whatever dies in between
leaves an attempt of which nobody knows the end, and nobody is written to twice by one channel.
What is due belongs to ``evaluation``.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING
from uuid import UUID, uuid4

from gatte_pipelines.business_time import BusinessCalendar, business_date
from gatte_pipelines.certificates import ledger
from gatte_pipelines.certificates.channels import Channel
from gatte_pipelines.certificates.ledger import OpenStep, Recipient, open_transaction
from gatte_pipelines.certificates.policy import AlertPolicy
from gatte_pipelines.certificates.sequence import Attempt, Move, Next, next_move
from gatte_pipelines.certificates.texts import Line
from gatte_pipelines.messaging.channels import Outcome, SendResult

if TYPE_CHECKING:
    import psycopg

CLIENT = "client"


@dataclass(kw_only=True)
class Sent:
    """What became of the steps of a run.

    Attributes:
        told: Steps that a channel took.
        left: Steps by the reason for which they were not told: settled, or left for a later run.
        messages: Calls by channel and outcome.
        troubles: Messages that a whole channel refused, by channel, reason and code.
    """

    told: int = 0
    left: Counter[str] = field(default_factory=Counter)
    messages: Counter[tuple[str, str]] = field(default_factory=Counter)
    troubles: Counter[tuple[str, str, int | None]] = field(default_factory=Counter)


@dataclass(frozen=True, kw_only=True)
class Group:
    """Steps that go out as one message: of one client, by one channel.

    Attributes:
        user_id: The client.
        channel: By which.
        steps: All that is due to them by it.
        again: Attempts that a limit refused before; the first is made again.
    """

    user_id: UUID
    channel: str
    steps: tuple[OpenStep, ...]
    again: tuple[UUID, ...]


def line_of(step: OpenStep, on: date) -> Line:
    """A certificate as messages tell it on a business date."""
    expires_on = business_date(step.expires_at)
    return Line(
        certificate_id=step.certificate_id,
        type=step.type,
        service=step.service,
        expires_on=expires_on,
        days=(expires_on - on).days,
        monthly_value=step.monthly_value,
        maybe_renewed=step.reason == "maybe_renewed",
    )


class ClientSender:
    """Sends the client's steps of one run.

    Args:
        driver: Outside a transaction.
        policy: Orders the channels.
        calendar: Of business days.
        channels: Those that may be used, by name.
        message_id_of: The keyed digest of a provider's id, as statuses have it.
        as_of: The instant of the run.
    """

    def __init__(
        self,
        driver: psycopg.Connection,
        *,
        policy: AlertPolicy,
        calendar: BusinessCalendar,
        channels: Mapping[str, Channel],
        message_id_of: Callable[[str], UUID],
        as_of: datetime,
    ) -> None:
        self._driver = driver
        self._policy = policy
        self._calendar = calendar
        self._channels = channels
        self._message_id_of = message_id_of
        self._as_of = as_of
        self._on = business_date(as_of)
        self._stopped: dict[str, str] = {}

    def silence(self, since: datetime) -> timedelta:
        """Business time since an instant, up to that of the run."""
        return self._calendar.business_hours_between(
            since, self._as_of, self._policy.opens_at, self._policy.closes_at
        )

    def next_of(self, attempts: Mapping[str, Attempt]) -> Next:
        """The next move of a client's step with these attempts."""
        return next_move(
            self._policy.channels[CLIENT],
            attempts,
            allowed=self._channels,
            silence=self.silence,
            patience=timedelta(hours=self._policy.unknown_hours),
        )

    def group(
        self, steps: Iterable[OpenStep], attempts: Mapping[UUID, Mapping[str, Attempt]]
    ) -> tuple[list[Group], list[tuple[OpenStep, Next]]]:
        """Steps by client and channel, in the order of the first expiry; and those not sent now."""
        grouped: dict[tuple[UUID, str], list[OpenStep]] = defaultdict(list)
        again: dict[tuple[UUID, str], list[UUID]] = defaultdict(list)
        aside: list[tuple[OpenStep, Next]] = []
        for step in steps:
            following = self.next_of(attempts.get(step.step_id, {}))
            if following.move is not Move.SEND:
                aside.append((step, following))
                continue
            key = (step.user_id, following.channel)
            grouped[key].append(step)
            if following.again is not None and following.again not in again[key]:
                again[key].append(following.again)
        groups = [
            Group(
                user_id=user, channel=channel, steps=tuple(found), again=tuple(again[user, channel])
            )
            for (user, channel), found in grouped.items()
        ]
        return groups, aside

    def send(
        self, steps: Collection[OpenStep], attempts: Mapping[UUID, Mapping[str, Attempt]]
    ) -> Sent:
        """Send what is due, client by client, until each is told, waits or has no channel left."""
        sent = Sent()
        tried = {step_id: dict(made) for step_id, made in attempts.items()}
        by_client: dict[UUID, list[OpenStep]] = defaultdict(list)
        for step in steps:
            by_client[step.user_id].append(step)
        for user_id, mine in by_client.items():
            self._send_to(user_id, mine, tried, sent)
        return sent

    # -- one client

    def _send_to(
        self,
        user_id: UUID,
        steps: list[OpenStep],
        tried: dict[UUID, dict[str, Attempt]],
        sent: Sent,
    ) -> None:
        left = steps
        while left:
            groups, aside = self.group(left, tried)
            for step, following in aside:
                self._put_aside(step, following, sent)
            left = []
            for group in groups:
                left += self._attempt(user_id, group, tried, sent)

    def _put_aside(self, step: OpenStep, following: Next, sent: Sent) -> None:
        if following.move is Move.GIVE_UP:
            with open_transaction(self._driver, self._as_of) as cursor:
                ledger.settle_steps(cursor, [step.step_id], "unreachable", following.reason)
            sent.left["unreachable"] += 1
            return
        sent.left[following.reason] += 1

    def _attempt(
        self,
        user_id: UUID,
        group: Group,
        tried: dict[UUID, dict[str, Attempt]],
        sent: Sent,
    ) -> list[OpenStep]:
        """Make one attempt; the steps that go on to the next channel in this run."""
        channel = self._channels[group.channel]
        steps: Sequence[OpenStep] = group.steps
        if group.channel in self._stopped:
            # Nothing will be taken there today: what is urgent goes on, the rest can wait.
            urgent = [step for step in steps if step.threshold <= self._policy.urgent_days]
            sent.left["channel_down"] += len(steps) - len(urgent)
            steps = urgent
            if not steps:
                return []
        attempt_id = group.again[0] if group.again else uuid4()
        with open_transaction(self._driver, self._as_of) as cursor:
            recipient, steps = self._check(cursor, user_id, steps, sent)
            if recipient is None or not steps:
                return []
            step_ids = [step.step_id for step in steps]
            obstacle = channel.obstacle(recipient)
            if group.channel in self._stopped:
                obstacle = obstacle or "channel_down"
            if obstacle:
                ledger.fail_unsent(
                    cursor,
                    attempt_id,
                    step_ids,
                    audience=CLIENT,
                    channel=group.channel,
                    reason=obstacle,
                )
            else:
                ledger.intend(
                    cursor,
                    attempt_id,
                    step_ids,
                    audience=CLIENT,
                    channel=group.channel,
                    template=channel.template([line_of(step, self._on) for step in steps]),
                )
            ledger.drop_regrouped(cursor, group.again[1:])
        if obstacle:
            self._note(tried, steps, group.channel, attempt_id, "failed", obstacle)
            return list(steps)
        result = channel.send(attempt_id, recipient, [line_of(step, self._on) for step in steps])
        with open_transaction(self._driver, self._as_of) as cursor:
            message_id = self._message_id_of(result.provider_id) if result.provider_id else None
            ledger.record_result(cursor, attempt_id, result, message_id)
            ledger.settle_alert_sent(cursor, {step.certificate_id for step in steps})
        return self._judge(group.channel, attempt_id, steps, result, tried, sent)

    def _check(
        self,
        cursor: psycopg.Cursor[object],
        user_id: UUID,
        steps: Sequence[OpenStep],
        sent: Sent,
    ) -> tuple[Recipient | None, list[OpenStep]]:
        """Who the client is now, and which steps still stand (S7)."""
        standing = ledger.lock_steps(cursor, steps, user_id)
        kept = [step for step in steps if step.step_id in standing]
        sent.left["changed"] += len(steps) - len(kept)
        recipient = ledger.read_recipient(cursor, user_id)
        if recipient is None:
            sent.left["changed"] += len(kept)
            return None, []
        if recipient.refusal:
            ledger.settle_steps(
                cursor, [step.step_id for step in kept], "skipped", recipient.refusal
            )
            sent.left[recipient.refusal] += len(kept)
            return None, []
        return recipient, kept

    def _judge(
        self,
        channel: str,
        attempt_id: UUID,
        steps: Sequence[OpenStep],
        result: SendResult,
        tried: dict[UUID, dict[str, Attempt]],
        sent: Sent,
    ) -> list[OpenStep]:
        sent.messages[channel, result.outcome.value] += 1
        if result.stops_channel:
            self._stopped[channel] = result.reason
        if result.stops_channel or result.reason.startswith("template_"):
            sent.troubles[channel, result.reason, result.error_code] += 1
        if result.outcome is Outcome.ACCEPTED:
            sent.told += len(steps)
        elif result.opted_out:
            sent.left["opted_out"] += len(steps)
        elif result.outcome is Outcome.FAILED:
            self._note(tried, steps, channel, attempt_id, "failed", result.reason)
            return list(steps)
        else:
            sent.left["waiting" if result.outcome is Outcome.UNKNOWN else "deferred"] += len(steps)
        return []

    def _note(
        self,
        tried: dict[UUID, dict[str, Attempt]],
        steps: Iterable[OpenStep],
        channel: str,
        attempt_id: UUID,
        state: str,
        reason: str,
    ) -> None:
        """Remember an attempt as the ledger has it now, for the next move of its steps."""
        for step in steps:
            tried.setdefault(step.step_id, {})[channel] = Attempt(
                attempt_id=attempt_id,
                channel=channel,
                state=state,
                reason=reason,
                intended_at=self._as_of,
            )
