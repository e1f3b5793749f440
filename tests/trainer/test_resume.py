"""A run that is stopped and goes on ends with the very same bytes."""

from __future__ import annotations

import hashlib
import math
import resource
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from lineside.errors import StorageError
from lineside_trainer.data import Augmentation, Batches, ImageStore
from lineside_trainer.durable import read_tensors, write_archive, write_tensors
from lineside_trainer.errors import TrainerError
from lineside_trainer.experiment import FitSettings, RunSettings
from lineside_trainer.learning.descent import rate_factor
from lineside_trainer.learning.fit import FitResult, fit
from lineside_trainer.learning.learner import Learner
from lineside_trainer.learning.loop import BEST, LAST, METRICS, FitData
from lineside_trainer.learning.progress import Progress
from lineside_trainer.runs.logbook import Row

EPOCHS = 3
IMAGES = 36
STEPS_AN_EPOCH = 4
STEPS = EPOCHS * STEPS_AN_EPOCH
SETTINGS = FitSettings(epochs=EPOCHS, batch_size=8, lr=1e-2, ema=0.9, layer_decay=0.7)


class Small(Learner):
    """Draws in every way a step can: dropout from torch's state, noise from the generator."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(64, 16)
        self.drop = nn.Dropout(0.3)
        self.last = nn.Linear(16, 1)

    def _value(self, images_nhwc: Tensor) -> Tensor:
        return self.last(self.drop(self.first(images_nhwc.flatten(1).float() / 255)).relu())[:, 0]

    def loss(self, images_nhwc: Tensor, targets: Tensor, generator: torch.Generator) -> Tensor:
        noise = torch.randn(len(targets), generator=generator)
        return (self._value(images_nhwc) - targets + 0.1 * noise).square().mean()

    def judge(self, images_nhwc: Tensor, targets: Tensor, generator: torch.Generator) -> Tensor:
        return (self._value(images_nhwc) - targets).square()

    def layers(self) -> Sequence[Sequence[nn.Parameter]]:
        return [list(self.first.parameters()), list(self.last.parameters())]


class Normed(Small):
    """Batch norm on the pixels: its running figures are the data's own, whatever is learnt."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(64, momentum=0.9)

    def _value(self, images_nhwc: Tensor) -> Tensor:
        pixels = self.norm(images_nhwc.flatten(1).float() / 255)
        return self.last(self.drop(self.first(pixels)).relu())[:, 0]

    def layers(self) -> Sequence[Sequence[nn.Parameter]]:
        return [list(self.norm.parameters()), *super().layers()]


class Vital(Small):
    """Says further figures of itself, gives up when one is too high, and keeps its last epoch."""

    keeps_last = True

    def __init__(self, give_up_at: float = math.inf) -> None:
        super().__init__()
        self.give_up_at = give_up_at
        self.judged = 0

    def judge(self, images_nhwc: Tensor, targets: Tensor, generator: torch.Generator) -> Tensor:
        self.judged += len(targets)
        return super().judge(images_nhwc, targets, generator)

    def vitals(self) -> dict[str, float]:
        found, self.judged = self.judged, 0
        return {"judged": float(found)}

    def heed(self, rows: Sequence[Row]) -> None:
        if sum(row.vitals["judged"] for row in rows) >= self.give_up_at:
            raise TrainerError("given up")


class StopAt(Progress):
    """The user presses Ctrl-C after so many steps."""

    def __init__(self, step: int) -> None:
        super().__init__("test", EPOCHS)
        self.left = step
        self.rows: list[Row] = []

    def step(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise KeyboardInterrupt

    def epoch(self, row: Row) -> None:
        self.rows.append(row)


def make_data(digest: str = "same", seed: int = 3) -> FitData:
    generator = np.random.default_rng(0)
    pixels = generator.integers(0, 256, (IMAGES + 8, 8, 8, 1), dtype=np.uint8)
    store = ImageStore(images_nhwc=torch.from_numpy(pixels))
    targets = pixels.mean(axis=(1, 2, 3)) / 128.0
    rows = np.arange(IMAGES + 8)
    return FitData(
        training=Batches(
            store, rows[:IMAGES], targets, batch_size=8, seed=seed, shuffle=True, drop_last=True
        ),
        judging=Batches(
            store, rows[IMAGES:], targets, batch_size=8, seed=seed, shuffle=False, drop_last=False
        ),
        image_size_hw=(8, 8),
        digest=digest,
    )


def run(
    folder: Path,
    *,
    resume: bool = False,
    stop_after: int = 10**6,
    data: FitData | None = None,
    settings: FitSettings = SETTINGS,
    learner: Learner | None = None,
) -> tuple[FitResult, dict[str, bytes]]:
    torch.manual_seed(3)
    learner = learner or Small()
    if resume:
        torch.manual_seed(99)  # what the state was when the process began must not matter
    result = fit(
        learner,
        data or make_data(),
        settings=settings,
        augment=Augmentation(crop_px=2),
        run=RunSettings(seed=3, device="cpu", checkpoint_every_steps=1),
        folder=folder,
        resume=resume,
        progress=StopAt(stop_after),
    )
    return result, {name: t.numpy().tobytes() for name, t in learner.state_dict().items()}


def optimiser_bytes(folder: Path) -> str:
    state = read_tensors(folder / LAST)["optimizer_states"][0]["state"]
    digest = hashlib.sha256()
    for moments in state.values():
        for tensor in moments.values():
            digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, FitResult, dict[str, bytes]]:
    folder = tmp_path_factory.mktemp("whole")
    return (folder, *run(folder))


@pytest.mark.parametrize("stop_after", range(1, STEPS + 1))
def test_going_on_after_any_step_gives_the_same_bytes(
    stop_after: int, whole: tuple[Path, FitResult, dict[str, bytes]], tmp_path: Path
) -> None:
    whole_folder, whole_result, whole_weights = whole
    if stop_after < STEPS:
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path, stop_after=stop_after)
    else:
        run(tmp_path)
    result, weights = run(tmp_path, resume=True)
    assert weights == whole_weights
    assert optimiser_bytes(tmp_path) == optimiser_bytes(whole_folder)
    assert (result.best_epoch, result.best_value) == (
        whole_result.best_epoch,
        whole_result.best_value,
    )
    told = [(r.epoch, r.step, r.training_loss, r.validation, r.lr) for r in result.rows]
    expected = [(r.epoch, r.step, r.training_loss, r.validation, r.lr) for r in whole_result.rows]
    assert told == expected
    assert len((tmp_path / METRICS).read_text().splitlines()) == 1 + EPOCHS


@pytest.mark.parametrize("stop_after", [None, 5])
def test_the_averaged_twin_has_running_figures_of_the_images(
    stop_after: int | None, tmp_path: Path
) -> None:
    learner = Normed()
    if stop_after:
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path, stop_after=stop_after, learner=Normed())
    run(tmp_path, resume=stop_after is not None, learner=learner)
    # Uniform pixels: mean 1/2, variance 1/12; 64 means of 8 images each, averaged over steps.
    assert abs(float(learner.norm.running_mean.mean()) - 0.5) < 0.03
    assert abs(float(learner.norm.running_var.mean()) - 1 / 12) < 0.01
    assert learner.norm.num_batches_tracked in (STEPS, STEPS - STEPS_AN_EPOCH, STEPS_AN_EPOCH)


def test_further_figures_are_written_down_and_the_newest_epoch_is_kept(tmp_path: Path) -> None:
    result, _ = run(tmp_path, learner=Vital())
    assert result.best_epoch == EPOCHS - 1
    assert result.best_value == result.rows[-1].validation
    lines = (tmp_path / METRICS).read_text().splitlines()
    assert lines[0].endswith(",images_per_s,judged")
    assert [line.rsplit(",", 1)[1] for line in lines[1:]] == ["8.0"] * EPOCHS


def test_a_learner_may_give_up_and_its_figures_stay(tmp_path: Path) -> None:
    with pytest.raises(TrainerError, match="given up"):
        run(tmp_path, learner=Vital(give_up_at=16))
    assert len((tmp_path / METRICS).read_text().splitlines()) == 1 + 2


def test_the_learning_rate_falls_from_epoch_to_epoch(
    whole: tuple[Path, FitResult, dict[str, bytes]],
) -> None:
    rates = [row.lr for row in whole[1].rows]
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] < 0.05 * SETTINGS.lr


@given(steps=st.integers(20, 500), warmup_share=st.floats(0.0, 0.9))
def test_the_rate_rises_to_its_highest_and_then_falls_to_nothing(
    steps: int, warmup_share: float
) -> None:
    factors = [rate_factor(step, steps, warmup_share) for step in range(steps + 1)]
    highest = factors.index(max(factors))
    assert factors[highest] == 1.0
    assert factors[: highest + 1] == sorted(factors[: highest + 1])
    assert factors[highest:] == sorted(factors[highest:], reverse=True)
    assert factors[0] > 0.0
    assert factors[-1] == 0.0


def test_what_is_no_checkpoint_of_ours_is_named(tmp_path: Path) -> None:
    write_tensors(tmp_path / LAST, {"weights": {}})
    with pytest.raises(TrainerError, match=r"last\.ckpt: not a checkpoint of this trainer"):
        run(tmp_path, resume=True)


def test_another_data_set_is_refused(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, stop_after=2)
    with pytest.raises(TrainerError, match="images have changed"):
        run(tmp_path, resume=True, data=make_data(digest="other"))


@pytest.mark.parametrize("keep", [0.0, 0.5, 0.999])
def test_a_torn_checkpoint_is_named(keep: float, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, stop_after=2)
    content = (tmp_path / LAST).read_bytes()
    (tmp_path / LAST).write_bytes(content[: int(keep * len(content))])
    with pytest.raises(TrainerError, match=r"last\.ckpt"):
        run(tmp_path, resume=True)


def test_a_loss_that_is_no_number_stops_the_run_and_keeps_no_such_weights(tmp_path: Path) -> None:
    mad = FitSettings(epochs=3, batch_size=8, lr=1e30, grad_clip=0.0)
    with pytest.raises(TrainerError, match="lower --lr"):
        run(tmp_path, settings=mad)
    assert not (tmp_path / BEST).exists()


def test_a_full_disk_is_ours_to_name_and_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "kept"
    path.write_bytes(b"old")
    with pytest.raises(StorageError, match="No space left"):
        write_archive(path, _full)
    assert path.read_bytes() == b"old"


def test_a_disk_that_fills_under_torch_is_named_by_the_system(tmp_path: Path) -> None:
    """A limit on the size of files stands for the disk: both refuse in the midst of writing."""
    path = tmp_path / "kept"
    path.write_bytes(b"old")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, limits[1]))
    try:
        with pytest.raises(StorageError, match=r"kept: cannot be written: File too large"):
            write_tensors(path, {"weights": torch.zeros(100_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["kept"]


def _full(_: object) -> None:
    with Path("/dev/full").open("wb") as file:
        file.write(b"x" * 100_000)
