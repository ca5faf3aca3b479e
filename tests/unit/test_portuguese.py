"""Numbers, money and dates read as in Brazil."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

import pytest

from gatte_pipelines.markdown import escape_markdown, markdown_table
from gatte_pipelines.portuguese import count, day, joined, money, number


def test_thousands_are_parted_by_points() -> None:
    assert [number(one) for one in (0, 999, 1000, 1234567)] == ["0", "999", "1.000", "1.234.567"]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("0", "R$\u00a00,00"),
        ("199.9", "R$\u00a0199,90"),
        ("1349.505", "R$\u00a01.349,51"),
        ("12345678.5", "R$\u00a012.345.678,50"),
        ("-3.1", "R$\u00a0-3,10"),
    ],
)
def test_an_amount_has_two_places_after_a_comma(value: str, text: str) -> None:
    assert money(Decimal(value)) == text


def test_one_is_singular_and_every_other_number_plural() -> None:
    assert [count(one, "aviso") for one in (0, 1, 2)] == ["0 avisos", "1 aviso", "2 avisos"]
    assert count(2000, "mês", "meses") == "2.000 meses"


def test_a_date_begins_with_the_day() -> None:
    assert day(date(2026, 12, 5)) == "05/12/2026"


def test_the_last_of_an_enumeration_follows_an_e() -> None:
    assert [joined(["a", "b", "c"][:n]) for n in range(4)] == ["", "a", "a e b", "a, b e c"]


def test_markdown_leaves_an_escaped_text_as_it_is() -> None:
    assert escape_markdown("*a*\n`b` [c](d) | <e> #") == r"\*a\* \`b\` \[c\](d) \| \<e\> \#"


def test_a_cell_cannot_end_its_column_or_row() -> None:
    table = markdown_table(("a|b", "n"), [("x\ny|", "1")], numbers={1})
    assert table == "| a\\|b | n |\n|---|---:|\n| x y\\| | 1 |"
