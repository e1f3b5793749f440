"""Views for Siamese learning: what may change, what may not, and whose draw is whose."""

from __future__ import annotations

import colorsys

import msgspec
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lineside_trainer.data.views import Views, draw_views, make_view

SAME = Views(
    crop_area=(1.0, 1.0),
    crop_aspect=(1.0, 1.0),
    flip_horizontal=0.0,
    jitter=0.0,
    grayscale=0.0,
    blur=0.0,
)
# fp32 of values up to 255, three products deep: 4e-5 measured.
CLOSE = 1e-3


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pictures(count: int, channels: int = 1, height: int = 12, width: int = 9) -> torch.Tensor:
    shape = (count, height, width, channels)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=seeded(9))


def view(images: torch.Tensor, asked: Views, seed: int = 0) -> torch.Tensor:
    return make_view(images, asked, draw_views(len(images), seeded(seed))[0])


def but(**changes: object) -> Views:
    return msgspec.structs.replace(SAME, **changes)


@settings(max_examples=40)
@given(
    count=st.integers(1, 6),
    channels=st.sampled_from([1, 3]),
    height=st.integers(1, 12),
    width=st.integers(1, 12),
    seed=st.integers(0, 99),
)
def test_a_view_is_an_image_of_the_same_shape(
    count: int, channels: int, height: int, width: int, seed: int
) -> None:
    images = pictures(count, channels, height, width)
    before = images.clone()
    out = view(images, Views(), seed)
    assert (out.shape, out.dtype) == (images.shape, torch.float32)
    assert float(out.min()) >= 0 and float(out.max()) <= 255
    assert torch.equal(images, before), "the store's pixels were changed"
    assert torch.equal(out, view(images, Views(), seed))


@pytest.mark.parametrize("channels", [1, 3])
def test_nothing_asked_for_is_nothing_changed(channels: int) -> None:
    images = pictures(5, channels)
    assert torch.allclose(view(images, SAME), images.float(), atol=CLOSE)


@settings(max_examples=30)
@given(data=st.data(), channels=st.sampled_from([1, 3]), seed=st.integers(0, 99))
def test_each_view_depends_on_its_own_image_and_draw_alone(
    data: st.DataObject, channels: int, seed: int
) -> None:
    """So that several processes may each take their slice of a batch."""
    images = pictures(6, channels)
    draws = draw_views(6, seeded(seed))[1]
    whole = make_view(images, Views(), draws)
    low = data.draw(st.integers(0, 4))
    high = data.draw(st.integers(low + 1, 6))
    part = make_view(images[low:high], Views(), draws[:, low:high])
    # A batched product may sum in another order.
    assert torch.allclose(part, whole[low:high], atol=CLOSE)


@pytest.mark.parametrize("channels", [1, 3])
def test_two_views_of_an_image_and_two_images_draws_differ(channels: int) -> None:
    images = pictures(1, channels).expand(32, -1, -1, -1)
    draws = draw_views(32, seeded())
    one, other = (make_view(images, Views(), drawn) for drawn in draws)
    assert len(torch.cat([one, other]).unique(dim=0)) == 64


def test_a_gray_image_meets_no_colour_operation() -> None:
    """Bit for bit the same, whatever is asked of colours."""
    images = pictures(16, 1)
    none = Views(saturation=0.0, hue=0.0, grayscale=0.0)
    strong = Views(saturation=1.0, hue=0.5, grayscale=1.0)
    assert torch.equal(view(images, none), view(images, strong))


def test_gray_in_three_channels_stays_gray() -> None:
    images = pictures(16, 1).expand(-1, -1, -1, 3)
    out = view(images, Views(saturation=1.0, hue=0.5))
    # The axes of colour of NTSC are given to four digits.
    assert torch.allclose(out, out[..., :1].expand_as(out), atol=0.05)


def test_flips_mirror_about_half_of_the_views() -> None:
    images = pictures(1).expand(1000, -1, -1, -1)
    for asked, axis in ((but(flip_horizontal=0.5), 2), (but(flip_vertical=0.5), 1)):
        out = view(images, asked)
        same = torch.isclose(out, images.float(), atol=CLOSE).all(dim=(1, 2, 3))
        mirrored = torch.isclose(out, images.flip(axis).float(), atol=CLOSE).all(dim=(1, 2, 3))
        assert bool((same ^ mirrored).all())
        assert abs(int(mirrored.sum()) - 500) < 80  # binomial, deviation 16; five of them


def test_a_crop_keeps_its_share_of_the_area() -> None:
    """Ramps along both axes, enlarged: their slopes tell the window, its ends lie inside."""
    side = 32
    ramp = torch.arange(side, dtype=torch.float32) * 8
    down = view(ramp[None, :, None, None].expand(800, -1, side, -1), but(crop_area=(0.8, 1.0)))
    across = view(ramp[None, None, :, None].expand(800, side, -1, -1), but(crop_area=(0.8, 1.0)))
    middle = slice(side // 4, 3 * side // 4)  # away from the border, where nothing is clamped
    slope_y = down[:, middle, 0, 0].diff(dim=1).mean(dim=1) / 8
    slope_x = across[:, 0, middle, 0].diff(dim=1).mean(dim=1) / 8
    area = slope_x * slope_y
    assert 0.8 - 1e-3 < float(area.min()) < 0.81
    assert 0.99 < float(area.max()) <= 1.0 + 1e-3
    assert float(across.min()) >= 0 and float(across.max()) <= ramp[-1]
    # All places come up: what the first column shows lies anywhere in the margin.
    assert float(across[:, 0, 0, 0].min()) < 4 < float(across[:, 0, 0, 0].max())


def test_a_stretched_crop_stays_inside_the_image() -> None:
    images = torch.full((200, 8, 8, 1), 77.0)
    out = view(images, but(crop_area=(0.1, 1.0), crop_aspect=(0.25, 4.0)))
    assert torch.allclose(out, images, atol=CLOSE), "black from outside came in"


def test_brightness_is_a_factor_and_contrast_keeps_the_mean() -> None:
    images = (pictures(300).float() / 255 * 100) + 40  # so that nothing is clipped
    before = images.mean(dim=(1, 2, 3))
    bright = view(images, but(jitter=1.0, brightness=0.4, contrast=0.0))
    factor = bright.mean(dim=(1, 2, 3)) / before
    assert 0.6 <= float(factor.min()) < 0.65 and 1.35 < float(factor.max()) <= 1.4 + 1e-5
    assert torch.allclose(bright, images * factor[:, None, None, None], atol=0.01)
    contrast = view(images, but(jitter=1.0, brightness=0.0, contrast=0.4))
    assert torch.allclose(contrast.mean(dim=(1, 2, 3)), before, atol=0.01)
    spread = contrast.std(dim=(1, 2, 3)) / images.std(dim=(1, 2, 3))
    assert 0.6 <= float(spread.min()) < 0.65 and 1.35 < float(spread.max()) <= 1.4 + 1e-4


def test_grayscale_leaves_luma_alone() -> None:
    images = pictures(8, 3)
    out = view(images, but(grayscale=1.0))
    luma = images.float() @ torch.tensor([0.299, 0.587, 0.114])
    assert torch.allclose(out, luma[..., None].expand_as(out), atol=0.1)


def test_a_full_sweep_of_hue_goes_around_the_circle_of_colours() -> None:
    images = torch.tensor([150.0, 120.0, 100.0]).expand(400, 1, 1, 3)
    out = view(images, but(jitter=1.0, brightness=0.0, contrast=0.0, saturation=0.0, hue=0.5))
    hues = torch.tensor([colorsys.rgb_to_hsv(*(p / 255).tolist())[0] for p in out[:, 0, 0]])
    assert bool((torch.histc(hues, bins=8, min=0.0, max=1.0) > 10).all())
    luma = out[:, 0, 0] @ torch.tensor([0.299, 0.587, 0.114])
    assert torch.allclose(luma, luma[:1].expand_as(luma), atol=0.1)
    little = view(images, but(jitter=1.0, brightness=0.0, contrast=0.0, saturation=0.0, hue=0.05))
    assert float((little - images).abs().max()) < 20 < float((out - images).abs().max())


def test_blur_is_a_gaussian_of_that_width() -> None:
    side, share = 32, 2.0 / 32
    images = torch.zeros(2, side, side, 1)
    images[:, side // 2, side // 2] = 255.0
    out = view(images, but(blur=1.0, blur_sigma=(share, share)))[0, :, :, 0].double() / 255
    place = torch.arange(side).double() - side // 2
    assert abs(float(out.sum()) - 1) < 1e-5
    # Of a Gaussian sampled at whole pixels, 2 px wide, the variance is that of the integral.
    assert abs(float((out.sum(0) * place**2).sum()) - 4) < 1e-3
    assert abs(float((out.sum(1) * place**2).sum()) - 4) < 1e-3


def test_a_share_of_views_is_blurred() -> None:
    images = pictures(1).expand(1000, -1, -1, -1)
    out = view(images, but(blur=0.3, blur_sigma=(0.1, 0.2)))
    sharp = torch.isclose(out, images.float(), atol=CLOSE).all(dim=(1, 2, 3))
    assert abs(int(sharp.sum()) - 700) < 73  # binomial, deviation 14.5; five of them


def test_half_precision_around_it_changes_no_pixel() -> None:
    images = pictures(8, 3)
    exact = view(images, Views())
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(view(images, Views()), exact)


@pytest.mark.parametrize(
    "wrong",
    [
        {"crop_area": [0.0, 1.0]},
        {"crop_area": [0.9, 0.8]},
        {"crop_aspect": [2.0, 1.0]},
        {"blur_sigma": [0.0, 0.1]},
        {"blur": 1.5},
        {"hue": 0.6},
        {"brightness": -0.1},
        {"solarize": 0.5},
    ],
)
def test_impossible_settings_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(wrong, Views)
