"""int8 with ranges fixed beforehand: weights and activations, SmoothQuant, bias correction."""

from __future__ import annotations

from typing import Final

from lineside_export import graph, openvino_ir, quantize
from lineside_export.formats import Format, onnx_format, openvino_format
from lineside_export.schemes.scheme import Material, Scheme


def _onnx(material: Material) -> Format:
    quantised = quantize.quantise_onnx(
        material.source.model, material.images_nhwc, material, material.target
    )
    return onnx_format("int8", graph.to_bytes(quantised))


def _openvino(material: Material) -> Format:
    network = quantize.quantise_openvino(
        material.new_network(), material.images_nhwc, material, material.target
    )
    return openvino_format("int8", openvino_ir.ir_bytes(network))


INT8: Final = Scheme(
    precision="int8",
    about="weights and activations in 8 bits, ranges from the quantisation samples",
    build={"onnxruntime": _onnx, "openvino": _openvino},
)
