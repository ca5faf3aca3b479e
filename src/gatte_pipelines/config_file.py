"""Files of ``config/``: found and read. What stands in one belongs to its own policy."""

from __future__ import annotations

from pathlib import Path

from gatte_pipelines.config_tree import ROOT
from gatte_pipelines.errors import BadInputError, ConfigurationError


def read_config(path: Path, what: str) -> str:
    """Read a file of the configuration.

    Args:
        path: Of the file.
        what: What it is, for errors: ``retention policy``.

    Raises:
        ConfigurationError: There is no such file, or it cannot be opened.
        BadInputError: It is not UTF-8.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise ConfigurationError(
            f"there is no {what} at {path}; set GATTE_CONFIG to the folder that holds it"
        ) from None
    except OSError as error:
        raise ConfigurationError(
            f"the {what} at {path} cannot be read ({type(error).__name__}); check "
            "GATTE_CONFIG and its permissions"
        ) from None
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise BadInputError(path.name, line, ROOT, "expected text in UTF-8") from None
