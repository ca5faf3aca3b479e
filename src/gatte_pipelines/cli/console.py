"""What the commands share: output, options, and how an operation is reached.

No command belongs here.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from gatte_pipelines.errors import ConfigurationError
from gatte_pipelines.run_report import Outcome, RunReport
from gatte_pipelines.settings import Settings
from gatte_pipelines.wiring import Wiring

# Piped output has no width of its own; the default of 80 columns would cut the tables.
_PIPED_WIDTH = 160
# No markup: file names and fields hold brackets that rich would take for styles.
console = Console(
    highlight=False,
    markup=False,
    soft_wrap=True,
    width=None if sys.stdout.isatty() else _PIPED_WIDTH,
)
error_console = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)
# The end card is Markdown for Prefect; a terminal shows its words.
_MARKDOWN_SIGNS = re.compile(r"^#+ |\*\*|\*|`", re.MULTILINE)

AsJson = Annotated[bool, typer.Option("--json", help="Last line of standard output is JSON.")]
AsOf = Annotated[
    str, typer.Option("--as-of", help="ISO 8601 instant with offset; now where empty.")
]


@contextmanager
def wired() -> Iterator[Wiring]:
    """What the settings of the environment build."""
    with Wiring.from_settings(Settings.from_environment()) as wiring:
        yield wiring


def parse_as_of(text: str, option: str = "--as-of") -> datetime | None:
    """The instant of an option in UTC; None where it is empty.

    Raises:
        ConfigurationError: It is no instant, or has no offset.
    """
    if not text:
        return None
    try:
        instant = datetime.fromisoformat(text)
    except ValueError:
        instant = None
    if instant is None or instant.tzinfo is None:
        raise ConfigurationError(
            f"{option} must be an ISO 8601 instant with offset, such as 2026-11-22T10:00:00-03:00"
        )
    return instant.astimezone(UTC)


@contextmanager
def bars(*columns: str, enabled: bool) -> Iterator[Callable[..., None]]:
    """A progress bar on standard error, where that is a terminal; called with its fields."""
    if not enabled or not error_console.is_terminal:
        yield lambda **_fields: None
        return
    from rich.progress import (  # noqa: PLC0415 - most runs have no terminal
        BarColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeRemainingColumn,
    )

    shown = [TextColumn(column) for column in columns]
    with Progress(
        BarColumn(),
        TaskProgressColumn(),
        *shown,
        TimeRemainingColumn(),
        console=error_console,
        transient=True,
    ) as shown_bars:
        task = shown_bars.add_task("", total=None, done="0")
        yield lambda **fields: shown_bars.update(task, **fields)


def print_report(report: RunReport, *, as_json: bool) -> None:
    """Print how a run ended; exit code 1 where it failed."""
    if as_json:
        sys.stdout.write(report.to_json().decode() + "\n")
    else:
        print_card(report)
    if report.outcome is Outcome.FAILED:
        raise typer.Exit(1)


def print_card(report: RunReport) -> None:
    """Print the end card and the balance of a run for a person."""
    print_markdown(report.summary_pt())
    if report.received:
        table = Table("item", "quantidade", box=None, pad_edge=False)
        table.columns[1].justify = "right"
        for row in report.table_rows():
            table.add_row(str(row["item"]), f"{row['quantidade']:,}".replace(",", "."))
        console.print(table)


def print_markdown(text: str) -> None:
    """Print what is Markdown for Prefect as words for a terminal."""
    console.print(_MARKDOWN_SIGNS.sub("", text))


def print_json(value: object) -> None:
    """Print a value as one line of JSON."""
    sys.stdout.write(json.dumps(value, default=str, ensure_ascii=False) + "\n")
