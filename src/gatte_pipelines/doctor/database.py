"""Whether the database can be worked with, and whether its roles are kept apart.

What its tables should look like belongs to ``gatte db check``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from sqlalchemy import text

from gatte_pipelines.database.migrate import HEAD
from gatte_pipelines.health import Finding, State

if TYPE_CHECKING:
    from sqlalchemy import Connection

_OWNS = """
select
    r.rolsuper or pg_has_role(current_user, c.relowner, 'usage') as owns,
    current_setting('server_version')
from pg_class as c, pg_roles as r
where c.oid = 'public.users'::regclass and r.rolname = current_user
"""


def check_database(
    migrated: Callable[[], AbstractContextManager[Connection]],
) -> Iterator[Finding]:
    """Yield whether it is there, is at the newest migration, and has an owner apart.

    Args:
        migrated: Connects as the operations do; raises where the database lacks a migration.

    Raises:
        GatteError: It cannot be reached, or lacks a migration.
    """
    with migrated() as connection:
        owns, version = connection.execute(text(_OWNS)).one()
        connection.rollback()
    number = version.partition(" ")[0]
    yield Finding(State.OK, f"PostgreSQL {number} responde e está na migração {HEAD}")
    if owns:
        yield Finding(
            State.WARNING,
            "GATTE_DATABASE_URL entra como dono das tabelas: uma só URL serve aos três papéis, e "
            "as permissões por coluna não protegem nada",
            "crie os papéis com gatte db roles e use gatte_pipeline em GATTE_DATABASE_URL, o dono "
            "só em GATTE_MIGRATION_DATABASE_URL e gatte_reporting em GATTE_REPORTING_DATABASE_URL",
        )
