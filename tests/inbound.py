"""The inbound operations over a test's own database and landing zone, as a flow would run them."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import text

from gatte_pipelines.run_report import RunReport
from gatte_pipelines.settings import Settings
from gatte_pipelines.wiring import Wiring
from tests.postgres import TestDatabase
from tests.webhooks import jsonl, texts

AS_OF = datetime(2026, 3, 2, 15, tzinfo=UTC)
NOW = int(AS_OF.timestamp())
HOUR = 3600

_numbers = itertools.count(1)


class Inbound:
    """Loads what a test puts into its landing zone. Every report it returns is balanced.

    Args:
        database: The test's own.
        settings: Changes of the settings.
    """

    def __init__(self, database: TestDatabase, **settings: Any) -> None:
        self.database = database
        self.landing = database.home / "landing"
        self.landing.mkdir(parents=True, exist_ok=True)
        values = {"inbound_url": str(self.landing)} | settings
        self.settings: Settings = database.settings(**values)

    def put(self, name: str, content: bytes) -> Path:
        """Let a file appear in the landing zone as files do: by rename."""
        unfinished = self.landing / f"{name}.part"
        unfinished.write_bytes(content)
        return unfinished.rename(self.landing / name)

    def run(self, pipeline: str, as_of: datetime = AS_OF, **options: Any) -> RunReport:
        """Run an operation by name."""
        with Wiring(self.settings) as wiring:
            report = wiring.run(pipeline, as_of=as_of, **options)
        report.balance()
        return report

    def load(self, as_of: datetime = AS_OF, **options: Any) -> RunReport:
        """Load the landing zone."""
        return self.run("inbound_messages", as_of, **options)

    def send(self, *lines: bytes, as_of: datetime = AS_OF) -> RunReport:
        """Load these lines as one file."""
        self.put(f"batch-{next(_numbers):06}.jsonl", jsonl(*lines))
        return self.load(as_of)

    def say(self, *messages: dict[str, Any], as_of: datetime = AS_OF) -> RunReport:
        """Load these messages, one notification each."""
        return self.send(*(texts(message) for message in messages), as_of=as_of)

    def rows(self, query: str, **parameters: Any) -> list[tuple[Any, ...]]:
        """What a query gives, asked as the owner."""
        with self.database.connect("owner") as connection:
            return [tuple(row) for row in connection.execute(text(query), parameters)]

    def one(self, query: str, **parameters: Any) -> tuple[Any, ...]:
        """The only row of a query."""
        (row,) = self.rows(query, **parameters)
        return row

    def execute(self, statement: str, **parameters: Any) -> None:
        """Change something as the owner."""
        with self.database.connect("owner") as connection, connection.begin():
            connection.execute(text(statement), parameters)

    def insert_user(self, phone: str, name: str | None = None) -> str:
        """Insert a user as the chatbot does, under another writer's name; the id."""
        with self.database.connect("owner") as connection, connection.begin():
            connection.execute(text("select set_config('gatte.writer', 'chatbot', true)"))
            return str(
                connection.scalar(
                    text(
                        "insert into users (id, phone, name, is_client, created_at, updated_at) "
                        "values (gen_random_uuid(), :phone, :name, false, :at, :at) returning id"
                    ),
                    {"phone": phone, "name": name, "at": AS_OF},
                )
            )
