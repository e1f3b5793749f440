"""Frames from a folder, in name order: those that lie there, or those that arrive.

Alone (`FolderSource`: every file is a part) or brought together with triggers (`FolderSupply`).
"""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable, Iterator

from lineside.sources.capture import Capture, Memory
from lineside.sources.file_matching import Arrival
from lineside.sources.folder_files import FolderFiles, FolderSettings, Look
from lineside.sources.outcome import Outcome, no_frame
from lineside.sources.supply import without_frame
from lineside.sources.trigger import Trigger


class FolderSource:
    """A `Source`: every complete file is a part.

    Raises:
        InputDataError: at opening: the folder is not there.
    """

    def __init__(self, settings: FolderSettings, *, memory: Memory) -> None:
        self.warn = ""
        self.can_wait = True
        self._settings = settings
        self._files = FolderFiles(settings, memory=memory)

    @property
    def identity(self) -> str:
        """See `Source`."""
        return self._files.identity

    @property
    def fault(self) -> str:
        """See `Source`."""
        return self._files.fault

    @property
    def passed_over(self) -> int:
        """See `Source`."""
        return self._files.passed_over

    @property
    def counts(self) -> dict[str, int]:
        """See `Source`."""
        return {}

    def offer(self, trigger: Trigger) -> bool:  # noqa: ARG002 - nobody triggers here
        """See `Source`."""
        return False

    def when_accepted(self, call: Callable[[Trigger], None]) -> None:
        """See `Source`; none is."""

    def captures(self, stopping: threading.Event) -> Iterator[Capture | None]:
        """Complete files that were not inspected before, in name order; ``None`` after each look.

        A file that is still being written does not hold back the ones behind it.

        Raises:
            InputDataError: the folder cannot be read (with ``watch`` it is tried again instead).
            StorageError: the memory cannot be read.
        """
        while not stopping.is_set():
            looks = self._files.look()
            for name in self._files.complete(looks):
                if stopping.is_set():
                    return
                capture = self._files.take(name, looks[name])
                if capture is not None:
                    yield capture
            if not self._settings.watch and not self._files.unsettled:
                return
            yield None
            stopping.wait(self._settings.poll_ms / 1000)

    def is_gone(self, name: bytes) -> bool:
        """See `Source`; an unreachable folder has all its files."""
        return self._files.is_gone(name)

    def close(self) -> None:
        """See `Source`."""


class FolderSupply:
    """See `Supply`. A file is read when its capture is taken; only its name waits before.

    Raises:
        InputDataError: at opening: the folder is not there.
    """

    def __init__(self, settings: FolderSettings, *, memory: Memory) -> None:
        self.warn = ""
        self._files = FolderFiles(settings, memory=memory)
        self._poll_s = settings.poll_ms / 1000
        self._deliver: Callable[[Arrival], None] = lambda _: None
        # Files that were handed over and not yet developed: as many as the folder has.
        self._pending: dict[str, Look] = {}
        self._looked_s: float | None = None
        self._old: frozenset[str] | None = None

    @property
    def identity(self) -> str:
        """See `Supply`."""
        return self._files.identity

    @property
    def passed_over(self) -> int:
        """See `Supply`."""
        return self._files.passed_over

    @property
    def fault(self) -> str:
        """See `Supply`."""
        return self._files.fault

    @property
    def counts(self) -> dict[str, int]:
        """See `Supply`."""
        return {}

    def start(self, deliver: Callable[[Arrival], None]) -> None:
        """See `Supply`."""
        self._deliver = deliver

    def look(self) -> float:
        """See `Supply`."""
        now_s = time.monotonic()
        if self._looked_s is None or now_s - self._looked_s >= self._poll_s:
            self._hand_over()
            self._looked_s = now_s
        return max(0.0, self._looked_s + self._poll_s - time.monotonic())

    def develop(self, outcome: Outcome[Arrival]) -> Capture:
        """See `Supply`."""
        if outcome.found is None:
            return without_frame(outcome)
        look = self._pending.pop(outcome.found.name)
        if outcome.trigger is None:
            return self._without_part(outcome, outcome.found, look)
        return self._of_part(outcome.trigger, outcome.found, look)

    def is_gone(self, name: bytes) -> bool:
        """See `Supply`."""
        return self._files.is_gone(name)

    def close(self) -> None:
        """See `Supply`."""

    def _hand_over(self) -> None:
        looks = self._files.look()
        if self._old is None and not self._files.fault:
            self._old = frozenset(looks)
        for name in self._files.complete(looks, but=self._pending):
            self._pending[name] = looks[name]
            arrival = Arrival(
                name=name,
                part_id=self._files.part_of(name),
                at_unix_ns=time.time_ns(),
                at_ns=time.monotonic_ns(),
                old=self._old is not None and name in self._old,
            )
            self._deliver(arrival)
        if self._old:
            self._old &= looks.keys()

    def _of_part(self, trigger: Trigger, file: Arrival, look: Look) -> Capture:
        capture = self._files.take(file.name, look)
        if capture is None:
            fault = no_frame(f"{file.name}: was changed or taken away before it was read")
            return without_frame(Outcome(trigger=trigger, fault=fault))
        frame = capture.frame
        return dataclasses.replace(
            capture,
            part_id=trigger.part_id,
            product=trigger.product,
            taken_unix_ns=trigger.at_unix_ns,
            taken_ns=trigger.at_ns,
            frame=frame and dataclasses.replace(frame, part_id=trigger.part_id),
            trigger=trigger,
        )

    def _without_part(self, outcome: Outcome[Arrival], file: Arrival, look: Look) -> Capture:
        return Capture(
            part_id="",
            taken_unix_ns=file.at_unix_ns,
            taken_ns=file.at_ns,
            read_us=0.0,
            fault=outcome.fault,
            key=self._files.put_away(file.name, look),
        )
