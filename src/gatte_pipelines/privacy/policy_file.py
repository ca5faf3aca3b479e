"""The retention policy's file: found, read, and handed to ``policy``."""

from __future__ import annotations

from pathlib import Path

from gatte_pipelines.config_file import read_config
from gatte_pipelines.privacy.policy import Policy, parse_policy


def read_policy(path: Path) -> Policy:
    """Read the policy from its file.

    Raises:
        ConfigurationError: There is no such file, or it cannot be opened.
        BadInputError: It is not text, or not a policy.
    """
    return parse_policy(read_config(path, "retention policy"), path.name)
