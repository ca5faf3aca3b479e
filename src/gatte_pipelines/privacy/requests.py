"""The operation behind a subject's request: noted, carried out, told in counts.

Whom a request is about is a ``users.id``, never a name or a number. How a person is exported or
erased belongs to ``export`` and ``erasure``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

from gatte_pipelines.privacy.erasure import STAYS_BECAUSE, Outcome, erase_subject
from gatte_pipelines.privacy.export import export_subject
from gatte_pipelines.privacy.export_page import describe_periods
from gatte_pipelines.privacy.external import ErasureHook, confirm_external_tasks
from gatte_pipelines.privacy.receipt import read_receipt, save_receipt
from gatte_pipelines.privacy.subject_requests import RequestKind, open_request
from gatte_pipelines.run_report import RunReport

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from gatte_pipelines.privacy.subject_stores import ErasureLedger, SubjectFiles

PIPELINE = "lgpd_subject_request"


@dataclass(frozen=True, kw_only=True)
class SubjectOperation:
    """Carries out requests of subjects.

    Args:
        connection: To the database, outside a transaction.
        ledger: On a connection of its own.
        files: Landing files, archive and quarantine.
        hooks: Other systems that hold data, by name.
        exports: Folder of exports and receipts.
        periods: The policy's, by rule.
    """

    connection: Connection
    ledger: ErasureLedger
    files: SubjectFiles
    hooks: Mapping[str, ErasureHook]
    exports: Path
    periods: Mapping[str, str]

    def export(self, report: RunReport, user_id: UUID, *, received_at: datetime) -> None:
        """Write everything about a person as JSON and as a page; ``received`` counts records.

        Raises:
            UnknownSubjectError: Nobody has this id.
        """
        request = open_request(
            self.connection,
            kind=RequestKind.EXPORT,
            user_id=user_id,
            received_at=received_at,
            as_of=report.as_of,
        )
        export = export_subject(
            self.connection,
            request_id=request.request_id,
            files=self.files,
            folder=self.exports,
            periods=describe_periods(self.periods),
            as_of=report.as_of,
        )
        report.received = report.inserted = sum(export.counts.values())
        report.notes.append(f"pedido {request.request_id}: {export.page_path}")
        report.notes.append("os arquivos ficam 30 dias; entregue-os e não os copie")

    def erase(
        self, report: RunReport, user_id: UUID, *, received_at: datetime, execute: bool
    ) -> None:
        """Erase a person, or say what would go; ``received`` counts rows and records.

        Raises:
            HeldError: A hold covers the person; nothing was erased.
            PermanentError: The ledger cannot be written, or the proof failed.
            UnknownSubjectError: Nobody has this id.
        """
        request = open_request(
            self.connection,
            kind=RequestKind.ERASE,
            user_id=user_id,
            received_at=received_at,
            as_of=report.as_of,
        )
        erasure = erase_subject(
            self.connection,
            request_id=request.request_id,
            ledger=self.ledger,
            files=self.files,
            hooks=self.hooks,
            exports=self.exports,
            as_of=report.as_of,
            execute=execute,
        )
        report.received = sum(erasure.going.values())
        report.notes.append(f"pedido {request.request_id}: {erasure.message}")
        report.notes += [f"{place}: {count}" for place, count in erasure.going.items() if count]
        report.notes += [
            f"fica em {table}: {count} ({STAYS_BECAUSE[table]})"
            for table, count in erasure.staying.items()
            if count and table in STAYS_BECAUSE
        ]
        if erasure.outcome is Outcome.PLANNED:
            report.skipped["dry_run"] = report.received
            report.reason = "dry_run"
            return
        report.updated = report.received
        if self.hooks:
            confirmed = confirm_external_tasks(self.connection, self.hooks, as_of=report.as_of)
            report.notes += confirmed.problems
        receipt = read_receipt(self.connection, request.request_id, as_of=report.as_of)
        report.notes.append(f"recibo: {save_receipt(receipt, self.exports)}")
