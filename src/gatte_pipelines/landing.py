"""The landing zone: inbound files in a folder or an object store, and the archive beside them.

What stands in a file belongs to ``inbound``; how long the archive is kept belongs to privacy.
"""

from __future__ import annotations

import os
import posixpath
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import date
from typing import IO, TYPE_CHECKING, Any

from gatte_pipelines.errors import ConfigurationError

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

SUFFIXES = (".json", ".jsonl", ".jsonl.gz")
"""What a landing file may be called; it appears by rename when it is whole."""

UNFINISHED_SUFFIXES = (".tmp", ".part")
ARCHIVE = "archive"
# Neither waits nor is archived: the name begins with a dot and has no suffix of ours.
_DRAFT_PREFIX, _DRAFT_SUFFIX = ".rewriting-", ".tmp"


@dataclass(frozen=True)
class LandingFile:
    """A file that is ready to load. ``name`` is the last part of its path, for people."""

    path: str
    name: str
    size_bytes: int

    @property
    def is_compressed(self) -> bool:
        """Whether the name says gzip."""
        return self.name.endswith(".gz")

    @property
    def is_document(self) -> bool:
        """Whether the whole file is one JSON document rather than one a line."""
        return self.name.endswith(".json")


class LandingZone:
    """A folder or fsspec URL where files arrive, with its archive by day of arrival.

    Args:
        url: A local folder or any URL that fsspec opens.

    Raises:
        ConfigurationError: The URL's scheme needs a package that is not installed.
    """

    def __init__(self, url: str) -> None:
        import fsspec  # noqa: PLC0415 - plugins are looked up on import

        try:
            filesystem, root = fsspec.core.url_to_fs(url)
        except (ImportError, ValueError):
            raise ConfigurationError(
                "GATTE_INBOUND_URL: no filesystem for this scheme; install its fsspec package"
            ) from None
        self._fs: AbstractFileSystem = filesystem
        self.root: str = root.rstrip("/")

    def create(self) -> None:
        """Make the folder where it is missing."""
        self._fs.makedirs(self.root, exist_ok=True)

    def list_ready(self) -> tuple[list[LandingFile], list[str]]:
        """Files ready to load, oldest name first, and the names that are none of ours.

        Raises:
            ConfigurationError: The zone cannot be listed.
        """
        try:
            entries: list[dict[str, Any]] = self._fs.ls(self.root, detail=True, refresh=True)
        except FileNotFoundError:
            raise ConfigurationError(
                "the landing zone does not exist; check GATTE_INBOUND_URL or make the folder"
            ) from None
        except OSError as error:
            raise ConfigurationError(
                f"the landing zone cannot be listed ({type(error).__name__}); check "
                "GATTE_INBOUND_URL and its permissions"
            ) from None
        ready, others = [], []
        for entry in entries:
            name = posixpath.basename(str(entry["name"]).rstrip("/"))
            if name.startswith(".") or name.endswith(UNFINISHED_SUFFIXES) or name == ARCHIVE:
                continue
            if entry["type"] == "file" and name.endswith(SUFFIXES):
                size = int(entry["size"] or 0)
                ready.append(LandingFile(str(entry["name"]), printable(name), size))
            else:
                others.append(printable(name))
        return sorted(ready, key=lambda file: file.name), sorted(others)

    def list_archived(self, since: date) -> list[tuple[date, LandingFile]]:
        """Archived files with the day of their arrival, newest day first, of a day the last name.

        Args:
            since: The first day to list.

        Raises:
            ConfigurationError: The archive cannot be listed.
        """
        archive = posixpath.join(self.root, ARCHIVE)
        found: list[tuple[date, LandingFile]] = []
        try:
            for folder in self._fs.ls(archive, detail=True, refresh=True):
                day = _to_day(posixpath.basename(str(folder["name"]).rstrip("/")))
                if day is None or day < since or folder["type"] != "directory":
                    continue
                for entry in self._fs.ls(folder["name"], detail=True, refresh=True):
                    name = posixpath.basename(str(entry["name"]))
                    if entry["type"] == "file" and name.endswith(SUFFIXES):
                        size = int(entry["size"] or 0)
                        found.append((day, LandingFile(str(entry["name"]), printable(name), size)))
        except FileNotFoundError:
            pass  # nothing was archived yet
        except OSError as error:
            raise ConfigurationError(
                f"the archive of the landing zone cannot be listed ({type(error).__name__}); "
                "check its permissions"
            ) from None
        return sorted(found, key=lambda item: (item[0], item[1].name), reverse=True)

    def file(self, path: str) -> LandingFile:
        """A file given by its path rather than found.

        Raises:
            FileNotFoundError: It is not there.
        """
        info = self._fs.info(path)
        if info["type"] != "file":
            raise IsADirectoryError(path)
        return LandingFile(path, printable(posixpath.basename(path)), int(info["size"] or 0))

    @contextmanager
    def open(self, file: LandingFile) -> Iterator[IO[bytes]]:
        """Open a file's bytes as they lie there."""
        with self._fs.open(file.path, "rb") as stream:
            yield stream

    @contextmanager
    def replace(self, file: LandingFile) -> Iterator[IO[bytes]]:
        """Write a file anew under its name; it is seen as it was, or whole as it is written.

        Written beside it and renamed, so a kill leaves the former file and a draft, which
        :meth:`remove_drafts` finds. Of a local file time and mode stay.
        """
        draft = posixpath.join(
            posixpath.dirname(file.path),
            f"{_DRAFT_PREFIX}{secrets.token_hex(8)}{_DRAFT_SUFFIX}",
        )
        is_local = bool(getattr(self._fs, "local_file", False))
        try:
            with self._fs.open(draft, "wb") as stream:
                yield stream
                if is_local:
                    stream.flush()
                    os.fsync(stream.fileno())
            if is_local:
                shutil.copystat(file.path, draft)
                self._fs.mv(draft, file.path)
                _sync_folder(posixpath.dirname(file.path))
            else:
                # One request in an object store; not mv, as in archive.
                self._fs.cp_file(draft, file.path)
                self._fs.rm_file(draft)
        except BaseException:
            with suppress(OSError):
                self._fs.rm_file(draft)
            raise

    def remove(self, file: LandingFile) -> None:
        """Delete a file, waiting or archived."""
        self._fs.rm_file(file.path)
        if getattr(self._fs, "local_file", False):
            _sync_folder(posixpath.dirname(file.path))

    def remove_drafts(self) -> int:
        """Delete what killed runs of :meth:`replace` left; how many there were."""
        removed = 0
        archive = posixpath.join(self.root, ARCHIVE)
        folders = [self.root]
        with suppress(FileNotFoundError):
            entries = self._fs.ls(archive, detail=True, refresh=True)
            folders += [str(entry["name"]) for entry in entries if entry["type"] == "directory"]
        for folder in folders:
            with suppress(FileNotFoundError):
                for entry in self._fs.ls(folder, detail=True, refresh=True):
                    name = posixpath.basename(str(entry["name"]))
                    if name.startswith(_DRAFT_PREFIX) and name.endswith(_DRAFT_SUFFIX):
                        self._fs.rm_file(str(entry["name"]))
                        removed += 1
        return removed

    def archive(self, file: LandingFile, arrived_on: date, batch_id: str) -> str:
        """Move a loaded file to ``archive/<day of arrival>/``; its new path.

        Another body under the same name keeps its own place by a piece of the batch's id.
        """
        folder = posixpath.join(self.root, ARCHIVE, arrived_on.isoformat())
        self._fs.makedirs(folder, exist_ok=True)
        name = posixpath.basename(file.path)
        target = posixpath.join(folder, name)
        if self._fs.exists(target):
            stem, dot, suffix = name.partition(".")
            target = posixpath.join(folder, f"{stem}-{batch_id[:8]}{dot}{suffix}")
        if getattr(self._fs, "local_file", False):
            self._fs.mv(file.path, target)  # a rename
        else:
            # Not mv, which takes * ? [ in a name for a pattern and would move other files too.
            self._fs.cp_file(file.path, target)
            self._fs.rm_file(file.path)
        return target


def _sync_folder(path: str) -> None:
    """Make the names in a local folder outlast a crash of the machine."""
    folder = os.open(path, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _to_day(name: str) -> date | None:
    try:
        return date.fromisoformat(name)
    except ValueError:
        return None


def printable(name: str) -> str:
    """A file's name as it can be shown and stored.

    A name may hold line ends, control characters and bytes that are not UTF-8, which no database
    takes.
    """
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode()
        for character in name
    )
