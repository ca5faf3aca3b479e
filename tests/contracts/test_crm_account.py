"""The account as the stand-in has it, and the configuration held to it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from gatte_pipelines.crm.account import Account, is_stale, read_account
from gatte_pipelines.crm.budget import TokenLedger
from gatte_pipelines.crm.client import PipedriveClient
from gatte_pipelines.crm.failures import AccessRefusedError
from gatte_pipelines.crm.policy import CrmPolicy
from gatte_pipelines.crm.policy_file import read_crm_policy
from gatte_pipelines.crm.policy_text import parse_stages
from gatte_pipelines.errors import BadInputError, ConfigurationError
from gatte_pipelines.http import AmbiguousError, RetryPolicy
from gatte_pipelines.sandbox.pipedrive import Kind, PipedriveFault, PipedriveStandIn
from gatte_pipelines.sandbox.pipedrive_rows import COMPANY_ID
from tests.pipedrive_specs import ARE_MISSING, errors_of

CONFIG = Path(__file__).resolve().parents[2] / "config"
POLICY = read_crm_policy(CONFIG / "crm_fields.yaml", CONFIG / "crm_stages.yaml")
NAME = POLICY.external_field
NOW = datetime(2026, 3, 10, 11, 30, tzinfo=UTC)
STAGES = """\
labels:
  Warm: contacted
  Quente: qualified
no_label: new
deals:
  won: converted
  lost: lost
  stages:
    Pipeline:
      Qualified: qualified
      Contrato: qualified
    Renovações:
      Qualified: qualified
"""


@pytest.fixture
def stand_in() -> Iterator[PipedriveStandIn]:
    """A fresh account; whatever a test sent it is valid against the official specs."""
    with PipedriveStandIn(now=lambda: NOW) as started:
        yield started
    if not ARE_MISSING:
        assert [error for one in started.exchanges for error in errors_of(one)] == []


@pytest.fixture
def client(stand_in: PipedriveStandIn) -> Iterator[PipedriveClient]:
    quick = RetryPolicy(max_attempts=2, base_delay_seconds=0.01, max_delay_seconds=0.01)
    ledger = TokenLedger(now=lambda: NOW)
    with PipedriveClient(
        stand_in.url, stand_in.token, ledger=ledger, timeout_seconds=0.3, repeats=quick
    ) as it:
        yield it


def read_with(
    client: PipedriveClient, policy: CrmPolicy = POLICY, known_company: int | None = None
) -> tuple[Account, list[str]]:
    return read_account(client, policy, now=NOW, known_company=known_company)


def fields_of(stand_in: PipedriveStandIn) -> list[tuple[str, str]]:
    """Names and types of the custom fields of deals."""
    fields = stand_in.account.fields_of(Kind.DEAL).values()
    return [(one.name, one.type) for one in fields if one.is_custom]


def sent(stand_in: PipedriveStandIn) -> list[tuple[str, str | None]]:
    return [(one.method, one.template) for one in stand_in.exchanges]


# --- A fresh account ------------------------------------------------------------------------------


def test_the_shipped_configuration_fits_a_fresh_account(
    client: PipedriveClient, stand_in: PipedriveStandIn
) -> None:
    account, notes = read_with(client)
    assert sorted(account.labels.values()) == ["Cold", "Hot", "Warm"]
    assert {str(one) for one in account.labels} == set(stand_in.account.labels)
    assert account.stages[11] == ("Pipeline", "Qualified")
    assert len(account.stages) == 5
    assert (account.company_id, account.read_at) == (COMPANY_ID, NOW)
    assert account.policy_fingerprint == POLICY.fingerprint
    assert notes == []


def test_the_custom_field_is_created_once_and_then_found(
    client: PipedriveClient, stand_in: PipedriveStandIn
) -> None:
    first, _ = read_with(client)
    assert stand_in.limits.spent == 2 + 10 + 5 + 5 + 10 + 5
    assert sent(stand_in)[-1] == ("POST", "/api/v2/dealFields")
    stand_in.forget_exchanges()
    second, notes = read_with(client, known_company=COMPANY_ID)
    assert second == first
    assert notes == []
    assert {method for method, _ in sent(stand_in)} == {"GET"}
    assert fields_of(stand_in) == [(NAME, "varchar")]
    assert first.external_key is not None
    assert len(first.external_key) == 40


def test_a_field_that_somebody_made_is_taken_by_its_name(
    client: PipedriveClient, stand_in: PipedriveStandIn
) -> None:
    key = stand_in.add_field(Kind.DEAL, f"  {NAME.replace(' ', '  ')} ")
    # One of persons, and one that Pipedrive has itself, are other fields.
    stand_in.add_field(Kind.PERSON, NAME)
    account, _ = read_with(client)
    assert account.external_key == key
    title = replace(POLICY, external_field="Title")
    assert read_with(client, title)[0].external_key not in {None, "title"}


def test_a_field_that_may_not_be_created_is_done_without(
    client: PipedriveClient, stand_in: PipedriveStandIn
) -> None:
    stand_in.fail(PipedriveFault.PLAN_LIMIT, method="POST")
    account, notes = read_with(client)
    assert account.external_key is None
    assert len(notes) == 1
    assert NAME in notes[0]
    assert "origin_id" in notes[0]
    # The next day it is tried again.
    assert read_with(client)[0].external_key is not None


def test_a_field_that_was_deleted_there_is_created_anew(
    client: PipedriveClient, stand_in: PipedriveStandIn
) -> None:
    first, _ = read_with(client)
    assert first.external_key is not None
    stand_in.delete_field(Kind.DEAL, first.external_key)
    second, notes = read_with(client)
    assert second.external_key not in {None, first.external_key}
    assert notes == []


@pytest.mark.parametrize("fault", [PipedriveFault.TIMEOUT_AFTER, PipedriveFault.SERVER_ERROR_AFTER])
def test_a_creation_whose_end_nobody_knows_makes_no_second_field(
    client: PipedriveClient, stand_in: PipedriveStandIn, fault: PipedriveFault
) -> None:
    stand_in.fail(fault, method="POST")
    with pytest.raises(AmbiguousError):
        read_with(client)
    assert read_with(client)[0].external_key is not None
    assert fields_of(stand_in) == [(NAME, "varchar")]


@pytest.mark.parametrize("field_type", ["text", "double", "varchar_auto"])
def test_a_field_of_another_type_is_refused(
    client: PipedriveClient, stand_in: PipedriveStandIn, field_type: str
) -> None:
    stand_in.add_field(Kind.DEAL, NAME, field_type)
    with pytest.raises(ConfigurationError, match="external_id_field") as refused:
        read_with(client)
    assert "rename it there" in refused.value.message
    assert len(fields_of(stand_in)) == 1


def test_two_fields_of_the_name_are_refused(
    client: PipedriveClient, stand_in: PipedriveStandIn
) -> None:
    for _ in range(2):
        stand_in.add_field(Kind.DEAL, NAME)
    with pytest.raises(ConfigurationError, match="two custom fields"):
        read_with(client)


# --- Another company, a wrong token ---------------------------------------------------------------


def test_another_company_is_neither_read_nor_written(
    client: PipedriveClient, stand_in: PipedriveStandIn
) -> None:
    with pytest.raises(ConfigurationError, match="another company") as refused:
        read_with(client, known_company=COMPANY_ID + 1)
    assert "GATTE_PIPEDRIVE_API_TOKEN" in refused.value.message
    assert sent(stand_in) == [("GET", "/api/v1/users/me")]


def test_a_wrong_token_ends_it_with_the_first_call(
    client: PipedriveClient, stand_in: PipedriveStandIn
) -> None:
    stand_in.fail(PipedriveFault.UNAUTHORIZED)
    for _ in range(2):
        with pytest.raises(AccessRefusedError):
            read_with(client)
    assert len(stand_in.exchanges) == 1


# --- Names that are not there ---------------------------------------------------------------------


def complete(stand_in: PipedriveStandIn) -> None:
    """Make the account have everything that STAGES names."""
    stand_in.account.add_label("Quente", "red")
    stand_in.account.stages[12]["name"] = "Contrato"
    stand_in.account.add_pipeline("Renovações", ["Qualified"])


def renamed(rows: dict[Any, Any], old: str, new: str) -> None:
    """Rename every row of a name."""
    for row in rows.values():
        if row["name"] == old:
            row["name"] = new


def deleted(rows: dict[Any, Any], name: str) -> None:
    """Mark every row of a name as deleted."""
    for row in rows.values():
        if row["name"] == name:
            row["is_deleted"] = True


def test_what_is_named_and_there_passes_however_its_accents_are_written(
    client: PipedriveClient, stand_in: PipedriveStandIn
) -> None:
    complete(stand_in)
    renamed(stand_in.account.pipelines, "Renovações", "Renovac\u0327o\u0303es ")
    policy = replace(POLICY, stages=parse_stages(STAGES, "crm_stages.yaml"))
    account, _ = read_with(client, policy)
    assert ("Renovações", "Qualified") in account.stages.values()


REFUSED: dict[str, tuple[Callable[[PipedriveStandIn], object], int, str]] = {
    "no such label": (
        lambda there: renamed(there.account.labels, "Quente", "Morno"),
        3,
        "no lead label of this name;",
    ),
    "another case": (
        lambda there: renamed(there.account.labels, "Quente", "QUENTE"),
        3,
        "differs in upper and lower case",
    ),
    "a label twice": (
        lambda there: there.account.add_label(" Warm", "green"),
        2,
        "two lead labels of this name; rename one",
    ),
    "no such pipeline": (
        lambda there: renamed(there.account.pipelines, "Renovações", "Outro"),
        13,
        "no pipeline of the name above;",
    ),
    "a pipeline that was deleted": (
        lambda there: deleted(there.account.pipelines, "Renovações"),
        13,
        "no pipeline of the name above;",
    ),
    "a pipeline in another case": (
        lambda there: renamed(there.account.pipelines, "Renovações", "renovações"),
        13,
        "differs in upper and lower case",
    ),
    "a pipeline twice": (
        lambda there: there.account.add_pipeline("Pipeline", ["Qualified"]),
        10,
        "two pipelines of the name above; rename one",
    ),
    "no such stage": (
        lambda there: renamed(there.account.stages, "Contrato", "Assinado"),
        11,
        "no stage of this name;",
    ),
    "a stage that was deleted": (
        lambda there: deleted(there.account.stages, "Contrato"),
        11,
        "no stage of this name;",
    ),
    "a stage of another pipeline": (
        lambda there: there.account.stages[12].update(pipeline_id=2),
        11,
        "no stage of this name;",
    ),
    "a stage twice": (
        lambda there: there.account.stages[13].update(name="Contrato"),
        11,
        "two stages of this name; rename one",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_name_that_is_not_there_once_is_told_with_file_and_line(
    client: PipedriveClient, stand_in: PipedriveStandIn, case: str
) -> None:
    spoil, line, reason = REFUSED[case]
    complete(stand_in)
    spoil(stand_in)
    policy = replace(POLICY, stages=parse_stages(STAGES, "crm_stages.yaml"))
    with pytest.raises(BadInputError) as refused:
        read_with(client, policy)
    assert (refused.value.file, refused.value.line) == ("crm_stages.yaml", line)
    assert reason in refused.value.reason
    # Nothing was created while the configuration was wrong.
    assert fields_of(stand_in) == []


def test_what_the_configuration_does_not_name_may_stand_there_twice(
    client: PipedriveClient, stand_in: PipedriveStandIn
) -> None:
    stand_in.account.add_label("Cold", "green")
    for _ in range(2):
        stand_in.account.add_pipeline("Outro", ["A", "A"])
    account, _ = read_with(client)
    assert list(account.labels.values()).count("Cold") == 2


def test_names_that_were_deleted_are_no_second_ones(
    client: PipedriveClient, stand_in: PipedriveStandIn
) -> None:
    old = stand_in.account.add_pipeline("Pipeline", ["Qualified"])
    stand_in.account.pipelines[old]["is_deleted"] = True
    account, _ = read_with(client)
    assert list(account.stages.values()).count(("Pipeline", "Qualified")) == 1


# --- How long it is believed ----------------------------------------------------------------------


def test_an_account_is_believed_for_a_day_and_for_one_policy() -> None:
    account = Account(
        labels={UUID(int=1): "Warm"},
        stages={},
        external_key=None,
        company_id=1,
        policy_fingerprint=POLICY.fingerprint,
        read_at=NOW,
        access_mark="a",
    )
    last = NOW + timedelta(hours=24) - timedelta(seconds=1)
    assert not is_stale(account, POLICY, last, access_mark="a")
    assert is_stale(account, POLICY, NOW + timedelta(hours=24), access_mark="a")
    assert is_stale(account, replace(POLICY, external_field="x"), NOW, access_mark="a")
    assert is_stale(account, POLICY, NOW, access_mark="b")
    assert is_stale(None, POLICY, NOW, access_mark="a")
