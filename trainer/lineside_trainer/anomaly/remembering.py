"""A memory of good patches, on a network that was pre-trained on the factory's own images.

Nothing descends here: the network stays as it is, and the memory is a core-set of what it makes of
good training images. So an epoch is one pass, its training loss is how far a training patch may lie
from the memory, and its validation figure is the mean score of good validation images.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
from torch import Tensor

from lineside.metrics import auroc
from lineside_trainer.ancestry.initial import InitialWeights, load_backbone
from lineside_trainer.anomaly.built import Built
from lineside_trainer.anomaly.goodness import Goodness
from lineside_trainer.anomaly.seen import Shown
from lineside_trainer.durable import write_tensors
from lineside_trainer.evaluate import Picture
from lineside_trainer.evaluate.anomaly_figures import draw_memory_sizes
from lineside_trainer.experiment import Experiment, FitSettings, RunSettings
from lineside_trainer.learning.device import choose_device, memory_advice
from lineside_trainer.learning.fit import FitResult
from lineside_trainer.learning.loop import BEST
from lineside_trainer.learning.progress import tell_unused
from lineside_trainer.models import build_backbone
from lineside_trainer.models.coreset import Coreset, choose_coreset
from lineside_trainer.models.detector import SCORE
from lineside_trainer.models.patch_memory import MemoryDetector
from lineside_trainer.prepared import IntArray, Prepared
from lineside_trainer.runs.logbook import Row

NAME: Final = "memory"
"""Of the score."""

_AT_ONCE: Final = 64
_SIZES: Final = (30, 100, 300, 1000, 3000, 10_000, 30_000)
"""Of memories that the report compares, up to the one that was asked for."""


@dataclass(frozen=True, kw_only=True)
class SizedMemory:
    """What a part of the memory is worth.

    Attributes:
        patches: the first so many of the core-set, which are the core-set of so many.
        auroc: on the validation images.
    """

    patches: int
    auroc: float


class BuiltMemory(Built):
    """One score; smaller memories beside it where validation can tell them apart.

    Args:
        detector: that remembers.
        fitted: its one pass.
        sizes: of smaller memories, rising; empty where no validation image is bad.
        notes: what a reader must know.
    """

    chosen = NAME
    judged_by = "mean score of good parts"

    def __init__(
        self,
        detector: MemoryDetector,
        fitted: FitResult,
        sizes: Sequence[SizedMemory],
        notes: tuple[str, ...],
    ) -> None:
        self.detector, self.fitted, self.notes = detector, fitted, notes
        self.layers = detector.backbone.layers()
        self._sizes = sizes

    def epochs(self, settings: FitSettings) -> int:  # noqa: ARG002
        return len(self.fitted.rows)

    def draw(self, folder: Path, shown: Shown) -> tuple[Picture, ...]:  # noqa: ARG002
        if len(self._sizes) < 2:
            return ()
        file = folder / "memory_sizes.png"
        draw_memory_sizes(
            file, [size.patches for size in self._sizes], [size.auroc for size in self._sizes]
        )
        caption = (
            "AUROC on the validation images with the first patches of the core-set alone. What a "
            "larger memory costs on a device: `lineside bench`."
        )
        return (Picture(file=file, caption=caption),)


def remember_good_parts(
    experiment: Experiment,
    prepared: Prepared,
    goodness: Goodness,
    initial: InitialWeights | None,
    out: Path,
    *,
    resume: bool,  # noqa: ARG001  (it takes seconds, and a stop leaves nothing to go on with)
) -> Built:
    """Embed the good training images, and keep a core-set of their patches.

    Raises:
        ExperimentError: weights of another network, or settings that its map does not have.
        OutOfMemoryError: with advice.
        StorageError: the disk is full, read-only or gone.
    """
    assert initial is not None, "checked with the settings"
    tell_unused(prepared.unused)
    run, settings = experiment.run, experiment.train.anomaly
    started_s = time.monotonic()
    torch.manual_seed(run.seed)
    backbone = build_backbone(experiment.model, prepared.input)
    notes = load_backbone(backbone, initial)
    detector = MemoryDetector(
        prepared.normalise(), backbone, model_input=prepared.input, settings=settings
    )
    detector.eval()
    rows = goodness.good_rows(prepared.split.indices["training"])
    with memory_advice(batch_size=_AT_ONCE, image_size_hw=prepared.input.size_hw, precision="fp32"):
        patches = embed_images(detector, prepared, rows, run)
        coreset = choose_coreset(patches, settings.memory_patches, seed=run.seed)
    detector.remember(patches[coreset.rows])
    embedded_s = time.monotonic() - started_s
    validation = goodness.known_rows(prepared.split.indices["validation"])
    good = goodness.good_rows(validation)
    row = Row(
        epoch=0,
        step=1,
        training_loss=coreset.reach,
        validation=float(score_images(detector, prepared, good).mean()),
        lr=0.0,
        seconds=time.monotonic() - started_s,
        images_per_s=len(rows) / embedded_s,
    )
    write_tensors(out / BEST, {"weights": _weights(detector), "epoch": 0})
    return BuiltMemory(
        detector,
        _one_pass(row, run),
        _compare_sizes(detector, prepared, goodness, validation),
        (*notes, *_notes(coreset, len(patches), len(rows))),
    )


@torch.no_grad()
def embed_images(
    detector: MemoryDetector, prepared: Prepared, rows: IntArray, run: RunSettings
) -> Tensor:
    """Every patch of some images, in fp32.

    Args:
        detector: in eval mode; it is back on the CPU afterwards.
        prepared: the images.
        rows: (M,) of the table.
        run: where.

    Returns:
        (M * h * w, width) float32 of length 1, on the CPU.
    """
    device = choose_device(run)
    detector.to(device)
    found = [
        detector.embed(prepared.store.rows(chosen).to(device)).flatten(0, 1).cpu()
        for chosen in torch.split(torch.from_numpy(np.asarray(rows)), _AT_ONCE)
    ]
    detector.cpu()
    return torch.cat(found)


@torch.no_grad()
def score_images(
    detector: MemoryDetector, prepared: Prepared, rows: IntArray, patches: int | None = None
) -> Tensor:
    """(M,) scores of some images, with the whole memory or the first `patches` of it."""
    memory = detector.memory
    assert memory is not None, "it remembers"
    part = memory[:patches]
    found = [
        detector(prepared.store.rows(chosen), part)[SCORE]
        for chosen in torch.split(torch.from_numpy(np.asarray(rows)), _AT_ONCE)
    ]
    return torch.cat(found)


def _compare_sizes(
    detector: MemoryDetector, prepared: Prepared, goodness: Goodness, rows: IntArray
) -> list[SizedMemory]:
    bad = goodness.known[rows] == 1.0
    memory = detector.memory
    if memory is None or bad.all() or not bad.any():
        return []
    sizes = [size for size in _SIZES if size < len(memory)] + [len(memory)]
    return [
        SizedMemory(
            patches=size,
            auroc=float(auroc(bad, score_images(detector, prepared, rows, size).double().numpy())),
        )
        for size in sizes
    ]


def _one_pass(row: Row, run: RunSettings) -> FitResult:
    return FitResult(
        rows=(row,),
        best_epoch=0,
        best_value=row.validation,
        device=choose_device(run),
        precision="fp32",
    )


def _weights(detector: MemoryDetector) -> dict[str, Tensor]:
    memory = detector.memory
    assert memory is not None, "it remembers"
    return {**detector.state_dict(), "memory": memory}


def _notes(coreset: Coreset, patches: int, images: int) -> tuple[str, ...]:
    kept = len(coreset.rows)
    told = f"the memory keeps {kept} of {patches} patches of {images} good training images"
    if kept < coreset.asked:
        told += f": all that differ, of {coreset.asked} asked for (train.anomaly.memory_patches)"
    return (f"{told}; the farthest lies {coreset.reach:.3g} from the nearest kept one",)
