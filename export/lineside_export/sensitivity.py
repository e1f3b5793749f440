"""Which products of an int8 model cost most of its accuracy: found by taking each back to float.

A product (matrix or convolution) is float when the quantisers of its activations are stepped
around; its weights stay rounded, which costs little beside. Drift is measured on samples that the
ranges were not taken from, because what hurts is mostly what lies beyond the ranges.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto

from lineside_export import graph

ONNX_PRODUCTS: Final = ("MatMul", "Gemm", "Conv", "ConvTranspose")
OPENVINO_PRODUCTS: Final = ("MatMul", "Convolution", "GroupConvolution", "ConvolutionBackpropData")

MOST_RANKED: Final = 64
"""Drift is measured so many times at most, and some more to find out how many it takes."""

Drift = Callable[[Sequence[str]], float]
"""Names of the products that are float, to the root mean square of the drift that remains."""


def choose_floats(products: Sequence[str], drift: Drift, *, enough: float) -> tuple[str, ...]:
    """Few products to keep in float, those first that gain most alone.

    Their number is doubled until it is enough, so up to half of them may be more than it takes:
    measuring every number would cost half as much again as the ranking. Of more than `MOST_RANKED`
    neighbours in the graph are ranked together, so that a graph of some hundred, as those of
    autoencoders with their gradients are, takes no longer.

    Args:
        products: all that are quantised, by name, in the order of the graph.
        drift: measures a choice.
        enough: drift that is as good as none.

    Returns:
        Names, the most sensitive first; one at least, and at most half of the products where there
        are two or more, whatever drift remains.
    """
    size = -(-len(products) // MOST_RANKED)
    groups = [tuple(products[i : i + size]) for i in range(0, len(products), size)]
    alone = {group: drift(group) for group in groups}
    ranked = sorted(groups, key=lambda group: alone[group])
    count = 1
    while count < len(ranked) // 2 and drift(_names(ranked[:count])) > enough:
        count *= 2
    return _names(ranked[: min(count, max(1, len(ranked) // 2))])


def _names(groups: Sequence[Sequence[str]]) -> tuple[str, ...]:
    return tuple(name for group in groups for name in group)


def root_mean_square(
    reference: Mapping[str, NDArray[np.float32]], found: Mapping[str, NDArray[np.float32]]
) -> float:
    """Of the differences over all outputs, each in units of the reference's spread."""
    squares = [
        ((found[name].astype(np.float64) - exact) ** 2).mean() / max(float(exact.var()), 1e-12)
        for name, exact in reference.items()
    ]
    return float(np.sqrt(np.mean(squares)))


def onnx_products(model: ModelProto) -> dict[str, dict[int, str]]:
    """Products with quantised activations: name to {input's place: value before its quantiser}."""
    made_by = {name: node for node in model.graph.node for name in node.output}
    found = {}
    for node in model.graph.node:
        if node.op_type not in ONNX_PRODUCTS:
            continue
        steps: dict[int, str] = {}
        for place, name in enumerate(node.input):
            back = made_by.get(name)
            there = made_by.get(back.input[0]) if back is not None else None
            if there is not None and there.op_type == "QuantizeLinear":
                steps[place] = there.input[0]
        if steps:
            found[node.name] = steps
    return found


def onnx_with_floats(model: ModelProto, names: Sequence[str]) -> bytes:
    """A copy in which these products step around their activations' quantisers."""
    changed = graph.copy_model(model)
    around = onnx_products(changed)
    for node in changed.graph.node:
        if node.name in names:
            for place, value in around[node.name].items():
                node.input[place] = value
    return graph.to_bytes(changed)


def openvino_products(model: Any) -> dict[str, dict[int, Any]]:
    """As `onnx_products`, of an ``openvino.Model``."""
    found = {}
    for operator in model.get_ordered_ops():
        if operator.get_type_name() not in OPENVINO_PRODUCTS:
            continue
        steps = {}
        for place in range(operator.get_input_size()):
            source = operator.input_value(place).get_node()
            if source.get_type_name() != "FakeQuantize":
                continue
            before = source.input_value(0)
            if before.get_node().get_type_name() not in ("Constant", "Convert"):
                steps[place] = before
        if steps:
            found[operator.get_friendly_name()] = steps
    return found


def openvino_with_floats(model: Any, names: Sequence[str]) -> Any:
    """A clone in which these products step around their activations' quantisers."""
    changed = model.clone()
    around = openvino_products(changed)
    operators = {op.get_friendly_name(): op for op in changed.get_ordered_ops()}
    for name in names:
        for place, value in around[name].items():
            operators[name].input(place).replace_source_output(value)
    return changed
