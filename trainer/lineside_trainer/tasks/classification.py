"""Classification: which of K classes an image shows (Intxausti et al. 2024, sec. 4.1)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from lineside.contract import ClassificationHead, HeadSpec, InputSpec, OutputSpec
from lineside.metrics import (
    Statistic,
    accuracy,
    average_precision,
    balanced_accuracy,
    class_recall,
    mean_average_precision,
)
from lineside_trainer.errors import DataError, ExperimentError
from lineside_trainer.evaluate import Picture, Yardstick
from lineside_trainer.evaluate.figures import draw_confusion, draw_scores
from lineside_trainer.experiment import Experiment, TrainSettings
from lineside_trainer.models import Backbone, Normalise, build_backbone
from lineside_trainer.models.classifier import Classifier
from lineside_trainer.runs.predictions import Said
from lineside_trainer.tasks.task import FloatArray, Task

OUTPUT: Final = "probability"
GOOD_NAMES: Final = ("good", "ok", "free", "normal")
"""What a class of good parts is commonly called, whatever its case."""


class ClassificationTask(Task):
    """Learns `train.target`, names of classes, by cross-entropy.

    With `train.class_weights` "balanced" an image of class c weighs N / (K n_c): every class has
    the same say, and the mean weight is 1. The validation figure that chooses the epoch has the
    same weights, without label smoothing.

    Args:
        experiment: `model` and `train` count here.
        model_input: image size and channels.
        normalise: of the training fold.
        targets: (N,) float64 of the training fold: places in `classes`.
        classes: their names.

    Raises:
        DataError: a class without a training image.
        ExperimentError: it is not clear which classes are good.
    """

    labels = "class"
    class_counts: Tensor

    def __init__(
        self,
        experiment: Experiment,
        model_input: InputSpec,
        normalise: Normalise,
        targets: NDArray[np.float64],
        classes: tuple[str, ...],
    ) -> None:
        super().__init__()
        settings = experiment.train
        counts = np.bincount(targets.astype(np.int64), minlength=len(classes))
        if not counts.all():
            raise DataError(
                f"train.target: no training image is of class {classes[int(counts.argmin())]!r}"
            )
        self.good = good_classes(settings, classes)
        backbone = build_backbone(
            experiment.model,
            model_input,
            pool=settings.pool,
            drop_path=settings.drop_path,
            patch_drop=settings.patch_drop,
        )
        self.net = Classifier(
            normalise, backbone, head_width=settings.head_width, classes=len(classes)
        )
        self.classes = classes
        self._settings = settings
        self._balanced = settings.class_weights == "balanced"
        self.judged_by = "weighted cross-entropy" if self._balanced else "cross-entropy"
        self.register_buffer("class_counts", torch.from_numpy(counts).float())

    @classmethod
    def check_settings(cls, settings: TrainSettings) -> None:
        """Refuse what no classification can be told.

        Raises:
            ExperimentError: a unit, a direction or a limit that is no probability's.
        """
        if settings.unit != "1":
            raise ExperimentError(
                f"train.unit: {settings.unit!r}; a classification's score is a probability, whose "
                'unit is "1": leave it away'
            )
        if settings.worse != "higher":
            raise ExperimentError(
                "train.worse: the score of a classification is the probability of any defect, so "
                "higher is worse: leave it away"
            )
        if settings.limit is not None and not 0.0 <= settings.limit < 1.0:
            raise ExperimentError(
                f"train.limit: {settings.limit:g}; the score of a classification is the "
                "probability of any defect: give a limit from 0 to below 1"
            )

    @property
    def network(self) -> nn.Module:
        return self.net

    @property
    def backbone(self) -> Backbone:
        return self.net.backbone

    @property
    def class_weights(self) -> Tensor:
        """(K,) float32: how much an image of each class counts."""
        if not self._balanced:
            return torch.ones_like(self.class_counts)
        return self.class_counts.sum() / (len(self.classes) * self.class_counts)

    @property
    def notes(self) -> tuple[str, ...]:
        """Which classes are good, what an image of each counts, and how many images that leaves."""
        weights, counts = self.class_weights.double(), self.class_counts.double()
        told = ", ".join(
            f"{name} {int(count)} (each {weight:.3g})"
            for name, count, weight in zip(self.classes, counts, weights, strict=True)
        )
        # Kish 1965: (sum of weights)² over the sum of their squares.
        effective = float((weights * counts).sum() ** 2 / (weights.square() * counts).sum())
        return (
            f"good: {', '.join(self.good)}; training images by class: {told}; so weighted they "
            f"are worth {effective:.0f} of {int(counts.sum())} equal ones",
        )

    def loss(
        self,
        images_nhwc: Tensor,
        targets: Tensor,
        generator: torch.Generator,  # noqa: ARG002
    ) -> Tensor:
        """Mean weighted cross-entropy."""
        return self.raw_loss(self.net.raw(images_nhwc), targets)

    def raw_loss(self, raw: Tensor, targets: Tensor) -> Tensor:
        return self._errors(raw, targets, smoothing=self._settings.label_smoothing).mean()

    def judge(
        self,
        images_nhwc: Tensor,
        targets: Tensor,
        generator: torch.Generator,  # noqa: ARG002
    ) -> Tensor:
        """(N,) weighted cross-entropies of the labels as they are."""
        return self._errors(self.net.raw(images_nhwc), targets, smoothing=0.0)

    def _errors(self, raw: Tensor, targets: Tensor, *, smoothing: float) -> Tensor:
        wanted = targets.long()
        errors = F.cross_entropy(raw, wanted, reduction="none", label_smoothing=smoothing)
        # By the mean weight of the fold, 1, and not of the batch: steps are worth the same, and
        # several processes have the gradient of one.
        return errors * self.class_weights[wanted]

    def layers(self) -> Sequence[Sequence[nn.Parameter]]:
        return self.net.layers()

    def outputs(self) -> tuple[OutputSpec, ...]:
        return (OutputSpec(name=OUTPUT, shape=(len(self.classes),)),)

    def head(self) -> HeadSpec:
        return ClassificationHead(
            output=OUTPUT, target=self._settings.target, classes=self.classes, good=self.good
        )

    def yardstick(self, targets: FloatArray, outputs: FloatArray) -> Yardstick:
        """AP, accuracies, AP of any defect and each recall, beside the most frequent class's."""
        most_frequent = int(self.class_counts.argmax())
        always = np.zeros_like(outputs)
        always[:, most_frequent] = 1.0
        return Yardstick(
            metric="average_precision",
            lower_is_better=False,
            ours=self._figures(targets.astype(np.int64), outputs),
            trivial=self._figures(targets.astype(np.int64), always),
            baseline_name="most frequent class",
        )

    def _figures(self, truth: NDArray[np.int64], outputs: FloatArray) -> dict[str, Statistic]:
        said = outputs.argmax(axis=1)
        is_good = np.array([name in self.good for name in self.classes])
        defect, score = ~is_good[truth], 1.0 - outputs[:, is_good].sum(axis=1)

        def recall_of(index: int) -> Statistic:
            return lambda weights: class_recall(truth, said, index, weights)

        return {
            "average_precision": lambda weights: mean_average_precision(truth, outputs, weights),
            "accuracy": lambda weights: accuracy(truth, said, weights),
            "balanced_accuracy": lambda weights: balanced_accuracy(truth, said, weights),
            "defect_average_precision": lambda weights: average_precision(defect, score, weights),
            **{f"recall:{name}": recall_of(index) for index, name in enumerate(self.classes)},
        }

    def say(self, target: float, output: FloatArray) -> Said:
        return Said(
            target=self.classes[int(target)],
            predicted=self.classes[int(output.argmax())],
            scores=dict(zip(self.classes, output.tolist(), strict=True)),
        )

    def draw(self, folder: Path, targets: FloatArray, outputs: FloatArray) -> tuple[Picture, ...]:
        confusion, scores = folder / "confusion.png", folder / "scores.png"
        truth = targets.astype(np.int64)
        is_good = np.array([name in self.good for name in self.classes])
        draw_confusion(confusion, truth, outputs.argmax(axis=1), self.classes)
        draw_scores(scores, truth, 1.0 - outputs[:, is_good].sum(axis=1), self.classes)
        return (
            Picture(file=confusion, caption="True class and what was said, on the test samples."),
            Picture(file=scores, caption="The score, the probability of any defect, by class."),
        )


def good_classes(settings: TrainSettings, classes: tuple[str, ...]) -> tuple[str, ...]:
    """Which classes a part may be of and be OK: those told, else the one with a good name.

    Raises:
        ExperimentError: a name that is no class, none or several candidates, or all of them.
    """
    there_are = f"the classes of {settings.target!r} are {', '.join(classes)}"
    good = tuple(dict.fromkeys(settings.good))
    if not good:
        good = tuple(name for name in classes if name.lower() in GOOD_NAMES)
        if len(good) != 1:
            raise ExperimentError(
                f"train.good: which class is of good parts? {there_are}; give --good NAME"
            )
    strange = [name for name in good if name not in classes]
    if strange:
        raise ExperimentError(f"train.good: {strange[0]!r} is no class; {there_are}")
    if len(good) == len(classes):
        raise ExperimentError(f"train.good: at least one class must be a defect; {there_are}")
    return tuple(name for name in classes if name in good)
