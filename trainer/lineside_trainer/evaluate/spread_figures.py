"""Figures of several runs side by side: a dot a run, or a bar with an interval."""

from __future__ import annotations

import io
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure as Canvas

from lineside_trainer.evaluate.figures import BLUE, GRAY, ORANGE


@dataclass(frozen=True, kw_only=True)
class Dots:
    """One row of the drawing.

    Attributes:
        label: on the left.
        values: a dot each; several get their mean and standard deviation drawn.
        interval: of a single value, drawn as a line.
    """

    label: str
    values: tuple[float, ...]
    interval: tuple[float, float] | None = None


def draw_dots(rows: Sequence[Dots], *, title: str, line: tuple[str, float] | None = None) -> bytes:
    """Rows of dots over one scale.

    Args:
        rows: from top to bottom.
        title: of the scale, with its unit.
        line: name and place of something to compare with, e.g. a trivial predictor.

    Returns:
        A PNG.
    """
    canvas = Canvas(figsize=(7.0, 1.1 + 0.4 * len(rows)), layout="constrained")
    axes = canvas.subplots()
    if line is not None:
        axes.axvline(line[1], color=GRAY, linestyle=":", label=line[0])
        axes.legend(frameon=False, fontsize=8)
    for place, row in enumerate(rows):
        height = -place
        if row.interval is not None:
            axes.plot(row.interval, [height] * 2, color=BLUE, linewidth=2.0, alpha=0.5)
        if len(row.values) > 1:
            mean, std = statistics.fmean(row.values), statistics.stdev(row.values)
            axes.plot([mean - std, mean + std], [height] * 2, color=ORANGE, linewidth=2.0)
            axes.plot([mean], [height], marker="|", markersize=14, color=ORANGE)
        axes.scatter(row.values, [height] * len(row.values), s=18, color=BLUE, alpha=0.7, zorder=3)
    axes.set_yticks([-place for place in range(len(rows))], [row.label for row in rows])
    axes.set_ylim(0.6 - len(rows), 0.6)
    axes.set_xlabel(title, fontsize=8)
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    return as_png(canvas)


def as_png(canvas: Canvas) -> bytes:
    """The drawing's bytes, the same every time."""
    png = io.BytesIO()
    canvas.savefig(png, format="png", dpi=130, metadata={"Software": None})
    return png.getvalue()
