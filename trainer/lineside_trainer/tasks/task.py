"""What every task offers besides its loss."""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from lineside.contract import HeadSpec, OutputSpec
from lineside_trainer.data import LabelKind
from lineside_trainer.evaluate import Picture, Yardstick
from lineside_trainer.experiment import TrainSettings
from lineside_trainer.learning.learner import Learner
from lineside_trainer.models import Backbone
from lineside_trainer.runs.predictions import Said

FloatArray = NDArray[np.float64]


class Task(Learner):
    """A learner whose network is exported, and who says how it is judged.

    Attributes:
        labels: what its target column holds.
        judged_by: what `judge` measures, in a word or two.
    """

    labels: ClassVar[LabelKind]
    judged_by: str

    @classmethod
    def check_settings(cls, settings: TrainSettings) -> None:
        """Refuse settings that this task cannot be told, before any image is read.

        Raises:
            ExperimentError: there is one.
        """

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader must know of how it learns."""
        return ()

    @property
    @abstractmethod
    def network(self) -> nn.Module:
        """(N, H, W, C) uint8 to the outputs that `outputs` names, in order."""

    @property
    @abstractmethod
    def backbone(self) -> Backbone:
        """The part that pre-training prepares."""

    @abstractmethod
    def raw_loss(self, raw: Tensor, targets: Tensor) -> Tensor:
        """The loss of outputs that were computed already.

        Args:
            raw: (N, outputs) float32, of the network's `raw`.
            targets: (N,) as `loss` takes them, none of them NaN.

        Returns:
            () float32.
        """

    @abstractmethod
    def outputs(self) -> tuple[OutputSpec, ...]:
        """What the network gives."""

    @abstractmethod
    def head(self) -> HeadSpec:
        """How its outputs become a score."""

    @abstractmethod
    def yardstick(self, targets: FloatArray, outputs: FloatArray) -> Yardstick:
        """By which figures, beside whose, the network is judged.

        Args:
            targets: (N,) as the table has them.
            outputs: (N, *shape), what the network gave for them.
        """

    @abstractmethod
    def say(self, target: float, output: FloatArray) -> Said:
        """Truth and prediction of one image, in words; `output` is (*shape,)."""

    @abstractmethod
    def draw(self, folder: Path, targets: FloatArray, outputs: FloatArray) -> tuple[Picture, ...]:
        """Pictures of the test samples for the report, written into `folder`; arguments as for
        `yardstick`."""
