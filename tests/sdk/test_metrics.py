"""Figures and their intervals."""

from __future__ import annotations

import numpy as np
import pytest
import sklearn.metrics as oracle
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from lineside.metrics import (
    accuracy,
    average_precision,
    balanced_accuracy,
    by_part_interval,
    class_recall,
    confusion_counts,
    mean_average_precision,
    mean_by_part_interval,
    squared_errors,
    weighted_mean,
)

values = hnp.arrays(np.float64, st.integers(2, 30), elements=st.floats(-1e6, 1e6, allow_nan=False))


@given(values)
def test_the_interval_holds_the_mean_and_lies_within_the_values(sample: np.ndarray) -> None:
    parts = np.arange(len(sample))
    interval = mean_by_part_interval(sample, parts, draws=200)
    slack = 1e-9 * (1 + np.abs(sample).max())  # sums in another order
    assert interval.value == pytest.approx(sample.mean(), abs=slack)
    assert sample.min() - slack <= interval.low <= interval.high <= sample.max() + slack
    assert interval.resampled == len(sample)


@given(values, st.integers(0, 2**31))
def test_the_same_seed_gives_the_same_interval(sample: np.ndarray, seed: int) -> None:
    parts = np.arange(len(sample))
    first = mean_by_part_interval(sample, parts, draws=50, seed=seed)
    assert first == mean_by_part_interval(sample, parts, draws=50, seed=seed)


@given(values)
def test_names_of_parts_do_not_matter(sample: np.ndarray) -> None:
    numbers = np.arange(len(sample)) // 2
    if numbers[-1] == 0:
        numbers[-1] = 1
    words = [f"part-{number:04d}" for number in numbers]
    assert mean_by_part_interval(sample, numbers, draws=50) == mean_by_part_interval(
        sample, words, draws=50
    )


def test_images_of_one_part_do_not_narrow_the_interval() -> None:
    by_part = np.random.default_rng(1).standard_normal(40)
    once = mean_by_part_interval(by_part, np.arange(40))
    five_times = mean_by_part_interval(np.repeat(by_part, 5), np.repeat(np.arange(40), 5))
    assert five_times.low == pytest.approx(once.low)
    assert five_times.high == pytest.approx(once.high)


def test_95_percent_intervals_cover_the_truth_about_that_often() -> None:
    random = np.random.default_rng(2)
    intervals = [
        mean_by_part_interval(random.standard_normal(60), np.arange(60), draws=400)
        for _ in range(300)
    ]
    share = np.mean([interval.low <= 0 <= interval.high for interval in intervals])
    # 0.95 less the percentile bootstrap's bias at n = 60 (about 0.01), 3 binomial sigmas of 0.0126
    assert 0.90 <= share <= 0.985


@pytest.mark.parametrize("parts", [[], ["a"], ["a", "a", "a"]])
def test_fewer_than_two_parts_have_no_interval(parts: list[str]) -> None:
    with pytest.raises(ValueError, match="at least two"):
        mean_by_part_interval(np.ones(len(parts)), parts)


def test_squared_errors_are_in_double_precision() -> None:
    target = np.array([16777217.0])  # not a float32
    assert squared_errors(target, np.float32([16777216.0]))[0] == 1.0


CLASSES = 3
# Few values, so that equal scores are common.
scores = st.sampled_from([0.0, 0.1, 0.5, 0.9, 1.0]) | st.floats(0.0, 1.0)


@st.composite
def ranked(draw: st.DrawFn) -> tuple[NDArray[np.bool_], NDArray[np.float64], NDArray[np.float64]]:
    """Truth with at least one positive, scores, whole weights that leave one in."""
    count = draw(st.integers(1, 12))
    positive = np.array(draw(st.lists(st.booleans(), min_size=count, max_size=count)))
    positive[draw(st.integers(0, count - 1))] = True
    weights = np.array(draw(st.lists(st.integers(0, 3), min_size=count, max_size=count)), float)
    weights[positive] += 1.0
    return positive, np.array(draw(st.lists(scores, min_size=count, max_size=count))), weights


@st.composite
def classified(draw: st.DrawFn) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    count = draw(st.integers(1, 15))
    classes = st.lists(st.integers(0, CLASSES - 1), min_size=count, max_size=count)
    return np.array(draw(classes)), np.array(draw(classes))


@given(ranked())
def test_average_precision_is_the_sum_over_thresholds(
    sample: tuple[NDArray[np.bool_], NDArray[np.float64], NDArray[np.float64]],
) -> None:
    positive, values, weights = sample
    before, area = 0.0, 0.0
    for threshold in sorted(set(values), reverse=True):
        flagged = values >= threshold
        found = weights[flagged & positive].sum()
        recall = found / weights[positive].sum()
        if weights[flagged].sum() > 0:
            area += (recall - before) * found / weights[flagged].sum()
        before = recall
    assert float(average_precision(positive, values, weights)) == pytest.approx(area, abs=1e-12)
    theirs = oracle.average_precision_score(positive, values, sample_weight=weights)
    assert float(average_precision(positive, values, weights)) == pytest.approx(theirs, abs=1e-12)


@given(ranked(), st.integers(0, 3))
def test_weights_are_repetitions(
    sample: tuple[NDArray[np.bool_], NDArray[np.float64], NDArray[np.float64]], more: int
) -> None:
    positive, values, weights = sample
    times = weights.astype(int)
    repeated = average_precision(np.repeat(positive, times), np.repeat(values, times))
    both = np.stack([weights, weights + more * positive])
    assert average_precision(positive, values, both)[0] == pytest.approx(float(repeated))


@pytest.mark.parametrize(
    ("positive", "values", "area"),
    [
        ([True, True, False], [0.9, 0.8, 0.1], 1.0),
        ([True, False, True], [0.9, 0.8, 0.7], 0.5 + 0.5 * 2 / 3),
        ([True, False, False, False], [0.5, 0.5, 0.5, 0.5], 0.25),  # chance: the share of positives
        ([False, False], [0.5, 0.1], np.nan),
    ],
)
def test_average_precision_by_hand(positive: list[bool], values: list[float], area: float) -> None:
    assert float(average_precision(positive, values)) == pytest.approx(area, nan_ok=True)


def test_a_score_without_a_rank_is_refused() -> None:
    with pytest.raises(ValueError, match="no rank"):
        average_precision([True, False], [np.nan, 0.5])


@given(classified())
def test_shares_of_classes_agree_with_another_implementation(
    sample: tuple[NDArray[np.int64], NDArray[np.int64]],
) -> None:
    targets, predicted = sample
    assert float(accuracy(targets, predicted)) == pytest.approx(
        oracle.accuracy_score(targets, predicted)
    )
    theirs = oracle.confusion_matrix(targets, predicted, labels=range(CLASSES))
    np.testing.assert_array_equal(confusion_counts(targets, predicted, CLASSES), theirs)
    recalls = oracle.recall_score(
        targets, predicted, labels=range(CLASSES), average=None, zero_division=np.nan
    )
    ours = [float(class_recall(targets, predicted, of)) for of in range(CLASSES)]
    np.testing.assert_allclose(ours, recalls)
    assert float(balanced_accuracy(targets, predicted)) == pytest.approx(np.nanmean(recalls))


@given(classified(), st.integers(0, 2**32 - 1))
def test_mean_average_precision_is_one_against_the_rest(
    sample: tuple[NDArray[np.int64], NDArray[np.int64]], seed: int
) -> None:
    targets, _ = sample
    probabilities = np.random.default_rng(seed).dirichlet(np.ones(CLASSES), len(targets))
    present = np.unique(targets)
    ours = float(mean_average_precision(targets, probabilities))
    if len(present) < 2:
        assert np.isnan(ours)
        return
    theirs = [oracle.average_precision_score(targets == c, probabilities[:, c]) for c in present]
    assert ours == pytest.approx(np.mean(theirs))


def test_who_always_says_one_class_gets_what_chance_gets() -> None:
    targets = np.array([0, 0, 0, 1, 2])
    always = np.zeros(5, int)
    certain = np.eye(3)[always]
    assert float(accuracy(targets, always)) == pytest.approx(0.6)
    assert float(balanced_accuracy(targets, always)) == pytest.approx(1 / 3)
    assert float(mean_average_precision(targets, certain)) == pytest.approx((0.6 + 0.2 + 0.2) / 3)


def test_any_figure_has_an_interval_by_part() -> None:
    targets = np.tile([0, 1], 30)
    predicted = np.where(np.arange(60) % 7 == 0, 1 - targets, targets)
    parts = np.arange(60) // 2
    right = (targets == predicted).astype(float)
    by_weights = by_part_interval(lambda w: accuracy(targets, predicted, w), parts)
    assert by_weights == mean_by_part_interval(right, parts)


def test_draws_that_define_nothing_do_not_count() -> None:
    targets = np.array([0, 0, 1])
    # A draw without part 2 knows no sample of class 1.
    interval = by_part_interval(lambda w: class_recall(targets, targets, 1, w), np.arange(3))
    assert (interval.low, interval.high) == (1.0, 1.0)
    with pytest.raises(ValueError, match="not one of 50 draws"):
        by_part_interval(lambda w: class_recall(targets, targets, 2, w), np.arange(3), draws=50)


@given(values)
def test_the_mean_does_not_care_how_samples_are_weighted_alike(sample: np.ndarray) -> None:
    mean = weighted_mean(sample)
    twice = float(mean(np.full(len(sample), 2.0)))
    slack = 1e-9 * (1 + np.abs(sample).max())  # sums in another order
    assert twice == pytest.approx(float(sample.mean()), abs=slack)
