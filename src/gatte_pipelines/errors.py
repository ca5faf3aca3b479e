"""Errors classed by what a rerun would change.

A message of these classes is safe to print, log and store: it never holds a personal value or a
secret. Turning foreign exceptions into these belongs to ``safe_errors``.
"""

from __future__ import annotations


class GatteError(Exception):
    """Base of every error this project raises on purpose.

    Args:
        message: What happened and what to do next, without personal values or secrets.
    """

    exit_code = 1

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class ConfigurationError(GatteError):
    """A rerun changes nothing until someone changes a setting, a grant or a migration."""

    exit_code = 2


class RetryableError(GatteError):
    """A rerun may succeed: the network, a lock or a server that is starting."""

    exit_code = 75  # EX_TEMPFAIL of sysexits.h


class PermanentError(GatteError):
    """A rerun on the same input gives the same result."""


class ImbalanceError(PermanentError):
    """A batch whose parts do not add up to what was received (rule S10)."""


class BadInputError(PermanentError):
    """An input that cannot be read, named by file, line, field and reason.

    Args:
        file: Name of the file, as the person gave it.
        line: Line number from 1, or None where the file as a whole is meant.
        field: Path of the field (``messages[].text.body``), or None.
        reason: Why, without the offending value.
    """

    def __init__(self, file: str, line: int | None, field: str | None, reason: str) -> None:
        self.file, self.line, self.field, self.reason = file, line, field, reason
        place = file if line is None else f"{file}, line {line}"
        super().__init__(f"{place}: {reason}" if field is None else f"{place}, {field}: {reason}")
