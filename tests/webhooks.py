"""Webhook notifications for tests, in the shapes of the WhatsApp Cloud API, and chatbot events.

Numbers and names are obviously invented. What a test asserts of them belongs to the test.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

ANA = "5511900000001"
BRUNO = "5511900000002"
METADATA = {"display_phone_number": "551130000000", "phone_number_id": "100000000000001"}


def seconds(at: datetime | int) -> str:
    """An instant as Meta writes it: Unix seconds in a string."""
    return str(at if isinstance(at, int) else int(at.timestamp()))


def text_message(
    wamid: str, at: datetime | int, *, sender: str | None = ANA, body: str = "olá", **more: Any
) -> dict[str, Any]:
    """A text message; ``sender=None`` leaves ``from`` out. ``more`` adds or replaces fields."""
    message: dict[str, Any] = {
        "id": wamid,
        "timestamp": seconds(at),
        "type": "text",
        "text": {"body": body},
    }
    if sender is not None:
        message["from"] = sender
    return message | more


def status(wamid: str, name: str, at: datetime | int, **more: Any) -> dict[str, Any]:
    """A delivery status of a message we sent."""
    return {
        "id": wamid,
        "status": name,
        "timestamp": seconds(at),
        "recipient_id": ANA,
    } | more


def contact(wa_id: str | None, name: str, user_id: str | None = None) -> dict[str, Any]:
    """A profile as it comes beside messages."""
    made: dict[str, Any] = {"profile": {"name": name}}
    if wa_id is not None:
        made["wa_id"] = wa_id
    if user_id is not None:
        made["user_id"] = user_id
    return made


def change(
    *messages: dict[str, Any],
    contacts: list[dict[str, Any]] | None = None,
    statuses: list[dict[str, Any]] | None = None,
    **value: Any,
) -> dict[str, Any]:
    """One change of the field ``messages``."""
    made: dict[str, Any] = {"messaging_product": "whatsapp", "metadata": METADATA}
    if contacts is not None:
        made["contacts"] = contacts
    if messages:
        made["messages"] = list(messages)
    if statuses is not None:
        made["statuses"] = statuses
    return {"field": "messages", "value": made | value}


def notification(*changes: dict[str, Any]) -> dict[str, Any]:
    """One notification of one entry."""
    return {
        "object": "whatsapp_business_account",
        "entry": [{"id": "100000000000000", "changes": list(changes)}],
    }


def line(*changes: dict[str, Any]) -> bytes:
    """One notification as a line of a ``.jsonl`` file, without its end."""
    return json.dumps(notification(*changes), ensure_ascii=False).encode()


def texts(*messages: dict[str, Any], contacts: list[dict[str, Any]] | None = None) -> bytes:
    """One line with these messages."""
    return line(change(*messages, contacts=contacts))


def jsonl(*lines: bytes) -> bytes:
    """The bytes of a ``.jsonl`` file."""
    return b"".join(item + b"\n" for item in lines)


def edit(
    wamid: str, at: datetime | int, original: str, body: str, *, sender: str | None = ANA
) -> dict[str, Any]:
    """A client edits a message."""
    message = {"type": "text", "text": {"body": body}}
    parts = {"type": "edit", "edit": {"original_message_id": original, "message": message}}
    return _changing(wamid, at, sender, parts)


def revoke(
    wamid: str, at: datetime | int, original: str, *, sender: str | None = ANA
) -> dict[str, Any]:
    """A client removes a message for everybody."""
    parts = {"type": "revoke", "revoke": {"original_message_id": original}}
    return _changing(wamid, at, sender, parts)


def reaction(
    wamid: str, at: datetime | int, target: str, emoji: str | None, *, sender: str | None = ANA
) -> dict[str, Any]:
    """A client reacts to a message; without ``emoji`` the reaction is taken back."""
    told = {"message_id": target} | ({} if emoji is None else {"emoji": emoji})
    return _changing(wamid, at, sender, {"type": "reaction", "reaction": told})


def _changing(
    wamid: str, at: datetime | int, sender: str | None, parts: dict[str, Any]
) -> dict[str, Any]:
    from_whom = {} if sender is None else {"from": sender}
    return {"id": wamid, "timestamp": seconds(at)} | from_whom | parts


def number_change(
    wamid: str,
    at: datetime | int,
    old: str | None,
    new: str,
    *,
    old_bsuid: str | None = None,
    new_bsuid: str | None = None,
) -> dict[str, Any]:
    """WhatsApp's notice that a client has another number now."""
    system = {"body": "mudou de número", "wa_id": new, "type": "user_changed_number"}
    if new_bsuid is not None:
        system["user_id"] = new_bsuid
    message: dict[str, Any] = {"id": wamid, "timestamp": seconds(at), "type": "system"}
    if old is not None:
        message["from"] = old
    if old_bsuid is not None:
        message["from_user_id"] = old_bsuid
    return message | {"system": system}


def echo(wamid: str, at: datetime | int, *, to: str = ANA, body: str = "olá") -> dict[str, Any]:
    """What a person of ours wrote in the WhatsApp Business app."""
    return {
        "from": METADATA["display_phone_number"],
        "to": to,
        "id": wamid,
        "timestamp": seconds(at),
        "type": "text",
        "text": {"body": body},
    }


def echo_change(*echoes: dict[str, Any]) -> dict[str, Any]:
    """One change of the field ``smb_message_echoes``."""
    return _other_change("smb_message_echoes", message_echoes=list(echoes))


def user_id_update(
    at: datetime | int, previous: str, current: str, *, wa_id: str | None = None
) -> dict[str, Any]:
    """One change of the field ``user_id_update``: a client has another BSUID."""
    update: dict[str, Any] = {
        "detail": "mudou",
        "user_id": {"previous": previous, "current": current},
        "timestamp": seconds(at),
    }
    if wa_id is not None:
        update["wa_id"] = wa_id
    return _other_change("user_id_update", user_id_update=[update])


def user_preference(
    at: datetime | int, value: str, *, wa_id: str | None = ANA, user_id: str | None = None
) -> dict[str, Any]:
    """One change of the field ``user_preferences``; Meta writes its time as a number."""
    preference: dict[str, Any] = {
        "detail": "preferência do cliente",
        "category": "marketing_messages",
        "value": value,
        "timestamp": int(seconds(at)),
    }
    if wa_id is not None:
        preference["wa_id"] = wa_id
    if user_id is not None:
        preference["user_id"] = user_id
    return _other_change("user_preferences", user_preferences=[preference])


def _other_change(name: str, **value: Any) -> dict[str, Any]:
    return {"field": name, "value": {"messaging_product": "whatsapp", "metadata": METADATA} | value}


def rfc3339(at: datetime | int) -> str:
    """An instant (Unix seconds where it is no datetime) as the chatbot writes it."""
    return (at if isinstance(at, datetime) else datetime.fromtimestamp(at, UTC)).isoformat()


def chatbot_message(at: datetime | int, *, content: str = "olá", **more: Any) -> bytes:
    """The chatbot's event of a message, as a line; ``more`` has ``wamid`` and ``phone``."""
    event = {"role": "assistant", "content": content, "sent_at": rfc3339(at)}
    return _event("message", event | more)


def chatbot_conversation(event_id: str, at: datetime | int, status: str, **more: Any) -> bytes:
    """The chatbot's event of a conversation's status, as a line; ``more`` has ``phone``."""
    return _event(
        "conversation", {"event_id": event_id, "status": status, "at": rfc3339(at)} | more
    )


def _event(kind: str, fields: dict[str, Any]) -> bytes:
    event = {"schema": "gatte.chatbot_event/1", "type": kind} | fields
    return json.dumps(event, ensure_ascii=False).encode()
