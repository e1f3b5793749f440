"""What a model is tuned to say, one file a task."""

from lineside_trainer.tasks._registry import (
    ANOMALY,
    TASKS,
    build_task,
    check_task,
    headed,
    label_kind,
    least_classes,
)
from lineside_trainer.tasks.classification import good_classes
from lineside_trainer.tasks.task import Task

__all__ = [
    "ANOMALY",
    "TASKS",
    "Task",
    "build_task",
    "check_task",
    "good_classes",
    "headed",
    "label_kind",
    "least_classes",
]
