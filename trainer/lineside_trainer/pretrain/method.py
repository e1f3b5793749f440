"""What every way of pre-training offers besides its loss."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

import torch
from torch import Tensor

from lineside.contract import InputSpec
from lineside_trainer.experiment import Experiment
from lineside_trainer.learning.learner import Learner
from lineside_trainer.models import Backbone, Normalise


class Method(Learner):
    """A learner without targets whose backbone is kept.

    Attributes:
        judged_by: name of the figure that `judge` gives, for tables and axes.
        judged_in_words: likewise, with its unit.
        examples_in_words: what `examples` shows.
    """

    judged_by: ClassVar[str]
    judged_in_words: ClassVar[str]
    examples_in_words: ClassVar[str]

    def __init__(
        self,
        experiment: Experiment,  # noqa: ARG002
        model_input: InputSpec,  # noqa: ARG002
        normalise: Normalise,
    ) -> None:
        super().__init__()
        self.normalise = normalise

    @property
    @abstractmethod
    def backbone(self) -> Backbone:
        """What tuning starts from."""

    @property
    def healthy(self) -> dict[str, float]:
        """Where `vitals` lie while all goes well, by name."""
        return {}

    def check_images(self, training: int, judging: int) -> None:
        """Look at how many images there are to learn from and to judge by, before learning begins.

        Raises:
            DataError: this method needs more.
        """

    @abstractmethod
    def examples(self, images_nhwc: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """Rows of pictures for the report, by caption: each (N, H, W, C) float32 in 0..255.

        Empty where a method has nothing to show.
        """
