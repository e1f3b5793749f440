"""What every anomaly model is to its task, its report and the exporter."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn

SCORE = "score"
MAP = "map"


class Detector(nn.Module, ABC):
    """Raw pixels to a score and to a map of where; higher is more anomalous in both.

    Attributes:
        map_hw: height and width of the map; it is spread evenly over the input.
    """

    map_hw: tuple[int, int]

    @property
    def memory(self) -> Tensor | None:
        """(M, width) float32 that `forward` takes as its second argument; None takes the image
        alone."""
        return None

    @abstractmethod
    def forward(self, image: Tensor, memory: Tensor | None = None) -> dict[str, Tensor]:
        """(N, H, W, C) uint8, and the memory where there is one, to `SCORE`, (N,) float32, and
        `MAP`, (N, *map_hw) float32.

        It is traced by `torch.export` with an open batch, and an open number of patches.
        """
