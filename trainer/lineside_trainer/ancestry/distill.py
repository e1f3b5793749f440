"""Learning from a finished run beside the labels: its predictions and its features.

Prediction: squared error of the standardised value, or for classes the divergence of softened
probabilities (Hinton et al. 2015, sec. 2). Feature: a linear adaptor predicts the teacher's pooled
feature from the student's (Romero et al. 2015, eq. 3) and is dropped at the end.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lineside_trainer.experiment import TeacherSettings
from lineside_trainer.learning.learner import Learner
from lineside_trainer.models import Headed
from lineside_trainer.models.regressor import Regressor
from lineside_trainer.runs.logbook import Row
from lineside_trainer.tasks import Task, headed


def value_error(student: Tensor, teacher: Tensor) -> Tensor:
    """Squared error of standardised values.

    Args:
        student: (N,) float32, standardised by the student's training fold.
        teacher: (N,) float32, by the same figures.

    Returns:
        () float32.
    """
    return (student - teacher).square().mean()


def softened_divergence(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """T² KL(teacher ‖ student) of classes at temperature T (Hinton et al. 2015, eq. 1; T² keeps
    the gradients' size when T changes, end of sec. 2).

    Args:
        student: (N, K) float32 logits.
        teacher: (N, K) float32 logits of the same classes.
        temperature: T; 1 leaves the probabilities as they are.

    Returns:
        () float32.
    """
    said = F.log_softmax(student / temperature, dim=1)
    wanted = F.log_softmax(teacher / temperature, dim=1)
    return F.kl_div(said, wanted, log_target=True, reduction="batchmean") * temperature**2


@dataclass(frozen=True, kw_only=True)
class FeatureFigures:
    """Of the teacher's features over training images.

    Attributes:
        mean: (width,) float32.
        std: (width,) float32; 1 where a channel never changes.
    """

    mean: Tensor
    std: Tensor


class Teacher:
    """A trained network that is looked at and never learns.

    It is no module, so that it is neither trained, averaged nor saved with whom it teaches.

    Args:
        network: in eval mode, without gradients.
    """

    def __init__(self, network: Headed) -> None:
        self.network = network

    def __deepcopy__(self, memo: dict[int, object]) -> Teacher:
        """The averaged twin of a student has the same teacher."""
        return self

    @property
    def width(self) -> int:
        """Of its feature."""
        return self.network.backbone.width

    @torch.no_grad()
    def look(self, images_nhwc: Tensor) -> tuple[Tensor, Tensor]:
        """(N, H, W, C) uint8 to its features, (N, width), and raw outputs, (N, outputs)."""
        network = self.network
        if network.normalise.mean.device != images_nhwc.device:
            network.to(images_nhwc.device)
        feature = network.feature(images_nhwc)
        return feature.float(), network.head(feature).float()


@torch.no_grad()
def measure_features(teacher: Teacher, batches_nhwc: Iterable[Tensor]) -> FeatureFigures:
    """Mean and standard deviation of each channel, over images that were not augmented.

    Args:
        teacher: whose.
        batches_nhwc: each (N, H, W, C) uint8; together at least one image.
    """
    features = torch.cat([teacher.look(images)[0].cpu() for images in batches_nhwc]).double()
    std = features.std(dim=0, correction=0)
    # A channel that is all but constant would drown the others.
    alive = std > 1e-3 * std.max()
    return FeatureFigures(
        mean=features.mean(dim=0).float(),
        std=torch.where(alive, std, torch.ones_like(std)).float(),
    )


class Distilled(Learner):
    """A task with a teacher beside its labels; what is judged and kept is the task's alone.

    Images without a target are learnt from by what the teacher says of them.

    Args:
        task: the student.
        teacher: takes the same pixels, and has the same outputs.
        settings: the weights.
        figures: of the teacher's features.
    """

    feature_mean: Tensor
    feature_std: Tensor

    def __init__(
        self, task: Task, teacher: Teacher, settings: TeacherSettings, figures: FeatureFigures
    ) -> None:
        super().__init__()
        self.task = task
        self.teacher = teacher
        self.adaptor = nn.Linear(headed(task).backbone.width, teacher.width)
        self.register_buffer("feature_mean", figures.mean)
        self.register_buffer("feature_std", figures.std)
        self._settings = settings

    @property
    def kept(self) -> nn.Module:
        """The student: the adaptor has served when training ends."""
        return self.task

    def loss(
        self,
        images_nhwc: Tensor,
        targets: Tensor,
        generator: torch.Generator,  # noqa: ARG002
    ) -> Tensor:
        """The task's own on what has a target, and the teacher's two on everything."""
        network = headed(self.task)
        feature = network.feature(images_nhwc)
        raw = network.head(feature).float()
        labelled = ~targets.isnan()
        # A batch may hold no label at all: then zero, which still reaches every parameter.
        own = self.task.raw_loss(raw[labelled], targets[labelled]) if labelled.any() else 0.0
        their_feature, their_raw = self.teacher.look(images_nhwc)
        wanted = (their_feature - self.feature_mean) / self.feature_std
        by_feature = (self.adaptor(feature).float() - wanted).square().mean()
        by_value = self._prediction_error(raw, their_raw)
        loss: Tensor = (
            own + self._settings.prediction * by_value + self._settings.feature * by_feature
        )
        return loss

    def judge(self, images_nhwc: Tensor, targets: Tensor, generator: torch.Generator) -> Tensor:
        """As the task judges itself."""
        return self.task.judge(images_nhwc, targets, generator)

    def vitals(self) -> dict[str, float]:
        return self.task.vitals()

    def heed(self, rows: Sequence[Row]) -> None:
        self.task.heed(rows)

    def layers(self) -> Sequence[Sequence[nn.Parameter]]:
        """The adaptor learns as fast as the head."""
        *inner, head = self.task.layers()
        return [*inner, [*head, *self.adaptor.parameters()]]

    def _prediction_error(self, raw: Tensor, their_raw: Tensor) -> Tensor:
        ours, theirs = headed(self.task), self.teacher.network
        if isinstance(ours, Regressor) and isinstance(theirs, Regressor):
            value = their_raw[:, 0] * theirs.target_std + theirs.target_mean
            return value_error(raw[:, 0], (value - ours.target_mean) / ours.target_std)
        return softened_divergence(raw, their_raw, self._settings.temperature)
