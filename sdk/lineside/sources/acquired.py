"""One picture of a camera, as the station got it: nobody has said yet which part it shows."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from lineside.errors import FrameError
from lineside.frame import Frame, as_hwc_rgb
from lineside.sources.capture import Capture
from lineside.sources.trigger import Trigger


@dataclass(frozen=True, kw_only=True, eq=False)
class Acquired:
    """A picture and its moment.

    Attributes:
        pixels: as OpenCV gives it: (H, W) or (H, W, 3) in blue, green, red. It becomes a frame
            only when a part needs it: turning every picture of a camera would cost a core.
        source: the camera, for people.
        at_unix_ns: when the station had it from the camera, wall clock. It was exposed before.
        at_ns: the same moment on the monotonic clock.
        read_us: decoding, microseconds.
        fault: why it must not be judged (black, frozen).
    """

    pixels: NDArray[Any]
    source: str
    at_unix_ns: int
    at_ns: int
    read_us: float = 0.0
    fault: FrameError | None = None


def capture_of(acquired: Acquired, trigger: Trigger | None) -> Capture:
    """The turn of a part that is on this picture; without a trigger it begins with the picture."""
    started_ns = time.monotonic_ns()
    part_id = "" if trigger is None else trigger.part_id
    found = acquired.fault or _frame_of(acquired, part_id)
    return Capture(
        part_id=part_id,
        product="" if trigger is None else trigger.product,
        taken_unix_ns=acquired.at_unix_ns if trigger is None else trigger.at_unix_ns,
        taken_ns=acquired.at_ns if trigger is None else trigger.at_ns,
        read_us=acquired.read_us + (time.monotonic_ns() - started_ns) / 1000,
        frame=found if isinstance(found, Frame) else None,
        fault=found if isinstance(found, FrameError) else None,
        trigger=trigger,
    )


def _frame_of(acquired: Acquired, part_id: str) -> Frame | FrameError:
    try:
        return Frame(
            pixels_hwc=as_hwc_rgb(acquired.pixels, acquired.source),
            source=acquired.source,
            part_id=part_id,
            captured_unix_ns=acquired.at_unix_ns,
        )
    except FrameError as fault:
        return fault
