"""Masked image modelling: what is hidden, that only it counts, and that nothing of it is seen."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lineside.contract import InputSpec
from lineside_trainer.errors import ExperimentError, MaskError
from lineside_trainer.experiment import Experiment
from lineside_trainer.experiment_file import (
    convert_experiment,
)
from lineside_trainer.models import Normalise
from lineside_trainer.pretrain import build_method, check_method
from lineside_trainer.pretrain.masks import draw_hidden
from lineside_trainer.pretrain.simmim import (
    choose_mask_patch_px,
    enlarge,
    hidden_count,
    masked_l1,
    stride_px,
    token_px,
)
from lineside_trainer.pretrain.simmim_learner import SimMimLearner

NOTHING = torch.full((64,), math.nan)


def told(arch: str = "vit_tiny", size: tuple[int, int] = (16, 24), **simmim: object) -> Experiment:
    table = {
        "data": {"image_size_hw": list(size)},
        "model": {"arch": arch, "patch_px": 4},
        "pretrain": {"method": "simmim", "simmim": simmim},
    }
    return convert_experiment(table, source="test")  # type: ignore[arg-type]


def make_learner(experiment: Experiment, channels: int = 1) -> SimMimLearner:
    torch.manual_seed(0)
    model_input = InputSpec(
        size_hw=experiment.data.image_size_hw, channels=3 if channels == 3 else 1
    )
    normalise = Normalise((127.5,) * channels, (90.0,) * channels)
    learner = build_method(experiment, model_input, normalise)
    assert isinstance(learner, SimMimLearner)
    return learner


@pytest.fixture(scope="module")
def vit() -> SimMimLearner:
    return make_learner(told()).eval()


@pytest.fixture(scope="module")
def swin() -> SimMimLearner:
    return make_learner(told("swin_tiny", (32, 64)), channels=3).eval()


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pictures(learner: SimMimLearner, count: int, seed: int = 1) -> Tensor:
    rows, cols = learner._rows_cols
    shape = (count, rows * learner.mask_patch_px, cols * learner.mask_patch_px)
    channels = len(learner.normalise.mean)
    return torch.randint(0, 256, (*shape, channels), dtype=torch.uint8, generator=seeded(seed))


@given(
    images=st.integers(1, 5),
    patches=st.integers(2, 80),
    ratio=st.floats(0.01, 0.99),
    seed=st.integers(0, 9),
)
def test_every_image_hides_exactly_the_ratio_rounded_up(
    images: int, patches: int, ratio: float, seed: int
) -> None:
    expected = math.ceil(round(patches * ratio, 9))
    if expected >= patches:
        with pytest.raises(ExperimentError, match=r"pretrain\.simmim\.mask_ratio"):
            hidden_count(patches, ratio)
        return
    mask = draw_hidden(images, patches, hidden_count(patches, ratio), seeded(seed))
    assert mask.shape == (images, patches) and mask.dtype == torch.bool
    assert mask.sum(dim=1).tolist() == [expected] * images


def test_the_originals_mask_hides_22_of_36() -> None:
    """Xie et al. 2022, sec. 4.1: 192 px, mask patches of 32 px, ratio 0.6."""
    assert choose_mask_patch_px((192, 192), unit_px=4, asked_px=0) == 32
    assert hidden_count(36, 0.6) == 22
    assert hidden_count(100, 0.55) == 55  # 55.000…01 in binary


@given(rows=st.integers(1, 24), cols=st.integers(1, 24), unit=st.sampled_from([1, 2, 4, 8, 16]))
def test_a_mask_patch_is_whole_patches_and_divides_the_image(
    rows: int, cols: int, unit: int
) -> None:
    size_hw = (rows * unit, cols * unit)
    chosen = choose_mask_patch_px(size_hw, unit, 0)
    assert chosen % unit == 0 and size_hw[0] % chosen == 0 and size_hw[1] % chosen == 0
    wanted = min(size_hw) / 6

    def away(px: int) -> float:
        return abs(math.log(px / wanted))

    others = [
        px for px in range(unit, math.gcd(*size_hw) + 1, unit) if math.gcd(*size_hw) % px == 0
    ]
    assert all(away(chosen) <= away(px) for px in others)
    assert choose_mask_patch_px(size_hw, unit, chosen) == chosen


@pytest.mark.parametrize(
    ("size", "unit", "chosen"), [(64, 4, 8), (64, 8, 8), (64, 16, 16), (224, 4, 32), (32, 4, 4)]
)
def test_small_images_get_small_mask_patches(size: int, unit: int, chosen: int) -> None:
    assert choose_mask_patch_px((size, size), unit, 0) == chosen


@pytest.mark.parametrize("asked", [3, 5, 12, 64])
def test_a_mask_patch_that_does_not_fit_is_refused_with_those_that_do(asked: int) -> None:
    with pytest.raises(ExperimentError, match=r"mask_patch_px: .* there are 4, 8, 16, 32, and 0"):
        choose_mask_patch_px((32, 64), 4, asked)


@given(seed=st.integers(0, 99), channels=st.sampled_from([1, 3]))
def test_the_loss_is_the_mean_over_hidden_pixels_only(seed: int, channels: int) -> None:
    generator = seeded(seed)
    target, prediction, noise = torch.randn(3, 2, channels, 8, 8, generator=generator)
    hidden = enlarge(draw_hidden(2, 16, 9, generator).reshape(2, 4, 4), 2)
    loss = masked_l1(target, prediction, hidden)
    seen = ~hidden[:, None]
    assert masked_l1(target, prediction + 100 * noise * seen, hidden) == loss
    assert masked_l1(target + 100 * noise * seen, prediction, hidden) == loss
    # Xie et al.'s code: the sum over hidden pixels, over their number, over the channels.
    errors = (prediction - target).abs() * hidden[:, None]
    expected = errors.sum() / hidden.sum() / channels
    assert torch.allclose(loss, expected, rtol=1e-5)


def test_a_loss_over_nothing_is_an_error() -> None:
    images = torch.zeros(2, 1, 4, 4)
    with pytest.raises(MaskError, match="nothing"):
        masked_l1(images, images, torch.zeros(2, 4, 4, dtype=torch.bool))


@pytest.mark.parametrize("name", ["vit", "swin"])
def test_the_network_sees_nothing_of_hidden_pixels(
    name: str, request: pytest.FixtureRequest
) -> None:
    """Whatever stands in hidden places, every prediction is the same; what is seen counts."""
    learner: SimMimLearner = request.getfixturevalue(name)
    images = pictures(learner, 2)
    hidden = learner._mask(learner.normalise(images), seeded())
    pixels = learner._pixels_of(hidden)[..., None]
    other = torch.where(pixels, pictures(learner, 2, seed=5), images)
    with torch.no_grad():
        before = learner._predict(learner.normalise(images), hidden)
        after = learner._predict(learner.normalise(other), hidden)
        changed = learner._predict(
            learner.normalise(torch.where(pixels, images, other + 9)), hidden
        )
    assert before.shape == learner.normalise(images).shape
    assert torch.equal(before, after)
    assert not torch.allclose(before, changed)
    assert not learner.backbone.net.get_submodule("patch_embed")._forward_hooks


@pytest.mark.parametrize("name", ["vit", "swin"])
def test_gradients_reach_every_parameter_but_only_through_hidden_pixels(
    name: str, request: pytest.FixtureRequest
) -> None:
    learner: SimMimLearner = request.getfixturevalue(name)
    learner.zero_grad()
    learner.loss(pictures(learner, 2), NOTHING[:2], seeded()).backward()
    named = dict(learner.named_parameters())
    assert [n for n, p in named.items() if p.grad is None] == []
    assert float(learner.net.mask_token.grad.abs().sum()) > 0  # type: ignore[union-attr]
    known = [id(p) for layer in learner.layers() for p in layer]
    assert sorted(known) == sorted(id(p) for p in learner.parameters())


def test_a_place_of_the_map_predicts_the_pixels_under_it(swin: SimMimLearner) -> None:
    """One place of the 1 x 2 map moved by hand moves its own 32 x 32 pixels, in all channels."""
    assert (token_px(swin.backbone), stride_px(swin.backbone)) == (4, 32)
    features = torch.randn(1, swin.backbone.width, 1, 2, generator=seeded())
    moved = features.clone()
    moved[:, :, 0, 1] += 1
    with torch.no_grad():
        one, other = (swin.net.spread(swin.net.to_pixels(f)) for f in (features, moved))
    assert one.shape == (1, 3, 32, 64)
    changed = (one != other)[0]
    assert not bool(changed[:, :, :32].any()) and float(changed[:, :, 32:].float().mean()) > 0.99


@pytest.mark.parametrize("name", ["vit", "swin"])
def test_the_judgement_of_an_image_is_its_own_loss(
    name: str, request: pytest.FixtureRequest
) -> None:
    learner: SimMimLearner = request.getfixturevalue(name)
    images = pictures(learner, 3)
    with torch.no_grad():
        judged = learner.judge(images, NOTHING[:3], seeded())
        # Equally many pixels are hidden in each image.
        assert torch.allclose(judged.mean(), learner.loss(images, NOTHING[:3], seeded()), rtol=1e-5)
    assert judged.shape == (3,)


def test_examples_show_original_masked_and_completed(swin: SimMimLearner) -> None:
    images = pictures(swin, 2)
    with torch.no_grad():
        rows = swin.examples(images, seeded())
    assert list(rows) == ["original", "masked", "reconstructed"]
    # Normalised and back in fp32: 255 * 2**-23 and some.
    assert torch.allclose(rows["original"], images.float(), atol=1e-3)
    hidden = (rows["masked"] - 127.5).abs().amax(dim=3) < 1e-3
    share = swin._hidden / math.prod(swin._rows_cols)
    assert abs(float(hidden.float().mean()) - share) < 1e-6
    assert torch.allclose(rows["reconstructed"][~hidden], images.float()[~hidden], atol=1e-3)
    assert not torch.allclose(rows["reconstructed"][hidden], images.float()[hidden], atol=1.0)


@settings(max_examples=5)
@given(seed=st.integers(0, 99))
def test_draws_are_the_generators_alone(vit: SimMimLearner, seed: int) -> None:
    images = pictures(vit, 2)
    with torch.no_grad():
        first = vit.loss(images, NOTHING[:2], seeded(seed))
        torch.manual_seed(seed + 1)
        assert torch.equal(vit.loss(images, NOTHING[:2], seeded(seed)), first)


def test_it_learns_to_complete_stripes() -> None:
    """Stripes of random phase, as wide as a patch: each visible patch tells the hidden ones."""
    learner = make_learner(told(size=(16, 16), mask_patch_px=4))
    generator = seeded()
    optimiser = torch.optim.AdamW(learner.parameters(), lr=3e-4)

    def draw(count: int) -> Tensor:
        phase = torch.rand(count, 1, 1, 1, generator=generator) * 2 * math.pi
        column = torch.arange(16.0)[None, None, :, None]
        wave = 127.5 + 127.4 * torch.sin(column * 2 * math.pi / 4 + phase)
        return wave.expand(count, 16, 16, 1).to(torch.uint8)

    losses = []
    for _ in range(40):
        loss = learner.loss(draw(16), NOTHING[:16], generator)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    # The mean gray gets 0.9, the mean of |sin| times the contrast; 0.09 was measured.
    assert sum(losses[-5:]) / 5 < 0.25 < 0.7 < losses[0]


@pytest.mark.parametrize("arch", ["resnet18", "sam_cnn", "vgg11"])
def test_a_network_without_patches_is_refused_before_images_are_read(arch: str) -> None:
    with pytest.raises(ExperimentError, match=rf"model\.arch: '{arch}' has no patches to hide"):
        check_method(told(arch, (64, 64)))


def test_a_mask_that_hides_everything_is_refused_before_images_are_read() -> None:
    with pytest.raises(ExperimentError, match=r"0\.99 hides 24 of 24 .* smaller .*mask_patch_px"):
        check_method(told(mask_ratio=0.99, mask_patch_px=4))
    with pytest.raises(ExperimentError, match="hides 1 of 1"):
        check_method(told(size=(16, 16), mask_patch_px=16))


def test_a_swin_on_an_image_that_its_map_does_not_divide_is_refused() -> None:
    with pytest.raises(ExperimentError, match=r"48x64 px.*multiples of 32"):
        check_method(told("swin_tiny", (48, 64)))


def test_the_papers_swin_has_a_window_of_12_and_1024_features() -> None:
    """Intxausti et al., sec. 4.4; on the original's 192 px a prediction of 32 x 32 pixels."""
    experiment = told("swin_base", (192, 192))
    with torch.device("meta"):
        learner = make_learner(experiment)
    assert learner.backbone.width == 1024
    assert learner.mask_patch_px == 32
    assert tuple(learner.net.to_pixels.weight.shape) == (32 * 32, 1024, 1, 1)
