"""The file stores of the retention policy: what is past its time, and its removal.

A store is data, so that ``wiring`` can hand any to the engine. How long files stand belongs to the
policy; what stands in them belongs to whoever writes them.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from pathlib import Path
from typing import NoReturn, TypeVar

from gatte_pipelines.business_time import ZONE, business_date
from gatte_pipelines.errors import ConfigurationError
from gatte_pipelines.landing import LandingZone

LOCAL_FOLDERS = ("exports", "logs", "mail", "alert_previews", "officer_reports", "quality")
"""Rules whose files lie in a folder of the same name under ``GATTE_HOME``."""

_Item = TypeVar("_Item")


@dataclass(frozen=True)
class FileStore:
    """Files under one rule of the policy.

    Attributes:
        name: That of the rule, whose store is ``files.<name>``.
        count_due: How many files are past a cutoff, and the oldest instant among them.
        trim: Removes these; how many went. Raises ``ConfigurationError`` where one cannot be
            removed, after it removed the others.
        count_kept: How many are past a cutoff and stay all the same, since they are not over.
    """

    name: str
    count_due: Callable[[datetime], tuple[int, datetime | None]]
    trim: Callable[[datetime], int]
    count_kept: Callable[[datetime], int] = lambda _cutoff: 0


def waiting_files(zone: LandingZone) -> FileStore:
    """Files of the landing zone that were never loaded, by when they were last written."""

    def count_due(cutoff: datetime) -> tuple[int, datetime | None]:
        due = zone.list_waiting_before(cutoff)
        return len(due), due[0][0] if due else None

    def trim(cutoff: datetime) -> int:
        due = zone.list_waiting_before(cutoff)
        return _remove_all("landing", (path for _, path in due), zone.remove)

    return FileStore("landing", count_due, trim)


def archived_files(zone: LandingZone) -> FileStore:
    """Loaded files, by the day of their arrival: whole days that lie before the cutoff's.

    The day of the cutoff itself stays until it is over, so a file stands up to a day longer than
    the period and never shorter.
    """

    def count_due(cutoff: datetime) -> tuple[int, datetime | None]:
        due = zone.list_archived_before(business_date(cutoff))
        return len(due), _start_of(due[0][0]) if due else None

    def trim(cutoff: datetime) -> int:
        day = business_date(cutoff)
        due = zone.list_archived_before(day)
        removed = _remove_all("landing_archive", (path for _, path in due), zone.remove)
        zone.remove_empty_days(day)
        return removed

    return FileStore("landing_archive", count_due, trim)


def folder_files(name: str, folder: Path) -> FileStore:
    """Files of a local folder and those below it, by when they were last written.

    Regular files only. Symbolic links are neither followed nor removed, and every file is removed
    through the open folder it was found in, so that nothing outside can be reached.

    Args:
        name: The rule.
        folder: Need not exist.
    """

    def count_due(cutoff: datetime) -> tuple[int, datetime | None]:
        count, oldest = 0, None
        for _, _, modified in _old_files(name, folder, cutoff):
            count += 1
            oldest = modified if oldest is None else min(oldest, modified)
        return count, None if oldest is None else datetime.fromtimestamp(oldest, UTC)

    def trim(cutoff: datetime) -> int:
        return _remove_all(name, _old_files(name, folder, cutoff), _unlink)

    return FileStore(name, count_due, trim)


def local_stores(home: Path) -> tuple[FileStore, ...]:
    """The stores of ``LOCAL_FOLDERS``.

    Args:
        home: ``GATTE_HOME``.
    """
    return tuple(folder_files(name, home / name) for name in LOCAL_FOLDERS)


def _old_files(name: str, folder: Path, cutoff: datetime) -> Iterator[tuple[int, str, float]]:
    """Files last written before the cutoff: an open folder, the name in it, and when."""

    def refuse(error: OSError) -> NoReturn:
        raise ConfigurationError(
            f"the folder of {name} cannot be listed ({type(error).__name__}); check its permissions"
        ) from None

    try:
        kind = folder.lstat().st_mode
    except FileNotFoundError:
        return
    except OSError as error:
        refuse(error)
    if not stat.S_ISDIR(kind):
        raise ConfigurationError(
            f"{name} is no folder, or a symbolic link, which retention does not follow; make it a "
            "folder, or move GATTE_HOME as a whole"
        )
    limit = cutoff.timestamp()
    for _, _, names, descriptor in os.fwalk(folder, onerror=refuse):
        for each in names:
            try:
                found = os.stat(each, dir_fd=descriptor, follow_symlinks=False)
            except FileNotFoundError:
                continue
            if stat.S_ISREG(found.st_mode) and found.st_mtime < limit:
                yield descriptor, each, found.st_mtime


def _unlink(file: tuple[int, str, float]) -> bool:
    descriptor, name, _ = file
    try:
        os.unlink(name, dir_fd=descriptor)
    except FileNotFoundError:
        return False
    return True


def _remove_all(name: str, due: Iterable[_Item], remove: Callable[[_Item], bool]) -> int:
    """Remove what can be; a file that cannot does not keep the others.

    Raises:
        ConfigurationError: Some could not be removed; their names are not told.
    """
    removed, failed, kind = 0, 0, ""
    for item in due:
        try:
            removed += remove(item)
        except OSError as error:
            failed, kind = failed + 1, type(error).__name__
    if failed:
        raise ConfigurationError(
            f"{name}: {failed} files past their time cannot be removed ({kind}), {removed} were; "
            "check permissions and run again"
        )
    return removed


def _start_of(day: date) -> datetime:
    return datetime.combine(day, time(), ZONE).astimezone(UTC)
