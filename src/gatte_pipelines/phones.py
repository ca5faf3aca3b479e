"""Telephone numbers as WhatsApp writes them: the equivalence key, its forms, our placeholders.

No I/O, no table and no message belongs here; which identity belongs to whom is `inbound`'s work.

Sources: Meta "phone numbers" (Brazil's extra digit may be added or removed by the Cloud API),
Anatel's list of area codes (DDD), and the shape of `users.phone` in the design, section 2.
"""

from __future__ import annotations

import base64
import re
import secrets
from functools import lru_cache
from typing import Final

_ASSIGNED_AREA_CODES: Final = """
    11 12 13 14 15 16 17 18 19 21 22 24 27 28 31 32 33 34 35 37 38 41 42 43 44 45 46 47 48 49
    51 53 54 55 61 62 63 64 65 66 67 68 69 71 73 74 75 77 79 81 82 83 84 85 86 87 88 89
    91 92 93 94 95 96 97 98 99
"""
BRAZILIAN_AREA_CODES: Final[tuple[str, ...]] = tuple(_ASSIGNED_AREA_CODES.split())
"""The 67 area codes (DDD) that Anatel has assigned; 20, 23, 90 and the like are nobody's."""

USERS_PHONE_PATTERN: Final = r"^(\+[1-9][0-9]{6,14}|~[bx][a-z2-7]{18})$"
"""What `users.phone` may hold; PostgreSQL and Python read this text alike (use `fullmatch`)."""

BSUID_PLACEHOLDER_PREFIX: Final = "~b"
ANONYMISED_PLACEHOLDER_PREFIX: Final = "~x"
_PLACEHOLDER_RANDOM_CHARS: Final = 18

_AREA_CODE: Final = f"(?:{'|'.join(BRAZILIAN_AREA_CODES)})"
_NOT_A_DIGIT: Final = re.compile(r"[^0-9]+")
_WA_ID: Final = re.compile(r"[1-9][0-9]{6,14}")
_OLD_BRAZILIAN_MOBILE: Final = re.compile(f"(55{_AREA_CODE})([6-9][0-9]{{7}})")
_BRAZILIAN_MOBILE: Final = re.compile(f"(55{_AREA_CODE})9([6-9][0-9]{{7}})")
# Every number of 10 or 11 national digits under an assigned area code is possible for
# phonenumbers; saying so here spares its parser (24 us a number) for nearly all of our clients.
_POSSIBLE_IN_BRAZIL: Final = re.compile(f"55{_AREA_CODE}[0-9]{{8,9}}")

# Larger than the clients of one load, so that a client's second message never computes again.
_REMEMBERED_NUMBERS: Final = 1 << 18


@lru_cache(maxsize=_REMEMBERED_NUMBERS)
def phone_key(wa_id: str) -> str:
    """Give the key under which all forms of one telephone number meet.

    A Brazilian mobile written without its ninth digit (`55`, area code, eight digits of which the
    first is 6 to 9) gets the 9. Everything else keeps its digits: landlines (first digit 2 to 5),
    0800 numbers, short codes and foreign numbers, because a 9 before a landline makes the mobile
    number of somebody else.

    Args:
        wa_id: The number as received; whatever is not an ASCII digit is dropped.

    Returns:
        Digits only; empty when there were none. Idempotent: a key is its own key.
    """
    digits = wa_id if wa_id.isascii() and wa_id.isdecimal() else _NOT_A_DIGIT.sub("", wa_id)
    old_mobile = _OLD_BRAZILIAN_MOBILE.fullmatch(digits)
    return f"{old_mobile[1]}9{old_mobile[2]}" if old_mobile else digits


def forms(key: str) -> tuple[str, ...]:
    """List every wa_id that has this key, the key itself first.

    Args:
        key: A result of `phone_key`; another form of the number serves as well.

    Returns:
        The 13-digit and the 12-digit form of a Brazilian mobile; otherwise the key alone.
    """
    canonical = phone_key(key)
    mobile = _BRAZILIAN_MOBILE.fullmatch(canonical)
    return (canonical, mobile[1] + mobile[2]) if mobile else (canonical,)


@lru_cache(maxsize=_REMEMBERED_NUMBERS)
def is_possible_wa_id(text: str) -> bool:
    """Tell whether a text can be the wa_id of somebody.

    Asks `phonenumbers` for a *possible* number, never for a valid one: it calls the 12-digit
    Brazilian wa_ids, which WhatsApp really sends, invalid.

    Args:
        text: The candidate, without the leading "+".

    Returns:
        True for 7 to 15 ASCII digits, the first not 0, of a possible length for the country.
    """
    if not _WA_ID.fullmatch(text):
        return False
    if _POSSIBLE_IN_BRAZIL.fullmatch(text):
        return True
    import phonenumbers  # noqa: PLC0415 - its tables cost 0.1 s that most runs need not spend

    try:
        number = phonenumbers.parse("+" + text)
    except phonenumbers.NumberParseException:
        return False
    return phonenumbers.is_possible_number(number)


def to_phone(wa_id: str) -> str:
    """Write a wa_id as `users.phone` holds it: "+" and the digits as received, no digit added.

    Args:
        wa_id: A number for which `is_possible_wa_id` holds.

    Returns:
        The text that replies are sent to; it fits `USERS_PHONE_PATTERN`.
    """
    return "+" + (wa_id if wa_id.isascii() and wa_id.isdecimal() else _NOT_A_DIGIT.sub("", wa_id))


def bsuid_placeholder() -> str:
    """Make the `users.phone` of a client who is known only by a business-scoped user id."""
    return BSUID_PLACEHOLDER_PREFIX + _random_base32()


def anonymised_placeholder() -> str:
    """Make the `users.phone` of an anonymised client; random, so that nothing leads back."""
    return ANONYMISED_PLACEHOLDER_PREFIX + _random_base32()


def _random_base32() -> str:
    """Draw 90 random bits as 18 lower-case base32 characters."""
    drawn = base64.b32encode(secrets.token_bytes(12)).decode("ascii").lower()
    return drawn[:_PLACEHOLDER_RANDOM_CHARS]
