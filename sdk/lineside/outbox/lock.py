"""One process to an outbox: two would send every verdict twice and tear the sequence."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from lineside.errors import StorageError


class FileLock:
    """An advisory lock on ``PATH.lock``; the kernel frees it when the process ends, however."""

    def __init__(self, path: Path) -> None:
        lock_path = path.with_name(path.name + ".lock")
        try:
            self._descriptor = os.open(lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise StorageError(f"{lock_path}: {error.strerror}; is the folder writable?") from error
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._descriptor)
            raise StorageError(
                f"{path}: another station uses this outbox; end it, or give each its own"
            ) from error

    def release(self) -> None:
        """Free the lock. The file stays: removing it would race with the next one to take it."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)
