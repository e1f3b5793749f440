"""What a graph does with its memory: the operators that a memory flows through, walked from the
input on.

They stay float in every form: a memory is data that may be exchanged after the export, and ranges
taken from this one would be wrong for another.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import onnx
from onnx import ModelProto

from lineside_export.errors import GraphError

_PRODUCTS: Final = ("MatMul", "Gemm", "Einsum")


def onnx_memory_side(model: ModelProto, memory: str) -> tuple[onnx.NodeProto, ...]:
    """Operators that the memory flows through, in the order of the graph.

    Raises:
        GraphError: none does, so the model would give the same whatever it remembers.
    """
    reached, found = {memory}, []
    for node in model.graph.node:
        if reached.intersection(_reads(node)):
            reached.update(node.output)
            found.append(node)
    if not reached.intersection(port.name for port in model.graph.output):
        raise GraphError(_unread(memory))
    return tuple(found)


def openvino_memory_side(model: Any, memory: str) -> tuple[str, ...]:
    """As `onnx_memory_side`, the friendly names of an ``openvino.Model``'s operators."""
    start = model.input(memory).get_node().get_friendly_name()
    reached: set[str] = {start}
    results = False
    for operator in model.get_ordered_ops():
        inputs = (
            operator.input_value(place).get_node().get_friendly_name()
            for place in range(operator.get_input_size())
        )
        if not reached.intersection(inputs):
            continue
        if operator.get_type_name() == "Result":
            results = True
        else:
            reached.add(operator.get_friendly_name())
    if not results:
        raise GraphError(_unread(memory))
    return tuple(sorted(reached - {start}))


def compared_value(model: ModelProto, memory: str) -> str | None:
    """The value of the image's side that the first product with the memory reads, if there is one.

    It is what the model sees in a frame, before anything of the memory is in it.
    """
    made = {memory}
    for node in onnx_memory_side(model, memory):
        others = [name for name in node.input if name not in made]
        if node.op_type in _PRODUCTS and len(others) == 1 and len(node.input) == 2:
            weights = {tensor.name for tensor in model.graph.initializer}
            # A product with weights prepares the memory; it compares nothing.
            if others[0] not in weights:
                return str(others[0])
        made.update(node.output)
    return None


def _reads(node: onnx.NodeProto) -> Sequence[str]:
    inner = [
        name
        for attribute in node.attribute
        for body in (attribute.g, *attribute.graphs)
        for inside in body.node
        for name in _reads(inside)
    ]
    return [*node.input, *inner]


def _unread(memory: str) -> str:
    return (
        f"no output depends on the input {memory!r}: the model would give the same whatever it "
        "remembers: export the program again, or name no memory in the contract"
    )
