"""Whole batches at once, each image by its own draw, nothing invented at the borders."""

from __future__ import annotations

import msgspec
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lineside_trainer.data import NO_AUGMENTATION, Augmentation, augment_batch

FLIPS = Augmentation(crop="none")
FIXED = Augmentation(flip_horizontal=False, flip_vertical=False, crop="fixed", crop_px=3)
RESIZED = Augmentation(flip_horizontal=False, flip_vertical=False, crop="resized")


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pictures(count: int, channels: int = 1, height: int = 9, width: int = 7) -> torch.Tensor:
    shape = (count, channels, height, width)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=seeded(9))


def reflected_windows(image_chw: torch.Tensor, reach: int) -> list[torch.Tensor]:
    """All fixed crops of one image, made the plain way: pad by reflection, cut."""
    height, width = image_chw.shape[1:]
    padded = torch.nn.functional.pad(image_chw[None].float(), (reach,) * 4, mode="reflect")[0]
    span = 2 * reach + 1
    return [
        padded[:, y : y + height, x : x + width].to(torch.uint8)
        for y in range(span)
        for x in range(span)
    ]


def test_nothing_asked_for_is_nothing_done() -> None:
    images = pictures(5)
    assert augment_batch(images, NO_AUGMENTATION, seeded()) is images


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 9),
    st.sampled_from([1, 3]),
    st.integers(1, 12),
    st.integers(1, 12),
    st.sampled_from(["none", "fixed", "resized"]),
    st.integers(0, 5),
)
def test_shape_and_type_stay(
    count: int, channels: int, height: int, width: int, crop: str, crop_px: int
) -> None:
    images = pictures(count, channels, height, width)
    before = images.clone()
    asked = Augmentation(crop=crop, crop_px=crop_px)  # type: ignore[arg-type]
    out = augment_batch(images, asked, seeded())
    assert (out.shape, out.dtype) == (images.shape, torch.uint8)
    assert torch.equal(images, before), "the store's pixels were changed"
    again = augment_batch(images, asked, seeded())
    assert torch.equal(out, again)


def test_flips_give_the_four_mirror_images_about_equally_often() -> None:
    image = pictures(1, 3)
    out = augment_batch(image.expand(4000, -1, -1, -1), FLIPS, seeded())
    mirrors = [image[0], image[0].flip(2), image[0].flip(1), image[0].flip(1, 2)]
    counts = [int((out == mirror).all(dim=(1, 2, 3)).sum()) for mirror in mirrors]
    assert sum(counts) == 4000
    # Binomial(4000, 1/4): deviation 27; 5 of them.
    assert all(abs(count - 1000) < 137 for count in counts)


def test_one_flip_alone() -> None:
    image = pictures(1)
    only = Augmentation(flip_vertical=False, crop="none")
    out = augment_batch(image.expand(200, -1, -1, -1), only, seeded())
    same, mirrored = ((out == wanted).all(dim=(1, 2, 3)) for wanted in (image[0], image[0].flip(2)))
    assert bool((same | mirrored).all()) and bool(same.any()) and bool(mirrored.any())


def test_a_fixed_crop_is_a_window_of_the_reflected_image_and_all_come_up() -> None:
    image = pictures(1, 3)
    out = augment_batch(image.expand(2000, -1, -1, -1), FIXED, seeded())
    windows = reflected_windows(image[0], FIXED.crop_px)
    counts = [int((out == window).all(dim=(1, 2, 3)).sum()) for window in windows]
    assert sum(counts) == 2000
    # 49 places, 41 expected at each, deviation 6.3; 5 of them.
    assert min(counts) > 9 and max(counts) < 73


def test_each_image_has_its_own_draw() -> None:
    image = pictures(1)
    for asked in (FLIPS, FIXED, RESIZED):
        out = augment_batch(image.expand(64, -1, -1, -1), asked, seeded())
        assert len(out.unique(dim=0)) >= 4


def test_images_do_not_mix() -> None:
    values = torch.arange(40, dtype=torch.uint8)[:, None, None, None]
    images = values.expand(40, 1, 8, 8).contiguous()
    for asked in (Augmentation(), Augmentation(crop="resized")):
        assert torch.equal(augment_batch(images, asked, seeded()), images)


def test_a_resized_crop_of_a_ramp_stays_a_ramp_within_the_image() -> None:
    """Enlarging a linear ramp gives a flatter ramp whose ends lie inside the first one's."""
    ramp = torch.linspace(0, 248, 32).round().to(torch.uint8).expand(500, 1, 32, 32)
    out = augment_batch(ramp, RESIZED, seeded()).float()
    row = out[:, 0, 16, :]
    assert torch.equal(out, out[:, :, :1, :].expand_as(out)), "a ramp along x has equal rows"
    assert bool((row.diff(dim=1) >= 0).all())
    share = (row[:, -1] - row[:, 0]) / 248
    least, most = RESIZED.resized_area
    low, high = RESIZED.resized_aspect
    # Width is sqrt(area * aspect), at most 1. A pixel of slack at each end: centres, not edges.
    assert float(share.min()) > (least * low) ** 0.5 - 2 / 32
    assert float(share.max()) <= 1.0
    assert float(share.max()) > min(1.0, (most * high) ** 0.5) - 3 / 32


def test_a_resized_crop_of_everything_is_the_image() -> None:
    whole = Augmentation(
        flip_horizontal=False,
        flip_vertical=False,
        crop="resized",
        resized_area=(1.0, 1.0),
        resized_aspect=(1.0, 1.0),
    )
    images = pictures(6, 3, 16, 16)
    assert torch.equal(augment_batch(images, whole, seeded()), images)


@pytest.mark.parametrize(
    "wrong",
    [
        {"crop_px": -1},
        {"resized_area": [0.0, 1.0]},
        {"resized_area": [0.5, 1.5]},
        {"resized_aspect": [2.0, 1.0]},
        {"crop": "random"},
        {"rotate": True},
    ],
)
def test_impossible_settings_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(wrong, Augmentation)


def test_light_without_strength_moves_no_draw() -> None:
    """So that runs of before and after this setting see the same pictures."""
    plain, lit = seeded(), seeded()
    augment_batch(pictures(7), FIXED, plain)
    augment_batch(pictures(7), msgspec.structs.replace(FIXED, brightness=0.2), lit)
    assert torch.equal(torch.rand(7, generator=lit), torch.rand((3, 7), generator=plain)[2]), (
        "two draws an image more, and only where light changes"
    )


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 99), st.floats(0.01, 0.9))
def test_brightness_scales_all_pixels_of_an_image_alike(seed: int, brightness: float) -> None:
    asked = msgspec.structs.replace(NO_AUGMENTATION, brightness=brightness)
    images = torch.full((64, 1, 2, 3), 100, dtype=torch.uint8)
    out = augment_batch(images, asked, seeded(seed)).float()
    assert torch.equal(out, out[:, :, :1, :1].expand_as(out))
    factors = out[:, 0, 0, 0] / 100
    # A factor is rounded with its pixel: 0.5 of 100.
    assert bool(((factors - 1).abs() <= brightness + 0.0051).all())
    assert len(factors.unique()) > 1


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 99), st.floats(0.05, 0.9))
def test_contrast_keeps_the_mean_and_stretches_about_it(seed: int, contrast: float) -> None:
    asked = msgspec.structs.replace(NO_AUGMENTATION, contrast=contrast)
    image = torch.tensor([100, 120, 140, 120], dtype=torch.uint8).reshape(1, 1, 2, 2)
    out = augment_batch(image.expand(64, -1, -1, -1), asked, seeded(seed)).float()
    assert torch.equal(out[:, 0, 0, 1], torch.full((64,), 120.0)), "what is the mean stays"
    stretch = (out[:, 0, 1, 0] - out[:, 0, 0, 0]) / 40
    # Either end is rounded by at most 0.5.
    assert bool(((stretch - 1).abs() <= contrast + 1 / 40).all())
    assert len(stretch.unique()) > 1


@pytest.mark.parametrize("name", ["brightness", "contrast"])
@pytest.mark.parametrize("value", [-0.1, 1.0, float("nan")])
def test_a_light_that_cannot_be(name: str, value: float) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({name: value}, Augmentation)
