"""No handler of the process is handed a record that still holds a personal value."""

from __future__ import annotations

import io
import json
import logging
import sys
import threading
from collections.abc import Iterator

import pytest

from gatte_pipelines.logging_setup import install_log_redaction, remove_log_redaction

PHONE = "5511900001234"
EMAIL = "maria@example.com"


class RecordingHandler(logging.Handler):
    """Keeps the records and their whole contents as a formatter would dump them."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []
        self.dumps: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)
        text = logging.Formatter("%(message)s").format(record)
        self.dumps.append(text + json.dumps(record.__dict__, default=repr))


@pytest.fixture
def handler() -> Iterator[RecordingHandler]:
    recording = RecordingHandler()
    logger = logging.getLogger("gatte_test")
    logger.addHandler(recording)
    logger.setLevel(logging.DEBUG)
    install_log_redaction()
    yield recording
    remove_log_redaction()
    logger.removeHandler(recording)


LOGGER = logging.getLogger("gatte_test")


def assert_clean(handler: RecordingHandler) -> None:
    assert handler.dumps
    for dump in handler.dumps:
        assert PHONE not in dump
        assert EMAIL not in dump


@pytest.mark.parametrize(
    ("message", "arguments"),
    [
        (f"to {PHONE}", ()),
        ("to %s", (PHONE,)),
        ("to %d", (int(PHONE),)),
        ("to %.3s", (PHONE,)),
        ("to %s", (ValueError(EMAIL),)),
        ("to %(to)s", ({"to": EMAIL},)),
        ("to %r", ([PHONE],)),
        ("to", (PHONE,)),
        ("to %d", (PHONE,)),
        (ValueError(PHONE), ()),
    ],
)
def test_the_record_is_clean(
    handler: RecordingHandler, message: object, arguments: tuple[object, ...]
) -> None:
    LOGGER.info(message, *arguments)

    assert_clean(handler)


def test_a_message_that_cannot_be_put_together_does_not_raise(handler: RecordingHandler) -> None:
    LOGGER.info("%d rows", "many")

    assert handler.records[0].getMessage() == "%d rows [its arguments do not fit]"


def test_a_clean_message_keeps_its_template_and_arguments(handler: RecordingHandler) -> None:
    LOGGER.info("loaded %d messages in %.2f s from %s", 200000, 17.24, "a.jsonl")

    record = handler.records[0]
    assert record.args == (200000, 17.24, "a.jsonl")
    assert record.getMessage() == "loaded 200000 messages in 17.24 s from a.jsonl"


def test_a_traceback_is_rendered_clean_and_the_exception_dropped(
    handler: RecordingHandler,
) -> None:
    try:
        try:
            raise KeyError(EMAIL)
        except KeyError as error:
            raise ValueError(f"no {PHONE}") from error
    except ValueError:
        LOGGER.exception("failed")

    record = handler.records[0]
    assert_clean(handler)
    assert record.exc_info is None
    assert record.exc_text is not None
    assert "ValueError: no <phone>" in record.exc_text
    assert "KeyError: '<email>'" in record.exc_text
    assert handler.dumps[0].count("Traceback") >= 2


def test_a_stack_is_redacted(handler: RecordingHandler) -> None:
    def ask(phone: str = PHONE) -> None:  # the default stands in no frame's source line
        LOGGER.info("here", stack_info=True)

    ask()  # 5511900001234 in this comment is part of the printed source line

    assert_clean(handler)
    assert handler.records[0].stack_info


def test_extra_is_redacted_and_ids_stay(handler: RecordingHandler) -> None:
    run = "0192f7a0-1234-7abc-8def-123456789012"
    LOGGER.info("x", extra={"flow_run_id": run, "to": {PHONE: [EMAIL]}, "who": ValueError(PHONE)})

    assert_clean(handler)
    assert handler.records[0].__dict__["flow_run_id"] == run


def test_an_access_log_keeps_the_shape_of_its_arguments(handler: RecordingHandler) -> None:
    access = logging.getLogger("uvicorn.access")
    access.addHandler(handler)
    try:
        access.warning('%s - "%s %s" %d', "127.0.0.1:1", "GET", f"/users/{PHONE}", 200)
    finally:
        access.removeHandler(handler)

    assert_clean(handler)
    assert handler.records[0].args == ("127.0.0.1:1", "GET", "/users/<phone>", 200)


def test_a_handler_added_later_is_covered(handler: RecordingHandler) -> None:
    stream = io.StringIO()
    later = logging.StreamHandler(stream)
    LOGGER.addHandler(later)
    try:
        LOGGER.info("to %s", PHONE)
    finally:
        LOGGER.removeHandler(later)

    assert stream.getvalue() == "to <phone>\n"


def test_http_libraries_do_not_log_urls(handler: RecordingHandler) -> None:
    assert not logging.getLogger("httpx").isEnabledFor(logging.INFO)
    assert not logging.getLogger("httpcore.http11").isEnabledFor(logging.DEBUG)


def test_an_uncaught_exception_is_printed_redacted(
    handler: RecordingHandler, capsys: pytest.CaptureFixture[str]
) -> None:
    error = ValueError(f"no {PHONE}")
    sys.excepthook(ValueError, error, None)
    threading.excepthook(threading.ExceptHookArgs((ValueError, error, None, None)))

    printed = capsys.readouterr().err
    assert printed.count("ValueError: no <phone>") == 2
    assert PHONE not in printed


def test_installing_twice_and_removing_leaves_logging_as_it_was() -> None:
    before = logging.Logger.handle, sys.excepthook, threading.excepthook

    install_log_redaction()
    install_log_redaction()
    remove_log_redaction()

    assert (logging.Logger.handle, sys.excepthook, threading.excepthook) == before
