"""Ids of inbound records: keyed digests that repeat for the same record and cannot be undone.

Ids of people are random: a digest of a phone is undone by trying all phones.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterator

from gatte_pipelines.errors import ConfigurationError

FINGERPRINT_SETTING = "id_key_fingerprint"
_DIGEST_BYTES = 16
# UUID version 8 (RFC 9562): 4 version and 2 variant bits, the other 122 are the digest's.
_VARIANTS = {digit: "89ab"[int(digit, 16) & 3] for digit in "0123456789abcdef"}


class MessageIds:
    """Mints ids with one key.

    Args:
        key: ``GATTE_ID_KEY``.

    Raises:
        ConfigurationError: There is no key.
    """

    def __init__(self, key: bytes | None) -> None:
        if not key:
            raise ConfigurationError(
                "GATTE_ID_KEY is not set; inbound_messages and quarantine_replay need it to mint "
                "message ids (set it in .env or the environment; it must never change)"
            )
        self._base = hashlib.blake2b(key=key, digest_size=_DIGEST_BYTES)
        # Fed ahead: a copy then does not digest the block of the key again.
        self._wamid = self._base.copy()
        self._wamid.update(b"wamid:")

    def of_key(self, key: str) -> str:
        """``messages.id`` of a message: a UUIDv8 as 32 hexadecimal digits.

        Args:
            key: ``wamid:`` and the provider's id, or ``chatbot:`` and the chatbot's own.
        """
        digest = self._base.copy()
        digest.update(key.encode())
        return as_uuid8(digest.hexdigest())

    def of_wamid(self, wamid: str) -> str:
        """``messages.id`` of a WhatsApp message: that of the key ``wamid:…``."""
        digest = self._wamid.copy()
        digest.update(wamid.encode())
        text = digest.hexdigest()
        # as_uuid8, written out: this runs for nearly every unit.
        return f"{text[:12]}8{text[13:16]}{_VARIANTS[text[16]]}{text[17:]}"

    def of_bytes(self, purpose: str, content: bytes) -> str:
        """The id of a record known by its bytes (a quarantined payload)."""
        digest = self.digest(purpose)
        digest.update(content)
        return as_uuid8(digest.hexdigest())

    def digest(self, purpose: str) -> hashlib.blake2b:
        """A digest to feed with the bytes of a file; ``purpose`` keeps kinds of ids apart."""
        digest = self._base.copy()
        digest.update(f"{purpose}:".encode())
        return digest

    def fingerprint(self) -> str:
        """What a database remembers of the key, to refuse another one."""
        return self.of_bytes("fingerprint", b"gatte_pipelines")


def as_uuid8(hexdigest: str) -> str:
    """The UUIDv8 form of a 128-bit digest, as 32 hexadecimal digits."""
    return f"{hexdigest[:12]}8{hexdigest[13:16]}{_VARIANTS[hexdigest[16]]}{hexdigest[17:]}"


def draw_uuids(count: int) -> Iterator[str]:
    """Random UUIDs (version 4), as 32 hexadecimal digits; ``uuid4`` takes nine times as long."""
    drawn = secrets.token_hex(_DIGEST_BYTES * count)
    for at in range(0, len(drawn), 2 * _DIGEST_BYTES):
        text = drawn[at : at + 2 * _DIGEST_BYTES]
        yield f"{text[:12]}4{text[13:16]}{_VARIANTS[text[16]]}{text[17:]}"
