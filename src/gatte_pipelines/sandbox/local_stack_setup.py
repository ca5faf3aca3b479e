"""What flow runs of the local stack stand on: settings, database, mailbox, sample input.

Prefect belongs to ``local_stack``.
"""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from gatte_pipelines.database import embedded, migrate, roles
from gatte_pipelines.database.engine import make_engine
from gatte_pipelines.landing import SUFFIXES, LandingZone
from gatte_pipelines.sandbox.smtp import SmtpStandIn
from gatte_pipelines.sandbox.traffic import TrafficPlan, write_traffic
from gatte_pipelines.settings import PREFIX, Settings
from gatte_pipelines.wiring import embedded_id_key

if TYPE_CHECKING:
    from sqlalchemy import URL

# A few seconds of work, with redeliveries, late records and one bad record in two hundred.
SAMPLE = TrafficPlan(
    messages=5_000, users=400, seed=1, as_of=datetime(2026, 11, 20, 18, tzinfo=UTC)
)
SAMPLE_NAME = "sample_traffic.jsonl"
STAND_IN_RECIPIENT = "equipe@gatte.example"


def settings_variables(settings: Settings) -> dict[str, str]:
    """The environment from which ``Settings.from_environment`` reads these settings again.

    What is not set is written as empty, so that no ``.env`` file fills it in.
    """
    return {
        PREFIX + item.name.upper(): _to_text(getattr(settings, item.name))
        for item in dataclasses.fields(settings)
    }


def _to_text(value: object) -> str:
    if value is None:
        return ""
    return value.decode() if isinstance(value, bytes) else str(value)


@contextmanager
def prepared(settings: Settings, echo: Callable[[str], None]) -> Iterator[Settings]:
    """Start what the operations need and is not given: database, mailbox, landing zone.

    A database named by URL is left as it is: migrating it is a decision (``gatte db migrate``).

    Yields:
        The settings with which flow runs reach it all.
    """
    with ExitStack() as resources:
        if settings.is_embedded:
            echo("starting the embedded PostgreSQL")
            server = resources.enter_context(embedded.start(settings.home))
            engine = make_engine(server.url(embedded.SUPERUSER))
            with engine.connect() as connection:
                roles.create(connection)
                done = migrate.migrate(connection)
            engine.dispose()
            if done:
                echo(f"migrated the database to {done[-1]}")
            # By URL: the database lives as long as the stack, and no run has to ask for it.
            settings = dataclasses.replace(
                settings,
                database_url=_text(server.url(roles.PIPELINE)),
                migration_database_url=_text(server.url(embedded.SUPERUSER)),
                reporting_database_url=_text(server.url(roles.REPORTING)),
                id_key=settings.id_key or embedded_id_key(settings.home),
            )
        if settings.smtp_url is None:
            stand_in = resources.enter_context(SmtpStandIn(settings.home / "mail"))
            settings = dataclasses.replace(
                settings,
                smtp_url=stand_in.url,
                staff_email=settings.staff_email or STAND_IN_RECIPIENT,
            )
        if not settings.inbound_url:
            LandingZone(settings.landing_url).create()
        yield settings


def _text(url: URL) -> str:
    return url.render_as_string(hide_password=False)


def lay_sample_input(settings: Settings, project: Path, echo: Callable[[str], None]) -> None:
    """Put the sample input into the landing zone, by rename as real batches arrive.

    Only where everything is local: a database or landing zone of one's own gets no made-up data.
    """
    if not settings.is_embedded or settings.inbound_url:
        echo("no sample input: the database or the landing zone is yours")
        return
    landing = Path(settings.landing_url)
    landing.mkdir(parents=True, exist_ok=True)
    examples = [
        path for path in sorted((project / "examples").rglob("*")) if path.name.endswith(SUFFIXES)
    ]
    for path in examples:
        partial = landing / f"{path.name}.part"
        shutil.copyfile(path, partial)
        partial.rename(landing / path.name)
    partial = landing / f"{SAMPLE_NAME}.part"
    with partial.open("wb") as out:
        counts = write_traffic(SAMPLE, out)
    partial.rename(landing / SAMPLE_NAME)
    echo(f"sample input: {len(examples) + 1} files, {counts.updates} generated records among them")
