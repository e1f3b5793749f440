"""How slow a transfer may be: one that drips would keep others' bundles out for days. Pure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class LeastPace:
    """Below this a transfer is given up; what has come stays, and it may be gone on with.

    Attributes:
        size_bytes: so many in each window. 64 KiB in a minute is a modem's pace.
        window_s: their time.
        pause_s: silence for so long counts for nothing: a broker was away, or a disk stood. Whoever
            is silent for as long has to give way to others anyway.
    """

    size_bytes: int = 64 * 1024
    window_s: float = 60.0
    pause_s: float = 10.0

    def told(self) -> str:
        """For people."""
        return f"under {self.size_bytes // 1024} KiB in {self.window_s:g} s"


class PaceMeter:
    """Of one transfer."""

    def __init__(self, least: LeastPace, now_s: float) -> None:
        self._least = least
        self._begin_s = self._last_s = now_s
        self._bytes = 0

    def is_too_slow(self, size_bytes: int, now_s: float) -> bool:
        """Count what has come, which may be nothing, and judge at the end of each window."""
        if now_s - self._last_s >= self._least.pause_s:
            self._begin_s, self._bytes = now_s, 0
        self._last_s = now_s
        self._bytes += size_bytes
        if now_s - self._begin_s < self._least.window_s:
            return False
        came, self._bytes, self._begin_s = self._bytes, 0, now_s
        return came < self._least.size_bytes
