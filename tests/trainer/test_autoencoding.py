"""How autoencoders learn (Ulger et al., eq. 1 and 4), and that they then know good from damaged."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from torch import Tensor

from lineside_trainer.data import Augmentation, Batches, ImageStore
from lineside_trainer.errors import ExperimentError
from lineside_trainer.experiment import AnomalySettings, FitSettings, RunSettings
from lineside_trainer.learning.fit import FitResult, check_shareable, fit
from lineside_trainer.learning.loop import FitData
from lineside_trainer.learning.processes import ALONE, Place
from lineside_trainer.learning.progress import Progress
from lineside_trainer.models.autoencoder import Autoencoder, draw_codes, scale_pixels
from lineside_trainer.models.autoencoder_detector import (
    SCORES,
    AutoencoderDetector,
    read_autoencoder,
)
from lineside_trainer.tasks.autoencoding import AutoencoderLearner

SIDE_PX = 16
EPOCHS = 2
IMAGES = 24
STEPS = EPOCHS * IMAGES // 8


def make_learner(
    alpha: float = 0.5,
    arch: str = "vae",
    seed: int = 0,
    reduction: Literal["sum", "mean"] = "mean",
) -> AutoencoderLearner:
    torch.manual_seed(seed)
    net = Autoencoder(arch, size_hw=(SIDE_PX, SIDE_PX), channels=1)
    return AutoencoderLearner(net, AnomalySettings(alpha=alpha, beta=1.0, reduction=reduction))


def good_patches(count: int, seed: int) -> Tensor:
    """(N, H, W, 1) uint8: a soft bright spot, somewhere near the middle, on slight noise."""
    generator = np.random.default_rng(seed)
    place = np.arange(SIDE_PX)
    centre = SIDE_PX / 2 + generator.uniform(-2, 2, (2, count, 1))
    rows, columns = np.exp(-(((place - centre) / 4.0) ** 2))
    spot = 40 + 160 * rows[:, :, None] * columns[:, None, :]
    noisy = spot + generator.normal(0, 3, spot.shape)
    return torch.from_numpy(noisy.clip(0, 255).astype(np.uint8)[..., None])


def damage(patches: Tensor) -> Tensor:
    """A bright scratch at one side and a dark one at the other."""
    damaged = patches.clone()
    damaged[:, :, 2:4] = 230
    damaged[:, 11:13] = 0
    return damaged


def judged_by_hand(learner: AutoencoderLearner, images: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    """Error and loss of eq. 1, of one batch."""
    net, scaled = learner.autoencoder, scale_pixels(images)
    latent = net.encode(scaled)
    shown = net.decode(draw_codes(latent, torch.Generator().manual_seed(seed)))
    error = (shown - scaled).square().mean()
    mean, log_variance = latent.mean, latent.log_variance
    assert log_variance is not None
    return error, error + 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).mean()


def test_the_constraint_is_equation_4_and_its_mean_is_that_of_all_earlier_steps() -> None:
    alpha, images = 0.5, good_patches(4, seed=1)
    learner = make_learner(alpha)
    weights = [layer.conv.weight for layer in learner.autoencoder.decoder_layers()]
    gathered: list[list[Tensor]] = []
    for step in range(3):
        error, wanted = judged_by_hand(learner, images, seed=step)
        if gathered:
            means = [torch.stack(list(seen)).mean(0) for seen in zip(*gathered, strict=True)]
            now = torch.autograd.grad(error, weights, retain_graph=True)
            cosines = [
                (a * b).sum() / (a.norm() * b.norm()) for a, b in zip(now, means, strict=True)
            ]
            wanted = wanted - alpha * torch.stack(cosines).mean()
        # Batch norm's running figures move, but in training nothing is computed of them.
        loss = learner.loss(images, torch.zeros(4), torch.Generator().manual_seed(step))
        assert float(loss.detach()) == pytest.approx(float(wanted.detach()), rel=1e-4)
        learner.zero_grad()
        loss.backward()
        learner.after_backward()
        gathered.append([weight.grad.clone() for weight in weights])
    assert float(learner.autoencoder.training_gradients.count) == 3
    for ours, seen in zip(
        learner.autoencoder.training_gradients.means(), zip(*gathered, strict=True), strict=True
    ):
        assert torch.allclose(ours, torch.stack(list(seen)).mean(0), rtol=1e-4, atol=1e-8)


@pytest.mark.parametrize("seed", range(3))
def test_a_small_step_down_the_loss_turns_gradients_towards_their_mean(seed: int) -> None:
    """The constraint is differentiated a second time, or its weight would turn nothing."""
    learner, images = make_learner(alpha=1e3, seed=seed), good_patches(8, seed)
    learner.loss(good_patches(8, 9), torch.zeros(8), torch.Generator().manual_seed(9)).backward()
    learner.after_backward()
    before = learner.loss(images, torch.zeros(8), torch.Generator().manual_seed(0))
    learner.zero_grad()
    before.backward()
    slope = torch.cat([p.grad.flatten() for p in learner.parameters() if p.grad is not None]).norm()
    with torch.no_grad():
        for parameter in learner.parameters():
            parameter -= 1e-3 * parameter.grad / slope
    after = learner.loss(images, torch.zeros(8), torch.Generator().manual_seed(0))
    fallen = float((before - after).detach())
    # The first order of the fall is 1e-3 * slope, and of the error alone it is a thousandth.
    assert fallen == pytest.approx(1e-3 * float(slope), rel=0.3)


def test_alpha_has_the_same_say_beside_a_sum_as_beside_a_mean() -> None:
    images, told = good_patches(4, seed=8), {}
    for reduction in ("mean", "sum"):
        learner = make_learner(alpha=0.5, arch="cae", reduction=reduction)
        generator = torch.Generator().manual_seed(0)
        learner.loss(images, torch.zeros(4), generator).backward()
        learner.after_backward()
        told[reduction] = float(learner.loss(images, torch.zeros(4), generator).detach())
    assert told["sum"] == pytest.approx(SIDE_PX * SIDE_PX * told["mean"], rel=1e-4)


class StopAt(Progress):
    """The user presses Ctrl-C after so many steps."""

    def __init__(self, step: int) -> None:
        super().__init__("test", EPOCHS)
        self.left = step

    def step(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise KeyboardInterrupt


def run(
    folder: Path, *, resume: bool = False, stop_after: int = 10**6, grad_clip: float = 0.0
) -> tuple[FitResult, AutoencoderLearner]:
    learner = make_learner(seed=7 if resume else 0)  # a resumed one brings nothing of its own
    store = ImageStore(images_nhwc=good_patches(IMAGES + 8, seed=3))
    rows, targets = np.arange(IMAGES + 8), np.zeros(IMAGES + 8)
    training, judging = (
        Batches(store, chosen, targets, batch_size=8, seed=3, shuffle=shuffle, drop_last=shuffle)
        for chosen, shuffle in ((rows[:IMAGES], True), (rows[IMAGES:], False))
    )
    size_hw = (SIDE_PX, SIDE_PX)
    data = FitData(training=training, judging=judging, image_size_hw=size_hw, digest="same")
    result = fit(
        learner,
        data,
        settings=FitSettings(epochs=EPOCHS, batch_size=8, lr=1e-2, grad_clip=grad_clip),
        augment=Augmentation(crop="none"),
        run=RunSettings(seed=3, device="cpu", checkpoint_every_steps=1),
        folder=folder,
        resume=resume,
        progress=StopAt(stop_after),
    )
    return result, learner


def weights_of(learner: AutoencoderLearner) -> dict[str, bytes]:
    return {name: value.numpy().tobytes() for name, value in learner.state_dict().items()}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[FitResult, AutoencoderLearner]:
    return run(tmp_path_factory.mktemp("whole"))


@pytest.mark.parametrize("stop_after", [1, 3, STEPS - 1])
def test_going_on_gives_the_same_weights_and_the_same_mean_gradients(
    stop_after: int, whole: tuple[FitResult, AutoencoderLearner], tmp_path: Path
) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, stop_after=stop_after)
    result, learner = run(tmp_path, resume=True)
    assert weights_of(learner) == weights_of(whole[1])
    told = [(row.training_loss, row.validation, row.vitals) for row in result.rows]
    assert told == [(row.training_loss, row.validation, row.vitals) for row in whole[0].rows]
    assert set(told[0][2]) == {"recon", "kl"}


def test_mean_gradients_are_those_of_the_kept_epoch(
    whole: tuple[FitResult, AutoencoderLearner],
) -> None:
    result, learner = whole
    steps = (result.best_epoch + 1) * STEPS // EPOCHS
    assert float(learner.autoencoder.training_gradients.count) == steps


def test_clipping_comes_after_gathering(tmp_path: Path) -> None:
    """Steps clipped to nothing leave the network as it was, so every gradient is a first one."""
    _, learner = run(tmp_path, grad_clip=1e-6)
    gradients = learner.autoencoder.training_gradients
    assert max(float(mean.norm()) for mean in gradients.means()) > 1e-3


def test_several_processes_are_refused() -> None:
    check_shareable(make_learner(), ALONE, "cuda")
    with pytest.raises(ExperimentError, match="learns in one process"):
        check_shareable(make_learner(), Place(size=2, local_size=2), "cuda")


@pytest.fixture(scope="module")
def learnt() -> AutoencoderLearner:
    learner, images = make_learner(alpha=0.03), good_patches(64, seed=4)
    optimizer = torch.optim.Adam(learner.parameters(), lr=3e-3)
    for step in range(60):
        generator = torch.Generator().manual_seed(step)
        optimizer.zero_grad()
        learner.loss(images, torch.zeros(64), generator).backward()
        learner.after_backward()
        optimizer.step()
    return learner.eval()


@pytest.mark.parametrize("score", SCORES)
def test_damaged_patches_score_above_their_undamaged_twins(
    score: str, learnt: AutoencoderLearner
) -> None:
    unseen = good_patches(32, seed=5)
    told = [
        read_autoencoder(learnt.autoencoder, images, gamma=0.03, reduction="mean").scores[score]
        for images in (unseen, damage(unseen))
    ]
    assert bool((told[1] > told[0]).all())
    # And above every good one, not only its own twin.
    assert float(told[1].min()) > float(told[0].max())


def test_a_reading_is_what_the_detectors_say(learnt: AutoencoderLearner) -> None:
    images = good_patches(70, seed=6)
    reading = read_autoencoder(learnt.autoencoder, images, gamma=0.03, reduction="sum")
    assert set(reading.scores) == set(SCORES)
    assert reading.latent_means.shape == (70, 10 * 2 * 2)
    for score in SCORES:
        detector = AutoencoderDetector(learnt.autoencoder, score=score, gamma=0.03, reduction="sum")
        told = detector(images)
        assert torch.allclose(told["score"], reading.scores[score], rtol=1e-5)
    off = (reading.reconstructions_nhwc - images).square() / 127.5**2
    assert torch.allclose(told["map"], off.mean(dim=3), atol=1e-4)
    with torch.no_grad():
        wanted = learnt.autoencoder.encode(scale_pixels(images)).mean.flatten(1)
    assert torch.allclose(reading.latent_means, wanted, atol=1e-4)


def test_a_score_that_a_network_cannot_give_is_refused() -> None:
    cae = Autoencoder("cae", size_hw=(8, 8), channels=3)
    for score, words in (("elbo", "a CAE has no distribution"), ("gradcon", "train first")):
        with pytest.raises(ExperimentError, match=words):
            AutoencoderDetector(cae, score=score, gamma=1.0, reduction="sum")
    images = torch.zeros((1, 8, 8, 3), dtype=torch.uint8)
    assert set(read_autoencoder(cae, images, gamma=1.0, reduction="sum").scores) == {"recon"}
