"""Greedy k-centre: the points of the plain loop, and no duplicate among them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lineside_trainer.models import coreset
from lineside_trainer.models.coreset import choose_coreset


def make_points(count: int, width: int = 16, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    # Clusters of unequal spread, as patches are: most look alike, a few do not.
    centres = torch.randn(8, width, generator=generator)
    which = torch.randint(8, (count,), generator=generator)
    noise = torch.randn(count, width, generator=generator) * 0.05 * (1 + which[:, None])
    return centres[which] + noise


def reach_of(points: Tensor, rows: Tensor) -> float:
    return float(torch.cdist(points.double(), points[rows].double()).amin(dim=1).max())


def plain_loop(points: Tensor, count: int, first: int) -> list[int]:
    """Algorithm 1 of Roth et al., word for word, in double precision."""
    exact = points.double().numpy()
    chosen, nearest = [first], np.square(exact - exact[first]).sum(axis=1)
    while len(chosen) < count:
        chosen.append(int(nearest.argmax()))
        nearest = np.minimum(nearest, np.square(exact - exact[chosen[-1]]).sum(axis=1))
    return chosen


@pytest.mark.parametrize("candidates", [4, 37, 4096])
def test_it_chooses_what_the_plain_loop_does(
    candidates: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(coreset, "_CANDIDATES", candidates)  # many rounds, or one
    monkeypatch.setattr(coreset, "_PRODUCTS_AT_ONCE", 1000)
    points = make_points(1500)
    found = choose_coreset(points, 200, seed=3)
    assert found.rows.tolist() == plain_loop(points, 200, int(found.rows[0]))
    assert found.reach == pytest.approx(reach_of(points, found.rows), rel=1e-4)


@given(
    count=st.integers(1, 60),
    wanted=st.integers(1, 80),
    copies=st.integers(1, 4),
    seed=st.integers(0, 99),
)
@settings(max_examples=60, deadline=None)
def test_it_gives_different_points_only_and_all_where_there_are_no_more(
    count: int, wanted: int, copies: int, seed: int
) -> None:
    points = make_points(count, seed=seed).repeat(copies, 1)
    found = choose_coreset(points, wanted, seed=seed)
    assert len(found.rows) == min(wanted, count)
    assert len(set((found.rows % count).tolist())) == len(found.rows)
    assert found.asked == wanted
    if wanted >= count:
        assert found.reach == 0.0


def test_a_smaller_one_is_the_beginning_of_a_larger_one() -> None:
    points = make_points(800)
    large, small = (choose_coreset(points, count, seed=1) for count in (100, 30))
    assert large.rows[:30].tolist() == small.rows.tolist()
    assert large.reach < small.reach


def test_it_covers_better_than_a_draw() -> None:
    points = make_points(2000)
    found = choose_coreset(points, 100, seed=0)
    drawn = torch.randperm(2000, generator=torch.Generator().manual_seed(0))[:100]
    assert found.reach < 0.8 * reach_of(points, drawn)


def test_the_seed_alone_decides() -> None:
    points = make_points(500)
    first, again, other = (choose_coreset(points, 50, seed=seed) for seed in (5, 5, 6))
    assert first.rows.tolist() == again.rows.tolist()
    assert first.rows.tolist() != other.rows.tolist()


def test_progress_rises_to_the_end() -> None:
    told: list[tuple[int, int]] = []
    choose_coreset(make_points(500), 60, seed=0, progress=lambda done, of: told.append((done, of)))
    assert told == sorted(told)
    assert told[-1] == (60, 60)


def test_equal_embeddings_count_as_one() -> None:
    """The measurement behind `SAME_BELOW`: cosines of equal rows, at widths that networks have."""
    for width in (192, 512, 1024):
        points = torch.randn(4000, width) * torch.logspace(-2, 2, 4000)[:, None]
        lengths = points.square().sum(dim=1)
        squared = (2 * lengths - 2 * (points @ points.T).diagonal()).abs()
        assert float((squared / lengths).max()) < coreset.SAME_BELOW / 2
        few = points[:: 4000 // 5]
        assert len(choose_coreset(few.repeat(50, 1), 20, seed=0).rows) == len(few)
