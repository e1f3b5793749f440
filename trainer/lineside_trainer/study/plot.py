"""A study in one picture: a dot a seed, a bar at their mean, a line at the trivial predictor."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas

from lineside.durable import write_durably
from lineside_trainer.evaluate.figures import BLUE, GRAY, ORANGE
from lineside_trainer.study.document import Line, OverSeeds, StudyFigures

PLOT: Final = "table.png"

_BAR: Final = 0.3


def draw_study(path: Path, figures: StudyFigures) -> None:
    """Draw the table's first figure, one panel a share of the labels.

    Under several splits the figure is divided by the trivial predictor's, seed by seed: else the
    dots would show how splits differ, and not methods.

    Args:
        path: of the PNG.
        figures: what to draw; lines without one are left out.

    Raises:
        StorageError: the disk is full, read-only or gone.
    """
    lines = [line for line in figures.lines if line.test and line.name != "baseline"]
    shares = sorted({line.label_share for line in lines}, reverse=True)
    tallest = max((_count(lines, share) for share in shares), default=1)
    canvas = Canvas(
        figsize=(2.4 + 4.0 * max(1, len(shares)), 1.2 + 0.3 * tallest), layout="constrained"
    )
    panels = canvas.subplots(1, max(1, len(shares)), squeeze=False)[0]
    for axes, share in zip(panels, shares, strict=False):
        _panel(axes, figures, [line for line in lines if line.label_share == share], share)
    png = io.BytesIO()
    canvas.savefig(png, format="png", dpi=130, metadata={"Software": None})
    write_durably(path, [png.getvalue()])


def _count(lines: Sequence[Line], share: float) -> int:
    return sum(line.label_share == share for line in lines)


def _panel(axes: Axes, figures: StudyFigures, lines: Sequence[Line], share: float) -> None:
    divided = bool(figures.split_seeds)
    for place, line in enumerate(reversed(lines)):
        spread = line.ratio if divided else line.test
        if spread:
            _dots(axes, spread, place)
    baseline = next(
        (x.test for x in figures.lines if (x.name, x.label_share) == ("baseline", share)), None
    )
    if baseline:
        at = 1.0 if divided else baseline.mean
        axes.axvline(at, color=GRAY, linestyle=":", label=figures.baseline_name)
        axes.legend(frameon=False, fontsize=7)
    axes.set_yticks(range(len(lines)), [line.label for line in reversed(lines)], fontsize=7)
    name = f"test {figures.metric}"
    axes.set_xlabel(f"{name} ÷ {figures.baseline_name}" if divided else name, fontsize=8)
    axes.set_title(f"{share:.0%} of the labels", fontsize=9)
    axes.tick_params(axis="x", labelsize=7)
    axes.spines[["top", "right"]].set_visible(False)


def _dots(axes: Axes, spread: OverSeeds, place: int) -> None:
    axes.plot(spread.values, [place] * len(spread.values), "o", color=BLUE, alpha=0.6, ms=4)
    axes.vlines(spread.mean, place - _BAR, place + _BAR, color=ORANGE, linewidth=2.0)
