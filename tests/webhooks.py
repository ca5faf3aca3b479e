"""Webhook notifications for tests, in the shapes of the WhatsApp Cloud API.

Numbers and names are obviously invented. What a test asserts of them belongs to the test.
"""

from __future__ import annotations

import json
from datetime import datetime
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
