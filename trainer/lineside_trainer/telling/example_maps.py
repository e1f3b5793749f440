"""For the report of a tuning run: where the network looked in some test images."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Final, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from lineside.durable import make_folder
from lineside_trainer.evaluate import Picture
from lineside_trainer.evaluate.gradcam import (
    REFERENCE_IMAGES,
    explained_score,
    hires_cam,
    learnt_mirrors,
    spread_places,
)
from lineside_trainer.evaluate.overlay import Explained, draw_examples
from lineside_trainer.experiment import TrainSettings
from lineside_trainer.prepared import IntArray, Prepared
from lineside_trainer.tasks import Task, headed

MAPS: Final = "maps.png"
_MOST: Final = 8


def draw_example_maps(
    figures: Path,
    learner: Task,
    prepared: Prepared,
    outputs: NDArray[np.float64],
    settings: TrainSettings,
) -> Picture:
    """Write `maps.png`: test images without and with damage, each with its map.

    Args:
        figures: folder of the picture.
        learner: with the weights that were kept.
        prepared: where images and truths are.
        outputs: (N, *shape), what the network gave for the labelled test images, in their order.
        settings: which end of the scale is the bad one, and how images were mirrored.

    Raises:
        StorageError: the disk is full, read-only or gone.
    """
    rows, table, worse = prepared.labelled("test"), prepared.table, settings.worse
    shown = choose_examples(
        table.targets[rows], table.parts[rows], classes=len(table.classes), worse=worse
    )
    images_nhwc = prepared.store.rows(torch.from_numpy(rows[shown]))
    score = explained_score(learner.head(), worse=worse)
    maps_nhw = hires_cam(
        headed(learner),
        score,
        images_nhwc,
        reference_nhwc=prepared.store.rows(torch.from_numpy(_reference_rows(prepared))),
        mirrors=learnt_mirrors(settings.augment),
    ).numpy()
    examples = []
    for place, image, map_hw in zip(shown, images_nhwc.numpy(), maps_nhw, strict=True):
        said = learner.say(float(table.targets[rows[place]]), outputs[place])
        title = f"true {_short(said.target)}\nsaid {_short(said.predicted)}"
        examples.append(Explained(image_hwc=image, map_hw=map_hw, title=title))
    make_folder(figures)
    draw_examples(figures / MAPS, examples)
    order = "of each class" if table.classes else "with the least damage, then with the most"
    explained = "the likeliest class" if table.classes else f"a {worse} value"
    return Picture(
        file=figures / MAPS,
        caption=f"Where the network looked (HiResCAM): test images {order}; a map shows what "
        f"spoke for {explained}.",
    )


def _reference_rows(prepared: Prepared) -> IntArray:
    """Training images from which no step learnt; the candidate holds them too."""
    rows = prepared.split.indices["quantisation"]
    return rows[spread_places(len(rows), REFERENCE_IMAGES)]


def choose_examples(
    targets: NDArray[np.float64],
    parts: NDArray[np.str_],
    *,
    classes: int,
    worse: Literal["higher", "lower"],
) -> IntArray:
    """Places of eight images at most: of each class, or from both ends of the scale.

    Args:
        targets: (N,) numbers, or places of classes.
        parts: (N,) part ids; another part comes before another image of the same one.
        classes: how many there are; 0 for numbers.
        worse: which end is the bad one; its image comes last.
    """
    if classes:
        each = max(1, _MOST // classes)
        members = [np.flatnonzero(targets == index) for index in range(classes)]
        chosen = [place for places in members for place in _of_many_parts(places, parts, each)]
        return np.array(chosen[:_MOST], dtype=np.int64)
    order = np.argsort(targets if worse == "higher" else -targets, kind="stable")
    half = min(_MOST, len(order)) // 2
    bad = _of_many_parts(order[::-1], parts, half)
    sound = _of_many_parts((p for p in order if p not in bad), parts, min(_MOST, len(order)) - half)
    return np.array([*sound, *reversed(bad)], dtype=np.int64)


def _of_many_parts(places: Iterable[np.int64], parts: NDArray[np.str_], count: int) -> list[int]:
    first: list[int] = []
    again: list[int] = []
    seen: set[str] = set()
    for place in places:
        part = str(parts[place])
        (again if part in seen else first).append(int(place))
        seen.add(part)
    return [*first, *again][:count]


def _short(text: str) -> str:
    try:
        return f"{float(text):.3g}"
    except ValueError:
        return text
