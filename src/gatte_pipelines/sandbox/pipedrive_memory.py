"""What the stand-in for Pipedrive remembers from one `make run` to the next: one file.

The database remembers which of its leads are there; a company that forgot them all would look like
one in which everything was deleted. What is remembered belongs to ``pipedrive_account``.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from gatte_pipelines.sandbox.pipedrive_account import Account

# Of these keys Pipedrive's rows have instants; what is written into custom fields is left alone.
_INSTANT = "_time"


def save(account: Account, path: Path) -> None:
    """Write what a company holds, whole or not at all; for its owner only.

    Args:
        account: The company.
        path: The file; its folder is there.
    """
    draft = path.with_suffix(".part")
    draft.touch(mode=0o600)
    draft.write_bytes(msgspec.json.encode(account.snapshot()))
    draft.replace(path)


def load(account: Account, path: Path) -> bool:
    """Let a company hold what was saved; False where there is no such file.

    Args:
        account: The company, as it was founded.
        path: The file.
    """
    try:
        written: dict[str, Any] = msgspec.json.decode(path.read_bytes())
    except FileNotFoundError:
        return False
    rows = [row for kind in written["rows"].values() for row in kind]
    for row in [*rows, *written["deleted"]]:
        for key, value in row.items():
            if key.endswith(_INSTANT) and isinstance(value, str):
                row[key] = datetime.fromisoformat(value)
    account.restore(written)
    return True
