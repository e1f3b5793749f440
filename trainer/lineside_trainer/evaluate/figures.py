"""Figures as PNG files, drawn without a display."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray
from torch import Tensor

from lineside.durable import write_durably
from lineside.metrics import confusion_counts
from lineside_trainer.runs.logbook import Row

BLUE, ORANGE, GRAY = "#1f6f9f", "#d9822b", "#888888"


def draw_curves(path: Path, rows: Sequence[Row], *, best_epoch: int, validation: str) -> None:
    """Losses over epochs; the epoch that was kept is marked.

    Args:
        path: of the PNG.
        rows: one an epoch.
        best_epoch: from 0.
        validation: what the judgement is called, with its unit.
    """
    canvas = Canvas(figsize=(7.0, 3.4), layout="constrained")
    left, right = canvas.subplots(1, 2)
    epochs = [row.epoch + 1 for row in rows]
    losses, judged = [row.training_loss for row in rows], [row.validation for row in rows]
    left.plot(epochs, losses, color=BLUE)
    name_axes(left, "training loss", "epoch", "loss")
    right.plot(epochs, judged, color=ORANGE)
    right.axvline(best_epoch + 1, color=GRAY, linestyle=":", label=f"kept: epoch {best_epoch + 1}")
    right.legend(frameon=False, fontsize=8)
    name_axes(right, "validation", "epoch", validation)
    for axes, values in ((left, losses), (right, judged)):
        if min(values) >= 0.0:  # a cosine is not
            axes.set_ylim(bottom=0.0)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    save_canvas(canvas, path)


def draw_vital(path: Path, rows: Sequence[Row], *, name: str, healthy: float) -> None:
    """One of the learner's own figures over epochs, and where it lies while all goes well.

    Args:
        path: of the PNG.
        rows: one an epoch; those without the figure are left out.
        name: of the figure.
        healthy: its value while all goes well.
    """
    canvas = Canvas(figsize=(4.2, 3.2), layout="constrained")
    axes = canvas.subplots()
    known = [row for row in rows if name in row.vitals]
    axes.plot([row.epoch + 1 for row in known], [row.vitals[name] for row in known], color=BLUE)
    axes.axhline(healthy, color=GRAY, linestyle=":", label=f"healthy: about {healthy:.3g}")
    axes.set_ylim(bottom=0.0)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(frameon=False, fontsize=8)
    name_axes(axes, name, "epoch", name)
    save_canvas(canvas, path)


def draw_pictures(path: Path, rows_nhwc: dict[str, Tensor]) -> None:
    """Rows of pictures with a caption each, e.g. original, masked, reconstructed.

    Args:
        path: of the PNG.
        rows_nhwc: (N, H, W, C) float32 in 0..255 by caption, equally many in each row.
    """
    count = len(next(iter(rows_nhwc.values())))
    canvas = Canvas(figsize=(1.1 * count + 0.4, 1.2 * len(rows_nhwc)), layout="constrained")
    grid = canvas.subplots(len(rows_nhwc), count, squeeze=False)
    for axes_row, (caption, pictures) in zip(grid, rows_nhwc.items(), strict=True):
        for axes, picture in zip(axes_row, pictures.numpy(), strict=True):
            shown = picture[:, :, 0] if picture.shape[2] == 1 else picture / 255.0
            axes.imshow(shown, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
            axes.set_xticks([])
            axes.set_yticks([])
        axes_row[0].set_ylabel(caption, fontsize=8)
    save_canvas(canvas, path)


def draw_predictions(
    path: Path, targets: NDArray[np.float64], predicted: NDArray[np.float64], *, name: str
) -> None:
    """Predicted against true, with the line of no error.

    Args:
        path: of the PNG.
        targets: (N,) in the target's unit.
        predicted: (N,) likewise.
        name: of the target, with its unit.
    """
    canvas = Canvas(figsize=(4.2, 4.0), layout="constrained")
    axes = canvas.subplots()
    low = float(min(targets.min(), predicted.min()))
    high = float(max(targets.max(), predicted.max()))
    axes.plot([low, high], [low, high], color=GRAY, linewidth=1.0)
    axes.scatter(targets, predicted, s=9, alpha=0.5, color=BLUE, linewidths=0)
    name_axes(axes, f"test samples ({len(targets)})", f"true {name}", f"predicted {name}")
    save_canvas(canvas, path)


def draw_residuals(
    path: Path, targets: NDArray[np.float64], predicted: NDArray[np.float64], *, name: str
) -> None:
    """Predicted less true: over the true value, and how often.

    Args:
        path: of the PNG.
        targets: (N,) in the target's unit.
        predicted: (N,) likewise.
        name: of the target, with its unit.
    """
    residuals = predicted - targets
    canvas = Canvas(figsize=(7.0, 3.2), layout="constrained")
    left, right = canvas.subplots(1, 2)
    left.axhline(0.0, color=GRAY, linewidth=1.0)
    left.scatter(targets, residuals, s=9, alpha=0.5, color=BLUE, linewidths=0)
    name_axes(left, "residuals", f"true {name}", "predicted less true")
    right.hist(residuals, bins=40, color=BLUE)
    right.axvline(float(residuals.mean()), color=ORANGE, label=f"mean {residuals.mean():.3g}")
    right.legend(frameon=False, fontsize=8)
    name_axes(right, "how often", "predicted less true", "images")
    save_canvas(canvas, path)


def name_axes(axes: Axes, title: str, x: str, y: str) -> None:
    """Titles in the size that all figures have, and no frame above and on the right."""
    axes.set_title(title, fontsize=9)
    axes.set_xlabel(x, fontsize=8)
    axes.set_ylabel(y, fontsize=8)
    axes.tick_params(labelsize=7)
    axes.spines[["top", "right"]].set_visible(False)


def save_canvas(canvas: Canvas, path: Path) -> None:
    """Write a figure, the same bytes every time.

    Raises:
        StorageError: the disk is full, read-only or gone.
    """
    png = io.BytesIO()
    canvas.savefig(png, format="png", dpi=130, metadata={"Software": None})
    write_durably(path, [png.getvalue()])


def draw_confusion(
    path: Path, targets: NDArray[np.int64], predicted: NDArray[np.int64], classes: Sequence[str]
) -> None:
    """How many images of each class were said to be of which.

    Args:
        path: of the PNG.
        targets: (N,) places in `classes`.
        predicted: (N,) likewise.
        classes: their names.
    """
    counts = confusion_counts(targets, predicted, len(classes))
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    side = 1.8 + 0.5 * len(classes)
    canvas = Canvas(figsize=(side + 0.6, side), layout="constrained")
    axes = canvas.subplots()
    axes.imshow(shares, cmap="Blues", vmin=0.0, vmax=1.0)
    for row, column in np.ndindex(*counts.shape):
        colour = "white" if shares[row, column] > 0.6 else "black"
        count = str(counts[row, column])
        axes.text(column, row, count, ha="center", va="center", fontsize=8, color=colour)
    axes.set_xticks(range(len(classes)), classes, rotation=45, ha="right")
    axes.set_yticks(range(len(classes)), classes)
    name_axes(axes, f"test samples ({len(targets)})", "said", "true")
    save_canvas(canvas, path)


def draw_scores(
    path: Path, targets: NDArray[np.int64], scores: NDArray[np.float64], classes: Sequence[str]
) -> None:
    """The score of every image, a row for each class.

    Args:
        path: of the PNG.
        targets: (N,) places in `classes`.
        scores: (N,) probability of any defect, 0..1.
        classes: their names.
    """
    canvas = Canvas(figsize=(7.0, 1.2 + 0.4 * len(classes)), layout="constrained")
    axes = canvas.subplots()
    # Apart from each other by rank, so that the picture is the same every time.
    spread = (np.arange(len(targets)) % 7 - 3) / 12.0
    axes.scatter(scores, targets + spread, s=9, alpha=0.5, color=BLUE, linewidths=0)
    axes.set_yticks(range(len(classes)), classes)
    axes.set_xlim(-0.02, 1.02)
    name_axes(axes, f"test samples ({len(targets)})", "score: probability of any defect", "true")
    save_canvas(canvas, path)
