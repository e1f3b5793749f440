"""torch as a user of torch calls it: the exported program's module, `inference_mode`, float32."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

if TYPE_CHECKING:
    from lineside_bench.peers.runners.serve import Job, Opened


def open_peer(job: Job) -> Opened:
    """`torch.export.load(...).module()`: plain torch calls in the network's order."""
    if job.threads is not None:
        torch.set_num_threads(job.threads)
    module = torch.export.load(job.model).module()

    def call(image_hwc: NDArray[np.uint8]) -> float:
        with torch.inference_mode():
            return float(module(torch.from_numpy(image_hwc)[None]))

    return {"call": call}, (f"torch {torch.__version__}, {torch.get_num_threads()} threads")
