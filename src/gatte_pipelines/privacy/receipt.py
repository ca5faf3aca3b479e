"""The receipt of an erasure: what was done, what stays and why, without personal data, pt-BR.

Made of what the tables say of a request, so that it is the same after a kill. Doing the erasure
belongs to ``erasure``.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

from gatte_pipelines.business_time import ZONE
from gatte_pipelines.errors import PermanentError
from gatte_pipelines.html_page import page_end, page_start
from gatte_pipelines.privacy.erasure import (
    STAYS_BECAUSE,
    read_done,
    read_ledger_seqs,
    read_staying,
)
from gatte_pipelines.privacy.export import make_folder, written_atomically
from gatte_pipelines.privacy.external import FILES, count_tasks
from gatte_pipelines.privacy.subject_requests import (
    RequestKind,
    RequestState,
    SubjectRequest,
    read_request,
    transaction_at,
)
from gatte_pipelines.privacy.subjects import read_subject

if TYPE_CHECKING:
    from sqlalchemy import Connection

RECEIPT_NAME = "recibo.html"

_DONE_PT = {
    "users": "cadastros anonimizados",
    "leads": "registros de interesse comercial anonimizados",
    "messages": "mensagens sem texto",
    "message_changes": "edições de mensagens apagadas",
    "message_reactions": "reações apagadas",
    "button_replies": "respostas de botões apagadas",
    "session_context": "memórias de conversa apagadas",
    "conversations": "conversas abertas encerradas",
    "appointments": "agendamentos sem anotações",
    "services": "serviços sem anotações",
    "user_identities": "números e identificadores apagados",
    "senders": "remetentes apagados",
    "undo_records": "cópias para desfazer apagadas",
    "crm_links": "vínculos com o sistema comercial apagados",
    "sync_conflicts": "diferenças com o sistema comercial apagadas",
    "sync_outbox": "envios em andamento ao sistema comercial esquecidos",
    "quarantine": "registros em quarentena apagados",
    "files": "registros em arquivos recebidos apagados",
    "source_names": "menções a nomes de arquivos trocadas",
    "file_names": "arquivos recebidos com o nome trocado",
    "exports": "cópias dos dados entregues apagadas",
}
_STAYING_PT = {
    "tickets": "chamados",
    "conversations": "conversas",
    "messages": "mensagens",
    "appointments": "agendamentos",
    "services": "serviços",
    "certificates": "certificados",
    "opt_outs": "escolhas sobre mensagens",
}
_STATES_PT = {
    RequestState.OPEN: "em andamento",
    RequestState.WAITING_EXTERNAL: "espera a confirmação de outros sistemas",
    RequestState.DONE: "concluído",
}
_REMARKS = (
    "Cópias de segurança vencem pelo prazo delas. Se uma for restaurada, esta eliminação é "
    "refeita a partir do registro de privacidade.",
    "O registro de privacidade guarda apenas códigos, como prova do que foi feito (art. 37).",
)


@dataclass(frozen=True, kw_only=True)
class Receipt:
    """What can be told of an erasure.

    Attributes:
        request: The request.
        user_ids: Users that were erased.
        lead_ids: Leads that were erased.
        disputed_lead_ids: Leads left alone, since they may be somebody else's.
        done: Rows by table or store.
        staying: Rows by table.
        tasks: Open and confirmed tasks by system.
        ledger_seqs: Entries of the ledger: announcements and outcomes.
        made_at: When this was read.
    """

    request: SubjectRequest
    user_ids: tuple[UUID, ...]
    lead_ids: tuple[UUID, ...]
    disputed_lead_ids: tuple[UUID, ...]
    done: dict[str, int]
    staying: dict[str, int]
    tasks: dict[str, tuple[int, int]]
    ledger_seqs: tuple[int, ...]
    made_at: datetime


def read_receipt(connection: Connection, request_id: UUID, *, as_of: datetime) -> Receipt:
    """Read what became of an erasure request.

    Raises:
        PermanentError: No such request, or one of another kind.
    """
    with transaction_at(connection, as_of) as cursor:
        request = read_request(cursor, request_id)
        if request.kind != RequestKind.ERASE:
            raise PermanentError(f"the request {request_id} does not ask for an erasure")
        subject = read_subject(cursor, request.user_id)
        seqs, lead_ids = read_ledger_seqs(cursor, request_id)
        tasks = count_tasks(cursor, subject_id=request.user_id, request_id=request_id)
        return Receipt(
            request=request,
            user_ids=subject.user_ids,
            # What was unlinked and erased can no longer be found by phone or e-mail.
            lead_ids=tuple(sorted({*subject.lead_ids, *lead_ids})),
            disputed_lead_ids=subject.disputed_lead_ids,
            done=read_done(cursor, request_id),
            staying=read_staying(cursor, subject),
            tasks={system: counts for system, counts in tasks.items() if system != FILES},
            ledger_seqs=seqs,
            made_at=as_of,
        )


def to_text(receipt: Receipt) -> str:
    """The receipt as plain text."""
    lines = ["Recibo de eliminação de dados pessoais – GATTE Tecnologia", ""]
    for title, rows in _parts(receipt):
        lines += [title, *(f"  - {row}" for row in rows), ""]
    return "\n".join(lines)


def to_html(receipt: Receipt) -> str:
    """The receipt as a page of its own."""
    parts = "".join(
        f"<h3>{escape(title)}</h3>\n"
        f'<div class="card"><ul class="notes">{"".join(f"<li>{escape(r)}</li>" for r in rows)}</ul>'
        "</div>\n"
        for title, rows in _parts(receipt)
    )
    return (
        page_start("Recibo de eliminação de dados pessoais")
        + "<header><h1>Recibo de eliminação de dados pessoais</h1>\n"
        "<p>GATTE Tecnologia. Lei Geral de Proteção de Dados, arts. 16 e 18. Este recibo não "
        f"contém dados pessoais.</p></header>\n{parts}{page_end()}"
    )


def save_receipt(receipt: Receipt, folder: Path) -> Path:
    """Write the page beside the exports, for its owner only; where it lies.

    Args:
        receipt: What `read_receipt` gave.
        folder: Of all exports.
    """
    target = folder / str(receipt.request.request_id)
    make_folder(folder)
    make_folder(target)
    with written_atomically(target / RECEIPT_NAME) as stream:
        stream.write(to_html(receipt).encode())
    return target / RECEIPT_NAME


def _parts(receipt: Receipt) -> list[tuple[str, list[str]]]:
    request = receipt.request
    state = RequestState(request.state)
    facts = [
        f"pedido {request.request_id}: {_STATES_PT[state]}",
        f"recebido em {_instant(request.received_at)}; prazo até {_instant(request.due_at)}",
    ]
    if request.closed_at is not None:
        facts.append(f"concluído em {_instant(request.closed_at)}")
    facts += [f"usuário {one}" for one in receipt.user_ids]
    facts += [f"lead {one}" for one in receipt.lead_ids]
    if receipt.ledger_seqs:
        numbers = ", ".join(map(str, receipt.ledger_seqs))
        facts.append(f"registro de privacidade: lançamentos {numbers}")
    facts.append(f"recibo emitido em {_instant(receipt.made_at)} (horário de São Paulo)")
    parts = [("Pedido", facts)]
    done = [
        f"{words}: {receipt.done[place]}"
        for place, words in _DONE_PT.items()
        if receipt.done.get(place)
    ]
    parts.append(("O que foi eliminado ou anonimizado", done or ["nada até agora"]))
    kept = [
        f"{_STAYING_PT[table]}: {count} – {STAYS_BECAUSE[table]}"
        for table, count in receipt.staying.items()
        if count
    ]
    kept += [
        f"lead {one}: não foi tocado, pois pode ser de outra pessoa"
        for one in receipt.disputed_lead_ids
    ]
    parts.append(("O que permanece, e por quê", kept or ["nada"]))
    others = [
        f"{system}: confirmados {confirmed}, em aberto {waiting}"
        for system, (waiting, confirmed) in receipt.tasks.items()
    ]
    parts.append(("Outros sistemas", others or ["nenhum tinha dados desta pessoa"]))
    parts.append(("Observações", list(_REMARKS)))
    return parts


def _instant(at: datetime) -> str:
    return at.astimezone(ZONE).strftime("%d/%m/%Y às %H:%M")
