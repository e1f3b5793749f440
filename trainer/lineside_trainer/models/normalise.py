"""Raw pixels to what a network likes; part of the exported graph."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Normalise(nn.Module):
    """To mean 0 and standard deviation 1 over the training fold.

    Args:
        mean: C values in 0..255, of the training fold.
        std: C values; a channel without contrast is left unscaled.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32))
        safe = [value if value > 1e-3 else 1.0 for value in std]
        self.register_buffer("std", torch.tensor(safe, dtype=torch.float32))

    def forward(self, images_nhwc: Tensor) -> Tensor:
        """(N, H, W, C) uint8 to (N, C, H, W) float32 of mean 0 and std 1."""
        return ((images_nhwc.float() - self.mean) / self.std).permute(0, 3, 1, 2)

    def undo(self, images_nchw: Tensor) -> Tensor:
        """Back to pixels, to be looked at: (N, C, H, W) to (N, H, W, C) float32 in 0..255."""
        return (images_nchw.permute(0, 2, 3, 1) * self.std + self.mean).clamp(0.0, 255.0)
