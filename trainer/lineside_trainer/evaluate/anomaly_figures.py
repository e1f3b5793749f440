"""Figures of anomaly scores: how they part good from bad, and what a memory's size costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import MaxNLocator, NullFormatter, ScalarFormatter
from matplotlib.typing import LineStyleType
from numpy.typing import NDArray

from lineside.metrics import auroc, average_precision, precision_recall_curve, roc_curve
from lineside_trainer.evaluate.figures import BLUE, GRAY, ORANGE, name_axes, save_canvas

FloatArray = NDArray[np.float64]

GOOD_COLOUR: Final = "tab:blue"
BAD_COLOUR: Final = "tab:red"
"""As in figs. 5 and 6 of Ulger et al."""

_BINS: Final = 40
_LOG_FROM: Final = 20.0
"""Bars that differ by more than so many times are shown on a logarithmic scale: the lone bad image
far out is what matters."""

_STYLES: Final[tuple[LineStyleType, ...]] = ("--", "-.", ":", (0, (6, 3)))
"""As many as there are scores that need no model."""

_LINES: Final = (BLUE, ORANGE, "#4b8b3b", "#8c4fa0", "#b03a48")


def draw_score_histograms(
    path: Path,
    bad: NDArray[np.bool_],
    scores: FloatArray,
    *,
    limit: float | None,
    name: str,
    samples: str = "test",
) -> None:
    """How often each score is, of good and of bad images, and where the limit lies.

    Args:
        path: of the PNG.
        bad: (N,) bool, N at least 1.
        scores: (N,) finite.
        limit: scores above it are flagged; None draws none.
        name: of the score.
        samples: which sample set it is.

    Raises:
        StorageError: the disk is full, read-only or gone.
    """
    canvas = Canvas(figsize=(6.0, 3.2), layout="constrained")
    axes = canvas.subplots()
    edges = np.histogram_bin_edges(scores, bins=_BINS)
    kinds = {"good": (scores[~bad], GOOD_COLOUR), "bad": (scores[bad], BAD_COLOUR)}
    for kind, (values, colour) in kinds.items():
        label = f"{kind} ({len(values)})"
        axes.hist(values, bins=edges.tolist(), color=colour, alpha=0.55, label=label)
    logarithmic = _scale_counts(axes, [np.histogram(v, edges)[0] for v, _ in kinds.values()])
    if limit is not None:
        axes.axvline(limit, color="black", linestyle="--", label=f"limit {limit:.4g}")
    axes.legend(frameon=False, fontsize=8)
    how = "images (logarithmic)" if logarithmic else "images"
    name_axes(axes, f"{samples} samples ({len(scores)})", f"score: {name}", how)
    save_canvas(canvas, path)


def _scale_counts(axes: Axes, counts: Sequence[NDArray[np.int64]]) -> bool:
    """Whether the scale became logarithmic."""
    bars = np.concatenate(counts)
    if bars.max() <= _LOG_FROM * bars[bars > 0].min():
        axes.yaxis.set_major_locator(MaxNLocator(integer=True))
        return False
    axes.set_yscale("log")
    axes.set_ylim(bottom=0.5)  # so that one image is a bar
    return True


def draw_ranking_curves(
    path: Path,
    bad: NDArray[np.bool_],
    scores: Mapping[str, FloatArray],
    trivial: Mapping[str, FloatArray] | None = None,
    *,
    samples: str = "test",
) -> None:
    """ROC on the left, precision over recall on the right, a line for each score.

    Args:
        path: of the PNG.
        bad: (N,) bool, both kinds among them.
        scores: (N,) each, by name; higher is more anomalous.
        trivial: the same of what needs no model, as thin lines.
        samples: which sample set it is.

    Raises:
        ValueError: all images are good, or all bad: there is no curve.
        StorageError: the disk is full, read-only or gone.
    """
    if bad.all() or not bad.any():
        raise ValueError("ROC and precision over recall take good and bad images")
    canvas = Canvas(figsize=(8.4, 4.0), layout="constrained")
    roc, exact = canvas.subplots(1, 2)
    roc.plot([0, 1], [0, 1], color=GRAY, linewidth=0.6)
    exact.axhline(float(bad.mean()), color=GRAY, linewidth=0.6)
    for place, (name, values) in enumerate(scores.items()):
        _draw_both(roc, exact, bad, values, name, _LINES[place % len(_LINES)], width=1.8)
    for place, (name, values) in enumerate((trivial or {}).items()):
        style = _STYLES[place % len(_STYLES)]
        _draw_both(roc, exact, bad, values, name, GRAY, width=0.8, style=style)
    _frame_curves(roc, exact)
    good = int((~bad).sum())
    canvas.suptitle(f"{samples} samples: {good} good, {int(bad.sum())} bad", fontsize=9)
    save_canvas(canvas, path)


def _frame_curves(roc: Axes, exact: Axes) -> None:
    # Where nothing is flagged precision is undefined, so that lines begin beside the axis.
    name_axes(roc, "ROC", "overkill: good images flagged", "recall: bad images flagged")
    name_axes(exact, "precision over recall", "recall: bad images flagged", "precision")
    for axes in (roc, exact):
        axes.set_xlim(-0.02, 1.02)
        axes.set_ylim(-0.02, 1.02)
    roc.legend(frameon=False, fontsize=7, loc="lower right")
    exact.legend(frameon=False, fontsize=7, loc="lower left")


def _draw_both(
    roc: Axes,
    exact: Axes,
    bad: NDArray[np.bool_],
    values: FloatArray,
    name: str,
    colour: str,
    *,
    width: float,
    style: LineStyleType = "-",
) -> None:
    left, right = roc_curve(bad, values), precision_recall_curve(bad, values)
    area, average = float(auroc(bad, values)), float(average_precision(bad, values))
    # Steps as the average precision sums them: nothing is interpolated between two limits.
    lines = (
        *roc.plot(left.false_alarm, left.recall, label=f"{name}: AUROC {area:.3f}"),
        *exact.step(right.recall, right.precision, where="pre", label=f"{name}: AP {average:.3f}"),
    )
    for line in lines:
        line.set(color=colour, linewidth=width, linestyle=style)


def draw_memory_sizes(
    path: Path,
    sizes: Sequence[int],
    areas: Sequence[float],
    latency_ms: Sequence[float] | None = None,
    *,
    device: str = "",
) -> None:
    """What a larger memory brings, and what it costs.

    Args:
        path: of the PNG.
        sizes: patches in the memory, rising.
        areas: AUROC of each, 0..1.
        latency_ms: of one image with each; None draws none.
        device: that the latency was measured on, for the axis.

    Raises:
        ValueError: not as many figures as sizes.
        StorageError: the disk is full, read-only or gone.
    """
    canvas = Canvas(figsize=(5.4, 3.4), layout="constrained")
    axes = canvas.subplots()
    lengths = {len(sizes), len(areas), len(sizes if latency_ms is None else latency_ms)}
    if len(lengths) > 1:
        raise ValueError(f"sizes, AUROCs and latencies differ in number: {sorted(lengths)}")
    axes.plot(sizes, areas, color=BLUE, marker="o", markersize=4)
    _name_sizes(axes, sizes)
    name_axes(axes, "", "patches in the memory", "AUROC")
    axes.yaxis.label.set_color(BLUE)
    if latency_ms is not None:
        right = axes.twinx()
        right.plot(sizes, latency_ms, color=ORANGE, marker="s", markersize=4, linestyle="--")
        right.set_ylim(bottom=0.0)
        right.set_ylabel(f"latency, ms{f' ({device})' if device else ''}", fontsize=8, color=ORANGE)
        right.tick_params(labelsize=7)
        right.spines[["top"]].set_visible(False)
    save_canvas(canvas, path)


def _name_sizes(axes: Axes, sizes: Sequence[int]) -> None:
    axes.set_xscale("log")
    axes.set_xticks(list(sizes))
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.xaxis.set_minor_formatter(NullFormatter())
