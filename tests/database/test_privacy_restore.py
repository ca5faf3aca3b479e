"""Restore drill: whoever was erased since the backup is erased again, from the ledger outside."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from gatte_pipelines.errors import GatteError
from gatte_pipelines.settings import Settings
from gatte_pipelines.wiring import Wiring
from tests.database.rows import insert
from tests.inbound import Inbound
from tests.postgres import SUPERUSER, TestDatabase
from tests.webhooks import contact, text_message, texts

NOW = datetime.now(UTC).replace(microsecond=0)
SECONDS = int(NOW.timestamp())
ANA, BIA = "5511900000071", "5511900000072"


def gatte(settings: Settings, *arguments: str, given: str = "") -> subprocess.CompletedProcess[str]:
    """Run the command line over these settings, as a person does."""
    return subprocess.run(
        [sys.executable, "-m", "gatte_pipelines.cli", *arguments],
        input=given,
        capture_output=True,
        text=True,
        check=False,
        env={
            "PATH": "/usr/bin:/bin",
            "GATTE_HOME": str(settings.home),
            "GATTE_ID_KEY": (settings.id_key or b"").decode(),
            "GATTE_DATABASE_URL": settings.database_url or "",
            "GATTE_MIGRATION_DATABASE_URL": settings.migration_database_url or "",
            "GATTE_INBOUND_URL": settings.inbound_url,
        },
    )


@pytest.fixture
def inbound(database: TestDatabase) -> Inbound:
    made = Inbound(database)
    for number, (phone, name) in enumerate(((ANA, "Ana Segredo"), (BIA, "Bia Fica"))):
        made.send(
            texts(
                text_message(
                    f"wamid.{number}", SECONDS - 600, sender=phone, body=f"texto de {name}"
                ),
                contacts=[contact(phone, name)],
            ),
            as_of=NOW,
        )
    return made


def user_of(inbound: Inbound, phone: str) -> str:
    return str(inbound.one("select id from users where phone = :p", p=f"+{phone}")[0])


def test_erased_stays_erased_over_a_restored_backup(
    inbound: Inbound,
    make_database: Callable[..., AbstractContextManager[TestDatabase]],
    tmp_path: Path,
) -> None:
    ana, bia = user_of(inbound, ANA), user_of(inbound, BIA)
    with inbound.database.connect("owner") as connection, connection.begin():
        insert(connection, "leads", user_id=ana, name="Ana Segredo", created_at=NOW)
    backup = tmp_path / "backup.sql"
    server = inbound.database.server
    with backup.open("wb") as out:
        subprocess.run(
            [
                server.program("pg_dump"),
                *("-h", server.socket_folder, "-U", SUPERUSER, "-Fc"),
                inbound.database.name,
            ],
            check=True,
            stdout=out,
        )
    erased = gatte(inbound.settings, "lgpd", "subject", "erase", ana, "--execute")
    assert erased.returncode == 0, erased.stderr
    held = gatte(
        inbound.settings, "lgpd", "hold", "place", "users", bia, "--reason=x1", "--owner=y1"
    )
    assert held.returncode == 0, held.stderr

    with make_database(template="template0") as restored:
        subprocess.run(
            [
                server.program("pg_restore"),
                *("-h", server.socket_folder, "-U", SUPERUSER, "-d", restored.name),
                str(backup),
            ],
            check=True,
        )
        settings = replace(
            inbound.settings,
            database_url=restored.settings().database_url,
            migration_database_url=restored.settings().migration_database_url,
        )
        assert names(restored) == {"Ana Segredo", "Bia Fica"}

        # Nothing is destroyed over a ledger that knows more than the database.
        with Wiring(settings) as wiring, pytest.raises(GatteError, match="restore-replay"):
            wiring.run("lgpd_retention", execute=True)

        planned = gatte(settings, "lgpd", "restore-replay")
        assert planned.returncode == 0, planned.stderr
        assert "simulação" in planned.stdout
        assert names(restored) == {"Ana Segredo", "Bia Fica"}

        done = gatte(settings, "lgpd", "restore-replay", "--execute", "--json")
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout) == {
            "entries": 3,
            "users": 1,
            "leads": 1,
            "holds": 1,
            "is_executed": True,
        }
        assert names(restored) == {"Bia Fica"}
        assert contents(restored, ana) == [""]
        assert contents(restored, bia) == ["texto de Bia Fica"]
        assert held_rows(restored) == [bia]
        again = gatte(settings, "lgpd", "restore-replay", "--execute", "--json")
        assert json.loads(again.stdout)["users"] == 0
        verified = gatte(settings, "lgpd", "ledger", "verify")
        assert verified.returncode == 0, verified.stdout
        with Wiring(settings) as wiring:
            wiring.run("lgpd_retention", execute=True)


def names(database: TestDatabase) -> set[str]:
    return {
        str(name)
        for (name,) in _rows(
            database,
            "select name from users where name is not null "
            "union select name from leads where name !~ '^~x'",
        )
    }


def contents(database: TestDatabase, user_id: str) -> list[str]:
    return [
        str(content)
        for (content,) in _rows(
            database,
            "select m.content from messages as m inner join conversations as c "
            "on m.conversation_id = c.id where c.user_id = :u",
            u=user_id,
        )
    ]


def held_rows(database: TestDatabase) -> list[str]:
    return [
        str(row)
        for (row,) in _rows(
            database, "select row_id from pipeline.retention_holds where released_at is null"
        )
    ]


def _rows(database: TestDatabase, query: str, **parameters: Any) -> list[Any]:
    with database.connect("superuser") as connection:
        return list(connection.execute(text(query), parameters))


def test_a_person_is_found_exported_and_erased_from_the_command_line(inbound: Inbound) -> None:
    ana = user_of(inbound, ANA)
    found = gatte(inbound.settings, "lgpd", "subject", "find", given="(11) 90000-0071\n")
    assert found.returncode == 0, found.stderr
    assert ana in found.stdout
    assert "Segredo" not in found.stdout
    exported = gatte(inbound.settings, "lgpd", "subject", "export", ana)
    assert exported.returncode == 0, exported.stderr
    (page,) = (inbound.settings.home / "exports").rglob("*.html")
    assert "texto de Ana Segredo" in page.read_text("utf-8")
    assert "Bia" not in page.read_text("utf-8")
    assert page.stat().st_mode & 0o777 == 0o600

    dry = gatte(inbound.settings, "lgpd", "subject", "erase", ana)
    assert dry.returncode == 0, dry.stderr
    assert names(inbound.database) == {"Ana Segredo", "Bia Fica"}
    listed = gatte(inbound.settings, "lgpd", "subject", "list")
    assert ana in listed.stdout
    done = gatte(inbound.settings, "lgpd", "subject", "erase", ana, "--execute")
    assert done.returncode == 0, done.stderr
    assert names(inbound.database) == {"Bia Fica"}
    assert not page.exists()
    archived = list((inbound.landing / "archive").rglob("*.jsonl"))
    assert all("Segredo" not in path.read_text("utf-8") for path in archived)
    nobody = gatte(inbound.settings, "lgpd", "subject", "find", given="(11) 90000-0071\n")
    assert nobody.returncode == 1


def test_an_unknown_person_is_refused_by_id(inbound: Inbound) -> None:
    unknown = "00000000-0000-4000-8000-000000000000"
    refused = gatte(inbound.settings, "lgpd", "subject", "erase", unknown, "--execute")
    assert refused.returncode == 1
    assert unknown in refused.stderr


def test_a_hold_without_a_reason_is_refused(inbound: Inbound) -> None:
    ana = user_of(inbound, ANA)
    refused = gatte(
        inbound.settings, "lgpd", "hold", "place", "users", ana, "--reason= ", "--owner=y1"
    )
    assert refused.returncode == 1
    assert "reason" in refused.stderr
