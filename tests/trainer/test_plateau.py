"""A rate that falls when nothing gets better, Adam, and table I of Ulger et al."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn, optim

from lineside_trainer.data import NO_AUGMENTATION, Batches, ImageStore
from lineside_trainer.experiment import (
    AUTOENCODER_DEFAULTS,
    AnomalySettings,
    Experiment,
    FitSettings,
    RunSettings,
)
from lineside_trainer.experiment_file import merge_tables, plain_table
from lineside_trainer.learning.descent import make_optimizer, plateau_rate
from lineside_trainer.learning.fit import FitResult, fit
from lineside_trainer.learning.learner import Learner
from lineside_trainer.learning.loop import FitData
from lineside_trainer.learning.progress import Progress
from lineside_trainer.models.autoencoder import AUTOENCODERS

EPOCHS = 8
STEPS_AN_EPOCH = 3
SETTINGS = FitSettings(
    epochs=EPOCHS,
    lr=0.01,
    optimizer="adam",
    schedule="plateau",
    plateau_patience=2,
    weight_decay=0.0,
    grad_clip=0.0,
)


class Walker(Learner):
    """Walks past its goal: better for three epochs, worse from there on."""

    def __init__(self) -> None:
        super().__init__()
        self.place = nn.Parameter(torch.zeros(1))

    def loss(self, images_nhwc: Tensor, targets: Tensor, generator: torch.Generator) -> Tensor:
        return -self.place.sum()

    def judge(self, images_nhwc: Tensor, targets: Tensor, generator: torch.Generator) -> Tensor:
        return (self.place - 0.09).abs()

    def layers(self) -> Sequence[Sequence[nn.Parameter]]:
        return [[self.place]]


class StopAt(Progress):
    """The user presses Ctrl-C after so many steps."""

    def __init__(self, step: int) -> None:
        super().__init__("test", EPOCHS)
        self.left = step

    def step(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise KeyboardInterrupt


def run(folder: Path, *, stop_after: int = 10**6) -> tuple[FitResult, float]:
    store = ImageStore(images_nhwc=torch.zeros(12, 2, 2, 1, dtype=torch.uint8))
    training, judging = (
        Batches(store, rows, np.zeros(12), batch_size=3, seed=0, shuffle=last, drop_last=last)
        for rows, last in ((np.arange(9), True), (np.arange(9, 12), False))
    )
    learner = Walker()
    result = fit(
        learner,
        FitData(training=training, judging=judging, image_size_hw=(2, 2), digest="same"),
        settings=SETTINGS,
        augment=NO_AUGMENTATION,
        run=RunSettings(device="cpu", checkpoint_every_steps=1),
        folder=folder,
        resume=True,
        progress=StopAt(stop_after),
    )
    return result, float(learner.place.detach())


def told(result: FitResult) -> list[tuple[int, float, float]]:
    return [(row.step, row.validation, row.lr) for row in result.rows]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> FitResult:
    return run(tmp_path_factory.mktemp("whole"))[0]


def test_the_rate_is_highest_from_the_first_step_and_falls_after_each_plateau(
    whole: FitResult,
) -> None:
    # Adam walks lr a step: 0.03 an epoch, so that the third of the epochs is at the goal. The
    # fourth and fifth are a plateau, so from the sixth on it walks a tenth, further away.
    assert whole.best_epoch == 2
    wanted = [0.01] * 5 + [0.001] * 2 + [0.0001]
    assert [row.lr for row in whole.rows] == pytest.approx(wanted)
    walked = [row.validation + 0.09 for row in whole.rows[5:]]
    assert walked == pytest.approx([0.153, 0.156, 0.1563], abs=1e-5)


@pytest.mark.parametrize("stop_after", range(1, EPOCHS * STEPS_AN_EPOCH))
def test_going_on_after_any_step_walks_the_same_way(
    stop_after: int, whole: FitResult, tmp_path: Path
) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, stop_after=stop_after)
    assert told(run(tmp_path)[0]) == told(whole)


@given(st.lists(st.floats(0.0, 1.0), max_size=60), st.integers(1, 5))
def test_it_falls_as_torchs_schedule_does(judgements: list[float], patience: int) -> None:
    settings = msgspec.structs.replace(SETTINGS, plateau_patience=patience)
    optimizer = optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    theirs = optim.lr_scheduler.ReduceLROnPlateau(
        optimizer, factor=0.1, patience=patience - 1, threshold=0.0, eps=0.0
    )
    for done, judgement in enumerate(judgements, 1):
        theirs.step(judgement)
        wanted = optimizer.param_groups[0]["lr"]
        assert plateau_rate(judgements[:done], settings) == pytest.approx(wanted)
    assert plateau_rate([], settings) == 1.0


def test_adam_decays_as_a_part_of_the_gradient_and_adamw_apart_from_it() -> None:
    moved = {}
    for name in ("adam", "adamw"):
        settings = FitSettings(epochs=1, lr=0.1, weight_decay=0.5, optimizer=name)
        matrix = nn.Parameter(torch.full((1, 1), 2.0))
        optimizer = make_optimizer([[matrix]], settings)
        (0.0 * matrix.sum()).backward()
        optimizer.step()
        moved[name] = float(matrix.detach())
    # No gradient but the decay's: Adam makes a whole step of it, AdamW lr * decay of the weight.
    assert moved["adam"] == pytest.approx(2.0 - 0.1, rel=1e-4)
    assert moved["adamw"] == pytest.approx(2.0 * (1 - 0.1 * 0.5), rel=1e-4)


def test_what_others_are_told_has_not_changed() -> None:
    settings = FitSettings(epochs=1, lr=1e-3)
    assert (settings.optimizer, settings.schedule) == ("adamw", "cosine")
    optimizer = make_optimizer([[nn.Parameter(torch.zeros(2, 2))]], settings)
    assert type(optimizer) is optim.AdamW


@pytest.mark.parametrize("arch", AUTOENCODERS)
def test_table_1_stands_under_each_autoencoders_name(arch: str) -> None:
    table = merge_tables(plain_table(Experiment()), AUTOENCODER_DEFAULTS[arch])
    train = msgspec.convert(table, Experiment).train
    assert (train.fit.epochs, train.fit.batch_size, train.fit.lr) == (100, 64, 1e-2)
    assert (train.fit.optimizer, train.fit.weight_decay) == ("adam", 1e-4)
    assert (train.fit.schedule, train.fit.plateau_factor) == ("plateau", 0.1)
    assert (train.fit.grad_clip, train.fit.ema, train.fit.layer_decay) == (0.0, 0.0, 1.0)
    augment = train.augment
    assert (augment.flip_horizontal, augment.flip_vertical, augment.crop) == (True, False, "none")
    assert train.anomaly.beta == {"cae": 0.0, "vae": 1.0, "beta_vae": 3.0}[arch]
    assert train.anomaly.score == AnomalySettings().score
    assert set(AUTOENCODER_DEFAULTS) == set(AUTOENCODERS)
