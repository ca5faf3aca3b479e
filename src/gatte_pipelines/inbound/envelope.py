"""Webhook notifications of the WhatsApp Cloud API, from bytes to units (apis/whatsapp §3.2-3.4).

A unit is one message, one status, one other event, or one line that cannot be read: what the
balance of rule S10 counts. One bad unit never takes its neighbours with it. No I/O here, and no
decision that needs the database.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import msgspec

from gatte_pipelines.phones import is_possible_wa_id

WHATSAPP_OBJECT = "whatsapp_business_account"
# An event from later than this after as_of is not a clock that is a little off (design §2).
FUTURE_TOLERANCE_SECONDS = 600
MAX_WAMID_CHARACTERS = 512
MAX_NAME_CHARACTERS = 150  # DOC 01: users.name VARCHAR(150)
# Every quarantined unit keeps a copy of what it shares with its neighbours (metadata, a contact).
# Meta's have some hundred bytes; a hostile one times a thousand units must not fill the memory.
_MAX_KEPT_BYTES = 4096
# Meta posts at most 1,000 updates at a time.
MAX_UNITS_OF_LINE = 20_000
_MAX_KEPT_BYTES_OF_LINE = 32 * 1024 * 1024
# The copies of a shorter line together have at most some 20 MB.
_HARMLESS_BYTES = 16 * 1024
# WhatsApp's texts have up to 4,096 characters. Twenty of these still fit a jsonb context (256 MB).
_MAX_BODY_BYTES = 8 * 1024 * 1024
# WhatsApp is of 2009; an earlier event time is no time at all.
_EARLIEST = 1_230_768_000
# Meta's categories of today; another one is taken where it looks like one.
_CATEGORIES = frozenset({"marketing", "utility", "authentication", "service"})
_CATEGORY = re.compile(r"[a-z_]{1,64}")
STATUSES = frozenset({"sent", "delivered", "read", "played", "failed"})

# ISO country, a dot, up to 128 alphanumerics; parents of managed businesses add "ENT." (§3.6).
_BSUID = re.compile(r"[A-Z]{2}\.(?:ENT\.)?[A-Za-z0-9]{1,128}")
_UUID = re.compile(r"[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}")
# An escape of what bytes that are not UTF-8 become in Python: U+DC80 to U+DCFF.
_ESCAPED = re.compile(rb"\\u[dD][cC][89a-fA-F]")
# Lists of events in the changes of other fields; a change without one is one unit.
_EVENT_LISTS = ("message_echoes", "user_id_update", "user_preferences")


class TextMessage(msgspec.Struct, frozen=True):
    """A text message from a client, ready to load. ``sent_at`` is in Unix seconds."""

    wamid: str
    sent_at: int
    wa_id: str | None
    bsuid: str | None
    parent_bsuid: str | None
    name: str | None
    body: str


class StatusEvent(msgspec.Struct, frozen=True):
    """A delivery status of a message we sent. ``status_at`` is in Unix seconds."""

    wamid: str
    status: str
    status_at: int
    error_code: int | None
    pricing_category: str | None
    attempt_id: str | None


class Rejected(msgspec.Struct, frozen=True):
    """A unit that goes to quarantine: reason and field, never the value.

    ``payload`` is a notification of its own that holds this one unit, or the raw line.
    """

    kind: str
    reason: str
    field: str | None
    payload: bytes


class Empty(msgspec.Struct, frozen=True):
    """A notification that carries no event."""


Unit = TextMessage | StatusEvent | Rejected | Empty


class _Change(msgspec.Struct):
    field: str
    value: msgspec.Raw


class _Entry(msgspec.Struct):
    changes: list[_Change]
    id: msgspec.Raw = msgspec.Raw()  # empty: absent (msgspec knows no optional Raw)


class _Notification(msgspec.Struct):
    object: str
    entry: list[_Entry]


class _Value(msgspec.Struct):
    metadata: msgspec.Raw = msgspec.Raw()
    contacts: list[msgspec.Raw] | None = None
    messages: list[msgspec.Raw] | None = None
    statuses: list[msgspec.Raw] | None = None
    errors: list[msgspec.Raw] | None = None


class _Profile(msgspec.Struct):
    name: str | None = None


class _Contact(msgspec.Struct):
    profile: _Profile | None = None
    wa_id: str | None = None
    user_id: str | None = None


class _Text(msgspec.Struct):
    body: str


class _Message(msgspec.Struct, rename={"sender": "from"}):
    id: str
    timestamp: str
    type: str
    sender: str | None = None
    from_user_id: str | None = None
    from_parent_user_id: str | None = None
    group_id: str | None = None
    text: _Text | None = None


class _Sender(msgspec.Struct, rename={"wa_id": "from", "bsuid": "from_user_id"}):
    wa_id: Any = None
    bsuid: Any = None


class _Kind(msgspec.Struct):
    type: str = "unknown"


class _Pricing(msgspec.Struct):
    category: str | None = None


class _StatusError(msgspec.Struct):
    code: int | None = None


class _Status(msgspec.Struct):
    id: str
    status: str
    timestamp: str
    recipient_type: str | None = None
    pricing: _Pricing | None = None
    errors: list[_StatusError] | None = None
    biz_opaque_callback_data: str | None = None


class _Contacts:
    """The contacts of one change, read once and found by id, never by place (§3.2).

    A hostile change may hold as many contacts as messages; looking through all for each would
    never end.
    """

    __slots__ = ("_by_id", "_error", "_is_read", "_raws", "_unreadable")

    def __init__(self, raws: list[msgspec.Raw]) -> None:
        self._raws = raws
        self._is_read = False
        self._by_id: dict[tuple[str, str], tuple[_Contact, msgspec.Raw]] = {}
        self._unreadable: list[msgspec.Raw] = []
        self._error: _InvalidUnitError | None = None

    def find(self, wa_id: str | None, bsuid: str | None) -> tuple[_Contact, msgspec.Raw] | None:
        """The contact of a sender with its bytes; None where there is none."""
        if not self._is_read:
            self._read()
        found = None
        if wa_id is not None:
            found = self._by_id.get(("wa_id", wa_id))
        if found is None and bsuid is not None:
            found = self._by_id.get(("user_id", bsuid))
        return found

    def raise_unreadable(self) -> None:
        """A contact that cannot be read is the sender's only where no other one is."""
        if self._error is not None:
            raise self._error

    def kept_for(self, sender: _Sender) -> list[msgspec.Raw]:
        """What a quarantined message of ``sender`` keeps: its own contact, nobody else's name.

        Where no contact is the sender's, those that cannot be read may be.
        """
        # Of a message that cannot be loaded, these may be anything.
        wa_id = sender.wa_id if isinstance(sender.wa_id, str) else None
        bsuid = sender.bsuid if isinstance(sender.bsuid, str) else None
        found = self.find(wa_id, bsuid)
        kept = self._unreadable if found is None else [found[1]]
        return kept if sum(len(bytes(raw)) for raw in kept) <= _MAX_KEPT_BYTES else []

    def _read(self) -> None:
        self._is_read = True
        for raw in self._raws:
            try:
                contact = _contact.decode(raw)
            except msgspec.ValidationError as error:
                reason, field = _describe(error)
                self._refuse(raw, _InvalidUnitError(reason, _join("contacts[]", field)))
                continue
            except (msgspec.DecodeError, UnicodeDecodeError):
                self._refuse(raw, _InvalidUnitError("invalid_utf8", "contacts[]"))
                continue
            if contact.wa_id is not None:
                self._by_id.setdefault(("wa_id", contact.wa_id), (contact, raw))
            if contact.user_id is not None:
                self._by_id.setdefault(("user_id", contact.user_id), (contact, raw))

    def _refuse(self, raw: msgspec.Raw, error: _InvalidUnitError) -> None:
        self._unreadable.append(raw)
        self._error = error


class _InvalidUnitError(ValueError):
    """Why a unit cannot be loaded; no value in it."""

    def __init__(self, reason: str, field: str | None) -> None:
        super().__init__(reason)
        self.reason, self.field = reason, field


_notification = msgspec.json.Decoder(_Notification)
_value = msgspec.json.Decoder(_Value)
_message = msgspec.json.Decoder(_Message)
_sender = msgspec.json.Decoder(_Sender)
_kind = msgspec.json.Decoder(_Kind)
_status = msgspec.json.Decoder(_Status)
_contact = msgspec.json.Decoder(_Contact)
_change = msgspec.json.Decoder(_Change)
_object = msgspec.json.Decoder(dict[str, msgspec.Raw])
_list = msgspec.json.Decoder(list[msgspec.Raw])
_list_or_none = msgspec.json.Decoder(list[msgspec.Raw] | None)
_encode = msgspec.json.Encoder().encode


def iter_units(line: bytes, latest: int) -> Iterator[Unit]:
    """Every unit of one notification, in order.

    Args:
        line: One body as Meta posted it.
        latest: The last Unix second that is not in the future.
    """
    units = _iter_units(line, latest)
    return units if len(line) <= _HARMLESS_BYTES else iter(_bounded(line, units))


def _bounded(line: bytes, units: Iterator[Unit]) -> list[Unit]:
    """The units of a long line, or the line itself where they would fill the memory."""
    found: list[Unit] = []
    kept_bytes = 0
    for unit in units:
        found.append(unit)
        if type(unit) is Rejected:
            kept_bytes += len(unit.payload)
        if len(found) > MAX_UNITS_OF_LINE or kept_bytes > _MAX_KEPT_BYTES_OF_LINE:
            return [Rejected("notification", "line_too_long", None, line)]
    return found


def _iter_units(line: bytes, latest: int) -> Iterator[Unit]:
    try:
        notification = _notification.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        yield from _iter_units_of_broken(line, latest, error)
        return
    if notification.object != WHATSAPP_OBJECT:
        yield Rejected("notification", "wrong_type", "object", line)
        return
    count = 0
    for entry in notification.entry:
        for change in entry.changes:
            for unit in _iter_change(change, entry.id, latest):
                count += 1
                yield unit
    if not count:
        yield Empty()


def _iter_units_of_broken(line: bytes, latest: int, error: Exception) -> Iterator[Unit]:
    """Save what can be saved of a line that the strict decoder refuses as a whole.

    A wrong type somewhere leaves the other entries and changes readable. The standard library
    reads what is only wrong inside one string (an unpaired surrogate, bytes that are not UTF-8);
    each unit is then judged on its own.
    """
    pieces = line
    if not isinstance(error, msgspec.ValidationError) or not _is_json(line):
        try:
            pieces = _to_bytes(line)
            _notification.decode(pieces)
        except msgspec.ValidationError as wrong:
            error = wrong
        except (ValueError, RecursionError, msgspec.DecodeError):
            yield _rejected_line(line, error)
            return
        else:
            yield from _iter_units(pieces, latest)
            return
    yield from _iter_pieces(pieces, latest, _rejected_line(line, error))


def _is_json(line: bytes) -> bool:
    try:
        _object.decode(line)
    except msgspec.ValidationError:
        return True
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return True


def _to_bytes(line: bytes) -> bytes:
    """The same JSON, its broken strings still broken, but only inside the strings of their unit."""
    document = json.loads(line.decode("utf-8", "surrogateescape"))
    text = json.dumps(document, ensure_ascii=False, separators=(",", ":"))
    if not _ESCAPED.search(line):
        with suppress(UnicodeEncodeError):  # a surrogate that stands for no byte
            return text.encode("utf-8", "surrogateescape")
    # An escaped surrogate must not turn into the byte for which surrogateescape would take it.
    return text.encode("utf-8", "surrogatepass")


def _iter_pieces(line: bytes, latest: int, refused: Rejected) -> Iterator[Unit]:
    """Judge each entry and each change on its own; ``refused`` where that finds nothing."""
    count = 0
    for unit in _iter_entries(line, latest):
        count += 1
        yield unit
    if not count:
        yield refused


def _iter_entries(line: bytes, latest: int) -> Iterator[Unit]:
    try:
        whole = _object.decode(line)
        if msgspec.json.decode(whole["object"]) != WHATSAPP_OBJECT:
            return
        entries = _list.decode(whole["entry"])
    except (KeyError, msgspec.DecodeError, UnicodeDecodeError):
        return
    for raw in entries:
        try:
            parts = _object.decode(raw)
            changes = _list.decode(parts.get("changes", b"null"))
        except (msgspec.DecodeError, UnicodeDecodeError):
            payload = _encode({"object": WHATSAPP_OBJECT, "entry": [raw]})
            yield Rejected("entry", "wrong_type", "entry[].changes", payload)
            continue
        entry_id = parts.get("id", msgspec.Raw())
        for change_raw in changes:
            try:
                change = _change.decode(change_raw)
            except (msgspec.DecodeError, UnicodeDecodeError) as problem:
                rejected = _rejected_line(b"", problem)
                field = _join("entry[].changes[]", rejected.field)
                yield Rejected("change", rejected.reason, field, _wrap_change(entry_id, change_raw))
            else:
                yield from _iter_change(change, entry_id, latest)


def _rejected_line(line: bytes, error: Exception) -> Rejected:
    if isinstance(error, msgspec.ValidationError):
        reason, field = _describe(error)
        return Rejected("notification", reason, field, line)
    if isinstance(error, UnicodeDecodeError):
        return Rejected("notification", "invalid_utf8", None, line)
    return Rejected("notification", "malformed_json", None, line)


def _iter_change(change: _Change, entry_id: msgspec.Raw, latest: int) -> Iterator[Unit]:
    if change.field != "messages":
        yield from _iter_other_field(change, entry_id)
        return
    try:
        value = _value.decode(change.value)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        yield from _iter_lists(change, entry_id, latest, error)
    else:
        yield from _iter_value(value, entry_id, latest)


def _iter_value(value: _Value, entry_id: msgspec.Raw, latest: int) -> Iterator[Unit]:
    contacts = _Contacts(value.contacts or [])
    if len(bytes(value.metadata)) > _MAX_KEPT_BYTES:
        value.metadata = msgspec.Raw()
    for raw in value.messages or ():
        yield _message_unit(raw, contacts, value, entry_id, latest)
    for raw in value.statuses or ():
        yield _status_unit(raw, value, entry_id, latest)
    for raw in value.errors or ():
        payload = _wrap_unit(entry_id, value, "errors", raw)
        yield Rejected("errors", "not_yet_supported", "errors[]", payload)


def _iter_lists(
    change: _Change, entry_id: msgspec.Raw, latest: int, error: Exception
) -> Iterator[Unit]:
    """Judge each list of a change on its own; what is no list is one unit."""
    try:
        parts = _object.decode(change.value)
    except (msgspec.DecodeError, UnicodeDecodeError):
        rejected = _rejected_line(b"", error)
        payload = _wrap(entry_id, change.field, change.value)
        yield Rejected("change", rejected.reason, _join("value", rejected.field), payload)
        return
    value = _Value(metadata=parts.get("metadata", msgspec.Raw()))
    refused = []
    for name in ("contacts", "messages", "statuses", "errors"):
        try:
            setattr(value, name, _list_or_none.decode(parts.get(name, b"null")))
        except (msgspec.DecodeError, UnicodeDecodeError):
            refused.append(name)
    kept = {"metadata": value.metadata} if bytes(value.metadata) else {}
    if "contacts" in refused and value.messages:
        # Who sent them, and under which name, cannot be read.
        refused.remove("contacts")
        kept_contacts = kept | {"contacts": parts["contacts"]}
        for raw in value.messages:
            payload = _wrap(entry_id, "messages", _encode(kept_contacts | {"messages": [raw]}))
            yield Rejected(_kind_of(raw), "wrong_type", "value.contacts", payload)
        value.messages = None
    for name in refused:
        payload = _wrap(entry_id, "messages", _encode(kept | {name: parts[name]}))
        yield Rejected("change", "wrong_type", f"value.{name}", payload)
    yield from _iter_value(value, entry_id, latest)


def _iter_other_field(change: _Change, entry_id: msgspec.Raw) -> Iterator[Unit]:
    kind = change.field if re.fullmatch(r"[a-z_]{1,64}", change.field) else "unknown"
    try:
        value = msgspec.json.decode(change.value, type=dict[str, msgspec.Raw])
        for name in _EVENT_LISTS:
            events = msgspec.json.decode(value.get(name, b"null"), type=list[msgspec.Raw] | None)
            if events:
                for raw in events:
                    payload = _wrap(entry_id, change.field, _encode(value | {name: [raw]}))
                    yield Rejected(kind, "not_yet_supported", f"{name}[]", payload)
                return
    except (msgspec.DecodeError, UnicodeDecodeError):
        pass  # no list of events can be read: the change is one unit, below
    payload = _wrap(entry_id, change.field, change.value)
    yield Rejected(kind, "not_yet_supported", None, payload)


def _message_unit(
    raw: msgspec.Raw,
    contacts: _Contacts,
    value: _Value,
    entry_id: msgspec.Raw,
    latest: int,
) -> Unit:
    try:
        message = _message.decode(raw)
        if message.type != "text" or message.group_id is not None:
            raise _InvalidUnitError("not_yet_supported", "messages[].type")
        return _text_message(message, contacts, latest)
    except _InvalidUnitError as error:
        reason, field = error.reason, error.field
    except msgspec.ValidationError as error:
        reason, field = _describe(error)
        field = _join("messages[]", field)
    except UnicodeDecodeError:
        reason, field = "invalid_utf8", "messages[]"
    except msgspec.DecodeError:
        reason, field = "malformed_json", "messages[]"
    payload = _wrap_unit(entry_id, value, "messages", raw, contacts)
    return Rejected(_kind_of(raw), reason, field, payload)


def _text_message(message: _Message, contacts: _Contacts, latest: int) -> TextMessage:
    _check_wamid(message.id, "messages[].id")
    sent_at = _parse_timestamp(message.timestamp, "messages[].timestamp", latest)
    wa_id, bsuid = message.sender, message.from_user_id
    if wa_id is None and bsuid is None:
        raise _InvalidUnitError("missing_field", "messages[].from")
    if wa_id is not None and not is_possible_wa_id(wa_id):
        raise _InvalidUnitError("invalid_phone", "messages[].from")
    name, contact_bsuid = _match_contact(contacts, wa_id, bsuid)
    bsuid = bsuid or contact_bsuid
    _check_bsuid(bsuid, "messages[].from_user_id")
    _check_bsuid(message.from_parent_user_id, "messages[].from_parent_user_id")
    body = message.text.body if message.text is not None else ""
    if not body:
        # '' in messages.content means removed (design S1); WhatsApp sends no empty text.
        raise _InvalidUnitError("missing_field", "messages[].text.body")
    if "\0" in body:
        raise _InvalidUnitError("nul_character", "messages[].text.body")
    if len(body) > _MAX_BODY_BYTES // 4 and len(body.encode()) > _MAX_BODY_BYTES:
        raise _InvalidUnitError("too_long", "messages[].text.body")
    return TextMessage(message.id, sent_at, wa_id, bsuid, message.from_parent_user_id, name, body)


def _match_contact(
    contacts: _Contacts, wa_id: str | None, bsuid: str | None
) -> tuple[str | None, str | None]:
    """Profile name and BSUID of the sender."""
    found = contacts.find(wa_id, bsuid)
    if found is None:
        contacts.raise_unreadable()
        return None, None
    contact = found[0]
    name = contact.profile.name if contact.profile is not None else None
    return _parse_name(name), contact.user_id


def _parse_name(name: str | None) -> str | None:
    if name is None:
        return None
    if "\0" in name:
        raise _InvalidUnitError("nul_character", "contacts[].profile.name")
    name = name.strip()
    if len(name) > MAX_NAME_CHARACTERS:
        raise _InvalidUnitError("too_long", "contacts[].profile.name")
    return name or None


def _status_unit(raw: msgspec.Raw, value: _Value, entry_id: msgspec.Raw, latest: int) -> Unit:
    try:
        status = _status.decode(raw)
        _check_wamid(status.id, "statuses[].id")
        if status.status not in STATUSES or status.recipient_type == "group":
            raise _InvalidUnitError("not_yet_supported", "statuses[].status")
        status_at = _parse_timestamp(status.timestamp, "statuses[].timestamp", latest)
        category = status.pricing.category if status.pricing is not None else None
        if (
            category is not None
            and category not in _CATEGORIES
            and not _CATEGORY.fullmatch(category)
        ):
            raise _InvalidUnitError("wrong_type", "statuses[].pricing.category")
        code = status.errors[0].code if status.errors else None
        if code is not None and not 0 <= code < 2**31:
            raise _InvalidUnitError("too_long", "statuses[].errors[].code")
        attempt = status.biz_opaque_callback_data
        if attempt is not None and not _UUID.fullmatch(attempt):
            attempt = None  # not one of ours: we only ever send the UUID of an attempt
        return StatusEvent(status.id, status.status, status_at, code, category, attempt)
    except _InvalidUnitError as error:
        reason, field = error.reason, error.field
    except msgspec.ValidationError as error:
        reason, field = _describe(error)
        field = _join("statuses[]", field)
    except UnicodeDecodeError:
        reason, field = "invalid_utf8", "statuses[]"
    except msgspec.DecodeError:
        reason, field = "malformed_json", "statuses[]"
    return Rejected("status", reason, field, _wrap_unit(entry_id, value, "statuses", raw))


def _check_wamid(wamid: str, field: str) -> None:
    if not wamid:
        raise _InvalidUnitError("missing_field", field)
    if len(wamid) > MAX_WAMID_CHARACTERS:
        raise _InvalidUnitError("too_long", field)


def _check_bsuid(bsuid: str | None, field: str) -> None:
    if bsuid is not None and not _BSUID.fullmatch(bsuid):
        raise _InvalidUnitError("wrong_type", field)


def _parse_timestamp(text: str, field: str, latest: int) -> int:
    """Unix seconds as Meta sends them: a string of digits."""
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise _InvalidUnitError("invalid_timestamp", field)
    seconds = int(text)
    if seconds < _EARLIEST:
        raise _InvalidUnitError("invalid_timestamp", field)
    if seconds > latest:
        raise _InvalidUnitError("future", field)
    return seconds


def _kind_of(raw: msgspec.Raw) -> str:
    try:
        kind = _kind.decode(raw).type
    except (msgspec.DecodeError, UnicodeDecodeError):
        return "unknown"
    return kind if re.fullmatch(r"[a-z_]{1,64}", kind) else "unknown"


def _describe(error: msgspec.ValidationError) -> tuple[str, str | None]:
    """Reason and field of a validation error; msgspec names types and places, never values."""
    text = str(error)
    missing = re.match(r"Object missing required field `([A-Za-z_]+)`", text)
    place = re.search(r" - at `\$\.?([^`]*)`$", text)
    path = re.sub(r"\[\d+\]", "[]", place.group(1)) if place else ""
    path = path if re.fullmatch(r"[A-Za-z_.\[\]]*", path) else ""
    if missing:
        return "missing_field", f"{path}.{missing.group(1)}".lstrip(".")
    return "wrong_type", path or None


def _join(prefix: str, field: str | None) -> str:
    return f"{prefix}.{field}" if field else prefix


def _wrap_unit(
    entry_id: msgspec.Raw,
    value: _Value,
    name: str,
    raw: msgspec.Raw,
    contacts: _Contacts | None = None,
) -> bytes:
    """A notification that holds one unit and the contacts it needs."""
    parts: dict[str, Any] = {}
    if bytes(value.metadata):
        parts["metadata"] = value.metadata
    if contacts is not None and (kept := _kept_contacts(raw, contacts)):
        parts["contacts"] = kept
    parts[name] = [raw]
    return _wrap(entry_id, "messages", _encode(parts))


def _kept_contacts(raw: msgspec.Raw, contacts: _Contacts) -> list[msgspec.Raw]:
    try:
        sender = _sender.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return []
    return contacts.kept_for(sender)


def _wrap(entry_id: msgspec.Raw, field: str, value: bytes | msgspec.Raw) -> bytes:
    return _wrap_change(
        entry_id, msgspec.Raw(_encode({"field": field, "value": msgspec.Raw(value)}))
    )


def _wrap_change(entry_id: msgspec.Raw, change: msgspec.Raw) -> bytes:
    entry: dict[str, Any] = {"id": entry_id} if bytes(entry_id) else {}
    entry["changes"] = [change]
    return _encode({"object": WHATSAPP_OBJECT, "entry": [entry]})
