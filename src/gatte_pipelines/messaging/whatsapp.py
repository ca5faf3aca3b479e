"""Sends WhatsApp templates over the Cloud API.

Which template, to whom and when belongs to whoever sends; what an error means to
``whatsapp_errors``. Nothing here shows a number, a token or the text of a message.
Source: Meta, Cloud API, "Send message templates" and "Throughput", as of 2025-11.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeGuard
from uuid import UUID

from gatte_pipelines.errors import ConfigurationError
from gatte_pipelines.http import (
    TOO_MANY_REQUESTS,
    AmbiguousError,
    PermanentHttpError,
    RetryableHttpError,
    RetryPolicy,
    build_client,
    error_of,
    parse_base_url,
)
from gatte_pipelines.messaging.channels import Outcome, SendResult
from gatte_pipelines.messaging.whatsapp_errors import PAIR_LIMIT, classify
from gatte_pipelines.phones import forms
from gatte_pipelines.redaction import register_secret

if TYPE_CHECKING:
    import httpx

LANGUAGE = "pt_BR"
MAX_PARAMETER_CHARACTERS = 512

# Meta lets one message to one user through in six seconds.
PAIR_SECONDS = 6.5
_FIRST_ERROR, _FIRST_SERVER_ERROR = 400, 500
# Of these a moment helps; the limit on one user takes longer, and is waited for once.
_THROTTLING_CODES = frozenset({4, 80007, 130429, 131057})
_REPEATS = RetryPolicy(max_attempts=4, max_total_seconds=45.0, base_delay_seconds=1.0)
_TOKEN = re.compile(r"[!-~]+")
_PHONE = re.compile(r"\+[1-9][0-9]{6,14}")
_TAKEN = frozenset({"accepted", "held_for_quality_assessment"})
# What the ledger keeps of them is a number of PostgreSQL's and plain text.
_CODES = range(2**31)
_MAX_WAMID = 512


@dataclass(frozen=True, kw_only=True)
class TemplateMessage:
    """One template to one recipient. Its repr shows attempt and template only.

    Attributes:
        attempt_id: Travels with the message and comes back in its statuses.
        template: Name as Meta approved it.
        to: ``+`` and the digits as received; None to send to ``recipient``.
        recipient: Business-scoped user id, where there is no number.
        body: Parameters of the body, in order.
        buttons: Payloads of the quick replies, in order.
    """

    attempt_id: UUID
    template: str
    to: str | None = field(repr=False)
    recipient: str | None = field(default=None, repr=False)
    body: tuple[str, ...] = field(repr=False)
    buttons: tuple[str, ...] = field(default=(), repr=False)


class WhatsAppSender:
    """Sends through one business number; a context manager.

    Args:
        base_url: With the pinned version: ``https://graph.facebook.com/v25.0``. Plain ``http``
            only to this machine itself, since the token goes along.
        phone_number_id: Of the business number.
        token: Access token; registered as a secret.
        timeout_seconds: Without a byte from the server; then nobody knows the end of the call.
        sleep: Waits for seconds.
        repeats: Bounds of the repeats where a limit refused a call.

    Raises:
        ConfigurationError: The address, the number's id or the token cannot be used.
    """

    def __init__(
        self,
        base_url: str,
        phone_number_id: str,
        token: str,
        *,
        timeout_seconds: float = 30.0,
        sleep: Callable[[float], None] = time.sleep,
        repeats: RetryPolicy | None = None,
    ) -> None:
        parse_base_url(
            base_url,
            setting="GATTE_WHATSAPP_BASE_URL",
            example="https://graph.facebook.com/v25.0",
        )
        if not re.fullmatch(r"[0-9]{1,32}", phone_number_id):
            raise ConfigurationError("GATTE_WHATSAPP_PHONE_NUMBER_ID must be digits")
        # httpx would refuse it with an error that repeats the whole header.
        if not _TOKEN.fullmatch(token):
            raise ConfigurationError("GATTE_WHATSAPP_TOKEN must be ASCII without spaces")
        register_secret(token)
        self._path = f"/{phone_number_id}/messages"
        self._sleep = sleep
        policy = repeats if repeats is not None else _REPEATS
        self._client = build_client(
            base_url.rstrip("/"),
            headers={"Authorization": f"Bearer {token}"},
            timeout=timeout_seconds,
            policy=RetryPolicy(
                max_attempts=policy.max_attempts,
                max_total_seconds=policy.max_total_seconds,
                base_delay_seconds=policy.base_delay_seconds,
                max_delay_seconds=policy.max_delay_seconds,
                throttled=_is_throttled,
            ),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give back the connection."""
        self._client.close()

    def send(self, message: TemplateMessage) -> SendResult:
        """Send one template.

        A limit on one user is waited for once, since it ends by itself.
        """
        result = self._post(message)
        if result.error_code == PAIR_LIMIT and result.outcome is Outcome.DEFERRED:
            self._sleep(PAIR_SECONDS)
            result = self._post(message)
        return result

    def _post(self, message: TemplateMessage) -> SendResult:
        try:
            response = self._client.post(self._path, json=_request_of(message))
        except RetryableHttpError:
            # Nothing was sent: no connection.
            return SendResult(outcome=Outcome.DEFERRED, reason="channel_unreachable")
        except PermanentHttpError:
            # Nothing can be sent: the server's certificate is not trusted.
            return SendResult(
                outcome=Outcome.FAILED, reason="channel_unreachable", stops_channel=True
            )
        except AmbiguousError:
            return SendResult(outcome=Outcome.UNKNOWN, reason="unknown")
        return _judge(response)


def other_form(phone: str) -> str | None:
    """A Brazilian mobile with its ninth digit added or taken away; None for other numbers.

    Args:
        phone: With ``+``.
    """
    digits = phone.removeprefix("+")
    others = [form for form in forms(digits) if form != digits]
    return f"+{others[0]}" if others else None


def _request_of(message: TemplateMessage) -> dict[str, Any]:
    if (message.to is None) == (message.recipient is None):
        raise ValueError("a message has a number or a user id")
    if message.to is not None and not _PHONE.fullmatch(message.to):
        raise ValueError("a number begins with + and the country code")
    components: list[dict[str, Any]] = []
    if message.body:
        components.append(
            {
                "type": "body",
                "parameters": [{"type": "text", "text": _parameter(text)} for text in message.body],
            }
        )
    components += [
        {
            "type": "button",
            "sub_type": "quick_reply",
            "index": str(index),
            "parameters": [{"type": "payload", "payload": payload}],
        }
        for index, payload in enumerate(message.buttons)
    ]
    address: dict[str, Any] = (
        {"to": message.to} if message.to is not None else {"recipient": message.recipient}
    )
    return {
        "messaging_product": "whatsapp",
        "recipient_type": "individual",
        **address,
        "type": "template",
        "biz_opaque_callback_data": str(message.attempt_id),
        "template": {
            "name": message.template,
            "language": {"code": LANGUAGE},
            "components": components,
        },
    }


def _parameter(text: str) -> str:
    """A parameter that Meta accepts: one line, no runs of spaces, never empty."""
    return " ".join(text.split())[:MAX_PARAMETER_CHARACTERS] or "-"


def _judge(response: httpx.Response) -> SendResult:
    error = error_of(response, throttled=_is_throttled)
    content = _json_of(response)
    if error is None:
        return _judge_success(content)
    code = _error_code(content)
    if code is not None:
        return classify(code, http_status=response.status_code)
    # Something in Meta's place (a proxy) answered.
    if isinstance(error, RetryableHttpError):
        return SendResult(outcome=Outcome.DEFERRED, reason="rate_limited")
    if isinstance(error, AmbiguousError) or response.status_code >= _FIRST_SERVER_ERROR:
        return SendResult(outcome=Outcome.UNKNOWN, reason="unknown")
    return SendResult(outcome=Outcome.FAILED, reason="refused")


def _judge_success(content: dict[str, Any]) -> SendResult:
    """Accepted where the answer says so; what cannot be read may have been taken all the same."""
    message = _first(content.get("messages"))
    wamid, status = message.get("id"), message.get("message_status", "accepted")
    if not _is_wamid(wamid):
        return SendResult(outcome=Outcome.UNKNOWN, reason="unknown")
    if not isinstance(status, str) or status not in _TAKEN:
        # Held back for a template that is paused; whether it goes out later, nobody says.
        return SendResult(outcome=Outcome.UNKNOWN, reason="unknown", provider_id=wamid)
    return SendResult(outcome=Outcome.ACCEPTED, provider_id=wamid)


def _is_wamid(value: object) -> TypeGuard[str]:
    return (
        isinstance(value, str)
        and 0 < len(value) <= _MAX_WAMID
        and value.isascii()
        and value.isprintable()
    )


def _is_throttled(response: httpx.Response) -> bool:
    """Graph answers throttling with 400 and maintenance with 500; the code tells."""
    if response.status_code == TOO_MANY_REQUESTS:
        return True
    return (
        response.status_code >= _FIRST_ERROR
        and _error_code(_json_of(response)) in _THROTTLING_CODES
    )


def _error_code(content: dict[str, Any]) -> int | None:
    error = content.get("error")
    code = error.get("code") if isinstance(error, dict) else None
    if not isinstance(code, int) or isinstance(code, bool) or code not in _CODES:
        return None
    return code


def _json_of(response: httpx.Response) -> dict[str, Any]:
    try:
        content = json.loads(response.content)
    except (ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def _first(value: object) -> dict[str, Any]:
    first = value[0] if isinstance(value, list) and value else {}
    return first if isinstance(first, dict) else {}
