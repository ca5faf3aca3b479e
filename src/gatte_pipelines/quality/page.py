"""The page that ops and the data team read every morning: which table can be trusted.

Counts and ids only. The expectations themselves, in English, stand in Data Docs beside it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from html import escape
from pathlib import Path
from typing import Any
from uuid import UUID

from gatte_pipelines.business_time import ZONE, business_date
from gatte_pipelines.html_page import page_end, page_start
from gatte_pipelines.portuguese import count, joined, number
from gatte_pipelines.quality.results import Result, State
from gatte_pipelines.quality.suite import Severity, Suite
from gatte_pipelines.quality.waivers import Waiver

FILE = "qualidade.html"
"""Name of the page in its folder."""

KEYS_SHOWN = 10
MOST_SHOWN = 20


class Light(StrEnum):
    """How far a table can be trusted."""

    RED = "red"
    YELLOW = "yellow"
    GREEN = "green"
    GREY = "grey"


@dataclass(frozen=True, kw_only=True)
class Overview:
    """What one run found.

    Attributes:
        as_of: The instant of judging.
        run_id: Of the run.
        suites: Of the tables that were judged.
        results: One a check, in the suites' order.
        waivers: All of the configuration.
    """

    as_of: datetime
    run_id: UUID
    suites: tuple[Suite, ...]
    results: tuple[Result, ...]
    waivers: tuple[Waiver, ...]

    def of(self, table: str) -> list[Result]:
        """The results of a table."""
        return [one for one in self.results if one.check.table == table]


_LIGHTS_PT = {
    Light.RED: ("Não confie", "Há uma falha crítica; o que depende desta tabela está parado."),
    Light.YELLOW: ("Use com cuidado", "Há avisos a resolver; nada está parado."),
    Light.GREEN: ("Confiável", "Nada do que foi verificado impede o uso desta tabela."),
    Light.GREY: ("Sem avaliação", "Nada pôde ser avaliado."),
}
_SEVERITIES_PT = {
    Severity.CRITICAL: "crítica",
    Severity.WARNING: "aviso",
    Severity.INFO: "informação",
}
_STATES_PT = {
    State.PASSED: "aprovada",
    State.FAILED: "reprovada",
    State.WAIVED: "tolerada",
    State.NOT_JUDGED: "não avaliada",
    State.NOT_RUN: "não executada",
}
_WHOLE_PT = {"volume": "o volume do dia", "freshness": "o atraso"}
# In what order the checks of a table are listed: what needs a person first.
_ORDER = (State.NOT_RUN, State.FAILED, State.WAIVED, State.NOT_JUDGED, State.PASSED)


def light(results: Sequence[Result]) -> Light:
    """How far a table can be trusted, by the results of its checks."""
    if any(one.closes_the_gate for one in results):
        return Light.RED
    if any(
        one.state is State.NOT_RUN or (one.is_bad and one.check.severity is not Severity.INFO)
        for one in results
    ):
        return Light.YELLOW
    if any(one.state in {State.PASSED, State.FAILED, State.WAIVED} for one in results):
        return Light.GREEN
    return Light.GREY


def describe(result: Result) -> str:
    """One line on a check that did not pass, in Portuguese and without values."""
    check, found = result.check, result.found
    parts = [f"{check.name} ({_SEVERITIES_PT[check.severity]})"]
    if result.state is State.NOT_RUN:
        parts.append(f"não executada: {found.detail or 'sem detalhe'}")
    elif found.rows is not None:
        parts.append(count(found.rows, "linha") + _excused(result))
    elif found.detail:
        parts.append(found.detail)
    if result.state is not State.NOT_RUN:
        parts.append(check.says)
    return " – ".join(parts)


def to_rows(overview: Overview) -> list[dict[str, Any]]:
    """A row a check that did not pass, and a row a table: for the table artifact."""
    rows: list[dict[str, Any]] = []
    for suite in overview.suites:
        results = overview.of(suite.table)
        rows.append(
            {
                "tabela": suite.table,
                "verificação": _passed_pt(results),
                "gravidade": "",
                "situação": "",
                "linhas": "",
                "quem age": "",
            }
        )
        rows += [
            {
                "tabela": suite.table,
                "verificação": one.check.what,
                "gravidade": _SEVERITIES_PT[one.check.severity],
                "situação": _STATES_PT[one.state],
                "linhas": "" if one.found.rows is None else number(one.found.rows),
                "quem age": one.check.acts,
            }
            for one in _sorted(results)
            if one.state not in {State.PASSED, State.NOT_JUDGED}
        ]
    return rows


def _passed_pt(results: Sequence[Result]) -> str:
    passed = sum(one.state is State.PASSED for one in results)
    return f"{_LIGHTS_PT[light(results)][0]}: {passed} de {len(results)} aprovadas"


def to_markdown(overview: Overview, path: Path) -> str:
    """What did not pass, the worst first, as the card of a run: also of one that ends red.

    Args:
        overview: What was found.
        path: Where the page lies.
    """
    bad = [one for one in _sorted(overview.results) if one.is_bad]
    lines = [f"# Qualidade dos dados: {_told(overview)}", ""]
    lines += [
        f"- **{suite.title}** (`{suite.table}`): {_passed_pt(overview.of(suite.table))}"
        for suite in overview.suites
    ]
    if bad:
        lines += ["", "O que não passou:", ""]
        lines += [f"- {describe(one)} Quem age: {one.check.acts}." for one in bad[:MOST_SHOWN]]
        if len(bad) > MOST_SHOWN:
            lines.append(f"- … e mais {count(len(bad) - MOST_SHOWN, 'falha')} na página.")
    lines += ["", f"Página completa: `{path}`"]
    return "\n".join(lines)


def _told(overview: Overview) -> str:
    """What all of it comes to, in one sentence."""
    bad = [one for one in overview.results if one.is_bad]
    critical = sum(one.closes_the_gate for one in bad)
    if critical:
        failures = count(critical, "falha crítica", "falhas críticas")
        return f"{failures}; parte dos dados não é confiável."
    if bad:
        return f"{count(len(bad), 'aviso')} a resolver; nada está parado."
    return "tudo o que foi verificado está certo."


def save(overview: Overview, folder: Path) -> Path:
    """Write the page; where it lies.

    Args:
        overview: What was found.
        folder: Of the pages of quality.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / FILE
    unfinished = path.with_name(f".{FILE}.part")
    unfinished.write_text(to_html(overview), "utf-8")
    unfinished.replace(path)
    return path.resolve()


_STYLE = """
.lights{display:grid;grid-template-columns:repeat(auto-fill,minmax(15rem,1fr));gap:.6rem;
margin:1rem 0}
.light{background:#fff;border:1px solid #d9dee4;border-left:.5rem solid #8a95a1;border-radius:.5rem;
padding:.6rem .9rem;text-decoration:none;color:inherit;display:block}
.light strong{display:block;font-size:1.05rem}.light span{color:#4a5766;font-size:.92rem}
.red{border-left-color:#b3261e}.yellow{border-left-color:#d99a00}.green{border-left-color:#0b6b57}
.tag{display:inline-block;border-radius:.3rem;padding:0 .45rem;font-size:.85rem;background:#e6eaee}
.tag.failed,.tag.not_run,.tag.over{background:#f6d5d2;color:#7a1711}
.tag.waived{background:#fbeacb;color:#6a4a00}.tag.passed{background:#d8efe8;color:#0b4f41}
.card h3{margin:.1rem 0 .3rem}.card p{margin:.2rem 0}
details{margin:.4rem 0}summary{cursor:pointer;color:#0b5c4b}
.grey-text{color:#6a7683}
"""


def to_html(overview: Overview) -> str:
    """The page: a light a table, then what each failure means and who looks into it."""
    return "".join(_parts(overview))


def _parts(overview: Overview) -> Iterator[str]:
    at = overview.as_of.astimezone(ZONE)
    yield page_start(f"Qualidade dos dados – {at:%d/%m/%Y}", _STYLE)
    told = _told(overview)
    yield (
        "<header><h1>Qualidade dos dados</h1>"
        f"<p>Verificado em {at:%d/%m/%Y às %H:%M} (horário de São Paulo).</p>"
        f"<p><strong>{escape(told[0].upper() + told[1:])}</strong></p></header>\n"
    )
    yield '<div class="lights">'
    for suite in overview.suites:
        results = overview.of(suite.table)
        colour = light(results)
        yield (
            f'<a class="light {colour}" href="#{suite.table}">'
            f"<strong>{escape(suite.title)}</strong><span>{_passed_pt(results)}</span></a>"
        )
    yield "</div>\n"
    yield from _waivers(overview)
    for suite in overview.suites:
        yield from _table(overview, suite)
    yield (
        "<footer><p>Cada linha é citada só pelo seu identificador; nenhum dado pessoal aparece "
        'aqui. As regras, em inglês, estão em <a href="data_docs/index.html">Data Docs</a>. '
        "Registros de entrada recusados ficam em quarentena: veja-os com "
        "<code>gatte quarantine list</code> e tente de novo com o fluxo "
        "<em>quarantine_replay</em>. "
        f"Execução {overview.run_id}.</p></footer>\n"
    )
    yield page_end()


def _table(overview: Overview, suite: Suite) -> Iterator[str]:
    results = overview.of(suite.table)
    colour = light(results)
    yield (
        f'<h2 id="{suite.table}">{escape(suite.title)} '
        f'<small class="grey-text">{suite.table}</small></h2>\n'
        f'<p class="intro">{_LIGHTS_PT[colour][1]}</p>\n'
    )
    listed = [one for one in _sorted(results) if one.state is not State.PASSED]
    for one in listed:
        if one.state is not State.NOT_JUDGED:
            yield from _card(one)
    grey = [one for one in listed if one.state is State.NOT_JUDGED]
    if grey:
        told = joined(
            [
                f"{_WHOLE_PT.get(one.check.what, one.check.what)} ({one.found.detail})"
                for one in grey
            ]
        )
        yield f'<p class="grey-text">Ainda sem avaliação: {escape(told)}.</p>\n'
    passed = [one for one in results if one.state is State.PASSED]
    if passed:
        names = joined([one.check.what for one in passed])
        told = count(len(passed), "verificação aprovada", "verificações aprovadas")
        yield f"<details><summary>{told}</summary><p>{escape(names)}</p></details>\n"


def _card(one: Result) -> Iterator[str]:
    check, found = one.check, one.found
    yield (
        f'<div class="card"><h3>{escape(check.says)}</h3><p>'
        f'<span class="tag {one.state}">{_STATES_PT[one.state]}</span> '
        f'<span class="tag">{_SEVERITIES_PT[check.severity]}</span> '
        f"<code>{escape(check.name)}</code></p><dl>"
    )
    if found.rows is not None:
        yield f"<dt>Linhas</dt><dd>{number(found.rows)}{_excused(one)}{_scope(one)}</dd>"
    if found.detail:
        yield f"<dt>O que se viu</dt><dd>{escape(found.detail)}</dd>"
    yield f"<dt>Quem age</dt><dd>{escape(check.acts)}</dd>"
    if one.first_bad_at is not None:
        yield f"<dt>Desde</dt><dd>{_since(one)}</dd>"
    if one.waiver is not None:
        yield f"<dt>Tolerância</dt><dd>{escape(_waiver_told(one.waiver))}</dd>"
    yield "</dl>"
    if found.keys:
        keys = [str(key) for key in found.keys[:KEYS_SHOWN]]
        told = count(len(keys), "identificador", "identificadores")
        yield f"<details><summary>{told}</summary><pre>{', '.join(keys)}</pre></details>"
    yield "</div>\n"


def _excused(one: Result) -> str:
    excused = one.found.excused
    if not excused or one.state is not State.FAILED:
        return ""
    return f", {count(excused, 'delas tolerada', 'delas toleradas')}"


def _scope(one: Result) -> str:
    return "" if one.found.is_full else " (entre as que mudaram ou já falhavam)"


def _since(one: Result) -> str:
    at = one.first_bad_at
    if at is None:
        return ""
    told = f"{at.astimezone(ZONE):%d/%m/%Y %H:%M}, execução {one.first_bad_run_id}"
    if one.last_good_at is not None:
        told += f"; estava certo em {one.last_good_at.astimezone(ZONE):%d/%m/%Y %H:%M}"
        if one.suspects:
            told += f"; entre as duas escreveram nesta tabela: {', '.join(one.suspects)}"
        else:
            told += "; nenhum fluxo nosso escreveu nesta tabela entre as duas"
    return escape(told)


def _waiver_told(waiver: Waiver) -> str:
    which = "todas as linhas" if not waiver.keys else count(len(waiver.keys), "linha")
    return f"{which}, até {waiver.until:%d/%m/%Y}, por {waiver.owner}: {waiver.reason}"


def _waivers(overview: Overview) -> Iterator[str]:
    if not overview.waivers:
        return
    today = business_date(overview.as_of)
    yield "<h2>Tolerâncias</h2>\n<table><tr><th>Verificação</th><th>Tolerância</th><th></th></tr>"
    for waiver in overview.waivers:
        word, tag = ("em vigor", "waived") if waiver.holds_on(today) else ("vencida", "over")
        yield (
            f"<tr><td><code>{escape(waiver.check)}</code></td><td>{escape(_waiver_told(waiver))}</td>"
            f'<td><span class="tag {tag}">{word}</span></td></tr>'
        )
    yield "</table>\n"


def _sorted(results: Sequence[Result]) -> list[Result]:
    severities = list(Severity)
    return sorted(
        results, key=lambda one: (_ORDER.index(one.state), severities.index(one.check.severity))
    )
