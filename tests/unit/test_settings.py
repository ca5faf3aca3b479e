"""Settings are read once, validated with the variable's name, and keep their secrets."""

from __future__ import annotations

from pathlib import Path

import pytest

from gatte_pipelines.errors import ConfigurationError
from gatte_pipelines.settings import Settings, read_dotenv

KEY = "k" * 32
URL = "postgresql://user:segredo@host:5432/gatte"


def _read(**environ: str) -> Settings:
    return Settings.from_environment(environ)


def test_without_any_variable_the_defaults_of_the_design_hold() -> None:
    settings = _read()
    assert settings == Settings()
    assert settings.home == Path(".gatte")
    assert settings.is_embedded
    assert settings.landing_url == str(Path(".gatte") / "landing")
    assert (settings.conversation_idle_hours, settings.context_messages) == (24, 20)
    assert (settings.id_key, settings.smtp_url, settings.staff_email) == (None, None, None)
    assert (settings.inbound_archive_days, settings.backup_days) == (None, None)
    assert settings.outside_ledger_url == str(Path(".gatte") / "ledger")
    assert not settings.crm_import, "what a salesperson enters there stays there"
    assert settings.google_calendar_base_url == "https://www.googleapis.com/calendar/v3"
    assert settings.google_token_url == "https://oauth2.googleapis.com/token"  # noqa: S105


def test_every_variable_reaches_its_field() -> None:
    settings = _read(
        GATTE_HOME="/srv/gatte",
        GATTE_DATABASE_URL=URL,
        GATTE_MIGRATION_DATABASE_URL=URL + "1",
        GATTE_REPORTING_DATABASE_URL=URL + "2",
        GATTE_ID_KEY=KEY,
        GATTE_INBOUND_URL="s3://bucket/inbound",
        GATTE_CONVERSATION_IDLE_HOURS="12",
        GATTE_CONTEXT_MESSAGES="5",
        GATTE_CONFIG="/etc/gatte",
        GATTE_INBOUND_ARCHIVE_DAYS="7",
        GATTE_BACKUP_DAYS="14",
        GATTE_LEDGER_URL="file:///srv/ledger",
        GATTE_PIPEDRIVE_BASE_URL="https://company.pipedrive.com",
        GATTE_PIPEDRIVE_API_TOKEN="t" * 40,
        GATTE_CRM_IMPORT="true",
        GATTE_GOOGLE_CALENDAR_BASE_URL="http://127.0.0.1:8080/calendar/v3",
        GATTE_GOOGLE_CALENDAR_ID="equipe@example.com",
        GATTE_GOOGLE_CREDENTIALS_FILE="/etc/gatte/google.json",
        GATTE_GOOGLE_TOKEN_URL="http://127.0.0.1:8080/token",  # noqa: S106
        GATTE_GOOGLE_SUBJECT="agenda@example.com",
        GATTE_SMTP_URL="smtp://user:segredo@mail:587",
        GATTE_STAFF_EMAIL="equipe@example.com",
    )
    assert settings == Settings(
        home=Path("/srv/gatte"),
        database_url=URL,
        migration_database_url=URL + "1",
        reporting_database_url=URL + "2",
        id_key=KEY.encode(),
        inbound_url="s3://bucket/inbound",
        conversation_idle_hours=12,
        context_messages=5,
        config=Path("/etc/gatte"),
        inbound_archive_days=7,
        backup_days=14,
        ledger_url="file:///srv/ledger",
        pipedrive_base_url="https://company.pipedrive.com",
        pipedrive_api_token="t" * 40,
        crm_import=True,
        google_calendar_base_url="http://127.0.0.1:8080/calendar/v3",
        google_calendar_id="equipe@example.com",
        google_credentials_file=Path("/etc/gatte/google.json"),
        google_token_url="http://127.0.0.1:8080/token",  # noqa: S106
        google_subject="agenda@example.com",
        smtp_url="smtp://user:segredo@mail:587",
        staff_email="equipe@example.com",
    )
    assert not settings.is_embedded
    assert settings.landing_url == "s3://bucket/inbound"
    assert settings.outside_ledger_url == "file:///srv/ledger"


def test_the_home_may_begin_with_a_tilde() -> None:
    assert _read(GATTE_HOME="~/gatte").home == Path.home() / "gatte"
    assert _read(GATTE_CONFIG="~/gatte").config_folder == Path.home() / "gatte"
    key = _read(GATTE_GOOGLE_CREDENTIALS_FILE="~/key.json").google_credentials_file
    assert key == Path.home() / "key.json"


def test_an_empty_variable_counts_as_not_set() -> None:
    assert _read(GATTE_DATABASE_URL="", GATTE_ID_KEY="  ", GATTE_CONTEXT_MESSAGES="") == Settings()


def test_variables_of_others_are_not_read() -> None:
    assert _read(HOME="/root", DATABASE_URL=URL, PREFECT_HOME="/x") == Settings()


@pytest.mark.parametrize("length", [16, 64])
def test_a_key_of_a_usable_length_is_taken(length: int) -> None:
    assert _read(GATTE_ID_KEY="k" * length).id_key == b"k" * length


@pytest.mark.parametrize("key", ["short-and-secret", "x" * 65, "é" * 33])
def test_a_key_of_another_length_is_refused_without_showing_it(key: str) -> None:
    key = key[:15] if key.startswith("short") else key
    with pytest.raises(ConfigurationError, match=r"GATTE_ID_KEY must have 16 to 64") as caught:
        _read(GATTE_ID_KEY=key)
    assert key not in caught.value.message


@pytest.mark.parametrize(
    "name",
    [
        "GATTE_CONVERSATION_IDLE_HOURS",
        "GATTE_CONTEXT_MESSAGES",
        "GATTE_INBOUND_ARCHIVE_DAYS",
        "GATTE_BACKUP_DAYS",
    ],
)
@pytest.mark.parametrize("value", ["0", "-1", "1.5", "dez", "1e3", "²", "9" * 5000])
def test_a_number_that_is_none_is_refused_by_its_name(name: str, value: str) -> None:
    with pytest.raises(ConfigurationError, match=f"{name} must be a whole number above 0"):
        _read(**{name: value})


@pytest.mark.parametrize(
    ("text", "means"), [("true", True), ("True", True), ("false", False), ("FALSE", False)]
)
def test_a_switch_is_true_or_false_however_it_is_capitalised(text: str, means: bool) -> None:
    assert _read(GATTE_CRM_IMPORT=text).crm_import is means


@pytest.mark.parametrize("text", ["1", "sim", "yes", "on", "t", "truefalse"])
def test_a_switch_that_says_anything_else_is_refused_by_its_name(text: str) -> None:
    with pytest.raises(ConfigurationError, match="GATTE_CRM_IMPORT must be true or false"):
        _read(GATTE_CRM_IMPORT=text)


@pytest.mark.parametrize(
    "name", ["GATTE_DATABASE_URL", "GATTE_MIGRATION_DATABASE_URL", "GATTE_REPORTING_DATABASE_URL"]
)
@pytest.mark.parametrize(
    "url", ["mysql://user:segredo@host/db", "host/segredo", "postgresql+asyncpg://u:segredo@h/d"]
)
def test_a_url_of_another_kind_is_refused_without_showing_it(name: str, url: str) -> None:
    with pytest.raises(ConfigurationError, match=f"{name} must look like") as caught:
        _read(**{name: url})
    assert "segredo" not in caught.value.message


@pytest.mark.parametrize("url", ["s3://bucket/segredo", "ftp://u:segredo@h/x", "file://segredo/x"])
def test_a_ledger_url_that_is_no_folder_is_refused_without_showing_it(url: str) -> None:
    with pytest.raises(ConfigurationError, match="GATTE_LEDGER_URL must be a folder") as caught:
        _read(GATTE_LEDGER_URL=url)
    assert "segredo" not in caught.value.message


@pytest.mark.parametrize(
    "url", ["/srv/ledger", "ledger", "file:///srv/l", "file://localhost/srv/l"]
)
def test_a_folder_for_the_ledger_may_be_written_either_way(url: str) -> None:
    assert _read(GATTE_LEDGER_URL=url).outside_ledger_url == url


def test_without_a_setting_the_policy_is_that_of_the_checkout(
    tmp_path: Path, repository: Path
) -> None:
    assert _read().config_folder == repository / "config"
    (tmp_path / "config").mkdir()  # of another program that stands in this folder
    assert _read().config_folder == repository / "config"


def test_a_policy_in_the_current_folder_comes_before_that_of_the_checkout(tmp_path: Path) -> None:
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "retention.yaml").touch()
    assert _read().config_folder.resolve() == tmp_path / "config"


@pytest.mark.parametrize("prefix", ["postgres", "postgresql", "postgresql+psycopg"])
def test_the_usual_ways_to_write_a_url_are_taken(prefix: str) -> None:
    assert _read(GATTE_DATABASE_URL=f"{prefix}://u@h/d").database_url == f"{prefix}://u@h/d"


def test_no_secret_stands_in_the_repr() -> None:
    settings = Settings(
        database_url=URL,
        migration_database_url=URL,
        reporting_database_url=URL,
        id_key=b"segredo" * 4,
        pipedrive_api_token="segredo" * 4,
        google_calendar_id="equipe@example.com",
        google_subject="equipe@example.com",
        smtp_url="smtp://user:segredo@mail",
        staff_email="equipe@example.com",
    )
    for words in (repr(settings), str(settings), f"{settings!r}"):
        assert "segredo" not in words
        assert "equipe@" not in words


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        Settings().inbound_url = "x"  # type: ignore[misc]


# --- .env ----------------------------------------------------------------------------------------


def _dotenv(folder: Path, content: str) -> Path:
    path = folder / ".env"
    path.write_text(content, "utf-8")
    return path


def test_a_dotenv_file_of_the_current_folder_is_read(tmp_path: Path) -> None:
    _dotenv(tmp_path, "GATTE_CONTEXT_MESSAGES=7\n")
    assert _read().context_messages == 7


def test_the_environment_wins_over_the_dotenv_file(tmp_path: Path) -> None:
    path = _dotenv(tmp_path, "GATTE_CONTEXT_MESSAGES=7\nGATTE_STAFF_EMAIL=a@example.com\n")
    settings = Settings.from_environment({"GATTE_CONTEXT_MESSAGES": "9"}, path)
    assert (settings.context_messages, settings.staff_email) == (9, "a@example.com")


def test_a_missing_dotenv_file_is_no_error(tmp_path: Path) -> None:
    assert read_dotenv(tmp_path / "none") == {}


def test_dotenv_lines_are_read_as_people_write_them(tmp_path: Path) -> None:
    path = _dotenv(
        tmp_path,
        "# comentário\n"
        "\n"
        "PLAIN=value\n"
        "  SPACED  =  value with blanks  \n"
        "export EXPORTED=yes\n"
        'DOUBLE="a # b"\n'
        "SINGLE='c = d'\n"
        'LONE="\n'
        "EMPTY=\n"
        "URL=postgresql://u:p=1@h/d?host=/tmp\n"
        "ACCENT=São Paulo\n"
        "PLAIN=last one wins\n",
    )
    assert read_dotenv(path) == {
        "PLAIN": "last one wins",
        "SPACED": "value with blanks",
        "EXPORTED": "yes",
        "DOUBLE": "a # b",
        "SINGLE": "c = d",
        "LONE": '"',
        "EMPTY": "",
        "URL": "postgresql://u:p=1@h/d?host=/tmp",
        "ACCENT": "São Paulo",
    }


@pytest.mark.parametrize("line", ["segredo", "=segredo", "1NAME=segredo", "A B=segredo", "A-B=x"])
def test_a_dotenv_line_of_another_form_is_refused_by_its_number(tmp_path: Path, line: str) -> None:
    path = _dotenv(tmp_path, f"# one\nA=1\n{line}\n")
    with pytest.raises(ConfigurationError, match=r"\.env, line 3: expected NAME=value") as caught:
        read_dotenv(path)
    assert "segredo" not in caught.value.message
