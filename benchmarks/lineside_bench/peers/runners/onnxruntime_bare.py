"""ONNX Runtime as its documentation shows it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnxruntime
from numpy.typing import NDArray

if TYPE_CHECKING:
    from lineside_bench.peers.runners.serve import Job, Opened


def open_peer(job: Job) -> Opened:
    """A session on the CPU."""
    options = onnxruntime.SessionOptions()
    if job.threads is not None:
        options.intra_op_num_threads = job.threads
    session = onnxruntime.InferenceSession(job.model, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name

    def call(image_hwc: NDArray[np.uint8]) -> float:
        return float(session.run(None, {name: image_hwc[None]})[0][0])

    return {"call": call}, f"onnxruntime {onnxruntime.__version__}"
