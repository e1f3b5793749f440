"""What a method or a task is to the loop: a network that can say its loss."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Learner(nn.Module):
    """A network with its loss; the loop knows nothing else of it."""

    @abstractmethod
    def loss(self, images_nhwc: Tensor, targets: Tensor, generator: torch.Generator) -> Tensor:
        """One step's loss.

        Args:
            images_nhwc: (N, H, W, C) uint8, augmented.
            targets: (N,) float32 in the target's unit; NaN where there are none.
            generator: of every draw the loss makes.

        Returns:
            () float32.
        """

    @abstractmethod
    def judge(self, images_nhwc: Tensor, targets: Tensor, generator: torch.Generator) -> Tensor:
        """(N,) or (1,) figures whose mean is what validation makes smallest; no gradients."""

    @abstractmethod
    def layers(self) -> Sequence[Sequence[nn.Parameter]]:
        """Every trained parameter once, from the input to the output."""
