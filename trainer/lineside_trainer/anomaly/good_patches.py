"""From images of good parts to the memory of their patches: embed, whiten, choose."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from lineside_trainer.errors import DataError
from lineside_trainer.experiment import AnomalySettings, RunSettings
from lineside_trainer.learning.device import choose_device
from lineside_trainer.models.coreset import Progress, choose_coreset
from lineside_trainer.models.patch_memory import MemoryDetector
from lineside_trainer.prepared import IntArray, Prepared

MOST_BYTES: Final = 2 * 2**30
"""Of all patches that the memory is chosen from; beyond that, each image gives as many of its own,
drawn by the seed, as there is room for. 2 GiB are 2.8 million patches of 192 values."""

_AT_ONCE: Final = 128


@dataclass(frozen=True, kw_only=True)
class Memory:
    """What was made of the good patches; the detector holds them.

    Attributes:
        patches: (M, width) float32 on the CPU, in the order of choice: the first m are the memory
            of m.
        seen: how many they were chosen from.
        reach: largest distance from any of these to the nearest that was kept.
        notes: what a reader must know.
    """

    patches: Tensor
    seen: int
    reach: float
    notes: tuple[str, ...]


def build_memory(
    detector: MemoryDetector,
    prepared: Prepared,
    rows: IntArray,
    settings: AnomalySettings,
    run: RunSettings,
    *,
    progress: Progress | None = None,
    most_bytes: int = MOST_BYTES,
) -> Memory:
    """Whiten the detector by good patches, and let it remember as many as `memory_patches`.

    In fp32 whatever precision is asked for: equal patches must be found equal.

    Args:
        detector: with its backbone's weights; is left in eval mode, on the CPU.
        prepared: the images.
        rows: (R,) of good parts.
        settings: `memory_patches` counts.
        run: where, and the seed.
        progress: of the choice.
        most_bytes: of the patches that it is chosen from.

    Raises:
        DataError: fewer than two images: nothing says how good ones differ.
    """
    _check_rows(rows, prepared)
    device = choose_device(run)
    detector.eval().to(device)
    keep = _kept_an_image(detector, len(rows), most_bytes)
    patches = _collect(detector, prepared, rows, keep, run.seed)  # (R * keep, width)
    detector.whiten.measure(patches)
    for chunk in torch.split(patches, 2**16):  # in place: there may be room for them once only
        chunk.copy_(detector.whiten(chunk))
    chosen = choose_coreset(patches, settings.memory_patches, seed=run.seed, progress=progress)
    kept = patches[chosen.rows.to(patches.device)].cpu()
    detector.cpu()
    detector.remember(kept)
    notes = _notes(detector, settings, len(kept), keep)
    return Memory(patches=kept, seen=len(patches), reach=chosen.reach, notes=notes)


def _check_rows(rows: IntArray, prepared: Prepared) -> None:
    if len(rows) < 2:
        raise DataError(
            f"{prepared.table.folder}: {len(rows)} training images are of good parts; a memory of "
            "good patches takes two at least, to see how good ones differ: add some, or say with "
            "--good (train.good) which classes are good"
        )


def _kept_an_image(detector: MemoryDetector, images: int, most_bytes: int) -> int:
    height, width = detector.map_hw
    room = most_bytes // (4 * detector.width * images)
    return max(1, min(height * width, room))


@torch.no_grad()
def _collect(
    detector: MemoryDetector, prepared: Prepared, rows: IntArray, keep: int, seed: int
) -> Tensor:
    """`keep` patches of each image, on the detector's device; each image has its own draw."""
    device = detector.whiten.mean.device
    collected = torch.empty(len(rows), keep, detector.width, device=device)
    generator = torch.Generator().manual_seed(seed)
    done = 0
    for chosen in torch.split(torch.from_numpy(rows), _AT_ONCE):
        patches = detector.patches(prepared.store.rows(chosen).to(device)).float()  # (B, L, width)
        if keep < patches.shape[1]:
            drawn = torch.rand(patches.shape[:2], generator=generator).topk(keep, dim=1).indices
            index = drawn.to(device)[..., None].expand(-1, -1, detector.width)
            patches = patches.gather(1, index)
        collected[done : done + len(chosen)] = patches
        done += len(chosen)
    return collected.flatten(0, 1)


def _notes(
    detector: MemoryDetector, settings: AnomalySettings, kept: int, keep: int
) -> tuple[str, ...]:
    height, width = detector.map_hw
    notes = []
    if kept < settings.memory_patches:
        notes.append(
            f"the memory holds {kept} patches, not {settings.memory_patches} "
            "(train.anomaly.memory_patches): the good images have no more that differ"
        )
    if keep < height * width:
        notes.append(
            f"of each good image {keep} of its {height * width} patches, drawn by the seed, were "
            "looked at: more did not fit into memory"
        )
    return tuple(notes)
