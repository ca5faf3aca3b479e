"""What `gatte doctor` says of a company's Pipedrive, over a real socket, changing nothing there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path

import pytest

from gatte_pipelines.crm.budget import TokenLedger
from gatte_pipelines.crm.client import PipedriveClient
from gatte_pipelines.crm.company import Account
from gatte_pipelines.crm.health import check_account
from gatte_pipelines.crm.policy import CrmPolicy
from gatte_pipelines.crm.policy_file import read_crm_policy
from gatte_pipelines.errors import RetryableError
from gatte_pipelines.health import Finding, State
from gatte_pipelines.http import RetryPolicy
from gatte_pipelines.sandbox.pipedrive import Kind, PipedriveFault, PipedriveStandIn

QUICK = RetryPolicy(max_attempts=1)
COSTS_AT_MOST = 32


@pytest.fixture
def policy(repository: Path) -> CrmPolicy:
    config = repository / "config"
    return read_crm_policy(config / "crm_fields.yaml", config / "crm_stages.yaml")


@pytest.fixture
def stand_in() -> Iterator[PipedriveStandIn]:
    with PipedriveStandIn() as started:
        yield started


def look(
    stand_in: PipedriveStandIn,
    policy: CrmPolicy,
    *,
    token: str = "",
    known: Account | None = None,
    ledger: TokenLedger | None = None,
) -> list[Finding]:
    with PipedriveClient(
        stand_in.url, token or stand_in.token, ledger=ledger or TokenLedger(), repeats=QUICK
    ) as client:
        return list(check_account(client, policy, known))


def known_account(company_id: int, external_key: str | None = None) -> Account:
    return Account(
        labels={},
        stages={},
        external_key=external_key,
        company_id=company_id,
        policy_fingerprint="",
        read_at=datetime(2026, 3, 2, tzinfo=UTC),
    )


def states(findings: list[Finding]) -> list[State]:
    return [finding.state for finding in findings]


def test_an_account_that_fits_is_all_well_and_is_left_as_it_is(
    stand_in: PipedriveStandIn, policy: CrmPolicy
) -> None:
    stand_in.add_field(Kind.DEAL, policy.external_field)
    assert set(states(look(stand_in, policy))) == {State.OK}
    assert {exchange.method for exchange in stand_in.exchanges} == {"GET"}
    assert sum(exchange.cost for exchange in stand_in.exchanges) <= COSTS_AT_MOST


def test_a_field_that_is_missing_is_a_warning_and_is_not_created(
    stand_in: PipedriveStandIn, policy: CrmPolicy
) -> None:
    findings = look(stand_in, policy)
    (finding,) = [one for one in findings if one.state is not State.OK]
    assert finding.state is State.WARNING
    assert "a próxima sincronização o cria" in finding.text
    assert "origin_id" in finding.advice
    assert {exchange.method for exchange in stand_in.exchanges} == {"GET"}


def test_a_field_that_the_sync_was_not_allowed_to_create_is_told_so(
    stand_in: PipedriveStandIn, policy: CrmPolicy
) -> None:
    with PipedriveClient(stand_in.url, stand_in.token, ledger=TokenLedger()) as client:
        company = client.read_me().company_id
    findings = look(stand_in, policy, known=known_account(company))
    assert any("não pôde ser criado" in one.text for one in findings)


def test_a_field_of_another_type_or_two_of_them_are_errors(
    stand_in: PipedriveStandIn, policy: CrmPolicy
) -> None:
    key = stand_in.add_field(Kind.DEAL, policy.external_field, "double")
    assert any("double" in one.text for one in look(stand_in, policy) if one.state is State.ERROR)
    stand_in.add_field(Kind.DEAL, policy.external_field)
    assert any("2 vezes" in one.text for one in look(stand_in, policy))
    stand_in.delete_field(Kind.DEAL, key)
    assert State.ERROR not in states(look(stand_in, policy))


@pytest.mark.parametrize(
    ("labels", "pipelines", "words"),
    [
        ({"hot": "red", "Warm": "yellow"}, None, ('"Hot" (linha ', "não existem")),
        (None, {"Pipeline": ["Qualified"]}, ('"Pipeline: Contact Made" (linha ', "não existem")),
        (None, {}, ('"Pipeline: Qualified" (linha ', "não existem")),
    ],
)
def test_every_name_that_is_missing_is_told_with_its_line(
    policy: CrmPolicy,
    labels: Mapping[str, str] | None,
    pipelines: Mapping[str, list[str]] | None,
    words: tuple[str, ...],
) -> None:
    options = {"labels": labels, "pipelines": pipelines}
    given = {name: value for name, value in options.items() if value is not None}
    with PipedriveStandIn(**given) as stand_in:  # type: ignore[arg-type]
        errors = [one for one in look(stand_in, policy) if one.state is State.ERROR]
    assert len(errors) == 1
    assert all(word in errors[0].text for word in words)
    assert policy.stages.file in errors[0].text


def test_a_name_that_stands_twice_is_an_error(
    stand_in: PipedriveStandIn, policy: CrmPolicy
) -> None:
    stand_in.account.add_label("Hot", "green")
    errors = [one for one in look(stand_in, policy) if one.state is State.ERROR]
    assert ["mais de uma vez" in one.text for one in errors] == [True]


def test_a_token_that_is_refused_ends_the_look_and_is_not_shown(
    stand_in: PipedriveStandIn, policy: CrmPolicy
) -> None:
    token = "t" * 40
    (finding,) = look(stand_in, policy, token=token)
    assert (finding.state, finding.text) == (State.ERROR, "o token não é aceito")
    assert token not in finding.text + finding.advice
    assert len(stand_in.exchanges) == 1


def test_a_token_of_another_company_is_an_error(
    stand_in: PipedriveStandIn, policy: CrmPolicy
) -> None:
    (finding,) = look(stand_in, policy, known=known_account(1))
    assert finding.state is State.ERROR
    assert "outra empresa" in finding.text


def test_a_day_without_tokens_is_no_error_of_the_account(
    stand_in: PipedriveStandIn, policy: CrmPolicy
) -> None:
    spent = TokenLedger(spent=18_000)
    (finding,) = look(stand_in, policy, ledger=spent)
    assert finding.state is State.WARNING
    assert stand_in.exchanges == []


def test_a_firewall_is_told_as_one_and_a_server_that_is_down_as_an_error_of_its_own(
    stand_in: PipedriveStandIn, policy: CrmPolicy
) -> None:
    stand_in.fail(PipedriveFault.CLOUDFLARE)
    (finding,) = look(stand_in, policy)
    assert "firewall" in finding.text
    stand_in.fail(PipedriveFault.SERVER_ERROR)
    with pytest.raises(RetryableError):
        look(stand_in, policy)


def test_blanks_of_a_name_say_nothing(policy: CrmPolicy) -> None:
    with PipedriveStandIn(labels={" Hot ": "red", "Warm": "yellow"}) as stand_in:
        assert State.ERROR not in states(look(stand_in, policy))
    with PipedriveStandIn() as stand_in:
        stand_in.add_field(Kind.DEAL, f" {policy.external_field}")
        assert set(states(look(stand_in, policy))) == {State.OK}
