"""Scores that need no model: what they measure, and when they are worth a warning."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lineside.metrics import auroc, f1
from lineside_trainer.evaluate.leaks import (
    SUSPICIOUS,
    find_leaks,
    tabulate_leaks,
    trivial_scores,
    turned_to_bad,
    warn_of_leaks,
)
from lineside_trainer.runs.anomaly_results import Leak, Leaks


def leaks_of(**areas: float) -> Leaks:
    scores = {name: Leak(auroc=area, higher_is_bad=True) for name, area in areas.items()}
    return Leaks(scores=scores, all_anomalous_f1=0.5)


def test_trivial_scores_by_hand() -> None:
    images = np.zeros((3, 6, 6, 1), dtype=np.uint8)
    images[1] += 100
    images[2, 3, 3] = 36  # in the middle: Laplacian -144 there, 36 at four sides, mean 0
    found = trivial_scores(np.array([[10, 20], [30, 40], [1, 1]]), images, images)
    np.testing.assert_array_equal(found["size"], [200, 1200, 1])
    np.testing.assert_allclose(found["brightness"], [0, 100, 1])
    np.testing.assert_allclose(found["blur"], [0, 0, (144**2 + 4 * 36**2) / 36])


def test_colours_count_as_gray() -> None:
    gray = np.random.default_rng(0).integers(0, 255, (2, 8, 8, 1), dtype=np.uint8)
    sizes = np.ones((2, 2), dtype=np.int64)
    rgb = gray.repeat(3, axis=3)
    of_gray, of_rgb = trivial_scores(sizes, gray, gray), trivial_scores(sizes, rgb, rgb)
    np.testing.assert_allclose(of_gray["blur"], of_rgb["blur"])
    np.testing.assert_allclose(of_gray["brightness"], of_rgb["brightness"])
    red = np.zeros((1, 8, 8, 3), dtype=np.uint8)
    red[..., 0] = 100  # RGB: red weighs 0.299
    assert trivial_scores(sizes[:1], red, red)["brightness"][0] == pytest.approx(30, abs=1)


def test_a_smoothed_image_is_blurred() -> None:
    sharp = np.random.default_rng(0).integers(0, 255, (16, 16, 1), dtype=np.uint8)
    smooth = ((sharp.astype(int) + np.roll(sharp, 1, 0) + np.roll(sharp, 1, 1)) // 3).astype("u1")
    blur = trivial_scores(np.ones((2, 2), np.int64), np.stack([sharp, smooth]), sharp[None])["blur"]
    assert blur[1] < blur[0]


def test_an_unusual_colour_is_far_from_good_ones() -> None:
    generator = np.random.default_rng(0)
    gray = generator.integers(50, 200, (20, 1, 1, 1))
    good = (gray + generator.integers(0, 3, (20, 4, 4, 3))).astype(np.uint8)
    red, bright = good[:1].copy(), np.full((1, 4, 4, 3), 195, dtype=np.uint8)
    red[..., 0] += 30
    sizes = np.ones((2, 2), dtype=np.int64)
    far, near = trivial_scores(sizes, np.concatenate([red, bright]), good)["colour"]
    assert far > 10 > near  # good ones differ much in brightness, and not at all in hue
    assert "colour" not in trivial_scores(sizes, good[:2, ..., :1], good[..., :1])


def test_colours_that_are_all_alike_still_have_a_distance() -> None:
    good = np.full((1, 4, 4, 3), 100, dtype=np.uint8)
    far = trivial_scores(np.ones((1, 2), np.int64), good + 10, good)["colour"]
    assert far[0] == pytest.approx(10 * np.sqrt(3 * 12))


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 5)), min_size=1, max_size=20))
def test_the_better_direction_is_taken_and_told(images: list[tuple[bool, int]]) -> None:
    bad, values = np.array([one[0] for one in images]), np.array([one[1] for one in images])
    found = find_leaks(bad, {"size": values})
    leak = found.scores["size"]
    if bad.all() or not bad.any():
        assert leak.auroc is None
    else:
        assert leak.auroc is not None and leak.auroc >= 0.5
        better = max(float(auroc(bad, values)), float(auroc(bad, -values)))
        assert leak.auroc == pytest.approx(better)
        turned = turned_to_bad(found, {"size": values})["size"]
        assert float(auroc(bad, turned)) == pytest.approx(leak.auroc)
    if bad.any():
        assert found.all_anomalous_f1 == pytest.approx(float(f1(bad, values, -1.0)))
    else:
        assert found.all_anomalous_f1 is None


def test_a_suspicious_one_is_told() -> None:
    told = warn_of_leaks(leaks_of(size=SUSPICIOUS, blur=0.6), 0.99)
    assert "size alone" in told and "0.900" in told and "no worse" not in told
    assert "bad ones are large" in told
    assert "other conditions" in told and "more epochs" not in told


def test_one_that_beats_the_model_is_told() -> None:
    told = warn_of_leaks(leaks_of(size=0.6, blur=0.7), 0.7)
    assert "blur alone" in told and "no worse than the model's 0.700" in told
    # 0.7 proves no other camera: a model of a few epochs is beaten by a defect that is bright.
    assert "more epochs" in told and "conditions" not in told


def test_one_that_does_both_gets_both_remedies() -> None:
    told = warn_of_leaks(leaks_of(size=0.95), 0.5)
    assert "other conditions" in told and "more epochs" in told


def test_harmless_or_unknown_ones_are_not() -> None:
    assert warn_of_leaks(leaks_of(size=0.6), 0.8) == ""
    assert warn_of_leaks(leaks_of(size=0.6), None) == ""
    unknown = Leaks(scores={"size": Leak(auroc=None, higher_is_bad=True)}, all_anomalous_f1=None)
    assert warn_of_leaks(unknown, 0.1) == ""
    assert list(tabulate_leaks(unknown)) == ["size alone"]
    assert "undefined" in tabulate_leaks(unknown)["size alone"]


def test_the_table_says_which_direction_it_was() -> None:
    rows = tabulate_leaks(find_leaks([True, True, False], {"brightness": [1, 2, 3]}))
    assert "AUROC 1.000" in rows["brightness alone"] and "are dark" in rows["brightness alone"]
    assert "the better of both directions" in rows["brightness alone"]
    assert rows["every image called anomalous"] == "F1 0.800"
