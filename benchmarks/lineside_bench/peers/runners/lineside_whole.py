"""Lineside: `inspect` whole, from the frame to the verdict, and the engine's part of it alone."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

import lineside

if TYPE_CHECKING:
    from lineside_bench.peers.runners.serve import Job, Opened


def open_peer(job: Job) -> Opened:
    """`lineside.load`, as the documentation opens a bundle."""
    inspector = lineside.load(
        Path(job.model),
        trust=Path(job.key),
        engine=job.engine,
        precision=job.form,
        threads=job.threads,
    )
    output = inspector.contract.outputs[0].name

    def inspect(frame_hwc: NDArray[np.uint8]) -> float:
        score = inspector.inspect(frame_hwc).score
        assert score is not None, "a frame of its own golden samples is decidable"
        return score

    def infer(frame_hwc: NDArray[np.uint8]) -> float:
        return float(inspector.engine.infer(frame_hwc[None])[output][0])

    return {"inspect": inspect, "infer": infer}, inspector.engine.description
