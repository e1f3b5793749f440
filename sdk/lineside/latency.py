"""Latency percentiles in bounded memory: a histogram whose buckets grow by a fixed ratio."""

from __future__ import annotations

import math

import msgspec

# A bucket is 2 % wide, so a percentile is off by at most 1 %; 0.1 us to 10,000 s in 1,280 buckets.
_RATIO = 1.02
_LOWEST_US = 0.1
_HIGHEST_US = 1e10
_BUCKETS = math.ceil(math.log(_HIGHEST_US / _LOWEST_US, _RATIO)) + 1


class Percentiles(msgspec.Struct, frozen=True, kw_only=True):
    """Microseconds; all zero where nothing was measured."""

    count: int
    p50_us: float
    p99_us: float
    max_us: float


class LatencyHistogram:
    """Counts durations; one thread adds, any thread may read a slightly older picture."""

    def __init__(self) -> None:
        self._counts = [0] * _BUCKETS
        self._count = 0
        self._max_us = 0.0

    def add(self, duration_us: float) -> None:
        """Count one duration; what lies outside 0.1 us to 10,000 s counts as the nearer end."""
        clipped = min(max(duration_us, _LOWEST_US), _HIGHEST_US)
        self._counts[int(math.log(clipped / _LOWEST_US, _RATIO))] += 1
        self._count += 1
        self._max_us = max(self._max_us, duration_us)

    def percentiles(self) -> Percentiles:
        """The median, the 99th percentile and the longest."""
        return Percentiles(
            count=self._count,
            p50_us=self._quantile(0.50),
            p99_us=self._quantile(0.99),
            max_us=self._max_us,
        )

    def _quantile(self, share: float) -> float:
        rank = math.ceil(share * self._count)
        seen = 0
        for index, count in enumerate(self._counts):
            seen += count
            if count and seen >= rank:
                middle = float(_LOWEST_US * _RATIO ** (index + 0.5))
                return min(middle, self._max_us)
        return 0.0
