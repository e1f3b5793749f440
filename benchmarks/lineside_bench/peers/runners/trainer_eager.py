"""The trainer's own network in eval mode: `torch_eager.py` stands in for it where no trainer is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from lineside_trainer.runs.trained import read_trained

if TYPE_CHECKING:
    from lineside_bench.peers.runners.serve import Job, Opened


def open_peer(job: Job) -> Opened:
    """The run's best weights in the class that was trained."""
    if job.threads is not None:
        torch.set_num_threads(job.threads)
    network = read_trained(Path(job.model), "SUITE").task().network

    def call(image_hwc: NDArray[np.uint8]) -> float:
        with torch.inference_mode():
            return float(network(torch.from_numpy(image_hwc)[None]))

    return {"call": call}, (f"torch {torch.__version__}, {torch.get_num_threads()} threads")
