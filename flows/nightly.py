"""Every night's work in its order: so far the state of certificates, retention and quality.

The only schedule of certificate state, retention, quality, marts and portal, each of which becomes
a step with its first code. All are tasks of one run: a run that waited for runs in the queue whose
slot it holds might wait for ever.
"""

from __future__ import annotations

from typing import Any

from prefect import State, flow

from flows._steps import Step, end_of_steps, run_steps
from flows.certificate_alerts import refresh_certificates
from flows.data_quality import Mode, check_quality
from flows.lgpd_retention import apply_retention

# Shown to ops above the form; without it Prefect shows the whole docstring.
DESCRIPTION = (
    "A rotina da noite, todos os dias às 2h: atualiza a situação dos certificados e **aplica de "
    "verdade** a política de retenção da LGPD, isto é, apaga e anonimiza o que passou do prazo. Se "
    "for muita coisa de uma vez, nada é apagado e a equipe é avisada. Por fim verifica a qualidade "
    "das tabelas. Um passo que falha só impede os que dependem dele."
)

STEPS = (
    Step("certificate_state", lambda as_of: refresh_certificates(as_of=as_of, return_state=True)),
    Step(
        "lgpd_retention",
        lambda as_of: apply_retention(
            execute=True, approve="", as_of=as_of, force=False, return_state=True
        ),
    ),
    # After retention, whatever became of it: what it left behind is what is judged.
    Step(
        "data_quality",
        lambda as_of: check_quality(as_of=as_of, tables=[], mode=Mode.AUTO, return_state=True),
    ),
)


@flow(
    name="nightly",
    description=DESCRIPTION,
)
def nightly(as_of: str = "") -> State[Any]:
    """Executa os passos da noite.

    Args:
        as_of: Instante de referência em ISO 8601 com fuso, por exemplo 2026-11-22T10:00:00-03:00.
            Vazio significa agora. Um instante no futuro é recusado.
    """
    return end_of_steps("nightly", run_steps(STEPS, as_of))
