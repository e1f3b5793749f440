"""A linear probe moves one layer and nothing else, and is blind to the scale of the features."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from bright_plates import write_plates
from click.testing import CliRunner
from torch import nn

from lineside.cli.main import lineside
from lineside_trainer.durable import read_weights
from lineside_trainer.errors import ExperimentError
from lineside_trainer.experiment import (
    DataSettings,
    Experiment,
    FitSettings,
    ModelSettings,
    RunSettings,
    TrainSettings,
)
from lineside_trainer.learning.lesson import Lesson
from lineside_trainer.models import Backbone
from lineside_trainer.models.headed import Standardise
from lineside_trainer.prepared import Prepared, prepare_data
from lineside_trainer.probe import check_probe, compute_features, learn_probe, standardise_probe
from lineside_trainer.tasks import Task, build_task, headed

SETTINGS = FitSettings(epochs=4, batch_size=8, lr=1e-2, ema=0.9)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_plates(
        tmp_path_factory.mktemp("images"),
        size_hw=(32, 32),
        parts=60,
        views=1,
        levels=(40, 200),
        noise=30,
    )


@pytest.fixture(scope="module")
def experiment(images: Path) -> Experiment:
    """`test_resnet` of timm has batch norms, which training would move."""
    return Experiment(
        data=DataSettings(folder=str(images), image_size_hw=(32, 32)),
        model=ModelSettings(arch="test_resnet"),
        train=TrainSettings(target="damage", probe=True, fit=SETTINGS),
        run=RunSettings(device="cpu", checkpoint_every_steps=1),
    )


@pytest.fixture(scope="module")
def prepared(experiment: Experiment, tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    return prepare_data(experiment, target="damage", folder=tmp_path_factory.mktemp("store"))


def make(experiment: Experiment, prepared: Prepared, scale: float = 1.0) -> Task:
    torch.manual_seed(1)
    targets = prepared.table.targets[prepared.labelled("training")]
    task = build_task(experiment, prepared.input, prepared.normalise(), targets)
    if scale != 1.0:
        headed(task).backbone = Scaled(headed(task).backbone, scale)
    standardise_probe(task, prepared, experiment.run)
    return task


class Scaled(Backbone):
    """The same features, larger."""

    def __init__(self, plain: Backbone, scale: float) -> None:
        super().__init__()
        self.plain, self.scale = plain, scale
        self.net, self.width = plain.net, plain.width

    def feature(self, images_nchw: torch.Tensor) -> torch.Tensor:
        return self.plain.feature(images_nchw) * self.scale

    def feature_map(self, images_nchw: torch.Tensor) -> torch.Tensor:
        return self.plain.feature_map(images_nchw) * self.scale

    def layers(self) -> list[list[nn.Parameter]]:
        return self.plain.layers()

    @property
    def watched(self) -> nn.Module:
        return self.plain.watched

    @property
    def early(self) -> nn.Module:
        return self.plain.early

    def as_map(self, activation: torch.Tensor) -> torch.Tensor:
        return self.plain.as_map(activation)


def fit(task: Task, experiment: Experiment, prepared: Prepared, folder: Path) -> list[float]:
    lesson = Lesson(
        title="probe",
        training=prepared.labelled("training"),
        judging=prepared.labelled("validation"),
        settings=experiment.train.fit,
        augment=experiment.train.augment,
    )
    folder.mkdir(exist_ok=True)
    fitted = learn_probe(task, prepared, lesson, run=experiment.run, folder=folder, resume=True)
    return [row.validation for row in fitted.rows]


def state(module: nn.Module) -> dict[str, bytes]:
    return {name: tensor.numpy().tobytes() for name, tensor in module.state_dict().items()}


def test_only_the_linear_layer_learns(
    experiment: Experiment, prepared: Prepared, tmp_path: Path
) -> None:
    task = make(experiment, prepared)
    network = headed(task)
    backbone, head = state(network.backbone), state(network.head)
    trained = sum(p.numel() for layer in task.layers() for p in layer)
    assert trained == network.backbone.width + 1
    judged = fit(task, experiment, prepared, tmp_path)
    assert judged[-1] < judged[0]
    assert state(network.backbone) == backbone, "weights and batch norms' figures included"
    moved = {name for name, found in state(network.head).items() if found != head[name]}
    assert moved == {"1.weight", "1.bias"}


def test_the_backbone_stays_as_it_judges_while_the_head_trains(
    experiment: Experiment, prepared: Prepared
) -> None:
    network = headed(make(experiment, prepared)).train()
    assert network.head.training
    assert not any(module.training for module in network.backbone.modules())
    network.eval()
    assert not any(module.training for module in network.modules())


def test_features_read_as_images_are_judged(experiment: Experiment, prepared: Prepared) -> None:
    """The layer was fitted on stored features, and is exported behind the backbone."""
    network = headed(make(experiment, prepared)).eval()
    rows = prepared.labelled("validation")
    features = compute_features(network, prepared, rows, experiment.run)
    with torch.no_grad():
        expected = network.raw(prepared.store.rows(torch.from_numpy(rows)))
        with network.reading_features():
            found = network.raw(features[torch.from_numpy(rows)][:, None, None, :])
    # Both are fp32 on one machine; only the order of sums may differ with the batch.
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


def test_the_scale_of_features_changes_nothing(
    experiment: Experiment, prepared: Prepared, tmp_path: Path
) -> None:
    plain = fit(make(experiment, prepared), experiment, prepared, tmp_path / "a")
    large = fit(make(experiment, prepared, scale=1000.0), experiment, prepared, tmp_path / "b")
    # Standardised features differ by rounding alone (1e-6); a fit of 16 steps adds little to it.
    np.testing.assert_allclose(large, plain, rtol=1e-3)


def test_a_feature_that_never_changes_is_left_unscaled() -> None:
    features = torch.randn(50, 4) * torch.tensor([1.0, 100.0, 1e-3, 0.0]) + 5.0
    layer = Standardise(4)
    layer.measure(features)
    found = layer(features)
    torch.testing.assert_close(found.mean(dim=0), torch.zeros(4), rtol=0, atol=1e-3)
    expected = torch.tensor([1.0, 1.0, 1.0, 0.0])
    # 1e-3 on top of 5 has four digits left in fp32.
    torch.testing.assert_close(found.std(dim=0, correction=0), expected, rtol=1e-3, atol=1e-6)


def test_a_broken_probe_goes_on_to_the_same_bytes(
    experiment: Experiment, prepared: Prepared, tmp_path: Path
) -> None:
    whole = make(experiment, prepared)
    fit(whole, experiment, prepared, tmp_path / "whole")
    broken = make(experiment, prepared)
    left = [7]

    def stop(module: nn.Module, _: object) -> None:
        left[0] -= int(module.training)
        if left[0] < 0:
            raise KeyboardInterrupt

    headed(broken).head.register_forward_pre_hook(stop)
    with pytest.raises(KeyboardInterrupt):
        fit(broken, experiment, prepared, tmp_path / "broken")
    again = make(experiment, prepared)
    fit(again, experiment, prepared, tmp_path / "broken")
    assert state(again) == state(whole)
    # The checkpoint carries the head alone, the kept weights are those of the whole network.
    assert (tmp_path / "whole" / "last.ckpt").stat().st_size < 100_000
    kept = read_weights(tmp_path / "whole" / "best.pt")
    assert {name: tensor.numpy().tobytes() for name, tensor in kept.items()} == state(whole)
    ended = make(experiment, prepared)
    fit(ended, experiment, prepared, tmp_path / "whole")
    assert state(ended) == state(whole)


@pytest.mark.parametrize(
    ("setting", "value"), [("head_width", 64), ("drop_path", 0.1), ("patch_drop", 0.5)]
)
def test_settings_that_a_frozen_network_passes_over_are_refused(setting: str, value: float) -> None:
    settings = msgspec.structs.replace(TrainSettings(probe=True), **{setting: value})
    with pytest.raises(ExperimentError, match=rf"train\.{setting}"):
        check_probe(settings)
    check_probe(msgspec.structs.replace(settings, probe=False))


def test_the_verb_hands_over_a_candidate(images: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    options = ["--data", images, "--target", "damage", "--out", out, "--arch", "test_resnet"]
    options += ["--image-size", "32", "--epochs", "2", "--device", "cpu", "--probe"]
    options += ["--batch-size", "16"]
    result = CliRunner().invoke(lineside, ["train", *map(str, options)])
    assert result.exit_code == 0, (result.output, result.exception)
    assert "linear probe" in result.stderr
    found = msgspec.json.decode((out / "result.json").read_bytes())
    assert found["run"]["parameters"] < 1000
    assert (out / "candidate" / "program.pt2").exists()
