"""anomalib's `OpenVINOInferencer` on a model that anomalib exported."""

from __future__ import annotations

from importlib import metadata
from typing import TYPE_CHECKING, Any

import numpy as np
from anomalib.deploy import OpenVINOInferencer
from numpy.typing import NDArray

if TYPE_CHECKING:
    from lineside_bench.peers.runners.serve import Job, Opened


def open_peer(job: Job) -> Opened:
    """An array in, as its documentation shows; gray frames are made RGB, which it insists on."""
    chosen: dict[str, Any] = {}
    if job.threads is not None:
        chosen = {"device": "CPU", "config": {"INFERENCE_NUM_THREADS": job.threads}}
    inferencer = OpenVINOInferencer(path=job.model, **chosen)

    def call(image_hwc: NDArray[np.uint8]) -> float:
        shown = np.repeat(image_hwc, 3, axis=2) if image_hwc.shape[2] == 1 else image_hwc
        return float(np.asarray(inferencer.predict(shown).pred_score).reshape(-1)[0])

    versions = f"anomalib {metadata.version('anomalib')} on openvino {metadata.version('openvino')}"
    return {"call": call}, versions
