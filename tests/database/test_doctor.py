"""`gatte doctor` over a real database and a real socket: what it says; it changes nothing."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from gatte_pipelines.doctor.checkup import examine
from gatte_pipelines.health import State
from gatte_pipelines.sandbox.pipedrive import PipedriveStandIn
from gatte_pipelines.settings import Settings
from gatte_pipelines.wiring import Wiring
from tests.command_line import HIDDEN, gatte
from tests.inbound import Inbound
from tests.postgres import TestDatabase

MakeDatabase = Callable[..., AbstractContextManager[TestDatabase]]
ALL_SET: dict[str, Any] = {
    "smtp_url": "smtp://127.0.0.1:2525",
    "staff_email": "equipe@example.com",
    "whatsapp_phone_number_id": "1",
    "whatsapp_token": "t" * 40,
}


@pytest.fixture
def stand_in() -> Iterator[PipedriveStandIn]:
    with PipedriveStandIn() as started:
        yield started


@pytest.fixture
def inbound(database: TestDatabase) -> Inbound:
    return Inbound(database)


def pipedrive(stand_in: PipedriveStandIn) -> dict[str, str]:
    return {"pipedrive_base_url": stand_in.url, "pipedrive_api_token": stand_in.token}


def look(settings: Settings) -> dict[str, list[tuple[State, str]]]:
    """What is found, by check."""
    found: dict[str, list[tuple[State, str]]] = {}
    with Wiring(settings) as wiring:
        for line in examine(wiring.checks()):
            found.setdefault(line.check, []).append((line.finding.state, line.finding.text))
    return found


def test_an_installation_with_everything_set_has_no_error(
    database: TestDatabase, stand_in: PipedriveStandIn
) -> None:
    found = look(database.settings(**ALL_SET, **pipedrive(stand_in)))
    assert list(found) == ["Banco de dados", "Configurações", "Pipedrive"]
    assert [state for state, _ in found["Banco de dados"]] == [State.OK]
    assert {state for state, _ in found["Configurações"]} == {State.OK}
    assert State.ERROR not in {state for state, _ in found["Pipedrive"]}


def test_nothing_is_written_but_the_tokens_that_it_spent(
    inbound: Inbound, stand_in: PipedriveStandIn
) -> None:
    look(inbound.database.settings(**pipedrive(stand_in)))
    assert {exchange.method for exchange in stand_in.exchanges} == {"GET"}
    assert inbound.one("select count(*) from pipeline.crm_account") == (0,)
    assert inbound.one("select count(*) from pipeline.runs") == (0,)
    spent = sum(exchange.cost for exchange in stand_in.exchanges)
    assert inbound.one("select spent from pipeline.crm_tokens") == (spent,)


def test_a_url_of_the_owner_that_serves_all_three_roles_is_a_warning(
    database: TestDatabase,
) -> None:
    owner = database.url_owner.render_as_string(hide_password=False)
    for url in (owner, database.url("superuser").render_as_string(hide_password=False)):
        (fine, warning) = look(Settings(home=database.home, database_url=url))["Banco de dados"]
        assert fine[0] is State.OK
        assert warning[0] is State.WARNING
        assert "dono das tabelas" in warning[1]


def test_a_database_that_lacks_a_migration_is_an_error_with_what_to_do(
    make_database: MakeDatabase, stand_in: PipedriveStandIn
) -> None:
    with make_database(template="template0") as empty:
        found = look(empty.settings(**pipedrive(stand_in)))
        ((state, words),) = found["Banco de dados"]
        assert state is State.ERROR
        assert "gatte db migrate" in words
        assert found["Configurações"], "the others are looked at all the same"


def test_a_database_that_is_away_is_an_error_and_no_traceback(
    database: TestDatabase, tmp_path: Path
) -> None:
    url = f"postgresql://gatte_pipeline@/gatte?host={tmp_path}"
    ((state, words),) = look(database.settings(database_url=url))["Banco de dados"]
    assert (state, "is the server running" in words) == (State.ERROR, True)


def test_settings_that_flows_lack_are_named_with_the_flows(database: TestDatabase) -> None:
    settings = database.settings(smtp_url="smtp://127.0.0.1:2525", id_key=None)
    found = look(settings)["Configurações"]
    of = {state: [words for as_state, words in found if as_state is state] for state in State}
    assert not of[State.OK]
    (whatsapp, crm) = of[State.WARNING]
    assert "GATTE_WHATSAPP_PHONE_NUMBER_ID, GATTE_WHATSAPP_TOKEN" in whatsapp
    assert "GATTE_PIPEDRIVE_API_TOKEN, GATTE_PIPEDRIVE_BASE_URL; sem isso crm_sync" in crm
    (key, mail) = of[State.ERROR]
    assert "falta GATTE_ID_KEY" in key
    assert "falta GATTE_STAFF_EMAIL; sem isso watchdog, certificate_alerts" in mail


def test_without_pipedrive_its_configuration_is_read_all_the_same(
    database: TestDatabase, repository: Path, tmp_path: Path
) -> None:
    assert "Pipedrive" not in look(database.settings())
    for path in (repository / "config").glob("*.yaml"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "crm_stages.yaml").write_text("labels: [\n", "utf-8")
    ((state, words),) = look(database.settings(config=tmp_path))["Pipedrive"]
    assert (state, "crm_stages.yaml" in words) == (State.ERROR, True)


def test_the_command_prints_a_line_each_and_ends_with_one_where_something_is_broken(
    inbound: Inbound, stand_in: PipedriveStandIn
) -> None:
    environment = {
        "GATTE_PIPEDRIVE_BASE_URL": stand_in.url,
        "GATTE_PIPEDRIVE_API_TOKEN": stand_in.token,
    }
    fine = gatte(inbound, "doctor", **environment)
    assert fine.returncode == 0, fine.stderr
    assert "ok" in fine.stdout
    assert "→ " in fine.stdout
    assert stand_in.token not in fine.stdout + fine.stderr
    broken = gatte(
        inbound, "doctor", "--json", **environment | {"GATTE_PIPEDRIVE_API_TOKEN": HIDDEN}
    )
    assert broken.returncode == 1
    said = json.loads(broken.stdout.splitlines()[-1])
    assert said["ok"] is False
    assert {"check": "Pipedrive", "state": "erro", "text": "o token não é aceito"}.items() <= next(
        finding for finding in said["findings"] if finding["state"] == "erro"
    ).items()
