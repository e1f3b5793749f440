"""A memory of good patches (Roth et al. 2022, "Towards Total Recall in Industrial Anomaly
Detection", PatchCore): a patch is as anomalous as it is far from the nearest one of good parts.

Differs from the paper: features are of networks pre-trained on the factory's own images; one stage
of them instead of two that are joined; cosine distance instead of Euclidean, so that a memory needs
no other scale than its own. The memory is an input of the graph: it is exchanged without touching
the model.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from lineside.contract import InputSpec
from lineside_trainer.errors import ExperimentError, TrainerError
from lineside_trainer.experiment import AnomalySettings
from lineside_trainer.models.backbone import Backbone
from lineside_trainer.models.detector import MAP, SCORE, Detector
from lineside_trainer.models.normalise import Normalise


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
        """Take (M, width) float32 embeddings of length 1, M at least 1, as the memory.

        Raises:
            TrainerError: another width, or none.
        """
        if patches.ndim != 2 or not len(patches) or patches.shape[1] != self.width:
            raise TrainerError(
                f"a memory of shape {list(patches.shape)} does not fit this network; it takes "
                f"[patches, {self.width}] with one patch at least"
            )
        self._memory = patches.detach().float().cpu().contiguous()

    def embed(self, image: Tensor) -> Tensor:
        """(N, H, W, C) uint8 to (N, h*w, width) float32 of length 1, row by row."""
        activation = self.backbone.map_after(self.normalise(image), self.stages)
        if self.neighbours > 1:  # eq. 1 and 2; at the rim over those that are there
            activation = functional.avg_pool2d(
                activation,
                self.neighbours,
                stride=1,
                padding=self.neighbours // 2,
                count_include_pad=False,
            )
        return functional.normalize(activation.flatten(2).transpose(1, 2), dim=-1)

    def forward(self, image: Tensor, memory: Tensor | None = None) -> dict[str, Tensor]:
        """As of every `Detector`; distances are 1 less the cosine, 0..2.

        Raises:
            TrainerError: there is no memory yet.
        """
        memory = self._memory if memory is None else memory
        if memory is None:
            raise TrainerError("no good patches are remembered yet; build the memory first")
        cosines = self.embed(image) @ memory.to(image.device).T  # (N, h*w, M)
        distances = 1.0 - cosines.amax(dim=-1)  # (N, h*w)
        # Eq. 6; its weight (eq. 7) brings nothing here, see docs/training.md.
        return {SCORE: distances.amax(dim=1), MAP: distances.reshape(-1, *self.map_hw)}

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
