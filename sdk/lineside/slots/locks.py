"""Locks between processes, by files; the kernel frees them when a process ends, however it does."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from lineside.errors import StorageError, StoreBusyError

# A change of the record takes milliseconds; the check of a whole bundle up to seconds.
PATIENCE_S: Final = 2.0
_PAUSE_S: Final = 0.01
_STATION_LOCK: Final = "station.lock"
MODE: Final = 0o640  # the group may list and read, nobody else
_REMEDIES: Final = {
    errno.ENOSPC: "make room on this disk and try again",
    errno.EDQUOT: "make room on this disk and try again",
    errno.EFBIG: "the file system or a limit of this process allows no larger file",
    errno.EROFS: "mount it for writing",
    errno.EACCES: "run this as the user whom the store belongs to",
    errno.EPERM: "run this as the user whom the store belongs to",
    errno.EIO: "the disk is failing: replace it",
    errno.ELOOP: "is a link: take it out of the store's folder",
}


class FolderLock:
    """Keeps other processes, and other objects of this one, from changing a store meanwhile.

    Several threads wait for each other; one may enter again.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._thread_lock = threading.RLock()
        self._depth = 0

    @contextlib.contextmanager
    def held(self) -> Iterator[bool]:
        """Wait up to 2 s for it; whether it was not held by this thread before.

        Raises:
            StoreBusyError: it was not to be had.
            StorageError: the lock's file cannot be made.
        """
        with self._thread_lock:
            if self._depth:
                yield False
                return
            descriptor = open_file(self._path, os.O_RDONLY | os.O_CREAT)
            try:
                self._wait(descriptor)
                self._depth = 1
                yield True
            finally:
                self._depth = 0
                os.close(descriptor)

    def _wait(self, descriptor: int) -> None:
        deadline_s = time.monotonic() + PATIENCE_S
        while not _try_lock(descriptor):
            if time.monotonic() >= deadline_s:
                raise StoreBusyError(
                    f"{self._path.parent}: another process is changing this store: try again"
                )
            time.sleep(_PAUSE_S)


@contextlib.contextmanager
def lock_station(path: str | Path) -> Iterator[None]:
    """Be the one station of a store, for as long as the block lasts.

    Args:
        path: the store's folder.

    Raises:
        StoreBusyError: another station is; its process is named.
        StorageError: the lock's file cannot be made.
    """
    lock_path = Path(path) / _STATION_LOCK
    descriptor = open_file(lock_path, os.O_RDWR | os.O_CREAT)
    try:
        if not _try_lock(descriptor):
            number = os.pread(descriptor, 20, 0).decode("ascii", "replace").strip()
            process = f" (process {number})" if number else ""
            raise StoreBusyError(
                f"{path}: another station{process} runs on this store: end it, or give each its own"
            )
        # For people only: on a full disk the station starts all the same.
        with contextlib.suppress(OSError):
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)


def open_file(path: Path, flags: int) -> int:
    """A descriptor of a plain file of a store; one that is made belongs to whom the folder belongs.

    Raises:
        StorageError: not there, not permitted, or no plain file.
    """
    # Non-blocking, so that a pipe put in the file's place cannot hang us.
    flags |= os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        descriptor = _open_or_make(path, flags)
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            return descriptor
        os.close(descriptor)
    except OSError as error:
        raise storage_error(path, error) from error
    raise StorageError(f"{path}: is no plain file: take it out of the store's folder")


def _open_or_make(path: Path, flags: int) -> int:
    try:
        return os.open(path, flags & ~os.O_CREAT)
    except FileNotFoundError:
        if not flags & os.O_CREAT:
            raise
        descriptor = os.open(path, flags, MODE)
        _give_to_owner_of_folder(descriptor, path.parent)
        return descriptor


def storage_error(path: Path, error: OSError) -> StorageError:
    """An operating system's refusal, in words, with what helps where that is known."""
    remedy = _REMEDIES.get(error.errno or 0)
    return StorageError(f"{path}: {error.strerror}" + (f": {remedy}" if remedy else ""))


def _give_to_owner_of_folder(descriptor: int, folder: Path) -> None:
    """So that the user that the station runs as can read and replace what root installs."""
    made, owner = os.fstat(descriptor), folder.stat()
    if (made.st_uid, made.st_gid) != (owner.st_uid, owner.st_gid):
        with contextlib.suppress(PermissionError):
            os.fchown(descriptor, owner.st_uid, owner.st_gid)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        raise StorageError(f"the file system cannot lock: {error.strerror}") from error
    return True
