"""A download over as many connections as it takes, in a thread of its own.

A server that stalls holds up this thread alone: whoever takes the bytes still answers its senders.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Final

from lineside.backoff import Backoff
from lineside.remote.fetching import Fetch, FetchError
from lineside.remote.leastpace import LeastPace, PaceMeter
from lineside.remote.reception import Request
from lineside.worker import Worker

# Written and synced at once; a few are read ahead.
BLOCK_BYTES: Final = 256 * 1024
_AHEAD: Final = 4
_BLOCK_S: Final = 0.5
_TRIALS: Final = 6
_PAUSE_MIN_S: Final = 0.5
_PAUSE_MAX_S: Final = 8.0


class Download:
    """Reads on where the last connection broke off.

    Args:
        place: its URL.
        request: what is to be taken.
        offset: bytes that are there already.
        wake: called when there is something new; from its thread.
        least: a server that is slower is given up.
    """

    def __init__(
        self,
        place: str,
        request: Request,
        *,
        offset: int,
        wake: Callable[[], None],
        least: LeastPace,
    ) -> None:
        self.request = request
        self._place = place
        self._offset = offset
        self._wake = wake
        self._least = least
        # Over all connections: a server may drip, hang up and drip on.
        self._meter = PaceMeter(least, time.monotonic())
        self._changed = threading.Condition()
        self._blocks: deque[bytes] = deque()
        self._error: FetchError | None = None
        self._closed = False
        self._worker = Worker(self._run, name="lineside-download")
        self._worker.start()

    def take(self) -> bytes:
        """The next bytes; empty: none have come yet.

        Raises:
            FetchError: there will be none.
        """
        self._worker.check()
        with self._changed:
            if self._blocks:
                self._changed.notify_all()
                return self._blocks.popleft()
            if self._error is not None:
                raise self._error
            return b""

    def close(self) -> None:
        """No more is wanted; a connection that stalls ends by itself."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _run(self) -> None:
        try:
            self._read_all()
        except FetchError as error:
            with self._changed:
                self._error = error
            self._wake()

    def _read_all(self) -> None:
        trials, backoff = 0, Backoff(_PAUSE_MIN_S, _PAUSE_MAX_S)
        while not self._closed and self._left_bytes > 0:
            before = self._offset
            try:
                self._read_on()
            except FetchError as error:
                if self._offset != before:
                    trials, backoff = 0, Backoff(_PAUSE_MIN_S, _PAUSE_MAX_S)
                trials += 1
                if not error.passing or trials > _TRIALS:
                    raise
                with self._changed:
                    self._changed.wait_for(lambda: self._closed, backoff.pause_s())

    @property
    def _left_bytes(self) -> int:
        return self.request.size_bytes - (self._offset or 0)

    def _read_on(self) -> None:
        """One connection, to its end or the file's."""
        with Fetch(self._place, offset=self._offset, watch=self._watch) as fetch:
            found, wanted = fetch.size_bytes, self.request.size_bytes
            if found is not None and found != wanted:
                raise FetchError(f"{found} bytes there, {wanted} announced", passing=False)
            while not self._closed and self._left_bytes > 0:
                self._put(self._read_block(fetch))

    def _watch(self, size_bytes: int) -> None:
        """Called with what comes, also where it is passed over."""
        if self._closed:
            raise FetchError("nobody wants it any more", passing=False)
        if self._meter.is_too_slow(size_bytes, time.monotonic()):
            words = f"slow: {self._least.told()}; what came stays: say it again to go on"
            raise FetchError(words, passing=False)

    def _read_block(self, fetch: Fetch) -> bytes:
        block = bytearray()
        until_s = time.monotonic() + _BLOCK_S
        while len(block) < min(BLOCK_BYTES, self._left_bytes) and time.monotonic() < until_s:
            try:
                part = fetch.read()
            except FetchError as error:
                if not block or not error.passing:
                    raise
                break  # what was read is right; the next one raises again
            if not part:
                break
            block += part
        if not block:
            raise FetchError("the server ended it too early", passing=True)
        return bytes(block[: self._left_bytes])

    def _put(self, block: bytes) -> None:
        with self._changed:
            self._changed.wait_for(lambda: len(self._blocks) < _AHEAD or self._closed)
            self._blocks.append(block)
            self._offset += len(block)
        self._wake()
