"""The company's labels, stages and our custom field: read once a day, kept in the database.

Every name that the configuration uses is looked up here, so that a label that was renamed stops the
sync with its line of the file rather than moving leads. What a label or stage means for a lead
belongs to ``mapping``.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from psycopg.types.json import Jsonb

from gatte_pipelines.crm.company import SYSTEM, Account
from gatte_pipelines.crm.failures import RefusedError
from gatte_pipelines.crm.policy import CrmPolicy, StagePolicy, plain_name
from gatte_pipelines.database.statements import read_statements
from gatte_pipelines.errors import BadInputError, ConfigurationError

if TYPE_CHECKING:
    import psycopg

    from gatte_pipelines.crm import models as m
    from gatte_pipelines.crm.client import PipedriveClient

__all__ = [
    "FRESH_FOR",
    "Account",
    "is_stale",
    "load_account",
    "read_account",
    "store_account",
]

FRESH_FOR: Final = timedelta(hours=24)
"""How long names are believed; whoever renames a label or stage is told after it at the latest."""

_SQL = read_statements(Path(__file__).with_name("account.sql"))
_EXTERNAL_TYPE = "varchar"  # the searchable type that holds an id unchanged


def read_account(
    client: PipedriveClient,
    policy: CrmPolicy,
    *,
    now: datetime,
    known_company: int | None,
    creates: bool = True,
) -> tuple[Account, list[str]]:
    """Read the account and hold the configuration to it; 32 tokens, 37 where a field is created.

    Args:
        client: Of the account.
        policy: Whose names must stand there.
        now: The instant.
        known_company: The company that this database is linked to; None before the first read.
        creates: Whether our custom field is created where it is missing.

    Returns:
        The account, and notes for whoever runs the sync, in Portuguese.

    Raises:
        ConfigurationError: The token is another company's, or the custom field's name is taken.
        BadInputError: A name of the configuration is not there, or there twice; with its line.
    """
    me = client.read_me()
    if known_company is not None and me.company_id != known_company:
        raise ConfigurationError(
            "GATTE_PIPEDRIVE_API_TOKEN is of another company than this database is linked to; "
            "nothing was read or written there. Set the token of the company whose leads these are"
        )
    labels = client.read_lead_labels()
    pipelines = {
        pipeline.id: plain_name(pipeline.name)
        for pipeline in client.read_pipelines()
        if not pipeline.is_deleted
    }
    stages = {
        stage.id: (pipelines[stage.pipeline_id], plain_name(stage.name))
        for stage in client.read_stages()
        if not stage.is_deleted and stage.pipeline_id in pipelines
    }
    named = {label.id: plain_name(label.name) for label in labels}
    _assert_labels(policy.stages, list(named.values()))
    _assert_stages(policy.stages, list(pipelines.values()), list(stages.values()))
    # Last, so that nothing is created there while the configuration is wrong.
    external_key, notes = _external_key(client, policy.external_field, creates=creates)
    account = Account(
        labels=named,
        stages=stages,
        external_key=external_key,
        company_id=me.company_id,
        policy_fingerprint=policy.fingerprint,
        read_at=now,
        access_mark=client.access_mark,
    )
    return account, notes


def load_account(cursor: psycopg.Cursor[Any]) -> Account | None:
    """The account as it was last read; None where it never was."""
    cursor.execute(_SQL["read_account"], {"external_system": SYSTEM})
    row = cursor.fetchone()
    if row is None:
        return None
    contents, read_at = row
    return Account(
        labels={UUID(label_id): name for label_id, name in contents["labels"].items()},
        stages={
            int(stage_id): (pipeline, name)
            for stage_id, (pipeline, name) in contents["stages"].items()
        },
        external_key=contents["external_key"],
        company_id=contents["company_id"],
        policy_fingerprint=contents["policy_fingerprint"],
        read_at=read_at,
        access_mark=contents.get("access_mark", ""),
    )


def store_account(cursor: psycopg.Cursor[Any], account: Account) -> None:
    """Keep an account in place of the one before."""
    contents = {
        "labels": {str(label_id): name for label_id, name in account.labels.items()},
        "stages": {str(stage_id): list(names) for stage_id, names in account.stages.items()},
        "external_key": account.external_key,
        "company_id": account.company_id,
        "policy_fingerprint": account.policy_fingerprint,
        "access_mark": account.access_mark,
    }
    cursor.execute(
        _SQL["write_account"],
        {"external_system": SYSTEM, "contents": Jsonb(contents), "instant": account.read_at},
    )


def is_stale(
    account: Account | None, policy: CrmPolicy, now: datetime, *, access_mark: str
) -> bool:
    """Whether the account must be read anew.

    It was never read, or a day ago, or with another policy; or with another token, by which nobody
    knows whose company answers.
    """
    return (
        account is None
        or account.access_mark != access_mark
        or account.policy_fingerprint != policy.fingerprint
        or now - account.read_at >= FRESH_FOR
    )


def _assert_labels(stages: StagePolicy, there: list[str]) -> None:
    for label in stages.labels:
        if label.name not in there:
            raise BadInputError(
                stages.file,
                label.line,
                "labels",
                f"Pipedrive has no lead label of this name{_nearly(label.name, there)}; write it "
                "as it stands there, or take the line out",
            )
        if there.count(label.name) > 1:
            raise BadInputError(
                stages.file,
                label.line,
                "labels",
                "Pipedrive has two lead labels of this name; rename one of them there",
            )


def _assert_stages(stages: StagePolicy, pipelines: list[str], there: list[tuple[str, str]]) -> None:
    for one in stages.deal_stages:
        refused = None
        names = [name for pipeline, name in there if pipeline == one.pipeline]
        if one.pipeline not in pipelines:
            refused = (
                f"Pipedrive has no pipeline of the name above{_nearly(one.pipeline, pipelines)}; "
                "write it as it stands there, or take it out with its stages"
            )
        elif pipelines.count(one.pipeline) > 1:
            refused = "Pipedrive has two pipelines of the name above; rename one of them there"
        elif one.name not in names:
            refused = (
                f"this pipeline has no stage of this name{_nearly(one.name, names)}; write it as "
                "it stands there, or take the line out"
            )
        elif names.count(one.name) > 1:
            refused = "this pipeline has two stages of this name; rename one of them there"
        if refused is not None:
            raise BadInputError(stages.file, one.line, "deals.stages", refused)


def _nearly(name: str, there: Iterable[str]) -> str:
    """A hint where only upper and lower case differ; names of the account are not repeated."""
    is_near = any(name.casefold() == other.casefold() for other in there)
    return ", only one that differs in upper and lower case" if is_near else ""


def _external_key(
    client: PipedriveClient, name: str, *, creates: bool
) -> tuple[str | None, list[str]]:
    """The key of our custom field, which is created where it is missing, and notes."""
    found: list[m.Field] = [
        field
        for field in client.read_deal_fields()
        if field.is_custom_field and plain_name(field.field_name) == name
    ]
    if len(found) > 1:
        raise ConfigurationError(
            "Pipedrive has two custom fields of deals with the name that external_id_field gives; "
            "delete there the one without values, or rename it"
        )
    if found:
        if found[0].field_type != _EXTERNAL_TYPE:
            raise ConfigurationError(
                "the custom field of deals that external_id_field names is no field for a short "
                "text (varchar) in Pipedrive; rename it there, or write another name in "
                "crm_fields.yaml"
            )
        return found[0].field_code, []
    if not creates:
        return None, []
    try:
        return client.create_deal_field(name, field_type=_EXTERNAL_TYPE).field_code, []
    except RefusedError:
        return None, [
            f'o campo personalizado "{name}" não existe no Pipedrive e não pôde ser criado; os '
            "leads são reconhecidos só por origin_id. Um administrador pode criá-lo lá: campo de "
            "negócio, tipo texto"
        ]
