"""Pictures of the parts that are not OK, for people: a bounded folder, written beside the loop.

They are worth less than a verdict. So the loop only hands over and never waits; what does not fit
is counted and let go; and whatever happens to the folder, the station goes on.
"""

from __future__ import annotations

import contextlib
import os
import queue
import re
import shutil
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from lineside.contract import AnomalyHead, Contract
from lineside.durable import make_folder, write_durably
from lineside.errors import ConfigurationError, StorageError
from lineside.frame import Frame, encode_png
from lineside.heatmap import draw_heatmap
from lineside.inspector import Inspection
from lineside.mqtt.payload import wire_part_id
from lineside.sources import Capture
from lineside.station.configuration import MapSettings
from lineside.verdict import Evaluation
from lineside.worker import Worker

# Frames in memory: four of 20 megapixels in colour are 240 MB.
_WAITING: Final = 4
# A picture of 2048x1536 px takes 620 ms to compress, one of this size 40 (one core of a server).
LONGEST_PX: Final = 1024
_TICK_S: Final = 0.2
_NICE: Final = 10
_OURS: Final = re.compile(r"\d{13}_.*\.map\.png")
_TORN: Final = re.compile(r"\.\d{13}_.*\.map\.png\.\d+\.part")


@dataclass(frozen=True, kw_only=True)
class _Order:
    capture: Capture
    frame: Frame
    inspection: Inspection
    contract: Contract


class MapKeeper:
    """Draws and stores in a thread of its own.

    Args:
        settings: with a ``path``.
    """

    def __init__(self, settings: MapSettings) -> None:
        if settings.path is None:
            raise ConfigurationError("maps.path: name a folder", path="maps.path")
        self.written = 0
        self._folder = settings.path
        self._settings = settings
        self._orders: queue.Queue[_Order] = queue.Queue(_WAITING)
        self._stopping = threading.Event()
        self._worker = Worker(self._run, name="lineside-maps")
        # Each is written by one thread only: the loop's, and ours.
        self._dropped = 0
        self._failed = 0
        self._behind = False
        self._trouble = ""

    @property
    def lost(self) -> int:
        """Pictures that were not written, since the start."""
        return self._dropped + self._failed

    @property
    def fault(self) -> str:
        """Why pictures are lost just now, ``""`` when all is well."""
        if self._worker.failure is not None:
            return f"no more pictures until the next start: {self._worker.failure!r}"
        behind = "parts that are not OK come faster than their pictures can be written"
        return self._trouble or (behind if self._behind else "")

    def start(self) -> None:
        """Start the thread."""
        self._worker.start()

    def offer(
        self, capture: Capture, frame: Frame, inspection: Inspection, contract: Contract
    ) -> None:
        """Have a picture made where the part is not OK and there is a map; never waits.

        Args:
            capture: whose part it is.
            frame: what was inspected: the capture's, or a region of it.
            inspection: with the map.
            contract: of the model.
        """
        wanted = inspection.verdict.evaluation is not Evaluation.OK
        if not wanted or inspection.map_hw is None:
            return
        order = _Order(capture=capture, frame=frame, inspection=inspection, contract=contract)
        try:
            self._orders.put_nowait(order)
        except queue.Full:
            self._dropped += 1
            self._behind = True

    def stop(self, timeout_s: float) -> None:
        """Write what waits, for so long at most; the rest is lost."""
        self._stopping.set()
        self._worker.join(timeout_s)
        # Some wait where the time was too short, and where a fault of ours ended the thread.
        with contextlib.suppress(queue.Empty):
            while True:
                self._orders.get_nowait()
                self._dropped += 1

    def _run(self) -> None:
        if sys.platform == "linux":  # where this means the thread and not the process
            # Compressing must not take a core from the next frame.
            os.setpriority(os.PRIO_PROCESS, 0, _NICE)
        while True:
            try:
                order = self._orders.get(timeout=_TICK_S)
            except queue.Empty:
                if self._stopping.is_set():
                    return
                continue
            self._keep(order)
            if self._orders.empty():
                self._behind = False

    def _keep(self, order: _Order) -> None:
        try:
            self._write(order)
        except StorageError as error:
            self._failed += 1
            self._trouble = str(error)
        except Exception:
            self._failed += 1
            raise
        else:
            self.written += 1
            self._trouble = ""

    def _write(self, order: _Order) -> None:
        frame, found = order.frame, order.inspection
        assert found.map_hw is not None
        self._make_room()
        picture = draw_heatmap(
            frame.pixels_hwc, found.map_hw, found.verdict, order.contract, longest_px=LONGEST_PX
        )
        write_durably(self._free_path(order.capture), [encode_png(picture)])

    def _make_room(self) -> None:
        """Before writing, so that the folder never holds more than it may."""
        make_folder(self._folder)
        try:
            names = sorted(os.listdir(self._folder))  # noqa: PTH208 - names are all it takes
            ours = [name for name in names if _OURS.fullmatch(name)]
            torn = [name for name in names if _TORN.fullmatch(name)]  # left by a power cut
            for name in [*torn, *ours[: max(0, len(ours) - self._settings.most + 1)]]:
                (self._folder / name).unlink(missing_ok=True)
            free_bytes = shutil.disk_usage(self._folder).free
        except OSError as error:
            raise StorageError(f"{self._folder}: {error.strerror}") from error
        if free_bytes < self._settings.keep_free_mib * 2**20:
            raise StorageError(
                f"{self._folder}: less than maps.keep_free_mib = {self._settings.keep_free_mib} "
                "are free: the room is left to verdicts"
            )

    def _free_path(self, capture: Capture) -> Path:
        taken_ms = min(max(capture.taken_unix_ns // 1_000_000, 0), 10**13 - 1)
        part = re.sub(r"[^A-Za-z0-9._~-]", "_", wire_part_id(capture.part_id)) or "unknown"
        number, path = 1, self._folder / f"{taken_ms:013d}_{part}.map.png"
        while os.path.lexists(path):
            number += 1
            path = self._folder / f"{taken_ms:013d}_{part}-{number}.map.png"
        return path


def check_map_given(contract: Contract) -> None:
    """Whether there will ever be a picture.

    Raises:
        ConfigurationError: the model gives no map.
    """
    if not isinstance(contract.head, AnomalyHead) or not contract.head.map:
        raise ConfigurationError(
            "maps.path: the bundle's model gives no map; take [maps] out", path="maps.path"
        )
