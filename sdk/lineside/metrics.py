"""One definition of every metric, for trainer, exporter and station. Numpy only."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray


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


def squared_errors(target: ArrayLike, predicted: ArrayLike) -> NDArray[np.float64]:
    """(N,) squared errors, in the target's unit squared."""
    return (np.asarray(target, dtype=np.float64) - np.asarray(predicted, dtype=np.float64)) ** 2


def mean_by_part_interval(
    values: ArrayLike,
    parts: ArrayLike,
    *,
    confidence: float = 0.95,
    draws: int = 2000,
    seed: int = 0,
) -> Interval:
    """Mean over samples, with a percentile bootstrap that draws whole parts.

    Images of one part are not independent, so parts are drawn, not images (cluster bootstrap:
    Davison & Hinkley 1997, sec. 3.8).

    Args:
        values: (N,) one figure a sample, e.g. squared errors.
        parts: (N,) the part each sample belongs to.
        confidence: two-sided.
        draws: bootstrap repetitions.
        seed: of the draws.

    Raises:
        ValueError: fewer than two parts: there is nothing to draw from.
    """
    values = np.asarray(values, dtype=np.float64)
    _, part_index = np.unique(np.asarray(parts), return_inverse=True)
    count = int(part_index.max()) + 1 if part_index.size else 0
    if count < 2:
        raise ValueError(f"{count} part(s): an interval by part needs at least two")
    sums = np.bincount(part_index, weights=values, minlength=count)
    sizes = np.bincount(part_index, minlength=count).astype(np.float64)
    chosen = np.random.default_rng(seed).integers(0, count, size=(draws, count))
    means = sums[chosen].sum(axis=1) / sizes[chosen].sum(axis=1)
    tail = (1.0 - confidence) / 2.0
    low, high = np.quantile(means, [tail, 1.0 - tail])
    return Interval(
        value=float(values.mean()),
        low=float(low),
        high=float(high),
        confidence=confidence,
        resampled=count,
    )
