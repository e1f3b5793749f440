"""The last minutes of counters that only rise: differences between marks, in bounded memory."""

from __future__ import annotations

from collections import deque

from lineside.latency import LatencyCounts, LatencyHistogram, percentiles_between
from lineside.mqtt.health import StageFigures

WINDOW_S = 300.0
_MARKS = 5
RATE_WINDOW_S = 60.0
_RATE_MARKS = 12


class RecentLatency:
    """Percentiles of the last five to six minutes; costs nothing where durations are counted.

    A mark, 10 KiB, is taken each minute; at most six are held. One thread looks.
    """

    def __init__(self) -> None:
        self._marks: deque[tuple[float, LatencyCounts | None]] = deque(maxlen=_MARKS + 1)

    def look(self, histogram: LatencyHistogram, now_s: float) -> StageFigures:
        """Figures of this moment.

        Args:
            now_s: of a monotonic clock, seconds.
        """
        now = histogram.counts()
        if not self._marks:
            self._marks.append((now_s, None))  # what came before the first look is recent too
        found = percentiles_between(self._marks[0][1], now)
        if now_s - self._marks[-1][0] >= WINDOW_S / _MARKS:
            self._marks.append((now_s, now))
        return StageFigures(
            p50_us=found.p50_us,
            p99_us=found.p99_us,
            max_us=found.max_us,
            recent=found.count,
            count=sum(now.counts),
            total_us=now.total_us,
        )


class RecentRate:
    """How often something came in the last minute, from a counter."""

    def __init__(self) -> None:
        self._marks: deque[tuple[float, int]] = deque(maxlen=_RATE_MARKS + 1)

    def look(self, count: int, now_s: float) -> float:
        """Per minute; 0 at the first look.

        Args:
            count: so many until now.
            now_s: of a monotonic clock, seconds.
        """
        if not self._marks or now_s - self._marks[-1][0] >= RATE_WINDOW_S / _RATE_MARKS:
            self._marks.append((now_s, count))
        since_s, before = self._marks[0]
        return 60.0 * (count - before) / (now_s - since_s) if now_s > since_s else 0.0
