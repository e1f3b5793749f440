"""Folds SQLite's log into the file beside the writing, so that no verdict waits for it.

SQLite begins the log anew only when all of it is folded in and nobody reads from it, for which a
busy writer never rests long enough: it is asked to do the short rest itself.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from typing import Final

from lineside.errors import StorageError
from lineside.outbox.store import Store
from lineside.worker import Worker

# Of the log. Longer saves no writes worth the name: 14.40 KiB a verdict with 1 MiB, 14.27 with 4,
# 14.26 with 16 (benchmarks/faults/flash_wear.py), and takes longer to read after a crash.
FOLD_AT_BYTES: Final = 4 * 2**20
_RETRY_S: Final = 5.0
# A commit touches the counters' page and the last ones of its tables, whole.
_COMMIT_BYTES: Final = 5 * 2048


class LogFolder:
    """A thread with a connection of its own."""

    def __init__(self, store: Store, *, on_fault: Callable[[], None]) -> None:
        self._store = store
        self._on_fault = on_fault
        self._wanted = threading.Event()
        self._closing = threading.Event()
        # What earlier lives left counts too: a station that is killed again and again would else
        # never come to fold, and its log would fill the disk.
        self._written_bytes = store.log_bytes()
        self._rest = False
        self.fault: StorageError | None = None
        if self._written_bytes >= 2 * FOLD_AT_BYTES:
            # Lives that end before the thread has come to it, one after the other; here nobody
            # waits for a verdict yet. What fails is tried again, and told, by the thread.
            with contextlib.suppress(StorageError):
                store.restart_log()
        if self._written_bytes >= FOLD_AT_BYTES:
            self._written_bytes = 0
            self._wanted.set()
        self._worker = Worker(self._fold_forever, name="lineside-outbox-log")
        self._worker.start()

    def wrote(self, size_bytes: int, own: Store) -> None:
        """Count a commit, in the writer's thread; folds the rest with ``own`` when asked to.

        Raises:
            StorageError: the rest could not be folded; the commit itself holds.
        """
        self._written_bytes += size_bytes + _COMMIT_BYTES
        if self._rest:
            self._rest = False
            own.restart_log()
        if self._written_bytes >= FOLD_AT_BYTES:
            self._written_bytes = 0
            self._wanted.set()

    def check(self) -> None:
        """Raise what ended the thread, if something did."""
        self._worker.check()

    def close(self, timeout_s: float) -> bool:
        """End the thread; ``False`` when it hangs in the disk."""
        self._closing.set()
        self._wanted.set()
        if not self._worker.join(timeout_s):
            return False
        self._store.close()
        return True

    def _fold_forever(self) -> None:
        while not self._closing.is_set():
            self._wanted.wait()
            self._wanted.clear()
            if self._closing.is_set():
                return
            try:
                self._store.fold_log()
                self._store.fold_log()  # what came meanwhile, so that little is left to the writer
                self._rest, self.fault = True, None
            except StorageError as fault:
                self.fault = fault
                self._on_fault()
                self._closing.wait(_RETRY_S)
                self._wanted.set()
