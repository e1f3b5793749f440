"""A station that is told to pause judges nothing, and says so of every part."""

from __future__ import annotations

import threading
import time


class Pause:
    """Whether a part comes in a pause. Thread-safe.

    Args:
        paused: it is one from the start.
    """

    def __init__(self, *, paused: bool = False) -> None:
        self._lock = threading.Lock()
        # Of the last pause, monotonic nanoseconds; it lasts while there is no end.
        self._since_ns = 0
        self._until_ns: int | None = None if paused else 0

    @property
    def is_on(self) -> bool:
        """Just now."""
        return self._until_ns is None

    def begin(self) -> None:
        """From now on."""
        with self._lock:
            if self._until_ns is not None:
                self._since_ns, self._until_ns = time.monotonic_ns(), None

    def end(self) -> None:
        """Parts that come from now on are judged."""
        with self._lock:
            if self._until_ns is None:
                self._until_ns = time.monotonic_ns()

    def holds(self, taken_ns: int) -> bool:
        """Whether a part is not to be judged: it came in the pause, or one lasts.

        Args:
            taken_ns: when its turn began, monotonic.
        """
        with self._lock:
            return self._until_ns is None or self._since_ns <= taken_ns < self._until_ns
