"""Tells staff: one digest for each audience of what is due to it, and for staff what went wrong.

How a digest reads belongs to ``digest`` and ``digest_page``.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

from gatte_pipelines.business_time import business_date
from gatte_pipelines.certificates import digest, ledger
from gatte_pipelines.certificates.channels import MailDeliverer
from gatte_pipelines.certificates.digest_page import digest_email
from gatte_pipelines.certificates.ledger import OpenStep, Untold, open_transaction
from gatte_pipelines.certificates.policy import AlertPolicy, Recipients
from gatte_pipelines.certificates.sending import Sent, line_of
from gatte_pipelines.certificates.sequence import Attempt, Move, next_move
from gatte_pipelines.certificates.texts import Line
from gatte_pipelines.messaging.channels import Outcome
from gatte_pipelines.messaging.email import Email

if TYPE_CHECKING:
    import psycopg

STAFF = "staff"
EMAIL = "email"


@dataclass(frozen=True, kw_only=True)
class News:
    """What a digest tells beside the steps that are due.

    Attributes:
        sent: What became of the clients' steps in this run.
        lapsed_before: Certificates past their last step before the first evaluation.
        leads: Renewal leads of this run, as rows of the ledger.
    """

    sent: Sent
    lapsed_before: int
    leads: Sequence[Any]


class StaffSender:
    """Sends the digests of one run.

    Args:
        driver: Outside a transaction.
        policy: Orders the channels.
        recipients: Who gets them.
        mail: The mail client; None where this run may not use e-mail.
        silence: Business time since an instant.
        as_of: The instant of the run.
    """

    def __init__(
        self,
        driver: psycopg.Connection,
        *,
        policy: AlertPolicy,
        recipients: Recipients,
        mail: MailDeliverer | None,
        silence: Callable[[datetime], timedelta],
        as_of: datetime,
    ) -> None:
        self._driver = driver
        self._policy = policy
        self._recipients = recipients
        self._mail = mail
        self._silence = silence
        self._as_of = as_of
        self._on = business_date(as_of)

    def send(
        self,
        steps: Collection[OpenStep],
        attempts: Mapping[UUID, Mapping[str, Attempt]],
        news: News,
    ) -> Sent:
        """Send what is due to each audience; news go to staff, once."""
        sent = Sent()
        ready: dict[tuple[str, tuple[str, ...]], list[OpenStep]] = defaultdict(list)
        for step in steps:
            following = next_move(
                self._policy.channels[step.audience],
                attempts.get(step.step_id, {}),
                allowed=() if self._mail is None else (EMAIL,),
                silence=self._silence,
                patience=timedelta(hours=self._policy.unknown_hours),
            )
            if following.move is Move.SEND:
                to = self._recipients.to(step.audience, {step.type})
                ready[step.audience, to].append(step)
            elif following.move is Move.GIVE_UP:
                self._give_up([step], following.reason, sent)
            else:
                sent.left[following.reason] += 1
        if self._mail is None:
            return sent
        with open_transaction(self._driver, self._as_of) as cursor:
            untold = ledger.find_untold(cursor)
        news_to = self._recipients.to(STAFF, ())
        ready.setdefault((STAFF, news_to), [])
        for (audience, to), mine in sorted(ready.items()):
            tells_news = (audience, to) == (STAFF, news_to)
            written = self._write(audience, mine, untold, news if tells_news else None)
            if not written.is_empty:
                self._deliver(self._mail, to, written, mine, untold if tells_news else None, sent)
        return sent

    def _deliver(
        self,
        mail: MailDeliverer,
        to: tuple[str, ...],
        written: digest.Digest,
        steps: Sequence[OpenStep],
        untold: Untold | None,
        sent: Sent,
    ) -> None:
        attempt_id = uuid4()
        with open_transaction(self._driver, self._as_of) as cursor:
            ledger.intend(
                cursor,
                attempt_id,
                [step.step_id for step in steps],
                audience=written.audience,
                channel=EMAIL,
                template=None,
            )
        text = digest_email(written)
        result = mail.deliver(
            Email(
                to=to,
                subject=text.subject,
                text=text.text,
                html=text.html,
                message_id=str(attempt_id),
            )
        )
        with open_transaction(self._driver, self._as_of) as cursor:
            ledger.record_result(cursor, attempt_id, result, None)
            if untold is not None and result.outcome is Outcome.ACCEPTED:
                ledger.mark_told(cursor, untold)
        sent.messages[EMAIL, result.outcome.value] += 1
        if result.outcome is Outcome.ACCEPTED:
            sent.told += len(steps)
        elif result.outcome is Outcome.FAILED:
            sent.troubles[EMAIL, result.reason, result.error_code] += 1
            self._give_up(steps, result.reason, sent)
        else:
            sent.left["waiting" if result.outcome is Outcome.UNKNOWN else "deferred"] += len(steps)

    def _give_up(self, steps: Sequence[OpenStep], reason: str, sent: Sent) -> None:
        if steps:
            with open_transaction(self._driver, self._as_of) as cursor:
                ledger.settle_steps(cursor, [step.step_id for step in steps], "unreachable", reason)
            sent.left["unreachable"] += len(steps)

    # -- the digest

    def _write(
        self, audience: str, steps: Iterable[OpenStep], untold: Untold, news: News | None
    ) -> digest.Digest:
        due = tuple(
            digest.DigestEntry(
                line=line_of(step, self._on),
                user_id=step.user_id,
                threshold=step.threshold,
                told_on=business_date(step.told_at) if step.told_at else None,
                answer=step.answer,
            )
            for step in steps
        )
        at_risk = tuple(digest.AtRisk(**row._asdict()) for row in untold.at_risk)
        if news is None:
            return digest.Digest(audience=audience, on=self._on, due=due, at_risk=at_risk)
        doubtful = [row for row in untold.steps if row.doubtful_channel]
        return digest.Digest(
            audience=audience,
            on=self._on,
            due=due,
            at_risk=at_risk,
            undelivered=tuple(
                digest.Undelivered(
                    line=self._line(row), user_id=row.user_id, audience="client", reason=row.reason
                )
                for row in untold.steps
                if row.state in {"unreachable", "skipped"} and not row.doubtful_channel
            ),
            in_doubt=tuple(
                digest.InDoubt(
                    line=self._line(row),
                    user_id=row.user_id,
                    channel=row.doubtful_channel,
                    next_channel=row.accepted_channel,
                )
                for row in doubtful
            ),
            answers=tuple(
                digest.ClientAnswer(
                    line=self._line(row),
                    user_id=row.user_id,
                    answer=row.answer,
                    answered_on=business_date(row.answered_at),
                )
                for row in untold.answers
            ),
            leads=tuple(
                digest.NewLead(line=self._line(row), user_id=row.user_id, lead_id=row.lead_id)
                for row in news.leads
            ),
            lapsed=tuple(
                digest.Affected(line=self._line(row), user_id=row.user_id)
                for row in untold.steps
                if row.state == "lapsed"
            ),
            lapsed_before=news.lapsed_before,
            channels=tuple(
                digest.ChannelTrouble(
                    channel=channel, reason=reason, error_code=code, messages=messages
                )
                for (channel, reason, code), messages in sorted(
                    news.sent.troubles.items(), key=lambda item: item[0][:2]
                )
            ),
        )

    def _line(self, row: Any) -> Line:
        expires_on: date = business_date(row.expires_at)
        return Line(
            certificate_id=row.certificate_id,
            type=row.type,
            service=row.service,
            expires_on=expires_on,
            days=(expires_on - self._on).days,
            monthly_value=row.monthly_value,
        )
