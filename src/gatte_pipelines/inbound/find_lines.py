"""Where an id stands in an inbound line, and what the decoders decide of that one record.

Pure. Which lines there are belongs to ``find``; reading the id from a person too.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from enum import StrEnum
from typing import Any, NamedTuple

from gatte_pipelines.errors import BadInputError
from gatte_pipelines.inbound import lines
from gatte_pipelines.inbound.chatbot_events import is_chatbot_event
from gatte_pipelines.inbound.content import MAX_WAMID_CHARACTERS
from gatte_pipelines.inbound.units import Horizon, Rejected, Unit

MAX_INPUT_BYTES = 4096
_MAX_EXTERNAL_ID_CHARACTERS = 200
_INPUT = "standard input"

# No encoder of JSON escapes these, so they stand in a line as they are.
_PLAIN = re.compile(r"[A-Za-z0-9]+")


class SoughtId(NamedTuple):
    """The id that a person asks about.

    Attributes:
        kind: ``wamid``, or ``chatbot`` for the chatbot's own id of a message or an event.
        text: The id itself. Personal: a wamid contains the phone.
    """

    kind: str
    text: str

    @property
    def key(self) -> str:
        """What the message's id is minted of."""
        return f"{self.kind}:{self.text}"

    @property
    def core(self) -> bytes:
        """A piece that stands unescaped in every line with this id; empty where there is none."""
        return max(_PLAIN.findall(self.text), key=len, default="").encode()

    @property
    def written_forms(self) -> set[bytes]:
        """How encoders of JSON write the id."""
        escaped = json.dumps(self.text)[1:-1]
        forms = (self.text, escaped, escaped.replace("/", "\\/"))
        return {form.encode() for form in forms}

    def is_written_in(self, text: bytes) -> bool:
        """Whether bytes that need not be JSON hold the id."""
        return any(form in text for form in self.written_forms)


def parse_id(raw: bytes) -> SoughtId:
    """The id in what a person or a script wrote.

    Args:
        raw: A wamid, or ``chatbot:`` and the chatbot's id; at most one byte over the limit is
            looked at. Spaces around it and one pair of double quotes are no part of it.

    Raises:
        BadInputError: It is no id; the message does not repeat it.
    """
    if len(raw) > MAX_INPUT_BYTES:
        raise _refused(f"more than {MAX_INPUT_BYTES} bytes; give one message id")
    try:
        text = raw.decode().strip()
    except UnicodeDecodeError:
        raise _refused("not UTF-8; give one message id") from None
    if len(text) > 1 and text[0] == text[-1] == '"':
        text = text[1:-1].strip()
    if "\0" in text:
        raise _refused("holds a NUL, which no message id does")
    if len(text.splitlines()) > 1:
        raise _refused("holds several lines; give one message id at a time")
    kind, limit = "wamid", MAX_WAMID_CHARACTERS
    if text.startswith("chatbot:"):
        kind, limit = "chatbot", _MAX_EXTERNAL_ID_CHARACTERS
    text = text.removeprefix(f"{kind}:").strip()
    if not text:
        raise _refused("empty; give one message id (a wamid, or chatbot: and the chatbot's id)")
    if len(text) > limit:
        raise _refused(f"longer than any id of its kind ({limit} characters)")
    return SoughtId(kind, text)


def _refused(reason: str) -> BadInputError:
    return BadInputError(_INPUT, None, None, reason)


class Role(StrEnum):
    """What an id is in a line: of most meaning first."""

    RECORD = "record"
    UNREADABLE = "unreadable"
    """The line holds the id and is no JSON."""
    STATUS = "status"
    MENTION = "mention"
    """Quoted, answered, edited or reacted to by another record."""


class Occurrence(NamedTuple):
    """An id in a line. ``piece`` is a line of its own that holds this record and no other."""

    role: Role
    piece: bytes


def find_in_line(line: bytes, sought: SoughtId) -> Occurrence | None:
    """Where the id stands in a line; None where it does not.

    Args:
        line: One notification or event, without its line end.
        sought: The id.
    """
    if sought.core not in line:
        return None
    try:
        document = json.loads(line.decode("utf-8", "surrogateescape"))
        found = _find_in_document(document, line, sought)
    except (ValueError, RecursionError):
        # A cut line is in quarantine as a whole, under no id.
        return Occurrence(Role.UNREADABLE, line) if sought.is_written_in(line) else None
    return found


def decide(occurrence: Occurrence, line: bytes, within: Horizon) -> list[Unit]:
    """What the decoders make of the record, judged as in its line.

    Args:
        occurrence: From :func:`find_in_line`.
        line: The line it was found in.
        within: The instants of the run that read the line.
    """
    whole = list(lines.iter_units(line, within))
    if len(whole) == 1 and isinstance(whole[0], Rejected):
        return whole
    return list(lines.iter_units(occurrence.piece, within))


def _find_in_document(document: Any, line: bytes, sought: SoughtId) -> Occurrence | None:
    if not isinstance(document, dict):
        return None
    if is_chatbot_event(line):
        names = ("wamid",) if sought.kind == "wamid" else ("external_id", "event_id")
        is_record = any(document.get(name) == sought.text for name in names)
        return Occurrence(Role.RECORD, line) if is_record else None
    if sought.kind != "wamid":
        return None
    found = list(_find_in_notification(document, sought.text))
    if found:
        return min(found, key=lambda occurrence: list(Role).index(occurrence.role))
    return Occurrence(Role.MENTION, line) if _holds(document, sought.text) else None


def _find_in_notification(document: dict[str, Any], wamid: str) -> Iterator[Occurrence]:
    for entry in _dicts(document.get("entry")):
        for change in _dicts(entry.get("changes")):
            value = change.get("value")
            if not isinstance(value, dict):
                continue
            found = False
            for name, items in value.items():
                for item in _dicts(items):
                    if item.get("id") == wamid:
                        found = True
                        role = Role.STATUS if name == "statuses" else Role.RECORD
                        yield Occurrence(role, _isolate(document, entry, change, name, item))
            if not found and _holds_id(value, wamid):
                # Deeper than in any field that is read, such as history: judged with its change.
                yield Occurrence(Role.RECORD, _to_line(document, entry, change))


def _isolate(
    document: dict[str, Any],
    entry: dict[str, Any],
    change: dict[str, Any],
    name: str,
    item: dict[str, Any],
) -> bytes:
    """A notification with this event and what it shares with its neighbours."""
    shared = {
        key: part
        for key, part in change["value"].items()
        if key == "contacts" or not isinstance(part, list)
    }
    return _to_line(document, entry, change | {"value": shared | {name: [item]}})


def _to_line(document: dict[str, Any], entry: dict[str, Any], change: dict[str, Any]) -> bytes:
    kept = document | {"entry": [entry | {"changes": [change]}]}
    # Escaped: a string that is no text stays one.
    return json.dumps(kept).encode()


def _dicts(items: Any) -> Iterator[dict[str, Any]]:
    if isinstance(items, list):
        yield from (item for item in items if isinstance(item, dict))


def _holds_id(part: Any, wamid: str) -> bool:
    """Whether something in here has the id as its own, rather than naming another's."""
    if isinstance(part, dict):
        return any(
            # A quoted message is under context.
            (name == "id" and inner == wamid) or (name != "context" and _holds_id(inner, wamid))
            for name, inner in part.items()
        )
    return isinstance(part, list) and any(_holds_id(inner, wamid) for inner in part)


def _holds(part: Any, text: str) -> bool:
    if isinstance(part, dict):
        return any(_holds(inner, text) for inner in part.values())
    if isinstance(part, list):
        return any(_holds(inner, text) for inner in part)
    return bool(part == text)
