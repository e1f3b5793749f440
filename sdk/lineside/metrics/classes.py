"""Of samples that are of one class and were said to be of one."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lineside.metrics.ranking import average_precision
from lineside.metrics.weighing import FloatArray, as_weights, mean_of_known, share


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
    weight = as_weights(weights, len(right))
    return share(weight @ right.astype(np.float64), weight.sum(axis=-1))


def class_recall(
    targets: ArrayLike, predicted: ArrayLike, of: int, weights: ArrayLike = 1.0
) -> FloatArray:
    """Share of one class's samples that are said to be of it; arguments as for ``accuracy``.

    Returns:
        (...) in 0..1; NaN where no sample is of the class.
    """
    member = np.asarray(targets) == of
    found = member & (np.asarray(predicted) == of)
    weight = as_weights(weights, len(member))
    return share(weight @ found.astype(np.float64), weight @ member.astype(np.float64))


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
    return mean_of_known(recalls)


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
    weight = as_weights(weights, len(truth))
    total = weight.sum(axis=-1)
    found = []
    for index in range(scores.shape[1]):
        member = truth == index
        area = average_precision(member, scores[:, index], weight)
        alone = weight @ member.astype(np.float64) >= total
        found.append(np.where(alone, np.nan, area))
    return mean_of_known(np.stack(found))


def confusion_counts(targets: ArrayLike, predicted: ArrayLike, classes: int) -> NDArray[np.int64]:
    """(K, K) samples by true class (rows) and by what was said (columns).

    Args:
        targets: (N,) whole numbers below ``classes``.
        predicted: (N,) likewise.
        classes: K.
    """
    pairs = np.asarray(targets, np.int64) * classes + np.asarray(predicted, np.int64)
    return np.bincount(pairs, minlength=classes**2).reshape(classes, classes)
