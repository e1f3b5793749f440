"""Of scores by which samples are ranked, at every limit at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from lineside.metrics.weighing import FloatArray, as_weights, finite_scores, share


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
    ranked = _rank(positive, scores, weights)
    steps = np.diff(ranked.found, axis=-1, prepend=0.0)
    precision = np.where(ranked.flagged > 0.0, share(ranked.found, ranked.flagged), 0.0)
    return share((steps * precision).sum(axis=-1), ranked.found[..., -1])


def auroc(positive: ArrayLike, scores: ArrayLike, weights: ArrayLike = 1.0) -> FloatArray:
    """How often a positive sample's score lies above another's; equal scores count half.

    The area under the ROC curve: Hanley & McNeil 1982, sec. III. Chance gets 0.5. Arguments as for
    ``average_precision``.

    Returns:
        (...) in 0..1; NaN where all samples are positive, or none is.

    Raises:
        ValueError: a score is not finite: it has no rank.
    """
    ranked = _rank(positive, scores, weights)
    others = ranked.flagged - ranked.found
    widths = np.diff(others, axis=-1, prepend=0.0)
    # The trapezoid: of equal scores, half of those pairs count.
    heights = ranked.found - np.diff(ranked.found, axis=-1, prepend=0.0) / 2.0
    return share((widths * heights).sum(axis=-1), ranked.found[..., -1] * others[..., -1])


@dataclass(frozen=True, kw_only=True)
class RocCurve:
    """From no part flagged to all of them.

    Attributes:
        limits: (T + 1,) falling: what scores above them are flagged; -inf flags all.
        false_alarm: (T + 1,) flagged negatives over all negatives: of good parts, the overkill
            rate. NaN without a negative.
        recall: (T + 1,) flagged positives over all positives: of bad parts, 1 less the escape
            rate. NaN without a positive.
    """

    limits: FloatArray
    false_alarm: FloatArray
    recall: FloatArray


def roc_curve(positive: ArrayLike, scores: ArrayLike, weights: ArrayLike = 1.0) -> RocCurve:
    """Points for a plot, T different scores giving T + 1; ``weights`` is (N,) or one number.

    Raises:
        ValueError: a score is not finite: it has no rank.
    """
    ranked = _rank(positive, scores, weights)
    found = np.append(0.0, ranked.found)
    others = np.append(0.0, ranked.flagged - ranked.found)
    return RocCurve(
        limits=np.append(ranked.scores, -np.inf),
        false_alarm=share(others, others[-1]),
        recall=share(found, found[-1]),
    )


@dataclass(frozen=True, kw_only=True)
class PrecisionRecallCurve:
    """From the highest score flagged to all of them.

    Attributes:
        limits: (T,) falling: what scores above them are flagged; -inf flags all.
        precision: (T,) flagged positives over all flagged.
        recall: (T,) flagged positives over all positives; NaN without a positive.
    """

    limits: FloatArray
    precision: FloatArray
    recall: FloatArray


def precision_recall_curve(
    positive: ArrayLike, scores: ArrayLike, weights: ArrayLike = 1.0
) -> PrecisionRecallCurve:
    """Points for a plot, one of each different score; ``weights`` is (N,) or one number.

    Where nothing is flagged there is no precision, so there is no such point.

    Raises:
        ValueError: a score is not finite: it has no rank.
    """
    ranked = _rank(positive, scores, weights)
    return PrecisionRecallCurve(
        limits=np.append(ranked.scores, -np.inf)[1:],
        precision=share(ranked.found, ranked.flagged),
        recall=share(ranked.found, ranked.found[-1:]),
    )


@dataclass(frozen=True, kw_only=True)
class _Ranked:
    """Sums from the highest score down to each different one.

    Attributes:
        scores: (T,) falling.
        found: (..., T) weight of the positives.
        flagged: (..., T) weight of all.
    """

    scores: FloatArray
    found: FloatArray
    flagged: FloatArray


def _rank(positive: ArrayLike, scores: ArrayLike, weights: ArrayLike) -> _Ranked:
    rank_by = finite_scores(scores)
    order = np.argsort(-rank_by, kind="stable")
    weight = as_weights(weights, len(rank_by))[..., order]
    hits = weight * np.asarray(positive, dtype=np.bool_)[order]
    falling = rank_by[order]
    different = np.flatnonzero(np.append(falling[1:] != falling[:-1], True))
    return _Ranked(
        scores=falling[different],
        found=np.cumsum(hits, axis=-1)[..., different],
        flagged=np.cumsum(weight, axis=-1)[..., different],
    )
