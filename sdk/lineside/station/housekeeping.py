"""What a station does now and then, in a thread of its own: a slow share may take its time."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from typing import Final

from lineside.errors import StorageError
from lineside.outbox import Outbox
from lineside.sources import Source
from lineside.worker import Worker

# Frames that are gone from their source need not be remembered for ever: at ten parts a second that
# would fill the outbox in weeks. Three days cover a share that is away for a weekend, its mount
# point empty, and comes back with the same files.
REMEMBER_GONE_S: Final = 3 * 24 * 3600.0
_FORGET_EVERY_S: Final = 3600.0
# So much of what was seen of drift is forgotten by a power cut.
_SAVE_EVERY_S: Final = 600.0


class Housekeeper:
    """Forgets frames that are gone, and has what was seen of drift remembered.

    Args:
        source: says which frames are gone; it may be asked about each file of a large folder.
        outbox: remembers them.
        save: of drift; must not raise for a disk that takes nothing.
    """

    def __init__(self, source: Source, outbox: Outbox, save: Callable[[], None]) -> None:
        self._source = source
        self._outbox = outbox
        self._save = save
        self._stopping = threading.Event()
        self._worker = Worker(self._run, name="lineside-housekeeper")

    def start(self) -> None:
        """Start the thread."""
        self._worker.start()

    def check(self) -> None:
        """Raise what ended the thread, if something did."""
        self._worker.check()

    def stop(self, timeout_s: float) -> None:
        """End it, as soon as the source has answered."""
        self._stopping.set()
        self._worker.join(timeout_s)

    def _run(self) -> None:
        forget_at_s, save_at_s = time.monotonic(), time.monotonic() + _SAVE_EVERY_S
        while not self._stopping.wait(max(0.0, min(forget_at_s, save_at_s) - time.monotonic())):
            if time.monotonic() >= forget_at_s:
                self._forget()
                forget_at_s = time.monotonic() + _FORGET_EVERY_S
            if time.monotonic() >= save_at_s:
                self._save()
                save_at_s = time.monotonic() + _SAVE_EVERY_S

    def _forget(self) -> None:
        with contextlib.suppress(StorageError):  # as good an hour later
            self._outbox.forget(
                self._source.identity, self._source.is_gone, REMEMBER_GONE_S, self._stopping
            )
