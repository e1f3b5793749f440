"""Nine LED types: where their solder pads lie, where the chip sits, and how heat gets out.

Invented, in the manner of the high-power LEDs of Röhrich et al., sec. 3 (nine types, pads apart by
gaps); lengths are shares of the picture's edge, x to the right, y down.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

FloatImage = NDArray[np.float32]

PACKAGE_MARGIN: Final = 0.07
"""Outside this frame the picture shows the board."""

_CORNER_RADIUS: Final = 0.03


@dataclass(frozen=True, kw_only=True)
class Pad:
    """A rectangle of solder, corners rounded: (x0, y0, x1, y1)."""

    box_xyxy: tuple[float, float, float, float]


@dataclass(frozen=True, kw_only=True)
class LedType:
    """One product's footprint.

    Attributes:
        name: as in the table.
        pads: two or three.
        chip_xy: centre of the chip, below which most heat flows.
        chip_spread: standard deviation of the heat flow around that centre.
        joint_share: of the sound joint in the whole thermal resistance.
        weakness: how fast cracks grow, 1 being average (stiffness and height differ by type).
    """

    name: str
    pads: tuple[Pad, ...]
    chip_xy: tuple[float, float]
    chip_spread: float
    joint_share: float
    weakness: float


def _led(
    number: int,
    boxes: tuple[tuple[float, float, float, float], ...],
    chip_xy: tuple[float, float],
    chip_spread: float,
    joint_share: float,
    weakness: float,
) -> LedType:
    return LedType(
        name=f"led{number}",
        pads=tuple(Pad(box_xyxy=box) for box in boxes),
        chip_xy=chip_xy,
        chip_spread=chip_spread,
        joint_share=joint_share,
        weakness=weakness,
    )


LED_TYPES: Final = (
    # Two pads: halves side by side; large and small; one above the other; shallow and deep.
    _led(1, ((0.11, 0.12, 0.47, 0.88), (0.53, 0.12, 0.89, 0.88)), (0.50, 0.50), 0.30, 0.50, 1.0),
    _led(2, ((0.10, 0.14, 0.61, 0.86), (0.69, 0.14, 0.90, 0.86)), (0.38, 0.50), 0.24, 0.58, 0.9),
    _led(3, ((0.13, 0.10, 0.87, 0.46), (0.13, 0.54, 0.87, 0.90)), (0.50, 0.48), 0.27, 0.46, 1.2),
    _led(4, ((0.12, 0.11, 0.88, 0.34), (0.12, 0.41, 0.88, 0.89)), (0.50, 0.64), 0.25, 0.55, 0.8),
    # Three pads: one between strips, upright and lying; one over two; thirds; one beside two.
    _led(5, ((0.10, 0.12, 0.23, 0.88), (0.29, 0.12, 0.71, 0.88), (0.77, 0.12, 0.90, 0.88)),
         (0.50, 0.50), 0.22, 0.60, 0.9),
    _led(6, ((0.14, 0.10, 0.86, 0.25), (0.14, 0.32, 0.86, 0.68), (0.14, 0.75, 0.86, 0.90)),
         (0.50, 0.50), 0.23, 0.52, 1.1),
    _led(7, ((0.11, 0.11, 0.89, 0.58), (0.11, 0.66, 0.46, 0.89), (0.54, 0.66, 0.89, 0.89)),
         (0.50, 0.36), 0.25, 0.57, 1.0),
    _led(8, ((0.10, 0.15, 0.335, 0.85), (0.385, 0.15, 0.615, 0.85), (0.665, 0.15, 0.90, 0.85)),
         (0.50, 0.50), 0.32, 0.45, 1.3),
    _led(9, ((0.11, 0.11, 0.56, 0.89), (0.65, 0.11, 0.89, 0.46), (0.65, 0.54, 0.89, 0.89)),
         (0.36, 0.50), 0.24, 0.56, 1.0),
)  # fmt: skip


def grid_xy(grid_px: int) -> tuple[FloatImage, FloatImage]:
    """Pixel centres of a square grid in shares of its edge: x (1, G) and y (G, 1)."""
    centres = ((np.arange(grid_px) + 0.5) / grid_px).astype(np.float32)
    return centres[np.newaxis, :], centres[:, np.newaxis]


def pad_distance(pad: Pad, grid_px: int) -> FloatImage:
    """(G, G) signed distance to a pad's border in shares of the edge, negative inside."""
    x0, y0, x1, y1 = pad.box_xyxy
    x, y = grid_xy(grid_px)
    beyond_x = np.abs(x - (x0 + x1) / 2) - ((x1 - x0) / 2 - _CORNER_RADIUS)
    beyond_y = np.abs(y - (y0 + y1) / 2) - ((y1 - y0) / 2 - _CORNER_RADIUS)
    outside = np.hypot(np.maximum(beyond_x, 0), np.maximum(beyond_y, 0))
    inside = np.minimum(np.maximum(beyond_x, beyond_y), 0)
    distance: FloatImage = outside + inside - np.float32(_CORNER_RADIUS)
    return distance


def pads_mask(led: LedType, grid_px: int) -> NDArray[np.bool_]:
    """(P, G, G) bool, one plane a pad."""
    return np.stack([pad_distance(pad, grid_px) < 0 for pad in led.pads])


def heat_weight(led: LedType, grid_px: int) -> FloatImage:
    """(G, G) share of the heat that each place of the sound joint carries, 0 outside the pads.

    A bell around the chip's centre on a plateau: heat spreads in the package before it reaches the
    solder. Sums to 1.
    """
    x, y = grid_xy(grid_px)
    offset = ((x - led.chip_xy[0]) ** 2 + (y - led.chip_xy[1]) ** 2) / led.chip_spread**2
    flow = (0.15 + np.exp(-0.5 * offset)) * pads_mask(led, grid_px).any(axis=0)
    weight: FloatImage = (flow / flow.sum()).astype(np.float32)
    return weight
