"""Known failures that are put up with for a time: who says so, why, and until when.

Pure but for the reading of its file.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from uuid import UUID

from gatte_pipelines.config_file import read_config
from gatte_pipelines.config_tree import Fields, Node, read_tree
from gatte_pipelines.errors import BadInputError

WAIVERS = "quality_waivers.yaml"
"""Name of the file in the folder of the configuration."""

_ALL = "all"


@dataclass(frozen=True)
class Waiver:
    """A failure that is put up with.

    Attributes:
        check: Its name.
        keys: The rows that may fail; empty for all.
        reason: Why, in Portuguese.
        owner: Who answers for it: a role, not a name.
        until: The last day on which it holds.
    """

    check: str
    keys: tuple[UUID, ...]
    reason: str
    owner: str
    until: date

    def holds_on(self, day: date) -> bool:
        """Whether it still holds on a business date."""
        return day <= self.until


def read_waivers(path: Path, known: Collection[str]) -> tuple[Waiver, ...]:
    """Read the waivers of the configuration.

    Args:
        path: Of the file.
        known: The names of all checks.

    Raises:
        ConfigurationError: There is no such file.
        BadInputError: It does not say what it must, or waives a check that is none.
    """
    return parse_waivers(read_config(path, "list of waivers"), path.name, known)


def parse_waivers(text: str, file: str, known: Collection[str]) -> tuple[Waiver, ...]:
    """Read waivers from the text of their file.

    Args:
        text: YAML.
        file: Its name, for errors.
        known: The names of all checks.

    Raises:
        BadInputError: Named by line and field.
    """
    root = read_tree(text, file)
    top = Fields.of(file, "", root.line, root, required=("waivers",))
    listed = top.entries["waivers"][1].value
    if not isinstance(listed, list):
        raise top.refuse("waivers", "expected a list, such as []")
    waivers: list[Waiver] = []
    for number, node in enumerate(listed):
        waiver = _parse(top, number, node, known)
        if any(other.check == waiver.check for other in waivers):
            raise BadInputError(
                file,
                node.line,
                f"waivers[{number}].check",
                "expected one waiver a check: join them",
            )
        waivers.append(waiver)
    return tuple(waivers)


def _parse(top: Fields, number: int, node: Node, known: Collection[str]) -> Waiver:
    fields = Fields.of(
        top.file,
        f"waivers[{number}]",
        node.line,
        node,
        required=("check", "scope", "reason", "owner", "until"),
    )
    check = fields.text("check", "the name of a check, such as tickets.protocol_format")
    if check not in known:
        table = check.partition(".")[0]
        close = sorted(name for name in known if name.partition(".")[0] == table)
        raise fields.refuse(
            "check",
            f"no check of this name; expected one of {', '.join(close)}"
            if close
            else "no check of this name; `gatte quality list` shows them all",
        )
    return Waiver(
        check=check,
        keys=_parse_scope(fields),
        reason=fields.text("reason", "why, in Portuguese"),
        owner=fields.text("owner", "who answers for it: a role, not a name"),
        until=_parse_date(fields),
    )


def _parse_scope(fields: Fields) -> tuple[UUID, ...]:
    if fields.entries["scope"][1].value == _ALL:
        return ()
    keys = []
    for number, (line, value) in enumerate(
        fields.items(
            "scope", example="[an id of a row], or the word all", expected="an id of a row"
        )
    ):
        try:
            keys.append(UUID(value))
        except ValueError:
            raise fields.refuse_item("scope", number, line, "expected an id of a row") from None
    if not keys:
        raise fields.refuse("scope", "expected ids of rows, or the word all")
    return tuple(keys)


def _parse_date(fields: Fields) -> date:
    text = fields.text("until", "a date such as 2026-12-31")
    try:
        if re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", text):
            return date.fromisoformat(text)
    except ValueError:
        pass
    raise fields.refuse("until", "expected a date such as 2026-12-31")
