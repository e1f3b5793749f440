"""The last things that went wrong, each told once however often it comes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping

from lineside.mqtt.health import FAULTS_LIMIT, HealthFault

# Longer words than this reach nobody: the wire cuts at 80 characters.
_WORDS_LIMIT_CHARS = 400
_KINDS_LIMIT = 16
_REST = "other"


class FaultLog:
    """Thread-safe. Eight faults and sixteen kinds are held, whatever comes.

    Args:
        clock_ns: nanoseconds since 1970 UTC.
    """

    def __init__(self, *, clock_ns: Callable[[], int] = time.time_ns) -> None:
        self._clock_ns = clock_ns
        self._lock = threading.Lock()
        self._last: dict[tuple[str, str], HealthFault] = {}  # the oldest first
        self._counts: dict[str, int] = {}
        self._active: dict[str, str] = {}

    def note(self, what: str, words: str) -> None:
        """Something went wrong once, e.g. the engine at one frame; the same words are counted."""
        words = words[:_WORDS_LIMIT_CHARS]
        with self._lock:
            before = self._last.pop((what, words), None)
            self._last[what, words] = HealthFault(
                t=self._clock_ns() // 1_000_000,
                what=what,
                words=words,
                count=1 if before is None else before.count + 1,
            )
            while len(self._last) > FAULTS_LIMIT:
                del self._last[next(iter(self._last))]
            known = what in self._counts or len(self._counts) < _KINDS_LIMIT
            kind = what if known else _REST
            self._counts[kind] = self._counts.get(kind, 0) + 1

    def hold(self, active: Mapping[str, str]) -> None:
        """What is wrong just now, by what; noted where it is new or says something new."""
        now = {what: words for what, words in active.items() if words}
        with self._lock:
            before, self._active = self._active, now
        for what, words in now.items():
            if before.get(what) != words:
                self.note(what, words)

    @property
    def active(self) -> Mapping[str, str]:
        """What is wrong just now, as last held."""
        return self._active

    def last(self) -> tuple[HealthFault, ...]:
        """The newest first."""
        with self._lock:
            return tuple(reversed(self._last.values()))

    def counts(self) -> dict[str, int]:
        """Faults by what, since the start."""
        with self._lock:
            return dict(self._counts)
