"""A part whose time is over hears so at that moment, whatever the inspection is busy with."""

from __future__ import annotations

import heapq
import itertools
import threading
import time
from collections.abc import Callable

from lineside.station.turn import Turn
from lineside.worker import Worker


class DeadlineWatch:
    """Watches turns in a thread of its own; one that has ended meanwhile is let go in silence.

    Its memory is the turns of the last deadline's length.

    Args:
        expire: called with each turn that has not ended in time; claims it and gives the verdict.
        lead_ms: so much before the deadline: the verdict has still to be stored and sent.
    """

    def __init__(self, expire: Callable[[Turn], None], *, lead_ms: float) -> None:
        self._expire = expire
        self._lead_ns = round(lead_ms * 1e6)
        # The number decides between turns of one moment: turns themselves have no order.
        self._turns: list[tuple[int, int, Turn]] = []
        self._numbers = itertools.count()
        self._changed = threading.Condition()
        self._stopping = False
        self._worker = Worker(self._run, name="lineside-deadline")

    def start(self) -> None:
        """Start the thread."""
        self._worker.start()

    def check(self) -> None:
        """Raise what ended the thread, if something did."""
        self._worker.check()

    @property
    def failure(self) -> BaseException | None:
        """What ended the thread, if something did."""
        return self._worker.failure

    def add(self, turn: Turn) -> None:
        """Watch it, if it has a deadline."""
        if turn.deadline_ns is None:
            return
        at_ns = turn.deadline_ns - self._lead_ns
        with self._changed:
            heapq.heappush(self._turns, (at_ns, next(self._numbers), turn))
            if self._turns[0][2] is turn:
                self._changed.notify_all()

    def stop(self, timeout_s: float) -> None:
        """End the thread; what it still watched is the caller's."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        self._worker.join(timeout_s)

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._stopping and not self._is_due():
                    self._changed.wait(self._pause_s())
                if self._stopping:
                    return
                turn = heapq.heappop(self._turns)[2]
            if not turn.ended:
                self._expire(turn)

    def _is_due(self) -> bool:
        return bool(self._turns) and self._turns[0][0] <= time.monotonic_ns()

    def _pause_s(self) -> float | None:
        if not self._turns:
            return None
        return max(0.0, (self._turns[0][0] - time.monotonic_ns()) / 1e9)
