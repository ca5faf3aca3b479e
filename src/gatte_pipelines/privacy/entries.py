"""Entries of the privacy ledger: their vocabulary, their text and their chain of hashes. No I/O.

An entry names what was destroyed by rules, instants, counts and ids. The vocabulary is closed, so
that no personal value can get in by mistake; where entries are kept belongs to ``ledger``.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Any
from uuid import UUID

from gatte_pipelines.database.names import NINE
from gatte_pipelines.errors import BadInputError

GENESIS = "0" * 64
"""What the first entry continues."""

MAX_ENTRY_BYTES = 4 * 1024 * 1024
"""An erasure of some 100,000 ids. A line of the outside copy is read into memory as a whole."""

INTENT = "intent"
ANNOUNCEMENTS = frozenset({INTENT, "erasure"})
"""Kinds that say what is about to be destroyed: they must stand outside before it is."""

# The end of every canonical text: read so, a check of a long ledger need not decode it all.
_SEQ = re.compile(r',"seq":([1-9][0-9]{0,17})\}\Z')
_UUID = re.compile(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}")
_INSTANT = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,6})?\+00:00"
)
_DIGEST = re.compile(r"[0-9a-f]{64}")
# No capitals, digits, spaces or accents: what people are called or known by does not look like it.
_RULE = re.compile(r"(?=.{3,40}\Z)[a-z]+(?:_[a-z]+)*")
_INTERVAL = re.compile(r"(?:[0-9]{1,4} (?:hours|days|months|years))?")
# Below every phone number, which has ten digits and more.
_MAX_COUNT = 999_999_999


def _is_text(pattern: re.Pattern[str]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, str) and pattern.fullmatch(value) is not None


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value <= _MAX_COUNT


def _is_table(value: Any) -> bool:
    return isinstance(value, str) and value in NINE


def _is_ids(value: Any) -> bool:
    return isinstance(value, list) and all(map(_is_uuid, value))


def _is_periods(value: Any) -> bool:
    return isinstance(value, dict) and all(
        _is_rule(rule) and _is_interval(period) for rule, period in value.items()
    )


_is_uuid, _is_instant, _is_digest = _is_text(_UUID), _is_text(_INSTANT), _is_text(_DIGEST)
_is_rule, _is_interval = _is_text(_RULE), _is_text(_INTERVAL)


def _is_optional_instant(value: Any) -> bool:
    return value is None or _is_instant(value)


def _is_end_of_range(value: Any) -> bool:
    return _is_optional_instant(value) or _is_uuid(value) or _is_count(value)


_VOCABULARY: dict[str, dict[str, Callable[[Any], bool]]] = {
    INTENT: {
        "rule": _is_rule,
        "as_of": _is_instant,
        "from": _is_end_of_range,
        "to": _is_end_of_range,
        "count": _is_count,
        "run_id": _is_uuid,
    },
    "outcome": {"intent": _is_count, "done": _is_count},
    "interrupted": {"intent": _is_count},
    "erasure": {"request_id": _is_uuid, "user_ids": _is_ids, "lead_ids": _is_ids},
    "erased": {"erasure": _is_count, "user_ids": _is_ids, "lead_ids": _is_ids},
    "merge": {"from": _is_uuid, "into": _is_uuid, "at": _is_instant},
    "hold": {
        "hold_id": _is_uuid,
        "table": _is_table,
        "row_id": _is_uuid,
        "ends_at": _is_optional_instant,
    },
    "release": {"hold_id": _is_uuid},
    "policy": {"digest": _is_digest, "periods": _is_periods},
}

KINDS = frozenset(_VOCABULARY)


@dataclass(frozen=True)
class Entry:
    """One entry as it is kept.

    Attributes:
        seq: Its place in the chain, from 1.
        text: Canonical JSON of ``at``, ``body``, ``kind``, ``seq``.
        previous_hash: The hash of the entry before, `GENESIS` for the first.
        hash: SHA-256 over ``previous_hash``, a line end and ``text``, in hex.
    """

    seq: int
    text: str
    previous_hash: str
    hash: str

    @cached_property
    def _content(self) -> dict[str, Any]:
        content: dict[str, Any] = json.loads(self.text)
        return content

    @property
    def kind(self) -> str:
        """One of `KINDS`."""
        return str(self._content["kind"])

    @property
    def at(self) -> datetime:
        """The instant that the entry is for, in UTC."""
        return datetime.fromisoformat(self._content["at"])

    @property
    def body(self) -> dict[str, Any]:
        """What it says, as decoded JSON: ids and instants are texts."""
        return dict(self._content["body"])

    @property
    def is_whole(self) -> bool:
        """Whether hash and place fit its text: nobody changed one of them alone."""
        return self.seq == _seq_of(self.text) and self.hash == hash_of(
            self.previous_hash, self.text
        )

    @property
    def is_known(self) -> bool:
        """Whether it is whole and says what this project may have written."""
        if not self.is_whole:
            return False
        try:
            return self._content.keys() == {"at", "body", "kind", "seq"} and (
                self.text
                == canonical(
                    {
                        "at": self.at.astimezone(UTC).isoformat(),
                        "body": check_body(self.kind, self.body),
                        "kind": self.kind,
                        "seq": self.seq,
                    }
                )
            )
        except (ValueError, TypeError, KeyError, RecursionError, BadInputError):
            return False

    def to_line(self) -> bytes:
        """The line of the outside copy, with its line end."""
        line = {"entry": self.text, "hash": self.hash, "previous_hash": self.previous_hash}
        return canonical(line).encode() + b"\n"


def next_entry(
    seq: int, previous_hash: str, kind: str, body: Mapping[str, Any], at: datetime
) -> Entry:
    """The entry that continues the chain.

    Args:
        seq: Its place.
        previous_hash: Hash of the entry before.
        kind: One of `KINDS`.
        body: Exactly the fields of that kind; UUIDs and aware datetimes may be given as such.
        at: The instant it is for.

    Raises:
        BadInputError: A field that the kind does not have or that is missing, or a value that is
            no id, instant, count, rule or digest. The value is not quoted.
    """
    content = {"at": _plain(at), "body": check_body(kind, body), "kind": kind, "seq": seq}
    text = canonical(content)
    if len(text) > MAX_ENTRY_BYTES:
        raise _refusal(kind, None, f"is longer than {MAX_ENTRY_BYTES} bytes")
    return Entry(seq, text, previous_hash, hash_of(previous_hash, text))


def check_body(kind: str, body: Mapping[str, Any]) -> dict[str, Any]:
    """The body with ids and instants as texts.

    Raises:
        BadInputError: As `next_entry`.
    """
    if kind not in _VOCABULARY:
        raise BadInputError("privacy ledger", None, None, "no such kind of entry")
    fields = _VOCABULARY[kind]
    if unknown := len(body.keys() - fields.keys()):  # their names may be anything: not quoted
        raise _refusal(kind, None, f"has {unknown} field(s) that this kind does not have")
    if missing := sorted(fields.keys() - body.keys()):
        raise _refusal(kind, missing[0], "is missing")
    plain = {name: _plain(value) for name, value in body.items()}
    for name, is_allowed in fields.items():
        if not is_allowed(plain[name]):
            raise _refusal(kind, name, "is no id, instant, count or code that may stand here")
    return plain


def parse_line(line: bytes) -> Entry | None:
    """The entry of a line without its end; None where we cannot have written the line."""
    try:
        content = json.loads(line)
        entry = content["entry"]
        parsed = Entry(_seq_of(entry), entry, content["previous_hash"], content["hash"])
        if parsed.seq and parsed.to_line() == line + b"\n":
            return parsed
    except (ValueError, TypeError, KeyError, RecursionError):
        return None  # not JSON, or not of our shape
    return None


def _seq_of(text: str) -> int:
    """The place that a text says it has; 0 where it says none."""
    found = _SEQ.search(text, max(0, len(text) - 32))
    return int(found[1]) if found else 0


def hash_of(previous_hash: str, text: str) -> str:
    """The hash of the entry ``text`` that continues ``previous_hash``."""
    return hashlib.sha256(f"{previous_hash}\n{text}".encode("utf-8", "surrogatepass")).hexdigest()


def canonical(content: Mapping[str, Any]) -> str:
    """The one way to write a JSON object: sorted keys, no spaces, ASCII."""
    return json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _plain(value: Any) -> Any:
    """Ids and instants as texts; all else as it is, for the vocabulary to judge."""
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise BadInputError("privacy ledger", None, None, "an instant without a zone")
        return value.astimezone(UTC).isoformat()
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, Iterable) and not isinstance(value, str | bytes):
        return [_plain(item) for item in value]
    return value


def _refusal(kind: str, field: str | None, reason: str) -> BadInputError:
    return BadInputError(f"privacy ledger, {kind}", None, field, reason)
