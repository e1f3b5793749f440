"""What a smaller or larger memory would have cost and brought: data for a plot."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lineside.metrics import auroc
from lineside_trainer.models.patch_memory import MemoryDetector, mean_of_highest, nearest_distances
from lineside_trainer.prepared import IntArray, Prepared

SIZES: Final = (30, 100, 300, 1000, 3000, 10_000, 30_000)
_AT_ONCE: Final = 32
_VALUE_BYTES: Final = 4


@dataclass(frozen=True, kw_only=True)
class MemorySize:
    """A memory of the first `patches` of a larger one.

    Latency is the device's to measure (`lineside bench`); what it grows with is here.

    Attributes:
        patches: M.
        auroc: of the score; NaN where all images are of one kind.
        scores: (N,) float64, of each image.
        size_bytes: of the memory.
        multiplications: of the nearest search for one image.
    """

    patches: int
    auroc: float
    scores: NDArray[np.float64]
    size_bytes: int
    multiplications: int


def study_sizes(
    detector: MemoryDetector,
    memory: Tensor,
    prepared: Prepared,
    rows: IntArray,
    bad: NDArray[np.bool_],
    *,
    sizes: Sequence[int] = SIZES,
) -> tuple[MemorySize, ...]:
    """Judge images by the beginnings of a memory, which are core-sets themselves.

    Args:
        detector: in eval mode, on the CPU.
        memory: (M, width) float32 in the order of choice.
        prepared: the images.
        rows: (N,) of validation images whose kind is known; test images would be tuned on.
        bad: (N,) bool.
        sizes: those below M count; M itself always does.

    Returns:
        From small to large.
    """
    ends = sorted({size for size in sizes if 0 < size < len(memory)} | {len(memory)})
    height, width = detector.map_hw
    found = _scores_by_size(detector, memory, prepared, rows, ends)
    return tuple(
        MemorySize(
            patches=end,
            auroc=float(auroc(bad, found[end])),
            scores=found[end],
            size_bytes=_VALUE_BYTES * memory[:end].numel(),
            multiplications=height * width * memory[:end].numel(),
        )
        for end in ends
    )


@torch.no_grad()
def _scores_by_size(
    detector: MemoryDetector, memory: Tensor, prepared: Prepared, rows: IntArray, ends: list[int]
) -> dict[int, NDArray[np.float64]]:
    """One pass: what is near to the first m patches is searched again only among those behind."""
    scores: dict[int, list[Tensor]] = {end: [] for end in ends}
    for chosen in torch.split(torch.from_numpy(rows), _AT_ONCE):
        patches = detector.embed(prepared.store.rows(chosen))  # (B, L, width)
        nearest = torch.full(patches.shape[:2], torch.inf)
        for start, end in zip([0, *ends], ends, strict=False):
            nearest = torch.minimum(nearest, nearest_distances(patches, memory[start:end]))
            scores[end].append(mean_of_highest(nearest, detector.counted))
    return {end: torch.cat(parts).double().numpy() for end, parts in scores.items()}
