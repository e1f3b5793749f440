"""OpenVINO Model API: a wrapper of one's own for a kind of model that it has none for.

None of its wrappers takes a network that gives one value; its way for that is a subclass of
`ImageModel`. The network brings its pre-processing in the graph, so the wrapper's is switched off
(it knows three channels only).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import openvino
from model_api.models import ImageModel, Model
from numpy.typing import NDArray

if TYPE_CHECKING:
    from lineside_bench.peers.runners.serve import Job, Opened


class Value(ImageModel):  # type: ignore[misc]
    """An image to one number."""

    __model__ = "Value"

    def postprocess(self, outputs: dict[str, Any], meta: dict[str, Any]) -> float:  # noqa: ARG002
        """The first output's only value."""
        return float(next(iter(outputs.values())).reshape(-1)[0])


def open_peer(job: Job) -> Opened:
    """Static shape, as Model API lets one before loading."""
    height, width, channels = np.load(job.images).shape[1:]
    chosen = {} if job.threads is None else {"device": "CPU", "nthreads": job.threads}
    model = Model.create_model(
        job.model,
        model_type="Value",
        preload=False,
        configuration={
            "embedded_processing": True,
            "orig_height": height,
            "orig_width": width,
        },
        **chosen,
    )
    model.reshape({next(iter(model.inputs)): [1, height, width, channels]})
    model.load()

    def call(image_hwc: NDArray[np.uint8]) -> float:
        return float(model(image_hwc))

    version = openvino.__version__.split("-")[0]
    return {"call": call}, f"Model API on openvino {version}"
