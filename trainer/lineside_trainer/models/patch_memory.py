"""A memory of good patches (Roth et al. 2022, "Towards Total Recall in Industrial Anomaly
Detection", PatchCore): a patch is as anomalous as it is far from the nearest one of good parts.

Differs from the paper: features are of networks pre-trained on the factory's own images; one stage
of them instead of two that are joined; the memory is an input of the graph, exchanged without
touching the model. And distances are measured in whitened features (Mahalanobis): without labels a
network spends most of its features' variance on where a patch lies and how bright it is, and 32 of
a masked autoencoder's 192 directions hold 99.9 %. Solder joints of Ulger et al. shrunk to 24x24,
1,000 patches, AUROC of the largest distance as it is and whitened: MAE (block 6 of 12) 0.73 and
0.93, SimSiam (ResNet-18, stage 3 of 5) 0.91 and 0.94, untrained ViT-Ti 0.92 and 0.95.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from lineside.contract import InputSpec
from lineside_trainer.errors import ExperimentError, TrainerError
from lineside_trainer.experiment import AnomalySettings
from lineside_trainer.models.backbone import Backbone
from lineside_trainer.models.detector import MAP, SCORE, Detector
from lineside_trainer.models.normalise import Normalise

TOP_SHARE: Final = 0.1
"""Of an image's patches, whose mean distance is the score. The paper takes the largest alone and
weighs it (eq. 6 and 7): one patch then speaks for all. On the same images, largest and mean of the
tenth: MAE 0.93 and 0.96, SimSiam 0.94 and 0.96, ahead in all 50 combinations of network, stage,
window and metric that were tried. The mean of all is at times better on joints that fill their
image, but hangs on the memory's seed (SimSiam, stage 2: 0.92 to 0.98, the tenth 0.972 to 0.975),
and would drown a small defect on a large one."""

SHRINKAGE: Final = 0.01
"""Of the mean variance, added to each direction's, so that noise in nearly empty ones does not
drown the rest. 0.001 and 0.1 differ from it by 0.03 of AUROC at most: the less suits MAE, the
more CNNs."""

SAME_BELOW: Final = 0.1
"""Nearer than this share of a good patch's usual length is equal. Squared distances in fp32 are off
by 1e-6, and the root of such a difference around 0 would be 1e-3, another one in each engine."""


_MEASURED_AT_ONCE: Final = 65_536


def stages_at(share: float, backbone: Backbone) -> int:
    """How many of a network's blocks or stages `train.anomaly.memory_layer` means.

    Raises:
        ExperimentError: not even one.
    """
    stages = round(share * backbone.depth)
    if not 1 <= stages <= backbone.depth:
        raise ExperimentError(
            f"train.anomaly.memory_layer: {share:g} of {backbone.depth} blocks or stages names "
            f"none; give {1 / backbone.depth:.2g} to 1, e.g. 0.5 for the middle"
        )
    return stages


def check_neighbours(side: int) -> None:
    """A window with a patch in its middle.

    Raises:
        ExperimentError: an even side.
    """
    if side < 1 or side % 2 == 0:
        raise ExperimentError(
            f"train.anomaly.memory_neighbours: {side} is no odd number, and the window around a "
            f"patch has no middle; give {max(side - 1, 1)} or {max(side + 1, 3)}"
        )


class Whiten(nn.Module):
    """Features to mean 0 and covariance 1 / width over good patches, so that theirs have a length
    of 1; learns nothing.

    Args:
        width: of a patch; until `measure` was called, patches pass through unchanged.
    """

    mean: Tensor
    unmix: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("unmix", torch.eye(width))

    @torch.no_grad()
    def measure(self, patches: Tensor) -> None:
        """Take the figures of (K, width) float32 good patches, K at least 1."""
        mean, covariance = _moments(patches)
        values, vectors = torch.linalg.eigh(covariance.cpu())
        values = values.clamp(min=0.0)
        # A width-sized floor, for patches that are all alike.
        values = values + SHRINKAGE * values.mean().clamp(min=1e-12)
        # Symmetric (ZCA), so that it does not depend on the signs of eigenvectors.
        unmix = (vectors / (values * len(values)).sqrt()) @ vectors.T
        self.mean.copy_(mean)
        self.unmix.copy_(unmix)

    def forward(self, patches: Tensor) -> Tensor:
        """(..., width) to (..., width) float32."""
        return (patches - self.mean) @ self.unmix


def _moments(patches: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and covariance, exact, without a double copy of all patches."""
    chunks = torch.split(patches, _MEASURED_AT_ONCE)
    mean = torch.stack([chunk.double().sum(dim=0) for chunk in chunks]).sum(dim=0) / len(patches)
    covariance = torch.zeros(len(mean), len(mean), dtype=torch.float64, device=mean.device)
    for chunk in chunks:
        centred = chunk.double() - mean  # (K, width)
        covariance += centred.T @ centred
    return mean, covariance / len(patches)


class MemoryDetector(Detector):
    """Pixels to the distance of every patch from the nearest good one.

    Args:
        normalise: of the training fold.
        backbone: its weights may come later; its map's size does not depend on them.
        model_input: what it takes.
        settings: `memory_layer` and `memory_neighbours` count.

    Raises:
        ExperimentError: a layer without a map, a window without a middle or larger than the map.
    """

    def __init__(
        self,
        normalise: Normalise,
        backbone: Backbone,
        *,
        model_input: InputSpec,
        settings: AnomalySettings,
    ) -> None:
        super().__init__()
        check_neighbours(settings.memory_neighbours)
        self.normalise = normalise
        self.backbone = backbone
        self.stages = stages_at(settings.memory_layer, backbone)
        self.neighbours = settings.memory_neighbours
        # No buffer: the exported program would carry it beside the one that it is given.
        self._memory: Tensor | None = None
        self.width, height, width = self._measure(model_input)
        self.map_hw = (height, width)
        self.whiten = Whiten(self.width)
        self.counted = max(1, round(TOP_SHARE * height * width))
        if self.neighbours > 1 and self.neighbours > min(self.map_hw):
            raise ExperimentError(
                f"train.anomaly.memory_neighbours: {self.neighbours} is wider than the map of "
                f"{self.map_hw[0]}x{self.map_hw[1]} patches; give less, or a smaller "
                "train.anomaly.memory_layer or model.patch_px"
            )

    @property
    def memory(self) -> Tensor | None:
        """(M, width) float32; None until `remember`."""
        return self._memory

    def remember(self, patches: Tensor) -> None:
        """Take (M, width) float32, of `embed`, M at least 1, as the memory.

        Raises:
            TrainerError: another width, or none.
        """
        if patches.ndim != 2 or not len(patches) or patches.shape[1] != self.width:
            raise TrainerError(
                f"a memory of shape {list(patches.shape)} does not fit this network; it takes "
                f"[patches, {self.width}] with one patch at least"
            )
        self._memory = patches.detach().float().cpu().contiguous()

    def patches(self, image: Tensor) -> Tensor:
        """(N, H, W, C) uint8 to (N, h*w, width) float32, row by row, before whitening."""
        activation = self.backbone.map_after(self.normalise(image), self.stages)
        if self.neighbours > 1:  # eq. 1 and 2; at the rim over those that are there
            activation = functional.avg_pool2d(
                activation,
                self.neighbours,
                stride=1,
                padding=self.neighbours // 2,
                count_include_pad=False,
            )
        return activation.flatten(2).transpose(1, 2)

    def embed(self, image: Tensor) -> Tensor:
        """(N, H, W, C) uint8 to (N, h*w, width) float32, as the memory holds them."""
        embedded: Tensor = self.whiten(self.patches(image))
        return embedded

    def forward(self, image: Tensor, memory: Tensor | None = None) -> dict[str, Tensor]:
        """As of every `Detector`; distances are in usual lengths of a good patch from their mean.

        Raises:
            TrainerError: there is no memory yet.
        """
        memory = self._memory if memory is None else memory
        if memory is None:
            raise TrainerError("no good patches are remembered yet; build the memory first")
        distances = nearest_distances(self.embed(image), memory.to(image.device))  # (N, h*w)
        score = mean_of_highest(distances, self.counted)
        return {SCORE: score, MAP: distances.reshape(-1, *self.map_hw)}

    @torch.no_grad()
    def _measure(self, model_input: InputSpec) -> tuple[int, int, int]:
        """Channels, height and width of the map."""
        training = self.backbone.training
        self.backbone.eval()  # else one black image would move the batch norms' figures
        device = next(self.backbone.parameters()).device
        image = torch.zeros(1, *model_input.size_hw, model_input.channels, dtype=torch.uint8)
        found = self.backbone.map_after(self.normalise.to(device)(image.to(device)), self.stages)
        self.backbone.train(training)
        _, channels, height, width = found.shape
        return channels, height, width


def nearest_distances(patches: Tensor, memory: Tensor) -> Tensor:
    """(N, L, width) and (M, width) float32 to (N, L): Euclidean, never below `SAME_BELOW`."""
    lengths = memory.square().sum(dim=1)  # (M,)
    nearest = (lengths - 2.0 * (patches @ memory.T)).amin(dim=-1)  # (N, L), less the patch's own
    squared = patches.square().sum(dim=-1) + nearest
    return squared.clamp(min=SAME_BELOW**2).sqrt()


def mean_of_highest(distances: Tensor, count: int) -> Tensor:
    """(N, L) float32 to (N,): the score, see `TOP_SHARE`."""
    return distances.topk(count, dim=1).values.mean(dim=1)
