"""Composition root: from settings to connections, clients and the registry of pipelines.

The only place that knows both settings and domains. Business rules do not belong here.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

from gatte_pipelines.database import engine as database
from gatte_pipelines.database import migrate, roles
from gatte_pipelines.database.runs import run_recorded
from gatte_pipelines.database.single_flight import single_flight
from gatte_pipelines.errors import ConfigurationError, GatteError, RetryableError
from gatte_pipelines.redaction import register_secret
from gatte_pipelines.run_report import Outcome, RunReport

if TYPE_CHECKING:
    from types import TracebackType

    from sqlalchemy import URL, Connection

    from gatte_pipelines.certificates.alerts import CertificateAlerts
    from gatte_pipelines.database.embedded import EmbeddedServer
    from gatte_pipelines.google_calendar.client import GoogleCalendarClient
    from gatte_pipelines.inbound.erasure import SubjectFiles
    from gatte_pipelines.inbound.idle import Periods
    from gatte_pipelines.inbound.ids import MessageIds
    from gatte_pipelines.privacy.external import ErasureHook
    from gatte_pipelines.privacy.ledger import Ledger
    from gatte_pipelines.privacy.ledger_check import Verification
    from gatte_pipelines.privacy.outside_copy import OutsideCopy
    from gatte_pipelines.privacy.policy import Policy
    from gatte_pipelines.privacy.stores import FileStore
    from gatte_pipelines.quality.check import DataQuality
    from gatte_pipelines.settings import Settings

ShowProgress = Callable[[Any], None]
"""Told from time to time how far a run is, by what has ``done`` and ``total``."""

EMBEDDED_OWNER = "postgres"
ALERT_POLICY, RECIPIENTS = "alerts.yaml", "recipients.yaml"
"""Names of the files of certificate alerts in the folder of the configuration."""


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

    @property
    def policy(self) -> Policy:
        """The retention policy of the configuration.

        Raises:
            ConfigurationError: There is none.
            BadInputError: It contradicts itself; named by line and field.
        """
        from gatte_pipelines.privacy.policy import shorten  # noqa: PLC0415
        from gatte_pipelines.privacy.policy_file import read_policy  # noqa: PLC0415
        from gatte_pipelines.settings import RETENTION_POLICY  # noqa: PLC0415

        settings = self.settings
        policy = read_policy(settings.config_folder / RETENTION_POLICY)
        for rule, days, name in (
            ("landing_archive", settings.inbound_archive_days, "GATTE_INBOUND_ARCHIVE_DAYS"),
            ("backups", settings.backup_days, "GATTE_BACKUP_DAYS"),
        ):
            policy = shorten(policy, rule, days, name)
        return policy

    @property
    def outside_ledger(self) -> OutsideCopy:
        """The copy of the privacy ledger outside the database."""
        from gatte_pipelines.privacy.outside_copy import OutsideCopy  # noqa: PLC0415

        return OutsideCopy(self.settings.outside_ledger_url)

    @contextmanager
    def ledger(self) -> Iterator[Ledger]:
        """The privacy ledger, on a connection of its own."""
        from gatte_pipelines.privacy.ledger import Ledger  # noqa: PLC0415

        with self.connect() as connection:
            yield Ledger(database.psycopg_connection(connection), self.outside_ledger)

    def verify_ledger(self, connection: Connection) -> Verification:
        """The privacy ledger compared with its copy outside; every entry is read."""
        from gatte_pipelines.privacy.ledger_check import verify  # noqa: PLC0415

        return verify(database.psycopg_connection(connection), self.outside_ledger)

    def vacuum(self, tables: Sequence[str]) -> None:
        """Vacuum tables as their owner.

        Raises:
            PermanentError: The server skipped one.
        """
        from gatte_pipelines.database.vacuum import vacuum  # noqa: PLC0415

        with self.connect("owner") as connection:
            vacuum(connection, tables)

    @contextmanager
    def certificate_alerts(
        self, connection: Connection, *, channels: Sequence[str], now: datetime
    ) -> Iterator[CertificateAlerts]:
        """The operation that tells of certificates about to expire.

        Args:
            connection: To the database, outside a transaction.
            channels: Those that may be used; empty for all that the policy names.
            now: The instant by the clock.

        Raises:
            ConfigurationError: A setting that a channel needs is missing, or a channel unknown.
            BadInputError: A file of the configuration contradicts itself.
        """
        from gatte_pipelines.business_time import BusinessCalendar  # noqa: PLC0415
        from gatte_pipelines.certificates import policy_file  # noqa: PLC0415
        from gatte_pipelines.certificates.alerts import PIPELINE, CertificateAlerts  # noqa: PLC0415
        from gatte_pipelines.certificates.channels import (  # noqa: PLC0415
            Channel,
            EmailChannel,
            WhatsAppChannel,
        )
        from gatte_pipelines.messaging.email import SmtpSender, parse_addresses  # noqa: PLC0415
        from gatte_pipelines.messaging.whatsapp import WhatsAppSender  # noqa: PLC0415

        settings = self.settings
        folder = settings.config_folder
        policy = policy_file.read_alert_policy(folder / ALERT_POLICY)
        wanted = set(channels) or {"whatsapp", "email"}
        if unknown := wanted - {"whatsapp", "email"}:
            raise ConfigurationError(f"channels: {len(unknown)} unknown; use whatsapp, email")
        mail_needs = [("GATTE_SMTP_URL", settings.smtp_url)]
        whatsapp_needs = [
            ("GATTE_WHATSAPP_PHONE_NUMBER_ID", settings.whatsapp_phone_number_id),
            ("GATTE_WHATSAPP_TOKEN", settings.whatsapp_token),
        ]
        needs = [("GATTE_STAFF_EMAIL", settings.staff_email)]
        needs += mail_needs if "email" in wanted else []
        needs += whatsapp_needs if "whatsapp" in wanted else []
        _assert_set(PIPELINE, needs)
        staff = parse_addresses(settings.staff_email or "", "GATTE_STAFF_EMAIL")
        recipients = policy_file.read_recipients(folder / RECIPIENTS, staff)
        message_ids = self.message_ids
        with ExitStack() as opened:
            usable: dict[str, Channel] = {}
            mail = None
            if "email" in wanted:
                mail = SmtpSender(settings.smtp_url or "", staff[0])
                usable["email"] = EmailChannel(mail)
            if "whatsapp" in wanted:
                sender = opened.enter_context(
                    WhatsAppSender(
                        settings.whatsapp_base_url,
                        settings.whatsapp_phone_number_id or "",
                        settings.whatsapp_token or "",
                    )
                )
                usable["whatsapp"] = WhatsAppChannel(sender, policy)
            yield CertificateAlerts(
                connection,
                policy=policy,
                recipients=recipients,
                calendar=BusinessCalendar(settings.holiday_state),
                channels=usable,
                mail=mail,
                message_id_of=lambda wamid: UUID(message_ids.of_wamid(wamid)),
                previews=settings.home / "alert_previews",
                now=now,
            )

    @contextmanager
    def google_calendar(self, pipeline: str) -> Iterator[GoogleCalendarClient]:
        """A client of the team's calendar.

        Args:
            pipeline: Who needs it, for what is said of a setting that is missing.

        Raises:
            ConfigurationError: A setting is missing or cannot be used.
        """
        from gatte_pipelines.google_calendar.client import GoogleCalendarClient  # noqa: PLC0415
        from gatte_pipelines.google_calendar.credentials import ServiceAccount  # noqa: PLC0415

        settings = self.settings
        file, calendar_id = settings.google_credentials_file, settings.google_calendar_id or ""
        needs = [
            ("GATTE_GOOGLE_CALENDAR_ID", calendar_id),
            ("GATTE_GOOGLE_CREDENTIALS_FILE", str(file or "")),
        ]
        _assert_set(pipeline, needs)
        account = ServiceAccount.from_file(
            file or Path(),
            subject=settings.google_subject,
            token_url=settings.google_token_url,
        )
        with GoogleCalendarClient(
            settings.google_calendar_base_url, calendar_id, account
        ) as client:
            yield client

    def data_quality(self, connection: Connection, *, now: datetime) -> DataQuality:
        """The operation that judges the nine tables.

        Args:
            connection: Of gatte_pipeline, outside a transaction.
            now: The instant by the clock.

        Raises:
            BadInputError: A suite or the list of waivers does not say what it must.
        """
        from gatte_pipelines.business_time import BusinessCalendar  # noqa: PLC0415
        from gatte_pipelines.quality.check import DataQuality  # noqa: PLC0415
        from gatte_pipelines.quality.suite_file import read_suites  # noqa: PLC0415
        from gatte_pipelines.quality.waivers import WAIVERS, read_waivers  # noqa: PLC0415

        suites = read_suites()
        known = [check.name for suite in suites for check in suite.checks]
        return DataQuality(
            connection=connection,
            url=self.url(roles.PIPELINE),
            suites=suites,
            waivers=read_waivers(self.settings.config_folder / WAIVERS, known),
            calendar=BusinessCalendar(self.settings.holiday_state),
            content_kept_for=self.policy.periods()["messages_content"],
            context_messages=self.settings.context_messages,
            folder=self.settings.home / "quality",
            now=now,
        )

    @property
    def erasure_hooks(self) -> dict[str, ErasureHook]:
        """The other systems that hold personal data; the CRM and the calendar register here."""
        from gatte_pipelines.privacy.external import index_hooks  # noqa: PLC0415

        return index_hooks(())

    @property
    def subject_files(self) -> SubjectFiles:
        """Landing files, archive and quarantine, searched for one person."""
        from gatte_pipelines.inbound.erasure import SubjectFiles  # noqa: PLC0415
        from gatte_pipelines.landing import LandingZone  # noqa: PLC0415

        zone = LandingZone(self.settings.landing_url)
        if not self.settings.inbound_url:
            zone.create()
        return SubjectFiles(zone, self.message_ids)

    def report_to_officer(self, connection: Connection, *, as_of: datetime) -> tuple[Path, Path]:
        """Write the officer's report; its Markdown and its HTML file."""
        from gatte_pipelines.privacy import officer, officer_page  # noqa: PLC0415

        report = officer.build_report(connection, self.policy, self.outside_ledger, as_of=as_of)
        return officer_page.save_document(report, self.officer_reports)

    @property
    def officer_reports(self) -> Path:
        """The folder of the officer's reports and incident kits."""
        return self.settings.home / "officer_reports"

    @property
    def exports(self) -> Path:
        """The folder of exports and receipts."""
        return self.settings.home / "exports"

    @contextmanager
    def inbound_at_rest(self) -> Iterator[None]:
        """Keep the load of the landing zone from running meanwhile: its files are rewritten.

        Raises:
            RetryableError: It is running now.
        """
        with self.connect() as connection, single_flight(connection, "inbound_messages") as free:
            if not free:
                raise RetryableError("inbound_messages is loading files now; try again")
            yield

    def file_stores(self) -> list[FileStore]:
        """The files that the retention policy is about."""
        from gatte_pipelines.landing import LandingZone  # noqa: PLC0415
        from gatte_pipelines.privacy import stores  # noqa: PLC0415

        zone = LandingZone(self.settings.landing_url)
        if not self.settings.inbound_url:
            zone.create()
        return [
            stores.waiting_files(zone),
            stores.archived_files(zone),
            *stores.local_stores(self.settings.home),
        ]

    def _start_embedded(self) -> EmbeddedServer:
        if self._embedded is None:
            from gatte_pipelines.database import embedded  # noqa: PLC0415 - psutil, a lock file

            self._embedded = self._stack.enter_context(embedded.start(self.settings.home))
        return self._embedded


def _register_secrets(settings: Settings) -> None:
    """Let no log line show a secret of the settings, whatever it looks like."""
    for token in (settings.whatsapp_token, settings.pipedrive_api_token):
        if token:
            register_secret(token)
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
    [Wiring, datetime, ShowProgress | None, Mapping[str, Any]],
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
            body=lambda report: idle.expire(
                connection, report, idle=wiring.idle, periods=_idle_periods(wiring.policy)
            ),
            lock=idle.PIPELINE,
        )


def _lgpd_retention(
    wiring: Wiring,
    as_of: datetime,
    _progress: ShowProgress | None,
    options: Mapping[str, Any],
) -> RunReport:
    """Plan what is due; with ``execute``, or a plan's id as ``approve``, carry it out.

    ``prefect_runs`` is the file store of Prefect's own records, which only flows can reach. Into
    ``documents`` goes the officer's report, also where the proof failed.
    """
    from gatte_pipelines.privacy import retention  # noqa: PLC0415

    approve: str = options.get("approve") or ""
    policy = wiring.policy
    with wiring.migrated() as connection, wiring.ledger() as ledger:
        engine = retention.Retention(
            connection=connection,
            ledger=ledger,
            policy=policy,
            sweep=_sweep(wiring, policy),
            files=[*wiring.file_stores(), *filter(None, [options.get("prefect_runs")])],
            hooks=wiring.erasure_hooks,
            vacuum=wiring.vacuum,
            now=datetime.now(UTC),
        )

        documents: dict[str, str] | None = options.get("documents")

        def tell_officer(report: RunReport) -> None:
            if documents is not None:
                markdown, _ = wiring.report_to_officer(connection, as_of=report.as_of)
                documents["relatorio-do-encarregado"] = markdown.read_text("utf-8")

        def body(report: RunReport) -> None:
            try:
                engine.retain(
                    report,
                    execute=bool(options.get("execute")),
                    approve=_parse_uuid(approve, "approve") if approve else None,
                    force=bool(options.get("force")),
                    after_step=options.get("after_step"),
                )
            except GatteError:
                # What is left, where the proof failed; a second failure must not hide the first.
                with suppress(Exception):
                    connection.rollback()
                    tell_officer(report)
                raise
            tell_officer(report)

        return run_recorded(
            connection,
            pipeline=retention.PIPELINE,
            as_of=as_of,
            body=body,
            lock=retention.PIPELINE,
        )


def _lgpd_subject_request(
    wiring: Wiring,
    as_of: datetime,
    _progress: ShowProgress | None,
    options: Mapping[str, Any],
) -> RunReport:
    """Export or erase (``kind``) the subject ``user_id``; ``execute`` erases."""
    from gatte_pipelines.privacy import requests  # noqa: PLC0415

    user_id = _parse_uuid(str(options["user_id"]), "user_id")
    received_at: datetime = options.get("received_at") or as_of
    policy = wiring.policy
    with wiring.migrated() as connection, wiring.ledger() as ledger:
        operation = requests.SubjectOperation(
            connection=connection,
            ledger=ledger,
            files=wiring.subject_files,
            hooks=wiring.erasure_hooks,
            exports=wiring.exports,
            periods=policy.periods(),
        )

        def body(report: RunReport) -> None:
            if options["kind"] == "export":
                operation.export(report, user_id, received_at=received_at)
                return
            with wiring.inbound_at_rest():
                operation.erase(
                    report, user_id, received_at=received_at, execute=bool(options.get("execute"))
                )

        return run_recorded(
            connection,
            pipeline=requests.PIPELINE,
            as_of=as_of,
            body=body,
            lock=requests.PIPELINE,
        )


def _sweep(wiring: Wiring, policy: Policy) -> Callable[[datetime], Mapping[str, int]]:
    """The operation of ``inbound`` that ends by the clock, for the engine of ``privacy``."""
    from gatte_pipelines.inbound import idle  # noqa: PLC0415

    def sweep(as_of: datetime) -> Mapping[str, int]:
        with wiring.connect() as connection:
            ended = idle.end_by_clock(
                connection, as_of=as_of, idle=wiring.idle, periods=_idle_periods(policy)
            )
        return {
            "session_context_ttl": ended.contexts,
            "message_changes_waiting": ended.waiting_changes,
            "undo_records": ended.undo_records,
            "identity_changes_unknown": ended.unknown_identities,
        }

    return sweep


def _idle_periods(policy: Policy) -> Periods:
    from gatte_pipelines.inbound.idle import Periods  # noqa: PLC0415

    periods = policy.periods()
    return Periods(
        contexts=periods["session_context_ttl"],
        waiting_changes=periods["message_changes_waiting"],
        unknown_identities=periods["identity_changes_unknown"],
        undo_records=periods["undo_records"],
    )


def _parse_uuid(text: str, name: str) -> UUID:
    try:
        return UUID(text.strip())
    except ValueError:
        raise ConfigurationError(f"{name} must be a UUID") from None


def _certificate_state(
    wiring: Wiring,
    as_of: datetime,
    _progress: ShowProgress | None,
    _options: Mapping[str, Any],
) -> RunReport:
    """Bring days_to_expire and status of every certificate to the business date."""
    from gatte_pipelines.certificates import alerts  # noqa: PLC0415

    with wiring.migrated() as connection:
        return run_recorded(
            connection,
            pipeline=alerts.STATE_PIPELINE,
            as_of=as_of,
            body=lambda report: alerts.refresh_state(connection, report),
            lock=alerts.PIPELINE,
        )


def _certificate_alerts(
    wiring: Wiring,
    as_of: datetime,
    _progress: ShowProgress | None,
    options: Mapping[str, Any],
) -> RunReport:
    """Tell clients and staff what expires; without ``execute``, or a plan to ``approve``, show it.

    Into ``documents`` goes the preview of a dry run, without personal values.
    """
    from gatte_pipelines.certificates import alerts  # noqa: PLC0415

    approve: str = options.get("approve") or ""
    plan_id = _parse_uuid(approve, "approve") if approve else None
    with (
        wiring.migrated() as connection,
        wiring.certificate_alerts(
            connection, channels=options.get("channels") or (), now=datetime.now(UTC)
        ) as operation,
    ):

        def body(report: RunReport) -> None:
            dry_run = not options.get("execute")
            # What a dry run shows reaches nobody.
            is_shown_only = dry_run and plan_id is None
            if is_shown_only or not _skip_where_gated(connection, report, _ALERTS_DEPEND_ON):
                operation.alert(
                    report,
                    dry_run=dry_run,
                    approve=plan_id,
                    documents=options.get("documents"),
                )

        return run_recorded(
            connection, pipeline=alerts.PIPELINE, as_of=as_of, body=body, lock=alerts.PIPELINE
        )


# What a gate of quality on one of these stops.
_ALERTS_DEPEND_ON = ("certificates", "users", "services")


def _data_quality(
    wiring: Wiring,
    as_of: datetime,
    progress: ShowProgress | None,
    options: Mapping[str, Any],
) -> RunReport:
    """Judge ``tables`` (all nine where empty) in a ``mode``: auto, full or incremental.

    Into ``documents`` goes the table of what did not pass.
    """
    from gatte_pipelines.quality import check  # noqa: PLC0415 - see OPERATIONS
    from gatte_pipelines.quality.scope import Mode  # noqa: PLC0415

    asked = check.Options(
        tables=tuple(options.get("tables") or ()),
        mode=Mode(options.get("mode") or Mode.AUTO),
        documents=options.get("documents"),
        progress=progress,
    )
    with wiring.migrated() as connection:
        operation = wiring.data_quality(connection, now=datetime.now(UTC))
        return run_recorded(
            connection,
            pipeline=check.PIPELINE,
            as_of=as_of,
            body=lambda report: operation.check(report, asked),
            lock=check.PIPELINE,
        )


def _skip_where_gated(connection: Connection, report: RunReport, tables: Sequence[str]) -> bool:
    """Whether a run must do nothing because a table it depends on is not to be trusted."""
    from gatte_pipelines.database.gates import GATE_CLOSED, read_closed  # noqa: PLC0415

    driver = database.psycopg_connection(connection)
    with driver.transaction():
        closed = read_closed(driver, tables)
    if closed:
        report.outcome, report.reason = Outcome.SKIPPED, GATE_CLOSED
        report.notes += [f"{gate.table}: {gate.reason}" for gate in closed]
    return bool(closed)


def _assert_set(pipeline: str, needs: Iterable[tuple[str, str | None]]) -> None:
    """Name the first setting that is missing, before any work starts."""
    for name, value in needs:
        if not value:
            raise ConfigurationError(f"{name} is not set; {pipeline} needs it")


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
    _assert_set(
        "watchdog",
        [("GATTE_SMTP_URL", settings.smtp_url), ("GATTE_STAFF_EMAIL", settings.staff_email)],
    )
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
    "lgpd_retention": _lgpd_retention,
    "lgpd_subject_request": _lgpd_subject_request,
    "certificate_state": _certificate_state,
    "certificate_alerts": _certificate_alerts,
    "data_quality": _data_quality,
    "watchdog": _watchdog,
}
"""The registry of pipelines: flows and commands run the same operations by the same names."""
