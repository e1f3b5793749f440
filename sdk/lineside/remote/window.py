"""Which stretch of a file goes out next: a few ahead of what the station has. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from lineside.remote.chunk import AHEAD_LIMIT_BYTES, CHUNKS_AHEAD


@dataclass(frozen=True, kw_only=True)
class Stretch:
    """Bytes ``[offset, offset + size_bytes)``."""

    offset: int
    size_bytes: int


class Window:
    """Follows one file.

    Args:
        size_bytes: of the file.
        chunk_bytes: of a stretch, at most.

    Attributes:
        acknowledged: bytes from the beginning that the station surely has.
    """

    def __init__(self, size_bytes: int, chunk_bytes: int) -> None:
        self.acknowledged = 0
        self._size_bytes = size_bytes
        self._chunk_bytes = chunk_bytes
        ahead_bytes = min(CHUNKS_AHEAD * chunk_bytes, AHEAD_LIMIT_BYTES)
        self._ahead_bytes = max(ahead_bytes, chunk_bytes)
        self._next = 0
        self._went_back_at: tuple[int, float] | None = None

    @property
    def whole(self) -> bool:
        """Whether the station has all."""
        return self.acknowledged == self._size_bytes

    @property
    def out(self) -> bool:
        """Whether something is on its way, or was lost."""
        return self._next > self.acknowledged

    def holds(self, offset: int) -> bool:
        """Whether a station can have so much."""
        return 0 <= offset <= self._size_bytes

    def set(self, offset: int) -> None:
        """The station says anew where to go on, perhaps further back."""
        self.acknowledged = self._next = offset

    def grow(self, offset: int) -> None:
        """The station has more."""
        self.acknowledged = offset
        self._next = max(self._next, offset)

    def go_back(self, now_s: float, again_s: float) -> bool:
        """Send again from what is acknowledged; not twice from one place within ``again_s``."""
        before = self._went_back_at
        if before and before[0] == self.acknowledged and now_s - before[1] < again_s:
            return False
        self._went_back_at = (self.acknowledged, now_s)
        self._next = self.acknowledged
        return True

    def fill(self) -> Iterator[Stretch]:
        """What may go out now."""
        end = min(self.acknowledged + self._ahead_bytes, self._size_bytes)
        while self._next < end:
            size_bytes = min(self._chunk_bytes, end - self._next)
            yield Stretch(offset=self._next, size_bytes=size_bytes)
            self._next += size_bytes
