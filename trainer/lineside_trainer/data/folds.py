"""Which part goes to which fold: a pure function of part sizes, fractions and seed."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from lineside_trainer.errors import DataError

FOLDS: Final = ("training", "validation", "test")
Fractions = tuple[float, float, float]

_EXHAUSTIVE_PARTS: Final = 9
"""Up to here all 3**n assignments are weighed (19,683 of them)."""

_AS_GOOD: Final = 0.03
"""Assignments whose worst fold is off by this much more than the best one's count as good as it:
the seed chooses among them, else few parts of unequal size would always be split alike."""

_TRIES: Final = 16
_LEAST_TRAINING: Final = 0.4
"""A second part in the test fold (an interval by part needs two) is not worth less training."""


def check_fractions(fractions: Fractions) -> None:
    """Refuse shares that are none.

    Raises:
        DataError: not three positive shares that sum to 1.
    """
    if len(fractions) != 3 or min(fractions) <= 0 or abs(sum(fractions) - 1.0) > 1e-6:
        raise DataError(f"fractions {fractions}: three shares above 0 that sum to 1 are needed")


def draw_parts(sizes: NDArray[np.int64], share: float, *, seed: int) -> NDArray[np.bool_]:
    """Draw whole parts until they hold a share of the images.

    Args:
        sizes: (P,) images a part, in an order that does not depend on the file list.
        share: of all images, 0 to below 1.
        seed: of the draw, which is another one than that of the folds.

    Returns:
        (P,) bool; none is drawn where the share is 0, else at least one.

    Raises:
        DataError: it would leave fewer parts than there are folds.
    """
    drawn = np.zeros(len(sizes), dtype=np.bool_)
    if not share:
        return drawn
    order = np.random.Generator(np.random.PCG64([seed, 2])).permutation(len(sizes))
    wanted = share * float(sizes.sum())
    count = max(1, int(np.searchsorted(np.cumsum(sizes[order]), wanted, side="right")))
    if len(sizes) - count < len(FOLDS):
        raise DataError(
            f"{len(sizes)} part(s), {count} of them for assurance, leave fewer than training, "
            "validation and test need; lower data.assurance_share, or bring more parts"
        )
    drawn[order[:count]] = True
    return drawn


def assign_parts(sizes: NDArray[np.int64], fractions: Fractions, *, seed: int) -> NDArray[np.int64]:
    """Assign whole parts to folds so that the images come close to the fractions.

    Args:
        sizes: (P,) images a part, in an order that does not depend on the file list.
        fractions: of training, validation, test.
        seed: chooses among assignments that are as good.

    Returns:
        (P,) index into ``FOLDS``; no fold is empty.

    Raises:
        DataError: fewer than three parts.
    """
    check_fractions(fractions)
    if len(sizes) < len(FOLDS):
        raise DataError(
            f"{len(sizes)} part(s): training, validation and test need at least one each; "
            "group by a column with more values, or bring more parts"
        )
    generator = np.random.Generator(np.random.PCG64(seed))
    if len(sizes) <= _EXHAUSTIVE_PARTS:
        return _assign_few(sizes, fractions, generator)
    return _assign_many(sizes, fractions, generator)


def worst_deviation(
    assigned: NDArray[np.int64], sizes: NDArray[np.int64], fractions: Fractions
) -> NDArray[np.float64]:
    """(..., P) assignments to (...) the largest distance of any fold's share from its fraction."""
    shares = np.stack([np.where(assigned == fold, sizes, 0).sum(axis=-1) for fold in range(3)], -1)
    deviation: NDArray[np.float64] = np.abs(shares / sizes.sum() - np.asarray(fractions)).max(-1)
    return deviation


def _assign_few(
    sizes: NDArray[np.int64], fractions: Fractions, generator: np.random.Generator
) -> NDArray[np.int64]:
    choices = np.array(list(itertools.product(range(3), repeat=len(sizes))), dtype=np.int64)
    filled = np.logical_and.reduce([(choices == fold).any(axis=1) for fold in range(3)])
    choices = choices[filled]
    training = np.where(choices == 0, sizes, 0).sum(axis=1) / sizes.sum()
    two_in_test = ((choices == 2).sum(axis=1) >= 2) & (training >= _LEAST_TRAINING)
    if two_in_test.any():
        choices = choices[two_in_test]
    deviation = worst_deviation(choices, sizes, fractions)
    as_good = np.flatnonzero(deviation <= deviation.min() + _AS_GOOD)
    chosen: NDArray[np.int64] = choices[generator.choice(as_good)]
    return chosen


def _assign_many(
    sizes: NDArray[np.int64], fractions: Fractions, generator: np.random.Generator
) -> NDArray[np.int64]:
    """The first random order that fills the folds well; at worst, largest parts first.

    Each part goes where most images are missing. Largest first cannot leave a fold empty: the
    training fold passes 0.4 of the images at the latest while most parts are still to come.
    """
    best: NDArray[np.int64] | None = None
    best_deviation = np.inf
    for _ in range(_TRIES):
        order = generator.permutation(len(sizes))
        assigned = _fill(sizes, fractions, order.tolist())
        counts = np.bincount(assigned, minlength=3)
        deviation = float(worst_deviation(assigned, sizes, fractions))
        if counts.min() > 0 and counts[2] >= 2 and deviation < best_deviation:
            best, best_deviation = assigned, deviation
        if best_deviation <= _AS_GOOD:
            break
    if best is not None:
        return best
    shuffled = generator.permutation(len(sizes))
    largest_first = shuffled[np.argsort(-sizes[shuffled], kind="stable")]
    return _fill(sizes, fractions, largest_first.tolist())


def _fill(
    sizes: NDArray[np.int64], fractions: Fractions, order: Sequence[int]
) -> NDArray[np.int64]:
    missing = [fraction * float(sizes.sum()) for fraction in fractions]
    assigned = np.zeros(len(sizes), dtype=np.int64)
    for part in order:
        fold = max(range(3), key=missing.__getitem__)
        assigned[part] = fold
        missing[fold] -= float(sizes[part])
    return assigned
