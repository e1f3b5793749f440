"""What a smaller or larger memory would have cost and brought: data for a plot."""

from __future__ import annotations

import statistics
import time
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
_ROUNDS: Final = 15
_VALUE_BYTES: Final = 4


@dataclass(frozen=True, kw_only=True)
class MemorySize:
    """A memory of the first `patches` of a larger one.

    Attributes:
        patches: M.
        auroc: of the score; NaN where all images are of one kind.
        scores: (N,) float64, of each image.
        size_bytes: of the memory.
        latency_ms: of one image, network and search, in torch on one thread of this machine; a
            device's own is `lineside bench`'s to measure.
    """

    patches: int
    auroc: float
    scores: NDArray[np.float64]
    size_bytes: int
    latency_ms: float


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
    latencies_ms = _latencies_ms(detector, memory, prepared.store.rows(torch.tensor([0])), ends)
    found = _scores_by_size(detector, memory, prepared, rows, ends)
    return tuple(
        MemorySize(
            patches=end,
            auroc=float(auroc(bad, found[end])),
            scores=found[end],
            size_bytes=_VALUE_BYTES * memory[:end].numel(),
            latency_ms=latencies_ms[end],
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


@torch.no_grad()
def _latencies_ms(
    detector: MemoryDetector, memory: Tensor, image: Tensor, ends: list[int]
) -> dict[int, float]:
    """All sizes take turns, so that a busy machine is busy for all of them; medians."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        taken: dict[int, list[float]] = {end: [] for end in ends}
        for _ in range(_ROUNDS):
            for end in ends:
                started_s = time.perf_counter()
                detector(image, memory[:end])
                taken[end].append(1e3 * (time.perf_counter() - started_s))
    finally:
        torch.set_num_threads(threads)
    return {end: statistics.median(times) for end, times in taken.items()}
