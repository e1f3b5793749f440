"""Raw pixels to a probability for each class."""

from __future__ import annotations

import torch
from torch import Tensor

from lineside_trainer.models.backbone import Backbone
from lineside_trainer.models.headed import Headed
from lineside_trainer.models.normalise import Normalise


class Classifier(Headed):
    """What is exported of a classification.

    Args:
        normalise: of the training fold.
        backbone: pixels to features.
        head_width: see ``Headed``.
        classes: K.
    """

    def __init__(
        self, normalise: Normalise, backbone: Backbone, *, head_width: int | None, classes: int
    ) -> None:
        super().__init__(normalise, backbone, outputs=classes, head_width=head_width)

    def forward(self, image: Tensor) -> Tensor:
        """(N, H, W, C) uint8 to (N, K) float32 that sum to 1."""
        return torch.softmax(self.raw(image), dim=1)
