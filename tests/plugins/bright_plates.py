"""A data folder whose target any network learns: noisy plates, labelled with their brightness."""

from __future__ import annotations

import csv
from collections.abc import Collection
from pathlib import Path

import cv2
import numpy as np


def write_plates(
    folder: Path,
    *,
    size_hw: tuple[int, int],
    parts: int,
    views: int = 2,
    levels: tuple[float, float] = (20.0, 200.0),
    noise: float = 20.0,
    unlabelled: Collection[int] = (),
) -> Path:
    """Write gray images `PART_VIEW.png` and `labels.csv` with file, part, damage, brightness.

    Args:
        folder: to write into.
        size_hw: of every image, pixels.
        parts: how many.
        views: images of each.
        levels: brightness is drawn evenly from these, gray values; damage is a hundredth of it.
        noise: standard deviation of the pixels, gray values.
        unlabelled: numbers of the parts whose damage is left empty.

    Returns:
        The folder.
    """
    generator = np.random.default_rng(0)
    with (folder / "labels.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file", "part", "damage", "brightness"])
        for part in range(parts):
            for view in range(views):
                level = generator.uniform(*levels)
                pixels = np.clip(generator.normal(level, noise, size_hw), 0, 255).astype(np.uint8)
                name = f"{part}_{view}.png"
                assert cv2.imwrite(str(folder / name), pixels)
                damage = "" if part in unlabelled else level / 100
                writer.writerow([name, f"part{part}", damage, level])
    return folder
