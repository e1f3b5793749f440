"""Linear probe (Intxausti et al. 2024, sec. 4.1): how good are the features of a frozen network?

The backbone neither learns nor changes: dropout is off and batch norms keep their figures. One
linear layer learns on the pooled feature, standardised over the training fold (`Standardise`).
Features are computed once and without augmentation, so a probe costs one pass over the images and
depends on the features alone; flipped and shifted copies (as in He et al. 2022, sec. A.1) would
cost a pass in every epoch.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
import torch
from torch import Tensor

from lineside_trainer.data import NO_AUGMENTATION, Batches
from lineside_trainer.durable import read_tensors, write_tensors
from lineside_trainer.errors import ExperimentError
from lineside_trainer.experiment import RunSettings, TrainSettings
from lineside_trainer.learning.device import choose_device
from lineside_trainer.learning.fit import FitResult
from lineside_trainer.learning.lesson import Lesson, learn_from
from lineside_trainer.learning.loop import BEST, FitData
from lineside_trainer.learning.progress import tell_unused
from lineside_trainer.models.headed import Headed
from lineside_trainer.prepared import IntArray, Prepared
from lineside_trainer.tasks import Task, headed

NOTE: Final = (
    "linear probe: the network is frozen, one linear layer learns; features are computed once, "
    "without augmentation, and standardised over the training fold. Images/s are those of that "
    "layer alone"
)

_AT_ONCE: Final = 128


@dataclass(frozen=True, kw_only=True, eq=False)
class FeatureStore:
    """Features in the images' place.

    Attributes:
        features: (N, width) float32, row for row the table's records; zeros where not computed.
    """

    features: Tensor

    def __len__(self) -> int:
        return len(self.features)

    @property
    def device(self) -> torch.device:
        """Where they are."""
        return self.features.device

    def rows(self, rows: Tensor) -> Tensor:
        """(B, 1, 1, width) float32, a copy; ``rows`` is (B,) int64."""
        return self.features.index_select(0, rows.to(self.device))[:, None, None, :]


def check_probe(settings: TrainSettings) -> None:
    """Refuse settings that a frozen network would pass over.

    Raises:
        ExperimentError: one of them is given.
    """
    if not settings.probe:
        return
    asked = {
        "head_width": settings.head_width,
        "drop_path": settings.drop_path,
        "patch_drop": settings.patch_drop,
        "teacher.run": settings.teacher.run,
        "slim.run": settings.slim.run,
    }
    for name, value in asked.items():
        if value:
            raise ExperimentError(
                f"train.{name}: {value} has no meaning with train.probe (the network is frozen, "
                "and its head one linear layer); leave one of them away"
            )


def standardise_probe(task: Task, prepared: Prepared, run: RunSettings) -> None:
    """By all images of the training fold, labelled or not; the backbone has its weights."""
    network, rows = headed(task), prepared.split.indices["training"]
    network.standardise(compute_features(network, prepared, rows, run)[torch.from_numpy(rows)])


def learn_probe(
    task: Task,
    prepared: Prepared,
    lesson: Lesson,
    *,
    run: RunSettings,
    folder: Path,
    resume: bool,
) -> FitResult:
    """Fit the linear layer of a frozen task; else as `learning.learn`.

    In fp32 whatever is asked for: one linear layer gains nothing from half precision.
    """
    tell_unused(prepared.unused)
    network = headed(task)
    run = msgspec.structs.replace(run, precision="fp32")
    data = _feature_data(network, prepared, lesson, run)
    lesson = replace(lesson, augment=NO_AUGMENTATION)
    with network.reading_features():
        _trim_best(folder / BEST, task)
        fitted = learn_from(task, data, lesson, run=run, folder=folder, resume=resume)
    write_tensors(folder / BEST, {"weights": task.state_dict(), "epoch": fitted.best_epoch})
    return fitted


def _trim_best(path: Path, task: Task) -> None:
    """A fit that had ended before left the whole network there; what goes on is the head alone."""
    if path.exists():
        content = read_tensors(path)
        own = task.state_dict()
        content["weights"] = {n: t for n, t in content["weights"].items() if n in own}
        write_tensors(path, content)


def _feature_data(network: Headed, prepared: Prepared, lesson: Lesson, run: RunSettings) -> FitData:
    rows = np.union1d(lesson.training, lesson.judging)
    store = FeatureStore(features=compute_features(network, prepared, rows, run))
    settings, targets = lesson.settings, prepared.table.targets

    def make(chosen: IntArray, *, shuffle: bool) -> Batches:
        return Batches(
            store,
            chosen,
            targets,
            batch_size=settings.batch_size,
            seed=run.seed,
            shuffle=shuffle,
            drop_last=shuffle,
        )

    return FitData(
        training=make(lesson.training, shuffle=True),
        judging=make(lesson.judging, shuffle=False),
        image_size_hw=prepared.input.size_hw,
        digest=prepared.digest,
    )


@torch.no_grad()
def compute_features(
    network: Headed, prepared: Prepared, rows: IntArray, run: RunSettings
) -> Tensor:
    """Run the backbone, as it judges, in fp32.

    Args:
        network: its mode and device are left as they were.
        prepared: the images.
        rows: (M,) of the table.
        run: where.

    Returns:
        (N, width) float32 on the CPU, N the whole table; zeros in all other rows.
    """
    training, device = network.training, choose_device(run)
    network.eval().to(device)
    features = torch.zeros(len(prepared.store), network.backbone.width)
    for chosen in torch.split(torch.from_numpy(np.asarray(rows, dtype=np.int64)), _AT_ONCE):
        images = prepared.store.rows(chosen).to(device)
        features[chosen] = network.feature(images).float().cpu()
    network.cpu().train(training)
    return features
