"""The agreement matrix: every form with larger batches and more threads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from lineside.engines.machine import usable_cores
from lineside.errors import EngineError
from lineside_export.errors import GateError
from lineside_export.formats import AS_ON_DEVICE, Way
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
    """Every form that could be made, in every other way.

    Raises:
        GateError: a form that is to be sealed gives NaN.
        EngineError: an engine refuses such a form.
    """
    compared = []
    for found in tried:
        if found.made is None or found.comparison is None:
            continue
        try:
            compared += [judge.compare(found.made, way) for way in other_ways()]
        except (GateError, EngineError):
            # What is not sealed may fail in ways that no device will compute.
            if found.chosen:
                raise
    return tuple(compared)
