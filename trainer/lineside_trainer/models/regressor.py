"""Raw pixels to one value in the target's unit."""

from __future__ import annotations

import torch
from torch import Tensor

from lineside_trainer.models.backbone import Backbone
from lineside_trainer.models.headed import Headed
from lineside_trainer.models.normalise import Normalise


class Regressor(Headed):
    """What is exported of a regression.

    Args:
        normalise: of the training fold.
        backbone: pixels to features.
        head_width: see ``Headed``.
        target_mean: of the training fold, in the target's unit.
        target_std: likewise; the network learns standardised targets.
    """

    target_mean: Tensor
    target_std: Tensor

    def __init__(
        self,
        normalise: Normalise,
        backbone: Backbone,
        *,
        head_width: int | None,
        target_mean: float,
        target_std: float,
    ) -> None:
        super().__init__(normalise, backbone, outputs=1, head_width=head_width)
        self.register_buffer("target_mean", torch.tensor(target_mean, dtype=torch.float32))
        self.register_buffer("target_std", torch.tensor(target_std, dtype=torch.float32))

    def standardised(self, images_nhwc: Tensor) -> Tensor:
        """(N, H, W, C) uint8 to (N,) float32: value less mean, over std, of the training fold."""
        return self.raw(images_nhwc)[:, 0]

    def forward(self, image: Tensor) -> Tensor:
        """(N, H, W, C) uint8 to (N,) float32 in the target's unit."""
        return self.standardised(image) * self.target_std + self.target_mean
