"""What of a request a runtime has not taken yet: in memory while it is small, else in a file without a name."""

from __future__ import annotations

import tempfile
from typing import IO, Final

IN_MEMORY: Final = 1024 * 1024


class Backlog:
    """First in, first out. The file is written and read in pieces that the page cache takes at once."""

    __slots__ = ("_file", "_memory", "_read", "_written")

    def __init__(self) -> None:
        self._memory = bytearray()
        self._file: IO[bytes] | None = None
        self._read = self._written = 0

    def __repr__(self) -> str:
        return f"<Backlog of {len(self)} bytes>"

    def __len__(self) -> int:
        return len(self._memory) + self._written - self._read

    def put(self, piece: bytes) -> None:
        """Append. Raises `OSError` when the disk is full."""
        if self._file is None:
            if len(self._memory) + len(piece) <= IN_MEMORY:
                self._memory += piece
                return
            self._file = tempfile.TemporaryFile()  # noqa: SIM115 (it lives as long as this does)
        self._file.seek(self._written)
        self._file.write(piece)
        self._written += len(piece)

    def take(self, size: int) -> bytes:
        """The next bytes, at most `size`; empty if there are none. Raises `OSError`."""
        if self._memory:
            piece = bytes(self._memory[:size])
            del self._memory[:size]
            return piece
        if self._file is None:
            return b""
        self._file.seek(self._read)
        piece = self._file.read(min(size, self._written - self._read))
        self._read += len(piece)
        return piece

    def drop(self) -> None:
        """Forget all of it."""
        self._memory = bytearray()
        if self._file is not None:
            self._file.close()
            self._file = None
        self._read = self._written = 0
