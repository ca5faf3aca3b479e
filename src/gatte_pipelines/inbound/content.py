"""What a WhatsApp message says, as people and the model read it (pt-BR); apis/whatsapp §3.3.

Who wrote it, when, and what becomes of it belong to ``envelope``. No I/O. Ids and addresses of
media, coordinates and the answers of a form are never part of a content.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import partial
from typing import NamedTuple

import msgspec

from gatte_pipelines.inbound.units import ButtonReply

# WhatsApp's texts have up to 4,096 characters. Twenty of these still fit a jsonb context (256 MB).
MAX_CONTENT_BYTES = 8 * 1024 * 1024
MAX_WAMID_CHARACTERS = 512
# Meta's limits are 256 (reply button), 200 (list row) and 128 (template button).
MAX_PAYLOAD_CHARACTERS = 1024
# More names than these say no more about why somebody sent them.
_MAX_CONTACT_NAMES = 3
_REPLIES = frozenset({"button_reply", "list_reply", "nfm_reply"})
_MEDIA = {
    "audio": "[áudio]",
    "document": "[documento]",
    "image": "[imagem]",
    "sticker": "[figurinha]",
    "video": "[vídeo]",
}
_WORD = re.compile(r"[a-z_]{1,32}")
_UNSUPPORTED = "[mensagem não suportada]"
# SAIR or PARAR as the whole text: in any case, with any accent (composed or not), between anything
# that is no letter and no digit.
_OPT_OUT = re.compile(
    r"[\W_]*(?:s[aà-å]M?[iì-ï]M?r|p[aà-å]M?r[aà-å]M?r)[\W_]*".replace("M", "[\u0300-\u036f]"),
    re.IGNORECASE,
)


class InvalidFieldError(ValueError):
    """Why a record cannot be kept; ``field`` is the record's own, and no value is in it."""

    def __init__(self, reason: str, field: str) -> None:
        super().__init__(reason)
        self.reason, self.field = reason, field


class Content(NamedTuple):
    """The text of a message, never empty, and the button that was pressed, if one was."""

    text: str
    button: ButtonReply | None = None


class _Text(msgspec.Struct):
    body: str = ""


class _TextMessage(msgspec.Struct):
    text: _Text | None = None


class _Media(msgspec.Struct):
    caption: str | None = None
    filename: str | None = None
    voice: bool | None = None


class _MediaMessage(msgspec.Struct):
    image: _Media | None = None
    video: _Media | None = None
    sticker: _Media | None = None
    document: _Media | None = None
    audio: _Media | None = None


class _Location(msgspec.Struct):
    name: str | None = None
    address: str | None = None


class _LocationMessage(msgspec.Struct):
    location: _Location | None = None


class _Name(msgspec.Struct):
    formatted_name: str | None = None
    first_name: str | None = None
    last_name: str | None = None


class _SharedContact(msgspec.Struct):
    name: _Name | None = None


class _ContactsMessage(msgspec.Struct):
    contacts: list[msgspec.Raw] | None = None


class _Context(msgspec.Struct):
    id: str | None = None


class _Reply(msgspec.Struct):
    id: str | None = None
    title: str | None = None
    description: str | None = None


class _FormReply(msgspec.Struct):
    body: str | None = None
    name: str | None = None


class _Interactive(msgspec.Struct):
    type: str | None = None
    button_reply: _Reply | None = None
    list_reply: _Reply | None = None
    nfm_reply: _FormReply | None = None
    errors: list[msgspec.Raw] | None = None


class _InteractiveMessage(msgspec.Struct):
    interactive: _Interactive | None = None
    context: _Context | None = None
    errors: list[msgspec.Raw] | None = None


class _Button(msgspec.Struct):
    text: str | None = None
    payload: str | None = None


class _ButtonMessage(msgspec.Struct):
    button: _Button | None = None
    context: _Context | None = None


class _Order(msgspec.Struct):
    text: str | None = None
    product_items: list[msgspec.Raw] | None = None


class _OrderMessage(msgspec.Struct):
    order: _Order | None = None


class _Unsupported(msgspec.Struct):
    type: str | None = None


class _UnsupportedMessage(msgspec.Struct):
    unsupported: _Unsupported | None = None


_text = msgspec.json.Decoder(_TextMessage)
_media = msgspec.json.Decoder(_MediaMessage)
_location = msgspec.json.Decoder(_LocationMessage)
_contacts = msgspec.json.Decoder(_ContactsMessage)
_shared_contact = msgspec.json.Decoder(_SharedContact)
_interactive = msgspec.json.Decoder(_InteractiveMessage)
_button = msgspec.json.Decoder(_ButtonMessage)
_order = msgspec.json.Decoder(_OrderMessage)
_unsupported = msgspec.json.Decoder(_UnsupportedMessage)


def read_content(message_type: str, raw: msgspec.Raw) -> Content:
    """Read what a message says.

    Args:
        message_type: One of ``READABLE_TYPES``.
        raw: The message's JSON, with the part that is named like its type.

    Raises:
        InvalidFieldError: It says nothing, or what PostgreSQL cannot keep.
        msgspec.DecodeError: Something in it has another type than Meta's.
        UnicodeDecodeError: A text in it is not UTF-8.
    """
    return _READERS[message_type](raw)


def check_text(text: str, field: str) -> str:
    """Give a text back where it can be kept.

    Raises:
        InvalidFieldError: It has a NUL, or more than ``MAX_CONTENT_BYTES``.
    """
    if "\0" in text:
        raise InvalidFieldError("nul_character", field)
    if len(text) > MAX_CONTENT_BYTES // 4 and len(text.encode()) > MAX_CONTENT_BYTES:
        raise InvalidFieldError("too_long", field)
    return text


def read_text(body: str) -> str:
    """Give the body of a text message back, exactly as it was written.

    Raises:
        InvalidFieldError: See ``check_text``; or there is none: '' in messages.content means
            removed (design S1), and WhatsApp sends no empty text.
    """
    if not body:
        raise InvalidFieldError("missing_field", "text.body")
    return check_text(body, "text.body")


def is_opt_out(text: str) -> bool:
    """Tell whether a client who wrote this wants no more messages from us."""
    # Neither word has an e or an o and hardly a text has none, which is seen far sooner.
    return "e" not in text and "o" not in text and _OPT_OUT.fullmatch(text) is not None


def _read_text_message(raw: msgspec.Raw) -> Content:
    text = _text.decode(raw).text
    return Content(read_text(text.body if text is not None else ""))


def _read_media(raw: msgspec.Raw, *, kind: str) -> Content:
    media: _Media = getattr(_media.decode(raw), kind) or _Media()
    bracket = "[mensagem de voz]" if kind == "audio" and media.voice else _MEDIA[kind]
    filename = media.filename if kind == "document" else None
    parts = ((f"{kind}.filename", filename), (f"{kind}.caption", media.caption))
    return _bracketed(bracket, *parts, separator=" – ")


def _read_location(raw: msgspec.Raw) -> Content:
    location = _location.decode(raw).location or _Location()
    return _bracketed(
        "[localização]",
        ("location.name", location.name),
        ("location.address", location.address),
    )


def _read_contacts(raw: msgspec.Raw) -> Content:
    shared = _contacts.decode(raw).contacts or []
    named = [_name_of(item) for item in shared[:_MAX_CONTACT_NAMES]]
    content = _bracketed("[contato]", *(("contacts[].name", name) for name in named))
    unnamed = len(shared) - sum(1 for name in named if name)
    if unnamed and len(shared) > 1:
        return Content(f"{content.text} +{unnamed}")
    return content


def _name_of(raw: msgspec.Raw) -> str | None:
    try:
        name = _shared_contact.decode(raw).name
    except msgspec.ValidationError as error:
        # Decoded one by one, so that a million of them are only counted; hence the place.
        raise InvalidFieldError("wrong_type", "contacts[]") from error
    if name is None:
        return None
    whole = f"{name.first_name or ''} {name.last_name or ''}"
    return (name.formatted_name or "").strip() or whole.strip()


def _read_interactive(raw: msgspec.Raw) -> Content:
    message = _interactive.decode(raw)
    reply = message.interactive or _Interactive()
    if reply.button_reply is not None:
        place, pressed = "interactive.button_reply", reply.button_reply
        parts = [(f"{place}.title", pressed.title)]
    elif reply.list_reply is not None:
        place, pressed = "interactive.list_reply", reply.list_reply
        parts = [
            (f"{place}.title", pressed.title),
            (f"{place}.description", pressed.description),
        ]
    elif reply.nfm_reply is not None:
        place, form = "interactive.nfm_reply", reply.nfm_reply
        is_named = not (form.body or "").strip()
        field, said = ("name", form.name) if is_named else ("body", form.body)
        return _bracketed("[formulário]", (f"{place}.{field}", said))
    elif message.errors or reply.errors:
        return Content(_UNSUPPORTED)
    elif reply.type is None:
        raise InvalidFieldError("missing_field", "interactive.type")
    elif reply.type in _REPLIES:
        raise InvalidFieldError("missing_field", f"interactive.{reply.type}")
    else:
        raise InvalidFieldError("not_yet_supported", "interactive.type")
    text = _joined(parts, " – ") or "[resposta]"
    return Content(text, _read_button_reply(message.context, pressed.id, f"{place}.id"))


def _read_button(raw: msgspec.Raw) -> Content:
    message = _button.decode(raw)
    pressed = message.button or _Button()
    text = _joined([("button.text", pressed.text)], "") or "[resposta]"
    return Content(text, _read_button_reply(message.context, pressed.payload, "button.payload"))


def _read_button_reply(context: _Context | None, payload: str | None, field: str) -> ButtonReply:
    wamid = context.id if context is not None else None
    if wamid is not None and len(wamid) > MAX_WAMID_CHARACTERS:
        raise InvalidFieldError("too_long", "context.id")
    if payload is not None:
        check_text(payload, field)
        if len(payload) > MAX_PAYLOAD_CHARACTERS:
            raise InvalidFieldError("too_long", field)
    return ButtonReply(wamid or None, payload or None)


def _read_order(raw: msgspec.Raw) -> Content:
    order = _order.decode(raw).order or _Order()
    count = len(order.product_items or ())
    if not count:
        return _bracketed("[pedido]", ("order.text", order.text))
    items = "1 item" if count == 1 else f"{count} itens"
    said = _joined([("order.text", order.text)], "")
    return Content(f"[pedido] {items}: {said}" if said else f"[pedido] {items}")


def _read_unsupported(raw: msgspec.Raw) -> Content:
    kind = (_unsupported.decode(raw).unsupported or _Unsupported()).type
    if kind is not None and _WORD.fullmatch(kind):
        return Content(f"{_UNSUPPORTED} {kind}")
    return Content(_UNSUPPORTED)


def _bracketed(bracket: str, *parts: tuple[str, str | None], separator: str = ", ") -> Content:
    said = _joined(parts, separator)
    return Content(f"{bracket} {said}" if said else bracket)


def _joined(parts: Iterable[tuple[str, str | None]], separator: str) -> str:
    """The texts that are there; of each part its field and its text."""
    said, size = [], 0
    for field, part in parts:
        text = check_text(part or "", field).strip()
        if not text:
            continue
        # Together they are one content: bounded as a whole.
        size += len(text.encode())
        if size > MAX_CONTENT_BYTES:
            raise InvalidFieldError("too_long", field)
        said.append(text)
    return separator.join(said)


_READERS: dict[str, Callable[[msgspec.Raw], Content]] = {
    **{kind: partial(_read_media, kind=kind) for kind in _MEDIA},
    "button": _read_button,
    "contacts": _read_contacts,
    "interactive": _read_interactive,
    "location": _read_location,
    "order": _read_order,
    "text": _read_text_message,
    "unsupported": _read_unsupported,
}
READABLE_TYPES = frozenset(_READERS)
