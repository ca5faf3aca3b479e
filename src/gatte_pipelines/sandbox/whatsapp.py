"""The WhatsApp Cloud API's endpoint for messages, on this machine: the stand-in for Meta.

Takes what Meta takes and refuses what it refuses, with its error body; then the statuses and the
presses of buttons arrive in the landing zone, as its webhooks would. It fails on request. Sending
belongs to ``messaging.whatsapp``. Shape of requests and answers: Meta, "Send message templates".
"""

from __future__ import annotations

import base64
import json
import re
import secrets
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

from gatte_pipelines.sandbox.loopback import LoopbackServer

VERSION = "v25.0"
PHONE_NUMBER_ID = "100000000000001"
_BUSINESS_ACCOUNT_ID = "100000000000000"
_DISPLAY_NUMBER = "551130000000"

_PHONE = re.compile(r"\+[1-9][0-9]{6,14}")
_USER_ID = re.compile(r"[A-Z]{2}\.[A-Za-z0-9]{1,128}")
# What Meta refuses in a parameter: more lines than one, tabs, more than four spaces in a row.
_BAD_PARAMETER = re.compile(r"[\n\t]| {5}")
_KEYS = (
    "messaging_product",
    "recipient_type",
    "to",
    "recipient",
    "type",
    "biz_opaque_callback_data",
    "template",
)
# Meta names a price beside "sent" and one of "delivered" and "read".
_PRICING = {"billable": True, "pricing_model": "PMP", "type": "regular", "category": "utility"}
_MAX_CALLBACK = 512
_MAX_BUTTONS = 10
_HANG_SECONDS = 60.0

_PERMISSIONS = range(200, 300)
_STATUS_OF_CODE = {
    **dict.fromkeys(_PERMISSIONS, 403),
    0: 401,
    190: 401,
    3: 500,
    10: 403,
    368: 403,
    130497: 403,
    131000: 500,
    131005: 403,
    131016: 500,
    131031: 403,
    131045: 500,
    131057: 500,
    132001: 404,
    133004: 503,
    2: 503,
}


class WhatsAppFault(StrEnum):
    """How the stand-in fails beside error codes."""

    TIMEOUT_AFTER_ACCEPTING = "timeout_after_accepting"
    """Takes the message, sends its statuses, and never answers."""
    TIMEOUT = "timeout"
    """Neither takes the message nor answers."""
    GARBAGE = "garbage"
    """Takes the message and answers 200 with what is no JSON."""
    SILENT = "silent"
    """Takes the message, answers, and no status ever comes."""


@dataclass(frozen=True, kw_only=True)
class SentMessage:
    """A message that was taken, to a number or to a user id. Its repr shows neither, nor text."""

    wamid: str = field(repr=False)
    attempt_id: str
    to: str | None = field(repr=False)
    recipient: str | None = field(repr=False)
    template: str
    body: tuple[str, ...] = field(repr=False)
    buttons: tuple[str, ...]


class _RefusedError(Exception):
    """An answer with an error code."""

    def __init__(self, code: int, details: str) -> None:
        super().__init__(details)
        self.code, self.details = code, details


class WhatsAppStandIn(LoopbackServer):
    """An endpoint on a loopback port; webhooks appear in a folder by rename.

    Args:
        landing: The landing zone; None where no webhook is wanted.
        port: Port, or 0 for any free one.
        token: The access token it asks for.
        now: The clock of statuses.
        has_read: Whether the recipients read what is delivered.
    """

    def __init__(
        self,
        landing: Path | None,
        port: int = 0,
        *,
        token: str = "",
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        has_read: bool = False,
    ) -> None:
        super().__init__("whatsapp-stand-in", port, _handler_of(self))
        self._landing = landing
        self.token = token or secrets.token_urlsafe(24)
        self._now = now
        self._has_read = has_read
        self._lock = threading.Lock()
        self._messages: list[SentMessage] = []
        self._requests = 0
        self._codes: list[tuple[int, str | None]] = []
        self._faults: list[tuple[WhatsAppFault, str | None]] = []
        self._later: list[tuple[int, str | None]] = []

    @property
    def url(self) -> str:
        """The URL for ``GATTE_WHATSAPP_BASE_URL``."""
        return f"{self.origin}/{VERSION}"

    @property
    def messages(self) -> list[SentMessage]:
        """What was taken so far, oldest first."""
        with self._lock:
            return list(self._messages)

    @property
    def requests(self) -> int:
        """How many requests came, the refused ones included."""
        with self._lock:
            return self._requests

    def refuse(self, code: int, *, times: int = 1, to: str | None = None) -> None:
        """Answer the next requests, or those to one number, with an error code."""
        with self._lock:
            self._codes += [(code, to)] * times

    def fail(self, fault: WhatsAppFault, *, times: int = 1, to: str | None = None) -> None:
        """Fail the next requests, or those to one number."""
        with self._lock:
            self._faults += [(fault, to)] * times

    def fail_later(self, code: int, *, times: int = 1, to: str | None = None) -> None:
        """Take the next requests, or those to one number, and tell by a status that they failed."""
        with self._lock:
            self._later += [(code, to)] * times

    def press(self, attempt_id: str, index: int) -> None:
        """Let the recipient of a message press one of its buttons."""
        (message,) = [one for one in self.messages if one.attempt_id == attempt_id][:1]
        address = _address(message)
        sender = {"from": address} if message.to else {"from_user_id": address}
        self._write(
            {
                "contacts": [_contact(message)],
                "messages": [
                    {
                        **sender,
                        "id": _mint_wamid(address, is_inbound=True),
                        "timestamp": _seconds(self._now()),
                        "type": "button",
                        "button": {"payload": message.buttons[index], "text": "Resposta"},
                        "context": {"from": _DISPLAY_NUMBER, "id": message.wamid},
                    }
                ],
            }
        )

    # -- one request

    def answer(self, path: str, authorization: str, content: bytes) -> tuple[int, bytes] | None:
        """Answer one request; None leaves it without an answer."""
        with self._lock:
            self._requests += 1
        try:
            if authorization != f"Bearer {self.token}":
                raise _RefusedError(190, "Invalid OAuth access token")
            if path != f"/{VERSION}/{PHONE_NUMBER_ID}/messages":
                raise _RefusedError(100, "Unsupported post request")
            message = _read(content)
            code = self._take(self._codes, message.to)
            if code is not None:
                raise _RefusedError(code, "as the test says")
        except _RefusedError as refused:
            return _STATUS_OF_CODE.get(refused.code, 400), _error_of(refused)
        fault = self._take(self._faults, message.to)
        if fault is WhatsAppFault.TIMEOUT:
            self._ended.wait(_HANG_SECONDS)
            return None
        with self._lock:
            self._messages.append(message)
        if fault is not WhatsAppFault.SILENT:
            self._tell(message)
        if fault is WhatsAppFault.TIMEOUT_AFTER_ACCEPTING:
            self._ended.wait(_HANG_SECONDS)
            return None
        if fault is WhatsAppFault.GARBAGE:
            return 200, b"<html>"
        return 200, json.dumps(
            {
                "messaging_product": "whatsapp",
                "contacts": [
                    {"input": message.to, "wa_id": _address(message)}
                    if message.to
                    else {"input": message.recipient, "user_id": message.recipient}
                ],
                "messages": [{"id": message.wamid, "message_status": "accepted"}],
            }
        ).encode()

    def _take(self, planned: list[tuple[Any, str | None]], to: str | None) -> Any:
        """The next planned failure that is meant for a number; None where there is none."""
        with self._lock:
            for at, (value, number) in enumerate(planned):
                if number is None or number == to:
                    del planned[at]
                    return value
        return None

    # -- webhooks

    def _tell(self, message: SentMessage) -> None:
        code = self._take(self._later, message.to)
        at = self._now()
        statuses = [_status(message, "sent", at, pricing=_PRICING)]
        later = at + timedelta(seconds=1)
        if code is not None:
            error = {"code": code, "title": "failed", "message": "failed"}
            error_data = {"error_data": {"details": "as the test says"}}
            statuses.append(_status(message, "failed", later, errors=[error | error_data]))
        else:
            statuses.append(_status(message, "delivered", later, pricing=_PRICING))
            if self._has_read:
                statuses.append(_status(message, "read", at + timedelta(seconds=2)))
        # Meta names who is known by a user id alone beside statuses, but not beside failed ones.
        is_named = message.to is None and code is None
        contacts = {"contacts": [_contact(message)]} if is_named else {}
        self._write({**contacts, "statuses": statuses})

    def _write(self, value: dict[str, Any]) -> None:
        if self._landing is None:
            return
        notification = {
            "object": "whatsapp_business_account",
            "entry": [
                {
                    "id": _BUSINESS_ACCOUNT_ID,
                    "changes": [
                        {
                            "field": "messages",
                            "value": {
                                "messaging_product": "whatsapp",
                                "metadata": {
                                    "display_phone_number": _DISPLAY_NUMBER,
                                    "phone_number_id": PHONE_NUMBER_ID,
                                },
                                **value,
                            },
                        }
                    ],
                }
            ],
        }
        self._landing.mkdir(parents=True, exist_ok=True)
        name = f"whatsapp-{secrets.token_hex(8)}.json"
        partial = self._landing / f"{name}.part"
        partial.write_text(json.dumps(notification), "utf-8")
        partial.rename(self._landing / name)


def _read(content: bytes) -> SentMessage:
    """The message of a request.

    Raises:
        _RefusedError: Meta would not take it.
    """
    try:
        request = json.loads(content)
    except ValueError:
        raise _RefusedError(100, "Invalid JSON") from None
    if not isinstance(request, dict):
        raise _RefusedError(100, "Invalid JSON")
    _check_keys(request, _KEYS)
    if request.get("recipient_type", "individual") != "individual":
        raise _RefusedError(131009, "recipient_type is not individual")
    if request.get("messaging_product") != "whatsapp" or request.get("type") != "template":
        raise _RefusedError(131008, "messaging_product or type is missing")
    to, user_id = request.get("to"), request.get("recipient")
    if to is None and user_id is None:
        raise _RefusedError(131008, "to is missing")
    if to is not None and not (isinstance(to, str) and _PHONE.fullmatch(to)):
        raise _RefusedError(131009, "to is not a number with + and country code")
    if to is None and not (isinstance(user_id, str) and _USER_ID.fullmatch(user_id)):
        raise _RefusedError(131009, "recipient is not a user id")
    callback = request.get("biz_opaque_callback_data", "")
    if not isinstance(callback, str) or len(callback) > _MAX_CALLBACK:
        raise _RefusedError(131009, "biz_opaque_callback_data is too long")
    template, body, buttons = _read_template(request.get("template"))
    return SentMessage(
        wamid=_mint_wamid(to.removeprefix("+") if to else str(user_id), is_inbound=False),
        attempt_id=callback,
        to=to,
        # Where both are given the number wins.
        recipient=None if to else user_id,
        template=template,
        body=body,
        buttons=buttons,
    )


def _read_template(template: object) -> tuple[str, tuple[str, ...], tuple[str, ...]]:
    if not isinstance(template, dict):
        raise _RefusedError(131008, "template is missing")
    _check_keys(template, {"name", "language", "components"})
    name, language = template.get("name"), template.get("language")
    if not isinstance(name, str) or not re.fullmatch(r"[a-z0-9_]{1,512}", name):
        raise _RefusedError(132001, "Template name does not exist in the translation")
    if language != {"code": "pt_BR"}:
        raise _RefusedError(132001, "Template name does not exist in the translation")
    body: tuple[str, ...] = ()
    buttons: list[str] = []
    components = template.get("components", [])
    if not isinstance(components, list):
        raise _RefusedError(131009, "components")
    for component in components:
        if not isinstance(component, dict):
            raise _RefusedError(131009, "components")
        kind, parameters = component.get("type"), component.get("parameters")
        if kind == "body" and isinstance(parameters, list) and not body:
            _check_keys(component, {"type", "parameters"})
            body = tuple(_text_parameter(parameter) for parameter in parameters)
        elif kind == "button":
            _check_keys(component, {"type", "sub_type", "index", "parameters"})
            buttons.append(_button(component, len(buttons)))
        else:
            raise _RefusedError(131009, "components")
    expected = re.search(r"_(?:([1-5])|mais)$", name)
    if expected is not None:
        # The first name and one variable a certificate; of more than five, how many more.
        wanted = int(expected[1]) + 1 if expected[1] else 7
        if len(body) != wanted:
            raise _RefusedError(132000, "Number of parameters does not match")
    return name, body, tuple(buttons)


def _text_parameter(parameter: object) -> str:
    text = parameter.get("text") if isinstance(parameter, dict) else None
    if not isinstance(text, str) or not text or parameter != {"type": "text", "text": text}:
        raise _RefusedError(131009, "parameter")
    if _BAD_PARAMETER.search(text):
        raise _RefusedError(132012, "Param text cannot have new-line/tab characters")
    return text


def _button(component: dict[str, Any], index: int) -> str:
    parameters = component.get("parameters")
    payload = (
        parameters[0].get("payload")
        if isinstance(parameters, list) and parameters and isinstance(parameters[0], dict)
        else None
    )
    if (
        component.get("sub_type") != "quick_reply"
        or component.get("index") != str(index)
        or index >= _MAX_BUTTONS
        or not isinstance(payload, str)
        or parameters != [{"type": "payload", "payload": payload}]
    ):
        raise _RefusedError(131009, "button")
    return payload


def _check_keys(given: dict[str, Any], known: Iterable[str]) -> None:
    """Refuse what Meta does not know, without repeating it: it may hold anything."""
    if unknown := given.keys() - set(known):
        raise _RefusedError(100, f"Unexpected keys: {len(unknown)}")


def _address(message: SentMessage) -> str:
    """The digits of the number, or the user id where there is none."""
    return message.to.removeprefix("+") if message.to else str(message.recipient)


def _contact(message: SentMessage) -> dict[str, Any]:
    """Who got a message, as Meta names them beside what comes in."""
    identity = "wa_id" if message.to else "user_id"
    return {"profile": {"name": "Cliente Exemplo"}, identity: _address(message)}


def _status(message: SentMessage, status: str, at: datetime, **more: Any) -> dict[str, Any]:
    return {
        "id": message.wamid,
        "status": status,
        "timestamp": _seconds(at),
        "recipient_id" if message.to else "recipient_user_id": _address(message),
        "biz_opaque_callback_data": message.attempt_id,
        **more,
    }


def _seconds(at: datetime) -> str:
    return str(int(at.timestamp()))


def _mint_wamid(number: str, *, is_inbound: bool) -> str:
    """As Meta's samples decode: the digits of the number, a direction, a random id."""
    token = secrets.token_hex(9).upper().encode()
    digits = number.encode()[:120]
    raw = (
        b"\x1c\x18"
        + bytes([len(digits)])
        + digits
        + b"\x15\x02\x00"
        + (b"\x12" if is_inbound else b"\x11")
        + b"\x18"
        + bytes([len(token)])
        + token
        + b"\x00"
    )
    return "wamid." + base64.b64encode(raw).decode()


def _error_of(refused: _RefusedError) -> bytes:
    return json.dumps(
        {
            "error": {
                "message": f"(#{refused.code})",
                "type": "OAuthException",
                "code": refused.code,
                "error_data": {"messaging_product": "whatsapp", "details": refused.details},
                "fbtrace_id": secrets.token_hex(6),
            }
        }
    ).encode()


def _handler_of(stand_in: WhatsAppStandIn) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            content = self.rfile.read(int(self.headers.get("content-length", 0)))
            answer = stand_in.answer(self.path, self.headers.get("authorization", ""), content)
            if answer is None:
                self.close_connection = True
                return
            status, body = answer
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_arguments: Any) -> None:
            """Nothing: a request holds numbers."""

    return Handler
