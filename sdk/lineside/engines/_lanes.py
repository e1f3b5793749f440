"""Batches that are computed side by side: each lane has its own request and its own buffers."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Generator, Iterable, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from lineside.errors import EngineError

Outputs = Sequence[NDArray[np.float32]]
"""In the contract's order, the caller's own."""


class Lane(Protocol):
    """Computes one batch at a time, beside the other lanes."""

    def run(self, batch_nhwc: NDArray[np.uint8]) -> Outputs:
        """Compute, and wait for it."""
        ...

    def start(self, batch_nhwc: NDArray[np.uint8]) -> None:
        """Begin; the input stays as it is until `finish`."""
        ...

    def finish(self) -> Outputs:
        """Wait for what was begun."""
        ...


def run_in_turn(
    lanes: Sequence[Lane], batches: Iterable[NDArray[np.uint8]]
) -> Generator[Outputs, None, None]:
    """The outputs of each batch, in order; batch k is lane k's, counted round.

    By turns and not by who is free first, so that a self-test of enough images proves every lane.
    Close the iterator: lanes that are still at work are waited for.

    Raises:
        EngineError: of the first batch that failed.
    """
    if len(lanes) == 1:
        yield from map(lanes[0].run, batches)
        return
    busy: deque[Lane] = deque()
    try:
        for number, batch_nhwc in enumerate(batches):
            if len(busy) == len(lanes):
                yield busy.popleft().finish()
            lane = lanes[number % len(lanes)]
            lane.start(batch_nhwc)
            busy.append(lane)
        while busy:
            yield busy.popleft().finish()
    finally:
        for lane in busy:
            with contextlib.suppress(EngineError):  # the first fault is on its way already
                lane.finish()
