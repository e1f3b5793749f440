"""The clock as the one who triggers."""

from __future__ import annotations

import threading
import time
from typing import Final

from lineside.sources.trigger import Offer, Trigger
from lineside.worker import Worker

_JOIN_S: Final = 1.0


class IntervalFeed:
    """A `TriggerFeed`: one trigger each ``every_ms``, its part unknown.

    Moments that pass while nobody can be woken (a machine that slept) are not made up for; they
    are counted as ``intervals_missed``.
    """

    def __init__(self, every_ms: int) -> None:
        self.warn = ""
        self._every_ns = every_ms * 1_000_000
        self._missed = 0
        self._stopping = threading.Event()
        self._offer: Offer = lambda _: False
        self._worker = Worker(self._run, name="lineside-interval")

    @property
    def fault(self) -> str:
        """See `TriggerFeed`."""
        failure = self._worker.failure
        return "" if failure is None else f"interval: its thread ended: {failure!r}"

    @property
    def counts(self) -> dict[str, int]:
        """See `TriggerFeed`."""
        return {"intervals_missed": self._missed}

    def start(self, offer: Offer) -> None:
        """See `TriggerFeed`."""
        self._offer = offer
        self._worker.start()

    def close(self) -> None:
        """See `TriggerFeed`."""
        self._stopping.set()
        self._worker.join(_JOIN_S)

    def _run(self) -> None:
        due_ns = time.monotonic_ns() + self._every_ns
        while not self._stopping.wait(max(0.0, (due_ns - time.monotonic_ns()) / 1e9)):
            now_ns = time.monotonic_ns()
            if now_ns < due_ns:
                continue
            missed = (now_ns - due_ns) // self._every_ns
            self._missed += missed
            due_ns += missed * self._every_ns
            at_unix_ns = time.time_ns() - (now_ns - due_ns)
            self._offer(Trigger(part_id="", at_unix_ns=at_unix_ns, at_ns=due_ns))
            due_ns += self._every_ns
