"""Parts that keep coming, each presented once."""

from __future__ import annotations

import re
import threading
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Final

import cv2
from account import Delivery
from tiny_bundle import tiny_frame

_PART: Final = re.compile(rb'"part":"([^"]*)"')
_CLEAN_EVERY: Final = 64


def part_of(delivery: Delivery) -> str:
    """The part's id as it stands on the wire, without decoding the rest; empty where unknown."""
    found = _PART.search(delivery.payload)
    return found[1].decode("ascii") if found else ""


class Feeder(ABC):
    """A thread that presents one part after the other.

    Attributes:
        parts: ids presented so far, in order.
        bad: those of them that must not be called OK.
    """

    def __init__(self, *, rate_hz: float) -> None:
        self.parts: list[str] = []
        self.bad: set[str] = set()
        self._pause_s = 1 / rate_hz
        self._received: set[str] = set()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def unheard(self) -> int:
        """Parts presented whose verdict has not been received."""
        return len(self.parts) - len(self._received)

    def heard(self, delivery: Delivery) -> None:
        """For the witness to call: this part has its verdict."""
        self._received.add(part_of(delivery))

    def present(self, count: int) -> None:
        """So many at once, from the caller's thread."""
        for _ in range(count):
            part = f"part-{len(self.parts) + 1:06d}"
            self._present(part, len(self.parts))
            self.parts.append(part)

    def start(self) -> None:
        """Present one after the other, until `stop`."""
        self._stopping.clear()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """No more parts."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _run(self) -> None:
        while not self._stopping.wait(self._pause_s):
            self.present(1)

    @abstractmethod
    def _present(self, part: str, number: int) -> None: ...


class FolderFeeder(Feeder):
    """A picture a part, renamed into the folder when complete, taken out when received."""

    def __init__(self, folder: Path, *, rate_hz: float) -> None:
        super().__init__(rate_hz=rate_hz)
        folder.mkdir(exist_ok=True)
        self._folder = folder
        # Dark ones are OK, bright ones NOT_OK.
        self._pictures = [
            cv2.imencode(".png", tiny_frame(bright=number % 2 == 1, seed=number))[1].tobytes()
            for number in range(8)
        ]

    def _present(self, part: str, number: int) -> None:
        if number % 2:
            self.bad.add(part)
        aside = self._folder / f".{part}.tmp"
        aside.write_bytes(self._pictures[number % len(self._pictures)])
        aside.rename(self._folder / f"{part}.png")
        if number % _CLEAN_EVERY == 0:
            self._clean()

    def _clean(self) -> None:
        for picture in self._folder.glob("part-*.png"):
            if picture.stem in self._received:
                picture.unlink(missing_ok=True)
