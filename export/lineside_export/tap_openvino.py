"""An OpenVINO model's embedding: where it is in the graph, and one more output that measures it."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from lineside.drift import EMBEDDING_OUTPUT
from lineside.engines.openvino import shared_core, vendor_faults
from lineside_export import openvino_ir
from lineside_export.errors import GraphError
from lineside_export.formats import Given
from lineside_export.openvino_ir import IrFiles
from lineside_export.vendors import told

_PRODUCTS: Final = ("MatMul", "Convolution")
_ROUNDINGS: Final = ("FakeQuantize", "Convert")


def read_model(files: IrFiles) -> Any:
    """An ``openvino.Model`` of the caller's own."""
    import openvino

    # A copy: shared tensors refuse memory that is read-only.
    weights = openvino.Tensor(np.frombuffer(files.bin, np.uint8).copy())
    return shared_core().read_model(files.xml.decode(), weights)


def find_embedding(model: Any, output: str) -> tuple[Any, bool] | None:
    """As `tap_onnx.find_embedding`; the value is an output of an operator."""
    fixed = _fixed(model)
    start = model.output(output).get_node()
    waiting, seen = deque([start]), {start.get_friendly_name()}
    while waiting:
        operator = waiting.popleft()
        values = [operator.input_value(place) for place in range(operator.get_input_size())]
        names = [value.get_node().get_friendly_name() for value in values]
        if operator.get_type_name() in _PRODUCTS and names[1] in fixed and names[0] not in fixed:
            return _before_rounding(values[0]), operator.get_type_name() == "MatMul"
        for value, name in zip(values, names, strict=True):
            if name not in seen and name not in fixed:
                seen.add(name)
                waiting.append(value.get_node())
    return None


def compute_value(
    model: Any, value: Any, images_nhwc: NDArray[np.uint8], given: Given
) -> Iterator[NDArray[np.float32]]:
    """The value for each image alone; the model given is changed.

    Raises:
        GraphError: OpenVINO refuses the model.
    """
    faults = vendor_faults()
    import openvino.opset13 as ops

    settings = {"INFERENCE_NUM_THREADS": 1, "INFERENCE_PRECISION_HINT": "f32"}
    try:
        model.add_results([ops.result(value)])
        compiled = shared_core().compile_model(model, "CPU", settings)
        place = len(compiled.outputs) - 1
        name, memory = given.contract.input.name, given.contract.memory
        beside = {} if memory is None else {memory.name: given.memory}
        for image in images_nhwc:
            yield np.array(compiled({name: image[np.newaxis], **beside})[place], np.float32)
    except faults as error:
        raise GraphError(f"OpenVINO cannot compute the embedding: {told(error)}") from error


def with_distance(
    model: Any,
    value: Any,
    shape: tuple[int, ...],
    axes: tuple[int, ...],
    middle: NDArray[np.float32],
    inverse: NDArray[np.float32],
) -> IrFiles:
    """As `tap_onnx.with_distance`; the model given is changed."""
    import openvino.opset13 as ops

    sizes = np.array([-1, *(shape[1:] if shape[0] == 1 else shape)], np.int64)
    found = ops.reshape(value, ops.constant(sizes), special_zero=False)
    if axes:
        found = ops.reduce_mean(found, ops.constant(np.array(axes, np.int64)), keep_dims=False)
    centred = ops.subtract(found, ops.constant(middle[np.newaxis]))
    scaled = ops.multiply(centred, ops.constant(inverse[np.newaxis]))
    mean = ops.reduce_mean(
        ops.multiply(scaled, scaled), ops.constant(np.array([1], np.int64)), keep_dims=False
    )
    return _with_output(model, ops.sqrt(mean))


def _with_output(model: Any, operator: Any) -> IrFiles:
    import openvino.opset13 as ops

    operator.output(0).set_names({EMBEDDING_OUTPUT})
    model.add_results([ops.result(operator)])
    model.validate_nodes_and_infer_types()
    return openvino_ir.ir_bytes(model)


def _fixed(model: Any) -> set[str]:
    """Friendly names of operators that hang on constants alone."""
    fixed: set[str] = set()
    for operator in model.get_ordered_ops():
        inputs = [
            operator.input_value(place).get_node().get_friendly_name()
            for place in range(operator.get_input_size())
        ]
        constant = operator.get_type_name() == "Constant"
        if constant or (inputs and all(name in fixed for name in inputs)):
            fixed.add(operator.get_friendly_name())
    return fixed


def _before_rounding(value: Any) -> Any:
    while value.get_node().get_type_name() in _ROUNDINGS:
        value = value.get_node().input_value(0)
    return value
