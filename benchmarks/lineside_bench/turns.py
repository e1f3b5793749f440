"""Ways take turns: each round every way once, so that a busy machine is busy for all of them."""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from time import perf_counter_ns
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from lineside_bench.resampling import median_interval

WARM_UP_ROUNDS: Final = 20
_CLOCK_READINGS: Final = 2000

Micros = NDArray[np.float64]
"""Durations in microseconds, a round each."""


@dataclass(frozen=True, kw_only=True)
class Spread:
    """Durations of one way in microseconds; jitter is p99 less p50."""

    rounds: int
    p50_us: float
    p90_us: float
    p99_us: float
    p99_9_us: float
    max_us: float
    jitter_us: float


def clock_overhead_us() -> float:
    """What two readings of the clock cost in themselves; the median of many."""
    readings = [-(perf_counter_ns() - perf_counter_ns()) for _ in range(_CLOCK_READINGS)]
    return float(np.median(readings)) / 1e3


def take_turns(
    ways: Mapping[str, Callable[[int], object]], *, rounds: int, warm_up: int = WARM_UP_ROUNDS
) -> tuple[dict[str, Micros], dict[str, Micros]]:
    """Call every way once a round, in an order that changes from round to round.

    Args:
        ways: what is called, with the round's number (for the frame to take).
        rounds: that count.
        warm_up: rounds before them.

    Returns:
        Durations by way, the clock's own cost subtracted: those that count, and the warm-up's.
    """
    cost_us = clock_overhead_us()
    taken = {name: np.zeros(warm_up + rounds) for name in ways}
    order = np.random.default_rng(0)
    names = list(ways)
    gc.collect()
    for number in range(warm_up + rounds):
        for place in order.permutation(len(names)):
            name = names[place]
            way = ways[name]
            started_ns = perf_counter_ns()
            way(number)
            taken[name][number] = (perf_counter_ns() - started_ns) / 1e3 - cost_us
    return (
        {name: durations[warm_up:] for name, durations in taken.items()},
        {name: durations[:warm_up] for name, durations in taken.items()},
    )


def spread(durations_us: Micros) -> Spread:
    """Percentiles of one way."""
    p50, p90, p99, p99_9 = np.percentile(durations_us, (50, 90, 99, 99.9)).tolist()
    return Spread(
        rounds=len(durations_us),
        p50_us=round(p50, 2),
        p90_us=round(p90, 2),
        p99_us=round(p99, 2),
        p99_9_us=round(p99_9, 2),
        max_us=round(float(durations_us.max()), 2),
        jitter_us=round(p99 - p50, 2),
    )


def ratio(ways: Mapping[str, Micros], one: str, other: str) -> dict[str, Any]:
    """How one way compares with another, round by round: what the whole machine did cancels out.

    Returns:
        ``p50``: ratio of the medians; ``low`` and ``high``: 2.5 % and 97.5 % of it over 200 draws
        of rounds with replacement.
    """
    first, second = ways[one], ways[other]
    low, high = median_interval(first, second, np.divide)
    p50 = float(np.median(first) / np.median(second))
    return {"p50": round(p50, 3), "low": round(low, 3), "high": round(high, 3)}
