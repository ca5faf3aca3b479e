"""Other systems that hold a person's data: what they must erase, and whether they did (S2).

A system is handed in as an `ErasureHook`; what its references and requests look like is its own
domain's. A task is confirmed by a read there and by nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

from gatte_pipelines.database.statements import read_statements
from gatte_pipelines.errors import ConfigurationError, GatteError, RetryableError
from gatte_pipelines.privacy.subject_requests import close_confirmed, transaction_at
from gatte_pipelines.safe_errors import safe_error

if TYPE_CHECKING:
    import psycopg
    from sqlalchemy import Connection

_SQL = read_statements(Path(__file__).with_name("external.sql"))

FILES = "landing_files"
"""Our own landing files: a task of ``erasure``, which keeps its keys over a kill."""
_OWN = (FILES,)


@dataclass(frozen=True, kw_only=True)
class ErasureHook:
    """How one other system is told to forget a person.

    Attributes:
        system: A code for tables and reports (``pipedrive``).
        plan: From cursor, ``users.id`` and ``leads.id`` to the references that the system knows
            the person by. Reads only, and no network: it runs in the transaction that clears them.
            What must go first comes first.
        erase: Erases one reference there. May be called again after it took effect.
        is_erased: Reads there whether the reference is gone.
        ends_round: Whether, after an error, the other tasks of the system wait for the next round.
        explain: What stands in the way, in Portuguese and without the reference; may be empty.
    """

    system: str
    plan: Callable[[psycopg.Cursor[Any], Sequence[UUID], Sequence[UUID]], list[str]]
    erase: Callable[[str], None]
    is_erased: Callable[[str], bool]
    ends_round: Callable[[GatteError], bool] = lambda error: isinstance(error, RetryableError)
    explain: Callable[[GatteError], str] = lambda _error: ""


@dataclass(frozen=True, kw_only=True)
class Leaving:
    """One of several people who go in one transaction.

    Attributes:
        subject_id: Whose the tasks are.
        user_ids: ``users.id``.
        lead_ids: ``leads.id``.
    """

    subject_id: UUID
    user_ids: Sequence[UUID]
    lead_ids: Sequence[UUID]


@dataclass(kw_only=True)
class ExternalReport:
    """What one round over the open tasks came to.

    Attributes:
        tried: Tasks for which the system was asked.
        confirmed: Tasks that it confirmed.
        waiting: Tasks still open.
        closed_requests: Requests that waited for nothing else.
        problems: Sentences in Portuguese, with ids only.
    """

    tried: int = 0
    confirmed: int = 0
    waiting: int = 0
    closed_requests: tuple[UUID, ...] = ()
    problems: list[str] = field(default_factory=list)


def index_hooks(hooks: Iterable[ErasureHook]) -> dict[str, ErasureHook]:
    """The registry: hooks by system.

    Raises:
        ConfigurationError: Two hooks of one system, or one that has the name of a store of ours.
    """
    registry: dict[str, ErasureHook] = {}
    for hook in hooks:
        if hook.system in registry or hook.system in _OWN:
            raise ConfigurationError(f"two erasure hooks are called {hook.system}")
        registry[hook.system] = hook
    return registry


def plan_external_tasks(
    cursor: psycopg.Cursor[Any],
    hooks: Mapping[str, ErasureHook],
    *,
    subject_id: UUID,
    user_ids: Sequence[UUID],
    lead_ids: Sequence[UUID],
    request_id: UUID | None,
) -> dict[str, int]:
    """Write a task for each reference that other systems know a person by.

    Args:
        cursor: In the transaction that clears the references, before it does; ``gatte.as_of`` set.
        hooks: The registry.
        subject_id: Whose tasks these are.
        user_ids: ``users.id``, merged ones included.
        lead_ids: ``leads.id``.
        request_id: The request they answer; None for retention.

    Returns:
        New tasks by system.
    """
    return {
        system: insert_tasks(
            cursor,
            system,
            hook.plan(cursor, user_ids, lead_ids),
            subject_id=subject_id,
            request_id=request_id,
        )
        for system, hook in hooks.items()
    }


def plan_external_tasks_of_all(
    cursor: psycopg.Cursor[Any], hooks: Mapping[str, ErasureHook], leaving: Sequence[Leaving]
) -> None:
    """Write the tasks of people who go together.

    What only these share is nobody's that stays, though it stays for each of them alone: it goes
    with the last.

    Args:
        cursor: As of ``plan_external_tasks``.
        hooks: The registry.
        leaving: The people; at least one.
    """
    users = [user_id for one in leaving for user_id in one.user_ids]
    leads = [lead_id for one in leaving for lead_id in one.lead_ids]
    for system, hook in hooks.items():
        left = hook.plan(cursor, users, leads)
        for one in leaving if left else ():
            own = hook.plan(cursor, one.user_ids, one.lead_ids)
            insert_tasks(cursor, system, own, subject_id=one.subject_id, request_id=None)
            left = [reference for reference in left if reference not in own]
        last = leaving[-1].subject_id
        insert_tasks(cursor, system, left, subject_id=last, request_id=None)


def insert_tasks(
    cursor: psycopg.Cursor[Any],
    system: str,
    references: Sequence[str],
    *,
    subject_id: UUID,
    request_id: UUID | None,
) -> int:
    """Write tasks for references that have no open one yet, to be tried in this order; how many."""
    cursor.execute(
        _SQL["insert_tasks"],
        {
            "request_id": request_id,
            "subject_id": subject_id,
            "external_system": system,
            "references": list(references),
        },
    )
    return cursor.rowcount


def read_own_tasks(
    cursor: psycopg.Cursor[Any], system: str, *, subject_id: UUID, request_id: UUID
) -> list[tuple[UUID, str]]:
    """Open tasks of a store of ours, with their references."""
    values = {"external_system": system, "subject_id": subject_id, "request_id": request_id}
    return cursor.execute(_SQL["read_own_tasks"], values).fetchall()


def confirm_task(cursor: psycopg.Cursor[Any], task_id: UUID) -> None:
    """Confirm a task and empty its reference."""
    cursor.execute(_SQL["confirm"], {"task_id": task_id})


def begin_attempt(cursor: psycopg.Cursor[Any], task_id: UUID) -> str | None:
    """Count an attempt; the reference, None where the task is no longer open."""
    row = cursor.execute(_SQL["begin_attempt"], {"task_id": task_id}).fetchone()
    return None if row is None else row[0]


def count_tasks(
    cursor: psycopg.Cursor[Any], *, subject_id: UUID, request_id: UUID
) -> dict[str, tuple[int, int]]:
    """Open and confirmed tasks by system, of a request or its subject."""
    rows = cursor.execute(_SQL["count_tasks"], {"subject_id": subject_id, "request_id": request_id})
    return {system: (waiting, confirmed) for system, waiting, confirmed in rows}


def confirm_external_tasks(
    connection: Connection, hooks: Mapping[str, ErasureHook], *, as_of: datetime
) -> ExternalReport:
    """Let the other systems erase what is still open there, and confirm what a read shows as gone.

    A system is read before it is asked to erase: an earlier request may have taken effect although
    its answer never came. One that cannot be reached is left for the next round, the others go on.

    Args:
        connection: To the database, outside a transaction; none is open while a system is asked.
        hooks: The registry.
        as_of: Now.
    """
    report = ExternalReport()
    with transaction_at(connection, as_of) as cursor:
        tasks = cursor.execute(_SQL["find_open"], {"own_systems": list(_OWN)}).fetchall()
    down: dict[str, int] = {}
    why: dict[str, str] = {}
    unknown: dict[str, int] = {}
    for task_id, system in tasks:
        hook = hooks.get(system)
        if hook is None:
            unknown[system] = unknown.get(system, 0) + 1
        elif system in down:
            down[system] += 1
        else:
            error = _attempt(connection, hook, task_id, report, as_of=as_of)
            if error is not None and hook.ends_round(error):
                down[system] = 0
                why[system] = (
                    "sem resposta" if isinstance(error, RetryableError) else "interrompido"
                )
    report.problems += [
        f"{system}: {why[system]}; tarefas adiadas: {count}"
        for system, count in down.items()
        if count
    ]
    report.problems += [
        f"{system}: nenhum conector configurado; tarefas abertas: {count}"
        for system, count in unknown.items()
    ]
    with transaction_at(connection, as_of) as cursor:
        report.waiting = len(
            cursor.execute(_SQL["find_open"], {"own_systems": list(_OWN)}).fetchall()
        )
        report.closed_requests = tuple(close_confirmed(cursor))
    return report


def _attempt(
    connection: Connection,
    hook: ErasureHook,
    task_id: UUID,
    report: ExternalReport,
    *,
    as_of: datetime,
) -> GatteError | None:
    with transaction_at(connection, as_of) as cursor:
        reference = begin_attempt(cursor, task_id)
    if reference is None:
        return None  # another run confirmed it meanwhile
    report.tried += 1
    try:
        is_erased = hook.is_erased(reference)
        if not is_erased:
            hook.erase(reference)
            is_erased = hook.is_erased(reference)
    except Exception as exc:  # noqa: BLE001 - one system's fault must not stop the others
        error = safe_error(exc)
        # Not its message, which may quote the reference; its class says what a rerun would change.
        explained = f" ({words})" if (words := hook.explain(error)) else ""
        report.problems.append(
            f"{hook.system}: tarefa {task_id}: {type(error).__name__}{explained}"
        )
        return error
    if not is_erased:
        report.problems.append(f"{hook.system}: tarefa {task_id}: ainda consta no sistema")
        return None
    with transaction_at(connection, as_of) as cursor:
        confirm_task(cursor, task_id)
    report.confirmed += 1
    return None
