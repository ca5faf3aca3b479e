"""Markdown that shows text as it is, for artifacts and for files beside a page."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence


def escape_markdown(text: str) -> str:
    """Text in one line that Markdown leaves as it is."""
    text = " ".join(text.split()).replace("\\", "\\\\")
    for sign in "`*_[]<>|#":
        text = text.replace(sign, f"\\{sign}")
    return text


def markdown_table(
    headers: Sequence[str], rows: Iterable[Sequence[str]], numbers: Collection[int] = ()
) -> str:
    """A table.

    Args:
        headers: One a column.
        rows: As many cells each; they are escaped here.
        numbers: Columns that are written to the right.
    """
    ruler = "|".join("---:" if place in numbers else "---" for place in range(len(headers)))
    return "\n".join([_row(headers), f"|{ruler}|", *(_row(row) for row in rows)])


def _row(cells: Iterable[str]) -> str:
    return "| " + " | ".join(escape_markdown(cell) for cell in cells) + " |"
