"""What a method or a task is to the loop: a network that can say its loss."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lineside_trainer.runs.logbook import Row


class Learner(nn.Module):
    """A network with its loss; the loop knows nothing else of it.

    Attributes:
        keeps_last: the last epoch is kept instead of the one that was judged best.
        alone: why one process must have whole batches; "" learns in several alike.
    """

    keeps_last: bool = False
    alone: str = ""

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

    @property
    def kept(self) -> nn.Module:
        """Whose weights `best.pt` holds: what serves only while it learns may be left out."""
        return self

    @abstractmethod
    def layers(self) -> Sequence[Sequence[nn.Parameter]]:
        """Every trained parameter once, from the input to the output."""

    def after_backward(self) -> None:
        """Look at a step's gradients, which nothing has clipped yet."""

    def vitals(self) -> dict[str, float]:
        """Figures by name of the judging that has just ended, for the logbook; counted anew."""
        return {}

    def heed(self, rows: Sequence[Row]) -> None:
        """Look at the epochs so far, the last one judged just now.

        Raises:
            TrainerError: they show that going on is of no use.
        """
