"""Grad-CAM and HiResCAM: what they must be where that is known, and on all families of networks."""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from lineside.contract import ClassificationHead, InputSpec, RegressionHead
from lineside_trainer.data import NO_AUGMENTATION, Augmentation
from lineside_trainer.errors import ExperimentError
from lineside_trainer.evaluate.gradcam import (
    Score,
    explained_score,
    grad_cam,
    hires_cam,
    learnt_mirrors,
    spread_places,
)
from lineside_trainer.evaluate.overlay import overlay
from lineside_trainer.experiment import ModelSettings
from lineside_trainer.models import Backbone, Normalise, build_backbone
from lineside_trainer.models.headed import Headed

CHANNELS = 3


class Cells(Backbone):
    """One convolution over patches of 4 px, averaged: the map of a linear head is known."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Conv2d(1, CHANNELS, kernel_size=4, stride=4)
        self.width = CHANNELS

    def feature_map(self, images_nchw: Tensor) -> Tensor:
        cells: Tensor = self.net(images_nchw)
        return cells

    def feature(self, images_nchw: Tensor) -> Tensor:
        return self.feature_map(images_nchw).mean(dim=(2, 3))

    def layers(self) -> list[list[nn.Parameter]]:
        return [list(self.net.parameters())]

    @property
    def watched(self) -> nn.Module:
        return self.net

    @property
    def early(self) -> nn.Module:
        return self.net

    def as_map(self, activation: Tensor) -> Tensor:
        return activation


def first(raw: Tensor) -> Tensor:
    return raw[:, 0]


def noise(count: int, size_px: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    shape = (count, size_px, size_px, 1)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)


def linear(seed: int, outputs: int = 1) -> Headed:
    torch.manual_seed(seed)
    return Headed(Normalise((128.0,), (60.0,)), Cells(), outputs=outputs, head_width=0)


def weighted_sum(network: Headed, images_nhwc: Tensor) -> Tensor:
    """CAM of a linear head on averaged cells (Zhou et al. 2016, eq. 2), before the ReLU."""
    assert isinstance(network.head, nn.Linear)
    with torch.no_grad():
        cells = network.backbone.feature_map(network.normalise(images_nhwc))
        return torch.einsum("c,nchw->nhw", network.head.weight[0], cells)


Maps = Callable[..., Tensor]
both_ways = pytest.mark.parametrize("make_maps", [grad_cam, hires_cam])


@both_ways
@settings(max_examples=25)
@given(seed=st.integers(0, 2**31 - 1), count=st.integers(1, 5))
def test_of_a_linear_head_it_is_the_class_activation_map(
    make_maps: Maps, seed: int, count: int
) -> None:
    """Selvaraju et al., sec. 3.1: Grad-CAM generalises CAM, up to a factor for the whole map.

    The gradient of a linear head on a mean is the same at every place, so HiResCAM does too.
    """
    network, images = linear(seed), noise(count, 12, seed)
    maps = make_maps(network, first, images)
    cam = torch.relu(weighted_sum(network, images))[:, None]
    grown = nn.functional.interpolate(cam, size=(12, 12), mode="bilinear", align_corners=False)
    highest = grown.amax(dim=(2, 3), keepdim=True)
    expected = torch.where(highest > 0, grown / highest, 0.0)[:, 0]
    torch.testing.assert_close(maps, expected, rtol=1e-4, atol=1e-5)


@both_ways
@settings(max_examples=25)
@given(seed=st.integers(0, 2**31 - 1))
def test_the_other_direction_shows_the_other_places(make_maps: Maps, seed: int) -> None:
    """No place speaks for a score and for its opposite, and together they leave none out."""
    network, images = linear(seed), noise(2, 4 * 3, seed)
    worse = make_maps(network, first, images)
    better = make_maps(network, lambda raw: -raw[:, 0], images)
    centres = (slice(None), slice(1, None, 4), slice(1, None, 4))
    signs = weighted_sum(network, images).sign()
    assert not ((signs > 0) & (worse[centres] == 0)).any()
    assert not ((signs < 0) & (better[centres] == 0)).any()


@both_ways
@settings(max_examples=25)
@given(seed=st.integers(0, 2**31 - 1), shift=st.floats(-50.0, 50.0))
def test_what_all_images_share_is_not_on_a_map_with_a_reference(
    make_maps: Maps, seed: int, shift: float
) -> None:
    """A constant in every channel, as a head's bias takes back, moves the plain map alone."""
    network, images, training = linear(seed), noise(2, 12, seed), noise(5, 12, seed + 1)
    before = make_maps(network, first, images, reference_nhwc=training)
    with torch.no_grad():
        network.backbone.net.bias.add_(shift)
    after = make_maps(network, first, images, reference_nhwc=training)
    torch.testing.assert_close(after, before, rtol=1e-3, atol=1e-3)  # float32 less float32 near 50


@both_ways
def test_a_reference_has_nothing_to_show_beside_itself(make_maps: Maps) -> None:
    image = noise(1, 12)
    assert not make_maps(linear(0), first, image, reference_nhwc=image).any()


MIRRORS = learnt_mirrors(Augmentation())


@both_ways
@pytest.mark.parametrize("axes", MIRRORS)
def test_the_map_of_a_mirrored_image_is_the_mirrored_map(
    make_maps: Maps, axes: tuple[int, ...]
) -> None:
    torch.manual_seed(2)
    backbone = build_backbone(ModelSettings(patch_px=4), InputSpec(size_hw=(16, 16), channels=1))
    network = Headed(Normalise((128.0,), (60.0,)), backbone, outputs=1, head_width=None)
    images, training = noise(3, 16), noise(9, 16, 1)
    every_way = torch.cat([training.flip(other) for other in MIRRORS])
    asked = {"reference_nhwc": every_way, "mirrors": MIRRORS}
    maps = make_maps(network, first, images, **asked)  # type: ignore[arg-type]
    turned = make_maps(network, first, images.flip(axes), **asked)  # type: ignore[arg-type]
    assert maps.any()
    # Sums of float32 in another order, over the map's own maximum.
    torch.testing.assert_close(turned, maps.flip(axes), rtol=1e-3, atol=1e-3)


def test_only_mirrors_that_training_showed_are_used() -> None:
    assert learnt_mirrors(NO_AUGMENTATION) == ((),)
    upright = Augmentation(flip_horizontal=False)
    assert learnt_mirrors(upright) == ((), (1,))
    assert sorted(MIRRORS) == [(), (1,), (1, 2), (2,)]


@given(count=st.integers(1, 3000), most=st.integers(1, 300))
def test_places_are_spread_evenly_and_stand_there_once(count: int, most: int) -> None:
    places = spread_places(count, most)
    assert len(places) == min(count, most)
    assert places == sorted(set(places))
    assert places[0] >= 0 and places[-1] < count
    gaps = np.diff(places)
    assert len(gaps) == 0 or gaps.max() - gaps.min() <= 1


@both_ways
def test_nothing_that_raises_the_score_is_an_empty_map(make_maps: Maps) -> None:
    network = linear(0)
    with torch.no_grad():
        network.backbone.net.weight.zero_()
        network.backbone.net.bias.fill_(1.0)
        network.head.weight.fill_(-1.0)
    maps = make_maps(network, first, noise(3, 8))
    assert maps.shape == (3, 8, 8)
    assert not maps.any()


# patch_px and pool are a ViT's; the least sizes at which each family still gives a map.
NETWORKS = [
    ("vit_tiny", "mean", 16),
    ("vit_tiny", "cls", 16),
    ("sam_cnn", "mean", 32),
    ("resnet18", "mean", 64),
    ("swin_tiny", "mean", 64),
]


@both_ways
@pytest.mark.parametrize(("arch", "pool", "size_px"), NETWORKS)
def test_each_family_gives_maps_that_tell_places_apart(
    make_maps: Maps, arch: str, pool: str, size_px: int
) -> None:
    torch.manual_seed(1)
    spec = InputSpec(size_hw=(size_px, size_px), channels=1)
    backbone = build_backbone(ModelSettings(arch=arch, patch_px=4), spec, pool=pool)  # type: ignore[arg-type]
    network = Headed(Normalise((128.0,), (60.0,)), backbone, outputs=2, head_width=None)
    network.requires_grad_(False)  # as a finished run is read back
    before = copy.deepcopy(network.state_dict())
    images = noise(3, size_px)

    # One direction of an untrained network may have nothing for it anywhere.
    up, down = (make_maps(network, score, images) for score in (first, lambda raw: -raw[:, 0]))

    for maps in (up, down):
        assert maps.shape == (3, size_px, size_px)
        assert maps.dtype == torch.float32
        assert maps.min() >= 0.0
        assert all(highest in (0.0, 1.0) for highest in maps.amax(dim=(1, 2)).tolist())
    assert all(((up - down)[row].std() > 0.01) for row in range(3))
    assert not any(module._forward_hooks for module in network.modules())
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


@both_ways
def test_a_map_does_not_depend_on_its_company(make_maps: Maps) -> None:
    torch.manual_seed(0)
    spec = InputSpec(size_hw=(16, 16), channels=1)
    backbone = build_backbone(ModelSettings(patch_px=4), spec)
    network = Headed(Normalise((128.0,), (60.0,)), backbone, outputs=1, head_width=None)
    images = noise(70, 16)  # more than are computed at once
    together = make_maps(network, first, images)
    for row in (0, 63, 64, 69):
        alone = make_maps(network, first, images[row : row + 1])
        # Sums of float32 in another order; maps are over their own maximum, so this is relative.
        torch.testing.assert_close(together[row : row + 1], alone, rtol=1e-3, atol=1e-4)


REGRESSION = RegressionHead(target="damage")
CLASSES = ClassificationHead(target="kind", classes=("good", "void", "crack"), good=("good",))
RAW = torch.tensor([[0.5, 2.0, 1.0], [3.0, -1.0, 0.0]])


@pytest.mark.parametrize(
    ("head", "worse", "chosen", "expected"),
    [
        (REGRESSION, "higher", None, [0.5, 3.0]),
        (REGRESSION, "lower", None, [-0.5, -3.0]),
        (CLASSES, "higher", None, [2.0, 3.0]),
        (CLASSES, "lower", None, [2.0, 3.0]),
        (CLASSES, "higher", "crack", [1.0, 0.0]),
    ],
)
def test_what_is_explained(
    head: RegressionHead | ClassificationHead, worse: str, chosen: str | None, expected: list[float]
) -> None:
    score: Score = explained_score(head, worse=worse, chosen=chosen)  # type: ignore[arg-type]
    assert score(RAW).tolist() == expected


@pytest.mark.parametrize(
    ("head", "words"), [(REGRESSION, "learnt a number"), (CLASSES, "good, void, crack")]
)
def test_a_class_that_the_run_does_not_know(
    head: RegressionHead | ClassificationHead, words: str
) -> None:
    with pytest.raises(ExperimentError, match=f"--class: 'dent' is no class.*{words}"):
        explained_score(head, worse="higher", chosen="dent")


@settings(max_examples=25)
@given(seed=st.integers(0, 2**31 - 1), channels=st.sampled_from([1, 3]))
def test_an_overlay_leaves_what_the_map_leaves(seed: int, channels: int) -> None:
    generator = np.random.default_rng(seed)
    image = generator.integers(0, 256, (6, 5, channels), dtype=np.uint8)
    heat = (generator.random((6, 5)) * generator.integers(0, 2, (6, 5))).astype(np.float32)
    both = overlay(image, heat)
    assert both.shape == (6, 5, 3)
    untouched = heat == 0
    assert (both[untouched] == np.broadcast_to(image, both.shape)[untouched]).all()
    assert (overlay(np.zeros_like(image), np.ones((6, 5), np.float32)) > 0).any()
