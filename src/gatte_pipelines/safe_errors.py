"""Turns any exception into one of ours, whose message is safe to print, log and store.

Prefect makes a run's state message from the exception that leaves the flow, so what leaves must be
safe. Masking text belongs to ``redaction``, deciding what to do about an error to its catcher.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from gatte_pipelines.errors import GatteError, RetryableError
from gatte_pipelines.redaction import redact

# Longer messages are dumps of somebody's data; Prefect shows the first lines anyway.
MAX_MESSAGE_CHARACTERS = 500

# SQLSTATEs after which the same statement may go through, PostgreSQL's appendix A: serialization
# failure, deadlock, server going down or starting up, too many connections; class 08 is the
# connection itself.
RETRYABLE_SQLSTATES = frozenset({"40001", "40P01", "57P01", "57P03", "53300"})
CONNECTION_SQLSTATE_CLASS = "08"

# psycopg raises these without a SQLSTATE when there is no server to give one.
_CONNECTION_CLASSES = frozenset({"OperationalError", "ConnectionTimeout", "PoolTimeout"})
# What PostgreSQL names in an error besides the data; its message, detail and context quote data.
_SAFE_DIAGNOSTICS = ("constraint_name", "table_name", "column_name", "datatype_name")


class UnexpectedError(GatteError):
    """An error that nobody planned for. Its class and redacted message are all that is left."""


def safe_error(exc: BaseException) -> GatteError:
    """Return an error of ours that says what is safe to say of another one.

    Raise the result ``from None``: the cause's own text may hold what was masked here.

    - One of ours is returned unchanged.
    - A database error (psycopg, or SQLAlchemy around it) gives class, SQLSTATE and the names of
      constraint, table and column; never its message, detail, statement or parameters. It is a
      `RetryableError` where a rerun may succeed.
    - Anything else gives class and redacted message.

    Args:
        exc: Any exception.
    """
    if isinstance(exc, GatteError):
        return exc
    database_error = _database_error(exc)
    if database_error is not None:
        return _safe_database_error(database_error)
    name = type(exc).__name__
    message = redact(_text_of(exc)).strip()
    if len(message) > MAX_MESSAGE_CHARACTERS:
        message = f"{message[:MAX_MESSAGE_CHARACTERS]}…"
    return UnexpectedError(f"{name}: {message}" if message else name)


@contextmanager
def safe_errors() -> Iterator[None]:
    """Let only errors of ours leave a block; also a decorator, for the function of a task or flow.

    Interrupts and exits (``BaseException``) pass as they are: they carry no data.

    Raises:
        GatteError: What `safe_error` makes of the exception, its cause and context suppressed.
    """
    try:
        yield
    except Exception as exc:  # noqa: BLE001 - whatever it is, it must not leave as it is
        raise safe_error(exc) from None


def _database_error(exc: BaseException) -> BaseException | None:
    """Return the driver's error, or SQLAlchemy's own where it wraps none; None for all others.

    By name and shape, so that this module does not load the drivers.
    """
    package = type(exc).__module__.partition(".")[0]
    if package == "psycopg":
        return exc
    if package == "sqlalchemy":
        original = getattr(exc, "orig", None)
        return original if isinstance(original, BaseException) else exc
    return None


def _safe_database_error(exc: BaseException) -> GatteError:
    sqlstate = getattr(exc, "sqlstate", None)
    diagnostics = getattr(exc, "diag", None)
    facts = [type(exc).__name__]
    if isinstance(sqlstate, str):
        facts.append(f"SQLSTATE {sqlstate}")
    for name in _SAFE_DIAGNOSTICS:
        value = getattr(diagnostics, name, None)
        if isinstance(value, str) and value:
            facts.append(f"{name.partition('_')[0]} {value}")
    message = f"database error: {', '.join(facts)}"
    return RetryableError(message) if _is_retryable(exc, sqlstate) else UnexpectedError(message)


def _is_retryable(exc: BaseException, sqlstate: object) -> bool:
    if isinstance(sqlstate, str):
        return sqlstate in RETRYABLE_SQLSTATES or sqlstate.startswith(CONNECTION_SQLSTATE_CLASS)
    return type(exc).__name__ in _CONNECTION_CLASSES


def _text_of(exc: BaseException) -> str:
    try:
        return str(exc)
    except Exception:  # noqa: BLE001 - a broken __str__ must not hide the error
        return ""
