"""From which number on all that waits is still young enough to be live."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import Final, Protocol

BLOCK: Final = 1024
# 67 million waiting verdicts; what is older is read from the file when it is asked for.
_BLOCKS_KEPT: Final = 65_536


class Waiting(Protocol):
    """What is asked of the file."""

    def first_waiting(self) -> int | None: ...
    def soonest_expiry(self, first: int, last: int) -> int | None: ...
    def newest_expired(self, first: int, last: int, now_unix_ms: int) -> int | None: ...


class ExpiryBlocks:
    """The soonest expiry of each block of numbers, so that few rows are read to answer.

    Expiry need not rise with the number (deadlines differ, clocks jump): the answer is exact in any
    case, and quick where it nearly does.
    """

    def __init__(self) -> None:
        self._soonest: dict[int, int] = {}
        self._lock = threading.Lock()

    def learn(self, rows: Iterable[tuple[int, int]]) -> None:
        """Take (seq, expires_unix_ms) of what was just made durable, in order."""
        with self._lock:
            for seq, expires_unix_ms in rows:
                block = seq // BLOCK
                # A block whose beginning was not seen, after a start, is asked of the file.
                if seq % BLOCK == 0:
                    self._keep(block, expires_unix_ms)
                elif expires_unix_ms < self._soonest.get(block, -1):
                    self._soonest[block] = expires_unix_ms

    def live_from(self, now_unix_ms: int, *, given: int, waiting: Waiting) -> int:
        """The first number from which on all that waits expires later; 1 where nothing expired."""
        lowest = waiting.first_waiting()
        if lowest is None:
            return 1
        for block in range(given // BLOCK, lowest // BLOCK - 1, -1):
            soonest = self._soonest_of(block, given, waiting)
            if soonest is None or soonest > now_unix_ms:
                continue
            first, last = block * BLOCK, (block + 1) * BLOCK - 1
            expired = waiting.newest_expired(first, last, now_unix_ms)
            if expired is not None:
                return expired + 1
            with self._lock:
                self._soonest.pop(block, None)  # what would have expired was acknowledged
        return 1

    def _soonest_of(self, block: int, given: int, waiting: Waiting) -> int | None:
        known = self._soonest.get(block)
        if known is not None:
            return known
        first, last = block * BLOCK, (block + 1) * BLOCK - 1
        soonest = waiting.soonest_expiry(first, last)
        if soonest is not None and last <= given:
            with self._lock:
                self._keep(block, soonest)
        return soonest

    def _keep(self, block: int, expires_unix_ms: int) -> None:
        self._soonest[block] = expires_unix_ms
        if len(self._soonest) > _BLOCKS_KEPT:
            del self._soonest[min(self._soonest)]
