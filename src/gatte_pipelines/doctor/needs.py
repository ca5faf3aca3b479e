"""Which settings pipelines lack. Reading them belongs to ``settings``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from gatte_pipelines.health import Finding, State


@dataclass(frozen=True)
class Need:
    """What pipelines need to work with one system.

    Attributes:
        system: For people.
        pipelines: Those that fail without it.
        settings: Whether each is set, by the name of its variable.
        is_optional: Whether an installation may do without.
    """

    system: str
    pipelines: tuple[str, ...]
    settings: Mapping[str, bool]
    is_optional: bool = True


def check_needs(needs: Iterable[Need]) -> Iterator[Finding]:
    """Yield what is set, not set, or set by half: nobody does that on purpose."""
    for need in needs:
        missing = [name for name, is_set in need.settings.items() if not is_set]
        flows = ", ".join(need.pipelines)
        if not missing:
            yield Finding(State.OK, f"{need.system}: configurado ({flows})")
            continue
        verb = "falta" if len(missing) == 1 else "faltam"
        text = f"{need.system}: {verb} {', '.join(missing)}; sem isso {flows} não funciona"
        if len(need.pipelines) > 1:
            text += "m"
        if need.is_optional and len(missing) == len(need.settings):
            advice = f"defina no ambiente ou no .env, ou pause o agendamento de {flows}"
            yield Finding(State.WARNING, text, advice)
        else:
            yield Finding(State.ERROR, text, "defina no ambiente ou no .env")
