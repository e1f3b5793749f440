"""One part's whole life, drawn from its own random stream: part 17 is the same in any data set."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from lineside_trainer.data.joints.damage import Damage, grow_damage
from lineside_trainer.data.joints.layouts import LED_TYPES, LedType, heat_weight, pads_mask
from lineside_trainer.data.joints.scanner import (
    OVERSAMPLING,
    draw_acquisition,
    draw_surface,
    mask_as_scanned,
    scan,
)
from lineside_trainer.data.joints.thermal import b_max, delta_b_max, measure

CYCLES: Final = (0, 100, 500, 1000, 1500)
"""Thermal shock cycles at which the paper took its pictures (sec. 3.1)."""


@dataclass(frozen=True, kw_only=True)
class Inspected:
    """One picture and what is known of it.

    Attributes:
        cycles: thermal shock cycles so far.
        image_hw: (S, S) uint8.
        crack_mask_hw: (S, S) uint8, 0 or 255, placed as in the picture.
        void_mask_hw: (S, S) uint8, 0 or 255, placed as in the picture.
        b_max: measured, in units of the sound part's thermal resistance.
        delta_b_max: eq. 1, relative; 0.2 is the paper's limit.
        crack_area_fraction: of the pads' area.
        void_area_fraction: of the pads' area.
    """

    cycles: int
    image_hw: NDArray[np.uint8]
    crack_mask_hw: NDArray[np.uint8]
    void_mask_hw: NDArray[np.uint8]
    b_max: float
    delta_b_max: float
    crack_area_fraction: float
    void_area_fraction: float


def led_type_of(number: int) -> LedType:
    """Types take turns, so that each is equally common."""
    return LED_TYPES[number % len(LED_TYPES)]


def make_part(number: int, *, seed: int, size_px: int) -> tuple[Inspected, ...]:
    """Part ``number`` of the data set with this seed, at each of ``CYCLES``."""
    # The same stream as the number-th child of SeedSequence(seed).spawn(), without the others.
    stream = np.random.SeedSequence(entropy=seed, spawn_key=(number,))
    generator = np.random.Generator(np.random.PCG64(stream))
    grid_px = OVERSAMPLING * size_px
    led = led_type_of(number)
    damage = grow_damage(led, grid_px, generator)
    measured = measure(_true_b_max(led, damage, grid_px), generator)
    increase = delta_b_max(measured)
    surface = draw_surface(led, damage, grid_px, generator)
    solder_px = int(pads_mask(led, grid_px).any(axis=0).sum())
    inspected = []
    for at, cycles in enumerate(CYCLES):
        acquisition = draw_acquisition(generator)
        crack = damage.crack(cycles)
        inspected.append(
            Inspected(
                cycles=cycles,
                image_hw=scan(surface, damage, cycles, acquisition, size_px, generator),
                crack_mask_hw=mask_as_scanned(crack, acquisition, size_px),
                void_mask_hw=mask_as_scanned(damage.void, acquisition, size_px),
                b_max=float(measured[at]),
                delta_b_max=float(increase[at]),
                crack_area_fraction=int(crack.sum()) / solder_px,
                void_area_fraction=int(damage.void.sum()) / solder_px,
            )
        )
    return tuple(inspected)


def _true_b_max(led: LedType, damage: Damage, grid_px: int) -> NDArray[np.float64]:
    weight = heat_weight(led, grid_px)
    return np.array(
        [b_max(weight, damage.void, damage.crack(c), led.joint_share) for c in CYCLES],
        dtype=np.float64,
    )
