"""Whether the outbox still lies where it was opened.

SQLite goes on writing to a file that was moved or deleted; whatever is given then is gone with the
process, and the next one begins anew at 1. https://www.sqlite.org/howtocorrupt.html, 1.4 and 2.4.
"""

from __future__ import annotations

from pathlib import Path

from lineside.errors import StorageError


class Place:
    """The files of one connection, by what they were when they were first seen.

    Args:
        path: of the outbox; its log lies beside it.
    """

    def __init__(self, path: Path) -> None:
        self._files = (path, path.with_name(path.name + "-wal"))
        self._seen: dict[Path, tuple[int, int]] = {}

    def check(self) -> None:
        """Look: two calls of the kernel, some microseconds.

        Raises:
            StorageError: one of them is another file by now, or none.
        """
        for path in self._files:
            found = _identity(path)
            seen = self._seen.get(path)
            if seen is None:
                if found is not None:  # a log is made at the first write
                    self._seen[path] = found
            elif found != seen:
                raise StorageError(
                    f"{path}: was moved, deleted or replaced while the station runs. Put it back, "
                    "with its -wal, or end the station: what the broker does not have lies in "
                    "the file that was moved"
                )


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino
