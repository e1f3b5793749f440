"""The hardware a bundle is made for: which engines and forms make sense there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from lineside_export.errors import ExportError


@dataclass(frozen=True, kw_only=True)
class Target:
    """A kind of device.

    Attributes:
        name: on the command line, and in the manifest's identity.
        engines: who runs there.
        precisions: what `--precision auto` tries, the fastest first as a rule.
        symmetric: whether activations are quantised around 0 (TensorRT has no zero points).
        nncf_device: what nncf calls it.
        unchecked: what this machine cannot prove of it, in words; the device's own self-test does
            when the bundle is installed.
    """

    name: str
    engines: tuple[str, ...]
    precisions: tuple[str, ...]
    symmetric: bool = False
    nncf_device: str = "ANY"
    unchecked: tuple[str, ...] = ()


TARGETS: Final[dict[str, Target]] = {
    target.name: target
    for target in (
        Target(
            name="cpu",
            engines=("onnxruntime", "openvino"),
            precisions=(
                *("int8-dynamic", "int8", "int8-mixed", "int8-distilled"),
                *("fp16", "fp32"),
            ),
        ),
        Target(
            name="jetson",
            engines=("onnxruntime",),
            precisions=("int8", "int8-mixed", "fp16", "fp32"),
            symmetric=True,
            unchecked=(
                "int8 was computed by ONNX Runtime's CPU provider, not by CUDA or TensorRT",
                "latency on the Jetson",
            ),
        ),
        Target(
            name="openvino-gpu",
            engines=("openvino",),
            precisions=("int8", "int8-mixed", "fp16", "fp32"),
            nncf_device="GPU",
            unchecked=("OpenVINO's GPU plugin", "latency on the GPU"),
        ),
        Target(
            name="npu",
            engines=("openvino",),
            precisions=("int8", "int8-mixed", "fp16", "fp32"),
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
