"""Networks besides ViTs: the paper's counts, their shapes, their layers, and images too small."""

from __future__ import annotations

import pytest
import timm
import torch

from lineside.contract import InputSpec
from lineside_trainer.errors import ExperimentError
from lineside_trainer.experiment import ModelSettings
from lineside_trainer.models import Backbone, Headed, Normalise, build_backbone, check_model

# Röhrich et al., table 4; Swin-B has 86.7 M without a head at 64 px (Liu et al. 2021: 88 M with
# 1,000 classes, of which its head is 1.03 M and larger windows the rest).
COUNTS = {
    "sam_cnn": 4.2e6,
    "xray_cnn": 8.7e6,
    "resnet50": 23.5e6,
    "efficientnet_b7": 63.8e6,
    "vgg11": 128.8e6,
    "swin_base": 86.7e6,
}
# One of each kind: plain, residual, mobile (features wider than the map), dense top, windows.
FAMILIES = ("sam_cnn", "resnet18", "mobilenetv3_small_100", "vgg11", "swin_tiny", "convnext_atto")


def lay_out(
    arch: str, *, size_hw: tuple[int, int] = (64, 64), channels: int = 1, drop_path: float = 0.0
) -> Backbone:
    """The network without memory: shapes and counts alone."""
    assert channels in (1, 3)
    spec = InputSpec(size_hw=size_hw, channels=1 if channels == 1 else 3)
    with torch.device("meta"):
        return build_backbone(ModelSettings(arch=arch), spec, drop_path=drop_path)


@pytest.mark.parametrize("arch", COUNTS)
def test_the_whole_network_has_the_papers_parameters(arch: str) -> None:
    with torch.device("meta"):
        network = Headed(Normalise((0.0,), (1.0,)), lay_out(arch), outputs=1, head_width=None)
    count = sum(parameter.numel() for parameter in network.parameters())
    assert count == pytest.approx(COUNTS[arch], rel=0.02)


def test_the_papers_swin_has_its_window_and_feature() -> None:
    backbone = lay_out("swin_base", size_hw=(384, 384))
    assert backbone.width == 1024
    attention = backbone.net.get_submodule("layers.0.blocks.0.attn")
    assert attention.window_size == (12, 12)


@pytest.mark.parametrize("arch", FAMILIES)
@pytest.mark.parametrize(("size_hw", "channels"), [((64, 64), 1), ((64, 96), 3)])
def test_features_and_maps_have_their_shapes(
    arch: str, size_hw: tuple[int, int], channels: int
) -> None:
    backbone = lay_out(arch, size_hw=size_hw, channels=channels).eval()
    images = torch.zeros(2, channels, *size_hw, device="meta")
    watched: list[torch.Tensor] = []
    backbone.watched.register_forward_hook(lambda _m, _i, output: watched.append(output))
    assert backbone.feature(images).shape == (2, backbone.width)
    found = backbone.feature_map(images).shape
    # Higher than wide stays higher than wide, also where channels come last inside.
    assert (found[0], found[2] * size_hw[1]) == (2, found[3] * size_hw[0])
    assert backbone.as_map(watched[0]).shape[2:] == found[2:]


@pytest.mark.parametrize("arch", FAMILIES)
def test_every_parameter_is_in_one_layer_and_the_first_sees_the_image(arch: str) -> None:
    backbone = lay_out(arch)
    layers = [{id(parameter) for parameter in layer} for layer in backbone.layers()]
    assert sum(map(len, layers)) == len(set().union(*layers))
    assert set().union(*layers) == {id(parameter) for parameter in backbone.parameters()}
    assert id(next(backbone.net.parameters())) in layers[0]
    # Stages, not single convolutions, or a decay of 0.75 would freeze a deep network's beginning.
    assert 5 <= len(layers) <= 9


def test_pooling_is_the_mean_over_the_map() -> None:
    torch.manual_seed(0)
    spec = InputSpec(size_hw=(32, 32), channels=1)
    backbone = build_backbone(ModelSettings(arch="test_resnet"), spec).eval()
    images = torch.randn(3, 1, 32, 32)
    means = backbone.feature_map(images).mean(dim=(2, 3))
    torch.testing.assert_close(backbone.feature(images), means)


@pytest.mark.parametrize(
    ("arch", "size_hw", "words"),
    [
        ("sam_cnn", (15, 64), "15x64 px (height x width) is too small for sam_cnn; it needs 16x16"),
        ("resnet18", (16, 64), "too small for resnet18; it needs 32x32"),
        ("vgg11", (16, 16), "too small for vgg11; it needs 32x32"),
        ("swin_tiny", (24, 24), "too small for swin_tiny; it needs 32x32"),
        ("swin_tiny", (66, 64), "66x64 px (height x width) does not suit swin_tiny"),
        ("vit_tiny_patch16_224", (64, 64), "gives no feature map"),
        ("resnett18", (64, 64), "'resnett18' is unknown"),
        # Such names would fetch files.
        ("hf-hub:timm/resnet18", (64, 64), "is unknown"),
    ],
)
def test_what_cannot_be_built_is_refused_before_images_are_read(
    arch: str, size_hw: tuple[int, int], words: str
) -> None:
    with pytest.raises(ExperimentError) as refused:
        check_model(ModelSettings(arch=arch), size_hw)
    assert words in str(refused.value)


def test_a_misspelt_network_is_told_its_neighbours() -> None:
    with pytest.raises(ExperimentError, match="nearest: resnet18"):
        check_model(ModelSettings(arch="resnett18"), (64, 64))


@pytest.mark.parametrize("arch", ["sam_cnn", "vgg11"])
def test_no_branch_can_be_left_out_where_there_is_none(arch: str) -> None:
    with pytest.raises(ExperimentError, match="no residual branches"):
        lay_out(arch, drop_path=0.1)


@pytest.mark.parametrize("arch", ["resnet18", "swin_tiny", "efficientnet_b0"])
def test_branches_are_left_out_where_there_are_some(arch: str) -> None:
    kinds = [type(module).__name__ for module in lay_out(arch, drop_path=0.2).modules()]
    assert "DropPath" in kinds
    assert "DropPath" not in [type(module).__name__ for module in lay_out(arch).modules()]


def test_a_tag_of_timm_names_the_same_network() -> None:
    assert timm.is_model("resnet18.a1_in1k")
    check_model(ModelSettings(arch="resnet18.a1_in1k"), (64, 64))
