"""What precision and F1 would be of a test set that holds another share of bad images.

Both depend on that share, so that figures of two test sets can only be compared at the same one.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lineside.metrics.flagging import f1, precision, recall
from lineside.metrics.resampling import DRAWS_AT_ONCE, times_drawn
from lineside.metrics.weighing import FloatArray, finite_scores, share


@dataclass(frozen=True, kw_only=True)
class OverDraws:
    """A figure over many redrawn test sets.

    Attributes:
        mean: over the draws that define it; NaN where none does.
        std: sample standard deviation (n - 1) over them; NaN where fewer than two do.
        draws: how many do.
    """

    mean: float
    std: float
    draws: int


@dataclass(frozen=True, kw_only=True)
class AtPrevalence:
    """Figures at one limit and one share of bad images; each in 0..1.

    Attributes:
        share: of bad images among all.
        precision: flagged bad images over all flagged ones.
        recall: flagged bad images over all bad ones.
        f1: their harmonic mean.
    """

    share: float
    precision: OverDraws
    recall: OverDraws
    f1: OverDraws


def at_prevalence(
    bad: ArrayLike,
    scores: ArrayLike,
    limit: float,
    *,
    prevalence: float,
    parts: ArrayLike | None = None,
    draws: int = 1000,
    seed: int = 0,
) -> AtPrevalence:
    """Redraw the test set many times, each time with just this share of bad images.

    Whole parts are drawn with replacement, those that have a bad image and those that have none
    apart, as many of each as there are (a stratified cluster bootstrap: Davison & Hinkley 1997,
    sec. 3.2 and 3.8). Then bad images are weighted so that their share is exactly the wanted one:
    all images are used, and no part is split. The spread is that of a test set of this size.

    Args:
        bad: (N,) bool.
        scores: (N,) finite; higher is worse.
        limit: scores above it are flagged.
        prevalence: the wanted share, above 0 and below 1.
        parts: (N,) the part each image belongs to; without them every image is a part.
        draws: repetitions.
        seed: of the draws.

    Raises:
        ValueError: a score is not finite, or no test set can have this share.
    """
    if not 0.0 < prevalence < 1.0:
        raise ValueError(f"prevalence: {prevalence:g}; a share above 0 and below 1 is needed")
    member, given = np.asarray(bad, dtype=np.bool_), finite_scores(scores)
    of_part = np.arange(len(member)) if parts is None else np.asarray(parts)
    if draws < 1:
        raise ValueError(f"draws: {draws}; at least one is needed")
    figures = np.concatenate(
        [
            [figure(member, given, limit, weights) for figure in (precision, recall, f1)]
            for weights in _redrawn(member, of_part, prevalence, draws, seed)
        ],
        axis=1,
    )
    of_precision, of_recall, of_f1 = (_spread(row) for row in figures)
    return AtPrevalence(share=prevalence, precision=of_precision, recall=of_recall, f1=of_f1)


def _redrawn(
    bad: NDArray[np.bool_],
    of_part: NDArray[np.generic],
    prevalence: float,
    draws: int,
    seed: int,
) -> Iterator[FloatArray]:
    """(D, N) weights of the images, some draws at a time: many images need not fit all draws."""
    _, part_of_image = np.unique(of_part, return_inverse=True)
    has_bad = np.bincount(part_of_image, weights=bad) > 0.0
    groups = [np.flatnonzero(has_bad), np.flatnonzero(~has_bad)]
    random = np.random.default_rng(seed)
    for start in range(0, draws, DRAWS_AT_ONCE):
        now = min(DRAWS_AT_ONCE, draws - start)
        times = np.zeros((now, len(has_bad)))
        for group in (group for group in groups if len(group)):
            chosen = random.integers(0, len(group), size=(now, len(group)))
            times[:, group] = times_drawn(chosen, len(group))
        yield _at_share(times[:, part_of_image], bad, prevalence)


def _at_share(weights: FloatArray, bad: NDArray[np.bool_], prevalence: float) -> FloatArray:
    """Weights of bad images scaled to their share; all 0 where a draw lacks one of the kinds."""
    of_bad, of_good = weights @ bad.astype(np.float64), weights @ (~bad).astype(np.float64)
    wanted = prevalence / (1.0 - prevalence) * of_good
    scale = np.nan_to_num(share(wanted, of_bad), nan=0.0)
    both = (of_bad > 0.0) & (of_good > 0.0)
    scaled: FloatArray = np.where(bad, weights * scale[:, np.newaxis], weights)
    return scaled * both[:, np.newaxis]


def _spread(figures: FloatArray) -> OverDraws:
    known = figures[~np.isnan(figures)]
    return OverDraws(
        mean=float(known.mean()) if len(known) else math.nan,
        std=float(known.std(ddof=1)) if len(known) > 1 else math.nan,
        draws=len(known),
    )
