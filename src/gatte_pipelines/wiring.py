"""Composition root: from settings to connections, clients and the registry of pipelines.

The only place that knows both settings and domains. Business rules do not belong here.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from datetime import UTC, date, datetime, time, timedelta
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
    from gatte_pipelines.crm.client import PipedriveClient
    from gatte_pipelines.crm.erasure import Known
    from gatte_pipelines.crm.policy import CrmPolicy
    from gatte_pipelines.crm.sync import CrmSync
    from gatte_pipelines.database.embedded import EmbeddedServer
    from gatte_pipelines.doctor.checkup import Check
    from gatte_pipelines.doctor.needs import Need
    from gatte_pipelines.google_calendar.client import GoogleCalendarClient
    from gatte_pipelines.health import Finding
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
    from gatte_pipelines.sync.conflicts import Resolver

ShowProgress = Callable[[Any], None]
"""Told from time to time how far a run is, by what has ``done`` and ``total``."""

EMBEDDED_OWNER = "postgres"
ALERT_POLICY, RECIPIENTS = "alerts.yaml", "recipients.yaml"
"""Names of the files of certificate alerts in the folder of the configuration."""
# Who needs Pipedrive, where it is not the sync.
_ERASURE = "the erasure of a person in Pipedrive"
CRM_FIELDS, CRM_STAGES = "crm_fields.yaml", "crm_stages.yaml"
"""Names of the files of the sync with Pipedrive in the folder of the configuration."""


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

    def crm_sync(
        self, connection: Connection, client: PipedriveClient, policy: CrmPolicy, *, now: datetime
    ) -> CrmSync:
        """The operation that keeps leads and Pipedrive in step.

        Args:
            connection: Of gatte_pipeline, outside a transaction.
            client: Of Pipedrive.
            policy: Of ``crm_policy``.
            now: The instant by the clock.
        """
        from gatte_pipelines.crm.sync import CrmSync  # noqa: PLC0415 - see OPERATIONS
        from gatte_pipelines.landing import LandingZone  # noqa: PLC0415

        zone = LandingZone(self.settings.landing_url)
        if not self.settings.inbound_url:
            zone.create()
        return CrmSync(
            connection,
            client=client,
            policy=policy,
            webhooks=zone,
            imports=self.settings.crm_import,
            now=now,
        )

    @property
    def crm_policy(self) -> CrmPolicy:
        """How leads and Pipedrive are kept in step, by the configuration.

        Raises:
            ConfigurationError: A file of it is missing.
            BadInputError: It contradicts itself; named by line and field.
        """
        from gatte_pipelines.crm.policy_file import read_crm_policy  # noqa: PLC0415

        folder = self.settings.config_folder
        return read_crm_policy(folder / CRM_FIELDS, folder / CRM_STAGES)

    def checks(self) -> list[Check]:
        """What ``gatte doctor`` looks at, in its order."""
        from gatte_pipelines.doctor.checkup import Check  # noqa: PLC0415
        from gatte_pipelines.doctor.database import check_database  # noqa: PLC0415
        from gatte_pipelines.doctor.needs import check_needs  # noqa: PLC0415

        return [
            Check("Banco de dados", lambda: check_database(self.migrated)),
            Check("Configurações", lambda: check_needs(_needs(self.settings))),
            Check("Pipedrive", self._check_pipedrive),
        ]

    def _check_pipedrive(self) -> Iterator[Finding]:
        from gatte_pipelines.crm.account import load_account  # noqa: PLC0415
        from gatte_pipelines.crm.health import check_account  # noqa: PLC0415

        policy = self.crm_policy
        if not all(value for _, value in _settings_of("crm_sync", self.settings)):
            return  # told among the settings
        with (
            self.migrated() as connection,
            self.pipedrive_client(connection, needed_by="crm_sync") as client,
        ):
            driver = database.psycopg_connection(connection)
            with driver.transaction(), driver.cursor() as cursor:
                known = load_account(cursor)
            yield from check_account(client, policy, known)

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

    @contextmanager
    def pipedrive_client(
        self, connection: Connection, *, needed_by: str
    ) -> Iterator[PipedriveClient]:
        """A client of Pipedrive that spends from the day's share, and notes what it spent.

        Args:
            connection: Outside a transaction, at the beginning and at the end.
            needed_by: The flow or work that cannot do without, for the error.

        Raises:
            ConfigurationError: A setting is missing, or cannot be used.
        """
        from gatte_pipelines.crm.client import PipedriveClient  # noqa: PLC0415 - see OPERATIONS
        from gatte_pipelines.crm.tokens import load_ledger, store_ledger  # noqa: PLC0415

        _assert_set(needed_by, self._pipedrive_needs())
        url, token = self.settings.pipedrive_base_url, self.settings.pipedrive_api_token
        driver = database.psycopg_connection(connection)
        with driver.transaction(), driver.cursor() as cursor:
            ledger = load_ledger(cursor)

        def store() -> None:
            with driver.transaction(), driver.cursor() as cursor:
                store_ledger(cursor, ledger, at=datetime.now(UTC))

        try:
            with PipedriveClient(url or "", token or "", ledger=ledger) as client:
                yield client
        except BaseException:
            # What failed may have left a transaction; a second failure must not hide the first.
            with suppress(Exception):
                connection.rollback()
                store()
            raise
        store()

    def _pipedrive_needs(self) -> list[tuple[str, str | None]]:
        return _settings_of("crm_sync", self.settings)

    @property
    def erasure_hooks(self) -> dict[str, ErasureHook]:
        """The other systems that hold personal data; the calendar will register here too.

        A system that is not configured is in it: what it holds stays on the list until it is.
        """
        from gatte_pipelines.privacy.external import index_hooks  # noqa: PLC0415

        @contextmanager
        def opened() -> Iterator[tuple[PipedriveClient, Known]]:
            with (
                self.connect() as connection,
                self.pipedrive_client(connection, needed_by=_ERASURE) as client,
            ):
                yield client, _read_known(connection)

        return index_hooks([pipedrive_hook(opened)])

    def confirm_external_tasks(
        self,
        connection: Connection,
        *,
        as_of: datetime,
        client: PipedriveClient | None = None,
    ) -> list[str]:
        """Let the other systems erase what they still have to; notes for the run's report.

        Args:
            connection: Of gatte_pipeline, outside a transaction.
            as_of: Now.
            client: Of Pipedrive, where one is open; else one is opened if there is a task for it.
        """
        from gatte_pipelines.privacy.external import (  # noqa: PLC0415
            confirm_external_tasks,
            index_hooks,
        )

        with ExitStack() as stack:
            clients = [] if client is None else [client]

            @contextmanager
            def opened() -> Iterator[tuple[PipedriveClient, Known]]:
                if not clients:
                    made = self.pipedrive_client(connection, needed_by=_ERASURE)
                    clients.append(stack.enter_context(made))
                yield clients[0], _read_known(connection)

            hooks = self.erasure_hooks | index_hooks([pipedrive_hook(opened)])
            done = confirm_external_tasks(connection, hooks, as_of=as_of)
        if not done.tried and not done.waiting:
            return []
        counts = f"eliminações em outros sistemas: {done.confirmed} confirmadas, "
        closed = [f"pedido {request_id}: concluído" for request_id in done.closed_requests]
        return [f"{counts}{done.waiting} em aberto", *closed, *done.problems]

    @property
    def conflict_resolvers(self) -> dict[str, Resolver]:
        """By system, what carries out a person's decision about a conflict."""
        from gatte_pipelines.crm.company import SYSTEM  # noqa: PLC0415
        from gatte_pipelines.crm.resolution import resolve_conflict  # noqa: PLC0415

        return {SYSTEM: resolve_conflict}

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

        names = ", ".join(name for name, value in self._pipedrive_needs() if not value)
        report = officer.build_report(
            connection,
            self.policy,
            self.outside_ledger,
            as_of=as_of,
            missing={"pipedrive": names},
        )
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


def pipedrive_hook(
    opened: Callable[[], AbstractContextManager[tuple[PipedriveClient, Known]]],
) -> ErasureHook:
    """How Pipedrive is told to forget a person.

    Args:
        opened: Entered for every call there: the client, and what our tables know at that moment.
    """
    from gatte_pipelines.crm import erasure  # noqa: PLC0415 - see OPERATIONS
    from gatte_pipelines.crm.company import SYSTEM  # noqa: PLC0415
    from gatte_pipelines.privacy.external import ErasureHook  # noqa: PLC0415

    def erase(reference: str) -> None:
        with opened() as (client, known):
            erasure.erase(client, reference, known)

    def is_erased(reference: str) -> bool:
        with opened() as (client, known):
            return erasure.is_erased(client, reference, known)

    return ErasureHook(
        system=SYSTEM,
        plan=erasure.plan_references,
        erase=erase,
        is_erased=is_erased,
        ends_round=erasure.ends_round,
        explain=erasure.explain,
    )


def _read_known(connection: Connection) -> Known:
    from gatte_pipelines.crm.erasure import read_known  # noqa: PLC0415

    driver = database.psycopg_connection(connection)
    with driver.transaction(), driver.cursor() as cursor:
        return read_known(cursor)


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


def _crm_sync(
    wiring: Wiring,
    as_of: datetime,
    progress: ShowProgress | None,
    options: Mapping[str, Any],
) -> RunReport:
    """Keep leads and Pipedrive in step: ``direction``, ``since``, ``dry_run``, ``approve``.

    Into ``documents`` goes the table of what a dry run, or a plan, would change, without values.
    """
    from gatte_pipelines.crm import sync  # noqa: PLC0415 - see OPERATIONS
    from gatte_pipelines.crm.exchange import Direction  # noqa: PLC0415

    _assert_set(sync.PIPELINE, _settings_of(sync.PIPELINE, wiring.settings))
    direction = Direction(options.get("direction") or Direction.BOTH)
    since = _parse_since(str(options.get("since") or ""), as_of)
    approve = str(options.get("approve") or "")
    plan_id = _parse_uuid(approve, "approve") if approve else None
    dry_run = bool(options.get("dry_run"))
    if dry_run and plan_id is not None:
        raise ConfigurationError(
            "dry_run shows and approve carries out; give one of the two, not both"
        )
    policy = wiring.crm_policy
    with (
        wiring.migrated() as connection,
        wiring.pipedrive_client(connection, needed_by=sync.PIPELINE) as client,
    ):
        operation = wiring.crm_sync(connection, client, policy, now=as_of)

        def body(report: RunReport) -> None:
            # What a dry run shows reaches nobody.
            if dry_run or not _skip_where_gated(connection, report, _CRM_DEPENDS_ON):
                operation.sync(
                    report,
                    direction=direction,
                    since=since,
                    dry_run=dry_run,
                    approve=plan_id,
                    documents=options.get("documents"),
                    progress=progress,
                )
            # Erasures are owed whatever became of the leads; without tokens they cannot be asked.
            if not dry_run and report.reason != "budget":
                report.notes += wiring.confirm_external_tasks(
                    connection, as_of=report.as_of, client=client
                )

        return run_recorded(
            connection, pipeline=sync.PIPELINE, as_of=as_of, body=body, lock=sync.PIPELINE
        )


_CRM_DEPENDS_ON = ("leads",)


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


def _parse_since(text: str, now: datetime) -> datetime | None:
    """The instant of an ISO date, which begins in São Paulo, or of an instant; None where empty.

    Raises:
        ConfigurationError: It is neither, or lies in the future.
    """
    from gatte_pipelines.business_time import ZONE  # noqa: PLC0415

    text = text.strip()
    if not text:
        return None
    instant: datetime | None = None
    with suppress(ValueError):
        instant = datetime.combine(date.fromisoformat(text), time(), ZONE)
    if instant is None:
        with suppress(ValueError):
            instant = datetime.fromisoformat(text)
    if instant is None or instant.tzinfo is None:
        raise ConfigurationError(
            "since must be a date such as 2026-11-22, or an ISO 8601 instant with offset such as "
            "2026-11-22T10:00:00-03:00"
        )
    if instant > now:
        raise ConfigurationError("since lies in the future; nothing has changed there yet")
    return instant.astimezone(UTC)


def _assert_set(pipeline: str, needs: Iterable[tuple[str, str | None]]) -> None:
    """Name the first setting that is missing, before any work starts."""
    for name, value in needs:
        if not value:
            raise ConfigurationError(f"{name} is not set; {pipeline} needs it")


def _resolve_conflict(
    wiring: Wiring,
    as_of: datetime,
    _progress: ShowProgress | None,
    options: Mapping[str, Any],
) -> RunReport:
    """Let one side (``keep``: ours or theirs) of the conflict ``conflict_id`` stand."""
    from gatte_pipelines.sync import conflicts  # noqa: PLC0415
    from gatte_pipelines.sync.merge import Side  # noqa: PLC0415

    conflict_id = _parse_uuid(str(options["conflict_id"]), "conflict_id")
    try:
        keep = Side(options["keep"])
    except ValueError:
        raise ConfigurationError("keep must be ours or theirs") from None
    resolvers = wiring.conflict_resolvers
    with wiring.migrated() as connection:
        driver = database.psycopg_connection(connection)

        def body(report: RunReport) -> None:
            resolution = conflicts.resolve(driver, conflict_id, keep, resolvers, as_of=as_of)
            conflicts.report_resolution(report, resolution)

        # The rows themselves are locked: what people decide may go side by side.
        return run_recorded(connection, pipeline=conflicts.PIPELINE, as_of=as_of, body=body)


_NEEDS = {
    "watchdog": ("smtp_url", "staff_email"),
    "crm_sync": ("pipedrive_api_token", "pipedrive_base_url"),
}
"""Settings without which a pipeline does not begin; of certificate alerts it depends."""


def _settings_of(pipeline: str, settings: Settings) -> list[tuple[str, str | None]]:
    """The settings that a pipeline needs, with their values."""
    from gatte_pipelines.settings import PREFIX  # noqa: PLC0415

    return [(PREFIX + name.upper(), getattr(settings, name)) for name in _NEEDS[pipeline]]


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
    _assert_set(watchdog.PIPELINE, _settings_of(watchdog.PIPELINE, settings))
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


def _needs(settings: Settings) -> list[Need]:
    """What is set, or not, for the systems that pipelines work with."""
    from gatte_pipelines.doctor.needs import Need  # noqa: PLC0415

    return [
        Need(
            "chave dos ids de mensagens",
            pipelines=("inbound_messages", "quarantine_replay", "certificate_alerts"),
            settings={"GATTE_ID_KEY": settings.is_embedded or settings.id_key is not None},
            is_optional=False,
        ),
        Need(
            "e-mail",
            pipelines=("watchdog", "certificate_alerts"),
            settings=_are_set("watchdog", settings),
        ),
        Need(
            "WhatsApp",
            pipelines=("certificate_alerts",),
            settings={
                "GATTE_WHATSAPP_PHONE_NUMBER_ID": bool(settings.whatsapp_phone_number_id),
                "GATTE_WHATSAPP_TOKEN": bool(settings.whatsapp_token),
            },
        ),
        Need("Pipedrive", pipelines=("crm_sync",), settings=_are_set("crm_sync", settings)),
    ]


def _are_set(pipeline: str, settings: Settings) -> dict[str, bool]:
    return {name: bool(value) for name, value in _settings_of(pipeline, settings)}


OPERATIONS: dict[str, Operation] = {
    "inbound_messages": _inbound_messages,
    "quarantine_replay": _quarantine_replay,
    "session_context_expiry": _session_context_expiry,
    "lgpd_retention": _lgpd_retention,
    "lgpd_subject_request": _lgpd_subject_request,
    "certificate_state": _certificate_state,
    "certificate_alerts": _certificate_alerts,
    "crm_sync": _crm_sync,
    "data_quality": _data_quality,
    "resolve_conflict": _resolve_conflict,
    "watchdog": _watchdog,
}
"""The registry of pipelines: flows and commands run the same operations by the same names."""
