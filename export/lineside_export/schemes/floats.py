"""Floating point: the program as it is, and with fewer bits for weights or arithmetic.

fp16 halves the weights in the file; every engine we name turns them back into float32 when it
opens the model, so the arithmetic on a CPU stays what was proved. bf16 is arithmetic in bfloat16,
by processors that have it (AVX512-BF16, AMX, Armv8.6): weights stay as they are in the file.
"""

from __future__ import annotations

from typing import Final

import msgspec

from lineside_export import graph, openvino_ir
from lineside_export.formats import FLOAT, Format, onnx_format, openvino_format
from lineside_export.schemes.scheme import Material, Scheme


def _onnx_fp32(material: Material) -> Format:
    return onnx_format(FLOAT, material.source.data)


def _openvino_fp32(material: Material) -> Format:
    return openvino_format(FLOAT, openvino_ir.ir_bytes(material.new_network()))


def _onnx_fp16(material: Material) -> Format:
    return onnx_format("fp16", graph.to_bytes(graph.halve_weights(material.source.model)))


def _openvino_fp16(material: Material) -> Format:
    files = openvino_ir.ir_bytes(material.new_network(), halve_weights=True)
    return openvino_format("fp16", files)


def _openvino_bf16(material: Material) -> Format:
    whole = openvino_format("bf16", openvino_ir.ir_bytes(material.new_network()))
    entry = msgspec.structs.replace(whole.entry, inference_precision="bf16")
    return Format(entry=entry, parts=whole.parts)


FP32: Final = Scheme(
    precision=FLOAT,
    about="weights and arithmetic in float32",
    build={"onnxruntime": _onnx_fp32, "openvino": _openvino_fp32},
)
FP16: Final = Scheme(
    precision="fp16",
    about="weights in half precision, arithmetic in float32",
    build={"onnxruntime": _onnx_fp16, "openvino": _openvino_fp16},
)
BF16: Final = Scheme(
    precision="bf16",
    about="arithmetic in bfloat16, on processors that have it",
    build={"openvino": _openvino_bf16},
)
