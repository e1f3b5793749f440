"""Fewer heads and narrower hidden layers in a ViT: which ones matter, and the smaller matrices.

What is left out is the same number in every block, so that a slim network is described by two
numbers in `model`, and is built, exported and started from like any other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import torch
from timm.layers.attention import Attention
from timm.layers.mlp import Mlp
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from lineside_trainer.errors import ExperimentError
from lineside_trainer.experiment import ModelSettings
from lineside_trainer.models.vit import SHAPES, VitShape

UNITS_STEP: Final = 8
"""Hidden layers are cut to multiples of this: int8 kernels work on so many values at a time."""


@dataclass(frozen=True, kw_only=True)
class Importance:
    """Of one block.

    Attributes:
        heads: (H,) float64, of its attention heads.
        units: (M,) float64, of its MLP's hidden units.
    """

    heads: Tensor
    units: Tensor


@dataclass(frozen=True, kw_only=True)
class Kept:
    """What stays of one block: indices in the wide network, sorted."""

    heads: Tensor
    units: Tensor


def check_slim(model: ModelSettings) -> None:
    """Refuse what no network can be cut to, before any image is read.

    Raises:
        ExperimentError: another network than a ViT of ours, or more heads than it has.
    """
    if not model.heads and model.mlp_share == 1.0:
        return
    shape = SHAPES.get(model.arch)
    if shape is None:
        raise ExperimentError(
            f"model.heads, model.mlp_share: only {', '.join(SHAPES)} can be slimmed, and "
            f"model.arch is {model.arch!r}; leave both away"
        )
    if model.heads > shape.heads:
        raise ExperimentError(
            f"model.heads: {model.heads} are asked for, and {model.arch} has {shape.heads}"
        )


def slim_size(model: ModelSettings) -> tuple[int, int]:
    """Heads and hidden units of each block of the ViT that `model` describes."""
    shape: VitShape = SHAPES[model.arch]
    return model.heads or shape.heads, hidden_units(shape.width, model.mlp_share)


def hidden_units(width: int, mlp_share: float) -> int:
    """How many hidden units a share of the usual 4 x width is."""
    return max(UNITS_STEP, round(mlp_share * 4 * width / UNITS_STEP) * UNITS_STEP)


def slim_blocks(net: VisionTransformer, *, heads: int, units: int) -> None:
    """Give every block so many heads and hidden units; what changes gets random weights.

    Args:
        net: changed in place; its heads keep their width.
        heads: of each block, at most what it has.
        units: of each block's hidden layer.
    """
    for block in _blocks(net):
        width, attention = net.embed_dim, block.attn
        if heads != attention.num_heads:
            block.attn = Attention(
                width, num_heads=heads, attn_head_dim=attention.head_dim, qkv_bias=True
            )
        if units != block.mlp.fc1.out_features:
            block.mlp = Mlp(width, hidden_features=units)


def measure_importance(
    net: VisionTransformer,
    loss: Callable[[Tensor, Tensor], Tensor],
    batches: Iterable[tuple[Tensor, Tensor]],
) -> list[Importance]:
    """How much the loss feels of each head and each hidden unit: mean |∂L/∂ξ| over images, where
    ξ = 1 multiplies what it gives (Michel et al. 2019, eq. 4; for units Molchanov et al. 2019,
    sec. 3.1 and 3.3).

    Args:
        net: inside what `loss` computes; its parameters want gradients. None is kept.
        loss: images and targets to () float32, a mean over images.
        batches: images (N, H, W, C) uint8 and targets (N,), of any N.

    Returns:
        One for each block, from the input to the output.
    """
    sums: list[Importance] | None = None
    images = 0
    for images_nhwc, targets in batches:
        with _activations(net) as given:
            value = loss(images_nhwc, targets)
            gradients = torch.autograd.grad(value, given)
        count = len(images_nhwc)
        felt = [(a * g).sum(dim=1).detach().double() for a, g in zip(given, gradients, strict=True)]
        # The mean's gradient is a count-th of each image's own.
        here = [
            Importance(
                heads=(count * heads.reshape(count, block.attn.num_heads, -1).sum(2)).abs().sum(0),
                units=(count * units).abs().sum(0),
            )
            for block, heads, units in zip(_blocks(net), felt[0::2], felt[1::2], strict=True)
        ]
        sums = here if sums is None else [_added(a, b) for a, b in zip(sums, here, strict=True)]
        images += count
    assert sums is not None, "no images: a fold is never empty"
    return [Importance(heads=s.heads / images, units=s.units / images) for s in sums]


def choose_kept(importance: Sequence[Importance], *, heads: int, units: int) -> list[Kept]:
    """The most important ones of each block, so many of each."""
    return [
        Kept(heads=_largest(block.heads, heads), units=_largest(block.units, units))
        for block in importance
    ]


def prune_weights(
    weights: dict[str, Tensor], kept: Sequence[Kept], *, head_width: int, prefix: str = ""
) -> dict[str, Tensor]:
    """The rows and columns of what is kept.

    A network of `slim_blocks` with these weights computes what the wide one computes with the
    other heads' and units' outputs set to zero.

    Args:
        weights: of the wide network, by timm's names.
        kept: for each block.
        head_width: channels of a head.
        prefix: before timm's names.

    Returns:
        All of `weights`, the blocks' smaller; nothing is copied that stays as it is.
    """
    pruned = dict(weights)
    for index, block in enumerate(kept):
        name = f"{prefix}blocks.{index}"
        channels = _channels(block.heads, head_width)
        attention = pruned[f"{name}.attn.proj.weight"].shape[1]
        # qkv's rows: all queries, then keys, then values; inside each, head by head.
        rows = torch.cat([channels + part * attention for part in range(3)])
        for leaf in ("weight", "bias"):
            _take(pruned, f"{name}.attn.qkv.{leaf}", rows, dim=0)
            _take(pruned, f"{name}.mlp.fc1.{leaf}", block.units, dim=0)
        _take(pruned, f"{name}.attn.proj.weight", channels, dim=1)
        _take(pruned, f"{name}.mlp.fc2.weight", block.units, dim=1)
    return pruned


@contextmanager
def _activations(net: VisionTransformer) -> Iterator[list[Tensor]]:
    """What each block's `proj` and `fc2` are given, in order: (N, tokens, channels)."""
    given: list[Tensor] = []

    def note(_: object, arguments: tuple[Tensor, ...]) -> None:
        given.append(arguments[0])

    hooks = [layer.register_forward_pre_hook(note) for layer in _readers(net)]
    try:
        yield given
    finally:
        for hook in hooks:
            hook.remove()


def _readers(net: VisionTransformer) -> list[nn.Module]:
    return [layer for block in _blocks(net) for layer in (block.attn.proj, block.mlp.fc2)]


def _blocks(net: VisionTransformer) -> list[Any]:
    """timm's `Block`s, of which `nn.Sequential` only says that they are modules."""
    return list(net.blocks)


def _added(a: Importance, b: Importance) -> Importance:
    return Importance(heads=a.heads + b.heads, units=a.units + b.units)


def _largest(values: Tensor, count: int) -> Tensor:
    # Stable, so that equal ones fall the same way on every machine.
    return values.argsort(descending=True, stable=True)[:count].sort().values


def _channels(heads: Tensor, head_width: int) -> Tensor:
    return (heads[:, None] * head_width + torch.arange(head_width)).reshape(-1)


def _take(weights: dict[str, Tensor], name: str, indices: Tensor, *, dim: int) -> None:
    weights[name] = weights[name].index_select(dim, indices).contiguous()
