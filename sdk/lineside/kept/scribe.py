"""A thread of low priority that writes what may be lost: nobody ever waits for it.

What it writes is worth less than a verdict. So whoever orders only hands over; what does not fit is
counted and let go; and whatever happens to the folder, the station goes on.
"""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable
from typing import Final, Generic, TypeVar

from lineside.errors import FrameError, StorageError
from lineside.worker import Worker

# Orders hold frames: four of 20 megapixels in colour are 240 MB.
_WAITING: Final = 4
_TICK_S: Final = 0.2

Order = TypeVar("Order")


class Scribe(Generic[Order]):
    """Takes orders without waiting, carries them out one by one, and counts.

    Args:
        write: carries out an order; `StorageError` and `FrameError` cost this one only.
        name: of the thread.
        things: what is written, for people, e.g. ``pictures``.
        behind: what is said while orders come faster than they are carried out.
    """

    def __init__(
        self, write: Callable[[Order], None], *, name: str, things: str, behind: str
    ) -> None:
        self.written = 0
        self._write = write
        self._things = things
        self._behind_words = behind
        self._orders: queue.Queue[Order] = queue.Queue(_WAITING)
        self._stopping = threading.Event()
        self._worker = Worker(self._run, name=name, lowered=True)
        self._counting = threading.Lock()
        self._dropped = 0
        # By our thread only.
        self._failed = 0
        self._behind = False
        self._trouble = ""

    @property
    def lost(self) -> int:
        """Orders that were not carried out, since the start."""
        return self._dropped + self._failed

    @property
    def fault(self) -> str:
        """Why something is lost just now, ``""`` when all is well."""
        if self._worker.failure is not None:
            return f"no more {self._things} until the next start: {self._worker.failure!r}"
        return self._trouble or (self._behind_words if self._behind else "")

    def start(self) -> None:
        """Start the thread."""
        self._worker.start()

    def order(self, order: Order) -> None:
        """Have it carried out where there is room; from any thread, and never waits."""
        try:
            self._orders.put_nowait(order)
        except queue.Full:
            with self._counting:
                self._dropped += 1
            self._behind = True

    def stop(self, timeout_s: float) -> None:
        """Carry out what waits, for so long at most; the rest is lost."""
        self._stopping.set()
        self._worker.join(timeout_s)
        # Some wait where the time was too short, and where a fault of ours ended the thread.
        with contextlib.suppress(queue.Empty):
            while True:
                self._orders.get_nowait()
                with self._counting:
                    self._dropped += 1

    def _run(self) -> None:
        while True:
            try:
                order = self._orders.get(timeout=_TICK_S)
            except queue.Empty:
                if self._stopping.is_set():
                    return
                continue
            self._carry_out(order)
            # Not held while nothing comes: it has a frame.
            del order
            if self._orders.empty():
                self._behind = False

    def _carry_out(self, order: Order) -> None:
        try:
            self._write(order)
        except (StorageError, FrameError) as error:
            self._failed += 1
            self._trouble = str(error)
        except Exception:
            self._failed += 1
            raise
        else:
            self.written += 1
            self._trouble = ""
