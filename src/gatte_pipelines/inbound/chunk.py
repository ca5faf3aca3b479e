"""What one transaction loads: units collected, senders grouped and all written as COPY text.

Pure: the bytes are made here, sent by ``merge``. No SQL here.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any
from uuid import uuid4

from gatte_pipelines.inbound.ids import MessageIds
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
_SPECIAL = re.compile(r"[\\\t\n\r]")
_ESCAPES = {"\\": r"\\", "\t": r"\t", "\n": r"\n", "\r": r"\r"}
_SECOND_US = 1_000_000
_NEVER = 2**63

# Enough for a person to see what is wrong with a file; all of them stand in the quarantine.
MAX_REJECTIONS_TOLD = 5
# Told one by one, what every file may hold would hide what is broken.
_EXPECTED = "not_yet_supported"


def _escape(text: str) -> str:
    """A value of PostgreSQL's COPY text format."""
    return _SPECIAL.sub(lambda match: _ESCAPES[match[0]], text)


def _text_or_null(text: str | None) -> str:
    return _NULL if text is None else _escape(text)


class _Writer:
    """One sender within a chunk: its person, and when it was seen."""

    __slots__ = ("client_us", "first_us", "key", "number", "person", "said_id", "said_us")

    def __init__(self, number: int, person: int, key: str, first_us: int) -> None:
        self.number, self.person, self.key = number, person, key
        self.first_us = first_us
        self.client_us = 0
        self.said_us, self.said_id = 0, ""


class Chunk:
    """Collects the units of some lines of one file.

    Args:
        ids: Mints the message ids.
        batch_id: Id of the file, for quarantine rows.
        source_name: Its name, for quarantine rows.
    """

    def __init__(self, ids: MessageIds, batch_id: str, source_name: str) -> None:
        self._ids, self.batch_id, self.source_name = ids, batch_id, source_name
        self._writers: dict[Sender, _Writer] = {}
        # People are senders joined by what they share; numbers lead to the number they became.
        self._same_as: list[int] = []
        self._person_of: dict[tuple[str, str], int] = {}
        self._id_of: dict[str, str] = {}
        self._messages: list[tuple[str, int, Message]] = []
        self._best: dict[str, int] = {}
        self._facts: dict[str, tuple[tuple[Any, ...], str]] = {}
        self._rows: dict[str, list[str]] = {name: [] for name in _OTHER_TABLES}
        # The most frequent rows; the list is reached without a look-up.
        self._statuses = self._rows["statuses"]
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
            self._add_status(unit)
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

    def settle_references(self, known: set[str]) -> None:
        """Take in what refers to a known user; the rest goes to quarantine, whole."""
        referring, self._referring = self._referring, []
        for unit, line, body in referring:
            if unit.sender.user_id not in known:
                kind = "chatbot_message" if type(unit) is Message else "chatbot_conversation"
                self._add_rejected(Rejected(kind, "unknown_user", "user_id", body), line)
            elif type(unit) is Message:
                self._add_message(unit)
            else:
                _ADD[type(unit)](self, unit)

    # --- Each kind of unit -----------------------------------------------------------------------

    def _add_message(self, message: Message) -> None:
        self.message_count += 1
        message_id, sent_us = self._find_id(message.key), message.sent_us
        writer = self._writers.get(message.sender)
        if writer is None:
            writer = self._meet(message.sender, sent_us)
        elif sent_us < writer.first_us:
            writer.first_us = sent_us
        if message.source is Source.PROVIDER and (sent_us, message_id) > (
            writer.said_us,
            writer.said_id,
        ):
            writer.said_us, writer.said_id = sent_us, message_id
        if message.role == "user" and sent_us > writer.client_us:
            writer.client_us = sent_us
        unit = len(self._messages)
        self._messages.append((message_id, writer.number, message))
        best = self._best.setdefault(message_id, unit)
        if best != unit and _rank(message) < _rank(self._messages[best][2]):
            self._best[message_id] = unit
        if message.told is not None:
            self._add_told(message_id, writer.number, sent_us, message.told)
        if message.button is not None:
            context = message.button.wamid
            self._rows["buttons"].append(
                f"{message_id}\t{self._find_id('wamid:' + context) if context else _NULL}\t"
                f"{_text_or_null(message.button.payload)}\n"
            )
        if message.opts_out:
            self._rows["worded_opt_outs"].append(f"{message_id}\n")
        self._note_event(sent_us)

    def _add_told(self, message_id: str, sender: int, told_us: int, told: Told) -> None:
        """Of several events of one message the least counts, as a whole (decision 0006)."""
        values = (
            told.tokens_used,
            told.intent_detected,
            told.model,
            told.current_flow,
            told.mode,
            told.author,
        )
        tokens = (told.tokens_used is None, told.tokens_used or 0)
        order = (told_us, tokens, *((value is None, value or "") for value in values[1:]))
        known = self._facts.get(message_id)
        if known is None or order < known[0]:
            row = "\t".join(_NULL if value is None else _escape(str(value)) for value in values)
            self._facts[message_id] = (order, f"{message_id}\t{sender}\t{told_us}\t{row}\n")

    def _add_status(self, status: StatusEvent) -> None:
        self.status_count += 1
        code = _NULL if status.error_code is None else status.error_code
        self._statuses.append(
            f"{self._find_id('wamid:' + status.wamid)}\t{status.status}\t{status.status_at}\t{code}"
            f"\t{status.pricing_category or _NULL}\t{status.attempt_id or _NULL}\n"
        )
        self._note_event(status.status_at * _SECOND_US)

    def _add_change(self, change: MessageChange) -> None:
        self._rows["changes"].append(
            f"{self._find_id('wamid:' + change.wamid)}\t"
            f"{self._find_id('wamid:' + change.target_wamid)}\t{change.changed_us}\t"
            f"{'t' if change.content is None else 'f'}\t{_text_or_null(change.content)}\n"
        )
        self._note_event(change.changed_us)

    def _add_reaction(self, reaction: Reaction) -> None:
        self._rows["reactions"].append(
            f"{self._find_id('wamid:' + reaction.target_wamid)}\t{reaction.reacted_us}\t"
            f"{self._find_id('wamid:' + reaction.wamid)}\t{_text_or_null(reaction.emoji)}\n"
        )
        self._note_event(reaction.reacted_us)

    def _add_opt_out(self, choice: OptOut) -> None:
        writer = self._see(choice.sender, choice.chosen_us)
        self._rows["opt_outs"].append(
            f"{self._ids.of_bytes('choice', choice.key.encode())}\t{writer.number}\t"
            f"{choice.chosen_us}\t{_escape(choice.category)}\t{'t' if choice.is_opted_out else 'f'}"
            "\n"
        )

    def _add_conversation_event(self, event: ConversationEvent) -> None:
        writer = self._see(event.sender, event.at_us)
        self._rows["events"].append(
            f"{self._ids.of_bytes('conversation', event.key.encode())}\t{writer.number}\t"
            f"{event.at_us}\t{event.status}\t{_text_or_null(event.transferred_to)}\n"
        )

    def _add_identity_change(self, change: IdentityChange) -> None:
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
            f"{self._ids.of_bytes('identity', change.key.encode())}\t{change.changed_us}\t"
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
        number = len(self._same_as)
        self._same_as.append(number)
        for known_by in _keys(sender, key):
            other = self._person_of.setdefault(known_by, number)
            if other != number:
                self._same_as[self._root(other)] = self._root(number)
        writer = _Writer(len(self._writers), number, key, at_us)
        self._writers[sender] = writer
        return writer

    def _root(self, number: int) -> int:
        while self._same_as[number] != number:
            self._same_as[number] = self._same_as[self._same_as[number]]
            number = self._same_as[number]
        return number

    # --- Rows ------------------------------------------------------------------------------------

    def _find_id(self, key: str) -> str:
        found = self._id_of.get(key)
        if found is None:
            found = self._id_of[key] = self._ids.of_key(key)
        return found

    def _note_event(self, at_us: int) -> None:
        if at_us < self._first_us:
            self._first_us = at_us
        if at_us > self._last_us:
            self._last_us = at_us

    @property
    def period_us(self) -> tuple[int, int] | None:
        """Instants of the first and the last record; None where none has one."""
        return (self._first_us, self._last_us) if self._last_us else None

    def count(self, table: str) -> int:
        """How many rows a table of this chunk has, before it is sealed."""
        return len(self._rows[table])

    def close(self, lines: int, bytes_read: int) -> Chunk:
        """Note how far the file was read; seal the chunk where nothing is to be looked up first."""
        self.lines, self.bytes_read = lines, bytes_read
        return self if self._referring else self.seal()

    def seal(self) -> Chunk:
        """Write the COPY text and drop the units."""
        self.rows = {name: "".join(rows).encode() for name, rows in self._rows.items()}
        self.rows |= {
            "senders": self._sender_rows(),
            "people": self._people_rows(),
            "identities": self._identity_rows(),
            "messages": self._message_rows(),
            "facts": "".join(row for _, row in self._facts.values()).encode(),
        }
        self._rows = {name: [] for name in _OTHER_TABLES}
        self._messages, self._statuses = [], []
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
            f"{writer.number}\t{self._root(writer.person)}\t{writer.key}\t{sender.bsuid}\t"
            f"{sender.wa_id}\t{_escape(sender.name)}\t{sender.parent_bsuid}\t"
            f"{sender.user_id if _is_reference(sender) else ''}\t{writer.first_us}\t"
            f"{writer.client_us or _NULL}\t{writer.said_us or _NULL}\t{writer.said_id or _NULL}\n"
            for sender, writer in self._writers.items()
        ).encode()

    def _people_rows(self) -> bytes:
        """COPY rows: person, candidate id, placeholder, every form of its phones."""
        keys: dict[int, set[str]] = {}
        for writer in self._writers.values():
            known = keys.setdefault(self._root(writer.person), set())
            if writer.key:
                known.add(writer.key)
        return "".join(
            f"{number}\t{uuid4().hex}\t{bsuid_placeholder() if not known else _NULL}\t"
            f"{{{','.join(to_phone(form) for key in sorted(known) for form in forms(key))}}}\n"
            for number, known in keys.items()
        ).encode()

    def _identity_rows(self) -> bytes:
        """COPY rows: person, kind, value, first seen."""
        first: dict[tuple[int, str, str], int] = {}
        for sender, writer in self._writers.items():
            person = self._root(writer.person)
            for kind, value in _keys(sender, writer.key):
                known = first.get((person, kind, value))
                if known is None or writer.first_us < known:
                    first[person, kind, value] = writer.first_us
        return "".join(
            f"{person}\t{kind}\t{value}\t{at_us}\n"
            for (person, kind, value), at_us in first.items()
        ).encode()

    def _message_rows(self) -> bytes:
        """COPY rows: unit, id, sender, source, whether it counts, sent, role, author, content."""
        best = self._best
        return "".join(
            f"{unit}\t{message_id}\t{sender}\t{message.source:d}\t"
            f"{'t' if best[message_id] == unit else 'f'}\t{message.sent_us}\t{message.role}\t"
            f"{message.author}\t{_escape(message.content)}\n"
            for unit, (message_id, sender, message) in enumerate(self._messages)
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


def _key_of(sender: Sender) -> str:
    number = sender.wa_id or sender.phone
    return phone_key(number) if number else ""


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
