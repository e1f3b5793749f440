"""A camera as a supply of pictures for triggered parts, and as a source without triggers."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from typing import Final

from lineside.sources.acquired import Acquired, capture_of
from lineside.sources.camera import Camera
from lineside.sources.camera_settings import CameraSettings
from lineside.sources.capture import Capture
from lineside.sources.outcome import Outcome
from lineside.sources.supply import without_frame
from lineside.sources.trigger import Trigger

_LONGEST_WAIT_S: Final = 0.2


class CameraSupply:
    """See `Supply`."""

    def __init__(self, settings: CameraSettings) -> None:
        self.identity = f"camera:{settings.address}"
        self.passed_over = 0
        self._settings = settings
        self._camera: Camera | None = None
        self._black = ""
        self._faults = {"frame_black": 0, "frame_frozen": 0}

    @property
    def fault(self) -> str:
        """See `Supply`."""
        return "" if self._camera is None else self._camera.fault

    @property
    def warn(self) -> str:
        """See `Supply`. Black counts where a part should be: a lamp may flash for parts alone."""
        camera = "" if self._camera is None else self._camera.warn
        return "; ".join(words for words in (camera, self._black) if words)

    @property
    def counts(self) -> dict[str, int]:
        """See `Supply`."""
        camera = self._camera
        return {
            "reconnects": 0 if camera is None else camera.reconnects,
            "undecoded": 0 if camera is None else camera.undecoded,
            **self._faults,
        }

    def start(self, deliver: Callable[[Acquired], None]) -> None:
        """See `Supply`."""
        self._camera = Camera(self._settings, deliver)
        self._camera.start()

    def look(self) -> float:
        """See `Supply`: pictures come by themselves."""
        if self._camera is not None:
            self._camera.check()
        return _LONGEST_WAIT_S

    def develop(self, outcome: Outcome[Acquired]) -> Capture:
        """See `Supply`."""
        if outcome.found is None or outcome.trigger is None:
            return without_frame(outcome)
        return self.make_capture(outcome.found, outcome.trigger)

    def make_capture(self, acquired: Acquired, trigger: Trigger | None) -> Capture:
        """A part's capture, and a note of whether there was light."""
        fault = acquired.fault
        if fault is not None:
            self._faults[fault.reason] += 1
        black = fault is not None and fault.reason == "frame_black"
        self._black = str(fault) if black else ""
        return capture_of(acquired, trigger)

    def is_gone(self, name: bytes) -> bool:  # noqa: ARG002 - no picture comes again
        """See `Supply`."""
        return True

    def close(self) -> None:
        """See `Supply`."""
        if self._camera is not None:
            self._camera.close()


class FreeCamera:
    """A `Source`: every picture of a camera is a part.

    In their order, as long as whoever takes them keeps up; else the oldest of the ring are let go,
    counted as ``frames_skipped``, because a camera cannot wait.
    """

    def __init__(self, settings: CameraSettings) -> None:
        self._supply = CameraSupply(settings)
        self._changed = threading.Condition()
        self._ring: deque[Acquired] = deque(maxlen=settings.ring)
        self._skipped = 0

    @property
    def identity(self) -> str:
        """See `Source`."""
        return self._supply.identity

    @property
    def can_wait(self) -> bool:
        """See `Source`."""
        return False

    @property
    def passed_over(self) -> int:
        """See `Source`."""
        return 0

    @property
    def fault(self) -> str:
        """See `Source`."""
        return self._supply.fault

    @property
    def warn(self) -> str:
        """See `Source`."""
        return self._supply.warn

    @property
    def counts(self) -> dict[str, int]:
        """See `Source`."""
        return {"frames_skipped": self._skipped, **self._supply.counts}

    def offer(self, trigger: Trigger) -> bool:  # noqa: ARG002 - nobody triggers here
        """See `Source`."""
        return False

    def when_accepted(self, call: Callable[[Trigger], None]) -> None:
        """See `Source`; none is."""

    def is_gone(self, name: bytes) -> bool:
        """See `Source`."""
        return self._supply.is_gone(name)

    def captures(self, stopping: threading.Event) -> Iterator[Capture | None]:
        """See `Source`."""
        self._supply.start(self._arrived)
        while not stopping.is_set():
            acquired = self._wait(self._supply.look())
            yield None if acquired is None else self._supply.make_capture(acquired, None)

    def close(self) -> None:
        """See `Source`."""
        self._supply.close()

    def _arrived(self, acquired: Acquired) -> None:
        with self._changed:
            self._skipped += len(self._ring) == self._ring.maxlen
            self._ring.append(acquired)
            self._changed.notify()

    def _wait(self, longest_s: float) -> Acquired | None:
        with self._changed:
            if not self._ring:
                self._changed.wait(longest_s)
            return self._ring.popleft() if self._ring else None
