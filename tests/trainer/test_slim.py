"""Slimming a ViT: the smaller network is the wide one with the rest silent."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

from lineside.contract import InputSpec
from lineside_trainer.errors import ExperimentError
from lineside_trainer.experiment import ModelSettings
from lineside_trainer.models import build_backbone, check_model
from lineside_trainer.models.slim import (
    Importance,
    Kept,
    choose_kept,
    hidden_units,
    measure_importance,
    prune_weights,
    slim_blocks,
)

HEADS, HEAD_WIDTH, UNITS = 4, 8, 64
INPUT = InputSpec(size_hw=(64, 64), channels=1)


def make_vit() -> VisionTransformer:
    torch.manual_seed(0)
    net = VisionTransformer(
        img_size=16, patch_size=8, in_chans=1, num_classes=0, embed_dim=HEADS * HEAD_WIDTH,
        depth=2, num_heads=HEADS, mlp_ratio=2.0, global_pool="avg",
    )  # fmt: skip
    for parameter in net.parameters():  # timm starts biases at zero, which would hide a mix-up
        torch.nn.init.normal_(parameter, std=0.2)
    return net.eval()


def silence(net: VisionTransformer, kept: list[Kept]) -> None:
    """Zero what the readers of heads and units are given, by zeroing their columns."""
    with torch.no_grad():
        for block, stays in zip(net.blocks, kept, strict=True):
            for head in set(range(HEADS)) - set(stays.heads.tolist()):
                block.attn.proj.weight[:, head * HEAD_WIDTH : (head + 1) * HEAD_WIDTH] = 0.0
            gone = sorted(set(range(UNITS)) - set(stays.units.tolist()))
            block.mlp.fc2.weight[:, gone] = 0.0


@settings(max_examples=10, deadline=None)
@given(heads=st.integers(1, HEADS), units=st.integers(1, 8), seed=st.integers(0, 99))
def test_it_computes_what_the_wide_one_does_with_the_rest_silent(
    heads: int, units: int, seed: int
) -> None:
    draw = torch.Generator().manual_seed(seed)
    kept = [
        Kept(
            heads=torch.randperm(HEADS, generator=draw)[:heads].sort().values,
            units=torch.randperm(UNITS, generator=draw)[: 8 * units].sort().values,
        )
        for _ in range(2)
    ]
    wide, slim = make_vit(), make_vit()
    slim_blocks(slim, heads=heads, units=8 * units)
    slim.load_state_dict(prune_weights(wide.state_dict(), kept, head_width=HEAD_WIDTH))
    silence(wide, kept)
    images = torch.randn(3, 1, 16, 16, generator=draw)
    with torch.no_grad():
        # Sums in another order: 2e-6 measured.
        assert torch.allclose(slim.eval()(images), wide(images), atol=1e-5)
    assert slim.blocks[0].attn.qkv.weight.shape == (3 * heads * HEAD_WIDTH, HEADS * HEAD_WIDTH)


def draw_images() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (6, 16, 16, 1), dtype=torch.uint8, generator=generator)
    return images, torch.randn(6, generator=generator, dtype=torch.float64)


def squared_error(net: VisionTransformer, images_nhwc: Tensor, targets: Tensor) -> Tensor:
    values: Tensor = net(images_nhwc.permute(0, 3, 1, 2).double() / 255)[:, 0]
    return (values - targets).square().mean()


def test_importance_is_the_slope_of_each_images_loss_by_a_gate() -> None:
    """Against gates that are really there, one image at a time."""
    net = make_vit().double()
    images, targets = draw_images()
    block = net.blocks[1]
    gates = torch.ones(HEADS).double(), torch.ones(UNITS).double()
    for gate in gates:
        gate.requires_grad_()
    hooks = [
        block.attn.proj.register_forward_pre_hook(
            lambda _, given: (given[0] * gates[0].repeat_interleave(HEAD_WIDTH),)
        ),
        block.mlp.fc2.register_forward_pre_hook(lambda _, given: (given[0] * gates[1],)),
    ]
    slopes = [
        torch.autograd.grad(squared_error(net, images[i : i + 1], targets[i : i + 1]), gates)
        for i in range(6)
    ]
    for hook in hooks:
        hook.remove()
    batches = [(images[:4], targets[:4]), (images[4:], targets[4:])]
    found = measure_importance(net, partial(squared_error, net), batches)[1]
    assert torch.allclose(found.heads, torch.stack([s[0].abs() for s in slopes]).mean(0))
    assert torch.allclose(found.units, torch.stack([s[1].abs() for s in slopes]).mean(0))
    assert all(parameter.grad is None for parameter in net.parameters())


def test_a_head_that_nobody_reads_goes_first() -> None:
    net = make_vit().double()
    with torch.no_grad():
        net.blocks[0].attn.proj.weight[:, HEAD_WIDTH : 2 * HEAD_WIDTH] = 0.0
        net.blocks[0].mlp.fc2.weight[:, 5] = 0.0
    importance = measure_importance(net, partial(squared_error, net), [draw_images()])
    kept = choose_kept(importance, heads=HEADS - 1, units=UNITS - 1)
    assert kept[0].heads.tolist() == [0, 2, 3]
    assert 5 not in kept[0].units.tolist()


def test_equal_ones_fall_the_same_way() -> None:
    same = [Importance(heads=torch.ones(4), units=torch.ones(16))]
    (kept,) = choose_kept(same, heads=2, units=8)
    assert kept.heads.tolist() == [0, 1]
    assert kept.units.tolist() == list(range(8))


@pytest.mark.parametrize(("share", "units"), [(1.0, 768), (0.5, 384), (0.33, 256), (0.001, 8)])
def test_hidden_units_come_in_eights(share: float, units: int) -> None:
    assert hidden_units(192, share) == units


def test_two_numbers_describe_a_slim_network() -> None:
    model = ModelSettings(heads=2, mlp_share=0.5)
    with torch.device("meta"):
        slim, whole = (build_backbone(m, INPUT).net for m in (model, ModelSettings()))
    assert {block.attn.num_heads for block in slim.blocks} == {2}
    assert {block.attn.scale for block in slim.blocks} == {64**-0.5}
    assert {block.mlp.fc1.out_features for block in slim.blocks} == {384}
    gone = sum(p.numel() for p in whole.parameters()) - sum(p.numel() for p in slim.parameters())
    # A head is 64 rows of three matrices with their biases, and 64 columns of one.
    assert gone == 12 * (64 * (4 * 192 + 3) + 384 * (2 * 192 + 1))


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (ModelSettings(heads=4), "model.heads: 4 are asked for, and vit_tiny has 3"),
        (ModelSettings(arch="resnet18", mlp_share=0.5), "only vit_tiny, vit_small, vit_base"),
    ],
)
def test_what_cannot_be_slimmed_is_told(model: ModelSettings, words: str) -> None:
    with pytest.raises(ExperimentError, match=words):
        check_model(model, (64, 64))
