"""What one transaction loads: units collected, grouped by person and written as COPY text.

Pure: the bytes are made here, sent by ``merge``. No SQL here.
"""

from __future__ import annotations

import re
from uuid import uuid4

from gatte_pipelines.inbound.envelope import Empty, Rejected, StatusEvent, TextMessage, Unit
from gatte_pipelines.inbound.ids import MessageIds
from gatte_pipelines.phones import bsuid_placeholder, forms, phone_key, to_phone

_NULL = r"\N"
_SPECIAL = re.compile(r"[\\\t\n\r]")
_ESCAPES = {"\\": r"\\", "\t": r"\t", "\n": r"\n", "\r": r"\r"}


def _escape(text: str) -> str:
    """A value of PostgreSQL's COPY text format."""
    return _SPECIAL.sub(lambda match: _ESCAPES[match[0]], text)


class _Person:
    """One sender within a chunk, known by phone key, BSUID or both."""

    __slots__ = (
        "first_at",
        "has_phone",
        "identities",
        "last_at",
        "name",
        "name_by",
        "phone",
        "phone_by",
    )

    def __init__(self) -> None:
        self.identities: dict[tuple[str, str], int] = {}
        self.has_phone = False
        self.first_at = 2**62
        self.last_at = 0
        self.phone: str | None = None
        self.phone_by: tuple[int, str] = (0, "")
        self.name: str | None = None
        self.name_by: tuple[int, str] = (0, "")


class Chunk:
    """Collects the units of some lines of one file.

    Args:
        ids: Mints the message ids.
        batch_id: Id of the file, for quarantine rows.
        source_name: Its name, for quarantine rows.
    """

    def __init__(self, ids: MessageIds, batch_id: str, source_name: str) -> None:
        self._ids, self.batch_id, self.source_name = ids, batch_id, source_name
        self._people: list[_Person] = []
        self._same_as: list[int] = []
        self._person_of: dict[tuple[str, str], int] = {}
        # What was computed before in this chunk: a client writes several messages, a message has
        # several statuses.
        self._sender_of: dict[tuple[str | None, str | None, str | None], tuple[int, int]] = {}
        self._id_of: dict[str, str] = {}
        self._messages: list[tuple[int, str, int, str]] = []
        self._statuses: list[str] = []
        self._quarantine: list[str] = []
        self.received = 0
        self.message_count = 0
        self.status_count = 0
        self.quarantine_count = 0
        self.empty_count = 0
        self.lines = 0
        self.bytes_read = 0
        self.weight = 0
        self.rows: dict[str, bytes] = {}
        self.first_event_at: int | None = None
        self.last_event_at: int | None = None
        self.rejections: list[tuple[int, Rejected]] = []

    def add(self, unit: Unit, line: int) -> None:
        """Take one unit of a line into the chunk."""
        self.received += 1
        if type(unit) is TextMessage:
            self._add_message(unit)
        elif type(unit) is StatusEvent:
            self._add_status(unit)
        elif type(unit) is Rejected:
            self._add_rejected(unit, line)
        else:
            assert type(unit) is Empty  # noqa: S101 - the type checker's exhaustiveness
            self.empty_count += 1

    def _add_message(self, message: TextMessage) -> None:
        self.message_count += 1
        message_id, sent_at = self._find_id(message.wamid), message.sent_at
        by = (sent_at, message_id)
        number = self._find_person(message, sent_at)
        person = self._people[number]
        if sent_at < person.first_at:
            person.first_at = sent_at
        if sent_at > person.last_at:
            person.last_at = sent_at
        if message.wa_id is not None and by > person.phone_by:
            person.phone, person.phone_by = message.wa_id, by
        if message.name is not None and by > person.name_by:
            person.name, person.name_by = message.name, by
        self._messages.append((number, message_id, sent_at, message.body))
        self._note_event(sent_at)

    def _note_event(self, at: int) -> None:
        if self.first_event_at is None or at < self.first_event_at:
            self.first_event_at = at
        if self.last_event_at is None or at > self.last_event_at:
            self.last_event_at = at

    def _find_person(self, message: TextMessage, sent_at: int) -> int:
        sender = (message.wa_id, message.bsuid, message.parent_bsuid)
        known_sender = self._sender_of.get(sender)
        if known_sender is not None and known_sender[1] <= sent_at:
            return self._root(known_sender[0])
        number = self._find_by_keys(message, sent_at)
        self._sender_of[sender] = (number, sent_at)
        return number

    def _find_by_keys(self, message: TextMessage, sent_at: int) -> int:
        """The sender's person: by the phone where there is one, else by the BSUID.

        A phone always decides: two phones are two people, even where a BSUID is seen with both.
        Then the BSUID stays with whoever had it first.
        """
        number: int | None = None
        keys: list[tuple[str, str]] = []
        if message.wa_id is not None:
            key = phone_key(message.wa_id)
            number = self._holder(("phone_key", key))
            keys += [("phone_key", key), ("wa_id", message.wa_id)]
        for kind, value in (("bsuid", message.bsuid), ("parent_bsuid", message.parent_bsuid)):
            if value is None:
                continue
            holder = self._holder((kind, value))
            if holder is None or holder == number:
                keys.append((kind, value))
            elif number is None and (message.wa_id is None or not self._people[holder].has_phone):
                number = holder
                keys.append((kind, value))
            elif number is not None and not (
                self._people[holder].has_phone
                and (message.wa_id is not None or self._people[number].has_phone)
            ):
                self._join(number, holder)
                keys.append((kind, value))
        if number is None:
            number = len(self._people)
            self._people.append(_Person())
            self._same_as.append(number)
        person = self._people[number]
        person.has_phone = person.has_phone or message.wa_id is not None
        for key_of in keys:
            self._person_of.setdefault(key_of, number)
            if sent_at < person.identities.get(key_of, 2**62):
                person.identities[key_of] = sent_at
        return number

    def _holder(self, key: tuple[str, str]) -> int | None:
        number = self._person_of.get(key)
        return None if number is None else self._root(number)

    def _root(self, number: int) -> int:
        while self._same_as[number] != number:
            number = self._same_as[number]
        return number

    def _join(self, number: int, other: int) -> None:
        """Two senders turn out to be one: by a message that carries the phone and the BSUID."""
        self._same_as[other] = number
        person, joined = self._people[number], self._people[other]
        person.has_phone = person.has_phone or joined.has_phone
        person.first_at = min(person.first_at, joined.first_at)
        person.last_at = max(person.last_at, joined.last_at)
        if joined.phone_by > person.phone_by:
            person.phone, person.phone_by = joined.phone, joined.phone_by
        if joined.name_by > person.name_by:
            person.name, person.name_by = joined.name, joined.name_by
        for key, at in joined.identities.items():
            person.identities[key] = min(at, person.identities.get(key, at))

    def _find_id(self, wamid: str) -> str:
        found = self._id_of.get(wamid)
        if found is None:
            found = self._id_of[wamid] = self._ids.of_wamid(wamid)
        return found

    def _add_status(self, status: StatusEvent) -> None:
        self.status_count += 1
        code = _NULL if status.error_code is None else str(status.error_code)
        self._statuses.append(
            f"{self._find_id(status.wamid)}\t{status.status}\t{status.status_at}\t{code}\t"
            f"{status.pricing_category or _NULL}\t{status.attempt_id or _NULL}\n"
        )
        self._note_event(status.status_at)

    def _add_rejected(self, unit: Rejected, line: int) -> None:
        self.quarantine_count += 1
        if unit.reason != _EXPECTED and len(self.rejections) < MAX_REJECTIONS_TOLD:
            self.rejections.append((line, unit))
        field = _NULL if unit.field is None else unit.field
        self._quarantine.append(
            f"{self._ids.of_bytes('quarantine', unit.payload)}\t{self.batch_id}\t"
            f"{_escape(self.source_name)}\t{line}\t{unit.kind}\t{field}\t{unit.reason}\t"
            f"\\\\x{unit.payload.hex()}\n"
        )

    def seal(self, lines: int, bytes_read: int) -> Chunk:
        """Write the COPY text and drop the units; ``lines`` and ``bytes_read`` are the file's."""
        self.lines, self.bytes_read = lines, bytes_read
        self.rows = {
            "people": self._people_rows(),
            "identities": self._identity_rows(),
            "messages": self._message_rows(),
            "statuses": "".join(self._statuses).encode(),
            "quarantine": "".join(self._quarantine).encode(),
        }
        self._people, self._messages, self._statuses, self._quarantine = [], [], [], []
        for remembered in (self._person_of, self._sender_of, self._id_of):
            remembered.clear()
        return self

    def _people_rows(self) -> bytes:
        """COPY rows: person, candidate id, phone, forms[], first, last, name and by, phone by."""
        rows = []
        for number, person in enumerate(self._people):
            if self._same_as[number] != number:
                continue
            if person.phone is None:
                phone, known_forms, phone_at, phone_id = bsuid_placeholder(), "{}", _NULL, _NULL
            else:
                phone = to_phone(person.phone)
                known_forms = "{" + ",".join(map(to_phone, forms(phone_key(person.phone)))) + "}"
                phone_at, phone_id = str(person.phone_by[0]), person.phone_by[1]
            if person.name is None:
                name, name_at, name_id = _NULL, _NULL, _NULL
            else:
                name = _escape(person.name)
                name_at, name_id = str(person.name_by[0]), person.name_by[1]
            rows.append(
                f"{number}\t{uuid4().hex}\t{phone}\t{known_forms}\t{person.first_at}\t"
                f"{person.last_at}\t{name}\t{name_at}\t{name_id}\t{phone_at}\t{phone_id}\n"
            )
        return "".join(rows).encode()

    def _identity_rows(self) -> bytes:
        """COPY rows: person, kind, value, first seen (Unix seconds)."""
        return "".join(
            f"{number}\t{kind}\t{value}\t{at}\n"
            for number, person in enumerate(self._people)
            if self._same_as[number] == number
            for (kind, value), at in person.identities.items()
        ).encode()

    def _message_rows(self) -> bytes:
        """COPY rows: unit, id, person, sent at (Unix seconds), content."""
        if any(number != root for number, root in enumerate(self._same_as)):
            roots = [self._root(number) for number in range(len(self._same_as))]
        else:
            roots = self._same_as
        return "".join(
            f"{unit}\t{message_id}\t{roots[number]}\t{sent_at}\t{_escape(body)}\n"
            for unit, (number, message_id, sent_at, body) in enumerate(self._messages)
        ).encode()


# Enough for a person to see what is wrong with a file; all of them stand in the quarantine.
MAX_REJECTIONS_TOLD = 5
# Every image or location of a client; told one by one they would hide what is broken.
_EXPECTED = "not_yet_supported"
