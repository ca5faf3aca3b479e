"""The HTML mails in a real browser: nothing is wider than a phone, and nothing is loaded."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from playwright.sync_api import Page, Request, sync_playwright

from gatte_pipelines.certificates.digest_page import digest_email
from gatte_pipelines.certificates.texts import client_email
from tests.mails import LONG_WORD, digest, line, lines

CHROMIUM = Path("/usr/bin/chromium")
ARGUMENTS = [
    "--no-sandbox",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]

MAILS = {
    "client, one": client_email("Ana", [line(7)]).html,
    "client, expired": client_email(None, [line(-3)]).html,
    "client, seven": client_email("Ana", lines(7)).html,
    "client, hostile": client_email("x" * 150, lines(7, service=LONG_WORD)).html,
    "client, 200": client_email("Ana", lines(200)).html,
    "digest, one entry": digest_email(
        replace(digest(1), audience="manager", undelivered=(), channels=())
    ).html,
    "digest, small": digest_email(digest(6)).html,
    "digest, large": digest_email(digest(3000, service=LONG_WORD)).html,
}

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    if not CHROMIUM.is_file():
        pytest.fail(f"{CHROMIUM} is missing; install Debian's chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=ARGUMENTS)
        yield browser.new_page()
        browser.close()


@pytest.mark.parametrize("width", [320, 390, 1280])
@pytest.mark.parametrize("name", MAILS)
def test_a_mail_fits_the_width_of_the_screen_and_loads_nothing(
    page: Page, name: str, width: int
) -> None:
    asked: list[str] = []

    def note(request: Request) -> None:
        asked.append(request.url)

    page.on("request", note)
    page.set_viewport_size({"width": width, "height": 800})
    page.set_content(MAILS[name])
    page.remove_listener("request", note)
    # The widest element counts, not only what the window could scroll to.
    widest = page.evaluate(
        "Math.max(...[...document.querySelectorAll('body *')]"
        ".map(one => one.getBoundingClientRect().right))"
    )
    spilled = page.evaluate(
        "[...document.querySelectorAll('td,h1,h2,h3,p,li')]"
        ".filter(one => one.scrollWidth > one.clientWidth + 1).length"
    )
    assert widest <= width
    assert spilled == 0
    assert asked == []


def test_every_text_stands_out_from_its_ground(page: Page) -> None:
    """WCAG 2.2, 1.4.3: at least 4.5 to 1 for text."""
    page.set_content(MAILS["digest, small"])
    ratios = page.evaluate(
        """() => {
          const parts = text => text.match(/[\\d.]+/g).map(Number);
          const light = ([r, g, b]) => [r, g, b].map(v => v / 255)
            .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
            .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
          const ground = one => {
            for (let at = one; at; at = at.parentElement) {
              const colour = parts(getComputedStyle(at).backgroundColor);
              if (colour.length === 3 || colour[3] > 0) return colour;
            }
            return [255, 255, 255];
          };
          return [...document.querySelectorAll('h1,h2,h3,p,li,th,td,span,strong')].map(one => {
            const a = light(parts(getComputedStyle(one).color)), b = light(ground(one));
            return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
          });
        }"""
    )
    assert len(ratios) > 50
    assert min(ratios) >= 4.5


@pytest.mark.parametrize("name", MAILS)
def test_headings_descend_without_a_gap_from_the_only_first_one(page: Page, name: str) -> None:
    page.set_content(MAILS[name])
    levels = page.evaluate("[...document.querySelectorAll('h1,h2,h3')].map(h => +h.tagName[1])")
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(level <= before + 1 for before, level in pairwise(levels))
    assert page.get_attribute("html", "lang") == "pt-BR"
