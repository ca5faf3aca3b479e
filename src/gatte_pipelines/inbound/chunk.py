"""What one transaction loads: units collected, senders grouped and all written as COPY text.

Pure: the bytes are made here, sent by ``merge``. No SQL here.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from functools import lru_cache
from typing import Any

from gatte_pipelines.inbound.ids import MessageIds, draw_uuids
from gatte_pipelines.inbound.units import (
    ConversationEvent,
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
    Told,
    Unit,
)
from gatte_pipelines.phones import bsuid_placeholder, forms, phone_key, to_phone

_NULL = r"\N"
_ESCAPES = str.maketrans({"\\": r"\\", "\t": r"\t", "\n": r"\n", "\r": r"\r"})
_SECOND_US = 1_000_000
_PROVIDER = Source.PROVIDER
# Formatting a member of an enumeration, row by row, is slow.
_SOURCES = {source: str(source.value) for source in Source}
_WAMID = "wamid:"
# Most people of a chunk wrote in the one before it too.
_REMEMBERED_PHONES = 1 << 14
_NEVER = 2**63

# Enough for a person to see what is wrong with a file; all of them stand in the quarantine.
MAX_REJECTIONS_TOLD = 5
# Told one by one, what every file may hold would hide what is broken.
_EXPECTED = "not_yet_supported"


def _escape(text: str) -> str:
    """A value of PostgreSQL's COPY text format."""
    # Looking first is far cheaper than translating, and most texts have none of the four.
    if "\n" in text or "\\" in text or "\t" in text or "\r" in text:
        return text.translate(_ESCAPES)
    return text


def _text_or_null(text: str | None) -> str:
    return _NULL if text is None else _escape(text)


class _Writer:
    """One sender within a chunk: its identities, and when it was seen."""

    __slots__ = ("client_us", "first_us", "key", "keys", "number", "said_id", "said_us")

    def __init__(self, number: int, key: str, keys: list[tuple[str, str]], first_us: int) -> None:
        self.number, self.key, self.keys = number, key, keys
        self.first_us = first_us
        self.client_us = 0
        self.said_us, self.said_id = 0, ""


class Chunk:
    """Collects the units of some lines of one file.

    Args:
        ids: Mints the message ids.
        batch_id: Id of the file, for quarantine rows.
        source_name: Its name, for quarantine rows.
        erased: Ids (32 hexadecimal digits) of erased subjects' records, which create nothing, and
            nor does what refers to them.
    """

    def __init__(
        self,
        ids: MessageIds,
        batch_id: str,
        source_name: str,
        erased: Collection[str] = frozenset(),
    ) -> None:
        self._ids, self.batch_id, self.source_name = ids, batch_id, source_name
        self._erased = erased
        # Edits of erased messages, by their own id: an edit of one of these is no less erased.
        self.erased_edits: dict[str, str] = {}
        self._writers: dict[Sender, _Writer] = {}
        # People are senders joined by what they share; numbers lead to the number they became.
        self._same_as: list[int] = []
        self._person_of: dict[tuple[str, str], int] = {}
        self._id_of: dict[str, str] = {}  # by wamid
        # Of each message unit its id, the number of its sender, and whether it counts.
        self._messages: list[Message] = []
        self._message_ids: list[str] = []
        self._message_senders: list[int] = []
        self._counts: list[str] = []
        self._best: dict[str, int] = {}  # the message unit that counts, by key
        self._facts: dict[str, tuple[int, int, Told]] = {}
        self._rows: dict[str, list[str]] = {name: [] for name in _OTHER_TABLES}
        # The most frequent units; their rows are written all at once.
        self._statuses: list[StatusEvent] = []
        self._referring: list[tuple[Message | ConversationEvent, int, bytes]] = []
        self.received = 0
        self.message_count = 0
        self.status_count = 0
        self.skipped: dict[str, int] = {}
        self.lines = 0
        self.bytes_read = 0
        self.weight = 0
        self.rows: dict[str, bytes] = {}
        self._first_us, self._last_us = _NEVER, 0
        self.rejections: list[tuple[int, Rejected]] = []

    def add(self, unit: Unit, line: int, body: bytes = b"") -> None:
        """Take one unit of a line into the chunk; ``body`` is the line, kept only where needed."""
        self.received += 1
        if type(unit) is StatusEvent:
            self.status_count += 1
            self._statuses.append(unit)
        elif type(unit) is Message:
            if unit.sender.user_id and _is_reference(unit.sender):
                self._referring.append((unit, line, body))
            else:
                self._add_message(unit)
        elif type(unit) is Skipped:
            self.skipped[unit.reason] = self.skipped.get(unit.reason, 0) + 1
        elif type(unit) is Rejected:
            self._add_rejected(unit, line)
        elif type(unit) is ConversationEvent and _is_reference(unit.sender):
            self._referring.append((unit, line, body))
        else:
            _ADD[type(unit)](self, unit)

    # --- Units that name a user by users.id ------------------------------------------------------

    @property
    def references(self) -> set[str]:
        """The values of ``users.id`` that must be looked up before :meth:`seal`."""
        return {unit.sender.user_id for unit, _, _ in self._referring}

    def settle_references(self, users: Mapping[str, bool]) -> None:
        """Take in what refers to a known user; of an unknown one it goes to quarantine, whole.

        Args:
            users: The known users, and whether each was anonymised: then what refers to it creates
                nothing, and is not kept either.
        """
        referring, self._referring = self._referring, []
        for unit, line, body in referring:
            is_anonymized = users.get(unit.sender.user_id)
            if is_anonymized is None:
                self._add_rejected(reject_unknown(unit, body), line)
            elif is_anonymized:
                self._skip_erased()
            elif type(unit) is Message:
                self._add_message(unit)
            else:
                _ADD[type(unit)](self, unit)

    # --- Each kind of unit -----------------------------------------------------------------------

    def _skip_erased(self) -> None:
        self.skipped["erased"] = self.skipped.get("erased", 0) + 1

    def _add_message(self, message: Message) -> None:
        key, sent_us, unit = message.key, message.sent_us, len(self._messages)
        best = self._best.get(key)
        message_id = self._mint_id(key) if best is None else self._message_ids[best]
        if message_id in self._erased:
            # Before its sender is met: nobody is made of an erased message.
            self._skip_erased()
            return
        self.message_count += 1
        if best is None or _rank(message) < _rank(self._messages[best]):
            self._best[key] = unit
            self._counts.append("t")
            if best is not None:
                self._counts[best] = "f"
        else:
            self._counts.append("f")
        writer = self._writers.get(message.sender)
        if writer is None:
            writer = self._meet(message.sender, sent_us)
        elif sent_us < writer.first_us:
            writer.first_us = sent_us
        if message.source is _PROVIDER and (
            sent_us > writer.said_us or (sent_us == writer.said_us and message_id > writer.said_id)
        ):
            writer.said_us, writer.said_id = sent_us, message_id
        if message.role == "user" and sent_us > writer.client_us:
            writer.client_us = sent_us
        self._messages.append(message)
        self._message_ids.append(message_id)
        self._message_senders.append(writer.number)
        if message.told is not None:
            self._add_told(message_id, writer.number, sent_us, message.told)
        if message.button is not None:
            wamid = message.button.wamid
            context = self._find_id(wamid) if wamid else _NULL
            if context not in self._erased:
                self._rows["buttons"].append(
                    f"{message_id}\t{context}\t{_text_or_null(message.button.payload)}\t{sent_us}\n"
                )
        self._note_event(sent_us)

    def _add_told(self, message_id: str, sender: int, told_us: int, told: Told) -> None:
        """Of several events of one message the least counts, as a whole (decision 0006)."""
        known = self._facts.get(message_id)
        if known is None or _order(told_us, told) < _order(known[0], known[2]):
            self._facts[message_id] = (told_us, sender, told)

    def _add_change(self, change: MessageChange) -> None:
        edit_id, target_id = self._find_id(change.wamid), self._find_id(change.target_wamid)
        if edit_id in self._erased or target_id in self._erased or target_id in self.erased_edits:
            self.erased_edits[edit_id] = target_id
            self._skip_erased()
            return
        row = (
            f"{edit_id}\t{target_id}\t{change.changed_us}\t"
            f"{'t' if change.content is None else 'f'}\t{_text_or_null(change.content)}\n"
        )
        # Its id is of all it says: two changes that contradict each other are two.
        self._rows["changes"].append(f"{self._ids.of_bytes('change', row.encode())}\t{row}")
        self._note_event(change.changed_us)

    def _add_reaction(self, reaction: Reaction) -> None:
        own_id, target_id = self._find_id(reaction.wamid), self._find_id(reaction.target_wamid)
        if own_id in self._erased or target_id in self._erased:
            self._skip_erased()
            return
        self._rows["reactions"].append(
            f"{target_id}\t{reaction.reacted_us}\t{own_id}\t{_text_or_null(reaction.emoji)}\n"
        )
        self._note_event(reaction.reacted_us)

    def _add_opt_out(self, choice: OptOut) -> None:
        choice_id = self._ids.of_bytes("choice", choice.key.encode())
        if choice_id in self._erased:
            self._skip_erased()
            return
        writer = self._see(choice.sender, choice.chosen_us)
        self._rows["opt_outs"].append(
            f"{choice_id}\t{writer.number}\t"
            f"{choice.chosen_us}\t{_escape(choice.category)}\t{'t' if choice.is_opted_out else 'f'}"
            "\n"
        )

    def _add_conversation_event(self, event: ConversationEvent) -> None:
        told = f"{event.at_us}\t{event.status}\t{_text_or_null(event.transferred_to)}\n"
        # As for changes: the same event_id with another content is another event.
        said = "\t".join((event.key, *event.sender, told))
        event_id = self._ids.of_bytes("conversation", said.encode())
        if event_id in self._erased:
            self._skip_erased()
            return
        writer = self._see(event.sender, event.at_us)
        self._rows["events"].append(f"{event_id}\t{writer.number}\t{told}")

    def _add_identity_change(self, change: IdentityChange) -> None:
        change_id = self._ids.of_bytes("identity", change.key.encode())
        if change_id in self._erased:
            self._skip_erased()
            return
        old, new = change.old, change.new
        values = (
            _key_of(old),
            old.bsuid,
            old.parent_bsuid,
            _key_of(new),
            new.wa_id,
            new.bsuid,
            new.parent_bsuid,
        )
        self._rows["identity_changes"].append(
            f"{change_id}\t{change.changed_us}\t"
            f"{'t' if change.moves_number else 'f'}\t" + "\t".join(map(_escape, values)) + "\n"
        )
        self._note_event(change.changed_us)

    def _add_rejected(self, unit: Rejected, line: int) -> None:
        if unit.reason != _EXPECTED and len(self.rejections) < MAX_REJECTIONS_TOLD:
            self.rejections.append((line, unit))
        field = _NULL if unit.field is None else unit.field
        self._rows["quarantine"].append(
            f"{self._ids.of_bytes('quarantine', unit.payload)}\t{self.batch_id}\t"
            f"{_escape(self.source_name)}\t{line}\t{unit.kind}\t{field}\t{unit.reason}\t"
            f"\\\\x{unit.payload.hex()}\n"
        )

    # --- People ----------------------------------------------------------------------------------

    def _see(self, sender: Sender, at_us: int) -> _Writer:
        self._note_event(at_us)
        writer = self._writers.get(sender)
        if writer is None:
            return self._meet(sender, at_us)
        writer.first_us = min(writer.first_us, at_us)
        return writer

    def _meet(self, sender: Sender, at_us: int) -> _Writer:
        """A sender seen for the first time in this chunk: the people who share a key are one."""
        key = _key_of(sender)
        keys = _keys(sender, key)
        number = len(self._same_as)
        self._same_as.append(number)
        for known_by in keys:
            other = self._person_of.setdefault(known_by, number)
            if other != number:
                self._same_as[self._root(other)] = self._root(number)
        writer = _Writer(number, key, keys, at_us)
        self._writers[sender] = writer
        return writer

    def _root(self, number: int) -> int:
        while self._same_as[number] != number:
            self._same_as[number] = self._same_as[self._same_as[number]]
            number = self._same_as[number]
        return number

    # --- Rows ------------------------------------------------------------------------------------

    def _mint_id(self, key: str) -> str:
        """The id of a message that is not in the chunk yet."""
        if key.startswith(_WAMID):
            return self._ids.of_wamid(key[len(_WAMID) :])
        return self._ids.of_key(key)

    def _find_id(self, wamid: str) -> str:
        found = self._id_of.get(wamid)
        if found is None:
            found = self._id_of[wamid] = self._ids.of_wamid(wamid)
        return found

    def _write_statuses(self) -> None:
        """Turn the statuses into COPY rows: most units are one, so nothing is called for each."""
        id_of, mint_id = self._id_of, self._ids.of_wamid
        rows = self._rows["statuses"]
        first_at, last_at = _NEVER, 0
        for status in self._statuses:
            wamid, status_at, code = status.wamid, status.status_at, status.error_code
            message_id = id_of.get(wamid)
            if message_id is None:
                message_id = id_of[wamid] = mint_id(wamid)
            rows.append(
                f"{message_id}\t{status.status}\t{status_at}\t{_NULL if code is None else code}\t"
                f"{status.pricing_category or _NULL}\t{status.attempt_id or _NULL}\n"
            )
            if status_at < first_at:
                first_at = status_at
            if status_at > last_at:
                last_at = status_at
        if self._statuses:
            self._statuses = []
            self._note_event(first_at * _SECOND_US)
            self._note_event(last_at * _SECOND_US)

    def _note_event(self, at_us: int) -> None:
        if at_us < self._first_us:
            self._first_us = at_us
        if at_us > self._last_us:
            self._last_us = at_us

    @property
    def period_us(self) -> tuple[int, int] | None:
        """Instants of the first and the last record; None where none has one."""
        self._write_statuses()
        return (self._first_us, self._last_us) if self._last_us else None

    def count(self, table: str) -> int:
        """How many rows a table of this chunk has, before it is sealed."""
        self._write_statuses()
        return len(self._rows[table])

    def close(self, lines: int, bytes_read: int) -> Chunk:
        """Note how far the file was read; seal the chunk where nothing is to be looked up first."""
        self.lines, self.bytes_read = lines, bytes_read
        return self if self._referring else self.seal()

    def seal(self) -> Chunk:
        """Write the COPY text and drop the units."""
        self._rows["worded_opt_outs"] = [
            f"{self._message_ids[unit]}\n"
            for unit in self._best.values()
            if self._messages[unit].opts_out
        ]
        self._write_statuses()
        self.rows = {name: "".join(rows).encode() for name, rows in self._rows.items()}
        self.rows |= {
            "senders": self._sender_rows(),
            "people": self._people_rows(),
            "identities": self._identity_rows(),
            "messages": self._message_rows(),
            "facts": self._fact_rows(),
        }
        self._rows = {name: [] for name in _OTHER_TABLES}
        for units in (self._messages, self._message_ids, self._message_senders, self._counts):
            units.clear()
        for remembered in (
            self._writers,
            self._person_of,
            self._id_of,
            self._best,
            self._facts,
        ):
            remembered.clear()
        return self

    def _sender_rows(self) -> bytes:
        """COPY rows: sender, person, what it says of itself, first, last as client, last said."""
        return "".join(
            f"{writer.number}\t{self._root(writer.number)}\t{writer.key}\t{sender.bsuid}\t"
            f"{sender.wa_id}\t{_escape(sender.name)}\t{sender.parent_bsuid}\t"
            f"{sender.user_id if _is_reference(sender) else ''}\t{writer.first_us}\t"
            f"{writer.client_us or _NULL}\t{writer.said_us or _NULL}\t{writer.said_id or _NULL}\n"
            for sender, writer in self._writers.items()
        ).encode()

    def _people_rows(self) -> bytes:
        """COPY rows: person, candidate id, placeholder, every form of its phones."""
        keys: dict[int, set[str]] = {}
        for writer in self._writers.values():
            known = keys.setdefault(self._root(writer.number), set())
            if writer.key:
                known.add(writer.key)
        return "".join(
            f"{number}\t{user_id}\t{bsuid_placeholder() if not known else _NULL}\t"
            f"{{{','.join(map(_phones_of, sorted(known)))}}}\n"
            for (number, known), user_id in zip(keys.items(), draw_uuids(len(keys)), strict=True)
        ).encode()

    def _identity_rows(self) -> bytes:
        """COPY rows: person, kind, value, first seen."""
        first: dict[tuple[int, str, str], int] = {}
        for writer in self._writers.values():
            person = self._root(writer.number)
            for kind, value in writer.keys:
                known = first.get((person, kind, value))
                if known is None or writer.first_us < known:
                    first[person, kind, value] = writer.first_us
        return "".join(
            f"{person}\t{kind}\t{value}\t{at_us}\n"
            for (person, kind, value), at_us in first.items()
        ).encode()

    def _message_rows(self) -> bytes:
        """COPY rows: unit, id, sender, source, whether it counts, sent, role, author, content."""
        units = zip(
            self._message_ids, self._message_senders, self._counts, self._messages, strict=True
        )
        # Encoded one by one: one text with all of them would take four bytes for every character
        # as soon as one has an emoji.
        return b"".join(
            [
                (
                    f"{unit}\t{message_id}\t{sender}\t{_SOURCES[message.source]}\t{counts}\t"
                    f"{message.sent_us}\t{message.role}\t{message.author}\t"
                    f"{_escape(message.content)}\n"
                ).encode()
                for unit, (message_id, sender, counts, message) in enumerate(units)
            ]
        )

    def _fact_rows(self) -> bytes:
        """COPY rows: id, sender, when it was told, and what."""
        return "".join(
            [
                f"{message_id}\t{sender}\t{told_us}\t"
                f"{_NULL if told.tokens_used is None else told.tokens_used}\t"
                f"{_text_or_null(told.intent_detected)}\t{_text_or_null(told.model)}\t"
                f"{_text_or_null(told.current_flow)}\t{_text_or_null(told.mode)}\t"
                f"{_text_or_null(told.author)}\n"
                for message_id, (told_us, sender, told) in self._facts.items()
            ]
        ).encode()


_OTHER_TABLES = (
    "statuses",
    "changes",
    "reactions",
    "buttons",
    "opt_outs",
    "worded_opt_outs",
    "events",
    "identity_changes",
    "quarantine",
)

_ADD: dict[type, Callable[[Chunk, Any], None]] = {
    MessageChange: Chunk._add_change,  # the table of the kinds of this class itself
    Reaction: Chunk._add_reaction,
    OptOut: Chunk._add_opt_out,
    ConversationEvent: Chunk._add_conversation_event,
    IdentityChange: Chunk._add_identity_change,
}


def _rank(message: Message) -> tuple[Any, ...]:
    """Of several records of one message the least counts: the provider's, then the earlier."""
    sender = message.sender
    return (
        int(message.source),
        message.sent_us,
        message.role,
        message.content,
        _key_of(sender),
        sender,
    )


def _order(told_us: int, told: Told) -> tuple[Any, ...]:
    """Of several events of one message the least counts: the earlier, then by every field."""
    values = (
        told.tokens_used,
        told.intent_detected,
        told.model,
        told.current_flow,
        told.mode,
        told.author,
    )
    return (told_us, *((value is None, value or "") for value in values))


def _key_of(sender: Sender) -> str:
    number = sender.wa_id or sender.phone
    return phone_key(number) if number else ""


def refers_to(unit: Unit) -> str | None:
    """The ``users.id`` that a unit names, where that is all it says of its client."""
    if isinstance(unit, Message | ConversationEvent) and _is_reference(unit.sender):
        return unit.sender.user_id
    return None


def reject_unknown(unit: Unit, body: bytes) -> Rejected:
    """The unit of a user that does not exist."""
    kind = "chatbot_message" if isinstance(unit, Message) else "chatbot_conversation"
    return Rejected(kind, "unknown_user", "user_id", body)


@lru_cache(maxsize=_REMEMBERED_PHONES)
def _phones_of(key: str) -> str:
    """Every form of a telephone number as ``users.phone`` holds it, with commas between."""
    return ",".join(map(to_phone, forms(key)))


def _is_reference(sender: Sender) -> bool:
    """Whether users.id is all that is said of a client."""
    return bool(sender.user_id) and not (
        sender.wa_id or sender.phone or sender.bsuid or sender.parent_bsuid
    )


def _keys(sender: Sender, key: str) -> list[tuple[str, str]]:
    """Kind and value of every identity that a sender has."""
    keys = []
    if key:
        keys.append(("phone_key", key))
    if sender.wa_id:
        keys.append(("wa_id", sender.wa_id))
    if sender.bsuid:
        keys.append(("bsuid", sender.bsuid))
    if sender.parent_bsuid:
        keys.append(("parent_bsuid", sender.parent_bsuid))
    return keys
