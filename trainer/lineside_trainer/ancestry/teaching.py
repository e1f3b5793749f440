"""Put a finished run beside a task as its teacher."""

from __future__ import annotations

from typing import Final

import numpy as np
import torch

from lineside_trainer.ancestry.distill import Distilled, FeatureFigures, Teacher, measure_features
from lineside_trainer.errors import ExperimentError
from lineside_trainer.experiment import RunSettings, TeacherSettings, TrainSettings
from lineside_trainer.learning.device import choose_device
from lineside_trainer.models import use_fused_attention
from lineside_trainer.prepared import IntArray, Prepared
from lineside_trainer.runs.trained import Trained
from lineside_trainer.tasks import Task, headed

SETTING: Final = "train.teacher.run"

_MOST_MEASURED: Final = 1024
"""Images whose features say how large the teacher's channels are: enough for a mean and a std."""

_AT_ONCE: Final = 128


def check_teaching(settings: TrainSettings) -> None:
    """Refuse settings under which nothing would be taught.

    Raises:
        ExperimentError: one of them is given.
    """
    teacher = settings.teacher
    if not teacher.run:
        return
    if settings.probe:
        raise ExperimentError(
            f"{SETTING}: has no meaning with train.probe (the network is frozen, and could not "
            "follow a teacher); leave one of them away"
        )
    if not teacher.prediction and not teacher.feature:
        raise ExperimentError(
            "train.teacher.prediction, train.teacher.feature: both are 0, so nothing would be "
            "learnt from the teacher; raise one of them"
        )


def taught_rows(prepared: Prepared, labelled: IntArray, settings: TeacherSettings) -> IntArray:
    """Rows of the training samples besides the labelled ones that a teacher speaks for."""
    rows = prepared.split.indices["training"] if settings.run and settings.unlabelled else labelled
    return np.setdiff1d(rows, labelled)


def teach(
    task: Task,
    trained: Trained,
    prepared: Prepared,
    *,
    settings: TeacherSettings,
    run: RunSettings,
) -> Distilled:
    """Wrap a task; its own weights were drawn before, so that they are those of a run without.

    Args:
        task: the student.
        trained: takes the same input and says the same things.
        prepared: the training samples say how large the teacher's features are.
        settings: weights.
        run: where the teacher computes.
    """
    network = headed(trained.task())
    use_fused_attention(network, fused=choose_device(run) == "cuda")
    teacher = Teacher(network)
    return Distilled(task, teacher, settings, _figures(teacher, prepared, run))


def _figures(teacher: Teacher, prepared: Prepared, run: RunSettings) -> FeatureFigures:
    rows = prepared.split.indices["training"]
    if len(rows) > _MOST_MEASURED:
        rows = rows[np.linspace(0, len(rows) - 1, _MOST_MEASURED).round().astype(np.int64)]
    device = choose_device(run)
    return measure_features(
        teacher,
        (
            prepared.store.rows(part).to(device)
            for part in torch.split(torch.from_numpy(rows), _AT_ONCE)
        ),
    )
