"""A memory of good patches, on a network that was pre-trained on the factory's own images.

Nothing descends here: the network stays as it is, and the memory is a core-set of what it makes of
good training images. So there is one pass, its training loss is how far a training patch may lie
from the memory, and its validation figure is the mean score of good validation images.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import torch

from lineside_trainer.ancestry.initial import InitialWeights, load_backbone
from lineside_trainer.anomaly.built import Built
from lineside_trainer.anomaly.good_patches import Memory, build_memory
from lineside_trainer.anomaly.goodness import Goodness
from lineside_trainer.anomaly.memory_sizes import MemorySize, study_sizes
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
from lineside_trainer.models.patch_memory import MemoryDetector
from lineside_trainer.prepared import Prepared
from lineside_trainer.runs.logbook import Row

NAME: Final = "memory"
"""Of the score."""

_AT_ONCE: Final = 128
_IN_TORCH: Final = "torch, one thread"


class BuiltMemory(Built):
    """One score; smaller memories beside it where validation can tell them apart.

    Args:
        detector: that remembers.
        fitted: its one pass.
        sizes: of smaller memories, rising, the whole one last.
        notes: what a reader must know.
    """

    chosen = NAME
    judged_by = "mean score of good parts"

    def __init__(
        self,
        detector: MemoryDetector,
        fitted: FitResult,
        sizes: Sequence[MemorySize],
        notes: tuple[str, ...],
    ) -> None:
        self.detector, self.fitted, self.notes = detector, fitted, notes
        self.layers = detector.backbone.layers()
        self._sizes = sizes

    def epochs(self, settings: FitSettings) -> int:  # noqa: ARG002
        return len(self.fitted.rows)

    def draw(self, folder: Path, shown: Shown) -> tuple[Picture, ...]:  # noqa: ARG002
        areas = [size.auroc for size in self._sizes]
        if len(areas) < 2 or any(map(math.isnan, areas)):
            return ()
        file = folder / "memory_sizes.png"
        patches = [size.patches for size in self._sizes]
        latencies_ms = [size.latency_ms for size in self._sizes]
        draw_memory_sizes(file, patches, areas, latencies_ms, device=_IN_TORCH)
        caption = (
            "AUROC on the validation images with the first patches of the memory alone, and what "
            "an image then costs. What it costs on a device: `lineside bench`."
        )
        return (Picture(file=file, caption=caption),)

    def tables(self) -> dict[str, dict[str, str]]:
        rows = {
            f"{size.patches} patches": (
                ("" if math.isnan(size.auroc) else f"validation AUROC {size.auroc:.3f}, ")
                + f"{size.size_bytes / 1e6:.2f} MB, {size.latency_ms:.2f} ms an image ({_IN_TORCH})"
            )
            for size in self._sizes
        }
        return {"Size of the memory": rows}


def remember_good_parts(
    experiment: Experiment,
    prepared: Prepared,
    goodness: Goodness,
    initial: InitialWeights | None,
    out: Path,
    *,
    resume: bool,  # noqa: ARG001  (it takes seconds, and a stop leaves nothing to go on with)
) -> Built:
    """Keep the patches of good training images that lie near all others.

    Raises:
        ExperimentError: weights of another network, or settings that its map does not have.
        DataError: fewer than two good training images.
        OutOfMemoryError: with advice.
        StorageError: the disk is full, read-only or gone.
    """
    assert initial is not None, "checked with the settings"
    tell_unused(prepared.unused)
    started_s = time.monotonic()
    detector, notes = _make_detector(experiment, prepared, initial)
    run, settings = experiment.run, experiment.train.anomaly
    rows = goodness.good_rows(prepared.split.indices["training"])
    with memory_advice(batch_size=_AT_ONCE, image_size_hw=prepared.input.size_hw, precision="fp32"):
        memory = build_memory(detector, prepared, rows, settings, run)
    built_s = time.monotonic() - started_s
    write_tensors(out / BEST, {"weights": detector.state_dict(), NAME: memory.patches, "epoch": 0})
    judged = goodness.known_rows(prepared.split.indices["validation"])
    bad = goodness.known[judged] == 1.0
    sizes = study_sizes(detector, memory.patches, prepared, judged, bad)
    row = Row(
        epoch=0,
        step=1,
        training_loss=memory.reach,
        validation=float(sizes[-1].scores[~bad].mean()),
        lr=0.0,
        seconds=time.monotonic() - started_s,
        images_per_s=len(rows) / built_s,
    )
    notes = (*notes, _told(memory, len(rows)), *memory.notes)
    return BuiltMemory(detector, _one_pass(row, run), sizes, notes)


def _make_detector(
    experiment: Experiment, prepared: Prepared, initial: InitialWeights
) -> tuple[MemoryDetector, tuple[str, ...]]:
    torch.manual_seed(experiment.run.seed)
    backbone = build_backbone(experiment.model, prepared.input)
    notes = load_backbone(backbone, initial)
    detector = MemoryDetector(
        prepared.normalise(),
        backbone,
        model_input=prepared.input,
        settings=experiment.train.anomaly,
    )
    return detector, notes


def _one_pass(row: Row, run: RunSettings) -> FitResult:
    return FitResult(
        rows=(row,),
        best_epoch=0,
        best_value=row.validation,
        device=choose_device(run),
        precision="fp32",
    )


def _told(memory: Memory, images: int) -> str:
    return (
        f"the memory keeps {len(memory.patches)} of {memory.seen} patches of {images} good "
        f"training images; the farthest of them lies {memory.reach:.3g} from the nearest kept one"
    )
