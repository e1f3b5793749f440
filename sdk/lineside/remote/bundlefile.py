"""A file that is sent: hashed once, then read a stretch at a time, for many stations at once."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Final

from lineside.closing import Closing
from lineside.errors import InputDataError
from lineside.remote.window import Stretch

_READ_BYTES: Final = 1024 * 1024


class BundleFile(Closing):
    """Open for reading; close it, or use it in a ``with`` statement.

    Args:
        path: the file.

    Attributes:
        path: as given.
        size_bytes: of the file, at least 1.
        sha256: of the whole file, 32 bytes.

    Raises:
        InputDataError: missing, unreadable, no file, or empty.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        try:
            # Non-blocking, so that a pipe without a writer answers at once.
            self._file = os.open(self.path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise InputDataError(f"{self.path}: {error.strerror}") from error
        try:
            self.sha256, self.size_bytes = self._hash()
        except OSError as error:
            self.close()
            raise InputDataError(f"{self.path}: cannot be read: {error.strerror}") from error
        if not self.size_bytes:
            self.close()
            raise InputDataError(f"{self.path}: is empty")

    def read(self, stretch: Stretch) -> bytes:
        """The bytes of a stretch.

        Raises:
            InputDataError: it cannot be read, or the file has become shorter.
        """
        try:
            data = os.pread(self._file, stretch.size_bytes, stretch.offset)
        except OSError as error:
            raise InputDataError(f"{self.path}: cannot be read: {error.strerror}") from error
        if len(data) < stretch.size_bytes:
            raise InputDataError(f"{self.path}: has become shorter while it was sent; send again")
        return data

    def close(self) -> None:
        """Free the file; nothing happens a second time."""
        descriptor, self._file = self._file, -1
        if descriptor >= 0:
            os.close(descriptor)

    def _hash(self) -> tuple[bytes, int]:
        digest, size_bytes = hashlib.sha256(), 0
        while block := os.pread(self._file, _READ_BYTES, size_bytes):
            digest.update(block)
            size_bytes += len(block)
        return digest.digest(), size_bytes
