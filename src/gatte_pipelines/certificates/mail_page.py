"""How our HTML mails are drawn. Mail programs drop style sheets, so each element has its style.

A mail loads nothing, and reads from a phone's width on. Everything given is escaped here. What a
mail says belongs to ``texts`` and ``digest_page``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from html import escape


class Tone(StrEnum):
    """How urgent a piece of text looks; the words say it too."""

    PLAIN = "#1c2733"
    QUIET = "#4a5766"
    SOON = "#8a4b00"
    LATE = "#b3261e"
    GOOD = "#0b5c4b"


@dataclass(frozen=True, kw_only=True)
class Piece:
    """A line of a cell.

    Attributes:
        text: As it reads.
        tone: Its colour.
        is_strong: Whether it stands out.
        is_code: Whether it is an identifier, which may break anywhere.
    """

    text: str
    tone: Tone = Tone.PLAIN
    is_strong: bool = False
    is_code: bool = False


@dataclass(frozen=True, kw_only=True)
class Row:
    """One row of a list: what it is on the left, when and how much on the right."""

    left: Sequence[Piece]
    right: Sequence[Piece]


@dataclass(frozen=True, kw_only=True)
class Tile:
    """One figure of a summary."""

    value: str
    label: str
    tone: Tone = Tone.PLAIN


_FONT = "font-family:Arial,Helvetica,sans-serif"
_CARD = "background:#ffffff;border:1px solid #d9dee4;border-radius:8px;padding:20px"
_CELL = "border-top:1px solid #e6eaee;padding:9px 0;vertical-align:top"


def mail_page(*, title: str, preview: str, body: str, footer: Iterable[str]) -> str:
    """A whole mail.

    Args:
        title: Its heading, and that of the window.
        preview: What a list of mails shows after the subject.
        body: Pieces of this module.
        footer: Lines below, one paragraph each.
    """
    below = "".join(
        f'<p style="margin:0 0 6px;font-size:13px;line-height:19px;color:{Tone.QUIET}">'
        f"{escape(line)}</p>\n"
        for line in footer
    )
    return (
        '<!doctype html>\n<html lang="pt-BR">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        # Phones make links of dates and ids otherwise.
        '<meta name="format-detection" content="telephone=no, date=no, address=no, email=no">\n'
        '<meta name="color-scheme" content="light">\n'
        f"<title>{escape(title)}</title>\n</head>\n"
        f'<body style="margin:0;padding:0;background:#f4f5f7;color:{Tone.PLAIN};{_FONT};'
        'font-size:16px;line-height:24px;-webkit-text-size-adjust:100%">\n'
        f'<div style="display:none;max-height:0;overflow:hidden">{escape(preview)}</div>\n'
        '<div style="max-width:640px;margin:0 auto;padding:20px 12px 32px">\n'
        f'<p style="margin:0 0 12px;padding:0 4px;font-size:18px;font-weight:bold;'
        f'letter-spacing:1px;color:{Tone.GOOD}">GATTE</p>\n'
        f'<div style="{_CARD};border-top:4px solid #0b6b57">\n'
        '<h1 style="margin:0 0 14px;font-size:23px;line-height:30px;overflow-wrap:anywhere">'
        f"{escape(title)}</h1>\n{body}</div>\n"
        f'<div style="padding:16px 4px 0">\n{below}</div>\n</div>\n</body>\n</html>\n'
    )


def heading(text: str) -> str:
    """The heading of a part."""
    return (
        '<h2 style="margin:26px 0 6px;font-size:18px;line-height:25px;overflow-wrap:anywhere">'
        f"{escape(text)}</h2>\n"
    )


def subheading(text: str, tone: Tone = Tone.PLAIN) -> str:
    """The heading of a group within a part."""
    return (
        f'<h3 style="margin:18px 0 4px;font-size:16px;line-height:23px;color:{tone}">'
        f"{escape(text)}</h3>\n"
    )


def paragraph(*lines: str) -> str:
    """Sentences; each argument begins a line."""
    text = "<br>".join(escape(line) for line in lines)
    return f'<p style="margin:0 0 12px;overflow-wrap:anywhere">{text}</p>\n'


def bullets(items: Iterable[str]) -> str:
    """A short list."""
    inside = "".join(f'<li style="margin:0 0 5px">{escape(item)}</li>' for item in items)
    return f'<ul style="margin:0 0 12px;padding-left:22px">{inside}</ul>\n'


def explained(items: Iterable[tuple[str, str]]) -> str:
    """Words and what each means."""
    inside = "".join(
        f'<li style="margin:0 0 8px"><strong>{escape(word)}</strong>: {escape(meaning)}</li>'
        for word, meaning in items
    )
    return f'<ul style="margin:0 0 12px;padding-left:22px">{inside}</ul>\n'


def listing(headers: tuple[str, str], rows: Iterable[Row]) -> str:
    """A list of two columns, whose right one does not break."""
    left, right = (
        f'<th scope="col" style="padding:4px 0;font-size:13px;line-height:18px;'
        f'font-weight:normal;color:{Tone.QUIET};text-align:{side}">{escape(header)}</th>'
        for header, side in zip(headers, ("left", "right"), strict=True)
    )
    body = "".join(
        f'<tr><td style="{_CELL};overflow-wrap:anywhere">{_pieces(row.left)}</td>'
        f'<td style="{_CELL};padding-left:14px;text-align:right;white-space:nowrap">'
        f"{_pieces(row.right)}</td></tr>\n"
        for row in rows
    )
    return (
        '<table style="width:100%;border-collapse:collapse;margin:0 0 12px;font-size:15px;'
        f'line-height:21px"><thead><tr>{left}{right}</tr></thead>\n<tbody>\n{body}</tbody></table>\n'
    )


def tiles(figures: Sequence[Tile]) -> str:
    """Figures, two beside each other; a last one alone takes the whole width."""
    rows = []
    for start in range(0, len(figures), 2):
        pair = figures[start : start + 2]
        cells = "".join(
            f'<td colspan="{3 - len(pair)}" style="width:50%;border:1px solid #d9dee4;'
            'padding:10px 12px;vertical-align:top">'
            f'<strong style="font-size:18px;line-height:25px;color:{tile.tone}">'
            f"{escape(tile.value)}</strong><br>"
            f'<span style="font-size:13px;line-height:18px;color:{Tone.QUIET}">'
            f"{escape(tile.label)}</span></td>"
            for tile in pair
        )
        rows.append(f"<tr>{cells}</tr>\n")
    return (
        '<table role="presentation" style="width:100%;border-collapse:collapse;table-layout:fixed;'
        'margin:0 0 14px;overflow-wrap:anywhere">'
        f"{''.join(rows)}</table>\n"
    )


def _pieces(pieces: Sequence[Piece]) -> str:
    return "<br>".join(_piece(piece) for piece in pieces)


def _piece(piece: Piece) -> str:
    style = [f"color:{piece.tone}"] if piece.tone is not Tone.PLAIN else []
    if piece.is_code:
        style.append("font:12px/18px Consolas,Menlo,monospace")
    elif piece.tone is Tone.QUIET:
        style.append("font-size:13px")
    tag = "strong" if piece.is_strong else "span"
    if not style and not piece.is_strong:
        return escape(piece.text)
    given = f' style="{";".join(style)}"' if style else ""
    return f"<{tag}{given}>{escape(piece.text)}</{tag}>"
