"""Files that are read at start are written aside, flushed, and renamed into place.

The folders they lie in are made here too.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from lineside.errors import StorageError


def write_durably(path: Path, chunks: Iterable[bytes | memoryview]) -> None:
    """Write a whole file at once; see `durable_file`.

    Raises:
        StorageError: full, read-only, not permitted; what was there before is untouched.
    """
    with durable_file(path) as file:
        for chunk in chunks:
            file.write(chunk)


@contextlib.contextmanager
def durable_file(path: Path) -> Iterator[BinaryIO]:
    """Write a file such that a power cut leaves the old one or the new one, never a mix.

    Whoever has the old file open or mapped keeps the old bytes. An exception inside the block
    leaves the old file as it was. A symbolic link stays one, and what it points at is written.

    Raises:
        StorageError: full, read-only, not permitted, or no regular file; what was there before is
            untouched.
    """
    path = _whole_file(path)
    # The process id keeps two writers of one path from tearing each other's aside file.
    aside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with aside.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        replace_durably(aside, path)
    except OSError as error:
        raise StorageError(f"{path}: cannot be written: {error.strerror}") from error
    finally:
        with contextlib.suppress(OSError):
            aside.unlink(missing_ok=True)


def _whole_file(path: Path) -> Path:
    """Where a rename puts the file: never over a device, which root would lose for everybody."""
    found = Path(os.path.realpath(path))
    try:
        mode = found.stat().st_mode
    except OSError:
        return found  # nothing there, or writing will say what is wrong
    if not stat.S_ISREG(mode):
        raise StorageError(f"{path}: cannot be written: it is no regular file; name another")
    return found


def make_folder(folder: Path) -> None:
    """Make a folder and those above it; one that is there is left alone.

    Raises:
        StorageError: the disk is full, read-only or gone, or a file is in the way.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"{folder}: cannot be made: {error.strerror}") from error


def replace_durably(aside: Path, path: Path) -> None:
    """Put a flushed file in its place; both are in one folder.

    Raises:
        OSError: the file system refuses.
    """
    aside.replace(path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Bring a folder's own list of names to the disk; raises `OSError`."""
    # Without this the rename itself may be lost in a power cut (fsync(2), notes).
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
