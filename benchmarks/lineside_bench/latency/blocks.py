"""Turns of several calls with a rest before each, for ways that would disturb each other's next."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from time import perf_counter_ns
from typing import Final

import numpy as np

from lineside_bench.turns import Micros, clock_overhead_us

# Threads that spin have given up long before.
_REST_S: Final = 0.05
CALLS: Final = 8
"""Of a turn."""

_FEWEST: Final = 2


def take_blocks(
    ways: Mapping[str, Callable[[int], object]], *, budget_s: float
) -> dict[str, Micros]:
    """Each round every way once, in an order that changes: a rest, a call, and calls that count.

    Args:
        ways: what is called, with a number that grows.
        budget_s: about how long all of it may take; two rounds are taken whatever it says.

    Returns:
        Durations of single calls by way, the clock's own cost subtracted; as many of each.
    """
    cost_us = clock_overhead_us()
    taken: dict[str, list[float]] = {name: [] for name in ways}
    order = np.random.default_rng(0)
    names = list(ways)
    until_s = time.monotonic() + budget_s
    rounds = 0
    while names and (rounds < _FEWEST or time.monotonic() < until_s):
        for place in order.permutation(len(names)):
            taken[names[place]] += _block(ways[names[place]], rounds * CALLS, cost_us)
        rounds += 1
    return {name: np.array(durations) for name, durations in taken.items()}


def _block(way: Callable[[int], object], first: int, cost_us: float) -> list[float]:
    time.sleep(_REST_S)
    way(first)
    durations = []
    for number in range(first, first + CALLS):
        started_ns = perf_counter_ns()
        way(number)
        durations.append((perf_counter_ns() - started_ns) / 1e3 - cost_us)
    return durations
