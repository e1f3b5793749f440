"""Maps from the middle of a network: every family gives them, and the last is the one it had."""

from __future__ import annotations

import itertools

import pytest
import torch

from lineside.contract import InputSpec
from lineside_trainer.errors import ExperimentError
from lineside_trainer.experiment import ModelSettings
from lineside_trainer.models import Backbone, build_backbone

INPUT = InputSpec(size_hw=(64, 64), channels=3)
FAMILIES = (
    *("vit_tiny", "resnet18", "sam_cnn", "swin_tiny", "convnext_atto", "mobilenetv3_small_050"),
    *("vgg11_bn", "densenet121", "efficientnet_lite0"),
)


def make_backbone(arch: str) -> Backbone:
    torch.manual_seed(0)
    return build_backbone(ModelSettings(arch=arch, patch_px=8), INPUT).eval()


@pytest.mark.parametrize("arch", FAMILIES)
@torch.no_grad()
def test_every_stage_gives_a_map_and_the_last_is_the_networks(arch: str) -> None:
    backbone = make_backbone(arch)
    images = torch.randn(2, 3, 64, 64)
    maps = [backbone.map_after(images, stages) for stages in range(1, backbone.depth + 1)]
    assert backbone.depth > 1
    assert torch.equal(maps[-1], backbone.feature_map(images))
    for activation in maps:
        assert activation.ndim == 4
        assert len(activation) == 2
        assert activation.isfinite().all()
    heights = [activation.shape[2] for activation in maps]
    assert heights == sorted(heights, reverse=True)
    for earlier, later in itertools.pairwise(maps):
        assert earlier.shape != later.shape or not torch.equal(earlier, later)


@pytest.mark.parametrize("arch", ["vit_tiny", "resnet18", "sam_cnn", "swin_tiny"])
@torch.no_grad()
def test_an_early_map_lies_where_the_pixels_are(arch: str) -> None:
    """Changed pixels in one corner change the map most in that corner."""
    backbone = make_backbone(arch)
    images = torch.randn(1, 3, 64, 64)
    other = images.clone()
    other[:, :, :16, 48:] += 3.0
    change = (backbone.map_after(images, 2) - backbone.map_after(other, 2)).norm(dim=1)[0]
    row, column = divmod(int(change.argmax()), change.shape[1])
    assert row < change.shape[0] / 2 <= column


@torch.no_grad()
def test_it_is_what_the_named_stage_gives() -> None:
    """timm's own way into the middle against a hook on the layer that `early` names."""
    for arch in ("resnet18", "swin_tiny"):
        backbone = make_backbone(arch)
        images = torch.randn(2, 3, 64, 64)
        given: list[torch.Tensor] = []
        hook = backbone.early.register_forward_hook(lambda _m, _i, output: given.append(output))  # noqa: B023
        backbone.feature_map(images)
        hook.remove()
        assert torch.equal(backbone.map_after(images, 2), backbone.as_map(given[0]))


def test_a_network_without_a_way_into_its_middle_is_refused() -> None:
    backbone = make_backbone("resnet18")

    class Closed(torch.nn.Module):
        feature_info = backbone.net.feature_info

    backbone.net = Closed()
    with pytest.raises(ExperimentError, match=r"memory_layer.*give 1\.0"):
        backbone.map_after(torch.zeros(1, 3, 64, 64), 2)
