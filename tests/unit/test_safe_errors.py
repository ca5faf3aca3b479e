"""Whatever leaves a flow or a command is an error of ours with a safe message."""

from __future__ import annotations

import traceback

import psycopg
import pytest
import sqlalchemy.exc
from psycopg import errors as pg

from gatte_pipelines.errors import GatteError, PermanentError, RetryableError
from gatte_pipelines.safe_errors import UnexpectedError, safe_error, safe_errors

PHONE = "5511900001234"


def test_an_error_of_ours_passes_unchanged() -> None:
    error = PermanentError("no such plan")

    assert safe_error(error) is error


def test_any_other_error_keeps_its_class_and_its_redacted_message() -> None:
    error = safe_error(ValueError(f"no user with {PHONE}"))

    assert type(error) is UnexpectedError
    assert error.message == "ValueError: no user with <phone>"


def test_a_key_error_does_not_show_its_key_when_that_is_a_phone() -> None:
    assert safe_error(KeyError(PHONE)).message == "KeyError: '<phone>'"


def test_an_error_without_a_message_is_its_class() -> None:
    assert safe_error(RuntimeError()).message == "RuntimeError"


def test_an_error_that_cannot_be_printed_is_its_class() -> None:
    class BrokenError(Exception):
        def __str__(self) -> str:
            raise RuntimeError(PHONE)

    assert safe_error(BrokenError()).message == "BrokenError"


def test_a_long_message_is_cut() -> None:
    assert len(safe_error(ValueError("x " * 5000)).message) < 600


def test_a_database_error_shows_nothing_of_its_message() -> None:
    error = safe_error(pg.UniqueViolation("Maria Silva, DETAIL: Key (name)=(Maria Silva)"))

    assert type(error) is UnexpectedError
    assert error.message == "database error: UniqueViolation, SQLSTATE 23505"


def test_an_error_of_sqlalchemy_is_read_from_the_drivers_error() -> None:
    wrapped = sqlalchemy.exc.IntegrityError(
        "insert into users values (%(n)s)", {"n": "Maria"}, pg.UniqueViolation("Maria")
    )

    assert safe_error(wrapped).message == "database error: UniqueViolation, SQLSTATE 23505"


def test_an_error_of_sqlalchemy_itself_shows_no_parameters() -> None:
    error = safe_error(sqlalchemy.exc.StatementError("Maria", "select 1", {"n": "Maria"}, None))

    assert error.message == "database error: StatementError"


@pytest.mark.parametrize(
    "kind",
    [
        pg.SerializationFailure,
        pg.DeadlockDetected,
        pg.AdminShutdown,
        pg.CannotConnectNow,
        pg.TooManyConnections,
        pg.ConnectionFailure,
        pg.SqlclientUnableToEstablishSqlconnection,
        psycopg.OperationalError,
    ],
)
def test_a_database_error_that_passes_is_retryable(kind: type[psycopg.Error]) -> None:
    assert isinstance(safe_error(kind("Maria")), RetryableError)


@pytest.mark.parametrize("kind", [pg.UndefinedTable, pg.InsufficientPrivilege, pg.DiskFull])
def test_a_database_error_that_stays_is_not_retryable(kind: type[psycopg.Error]) -> None:
    assert not isinstance(safe_error(kind("Maria")), RetryableError)


def test_what_leaves_the_block_prints_nothing_of_the_original() -> None:
    with pytest.raises(GatteError) as caught, safe_errors():
        raise ValueError(f"Maria has {PHONE}")

    printed = "".join(traceback.format_exception(caught.value))
    assert PHONE not in printed
    assert "direct cause" not in printed
    assert "During handling" not in printed


def test_it_decorates_a_function_and_lets_its_result_through() -> None:
    @safe_errors()
    def work(number: int) -> int:
        return 10 // number

    assert work(5) == 2
    with pytest.raises(UnexpectedError, match=r"^ZeroDivisionError: "):
        work(0)


def test_an_interrupt_passes_as_it_is() -> None:
    with pytest.raises(KeyboardInterrupt), safe_errors():
        raise KeyboardInterrupt
