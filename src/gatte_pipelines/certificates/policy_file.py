"""The files of certificate alerts: found, read, and handed to ``policy_text``."""

from __future__ import annotations

from pathlib import Path

from gatte_pipelines.certificates.policy import AlertPolicy, Recipients
from gatte_pipelines.certificates.policy_text import parse_alert_policy, parse_recipients
from gatte_pipelines.config_file import read_config


def read_alert_policy(path: Path) -> AlertPolicy:
    """Read when whom to tell.

    Raises:
        ConfigurationError: There is no such file, or it cannot be opened.
        BadInputError: It is not text, or not a policy.
    """
    return parse_alert_policy(read_config(path, "policy of certificate alerts"), path.name)


def read_recipients(path: Path, default: tuple[str, ...]) -> Recipients:
    """Read who of staff is told.

    Args:
        path: Of the file.
        default: Addresses where the file names none.

    Raises:
        ConfigurationError: There is no such file, or it cannot be opened.
        BadInputError: It is not text, or names what is none.
    """
    return parse_recipients(read_config(path, "list of recipients"), path.name, default)
