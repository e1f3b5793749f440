"""Files that others put in place: read whole and bounded, so that none can hang us or fill memory.

Opening a pipe waits for whoever writes into it, a device such as ``/dev/zero`` has no end, and
pathlib's questions (`is_dir`, `exists`) raise where a folder above may not be entered.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path


def read_whole(path: Path, *, limit_bytes: int) -> bytes:
    """All bytes of a regular file.

    Raises:
        OSError: missing, not permitted, no regular file, or larger than ``limit_bytes``
            (``EFBIG``); ``strerror`` says which.
    """
    return read_with_status(path, limit_bytes=limit_bytes)[0]


def read_with_status(path: Path, *, limit_bytes: int) -> tuple[bytes, os.stat_result]:
    """As `read_whole`, with the file's status after the last byte was read."""
    try:
        # Non-blocking, so that a pipe without a writer answers at once.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except ValueError as error:  # a null character, which no file name holds
        raise OSError(errno.EINVAL, f"no file name: {error}", str(path)) from error
    try:
        size_bytes = _plain_size(descriptor, path, limit_bytes)
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            return file.read(size_bytes + 1), os.fstat(descriptor)
    except MemoryError as error:
        raise OSError(errno.ENOMEM, "does not fit into memory", str(path)) from error
    finally:
        os.close(descriptor)


def _plain_size(descriptor: int, path: Path, limit_bytes: int) -> int:
    status = os.fstat(descriptor)
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "not a file", str(path))
    if status.st_size > limit_bytes:
        told = f"{status.st_size:,} bytes, at most {limit_bytes:,} are read"
        raise OSError(errno.EFBIG, told, str(path))
    return status.st_size


def is_folder(path: Path) -> bool:
    """Whether a folder is there that this user may see; no fault of the disk is raised."""
    try:
        return stat.S_ISDIR(path.stat().st_mode)
    except (OSError, ValueError):
        return False
