"""A source that gives what a test hands it, at the moment at which it does."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import ClassVar

import numpy as np

from lineside.frame import Frame
from lineside.sources import Capture, Trigger


class Feed:
    """Nothing of it can come again, and nothing waits: as of a camera."""

    identity = "feed"
    fault = ""
    warn = ""
    passed_over = 0
    counts: ClassVar[dict[str, int]] = {}
    can_wait = False

    def __init__(self) -> None:
        self._captures: list[Capture] = []
        self._changed = threading.Condition()
        self._closed = False

    def give(
        self,
        part_id: str,
        *,
        level: int = 0,
        product: str = "",
        trigger: Trigger | None = None,
    ) -> None:
        pixels = np.full((8, 8, 1), level, np.uint8)
        capture = Capture(
            part_id=part_id,
            product=product,
            trigger=trigger,
            taken_unix_ns=time.time_ns(),
            taken_ns=time.monotonic_ns(),
            read_us=1.0,
            frame=Frame(pixels_hwc=pixels, part_id=part_id),
        )
        with self._changed:
            self._captures.append(capture)
            self._changed.notify_all()

    def offer(self, trigger: Trigger) -> bool:
        return False

    def when_accepted(self, call: Callable[[Trigger], None]) -> None:
        self.accepted = call

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def captures(self, stopping: threading.Event) -> Iterator[Capture | None]:
        while not stopping.is_set():
            with self._changed:
                self._changed.wait_for(lambda: self._captures or self._closed, 0.1)
                if not self._captures and self._closed:
                    return
                capture = self._captures.pop(0) if self._captures else None
            yield capture

    def is_gone(self, name: bytes) -> bool:
        return False
