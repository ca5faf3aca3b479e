"""The files of the sync with Pipedrive: found, read, and handed to ``policy_text``."""

from __future__ import annotations

from pathlib import Path

from gatte_pipelines.config_file import read_config
from gatte_pipelines.crm.policy import CrmPolicy
from gatte_pipelines.crm.policy_text import parse_crm_policy


def read_crm_policy(fields: Path, stages: Path) -> CrmPolicy:
    """Read how leads are kept in step.

    Args:
        fields: The file that says whose value of a field counts.
        stages: The file that says which stage of ours stands for what.

    Raises:
        ConfigurationError: There is no such file, or it cannot be opened.
        BadInputError: It is not text, or not a policy.
    """
    return parse_crm_policy(
        read_config(fields, "list of the fields of the sync with Pipedrive"),
        read_config(stages, "list of the stages of the sync with Pipedrive"),
        fields_file=fields.name,
        stages_file=stages.name,
    )
