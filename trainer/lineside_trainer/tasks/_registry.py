"""Which task is called what: a new one is its file and one line here."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from lineside.contract import InputSpec
from lineside_trainer.data import LabelKind
from lineside_trainer.errors import ExperimentError
from lineside_trainer.experiment import Experiment, TrainSettings
from lineside_trainer.models import Normalise
from lineside_trainer.models.headed import Headed
from lineside_trainer.tasks.classification import ClassificationTask
from lineside_trainer.tasks.regression import RegressionTask
from lineside_trainer.tasks.task import Task

TASKS: Final[dict[str, type[RegressionTask] | type[ClassificationTask]]] = {
    "regression": RegressionTask,
    "classification": ClassificationTask,
}


ANOMALY: Final = "anomaly"
"""Learns from good parts alone (`lineside_trainer.anomaly`): no network with a head for labels."""


def check_task(settings: TrainSettings) -> None:
    """Refuse what can be refused before any image is read.

    Raises:
        ExperimentError: an unknown task, or settings that it cannot be told.
    """
    if settings.task != ANOMALY:
        _find(settings).check_settings(settings)


def label_kind(settings: TrainSettings) -> LabelKind:
    """What the target column of `train.task` holds.

    Raises:
        ExperimentError: there is no such task.
    """
    return "class" if settings.task == ANOMALY else _find(settings).labels


def least_classes(settings: TrainSettings) -> int:
    """How many classes the target column must hold, where it holds classes."""
    return 1 if settings.task == ANOMALY else 2


def build_task(
    experiment: Experiment,
    model_input: InputSpec,
    normalise: Normalise,
    targets: NDArray[np.float64],
    classes: tuple[str, ...] = (),
) -> Task:
    """Make the learner that `train.task` names.

    Args:
        experiment: all settings.
        model_input: image size and channels.
        normalise: of the training fold.
        targets: (N,) float64 of the training fold.
        classes: of `Table.classes`.

    Raises:
        ExperimentError: there is no such task, or it lacks a setting.
        DataError: targets that it cannot learn from.
    """
    build = _find(experiment.train)
    task = build(experiment, model_input, normalise, targets, classes)
    if experiment.train.probe:
        headed(task).freeze()
    return task


def _find(settings: TrainSettings) -> type[RegressionTask] | type[ClassificationTask]:
    found = TASKS.get(settings.task)
    if found is None:
        raise ExperimentError(
            f"train.task: {settings.task!r} is unknown; there are {', '.join((*TASKS, ANOMALY))}"
        )
    return found


def headed(task: Task) -> Headed:
    """The task's network, of the one shape that can be frozen."""
    network = task.network
    assert isinstance(network, Headed), "every task makes its network of a backbone and a head"
    return network
