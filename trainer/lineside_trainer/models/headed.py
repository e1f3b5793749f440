"""Raw pixels to raw outputs: normalisation, backbone, and the head that a task puts on it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Self

import torch
from torch import Tensor, nn

from lineside_trainer.models.backbone import Backbone
from lineside_trainer.models.normalise import Normalise


class Standardise(nn.Module):
    """Features to mean 0 and std 1 over the images they were measured on; learns nothing.

    Takes the place of the batch norm without affine in He et al. 2022, sec. A.1 (linear probing):
    features of different pre-trainings differ in scale, and one learning rate must suit them all.

    Args:
        width: of a feature; until `measure` was called, features pass through unchanged.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("std", torch.ones(width))

    def measure(self, features: Tensor) -> None:
        """Take the figures of (N, width) features; a channel that never changes stays unscaled."""
        exact = features.double()
        std = exact.std(dim=0, correction=0)
        flat = std <= 1e-6 * exact.abs().amax(dim=0).clamp(min=1e-12)
        self.mean.copy_(exact.mean(dim=0))
        self.std.copy_(torch.where(flat, torch.ones_like(std), std))

    def forward(self, features: Tensor) -> Tensor:
        """(N, width) to (N, width) float32."""
        return (features - self.mean) / self.std


class Headed(nn.Module):
    """What tasks make their exported network of.

    Args:
        normalise: of the training fold.
        backbone: pixels to features.
        outputs: values an image.
        head_width: of the head's hidden layer, 0 for one linear layer; None takes what the
            backbone's paper has.
    """

    def __init__(
        self, normalise: Normalise, backbone: Backbone, *, outputs: int, head_width: int | None
    ) -> None:
        super().__init__()
        self.frozen = False
        self._given_features = False
        self.normalise = normalise
        self.backbone = backbone
        hidden = backbone.head_width if head_width is None else head_width
        last = nn.Linear(hidden or backbone.width, outputs)
        nn.init.trunc_normal_(last.weight, std=0.02)
        nn.init.zeros_(last.bias)
        self.head: nn.Module = last
        if hidden:
            self.head = nn.Sequential(nn.Linear(backbone.width, hidden), nn.GELU(), last)

    def feature(self, images_nhwc: Tensor) -> Tensor:
        """(N, H, W, C) uint8 to (N, width) float32, what the head reads."""
        return self.backbone.feature(self.normalise(images_nhwc))

    def raw(self, images_nhwc: Tensor) -> Tensor:
        """(N, H, W, C) uint8 to (N, outputs) float32.

        While `reading_features`, (N, 1, 1, width) float32 features come in the images' place.
        """
        features = images_nhwc.flatten(1) if self._given_features else self.feature(images_nhwc)
        values: Tensor = self.head(features)
        return values.float()

    def freeze(self) -> None:
        """Leave one linear layer to learn (linear probe), on standardised features; the backbone
        stays as it judges: its dropout off, its batch norms fixed."""
        last = self.head[-1] if isinstance(self.head, nn.Sequential) else self.head
        assert isinstance(last, nn.Linear), "as it was made"
        linear = nn.Linear(self.backbone.width, last.out_features)
        nn.init.trunc_normal_(linear.weight, std=0.02)
        nn.init.zeros_(linear.bias)
        self.head = nn.Sequential(Standardise(self.backbone.width), linear)
        self.backbone.requires_grad_(False)
        self.frozen = True
        self.train(self.training)

    def standardise(self, features: Tensor) -> None:
        """Tell a frozen network's head the scale of the (N, width) features it will read."""
        assert isinstance(self.head, nn.Sequential), "frozen"
        first = self.head[0]
        assert isinstance(first, Standardise), "frozen"
        first.measure(features)

    @contextmanager
    def reading_features(self) -> Iterator[None]:
        """Take features in the images' place; the backbone is away meanwhile, so that neither
        checkpoints nor averages carry what never changes."""
        backbone = self._modules["backbone"]
        self._modules["backbone"] = nn.Identity()
        self._given_features = True
        try:
            yield
        finally:
            self._modules["backbone"] = backbone
            self._given_features = False

    def train(self, mode: bool = True) -> Self:
        """As of every module, but for a frozen backbone."""
        super().train(mode)
        if self.frozen:
            self.backbone.eval()
        return self

    def layers(self) -> list[list[nn.Parameter]]:
        """Every trained parameter once, from the input to the output; the head is the last."""
        head = list(self.head.parameters())
        return [head] if self.frozen else [*self.backbone.layers(), head]
