"""ultralytics: `YOLO("….onnx")` and a call, as its documentation shows a classifier."""

from __future__ import annotations

import os
from importlib import metadata
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from ultralytics import YOLO

if TYPE_CHECKING:
    from lineside_bench.peers.runners.serve import Job, Opened


def open_peer(job: Job) -> Opened:
    """It has no setting for ONNX Runtime's threads, so cores are taken away instead."""
    if job.threads is not None:
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: job.threads])
    side_px = int(np.load(job.images).shape[1])
    model = YOLO(job.model, task="classify")

    def call(image_hwc: NDArray[np.uint8]) -> float:
        shown = np.repeat(image_hwc, 3, axis=2) if image_hwc.shape[2] == 1 else image_hwc
        found = model(shown, imgsz=side_px, device="cpu", verbose=False)
        return float(found[0].probs.top1conf)

    versions = [f"{name} {metadata.version(name)}" for name in ("ultralytics", "onnxruntime")]
    return {"call": call}, " on ".join(versions)
