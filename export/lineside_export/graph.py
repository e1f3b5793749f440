"""The candidate's program as ONNX, cleaned of everything that is not the model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
import onnx.numpy_helper
import torch
from onnx import ModelProto, TensorProto
from onnx.reference import ReferenceEvaluator

from lineside.contract import Contract
from lineside_export.candidate import Candidate
from lineside_export.errors import CandidateError, GraphError
from lineside_export.program import Program
from lineside_export.vendors import quiet_vendors, told

# LayerNormalization (17) and Gelu (20) stay one operator each; every engine we name knows 20.
_OPSET: Final = 20
# Per-channel weights need DequantizeLinear with an axis (ONNX operator changelog, version 13).
_OLDEST_OPSET: Final = 13
_BATCH: Final = "batch"
_PATCHES: Final = "patches"
_PRODUCER: Final = "lineside-export"
_WORTH_HALVING: Final = 16
# Values of one constant, 1 GiB of them.
_MOST_FOLDED: Final = 2**28


def program_to_onnx(program: Program, contract: Contract) -> ModelProto:
    """Translate by torch's exporter: dynamic batch, uint8 NHWC in, the contract's names; where it
    names a memory, that is the second input, its number of patches dynamic too.

    Raises:
        CandidateError: the program uses something that ONNX lacks.
    """
    with quiet_vendors():
        try:
            translated = torch.onnx.export(
                program.exported,
                dynamo=True,
                input_names=[port.name for port in (contract.input, contract.memory) if port],
                output_names=list(program.output_names),
                opset_version=_OPSET,
                optimize=True,
                verbose=False,
            )
        except torch.onnx.OnnxExporterError as error:
            raise CandidateError(
                f"{program.file}: cannot be translated to ONNX: {told(error)}: docs/export.md "
                "lists operators to avoid"
            ) from error
        assert translated is not None
        _fold_constants(translated.model)
    return clean_model(translated.model_proto)


def _fold_constants(model: Any) -> None:
    """Compute what hangs on weights alone, in place.

    torch's exporter leaves what is larger than some thousand values. A weight that is flipped in
    the graph, as a backward pass has it, is none that nncf finds: it stops with an AttributeError.
    """
    from onnxscript import optimizer

    optimizer.fold_constants(model, input_size_limit=_MOST_FOLDED, output_size_limit=_MOST_FOLDED)
    optimizer.remove_unused_nodes(model)


def read_onnx(candidate: Candidate) -> ModelProto:
    """Load ``model.onnx`` from elsewhere, with weights that lie beside it, and check it.

    Raises:
        CandidateError: damaged, too old, or not what the contract says.
    """
    file = candidate.program_file
    try:
        model = onnx.load(file)
        onnx.checker.check_model(model)
    except (OSError, ValueError, TypeError, RuntimeError, onnx.checker.ValidationError) as error:
        raise CandidateError(f"{file}: not a valid ONNX model: {told(error)}") from error
    except Exception as error:
        # protobuf's DecodeError has another home in each of its builds.
        if type(error).__name__ != "DecodeError":
            raise
        raise CandidateError(f"{file}: not an ONNX model: {told(error)}") from error
    version = next((entry.version for entry in model.opset_import if not entry.domain), 0)
    if version < _OLDEST_OPSET:
        raise CandidateError(
            f"{file}: operator set {version}; at least {_OLDEST_OPSET} is needed, {_OPSET} is best"
        )
    _check_ports(file, model, candidate.contract)
    return _with_names(clean_model(model))


def clean_model(model: ModelProto) -> ModelProto:
    """Drop stack traces, paths, documentation and inferred shapes; name the open dimensions.

    They name this machine and its versions, change from run to run, and make the file larger.
    """
    cleaned = ModelProto()
    cleaned.CopyFrom(model)
    cleaned.producer_name, cleaned.producer_version = _PRODUCER, ""
    for message in _messages(cleaned):
        for field in ("doc_string", "metadata_props"):
            if field in message.DESCRIPTOR.fields_by_name:
                message.ClearField(field)
    del cleaned.graph.value_info[:]
    for port in (*_inputs(cleaned), *cleaned.graph.output):
        port.type.tensor_type.shape.dim[0].dim_param = _BATCH
    for port in _inputs(cleaned):
        # A contract's image is uint8, its memory float32.
        if port.type.tensor_type.elem_type == TensorProto.FLOAT:
            port.type.tensor_type.shape.dim[0].dim_param = _PATCHES
    return cleaned


def _with_names(model: ModelProto) -> ModelProto:
    """Give every operator a name of its own: tools are told by name what to leave alone."""
    taken: set[str] = set()
    for place, node in enumerate(model.graph.node):
        if not node.name or node.name in taken:
            node.name = f"{node.op_type}_at_{place}"
        taken.add(node.name)
    return model


def copy_model(model: ModelProto) -> ModelProto:
    """One of the caller's own, for tools that change it in place."""
    copied = ModelProto()
    copied.CopyFrom(model)
    return copied


def halve_weights(model: ModelProto) -> ModelProto:
    """Store float32 weights in half precision, each behind a cast back to float32.

    Engines fold the cast when they open the model, so what is computed is float32 with rounded
    weights. Single numbers stay: they save nothing, and may be constants of the formula.
    """
    halved = copy_model(model)
    casts = []
    for tensor in halved.graph.initializer:
        values = onnx.numpy_helper.to_array(tensor)
        if tensor.data_type != TensorProto.FLOAT or values.size < _WORTH_HALVING:
            continue
        name = tensor.name
        with np.errstate(over="ignore"):  # beyond 65,504 it becomes infinite, and a gate says so
            half = onnx.numpy_helper.from_array(values.astype(np.float16), f"{name}_fp16")
        tensor.CopyFrom(half)
        casts.append(
            onnx.helper.make_node("Cast", [half.name], [name], f"{name}_cast", to=TensorProto.FLOAT)
        )
    nodes = [*casts, *halved.graph.node]
    del halved.graph.node[:]
    halved.graph.node.extend(nodes)
    return halved


def round_weights(model: ModelProto) -> ModelProto:
    """Store weights that only ever pass a quantiser as the integers they become."""
    rounded = copy_model(model)
    weights = {tensor.name: tensor for tensor in rounded.graph.initializer}
    readers = Counter(name for node in rounded.graph.node for name in node.input)
    kept = []
    for node in rounded.graph.node:
        weight = weights.get(node.input[0]) if node.op_type == "QuantizeLinear" else None
        if weight is None or readers[weight.name] > 1 or any(n not in weights for n in node.input):
            kept.append(node)
            continue
        (integers,) = ReferenceEvaluator(_alone(node, weights)).run(None, {})
        weight.CopyFrom(onnx.numpy_helper.from_array(np.asarray(integers), node.output[0]))
    del rounded.graph.node[:]
    rounded.graph.node.extend(kept)
    return rounded


def _alone(node: Any, weights: Mapping[str, TensorProto]) -> ModelProto:
    """One node as a model without inputs."""
    initializers = [weights[name] for name in node.input]
    output = onnx.ValueInfoProto(name=node.output[0])
    small = onnx.helper.make_graph([node], "alone", [], [output], initializers)
    return onnx.helper.make_model(small, opset_imports=[onnx.helper.make_opsetid("", _OPSET)])


def to_bytes(model: ModelProto) -> bytes:
    """The file's bytes, weights inside.

    Raises:
        GraphError: above 2 GiB, which protobuf cannot hold.
    """
    try:
        data: bytes = model.SerializeToString(deterministic=True)
    except (ValueError, OSError) as error:
        raise GraphError(f"the ONNX model cannot be written in one file: {told(error)}") from error
    return data


def count_operators(model: ModelProto, kind: str) -> int:
    """How many operators of a kind the main graph holds."""
    return sum(node.op_type == kind for node in model.graph.node)


def _messages(model: ModelProto) -> Iterator[Any]:
    yield model
    for function in model.functions:
        yield function
        yield from _node_messages(function.node)
    yield from _graph_messages(model.graph)


def _graph_messages(graph: Any) -> Iterator[Any]:
    yield graph
    yield from graph.input
    yield from graph.output
    yield from graph.initializer
    yield from _node_messages(graph.node)


def _node_messages(nodes: Iterable[Any]) -> Iterator[Any]:
    for node in nodes:
        yield node
        for attribute in node.attribute:
            yield attribute
            for graph in (attribute.g, *attribute.graphs):
                if graph.node:
                    yield from _graph_messages(graph)


def _inputs(model: ModelProto) -> list[Any]:
    # Before IR version 4 weights were listed as inputs too.
    weights = {tensor.name for tensor in model.graph.initializer}
    return [port for port in model.graph.input if port.name not in weights]


def _check_ports(file: Path, model: ModelProto, contract: Contract) -> None:
    _check_inputs(file, {port.name: port for port in _inputs(model)}, contract)
    by_name = {port.name: port for port in model.graph.output}
    if set(by_name) != {output.name for output in contract.outputs}:
        raise CandidateError(
            f"{file}: gives the outputs ({', '.join(by_name)}), the contract names "
            f"({', '.join(output.name for output in contract.outputs)})"
        )
    for output in contract.outputs:
        _check_port(file, by_name[output.name], TensorProto.FLOAT, output.shape)


def _check_inputs(file: Path, ports: Mapping[str, Any], contract: Contract) -> None:
    wanted, memory = contract.input, contract.memory
    expected = {wanted.name} if memory is None else {wanted.name, memory.name}
    if set(ports) != expected:
        told = f"one, {wanted.name!r}" if memory is None else f"{wanted.name!r} and {memory.name!r}"
        raise CandidateError(
            f"{file}: takes the inputs ({', '.join(ports)}), the contract names {told}"
        )
    _check_port(
        file, ports[wanted.name], TensorProto.UINT8, (*wanted.size_hw, wanted.channels), _BATCH
    )
    if memory is not None:
        _check_port(file, ports[memory.name], TensorProto.FLOAT, (memory.width,), _PATCHES)


def _check_port(
    file: Path, port: Any, kind: int, shape: tuple[int, ...], first: str = _BATCH
) -> None:
    tensor = port.type.tensor_type
    sizes = [size.dim_value if size.HasField("dim_value") else None for size in tensor.shape.dim]
    is_open = bool(sizes) and sizes[0] is None
    fits = len(sizes) == 1 + len(shape) and all(
        found in (None, expected) for found, expected in zip(sizes[1:], shape, strict=True)
    )
    if tensor.elem_type != kind or not is_open or not fits:
        shown = ", ".join("?" if size is None else str(size) for size in sizes)
        raise CandidateError(
            f"{file}: {port.name!r} is {TensorProto.DataType.Name(tensor.elem_type)} ({shown}), "
            f"the contract says {TensorProto.DataType.Name(kind)} "
            f"({', '.join(map(str, (first, *shape)))}), {first} being dynamic: cast and "
            "normalisation belong into the graph (docs/export.md)"
        )
