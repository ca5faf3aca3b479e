"""Requests of subjects (LGPD art. 18): opened, counted against their deadline, closed.

What a request asks for is done by ``export`` and ``erasure``; the reminder is sent by others.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

from psycopg.rows import class_row

from gatte_pipelines.database.engine import psycopg_connection
from gatte_pipelines.database.statements import read_statements
from gatte_pipelines.errors import PermanentError
from gatte_pipelines.privacy.subjects import read_subject

if TYPE_CHECKING:
    import psycopg
    from sqlalchemy import Connection

_SQL = read_statements(Path(__file__).with_name("subject_requests.sql"))

ANSWER_WITHIN = timedelta(days=15)
"""LGPD art. 19, II: the deadline of a complete answer, from the day of the request."""
REMIND_BEFORE = timedelta(days=5)
"""What is due sooner is told to staff; shorter, and a weekend with a holiday eats it up."""
# The clock of whoever took the request down may be a little ahead of ours.
_CLOCKS_APART = timedelta(minutes=10)


class RequestKind(StrEnum):
    """What a person asks for."""

    EXPORT = "export"
    ERASE = "erase"


class RequestState(StrEnum):
    """How far a request is."""

    OPEN = "open"
    WAITING_EXTERNAL = "waiting_external"
    DONE = "done"


@dataclass(frozen=True, kw_only=True)
class SubjectRequest:
    """One request. ``user_id`` is ``users.id``, or ``leads.id`` of somebody who never wrote."""

    request_id: UUID
    user_id: UUID
    kind: str
    state: str
    received_at: datetime
    due_at: datetime
    closed_at: datetime | None


@dataclass(frozen=True, kw_only=True)
class DueRequests:
    """Requests that somebody must be reminded of, the most urgent first."""

    overdue: tuple[SubjectRequest, ...]
    due_soon: tuple[SubjectRequest, ...]


def open_request(
    connection: Connection,
    *,
    kind: RequestKind,
    user_id: UUID,
    received_at: datetime,
    as_of: datetime,
) -> SubjectRequest:
    """Note a request; the same one again while it is open is that one.

    Args:
        connection: To the database, outside a transaction.
        kind: What is asked for.
        user_id: ``users.id`` (also of a user merged into another), or ``leads.id``.
        received_at: When the person asked: the deadline counts from here.
        as_of: Now.

    Raises:
        UnknownSubjectError: Nobody has this id.
        PermanentError: It was received in the future.
    """
    if received_at > as_of + _CLOCKS_APART:
        raise PermanentError("a request cannot have been received in the future")
    with transaction_at(connection, as_of) as cursor:
        subject_id = read_subject(cursor, user_id).subject_id
        cursor.execute(_SQL["lock_subject"], {"subject_id": str(subject_id)})
        values = {"subject_id": subject_id, "request_kind": kind.value}
        with cursor.connection.cursor(row_factory=class_row(SubjectRequest)) as rows:
            found = rows.execute(_SQL["find_open"], values).fetchone()
        if found is not None:
            return found
        request = SubjectRequest(
            request_id=uuid4(),
            user_id=subject_id,
            kind=kind.value,
            state=RequestState.OPEN,
            received_at=received_at,
            due_at=received_at + ANSWER_WITHIN,
            closed_at=None,
        )
        cursor.execute(
            _SQL["insert_request"],
            values
            | {
                "request_id": request.request_id,
                "received_at": request.received_at,
                "due_at": request.due_at,
            },
        )
        return request


def read_request(cursor: psycopg.Cursor[Any], request_id: UUID) -> SubjectRequest:
    """Read one request.

    Raises:
        PermanentError: There is none with this id.
    """
    with cursor.connection.cursor(row_factory=class_row(SubjectRequest)) as rows:
        found = rows.execute(_SQL["read_request"], {"request_id": request_id}).fetchone()
    if found is None:
        raise PermanentError(f"no request of a subject has the id {request_id}")
    return found


def read_requests(connection: Connection, *, only_open: bool = False) -> list[SubjectRequest]:
    """Read the requests, the one due first at the top."""
    driver = psycopg_connection(connection)
    with driver.transaction(), driver.cursor(row_factory=class_row(SubjectRequest)) as rows:
        return rows.execute(_SQL["read_requests"], {"only_open": only_open}).fetchall()


def find_due(
    requests: Iterable[SubjectRequest], *, as_of: datetime, soon: timedelta = REMIND_BEFORE
) -> DueRequests:
    """Find the requests that are past their deadline or near it. Pure.

    Those that wait for another system count: the person has no complete answer yet.
    """
    waiting = sorted(
        (one for one in requests if one.state != RequestState.DONE),
        key=lambda one: (one.due_at, one.request_id),
    )
    return DueRequests(
        overdue=tuple(one for one in waiting if one.due_at < as_of),
        due_soon=tuple(one for one in waiting if as_of <= one.due_at <= as_of + soon),
    )


def close_request(cursor: psycopg.Cursor[Any], request_id: UUID) -> RequestState:
    """Close a request, or let it wait for the systems that have not confirmed yet.

    A request that is done stays as it was closed.

    Args:
        cursor: In a transaction that has ``gatte.as_of`` set.
        request_id: Which.

    Returns:
        The state it has now.

    Raises:
        PermanentError: There is none with this id.
    """
    row = cursor.execute(_SQL["close_request"], {"request_id": request_id}).fetchone()
    if row is None:
        return RequestState(read_request(cursor, request_id).state)
    return RequestState(row[0])


def close_confirmed(cursor: psycopg.Cursor[Any]) -> list[UUID]:
    """Close the requests whose last external task was confirmed; which."""
    return [row[0] for row in cursor.execute(_SQL["close_confirmed"])]


@contextmanager
def transaction_at(connection: Connection, as_of: datetime) -> Iterator[psycopg.Cursor[Any]]:
    """Begin a transaction in which ``pipeline.clock()`` answers ``as_of``."""
    driver = psycopg_connection(connection)
    with driver.transaction(), driver.cursor() as cursor:
        cursor.execute("select set_config('gatte.as_of', %s, true)", [as_of.isoformat()])
        yield cursor
