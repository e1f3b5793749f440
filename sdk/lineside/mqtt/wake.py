"""Lets one thread end another's wait on a socket."""

from __future__ import annotations

import contextlib
import socket


class Wake:
    """A flag that ``poll`` can wait for. ``set`` from any thread, the rest from the waiting one."""

    def __init__(self) -> None:
        self._inner, self._outer = socket.socketpair()
        self._inner.setblocking(False)
        self._outer.setblocking(False)

    def fileno(self) -> int:
        """Readable while the flag is set."""
        return self._inner.fileno()

    def set(self) -> None:
        """Set the flag; after ``close`` nobody waits any more and nothing happens."""
        # BlockingIOError: the buffer is full of wake-ups already.
        with contextlib.suppress(OSError):
            self._outer.send(b"\0")

    def clear(self) -> None:
        """Reset the flag."""
        with contextlib.suppress(BlockingIOError):
            while self._inner.recv(4096):
                pass

    def close(self) -> None:
        """Free both ends."""
        self._inner.close()
        self._outer.close()
