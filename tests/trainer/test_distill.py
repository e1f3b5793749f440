"""Distillation: the teacher's part of the loss, and that nothing of it stays."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from lineside.contract import InputSpec
from lineside_trainer.ancestry.distill import (
    Distilled,
    FeatureFigures,
    Teacher,
    measure_features,
    softened_divergence,
    value_error,
)
from lineside_trainer.data import Augmentation, Batches, ImageStore
from lineside_trainer.durable import read_tensors, read_weights
from lineside_trainer.experiment import (
    Experiment,
    FitSettings,
    ModelSettings,
    RunSettings,
    TeacherSettings,
    TrainSettings,
)
from lineside_trainer.learning.fit import fit
from lineside_trainer.learning.loop import BEST, LAST, FitData
from lineside_trainer.learning.progress import Progress
from lineside_trainer.models import Headed, Normalise
from lineside_trainer.tasks import Task, build_task, headed

INPUT = InputSpec(size_hw=(32, 32), channels=1)
IMAGES = torch.randint(
    0, 256, (6, 32, 32, 1), dtype=torch.uint8, generator=torch.Generator().manual_seed(1)
)
TARGETS = torch.tensor([0.0, 1.0, 2.0, 0.5, 1.5, 3.0])


def make_task(seed: int, arch: str = "test_resnet") -> Task:
    torch.manual_seed(seed)
    experiment = Experiment(
        model=ModelSettings(arch=arch), train=TrainSettings(target="x", head_width=16)
    )
    return build_task(experiment, INPUT, Normalise((127.0,), (60.0,)), TARGETS.double().numpy())


def make_teacher(seed: int = 7) -> Teacher:
    network = make_task(seed, "resnet10t").network.eval().requires_grad_(False)
    assert isinstance(network, Headed)
    torch.nn.init.normal_(network.head[-1].weight)  # type: ignore[index]  # with an opinion
    return Teacher(network)


def make_distilled(**settings: float) -> Distilled:
    task, teacher = make_task(0), make_teacher()
    figures = measure_features(teacher, [IMAGES[:4], IMAGES[4:]])
    return Distilled(task, teacher, TeacherSettings(run="there", **settings), figures)


def loss_of(learner: Distilled | Task, targets: Tensor = TARGETS) -> Tensor:
    return learner.eval().loss(IMAGES, targets, torch.Generator()).detach()


def test_without_weights_it_is_the_tasks_own_loss() -> None:
    learner = make_distilled(prediction=0.0, feature=0.0)
    own = loss_of(learner.task)
    assert float(loss_of(learner)) == float(own)
    assert float(own) > 0.0


@pytest.mark.parametrize("weight", ["prediction", "feature"])
def test_each_weight_adds_its_part_in_proportion(weight: str) -> None:
    parts = [
        float(loss_of(make_distilled(**({"prediction": 0.0, "feature": 0.0} | {weight: w}))))
        for w in (0.0, 1.0, 2.0)
    ]
    assert parts[1] > parts[0]
    assert parts[2] - parts[1] == pytest.approx(parts[1] - parts[0], rel=1e-4)


def test_the_prediction_is_compared_in_the_students_scale() -> None:
    """Teacher and student standardise by other figures; where both say the same value in the
    target's unit, nothing is left to learn from each other."""
    task = make_task(0)
    twin = copy.deepcopy(task).network
    assert isinstance(twin, Headed)
    twin.target_mean.fill_(5.0)  # type: ignore[operator, union-attr]
    twin.target_std.fill_(2.0)  # type: ignore[operator, union-attr]
    ours = task.network
    last = twin.head[-1]  # type: ignore[index]
    with torch.no_grad():
        std, mean = float(ours.target_std), float(ours.target_mean)  # type: ignore[arg-type]
        last.weight.mul_(std / 2.0)
        last.bias.mul_(std / 2.0).add_((mean - 5.0) / 2.0)
    teacher = Teacher(twin.eval())
    settings = TeacherSettings(run="there", feature=0.0)
    learner = Distilled(task, teacher, settings, measure_features(teacher, [IMAGES]))
    assert float(loss_of(learner)) == pytest.approx(float(loss_of(task)), rel=1e-5)


def test_images_without_a_target_are_learnt_from_by_what_the_teacher_says() -> None:
    some, none = TARGETS.clone(), torch.full_like(TARGETS, torch.nan)
    some[3:] = torch.nan
    learner = make_distilled(prediction=1.0, feature=0.0)
    teachers = float(loss_of(learner, none))
    own = learner.task.loss(IMAGES[:3], TARGETS[:3], torch.Generator()).detach()
    assert float(loss_of(learner, some)) == pytest.approx(teachers + float(own), rel=1e-4)
    assert teachers > 0.0


def test_the_teacher_never_learns_and_the_student_does() -> None:
    learner = make_distilled()
    before = {name: t.clone() for name, t in learner.teacher.network.state_dict().items()}
    trained = [p for layer in learner.layers() for p in layer]
    optimizer = torch.optim.SGD(trained, lr=0.1)
    learner.train().loss(IMAGES, TARGETS, torch.Generator()).backward()
    optimizer.step()
    assert all(p.grad is None for p in learner.teacher.network.parameters())
    assert not learner.teacher.network.training
    after = learner.teacher.network.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert all(p.grad is not None for p in trained)


def test_what_is_trained_is_the_student_and_the_adaptor_once_each() -> None:
    learner = make_distilled()
    trained = [id(p) for layer in learner.layers() for p in layer]
    assert sorted(trained) == sorted(id(p) for p in learner.parameters())


def test_the_adaptor_stays_behind() -> None:
    learner = make_distilled()
    assert learner.kept is learner.task
    assert not any("adaptor" in name or "teacher" in name for name in learner.kept.state_dict())


def test_neither_twin_nor_checkpoint_holds_the_teacher() -> None:
    learner = make_distilled()
    twin = copy.deepcopy(learner)
    assert twin.teacher is learner.teacher
    assert twin.task is not learner.task
    assert not any("teacher" in name for name in learner.state_dict())


def test_features_are_measured_over_all_batches() -> None:
    teacher = make_teacher()
    whole = measure_features(teacher, [IMAGES])
    parts = measure_features(teacher, [IMAGES[:1], IMAGES[1:]])
    feature, _ = teacher.look(IMAGES)
    assert torch.allclose(whole.mean, feature.mean(0), atol=1e-6)
    assert torch.allclose(parts.mean, whole.mean, atol=1e-6)
    assert torch.allclose(parts.std, whole.std, atol=1e-6)


def test_a_silent_channel_is_not_blown_up() -> None:
    teacher = make_teacher()
    same = measure_features(teacher, [IMAGES[:1].repeat(4, 1, 1, 1)])
    assert isinstance(same, FeatureFigures)
    assert torch.equal(same.std, torch.ones_like(same.std))


def make_classes(seed: int) -> Task:
    torch.manual_seed(seed)
    experiment = Experiment(
        model=ModelSettings(arch="test_resnet"), train=TrainSettings(task="classification")
    )
    places = np.array([0.0, 1.0, 2.0, 1.0])
    names = ("good", "crack", "void")
    return build_task(experiment, INPUT, Normalise((127.0,), (60.0,)), places, names)


def test_classes_are_taught_by_softened_probabilities() -> None:
    task, network = make_classes(0), make_classes(1).network.eval()
    assert isinstance(network, Headed)
    teacher = Teacher(network)
    settings = TeacherSettings(run="there", feature=0.0, prediction=3.0, temperature=2.0)
    learner = Distilled(task, teacher, settings, measure_features(teacher, [IMAGES]))
    targets = torch.tensor([0.0, 1.0, 2.0, torch.nan, torch.nan, torch.nan])
    with torch.no_grad():
        own = task.eval().loss(IMAGES[:3], targets[:3], torch.Generator())
        said = headed(task).raw(IMAGES)
        by_teacher = 3.0 * softened_divergence(said, teacher.look(IMAGES)[1], 2.0)
    assert float(by_teacher) > 0.0
    assert float(loss_of(learner, targets)) == pytest.approx(float(own + by_teacher), rel=1e-4)


LOGITS = st.lists(st.floats(-5, 5), min_size=3, max_size=3)


@given(logits=LOGITS, shift=st.floats(-3, 3), temperature=st.floats(0.5, 10))
def test_who_says_the_same_has_nothing_to_learn(
    logits: list[float], shift: float, temperature: float
) -> None:
    student = torch.tensor([logits])
    assert float(softened_divergence(student, student + shift, temperature)) < 1e-4
    assert float(value_error(student[0], student[0])) == 0.0


@given(ours=LOGITS, theirs=LOGITS, temperature=st.floats(1, 10))
def test_the_divergence_is_hintons(
    ours: list[float], theirs: list[float], temperature: float
) -> None:
    def softened(logits: list[float]) -> np.ndarray:
        powers = np.exp(np.array(logits) / temperature)
        return powers / powers.sum()

    p, q = softened(theirs), softened(ours)
    expected = temperature**2 * float((p * np.log(p / q)).sum())
    found = softened_divergence(torch.tensor([ours]), torch.tensor([theirs]), temperature)
    assert float(found) == pytest.approx(expected, rel=1e-3, abs=1e-4)


class _StopAt(Progress):
    """The user presses Ctrl-C after so many steps."""

    def __init__(self, step: int) -> None:
        super().__init__("test", 2)
        self._left = step

    def step(self) -> None:
        self._left -= 1
        if self._left < 0:
            raise KeyboardInterrupt


def run(folder: Path, *, resume: bool = False, stop_after: int = 10**6) -> dict[str, bytes]:
    """Two epochs of four steps, half of the images without a label."""
    folder.mkdir(exist_ok=True)
    pixels = np.random.default_rng(0).integers(0, 256, (20, 32, 32, 1), dtype=np.uint8)
    store, targets = ImageStore(images_nhwc=torch.from_numpy(pixels)), np.linspace(0.0, 2.0, 20)
    rows, withheld = np.arange(16), np.arange(0, 16, 2)
    targets[withheld] = np.nan
    training = Batches(
        store, rows, targets, batch_size=4, seed=3, shuffle=True, drop_last=True, withheld=withheld
    )
    judging = Batches(
        store, np.arange(16, 20), targets, batch_size=4, seed=3, shuffle=False, drop_last=False
    )
    learner = make_distilled()
    if resume:
        torch.nn.init.normal_(learner.adaptor.weight)  # comes back with the checkpoint
    fit(
        learner,
        FitData(training=training, judging=judging, image_size_hw=(32, 32), digest="same"),
        settings=FitSettings(epochs=2, batch_size=4, lr=1e-2, ema=0.9),
        augment=Augmentation(),
        run=RunSettings(seed=3, device="cpu", checkpoint_every_steps=1),
        folder=folder,
        resume=resume,
        progress=_StopAt(stop_after),
    )
    best = read_weights(folder / BEST)
    kept = learner.kept.state_dict()
    assert {name: t.tolist() for name, t in best.items()} == {
        n: t.tolist() for n, t in kept.items()
    }
    last = read_tensors(folder / LAST)["state_dict"]
    return {name: t.numpy().tobytes() for name, t in last.items()}


def test_going_on_after_a_stop_gives_the_same_bytes(tmp_path: Path) -> None:
    whole = run(tmp_path / "whole")
    assert any("adaptor" in name for name in whole)
    assert not any("teacher" in name for name in whole)
    for stop_after in (1, 4, 6):
        folder = tmp_path / str(stop_after)
        with pytest.raises(KeyboardInterrupt):
            run(folder, stop_after=stop_after)
        assert run(folder, resume=True) == whole
