"""An ONNX model's embedding: where it is in the graph, and one more output that measures it."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Final

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper, numpy_helper

from lineside.drift import EMBEDDING_OUTPUT
from lineside.engines.onnxruntime import vendor_faults
from lineside_export import graph
from lineside_export.errors import GraphError
from lineside_export.formats import Given
from lineside_export.vendors import told

_CONVOLUTIONS: Final = ("Conv", "ConvInteger")
_PRODUCTS: Final = ("Gemm", "MatMul", "MatMulInteger", *_CONVOLUTIONS)
_ROUNDINGS: Final = ("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear")
# From here on ReduceMean takes its axes as an input.
_AXES_AS_INPUT: Final = 18


def find_embedding(model: ModelProto, output: str) -> tuple[str, bool] | None:
    """What the nearest product with fixed weights before an output reads, not yet rounded.

    Returns:
        The value, and whether its channels stand last; ``None`` where there is no such product.
    """
    made_by = {name: node for node in model.graph.node for name in node.output}
    fixed = _fixed(model)
    waiting, seen = deque([output]), {output}
    while waiting:
        node = made_by.get(waiting.popleft())
        if node is None:
            continue
        if node.op_type in _PRODUCTS and node.input[1] in fixed and node.input[0] not in fixed:
            value = _before_rounding(made_by, str(node.input[0]))
            return value, node.op_type not in _CONVOLUTIONS
        for name in node.input:
            if name not in seen and name not in fixed:
                seen.add(name)
                waiting.append(name)
    return None


def compute_value(
    model: ModelProto, value: str, images_nhwc: NDArray[np.uint8], given: Given
) -> Iterator[NDArray[np.float32]]:
    """The value for each image alone, by ONNX Runtime.

    Raises:
        GraphError: ONNX Runtime refuses the model.
    """
    faults = vendor_faults()
    import onnxruntime

    asked = graph.copy_model(model)
    if value not in {port.name for port in model.graph.output}:
        asked.graph.output.append(onnx.ValueInfoProto(name=value))
    options = onnxruntime.SessionOptions()
    # What is sealed shall not depend on this machine's number of cores.
    options.intra_op_num_threads = 1
    name, memory = given.contract.input.name, given.contract.memory
    beside = {} if memory is None else {memory.name: given.memory}
    try:
        session = onnxruntime.InferenceSession(
            graph.to_bytes(asked), options, providers=["CPUExecutionProvider"]
        )
        for image in images_nhwc:
            yield session.run([value], {name: image[np.newaxis], **beside})[0]
    except faults as error:
        raise GraphError(f"ONNX Runtime cannot compute {value!r}: {told(error)}") from error


def with_distance(
    model: ModelProto,
    value: str,
    shape: tuple[int, ...],
    axes: tuple[int, ...],
    middle: NDArray[np.float32],
    inverse: NDArray[np.float32],
) -> bytes:
    """A copy with one more output: the root mean square of ``(mean(value) - middle) * inverse``.

    Args:
        model: its batch dynamic.
        value: of the embedding.
        shape: that it has for one image.
        axes: over which it is averaged first, counted with the batch; empty: none.
        middle, inverse: (D,) float32 of what remains.
    """
    tapped = graph.copy_model(model)
    nodes, made = tapped.graph.node, "embedding_distance/{}".format

    def constant(name: str, values: NDArray[np.generic]) -> str:
        tapped.graph.initializer.append(numpy_helper.from_array(values, made(name)))
        return made(name)

    def add(kind: str, inputs: list[str], name: str) -> str:
        nodes.append(helper.make_node(kind, inputs, [name], f"{name}/node"))
        return name

    def average(source: str, over: tuple[int, ...], name: str) -> str:
        add("ReduceMean", [source], made(name))
        nodes[-1].attribute.append(helper.make_attribute("keepdims", 0))
        if _opset(model) >= _AXES_AS_INPUT:
            nodes[-1].input.append(constant(f"{name}_axes", np.array(over, np.int64)))
        else:
            nodes[-1].attribute.append(helper.make_attribute("axes", list(over)))
        return made(name)

    # Rows of all images may lie in one dimension.
    sizes = constant("shape", np.array([-1, *(shape[1:] if shape[0] == 1 else shape)], np.int64))
    found = add("Reshape", [value, sizes], made("by_image"))
    if axes:
        found = average(found, axes, "pooled")
    centred = add("Sub", [found, constant("middle", middle)], made("centred"))
    scaled = add("Mul", [centred, constant("inverse", inverse)], made("scaled"))
    squared = add("Mul", [scaled, scaled], made("squared"))
    add("Sqrt", [average(squared, (1,), "mean")], EMBEDDING_OUTPUT)
    tapped.graph.output.append(
        helper.make_tensor_value_info(EMBEDDING_OUTPUT, TensorProto.FLOAT, ["batch"])
    )
    return graph.to_bytes(tapped)


def _fixed(model: ModelProto) -> set[str]:
    """Values that hang on weights alone."""
    fixed = {tensor.name for tensor in model.graph.initializer}
    for node in model.graph.node:
        if all(name in fixed for name in node.input if name):
            fixed.update(node.output)
    return fixed


def _before_rounding(made_by: dict[str, onnx.NodeProto], value: str) -> str:
    node = made_by.get(value)
    while node is not None and node.op_type in _ROUNDINGS:
        value = str(node.input[0])
        node = made_by.get(value)
    return value


def _opset(model: ModelProto) -> int:
    return next(int(entry.version) for entry in model.opset_import if not entry.domain)
