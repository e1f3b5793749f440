"""Limits from validation scores: what they let pass, and what is too few to propose any."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lineside.metrics import best_f1
from lineside_trainer.errors import DataError
from lineside_trainer.evaluate.anomaly_limit import needed_parts, propose_limit, region_limit

scores = st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=300)


def good(count: int) -> np.ndarray:
    return np.zeros(count, dtype=bool)


def test_with_bad_images_it_is_the_best_f1() -> None:
    values, bad = np.array([1.0, 2.0, 3.0, 4.0]), np.array([0, 0, 1, 1], dtype=bool)
    found = propose_limit(values, bad, ["a", "c", "b", "b"])
    assert (found.limit, found.rule) == (2.5, "best_f1")
    assert (found.good_parts, found.bad_parts) == (2, 1)
    assert "best F1 (1.000)" in found.sentence
    assert "2 good and 1 bad parts" in found.sentence
    assert "tell them apart" not in found.sentence


def test_scores_that_flag_all_are_told_to_be_blind() -> None:
    bad = np.array([1, 1, 1, 0, 0], dtype=bool)
    found = propose_limit([1, 1, 1, 1, 1], bad)
    assert found.limit < 1.0
    assert "do not tell them apart" in found.sentence


@given(scores, st.sampled_from([0.01, 0.05, 0.2]))
def test_the_quantile_leaves_at_most_that_share_of_good_parts_beyond(
    values: list[float], share: float
) -> None:
    found = propose_limit(values, good(len(values)), share=share)
    beyond = (np.array(values) > found.limit).sum()
    # Conformal: at most (n + 1) share, rounded down, less the part to come.
    assert beyond <= max(0, np.floor((len(values) + 1) * share + 1e-6) - 1)
    assert found.rule == "quantile" and found.good_parts == len(values)


@pytest.mark.parametrize(
    ("count", "limit", "words"),
    [
        (99, 98 * 1.001, "99 of 99 good parts"),
        (199, 197.5, "198 of 199 good parts"),
        (
            50,
            49 * 1.001,
            "all 50 good parts, and 0.02 of new ones are expected beyond it; for 0.01 it takes 99",
        ),
    ],
)
def test_the_quantile_by_hand(count: int, limit: float, words: str) -> None:
    found = propose_limit(np.arange(count, dtype=float), good(count))
    assert found.limit == pytest.approx(limit)
    assert words in found.sentence


def test_it_keeps_its_promise_of_new_good_parts() -> None:
    random = np.random.default_rng(0)
    beyond = []
    for _ in range(1500):
        values = random.standard_normal(120)
        limit = propose_limit(values[:100], good(100), share=0.05).limit
        beyond.append((values[100:] > limit).mean())
    # Expected below 0.05; above 4/101 less the margin. 3 sigmas of 1500 means of sd 0.055: 0.0043.
    assert 0.03 <= np.mean(beyond) <= 0.0543


def test_a_part_is_as_anomalous_as_its_worst_image() -> None:
    values = np.array([0.0, 5.0, 1.0, 1.0, 2.0, 2.0])
    parts = ["a", "a", "b", "b", "c", "c"]
    found = propose_limit(values, good(6), parts, share=0.5)
    assert found.good_parts == 3
    assert found.limit == pytest.approx(3.5)  # the 2nd of 1, 2, 5: midway to the next
    # By image it is the 4th of 0, 1, 1, 2, 2, 5.
    assert propose_limit(values, good(6), share=0.5).limit == pytest.approx(3.5)
    assert propose_limit(values, good(6), share=0.6).limit == pytest.approx(1.5)


@pytest.mark.parametrize(
    ("values", "bad", "parts", "words"),
    [
        ([], [], None, "no good parts"),
        ([1.0, 2.0], [1, 1], None, "no good parts"),
        ([1.0], [0], None, "1 good part:"),
        ([1.0, 2.0], [0, 0], ["a", "a"], "1 good part:"),
        ([1.0, 2.0], [0, 1], None, "1 good part:"),
        ([1.0, np.nan, 3.0], [0, 0, 0], None, "1 of 3 validation images: the score is not finite"),
    ],
)
def test_too_few_good_parts_are_refused_with_what_is_needed(
    values: list[float], bad: list[int], parts: list[str] | None, words: str
) -> None:
    with pytest.raises(DataError, match=words) as refused:
        propose_limit(values, np.array(bad, dtype=bool), parts)
    assert "finite" in words or "needs 2 at least, and 99 if no more than 0.01" in str(
        refused.value
    )


@pytest.mark.parametrize("share", [0.0, 1.0, -0.1, float("nan")])
def test_a_share_that_is_none_is_refused(share: float) -> None:
    with pytest.raises(ValueError, match="share"):
        region_limit([1.0, 2.0], share=share)


@given(scores)
def test_regions_have_the_same_rule(values: list[float]) -> None:
    assert region_limit(values).limit == propose_limit(values, good(len(values))).limit
    assert "no bad" not in region_limit(values).sentence


@pytest.mark.parametrize(("share", "parts"), [(0.01, 99), (0.05, 19), (0.5, 1), (0.03, 33)])
def test_as_many_parts_as_needed_keep_one_inside(share: float, parts: int) -> None:
    assert needed_parts(share) == parts
    found = propose_limit(np.arange(max(parts, 2)), good(max(parts, 2)), share=share)
    assert "it takes" not in found.sentence


def test_the_best_f1_is_that_of_the_metric() -> None:
    random = np.random.default_rng(1)
    bad = random.random(60) < 0.3
    values = random.standard_normal(60) + bad
    assert propose_limit(values, bad).limit == best_f1(bad, values).limit
