"""A camera that runs by itself: read in a thread of its own, opened again when it is gone.

OpenCV's calls may take seconds or for ever (a network that swallows packets), so nobody waits for
this thread: what is wrong is told by `Camera.fault`, also while a call hangs.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from numpy.typing import NDArray

from lineside.backoff import Backoff
from lineside.errors import LinesideError
from lineside.sources.acquired import Acquired
from lineside.sources.camera_settings import CameraSettings
from lineside.sources.capture_device import CaptureDevice, open_camera
from lineside.sources.picture_watch import PictureWatch
from lineside.worker import Worker

_JOIN_S: Final = 1.0


class Camera:
    """Hands every picture to ``deliver``, in its own thread.

    Attributes:
        warn: what it does otherwise than asked, ``""``.
        reconnects: openings that succeeded, but the first.
        undecoded: pictures that came damaged.
    """

    def __init__(self, settings: CameraSettings, deliver: Callable[[Acquired], None]) -> None:
        self.warn = ""
        self.reconnects = 0
        self.undecoded = 0
        self._settings = settings
        self._deliver = deliver
        self._watch = PictureWatch(
            frozen_frames=settings.frozen_frames,
            black_mean=settings.black_mean,
            black_spread=settings.black_spread,
        )
        self._why = ""
        self._heard_ns = time.monotonic_ns()
        self._openings = 0
        self._stopping = threading.Event()
        self._backoff = Backoff(settings.reconnect_min_s, settings.reconnect_max_s)
        self._worker = Worker(self._run, name="lineside-camera")

    def start(self) -> None:
        """Begin to read."""
        self._heard_ns = time.monotonic_ns()
        self._worker.start()

    def close(self) -> None:
        """Stop reading; a call that hangs is left alone, its thread ends with the process."""
        self._stopping.set()
        self._worker.join(_JOIN_S)

    @property
    def fault(self) -> str:
        """Why its pictures cannot be judged just now, ``""`` when all is well."""
        if self._worker.failure is not None:
            return f"{self._settings.place}: its thread ended: {self._worker.failure!r}"
        if self._why:
            return self._why
        if time.monotonic_ns() - self._heard_ns > self._settings.silence_s * 1e9:
            return f"{self._settings.place}: no picture for {self._settings.silence_s:g} s"
        return f"{self._settings.place}: its picture is frozen" if self._watch.frozen else ""

    def check(self) -> None:
        """Raise what ended the thread: a fault of ours."""
        self._worker.check()

    def _run(self) -> None:
        while not self._stopping.is_set():
            device = self._open()
            if device is not None:
                with contextlib.closing(device):
                    self._read(device)
            self._stopping.wait(self._backoff.pause_s())

    def _open(self) -> CaptureDevice | None:
        try:
            device = open_camera(self._settings)
        except LinesideError as error:
            self._why = str(error)
            return None
        self._openings += 1
        self.reconnects = self._openings - 1
        self.warn = f"{self._settings.place}: {device.wants}" if device.wants else ""
        self._watch.forget()
        return device

    def _read(self, device: CaptureDevice) -> None:
        pause_s = self._pause_between(device)
        while not self._stopping.is_set():
            if not device.grab():
                self._why = f"{self._settings.place}: gives no more pictures (unplugged, or gone?)"
                return
            at_unix_ns, at_ns = time.time_ns(), time.monotonic_ns()
            pixels = device.retrieve()
            if pixels is None:
                self.undecoded += 1
            else:
                self._hand_on(pixels, at_unix_ns, at_ns)
            if pause_s:
                self._stopping.wait(pause_s)

    def _hand_on(self, pixels: NDArray[Any], at_unix_ns: int, at_ns: int) -> None:
        read_us = (time.monotonic_ns() - at_ns) / 1000
        place = self._settings.place
        acquired = Acquired(
            pixels=pixels,
            source=place,
            at_unix_ns=at_unix_ns,
            at_ns=at_ns,
            read_us=read_us,
            fault=self._watch.judge(pixels, place),
        )
        self._why, self._heard_ns = "", time.monotonic_ns()
        self._backoff.succeeded()
        self._deliver(acquired)

    def _pause_between(self, device: CaptureDevice) -> float:
        """A film in the camera's place goes at its own pace; a camera sets the pace itself."""
        address = self._settings.address
        is_film = isinstance(address, str) and Path(address).is_file()
        return 1 / device.fps if is_film and device.fps else 0.0
