"""The retention policy's file: found, read, and handed to ``policy``."""

from __future__ import annotations

from pathlib import Path

from gatte_pipelines.errors import BadInputError, ConfigurationError
from gatte_pipelines.privacy.policy import Policy, parse_policy


def read_policy(path: Path) -> Policy:
    """Read the policy from its file.

    Raises:
        ConfigurationError: There is no such file, or it cannot be opened.
        BadInputError: It is not text, or not a policy.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise ConfigurationError(
            f"there is no retention policy at {path}; set GATTE_CONFIG to the folder that holds it"
        ) from None
    except OSError as error:
        raise ConfigurationError(
            f"the retention policy at {path} cannot be read ({type(error).__name__}); check "
            "GATTE_CONFIG and its permissions"
        ) from None
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise BadInputError(path.name, line, "policy", "expected text in UTF-8") from None
    return parse_policy(text, path.name)
