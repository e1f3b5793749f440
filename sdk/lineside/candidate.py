"""The candidate folder: the door between whoever trains and the exporter.

```
candidate/
  program.pt2      torch.export program (or model.onnx): (N, H, W, C) uint8 in, raw outputs out
  contract.json    lineside.contract.Contract
  memory.npy       only where the contract names a memory: (M, width) float32 patch embeddings
  samples.npz      quantisation, validation, assurance and golden samples; no part is in two sets
  provenance.json  where it came from: data hash, seed, versions, commit (free keys, string values)
```

Samples are frames as acquired, before any resize, so that preprocessing is proved with the model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from lineside.durable import durable_file
from lineside.errors import InputDataError
from lineside.frame import Pixels

PROGRAM: Final = "program.pt2"
ONNX_MODEL: Final = "model.onnx"
CONTRACT: Final = "contract.json"
SAMPLES: Final = "samples.npz"
MEMORY: Final = "memory.npy"
PROVENANCE: Final = "provenance.json"

SET_NAMES: Final = ("quantisation", "validation", "assurance", "golden")
# Without these three there is nothing to quantise with, to choose on, or to prove a device by.
NEEDED_SETS: Final = ("quantisation", "validation", "golden")
_FIELDS: Final = ("pixels", "shapes_hwc", "targets", "parts")


@dataclass(frozen=True, kw_only=True)
class SampleSet:
    """Frames with what is known of them.

    Attributes:
        frames_hwc: N frames, each (H, W, C) uint8 or uint16, of one dtype; sizes may differ.
        targets: (N,) float64, NaN where unknown.
        parts: N part ids.
    """

    frames_hwc: Sequence[Pixels]
    targets: NDArray[np.float64]
    parts: Sequence[str]

    def __len__(self) -> int:
        return len(self.frames_hwc)


def write_samples(path: Path, sets: Mapping[str, SampleSet]) -> None:
    """Write all sets aside, flush, and rename into place.

    Raises:
        InputDataError: a set of another name, lengths that differ, or a part in two sets.
        StorageError: the disk is full, read-only or not ours.
    """
    _check_sets(sets, str(path))
    arrays: dict[str, NDArray[np.generic]] = {}
    for name, samples in sets.items():
        arrays[f"{name}_pixels"] = (
            np.concatenate([frame.reshape(-1) for frame in samples.frames_hwc])
            if len(samples)
            else np.zeros(0, np.uint8)
        )
        arrays[f"{name}_shapes_hwc"] = np.array(
            [f.shape for f in samples.frames_hwc], np.int64
        ).reshape(-1, 3)
        arrays[f"{name}_targets"] = np.asarray(samples.targets, np.float64)
        arrays[f"{name}_parts"] = np.array(list(samples.parts), dtype=np.str_)
    with durable_file(path) as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]


def read_samples(path: Path) -> dict[str, SampleSet]:
    """Read ``samples.npz``; nothing in it is executed.

    Raises:
        InputDataError: missing, damaged, an array that is none of ours, or a part in two sets.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            _refuse_strange(archive.files)
            sets = {
                name: _read_set(archive, name) for name in SET_NAMES if f"{name}_pixels" in archive
            }
    # A damaged archive raises whatever zipfile, zlib or the parser of an array's header stumbles
    # over; a header that claims more than there is asks for more memory than there is.
    except Exception as error:
        raise InputDataError(f"{path}: not a samples file: {error}") from error
    _check_sets(sets, str(path))
    return sets


def _refuse_strange(names: Sequence[str]) -> None:
    known = {f"{name}_{field}" for name in SET_NAMES for field in _FIELDS}
    strange = sorted(set(names) - known)
    if strange:
        raise ValueError(f"array {strange[0]!r} belongs to no sample set")


def _read_set(archive: Mapping[str, NDArray[np.generic]], name: str) -> SampleSet:
    pixels, shapes = archive[f"{name}_pixels"], archive[f"{name}_shapes_hwc"]
    ends = np.cumsum(shapes.prod(axis=1)) if len(shapes) else np.zeros(0, np.int64)
    if (ends[-1] if len(ends) else 0) != len(pixels):
        raise ValueError(f"{name}: {len(pixels)} pixel values, the shapes ask for another number")
    frames = [
        pixels[end - int(shape.prod()) : end].reshape(tuple(shape))
        for end, shape in zip(ends, shapes, strict=True)
    ]
    return SampleSet(
        frames_hwc=frames,
        targets=archive[f"{name}_targets"].astype(np.float64),
        parts=[str(part) for part in archive[f"{name}_parts"]],
    )


def _check_sets(sets: Mapping[str, SampleSet], source: str) -> None:
    home: dict[str, str] = {}
    for name, samples in sets.items():
        if name not in SET_NAMES:
            raise InputDataError(
                f"{source}: unknown sample set {name!r}; there are {', '.join(SET_NAMES)}"
            )
        if not len(samples.frames_hwc) == len(samples.targets) == len(samples.parts):
            raise InputDataError(f"{source}: {name}: frames, targets and parts differ in number")
        for part in set(samples.parts):
            if home.setdefault(part, name) != name:
                raise InputDataError(f"{source}: part {part!r} is in both {home[part]} and {name}")
