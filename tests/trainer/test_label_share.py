"""A share of the labels: whole parts, nested, the same for the same seeds."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from lineside_trainer.data.label_share import BY_PART_FROM, LEAST_LABELLED, take_label_share


def make(parts: int, views: int, kinds: int, seed: int) -> tuple[np.ndarray, ...]:
    """Rows of a training fold inside a larger table, and the table's parts and targets."""
    generator = np.random.default_rng(seed)
    count = parts * views
    names = np.array([f"p{row // views}" for row in range(count + 5)])
    targets = generator.integers(0, kinds, count + 5).astype(np.float64)
    targets[:kinds] = np.arange(kinds)
    return np.arange(count, dtype=np.int64), names, targets


@given(
    parts=st.integers(BY_PART_FROM, 40),
    views=st.integers(1, 4),
    kinds=st.integers(2, 4),
    seed=st.integers(0, 99),
    shares=st.tuples(st.floats(0.01, 1.0), st.floats(0.01, 1.0)),
)
def test_shares_are_nested_whole_parts_with_every_kind(
    parts: int, views: int, kinds: int, seed: int, shares: tuple[float, float]
) -> None:
    rows, names, targets = make(parts, views, kinds, seed)
    small, large = (
        take_label_share(rows, names, targets, share=s, seeds=(0, seed), every_kind=True).rows
        for s in sorted(shares)
    )
    assert set(small) <= set(large) <= set(rows)
    for kept in (small, large):
        assert len(kept) >= min(LEAST_LABELLED, len(rows))
        assert len(np.unique(targets[kept])) == kinds
        inside = np.isin(names[rows], names[kept])
        assert np.array_equal(rows[inside], kept), "a part is taken whole or not at all"


@given(share=st.floats(0.1, 1.0), seed=st.integers(0, 99))
def test_the_share_is_kept_to(share: float, seed: int) -> None:
    rows, names, targets = make(100, 3, 2, seed)
    kept = take_label_share(
        rows, names, targets, share=share, seeds=(1, seed), every_kind=False
    ).rows
    assert share * 300 - 3 < len(kept) <= share * 300 + 1e-6


def test_the_same_seeds_draw_the_same_and_others_do_not() -> None:
    rows, names, targets = make(100, 2, 5, 0)

    def draw(*seeds: int) -> list[int]:
        taken = take_label_share(
            *(rows, names, targets), share=0.1, seeds=(seeds[0], seeds[1]), every_kind=False
        )
        return taken.rows.tolist()

    assert draw(3, 4) == draw(3, 4)
    assert len({tuple(draw(*seeds)) for seeds in ((3, 4), (3, 5), (4, 4), (4, 3))}) == 4


def test_few_parts_are_drawn_by_image_and_the_note_says_so() -> None:
    rows, names, targets = make(BY_PART_FROM - 1, 10, 2, 0)
    share = take_label_share(rows, names, targets, share=0.2, seeds=(0, 0), every_kind=False)
    assert len(share.rows) == 18
    assert "by image" in share.note
    assert "18 of 90" in share.note


def test_the_whole_needs_no_note() -> None:
    rows, names, targets = make(20, 1, 2, 0)
    whole = take_label_share(rows, names, targets, share=1.0, seeds=(0, 0), every_kind=True)
    assert np.array_equal(whole.rows, rows)
    assert whole.note == ""


def test_a_rare_class_is_waited_for() -> None:
    rows, names, _ = make(100, 1, 2, 0)
    targets = np.zeros(len(names))
    targets[57] = 1.0
    for seed in range(5):
        share = take_label_share(rows, names, targets, share=0.1, seeds=(0, seed), every_kind=True)
        assert 57 in share.rows
        assert "every class" in share.note
