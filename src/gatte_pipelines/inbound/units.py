"""What a line of an inbound file holds: units, the parts of the balance of rule S10.

A unit is one message, status, other event, or one thing that cannot be read. The decoders of
webhook notifications and of the chatbot's events make them, ``chunk`` collects them. No I/O and no
decision that needs the database.

Instants are whole microseconds since 1970 (``_us``), so that a webhook's seconds and a chatbot's
fractions compare; seconds where the name ends in ``_at``.
"""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

import msgspec


class Source(IntEnum):
    """Who told of a message, in the order of who is believed (design §2: the provider's clock)."""

    PROVIDER = 0
    CHATBOT = 1


class Sender(NamedTuple):
    """The client's side of a record exactly as one record names it; '' where it does not.

    Equal senders are one row of ``pipeline.senders``, and each message keeps a reference to its
    own: whose client's message it is can then be found again when identities turn out otherwise.

    Attributes:
        wa_id: Digits as WhatsApp gave them in a webhook; replies go to this form.
        phone: Digits as someone else wrote them (the chatbot, the ``to`` of an echo): the same
            person, but no form that WhatsApp is known to deliver to.
        bsuid: Business-scoped user id.
        parent_bsuid: The parent portfolio's.
        name: Profile name.
        user_id: ``users.id`` as the chatbot knows it, 32 hexadecimal digits.
    """

    wa_id: str = ""
    phone: str = ""
    bsuid: str = ""
    parent_bsuid: str = ""
    name: str = ""
    user_id: str = ""


class Told(NamedTuple):
    """What only the chatbot knows of a message."""

    tokens_used: int | None = None
    intent_detected: str | None = None
    author: str | None = None
    model: str | None = None
    mode: str | None = None
    current_flow: str | None = None


class ButtonReply(NamedTuple):
    """The button of ours that a client pressed. ``wamid`` is the message that showed it."""

    wamid: str | None
    payload: str | None


class Message(msgspec.Struct, frozen=True, gc=False):
    """A message of either side, ready to load.

    Attributes:
        key: What the id is minted of: ``wamid:…``, or ``chatbot:…`` (the chatbot's external id) of
            a message that never went to WhatsApp.
        source: Who told of it.
        sent_us: Event time.
        sender: The client, also of a message that we sent.
        role: ``user``, ``assistant`` or ``system``.
        content: Never empty: '' means removed.
        author: ``client``, ``human``, or as the chatbot says.
        told: The chatbot's part; None in a webhook.
        button: Set when it is the press of a button.
        opts_out: The client wrote SAIR or PARAR.
    """

    key: str
    source: Source
    sent_us: int
    sender: Sender
    role: str
    content: str
    author: str
    told: Told | None = None
    button: ButtonReply | None = None
    opts_out: bool = False


class StatusEvent(msgspec.Struct, frozen=True, gc=False):
    """A delivery status of a message we sent. ``status_at`` is in Unix seconds."""

    wamid: str
    status: str
    status_at: int
    error_code: int | None
    pricing_category: str | None
    attempt_id: str | None


class MessageChange(msgspec.Struct, frozen=True):
    """An edit of a message, or with ``content`` None its removal by who wrote it (revoke)."""

    wamid: str
    target_wamid: str
    changed_us: int
    content: str | None


class Reaction(msgspec.Struct, frozen=True):
    """A client's reaction to a message; ``emoji`` None takes it back."""

    wamid: str
    target_wamid: str
    reacted_us: int
    emoji: str | None


class IdentityChange(msgspec.Struct, frozen=True):
    """One client under another number or user id (system messages, ``user_id_update``).

    Attributes:
        key: What its id is minted of.
        changed_us: Event time.
        old: How the client was known before.
        new: How from then on.
        moves_number: Whether the phone of ``old`` was given up for that of ``new``: from this
            instant either phone belongs to another client than before. False where only user ids
            changed and ``new.wa_id``, if any, is the phone at that time.
    """

    key: str
    changed_us: int
    old: Sender
    new: Sender
    moves_number: bool


class OptOut(msgspec.Struct, frozen=True):
    """A client's choice about our messages (``user_preferences``).

    Attributes:
        key: What its id is minted of.
        chosen_us: Event time.
        sender: The client.
        category: ``marketing_messages``, or ``all`` for the words SAIR and PARAR.
        is_opted_out: False: the client wants them again.
    """

    key: str
    chosen_us: int
    sender: Sender
    category: str
    is_opted_out: bool


class ConversationEvent(msgspec.Struct, frozen=True):
    """The chatbot says how a client's conversation stands.

    Attributes:
        key: What its id is minted of.
        at_us: Event time; the conversation is the client's at that time.
        sender: The client.
        status: ``open``, ``waiting``, ``transferred`` or ``closed``.
        transferred_to: The person of the staff, with ``transferred``.
    """

    key: str
    at_us: int
    sender: Sender
    status: str
    transferred_to: str | None


class Skipped(msgspec.Struct, frozen=True):
    """A unit that is understood and not wanted; ``reason`` is the code of the balance sheet."""

    reason: str


class Rejected(msgspec.Struct, frozen=True):
    """A unit that goes to quarantine: reason and field, never the value.

    ``payload`` is a notification or event of its own that holds this one unit, or the raw line.
    """

    kind: str
    reason: str
    field: str | None
    payload: bytes


Unit = (
    Message
    | StatusEvent
    | MessageChange
    | Reaction
    | IdentityChange
    | OptOut
    | ConversationEvent
    | Skipped
    | Rejected
)


class Horizon(NamedTuple):
    """The instants between which a record may lie, in microseconds.

    Attributes:
        latest_us: Later is ``future`` (quarantine).
        earliest_us: Earlier is ``past_retention`` (skipped): 90 days before ``as_of``.
        cutover_us: Earlier is ``before_cutover`` (skipped); 0 where the database was not adopted.
    """

    latest_us: int
    earliest_us: int
    cutover_us: int = 0

    def skip_reason(self, at_us: int) -> str | None:
        """Why a record of this instant creates nothing; None where it counts."""
        if at_us < self.earliest_us:
            return "past_retention"
        if at_us < self.cutover_us:
            return "before_cutover"
        return None
