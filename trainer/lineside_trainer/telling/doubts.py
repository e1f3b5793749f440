"""Labels that the model disputes most: a list to look through, not a list of faults.

A label can only be doubted by a model that did not learn it. So the list is of validation and test
images, from which no step learnt (validation chose the epoch). Training labels would take k models,
each of which leaves out one part of them (cross-fitting, as in Northcutt et al. 2021, sec. 3.1);
that is not done here.
"""

from __future__ import annotations

import csv
import io
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import torch
from matplotlib.figure import Figure as Canvas
from torch import Tensor

from lineside.durable import make_folder, write_durably
from lineside_trainer.evaluate import Picture
from lineside_trainer.evaluate.spread_figures import as_png
from lineside_trainer.prepared import Prepared
from lineside_trainer.runs.predictions import PREDICTIONS, Prediction, read_predictions
from lineside_trainer.runs.runfolder import FIGURES

DOUBTS: Final = "doubts.csv"
PICTURE: Final = "doubts.png"
MOST_LISTED: Final = 100
MOST_SHOWN: Final = 24
MOST_IN_TABLE: Final = 24

FAR: Final = 3.0
"""In regression an error counts as a dispute from so many median errors on: 2 standard deviations
of a normal error, so that 1 in 23 would be listed where labels are right."""

HEADING: Final = "Labels that the model disputes most"
_CAPTION: Final = (
    "The labels that the model disputes most, of validation and test images alone: no step learnt "
    f"from those. {DOUBTS} lists them. Have them judged by someone who sees neither label nor "
    "prediction, and train anew: labels mended one by one where this model disputes them make its "
    "own figures better and say nothing."
)
_COLUMNS_OF_PICTURES: Final = 6


@dataclass(frozen=True, kw_only=True)
class Doubt:
    """One disputed label.

    Attributes:
        prediction: of the image.
        times_typical: its error over the median one; None of classes.
    """

    prediction: Prediction
    times_typical: float | None

    @property
    def words(self) -> str:
        """Label, prediction, and how far they are apart."""
        one = self.prediction
        if self.times_typical is None:
            return (
                f"label {one.said.target}, model {one.said.predicted} "
                f"({1.0 - one.dispute:.1%} for the label)"
            )
        return (
            f"label {float(one.said.target):.4g}, model {float(one.said.predicted):.4g} "
            f"(off by {one.dispute:.3g}, {self.times_typical:.1f} times the median error)"
        )


@dataclass(frozen=True, kw_only=True)
class ToldDoubts:
    """For the report; both empty where nothing is disputed."""

    pictures: tuple[Picture, ...] = ()
    tables: dict[str, dict[str, str]] = field(default_factory=dict)


def rank_doubts(predictions: Sequence[Prediction]) -> list[Doubt]:
    """The most disputed labels, worst first; at most `MOST_LISTED`.

    Of classes those that the model calls otherwise, by what it leaves to the label (self-confidence
    of Northcutt et al. 2021, sec. 3.2); of numbers those that are `FAR` median errors off or more.

    Args:
        predictions: on images from which no step learnt.
    """
    if not predictions:
        return []
    worst = sorted(predictions, key=lambda one: (-one.dispute, one.file))
    if predictions[0].said.scores:
        called = [one for one in worst if one.said.predicted != one.said.target]
        return [Doubt(prediction=one, times_typical=None) for one in called[:MOST_LISTED]]
    typical = statistics.median(one.dispute for one in predictions)
    if typical == 0.0:
        return []
    ranked = [Doubt(prediction=one, times_typical=one.dispute / typical) for one in worst]
    return [one for one in ranked if (one.times_typical or 0.0) >= FAR][:MOST_LISTED]


def tell_doubts(out: Path, prepared: Prepared) -> ToldDoubts:
    """Write `doubts.csv` and the thumbnails, from the predictions that the run has written.

    Args:
        out: the run's folder.
        prepared: where the images are.

    Raises:
        TrainerError: the predictions cannot be read back.
        StorageError: the disk is full, read-only or gone.
    """
    doubts = rank_doubts(read_predictions(out / PREDICTIONS))
    write_doubts(out / DOUBTS, doubts)
    if not doubts:
        return ToldDoubts()
    row_of = {record.name: row for row, record in enumerate(prepared.table.records)}
    shown = doubts[:MOST_SHOWN]
    rows = torch.tensor([row_of[doubt.prediction.file] for doubt in shown])
    make_folder(out / FIGURES)
    picture = out / FIGURES / PICTURE
    draw_doubts(picture, prepared.store.rows(rows), shown)
    table = {
        f"{doubt.prediction.file} ({doubt.prediction.set})": doubt.words
        for doubt in doubts[:MOST_IN_TABLE]
    }
    return ToldDoubts(
        pictures=(Picture(file=picture, caption=_CAPTION),),
        tables={f"{HEADING} ({len(doubts)} in {DOUBTS})": table},
    )


def write_doubts(path: Path, doubts: Sequence[Doubt]) -> None:
    """A row a doubt, worst first; the table is there with its head even where there is none.

    Raises:
        StorageError: the disk is full, read-only or gone.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["file", "part", "set", "label", "predicted", "dispute", "times_typical"])
    for doubt in doubts:
        one = doubt.prediction
        times = "" if doubt.times_typical is None else f"{doubt.times_typical:.3g}"
        said = (one.said.target, one.said.predicted, f"{one.dispute:.6g}")
        writer.writerow([one.file, one.part, one.set, *said, times])
    write_durably(path, [text.getvalue().encode()])


def draw_doubts(path: Path, images_nhwc: Tensor, doubts: Sequence[Doubt]) -> None:
    """Thumbnails as the model sees them, with label and prediction.

    Args:
        path: of the PNG.
        images_nhwc: (N, H, W, C) uint8.
        doubts: N, in the same order.

    Raises:
        StorageError: the disk is full, read-only or gone.
    """
    columns = min(_COLUMNS_OF_PICTURES, len(doubts))
    lines = -(-len(doubts) // columns)
    canvas = Canvas(figsize=(1.5 * columns, 1.9 * lines), layout="constrained")
    grid = canvas.subplots(lines, columns, squeeze=False).ravel()
    for axes in grid:
        axes.set_axis_off()
    for axes, image, doubt in zip(grid, images_nhwc.numpy(), doubts, strict=False):
        shown = image[:, :, 0] if image.shape[2] == 1 else image
        axes.imshow(shown, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
        said = doubt.prediction.said
        label, predicted = (_short(word) for word in (said.target, said.predicted))
        name = doubt.prediction.file.rsplit("/", 1)[-1]
        # Names and classes come from outside: "$" must not be taken for mathematics.
        axes.set_title(
            f"{_short(name)}\nlabel {label}\nmodel {predicted}", fontsize=6, parse_math=False
        )
    write_durably(path, [as_png(canvas)])


def _short(word: str) -> str:
    try:
        return f"{float(word):.3g}"
    except ValueError:
        return word if len(word) <= 20 else f"…{word[-19:]}"
