"""Telephone numbers and e-mail addresses as people type them into a CRM. Pure.

Which of a person's entries counts belongs to ``mapping``; keys and forms of a number to ``phones``.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Final

from gatte_pipelines.phones import (
    BRAZILIAN_AREA_CODES,
    is_possible_wa_id,
    phone_key,
    to_phone,
)

MAX_EMAIL: Final = 200
"""Characters of ``leads.email``."""

# Nobody's number is longer, however it is spaced; it spares the rest a hostile text.
_LONGEST_PHONE_TEXT = 60
_AREA = f"(?:{'|'.join(BRAZILIAN_AREA_CODES)})"
# Letters (an extension), a slash or a comma (two numbers) are in no number that can be dialled.
_PHONE_TEXT = re.compile(r"\(?(?P<plus>\+?)[0-9 ().\-]+")
_NOT_A_DIGIT = re.compile(r"[^0-9]+")
_MINUS_SIGN = "\u2212"
# A mobile of nine digits begins with 9; eight digits are a landline, or a mobile as it once was.
_NATIONAL = re.compile(f"{_AREA}(?:9[0-9]{{8}}|[0-9]{{8}})")
_WITH_COUNTRY = re.compile(f"55{_AREA}[0-9]{{8,9}}")
_BRAZIL, _BRAZIL_DIALLED_ABROAD, _ABROAD = "55", "0055", "00"
# Digits of a whole national number: a shorter one lacks its area code, and could be anybody's.
_SHORT_NATIONAL, _LONG_NATIONAL = 10, 11
_EMAIL = re.compile(r"[^\s@<>,;]+@[^\s@<>,;.]+(?:\.[^\s@<>,;.]+)+")


def usable_phone(text: str | None) -> str | None:
    """A number as ``leads.phone`` holds it; None where the text is none, or more than one.

    What has no country is Brazilian, with or without the zero before its area code. Possible, not
    valid, is what is asked: the 12-digit forms that WhatsApp sends are not valid.

    Args:
        text: As it was typed.

    Returns:
        "+" and digits, at most 16 characters, with no digit added but the country's.
    """
    if text is None or len(text) > _LONGEST_PHONE_TEXT:
        return None
    shown = "".join(map(_typed, unicodedata.normalize("NFKC", text)))
    found = _PHONE_TEXT.fullmatch(shown.strip())
    if found is None:
        return None
    digits = _NOT_A_DIGIT.sub("", found[0])
    wa_id = _international(digits) if found["plus"] else _national(digits)
    return to_phone(wa_id) if wa_id is not None and is_possible_wa_id(wa_id) else None


def phone_key_of(text: str | None) -> str | None:
    """The key under which all forms of a number meet; None where the text is no number."""
    phone = usable_phone(text)
    return None if phone is None else phone_key(phone)


def usable_email(text: str | None) -> str | None:
    """An e-mail address as ``leads.email`` holds it; None where the text is none, or several.

    Args:
        text: As it was typed; upper and lower case stay.
    """
    if text is None:
        return None
    shown = unicodedata.normalize("NFC", text).strip()
    if len(shown) > MAX_EMAIL or not shown.isprintable() or not _EMAIL.fullmatch(shown):
        return None
    return shown


def email_key_of(text: str | None) -> str | None:
    """What tells whether two addresses are the same; None where the text is none."""
    email = usable_email(text)
    return None if email is None else unicodedata.normalize("NFC", email.casefold())


def _typed(char: str) -> str:
    """A character as a keyboard has it: pasted numbers bring dashes, and marks that nobody sees."""
    category = unicodedata.category(char)
    if category == "Pd" or char == _MINUS_SIGN:
        return "-"
    return "" if category == "Cf" else char


def _international(digits: str) -> str:
    """Digits after a plus; the zero that is only dialled inside of Brazil is taken out."""
    if digits.startswith(_BRAZIL + "0"):
        return _BRAZIL + digits.removeprefix(_BRAZIL).lstrip("0")
    return digits


def _national(digits: str) -> str | None:
    """The wa_id of digits without a plus, as somebody in Brazil writes them."""
    if digits.startswith(_ABROAD):
        # After 00 a carrier's code may stand, which looks like a country's.
        is_brazil = digits.startswith(_BRAZIL_DIALLED_ABROAD)
        return _international(digits.removeprefix(_ABROAD)) if is_brazil else None
    digits = digits.removeprefix("0")
    if _NATIONAL.fullmatch(digits):
        return _BRAZIL + digits
    if _WITH_COUNTRY.fullmatch(digits):
        return digits
    return _parsed(digits)


def _parsed(digits: str) -> str | None:
    """What only the tables know: 0800 and the like, and a carrier's code before the area."""
    import phonenumbers  # noqa: PLC0415 - its tables cost 0.1 s that most runs need not spend

    try:
        number = phonenumbers.parse("0" + digits, "BR")
    except phonenumbers.NumberParseException:
        return None
    national = phonenumbers.national_significant_number(number)
    is_whole = len(national) == _SHORT_NATIONAL or (
        # Nothing else has eleven digits: it is a foreign number without its plus.
        len(national) == _LONG_NATIONAL and national[2] == "9"
    )
    if number.country_code != int(_BRAZIL) or not is_whole:
        return None
    return _BRAZIL + national if phonenumbers.is_possible_number(number) else None
