"""Maps of where a network looked, drawn over the image it saw."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from numpy.typing import NDArray

from lineside.durable import write_durably
from lineside_trainer.evaluate.spread_figures import as_png

_HEAT: Final = "inferno"
_MOST_OPAQUE: Final = 0.75
"""Where the map is 1; where it is 0 the image shows through untouched."""


@dataclass(frozen=True, kw_only=True)
class Explained:
    """One image with its map.

    Attributes:
        image_hwc: (H, W, C) uint8, as the network saw it.
        map_hw: (H, W) float32 in 0..1.
        title: what was said of it, and what is true, in a line or two.
    """

    image_hwc: NDArray[np.uint8]
    map_hw: NDArray[np.float32]
    title: str


def overlay(image_hwc: NDArray[np.uint8], map_hw: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Colour an image by a map.

    Args:
        image_hwc: (H, W, 1 or 3) uint8.
        map_hw: (H, W) float32 in 0..1.

    Returns:
        (H, W, 3) uint8; the image itself where the map is 0.
    """
    channels = np.broadcast_to(image_hwc, (*image_hwc.shape[:2], 3)).astype(np.float64)
    opacity = _MOST_OPAQUE * map_hw[:, :, np.newaxis].astype(np.float64)
    mixed = channels * (1.0 - opacity) + 255.0 * _heat(map_hw) * opacity
    coloured: NDArray[np.uint8] = np.rint(mixed).clip(0, 255).astype(np.uint8)
    return coloured


def draw_explained(path: Path, explained: Explained) -> None:
    """The image, its map and both together, side by side.

    Raises:
        StorageError: the disk is full, read-only or gone.
    """
    canvas = Canvas(figsize=(7.2, 3.0), layout="constrained")
    canvas.suptitle(_as_text(explained.title), fontsize=9)
    for axes, name, picture in zip(
        canvas.subplots(1, 3), ("image", "map", "both"), _panels(explained), strict=True
    ):
        _show(axes, picture)
        axes.set_title(name, fontsize=8)
    write_durably(path, [as_png(canvas)])


def draw_examples(path: Path, examples: Sequence[Explained]) -> None:
    """Images above, the same with their maps below, a column each.

    Raises:
        StorageError: the disk is full, read-only or gone.
    """
    canvas = Canvas(figsize=(1.2 * len(examples) + 0.4, 2.9), layout="constrained")
    columns = canvas.subplots(2, len(examples), squeeze=False).T
    for (above, below), example in zip(columns, examples, strict=True):
        image, _, both = _panels(example)
        _show(above, image)
        _show(below, both)
        above.set_title(_as_text(example.title), fontsize=7)
    write_durably(path, [as_png(canvas)])


def _panels(
    explained: Explained,
) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.uint8]]:
    shape = (*explained.image_hwc.shape[:2], 3)
    heat: NDArray[np.uint8] = np.rint(255.0 * _heat(explained.map_hw)).astype(np.uint8)
    both = overlay(explained.image_hwc, explained.map_hw)
    return np.broadcast_to(explained.image_hwc, shape).astype(np.uint8), heat, both


def _heat(map_hw: NDArray[np.float32]) -> NDArray[np.float64]:
    """(H, W, 3) colours in 0..1."""
    colours: NDArray[np.float64] = matplotlib.colormaps[_HEAT](map_hw)[:, :, :3]
    return colours


def _show(axes: Axes, picture_hwc: NDArray[np.uint8]) -> None:
    axes.imshow(picture_hwc, interpolation="nearest")
    axes.set_xticks([])
    axes.set_yticks([])


def _as_text(title: str) -> str:
    """File names may hold what matplotlib takes for a formula."""
    return title.replace("$", r"\$")
