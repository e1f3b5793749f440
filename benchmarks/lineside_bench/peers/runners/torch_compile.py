"""torch.compile with its default back end (inductor), which needs a C++ compiler at run time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

if TYPE_CHECKING:
    from lineside_bench.peers.runners.serve import Job, Opened


def open_peer(job: Job) -> Opened:
    """Compiled for the one shape it will see; the first call compiles."""
    if job.threads is not None:
        torch.set_num_threads(job.threads)
    module = torch.compile(torch.export.load(job.model).module())

    def call(image_hwc: NDArray[np.uint8]) -> float:
        with torch.inference_mode():
            return float(module(torch.from_numpy(image_hwc)[None]))

    return {"call": call}, (
        f"torch {torch.__version__} inductor, {torch.get_num_threads()} threads"
    )
