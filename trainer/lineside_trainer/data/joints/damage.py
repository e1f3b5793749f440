"""Voids, and the cracks that start at them and grow with every thermal cycle.

A part's cracks are one field: at which cycle each place opens. The mask at any cycle is a
comparison with it, so a crack can only grow.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from lineside_trainer.data.joints.layouts import FloatImage, LedType, Pad, grid_xy, pads_mask

BoolImage = NDArray[np.bool_]

_STEP: Final = 0.018
_NEVER: Final = np.float32(1e9)
_LEAST_RADIUS: Final = 0.016
_MOST_RADIUS: Final = 0.042


@dataclass(frozen=True, kw_only=True)
class Void:
    """A gas bubble: centre and radius in shares of the picture's edge."""

    xy: tuple[float, float]
    radius: float


@dataclass(frozen=True, kw_only=True)
class Damage:
    """All that is wrong with one part, on a (G, G) grid in the part's own frame.

    Attributes:
        void: bool, constant over the part's life.
        opening_cycle: float32, cycle at which a place cracks; 1e9 where it never does.
    """

    void: BoolImage
    opening_cycle: FloatImage

    def crack(self, cycles: float) -> BoolImage:
        """(G, G) bool: open after so many cycles; voids are no cracks."""
        opened: BoolImage = self.opening_cycle <= cycles
        return opened


def grow_damage(led: LedType, grid_px: int, generator: np.random.Generator) -> Damage:
    """Draw one part's voids and their cracks.

    Args:
        led: its type.
        grid_px: G.
        generator: of this part; the number of draws differs by part.
    """
    solder = pads_mask(led, grid_px)
    # Some parts last, some do not: pastes and soldering differ far more than cracks within a part.
    speed = led.weakness * float(generator.lognormal(mean=0.15, sigma=0.6))
    roughness = _rough_field(grid_px, generator)
    void = np.zeros((grid_px, grid_px), dtype=np.bool_)
    opening = np.full((grid_px, grid_px), _NEVER, dtype=np.float32)
    for plane, pad in zip(solder, led.pads, strict=True):
        for bubble in _draw_voids(pad, generator):
            void |= _disc(bubble, grid_px) & plane
            path, arrival = _draw_crack(bubble, speed, generator)
            if len(path):
                field = _opening_field(path, arrival, speed, roughness)
                opening = np.where(plane, np.minimum(opening, field), opening)
    return Damage(void=void, opening_cycle=np.where(void, _NEVER, opening))


def _draw_voids(pad: Pad, generator: np.random.Generator) -> list[Void]:
    x0, y0, x1, y1 = pad.box_xyxy
    count = int(generator.poisson(22.0 * (x1 - x0) * (y1 - y0))) + 1
    voids = []
    for _ in range(count):
        radius = float(
            np.clip(generator.lognormal(mean=-3.75, sigma=0.3), _LEAST_RADIUS, _MOST_RADIUS)
        )
        rim = radius + 0.012
        x = generator.uniform(x0 + rim, x1 - rim)
        y = generator.uniform(y0 + rim, y1 - rim)
        voids.append(Void(xy=(float(x), float(y)), radius=radius))
    return voids


def _draw_crack(
    void: Void, speed: float, generator: np.random.Generator
) -> tuple[FloatImage, FloatImage]:
    """Arms that leave the void's rim and wander: points (P, 2) and the cycle each is reached."""
    arms = int(generator.choice(4, p=(0.35, 0.3, 0.2, 0.15)))
    points: list[FloatImage] = []
    arrivals: list[FloatImage] = []
    for _ in range(arms):
        heading = generator.uniform(0, 2 * np.pi)
        steps = int(generator.integers(7, 26))
        turns = np.cumsum(generator.normal(0, 0.38, steps)) + heading
        start = np.asarray(void.xy) + void.radius * np.array([np.cos(heading), np.sin(heading)])
        moves = _STEP * np.stack([np.cos(turns), np.sin(turns)], axis=1)
        points.append((start + np.cumsum(moves, axis=0) - moves[0]).astype(np.float32))
        # Initiation takes a while, and fewer cycles where the part is weak; then Paris-like growth
        # at a steady rate, each arm at its own.
        begins = generator.uniform(30, 650) / speed
        rate = speed * generator.lognormal(mean=-1.45, sigma=0.4) / 1000.0
        arrivals.append((begins + _STEP * np.arange(steps) / rate).astype(np.float32))
    if not points:
        return np.zeros((0, 2), np.float32), np.zeros(0, np.float32)
    return np.concatenate(points), np.concatenate(arrivals)


def _opening_field(
    path_xy: FloatImage, arrival: FloatImage, speed: float, roughness: FloatImage
) -> FloatImage:
    """(G, G) cycle at which each place opens: reached by an arm, then by its widening."""
    x, y = grid_xy(len(roughness))
    widening = 0.017 * speed / 1000.0
    earliest = np.full_like(roughness, _NEVER)
    for (px, py), reached in zip(path_xy.tolist(), arrival.tolist(), strict=True):
        distance = np.sqrt((x - px) ** 2 + (y - py) ** 2) * roughness
        opened = reached + np.maximum(distance - np.float32(0.008), 0) / np.float32(widening)
        np.minimum(earliest, opened, out=earliest)
    return earliest


def _rough_field(grid_px: int, generator: np.random.Generator) -> FloatImage:
    """(G, G) around 1: how much farther a place is than it looks, which frays the cracks' edges."""
    noise = smooth_noise(grid_px, 0.018, generator)
    rough: FloatImage = np.exp(np.float32(0.55) * noise).astype(np.float32)
    return rough


def smooth_noise(grid_px: int, length: float, generator: np.random.Generator) -> FloatImage:
    """(G, G) float32 Gaussian noise of unit deviation with a correlation length (edge shares)."""
    white = generator.standard_normal((grid_px, grid_px), dtype=np.float32)
    blurred = cv2.GaussianBlur(white, (0, 0), length * grid_px, borderType=cv2.BORDER_REFLECT)
    scaled: FloatImage = (blurred / blurred.std()).astype(np.float32)
    return scaled


def _disc(void: Void, grid_px: int) -> BoolImage:
    x, y = grid_xy(grid_px)
    inside: BoolImage = (x - void.xy[0]) ** 2 + (y - void.xy[1]) ** 2 < void.radius**2
    return inside
