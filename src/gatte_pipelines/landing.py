"""The landing zone: inbound files in a folder or an object store, and the archive beside them.

What stands in a file belongs to ``inbound``; how long the archive is kept belongs to privacy.
"""

from __future__ import annotations

import os
import posixpath
import secrets
import shutil
import string
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import IO, TYPE_CHECKING, Any

from gatte_pipelines.business_time import business_date
from gatte_pipelines.errors import ConfigurationError

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

SUFFIXES = (".json", ".jsonl", ".jsonl.gz")
"""What a landing file may be called; it appears by rename when it is whole."""

WEBHOOK_SYSTEMS = ("pipedrive",)
"""Systems beside WhatsApp whose webhooks wait here, one a file that is called ``SYSTEM-*.json``.

The load of messages leaves them alone; the sync of the system reads and removes them.
"""

UNFINISHED_SUFFIXES = (".tmp", ".part")
ARCHIVE = "archive"
_NEUTRAL_CHARACTERS = 16
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
        """Files of WhatsApp and the chatbot, ready to load, and the names that are none of ours.

        Oldest name first. Webhooks of other systems are in neither: see :meth:`list_webhooks`.

        Raises:
            ConfigurationError: The zone cannot be listed.
        """
        ready, others = self._list_waiting()
        return [file for file in ready if not is_webhook(file.name)], others

    def list_webhooks(self, system: str | None = None) -> list[LandingFile]:
        """Webhooks of another system that wait, by name, which says nothing of when they came.

        Each is one JSON document of a few kilobytes: ``size_bytes`` says what is none before it
        is read. Whoever has seen to one removes it; what is never read goes by retention.

        Args:
            system: Of ``WEBHOOK_SYSTEMS``; None for all of them.

        Raises:
            ConfigurationError: The zone cannot be listed.
        """
        return [file for file in self._list_waiting()[0] if is_webhook(file.name, system)]

    def _list_waiting(self) -> tuple[list[LandingFile], list[str]]:
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
        found: list[tuple[date, LandingFile]] = []
        try:
            for folder in self._fs.ls(self._archive_root, detail=True, refresh=True):
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

    def list_waiting_before(self, cutoff: datetime) -> list[tuple[datetime, str]]:
        """Files that wait, whole or not, and were last written before an instant: when, and path.

        Only names of ours: a zone that was set to a folder of other things loses none of them.

        Args:
            cutoff: With a time zone.

        Raises:
            ConfigurationError: The zone cannot be listed, or does not say when files were written.
        """
        names = SUFFIXES + tuple(
            suffix + unfinished for suffix in SUFFIXES for unfinished in UNFINISHED_SUFFIXES
        )
        with _explained("the landing zone"):
            paths = [path for path in self._list(self.root, "file") if path.endswith(names)]
            return sorted(item for item in self._modified(paths) if item[0] < cutoff)

    def list_archived_before(self, day: date) -> list[tuple[date, str]]:
        """Everything in the archive that arrived before a day: the day, and path.

        Whatever its name, also what a killed rewrite left behind. A file that somebody put beside
        the day folders counts by the day on which it was written.

        Args:
            day: The first day, in São Paulo, that is not listed.

        Raises:
            ConfigurationError: The archive cannot be listed.
        """
        found: list[tuple[date, str]] = []
        strays: list[str] = []
        with _explained("the archive of the landing zone"):
            for folder, arrived_on in self._archive_folders():
                files = self._walk(folder)[0]
                if arrived_on is None:
                    strays += files
                elif arrived_on < day:
                    found += [(arrived_on, path) for path in files]
            strays += self._list(self._archive_root, "file")
            written = [(business_date(at), path) for at, path in self._modified(strays)]
            found += [item for item in written if item[0] < day]
        return sorted(found)

    def remove(self, path: str) -> bool:
        """Remove a file that a list of this zone named; False where it is gone already.

        Raises:
            OSError: It cannot be removed.
        """
        try:
            self._fs.rm_file(path)
        except FileNotFoundError:
            return False
        if getattr(self._fs, "local_file", False):
            _sync_folder(posixpath.dirname(path))
        return True

    def remove_empty_days(self, day: date) -> int:
        """Remove the empty folders of the archive's days before one; how many.

        Raises:
            ConfigurationError: The archive cannot be listed.
        """
        removed = 0
        with _explained("the archive of the landing zone"):
            for folder, arrived_on in self._archive_folders():
                if arrived_on is None or arrived_on >= day:
                    continue
                for each in (*reversed(self._walk(folder)[1]), folder):
                    # What holds something stays: its files were not removed, or one came just now.
                    with suppress(OSError):
                        self._fs.rmdir(each)
                        removed += each == folder
        return removed

    @property
    def _archive_root(self) -> str:
        return posixpath.join(self.root, ARCHIVE)

    def _archive_folders(self) -> list[tuple[str, date | None]]:
        folders = self._list(self._archive_root, "directory")
        return [(path, _to_day(posixpath.basename(path))) for path in folders]

    def _list(self, folder: str, kind: str) -> list[str]:
        """Files or folders directly in one, none where it is gone; a symbolic link is neither."""
        try:
            entries: list[dict[str, Any]] = self._fs.ls(folder, detail=True, refresh=True)
        except FileNotFoundError:
            return []
        return [
            str(entry["name"]).rstrip("/")
            for entry in entries
            if entry["type"] == kind and not entry.get("islink")
        ]

    def _walk(self, folder: str) -> tuple[list[str], list[str]]:
        """All files and folders below one, parents first."""
        files: list[str] = []
        folders: list[str] = []
        waiting = [folder]
        while waiting:
            current = waiting.pop()
            files += self._list(current, "file")
            below = self._list(current, "directory")
            folders += below
            waiting += below
        return files, folders

    def _modified(self, paths: list[str]) -> Iterator[tuple[datetime, str]]:
        for path in paths:
            try:
                at = self._fs.modified(path)
            except FileNotFoundError:
                continue  # loaded and archived just now
            yield at if at.tzinfo else at.replace(tzinfo=UTC), path

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

    def read(self, file: LandingFile) -> bytes:
        """A whole file's bytes.

        Raises:
            FileNotFoundError: It is gone.
            OSError: It cannot be read.
        """
        with self.open(file) as stream:
            return stream.read()

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

    def hide_name(self, file: LandingFile) -> str:
        """Give a file another name in its folder, of which nothing of the former is left; its path.

        Raises:
            FileNotFoundError: It is gone.
            OSError: It cannot be renamed.
        """
        folder, name = posixpath.split(file.path)
        target = posixpath.join(folder, neutral_name(name))
        if getattr(self._fs, "local_file", False):
            self._fs.mv(file.path, target)
            _sync_folder(folder)
        else:
            # As in archive.
            self._fs.cp_file(file.path, target)
            self._fs.rm_file(file.path)
        return target

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
        folder = posixpath.join(self._archive_root, arrived_on.isoformat())
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


@contextmanager
def _explained(what: str) -> Iterator[None]:
    """Say of what cannot be listed what to look at."""
    try:
        yield
    except NotImplementedError:  # how a filesystem says that it cannot tell
        raise ConfigurationError(
            "GATTE_INBOUND_URL: this filesystem does not say when a file was written, so retention "
            "cannot tell its age"
        ) from None
    except OSError as error:
        raise ConfigurationError(
            f"{what} cannot be listed ({type(error).__name__}); check its permissions"
        ) from None


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


def neutral_name(name: str) -> str:
    """A random name that says of the former only what kind of file it is, and whose.

    Of letters: no digits that could be taken for somebody's number.
    """
    suffix = max((each for each in SUFFIXES if name.endswith(each)), key=len, default="")
    drawn = "".join(secrets.choice(string.ascii_lowercase) for _ in range(_NEUTRAL_CHARACTERS))
    system = next((each for each in WEBHOOK_SYSTEMS if is_webhook(name, each)), "")
    return f"{system}-erased-{drawn}{suffix}".removeprefix("-")


def is_webhook(name: str, system: str | None = None) -> bool:
    """Whether a file is called as webhooks of a system are, or of any.

    Args:
        name: The last part of its path.
        system: Of ``WEBHOOK_SYSTEMS``; None for all of them.
    """
    systems = WEBHOOK_SYSTEMS if system is None else (system,)
    return name.endswith(".json") and name.startswith(tuple(f"{each}-" for each in systems))


def printable(name: str) -> str:
    """A file's name as it can be shown and stored.

    A name may hold line ends, control characters and bytes that are not UTF-8, which no database
    takes.
    """
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode()
        for character in name
    )
