"""Vendors' JSON as records of ours: decoded, checked, and without a repr of what they hold. Pure.

What a vendor's answer means, and what its fields are called, belongs to that vendor's client.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, TypeAlias, TypeVar

import msgspec

T = TypeVar("T")

Instant: TypeAlias = Annotated[datetime, msgspec.Meta(tz=True)]

_MISSING_FIELD = re.compile(r"Object missing required field `(?P<name>\w+)`")
_PLACE = re.compile(r" - at `\$(?P<place>[^`]*)`$")


class Hidden(msgspec.Struct, frozen=True, kw_only=True):
    """A record whose repr shows its kind and id only."""

    def __repr__(self) -> str:
        shown = getattr(self, "id", None)
        return f"<{type(self).__name__}>" if shown is None else f"<{type(self).__name__} {shown}>"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        """The same for rich, which shows the variables of a traceback."""
        shown = getattr(self, "id", None)
        return [] if shown is None else [("id", shown)]


class UnreadableError(Exception):
    """An answer is not what it should be; the text names where, without a value."""


def decode_object(body: bytes) -> dict[str, Any] | None:
    """The JSON object that a body is; None where it is anything else."""
    try:
        content = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return None
    return content if isinstance(content, dict) else None


def what_came_instead(headers: Mapping[str, str], body: bytes) -> str:
    """Name what a body is that should have been a JSON object.

    Args:
        headers: Headers, found by their names in lower case.
        body: The whole body.
    """
    start = body[:512].lstrip().lower()
    if not start:
        return "an empty body"
    is_html = "html" in headers.get("content-type", "") or start.startswith(
        (b"<!doctype", b"<html")
    )
    return "HTML where JSON was due" if is_html else "no JSON object"


def read(tree: object, kind: type[T], where: str = "data") -> T:
    """Take records out of a decoded tree.

    Args:
        tree: Decoded JSON.
        kind: A Struct, or a list of one.
        where: What the tree is called in the answer.

    Raises:
        UnreadableError: A field is missing or of another type; it is named.
    """
    if tree is None:
        raise UnreadableError(f"{where} is missing")
    try:
        return msgspec.convert(tree, type=kind)
    except msgspec.ValidationError as error:
        raise UnreadableError(_words_of(str(error), where)) from None


def _words_of(text: str, where: str) -> str:
    """Name the field of msgspec's message, which tells types and places and never a value."""
    place = _PLACE.search(text)
    where += place["place"] if place is not None else ""
    missing = _MISSING_FIELD.match(text)
    if missing is not None:
        return f"{where}.{missing['name']} is missing"
    return f"{where}: {text[: place.start()] if place is not None else text}"
