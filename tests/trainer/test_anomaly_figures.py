"""Figures of anomalies: drawn from what runs bring, odd cases and all."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from lineside_trainer.evaluate.anomaly_figures import (
    draw_memory_sizes,
    draw_ranking_curves,
    draw_score_histograms,
)
from lineside_trainer.evaluate.anomaly_pictures import (
    Mapped,
    Reconstructed,
    Scored,
    choose_borderline,
    choose_typical,
    draw_anomaly_maps,
    draw_reconstructions,
)
from lineside_trainer.evaluate.latents import FEWEST, draw_latents, embed_latents

BAD = np.arange(150) >= 84
SCORES = np.random.default_rng(0).standard_normal(150) + 2.0 * BAD


def picture(path: Path) -> NDArray[np.uint8]:
    found = cv2.imread(str(path))
    assert found is not None and found.std() > 0
    return found


def shares_of(path: Path) -> tuple[float, float]:
    """How much of a picture is blue, and how much is red."""
    blue, _, red = np.moveaxis(picture(path).astype(int), 2, 0)
    return float((blue - red > 60).mean()), float((red - blue > 60).mean())


def scored(score: float, *, bad: bool, channels: int = 1, name: str = "bridge") -> Scored:
    image = np.full((32, 32, channels), 120, dtype=np.uint8)
    return Scored(image_hwc=image, true_class=name, bad=bad, score=score)


@pytest.mark.parametrize("bad", [BAD, np.zeros(150, bool), np.ones(150, bool)])
def test_histograms_show_the_kinds_there_are(tmp_path: Path, bad: NDArray[np.bool_]) -> None:
    draw_score_histograms(tmp_path / "h.png", bad, SCORES, limit=1.0, name="recon")
    blue, red = shares_of(tmp_path / "h.png")
    assert (blue > 0.02) == (not bad.all())
    assert (red > 0.02) == bad.any()


def test_histograms_of_equal_and_of_lone_scores_can_be_drawn(tmp_path: Path) -> None:
    draw_score_histograms(tmp_path / "a.png", BAD, np.ones(150), limit=None, name="elbo")
    far = np.append(np.random.default_rng(0).random(5000), 40.0)
    draw_score_histograms(tmp_path / "b.png", far > 1.0, far, limit=2.0, name="elbo")
    # On a linear scale one image of 5000 would be no pixel high.
    assert shares_of(tmp_path / "b.png")[1] > 0.002


def test_the_same_scores_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        scores = {"recon": SCORES, "gradcon": SCORES**3}
        draw_ranking_curves(tmp_path / name, BAD, scores, {"size": -SCORES, "blur": SCORES * 0})
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    picture(tmp_path / "a.png")


def test_without_good_and_bad_images_there_are_no_curves(tmp_path: Path) -> None:
    for bad in (np.zeros(3, bool), np.ones(3, bool)):
        with pytest.raises(ValueError, match="good and bad"):
            draw_ranking_curves(tmp_path / "a.png", bad, {"recon": np.arange(3.0)})
    assert not (tmp_path / "a.png").exists()


def test_sizes_of_a_memory_with_and_without_latency(tmp_path: Path) -> None:
    draw_memory_sizes(tmp_path / "a.png", [10, 100, 2000], [0.8, 0.9, 0.91])
    draw_memory_sizes(
        tmp_path / "b.png", [10, 100, 2000], [0.8, 0.9, 0.91], [3.0, 3.1, 9.0], device="1 core"
    )
    assert not np.array_equal(picture(tmp_path / "a.png"), picture(tmp_path / "b.png"))
    with pytest.raises(ValueError, match="differ in number"):
        draw_memory_sizes(tmp_path / "c.png", [10, 100], [0.8, 0.9], [3.0])


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 9)), max_size=30), st.integers(1, 5))
def test_borderline_images_are_the_ones_nearest_to_the_wrong_side(
    images: list[tuple[bool, int]], each: int
) -> None:
    bad = np.array([one[0] for one in images], dtype=bool)
    scores = np.array([one[1] for one in images], dtype=float)
    chosen = choose_borderline(bad, scores, each=each)
    good = scores[chosen[~bad[chosen]]]
    worse = scores[chosen[bad[chosen]]]
    assert list(good) == sorted(scores[~bad], reverse=True)[:each]
    assert list(worse) == sorted(scores[bad])[:each]
    assert len(set(chosen)) == len(chosen)


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 9)), max_size=30))
def test_typical_images_span_the_scores_of_their_kind(images: list[tuple[bool, int]]) -> None:
    bad = np.array([one[0] for one in images], dtype=bool)
    scores = np.array([one[1] for one in images], dtype=float)
    chosen = choose_typical(bad, scores, each=3)
    assert len(set(chosen)) == len(chosen) == min(3, (~bad).sum()) + min(3, bad.sum())
    for kind in (True, False):
        of_kind = scores[chosen[bad[chosen] == kind]]
        if len(of_kind) > 1:
            assert of_kind[0] == scores[bad == kind].min()
            assert of_kind[-1] == scores[bad == kind].max()


@pytest.mark.parametrize("channels", [1, 3])
def test_reconstructions_can_be_drawn_whatever_classes_are_called(
    tmp_path: Path, channels: int
) -> None:
    values = np.linspace(-20, 300, 32 * 32 * channels, dtype=np.float32)
    made = values.reshape(32, 32, channels)
    examples = [
        Reconstructed(
            scored=scored(float(i), bad=i > 2, channels=channels, name="$bad_{" * 9),
            reconstruction_hwc=made,
        )
        for i in range(5)
    ]
    draw_reconstructions(tmp_path / "r.png", examples, limit=2.5, score="gradcon")
    draw_reconstructions(tmp_path / "one.png", examples[:1], limit=2.5, score="gradcon")
    assert picture(tmp_path / "r.png").shape[1] > picture(tmp_path / "one.png").shape[1]


def test_what_is_said_is_what_the_device_says() -> None:
    assert scored(2.5, bad=True).said(2.5) == "OK"
    assert scored(2.6, bad=False).said(2.5) == "NOT_OK"


def mapped(peak: float, *, channels: int = 1) -> Mapped:
    values = np.zeros((8, 8), dtype=np.float32)
    values[2:5, 2:5] = peak
    return Mapped(scored=scored(peak, bad=False, channels=channels), map_hw=values)


def test_maps_of_several_images_have_one_scale(tmp_path: Path) -> None:
    """A good part whose own peak is mild stays dark beside a defect."""
    draw_anomaly_maps(tmp_path / "mild.png", [mapped(1.0), mapped(10.0)], limit=5.0)
    draw_anomaly_maps(tmp_path / "wild.png", [mapped(10.0), mapped(10.0)], limit=5.0)
    mild, wild = picture(tmp_path / "mild.png"), picture(tmp_path / "wild.png")
    lower = slice(mild.shape[0] // 2, -40)
    half = mild.shape[1] // 2
    coloured = [
        float((np.ptp(one[lower, :half].astype(int), axis=2) > 100).mean()) for one in (mild, wild)
    ]
    assert coloured[0] < 0.01 < coloured[1]


def test_regions_are_outlined_where_there_are_any(tmp_path: Path) -> None:
    for name, limit in (("none.png", None), ("inside.png", 5.0), ("beyond.png", 50.0)):
        draw_anomaly_maps(
            tmp_path / name, [mapped(10.0, channels=3)], limit=5.0, region_limit=limit
        )
    assert not np.array_equal(picture(tmp_path / "inside.png"), picture(tmp_path / "none.png"))
    picture(tmp_path / "beyond.png")


def test_flat_maps_can_be_drawn(tmp_path: Path) -> None:
    draw_anomaly_maps(tmp_path / "a.png", [mapped(0.0)], limit=1.0, region_limit=0.0)
    picture(tmp_path / "a.png")


def two_clusters(count: int) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    bad = np.arange(count) % 2 == 0
    noise = np.random.default_rng(0).standard_normal((count, 16))
    return noise + 12.0 * bad[:, None], bad


def test_an_embedding_is_scaled_seeded_and_keeps_neighbours() -> None:
    latents, bad = two_clusters(30)
    found = embed_latents(latents, runs=2, seed=3)
    assert found.points_xy.min() == 0.0 and found.points_xy.max() == 1.0
    np.testing.assert_array_equal(found.points_xy, embed_latents(latents, runs=2, seed=3).points_xy)
    distances = np.linalg.norm(found.points_xy[:, None] - found.points_xy, axis=2)
    nearest = (distances + 9 * np.eye(30)).argmin(axis=1)
    assert (bad[nearest] == bad).all()


def test_more_runs_are_never_worse_and_the_best_is_kept() -> None:
    latents, _ = two_clusters(24)
    single = [embed_latents(latents, runs=1, seed=seed) for seed in range(3)]
    best = embed_latents(latents, runs=3)
    assert best.divergence == min(one.divergence for one in single)
    assert len({one.divergence for one in single}) > 1
    kept = next(one for one in single if one.divergence == best.divergence)
    np.testing.assert_array_equal(best.points_xy, kept.points_xy)


def test_latents_are_blue_and_red(tmp_path: Path) -> None:
    latents, bad = two_clusters(40)
    told = draw_latents(tmp_path / "l.png", latents, bad, runs=1)
    blue, red = shares_of(tmp_path / "l.png")
    assert blue > 0.001 and red > 0.001
    assert told.notes == () and told.pictures[0].file == tmp_path / "l.png"
    assert "of 1 runs" in told.pictures[0].caption


def test_too_few_images_for_the_perplexity_get_a_sentence(tmp_path: Path) -> None:
    latents, bad = two_clusters(FEWEST - 1)
    told = draw_latents(tmp_path / "l.png", latents, bad)
    assert told.pictures == () and not (tmp_path / "l.png").exists()
    assert "takes 16 images, and there are 15 test images" in told.notes[0]
    with pytest.raises(ValueError, match="15 images"):
        embed_latents(latents)
    for runs in (0, 101):
        with pytest.raises(ValueError, match="runs"):
            embed_latents(np.zeros((FEWEST, 2)), runs=runs)
