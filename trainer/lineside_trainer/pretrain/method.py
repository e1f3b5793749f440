"""What every way of pre-training offers besides its loss."""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor

from lineside_trainer.learner import Learner
from lineside_trainer.models import Backbone


class Method(Learner):
    """A learner without targets whose backbone is kept."""

    @property
    @abstractmethod
    def backbone(self) -> Backbone:
        """What tuning starts from."""

    @abstractmethod
    def examples(self, images_nhwc: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """Rows of pictures for the report, by caption: each (N, H, W, C) float32 in 0..255.

        Empty where a method has nothing to show.
        """
