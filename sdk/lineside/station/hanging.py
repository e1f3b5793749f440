"""Whether a model on trial hangs, and the way out: nothing ends a thread inside an engine."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Final

from lineside.errors import EngineError

EXIT_HUNG: Final = EngineError.exit_code
"""Of a station that ended itself because the model on trial hung: to be started anew."""


class HangWatch:
    """Adds up for how long one part is computed on, by the looks of whoever watches.

    A process that was stopped for a while, or a machine that slept, is no model that hangs: what
    lies between two looks counts little, however long it was.

    Args:
        limit_s: so long is too long.
    """

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._part: int | None = None
        self._silent_s = 0.0

    def look(self, part: int | None, passed_s: float) -> bool:
        """Whether it hangs.

        Args:
            part: number of the part that is computed on; ``None``: none is.
            passed_s: since the last look, bounded by the caller.
        """
        if part is None or part != self._part:
            self._part, self._silent_s = part, 0.0
            return False
        self._silent_s += passed_s
        return self._silent_s > self._limit_s


@contextlib.contextmanager
def leaving_when_late(limit_s: float, last_deed: Callable[[], None]) -> Iterator[None]:
    """Within the block the program may take so long; then it does one thing more and ends.

    Args:
        limit_s: for the block.
        last_deed: in another thread; what it raises is told and changes nothing.
    """

    def leave() -> None:
        try:
            last_deed()
        finally:
            leave_hung(f"the model on trial did not open within {limit_s:g} s")

    timer = threading.Timer(limit_s, leave)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def leave_hung(words: str) -> None:
    """End this process at once, whatever its threads do. Does not return."""
    with contextlib.suppress(OSError, ValueError):
        print(f"lineside: {words}; ending, to be started again", file=sys.stderr, flush=True)
    os._exit(EXIT_HUNG)
