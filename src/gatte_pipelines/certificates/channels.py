"""How a client is told: WhatsApp and e-mail behind one protocol.

A channel turns certificates into its own form and says how the call ended. Which channel, when
and what is recorded belongs to ``sending``; the words to ``texts``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol
from uuid import UUID

from gatte_pipelines.certificates.ledger import Recipient
from gatte_pipelines.certificates.policy import AlertPolicy
from gatte_pipelines.certificates.texts import (
    Line,
    button_payloads,
    client_email,
    template_of,
    template_parameters,
)
from gatte_pipelines.messaging.channels import Outcome, SendResult
from gatte_pipelines.messaging.email import Email, is_address
from gatte_pipelines.messaging.whatsapp import TemplateMessage, other_form


class Channel(Protocol):
    """One way of telling a client."""

    @property
    def name(self) -> str:
        """Its code in the ledger: ``whatsapp`` or ``email``."""

    def obstacle(self, recipient: Recipient) -> str:
        """Why a client cannot be reached this way, as a code; empty where they can."""

    def template(self, lines: Sequence[Line]) -> str | None:
        """The name of the text that would be used, where it has one."""

    def send(self, attempt_id: UUID, recipient: Recipient, lines: Sequence[Line]) -> SendResult:
        """Tell a client of certificates; never raises for what the other side answers."""


class TemplateSender(Protocol):
    """What is needed of the WhatsApp client."""

    def send(self, message: TemplateMessage) -> SendResult:
        """Send one template."""


class MailDeliverer(Protocol):
    """What is needed of the mail client."""

    def deliver(self, message: Email) -> SendResult:
        """Deliver one mail."""


class WhatsAppChannel:
    """Templates over the Cloud API.

    Args:
        sender: The client.
        policy: Names the template.
    """

    name = "whatsapp"

    def __init__(self, sender: TemplateSender, policy: AlertPolicy) -> None:
        self._sender = sender
        self._policy = policy

    def obstacle(self, recipient: Recipient) -> str:
        """A client known only by a placeholder and no user id cannot be reached."""
        return "" if _phone(recipient) or recipient.bsuid else "no_phone"

    def template(self, lines: Sequence[Line]) -> str | None:
        """The name of the template for so many certificates."""
        return template_of(self._policy.template, self._policy.template_version, lines)

    def send(self, attempt_id: UUID, recipient: Recipient, lines: Sequence[Line]) -> SendResult:
        """Send the template; a number that is not on WhatsApp once more in its other form."""
        phone = _phone(recipient)
        result = self._send(attempt_id, recipient, phone, lines)
        other = other_form(phone) if phone and result.tries_other_form else None
        return self._send(attempt_id, recipient, other, lines) if other else result

    def _send(
        self, attempt_id: UUID, recipient: Recipient, phone: str | None, lines: Sequence[Line]
    ) -> SendResult:
        return self._sender.send(
            TemplateMessage(
                attempt_id=attempt_id,
                template=self.template(lines) or "",
                to=phone,
                recipient=None if phone else recipient.bsuid,
                body=template_parameters(recipient.name, lines),
                buttons=button_payloads(attempt_id),
            )
        )


class EmailChannel:
    """Mails over SMTP.

    Args:
        sender: The client.
    """

    name = "email"

    def __init__(self, sender: MailDeliverer) -> None:
        self._sender = sender

    def obstacle(self, recipient: Recipient) -> str:
        """A client without an address that is one cannot be reached."""
        if not recipient.email:
            return "no_email"
        return "" if is_address(recipient.email) else "bad_email"

    def template(self, lines: Sequence[Line]) -> str | None:  # noqa: ARG002 - of the protocol
        """Mails have none."""
        return None

    def send(self, attempt_id: UUID, recipient: Recipient, lines: Sequence[Line]) -> SendResult:
        """Send the mail; the attempt's id makes its Message-ID."""
        if recipient.email is None:
            return SendResult(outcome=Outcome.FAILED, reason="no_email")
        mail = client_email(recipient.name, lines)
        return self._sender.deliver(
            Email(
                to=(recipient.email,),
                subject=mail.subject,
                text=mail.text,
                html=mail.html,
                message_id=str(attempt_id),
            )
        )


def _phone(recipient: Recipient) -> str | None:
    """The number as it was received; None where only a placeholder stands in its place."""
    return recipient.phone if recipient.phone.startswith("+") else None
