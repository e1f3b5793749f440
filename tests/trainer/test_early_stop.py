"""A fit that stops early stops once: where it would have, whatever interrupted it before."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from lineside_trainer.data import NO_AUGMENTATION, Batches, ImageStore
from lineside_trainer.experiment import FitSettings, RunSettings
from lineside_trainer.learning.fit import FitResult, fit
from lineside_trainer.learning.learner import Learner
from lineside_trainer.learning.loop import FitData
from lineside_trainer.learning.progress import Progress

STEPS_AN_EPOCH = 3
EPOCHS = 12
PATIENCE = 2


class Walker(Learner):
    """Walks past its goal at a constant pace: better until there, worse from there on."""

    def __init__(self) -> None:
        super().__init__()
        self.place = nn.Parameter(torch.zeros(1))

    def loss(self, images_nhwc: Tensor, targets: Tensor, generator: torch.Generator) -> Tensor:
        return -self.place.sum()

    def judge(self, images_nhwc: Tensor, targets: Tensor, generator: torch.Generator) -> Tensor:
        return (self.place - 0.1).abs()

    def layers(self) -> Sequence[Sequence[nn.Parameter]]:
        return [[self.place]]


class Stopped(Progress):
    """The user presses Ctrl-C after so many steps; counts them."""

    def __init__(self, after: int) -> None:
        super().__init__("test", EPOCHS)
        self.after = after
        self.steps = 0

    def step(self) -> None:
        self.steps += 1
        if self.steps > self.after:
            raise KeyboardInterrupt


def run(
    folder: Path, *, after: int = 10**6, patience: int = PATIENCE, every: int = 1
) -> tuple[FitResult, int]:
    rows = np.arange(12)
    store = ImageStore(images_nhwc=torch.zeros(12, 2, 2, 1, dtype=torch.uint8))

    def make(rows: np.ndarray, *, shuffle: bool) -> Batches:
        return Batches(
            *(store, rows, np.zeros(12)), batch_size=3, seed=0, shuffle=shuffle, drop_last=shuffle
        )

    progress = Stopped(after)
    result = fit(
        Walker(),
        FitData(
            training=make(rows[:9], shuffle=True),
            judging=make(rows[9:], shuffle=False),
            image_size_hw=(2, 2),
            digest="same",
        ),
        settings=FitSettings(
            epochs=EPOCHS, lr=1e-2, weight_decay=0.0, warmup_share=0.0, patience=patience
        ),
        augment=NO_AUGMENTATION,
        run=RunSettings(device="cpu", checkpoint_every_s=1e6, checkpoint_every_steps=every),
        folder=folder,
        resume=True,
        progress=progress,
    )
    return result, progress.steps


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> FitResult:
    return run(tmp_path_factory.mktemp("whole"))[0]


def told(result: FitResult) -> list[tuple[int, int, float, float]]:
    return [(row.epoch, row.step, row.validation, row.lr) for row in result.rows]


def test_it_stops_once_no_epoch_was_better_for_so_long(whole: FitResult) -> None:
    best = min(whole.rows, key=lambda row: row.validation)
    assert whole.best_epoch == best.epoch
    assert len(whole.rows) == best.epoch + 1 + PATIENCE < EPOCHS


def test_without_patience_it_goes_to_the_end(whole: FitResult, tmp_path: Path) -> None:
    longer, _ = run(tmp_path, patience=0)
    assert len(longer.rows) == EPOCHS
    # The cosine is laid over all epochs either way: stopping early bends no rate.
    assert told(longer)[: len(whole.rows)] == told(whole)


def test_a_fit_that_stopped_is_not_gone_on_with(whole: FitResult, tmp_path: Path) -> None:
    run(tmp_path, every=0)  # no checkpoint but the one that stopping leaves
    again, steps = run(tmp_path, every=0)
    assert steps == 0
    assert told(again) == told(whole)
    assert again.best_epoch == whole.best_epoch


@pytest.mark.parametrize("after", range(1, 3 * STEPS_AN_EPOCH + 2, 2))
def test_a_break_on_the_way_changes_nothing(after: int, whole: FitResult, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, after=after)
    again, _ = run(tmp_path)
    assert told(again) == told(whole)
