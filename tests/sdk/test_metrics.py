"""Figures and their intervals."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from lineside.metrics import mean_by_part_interval, squared_errors

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
