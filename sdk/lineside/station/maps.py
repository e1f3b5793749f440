"""Pictures of the parts that are not OK, for people: a bounded folder, written beside the loop.

They are worth less than a verdict: see `lineside.kept.scribe`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from lineside.contract import AnomalyHead, Contract
from lineside.errors import ConfigurationError
from lineside.frame import Frame, encode_png
from lineside.heatmap import draw_heatmap
from lineside.inspector import Inspection
from lineside.kept import Ring, Scribe
from lineside.kept.naming import name_part, name_time
from lineside.sources import Capture
from lineside.station.configuration import MapSettings
from lineside.verdict import Evaluation

# A picture of 2048x1536 px takes 620 ms to compress, one of this size 40 (one core of a server).
LONGEST_PX: Final = 1024
_OURS: Final = re.compile(r"\d{13}_.*\.map\.png")


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
        self._ring = Ring(
            settings.path,
            _OURS,
            section="maps",
            most=settings.most,
            keep_free_mib=settings.keep_free_mib,
        )
        self._scribe = Scribe(
            self._write,
            name="lineside-maps",
            things="pictures",
            behind="parts that are not OK come faster than their pictures can be written",
        )

    @property
    def written(self) -> int:
        """Pictures that were written, since the start."""
        return self._scribe.written

    @property
    def lost(self) -> int:
        """Pictures that were not written, since the start."""
        return self._scribe.lost

    @property
    def fault(self) -> str:
        """Why pictures are lost just now, ``""`` when all is well."""
        return self._scribe.fault

    def start(self) -> None:
        """Start the thread."""
        self._scribe.start()

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
        if wanted and inspection.map_hw is not None:
            self._scribe.order(
                _Order(capture=capture, frame=frame, inspection=inspection, contract=contract)
            )

    def stop(self, timeout_s: float) -> None:
        """Write what waits, for so long at most; the rest is lost."""
        self._scribe.stop(timeout_s)

    def free_room(self, wanted_bytes: int, *, beside: Path | None = None) -> int:
        """Delete pictures for whoever needs the disk more; see `Ring.free_room`."""
        return self._ring.free_room(wanted_bytes, beside=beside)

    def _write(self, order: _Order) -> None:
        frame, found = order.frame, order.inspection
        assert found.map_hw is not None
        self._ring.make_room()
        picture = draw_heatmap(
            frame.pixels_hwc, found.map_hw, found.verdict, order.contract, longest_px=LONGEST_PX
        )
        self._ring.store(self._free_name(order.capture), encode_png(picture))

    def _free_name(self, capture: Capture) -> str:
        stem = f"{name_time(capture.taken_unix_ns)}_{name_part(capture.part_id)}"
        number, name = 1, f"{stem}.map.png"
        while self._ring.taken(name):
            number += 1
            name = f"{stem}-{number}.map.png"
        return name


def check_map_given(contract: Contract) -> None:
    """Whether there will ever be a picture.

    Raises:
        ConfigurationError: the model gives no map.
    """
    if not isinstance(contract.head, AnomalyHead) or not contract.head.map:
        raise ConfigurationError(
            "maps.path: the bundle's model gives no map; take [maps] out", path="maps.path"
        )
