"""Two rows image by image: which is better, with an interval over physical parts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import msgspec
import numpy as np
from numpy.typing import NDArray

from lineside.metrics import (
    Statistic,
    accuracy,
    auroc,
    balanced_accuracy,
    by_part_interval,
    mean_average_precision,
    squared_errors,
    weighted_mean,
)
from lineside_trainer.evaluate.judgement import FEWEST_PARTS
from lineside_trainer.runs.predictions import Prediction

FloatArray = NDArray[np.float64]
BySeed = Mapping[int, Sequence[Prediction]]


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """A row less the reference, over the seeds that both have.

    Attributes:
        value: in the metric's unit.
        low: lower end of the interval.
        high: upper end.
        confidence: e.g. 0.95.
        drawn_by: "part", or "image" where there are too few parts.
        drawn: how many of them.
        seeds: how many both have.
    """

    value: float
    low: float
    high: float
    confidence: float
    drawn_by: str
    drawn: int
    seeds: int


def figure_of(metric: str, predictions: Sequence[Prediction]) -> float | None:
    """The metric on these images; None where predictions alone do not give it."""
    statistic = _statistic(metric, predictions)
    if statistic is None or not predictions:
        return None
    return float(statistic(np.ones(len(predictions))))


def compare(metric: str, ours: BySeed, theirs: BySeed) -> Difference | None:
    """Mean over seeds of the metric's difference on the same test images.

    The draws take whole parts, in all seeds at once: a part that is tested under two splits is one
    part (cluster bootstrap, as everywhere). How seeds differ is not in it; the table's deviation
    says that.

    Returns:
        None where no seed has the same test images in both, or the metric needs more than them.
    """
    pairs = [
        (list(ours[seed]), list(theirs[seed]))
        for seed in ours
        if seed in theirs and _same_images(ours[seed], theirs[seed])
    ]
    statistics = [(_statistic(metric, a), _statistic(metric, b)) for a, b in pairs]
    found = [(a, b) for a, b in statistics if a is not None and b is not None]
    if not found or len(found) < len(pairs):
        return None
    lengths = [len(a) for a, _ in pairs]
    edges = np.cumsum([0, *lengths])

    def difference(weights: FloatArray) -> FloatArray:
        cut = [weights[..., low:high] for low, high in pairwise(edges)]
        each = [a(w) - b(w) for (a, b), w in zip(found, cut, strict=True)]
        return _mean_of_known(np.stack(each))

    images = [one for ours_alone, _ in pairs for one in ours_alone]
    by, keys = _drawn(images)
    if len(np.unique(keys)) < 2:
        return None
    interval = by_part_interval(difference, keys)
    return Difference(
        value=interval.value,
        low=interval.low,
        high=interval.high,
        confidence=interval.confidence,
        drawn_by=by,
        drawn=interval.resampled,
        seeds=len(pairs),
    )


def _mean_of_known(figures: FloatArray) -> FloatArray:
    """(S, ...) to (...): a draw may leave one split without an image, or without a class; the
    others still say something. NaN where none does."""
    known = ~np.isnan(figures)
    count = known.sum(axis=0)
    none = np.full(count.shape, np.nan)
    mean: FloatArray = np.divide(
        np.where(known, figures, 0.0).sum(axis=0), count, out=none, where=count > 0
    )
    return mean


def _same_images(ours: Sequence[Prediction], theirs: Sequence[Prediction]) -> bool:
    return bool(ours) and [one.file for one in ours] == [one.file for one in theirs]


def _drawn(images: Sequence[Prediction]) -> tuple[str, NDArray[np.str_]]:
    parts = np.array([one.part for one in images], dtype=np.str_)
    if len(np.unique(parts)) >= FEWEST_PARTS:
        return "part", parts
    return "image", np.array([one.file for one in images], dtype=np.str_)


def _statistic(metric: str, predictions: Sequence[Prediction]) -> Statistic | None:
    if metric in ("mse", "mae"):
        target = np.array([float(one.said.target) for one in predictions])
        predicted = np.array([float(one.said.predicted) for one in predictions])
        errors = squared_errors(target, predicted)
        return weighted_mean(errors if metric == "mse" else np.sqrt(errors))
    if metric == "auroc":
        return _ranking(predictions)
    truth = [one.said.target for one in predictions]
    said = [one.said.predicted for one in predictions]
    names = sorted({*truth, *said, *(n for one in predictions[:1] for n in one.said.scores)})
    number = {name: at for at, name in enumerate(names)}
    targets = np.array([number[name] for name in truth])
    predicted = np.array([number[name] for name in said])
    if metric == "accuracy":
        return lambda weights: accuracy(targets, predicted, weights)
    if metric == "balanced_accuracy":
        return lambda weights: balanced_accuracy(targets, predicted, weights)
    whole = all(len(one.said.scores) == len(names) for one in predictions)
    if metric != "average_precision" or not whole:
        return None
    scores = np.array([[one.said.scores[name] for name in names] for one in predictions])
    return lambda weights: mean_average_precision(targets, scores, weights)


def _ranking(predictions: Sequence[Prediction]) -> Statistic | None:
    """AUROC of the exported score, the first one; None where no kind of any image is written."""
    if any(one.said.bad is None or not one.said.scores for one in predictions):
        return None
    bad = np.array([one.said.bad for one in predictions], dtype=np.bool_)
    scores = np.array([next(iter(one.said.scores.values())) for one in predictions])
    return lambda weights: auroc(bad, scores, weights)
