"""Latency percentiles in bounded memory: a histogram whose buckets grow by a fixed ratio."""

from __future__ import annotations

import math
from array import array
from collections.abc import Sequence

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


class LatencyCounts(msgspec.Struct, frozen=True, kw_only=True):
    """A histogram of one moment, 10 KiB: of two, the difference is what came between them.

    Attributes:
        counts: durations by bucket, the shortest first.
        total_us: their sum.
        max_us: the longest.
    """

    counts: array[int]
    total_us: float
    max_us: float


class LatencyHistogram:
    """Counts durations; one thread adds, any thread may read a slightly older picture."""

    def __init__(self) -> None:
        self._counts = [0] * _BUCKETS
        self._total_us = 0.0
        self._max_us = 0.0

    def add(self, duration_us: float) -> None:
        """Count one duration; what lies outside 0.1 us to 10,000 s counts as the nearer end."""
        clipped = min(max(duration_us, _LOWEST_US), _HIGHEST_US)
        self._counts[int(math.log(clipped / _LOWEST_US, _RATIO))] += 1
        self._total_us += duration_us
        self._max_us = max(self._max_us, duration_us)

    def percentiles(self) -> Percentiles:
        """The median, the 99th percentile and the longest."""
        return _percentiles(self._counts, self._max_us)

    def counts(self) -> LatencyCounts:
        """All that was counted until now."""
        return LatencyCounts(
            counts=array("Q", self._counts), total_us=self._total_us, max_us=self._max_us
        )


def percentiles_between(before: LatencyCounts | None, after: LatencyCounts) -> Percentiles:
    """Of what was counted after ``before``; the longest is exact to its bucket's width, 2 %."""
    if before is None:
        return _percentiles(after.counts, after.max_us)
    counts = [new - old for new, old in zip(after.counts, before.counts, strict=True)]
    longest = max((index for index, count in enumerate(counts) if count), default=-1)
    longest_us = min(_LOWEST_US * _RATIO ** (longest + 1), after.max_us) if longest >= 0 else 0.0
    return _percentiles(counts, longest_us)


def _percentiles(counts: Sequence[int], max_us: float) -> Percentiles:
    count = sum(counts)
    return Percentiles(
        count=count,
        p50_us=_quantile(counts, count, 0.50, max_us),
        p99_us=_quantile(counts, count, 0.99, max_us),
        max_us=max_us,
    )


def _quantile(counts: Sequence[int], count: int, share: float, max_us: float) -> float:
    rank = math.ceil(share * count)
    seen = 0
    for index, here in enumerate(counts):
        seen += here
        if here and seen >= rank:
            middle = float(_LOWEST_US * _RATIO ** (index + 0.5))
            return min(middle, max_us)
    return 0.0
