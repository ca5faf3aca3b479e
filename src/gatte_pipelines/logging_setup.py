"""Puts redaction in front of every log handler of the process.

Levels, formats and destinations belong to whoever runs the process (Prefect, the command line);
what is masked belongs to ``redaction``.
"""

from __future__ import annotations

import logging
import sys
import threading
import traceback
from collections.abc import Callable, Mapping
from functools import wraps
from types import TracebackType
from typing import TypeAlias

from gatte_pipelines.redaction import redact

# These log whole URLs, query included, for every request, and headers when debugging; our own
# transport logs what is safe of a request.
TALKATIVE_LOGGERS = ("httpx", "httpcore")

# What a LogRecord has of itself; everything else in it came through ``extra``.
_STANDARD_FIELDS = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime"}
# Its formatter takes the arguments apart, so they are masked one by one and never joined.
_LOGGERS_WITH_POSITIONAL_ARGUMENTS = frozenset({"uvicorn.access"})
_PLAIN = (str, int, float, bool, type(None))

_ExcInfo: TypeAlias = tuple[type[BaseException], BaseException, TracebackType | None]
_Handle: TypeAlias = Callable[[logging.Logger, logging.LogRecord], None]

# The originals, while the redaction is installed.
_originals: tuple[_Handle, Callable[..., object], Callable[..., object]] | None = None


def install_log_redaction() -> None:
    """Redact every record of every logger before any handler sees it; once a process.

    Covers handlers added later and those of other packages (Prefect's API and console handlers
    too), because it stands in `logging.Logger.handle`, through which every record goes: behind
    the record factory, which does not see ``extra`` yet, and before the first filter and handler.
    Uncaught exceptions of the process and of its threads are printed redacted as well.
    """
    global _originals  # noqa: PLW0603 - logging is one a process, so is this
    if _originals is not None:
        return
    original = logging.Logger.handle
    _originals = (original, sys.excepthook, threading.excepthook)

    @wraps(original)
    def handle(self: logging.Logger, record: logging.LogRecord) -> None:
        redact_record(record)
        original(self, record)

    logging.Logger.handle = handle  # type: ignore[method-assign]
    sys.excepthook = _print_exception
    threading.excepthook = _print_thread_exception
    for name in TALKATIVE_LOGGERS:
        logging.getLogger(name).setLevel(logging.WARNING)


def remove_log_redaction() -> None:
    """Undo `install_log_redaction` (tests)."""
    global _originals  # noqa: PLW0603 - logging is one a process, so is this
    if _originals is None:
        return
    handle, excepthook, thread_excepthook = _originals
    logging.Logger.handle = handle  # type: ignore[assignment, method-assign]
    sys.excepthook = excepthook
    threading.excepthook = thread_excepthook
    for name in TALKATIVE_LOGGERS:
        logging.getLogger(name).setLevel(logging.NOTSET)
    _originals = None


def redact_record(record: logging.LogRecord) -> None:
    """Redact a record in place: message with arguments, traceback, stack and ``extra``.

    Never raises: a message that cannot be put together would otherwise be printed raw by
    `logging.Handler.handleError`.
    """
    _redact_message(record)
    if record.exc_info and record.exc_info[0] is not None:
        # Rendered here and then dropped, so that no later formatter renders it raw.
        record.exc_text = redact(_traceback_text(record.exc_info))
        record.exc_info = None
    elif record.exc_text:
        record.exc_text = redact(record.exc_text)
    if record.stack_info:
        record.stack_info = redact(record.stack_info)
    for name in record.__dict__.keys() - _STANDARD_FIELDS:
        record.__dict__[name] = _redacted(record.__dict__[name])


def _redact_message(record: logging.LogRecord) -> None:
    try:
        message = record.getMessage()
    except Exception:  # noqa: BLE001 - anything may happen in a __str__
        template = record.msg if isinstance(record.msg, str) else type(record.msg).__name__
        record.msg, record.args = redact(f"{template} [its arguments do not fit]"), None
        return
    safe = redact(message)
    if safe == message and _holds_only_plain_clean_values(record):
        # Left as it is: handlers that group by template, and formatters that colour, go on working.
        return
    if record.name in _LOGGERS_WITH_POSITIONAL_ARGUMENTS and isinstance(record.args, tuple):
        record.args = tuple(_redacted(value) for value in record.args)
        return
    record.msg, record.args = safe, None
    # Uvicorn's second template would be printed with its placeholders unfilled.
    record.__dict__.pop("color_message", None)


def _holds_only_plain_clean_values(record: logging.LogRecord) -> bool:
    """Whether message template and arguments hold nothing that a formatter could show raw."""
    if not isinstance(record.msg, str):
        return False
    if not record.args:
        return True
    values = record.args.values() if isinstance(record.args, Mapping) else record.args
    return all(isinstance(value, _PLAIN) and _redacted(value) == value for value in values)


def _redacted(value: object) -> object:
    """Return a value with every text in it redacted; objects become their redacted text."""
    if isinstance(value, bool | float) or value is None:
        return value
    if isinstance(value, int):
        text = str(value)
        safe = redact(text)
        return value if safe == text else safe
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, Mapping):
        return {_redacted(key): _redacted(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_redacted(item) for item in value]
    try:
        return redact(str(value))
    except Exception:  # noqa: BLE001 - anything may happen in a __str__
        return "[unreadable]"


def _traceback_text(exc_info: _ExcInfo | tuple[None, None, None]) -> str:
    return "".join(traceback.format_exception(*exc_info)).rstrip("\n")


def _print_exception(
    kind: type[BaseException], value: BaseException, trace: TracebackType | None
) -> None:
    sys.stderr.write(redact("".join(traceback.format_exception(kind, value, trace))))


def _print_thread_exception(arguments: threading.ExceptHookArgs) -> None:
    if arguments.exc_type is SystemExit:
        return
    thread = "a thread" if arguments.thread is None else arguments.thread.name
    text = "".join(
        traceback.format_exception(arguments.exc_type, arguments.exc_value, arguments.exc_traceback)
    )
    sys.stderr.write(redact(f"Exception in {thread}:\n{text}"))
