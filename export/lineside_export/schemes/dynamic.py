"""int8 with ranges taken anew from every frame: no sample can exceed them.

Weights in 8 bits by output channel; each matrix product measures its input, quantises it, and
computes in integers (ONNX Runtime's ``MatMulIntegerToFloat``). Convolutions stay float: their
integer counterpart is slower on a CPU. On a ViT-Ti of 64x64 this is faster than fixed ranges, and
its mean drift is less than a twentieth of theirs (0.0001 against 0.0027; docs/export.md).
"""

from __future__ import annotations

import math
from typing import Final

import onnx
from onnx import ModelProto

from lineside_export import graph
from lineside_export.errors import GraphError
from lineside_export.formats import Format, onnx_format
from lineside_export.memory_side import onnx_memory_side
from lineside_export.schemes.scheme import Material, Scheme
from lineside_export.vendors import quiet_vendors, scratch_folder, told

_PRODUCTS: Final = ["MatMul", "Gemm"]
_CONVOLUTIONS: Final = ["Conv", "ConvTranspose"]


def _onnx(material: Material) -> Format:
    _refuse_convolutions(material.source.model)
    with quiet_vendors(), scratch_folder() as folder:
        from onnxruntime.quantization import QuantType, quantize_dynamic

        before, after = folder / "float.onnx", folder / "dynamic.onnx"
        before.write_bytes(material.source.data)
        try:
            quantize_dynamic(
                before,
                after,
                op_types_to_quantize=_PRODUCTS,
                per_channel=True,
                weight_type=QuantType.QInt8,
                nodes_to_exclude=_memory_side(material),
            )
            quantised = onnx.load(after)
        except (RuntimeError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise GraphError(
                f"ONNX Runtime cannot quantise the model dynamically: {told(error)}"
            ) from error
    if graph.count_operators(quantised, "MatMulInteger") == 0:
        raise GraphError("no matrix product in the model has fixed weights: nothing can be dynamic")
    return onnx_format("int8-dynamic", graph.to_bytes(graph.clean_model(quantised)))


def _memory_side(material: Material) -> list[str]:
    memory = material.contract.memory
    if memory is None:
        return []
    return [node.name for node in onnx_memory_side(material.source.model, memory.name)]


def _refuse_convolutions(model: ModelProto) -> None:
    """A form that leaves most of the network in float is neither small nor fast."""
    sizes = {tensor.name: math.prod(tensor.dims) for tensor in model.graph.initializer}
    products, convolutions = (
        sum(
            sizes.get(name, 0)
            for node in model.graph.node
            if node.op_type in kinds
            for name in node.input
        )
        for kinds in (_PRODUCTS, _CONVOLUTIONS)
    )
    if products <= convolutions:
        raise GraphError(
            f"only {products:,} weights are in matrix products and {convolutions:,} in "
            "convolutions, which stay float with dynamic ranges: take int8"
        )


INT8_DYNAMIC: Final = Scheme(
    precision="int8-dynamic",
    about="matrix products in 8 bits, ranges from each frame itself",
    build={"onnxruntime": _onnx},
)
