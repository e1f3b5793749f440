"""int8 but for the layers that cannot bear it: found by measuring, named in the report.

A third of the parts among the quantisation samples is held out. Ranges come from the others; on the
held-out ones each product is taken back to float alone, and so many of the most sensitive stay
float that the drift falls below `_ENOUGH` of the outputs' spread. Then nncf quantises all but these
with all samples. (nncf's own search, ``quantize_with_accuracy_control``, took 279 s and 287
validation calls for a ViT-Ti and left the drift where it was: it looks at samples whose values lie
within the ranges.)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from lineside_export import graph, openvino_ir, quantize
from lineside_export.errors import GraphError
from lineside_export.formats import Format, onnx_format, openvino_format
from lineside_export.schemes.scheme import Material, Scheme
from lineside_export.sensitivity import (
    choose_floats,
    onnx_products,
    onnx_with_floats,
    openvino_products,
    openvino_with_floats,
    root_mean_square,
)

_PRECISION: Final = "int8-mixed"
_ENOUGH: Final = 0.02
_HELD_OUT: Final = 3
# Of the held-out samples: each is computed once for every product.
_MOST_JUDGED: Final = 64


def _onnx(material: Material) -> Format:
    ranges, judged = split_by_part(material)
    model = material.source.model
    whole = quantize.quantise_onnx(model, ranges, material, material.target)
    exact = material.source.infer(judged, material)

    def drift(names: Sequence[str]) -> float:
        tried = onnx_format(_PRECISION, onnx_with_floats(whole, names))
        return root_mean_square(exact, tried.infer(judged, material))

    floats = choose_floats(_some(onnx_products(whole)), drift, enough=_ENOUGH)
    mixed = quantize.quantise_onnx(
        graph.copy_model(model), material.images_nhwc, material, material.target, keep_float=floats
    )
    return _naming(onnx_format(_PRECISION, graph.to_bytes(mixed)), floats)


def _openvino(material: Material) -> Format:
    ranges, judged = split_by_part(material)
    whole = quantize.quantise_openvino(material.new_network(), ranges, material, material.target)
    exact = material.source.infer(judged, material)

    def drift(names: Sequence[str]) -> float:
        files = openvino_ir.ir_bytes(openvino_with_floats(whole, names))
        tried = openvino_format(_PRECISION, files)
        return root_mean_square(exact, tried.infer(judged, material))

    floats = choose_floats(_some(openvino_products(whole)), drift, enough=_ENOUGH)
    mixed = quantize.quantise_openvino(
        material.new_network(), material.images_nhwc, material, material.target, keep_float=floats
    )
    return _naming(openvino_format(_PRECISION, openvino_ir.ir_bytes(mixed)), floats)


def split_by_part(material: Material) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Samples for the ranges, and samples of other parts to judge them by.

    Raises:
        GraphError: all samples are of one part.
    """
    parts = sorted(set(material.parts))
    if len(parts) < 2:
        raise GraphError(
            "the quantisation samples are of one part; some of another are needed to find the "
            "sensitive layers: give the split more parts"
        )
    held_out = set(parts[::_HELD_OUT])
    judged = np.array([part in held_out for part in material.parts])
    images = material.images_nhwc
    return images[~judged], images[judged][:_MOST_JUDGED]


def _some(products: dict[str, Any]) -> list[str]:
    if not products:
        raise GraphError("no product in the quantised model has quantised activations")
    return list(products)


def _naming(made: Format, floats: tuple[str, ...]) -> Format:
    return Format(entry=made.entry, parts=made.parts, kept_float=floats)


INT8_MIXED: Final = Scheme(
    precision=_PRECISION,
    about="as int8, the most sensitive products in float",
    build={"onnxruntime": _onnx, "openvino": _openvino},
)
