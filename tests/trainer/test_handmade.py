"""The hand-made baseline: what it must not depend on, and that it finds what is there."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from lineside_trainer.evaluate.handmade import (
    STRENGTHS,
    FloatArray,
    fit_ridge,
    folds_by_part,
    intensity_features,
)


def noise(count: int, side_px: int = 16, channels: int = 1, seed: int = 0) -> NDArray[np.uint8]:
    generator = np.random.default_rng(seed)
    return generator.integers(0, 256, (count, side_px, side_px, channels), dtype=np.uint8)


def own_parts(count: int) -> NDArray[np.str_]:
    return np.arange(count).astype(np.str_)


@settings(max_examples=25, deadline=None)
@given(
    height=st.integers(2, 40),
    width=st.integers(2, 40),
    channels=st.sampled_from([1, 3]),
    level=st.sampled_from([None, 0, 7, 255]),
)
def test_every_image_has_finite_features_and_as_many(
    height: int, width: int, channels: int, level: int | None
) -> None:
    shape = (3, height, width, channels)
    images = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    if level is not None:
        images[:] = level
    features = intensity_features(images)
    one = intensity_features(noise(1, channels=1)).shape[1]
    assert features.shape == (3, one * channels)
    assert np.isfinite(features).all()


def test_images_do_not_know_of_each_other() -> None:
    images = noise(1030)  # more than are computed at once
    order = np.random.default_rng(1).permutation(len(images))
    np.testing.assert_array_equal(
        intensity_features(images)[order], intensity_features(images[order])
    )


def test_a_mirrored_image_has_the_same_features() -> None:
    images = noise(4, side_px=32)
    # Sums in another order: 1e-15 measured.
    for axis in (1, 2):
        mirrored = np.ascontiguousarray(np.flip(images, axis))
        np.testing.assert_allclose(
            intensity_features(mirrored), intensity_features(images), rtol=0, atol=1e-12
        )


def test_brightness_and_edges_are_found() -> None:
    generator = np.random.default_rng(2)
    level = generator.uniform(50, 200, 200)
    stripes = generator.uniform(0, 40, 200)
    pattern = np.where(np.arange(16) % 4 < 2, 1.0, -1.0)
    pixels = level[:, None, None] + stripes[:, None, None] * pattern[None, None, :]
    images = np.repeat(pixels, 16, axis=1).round().astype(np.uint8)[..., np.newaxis]
    features = intensity_features(images)
    targets = np.stack([level, stripes], axis=1)
    ridge = fit_ridge(features[:150], targets[:150], own_parts(150))
    errors = ((ridge.predict(features[150:]) - targets[150:]) ** 2).mean(axis=0)
    assert (errors < 0.02 * targets.var(axis=0)).all(), errors


def test_what_has_no_cause_is_answered_with_the_mean() -> None:
    """To the mean predictor's error: 1.005 over these ten draws; least squares is at 1.27."""
    ratios = []
    for seed in range(10):
        generator = np.random.default_rng(seed)
        features, targets = generator.normal(size=(400, 40)), generator.normal(5.0, 1.0, (400, 1))
        ridge = fit_ridge(features[:200], targets[:200], own_parts(200))
        error = ((ridge.predict(features[200:]) - targets[200:]) ** 2).mean()
        ratios.append(error / ((targets[200:] - targets[:200].mean()) ** 2).mean())
    assert np.mean(ratios) < 1.05, ratios


def linear(seed: int) -> tuple[FloatArray, FloatArray]:
    generator = np.random.default_rng(seed)
    features = generator.normal(size=(60, 5))
    return features, features @ generator.normal(size=(5, 1)) + 0.1 * generator.normal(size=(60, 1))


@settings(max_examples=25, deadline=None)
@given(scale=st.floats(0.01, 100.0), shift=st.floats(-50.0, 50.0), seed=st.integers(0, 99))
def test_another_unit_of_the_target_changes_nothing_else(
    scale: float, shift: float, seed: int
) -> None:
    features, targets = linear(seed)
    ours = fit_ridge(features, targets, own_parts(60))
    theirs = fit_ridge(features, scale * targets + shift, own_parts(60))
    assert ours.strength == theirs.strength
    np.testing.assert_allclose(
        theirs.predict(features), scale * ours.predict(features) + shift, rtol=1e-6, atol=1e-6
    )


def test_another_unit_of_a_feature_and_a_constant_one_change_nothing() -> None:
    features, targets = linear(0)
    changed = np.hstack([features * 1000.0 + 3.0, np.full((60, 1), 0.1)])
    ours = fit_ridge(features, targets, own_parts(60))
    theirs = fit_ridge(changed, targets, own_parts(60))
    np.testing.assert_allclose(theirs.predict(changed), ours.predict(features), atol=1e-9)
    moved = changed + np.array([0, 0, 0, 0, 0, 0.5])  # constant in training alone: it has no weight
    np.testing.assert_allclose(theirs.predict(moved), ours.predict(features), atol=1e-9)


def test_classes_are_told_apart() -> None:
    level = np.repeat([40, 120, 220], 30)
    images = (noise(90) // 16 + level[:, None, None, None]).astype(np.uint8)
    classes = np.repeat([0, 1, 2], 30)
    features = intensity_features(images)
    ridge = fit_ridge(features[::2], np.eye(3)[classes[::2]], own_parts(45))
    assert (ridge.predict(features[1::2]).argmax(axis=1) == classes[1::2]).all()


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 11), min_size=2, max_size=60))
def test_a_part_is_never_on_both_sides(numbers: list[int]) -> None:
    parts = np.array(numbers).astype(np.str_)
    folds = folds_by_part(parts)
    assert len(np.unique(folds)) >= 2  # else there would be nothing to learn from
    if len(np.unique(parts)) >= 5:
        assert all(len(np.unique(folds[parts == part])) == 1 for part in np.unique(parts))


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_part_that_is_known_by_heart_does_not_choose_the_strength(seed: int) -> None:
    """Twenty copies of each part: held out by image, the weakest ridge would look perfect."""
    generator = np.random.default_rng(seed)
    features = np.repeat(generator.normal(size=(30, 28)), 20, axis=0)
    targets = np.repeat(generator.normal(size=(30, 1)), 20, axis=0)
    by_part = fit_ridge(features, targets, np.repeat(np.arange(30), 20).astype(np.str_))
    by_image = fit_ridge(features, targets, own_parts(600))
    assert by_image.strength == STRENGTHS[0]
    assert by_part.strength > 10.0
