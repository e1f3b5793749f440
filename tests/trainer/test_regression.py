"""Regression: units, standardisation, patch dropping, and the judgement beside the mean."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from lineside.contract import InputSpec, RegressionHead
from lineside_trainer.errors import DataError, ExperimentError
from lineside_trainer.evaluate import Judgement, measure
from lineside_trainer.evaluate.judgement import FEWEST_PARTS, predict
from lineside_trainer.experiment import Experiment, TrainSettings
from lineside_trainer.models import Normalise
from lineside_trainer.runs.results import Figure
from lineside_trainer.tasks import TASKS, Task, build_task
from lineside_trainer.telling.tuning_report import show_figure

FloatArray = NDArray[np.float64]
StrArray = NDArray[np.str_]
INPUT = InputSpec(size_hw=(16, 16), channels=1)
IMAGES = torch.randint(0, 256, (6, 16, 16, 1), dtype=torch.uint8)


def make_task(targets: list[float], **settings: object) -> Task:
    torch.manual_seed(0)
    experiment = Experiment(train=TrainSettings(target="x", head_width=32, **settings))  # type: ignore[arg-type]
    return build_task(experiment, INPUT, Normalise((127.0,), (60.0,)), np.array(targets))


@pytest.fixture(scope="module")
def task() -> Task:
    return make_task([0.0, 2.0]).eval()


def test_targets_are_standardised_by_the_training_fold() -> None:
    net = make_task([1.0, 5.0]).net
    assert (float(net.target_mean), float(net.target_std)) == (3.0, 2.0)  # type: ignore[arg-type, union-attr]


@given(mean=st.floats(-50, 50), spread=st.floats(0.1, 50))
def test_the_network_speaks_the_targets_unit(task: Task, mean: float, spread: float) -> None:
    """Whatever the unit, a standardised score z comes out as mean + z * std."""
    with torch.no_grad():
        task.net.target_mean.fill_(mean)  # type: ignore[operator, union-attr]
        task.net.target_std.fill_(spread)  # type: ignore[operator, union-attr]
        scores = task.net.standardised(IMAGES)  # type: ignore[operator, union-attr]
        values = task.network(IMAGES)
    assert values.shape == (6,)
    assert values.dtype == torch.float32
    assert torch.allclose(values, scores * spread + mean, rtol=1e-5, atol=1e-4)


def test_the_loss_of_the_mean_predictor_is_one() -> None:
    targets = torch.tensor([1.0, 5.0, 9.0, 3.0, 2.0, 4.0])
    task = make_task(targets.tolist())
    with torch.no_grad():
        for parameter in task.net.head.parameters():  # type: ignore[union-attr]
            parameter.zero_()
    generator = torch.Generator()
    assert float(task.loss(IMAGES, targets, generator).detach()) == pytest.approx(1.0, rel=1e-5)
    judged = task.judge(IMAGES, targets, generator)
    assert judged.tolist() == pytest.approx(((targets - 4.0) ** 2).tolist(), rel=1e-5)


def test_patches_are_dropped_in_training_only() -> None:
    task = make_task([0.0, 1.0], patch_drop=0.5)
    seen: list[int] = []
    block = task.backbone.net.blocks[0]  # type: ignore[index, union-attr]
    block.register_forward_pre_hook(lambda _, given: seen.append(given[0].shape[1]))
    with torch.no_grad():
        task.train().network(IMAGES)
        task.eval().network(IMAGES)
    assert seen == [1 + 2, 1 + 4]


def test_what_it_promises() -> None:
    task = make_task([0.0, 1.0], unit="mm")
    (output,) = task.outputs()
    assert (output.name, output.shape, output.unit) == ("value", (), "mm")
    assert task.head() == RegressionHead(output="value", target="x")


def test_a_target_that_never_changes_is_refused() -> None:
    with pytest.raises(DataError, match="'x' is 3 in all 2 training images"):
        make_task([3.0, 3.0])


def test_an_unknown_task_is_named_with_those_there_are() -> None:
    with pytest.raises(ExperimentError, match=f"poetry.*{', '.join(TASKS)}"):
        make_task([0.0, 1.0], task="poetry")


def test_predict_is_the_network_whatever_the_batch() -> None:
    task = make_task([0.0, 1.0]).eval()
    many = IMAGES.repeat(40, 1, 1, 1)
    with torch.no_grad():
        one_by_one = [float(task.network(many[i : i + 1])[0]) for i in range(6)]
    values = predict(task.network.train(), many)
    # Batch size changes the order of sums in a matrix product: 1e-6 measured.
    assert values.reshape(40, 6) == pytest.approx(np.tile(one_by_one, (40, 1)), abs=1e-5)


def judge(task: Task, targets: FloatArray, predicted: FloatArray, parts: StrArray) -> Judgement:
    return measure(task.yardstick(targets, predicted), parts)


def test_many_parts_are_drawn_by_part(task: Task) -> None:
    generator = np.random.default_rng(0)
    parts = np.repeat([f"p{i}" for i in range(FEWEST_PARTS)], 5)
    targets = generator.normal(size=len(parts))
    result = judge(task, targets, targets + 0.1, parts)
    mse = result.figures["mse"]
    assert (mse.drawn_by, mse.drawn) == ("part", FEWEST_PARTS)
    assert mse.value == pytest.approx(0.01)
    assert result.figures["mae"].value == pytest.approx(0.1)
    # The training targets are 0 and 2: the mean predictor says 1.
    assert result.baseline["mse"].value == pytest.approx(float(((targets - 1.0) ** 2).mean()))
    assert (result.better, result.by_part, result.notes) == (True, {}, ())


def test_few_parts_are_drawn_by_image_and_it_is_said(task: Task) -> None:
    generator = np.random.default_rng(0)
    parts = np.repeat(["a", "b", "c"], [10, 20, 30])
    targets = 1.0 + generator.normal(size=60)
    predicted = targets + np.repeat([0.0, 1.0, 2.0], [10, 20, 30])
    result = judge(task, targets, predicted, parts)
    assert (result.figures["mse"].drawn_by, result.figures["mse"].drawn) == ("image", 60)
    assert result.by_part == pytest.approx({"a": 0.0, "b": 1.0, "c": 4.0})
    assert "3 part(s)" in result.notes[0]
    assert "by image" in result.notes[0]
    assert not result.better


def test_one_test_image_proves_nothing(task: Task) -> None:
    result = judge(task, np.zeros(1), np.zeros(1), np.array(["a"]))
    mse = result.figures["mse"]
    assert mse.value == 0.0
    assert not result.better
    assert msgspec.json.decode(msgspec.json.encode(mse), type=Figure) == mse
    assert show_figure(mse) == "0 (no interval: one image)"


@given(target=st.floats(allow_nan=False), value=st.floats(allow_nan=False))
def test_predictions_are_written_exactly(task: Task, target: float, value: float) -> None:
    said = task.say(target, np.asarray(value))
    assert (float(said.target), float(said.predicted), said.scores) == (target, value, {})
