"""Of scores and one limit: a score above the limit is flagged, as ``lineside.decide`` does."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from lineside.metrics.ranking import precision_recall_curve
from lineside.metrics.weighing import FloatArray, as_weights, finite_scores, share


def precision(
    positive: ArrayLike, scores: ArrayLike, limit: float, weights: ArrayLike = 1.0
) -> FloatArray:
    """Flagged positives over all that is flagged.

    Args:
        positive: (N,) bool: which samples ought to be flagged, e.g. the bad parts.
        scores: (N,) finite; higher means more likely positive.
        limit: scores above it are flagged.
        weights: (..., N) or one number: how often each sample counts.

    Returns:
        (...) in 0..1; NaN where nothing is flagged.

    Raises:
        ValueError: a score is not finite, or the limit is not a number.
    """
    counts = _count(positive, scores, limit, weights)
    return share(counts.found, counts.flagged)


def recall(
    positive: ArrayLike, scores: ArrayLike, limit: float, weights: ArrayLike = 1.0
) -> FloatArray:
    """Flagged positives over all positives: of bad parts, 1 less the escape rate.

    Arguments and errors as for ``precision``.

    Returns:
        (...) in 0..1; NaN where no sample is positive.
    """
    counts = _count(positive, scores, limit, weights)
    return share(counts.found, counts.positive)


def f1(
    positive: ArrayLike, scores: ArrayLike, limit: float, weights: ArrayLike = 1.0
) -> FloatArray:
    """Harmonic mean of precision and recall: 0 where nothing is found, flagged or not.

    Arguments and errors as for ``precision``.

    Returns:
        (...) in 0..1; NaN where no sample is positive: there is nothing to find.
    """
    counts = _count(positive, scores, limit, weights)
    some = np.where(counts.positive > 0.0, counts.positive + counts.flagged, 0.0)
    return share(2.0 * counts.found, some)


@dataclass(frozen=True, kw_only=True)
class BestF1:
    """The highest F1 that any limit gives.

    Attributes:
        value: in 0..1; NaN where no sample is positive.
        limit: midway between two scores, so that rounding flips no verdict; NaN likewise.
    """

    value: float
    limit: float


def best_f1(positive: ArrayLike, scores: ArrayLike, weights: ArrayLike = 1.0) -> BestF1:
    """The limit of the highest F1, and of several the lowest: it lets the fewest bad parts escape.

    It is chosen on these very samples, so its F1 is none to report: choose on validation samples.

    Args:
        positive: (N,) bool.
        scores: (N,) finite.
        weights: (N,) or one number; samples of weight 0 are not there.

    Raises:
        ValueError: a score is not finite.
    """
    given = finite_scores(scores)
    weight = as_weights(weights, len(given))
    there = weight > 0.0
    member = np.asarray(positive, dtype=np.bool_)[there]
    if not member.any():
        return BestF1(value=math.nan, limit=math.nan)
    curve = precision_recall_curve(member, given[there], weight[there])
    both = curve.precision + curve.recall
    values = np.where(both > 0.0, 2.0 * share(curve.precision * curve.recall, both), 0.0)
    # Equal ones differ by rounding: 2 p r / (p + r) takes three of it.
    place = int(np.flatnonzero(values >= values.max() * (1.0 - 1e-12))[-1])
    falling = np.unique(given[there])[::-1]
    return BestF1(value=float(values[place]), limit=_below(falling, place))


def midway(lower: float, upper: float) -> float:
    """A limit that ``upper`` is above and ``lower`` is not, however near they are."""
    middle = lower / 2.0 + upper / 2.0
    return middle if lower <= middle < upper else lower


def _below(falling: FloatArray, place: int) -> float:
    """Below the score at a place, and not below the next one."""
    score = float(falling[place])
    if place + 1 < len(falling):
        return midway(float(falling[place + 1]), score)
    # All are flagged: as far below the lowest as the next one above would have it.
    gap = float(falling[place - 1]) - score if place else max(abs(score), 1.0)
    return min(score - gap / 2.0, math.nextafter(score, -math.inf))


@dataclass(frozen=True, kw_only=True)
class _Counts:
    """(...) weights each."""

    found: FloatArray
    flagged: FloatArray
    positive: FloatArray


def _count(positive: ArrayLike, scores: ArrayLike, limit: float, weights: ArrayLike) -> _Counts:
    given, member = finite_scores(scores), np.asarray(positive, dtype=np.bool_)
    if math.isnan(limit):
        raise ValueError("limit: not a number, so it sorts no score")
    over, weight = given > limit, as_weights(weights, len(given))
    return _Counts(
        found=weight @ (over & member).astype(np.float64),
        flagged=weight @ over.astype(np.float64),
        positive=weight @ member.astype(np.float64),
    )
