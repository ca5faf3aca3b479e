"""Whether a company's Pipedrive has what the sync's configuration names. Reads only.

The sync itself stops at the first name that is missing (``account``); here all are told at once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

from gatte_pipelines.crm.budget import DailyBudgetSpent
from gatte_pipelines.crm.failures import AccessRefusedError, BlockedError
from gatte_pipelines.crm.policy import plain_name
from gatte_pipelines.health import Finding, State

if TYPE_CHECKING:
    from gatte_pipelines.crm.client import PipedriveClient
    from gatte_pipelines.crm.company import Account
    from gatte_pipelines.crm.policy import CrmPolicy

# As ``account`` makes it: the searchable type that holds an id unchanged.
_FIELD_TYPE = "varchar"


def check_account(
    client: PipedriveClient, policy: CrmPolicy, known: Account | None
) -> Iterator[Finding]:
    """Yield whether the token works and the account fits the configuration; 32 tokens.

    Args:
        client: Of the account.
        policy: The configuration.
        known: The account as the sync last read it; None where it never did.

    Raises:
        GatteError: Pipedrive cannot be asked now.
    """
    try:
        me = client.read_me()
        if known is not None and known.company_id != me.company_id:
            yield Finding(
                State.ERROR,
                "o token é de outra empresa que não a dos leads deste banco",
                "use em GATTE_PIPEDRIVE_API_TOKEN o token da empresa de antes",
            )
            return
        yield Finding(
            State.OK,
            f"o token é aceito (empresa {me.company_domain})",
            "confira no Pipedrive se o usuário do token vê todos os registros: o que ele não vê "
            "falta sem aviso",
        )
        yield _check_field(client, policy.external_field, known)
        yield from _check_labels(client, policy)
        yield from _check_stages(client, policy)
    except AccessRefusedError:
        yield Finding(
            State.ERROR,
            "o token não é aceito",
            "confira GATTE_PIPEDRIVE_API_TOKEN (um token novo invalida o anterior) e "
            "GATTE_PIPEDRIVE_BASE_URL",
        )
    except BlockedError:
        yield Finding(
            State.ERROR,
            "o firewall do Pipedrive bloqueia este servidor",
            "espere uma hora sem chamadas; se continuar, fale com o suporte do Pipedrive",
        )
    except DailyBudgetSpent:
        yield Finding(
            State.WARNING,
            "não verificado: acabou a parte desta integração nos tokens do dia",
            "tente amanhã, ou veja no Pipedrive que outra integração gasta tantos tokens",
        )


def _check_field(client: PipedriveClient, name: str, known: Account | None) -> Finding:
    found = [
        field
        for field in client.read_deal_fields()
        if field.is_custom_field and plain_name(field.field_name) == name
    ]
    what = f'o campo personalizado "{name}"'
    if not found:
        was_refused = known is not None and known.external_key is None
        return Finding(
            State.WARNING,
            f"{what} não existe"
            + (" e não pôde ser criado" if was_refused else "; a próxima sincronização o cria"),
            "um administrador pode criá-lo no Pipedrive: campo de negócio, tipo texto; sem ele "
            "os leads são reconhecidos só por origin_id",
        )
    if len(found) > 1:
        return Finding(
            State.ERROR,
            f"{what} existe {len(found)} vezes",
            "exclua no Pipedrive o que não tem valores, ou renomeie-o",
        )
    if found[0].field_type != _FIELD_TYPE:
        return Finding(
            State.ERROR,
            f"{what} não é um texto curto ({_FIELD_TYPE}), e sim {found[0].field_type}",
            "renomeie-o no Pipedrive, ou escreva outro nome em crm_fields.yaml",
        )
    return Finding(State.OK, f"{what} existe")


def _check_labels(client: PipedriveClient, policy: CrmPolicy) -> Iterator[Finding]:
    there = Counter(plain_name(label.name) for label in client.read_lead_labels())
    wanted = {f'"{label.name}"': (label.line, there[label.name]) for label in policy.stages.labels}
    yield from _judge("etiquetas de leads", wanted, policy.stages.file)


def _check_stages(client: PipedriveClient, policy: CrmPolicy) -> Iterator[Finding]:
    pipelines = {
        pipeline.id: plain_name(pipeline.name)
        for pipeline in client.read_pipelines()
        if not pipeline.is_deleted
    }
    there = Counter(
        (pipelines[stage.pipeline_id], plain_name(stage.name))
        for stage in client.read_stages()
        if not stage.is_deleted and stage.pipeline_id in pipelines
    )
    wanted = {
        f'"{one.pipeline}: {one.name}"': (one.line, there[one.pipeline, one.name])
        for one in policy.stages.deal_stages
    }
    yield from _judge("etapas de negócios", wanted, policy.stages.file)


def _judge(what: str, wanted: dict[str, tuple[int, int]], file: str) -> Iterator[Finding]:
    """Yield about names of the file, with their lines and how often each stands in Pipedrive."""
    missing = [f"{name} (linha {line})" for name, (line, times) in wanted.items() if not times]
    twice = [f"{name} (linha {line})" for name, (line, times) in wanted.items() if times > 1]
    if missing:
        yield Finding(
            State.ERROR,
            f"{file} cita {what} que não existem no Pipedrive: {', '.join(missing)}",
            "escreva o nome como está lá (maiúsculas e acentos contam), ou tire a linha",
        )
    if twice:
        yield Finding(
            State.ERROR,
            f"{file} cita {what} que existem mais de uma vez: {', '.join(twice)}",
            "renomeie uma delas no Pipedrive",
        )
    if not missing and not twice:
        yield Finding(State.OK, f"{what}: as {len(wanted)} de {file} existem")
