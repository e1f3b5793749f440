"""What lies in the outbox, for the publisher and the sources: a connection apart from the writer's.

Reading never waits for writing, nor writing for reading.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable, Iterator

from lineside.errors import StorageError
from lineside.framekey import FrameKey
from lineside.outbox.expiry import ExpiryBlocks
from lineside.outbox.records import Row
from lineside.outbox.store import MAX_SEQ, Store


class Shelf:
    """Thread-safe; one reader at a time.

    Attributes:
        fault: why the file cannot be read just now; ``None`` when all is well.
    """

    def __init__(self, store: Store) -> None:
        self.fault: StorageError | None = None
        self._store = store
        self._lock = threading.Lock()
        self._closed = False
        self._expiry = ExpiryBlocks()

    def learn(self, rows: Iterable[tuple[int, int]]) -> None:
        """Take (seq, expires_unix_ms) of what was just made durable, in order."""
        self._expiry.learn(rows)

    def unsent(
        self,
        after_seq: int,
        limit: int,
        *,
        before_seq: int | None,
        is_shown: Callable[[int], bool],
    ) -> list[Row]:
        """The first rows beyond ``after_seq`` that are to be shown, in order."""
        below = MAX_SEQ + 1 if before_seq is None else before_seq
        found: list[Row] = []
        with self._reading() as store:
            while True:
                asked = limit - len(found)
                rows = store.unsent(after_seq, asked, before_seq=below)
                found.extend(row for row in rows if is_shown(row.seq))
                # Rows that are not shown must not hide those behind them.
                if len(rows) < asked or len(found) == limit:
                    return found
                after_seq = rows[-1].seq

    def live_from(self, now_unix_ms: int, *, given: int) -> int:
        """As of `ExpiryBlocks`."""
        with self._reading() as store:
            return self._expiry.live_from(now_unix_ms, given=given, waiting=store)

    def recall(self, source: str, name: bytes) -> FrameKey | None:
        """The frame of that name that was inspected last."""
        with self._lock:
            return self._store.recall(source, name)

    def forget(
        self,
        source: str,
        is_gone: Callable[[bytes], bool],
        before_unix_s: int,
        stopping: threading.Event,
    ) -> int:
        """Drop marks of frames that are gone from their source and older than a point in time.

        A folder may have a million files, and a slow share be asked about each: some at a time, and
        while it is asked neither publisher nor source waits.
        """
        count, after = 0, b""
        while not stopping.is_set():
            with self._lock:
                if self._closed:
                    break
                names = self._store.marks(source, after, before_unix_s)
            if not names:
                break
            after = names[-1]
            gone = [name for name in names if not stopping.is_set() and is_gone(name)]
            with self._lock:
                if gone and not self._closed:
                    self._store.unmark(source, gone, before_unix_s)
                    count += len(gone)
        return count

    def close(self) -> None:
        """Close the connection."""
        with self._lock:
            self._closed = True
            self._store.close()

    @contextlib.contextmanager
    def _reading(self) -> Iterator[Store]:
        try:
            with self._lock:
                yield self._store
        except StorageError as fault:
            self.fault = fault
            raise
        self.fault = None
