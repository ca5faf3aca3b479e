"""What finding, exporting and erasing a person ask of stores beyond the tables: shapes only.

Files and quarantine are ``inbound``'s, which hands its implementation in through ``wiring``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, Protocol

from gatte_pipelines.personal_data import SubjectKeys

if TYPE_CHECKING:
    import psycopg


class FoundRecord(Protocol):
    """A record of a person in a file or in quarantine, and where it lies."""

    @property
    def place(self) -> str:
        """The file's name, or the quarantine."""

    @property
    def line(self) -> int:
        """From 1."""

    @property
    def record(self) -> bytes:
        """That record alone, as it lies there."""


class FilesRewritten(Protocol):
    """What rewriting changed, or would change."""

    @property
    def files(self) -> int:
        """Files that held a record of the person."""

    @property
    def records(self) -> int:
        """Records taken out of them."""

    @property
    def renamed(self) -> int:
        """Files whose name held the person."""


class SubjectFiles(Protocol):
    """The landing files, the archive and the quarantine, searched for one person."""

    def rewrite(self, keys: SubjectKeys, *, execute: bool) -> FilesRewritten:
        """Take the person's records out of the files and of their names, or count them."""

    def find(self, keys: SubjectKeys) -> Iterator[FoundRecord]:
        """The person's records in the files."""

    def erase_quarantine(self, cursor: psycopg.Cursor[Any], keys: SubjectKeys) -> int:
        """Delete the person's rows of the quarantine; how many."""

    def find_quarantine(
        self, cursor: psycopg.Cursor[Any], keys: SubjectKeys
    ) -> Iterator[FoundRecord]:
        """The person's records in quarantine."""

    def count_names(self, cursor: psycopg.Cursor[Any], keys: SubjectKeys) -> int:
        """Rows that tell of a file whose name holds the person."""

    def erase_names(self, cursor: psycopg.Cursor[Any], keys: SubjectKeys) -> int:
        """Let these rows say another name; how many."""

    def holds(self, keys: SubjectKeys) -> int:
        """Records of the person still in the files or in their names: 0 is the proof."""


class ErasureLedger(Protocol):
    """The part of the privacy ledger that an erasure writes."""

    def append(self, kind: str, body: Mapping[str, Any], *, at: datetime) -> int:
        """Commit one entry here and outside, or raise: then nothing may be destroyed."""

    def append_within(
        self, cursor: psycopg.Cursor[Any], kind: str, body: Mapping[str, Any], *, at: datetime
    ) -> int:
        """Add one entry that stands or falls with the caller's transaction."""

    def catch_up(self) -> int:
        """Write outside what is committed here and missing there."""
