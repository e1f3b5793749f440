"""Weights alone in 8 or 4 bits (nncf): small files, arithmetic in float."""

from __future__ import annotations

from typing import Any, Final

from lineside_export import graph, openvino_ir
from lineside_export.formats import Format, onnx_format, openvino_format
from lineside_export.memory_side import onnx_memory_side, openvino_memory_side
from lineside_export.quantize import call_nncf
from lineside_export.schemes.scheme import Material, Scheme

# Of input channels that share a scale. nncf's default of 128 does not divide a ViT-Ti's 192.
_GROUP: Final = 64


def _options(bits: int) -> dict[str, Any]:
    with_mode = call_nncf(lambda nncf: nncf.CompressWeightsMode)
    if bits == 8:
        return {"mode": with_mode.INT8_SYM}
    return {"mode": with_mode.INT4_SYM, "ratio": 1.0, "group_size": _GROUP}


def _onnx(material: Material, bits: int) -> Format:
    model, memory = graph.copy_model(material.source.model), material.contract.memory

    def compress(nncf: Any) -> Any:
        # ONNX Runtime refuses DequantizeLinear with an axis of a convolution's 4-D weights.
        names = [node.name for node in onnx_memory_side(model, memory.name)] if memory else []
        scope = nncf.IgnoredScope(types=["Conv", "ConvTranspose"], names=names, validate=False)
        return nncf.compress_weights(model, ignored_scope=scope, **_options(bits))

    compressed = graph.clean_model(call_nncf(compress))
    return onnx_format(f"int{bits}-weights", graph.to_bytes(compressed))


def _openvino(material: Material, bits: int) -> Format:
    network, memory = material.new_network(), material.contract.memory

    def compress(nncf: Any) -> Any:
        names = openvino_memory_side(network, memory.name) if memory else ()
        scope = nncf.IgnoredScope(names=list(names), validate=False) if names else None
        return nncf.compress_weights(network, ignored_scope=scope, **_options(bits))

    compressed = call_nncf(compress)
    return openvino_format(f"int{bits}-weights", openvino_ir.ir_bytes(compressed))


INT8_WEIGHTS: Final = Scheme(
    precision="int8-weights",
    about="weights in 8 bits, arithmetic in float",
    build={
        "onnxruntime": lambda material: _onnx(material, 8),
        "openvino": lambda material: _openvino(material, 8),
    },
)
INT4_WEIGHTS: Final = Scheme(
    precision="int4-weights",
    about="weights in 4 bits, arithmetic in float",
    build={
        "onnxruntime": lambda material: _onnx(material, 4),
        "openvino": lambda material: _openvino(material, 4),
    },
)
