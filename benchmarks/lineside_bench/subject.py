"""What is trained: masked autoencoding and fine-tuning of a ViT-Ti, SimSiam of a ResNet-18."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import torch

from lineside_trainer.data.joints import JointsSettings, write_joints
from lineside_trainer.experiment import Experiment, PretrainSettings, Table, TrainSettings
from lineside_trainer.experiment_file import convert_experiment
from lineside_trainer.learning.device import choose_device
from lineside_trainer.learning.learner import Learner
from lineside_trainer.models import use_fused_attention
from lineside_trainer.prepared import IntArray, Prepared, prepare_data
from lineside_trainer.pretrain import build_method
from lineside_trainer.tasks import build_task

Way = Literal["mae", "simsiam", "tuning"]
ARCHS: Final[dict[Way, str]] = {"mae": "vit_tiny", "simsiam": "resnet18", "tuning": "vit_tiny"}
_TARGET: Final = "delta_b_max"


@dataclass(frozen=True, kw_only=True)
class Amount:
    """How much is trained; of the epochs of a round the first is not counted."""

    parts: int
    size_px: int
    batch_images: int
    epochs: int
    seed: int


@dataclass(frozen=True, kw_only=True)
class Subject:
    """One method on one data set.

    Attributes:
        training: rows that steps learn from.
        judging: rows that an epoch is judged by.
    """

    way: Way
    experiment: Experiment
    prepared: Prepared
    device: str
    training: IntArray
    judging: IntArray

    @property
    def settings(self) -> PretrainSettings | TrainSettings:
        """Of the fit and its augmentation."""
        return self.experiment.train if self.way == "tuning" else self.experiment.pretrain

    def fresh(self) -> Learner:
        """The same network each time."""
        torch.manual_seed(self.experiment.run.seed)
        learner: Learner
        if self.way == "tuning":
            targets = self.prepared.table.targets[self.training]
            learner = build_task(
                self.experiment, self.prepared.input, self.prepared.normalise(), targets
            )
        else:
            learner = build_method(self.experiment, self.prepared.input, self.prepared.normalise())
        use_fused_attention(learner, fused=self.device == "cuda")
        return learner


def write_data(folder: Path, amount: Amount) -> Path:
    """Synthetic joints."""
    settings = JointsSettings(parts=amount.parts, seed=amount.seed, size_px=amount.size_px)
    write_joints(folder / "joints", settings)
    return folder / "joints"


def make_subject(way: Way, joints: Path, amount: Amount, folder: Path) -> Subject:
    """One of them, its images decoded; as the verb has it by default."""
    fit = {"epochs": amount.epochs, "batch_size": amount.batch_images}
    told: Table = {
        "data": {
            "folder": str(joints),
            "group": "part",
            "image_size_hw": [amount.size_px, amount.size_px],
        },
        "model": {"arch": ARCHS[way]},
        "pretrain": {"fit": fit, "method": "mae" if way == "tuning" else way},
        "train": {"fit": fit, "target": _TARGET, "task": "regression"},
        "run": {"seed": amount.seed, "checkpoint_every_s": 1e9},
    }
    experiment = convert_experiment(told, source="benchmark")
    target = _TARGET if way == "tuning" else None
    folder.mkdir(parents=True, exist_ok=True)
    prepared = prepare_data(experiment, target=target, folder=folder)
    tuned = way == "tuning"
    rows = prepared.split.indices
    return Subject(
        way=way,
        experiment=experiment,
        prepared=prepared,
        device=choose_device(experiment.run),
        training=prepared.labelled("training") if tuned else rows["training"],
        judging=prepared.labelled("validation") if tuned else rows["quantisation"],
    )
