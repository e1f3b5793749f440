"""Siamese learning: the loss of eqs. 1 and 2, what keeps it from collapsing, and that we see it."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from lineside.contract import InputSpec
from lineside_trainer.data import NO_AUGMENTATION, Batches, ImageStore
from lineside_trainer.data.views import Views
from lineside_trainer.errors import DataError, ExperimentError, TrainerError
from lineside_trainer.experiment import Experiment, FitSettings, RunSettings
from lineside_trainer.experiment_file import (
    convert_experiment,
)
from lineside_trainer.learning.fit import fit
from lineside_trainer.learning.learner import Learner
from lineside_trainer.learning.loop import METRICS, FitData
from lineside_trainer.learning.progress import Progress
from lineside_trainer.models import Normalise
from lineside_trainer.pretrain import build_method, check_method
from lineside_trainer.pretrain.simsiam import (
    DispersionMeter,
    SiameseNet,
    negative_cosine,
    siamese_loss,
)
from lineside_trainer.pretrain.simsiam_learner import (
    EMBEDDING_RANK,
    EMBEDDING_STD,
    SimSiamLearner,
)
from lineside_trainer.runs.logbook import Row

SIZE_HW = (32, 32)
NOTHING = torch.full((64,), math.nan)


def told(**pretrain: object) -> Experiment:
    table = {
        "data": {"image_size_hw": list(SIZE_HW)},
        "model": {"arch": "test_resnet"},
        "pretrain": {"method": "simsiam", **pretrain},
    }
    return convert_experiment(table, source="test")  # type: ignore[arg-type]


def make_learner(channels: int = 1, **pretrain: object) -> SimSiamLearner:
    torch.manual_seed(0)
    model_input = InputSpec(size_hw=SIZE_HW, channels=3 if channels == 3 else 1)
    normalise = Normalise((127.0,) * channels, (60.0,) * channels)
    learner = build_method(told(**pretrain), model_input, normalise)
    assert isinstance(learner, SimSiamLearner)
    return learner


def textures(count: int, seed: int = 0) -> Tensor:
    """Images that differ: waves of their own direction, length and brightness."""
    generator = torch.Generator().manual_seed(seed)
    draws = torch.rand(4, count, 1, 1, generator=generator)
    row, col = torch.meshgrid(torch.arange(32.0), torch.arange(32.0), indexing="ij")
    turn = draws[0] * math.pi
    along = row * turn.sin() + col * turn.cos()
    wave = torch.sin(along * (0.3 + draws[1]) + draws[2] * 2 * math.pi)
    return (70 + 110 * draws[3] + 60 * wave).clamp(0, 255).to(torch.uint8)[..., None]


def draws(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


vectors = st.integers(0, 10_000).map(lambda seed: torch.randn(4, 5, 6, generator=draws(seed)))


@given(given_vectors=vectors)
def test_the_loss_is_that_of_the_paper(given_vectors: Tensor) -> None:
    """Eqs. 1 and 2 written out with norms."""
    z1, p1, z2, p2 = given_vectors

    def distance(p: Tensor, z: Tensor) -> Tensor:
        return -((p / p.norm(dim=1, keepdim=True)) * (z / z.norm(dim=1, keepdim=True))).sum(dim=1)

    expected = distance(p1, z2) / 2 + distance(p2, z1) / 2
    loss = siamese_loss((z1, p1), (z2, p2))
    assert torch.allclose(loss, expected, atol=1e-6)
    assert bool((loss.abs() <= 1 + 1e-6).all())


@given(given_vectors=vectors)
def test_the_loss_is_symmetric_and_blind_to_length(given_vectors: Tensor) -> None:
    z1, p1, z2, p2 = given_vectors
    loss = siamese_loss((z1, p1), (z2, p2))
    assert torch.equal(siamese_loss((z2, p2), (z1, p1)), loss)
    assert torch.allclose(siamese_loss((z1 * 7, p1 * 3), (z2, p2 * 0.1)), loss, atol=1e-6)


def test_no_gradient_goes_through_an_embedding() -> None:
    p, z = torch.randn(2, 4, 6, requires_grad=True).unbind()
    negative_cosine(p, z).sum().backward()
    whole = torch.randn(2, 4, 6, requires_grad=True)
    negative_cosine(whole[0], whole[1]).sum().backward()
    assert whole.grad is not None
    assert float(whole.grad[0].abs().sum()) > 0
    assert torch.equal(whole.grad[1], torch.zeros(4, 6))


def test_the_network_learns_as_if_the_other_view_were_a_constant() -> None:
    """The whole network's gradient against one whose embeddings were computed beforehand."""
    learner = make_learner()
    other = copy.deepcopy(learner)
    images = textures(16)
    learner.loss(images, NOTHING, draws()).backward()

    views = other._views(images, draws())
    with torch.no_grad():
        constants = [copy.deepcopy(other.net)(view)[0] for view in views]
    predictions = [other.net(view)[1] for view in views]
    loss = sum(
        -nn.functional.cosine_similarity(p, z, dim=1).mean() / 2
        for p, z in zip(predictions, reversed(constants), strict=True)
    )
    assert isinstance(loss, Tensor)
    loss.backward()
    for own, expected in zip(learner.parameters(), other.parameters(), strict=True):
        assert own.grad is not None and expected.grad is not None
        # The same sums in another order, fp32.
        assert torch.allclose(own.grad, expected.grad, atol=1e-6)


def test_sizes_come_from_the_backbone_unless_they_are_told() -> None:
    net = make_learner().net
    assert [m.out_features for m in net.projector if isinstance(m, nn.Linear)] == [96, 96, 96]
    assert [m.out_features for m in net.predictor if isinstance(m, nn.Linear)] == [24, 96]
    last = net.projector[-1]
    assert isinstance(last, nn.BatchNorm1d) and not last.affine
    net = make_learner(simsiam={"width": 32, "bottleneck": 5}).net
    assert [m.out_features for m in net.predictor if isinstance(m, nn.Linear)] == [5, 32]


def test_the_papers_network_has_the_papers_sizes() -> None:
    """ResNet-50 without --arch; projector 2048, bottleneck 512 (Chen & He 2021, sec. 3)."""
    experiment = convert_experiment({"pretrain": {"method": "simsiam"}}, source="test")
    assert experiment.model.arch == "resnet50"
    assert experiment.pretrain.augment == NO_AUGMENTATION
    with torch.device("meta"):
        net = build_method(
            experiment, InputSpec(size_hw=(64, 64), channels=1), Normalise((0.0,), (1.0,))
        ).get_submodule("net")
    assert isinstance(net, SiameseNet)
    shapes = [tuple(p.shape) for p in (*net.projector.parameters(), *net.predictor.parameters())]
    assert shapes.count((2048, 2048)) == 3
    assert (512, 2048) in shapes and (2048, 512) in shapes


def test_what_is_told_wins_over_the_methods_defaults() -> None:
    experiment = told(fit={"lr": 0.3}, augment={"crop": "fixed"})
    assert experiment.model.arch == "test_resnet"
    assert (experiment.pretrain.fit.lr, experiment.pretrain.fit.beta2) == (0.3, 0.999)
    assert experiment.pretrain.augment.crop == "fixed"
    assert not experiment.pretrain.augment.flip_horizontal


@given(seed=st.integers(0, 99), splits=st.lists(st.integers(1, 39), max_size=3, unique=True))
def test_the_spread_is_that_of_all_batches_together(seed: int, splits: list[int]) -> None:
    embedded = torch.randn(40, 6, generator=draws(seed)) * 3 + 1
    meter = DispersionMeter()
    for part in torch.tensor_split(embedded, sorted(splits)):
        meter.add(part)
    spread = meter.take()
    assert spread is not None and meter.take() is None
    directions = (embedded / embedded.norm(dim=1, keepdim=True)).double()
    assert abs(spread.std - float(directions.std(dim=0, correction=0).mean())) < 1e-5
    eigenvalues = torch.linalg.eigvalsh(torch.cov(directions.T))
    assert abs(spread.rank - float(eigenvalues.sum() ** 2 / eigenvalues.square().sum())) < 1e-3


def test_the_spread_knows_good_from_collapsed() -> None:
    even = torch.randn(4000, 64, generator=draws())
    line = torch.randn(4000, 1, generator=draws()) * torch.ones(64)
    point = torch.ones(4000, 64) + 1e-3 * even
    found = {}
    for name, embedded in (("even", even), ("line", line), ("point", point)):
        meter = DispersionMeter()
        meter.add(embedded)
        spread = meter.take()
        assert spread is not None
        found[name] = spread
    # 4000 draws of 64 channels: a channel's deviation is known to 1 %, the mean better.
    assert abs(found["even"].std * 8 - 1) < 0.01 and found["even"].rank > 60
    assert found["line"].rank < 1.001 and found["line"].std * 8 > 0.99
    assert found["point"].std * 8 < 0.01


def test_one_image_says_nothing_of_how_images_differ() -> None:
    learner = make_learner().eval()
    with torch.no_grad():
        assert learner.judge(textures(1), NOTHING[:1], draws()).shape == (1,)
    assert learner.vitals() == {}
    with pytest.raises(DataError, match="too few"):
        learner.check_images(100, 1)
    with pytest.raises(DataError, match="7 images to learn from"):
        learner.check_images(7, 10)


def test_a_batch_too_small_for_batch_norm_is_refused_before_images_are_read() -> None:
    with pytest.raises(ExperimentError, match=r"pretrain\.fit\.batch_size: 7 .*--batch-size 8"):
        check_method(told(fit={"batch_size": 7}))
    check_method(told(fit={"batch_size": 8}))


@pytest.mark.parametrize("arch", ["vit_tiny", "swin_tiny", "resnet18", "sam_cnn", "xray_cnn"])
def test_every_family_can_learn_by_it(arch: str) -> None:
    experiment = convert_experiment(
        {"pretrain": {"method": "simsiam"}, "model": {"arch": arch}}, source="test"
    )
    check_method(experiment)


def test_examples_are_the_image_and_two_views_of_it() -> None:
    rows = make_learner(channels=3).eval().examples(textures(3).expand(-1, -1, -1, 3), draws())
    assert list(rows) == ["original", "a view", "another"]
    assert all(row.shape == (3, 32, 32, 3) and row.dtype == torch.float32 for row in rows.values())
    assert not torch.equal(rows["a view"], rows["another"])


def test_views_that_may_not_differ_do_not() -> None:
    same = {"jitter": 0.0, "grayscale": 0.0, "blur": 0.0, "flip_horizontal": 0.0}
    whole = {"crop_area": [1.0, 1.0], "crop_aspect": [1.0, 1.0]}
    learner = make_learner(simsiam={"views": {**same, **whole}})
    assert isinstance(learner.settings.views, Views)
    rows = learner.eval().examples(textures(3), draws())
    assert torch.allclose(rows["a view"], rows["original"], atol=1e-3)


def learn(learner: Learner, folder: Path, settings: FitSettings) -> list[Row]:
    noise = torch.randn(80, *SIZE_HW, 1, generator=draws())
    store = ImageStore(images_nhwc=(127 + 50 * noise).clamp(0, 255).to(torch.uint8))
    batches = partial(Batches, store, targets=None, batch_size=settings.batch_size, seed=0)
    data = FitData(
        training=batches(indices=np.arange(64), shuffle=True, drop_last=True),
        judging=batches(indices=np.arange(64, 80), shuffle=False, drop_last=False),
        image_size_hw=SIZE_HW,
        digest="same",
    )
    result = fit(
        learner,
        data,
        settings=settings,
        augment=NO_AUGMENTATION,
        run=RunSettings(device="cpu"),
        folder=folder,
        resume=False,
        progress=Progress("test", settings.epochs),
    )
    return list(result.rows)


def _without_predictor(learner: SimSiamLearner) -> None:
    learner.net.predictor = nn.Sequential()


@pytest.mark.parametrize(
    ("spoil", "collapses"), [(None, False), (_without_predictor, True)], ids=["whole", "spoilt"]
)
def test_a_network_without_its_predictor_collapses_and_is_stopped(
    spoil: Callable[[SimSiamLearner], None] | None, collapses: bool, tmp_path: Path
) -> None:
    """Chen & He 2021, sec. 4.2: without the predictor it cannot work, and ends in an error, with
    the curve written down; the whole network, on the same images and at the same rate, goes on."""
    # Where it ends depends on threads and rounding: 0.04 to 0.78 of the healthy std without the
    # predictor, 0.90 to 0.95 with it (2 thread counts, 3 starts each).
    learner = make_learner(simsiam={"collapse_below": 0.85})
    if spoil:
        spoil(learner)
    settings = FitSettings(epochs=18, batch_size=16, lr=5e-3, weight_decay=1e-4)
    if collapses:
        with pytest.raises(TrainerError, match=r"collapsed.*Lower --lr"):
            learn(learner, tmp_path, settings)
    else:
        rows = learn(learner, tmp_path, settings)
        assert rows[-1].training_loss < 1.5 * rows[4].training_loss < 0
        assert rows[-1].vitals[EMBEDDING_STD] > 0.85 * learner.healthy_std
    header = (tmp_path / METRICS).read_text().splitlines()[0]
    assert header.endswith(f"{EMBEDDING_STD},{EMBEDDING_RANK}")


def rows_with(std: float, steps: list[int]) -> list[Row]:
    return [
        Row(
            epoch=epoch,
            step=step,
            training_loss=-0.9,
            validation=-0.9,
            lr=1e-3,
            seconds=1.0,
            images_per_s=1.0,
            vitals={EMBEDDING_STD: std, EMBEDDING_RANK: 1.0},
        )
        for epoch, step in enumerate(steps)
    ]


def test_collapse_is_called_after_three_settled_epochs_and_not_before() -> None:
    learner = make_learner()
    collapsed = 0.55 * learner.healthy_std
    learner.heed(rows_with(collapsed, [10, 20, 30, 40, 50, 60]))  # two of them settled
    learner.heed(rows_with(collapsed, [60, 70]))
    learner.heed(rows_with(0.95 * learner.healthy_std, [60, 70, 80]))
    with pytest.raises(TrainerError, match="after epoch 3"):
        learner.heed(rows_with(collapsed, [60, 70, 80]))
    make_learner(simsiam={"collapse_below": 0.0}).heed(rows_with(collapsed, [60, 70, 80]))
