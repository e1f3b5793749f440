"""What the model sees in a frame: the values that its last layer reads."""

from __future__ import annotations

from collections import deque
from typing import Final

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto

from lineside.contract import AnomalyHead
from lineside.engines.onnxruntime import vendor_faults
from lineside_export import graph
from lineside_export.errors import GraphError
from lineside_export.formats import Given
from lineside_export.memory_side import compared_value
from lineside_export.vendors import told

_LAST_LAYERS: Final = ("Gemm", "MatMul")


def embed(model: ModelProto, images_nhwc: NDArray[np.uint8], given: Given) -> NDArray[np.float32]:
    """What a head reads before it makes a score of it, by ONNX Runtime in float.

    That is what is compared with the memory, where there is one; else the input of the layer that
    the scored output comes from.

    Args:
        model: the float program, its batch dynamic.
        images_nhwc: (N, H, W, C) uint8.
        given: names of the inputs and the scored output, and the memory.

    Returns:
        (N, D) float32; the map, else the output itself, where no matrix product leads to it.

    Raises:
        GraphError: ONNX Runtime refuses the model.
    """
    faults = vendor_faults()
    import onnxruntime

    name = _seen_in(model, given)
    asked = graph.copy_model(model)
    if name not in {port.name for port in model.graph.output}:
        asked.graph.output.append(onnx.ValueInfoProto(name=name))
    options = onnxruntime.SessionOptions()
    # Which frames are chosen shall not depend on this machine's number of cores.
    options.intra_op_num_threads = 1
    try:
        session = onnxruntime.InferenceSession(
            graph.to_bytes(asked), options, providers=["CPUExecutionProvider"]
        )
        image_name, memory = given.contract.input.name, given.contract.memory
        beside = {} if memory is None else {memory.name: given.memory}
        # One at a time, so that memory does not grow with the set.
        rows = [
            session.run([name], {image_name: image[np.newaxis], **beside})[0].ravel()
            for image in images_nhwc
        ]
    except faults as error:
        raise GraphError(f"ONNX Runtime cannot compute {name!r}: {told(error)}") from error
    return np.stack(rows).astype(np.float32)


def _seen_in(model: ModelProto, given: Given) -> str:
    """The value's name."""
    contract = given.contract
    if contract.memory is not None:
        compared = compared_value(model, contract.memory.name)
        if compared is not None:
            return compared
    last = last_layer_input(model, contract.head.output)
    # A network of convolutions alone: where it looks says more than how much it finds.
    where = contract.head.map if isinstance(contract.head, AnomalyHead) else ""
    return last or where or contract.head.output


def last_layer_input(model: ModelProto, output: str) -> str | None:
    """The value that the nearest matrix product with fixed weights before an output reads."""
    made_by = {name: node for node in model.graph.node for name in node.output}
    weights = {tensor.name for tensor in model.graph.initializer}
    waiting, seen = deque([output]), {output}
    while waiting:
        node = made_by.get(waiting.popleft())
        if node is None:
            continue
        if node.op_type in _LAST_LAYERS and node.input[1] in weights:
            return str(node.input[0])
        for name in node.input:
            if name not in seen and name not in weights:
                seen.add(name)
                waiting.append(name)
    return None
