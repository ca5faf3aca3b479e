"""What of an inbound line is a subject's: found, and cut out of the line.

Pure. Which lines there are, and where they are written, belongs to ``erasure``. A person is looked
for in the bytes, in every way in which their keys may be written, and not in the fields that the
decoders read: what no decoder knows yet holds people too.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import msgspec

from gatte_pipelines.inbound.chatbot_events import is_chatbot_event
from gatte_pipelines.inbound.envelope import confine_broken_strings
from gatte_pipelines.inbound.ids import MessageIds
from gatte_pipelines.personal_data import SubjectKeys
from gatte_pipelines.sync.webhooks import name_records

# As people write numbers: spaces, hyphens and brackets between the digits.
_SEPARATORS = b" \t().+/-"
_WIDE_SEPARATORS = rb"\xc2\xa0|\xe2\x80[\x80-\x95\xaf]|\xe2\x81\xa0|\xe2\x88\x92"
_BETWEEN = rb"(?:[ \t().+/-]|" + _WIDE_SEPARATORS + rb"){0,3}"
# Between the area code and a number of eight digits something must stand: ten digits in a row may
# as well be an instant (Unix seconds begin with 17, an area code).
_APART = _BETWEEN.replace(b"{0,3}", b"{1,3}")
_NOT_DIGITS = _SEPARATORS + bytes(range(128, 256))
_BRAZIL = re.compile(r"55([1-9][0-9])([0-9]{8,9})")
_LONG_NATIONAL = 11

_ESCAPE = re.compile(rb"\\(?:u([0-9a-fA-F]{4})|(.))", re.DOTALL)
_ESCAPED = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"b": b"\n", b"f": b"\n"}

_BASE64 = re.compile(rb"[A-Za-z0-9+/_-]{8,}")
_BASE64_GROUP = 4
# Where messages are named: by id, message_id, original_message_id, wamid and external_id. Both
# patterns begin with plain letters, which makes looking for them cheap.
_IDS = re.compile(rb'id"\s*:\s*"([^"\\]*(?:\\.[^"\\]*)*)"', re.DOTALL)
_WAMIDS = re.compile(rb"wamid\.[A-Za-z0-9+/=_-]+")
_CHATBOTS = b"external_"
_BEFORE_ID = (b'"', b"message_", b"wam", _CHATBOTS)
# What says whose a record is: of a message or contact the sender, of what we sent (it has one of
# the second) whom it went to.
_SENDERS = frozenset(
    {"from", "from_user_id", "from_parent_user_id", "wa_id", "user_id", "parent_user_id"}
)
_RECIPIENTS = frozenset({"to", "recipient_id", "recipient_user_id", "recipient_parent_user_id"})
# Ours in every notification: the number that people write to, and what Meta calls it.
_OURS = frozenset({"metadata", "messaging_product"})
# In every webhook of the CRM.
_CRM_MARK = b'"entity"'

_object = msgspec.json.Decoder(dict[str, msgspec.Raw])
_list = msgspec.json.Decoder(list[msgspec.Raw])
_any_object = msgspec.json.Decoder(dict[str, Any])
_encode = msgspec.json.Encoder().encode
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


# The end of a name: an e-mail before it would go on.
_KIND_OF_FILE = re.compile(r"\.jsonl?(?:\.gz)?$")


class Cut(NamedTuple):
    """A line without its subject.

    Attributes:
        kept: What remains, without a line end; None where nothing does.
        removed: The subject's records: messages, statuses, contacts, or the whole line.
    """

    kept: bytes | None
    removed: list[bytes]


class Subject:
    """One person, as inbound lines name them.

    Args:
        keys: What the person is known by.
        ids: Mints message ids, to know the person's messages by the provider's id.
    """

    def __init__(self, keys: SubjectKeys, ids: MessageIds) -> None:
        self._ids = ids
        self._message_ids = {_plain(message_id) for message_id in keys.message_ids}
        phones = sorted(filter(None, keys.phones))
        self._phone_cores = sorted({_core(phone).encode() for phone in phones})
        self._phone = _either(pattern for phone in phones for pattern in _written_phone(phone))
        self._whole_phones = [phone.encode() for phone in phones if len(phone) >= _LONG_NATIONAL]
        self._encoded_phones = sorted({core for phone in phones for core in _encoded(phone)})
        self._decoded_phone = _either(
            rb"(?<![0-9])" + phone.encode() + rb"(?![0-9])" for phone in phones
        )
        # Each is looked for as it is before the pattern says whether it stands alone.
        self._bsuids = [bsuid.encode() for bsuid in sorted(filter(None, keys.bsuids))]
        self._bsuid = _either(
            rb"(?<![A-Za-z0-9.])" + re.escape(bsuid) + rb"(?![A-Za-z0-9])" for bsuid in self._bsuids
        )
        self._emails = [email.lower().encode() for email in sorted(filter(None, keys.emails))]
        self._email = _either(
            rb"(?<![a-z0-9._%+-])" + re.escape(email) + rb"(?![a-z0-9-]|\.[a-z0-9])"
            for email in self._emails
        )
        self._row_ids = [
            _plain(row_id).encode() for row_id in sorted(keys.user_ids | keys.lead_ids)
        ]
        self._crm_records = keys.crm_records

    def is_named_in(self, raw: bytes) -> bool:
        """Whether bytes, of JSON or not, hold one of the keys, however it is written.

        Numbers with and without country code, "+", spaces, hyphens or brackets; anything that JSON
        can escape; the number inside a provider's message id; and the ids of the person's messages.
        """
        text = _unescape(raw) if b"\\" in raw else raw
        return (
            self._has_phone(text)
            or _is_in(text, self._bsuids, self._bsuid)
            or self._has_lowered(text)
            or self._has_message(raw)
            or (text is not raw and self._has_message(text))
        )

    def is_in_name(self, name: str) -> bool:
        """Whether a file's name holds one of the keys; numbers among whatever stands in a name."""
        text = _KIND_OF_FILE.sub("", name).encode().replace(b"_", b"-")
        digits = bytes(byte for byte in text if byte in b"0123456789")
        return any(phone in digits for phone in self._whole_phones) or self.is_named_in(text)

    @property
    def phone_cores(self) -> list[str]:
        """For each number the digits without which no text holds it, in any way to write it."""
        return [core.decode() for core in self._phone_cores]

    def cut(self, line: bytes) -> Cut | None:
        """Take the person out of a line; None where they are not in it.

        A webhook of the CRM is about one record, and goes as a whole: the sync reads that record
        again anyway.

        Args:
            line: One body of a webhook or one event, without its line end.
        """
        if not self.is_named_in(line):
            return Cut(None, [line]) if self._is_about_record(line) else None
        if is_chatbot_event(line):
            return Cut(None, [line])
        for pieces in _readable(line):
            cut = self._cut_notification(pieces)
            if cut is not None:
                return cut if cut.removed else None
        return Cut(None, [line])

    def _is_about_record(self, line: bytes) -> bool:
        """Whether it is a webhook of the CRM about a record of the person's.

        It need not say a number or an address: a deal has a title, and the id of its person.
        """
        if not self._crm_records or _CRM_MARK not in line:
            return False
        try:
            event = _any_object.decode(line)
        except _UNREADABLE:
            return False
        return not self._crm_records.isdisjoint(name_records(event))

    # --- Bytes -----------------------------------------------------------------------------------

    def _has_phone(self, text: bytes) -> bool:
        if self._phone is None:
            return False
        # Looked for without what may stand between the digits: far cheaper than the pattern.
        digits = text.translate(None, _NOT_DIGITS)
        if any(core in digits for core in self._phone_cores) and self._phone.search(text):
            return True
        return any(core in text for core in self._encoded_phones) and any(
            self._is_encoded_in(found[0]) for found in _BASE64.finditer(text)
        )

    def _is_encoded_in(self, text: bytes) -> bool:
        """Whether base64, which may begin after something else, holds one of the numbers."""
        assert self._decoded_phone is not None  # noqa: S101 - see _has_phone
        if not any(core in text for core in self._encoded_phones):
            return False
        text = text.translate(bytes.maketrans(b"-_", b"+/"))
        for skipped in range(_BASE64_GROUP):
            part = text[skipped:]
            part = part[: len(part) - 1] if len(part) % _BASE64_GROUP == 1 else part
            try:
                decoded = base64.b64decode(part + b"=" * (-len(part) % _BASE64_GROUP))
            except binascii.Error:
                continue
            if self._decoded_phone.search(decoded):
                return True
        return False

    def _has_lowered(self, text: bytes) -> bool:
        if not (self._emails or self._row_ids):
            return False
        lowered = text.lower()
        if _is_in(lowered, self._emails, self._email):
            return True
        plain = lowered.translate(None, b"-")
        return any(row_id in plain for row_id in self._row_ids)

    def _has_message(self, text: bytes) -> bool:
        if not self._message_ids:
            return False
        wamids = set(_WAMIDS.findall(text))
        for match in _IDS.finditer(text):
            if not text.endswith(_BEFORE_ID, 0, match.start()):
                continue  # a number's, a person's
            told = match[1]
            if b"\\" in told:
                told = _unescape(told)
            if text.endswith(_CHATBOTS, 0, match.start()):
                key = f"chatbot:{told.decode(errors='replace')}"
                if self._ids.of_key(key) in self._message_ids:
                    return True
            else:
                wamids.add(told)
        mint = self._ids.of_wamid
        return any(mint(wamid.decode(errors="replace")) in self._message_ids for wamid in wamids)

    # --- Notifications ---------------------------------------------------------------------------

    def _cut_notification(self, line: bytes) -> Cut | None:
        """Cut entry by entry; None where the line is no notification."""
        try:
            whole = _object.decode(line)
            entries = _list.decode(whole["entry"])
        except (KeyError, *_UNREADABLE):
            return None
        removed: list[bytes] = []
        kept = [part for raw in entries if (part := self._cut_entry(raw, removed)) is not None]
        rest = self._cut_fields(whole, {"entry"}, removed)
        if entries and not kept:
            return Cut(None, removed)
        return Cut(_encode(rest | {"entry": kept}), removed)

    def _cut_entry(self, raw: msgspec.Raw, removed: list[bytes]) -> msgspec.Raw | None:
        if not self.is_named_in(bytes(raw)):
            return raw
        try:
            parts = _object.decode(raw)
            changes = _list.decode(parts["changes"])
        except (KeyError, *_UNREADABLE):
            removed.append(bytes(raw))
            return None
        count = len(removed)
        kept = [part for change in changes if (part := self._cut_change(change, removed))]
        rest = self._cut_fields(parts, {"changes", "id"}, removed)
        if len(removed) == count:
            return raw
        return msgspec.Raw(_encode(rest | {"changes": kept})) if kept else None

    def _cut_change(self, raw: msgspec.Raw, removed: list[bytes]) -> msgspec.Raw | None:
        if not self.is_named_in(bytes(raw)):
            return raw
        try:
            change = _object.decode(raw)
            value = _object.decode(change["value"])
            lists = {name: _list.decode(part) for name, part in value.items() if _is_list(part)}
        except (KeyError, *_UNREADABLE):
            removed.append(bytes(raw))
            return None
        count = len(removed)
        fields = {name: part for name, part in value.items() if name not in lists}
        kept: dict[str, Any] = self._cut_fields(fields, _OURS, removed)
        for name, items in self._cut_lists(lists, removed).items():
            if items:
                kept[name] = items
        rest = self._cut_fields(change, {"value"}, removed)
        if len(removed) == count:
            return raw
        # A name beside no message of its own is nobody's record.
        if not kept.keys() - _OURS - {"contacts"} or "field" not in rest:
            return None
        return msgspec.Raw(_encode(rest | {"value": kept}))

    def _cut_lists(
        self, lists: dict[str, list[msgspec.Raw]], removed: list[bytes]
    ) -> dict[str, list[msgspec.Raw]]:
        """The records of others, by list.

        Records may name their sender only by what another one beside them, such as the contact,
        says to be the subject's too.
        """
        records = [_Record(name, raw) for name, raws in lists.items() for raw in raws]
        named = [self.is_named_in(bytes(record.raw)) for record in records]
        theirs: set[str] = set()
        for is_named, record in zip(named, records, strict=True):
            # Whoever only speaks of the subject is somebody else.
            if is_named and self.is_named_in(_encode([*record.people, {"id": record.id}])):
                theirs |= record.people
        while more := [
            record.people
            for record in records
            if not theirs.isdisjoint(record.people) and not theirs >= record.people
        ]:
            theirs.update(*more)
        kept: dict[str, list[msgspec.Raw]] = {name: [] for name in lists}
        for is_named, record in zip(named, records, strict=True):
            if is_named or not theirs.isdisjoint(record.people):
                removed.append(bytes(record.raw))
            else:
                kept[record.list_name].append(record.raw)
        return kept

    def _cut_fields(
        self, parts: dict[str, msgspec.Raw], but: Iterable[str], removed: list[bytes]
    ) -> dict[str, Any]:
        """The fields that do not name the subject, and those of ``but`` whatever they say."""
        kept: dict[str, Any] = {}
        for name, raw in parts.items():
            if name in but or not self.is_named_in(_encode({name: raw})):
                kept[name] = raw
            else:
                removed.append(bytes(raw))
        return kept


def _readable(line: bytes) -> Iterator[bytes]:
    """The line, and, where the strict decoder refuses it, what the decoders make of it."""
    yield line
    try:
        yield confine_broken_strings(line)
    except (ValueError, RecursionError):
        return


class _Record:
    """One item of a list: whose it says that it is, and its own id."""

    __slots__ = ("id", "list_name", "people", "raw")

    def __init__(self, list_name: str, raw: msgspec.Raw) -> None:
        self.list_name, self.raw = list_name, raw
        try:
            parts = _any_object.decode(raw)
        except _UNREADABLE:
            parts = {}
        names = _SENDERS if _RECIPIENTS.isdisjoint(parts) else _RECIPIENTS
        said = (parts.get(name) for name in names)
        self.people = {value for value in said if isinstance(value, str) and value}
        self.id = own if isinstance(own := parts.get("id"), str) else ""


def _is_list(raw: msgspec.Raw) -> bool:
    return bytes(memoryview(raw)[:1]) == b"["


def _unescape(text: bytes) -> bytes:
    """Undo the escapes of JSON, in bytes that need not be JSON."""
    return _ESCAPE.sub(_unescaped, text)


def _unescaped(match: re.Match[bytes]) -> bytes:
    code, character = match.groups()
    if code is not None:
        return chr(int(code, 16)).encode("utf-8", "replace")
    return _ESCAPED.get(character, character)


def _is_in(text: bytes, keys: list[bytes], pattern: re.Pattern[bytes] | None) -> bool:
    return any(key in text for key in keys) and bool(pattern and pattern.search(text))


def _either(patterns: Iterable[bytes]) -> re.Pattern[bytes] | None:
    """One pattern for all; None where there is none, since an empty one is found everywhere."""
    found = list(patterns)
    return re.compile(b"|".join(found)) if found else None


def _plain(uuid: str) -> str:
    return uuid.replace("-", "").lower()


def _core(phone: str) -> str:
    """The digits that stand in every way to write a number."""
    national = _BRAZIL.fullmatch(phone)
    return national[1] + national[2] if national else phone


def _written_phone(phone: str) -> Iterator[bytes]:
    """Patterns of a number as people and programs write it: whole, and without its country."""
    yield rb"(?<![0-9])0{0,3}" + _spaced(phone) + rb"(?![0-9])"
    national = _BRAZIL.fullmatch(phone)
    if national is None:
        return
    area, number = national[1], national[2]
    between = _BETWEEN if len(area + number) == _LONG_NATIONAL else _APART
    yield rb"(?<![0-9])0?" + _spaced(area) + between + _spaced(number) + rb"(?![0-9])"


def _spaced(digits: str) -> bytes:
    return _BETWEEN.join(digit.encode() for digit in digits)


def _encoded(phone: str) -> Iterator[bytes]:
    """What base64 makes of a number, wherever in its groups of three bytes it begins."""
    digits = phone.encode()
    for before in range(3):
        text = base64.b64encode(b"\0" * before + digits + b"\0" * 3)
        # Only the characters of which all six bits are the number's.
        first = -(-before * 8 // 6)
        last = (before + len(digits)) * 8 // 6
        core = text[first:last]
        yield core
        yield core.translate(bytes.maketrans(b"+/", b"-_"))
