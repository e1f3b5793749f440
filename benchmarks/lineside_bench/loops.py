"""Epochs of one learner: as `lineside` runs them, and as one writes a loop first.

`lineside` is the loop that the verbs run: image store, whole batches augmented at once, lightning,
averaging and logbook as they are. `plain` is torch's DataLoader over a data set that decodes,
prepares and augments one image an item, and a bare loop around the same network, loss, AdamW and
clipping.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim.optimizer import Optimizer, register_optimizer_step_post_hook
from torch.utils.data import DataLoader, Dataset

from lineside.frame import read_frame
from lineside.preprocess import prepare
from lineside_bench.subject import Subject
from lineside_trainer.learning.descent import make_optimizer
from lineside_trainer.learning.device import choose_precision
from lineside_trainer.learning.fit import fit
from lineside_trainer.learning.learner import Learner
from lineside_trainer.learning.progress import Progress
from lineside_trainer.prepared import IntArray, Prepared


@dataclass
class Watch:
    """Where a step's time goes.

    Attributes:
        spans: (network, whole) seconds of each step that another step came just before.
    """

    device: str
    spans: list[tuple[float, float]] = field(default_factory=list)
    _began_s: float = 0.0
    _ended_s: float | None = None

    def now_s(self) -> float:
        """When all that was asked of the device is done."""
        if self.device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()

    def loss_begins(self) -> None:
        """From here on it is the network's time."""
        self._began_s = self.now_s()

    def step_ends(self, *_: object) -> None:
        """Up to here it was."""
        now_s = self.now_s()
        if self._ended_s is not None:
            self.spans.append((now_s - self._began_s, now_s - self._ended_s))
        self._ended_s = now_s

    def epoch_ends(self) -> None:
        """What comes before the next step is judging and saving."""
        self._ended_s = None

    def share_outside(self) -> float:
        """Of the time, what is not the network's."""
        network, whole = (sum(times) for times in zip(*self.spans, strict=True))
        return float(1.0 - network / whole)


class Watched(Progress):
    """Tells the watch when an epoch ends, and people nothing."""

    def __init__(self, watch: Watch) -> None:
        super().__init__("", 1, shown=False)
        self._watch = watch

    def epoch(self, row: object) -> None:  # noqa: ARG002
        self._watch.epoch_ends()


@contextmanager
def watched(learner: Learner, watch: Watch) -> Iterator[None]:
    """Time a learner's steps, wherever they are made."""
    loss = learner.loss

    def timed(images_nhwc: Tensor, targets: Tensor, generator: torch.Generator) -> Tensor:
        watch.loss_begins()
        return loss(images_nhwc, targets, generator)

    learner.loss = timed  # type: ignore[method-assign]
    hook = register_optimizer_step_post_hook(watch.step_ends)
    try:
        yield
    finally:
        hook.remove()
        del learner.loss


class DecodedEachTime(Dataset[tuple[Tensor, float]]):
    """One image an item: read, decode, prepare, flip, crop."""

    def __init__(self, prepared: Prepared, rows: IntArray, reach_px: int) -> None:
        self._files = [prepared.table.records[row].file for row in rows]
        self._targets = prepared.table.targets[rows]
        self._frame, self._input = prepared.table.frame, prepared.input
        self._reach_px = reach_px

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, row: int) -> tuple[Tensor, float]:
        pixels = prepare(read_frame(self._files[row]).pixels_hwc, self._frame, self._input)
        augmented = flip_and_crop(pixels, self._reach_px).copy()
        return torch.from_numpy(augmented), float(self._targets[row])


def flip_and_crop(pixels_hwc: NDArray[np.uint8], reach_px: int) -> NDArray[np.uint8]:
    """What `augment_batch` does by default, to one image."""
    height, width = pixels_hwc.shape[:2]
    draws = torch.rand(4).tolist()
    if draws[0] < 0.5:
        pixels_hwc = pixels_hwc[:, ::-1]
    if draws[1] < 0.5:
        pixels_hwc = pixels_hwc[::-1]
    margin = ((reach_px, reach_px), (reach_px, reach_px), (0, 0))
    padded = np.pad(pixels_hwc, margin, mode="reflect")
    y, x = (int(draw * (2 * reach_px + 1)) for draw in draws[2:])
    return padded[y : y + height, x : x + width]


def lineside_epochs(subject: Subject, watch: Watch) -> float:
    """Median images/s over the epochs but the first."""
    settings, prepared, device = subject.settings, subject.prepared, subject.device
    learner = subject.fresh()
    data = prepared.batches(
        subject.training,
        subject.judging,
        settings=settings.fit,
        seed=subject.experiment.run.seed,
        device=device,
    )
    with tempfile.TemporaryDirectory() as folder, watched(learner, watch):
        result = fit(
            learner,
            data,
            settings=settings.fit,
            augment=settings.augment,
            run=subject.experiment.run,
            folder=Path(folder),
            resume=False,
            progress=Watched(watch),
        )
    return statistics.median(row.images_per_s for row in result.rows[1:])


def plain_epochs(subject: Subject, workers: int) -> float:
    """Likewise, of the loop that one writes first."""
    settings, device = subject.settings, subject.device
    learner = subject.fresh().to(device)
    optimizer = make_optimizer(learner.layers(), settings.fit)
    loader = DataLoader(
        DecodedEachTime(subject.prepared, subject.training, settings.augment.crop_px),
        batch_size=settings.fit.batch_size,
        shuffle=True,
        drop_last=True,
        num_workers=workers,
        persistent_workers=workers > 0,
        pin_memory=device == "cuda",
    )
    generator = torch.Generator().manual_seed(subject.experiment.run.seed)
    half = choose_precision(subject.experiment.run, device) == "bf16"
    speeds = []
    for _ in range(settings.fit.epochs):
        start_s = time.perf_counter()
        for images_nhwc, targets in loader:
            moved = (images_nhwc.to(device), targets.float().to(device))
            one_step(learner, optimizer, *moved, generator, half=half)
        if device == "cuda":
            torch.cuda.synchronize()
        seen = len(loader) * settings.fit.batch_size
        speeds.append(seen / (time.perf_counter() - start_s))
    return statistics.median(speeds[1:])


def one_step(
    learner: Learner,
    optimizer: Optimizer,
    images_nhwc: Tensor,
    targets: Tensor,
    generator: torch.Generator,
    *,
    half: bool,
) -> None:
    """Loss, gradient, clipping, AdamW."""
    with torch.autocast(images_nhwc.device.type, torch.bfloat16, enabled=half):
        loss = learner.loss(images_nhwc, targets, generator)
    optimizer.zero_grad()
    torch.autograd.backward(loss)
    nn.utils.clip_grad_norm_(learner.parameters(), 1.0)
    optimizer.step()
