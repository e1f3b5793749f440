"""What a sensor remembers of what it did: the last lines, numbered."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Final

_KEPT: Final = 256
# Fits the smallest buffer: a line that did not would hide all that come after it.
_LINE_BYTES: Final = 160
_MOST_LINES: Final = 16
_TEXT_HEAD_BYTES: Final = 3  # CBOR's, before each text


class Logbook:
    """Bounded; lines go out by their numbers. Thread-safe: a self-test writes beside the server.

    Args:
        told: hears each line, too.
    """

    def __init__(self, told: Callable[[str], None] = lambda _line: None) -> None:
        self._lines: deque[str] = deque(maxlen=_KEPT)
        self._written = 0
        self._lock = threading.Lock()
        self._told = told

    def write(self, words: str) -> None:
        """A line more, or several where it is long; what a terminal would obey is left out."""
        rest = "".join(letter if letter.isprintable() else " " for letter in words)
        for _ in range(_MOST_LINES):
            line = fit_words(rest, _LINE_BYTES)
            rest = rest[len(line) :]
            with self._lock:
                self._lines.append(line)
                self._written += 1
            self._told(line)
            if not rest:
                return

    def read(self, first: int, room_bytes: int) -> tuple[int, tuple[str, ...]]:
        """Lines from a number on, or from the oldest that is kept, as many as fit.

        Returns:
            The number of the first, and the lines.
        """
        with self._lock:
            lines = list(self._lines)
            oldest = self._written - len(lines)
        start = max(first, oldest)
        found = []
        for line in lines[start - oldest :]:
            room_bytes -= len(line.encode("utf-8")) + _TEXT_HEAD_BYTES
            if room_bytes < 0:
                break
            found.append(line)
        return start, tuple(found)


def fit_words(words: str, room_bytes: int) -> str:
    """As many letters of their beginning as fit into so many bytes of UTF-8."""
    return words.encode("utf-8")[: max(0, room_bytes)].decode("utf-8", "ignore")
