"""The agreement matrix: the forms that matter, with larger batches and more threads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from lineside.engines.machine import usable_cores
from lineside_export.formats import AS_ON_DEVICE, FLOAT, Way
from lineside_export.parity import Comparison
from lineside_export.search import Judge, Tried

_BATCHES: Final = (1, 8)
_THREADS: Final = (1, 2)


def other_ways() -> tuple[Way, ...]:
    """All but a device's own; more threads than this machine has cores are none of their own."""
    ways = (
        Way(batch=batch, threads=threads)
        for batch in _BATCHES
        for threads in _THREADS
        if threads <= usable_cores()
    )
    return tuple(way for way in ways if way != AS_ON_DEVICE)


def compare_ways(judge: Judge, tried: Sequence[Tried]) -> tuple[Comparison, ...]:
    """The float forms and those to be sealed, each in every other way.

    Raises:
        GateError: one gives NaN.
        EngineError: an engine refuses one.
    """
    forms = [
        found.made
        for found in tried
        if found.made is not None
        and found.comparison is not None
        and (found.chosen or found.precision == FLOAT)
    ]
    return tuple(judge.compare(made, way) for made in forms for way in other_ways())
