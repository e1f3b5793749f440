"""One install at a time in a store: two would write into the same free slot."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from lineside.errors import StorageError, StoreBusyError
from lineside.slots.locks import open_file

LOCK_FILE: Final = ".install.lock"


@contextlib.contextmanager
def install_turn(folder: Path) -> Iterator[None]:
    """Nobody else installs into this store meanwhile; the kernel frees it when the process ends.

    Raises:
        StoreBusyError: another process, or another thread of this one, does.
        StorageError: the folder is not there or not writable.
    """
    # The file stays: removing it would race with the next one to lock it.
    descriptor = open_file(folder / LOCK_FILE, os.O_RDWR | os.O_CREAT)
    try:
        _lock(descriptor, folder)
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int, folder: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise StoreBusyError(
            f"{folder}: somebody else installs into this store just now: wait until that is done"
        ) from error
    except OSError as error:
        raise StorageError(f"{folder}: cannot be locked: {error.strerror}") from error
