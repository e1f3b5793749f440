"""One definition of every metric, for trainer, exporter and station. Numpy only."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]

Statistic = Callable[[FloatArray], FloatArray]
"""A figure of N samples as a function of how often each counts: (..., N) weights, not negative, to
(...) figures; NaN where these weights leave it undefined."""

_DRAWS_AT_ONCE: Final = 64


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


def weighted_mean(values: ArrayLike) -> Statistic:
    """The mean of (N,) values as a function of their weights."""
    fixed = np.asarray(values, dtype=np.float64)

    def mean(weights: FloatArray) -> FloatArray:
        return _share(weights @ fixed, weights.sum(axis=-1))

    return mean


def accuracy(targets: ArrayLike, predicted: ArrayLike, weights: ArrayLike = 1.0) -> FloatArray:
    """Share of samples whose class is right.

    Args:
        targets: (N,) true class of each sample.
        predicted: (N,) what was said.
        weights: (..., N) or one number: how often each sample counts.

    Returns:
        (...) in 0..1.
    """
    right = np.asarray(targets) == np.asarray(predicted)
    weight = _weights(weights, len(right))
    return _share(weight @ right.astype(np.float64), weight.sum(axis=-1))


def class_recall(
    targets: ArrayLike, predicted: ArrayLike, of: int, weights: ArrayLike = 1.0
) -> FloatArray:
    """Share of one class's samples that are said to be of it; arguments as for ``accuracy``.

    Returns:
        (...) in 0..1; NaN where no sample is of the class.
    """
    member = np.asarray(targets) == of
    found = member & (np.asarray(predicted) == of)
    weight = _weights(weights, len(member))
    return _share(weight @ found.astype(np.float64), weight @ member.astype(np.float64))


def balanced_accuracy(
    targets: ArrayLike, predicted: ArrayLike, weights: ArrayLike = 1.0
) -> FloatArray:
    """Mean of the recalls of all classes among the targets, so that rare ones count as much.

    Brodersen et al. 2010, eq. 3, for any number of classes; arguments as for ``accuracy``.

    Returns:
        (...) in 0..1: 1/K for who always says one of K classes.
    """
    classes = np.unique(np.asarray(targets))
    recalls = np.stack([class_recall(targets, predicted, int(c), weights) for c in classes])
    return _mean_of_known(recalls)


def average_precision(
    positive: ArrayLike, scores: ArrayLike, weights: ArrayLike = 1.0
) -> FloatArray:
    """Precision averaged over recall: sum of (R_n - R_(n-1)) P_n over the thresholds, from high.

    Equal scores are one threshold, and nothing is interpolated between thresholds, as in
    scikit-learn's ``average_precision_score``. Chance gets the share of positives.

    Args:
        positive: (N,) bool, at least one sample.
        scores: (N,) finite; higher means more likely positive.
        weights: (..., N) or one number: how often each sample counts.

    Returns:
        (...) in 0..1; NaN where no sample is positive.

    Raises:
        ValueError: a score is not finite: it has no rank.
    """
    rank_by = np.asarray(scores, dtype=np.float64)
    if not np.isfinite(rank_by).all():
        raise ValueError("average precision: a score is not finite, so it has no rank")
    order = np.argsort(-rank_by, kind="stable")
    weight = _weights(weights, len(rank_by))[..., order]
    hits = weight * np.asarray(positive, dtype=np.bool_)[order]
    thresholds = np.flatnonzero(np.append(np.diff(rank_by[order]) != 0.0, True))
    found = np.cumsum(hits, axis=-1)[..., thresholds]
    flagged = np.cumsum(weight, axis=-1)[..., thresholds]
    steps = np.diff(found, axis=-1, prepend=0.0)
    precision = np.where(flagged > 0.0, _share(found, flagged), 0.0)
    return _share((steps * precision).sum(axis=-1), found[..., -1])


def auroc(positive: ArrayLike, scores: ArrayLike, weights: ArrayLike = 1.0) -> FloatArray:
    """How often a positive sample's score lies above another's; equal scores count half.

    The area under the ROC curve: Hanley & McNeil 1982, sec. III. Chance gets 0.5. Arguments as for
    ``average_precision``.

    Returns:
        (...) in 0..1; NaN where all samples are positive, or none is.

    Raises:
        ValueError: a score is not finite: it has no rank.
    """
    rank_by = np.asarray(scores, dtype=np.float64)
    if not np.isfinite(rank_by).all():
        raise ValueError("AUROC: a score is not finite, so it has no rank")
    order = np.argsort(-rank_by, kind="stable")
    weight = _weights(weights, len(rank_by))[..., order]
    hits = weight * np.asarray(positive, dtype=np.bool_)[order]
    thresholds = np.flatnonzero(np.append(np.diff(rank_by[order]) != 0.0, True))
    found = np.cumsum(hits, axis=-1)[..., thresholds]
    others = np.cumsum(weight, axis=-1)[..., thresholds] - found
    widths = np.diff(others, axis=-1, prepend=0.0)
    # The trapezoid: of equal scores, half of those pairs count.
    heights = found - np.diff(found, axis=-1, prepend=0.0) / 2.0
    return _share((widths * heights).sum(axis=-1), found[..., -1] * others[..., -1])


def mean_average_precision(
    targets: ArrayLike, probabilities: ArrayLike, weights: ArrayLike = 1.0
) -> FloatArray:
    """Each class against the rest by its own probability, averaged over the classes.

    A class counts where it has samples and is not the only one: against no rest, any score gets 1.

    Args:
        targets: (N,) whole numbers below K.
        probabilities: (N, K) finite.
        weights: (..., N) or one number: how often each sample counts.

    Returns:
        (...) in 0..1; NaN where all samples are of one class.
    """
    truth, scores = np.asarray(targets), np.asarray(probabilities, dtype=np.float64)
    weight = _weights(weights, len(truth))
    total = weight.sum(axis=-1)
    found = []
    for index in range(scores.shape[1]):
        member = truth == index
        share = average_precision(member, scores[:, index], weight)
        alone = weight @ member.astype(np.float64) >= total
        found.append(np.where(alone, np.nan, share))
    return _mean_of_known(np.stack(found))


def confusion_counts(targets: ArrayLike, predicted: ArrayLike, classes: int) -> NDArray[np.int64]:
    """(K, K) samples by true class (rows) and by what was said (columns).

    Args:
        targets: (N,) whole numbers below ``classes``.
        predicted: (N,) likewise.
        classes: K.
    """
    pairs = np.asarray(targets, np.int64) * classes + np.asarray(predicted, np.int64)
    return np.bincount(pairs, minlength=classes**2).reshape(classes, classes)


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
        statistic(_times_drawn(chosen[start : start + _DRAWS_AT_ONCE], count)[:, part_index])
        for start in range(0, draws, _DRAWS_AT_ONCE)
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


def _times_drawn(chosen: NDArray[np.int64], count: int) -> FloatArray:
    """(D, M) drawn numbers below ``count`` to (D, count): how often each was drawn."""
    rows = np.arange(len(chosen))[:, np.newaxis] * count
    counted = np.bincount((chosen + rows).ravel(), minlength=len(chosen) * count)
    return counted.reshape(len(chosen), count).astype(np.float64)


def _weights(weights: ArrayLike, count: int) -> FloatArray:
    given = np.asarray(weights, dtype=np.float64)
    return np.full(count, float(given)) if given.ndim == 0 else given


def _share(part: FloatArray, whole: FloatArray) -> FloatArray:
    """Part over whole; NaN where there is no whole."""
    part, whole = np.asarray(part, np.float64), np.asarray(whole, np.float64)
    none = np.full(np.broadcast_shapes(part.shape, whole.shape), np.nan)
    found: FloatArray = np.divide(part, whole, out=none, where=whole > 0.0)
    return found


def _mean_of_known(figures: FloatArray) -> FloatArray:
    """(K, ...) to (...): mean over those that are no NaN; NaN where all are."""
    known = ~np.isnan(figures)
    return _share(np.where(known, figures, 0.0).sum(axis=0), known.sum(axis=0).astype(np.float64))
