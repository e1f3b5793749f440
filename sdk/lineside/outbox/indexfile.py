"""The log's index (``-shm``), read beside SQLite without taking SQLite's locks away.

POSIX drops every lock that a process has on a file as soon as it closes any descriptor of it
(fcntl(2); https://www.sqlite.org/howtocorrupt.html, section 2.2), and SQLite keeps its locks of a
log on the index. Had we read and closed it, the next process that looks on (`lineside audit`) would
take itself for the first one and begin the index anew, and a running station would die of SIGBUS.
So what was opened here stays open until the last connection of this process has been closed.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final


@dataclass(kw_only=True)
class _Held:
    users: int = 0
    by_inode: dict[int, int] = field(default_factory=dict)
    more: list[int] = field(default_factory=list)


# Locks belong to the process, so this does too.
_lock: Final = threading.Lock()
_held: Final[dict[Path, _Held]] = {}


def index_path(path: Path) -> Path:
    """Of the outbox's file."""
    return path.with_name(path.name + "-shm")


def hold(path: Path) -> None:
    """A connection to the outbox's file is about to be opened. Once for each; then `release`."""
    with _lock:
        _held.setdefault(path.absolute(), _Held()).users += 1


def release(path: Path) -> None:
    """It has been closed; after the last one the descriptors may go."""
    with _lock:
        held = _held[path.absolute()]
        held.users -= 1
        if held.users:
            return
        del _held[path.absolute()]
    for descriptor in (*held.by_inode.values(), *held.more):
        os.close(descriptor)


@contextlib.contextmanager
def released_on_fault(path: Path) -> Iterator[None]:
    """`release` where what is inside raises."""
    try:
        yield
    except BaseException:
        release(path)
        raise


def read_index(path: Path, size_bytes: int) -> bytes:
    """Its first bytes, between `hold` and `release`.

    Raises:
        OSError: it is not there or cannot be read.
    """
    with _lock:
        return os.pread(_descriptor(_held[path.absolute()], index_path(path)), size_bytes, 0)


def _descriptor(held: _Held, index: Path) -> int:
    inode = index.stat().st_ino
    if inode not in held.by_inode:
        descriptor = os.open(index, os.O_RDONLY | os.O_CLOEXEC)
        inode = os.fstat(descriptor).st_ino
        if inode in held.by_inode:
            held.more.append(descriptor)  # exchanged between the two calls: not to be closed either
        else:
            held.by_inode[inode] = descriptor
    return held.by_inode[inode]
