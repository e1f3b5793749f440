"""How much a figure owes to the parts that happened to be there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lineside.metrics.weighing import FloatArray, Statistic, weighted_mean

DRAWS_AT_ONCE: Final = 64


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A figure with its bootstrap interval.

    Attributes:
        value: the metric on all samples.
        low: lower end.
        high: upper end.
        confidence: e.g. 0.95.
        resampled: what was drawn with replacement: how many parts.
    """

    value: float
    low: float
    high: float
    confidence: float
    resampled: int


def by_part_interval(
    statistic: Statistic,
    parts: ArrayLike,
    *,
    confidence: float = 0.95,
    draws: int = 2000,
    seed: int = 0,
) -> Interval:
    """A figure of all samples, with a percentile bootstrap that draws whole parts.

    Images of one part are not independent, so parts are drawn, not images (cluster bootstrap:
    Davison & Hinkley 1997, sec. 3.8). Draws that leave the figure undefined do not count.

    Args:
        statistic: of N samples, by their weights.
        parts: (N,) the part each sample belongs to.
        confidence: two-sided.
        draws: bootstrap repetitions.
        seed: of the draws.

    Raises:
        ValueError: fewer than two parts, so there is nothing to draw from, or a figure that no
            draw defines.
    """
    _, part_index = np.unique(np.asarray(parts), return_inverse=True)
    count = int(part_index.max()) + 1 if part_index.size else 0
    if count < 2:
        raise ValueError(f"{count} part(s): an interval by part needs at least two")
    chosen = np.random.default_rng(seed).integers(0, count, size=(draws, count))
    found = [
        statistic(times_drawn(chosen[start : start + DRAWS_AT_ONCE], count)[:, part_index])
        for start in range(0, draws, DRAWS_AT_ONCE)
    ]
    figures = np.concatenate(found)
    known = figures[~np.isnan(figures)]
    if not len(known):
        raise ValueError(f"not one of {draws} draws of parts defines the figure")
    tail = (1.0 - confidence) / 2.0
    low, high = np.quantile(known, [tail, 1.0 - tail])
    return Interval(
        value=float(statistic(np.ones(len(part_index)))),
        low=float(low),
        high=float(high),
        confidence=confidence,
        resampled=count,
    )


def mean_by_part_interval(
    values: ArrayLike,
    parts: ArrayLike,
    *,
    confidence: float = 0.95,
    draws: int = 2000,
    seed: int = 0,
) -> Interval:
    """``by_part_interval`` of the mean of (N,) values, one figure a sample, e.g. squared errors.

    Raises:
        ValueError: fewer than two parts: there is nothing to draw from.
    """
    mean = weighted_mean(values)
    return by_part_interval(mean, parts, confidence=confidence, draws=draws, seed=seed)


def times_drawn(chosen: NDArray[np.int64], count: int) -> FloatArray:
    """(D, M) drawn numbers below ``count`` to (D, count): how often each was drawn."""
    rows = np.arange(len(chosen))[:, np.newaxis] * count
    counted = np.bincount((chosen + rows).ravel(), minlength=len(chosen) * count)
    return counted.reshape(len(chosen), count).astype(np.float64)
