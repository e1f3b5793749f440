"""The hardware a bundle is made for: which engines and forms make sense there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from lineside_export.errors import ExportError


@dataclass(frozen=True, kw_only=True)
class Target:
    """A kind of device.

    Attributes:
        name: on the command line, and in the manifest's identity.
        precisions: by engine that runs there: what `--precision auto` tries, the fastest first as a
            rule.
        symmetric: whether activations are quantised around 0 (TensorRT has no zero points).
        nncf_device: what nncf calls it.
        unchecked: what this machine cannot prove of it, in words; the device's own self-test does
            when the bundle is installed.
    """

    name: str
    precisions: Mapping[str, tuple[str, ...]]
    symmetric: bool = False
    nncf_device: str = "ANY"
    unchecked: tuple[str, ...] = ()

    @property
    def engines(self) -> tuple[str, ...]:
        """Who runs there."""
        return tuple(self.precisions)


_ALL_INT8: Final = ("int8", "int8-mixed", "int8-distilled")

TARGETS: Final[dict[str, Target]] = {
    target.name: target
    for target in (
        Target(
            name="cpu",
            precisions={
                # Weights alone in 8 bits are slower than float in ONNX Runtime (ViT-Ti: 13.9 ms
                # against 6.5), and nearly as fast as int8 in OpenVINO (3.1 against 2.9).
                "onnxruntime": ("int8-dynamic", *_ALL_INT8, "fp16", "fp32"),
                "openvino": (*_ALL_INT8, "int8-weights", "fp16", "fp32"),
            },
        ),
        Target(
            name="jetson",
            precisions={"onnxruntime": ("int8", "int8-mixed", "fp16", "fp32")},
            symmetric=True,
            unchecked=(
                "int8 was computed by ONNX Runtime's CPU provider, not by CUDA or TensorRT",
                "latency on the Jetson",
            ),
        ),
        Target(
            name="openvino-gpu",
            precisions={"openvino": ("int8", "int8-mixed", "fp16", "fp32")},
            nncf_device="GPU",
            unchecked=("OpenVINO's GPU plugin", "latency on the GPU"),
        ),
        Target(
            name="npu",
            precisions={"openvino": ("int8", "int8-mixed", "fp16", "fp32")},
            nncf_device="NPU",
            unchecked=("OpenVINO's NPU plugin", "latency on the NPU"),
        ),
    )
}
"""A target is one entry here."""


def find_target(name: str) -> Target:
    """By its name.

    Raises:
        ExportError: there is none of that name.
    """
    target = TARGETS.get(name)
    if target is None:
        raise ExportError(f"target {name!r} is unknown; there are {', '.join(TARGETS)}")
    return target
