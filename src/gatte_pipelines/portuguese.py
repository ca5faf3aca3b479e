"""Numbers, money and dates as Brazilians write them. Sentences belong to whoever says them."""

from __future__ import annotations

from datetime import date
from decimal import ROUND_HALF_UP, Decimal

_CENT = Decimal("0.01")


def number(value: int) -> str:
    """A whole number: ``12.345``."""
    return f"{value:,}".replace(",", ".")


def count(value: int, one: str, several: str = "") -> str:
    """A number with its word: ``1 aviso``, ``2 avisos``.

    Args:
        value: How many.
        one: The word for one.
        several: The word for any other number; by default that for one and an "s".
    """
    return f"{number(value)} {one if value == 1 else several or f'{one}s'}"


def money(value: Decimal) -> str:
    """An amount in reais: ``R$ 1.234,50``, with a space that does not break."""
    cents = f"{value.quantize(_CENT, ROUND_HALF_UP):,.2f}"
    return f"R$\u00a0{cents.translate(_SEPARATORS)}"


_SEPARATORS = str.maketrans(",.", ".,")


def day(value: date) -> str:
    """A date: ``15/12/2026``."""
    return value.strftime("%d/%m/%Y")


def joined(parts: list[str]) -> str:
    """An enumeration: ``a, b e c``."""
    if len(parts) < 2:
        return "".join(parts)
    return f"{', '.join(parts[:-1])} e {parts[-1]}"
