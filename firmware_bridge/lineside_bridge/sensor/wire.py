"""One direction of a serial line that carries so many bits a second. Pure; the time is given."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final, NamedTuple

_BITS_PER_BYTE: Final = 10  # start, eight, stop
_SLICE_S: Final = 0.002
_LATE_S: Final = 0.02


def _nothing() -> None:
    return None


class Arrival(NamedTuple):
    """Bytes that have come through, and what is to be done now."""

    data: bytes
    then: Callable[[], None] = _nothing


class Wire:
    """Bytes go in at once and come out when they would have.

    Args:
        baud: bits a second; 0: no delay.
    """

    def __init__(self, baud: int = 0) -> None:
        self.baud = baud
        self._free_s = 0.0
        self._queue: deque[tuple[float, Arrival]] = deque()

    def put(
        self,
        data: bytes,
        now_s: float,
        *,
        delay_s: float = 0.0,
        follows: bool = False,
        then: Callable[[], None] = _nothing,
    ) -> None:
        """Hand bytes over.

        Args:
            delay_s: before they begin to leave.
            follows: right behind those before, however late we are to look.
            then: to be done when the last has come through.
        """
        if not follows or now_s - self._free_s > _LATE_S:
            self._free_s = max(self._free_s, now_s + delay_s)
        size = self.slice_bytes
        for start in range(0, len(data), size):
            part = data[start : start + size]
            self._free_s += len(part) * _BITS_PER_BYTE / self.baud if self.baud else 0.0
            self._queue.append((self._free_s, Arrival(part)))
        self._queue.append((self._free_s, Arrival(b"", then)))

    def take(self, now_s: float) -> list[Arrival]:
        """What has come through by now."""
        found = []
        while self._queue and self._queue[0][0] <= now_s:
            found.append(self._queue.popleft()[1])
        return found

    def clear(self) -> None:
        """The power is gone."""
        self._queue.clear()

    @property
    def due_s(self) -> float | None:
        """When something comes through; ``None``: nothing is on its way."""
        return self._queue[0][0] if self._queue else None

    @property
    def slice_bytes(self) -> int:
        """What it carries in a moment."""
        return max(1, round(self.baud / _BITS_PER_BYTE * _SLICE_S)) if self.baud else 65_536
