"""int8 that its own float program has taught: no labels, no trainer, the quantisation samples only.

nncf puts quantisers into the `torch.export` program; each pair of rounding and back becomes one
fake quantiser, through which gradients pass (straight-through: Bengio et al. 2013; learning after
quantising: Jacob et al. 2018, sec. 3); the twin's weights then follow the float program's outputs.
A third of the parts is held out; the weights that drift least there are kept, those before the
first step among them, so it never ends worse there than it began.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.fx import GraphModule, Node
from torch.nn import functional

from lineside.contract import Contract
from lineside.memory import Rows
from lineside_export import graph, openvino_ir
from lineside_export.errors import GraphError
from lineside_export.formats import Format, onnx_format, openvino_format
from lineside_export.program import Program, feed, flat_outputs, run_in_batches
from lineside_export.quantize import call_nncf, choose_samples, range_settings
from lineside_export.schemes.mixed import split_by_part
from lineside_export.schemes.scheme import Material, Scheme
from lineside_export.vendors import quiet_vendors, told

_PRECISION: Final = "int8-distilled"
_STEPS: Final = 200
_BATCH: Final = 16
_JUDGE_EVERY: Final = 25
# Judgements without a gain after which it ends.
_PATIENCE: Final = 2
_RATE: Final = 1e-5
_SEED: Final = 0


def _onnx(material: Material) -> Format:
    return onnx_format(_PRECISION, _taught_onnx(material))


def _openvino(material: Material) -> Format:
    network = openvino_ir.onnx_to_openvino(_taught_onnx(material))
    openvino_ir.unfuse_means(network)
    return openvino_format(_PRECISION, openvino_ir.ir_bytes(network))


@functools.lru_cache(maxsize=1)
def _taught_onnx(material: Material) -> bytes:
    """Both engines take the same twin: it is taught once."""
    program = material.source.program
    if program is None:
        raise GraphError(
            "an ONNX candidate cannot be taught: its gradients are unknown; bring program.pt2"
        )
    if material.target.symmetric:
        raise GraphError(
            f"{material.target.name} has no zero points, and the taught form needs them"
        )
    learn, judged = (torch.from_numpy(images) for images in split_by_part(material))
    memory = material.memory
    with quiet_vendors():
        try:
            twin = _quantised(program, material.images_nhwc, memory)
            _step_around_memory(twin, material.contract)
            _fake(twin)
            _teach(twin, memory, program.fed(memory), learn, judged)
            _unfake(twin)
            translated = graph.program_to_onnx(_as_program(twin, program), material.contract)
        except (RuntimeError, TypeError, AssertionError) as error:
            raise GraphError(f"the int8 twin cannot be taught: {told(error)}") from error
    return graph.to_bytes(graph.round_weights(translated))


def _quantised(
    program: Program, images_nhwc: NDArray[np.uint8], memory: Rows | None
) -> GraphModule:
    from torchao.quantization.pt2e.quantizer import x86_inductor_quantizer as x86

    samples = torch.from_numpy(choose_samples(images_nhwc))
    beside = () if memory is None else (torch.from_numpy(memory),)
    quantizer = x86.X86InductorQuantizer()
    quantizer.set_global(x86.get_default_x86_inductor_quantization_config())

    def work(nncf: Any) -> GraphModule:
        from nncf.experimental.torch.fx import quantize_pt2e

        twin: GraphModule = quantize_pt2e(
            program.exported.module(),
            quantizer,
            nncf.Dataset([(samples[i : i + 1], *beside) for i in range(len(samples))]),
            subset_size=len(samples),
            smooth_quant=True,
            fast_bias_correction=None,
            **range_settings(),
            fold_quantize=False,
        )
        return twin

    twin: GraphModule = call_nncf(work)
    # A module wrapped in another gets none, in silence.
    if not any(_is_dequantise(node) for node in twin.graph.nodes):
        raise GraphError("nncf put no quantiser into the program: nothing in it can be int8")
    return twin


def _is_quantise(node: Node) -> bool:
    ops = torch.ops.quantized_decomposed
    kinds = (ops.quantize_per_tensor.default, ops.quantize_per_channel.default)
    return node.op == "call_function" and node.target in kinds


def _is_dequantise(node: Node) -> bool:
    ops = torch.ops.quantized_decomposed
    kinds = (ops.dequantize_per_tensor.default, ops.dequantize_per_channel.default)
    return node.op == "call_function" and node.target in kinds


def _step_around_memory(twin: GraphModule, contract: Contract) -> None:
    """What a memory flows through reads no rounded value: as in every form, it stays float."""
    if contract.memory is None:
        return
    reached: set[Node] = set()
    for node in twin.graph.nodes:
        start = node.op == "placeholder" and node.target == contract.memory.name
        if not start and not reached.intersection(node.all_input_nodes):
            continue
        reached.add(node)
        for read in node.all_input_nodes if not _is_quantise(node) else ():
            if _is_dequantise(read):
                node.replace_input_with(read, read.args[0].args[0])
    twin.graph.eliminate_dead_code()
    twin.recompile()


def _fake(twin: GraphModule) -> None:
    """Rounding and back become one operator that gradients pass."""
    aten = torch.ops.aten
    for back in [node for node in twin.graph.nodes if _is_dequantise(node)]:
        there = back.args[0]
        value, *rest = there.args  # scale, zero point, (axis,) lowest, highest, kind
        by_channel = "per_channel" in str(back.target)
        if by_channel:
            _as_int32(twin, rest[1])
        target = (
            aten.fake_quantize_per_channel_affine.default
            if by_channel
            else aten.fake_quantize_per_tensor_affine.default
        )
        with twin.graph.inserting_before(back):
            fake = twin.graph.call_function(target, (value, *rest[:-1]))
        fake.meta["kind"] = rest[-1]
        back.replace_all_uses_with(fake)
        twin.graph.erase_node(back)
    twin.graph.eliminate_dead_code()
    twin.recompile()


def _as_int32(twin: GraphModule, zero_points: Node) -> None:
    # fake_quantize_per_channel_affine takes int32 zero points, nncf writes int64.
    *path, name = str(zero_points.target).split(".")
    owner = functools.reduce(getattr, path, twin)
    values = getattr(owner, name).detach().to(torch.int32)
    delattr(owner, name)
    owner.register_buffer(name, values)


def _unfake(twin: GraphModule) -> None:
    """Back to rounding and back, which ONNX has."""
    ops = torch.ops.quantized_decomposed
    for fake in [node for node in twin.graph.nodes if "kind" in node.meta]:
        value, *rest = fake.args
        kind = fake.meta["kind"]
        by_channel = "per_channel" in str(fake.target)
        there, back = (
            (ops.quantize_per_channel.default, ops.dequantize_per_channel.default)
            if by_channel
            else (ops.quantize_per_tensor.default, ops.dequantize_per_tensor.default)
        )
        with twin.graph.inserting_before(fake):
            rounded = twin.graph.call_function(there, (value, *rest, kind))
            restored = twin.graph.call_function(back, (rounded, *rest, kind))
        fake.replace_all_uses_with(restored)
        twin.graph.erase_node(fake)
    twin.recompile()


def _teach(
    module: GraphModule,
    memory: Rows | None,
    teacher: Callable[[Tensor], Any],
    learn: Tensor,
    judged: Tensor,
) -> None:
    """Follow the float program's outputs; keep the weights that drift least on what is held out."""
    twin = feed(module, memory)
    # Frozen by the trainer or not: what rounding took from them is taught back.
    weights = [w.requires_grad_(True) for w in module.parameters() if w.is_floating_point()]
    if not weights:
        raise GraphError("the program has no weights, constants only: nothing can be taught")
    spreads = [value.var() + 1e-12 for value in run_in_batches(teacher, learn, _BATCH)]
    goal = run_in_batches(teacher, judged, _BATCH)
    optimiser = torch.optim.Adam(weights, lr=_RATE)
    best, kept = _drift(twin, judged, goal, spreads), [w.detach().clone() for w in weights]
    best_step = 0
    for step, index in enumerate(_batches(len(learn)), start=1):
        with torch.no_grad():
            wanted = flat_outputs(teacher(learn[index]))
        loss = _distance(flat_outputs(twin(learn[index])), wanted, spreads)
        optimiser.zero_grad()
        torch.autograd.backward(loss)
        optimiser.step()
        if step % _JUDGE_EVERY == 0:
            drift = _drift(twin, judged, goal, spreads)
            if drift < best:
                best, kept = drift, [w.detach().clone() for w in weights]
                best_step = step
            if step - best_step >= _PATIENCE * _JUDGE_EVERY:
                break
    with torch.no_grad():
        for weight, value in zip(weights, kept, strict=True):
            weight.copy_(value)


def _batches(count: int) -> Iterator[Tensor]:
    generator = torch.Generator().manual_seed(_SEED)
    for _ in range(_STEPS):
        yield torch.randint(0, count, (_BATCH,), generator=generator)


def _distance(found: list[Tensor], wanted: list[Tensor], spreads: list[Tensor]) -> Tensor:
    """Squared differences in units of each output's variance."""
    parts = zip(found, wanted, spreads, strict=True)
    return torch.stack([functional.mse_loss(f, w) / spread for f, w, spread in parts]).mean()


def _drift(
    twin: Callable[[Tensor], Any], judged: Tensor, goal: list[Tensor], spreads: list[Tensor]
) -> float:
    return float(_distance(run_in_batches(twin, judged, _BATCH), goal, spreads))


def _as_program(twin: GraphModule, program: Program) -> Program:
    exported = torch.export.export(
        twin, program.examples(), dynamic_shapes=program.dynamic_shapes()
    )
    return Program(exported=exported, output_names=program.output_names, file=program.file)


INT8_DISTILLED: Final = Scheme(
    precision=_PRECISION,
    about="as int8, its weights taught by the float program on the quantisation samples",
    build={"onnxruntime": _onnx, "openvino": _openvino},
)
