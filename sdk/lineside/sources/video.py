"""A video file: its frames are parts, one after the other, as fast as they are taken."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Final

import msgspec

from lineside.errors import FrameError, InputDataError
from lineside.frame import Frame, as_hwc_rgb
from lineside.framekey import FrameKey
from lineside.sources.capture import Capture, Memory
from lineside.sources.capture_device import CaptureDevice, open_film
from lineside.sources.folder_files import Look, look_of
from lineside.sources.trigger import Trigger
from lineside.wholetext import whole_text

# Between two looks around while frames are passed over.
_LOOK_AROUND_S: Final = 0.5


class VideoSettings(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    tag_field="kind",
    tag="video",
):
    """Section ``[source]`` with ``kind = "video"``.

    Attributes:
        path: the file.
        every_nth: the first frame is a part, and each so many-th after it.
        loop: begin again at its end, for ever; else the source ends with the file.
    """

    path: Path
    every_nth: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)] = 1
    loop: bool = False

    @property
    def place(self) -> str:
        """The file, for people."""
        return str(self.path)


class VideoSource:
    """A `Source`. A part is called after the file and the frame's number, from 0: ``film-000012``.

    Raises:
        InputDataError: at opening: the file is not there, or no video.
    """

    def __init__(self, settings: VideoSettings, *, memory: Memory) -> None:
        open_film(settings.path).close()
        self.fault = ""
        self.warn = ""
        self.can_wait = True
        self.passed_over = 0
        file = os.fsencode(settings.path.resolve())
        self.identity = f"video:{file.decode('utf-8', 'backslashreplace')}"
        self._settings = settings
        self._memory = memory
        self._tally = {"undecoded": 0, "rounds": 0}

    @property
    def counts(self) -> dict[str, int]:
        """See `Source`."""
        return dict(self._tally)

    def offer(self, trigger: Trigger) -> bool:  # noqa: ARG002 - nobody triggers here
        """See `Source`."""
        return False

    def when_accepted(self, call: Callable[[Trigger], None]) -> None:
        """See `Source`; none is."""

    def is_gone(self, name: bytes) -> bool:  # noqa: ARG002 - all frames go with the file
        """See `Source`."""
        folder = self._settings.path.parent
        try:
            return folder.is_dir() and not self._settings.path.exists()
        except OSError:
            return False  # a share that answers with a fault says nothing about its files

    def close(self) -> None:
        """See `Source`."""

    def captures(self, stopping: threading.Event) -> Iterator[Capture | None]:
        """Each frame is read when it is asked for.

        Raises:
            InputDataError: the file has gone, or ends before its last frame.
            StorageError: the memory cannot be read.
        """
        while not stopping.is_set():
            with contextlib.closing(open_film(self._settings.path)) as film:
                yield from self._round(film, stopping)
            if not self._settings.loop:
                return
            self._tally["rounds"] += 1

    def _round(self, film: CaptureDevice, stopping: threading.Event) -> Iterator[Capture | None]:
        look = self._look()
        number, looked_s = 0, time.monotonic()
        while not stopping.is_set():
            taken_unix_ns, taken_ns = time.time_ns(), time.monotonic_ns()
            if not film.grab():
                self._check_whole(number, film.frame_count)
                return
            if number % self._settings.every_nth == 0:
                key = self._key_of(number, look)
                if not self._was_inspected(key):
                    yield self._take(film, number, taken_unix_ns, taken_ns, key)
                    looked_s = time.monotonic()
            if time.monotonic() - looked_s > _LOOK_AROUND_S:
                yield None
                looked_s = time.monotonic()
            number += 1

    def _look(self) -> Look:
        try:
            return look_of(self._settings.path.stat())
        except OSError as error:
            raise InputDataError(
                f"source.path = {self._settings.path}: {error.strerror}"
            ) from error

    def _take(
        self,
        film: CaptureDevice,
        number: int,
        taken_unix_ns: int,
        taken_ns: int,
        key: FrameKey | None,
    ) -> Capture:
        part_id = f"{whole_text(self._settings.path.stem)}-{number:06d}"
        found = self._frame(film, part_id)
        return Capture(
            part_id=part_id,
            taken_unix_ns=taken_unix_ns,
            taken_ns=taken_ns,
            read_us=(time.monotonic_ns() - taken_ns) / 1000,
            frame=found if isinstance(found, Frame) else None,
            fault=found if isinstance(found, FrameError) else None,
            key=key,
        )

    def _frame(self, film: CaptureDevice, part_id: str) -> Frame | FrameError:
        source = f"{self._settings.path}: {part_id}"
        pixels = film.retrieve()
        if pixels is None:
            self._tally["undecoded"] += 1
            return FrameError(f"{source}: cannot be decoded", reason="frame_decode")
        try:
            return Frame(
                pixels_hwc=as_hwc_rgb(pixels, source),
                source=str(self._settings.path),
                part_id=part_id,
            )
        except FrameError as fault:
            return fault

    def _key_of(self, number: int, look: Look) -> FrameKey | None:
        """How the frame is known again after a restart; in a loop all come again by intent."""
        if self._settings.loop:
            return None
        return FrameKey(
            source=self.identity,
            name=b"%d" % number,
            size_bytes=look.size_bytes,
            mtime_ns=look.mtime_ns,
        )

    def _was_inspected(self, key: FrameKey | None) -> bool:
        if key is None or self._memory.recall(key.source, key.name) != key:
            return False
        self.passed_over += 1
        return True

    def _check_whole(self, frames: int, told: int) -> None:
        # Some formats only estimate how many they hold.
        if frames == 0 or frames < 0.99 * told - 1:
            raise InputDataError(
                f"source.path = {self._settings.path}: ends after {frames} of {told} frames: it is "
                "damaged or cut short"
            )
