"""A data folder for learning from good parts: striped plates, some of them with a scratch."""

from __future__ import annotations

import csv
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

SCRATCH_PX = 5
"""Thickness."""


def striped_plate(
    generator: np.random.Generator, size_hw: tuple[int, int], channels: int = 3
) -> NDArray[np.uint8]:
    """(H, W, C): stripes of one width at a random place, with a little noise."""
    height, width = size_hw
    phase = generator.uniform(0, 2 * np.pi)
    stripes = 110 + 50 * np.sin(np.linspace(0, 6 * np.pi, width) + phase)
    plate = np.broadcast_to(stripes[None, :, None], (height, width, channels))
    noisy = plate + generator.normal(0, 6, (height, width, 1))
    return np.clip(noisy, 0, 255).astype(np.uint8)


def scratched(plate: NDArray[np.uint8], generator: np.random.Generator) -> NDArray[np.uint8]:
    """The same plate with one straight scratch across, either bright or dark."""
    height, width = plate.shape[:2]
    hurt = plate.copy()
    start = (int(generator.integers(0, width // 3)), int(generator.integers(0, height)))
    end = (int(generator.integers(2 * width // 3, width)), int(generator.integers(0, height)))
    shade = 250 if generator.random() < 0.5 else 5
    cv2.line(hurt, start, end, (shade,) * 3, SCRATCH_PX)
    return hurt


def write_scratched_plates(
    folder: Path,
    *,
    good: int,
    bad: int,
    size_hw: tuple[int, int] = (32, 32),
    channels: int = 3,
) -> Path:
    """Write `good_NUMBER.png`, `bad_NUMBER.png` and `labels.csv` with file, part, class.

    Args:
        folder: to write into.
        good: how many plates without a scratch; each is a part of its own.
        bad: how many with one.
        size_hw: of every image, pixels.
        channels: 1 or 3.

    Returns:
        The folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(0)
    with (folder / "labels.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file", "part", "class"])
        for kind, count in (("good", good), ("bad", bad)):
            for number in range(count):
                plate = striped_plate(generator, size_hw, channels)
                shown = plate if kind == "good" else scratched(plate, generator)
                name = f"{kind}_{number}.png"
                assert cv2.imwrite(str(folder / name), shown)
                writer.writerow([name, f"{kind}{number}", "scratch" if kind == "bad" else "good"])
    return folder
