"""ONNX to OpenVINO IR, and IR to bytes that are the same on every run.

OpenVINO numbers nodes by a counter of the process and writes its version and the conversion's
parameters into the file; neither is the model, and both would change the bundle's hash.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree

import numpy as np

from lineside.engines import silence_telemetry
from lineside_export.errors import GraphError
from lineside_export.vendors import scratch_folder, told


@dataclass(frozen=True, kw_only=True)
class IrFiles:
    """The two files of an OpenVINO model."""

    xml: bytes
    bin: bytes


def onnx_to_openvino(onnx_bytes: bytes) -> Any:
    """Convert ONNX into an ``openvino.Model``; nothing is compressed, the batch stays dynamic.

    Raises:
        GraphError: OpenVINO refuses the model.
    """
    silence_telemetry()
    import openvino
    from openvino.tools.ovc.error import BasicError

    # From a file, because only this way folds constants and fuses: a third fewer operators than
    # Core.read_model, for nncf and for the file.
    with scratch_folder() as folder:
        file = folder / "model.onnx"
        file.write_bytes(onnx_bytes)
        try:
            return openvino.convert_model(file)
        except (BasicError, RuntimeError, ValueError) as error:
            raise GraphError(f"OpenVINO refuses the ONNX model: {told(error)}") from error


def ir_bytes(model: Any, *, halve_weights: bool = False) -> IrFiles:
    """Serialise with names by position and without what tells of the run.

    Args:
        model: an ``openvino.Model``; left as it is.
        halve_weights: in half precision; OpenVINO makes float32 of them when it opens the file.

    Raises:
        GraphError: OpenVINO cannot write the model.
    """
    import openvino

    model = model.clone()
    for index, operator in enumerate(model.get_ordered_ops()):
        if operator.get_type_name() != "Parameter":
            operator.set_friendly_name(f"{operator.get_type_name()}_{index}")
    with scratch_folder() as folder:
        xml, weights = folder / "model.xml", folder / "model.bin"
        try:
            openvino.save_model(model, xml, compress_to_fp16=halve_weights)
        except RuntimeError as error:
            raise GraphError(f"OpenVINO cannot write the model: {told(error)}") from error
        return IrFiles(xml=_clean_xml(xml.read_bytes()), bin=weights.read_bytes())


def unfuse_means(model: Any) -> int:
    """Turn means over tokens, or over places with channels last, into products with a constant;
    returns how many.

    OpenVINO 2026.4.1's CPU plugin fuses a FakeQuantize into the ReduceMean before it and then
    computes wrong values, in silence: a trained ViT-Ti with mean pooling was off by 0.01 on
    average (its scores spread by 0.073), and right again as soon as the mean had a second reader.
    Static and dynamic shapes, with low-precision transformations and without, are all concerned.
    Likewise a small Swin, whose places are (h, w, C): int8 was off by half the scores' spread. The
    means of convolutional networks, (C, h, w), become poolings and are right.
    """
    found = [op for op in model.get_ordered_ops() if op.get_type_name() == "ReduceMean"]
    return sum(_replace_mean(operator) for operator in found)


def _replace_mean(mean: Any) -> bool:
    """(N, L, D) → (N, D) or (N, 1, D), and (N, h, w, D) likewise; other means stay as they are, and
    the gates watch them."""
    import openvino.opset13 as ops

    tokens, axes = mean.input_value(0), mean.input_value(1).get_node()
    shape = tokens.get_partial_shape()
    rank, inner = len(shape), list(range(1, len(shape) - 1))
    if axes.get_type_name() != "Constant" or rank not in (3, 4):
        return False
    if sorted(int(axis) % rank for axis in np.ravel(axes.data)) != inner:
        return False
    if any(size.is_dynamic for size in list(shape)[1:]):
        return False
    count, width = math.prod(shape[axis].get_length() for axis in inner), shape[-1].get_length()
    weights = ops.constant(np.full((1, count), 1.0 / count, np.float32))
    flat = tokens if rank == 3 else _reshaped(tokens, [0, count, width])
    product = ops.matmul(weights, flat, False, False)
    kept = [1] * len(inner) if mean.get_attributes()["keep_dims"] else []
    mean.output(0).replace(_reshaped(product, [0, *kept, width]).output(0))
    return True


def _reshaped(value: Any, sizes: list[int]) -> Any:
    """0 keeps the batch, which may be dynamic."""
    import openvino.opset13 as ops

    return ops.reshape(value, ops.constant(np.array(sizes, np.int64)), special_zero=True)


def count_operators(model: Any, kind: str) -> int:
    """How many operators of a kind the model holds."""
    return sum(operator.get_type_name() == kind for operator in model.get_ordered_ops())


def names_of(model: Any, kind: str) -> tuple[str, ...]:
    """Friendly names of all operators of a kind."""
    return tuple(
        str(operator.get_friendly_name())
        for operator in model.get_ordered_ops()
        if operator.get_type_name() == kind
    )


def _clean_xml(data: bytes) -> bytes:
    net = ElementTree.fromstring(data)
    for told_of_run in net.findall("rt_info"):
        net.remove(told_of_run)
    net.set("name", "model")
    for element in net.iter():
        # Indentation is a fifth of the file.
        if element.text is not None and not element.text.strip():
            element.text = None
        element.tail = None
    document: bytes = ElementTree.tostring(net, encoding="utf-8", xml_declaration=True)
    return document + b"\n"
