"""Webhook notifications of the WhatsApp Cloud API, from bytes to units (apis/whatsapp §3.2-3.6).

A unit is one message, one status, one other event, or one line that cannot be read: what the
balance of rule S10 counts. One bad unit never takes its neighbours with it. What a message says is
read by ``content``. No I/O here, and no decision that needs the database.
docs/inbound_records.md lists what becomes of every kind.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, Literal

import msgspec

from gatte_pipelines.inbound.content import (
    MAX_WAMID_CHARACTERS,
    READABLE_TYPES,
    InvalidFieldError,
    check_text,
    is_opt_out,
    read_content,
    read_text,
)
from gatte_pipelines.inbound.units import (
    Horizon,
    IdentityChange,
    Message,
    MessageChange,
    OptOut,
    Reaction,
    Rejected,
    Sender,
    Skipped,
    Source,
    StatusEvent,
    Unit,
)
from gatte_pipelines.phones import is_possible_wa_id, phone_key

WHATSAPP_OBJECT = "whatsapp_business_account"
# An event from later than this after as_of is not a clock that is a little off (design §2).
FUTURE_TOLERANCE_SECONDS = 600
MAX_NAME_CHARACTERS = 150  # DOC 01: users.name VARCHAR(150)
# The longest emoji of Unicode (families, flags) have some ten characters.
_MAX_EMOJI_CHARACTERS = 64
# Every quarantined unit keeps a copy of what it shares with its neighbours (metadata, a contact).
# Meta's have some hundred bytes; a hostile one times a thousand units must not fill the memory.
_MAX_KEPT_BYTES = 4096
# Meta posts at most 1,000 updates at a time.
MAX_UNITS_OF_LINE = 20_000
_MAX_KEPT_BYTES_OF_LINE = 32 * 1024 * 1024
# The copies of a shorter line together have at most some 20 MB.
_HARMLESS_BYTES = 16 * 1024
# WhatsApp is of 2009; an earlier event time is no time at all.
EARLIEST_US = 1_230_768_000_000_000
# Meta's categories of today; another one is taken where it looks like one.
_CATEGORIES = frozenset({"marketing", "utility", "authentication", "service"})
_CATEGORY = re.compile(r"[a-z_]{1,64}")
STATUSES = frozenset({"sent", "delivered", "read", "played", "failed"})

# ISO country, a dot, up to 128 alphanumerics; parents of managed businesses add "ENT." (§3.6).
BSUID = re.compile(r"[A-Z]{2}\.(?:ENT\.)?[A-Za-z0-9]{1,128}")
UUID = re.compile(r"[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}")
# An escape of what bytes that are not UTF-8 become in Python: U+DC80 to U+DCFF.
_ESCAPED = re.compile(rb"\\u[dD][cC][89a-fA-F]")
# Lists of events in the changes of other fields; a change without one is one unit.
_EVENT_LISTS = ("message_echoes", "user_id_update", "user_preferences")
# What Meta tells of the account, its numbers and templates: nothing that people wrote or chose.
ACCOUNT_FIELDS = frozenset(
    {
        "account_alerts",
        "account_review_update",
        "account_settings_update",
        "account_update",
        "business_capability_update",
        "business_status_update",
        "flows",
        "message_template_components_update",
        "message_template_quality_update",
        "message_template_status_update",
        "partner_solutions",
        "payment_configuration_update",
        "phone_number_name_update",
        "phone_number_quality_update",
        "security",
        "template_category_update",
        "template_correct_category_detection",
    }
)
_PROVIDER = Source.PROVIDER
_EMPTY = Skipped("empty_notification")
_ACCOUNT_EVENT = Skipped("account_event")
_SERVICE_ERROR = Skipped("service_error")


class _Change(msgspec.Struct, gc=False):
    field: str
    value: msgspec.Raw


class _Entry(msgspec.Struct, gc=False):
    changes: list[_Change]
    id: msgspec.Raw = msgspec.Raw()  # empty: absent (msgspec knows no optional Raw)


class _Notification(msgspec.Struct, gc=False):
    object: str
    entry: list[_Entry]


class _AnyNotification(msgspec.Struct, gc=False):
    """What a notification may be in pieces; the strings of its other fields are not looked at."""

    object: msgspec.Raw = msgspec.Raw()
    entry: msgspec.Raw = msgspec.Raw()


class _AnyEntry(msgspec.Struct, gc=False):
    changes: msgspec.Raw = msgspec.Raw()
    id: msgspec.Raw = msgspec.Raw()


class _Value(msgspec.Struct, gc=False):
    metadata: msgspec.Raw = msgspec.Raw()
    contacts: list[msgspec.Raw] | None = None
    messages: list[msgspec.Raw] | None = None
    statuses: list[msgspec.Raw] | None = None
    errors: list[msgspec.Raw] | None = None


class _MessagesChange(msgspec.Struct, gc=False):
    field: Literal["messages"]
    value: _Value


class _MessagesEntry(msgspec.Struct, gc=False):
    changes: list[_MessagesChange]
    id: msgspec.Raw = msgspec.Raw()


class _MessagesNotification(msgspec.Struct, gc=False):
    """Nearly every notification: messages and statuses, their lists in order."""

    object: Literal["whatsapp_business_account"]
    entry: list[_MessagesEntry]


class _Profile(msgspec.Struct, gc=False):
    name: str | None = None


class _Contact(msgspec.Struct, gc=False):
    profile: _Profile | None = None
    wa_id: str | None = None
    user_id: str | None = None
    parent_user_id: str | None = None


class _Text(msgspec.Struct, gc=False):
    body: str


class _Message(msgspec.Struct, gc=False, rename={"sender": "from"}):
    id: str
    timestamp: str
    type: str
    sender: str | None = None
    from_user_id: str | None = None
    from_parent_user_id: str | None = None
    group_id: str | None = None
    recipient_type: str | None = None
    text: _Text | None = None


class _Echo(msgspec.Struct, gc=False):
    id: str
    timestamp: str
    type: str
    to: str | None = None
    group_id: str | None = None
    recipient_type: str | None = None


class _ReactionPart(msgspec.Struct, gc=False):
    message_id: str
    emoji: str | None = None


class _ReactionMessage(msgspec.Struct, gc=False):
    reaction: _ReactionPart


class _Revoke(msgspec.Struct, gc=False):
    original_message_id: str


class _RevokeMessage(msgspec.Struct, gc=False):
    revoke: _Revoke


class _Edit(msgspec.Struct, gc=False):
    original_message_id: str
    message: msgspec.Raw


class _EditMessage(msgspec.Struct, gc=False):
    edit: _Edit


class _System(msgspec.Struct, gc=False):
    type: str
    wa_id: str | None = None
    user_id: str | None = None


class _SystemMessage(msgspec.Struct, gc=False):
    system: _System


class _UserIds(msgspec.Struct, gc=False):
    previous: str
    current: str


class _ParentUserIds(msgspec.Struct, gc=False):
    previous: str | None = None
    current: str | None = None


class _UserIdUpdate(msgspec.Struct, gc=False):
    user_id: _UserIds
    timestamp: str
    wa_id: str | None = None
    parent_user_id: _ParentUserIds | None = None


class _UserPreference(msgspec.Struct, gc=False):
    category: str
    value: str
    timestamp: int | str
    wa_id: str | None = None
    user_id: str | None = None
    parent_user_id: str | None = None


class _Sender(msgspec.Struct, gc=False, rename={"wa_id": "from", "bsuid": "from_user_id"}):
    wa_id: Any = None
    bsuid: Any = None


class _Kind(msgspec.Struct, gc=False):
    type: str = "unknown"


class _Typed(msgspec.Struct, gc=False):
    type: str


class _Pricing(msgspec.Struct, gc=False):
    category: str | None = None


class _StatusError(msgspec.Struct, gc=False):
    code: int | None = None


class _Status(msgspec.Struct, gc=False):
    id: str
    status: str
    timestamp: str
    recipient_type: str | None = None
    group_id: str | None = None
    pricing: _Pricing | None = None
    errors: list[_StatusError] | None = None
    biz_opaque_callback_data: str | None = None


class _Contacts:
    """The contacts of one change, read once and found by id, never by place (§3.2).

    A hostile change may hold as many contacts as messages; looking through all for each would
    never end.
    """

    __slots__ = ("_by_bsuid", "_by_wa_id", "_error", "_is_read", "_raws", "_unreadable")

    def __init__(self, raws: list[msgspec.Raw]) -> None:
        self._raws = raws
        self._is_read = False
        self._by_wa_id: dict[str, tuple[_Contact, msgspec.Raw]] = {}
        self._by_bsuid: dict[str, tuple[_Contact, msgspec.Raw]] = {}
        self._unreadable: list[msgspec.Raw] = []
        self._error: _InvalidContactError | None = None

    def find(self, wa_id: str | None, bsuid: str | None) -> tuple[_Contact, msgspec.Raw] | None:
        """The contact of a sender with its bytes; None where there is none."""
        if not self._is_read:
            self._read()
        found = None
        if wa_id is not None:
            found = self._by_wa_id.get(wa_id)
        if found is None and bsuid is not None:
            found = self._by_bsuid.get(bsuid)
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
                self._refuse(raw, _InvalidContactError(reason, _join("contacts[]", field)))
                continue
            except (msgspec.DecodeError, UnicodeDecodeError):
                self._refuse(raw, _InvalidContactError("invalid_utf8", "contacts[]"))
                continue
            found = (contact, raw)
            if contact.wa_id is not None:
                self._by_wa_id.setdefault(contact.wa_id, found)
            if contact.user_id is not None:
                self._by_bsuid.setdefault(contact.user_id, found)

    def _refuse(self, raw: msgspec.Raw, error: _InvalidContactError) -> None:
        self._unreadable.append(raw)
        self._error = error


class _InvalidContactError(InvalidFieldError):
    """Why a message cannot be kept is in the contact beside it; ``field`` is of the change."""


class _UnwantedUnitError(Exception):
    """The unit is understood and creates nothing."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


_notification = msgspec.json.Decoder(_Notification)
_any_notification = msgspec.json.Decoder(_AnyNotification)
_any_entry = msgspec.json.Decoder(_AnyEntry)
_value = msgspec.json.Decoder(_Value)
_messages_notification = msgspec.json.Decoder(_MessagesNotification)
_message = msgspec.json.Decoder(_Message)
_sender = msgspec.json.Decoder(_Sender)
_kind = msgspec.json.Decoder(_Kind)
_typed = msgspec.json.Decoder(_Typed)
_status = msgspec.json.Decoder(_Status)
_echo = msgspec.json.Decoder(_Echo)
_reaction = msgspec.json.Decoder(_ReactionMessage)
_revoke = msgspec.json.Decoder(_RevokeMessage)
_edit = msgspec.json.Decoder(_EditMessage)
_system = msgspec.json.Decoder(_SystemMessage)
_user_id_update = msgspec.json.Decoder(_UserIdUpdate)
_user_preference = msgspec.json.Decoder(_UserPreference)
_contact = msgspec.json.Decoder(_Contact)
_change = msgspec.json.Decoder(_Change)
_object = msgspec.json.Decoder(dict[str, msgspec.Raw])
_list = msgspec.json.Decoder(list[msgspec.Raw])
_list_or_none = msgspec.json.Decoder(list[msgspec.Raw] | None)
_encode = msgspec.json.Encoder().encode


def iter_units(line: bytes, horizon: Horizon) -> Iterator[Unit]:
    """Every unit of one notification, in order.

    Args:
        line: One body as Meta posted it.
        horizon: The instants between which a record creates something.
    """
    units = _iter_units(line, horizon)
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


def _iter_units(line: bytes, horizon: Horizon) -> Iterator[Unit]:
    is_empty = True
    for units in _iter_changes(line, horizon):
        for unit in units:
            is_empty = False
            yield unit
    if is_empty:
        yield _EMPTY


def _iter_changes(line: bytes, horizon: Horizon) -> Iterator[Iterator[Unit]]:
    """The units of each change; of what cannot be read change by change, one iterator."""
    try:
        # One pass where the other decoder needs two; what this one refuses, that one judges.
        usual = _messages_notification.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        pass  # judged below, in pieces
    else:
        for usual_entry in usual.entry:
            for usual_change in usual_entry.changes:
                yield _iter_value(usual_change.value, usual_entry.id, horizon)
        return
    try:
        notification = _notification.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        yield _iter_units_of_broken(line, horizon, error)
        return
    if notification.object != WHATSAPP_OBJECT:
        yield iter([Rejected("notification", "wrong_type", "object", line)])
        return
    for entry in notification.entry:
        for change in entry.changes:
            yield _iter_change(change, entry.id, horizon)


def _iter_units_of_broken(line: bytes, horizon: Horizon, error: Exception) -> Iterator[Unit]:
    """Save what can be saved of a line that the strict decoder refuses as a whole.

    A wrong type somewhere, or one string that is none, leaves the other entries and changes
    readable. The standard library reads what the strict decoder cannot even skip, where only a
    string is wrong (an unpaired surrogate); each unit is then judged on its own. A line that can be
    skipped is never written anew: what waits of it in quarantine must stay the same bytes when it
    is tried again.
    """
    pieces = line
    if not _is_json(line):
        try:
            pieces = confine_broken_strings(line)
            _notification.decode(pieces)
        except msgspec.ValidationError as wrong:
            error = wrong
        except UnicodeDecodeError:
            pass  # in the name of a change: the others are readable
        except (ValueError, RecursionError, msgspec.DecodeError):
            yield _rejected_line(line, error)
            return
        else:
            yield from _iter_units(pieces, horizon)
            return
    yield from _iter_pieces(pieces, horizon, _rejected_line(line, error))


def _is_json(line: bytes) -> bool:
    try:
        _any_notification.decode(line)
    except msgspec.ValidationError:
        return True
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return True


def confine_broken_strings(line: bytes) -> bytes:
    """The same JSON, its broken strings still broken, but only inside the strings of their unit."""
    document = json.loads(line.decode("utf-8", "surrogateescape"))
    text = json.dumps(document, ensure_ascii=False, separators=(",", ":"))
    if not _ESCAPED.search(line):
        with suppress(UnicodeEncodeError):  # a surrogate that stands for no byte
            return text.encode("utf-8", "surrogateescape")
    # An escaped surrogate must not turn into the byte for which surrogateescape would take it.
    return text.encode("utf-8", "surrogatepass")


def _iter_pieces(line: bytes, horizon: Horizon, refused: Rejected) -> Iterator[Unit]:
    """Judge each entry and each change on its own; ``refused`` where that finds nothing."""
    count = 0
    for unit in _iter_entries(line, horizon):
        count += 1
        yield unit
    if not count:
        yield refused


def _iter_entries(line: bytes, horizon: Horizon) -> Iterator[Unit]:
    try:
        whole = _any_notification.decode(line)
        if msgspec.json.decode(whole.object) != WHATSAPP_OBJECT:
            return
        entries = _list.decode(whole.entry)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return
    for raw in entries:
        try:
            parts = _any_entry.decode(raw)
            changes = _list.decode(parts.changes)
        except (msgspec.DecodeError, UnicodeDecodeError):
            payload = _encode({"object": WHATSAPP_OBJECT, "entry": [raw]})
            yield Rejected("entry", "wrong_type", "entry[].changes", payload)
            continue
        for change_raw in changes:
            try:
                change = _change.decode(change_raw)
            except (msgspec.DecodeError, UnicodeDecodeError) as problem:
                rejected = _rejected_line(b"", problem)
                field = _join("entry[].changes[]", rejected.field)
                yield Rejected("change", rejected.reason, field, _wrap_change(parts.id, change_raw))
            else:
                yield from _iter_change(change, parts.id, horizon)


def _rejected_line(line: bytes, error: Exception) -> Rejected:
    if isinstance(error, msgspec.ValidationError):
        reason, field = _describe(error)
        return Rejected("notification", reason, field, line)
    if isinstance(error, UnicodeDecodeError):
        return Rejected("notification", "invalid_utf8", None, line)
    return Rejected("notification", "malformed_json", None, line)


def _iter_change(change: _Change, entry_id: msgspec.Raw, horizon: Horizon) -> Iterator[Unit]:
    if change.field != "messages":
        return _iter_other_field(change, entry_id, horizon)
    try:
        value = _value.decode(change.value)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        return _iter_lists(change, entry_id, horizon, error)
    return _iter_value(value, entry_id, horizon)


def _iter_value(value: _Value, entry_id: msgspec.Raw, horizon: Horizon) -> Iterator[Unit]:
    if value.messages:
        contacts = _Contacts(value.contacts or [])
        events = _Events("messages", "messages", entry_id, value.metadata, horizon, contacts)
        for raw in value.messages:
            yield _read_unit(_read_message, raw, events)
    if value.statuses:
        events = _Events("messages", "statuses", entry_id, value.metadata, horizon)
        for raw in value.statuses:
            yield _read_unit(_read_status, raw, events)
    for _ in value.errors or ():
        yield _SERVICE_ERROR


def _iter_lists(
    change: _Change, entry_id: msgspec.Raw, horizon: Horizon, error: Exception
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
    yield from _iter_value(value, entry_id, horizon)


def _iter_other_field(change: _Change, entry_id: msgspec.Raw, horizon: Horizon) -> Iterator[Unit]:
    if change.field in ACCOUNT_FIELDS:
        yield _ACCOUNT_EVENT
    elif change.field in _EVENT_FIELDS:
        yield from _iter_events(change, entry_id, horizon)
    else:
        yield from _iter_unknown_field(change, entry_id)


def _iter_events(change: _Change, entry_id: msgspec.Raw, horizon: Horizon) -> Iterator[Unit]:
    """The events of a field that has one list of them, each judged on its own."""
    name, read = _EVENT_FIELDS[change.field]
    reason, field = "wrong_type", "value"
    try:
        parts = _object.decode(change.value)
        field = f"value.{name}"
        # Under another name than Meta's the events would vanish unseen; null is an empty list.
        reason = "wrong_type" if name in parts else "missing_field"
        raws = _list_or_none.decode(parts.get(name, b""))
    except (msgspec.DecodeError, UnicodeDecodeError):
        payload = _wrap(entry_id, change.field, change.value)
        yield Rejected(change.field, reason, field, payload)
        return
    metadata = parts.get("metadata", msgspec.Raw())
    events = _Events(change.field, name, entry_id, metadata, horizon)
    for raw in raws or ():
        yield _read_unit(read, raw, events)


def _iter_unknown_field(change: _Change, entry_id: msgspec.Raw) -> Iterator[Unit]:
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


class _Events(msgspec.Struct, gc=False):
    """One list of events of a change, and what a quarantined one keeps of its surroundings."""

    field: str
    name: str
    entry_id: msgspec.Raw
    metadata: msgspec.Raw
    horizon: Horizon
    contacts: _Contacts | None = None

    def reject(self, raw: msgspec.Raw, reason: str, field: str | None) -> Rejected:
        """Give the unit's quarantine record: a notification that holds nothing but this unit."""
        parts: dict[str, Any] = {}
        if 0 < len(bytes(self.metadata)) <= _MAX_KEPT_BYTES:
            parts["metadata"] = self.metadata
        if self.contacts is not None and (kept := _kept_contacts(raw, self.contacts)):
            parts["contacts"] = kept
        parts[self.name] = [raw]
        payload = _wrap(self.entry_id, self.field, _encode(parts))
        return Rejected(self._kind_of(raw), reason, field, payload)

    def place(self, field: str | None) -> str:
        """Where in the change a field of one of these events is."""
        return _join(f"{self.name}[]", field)

    def _kind_of(self, raw: msgspec.Raw) -> str:
        if self.name == "messages":
            return _kind_of(raw)
        return "status" if self.name == "statuses" else self.field


_Reader = Callable[[msgspec.Raw, _Events], Unit]


def _read_unit(read: _Reader, raw: msgspec.Raw, events: _Events) -> Unit:
    """Read one unit; whatever is wrong with it becomes a reason and a field, here and nowhere else.

    Readers raise what ``msgspec`` raises, ``InvalidFieldError`` or ``_UnwantedUnitError``.
    """
    try:
        return read(raw, events)
    except _UnwantedUnitError as unwanted:
        return Skipped(unwanted.reason)
    except _InvalidContactError as error:
        reason, field = error.reason, error.field
    except InvalidFieldError as error:
        reason, field = error.reason, events.place(error.field)
    except msgspec.ValidationError as error:
        reason, within = _describe(error)
        field = events.place(within)
    except UnicodeDecodeError:
        reason, field = "invalid_utf8", events.place(None)
    except msgspec.DecodeError:
        reason, field = "malformed_json", events.place(None)
    return events.reject(raw, reason, field)


def _read_message(raw: msgspec.Raw, events: _Events) -> Unit:
    message = _message.decode(raw)
    sent_us = _check_record(message, events.horizon)
    kind = message.type
    if kind == "text":
        sender = _read_sender(message, events.contacts)
        text, button = read_text(message.text.body if message.text is not None else ""), None
        opts_out = is_opt_out(text)
    elif kind in READABLE_TYPES:
        sender = _read_sender(message, events.contacts)
        (text, button), opts_out = read_content(kind, raw), False
    elif kind in _CHANGE_READERS:
        return _CHANGE_READERS[kind](raw, message.id, sent_us)
    elif kind == "reaction":
        return _read_reaction(raw, message.id, sent_us)
    elif kind == "system":
        return _read_system(raw, message, sent_us)
    else:
        raise InvalidFieldError("not_yet_supported", "type")
    key = f"wamid:{message.id}"
    return Message(key, _PROVIDER, sent_us, sender, "user", text, "client", None, button, opts_out)


def _read_echo(raw: msgspec.Raw, events: _Events) -> Unit:
    """What a person of ours wrote in the WhatsApp Business app."""
    echo = _echo.decode(raw)
    sent_us = _check_record(echo, events.horizon)
    if echo.type in _CHANGE_READERS:
        return _CHANGE_READERS[echo.type](raw, echo.id, sent_us)
    if echo.type not in READABLE_TYPES:
        raise InvalidFieldError("not_yet_supported", "type")
    if echo.to is None:
        raise InvalidFieldError("missing_field", "to")
    return Message(
        key=f"wamid:{echo.id}",
        source=_PROVIDER,
        sent_us=sent_us,
        sender=Sender(phone=_read_phone(echo.to, "to")),
        role="assistant",
        content=read_content(echo.type, raw).text,
        author="human",
    )


def _read_edit(raw: msgspec.Raw, wamid: str, changed_us: int) -> Unit:
    edit = _edit.decode(raw).edit
    _check_wamid(edit.original_message_id, "edit.original_message_id")
    try:
        kind = _typed.decode(edit.message).type
        if kind not in READABLE_TYPES:
            raise InvalidFieldError("not_yet_supported", "type")
        text = read_content(kind, edit.message).text
    except msgspec.ValidationError as error:
        reason, field = _describe(error)
        raise InvalidFieldError(reason, _join("edit.message", field)) from error
    except InvalidFieldError as error:
        raise InvalidFieldError(error.reason, f"edit.message.{error.field}") from error
    return MessageChange(wamid, edit.original_message_id, changed_us, text)


def _read_revoke(raw: msgspec.Raw, wamid: str, changed_us: int) -> Unit:
    target = _revoke.decode(raw).revoke.original_message_id
    _check_wamid(target, "revoke.original_message_id")
    return MessageChange(wamid, target, changed_us, None)


_CHANGE_READERS: dict[str, Callable[[msgspec.Raw, str, int], Unit]] = {
    "edit": _read_edit,
    "revoke": _read_revoke,
}


def _read_reaction(raw: msgspec.Raw, wamid: str, reacted_us: int) -> Reaction:
    reaction = _reaction.decode(raw).reaction
    _check_wamid(reaction.message_id, "reaction.message_id")
    emoji = check_text(reaction.emoji or "", "reaction.emoji")
    if len(emoji) > _MAX_EMOJI_CHARACTERS:
        raise InvalidFieldError("too_long", "reaction.emoji")
    return Reaction(wamid, reaction.message_id, reacted_us, emoji or None)


def _read_system(raw: msgspec.Raw, message: _Message, changed_us: int) -> IdentityChange:
    system = _system.decode(raw).system
    if system.type == "customer_identity_changed":
        raise _UnwantedUnitError("security_code")
    if system.type not in {"user_changed_number", "user_changed_user_id"}:
        raise InvalidFieldError("not_yet_supported", "system.type")
    old = Sender(
        wa_id=_read_phone(message.sender, "from"),
        bsuid=_read_bsuid(message.from_user_id, "from_user_id"),
    )
    new = Sender(
        wa_id=_read_phone(system.wa_id, "system.wa_id"),
        bsuid=_read_bsuid(system.user_id, "system.user_id"),
    )
    if not (old.wa_id or old.bsuid):
        raise InvalidFieldError("missing_field", "from")
    if not (new.wa_id or new.bsuid):
        raise InvalidFieldError("missing_field", "system.wa_id")
    # The same number with and without the ninth digit was given up by nobody.
    moves_number = (
        system.type == "user_changed_number"
        and bool(new.wa_id)
        and not (old.wa_id and phone_key(old.wa_id) == phone_key(new.wa_id))
    )
    return IdentityChange(f"wamid:{message.id}", changed_us, old, new, moves_number)


def _read_user_id_update(raw: msgspec.Raw, events: _Events) -> IdentityChange:
    update = _user_id_update.decode(raw)
    changed_us = _parse_timestamp(update.timestamp, events.horizon)
    ids, parents = update.user_id, update.parent_user_id or _ParentUserIds()
    for name, bsuid in (("previous", ids.previous), ("current", ids.current)):
        if not bsuid:
            raise InvalidFieldError("missing_field", f"user_id.{name}")
    old = Sender(
        bsuid=_read_bsuid(ids.previous, "user_id.previous"),
        parent_bsuid=_read_bsuid(parents.previous, "parent_user_id.previous"),
    )
    new = Sender(
        wa_id=_read_phone(update.wa_id, "wa_id"),
        bsuid=_read_bsuid(ids.current, "user_id.current"),
        parent_bsuid=_read_bsuid(parents.current, "parent_user_id.current"),
    )
    key = f"user_id_update:{old.bsuid}:{new.bsuid}:{changed_us // 1_000_000}"
    return IdentityChange(key, changed_us, old, new, moves_number=False)


def _read_user_preference(raw: msgspec.Raw, events: _Events) -> OptOut:
    preference = _user_preference.decode(raw)
    chosen_us = _parse_timestamp(str(preference.timestamp), events.horizon)
    sender = Sender(
        wa_id=_read_phone(preference.wa_id, "wa_id"),
        bsuid=_read_bsuid(preference.user_id, "user_id"),
        parent_bsuid=_read_bsuid(preference.parent_user_id, "parent_user_id"),
    )
    if not (sender.wa_id or sender.bsuid):
        raise InvalidFieldError("missing_field", "wa_id")
    category, value = preference.category, preference.value
    if not _CATEGORY.fullmatch(category):
        raise InvalidFieldError("wrong_type", "category")
    if value not in {"stop", "resume"}:
        raise InvalidFieldError("not_yet_supported", "value")
    who = sender.wa_id or sender.bsuid
    key = f"user_preferences:{who}:{category}:{chosen_us // 1_000_000}:{value}"
    return OptOut(key, chosen_us, sender, category, is_opted_out=value == "stop")


# The fields besides ``messages`` that tell of people: the list of their events, and its reader.
_EVENT_FIELDS: dict[str, tuple[str, _Reader]] = {
    "smb_message_echoes": ("message_echoes", _read_echo),
    "user_id_update": ("user_id_update", _read_user_id_update),
    "user_preferences": ("user_preferences", _read_user_preference),
}


def _read_sender(message: _Message, contacts: _Contacts | None) -> Sender:
    wa_id, bsuid = message.sender, message.from_user_id
    if wa_id is None and not bsuid:
        raise InvalidFieldError("missing_field", "from")
    if wa_id is not None and not is_possible_wa_id(wa_id):
        raise InvalidFieldError("invalid_phone", "from")
    parent_bsuid, name = message.from_parent_user_id, ""
    found = contacts.find(wa_id, bsuid) if contacts is not None else None
    if found is None:
        if contacts is not None:
            contacts.raise_unreadable()
    else:
        contact = found[0]
        name = _read_name(contact.profile)
        bsuid = bsuid or contact.user_id
        parent_bsuid = parent_bsuid or contact.parent_user_id
    bsuid = _read_bsuid(bsuid, "from_user_id") if bsuid else ""
    parent_bsuid = _read_bsuid(parent_bsuid, "from_parent_user_id") if parent_bsuid else ""
    # What Sender(…) does; its own __new__ takes twice as long, once for every message.
    return tuple.__new__(Sender, (wa_id or "", "", bsuid, parent_bsuid, name, ""))


def _read_name(profile: _Profile | None) -> str:
    if profile is None or profile.name is None:
        return ""
    name = profile.name
    if "\0" in name:
        raise _InvalidContactError("nul_character", "contacts[].profile.name")
    name = name.strip()
    if len(name) > MAX_NAME_CHARACTERS:
        raise _InvalidContactError("too_long", "contacts[].profile.name")
    return name


def _read_status(raw: msgspec.Raw, events: _Events) -> StatusEvent:
    status = _status.decode(raw)
    status_us = _check_record(status, events.horizon)
    if status.status not in STATUSES:
        raise InvalidFieldError("not_yet_supported", "status")
    category = status.pricing.category if status.pricing is not None else None
    if category is not None and category not in _CATEGORIES and not _CATEGORY.fullmatch(category):
        raise InvalidFieldError("wrong_type", "pricing.category")
    code = status.errors[0].code if status.errors else None
    if code is not None and not 0 <= code < 2**31:
        raise InvalidFieldError("too_long", "errors[].code")
    attempt = status.biz_opaque_callback_data
    if attempt is not None and not UUID.fullmatch(attempt):
        attempt = None  # not one of ours: we only ever send the UUID of an attempt
    return StatusEvent(status.id, status.status, status_us // 1_000_000, code, category, attempt)


def _check_record(record: _Message | _Echo | _Status, horizon: Horizon) -> int:
    """Check what every message and status has; give its instant in microseconds."""
    if record.group_id is not None or record.recipient_type == "group":
        raise _UnwantedUnitError("group")
    _check_wamid(record.id, "id")
    return _parse_timestamp(record.timestamp, horizon)


def _check_wamid(wamid: str, field: str) -> None:
    if not wamid:
        raise InvalidFieldError("missing_field", field)
    if len(wamid) > MAX_WAMID_CHARACTERS:
        raise InvalidFieldError("too_long", field)


def _read_bsuid(bsuid: str | None, field: str) -> str:
    if not bsuid:
        return ""
    if not BSUID.fullmatch(bsuid):
        raise InvalidFieldError("wrong_type", field)
    return bsuid


def _read_phone(wa_id: str | None, field: str) -> str:
    if wa_id is None:
        return ""
    if not is_possible_wa_id(wa_id):
        raise InvalidFieldError("invalid_phone", field)
    return wa_id


def _parse_timestamp(text: str, horizon: Horizon) -> int:
    """Unix seconds as Meta sends them, a string of digits; in microseconds."""
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise InvalidFieldError("invalid_timestamp", "timestamp")
    at_us = int(text) * 1_000_000
    if at_us < EARLIEST_US:
        raise InvalidFieldError("invalid_timestamp", "timestamp")
    if at_us > horizon.latest_us:
        raise InvalidFieldError("future", "timestamp")
    if reason := horizon.skip_reason(at_us):
        raise _UnwantedUnitError(reason)
    return at_us


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
