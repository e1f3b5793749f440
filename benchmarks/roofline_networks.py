"""The networks and forms that `roofline.py` tries: built with random weights, since time does not
depend on them, and quantised by the exporter itself, so that graph and kernels are real."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import ModelProto
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from lineside.contract import Contract, FrameSpec, InputSpec, OutputSpec, RegressionHead
from lineside.memory import Rows
from lineside_export import graph, openvino_ir, quantize
from lineside_export.program import Program
from lineside_export.targets import TARGETS
from lineside_trainer.candidate import export_program
from lineside_trainer.models.normalise import Normalise
from lineside_trainer.models.regressor import Regressor
from lineside_trainer.models.vit import PatchGrid, VitBackbone

RANGE_IMAGES: Final = 16
"""Of noise, that ranges are taken from."""

CPU: Final = TARGETS["cpu"]


class HardGelu(nn.Module):
    """x times a straight ramp from 0 at -2 to 1 at 2: what GELU is, in pieces."""

    def forward(self, values: Tensor) -> Tensor:
        """Any shape to the same."""
        return values * torch.clamp(0.25 * values + 0.5, 0.0, 1.0)


ACTIVATIONS: Final[dict[str, Callable[..., nn.Module]]] = {
    "gelu": nn.GELU,
    "gelu tanh": lambda: nn.GELU(approximate="tanh"),
    "relu": nn.ReLU,
    "hardswish": nn.Hardswish,
    "hardgelu": HardGelu,
}


@dataclass(frozen=True, kw_only=True)
class Shape:
    """A ViT; the defaults are ViT-Ti of 64x64 pixels in patches of 8.

    Attributes:
        side_px: of the square image.
        patch_px: of the square patch.
        class_token: whether one token stands beside the patches.
        depth: blocks.
        width: of a token.
        heads: of attention.
        units: of each block's hidden layer.
        activation: of `ACTIVATIONS`, between the two products of each block.
    """

    side_px: int = 64
    patch_px: int = 8
    class_token: bool = True
    depth: int = 12
    width: int = 192
    heads: int = 3
    units: int = 768
    activation: str = "gelu"

    @property
    def name(self) -> str:
        """Of its files."""
        return "_".join(str(value).replace(" ", "") for value in astuple(self))


@dataclass(frozen=True, kw_only=True)
class Given:
    """What every form runs with."""

    contract: Contract
    memory: Rows | None = None


class PatchMean(VitBackbone):
    """Without a class token: the feature is the mean over all tokens."""

    def feature(self, images_nchw: Tensor) -> Tensor:
        tokens: Tensor = self.net.forward_features(images_nchw)
        return tokens.mean(dim=1)


def build(shape: Shape, *, mean: float = 128.0, std: float = 50.0) -> Regressor:
    """The network as the trainer builds it, but for what `shape` asks for.

    Args:
        shape: of it.
        mean: of the images, 0 to 255.
        std: likewise.
    """
    torch.manual_seed(0)
    side = (shape.side_px, shape.side_px)
    net = VisionTransformer(
        img_size=side,
        patch_size=shape.patch_px,
        in_chans=1,
        num_classes=0,
        global_pool="token" if shape.class_token else "avg",
        fc_norm=False,
        class_token=shape.class_token,
        embed_dim=shape.width,
        depth=shape.depth,
        num_heads=shape.heads,
        mlp_ratio=shape.units / shape.width,
        act_layer=ACTIVATIONS[shape.activation],
    )
    grid = PatchGrid(size_hw=side, patch_px=shape.patch_px, channels=1)
    kind = VitBackbone if shape.class_token else PatchMean
    network = Regressor(
        Normalise((mean,), (std,)), kind(net, grid), head_width=None, target_mean=0, target_std=1
    )
    return network.eval()


def given_of(shape: Shape) -> Given:
    """The contract of such a network."""
    side = (shape.side_px, shape.side_px)
    return Given(
        contract=Contract(
            product="noise",
            frame=FrameSpec(size_hw=side, channels=1),
            input=InputSpec(size_hw=side, channels=1),
            outputs=(OutputSpec(name="value"),),
            head=RegressionHead(target="noise"),
        )
    )


def to_onnx(network: Regressor, given: Given) -> ModelProto:
    """By the road every candidate takes."""
    program = Program(
        exported=export_program(network, given.contract.input),
        output_names=("value",),
        file=Path("program.pt2"),
    )
    return graph.program_to_onnx(program, given.contract)


Images = NDArray[np.uint8]
"""(N, H, W, 1)."""


def noise(shape: Shape, count: int = RANGE_IMAGES) -> Images:
    """Images to take ranges from, and to time."""
    size = (count, shape.side_px, shape.side_px, 1)
    return np.random.default_rng(0).integers(0, 256, size, dtype=np.uint8)


def _float(model: ModelProto, _: Images, __: Given) -> Any:
    return openvino_ir.onnx_to_openvino(graph.to_bytes(model))


def _openvino(
    model: ModelProto,
    images: Images,
    given: Given,
    *,
    float_attention: bool = True,
    zero_points: bool | None = None,
) -> Any:
    network = openvino_ir.onnx_to_openvino(graph.to_bytes(model))
    return quantize.quantise_openvino(
        *(network, images, given, CPU), float_attention=float_attention, zero_points=zero_points
    )


def _onnx(model: ModelProto, images: Images, given: Given) -> ModelProto:
    return quantize.quantise_onnx(model, images, given, CPU)


def _onnx_float_attention(model: ModelProto, images: Images, given: Given) -> ModelProto:
    weights = {tensor.name for tensor in model.graph.initializer}
    inner = [
        node.name
        for node in model.graph.node
        if node.op_type == "MatMul" and not weights.intersection(node.input)
    ]
    return quantize.quantise_onnx(model, images, given, CPU, keep_float=inner)


def _onnx_dynamic(model: ModelProto, _: Images, __: Given) -> ModelProto:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    from lineside_export.vendors import scratch_folder

    with scratch_folder() as folder:
        before, after = folder / "before.onnx", folder / "after.onnx"
        onnx.save(model, before)
        quantize_dynamic(
            *(before, after),
            op_types_to_quantize=["MatMul", "Gemm"],
            per_channel=True,
            weight_type=QuantType.QInt8,
        )
        return onnx.load(after)


def _onnx_blocks(model: ModelProto, _: Images, __: Given, *, bits: int) -> ModelProto:
    from onnxruntime.quantization.matmul_nbits_quantizer import (
        DefaultWeightOnlyQuantConfig,
        MatMulNBitsQuantizer,
    )

    how = DefaultWeightOnlyQuantConfig(
        block_size=32, is_symmetric=True, accuracy_level=4, bits=bits
    )
    quantiser = MatMulNBitsQuantizer(graph.copy_model(model), algo_config=how)
    quantiser.process()
    found: ModelProto = quantiser.model.model
    return found


Make = Callable[[ModelProto, Images, Given], Any]
OPENVINO_FORMS: Final[dict[str, Make]] = {
    "fp32": _float,
    "int8": _openvino,
    "int8, attention too": lambda *a: _openvino(*a, float_attention=False),
    "int8, zero points": lambda *a: _openvino(*a, zero_points=True),
    "int8, zero points, attention too": lambda *a: _openvino(
        *a, float_attention=False, zero_points=True
    ),
}
ONNX_FORMS: Final[dict[str, Make]] = {
    "fp32": lambda model, *_: model,
    "int8": _onnx,
    "int8, attention in float": _onnx_float_attention,
    "int8-dynamic": _onnx_dynamic,
    "8 bits by block": lambda *a: _onnx_blocks(*a, bits=8),
    "4 bits by block": lambda *a: _onnx_blocks(*a, bits=4),
}


class Kitchen:
    """Makes each model once and keeps its files.

    Args:
        folder: of the files.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder

    def float_onnx(self, shape: Shape) -> ModelProto:
        """Before any form is made of it."""
        file = self._folder / f"{shape.name}.onnx"
        if not file.exists():
            file.write_bytes(graph.to_bytes(to_onnx(build(shape), given_of(shape))))
        return onnx.load(file)

    def openvino(self, shape: Shape, form: str) -> Path:
        """The IR's topology; its weights lie beside it."""
        file = self._folder / f"{shape.name}_{form.replace(' ', '')}.xml"
        if not file.exists():
            made = OPENVINO_FORMS[form](self.float_onnx(shape), noise(shape), given_of(shape))
            files = openvino_ir.ir_bytes(made)
            file.with_suffix(".bin").write_bytes(files.bin)
            file.write_bytes(files.xml)
        return file

    def onnx(self, shape: Shape, form: str) -> Path:
        """One file."""
        file = self._folder / f"{shape.name}_{form.replace(' ', '')}.ort.onnx"
        if not file.exists():
            made = ONNX_FORMS[form](self.float_onnx(shape), noise(shape), given_of(shape))
            file.write_bytes(graph.to_bytes(graph.clean_model(made)))
        return file
