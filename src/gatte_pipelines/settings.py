"""The only reader of the environment: names, defaults and validation of the settings.

Building things from settings belongs to ``wiring``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path

from gatte_pipelines.errors import ConfigurationError

PREFIX = "GATTE_"
# BLAKE2b takes keys of up to 64 bytes; under 16 bytes a key could be guessed.
MIN_ID_KEY_BYTES, MAX_ID_KEY_BYTES = 16, 64
RETENTION_POLICY = "retention.yaml"
"""Name of the retention policy in the folder of the configuration."""

_PATHS = {"home", "config", "google_credentials_file"}
_NUMBERS = {
    "conversation_idle_hours",
    "context_messages",
    "inbound_archive_days",
    "backup_days",
}
_SWITCHES = {"crm_import"}
_SWITCH_WORDS = {"true": True, "false": False}
_MAX_DIGITS = 6  # a longer number overflows what it is added to


@dataclass(frozen=True, kw_only=True)
class Settings:
    """All settings, read once. Secrets stay out of ``repr``.

    A database URL that is None means the embedded PostgreSQL under ``home``. Days that are None are
    the retention policy's; a number may only shorten them, which is checked where both are known.
    """

    home: Path = Path(".gatte")
    database_url: str | None = field(default=None, repr=False)
    migration_database_url: str | None = field(default=None, repr=False)
    reporting_database_url: str | None = field(default=None, repr=False)
    id_key: bytes | None = field(default=None, repr=False)
    inbound_url: str = ""
    conversation_idle_hours: int = 24
    context_messages: int = 20
    config: Path | None = None
    inbound_archive_days: int | None = None
    backup_days: int | None = None
    ledger_url: str = ""
    holiday_state: str = "SP"
    pipedrive_base_url: str | None = None
    pipedrive_api_token: str | None = field(default=None, repr=False)
    crm_import: bool = False
    google_calendar_base_url: str = "https://www.googleapis.com/calendar/v3"
    google_calendar_id: str | None = field(default=None, repr=False)
    google_credentials_file: Path | None = None
    google_token_url: str = "https://oauth2.googleapis.com/token"  # noqa: S105 - an address
    google_subject: str | None = field(default=None, repr=False)
    whatsapp_base_url: str = "https://graph.facebook.com/v25.0"
    whatsapp_phone_number_id: str | None = None
    whatsapp_token: str | None = field(default=None, repr=False)
    smtp_url: str | None = field(default=None, repr=False)
    staff_email: str | None = field(default=None, repr=False)

    @property
    def is_embedded(self) -> bool:
        """Whether the embedded PostgreSQL is used."""
        return self.database_url is None

    @property
    def landing_url(self) -> str:
        """Folder or fsspec URL where inbound files arrive."""
        return self.inbound_url or str(self.home / "landing")

    @property
    def outside_ledger_url(self) -> str:
        """Folder or ``file://`` URL of the privacy ledger's copy outside the database."""
        return self.ledger_url or str(self.home / "ledger")

    @property
    def config_folder(self) -> Path:
        """Folder of what GATTE may change without code.

        The one that is set; else ``config`` in the current folder where that holds the retention
        policy, so that another folder of this name is not taken for it; else that of the checkout.
        """
        if self.config is not None:
            return self.config
        here = Path("config")
        if (here / RETENTION_POLICY).is_file():
            return here
        return Path(__file__).resolve().parents[2] / "config"

    @classmethod
    def from_environment(
        cls, environ: Mapping[str, str] | None = None, dotenv: Path | None = None
    ) -> Settings:
        """Read ``GATTE_*`` variables; those of the environment win over a ``.env`` file.

        Args:
            environ: Variables to read instead of the process's own.
            dotenv: The file to read, by default ``.env`` in the current folder where it exists.

        Raises:
            ConfigurationError: A variable has a value that cannot be used.
        """
        values = read_dotenv(dotenv if dotenv is not None else Path(".env"))
        values.update(os.environ if environ is None else environ)
        given = {
            name.removeprefix(PREFIX).lower(): text.strip()
            for name, text in values.items()
            if name.startswith(PREFIX) and text.strip()
        }
        known = {item.name for item in fields(cls)}
        arguments: dict[str, object] = {
            name: _parse(name, text) for name, text in given.items() if name in known
        }
        settings = cls(**arguments)  # type: ignore[arg-type]
        _check(settings)
        return settings


def read_dotenv(path: Path) -> dict[str, str]:
    """Read ``NAME=value`` lines; quotes around a value are taken off, ``#`` lines are comments.

    Raises:
        ConfigurationError: A line is neither.
    """
    if not path.is_file():
        return {}
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(
            f"{path.name} cannot be read as UTF-8 text ({type(error).__name__})"
        ) from None
    values: dict[str, str] = {}
    for number, line in enumerate(lines, start=1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        name, separator, value = text.removeprefix("export ").partition("=")
        if not separator or not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name.strip()):
            raise ConfigurationError(f"{path.name}, line {number}: expected NAME=value")
        value = value.strip()
        if len(value) >= 2 and value[0] == value[-1] and value[0] in "'\"":
            value = value[1:-1]
        values[name.strip()] = value
    return values


def _parse(name: str, text: str) -> object:
    if name in _PATHS:
        return Path(text).expanduser()
    if name == "id_key":
        key = text.encode()
        if not MIN_ID_KEY_BYTES <= len(key) <= MAX_ID_KEY_BYTES:
            raise ConfigurationError(
                f"GATTE_ID_KEY must have {MIN_ID_KEY_BYTES} to {MAX_ID_KEY_BYTES} bytes; "
                "make one with: python3 -c 'import secrets; print(secrets.token_hex(32))'"
            )
        return key
    if name in _NUMBERS:
        if not text.isdecimal() or len(text) > _MAX_DIGITS or int(text) == 0:
            raise ConfigurationError(f"{PREFIX}{name.upper()} must be a whole number above 0")
        return int(text)
    if name in _SWITCHES:
        if text.lower() not in _SWITCH_WORDS:
            raise ConfigurationError(f"{PREFIX}{name.upper()} must be true or false")
        return _SWITCH_WORDS[text.lower()]
    if name == "ledger_url" and not re.match(r"file://(localhost)?/|(?!.*://)", text):
        # What was appended must be on the disk before anything is destroyed: a folder can tell.
        raise ConfigurationError(f"{PREFIX}LEDGER_URL must be a folder or look like file:///folder")
    return text


def _check(settings: Settings) -> None:
    for item in ("database_url", "migration_database_url", "reporting_database_url"):
        url = getattr(settings, item)
        if url is not None and not re.match(r"postgres(ql)?(\+psycopg)?://", url):
            raise ConfigurationError(
                f"{PREFIX}{item.upper()} must look like postgresql://user:password@host:port/name"
            )
