"""OpenVINO as its documentation shows it: a static shape, one request, the latency hint."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import openvino
from numpy.typing import NDArray

if TYPE_CHECKING:
    from lineside_bench.peers.runners.serve import Job, Opened


def open_peer(job: Job) -> Opened:
    """Float layers in the job's arithmetic; by itself it rounds to bfloat16 where the CPU can."""
    core = openvino.Core()
    network = core.read_model(job.model)
    shape = network.inputs[0].partial_shape
    shape[0] = 1
    network.reshape(shape)
    settings: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY"}
    if job.threads is not None:
        settings["INFERENCE_NUM_THREADS"] = job.threads
    if job.arithmetic:
        settings["INFERENCE_PRECISION_HINT"] = job.arithmetic
    if not job.pinned:
        settings["ENABLE_CPU_PINNING"] = False
    compiled = core.compile_model(network, "CPU", settings)
    request = compiled.create_infer_request()

    def call(image_hwc: NDArray[np.uint8]) -> float:
        return float(request.infer([image_hwc[None]], share_inputs=True)[0][0])

    arithmetic = compiled.get_property("INFERENCE_PRECISION_HINT").to_string()
    version = openvino.__version__.split("-")[0]
    return {"call": call}, f"openvino {version}, {arithmetic}"
