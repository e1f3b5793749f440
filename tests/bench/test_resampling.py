"""Intervals of what two ways differ by, drawn together."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lineside_bench.resampling import median_interval


@given(
    above_us=st.floats(-100, 100),
    seed=st.integers(0, 2**32 - 1),
    moods_us=st.lists(st.floats(0, 1e4), min_size=2, max_size=40),
)
def test_what_the_whole_machine_did_in_a_round_cancels_out(
    above_us: float, seed: int, moods_us: list[float]
) -> None:
    bare = np.array(moods_us)

    ends = median_interval(bare + above_us, bare, np.subtract, seed=seed)

    assert ends == pytest.approx((above_us, above_us), abs=1e-9)


def test_the_interval_holds_the_truth_about_as_often_as_it_says() -> None:
    random = np.random.default_rng(5)
    held = 0
    for seed in range(1000):
        ours, bare = random.normal((11.0, 10.0), 1.0, (51, 2)).T
        low, high = median_interval(ours, bare, np.subtract, seed=seed)
        held += low <= 1.0 <= high

    # Of medians it is somewhat more than 950: of 10,000 sets 9,570.
    assert 930 <= held <= 990


def test_a_turn_of_equal_calls_counts_once() -> None:
    random = np.random.default_rng(0)
    ours, bare = random.normal((11.0, 10.0), 1.0, (13, 2)).T

    once = median_interval(ours, bare, np.divide)
    eight_times = median_interval(np.repeat(ours, 8), np.repeat(bare, 8), np.divide, calls_a_turn=8)

    assert eight_times == once
