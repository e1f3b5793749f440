"""Which task is called what: a new one is its file and one line here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from lineside.contract import InputSpec
from lineside_trainer.errors import ExperimentError
from lineside_trainer.experiment import Experiment
from lineside_trainer.models import Normalise
from lineside_trainer.models.headed import Headed
from lineside_trainer.tasks.regression import RegressionTask
from lineside_trainer.tasks.task import Task

Build = Callable[[Experiment, InputSpec, Normalise, NDArray[np.float64]], Task]

TASKS: Final[dict[str, Build]] = {
    "regression": RegressionTask,
}


def build_task(
    experiment: Experiment,
    model_input: InputSpec,
    normalise: Normalise,
    targets: NDArray[np.float64],
) -> Task:
    """Make the learner that `train.task` names.

    Args:
        experiment: all settings.
        model_input: image size and channels.
        normalise: of the training fold.
        targets: (N,) float64 of the training fold.

    Raises:
        ExperimentError: there is no such task.
    """
    build = TASKS.get(experiment.train.task)
    if build is None:
        raise ExperimentError(
            f"train.task: {experiment.train.task!r} is unknown; there are {', '.join(TASKS)}"
        )
    task = build(experiment, model_input, normalise, targets)
    if experiment.train.probe:
        headed(task).freeze()
    return task


def headed(task: Task) -> Headed:
    """The task's network, of the one shape that can be frozen."""
    network = task.network
    assert isinstance(network, Headed), "every task makes its network of a backbone and a head"
    return network
