"""Composition root: from settings to connections, clients and the registry of pipelines.

The only place that knows both settings and domains. Business rules do not belong here.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gatte_pipelines.database import engine as database
from gatte_pipelines.database import migrate, roles
from gatte_pipelines.database.runs import run_recorded
from gatte_pipelines.errors import ConfigurationError
from gatte_pipelines.redaction import register_secret
from gatte_pipelines.run_report import RunReport

if TYPE_CHECKING:
    from types import TracebackType

    from sqlalchemy import URL, Connection

    from gatte_pipelines.database.embedded import EmbeddedServer
    from gatte_pipelines.inbound.ids import MessageIds
    from gatte_pipelines.inbound.load import ShowProgress
    from gatte_pipelines.settings import Settings

EMBEDDED_OWNER = "postgres"


class Wiring:
    """Everything an operation needs, built on demand and closed together.

    Args:
        settings: Read once by the caller.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._stack = ExitStack()
        self._embedded: EmbeddedServer | None = None
        _register_secrets(settings)

    @classmethod
    def from_settings(cls, settings: Settings) -> Wiring:
        """The wiring of these settings; nothing is opened yet."""
        return cls(settings)

    def __enter__(self) -> Wiring:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close what was opened; the last process stops the embedded PostgreSQL."""
        self._stack.close()
        self._embedded = None

    @property
    def message_ids(self) -> MessageIds:
        """Mints message ids with ``GATTE_ID_KEY``.

        The embedded database has a key of its own in a file beside it, made once: both are lost
        or kept together. A database named by URL must be given its key.

        Raises:
            ConfigurationError: There is no key.
        """
        from gatte_pipelines.inbound.ids import MessageIds  # noqa: PLC0415 - see OPERATIONS

        key = self.settings.id_key
        if key is None and self.settings.is_embedded:
            key = embedded_id_key(self.settings.home)
        return MessageIds(key)

    @property
    def idle(self) -> timedelta:
        """The silence that ends a conversation."""
        return timedelta(hours=self.settings.conversation_idle_hours)

    def url(self, role: str) -> str | URL:
        """The URL under which ``role`` logs in; ``owner`` migrates."""
        settings = self.settings
        if settings.database_url is None:
            return self._start_embedded().url(EMBEDDED_OWNER if role == "owner" else role)
        if role == "owner":
            return settings.migration_database_url or settings.database_url
        if role == roles.REPORTING:
            return settings.reporting_database_url or settings.database_url
        return settings.database_url

    @contextmanager
    def connect(self, role: str = roles.PIPELINE) -> Iterator[Connection]:
        """One connection of ``role``.

        Raises:
            ConfigurationError: Wrong user, password or database, or an old server.
            RetryableError: The server cannot be reached now.
        """
        with database.connect(database.make_engine(self.url(role))) as connection:
            yield connection

    def set_up_embedded(self) -> None:
        """Create the roles of the embedded PostgreSQL; elsewhere a DBA does."""
        if self.settings.is_embedded:
            with self.connect("owner") as connection:
                roles.create(connection)

    def run(
        self,
        pipeline: str,
        *,
        as_of: datetime | None = None,
        progress: ShowProgress | None = None,
        **options: Any,
    ) -> RunReport:
        """Run an operation by the name of its pipeline.

        Args:
            pipeline: A name of ``OPERATIONS``.
            as_of: The instant the run is for; now where None.
            progress: Called from time to time by long work.
            options: What this operation takes besides.

        Raises:
            GatteError: The run as a whole failed; its row in ``pipeline.runs`` says so too.
        """
        operation = OPERATIONS.get(pipeline)
        if operation is None:
            raise ConfigurationError(f"no pipeline is called {pipeline}")
        instant = as_of or datetime.now(UTC)
        return operation(self, instant.astimezone(UTC), progress, options)

    @contextmanager
    def migrated(self, role: str = roles.PIPELINE) -> Iterator[Connection]:
        """A connection to a database that is at the newest migration.

        Raises:
            ConfigurationError: It is not.
        """
        if self.settings.is_embedded and not (self.settings.home / "postgres").exists():
            raise ConfigurationError(
                "the embedded database was never set up; run: gatte db migrate"
            )
        with self.connect(role) as connection:
            migrate.assert_migrated(connection)
            yield connection

    def _start_embedded(self) -> EmbeddedServer:
        if self._embedded is None:
            from gatte_pipelines.database import embedded  # noqa: PLC0415 - psutil, a lock file

            self._embedded = self._stack.enter_context(embedded.start(self.settings.home))
        return self._embedded


def _register_secrets(settings: Settings) -> None:
    """Let no log line show a secret of the settings, whatever it looks like."""
    if settings.id_key:
        register_secret(settings.id_key.decode(errors="replace"))
    for url in (
        settings.database_url,
        settings.migration_database_url,
        settings.reporting_database_url,
    ):
        password = database.parse_url(url).password if url else None
        if password:
            register_secret(str(password))


def embedded_id_key(home: Path) -> bytes:
    """The key of the embedded database under ``home``, made on first use.

    Raises:
        ConfigurationError: Its file cannot be read or made.
    """
    path = home / "id_key"
    try:
        home.mkdir(parents=True, exist_ok=True)
        # Made under another name and linked: two processes end up with one whole key.
        draft = path.with_suffix(f".{os.getpid()}")
        draft.touch(mode=0o600)
        draft.write_text(secrets.token_hex(32))
        try:
            path.hardlink_to(draft)
        except FileExistsError:
            pass  # another process, or an earlier run, made it: that key is read below
        finally:
            draft.unlink()
        key = path.read_text().strip()
    except OSError as error:
        raise ConfigurationError(
            f"the key file {path} cannot be read or made ({type(error).__name__}); "
            "set GATTE_ID_KEY instead"
        ) from None
    register_secret(key)
    return key.encode()


Operation = Callable[
    [Wiring, datetime, "ShowProgress | None", Mapping[str, Any]],
    RunReport,
]


def _inbound_messages(
    wiring: Wiring,
    as_of: datetime,
    progress: ShowProgress | None,
    options: Mapping[str, Any],
) -> RunReport:
    """Load the landing zone, or the files given as ``paths``."""
    from gatte_pipelines.inbound import load  # noqa: PLC0415 - pays for phonenumbers
    from gatte_pipelines.landing import LandingZone  # noqa: PLC0415

    settings = wiring.settings
    ids = wiring.message_ids
    paths: list[str] | None = options.get("paths")
    zone = LandingZone(settings.landing_url)
    if paths is None and not settings.inbound_url:
        zone.create()
    with wiring.migrated() as connection, wiring.connect() as side:
        loader = load.Loader(
            connection=connection,
            side=side,
            ids=ids,
            idle=wiring.idle,
            context_messages=settings.context_messages,
        )

        def body(report: RunReport) -> None:
            if paths is None:
                loader.load_landing(zone, report, progress)
            else:
                loader.load_paths(LandingZone("."), paths, report, progress)

        # Files named by a person may be loaded beside the sweep: the locks of each chunk suffice.
        lock = load.PIPELINE if paths is None else None
        return run_recorded(connection, pipeline=load.PIPELINE, as_of=as_of, body=body, lock=lock)


def _quarantine_replay(
    wiring: Wiring,
    as_of: datetime,
    _progress: ShowProgress | None,
    options: Mapping[str, Any],
) -> RunReport:
    """Try quarantined records again, of one ``reason`` or all, at most ``limit``."""
    from gatte_pipelines.inbound import quarantine  # noqa: PLC0415

    ids = wiring.message_ids
    with wiring.migrated() as connection, wiring.connect() as side:
        replayer = quarantine.Replayer(
            connection=connection,
            side=side,
            ids=ids,
            idle=wiring.idle,
            context_messages=wiring.settings.context_messages,
        )
        return run_recorded(
            connection,
            pipeline=quarantine.PIPELINE,
            as_of=as_of,
            body=lambda report: replayer.replay(
                report, reason=options.get("reason"), limit=int(options.get("limit", 10_000))
            ),
            lock=quarantine.PIPELINE,
        )


def _session_context_expiry(
    wiring: Wiring,
    as_of: datetime,
    _progress: ShowProgress | None,
    _options: Mapping[str, Any],
) -> RunReport:
    """End contexts and conversations that the clock ends."""
    from gatte_pipelines.inbound import idle  # noqa: PLC0415

    with wiring.migrated() as connection:
        return run_recorded(
            connection,
            pipeline=idle.PIPELINE,
            as_of=as_of,
            body=lambda report: idle.expire(connection, report, idle=wiring.idle),
            lock=idle.PIPELINE,
        )


def _watchdog(
    wiring: Wiring,
    as_of: datetime,
    _progress: ShowProgress | None,
    options: Mapping[str, Any],
) -> RunReport:
    """Mail staff what went wrong; ``orchestrator_failures`` come from the flow."""
    from gatte_pipelines.messaging.email import SmtpSender, parse_addresses  # noqa: PLC0415
    from gatte_pipelines.watch import watchdog  # noqa: PLC0415
    from gatte_pipelines.watch.policy import OrchestratorFailure  # noqa: PLC0415

    settings = wiring.settings
    for name, value in (
        ("GATTE_SMTP_URL", settings.smtp_url),
        ("GATTE_STAFF_EMAIL", settings.staff_email),
    ):
        if not value:
            raise ConfigurationError(f"{name} is not set; watchdog needs it to mail staff")
    to = parse_addresses(settings.staff_email or "", "GATTE_STAFF_EMAIL")
    sender = SmtpSender(settings.smtp_url or "", to[0])
    failures = [
        OrchestratorFailure(
            flow=item["flow"],
            run_id=item["run_id"],
            state=item["state"],
            at=item["at"],
            message=item.get("message", ""),
        )
        for item in options.get("orchestrator_failures", [])
    ]
    with wiring.migrated() as connection:
        return run_recorded(
            connection,
            pipeline=watchdog.PIPELINE,
            as_of=as_of,
            body=lambda report: watchdog.watch(
                connection, report, sender=sender, to=to, orchestrator=failures
            ),
            lock=watchdog.PIPELINE,
        )


OPERATIONS: dict[str, Operation] = {
    "inbound_messages": _inbound_messages,
    "quarantine_replay": _quarantine_replay,
    "session_context_expiry": _session_context_expiry,
    "watchdog": _watchdog,
}
"""The registry of pipelines: flows and commands run the same operations by the same names."""
