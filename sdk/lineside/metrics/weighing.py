"""What every metric is a function of: how often each sample counts."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]

Statistic = Callable[[FloatArray], FloatArray]
"""A figure of N samples as a function of how often each counts: (..., N) weights, not negative, to
(...) figures; NaN where these weights leave it undefined."""


def squared_errors(target: ArrayLike, predicted: ArrayLike) -> NDArray[np.float64]:
    """(N,) squared errors, in the target's unit squared."""
    return (np.asarray(target, dtype=np.float64) - np.asarray(predicted, dtype=np.float64)) ** 2


def weighted_mean(values: ArrayLike) -> Statistic:
    """The mean of (N,) values as a function of their weights."""
    fixed = np.asarray(values, dtype=np.float64)

    def mean(weights: FloatArray) -> FloatArray:
        return share(weights @ fixed, weights.sum(axis=-1))

    return mean


def finite_scores(scores: ArrayLike) -> FloatArray:
    """(N,) scores.

    Raises:
        ValueError: one is not finite.
    """
    given = np.asarray(scores, dtype=np.float64)
    if not np.isfinite(given).all():
        raise ValueError("a score is not finite, so it has no rank and no limit sorts it")
    return given


def as_weights(weights: ArrayLike, count: int) -> FloatArray:
    """(..., N) as they are, or (N,) of one number."""
    given = np.asarray(weights, dtype=np.float64)
    return np.full(count, float(given)) if given.ndim == 0 else given


def share(part: FloatArray, whole: FloatArray) -> FloatArray:
    """Part over whole; NaN where there is no whole."""
    part, whole = np.asarray(part, np.float64), np.asarray(whole, np.float64)
    none = np.full(np.broadcast_shapes(part.shape, whole.shape), np.nan)
    found: FloatArray = np.divide(part, whole, out=none, where=whole > 0.0)
    return found


def mean_of_known(figures: FloatArray) -> FloatArray:
    """(K, ...) to (...): mean over those that are no NaN; NaN where all are."""
    known = ~np.isnan(figures)
    return share(np.where(known, figures, 0.0).sum(axis=0), known.sum(axis=0).astype(np.float64))
