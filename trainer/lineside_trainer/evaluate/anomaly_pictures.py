"""Pictures of anomalies: what was reconstructed, and where a map says it is.

The figures that people look at first: the good part that scores worst, and the bad part that
scores mildest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import cv2
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from numpy.typing import NDArray

from lineside_trainer.evaluate.anomaly_figures import BAD_COLOUR, GOOD_COLOUR
from lineside_trainer.evaluate.figures import save_canvas
from lineside_trainer.evaluate.overlay import overlay

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

_EACH: Final = 4
_LONGEST: Final = 20
"""Letters of a class's name over a picture."""


@dataclass(frozen=True, kw_only=True)
class Scored:
    """One image and what was said of it.

    Attributes:
        image_hwc: (H, W, 1 or 3) uint8, as the network saw it.
        true_class: its name.
        bad: whether that class is a defect.
        score: higher is more anomalous.
    """

    image_hwc: NDArray[np.uint8]
    true_class: str
    bad: bool
    score: float

    def said(self, limit: float) -> Literal["OK", "NOT_OK"]:
        """The evaluation at a limit, as ``lineside.decide`` has it."""
        return "NOT_OK" if self.score > limit else "OK"


@dataclass(frozen=True, kw_only=True)
class Reconstructed:
    """An image and what an autoencoder made of it.

    Attributes:
        scored: the image.
        reconstruction_hwc: (H, W, 1 or 3), 0..255; values beyond are cut.
    """

    scored: Scored
    reconstruction_hwc: NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Mapped:
    """An image and where it is anomalous.

    Attributes:
        scored: the image.
        map_hw: (h, w) float32, of any scale, spread evenly over the image.
    """

    scored: Scored
    map_hw: NDArray[np.float32]


def choose_borderline(bad: NDArray[np.bool_], scores: FloatArray, *, each: int = _EACH) -> IntArray:
    """Places of the good images that score worst, worst first, then of the mildest bad ones.

    Args:
        bad: (N,) bool.
        scores: (N,) finite.
        each: of either kind, where there are as many.
    """
    rising = np.argsort(scores, kind="stable")
    worst_good = [place for place in rising[::-1] if not bad[place]][:each]
    mildest_bad = [place for place in rising if bad[place]][:each]
    return np.array([*worst_good, *mildest_bad], dtype=np.int64)


def choose_typical(bad: NDArray[np.bool_], scores: FloatArray, *, each: int = _EACH) -> IntArray:
    """Places of good, then of bad images, evenly from the lowest to the highest score of either.

    Arguments as for ``choose_borderline``.
    """
    rising = np.argsort(scores, kind="stable")
    chosen: list[np.int64] = []
    for kind in (False, True):
        members = rising[bad[rising] == kind]
        places = np.unique(np.linspace(0, len(members) - 1, each).round().astype(int))
        chosen += list(members[places]) if len(members) else []
    return np.array(chosen, dtype=np.int64)


def draw_reconstructions(
    path: Path, examples: Sequence[Reconstructed], *, limit: float, score: str
) -> None:
    """Originals above with their true class; reconstructions below with what was said of them.

    As fig. 4 of Ulger et al.

    Args:
        path: of the PNG.
        examples: a column each, at least one.
        limit: scores above it are NOT_OK.
        score: its name.

    Raises:
        StorageError: the disk is full, read-only or gone.
    """
    canvas = Canvas(figsize=(1.3 * len(examples) + 0.5, 3.5), layout="constrained")
    for (above, below), one in zip(_columns(canvas, len(examples)), examples, strict=True):
        _show(above, one.scored.image_hwc)
        _show(below, np.rint(one.reconstruction_hwc).clip(0, 255).astype(np.uint8))
        _title_truth(above, one.scored)
        _title_said(below, one.scored, limit)
    canvas.supxlabel(f"score: {score}; scores above {limit:.4g} are NOT_OK", fontsize=8)
    save_canvas(canvas, path)


def draw_anomaly_maps(
    path: Path,
    examples: Sequence[Mapped],
    *,
    limit: float,
    region_limit: float | None = None,
) -> None:
    """Images above, the same with their maps below: a column each, one scale for all of them.

    Args:
        path: of the PNG.
        examples: at least one, e.g. of ``choose_borderline``.
        limit: scores above it are NOT_OK.
        region_limit: outlines what lies beyond it in a map; None draws no outline.

    Raises:
        StorageError: the disk is full, read-only or gone.
    """
    maps = [_spread_over(one.map_hw, one.scored.image_hwc) for one in examples]
    low = min(float(values.min()) for values in maps)
    high = max(float(values.max()) for values in maps)
    canvas = Canvas(figsize=(1.5 * len(examples) + 0.5, 3.9), layout="constrained")
    columns = _columns(canvas, len(examples))
    for (above, below), one, values in zip(columns, examples, maps, strict=True):
        _show(above, one.scored.image_hwc)
        # One scale: a good part's peak must not look like a defect because it is its own highest.
        shown = (values - low) / (high - low) if high > low else np.zeros_like(values)
        _show(below, overlay(one.scored.image_hwc, shown.astype(np.float32)))
        if region_limit is not None and values.min() <= region_limit < values.max():
            below.contour(values, levels=[region_limit], colors="white", linewidths=0.8)
        _title_truth(above, one.scored)
        _title_said(below, one.scored, limit)
    outline = "" if region_limit is None else f"; outlined: map beyond {region_limit:.4g}"
    canvas.supxlabel(f"scores above {limit:.4g} are NOT_OK{outline}", fontsize=8)
    save_canvas(canvas, path)


def _columns(canvas: Canvas, count: int) -> list[tuple[Axes, Axes]]:
    grid = canvas.subplots(2, count, squeeze=False)
    return list(zip(grid[0], grid[1], strict=True))


def _spread_over(map_hw: NDArray[np.float32], image_hwc: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(H, W) of the image's size; the map's cells have their centres where the graph put them."""
    height, width = image_hwc.shape[:2]
    spread: NDArray[np.float32] = cv2.resize(
        np.ascontiguousarray(map_hw, dtype=np.float32),
        (width, height),
        interpolation=cv2.INTER_LINEAR,
    ).astype(np.float32)
    return spread


def _show(axes: Axes, picture_hwc: NDArray[np.uint8]) -> None:
    shown = picture_hwc[:, :, 0] if picture_hwc.shape[2] == 1 else picture_hwc
    axes.imshow(shown, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    axes.set_xticks([])
    axes.set_yticks([])


def _title_truth(axes: Axes, one: Scored) -> None:
    colour = BAD_COLOUR if one.bad else GOOD_COLOUR
    name = one.true_class
    shown = name if len(name) <= _LONGEST else f"…{name[1 - _LONGEST :]}"
    # Class names come from outside: "$" must not be taken for mathematics.
    axes.set_title(shown, fontsize=7, color=colour, parse_math=False)


def _title_said(axes: Axes, one: Scored, limit: float) -> None:
    said = one.said(limit)
    wrong = (said == "NOT_OK") != one.bad
    weight = "bold" if wrong else "normal"
    axes.set_title(f"{said}  {one.score:.4g}", fontsize=7, fontweight=weight)
