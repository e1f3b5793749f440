"""What the model sees in a frame: the values that its last layer reads."""

from __future__ import annotations

from collections import deque
from typing import Final

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto

from lineside.engines.onnxruntime import vendor_faults
from lineside_export import graph
from lineside_export.errors import GraphError
from lineside_export.vendors import told

_LAST_LAYERS: Final = ("Gemm", "MatMul")


def embed(model: ModelProto, output: str, images_nhwc: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The input of the layer that an output comes from, by ONNX Runtime in float.

    Args:
        model: the float program, with one input and a dynamic batch.
        output: the scored one.
        images_nhwc: (N, H, W, C) uint8.

    Returns:
        (N, D) float32; the output itself where no matrix product leads to it.

    Raises:
        GraphError: ONNX Runtime refuses the model.
    """
    faults = vendor_faults()
    import onnxruntime

    name = last_layer_input(model, output) or output
    asked = graph.copy_model(model)
    if name != output:
        asked.graph.output.append(onnx.ValueInfoProto(name=name))
    options = onnxruntime.SessionOptions()
    # Which frames are chosen shall not depend on this machine's number of cores.
    options.intra_op_num_threads = 1
    try:
        session = onnxruntime.InferenceSession(
            graph.to_bytes(asked), options, providers=["CPUExecutionProvider"]
        )
        (given,) = session.get_inputs()
        # One at a time, so that memory does not grow with the set.
        rows = [
            session.run([name], {given.name: image[np.newaxis]})[0].ravel() for image in images_nhwc
        ]
    except faults as error:
        raise GraphError(f"ONNX Runtime cannot compute {name!r}: {told(error)}") from error
    return np.stack(rows).astype(np.float32)


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
