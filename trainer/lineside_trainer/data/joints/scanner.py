"""What the acoustic microscope shows: dark solder, bright gaps, voids and cracks; and its faults.

Sound comes back where it meets gas: gaps, voids and cracks are bright, solder lets it through.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from lineside_trainer.data.joints.damage import BoolImage, Damage, smooth_noise
from lineside_trainer.data.joints.layouts import (
    PACKAGE_MARGIN,
    FloatImage,
    LedType,
    Pad,
    pad_distance,
)

OVERSAMPLING: Final = 2

_SOLDER: Final = 0.20
_GAP: Final = 0.78
_BOARD: Final = 0.60


@dataclass(frozen=True, kw_only=True)
class Acquisition:
    """How one scan differs from the next.

    Attributes:
        shift_xy: of the part, in shares of the picture's edge.
        turn_deg: of the part.
        gain: of the receiver.
        offset: of the receiver, in shares of full scale.
        focus: standard deviation of the blur in shares of the edge.
    """

    shift_xy: tuple[float, float]
    turn_deg: float
    gain: float
    offset: float
    focus: float


@dataclass(frozen=True, kw_only=True)
class Surface:
    """What of one part's look never changes: (G, G) float32 fields.

    Attributes:
        sound: reflectivity without cracks, 0..1.
        crack_brightness: reflectivity that an old crack reaches.
    """

    sound: FloatImage
    crack_brightness: FloatImage


def draw_surface(
    led: LedType, damage: Damage, grid_px: int, generator: np.random.Generator
) -> Surface:
    """Paint a part before ageing: board, gaps, solder with its grain, voids."""
    soft = np.float32(0.011)
    package = Pad(box_xyxy=(PACKAGE_MARGIN, PACKAGE_MARGIN, 1 - PACKAGE_MARGIN, 1 - PACKAGE_MARGIN))
    inside_package = _step(-pad_distance(package, grid_px), soft)
    sound = _BOARD + (_GAP - _BOARD) * inside_package
    sound = sound + np.float32(0.03) * smooth_noise(grid_px, 0.05, generator)
    for pad in led.pads:
        level = _SOLDER + generator.normal(0, 0.025)
        grain = np.float32(level) + np.float32(0.022) * smooth_noise(grid_px, 0.02, generator)
        cover = _step(-pad_distance(pad, grid_px), soft)
        sound = sound + (grain - sound) * cover
    bubble = cv2.GaussianBlur(damage.void.astype(np.float32), (0, 0), 0.006 * grid_px)
    sound = sound + (np.float32(generator.uniform(0.6, 0.72)) - sound) * bubble
    glow = np.float32(0.58) + np.float32(0.08) * smooth_noise(grid_px, 0.025, generator)
    return Surface(sound=sound.astype(np.float32), crack_brightness=glow.astype(np.float32))


def draw_acquisition(generator: np.random.Generator) -> Acquisition:
    """A scan's own placement, gain and focus."""
    shift_x, shift_y = generator.normal(0, 0.009, 2).clip(-0.022, 0.022).tolist()
    return Acquisition(
        shift_xy=(shift_x, shift_y),
        turn_deg=float(np.clip(generator.normal(0, 0.8), -2, 2)),
        gain=float(np.clip(generator.normal(1.0, 0.10), 0.75, 1.25)),
        offset=float(generator.normal(0.0, 0.025)),
        focus=float(generator.uniform(0.009, 0.017)),
    )


def scan(
    surface: Surface,
    damage: Damage,
    cycles: float,
    acquisition: Acquisition,
    size_px: int,
    generator: np.random.Generator,
) -> NDArray[np.uint8]:
    """(S, S) uint8 picture of a part after so many cycles."""
    grid_px = len(surface.sound)
    # A crack opens further with time, and the wider it gapes the more sound comes back.
    age = np.clip((cycles - damage.opening_cycle) / 350.0, -1.0, 3.0)
    gape = np.where(damage.crack(cycles), 0.55 + 0.45 * (1.0 - np.exp(-age)), 0.0)
    picture = surface.sound + (surface.crack_brightness - surface.sound) * gape.astype(np.float32)
    picture = place(picture, acquisition)
    picture = cv2.GaussianBlur(picture, (0, 0), acquisition.focus * grid_px)
    picture = cv2.resize(picture, (size_px, size_px), interpolation=cv2.INTER_AREA)
    picture = picture * acquisition.gain + acquisition.offset
    noise = generator.standard_normal((size_px, size_px), dtype=np.float32)
    lines = generator.standard_normal((size_px, 1), dtype=np.float32)  # the raster's scan lines
    picture = picture * (1 + np.float32(0.02) * noise) + np.float32(0.012) * noise
    picture = picture + np.float32(0.006) * lines
    grey: NDArray[np.uint8] = np.rint(np.clip(picture, 0, 1) * 255).astype(np.uint8)
    return grey


def mask_as_scanned(mask: BoolImage, acquisition: Acquisition, size_px: int) -> NDArray[np.uint8]:
    """(S, S) uint8, 255 where at least half of a pixel is damaged, placed as in the picture."""
    placed = place(mask.astype(np.float32), acquisition, border=0.0)
    cover = cv2.resize(placed, (size_px, size_px), interpolation=cv2.INTER_AREA)
    marked: NDArray[np.uint8] = np.where(cover >= 0.5, 255, 0).astype(np.uint8)
    return marked


def place(
    picture: FloatImage, acquisition: Acquisition, *, border: float | None = None
) -> FloatImage:
    """Turn about the centre and shift; beyond the border the picture goes on, or is ``border``."""
    grid_px = len(picture)
    centre = (grid_px - 1) / 2
    matrix = cv2.getRotationMatrix2D((centre, centre), acquisition.turn_deg, 1.0)
    matrix[:, 2] += np.asarray(acquisition.shift_xy) * grid_px
    placed = cv2.warpAffine(
        picture,
        matrix,
        (grid_px, grid_px),
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE if border is None else cv2.BORDER_CONSTANT,
        borderValue=border or 0.0,
    )
    return cast(FloatImage, placed)


def _step(distance: FloatImage, soft: np.float32) -> FloatImage:
    """0 to 1 across a border, half at distance 0."""
    ramp: FloatImage = np.clip(distance / (2 * soft) + np.float32(0.5), 0, 1)
    return ramp
