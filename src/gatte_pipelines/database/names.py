"""Names of schemas and tables, for those who need no table definitions.

The definitions stand in ``tables`` and ``pipeline_tables``; importing them pays for the ORM, which
a minute's run that finds nothing must not.
"""

from __future__ import annotations

SCHEMA = "pipeline"
"""Schema of our own tables."""

NINE = (
    "users",
    "conversations",
    "messages",
    "session_context",
    "tickets",
    "leads",
    "appointments",
    "services",
    "certificates",
)
"""The nine tables in the order of DOC 01 §2, parents first."""
