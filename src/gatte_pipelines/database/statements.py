"""Named statements of a SQL file: ``-- name: do_this`` begins one.

The files stand beside the modules that run them. Building SQL from text does not belong here.
"""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path
from typing import LiteralString, cast

_NAME = re.compile(r"^-- name: ([a-z_]+)$", re.MULTILINE)


@lru_cache(maxsize=32)
def read_statements(path: Path) -> dict[str, LiteralString]:
    """The statements of a file by name, in the file's order.

    A file of this package is as fixed as a literal; hence the type that psycopg asks for.
    """
    parts = _NAME.split(path.read_text("utf-8"))
    names, bodies = parts[1::2], parts[2::2]
    return {
        name: cast("LiteralString", body.strip()) for name, body in zip(names, bodies, strict=True)
    }
