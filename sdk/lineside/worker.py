"""A thread whose death is noticed: what ended it is raised where somebody looks."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from typing import Final

# What is worth less than a verdict must not take a core from the next frame.
_NICE: Final = 10


class Worker:
    """Runs one function in a daemon thread, once.

    A daemon, so that a thread stuck in the kernel (a dead network share) cannot keep the process
    alive after the station has said goodbye.

    Args:
        body: what it runs.
        name: of the thread.
        lowered: with low priority, which threads that it starts inherit: an engine that is opened
            here computes with low priority for ever.
    """

    def __init__(self, body: Callable[[], None], *, name: str, lowered: bool = False) -> None:
        self._body = body
        self._lowered = lowered
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def join(self, timeout_s: float) -> bool:
        """Wait for the end; ``False`` when it still runs. One that never started has ended."""
        if self._thread.ident is None:
            return True
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def check(self) -> None:
        """Raise what ended the thread, if something did."""
        if self._failure is not None:
            raise self._failure

    @property
    def failure(self) -> BaseException | None:
        """What ended the thread, for whoever goes on without it."""
        return self._failure

    def _run(self) -> None:
        try:
            if self._lowered and sys.platform == "linux":  # where it means the thread alone
                os.setpriority(os.PRIO_PROCESS, 0, _NICE)
            self._body()
        except BaseException as failure:
            self._failure = failure
            raise
        finally:
            # The body's owner mostly owns this: they would hold each other, and what they hold.
            self._body = _nothing


def _nothing() -> None:
    pass
