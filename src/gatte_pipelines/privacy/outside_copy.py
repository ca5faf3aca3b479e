"""The copy of the privacy ledger outside the database: one file, appended to with fsync.

What goes into it and when belongs to ``ledger``, the form of a line to ``entries``.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from gatte_pipelines.errors import ConfigurationError, PermanentError
from gatte_pipelines.privacy.entries import GENESIS, MAX_ENTRY_BYTES, Entry, parse_line

FILE_NAME = "ledger.jsonl"
MAX_LINE_BYTES = 2 * MAX_ENTRY_BYTES
"""An entry quoted within its line is longer than by itself; no line of ours comes near."""

_BLOCK_BYTES = 64 * 1024


class OutsideCopy:
    """The copy of the ledger outside the database: a folder with one file, an entry a line.

    A last line without an end is what a killed process left: it counts as not written.

    Args:
        url: ``GATTE_LEDGER_URL``: a folder, or a ``file://`` URL of one.

    Raises:
        ConfigurationError: Another scheme: only a file tells when it is safely on its disk.
    """

    def __init__(self, url: str) -> None:
        self._folder = _to_folder(url)
        self._path = self._folder / FILE_NAME

    def is_there(self) -> bool:
        """Whether the folder exists."""
        return self._folder.is_dir()

    def create(self) -> None:
        """Make the folder where it is missing: before the first entry only.

        Later a missing folder is a disk that is not there, and a new one in its place a trap.

        Raises:
            PermanentError: It cannot be made.
        """
        if self.is_there():
            return
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            _sync_folder(self._folder.parent)
        except OSError as error:
            raise _unusable("made", error) from None

    def head(self) -> tuple[int, str]:
        """Place and hash of the last entry; ``(0, GENESIS)`` where there is none.

        Raises:
            PermanentError: The folder is not there, cannot be read, or ends in a broken line.
        """
        with self._opened(os.O_RDONLY, "read") as file:
            _, line = (0, None) if file is None else _find_tail(file)
        if line is None:
            return 0, GENESIS
        entry = parse_line(line)
        if entry is None or not entry.is_whole:
            raise PermanentError(
                "the last line of the ledger outside the database (GATTE_LEDGER_URL) was changed; "
                "run gatte lgpd ledger verify"
            )
        return entry.seq, entry.hash

    def read(self) -> Iterator[Entry]:
        """Every entry in the order of the file.

        Raises:
            PermanentError: The copy cannot be read, or a line is not as we write them.
        """
        for number, _, line in self.lines():
            entry = parse_line(line.removesuffix(b"\n"))
            if entry is None and line.endswith(b"\n"):
                raise PermanentError(
                    f"line {number} of the ledger outside the database (GATTE_LEDGER_URL) was "
                    "changed; run gatte lgpd ledger verify"
                )
            if entry is not None and line.endswith(b"\n"):
                yield entry

    def lines(self) -> Iterator[tuple[int, int, bytes]]:
        """Number, offset and bytes of each line; a longer one than we write comes in pieces.

        Raises:
            PermanentError: The copy cannot be read.
        """
        with self._opened(os.O_RDONLY, "read") as descriptor:
            if descriptor is None:
                return
            with os.fdopen(os.dup(descriptor), "rb") as file:
                number, offset = 1, 0
                while line := file.readline(MAX_LINE_BYTES):
                    yield number, offset, line
                    number, offset = number + 1, offset + len(line)

    def size_bytes(self) -> int:
        """Length of the file; 0 where there is none.

        Raises:
            PermanentError: The copy cannot be read.
        """
        with self._opened(os.O_RDONLY, "read") as file:
            return 0 if file is None else os.fstat(file).st_size

    def append(self, entries: Sequence[Entry]) -> None:
        """Write entries at the end and wait until the disk has them.

        Without entries it waits for what another process wrote before it was killed. The caller
        holds the lock of the outside copy.

        Raises:
            PermanentError: The folder is gone, full or not writable. No entry of this call is left
                there, as far as that can still be helped.
        """
        with self._opened(os.O_RDWR | os.O_CREAT | os.O_APPEND, "written") as file:
            assert file is not None  # noqa: S101 - it is created
            size = os.fstat(file).st_size
            end, _ = _find_tail(file)
            if end < size:  # half a line of a killed process
                os.ftruncate(file, end)
            try:
                _write(file, b"".join(entry.to_line() for entry in entries))
                os.fsync(file)
                if end == 0:
                    _sync_folder(self._folder)
            except OSError:
                # A line that the disk may not have must not pass for one that it has.
                with suppress(OSError):
                    os.ftruncate(file, end)
                raise

    @contextmanager
    def _opened(self, flags: int, what: str) -> Iterator[int | None]:
        """The file, None where it is missing in a folder that is there; errors made ours."""
        descriptor = None
        try:
            try:
                descriptor = os.open(self._path, flags | os.O_CLOEXEC, 0o600)
            except FileNotFoundError as error:
                if not self.is_there():
                    raise _unusable(what, error) from None
            yield descriptor
        except OSError as error:
            raise _unusable(what, error) from None
        finally:
            if descriptor is not None:
                os.close(descriptor)


def _unusable(what: str, error: OSError) -> PermanentError:
    reason = os.strerror(error.errno) if error.errno else type(error).__name__
    return PermanentError(
        f"the ledger outside the database cannot be {what} ({reason}); check GATTE_LEDGER_URL: "
        "the folder must be there, be writable and have space"
    )


def _to_folder(url: str) -> Path:
    if "://" not in url:
        return Path(url)
    parts = urlsplit(url)
    if parts.scheme != "file" or parts.netloc not in {"", "localhost"}:
        raise ConfigurationError(
            "GATTE_LEDGER_URL must be a folder or a file:// URL of one: other stores do not tell "
            "when an entry is safely on its disk"
        )
    return Path(url2pathname(parts.path))


def _find_tail(file: int) -> tuple[int, bytes | None]:
    """Where the whole lines end, and the last of them without its end."""
    size = os.fstat(file).st_size
    length = _BLOCK_BYTES
    while True:
        start = max(0, size - length)
        block = os.pread(file, size - start, start)
        end = block.rfind(b"\n")
        begin = block.rfind(b"\n", 0, max(end, 0))
        if end >= 0 and (begin >= 0 or start == 0):
            return start + end + 1, block[begin + 1 : end]
        if start == 0:
            return 0, None
        if length >= 2 * MAX_LINE_BYTES:
            return start + end + 1 if end >= 0 else size, b""  # no line of ours
        length *= 4


def _write(file: int, data: bytes) -> None:
    """A disk that is nearly full takes a part."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(file, rest) :]


def _sync_folder(folder: Path) -> None:
    """A new name is safe when its folder is."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
