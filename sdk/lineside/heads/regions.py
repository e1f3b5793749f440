"""Where a map lies beyond a limit: connected regions, in pixels of the frame.

The only head's file with OpenCV in it: connected regions by hand in Python would cost more than the
network of a small model.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from lineside.verdict import Region

# Finer than this, the outline of a region gains nothing: a cell of it is 1.6 % of a frame's side.
_FINE_CELLS: Final = 64
_LEAST: Final = float(np.finfo(np.float32).min)


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """One connected region of a map.

    Attributes:
        region: what holds all of it.
        area_px: how much of the frame belongs to it, at least 1.
        peak: the map's largest value in it.
    """

    region: Region
    area_px: int
    peak: float


def find_places(
    map_hw: NDArray[np.float32], limit: float, frame_size_hw: tuple[int, int], *, at_most: int
) -> list[Place]:
    """Regions of cells beyond a limit, or where no cell is, the one around the map's peak.

    Cells that touch by a side or a corner are of one region. A region is its cells, whole, and as
    much around them as the map enlarged bilinearly lies beyond the limit. The enlarged map alone
    would draw a cell that is barely beyond the limit as a dot in its middle, and the cells alone
    would cut off a defect that lies across their edge; neither ever joins or splits regions,
    because along an axis the enlarged map is linear between two cells.

    The region around the peak is what lies in the upper half of the map's own range: of its range
    and not of the peak, because a map's lowest value need not be 0.

    Args:
        map_hw: (h, w) float32, spread evenly over the frame; what is not finite counts as nothing.
        limit: values beyond, not at it.
        frame_size_hw: of the frame as acquired, pixels.
        at_most: so many, those with the largest peaks; at least 1.

    Returns:
        The largest peak first, of equal ones the upper left first; none where no value is finite.
    """
    # For models that say where alone. The golden self-test loads it, not the first bad part.
    import cv2

    finite_hw = np.isfinite(map_hw)
    holes = not finite_hw.all()
    if not map_hw.size or (holes and not finite_hw.any()):
        return []
    low, peak, _, _ = cv2.minMaxLoc(map_hw, finite_hw.view(np.uint8) if holes else None)
    # As NumPy compares it with the cells, so that both agree about a value that is just at it.
    limit = float(np.float32(min(max(limit, _LEAST), -_LEAST)))
    if peak <= limit:
        # Half-way less one step, so that a map that is the same everywhere is all of it.
        limit = float(np.nextafter(np.float32(low / 2 + peak / 2), np.float32(-np.inf)))
        at_most = 1
    # No more than the limit: a hole is of no region, and joins none.
    values_hw = np.where(finite_hw, map_hw, np.float32(min(low, limit))) if holes else map_hw
    return _grow(values_hw, limit, frame_size_hw, at_most)


def _grow(
    values_hw: NDArray[np.float32], limit: float, frame_size_hw: tuple[int, int], at_most: int
) -> list[Place]:
    """From the largest value that is not taken yet, all that touches it, and so on."""
    import cv2

    factor = _factor(values_hw)
    untaken_hw = _enlarge_beyond(values_hw, limit, factor)
    # An odd factor keeps every cell's own value, in the middle of what it becomes.
    middle = factor // 2
    found: list[Place] = []
    while len(found) < at_most:
        cells_hw = np.ascontiguousarray(untaken_hw[middle::factor, middle::factor])
        _, peak, _, (column, row) = cv2.minMaxLoc(values_hw, cells_hw)
        # A region without a cell is the enlarging's own rounding.
        if column < 0 or peak <= limit:
            break
        seed_xy = (column * factor + middle, row * factor + middle)
        # Paints it 0, and tells its area and what holds it. To label all of the map costs as much
        # as several of these (benchmarks/README.md, "Tried and left out").
        area, _, _, box = cv2.floodFill(untaken_hw, None, seed_xy, 0, flags=8)
        found.append(_place(box, area, peak, untaken_hw.shape, frame_size_hw))
    return found


def _enlarge_beyond(values_hw: NDArray[np.float32], limit: float, factor: int) -> NDArray[np.uint8]:
    """1 where the enlarged map or the cell itself is beyond the limit, else 0."""
    import cv2

    # Row after row, whatever the map is: OpenCV paints in nothing else.
    cells_hw = np.greater(values_hw, limit, order="C")
    if factor == 1:
        return cells_hw.view(np.uint8)
    height, width = (size * factor for size in values_hw.shape)
    large_hw = cv2.resize(values_hw, (width, height), interpolation=cv2.INTER_LINEAR)
    return ((large_hw > limit) | cells_hw.repeat(factor, axis=0).repeat(factor, axis=1)).view(
        np.uint8
    )


def _factor(values_hw: NDArray[np.float32]) -> int:
    """The smallest odd one that makes the longer side fine enough."""
    least: int = -(-_FINE_CELLS // max(values_hw.shape))
    return least | 1


def _place(
    box: Sequence[int],
    area: int,
    peak: float,
    size_hw: tuple[int, int],
    frame_size_hw: tuple[int, int],
) -> Place:
    x0, y0, width, height = box
    (map_height, map_width), (frame_height, frame_width) = size_hw, frame_size_hw
    share = area / (map_height * map_width)
    return Place(
        region=Region(
            x0_px=x0 * frame_width // map_width,
            y0_px=y0 * frame_height // map_height,
            x1_px=-(-(x0 + width) * frame_width // map_width),
            y1_px=-(-(y0 + height) * frame_height // map_height),
        ),
        area_px=max(1, round(share * frame_height * frame_width)),
        peak=peak,
    )
