"""What became of a message that was handed to a channel; shared by WhatsApp and e-mail.

A channel answers, it does not raise: whether a message went out is what its caller must record
either way. When to send, to whom and what next belongs to the caller.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum


class Outcome(StrEnum):
    """What is known of one call.

    ``ACCEPTED``: the channel took the message; delivery is told later, or never.
    ``FAILED``: it did not, and the same message will not be taken there.
    ``DEFERRED``: it surely did not, and may later (rate limits).
    ``UNKNOWN``: nobody knows: the answer was lost. Never sent again on this channel.
    """

    ACCEPTED = "accepted"
    FAILED = "failed"
    DEFERRED = "deferred"
    UNKNOWN = "unknown"


@dataclass(frozen=True, kw_only=True)
class SendResult:
    """The end of one call.

    Attributes:
        outcome: What is known.
        reason: A code of ours where it was not accepted: ``undeliverable``, ``opted_out``,
            ``template_missing`` and so on; never text of the vendor.
        error_code: The vendor's number, or None.
        provider_id: The vendor's id of the accepted message; a wamid holds the phone, so it is
            shown nowhere.
        stops_channel: Nothing will be taken on this channel by this run: token, account, payment.
        opted_out: The recipient wants no such messages, on no channel.
        tries_other_form: The number may be reached in its other form (Brazil's ninth digit), once.
    """

    outcome: Outcome
    reason: str = ""
    error_code: int | None = None
    provider_id: str | None = field(default=None, repr=False)
    stops_channel: bool = False
    opted_out: bool = False
    tries_other_form: bool = False
