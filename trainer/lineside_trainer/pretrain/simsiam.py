"""Siamese learning without negatives (Intxausti et al., sec. 3.2; Chen & He 2021)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity, normalize

from lineside_trainer.models import Backbone

LEAST_JUDGED: Final = 2
"""Of one image alone nothing can be said about how images differ."""


def negative_cosine(predicted: Tensor, embedded: Tensor) -> Tensor:
    """How far one view's prediction is from another view's embedding, which is a constant here.

    Eq. 1 with the stop-gradient of eq. 2: without it all images end in one place.

    Args:
        predicted: (N, width) float32, p; learns.
        embedded: (N, width) float32, z; no gradient goes through it.

    Returns:
        (N,) float32 in [-1, 1]; -1 = same direction.
    """
    return -cosine_similarity(predicted.float(), embedded.detach().float(), dim=1)


def siamese_loss(one: tuple[Tensor, Tensor], other: tuple[Tensor, Tensor]) -> Tensor:
    """Symmetric loss (eq. 2): each view's prediction against the other's embedding.

    Args:
        one: (N, width) float32 embedding z1 and prediction p1, as of ``SiameseNet``.
        other: z2 and p2, of other views of the same images.

    Returns:
        (N,) float32 in [-1, 1].
    """
    (z1, p1), (z2, p2) = one, other
    return 0.5 * negative_cosine(p1, z2) + 0.5 * negative_cosine(p2, z1)


class SiameseNet(nn.Module):
    """Backbone, projector of three layers, predictor with a bottleneck (Chen & He 2021, sec. 3).

    Args:
        backbone: any; its feature is projected.
        width: of the embedding and the projector's hidden layers; theirs is the feature's, 2048.
        bottleneck: of the predictor's hidden layer; theirs is a quarter of that.
    """

    def __init__(self, backbone: Backbone, *, width: int, bottleneck: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.projector = nn.Sequential(
            *(nn.Linear(backbone.width, width, bias=False), nn.BatchNorm1d(width), nn.ReLU()),
            *(nn.Linear(width, width, bias=False), nn.BatchNorm1d(width), nn.ReLU()),
            # Without scale and shift: the output's place is nothing to learn.
            *(nn.Linear(width, width, bias=False), nn.BatchNorm1d(width, affine=False)),
        )
        self.predictor = nn.Sequential(
            *(nn.Linear(width, bottleneck, bias=False), nn.BatchNorm1d(bottleneck), nn.ReLU()),
            nn.Linear(bottleneck, width),
        )

    def forward(self, images_nchw: Tensor) -> tuple[Tensor, Tensor]:
        """(N, C, H, W) float32, normalised, to embedding z and prediction p, (N, width) each."""
        embedded: Tensor = self.projector(self.backbone.feature(images_nchw))
        return embedded, self.predictor(embedded)


@dataclass(frozen=True, kw_only=True)
class Dispersion:
    """How much embeddings of different images differ.

    Attributes:
        std: standard deviation of a channel of z/|z| over images, mean over channels (Chen & He
            2021, sec. 4.1, figure 2): 1/sqrt(width) where directions are spread evenly, 0 where all
            images are in one place.
        rank: along how many directions, (tr C)^2 / tr C^2 of the covariance C: 1 where all images
            lie on one line, which batch norm at the projector's end hides from `std`.
    """

    std: float
    rank: float


class DispersionMeter:
    """Gathers the spread batch by batch."""

    def __init__(self) -> None:
        self._count = 0
        self._sum = torch.zeros(())
        self._moment = torch.zeros(())

    def add(self, embedded: Tensor) -> None:
        """Take (N, width) embeddings in."""
        directions = normalize(embedded.detach().float(), dim=1)
        self._count += len(directions)
        self._sum = self._sum.to(directions.device) + directions.sum(dim=0)
        self._moment = self._moment.to(directions.device) + directions.T @ directions

    def take(self) -> Dispersion | None:
        """The spread of all that came in, and begin anew; None of fewer than two embeddings."""
        count, mean = self._count, self._sum.double() / max(1, self._count)
        moment = self._moment.double() / max(1, self._count)
        self._count, self._sum, self._moment = 0, torch.zeros(()), torch.zeros(())
        if count < LEAST_JUDGED:
            return None
        covariance = moment - torch.outer(mean, mean)
        variance = covariance.diagonal().clamp(min=0.0)
        rank = variance.sum().square() / covariance.square().sum().clamp(min=1e-30)
        return Dispersion(std=float(variance.sqrt().mean()), rank=float(rank))
