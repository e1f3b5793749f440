"""Weights alone in 8 or 4 bits (nncf): small files, arithmetic in float."""

from __future__ import annotations

from typing import Any, Final

from lineside_export import graph, openvino_ir
from lineside_export.formats import Format, onnx_format, openvino_format
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
    model = graph.copy_model(material.source.model)

    def compress(nncf: Any) -> Any:
        # ONNX Runtime refuses DequantizeLinear with an axis of a convolution's 4-D weights.
        scope = nncf.IgnoredScope(types=["Conv", "ConvTranspose"], validate=False)
        return nncf.compress_weights(model, ignored_scope=scope, **_options(bits))

    compressed = graph.clean_model(call_nncf(compress))
    return onnx_format(f"int{bits}-weights", graph.to_bytes(compressed))


def _openvino(material: Material, bits: int) -> Format:
    network = material.new_network()
    compressed = call_nncf(lambda nncf: nncf.compress_weights(network, **_options(bits)))
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
